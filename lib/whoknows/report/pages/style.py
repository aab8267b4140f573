"""What the charts, tables and sentences of several pages have in common, and how JupyterLab draws a chart by itself.

Marks have a contrast of 3:1 with the page and text has 4.5:1 (WCAG 2.1), in the light and the dark theme. A method is a
hue, a model a shape, the value of a cell a place on the ramp.
"""

import json
import math
import textwrap
from collections.abc import Callable, Iterable, Sequence
from html import escape

import altair as alt
import numpy as np
import pandas as pd

from whoknows.data import files
from whoknows.data.methods import METHODS
from whoknows.data.positions import FIRST, LAST, MEAN, QUERY, QUESTION
from whoknows.evaluation.cells import ALL
from whoknows.evaluation.scores import MEASURES, POOLED

alt.data_transformers.disable_max_rows()  # many models and tasks are many rows, and altair would refuse to draw them
RAMP = ["#3b0f70", "#721f81", "#b73779", "#f1605d", "#feb078"]  # of the heatmaps, from low to high
INK, GREY = "#222832", "#6f7782"
HUES = {  # of families
    "probe": "#1c7ed6", "probe_mlp": "#0c8599", "lora_prompt": "#d1561a", "zero_shot": "#16866b",
    "likelihood": "#a855b5",
}  # fmt: skip
FAMILIES = {name: method.family for name, method in METHODS.items()}
CONTROL, TOKENS = "Control or ablation", "Token probabilities, sampled answers"
BLUES = ["#1a6bb8", "#1c7ed6", "#4c93dd"]  # the probe's hue, for what is ordered
SHAPES = ["circle", "square", "triangle-up", "diamond", "cross", "triangle-down"]
DASHES = [[1, 0], [6, 3], [2, 2], [8, 2, 2, 2]]


def hue(method: str) -> str:
    """The colour of a method; all controls and ablations are grey."""
    return HUES.get(FAMILIES.get(method), GREY)


def family(method: str) -> str:
    """What a legend calls that colour."""
    name = FAMILIES.get(method, "")
    return {"": CONTROL, "likelihood": TOKENS}.get(name) or METHODS[name].title


def inside(method: str) -> str:
    """The title of a method within a sentence."""
    title = METHODS[method].title if method in METHODS else method
    return title[0].lower() + title[1:] if title[1:2].islower() and not title.startswith("Zero") else title


def method_hues(methods: Iterable[str]) -> dict[str, str]:
    """The colours of some methods, by their titles."""
    return {METHODS[method].title: hue(method) for method in METHODS if method in set(methods)}


def scale(values: dict) -> alt.Scale:
    """A scale that gives each name its colour, shape or dash."""
    return alt.Scale(domain=[*values], range=[*values.values()])


def shapes(models: list[str]) -> alt.Scale:
    """A shape for each model."""
    return scale({model: SHAPES[at % len(SHAPES)] for at, model in enumerate(models)})


def dashes(names: list[str]) -> alt.Scale:
    """A dash for each line; among 24 lines no two have both the same shape in `shapes` and the same dash."""
    return scale({name: DASHES[(at + at // len(SHAPES)) % len(DASHES)] for at, name in enumerate(names)})


def black_from() -> float:
    """Where on the ramp, from 0 to 1, black begins to have more contrast than white (WCAG 2 luminance)."""
    at = np.linspace(0, 1, 1001)
    stops = np.array([[int(colour[i : i + 2], 16) for i in (1, 3, 5)] for colour in RAMP]) / 255
    rgb = np.stack([np.interp(at * (len(RAMP) - 1), range(len(RAMP)), channel) for channel in stops.T], axis=1)
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    return float(at[(linear @ [0.2126, 0.7152, 0.0722] >= 0.179).argmax()])


PANELS = {
    "A": ["A · estimator transfer", "column: reader and trained on; row: scored"],
    "B": ["B · data transfer", "row: reader and scored; column: trained on"],
    ALL: ["All · reader, trained on, scored", "column: trained on; row: scored,", "by the reader beneath them"],
    "figure": ["As read off the figure", "its two axes can mean reading A or B"],
}
ALONE = ["One model", "that reads, is trained on and is scored"]


def in_middle(lines: str) -> dict:
    """How a y axis has labels of several lines, as an expression says; Vega puts the first where one alone would be."""
    return {"labelExpr": lines, "labelOffset": alt.expr(f"-6 * (length({lines}) - 1)")}


IN_LINES = in_middle("split(datum.label, '\\n')")  # of labels that have line ends
# A legend's label, in two lines where it has a comma.
LEGEND = "split(replace(datum.label, ', ', ',\\n'), '\\n')"
LABEL, HEADING = 27, 30  # letters in a line of each; a phone would cut what is longer
LETTERS = 20  # in a line of a name beside a heatmap
LONGEST = 320  # pixels; what is longer is cut
NAMES = alt.Axis(labelLimit=LONGEST, **IN_LINES)
# Of columns whose name does not say what they hold.
TITLES = {
    "auroc": "AUROC", "validation_auroc": "AUROC on validation", "loss": "Training loss", "ece": "ECE",
    "low": "Interval from", "high": "Interval to", "p_holm": "p (Holm)", "n_right": "Right answers",
    "size": "Training answers", "strength": "L2 strength", "says": "Verdict", "test_set": "Test questions",
    "label": "Method", "cell": "Probe",
}  # fmt: skip
POSITIONS = {  # of tokens, in reading order
    QUESTION: "Question's end", FIRST: "Answer's first token", MEAN: "Mean over the answer",
    LAST: "Answer's last token", QUERY: "Query's end",
}  # fmt: skip
WITHOUT_ZERO = alt.Scale(zero=False)
# Where all values are equal the axis has one label, which Vega would write without decimals.
ON_VALIDATION = alt.Y("validation_auroc:Q", title=TITLES["validation_auroc"], scale=WITHOUT_ZERO)
ON_VALIDATION = ON_VALIDATION.axis(format=".2f", tickMinStep=0.01)
# Of a table of all measures.
COLUMNS = {name: measure.title for name, measure in MEASURES.items() if name != "accuracy"}
BENEATH = "Beneath a value stands its 95 % interval over questions, where it has one."
CHART = "application/vnd.vegalite.v5+json"  # the newest that JupyterLab knows; nothing in these charts is newer
WIDTH = 640  # pixels
MINUS = "\N{MINUS SIGN}"  # as charts write it; a hyphen is shorter, and files for programs keep it


def read_texts(answers: dict[str, str]) -> pd.DataFrame:
    """Question, answer and gold answers by scored and question_id, of the file of each scored model's answers."""
    columns = ["question_id", "question", "answer", "gold"]
    return pd.concat(files.read_parquet(path)[columns].assign(scored=scored) for scored, path in answers.items())


def colour_domain(values: pd.Series, chance: float | None = None) -> tuple[float, float]:
    """Ends of the colour bar: the range of the values and of `chance`, in steps of 0.05; without chance, of 0.01."""
    values = [value for value in [chance, *values] if value is not None and not np.isnan(value)] or [0.0]
    steps = 100 if chance is None else 20
    low = math.floor(min(values) * steps) / steps
    return low, max(math.ceil(max(values) * steps) / steps, low + 2 / steps)


def on_ramp(low: float, high: float) -> tuple[alt.Scale, dict]:
    """The ramp as a scale with these ends, and the ink that is readable on an AUROC there."""
    black = f"datum.auroc > {low + black_from() * (high - low):.4f}"
    ink = alt.when("!isValid(datum.auroc)").then(alt.value(INK)).when(black).then(alt.value("#000"))
    scale = alt.Scale(domain=[low, high], range=RAMP, interpolate="rgb", clamp=True)
    return scale, ink.otherwise(alt.value("#fff"))


def bar(low: float, high: float, **more) -> alt.Legend:
    """The legend of a colour bar, with the values of its ends and of its middle."""
    return alt.Legend(format=".3f", values=[low, (low + high) / 2, high], **more)


def switch(name: str, values: list, labels: dict, title: str, value: str | None = None) -> alt.Parameter:
    """A parameter that the reader sets: two values as buttons, more as a list, one without anything to press.

    It stands at `value`, or at the first one. `labels` are what values are called that are not called by themselves.
    """
    value = value or (values[0] if values else "")
    if len(values) < 2:
        return alt.param(name=name, value=value)
    radio = alt.binding_radio if len(values) == 2 else alt.binding_select
    bind = radio(options=values, labels=[labels.get(v, v) for v in values], name=title)
    return alt.param(name=name, value=value, bind=bind)


def reading_switch(readings: list[str]) -> alt.Parameter:
    """The switch between these readings."""
    return switch("reading", readings, {reading: PANELS[reading][0] for reading in readings}, "Reading: ")


def tipped(chart: alt.Chart, *names: str, **titles: str) -> alt.Chart:
    """The chart with a tooltip of these columns, and the same for a screen reader; missing values are left out.

    `titles` are of columns where neither their name nor `TITLES` says what they are here.
    """
    tip, heard = [], []
    for name in names:
        title = (TITLES | titles).get(name, name.replace("_", " ").capitalize())
        value = f"datum[{json.dumps(name)}]"
        there = f"isValid({value}) && {value} !== ''"
        shown = f"(isNumber({value}) ? format({value}, {value} % 1 ? '.3~r' : ',') : {value})"
        tip.append(f"{json.dumps(title)}: {there} ? {shown} : datum.nothing")
        heard.append(f"({there} ? {json.dumps(f'{title}: ')} + {shown} + '; ' : '')")
    chart = chart.transform_calculate(tip=f"{{{', '.join(tip)}}}", heard=" + ".join(heard))
    return chart.encode(tooltip="tip:N", description="heard:N")


def finished(chart: alt.TopLevelMixin, name: str, described: str, **properties):
    """A whole chart: what it says to those who do not see it, its file name when saved, and how a page shows it.

    No button opens an editor on another host.
    """
    actions = {"export": True, "source": False, "compiled": False, "editor": False}
    words = {"CLICK_TO_VIEW_ACTIONS": "Save this chart"}
    options = {"renderer": "svg", "downloadFileName": name, "actions": actions, "i18n": words}
    return chart.properties(description=described, usermeta={"embedOptions": options}, **properties)


def interval_text(low: float, high: float, digits: int = 2, sign: str = "") -> str:
    """An interval in words, of differences if `sign` is "+"; "" if it is missing."""
    form, to = (signed, "to") if sign else (number, "–")  # a dash before a sign would look like a minus
    return "" if np.isnan(low) or np.isnan(high) else f"{form(low, digits)} {to} {form(high, digits)}"


def in_lines(table: pd.DataFrame, **letters: int) -> pd.DataFrame:
    """The table with texts in as few and as even lines as can be; `letters` is the most in a line, by column.

    A word that is longer is broken after its hyphens, so that long names of models are whole.
    """
    return table.assign(**{name: [broken(text, most) for text in table[name]] for name, most in letters.items()})


def broken(text: str, most: int) -> str:
    """One text of `in_lines`; what is in lines of its own stays in them."""
    return "\n".join(_broken(line, most) for line in text.split("\n"))


def _broken(line: str, most: int) -> str:
    words = [word if len(word) <= most else word.replace("-", "-\t") for word in line.split(" ")]
    whole = dict.fromkeys(("break_long_words", "break_on_hyphens", "expand_tabs", "replace_whitespace"), False)
    lines = [textwrap.wrap(" ".join(words), width, **whole) for width in range(1, most + 1)]
    return "\n".join(next(each for each in lines if len(each) == len(lines[-1]))).replace("\t", "")


def lines_of(names: Iterable[str], most: int) -> str:
    """The lines of each of these names as an expression for an axis that has them, with so many letters in a line."""
    return f"{json.dumps({name: broken(name, most).split(chr(10)) for name in names})}[datum.label]"


def row_step(names: pd.Series) -> alt.Step:
    """Room for the longest of the names that stand one above the other."""
    return alt.Step(6 + 12 * max((name.count("\n") + 1 for name in names), default=1))


def headed(drawn: pd.DataFrame, name: str) -> alt.Row:
    """A panel for each text of a column, in their order, with the text above it."""
    place = {"labelOrient": "top", "labelAnchor": "start", "labelFontWeight": "bold", "labelLimit": 520}
    head = alt.Header(title=None, labelExpr="split(datum.value, '\\n')", **place)
    return alt.Row(f"{name}:N", sort=list(drawn[name].unique()), header=head)


def interval_bars(base: alt.Chart, title=alt.Undefined, scale=alt.Undefined, **encodings) -> alt.Chart:
    """A horizontal bar from low to high for each line of the data; title and scale are those of the x axis."""
    return base.mark_rule(strokeWidth=2).encode(x=alt.X("low:Q", title=title, scale=scale), x2="high:Q", **encodings)


def hollow_points(base: alt.Chart, size: int, colour: str, hues: alt.Scale) -> alt.Chart:
    """A point for each line of the data, hollow where that says so, since no verdict rests on it."""
    opacity = alt.when("datum.hollow").then(alt.value(0)).otherwise(alt.value(1))
    points = base.mark_point(filled=True, size=size, strokeWidth=1.5, opacity=1)
    return points.encode(stroke=alt.Stroke(colour, scale=hues, legend=None), fillOpacity=opacity)


def rule_at(value: float, dash: int = 3) -> alt.Chart:
    """A dashed vertical line through all panels, such as where chance is."""
    return alt.Chart().mark_rule(strokeDash=[dash, 3], color=GREY, aria=False).encode(x=alt.datum(value))


def heatmap(
    base: alt.Chart, colour: alt.Color, missing: dict, texts: dict[str, dict] | None = None, ink=alt.Undefined, **rect
) -> list[alt.Chart]:
    """The layers of a heatmap: its cells, those without a value, and what is written in them.

    Args:
        missing, rect: how a cell without a value looks, such as `hatched`, and how all do besides their colour.
        texts: how each line in a cell looks, such as its fontSize and its dy from the middle, by its column.
    """
    there = f"isValid(datum.{colour.shorthand.removesuffix(':Q')})"
    cells = base.transform_filter(there).mark_rect(**rect).encode(color=colour)
    others = base.transform_filter(f"!{there}").mark_rect(**rect | missing)
    marks = {name: base.mark_text(aria=False, **look) for name, look in (texts or {}).items()}
    return [cells, others, *(mark.encode(text=f"{name}:N", color=ink) for name, mark in marks.items())]


def hatched(count: int = 12) -> dict:
    """How a rectangle looks in whose place nothing was measured; with so many stripes."""
    # two stops at one place make a hard edge, so the gradient is a hatch
    shades = ["#8883", "#8887"]
    stops = [(edge / count, shades[i % 2]) for i in range(count) for edge in (i, i + 1)]
    stops = [alt.GradientStop(offset=offset, color=color) for offset, color in stops]
    stripes = alt.LinearGradient(gradient="linear", x1=0, y1=0, x2=1, y2=1, stops=stops)
    return {"fill": stripes, "stroke": GREY, "strokeDash": [4, 3]}


def captioned(table: str, caption: str) -> str:
    """An HTML table of pandas with a caption."""
    return table.replace("<thead>", f"<caption>{caption}</caption><thead>", 1)


def tables_html(table: pd.DataFrame, captions: pd.Series, html: Callable[[pd.DataFrame], str]) -> str:
    """An HTML table for each caption of a table's lines."""
    return "\n".join(captioned(html(lines), caption) for caption, lines in table.groupby(captions, sort=False))


def columns_html(table: pd.DataFrame, columns: dict[str, str], classes: str | None = None, **forms) -> str:
    """Columns of a table, by name with their titles, as HTML, "—" for what is missing; `forms` write their values."""
    texts = {name: table[name].map(form, na_action="ignore") for name, form in forms.items()}
    shown = table.assign(**texts)[list(columns)].rename(columns=columns)
    return shown.to_html(index=False, na_rep="—", classes=classes)


def folded(summary: str, html: str, is_open: bool = False) -> str:
    """HTML beneath a summary that opens and closes it."""
    return f"<details{' open' if is_open else ''}><summary>{summary}</summary>{html}</details>"


def pooled_html(table: pd.DataFrame, names: dict[str, pd.Series]) -> str:
    """The columns of `metric_columns` with tasks pooled, folded away."""
    html = metric_columns(table, names, POOLED).to_html(index=False, escape=False, classes="metrics")
    return folded("The same with all tasks pooled, where knowing the task counts", html)


def metric_columns(table: pd.DataFrame, names: dict[str, pd.Series], before: str = "") -> pd.DataFrame:
    """Names, and all metrics in words, each with its interval beneath it, as HTML."""
    shown, none = {title: values.map(escape) for title, values in names.items()}, pd.Series(float("nan"), table.index)
    for column, title in COLUMNS.items():
        suffix = "" if before + column == "auroc" else f"_{before}{column}"
        values = zip(table[before + column], *(table.get(end + suffix, none) for end in ("low", "high")))
        texts = [("—" if pd.isna(value) else number(value), interval_text(*ends, 3)) for value, *ends in values]
        shown[title] = [f"{text}<br/><small>{between}</small>" if between else text for text, between in texts]
    return pd.DataFrame(shown)


def with_interval(
    values: Iterable[float], lows: Iterable[float], highs: Iterable[float], sign: str = "", digits: int = 3,
    unit: str = "",
) -> list[str | None]:  # fmt: skip
    """Values with their unit and intervals in words; None where there is no value.

    Args:
        sign: "+" for differences.
        digits: after the point.
    """
    form = signed if sign else number
    return [
        f"{form(value, digits)}{unit} ({interval_text(*ends, digits, sign)})" if pd.notna(value) else None
        for value, *ends in zip(values, lows, highs)
    ]


def interval_column(table: pd.DataFrame) -> list[str]:
    """The intervals of differences in words; a dash where there is none."""
    return [interval_text(*ends, 3, "+") or "—" for ends in zip(table["low"], table["high"])]


def p_text(p: float) -> str:
    """A p-value in words, of which no one is zero."""
    return "under 0.001" if p < 0.001 else f"{p:.3f}"


def p_is(p: float) -> str:
    """The same after its name, which no line end parts from it."""
    return f"p {p_text(p)}".replace(" ", "\u00a0")


def signed(value: float, digits: int = 2) -> str:
    """A difference with its sign; one that is shown as zero has none, since -0.00 would look like a difference."""
    text = number(value, digits, "+")
    return text if text.strip("+-0.") else text[1:]


def number(value: float, digits: int = 3, sign: str = "") -> str:
    """A number that is rounded for readers, with a true minus, and a plus if that is its `sign`."""
    return f"{value:{sign}z.{digits}f}".replace("-", MINUS)


def counted(says: pd.Series, verdicts: Iterable[str]) -> str:
    """How often each verdict was given, in their order, without those that none was."""
    counts = says.value_counts()
    return ", ".join(f"{counts[verdict]} {verdict}" for verdict in verdicts if verdict in counts)


def some(texts: Sequence[str], count: int, between: str = "; ") -> str:
    """The first of some texts, and how many more there are."""
    return between.join([*texts[:count], *([f"and {len(texts) - count} more"] if len(texts) > count else [])])


def span(low, high) -> str:
    """From the lowest to the highest, or the one that there is; counts have their thousands separated."""
    low, high = (end if isinstance(end, str) else f"{end:,}" for end in (low, high))
    return low if low == high else f"{low} to {high}"


def percent(share: float, digits: int = 0) -> str:
    """A share in percent, which no line break parts from its sign."""
    return f"{share:.{digits}%}".replace("%", "\u00a0%")


def in_jupyterlab() -> None:
    """Lets every chart of this process be shown that way; `make lab` has each kernel do it."""
    alt.renderers.register("jupyterlab", lambda spec, **_: bundle(spec))
    alt.renderers.enable("jupyterlab")


def bundle(spec: dict) -> dict:
    """What a chart of Vega-Lite shows as, by MIME type, never as wide as its container.

    JupyterLab draws a chart before its cell is laid out, keeps a PNG of it, and draws it again as long as it has none.
    A chart as wide as a container that has no width yet has an empty PNG, so that it would be drawn without end.
    """
    shown = spec | {"width": WIDTH} if spec.get("width") == "container" else spec
    return {CHART: shown, "text/plain": spec.get("description", "a chart")}
