"""Made-up questions and answers, and what plain transformers says about them."""

import copy
import inspect

import numpy as np
import pandas as pd
import torch

from whoknows import features
from whoknows.memory import Budget
from whoknows.models import Reader
from whoknows.trees import Forest

QUESTIONS = (
    "What is the best food for an animal?",
    "Who made the city by the river, and in which year was it the country's biggest?",
    "Why?",
    "Which force moves a leaf in the wind?",
    "How many suns can be seen from Zürich?",
    "What gas is in the air\nChoices:\n(A): iron\n(B): oxygen",
)
TEXTS = ("the sun", "A", "", "42 metal rivers", "an ocean of heat and light", "B")


def answers(texts=TEXTS, correct=None, split="test", task="made_up") -> pd.DataFrame:
    """An answers frame; questions repeat if there are more texts than questions."""
    count = len(texts)
    values = {
        "question_id": [f"q{i}" for i in range(count)],
        "task": task,
        "split": split,
        "question": [QUESTIONS[i % len(QUESTIONS)] for i in range(count)],
        "gold": [["the sun"]] * count,
        "kind": "open",
        "answer": list(texts),
        "correct": [i % 2 == 0 for i in range(count)] if correct is None else list(correct),
    }
    return pd.DataFrame(values)


def mixed(count=96) -> dict[str, pd.DataFrame]:
    """Graded answers of three models to the same questions, of two interleaved tasks of unequal size; every gold answer is another one."""
    questions = [f"What is number {i}?" for i in range(count)]
    task = ["sciq" if i % 3 == 1 else "trivia_qa" for i in range(count)]
    split = [("train", "validation", "train", "test")[i // 2 % 4] for i in range(count)]
    frames = {}
    for at, model in enumerate(("one", "two", "three")):
        correct = np.random.default_rng(at).random(count) < 0.4
        made = answers([f"{'it is' if right else 'not'} {i}" for i, right in enumerate(correct)], correct, split, task)
        frames[model] = made.assign(question=questions, gold=[[f"it is {i}"] for i in range(count)])
    return frames


def spied(monkeypatch, owner, name: str, instead=None) -> list[dict]:
    """What a function or a class is handed from now on, by the names of its parameters.

    Args:
        instead: does its work; None leaves it as it is.
    """
    usual, seen = getattr(owner, name), []

    def spy(*told, **more):
        bound = inspect.signature(usual).bind(*told, **more)
        bound.apply_defaults()
        seen.append(dict(bound.arguments))
        return (instead or usual)(*told, **more)

    monkeypatch.setattr(owner, name, spy)
    return seen


def make_rows(logit, correct, task="trivia_qa", **names) -> pd.DataFrame:
    """Rows of one estimator with these confidences and grades; other columns by name."""
    key = {"method": "probe", "reader": "a", "trained_on": "a", "scored": "b", "split": "test", "seed": 0}
    n = len(logit)
    ids = [f"{task}{i}" for i in range(n)]
    values = {"logit": np.float32(logit), "correct": np.array(correct, bool)}
    return pd.DataFrame(values | {"task": task, "question_id": ids} | {k: [v] * n for k, v in (key | names).items()})


def graded(strengths, count=400, **names):
    """Rows of each method for a reader that judges its own answers; confidence is noise and `strength` times the grade."""
    parts = []
    for method, strength in strengths.items():
        for at, task in enumerate(("trivia_qa", "sciq", "nq_open")):
            rng = np.random.default_rng(at)
            correct = np.arange(count) % 4 == 0
            logit = rng.normal(size=count) + strength * correct
            parts.append(make_rows(logit, correct, task, method=method, **{"reader": "a", "trained_on": "a", "scored": "a"} | names))
    return pd.concat(parts, ignore_index=True)


def fresh(reader: Reader) -> Reader:
    """A copy that a test may change."""
    return Reader(copy.deepcopy(reader.model), reader.tokenizer)


def extract(reader: Reader, grown: Forest, first_block: int | None, tokens: int) -> features.Features:
    """`features.extract` with so many tokens in a pass."""
    return features.extract(reader, grown, first_block, Budget(tokens, reader.device))


def untaught(reader: Reader, **changes) -> Reader:
    """The same kind of model with random weights, so that its answers are long and all different."""
    config = copy.deepcopy(reader.model.config)
    for key, value in changes.items():
        setattr(config, key, value)
    torch.manual_seed(3)
    config.initializer_range = 0.15
    model = type(reader.model)._from_config(config, attn_implementation="sdpa")
    return Reader(model.eval().requires_grad_(False), reader.tokenizer)


@torch.no_grad()
def plain(reader: Reader, ids: list[int]):
    """The whole model's own forward pass on one row of ids, without any of this project's code."""
    return reader.model(input_ids=torch.tensor([ids]), output_hidden_states=True, use_cache=False)
