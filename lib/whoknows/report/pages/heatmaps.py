"""The heatmaps: Model on y, Trained On on x, dark purple (worse) to light orange (better); and what they rest on."""

import itertools
import json
import re
from dataclasses import replace

import altair as alt
import numpy as np
import pandas as pd

from whoknows.data.assets import ASSETS
from whoknows.data.methods import METHOD_TITLES
from whoknows.data.prompts import CHAT
from whoknows.data.rows import ALL_MODELS
from whoknows.evaluation import plateau
from whoknows.evaluation.bootstrap import ALPHA, holm, hypothesis
from whoknows.evaluation.cells import ALL, COMPARED, READINGS, first_heatmap, native_rows
from whoknows.evaluation.plateau import IMPROVING, MARK, RELEASED, UNKNOWN, no_verdict
from whoknows.evaluation.scores import CELL, MEASURES, POOLED, Measure
from whoknows.report.pages import style
from whoknows.report.pages.style import INK, RAMP, black_from, captioned, span

# The measures that a cell can show.
METRICS = ("auroc", "pooled_auroc", "prr", "aurc", "threshold_accuracy", "brier", "ece", "ece_platt")
NOTHING = "no training"
FONT = 12  # pixels; the least that is read without effort
# What a tooltip says of a cell beneath its value: the columns and their titles.
TIP = {
    "model": "Model", "reader": "Reader", "trained_on": "Trained on", "scored": "Scored", "between": "95 % interval",
    "between_seeds": "AUROC by seed", "right": "Right answers", "tasks": "Tasks measured",
    "training": "When training ended", "reason": "Missing because",
}  # fmt: skip
STATES = {"": "at its plateau", UNKNOWN: UNKNOWN, RELEASED: "not known, released by others", IMPROVING: IMPROVING}
SWITCHES = {
    "metric": "Metric: ", "reading": "Reading: ", "grading": "Graded by: ", "test_set": "Test questions: ",
    "pair": "Heatmaps: ",
}  # fmt: skip


def heatmaps_chart(
    table: pd.DataFrame, models: list[str], name: str, links: bool = False, untrained: pd.DataFrame | None = None
) -> alt.HConcatChart:
    """One or two heatmaps side by side, with switches for what the table holds more than one of, and one colour bar.

    Args:
        table: reading, test_set, method, model, trained_on, any of `METRICS` (NaN where missing) and reason; n_right or
            note for the small last line; unsettled where it is known; grading where there is more than one.
        models: on both axes, in order.
        name: of the file of a chart that is saved.
        links: whether a click on a cell opens the page of its estimator, which lies in run/.
        untrained: as `untrained` returns, for a last panel of one column.
    """
    shown = [metric for metric in METRICS if metric in table and (metric == "auroc" or table[metric].notna().any())]
    pages = [page_of(line) if links else "" for line in table.itertuples()]
    table = table.assign(page=pages, grading=table.get("grading", ""))
    parts = [table, *([] if untrained is None or untrained.empty else [untrained.assign(page="", grading="")])]
    drawn = with_labels(pd.concat(parts, ignore_index=True), len(models))
    place = ["reading", "grading", "test_set", "method", "model"]
    drawn = drawn.filter([*TIP, *shown, *(f"interval_{metric}" for metric in shown), *place, "mark", "note", "page"])
    bare = [name for name in drawn if name not in place and name in (*TIP, "mark")]
    empty = [name for name in bare if not drawn[name].fillna("").ne("").any()]
    drawn = drawn.drop(columns=empty).round(dict.fromkeys(shown, 8))  # less to load
    order = [*models, *(label for label in dict.fromkeys(drawn["model"]) if label not in models)]
    methods = [method for method in METHOD_TITLES if method in set(table["method"])]
    sides = ["left", "right"][: len(methods)]
    parameters = [alt.param(name=side, expr=f"split(pair, ' ')[{at}]") for at, side in enumerate(sides)]
    if len(parts) > 1:
        sides.append("plain")
        parameters.append(alt.param(name="plain", value=parts[1]["method"].iloc[0]))
    parameters.append(alt.param(name="domains", value=_domains(drawn, shown)))
    panels = [_panel(drawn, shown, side, sides, models, order) for side in sides]
    chart = alt.hconcat(*panels, spacing=12, data=drawn, title=_title(drawn, shown)).resolve_scale(color="independent")
    chart = chart.add_params(*_switches(table, shown, methods), *parameters)
    return style.finished(chart, name, described(table), autosize=alt.AutoSizeParams(resize=True))


def untrained(table: pd.DataFrame, cells: pd.DataFrame, method: str) -> pd.DataFrame:
    """A training-free method in the rows of the heatmaps: the value that a row's estimators have to beat.

    Returns:
        The columns of `table` with `NOTHING` as trained_on: a line for each reading, test set and row.
    """
    plain = native_rows(cells[cells["method"] == method])
    rows = table[["reading", "test_set", "model", "scored"]].drop_duplicates(["reading", "test_set", "model"])
    return rows.merge(plain, on=["test_set", "scored"]).assign(trained_on=NOTHING)


def page_of(line) -> str:
    """The address of a cell's page from the first page, with the scored model chosen; "" if nothing was scored."""
    if pd.isna(line.n):
        return ""
    method = line.method.removesuffix("_mlp")
    return f"run/cell-{method}_{line.reader}_{line.trained_on}.html?scored={line.scored}"


def with_labels(table: pd.DataFrame, size: int) -> pd.DataFrame:
    """The table of `heatmaps_chart` with what each cell says.

    Args:
        size: number of models on an axis; small cells get short notes.

    Returns:
        Also value (AUROC in words), mark (of an estimator that was still improving), interval_… (by metric), note (the
        last line), and what a tooltip says besides.
    """
    drawn = table.copy()  # a value that is rounded here would be rounded again where it is shown
    measured = table["auroc"].notna()
    drawn["mark"] = np.where((no_verdict(table) == IMPROVING) & measured, f" {MARK}", "")
    drawn["value"] = ["—" if np.isnan(v) else f"{v:.2f}{mark}" for v, mark in zip(table["auroc"], drawn["mark"])]
    if "unsettled" in table:
        trained = measured & (table["trained_on"] != NOTHING)
        drawn["training"] = table["unsettled"].map(STATES).where(trained, None)
    if "of_tasks" in table:
        fewer = zip(table["n_tasks"], table["of_tasks"], (table["n_tasks"] < table["of_tasks"]).fillna(False))
        drawn["tasks"] = [f"{n} of {of}" if less else "" for n, of, less in fewer]
    if "note" not in drawn:
        word = "" if size > 4 else " right"
        drawn["note"] = [f"{n:,}{word}" if there else "" for n, there in zip(table["n_right"], measured)]
        if "n_rarer" in drawn:
            drawn.loc[~measured & drawn["n_rarer"].fillna(0).gt(0), "note"] = "too few"
        if "of_tasks" in drawn and size <= 4:
            tasks = ", " + drawn["tasks"].str.replace(" of ", "/")
            drawn["note"] += tasks.where(measured & drawn["tasks"].ne(""), "")
    if "low" in drawn:
        suffixes = {metric: f"_{metric}" for metric in METRICS if f"low_{metric}" in table} | {"auroc": ""}
        for metric, suffix in suffixes.items():
            drawn[f"interval_{metric}"] = [*map(style.interval_text, table[f"low{suffix}"], table[f"high{suffix}"])]
        seeds = zip(table["lowest_seed"], table["highest_seed"], table["seeds"].fillna(0))
        drawn["between_seeds"] = [style.interval_text(low, high) if count > 1 else "" for low, high, count in seeds]
    if "n" in drawn:
        counts = zip(table["n_right"].fillna(0), table["n"].fillna(0))
        drawn["right"] = [f"{right:,} of {n:,} ({style.percent(right / n, 1)})" if n else "" for right, n in counts]
    return drawn


def values_text(table: pd.DataFrame) -> list[str]:
    """Value, interval, note and spread over seeds of each cell, as far as it has them, or why there is no value."""
    drawn, none, measured = with_labels(table, 0), pd.Series("", table.index), table["auroc"].notna()
    between = drawn.get("between_seeds", none)  # "" where there is one seed, or no value
    spread = ("by seed " + between).where(between != "", "")
    why = drawn.get("reason", none).mask(measured, "")
    details = zip(drawn.get("interval_auroc", none), drawn["note"].where(measured, ""), spread, why)
    notes = [", ".join(filter(None, parts)) for parts in details]
    return [f"{value} ({note})" if note else value for value, note in zip(drawn["value"], notes)]


def described(table: pd.DataFrame) -> str:
    """The first picture of the chart in words, for those who do not see it."""
    switched = [name for name in ("reading", "test_set", "grading") if name in table]
    first = table[(table[switched] == table[switched].iloc[0]).all(axis=1)]
    what = f"Heatmaps of AUROC on {first['test_set'].iloc[0]} questions, Model by Trained On"
    sentences = [f"{what}; all values are in the table beneath."]
    for method, cells in first.groupby("method", sort=False):
        best, worst = cells["auroc"].max(), cells["auroc"].min()
        measured = f"{worst:.2f} to {best:.2f}" if cells["auroc"].notna().any() else "nothing measured"
        counts = no_verdict(cells).value_counts()
        unfinished = "".join(f", {counts[name]} {name}" for name in (IMPROVING, RELEASED) if name in counts)
        missing = cells["auroc"].isna().sum()
        sentences.append(f"{METHOD_TITLES[method]}: {measured}, {missing} missing{unfinished}.")
    return " ".join(sentences)


def measure_of(metric: str) -> Measure:
    """One of `METRICS`, pooled over tasks or not, and what pages call it."""
    measure = MEASURES[metric.removeprefix(POOLED)]
    return replace(measure, title=f"{measure.title}, tasks pooled") if metric.startswith(POOLED) else measure


def _switches(drawn: pd.DataFrame, metrics: list[str], methods: list[str]) -> list[alt.Parameter]:
    pairs = {" ".join(pair): " | ".join(map(METHOD_TITLES.get, pair)) for pair in itertools.combinations(methods, 2)}
    pairs = pairs or {methods[0]: ""}
    labels = {
        "reading": {reading: title[0] for reading, title in style.PANELS.items()},
        "metric": {metric: measure_of(metric).title for metric in metrics},
        "pair": pairs,
    }
    values = {name: list(drawn[name].unique()) for name in ("reading", "grading", "test_set")}
    values |= {name: list(labels[name]) for name in ("metric", "pair")}
    usual = {"pair": "probe lora_prompt"} if "probe lora_prompt" in pairs else {}
    titles = SWITCHES.items()
    return [style.switch(name, values[name], labels.get(name, {}), title, usual.get(name)) for name, title in titles]


def _domains(table: pd.DataFrame, metrics: list[str]) -> dict[str, dict]:
    """Ends of the colour bar, (low, high), by metric, test set, reading and method."""
    domains = {metric: {} for metric in metrics}
    for metric, ((test_set, reading), cells) in itertools.product(metrics, table.groupby(["test_set", "reading"])):
        chance = 0.5 if metric.endswith("auroc") else None
        by_method = {method: style.colour_domain(values, chance) for method, values in cells.groupby("method")[metric]}
        domains[metric].setdefault(test_set, {})[reading] = by_method
    return domains


def _words(table: pd.DataFrame, reading: str) -> list[str]:
    """What a reading is called and how its axes are read; of one model there is nothing to call it."""
    is_alone = len(table[["model", "trained_on"]].drop_duplicates()) == 1
    return style.ALONE if is_alone else style.PANELS[reading]


def _title(drawn: pd.DataFrame, metrics: list[str]) -> alt.TitleParams:
    # one text of some lines, since Vega-Lite's subtitle cannot follow a switch
    readings = json.dumps({reading: _words(drawn, reading) for reading in drawn["reading"].unique()})
    names, bare = {}, ", without intervals" if "interval_auroc" in drawn else ""
    for metric in metrics:
        measure = measure_of(metric)
        direction = "" if measure.is_high_better else ", less is better"
        names[metric] = measure.title + direction + ("" if f"interval_{metric}" in drawn else bare)
    first = f"{json.dumps(names)}[metric] + ' · ' + {readings}[reading][0]"
    text = alt.expr(f"[{first}, {readings}[reading][1], {readings}[reading][2] || '']")
    return alt.TitleParams(text=text, anchor="start", offset=10, fontWeight="normal", fontSize=FONT)


def _panel(
    drawn: pd.DataFrame, metrics: list[str], side: str, sides: list[str], models: list[str], order: list[str]
) -> alt.LayerChart:
    size = int(np.clip(620 // (2 * len(models) + 1), 46, 96))
    letters = size // 7  # of a column
    has_room = max(len(line) for name in models for line in style.broken(name, letters).split("\n")) <= letters
    columns = style.lines_of([*models, NOTHING], letters if has_room else style.LETTERS)
    domains = "domains[metric][test_set][reading]"
    ends = [f"{of}({', '.join(f'{domains}[{one}][{end}]' for one in sides)})" for end, of in enumerate(("min", "max"))]
    better = json.dumps({metric: measure_of(metric).is_high_better for metric in METRICS})
    reverse = alt.expr(f"!{better}[metric]")
    scale = alt.Scale(domain=[*map(alt.expr, ends)], range=RAMP, interpolate="rgb", clamp=True, reverse=reverse)
    length = min(size * len(models), 240)
    values = alt.expr(f"[{ends[0]}, ({ends[0]} + {ends[1]}) / 2, {ends[1]}]")
    bar = alt.Legend(title=None, format=".3f", gradientLength=length, values=values, labelFontSize=FONT)
    linked = drawn["page"].ne("").any() and side != "plain"
    pointer = "pointer" if linked else "default"
    fonts = {"labelFontSize": FONT, "titleFontSize": FONT}
    angle = 0 if side == "plain" or has_room else -40
    x_axis = alt.Axis(labelAngle=angle, labelLimit=style.LONGEST, labelExpr=columns, **fonts)
    y_axis = alt.Axis(labelLimit=style.LONGEST, **style.in_middle(style.lines_of(order, style.LETTERS)), **fonts)
    base = _in_panel(drawn, metrics, side, ends, better).encode(
        x=alt.X("trained_on:N", sort=models, title="" if side == "plain" else "Trained On", axis=x_axis),
        y=alt.Y("model:N", sort=order, title="Model", axis=y_axis),
        tooltip="tip:N",
        description="heard:N",
        **{"href": "page:N"} if linked else {},
    )
    colour = alt.Color("shown:Q", scale=scale, legend=bar if side == sides[-1] else None)
    texts = {name: {"cursor": pointer} | look for name, look in _lines(size, "interval_auroc" in drawn).items()}
    cells = style.heatmap(base, colour, style.hatched(), texts, alt.Color("ink:N", scale=None), cursor=pointer)
    layers = alt.layer(*cells).resolve_scale(color="independent")
    title = alt.TitleParams(text=alt.expr(f"{json.dumps(METHOD_TITLES)}[{side}]"), fontSize=14)
    there = drawn[(drawn["trained_on"] == NOTHING) == (side == "plain")]
    count = there.groupby("reading")["trained_on"].nunique()  # a reading may have fewer than another
    wide = size * len(models) if count.eq(len(models)).all() else alt.Step(size)
    return layers.properties(width=wide, height=alt.Step(size), title=title)


def _in_panel(drawn: pd.DataFrame, metrics: list[str], side: str, ends: list[str], better: str) -> alt.Chart:
    """A panel's cells under the switches as they stand: their value, an ink that is readable on it, and the tooltip."""
    place = f"(datum.shown - {ends[0]}) / ({ends[1]} - {ends[0]})"
    light = f"({better}[metric] ? {place} : 1 - {place}) > {black_from():.3f}"
    names = json.dumps({metric: measure_of(metric).title for metric in metrics})
    columns = [name for name in TIP if name in drawn or name == "between"]
    titles = {TIP[name]: name for name in columns if name != "model" or "scored" not in drawn}
    # What a cell does not have is left out of its tooltip.
    tip = [f"{json.dumps(title)}: datum.{name} ? datum.{name} : datum.nothing" for title, name in titles.items()]
    heard = [f"(datum.{name} ? {json.dumps(f', {title}: ')} + datum.{name} : '')" for title, name in titles.items()]
    switched = " && ".join(f"datum.{name} === {name}" for name in ("reading", "grading", "test_set"))
    chart = alt.Chart().transform_filter(f"{switched} && datum.method === {side}")
    chart = chart.transform_calculate(shown="datum[metric]").transform_calculate(
        says="isValid(datum.shown) ? format(datum.shown, '.2f') + (datum.mark || '') : '—'",
        head=f"{names}[metric] + ' ' + (isValid(datum.shown) ? format(datum.shown, '.3f') : '—')",
        between="datum['interval_' + metric] || ''",
        ink=f"!isValid(datum.shown) ? '{INK}' : {light} ? '#000' : '#fff'",
    )
    method = f"{json.dumps(METHOD_TITLES)}[datum.method]"
    return chart.transform_calculate(
        tip=f"{{title: datum.head, {', '.join(tip)}}}", heard=f"{method} + ', ' + datum.head + {' + '.join(heard)}"
    )


def _lines(size: int, interval: bool) -> dict[str, dict]:
    """How what is written in a cell looks, by field: value, interval where there is room for it, and note."""
    places = {"says": -18, "between": 3, "note": 20} if size > 72 and interval else {"says": -7, "note": 11}
    looks = {name: {"fontSize": FONT, "fontWeight": "normal", "dy": dy} for name, dy in places.items()}
    looks["says"] |= {"fontSize": 16 if size > 60 else 13, "fontWeight": "bold"}
    return looks


def heatmaps_html(
    table: pd.DataFrame, models: list[str], links: bool = False, untrained: pd.DataFrame | None = None,
    summary: str = "The same numbers as tables",
) -> str:  # fmt: skip
    """AUROC of `heatmaps_chart` as HTML tables that fold away, one per test set, reading and method."""
    has_more = untrained is not None and not untrained.empty
    parts, both = [], pd.concat([table, untrained], ignore_index=True) if has_more else table
    for (test_set, reading), panels in both.groupby(["test_set", "reading"], sort=False):
        for method, cells in panels.groupby("method", sort=False):
            caption = f"{METHOD_TITLES[method]}, {_words(table, reading)[0]}, {test_set}"
            parts.append(captioned(_grid(cells, [*models, NOTHING], links).to_html(escape=not links), caption))
    return style.folded(summary, "\n".join(parts))


def _grid(cells: pd.DataFrame, columns: list[str], links: bool) -> pd.DataFrame:
    """What the cells of one heatmap say, by model and what was trained on."""
    says = [_linked(*cell) if links else cell[0] for cell in zip(values_text(cells), cells.itertuples())]
    drawn = cells.assign(says=says, model=cells["model"].str.replace("\n", ", "))
    grid = drawn.pivot(index="model", columns="trained_on", values="says").loc[drawn["model"].unique()]
    grid = grid[[column for column in columns if column in grid]]
    return grid.rename_axis(index="Model", columns="Trained On")


def _linked(text: str, line) -> str:
    is_estimator = pd.notna(line.auroc) and line.trained_on != NOTHING
    return f'<a href="{page_of(line)}">{text}</a>' if is_estimator else text


def heatmaps_sentences(table: pd.DataFrame, primary: pd.Series, links: bool = False) -> str:
    """What the first picture shows (reading A, the first test set), and how sure it is, as Markdown.

    Of cells that no verdict rests on, a sentence of their own says how many there are. With `links`, values lead to the
    pages of their estimators.
    """
    shown = first_heatmap(table)
    compared = shown[shown["method"] != "probe_mlp"]
    measured = compared.dropna(subset="auroc")
    if measured.empty:
        return _no_value(table, compared)
    settled, sentences = settled_cells(table), [_unfinished(measured)]
    if len(settled):
        sentences = [_how_well(shown, settled, links), *_how_sure(settled, primary), *sentences]
    sentences.append(_who_reads(table))
    reading = "reading A, " if {*READINGS} <= {*table["reading"]} else ""
    lead = f"In the view shown first ({reading}{shown['test_set'].iloc[0]} test questions):"
    return "\n".join([lead, "", *(f"- {sentence}" for sentence in sentences if sentence)])


def _no_value(table: pd.DataFrame, compared: pd.DataFrame) -> str:
    """Why there is no value to speak of, where some of the table's cells may have one."""
    if table["n"].isna().all():
        return "Nothing is measured yet."
    why = "too few right or wrong answers" if compared["n"].notna().any() else "nothing is measured there"
    return f"On {compared['test_set'].iloc[0]} test questions no cell has a value: {why}."


def settled_cells(table: pd.DataFrame) -> pd.DataFrame:
    """The cells of the first picture that a verdict may rest on: those with a value, at their plateau."""
    measured = first_heatmap(table).query("method != 'probe_mlp'").dropna(subset="auroc")
    return measured[no_verdict(measured) == ""]


def above_chance(settled: pd.DataFrame) -> int:
    """How many cells are significantly better than one half, after Holm's correction for all of these."""
    if "p_chance" not in settled:
        return 0
    return int(((holm(settled["p_chance"]) < ALPHA) & (settled["auroc"] > 0.5)).sum())


def _who_reads(table: pd.DataFrame) -> str:
    """What cannot be compared, where a model reads nothing or is alone; "" if several models do and are all."""
    readers, models = (list(table[name].unique()) for name in ("reader", "scored"))
    others = [model for model in models if model not in readers]
    if len(models) == 1:
        return f"{models[0]} is the only model: it reads, is trained on and is scored, and is compared with no other."
    if not others:
        return ""
    rest = "; the rest is in reading All" if ALL in set(table["reading"]) else ""
    by = f"{' and '.join(readers)} {'reads' if len(readers) == 1 else 'read'} them"
    where = "Reading A has no column, and reading B no row, for a model that does not read"
    return f"Of {' and '.join(others)} only answers are known, and {by}. {where}{rest}."


def _unfinished(measured: pd.DataFrame) -> str:
    """How many cells were still improving when training ended, and of how many this is not known; "" if of none."""
    of, parts = len(measured), []
    counts = measured.get("unsettled", pd.Series(dtype=str)).value_counts()
    some = "they count in none of these sentences and in no verdict"
    if count := counts.get(IMPROVING):
        what = "nothing can be concluded from them" if count == of else some
        parts.append(f"**{count} of {of} cells were {IMPROVING} when training ended** ({MARK}): {what}.")
    if count := counts.get(RELEASED):
        parts.append(f"**{count} of {of} cells are of adapters that others have released**: {some}.")
    if count := counts.get(UNKNOWN):
        parts.append(f"For {count} of {of} cells, no card records whether training had reached its plateau.")
    return " ".join(parts)


def _how_well(shown: pd.DataFrame, measured: pd.DataFrame, links: bool) -> str:
    groups = [(method, shown[shown["method"] == method]) for method in COMPARED]
    ranges = " and ".join(_range(METHOD_TITLES[method], cells, links) for method, cells in groups if len(cells))
    above = above_chance(measured)
    lead = f"Significantly better than chance in {above if above else 'none'} of {len(measured)} cells"
    return f"**{lead}**: {ranges}."


def _how_sure(measured: pd.DataFrame, primary: pd.Series) -> list[str]:
    sentence = f"The cells rest on {style.span(measured['n_right'].min(), measured['n_right'].max())} right answers"
    if "low" in measured:
        wide = measured["high"] - measured["low"]
        width = style.span(f"{wide.min():.2f}", f"{wide.max():.2f}")
        sentence += f", so that their 95 % intervals are {width} wide"
    return [f"{sentence}.", *_between_methods(measured, primary)]


def _between_methods(measured: pd.DataFrame, primary: pd.Series) -> list[str]:
    """In how many cells the probe is higher than LoRA + Prompt, if any has both."""
    both = measured.pivot(index=CELL[1:], columns="method", values="auroc").reindex(columns=[*COMPARED])
    difference = (both["probe"] - both["lora_prompt"]).dropna()
    contrasts = [hypothesis({("probe", *place): 1.0, ("lora_prompt", *place): -1.0}) for place in difference.index]
    p = pd.Series(contrasts, difference.index, dtype=object).map(primary)
    sure, tested = difference[p < ALPHA], p.notna().sum()
    if difference.empty:
        return []
    if len(difference) == 1:
        side = "higher" if difference.iloc[0] > 0 else "not higher"
        test = f" The difference is a primary hypothesis, and {'' if len(sure) else 'not '}significant."
        return [f"In the one cell that has both, the probe is {side} than LoRA + Prompt.{test if tested else ''}"]
    higher = f"{(difference > 0).sum()} of {len(difference)} cells that have both"
    sides = f"higher in {(sure > 0).sum()} and lower in {(sure < 0).sum()}" if len(sure) else "different in none"
    are = "1 is a primary hypothesis" if tested == 1 else f"{tested} are primary hypotheses"
    test = f" Of these, {are}: it is significantly {sides}."
    return [f"The probe is higher than LoRA + Prompt in {higher}.{test if tested else ''}"]


def _range(name: str, cells: pd.DataFrame, links: bool) -> str:
    measured = cells.dropna(subset="auroc")
    why = no_verdict(measured)
    settled = measured[why == ""].sort_values("auroc")
    if settled.empty:
        states = {IMPROVING: IMPROVING, RELEASED: "trained by others"}
        why = " or ".join(state for reason, state in states.items() if reason in set(why))
        return f"**{name}** was {why} in every cell" if why else f"**{name}** has no measured cell"
    ends = {f"{line.auroc:.2f}": line for line in settled.iloc[[0, -1]].itertuples()}
    shown = [_linked(*end) if links else end[0] for end in ends.items()]
    return f"**{name}** reaches an AUROC of {style.span(shown[0], shown[-1])}"


# In the names of models that were tuned to instructions, and of how many parameters they have.
TUNED = re.compile(r"instruct|chat|(?<![a-z])it(?![a-z])", re.IGNORECASE)
SIZED = re.compile(r"(?<![\d.a-z])(\d+(?:\.\d+)?)([mb])(?![a-z])", re.IGNORECASE)


def facts_of(cards: list[dict], models: list[str]) -> dict[str, list[str]]:
    """What the cards of a run say of each model, "—" for nothing: parameters and tuning, by its names, and weights."""
    cards = [card for card in cards if "source" in card]
    of = [[card for card in cards if card["reader"] == model] for model in models]
    named = {"Parameters": sized, "Instruction-tuned": tuned}
    facts = {title: [_span(says(card["source"]) for card in read) for read in of] for title, says in named.items()}
    return facts | {"Weights": [_span(map(_weights, read)) for read in of]}


def table(rows: pd.DataFrame, estimators: str, models: list[str]) -> pd.DataFrame:
    """A line for each model, of how its estimators were trained; "—" stands for what no card says.

    It has the layers that its probes read, how many of its validation answers are right (on which layer and strength of
    its probes were chosen), and the steps of its LoRA + Prompt.
    """
    every, lines = plateau.cards(estimators).values(), []
    cards = [card for card in every if "source" in card and card["trained_on"] != ALL_MODELS]  # which is an ablation
    held = rows[(rows["method"] == "probe") & (rows["split"] == "validation") & (rows["trained_on"] == rows["scored"])]
    for model in models:
        read = [card for card in cards if card["reader"] == model]
        layers = (card["chosen"]["layer"] for card in read if card["method"] == "probe")
        steps = (card["history"][-1]["step"] for card in read if card["method"] == "lora_prompt" and "history" in card)
        graded = held[held["scored"] == model].drop_duplicates(["seed", "question_id"]).groupby("seed")["correct"]
        chose = f"{_span(graded.sum())} of {_span(graded.size())}" if len(graded) else "—"
        lines.append({
            "Model": model,
            "Layer of its probes": _span(layers),
            "Right answers that chose layer and strength": chose,
            "Steps of its LoRA + Prompt": _span(steps),
        })  # fmt: skip
    return pd.DataFrame(lines)


def html(rows: pd.DataFrame, estimators: str, models: list[str]) -> str:
    """`table` as HTML that folds away, without what it says of no model, and with a sentence on the probe, if any."""
    methods = {*rows["method"]}
    probe = "The probe is a logistic regression on one layer." if "probe" in methods else ""
    if "probe_mlp" in methods:
        probe += " The paper's, an MLP on the last layer, is on the switch Heatmaps."
    # A column for each model, as wide as a phone holds.
    shown = table(rows, estimators, models).set_index("Model").T.rename_axis(columns=None)
    shown = shown[(shown != "—").any(axis=1)]
    facts = shown.to_html(classes="facts")
    return style.folded("How the estimators were trained", captioned(facts, probe) if probe else facts)


def sized(source: str) -> str:
    """How many parameters the name of a model's source, or an asset's origin, says that it has; "—" if neither does."""
    asset = ASSETS.get(source.removeprefix(CHAT))
    size = SIZED.search(source) or SIZED.search(asset.source if asset else "")
    return f"{size[1]} {'million' if size[2].lower() == 'm' else 'billion'}" if size else "—"


def tuned(source: str) -> str:
    """Whether the name of a model's source, or an asset's origin, says that it was tuned to instructions: yes or no."""
    asset = ASSETS.get(source.removeprefix(CHAT))
    return "yes" if TUNED.search(f"{source} {asset.source if asset else ''}") else "no"


def _weights(card: dict) -> str:
    asset = ASSETS.get(card["source"].removeprefix(CHAT))
    kind = asset and asset.gguf and re.search(r"q(\d)\w*", asset.gguf, re.IGNORECASE)
    return f"{kind[1]}-bit GGUF ({kind[0].upper()})" if kind else f"{card['source']}, {card['precision']}"


def _span(values) -> str:
    distinct = sorted({*values})
    return span(distinct[0], distinct[-1]) if distinct else "—"
