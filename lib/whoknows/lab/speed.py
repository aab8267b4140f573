"""Speed: two ways of doing the same in turns, and the machine's own limit on a model's matrices."""

import math
import statistics
import time

import torch
from torch import nn

from whoknows.models.loading import Reader

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
    """Floating-point operations per second of the products of many rows with matrices like all those of the model's blocks."""
    rows, kind = ROWS[reader.device.type], {"dtype": reader.head.dtype, "device": reader.device}
    linears = [module for module in reader.layers.modules() if isinstance(module, nn.Linear)]
    unpacked = {(m.out_features, m.in_features): torch.randn(m.out_features, m.in_features, **kind) for m in linears if not m.weight.is_floating_point()}
    matrices = [m.weight if m.weight.is_floating_point() else unpacked[m.out_features, m.in_features] for m in linears]
    inputs = {width: torch.randn(rows, width, **kind) for width in {m.in_features for m in linears}}
    turns = [seconds(lambda: [inputs[w.shape[1]] @ w.T for w in matrices]) for _ in range(REPEATS + 1)]
    return 2 * rows * block_parameters(reader) / statistics.median(turns[1:])


def block_parameters(reader: Reader, first: int = 0, last: int | None = None) -> int:
    """Parameters of the matrices in blocks first … last-1 of a model without adapters."""
    linears = [m for block in reader.layers[first:last] for m in block.modules() if isinstance(m, nn.Linear)]
    return sum(linear.in_features * linear.out_features for linear in linears)
