"""Decoding: two ways of a batch of examples through a decoder, which give the same.

`together` (and `final`, where the final hidden states alone are wanted) runs each example as one row, and computes and
keeps no more than what is needed. `alone` runs every branch as a separate text, as transformers would, without padding,
masks or anything that texts share: right for every causal model, and slower.
"""

from contextlib import ExitStack
from functools import partial
from itertools import accumulate

import torch
from torch import nn
from torch.nn import functional as F
from torch.nn.utils.rnn import pad_sequence

from whoknows import WhoknowsError
from whoknows.models.batching import of_one_length, send
from whoknows.models.packing import PackedExample, Places, collate, columns, only_at, upper
from whoknows.models.reader import Reader

Decoded = tuple[torch.Tensor, torch.Tensor, torch.Tensor | None]


def together(
    reader: Reader,
    examples: list[PackedExample],
    at: Places,
    sizes: list[int],
    ends: Places,
    first_block: int | None = None,
) -> Decoded:
    """One forward pass over some examples.

    Args:
        at: rows and columns of the tokens whose hidden states are wanted.
        sizes: [n] how many of them, one after the other, are averaged into each of n means; 1 for a single token.
        ends: rows and columns [m] of the tokens whose final hidden states are wanted for next-token logits.
        first_block: see Returns.

    Returns:
        (means of hidden states [n, layers + 1, width], output of the final norm [m, width] of `ends`,
        input of `first_block` [rows, columns, width] or None).
    """
    inputs = collate(examples, reader)
    states: list[torch.Tensor] = []
    kept: list[torch.Tensor] = []
    means = _Means(inputs["input_ids"].shape[1], at, sizes)

    def before(index: int, block: nn.Module, args: tuple, kwargs: dict) -> None:
        hidden = args[0] if args else kwargs["hidden_states"]
        states.append(means(hidden))
        if index == first_block:
            kept.append(hidden)

    with ExitStack() as hooks:
        for index, block in enumerate(reader.layers):
            hooks.enter_context(block.register_forward_pre_hook(partial(before, index), with_kwargs=True))
        hooks.enter_context(only_at(reader.layers[-1], torch.cat([at[0], ends[0]]), torch.cat([at[1], ends[1]])))
        last = reader.base(**inputs, use_cache=False).last_hidden_state
    return torch.stack([*states, means(last)], dim=1), last[ends], kept[0] if kept else None


def alone(reader: Reader, examples: list[PackedExample], at: Places, sizes: list[int], ends: Places) -> Decoded:
    """The same from `hidden_states`, without the input of any block."""
    states = hidden_states(reader, examples)
    means = _Means(states.shape[2], at, sizes)
    return torch.stack([means(hidden) for hidden in states], dim=1), states[-1][ends], None


def final(
    reader: Reader,
    examples: list[PackedExample],
    first: int,
    cached: list[torch.Tensor] | None,
    read: Places | None = None,
) -> torch.Tensor:
    """Final hidden states [rows, columns, width] of some examples, each as one row.

    What a model has between the embeddings and the first block runs in any case; the cached activations replace the
    input of block `first`.

    Args:
        cached: for each example [tokens, width], the residual stream at block `first`, below which no block is run;
            None runs all blocks.
        read: rows and columns of the tokens that are read; None for all. See `only_at`.
    """
    inputs = collate(examples, reader)
    base = reader.base if cached is None else upper(reader, first)
    with ExitStack() as hooks:
        if cached is not None:
            head, *others = cached
            head = F.pad(head, (0, 0, 0, inputs["input_ids"].shape[1] - len(head)))  # others are padded to its width
            stream = send(pad_sequence([head, *others], batch_first=True), reader.device)
            enter = partial(_enter, stream)
            hooks.enter_context(reader.layers[first].register_forward_pre_hook(enter, with_kwargs=True))
        if read:
            hooks.enter_context(only_at(reader.layers[-1], *read))
        return base(**inputs, use_cache=False).last_hidden_state


def _enter(stream: torch.Tensor, block: nn.Module, args: tuple, kwargs: dict) -> tuple[tuple, dict]:
    """The arguments of a block with the stream in place of its input."""
    return ((stream, *args[1:]), kwargs) if args else (args, kwargs | {"hidden_states": stream})


class _Means:
    """Means over some tokens of hidden states [rows, columns, width], in one kernel, which adds in float32."""

    def __init__(self, wide: int, at: Places, sizes: list[int]):
        self.flat = at[0] * wide + at[1]
        self.starts = send(torch.tensor([0, *accumulate(sizes)][:-1]), self.flat.device)

    def __call__(self, hidden: torch.Tensor) -> torch.Tensor:
        return F.embedding_bag(self.flat, hidden.flatten(0, 1), self.starts, mode="mean")


def last_hidden_state(reader: Reader, examples: list[PackedExample]) -> torch.Tensor:
    """The final one of `hidden_states` alone."""
    return hidden_states(reader, examples, every=False)[0]


def hidden_states(reader: Reader, examples: list[PackedExample], every: bool = True) -> torch.Tensor:
    """[layers, rows, columns, width] of every layer (index of transformers), or of the final one alone.

    Tokens are where `collate` puts them. Each pass is over texts of one length, without padding.

    Raises:
        WhoknowsError: the model gives something else than one vector of its width for each token and layer.
    """

    def read(ids: torch.Tensor) -> torch.Tensor:
        out = reader.base(input_ids=ids, use_cache=False, output_hidden_states=every)
        states = out.hidden_states if every else (out.last_hidden_state,)
        shapes = [tuple(state.shape) for state in states]
        if shapes != [(*ids.shape, reader.config.hidden_size)] * (reader.depth + 1 if every else 1):
            raise WhoknowsError(
                f"models: {reader.model.config._name_or_path} has {reader.depth} blocks, but does not give one hidden "
                f"state of {reader.config.hidden_size} numbers for each token before, between and after them; "
                "use another model as reader"
            )
        return torch.stack(states, dim=1)

    texts = [text for example in examples for text in example.texts()]
    states: list[torch.Tensor] = [torch.empty(0)] * len(texts)
    for same in of_one_length([len(text) for text in texts]):
        ids = torch.tensor([texts[i] for i in same], device=reader.device)
        for i, row in zip(same, read(ids)):
            states[i] = row
    wide, remaining, rows = columns(max(map(len, examples))), iter(states), []
    for example in examples:
        size, branches = len(example.question), [next(remaining) for _ in example.branches]
        row = torch.cat([branches[0][:, :size], *(branch[:, size:] for branch in branches)], dim=1)
        rows.append(F.pad(row, (0, 0, 0, wide - row.shape[1])))
    return torch.stack(rows, dim=1)
