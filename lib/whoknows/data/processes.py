"""Processes that do not outlive the one that started them."""

import ctypes
import signal
import sys
from contextlib import suppress


def end_with_parent(number: int = signal.SIGTERM) -> None:
    """Has Linux send the process that calls this a signal when the one that started it dies (prctl, PR_SET_PDEATHSIG).

    A child calls it as the `preexec_fn` of `subprocess`, or itself. Elsewhere than on Linux it does nothing.
    """
    if sys.platform == "linux":
        with suppress(OSError, AttributeError):  # a Python that was linked without a C library of the system's
            ctypes.CDLL(None).prctl(1, number)
