"""Every notebook is told all of its parameters, and depends on the modules that it imports."""

import json
import os
from dataclasses import replace
from pathlib import Path

import jupytext
import pytest

from whoknows import WhoknowsError
from whoknows.data import assets, sources
from whoknows.run import grid, page, parameters

ROOT = Path(__file__).parents[2]
DEFAULT = grid.load(ROOT / "grids/embedded.yml")
FIRST = DEFAULT.models[0].name
GRID = grid.load(ROOT / "grids/smoke.yml")
PARAMETERS = {
    "questions": parameters.questions(GRID),
    "answer": parameters.answer(GRID, "tiny-llama"),
    "extract": parameters.extract(GRID, "tiny-llama"),
    "probe": parameters.probe(GRID, "tiny-llama", "tiny-mistral", "0"),
    "lora_prompt": parameters.lora_prompt(GRID, "tiny-llama", "tiny-mistral", "0"),
    "heatmaps": parameters.page(GRID, "heatmaps"),
    "claims": parameters.page(GRID, "claims"),
    "differences": parameters.page(GRID, "differences"),
    "grading": parameters.page(GRID, "grading"),
    "judge": parameters.judge(replace(GRID, judge=grid.Endpoint("http://localhost/v1", "wise")), "tiny-llama"),
    "controls": parameters.page(GRID, "controls"),
    "recompute": parameters.page(GRID, "recompute"),
    "shift": parameters.page(GRID, "shift"),
    "worth": parameters.page(GRID, "worth"),
    "cell": parameters.cell(GRID, "probe", "tiny-llama", "tiny-mistral"),
    "surface": parameters.surface(GRID),
    "ablate": parameters.ablate(GRID, "tiny-llama"),
    "search": parameters.search(GRID, "tiny-llama"),
    "settings": parameters.settings(GRID),
}


@pytest.mark.parametrize("stage", PARAMETERS)
def test_a_notebook_is_told_just_its_parameters(stage):
    source = jupytext.read(ROOT / f"notebooks/{stage}.py", fmt="py:percent")
    known = page.parameters(source)
    values = json.loads(PARAMETERS[stage])
    # What runs do not say where it is not asked for, or else all of them would be due again.
    optional = {"released"} & {*known}
    assert values.keys() == known.keys() - optional and not any(known.pop(name) for name in optional)
    for name, default in known.items():
        # A dict's keys are checked too, unless they are models' names.
        if isinstance(default, dict) and name != "answers":
            assert values[name].keys() == default.keys(), name


def with_files(folder) -> grid.Grid:
    """The smoke grid with its second model known by a file, and a third behind an endpoint."""
    (folder / "gpt.csv").write_text("question,answer\nWhy?,so\n")
    file = grid.Model("GPT", answers=str(folder / "gpt.csv"), columns={"logprob": "lp"})
    far = grid.Model("far", api=grid.Endpoint("http://localhost/v1", "wise"))
    return replace(GRID, models=(GRID.models[0], file, far))


def test_a_file_of_answers_is_told_with_its_digest_and_an_endpoint_with_its_model(tmp_path):
    mine = with_files(tmp_path)
    first = json.loads(parameters.answer_file(mine, "GPT"))
    source = jupytext.read(ROOT / "notebooks/answer_file.py", fmt="py:percent")
    assert first.keys() == page.parameters(source).keys() and first["columns"] == {"logprob": "lp"}
    assert first["out"] == "results/smoke/answers/GPT.parquet" and first["rows_out"].endswith("likelihood/GPT.parquet")
    (tmp_path / "gpt.csv").write_text("question,answer\nWhy?,not\n")
    again = json.loads(parameters.answer_file(mine, "GPT"))
    assert again == first | {"digest": again["digest"]} and again["digest"] != first["digest"]
    (tmp_path / "gpt.csv").unlink()
    with pytest.raises(WhoknowsError, match="gpt.csv: this file cannot be read"):
        parameters.answer_file(mine, "GPT")
    told = json.loads(parameters.answer_api(mine, "far"))
    assert told["api"] == {"url": "http://localhost/v1", "model": "wise"} and told["max_new_tokens"] == 4
    assert told["questions"] == "results/smoke/questions.parquet" and told["out"] == "results/smoke/answers/far.parquet"


def test_a_judge_that_grades_is_a_parameter_of_the_questions_and_is_not_compared_with_itself(tmp_path):
    (tmp_path / "a.csv").write_text("question,answer\nWhy?,so\n")
    essays = grid.Task("essays", "train", file=str(tmp_path / "a.csv"), grading="judge")
    wise = replace(GRID, judge=grid.Endpoint("http://localhost/v1", "wise"))
    mine, alone = replace(wise, tasks=(*GRID.tasks, essays)), replace(wise, tasks=(essays,))
    asked = json.loads(parameters.questions(mine))["tasks"]
    assert asked[-1]["judge"] == {"url": "http://localhost/v1", "model": "wise"}
    assert asked[:-1] == json.loads(parameters.questions(GRID))["tasks"] and "judge" not in str(asked[:-1])
    assert parameters.questions(wise) == parameters.questions(GRID), "a judge that grades nothing is none to them"
    assert parameters.answer(mine, "tiny-llama") == parameters.answer(GRID, "tiny-llama")
    assert [parameters.compared(one) for one in (GRID, wise, mine, alone)] == [False, True, True, False]
    assert (
        json.loads(parameters.page(mine, "grading"))["judged"]
        and not json.loads(parameters.page(alone, "grading"))["judged"]
    )
    closed, open_ones = (replace(wise, tasks=(replace(essays, grading=name),)) for name in ("exact", "contains"))
    assert not parameters.compared(closed) and parameters.compared(open_ones), "open questions have another way"


def test_a_method_without_a_function_of_its_own_is_told_what_every_estimator_is():
    values = json.loads(parameters.of("centroid")(GRID, reader="tiny-llama", trained_on="tiny-mistral", seed="1"))
    assert {*values} == {"reader", "trained_on", "seed", "answers", "features", "out", "rows_out"}
    assert values["out"].endswith("/estimators/centroid/tiny-llama/tiny-mistral/seed1") and values["seed"] == 1
    assert parameters.of("probe") is parameters.probe


def test_pages_are_told_who_reads_and_who_is_scored(tmp_path):
    mine = with_files(tmp_path)
    for name in parameters.PAGES:
        values = json.loads(parameters.of(name)(mine))
        assert values["readers"] == ["tiny-llama"], name
        assert list(values["answers"] if name == "grading" else values["models"]) == ["tiny-llama", "GPT", "far"], name
    assert json.loads(parameters.settings(mine))["models"] == ["tiny-llama"], "whoever reads is searched"
    assert list(json.loads(parameters.extract(mine, "tiny-llama"))["answers"]) == ["tiny-llama", "GPT", "far"]


def test_paths_say_which_model_reads_and_which_one_it_is_trained_on():
    values = json.loads(PARAMETERS["lora_prompt"])
    assert values["source"] == "tiny-llama" and values["features"] == "results/smoke/features/tiny-llama"
    whole = replace(GRID, lora_prompt=replace(GRID.lora_prompt, first_layer=0))
    assert json.loads(parameters.lora_prompt(whole, "tiny-llama", "tiny-mistral", "0"))["features"] is None
    assert values["out"] == "results/smoke/estimators/lora_prompt/tiny-llama/tiny-mistral/seed0"
    assert values["rows_out"] == "results/smoke/rows/lora_prompt/tiny-llama/tiny-mistral/seed0.parquet"
    assert values["answers"]["tiny-mistral"] == "results/smoke/answers/tiny-mistral.parquet"


def test_every_stage_is_told_the_grids_own_seeds():
    seeded, first_seeds = replace(GRID, seeds=(3, 5)), {}
    for stage, names in {
        "search": ["tiny-llama"],
        "sweep": ["tiny-llama"],
        "ablate_lora": ["tiny-llama", "lora"],
    }.items():
        first_seeds[stage] = json.loads(getattr(parameters, stage)(seeded, *names))["seed"]
    assert first_seeds == {"search": 3, "sweep": 3, "ablate_lora": 3}, "the first one"
    assert (
        json.loads(parameters.surface(seeded))["seeds"]
        == json.loads(parameters.ablate(seeded, "tiny-llama"))["seeds"]
        == [3, 5]
    )
    for stage in ("probe", "lora_prompt"):
        values = json.loads(getattr(parameters, stage)(seeded, "tiny-llama", "tiny-mistral", "5"))
        assert (
            values["seed"] == 5
            and values["out"].endswith("tiny-llama/tiny-mistral/seed5")
            and values["rows_out"].endswith("seed5.parquet")
        )


def test_a_models_own_layers_are_told_to_its_probes_and_nothing_else_changes():
    deep = replace(GRID, models=(replace(GRID.models[0], layers=(1,)), GRID.models[1]))
    for of, expected, other in ((GRID, "all", "all"), (deep, [1], "all")):
        assert json.loads(parameters.probe(of, "tiny-llama", "tiny-mistral", "0"))["layers"] == expected
        assert json.loads(parameters.probe(of, "tiny-mistral", "tiny-llama", "0"))["layers"] == other
        assert json.loads(parameters.search(of, "tiny-llama"))["layers"] == expected
    for stage in ("answer", "extract", "ablate", "sweep"):
        assert getattr(parameters, stage)(deep, "tiny-llama") == getattr(parameters, stage)(GRID, "tiny-llama")


def test_a_models_own_learning_rate_is_told_where_it_reads_and_nothing_else_changes():
    slow = replace(GRID, models=(replace(GRID.models[0], learning_rate=3e-4), GRID.models[1]))
    for trained_on in ("tiny-llama", "tiny-mistral"):
        usual, changed = (json.loads(parameters.lora_prompt(of, "tiny-llama", trained_on, "0")) for of in (GRID, slow))
        assert changed == usual | {"settings": usual["settings"] | {"learning_rate": 3e-4}}
        assert parameters.lora_prompt(slow, "tiny-mistral", trained_on, "0") == parameters.lora_prompt(
            GRID, "tiny-mistral", trained_on, "0"
        )
    assert json.loads(parameters.ablate_lora(slow, "tiny-llama", "lora"))["settings"]["learning_rate"] == 3e-4
    for stage in ("answer", "extract", "ablate", "sweep"):
        assert getattr(parameters, stage)(slow, "tiny-llama") == getattr(parameters, stage)(GRID, "tiny-llama")


def test_other_files_of_a_model_are_other_parameters_of_every_stage_that_depends_on_them(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    local = replace(GRID, models=(replace(GRID.models[0], source=str(tmp_path)), GRID.models[1]))
    local = replace(local, controls=replace(GRID.controls, embedder=str(tmp_path)))
    asked = {
        "surface": (),
        "answer": ("tiny-llama",),
        "extract": ("tiny-llama",),
        "search": ("tiny-llama",),
        "ablate_lora": ("tiny-llama", "lora"),
        "probe": ("tiny-llama", "tiny-mistral", "0"),
        "lora_prompt": ("tiny-llama", "tiny-mistral", "0"),
    }
    versions = []
    for weights in (b"one", b"two"):
        (tmp_path / "model.safetensors").write_bytes(weights)
        versions.append({stage: getattr(parameters, stage)(local, *names) for stage, names in asked.items()})
        assert {json.loads(values)["digest"] for values in versions[-1].values()} == {assets.digest(str(tmp_path))}
        assert json.loads(parameters.answer(local, "tiny-mistral"))["digest"] == assets.digest("tiny-mistral")
    assert not set(versions[0].values()) & set(versions[1].values())


def test_a_variant_differs_in_what_it_is_about_and_in_where_it_goes():
    plain = json.loads(parameters.lora_prompt(GRID, "tiny-llama", "tiny-llama", "0"))
    changes = {}
    for variant in parameters.lora_variants(GRID):
        values = json.loads(parameters.ablate_lora(GRID, "tiny-llama", variant))
        assert values["method"] == ("lora_prompt" if variant == "lora_prompt_all_models" else variant)
        assert values["out"] == f"results/smoke/estimators/{variant}/tiny-llama"
        assert values["rows_out"] == f"results/smoke/controls/lora/{variant}/tiny-llama.parquet"
        assert values.keys() == plain.keys()
        changes[variant] = {
            key: values[key] for key in values if values[key] != plain[key] and key not in ("method", "out", "rows_out")
        }
    assert changes == {
        "lora": {"query": False},
        "lora_prompt_no_js": {"settings": plain["settings"] | {"js_weight": 0.0}},
        "lora_prompt_without_openbookqa_mc": {"without": "openbookqa_mc"},
        "lora_prompt_without_arc_easy_mc": {"without": "arc_easy_mc"},
        "lora_prompt_all_models": {"trained_on": "all models"},
    }
    assert parameters.lora_variants(DEFAULT) == {}
    alone = replace(GRID, models=GRID.models[:1], tasks=(GRID.tasks[0], GRID.tasks[2]))
    assert [*parameters.lora_variants(alone)] == ["lora", "lora_prompt_no_js"], "one task and one model"


def test_the_pages_of_a_packed_run_read_its_files_and_write_nothing_there(tmp_path):
    beside = tmp_path / "packed"
    chosen = replace(DEFAULT, beside=str(beside))
    with pytest.raises(
        WhoknowsError, match="grid, beside: there is no .*grid.yml: write the folder with python -m whoknows pack"
    ):
        parameters.beside(chosen, "heatmaps")
    beside.mkdir()
    (beside / "grid.yml").write_text((ROOT / "grids/smoke.yml").read_text())
    for part in (
        "about.json",
        "rows/rows.parquet",
        "controls/controls.parquet",
        "answers/tiny-llama.parquet",
        "answers/tiny-mistral.parquet",
    ):
        with pytest.raises(
            WhoknowsError,
            match=f"grid, beside: there is no .*{part}: write the folder with python -m whoknows pack, copy all of it",
        ):
            parameters.beside(chosen, "heatmaps")
        (beside / part).parent.mkdir(exist_ok=True)
        (beside / part).touch()
    assert parameters.beside_pages(chosen) == list(parameters.PAGES)
    (beside / "search").mkdir()
    assert parameters.beside_pages(chosen) == [*parameters.PAGES, "settings"] and parameters.beside_pages(GRID) == []
    theirs = json.loads(parameters.beside(chosen, "settings"))
    assert theirs == {
        "models": ["tiny-llama", "tiny-mistral"],
        "search": f"{beside}/search",
        "out": "results/embedded/beside/settings.parquet",
    }
    for page_name in parameters.PAGES:
        theirs, usual = (json.loads(parameters.beside(chosen, page_name)), json.loads(parameters.of(page_name)(GRID)))
        assert theirs.keys() == usual.keys() and theirs["out"] == f"results/embedded/beside/{page_name}.parquet"
        assert (
            "results/smoke" not in json.dumps(theirs)
            and theirs["seeds"] == usual["seeds"]
            and theirs["estimators"] == f"{beside}/estimators"
        )


def test_imports_are_followed_wherever_they_stand(tmp_path, monkeypatch):
    modules = {
        "__init__": "",
        "one": "from whoknows import WhoknowsError, two\nimport numpy",
        "two": "def late():\n    import whoknows.three",
        "three": "from whoknows.four import name",
        "four": "def main():\n    from whoknows import five",
        "five": "",
        "six": "",
    }
    for name, text in modules.items():
        (tmp_path / f"{name}.py").write_text(text)
    notebook = tmp_path / "notebook.py"
    notebook.write_text("# %%\nfrom whoknows import one\n")
    monkeypatch.setattr(sources, "LIBRARY", tmp_path)
    monkeypatch.chdir(tmp_path)
    files = sources.closure(notebook)
    assert files[0] == "notebook.py"  # the rules run the first one
    assert set(files) == {"notebook.py", "__init__.py", "one.py", "two.py", "three.py", "four.py"}


def test_modules_in_folders_are_followed_too(tmp_path, monkeypatch):
    texts = {
        "__init__.py": "",
        "room/__init__.py": "",
        "room/one.py": "from whoknows.room.deep import two",
        "room/deep/__init__.py": "",
        "room/deep/two.py": "import whoknows.other.three",
    }
    texts |= {
        "other/__init__.py": "",
        "other/three.py": "",
        "other/four.py": "",
        "notebook.py": "from whoknows.room import one",
    }
    for name, text in texts.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    monkeypatch.setattr(sources, "LIBRARY", tmp_path)
    monkeypatch.chdir(tmp_path)
    assert set(sources.closure(tmp_path / "notebook.py")) == texts.keys() - {"other/four.py"}


SOURCE = """'''A module.'''
def shift(share):
    "Log-odds."
    if share < 0.5:  # see the paper
        raise ValueError(f"{share} is too small")
    return share + 1
"""


@pytest.mark.parametrize(("old", "new", "is_another"), [
    ("A module.", "Another", False),
    ("Log-odds.", "Odds", False),
    ("is too small", "should be larger", False),
    ("# see the paper", "# of all", False),
    ("share < 0.5", "(share<0.5)", False),
    ("share + 1", "share + 2", True),
    ("share < 0.5", "share < 0.6", True),
    ("ValueError", "KeyError", True),
    ("{share} is", "{1 / share} is", True),
])  # fmt: skip
def test_a_module_counts_by_what_it_does(tmp_path, old, new, is_another):
    assert old in SOURCE
    for name, text in (("one", SOURCE), ("two", SOURCE.replace(old, new))):
        (tmp_path / f"{name}.py").write_text(text)
    assert (sources.content(tmp_path / "one.py") != sources.content(tmp_path / "two.py")) == is_another


def test_a_digest_is_of_the_notebook_of_what_it_imports_and_of_what_else_it_reads(tmp_path, monkeypatch):
    monkeypatch.setattr(sources, "LIBRARY", tmp_path)
    monkeypatch.chdir(tmp_path)
    texts = {
        "__init__.py": "",
        "one.py": "from whoknows import two",
        "two.py": "",
        "notebook.py": "from whoknows import one",
        "data.csv": "1",
        "three.py": "",
    }
    for name, text in texts.items():
        Path(name).write_text(text)
    digests = [sources.digest("notebook.py", "data.csv")]
    for name in ("three.py", "two.py", "data.csv", "notebook.py"):
        Path(name).write_text(texts[name] + "\n1")
        sources._imported.cache_clear(), sources.content.cache_clear()
        digests.append(sources.digest("notebook.py", "data.csv"))
    assert digests[0] == digests[1] and len(set(digests)) == 4


def test_a_digest_is_the_same_from_every_folder_and_in_every_checkout(tmp_path, monkeypatch):
    digests = []
    for checkout in (tmp_path / "here", tmp_path / "else/where"):
        library, notebook = checkout / "lib/whoknows", checkout / "notebooks/page.py"
        for path, text in ((library / "__init__.py", ""), (library / "one.py", "1"), (notebook, "import whoknows.one")):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        monkeypatch.setattr(sources, "LIBRARY", library)
        for folder in (checkout, notebook.parent, tmp_path):
            monkeypatch.chdir(folder)
            digests.append(sources.digest(os.path.relpath(notebook), os.path.relpath(library / "one.py")))
    assert len(set(digests)) == 1 and sources.digest(notebook, library / "__init__.py") != digests[0]


@pytest.mark.parametrize(
    ("stage", "values"),
    [
        ("questions", parameters.questions(DEFAULT)),
        ("answer", parameters.answer(DEFAULT, FIRST)),
        ("extract", parameters.extract(DEFAULT, FIRST)),
        ("probe", parameters.probe(DEFAULT, FIRST, FIRST, "0")),
        ("lora_prompt", parameters.lora_prompt(DEFAULT, FIRST, FIRST, "0")),
        ("heatmaps", parameters.page(DEFAULT, "heatmaps")),
    ],
)
def test_by_itself_a_notebook_repeats_the_first_cell_of_the_default_grid(stage, values):
    source = jupytext.read(ROOT / f"notebooks/{stage}.py", fmt="py:percent")
    known, values = page.parameters(source), json.loads(values)
    by_hand = {
        name: values[name].replace("results/embedded", "results/by-hand")
        for name in ("out", "rows_out")
        if name in values
    }
    by_hand |= {"digest": None} if "digest" in values else {}  # so that another source can be named without its digest
    by_hand |= {"released": None} if stage == "lora_prompt" else {}
    assert known == values | by_hand


def test_the_search_trains_by_default_as_lora_prompt_does():
    search, lora_prompt = (
        page.parameters(jupytext.read(ROOT / f"notebooks/{stage}.py", fmt="py:percent"))
        for stage in ("search", "lora_prompt")
    )
    assert search["settings"] == lora_prompt["settings"]


def rooms_and_modules(notebook):
    paths = [Path(path) for path in sources.closure(ROOT / f"notebooks/{notebook}.py")]
    return {path.parent.name for path in paths}, {path.stem for path in paths}


MEASURES = {"metrics", "scores", "bootstrap", "cells"}


@pytest.mark.parametrize("stage", ["questions", "answer", "extract", "probe", "lora_prompt", "search"])
def test_a_new_metric_a_title_a_chart_or_a_readme_re_runs_no_training(stage):
    rooms, modules = rooms_and_modules(stage)
    assert not modules & {*MEASURES, "methods"} and not rooms & {"report", "pages", "use"}


def test_a_new_metric_or_a_chart_re_runs_the_pages_of_results():
    rooms, modules = rooms_and_modules("heatmaps")
    assert modules >= MEASURES and "pages" in rooms


def test_charts_count_where_no_stage_runs(tmp_path, monkeypatch):
    texts = dict.fromkeys(["__init__.py", "report/__init__.py", "report/chart.py", "stages/__init__.py"], "")
    texts |= {"stages/one.py": "", "page.py": "from whoknows.report import chart"}
    texts["stage.py"] = texts["page.py"] + "\nfrom whoknows.stages import one"
    for name, text in texts.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    monkeypatch.setattr(sources, "LIBRARY", tmp_path)
    monkeypatch.chdir(tmp_path)
    assert "report/chart.py" in sources.closure("page.py") and "report/chart.py" not in sources.closure("stage.py")
