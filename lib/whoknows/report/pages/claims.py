"""What the description of the figure claims, tested on its own numbers, the released results and the measured ones.

A claim says that differences are above zero, in a figure that gives values in steps. What is measured here can
contradict it in two ways: a difference is below zero, or so small that no such figure could show it. Both are one test,
of a difference of at least half a step (`margin`), the smallest effect size of interest (Lakens, Scheel and Isager,
2018). So "fails" means that the interval ends below the margin, "holds" that it begins above zero and does not end
below the margin, and a claim of no visible difference has a verdict with enough questions too. The chart, the table and
the sentences show what `evaluate` returns, and `verdicts` of it.
"""

import itertools
from collections import Counter
from dataclasses import dataclass
from functools import cache, partial

import altair as alt
import numpy as np
import pandas as pd

from whoknows.data import files
from whoknows.data.files import ROOT
from whoknows.data.methods import METHOD_TITLES
from whoknows.evaluation import bootstrap, scores
from whoknows.evaluation.auroc import MIN_PER_CLASS
from whoknows.evaluation.bootstrap import ALPHA
from whoknows.evaluation.cells import COMPARED, READINGS, first_test_set, heatmap_axes, measure, named
from whoknows.evaluation.plateau import IMPROVING, RELEASED
from whoknows.report.pages import style
from whoknows.report.pages.style import GREY, INK, tipped

DATA = ROOT / "book" / "data"
MODELS = ["Mistral", "LLaMA-2"]
NAMES = {"mistral-7b": "Mistral", "llama2-7b": "LLaMA-2"}


def figure() -> pd.DataFrame:
    """The eight values that the description reads off the figure, which does not say which reading its axes mean."""
    values = pd.read_csv(DATA / "figure.csv").rename(columns={"value": "auroc"})
    return values.assign(reading="figure", test_set="open-ended MMLU", reason="", note="")


def released() -> pd.DataFrame:
    """The same cells from the per-task results that Kapoor et al. (2024) released, on 57 MMLU tasks, in both readings.

    A cell that is exactly 0.5 on most tasks comes from a run that broke, so it is missing, and its reason says what was
    released.
    """
    values = pd.read_csv(DATA / "kapoor2024_open_ended_mmlu.csv")
    values = values.replace(dict.fromkeys(("reader", "trained_on", "scored"), NAMES))
    broken = values["share_of_tasks_at_exactly_0.5"] > 0.5
    shares = values["share_of_tasks_at_exactly_0.5"].map(style.percent)
    counts = zip(values["auroc_macro"], shares, values["n_tasks"])
    texts = [f"released as {auroc:.4f}, exactly 0.5 on {share} of {n} tasks" for auroc, share, n in counts]
    values["reason"] = [f"{text}: a broken run" if bad else "" for text, bad in zip(texts, broken)]
    values["auroc"] = values["auroc_macro"].mask(broken)
    values["note"] = [f"{n} tasks" for n in values["n_tasks"]]
    values["test_set"] = "open-ended MMLU"
    return pd.concat([heatmap_axes(values, reading) for reading in READINGS], ignore_index=True)


PLACE = ["method", "model", "trained_on"]
HOLDS, FAILS, OPEN = "holds", "fails", "inconclusive"
ZERO = 1e-9  # decimals do not subtract exactly
ROOM = alt.Scale(paddingInner=0.3)  # between the differences of a claim
SOURCES = {"figure": "By its own numbers", "released": "By the released results", "measured": "Measured here"}


@dataclass(frozen=True)
class Claim:
    """A sentence of the description, and the contrasts that are above zero if it is true."""

    claim: str
    says: str
    contrasts: dict[str, dict[str, float]]


def load() -> list[Claim]:
    """The claims of book/claims.yml."""
    return [Claim(**entry) for entry in files.read_yaml(DATA.parent / "claims.yml")]


def roles(rows: pd.DataFrame, models: list[str], tasks: list[str]) -> dict[str, str]:
    """The models that stand for Mistral, the figure's stronger model, and LLaMA-2, the weaker.

    Of the models that read and have an estimator of their own answers, they are the strongest and the weakest, by right
    validation answers: no test answer takes part in the choice of what is tested. One alone is Mistral.
    """
    held = rows[(rows["split"] == "validation") & rows["task"].isin(tasks)]
    held = held[held["method"].isin(COMPARED) & (held["trained_on"] == held["scored"])]  # which every page has
    counted = held.drop_duplicates(["scored", "question_id"]).groupby("scored")["correct"]
    right = counted.sum().reindex(models)
    right = right if right.isna().all() else right.dropna()
    ordered = right.sort_values(kind="stable", ascending=False).index
    return {"Mistral": ordered[0]} | ({"LLaMA-2": ordered[-1]} if len(ordered) > 1 else {})


@cache
def margin() -> float:
    """Half of the smallest step between values of the figure: a smaller difference could not be seen in it."""
    steps = np.diff(np.unique(figure()["auroc"]))
    return float(steps.min() / 2)


def evaluate(
    claims: list[Claim], rows: pd.DataFrame, models: list[str], tasks: list[dict]
) -> tuple[pd.DataFrame, dict[str, str]]:
    """All contrasts by all sources (`by_others`, `primary`), each with a verdict; and what `roles` returns."""
    by_task, samples = scores.by_task(rows, only_auroc=True), bootstrap.samples(rows)
    measured, players = primary(claims, rows, measure(rows, by_task, tasks, samples), samples, models, tasks)
    return pd.concat([by_others(claims), measured], ignore_index=True), players


def by_others(claims: list[Claim]) -> pd.DataFrame:
    """The contrasts in the figure's own numbers and in the released results, which come without intervals."""
    views = [("figure", "figure", figure())]
    views += [("released", reading, view) for reading, view in released().groupby("reading")]
    asked = [(claim.claim, *contrast) for claim in claims for contrast in claim.contrasts.items()]
    parts = []
    for source, reading, view in views:
        values, lines = view.set_index(PLACE)["auroc"], []
        for claim, contrast, weights in asked:
            places = pd.MultiIndex.from_tuples([tuple(place.split("/")) for place in weights])
            lines.append((claim, contrast, [*weights.values()] @ values.reindex(places).to_numpy(float)))
        table = pd.DataFrame(lines, columns=["claim", "contrast", "estimate"])
        table["says"] = np.select([table["estimate"].isna(), table["estimate"] > ZERO], [OPEN, HOLDS], FAILS)
        table["reason"] = np.where(table["estimate"].isna(), "a cell is missing", "")
        parts.append(table.assign(source=source, reading=reading))
    return pd.concat(parts, ignore_index=True)


def primary(
    claims: list[Claim], rows: pd.DataFrame, cells: pd.DataFrame, samples: pd.DataFrame, models: list[str],
    tasks: list[dict],
) -> tuple[pd.DataFrame, dict[str, str]]:  # fmt: skip
    """The primary hypotheses of a run: the contrasts of the claims on the first test set, in both readings.

    All other comparisons are exploratory. With one model of `roles`, both readings are the same, and claims that
    compare it with another are left out.

    Returns:
        (claim, contrast, source ("measured"), reading, cells (all names of each, in words); hypothesis, estimate and
        n_rarer as `bootstrap.contrasts` returns; low, high, p (of a difference of zero, two-sided), p_margin (of one of
        at least `margin`), p_holm and p_margin_holm (corrected together, over all distinct hypotheses of both kinds and
        both readings), says and reason; what `roles` returns).
    """
    label, members = first_test_set(tasks, rows)
    players = roles(rows, models, members)
    measured, draws = cells[cells["test_set"] == label].set_index(scores.CELL), bootstrap.by_cell(samples, members)
    lines, asked = [], []
    readings = [*READINGS] if len(players) > 1 else ["A"]
    # Of the claims, those with a contrast that is about the models that there are.
    tested = [one for one in claims if any(_named(weights) <= players.keys() for weights in one.contrasts.values())]
    for reading, claim in itertools.product(readings, tested):
        for name, weights in claim.contrasts.items():
            places = _in_cells(weights, reading, players)
            there = [(cell, weight) for cell, weight in places.items() if any(cell)]
            terms = [f"{weight:+g} {METHOD_TITLES[method]}, {named(*names)}" for (method, *names), weight in there]
            lines.append({
                "claim": claim.claim, "contrast": name, "source": "measured", "reading": reading,
                "directed": bootstrap.written(places), "cells": "; ".join(terms),
            })  # fmt: skip
            asked.append(places)
    values, resampled = bootstrap.contrasts(asked, measured, draws)
    table = pd.DataFrame(lines).join(values).join(bootstrap.interval(pd.DataFrame(resampled)))
    differences = [*zip(table["estimate"], resampled)]
    table["p"] = [bootstrap.p_value(*one) for one in differences]
    table["p_margin"] = [bootstrap.p_below(*one, margin()) for one in differences]
    # Corrected for the family of all distinct hypotheses of both kinds.
    kinds = {"p": "hypothesis", "p_margin": "directed"}
    family = pd.concat([table.drop_duplicates(name).set_index(name)[p] for p, name in kinds.items()], keys=kinds)
    holm = bootstrap.holm(family)
    for p, name in kinds.items():
        table[f"{p}_holm"] = table[name].map(holm[p])
    return _with_verdicts(table.drop(columns="directed")), players


def corrected(*of_run) -> pd.Series:
    """The corrected p-value of every primary hypothesis, by hypothesis; takes what `primary` takes but the claims."""
    table, _ = primary(load(), *of_run)
    return table.drop_duplicates("hypothesis").set_index("hypothesis")["p_holm"]


def verdicts(table: pd.DataFrame) -> pd.DataFrame:
    """A verdict for each claim by each source and reading, from what `evaluate` returns.

    A claim fails where one of its contrasts does, holds where all of them do, and is inconclusive otherwise.
    """

    def verdict(contrasts: pd.Series) -> str:
        return FAILS if (contrasts == FAILS).any() else HOLDS if (contrasts == HOLDS).all() else OPEN

    by_claim = table.groupby(["claim", "source", "reading"], sort=False)["says"]
    return by_claim.agg(verdict).rename("verdict").reset_index()


def _named(weights: dict[str, float]) -> set[str]:
    """The figure's models in a contrast."""
    return {model for place in weights for model in place.split("/")[1:]}


def _in_cells(weights: dict[str, float], reading: str, players: dict[str, str]) -> dict[tuple, float]:
    """The weight of each cell in a contrast of the figure's places, for both of which one model may stand."""
    cells = Counter()
    for place, weight in weights.items() if _named(weights) <= players.keys() else ():
        method, model, column = place.split("/")
        scored, trained_on = players[model], players[column]
        cells[method, trained_on if reading == "A" else scored, trained_on, scored] += weight
    return {cell: weight for cell, weight in cells.items() if weight} or {("", "", "", ""): 1.0}


def _with_verdicts(lines: pd.DataFrame) -> pd.DataFrame:
    few = lines["n_rarer"] < MIN_PER_CLASS
    above, small = (lines["p_holm"] < ALPHA) & (lines["estimate"] > 0), lines["p_margin_holm"] < ALPHA
    why = {
        "no other model reads and has an estimator of its own answers, to stand for LLaMA-2": lines["cells"] == "",
        f"a cell rests on fewer than {MIN_PER_CLASS} right or wrong answers": few,
        "a cell is missing": lines["estimate"].isna(),
        f"a cell was {IMPROVING} when training ended": lines["unsettled"] == IMPROVING,
        "a cell is of a released adapter, whose plateau is not known": lines["unsettled"] == RELEASED,
        f"neither significantly above zero nor below {margin():g}, after Holm's correction": ~(above | small),
    }
    reason = np.select([*why.values()], [*why], "")
    says = np.select([reason != "", small], [OPEN, FAILS], HOLDS)
    return bootstrap.hidden(lines, few).assign(says=says, reason=reason).drop(columns="unsettled")


def contrasts_chart(table: pd.DataFrame) -> alt.Chart:
    """Every claim's differences: measured with interval, and by the figure and the released results."""
    # The weights of the cells are in the table: nobody wants to hear them with every mark.
    drawn = table.drop(columns=["p", "p_margin", "n_rarer", "hypothesis", "cells"]).round(4)
    drawn = style.in_lines(drawn, claim=style.HEADING, contrast=style.LABEL)
    sources = ["the figure", "released", "measured here"]
    drawn["by"] = drawn["source"].map(dict(zip(SOURCES, sources)))
    chosen = style.reading_switch([reading for reading in READINGS if reading in set(drawn["reading"])])
    colours = alt.Scale(domain=sources, range=[GREY, GREY, INK])
    colour = alt.Color("by:N", title=None, scale=colours, legend=alt.Legend(orient="top"))
    shapes = alt.Scale(domain=sources, range=["diamond", "triangle-up", "circle"])
    p_titles = _p_titles()
    titles = {"contrast": "Difference", "reason": "Because"} | p_titles
    tips = ("claim", "contrast", "by", "estimate", "low", "high", *p_titles, "says", "reason")
    base = tipped(alt.Chart(), *tips, **titles)
    base = base.transform_filter("datum.reading === reading || datum.reading === 'figure'")
    # One beneath the other: values of unlike sources are often equal.
    base = base.encode(
        y=alt.Y("contrast:N", title=None, sort=list(drawn["contrast"].unique()), axis=style.NAMES, scale=ROOM),
        yOffset=alt.YOffset("by:N", sort=sources),
    )
    bars = style.interval_bars(base.transform_filter("isValid(datum.low)"), color=colour)
    points = base.transform_filter("isValid(datum.estimate)").mark_point(filled=True, size=55, opacity=1)
    points = points.encode(
        x=alt.X("estimate:Q", title="Difference of AUROC", scale=alt.Scale(padding=8)),
        color=colour,
        shape=alt.Shape("by:N", title=None, scale=shapes),
    )
    chart = alt.layer(style.rule_at(0), style.rule_at(margin(), dash=1), bars, points, data=drawn)
    step = max(9, style.row_step(drawn["contrast"]).step / len(sources))
    chart = chart.properties(width=340, height=alt.Step(step, **{"for": "offset"}))
    chart = chart.facet(row=style.headed(drawn, "claim"), spacing=18).resolve_scale(y="independent").add_params(chosen)
    measured = (table["source"] == "measured") & table["estimate"].notna()
    described = (
        f"Differences of AUROC that each claim rests on; of {measured.sum()} measured ones "
        f"{(measured & (table['says'] != OPEN)).sum()} have a verdict; all values are in the table beneath."
    )
    return style.finished(chart, "contrasts", described)


def _p_titles() -> dict[str, str]:
    return {"p_holm": "p (Holm) of zero", "p_margin_holm": f"p (Holm) of {margin():g} or more"}


def verdicts_html(table: pd.DataFrame) -> str:
    """Claims by source, as HTML."""
    marks = {HOLDS: "✓ holds", FAILS: "✗ fails", OPEN: "?\N{NO-BREAK SPACE}inconclusive"}
    heads = {"figure": "Its own numbers", "released": "Released", "measured": "Measured here"}
    by = [heads[s] + ("" if r == "figure" else f", reading {r}") for s, r in zip(table["source"], table["reading"])]
    wide = table.assign(by=by, says=table["verdict"].map(marks)).pivot(index="claim", columns="by", values="says")
    wide = wide.loc[table["claim"].unique(), list(dict.fromkeys(by))].reset_index().rename(columns={"claim": "Claim"})
    wide = wide.fillna("not tested: it takes two models with estimators of their own")
    return wide.rename_axis(columns=None).to_html(index=False, classes="verdicts")


def contrasts_html(table: pd.DataFrame) -> str:
    """The differences of `contrasts_chart` as an HTML table that folds away."""
    by = (table["source"] + ", " + table["reading"]).str.removesuffix(", figure")
    p_titles = _p_titles()
    forms = {"estimate": partial(style.signed, digits=3)} | dict.fromkeys(p_titles, style.p_text)
    columns = {
        "claim": "Claim", "contrast": "Difference", "by": "By", "cells": "Of the cells", "estimate": "Estimate",
        "interval": "95 % interval", **p_titles, "says": "Verdict", "reason": "Because",
    }  # fmt: skip
    # The weights have a true minus; names of models keep their hyphens.
    cells = table["cells"].str.replace(r"(^|; )-", rf"\g<1>{style.MINUS}", regex=True)
    shown = table.assign(by=by, cells=cells, interval=style.interval_column(table))
    return style.folded("The same numbers as a table", style.columns_html(shown, columns, **forms))


def summary_sentences(verdicts: pd.DataFrame, players: dict[str, str], table: pd.DataFrame) -> str:
    """How many claims hold by each source, and which contradict the description's own numbers, as Markdown."""
    lines, measured = [], table[(table["source"] == "measured") & table["estimate"].notna()]
    for (source, reading), group in verdicts.groupby(["source", "reading"], sort=False):
        counts = group["verdict"].value_counts().reindex([HOLDS, FAILS, OPEN], fill_value=0)
        parts = f"{_count(counts[HOLDS], 'hold')}, {_count(counts[FAILS], 'fail')}, {counts[OPEN]} inconclusive"
        lines.append(f"- {_source(source, reading)}: of {len(group)} claims, {parts}.")
    by_itself = verdicts[(verdicts["source"] == "figure") & (verdicts["verdict"] == FAILS)]
    wrong, paragraphs = [f"“{claim}”" for claim in by_itself["claim"]], ["\n".join(lines)]
    if wrong:
        what = f"{len(wrong)} of its claims: {'; '.join(wrong)}"
        paragraphs.append(f"The description contradicts the values that it lists itself in {what}.")
    standing = (
        f"Here {players['Mistral']} stands for Mistral, and {players['LLaMA-2']} for LLaMA-2: of the models that read "
        "and have an estimator of their own answers, they have the most and the fewest right answers to validation "
        "questions. No other model is in these tests."
        if len(players) > 1
        else f"Here {players['Mistral']} alone reads and has an estimator of its own answers, and stands for Mistral. "
        "What the description claims of two models cannot be compared here, and is not tested."
    )
    distinct, both = measured["hypothesis"].nunique(), ", of both readings," if len(players) > 1 else ""
    hypotheses = "hypothesis" if distinct == 1 else "hypotheses"
    counts = (
        f"The {len(measured)} measured differences{both} are {distinct} distinct primary {hypotheses}. One that is in "
        "several claims or in both readings, or has its sign reversed, counts once."
    )
    paragraphs += [
        standing,
        counts if distinct else "None of these differences could be measured here.",
        f"The figure gives its values in steps of {2 * margin():g}, so that a difference below {margin():g} could not "
        "be seen in it. A measured claim fails where one of its differences is significantly below "
        f"{margin():g}, negative ones included. It holds where all are significantly above zero and none fails.",
    ]
    return "\n\n".join(paragraphs)


def claims_sentences(claims: list[Claim], table: pd.DataFrame, verdicts: pd.DataFrame) -> str:
    """Each claim, as `load` gives it, with its verdicts and the differences that decided them, as Markdown."""
    lines = []
    for claim in claims:
        lines += [f"### {claim.claim}", "", f"> {claim.says}", ""]
        for line in verdicts[verdicts["claim"] == claim.claim].itertuples():
            at = (table["claim"] == claim.claim) & (table["source"] == line.source) & (table["reading"] == line.reading)
            verdict = f"**is {OPEN}**" if line.verdict == OPEN else f"**{line.verdict}**"
            lines.append(f"- {_source(line.source, line.reading)}, it {verdict}:{_deciding(table[at], line.verdict)}")
        lines.append("")
    return "\n".join(lines)


def _source(source: str, reading: str) -> str:
    return SOURCES[source] if reading == "figure" else f"{SOURCES[source]}, reading {reading}"


def _deciding(table: pd.DataFrame, verdict: str) -> str:
    """The differences that a verdict rests on: those that failed or were inconclusive, or the smallest of all."""
    lines = table[table["says"] == verdict] if verdict != HOLDS else table.nsmallest(1, "estimate")
    lead = "the smallest difference is " if verdict == HOLDS and len(table) > 1 else ""
    texts, item = [_difference(line) for line in lines.itertuples()], "\n  - "
    return f" {lead}{texts[0]}." if len(texts) == 1 else item + style.some(texts, 3, item)


def _difference(line) -> str:
    if pd.isna(line.estimate):
        return f"{line.contrast}, {line.reason}"
    between = "" if pd.isna(getattr(line, "low", None)) else f" ({style.signed(line.low)} to {style.signed(line.high)})"
    return f"{line.contrast}, {style.signed(line.estimate)}{between}" + (f", {line.reason}" if line.reason else "")


def _count(count: int, verb: str) -> str:
    return f"{count} {verb}s" if count == 1 else f"{count} {verb}"
