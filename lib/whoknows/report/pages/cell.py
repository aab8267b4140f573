"""The page of one cell: what its estimator reaches, its curves, how it was trained, and where it was most wrong."""

import json
from html import escape
from pathlib import Path

import altair as alt
import numpy as np
import pandas as pd
from scipy.special import expit
from sklearn.metrics import roc_curve

from whoknows.data import files
from whoknows.data.methods import METHOD_TITLES
from whoknows.data.rows import one_class
from whoknows.evaluation import calibration
from whoknows.evaluation.cells import named, test_sets
from whoknows.evaluation.metrics import risk_coverage
from whoknows.evaluation.plateau import IMPROVING, MARK, TOLERANCE, marked
from whoknows.report.pages.curves import ON_VALIDATION, embedding, layer_curve, tipped, training_curve
from whoknows.report.pages.palette import GREY, HUES, INK
from whoknows.report.pages.style import BENEATH, captioned, metric_columns, pooled_html, switch

POINTS = 50  # places along a curve
BINS = 10
WORST = 10  # answers that a table of mistakes shows
SCALED = {"as it is": "as it is", "platt": "after Platt scaling"}


def judged(rows: pd.DataFrame, answers: dict[str, str]) -> pd.DataFrame:
    """Every test answer with what the estimator says of it.

    Args:
        rows: of one cell, all seeds.
        answers: for each scored model, the file of its answers.

    Returns:
        method, scored, task, question_id, question, answer, gold, correct and p_correct, of the mean logit over seeds.
    """
    keys = ["method", "scored", "task", "question_id"]
    test = (
        rows[rows["split"] == "test"]
        .groupby(keys, sort=False, as_index=False)
        .agg({"logit": "mean", "correct": "first"})
    )
    texts = [
        files.read_parquet(path)[["question_id", "question", "answer", "gold"]].assign(scored=scored)
        for scored, path in answers.items()
    ]
    table = test.merge(pd.concat(texts), on=["scored", "question_id"])
    table["gold"] = ["; ".join(gold) for gold in table["gold"]]
    return table.assign(p_correct=expit(table["logit"].to_numpy(float)))[
        [*keys, "question", "answer", "gold", "correct", "p_correct"]
    ]


def curves(rows: pd.DataFrame, tasks: list[dict]) -> pd.DataFrame:
    """ROC, risk-coverage, reliability and the distribution of confidence, for every scored model and test set.

    Args:
        rows: of one cell, all seeds.
        tasks: the grid's tasks, dicts with name and role.

    Returns:
        method, scored, test_set, curve, series, x, y; low and high for reliability. ROC and risk are means over tasks
        and seeds, reliability and confidence are of all answers together.
    """
    test, parts = rows[rows["split"] == "test"], []
    fitted = calibration.fit_all(rows)
    for label, members in test_sets(tasks, sorted(test["task"].unique())).items():
        for (method, scored), own in test[test["task"].isin(members)].groupby(["method", "scored"], sort=False):
            found = [_roc(own), _risk(own), _confidence(own), *_reliability(own, fitted)]
            parts.append(pd.concat(found).assign(method=method, scored=scored, test_set=label))
    return pd.concat(parts, ignore_index=True)


def _roc(own: pd.DataFrame) -> pd.DataFrame:
    """Mean over tasks and seeds of the share of right answers found, at each share of wrong answers let through."""
    at, found = np.linspace(0, 1, POINTS + 1), []
    for _, part in own.groupby(["task", "seed"]):
        if not one_class(part["correct"].to_numpy(bool)):
            wrong, right, _ = roc_curve(part["correct"], part["logit"], drop_intermediate=False)
            found.append(np.interp(at, *_upper(wrong, right)))
    return (
        pd.DataFrame({"curve": "roc", "series": "", "x": at, "y": np.mean(found, axis=0)}) if found else pd.DataFrame()
    )


def _upper(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The highest y at each x of a rising curve, which np.interp wants, and the origin's zero."""
    last = np.append(np.diff(x) > 0, True)
    return x[last], y[last]


def _risk(own: pd.DataFrame) -> pd.DataFrame:
    at, found = np.arange(1, POINTS + 1), []
    for _, part in own.groupby(["task", "seed"]):
        curve = risk_coverage(part["logit"].to_numpy(), part["correct"].to_numpy(bool))
        found.append(
            curve[-(-at * len(curve) // POINTS) - 1]
        )  # in whole numbers, since 0.14 * 50 is a little more than 7
    return pd.DataFrame({"curve": "risk", "series": "", "x": at / POINTS, "y": np.mean(found, axis=0)})


def _confidence(own: pd.DataFrame) -> pd.DataFrame:
    """Share of the right answers, and of the wrong ones, in each of 2 x BINS equal steps of P(correct)."""
    edges, parts = np.linspace(0, 1, 2 * BINS + 1), []
    for right, part in own.groupby("correct"):
        share = np.histogram(expit(part["logit"].to_numpy(float)), edges)[0] / len(part)
        parts.append(
            pd.DataFrame(
                {
                    "curve": "confidence",
                    "series": "right" if right else "wrong",
                    "x": edges[:-1] + 0.25 / BINS,
                    "y": share,
                }
            )
        )
    return pd.concat(parts)


def _reliability(own: pd.DataFrame, fitted: dict) -> list[pd.DataFrame]:
    """Share of right answers against mean P(correct) in bins of equally many answers, before and after Platt scaling."""
    scaled = own["logit"].to_numpy(float).copy()
    for key, places in (
        own.reset_index(drop=True).groupby(["method", "reader", "trained_on", "seed", "scored"]).indices.items()
    ):
        scaled[places] = fitted[key].slope * scaled[places] + fitted[key].offset
    parts = []
    for series, logit in zip(SCALED, (own["logit"].to_numpy(float), scaled)):
        order = np.argsort(logit, kind="stable")
        if np.isnan(logit).any():
            continue
        for places in filter(len, np.array_split(order, BINS)):
            right, n = own["correct"].to_numpy(bool)[places].sum(), len(places)
            low, high = _wilson(right, n)
            parts.append(
                {
                    "curve": "reliability",
                    "series": SCALED[series],
                    "x": expit(logit[places]).mean(),
                    "y": right / n,
                    "low": low,
                    "high": high,
                }
            )
    return [pd.DataFrame(parts)]


def _wilson(right: int, n: int, z: float = 1.96) -> tuple[float, float]:
    """95 % score interval of a share (Wilson, 1927)."""
    middle, spread = (right + z * z / 2) / (n + z * z), z / (n + z * z) * np.sqrt(right * (n - right) / n + z * z / 4)
    return middle - spread, middle + spread


def mistakes(table: pd.DataFrame, tasks: list[dict]) -> pd.DataFrame:
    """The wrong answers that the estimator was surest of, and the right ones that it doubted most, on the first test set.

    Args:
        table: as `judged` returns.
    """
    label, members = next(iter(test_sets(tasks, sorted(table["task"].unique())).items()))
    asked, parts = table[table["task"].isin(members)], []
    for _, own in asked.groupby(["method", "scored"], sort=False):
        wrong, right = own[~own["correct"]], own[own["correct"]]
        parts.append(wrong.nlargest(WORST, "p_correct").assign(kind="surest of, though wrong"))
        parts.append(right.nsmallest(WORST, "p_correct").assign(kind="doubted most, though right"))
    return pd.concat(parts, ignore_index=True)


def curves_chart(table: pd.DataFrame, name: str, reader: str, trained_on: str) -> alt.ConcatChart:
    """The four pictures of `curves`, with switches for the scored model, the test questions and the kind of probe, and a title that says all."""
    drawn = _packed(table)
    titles = {"scored": "Scored: ", "test_set": "Test questions: ", "method": "Probe: "}
    switches = [
        switch(key, list(drawn[key].unique()), METHOD_TITLES if key == "method" else {}, title)
        for key, title in titles.items()
    ]
    panels = [
        _lines("roc", "ROC", "Wrong answers let through", "Right answers found"),
        _bins(),
        _lines("risk", "Risk and coverage", "Share of answers given", "Wrong among them"),
        _histogram(),
    ]
    described = "ROC curve, reliability diagram, risk-coverage curve and distribution of confidence; the areas are in the table beneath."
    whole = (
        alt.concat(*panels, columns=2, data=drawn, spacing=24)
        .resolve_scale(color="independent", strokeDash="independent")
        .add_params(*switches)
    )
    said = f"{json.dumps(named(reader, trained_on, ''))} + scored + ' · ' + test_set + ' test questions'"
    title = alt.TitleParams(text=alt.expr(said), anchor="start", offset=10, fontSize=12)
    return whole.properties(title=title, description=described, usermeta=embedding(name))


def _packed(table: pd.DataFrame) -> pd.DataFrame:
    """One line a curve, its numbers as lists: a seventh of what a line for each point would take on the page."""
    keys, numbers = ["method", "scored", "test_set", "curve", "series"], ["x", "y", "low", "high"]
    return (
        table.dropna(subset=["x", "y"])
        .round(4)
        .groupby(keys, sort=False)[numbers]
        .agg(lambda values: values.dropna().tolist())
        .reset_index()
    )


def _panel(curve: str, *numbers: str) -> alt.Chart:
    shown = f"datum.curve === '{curve}' && datum.scored === scored && datum.test_set === test_set && datum.method === method"
    return alt.Chart().transform_filter(shown).transform_flatten([*numbers])


def _axes(x: str, y: str) -> dict:
    unit = alt.Scale(domain=[0, 1])
    return {"x": alt.X("x:Q", title=x, scale=unit), "y": alt.Y("y:Q", title=y, scale=unit)}


def _diagonal() -> alt.Chart:
    return (
        alt.Chart(pd.DataFrame({"x": [0, 1], "y": [0, 1]}))
        .mark_line(strokeDash=[3, 3], color=GREY, strokeWidth=1, aria=False)
        .encode(x="x:Q", y="y:Q")
    )


def _lines(curve: str, title: str, x: str, y: str) -> alt.LayerChart:
    line = (
        tipped(_panel(curve, "x", "y"), "x", "y", x=x, y=y)
        .mark_line(strokeWidth=2.5)
        .encode(**_axes(x, y), color=_by_method())
    )
    return alt.layer(*([_diagonal()] if curve == "roc" else []), line).properties(width=270, height=220, title=title)


def _by_method(channel: type = alt.Color) -> alt.Color:
    return channel("method:N", scale=alt.Scale(domain=list(HUES), range=list(HUES.values())), legend=None)


def _bins() -> alt.LayerChart:
    scaled = list(SCALED.values())
    opacity = alt.FillOpacity("series:N", scale=alt.Scale(domain=scaled, range=[0, 1]), legend=None)
    dash = alt.StrokeDash(
        "series:N",
        title=None,
        scale=alt.Scale(domain=scaled, range=[[2, 2], [1, 0]]),
        legend=alt.Legend(orient="bottom", symbolType="stroke", symbolStrokeColor=INK),
    )
    base = tipped(
        _panel("reliability", "x", "y", "low", "high"),
        "series",
        "x",
        "y",
        "low",
        "high",
        series="Confidence",
        x="P(correct)",
        y="Share that is right",
    )
    base = base.encode(x=alt.X("x:Q", title="P(correct)", scale=alt.Scale(domain=[0, 1])), color=_by_method())
    bars = base.mark_rule(strokeWidth=1.5).encode(
        strokeDash=dash, y=alt.Y("low:Q", title="Share that is right", scale=alt.Scale(domain=[0, 1])), y2="high:Q"
    )
    return alt.layer(
        _diagonal(),
        bars,
        base.mark_point(filled=True, size=45, strokeWidth=1.5, opacity=1).encode(
            y="y:Q", fill=_by_method(alt.Fill), stroke=_by_method(alt.Stroke), fillOpacity=opacity
        ),
    ).properties(width=270, height=220, title="Reliability")


def _histogram() -> alt.Chart:
    colour = alt.Color(
        "series:N",
        title="Answers",
        scale=alt.Scale(domain=["wrong", "right"], range=[GREY, INK]),
        legend=alt.Legend(orient="bottom", symbolOpacity=1),
    )
    x = alt.X("x:Q", title="P(correct)", scale=alt.Scale(domain=[0, 1]))
    bars = tipped(
        _panel("confidence", "x", "y"), "series", "x", "y", series="Answers", x="P(correct)", y="Share of them"
    ).mark_area(interpolate="step", opacity=0.35, line=True)
    return bars.encode(x=x, y=alt.Y("y:Q", title="Share of them", stack=None), color=colour).properties(
        width=270, height=220, title="Confidence"
    )


def learning_chart(estimator: str, method: str) -> alt.TopLevelMixin | None:
    """How the estimator came about: AUROC on validation by layer for a probe, by epoch for an MLP, by step for adapters; None if
    its card is not there.

    Args:
        estimator: its folder.
    """
    path = Path(estimator) / f"{method}.json"
    if not path.exists():
        return None
    card = json.loads(path.read_text())
    if "history" in card:
        return training_curve(card["history"])
    return layer_curve(card["search"]) if "strength" in card["search"][0] else _by_epoch(card["search"])


def _by_epoch(search: list[dict]) -> alt.Chart:
    x = alt.X(
        "epoch:Q", title="Epoch of the MLP", axis=alt.Axis(tickCount=min(10, max(1, len(search) - 1)), format="d")
    )
    line = (
        tipped(alt.Chart(pd.DataFrame(search)), "epoch", "validation_auroc")
        .mark_line(point=True, color=HUES["probe_mlp"])
        .encode(x=x, y=ON_VALIDATION)
    )
    return line.properties(
        width="container",
        height=200,
        description="AUROC of the MLP on validation by epoch.",
        usermeta=embedding("epochs"),
    )


def cell_html(table: pd.DataFrame) -> str:
    """All metrics of one cell as HTML, a line for each scored model and test set; that with tasks pooled folds away.

    Args:
        table: as `cells.measure` returns.
    """
    columns = {"scored": "Scored", "method": "Method", "test_set": "Test questions"}
    names = {title: table[column].replace(METHOD_TITLES) for column, title in columns.items()}
    shown = metric_columns(table, names).assign(**{"Right answers": table["n_right"], "Answers": table["n"]})
    some = (table["reason"] != "").any()
    if some:
        shown.insert(len(names), "No value because", table["reason"].map(escape))
    return captioned(
        shown.to_html(index=False, escape=False, classes="metrics reasons" if some else "metrics"), BENEATH
    ) + pooled_html(table, names)


def mistakes_html(table: pd.DataFrame) -> str:
    """Questions with answer, gold and confidence as HTML tables, one for each scored model and kind; all but the first fold away.

    Args:
        table: as `cell.mistakes` returns.
    """
    columns = {
        "p_correct": "P(correct)",
        "question": "Question",
        "answer": "Answer",
        "gold": "Accepted",
        "task": "Task",
    }
    parts = []
    for (method, scored, kind), own in table.groupby(["method", "scored", "kind"], sort=False):
        texts = own[list(columns)].replace("\n", " ", regex=True)  # choices stand on lines of their own
        shown = texts.assign(
            p_correct=own["p_correct"].map("{:.2f}".format), gold=texts["gold"].map(_shortened)
        ).rename(columns=columns)
        summary = f"{METHOD_TITLES[method]} on the answers of {scored}: {kind}"
        html = shown.to_html(index=False, classes="texts")
        parts.append(f"<details{'' if parts else ' open'}><summary>{summary}</summary>{html}</details>")
    return "".join(parts)


def _shortened(gold: str, count: int = 4) -> str:
    """The first accepted answers, and how many more there are."""
    first, more = gold.split("; ")[:count], gold.split("; ")[count:]
    return "; ".join(first) + (f"; and {len(more)} more" if more else "")


def training_sentences(table: pd.DataFrame, methods: list[str], seeds: list[int]) -> str:
    """Whether the estimators of a cell were still improving when their training ended, and why, as Markdown.

    Args:
        table: as `plateau.table` returns.
        methods: those of the cell.
        seeds: the grid's.
    """
    asked = table[table["seed"].isin(seeds)]
    said = []
    for method in methods:
        own = asked[asked["method"] == method]
        why = [f"with seed {line.seed}, {line.why}" for line in own[marked(own)].itertuples()]
        unknown = len(seeds) - own["still_improving"].notna().sum()
        if why:
            said.append(
                f"**{METHOD_TITLES[method]} was {IMPROVING} when its training ended** ({MARK} in the heatmaps), so that no verdict rests on it: {'; '.join(why)}."
            )
        elif unknown:
            said.append(
                f"{METHOD_TITLES[method]}: no card says of {unknown} of {len(seeds)} seeds whether training had reached its plateau."
            )
        else:
            said.append(
                f"{METHOD_TITLES[method]} was not {IMPROVING} when its training ended: AUROC on validation had stopped rising there, or rose by no more than {TOLERANCE}."
            )
    return "\n\n".join(said)
