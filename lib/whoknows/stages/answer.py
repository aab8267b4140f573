"""Answers: what a model writes, greedily, after a few examples, and whether it is right; and what else it may write."""

import hashlib
from collections import Counter
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from tqdm.auto import tqdm

from whoknows import WhoknowsError
from whoknows.data import files
from whoknows.data.grading import words
from whoknows.data.questions import SHOT
from whoknows.models import proof
from whoknows.models.batching import TokenBudget
from whoknows.models.generation import Prefix, Written, prefix_ids
from whoknows.models.reader import Reader
from whoknows.stages import judge, resume
from whoknows.stages.answered import without_examples

# A decoding step reads every weight for one token a row, so generation wants more rows than a prefill.
CACHE_TOKENS = 4  # the cache may hold this many times batch_tokens
MOST = 2**17  # tokens in the cache, at most, if the grid names no number
PART = 1024  # questions that are kept at a time


def answer(
    reader: Reader, questions: pd.DataFrame, max_new_tokens: int, batch_tokens: int | None, samples: int = 0,
    parts: Path | None = None, shard: list[int] | None = None, log: Path | None = None,
) -> pd.DataFrame:  # fmt: skip
    """Greedy answers to all questions but the few-shot examples, graded.

    Args:
        questions: as `questions.build` returns them, few-shot examples included.
        max_new_tokens: an answer that reaches no line end is cut here.
        batch_tokens: the token budget of a forward pass; None for as many as fit.
        samples: answers that are drawn as well to each question that nothing is trained on, see `_sampled`.
        parts: folder for answers that are kept as soon as they are written, and not written again; None keeps none.
        shard: see `resume.mine`.
        log: of the judge's verdicts, see `judge.graded`.

    Returns:
        With a shard, what was written. Else the questions (without the examples, order kept) with correct, what
        `Written` has and, with samples, what `_sampled` has; see `judge.graded` for those that are missing.

    Raises:
        WhoknowsError: there is no question to answer, or examples and question are longer than the model sees.
    """
    asked = without_examples(questions)
    groups = dict(iter(asked.groupby("task", sort=False)))
    shots = {task: questions[(questions["split"] == SHOT) & (questions["task"] == task)] for task in groups}
    ids = {
        task: reader.questions(group["question"].tolist(), after_examples=not shots[task].empty)
        for task, group in groups.items()
    }
    for task in groups:
        _refuse_too_long(reader, task, shots[task], ids[task], max_new_tokens)
    cut = [(task, at) for task, group in groups.items() for at in resume.slices(len(group), PART)]
    todo = resume.mine(cut, shard)
    budget = TokenBudget(batch_tokens and CACHE_TOKENS * batch_tokens, reader.device, MOST)
    tables = []
    total = sum(_count(groups[task].iloc[at], samples) for task, at in todo)
    with tqdm(total=total, desc="answering", unit="answer") as bar:
        for task, at in todo:
            group, path = groups[task].iloc[at], parts and parts / f"{task}-{at.start:06}.parquet"
            if path and path.exists():
                bar.update(_count(group, samples))
                tables.append(files.read_parquet(path).set_index(group.index))
                continue
            made = _answer_some(reader, shots[task], ids[task][at], max_new_tokens, samples, budget, bar.update, group)
            if path:
                files.write_parquet(path, made)
            tables.append(made)
    if shard:
        return pd.concat(tables) if tables else pd.DataFrame()
    answers = pd.concat(tables).sort_index()
    return judge.graded(asked.assign(**answers), log)


def _count(group: pd.DataFrame, samples: int) -> int:
    """How many answers are written to some questions: a greedy one to each, and those that are drawn."""
    return len(group) + samples * int((group["split"] != "train").sum())


def _refuse_too_long(
    reader: Reader, task: str, examples: pd.DataFrame, ids: list[list[int]], max_new_tokens: int
) -> None:
    """Raises if a task's examples, its longest question and an answer do not fit, before any question is answered."""
    longest = len(prefix_ids(reader, examples)) + max(map(len, ids)) + max_new_tokens
    if longest > reader.limit:
        raise WhoknowsError(
            f"grid, answer.shots: the examples of {task} and its longest question make {longest} tokens, "
            "more than the model has positions; lower answer.shots"
        )


def _answer_some(
    reader: Reader, examples: pd.DataFrame, ids: list[list[int]], max_new_tokens: int, samples: int,
    budget: TokenBudget, done, group: pd.DataFrame,
) -> pd.DataFrame:  # fmt: skip
    """Answers to questions of one task, whose ids are given, with the index of the questions."""
    longest = len(prefix_ids(reader, examples)) + max(map(len, ids)) + max_new_tokens
    prefix = Prefix(reader, examples, is_alone=not proof.prefix(reader, longest))
    written: list[Written | None] = [None] * len(ids)
    lengths = [len(i) + max_new_tokens for i in ids]
    for batch, texts in budget.run(lambda batch: prefix.generate([ids[b] for b in batch], max_new_tokens), lengths):
        for b, text in zip(batch, texts):
            written[b] = text
        done(len(batch))
    answers = pd.DataFrame(written, columns=Written._fields, index=group.index)
    answers = answers.astype({name: np.float32 for name, kind in Written.__annotations__.items() if kind is float})
    return answers.join(_sampled(prefix, ids, max_new_tokens, samples, budget, done, group, answers["answer"]))


def _sampled(
    prefix: Prefix, ids: list[list[int]], max_new_tokens: int, samples: int, budget: TokenBudget, done,
    group: pd.DataFrame, greedy: pd.Series,
) -> pd.DataFrame:  # fmt: skip
    """Answers that are drawn at temperature 1 to questions outside training, and what they say of the greedy one.

    Each question has its draws, whatever stands beside it in a batch. Answers are the same if their words are.
    Columns: samples, the texts; agreement, (1 + m) / (2 + k) where m of the k are the same as the greedy answer, which
    is never certain; semantic_entropy of the groups of same answers, in nats (Farquhar and others, 2024, with equality
    of words for entailment). Missing where none are drawn; no columns without samples.
    """
    if not samples:
        return pd.DataFrame(index=group.index)
    asked = np.flatnonzero(group["split"] != "train")
    draws = np.array([_draws(name, samples, max_new_tokens) for name in group["question_id"].iloc[asked]])
    lengths = [samples * (len(ids[i]) + max_new_tokens) for i in asked]
    texts: list[list[str] | None] = [None] * len(ids)

    def sample(batch: list[int]) -> list[list[str]]:
        return prefix.sample([ids[asked[b]] for b in batch], torch.from_numpy(draws[batch]))

    for batch, some in budget.run(sample, lengths):
        for b, drawn in zip(batch, some):
            texts[asked[b]] = drawn
        done(samples * len(batch))
    lines = [_agreement(drawn, answer) if drawn else (np.nan, np.nan) for drawn, answer in zip(texts, greedy)]
    table = pd.DataFrame(lines, columns=["agreement", "semantic_entropy"], index=group.index, dtype=np.float32)
    return table.assign(samples=texts)


def _draws(question: str, samples: int, longest: int) -> np.ndarray:
    """Uniform numbers [samples, longest] that the question's id decides; more samples begin with the same ones."""
    seed = int.from_bytes(hashlib.sha256(question.encode()).digest()[:8])
    return np.random.default_rng(seed).random((samples, longest))


def _agreement(drawn: list[str], greedy: str) -> tuple[float, float]:
    """Agreement and semantic entropy, see `_sampled`."""
    counts = Counter(map(_words, drawn))
    shares = np.array([*counts.values()]) / len(drawn)
    return (1 + counts[_words(greedy)]) / (2 + len(drawn)), float((shares * np.log(1 / shares)).sum())


def _words(text: str) -> str:
    return words(text) or text.strip()  # signs alone are compared as they stand


def run(
    reader: Reader, questions: pd.DataFrame, max_new_tokens: int, batch_tokens: int | None, out: str, samples: int = 0,
    shard: list[int] | None = None,
) -> pd.DataFrame:  # fmt: skip
    """The answer stage: `answer`, and the file of the answers; one that was killed goes on with the questions left.

    With a shard the file is not written, only the parts that the whole stage will find.
    """
    asked = questions.assign(gold=questions["gold"].map(list)).to_dict("list")
    parts = resume.folder(out, __file__, questions=asked, new=max_new_tokens, samples=samples, model=reader.identity)
    answers = answer(reader, questions, max_new_tokens, batch_tokens, samples, parts, shard, judge.log_of(out))
    if shard:
        return answers
    files.write_parquet(out, answers)
    resume.clear(out)
    return answers
