"""What beats what: each model's own estimators, and the controls, on the same test answers.

`x_chart`, `x_html` and `x_sentences` show what `x` returns, unless they say what else they take.
"""

from collections.abc import Sequence
from pathlib import Path

import altair as alt
import numpy as np
import pandas as pd

from whoknows.data import files
from whoknows.data.methods import METHOD_TITLES
from whoknows.data.rows import ALL_MODELS
from whoknows.evaluation import bootstrap, scores
from whoknows.evaluation.bootstrap import ABOVE, BELOW, EXPLORATORY, FEW, INSIGNIFICANT
from whoknows.evaluation.cells import COMPARED, enough, first_test_set, measure, native_rows, on_tasks, own_reader
from whoknows.evaluation.plateau import IMPROVING, RELEASED
from whoknows.report.pages import claims, style
from whoknows.report.pages.heatmaps import values_text
from whoknows.report.pages.style import INK, ON_VALIDATION, WITHOUT_ZERO, dashes, family, hue, shapes, tipped

NO_PROBE = "There is no probe to show."
SIZE, ONE_EACH = "probe_n", "probe_one_each"
ONE_LABEL = f"{ALL_MODELS}, one answer to each question"


def whose(table: pd.DataFrame) -> dict[str, str]:
    """By scored model of what `cells.native_rows` has chosen, in words whose the reader of its answers is."""
    readers = table[table["reader"] != ""].groupby("scored")["reader"].first()
    by = {scored: readers.get(scored, scored) for scored in table["scored"].unique()}
    return {s: "on its own answers" if s == reader else f"with {reader} as its reader" for s, reader in by.items()}


def with_reader(table: pd.DataFrame) -> pd.Series:
    """The scored model of each line, and in words whose the reader of its answers is."""
    return table["scored"] + " " + table["scored"].map(whose(table))


def contest(rows: pd.DataFrame, models: list[str], tasks: list[dict]) -> pd.DataFrame:
    """The native cells of all methods on the first test set, and how each differs from the probe on the same answers.

    Returns:
        The columns of `cells.measure` and difference (AUROC less that of the probe), difference_low, difference_high,
        p, p_holm (of `claims.primary`, missing where a difference is exploratory) and against (what `bootstrap.tested`
        says), on the answers that both have scored; missing without a probe.
    """
    shown = native_rows(rows[rows["method"].isin(METHOD_TITLES)], models)
    return _against_self_trained(rows, shown, models, tasks, dict.fromkeys(METHOD_TITLES, "probe"))


def learned_from(
    rows: pd.DataFrame, answers: dict[str, pd.DataFrame], models: list[str], tasks: list[dict]
) -> pd.DataFrame:
    """The estimators that score each model's answers with its own reader, by whose answers they were trained on.

    Returns:
        The columns that `contest` returns, AUROC alone, and label (whose answers these were) and training_answers (how
        many). Of each method the estimator that was trained on the scored model's own answers comes first, and the
        others are compared with it.
    """
    than = {"probe": "probe", ONE_EACH: "probe", "lora_prompt": "lora_prompt"}
    asked = rows["method"].isin(than) & (rows["reader"] == own_reader(rows["scored"], models))
    table = _against_self_trained(rows, rows[asked], models, tasks, than, only_auroc=True)
    questions = {model: set(frame.loc[frame["split"] == "train", "question_id"]) for model, frame in answers.items()}
    counts = {model: len(learned) for model, learned in questions.items()}
    counts |= {ALL_MODELS: sum(counts.values()), ONE_LABEL: len(set().union(*questions.values()))}
    label = table["trained_on"].mask(table["method"] == ONE_EACH, ONE_LABEL)
    place = label.map([*counts].index).where(label != table["scored"], -1)
    table = table.assign(label=label, training_answers=label.map(counts), method=table["method"].map(than))
    order = np.lexsort((place, table["method"].map([*than].index), table["scored"]))
    return table.iloc[order].reset_index(drop=True)


def _against_self_trained(
    rows: pd.DataFrame, shown: pd.DataFrame, models: list[str], tasks: list[dict], than: dict[str, str],
    only_auroc: bool = False,
) -> pd.DataFrame:  # fmt: skip
    """What `contest` returns of some rows; `than` has the method whose self-trained estimator each is compared with."""
    label, members = first_test_set(tasks, rows)
    places = shown[scores.CELL].drop_duplicates()
    # With what the primary hypotheses are about.
    rows = rows[rows.index.isin(shown.index) | (rows["method"].isin(COMPARED) & (rows["trained_on"] != ALL_MODELS))]
    samples, by_task = bootstrap.samples(rows), scores.by_task(rows, only_auroc)
    measured = measure(rows, by_task, tasks, samples)
    primary = claims.corrected(rows, measured, samples, models, tasks)
    cells = measured[measured["test_set"] == label].merge(places)
    base = cells["method"].map(than)
    diagonal = cells.index[(cells["method"] == base) & (cells["trained_on"] == cells["scored"])]
    self_trained = dict(zip(zip(cells.loc[diagonal, "method"], cells.loc[diagonal, "scored"]), diagonal))
    rival_of = pd.Series([*zip(base, cells["scored"])], cells.index).map(self_trained)
    rival_of = rival_of.drop(diagonal).dropna().astype(int)
    others, places = rival_of.index, [*cells[scores.CELL].itertuples(index=False, name=None)]
    pairs = ({places[other]: 1.0, places[rival]: -1.0} for other, rival in rival_of.items())
    drawn = bootstrap.contrasts(pairs, cells.set_index(scores.CELL), bootstrap.by_cell(samples, members))
    lines, resampled = (pd.DataFrame(values).set_axis(others) for values in drawn)
    fewer = cells.loc[others, ["n", "seeds"]].to_numpy() < cells.loc[rival_of, ["n", "seeds"]].to_numpy()
    # Controls may be trained with the first seed alone.
    method, trained_on = (cells.loc[others, name] for name in ("method", "trained_on"))
    is_control = ((trained_on == ALL_MODELS) | (trained_on != "") & ~method.isin(COMPARED)).to_numpy()
    for other in others[fewer[:, 0] | (fewer[:, 1] & is_control)]:
        both = rows.set_index(scores.CELL).loc[[places[other], places[rival_of[other]]]].reset_index()
        lines.loc[other, ["estimate", "n_rarer"]], resampled.loc[other] = _on_shared(both, places[other], members)
    tested = bootstrap.tested(lines, resampled.to_numpy(), primary)
    tested = tested.drop(columns=["n_rarer", "unsettled", "hypothesis"])
    names = {"estimate": "difference", "low": "difference_low", "high": "difference_high", "says": "against"}
    return enough(cells).join(tested.rename(columns=names))


def _on_shared(rows: pd.DataFrame, cell: tuple, tasks: list[str]) -> tuple[list, np.ndarray]:
    """How a cell differs from another one, [AUROC, the fewer right or wrong answers], and resampled [times].

    The cell has scored a part of the answers that the other one has, or was trained with a part of its seeds.
    """
    its = rows[(rows[scores.CELL] == [*cell]).all(axis=1)]
    seeds = its if its["trained_on"].iloc[0] else rows  # what nobody trained has none
    shared = rows[rows["question_id"].isin(its["question_id"]) & rows["seed"].isin(seeds["seed"])]
    values, draws = on_tasks(shared, tasks)
    sign = np.array([1.0 if place == cell else -1.0 for place in values.index])
    return [sign @ values["auroc"], values["n_rarer"].min()], sign @ draws.loc[values.index]


def learning_curve(rows: pd.DataFrame, tasks: list[dict], readers: Sequence[str] = ()) -> pd.DataFrame:
    """AUROC of the native probes against the number of training answers, on the first test set.

    Returns:
        The columns of `cells.measure` and size, a number or "all".
    """
    native = native_rows(rows[rows["method"].str.startswith(SIZE) | (rows["method"] == "probe")], readers)
    cells = enough(measure(native, scores.by_task(native, only_auroc=True), tasks))
    cells = cells[cells["test_set"] == cells["test_set"].iloc[0]] if len(cells) else cells
    return cells.assign(size=[method.removeprefix(SIZE) if method != "probe" else "all" for method in cells["method"]])


def layers(folder: str | Path, models: list[str], seeds: list[int]) -> pd.DataFrame:
    """What each layer reached on validation, at its best strength, for each model's probe on its own answers.

    Returns:
        scored, layer, depth (0 to 1), validation_auroc (mean over seeds), chosen (by any seed).
    """
    parts = []
    for model in models:
        for path in (Path(folder) / "probe" / model / model / f"seed{seed}" / "probe.json" for seed in seeds):
            card = files.read_json(path) if path.exists() else {}
            if "search" in card:
                best = pd.DataFrame(card["search"]).groupby("layer", as_index=False)["validation_auroc"].max()
                parts.append(best.assign(scored=model, chosen=best["layer"] == card["chosen"]["layer"]))
    if not parts:
        return pd.DataFrame(columns=["scored", "layer", "depth", "validation_auroc", "chosen"])
    by_layer = pd.concat(parts).groupby(["scored", "layer"], sort=False, as_index=False)
    table = by_layer.agg({"validation_auroc": "mean", "chosen": "any"})
    return table.assign(depth=table["layer"] / table.groupby("scored")["layer"].transform("max"))


def contest_chart(table: pd.DataFrame) -> alt.Chart:
    """AUROC and interval of every method that scores a model's own answers, a panel for each model."""
    columns = [*scores.CELL, "auroc", "low", "high", "ece", "brier", "against", "n_right"]
    drawn = table.dropna(subset="auroc").filter(columns).round(4)
    drawn["kind"], drawn["label"] = drawn["method"].map(family), drawn["method"].map(METHOD_TITLES)
    drawn = style.in_lines(drawn.assign(panel=with_reader(drawn)), label=style.LABEL, panel=style.LABEL)
    order = drawn.groupby("label")["auroc"].mean().sort_values(ascending=False).index.tolist()
    hues = style.scale({family(method): hue(method) for method in METHOD_TITLES if method in set(drawn["method"])})
    legend = alt.Legend(orient="top", columns=2, labelLimit=240, labelExpr=style.LEGEND)
    base = tipped(alt.Chart(), "label", "scored", "auroc", "low", "high", "brier", "ece", "n_right").encode(
        y=alt.Y("label:N", title=None, sort=order, axis=style.NAMES),
        color=alt.Color("kind:N", title=None, scale=hues, legend=legend),
    )
    points = base.mark_point(filled=True, size=60, opacity=1).encode(x="auroc:Q")
    chart = alt.layer(style.rule_at(0.5), style.interval_bars(base, "AUROC", WITHOUT_ZERO), points, data=drawn)
    chart = chart.properties(width=380, height=style.row_step(drawn["label"])).facet(row=style.headed(drawn, "panel"))
    described = f"AUROC of methods that score a model's own answers, {len(order)} in all, with intervals"
    return style.finished(chart, "contest", f"{described}; all values are in the table beneath.")


def layers_chart(table: pd.DataFrame) -> alt.LayerChart | None:
    """AUROC on validation by layer, a line for each model that scores its own answers; the chosen layers are ringed.

    None without any.
    """
    if table.empty:
        return None
    drawn = table.round(4)
    x = alt.X("depth:Q", title="Depth of the layer (0 = embeddings, 1 = last)", scale=alt.Scale(domain=[0, 1]))
    base = tipped(alt.Chart(drawn), "scored", "layer", "depth", "validation_auroc").encode(x=x, y=ON_VALIDATION)
    rings = base.transform_filter("datum.chosen").mark_point(size=220, strokeWidth=2, color=INK)
    described = "AUROC of the probe on validation by depth of the layer; the layers that were chosen are ringed."
    lines = _by_model(base, drawn["scored"])
    return style.finished(lines + rings, "layers", described, width="container", height=260)


def _by_model(base: alt.Chart, models: pd.Series) -> alt.LayerChart:
    """A line with points for each model, all of them the probe's."""
    names = sorted(models.unique())  # so that a model has one shape in all charts
    colours = dict.fromkeys(("symbolFillColor", "symbolStrokeColor"), hue("probe"))
    legend = alt.Legend(orient="top", columns=6, labelLimit=style.LONGEST, titleLimit=400, **colours)
    model = {"title": "Reader, trained on and scored", "legend": legend}
    dash = alt.StrokeDash(f"{models.name}:N", scale=dashes(names), **model)
    shape = alt.Shape(f"{models.name}:N", scale=shapes(names), **model)
    points = base.mark_point(color=hue("probe"), filled=True, opacity=1, size=45)
    return base.mark_line(color=hue("probe")).encode(strokeDash=dash) + points.encode(shape=shape)


def learning_curve_chart(table: pd.DataFrame) -> alt.LayerChart | None:
    """AUROC of the probe by number of training answers, a line with a band for each model; None without any."""
    drawn = table.dropna(subset="auroc").filter(["scored", "size", "auroc", "low", "high"]).round(4)
    if drawn.empty:
        return None
    sizes = _sizes(drawn)
    x = alt.X("size:O", sort=[*sizes.values()], title="Training answers", axis=alt.Axis(labelAngle=0))
    drawn["size"] = drawn["size"].map(sizes)
    base = tipped(alt.Chart(drawn), "scored", "size", "auroc", "low", "high").encode(x=x)
    y, low = (alt.Y(f"{name}:Q", title="AUROC", scale=WITHOUT_ZERO) for name in ("auroc", "low"))
    bands = base.mark_area(opacity=0.12, color=hue("probe")).encode(detail="scored:N", y=low, y2="high:Q")
    described = "AUROC of the probe by number of training answers, with intervals; all values are in the table beneath."
    lines = _by_model(base.encode(y=y), drawn["scored"])
    return style.finished(bands + lines, "learning_curve", described, width="container", height=260)


def _sizes(table: pd.DataFrame) -> dict[str, str]:
    """The numbers of training answers in their order, and how pages write them."""
    order = sorted(set(table["size"]), key=lambda size: float("inf") if size == "all" else int(size))
    return {size: size if size == "all" else f"{int(size):,}" for size in order}


def baselines_html(table: pd.DataFrame) -> str:
    """What `cells.baseline_table` returns as HTML: AUROC by method, reader and scored model; "" if it is empty."""
    if table.empty:
        return ""
    drawn = table.assign(says=values_text(table), method=table["method"].map(METHOD_TITLES))
    parts = []
    for test_set, cells in drawn.groupby("test_set", sort=False):
        wide = cells.pivot(index=["method", "reader"], columns="scored", values="says").fillna("—").reset_index()
        wide = wide.rename(columns={"method": "Method", "reader": "Reader"}).rename_axis(columns=None)
        parts.append(style.captioned(wide.to_html(index=False), f"AUROC by scored model, {test_set}"))
    return "".join(parts[:1]) + (style.folded("The other test questions", "".join(parts[1:])) if parts[1:] else "")


def contest_html(table: pd.DataFrame) -> str:
    """All metrics of the native cells as HTML, a table for each scored model; that with tasks pooled folds away."""
    parts = []
    for model, cells in table.groupby(with_reader(table), sort=False):
        cells = cells.sort_values("auroc", ascending=False)
        names = {"Method": cells["method"].map(METHOD_TITLES)}
        shown = style.metric_columns(cells, names)
        shown.insert(2, "Difference from the probe", _less(cells))
        most = cells.loc[cells["n"].idxmax()]  # likelihood may have fewer
        caption = f"{model}: {most['n_right']:,} right of {most['n']:,}. {style.BENEATH}"
        parts.append(style.captioned(shown.to_html(index=False, escape=False, classes="metrics contest"), caption))
        parts.append(style.pooled_html(cells, names))
    return "\n".join(parts)


def _less(cells: pd.DataFrame) -> list[str]:
    """Differences from the probe with their intervals, the p-values that the verdicts rest on, and the verdicts."""
    names, texts = ("difference", "difference_low", "difference_high"), []
    differences = style.with_interval(*(cells[name] for name in names), sign="+")
    for line, difference in zip(cells.itertuples(), differences):
        p = style.p_is(line.p) if pd.isna(line.p_holm) else f"{style.p_is(line.p_holm)} after Holm"
        verdict = "" if pd.isna(line.against) else line.against
        texts.append(f"{difference}, {p}, {verdict}" if difference else verdict)
    return texts


def learned_from_html(table: pd.DataFrame) -> str:
    """The estimators by whose answers they were trained on, as HTML, a table for each scored model."""
    parts = []
    for model, cells in table.groupby(with_reader(table), sort=False) if len({*table["label"]}) > 1 else ():
        values = style.with_interval(cells["auroc"], cells["low"], cells["high"])
        shown = pd.DataFrame({
            "Method": cells["method"].map(METHOD_TITLES), "Trained on": cells["label"],
            "Training answers": cells["training_answers"],
            "AUROC, 95 % interval": [value or f"— ({why})" for value, why in zip(values, cells["reason"])],
            "Difference from self-trained": _less(cells),
        })  # fmt: skip
        caption = f"{model}: {cells['n_right'].iloc[0]:,} right of {cells['n'].iloc[0]:,}"
        parts.append(style.captioned(shown.to_html(index=False, classes="learned"), caption))
    return "\n".join(parts)


def learning_curve_html(table: pd.DataFrame) -> str:
    """The numbers of `learning_curve_chart` as an HTML table."""
    if table.empty:
        return f"<p>{NO_PROBE}</p>"
    shown = table.assign(says=style.with_interval(table["auroc"], table["low"], table["high"]))
    sizes = _sizes(table)
    wide = shown.pivot(index="scored", columns="size", values="says")[[*sizes]].fillna("—").reset_index()
    return wide.rename(columns={"scored": "Model"} | sizes).rename_axis(columns=None).to_html(index=False)


def contest_sentences(table: pd.DataFrame) -> str:
    """For each model, what is above its probe, what is below, and what does not differ significantly, as Markdown."""
    sentences, of = [], whose(table)
    for scored, cells in table.groupby("scored", sort=False):
        for line in cells[cells["method"] == "probe"].itertuples():
            value = f"the probe has {line.auroc:.2f} ({line.low:.2f} to {line.high:.2f}). {_against(cells)}"
            value = value if pd.notna(line.auroc) else f"no value ({line.reason})."
            sentences.append(f"- **{scored}**, {of[scored]}: {value}")
    return "\n".join(sentences) or "There is no probe to compare with yet."


def learned_from_sentences(table: pd.DataFrame) -> str:
    """For each model, how an estimator differs if it was trained on other answers than its own, as Markdown."""
    others, lines, of = table[table["label"] != table["scored"]], [], whose(table)
    if others.empty:
        return "There is no estimator that was trained on the answers of other models."
    for scored, by_model in others.groupby("scored", sort=False):
        for method, cells in by_model.groupby("method", sort=False):
            parts = [f"{line.label} {_from_self_trained(line)}" for line in cells.itertuples()]
            lines.append(f"- **{scored}**, {of[scored]}, {METHOD_TITLES[method]}: {'; '.join(parts)}.")
    lead = "AUROC by whose answers the estimator was trained on, less that of the self-trained one of the same method:"
    missing = {*table["method"]} - {*table.loc[table["trained_on"] == ALL_MODELS, "method"]}
    names = " or ".join(title for method, title in METHOD_TITLES.items() if method in missing)
    nothing = ["", f"This run has no {names} that was trained on all models' answers."] if names else []
    return "\n".join([lead, "", *lines, *nothing])


def _from_self_trained(line) -> str:
    if pd.notna(line.auroc) and pd.isna(line.against):
        return "with no self-trained one to compare with"
    value = style.signed(line.difference) if pd.notna(line.difference) else "no value"
    return f"{value} ({line.against})" if pd.notna(line.against) else value


def below_chance_sentences(table: pd.DataFrame) -> str:
    """Which of `cells.baseline_table` rank wrong answers above right ones on the first test set, as Markdown."""
    first = table[table["test_set"] == table["test_set"].iloc[0]] if len(table) else table
    below = first[first["high"] < 0.5]
    if below.empty:
        return ""
    cells = []
    for line in below.itertuples():
        reader = f" of reader {line.reader}" if line.reader else ""
        value = f"{line.auroc:.2f} ({line.low:.2f} to {line.high:.2f})"
        cells.append(f"{METHOD_TITLES[line.method]}{reader}, scored on {line.scored}: {value}")
    return (
        f"Below chance, by an interval that ends below one half: {'; '.join(cells)}. There wrong answers get more "
        "confidence than right ones, so that it misleads. These comparisons are exploratory."
    )


def _against(cells: pd.DataFrame) -> str:
    leads = {
        ABOVE: "Above it",
        INSIGNIFICANT: "Not significantly different",
        BELOW: "Below it",
        EXPLORATORY: "Exploratory, by their difference",
        IMPROVING: f"With one of the two {IMPROVING} when training ended",
        RELEASED: "Without a verdict, since the adapter was released by others",
        FEW: "With too few right or wrong answers to tell",
    }
    parts = []
    for verdict, lead in leads.items():
        rivals = cells[cells["against"] == verdict].sort_values("difference", ascending=False)
        differences = [f" ({style.signed(value)})" if pd.notna(value) else "" for value in rivals["difference"]]
        names = [METHOD_TITLES[method] + text for method, text in zip(rivals["method"], differences)]
        if names:
            parts.append(f"{lead}: {', '.join(names)}.")
    return " ".join(parts)
