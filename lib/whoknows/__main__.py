"""The command line: `whoknows COMMAND …`, or `python -m whoknows COMMAND …`."""

import argparse
import importlib
import os
import sys

from whoknows import WhoknowsError

# Name: the function that takes the other arguments, in a module that is imported if it is asked for, and what it does.
COMMANDS = {
    "new": ("run.new:main", "write a folder with a grid and questions of your own, to begin with"),
    "check": ("run.grid:main", "check a grid, and fetch the models and questions that it names"),
    "workflow": ("run.workflow:main", "run a grid's stages, or say which would run"),
    "run": ("run.notebook:main", "run one notebook with other parameters"),
    "shard": ("run.shard:main", "do a share of a stage's questions, as one of several jobs"),
    "book": ("report.book:main", "build a grid's report"),
    "pdf": ("report.pdf:main", "the same, and print it"),
    "pack": ("report.pack:main", "pack a grid's results, to be shown beside another's"),
    "archive": ("report.archive:main", "bundle a finished run with its report, for a release or an archive"),
    "compare": ("report.compare:main", "differences between finished runs, cell by cell"),
    "bench": ("lab.bench:main", "measure the speed of a grid's models"),
    "score": ("use.commands:score", "P(correct) of new questions and answers"),
    "serve": ("use.commands:serve", "the same over HTTP"),
    "push": ("use.commands:push", "send a trained estimator to the Hugging Face hub"),
}


def main(arguments: list[str] | None = None) -> int:
    """Runs a command.

    Returns:
        The exit status: 2 after a mistake that the user can mend, whose sentence goes to stderr; 130 after Ctrl-C, as a
        shell has it; else what the command returns, or 0.
    """
    epilog = "\n".join(["commands:", *(f"  {name:10}{does}" for name, (_, does) in COMMANDS.items())])
    about = {"description": "Confidence estimation for language models.", "epilog": epilog}
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(prog="whoknows", formatter_class=raw, **about)
    parser.add_argument("command", choices=COMMANDS, metavar="command", help="one of these; it has a --help of its own")
    parser.add_argument("arguments", nargs=argparse.REMAINDER, help=argparse.SUPPRESS)
    options = parser.parse_args((sys.argv[1:] if arguments is None else arguments) or ["--help"])
    module, function = COMMANDS[options.command][0].split(":")
    try:
        status = getattr(importlib.import_module(f"whoknows.{module}"), function)(options.arguments) or 0
        sys.stdout.flush()
        return status
    except WhoknowsError as error:
        print(error, file=sys.stderr)
        return 2
    except BrokenPipeError:  # whoever reads what is printed has had enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # else Python complains when it ends
        return 0
    except KeyboardInterrupt:
        print("Stopped; what was finished is kept.", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main())
