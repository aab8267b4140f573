"""The page that tells how to bring questions, answers, models and methods: its blocks are carried out in a copy."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[1]
PARTS = dict(re.findall(r"^## (.+?)\n(.+?)(?=^## |\Z)", (ROOT / "book/bring.md").read_text(), re.DOTALL | re.MULTILINE))
BROUGHT = ["Questions", "A model", "Answers", "An endpoint"]
FILES = {"symbols.csv": ("Questions", "text"), "answers.jsonl": ("Answers", "json")}
RUN_METHOD = """
import numpy as np, pandas as pd, torch
from made_up import answers, save_hidden
from whoknows.data import files
from whoknows.evaluation import cells, scores
from whoknows.run import grid, notebook, parameters
from pathlib import Path
import json

chosen, rng = grid.load("grids/smoke.yml"), np.random.default_rng(0)
values = json.loads(parameters.of("centroid")(chosen, reader="tiny-llama", trained_on="tiny-mistral", seed="0"))
for name, path in values["answers"].items():
    frame = answers([f"answer {i}" for i in range(90)], rng.random(90) < 0.4, task="sciq_mc")
    frame["split"] = ["train", "validation", "test"] * 30
    files.write_parquet(path, frame)
    states = torch.randn(90, 3, 4)
    states[torch.tensor(frame["correct"].to_numpy()), -1] += 2.0
    save_hidden(values["features"], name, states)
notebook.run(Path("notebooks/centroid.py"), Path("page.ipynb"), values)
rows = cells.read_rows("results/smoke/rows", list(values["answers"]), chosen.methods, chosen.seeds)
tasks = [{"name": "sciq_mc", "role": "train"}]
table = cells.heatmap_table(cells.measure(rows, scores.by_task(rows), tasks), list(values["answers"]), tasks)
print(table.loc[(table["method"] == "centroid") & (table["reading"] == "B"), "auroc"].max())
print(sorted(Path(values["out"]).iterdir()))
"""


def blocks(part, language):
    return re.findall(rf"^```{language}\n(.*?)^```", PARTS[part], re.DOTALL | re.MULTILINE)


@pytest.fixture(scope="module")
def checkout(tmp_path_factory):
    """A copy of the checkout to which all that the page says was done."""
    folder = tmp_path_factory.mktemp("checkout")
    listed = subprocess.run(
        ["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.splitlines()
    for name in listed:
        if (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes((ROOT / name).read_bytes())
    for part in PARTS:
        for change in blocks(part, "diff"):
            done = subprocess.run(["git", "apply"], cwd=folder, input=change, capture_output=True, text=True)
            assert done.returncode == 0, f"{part}: {done.stderr}"
    (folder / "notebooks/centroid.py").write_text(blocks("A method", "python")[0])
    for name, (part, language) in FILES.items():
        (folder / "grids" / name).write_text(blocks(part, language)[0])
    for part in BROUGHT:
        values = yaml.safe_load((ROOT / "grids/smoke.yml").read_text())
        for block in blocks(part, "yaml"):
            values |= yaml.safe_load(block)
        (folder / f"grids/{part.replace(' ', '-')}.yml").write_text(yaml.safe_dump(values))
    return folder


def run(folder, code, *arguments):
    """What a fresh Python says that has the copy's library; a text is code, and whoknows is the command."""
    paths = os.pathsep.join([str(folder / "lib"), str(folder / "tests")])
    what = ["-m", "whoknows"] if code == "whoknows" else ["-c", code]
    done = subprocess.run(
        [sys.executable, *what, *arguments],
        cwd=folder,
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHONPATH": paths},
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("part", PARTS)
def test_each_takes_a_few_lines(part):
    code = [block for language in ("python", "yaml", "bash") for block in blocks(part, language)]
    added = [line[1:] for block in blocks(part, "diff") for line in block.splitlines() if re.match(r"\+(?!\+\+)", line)]
    lines = [line for block in code for line in block.splitlines()] + added
    assert 0 < len([line for line in lines if line.strip()]) < (30 if part == "A method" else 10)


@pytest.mark.parametrize("part", BROUGHT)
def test_what_is_brought_is_a_few_lines_of_a_grid(part, checkout):
    run(checkout, "whoknows", "workflow", f"grids/{part.replace(' ', '-')}.yml", "--plan")


def test_the_questions_of_the_file_are_asked(checkout):
    code = (
        "import json; from whoknows.data import questions; from whoknows.run import grid, parameters; "
        "told = json.loads(parameters.questions(grid.load('grids/Questions.yml'))); "
        "t = questions.build(told['tasks'], told['splits'], told['shots']); print(sorted(map(list, t['gold'])))"
    )
    assert run(checkout, code).strip() == "[['Au'], ['Fe', 'ferrum'], ['Sn', 'stannum']]"


def test_the_plan_has_the_new_method(checkout):
    text = run(checkout, "whoknows", "workflow", "grids/smoke.yml", "--plan")
    planned = {line.split()[0] for line in text.partition("\n\n")[0].splitlines()}
    assert "\nCentroid " in text  # has a line among the costs, too
    for reader in (models := ("tiny-llama", "tiny-mistral")):
        for trained_on in models:
            cell = f"{reader}_{trained_on}"
            assert {f"{method}-{cell}_seed0" for method in ("probe", "lora_prompt", "centroid")} <= planned
            assert f"cell-centroid_{cell}" in planned


def test_the_new_method_has_its_place_in_the_heatmaps(checkout):
    auroc, estimator = run(checkout, RUN_METHOD).splitlines()[-2:]
    assert float(auroc) > 0.9
    assert "estimators/centroid/tiny-llama/tiny-mistral/seed0/centroid.safetensors" in estimator
