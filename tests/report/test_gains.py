"""What training adds to each cell: on the same answers, of the right cells, in a picture that a phone holds."""

import re

import numpy as np
import pandas as pd
import pytest
import vl_convert
from test_landing import MODELS, TASKS, auroc_of, of_all, run_of

from whoknows.evaluation import bootstrap, cells, scores
from whoknows.evaluation.bootstrap import ABOVE, EXPLORATORY, FEW
from whoknows.evaluation.plateau import IMPROVING, RELEASED
from whoknows.report.pages import gains, landing, style

PHONE = 358  # pixels that a page of 390 has for a chart


def gained(rows, baseline="likelihood", models=MODELS, readers=MODELS, tasks=TASKS):
    paired = gains.paired(rows, tasks, models, readers, baseline)
    samples, nothing = bootstrap.samples(rows, 200), pd.Series(dtype=float)
    measured = cells.measure(rows, scores.by_task(rows, only_auroc=True), tasks, samples)
    compared = landing.comparisons(rows, measured, samples, paired, nothing, readers, tasks)
    return gains.of_cells(*paired, tasks, models, readers, compared)


def with_shift(rows):
    far = rows[rows["task"] == "sciq"].assign(task="capitals", question_id="x" + rows["question_id"])
    return pd.concat([rows, far.assign(logit=-far["logit"])], ignore_index=True)


@pytest.fixture(scope="module")
def rows():
    return with_shift(run_of(of_all((2.2, 0.6), (1.9, 0.5), 1.0), count=120))


def svg_of(table, baseline="likelihood"):
    return vl_convert.vegalite_to_svg(gains.gains_chart(table, baseline).to_dict())


def test_each_difference_is_that_of_its_cell_and_the_baseline_on_the_scored_models_answers(rows):
    table = gained(rows)
    assert len(table) == 2 * 4 * 2 and {*table["says"]} == {EXPLORATORY} and table["p_holm"].isna().all()
    home = rows[rows["task"] != "capitals"]
    for line in table.itertuples():
        there = home if line.test_set == "in-distribution" else rows[rows["task"] == "capitals"]
        cell = (line.method, line.reader, line.trained_on, line.scored)
        less = auroc_of(there, cell) - auroc_of(there, ("likelihood", "", "", line.scored))
        assert line.reader == line.trained_on and line.estimate == pytest.approx(less)
        assert line.low < line.estimate < line.high
    own = table[(table["test_set"] == "in-distribution") & (table["reader"] == table["scored"])]
    by_task, samples = scores.by_task(rows, only_auroc=True), bootstrap.samples(rows, 200)
    measured, nothing = cells.measure(rows, by_task, TASKS, samples), pd.Series(dtype=float)
    paired = gains.paired(rows, TASKS, MODELS, MODELS, "likelihood")
    means = landing.comparisons(rows, measured, samples, paired, nothing, MODELS, TASKS)
    means = means[means["kind"] == landing.TRAINING].set_index("method")["estimate"]
    assert own.groupby("method")["estimate"].mean().to_dict() == pytest.approx(means.to_dict()), "as the answer has it"


def test_a_baseline_that_a_model_reads_is_read_by_the_scored_one(rows):
    plain = {("zero_shot", r, "", s): 3.0 * (r == s) for r in MODELS for s in MODELS}
    both = pd.concat([rows, with_shift(run_of(plain, count=120))], ignore_index=True)
    line = gained(both, "zero_shot").query("scored == 'a' and reader == 'b' and method == 'probe'").iloc[0]
    home = both[both["task"] != "capitals"]
    assert line["estimate"] == pytest.approx(
        auroc_of(home, ("probe", "b", "b", "a")) - auroc_of(home, ("zero_shot", "a", "", "a"))
    )


def test_what_no_verdict_rests_on_is_hollow_and_marked(rows):
    late = (rows["method"] == "lora_prompt") & (rows["reader"] == "b")
    for says, words in ((IMPROVING, "was still improving when its training ended"), (RELEASED, "a released adapter")):
        table = gained(rows.assign(unsettled=np.where(late, says, "")))
        assert table["says"].eq(says).equals((table["method"] == "lora_prompt") & (table["reader"] == "b"))
        assert svg_of(table).count('fill-opacity="0"') >= 4 and words in gains.caption_html(table, "likelihood")
        assert gains.gains_html(table, "likelihood").count(" ↗</td>") == (4 if says == IMPROVING else 0)
    assert "hollow" not in gains.caption_html(gained(rows), "likelihood")


def test_a_run_of_one_model_one_method_and_no_shift_has_one_line():
    rows = run_of({("probe", "a", "a", "a"): 3.0, ("likelihood", "", "", "a"): 0.0})
    table = gained(rows, models=["a"], readers=["a"], tasks=TASKS[:2])
    assert table["estimate"].notna().tolist() == [True], "a method that the run does not have leaves no place empty"
    picture, caption = svg_of(table), gains.caption_html(table, "likelihood")
    assert "LoRA" not in picture and "In-distribution" in picture and "Shift" not in picture
    assert "scored on its own answers" in picture and "Shift" not in caption and "<i>In-distribution</i> has" in caption
    assert "in which a model scores its own answers, less that of answer likelihood" in caption
    assert caption.endswith(" The answer above tests Probe of a, on its own answers to in-distribution questions.</p>")
    assert table["says"].iloc[0] == ABOVE, "which is the difference that the answer rests on"


def test_what_is_itself_tested_is_not_said_to_be_exploratory(rows):
    table = gained(rows, readers=["a"])
    tested = (table["reader"] == table["scored"]) & (table["test_set"] == "in-distribution")
    assert (table["says"] != EXPLORATORY).equals(tested) and table["p_holm"].notna().equals(tested)
    sentence = (
        "The answer above tests Probe of a and LoRA + Prompt of a, on its own answers to in-distribution questions."
    )
    assert f"{sentence} All others are exploratory.</p>" in gains.caption_html(table, "likelihood")
    assert "All of this is exploratory: " in gains.caption_html(gained(rows), "likelihood")


def test_a_cell_is_compared_with_the_baseline_on_the_answers_that_both_have_scored(rows):
    probe, plain = (("probe", "a", "a", "b"), [1, 2, 130]), (("likelihood", "", "", "b"), [2, 5])
    places = {cell: rows.index[(rows[scores.CELL] == [*cell]).all(axis=1)][gone] for cell, gone in (probe, plain)}
    gone = [place for of in places.values() for place in of]
    both = rows[~rows["question_id"].isin(rows.loc[gone, "question_id"])]
    table, whole = gained(rows.drop(gone)), gained(rows)
    line = table.query("method == 'probe' and reader == 'a' and scored == 'b'").iloc[0]
    home = both[both["task"] != "capitals"]
    assert line["estimate"] == pytest.approx(auroc_of(home, probe[0]) - auroc_of(home, plain[0]))
    assert line["low"] < line["estimate"] < line["high"] and table["estimate"].notna().all()
    of_a = table["scored"] == "a"
    pd.testing.assert_frame_equal(table[of_a], whole[of_a])  # whose answers lack nothing


def test_a_cell_that_is_missing_or_on_too_few_answers_leaves_its_place_empty(rows):
    gone = (rows["method"] == "lora_prompt") & (rows["reader"] == "b") & (rows["scored"] == "a")
    table = gained(rows[~gone])
    assert len(table) == 16
    empty = table[table["estimate"].isna()]
    places = {*empty[["method", "reader", "scored"]].itertuples(index=False, name=None)}
    assert places == {("lora_prompt", "b", "a")} and len(empty) == 2
    assert "An empty place has no value." in gains.caption_html(table, "likelihood")
    assert gains.gains_html(table, "likelihood").count("<td>—</td>") == 2 and svg_of(table)
    few = gained(with_shift(run_of(of_all((2.0, 0.5), (1.0, 0.5), 1.0), count=30)))
    assert few[few["test_set"] == "shift"]["says"].eq(FEW).all() and few["estimate"].isna().all()


@pytest.mark.parametrize("baseline", ["likelihood", ""])
def test_without_a_baseline_or_an_estimator_there_is_no_picture(baseline):
    rows = run_of({("likelihood", "", "", "a"): 1.0} if baseline else {("probe", "a", "a", "a"): 1.0})
    table = gained(rows, baseline, ["a"], ["a"])
    assert gains.gains_chart(table, baseline) is None
    assert gains.caption_html(table, baseline) == gains.gains_html(table, baseline) == ""


def test_a_panel_fits_a_phone_and_its_points_say_what_they_are(rows):
    table = gained(rows)
    spec = gains.gains_chart(table, "likelihood").to_dict()
    assert len(spec["hconcat"]) == 2, "which the book puts one above the other where there is no room"
    long = table.replace({"a": "Meta-Llama-3.1-70B-Instruct-Q4", "b": "Some-other-model-13B-chat"})
    wide = gains.gains_chart(long, "likelihood").to_dict()
    assert "…" not in vl_convert.vegalite_to_svg(wide), "no name is cut"
    for panel in wide["hconcat"]:
        picture = vl_convert.vegalite_to_svg(wide | {"hconcat": [panel]})
        assert float(re.search(r'<svg[^>]* width="([\d.]+)"', picture)[1]) <= PHONE
    picture = svg_of(table)
    assert picture.count('aria-label="Method: Probe; Reader: a; Trained on: a; Scored: b;') == 2 * 2, "line and point"
    assert all(style.hue(method) in picture for method in ("probe", "lora_prompt"))
    assert spec["description"].startswith("AUROC of cells, 16 in all, less that of answer likelihood")


def test_of_many_models_only_those_that_score_themselves_are_shown():
    names = [f"m{at}" for at in range(6)]
    strengths = {("probe", r, r, s): 1.0 for r in names[:5] for s in names} | {
        ("likelihood", "", "", s): 1.0 for s in names
    }
    table = gained(run_of(strengths), models=names, readers=names[:5])
    assert {*zip(table["reader"], table["scored"])} == {(name, name) for name in names[:5]}
    assert "in which a model scores its own answers" in gains.caption_html(table, "likelihood")
