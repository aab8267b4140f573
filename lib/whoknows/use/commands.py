"""The commands that use a trained estimator: `whoknows score`, `whoknows serve` and `whoknows push`."""

import argparse
import os
import select
import sys
import warnings
from collections.abc import Iterable, Iterator
from contextlib import closing
from functools import partial
from pathlib import Path

# While they wait for each other, threads leave their cores to whoever has work: with a busy neighbour on one core, all
# would spin most of their time. OpenMP reads it when PyTorch is imported, which happens below.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

from whoknows import WhoknowsError
from whoknows.data import assets, tables
from whoknows.use import cards, outputs, share

FOLDER = "folder of a trained estimator, under results/…/estimators"
SCORE = """Adds to every row of the input the confidence of a trained estimator: p_correct, the probability that the
answer is right, and its logit. A row has the texts question and answer; other columns are kept. JSON lines, CSV, TSV
and Parquet are read and written, by the end of the file's name; any other file, and standard input, has JSON lines."""
SERVE = """Answers over HTTP what `whoknows score` answers: POST /score takes JSON lines, a JSON object or a list of
objects with question and answer, and gives them back with p_correct and logit. GET /health says what is served."""
PUSH = """Sends the folder of a trained estimator, with its model card, to the Hugging Face hub. Everybody can see it
there, unless --private is given."""


def score(arguments: list[str]) -> None:
    """The command line of `whoknows score`; only rows go to stdout."""
    parser = _parser("score", SCORE)
    parser.add_argument("--input", default="-", metavar="FILE", help="standard input if not given")
    to = "where the same rows go, in the same form; a run that was killed goes on; standard output if not given"
    parser.add_argument("--output", type=Path, metavar="FILE", help=to)
    names = "names of the columns, where they are others: question=NAME answer=NAME"
    parser.add_argument("--columns", nargs="+", type=_column, default=[], metavar="OURS=NAME", help=names)
    many = "rows that are scored together; from a pipe fewer, where no other is waiting; 1 for each at once (1024)"
    parser.add_argument("--lines", type=_positive, default=1024, metavar="N", help=many)
    options = parser.parse_args(arguments)
    tables.refuse_workbook(options.input)
    kind, is_pipe = outputs.kind(options.input), options.input == "-"
    if options.output and outputs.kind(options.output) != kind:
        raise WhoknowsError(f"{options.output}: the input is {kind[1:]}, so name an output that ends with {kind}.")
    if not options.output and kind == ".parquet":
        raise WhoknowsError(f"{options.input}: Parquet needs a file to be written to; name one with --output.")
    tqdm = _quiet()
    from whoknows.use import predict

    columns = predict.COLUMNS | dict(options.columns)
    table = outputs.Table(options.input, columns) if kind in outputs.TABLES else None
    source = None if table else _opened(options.input)
    name = "standard input" if is_pipe else options.input
    total = None
    if table:
        rows = table.rows
        total = predict.require(rows, name, columns, "write text into this cell, or remove the row")
    else:
        if not is_pipe and Path(options.input).is_file():  # others can be read only once
            total = predict.require(predict.lines(source, name), name, columns)
            source.seek(0)
        # What goes to a file waits for whole chunks: whether a run was killed shall make no difference.
        rows = predict.lines(_arriving(source.fileno()) if is_pipe and not options.output else source, name)
    estimator = _load(options)
    hidden = not sys.stderr.isatty() or (not options.output and sys.stdout.isatty())
    form = table.form if table else outputs.as_lines
    with tqdm(total=total, unit="answer", disable=hidden) as bar:
        results = partial(predict.stream, estimator, rows, name, options.lines, columns, done=bar.update)
        if options.output:
            with closing(outputs.Part(options.output, [estimator.identity, columns])) as part:
                _save(part, results, table)
        else:
            _print(form(results()))


def serve(arguments: list[str]) -> None:
    """The command line of `whoknows serve`; ends with Ctrl-C, or when it is told to terminate."""
    parser = _parser("serve", SERVE)
    parser.add_argument("--host", default="127.0.0.1", help="address to listen at; others than this machine need one")
    parser.add_argument("--port", type=_port, default=8000, help="0 takes any that is free (default: 8000)")
    options = parser.parse_args(arguments)
    _quiet()
    from whoknows.use import server

    server.run(options.host, options.port, partial(_load, options))


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


def _parser(name: str, about: str) -> argparse.ArgumentParser:
    """The options of the commands that load an estimator."""
    parser = argparse.ArgumentParser(prog=f"whoknows {name}", description=about)
    where = f"{FOLDER}, or a repository on the Hugging Face hub, owner/name"
    parser.add_argument("--estimator", required=True, metavar="DIR", help=where)
    which = "which estimator of the folder, such as probe_mlp; the only one, or probe, if not given"
    parser.add_argument("--method", help=which)
    return parser


def _load(options: argparse.Namespace):
    """The estimator, once stderr has said what it is."""
    from whoknows.use import predict

    estimator = predict.load(options.estimator, options.method)
    about = "{method}: reader {reader}, trained on answers of {trained_on} to ".format(**estimator.card)
    about += ", ".join(estimator.card["tasks"])  # others may have written the card, and a terminal obeys some signs
    print("".join(sign if sign.isprintable() else "?" for sign in about), file=sys.stderr, flush=True)
    return estimator


def _quiet() -> type:
    """Has libraries say nothing; gives tqdm, which draws the bars that are asked for expressly."""
    # Every batch would draw a bar of its own; tqdm asks once, when it is imported.
    os.environ.setdefault("TQDM_DISABLE", "1")
    warnings.simplefilter("ignore", FutureWarning)  # what they say of each other's next versions
    from tqdm import tqdm

    return tqdm


def _save(part: outputs.Part, results, table: outputs.Table | None) -> None:
    """Scores all rows, of which a killed run may have left some, and then writes them."""
    try:
        for _ in results(part=part):
            pass
    except WhoknowsError as error:
        raise WhoknowsError(
            f"{error} What was scored before is in {part.path}; the same command goes on from there."
        ) from None
    if table and table.kind == ".parquet":
        outputs.write_parquet(part.output, table.path, part.rows())
    else:
        outputs.write(part.output, table.form if table else outputs.as_lines, part.rows())
    part.remove()


def _print(lines: Iterable[str]) -> None:
    """Writes each line as soon as it is known."""
    # Half a character, which JSON may hold and UTF-8 may not, is written as JSON writes it.
    sys.stdout.reconfigure(encoding="utf-8", errors="backslashreplace")
    for line in lines:
        print(line, end="", flush=True)


def _opened(path: str):
    try:
        return sys.stdin.buffer if path == "-" else open(path, "rb")
    except OSError as error:
        raise WhoknowsError(
            f"{path}: this file cannot be read ({error.strerror}); name a file of rows, or - for standard input"
        ) from None


def _arriving(pipe: int) -> Iterator[bytes | None]:
    """Lines of a pipe, by its number, and None where the next one is not there yet."""
    begun: list[bytes] = []
    while True:
        if not select.select([pipe], [], [], 0)[0]:
            yield None
        data = os.read(pipe, 2**16)
        first, *others = data.split(b"\n")
        begun.append(first)
        for more in others:
            yield b"".join(begun)
            begun = [more]
        if not data:
            yield b"".join(begun)
            return


def _column(text: str) -> tuple[str, str]:
    ours, _, theirs = text.partition("=")
    if ours not in ("question", "answer") or not theirs:
        raise argparse.ArgumentTypeError(f"{text!r} names no column; write question=NAME or answer=NAME")
    return ours, theirs


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text} is no number of lines; give 1 or more")
    return int(text)


def _port(text: str) -> int:
    if not text.isdecimal() or int(text) > 65535:
        raise argparse.ArgumentTypeError(f"{text} is no port; give a number up to 65535")
    return int(text)
