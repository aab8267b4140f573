"""Claims as contrasts: what holds by the figure's own numbers, and what by rows with planted truths."""

import json
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from made_up import make_rows
from whoknows import WhoknowsError
from whoknows.evaluation import bootstrap, cells, scores
from whoknows.report.pages import claims
from whoknows.report.pages.claims import FAILS, HOLDS, OPEN

ROOT = Path(__file__).parents[2]
TASKS = [{"name": "trivia_qa", "role": "train"}]
STATED = claims.load()
EVERYWHERE, NATIVE = (
    "Probe is above LoRA + Prompt in every combination",
    "Native training is above cross training for every model",
)


def planted(strength, count=400, share=0.3):
    """Rows of two models; confidence is the grade times `strength(method, reader, trained_on, scored)`, in noise."""
    rng, parts = np.random.default_rng(0), []
    for scored, rate in (("strong", share), ("weak", share * 0.8)):
        correct = np.arange(count) < rate * count
        for method in ("probe", "lora_prompt"):
            for reader in ("strong", "weak"):
                for trained_on in ("strong", "weak"):
                    logit = rng.normal(size=count) + strength(method, reader, trained_on, scored) * correct
                    parts.append(
                        make_rows(logit, correct, method=method, reader=reader, trained_on=trained_on, scored=scored)
                    )
        parts.append(held(scored, round(rate * 100)))
    return pd.concat(parts, ignore_index=True)


def held(model, right):
    """A hundred validation rows of a model's own probe, of which some are right."""
    rows = make_rows(np.zeros(100), np.arange(100) < right, reader=model, trained_on=model, scored=model)
    return rows.assign(split="validation", question_id=rows["question_id"] + "held")


def test_who_stands_for_whom_is_decided_without_test_answers():
    rows = planted(lambda *_: 1.0)
    assert claims.roles(rows, ["weak", "strong"], ["trivia_qa"]) == {"Mistral": "strong", "LLaMA-2": "weak"}
    rows = pd.concat([rows[rows["split"] == "test"], held("weak", 50), held("strong", 40), held("other", 45)])
    three = ["strong", "other", "weak"]
    assert claims.roles(rows, three, ["trivia_qa"]) == {"Mistral": "weak", "LLaMA-2": "strong"}
    untrained = rows[rows["scored"] != "strong"]  # such as one that is always right
    assert claims.roles(untrained, three, ["trivia_qa"]) == {"Mistral": "weak", "LLaMA-2": "other"}
    assert claims.roles(rows.iloc[:0], three, ["trivia_qa"]) == {"Mistral": "strong", "LLaMA-2": "weak"}


def measured(rows):
    table, players = claims.evaluate(STATED, rows, ["weak", "strong"], TASKS)
    assert players == {"Mistral": "strong", "LLaMA-2": "weak"}
    verdicts = claims.verdicts(table)
    return verdicts[verdicts["source"] == "measured"].set_index(["claim", "reading"])["verdict"]


def by_figure(stated=STATED):
    verdicts = claims.verdicts(claims.by_others(stated))
    return verdicts[verdicts["source"] == "figure"].set_index("claim")["verdict"]


def test_the_description_against_its_own_numbers():
    # from the list of eight values: 0.80 0.70 / 0.65 0.60 and 0.75 0.70 / 0.70 0.65
    verdicts = by_figure()
    holds = [
        "LoRA + Prompt is lower than Probe for Mistral trained on Mistral",
        "Mistral trained on Mistral, Probe, is the lightest cell of all",
    ]
    holds.append("Performance depends on the match of training answers and model")
    assert set(verdicts[verdicts == HOLDS].index) == set(holds)
    assert set(verdicts[verdicts == FAILS].index) == {claim.claim for claim in STATED} - set(holds)


def test_equal_values_are_not_above_each_other():
    # Mistral trained on LLaMA-2 has 0.70 in both heatmaps, whose difference in floats may be anything tiny
    only = claims.Claim("c", "", {"equal": {"probe/Mistral/LLaMA-2": 1, "lora_prompt/Mistral/LLaMA-2": -1}})
    assert by_figure([only])["c"] == FAILS


def test_where_nothing_was_measured_the_figure_still_says_what_it_says():
    table, _ = claims.evaluate(STATED, planted(lambda *names: 0.0)[:0], ["weak", "strong"], TASKS)
    verdicts = claims.verdicts(table)
    by_source = verdicts.groupby("source")["verdict"].agg(set)
    assert by_source["measured"] == {OPEN} and HOLDS in by_source["figure"]
    assert "it **holds**: " in claims.claims_sentences(STATED, table, verdicts)


def test_a_contrast_with_a_broken_cell_is_inconclusive():
    table = claims.by_others(STATED)
    broken = table[(table["source"] == "released") & table["estimate"].isna()]
    assert (
        set(broken["reading"]) == {"B"}
        and set(broken["says"]) == {OPEN}
        and set(broken["reason"]) == {"a cell is missing"}
    )


@pytest.mark.slow
def test_a_clear_difference_has_a_verdict():
    verdicts = measured(planted(lambda method, *_: 3.0 if method == "probe" else 0.5))
    assert verdicts[EVERYWHERE, "A"] == verdicts[EVERYWHERE, "B"] == HOLDS
    verdicts = measured(planted(lambda method, *_: 0.5 if method == "probe" else 3.0))
    assert verdicts[EVERYWHERE, "A"] == verdicts[EVERYWHERE, "B"] == FAILS


def test_no_difference_is_inconclusive():
    verdicts = measured(planted(lambda *_: 1.0))
    assert (verdicts == OPEN).all()


@pytest.mark.slow
def test_a_difference_that_the_figure_could_not_show_contradicts_a_claim_where_there_are_questions_enough():
    assert claims.margin() == pytest.approx(0.025)
    table, _ = claims.evaluate(STATED, planted(lambda *_: 3.0, count=4000), ["weak", "strong"], TASKS)
    mine = table[table["source"] == "measured"]
    small = mine["claim"].str.startswith("Probe is above LoRA + Prompt on average")
    assert (
        set(mine.loc[small, "says"]) == {FAILS}
        and (mine.loc[small, "p_holm"] > 0.05).all()
        and (mine["high"] < 0.025).loc[small].all()
    )
    assert not set(mine["says"]) - {FAILS, OPEN}


def test_a_small_difference_fails_though_it_is_above_zero_and_a_large_one_holds_though_it_is_uncertain():
    lines = pd.DataFrame(
        {
            "cells": "of a run",
            "n_rarer": 100,
            "estimate": [0.01, 0.03, 0.1, -0.1, 0.01],
            "unsettled": "",
            "low": 0.0,
            "high": 0.0,
            "p": 0.0,
            "p_margin": 0.0,
        }
    )
    lines["p_holm"], lines["p_margin_holm"] = [0.01, 0.01, 0.01, 0.01, 0.2], [0.01, 0.2, 1.0, 0.01, 0.2]
    assert claims._with_verdicts(lines)["says"].tolist() == [FAILS, HOLDS, HOLDS, FAILS, OPEN]


def test_swapped_scored_and_trained_on_are_refused(tmp_path):
    rows = planted(lambda method, reader, trained_on, scored: 3.0 if trained_on == scored else 0.5)
    assert measured(rows)[NATIVE, "B"] == HOLDS
    (tmp_path / "rows").mkdir()
    rows.to_parquet(tmp_path / "rows/right.parquet")
    assert len(cells.read_rows(tmp_path / "rows", ["weak", "strong"], ["probe", "lora_prompt"], [0])) == len(rows)
    rows.rename(columns={"scored": "trained_on", "trained_on": "scored"}).to_parquet(tmp_path / "rows/right.parquet")
    with pytest.raises(WhoknowsError, match="right in one row and wrong in another"):
        cells.read_rows(tmp_path / "rows", ["weak", "strong"], ["probe", "lora_prompt"], [0])


def test_readings_look_at_different_cells():
    # A: the reader of the weak model's column judges badly, whatever it judges; B: so does the weak model's row
    rows = planted(lambda method, reader, trained_on, scored: 3.0 if reader == "strong" else 0.2)
    table, _ = claims.evaluate(STATED, rows, ["weak", "strong"], TASKS)
    by_reading = table[(table["source"] == "measured") & (table["claim"] == NATIVE)].set_index(["contrast", "reading"])[
        "estimate"
    ]
    assert by_reading["LLaMA-2, Probe", "A"] < -0.2 and by_reading["Mistral, Probe", "A"] > 0.2
    assert abs(by_reading["LLaMA-2, Probe", "B"]) < 0.1 > abs(by_reading["Mistral, Probe", "B"])


@pytest.mark.slow
def test_shuffled_grades_leave_every_cell_at_chance():
    rows, (strong, weak) = planted(lambda *_: 3.0).query("split == 'test'"), (held("strong", 30), held("weak", 24))
    rng = np.random.default_rng(1)
    shuffled = {name: rng.permutation(400) for name in ("strong", "weak")}
    rows["logit"] = np.concatenate(
        [cell["logit"].to_numpy()[shuffled[key[-1]]] for key, cell in rows.groupby(scores.CELL, sort=False)]
    )
    table = cells.measure(rows, scores.by_task(rows), TASKS)
    assert len(table) == 16 and ((table["low"] <= 0.5) & (0.5 <= table["high"])).all()
    assert HOLDS not in set(measured(pd.concat([rows, strong, weak])))


def test_few_right_answers_have_no_value_and_no_verdict():
    rows = planted(lambda method, *_: 5.0 if method == "probe" else 0.0, share=24 / 400)
    table, _ = claims.evaluate(STATED, rows, ["weak", "strong"], TASKS)
    mine = table[table["source"] == "measured"]
    assert set(mine["says"]) == {OPEN} and mine[["estimate", "low", "p", "p_holm"]].isna().all(axis=None)
    assert mine["reason"].str.contains("fewer than 25").all()
    assert "None" not in claims.contrasts_html(table) and "nan" not in claims.contrasts_html(table).lower()


def test_missing_cells_are_open_and_the_others_are_judged():
    rows = planted(lambda method, *_: 3.0 if method == "probe" else 0.5)
    rows = rows[(rows["method"] == "probe") | (rows["reader"] == "strong")]
    table, _ = claims.evaluate(STATED, rows, ["weak", "strong"], TASKS)
    mine = table[
        (table["source"] == "measured") & (table["claim"] == EVERYWHERE) & (table["reading"] == "A")
    ].set_index("contrast")
    assert mine.loc["Mistral trained on Mistral", "says"] == HOLDS
    assert mine.loc["LLaMA-2 trained on LLaMA-2", ["says", "reason"]].tolist() == [OPEN, "a cell is missing"]


def test_only_differences_that_have_a_value_count_as_measured():
    rows = planted(lambda *_: 1.0)
    for method, of in (("probe", "The {} measured differences, of both readings, are"), ("none", "None of these")):
        table, players = claims.evaluate(STATED, rows[rows["method"] == method], ["weak", "strong"], TASKS)
        there = table.loc[table["source"] == "measured", "estimate"].notna().sum()
        assert there == 0 if method == "none" else 0 < there < 56
        assert of.format(there) in claims.summary_sentences(claims.verdicts(table), players, table)


def test_corrected_p_values_count_each_hypothesis_once():
    table, players = claims.evaluate(
        STATED, planted(lambda method, *_: 3.0 if method == "probe" else 0.5), ["weak", "strong"], TASKS
    )
    mine = table[table["source"] == "measured"]
    a, b = (mine.loc[mine["reading"] == reading, "hypothesis"] for reading in "AB")
    # By hand: 28 contrasts of a reading are 20; four of them are on the diagonal, which both readings have.
    assert (len(a), a.nunique(), b.nunique(), len({*a} & {*b}), mine["hypothesis"].nunique()) == (28, 20, 20, 4, 36)
    assert "+1 lora_prompt/weak/weak/weak -1 probe/weak/weak/weak" in {*a} & {*b}
    # Of the 36 each stands in claims with one sign and one scale: to be at least the margin is as many hypotheses
    # again.
    smallest = mine[["p", "p_margin"]].min(axis=None)
    assert mine.loc[mine["p"] == smallest, "p_holm"].min() == pytest.approx(smallest * 72)
    assert (mine["p_margin_holm"] >= mine["p_margin"] - 1e-12).all()
    assert (mine["p_holm"] >= mine["p"] - 1e-12).all() and (mine.groupby("hypothesis")["p_holm"].nunique() == 1).all()
    assert (
        "The 56 measured differences, of both readings, are 36 distinct primary hypotheses"
        in claims.summary_sentences(claims.verdicts(table), players, table)
    )


def test_a_hypothesis_is_the_same_mirrored_and_doubled_and_no_other():
    one, other, third = (("probe", name, "a", "a") for name in "abc")
    same = [{one: 1.0, other: -1.0}, {other: -1.0, one: 1.0}, {one: -1.0, other: 1.0}, {other: -0.5, one: 0.5}]
    assert len({bootstrap.hypothesis(places) for places in same}) == 1
    differ = [
        same[0],
        {one: 1.0, third: -1.0},
        {one: 1.0, other: 1.0},
        {one: 1.0, other: -0.5, third: -0.5},
        {one: 1.0},
    ]
    assert len({bootstrap.hypothesis(places) for places in differ}) == len(differ)


def test_a_grid_of_one_model_has_no_hypotheses_about_the_other():
    rows = planted(lambda method, *_: 3.0 if method == "probe" else 0.5)
    rows = rows[(rows[["reader", "trained_on", "scored"]] == "strong").all(axis=1)]
    table, _ = claims.evaluate(STATED, rows, ["strong"], TASKS)
    mine = table[table["source"] == "measured"]
    assert mine["p"].notna().any() and mine.loc[mine["p"].notna(), "hypothesis"].nunique() == 1


def test_marks_of_one_difference_do_not_hide_each_other_and_weights_have_a_true_minus():
    table, _ = claims.evaluate(STATED, planted(lambda *_: 1.0), ["weak", "strong"], TASKS)
    spec = claims.contrasts_chart(table).to_dict()
    bars, points = (layer["encoding"] for layer in spec["spec"]["layer"][-2:])
    assert bars["yOffset"] == points["yOffset"] and points["yOffset"]["field"] == "by"
    assert "1 LoRA + Prompt" not in json.dumps(spec), "a mark is heard without its weights"
    html = claims.contrasts_html(table)
    assert (
        "\N{MINUS SIGN}1 LoRA + Prompt" in html and "; -1 " in ";".join(table["cells"].dropna()) and "; -1 " not in html
    )


def test_the_sentences_are_the_verdicts():
    table, players = claims.evaluate(
        STATED, planted(lambda method, *_: 3.0 if method == "probe" else 0.5), ["weak", "strong"], TASKS
    )
    verdicts = claims.verdicts(table)
    text = claims.claims_sentences(STATED, table, verdicts)
    for word in (HOLDS, FAILS, OPEN):
        assert text.count(f"it **{'is ' * (word == OPEN)}{word}**") == (verdicts["verdict"] == word).sum() > 0
    summary = claims.summary_sentences(verdicts, players, table)
    assert "strong stands for Mistral, and weak for LLaMA-2" in summary
    one = claims.summary_sentences(
        verdicts[verdicts["source"] == "figure"].head(1).assign(verdict=HOLDS), players, table
    )
    assert "1 holds, 0 fail, " in one


NUMBER = re.compile(r"(?<![\d.\w])[01]?\.\d\d+(?!\d*\w*/)|\d+(?:\.\d+)? ?(?:%|percent)")


@pytest.mark.parametrize(
    "path",
    [*sorted((ROOT / "book").glob("*.md")), ROOT / "book/claims.yml", *sorted((ROOT / "notebooks").glob("*.py"))],
    ids=lambda path: path.name,
)
def test_no_result_is_typed(path):
    text = path.read_text()
    if path.suffix == ".py":  # what the reader sees as prose
        cells_of = re.split(r"(?m)^# %%", text)
        text = "\n".join(cell for cell in cells_of if cell.startswith(" [markdown]"))
    text = re.sub(r"95 %|arXiv [\d.]+|arxiv.org/abs/[\d.]+|(probe|lora_prompt)/\S+: -?[\d.]+", "", text)
    assert not NUMBER.findall(text)


def test_a_verdict_names_the_differences_that_it_rests_on():
    lines = pd.DataFrame(
        {"contrast": ["x", "y", "z"], "estimate": [0.3, 0.1, -0.2], "reason": "", "says": [HOLDS, HOLDS, FAILS]}
    )
    assert claims._deciding(lines[:2], HOLDS) == " the smallest difference is y, +0.10."
    assert claims._deciding(lines[:1], HOLDS) == " x, +0.30." and claims._deciding(lines, FAILS) == " z, −0.20."
    assert claims._deciding(lines.assign(says=FAILS)[:2], FAILS) == "\n  - x, +0.30\n  - y, +0.10"
