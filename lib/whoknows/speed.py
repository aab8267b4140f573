"""Speed: two ways of doing the same in turns, and the machine's own limit on a model's matrices."""

import statistics
import time

import torch
from torch import nn

from whoknows.models import Reader

REPEATS, SECONDS = 3, 60.0  # so many turns of each way, but no further ones after this time
ROWS = 1024  # of the matrix products


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
    begin, times = time.perf_counter(), []
    while len(times) < REPEATS and (not times or time.perf_counter() - begin < SECONDS):
        times.append((ours(range(count)), theirs(range(count))))
    mine, other = map(statistics.median, zip(*times))
    rates = {"ours_per_second": count * each / mine, "plain_per_second": count * each / other, "ratio": other / mine}
    return rates | {"share_of_matmul_rate": least / mine, "unit": unit, "tokens_per_second": tokens / mine, "repeats": len(times)}


def seconds(work) -> float:
    """How long a function of no arguments takes, the accelerator's part included."""
    begin = time.perf_counter()
    work()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - begin


@torch.inference_mode()
def matmul_rate(reader: Reader) -> float:
    """Floating-point operations per second of the products of 1024 rows with all matrices of the model's blocks."""
    matrices = [module.weight for module in reader.base.layers.modules() if isinstance(module, nn.Linear)]
    inputs = {w.shape[1]: torch.randn(ROWS, w.shape[1], dtype=w.dtype, device=w.device) for w in matrices}
    turns = [seconds(lambda: [inputs[w.shape[1]] @ w.T for w in matrices]) for _ in range(REPEATS + 1)]
    return 2 * ROWS * block_parameters(reader) / statistics.median(turns[1:])


def block_parameters(reader: Reader, first: int = 0, last: int | None = None) -> int:
    """Parameters of the matrices in blocks first … last-1 of a model without adapters."""
    linears = [m for block in reader.base.layers[first:last] for m in block.modules() if isinstance(m, nn.Linear)]
    return sum(linear.weight.numel() for linear in linears)
