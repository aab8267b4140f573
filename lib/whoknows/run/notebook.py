"""Runs a notebook with papermill and keeps its page: `python -m whoknows run NOTEBOOK.py PAGE.ipynb --params JSON`."""

import argparse
import json
import os
import re
import shutil
import signal
import sys
import tempfile
import threading
import time
import uuid
from pathlib import Path

from whoknows import WhoknowsError
from whoknows.data import files, hub
from whoknows.data.files import ROOT
from whoknows.run import gpus, provenance

WORKFLOW = "WHOKNOWS_WORKFLOW"  # process id of the workflow that this run belongs to, and its host
# Where ipywidgets is installed, tqdm.auto draws its bars as widgets, which neither a terminal nor a log can show.
PLAIN_BARS = "import sys, tqdm; sys.modules['tqdm.autonotebook'] = tqdm; del sys, tqdm"
PATIENCE = 900  # seconds that a kernel may take to start: a busy machine needs more than papermill's minute


class StageFailed(Exception):
    """The notebook raised an error; says which, and where the notebook with the error is."""


def run(notebook: Path, page: Path, values: dict, title: str = "", log: Path | None = None) -> None:
    """Runs a py:percent notebook and writes its page, or `<page>.failed.ipynb` if a cell fails.

    Args:
        values: parameters, in types that JSON has.
        title: what this run is of, added to the page's first heading.
        log: file that gets the progress and the warnings.

    Raises:
        WhoknowsError: there is no such notebook, or it has no such parameter, or the parameter cannot be that.
        StageFailed: a cell raised an error.
    """
    import nbformat

    from whoknows.run import page as pages

    source = _read(notebook)
    known = pages.parameters(source)
    # papermill only logs a parameter that the notebook does not have, and runs with the default.
    for name in values:
        if name not in known:
            names = ", ".join(known) or "none"
            raise WhoknowsError(f"{notebook}: it has no parameter `{name}`; its parameters are {names}.")
    parameters = {**known, **values}
    if WORKFLOW not in os.environ:  # whose grid is checked already
        from whoknows.run.parameters import check

        check({name: parameters.get(name) for name in ("trained_on", "answers")} | values, f"{notebook}: ")
    failed, progress = page.with_suffix(".failed.ipynb"), _Progress(f"{notebook.stem} {title}".strip(), log)
    progress.say("started")
    inputs = provenance.inputs(parameters)
    start = time.monotonic()
    executed, mistake = _execute(source, values, progress)
    if mistake:
        files.write_text(failed, hub.hide(nbformat.writes(executed)))
        progress.say(f"failed: {mistake}")
        progress.say(f"the notebook with the error: {failed}")
        raise StageFailed(mistake)
    seconds = round(time.monotonic() - start, 1)
    about = {"stage": notebook.stem, "title": title, "parameters": parameters, "inputs": inputs}
    about |= {"outputs": provenance.outputs(parameters), "seconds": seconds, "warnings": progress.warnings}
    about |= provenance.precision(parameters) | provenance.surroundings()
    files.write_text(page, nbformat.writes(pages.clean(executed, title, about)))
    failed.unlink(missing_ok=True)
    progress.say(f"done in {seconds:.0f} s")


def _read(notebook: Path):
    import jupytext

    try:
        source = jupytext.read(notebook, fmt="py:percent")
    except OSError as error:
        raise WhoknowsError(f"{notebook}: this notebook cannot be read ({error.strerror}).") from None
    # papermill wants to know it, and a script does not say it.
    source.metadata.kernelspec = {"name": "python3", "language": "python", "display_name": "Python 3"}
    return source


def _execute(source, values: dict, progress) -> tuple:
    """Runs the cells in a fresh kernel, which ends with this process; gives what became of them, and what failed."""
    import nbformat
    import papermill
    from nbclient.exceptions import DeadKernelError
    from traitlets.config import Config

    _set_environment(progress.name)
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "out.ipynb"
        options = {"kernel_name": "python3", "progress_bar": False, "stderr_file": progress}
        options |= {"extra_arguments": ["--log-level=40", f"--IPKernelApp.exec_lines={PLAIN_BARS}"]}
        # Linux's abstract sockets: a free TCP port may be taken by another run before the kernel binds it.
        socket = {"transport": "ipc", "ip": f"@whoknows-{uuid.uuid4()}"}
        options |= {"shutdown_kernel": "immediate", "config": Config(KernelManager=socket), "start_timeout": PATIENCE}
        try:
            return papermill.execute_notebook(source, str(out), values, **options), ""
        except papermill.PapermillExecutionError as error:
            sentence = error.evalue if error.ename == "WhoknowsError" else f"{error.ename}: {error.evalue}"
            message = sentence.strip().splitlines()[-1]
        except DeadKernelError:
            message = "the notebook's process was killed; the machine may have run out of memory"
        return nbformat.read(out, as_version=4), message


def _set_environment(name: str) -> None:
    """What the kernel inherits: this very library, and progress bars that suit a terminal or a log."""
    library = str(ROOT / "lib")
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [library, os.environ.get("PYTHONPATH")]))
    bars = {"MININTERVAL": "30", "NCOLS": "80"}
    if sys.stderr.isatty():  # a bar and the run's name have one line, also where a terminal does not know its size
        columns = max(40, shutil.get_terminal_size().columns - len(name) - 3)
        bars = {"MININTERVAL": "0.5", "NCOLS": str(columns), "NROWS": "20"}
    for option, value in bars.items():
        os.environ.setdefault(f"TQDM_{option}", value)


class _Progress:
    """What the kernel writes to stderr, on this process's stderr and in the log; bars become lines but on a terminal.

    Every line begins with the run's name, since runs may go on side by side.
    """

    def __init__(self, name: str, log: Path | None):
        if log:
            log.parent.mkdir(parents=True, exist_ok=True)
        self.log = open(log or os.devnull, "w", encoding="utf-8")  # noqa: SIM115  it lives as long as the process
        self.name = name
        self.within = False  # a bar's line, on a terminal
        self.warnings: list[str] = []

    def say(self, text: str) -> None:
        self.write(f"{text}\n")

    def write(self, text: str) -> None:
        """Takes what a stream takes; `say` adds the line end."""
        text = hub.hide(text)
        lines = [line for line in re.split(r"[\r\n]|\x1b\[A", text) if line.strip()]
        self.warnings += [line.strip() for line in lines if re.search(r"\b\w*Warning: ", line)]
        named = "".join(f"{self.name}: {line.rstrip()}\n" for line in lines)
        print(named, end="", file=self.log, flush=True)
        if sys.stderr.isatty() and "\r" in text:  # clear the line, which may hold a longer one of another run
            named = re.sub(r"\r(?=\S)", f"\r\x1b[K{self.name}: ", text)
        elif self.within:
            named = f"\n{named}"
        self.within = not named.endswith("\n") if named else self.within
        print(named, end="", file=sys.stderr, flush=True)

    def flush(self) -> None:
        pass


def _end_with_workflow() -> None:
    """Ends this process soon after the workflow that started it was killed, so that the next one finds no rival."""
    host, _, process = os.environ.get(WORKFLOW, "").rpartition(":")

    def watch():
        while Path(f"/proc/{process}").exists():
            time.sleep(1)
        os.kill(os.getpid(), signal.SIGTERM)

    if host == os.uname().nodename and Path("/proc/self").exists():
        threading.Thread(target=watch, daemon=True).start()


def _reach_results(page: Path) -> None:
    """Links `results` to Snakemake's copies of a cloud's store, if it keeps some: notebooks know files by that name."""
    before, _, _ = str(page).rpartition("results/")
    if "/.snakemake/storage/" in f"/{before}" and not os.path.lexists("results"):
        Path("results").symlink_to(Path(before, "results").absolute())


def _parameters(text: str) -> dict:
    values = json.loads(text)
    if not isinstance(values, dict):
        raise argparse.ArgumentTypeError(f"{text} is no JSON object; write names and values, such as '{{\"seed\": 1}}'")
    return values


def main(arguments: list[str]) -> int:
    """The command line; its exit status is 1 if the notebook failed and 2 if it could not be run."""
    parser = argparse.ArgumentParser(prog="whoknows run", description=__doc__)
    parser.add_argument("notebook", type=Path)
    parser.add_argument("page", type=Path)
    parser.add_argument("--params", type=_parameters, default={}, help="parameters as a JSON object")
    parser.add_argument("--title", default="", help="what this run is of")
    parser.add_argument("--log", type=Path)
    parser.add_argument("--gpus", type=int, default=0, help="how many of those that a workflow's runs share")
    options = parser.parse_args(arguments)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        _end_with_workflow()
        gpus.take(options.gpus)
        _reach_results(options.page)
        run(options.notebook, options.page, options.params, options.title, options.log)
    except StageFailed:
        return 1
    except KeyboardInterrupt:  # without a word: the workflow has one for all of its runs
        return 130
    return 0
