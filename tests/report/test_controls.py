"""What beats what, and what is missing when something is taken away."""

import json

import numpy as np
import pandas as pd
import pytest
import vl_convert
from sklearn.metrics import roc_auc_score

from made_up import graded, make_rows
from whoknows.data.rows import ALL_MODELS
from whoknows.evaluation import bootstrap, plateau
from whoknows.report.pages import claims, controls, differences

TASKS = [
    {"name": "trivia_qa", "role": "train"},
    {"name": "sciq", "role": "train"},
    {"name": "nq_open", "role": "shift"},
]


@pytest.mark.slow
def test_the_contest_is_among_native_cells_and_against_the_probe():
    untrained = graded({"likelihood": 2.5}, reader="", trained_on="")
    control = graded({"embedder": 0.1}, reader="")
    foreign = graded({"lora_prompt": 3.0}, trained_on="b")
    table = controls.contest(
        pd.concat([graded({"probe": 1.0, "probe_mlp": 1.0, "lora_prompt": 2.5}), untrained, control, foreign]),
        ["a", "b"],
        TASKS,
    )
    cells = table.set_index("method")
    assert set(cells.index) == {"probe", "probe_mlp", "lora_prompt", "likelihood", "embedder"} and set(
        table["test_set"]
    ) == {"in-distribution"}
    assert pd.isna(cells.loc["probe", "against"])
    assert cells["against"].drop("probe").to_dict() == {"lora_prompt": bootstrap.ABOVE} | dict.fromkeys(
        ("probe_mlp", "likelihood", "embedder"), bootstrap.EXPLORATORY
    )
    assert cells["p"].drop("probe").notna().all() and cells["p_holm"].notna().sum() == 1, (
        "only the primary one is corrected"
    )
    line = cells.loc["likelihood"]
    assert line["difference"] == pytest.approx(line["auroc"] - cells.loc["probe", "auroc"])
    assert line["difference_low"] < line["difference"] < line["difference_high"]
    assert cells.loc["probe_mlp", ["difference", "difference_low", "difference_high"]].tolist() == [0, 0, 0]


@pytest.mark.slow
def test_each_model_is_compared_with_its_own_probe_over_tasks_and_seeds():
    """By hand: within each task, then means over tasks, then over seeds; three models, two seeds, unequal tasks."""
    rng, parts, by_hand = np.random.default_rng(0), [], {}
    for model, strength in (("a", 0.3), ("b", 1.0), ("c", 2.0)):
        for task, count in (("trivia_qa", 150), ("sciq", 90), ("nq_open", 60)):
            correct = rng.random(count) < 0.4
            for method, more in (("probe", 1.0), ("lora_prompt", 0.5)):
                for seed in (0, 1):
                    logit = np.float32(rng.normal(size=count) + strength * more * correct)
                    parts.append(
                        make_rows(
                            logit, correct, task, method=method, reader=model, trained_on=model, scored=model, seed=seed
                        )
                    )
                    by_hand[method, model, task, seed] = roc_auc_score(correct, logit)
    cells = controls.contest(pd.concat(parts).sample(frac=1, random_state=0), list("abc"), TASKS).set_index(
        ["method", "scored"]
    )
    auroc = {
        (method, model): np.mean(
            [by_hand[method, model, task, seed] for task in ("trivia_qa", "sciq") for seed in (0, 1)]
        )
        for method, model, _, _ in by_hand
    }
    assert cells["auroc"].to_dict() == pytest.approx(auroc)
    assert cells.loc["lora_prompt", "difference"].to_dict() == pytest.approx(
        {model: auroc["lora_prompt", model] - auroc["probe", model] for model in "abc"}
    )


@pytest.mark.slow
def test_one_difference_has_one_verdict_on_every_page():
    """Probe − LoRA + Prompt of two models: significant in a small family, but not in the primary one."""
    parts = [
        graded({"probe": 1.0, "lora_prompt": 1.0}, reader=reader, trained_on=t, scored=scored)
        for reader in "ab"
        for t in "ab"
        for scored in "ab"
    ]
    rows = pd.concat([*parts, graded({"likelihood": 1.0}, reader="", trained_on="")], ignore_index=True)
    worse = (rows["method"] == "lora_prompt") & (rows[["reader", "trained_on", "scored"]] == "a").all(axis=1)
    rows.loc[worse, "logit"] += np.random.default_rng(9).normal(size=worse.sum()).astype("float32") * 0.4
    tested, _ = claims.evaluate(claims.load(), rows, ["a", "b"], TASKS)
    table, beside = differences.of_grid(rows, ["a", "b"], TASKS), controls.contest(rows, ["a", "b"], TASKS)
    primary = tested.dropna(subset="hypothesis").drop_duplicates("hypothesis").set_index("hypothesis")["p_holm"]
    first = table[table["test_set"] == "in-distribution"]
    pd.testing.assert_series_equal(first["p_holm"], first["hypothesis"].map(primary), check_names=False)
    assert (
        0 < first["p_holm"].isna().sum() < len(first)
        and table.loc[table["test_set"] != "in-distribution", "says"].eq(bootstrap.EXPLORATORY).all()
    )
    line = beside[(beside["method"] == "lora_prompt") & (beside["scored"] == "a")].iloc[0]
    mine = primary["+1 lora_prompt/a/a/a -1 probe/a/a/a"]
    assert (
        line["p_holm"] == mine == first.loc[first["what"] == "a trained on a, scored on a", "p_holm"].item()
        and line["p"] < bootstrap.ALPHA < mine
    )
    assert line["against"] == bootstrap.INSIGNIFICANT


def test_a_contest_without_a_probe_has_values_and_no_differences():
    table = controls.contest(graded({"lora_prompt": 1.0}), ["a"], TASKS)
    assert table["auroc"].notna().all() and table["difference"].isna().all()
    assert controls.contest_sentences(table) == "There is no probe to compare with yet."
    assert controls.learning_curve_chart(controls.learning_curve(graded({"lora_prompt": 1.0}), TASKS)) is None


def test_few_right_answers_get_no_value():
    table = controls.contest(graded({"probe": 0.0, "probe_mlp": 9.0}, count=48), ["a"], TASKS).set_index("method")
    assert table.loc["probe_mlp", ["n_rarer", "against", "reason"]].tolist() == [
        24,
        bootstrap.FEW,
        "24 answers of the rarer grade within tasks, and a value takes 25",
    ]
    assert table[["auroc", "low", "ece", "pooled_auroc"]].isna().all(axis=None) and table["difference"].isna().all()
    assert "1.000" not in controls.contest_html(table.reset_index())
    assert (
        controls.contest_sentences(table.reset_index())
        == "- **a**, on its own answers: no value (24 answers of the rarer grade within tasks, and a value takes 25)."
    )


def test_what_lies_below_chance_is_said_and_nothing_else():
    lines = [
        ("zero_shot", "b", 0.43, 0.39, 0.47),
        ("likelihood", "", 0.6, 0.5, 0.7),
        ("margin_first", "", 0.45, 0.4, 0.51),
    ]
    table = pd.DataFrame(
        [(*line, "a", "in-distribution") for line in lines],
        columns=["method", "reader", "auroc", "low", "high", "scored", "test_set"],
    )
    text = controls.below_chance_sentences(table)
    assert "Zero-shot P(True) of reader b, scored on a: 0.43 (0.39 to 0.47)." in text and text.count("scored on") == 1
    assert controls.below_chance_sentences(table[1:]) == controls.below_chance_sentences(table[:0]) == ""


def test_the_commoner_grade_stands_beside_the_accuracy_at_the_threshold():
    table = controls.contest(graded({"probe": 1.0}), ["a"], TASKS)  # a quarter of the answers is right
    assert table["commoner_accuracy"].tolist() == [
        0.75
    ] and "<th>Always the commoner grade</th>" in controls.contest_html(table)


def test_the_findings_and_the_table_of_a_contest_say_what_it_found():
    table = controls.contest(
        pd.concat([graded({"probe": 1.0}), graded({"likelihood": 2.5}, reader="", trained_on="")]), ["a"], TASKS
    )
    auroc, difference = table.set_index("method")["auroc"], table.set_index("method")["difference"]["likelihood"]
    text = controls.contest_sentences(table)
    assert (
        f"the probe has {auroc['probe']:.2f}" in text
        and f"Exploratory, by their difference: Answer likelihood ({difference:+.2f})." in text
    )
    html = controls.contest_html(table)
    assert (
        f"{auroc['likelihood']:.3f}" in html
        and "200 right of 800" in html
        and "p\u00a0under\u00a00.001, exploratory" in html
    )
    drawn = controls.contest_chart(table).to_dict()
    values = [line for lines in drawn["datasets"].values() for line in lines]
    assert {line["auroc"] for line in values} == {round(value, 4) for value in auroc}
    assert ">Token probabilities,<" in vl_convert.vegalite_to_svg(drawn), "a phone has no room for one line"


def test_what_stands_above_a_panel_is_broken_where_a_phone_has_no_room_for_it():
    names = dict.fromkeys(("reader", "trained_on", "scored"), "Gemma3-270M")
    table = controls.contest(graded({"probe": 1.0}, count=60, **names), ["Gemma3-270M"], TASKS)
    (lines,) = controls.contest_chart(table).to_dict()["datasets"].values()
    assert {line["panel"] for line in lines} == {"Gemma3-270M on\nits own answers"}


def test_the_learning_curve_is_in_the_order_of_sizes():
    rows = graded({"probe_n100": 0.5, "probe_n1000": 1.0, "probe_n20": 0.1, "probe": 1.2, "probe_last": 3.0})
    table = controls.learning_curve(rows, TASKS).set_index("size")["auroc"]
    assert set(table.index) == {"20", "100", "1000", "all"}
    assert table["20"] < table["100"] < table["1000"] < table["all"]
    html = controls.learning_curve_html(controls.learning_curve(rows, TASKS))
    assert html.index(">20<") < html.index(">100<") < html.index(">1,000<") < html.index(">all<")


def test_layers_are_those_of_the_probes_that_judge_their_own(tmp_path):
    for seed, best in ((0, 2), (1, 0)):
        folder = tmp_path / "probe" / "a" / "a" / f"seed{seed}"
        folder.mkdir(parents=True)
        search = [
            {"layer": layer, "strength": s, "validation_auroc": 0.5 + (layer == best) * 0.2 - s / 100}
            for layer in range(3)
            for s in (0.0, 1.0)
        ]
        (folder / "probe.json").write_text(json.dumps({"chosen": {"layer": best}, "search": search}))
    table = controls.layers(tmp_path, ["a", "b"], [0, 1])
    assert table["validation_auroc"].tolist() == pytest.approx([0.6, 0.5, 0.6])
    assert table["chosen"].tolist() == [True, False, True] and table["depth"].tolist() == [0, 0.5, 1]
    assert controls.layers_chart(table).to_dict()
    assert controls.layers_chart(controls.layers(tmp_path / "nothing", ["a"], [0])) is None


def taught(auroc: dict[str, float], method="probe", **names) -> pd.DataFrame:
    """Rows of a probe with an AUROC that is known by hand, by task: that share of the wrong answers is below all right
    ones, and the rest above."""
    correct, parts = np.arange(140) % 7 < 2, []
    for task, share in auroc.items():
        logit = np.where(correct, 0.0, 1.0)
        logit[np.flatnonzero(~correct)[: round(share * 100)]] = -1.0
        parts.append(make_rows(logit, correct, task, method=method, **names))
    return pd.concat(parts)


def learned_rows() -> pd.DataFrame:
    """Estimators of a that score its own answers and those of b, by whose answers they were trained on."""
    parts = [
        taught({"trivia_qa": 0.8, "sciq": 0.7, "nq_open": 0.1}, reader="a", trained_on="a", scored="a"),
        taught({"trivia_qa": 0.6, "sciq": 0.7, "nq_open": 0.1}, reader="a", trained_on="b", scored="a"),
        taught({"trivia_qa": 0.9, "sciq": 0.8, "nq_open": 0.1}, reader="a", trained_on=ALL_MODELS, scored="a"),
        taught({"trivia_qa": 0.7, "sciq": 0.7}, controls.ONE_EACH, reader="a", trained_on=ALL_MODELS, scored="a"),
        taught({"trivia_qa": 0.5, "sciq": 0.7}, reader="a", trained_on="a", scored="b"),
        taught({"trivia_qa": 0.9, "sciq": 0.9}, reader="a", trained_on="b", scored="b"),
        taught({"trivia_qa": 0.9, "sciq": 0.7}, reader="a", trained_on=ALL_MODELS, scored="b"),
    ]
    others = [
        taught({"trivia_qa": 0.1, "sciq": 0.1}, reader="b", trained_on=on, scored="a") for on in ("a", "b", ALL_MODELS)
    ]
    for on, share in {"a": 0.2, "b": 0.3, ALL_MODELS: 0.6}.items():
        others.append(taught({"trivia_qa": share, "sciq": 0.2}, "lora_prompt", reader="a", trained_on=on, scored="a"))
    others += [taught({"trivia_qa": 0.4, "sciq": 0.4}, "lora_prompt", reader="a", trained_on="a", scored="b")]
    return pd.concat([*parts, *others], ignore_index=True)


def learned_answers() -> dict[str, pd.DataFrame]:
    """Five answers of a to train questions and four of b, three of them to the same ones, and others."""
    asked = {"a": "q0 q1 q2 q3 q4", "b": "q2 q3 q4 q5"}
    frames = {model: pd.DataFrame({"question_id": names.split(), "split": "train"}) for model, names in asked.items()}
    more = pd.DataFrame({"question_id": ["v", "t"], "split": ["validation", "test"]})
    return {model: pd.concat([frame, more], ignore_index=True) for model, frame in frames.items()}


def test_estimators_are_compared_with_the_self_trained_one_of_their_method():
    table = controls.learned_from(learned_rows(), learned_answers(), ["a"], TASKS)
    assert {*table["reader"]} == {"a"} and {*table["test_set"]} == {"in-distribution"}
    one = "all models, one answer to each question"
    names = ["scored", "method", "label", "training_answers"]
    expected = [
        ("a", "probe", "a", 5, 0.75, np.nan), ("a", "probe", "b", 4, 0.65, -0.10),
        ("a", "probe", ALL_MODELS, 9, 0.85, 0.10), ("a", "probe", one, 6, 0.70, -0.05),
        ("a", "lora_prompt", "a", 5, 0.20, np.nan), ("a", "lora_prompt", "b", 4, 0.25, 0.05),
        ("a", "lora_prompt", ALL_MODELS, 9, 0.40, 0.20),
        ("b", "probe", "b", 4, 0.90, np.nan), ("b", "probe", "a", 5, 0.60, -0.30),
        ("b", "probe", ALL_MODELS, 9, 0.80, -0.10), ("b", "lora_prompt", "a", 5, 0.40, np.nan),
    ]  # fmt: skip
    assert table[names].to_numpy().tolist() == [[*line[:4]] for line in expected]
    for column, name in ((4, "auroc"), (5, "difference")):
        assert table[name].tolist() == pytest.approx([line[column] for line in expected], nan_ok=True)
    ends = table.dropna(subset="difference")
    assert (ends["difference_low"] < ends["difference"]).all() and (ends["difference"] < ends["difference_high"]).all()
    assert {*ends["against"]} == {bootstrap.EXPLORATORY} and table["against"].isna().sum() == 4
    assert controls.learned_from_sentences(table).splitlines()[2:] == [
        "- **a**, on its own answers, Probe: b −0.10 (exploratory); all models +0.10 (exploratory); "
        f"{one} −0.05 (exploratory).",
        "- **a**, on its own answers, LoRA + Prompt: b +0.05 (exploratory); all models +0.20 (exploratory).",
        "- **b**, with a as its reader, Probe: a −0.30 (exploratory); all models −0.10 (exploratory).",
        "- **b**, with a as its reader, LoRA + Prompt: a with no self-trained one to compare with.",
    ]
    html = controls.learned_from_html(table)
    assert (
        "a on its own answers: 80 right of 280" in html
        and f"<td>{one}</td>\n      <td>6</td>\n      <td>0.700 (" in html
        and "<td>LoRA + Prompt</td>\n      <td>all models</td>\n      <td>9</td>\n      <td>0.400 (" in html
    )
    assert "<td>+0.100 (" in html and html.count("<caption>") == 2


@pytest.mark.parametrize(
    ("method", "alone"),
    [("probe", {"trivia_qa": (80, 90), "sciq": (70, 80)}), ("lora_prompt", {"trivia_qa": (20, 60), "sciq": (20, 20)})],
)
def test_a_difference_from_the_self_trained_one_is_paired_over_questions(method, alone):
    """By hand: the share, in each resample, of the wrong answers that one of the two alone puts below right ones."""
    table = controls.learned_from(learned_rows(), learned_answers(), ["a"], TASKS)
    correct, drawn = np.arange(140) % 7 < 2, []
    for task, (first, end) in alone.items():  # the two agree but on these wrong answers of each task
        names = pd.Series([f"{task}{at}" for at in range(140)])
        weights = bootstrap.draws(task, 140)[:, names.sort_values().index.argsort()][:, ~correct]
        drawn.append(weights[:, first:end].sum(axis=1) / weights.sum(axis=1))
    low, high = np.quantile(np.mean(drawn, axis=0), [0.025, 0.975])
    line = table.set_index(["scored", "method", "label"]).loc[("a", method, ALL_MODELS)]
    assert line[["difference_low", "difference_high"]].tolist() == pytest.approx([low, high], abs=1e-6)


def test_what_was_trained_on_all_models_with_the_first_seed_is_compared_with_that_seed():
    rows = learned_rows()
    other = rows[(rows["method"] == "lora_prompt") & (rows["trained_on"] != ALL_MODELS)].assign(seed=1)
    other["logit"] = np.where(other["correct"], 1.0, 0.0)  # ranks all answers as they are
    table = controls.learned_from(pd.concat([rows, other]), learned_answers(), ["a"], TASKS)
    lora = table[(table["method"] == "lora_prompt") & (table["scored"] == "a")].set_index("label")
    assert lora["auroc"].to_dict() == pytest.approx({"a": 0.60, "b": 0.625, ALL_MODELS: 0.40})
    assert lora["difference"].to_dict() == pytest.approx({"a": np.nan, "b": 0.025, ALL_MODELS: 0.20}, nan_ok=True)


def test_a_control_of_the_first_seed_is_compared_with_the_probe_of_that_seed():
    correct, names = np.arange(140) % 7 < 2, {"reader": "a", "trained_on": "a", "scored": "a"}
    parts = [
        make_rows(np.where(correct, 0.0, np.arange(140) < of), correct, task, method=method, seed=seed, **names)
        for method, seed, of in (("probe", 0, 70), ("probe", 1, 14), ("lora", 0, 35))
        for task in ("trivia_qa", "sciq")
    ]
    aurocs = [roc_auc_score(part["correct"], part["logit"]) for part in parts[::2]]
    table = controls.contest(pd.concat(parts, ignore_index=True), ["a"], TASKS).set_index("method")
    assert table["auroc"].to_dict() == pytest.approx({"probe": np.mean(aurocs[:2]), "lora": aurocs[2]})
    assert table.loc["lora", "difference"] == pytest.approx(aurocs[2] - aurocs[0])


@pytest.mark.parametrize("improving", ["a", ALL_MODELS])
def test_no_verdict_rests_on_one_of_all_models_or_its_rival_that_was_still_improving(improving):
    rows = learned_rows()
    marked = (rows["method"] == "lora_prompt") & (rows["trained_on"] == improving)
    rows["unsettled"] = np.where(marked, plateau.IMPROVING, "")
    table = controls.learned_from(rows, learned_answers(), ["a"], TASKS).set_index(["scored", "method", "label"])
    assert table.loc[("a", "lora_prompt", ALL_MODELS), "against"] == plateau.IMPROVING
    assert table.loc[("a", "probe", ALL_MODELS), "against"] == bootstrap.EXPLORATORY
    assert "all models +0.20 (still improving)" in controls.learned_from_sentences(table.reset_index())


def test_without_estimators_of_other_models_answers_there_is_one_sentence():
    rows = learned_rows()
    alone = controls.learned_from(rows[rows["trained_on"] == "a"], learned_answers(), ["a"], TASKS)
    own = alone[alone["scored"] == "a"]
    sentence = "There is no estimator that was trained on the answers of other models."
    assert controls.learned_from_sentences(own) == sentence and controls.learned_from_html(own) == ""
    without = rows["trained_on"] != ALL_MODELS
    endings = {"LoRA + Prompt": without | (rows["method"] != "lora_prompt"), "Probe or LoRA + Prompt": without}
    for names, kept in endings.items():
        packed = controls.learned_from(rows[kept], learned_answers(), ["a"], TASKS)
        assert controls.learned_from_sentences(packed).endswith(
            f".\n\nThis run has no {names} that was trained on all models' answers."
        )
    none = controls.learned_from(rows[rows["method"] == "task_prior"], learned_answers(), ["a"], TASKS)
    assert none.empty and controls.learned_from_html(none) == ""


def test_probes_of_all_models_answers_are_in_no_other_table_of_the_page():
    rows = learned_rows()
    without = rows[rows["trained_on"] != ALL_MODELS]
    for some in (controls.contest(rows, ["a"], TASKS), controls.learning_curve(rows, TASKS, ["a"])):
        assert ALL_MODELS not in set(some["trained_on"]) and controls.ONE_EACH not in set(some["method"])
    pd.testing.assert_frame_equal(controls.contest(rows, ["a"], TASKS), controls.contest(without, ["a"], TASKS))
