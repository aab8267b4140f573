"""A model that the hub does not give is one sentence before anything is computed, and no token is written anywhere."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
import torch
import yaml
from safetensors.torch import save

from fake_hub import TOKEN
from whoknows import WhoknowsError, __main__
from whoknows.data import assets, files, hub, question_files, questions, tables
from whoknows.models import loading
from whoknows.run import brought, cost, grid, page, parameters
from whoknows.stages import answer_file

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]


@pytest.fixture
def asked(hub_server):
    """The questions that a server like the hub was asked; child processes ask it too."""
    hub_server.repositories["org/open"] = {"config.json": b"{}", "model.safetensors": b"weights"}
    return hub_server.asked


@pytest.fixture
def command(tmp_path):
    """Makes what `make book` does first, with a grid whose second model is on the hub."""

    def of(source):
        values = files.read_yaml(ROOT / "grids/smoke.yml")
        values["models"][1]["source"] = source
        (tmp_path / "grid.yml").write_text(yaml.safe_dump(values))
        return ["check", str(tmp_path / "grid.yml")]

    return of


@pytest.mark.parametrize(
    "source, sentence",
    [
        (
            "org/gated",
            "models: org/gated is gated: accept its terms at https://huggingface.co/org/gated and give a token of that "
            "account in the environment variable HF_TOKEN, or with `hf auth login`.\n",
        ),
        (
            "org/none",
            "models: the Hugging Face hub has no org/none for you: mend the name, or, if it is private, give a token",
        ),
        (
            "org/broken",
            "models: the Hugging Face hub could not be asked for org/broken (HfHubHTTPError): "
            "try again, or name a local folder.\n",
        ),
    ],
)
def test_what_the_hub_does_not_give_is_one_sentence(asked, command, source, sentence, capsys):
    code, said = __main__.main(command(source)), capsys.readouterr()
    assert code == 2 and said.err.startswith(sentence) and said.err.count("\n") == 1
    assert (f"/api/models/{source}/auth-check", f"Bearer {TOKEN}") in asked
    assert TOKEN not in said.out + said.err


def test_what_the_hub_gives_is_not_fetched_yet_but_its_commit_is_known(asked, hub_server, command, capsys):
    assert assets.digest("chat:org/open") is None
    assert (__main__.main(command("org/open")), capsys.readouterr().err) == (0, "")
    assert assets.digest("chat:org/open") == assets.digest("org/open") == hub_server.commit("org/open")
    assert not any("model.safetensors" in path for path, _ in asked)


def test_the_commit_that_a_run_began_with_is_the_one_that_is_loaded(hub_server, llama):
    folder = Path(llama.tokenizer.name_or_path)
    hub_server.repositories["org/mine"] = {path.name: path.read_bytes() for path in folder.iterdir()}
    before, weights = loading.load("org/mine", "float32"), files.read_safetensors(folder / "model.safetensors")
    assert before.digest == hub_server.commit("org/mine") and torch.equal(before.head, llama.head)
    name = "model.norm.weight"
    hub_server.repositories["org/mine"]["model.safetensors"] = save(
        weights | {name: weights[name] + 1}, {"format": "pt"}
    )
    again, other = (
        loading.load("org/mine", "float32", None, before.digest),
        loading.load("org/mine", "float32", None, hub_server.commit("org/mine")),
    )
    assert torch.equal(again.base.norm.weight, llama.base.norm.weight) and again.digest == before.digest != other.digest
    assert torch.equal(other.base.norm.weight, llama.base.norm.weight + 1) and other.identity != again.identity


@pytest.mark.parametrize(
    "change", [{"HF_ENDPOINT": "http://127.0.0.1:9"}, {"HF_HUB_OFFLINE": "1"}], ids=["nobody answers", "offline"]
)
def test_without_a_network_it_says_so(asked, command, change):
    python = [sys.executable, "-m", "whoknows"]
    done = subprocess.run([*python, *command("org/open")], capture_output=True, text=True, env=os.environ | change)
    assert done.returncode == 2 and "could not be asked for org/open" in done.stderr and done.stderr.count("\n") == 1


def test_what_was_fetched_before_is_not_asked_for(monkeypatch, tmp_path):
    from huggingface_hub import HfApi, constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(HfApi, "auth_check", lambda *_: pytest.fail("the hub was asked"))
    kept = tmp_path / "models--org--kept"
    (kept / "snapshots/abc").mkdir(parents=True)
    (kept / "refs").mkdir()
    (kept / "refs/main").write_text("abc")
    (kept / "snapshots/abc/config.json").write_text("{}")
    assert assets.resolve("org/kept") == "org/kept"


def test_a_token_is_never_kept(tmp_path):
    text = f"token={TOKEN}, Bearer {TOKEN}\n not_a_token hf_hub hf_xet-1.2"
    assert hub.hide(text) == "token=***, Bearer ***\n not_a_token hf_hub hf_xet-1.2"
    assert TOKEN not in page.scrub(text)


def test_a_failed_stage_shows_no_token(tmp_path):
    (tmp_path / "probe.py").write_text(
        "# %% tags=[\"parameters\"]\nreader = ''\n\n# %%\nimport sys\n"
        f"print('{TOKEN}', file=sys.stderr)\nraise ValueError('{TOKEN}')\n"
    )
    command = [
        sys.executable,
        "-m",
        "whoknows",
        "run",
        tmp_path / "probe.py",
        tmp_path / "page.ipynb",
        "--log",
        tmp_path / "log.txt",
    ]
    done = subprocess.run(command, capture_output=True, text=True)
    kept = [path.read_text() for path in tmp_path.iterdir() if path.name != "probe.py"]
    assert done.returncode == 1 and len(kept) == 2
    assert not any(TOKEN in text for text in [done.stdout, done.stderr, *kept])


def test_a_source_that_is_no_name_on_the_hub_is_not_asked_for(monkeypatch, tmp_path):
    monkeypatch.setattr(hub, "check", lambda source: pytest.fail(f"asked for {source}"))
    monkeypatch.chdir(tmp_path)
    with pytest.raises(WhoknowsError, match="no name on the Hugging Face hub"):
        assets.resolve("a/b/c")


ROWS = b'{"question": "Who?", "answers": ["Ada"]}\n'


@pytest.fixture
def data_set(hub_server, tmp_path, monkeypatch):
    """A data set of two configurations, as the hub's own branch has it, and one as people keep it; none was fetched."""
    monkeypatch.setenv("WHOKNOWS_CACHE", str(tmp_path / "cache"))
    hub_server.repositories["org/data"] = {
        "README.md": b"# data",
        "plain/test/0000.jsonl": ROWS,
        "plain/test/0001.jsonl": ROWS.replace(b"Who", b"Why"),
        "plain/train/0000.jsonl": ROWS,
        "hard/test/0000.jsonl": ROWS.replace(b"Who", b"How"),
    }
    hub_server.repositories["org/mixed"] = {"data/train.jsonl": ROWS, "test.jsonl": ROWS}
    hub_server.repositories["org/simple"] = {"data/test-00000-of-00001.jsonl": ROWS, "data/testing.jsonl": ROWS}
    return hub_server


def test_a_split_of_a_data_set_is_fetched_once_and_stays(data_set):
    named = ("org/data", "plain", "test", None)
    hub.fetch_dataset("tasks", *named)
    assert tables.read(hub.dataset(*named))["question"].tolist() == ["Who?", "Why?"]
    hub.fetch_dataset("tasks", "org/simple", None, "test", "main")
    hub.fetch_dataset("tasks", "org/mixed", None, "test", "main")
    hub.fetch_dataset("tasks", "org/mixed", "data", "train", "main")
    assert len(tables.read(hub.dataset("org/simple", None, "test", "main"))) == 1
    data_set.repositories.clear()
    asked = len(data_set.asked)
    hub.fetch_dataset("tasks", *named)
    assert len(data_set.asked) == asked


@pytest.mark.parametrize(
    "name, config, split, sentence",
    [
        ("org/data", None, "test", "in the configuration 'default'; the .* are: 'hard' .test., 'plain' .test, train.."),
        ("org/data", None, "train", "no files of the split 'train' in the configuration 'default'"),
        ("org/data", "plain", "train.:10.", "split 'train.:10.' .* 'plain' .test, train.. Correct config or split."),
        ("org/simple", None, "dev", "in the configuration 'data'; .* are: 'data' .test, testing.. Correct config"),
        ("org/none", None, "test", "tasks: the Hugging Face hub has no org/none for you"),
        (
            "org/gated",
            None,
            "test",
            "org/gated is gated: accept its terms at https://huggingface.co/datasets/org/gated",
        ),
        ("org/broken", None, "test", "could not be asked for org/broken .* or name a file"),
    ],
)
def test_a_data_set_that_the_hub_does_not_give_is_one_sentence(data_set, name, config, split, sentence):
    with pytest.raises(WhoknowsError, match=sentence):
        hub.fetch_dataset("tasks", name, config, split, None)


def test_a_grid_asks_the_questions_of_a_data_set(data_set, tmp_path, capsys):
    values = files.read_yaml(ROOT / "grids/smoke.yml")
    rows = [f'{{"prompt": "Who made thing {n}?", "answers": ["{n}.0"]}}' for n in (*range(40), 7)]
    data_set.repositories["org/data"] = {"default/test/0000.jsonl": "\n".join(rows).encode()}
    told = {"hub": "org/data", "split": "test", "columns": {"question": "prompt"}}
    values["tasks"] = [{"name": "mine", "role": "train"} | told]
    (tmp_path / "grid.yml").write_text(yaml.safe_dump(values))
    grid.main([str(tmp_path / "grid.yml")])
    said = capsys.readouterr()
    counted, numbers = said.out.splitlines()
    assert counted.startswith("mine: 40 questions: ") and numbers.startswith("mine: The accepted answers of 40")
    (sentence,) = said.err.splitlines()
    assert sentence.endswith("parquet: 1 of 41 questions are left out: 1 stand there twice")
    asked = json.loads(parameters.questions(grid.load(tmp_path / "grid.yml")))
    with pytest.warns(UserWarning, match="1 stand there twice"):
        assert len(questions.build(asked["tasks"], asked["splits"], asked["shots"])) == 40
    assert len(asked["tasks"][0]["digest"]) == 16


def test_questions_and_answers_may_lie_in_structs_of_several_splits(data_set, tmp_path):
    """As in SQuAD; what a question is called is a path, too, and the ones that both splits have are left out."""
    for split, numbers in (("train", range(30)), ("validation", ("-5", *range(29, 50)))):
        cells = [{"q": {"text": f"Who is {n}?"}, "answers": {"text": [f"M {n}"], "answer_start": [0]}} for n in numbers]
        pd.DataFrame(cells).to_parquet(tmp_path / "part.parquet")
        repository = data_set.repositories.setdefault("org/squad", {})
        repository[f"default/{split}/0000.parquet"] = (tmp_path / "part.parquet").read_bytes()
    columns = grid.QuestionColumns(question="q.text", answers="answers.text")
    task = grid.Task("mine", "train", hub="org/squad", split="train+validation", columns=columns)
    brought.fetch(task)
    table = question_files.load(parameters.asked(task, None))
    assert table["gold"].tolist() == [[f"M {n}"] for n in (*range(29), "-5", *range(30, 50))]
    assert table["question"][0] == "Who is 0?"


@pytest.mark.parametrize("split, left_out", [("train+test", 2), ({"train": "train", "test": "test"}, 4)])
def test_questions_of_several_splits_with_other_choices_are_kept_and_the_others_counted(
    split, left_out, data_set, tmp_path
):
    """`Which?` has other choices in each split, `Why?` twice in one of them, and `Who?` the same ones in both."""
    same = {"question": "Who?", "choices": ["one", "two"], "answer": "one"}
    for name in ("train", "test"):
        rows = [same, same | {"question": "Which?", "choices": [name, "two"], "answer": name}]
        rows += [same | {"question": "Why?", "choices": ["one", other]} for other in "xy" if name == "train"]
        pd.DataFrame(rows).to_parquet(tmp_path / "part.parquet")
        repository = data_set.repositories.setdefault("org/choices", {})
        repository[f"default/{name}/0000.parquet"] = (tmp_path / "part.parquet").read_bytes()
    values = files.read_yaml(ROOT / "grids/smoke.yml")
    values["tasks"] = [{"name": "mine", "role": "train", "hub": "org/choices", "split": split}]
    mine = grid.build(values).tasks[0]
    with pytest.warns(UserWarning, match=f"^org/choices: {left_out} of 6 rows are left out: their questions stand"):
        brought.fetch(mine)
    asked = files.read_parquet(brought.file(mine))["question"].tolist()
    assert sorted(asked) == ["Which?"] * (4 - left_out) + ["Why?"] * 2


GREEK = "alpha beta gamma delta epsilon zeta eta theta".split()


def released(number, grade):
    """A row as the authors of the paper have released them."""
    words = f"{GREEK[number // 8]} {GREEK[number % 8]}"
    row = {"context": f"Read the following and answer the question.\nQuestion: Who made {words}?", "prompt": None}
    return row | {"target_prompt": "\nAnswer:", "target": words, "output": f"{words}!", "query_label": grade}


@pytest.fixture
def answered(data_set, tmp_path):
    """A grid whose models answer in data sets on the hub, a reader and another one; questions are those of the first.

    Question 0 stands in both splits, with other answers, and the second model has no answer to question 1.
    """
    for name, less, flip in (("org/first", [], 0), ("org/second", [1], 1)):
        splits = {"train": range(40), "validation": [*range(40, 60), 0]}
        rows = {split: [released(n, (n + flip) % 2) for n in some if n not in less] for split, some in splits.items()}
        rows["validation"][-1]["target"] = "another"
        for split, some in rows.items():
            pd.DataFrame(some).to_parquet(tmp_path / "part.parquet")
            files_of = data_set.repositories.setdefault(name, {})
            files_of[f"default/{split}/0000.parquet"] = (tmp_path / "part.parquet").read_bytes()
    values, told = files.read_yaml(ROOT / "grids/smoke.yml"), {"split": "train+validation"}
    columns = {"question": "context", "answer": "output", "correct": "query_label"}
    reader = {"name": "first", "source": "tiny-llama", "hub": "org/first", "columns": columns}
    values["models"] = [reader | told, {"name": "second", "hub": "org/second", "columns": columns} | told]
    columns = {"question": "context", "answer": "target"}
    values["tasks"] = [{"name": "mine", "role": "train", "hub": "org/first", "columns": columns} | told]
    (tmp_path / "grid.yml").write_text(yaml.safe_dump(values | {"answer": {"shots": 0}}))
    return tmp_path / "grid.yml"


def test_graded_answers_of_a_data_set_are_those_of_a_model(answered, capsys):
    grid.main([str(answered)])
    _, *said = capsys.readouterr().out.splitlines()
    assert said[0].startswith("first: The file has answers to 59 of 59 questions. Answers graded in the file: 59;")
    assert said[1].startswith("second: The file has answers to 58 of 59 questions. The other 1 are missing")
    loaded = grid.load(answered)
    told = json.loads(parameters.questions(loaded))
    asked = questions.build(told["tasks"], told["splits"], told["shots"])
    assert {*asked["split"]} == {"train", "validation", "test"} and not asked["question"].str.contains(
        "alpha alpha"
    ).any()
    for name, flip in (("first", 0), ("second", 1)):
        file = json.loads(parameters.answer_file(loaded, name))
        graded, _ = answer_file.read(asked, file["answers"], file["columns"])
        number = [int(GREEK.index(a) * 8 + GREEK.index(b)) for a, b in graded["gold"].str[0].str.split()]
        assert graded["correct"].tolist() == [(n + flip) % 2 == 1 for n in number], "the grades are the data set's own"
        assert file["digest"] == files.digest(file["answers"])
    assert grid.build(yaml.safe_load(grid.text(loaded, answered.parent))) == loaded


def test_a_reader_whose_answers_are_brought_writes_none(answered):
    grid.main([str(answered)])
    command = [sys.executable, "-m", "whoknows", "workflow", str(answered), "--plan"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env=os.environ)
    assert done.returncode == 0, done.stderr
    planned = {line.split()[0] for line in done.stdout.partition("\n\n")[0].splitlines() if line.strip()}
    assert {"answer_file-first", "answer_file-second", "extract-first", "probe-first_second_seed0"} <= planned
    assert not {name for name in planned if name.startswith(("answer-", "extract-second"))}
    assert cost.work(grid.load(answered))["answer_file"].jobs == 2 and "answer" not in cost.work(grid.load(answered))


def test_answers_that_the_hub_does_not_give_are_one_sentence(answered, data_set):
    planned = json.loads(parameters.questions(grid.load(answered)))["tasks"]
    assert planned[0]["digest"] is None, "a plan needs no data set; the check fetches it before anything runs"
    del data_set.repositories["org/second"]
    with pytest.raises(WhoknowsError, match="^models: the Hugging Face hub has no org/second for you"):
        grid.main([str(answered)])
