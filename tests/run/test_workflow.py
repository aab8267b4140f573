"""The graph of stages: what re-runs after which change, and what is left after a failure and a kill.

A copy of the workflow runs once, with stub notebooks that have the real ones' parameters but only write their files.
"""

import base64
import importlib.util
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections import Counter
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml
from snakemake.cli import get_argument_parser

from made_up import put
from waiting import until
from whoknows import WhoknowsError
from whoknows.run import cost, grid, provenance, workflow
from whoknows.run.grid import load
from whoknows.run.stages import STAGES

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
BODIES = {
    "questions": "write(out)",
    "answer": "write(out); write(rows_out)",
    "extract": """
write(rows_out)
cached = ["trunk"] if first_layer else []
positions = ["", "_first", "_mean", *(["_query"] if first_layer else [])]
for name in [*(scored + position for scored in answers for position in positions), "before_answer", *cached]:
    write(f"{out}/{name}.safetensors")
""",
    "probe": """
from whoknows import toy
write(f"{out}/probe"); write(rows_out)
""",
    "lora_prompt": """
import time
time.sleep(600 if Path("slow").exists() else 0)
if Path("broken").exists() and reader != trained_on:
    raise ValueError("this adapter is broken")
write(f"{out}/adapter"); write(rows_out)
""",
    "heatmaps": "write(out)",
    **dict.fromkeys(
        (
            "cell",
            "sweep",
            "search",
            "settings",
            "differences",
            "claims",
            "surface",
            "ablate",
            "judge",
            "controls",
            "shift",
            "worth",
            "grading",
            "recompute",
        ),
        "write(out)",
    ),
}
STUB = """
# %% [markdown]
# # {stage}

# %% tags=["parameters"]
{parameters}

# %%
from pathlib import Path

def write(path):
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    Path(path).write_text("data")

# %%
{body}
"""
ALL = {
    "questions", "answer-llama", "answer-mistral", "extract-llama", "extract-mistral", "heatmaps", "claims",
    "differences", "grading", "surface", "ablate-llama", "ablate-mistral", "sweep-llama", "sweep-mistral",
    "search-llama", "search-mistral", "settings", "ablate_lora-llama_lora", "ablate_lora-mistral_lora",
    "controls", "shift", "worth", "recompute",
    *(name for method in ("probe", "lora_prompt")
      for reader in ("llama", "mistral") for trained_on in ("llama", "mistral")
      for name in (f"{method}-{reader}_{trained_on}_seed0", f"cell-{method}_{reader}_{trained_on}")),
}  # fmt: skip

PAGES = ("heatmaps", "differences", "claims", "controls", "shift", "worth", "grading", "recompute")  # read all rows


def of(*beginnings):
    return {stage for stage in ALL if stage.startswith(beginnings)}


class Project:
    """A checkout with stub notebooks and one grid."""

    def __init__(self, folder):
        self.folder, self.grid = folder, folder / "grids/toy.yml"
        shutil.copytree(ROOT / "lib/whoknows", folder / "lib/whoknows", ignore=shutil.ignore_patterns("__pycache__"))
        for name in ("grids", "profiles"):
            shutil.copytree(ROOT / name, folder / name)
        shutil.copy(ROOT / "Snakefile", folder)
        (folder / "book").mkdir()
        shutil.copy(ROOT / "book/claims.yml", folder / "book")
        (folder / "lib/whoknows/toy.py").write_text("from whoknows import toy_too\n")
        (folder / "lib/whoknows/toy_too.py").write_text("")
        (folder / "notebooks").mkdir()
        for stage, body in BODIES.items():
            real = (ROOT / f"notebooks/{stage}.py").read_text()
            parameters = re.search(r'tags=\["parameters"\]\n(.*?)\n# %%', real, re.DOTALL)[1]
            (folder / f"notebooks/{stage}.py").write_text(STUB.format(stage=stage, parameters=parameters, body=body))
        values = yaml.safe_load((folder / "grids/smoke.yml").read_text())
        values["name"], values["controls"]["lora"] = "toy", ["no_query"]
        for model, name in zip(values["models"], ("llama", "mistral"), strict=True):
            model["name"] = name
        self.grid.write_text(yaml.safe_dump(values))
        for part in ("rows/rows", "controls/controls", "answers/tiny-llama", "answers/tiny-mistral"):
            (folder / f"packed/{part}.parquet").parent.mkdir(parents=True, exist_ok=True)
            (folder / f"packed/{part}.parquet").touch()
        (folder / "packed/about.json").touch()
        shutil.copy(ROOT / "grids/smoke.yml", folder / "packed/grid.yml")
        self.results = folder / "results/toy"

    def start(self, *options):
        command = [sys.executable, "-m", "whoknows", "workflow", "grids/toy.yml", *options]
        environment = os.environ | {"PYTHONPATH": str(self.folder / "lib")}
        out = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True, "start_new_session": True}
        return subprocess.Popen(command, cwd=self.folder, env=environment, **out)

    def run(self, *options):
        process = self.start(*options)
        try:
            text, _ = process.communicate(timeout=600)
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
        return process.returncode, text

    def plan(self):
        """Names of the stages that would run."""
        code, text = self.run("--plan")
        assert code == 0, text
        listed = text.partition("\n\n")[0].splitlines()  # behind it, what they cost
        stages = {line.split()[0] for line in listed if not line.endswith(" stages to run.")}
        assert text.splitlines()[-1] == f"{len(stages)} stages to run."
        return stages


@pytest.fixture(scope="module")
def story(tmp_path_factory):
    """A project in which a stage failed, then a run was killed in the middle, then a run went on to the end."""
    project, story = Project(tmp_path_factory.mktemp("checkout")), {}
    (project.folder / "broken").touch()
    story["failed"] = project.run()
    story["after failure"] = sorted(
        str(path.relative_to(project.results)) for path in project.results.rglob("*") if path.is_file()
    )
    (project.folder / "broken").unlink()
    story["plan"] = project.plan()

    (project.folder / "slow").touch()
    shutil.rmtree(project.results / "logs")
    process = project.start()
    until(lambda: any(project.results.glob("logs/lora_prompt-*")))
    story["second"] = project.run()
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    (project.folder / "slow").unlink()
    story["resumed"] = project.run()
    story["project"] = project
    return story


def test_a_failed_stage_is_named_with_its_notebook_and_the_others_go_on(story):
    code, text = story["failed"]
    assert code == 1
    failed = "results/toy/notebooks/lora_prompt-llama_mistral_seed0.failed.ipynb"
    assert "lora_prompt llama trained on mistral, seed 0: failed: ValueError: this adapter is broken" in text
    assert f"the notebook with the error: {failed}" in text
    assert f"Not all stages ended well.\n{failed}\n" in text and "Traceback" not in text
    there = story["after failure"]
    assert "notebooks/lora_prompt-llama_mistral_seed0.failed.ipynb" in there
    assert "rows/lora_prompt/llama/mistral/seed0.parquet" not in there
    assert (
        "rows/lora_prompt/mistral/mistral/seed0.parquet" in there and "rows/probe/llama/mistral/seed0.parquet" in there
    )
    assert "scores.parquet" not in there
    assert story["plan"] == of(
        "lora_prompt-llama_mistral",
        "lora_prompt-mistral_llama",
        "cell-lora_prompt_llama_mistral",
        "cell-lora_prompt_mistral_llama",
        *PAGES,
    )


def test_a_second_run_at_the_same_time_is_one_sentence(story):
    code, text = story["second"]
    assert code == 2 and re.fullmatch(r"Another run \(process \d+\) is at work in this checkout; .*\n", text)


def test_a_killed_run_goes_on_where_it_stopped(story):
    code, text = story["resumed"]
    assert code == 0, text
    done = {re.sub(r" .*", "", line) for line in text.splitlines() if ": done in" in line}
    assert done <= {"lora_prompt", "cell", *(f"{page}:" for page in PAGES)}, text
    assert {path.stem for path in story["project"].results.glob("notebooks/*")} == ALL
    assert (story["project"].results / "scores.parquet").exists()


def test_a_run_says_in_full_what_it_used(story):
    project = story["project"]
    assert (project.results / "grid.yml").read_text() == grid.text(load(project.grid), project.results)


def test_touching_files_re_runs_nothing(story):
    project = story["project"]
    for pattern in ("notebooks/*.py", "lib/whoknows/**/*.py", "grids/*.yml", "results/toy/answers/*"):
        for path in project.folder.glob(pattern):
            path.touch()
    assert project.plan() == set()


@pytest.mark.parametrize(
    "file, stages",
    [
        (
            "notebooks/extract.py",
            of("extract", "ablate", "sweep", "search", "settings", "probe", "lora_prompt", "cell", *PAGES),
        ),
        ("lib/whoknows/toy_too.py", of("probe", "cell-probe", *PAGES)),
        ("lib/whoknows/run/page.py", set()),
        ("book/claims.yml", of("claims", "heatmaps", "differences", "controls")),
    ],
)
def test_a_changed_source_re_runs_what_depends_on_it(story, file, stages):
    path = story["project"].folder / file
    before = path.read_text()
    path.write_text(before + "\nchanged = True\n")
    try:
        assert story["project"].plan() == stages
    finally:
        path.write_text(before)


JOB = re.compile(
    r"^rule (?P<stage>\w+):\n(?:    input: (?P<reads>.*?)$)?.*?^    output: (?P<writes>.*?)$.*?whoknows run "
    r"notebooks/(?P<notebook>\w+)\.py (?P<page>\S+) --log (?P<log>\S+) --gpus \d+ --params '(?P<values>.*?)' "
    r"--title '(?P<title>.*?)'$",
    re.DOTALL | re.MULTILINE,
)


def planned(path):
    """Stage, files that it reads and writes, notebook, page, log, parameters and title of each job of a grid."""
    options = ["--dry-run", "--printshellcmds", "--forceall", "--nolock", "--cores", "1", "--config", f"grid={path}"]
    surroundings = os.environ | {"PYTHONPATH": str(ROOT / "lib")}
    command = [sys.executable, "-m", "snakemake", *options]
    plan = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, env=surroundings).stdout
    jobs = re.split(r"^rule ", plan, flags=re.MULTILINE)[1:]
    return [JOB.search(f"rule {job}") for job in jobs if not job.startswith("all:")]


@pytest.mark.parametrize("name", ["smoke", "embedded"])
def test_what_a_stage_is_told_to_read_is_there_before_it_runs(name):
    """Its record says what it has read: a file that is written meanwhile would make the page look outdated."""
    for job in planned(f"grids/{name}.yml"):
        named = provenance.named(json.loads(job["values"]))
        reads = (job["reads"] or "").split(", ")
        for path in (path for path in named if path.startswith("results/")):
            assert any(file == path or file.startswith(f"{path}/") for file in reads), (job["stage"], path)


def test_every_stage_runs_its_notebook_with_its_parameters_into_its_page():
    jobs = planned("grids/smoke.yml")
    assert {job[1] for job in jobs} == {*STAGES} - {
        "answer_file",
        "answer_api",
        "judge",
        "beside",
    }  # which the smoke grid has not
    for stage, _, outputs, notebook, page, log, values, title in (job.groups() for job in jobs):
        values, outputs, (named, _, rest) = json.loads(values), outputs.split(", "), Path(page).stem.partition("-")
        assert notebook == ("lora_prompt" if stage == "ablate_lora" else stage) and named == stage
        assert page in outputs and log == page.replace("/notebooks/", "/logs/").replace(".ipynb", ".txt")
        written = [values[name] for name in ("out", "rows_out") if values.get(name)]
        assert all(
            any(output == path or output.startswith(f"{path}/") for path in written)
            for output in outputs
            if output != page
        ), stage
        names = [
            str(values[name])
            for name in ("model", "reader", "trained_on", "seed")
            if name in values and (stage not in ("sweep", "search", "ablate_lora") or name == "reader")
        ]
        assert all(name in rest for name in names) and all(name in title for name in names), (stage, title)


def test_the_digest_of_every_stage_is_of_the_notebook_that_it_runs():
    text = (ROOT / "Snakefile").read_text()
    assert re.findall(r"params: notebook=(\w+), code=digest\((\w+), \*step.also\)", text) == [("notebook", "notebook")]
    pattern = r"params: stage=(\w+), code=digest\(f\"notebooks/{(\w+)}.py\"\), json=partial\(as_json, (\w+)\)"
    assert re.findall(pattern, text) == [("stage",) * 3]
    beside = r'notebook="notebooks/{page}.py", json=.+\n +code=lambda w: digest\(f"notebooks/{w.page}.py"'
    assert re.search(beside, text)
    assert text.count("digest(") == 3


@pytest.mark.parametrize(
    "change, stages",
    [
        (put(["probe", "strengths"], [0.5]), of("probe", "sweep", "search", "settings", "cell-probe", *PAGES)),
        (
            put(["models", 0, "learning_rate"], 0.5),
            of("lora_prompt-llama", "ablate_lora-llama", "search-llama", "settings", "cell-lora_prompt_llama", *PAGES),
        ),
        (put(["search", "sizes"], [50]), of("search", "settings")),
        (
            put(["lora_prompt", "r"], 3),
            of("lora_prompt", "ablate_lora", "search", "settings", "cell-lora_prompt", *PAGES),
        ),
        (
            put(["lora_prompt", "first_layer"], 0.25),
            of("extract", "ablate", "sweep", "search", "settings", "probe", "lora_prompt", "cell", *PAGES),
        ),
        (put(["judge"], {"url": "http://localhost/v1", "model": "wise"}), {"judge-llama", "judge-mistral", "grading"}),
        (put(["beside"], "packed"), {f"beside-{page}" for page in PAGES}),
        (put(["batch_tokens"], 128), ALL - {"questions"}),
        (put(["methods"], ["probe"]), of("extract", "ablate-", "sweep", "probe", "cell-probe", *PAGES)),
        (
            put(["seeds"], [0, 1]),
            of("surface", "ablate-", "cell", *PAGES)
            | {stage.replace("seed0", "seed1") for stage in of("probe", "lora_prompt")},
        ),
        (
            put(
                ["resources"],
                {
                    "flops": 1.0e9,
                    "stages": {
                        stage: {"gpus": 1, "cores": 2, "memory": 9, "minutes": 9, "partition": "p"} for stage in STAGES
                    },
                },
            ),
            set(),
        ),
        (
            put(["models", 1, "source"], "tiny-llama"),
            of(
                "answer-mistral",
                "extract",
                "surface",
                "ablate",
                "sweep",
                "search",
                "settings",
                "probe",
                "lora_prompt",
                "cell",
                *PAGES,
            ),
        ),
    ],
    ids=[
        "strengths",
        "learning_rate",
        "search",
        "r",
        "first_layer",
        "judge",
        "beside",
        "batch_tokens",
        "methods",
        "seeds",
        "resources",
        "source",
    ],
)
def test_a_changed_key_re_runs_what_depends_on_it(story, change, stages):
    grid = story["project"].grid
    before = grid.read_text()
    values = yaml.safe_load(before)
    change(values)
    grid.write_text(yaml.safe_dump(values))
    try:
        assert story["project"].plan() == stages
    finally:
        grid.write_text(before)


def test_a_task_of_any_name_may_be_left_out(tmp_path):
    project = Project(tmp_path)
    (tmp_path / "grids/own.csv").write_text("question,answer\nWho?,I\n")
    values = yaml.safe_load(project.grid.read_text())
    put(["controls", "lora"], ["left_out"])(values)
    put(["tasks", 0], {"name": "My-2.own", "file": "own.csv", "role": "train"})(values)
    project.grid.write_text(yaml.safe_dump(values))
    trained = {stage for stage in project.plan() if stage.startswith("ablate_lora")}
    names = [(reader, task) for reader in ("llama", "mistral") for task in ("My-2.own", "arc_easy_mc")]
    assert trained == {f"ablate_lora-{reader}_lora_prompt_without_{task}" for reader, task in names}


def test_what_somebody_else_wrote_into_a_run_is_noticed_and_made_anew_when_its_page_is_deleted(story):
    project = story["project"]
    rows, page = (project.results / place for place in ("shift.parquet", "notebooks/shift.ipynb"))
    before = rows.read_text()
    rows.write_text("by hand")
    paths = [path.relative_to(project.folder) for path in (rows, page)]
    sentence = "{} was changed after its stage wrote it: .* delete {}, and `make book` makes both anew.\n".format(
        *paths
    )
    assert re.search(sentence, project.run("--plan")[1])
    code, text = project.run()
    assert code == 2 and re.fullmatch(sentence, text) and rows.read_text() == "by hand"
    page.unlink()
    code, text = project.run()
    assert code == 0, text
    assert rows.read_text() == before and project.plan() == set()


def test_results_without_snakemakes_records_are_refused_before_anything_is_written(story):
    project = story["project"]
    records, away = project.folder / ".snakemake/metadata", project.folder / "away"
    before, text = project.grid.read_text(), (project.results / "grid.yml").read_text()
    values = yaml.safe_load(before)
    put(["lora_prompt", "epochs"], 9)(values)
    project.grid.write_text(yaml.safe_dump(values))
    records.rename(away)
    pages = sorted(path.name for path in project.results.glob("notebooks/*.ipynb"))
    try:
        for options in (["--plan"], []):
            code, said = project.run(*options)
            assert code == 2 and re.fullmatch(
                rf"results/toy: .snakemake has no record of what {len(pages)} of its {len(pages)} pages were "
                rf"made with, such as {pages[0]}, so .*; copy .snakemake .*, or move results/toy away, and .*\n",
                said,
            )
        assert (project.results / "grid.yml").read_text() == text
    finally:
        project.grid.write_text(before)
        away.rename(records)
    assert project.plan() == set()


def test_results_that_are_copied_with_snakemakes_records_are_as_good_as_the_first(story, tmp_path):
    first, copy = story["project"], Project(tmp_path)
    for name in ("results", ".snakemake"):
        subprocess.run(["cp", "-a", first.folder / name, copy.folder], check=True)
    assert copy.plan() == set()
    values = yaml.safe_load(copy.grid.read_text())
    put(["search", "learning_rates"], [0.5])(values)
    copy.grid.write_text(yaml.safe_dump(values))
    assert copy.plan() == of("search", "settings")


def test_a_page_that_a_killed_run_had_just_written_is_made_anew(story):
    project, name = story["project"], "results/toy/notebooks/settings.ipynb"
    record, mark = (
        project.folder / ".snakemake" / kind / base64.urlsafe_b64encode(name.encode()).decode()
        for kind in ("metadata", "incomplete")
    )
    record.rename(mark)
    code, text = project.run()
    assert code == 0 and "settings: done in" in text and record.exists() and not mark.exists()


@pytest.mark.parametrize("stored", [False, True])
def test_results_in_a_store_are_not_looked_for_here(stored, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(workflow.subprocess, "Popen", lambda *_, **__: SimpleNamespace(wait=int, poll=int))
    monkeypatch.setattr(workflow.signal, "signal", lambda *_: None)
    page, profile = tmp_path / "results/smoke/notebooks/questions.ipynb", tmp_path / "mine/config.yaml"
    for path, text in ((page, '{"metadata": {}}'), (profile, "executor: local\n")):
        path.parent.mkdir(parents=True)
        path.write_text(text + "default-storage-provider: s3\n" * (stored and path == profile))
    refused = nullcontext() if stored else pytest.raises(WhoknowsError, match="1 of its 1 pages")
    with refused:
        assert workflow.run(ROOT / "grids/smoke.yml", "1", "./mine") == 0


def test_a_profile_of_ones_own_runs_the_jobs_and_what_they_say_is_shown(story):
    project = story["project"]
    (project.folder / "mine").mkdir()
    (project.folder / "mine/config.yaml").write_text("executor: local\ncores: 1\n")
    (project.results / "notebooks/heatmaps.ipynb").unlink()
    code, text = project.run("--profile", "./mine")
    assert code == 0, text
    assert "heatmaps: started\n" in text and "heatmaps: done in" in text
    assert project.plan() == set()


@pytest.mark.parametrize(
    "profile, text, sentence",
    [
        (
            "slrum",
            None,
            "PROFILE=slrum: there is no profiles/slrum/config.yaml; name one of .*slurm.*, "
            "or a folder with a profile of Snakemake's",
        ),
        (
            "kubernetes",
            None,
            "PROFILE=kubernetes: copy profiles/kubernetes, put your names in the place of REGISTRY, .*BUCKET, "
            "and name the copy, as in PROFILE=./mine",
        ),
        (
            "./wrong",
            "jobs: 3\n",
            "wrong/config.yaml: it names no `executor`; name the one that should run the jobs, such as slurm",
        ),
        (
            "./wrong",
            "executor: abacus\n",
            "wrong/config.yaml: its executor abacus is not installed: .*pip install .*snakemake-executor-plugin-abacus",
        ),
        ("./wrong", "executor: [\n", "wrong/config.yaml: line 2 is not good YAML.*"),
    ],
)
def test_a_wrong_profile_is_one_sentence_before_anything_starts(story, profile, text, sentence):
    project = story["project"]
    (project.folder / "wrong").mkdir(exist_ok=True)
    (project.folder / "wrong/config.yaml").write_text(text or "")
    code, message = project.run("--profile", profile)
    assert code == 2 and re.fullmatch(f"{sentence}\n", message), message


@pytest.mark.parametrize("path", sorted(ROOT.glob("profiles/*/config.yaml")), ids=lambda path: path.parent.name)
def test_snakemake_knows_the_keys_of_every_profile(path):
    """Those of plugins are known where a plugin is installed."""
    values = yaml.safe_load(path.read_text())
    plugins = {
        values["executor"]: "snakemake_executor_plugin_",
        values.get("default-storage-provider", "none"): "snakemake_storage_plugin_",
    }
    absent = tuple(f"{name}-" for name, package in plugins.items() if not importlib.util.find_spec(package + name))
    known = {option for action in get_argument_parser()._actions for option in action.option_strings}
    assert [key for key in values if f"--{key}" not in known and not key.startswith(absent)] == []
    assert values["retries"] and values["jobs"]


def test_ctrl_c_stops_all_and_says_what_is_kept(story):
    project = story["project"]
    notebook = project.folder / "notebooks/heatmaps.py"
    notebook.write_text(notebook.read_text() + "\nimport time\ntime.sleep(600)\n")
    log = project.results / "logs/heatmaps.txt"
    log.unlink()
    process = project.start()
    until(log.exists)
    os.killpg(process.pid, signal.SIGINT)
    text, _ = process.communicate(timeout=60)
    assert process.returncode == 130
    assert (
        text.endswith("Stopped. What was finished is kept, and the next run goes on from there.\n")
        and "Traceback" not in text
    )
    assert project.plan() == {"heatmaps"}


def test_the_cost_counts_the_jobs_that_snakemake_plans(story):
    grid = story["project"].grid
    before = grid.read_text()
    grid.write_text(before.replace("name: toy", "name: fresh"))
    try:
        planned, (_, text) = story["project"].plan(), story["project"].run("--plan")
        work = cost.work(load(grid))
    finally:
        grid.write_text(before)
    assert Counter(name.split("-")[0] for name in planned) == {stage: one.jobs for stage, one in work.items()}
    assert re.search(rf"^all +{len(planned)} ", text, re.M) and text.index("grows as") < text.index("stages to run")


@pytest.mark.parametrize("name", ["a # b.yml", "a: b.yml", "'a'.yml'"])
def test_a_grid_whose_path_snakemake_would_misread_is_refused(name):
    with pytest.raises(WhoknowsError, match=f"^{name}: Snakemake takes no such path; rename it"):
        workflow.plan(name)


def test_a_wrong_grid_is_one_sentence_before_anything_starts(story):
    project = story["project"]
    (project.folder / "grids/toy.yml").rename(project.folder / "grids/hidden.yml")
    try:
        code, text = project.run()
    finally:
        (project.folder / "grids/hidden.yml").rename(project.folder / "grids/toy.yml")
    assert code == 2
    assert text == "grids/toy.yml: this file cannot be read (No such file or directory); check its name.\n"
