"""Every colour and shape of the charts: a method is a hue, a model a shape, the value of a cell a place on the ramp.

Marks have a contrast of 3:1 with the page and text has 4.5:1 (WCAG 2.1), in the light and the dark theme. The hues
have it in both, so a chart is drawn in one way; only what is `INK`, the colour of the page's text, is lighter in the
dark one, by page.css.
"""

import altair as alt
import numpy as np

from whoknows.data.methods import METHODS

RAMP = ["#3b0f70", "#721f81", "#b73779", "#f1605d", "#feb078"]  # of the heatmaps, from low to high
INK, GREY = "#222832", "#6f7782"
HUES = {  # of families
    "probe": "#1c7ed6", "probe_mlp": "#0c8599", "lora_prompt": "#d1561a", "zero_shot": "#16866b",
    "likelihood": "#a855b5",
}  # fmt: skip
CONTROL, TOKENS = "Control or ablation", "Token probabilities"
BLUES = ["#1a6bb8", "#1c7ed6", "#4c93dd"]  # the probe's hue, for what is ordered
SHAPES = ["circle", "square", "triangle-up", "diamond", "cross", "triangle-down"]
DASHES = [[1, 0], [6, 3], [2, 2], [8, 2, 2, 2]]


def hue(method: str) -> str:
    """The colour of a method; all controls and ablations are grey."""
    return HUES.get(_family(method), GREY)


def family(method: str) -> str:
    """What a legend calls that colour."""
    name = _family(method)
    return {"": CONTROL, "likelihood": TOKENS}.get(name) or METHODS[name].title


def _family(method: str) -> str:
    return METHODS[method].family if method in METHODS else ""


def hues(methods: list[str]) -> alt.Scale:
    """The colours of the families of some methods."""
    colours = {family(method): hue(method) for method in [*METHODS, *methods] if method in set(methods)}
    return alt.Scale(domain=list(colours), range=list(colours.values()))


def shapes(models: list[str]) -> alt.Scale:
    """A shape for each model."""
    return alt.Scale(domain=models, range=[SHAPES[at % len(SHAPES)] for at in range(len(models))])


def dashes(names: list[str]) -> alt.Scale:
    """A dash for each line; among 24 lines no two have both the same shape in `shapes` and the same dash."""
    return alt.Scale(domain=names, range=[DASHES[(at + at // len(SHAPES)) % len(DASHES)] for at in range(len(names))])


def black_from(steps: int = 1000) -> float:
    """Where on the ramp, from 0 to 1, black begins to have more contrast than white (WCAG 2 luminance)."""
    at = np.linspace(0, 1, steps + 1)
    stops = np.array([[int(colour[i : i + 2], 16) for i in (1, 3, 5)] for colour in RAMP]) / 255
    rgb = np.stack([np.interp(at * (len(RAMP) - 1), range(len(RAMP)), channel) for channel in stops.T], axis=1)
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    return float(at[(linear @ [0.2126, 0.7152, 0.0722] >= 0.179).argmax()])
