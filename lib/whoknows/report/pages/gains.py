"""What training adds to each cell: its AUROC less that of the best training-free baseline, on the same answers."""

from html import escape

import altair as alt
import pandas as pd

from whoknows.data.methods import METHOD_TITLES
from whoknows.evaluation import bootstrap
from whoknows.evaluation.cells import COMPARED, MOST_FOR_ALL, measure, test_sets
from whoknows.evaluation.plateau import IMPROVING, MARK, RELEASED, no_verdict
from whoknows.evaluation.scores import CELL, by_task
from whoknows.report.pages import style

SETS = {  # of questions: the panels, and what a caption says of them
    "in-distribution": "held-out questions of the tasks that estimators were trained on",
    "shift": "questions of tasks that none was trained on",
}
BESIDE = "beside "  # before a method: the baseline on what a cell of it has scored
HOLLOW = {IMPROVING: f"that was {IMPROVING} when its training ended", RELEASED: RELEASED}


def paired(
    rows: pd.DataFrame, tasks: list[dict], models: list[str], readers: list[str], baseline: str
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Cells of reading A, and for each the training-free baseline, both on the test questions that both have scored.

    Of more than `MOST_FOR_ALL` models and readers each, only the cells in which a model scores its own answers are
    kept. The baseline is read by no model or by the scored one.

    Returns:
        What `cells.measure` and `bootstrap.samples` return of them; see `baseline_of`.
    """
    test = rows[rows["split"] == "test"]
    places, question = pd.DataFrame(_places(models, readers), columns=CELL[1:]), ["task", "question_id"]
    trained = test[test["method"].isin(COMPARED)].merge(places)
    plain = test[(test["method"] == baseline) & ((test["reader"] == "") | (test["reader"] == test["scored"]))]
    asked = trained[[*CELL, *question]].drop_duplicates()
    beside = asked.merge(plain.drop(columns=CELL[:3]), on=["scored", *question])
    trained = trained.merge(beside[[*CELL, *question]])
    both = pd.concat([trained, beside.assign(method=BESIDE + beside["method"])], ignore_index=True)
    samples = bootstrap.samples(both)
    return measure(both, by_task(both, only_auroc=True), tasks, samples), samples


def baseline_of(cell: tuple) -> tuple:
    """The cell that `paired` has of the baseline beside a trained one."""
    return (BESIDE + cell[0], *cell[1:])


def _places(models: list[str], readers: list[str]) -> list[tuple]:
    """Reader, trained on and scored of the cells that are shown."""
    few = len(readers) * len(models) <= MOST_FOR_ALL**2
    return [(of, of, scored) for of in readers for scored in models if few or of == scored]


def of_cells(
    cells: pd.DataFrame, samples: pd.DataFrame, tasks: list[dict], models: list[str], readers: list[str],
    compared: pd.DataFrame,
) -> pd.DataFrame:  # fmt: skip
    """AUROC of each cell that `paired` has less that of its baseline, in-distribution and on shift questions.

    These are exploratory, but for one that is itself what `compared` tests, as `landing.comparisons` returns it, since
    no other model has a value there.

    Returns:
        test_set, reader, trained_on, scored and method, no place left out, and what `bootstrap.tested` returns, missing
        where there is no such difference.
    """
    methods = [method for method in COMPARED if method in set(cells["method"])]
    asked, parts = [(method, *place) for place in _places(models, readers) for method in methods], []
    members = test_sets(tasks, sorted(samples.index.unique("task")))
    for label in [label for label in SETS if label in members]:
        measured = cells[cells["test_set"] == label].dropna(subset="auroc").set_index(CELL)
        there = [cell for cell in asked if cell in measured.index]
        weights = [{cell: 1.0, baseline_of(cell): -1.0} for cell in there]
        values, resampled = bootstrap.contrasts(weights, measured, bootstrap.by_cell(samples, members[label]))
        corrected = compared[compared["test_set"] == label].set_index("hypothesis")["p_holm"]
        values = bootstrap.tested(values, resampled, corrected)
        values = pd.DataFrame(there, columns=CELL).join(values)
        parts.append(pd.DataFrame(asked, columns=CELL).merge(values, "left", CELL).assign(test_set=label))
    return pd.concat(parts, ignore_index=True)


def gains_chart(table: pd.DataFrame, baseline: str) -> alt.HConcatChart | None:
    """The differences with their intervals, a panel for each test set and two lines for each cell; None without any.

    What no verdict rests on is hollow.
    """
    there = table.dropna(subset="estimate")
    if there.empty:
        return None
    columns = [*CELL, "test_set", "estimate", "low", "high", "says"]
    drawn = there[columns].round(4).assign(hollow=no_verdict(there) != "", title=there["method"].map(METHOD_TITLES))
    scored = drawn["scored"].mask(drawn["reader"] == drawn["scored"], "its own answers")
    drawn = style.in_lines(drawn.assign(label=drawn["reader"] + "\nscored on " + scored), label=style.LABEL)
    scale = alt.Scale(domain=[min(0, *drawn["low"]), max(0, *drawn["high"])], nice=True)
    panels = [_panel(label, drawn, scale) for label in SETS if label in set(drawn["test_set"])]
    described = (
        f"AUROC of cells, {len(drawn)} in all, less that of {style.inside(baseline)}, with 95 % intervals; "
        "all values are in the table beneath."
    )
    # The last number of an axis is centred on its end, and may be wider than Vega thinks.
    chart = alt.hconcat(*panels, spacing=24, data=drawn, padding={"left": 5, "right": 12, "top": 5, "bottom": 5})
    return style.finished(chart, "gains", described)


def _panel(test_set: str, drawn: pd.DataFrame, scale: alt.Scale) -> alt.LayerChart:
    names, methods = list(drawn["label"].unique()), style.method_hues(drawn["method"])
    hues = style.scale(methods)
    titles = {"title": "Method", "trained_on": "Trained on", "estimate": "Difference of AUROC"}
    tips = ["title", *CELL[1:], "test_set", "estimate", "low", "high", "says"]
    base = style.tipped(alt.Chart(), *tips, **titles).transform_filter(f"datum.test_set === '{test_set}'")
    base = base.encode(
        # Both panels have the same rows, and room for labels on a phone, where one stands above the other.
        y=alt.Y("label:N", title=None, scale=alt.Scale(domain=names), axis=style.NAMES),
        yOffset=alt.YOffset("title:N", sort=list(methods), scale=alt.Scale(domain=list(methods), paddingOuter=0.4)),
        color=alt.Color("title:N", title=None, scale=hues, legend=alt.Legend(orient="top")),
    )
    points = style.hollow_points(base, 55, "title:N", hues).encode(x="estimate:Q")
    layers = alt.layer(style.rule_at(0), style.interval_bars(base, "Difference of AUROC", scale), points)
    title = alt.TitleParams(test_set.capitalize(), anchor="start")
    step = max(36, style.row_step(drawn["label"]).step)
    return layers.properties(width=180, height=alt.Step(step, **{"for": "position"}), title=title)


def caption_html(table: pd.DataFrame, baseline: str) -> str:
    """The caption of `gains_chart`; "" without one."""
    there = table.dropna(subset="estimate")
    if there.empty:
        return ""
    sets = " ".join(f"<i>{label.capitalize()}</i> has {SETS[label]}." for label in there["test_set"].unique())
    which = " in which a model scores its own answers" if (table["reader"] == table["scored"]).all() else ""
    why = [words for reason, words in HOLLOW.items() if reason in set(no_verdict(there))]
    hollow = f" A hollow point is of a cell {' or '.join(why)}." if why else ""
    missing = " An empty place has no value." if len(there) < len(table) else ""
    return (
        '<p class="figure-caption"><b>Figure 3.</b> What training adds, whatever view Figure 1 shows: AUROC of each '
        f"cell of reading A{which}, less that of {escape(style.inside(baseline))} on the same answers. "
        "This is the training-free baseline that is best on validation answers. Right of zero, training helps. Lines "
        f"are paired 95 % intervals over questions.{hollow}{missing} {sets} {_tested(there)}</p>"
    )


def _tested(there: pd.DataFrame) -> str:
    """Which of the differences the answer rests on, as sentences."""
    tested = there.dropna(subset="p_holm")
    if tested.empty:
        return "All of this is exploratory: what is tested are means of such differences, in the answer above."
    names = " and ".join(METHOD_TITLES[line.method] + " of " + escape(line.reader) for line in tested.itertuples())
    rest = " All others are exploratory." if len(tested) < len(there) else ""
    return f"The answer above tests {names}, on its own answers to {tested['test_set'].iloc[0]} questions.{rest}"


def gains_html(table: pd.DataFrame, baseline: str) -> str:
    """The numbers of `gains_chart` as an HTML table that folds away; "" without them."""
    if table["estimate"].isna().all():
        return ""
    values = style.with_interval(table["estimate"], table["low"], table["high"], "+")
    marks = (no_verdict(table) == IMPROVING).map({True: f" {MARK}", False: ""})
    drawn = table.assign(says=[f"{value}{mark}" if value else "—" for value, mark in zip(values, marks)])
    titles = {"reader": "Reader and trained on", "scored": "Scored", "method": "Method"}
    drawn["method"] = drawn["method"].map(METHOD_TITLES)
    wide = drawn.pivot(index=[*titles], columns="test_set", values="says")
    order = pd.MultiIndex.from_frame(drawn[[*titles]].drop_duplicates())
    wide = wide.reindex(order)[list(table["test_set"].unique())].rename_axis(columns=None).reset_index()
    caption = f"AUROC less that of {escape(style.inside(baseline))}, paired 95 % interval"
    html = style.captioned(wide.rename(columns=titles).to_html(index=False), caption)
    return style.folded("Differences from the training-free baseline as a table", html)
