"""Silent mistakes of this field, planted one by one: each must be caught, by a refusal or by a test of this suite."""

import dataclasses

import numpy as np
import pandas as pd
import pytest
import test_cells
import test_forward
import test_probe
import torch

from made_up import answers, make_rows, save_hidden
from whoknows import WhoknowsError
from whoknows.data import files
from whoknows.data.positions import LAST, MEAN, QUESTION
from whoknows.data.rows import divided
from whoknows.evaluation import bootstrap, cells, scores
from whoknows.models.packing import pack
from whoknows.stages import ablations, probe


@pytest.mark.parametrize("step", [-1, 1])
def test_a_token_position_that_is_off_by_one(llama, monkeypatch, step):
    check = test_forward.test_hidden_states_are_those_of_a_plain_forward_pass_at_the_last_answer_token
    check(llama, test_forward.ALL)

    def wrong(*given):
        packed = pack(*given)
        return dataclasses.replace(packed, answer_ends=[[end + step for end in ends] for ends in packed.answer_ends])

    monkeypatch.setattr(test_forward, "pack", wrong)
    with pytest.raises(AssertionError):
        check(llama, test_forward.ALL)


def tensor(folder, count=60):
    """Files of rows of two models that answer differently, one for each trained cell."""
    grades = {scored: np.random.default_rng(at).random(count) < 0.4 for at, scored in enumerate("ab")}
    for trained_on in "ab":
        parts = [
            make_rows(np.zeros(count), grades[scored], reader="a", trained_on=trained_on, scored=scored)
            for scored in "ab"
        ]
        files.write_parquet(folder / f"{trained_on}.parquet", pd.concat(parts, ignore_index=True))


def read(folder):
    return cells.read_rows(folder, ["a", "b"], ["probe"], [0])


def test_scored_and_trained_on_swapped_in_one_file(tmp_path):
    tensor(tmp_path)
    read(tmp_path)
    path = tmp_path / "a.parquet"
    files.write_parquet(path, files.read_parquet(path).rename(columns={"scored": "trained_on", "trained_on": "scored"}))
    with pytest.raises(WhoknowsError, match="is right in one row and wrong in another"):
        read(tmp_path)


def test_scored_and_trained_on_swapped_in_the_heatmaps(monkeypatch):
    right = cells.heatmap_axes
    monkeypatch.setattr(
        cells,
        "heatmap_axes",
        lambda table, reading: right(table.rename(columns={"scored": "trained_on", "trained_on": "scored"}), reading),
    )
    for check in (test_cells.test_reading_a_is_estimator_transfer, test_cells.test_reading_b_is_data_transfer):
        with pytest.raises((AssertionError, KeyError)):
            check()


def test_a_question_in_two_splits(tmp_path):
    tensor(tmp_path)
    rows = files.read_parquet(tmp_path / "b.parquet")
    again = rows.head(1).assign(split="validation", trained_on="a")
    files.write_parquet(tmp_path / "b.parquet", pd.concat([rows, again], ignore_index=True))
    with pytest.raises(WhoknowsError, match="trivia_qa0 is in the test split"):
        read(tmp_path)


def test_a_layer_that_is_chosen_on_test(tmp_path, monkeypatch):
    # layer 1 is good on validation answers and layer 2 on test answers
    frame = answers(
        ["x"] * 400, np.random.default_rng(0).random(400) < 0.4, ["train"] * 200 + ["validation"] * 100 + ["test"] * 100
    )
    hidden = torch.randn(400, 4, 8, generator=torch.Generator().manual_seed(0))
    correct = torch.tensor(frame["correct"].to_numpy())
    for layer, rows in ((1, slice(0, 300)), (2, slice(0, 200)), (2, slice(300, 400))):
        hidden[rows, layer, 0] += 3.0 * correct[rows]
    save_hidden(str(tmp_path), "a", hidden.bfloat16())

    def auroc_and_layer():
        rows, search = probe.run(
            "r",
            "a",
            0,
            {"a": frame},
            str(tmp_path),
            "all",
            [1.0],
            test_probe.MLP,
            str(tmp_path / "out"),
            source="",
            precision="",
        )
        test = rows[(rows["method"] == "probe") & (rows["split"] == "test")]
        return scores.by_task(test)["auroc"].iloc[0], search.loc[search["validation_auroc"].idxmax(), "layer"]

    honest, layer = auroc_and_layer()
    assert layer == 1 and honest < 0.7
    swap = {"validation": "test", "test": "validation"}
    swapped = {"a": frame.assign(split=frame["split"].replace(swap))}
    monkeypatch.setattr(probe, "divided", lambda frames, seed: divided(swapped, seed))
    assert auroc_and_layer()[1] == 2, "with test answers in the place of validation answers the choice is another"


def test_shuffled_grades_leave_one_half_within_the_interval_and_true_ones_do_not(tmp_path):
    rng = np.random.default_rng(0)
    correct = rng.random(900) < 0.35
    frame = answers(["x"] * 900, correct, ["train"] * 400 + ["validation"] * 150 + ["test"] * 350)
    hidden = torch.tensor(rng.normal(size=(900, 3, 64)), dtype=torch.float32)
    hidden[:, 1, 3] += 1.5 * torch.tensor(correct)
    for position in (LAST, MEAN, QUESTION):
        save_hidden(str(tmp_path), "a", hidden.bfloat16(), position)
    # one shuffle may by chance point along the signal or against it, several do not
    rows = ablations.of_reader("a", {"a": frame}, [0, 1, 2, 3], str(tmp_path), [1.0], [399])
    between = (
        bootstrap.interval(bootstrap.by_cell(bootstrap.samples(rows), ["made_up"])).reset_index().set_index("method")
    )
    assert between.loc["probe_shuffled", "low"] < 0.5 < between.loc["probe_shuffled", "high"]
    assert between.loc["probe_n399", "low"] > 0.6


def test_an_answer_without_its_space(mistral, monkeypatch):
    check = test_forward.test_hidden_states_are_those_of_a_plain_forward_pass_at_the_last_answer_token
    monkeypatch.setattr(
        type(mistral), "answers", lambda self, texts: [self.encode(text) or self.encode("\n") for text in texts]
    )
    with pytest.raises((AssertionError, WhoknowsError)):
        check(mistral, test_forward.ALL)


def test_a_beginning_that_is_there_twice(mistral, monkeypatch):
    check = test_forward.test_hidden_states_are_those_of_a_plain_forward_pass_at_the_last_answer_token
    usual = type(mistral).start
    monkeypatch.setattr(type(mistral), "start", lambda self: usual(self) * 2)
    with pytest.raises(AssertionError):
        check(mistral, test_forward.ALL)
