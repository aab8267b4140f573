"""How every command line of this library ends."""

import sys
from collections.abc import Callable
from functools import wraps

from whoknows import WhoknowsError


def command(main: Callable[..., int | None]) -> Callable[..., int]:
    """Decorates a command line, which then returns an exit status.

    2 after a mistake that the user can mend, whose sentence goes to stderr; 130 after Ctrl-C, as a shell has
    it; else what the command line returns, or 0.
    """

    @wraps(main)
    def ended(*arguments) -> int:
        try:
            return main(*arguments) or 0
        except WhoknowsError as error:
            print(error, file=sys.stderr)
            return 2
        except KeyboardInterrupt:
            print("Stopped; what was finished is kept.", file=sys.stderr)
            return 130

    return ended
