"""A judge: another model, behind any endpoint that speaks OpenAI's chat API, that grades answers. Never needed."""

import hashlib
import json
import os
import time
import urllib.error
import urllib.request
from pathlib import Path

import pandas as pd
from tqdm.auto import tqdm

from whoknows import WhoknowsError

KEY = "WHOKNOWS_JUDGE_KEY"  # the environment variable with the endpoint's key, if it wants one
TRIES = 4
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
    known = dict(map(json.loads, log.read_text().splitlines())) if log.exists() else {}
    test = answers[answers["split"] == "test"]
    log.parent.mkdir(parents=True, exist_ok=True)
    verdicts = []
    with open(log, "a", encoding="utf-8") as out:
        for row in tqdm(test.itertuples(), total=len(test), desc="judging", unit="answer"):
            text = ASKED.format(question=row.question, gold="; ".join(row.gold), answer=row.answer)
            name = hashlib.sha256(f"{url}\n{model}\n{text}".encode()).hexdigest()
            if name not in known:
                known[name] = _verdict(_ask(url, model, text), url)
                out.write(json.dumps([name, known[name]]) + "\n")
                out.flush()
            verdicts.append(known[name])
    return pd.DataFrame({"question_id": test["question_id"], "right": verdicts}).reset_index(drop=True)


def _verdict(text: str, url: str) -> bool:
    words = text.strip().lower()
    if not words.startswith(("yes", "no")):
        raise WhoknowsError(
            f"grid, judge: the model at {url} was asked for yes or no and said {text[:60]!r}; name another judge.model"
        )
    return words.startswith("yes")


def _ask(url: str, model: str, text: str) -> str:
    body = {"model": model, "temperature": 0, "max_tokens": 8, "messages": [{"role": "user", "content": text}]}
    headers = {"Content-Type": "application/json"} | (
        {"Authorization": f"Bearer {os.environ[KEY]}"} if KEY in os.environ else {}
    )
    request = urllib.request.Request(f"{url.rstrip('/')}/chat/completions", json.dumps(body).encode(), headers)
    for attempt in range(TRIES):
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                return json.load(answer)["choices"][0]["message"]["content"]
        except urllib.error.HTTPError as error:
            why = f"answered {error.code} {error.reason}"
            if error.code not in (429, 500, 502, 503, 504):
                break
        except (OSError, ValueError, LookupError, TypeError) as error:
            why = f"gave no answer ({type(error).__name__})"
        if attempt < TRIES - 1:
            time.sleep(2**attempt)
    raise WhoknowsError(f"grid, judge.url: {url} {why}; check the address and the key in {KEY}, or set judge: null")
