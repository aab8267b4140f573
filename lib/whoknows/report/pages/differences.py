"""Differences between cells on the same answers: of methods, of native and cross training, and of readers."""

import altair as alt
import numpy as np
import pandas as pd

from whoknows.data.methods import METHOD_TITLES
from whoknows.evaluation import bootstrap, scores
from whoknows.evaluation.bootstrap import ABOVE, BELOW, EXPLORATORY, FEW, INSIGNIFICANT
from whoknows.evaluation.cells import READINGS, heatmap_axes, measure, named, test_sets
from whoknows.evaluation.plateau import IMPROVING, marked
from whoknows.report.pages import claims
from whoknows.report.pages.curves import embedding, tipped
from whoknows.report.pages.palette import GREY, INK
from whoknows.report.pages.style import (
    HEADING,
    LABEL,
    NAMES,
    TITLES,
    captioned,
    headed,
    in_lines,
    p_text,
    row_step,
    signed,
    switch,
)

METHOD, NATIVE, READER = "Probe less LoRA + Prompt", "Native less cross", "A reader less the other readers"
COMPARED = ("probe", "lora_prompt")


def of_grid(rows: pd.DataFrame, models: list[str], tasks: list[dict]) -> pd.DataFrame:
    """All differences of a grid, with intervals from the same resamples as the cells'; each once, however often it can be asked.

    Args:
        rows: rows of any methods; those of the probe and of LoRA + Prompt count.
        models: the grid's.
        tasks: the grid's tasks, dicts with name and role.

    Returns:
        test_set, kind, reading ("A", "B", "A and B" or, in neither, ""), what, hypothesis (see `claims.hypothesis`), estimate
        (AUROC), low, high, p, p_holm (of `claims.primary`, missing where a difference is exploratory), n_rarer (of the cell with the
        fewest), still_improving (whether an estimator of one of the cells was), and says (what `bootstrap.tested` says).
    """
    rows = rows[rows["method"].isin(COMPARED)]
    if rows.empty:
        return pd.DataFrame(
            columns=[
                "test_set",
                "kind",
                "reading",
                "what",
                "estimate",
                "low",
                "high",
                "p",
                "p_holm",
                "n_rarer",
                "still_improving",
                "says",
            ]
        )
    samples, by_task, found = bootstrap.samples(rows), scores.by_task(rows, only_auroc=True), []
    measured = measure(rows, by_task, tasks, samples)
    first, *others = test_sets(tasks, sorted(rows["task"].unique())).items()
    primary = claims.corrected(by_task, measured, samples, models, tasks)
    for (label, members), known in [(first, primary), *((other, primary[:0]) for other in others)]:
        cells = measured[measured["test_set"] == label]
        table = _evaluate(contrasts(cells), cells.set_index(scores.CELL), bootstrap.by_cell(samples, members), known)
        found.append(table.assign(test_set=label))
    return pd.concat(found, ignore_index=True)


def contrasts(cells: pd.DataFrame) -> list[dict]:
    """Every distinct difference of one test set: kind, reading, what, and the weights of its cells.

    A difference that both readings have, or that is another one mirrored, is there once.
    """
    found = {}
    for kind, reading, what, cell, others in _asked(cells):
        weights = {cell: 1.0} | dict.fromkeys(others, -1 / len(others))
        line = found.setdefault(
            claims.hypothesis(weights), {"kind": kind, "reading": reading, "what": what, "weights": weights}
        )
        line["reading"] = " and ".join(sorted({*line["reading"].split(" and "), reading}))
    return [line | {"hypothesis": hypothesis} for hypothesis, line in found.items()]


def _asked(cells: pd.DataFrame):
    """(kind, reading, what, a cell, the cells whose mean it is compared with)."""
    for reading in "AB":
        table = heatmap_axes(cells, reading)
        places = {
            (c.method, c.model, c.trained_on): (c.method, c.reader, c.trained_on, c.scored) for c in table.itertuples()
        }
        for (method, model, trained_on), cell in places.items():
            rival = places.get(("lora_prompt", model, trained_on))
            if method == "probe" and rival:
                yield METHOD, reading, named(*cell[1:]), cell, [rival]
            crossed = [
                other for (m, row, column), other in places.items() if (m, row) == (method, model) and column != model
            ]
            if model == trained_on and crossed:
                yield NATIVE, reading, f"{METHOD_TITLES[method]}, scored on {model}", cell, crossed
    own = cells[cells["trained_on"] == cells["scored"]]
    for (method, scored), table in own.groupby(["method", "scored"], sort=False):
        for reader in table["reader"]:
            others = [name for name in table["reader"] if name != reader]
            if others:
                less = others[0] if len(others) == 1 else "the others"
                what = f"{METHOD_TITLES[method]} trained and scored on {scored}: reader {reader} less {less}"
                yield (
                    READER,
                    "",
                    what,
                    (method, reader, scored, scored),
                    [(method, other, scored, scored) for other in others],
                )


def _evaluate(asked: list[dict], cells: pd.DataFrame, draws: pd.DataFrame, primary: pd.Series) -> pd.DataFrame:
    lines, resampled, improving = [], [], marked(cells)
    for line in asked:
        index, weight = [*line["weights"]], np.array([*line["weights"].values()])
        there = cells.loc[index]
        values = {
            "estimate": weight @ there["auroc"].to_numpy(float),
            "n_rarer": there["n_rarer"].min(),
            "still_improving": improving[index].any(),
        }
        lines.append({name: line[name] for name in ("kind", "reading", "what", "hypothesis")} | values)
        resampled.append(weight @ draws.loc[index].to_numpy())
    return bootstrap.tested(pd.DataFrame(lines), np.array(resampled), primary)


def differences_chart(table: pd.DataFrame) -> alt.Chart:
    """Differences between cells with their intervals, a panel for each kind.

    Args:
        table: as `differences.of_grid` returns.
    """
    drawn = in_lines(
        table.drop(columns=["n_rarer", "still_improving", "hypothesis"]).round(4), kind=HEADING, what=LABEL
    )
    switches = [switch(name, values, {v: TITLES[v][0] for v in values if v in TITLES}, title) for name, values, title in [
        ("reading", [r for r in READINGS if drawn["reading"].str.contains(r).any()], "Reading: "),
        ("test_set", list(drawn["test_set"].unique()), "Test questions: "),
    ]]  # fmt: skip
    shown = "(indexof(datum.reading, reading) >= 0 || datum.reading === '') && datum.test_set === test_set"
    y = alt.Y("what:N", title=None, sort=list(drawn["what"].unique()), axis=NAMES)
    verdicts, legend = [ABOVE, BELOW, INSIGNIFICANT, EXPLORATORY, IMPROVING], alt.Legend(orient="top", columns=2)
    widest = [
        float(np.nanmin([0, *drawn["low"]])),
        float(np.nanmax([0, *drawn["high"]])),
    ]  # Vega looks at the panels of one switch alone
    scale = alt.Scale(domain=widest, nice=True)
    verdict = alt.Color(
        "says:N", title=None, scale=alt.Scale(domain=verdicts, range=[INK, INK, GREY, GREY, GREY]), legend=legend
    )
    shape = alt.Shape(
        "says:N",
        title=None,
        scale=alt.Scale(domain=verdicts, range=["triangle-right", "triangle-left", "circle", "diamond", "cross"]),
        legend=legend,
    )
    base = tipped(
        alt.Chart(),
        "kind",
        "reading",
        "what",
        "estimate",
        "low",
        "high",
        "p",
        "p_holm",
        "says",
        what="Of",
        estimate="Difference",
        p="p",
    ).encode(y=y, color=verdict)
    zero = alt.Chart().mark_rule(strokeDash=[3, 3], color=GREY, aria=False).encode(x=alt.datum(0))
    bars = (
        base.transform_filter("isValid(datum.low)")
        .mark_rule(strokeWidth=2)
        .encode(x=alt.X("low:Q", title="Difference of AUROC", scale=scale), x2="high:Q")
    )
    points = (
        base.transform_filter("isValid(datum.estimate)")
        .mark_point(filled=True, size=70, opacity=1)
        .encode(x="estimate:Q", shape=shape)
    )
    chart = alt.layer(zero, bars, points, data=drawn).properties(width=340, height=row_step(drawn["what"]))
    # What is not shown is left out before it is put into panels, or their axes would have rows for it.
    chart = (
        chart.facet(row=headed(drawn, "kind"), spacing=18)
        .transform_filter(shown)
        .resolve_scale(y="independent")
        .add_params(*switches)
    )
    described = f"{len(drawn)} differences of AUROC between cells, with intervals; {drawn['says'].isin([ABOVE, BELOW]).sum()} are significant; all values are in the table beneath."
    return chart.properties(description=described, usermeta=embedding("differences"))


def differences_html(table: pd.DataFrame) -> str:
    """The numbers of `differences.differences_chart` as HTML tables that fold away, one for each test set.

    Args:
        table: as `differences.of_grid` returns.
    """
    parts = []
    for test_set, own in table.groupby("test_set", sort=False):
        between = [f"{low:+.3f} to {high:+.3f}" if pd.notna(low) else "—" for low, high in zip(own["low"], own["high"])]
        forms = {"estimate": "{:+.3f}".format, "p": p_text, "p_holm": p_text}
        shown = own.assign(
            interval=between, **{name: own[name].map(form, na_action="ignore") for name, form in forms.items()}
        )
        columns = {
            "kind": "Kind",
            "reading": "Reading",
            "what": "Of",
            "estimate": "Difference",
            "interval": "95 % interval",
            "p": "p",
            "p_holm": "p (Holm)",
            "n_rarer": "Right or wrong, the fewer",
            "says": "Verdict",
        }
        parts.append(captioned(shown[list(columns)].rename(columns=columns).to_html(index=False, na_rep="—"), test_set))
    return "<details><summary>The same numbers as tables</summary>" + "\n".join(parts) + "</details>"


def differences_sentences(table: pd.DataFrame) -> str:
    """How many differences of each kind are significant on the first test set, and how many are exploratory, as Markdown.

    Args:
        table: as `differences.of_grid` returns.
    """
    if table.empty:
        return "There is nothing to compare yet."
    first, said = table[table["test_set"] == table["test_set"].iloc[0]], []
    for kind, own in first.groupby("kind", sort=False):
        counts = own["says"].value_counts()
        parts = [
            f"{counts[says]} {says}"
            for says in (ABOVE, BELOW, INSIGNIFICANT, EXPLORATORY, IMPROVING, FEW)
            if says in counts
        ]
        between = (
            f"; from {signed(own['estimate'].min())} to {signed(own['estimate'].max())}"
            if own["estimate"].notna().any()
            else ""
        )
        said.append(f"- **{kind}**: {', '.join(parts)} of {len(own)}{between}.")
    return "\n".join(
        [f"On {first['test_set'].iloc[0]} test questions, differences from zero, each fact once:", "", *said]
    )
