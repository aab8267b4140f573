"""The sweep's page: a heatmap and two curves that follow switches, and a heatmap of layers and token positions.

What begins with `layers` shows what `read` returns, and what begins with `places` what `places` does.
"""

import itertools
from html import escape
from pathlib import Path

import altair as alt
import pandas as pd

from whoknows.data import files
from whoknows.data.positions import LAST, QUERY
from whoknows.evaluation.auroc import MIN_PER_CLASS
from whoknows.evaluation.cells import MOST_FOR_ALL, READINGS, heatmap_axes
from whoknows.report.pages import style

CHOSEN = "chosen"
DEPTHS = [round(step / 20, 2) for step in range(21)]
NUMBERS = ["layer", "auroc", "validation_auroc"]
TIPS = ("layer", "strength", "size", "auroc", "validation_auroc")
FEW = 2  # models whose cells all have a line; of more, each has one for its own answers


def read(folder: str, models: list[str], readers: list[str]) -> pd.DataFrame:
    """The sweeps of all readers of a run that are there; of many models only the first, to keep the page small.

    What rests on too few right or wrong answers has no auroc. Without a sweep, as of a packed run, the table is empty.
    The sweep of an older run is all at the answer's last token.
    """
    some = [*dict.fromkeys([*readers, *models])][:MOST_FOR_ALL]
    every = (Path(folder) / f"{reader}.parquet" for reader in readers[:MOST_FOR_ALL])
    paths = [path for path in every if path.exists()]
    if not paths:
        return pd.DataFrame()
    table = pd.concat([files.read_parquet(path) for path in paths], ignore_index=True)
    table["auroc"] = table["auroc"].where(table["n_rarer"] >= MIN_PER_CLASS)
    table["position"] = table["position"].fillna(LAST) if "position" in table else LAST
    return table[table["trained_on"].isin(some) & table["scored"].isin(some)]


def layers_chart(table: pd.DataFrame, models: list[str]) -> alt.ConcatChart | None:
    """A heatmap and two curves that follow switches: depth of the layer, strength of the penalty, training answers.

    They open on what validation chooses for each probe, which is the report's own probe where its grid tries all
    layers. None without a sweep, or where too few answers measure any of it.
    """
    if table.empty or table["auroc"].isna().all():
        return None
    table = table[table["position"] == LAST].dropna(subset="auroc")
    readings = [*READINGS] if len(models) > 1 else ["A"]  # which are the same of one model
    drawn = pd.concat([heatmap_axes(_packed(table), reading) for reading in readings])
    last = table.groupby("reader")["last_layer"].first().filter(models).items()
    layers = " + ', ' + ".join(f"round(depth * {count}) + ' of {model}'" for model, count in last)
    where = f"depth === '{CHOSEN}' ? 'at the layer that validation chose' : 'at layer ' + {layers}"
    text = alt.expr(f"['AUROC on test answers,', {where}]")
    sizes, strengths = (sorted(table[name].unique().tolist()) for name in ("size", "strength"))
    labels = {CHOSEN: "chosen on validation"} | {number: f"{number:,g}" for number in [*DEPTHS, *strengths, *sizes]}
    switches = [
        style.switch("depth", [CHOSEN, *DEPTHS], labels, "Depth of the layer: "),
        style.switch("strength", [CHOSEN, *strengths], labels, "Strength: "),
        style.switch("size", sizes[::-1], labels, "Training answers: "),
        style.reading_switch(readings),
    ]
    at = {
        "layer": f"datum.layer === (depth === '{CHOSEN}' ? datum.chosen_layer : round(depth * datum.last_layer))",
        "strength": f"datum.strength === (strength === '{CHOSEN}' ? datum.chosen_strength : strength)",
        "size": "datum.size === size",
    }
    axes = {
        "layer": ("Layer", (0, int(table["last_layer"].max()))),
        "size": ("Training answers", (sizes[0], sizes[-1])),
    }
    scale = alt.Scale(domain=style.colour_domain(table["auroc"]), nice=False)
    cells = {*("trained on " + drawn["trained_on"] + ", scored on " + drawn["model"])}
    curves = [_curve(name, *axes[name], scale, at, models, cells) for name in axes]
    title = alt.TitleParams(text=text, anchor="start", fontWeight="normal", fontSize=12)
    panels = [_heatmap(models, style.colour_domain(table["auroc"], 0.5), at), *curves]
    whole = alt.concat(*panels, columns=3, data=drawn, spacing=24, title=title).add_params(*switches)
    described = (
        "A heatmap of the probe's AUROC on test answers, Model by Trained On, at what the switches choose. "
        "Beside it are its curves over layers and training answers. "
        "The table beneath has the values that validation chooses."
    )
    whole = whole.resolve_scale(color="independent", strokeDash="independent", shape="independent")
    return style.finished(whole, "sweep", described)


def _packed(table: pd.DataFrame) -> pd.DataFrame:
    """One line for all layers, as lists, to keep the page small, with what validation chooses at that size."""
    keys = ["reader", "trained_on", "scored", "size", "strength", "last_layer"]
    probe = ["reader", "trained_on", "size"]
    best = table.loc[table.groupby(probe, sort=False)["validation_auroc"].idxmax(), [*probe, "layer", "strength"]]
    lists = table.round(4).groupby(keys, sort=False)[NUMBERS].agg(list).reset_index()
    return lists.merge(best.rename(columns={"layer": "chosen_layer", "strength": "chosen_strength"}), on=probe)


def _shown(at: dict[str, str], *names: str) -> alt.Chart:
    """The points of one reading for which some of the switches hold."""
    before = [at[name] for name in names if name != "layer"]
    chart = alt.Chart().transform_filter(" && ".join(["datum.reading === reading", *before])).transform_flatten(NUMBERS)
    return chart.transform_filter(at["layer"]) if "layer" in names else chart


def _heatmap(models: list[str], ends: tuple[float, float], at: dict[str, str]) -> alt.LayerChart:
    size, (scale, ink) = min(90, 300 // len(models)), style.on_ramp(*ends)
    columns, rows = (style.lines_of(models, letters) for letters in (size // 6, style.LETTERS))
    base = style.tipped(_shown(at, *at), "model", "trained_on", *TIPS, auroc="AUROC on test").encode(
        x=alt.X("trained_on:N", sort=models, title="Trained On", axis=alt.Axis(labelAngle=0, labelExpr=columns)),
        y=alt.Y("model:N", sort=models, title="Model", axis=alt.Axis(**style.in_middle(rows))),
    )
    cells = base.mark_rect().encode(color=alt.Color("auroc:Q", scale=scale, legend=None))
    texts = base.mark_text(aria=False, fontSize=15, fontWeight="bold")
    texts = texts.encode(text=alt.Text("auroc:Q", format=".2f"), color=ink)
    return alt.layer(cells, texts).properties(width=alt.Step(size), height=alt.Step(size), title="Probe")


def _curve(
    over: str, title: str, across: tuple[int, int], scale: alt.Scale, at: dict[str, str], models: list[str],
    cells: set[str],
) -> alt.LayerChart:  # fmt: skip
    """AUROC on test over one of the three switches, the other two being as they say; a point where the third stands.

    The ends of the x axis, `across`, stay where they are; `cells` may have a line, if the models are few.
    """
    pairs = itertools.product(models, models)
    lines = [f"trained on {b}, scored on {a}" for a, b in pairs if len(models) <= FEW or a == b]
    lines = [line for line in lines if line in cells]
    symbol = {"symbolSize": 500 if over == "layer" else 90}
    symbol |= dict.fromkeys(("symbolStrokeColor", "symbolFillColor"), style.hue("probe"))
    legend = alt.Legend(orient="bottom", columns=1, labelLimit=300, labelExpr=style.LEGEND, **symbol)
    # Each legend stands beneath one panel only.
    dash, shape = ({"title": None, "legend": legend if over == name else None} for name in ("layer", "size"))
    kind = "log" if over == "size" else "linear"
    shown = _shown(at, *(name for name in at if name != over))
    shown = shown.transform_calculate(cell="'trained on ' + datum.trained_on + ', scored on ' + datum.model")
    shown = shown.transform_filter(alt.FieldOneOfPredicate("cell", lines))
    x = alt.X(f"{over}:Q", title=title, scale=alt.Scale(type=kind, domain=across, nice=False))
    base = style.tipped(shown, "cell", *TIPS, auroc="AUROC on test").encode(
        x=x.axis(format=",d", tickMinStep=1), y=alt.Y("auroc:Q", title="AUROC on test", scale=scale)
    )
    line = base.mark_line(strokeWidth=1.5, color=style.hue("probe"))
    line = line.encode(strokeDash=alt.StrokeDash("cell:N", scale=style.dashes(lines), **dash))
    here = base.transform_filter(at[over]).mark_point(filled=True, size=90, opacity=1, color=style.hue("probe"))
    here = here.encode(shape=alt.Shape("model:N", scale=style.shapes(sorted(models)), **shape))
    return alt.layer(line, here).properties(width=230, height=200, title=f"Over {title.lower()}")


def layers_html(table: pd.DataFrame) -> str:
    """The layer and strength that validation chooses by cell and size, and AUROC there, as HTML that folds away."""
    if table.empty:
        return "<p>There is no sweep to show.</p>"
    table, keys = table[table["position"] == LAST], ["reader", "trained_on", "scored", "size"]
    best = table.loc[table.groupby(keys, sort=False)["validation_auroc"].idxmax()]
    columns = {
        "reader": "Reader", "trained_on": "Trained On", "scored": "Scored", "size": "Training answers",
        "layer": "Layer", "strength": "Strength", "validation_auroc": "AUROC on validation", "auroc": "AUROC on test",
    }  # fmt: skip
    forms = dict.fromkeys(("validation_auroc", "auroc"), "{:.3f}".format)
    html = style.columns_html(best, columns, **forms)
    return style.folded("What validation chooses at each number of training answers", html)


def places(table: pd.DataFrame) -> pd.DataFrame:
    """What self-trained probes reach at each layer and position, at the strength that is best on validation.

    Returns:
        Its lines of these probes, with token (the position's title) and best (whether this is the first layer that is
        best on validation at the position); none if the sweep has no position but the answer's last token.
    """
    if table.empty or table["position"].eq(LAST).all():
        return pd.DataFrame()
    chosen = table[(table["reader"] == table["trained_on"]) & (table["reader"] == table["scored"])]
    chosen = chosen[chosen["size"] == chosen.groupby("reader")["size"].transform("max")]
    chosen = chosen.loc[chosen.groupby(["reader", "position", "layer"], sort=False)["validation_auroc"].idxmax()]
    best = chosen.groupby(["reader", "position"])["validation_auroc"].idxmax()
    return chosen.assign(token=chosen["position"].map(style.POSITIONS), best=chosen.index.isin(best))


def places_sentences(table: pd.DataFrame) -> str:
    """What the heatmap of layers and positions shows, as Markdown; "" if there is none."""
    if table.empty:
        return ""
    sentences = [
        "**Layer and token position.** The probe at other tokens, trained and tested on the reader's own answers.",
        "Colour is AUROC within task on in-distribution test answers, at the strength that is best on validation.",
        "A dot marks the layer of each row that is best on validation.",
        "A hatched cell has too few right or wrong answers.",
        "The heatmap is exploratory: it is for looking, and no estimator is chosen by it.",
    ]
    if QUERY not in set(table["position"]):
        sentences.append(
            "The query's end is not shown: no query follows the training answers of this run, so nothing can be "
            "learned there."
        )
    reached = []
    for top in table.loc[table.groupby("reader", sort=False)["validation_auroc"].idxmax()].itertuples():
        test = "too few answers measure it" if pd.isna(top.auroc) else f"AUROC is {top.auroc:.2f}"
        place = f"layer {top.layer} of the {top.token[0].lower()}{top.token[1:]}"
        reached.append(f"For {top.reader}, validation is highest at {place}; on test, {test} there.")
    return " ".join(sentences) + "\n\n" + " ".join(reached)


def places_chart(table: pd.DataFrame) -> alt.FacetChart | None:
    """A heatmap of token positions and layers for each reader; None if there is none."""
    if table.empty:
        return None
    ends = style.colour_domain(table["auroc"], 0.5)
    scale, ink = style.on_ramp(*ends)
    drawn = table[["reader", "token", *(name for name in TIPS if name != "size"), "best"]].round(4)
    tokens = [title for title in style.POSITIONS.values() if title in set(drawn["token"])]
    tips = [name for name in drawn if name != "best"]
    base = style.tipped(alt.Chart(), *tips, token="Position", auroc="AUROC on test").encode(
        x=alt.X("layer:O", title="Layer", axis=alt.Axis(labelAngle=0, labelOverlap=True)),
        y=alt.Y("token:N", title=None, sort=tokens, axis=alt.Axis(labelLimit=160)),
    )
    legend = style.bar(*ends, title="AUROC on test")
    cells = style.heatmap(base, alt.Color("auroc:Q", scale=scale, legend=legend), style.hatched(3))
    dots = base.transform_filter("isValid(datum.auroc) && datum.best")
    dots = dots.mark_point(filled=True, size=36, opacity=1, aria=False).encode(color=ink)
    panels = alt.layer(*cells, dots)
    panels = panels.properties(width=480, height=alt.Step(26)).facet(row=style.headed(drawn, "reader"), data=drawn)
    described = (
        "Heatmap of AUROC on test answers of self-trained probes, token position by layer, a panel for each reader. "
        "All values are in the table beneath."
    )
    return style.finished(panels.resolve_scale(x="independent"), "positions", described)


def places_html(table: pd.DataFrame) -> str:
    """The same numbers as HTML tables that fold away, one for each reader; "" if there are none."""
    if table.empty:
        return ""

    def by_layer(lines: pd.DataFrame) -> str:
        grid = lines.pivot(index="layer", columns="token", values="auroc").rename_axis(index="Layer", columns=None)
        grid = grid[[title for title in style.POSITIONS.values() if title in grid]]
        return grid.to_html(na_rep="—", float_format="{:.3f}".format)

    html = style.tables_html(table, "AUROC on test, " + table["reader"].map(escape), by_layer)
    return style.folded("AUROC at each layer and token position", html)
