"""Which of the questions that are not for testing choose settings: drawn anew for every seed."""

import hashlib

import pandas as pd


def for_seed(answers: pd.DataFrame, seed: int) -> pd.DataFrame:
    """Answers with another division into train and validation, of the same sizes in every task.

    Test questions never change, and a seed gives all models the same division, since it depends on the question alone.

    Args:
        answers: question_id, task and split of each answer; other columns are kept.
        seed: 0 leaves the division as it is.
    """
    if seed == 0:
        return answers
    split = answers["split"].copy()
    for _, own in answers[split.isin(["train", "validation"])].groupby("task"):
        held = in_hash_order(own["question_id"], str(seed))[: (own["split"] == "validation").sum()]
        split[own.index] = "train"
        split[held] = "validation"
    return answers.assign(split=split)


def in_hash_order(names: pd.Series, salt: str) -> pd.Index:
    """The index of names in an order that depends on each name and the salt alone."""
    return names.map(lambda name: hashlib.sha256(f"{salt}\n{name}".encode()).hexdigest()).sort_values().index
