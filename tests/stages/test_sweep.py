"""The sweep: every layer, strength and size, each measured where it should be, and nothing chosen."""

import json
import re

import numpy as np
import pandas as pd
import pytest
import torch
import vl_convert

from made_up import answers, mixed, save_hidden, sentences, spied
from whoknows.data import files
from whoknows.data.positions import FIRST, LAST, MEAN, POSITIONS, QUERY, QUESTION
from whoknows.data.rows import fewer, for_seed
from whoknows.estimators.hidden import load_hidden
from whoknows.estimators.probe import Labelled, Logistic
from whoknows.evaluation.auroc import mean_auroc
from whoknows.report.pages import layers
from whoknows.stages import sweep

SPLIT = ["train"] * 120 + ["validation"] * 60 + ["test"] * 120
TASK = np.array(["trivia_qa", "sciq"] * 150)
TASK[-30:] = "nq_open"  # a shift: test answers alone


@pytest.fixture
def made(tmp_path):
    """Two models' answers, and hidden states of three layers; the middle one knows the grades."""
    frames, rng = {}, np.random.default_rng(0)
    for model in ("a", "b"):
        correct = rng.random(300) < 0.4
        frames[model] = answers([f"{model} {i}" for i in range(300)], correct, SPLIT, TASK)
        hidden = rng.normal(size=(300, 3, 8)).astype(np.float32)
        hidden[:, 1, 2] += 2 * correct
        save_hidden(str(tmp_path / "r"), model, torch.tensor(hidden))
    return frames, tmp_path / "r"


def test_every_layer_strength_and_size_is_there_once(made):
    frames, folder = made
    table = sweep.run("r", frames, 0, str(folder), [0.1, 1.0], [30, 60, 500], [LAST])
    keys = ["trained_on", "scored", "size", "layer", "strength"]
    assert len(table) == 2 * 2 * 3 * 3 * 2 and not table.duplicated(keys).any()
    assert sorted(table["size"].unique()) == [30, 60, 120], "a size that is not fewer is all of them, once"
    assert set(table["reader"]) == {"r"} and set(table["last_layer"]) == {2}
    by_layer = table[table["size"] == 120].groupby("layer")["auroc"].mean()
    assert by_layer.idxmax() == 1 and by_layer[1] > 0.8


def test_a_line_is_what_a_probe_of_that_setting_reaches_on_the_test_answers_of_its_tasks(made):
    frames, folder = made
    table = sweep.run("r", frames, 0, str(folder), [0.1, 1.0], [], [LAST]).set_index(
        ["trained_on", "scored", "layer", "strength"]
    )
    hidden = {model: load_hidden(str(folder), "r", model, frames[model]) for model in frames}
    parts = {
        split: Labelled(hidden["a"], frames["a"]["correct"].to_numpy(), TASK).part(np.array(SPLIT) == split)
        for split in ("train", "validation")
    }
    probe = Logistic([2], [1.0])
    probe.fit(parts["train"], parts["validation"])
    asked = (np.array(SPLIT) == "test") & (TASK != "nq_open")
    expected = mean_auroc(
        probe.score(hidden["b"][torch.tensor(asked)]).numpy(), frames["b"]["correct"].to_numpy()[asked], TASK[asked]
    )
    # the path comes to this strength from a stronger one there, and begins with it here
    assert table.loc[("a", "b", 2, 1.0), "auroc"] == pytest.approx(expected, abs=2e-3)
    assert table.loc[("a", "b", 2, 1.0), "validation_auroc"] == table.loc[("a", "a", 2, 1.0), "validation_auroc"]


@pytest.fixture
def placed(made):
    """The same with a reader "a", of whose own answers there are hidden states at each position; none knows grades."""
    frames, folder = made
    folder, rng = folder.with_name("a"), np.random.default_rng(1)
    for scored in frames:
        for position in POSITIONS:
            states = torch.tensor(rng.normal(size=(300, 3, 8)), dtype=torch.float32)
            save_hidden(str(folder), scored, states, position)
    return frames, folder


def test_other_positions_are_of_the_readers_own_answers_and_of_all_training_answers(placed):
    frames, folder = placed
    table = sweep.run("a", frames, 0, str(folder), [0.1, 1.0], [30], [*POSITIONS])
    keys = ["position", "trained_on", "scored", "size", "layer", "strength"]
    assert len(table) == 2 * 2 * 2 * 3 * 2 + 4 * 3 * 2 and not table.duplicated(keys).any()
    others = table[table["position"] != LAST]
    assert set(others["position"]) == {QUESTION, FIRST, MEAN, QUERY}
    assert set(zip(others["trained_on"], others["scored"], others["size"])) == {("a", "a", 120)}
    alone = sweep.run("a", frames, 0, str(folder), [0.1, 1.0], [30], [LAST])
    pd.testing.assert_frame_equal(table[table["position"] == LAST].reset_index(drop=True), alone)


@pytest.mark.parametrize("position", [QUESTION, FIRST, MEAN, QUERY])
def test_a_line_of_another_position_is_what_a_probe_fitted_there_reaches(placed, position):
    frames, folder = placed
    table = sweep.run("a", frames, 0, str(folder), [1.0], [], [LAST, position])
    name = {QUESTION: "before_answer"}.get(position, f"a_{position}")
    states = files.read_safetensors(folder / f"{name}.safetensors")["hidden"]
    correct = frames["a"]["correct"].to_numpy()
    parts = {
        split: Labelled(states, correct, TASK).part((np.array(SPLIT) == split) & (TASK != "nq_open"))
        for split in ("train", "validation", "test")
    }
    probe = Logistic([1], [1.0])
    (line,) = probe.fit(parts["train"], parts["validation"])
    expected = mean_auroc(probe.score(parts["test"].hidden).numpy(), parts["test"].correct, parts["test"].task)
    (row,) = table[(table["position"] == position) & (table["layer"] == 1)].to_dict("records")
    assert row["auroc"] == pytest.approx(expected, abs=1e-6)
    assert row["validation_auroc"] == pytest.approx(line["validation_auroc"], abs=1e-6)
    assert row["n_rarer"] == min(parts["test"].correct.sum(), (~parts["test"].correct).sum())


def test_where_no_query_follows_training_answers_nothing_is_learned_at_its_end(placed):
    frames, folder = placed
    states = load_hidden(str(folder), "r", "a", frames["a"], QUERY)
    states[np.array(SPLIT) == "train"] = torch.nan
    save_hidden(str(folder), "a", states, QUERY)
    table = sweep.run("a", frames, 0, str(folder), [1.0], [], [*POSITIONS])
    assert set(table["position"]) == {QUESTION, FIRST, MEAN, LAST} and table["auroc"].notna().all()


def test_a_model_that_nothing_can_be_learned_from_is_left_out(made):
    frames, folder = made
    whole = sweep.run("r", frames, 0, str(folder), [1.0], [30], [LAST])
    frames["b"] = frames["b"].assign(correct=frames["b"]["correct"] | (frames["b"]["split"] == "train"))
    with pytest.warns(UserWarning, match="nothing is trained on b, seed 0: no wrong answer among the training answers"):
        table = sweep.run("r", frames, 0, str(folder), [1.0], [30], [LAST])
    pd.testing.assert_frame_equal(table, whole[whole["trained_on"] == "a"].reset_index(drop=True))


@pytest.mark.parametrize("seed", [0, 3])
def test_each_probe_is_handed_the_seeds_answers_and_every_models_test_answers(tmp_path, monkeypatch, seed):
    frames = {
        scored: frame.assign(task=frame["task"].mask((frame["split"] == "test") & (frame.index > 80), "nq_open"))
        for scored, frame in mixed().items()
    }
    hidden = {scored: torch.randn(96, 3, 2) for scored in frames}
    for scored, states in hidden.items():
        save_hidden(str(tmp_path), scored, states)
    fits = spied(monkeypatch, Logistic, "fit")
    table = sweep.run("r", frames, seed, str(tmp_path), [0.1, 1.0], [20, 500], [LAST])
    divided = {scored: for_seed(frame, seed) for scored, frame in frames.items()}
    places = [(on, size) for on in frames for size in (20, 48)]
    assert list(dict.fromkeys(zip(table["trained_on"], table["size"]))) == places

    def same(labelled, scored, keep):
        group = divided[scored][keep]
        return (
            torch.equal(labelled.hidden, hidden[scored][group.index])
            and labelled.correct.tolist() == group["correct"].tolist()
            and labelled.task.tolist() == group["task"].tolist()
        )

    for (on, size), fit in zip(places, fits, strict=True):
        learnt = fewer(divided[on], size, seed)["split"]
        assert (fit["self"].layers, fit["self"].strengths) == ([0, 1, 2], [1.0, 0.1])
        assert (
            same(fit["train"], on, learnt == "train")
            and same(fit["validation"], on, learnt == "validation")
            and list(fit["beside"]) == list(frames)
        )
        assert all(
            same(test, scored, (divided[scored]["split"] == "test") & (divided[scored]["task"] != "nq_open"))
            for scored, test in fit["beside"].items()
        )


def test_what_is_measured_beside_chooses_nothing(made):
    frames, folder = made
    hidden = load_hidden(str(folder), "r", "a", frames["a"])
    every = Labelled(hidden, frames["a"]["correct"].to_numpy(), TASK)
    train, validation, test = (every.part(np.array(SPLIT) == split) for split in ("train", "validation", "test"))
    alone, watched = Logistic([0, 1, 2], [0.1, 1.0]), Logistic([0, 1, 2], [0.1, 1.0])
    against = Labelled(test.hidden, ~test.correct, test.task)  # whoever chose by it would take the worst
    search = watched.fit(train, validation, {"test": against})
    assert alone.fit(train, validation) == [
        {key: value for key, value in line.items() if key != "test"} for line in search
    ]
    assert alone.chosen == watched.chosen
    assert min(line["test"] for line in search) < 0.2


def test_the_switches_open_on_the_report_s_choice_and_choose_one_value_for_every_cell(made):
    frames, folder = made
    tables = [
        sweep.run(name, frames, 0, str(folder), [0.1, 1.0], [30], [LAST]).assign(reader=name) for name in ("a", "b")
    ]
    table = pd.concat(tables, ignore_index=True)
    spec = json.loads(layers.layers_chart(table, ["a", "b"]).to_json())
    params = {param["name"]: param for param in spec["params"]}
    assert (params["depth"]["value"], params["strength"]["value"], params["size"]["value"]) == ("chosen", "chosen", 120)
    assert params["strength"]["bind"]["options"] == ["chosen", 0.1, 1.0] and params["size"]["bind"]["options"] == [
        120,
        30,
    ]
    best = table.loc[table[table["size"] == 120].groupby(["reader", "trained_on"])["validation_auroc"].idxmax()]
    report = table.merge(best[["reader", "trained_on", "layer", "strength"]]).query(
        "size == 120 and reader == trained_on"
    )
    assert _written(spec) == sorted(f"{value:.2f}" for value in report["auroc"])
    params["depth"]["value"], params["strength"]["value"], params["size"]["value"] = 1.0, 0.1, 30
    asked = table.query("layer == 2 and strength == 0.1 and size == 30 and reader == trained_on")
    assert _written(spec) == sorted(f"{value:.2f}" for value in asked["auroc"]) and len(asked) == 4


def test_the_axes_stay_where_they_are(made):
    frames, folder = made
    tables = [
        sweep.run(name, frames, 0, str(folder), [0.1, 1.0], [30], [LAST]).assign(reader=name) for name in ("a", "b")
    ]
    spec = json.loads(layers.layers_chart(pd.concat(tables, ignore_index=True), ["a", "b"]).to_json())
    scales = [
        layer["encoding"][axis]["scale"] for panel in spec["concat"][1:] for layer in panel["layer"] for axis in "xy"
    ]
    assert len(scales) == 8 and all(len(scale["domain"]) == 2 for scale in scales)


def _written(spec) -> list[str]:
    """The bold values of the heatmap."""
    svg = vl_convert.vegalite_to_svg(spec)
    return sorted(re.findall(r'font-size="15px" font-weight="bold"[^>]*>([^<]+)</text>', svg))


def test_of_many_models_only_their_own_answers_have_a_line(made):
    frames, folder = made
    tables = [sweep.run(name, frames, 0, str(folder), [1.0], [30], [LAST]).assign(reader=name) for name in ("a", "b")]
    whole = layers.layers_chart(pd.concat(tables, ignore_index=True), ["a", "b"]).to_json()
    assert '"trained on b, scored on a"' in whole
    svg = vl_convert.vegalite_to_svg(json.loads(whole))
    assert ">trained on b,<" in svg and ">AUROC on test answers,<" in svg, "a phone has no room for one line"
    assert max(sentences(json.loads(whole)["description"])) <= 25
    few = layers.layers_chart(pd.concat(tables, ignore_index=True), ["a", "b", "c"]).to_json()
    assert '"trained on b, scored on a"' not in few and '"trained on b, scored on b"' in few


def test_the_rarer_grade_is_each_tasks_own():
    correct = np.repeat([True, False, True, False], [38, 2, 2, 38])
    answers = Labelled(torch.zeros(80, 1, 1), correct, np.repeat(["easy", "hard"], 40))
    assert sweep._rarer(answers) == 4, "within task no more pairs of a right and a wrong answer rest on both"


def test_what_rests_on_too_few_answers_is_not_drawn(made, tmp_path):
    frames, folder = made
    few = frames["a"].assign(
        correct=frames["a"]["correct"] & ((frames["a"]["split"] != "test") | (frames["a"].index % 5 == 0))
    )
    table = sweep.run("r", {"a": few, "b": frames["b"]}, 0, str(folder), [1.0], [], [LAST])
    rarer = table.groupby("scored")["n_rarer"].first()
    assert rarer["a"] == few["correct"][(few["split"] == "test") & (TASK != "nq_open")].sum() < 25 <= rarer["b"]
    files.write_parquet(tmp_path / "sweeps/r.parquet", table.assign(reader="a"))
    read = layers.read(str(tmp_path / "sweeps"), ["r", "a", "b"], ["r", "a", "b"])
    assert read.groupby("scored")["auroc"].count().to_dict() == {"a": 0, "b": len(read) // 2}
    assert "nan" not in layers.layers_html(read).lower()
    drawn = json.loads(layers.layers_chart(read.assign(reader=read["trained_on"]), ["a", "b"]).to_json())["datasets"]
    assert {line["model"] for lines in drawn.values() for line in lines} == {"b"}
    none = read.assign(auroc=np.nan)
    assert layers.layers_chart(none, ["a", "b"]) is None and "nan" not in layers.layers_html(none).lower()


def test_positions_of_which_too_few_answers_measure_any_are_all_hatched(read):
    places = layers.places(read.assign(auroc=np.nan))
    svg = vl_convert.vegalite_to_svg(layers.places_chart(places).to_dict())
    assert "nan" not in svg.lower() and "nan" not in layers.places_html(places).lower()
    assert "on test, too few answers measure it there" in layers.places_sentences(places)


def test_without_a_sweep_there_is_no_picture_and_the_table_is_one_sentence(tmp_path):
    table = layers.read(str(tmp_path), ["a", "b"], ["a", "b"])
    assert table.empty and layers.layers_chart(table, ["a", "b"]) is None
    assert layers.layers_html(table) == "<p>There is no sweep to show.</p>"


@pytest.fixture
def read(placed, tmp_path):
    """The sweep of reader "a" as the page reads it."""
    frames, folder = placed
    table = sweep.run("a", frames, 0, str(folder), [0.1, 1.0, 10.0], [30], [*POSITIONS])
    files.write_parquet(tmp_path / "sweeps/a.parquet", table)
    return layers.read(str(tmp_path / "sweeps"), ["a", "b"], ["a", "b"])


def test_the_heatmap_of_positions_has_the_strength_that_is_best_on_validation_in_each_cell(read):
    places = layers.places(read)
    assert len(places) == 5 * 3 and set(zip(places["reader"], places["trained_on"], places["scored"])) == {
        ("a", "a", "a")
    }
    differ = 0
    for (position, layer), lines in read[(read["scored"] == "a") & (read["trained_on"] == "a")].groupby(
        ["position", "layer"]
    ):
        lines = lines[lines["size"] == 120].sort_values("validation_auroc", ascending=False, kind="stable")
        (shown,) = places[(places["position"] == position) & (places["layer"] == layer)].to_dict("records")
        assert shown["auroc"] == lines["auroc"].iloc[0] and len(lines) == 3
        differ += lines["auroc"].max() > shown["auroc"]
    assert differ, "the best on test is another one somewhere"
    best = places[places["best"]].set_index("position")["layer"]
    for position, lines in places.groupby("position"):
        assert best[position] == lines.loc[lines["validation_auroc"].idxmax(), "layer"]
    rows = re.findall(r"<tr.*?</tr>", layers.places_html(places), flags=re.DOTALL)
    (_, *titles), _, *lines = (re.findall(r"<t[hd].*?>(.*?)</t[hd]>", row) for row in rows)
    assert titles == [
        "Question's end",
        "Answer's first token",
        "Mean over the answer",
        "Answer's last token",
        "Query's end",
    ]
    values = places.set_index(["layer", "position"])["auroc"]
    for layer, line in enumerate(lines):
        expected = [values[layer, position] for position in ("question", "first", "mean", "last", "query")]
        assert [float(value) for value in line] == pytest.approx([layer, *expected], abs=5.1e-4)
    assert len(lines) == 3


def test_positions_stand_in_reading_order_and_what_rests_on_too_few_answers_is_hatched(read):
    read.loc[(read["position"] == MEAN) & (read["layer"] == 1), "auroc"] = np.nan
    spec = layers.places_chart(layers.places(read)).to_dict()
    (drawn,) = spec["datasets"].values()
    cells, hatch, _ = spec["spec"]["layer"]
    assert cells["encoding"]["y"]["sort"] == [*layers.style.POSITIONS.values()]
    assert [line["token"] for line in drawn if line.get("auroc") is None] == ["Mean over the answer"]
    assert sum(line["best"] for line in drawn) == 5
    assert {"filter": "!isValid(datum.auroc)"} in hatch["transform"]
    assert max(sentences(spec["description"])) <= 25
    svg = vl_convert.vegalite_to_svg(spec)
    assert svg.count("AUROC on test: ") == 14, "each measured cell is heard"
    text = layers.places_html(layers.places(read))
    assert text.count("—") == 1 and "nan" not in text.lower()


def test_the_sentences_say_why_the_query_is_missing_and_where_validation_is_highest(read):
    text = layers.places_sentences(layers.places(read))
    assert text.startswith("**Layer and token position.** ") and "query" not in text.split("For a,")[0]
    top = read[(read["scored"] == "a") & (read["trained_on"] == "a") & (read["size"] == 120)]
    top = top.loc[top["validation_auroc"].idxmax()]
    place = f"layer {top['layer']} of the {layers.style.POSITIONS[top['position']].lower()}"
    assert f"For a, validation is highest at {place}; on test, AUROC is {top['auroc']:.2f} there." in text
    without = layers.places_sentences(layers.places(read[read["position"] != QUERY]))
    assert "The query's end is not shown" in without


def test_a_sweep_of_an_older_run_shows_what_it_showed(read, tmp_path):
    old = read[read["position"] == LAST].drop(columns="position")
    files.write_parquet(tmp_path / "old/a.parquet", old)
    table = layers.read(str(tmp_path / "old"), ["a", "b"], ["a", "b"])
    places = layers.places(table)
    assert layers.places_sentences(places) == layers.places_html(places) == "" and layers.places_chart(places) is None
    assert layers.layers_html(table) == layers.layers_html(read)
    one, other = (layers.layers_chart(some, ["a", "b"]).to_dict() for some in (table, read))
    assert one["datasets"] == other["datasets"]
    assert layers.places(layers.read(str(tmp_path / "none"), ["a"], ["a"])).empty


def test_every_position_has_a_title_in_reading_order():
    assert tuple(layers.style.POSITIONS) == POSITIONS
