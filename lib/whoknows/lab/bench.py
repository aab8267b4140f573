"""How fast this library is, beside the plain way and the machine's own limit: `python -m whoknows bench GRID`.

Both ways do the same work for each model of a grid, in turns in the same run, and rates count what both have in common:
questions answered, pairs of question and answer read, and training examples in one epoch. What the blocks below the
adapters make of the training examples is known from reading them, so that counts there, and not in training.

The share of the matrix-product rate is the arithmetic that cannot be avoided, per second, over the rate of the
model's own matrices: 2 x parameters of the blocks for each real token (a shared prefix once, no padding); in
answering also 2 x the output head for each token written; in training 4 x the parameters of the adapted blocks
(forward, and backward to the activations, since frozen weights need no gradient).
"""

import argparse
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, replace
from math import ceil
from pathlib import Path

import pandas as pd
import torch

from whoknows.data import cache, files, questions
from whoknows.estimators.lora import LoraPrompt
from whoknows.estimators.lora_data import gather
from whoknows.lab import baseline
from whoknows.lab.speed import block_parameters, matmul_rate, race, seconds
from whoknows.models import forward, loading, products
from whoknows.models.batching import Budget
from whoknows.models.generation import Prefix
from whoknows.models.loading import Reader, first_block
from whoknows.models.packing import Forest, batches, forest
from whoknows.run import grid, parameters, provenance
from whoknows.stages import answer, extract

QUESTIONS = {"cpu": 64, "cuda": 1024}
PLAIN_TOKENS = 16384  # of the plain way where the grid says null: what one would choose by hand


def bench(chosen: grid.Grid, count: int | None = None) -> pd.DataFrame:
    """Measures every model of a grid on its first training task.

    Args:
        count: questions to measure with; None for as many as the device deserves.

    Returns:
        One line per model and stage: model, stage, ours_per_second, plain_per_second, ratio, share_of_matmul_rate,
        unit (what the rates count), tokens_per_second (real tokens, ours), ours_peak_gb and plain_peak_gb (of a GPU's memory,
        else NaN), repeats, device, precision.
    """
    table, lines, answered = sample(chosen, count or QUESTIONS[loading.device().type]), [], {}
    for model in chosen.models:
        reader = _load(chosen, model)
        limit = matmul_rate(reader)
        line, answered[model.name] = answering(reader, table, chosen, limit)
        lines.append(_say({"model": model.name, "stage": "answer", **line}))
        del reader  # two large models do not fit
    for model in chosen.models:
        reader = _load(chosen, model)
        limit = matmul_rate(reader)
        lines.append(_say({"model": model.name, "stage": "extract", **extracting(reader, answered, chosen, limit)}))
        lines.append(_say({"model": model.name, "stage": "lora_prompt", **training(reader, answered[model.name], chosen, limit)}))
        del reader
    return pd.DataFrame(lines).assign(device=_device(), precision=chosen.precision if chosen.precision in loading.QUANTISED else str(loading.dtype(chosen.precision)).removeprefix("torch."))


@contextmanager
def random_weights(chosen: grid.Grid) -> Iterator[grid.Grid]:
    """The same grid with models of the same shapes that know nothing, in a folder that is gone afterwards.

    Raises:
        WhoknowsError: the shape of a model is not known.
    """
    from whoknows.lab import shapes  # not above: only this needs it

    table = sample(chosen, 10**6)
    texts = [text for column in (table["question"], table["gold"].map(" ".join)) for text in column]
    cache.root().mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=cache.root()) as folder:
        yield replace(chosen, models=tuple(replace(m, source=shapes.make(m.source, texts, Path(folder) / m.name)) for m in chosen.models))


def sample(chosen: grid.Grid, count: int) -> pd.DataFrame:
    """The first questions of the grid's first training task, with its few-shot examples."""
    task = next(task for task in chosen.tasks if task.role == "train")
    return questions.build([{"name": task.name, "size": min(count, task.size), "role": task.role}], asdict(chosen.splits), chosen.answer.shots)


def answering(reader: Reader, table: pd.DataFrame, chosen: grid.Grid, limit: float) -> tuple[dict, pd.DataFrame]:
    """A line for answering, and the answers; both ways answer the same questions in the same batches."""
    shots, asked = table[table["split"] == questions.SHOT], table[table["split"] != questions.SHOT]
    prefixes = {task: Prefix(reader, shots[shots["task"] == task]).ids for task in asked["task"].unique()}
    new, budget = chosen.answer.max_new_tokens, chosen.batch_tokens
    own = reader.questions(asked["question"].tolist(), after_examples=not shots.empty)
    prompts = [prefixes[task] + ids for task, ids in zip(asked["task"], own)]

    def ours(items: range) -> float:
        part = pd.concat([shots, asked.iloc[list(items)]])
        return seconds(lambda: answer.answer(reader, part, new, budget))

    def theirs(items: range) -> float:
        cut = batches([len(own[i]) + new for i in items], answer.CACHE_TOKENS * (budget or PLAIN_TOKENS))
        return seconds(lambda: [baseline.answer(reader, [prompts[i] for i in batch], new) for batch in cut])

    found = answer.answer(reader, table, new, budget)
    tokens = sum(map(len, prefixes.values())) + sum(map(len, own)) + int(found["tokens"].sum())
    work = 2 * (block_parameters(reader) * tokens + reader.head.numel() * int(found["tokens"].sum() + len(found)))
    return race(ours, theirs, len(asked), "questions", 1, tokens, work / limit), found


def extracting(reader: Reader, answered: dict[str, pd.DataFrame], chosen: grid.Grid, limit: float) -> dict:
    """A line for reading all models' answers: hidden states of every layer, and the query; the plain way puts that to test answers alone."""
    count = len(next(iter(answered.values())))
    first = first_block(reader.depth, chosen.lora_prompt.first_layer) or None

    def trees(part: dict[str, pd.DataFrame]) -> Forest:
        return forest(reader, part, extract.queried(part, first))

    def ours(items: range) -> float:
        part = _part(answered, items)
        return seconds(lambda: forward.extract(reader, trees(part), first, Budget(chosen.batch_tokens, reader.device)))

    def theirs(items: range) -> float:
        return seconds(lambda: [_read(reader, frame, chosen.batch_tokens or PLAIN_TOKENS) for frame in _part(answered, items).values()])

    tokens = sum(map(len, trees(answered).trees))
    work = 2 * block_parameters(reader) * tokens
    return race(ours, theirs, count, "question-answer pairs", len(answered), tokens, work / limit)


def training(reader: Reader, frame: pd.DataFrame, chosen: grid.Grid, limit: float) -> dict:
    """A line for one epoch of LoRA + Prompt; the plain way trains the same adapters of the same model."""
    settings, budget = asdict(chosen.lora_prompt) | {"epochs": 1, "evaluations": 1, "js_weight": 0.0}, chosen.batch_tokens
    settings["targets"] = list(settings["targets"])
    first = first_block(reader.depth, settings["first_layer"])
    adapted = block_parameters(reader) - block_parameters(reader, 0, first)
    grown = forest(reader, {"": frame}, [True] * len(frame))
    trunk = forward.extract(reader, grown, first, Budget(budget, reader.device)).trunk if first else None
    trunk = trunk if trunk is None else list(trunk.split([len(t) for t in grown.trees]))
    estimator = LoraPrompt(reader, settings, 0, budget)

    def ours(items: range) -> float:
        examples = gather(grown, trunk, list(items))
        return seconds(lambda: estimator.fit(examples, frame["correct"].to_numpy()[list(items)], 0.0, lambda: 0.5))

    def theirs(items: range) -> float:
        part = frame.iloc[list(items)]
        with products.removed(estimator.reader.model):
            return seconds(lambda: baseline.train(estimator.reader, texts(reader, part, reader.query), part["correct"].tolist(), settings, 0))

    tokens = sum(map(len, texts(reader, frame, reader.query)))
    work = 4 * adapted * tokens
    return race(ours, theirs, len(frame), "training examples", 1, tokens, work / limit)


def texts(reader: Reader, frame: pd.DataFrame, end: Sequence[int] = ()) -> list[list[int]]:
    """Ids of each question with its answer and what follows."""
    return [reader.start() + q + a + [*end] for q, a in zip(reader.questions(frame["question"].tolist()), reader.answers(frame["answer"].tolist()))]


def _read(reader, frame, budget):
    tests = frame[frame["split"] == "test"]
    for part, end, way in ((frame, (), baseline.hidden_states), (tests, reader.query, baseline.zero_shot)):
        if len(part):
            ids = texts(reader, part, end)
            way(reader, ids, ceil(budget / max(map(len, ids))))


def _part(answered, items):
    return {name: frame.iloc[list(items)].reset_index(drop=True) for name, frame in answered.items()}


def _load(chosen, model):
    return loading.load(model.source, chosen.precision)


def _device() -> str:
    return torch.cuda.get_device_name() if torch.cuda.is_available() else provenance.machine()


def _say(line: dict) -> dict:
    print("{model:20} {stage:12} {ours_per_second:8.1f} {unit}/s, plain {plain_per_second:.1f}, x {ratio:.1f}; "
          "{share_of_matmul_rate:.0%} of the matrix-product rate".format(**line), flush=True)  # fmt: skip
    return line


def main(arguments: list[str]) -> None:
    """The command line; writes bench.parquet beside the grid's other results, from where the book shows it."""
    parser = argparse.ArgumentParser(prog="whoknows bench", description="Measures the speed of a grid's models.")
    parser.add_argument("grid")
    parser.add_argument("--random-weights", action="store_true", help="measure models of the same shapes that know nothing, for which no weights are needed")
    options = parser.parse_args(arguments)
    chosen = grid.load(options.grid)
    out = f"{parameters.out(chosen)}/bench.parquet"
    with random_weights(chosen) if options.random_weights else nullcontext(chosen) as measured:
        files.write_parquet(out, bench(measured))
    print(f"The table: {out}")
