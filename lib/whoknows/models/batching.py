"""Batches: of how many tokens, measured from the memory that is free, and on the way to a GPU and back."""

from collections.abc import Callable, Iterator
from itertools import groupby
from typing import Any

import torch

from whoknows import WhoknowsError

FEW = 2048  # of a first pass, and of every pass on a CPU, where more bring nothing
MOST = 16384  # a GPU is busy by then, and what it has done is brought away while it does more
SHARE = 0.8  # of the free memory; the rest is lost between tensors
LESSONS = 4  # passes after which only a costlier one changes the budget


def batches(lengths: list[int], batch_tokens: int) -> list[list[int]]:
    """Indices in order of length, cut so that rows times the longest row stays within the token budget."""
    parts: list[list[int]] = []
    for index in sorted(range(len(lengths)), key=lambda i: (-lengths[i], i)):
        if not parts or (len(parts[-1]) + 1) * lengths[parts[-1][0]] > batch_tokens:
            parts.append([])
        parts[-1].append(index)
    return parts


def of_one_length(lengths: list[int]) -> list[list[int]]:
    """Indices of texts, grouped by length: texts of one length need no padding."""
    in_order = sorted(range(len(lengths)), key=lengths.__getitem__)
    return [list(same) for _, same in groupby(in_order, lengths.__getitem__)]


class DoesNotFit(WhoknowsError):
    """A text does not fit into memory, or too few of them."""


class TokenBudget:
    """Tokens, rows times columns, of one forward pass.

    Args:
        tokens: how many; None for as many as fit, which the passes themselves show: the first one is small, and what
            it took at its highest says how large the next may be.
        most: no pass is larger, whatever fits; if fewer than `least` fit, memory counts as too small.
    """

    def __init__(self, tokens: int | None, device: torch.device, most: int = MOST, least: int = 0):
        self.device, self.most, self.least = device, most, least
        self.learns = tokens is None and device.type == "cuda"
        self.tokens = FEW if tokens is None else tokens
        self.passes, self.worst = 0, 0.0

    def run(self, work: Callable[[list[int]], object], lengths: list[int]) -> Iterator[tuple[list[int], Any]]:
        """Each batch of texts with what `work` makes of it.

        If memory runs out the budget is halved and the batch tried again, so `work` may be called twice with the same
        text. Tensors in the tuples that `work` returns are copied to the CPU while the GPU runs the next batch.

        Raises:
            DoesNotFit: memory is too small for a text alone, or for `least` tokens.
        """
        waiting, before = self._cut(list(range(len(lengths))), lengths), None
        while waiting:
            batch, *rest = waiting
            budget, result = self.tokens, self._try(work, batch, len(batch) * lengths[batch[0]])
            if result is not None:
                waiting = rest
                ready, before = before, (batch, _send_back(result))
                if ready:
                    yield ready[0], _arrived(ready[1])
            elif len(batch) == 1 or self.tokens < self.least:
                raise DoesNotFit(
                    f"a text of {lengths[batch[0]]} tokens does not fit into the free memory of {self.device}: "
                    "set precision: 4bit in the grid, or leave its task out"
                )
            if self.tokens != budget:
                waiting = self._cut([t for left in waiting for t in left], lengths)
        if before:
            yield before[0], _arrived(before[1])

    def _cut(self, texts: list[int], lengths: list[int]) -> list[list[int]]:
        return [[texts[i] for i in batch] for batch in batches([lengths[t] for t in texts], self.tokens)]

    def _try(self, work, batch: list[int], size: int):
        """The result of the work, or None and half the budget if memory ran out."""
        if self.learns:
            torch.cuda.reset_peak_memory_stats(self.device)
            held = torch.cuda.memory_allocated(self.device)
        try:
            result = work(batch)
        except torch.OutOfMemoryError:
            result = None
        if result is None:  # not above: while an exception is handled, its traceback keeps the tensors
            torch.cuda.empty_cache()
            self.tokens, self.learns = min(self.tokens, size) // 2, False
        elif self.learns:
            self._learn((torch.cuda.max_memory_allocated(self.device) - held) / size)
        return result

    def _learn(self, bytes_per_token: float) -> None:
        """Sets the budget to SHARE * free memory / bytes per token of the costliest pass so far.

        A pass that costs no more changes nothing, and querying the GPU takes time.
        """
        self.passes += 1
        if bytes_per_token <= self.worst and self.passes > LESSONS:
            return
        # The first pass counts for less: it is small, and some of what it took is not for its tokens.
        self.worst = bytes_per_token if self.passes <= 2 else max(bytes_per_token, self.worst)
        free = torch.cuda.mem_get_info(self.device)[0]
        free += torch.cuda.memory_reserved(self.device) - torch.cuda.memory_allocated(self.device)
        self.tokens = min(self.most, int(SHARE * free / max(1, self.worst)))


def send(tensor: torch.Tensor, on: torch.device) -> torch.Tensor:
    """A tensor of the CPU on another device, without waiting for what that device is doing."""
    return tensor.pin_memory().to(on, non_blocking=True) if on.type == "cuda" else tensor


def fetch(tensor: torch.Tensor) -> torch.Tensor:
    """A copy on the CPU, in pinned memory, which the GPU writes to at the speed of the bus between them."""
    return torch.empty_like(tensor, device="cpu", pin_memory=True).copy_(tensor) if tensor.is_cuda else tensor


def _send_back(result):
    """The same, with tensors on their way to the CPU, and an event after them."""
    if not isinstance(result, tuple) or not any(isinstance(part, torch.Tensor) and part.is_cuda for part in result):
        return result, None
    moved = tuple(part.to("cpu", non_blocking=True) if isinstance(part, torch.Tensor) else part for part in result)
    event = torch.cuda.Event()
    event.record()
    return moved, event


def _arrived(sent):
    result, event = sent
    if event:
        event.synchronize()
    return result
