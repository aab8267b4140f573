"""A judge: another model, behind any endpoint that speaks OpenAI's chat API, that grades answers. Never needed."""

import hashlib
from functools import partial
from pathlib import Path

import pandas as pd

from whoknows import WhoknowsError
from whoknows.stages.endpoint import Endpoint, Request, Said

KEY = "WHOKNOWS_JUDGE_KEY"  # the environment variable with the endpoint's key, if it wants one
ASKED = """Question: {question}
Accepted answers: {gold}
Proposed answer: {answer}

Does the proposed answer mean the same as one of the accepted answers? Say yes or no, and nothing else."""


def grade(answers: pd.DataFrame, url: str, model: str, log: Path) -> pd.DataFrame:
    """The judge's verdict on every test answer.

    Args:
        answers: one model's graded answers.
        url: of the endpoint, such as http://localhost:8000/v1.
        model: the judge's name there.
        log: file that verdicts are added to as they come, so that a stopped run asks nothing twice.

    Returns:
        question_id and right, one line for each test answer.

    Raises:
        WhoknowsError: the endpoint cannot be reached, refuses, or says neither yes nor no.
    """
    test, requests = answers[answers["split"] == "test"], []
    for row in test.itertuples():
        text = ASKED.format(question=row.question, gold="; ".join(row.gold), answer=row.answer)
        body = {"model": model, "temperature": 0, "max_tokens": 8, "messages": [{"role": "user", "content": text}]}
        requests.append(Request(hashlib.sha256(f"{url}\n{model}\n{text}".encode()).hexdigest(), row.question_id, body))
    verdicts = Endpoint(url, "grid, judge.url", KEY).ask(requests, log, partial(_verdict, url), "judging")
    return pd.DataFrame({"question_id": test["question_id"], "right": verdicts}).reset_index(drop=True)


def _verdict(url: str, said: Said) -> bool:
    words = said.content.strip().lower()
    if not words.startswith(("yes", "no")):
        raise WhoknowsError(
            f"grid, judge: the model at {url} was asked for yes or no and said {said.content[:60]!r}; "
            "name another judge.model"
        )
    return words.startswith("yes")
