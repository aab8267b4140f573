"""Every notebook, Run All, in JupyterLab in a browser, on the run that is there; only `make test-lab` runs it."""

import os
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest

import browser
from whoknows.run import provenance

ROOT = Path(__file__).parents[1]
RUN = {
    name: str(ROOT / "results/embedded" / name)
    for name in ("answers", "rows", "controls", "estimators", "scores.parquet")
}
# Some need an endpoint, and the settings a search, which the default grid has not.
LEFT_OUT = ("answer_api", "judge", "settings")
NOTEBOOKS = [path for path in sorted((ROOT / "notebooks").glob("*.py")) if path.stem not in LEFT_OUT]
THIS_MACHINE = "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1"
# Of cells that are out of sight the page has nothing, but the notebook's model has.
CELLS = "window.jupyterapp?.shell.currentWidget?.content?.widgets?.filter(cell => cell.model.type === 'code') ?? []"
COUNTS = f"({CELLS}).map(cell => cell.model.executionCount)"
ERRORS = (
    f"({CELLS}).flatMap(cell => cell.model.outputs.toJSON())"
    ".filter(output => output.output_type === 'error').map(error => error.evalue)"
)
HOUR = 3600


@pytest.fixture
def address(tmp_path):
    """Where a JupyterLab serves the checkout."""
    if not Path(RUN["scores.parquet"]).exists():
        pytest.fail("there is no run of the default grid to open the notebooks on; run `make book` first")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    options = [
        f"--ServerApp.{option}"
        for option in (f"root_dir={ROOT}", f"port={port}", "ip=127.0.0.1", "allow_root=True", "open_browser=False")
    ]
    command = [
        f"{sys.prefix}/bin/jupyter-lab",
        *options,
        "--IdentityProvider.token=",
        "--LabApp.expose_app_in_browser=True",
    ]
    with open(tmp_path / "log.txt", "w") as log:
        server = subprocess.Popen(command, cwd=ROOT, stdout=log, stderr=log, env=os.environ | {"TQDM_DISABLE": "1"})
    address, end = f"http://127.0.0.1:{port}", time.monotonic() + browser.PATIENCE
    while time.monotonic() < end and server.poll() is None:
        try:
            urllib.request.urlopen(f"{address}/api/status").close()
            break
        except OSError:
            time.sleep(0.2)
    yield address
    server.terminate()
    server.wait(60)


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)
def test_run_all_ends_well_in_a_tab_that_answers_and_leaves_the_run_as_it_is(address, notebook):
    before = provenance.inputs(RUN)
    with browser.open_book(ROOT, THIS_MACHINE) as tab:
        tab.call(
            "Emulation.setFocusEmulationEnabled", enabled=True
        )  # JupyterLab's current notebook is the one with the focus
        tab.call("Page.navigate", url=f"{address}/lab/tree/notebooks/{notebook.name}?reset")
        tab.wait(f"({COUNTS}).length > 1")
        tab.wait(
            "window.jupyterapp.shell.currentWidget.sessionContext.session?.kernel?.status === 'idle'"
        )  # nobody was asked for a kernel
        tab.read("void window.jupyterapp.commands.execute('notebook:run-all-cells')")
        end = time.monotonic() + HOUR
        while not all(tab.read(COUNTS)) and not tab.read(ERRORS):  # a frozen tab does not answer
            assert time.monotonic() < end
            time.sleep(1)
        assert tab.read(ERRORS) == []
        time.sleep(5)  # what is drawn last is drawn after the last cell has run
        tab.call("Performance.enable")
        busy = [
            next(one["value"] for one in tab.call("Performance.getMetrics")["metrics"] if one["name"] == "TaskDuration")
            for _ in range(2)
            if not time.sleep(5)
        ]
        assert busy[1] - busy[0] < 2.5, "it draws without end"
        assert [url for url in tab.requests if not url.startswith(address)] == []
    assert provenance.inputs(RUN) == before
