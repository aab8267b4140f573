"""What is packed is all that the pages of results read."""

import json
import shutil

import nbformat
import pandas as pd
import pytest
import yaml
from test_book import FAILED, write_page, write_results
from test_parameters import GRID, ROOT

from made_up import answers, make_rows
from whoknows import WhoknowsError
from whoknows.data import files
from whoknows.evaluation import cells, plateau
from whoknows.report import book, pack
from whoknows.run import grid, parameters
from whoknows.run.provenance import code

EVIL = "`a` | {eval}`1` <script>x</script>"


def estimator(method, names):
    return f"estimators/{method.removesuffix('_mlp')}/{names[0]}/{names[1]}/seed0/{method}.json"


@pytest.fixture
def results(tmp_path):
    folder, names = tmp_path / "results", [model.name for model in GRID.models]
    for name in names:
        files.write_parquet(folder / "answers" / f"{name}.parquet", answers().assign(mean_logprob=-0.5))
    for at, trained_on in enumerate(names):
        rows = make_rows(
            [at + 0.25, 0.1, -3], [True, False, False], reader=names[0], trained_on=trained_on, scored=names[0]
        )
        files.write_parquet(folder / "rows" / "probe" / f"{at}.parquet", rows)
        files.write_parquet(folder / "controls" / f"{at}.parquet", rows.assign(method="probe_last"))
    for method in ("probe", "probe_mlp", "lora_prompt"):
        card = {
            "method": method,
            "reader": names[0],
            "trained_on": names[1],
            "seed": 0,
            "history": [{"validation_auroc": 0.5}],
        }
        files.write_text(folder / estimator(method, names), json.dumps(card))
    files.write_text(folder / "estimators/lora_prompt/adapter_config.json", json.dumps({"r": 8}))
    files.write_parquet(
        folder / "search" / f"{names[0]}.parquet", pd.DataFrame({"reader": [names[0]], "validation_auroc": [0.75]})
    )
    files.write_parquet(folder / "search" / "gone.parquet", pd.DataFrame({"reader": ["gone"]}))
    abouts = {
        "heatmaps": {"commit": "later", "machine": "a laptop", "versions": {"torch": "1"}, "parameters": {"x": 1}},
        f"answer-{names[0]}": {
            "commit": "abc",
            "machine": "a machine",
            "precision": "bfloat16",
            "versions": {"torch": "2", "peft": "3"},
            "parameters": {"model": names[0]},
        },
        f"answer-{names[1]}": {
            "commit": "abc",
            "machine": EVIL,
            "versions": {"torch": "2.1"},
            "parameters": {"model": names[1]},
        },
        "answer-gone": {"commit": "older", "parameters": {"model": "gone"}},
    }
    for name, about in abouts.items():
        page = nbformat.v4.new_notebook(metadata={"whoknows": about})
        files.write_text(folder / f"notebooks/{name}.ipynb", nbformat.writes(page))
    return folder


def test_all_rows_are_there_and_an_old_pack_is_gone(results, tmp_path):
    for name in ("about.json", "grid.yml", "rows/old.parquet"):
        files.write_text(tmp_path / "packed" / name, "")
    pack.pack(ROOT / "grids/smoke.yml", results, tmp_path / "packed")
    names = [model.name for model in GRID.models]
    for part in ("rows", "controls"):
        before, after = (
            cells.read_rows(folder / part, names, ["probe"], [0]) for folder in (results, tmp_path / "packed")
        )
        pd.testing.assert_frame_equal(before.sort_values(pack.ORDER, ignore_index=True), after, check_dtype=False)
    there = {str(path.relative_to(tmp_path / "packed")) for path in (tmp_path / "packed").rglob("*.*")}
    kept = {
        "about.json",
        "grid.yml",
        "rows/rows.parquet",
        "controls/controls.parquet",
        *(estimator(method, names) for method in ("probe", "probe_mlp", "lora_prompt")),
    }
    kept |= {f"search/{names[0]}.parquet"}
    assert there == kept | {f"answers/{name}.parquet" for name in names}
    for name in names:
        before, after = (
            files.read_parquet(folder / "answers" / f"{name}.parquet") for folder in (results, tmp_path / "packed")
        )
        pd.testing.assert_frame_equal(before, after)
    about = {
        "commit": "abc",
        "machine": f"a machine; {EVIL}",
        "precision": "bfloat16",
        "versions": {"torch": "2; 2.1", "peft": "3"},
    }
    assert json.loads((tmp_path / "packed/about.json").read_text()) == about, "of what made the rows, not of the page"
    assert (tmp_path / "packed/grid.yml").read_text() == grid.text(GRID, tmp_path), "with what its file leaves out"


def test_the_verdicts_of_a_judge_are_packed_and_read_by_the_page(results, tmp_path):
    values = files.read_yaml(ROOT / "grids/smoke.yml") | {"judge": {"url": "http://localhost/v1", "model": "wise"}}
    files.write_text(tmp_path / "grid.yml", yaml.safe_dump(values))
    names, verdicts = (
        [model.name for model in GRID.models],
        pd.DataFrame({"question_id": ["q0", "q2"], "right": [True, False]}),
    )
    for name in (names[0], "gone"):
        files.write_parquet(results / "judged" / f"{name}.parquet", verdicts)
    pack.pack(tmp_path / "grid.yml", results, tmp_path / "packed")
    there = [str(path.relative_to(tmp_path / "packed")) for path in (tmp_path / "packed/judged").iterdir()]
    assert there == [f"judged/{names[0]}.parquet"]
    told = json.loads(parameters.from_folder(grid.load(tmp_path / "grid.yml"), "grading", "packed", "out.parquet"))
    assert told["judged"] == "packed/judged"
    pd.testing.assert_frame_equal(files.read_parquet(tmp_path / "packed" / there[0]), verdicts)


def test_an_unfinished_run_is_not_packed(results, tmp_path):
    (results / "notebooks/heatmaps.ipynb").unlink()
    with pytest.raises(WhoknowsError, match="has no finished run of .*smoke.yml: run make book GRID="):
        pack.pack(ROOT / "grids/smoke.yml", results, tmp_path / "packed")
    assert not (tmp_path / "packed").exists()


def test_rows_of_other_settings_are_not_packed_with_the_grid(results, tmp_path):
    values = json.loads(parameters.answer(GRID, "tiny-llama")) | {"max_new_tokens": 7}
    page = nbformat.v4.new_notebook(metadata={"whoknows": {"parameters": values}})
    files.write_text(results / "notebooks/answer-tiny-llama.ipynb", nbformat.writes(page))
    with pytest.raises(WhoknowsError, match="smoke.yml: 1 of its 3 notebooks, such as answer-tiny-llama, were made "):
        pack.pack(ROOT / "grids/smoke.yml", results, tmp_path / "packed")
    assert not (tmp_path / "packed").exists()


@pytest.mark.parametrize("there", ["packed/grid.yml", "packed/data/table.csv", "packed"])
def test_other_files_are_not_replaced_by_a_pack(results, tmp_path, there):
    files.write_text(tmp_path / there, "mine")
    with pytest.raises(WhoknowsError, match="packed: other files are there, .* name a new or an empty folder"):
        pack.pack(ROOT / "grids/smoke.yml", results, tmp_path / "packed")
    assert (tmp_path / there).read_text() == "mine"


@pytest.mark.slow
def test_another_grids_book_reads_a_pack_that_was_copied_there_and_says_whose_it_is(results, tmp_path):
    """Nothing is left of the run but the folder."""
    theirs = files.read_yaml(ROOT / "grids/smoke.yml") | {"name": "theirs"}
    (tmp_path / "theirs.yml").write_text(yaml.safe_dump(theirs))
    pack.pack(tmp_path / "theirs.yml", results, tmp_path / "packed")
    shutil.move(tmp_path / "packed", tmp_path / "elsewhere")
    shutil.rmtree(results)
    results = tmp_path / "own"
    grid_file = write_results(results)
    grid_file.write_text(grid_file.read_text().replace("beside: null", f"beside: {tmp_path / 'elsewhere'}"))
    (results / f"notebooks/{FAILED}.failed.ipynb").unlink()
    for page in parameters.PAGES:
        values = json.loads(parameters.beside(grid.load(grid_file), page))
        assert {"tiny-llama", "tiny-mistral"} == set(values.get("models") or values["answers"])
        rows = plateau.mark(
            cells.read_rows(values["rows"], ["tiny-llama", "tiny-mistral"], ["probe"], [0]), values["estimators"]
        )
        names = [model.name for model in GRID.models]
        assert (
            rows.groupby("trained_on")["unsettled"].agg(list).to_dict()[names[1]] == [plateau.IMPROVING] * 3
            and len(rows) == 6
        )
        for name in (page, f"beside-{page}"):  # the smoke test runs them
            write_page(results / "notebooks", name, name, {}, [])
    shown = nbformat.read(book.write(grid_file, results) / "run/beside-heatmaps.ipynb", as_version=4)
    facts = ["commit abc", f"machine a machine; {EVIL}", "precision bfloat16", "peft 3", "torch 2; 2.1"]
    assert f"measured by a run of the grid `theirs` ({', '.join(map(code, facts))}), not by" in shown.cells[1].source
    expected = (
        "Its models computed in `bfloat16`, those of this run in a number format that is not recorded. "
        "In another number format, or on another machine, "
    )
    assert expected in shown.cells[1].source and "so the numbers of right answers differ" in shown.cells[1].source
    assert "<th>precision</th><td>bfloat16</td>" in shown.cells[-1].source
