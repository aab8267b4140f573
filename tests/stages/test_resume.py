"""Work that was killed goes on where it was, and never with another work's parts."""

import dataclasses
import json

import numpy as np
import pandas as pd
import pytest
import torch
from test_lora_prompt import SETTINGS, USED

from made_up import answers, fresh, mixed, spied
from whoknows.data import files
from whoknows.data.prompts import PLAIN
from whoknows.data.rows import ALL_MODELS
from whoknows.models import loading
from whoknows.run import shard
from whoknows.stages import answer as answering
from whoknows.stages import extract as extract_stage
from whoknows.stages import lora_prompt, resume, search

FRAMES = {
    "one": answers(),
    "two": answers(("the sun", "B", "moon", "", "an ocean of heat and light", "Mercury and other metals")),
}
FRAMES = {
    model: frame.assign(split=["train", "test", "validation", "test", "test", "train"])
    for model, frame in FRAMES.items()
}


def test_slices_cover_everything():
    assert [(at.start, at.stop) for at in resume.slices(7, 3)] == [(0, 3), (3, 6), (6, 7)] and resume.slices(0, 3) == []


def test_parts_of_another_work_are_removed(tmp_path):
    out = tmp_path / "out"
    one = resume.folder(out, extract_stage.__file__, ids=[1, 2])
    one.mkdir(parents=True)
    assert resume.folder(out, extract_stage.__file__, ids=[1, 2]) == one and one.exists()
    assert resume.folder(out, extract_stage.__file__, ids=[1, 3]) != one and not one.exists()
    assert resume.folder(out, answering.__file__, ids=[1, 2]) != one, "other code, other parts"


def extracted(reader, folder, size, monkeypatch, kill_at=None):
    """Features in parts; how many questions were read."""
    read, usual = [], extract_stage.extract

    def extract(reader, packed, *rest):
        if len(read) == kill_at:
            raise KeyboardInterrupt
        read.append(len(packed.examples))
        return usual(reader, packed, *rest)

    monkeypatch.setattr(extract_stage, "PART_QUESTIONS", size)
    with monkeypatch.context() as patch:
        patch.setattr(extract_stage, "extract", extract)
        try:
            rows, _ = extract_stage.run("r", reader, FRAMES, 0.5, 300, str(folder))
        except KeyboardInterrupt:
            rows = None
    return rows, read


def test_features_in_parts_are_those_of_one_piece(reader, tmp_path, monkeypatch):
    whole, _ = extracted(reader, tmp_path / "whole", 100, monkeypatch)
    rows, read = extracted(reader, tmp_path / "parts", 4, monkeypatch)
    assert read == [4, 2]
    pd.testing.assert_frame_equal(rows, whole, rtol=1e-4)
    positions = ("", "_first", "_mean", "_query")
    names = sorted(["before_answer", "trunk", *(f"{model}{at}" for model in ("one", "two") for at in positions)])
    for folder in ("whole", "parts"):
        assert (
            sorted(path.stem for path in (tmp_path / folder).iterdir()) == names
            and not (tmp_path / f"{folder}.parts").exists()
        )
    for name in names:
        one, other = (
            files.read_safetensors(tmp_path / folder / f"{name}.safetensors") for folder in ("whole", "parts")
        )
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
    assert extracted(other, tmp_path / "again", 2, monkeypatch)[1] == [2, 2, 2], (
        "the parts of another model are of no use"
    )


def asked():
    words = "sun moon rock cell plant water heat light".split()
    table = {
        "question_id": map(str, range(8)),
        "split": ["shot", "train", "test", "train"] * 2,
        "task": ["sciq"] * 4 + ["nq_open"] * 4,
    }
    return pd.DataFrame(
        {**table, "question": [f"Which {word} is it?" for word in words], "gold": [["A"]] * 8, "kind": "open"}
    )


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
        written = answering.run(reader, asked(), 5, 200, str(tmp_path / "out.parquet"))
    assert sum(seen) == 6 and done < 6
    pd.testing.assert_frame_equal(written, whole, rtol=1e-4)
    assert [path.name for path in tmp_path.iterdir()] == ["out.parquet"]
    assert files.read_parquet(tmp_path / "out.parquet")["answer"].tolist() == whole["answer"].tolist()


def test_jobs_share_the_parts_and_leave_none_out():
    for jobs in (1, 2, 3):
        assert sorted(k for which in range(jobs) for k in resume.mine(list(range(7)), [which, jobs])) == list(range(7))
    assert resume.mine([0, 1, 2], None) == [0, 1, 2] and resume.mine([0], [1, 2]) == []


def test_after_its_shards_a_stage_has_nothing_to_read_or_to_ask(llama, tmp_path, monkeypatch):
    monkeypatch.setattr(answering, "PART", 2)
    monkeypatch.setattr(extract_stage, "PART_QUESTIONS", 2)
    out = {"answer": str(tmp_path / "out.parquet"), "features": str(tmp_path / "features")}
    whole = answering.run(llama, asked(), 5, 200, str(tmp_path / "whole.parquet"), 2)
    rows, _ = extract_stage.run("r", llama, FRAMES, 0.5, 300, str(tmp_path / "whole"))
    for which in range(2):
        answering.run(llama, asked(), 5, 200, out["answer"], 2, [which, 2])
        assert len(extract_stage.run("r", llama, FRAMES, 0.5, 300, out["features"], [which, 2])[0]) == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "features.parts",
        "out.parquet.parts",
        "whole",
        "whole.parquet",
    ]
    with monkeypatch.context() as patch:
        patch.setattr(answering, "_answer_some", lambda *arguments: pytest.fail("asked again"))
        patch.setattr(extract_stage, "extract", lambda *arguments: pytest.fail("read again"))
        written = answering.run(llama, asked(), 5, 200, out["answer"], 2)
        again, _ = extract_stage.run("r", llama, FRAMES, 0.5, 300, out["features"])
    pd.testing.assert_frame_equal(written, whole, rtol=1e-4)
    pd.testing.assert_frame_equal(again, rows, rtol=1e-3)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
@pytest.mark.parametrize("sizes", [[3], [1, 4, 2], [0, 2]])
def test_rows_that_are_written_piece_by_piece_are_read_as_one_tensor(tmp_path, dtype, sizes):
    pieces = [torch.randn(n, 3, 5).to(dtype) for n in sizes]
    others = {"ids": torch.arange(7, dtype=torch.int32), "first": torch.tensor(4)}
    path = tmp_path / "x.safetensors"
    about = {name: name for name in "abcdefgh"}
    assert files.write_rows(path, "hidden", lambda: iter(pieces), others, about) == (sum(sizes), 3, 5)
    written = json.dumps(about).encode()
    assert files.read_metadata(path) == about and written in path.read_bytes(), "in the same order each time"
    tensors = files.read_safetensors(path)
    assert torch.equal(tensors.pop("hidden"), torch.cat(pieces)) and tensors.keys() == others.keys()
    assert all(torch.equal(tensors[name], others[name]) for name in others)
    assert np.array_equal(list(tmp_path.iterdir()), [path])


class Reached(Exception):
    """A stage has asked for the folder of its parts, and no more is wanted of it."""


def key(monkeypatch, work) -> str:
    """The name of the folder in which a stage would keep its parts."""
    usual = resume.folder

    def folder(*arguments, **depends):
        raise Reached(usual(*arguments, **depends).name)

    with monkeypatch.context() as patch, pytest.raises(Reached) as reached:
        patch.setattr(resume, "folder", folder)
        for stage in (lora_prompt, search):
            patch.setattr(
                stage, "divided", lambda frames, seed: frames
            )  # else a seed would count by its division alone
        work()
    return str(reached.value)


def swapped(frames, split, column):
    """Frames in which two answers of a split that differ in a column have swapped its values: what is counted stays."""
    frames = {model: frame.copy() for model, frame in frames.items()}
    values = frames["two"].loc[frames["two"]["split"] == split, column]
    pair = [values.index[0], values.index[values != values.iloc[0]][0]]
    frames["two"].loc[pair, column] = values[pair[::-1]].to_numpy()
    return frames


def put(frames, column, value):
    """Frames with another value in the first training answer, of one model or, where it is the question's, of all."""
    models = frames if column in ("question", "split") else ["two"]
    return frames | {model: frames[model].assign(**{column: [value, *frames[model][column][1:]]}) for model in models}


FRAMED = mixed(48)
KEYED = {"reader": "usual", "frames": FRAMED, "settings": SETTINGS | {"first_layer": 0}}
STAGES = {
    "answer": lambda out, reader, frames, new=5, **_: answering.run(reader, frames["two"], new, 200, out),
    "extract": lambda out, reader, frames, first=None, **_: extract_stage.run("r", reader, frames, first, 200, out),
    "lora_prompt": lambda out, reader, frames, settings, seed=0, query=True, without=None, on="two", used=USED, **_:
        lora_prompt.run("r", reader, on, seed, frames, settings, 200, "", "x", query, without, **used, out=out),
    "lora_prompt of all models": lambda out, reader, frames, settings, seed=0, **_:
        lora_prompt.run("r", reader, ALL_MODELS, seed, frames, settings, 200, "", **USED, out=out),
    "search": lambda out, reader, frames, settings, seed=0, name="two", **_: search.run(
        name, lambda: reader, frames, seed=seed, features="", settings=settings, learning_rates=[], sizes=[],
        layers="all", strengths=[1.0], batch_tokens=200, out=out),
}  # fmt: skip
TEXTS = {
    "question": {"frames": put(FRAMED, "question", "What?")},
    "weights": {"reader": "rounded"},
    "files of the model": {"reader": "digest"},
    "words of a chat": {"reader": "wording"},
    "number format": {"reader": "bfloat16"},
}
CHANGED = {
    "alpha": 3,
    "dropout": 0.1,
    "learning_rate": 1e-3,
    "batch_size": 4,
    "epochs": 9,
    "patience": 1,
    "evaluations": 1,
    "js_weight": 0.5,
}
GRADED = TEXTS | {
    "answer": {"frames": put(FRAMED, "answer", "moon")},
    "grades that teach": {"frames": swapped(FRAMED, "train", "correct")},
    "grades that stop": {"frames": swapped(FRAMED, "validation", "correct")},
    "tasks within which they do": {"frames": swapped(FRAMED, "validation", "task")},
    "division": {"frames": put(FRAMED, "split", "test")},
    "seed": {"seed": 3},
    **{name: {"settings": KEYED["settings"] | {name: value}} for name, value in CHANGED.items()},
}  # fmt: skip
DEPENDS = {
    "answer": TEXTS | {
        "gold": {"frames": put(FRAMED, "gold", ["moon"])},
        "task": {"frames": put(FRAMED, "task", "nq_open")},
        "split": {"frames": put(FRAMED, "split", "shot")},
        "length": {"new": 6},
    },
    "extract": TEXTS | {
        "answer": GRADED["answer"],
        "whose": {"frames": dict(zip(("two", "one", "three"), FRAMED.values()))},
        "renamed": {"frames": dict(zip(("one", "two", "four"), FRAMED.values()))},
        "a trunk": {"first": 0.5},
        "its block": {"first": 0.25},
    },
    "lora_prompt": GRADED | {
        "left-out task": {"without": "sciq"},
        "trained on": {"on": "one"},
        "query": {"query": False},
        "wrong_per_right": {"settings": KEYED["settings"] | {"wrong_per_right": 0.5}},
        "source": {"used": USED | {"source": "tiny-mistral"}},
    },
    "lora_prompt of all models": GRADED | {"whose": {"frames": {model: FRAMED[model] for model in ("two", "one")}}},
    "search": GRADED | {"reader": {"name": "one"}, "first_layer": {"settings": SETTINGS}},
}  # fmt: skip


@pytest.fixture(scope="module")
def named_readers(llama):
    """The usual one, and others each of which differs from it, or from the one before, in one thing."""
    chatty, rounded, half = (
        dataclasses.replace(PLAIN, query="\nIs it correct?\n(i): no\n(ii): yes\nAnswer:"),
        fresh(llama),
        fresh(llama),
    )
    rounded.model.bfloat16().float()
    half.model.bfloat16()
    others = {
        "digest": {"digest": "other"},
        "wording": {"wording": chatty},
        "rounded": {"model": rounded.model},
        "bfloat16": {"model": half.model},
    }
    return {"usual": llama} | {name: dataclasses.replace(llama, **change) for name, change in others.items()}


@pytest.mark.parametrize("stage", STAGES)
def test_what_a_part_depends_on_is_in_its_key(stage, named_readers, tmp_path, monkeypatch):
    """Each thing by itself: with it changed, what another work left is not taken up, and otherwise it is."""

    def key_of(**changes):
        parameters = KEYED | changes
        parameters["reader"] = named_readers[parameters["reader"]]
        return key(monkeypatch, lambda: STAGES[stage](str(tmp_path / "out"), **parameters))

    usual = key_of()
    assert key_of() == usual
    keys = {what: key_of(**change) for what, change in DEPENDS[stage].items()}
    assert [what for what, other in keys.items() if other == usual] == []
    assert len(set(keys.values())) == len(keys)


@pytest.mark.parametrize("stage", ["answer", "extract"])
def test_a_shard_hands_on_its_stages_parameters_and_its_share(stage, tmp_path, monkeypatch):
    frames, used = FRAMED, {"source": "s", "precision": "4bit", "template": {"day": "d"}, "digest": "abc"}
    for scored, frame in frames.items():
        files.write_parquet(tmp_path / f"{scored}.parquet", frame)
    loaded = spied(monkeypatch, loading, "load", lambda *_: "the model")
    asked = spied(monkeypatch, answering if stage == "answer" else extract_stage, "run", lambda *_: None)
    paths = {scored: str(tmp_path / f"{scored}.parquet") for scored in frames}
    read = {
        "answer": {"questions": paths["one"], "max_new_tokens": 5, "samples": 2},
        "extract": {"answers": paths, "reader": "r", "first_layer": 0.5},
    }
    shard.run(stage, used | read[stage] | {"batch_tokens": 7, "out": "o"}, [1, 3])
    assert loaded == [used] and len(asked) == 1
    given = asked[0].pop("questions") if stage == "answer" else pd.concat(asked[0].pop("answers"))
    expected = frames["one"] if stage == "answer" else pd.concat(frames)
    pd.testing.assert_frame_equal(given.drop(columns="gold"), expected.drop(columns="gold"))
    parameters = {
        "answer": {"max_new_tokens": 5, "samples": 2, "out": "o"},
        "extract": {"name": "r", "first_layer": 0.5, "folder": "o"},
    }[stage]
    assert asked == [parameters | {"reader": "the model", "batch_tokens": 7, "shard": [1, 3]}]
