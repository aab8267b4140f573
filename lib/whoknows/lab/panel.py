"""The widgets of notebooks/explore.py: they choose a setting, and show what it gives whenever one of them moves."""

import html
from itertools import product

import altair as alt
import ipywidgets as widgets

from whoknows import WhoknowsError
from whoknows.data.positions import LAST
from whoknows.lab import explore
from whoknows.lab.explore import Results, Setting
from whoknows.report.pages import style

STRENGTHS = (1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2, 0.1, 0.3, 1.0, 3.0, 10.0)
SIZES = (50, 100, 200, 500, 1000, 2000, 5000)
WIDE = {"style": {"description_width": "7em"}, "layout": {"width": "26em"}}
WHOLE = {"overflow": "visible"}


class Panel(widgets.VBox):
    """All of it, drawn for the first model on its own answers, at the setting that the run chose and published.

    Attributes:
        choices: for each part of a setting, by its name there, the widget that chooses it.
        numbers: HTML, AUROC on validation and on test answers, or the sentence that says why there is none.
        charts: heatmaps and curves, as its `outputs`.
        back: goes to the run's own probe of the reader and the model that it is trained on.
        name, button, message: of the grid to save, the button, and what came of a press.
    """

    def __init__(self, results: Results):
        self.results, self.choices = results, _choices(results)
        self.numbers, self.charts = widgets.HTML(), widgets.Output()
        self.name = widgets.Text(value="explored", description="Name", **WIDE)
        self.back = widgets.Button(description="Published setting")
        self.button, self.message = widgets.Button(description="Save as grid"), widgets.HTML()
        self._go_back()
        for name, choice in self.choices.items():
            choice.observe(self._follow_reader if name == "reader" else self._draw, names="value")
        self.back.on_click(self._go_back)
        self.button.on_click(self._save)
        left = widgets.VBox([*self.choices.values(), self.back, self.name, self.button, self.message], layout=WHOLE)
        super().__init__([widgets.HBox([left, self.numbers], layout=WHOLE | {"flex_flow": "row wrap"}), self.charts])

    @property
    def setting(self) -> Setting:
        """As the widgets stand."""
        return Setting(**{name: choice.value for name, choice in self.choices.items()})

    def _follow_reader(self, _) -> None:
        """A reader with fewer layers moves the layer to its last, which draws already."""
        layer = self.choices["layer"]
        before, layer.max = layer.value, self.results.layers(self.choices["reader"].value) - 1
        if layer.value == before:
            self._draw()

    def _go_back(self, _=None) -> None:
        """All choices but those of models as the run's own probe has them, and drawn once."""
        chosen = self.results.published(self.choices["reader"].value, self.choices["trained_on"].value)
        every = {"position": LAST, "size": 0, "tasks": self.choices["tasks"].options}
        self.held = True  # or each change would be drawn
        for name, value in ((chosen | every) if chosen else {}).items():
            self.choices[name].value = value
        self.held = False
        self._draw()
        self.message.value = "" if chosen else "The run has no probe of its own for these models."

    def _draw(self, _=None) -> None:
        if self.held:
            return
        self.message.value = ""  # which is of an earlier choice
        try:
            # The numbers first, after one fit; the heatmaps want more.
            self.numbers.value = explore.numbers(self.results, self.setting).to_html(border=0)
            heatmaps = explore.heatmaps(explore.places(self.results, self.setting), self.results.models)
            charts = (heatmaps, explore.curves(self.results, self.setting))
            self.charts.outputs = tuple(_output(chart) for chart in charts if chart is not None)
        except WhoknowsError as error:
            self.numbers.value, self.charts.outputs = html.escape(str(error)), ()

    def _save(self, _) -> None:
        try:
            path = explore.save(self.results, self.setting, self.name.value)
            self.message.value = f"Written: <code>make book GRID={html.escape(str(path))}</code> runs it."
        except WhoknowsError as error:
            self.message.value = html.escape(str(error))


def _choices(results: Results) -> dict[str, widgets.Widget]:
    first, last = results.readers[0], results.layers(results.readers[0]) - 1
    whose = {"reader": results.readers, "trained_on": results.models, "scored": results.models}
    models = {
        name: widgets.Dropdown(options=options, value=first, description=name.replace("_", " ").capitalize(), **WIDE)
        for name, options in whose.items()
    }
    late = {"continuous_update": False} | WIDE
    layer = widgets.IntSlider(value=last // 2, min=0, max=last, description="Layer", **late)
    published = filter(None, (results.published(*pair) for pair in product(results.readers, results.models)))
    strengths = {*STRENGTHS, *results.grid.probe.strengths, *(chosen["strength"] for chosen in published)}
    strength = widgets.SelectionSlider(options=sorted(strengths), value=0.1, description="L2 strength", **late)
    most = max((frame["split"] == "train").sum() for frame in results.answers.values())
    sizes = [(str(size), size) for size in SIZES if size < most] + [("all", 0)]
    size = widgets.SelectionSlider(options=sizes, value=0, description="Training size", **late)
    names = [task.name for task in results.grid.tasks]
    tasks = widgets.SelectMultiple(options=names, value=names, rows=min(len(names), 8), description="Tasks", **WIDE)
    places = [(style.POSITIONS[position], position) for position in results.positions]
    position = widgets.Dropdown(options=places, value=LAST, description="Position", **WIDE)
    return models | {"position": position, "layer": layer, "strength": strength, "size": size, "tasks": tasks}


def _output(chart: alt.TopLevelMixin) -> dict:
    """What an Output widget shows; assigned at once, so that nothing flickers."""
    return {"output_type": "display_data", "data": style.bundle(chart.to_dict()), "metadata": {}}
