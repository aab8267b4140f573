"""The sweep: what a probe reaches at every layer, strength and number of training answers, for who wants to turn the knobs.

Nothing is chosen here. The report's probes choose by validation answers alone; the test values of the sweep are for looking.
"""

from pathlib import Path

import altair as alt
import pandas as pd
import torch

from whoknows import WhoknowsError, files
from whoknows.auroc import ENOUGH
from whoknows.cells import MOST_FOR_ALL, READINGS, heatmap_axes
from whoknows.charts import TITLES, black_from, colour_domain, switch
from whoknows.classifiers import Labelled, Logistic
from whoknows.curves import COLOURS, colours, embedding
from whoknows.hidden import load_hidden
from whoknows.probes import parts
from whoknows.splits import for_seed, smaller

FEW = 2  # models whose cells all have a line; of more, each has one for its own answers


def run(name: str, answers: dict[str, pd.DataFrame], seed: int, folder: str, strengths: list[float], sizes: list[int]) -> pd.DataFrame:
    """The sweep stage: probes of one reader on every model's answers, at every layer, strength and size.

    Args:
        name: the reader's.
        folder: its features.
        strengths: of the L2 penalty.
        sizes: numbers of training answers; those that are not fewer than there are, or are of one class, are left out.

    Returns:
        reader, trained_on, scored, size (all training answers are the largest), layer, last_layer, strength, auroc (on the
        test answers of the tasks that were trained on), n_rarer (of these answers, those of the rarer class) and validation_auroc
        (of the model that was trained on); both within task.

    Raises:
        WhoknowsError: the training answers of a model are of one class.
    """
    frames = {scored: for_seed(frame, seed) for scored, frame in answers.items()}
    hidden = {scored: load_hidden(folder, scored, frame) for scored, frame in frames.items()}
    tests = {scored: _test(frames[scored], hidden[scored]) for scored in frames}
    layers, found = list(range(next(iter(hidden.values())).shape[1])), []
    for trained_on, frame in frames.items():
        every = int((frame["split"] == "train").sum())
        for size, some in (smaller(frame, sizes, seed) | {every: frame}).items():
            search = pd.DataFrame(Logistic(layers, strengths).fit(*parts(some, hidden[trained_on], trained_on), tests))
            long = search.melt(["layer", "strength", "validation_auroc"], list(tests), "scored", "auroc")
            rarer = long["scored"].map({scored: min(test.correct.sum(), (~test.correct).sum()) for scored, test in tests.items()})
            found.append(long.assign(reader=name, trained_on=trained_on, size=size, last_layer=layers[-1], n_rarer=rarer))
    return pd.concat(found, ignore_index=True)


def read(folder: str, models: list[str]) -> pd.DataFrame:
    """The sweeps of all readers of a run that are there; of the first models only if there are many, or the page would weigh too much.

    What rests on too few right or wrong answers has no auroc.

    Raises:
        WhoknowsError: there is none.
    """
    some = models[:MOST_FOR_ALL]
    paths = [path for path in (Path(folder) / f"{model}.parquet" for model in some) if path.exists()]
    if not paths:
        raise WhoknowsError(f"{folder} has no sweep of {', '.join(some)}: run the stage sweep first")
    table = pd.concat([files.read_parquet(path) for path in paths], ignore_index=True)
    return table.assign(auroc=table["auroc"].where(table["n_rarer"] >= ENOUGH))[table["trained_on"].isin(some) & table["scored"].isin(some)]


def _test(frame: pd.DataFrame, hidden: torch.Tensor) -> Labelled:
    """The test answers of the tasks that were trained on."""
    every = Labelled(hidden, frame["correct"].to_numpy(), frame["task"].to_numpy())
    learned = frame.loc[frame["split"] == "train", "task"].unique()
    return every.part(((frame["split"] == "test") & frame["task"].isin(learned)).to_numpy())


def chart(table: pd.DataFrame, models: list[str]) -> alt.ConcatChart:
    """A heatmap and two curves that follow three sliders: depth of the layer, strength of the penalty, training answers.

    Args:
        table: as `run` returns, of all readers.
        models: on both axes, in order.
    """
    drawn = pd.concat([heatmap_axes(table, reading) for reading in READINGS]).round(4)
    steps = {name: sorted(drawn[name].unique().tolist()) for name in ("strength", "size")}
    place = {name: {value: at for at, value in enumerate(values)} for name, values in steps.items()}
    drawn = drawn.assign(**{f"{name}_at": drawn[name].map(place[name]) for name in steps})
    drawn = drawn[["reading", "model", "trained_on", "layer", "last_layer", "strength", "size", "strength_at", "size_at", "auroc", "validation_auroc"]].dropna(subset="auroc")
    sliders = [
        alt.param(name="depth", value=0.6, bind=alt.binding_range(min=0, max=1, step=0.05, name="Depth of the layer: ")),
        *(_slider(f"{name}_step", len(values), title) for (name, values), title in zip(steps.items(), ("Strength: ", "Training answers: "))),
        switch("reading", list(READINGS), {reading: TITLES[reading][0] for reading in READINGS}, "Reading: "),
    ]
    at = {"layer": "datum.layer === round(depth * datum.last_layer)", "strength": "datum.strength_at === strength_step", "size": "datum.size_at === size_step"}
    said = alt.expr(f"['AUROC on test, strength ' + {steps['strength']}[strength_step] + ', ' + {steps['size']}[size_step] + ' training answers']")
    lines = [f"trained on {b}, scored on {a}" for a in models for b in models if len(models) <= FEW or a == b]
    panels = [_heatmap(drawn, models, at), _curve("layer", "Layer", at, lines, None), _curve("size", "Training answers", at, lines, "bottom")]
    whole = alt.concat(*panels, columns=3, data=drawn, spacing=24, title=alt.TitleParams(text=said, anchor="start", fontWeight="normal", fontSize=12))
    described = "AUROC of the probe on test answers, Model by Trained On, at the layer, strength and number of training answers that the sliders say, and its curves over layers and training answers."
    return whole.resolve_scale(color="independent").add_params(*sliders).properties(description=described, usermeta=embedding("sweep"))


def _slider(name: str, count: int, title: str) -> alt.Parameter:
    return alt.param(name=name, value=count - 1, bind=alt.binding_range(min=0, max=count - 1, step=1, name=title))


def _heatmap(drawn: pd.DataFrame, models: list[str], at: dict[str, str]) -> alt.LayerChart:
    size, (low, high) = min(90, 300 // len(models)), colour_domain(drawn["auroc"], 0.5)
    x, y = (alt.X("trained_on:N", sort=models, title="Trained On", axis=alt.Axis(labelAngle=0)), alt.Y("model:N", sort=models, title="Model"))
    tips = ["model:N", "trained_on:N", "layer:Q", "strength:Q", "size:Q", "auroc:Q", "validation_auroc:Q"]
    base = alt.Chart().transform_filter(f"datum.reading === reading && {' && '.join(at.values())}").encode(x=x, y=y, tooltip=tips)
    scale = alt.Scale(domain=[low, high], range=COLOURS, interpolate="rgb", clamp=True)
    rects = base.mark_rect().encode(color=alt.Color("auroc:Q", scale=scale, legend=None))
    ink = alt.condition(f"datum.auroc > {low + black_from() * (high - low):.4f}", alt.value("#000"), alt.value("#fff"))
    texts = base.mark_text(fontSize=15, fontWeight="bold").encode(text=alt.Text("auroc:Q", format=".2f"), color=ink)
    return alt.layer(rects, texts).properties(width=alt.Step(size), height=alt.Step(size), title="Probe")


def _curve(over: str, title: str, at: dict[str, str], lines: list[str], legend: str | None) -> alt.LayerChart:
    """AUROC on test over one of the three, the two others being as the sliders say; a point where the third slider stands.

    Args:
        lines: what is drawn, as "trained on model, scored on model"; the reading says which of them reads.
        legend: where it stands; None for nowhere.
    """
    others = " && ".join(condition for name, condition in at.items() if name != over)
    scheme = colours(lines, [COLOURS[0], COLOURS[2], COLOURS[3], "#8a919a"])
    colour = alt.Color("cell:N", title=None, scale=scheme, legend=legend and alt.Legend(orient=legend, columns=1, labelLimit=300))
    scale = alt.Scale(type="log" if over == "size" else "linear", zero=False, nice=False)
    base = alt.Chart().transform_filter(f"datum.reading === reading && {others}").transform_calculate(cell="'trained on ' + datum.trained_on + ', scored on ' + datum.model").transform_filter(alt.FieldOneOfPredicate("cell", lines))
    base = base.encode(x=alt.X(f"{over}:Q", title=title, scale=scale), y=alt.Y("auroc:Q", title="AUROC on test", scale=alt.Scale(zero=False)), color=colour, tooltip=["cell:N", f"{over}:Q", "auroc:Q"])
    here = base.transform_filter(at[over]).mark_point(filled=True, size=90, opacity=1)
    return alt.layer(base.mark_line(strokeWidth=1.5), here).properties(width=230, height=200, title=f"Over {title.lower()}")
