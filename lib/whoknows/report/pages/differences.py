"""Differences between cells on the same answers: of methods, of native and cross training, and of readers.

The chart, the tables and the sentences show what `of_grid` returns.
"""

from functools import partial

import altair as alt
import pandas as pd

from whoknows.data.methods import METHOD_TITLES
from whoknows.evaluation import bootstrap, scores
from whoknows.evaluation.bootstrap import ABOVE, BELOW, EXPLORATORY, FEW, INSIGNIFICANT
from whoknows.evaluation.cells import COMPARED, READINGS, heatmap_axes, measure, named, test_sets
from whoknows.evaluation.plateau import IMPROVING, RELEASED
from whoknows.report.pages import claims, style
from whoknows.report.pages.style import GREY, INK, tipped

METHOD, NATIVE, READER = "Probe − LoRA + Prompt", "Self-trained − cross-trained", "A reader − the other readers"
COLUMNS = "test_set kind reading what hypothesis estimate low high p p_holm n_rarer unsettled says".split()


def of_grid(rows: pd.DataFrame, models: list[str], tasks: list[dict]) -> pd.DataFrame:
    """All differences of a grid, each once, with intervals from the same resamples as the cells'.

    Returns:
        test_set, kind, reading ("A", "B", "A and B" or, in neither, ""), what, what `bootstrap.contrasts` returns
        (estimate is of AUROC), and low, high, p, p_holm (of `claims.primary`, missing where a difference is
        exploratory) and says, as `bootstrap.tested` returns them.
    """
    rows, nothing = rows[rows["method"].isin(COMPARED)], pd.DataFrame(columns=COLUMNS)
    if rows.empty:
        return nothing
    samples, by_task, parts = bootstrap.samples(rows), scores.by_task(rows, only_auroc=True), []
    measured = measure(rows, by_task, tasks, samples)
    first, *others = test_sets(tasks, sorted(rows["task"].unique())).items()
    primary = claims.corrected(rows, measured, samples, models, tasks)
    for (label, members), known in [(first, primary), *((other, primary[:0]) for other in others)]:
        cells = measured[measured["test_set"] == label]
        if asked := contrasts(cells):
            weights, draws = [line.pop("weights") for line in asked], bootstrap.by_cell(samples, members)
            table, resampled = bootstrap.contrasts(weights, cells.set_index(scores.CELL), draws)
            parts.append(bootstrap.tested(pd.DataFrame(asked).join(table), resampled, known).assign(test_set=label))
    return pd.concat(parts, ignore_index=True) if parts else nothing


def contrasts(cells: pd.DataFrame) -> list[dict]:
    """Every distinct difference of one test set: kind, reading, what, and the weights of its cells.

    A difference that both readings have, or that is another one mirrored, is there once.
    """
    distinct = {}
    for kind, reading, what, cell, others in _asked(cells):
        weights = {cell: 1.0} | dict.fromkeys(others, -1 / len(others))
        line = {"kind": kind, "reading": reading, "what": what, "weights": weights}
        line = distinct.setdefault(bootstrap.hypothesis(weights), line)
        line["reading"] = " and ".join(sorted({*line["reading"].split(" and "), reading}))
    return [*distinct.values()]


def _asked(cells: pd.DataFrame):
    """(kind, reading, what, a cell, the cells whose mean it is compared with)."""
    for reading in READINGS:
        table = heatmap_axes(cells, reading)
        names = ["method", "model", "trained_on"], scores.CELL
        places, of_places = (table[columns].itertuples(index=False, name=None) for columns in names)
        by_place = dict(zip(places, of_places))
        for (method, model, trained_on), cell in by_place.items():
            rival = by_place.get(("lora_prompt", model, trained_on))
            if method == "probe" and rival:
                yield METHOD, reading, named(*cell[1:]), cell, [rival]
            others = by_place.items()
            crossed = [other for (*row, column), other in others if row == [method, model] and column != model]
            if model == trained_on and crossed:
                yield NATIVE, reading, f"{METHOD_TITLES[method]}, scored on {model}", cell, crossed
    native = cells[cells["trained_on"] == cells["scored"]]
    for method, reader, _, scored in native.loc[~native["scored"].isin(cells["reader"]), scores.CELL].to_numpy():
        place = (cells[["method", "reader", "scored"]] == [method, reader, scored]).all(axis=1)
        crossed = [(method, reader, other, scored) for other in cells.loc[place, "trained_on"] if other != scored]
        what = f"{METHOD_TITLES[method]}, scored on {scored}, which {reader} reads"
        if crossed:
            yield NATIVE, "", what, (method, reader, scored, scored), crossed
    for (method, scored), table in native.groupby(["method", "scored"], sort=False):
        for reader in table["reader"]:
            others = [name for name in table["reader"] if name != reader]
            if others:
                less = others[0] if len(others) == 1 else "the others"
                what = f"{METHOD_TITLES[method]} trained and scored on {scored}: reader {reader} − {less}"
                cell, *compared = ((method, name, scored, scored) for name in (reader, *others))
                yield READER, "", what, cell, compared


def differences_chart(table: pd.DataFrame) -> alt.Chart | None:
    """Differences between cells with their intervals, a panel for each kind; None if there are none."""
    if table.empty:
        return None
    drawn = table.drop(columns=["n_rarer", "unsettled", "hypothesis"]).round(4)
    drawn = style.in_lines(drawn, kind=style.HEADING, what=style.LABEL)
    readings = [reading for reading in READINGS if drawn["reading"].str.contains(reading).any()]
    questions = style.switch("test_set", list(drawn["test_set"].unique()), {}, "Test questions: ")
    shown = "(indexof(datum.reading, reading) >= 0 || datum.reading === '') && datum.test_set === test_set"
    verdict = {"title": None, "legend": alt.Legend(orient="top", columns=2)}
    verdicts = [ABOVE, BELOW, INSIGNIFICANT, EXPLORATORY, IMPROVING, *{RELEASED} & {*drawn["says"]}]
    colours = alt.Scale(domain=verdicts, range=[INK, INK, GREY, GREY, GREY, GREY])
    forms = ["triangle-right", "triangle-left", "circle", "diamond", "cross", "square"]
    shapes = alt.Scale(domain=verdicts, range=forms)
    tips = ("kind", "reading", "what", "estimate", "low", "high", "p", "p_holm", "says")
    base = tipped(alt.Chart(), *tips, what="Of", estimate="Difference", p="p").encode(
        y=alt.Y("what:N", title=None, sort=list(drawn["what"].unique()), axis=style.NAMES),
        color=alt.Color("says:N", scale=colours, **verdict),
    )
    bars = style.interval_bars(base.transform_filter("isValid(datum.low)"), "Difference of AUROC")
    points = base.transform_filter("isValid(datum.estimate)").mark_point(filled=True, size=70, opacity=1)
    points = points.encode(x="estimate:Q", shape=alt.Shape("says:N", scale=shapes, **verdict))
    chart = alt.layer(style.rule_at(0), bars, points, data=drawn)
    chart = chart.properties(width=340, height=style.row_step(drawn["what"]))
    # What is not shown is left out before it is put into panels, or their axes would have rows and room for it.
    chart = chart.facet(row=style.headed(drawn, "kind"), spacing=18).transform_filter(shown)
    chart = chart.resolve_scale(y="independent").add_params(style.reading_switch(readings), questions)
    significant = drawn["says"].isin([ABOVE, BELOW]).sum()
    described = (
        f"Differences of AUROC between cells, {len(drawn)} in all, {significant} of them significant, with intervals; "
        "all values are in the table beneath."
    )
    return style.finished(chart, "differences", described)


def differences_html(table: pd.DataFrame) -> str:
    """The numbers of `differences_chart` as HTML tables that fold away, one for each test set; "" if there are none."""
    if table.empty:
        return ""
    columns = {
        "kind": "Kind", "reading": "Reading", "what": "Of", "estimate": "Difference", "interval": "95 % interval",
        "p": "p", "p_holm": "p (Holm)", "n_rarer": "Right or wrong, the fewer", "says": "Verdict",
    }  # fmt: skip
    forms = {"estimate": partial(style.signed, digits=3), "p": style.p_text, "p_holm": style.p_text}
    shown = table.assign(interval=style.interval_column(table))
    html = style.tables_html(shown, table["test_set"], lambda lines: style.columns_html(lines, columns, **forms))
    return style.folded("The same numbers as tables", html)


def differences_sentences(table: pd.DataFrame) -> str:
    """How many differences of each kind are significant, or exploratory, on the first test set, as Markdown."""
    if table.empty:
        return "There is nothing to compare: no two estimators of the kinds compared here score the same answers."
    first = table[table["test_set"] == table["test_set"].iloc[0]]
    lines = [f"On {first['test_set'].iloc[0]} test questions, differences from zero, each listed once:", ""]
    verdicts = (ABOVE, BELOW, INSIGNIFICANT, EXPLORATORY, IMPROVING, RELEASED, FEW)
    for kind, group in first.groupby("kind", sort=False):
        estimates, parts = group["estimate"].dropna(), style.counted(group["says"], verdicts)
        ends = [style.signed(end) for end in (estimates.min(), estimates.max())] if len(estimates) else []
        between = f"; the differences are {style.span(*ends)}" if ends else ""
        lines.append(f"- **{kind}**: {parts} of {len(group)}{between}.")
    return "\n".join(lines)
