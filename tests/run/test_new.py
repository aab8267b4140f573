"""A folder to begin with: it holds a grid that is one, and questions that can be read; nothing is written over."""

import re

import pytest

from whoknows import __main__
from whoknows.data import files, tables
from whoknows.run import grid


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize(
    "folder, name",
    [("my-study", "my-study"), ("deep/er/my_2nd.study", "my-2nd.study"), (".", ""), ("2024", "2024"), ("no", "no")],
)
def test_a_folder_to_begin_with(folder, name, tmp_path, capsys):
    assert __main__.main(["new", folder]) == 0
    name, path = name or re.sub("[_-]+", "-", tmp_path.name).strip("-"), tmp_path / folder
    assert capsys.readouterr().out.endswith(f"make book GRID={folder}/grid.yml\n".replace("./", ""))
    assert {file.name for file in path.iterdir() if file.is_file()} == {"grid.yml", "questions.csv", "README.md"}
    for file in path.glob("*.*"):
        assert not re.search("FOLDER|NAME", file.read_text())
    values = files.read_yaml(path / "grid.yml")
    mine = values["tasks"].pop()
    assert mine == {"name": "my-questions", "file": "questions.csv", "role": "shift"}
    values["models"].append({"name": "another", "source": "gemma3-270m"})  # as the comment beside it says
    assert grid.build(values).name == name
    asked = tables.read(path / mine["file"], needed=["question", "answers"])
    assert len(asked) == 3 and tables.texts(asked["answers"].iloc[0]) == ["8", "eight"]
    readme = (path / "README.md").read_text()
    assert f"make book GRID={folder}/grid.yml" in readme and f"compare results/{name} " in readme


def test_a_folder_that_is_called_as_a_place_of_the_templates_is(tmp_path):
    assert __main__.main(["new", "a-NAME"]) == __main__.main(["new", "a-FOLDER"]) == 0
    for name in ("a-NAME", "a-FOLDER"):
        assert f"make book GRID={name}/grid.yml " in (tmp_path / name / "README.md").read_text()
        assert files.read_yaml(tmp_path / name / "grid.yml")["name"] == name


@pytest.mark.parametrize(
    "folder, expected",
    [
        ("full", "full: there is something already, which is left as it is"),
        ("file.txt", "file.txt: there is something already"),
        ("run", "results/run: there is something already"),
        ("deep/shipped", "grids/shipped.yml: there is something already"),
        ("file.txt/new", "file.txt/new: nothing can be written there"),
        ("my study", "my study: make takes no such path"),
        ("x$(touch hit)", "make takes no such path"),
    ],
)
def test_a_folder_that_cannot_be_made_is_one_sentence(folder, expected, tmp_path, capsys):
    for path in ("full/grid.yml", "file.txt", "results/run/grid.yml", "grids/shipped.yml"):
        files.write_text(tmp_path / path, "mine")
    before = {path: path.is_file() and path.read_text() for path in tmp_path.rglob("*")}
    assert __main__.main(["new", folder]) == 2
    shown = capsys.readouterr()
    assert expected in shown.err and shown.err.count("\n") == 1 and not shown.out
    assert {path: path.is_file() and path.read_text() for path in tmp_path.rglob("*")} == before
