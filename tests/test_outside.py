"""A grid with one reader and a model that is known by a file of answers alone, from the file to the book."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
import yaml

from whoknows.data import assets, questions

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[1]
COPIED = ("Snakefile", "_config.yml", "_toc.yml", "CITATION.cff", "book", "grids", "lib", "notebooks")
HOSTILE = '=HYPERLINK("http://x")<script>alert(1)</script>\x1b[31m'


def run(folder, *command):
    python = [sys.executable, "-m", "whoknows"]
    environment = os.environ | {"PYTHONPATH": str(folder / "lib")}
    done = subprocess.run([*python, *command], cwd=folder, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def checkout(tmp_path_factory):
    """A checkout after its run: GPT has answered all but every seventh question, and half of those right."""
    assets.fetch("questions")
    folder = tmp_path_factory.mktemp("checkout")
    for name in COPIED:
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        copy(ROOT / name, folder / name, **({"symlinks": True} if copy is shutil.copytree else {}))
    values = yaml.safe_load((ROOT / "grids/smoke.yml").read_text()) | {"name": "outside", "methods": ["probe"]}
    values["models"] = [values["models"][0], {"name": "GPT", "answers": "gpt.csv", "columns": {"question": "prompt"}}]
    values["tasks"] = values["tasks"][::2]
    (folder / "grids/outside.yml").write_text(yaml.safe_dump(values))
    asked = questions.build(values["tasks"], values["splits"], values["answer"]["shots"])
    asked = asked[asked["split"] != "shot"].reset_index(drop=True)
    right = [gold[0] if at % 2 else HOSTILE for at, gold in enumerate(asked["gold"])]
    logprob = [-at / 100 if at % 3 else None for at in asked.index]
    table = pd.DataFrame({"prompt": asked["question"].str.upper(), "answer": right, "logprob": logprob})
    table[asked.index % 7 != 0].to_csv(folder / "grids/gpt.csv", index=False)
    counted = run(folder, "check", "grids/outside.yml")
    assert f"GPT: The file has answers to {(asked.index % 7 != 0).sum()} of {len(asked)} questions." in counted
    run(folder, "workflow", "grids/outside.yml", "--cores", "1")
    run(folder, "book", "grids/outside.yml")
    return folder


def test_who_reads_has_estimators_of_all_answers_and_who_does_not_has_none(checkout):
    pages = {path.stem for path in (checkout / "results/outside/notebooks").glob("*.ipynb")}
    assert {"answer-tiny-llama", "answer_file-GPT", "probe-tiny-llama_GPT_seed0", "cell-probe_tiny-llama_GPT"} <= pages
    assert not [page for page in pages if page.startswith(("answer-GPT", "extract-GPT", "probe-GPT", "cell-probe_GPT"))]
    scores = pd.read_parquet(checkout / "results/outside/scores.parquet")
    assert set(scores["reader"]) == {"tiny-llama"} and {*scores["reading"]} == {"A", "B", "all"}
    cell = scores[(scores["trained_on"] == "GPT") & (scores["scored"] == "GPT") & (scores["method"] == "probe")]
    assert cell["auroc"].notna().any()


def test_what_it_did_not_answer_is_in_no_row(checkout):
    answers = pd.read_parquet(checkout / "results/outside/answers/GPT.parquet")
    every = pd.read_parquet(checkout / "results/outside/answers/tiny-llama.parquet")
    rows = pd.concat(pd.read_parquet(path) for path in (checkout / "results/outside/rows").rglob("*.parquet"))
    rows = rows[rows["split"] == "test"]
    asked = {method: set(some["question_id"]) for method, some in rows[rows["scored"] == "GPT"].groupby("method")}
    tested = answers[answers["split"] == "test"]
    known = tested[tested["sum_logprob"].notna()]
    assert len(answers) < len(every) and 0 < len(known) < len(tested)
    assert asked.pop("likelihood") == set(known["question_id"])
    assert asked and all(some == set(tested["question_id"]) for some in asked.values())


def test_the_book_says_who_reads_and_what_a_file_holds_stays_inert(checkout):
    html = checkout / "results/outside/book/_build/html"
    first, page = (html / "index.html").read_text(), (html / "run/answer_file-GPT.html").read_text()
    assert "Of GPT only answers are known, and tiny-llama reads them." in first
    assert "The file has answers to" in page and "<script>alert(1)" not in page and "&lt;script&gt;alert(1)" in page
    assert "Answers from files" in (html / "run/record.html").read_text()
    (table,) = html.glob("_static/tables/answer_file-GPT-table.csv")
    assert not pd.read_csv(table)["answer"].str.startswith("=").any()


def test_an_edited_file_runs_again_and_all_that_reads_it(checkout):
    plan = {line.split()[0] for line in run(checkout, "workflow", "grids/outside.yml", "--plan").splitlines() if line}
    assert "answer_file-GPT" not in plan
    with open(checkout / "grids/gpt.csv", "a") as file:
        file.write("What is new?,nothing,\n")
    plan = {line.split()[0] for line in run(checkout, "workflow", "grids/outside.yml", "--plan").splitlines() if line}
    assert {"answer_file-GPT", "extract-tiny-llama", "probe-tiny-llama_tiny-llama_seed0", "heatmaps"} <= plan
    assert not {"questions", "answer-tiny-llama"} & plan
