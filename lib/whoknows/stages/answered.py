"""What is made of any model's answers, whoever wrote them: the untrained baselines' rows, and tables of the answers."""

from collections.abc import Callable

import numpy as np
import pandas as pd

from whoknows import WhoknowsError
from whoknows.data.questions import SHOT
from whoknows.data.rows import example_rows
from whoknows.evaluation.auroc import auroc, counts, too_few
from whoknows.stages import judge

LEAST = 1e-7  # no confidence is nearer to zero or one, whose log-odds are infinite
# Methods that need no training, and what they make of an answer's tokens: a column of the answers, and the logarithm of
# a number between zero and one that grows with it.
BASELINES: dict[str, tuple[str, Callable]] = {
    "likelihood": ("sum_logprob", np.asarray),
    "likelihood_mean": ("mean_logprob", np.asarray),
    "token_min": ("min_logprob", np.asarray),
    "entropy_mean": ("mean_entropy", np.negative),
    "entropy_max": ("max_entropy", np.negative),
    "margin_first": ("first_margin", lambda margin: np.log(np.maximum(margin, LEAST))),
    "agreement": ("agreement", np.log),
    "semantic_entropy": ("semantic_entropy", np.negative),
}


def likelihood_rows(model: str, answers: pd.DataFrame, method: str = "likelihood") -> pd.DataFrame:
    """Rows of an untrained baseline for test and validation answers: a number between zero and one, as log-odds.

    That is the probability that the model gave to its answer, the exponential of the sum of its tokens'
    log-probabilities; or of their mean, which unlike the sum does not shrink with their number, or of the smallest
    (Manakul and others, 2023). An entropy H counts as exp(-H), the probability of each of as many equally likely tokens
    (or answers, with semantic entropy) as have that entropy. An answer of which the number is not known gives no row.
    """
    column, log = BASELINES[method]
    answers = answers.assign(**{column: answers.get(column, np.nan)})
    kept = answers[(answers["split"] != "train") & answers[column].notna()]
    logprob = np.minimum(log(kept[column].to_numpy(np.float64)), -LEAST)
    return example_rows(kept, method=method, reader="", scored=model, logit=logprob - np.log(-np.expm1(logprob)))


def examples(answers: pd.DataFrame) -> str:
    """Up to three right and three wrong test answers of each task, as an HTML table."""
    some = answers[answers["split"] == "test"].groupby(["task", "correct"], sort=False).head(3)
    shown = some[["correct", "question", "answer", "gold", "task"]].assign(gold=some["gold"].str[:3].str.join("; "))
    with pd.option_context("display.max_colwidth", None):
        return shown.to_html(index=False, classes="texts")


def summary(answers: pd.DataFrame, questions: pd.DataFrame | None = None) -> pd.DataFrame:
    """For each task answers, right ones, accuracy, the test likelihood's AUROC unless too few.

    With the questions that were all asked, also `judge.counts`.
    """
    lines, answers = {}, answers.assign(sum_logprob=answers.get("sum_logprob", np.nan))
    for task, group in answers.groupby("task", sort=False):
        test = group[group["split"] == "test"]
        known = test.dropna(subset="sum_logprob")
        few = too_few(*counts(known["correct"]).values())
        lines[task] = {
            "answers": len(group),
            "right": int(group["correct"].sum()),
            "accuracy": group["correct"].mean(),
            "test answers": len(test),
            "right in test": int(test["correct"].sum()),
            "AUROC of likelihood": np.nan if few else auroc(known["sum_logprob"], known["correct"]),
        }
    table = pd.DataFrame.from_dict(lines, orient="index")
    counted = table[[]] if questions is None else judge.counts(questions, answers)
    return table.reindex(counted.index).join(counted)


def without_examples(questions: pd.DataFrame) -> pd.DataFrame:
    """The questions that are asked; raises a WhoknowsError if there is none."""
    asked = questions[questions["split"] != SHOT].reset_index(drop=True)
    if asked.empty:
        raise WhoknowsError(
            "answer: questions.parquet has no question beside its few-shot examples; raise tasks[].size in the grid"
        )
    return asked
