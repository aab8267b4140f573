"""Files are whole or not there, and a damaged one is named."""

import errno
import os
import signal
import subprocess
import sys

import pandas
import pytest
import torch

from whoknows import WhoknowsError, files


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
    "x.txt": lambda path: files.write_text(path, "new"),
}


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


@pytest.mark.parametrize("read, name", [(files.read_parquet, "x.parquet"), (files.read_safetensors, "x.safetensors")])
@pytest.mark.parametrize("damage", [lambda whole: whole[:-7], lambda whole: b"", lambda whole: b"no such thing" * 9])
def test_a_damaged_file_is_named(tmp_path, read, name, damage):
    path = tmp_path / name
    WRITERS[name](path)
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(WhoknowsError, match=f"{name}: this file is damaged; delete it"):
        read(path)


@pytest.mark.parametrize("read", [files.read_parquet, files.read_safetensors])
def test_a_missing_file_is_named(tmp_path, read):
    with pytest.raises(WhoknowsError, match="absent: there is no such file"):
        read(tmp_path / "absent")


def test_a_killed_writer_leaves_nothing_that_counts(tmp_path):
    path = tmp_path / "x.txt"
    code = f"""
import os, signal
from whoknows import files
os.replace = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
files.write_text({str(path)!r}, "half")
"""
    assert subprocess.run([sys.executable, "-c", code]).returncode == -signal.SIGKILL
    assert not path.exists() and len(list(tmp_path.iterdir())) == 1
    files.write_text(path, "whole")
    assert [file.name for file in tmp_path.iterdir()] == ["x.txt"]
