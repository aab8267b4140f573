"""Features: what a frozen reader's hidden states are at the last token of an answer, and what it says when asked.

One forward pass over a question and all models' answers to it gives the hidden states of every layer,
the zero-shot confidence P(True), and, for test rows, the residual stream from which LoRA + Prompt goes on.
"""

from contextlib import ExitStack
from dataclasses import dataclass

import pandas as pd
import torch
from torch import nn
from tqdm.auto import tqdm

from whoknows import WhoknowsError
from whoknows.models import QUERY, Reader, Tree, batches, collate


@dataclass(frozen=True)
class Forest:
    """The trees of some questions: one a question, one branch for each different answer.

    Attributes:
        trees: one a question.
        answer_ends: for each tree, where in its row the last token of each branch's answer stands.
        branch_of: for each scored model, which branch of each tree is its answer.
    """

    trees: list[Tree]
    answer_ends: list[list[int]]
    branch_of: dict[str, list[int]]

    def query_ends(self, tree: int) -> list[int]:
        """Where in its row each branch of a tree ends: the last token of the query, if it has one."""
        found = self.trees[tree]
        return [at + len(branch) - 1 for at, branch in zip(found.offsets(), found.branches)]


def forest(reader: Reader, answers: dict[str, pd.DataFrame], queried: list[bool]) -> Forest:
    """Token ids of all questions and answers; positions come from ids, never from strings.

    Args:
        answers: for each scored model, its answers; all frames hold the same questions in the same order.
        queried: for each question, whether the query follows its answers.

    Raises:
        WhoknowsError: the frames do not hold the same questions.
    """
    first = next(iter(answers.values()))
    for model, frame in answers.items():
        if frame["question_id"].tolist() != first["question_id"].tolist():
            raise WhoknowsError(f"answers of {model} are not to the same questions as the others': delete answers/{model}.parquet and run again")
    start, query = reader.start(), reader.encode(QUERY)
    trees, ends = [], []
    branch_of: dict[str, list[int]] = {model: [] for model in answers}
    for question, asked, *texts in zip(first["question"], queried, *(frame["answer"] for frame in answers.values())):
        distinct = list(dict.fromkeys(texts))  # models that agree share a branch
        ids = [reader.answer(text) for text in distinct]
        tree = Tree(start + reader.question(question), tuple(i + query if asked else i for i in ids))
        trees.append(tree)
        ends.append([at + len(i) - 1 for at, i in zip(tree.offsets(), ids)])
        for model, text in zip(answers, texts):
            branch_of[model].append(distinct.index(text))
    return Forest(trees, ends, branch_of)


@dataclass
class Features:
    """Everything `extract` finds out.

    Attributes:
        hidden: for each scored model [questions, layers + 1, width], bfloat16; HF index, 0 = embeddings, last = after the final norm.
        zero_shot: for each scored model [questions] float32 log-odds of yes; NaN where the query was not put.
        trunk: [tokens of all queried trees, width], residual stream before block `first_block`; None if not asked for.
    """

    hidden: dict[str, torch.Tensor]
    zero_shot: dict[str, torch.Tensor]
    trunk: torch.Tensor | None


@torch.inference_mode()
def extract(reader: Reader, grown: Forest, first_block: int | None, batch_tokens: int) -> Features:
    """Run the frozen reader once over a forest.

    Args:
        first_block: block whose input is kept for every token of the queried trees; None keeps nothing.
        batch_tokens: rows times columns of one forward pass, at most.

    Raises:
        WhoknowsError: a hidden state is not a finite number.
    """
    count, width = len(grown.trees), reader.model.config.hidden_size
    queried = [len(ends) > 0 and grown.query_ends(t) != ends for t, ends in enumerate(grown.answer_ends)]
    found = Features(
        hidden={m: torch.empty(count, reader.depth + 1, width, dtype=torch.bfloat16) for m in grown.branch_of},
        zero_shot={m: torch.full((count,), torch.nan) for m in grown.branch_of},
        trunk=None,
    )
    starts = torch.tensor([len(t) if q else 0 for t, q in zip(grown.trees, queried)]).cumsum(0).roll(1)
    if first_block is not None:
        total, starts[0] = int(starts[0]), 0
        found.trunk = torch.empty(total, width, dtype=reader.head.dtype)
    with tqdm(total=sum(map(len, grown.trees)), desc="extracting", unit="token", unit_scale=True) as bar:
        for batch in batches([len(t) for t in grown.trees], batch_tokens):
            _extract_batch(reader, grown, batch, queried, first_block, starts, found)
            bar.update(sum(len(grown.trees[t]) for t in batch))
    for model, hidden in found.hidden.items():
        _check_finite(hidden, model)
    return found


def _extract_batch(reader, grown, batch, queried, first_block, starts, found) -> None:
    at = [(row, end) for row, t in enumerate(batch) for end in grown.answer_ends[t]]
    rows, columns = torch.tensor(at, device=reader.device).T
    states, trunk, last = run(reader, collate([grown.trees[t] for t in batch], reader.device), (rows, columns), first_block)
    first_of = torch.tensor([len(grown.answer_ends[t]) for t in batch]).cumsum(0).roll(1)
    first_of[0] = 0
    for row, t in enumerate(batch):
        for model, branches in grown.branch_of.items():
            found.hidden[model][t] = states[first_of[row] + branches[t]].to(torch.bfloat16).cpu()
        if queried[t]:
            logits = yes_or_no(reader, last[row, grown.query_ends(t)]).cpu()
            for model, branches in grown.branch_of.items():
                found.zero_shot[model][t] = logits[branches[t]]
            if trunk is not None:
                size = len(grown.trees[t])
                found.trunk[starts[t] : starts[t] + size] = trunk[row, :size].cpu()


def run(reader: Reader, inputs: dict, at: tuple[torch.Tensor, torch.Tensor], first_block: int | None):
    """One forward pass that keeps no more than what is needed.

    Args:
        at: rows and columns [n] of the tokens whose hidden states are wanted.

    Returns:
        (states [n, layers + 1, width] at those tokens, input of `first_block` [rows, columns, width] or
        None, output of the final norm [rows, columns, width]).
    """
    states: list[torch.Tensor] = []
    kept: list[torch.Tensor] = []

    def before_block(index: int):
        def hook(module: nn.Module, args: tuple, kwargs: dict) -> None:
            hidden = args[0] if args else kwargs["hidden_states"]
            states.append(hidden[at])
            if index == first_block:
                kept.append(hidden)

        return hook

    with ExitStack() as hooks:
        for index, block in enumerate(reader.base.layers):
            handle = block.register_forward_pre_hook(before_block(index), with_kwargs=True)
            hooks.callback(handle.remove)
        last = reader.base(**inputs, use_cache=False).last_hidden_state
    return torch.stack([*states, last[at]], dim=1), kept[0] if kept else None, last


def yes_or_no(reader: Reader, hidden: torch.Tensor) -> torch.Tensor:
    """Log-odds of yes from [n, width] outputs of the final norm: softmax over the two choice tokens alone."""
    no, yes = reader.choices()
    logits = (hidden @ reader.head[[no, yes]].T).float()
    return logits[:, 1] - logits[:, 0]


def _check_finite(hidden: torch.Tensor, scored: str) -> None:
    bad = ~torch.isfinite(hidden).all(dim=-1)
    if bad.any():
        row, layer = (int(i) for i in bad.nonzero()[0])
        raise WhoknowsError(
            f"extract: a hidden state of layer {layer} at answer {row} of {scored} is NaN or infinite; set precision: float32 in the grid"
        )


def zero_shot_rows(name: str, answers: dict[str, pd.DataFrame], zero_shot: dict[str, torch.Tensor]) -> pd.DataFrame:
    """Rows of the untrained P(True) (Kadavath et al. 2022), for every model's test answers."""
    frames = [rows(frame, method="zero_shot", reader=name, scored=scored, logit=zero_shot[scored]) for scored, frame in answers.items()]
    table = pd.concat(frames, ignore_index=True)
    return table[table["split"] == "test"].reset_index(drop=True)


def rows(answers: pd.DataFrame, *, method: str, reader: str, scored: str, logit, trained_on: str = "", seed: int = 0) -> pd.DataFrame:
    """One row per example, in the columns that all metrics are computed from.

    Args:
        answers: the scored model's answers.
        logit: [len(answers)] confidence that each is right, as log-odds.
    """
    names = {"method": method, "reader": reader, "trained_on": trained_on, "scored": scored}
    table = pd.DataFrame(names, index=answers.index)
    table[["task", "split", "question_id"]] = answers[["task", "split", "question_id"]]
    table["seed"] = seed
    table["logit"] = torch.as_tensor(logit).float().cpu().numpy()
    table["correct"] = answers["correct"]
    return table.reset_index(drop=True)
