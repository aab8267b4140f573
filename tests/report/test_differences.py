"""Differences between cells: which cells, which sign, and when nothing may be said."""

import re

import numpy as np
import pandas as pd
import pytest
import vl_convert

from made_up import make_rows
from whoknows.evaluation import auroc
from whoknows.evaluation.bootstrap import ABOVE, EXPLORATORY, FEW, INSIGNIFICANT
from whoknows.report.pages import differences, style
from whoknows.report.pages.differences import METHOD, NATIVE, READER

TASKS = [{"name": "trivia_qa", "role": "train"}]


def planted(strength, models=("a", "b"), count=400, share=0.3):
    """Rows of a whole tensor; confidence is noise and `strength(method, reader, trained_on, scored)` times grade."""
    parts = []
    for scored in models:
        correct = np.random.default_rng(ord(scored)).permutation(np.arange(count) < share * count)
        noise = np.random.default_rng(1).normal(size=count)
        for method in ("probe", "lora_prompt"):
            for reader in models:
                for trained_on in models:
                    logit = noise + strength(method, reader, trained_on, scored) * correct
                    parts.append(
                        make_rows(logit, correct, method=method, reader=reader, trained_on=trained_on, scored=scored)
                    )
    return pd.concat(parts, ignore_index=True)


def differences_of(rows, kind, reading, models=("a", "b")):
    table = differences.of_grid(rows, [*models], TASKS)
    return table[(table["kind"] == kind) & table["reading"].str.contains(reading)].set_index("what")


@pytest.mark.parametrize("reading", "AB")
def test_a_better_method_is_above_in_every_cell(reading):
    table = differences_of(planted(lambda method, *_: 2.0 if method == "probe" else 0.5), METHOD, reading)
    off = {
        "A": {"a trained on a, scored on b", "b trained on b, scored on a"},
        "B": {"a trained on b, scored on a", "b trained on a, scored on b"},
    }[reading]
    assert set(table.index) == {"a trained on a, scored on a", "b trained on b, scored on b"} | off
    assert (table["says"] == ABOVE).all() and (table["low"] > 0).all()


@pytest.mark.slow
def test_native_differs_from_cross_in_the_reading_in_which_it_does():
    # only what was taught on the very reader is good: in reading A all cells are, in reading B the native ones alone
    rows = planted(lambda method, reader, trained_on, scored: 2.0 if reader == trained_on else 0.5)
    assert (differences_of(rows, NATIVE, "A")["says"] == INSIGNIFICANT).all()
    assert (differences_of(rows, NATIVE, "B")["says"] == ABOVE).all()


def test_each_fact_is_there_once_and_says_in_which_readings():
    table = differences.of_grid(planted(lambda *_: 1.0), ["a", "b"], TASKS)
    assert table["hypothesis"].is_unique and not table.duplicated(["kind", "reading", "what"]).any()
    counts = table.groupby(["kind", "reading"]).size().to_dict()
    assert counts == {
        (METHOD, "A and B"): 2,
        (METHOD, "A"): 2,
        (METHOD, "B"): 2,
        (NATIVE, "A"): 4,
        (NATIVE, "B"): 4,
        (READER, ""): 4,
    }
    assert "Probe trained and scored on a: reader a − b" in set(
        table["what"]
    ) and "Probe trained and scored on a: reader b − a" not in set(table["what"])


@pytest.mark.slow
def test_a_reader_is_compared_with_the_others_on_the_same_answers():
    rows = planted(lambda method, reader, *_: {"a": 2.0, "b": 0.5, "c": 0.3}[reader], "abc")
    table = differences_of(rows, READER, "", "abc")
    assert (
        len(table) == 2 * 3 * 3
        and set(table["says"]) == {EXPLORATORY}
        and table["p_holm"].isna().all()
        and table["p"].notna().all()
    )
    assert {what.split(": reader ")[1] for what in table.index[table["low"] > 0]} == {"a − the others"}
    native = rows[(rows["method"] == "probe") & (rows["trained_on"] == "a") & (rows["scored"] == "a")]
    value = {reader: auroc.auroc(part["logit"], part["correct"]) for reader, part in native.groupby("reader")}
    for reader in "abc":
        others = [value[other] for other in "abc" if other != reader]
        assert table.loc[f"Probe trained and scored on a: reader {reader} − the others", "estimate"] == pytest.approx(
            value[reader] - sum(others) / 2
        )


def test_a_difference_is_that_of_the_cells_values():
    rows = planted(lambda method, reader, *_: 1.0 if reader == "a" else 0.3)
    value = {
        (method, reader): auroc.auroc(cell["logit"], cell["correct"])
        for (method, reader), cell in rows[(rows["trained_on"] == "b") & (rows["scored"] == "b")].groupby(
            ["method", "reader"]
        )
    }
    line = differences_of(rows, READER, "").loc["Probe trained and scored on b: reader a − b"]
    assert line["estimate"] == pytest.approx(value["probe", "a"] - value["probe", "b"])


@pytest.mark.parametrize("rarer", [True, False])
def test_few_answers_of_one_class_have_no_value_and_no_verdict(rarer):
    rows = planted(lambda method, *_: 3.0 if method == "probe" else 0.0, count=80)
    rows = rows.assign(correct=rows["correct"] == rarer, logit=rows["logit"] * (1 if rarer else -1))
    assert set(rows[rows["correct"] == rarer].groupby(["method", "reader", "trained_on", "scored"]).size()) == {24}
    table = differences.of_grid(rows, ["a", "b"], TASKS)
    assert (
        (table["n_rarer"] == 24).all()
        and (table["says"] == FEW).all()
        and table[["estimate", "low", "high", "p", "p_holm"]].isna().all(axis=None)
    )
    assert "nan" not in differences.differences_html(table) + differences.differences_sentences(table)


def test_a_missing_method_or_model_leaves_out_what_needs_it():
    rows = planted(lambda *_: 1.0)
    probes = differences.of_grid(rows[rows["method"] == "probe"], ["a", "b"], TASKS)
    assert METHOD not in set(probes["kind"]) and NATIVE in set(probes["kind"])
    alone = rows[(rows["method"] == "probe") & (rows[["reader", "trained_on", "scored"]] == "a").all(axis=1)]
    for few in (rows.iloc[:0], pd.concat([alone, alone.assign(scored="b")])):
        nothing = differences.of_grid(few, ["a", "b"], TASKS)
        says = differences.differences_sentences(nothing)
        assert nothing.empty and says.endswith("no two estimators of the kinds compared here score the same answers.")
        assert differences.differences_html(nothing) == ""


def test_chart_table_and_findings_say_the_same():
    table = differences.of_grid(planted(lambda method, *_: 2.0 if method == "probe" else 0.5), ["a", "b"], TASKS)
    text = differences.differences_sentences(table)
    assert "**Probe − LoRA + Prompt**: 6 above of 6" in text and "4 exploratory of 4" in text
    one = differences.differences_sentences(table[table["kind"] == METHOD].iloc[:1].assign(estimate=-0.06))
    assert one.endswith("of 1; the differences are −0.06.")
    html, chart = differences.differences_html(table), differences.differences_chart(table).to_dict()
    values = [line for lines in chart["datasets"].values() for line in lines]
    assert f"cells, {len(table)} in all, 6 of them significant, " in chart["description"]
    assert len(values) == len(table) and all(style.signed(value, 3) in html for value in table["estimate"])
    assert html.count("<td>exploratory</td>") == 4 and "<td>A and B</td>" in html


@pytest.mark.slow
def test_the_axis_is_as_wide_as_what_is_shown():
    table = differences.of_grid(planted(lambda *_: 1.0), ["a", "b"], TASKS)
    table["reading"] = table["reading"].where(table["kind"] == differences.READER, "A")
    table = pd.concat([table.assign(low=-0.02, high=0.05), table.assign(low=-0.4, high=0.4, test_set="few answers")])
    spec, axes = differences.differences_chart(table).to_dict(), []
    for test_set in table["test_set"].unique():
        next(param for param in spec["params"] if param["name"] == "test_set")["value"] = test_set
        axes += re.findall(r"linear scale with values from (\S+) to ([\d.]+)", vl_convert.vegalite_to_svg(spec))
    assert axes == [("\N{MINUS SIGN}0.02", "0.05"), ("\N{MINUS SIGN}0.4", "0.4")]


@pytest.mark.slow
@pytest.mark.parametrize("reading", "AB")
def test_the_chart_shows_what_both_readings_have_in_each(reading):
    spec = differences.differences_chart(differences.of_grid(planted(lambda *_: 1.0), ["a", "b"], TASKS)).to_dict()
    next(param for param in spec["params"] if param["name"] == "reading")["value"] = reading
    svg = vl_convert.vegalite_to_svg(spec)
    assert svg.count('aria-roledescription="point"') == 4 + 4 + 4 and "Reading: A and B" in svg
