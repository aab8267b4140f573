"""Examples: the answers that LoRA + Prompt is trained on and judges, as its trained blocks meet them.

The blocks below the adapters never change, so `extract` runs them once for all: what it keeps is the trunk, the
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
from whoknows.models.loading import Reader
from whoknows.models.packing import Forest, Tree


def training_rows(answers: pd.DataFrame, wrong_per_right: float | None, seed: int) -> tuple[pd.DataFrame, float]:
    """The training answers of one model, with fewer wrong ones, and the log-odds this adds.

    All right answers are kept. AUROC learns little from a tenth wrong answer to each right one, but
    each costs the same time. Training on the sample shifts the log-odds by log(1 / share of wrong
    answers kept) (case-control sampling: Prentice & Pyke 1979); the loss adds this shift, so that
    the confidence itself stays that of the full training set.

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
class Examples:
    """Questions and answers as the trained blocks meet them.

    Attributes:
        grown: their trees, with the query.
        trunk: for each tree [tokens, width], the residual stream at the first adapted block; None if that is block 0.
        reference: for each tree [answer tokens, width], the final hidden states from which the untrained model
            predicts the answer; None when there is no Jensen-Shannon penalty.
    """

    grown: Forest
    trunk: list[torch.Tensor] | None
    reference: list[torch.Tensor] | None = None


def gather(grown: Forest, trunk: list[torch.Tensor] | None, keep: list[int], model: str | None = None) -> Examples:
    """Some questions of a forest.

    Args:
        trunk: for each tree of the forest [tokens, width]; None if the adapters begin at block 0.
        keep: which trees.
        model: whose answers alone to keep; None keeps those of all models.
    """
    chosen = [(grown.trees[t], grown.answer_ends[t], trunk[t] if trunk else None) for t in keep]
    if model is None:
        own = {name: [branches[t] for t in keep] for name, branches in grown.branch_of.items()}
    else:
        chosen = [_one_branch(*parts, grown.branch_of[model][t]) for parts, t in zip(chosen, keep)]
        own = {model: [0] * len(keep)}
    trees, ends, streams = map(list, zip(*chosen)) if chosen else ([], [], [])
    return Examples(Forest(trees, ends, own), streams if trunk else None)


def without_query(examples: Examples) -> Examples:
    """The same questions and answers without what follows the answers: each branch ends at its answer's last token."""
    trees, ends, streams, grown = [], [], [], examples.grown
    for t, tree in enumerate(grown.trees):
        lengths = {k: end + 1 - at for k, (at, end) in enumerate(zip(tree.offsets(), grown.answer_ends[t]))}
        short, stream = _cut(tree, examples.trunk[t] if examples.trunk else None, lengths)
        trees.append(short)
        ends.append([at + len(branch) - 1 for at, branch in zip(short.offsets(), short.branches)])
        streams.append(stream)
    return Examples(Forest(trees, ends, grown.branch_of), streams if examples.trunk else None)


def _one_branch(tree: Tree, ends: list[int], stream: torch.Tensor | None, branch: int):
    """The tree with one of its branches."""
    alone, stream = _cut(tree, stream, {branch: len(tree.branches[branch])})
    return alone, [ends[branch] - tree.offsets()[branch] + len(tree.question)], stream


def _cut(tree: Tree, stream: torch.Tensor | None, lengths: dict[int, int]) -> tuple[Tree, torch.Tensor | None]:
    """The tree with the first tokens of some branches: no token sees what is cut off, so the stream of what is left is the same.

    Args:
        lengths: how many tokens are kept of each branch that is.
    """
    short = Tree(tree.question, tuple(tree.branches[k][:length] for k, length in lengths.items()))
    if stream is not None:
        offsets = tree.offsets()
        stream = torch.cat(
            [stream[: len(tree.question)], *(stream[offsets[k] : offsets[k] + length] for k, length in lengths.items())]
        )
    return short, stream


@torch.no_grad()
def reference_hidden_states(
    reader: Reader, examples: Examples, first: int, batch_tokens: int | None
) -> list[torch.Tensor]:
    """For each tree with one branch, the final hidden states from which the untrained reader predicts the answer.

    Args:
        first: the lowest adapted block, where the examples' trunk ends.
    """
    lengths = [len(t) for t in examples.grown.trees]
    found, is_fast = [torch.empty(0)] * len(lengths), proof.trees(reader, examples.grown.longest)

    def work(batch: list[int]) -> tuple[torch.Tensor, ...]:
        trees, trunk = [examples.grown.trees[t] for t in batch], examples.trunk and [examples.trunk[t] for t in batch]
        last = final(reader, trees, first, trunk) if is_fast else last_hidden_state(reader, trees)
        return tuple(last[row, predicting(examples.grown, t)].clone() for row, t in enumerate(batch))

    with tqdm(total=sum(lengths), desc="reference", unit="token", unit_scale=True) as bar:
        for batch, states in TokenBudget(batch_tokens, reader.device).run(work, lengths):
            for t, state in zip(batch, states):
                found[t] = state
            bar.update(sum(lengths[t] for t in batch))
    return found


def predicting(grown: Forest, t: int) -> slice:
    """Columns of a tree with one branch whose next token belongs to the answer: the question's last up to the answer's last but one."""
    return slice(len(grown.trees[t].question) - 1, grown.answer_ends[t][0])
