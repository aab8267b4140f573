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
import math
import statistics
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, replace
from math import ceil
from pathlib import Path

import pandas as pd
import torch
from torch import nn
from transformers import LlamaConfig, LlamaForCausalLM, MistralConfig, MistralForCausalLM

from whoknows import WhoknowsError
from whoknows.data import cache, files, questions
from whoknows.data.positions import LAST, kept
from whoknows.data.prompts import QUERY
from whoknows.estimators.lora import LoraPrompt
from whoknows.estimators.lora_data import gather
from whoknows.lab import baseline
from whoknows.models import forward, loading, products, tiny
from whoknows.models.batching import TokenBudget, batches
from whoknows.models.generation import Prefix
from whoknows.models.packing import PackedBatch, pack
from whoknows.models.reader import Reader, first_block
from whoknows.run import grid, parameters, provenance
from whoknows.stages import answer, extract

# The defaults of transformers are LLaMA 7B and Mistral 7B v0.1.
LARGER = {"hidden_size": 5120, "intermediate_size": 13824}
LARGER |= dict.fromkeys(("num_hidden_layers", "num_attention_heads", "num_key_value_heads"), 40)
SHAPES = {
    "meta-llama/Llama-2-7b-hf": LlamaConfig(max_position_embeddings=4096),
    "meta-llama/Llama-2-13b-hf": LlamaConfig(max_position_embeddings=4096, **LARGER),
    "mistralai/Mistral-7B-v0.1": MistralConfig(),
}
KINDS = {LlamaConfig: LlamaForCausalLM, MistralConfig: MistralForCausalLM}


def make(source: str, texts: list[str], folder: Path) -> str:
    """Saves a model with random weights in bfloat16, and a tokenizer that has learned its words from some texts.

    Args:
        source: the name on the hub of the model that it is as large as, one of SHAPES.
        texts: that the tokenizer is to be good at, so that they have about as many tokens as with the real one.

    Returns:
        The folder, as the source of a model.
    """
    if source not in SHAPES:
        known = ", ".join(SHAPES)
        raise WhoknowsError(
            f"models: the shape of {source!r} is not known, only those of {known}; leave --random-weights out"
        )
    config = SHAPES[source]
    prompts = [f"Question: \nAnswer: {QUERY} {choice}" for choice in ("i", "ii")]
    tokenizer = tiny.metaspace(texts + prompts * 100, config.vocab_size - tiny.BYTES)
    with loading.device():
        torch.manual_seed(0)
        model = KINDS[type(config)]._from_config(config, dtype=torch.bfloat16)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return str(folder)


REPEATS, SECONDS = 3, 60.0  # so many turns of each way, but no further ones after this time
ROWS = {"cpu": 1024, "cuda": 16384}  # of the matrix products


def race(ours, theirs, count: int, unit: str, each: int, tokens: int, least: float) -> dict:
    """Lets two ways take turns, after a warm-up, and compares their medians.

    Args:
        ours, theirs: each takes a range of items, and gives the seconds that they took.
        count: items in a turn.
        each: units in an item.
        tokens: real tokens in a turn of ours.
        least: seconds that the arithmetic of a turn of ours takes at the matrix-product rate.
    """
    ours(range(min(4, count))), theirs(range(min(4, count)))
    begin, turns = time.perf_counter(), []
    while len(turns) < REPEATS and (not turns or time.perf_counter() - begin < SECONDS):
        turns.append((*_with_peak(ours, count), *_with_peak(theirs, count)))
    mine, my_peak, other, other_peak = map(statistics.median, zip(*turns))
    rates = {"ours_per_second": count * each / mine, "plain_per_second": count * each / other, "ratio": other / mine}
    rates |= {"share_of_matmul_rate": least / mine, "unit": unit, "tokens_per_second": tokens / mine}
    return rates | {"ours_peak_gb": my_peak, "plain_peak_gb": other_peak, "repeats": len(turns)}


def _with_peak(way, count: int) -> tuple[float, float]:
    """Seconds that a way took, and the most memory that it had of a GPU, in GB; NaN without one."""
    if not torch.cuda.is_available():
        return way(range(count)), math.nan
    torch.cuda.reset_peak_memory_stats()
    return way(range(count)), torch.cuda.max_memory_allocated() / 1e9


def seconds(work) -> float:
    """How long a function of no arguments takes, the accelerator's part included."""
    begin = time.perf_counter()
    work()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - begin


@torch.inference_mode()
def matmul_rate(reader: Reader) -> float:
    """Floating-point operations per second of products of many rows with matrices like those of the model's blocks."""
    rows, kind = ROWS[reader.device.type], {"dtype": reader.head.dtype, "device": reader.device}
    linears = [module for module in reader.layers.modules() if isinstance(module, nn.Linear)]
    shapes = [(m.out_features, m.in_features) for m in linears]
    # Of quantised weights, which are packed, one matrix for each shape.
    packed = (shape for m, shape in zip(linears, shapes) if not m.weight.is_floating_point())
    unpacked = {shape: torch.randn(shape, **kind) for shape in dict.fromkeys(packed)}
    matrices = [m.weight if m.weight.is_floating_point() else unpacked[shape] for m, shape in zip(linears, shapes)]
    inputs = {width: torch.randn(rows, width, **kind) for width in {m.in_features for m in linears}}
    turns = [seconds(lambda: [inputs[w.shape[1]] @ w.T for w in matrices]) for _ in range(REPEATS + 1)]
    return 2 * rows * block_parameters(reader) / statistics.median(turns[1:])


def block_parameters(reader: Reader, first: int = 0, last: int | None = None) -> int:
    """Parameters of the matrices in blocks first … last-1 of a model without adapters."""
    linears = [m for block in reader.layers[first:last] for m in block.modules() if isinstance(m, nn.Linear)]
    return sum(linear.in_features * linear.out_features for linear in linears)


QUESTIONS = {"cpu": 64, "cuda": 1024}
PLAIN_TOKENS = 16384  # of the plain way where the grid says null: what one would choose by hand


def bench(chosen: grid.Grid) -> pd.DataFrame:
    """Measures every model of a grid on its first training task.

    Returns:
        One line per model and stage: model, stage, ours_per_second, plain_per_second, ratio, share_of_matmul_rate,
        unit (what the rates count), tokens_per_second (real tokens, ours), ours_peak_gb and plain_peak_gb (of a GPU's
        memory, else NaN), repeats, device, precision.
    """
    table, lines, answered = sample(chosen, QUESTIONS[loading.device().type]), [], {}

    def add(model: str, stage: str, rates: dict) -> None:
        lines.append({"model": model, "stage": stage} | rates)
        print("{model:20} {stage:12} {ours_per_second:8.1f} {unit}/s, plain {plain_per_second:.1f}, x {ratio:.1f}; "
              "{share_of_matmul_rate:.0%} of the matrix-product rate".format(**lines[-1]), flush=True)  # fmt: skip

    for model in chosen.reading:
        reader = loading.load(model.source, chosen.precision)
        line, answered[model.name] = answering(reader, table, chosen, matmul_rate(reader))
        add(model.name, "answer", line)
        del reader  # two large models do not fit
    for model in chosen.reading:
        reader = loading.load(model.source, chosen.precision)
        limit = matmul_rate(reader)
        add(model.name, "extract", extracting(reader, answered, chosen, limit))
        add(model.name, "lora_prompt", training(reader, answered[model.name], chosen, limit))
        del reader
    precision = provenance.precision({"precision": chosen.precision, "batch_tokens": None})
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else provenance.machine()
    return pd.DataFrame(lines).assign(device=device, **precision)


@contextmanager
def random_weights(chosen: grid.Grid) -> Iterator[grid.Grid]:
    """The same grid with models of the same shapes that know nothing, in a folder that is gone afterwards."""
    table = sample(chosen, 10**6)
    texts = [text for column in (table["question"], table["gold"].map(" ".join)) for text in column]
    cache.root().mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=cache.root()) as folder:
        models = [replace(m, source=make(m.source, texts, Path(folder) / m.name)) for m in chosen.reading]
        yield replace(chosen, models=tuple(models))


def sample(chosen: grid.Grid, count: int) -> pd.DataFrame:
    """The first questions of the grid's first training task, with its few-shot examples."""
    task = next(task for task in chosen.tasks if task.role == "train")
    task = replace(task, grading=None) if task.grading == "judge" else task  # nobody is asked here
    asked = parameters.asked(task, None) | {"size": min(count, task.size or count)}
    return questions.build([asked], asdict(chosen.splits), chosen.answer.shots)


def answering(reader: Reader, table: pd.DataFrame, chosen: grid.Grid, limit: float) -> tuple[dict, pd.DataFrame]:
    """A line for answering, and the answers; both ways answer the same questions in the same batches."""
    shots, asked = table[table["split"] == questions.SHOT], table[table["split"] != questions.SHOT]
    prefixes = {task: Prefix(reader, shots[shots["task"] == task]).ids for task in asked["task"].unique()}
    new, budget = chosen.answer.max_new_tokens, chosen.batch_tokens
    question_ids = reader.questions(asked["question"].tolist(), after_examples=not shots.empty)
    prompts = [prefixes[task] + ids for task, ids in zip(asked["task"], question_ids)]

    def ours(items: range) -> float:
        part = pd.concat([shots, asked.iloc[list(items)]])
        return seconds(lambda: answer.answer(reader, part, new, budget))

    def theirs(items: range) -> float:
        cut = batches([len(question_ids[i]) + new for i in items], answer.CACHE_TOKENS * (budget or PLAIN_TOKENS))
        return seconds(lambda: [baseline.answer(reader, [prompts[i] for i in batch], new) for batch in cut])

    answers = answer.answer(reader, table, new, budget)
    tokens = sum(map(len, prefixes.values())) + sum(map(len, question_ids)) + int(answers["tokens"].sum())
    work = 2 * (block_parameters(reader) * tokens + reader.head.numel() * int(answers["tokens"].sum() + len(answers)))
    return race(ours, theirs, len(asked), "questions", 1, tokens, work / limit), answers


def extracting(reader: Reader, answered: dict[str, pd.DataFrame], chosen: grid.Grid, limit: float) -> dict:
    """A line for reading all models' answers: hidden states of all layers, and the query (plain: of test answers)."""
    count = len(next(iter(answered.values())))
    first = first_block(reader.depth, chosen.lora_prompt.first_layer) or None

    def examples(part: dict[str, pd.DataFrame]) -> PackedBatch:
        return pack(reader, part, extract.queried(part, first))

    def ours(items: range) -> float:
        part, budget = _part(answered, items), TokenBudget(chosen.batch_tokens, reader.device)
        return seconds(lambda: forward.extract(reader, examples(part), kept(first), first, budget))

    def theirs(items: range) -> float:
        part, budget = _part(answered, items), chosen.batch_tokens or PLAIN_TOKENS
        return seconds(lambda: [_read(reader, frame, budget) for frame in part.values()])

    tokens = sum(map(len, examples(answered).examples))
    least = 2 * block_parameters(reader) * tokens / limit
    return race(ours, theirs, count, "question-answer pairs", len(answered), tokens, least)


def training(reader: Reader, frame: pd.DataFrame, chosen: grid.Grid, limit: float) -> dict:
    """A line for one epoch of LoRA + Prompt; the plain way trains the same adapters of the same model."""
    settings, budget = asdict(chosen.lora_prompt), chosen.batch_tokens
    settings |= {"epochs": 1, "evaluations": 1, "js_weight": 0.0, "targets": list(settings["targets"])}
    first = first_block(reader.depth, settings["first_layer"])
    adapted = block_parameters(reader) - block_parameters(reader, 0, first)
    packed = pack(reader, {"": frame}, [True] * len(frame))
    cached = None
    if first:
        cached = forward.extract(reader, packed, [LAST], first, TokenBudget(budget, reader.device)).cached
        cached = list(cached.split([len(t) for t in packed.examples]))
    estimator = LoraPrompt(reader, settings, 0, budget)

    def ours(items: range) -> float:
        data = gather(packed, cached, list(items))
        return seconds(lambda: estimator.fit(data, frame["correct"].to_numpy()[list(items)], 0.0, lambda: 0.5))

    def theirs(items: range) -> float:
        part = frame.iloc[list(items)]
        correct = part["correct"].tolist()

        def train() -> None:
            baseline.train(estimator.reader, texts(reader, part, reader.query), correct, settings, 0)

        with products.removed(estimator.reader.model):
            return seconds(train)

    tokens = sum(map(len, texts(reader, frame, reader.query)))
    return race(ours, theirs, len(frame), "training examples", 1, tokens, 4 * adapted * tokens / limit)


def texts(reader: Reader, frame: pd.DataFrame, end: Sequence[int] = ()) -> list[list[int]]:
    """Ids of each question with its answer and what follows."""
    pairs = zip(reader.questions(frame["question"].tolist()), reader.answers(frame["answer"].tolist()))
    return [reader.start() + q + a + [*end] for q, a in pairs]


def _read(reader, frame, budget):
    tests = frame[frame["split"] == "test"]
    for part, end, way in ((frame, (), baseline.hidden_states), (tests, reader.query, baseline.zero_shot)):
        if len(part):
            ids = texts(reader, part, end)
            way(reader, ids, ceil(budget / max(map(len, ids))))


def _part(answered, items):
    return {name: frame.iloc[list(items)].reset_index(drop=True) for name, frame in answered.items()}


def main(arguments: list[str]) -> None:
    """The command line; writes bench.parquet beside the grid's other results, from where the book shows it."""
    parser = argparse.ArgumentParser(prog="whoknows bench", description="Measures the speed of a grid's models.")
    parser.add_argument("grid")
    random = "measure models of the same shapes that know nothing, for which no weights are needed"
    parser.add_argument("--random-weights", action="store_true", help=random)
    options = parser.parse_args(arguments)
    chosen = grid.load(options.grid)
    out = f"{parameters.out(chosen)}/bench.parquet"
    with random_weights(chosen) if options.random_weights else nullcontext(chosen) as measured:
        files.write_parquet(out, bench(measured).assign(random_weights=options.random_weights))
    print(f"The table: {out}")
