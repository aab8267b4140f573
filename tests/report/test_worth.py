"""What confidence is good for: every number by scikit-learn and loops, and what is said of parts that do not apply."""

import itertools
import re

import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from test_readers import TASKS, beside

from made_up import FOUR, IMPROVING, NEVER_RUN, THREE, a_run, make_rows, sentences
from whoknows.evaluation import benefits, bootstrap, cells, plateau, scores
from whoknows.report.pages import worth

HOME, DRAWS = ("sciq", "trivia_qa"), 40
UNTRAINED = (("likelihood", 0, 1.0), ("zero_shot", 0, 0.3))
SECTIONS = ("disagreement", "stack", "selective", "pick", "handed_on")
OF_MODELS = ("stack", "selective")  # whose sentences name each model


@pytest.fixture(scope="module", autouse=True)
def few_draws():
    patch = pytest.MonkeyPatch()
    for name in ("draws", "samples", "question_weights"):
        usual = getattr(bootstrap, name)
        defaults = tuple(DRAWS if value == bootstrap.DRAWS else value for value in usual.__defaults__)
        patch.setattr(usual, "__defaults__", defaults)
    yield
    patch.undo()


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    a_run(folder)
    rows = cells.read_rows(folder / "rows", THREE, ["probe", "lora_prompt"], [0, 1])
    return plateau.mark(rows, folder / "estimators")


@pytest.fixture(scope="module")
def table(run):
    return benefits.of_grid(run, THREE, FOUR, THREE)


def part(rows, cell, seed, split="test"):
    """The in-distribution rows of one cell and seed, by question; an untrained one's for every seed."""
    at = (rows[["method", "reader", "trained_on", "scored"]] == [*cell]).all(axis=1) & rows["task"].isin(HOME)
    at &= (rows["split"] == split) & ((rows["seed"] == seed) | (rows["trained_on"] == ""))
    return rows[at].set_index("question_id").sort_index()


def native(method, model):
    return (
        method,
        "" if method == "likelihood" else model,
        "" if method in ("likelihood", "zero_shot") else model,
        model,
    )


def auroc(rows, cell, questions):
    """Mean over seeds and tasks, and the counts of the rarer class."""
    by_seed = []
    for seed in sorted({*rows.loc[(rows[["method", "reader", "trained_on"]] == [*cell[:3]]).all(axis=1), "seed"]}):
        mine = part(rows, cell, seed)
        mine = mine[mine.index.isin(questions)]
        groups = [group for _, group in mine.groupby("task")]
        rarer = sum(min(group["correct"].sum(), (~group["correct"]).sum()) for group in groups)
        by_seed.append(np.mean([roc_auc_score(group["correct"], group["logit"]) for group in groups]))
    return np.mean(by_seed), rarer


def apart(rows, one, other):
    grades = [part(rows, native("likelihood", model), 0)["correct"] for model in (one, other)]
    return set(grades[0].index[grades[0] != grades[1]])


def test_every_difference_where_two_models_disagree(run, table):
    lines = table[table["part"] == benefits.DISAGREEMENT].set_index(["scored", "other", "method", "kind"])
    expected, few = {}, 0
    for me, them in itertools.permutations(THREE, 2):
        for method in ("probe", "lora_prompt"):
            others = {"Reader: self − other": (them, me, me), "Self-trained − cross-trained, A": (them, them, me)}
            others |= {"Self-trained − cross-trained, B": (me, them, me), "Answers: self − other": (me, me, them)}
            for kind, place in others.items():
                if method == "probe" or (*place[:2], 0) not in NEVER_RUN:
                    expected[me, them, method, kind] = (method, me, me, me), (method, *place)
    assert {*lines.index} == {*expected} and len(lines) == len(expected) == 48 - 2
    for key, (cell, place) in expected.items():
        questions, line = apart(run, *key[:2]), lines.loc[key]
        (mine, rarer), (theirs, _) = (auroc(run, each, questions) for each in (cell, place))
        assert (line["n"], line["n_rarer"]) == (len(questions), rarer) or rarer < 25, key
        few += rarer < 25
        if rarer < 25:
            assert line["says"] == bootstrap.FEW and line[benefits.VALUES].isna().all(), key
            continue
        values = [line[name] for name in ("value", "compared", "difference")]
        assert values == pytest.approx([mine, theirs, mine - theirs], abs=1e-6), key
        assert line["difference_low"] < line["difference"] < line["difference_high"]
        seeds = {(*each[:3], seed) for each in (cell, place) for seed in (0, 1)}
        zero = line["difference_low"] <= 0 <= line["difference_high"]
        above = "above zero" if line["difference"] > 0 else "below zero"
        usual = "not significant" if zero else above
        assert line["says"] == ("still improving" if seeds & {*IMPROVING} else usual), key
    assert 0 < few < len(expected) and lines["says"].nunique() > 3


def test_the_interval_of_a_difference_is_of_the_same_resamples_of_questions(run, table):
    lines = table[(table["part"] == benefits.DISAGREEMENT) & table["value"].notna() & (table["method"] == "probe")]
    line = lines[lines["kind"] == benefits.READER].iloc[0]
    me, them, drawn = line["scored"], line["other"], np.zeros(DRAWS)
    questions = apart(run, me, them)
    for reader, sign in ((me, 1), (them, -1)):
        for seed in (0, 1):
            mine = part(run, ("probe", reader, me, me), seed)
            for task, group in mine[mine.index.isin(questions)].groupby("task"):
                for at, often in enumerate(bootstrap.draws(task, len(group), DRAWS).astype(int)):
                    again = group.loc[np.repeat(group.index, often)]
                    drawn[at] += sign * roc_auc_score(again["correct"], again["logit"]) / 4
    ends = np.percentile(drawn, [2.5, 97.5])
    assert [line["difference_low"], line["difference_high"]] == pytest.approx(ends, abs=1e-5)


def wide_run(count=240):
    """Two models that read, with a likelihood and a probe of two seeds, and enough validation answers."""
    rng, parts = np.random.default_rng(7), []
    places = [("sciq", at) for at in range(count)] + [("trivia_qa", at) for at in range(count // 2)]
    order = rng.permutation(len(places))
    for model, share in (("ash", 0.45), ("birch", 0.6)):
        correct = rng.random(len(places)) < share
        for method, seed, strength in (*UNTRAINED, ("probe", 0, 1.5), ("probe", 1, 1.2)):
            names = {"method": method, "seed": seed, "scored": model}
            names |= dict(zip(("reader", "trained_on"), native(method, model)[1:3]))
            logit = (rng.normal(size=len(places)) + strength * correct).round(1)
            rows = make_rows(logit, correct, **names)
            rows = rows.assign(
                task=[task for task, _ in places],
                question_id=[f"{task}{at}" for task, at in places],
                split=["validation" if at % 2 else "test" for _, at in places],
            )
            parts.append(rows.iloc[order])
    return pd.concat(parts, ignore_index=True)


@pytest.fixture(scope="module")
def wide():
    rows = wide_run()
    return rows, benefits.of_grid(rows, ["birch", "ash"], FOUR, ["birch", "ash"])


def test_answers_that_one_model_alone_has_right_are_counted_whichever_is_better_on_them(wide):
    rows, table = wide
    turned = rows.assign(correct=rows["correct"] ^ (rows["split"] == "test"))  # validation chooses as before
    again = benefits.of_grid(turned, ["birch", "ash"], FOUR, ["birch", "ash"])
    before, after = (lines.loc[lines["part"] == benefits.PICK, "n_rarer"].unique() for lines in (table, again))
    assert len(before) == 1 and before.tolist() == after.tolist()


def test_what_each_method_adds_to_the_likelihood(wide):
    rows, table = wide
    lines = table[table["part"] == benefits.STACK].set_index(["scored", "method"])
    others = ["zero_shot", "probe"]
    stacks = [["likelihood"], *([other] for other in others), *(["likelihood", other] for other in others)]
    stacks += [["likelihood", *others]]
    assert [*lines.index] == [(model, " + ".join(names)) for model in ("birch", "ash") for names in stacks]
    for model in ("ash", "birch"):
        reached = {}
        for names in stacks:
            by_seed = []
            for seed in (0, 1):
                held, test = (
                    [part(rows, native(name, model), seed, split) for name in names] for split in ("validation", "test")
                )
                x, y = (np.column_stack([frame["logit"] for frame in frames]).astype(float) for frames in (held, test))
                scaled = [(each - x.mean(0)) / x.std(0) for each in (x, y)]
                logit = LogisticRegression().fit(scaled[0], held[0]["correct"]).decision_function(scaled[1])
                grades, tasks = test[0]["correct"].to_numpy(), test[0]["task"].to_numpy()
                by_seed.append(np.mean([roc_auc_score(grades[tasks == task], logit[tasks == task]) for task in HOME]))
            reached[" + ".join(names)] = np.mean(by_seed)
        for name, value in reached.items():
            line = lines.loc[(model, name)]
            assert line["value"] == pytest.approx(value, abs=1e-5) and (line["n"], line["n_validation"]) == (180, "180")
            less = value - reached["likelihood"] if name != "likelihood" else np.nan
            assert line["difference"] == pytest.approx(less, abs=1e-5, nan_ok=True)
            zero = line["difference_low"] <= 0 <= line["difference_high"]
            above = "above zero" if less > 0 else "below zero"
            assert line["says"] == ("" if name == "likelihood" else "not significant" if zero else above)
    assert {*lines["says"]} >= {"above zero", "not significant"}


def cut_of(held, target):
    cuts = [
        cut for cut in {*held["logit"]}
        if (held["logit"] >= cut).sum() >= 25 and held.loc[held["logit"] >= cut, "correct"].mean() >= target
    ]  # fmt: skip
    return min(cuts) if cuts else np.inf


def test_what_is_answered_and_how_much_of_it_is_right(wide):
    rows, table = wide
    lines = table[table["part"] == benefits.SELECTIVE].set_index(["scored", "method", "at", "measure"]).sort_index()
    assert len(lines) == 2 * 3 * 3 * 3 and not lines.index.duplicated().any()
    for model, target in itertools.product(("ash", "birch"), benefits.TARGETS):
        cut = cut_of(part(rows, native("likelihood", model), 0, "validation"), target)
        many = (part(rows, native("likelihood", model), 0)["logit"] >= cut).sum()
        for method, seeds in (("likelihood", [0]), ("probe", [0, 1])):
            given, right, as_many = 0.0, 0.0, 0.0
            for seed in seeds:
                test = part(rows, native(method, model), seed)
                cut = cut_of(part(rows, native(method, model), seed, "validation"), target)
                above = test["logit"] >= cut
                given, right = given + above.sum(), right + test.loc[above, "correct"].sum()
                order = test.sort_values("logit", ascending=False)
                last = order["logit"].iloc[many - 1] if many else np.inf
                tied = order["logit"] == last
                left = many - (order["logit"] > last).sum()
                as_many += order.loc[order["logit"] > last, "correct"].sum() + left * order.loc[tied, "correct"].mean()
            line = lines.loc[(model, method, target)]
            coverage = given / len(seeds) / len(test)
            assert line.loc[benefits.COVERAGE, "value"] == pytest.approx(coverage, abs=1e-6)
            if given / len(seeds) < 25:
                assert np.isnan(line.loc[benefits.RIGHT, "value"])
                continue
            assert line.loc[benefits.RIGHT, "value"] == pytest.approx(right / given, abs=1e-6, nan_ok=True)
            assert line.loc[benefits.EQUAL, "value"] == pytest.approx(
                as_many / len(seeds) / many, abs=1e-6, nan_ok=True
            )
    both = lines.xs(benefits.EQUAL, level="measure")["value"].unstack("method")
    less = lines.xs(benefits.EQUAL, level="measure")["difference"].unstack("method")["probe"]
    assert less.tolist() == pytest.approx((both["probe"] - both["likelihood"]).tolist(), nan_ok=True)


def test_whose_answer_is_picked_and_what_is_handed_on(wide):
    rows, table = wide
    lines = table[table["part"] == benefits.PICK]
    assert {*zip(lines["scored"], lines["other"])} == {("ash", "birch")}, "the second is right more often on validation"
    grades = {model: part(rows, native("likelihood", model), 0)["correct"].to_numpy() for model in ("ash", "birch")}
    known = lines[lines["kind"] != "likelihood"].set_index("method")["value"]
    assert known["ash alone"] == pytest.approx(grades["ash"].mean()) and known["birch alone"] == pytest.approx(
        grades["birch"].mean()
    )
    assert known["an oracle"] == pytest.approx((grades["ash"] | grades["birch"]).mean())
    reached = {}
    for method, seeds in (("likelihood", [0]), ("zero_shot", [0]), ("probe", [0, 1])):
        each = []
        for seed in seeds:
            p = []
            for model in ("ash", "birch"):
                held, test = (part(rows, native(method, model), seed, split) for split in ("validation", "test"))
                fitted = LogisticRegression(C=np.inf, tol=1e-9).fit(held[["logit"]].to_numpy(float), held["correct"])
                p.append(fitted.predict_proba(test[["logit"]].to_numpy(float))[:, 1])
            each.append(np.where(p[0] > p[1], grades["ash"], grades["birch"]).mean())
        reached[method] = np.mean(each)
        assert known[method] == pytest.approx(reached[method], abs=1e-6), method
    less = lines[lines["kind"] == "likelihood"].set_index("method")["difference"]
    assert less.to_dict() == pytest.approx(
        {name: value - reached["likelihood"] for name, value in reached.items() if name != "likelihood"}, abs=1e-6
    )
    one = lines[(lines["kind"] == benefits.SINGLE) & (lines["method"] == "probe")].iloc[0]
    assert one["difference"] == pytest.approx(reached["probe"] - grades["birch"].mean(), abs=1e-6)
    assert one["n_rarer"] == min((grades["ash"] & ~grades["birch"]).sum(), (grades["birch"] & ~grades["ash"]).sum())
    handed = table[(table["part"] == benefits.HANDED) & (table["measure"] == benefits.ACCURACY)]
    handed = handed.set_index(["method", "at"])["value"]
    gain = grades["birch"].astype(float) - grades["ash"]
    for share in (0.0, 0.25, 0.5, 1.0):
        by_seed = []
        for seed in (0, 1):
            logit, left, total = part(rows, native("probe", "ash"), seed)["logit"].to_numpy(), share * len(gain), 0.0
            for value in sorted({*logit}):
                tied = gain[logit == value]
                total, left = total + min(max(left, 0), len(tied)) * tied.mean(), left - len(tied)
            by_seed.append(grades["ash"].mean() + total / len(gain))
        assert handed["probe", share] == pytest.approx(np.mean(by_seed), abs=1e-6), share
        straight = grades["ash"].mean() + share * gain.mean()
        assert handed["at random", share] == pytest.approx(straight)
    gains = table[table["measure"] == benefits.GAIN].set_index("method")
    area = {method: (handed[method] - handed["at random"]).mean() for method in ("likelihood", "probe")}
    assert {method: gains.loc[method, "value"] for method in area} == pytest.approx(area, abs=0.01)
    less = gains.loc["probe", "value"] - gains.loc["likelihood", "value"]
    assert gains.loc["probe", "difference"] == pytest.approx(less)


def everything(table, models):
    """All that the page shows, as one text; nothing raises."""
    parts = []
    for name in SECTIONS:
        more = (models,) if name in OF_MODELS else ()
        parts.append(getattr(worth, f"{name}_sentences")(table, *more))
        parts.append(getattr(worth, f"{name}_html")(table))
        chart = getattr(worth, f"{name}_chart")(table)
        parts.append(chart.to_json() if chart else "")
        assert not chart or (max(sentences(chart.description)) <= 25 and chart.to_dict()["usermeta"])
    text = "\n".join(parts)
    assert not re.search(r"\b(nan|NaN|None)\b|<NA>", text)
    return text


def test_the_page_shows_each_number(wide, table):
    shown = everything(wide[1], ["birch", "ash"])
    stack = wide[1][wide[1]["part"] == benefits.STACK]
    for line in stack.dropna(subset="difference").itertuples():
        assert f"{line.value:.3f} ({line.low:.3f} – {line.high:.3f})" in shown
        less = f"{line.difference:+.3f} ({line.difference_low:+.3f} to {line.difference_high:+.3f})"
        assert less.replace("-", "\N{MINUS SIGN}") in shown
    assert "fitted on 180 validation answers" in shown and "What is added to it: Zero-shot P(True) " in shown
    assert "- **ash and birch**: alone" in shown and "handed on to **" not in shown
    assert "- **birch**:\n  - " in shown and " alone:\n  - " in shown and "over all shares:\n  - " in shown
    assert "The threshold" not in shown and "With the threshold for 80\u00a0% right answers" in shown
    text = everything(table, THREE)
    assert "still improving" in text and "too few right or wrong answers" in text


def test_charts_have_no_line_without_a_value_and_mark_what_has_no_verdict(table):
    spec = worth.disagreement_chart(table).to_dict()
    drawn = [line for lines in spec["datasets"].values() for line in lines]
    expected = table[(table["part"] == benefits.DISAGREEMENT) & table["difference"].notna()]
    assert len(drawn) == len(expected)
    assert {line["says"] for line in drawn if line["hollow"]} == {"still improving"}


def test_the_legend_of_what_is_handed_on_has_the_shapes_and_colours_of_the_marks(wide):
    spec = worth.handed_on_chart(wide[1]).to_dict()
    line, points = (layer["encoding"] for layer in spec["spec"]["layer"])
    assert "strokeDash" not in line and points["shape"]["scale"]["domain"] == line["color"]["scale"]["domain"]
    known = dict(
        zip(line["color"]["scale"]["domain"], zip(line["color"]["scale"]["range"], points["shape"]["scale"]["range"]))
    )
    assert known["Probe"] == ("#1c7ed6", "triangle-up") and len({*known.values()}) == len(known) > 3
    usual = worth.pick_chart(wide[1]).to_dict()["spec"]["layer"][-1]["encoding"]
    shape = dict(zip(usual["shape"]["scale"]["domain"], usual["shape"]["scale"]["range"]))
    assert shape["Probe"] == known["Probe"][1], "as in the other charts of the page"


def test_counts_in_captions_have_their_thousands_separated(wide):
    table = wide[1].assign(n=1131, n_rarer=1012, n_validation="1365 to 1400")
    html = worth.stack_html(table) + worth.pick_html(table)
    assert "1,131 test answers, fitted on 1,365 to 1,400 validation answers" in html
    assert "1,131 test questions; each model alone is right on 1,012 or more" in html


def test_one_model_can_disagree_with_no_other():
    rows = wide_run()
    alone = rows[rows["scored"] == "ash"]
    table = benefits.of_grid(alone, ["ash"], FOUR, ["ash"])
    assert {*table["part"]} == {benefits.STACK, benefits.SELECTIVE}
    text = everything(table, ["ash"])
    assert text.count("This does not apply here: it takes two models") == 3


def test_a_run_without_rows_or_without_training_says_what_does_not_apply():
    nothing = benefits.of_grid(cells.NO_ROWS, ["ash"], FOUR, ["ash"])
    assert nothing.empty and {*nothing} == {*benefits.COLUMNS}
    assert "- **ash**: no likelihood, no other method" in everything(nothing, ["ash"])
    rows = wide_run()
    table = benefits.of_grid(rows[rows["method"] == "likelihood"], ["ash", "birch"], FOUR, ["ash", "birch"])
    assert {*table["part"]} == {benefits.SELECTIVE, benefits.PICK, benefits.HANDED}
    everything(table, ["ash", "birch"])
    tested = benefits.of_grid(rows[rows["split"] == "test"], ["ash", "birch"], FOUR, ["ash", "birch"])
    assert tested.empty and "no method has validation answers" in everything(tested, ["ash", "birch"])


def test_of_a_model_that_does_not_read_the_first_reader_s_estimators_count_on_shared_answers():
    rows = beside()
    held = rows["question_id"].str.extract(r"(\d+)$")[0].astype(int) % 2 == 0
    rows = rows.assign(split=np.where(held & (rows["task"] != "nq_open"), "validation", "test"))
    table = benefits.of_grid(rows, ["a", "g"], TASKS, ["a"])
    lines = table[table["part"] == benefits.DISAGREEMENT]
    assert {*zip(lines["scored"], lines["kind"])} <= {*itertools.product("ag", (benefits.DATA, benefits.ANSWERS))}, (
        "nothing that g would have to read"
    )
    of_g = rows[(rows["scored"] == "g") & (rows["split"] == "test") & (rows["task"] != "nq_open")]
    shared = set.intersection(*({*group["question_id"]} for _, group in of_g.groupby("method")))
    selective = table[(table["part"] == benefits.SELECTIVE) & (table["scored"] == "g")]
    assert {*selective["n"]} == {len(shared)} and len(shared) < of_g["question_id"].nunique()
    everything(table, ["a", "g"])


def test_a_model_without_a_likelihood_has_what_needs_none():
    rows = wide_run()
    table = benefits.of_grid(
        rows[(rows["scored"] != "ash") | (rows["method"] == "probe")], ["ash", "birch"], FOUR, ["ash", "birch"]
    )
    assert {*table.loc[table["part"] == benefits.STACK, "scored"]} == {"birch"}
    ash = table[(table["part"] == benefits.SELECTIVE) & (table["scored"] == "ash")]
    assert {*ash["measure"]} == {benefits.COVERAGE, benefits.RIGHT} and ash["difference"].isna().all()
    assert {*table.loc[table["part"] == benefits.PICK, "method"]} == {"ash alone", "birch alone", "an oracle", "probe"}
    assert "- **ash**: no likelihood" in everything(table, ["ash", "birch"])
    probes = rows[rows["method"] == "probe"].assign(unsettled=plateau.IMPROVING)
    table = benefits.of_grid(probes, ["ash", "birch"], FOUR, ["ash", "birch"])
    of_probe = table[(table["method"] == "probe") & table["value"].notna()]
    assert {*of_probe["says"]} == {"still improving"} and {*of_probe["part"]} > {benefits.SELECTIVE, benefits.HANDED}
    text = everything(table, ["ash", "birch"])
    assert text.count("are right, still improving") == 2 and "points" in text


def test_what_was_trained_elsewhere_or_rests_on_few_answers_has_no_verdict():
    rows = wide_run()
    released = rows.assign(unsettled=np.where(rows["method"] == "probe", plateau.RELEASED, ""))
    table = benefits.of_grid(released, ["ash", "birch"], FOUR, ["ash", "birch"])
    lines = table[table["method"].str.contains("probe") & table["difference"].notna()]
    assert {*lines["says"]} == {plateau.RELEASED} and len(lines)
    few = rows.assign(correct=rows["correct"] & (rows["scored"] == "ash"))
    table = benefits.of_grid(few, ["ash", "birch"], FOUR, ["ash", "birch"])
    birch = table[(table["scored"] == "birch") & (table["part"] == benefits.SELECTIVE)]
    assert {*birch["says"]} == {bootstrap.FEW} and birch["value"].isna().all()
    assert "- **birch**: 0 answers of the rarer grade are too few." in everything(table, ["ash", "birch"])
    one = worth.selective_sentences(table.assign(n_rarer=1), ["birch"])
    assert "- **birch**: 1 answer of the rarer grade is too few." in one


def test_names_are_inert_in_the_tables():
    rows = wide_run().replace("ash", "<script>x</script>")
    names = ["<script>x</script>", "birch"]
    table = benefits.of_grid(rows, names, FOUR, names)
    html = "".join(getattr(worth, f"{name}_html")(table) for name in SECTIONS)
    assert "<script" not in html and "&lt;script&gt;" in html


def test_why_no_verdict_rests_on_a_row():
    reasons = [plateau.IMPROVING, "", plateau.RELEASED, plateau.UNKNOWN, None]
    assert plateau.no_verdict(pd.DataFrame({"unsettled": reasons})).tolist() == [
        plateau.IMPROVING, "", plateau.RELEASED, "", "",
    ]  # fmt: skip
    assert plateau.no_verdict(pd.DataFrame(index=[3, 4])).to_dict() == {3: "", 4: ""}


def test_of_several_reasons_all_pages_give_the_same_one():
    for reasons, expected in (
        (["", plateau.RELEASED, plateau.IMPROVING, plateau.UNKNOWN], plateau.IMPROVING),
        (["", plateau.UNKNOWN, plateau.RELEASED], plateau.RELEASED),
        (["", plateau.UNKNOWN], plateau.UNKNOWN),
        ([], ""),
    ):
        assert plateau.together(reasons) == plateau.together(reasons[::-1]) == expected
    rows = wide_run()
    why = {"probe": plateau.RELEASED, "zero_shot": plateau.IMPROVING}
    rows = rows.assign(unsettled=rows["method"].map(why).fillna(""))
    table = benefits.of_grid(rows, ["ash", "birch"], FOUR, ["ash", "birch"])
    both = table["method"].str.contains("zero_shot") & table["method"].str.contains("probe")
    assert {*table.loc[both & table["difference"].notna(), "says"]} == {plateau.IMPROVING}
    places = [("probe", "ash", "ash", "ash"), ("probe", "birch", "birch", "ash")]
    measured = {"auroc": [0.75, 0.5], "n_rarer": [40, 50], "unsettled": [plateau.RELEASED, plateau.IMPROVING]}
    index = pd.MultiIndex.from_tuples(places, names=scores.CELL)
    draws = pd.DataFrame([[0.75, 0.875], [0.5, 0.25]], index)
    weights = [dict(zip(places, (1.0, -1.0))), dict(zip(places, (1.0, 0.0)))]
    lines, resampled = bootstrap.contrasts(weights, pd.DataFrame(measured, index), draws)
    assert lines["estimate"].tolist() == [0.25, 0.75] and resampled.tolist() == [[0.25, 0.625], [0.75, 0.875]]
    assert {*lines["unsettled"]} == {plateau.IMPROVING} and lines["n_rarer"].tolist() == [40, 40]
    assert {*bootstrap.tested(lines, resampled, pd.Series(dtype=float))["says"]} == {plateau.IMPROVING}
