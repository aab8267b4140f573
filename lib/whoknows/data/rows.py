"""Rows: one per example, in the columns that all metrics are computed from; and which of them choose settings.

Test questions are the same for every seed; the others are divided anew into training and validation.
"""

import hashlib
from graphlib import CycleError, TopologicalSorter

import numpy as np
import pandas as pd

from whoknows import WhoknowsError
from whoknows.data.grading import JUDGED, judge_of
from whoknows.data.tasks import TASKS, grid_task

ALL_MODELS = "all models"  # in place of the model that was trained on; no model's name has a space
NO_ROWS = pd.DataFrame({
    **{name: pd.Series(dtype=str) for name in (
        "method", "reader", "trained_on", "scored", "task", "split", "question_id",
    )},
    "seed": pd.Series(dtype="int64"), "logit": pd.Series(dtype="float32"), "correct": pd.Series(dtype=bool),
})  # fmt: skip


def example_rows(
    answers: pd.DataFrame, *, method: str, reader: str, scored: str, logit, trained_on: str = "", seed: int = 0
) -> pd.DataFrame:
    """One row for each answer of one scored model.

    Args:
        answers: task, split, question_id and correct are taken from them.
        logit: [len(answers)] confidence that each is right, as log-odds; an array, or a tensor on the CPU.
    """
    names = {"method": method, "reader": reader, "trained_on": trained_on, "scored": scored}
    table = pd.DataFrame(names, index=answers.index)
    table[["task", "split", "question_id"]] = answers[["task", "split", "question_id"]]
    table["seed"] = seed
    table["logit"] = np.asarray(logit, dtype=np.float32)
    table["correct"] = answers["correct"]
    return table.reset_index(drop=True)


def one_class(correct: np.ndarray, split: str = "test") -> str:
    """Why no AUROC can be measured on these grades, bool [n], or "" if it can; split is what the answers are called."""
    correct = np.asarray(correct, dtype=bool)
    if correct.size == 0:
        return f"no {split} answers"
    if not correct.any():
        return f"no right answer among the {split} answers"
    return f"no wrong answer among the {split} answers" if correct.all() else ""


def judged(answers: pd.DataFrame) -> pd.Series:
    """Which answers, or questions, a judge grades."""
    return answers["kind"].str.startswith(JUDGED)


def judges(answers: pd.DataFrame) -> dict[str, dict[str, str]]:
    """For a card, under judged: the tasks that a judge grades, with its model; nothing if there are none."""
    of_judge = answers[judged(answers)].drop_duplicates("task")
    tasks = {task: judge_of(kind)[1] for task, kind in zip(of_judge["task"], of_judge["kind"])}
    return {"judged": tasks} if tasks else {}


def every(answers: dict[str, pd.DataFrame]) -> pd.DataFrame:
    """Of several models' answers those of the first that answered all questions that any of them answered.

    If none did, of each question one model's answer, in the order of the questions.
    """
    most = max(answers.values(), key=len)
    if all(frame["question_id"].isin(most["question_id"]).all() for frame in answers.values()):
        return most
    before: dict[str, list[str]] = {}
    for names in (frame["question_id"].tolist() for frame in answers.values()):
        for earlier, name in zip([[], *([name] for name in names)], names):
            before.setdefault(name, []).extend(earlier)
    try:
        order = [*TopologicalSorter(before).static_order()]
    except CycleError:
        return most  # whose order another one's contradicts, as `aligned` says
    either = pd.concat(answers.values()).drop_duplicates("question_id").set_index("question_id", drop=False)
    return either.loc[order].reset_index(drop=True)


def aligned(answers: dict[str, pd.DataFrame]) -> dict[str, pd.DataFrame]:
    """Several models' answers, each with the place of its question among all questions as its index.

    Raises:
        WhoknowsError: a model's answers are to other questions, or in another order.
    """
    place = {question: at for at, question in enumerate(every(answers)["question_id"])}
    frames = {}
    for model, frame in answers.items():
        index = pd.Index(frame["question_id"].map(place))
        if index.hasnans or not (index.is_monotonic_increasing and index.is_unique):
            raise WhoknowsError(
                f"answers of {model} are not to the same questions as the others': "
                f"delete answers/{model}.parquet and run again"
            )
        frames[model] = frame.set_axis(index.astype(int))
    return frames


def divided(answers: dict[str, pd.DataFrame], seed: int) -> dict[str, pd.DataFrame]:
    """What `aligned` returns, with the division of `for_seed`, which is that of all questions for every model."""
    answers = aligned(answers)
    split = for_seed(every(answers), seed)["split"]
    return {model: frame.assign(split=split[frame.index]) for model, frame in answers.items()}


def learned(frames: dict[str, pd.DataFrame], trained_on: str, without: str | None = None) -> pd.DataFrame:
    """The training and validation answers of one model, or of `ALL_MODELS`, to all tasks `without` one of the grid's.

    Of all models each one's answers to a task are a task of their own, so that knowing who wrote an answer earns
    nothing on validation, as it earns nothing on the test answers of one model. The index is (model, index in its
    frame); the frames are divided for a seed.
    """
    models = [*frames] if trained_on == ALL_MODELS else [trained_on]
    parts = ((model, frames[model]) for model in models)
    asked = {model: frame[is_learned(frame) & ~is_of(frame["task"], without)] for model, frame in parts}
    if trained_on == ALL_MODELS:
        asked = {model: frame.assign(task=f"{model}: " + frame["task"]) for model, frame in asked.items()}
    return pd.concat(asked)


def is_of(tasks: pd.Series, name: str | None) -> pd.Series:
    """Which tasks are the one that a grid calls so, or topics of its file; none of no name.

    Other tasks whose names go on from this one are none of it: `mmlu_mc` is not `mmlu`.
    """
    same = tasks == name
    return same if same.any() or not name else tasks.map(lambda task: grid_task(task, [name, *TASKS])) == name


def is_learned(answers: pd.DataFrame) -> pd.Series:
    """Which answers are to training or validation questions."""
    return answers["split"].isin(["train", "validation"])


def for_seed(answers: pd.DataFrame, seed: int) -> pd.DataFrame:
    """Answers with another division into train and validation, of the same sizes in every task; seed 0 changes nothing.

    Test questions never change, and a seed gives all models the same division, since it depends on the question alone.
    """
    if seed == 0:
        return answers
    split = answers["split"].copy()
    for _, group in answers[is_learned(answers)].groupby("task"):
        held_out = in_hash_order(group["question_id"], str(seed))[: (group["split"] == "validation").sum()]
        split[group.index] = "train"
        split[held_out] = "validation"
    return answers.assign(split=split)


def smaller(answers: pd.DataFrame, sizes: list[int], seed: int) -> dict[int, pd.DataFrame]:
    """Answers with fewer training answers, for each size that is smaller than all and gives both classes.

    The seed decides which: the same ones for whoever asks for the same size.
    """
    train = answers[answers["split"] == "train"]
    subsets = {size: fewer(answers, size, seed) for size in sizes if size < len(train)}
    return {size: some for size, some in subsets.items() if not one_class(some["correct"][some["split"] == "train"])}


def fewer(answers: pd.DataFrame, size: int, seed: int) -> pd.DataFrame:
    """Answers of which all but `size` training answers have no split, so that nobody takes them."""
    order = in_hash_order(answers.loc[answers["split"] == "train", "question_id"], f"size {seed}")
    return answers.assign(split=answers["split"].mask(answers.index.isin(order[size:]), ""))


def in_hash_order(names: pd.Series, salt: str) -> pd.Index:
    """The index of names in an order that depends on each name and the salt alone."""
    return names.map(lambda name: hashlib.sha256(f"{salt}\n{name}".encode()).hexdigest()).sort_values().index
