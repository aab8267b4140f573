"""Trained estimators in use: P(correct) of new questions and answers, from the folder that a stage wrote.

    estimator = predict.load("results/embedded/estimators/probe/SmolLM2-135M/SmolLM2-135M/seed0")
    estimator.logits(["Which gas do plants take in?"], ["carbon dioxide"]).sigmoid()

A folder that was pushed to the Hugging Face hub is loaded by its name there, owner/name.
"""

import copy
import hashlib
import json
import math
import re
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property, partial
from itertools import chain
from pathlib import Path

import torch

from whoknows import WhoknowsError
from whoknows.data import adapters, files, sources, tables
from whoknows.data.positions import LAST
from whoknows.estimators.probe import CLASSIFIERS
from whoknows.models import forward, loading, proof
from whoknows.models.batching import MOST, TokenBudget, batches
from whoknows.models.packing import PackedBatch, PackedExample
from whoknows.models.reader import Reader
from whoknows.use import cards, outputs, share

PASS_TOKENS = 512  # rows times columns of one pass on a CPU, where more bring nothing but padding
# Forward passes at the same time on a CPU, for each of PyTorch's threads, and at most. Cores are shared out by threads,
# so one of another process takes a seventh of two cores from six passes, and a third of them from two.
PASSES, MOST_PASSES = 3, 8
INPUT = "the input"  # what is scored, where the stages have a model's name
COLUMNS = {"question": "question", "answer": "answer"}  # our names -> the input's
EXAMPLE = '{"question": "Which gas do plants take in?", "answer": "carbon dioxide"}'
FIX = f"give a question and an answer, as in {EXAMPLE}"


class Mistake(WhoknowsError):
    """A row is not as it has to be; the sentence names neither a file nor the row."""


@dataclass
class Estimator:
    """A trained estimator and its reader."""

    card: dict  # what the stage that trained it wrote down: method, reader, trained_on and all that `load` needs
    folder: Path  # where it was loaded from
    reader: Reader
    query: list[int]  # ids that follow every answer; none for a probe
    # Called with the tokens of a batch's longest text; makes sure that nothing is left to prove of the reader.
    prove: Callable[[int], object]
    # Log-odds [examples] that the answers of a batch are right, which has one branch an example; several functions that
    # give the same, which may be called at the same time.
    scores: list[Callable[[PackedBatch], torch.Tensor]]

    @property
    def identity(self) -> str:
        """A digest of all that its confidence depends on: card, weights, reader and code."""
        digest = hashlib.sha256(json.dumps([self.card, self.reader.identity, sources.digest(__file__)]).encode())
        for name in cards.weights(self.card):
            digest.update((self.folder / name).read_bytes())
        return digest.hexdigest()

    @cached_property
    def _start(self) -> list[int]:
        return self.reader.start()

    def logits(self, questions: list[str], answers: list[str]) -> torch.Tensor:
        """Log-odds [n] that each answer is right; their sigmoid is P(correct). Raises as `example` does."""
        return self.of_examples([self.example(*pair) for pair in zip(questions, answers, strict=True)])

    def example(self, question: str, answer: str) -> PackedExample:
        """The ids of a question and its answer, as the stages make them; a Mistake if the reader sees fewer."""
        question, answer = tables.line_feeds(question), tables.line_feeds(answer).strip()
        if "released" in self.card:
            from whoknows.estimators import released

            context = question if "Question:" in question else _asked(question)
            example = released.example(self.reader, context, answer)
        else:
            question_ids = self._start + self.reader.question(_asked(question))
            example = PackedExample(question_ids, (self.reader.answer(answer) + self.query,))
        if len(example) > self.reader.limit:
            raise Mistake(
                f"question and answer make {len(example)} tokens, more than the {self.reader.limit} that the reader "
                "sees at once; shorten them"
            )
        return example

    def of_examples(
        self, examples: list[PackedExample], done: Callable[[int], object] = lambda count: None
    ) -> torch.Tensor:
        """Log-odds [n] that the answer of each example is right, from passes over examples of similar length.

        On a CPU, several passes run at the same time, each in a thread. If all threads shared one pass, each of its
        products would wait for the slowest of them, and another process on one core would bring all cores nearly to a
        halt.

        Args:
            done: called with the number of examples after each pass.
        """
        lengths, threads = [len(example) for example in examples], torch.get_num_threads()
        parts = batches(lengths, PASS_TOKENS if self.reader.device.type == "cpu" else MOST)
        logits = torch.empty(len(examples))
        longest, todo = [lengths[part[0]] for part in parts], iter(parts)

        def work(score):
            for part in todo:
                ends = [[lengths[t] - len(self.query) - 1] for t in part]
                logits[part] = score(PackedBatch([examples[t] for t in part], ends, {INPUT: [0] * len(part)})).cpu()
                done(len(part))

        if min(len(parts), len(self.scores)) < 2:
            work(self.scores[0])
            return logits
        for tokens in dict.fromkeys(longest):
            self.prove(tokens)  # it changes weights that all share
        each = math.ceil(threads / len(self.scores))
        try:
            with ThreadPoolExecutor(len(self.scores), initializer=torch.set_num_threads, initargs=(each,)) as pool:
                try:
                    list(pool.map(work, self.scores))
                finally:
                    parts.clear()  # after an error, or Ctrl-C, no other pass begins
        finally:
            torch.set_num_threads(threads)  # of threads that begin later; it was set for all
        return logits


def _asked(question: str) -> str:
    """A question as a run asks it, which cleans a file's questions, but not the choices of its own data sets."""
    stem, mark, choices = question.partition("\nChoices:\n(A): ")
    return tables.tidy(stem) + mark + choices


def load(folder: Path | str, method: str | None = None) -> Estimator:
    """A trained estimator with the reader that its card names.

    Args:
        folder: where a stage wrote it; if there is no such folder, owner/name of a repository on the Hugging Face hub.
        method: which of the folder's estimators; None takes the only one, or `probe`.

    Raises:
        WhoknowsError: the folder holds no such estimator, its reader cannot be had, or they do not fit each other.
    """
    folder = share.locate(folder)
    by_method = cards.read(folder, or_released=True)
    chosen = method or ("probe" if "probe" in by_method else next(iter(by_method)))
    if chosen not in by_method:
        raise WhoknowsError(f"{folder}: it holds no {chosen}; ask for {' or '.join(by_method)}")
    card = by_method[chosen]
    path = folder / (adapters.CONFIG if "released" in card else f"{card['method']}.json")
    try:
        reader = loading.load(card["source"], card["precision"], card.get("template"), card.get("digest"))
    except WhoknowsError as error:
        raise WhoknowsError(f"{path}, source: {error}") from None
    try:
        query = reader.query if card.get("query") else []
        scoring = _adapters if "query" in card else _probe
        return Estimator(card, folder, reader, query, *scoring(card, folder, reader))
    except (AttributeError, KeyError, TypeError) as error:
        raise WhoknowsError(
            f"{path}: this card is damaged, or of another version of whoknows; train the estimator again with this one"
        ) from error


def _probe(card: dict, folder: Path, reader: Reader) -> tuple:
    """The last two fields of an `Estimator`."""
    path = folder / f"{card['method']}.safetensors"
    probe = CLASSIFIERS[card["method"]](card["settings"], card["seed"])
    probe.restore(card["chosen"], files.read_safetensors(path))
    probed, read = len(probe.state["mean"]), reader.config.hidden_size
    if probed != read:
        raise WhoknowsError(
            f"{path}: this probe is for hidden states of width {probed}, but those of the reader {card['source']} "
            f"have {read}; correct `source` in its card"
        )
    if "layer" in card["chosen"]:
        _shorten(reader, card["chosen"]["layer"])
    budget = TokenBudget(None, reader.device)

    def score(reader: Reader, packed: PackedBatch) -> torch.Tensor:
        return probe.score(forward.extract(reader, packed, [LAST], None, budget).states[INPUT])

    return partial(proof.packing, reader), [partial(score, some) for some in _side_by_side(reader)]


def _adapters(card: dict, folder: Path, reader: Reader) -> tuple:
    """The last two fields of an `Estimator`."""
    # Not above: PEFT takes a fifth of the start, and a probe needs none of it.
    from whoknows.estimators import released
    from whoknows.estimators.lora import LoraPrompt
    from whoknows.estimators.lora_data import Dataset

    if "released" in card:
        estimator, temperature = released.load(card, folder, reader, None)
    else:
        estimator = LoraPrompt(reader, card["settings"], card["seed"], None, card["query"])
        estimator.restore(folder)
        temperature = 1.0

    def score(reader: Reader) -> Callable[[PackedBatch], torch.Tensor]:
        one = copy.copy(estimator)
        one.reader = reader
        return lambda packed: one.score(Dataset(packed, None))[INPUT] / temperature

    return partial(proof.adapters, estimator), [score(some) for some in _side_by_side(estimator.reader)]


def _shorten(reader: Reader, layer: int) -> None:
    """Removes the blocks above a layer, if a text shows that its hidden states are the same without them."""
    depth, config = reader.depth, reader.config
    kinds = getattr(config, "layer_types", None)
    ids = torch.tensor([reader.start() + reader.question(EXAMPLE)], device=reader.device)

    def leave(blocks: int) -> None:
        config.num_hidden_layers = blocks
        if kinds:
            config.layer_types = kinds[:blocks]

    def hidden_states() -> tuple[torch.Tensor, ...]:
        return reader.base(input_ids=ids, use_cache=False, output_hidden_states=True).hidden_states

    try:
        layers, before = reader.layers, hidden_states()[layer]
    except Exception:  # there is no list of blocks, or no plain way through them; scoring says which
        return
    above = layers[layer + 1 :]
    del layers[layer + 1 :]
    leave(len(layers))
    try:
        after = hidden_states()
        same = len(after) == len(layers) + 1 and torch.equal(after[layer], before)
    except Exception:  # whatever a model's code makes of what it does not expect
        same = False
    if not same:
        layers.extend(above)
        leave(depth)


def _side_by_side(reader: Reader) -> list[Reader]:
    """The reader, and copies of its modules that share its weights: the hooks of a pass are seen by no other pass."""
    if reader.device.type != "cpu" or getattr(reader.model, "is_quantized", False):
        return [reader]
    reader.choices  # noqa: B018  so that no two ask the tokenizer, which they share, at the same time
    weights = {id(tensor): tensor for tensor in chain(reader.model.parameters(), reader.model.buffers())}
    copies = [copy.copy(reader) for _ in range(1, min(PASSES * torch.get_num_threads(), MOST_PASSES))]
    for one in copies:
        one.model = copy.deepcopy(reader.model, dict(weights))
    return [reader, *copies]


Rows = Iterable[tuple[int, dict] | None]  # each with the line it begins on; None: the next row is not there yet


def stream(
    estimator: Estimator,
    rows: Rows,
    name: str,
    size: int,
    columns: dict[str, str] = COLUMNS,
    part=None,
    done: Callable[[int], object] = lambda count: None,
) -> Iterator[dict]:
    """The rows with `p_correct` and its `logit`, in their order and in bounded memory.

    Args:
        rows: with the texts `question` and `answer`; other columns are kept. See `lines`.
        name: of the input.
        size: rows that are scored together, before their confidences are given; fewer where the next is not there yet.
        columns: the rows' names of `question` and `answer`.
        part: an `outputs.Part`, of which rows that it has are taken, and which gets the others.
        done: called with the number of rows that were scored, as soon as they are.

    Raises:
        WhoknowsError: a row is bad; all rows before it are given first.
    """
    for chunk, mistake in _chunks(rows, size):
        results = part.take([row for _, row in chunk]) if part else None
        if results is None:
            results, bad = _scored(estimator, chunk, name, columns, done)
            mistake = bad or mistake
            if part:
                part.put(results)
        else:
            done(len(results))
        yield from results
        if mistake:
            raise mistake from None


def _scored(estimator, chunk, name, columns, done) -> tuple[list[dict], WhoknowsError | None]:
    """Rows with their confidence, up to the first one that is bad, and what is wrong with it."""
    examples: list[PackedExample] = []
    results: list[dict] = []
    bad = None
    try:
        for _, row in chunk:
            examples.append(estimator.example(*texts(row, columns)))
    except WhoknowsError as error:
        bad = tables.mistake(name, chunk[len(examples)][0], str(error))
    try:
        for (_, row), logit in zip(chunk, estimator.of_examples(examples, done)):
            results.append(row | confidence(logit))
    except Mistake as error:
        bad = tables.mistake(name, chunk[len(results)][0], str(error))
    return results, bad


def confidence(logit: torch.Tensor) -> dict[str, float]:
    """The confidence of a row, from its log-odds; a Mistake if they are not a finite number."""
    if not torch.isfinite(logit):
        raise Mistake(
            "the confidence is not a finite number; train the estimator again with precision: float32 in the grid"
        )
    # The logit has no more digits than float32 has.
    return {"p_correct": float(logit.double().sigmoid()), "logit": float(str(logit.numpy()))}


def _chunks(rows: Rows, size: int) -> Iterator[tuple[list, WhoknowsError | None]]:
    """Lists of so many rows, or fewer where the next is not there yet, and the error with which the rows end."""
    rows = iter(rows)
    while True:
        chunk: list = []
        try:
            for row in rows:
                chunk += [] if row is None else [row]
                if len(chunk) == size or (row is None and chunk):
                    break
            else:
                yield chunk, None
                return
        except WhoknowsError as error:
            yield chunk, error
            return
        yield chunk, None


def lines(source: Iterable[bytes | None], name: str) -> Iterator[tuple[int, dict] | None]:
    """JSON objects, one a line, with the numbers of their lines; None where the next line is not there yet, as in the
    source. Empty lines are passed over, and a line that is no JSON object is a WhoknowsError.
    """
    number = 0
    for raw in source:
        if raw is None:
            yield None
            continue
        number += 1
        if raw.strip():
            try:
                yield number, parse(raw)
            except Mistake as error:
                what = f"{error}; a table is in a file whose name ends with .csv, .tsv or .parquet"
                raise tables.mistake(name, number, what if number == 1 else str(error)) from None


def parse(raw: bytes) -> dict:
    """The object in a line of JSON; a Mistake if it is none. NaN, which is no JSON, is None."""
    try:
        line = json.loads(raw, parse_constant=lambda _: None)
    except (ValueError, RecursionError):
        raise Mistake(f"this is no JSON; write one object a line, in UTF-8, such as {EXAMPLE}") from None
    if not isinstance(line, dict):
        raise Mistake(f"this is no JSON object; write one a line, such as {EXAMPLE}")
    return line


def require(rows: Iterable[tuple[int, dict]], name: str, columns: dict[str, str], fix: str = FIX) -> int:
    """The number of rows; a WhoknowsError if there is one of which `texts` cannot be had.

    Args:
        rows: each with the line it begins on.
        name: of the input.
        columns: the rows' names of `question` and `answer`.
        fix: what to do about a text that is missing.
    """
    count = 0
    for line, row in rows:
        try:
            texts(row, columns, fix)
        except Mistake as error:
            raise tables.mistake(name, line, str(error)) from None
        count += 1
    return count


def texts(row: dict, columns: dict[str, str] = COLUMNS, fix: str = FIX) -> list[str]:
    """The question and the answer of a row; a Mistake if one of them is missing or no text, or the row is scored."""
    there = next((name for name in outputs.ADDED if name in row), None)
    if there:
        raise Mistake(f"there is a `{there}` already; rename or remove it")
    for name in columns.values():
        if not isinstance(row.get(name), str) or re.search("[\ud800-\udfff]", row[name]):  # JSON has half characters
            raise Mistake(f"`{name}` is missing or no text; {fix}")
    return [row[columns[name]] for name in COLUMNS]
