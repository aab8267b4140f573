"""Positions: the tokens at which a reader's hidden states are kept, by one name in files, stages, widgets and pages.

What pages call them stands in `report.pages.style`, so that another title has nothing read again.
"""

from collections.abc import Iterable

QUESTION = "question"  # its last token, before any answer: one for all models' answers
FIRST = "first"  # token of the answer
MEAN = "mean"  # of the hidden states at all tokens of the answer
LAST = "last"  # token of the answer, which probes read
QUERY = "query"  # its last token, where P(True) is read
POSITIONS = (QUESTION, FIRST, MEAN, LAST, QUERY)  # in reading order


def kept(first_layer: float | None) -> list[str]:
    """The positions that a run keeps of all answers; adapters begin at that share of the depth, or there are none.

    Training answers carry the query only where the blocks below the adapters are cached: reading it for its end alone
    would cost more than reading the answers.
    """
    return [position for position in POSITIONS if first_layer or position != QUERY]


def stem(scored: str, position: str) -> str:
    """The name of the file of one scored model's hidden states at a position; no model's name has an underscore."""
    return {QUESTION: "before_answer", LAST: scored}.get(position, f"{scored}_{position}")


def stems(models: Iterable[str], positions: Iterable[str]) -> dict[str, str | None]:
    """All such names, each once, and the model whose answers the file is of; None if it is of the questions."""
    models = list(models)
    return {
        stem(model, position): None if position == QUESTION else model for position in positions for model in models
    }
