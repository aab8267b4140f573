"""The page of one cell: what its estimator reaches, its curves, how it was trained, and where it was most wrong."""

import itertools
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
from whoknows.evaluation import scores
from whoknows.evaluation.cells import first_test_set, test_sets
from whoknows.evaluation.metrics import BINS, equal_width, risk_coverage
from whoknows.evaluation.plateau import IMPROVING, MARK, TOLERANCE
from whoknows.report.pages import style

POINTS = 50  # places along a curve
WORST = 10  # answers that a table of mistakes shows
TITLE = 45  # letters in a line of a title
UNIT = alt.Scale(domain=[0, 1])
SCALED = ["as it is", "after Platt scaling"]


def answer_table(rows: pd.DataFrame, answers: dict[str, str]) -> pd.DataFrame:
    """Every test answer with the estimator's confidence in it, of the rows of one cell, all seeds.

    Returns:
        method, scored, task, question_id, question, answer, gold, correct and p_correct, of the mean logit over seeds.
    """
    keys = ["method", "scored", "task", "question_id"]
    test = rows[rows["split"] == "test"].groupby(keys, sort=False, as_index=False)
    test = test.agg({"logit": "mean", "correct": "first"})
    table = test.merge(style.read_texts(answers), on=["scored", "question_id"])
    table["gold"] = table["gold"].map("; ".join)
    table["p_correct"] = expit(table["logit"].to_numpy(float))
    return table[[*keys, "question", "answer", "gold", "correct", "p_correct"]]


def curves(rows: pd.DataFrame, tasks: list[dict]) -> pd.DataFrame:
    """ROC, risk-coverage, reliability and confidences of a cell, all seeds, for every scored model and test set.

    Returns:
        method, scored, test_set, curve, series, x, y; low and high for reliability. ROC and risk are means over tasks
        and seeds with both grades, reliability and confidence are of all answers together. Empty without rows.
    """
    test, parts = rows[rows["split"] == "test"], []
    fitted = scores.fit_all(rows)
    for label, members in test_sets(tasks, sorted(test["task"].unique())).items():
        for (method, scored), cell in test[test["task"].isin(members)].groupby(["method", "scored"], sort=False):
            four = pd.concat([_roc(cell), _risk(cell), _confidence(cell), _reliability(cell, fitted)])
            parts.append(four.assign(method=method, scored=scored, test_set=label))
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame()


def _roc(cell: pd.DataFrame) -> pd.DataFrame:
    """Mean over tasks and seeds of the true positive rate at each false positive rate."""
    at, rates = np.linspace(0, 1, POINTS + 1), []
    for part in _of_both_grades(cell):
        wrong, right, _ = roc_curve(part["correct"], part["logit"].rank(), drop_intermediate=False)
        highest = np.append(np.diff(wrong) > 0, True)  # of each false positive rate, which np.interp wants
        rates.append(np.interp(at, wrong[highest], right[highest]))
    return _curve("roc", at, np.mean(rates, axis=0)) if rates else pd.DataFrame()


def _of_both_grades(cell: pd.DataFrame) -> list[pd.DataFrame]:
    """The answers of each task and seed that have an AUROC, and so are in the means of the table, too."""
    parts = (part for _, part in cell.groupby(["task", "seed"]))
    return [part for part in parts if not one_class(part["correct"].to_numpy(bool))]


def _curve(name: str, x: np.ndarray, y: np.ndarray, series: str = "") -> pd.DataFrame:
    return pd.DataFrame({"curve": name, "series": series, "x": x, "y": y})


def _risk(cell: pd.DataFrame) -> pd.DataFrame:
    """Mean over tasks and seeds of the share of wrong answers among the most confident ones, at each coverage."""
    at, risks = np.arange(1, POINTS + 1), []
    for part in _of_both_grades(cell):
        risk = risk_coverage(part["logit"].to_numpy(), part["correct"].to_numpy(bool))
        # Rounded up in whole numbers, since 0.14 * 50 is a little more than 7.
        risks.append(risk[-(-at * len(risk) // POINTS) - 1])
    return _curve("risk", at / POINTS, np.mean(risks, axis=0)) if risks else pd.DataFrame()


def _confidence(cell: pd.DataFrame) -> pd.DataFrame:
    """Share of the right answers, and of the wrong ones, in each of 2 x BINS equal steps of P(correct)."""
    edges, parts = np.linspace(0, 1, 2 * BINS + 1), []
    for right, part in cell.groupby("correct"):
        share = np.histogram(expit(part["logit"].to_numpy(float)), edges)[0] / len(part)
        parts.append(_curve("confidence", edges[:-1] + 0.25 / BINS, share, "right" if right else "wrong"))
    return pd.concat(parts)


def _reliability(cell: pd.DataFrame, fitted: dict) -> pd.DataFrame:
    """Share of right answers by mean P(correct) in each bin of ECE with an answer, before and after Platt scaling.

    Seeds score the same answers, so intervals are those of as many answers as a bin has in the mean over seeds.
    """
    correct, logit = cell["correct"].to_numpy(bool), cell["logit"].to_numpy(float)
    scaled, keys = logit.copy(), [*scores.ESTIMATOR, "scored"]
    for key, places in cell.reset_index(drop=True).groupby(keys).indices.items():
        scaled[places] = fitted[key].slope * scaled[places] + fitted[key].offset
    parts, seeds = [], cell["seed"].nunique()
    for series, values in zip(SCALED, (logit, scaled)):
        if np.isnan(values).any():
            continue
        which = equal_width(confidence := expit(values))
        for places in (which == bin for bin in np.unique(which)):
            right, n = correct[places].sum(), places.sum()
            (low, high), x = _wilson(right / seeds, n / seeds), confidence[places].mean()
            parts.append({"curve": "reliability", "series": series, "x": x, "y": right / n, "low": low, "high": high})
    return pd.DataFrame(parts)


def _wilson(right: float, n: float, z: float = 1.96) -> tuple[float, float]:
    """95 % score interval of a share (Wilson, 1927)."""
    middle, spread = (right + z * z / 2) / (n + z * z), z / (n + z * z) * np.sqrt(right * (n - right) / n + z * z / 4)
    return middle - spread, middle + spread


def mistakes(table: pd.DataFrame, tasks: list[dict]) -> pd.DataFrame:
    """Of `answer_table` the wrong answers of most confidence and the right ones of least, on the first test set."""
    _, members = first_test_set(tasks, table)
    parts = []
    for _, cell in table[table["task"].isin(members)].groupby(["method", "scored"], sort=False):
        wrong, right = cell[~cell["correct"]], cell[cell["correct"]]
        parts.append(wrong.nlargest(WORST, "p_correct").assign(kind="highest confidence, though wrong"))
        parts.append(right.nsmallest(WORST, "p_correct").assign(kind="lowest confidence, though right"))
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=[*table, "kind"])


def curves_chart(table: pd.DataFrame, name: str, reader: str, trained_on: str) -> alt.ConcatChart | None:
    """The four pictures of `curves`, under a title that names the cell; None if there are none."""
    if table.empty:
        return None
    drawn = _packed(table)
    titles = {"scored": ({}, "Scored: "), "test_set": ({}, "Test questions: "), "method": (METHOD_TITLES, "Probe: ")}
    switches = [style.switch(key, list(drawn[key].unique()), *says) for key, says in titles.items()]
    roc = _line("roc", "ROC", "False positive rate", "True positive rate")
    risk = _line("risk", "Risk and coverage", "Coverage", "Risk")
    whole = alt.concat(roc, _bins(), risk, _histogram(), columns=2, data=drawn, spacing=24)
    whole = whole.resolve_scale(color="independent", strokeDash="independent").add_params(*switches)
    # In three lines or more, since a phone has no room for one.
    lines = style.broken(f"{reader} trained on {trained_on},", TITLE).split("\n")
    text = alt.expr(f"[{json.dumps(lines)[1:-1]}, 'scored on ' + scored + ' ·', test_set + ' test questions']")
    title = alt.TitleParams(text=text, anchor="start", offset=10, fontSize=12)
    described = (
        "ROC curve, reliability diagram, risk-coverage curve and distribution of confidence; "
        "the areas are in the table beneath."
    )
    return style.finished(whole, name, described, title=title)


def _packed(table: pd.DataFrame) -> pd.DataFrame:
    """One line a curve, its numbers as lists: a seventh of what a line for each point would take on the page."""
    keys, numbers = ["method", "scored", "test_set", "curve", "series"], ["x", "y", "low", "high"]
    by_curve = table.dropna(subset=["x", "y"]).round(4).groupby(keys, sort=False)[numbers]
    return by_curve.agg(lambda values: values.dropna().tolist()).reset_index()


def _panel(curve: str, *numbers: str) -> alt.Chart:
    switched = " && ".join(f"datum.{name} === {name}" for name in ("scored", "test_set", "method"))
    chart = alt.Chart().transform_filter(f"datum.curve === '{curve}' && {switched}")
    return chart.transform_flatten([*numbers]).properties(width=270, height=220)


def _diagonal() -> alt.Chart:
    ends = alt.Chart(pd.DataFrame({"x": [0, 1], "y": [0, 1]})).encode(x="x:Q", y="y:Q")
    return ends.mark_line(strokeDash=[3, 3], color=style.GREY, strokeWidth=1, aria=False)


def _line(curve: str, title: str, x: str, y: str) -> alt.LayerChart:
    line = style.tipped(_panel(curve, "x", "y"), "x", "y", x=x, y=y).mark_line(strokeWidth=2.5)
    axes = {"x": alt.X("x:Q", title=x, scale=UNIT), "y": alt.Y("y:Q", title=y, scale=UNIT)}
    line = line.encode(**axes, color=_by_method())
    return alt.layer(*([_diagonal()] if curve == "roc" else []), line).properties(title=title)


def _by_method(channel: type = alt.Color) -> alt.Color:
    return channel("method:N", scale=style.scale(style.HUES), legend=None)


def _bins() -> alt.LayerChart:
    numbers, x, y = ("x", "y", "low", "high"), "P(correct)", "Share that is right"
    opacity = alt.FillOpacity("series:N", scale=alt.Scale(domain=SCALED, range=[0, 1]), legend=None)
    dashed = alt.Scale(domain=SCALED, range=[[2, 2], [1, 0]])
    legend = alt.Legend(orient="bottom", symbolType="stroke", symbolStrokeColor=style.INK)
    dash = alt.StrokeDash("series:N", title=None, scale=dashed, legend=legend)
    base = style.tipped(_panel("reliability", *numbers), "series", *numbers, series="Confidence", x=x, y=y)
    base = base.encode(x=alt.X("x:Q", title=x, scale=UNIT), color=_by_method())
    y_axis = alt.Y("low:Q", title=y, scale=UNIT)
    bars = base.mark_rule(strokeWidth=1.5).encode(strokeDash=dash, y=y_axis, y2="high:Q")
    points = base.mark_point(filled=True, size=45, strokeWidth=1.5, opacity=1)
    points = points.encode(y="y:Q", fill=_by_method(alt.Fill), stroke=_by_method(alt.Stroke), fillOpacity=opacity)
    return alt.layer(_diagonal(), bars, points).properties(title="Reliability")


def _histogram() -> alt.Chart:
    x, y = "P(correct)", "Share of answers"
    base = style.tipped(_panel("confidence", "x", "y"), "series", "x", "y", series="Answers", x=x, y=y)
    scale = alt.Scale(domain=["wrong", "right"], range=[style.GREY, style.INK])
    legend = alt.Legend(orient="bottom", symbolOpacity=1)
    areas = base.mark_area(interpolate="step", opacity=0.35, line=True).properties(title="Confidence")
    colour = alt.Color("series:N", title="Answers", scale=scale, legend=legend)
    axes = {"x": alt.X("x:Q", title=x, scale=UNIT), "y": alt.Y("y:Q", title=y, stack=None)}
    return areas.encode(**axes, color=colour)


def learning_chart(estimator: str, method: str) -> alt.TopLevelMixin | None:
    """AUROC on validation by layer for a probe, by epoch for an MLP, by step for adapters, of an estimator's folder.

    None without a card, for adapters that were not trained here, and where nothing could be trained.
    """
    path = Path(estimator) / f"{method}.json"
    if not path.exists():
        return None
    card = files.read_json(path)
    if "origin" in card or "untrained" in card:
        return None
    if "history" in card:
        return training_curve(card["history"])
    return layer_curve(card["search"]) if "strength" in card["search"][0] else _by_epoch(card["search"])


def layer_curve(search: list[dict]) -> alt.LayerChart:
    """AUROC on validation by layer, a line for each strength of the L2 penalty; the choice is ringed.

    `search` has a dict with layer, strength and validation_auroc for each pair that was tried.
    """
    tried = pd.DataFrame(search)
    strengths = sorted(tried["strength"].unique().tolist())
    legend = alt.Legend(orient="bottom", direction="horizontal", symbolType="stroke", symbolSize=500)
    strength = {"title": "L2 strength", "legend": legend}
    blues = style.scale(dict(zip(strengths, itertools.cycle(style.BLUES))))
    colour = alt.Color("strength:O", scale=blues, **strength)
    dash = alt.StrokeDash("strength:O", scale=style.dashes(strengths), **strength)
    best = tried.loc[[tried["validation_auroc"].idxmax()]]
    x = alt.X("layer:Q", title="Layer (0 = embeddings)", axis=alt.Axis(tickMinStep=1, format="d"))
    lines, ring = (style.tipped(alt.Chart(data), *tried).encode(x=x, y=style.ON_VALIDATION) for data in (tried, best))
    lines = lines.mark_line(point=True).encode(color=colour, strokeDash=dash)
    ring = ring.mark_point(size=220, strokeWidth=2, color=style.INK)
    described = f"AUROC on validation by layer; highest at layer {best['layer'].iloc[0]}."
    return style.finished(lines + ring, "layers", described, width="container", height=240)


def training_curve(history: list[dict]) -> alt.HConcatChart:
    """Loss and AUROC on validation against the step of the training.

    `history` has step, loss, validation_auroc and seconds (of training steps so far) of each look at validation.
    """
    looks = pd.DataFrame(history)
    axis = alt.Axis(format=".3~f")  # of a single look Vega would write the nearest whole number
    base = style.tipped(alt.Chart(looks), *looks)
    base = base.mark_line(point={"color": style.hue("lora_prompt")}, color=style.hue("lora_prompt"))
    base = base.properties(width=260, height=200).encode(x=alt.X("step:Q", title="Step"))
    panels = [
        base.encode(y=alt.Y(f"{name}:Q", title=style.TITLES[name], scale=style.WITHOUT_ZERO, axis=axis))
        for name in ("loss", "validation_auroc")
    ]
    return style.finished(alt.hconcat(*panels), "training", "Training loss and AUROC on validation by step.")


def _by_epoch(search: list[dict]) -> alt.Chart:
    axis = alt.Axis(tickCount=min(10, max(1, len(search) - 1)), format="d")
    line = style.tipped(alt.Chart(pd.DataFrame(search)), "epoch", "validation_auroc")
    line = line.mark_line(point={"color": style.HUES["probe_mlp"]}, color=style.HUES["probe_mlp"])
    line = line.encode(x=alt.X("epoch:Q", title="Epoch of the MLP", axis=axis), y=style.ON_VALIDATION)
    size = {"width": "container", "height": 200}
    return style.finished(line, "epochs", "AUROC of the MLP on validation by epoch.", **size)


def cell_html(table: pd.DataFrame) -> str:
    """What `cells.measure` returns of one cell as HTML; that with tasks pooled folds away; "" if it is empty."""
    if table.empty:
        return ""
    columns = {"scored": "Scored", "method": "Method", "test_set": "Test questions"}
    names = {title: table[column].replace(METHOD_TITLES) for column, title in columns.items()}
    shown = style.metric_columns(table, names).assign(**{"Right answers": table["n_right"], "Answers": table["n"]})
    if has_reasons := (table["reason"] != "").any():
        shown.insert(len(names), "No value because", table["reason"].map(escape))
    html = shown.to_html(index=False, escape=False, classes="metrics reasons" if has_reasons else "metrics")
    return style.captioned(html, style.BENEATH) + style.pooled_html(table, names)


def mistakes_html(table: pd.DataFrame) -> str:
    """What `mistakes` returns as HTML tables, one for each scored model and kind; all but the first fold away."""
    columns = {
        "p_correct": "P(correct)", "question": "Question", "answer": "Answer", "gold": "Accepted", "task": "Task",
    }  # fmt: skip
    forms = {"p_correct": "{:.2f}".format, "gold": lambda gold: style.some(gold.split("; "), 4)}
    shown, parts = table.replace("\n", " ", regex=True), []  # choices stand on lines of their own
    for (method, scored, kind), answers in shown.groupby(["method", "scored", "kind"], sort=False):
        html = style.columns_html(answers, columns, "texts", **forms)
        parts.append(style.folded(f"{METHOD_TITLES[method]} on the answers of {scored}: {kind}", html, not parts))
    return "".join(parts)


def training_sentences(table: pd.DataFrame, rows: pd.DataFrame) -> str:
    """Whether the rows' estimators (`plateau.table`) were still improving when their training ended, as Markdown."""
    sentences = []
    for method, seeds in rows.groupby("method", sort=False)["seed"].unique().items():
        cards = table[table["seed"].isin(seeds) & (table["method"] == method)]
        why = [f"with seed {line.seed}, {line.why}" for line in cards[cards["unsettled"] == IMPROVING].itertuples()]
        unknown, title = len(seeds) - cards["why"].notna().sum(), METHOD_TITLES[method]
        if why:
            sentences.append(
                f"**{title} was {IMPROVING} when its training ended** ({MARK} in the heatmaps): "
                f"{'; '.join(why)}. No verdict rests on it."
            )
        elif unknown:
            of = f"{unknown} of {len(seeds)} seeds"
            sentences.append(f"{title}: for {of}, no card records whether training had reached its plateau.")
        else:
            sentences.append(
                f"{title} was not {IMPROVING} when its training ended: AUROC on validation had stopped rising there, "
                f"or rose by no more than {TOLERANCE}."
            )
    return "\n\n".join(sentences)
