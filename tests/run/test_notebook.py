"""A stage's notebook becomes a clean page, or says in a sentence why it did not."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import jupytext
import nbformat
import pytest

from whoknows import WhoknowsError
from whoknows.data import files
from whoknows.models import loading
from whoknows.run import notebook, page, provenance

NOTEBOOK = """# %% [markdown]
# # Probe
# What it knows.

# %% tags=["parameters"]
reader = "none"
answers: dict = {}
fail = ""
sleep = 0.0

# %%
import os, sys, time
from tqdm.auto import tqdm
from whoknows import WhoknowsError

for _ in tqdm(range(3), desc="training"):
    time.sleep(sleep)
print(f"{reader} wrote {os.getcwd()}/results and {os.path.expanduser('~')}/notes")

# %%
if fail == "sentence":
    raise WhoknowsError("answers/tiny.parquet: no answer is right.")
if fail == "error":
    [][reader]
if fail == "killed":
    os.kill(os.getpid(), 9)
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.delenv("TQDM_DISABLE", raising=False)  # other tests want no bars
    (tmp_path / "probe.py").write_text(NOTEBOOK)
    return tmp_path


def command(folder, params, *more):
    return [
        sys.executable,
        "-m",
        "whoknows",
        "run",
        folder / "probe.py",
        folder / "probe-a.ipynb",
        "--params",
        json.dumps(params),
        *more,
    ]


def started(folder, environment=None):
    """A run whose kernel is in the middle of its loop, and the kernel's process id."""
    out = {"stderr": subprocess.PIPE, "text": True, "env": {**os.environ, **(environment or {})}}
    process = subprocess.Popen(command(folder, {"sleep": 60}), **out)
    text = ""  # read letter by letter: a progress bar does not end its line
    while "training" not in text:
        text += (letter := process.stderr.read(1))
        assert letter, f"the run ended before its loop began: {text}"
    kernels = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    assert kernels
    return process, kernels


def gone(process_id):
    """Whether a process has ended, a few seconds at most being left to it."""
    for _ in range(100):
        status = Path(f"/proc/{process_id}/status")
        try:
            if "\nState:\tZ" in status.read_text():
                return True
        except (FileNotFoundError, ProcessLookupError):
            return True
        time.sleep(0.1)
    return False


def test_a_page_is_titled_and_shows_its_parameters_and_nothing_of_the_machine(folder):
    stale = folder / "probe-a.failed.ipynb"
    stale.write_text("{}")
    params = {"reader": "tiny", "answers": {"tiny": str(page.ROOT / "results/tiny.parquet")}}
    done = subprocess.run(
        command(folder, params, "--title", "tiny trained on other", "--log", folder / "logs/probe.txt"),
        capture_output=True, text=True, cwd=page.ROOT,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout == "" and "probe tiny trained on other: done in" in done.stderr
    assert "\r" not in done.stderr and "\n\n" not in done.stderr
    assert all(line.startswith("probe tiny trained on other: ") for line in done.stderr.splitlines())
    assert "probe tiny trained on other: training: 100%" in done.stderr
    assert "training: 100%" in (folder / "logs/probe.txt").read_text()
    assert not stale.exists()

    made = nbformat.read(folder / "probe-a.ipynb", as_version=4)
    nbformat.validate(made)
    assert made.cells[0].source.startswith("# Probe · tiny trained on other\n")
    hidden = [cell.metadata.tags for cell in made.cells if "tags" in cell.metadata]
    assert hidden == [["parameters", "remove-cell"], ["injected-parameters", "remove-cell"]]
    outputs = [output for cell in made.cells for output in cell.get("outputs", [])]
    assert [output.text for output in outputs] == ["tiny wrote results and ~/notes\n"]
    assert set(made.metadata) == {"kernelspec", "language_info", "whoknows"}
    text = (folder / "probe-a.ipynb").read_text()
    for trace in (str(page.ROOT), str(Path.home()), 'papermill": {', "iopub", "start_time"):
        assert trace not in text.replace('"papermill": "', ""), trace

    about = made.metadata.whoknows
    assert (about.stage, about.title) == ("probe", "tiny trained on other")
    assert about.parameters.reader == "tiny" and about.seconds > 0 and about.versions.torch
    assert about.parameters.fail == "", "the defaults are parameters too"
    assert about.parameters.answers == {"tiny": "results/tiny.parquet"}


PROSE = "# %% [markdown]\n# # {}\n\n# %%\n1\n"


@pytest.mark.parametrize(
    ("prose", "stands"),
    [("Another", "# Another · tiny"), ("Two\n\n# %% [markdown]\n# more", "# One · tiny"), (None, "# One · tiny")],
)
def test_a_page_has_the_prose_of_its_notebook_as_it_is_now(tmp_path, monkeypatch, prose, stands):
    monkeypatch.setattr(page, "ROOT", tmp_path)
    made = page.clean(
        jupytext.reads(PROSE.format("One"), fmt="py:percent"), "tiny", {"stage": "probe", "title": "tiny"}
    )
    (tmp_path / "notebooks").mkdir()
    if prose:
        (tmp_path / "notebooks/probe.py").write_text(PROSE.format(prose))
    page.reword(made)
    assert made.cells[0].source == stands and made.cells[1].source == "1"


@pytest.mark.parametrize(
    "asked, recorded", [("auto", str(loading.dtype("auto")).removeprefix("torch.")), ("4bit", "4bit")]
)
def test_the_number_format_is_recorded_where_a_model_is_loaded(asked, recorded):
    assert provenance.precision({"precision": asked, "batch_tokens": None}) == {"precision": recorded}
    assert provenance.precision({"precision": asked}) == provenance.precision({}) == {}


def test_files_that_somebody_else_changed_are_noticed(tmp_path):
    """Touched or copied ones are not, nor what an older version made, which left no record."""
    results, parameters = (
        tmp_path / "results/toy",
        {"out": "results/toy/estimator", "rows_out": "results/toy/rows.parquet"},
    )
    for text in ("estimator/probe.json", "rows.parquet"):
        files.write_text(results / text, "as the stage wrote it")
    outputs = dict(
        zip(
            parameters.values(),
            provenance.outputs({"out": str(results / "estimator"), "rows_out": str(results / "rows.parquet")}).values(),
            strict=True,
        )
    )
    files.write_text(results / "notebooks/old.ipynb", json.dumps({"metadata": {"whoknows": {"stage": "probe"}}}))
    files.write_text(results / "notebooks/probe-a.ipynb", json.dumps({"metadata": {"whoknows": {"outputs": outputs}}}))
    for text in ("estimator/probe.json", "rows.parquet"):
        (results / text).touch()
    (results / "estimator/.snakemake_timestamp").touch()
    assert provenance.changed(results, "toy") == {}
    for text, named in (("estimator/probe.json", "estimator"), ("rows.parquet", "rows.parquet")):
        time.sleep(0.02)
        files.write_text(results / text, "by hand")
        sentences = provenance.changed(results, "toy")
        assert list(sentences) == ["probe-a"] and sentences["probe-a"].startswith(
            f"{results / named} was changed after its stage wrote it: "
        )
        assert f"delete {results}/notebooks/probe-a.ipynb" in sentences["probe-a"]
        os.utime(results / text, (1e9, 1e9))  # as a copy that keeps the times of another
        assert list(provenance.changed(results, "toy")) == ["probe-a"]
        files.write_text(results / text, "as the stage wrote it")


@pytest.mark.slow
@pytest.mark.parametrize(
    "fail, sentence",
    [
        ("sentence", "probe: failed: answers/tiny.parquet: no answer is right."),
        ("error", "probe: failed: TypeError: list indices must be integers"),
        ("killed", "probe: failed: the notebook's process was killed"),
    ],
)
def test_a_failure_keeps_the_notebook_and_says_where(folder, fail, sentence):
    done = subprocess.run(command(folder, {"fail": fail}), capture_output=True, text=True)
    assert done.returncode == 1
    assert sentence in done.stderr and "Traceback" not in done.stderr
    assert f"the notebook with the error: {folder / 'probe-a.failed.ipynb'}" in done.stderr
    assert not (folder / "probe-a.ipynb").exists()
    kept = nbformat.read(folder / "probe-a.failed.ipynb", as_version=4)
    assert "none wrote" in str(kept.cells)
    if fail != "killed":
        assert any("papermill-error-cell-tag" in cell.metadata.get("tags", []) for cell in kept.cells)


def test_a_kernel_takes_no_port_that_another_run_might_have_taken(folder):
    process, kernels = started(folder)
    try:
        inodes = {os.readlink(link)[8:-1] for kernel in kernels for link in Path(f"/proc/{kernel}/fd").iterdir()}
        local = [line.split() for line in Path("/proc/net/unix").read_text().splitlines()[1:]]
        addresses = {fields[7] for fields in local if fields[6] in inodes and len(fields) > 7}
        channels = {address[-2:] for address in addresses if address.startswith("@whoknows-")}
        assert channels == {"-1", "-2", "-3", "-4", "-5"}
    finally:
        process.terminate()
        process.communicate()


def test_a_busy_machine_has_more_than_a_minute_to_start_a_kernel(folder, monkeypatch):
    handed = []
    monkeypatch.setattr("papermill.execute_notebook", lambda source, *_, **options: handed.append(options) or source)
    notebook.run(folder / "probe.py", folder / "probe-a.ipynb", {})
    assert handed[0]["start_timeout"] == notebook.PATIENCE > 600


def test_an_unknown_parameter_is_refused_before_anything_runs(folder):
    done = subprocess.run(command(folder, {"layer": 3}), capture_output=True, text=True)
    assert done.returncode == 2
    assert (
        done.stderr
        == f"{folder}/probe.py: it has no parameter `layer`; its parameters are reader, answers, fail, sleep.\n"
    )


def test_a_parameter_that_no_grid_could_say_is_refused_before_anything_runs_unless_a_workflow_says_it(
    folder, monkeypatch
):
    (folder / "probe.py").write_text(NOTEBOOK.replace('fail = ""', 'fail = trained_on = ""\nseeds = [0]'))
    with pytest.raises(WhoknowsError, match="probe.py: `seeds` holds the same value twice"):
        notebook.run(folder / "probe.py", folder / "probe-a.ipynb", {"seeds": [0, 0]})
    with pytest.raises(WhoknowsError, match="probe.py: `trained_on` is `a`, but `answers` has only b."):
        notebook.run(folder / "probe.py", folder / "probe-a.ipynb", {"trained_on": "a", "answers": {"b": "b.parquet"}})
    monkeypatch.setenv(notebook.WORKFLOW, "here:1")  # which has checked its grid
    monkeypatch.setattr("papermill.execute_notebook", lambda source, *_, **options: source)
    notebook.run(folder / "probe.py", folder / "probe-a.ipynb", {"seeds": [0, 0]})


@pytest.mark.parametrize("text", ["5", "null", "[]", "{"])
def test_parameters_that_are_no_object_are_refused(text, capsys):
    with pytest.raises(SystemExit, match="2"):
        notebook.main(["probe.py", "x.ipynb", "--params", text])
    assert capsys.readouterr().err.splitlines()[-1].startswith("whoknows run: error: argument --params: ")


def test_an_absent_notebook_is_one_sentence(folder):
    with pytest.raises(WhoknowsError, match="absent.py: this notebook cannot be read"):
        notebook.run(folder / "absent.py", folder / "x.ipynb", {})


@pytest.mark.slow
@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_the_kernel_too_and_leaves_nothing(folder, how):
    process, kernels = started(folder)
    process.send_signal(how)
    assert process.wait(20) == 130
    assert all(gone(kernel) for kernel in kernels)
    assert [path.name for path in folder.iterdir()] == ["probe.py"]


@pytest.mark.slow
def test_a_run_ends_when_its_workflow_was_killed(folder):
    workflow = subprocess.Popen(["sleep", "600"])
    process, kernels = started(folder, {notebook.WORKFLOW: f"{os.uname().nodename}:{workflow.pid}"})
    workflow.kill()
    workflow.wait()
    assert process.wait(20) == 130
    assert all(gone(kernel) for kernel in kernels)


@pytest.mark.parametrize(
    ("page", "leads"),
    [
        (".snakemake/storage/s3/bucket/results/x/p.ipynb", True),
        ("results/x/p.ipynb", False),
        ("/data/results/x/p.ipynb", False),
    ],
)
def test_results_lead_to_the_copies_of_a_store_and_nowhere_else(tmp_path, monkeypatch, page, leads):
    monkeypatch.chdir(tmp_path)
    notebook._reach_results(Path(page))
    assert Path("results").is_symlink() == leads
    if leads:
        assert Path("results").resolve() == tmp_path / ".snakemake/storage/s3/bucket/results"
        notebook._reach_results(Path(page))  # as it is


def test_scrub_knows_a_path_from_letters_that_look_like_one(monkeypatch):
    monkeypatch.setattr(page, "ROOT", Path("/w/x"))
    assert page.scrub("/w/x/results '/w/x' /w/xy q/w/x/ ab+/w/x/") == "results '.' /w/xy q/w/x/ ab+/w/x/"


def test_a_home_that_is_the_root_changes_no_page(monkeypatch):
    monkeypatch.setenv("HOME", "/")
    text = 'https://arxiv.org/abs/2406.08391 <br /> </p> 3 / 4 "a // b"'
    assert page.scrub(text) == text
