"""Answers from a file: those of a model that is not run here, matched to the grid's questions and graded."""

import math
from collections.abc import Container
from pathlib import Path

import numpy as np
import pandas as pd

from whoknows import WhoknowsError
from whoknows.data import files, tables
from whoknows.data.grading import GRADINGS, canonical, chosen
from whoknows.data.questions import SHOT
from whoknows.data.rows import judged, one_class
from whoknows.stages import judge

COLUMNS = ("question", "question_id", "answer", "correct", "logprob")
GRADES = dict.fromkeys(["true", "t", "yes", "y", "1", "1.0", "1.00", "wahr", "vrai"], True)
GRADES |= dict.fromkeys(["false", "f", "no", "n", "0", "0.0", "0.00", "falsch", "faux"], False)


def run(
    questions: pd.DataFrame, answers: str, columns: dict[str, str], digest: str | None, out: str
) -> tuple[pd.DataFrame, str]:
    """The answer_file stage: `read` a user's file `answers`, and write that of the graded answers.

    Raises:
        WhoknowsError: see `read`; or the file has another digest than when the run was planned.
    """
    if digest and digest != files.digest(answers):
        raise WhoknowsError(f"{answers}: this file was changed after the run began; run `make book` again.")
    graded, sentence = read(questions, answers, columns, judge.log_of(out))
    files.write_parquet(out, graded)
    return graded, sentence


def read(
    questions: pd.DataFrame, path: str, columns: dict[str, str], log: Path | None = None
) -> tuple[pd.DataFrame, str]:
    """The graded answers in a user's file.

    Args:
        questions: as `questions.build` returns them.
        path: of a table, see `tables.read`, with question (matched by its canonical form) or question_id, answer
            (None, not "", where there is none, unless it is graded) and, if it likes, correct and logprob (of the whole
            answer).
        columns: our name -> the file's, where they differ.
        log: of the judge's verdicts; None asks no judge, see `judge.graded`.

    Returns:
        (the questions that have an answer and a grade, in their order, with these, given (whether the file has the
        grade) and, if the file has a logprob, sum_logprob, NaN where it is missing; how many there are, in words).

    Raises:
        WhoknowsError: the file or one of its lines is wrong, or nothing can be learned from its answers.
    """
    asked = questions[questions["split"] != SHOT]
    by_question, strangers = _matched(questions, path, columns)
    answers = asked[asked["question_id"].isin(by_question)].reset_index(drop=True)
    if answers.empty:
        raise WhoknowsError(
            f"{path}: none of its answers is to a question of this grid; compare its questions with those of the run, "
            "which are in questions.parquet."
        )
    texts, grades, logprobs = zip(*(by_question[name] for name in answers["question_id"]))
    ungraded = pd.Series(grades, dtype=object).isna()
    by_judge = judged(answers) & ungraded
    letterless = pd.Series(texts)[ungraded & (answers["kind"] == GRADINGS["choice"])].map(chosen).isna().sum()
    unread = f" Answers that name no letter of a choice, and are wrong: {letterless}." if letterless else ""
    sentence = _counted(len(asked), strangers, grades, logprobs, by_judge.sum()) + unread
    answers = judge.graded(answers.assign(answer=texts, given=~ungraded), log, list(grades))
    if any(value is not None for value in logprobs):
        answers["sum_logprob"] = np.array([by_question[name][2] for name in answers["question_id"]], np.float32)
    if log is None and by_judge.any():
        return answers, sentence
    for split, word in {"train": "training", "validation": "validation"}.items():
        reason = one_class(answers.loc[answers["split"] == split, "correct"], word)
        if reason:
            what = "so nothing can be learned from them; add some, or correct grades."
            raise WhoknowsError(f"{path}: {reason}, {what}{unread}")
    missing = len(texts) - len(answers)
    return answers, sentence + (f" Answers without a verdict, which are missing, too: {missing}." if missing else "")


def _matched(questions: pd.DataFrame, path: str, columns: dict[str, str]) -> tuple[dict[str, tuple], int]:
    """Answer, grade and log-probability by question_id, the latter two None if not given; rows without a question."""
    table = tables.read(path, columns, ["answer"], COLUMNS)
    if not {"question", "question_id"} & {*table}:
        raise WhoknowsError(
            f"{path}: it has neither a column question nor question_id; add one, or name it in columns."
        )
    is_shot = dict(zip(questions["question_id"], questions["split"] == SHOT))
    by_text: dict[str, list[str]] = {}
    for name, question in zip(questions["question_id"], questions["question"]):
        by_text.setdefault(canonical(question), []).append(name)
    by_question: dict[str, tuple] = {}
    line_of: dict[str, int] = {}
    strangers = 0
    for line, row in table.to_dict("index").items():
        try:
            asked = _asked(row, is_shot, by_text)
            is_missing = row["answer"] is None and row.get("correct") is None  # a graded cell of CSV is an empty answer
            given = None if is_missing else (_text(row), _grade(row), _logprob(row))
        except ValueError as error:
            raise tables.mistake(path, line, str(error)) from None
        strangers += asked is None
        if given is None:
            continue
        for name in (name for name in asked or () if not is_shot[name]):
            if by_question.setdefault(name, given) != given:
                what = f"line {line_of[name]} has another answer to the same question; keep one of them"
                raise tables.mistake(path, line, what)
            line_of.setdefault(name, line)
    return by_question, strangers


def _asked(row: dict, known: Container[str], by_text: dict[str, list[str]]) -> list[str] | None:
    """The ids of the questions that a row answers, of which some may be examples to others; None if there is none."""
    name, question = row.get("question_id"), row.get("question")
    by_words = by_text.get(canonical(question)) if isinstance(question, str) else None
    if name is not None:
        if not isinstance(name, str) or name not in known:
            fix = "rename that column, so that the question counts" if by_words else "question"
            raise ValueError(f"there is no question_id {_short(name)}; take those of questions.parquet, or {fix}")
        if by_words and name not in by_words:
            what = f"the question is that of the question_id {by_words[0]!r}, but the row has {name!r}"
            raise ValueError(f"{what}; correct one of the two, or remove one of these columns")
        return [name]
    if not isinstance(question, str):
        raise ValueError("it has no question; write its words, or its question_id")
    return by_words


def _text(row: dict) -> str:
    value = "" if row["answer"] is None else row["answer"]
    if isinstance(value, bool) or not isinstance(value, (str, int, float)):
        raise ValueError(f"the answer {_short(value)} is no text; write it in quotes")
    if isinstance(value, float):
        return f"{value:.15g}"
    if isinstance(value, int):
        return str(value)
    # Half of a pair of surrogates, which JSON can hold, is no character that a tokenizer or a file takes.
    return tables.line_feeds(value.encode(errors="replace").decode()).strip()


def _grade(row: dict) -> bool | None:
    value = row.get("correct")
    if value is not None and str(value).strip().lower() not in GRADES:
        raise ValueError(f"correct is {_short(value)}; write true or false, or leave it empty to have it graded")
    return None if value is None else GRADES[str(value).strip().lower()]


def _logprob(row: dict) -> float | None:
    value = row.get("logprob")
    try:
        number = None if value is None else math.nan if isinstance(value, bool) or "_" in str(value) else float(value)
    except (TypeError, ValueError):
        number = math.nan
    if number is not None and not -math.inf < number <= 0:
        raise ValueError(f"logprob is {_short(value)}; write a number of 0 or less, with a point, or leave it empty")
    return number


def _short(value) -> str:
    """A value in a sentence, with nothing in it that a terminal would obey."""
    return repr(value) if len(repr(value)) < 60 else f"{repr(value)[:57]}…"


def _counted(asked: int, strangers: int, grades: tuple, logprobs: tuple, by_judge: int) -> str:
    count, graded, known = len(grades), *(sum(value is not None for value in some) for some in (grades, logprobs))
    sentences = [f"The file has answers to {count} of {asked} questions."]
    if count < asked:
        sentences.append(f"The other {asked - count} are missing from its results.")
    if strangers:
        sentences.append(f"Rows of the file that match no question, and are left out: {strangers}.")
    here = f"graded here: {count - graded - by_judge}" + (f"; for the judge to grade: {by_judge}" if by_judge else "")
    sentences.append(f"Answers graded in the file: {graded}; {here}; with a logprob: {known}.")
    return " ".join(sentences if known else [*sentences, "So there is no likelihood for this model."])
