"""Two processes learn together what one would learn alone."""

import json

import numpy as np
import pandas as pd
import pytest
import torch
from test_lora_prompt import SETTINGS, learnable

from whoknows import WhoknowsError, extraction, files, lora_prompt, processes


@pytest.fixture
def told(llama, tmp_path, monkeypatch):
    """Parameters of a small training, with the files that it reads."""
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    frames = {"one": learnable(80), "two": learnable(80, shuffled=True)}
    for scored, frame in frames.items():
        files.write_parquet(tmp_path / f"{scored}.parquet", frame)
    extraction.run("tiny", llama, frames, 0.5, 600, str(tmp_path / "features"))
    settings = SETTINGS | {"epochs": 2, "evaluations": 2, "js_weight": 0.1}

    def parameters(name, **changes):
        paths = {scored: str(tmp_path / f"{scored}.parquet") for scored in frames}
        outs = {"out": str(tmp_path / name / "estimator"), "rows_out": str(tmp_path / name / "rows.parquet")}
        names = {"reader": "tiny", "source": "tiny-llama", "trained_on": "one", "seed": 0, "method": "lora_prompt", "query": True, "without": None}
        return {**names, "answers": paths, "features": str(tmp_path / "features"), "settings": settings, "precision": "float32", "batch_tokens": 600, **outs} | changes

    return parameters


def test_two_processes_have_the_losses_and_scores_of_one(told):
    history, rows = lora_prompt.cell(**told("alone"))
    together = told("together")
    processes.launch("whoknows.lora_prompt", together, 2)
    card = json.loads(open(f"{together['out']}/lora_prompt.json").read())
    assert [look["step"] for look in card["history"]] == [look["step"] for look in history] and len(history) == 2
    for one, two in zip(history, card["history"]):
        assert two["loss"] == pytest.approx(one["loss"], rel=1e-4) and two["validation_auroc"] == pytest.approx(one["validation_auroc"], abs=0.02)
    found = files.read_parquet(together["rows_out"])
    pd.testing.assert_frame_equal(found.drop(columns="logit"), rows.drop(columns="logit"))
    assert np.allclose(found["logit"], rows["logit"], atol=1e-3) and rows["logit"].std() > 0.02


def test_a_process_that_fails_is_an_error(told, capfd):
    with pytest.raises(WhoknowsError, match="whoknows.lora_prompt: one of 2 processes failed"):
        processes.launch("whoknows.lora_prompt", told("broken", trained_on="nobody"), 2)
    assert "nobody" in capfd.readouterr().err


def test_alone_a_process_has_all_the_work():
    assert processes.share([3, 1, 2]) == [3, 1, 2] and processes.is_first() and processes.add_up([1, 2]) == [1, 2]


@pytest.mark.parametrize("count", [0, 1, 2])
def test_work_is_done_here_unless_there_are_several_gpus(monkeypatch, count):
    done = []
    monkeypatch.setattr(torch.cuda, "device_count", lambda: count)
    monkeypatch.setattr(processes, "launch", lambda *said: done.append(said))
    processes.run("whoknows.lora_prompt", lambda **said: done.append(said), {"reader": "a"})
    assert done == ([("whoknows.lora_prompt", {"reader": "a"}, 2)] if count == 2 else [{"reader": "a"}])
