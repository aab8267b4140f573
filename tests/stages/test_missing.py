"""A model that did not answer every question: what it answered is read, learned from and scored as if it had."""

import numpy as np
import pandas as pd
import pytest
import torch
from test_lora_prompt import SETTINGS, USED, Stand
from test_probe import MLP

from made_up import mixed
from whoknows.data.positions import LAST, POSITIONS, QUESTION
from whoknows.data.rows import aligned
from whoknows.estimators.hidden import load_hidden, load_states
from whoknows.stages import ablations, extract, lora_prompt, probe, sweep

FRAMES = mixed(240)
KEPT = [at for at in range(240) if at % 5]
SOME = FRAMES | {"two": FRAMES["two"].iloc[KEPT].reset_index(drop=True)}
ANSWERED = set(SOME["two"]["question_id"])


@pytest.fixture(scope="module")
def folders(llama, tmp_path_factory):
    """Features of all answers, and of those that there are."""
    made = {name: str(tmp_path_factory.mktemp(name)) for name in ("all", "some")}
    rows = {
        name: extract.run("r", llama, frames, 0.5, 600, made[name])[0]
        for name, frames in (("all", FRAMES), ("some", SOME))
    }
    same(rows["some"], rows["all"])
    return made


def same(some, every):
    """Rows are those of all answers, without those to what one model did not answer."""
    every = every[(every["scored"] != "two") | every["question_id"].isin(ANSWERED)].reset_index(drop=True)
    pd.testing.assert_frame_equal(some.drop(columns="logit"), every.drop(columns="logit"))
    np.testing.assert_allclose(some["logit"], every["logit"], atol=2e-2)
    assert len(some) and (some["scored"] == "two").any()


def test_hidden_states_are_those_of_its_answers(folders):
    for position in POSITIONS:
        some = load_states(folders["some"], "r", aligned(SOME), position)
        every = load_states(folders["all"], "r", aligned(FRAMES), position)
        for name, states in some.items():
            kept = KEPT if name == "two" else slice(None)
            assert len(states) == len(SOME[name]) and states.isfinite().all()
            torch.testing.assert_close(states.float(), every[name][kept].float(), atol=0.1, rtol=0.1)
        assert load_states(folders["some"], "r", aligned(SOME), position, ["two"])["two"].equal(some["two"])
    before = [load_hidden(folders[name], "r", "", FRAMES["one"], QUESTION).float() for name in ("some", "all")]
    torch.testing.assert_close(*before, atol=0.1, rtol=0.1)


def test_no_model_has_to_answer_all_questions(llama, folders, tmp_path):
    parts = {
        name: frame.iloc[[at for at in range(240) if at % 7 != left]]
        for left, (name, frame) in enumerate(FRAMES.items())
    }
    parts = {name: frame.reset_index(drop=True) for name, frame in parts.items()}
    rows = extract.run("r", llama, parts, 0.5, 600, str(tmp_path))[0].set_index(["scored", "question_id"])["logit"]
    torch.testing.assert_close(
        *(load_hidden(folder, "r", "", FRAMES["one"], QUESTION).float() for folder in (str(tmp_path), folders["all"])),
        atol=0.1,
        rtol=0.1,
    )
    for left, (name, frame) in enumerate(parts.items()):
        kept = [at for at in range(240) if at % 7 != left]
        states = load_hidden(folders["all"], "r", name, FRAMES[name])[kept].float()
        torch.testing.assert_close(load_hidden(str(tmp_path), "r", name, frame).float(), states, atol=0.1, rtol=0.1)
        before = load_states(str(tmp_path), "r", aligned(parts), QUESTION)[name]
        assert len(before) == len(frame) and {*rows[name].index} < {*frame["question_id"]}
    learned = ablations.without_reader(parts, [0], [1.0], None, 600)
    assert {*learned["scored"]} == {*parts} and learned.index.is_unique


def test_every_stage_scores_its_answers_and_no_others(folders, tmp_path):
    def rows(work):
        return [work(frames, folders[name]) for name, frames in (("some", SOME), ("all", FRAMES))]

    def probes(frames, folder, trained_on="one"):
        settings = ("all", [1.0], MLP, str(tmp_path / "probe"))
        made = probe.run("r", trained_on, 1, frames, folder, *settings, source="", precision="")[0]
        return made[made["method"] == "probe"].reset_index(drop=True)

    def controls(frames, folder):
        made = ablations.of_reader("r", frames, [1], folder, [1.0], [])
        kept = made["method"].isin(["probe_before", "probe_mean"]) & (made["trained_on"] == "one")
        return made[kept].reset_index(drop=True)

    for work in (probes, controls):
        same(*rows(work))
    learned = probes(SOME, folders["some"], "two")
    assert set(learned.loc[learned["scored"] == "two", "question_id"]) <= ANSWERED
    assert len(learned[learned["scored"] == "one"]) > len(
        learned[(learned["scored"] == "two") & (learned["split"] == "test")]
    )
    surface = ablations.without_reader(SOME, [0], [1.0], None, 600)
    assert set(surface.loc[surface["scored"] == "two", "question_id"]) <= ANSWERED
    assert set(sweep.run("r", SOME, 0, folders["some"], [1.0], [], [LAST])["scored"]) == {"one", "two", "three"}


def test_adapters_learn_from_and_score_its_answers_and_no_others(llama, folders, tmp_path, monkeypatch):
    monkeypatch.setattr(lora_prompt, "LoraPrompt", Stand)
    settings, out = SETTINGS | {"first_layer": 0.5}, {"out": str(tmp_path / "lora")}

    def work(frames, folder, trained_on):
        return lora_prompt.run("r", llama, trained_on, 1, frames, settings, 600, folder, **USED, **out)[1]

    same(work(SOME, folders["some"], "one"), work(FRAMES, folders["all"], "one"))
    rows = work(SOME, folders["some"], "two")
    assert set(rows.loc[rows["scored"] == "two", "question_id"]) <= ANSWERED
    (learned,) = Stand.learnt
    assert len(learned["correct"]) == len(learned["train"].packed.examples) > 0
