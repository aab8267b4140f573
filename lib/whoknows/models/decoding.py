"""Decoding: two ways of a batch of examples through a decoder, which give the same.

`together` (and `final`, where the final hidden states alone are wanted) runs each example as one row, and computes and
keeps no more than what is needed. `alone` runs every branch as a separate text, as transformers would, without padding,
masks or anything that texts share: right for every causal model, and slower.
"""

from collections.abc import Sequence
from contextlib import ExitStack
from functools import partial
from itertools import accumulate

import torch
from torch import nn
from torch.nn import functional as F
from torch.nn.utils.rnn import pad_sequence

from whoknows.models.batching import of_one_length, send
from whoknows.models.packing import PackedExample, collate, columns, only_at, upper
from whoknows.models.reader import Reader

Places = tuple[torch.Tensor, torch.Tensor]
Decoded = tuple[torch.Tensor, torch.Tensor, torch.Tensor | None]


def together(
    reader: Reader, examples: list[PackedExample], at: Places, sizes: list[int], ends: Places, first_block: int | None
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

    def before_block(index: int):
        def hook(module: nn.Module, args: tuple, kwargs: dict) -> None:
            hidden = args[0] if args else kwargs["hidden_states"]
            states.append(means(hidden))
            if index == first_block:
                kept.append(hidden)

        return hook

    with ExitStack() as hooks:
        for index, block in enumerate(reader.layers):
            handle = block.register_forward_pre_hook(before_block(index), with_kwargs=True)
            hooks.callback(handle.remove)
        hooks.enter_context(only_at(reader.layers[-1], torch.cat([at[0], ends[0]]), torch.cat([at[1], ends[1]])))
        last = reader.base(**inputs, use_cache=False).last_hidden_state
    return torch.stack([*states, means(last)], dim=1), last[ends], kept[0] if kept else None


def alone(
    reader: Reader,
    examples: list[PackedExample],
    at: Places,
    sizes: list[int],
    ends: Places,
    first_block: int | None = None,
) -> Decoded:
    """The same from `hidden_states`; nothing is kept for `first_block`."""
    *lower, last = hidden_states(reader, examples)
    means = _Means(last.shape[1], at, sizes)
    return torch.stack([means(hidden) for hidden in (*lower, last)], dim=1), last[ends], None


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
            stream = _padded(cached, inputs["input_ids"].shape[1], reader.device)
            handle = reader.layers[first].register_forward_pre_hook(partial(_enter, stream), with_kwargs=True)
            hooks.callback(handle.remove)
        if read:
            hooks.enter_context(only_at(reader.layers[-1], *read))
        return base(**inputs, use_cache=False).last_hidden_state


def _padded(streams: list[torch.Tensor], wide: int, on: torch.device) -> torch.Tensor:
    """[rows, columns, width] of some [tokens, width]."""
    first, *rest = streams
    first = F.pad(first, (0, 0, 0, wide - len(first)))  # `pad_sequence` pads the others to the width of this one
    return send(pad_sequence([first, *rest], batch_first=True), on)


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


def hidden_states(reader: Reader, examples: list[PackedExample]) -> Sequence[torch.Tensor]:
    """Of every layer (index of transformers) [rows, columns, width], where `collate` puts the tokens; text by text."""
    return _laid_out(examples, texts_alone(reader, _texts(examples), lambda out: torch.stack(out.hidden_states, dim=1)))


def last_hidden_state(reader: Reader, examples: list[PackedExample]) -> torch.Tensor:
    """The final one of `hidden_states` alone."""
    last = texts_alone(reader, _texts(examples), lambda out: out.last_hidden_state[:, None], every=False)
    return _laid_out(examples, last)[0]


def texts_alone(reader: Reader, texts: list[list[int]], kept, every: bool = True) -> list[torch.Tensor]:
    """What is kept of each text, from passes over texts of one length, which need no padding.

    Args:
        kept: from the decoder's output for some texts to a tensor with a row for each.
        every: whether the decoder gives the hidden states of all layers.
    """
    results: list[torch.Tensor] = [torch.empty(0)] * len(texts)
    for same in of_one_length([len(text) for text in texts]):
        ids = torch.tensor([texts[i] for i in same], device=reader.device)
        for i, row in zip(same, kept(reader.base(input_ids=ids, use_cache=False, output_hidden_states=every))):
            results[i] = row
    return results


def _texts(examples: list[PackedExample]) -> list[list[int]]:
    return [example.question + branch for example in examples for branch in example.branches]


def _laid_out(examples: list[PackedExample], states: list[torch.Tensor]) -> torch.Tensor:
    """[layers, rows, columns, width] from [layers, tokens, width] of each branch with its question."""
    wide, remaining, rows = columns(max(map(len, examples))), iter(states), []
    for example in examples:
        size, texts = len(example.question), [next(remaining) for _ in example.branches]
        row = torch.cat([texts[0][:, :size], *(text[:, size:] for text in texts)], dim=1)
        rows.append(F.pad(row, (0, 0, 0, wide - row.shape[1])))
    return torch.stack(rows, dim=1)
