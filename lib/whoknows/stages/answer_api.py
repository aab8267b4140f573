"""Answers of a model behind an endpoint: the questions of the answer stage, asked as a chat after the same examples."""

import hashlib
import json
import warnings
from contextlib import suppress
from pathlib import Path

import numpy as np
import pandas as pd

from whoknows.data import files
from whoknows.data.prompts import LINE_END, conversation, shown
from whoknows.data.questions import SHOT
from whoknows.stages import judge
from whoknows.stages.answered import summary, without_examples
from whoknows.stages.endpoint import Completion, Endpoint, Missed, Request, Unclear

KEY = "WHOKNOWS_API_KEY"  # the environment variable with the endpoint's key, if it wants one
UNKNOWN = -9999  # what some endpoints say of a token whose log-probability they did not compute
ROUNDING = 1e-3  # no probability is above one by more
SHOWN = 10  # reasons on the page, at most
CUT = "was cut before its answer began; raise answer.max_new_tokens"
MEASURED = ["sum_logprob", "mean_logprob", "min_logprob"]


def run(
    api: dict[str, str], questions: pd.DataFrame, max_new_tokens: int, out: str
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The stage: answers to all questions but the few-shot examples, graded, and their file.

    No line end is named to stop at: it would end the thoughts of a model that thinks, and an answer that begins with
    one. The replies stay beside the file, in one that ends with .jsonl: each answer may have cost money,
    and none is asked for again unless its question, the examples, the endpoint or max_new_tokens are others.

    Args:
        api: url of the endpoint, and the model's name there.
        questions: as `questions.build` returns them, few-shot examples included.

    Returns:
        (the questions (without the examples and those without an answer or a verdict, order kept) with the first line
        of each answer, correct, is_cut (at max_new_tokens, before its line ended), and, where the endpoint says them
        and nothing was thought, `MEASURED` and tokens; question_id, task and why of the questions that it refused or
        failed to answer).

    Raises:
        WhoknowsError: there is no question to answer, or no answer to any; or see `Endpoint`.
    """
    asked = without_examples(questions)
    shots = dict(iter(questions[questions["split"] == SHOT].groupby("task")))
    examples = {task: ([*shot["question"]], [*map(shown, shot["gold"])]) for task, shot in shots.items()}
    options = {"model": api["model"], "temperature": 0, "max_tokens": max_new_tokens, "logprobs": True}
    requests = []
    for row in asked.itertuples():
        body = options | {"messages": conversation(*examples.get(row.task, ([], [])), row.question)}
        name = hashlib.sha256(f"{api['url']}\n{json.dumps(body)}".encode()).hexdigest()
        requests.append(Request(name, row.question_id, body))
    log = Path(out).with_suffix(".jsonl")
    replies = Endpoint(api["url"], "grid, models[].api.url", KEY).ask(requests, log, _whole, "answering")
    errors = [*map(_missed, replies)]
    failed = [error for error in errors if error]
    if len(failed) == len(replies):
        raise failed[0]
    is_there = np.array([error is None for error in errors])
    missed = asked.loc[~is_there, ["question_id", "task"]].assign(why=[one.why for one in failed])
    if failed:
        sentence = f"{len(failed):,} of {len(replies):,} questions have no answer and are left out; the first one"
        warnings.warn(f"answer: {sentence}: {failed[0]}", stacklevel=2)
    written = pd.DataFrame([_written(Completion(*reply)) for reply, error in zip(replies, errors) if not error])
    written = written.astype(dict.fromkeys(MEASURED, np.float32) | {"tokens": "Int64"})
    answers = judge.graded(asked[is_there].reset_index(drop=True).assign(**written), judge.log_of(out))
    files.write_parquet(out, answers)
    return answers, missed.reset_index(drop=True)


def counts(answers: pd.DataFrame, missed: pd.DataFrame, questions: pd.DataFrame) -> pd.DataFrame:
    """What `answered.summary` returns of all questions asked, and of each task how many are empty, cut or rated."""
    marks = answers.assign(empty=answers["answer"] == "", cut=answers["is_cut"], rated=answers["sum_logprob"].notna())
    counted = marks.groupby("task", sort=False)[["empty", "cut", "rated"]].sum()
    answered = questions[~questions["question_id"].isin(missed["question_id"])]
    return summary(answers, answered).join(counted.rename(columns={"rated": "with a probability"}))


def missed_html(missed: pd.DataFrame) -> str:
    """How many questions `answer` has `missed`, and what the endpoint did with them, as HTML."""
    if missed.empty:
        return "<p>The endpoint answered every question.</p>"
    sentence = f"{len(missed):,} questions have no answer, and are missing from its results."
    reasons = missed["why"].value_counts().rename_axis("What the endpoint did").rename("Questions").reset_index()
    with pd.option_context("display.max_colwidth", None):
        return f"<p>{sentence}</p>\n{reasons[:SHOWN].to_html(index=False, classes='texts')}"


def _missed(reply: list | Completion | Missed | None) -> Missed | None:
    """Why there is no answer; None if there is one."""
    if isinstance(reply, Missed):
        return reply
    is_cut = reply is None or Completion(*reply).answer is None
    return Unclear(f"grid, models[].api: the reply {CUT}", CUT) if is_cut else None


def _whole(reply: Completion) -> Completion:
    """A reply to keep; raises Unclear if it was cut before its answer began."""
    if error := _missed(reply):
        raise error
    return reply


def _written(completion: Completion) -> dict:
    text = completion.answer or ""
    first, *more = LINE_END.split(text, maxsplit=1)
    line = first.strip()
    logprobs: list[float] = []
    with suppress(TypeError, ValueError, AttributeError):  # tokens of no known shape
        # Those of thoughts are none of the answer's.
        logprobs = _logprobs(completion.tokens if text == completion.content.strip() else [], line)
    measures = (sum(logprobs), sum(logprobs) / len(logprobs), min(logprobs)) if logprobs else (np.nan,) * 3
    written = {"answer": line, **dict(zip(MEASURED, measures)), "tokens": len(logprobs) or None}
    return written | {"is_cut": completion.is_cut and not more}


def _logprobs(tokens: list, line: str) -> list[float]:
    """Log-probabilities of the tokens that spell an answer, its ending left out unless it is all there is.

    There are none where one is not known, or where the tokens spell something else.
    """
    spelt, kept = b"", []
    for token, logprob in tokens if line or len(tokens) == 1 else []:
        spelt += bytes(token) if isinstance(token, list) else token.encode(errors="replace")
        text = spelt.decode(errors="replace").lstrip()
        if text or not line:  # what is blank before an answer is none of it
            kept.append(logprob)
        if text.startswith(line):
            return [min(value, 0.0) for value in kept] if all(UNKNOWN < value < ROUNDING for value in kept) else []
    return []
