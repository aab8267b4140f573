"""Probes, the stage: classifiers on frozen hidden states, trained on one model's graded answers, score those of all."""

import json
import warnings
from collections.abc import Callable, Iterator
from html import escape
from pathlib import Path
from time import monotonic

import pandas as pd
import torch

from whoknows import WhoknowsError
from whoknows.data import files
from whoknows.data.rows import divided, example_rows, judges, one_class
from whoknows.estimators.hidden import load_hidden
from whoknows.estimators.probe import CLASSIFIERS, Labelled, Logistic, Mlp
from whoknows.evaluation import auroc


def check_classes(train: Labelled, name: str) -> None:
    """Refuse training answers of one class.

    Raises:
        WhoknowsError: all answers are right, or all are wrong.
    """
    reason = auroc.one_class(train.correct)
    if reason:
        reason = reason.replace("test", "training")
        raise WhoknowsError(
            f"probe: {reason} of {name}, so there is nothing to learn; "
            "raise tasks[].size in the grid or train on another model"
        )


def why_not(frame: pd.DataFrame) -> str:
    """Why nothing can be learned from one model's graded answers, or "" if something can."""
    train, held = (frame[frame["split"] == split] for split in ("train", "validation"))
    can_choose = held.groupby("task")["correct"].nunique().eq(2).any()
    reason = one_class(train["correct"]).replace("test", "training")
    return reason or ("" if can_choose else "no task has both right and wrong validation answers")


def lessons(answers: dict[str, pd.DataFrame], seeds: list[int]) -> Iterator[tuple[str, int, dict[str, pd.DataFrame]]]:
    """(trained_on, seed, all answers divided for the seed), where something can be learned; a warning names the others.

    Raises:
        WhoknowsError: there is nothing to learn from any model.
    """
    missing = {}
    for trained_on in answers:
        for seed in seeds:
            frames = divided(answers, seed)
            if reason := why_not(frames[trained_on]):
                missing[trained_on, seed] = reason
                warnings.warn(f"nothing is trained on {trained_on}, seed {seed}: {reason}", stacklevel=2)
            else:
                yield trained_on, seed, frames
    if len(missing) == len(answers) * len(seeds):
        (trained_on, _), reason = next(iter(missing.items()))
        raise WhoknowsError(f"controls: there is nothing to learn: {reason} of {trained_on}; raise tasks[].size")


def untaught_html(answers: dict[str, pd.DataFrame], seeds: list[int]) -> str:
    """On whose answers `lessons` has nothing trained, and why, as HTML; "" if there are none."""
    reasons = {(name, seed): why_not(divided(answers, seed)[name]) for name in answers for seed in seeds}
    parts = [f"{name}, seed {seed}: {reason}" for (name, seed), reason in reasons.items() if reason]
    return f"<p>Nothing is trained on the answers of {escape('; '.join(parts))}.</p>" if parts else ""


def parts(frame: pd.DataFrame, hidden: torch.Tensor, name: str) -> tuple[Labelled, Labelled]:
    """Training and validation answers of one model, in their order.

    Args:
        frame: its graded answers; those of other splits are left out.
        hidden: [answers, layers + 1, width].
        name: the model's.

    Raises:
        WhoknowsError: the training answers are of one class.
    """
    every = Labelled(hidden, frame["correct"].to_numpy(), frame["task"].to_numpy())
    train, validation = (every.part((frame["split"] == split).to_numpy()) for split in ("train", "validation"))
    check_classes(train, name)
    return train, validation


def probe_rows(probes: dict, frames: dict[str, pd.DataFrame], features: Callable, names: dict) -> pd.DataFrame:
    """Rows of every model's test answers, and of the validation answers of the model that was trained on.

    Args:
        probes: by method; each has `score`.
        features: gives what a probe scores of a model's answers, by the model's name.
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
    name: str,
    trained_on: str,
    seed: int,
    answers: dict[str, pd.DataFrame],
    folder: str,
    layers,
    strengths: list[float],
    mlp: dict,
    out: str,
    **used,
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The probe stage: fit both probes to one model's answers, save them, and score every model's test answers and the
    validation answers that chose.

    Args:
        name: the reader's.
        folder: the reader's features.
        layers: HF indices to choose from, or "all".
        out: where the estimators and their cards go; a card says all that is needed to use an estimator again.
        used: what the reader was loaded with: source, precision, template and digest.

    Returns:
        (rows of probe and probe_mlp, the logistic probe's search over layers and strengths).

    Raises:
        WhoknowsError: the layers do not exist, or there is nothing to learn or to choose by.
    """
    frames = divided(answers, seed)
    hidden = load_hidden(folder, trained_on, frames[trained_on])
    layers = known_layers(layers, hidden.shape[1], name)
    train, validation = parts(frames[trained_on], hidden, trained_on)
    names = {"reader": name, "trained_on": trained_on, "seed": seed}
    about = names | used | {"tasks": sorted(set(train.task)), "training_answers": auroc.counts(train.correct)}
    about |= judges(frames[trained_on])
    about |= {"last_layer": hidden.shape[1] - 1}
    settings = {"probe": {"layers": layers, "strengths": strengths}, "probe_mlp": mlp}
    probes, searches = {method: CLASSIFIERS[method](settings[method], seed) for method in settings}, {}
    for method, probe in probes.items():
        began = monotonic()
        searches[method] = probe.fit(train, validation)
        spent = {"seconds": monotonic() - began}
        card = {"method": method} | about | {"settings": settings[method], "search": searches[method]} | spent
        _save(probe, card, Path(out))
    rows = probe_rows(probes, frames, lambda scored: load_hidden(folder, scored, frames[scored]), names)
    return rows, pd.DataFrame(searches["probe"])


def _save(probe: Logistic | Mlp, card: dict, folder: Path) -> None:
    files.write_text(folder / f"{card['method']}.json", json.dumps(card | {"chosen": probe.chosen}, indent=1))
    files.write_safetensors(folder / f"{card['method']}.safetensors", probe.state)


def known_layers(layers, count: int, name: str) -> list[int]:
    """The layers that a grid asks for, of the `count` that a reader has.

    Raises:
        WhoknowsError: the reader has no such layer.
    """
    if layers == "all":
        return list(range(count))
    wrong = [layer for layer in layers if layer not in range(count)]
    if wrong:
        raise WhoknowsError(
            f"grid, probe.layers: {name} has the layers 0 to {count - 1}, but {wrong[0]} is asked for; "
            "list layers that it has, or write all"
        )
    return list(layers)
