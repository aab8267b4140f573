"""What notebooks/explore.py shows of a setting, and the grid that repeats it; `panel` has the widgets.

Test answers measure, and only validation answers may choose: `numbers` puts the two side by side.
"""

from dataclasses import asdict, dataclass, replace
from functools import cache, lru_cache
from itertools import product
from pathlib import Path

import altair as alt
import numpy as np
import pandas as pd
import torch
import yaml

from whoknows import WhoknowsError
from whoknows.data import files
from whoknows.data.positions import LAST, kept
from whoknows.data.rows import divided, fewer
from whoknows.data.tasks import grid_task
from whoknows.estimators.hidden import load_states
from whoknows.estimators.probe import Labelled, Logistic, logistic_path, standardise
from whoknows.evaluation import auroc, scores
from whoknows.evaluation.cells import READINGS, heatmap_axes, test_sets
from whoknows.report.pages import cell, style
from whoknows.report.pages.heatmaps import with_labels
from whoknows.report.pages.style import PANELS, POSITIONS, colour_domain, finished, heatmap, on_ramp, tipped
from whoknows.run import grid, parameters
from whoknows.stages.probe import parts, probe_rows


@dataclass(frozen=True)
class Setting:
    """What a probe is, and whose answers it scores."""

    reader: str
    trained_on: str
    scored: str
    position: str  # where it reads hidden states, one of `Results.positions`
    layer: int  # HF index, 0 = embeddings
    strength: float  # of the L2 penalty
    size: int  # training answers, at most; 0 takes all
    tasks: tuple[str, ...]  # of the grid; those with role train are trained on and tested, those with shift only tested


class Results:
    """What the run of a grid left behind: answers, and hidden states that are read when they are first asked for.

    The grid's first seed divides train and validation. A WhoknowsError says that it is wrong, or was not run.
    """

    def __init__(self, grid_file: str):
        self.grid_file, self.grid = Path(grid_file), grid.load(grid_file)
        paths = parameters.answers(self.grid)
        self.models, self.readers, self.seed = list(paths), self.grid.readers, self.grid.seeds[0]
        self.answers = divided({name: files.read_parquet(path) for name, path in paths.items()}, self.seed)
        self.positions = kept(parameters.first_layer(self.grid))
        features = f"{parameters.out(self.grid)}/features"
        self._states = cache(
            lambda reader, position: load_states(f"{features}/{reader}", reader, self.answers, position)
        )
        self._cached_rows = lru_cache(maxsize=64)(self._fit_and_score)

    def layers(self, reader: str) -> int:
        """How many hidden states a reader has, the embeddings among them."""
        return self._states(reader, LAST)[reader].shape[1]

    def published(self, reader: str, trained_on: str) -> dict | None:
        """Layer and strength of the run's own probe, which were chosen on validation; None if it has no such probe."""
        folder = Path(parameters.out(self.grid), "estimators/probe", reader, trained_on, f"seed{self.seed}")
        path = folder / "probe.json"
        return files.read_json(path).get("chosen") if path.exists() else None

    def tasks(self, setting: Setting) -> list[dict]:
        """The setting's tasks, dicts with name, size and role."""
        return [asdict(task) for task in self.grid.tasks if task.name in setting.tasks]

    def rows(self, setting: Setting) -> pd.DataFrame:
        """Rows of the setting's probe: all models' test answers, and the trained-on model's validation answers.

        Raises:
            WhoknowsError: the reader has no such layer, or there is nothing to learn.
        """
        return self._cached_rows(replace(setting, scored=""))  # one probe scores all

    def _fit_and_score(self, setting: Setting) -> pd.DataFrame:
        reader, trained_on, layer = setting.reader, setting.trained_on, setting.layer
        last = self.layers(reader) - 1
        if layer > last:
            sentence = f"{reader} has the layers 0 to {last}, but {layer} is asked for; choose one that it has."
            raise WhoknowsError(sentence)
        if not any(task["role"] == "train" for task in self.tasks(setting)):
            sentence = "None of these tasks has the role train, so there is nothing to learn; choose one more."
            raise WhoknowsError(sentence)
        frames = {scored: self._asked(frame, setting) for scored, frame in self.answers.items()}
        hidden = {m: states[:, layer : layer + 1] for m, states in self._states(reader, setting.position).items()}
        learned = fewer(frames[trained_on], setting.size, self.seed) if setting.size else frames[trained_on]
        train, _ = parts(learned, hidden[trained_on], trained_on)
        if train.hidden.isnan().any():
            raise WhoknowsError(f"{reader} did not read the query after the training answers; choose another position.")
        names = {"reader": reader, "trained_on": trained_on, "seed": self.seed}
        return probe_rows({"probe": fit(train, setting.strength)}, frames, hidden.__getitem__, names)

    def _asked(self, frame: pd.DataFrame, setting: Setting) -> pd.DataFrame:
        """Answers of which those to other tasks have no split, so that nothing takes them."""
        names = [task.name for task in self.grid.tasks]
        grid_tasks = {task: grid_task(task, names) for task in frame["task"].unique()}
        return frame.assign(split=frame["split"].where(frame["task"].map(grid_tasks).isin(setting.tasks), ""))


def fit(train: Labelled, strength: float) -> Logistic:
    """The logistic probe of one strength, which need not be chosen, from states [n, 1, width] with both grades."""
    probe, x = Logistic([0], [strength]), train.hidden[:, 0].float()
    mean, scale = standardise(x)
    (weights,) = logistic_path((x - mean) / scale, torch.from_numpy(train.correct.astype(np.float32)), [strength])
    probe.restore({"layer": 0, "strength": strength}, {"weights": weights, "mean": mean, "scale": scale})
    return probe


def numbers(results: Results, setting: Setting) -> pd.DataFrame:
    """Within-task AUROC on validation answers, by which a setting may be chosen, beside that on test answers.

    Returns:
        A line for each test set: `Validation, <trained on>`, and `Test, <scored>`, as AUROC with what it rests on.
    """
    rows, tasks = results.rows(setting), results.tasks(setting)
    heads = {
        f"Validation, {setting.trained_on}": ("validation", setting.trained_on),
        f"Test, {setting.scored}": ("test", setting.scored),
    }
    lines = {}
    for label, members in test_sets(tasks, list(rows["task"].unique())).items():
        group, lines[label] = rows[rows["task"].isin(members)], {}
        for head, (split, scored) in heads.items():
            part = group[(group["split"] == split) & (group["scored"] == scored)]
            value = auroc.mean_auroc(*(part[column].to_numpy() for column in ("logit", "correct", "task")))
            text = f"{value:.3f} ({part['correct'].sum()} right of {len(part)})"
            lines[label][head] = "—" if np.isnan(value) else text
    return pd.DataFrame.from_dict(lines, orient="index").rename_axis(columns="AUROC")


def places(results: Results, setting: Setting) -> pd.DataFrame:
    """In-distribution AUROC on test answers in readings A and B, at this setting for all models.

    Returns:
        reading, model, trained_on, auroc and n_right; reason where a probe cannot be, such as a layer that its reader
        lacks.
    """
    pairs = product(results.readers, results.models)
    settings = [replace(setting, reader=reader, trained_on=trained_on) for reader, trained_on in pairs]
    table = pd.concat([_aurocs(results, one) for one in settings])
    table = table.astype({"n_right": "Int64"})  # which may be missing
    readings = READINGS if len(results.models) > 1 else ["A"]
    return pd.concat([heatmap_axes(table, reading) for reading in readings], ignore_index=True)


def _aurocs(results: Results, setting: Setting) -> pd.DataFrame:
    """What one probe reaches on each model's answers, or why it cannot be."""
    every = pd.DataFrame({"reader": setting.reader, "trained_on": setting.trained_on, "scored": results.models})
    try:
        rows = results.rows(setting)
    except WhoknowsError as error:
        return every.assign(auroc=np.nan, n_right=np.nan, reason=str(error))
    members = test_sets(results.tasks(setting), list(rows["task"].unique()))["in-distribution"]
    measured = scores.within_task(scores.by_task(rows, only_auroc=True), members)
    return every.merge(measured[["scored", "auroc", "n_right", "reason"]], on="scored")


def heatmaps(table: pd.DataFrame, models: list[str]) -> alt.FacetChart:
    """What `places` returns, readings A and B side by side."""
    scale, ink = on_ramp(*colour_domain(table["auroc"], 0.5))
    drawn = with_labels(table.assign(panel=table["reading"].map(lambda reading: PANELS[reading][0])), len(models))
    names = style.lines_of(models, style.LETTERS)
    x = alt.X("trained_on:N", sort=models, title="Trained On", axis=alt.Axis(labelAngle=0, labelExpr=names))
    y = alt.Y("model:N", sort=models, title="Model", axis=alt.Axis(**style.in_middle(names)))
    base = tipped(alt.Chart(), "reader", "trained_on", "scored", "auroc", "n_right", "reason").encode(x=x, y=y)
    colour = alt.Color("auroc:Q", scale=scale, legend=None)
    texts = {"value": {"fontSize": 15, "dy": -5}, "note": {"fontSize": 10, "dy": 12}}
    layers = heatmap(base, colour, {"fill": "#8883"}, texts, ink, stroke="#8883")
    panels = alt.layer(*layers).resolve_scale(color="independent").properties(width=alt.Step(110), height=alt.Step(64))
    panels = panels.facet(alt.Column("panel:N", title=None), data=drawn).resolve_scale(x="independent", y="independent")
    return finished(panels, "explore-heatmaps", "Heatmaps of AUROC on test answers, in readings A and B.")


def curves(results: Results, setting: Setting) -> alt.ConcatChart | None:
    """ROC and reliability of the setting's own cell, and how its errors and confidences lie; None without answers."""
    rows = results.rows(setting)
    keep = (rows["scored"] == setting.scored) | (rows["split"] == "validation")  # Platt scaling needs those
    data = cell.curves(rows[keep], results.tasks(setting))
    return cell.curves_chart(data, "explore-curves", setting.reader, setting.trained_on)


def as_grid(results: Results, setting: Setting, name: str) -> str:
    """A grid that repeats the setting: one layer, one strength and the setting's tasks, for all models of its grid.

    A model that lacks the layer chooses among its own on validation when it is the reader.

    Raises:
        WhoknowsError: no grid may have that name, or have those tasks alone.
    """
    lacks = [reader for reader in results.readers if setting.layer >= results.layers(reader)]
    values = files.read_yaml(results.grid_file)
    values["tasks"] = [task for task in values["tasks"] if task["name"] in setting.tasks]
    values |= {"name": name, "methods": ["probe"], "seeds": [results.seed]}
    is_judged = any(task.get("grading") == "judge" for task in values["tasks"])
    values |= dict.fromkeys((*([] if is_judged else ["judge"]), "search", "beside"))
    for model in values["models"]:
        for key in ("learning_rate", "released"):  # of LoRA + Prompt
            model.pop(key, None)
        model |= {"layers": "all" if model["name"] in lacks else None} if model["name"] in results.readers else {}
    values["probe"] = values.get("probe", {}) | {"layers": [setting.layer], "strengths": [setting.strength]}
    sizes = [setting.size] if setting.size else []
    values["controls"] = values.get("controls", {}) | {"strengths": [setting.strength], "sizes": sizes, "lora": []}
    made = grid.build(values)
    names = f"{setting.reader} reads, {setting.trained_on} is trained on, {setting.scored} is scored"
    comments = [f"{results.grid_file} with the probe at one setting: {names}."]
    if lacks:
        readers = ", ".join(lacks)
        comments.append(f"Readers without a layer {setting.layer} choose among all of theirs on validation: {readers}.")
    place = "is on the page Baselines and ablations, at"
    if setting.size:
        learner = f"A probe that learns from {setting.size} answers"
        comments.append(f"{learner} {place} the layer that is best on validation.")
    if setting.position != LAST:
        is_swept = setting.trained_on == setting.reader and setting.position in kept(parameters.first_layer(made))
        here = f"A probe of another position, {POSITIONS[setting.position]}, {place} every layer."
        pair = f"{setting.reader} trained on {setting.trained_on}"
        none = f"This grid has no probe of another position, {POSITIONS[setting.position]}, for {pair}."
        comments.append(here if is_swept else none)
    text = yaml.safe_dump(values, sort_keys=False, default_flow_style=None, width=120)
    return "".join(f"# {comment}\n" for comment in comments) + text


def save(results: Results, setting: Setting, name: str) -> Path:
    """Writes `as_grid` beside the grid that it is made from; a WhoknowsError if it or its results are there."""
    text, path = as_grid(results, setting, name), results.grid_file.with_name(f"{name}.yml")
    for taken in (path, Path("results", name)):
        if taken.exists():
            raise WhoknowsError(f"{taken} is there already; give this grid another name.")
    files.write_text(path, text)
    return path
