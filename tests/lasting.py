"""A process of several that goes on until it is ended: `distributed.launch` runs this in each of them."""

import os
import time
from pathlib import Path

from whoknows.models import distributed


def last(out: str) -> None:
    """Names itself and the one that started it, as a file and its text, and waits."""
    Path(out, f"{os.getpid()}").write_text(f"{os.getppid()}")
    time.sleep(300)


distributed.join(last)
