"""What can be learned from a model's graded answers, and what a stage leaves behind where nothing can.

A model whose training answers are all right, or all wrong, has no estimators, and the others have theirs all the same.
"""

import json
import warnings
from collections.abc import Iterator
from html import escape
from itertools import product

import pandas as pd

from whoknows import WhoknowsError
from whoknows.data import files
from whoknows.data.rows import NO_ROWS, divided, learned, one_class


def why_not(frame: pd.DataFrame) -> str:
    """Why nothing can be learned from one model's graded answers, or "" if something can."""
    train, held = (frame[frame["split"] == split] for split in ("train", "validation"))
    can_choose = held.groupby("task")["correct"].nunique().eq(2).any()
    reason = one_class(train["correct"], "training")
    return reason or ("" if can_choose else "no task has both right and wrong validation answers")


def untrainable(frames: dict[str, pd.DataFrame], trained_on: str, without: str | None = None) -> str:
    """Why nothing can be learned from that model's answers, or "" if something can.

    Args:
        frames: all models' answers, divided for a seed.
        trained_on: a model's name, or `ALL_MODELS`: together they teach if one of them does, and may where none does.
        without: a task that is left out.

    Raises:
        WhoknowsError: there is nothing to learn from any model's answers.
    """
    reasons = {name: why_not(learned(frames, name)) for name in [*frames, trained_on]}
    if all(reasons.values()):
        name, reason = next(iter(reasons.items()))
        raise WhoknowsError(f"there is nothing to learn: {reason} of {name}; raise tasks[].size in the grid")
    return why_not(learned(frames, trained_on, without))


def leave_out(out: str, names: dict, reason: str) -> pd.DataFrame:
    """Writes to a folder an estimator's card (names: method, reader, trained_on and seed) alone; returns no rows."""
    card = json.dumps(names | {"untrained": reason}, indent=1)
    files.write_folder(out, lambda folder: files.write_text(folder / f"{names['method']}.json", card))
    return NO_ROWS


def trainable(answers: dict[str, pd.DataFrame], seeds: list[int]) -> Iterator[tuple[str, int, dict[str, pd.DataFrame]]]:
    """(trained_on, seed, all answers divided for it), without what is `untrainable`, which a warning names."""
    by_seed = {seed: divided(answers, seed) for seed in seeds}
    for trained_on, (seed, frames) in product(answers, by_seed.items()):
        if reason := untrainable(frames, trained_on):
            warnings.warn(f"nothing is trained on {trained_on}, seed {seed}: {reason}", stacklevel=2)
        else:
            yield trained_on, seed, frames


def untrainable_html(answers: dict[str, pd.DataFrame], seeds: list[int]) -> str:
    """On whose answers `trainable` has nothing trained, and why, as HTML; "" if there are none."""
    by_seed = {seed: divided(answers, seed) for seed in seeds}
    reasons = {f"{name}, seed {seed}": why_not(by_seed[seed][name]) for name, seed in product(answers, seeds)}
    parts = [f"{where}: {reason}" for where, reason in reasons.items() if reason]
    return f"<p>Nothing is trained on the answers of {escape('; '.join(parts))}.</p>" if parts else ""
