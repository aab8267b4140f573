"""Waiting for what other threads and processes do."""

from time import monotonic, sleep


def until(condition, seconds: float = 120):
    """Returns once a condition holds; fails if it does not hold in so many seconds."""
    end = monotonic() + seconds
    while not condition():
        assert monotonic() < end, f"waited for {seconds} s in vain"
        sleep(0.01)
