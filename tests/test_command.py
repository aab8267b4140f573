"""A command line ends with one sentence and a status, never with a traceback."""

import importlib
import os
import re
import shlex
import subprocess
import sys

import pytest

from whoknows import WhoknowsError, __main__
from whoknows.data.files import ROOT
from whoknows.use import commands

pytestmark = pytest.mark.slow


@pytest.fixture()
def ends(monkeypatch):
    """Runs a command that ends as it is told."""

    def run(end):
        monkeypatch.setattr(commands, "push", lambda arguments: end())
        return __main__.main(["push", "--estimator", "x"])

    return run


@pytest.mark.parametrize(("result", "status"), [(None, 0), (0, 0), (1, 1)])
def test_the_status_is_what_is_returned(ends, result, status):
    assert ends(lambda: result) == status


@pytest.mark.parametrize(
    ("error", "status", "message"), [(WhoknowsError("mend it"), 2, "mend it"), (KeyboardInterrupt(), 130, "Stopped")]
)
def test_an_end_that_is_no_fault_of_ours_is_one_sentence(ends, error, status, message, capsys):
    def end():
        raise error

    assert ends(end) == status
    assert capsys.readouterr().err.startswith(message)


def test_a_fault_of_ours_is_not_hidden(ends):
    with pytest.raises(ZeroDivisionError):
        ends(lambda: 1 / 0)


@pytest.mark.parametrize("name", __main__.COMMANDS)
def test_every_command_says_what_it_takes(name, capsys):
    with pytest.raises(SystemExit) as ended:
        __main__.main([name, "--help"])
    assert ended.value.code == 0 and capsys.readouterr().out.startswith(f"usage: whoknows {name} ")


def test_help_names_every_command(capsys):
    with pytest.raises(SystemExit):
        __main__.main(["--help"])
    text = capsys.readouterr().out
    assert all(f"  {name}" in text and does in text for name, (_, does) in __main__.COMMANDS.items())


@pytest.mark.parametrize("name", ["README.md", "book/use.md"])
def test_the_commands_that_are_shown_are_understood(name, monkeypatch):
    understood = []
    monkeypatch.setattr(
        importlib.import_module("whoknows.use.predict"), "load", lambda *options: understood.append("score") or 1 / 0
    )
    monkeypatch.setattr(commands.cards, "whole", lambda folder: understood.append("push") or 1 / 0)
    monkeypatch.setattr(commands, "_opened", lambda path: open("/dev/null", "rb"))
    monkeypatch.setattr(commands.outputs, "Table", lambda *_: None)
    monkeypatch.setattr(importlib.import_module("whoknows.use.server"), "run", lambda host, port, load: load())
    text = (ROOT / name).read_text()
    shown = [
        line
        for block in re.findall(r"(?ms)^```sh\n(.+?)^```", text)
        for line in block.splitlines()
        if re.match(r"(\.venv/bin/)?whoknows (score|serve|push) ", line)
    ]
    for line in shown:
        with pytest.raises(ZeroDivisionError):
            __main__.main(shlex.split(line.split(">")[0])[1:])
    assert {*understood} == {"score", "push"} and len(understood) == len(shown)


def test_who_reads_only_the_beginning_sees_no_traceback():
    code = (
        "import sys; from whoknows import __main__; from whoknows.use import commands; "
        "commands.push = lambda _: print('line\\n' * 100000); sys.exit(__main__.main(['push']))"
    )
    command = [sys.executable, "-c", code]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=os.environ | {"PYTHONPATH": str(ROOT / "lib")}
    ) as running:
        assert running.stdout.readline() == b"line\n"
        running.stdout.close()
        assert running.wait(60) == 0 and running.stderr.read() == b""


def test_without_a_command_it_shows_all_of_them(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["whoknows"])
    with pytest.raises(SystemExit):
        __main__.main()
    assert "commands:" in capsys.readouterr().out
