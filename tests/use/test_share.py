"""What is pushed to the hub is loaded from there by its name, and nothing else leaves this machine."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from huggingface_hub import constants
from test_predict import PAIR, Run, call

from fake_hub import TOKEN
from whoknows import WhoknowsError, __main__
from whoknows.use import cards, predict, share

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def run(llama, tmp_path_factory):
    return Run(llama, tmp_path_factory.mktemp("run"))


@pytest.fixture
def here(run, tmp_path, monkeypatch):
    """A folder to work in, without one named org."""
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    return run.folder


def push(capsys, *arguments):
    """Status, what was said, and what went wrong; the token is in neither."""
    status = __main__.main(["push", *map(str, arguments)])
    captured = capsys.readouterr()
    assert TOKEN not in captured.out + captured.err
    return status, captured.out, captured.err


@pytest.mark.parametrize("method", ["probe", "lora_prompt", "lora"])
def test_what_is_pushed_is_the_folder_and_is_loaded_by_its_name(here, method, hub_server, capsys, monkeypatch):
    (here / method / ".snakemake_timestamp").touch()
    status, text, wrong = push(capsys, "--estimator", here / method, "--repository", "org/mine")
    files = {path.name: path.read_bytes() for path in (here / method).iterdir() if path.name[0] != "."}
    assert status == 0 and hub_server.repositories == {"org/mine": files} and hub_server.private == set()
    assert {name for line in text.splitlines() for name in line.split()[-1:]} >= {
        *files,
        f"{hub_server.address}/org/mine",
    }
    assert (
        f"{len(files)} files" in text
        and wrong == f"Its reader is {here / 'reader'}, which the card names and others do not have.\n"
    )
    hub_server.asked.clear()
    expected = call(["--estimator", here / method], json.dumps(PAIR).encode(), monkeypatch, capsys)
    assert expected[0] == 0 and hub_server.asked == []
    assert call(["--estimator", "org/mine"], json.dumps(PAIR).encode(), monkeypatch, capsys) == expected
    fetched = {path.split("/")[-1] for path, _ in hub_server.asked if "/resolve/" in path}
    assert fetched == files.keys() - {"README.md"}


def test_what_was_fetched_is_there_without_a_network(here, hub_server, capsys, monkeypatch):
    push(capsys, "--estimator", here / "probe", "--repository", "org/mine")
    predict.load("org/mine")
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    assert predict.load("org/mine", "probe_mlp").card["method"] == "probe_mlp"


def test_a_folder_of_that_name_wins(here, hub_server):
    shutil.copytree(here / "probe", "org/mine")
    assert share.locate("org/mine") == Path("org/mine") and predict.load("org/mine").card["method"] == "probe"
    assert hub_server.asked == []


def test_private_is_private(here, hub_server, capsys, monkeypatch):
    assert push(capsys, "--estimator", here / "probe", "--repository", "org/mine", "--private")[0] == 0
    assert hub_server.private == {"org/mine"}
    assert push(capsys, "--estimator", here / "probe", "--repository", "org/mine", "--private")[0] == 0, "again"
    monkeypatch.delenv("HF_TOKEN")
    with pytest.raises(
        WhoknowsError,
        match="org/mine: there is no such folder here, and the Hugging Face hub has none of that name for you",
    ):
        predict.load("org/mine")


def test_a_public_repository_is_not_taken_for_a_private_one(here, hub_server, capsys):
    hub_server.repositories["org/mine"] = {}
    status, _, message = push(capsys, "--estimator", here / "probe", "--repository", "org/mine", "--private")
    assert status == 2 and message.endswith(
        "org/mine: it is there already, and public; name another one, or leave out --private\n"
    )
    assert hub_server.repositories["org/mine"] == {}


def spoil(change):
    def spoilt(folder):
        change(folder)
        return folder

    return spoilt


@pytest.mark.parametrize(
    "method, change, sentence",
    [
        ("probe", spoil(lambda f: [path.unlink() for path in f.glob("*.json")]), "it holds no estimator with a card"),
        (
            "probe",
            spoil(lambda f: (f / "README.md").unlink()),
            "it has no README.md, so its estimator is not whole; run `make book` to train it again",
        ),
        ("probe", spoil(lambda f: (f / "probe_mlp.safetensors").unlink()), "it has no probe_mlp.safetensors, so"),
        ("lora_prompt", spoil(lambda f: (f / "adapter_config.json").unlink()), "it has no adapter_config.json, so"),
        ("lora", spoil(lambda f: (f / "classifier.safetensors").unlink()), "it has no classifier.safetensors, so"),
        (
            "lora",
            spoil(
                lambda f: (f / "adapter_model.safetensors").write_bytes(
                    (f / "adapter_model.safetensors").read_bytes()[:-9]
                )
            ),
            "adapter_model.safetensors: this file is damaged",
        ),
        ("lora", lambda f: f / "gone", "there is no such folder"),
        ("lora", lambda f: f.parent, "it holds no estimator with a card"),
    ],
)
def test_a_folder_that_is_no_whole_estimator_is_not_pushed(here, hub_server, capsys, method, change, sentence):
    folder = change(shutil.copytree(here / method, Path("copy") / "estimator"))
    status, listed, wrong = push(capsys, "--estimator", folder, "--repository", "org/mine")
    assert status == 2 and sentence in wrong and wrong.startswith(str(folder)) and wrong.count("\n") == 1
    assert listed == "" and hub_server.asked == []


@pytest.mark.parametrize(
    "repository, change, sentence",
    [
        (
            "org/mine",
            {"HF_TOKEN": None},
            "the Hugging Face hub takes files from its users alone: give a token in the environment variable HF_TOKEN, "
            "or with `hf auth login`, which may write",
        ),
        (
            "org/mine",
            {"HF_TOKEN": TOKEN[:-1] + "5"},
            "the Hugging Face hub refuses the token for it: give one of its owner that may write, "
            "in the environment variable HF_TOKEN, or with `hf auth login`",
        ),
        ("other/mine", {}, "the Hugging Face hub refuses the token for it"),
        (
            "org/mine",
            {"ENDPOINT": "http://127.0.0.1:9"},
            "the Hugging Face hub could not be asked for it (ConnectError): try again",
        ),
        ("mine", {}, "this is no name on the Hugging Face hub; give one as owner/name"),
        ("org/../mine", {}, "this is no name on the Hugging Face hub; give one as owner/name"),
    ],
)
def test_what_the_hub_does_not_take_is_one_sentence(
    here, hub_server, capsys, monkeypatch, repository, change, sentence
):
    for name, value in change.items():
        monkeypatch.setattr(constants, name, value) if name == "ENDPOINT" else monkeypatch.setenv(
            name, value
        ) if value else monkeypatch.delenv(name)
    status, _, wrong = push(capsys, "--estimator", here / "probe", "--repository", repository)
    assert (
        status == 2
        and wrong.splitlines()[1:]
        == [line for line in wrong.splitlines() if line.startswith(f"{repository}: {sentence}")]
        != []
    )
    assert hub_server.repositories == {}


@pytest.mark.parametrize(
    "name, files, sentence",
    [
        (
            "org/nowhere",
            None,
            "there is no such folder here, and the Hugging Face hub has none of that name for you: mend it, "
            "or, if it is private, give a token",
        ),
        (
            "org/broken",
            None,
            r"there is no such folder here, and the Hugging Face hub could not be asked for it \(\w+\): try again",
        ),
        (
            "org/gated",
            None,
            "there is no such folder here, and the Hugging Face hub gives it only to those who accept its terms, at "
            "https://huggingface.co/org/gated",
        ),
        (
            "org/model",
            {"config.json": b"{}", "model.safetensors": b"0" * 99},
            "the Hugging Face hub has it, but it holds no estimator with a card",
        ),
        ("org/empty", {"README.md": b"hello"}, "the Hugging Face hub has it, but it holds no estimator with a card"),
    ],
)
def test_what_the_hub_does_not_give_is_one_sentence_and_no_model_is_fetched(here, hub_server, name, files, sentence):
    if files:
        hub_server.repositories[name] = files
    with pytest.raises(WhoknowsError, match=f"^{name}: {sentence}") as error:
        predict.load(name)
    assert "\n" not in str(error.value) and not any(path.endswith(".safetensors") for path, _ in hub_server.asked)


def test_as_a_process(here, hub_server):
    command = [
        sys.executable,
        "-m",
        "whoknows",
        "push",
        "--estimator",
        here / "lora_prompt",
        "--repository",
        "org/mine",
    ]
    done = subprocess.run(
        command, capture_output=True, text=True, env=os.environ | {"PYTHONPATH": str(Path(cards.__file__).parents[1])}
    )
    assert done.returncode == 0 and done.stdout.splitlines()[-1] == f"{hub_server.address}/org/mine", done.stderr
    assert "adapter_model.safetensors" in hub_server.repositories["org/mine"] and TOKEN not in done.stdout + done.stderr
