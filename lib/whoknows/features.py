"""Features: what a frozen reader's hidden states are at the last token of an answer and before it, and what it says when asked.

One forward pass over a question and all models' answers to it gives the hidden states of every layer,
the zero-shot confidence P(True), and the residual stream from which LoRA + Prompt goes on.
"""

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from itertools import accumulate
from pathlib import Path

import pandas as pd
import torch
from torch import nn
from tqdm.auto import tqdm

from whoknows import WhoknowsError, files, hidden, parts
from whoknows.hidden import BEFORE
from whoknows.memory import Budget
from whoknows.models import Reader, first_block
from whoknows.rows import example_rows
from whoknows.trees import Forest, collate, forest, only_at

PART_QUESTIONS, PART_BYTES = 1024, 2**30  # of the parts that a stage is cut into, at most


@dataclass
class Features:
    """Everything `extract` finds out.

    Attributes:
        hidden: for each scored model [questions, layers + 1, width], bfloat16; HF index, 0 = embeddings, last = after the final norm.
        before: the same at the last token of each question, after which the answers begin.
        zero_shot: for each scored model [questions] float32 log-odds of yes; NaN where the query was not put.
        trunk: [tokens of all queried trees, width], residual stream before block `first_block`; both None if not asked for.
    """

    hidden: dict[str, torch.Tensor]
    before: torch.Tensor
    zero_shot: dict[str, torch.Tensor]
    trunk: torch.Tensor | None
    first_block: int | None


@torch.inference_mode()
def extract(reader: Reader, grown: Forest, first_block: int | None, batch_tokens: int | None, done: Callable[[int], object] = lambda tokens: None) -> Features:
    """Run the frozen reader once over a forest.

    Args:
        first_block: block whose input is kept for every token of the queried trees; None keeps nothing.
        batch_tokens: rows times columns of one forward pass, at most; None for as many as fit.
        done: called with the number of tokens after each batch.

    Raises:
        WhoknowsError: a hidden state is not a finite number, or a text does not fit into memory.
    """
    count, width, lengths = len(grown.trees), reader.model.config.hidden_size, [len(t) for t in grown.trees]
    queried = [grown.is_queried(t) for t in range(count)]
    empty = partial(torch.empty, count, reader.depth + 1, width, dtype=torch.bfloat16)
    found = Features(
        hidden={m: empty() for m in grown.branch_of},
        before=empty(),
        zero_shot={m: torch.full((count,), torch.nan) for m in grown.branch_of},
        trunk=None,
        first_block=first_block,
    )
    starts = [0, *accumulate(length if q else 0 for length, q in zip(lengths, queried))]
    if first_block is not None:
        found.trunk = torch.empty(starts[-1], width, dtype=reader.head.dtype)
    work = partial(_read, reader, grown, first_block)
    for batch, (states, before, bad, logits, trunk, own) in Budget(batch_tokens, reader.device).run(work, lengths):
        _refuse(reader, grown, batch, bad, own)
        found.before[batch] = before
        asked = torch.tensor([queried[t] for t in batch])
        for model, branches in own.items():
            found.hidden[model][batch] = states[branches]
            found.zero_shot[model][batch] = logits[branches].where(asked, torch.nan)
        for row in asked.nonzero()[:, 0].tolist() if trunk is not None else ():
            t = batch[row]
            found.trunk[starts[t] : starts[t + 1]] = trunk[row, : lengths[t]]
        done(sum(lengths[t] for t in batch))
    return found


def _read(reader: Reader, grown: Forest, first_block: int | None, batch: list[int]):
    """Of a batch: hidden states of answers [branches, layers + 1, width] and of questions, which of both, [branches + questions, layers + 1], are
    no numbers, log-odds of yes [branches], trunk, and whose branches they are."""
    at, own = grown.places(batch, [grown.answer_ends[t] for t in batch], reader.device)
    ends, _ = grown.places(batch, [grown.query_ends(t) for t in batch], reader.device)
    before, _ = grown.places(batch, [[len(grown.trees[t].question) - 1] for t in batch], reader.device)
    both = tuple(torch.cat(pair) for pair in zip(at, before))
    states, said, trunk = forward(reader, collate([grown.trees[t] for t in batch], reader), both, ends, first_block)
    states = states.to(torch.bfloat16)
    bad = ~torch.isfinite(states).all(dim=-1)  # here, where it costs nothing
    return states[: len(at[0])], states[len(at[0]) :], bad, yes_or_no(reader, said), trunk, own


Places = tuple[torch.Tensor, torch.Tensor]


def forward(reader: Reader, inputs: dict, at: Places, ends: Places, first_block: int | None):
    """One forward pass that computes and keeps no more than what is needed.

    Args:
        at: rows and columns [n] of the tokens whose hidden states are wanted.
        ends: rows and columns [m] of the tokens after which the reader speaks.

    Returns:
        (states [n, layers + 1, width] of `at`, output of the final norm [m, width] of `ends`,
        input of `first_block` [rows, columns, width] or None).
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
        hooks.enter_context(only_at(reader.base.layers[-1], torch.cat([at[0], ends[0]]), torch.cat([at[1], ends[1]])))
        last = reader.base(**inputs, use_cache=False).last_hidden_state
    return torch.stack([*states, last[at]], dim=1), last[ends], kept[0] if kept else None


def yes_or_no(reader: Reader, hidden: torch.Tensor) -> torch.Tensor:
    """Log-odds of yes from [n, width] outputs of the final norm: softmax over the two choice tokens alone."""
    no, yes = reader.choices
    logits = (hidden @ reader.head[[no, yes]].T).float()
    return logits[:, 1] - logits[:, 0]


def _refuse(reader: Reader, grown: Forest, batch: list[int], bad: torch.Tensor, own: dict[str, list[int]]) -> None:
    """Raises if a hidden state of the batch is no number; says which one."""
    if not bad.any():
        return
    row, layer = (int(i) for i in bad.nonzero()[0])
    whose = [(f"the answer of {model} to ", t) for model, branches in own.items() for t, branch in zip(batch, branches) if branch == row]
    where, t = (whose or [("", batch[row - len(bad)])])[0]
    text = reader.tokenizer.decode(grown.trees[t].question, skip_special_tokens=True)
    raise WhoknowsError(f"extract: a hidden state of layer {layer} at {where}{text[:60]!r} is NaN or infinite; set precision: float32 in the grid")


def run(
    name: str, reader: Reader, answers: dict[str, pd.DataFrame], first_layer: float | None, batch_tokens: int | None, folder: str,
    shard: list[int] | None = None,
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The extract stage: read all models' answers once, write the reader's features, return what it said when asked.

    Args:
        first_layer: share of the depth where adapters begin; None if there is no LoRA + Prompt.
        folder: where the features go; with a shard they do not, only the parts that the whole stage will find.
        shard: see `parts.mine`.

    Returns:
        (rows of zero_shot, a table of what was kept); with a shard both are empty.
    """
    block = first_block(reader.depth, first_layer) if first_layer else None
    grown = forest(reader, answers, queried(answers, block))
    own, files_of_parts = _extract_parts(reader, grown, block, batch_tokens, folder, shard)
    if shard:
        return pd.DataFrame(), pd.DataFrame()
    shapes = _join(files_of_parts, grown, block, folder)
    logits = {scored: torch.cat([files.read_safetensors(path)[f"zero_shot {scored}"] for path in files_of_parts]) for scored in answers}
    rows = zero_shot_rows(name, answers, logits)
    parts.clear(own)
    return rows, pd.DataFrame({"hidden states": shapes})


def _extract_parts(reader: Reader, grown: Forest, block: int | None, batch_tokens: int | None, folder: str, shard: list[int] | None) -> tuple[Path, list[Path]]:
    """The folder and the files of the forest's features, some questions each; those that are there already are not made again."""
    own = parts.folder(folder, __file__, ids=[[t.question, t.branches] for t in grown.trees], block=block, model=reader.identity)
    each = (len(grown.branch_of) + 1) * (reader.depth + 1) * reader.model.config.hidden_size * 2
    cut = parts.slices(len(grown.trees), max(1, min(PART_QUESTIONS, PART_BYTES // each)))
    paths = [own / f"{at.start:06}.safetensors" for at in cut]
    todo = [(grown.part(cut[k]), paths[k]) for k in parts.mine(len(cut), shard)]
    with tqdm(total=sum(len(tree) for some, _ in todo for tree in some.trees), desc="extracting", unit="token", unit_scale=True) as bar:
        for some, path in todo:
            if path.exists():
                bar.update(sum(map(len, some.trees)))
            else:
                save_part(path, extract(reader, some, block, batch_tokens, bar.update))
    return own, paths


def save_part(path: Path, found: Features) -> None:
    """Features of some questions as one file."""
    tensors = found.hidden | {BEFORE: found.before} | {f"zero_shot {scored}": logits for scored, logits in found.zero_shot.items()}
    files.write_safetensors(path, tensors if found.trunk is None else tensors | {"trunk": found.trunk})


def _join(paths: list[Path], grown: Forest, block: int | None, folder: str) -> dict[str, tuple]:
    """Writes `<scored>.safetensors` for each scored model, `before_answer.safetensors` and, if there is one, `trunk.safetensors`, each whole or not at all.

    Returns:
        For each of the first, its shape.
    """
    def pieces(name):
        return (files.read_safetensors(path)[name] for path in paths)

    shapes = {scored: files.write_rows(hidden.file(folder, scored), "hidden", partial(pieces, scored)) for scored in (*grown.branch_of, BEFORE)}
    if block is not None:
        files.write_rows(Path(folder) / "trunk.safetensors", "trunk", partial(pieces, "trunk"), {"ids": _queried_ids(grown), "first_block": torch.tensor(block)})
    return shapes


def queried(answers: dict[str, pd.DataFrame], first_block: int | None) -> list[bool]:
    """For each question, whether the query follows its answers.

    Zero-shot is measured on test answers and calibrated on validation answers; a trunk is wanted of all.
    """
    split = next(iter(answers.values()))["split"]
    return [first_block is not None or name != "train" for name in split]


def load_trunk(folder: str, grown: Forest, first_block: int) -> list[torch.Tensor]:
    """For each tree of a forest whose trees all end in the query, its residual stream [tokens, width] at the first adapted block.

    Raises:
        WhoknowsError: the file is missing, damaged, or of other texts or another block.
    """
    path = Path(folder) / "trunk.safetensors"
    stored = files.read_safetensors(path)
    if int(stored["first_block"]) != first_block:
        raise WhoknowsError(f"{path} ends before block {int(stored['first_block'])}, but the adapters begin at block {first_block}: extract again with the same first_layer")
    if not torch.equal(stored["ids"], _queried_ids(grown)):
        raise WhoknowsError(f"{path} is not of these questions and answers: delete it and run make book again")
    return list(stored["trunk"].split([len(t) for t in grown.trees]))


def _queried_ids(grown: Forest) -> torch.Tensor:
    """All token ids of the trees that end in the query, in order."""
    rows = [[*tree.question, *(i for branch in tree.branches for i in branch)] for t, tree in enumerate(grown.trees) if grown.is_queried(t)]
    return torch.tensor([i for row in rows for i in row], dtype=torch.int32)


def zero_shot_rows(name: str, answers: dict[str, pd.DataFrame], zero_shot: dict[str, torch.Tensor]) -> pd.DataFrame:
    """Rows of the untrained P(True) (Kadavath et al. 2022), for every model's test and validation answers."""
    frames = [example_rows(frame, method="zero_shot", reader=name, scored=scored, logit=zero_shot[scored]) for scored, frame in answers.items()]
    table = pd.concat(frames, ignore_index=True)
    return table[table["split"] != "train"].reset_index(drop=True)
