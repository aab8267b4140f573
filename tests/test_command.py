"""A command line ends with one sentence and a status, never with a traceback."""

import re
import shlex
from pathlib import Path

import pytest

from whoknows import WhoknowsError, __main__
from whoknows.command import command


@pytest.mark.parametrize(("result", "status"), [(None, 0), (0, 0), (1, 1)])
def test_the_status_is_what_is_returned(result, status):
    assert command(lambda: result)() == status


@pytest.mark.parametrize(("error", "status", "said"), [(WhoknowsError("mend it"), 2, "mend it"), (KeyboardInterrupt(), 130, "Stopped")])
def test_an_end_that_is_no_fault_of_ours_is_one_sentence(error, status, said, capsys):
    @command
    def main():
        raise error

    assert main() == status
    assert capsys.readouterr().err.startswith(said)


def test_a_fault_of_ours_is_not_hidden():
    with pytest.raises(ZeroDivisionError):
        command(lambda: 1 / 0)()


@pytest.mark.parametrize("name", ["README.md", "book/use.md"])
def test_the_commands_that_are_shown_are_understood(name):
    text = (Path(__file__).parents[1] / name).read_text()
    shown = [line for block in re.findall(r"(?ms)^```sh\n(.+?)^```", text) for line in block.splitlines() if re.match(r"(\.venv/bin/)?whoknows ", line)]
    asked = [__main__._parser().parse_args(shlex.split(line.split(">")[0])[1:]) for line in shown]
    assert {options.run for options in asked} == {__main__._score, __main__._push}
