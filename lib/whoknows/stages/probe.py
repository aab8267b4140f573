"""Probes, the stage: classifiers on frozen hidden states, trained on one model's graded answers, score those of all."""

import json
from collections.abc import Callable
from pathlib import Path
from time import monotonic

import pandas as pd
import torch

from whoknows import WhoknowsError
from whoknows.data import files
from whoknows.data.rows import divided, example_rows, judges, one_class
from whoknows.estimators.hidden import load_hidden
from whoknows.estimators.probe import CLASSIFIERS, Labelled
from whoknows.evaluation import auroc
from whoknows.stages.trainable import leave_out, untrainable


def parts(frame: pd.DataFrame, hidden: torch.Tensor, name: str) -> tuple[Labelled, Labelled]:
    """Training and validation answers of one model, in their order, with their hidden [answers, layers + 1, width].

    Raises:
        WhoknowsError: the training answers are of one class.
    """
    every = Labelled(hidden, frame["correct"].to_numpy(), frame["task"].to_numpy())
    if reason := one_class(frame.loc[frame["split"] == "train", "correct"], "training"):
        raise WhoknowsError(f"probe: {reason} of {name}, so there is nothing to learn; raise tasks[].size in the grid")
    train, validation = (every.part((frame["split"] == split).to_numpy()) for split in ("train", "validation"))
    return train, validation


def probe_rows(probes: dict, frames: dict[str, pd.DataFrame], features: Callable, names: dict) -> pd.DataFrame:
    """Rows of every model's test answers, and of the validation answers of the model that was trained on.

    Args:
        probes: by method; each has `score`.
        features: gives what a probe scores, by the scored model's name.
        names: reader, trained_on and seed.
    """
    tables = []
    for scored, frame in frames.items():
        splits = ["test", "validation"] if scored == names["trained_on"] else ["test"]
        keep = frame["split"].isin(splits).to_numpy(copy=True)  # torch wants a mask that it may write to
        inputs, kept = features(scored)[keep], frame[keep]
        for method, probe in probes.items():
            tables.append(example_rows(kept, method=method, scored=scored, logit=probe.score(inputs), **names))
    return pd.concat(tables, ignore_index=True)


def run(
    name: str, trained_on: str, seed: int, answers: dict[str, pd.DataFrame], folder: str, layers,
    strengths: list[float], mlp: dict, out: str, **used,
) -> tuple[pd.DataFrame, pd.DataFrame]:  # fmt: skip
    """The probe stage: fit both probes to one model's answers, save them, and score every model's test answers and the
    validation answers that chose.

    Args:
        name: the reader's.
        folder: the reader's features.
        layers: HF indices to choose from, or "all".
        out: where the estimators and their cards go; a card says all that is needed to use an estimator again.
        used: what the reader was loaded with: source, precision, template and digest.

    Returns:
        (rows of probe and probe_mlp, the logistic probe's search); both empty where nothing can be learned from that
        model's answers, as the card says then.

    Raises:
        WhoknowsError: the layers do not exist, or there is nothing to learn from any model's answers.
    """
    frames = divided(answers, seed)
    names = {"reader": name, "trained_on": trained_on, "seed": seed}
    if reason := untrainable(frames, trained_on):
        return leave_out(out, {"method": "probe"} | names, reason), pd.DataFrame()
    hidden = load_hidden(folder, name, trained_on, frames[trained_on])
    layers = known_layers(layers, hidden.shape[1], name)
    train, validation = parts(frames[trained_on], hidden, trained_on)
    about = names | used | {"tasks": sorted(set(train.task)), "training_answers": auroc.counts(train.correct)}
    about |= judges(frames[trained_on]) | {"last_layer": hidden.shape[1] - 1}
    settings = {"probe": {"layers": layers, "strengths": strengths}, "probe_mlp": mlp}
    probes, searches = {method: CLASSIFIERS[method](settings[method], seed) for method in settings}, {}
    for method, probe in probes.items():
        began = monotonic()
        searches[method] = probe.fit(train, validation)
        spent = {"seconds": monotonic() - began}
        card = {"method": method} | about | {"settings": settings[method], "search": searches[method]} | spent
        files.write_text(Path(out) / f"{method}.json", json.dumps(card | {"chosen": probe.chosen}, indent=1))
        files.write_safetensors(Path(out) / f"{method}.safetensors", probe.state)
    rows = probe_rows(probes, frames, lambda scored: load_hidden(folder, name, scored, frames[scored]), names)
    return rows, pd.DataFrame(searches["probe"])


def known_layers(layers, count: int, name: str) -> list[int]:
    """The layers that a grid asks for, of the `count` that a reader has; raises a WhoknowsError if it lacks one."""
    if layers == "all":
        return list(range(count))
    wrong = [layer for layer in layers if layer not in range(count)]
    if wrong:
        raise WhoknowsError(
            f"grid, probe.layers: {name} has the layers 0 to {count - 1}, but {wrong[0]} is asked for; "
            "list layers that it has, or write all"
        )
    return list(layers)
