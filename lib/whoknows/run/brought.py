"""Files with what users bring to a grid: a task's questions and a model's answers, beside it or on the hub."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import TYPE_CHECKING

from whoknows.data import files, hub
from whoknows.data.grading import canonical
from whoknows.run.grid import Grid, Model, OwnSplits, Task

if TYPE_CHECKING:
    import pandas as pd


def file(item: Task | Model) -> str | None:
    """The file of a task's questions or a model's answers: that of the grid, or what was fetched of a data set."""
    if not item.hub:
        return item.file if isinstance(item, Task) else item.answers
    parts = _splits(item)
    named = item.split if isinstance(item.split, str) else str(parts)
    split = f"{named} by {_question(item)}" if len(parts) > 1 else named
    return str(hub.dataset(item.hub, item.config, split, item.revision))


def learned(grid: Grid) -> list[dict]:
    """What the released adapters of a grid were trained on, as far as it is on the hub; see `questions.build`."""
    names = dict.fromkeys(name for model in grid.models for name in model.released or ())
    models = [model for model in grid.models if model.name in names and model.hub]
    paths = {str(hub.dataset(one.hub, one.config, one.split.train, one.revision)): _question(one) for one in models}
    here = [path for path in paths if Path(path).exists()]  # before `check` has fetched them there is nothing to ask
    return [{"file": path, "question": paths[path], "digest": files.digest(path)} for path in here]


def digest(item: Task | Model) -> str | None:
    """Of that file, which has to be readable; None if there is none, or while `check` has not fetched a data set."""
    path = file(item)
    return files.digest(path) if path and not (item.hub and not Path(path).exists()) else None


def fetch(item: Task | Model) -> None:
    """Fetches a data set on the hub, if it is not here; a WhoknowsError if the hub, or the data set, does not have it.

    Several splits come without the questions that they hold twice, which are counted in a warning: nothing says which
    of such rows belongs to which, in the data sets of two models. A task's questions with other choices are others, but
    not if they are in training and in test.
    """
    if not item.hub or Path(file(item)).exists():
        return
    splits = _splits(item)
    for split in splits:
        key = "tasks" if isinstance(item, Task) else "models"
        hub.fetch_dataset(key, item.hub, item.config, split, item.revision)
    if len(splits) > 1:
        files.write_parquet(file(item), _joined(item, splits))


def _joined(item: Task | Model, splits: dict[str, str]) -> pd.DataFrame:
    """The rows of several splits that are here, in `split` what each is, without what `fetch` leaves out."""
    import pandas as pd  # not above: it takes as long as the rest of a plan

    from whoknows.data import tables

    question = _question(item)
    choices = item.columns.choices if isinstance(item, Task) and item.columns else None
    paths = {hub.dataset(item.hub, item.config, split, item.revision): ours for split, ours in splits.items()}
    needed = [question, *filter(None, [choices])]
    parts = [tables.read(path, needed=needed).assign(**{"split": ours} if ours else {}) for path, ours in paths.items()]
    rows = pd.concat(parts, ignore_index=True)
    compared = [question, choices or "choices"] if isinstance(item, Task) else [question]
    forms = rows.reindex(columns=compared).map(lambda cell: canonical(str(cell)))
    is_twice = forms.duplicated(keep=False)
    if isinstance(item.split, OwnSplits):
        is_twice |= rows.groupby(forms[question])["split"].transform("nunique") > 1
    if is_twice.any():
        text = f"{is_twice.sum():,} of {len(rows):,} rows are left out: their questions stand there more than once"
        warnings.warn(f"{item.hub}: {text}", stacklevel=2)
    return rows[~is_twice]


def _question(item: Task | Model) -> str:
    """What the data set calls its questions."""
    return (item.columns and item.columns.question) or "question"


def _splits(item: Task | Model) -> dict[str, str]:
    """The splits that are taken of a data set, and what each is here; "" where its questions' words decide."""
    return item.split.ours if isinstance(item.split, OwnSplits) else dict.fromkeys(item.split.split("+"), "")
