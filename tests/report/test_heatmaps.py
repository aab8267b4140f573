"""Colours and words of the heatmaps, and the sentences and tables beside them."""

import json
import re
from pathlib import Path

import altair as alt
import numpy as np
import pandas as pd
import pytest

from made_up import make_rows
from whoknows.evaluation.bootstrap import EXPLORATORY, hypothesis
from whoknows.evaluation.cells import heatmap_axes
from whoknows.report.pages import cell, claims, differences, heatmaps, style

ROOT = Path(__file__).parents[2]


def channels(colour):
    return [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]


def bright(rgb):
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    return float(linear @ [0.2126, 0.7152, 0.0722])


def contrast(one, other):
    dark, light = sorted(bright(np.array(channels(colour))) for colour in (one, other))
    return (light + 0.05) / (dark + 0.05)


@pytest.mark.parametrize("page, ink", [("#ffffff", style.INK), ("#121212", "#ced6dd"), ("#14181e", "#ced6dd")])
def test_marks_and_text_have_contrast_with_the_page(page, ink):
    assert min(contrast(colour, page) for colour in [*style.HUES.values(), *style.BLUES, style.GREY]) >= 3
    assert contrast(ink, page) >= 4.5
    css = (ROOT / "book/_static/page.css").read_text()
    assert all(f'svg.marks [{what}="{style.INK}"] {{\n  {what}: #ced6dd;' in css for what in ("fill", "stroke"))


def test_a_hue_is_one_kind_of_method_and_every_colour_is_in_the_palette():
    assert len({*style.HUES.values(), style.GREY, *style.RAMP, style.INK}) == 5 + 1 + 5 + 1
    assert [style.family(m) for m in ("probe", "likelihood", "entropy_max", "embedder")] == [
        "Probe",
        "Token probabilities, sampled answers",
        "Token probabilities, sampled answers",
        style.CONTROL,
    ]
    known = set(re.findall("#[0-9a-f]{6}", (ROOT / "lib/whoknows/report/pages/style.py").read_text()))
    for path in [*(ROOT / "lib/whoknows").rglob("*.py"), ROOT / "book/_static/charts.js"]:
        assert set(re.findall("[\"'](#[0-9a-fA-F]{6})[\"']", path.read_text())) <= known, path.name


def test_text_is_readable_on_every_colour():
    luminance = []
    for place in np.linspace(0, 1, 101):
        ink = "#000" if place > style.black_from() else "#fff"
        at = place * (len(style.RAMP) - 1)
        stops = [channels(colour) for colour in style.RAMP]
        luminance.append(bright(np.array([np.interp(at, range(len(stops)), channel) for channel in zip(*stops)])))
        contrast = 1.05 / (luminance[-1] + 0.05) if ink == "#fff" else (luminance[-1] + 0.05) / 0.05
        assert contrast >= 4.5, f"{ink} at {place}"
    assert all(np.diff(luminance) > 0), "higher values must be lighter"


def test_the_colour_bar_holds_all_values_and_chance_where_there_is_one():
    assert style.colour_domain(pd.Series([0.62, 0.78, np.nan]), 0.5) == (0.5, pytest.approx(0.8))
    assert style.colour_domain(pd.Series([0.43, 0.55]), 0.5) == (pytest.approx(0.4), pytest.approx(0.55))
    assert style.colour_domain(pd.Series([0.071, 0.098])) == (pytest.approx(0.07), pytest.approx(0.1)), (
        "or all of them would look alike"
    )
    low, high = style.colour_domain(pd.Series([np.nan]))
    assert low < high


def test_the_figure_is_as_its_description_reads_it():
    values = claims.figure().set_index(["method", "model", "trained_on"])["auroc"]
    assert values["probe", "Mistral", "LLaMA-2"] == 0.70
    assert values["lora_prompt", "LLaMA-2", "Mistral"] == 0.70
    assert len(values) == 8


def test_broken_runs_of_the_released_results_are_missing_and_no_others():
    released = claims.released()
    broken = released[released["auroc"].isna()]
    assert set(zip(broken["reading"], broken["method"])) == {("B", "probe")}
    assert (broken["model"] != broken["trained_on"]).all() and len(broken) == 2
    assert broken["reason"].str.contains("a broken run").all()
    a = released[released["reading"] == "A"].set_index(["method", "model", "trained_on"])["auroc"]
    assert a["probe", "LLaMA-2", "Mistral"] == 0.6866, "Mistral's estimator judges LLaMA-2's answers"


def cells(probe, lora):
    """A table over two models, from values in the order of its places; NaN is missing."""
    lines = [
        (method, r, t, s, value)
        for method, values in {"probe": probe, "lora_prompt": lora}.items()
        for (r, t, s), value in zip([("a", "a", "a"), ("a", "a", "b"), ("b", "b", "a"), ("b", "b", "b")], values)
    ]
    table = pd.DataFrame(lines, columns=["method", "reader", "trained_on", "scored", "auroc"])
    table = table.assign(
        test_set="in-distribution", n_right=[30, 40, 30, 40] * 2, reason="", ece=0.1, accuracy=0.2, pooled_auroc=0.5
    )
    return heatmap_axes(table, "A")


NO_PRIMARY = pd.Series(dtype=float)


def test_the_answer_is_computed():
    table = cells([0.8, 0.7, 0.6, 0.7], [0.7, 0.7, np.nan, 0.75]).assign(
        low=[0.6, 0.6, 0.45, 0.6, 0.5, 0.6, np.nan, 0.6], high=0.9, p_chance=[0.001] * 4 + [0.03, 0.06, np.nan, 0.001]
    )
    lead, _, how_well, *how_sure = heatmaps.heatmaps_sentences(table, NO_PRIMARY).splitlines()
    assert lead == "In the view shown first (in-distribution test questions):"
    assert how_well == (
        "- **Significantly better than chance in 5 of 7 cells**: **Probe** reaches an AUROC of 0.60 to 0.80 and "
        "**LoRA + Prompt** reaches an AUROC of 0.70 to 0.75."
    )
    assert how_sure == [
        "- The cells rest on 30 to 40 right answers, so that their 95 % intervals are 0.30 to 0.45 wide.",
        "- The probe is higher than LoRA + Prompt in 1 of 3 cells that have both.",
    ]


@pytest.mark.parametrize(
    "lora, p, words",
    [
        (0.7, [], "higher than LoRA + Prompt."),
        (0.9, [0.2], "not higher than LoRA + Prompt. The difference is a primary hypothesis, and not significant."),
        (0.7, [0.01], "higher than LoRA + Prompt. The difference is a primary hypothesis, and significant."),
    ],
)
def test_one_cell_is_spoken_of_as_one(lora, p, words):
    table = cells([0.8] + [np.nan] * 3, [lora] + [np.nan] * 3)
    name = hypothesis({("probe", "a", "a", "a"): 1.0, ("lora_prompt", "a", "a", "a"): -1.0})
    text = heatmaps.heatmaps_sentences(table, pd.Series(p, [name] * len(p), dtype=float))
    assert text.endswith(f"- In the one cell that has both, the probe is {words}")


def test_the_sentences_name_the_view_that_they_speak_of_whatever_the_switches_show():
    table = cells([0.8] * 4, [0.7] * 4)
    both = pd.concat([table, heatmap_axes(table.drop(columns=["model", "reading"]), "B")], ignore_index=True)
    others = both.assign(test_set="shift", auroc=0.9)
    text = heatmaps.heatmaps_sentences(pd.concat([both, others], ignore_index=True), NO_PRIMARY)
    assert text.startswith("In the view shown first (reading A, in-distribution test questions):\n\n- **")
    assert "0.80" in text and "0.90" not in text
    shifted = heatmaps.heatmaps_sentences(others, NO_PRIMARY)
    assert shifted.startswith("In the view shown first (reading A, shift test questions):") and "0.90" in shifted


def test_below_zero_stands_a_true_minus():
    assert style.number(-0.1234) == "\N{MINUS SIGN}0.123" and style.signed(-0.1) == "\N{MINUS SIGN}0.10"
    assert style.interval_text(-0.2, 0.1) == "\N{MINUS SIGN}0.20 – 0.10"
    assert style.with_interval([-0.1], [-0.2], [0.1], digits=1) == ["\N{MINUS SIGN}0.1 (\N{MINUS SIGN}0.2 – 0.1)"]
    table = pd.DataFrame({"auroc": [0.7], "prr": [-0.25], "low_prr": [-0.5], "high_prr": [0.5]})
    table = table.reindex(columns=[*table, *style.COLUMNS]).loc[:, lambda t: ~t.columns.duplicated()]
    assert style.metric_columns(table, {})[style.COLUMNS["prr"]][0] == (
        "\N{MINUS SIGN}0.250<br/><small>\N{MINUS SIGN}0.500 – 0.500</small>"
    )


def test_counts_have_their_thousands_separated():
    table = cells([0.8, 0.7, 0.6, 0.9], [0.7] * 4).assign(n_right=1234)
    assert {*heatmaps.with_labels(table, 2)["note"]} == {"1,234 right"}
    assert style.span(950, 1131) == "950 to 1,131" and style.span("0.50", "0.60") == "0.50 to 0.60"
    tip = style.tipped(alt.Chart(table), "n_right").mark_point().to_dict()["transform"][0]["calculate"]
    assert "format(datum[\"n_right\"], datum[\"n_right\"] % 1 ? '.3~r' : ',')" in tip


def test_what_is_shown_as_zero_has_no_sign():
    values = [style.signed(value, 3) for value in (-0.0004, 0.0004, 0.0, -0.0006, 0.0006)]
    assert values == ["0.000", "0.000", "0.000", "−0.001", "+0.001"]
    assert [style.signed(value) for value in (-0.004, 0.0061, -0.0061)] == ["0.00", "+0.01", "−0.01"]
    ends = [-0.0001], [-0.0002], [0.12]
    assert style.with_interval(*ends, "+") == ["0.000 (0.000 to +0.120)"]
    assert style.with_interval(*ends) == ["0.000 (0.000 – 0.120)"] and style.interval_text(-0.001, 0.2) == "0.00 – 0.20"
    assert style.with_interval(*ends, "+", 1, " points") == ["0.0 points (0.0 to +0.1)"]
    assert style.interval_column(pd.DataFrame({"low": [-0.0001], "high": [0.2]})) == ["0.000 to +0.200"]


def test_the_values_of_the_answer_lead_to_the_pages_of_their_cells():
    table = cells([0.8, 0.7, 0.6, 0.7], [0.7, 0.701, np.nan, 0.7]).assign(n=90)
    text = heatmaps.heatmaps_sentences(table, NO_PRIMARY, links=True)
    probe = '<a href="run/cell-probe_b_b.html?scored=a">0.60</a> to <a href="run/cell-probe_a_a.html?scored=a">0.80</a>'
    assert f"**Probe** reaches an AUROC of {probe} and " in text
    assert re.findall(r"lora_prompt_(\w_\w.html.scored=\w).>([.\d]+)<", text) == [("a_a.html?scored=b", "0.70")]


def test_the_answer_from_nothing():
    nothing = cells([np.nan] * 4, [np.nan] * 4).assign(n=np.nan)
    assert heatmaps.heatmaps_sentences(nothing, NO_PRIMARY) == "Nothing is measured yet."
    elsewhere = cells([0.8] * 4, [0.7] * 4).assign(test_set="shift", n=90)
    for n, why in ((6, "too few right or wrong answers"), (np.nan, "nothing is measured there")):
        text = heatmaps.heatmaps_sentences(pd.concat([nothing.assign(n=n), elsewhere]), NO_PRIMARY)
        assert text == f"On in-distribution test questions no cell has a value: {why}."
    one = cells([0.8] * 4, [np.nan] * 4)
    assert "**LoRA + Prompt** has no measured cell" in heatmaps.heatmaps_sentences(one, NO_PRIMARY)


def test_the_tables_say_what_the_heatmaps_say():
    html = heatmaps.heatmaps_html(cells([0.8, 0.7, 0.6, np.nan], [0.7] * 4), ["a", "b"])
    probe = html.split("<caption>LoRA")[0]
    assert [part.split("</td>")[0] for part in probe.split("<td>")[1:]] == [
        "0.80 (30 right)",
        "0.60 (30 right)",
        "0.70 (40 right)",
        "—",
    ]


def test_the_tables_say_how_far_seeds_are_apart_where_there_are_more_than_one():
    table = cells([0.8] * 4, [0.7] * 4).assign(
        low=0.6, high=0.9, lowest_seed=0.75, highest_seed=0.85, seeds=[3] * 4 + [1] * 4
    )
    html = heatmaps.heatmaps_html(table, ["a", "b"])
    assert "0.80 (0.60 – 0.90, 30 right, by seed 0.75 – 0.85)" in html and "0.70 (0.60 – 0.90, 30 right)" in html


@pytest.mark.parametrize("count, sets", [(1, 1), (2, 1), (12, 1), (12, 10)])
def test_a_chart_is_valid_for_few_models_and_for_many(count, sets):
    import vl_convert

    models = [f"m{i}" for i in range(count)]
    lines = [
        (f"set{at}", m, reading, a, b, 0.63)
        for at in range(sets)
        for m in ("probe", "lora_prompt")
        for reading in "AB"
        for a in models
        for b in models
    ]
    table = pd.DataFrame(lines, columns=["test_set", "method", "reading", "model", "trained_on", "auroc"])
    chart = heatmaps.heatmaps_chart(table.assign(n_right=50, reason=""), models, "x")
    svg = vl_convert.vegalite_to_svg(chart.to_dict())
    assert svg.count(">0.63</text>") == 2 * count * count, "which no step of a colour bar is"


@pytest.mark.parametrize("count", [2, 6])
def test_names_that_differ_at_their_end_alone_are_told_apart(count):
    import vl_convert

    models = [f"Meta-Llama-3.1-8B-Instruct-24{at:02}" for at in range(count)]
    lines = [(reading, f"{a}\nread by {a}", a, b) for reading in ("A", "all") for a in models for b in models]
    table = pd.DataFrame(lines, columns=["reading", "model", "scored", "trained_on"])
    table["model"] = table["model"].where(table["reading"] == "all", table["scored"])
    table = table.assign(method="probe", test_set="in-distribution", auroc=0.63, n_right=50, reason="")
    for reading, rows in table.groupby("reading"):
        svg = vl_convert.vegalite_to_svg(heatmaps.heatmaps_chart(rows, models, "x").to_dict())
        labels = re.findall("(?:<text[^>]*>|<tspan[^>]*>)([^<]+)", svg)
        assert not [text for text in labels if "…" in text]
        for model in models:
            ends = sum(text.endswith(model[-4:]) for text in labels)
            assert ends == (3 if reading == "all" else 2), "in its row and its column, and again as its reader"


def test_a_word_longer_than_a_line_is_broken_after_its_hyphens_and_no_other_is():
    assert style.broken("Self-trained − cross-trained", 20) == "Self-trained −\ncross-trained"
    assert style.broken("Meta-Llama-3.1-8B-Instruct\nread by a-b", 20) == "Meta-Llama-3.1-\n8B-Instruct\nread by a-b"


def test_a_last_panel_has_what_needs_no_training_once_in_each_row_and_one_colour_bar_serves_all():
    import vl_convert

    counts = {"n": 60, "n_tasks": 2, "of_tasks": 2, "low": 0.5, "high": 0.9, "seeds": 1}
    counts |= {"lowest_seed": 0.5, "highest_seed": 0.5, "unsettled": ""}
    table = cells([0.81, 0.72, 0.63, 0.74], [0.85, 0.76, 0.67, 0.78]).assign(**counts)
    plain = pd.DataFrame(
        [
            ("likelihood", "", "a", 0.91),
            ("likelihood", "", "b", 0.59),
            ("zero_shot", "a", "a", 0.41),
            ("zero_shot", "b", "a", 0.42),
            ("zero_shot", "b", "b", 0.43),
        ],
        columns=["method", "reader", "scored", "auroc"],
    ).assign(trained_on="", test_set="in-distribution", n_right=30, reason="", **counts)
    lines = heatmaps.untrained(table, plain, "likelihood")
    assert [*zip(lines["model"], lines["trained_on"], lines["auroc"])] == [
        ("a", "no training", 0.91),
        ("b", "no training", 0.59),
    ]
    assert heatmaps.untrained(table, plain, "zero_shot")["auroc"].tolist() == [0.41, 0.43], "each reads its own answers"
    html = heatmaps.heatmaps_html(table, ["a", "b"], True, lines)
    tables = re.findall(r"<caption>(.*?),.*?(<tbody>.*?</tbody>)", html, re.DOTALL)
    assert [name for name, _ in tables] == ["Probe", "LoRA + Prompt", "Answer likelihood"]
    assert re.findall(r"<td>(0\.\d\d) ", tables[-1][1]) == ["0.91", "0.59"] and html.count("<th>no training</th>") == 1
    assert "<a " not in tables[-1][1] and tables[0][1].count("<a ") == 4
    spec = heatmaps.heatmaps_chart(table, ["a", "b"], "x", True, lines).to_dict()
    svg = vl_convert.vegalite_to_svg(spec)
    assert all(svg.count(f">{value}</text>") == 1 for value in ("0.91", "0.59", "0.81", "0.85"))
    assert svg.count(">Answer likelihood</text>") == 1 and svg.count(">no training</text>") == 1
    assert svg.count("role-legend-gradient") == 1
    ends = [f">{value}</text>" in svg for value in ("0.500", "0.725", "0.950")]
    assert ends == [True] * 3, "the colour bar says where it ends"
    fills = dict(re.findall(r'aria-label="([^,"]+, AUROC [\d.]+),[^>]*fill="([^"]+)"', svg))
    assert len({*fills.values()}) == len(fills) == 10, "no value lies beyond the colour bar of all panels"
    assert min(map(float, re.findall(r'font-size="([\d.]+)px"', svg))) >= 12
    assert svg.count("When training ended: at its plateau") == 8, "what was not trained has no end of training"
    assert svg.count("<a ") >= 8 and not re.search("<a [^>]*likelihood", svg), "it has no page of its own"


def heard(table):
    """What a screen reader says of the cells that are drawn first."""
    import vl_convert

    return re.findall(
        r'<path aria-label="([^"]+)" role="graphics-symbol"',
        vl_convert.vegalite_to_svg(heatmaps.heatmaps_chart(table, ["a", "b"], "x").to_dict()),
    )


def test_a_cell_says_its_value_as_the_page_does_and_its_counts_as_they_are():
    values = [0.80249999, 0.7, np.nan, 0.8025001]
    table = cells(values, [0.7] * 4).assign(
        n=704,
        n_right=96,
        accuracy=0.15,
        n_tasks=2,
        of_tasks=2,
        low=0.6,
        high=0.9,
        lowest_seed=0.7,
        highest_seed=0.8,
        seeds=1,
    )
    table["reason"] = ["", "", "no rows", ""] + [""] * 4
    labels = heard(table)
    assert len(labels) == 8 and not any("ink" in label or "null" in label or "15" in label for label in labels)
    assert sum("96 of 704 (13.6\u00a0%)" in label for label in labels) == 8
    (missing,) = [label for label in labels if "Missing because" in label]
    assert missing.startswith("Probe, AUROC —") and "no rows" in missing
    ends = [label for label in labels if label.startswith("Probe, AUROC 0.80")]
    assert [label.split(",")[1] for label in ends] == [f" AUROC {value:.3f}" for value in (0.80249999, 0.8025001)]


def test_no_switch_draws_one_heatmap_twice():
    three = pd.concat(
        [cells([0.8] * 4, [0.7] * 4), cells([0.6] * 4, [0.7] * 4).query("method == 'probe'").assign(method="probe_mlp")]
    )
    (pair,) = [
        param
        for param in heatmaps.heatmaps_chart(three, ["a", "b"], "x").to_dict()["params"]
        if param["name"] == "pair"
    ]
    assert pair["value"] == "probe lora_prompt" and len(pair["bind"]["options"]) == 3
    assert all(len(set(option.split())) == 2 for option in pair["bind"]["options"])


def test_values_that_are_not_shown_leave_the_colours_alone():
    table = pd.concat(
        [
            cells([0.8] * 4, [0.7] * 4).assign(ece=[0.02, 0.03, 0.04, 0.05] * 2),
            cells([0.8] * 4, [0.7] * 4).assign(ece=0.5, reading="B"),
        ]
    )
    (domains,) = [
        param["value"]
        for param in heatmaps.heatmaps_chart(table, ["a", "b"], "x").to_dict()["params"]
        if param["name"] == "domains"
    ]
    assert domains["ece"]["in-distribution"]["A"] == {"probe": [0.02, 0.05], "lora_prompt": [0.02, 0.05]}


def test_a_cell_says_over_how_many_tasks_it_is_where_some_are_missing():
    table = cells([0.8, 0.7, 0.6, np.nan], [0.7] * 4).assign(of_tasks=57, n_tasks=[57, 31, 57, 0] + [57] * 4)
    assert heatmaps.with_labels(table, 2)["note"].tolist()[:4] == ["30 right", "40 right, 31/57", "30 right", ""]


def test_only_the_chosen_grading_is_drawn():
    import vl_convert

    parts = [
        cells([value] * 4, [value + 0.1] * 4).assign(grading=grading)
        for grading, value in (("strict", 0.6), ("kind", 0.8))
    ]
    chart = heatmaps.heatmaps_chart(pd.concat(parts, ignore_index=True), ["a", "b"], "x").to_dict()
    described = "Probe: 0.60 to 0.60, 0 missing. LoRA + Prompt: 0.70 to 0.70, 0 missing."
    assert chart["description"].endswith(described), "in words as it opens"
    (switch,) = [param for param in chart["params"] if param["name"] == "grading"]
    assert switch["value"] == "strict" and switch["bind"]["options"] == ["strict", "kind"]
    for value, shown, hidden in (("strict", (0.6, 0.7), (0.8, 0.9)), ("kind", (0.8, 0.9), (0.6, 0.7))):
        switch["value"] = value
        svg = vl_convert.vegalite_to_svg(chart)
        assert all(svg.count(f">{number:.2f}</text>") >= 4 for number in shown)
        assert all(svg.count(f">{number:.2f}</text>") <= 2 for number in hidden), "no more than the colour bars say"


def test_differences_have_rows_for_what_is_shown_alone():
    import vl_convert

    names = {"A": ["one", "two"], "B": ["three", "four", "five"], "A and B": ["six"]}
    lines = [
        {
            "kind": "kind",
            "reading": reading,
            "what": what,
            "test_set": test_set,
            "estimate": 0.1,
            "low": 0.0,
            "high": 0.2,
        }
        for reading, own in names.items()
        for what in own
        for test_set in ("first", "second")
    ]
    table = pd.DataFrame(lines)[lambda lines: (lines["what"] != "two") | (lines["test_set"] == "second")]
    spec = differences.differences_chart(
        table.assign(p=0.5, p_holm=np.nan, says=EXPLORATORY, hypothesis="", n_rarer=40, unsettled="")
    ).to_dict()
    switches = {param["name"]: param for param in spec["params"]}
    for reading, test_set, rows in (
        ("A", "first", ["one", "six"]),
        ("A", "second", ["one", "two", "six"]),
        ("B", "first", ["three", "four", "five", "six"]),
    ):
        switches["reading"]["value"], switches["test_set"]["value"] = reading, test_set
        svg = vl_convert.vegalite_to_svg(spec)
        assert sorted(re.findall(">(one|two|three|four|five|six)</text>", svg)) == sorted(rows) and svg.count(
            'aria-roledescription="point"'
        ) == len(rows)


@pytest.mark.slow
@pytest.mark.parametrize("scored, sets", [(1, 1), (12, 21)])
def test_the_curves_of_a_cell_are_drawn_whole_for_few_models_and_for_many(scored, sets):
    import vl_convert

    rng, parts = np.random.default_rng(0), []
    for task in (f"task{at}" for at in range(sets)):
        for model in (f"m{at}" for at in range(scored)):
            parts.append(
                make_rows(
                    rng.normal(size=60),
                    rng.random(60) < 0.5,
                    task,
                    method="probe",
                    reader="m0",
                    trained_on="m0",
                    scored=model,
                )
            )
    table = cell.curves(pd.concat(parts), [{"name": f"task{at}", "role": "train"} for at in range(sets)])
    assert len(table) > 5000 or scored == 1
    spec = cell.curves_chart(table, "x", "m0", "m0").to_dict()
    svg = vl_convert.vegalite_to_svg(spec)
    assert ">m0 trained on m0,<" in svg and ">scored on m0 ·<" in svg and ">in-distribution test questions<" in svg
    first = table[(table["scored"] == "m0") & (table["test_set"] == "in-distribution")]
    logits = pd.concat(parts).query("scored == 'm0'")["logit"].astype(float)
    bins = {int(10 / (1 + np.exp(-logit))) for logit in logits}
    assert svg.count('aria-roledescription="point"') == (first["curve"] == "reliability").sum() == len(bins), (
        "its rows have no validation answers to scale by"
    )
    longest = max(re.findall(r' d="M([^"Z]+)"', svg), key=lambda path: path.count("L"))
    assert longest.count("L") + 1 == (first["curve"] == "roc").sum()
    assert len(json.dumps(spec)) < 4000 * len(table.groupby(["scored", "test_set"])) + 20_000
