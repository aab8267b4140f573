"""Rows: one per example, in the columns that all metrics are computed from."""

import numpy as np
import pandas as pd


def example_rows(
    answers: pd.DataFrame, *, method: str, reader: str, scored: str, logit, trained_on: str = "", seed: int = 0
) -> pd.DataFrame:
    """One row for each answer of one scored model.

    Args:
        answers: the scored model's answers: task, split, question_id and correct are taken from them.
        logit: [len(answers)] confidence that each is right, as log-odds; an array, or a tensor on the CPU.
    """
    names = {"method": method, "reader": reader, "trained_on": trained_on, "scored": scored}
    table = pd.DataFrame(names, index=answers.index)
    table[["task", "split", "question_id"]] = answers[["task", "split", "question_id"]]
    table["seed"] = seed
    table["logit"] = np.asarray(logit, dtype=np.float32)
    table["correct"] = answers["correct"]
    return table.reset_index(drop=True)


def one_class(correct: np.ndarray) -> str:
    """Why no AUROC can be measured on these grades, or "" if it can.

    Args:
        correct: grades, shape [n], bool.
    """
    correct = np.asarray(correct, dtype=bool)
    if correct.size == 0:
        return "no test answers"
    if not correct.any():
        return "no right answer among the test answers"
    return "no wrong answer among the test answers" if correct.all() else ""
