"""Work that was killed goes on where it was, and never with another work's parts."""

import numpy as np
import pandas as pd
import pytest
import torch
from made_up import answers, fresh

from whoknows import answers as answering
from whoknows import extraction, files, parts

FRAMES = {"one": answers(), "two": answers(("the sun", "B", "moon", "", "an ocean of heat and light", "Mercury and other metals"))}
FRAMES = {model: frame.assign(split=["train", "test", "validation", "test", "test", "train"]) for model, frame in FRAMES.items()}


def test_slices_cover_everything():
    assert [(at.start, at.stop) for at in parts.slices(7, 3)] == [(0, 3), (3, 6), (6, 7)] and parts.slices(0, 3) == []


def test_parts_of_another_work_are_removed(tmp_path):
    out = tmp_path / "out"
    one = parts.folder(out, extraction.__file__, ids=[1, 2])
    one.mkdir(parents=True)
    assert parts.folder(out, extraction.__file__, ids=[1, 2]) == one and one.exists()
    assert parts.folder(out, extraction.__file__, ids=[1, 3]) != one and not one.exists()
    assert parts.folder(out, answering.__file__, ids=[1, 2]) != one, "other code, other parts"


def extracted(reader, folder, size, monkeypatch, kill_at=None):
    """Features in parts; how many questions were read."""
    read, usual = [], extraction.extract

    def extract(reader, grown, *rest):
        if len(read) == kill_at:
            raise KeyboardInterrupt
        read.append(len(grown.trees))
        return usual(reader, grown, *rest)

    monkeypatch.setattr(extraction, "PART_QUESTIONS", size)
    with monkeypatch.context() as patch:
        patch.setattr(extraction, "extract", extract)
        try:
            rows, _ = extraction.run("r", reader, FRAMES, 0.5, 300, str(folder))
        except KeyboardInterrupt:
            rows = None
    return rows, read


def test_features_in_parts_are_those_of_one_piece(reader, tmp_path, monkeypatch):
    whole, _ = extracted(reader, tmp_path / "whole", 100, monkeypatch)
    rows, read = extracted(reader, tmp_path / "parts", 4, monkeypatch)
    assert read == [4, 2]
    pd.testing.assert_frame_equal(rows, whole, rtol=1e-4)
    names = ["before_answer", "one", "one_mean", "trunk", "two", "two_mean"]
    for folder in ("whole", "parts"):
        assert sorted(path.stem for path in (tmp_path / folder).iterdir()) == names and not (tmp_path / f"{folder}.parts").exists()
    for name in names:
        one, other = (files.read_safetensors(tmp_path / folder / f"{name}.safetensors") for folder in ("whole", "parts"))
        assert one.keys() == other.keys()
        for key in one:
            assert one[key].dtype == other[key].dtype
            torch.testing.assert_close(one[key].float(), other[key].float(), rtol=1e-2, atol=1e-3)


def test_extraction_that_was_killed_reads_only_what_is_left(llama, tmp_path, monkeypatch):
    assert extracted(llama, tmp_path / "out", 2, monkeypatch, kill_at=2) == (None, [2, 2])
    assert not (tmp_path / "out").exists()
    rows, read = extracted(llama, tmp_path / "out", 2, monkeypatch)
    assert read == [2] and len(rows) == 8
    other = fresh(llama)
    other.head.data[0] += 1
    extracted(llama, tmp_path / "again", 2, monkeypatch, kill_at=2)
    assert extracted(other, tmp_path / "again", 2, monkeypatch)[1] == [2, 2, 2], "the parts of another model are of no use"


def asked():
    words = "sun moon rock cell plant water heat light".split()
    table = {"question_id": map(str, range(8)), "split": ["shot", "train", "test", "train"] * 2, "task": ["sciq"] * 4 + ["nq_open"] * 4}
    return pd.DataFrame({**table, "question": [f"Which {word} is it?" for word in words], "gold": [["A"]] * 8, "kind": "open"})


@pytest.mark.parametrize("killed_at", [0, 1, 3])
def test_answering_that_was_killed_asks_only_what_is_left(reader, tmp_path, monkeypatch, killed_at):
    monkeypatch.setattr(answering, "PART", 2)
    whole, seen, usual = answering.answer(reader, asked(), 5, 200), [], answering._answer_some

    def some(*arguments):
        if len(seen) == killed_at:
            raise KeyboardInterrupt
        seen.append(len(arguments[-1]))
        return usual(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(answering, "_answer_some", some)
        with pytest.raises(KeyboardInterrupt):
            answering.run(reader, asked(), 5, 200, str(tmp_path / "out.parquet"))
        killed_at = 99
        done = sum(seen)
        found = answering.run(reader, asked(), 5, 200, str(tmp_path / "out.parquet"))
    assert sum(seen) == 6 and done < 6
    pd.testing.assert_frame_equal(found, whole, rtol=1e-4)
    assert [path.name for path in tmp_path.iterdir()] == ["out.parquet"]
    assert files.read_parquet(tmp_path / "out.parquet")["answer"].tolist() == whole["answer"].tolist()


def test_jobs_share_the_parts_and_leave_none_out():
    for jobs in (1, 2, 3):
        assert sorted(k for which in range(jobs) for k in parts.mine(7, [which, jobs])) == list(range(7))
    assert parts.mine(3, None) == [0, 1, 2] and parts.mine(1, [1, 2]) == []


def test_after_its_shards_a_stage_has_nothing_to_read_or_to_ask(llama, tmp_path, monkeypatch):
    monkeypatch.setattr(answering, "PART", 2)
    monkeypatch.setattr(extraction, "PART_QUESTIONS", 2)
    out = {"answer": str(tmp_path / "out.parquet"), "features": str(tmp_path / "features")}
    whole = answering.run(llama, asked(), 5, 200, str(tmp_path / "whole.parquet"))
    rows, _ = extraction.run("r", llama, FRAMES, 0.5, 300, str(tmp_path / "whole"))
    for which in range(2):
        answering.run(llama, asked(), 5, 200, out["answer"], [which, 2])
        assert len(extraction.run("r", llama, FRAMES, 0.5, 300, out["features"], [which, 2])[0]) == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["features.parts", "out.parquet.parts", "whole", "whole.parquet"]
    with monkeypatch.context() as patch:
        patch.setattr(answering, "_answer_some", lambda *arguments: pytest.fail("asked again"))
        patch.setattr(extraction, "extract", lambda *arguments: pytest.fail("read again"))
        found = answering.run(llama, asked(), 5, 200, out["answer"])
        again, _ = extraction.run("r", llama, FRAMES, 0.5, 300, out["features"])
    pd.testing.assert_frame_equal(found, whole, rtol=1e-4)
    pd.testing.assert_frame_equal(again, rows, rtol=1e-3)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
@pytest.mark.parametrize("sizes", [[3], [1, 4, 2], [0, 2]])
def test_rows_that_are_written_piece_by_piece_are_read_as_one_tensor(tmp_path, dtype, sizes):
    pieces = [torch.randn(n, 3, 5).to(dtype) for n in sizes]
    others = {"ids": torch.arange(7, dtype=torch.int32), "first": torch.tensor(4)}
    path = tmp_path / "x.safetensors"
    assert files.write_rows(path, "hidden", lambda: iter(pieces), others) == (sum(sizes), 3, 5)
    found = files.read_safetensors(path)
    assert torch.equal(found.pop("hidden"), torch.cat(pieces)) and found.keys() == others.keys()
    assert all(torch.equal(found[name], others[name]) for name in others)
    assert np.array_equal(list(tmp_path.iterdir()), [path])
