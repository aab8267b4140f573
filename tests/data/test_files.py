"""Files are whole or not there, and a damaged one is named."""

import errno
import os
import signal
import subprocess
import sys

import pandas
import pytest
import torch

from whoknows import WhoknowsError
from whoknows.data import files


def frame():
    return pandas.DataFrame({"question_id": ["a", "b"], "gold": [["x", "y"], ["z"]], "logit": [0.5, -1.25]})


def test_parquet_comes_back_as_it_went(tmp_path):
    files.write_parquet(tmp_path / "new/rows.parquet", frame())
    back = files.read_parquet(tmp_path / "new/rows.parquet")
    assert [list(gold) for gold in back.pop("gold")] == [["x", "y"], ["z"]]
    pandas.testing.assert_frame_equal(back, frame().drop(columns="gold"))


def test_safetensors_come_back_as_they_went(tmp_path):
    path = tmp_path / "hidden.safetensors"
    hidden = torch.randn(3, 5, 4, dtype=torch.bfloat16).transpose(0, 1)
    files.write_safetensors(path, {"hidden": hidden}, {"reader": "tiny"})
    assert torch.equal(files.read_safetensors(path)["hidden"], hidden)


def test_text_is_utf8(tmp_path):
    files.write_text(tmp_path / "note.txt", "λ = 0,1\n")
    assert (tmp_path / "note.txt").read_bytes() == "λ = 0,1\n".encode()


def test_a_folder_takes_the_place_of_the_old_one(tmp_path):
    for name in ("old", "new"):
        files.write_folder(tmp_path / "adapter", lambda folder: (folder / name).write_text(name))
    assert [str(path.relative_to(tmp_path)) for path in sorted(tmp_path.rglob("*"))] == ["adapter", "adapter/new"]


def test_a_link_to_a_folder_stays(tmp_path):
    (tmp_path / "there").mkdir()
    (tmp_path / "link").symlink_to("there")
    files.write_folder(tmp_path / "link", lambda folder: (folder / "new").write_text(""))
    assert (tmp_path / "link").is_symlink() and [path.name for path in (tmp_path / "there").iterdir()] == ["new"]


def test_a_folder_that_fails_keeps_the_old_one(tmp_path):
    def fail(folder):
        (folder / "half").write_text("")
        raise OSError(errno.ENOSPC, "No space left on device")

    files.write_folder(tmp_path / "adapter", lambda folder: (folder / "old").write_text(""))
    with pytest.raises(WhoknowsError, match="adapter: the disk is full"):
        files.write_folder(tmp_path / "adapter", fail)
    assert [str(path.relative_to(tmp_path)) for path in sorted(tmp_path.rglob("*"))] == ["adapter", "adapter/old"]


WRITERS = {
    "x.parquet": lambda path: files.write_parquet(path, frame()),
    "x.safetensors": lambda path: files.write_safetensors(path, {"a": torch.zeros(2)}),
    "rows.safetensors": lambda path: files.write_rows(path, "a", lambda: iter([torch.zeros(1, 2), torch.zeros(3, 2)])),
    "x.pt": lambda path: files.write_torch(path, {"a": torch.zeros(2), "step": 3}),
    "x.txt": lambda path: files.write_text(path, "new"),
}


def test_a_state_of_torch_comes_back_as_it_went(tmp_path):
    WRITERS["x.pt"](tmp_path / "new/x.pt")
    back = files.read_torch(tmp_path / "new/x.pt")
    assert back.keys() == {"a", "step"} and back["step"] == 3 and torch.equal(back["a"], torch.zeros(2))


def test_rows_that_fail_half_way_keep_the_old_file(tmp_path):
    path, calls = tmp_path / "rows.safetensors", iter(range(9))

    def pieces():
        yield torch.ones(1, 2)
        if next(calls):  # the second time, when they are written
            raise KeyboardInterrupt
        yield torch.ones(3, 2)

    WRITERS["rows.safetensors"](path)
    with pytest.raises(KeyboardInterrupt):
        files.write_rows(path, "a", pieces)
    assert torch.equal(files.read_safetensors(path)["a"], torch.zeros(4, 2)) and [
        file.name for file in tmp_path.iterdir()
    ] == [path.name]


@pytest.mark.parametrize("name", WRITERS)
def test_a_full_disk_is_one_sentence_and_keeps_the_old_file(tmp_path, monkeypatch, name):
    (tmp_path / name).write_text("old")

    def full(_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(WhoknowsError, match=f"{name}: the disk is full"):
        WRITERS[name](tmp_path / name)
    assert [path.name for path in tmp_path.iterdir()] == [name]
    assert (tmp_path / name).read_text() == "old"


def test_an_error_within_safetensors_is_known_as_a_full_disk(tmp_path, monkeypatch):
    from safetensors import SafetensorError

    def full(*_):
        raise SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)")

    monkeypatch.setattr("safetensors.torch.save_file", full)
    with pytest.raises(WhoknowsError, match="the disk is full"):
        files.write_safetensors(tmp_path / "x.safetensors", {"a": torch.zeros(2)})


@pytest.mark.parametrize(
    "read, name",
    [
        (files.read_parquet, "x.parquet"),
        (files.read_safetensors, "x.safetensors"),
        (files.read_safetensors, "rows.safetensors"),
        (files.read_torch, "x.pt"),
    ],
)
@pytest.mark.parametrize("damage", [lambda whole: whole[:-7], lambda whole: b"", lambda whole: b"no such thing" * 9])
def test_a_damaged_file_is_named(tmp_path, read, name, damage):
    path = tmp_path / name
    WRITERS[name](path)
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(WhoknowsError, match=f"{name}: this file is damaged; delete it"):
        read(path)


@pytest.mark.parametrize("read", [files.read_parquet, files.read_safetensors, files.read_torch])
def test_a_missing_file_is_named(tmp_path, read):
    with pytest.raises(WhoknowsError, match="absent: there is no such file"):
        read(tmp_path / "absent")


@pytest.mark.slow
@pytest.mark.parametrize("name", ["x.txt", "x.pt"])
def test_a_killed_writer_leaves_the_old_file_and_nothing_else_that_counts(tmp_path, name):
    path = tmp_path / name
    code = f"""
import os, signal
from whoknows.data import files
os.fsync = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
{{"x.txt": files.write_text, "x.pt": files.write_torch}}[{name!r}]({str(path)!r}, "half")
"""
    path.write_text("old")
    assert subprocess.run([sys.executable, "-c", code]).returncode == -signal.SIGKILL
    assert path.read_text() == "old" and len(list(tmp_path.iterdir())) == 2
    WRITERS[name](path)
    assert [file.name for file in tmp_path.iterdir()] == [name]


def test_what_others_are_writing_now_stays_and_what_they_left_goes(tmp_path):
    """Two processes may write one file of the shared cache at once: neither may take the other's half away."""
    path = tmp_path / "x.json"
    alive = [tmp_path / f".x.json.{host}.{pid}.tmp" for host, pid in ((files.HOST, os.getppid()), ("other", 7))]
    left = [tmp_path / f".x.json.{name}.tmp" for name in ("other.8", "9")]
    with subprocess.Popen(["true"]) as gone:
        left.append(tmp_path / f".x.json.{files.HOST}.{gone.pid}.tmp")
    for temporary in (*alive, *left):
        temporary.touch()
    for temporary in left[:2]:
        os.utime(temporary, (1, 1))
    files.write_text(path, "whole")
    assert {*tmp_path.iterdir()} == {path, *alive}
