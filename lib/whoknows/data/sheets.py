"""What a spreadsheet writes into a CSV or TSV file where it could not compute a cell."""

import re
from collections.abc import Iterable
from pathlib import Path

# In any language: #NAME? and #¿NOMBRE?, #DIV/0!, #N/A and #N/D and #NV, Err:502.
ERROR = re.compile(r"\s*(#[¡¿]?[^\W\d_]+(/0)?[!?]|#N/[AD]|#NV|Err:\d{3})\s*")


def check(path: Path | str, cells: Iterable) -> None:
    """Raises a ValueError if one of a line's cells is an error of the spreadsheet that wrote a CSV or TSV file."""
    is_written = Path(path).suffix.lower() in (".csv", ".tsv")
    wrong = next((cell for cell in cells if is_written and isinstance(cell, str) and ERROR.fullmatch(cell)), None)
    if wrong:
        why = "the spreadsheet could not compute this cell, or took a text for a formula"
        raise ValueError(f"{wrong.strip()!r} is an error: {why}; write its text anew, with an apostrophe before it")
