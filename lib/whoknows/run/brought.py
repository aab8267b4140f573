"""Files with what users bring to a grid: a task's questions and a model's answers, beside it or on the hub."""

from pathlib import Path

from whoknows import WhoknowsError
from whoknows.data import files, hub
from whoknows.data.matching import normalise
from whoknows.run.grid import Model, Task


def file(item: Task | Model) -> str | None:
    """The file of a task's questions or a model's answers: that of the grid, or what was fetched of a data set."""
    if not item.hub:
        return item.file if isinstance(item, Task) else item.answers
    split = f"{item.split} by {_question(item)}" if "+" in item.split else item.split
    return str(hub.dataset(item.hub, item.config, split, item.revision))


def digest(item: Task | Model) -> str | None:
    """Of that file; None if there is none, or while a data set has not been fetched, which `check` does.

    Raises:
        WhoknowsError: the grid's file cannot be read.
    """
    path = file(item)
    return files.digest(path) if path and not (item.hub and not Path(path).exists()) else None


def fetch(item: Task | Model) -> None:
    """Fetches a data set on the hub, if it is not here; several splits without the questions that they hold twice.

    Which of such rows belongs to which, in the data sets of two models, nothing says.

    Raises:
        WhoknowsError: the hub does not give it, or it has no such split or column.
    """
    import pandas  # not above: it takes as long as the rest of a plan

    from whoknows.data import tables

    if not item.hub or Path(file(item)).exists():
        return
    splits = item.split.split("+")
    try:
        for split in splits:
            hub.fetch_dataset(item.hub, item.config, split, item.revision)
    except WhoknowsError as error:
        key = "tasks" if isinstance(item, Task) else "models"
        raise WhoknowsError(f"{key}: {str(error).removeprefix('tasks: ')}") from None
    if len(splits) > 1:
        paths = [hub.dataset(item.hub, item.config, split, item.revision) for split in splits]
        rows = pandas.concat([tables.read(path, needed=[_question(item)]) for path in paths], ignore_index=True)
        asked = rows[_question(item)].map(lambda text: normalise(str(text)))
        files.write_parquet(file(item), rows[~asked.duplicated(keep=False)])


def _question(item: Task | Model) -> str:
    """What the data set calls its questions."""
    return (item.columns and item.columns.question) or "question"
