"""Examples: the answers that LoRA + Prompt is trained on, and what the blocks below its adapters make of them.

Those blocks never change in training, so they are run once: what is kept is the trunk, the residual stream at the
first adapted block.
"""

import math
from dataclasses import dataclass

import pandas as pd
import torch
from tqdm.auto import tqdm

from whoknows import WhoknowsError
from whoknows.models import Reader
from whoknows.trees import Forest, batches, blocks, collate, forest


def training_rows(answers: pd.DataFrame, wrong_per_right: float | None, seed: int) -> tuple[pd.DataFrame, float]:
    """The training answers of one model, with fewer wrong ones, and the log-odds this adds.

    All right answers are kept. AUROC learns little from a tenth wrong answer to each right one, but
    each costs the same time. Training on the sample shifts the log-odds by log(1 / share of wrong
    answers kept) (case-control sampling: Prentice & Pyke 1979); the loss adds this shift, so that
    the confidence itself stays that of the full training set.

    Args:
        wrong_per_right: wrong answers kept for each right one; None keeps all.

    Returns:
        (rows, shift in nats).

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
    return sample.reset_index(drop=True), math.log(len(wrong) / keep)


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


@torch.no_grad()
def prepare(reader: Reader, answers: pd.DataFrame, first: int, penalised: bool, batch_tokens: int) -> Examples:
    """Run the untrained reader once over one model's answers, and keep what training will need of it.

    Args:
        first: the lowest adapted block.
        penalised: whether the final hidden states are wanted too.
    """
    grown = forest(reader, {"": answers}, [True] * len(answers))
    if not first and not penalised:
        return Examples(grown, None)
    lengths = [len(t) for t in grown.trees]
    trunk, reference = [torch.empty(0)] * len(lengths), [torch.empty(0)] * len(lengths)
    below, above = blocks(reader.base, 0, first), blocks(reader.base, first, reader.depth)
    with tqdm(total=sum(lengths), desc="lower blocks", unit="token", unit_scale=True) as bar:
        for batch in batches(lengths, batch_tokens):
            inputs = collate([grown.trees[t] for t in batch], reader.device)
            hidden = below(**inputs, use_cache=False).last_hidden_state
            last = run_above(above, hidden, inputs) if penalised else None
            for row, t in enumerate(batch):
                trunk[t] = hidden[row, : lengths[t]].clone()
                if penalised:
                    reference[t] = last[row, predicting(grown, t)].clone()
            bar.update(sum(lengths[t] for t in batch))
    return Examples(grown, trunk if first else None, reference if penalised else None)


def run_above(above: torch.nn.Module, hidden: torch.Tensor, inputs: dict[str, torch.Tensor]) -> torch.Tensor:
    """Final hidden states [rows, columns, width] from the residual stream at the first block of `above`."""
    kept = {key: value for key, value in inputs.items() if key != "input_ids"}
    return above(inputs_embeds=hidden, **kept, use_cache=False).last_hidden_state


def predicting(grown: Forest, t: int) -> slice:
    """Columns of a tree with one branch whose next token belongs to the answer: the question's last up to the answer's last but one."""
    return slice(len(grown.trees[t].question) - 1, grown.answer_ends[t][0])
