"""Examples: the answers that LoRA + Prompt is trained on and scores, as the input of its trained blocks.

The blocks below the adapters never change, so `extract` runs them once for all, and keeps their cached activations: the
residual stream at the first adapted block.
"""

import math
from dataclasses import dataclass

import pandas as pd
import torch
from tqdm.auto import tqdm

from whoknows import WhoknowsError
from whoknows.models import proof
from whoknows.models.batching import TokenBudget
from whoknows.models.decoding import final, last_hidden_state
from whoknows.models.packing import PackedBatch, PackedExample
from whoknows.models.reader import Reader


def training_rows(answers: pd.DataFrame, wrong_per_right: float | None, seed: int) -> tuple[pd.DataFrame, float]:
    """The training answers, with fewer wrong ones, and the log-odds this adds.

    All right answers are kept. AUROC learns little from a tenth wrong answer to each right one, but each costs the same
    time. Training on the sample shifts the log-odds by log(1 / share of wrong answers kept) (case-control sampling:
    Prentice & Pyke 1979); the loss adds this shift, so that the confidence stays that of the full training set.

    Args:
        wrong_per_right: wrong answers kept for each right one; None keeps all.

    Returns:
        (rows, with the index that they have in `answers`; shift in nats).

    Raises:
        WhoknowsError: the training answers are all right or all wrong.
    """
    train = answers[answers["split"] == "train"]
    right, wrong = train[train["correct"]], train[~train["correct"]]
    if right.empty or wrong.empty:
        kind = "right" if right.empty else "wrong"
        raise WhoknowsError(
            f"lora_prompt: none of the {len(train)} training answers is {kind}, so there is nothing to learn; "
            "raise tasks[].size in the grid or train on another model"
        )
    keep = len(wrong) if wrong_per_right is None else min(len(wrong), max(1, round(wrong_per_right * len(right))))
    sample = pd.concat([right, wrong.sample(keep, random_state=seed)]).sort_index()
    return sample, math.log(len(wrong) / keep)


@dataclass
class Dataset:
    """Questions and answers as the input of the trained blocks."""

    packed: PackedBatch  # with the query
    cached: list[torch.Tensor] | None  # [tokens, width] each, the input of the first adapted block; None of block 0
    # [answer tokens, width] each, the final hidden states from which the untrained model predicts the answer; None when
    # there is no Jensen-Shannon penalty.
    reference: list[torch.Tensor] | None = None


def gather(
    packed: PackedBatch, cached: list[torch.Tensor] | None, keep: list[int], whose: list[str] | None = None
) -> Dataset:
    """Some questions of a batch, with its cached activations; `keep` may name one several times.

    Args:
        whose: for each of them the model whose answer alone is kept; None keeps those of all models.
    """
    chosen = [(packed.examples[t], packed.answer_ends[t], cached[t] if cached else None) for t in keep]
    if whose is None:
        branch_of = {name: [branches[t] for t in keep] for name, branches in packed.branch_of.items()}
    else:
        chosen = [_one_branch(*parts, packed.branch_of[model][t]) for parts, t, model in zip(chosen, keep, whose)]
        branch_of = {name: [0 if model == name else -1 for model in whose] for name in dict.fromkeys(whose)}
    examples, ends, streams = map(list, zip(*chosen)) if chosen else ([], [], [])
    return Dataset(PackedBatch(examples, ends, branch_of), streams if cached else None)


def without_query(data: Dataset) -> Dataset:
    """The same questions and answers without what follows the answers: each branch ends at its answer's last token."""
    examples, ends, streams, packed = [], [], [], data.packed
    for t, example in enumerate(packed.examples):
        lengths = {k: end + 1 - at for k, (at, end) in enumerate(zip(example.offsets(), packed.answer_ends[t]))}
        short, stream = _cut(example, data.cached[t] if data.cached else None, lengths)
        examples.append(short)
        ends.append(short.ends())
        streams.append(stream)
    return Dataset(PackedBatch(examples, ends, packed.branch_of), streams if data.cached else None)


def _one_branch(example: PackedExample, ends: list[int], stream: torch.Tensor | None, branch: int):
    """The example with one of its branches."""
    alone, stream = _cut(example, stream, {branch: len(example.branches[branch])})
    return alone, [ends[branch] - example.offsets()[branch] + len(example.question)], stream


def _cut(
    example: PackedExample, stream: torch.Tensor | None, lengths: dict[int, int]
) -> tuple[PackedExample, torch.Tensor | None]:
    """The example with the first tokens of some branches; no kept token sees a removed one, so the stream stays."""
    short = PackedExample(example.question, tuple(example.branches[k][:length] for k, length in lengths.items()))
    if stream is not None:
        offsets = example.offsets()
        kept = [stream[offsets[k] : offsets[k] + length] for k, length in lengths.items()]
        stream = torch.cat([stream[: len(example.question)], *kept])
    return short, stream


@torch.no_grad()
def reference_hidden_states(reader: Reader, data: Dataset, first: int, batch_tokens: int | None) -> list[torch.Tensor]:
    """For each example with one branch, the final hidden states from which the untrained reader predicts the answer.

    The examples' cached activations end at the block `first`, the lowest adapted one.
    """
    lengths = [len(example) for example in data.packed.examples]
    reference: dict[int, torch.Tensor] = {}
    is_fast = proof.packing(reader, data.packed.longest, data.packed.widest)

    def work(batch: list[int]) -> tuple[torch.Tensor, ...]:
        examples, cached = [data.packed.examples[t] for t in batch], data.cached and [data.cached[t] for t in batch]
        last = final(reader, examples, first, cached) if is_fast else last_hidden_state(reader, examples)
        return tuple(last[row, predicting(data.packed, t)].clone() for row, t in enumerate(batch))

    with tqdm(total=sum(lengths), desc="reference", unit="token", unit_scale=True) as bar:
        for batch, states in TokenBudget(batch_tokens, reader.device).run(work, lengths):
            reference.update(zip(batch, states))
            bar.update(sum(lengths[t] for t in batch))
    return [reference[t] for t in range(len(lengths))]


def predicting(packed: PackedBatch, t: int) -> slice:
    """Columns of an example with one branch whose next token belongs to the answer, from the question's last one on."""
    return slice(len(packed.examples[t].question) - 1, packed.answer_ends[t][0])
