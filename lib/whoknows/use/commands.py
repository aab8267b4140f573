"""The commands that use a trained estimator: `whoknows score` and `whoknows push`."""

import argparse
import json
import os
import sys
import warnings
from contextlib import nullcontext
from pathlib import Path

from whoknows import WhoknowsError
from whoknows.data import assets
from whoknows.use import cards, share

FOLDER = "folder of a trained estimator, under results/…/estimators"
SCORE = """Adds to every line of the input the confidence of a trained estimator: p_correct, the probability that the
answer is right, and its logit. A line is a JSON object with the texts question and answer; other keys are kept."""
PUSH = """Sends the folder of a trained estimator, with its model card, to the Hugging Face hub. Everybody can see it
there, unless --private is given."""


def score(arguments: list[str]) -> None:
    """The command line of `whoknows score`; only lines go to stdout."""
    parser = argparse.ArgumentParser(prog="whoknows score", description=SCORE)
    where = f"{FOLDER}, or a repository on the Hugging Face hub, owner/name"
    parser.add_argument("--estimator", required=True, metavar="DIR", help=where)
    which = "which estimator of the folder, such as probe_mlp; the only one, or probe, if not given"
    parser.add_argument("--method", help=which)
    parser.add_argument("--input", default="-", metavar="FILE", help="JSON lines; standard input if not given")
    many = "lines that are read before their confidences are written; 1 answers each at once (default: 64)"
    parser.add_argument("--lines", type=_positive, default=64, metavar="N", help=many)
    options = parser.parse_args(arguments)
    # Every batch would draw a bar of its own; tqdm asks once, when it is imported.
    os.environ.setdefault("TQDM_DISABLE", "1")
    warnings.simplefilter("ignore", FutureWarning)  # what libraries say of each other's next versions
    from tqdm import tqdm

    from whoknows.use import predict

    with _opened(options.input) as lines:
        estimator = predict.load(options.estimator, options.method)
        about = "{method}: reader {reader}, trained on answers of {trained_on} to ".format(**estimator.card)
        print(about + ", ".join(estimator.card["tasks"]), file=sys.stderr)
        name = "standard input" if options.input == "-" else options.input
        results = predict.stream(estimator, lines, name, options.lines)
        _write(tqdm(results, unit="answer", disable=sys.stdout.isatty() or not sys.stderr.isatty()))


def push(arguments: list[str]) -> None:
    """The command line of `whoknows push`; says what is sent before it is sent, and then where it is."""
    parser = argparse.ArgumentParser(prog="whoknows push", description=PUSH)
    parser.add_argument("--estimator", type=Path, required=True, metavar="DIR", help=FOLDER)
    where = "where it goes; made if it is not there"
    parser.add_argument("--repository", required=True, metavar="OWNER/NAME", help=where)
    parser.add_argument("--private", action="store_true", help="nobody else can see the repository")
    options = parser.parse_args(arguments)
    paths = cards.whole(options.estimator)
    sizes = {path.name: path.stat().st_size for path in paths}
    for name, size in (sizes | {f"{len(sizes)} files": sum(sizes.values())}).items():
        print(f"{size / 1e3:>10,.1f} kB  {name}", flush=True)
    for source in {card["source"] for card in cards.read(options.estimator).values()}:
        if not assets.on_hub(assets.base(source)):
            print(f"Its reader is {source}, which the card names and others do not have.", file=sys.stderr)
    print(share.push(paths, options.repository, options.private))


def _write(results) -> None:
    """Writes each line as soon as it is known."""
    # Half a character, which JSON may hold and UTF-8 may not, is written as JSON writes it.
    sys.stdout.reconfigure(encoding="utf-8", errors="backslashreplace")
    for line in results:
        print(json.dumps(line, ensure_ascii=False), flush=True)


def _opened(path: str):
    try:
        return nullcontext(sys.stdin.buffer) if path == "-" else open(path, "rb")
    except OSError as error:
        raise WhoknowsError(
            f"{path}: this file cannot be read ({error.strerror}); name a file of JSON lines, or - for standard input"
        ) from None


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text} is no number of lines; give 1 or more")
    return int(text)
