"""Every grid of the repository loads, and every mistake in one is a sentence with the file, the key and the way out."""

import dataclasses
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
import yaml

from made_up import put
from whoknows import WhoknowsError, __main__
from whoknows.data import assets, cache, questions, tables, tasks
from whoknows.models import loading
from whoknows.run import grid, parameters, stages

GRIDS = Path(__file__).parents[2] / "grids"
LIB = Path(grid.__file__).parents[1]


@pytest.mark.parametrize("path", sorted(GRIDS.glob("*.yml")), ids=lambda path: path.stem)
def test_every_grid_of_the_repository_loads(path):
    assert grid.load(path).name == path.stem


def test_a_grid_says_what_its_file_says():
    loaded = grid.load(GRIDS / "embedded.yml")
    written = yaml.safe_load((GRIDS / "embedded.yml").read_text())
    usual = dict.fromkeys(("answers", "hub", "config", "split", "revision", "columns", "api"))
    usual |= dict.fromkeys(("learning_rate", "thinking", "layers", "released"))
    own = dict.fromkeys(("file", "hub", "config", "split", "revision", "columns", "grading", "tolerance"))
    models, asked = [usual | model for model in written["models"]], [own | task for task in written["tasks"]]
    left_out = dict.fromkeys(("search", "resources")) | {"date": "2025-01-01"}
    assert json.loads(json.dumps(dataclasses.asdict(loaded))) == left_out | written | {"models": models, "tasks": asked}
    assert loaded.models[1].source == "gemma3-270m"
    assert json.dumps(loaded.lora_prompt.alpha) == "32", "32.0 would be another parameter, and run stages again"
    assert hash(loaded) == hash(grid.load(GRIDS / "embedded.yml"))


@pytest.mark.parametrize(
    "task, knows",
    [
        ({"split": "train"}, False),
        ({"split": "test+validation", "role": "shift"}, True),
        ({"split": "train+test", "role": "shift"}, False),
        ({"split": {"train": "a", "test": "b"}}, True),
        ({"name": "mmlu_mc", "hub": None}, False),
        ({"name": "mmlu_mc", "hub": None, "role": "shift"}, True),
        ({"name": "cities", "hub": None, "role": "shift"}, False),
        ({"hub": None, "file": "a.csv"}, True),
    ],
)
def test_the_test_of_some_tasks_is_given_by_a_split_of_the_data(task, knows):
    assert grid.Task(**MINE | task).has_test == knows


def test_a_file_of_questions_lies_beside_its_grid_and_is_a_parameter_of_its_stage_alone(tmp_path):
    values = yaml.safe_load((GRIDS / "smoke.yml").read_text())
    values["tasks"].append({"name": "mine", "file": "my/own.jsonl", "role": "shift", "columns": {"question": "q"}})
    (tmp_path / "my").mkdir()
    (tmp_path / "mine.yml").write_text(yaml.safe_dump(values))
    file = tmp_path / "my/own.jsonl"
    loaded = grid.load(tmp_path / "mine.yml")
    assert loaded.tasks[-1].file == str(file) and hash(loaded)
    with pytest.raises(WhoknowsError, match="own.jsonl: this file cannot be read"):
        parameters.questions(loaded)
    told = {}
    for text in ('{"q": "Who?", "answer": "Ada"}\n', '{"q": "Who?", "answer": "Bob"}\n'):
        file.write_text(text)
        task = json.loads(parameters.questions(loaded))["tasks"][-1]
        told[task.pop("digest")] = task, parameters.page(loaded, "heatmaps")
    (first, page), (second, same) = told.values()
    assert first == second and page == same
    assert first == {"name": "mine", "file": str(file), "role": "shift", "columns": {"question": "q"}}


def test_checking_a_grid_reads_its_questions(tmp_path, monkeypatch):
    values = yaml.safe_load((GRIDS / "smoke.yml").read_text())
    values["tasks"] = [{"name": "mine", "file": "own.jsonl", "role": "train"}]
    (tmp_path / "mine.yml").write_text(yaml.safe_dump(values))
    (tmp_path / "own.jsonl").write_text('{"question": "Who?", "answer": "Ada"}\n{"question": "", "answer": "b"}\n')
    monkeypatch.setattr(loading, "check", lambda *_: pytest.fail("questions come first"))
    with pytest.raises(WhoknowsError, match="own.jsonl, line 2: the question is empty"):
        grid.main([str(tmp_path / "mine.yml")])


def test_the_paper_is_followed():
    paper = grid.load(GRIDS / "kapoor2024.yml")
    lora, mlp = paper.lora_prompt, paper.probe.mlp
    assert [model.source for model in paper.models] == ["meta-llama/Llama-2-7b-hf", "mistralai/Mistral-7B-v0.1"]
    assert (lora.r, lora.alpha, lora.dropout, lora.learning_rate, lora.batch_size) == (8, 32, 0.1, 1e-4, 32)
    assert (lora.first_layer, lora.wrong_per_right, lora.targets) == (0, None, ("q_proj", "v_proj"))
    assert (mlp.hidden, mlp.learning_rate) == ((256, 128, 64), 1e-4)
    assert [task.name for task in paper.tasks if task.role == "shift"] == ["mmlu", "mmlu_mc"]


def test_the_schema_for_editors_is_the_models(capsys):
    __main__.main(["check", "--schema"])
    again = "write it anew: python -m whoknows check --schema > grids/schema.json"
    assert (GRIDS / "schema.json").read_text() == capsys.readouterr().out, again


def test_the_schema_names_and_explains_every_key():
    schema = grid.schema()
    parts = schema["$defs"]
    assert list(parts["Stages"]["properties"]) == list(stages.STAGES)
    for name, part in (("Grid", schema), *parts.items()):
        for key, rule in part["properties"].items() if name != "Stages" else ():
            title = rule.get("title") or parts[rule["$ref"].rpartition("/")[2]]["title"]
            assert title[0].islower(), (name, key)  # ours: pydantic's own begin with a capital
            assert rule["description"].endswith(".") and "\n" not in rule["description"], (name, key)


def test_the_schema_shows_what_may_be_left_out():
    schema = grid.schema()
    parts, lora = schema["$defs"], schema["$defs"]["LoraPrompt"]["properties"]
    assert schema["required"] == ["name", "models", "tasks"] and parts["Model"]["required"] == ["name"]
    assert not {*parts} & {name for name in parts if "required" in parts[name]} - {
        "Model",
        "Task",
        "Endpoint",
        "OwnSplits",
    }
    assert lora["alpha"]["default"] == 32 and lora["wrong_per_right"]["default"] is None
    assert "default" not in parts["Stage"]["properties"]["gpus"], "null is nothing to write there"


def test_what_a_grid_leaves_out_is_as_in_the_default_grid():
    values = yaml.safe_load((GRIDS / "embedded.yml").read_text())
    told = {name: values[name] for name in ("name", "models", "tasks", "beside")}  # whose run stands beside is its own
    assert grid.build(told) == grid.build(values)
    values["lora_prompt"], values["probe"] = {"epochs": 2}, {"mlp": {"hidden": [8]}}
    mine, usual = grid.build(values), grid.load(GRIDS / "embedded.yml")
    assert mine.lora_prompt == dataclasses.replace(usual.lora_prompt, epochs=2)
    mlp = dataclasses.replace(usual.probe.mlp, hidden=(8,))
    assert mine.probe == dataclasses.replace(usual.probe, mlp=mlp)


@pytest.mark.parametrize("path", sorted(GRIDS.glob("*.yml")), ids=lambda path: path.stem)
def test_the_full_text_of_a_grid_is_the_same_grid(path, tmp_path):
    text = grid.text(grid.load(path), tmp_path)
    assert not {"lora_prompt", "judge", "date", "search", "resources"} - {*yaml.safe_load(text)}
    assert "thinking" not in text, "which no model has"
    assert yaml.safe_load(text)["date"] == "2025-01-01", "the day that is used"
    (tmp_path / "grid.yml").write_text(text)
    again = grid.load(tmp_path / "grid.yml")
    assert again == grid.load(path)


def test_a_grid_may_name_every_task():
    here, _another = grid.schema()["$defs"]["Task"]["properties"]["name"]["anyOf"]
    assert tuple(here["enum"]) == tasks.TASKS


def test_a_grid_may_say_what_a_job_gets_and_the_rest_is_left_to_the_profile(tmp_path):
    values = yaml.safe_load((GRIDS / "smoke.yml").read_text())
    values["resources"] = {
        "flops": 1.0e14,
        "stages": {"answer": {"gpus": 2, "memory": 1.5}, "probe": {"minutes": 9, "partition": "short", "cores": 3}},
    }
    (tmp_path / "mine.yml").write_text(yaml.safe_dump(values))
    mine = grid.load(tmp_path / "mine.yml")
    assert mine.needs("answer", 0) == {"gpu": 2, "mem_mb": 1500} and mine.job("probe").cores == 3
    assert mine.needs("probe", 1) == {"gpu": 0, "runtime": 9, "slurm_partition": "short"}
    assert [mine.needs("extract", cards) for cards in (0, 1, 4)] == [{"gpu": 0}, {"gpu": 1}, {"gpu": 1}]
    plain = grid.load(GRIDS / "smoke.yml")
    assert plain.needs("answer", 1) == {"gpu": 1} and plain.job("answer") == grid.Stage()


def test_loading_a_grid_is_quick_because_it_needs_no_model_library():
    code = "import sys, whoknows.run.grid; print({'torch', 'transformers', 'pandas'} & set(sys.modules))"
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "set()"


def complaint_of(tmp_path, change):
    values = yaml.safe_load((GRIDS / "embedded.yml").read_text())
    change(values)
    return complaint_of_text(tmp_path, yaml.safe_dump(values))


def complaint_of_text(tmp_path, text):
    path = tmp_path / "mine.yml"
    path.write_text(text)
    with pytest.raises(WhoknowsError) as caught:
        grid.load(path)
    message = str(caught.value)
    assert message.startswith(f"{path}: ") and "\n" not in message
    return message.removeprefix(f"{path}: ")


def test_one_model_is_enough_and_those_with_a_source_read(tmp_path):
    values = yaml.safe_load((GRIDS / "smoke.yml").read_text())
    alone = grid.build(values | {"models": values["models"][:1]})
    assert alone.readers == ["tiny-llama"]
    api = {"name": "far", "api": {"url": "http://localhost/v1", "model": "wise"}}
    file = {"name": "GPT", "answers": "gpt.csv", "columns": {"question": "prompt"}}
    values["models"] = [file, api, values["models"][1]]
    (tmp_path / "mine.yml").write_text(yaml.safe_dump(values))
    loaded = grid.load(tmp_path / "mine.yml")
    assert loaded.readers == ["tiny-mistral"] and hash(loaded)
    assert loaded.models[0].answers == str(tmp_path / "gpt.csv"), "can be opened from wherever the grid was named"
    assert loaded.models[1].api == grid.Endpoint("http://localhost/v1", "wise") and loaded.models[1].answers is None
    values["models"][0]["answers"] = str(tmp_path / "elsewhere/gpt.csv")
    (tmp_path / "mine.yml").write_text(yaml.safe_dump(values))
    assert grid.load(tmp_path / "mine.yml").models[0].answers == str(tmp_path / "elsewhere/gpt.csv")


def test_a_grid_is_the_same_however_it_is_named(tmp_path, monkeypatch):
    (tmp_path / "study/more").mkdir(parents=True)
    (tmp_path / "study/local").mkdir()
    (tmp_path / "study/local/config.json").touch()
    values = yaml.safe_load((GRIDS / "smoke.yml").read_text())
    values["models"] = [{"name": "m", "source": "local"}, {"name": "far", "answers": "a.csv"}]
    (tmp_path / "study/grid.yml").write_text(yaml.safe_dump(values))
    for folder, source in ((tmp_path, "study/local"), (tmp_path / "study", "local")):
        monkeypatch.chdir(folder)
        for path in (tmp_path / "study/grid.yml", Path(os.path.relpath(tmp_path / "study/more/../grid.yml"))):
            assert grid.load(path).models[0].source == source
        assert grid.load(tmp_path / "study/more/../grid.yml") == grid.load(path)


def test_a_models_folder_lies_beside_its_grid_or_in_the_working_directory(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for folder in ("study/both", "study/mine", "study/here", "study/tiny-llama", "both", "here", "study/empty"):
        (tmp_path / folder).mkdir(parents=True)
    for place in ("study/both", "study/mine", "study/tiny-llama", "both", "here"):
        (tmp_path / place / "config.json").touch()
    for path in ("study/mine/adapter_config.json", "study/mine.gguf", "here.gguf"):
        (tmp_path / path).touch()
    values = yaml.safe_load((GRIDS / "smoke.yml").read_text())
    values["models"] = [{"name": f"m{at}", "source": "tiny-llama"} for at in range(2)]
    values["tasks"] = [{"name": "mmlu", "role": "shift"}, {"name": "own", "file": "own.csv", "role": "train"}]

    def load(source, path="study/mine.yml"):
        values["models"][0] |= {"source": source, "released": {"m1": source}}
        values["controls"] = {"embedder": source}
        (tmp_path / path).write_text(yaml.safe_dump(values))
        return grid.load(path)

    for source, expected in (
        ("mine", "study/mine"),
        ("chat:mine", "chat:study/mine"),
        ("../here", "study/../here"),
        ("mine.gguf", "study/mine.gguf"),
        (str(tmp_path / "both"), str(tmp_path / "both")),
        *((same, same) for same in ("here", "study/mine", "here.gguf", "empty", "org/model", "tiny-llama")),
    ):
        loaded = load(source)
        assert [loaded.models[0].source, loaded.controls.embedder] == [expected] * 2, source
        if source in ("mine", "here", "org/model"):
            assert loaded.models[0].released == {"m1": expected}
    assert load("both/", "mine.yml").models[0].source == "both/", "as it was: another text would run the stages again"
    with pytest.raises(WhoknowsError, match="study/mine.yml: both is there beside the grid, and another one in the"):
        load("both")


def test_the_command_reads_files_of_answers_and_counts_them(monkeypatch, tmp_path, capsys):
    asked = pd.DataFrame({"question_id": [f"t-{i}" for i in range(5)], "task": "t", "question": list("abcde")})
    asked = asked.assign(split=["shot", "train", "train", "validation", "validation"], gold=[["x"]] * 5, kind="open")
    for owner, name in ((assets, "fetch_all"), (loading, "check")):
        monkeypatch.setattr(owner, name, lambda *_: None)
    monkeypatch.setattr(questions, "build", lambda *_: asked)
    values = yaml.safe_load((GRIDS / "smoke.yml").read_text())
    values["models"][1] = {"name": "GPT", "answers": "gpt.csv"}
    (tmp_path / "mine.yml").write_text(yaml.safe_dump(values))
    (tmp_path / "gpt.csv").write_text("question,answer\nb,x\nc,y\nd,x\ne,y\n")
    assert __main__.main(["check", str(tmp_path / "mine.yml")]) == 0
    assert capsys.readouterr().out.startswith("GPT: The file has answers to 4 of 4 questions.")
    (tmp_path / "gpt.csv").write_text("question,answer,correct\nb,x,maybe\n")
    assert __main__.main(["check", str(tmp_path / "mine.yml")]) == 2
    assert capsys.readouterr().err.startswith(
        f"{tmp_path / 'gpt.csv'}, line 2: correct is 'maybe'; write true or false"
    )


MINE = {"name": "mine", "hub": "org/a", "role": "train"}


def with_adapter(path, value):
    """A change of a grid that has a released adapter, trained on the first model's own answers."""

    def change(values):
        values["models"][0]["released"] = {values["models"][0]["name"]: "org/a"}
        values["tasks"] = [MINE | {"split": {"train": "train", "test": "validation"}}]
        assert grid.build(values), "nothing else is wrong with it"
        put(path, value)(values)

    return change


MISTAKES = {
    "unknown key": (put(["probe", "layer"], 3), "there is no key `probe.layer`; did you mean `layers`?"),
    "strange key": (put(["zzz"], 3), "there is no key `zzz`; the keys here are name, models, tasks"),
    "missing key": (
        lambda values: values["models"][0].pop("source"),
        "`models[0]` has none of source, answers, hub and api; give it one of them",
    ),
    "unknown task": (
        put(["tasks", 0, "name"], "triviaqa"),
        "`tasks[0].name` is `triviaqa`, which is no set of questions and has no file; did you mean `trivia_qa`?",
    ),
    "strange task": (put(["tasks", 0, "name"], "zzz"), "has no file; these are here: trivia_qa, sciq, "),
    "a mean's name": (put(["tasks", 0, "name"], "shift"), "`shift`, as pages call all tasks of a role together"),
    "a set's name": (put(["tasks", 0, "file"], "a.csv"), "a set that is here already; choose another name"),
    "columns of no file": (
        put(["tasks", 0, "columns"], {"question": "prompt"}),
        "`tasks[0].columns` is given, but common_knowledge is from no file; remove it",
    ),
    "file and hub": (
        put(["tasks", 0], {"name": "mine", "file": "a.csv", "hub": "org/a", "split": "test", "role": "train"}),
        "`tasks[0].hub` is given, but a file too; remove one of them",
    ),
    "no split": (
        put(["tasks", 0], {"name": "mine", "hub": "org/a", "role": "train"}),
        "`tasks[0].split` is missing; name a split",
    ),
    "revision of a file": (
        put(["tasks", 0], {"name": "mine", "file": "a.csv", "revision": "main", "role": "train"}),
        "`tasks[0].revision` is given, but mine is from no data set on the hub; remove it",
    ),
    "unknown grading": (
        put(["tasks", 0], {"name": "mine", "file": "a.csv", "role": "train", "grading": "exactly"}),
        "`tasks[0].grading` should be one of contains, exact, f1, choice, number, .* did you mean `exact`?",
    ),
    "a judge that is missing": (
        put(["tasks", 0], {"name": "essays", "file": "a.csv", "role": "train", "grading": "judge"}),
        "`tasks[0].grading` is judge, but `judge` is missing, so nobody can grade essays; write judge: {url",
    ),
    "tolerance of no number": (
        put(["tasks", 0], {"name": "mine", "file": "a.csv", "role": "train", "tolerance": 1}),
        "`tasks[0].tolerance` is given, but grading is not number",
    ),
    "unknown role": (put(["tasks", 1, "role"], "test"), "`tasks[1].role` should be one of train, shift, but is `test`"),
    "unknown method": (
        put(["methods"], ["prob"]),
        "`methods[0]` should be one of probe, lora_prompt, but is `prob`; did you mean `probe`?",
    ),
    "wrong type": (
        put(["batch_tokens"], "many"),
        "`batch_tokens` should be a whole number, 64 or more, or null, but is `many`.",
    ),
    "truth is no number": (
        put(["answer", "shots"], True),
        "`answer.shots` should be a whole number, 0 or more, but is `True`",
    ),
    "a model's rate": (
        put(["models", 1, "learning_rate"], 0),
        "`models[1].learning_rate` should be a number above 0, or null, but is `0`",
    ),
    "negative size": (
        put(["tasks", 0, "size"], -5),
        "`tasks[0].size` should be a whole number, 1 or more, or null, but is `-5`",
    ),
    "half a layer": (
        put(["probe", "layers"], [3, 4.5]),
        "`probe.layers` should be all, or a list of layers .* but is `[3, 4.5]`",
    ),
    "layer 4.0": (put(["probe", "layers"], [4.0]), "`probe.layers` should be all, or a list of layers"),
    "a model's layers": (
        put(["models", 1, "layers"], [-1]),
        "`models[1].layers` should be all, a list of layers (whole numbers, 0 or more), or null, but is ",
    ),
    "no layers": (put(["probe", "layers"], []), "`probe.layers` should be all, or a list of layers .* but is empty"),
    "a number for a name": (
        put(["lora_prompt", "targets"], ["q_proj", 1]),
        "`lora_prompt.targets[1]` should be a name, but is `1`",
    ),
    "a name twice": (
        put(["lora_prompt", "targets"], ["q_proj", "q_proj"]),
        "`lora_prompt.targets` holds the same value twice; remove one",
    ),
    "a misspelt key, which is missing then": (
        lambda values: values["lora_prompt"].update(alhpa=values["lora_prompt"].pop("alpha")),
        "there is no key `lora_prompt.alhpa`; did you mean `alpha`?",
    ),
    "a key that is no text": (put(["splits", True], 0.1), "there is no key `splits[True]`; the keys here are train, "),
    "a model that is none": (
        put(["models", 1], "gemma3-270m"),
        "`models[1]` should be a model with name and a source, answers, hub or api, but is `gemma3-270m`",
    ),
    "infinite": (put(["splits", "test"], float("inf")), "`splits.test` should be a number above 0, but is `inf`"),
    "null where the key may be left out": (
        put(["resources"], {"flops": None}),
        "`resources.flops` should be a number above 0, but is empty",
    ),
    "exponent without a point": (
        put(["lora_prompt", "learning_rate"], "1e-4"),
        "YAML takes that for text: write 0.0001",
    ),
    "not a number": (
        put(["lora_prompt", "alpha"], float("nan")),
        "`lora_prompt.alpha` should be a number above 0, but is `nan`",
    ),
    "no model": (
        put(["models"], []),
        "`models` should be a list of models, each with name and a source, .* but is empty",
    ),
    "a model without answers": (
        put(["models", 1], {"name": "x"}),
        "`models[1]` has none of source, answers, hub and api",
    ),
    "two ways to its answers": (
        put(["models", 1, "api"], {"url": "http://localhost", "model": "y"}),
        "`models[1]` has source and api; give it one of them, or a source and one of answers and hub",
    ),
    "two places of its answers": (
        put(["models", 1], {"name": "x", "answers": "a.csv", "hub": "org/a", "split": "test"}),
        "`models[1]` has answers and hub; give it one of them, or a source and one of answers and hub",
    ),
    "answers of no split": (
        put(["models", 1, "hub"], "org/a"),
        "`models[1]` has hub without split; name a split of the data set, such as test",
    ),
    "a split of no data set": (put(["models", 1, "split"], "test"), "`models[1]` has split without hub; remove it"),
    "a misspelt column": (
        put(["models", 1], {"name": "x", "answers": "a.csv", "columns": {"anser": "reply"}}),
        "there is no key `models[1].columns.anser`; did you mean `answer`?",
    ),
    "columns of no answers": (
        put(["models", 1, "columns"], {"answer": "reply"}),
        "`models[1]` has columns without answers or hub; remove it",
    ),
    "layers of who does not read": (
        put(["models", 1], {"name": "x", "answers": "a.csv", "layers": [1]}),
        "`models[1]` has layers without source; remove it",
    ),
    "an endpoint without http": (
        put(["models", 1], {"name": "x", "api": {"url": "localhost", "model": "y"}}),
        "`models[1].api.url` should be an address that begins with http:// or https://, but is `localhost`",
    ),
    "an endpoint with a secret in its address": (
        put(["models", 1], {"name": "x", "api": {"url": "http://localhost/v1?key=hunter2", "model": "y"}}),
        "`models[1].api.url`: an address is wanted like http://localhost:8000/v1, without user, password, ? or #; "
        "a key belongs in the environment variable WHOKNOWS_API_KEY.",
    ),
    "a judge with a password": (
        put(["judge"], {"url": "http://me:hunter2@localhost/v1", "model": "y"}),
        "`judge.url`: an address is wanted like http://localhost:8000/v1, without user, password, ? or #; "
        "a key belongs in the environment variable WHOKNOWS_JUDGE_KEY.",
    ),
    "a year for a name": (
        put(["name"], 2024),
        "beginning with a letter or a digit, but is `2024`; write it in quotes.",
    ),
    "an adapter of who does not read": (
        put(["models", 1], {"name": "x", "answers": "a.csv", "released": {"x": "org/a"}}),
        "`models[1]` has released without source; remove it",
    ),
    "an adapter trained on nobody": (
        put(["models", 0, "released"], {"Gemma-270M": "org/a"}),
        "`models[0].released` has an adapter trained on Gemma-270M, which is no model here; did you mean `Gemma3-270M`",
    ),
    "an adapter without a name": (
        put(["models", 0, "released"], "org/a"),
        "`models[0].released` should be adapters by the model trained on, or null, but is `org/a`",
    ),
    "an adapter that may know the test": (
        put(["models", 0, "released"], {"Gemma3-270M": "org/a"}),
        "`tasks[0]` is common_knowledge, of whose questions no split of the data says which are the test, but "
        "SmolLM2-135M has a released adapter, which may have learned any of them",
    ),
    "an adapter trained on a split without a name": (
        lambda values: values["models"][0].update(hub="org/a", split="a+b", released={"SmolLM2-135M": "org/a"}),
        "`models[0].released` has an adapter trained on SmolLM2-135M, but not which split of org/a that was: write",
    ),
    "an adapter trained twice": (
        with_adapter(["seeds"], [0, 1]),
        "`seeds` has 2 values, but SmolLM2-135M has a released adapter, which was trained once; name one seed.",
    ),
    "an adapter that other trainings cannot be compared with": (
        with_adapter(["controls", "lora"], ["no_query"]),
        "`controls.lora` asks for other trainings of SmolLM2-135M, but on its own answers its LoRA + Prompt is a",
    ),
    "an adapter that a training on all models cannot be compared with": (
        with_adapter(["controls", "lora"], ["all_models"]),
        "`controls.lora` asks for other trainings of SmolLM2-135M, but on its own answers its LoRA + Prompt is a",
    ),
    "another training of no name": (
        put(["controls", "lora"], ["all-models"]),
        "`controls.lora[0]` should be one of no_query, js_weight, left_out, all_models, but is `all-models`; did you",
    ),
    "questions of a split of no name": (
        put(["tasks", 0], MINE | {"split": {"train": "train", "tests": "test"}}),
        "there is no key `tasks[0].split.tests`; did you mean `test`?",
    ),
    "a split that is two of ours": (
        put(["tasks", 0], MINE | {"split": {"train": "train", "test": "train"}}),
        "`tasks[0].split` names one of the data set's splits twice; name others",
    ),
    "a model's split that is two of ours": (
        put(["models", 1], {"name": "x", "hub": "org/a", "split": {"train": "a", "test": "a"}}),
        "`models[1]` has a split that names one of the data set's splits twice; name others",
    ),
    "splits of a column and by name": (
        put(["tasks", 0], MINE | {"split": {"train": "a", "test": "b"}, "columns": {"split": "part"}}),
        "`tasks[0].columns.split` is given, but split names the data set's own splits too; remove one of them",
    ),
    "nobody who reads": (
        put(["models"], [{"name": "x", "answers": "a.csv"}]),
        "`models` has no model with a source, so nothing can read the answers; give one of them a source",
    ),
    "two of a name": (
        put(["models", 1, "name"], "smollm2-135m"),
        "`models[1].name` is `smollm2-135m`, which an earlier one has already",
    ),
    "a task twice": (
        put(["tasks", 2, "name"], "cities"),
        "`tasks[2].name` is `cities`, which an earlier one has already",
    ),
    "no day": (put(["date"], "2025-02-30"), "`date` is `2025-02-30`, which is no day; write one as year-month-day"),
    "thinking without a template": (
        put(["models", 0, "thinking"], True),
        "`models[0].thinking` is given, but its source is not asked in a chat template",
    ),
    "a path in a name": (put(["models", 0, "name"], "../x"), "`models[0].name` should be letters, digits"),
    "split sum": (put(["splits", "test"], 0.3), "`splits` should sum to 1, but sums to 0.82 (train 0.36, "),
    "empty split": (put(["splits", "validation"], 0), "`splits.validation` should be a number above 0, but is `0`"),
    "nothing to train on": (
        put(["tasks"], [{"name": "sciq", "size": 9, "role": "shift"}]),
        "`tasks` has no task with role train",
    ),
    "a seed twice": (put(["seeds"], [1, 1]), "`seeds` holds the same value twice"),
    "unknown stage": (
        put(["resources"], {"stages": {"answers": {"gpus": 1}}}),
        "there is no key `resources.stages.answers`; did you mean `answer`?",
    ),
    "unknown resource": (
        put(["resources"], {"stages": {"answer": {"gpu": 1}}}),
        "there is no key `resources.stages.answer.gpu`; did you mean `gpus`?",
    ),
    "half a GPU": (
        put(["resources"], {"stages": {"answer": {"gpus": 0.5}}}),
        "`resources.stages.answer.gpus` should be a whole number, 0 or more, but is `0.5`",
    ),
    "memory with a unit": (
        put(["resources"], {"stages": {"extract": {"memory": "16GB"}}}),
        "`resources.stages.extract.memory` should be a number above 0, but is `16GB`",
    ),
    "no resources of a stage": (
        put(["resources"], {"stages": {"probe": None}}),
        "`resources.stages.probe` should be some of gpus, cores, memory, minutes, partition and shards, but is empty",
    ),
    "shards of a stage that has none": (
        put(["resources"], {"stages": {"probe": {"shards": 2}}}),
        "`resources.stages.probe.shards` is given, but only answer and extract can be cut",
    ),
    "one shard": (
        put(["resources"], {"stages": {"answer": {"shards": 1}}}),
        "`resources.stages.answer.shards` should be a whole number, 2 or more, but is `1`",
    ),
    "an empty section": (put(["probe"], None), "`probe` should be the settings of the probe, but is empty"),
    "nothing given": (
        put(["precision"], None),
        "`precision` should be one of auto, float32, bfloat16, 8bit, 4bit, but is empty",
    ),
}


@pytest.mark.parametrize("change, expected", MISTAKES.values(), ids=MISTAKES)
def test_a_mistake_is_one_sentence(tmp_path, change, expected):
    message = complaint_of(tmp_path, change)
    for part in expected.split(" .* "):
        assert part in message


@pytest.mark.parametrize(
    "text, expected",
    [
        ("", "the file should be a grid, but is empty."),
        ("- a\n- b\n", "the file should be a grid, but is `['a', 'b']`."),
        ("name: x\nmodels: [\n", "line 3 is not good YAML"),
        ("name: x\nname: y\n", "line 2 is not good YAML: the key `name` is given twice"),
        ("a: \x00", "not YAML"),
        (
            "name: x\nsize: 0100\n",
            "line 2 is not good YAML: `0100` is read as 64: write a plain number, or put a text in",
        ),
        ("a: {b: 1:30}", "`1:30` is read as 90"),
    ],
)
def test_a_file_that_is_no_grid_is_one_sentence(tmp_path, text, expected):
    assert expected in complaint_of_text(tmp_path, text)


def test_a_missing_file_is_one_sentence(tmp_path):
    with pytest.raises(
        WhoknowsError, match="absent.yml: this file cannot be read .No such file or directory.; check its name."
    ):
        grid.load(tmp_path / "absent.yml")


def test_the_command_fetches_the_questions_and_each_model_once(monkeypatch):
    fetched, checked = [], []
    monkeypatch.setattr(assets, "fetch", fetched.append)
    monkeypatch.setattr(cache, "verify", lambda place: None)
    monkeypatch.setattr(loading, "check", lambda *about: checked.append(about))
    assert __main__.main(["check", str(GRIDS / "embedded.yml")]) == 0
    targets = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
    assert checked == [("smollm2-135m-instruct", targets, 0), ("gemma3-270m", targets, 0)]
    assert sorted(fetched) == ["all-minilm-l6-v2", "gemma3-270m", "geonames", "questions", "smollm2-135m-instruct"]


def test_the_command_fetches_what_the_tasks_are_in(monkeypatch, tmp_path):
    fetched = []
    monkeypatch.setattr(assets, "fetch", fetched.append)
    monkeypatch.setattr(cache, "verify", lambda place: None)
    values = yaml.safe_load((GRIDS / "smoke.yml").read_text())
    for names, expected in [(["cities", "capitals"], ["geonames"]), (["cities", "sciq"], ["geonames", "questions"])]:
        values["tasks"] = [{"name": name, "size": 9, "role": "train"} for name in names]
        (tmp_path / "mine.yml").write_text(yaml.safe_dump(values))
        assert __main__.main(["check", str(tmp_path / "mine.yml")]) == 0
        assert sorted(set(fetched) & {"geonames", "questions"}) == expected
        fetched.clear()


def test_the_command_reads_a_file_of_questions_once_and_gives_advice_on_it(monkeypatch, tmp_path, capsys):
    read = []
    monkeypatch.setattr(loading, "check", lambda *about: None)
    monkeypatch.setattr(tables, "load", lambda path, *about, load=tables.load: read.append(path) or load(path, *about))
    values = yaml.safe_load((GRIDS / "smoke.yml").read_text())
    values["tasks"] = [{"name": name, "role": "train", "file": f"{name}.csv"} for name in ("mine", "yours")]
    for name, answer in (("mine", 70), ("yours", "seventy")):
        lines = [f"How many {n} are {name}?,{answer},{'two' if n % 2 else 'topic'}" for n in range(40)]
        (tmp_path / f"{name}.csv").write_text("\n".join(["question,answer,task", *lines]))
    (tmp_path / "mine.yml").write_text(yaml.safe_dump(values))
    assert __main__.main(["check", str(tmp_path / "mine.yml")]) == 0
    mine, numbers, yours = capsys.readouterr().out.splitlines()
    assert re.fullmatch(r"mine: 40 questions: \d+ train, \d+ validation, \d+ test, 4 shot\.", mine)
    assert numbers.startswith("mine: The accepted answers of 40 questions are numbers,")
    assert yours.startswith("yours: 40 questions: ")
    assert [*map(str, read)] == [str(tmp_path / f"{name}.csv") for name in ("mine", "yours")]


def test_the_command_says_what_is_not_used(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(loading, "check", lambda *about: None)
    values = yaml.safe_load((GRIDS / "smoke.yml").read_text())
    assert [*grid.unused(grid.build(values))] == []
    values |= {"methods": ["probe"], "search": {"sizes": [9]}, "judge": {"url": "http://localhost/v1", "model": "wise"}}
    values["models"][1]["learning_rate"] = 0.1
    values["tasks"] = [{"name": "mine", "role": "train", "file": "mine.csv", "grading": "number"}]
    lines = [f"How many {n} are there?,{n}" for n in range(40)]
    (tmp_path / "mine.csv").write_text("\n".join(["question,answer", *lines]))
    (tmp_path / "mine.yml").write_text(yaml.safe_dump(values))
    assert __main__.main(["check", str(tmp_path / "mine.yml")]) == 0
    said = capsys.readouterr().err
    for key in ("search", "controls.lora", "models[1].learning_rate"):
        assert f"`{key}` is not used: `methods` has no lora_prompt.\n" in said
    assert "`judge` is not used: no task has" in said and "[0]" not in said


@pytest.mark.slow
def test_the_command_says_what_is_wrong_in_one_line_and_fails():
    command = [sys.executable, "-m", "whoknows", "check", "no-such-grid.yml"]
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ | {"PYTHONPATH": str(LIB)})
    assert done.returncode == 2
    assert "no-such-grid.yml" in done.stderr and len(done.stderr.splitlines()) == 1
