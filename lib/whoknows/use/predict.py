"""Trained estimators in use: P(correct) of new questions and answers, from the folder that a stage wrote.

    estimator = predict.load("results/embedded/estimators/probe/SmolLM2-135M/SmolLM2-135M/seed0")
    estimator.logits(["Which gas do plants take in?"], ["carbon dioxide"]).sigmoid()

A folder that was pushed to the Hugging Face hub is loaded by its name there, owner/name.
"""

import json
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
import torch

from whoknows import WhoknowsError
from whoknows.data import files
from whoknows.estimators.lora import LoraPrompt
from whoknows.estimators.lora_data import Dataset
from whoknows.estimators.probe import CLASSIFIERS
from whoknows.models import forward, loading
from whoknows.models.batching import TokenBudget
from whoknows.models.loading import Reader
from whoknows.models.packing import PackedBatch, PackedExample
from whoknows.use import cards, share

BATCH_TOKENS = 2048  # of one forward pass; a text that is longer runs alone
INPUT = "the input"  # what is scored, where the stages have a model's name
EXAMPLE = '{"question": "Which gas do plants take in?", "answer": "carbon dioxide"}'


@dataclass
class Estimator:
    """A trained estimator and its reader.

    Attributes:
        card: what the stage that trained it wrote down: method, reader, trained_on and all that `load` needs.
        query: ids that follow every answer; none for a probe.
        score: log-odds [examples] that the answers of a batch are right, which has one branch an example.
    """

    card: dict
    reader: Reader
    query: list[int]
    score: Callable[[PackedBatch], torch.Tensor]

    def logits(self, questions: list[str], answers: list[str]) -> torch.Tensor:
        """Log-odds [n] that each answer is right; their sigmoid is P(correct).

        Raises:
            WhoknowsError: a question and its answer are longer than the reader sees.
        """
        return self.of_examples([self.example(*pair) for pair in zip(questions, answers, strict=True)])

    def example(self, question: str, answer: str) -> PackedExample:
        """The ids of a question and its answer, as the stages make them.

        Raises:
            WhoknowsError: they are longer than the reader sees.
        """
        start = self.reader.start() + self.reader.question(question)
        example = PackedExample(start, (self.reader.answer(answer) + self.query,))
        if len(example) > self.reader.limit:
            raise WhoknowsError(
                f"question and answer make {len(example)} tokens, more than the {self.reader.limit} that the reader "
                "sees at once; shorten them"
            )
        return example

    def of_examples(self, examples: list[PackedExample]) -> torch.Tensor:
        """Log-odds [n] that the answer of each example is right."""
        ends = [[len(example) - len(self.query) - 1] for example in examples]
        return self.score(PackedBatch(examples, ends, {INPUT: [0] * len(examples)}))


def load(folder: Path | str, method: str | None = None) -> Estimator:
    """A trained estimator with the reader that its card names.

    Args:
        folder: where a stage wrote it; or, if there is no such folder, a repository on the Hugging Face hub,
            owner/name.
        method: which of the folder's estimators; None takes the only one, or `probe`.

    Raises:
        WhoknowsError: the folder holds no such estimator, its reader cannot be had, or they do not fit each other.
    """
    folder = share.locate(folder)
    card = read_card(folder, method)
    try:
        reader = loading.load(card["source"], card["precision"], card.get("template"), card.get("digest"))
    except WhoknowsError as error:
        raise WhoknowsError(f"{folder / card['method']}.json, source: {error}") from None
    try:
        if "query" in card:
            return Estimator(card, reader, reader.query if card["query"] else [], _adapters(card, folder, reader))
        return Estimator(card, reader, [], _probe(card, folder, reader))
    except (AttributeError, KeyError, TypeError) as error:
        raise WhoknowsError(
            f"{folder / card['method']}.json: this card is damaged, or of another version of whoknows; "
            "train the estimator again with this one"
        ) from error


def read_card(folder: Path, method: str | None = None) -> dict:
    """The card of one of a folder's estimators; arguments and errors are those of `load`."""
    by_method = cards.read(folder)
    chosen = method or ("probe" if "probe" in by_method else next(iter(by_method)))
    if chosen not in by_method:
        raise WhoknowsError(f"{folder}: it holds no {chosen}; ask for {' or '.join(by_method)}")
    return by_method[chosen]


def _probe(card: dict, folder: Path, reader: Reader) -> Callable[[PackedBatch], torch.Tensor]:
    path = folder / f"{card['method']}.safetensors"
    probe = CLASSIFIERS[card["method"]](card["settings"], card["seed"])
    probe.restore(card["chosen"], files.read_safetensors(path))
    probed, read = len(probe.state["mean"]), reader.config.hidden_size
    if probed != read:
        raise WhoknowsError(
            f"{path}: this probe is for hidden states of width {probed}, but those of the reader {card['source']} "
            f"have {read}; correct `source` in its card"
        )
    budget = TokenBudget(BATCH_TOKENS, reader.device)
    return lambda packed: probe.score(forward.extract(reader, packed, None, budget).hidden[INPUT])


def _adapters(card: dict, folder: Path, reader: Reader) -> Callable[[PackedBatch], torch.Tensor]:
    estimator = LoraPrompt(reader, card["settings"], card["seed"], BATCH_TOKENS, card["query"])
    estimator.restore(folder)
    return lambda packed: estimator.score(Dataset(packed, None))[INPUT]


def stream(estimator: Estimator, lines: Iterable[bytes], name: str, size: int) -> Iterator[dict]:
    """What the lines say, with `p_correct` and its `logit`, in their order and in bounded memory.

    Args:
        lines: JSON objects with the texts `question` and `answer`; other keys are kept, and empty lines passed over.
        name: of the input.
        size: lines that are read before their confidences are given.

    Raises:
        WhoknowsError: a line is bad; all lines before it are given first.
    """
    for chunk in _chunks(_parsed(estimator, lines, name), size):
        logits = estimator.of_examples([example for _, _, example in chunk]).cpu()
        for (place, line, _), logit, p in zip(chunk, logits.numpy(), logits.double().sigmoid().tolist()):
            if not np.isfinite(logit):
                raise WhoknowsError(
                    f"{place}: the confidence is not a finite number; "
                    "train the estimator again with precision: float32 in the grid"
                )
            yield line | {"p_correct": p, "logit": float(str(logit))}  # no more digits than float32 has


def _chunks(items: Iterator, size: int) -> Iterator[list]:
    """Lists of so many items; if the items end with an error, it comes after those before it."""
    mistake = None
    while mistake is None:
        chunk = []
        try:
            for item in islice(items, size):
                chunk.append(item)
        except WhoknowsError as error:
            mistake = error
        if chunk:
            yield chunk
        elif mistake is None:
            return
    raise mistake


def _parsed(estimator: Estimator, lines: Iterable[bytes], name: str) -> Iterator[tuple[str, dict, PackedExample]]:
    """Where each line stands, what it says, and its ids."""
    for number, raw in enumerate(lines, start=1):
        if raw.strip():
            try:
                line = _line(raw)
                yield f"{name}, line {number}", line, estimator.example(line["question"], line["answer"])
            except WhoknowsError as error:
                raise WhoknowsError(f"{name}, line {number}: {error}") from None


def _line(raw: bytes) -> dict:
    try:
        line = json.loads(raw)
    except (ValueError, RecursionError):
        raise WhoknowsError(f"this is no JSON; write one object a line, such as {EXAMPLE}") from None
    for key in ("question", "answer"):
        text = line.get(key) if isinstance(line, dict) else None
        if not isinstance(text, str) or re.search("[\ud800-\udfff]", text):  # JSON can write half a character
            raise WhoknowsError(f"`{key}` is missing or no text; write an object such as {EXAMPLE}")
    return line
