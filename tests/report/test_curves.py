"""The curves hold every point that was measured, and are valid Vega-Lite."""

import re

import altair as alt
import numpy as np
import pandas as pd
import pytest
import vl_convert

from made_up import make_rows
from whoknows.evaluation import scores
from whoknows.report.pages import cell, controls, style


def test_the_layer_curve_rings_the_best_point():
    search = [
        {"layer": layer, "strength": s, "validation_auroc": 0.5 + layer / 10 - s}
        for layer in range(3)
        for s in (0.01, 0.1)
    ]
    spec = cell.layer_curve(search).to_dict()
    lines, ring = (spec["datasets"][layer["data"]["name"]] for layer in spec["layer"])
    assert len(lines) == 6
    assert ring == [{"layer": 2, "strength": 0.01, "validation_auroc": 0.69}]


def test_the_training_curve_shows_loss_and_auroc():
    history = [
        {"step": 4, "loss": 0.7, "validation_auroc": 0.5, "seconds": 2.0},
        {"step": 8, "loss": 0.6, "validation_auroc": 0.6, "seconds": 3.5},
    ]
    spec = cell.training_curve(history).to_dict()
    assert [panel["encoding"]["y"]["field"] for panel in spec["hconcat"]] == ["loss", "validation_auroc"]
    svg = vl_convert.vegalite_to_svg(spec)
    assert svg.count('aria-label="Step: 8; Training loss: 0.6; AUROC on validation: 0.6; Seconds: 3.5; "') == 2, (
        "a screen reader hears what a tooltip says"
    )
    assert history in list(spec["datasets"].values())


@pytest.mark.parametrize("count", [2, 3, 24])
def test_a_method_has_one_hue_and_no_two_models_have_one_shape_and_dash(count):
    lines = [
        {
            "scored": f"m{at}",
            "depth": depth,
            "layer": depth * 4,
            "validation_auroc": 0.5 + at / 40,
            "chosen": depth == 1,
        }
        for at in range(count)
        for depth in (0, 1)
    ]
    svg = vl_convert.vegalite_to_svg(controls.layers_chart(pd.DataFrame(lines)).to_dict())
    assert set(re.findall(r'aria-roledescription="line mark"[^>]* stroke="([^"]+)"', svg)) == {style.hue("probe")}
    names = [line["scored"] for line in lines[::2]]
    drawn = zip(style.shapes(names).to_dict()["range"], map(tuple, style.dashes(names).to_dict()["range"]))
    assert len(set(drawn)) == count


def test_a_tooltip_says_nothing_of_what_is_not_there():
    drawn = pd.DataFrame({"n_right": [1234, 5], "low": [0.12345, None], "says": ["above", ""], "some_thing": [1e-5, 2]})
    chart = style.tipped(alt.Chart(drawn), *drawn, some_thing="Thing").mark_point().encode(x="n_right:Q")
    heard = re.findall(r'aria-label="([^"]+)" role="graphics-symbol"', vl_convert.vegalite_to_svg(chart.to_dict()))
    assert heard == [
        "Right answers: 1,234; Interval from: 0.123; Verdict: above; Thing: 0.00001; ",
        "Right answers: 5; Thing: 2; ",
    ]


def test_a_single_look_has_its_own_value_on_the_axis_and_not_the_nearest_whole_number():
    svg = vl_convert.vegalite_to_svg(
        cell.training_curve([{"step": 4, "loss": 0.692, "validation_auroc": 0.53, "seconds": 1.0}]).to_json()
    )
    assert {">0.692</text>", ">0.53</text>"} <= {*re.findall(r">[^<>]*</text>", svg)} and ">1</text>" not in svg


def test_a_task_of_one_grade_is_in_no_curve_as_in_no_area():
    logit, tasks = np.arange(cell.POINTS) % 7, ["sciq", "trivia_qa"]
    graded = {"sciq": np.arange(cell.POINTS) % 3 == 0, "trivia_qa": np.zeros(cell.POINTS)}
    rows = pd.concat([make_rows(logit, correct, task) for task, correct in graded.items()], ignore_index=True)
    drawn = cell.curves(rows, [{"name": task, "role": "train"} for task in tasks])
    risk = drawn[drawn["curve"] == "risk"].groupby("test_set")["y"].mean()
    area = scores.within_task(scores.by_task(rows), tasks)["aurc"].item()
    assert risk.to_dict() == pytest.approx({"in-distribution": area, "sciq": area})


def test_an_infinite_confidence_has_its_place_in_every_curve():
    logit, correct = np.array([np.inf, 2, 1, -1, -np.inf]), [True, False, True, True, False]
    table = cell.curves(make_rows(logit, correct), [{"name": "trivia_qa", "role": "train"}])
    finite = cell.curves(make_rows(np.clip(logit, -99, 99), correct), [{"name": "trivia_qa", "role": "train"}])
    pd.testing.assert_frame_equal(table, finite)
    assert {"roc", "risk"} <= {*table["curve"]}
