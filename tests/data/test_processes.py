"""A process ends with the one that started it, and nothing fails where the system cannot do that."""

import ctypes
import signal
import subprocess
import sys
from functools import partial

import pytest

from whoknows.data import processes


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a process that its parent is gone")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_child_gets_the_signal_when_its_parent_is_killed(number):
    wait = f"signal.pthread_sigmask(signal.SIG_BLOCK, [{number}]); print(flush=True); print(signal.sigwait([{number}]))"
    child = f"import signal; {wait}"
    parent = (
        "import subprocess, sys; from functools import partial; from whoknows.data import processes; "
        f"tied = partial(processes.end_with_parent, {number}); "
        f"subprocess.run([sys.executable, '-c', {child!r}], preexec_fn=tied)"
    )
    with subprocess.Popen([sys.executable, "-c", parent], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "\n"
        process.kill()
        assert process.stdout.read() == f"{number}\n"  # it ends when the child has closed it, too


@pytest.mark.parametrize("missing", [OSError, AttributeError])
def test_without_such_a_system_it_does_nothing(monkeypatch, missing):
    def library(name):
        raise missing

    monkeypatch.setattr(ctypes, "CDLL", library)
    done = subprocess.run(["true"], preexec_fn=partial(processes.end_with_parent, signal.SIGINT))
    assert done.returncode == 0
    monkeypatch.setattr(sys, "platform", "darwin")
    processes.end_with_parent()
