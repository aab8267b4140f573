"""Two processes learn together what one would learn alone."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from test_lora_prompt import SETTINGS, gradients, learnable, prepare, shaken

from made_up import answers
from waiting import until
from whoknows import WhoknowsError
from whoknows.data import files
from whoknows.data.files import ROOT
from whoknows.data.rows import ALL_MODELS, NO_ROWS
from whoknows.evaluation import plateau
from whoknows.models import distributed, loading
from whoknows.stages import extract, lora_prompt

pytestmark = pytest.mark.slow


@pytest.fixture
def training(llama, tmp_path, monkeypatch):
    """Parameters of a small training, with the files that it reads."""
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    frames = {"one": learnable(80), "two": learnable(80, shuffled=True)}
    for scored, frame in frames.items():
        files.write_parquet(tmp_path / f"{scored}.parquet", frame)
    extract.run("tiny", llama, frames, 0.5, 600, str(tmp_path / "features"))
    settings = SETTINGS | {"epochs": 2, "evaluations": 2, "js_weight": 0.1}

    def parameters(name, **changes):
        paths = {scored: str(tmp_path / f"{scored}.parquet") for scored in frames}
        outs = {"out": str(tmp_path / name / "estimator"), "rows_out": str(tmp_path / name / "rows.parquet")}
        names = {
            "reader": "tiny",
            "source": "tiny-llama",
            "trained_on": "one",
            "seed": 0,
            "method": "lora_prompt",
            "query": True,
            "without": None,
            "released": None,
        }
        return {
            **names,
            "answers": paths,
            "features": str(tmp_path / "features"),
            "settings": settings,
            "precision": "float32",
            "batch_tokens": 600,
            **outs,
        } | changes

    return parameters


def test_two_processes_have_the_losses_and_scores_of_one(training):
    history, rows = lora_prompt.cell(**training("alone", trained_on=ALL_MODELS))
    together = training("together", trained_on=ALL_MODELS)
    distributed.launch("whoknows.stages.lora_prompt", together, 2)
    card = json.loads(open(f"{together['out']}/lora_prompt.json").read())
    assert [look["step"] for look in card["history"]] == [look["step"] for look in history] and len(history) == 2
    for one, two in zip(history, card["history"]):
        assert two["loss"] == pytest.approx(one["loss"], rel=1e-4) and two["validation_auroc"] == pytest.approx(
            one["validation_auroc"], abs=0.02
        )
    joint = files.read_parquet(together["rows_out"])
    pd.testing.assert_frame_equal(joint.drop(columns="logit"), rows.drop(columns="logit"))
    assert np.allclose(joint["logit"], rows["logit"], atol=1e-3) and rows["logit"].std() > 0.02


def test_where_nothing_can_be_learned_no_model_is_loaded_and_the_card_says_why(training, tmp_path, monkeypatch):
    """All answers of one model are wrong; of another one the task that is left out is the only one."""
    monkeypatch.setattr(loading, "load", None)
    reasons = []
    for name, without in (("one", None), ("two", "made_up")):
        parameters = training(name, trained_on=name, without=without)
        if not without:
            frame = files.read_parquet(parameters["answers"][name])
            parameters["answers"][name] = str(tmp_path / "wrong.parquet")
            files.write_parquet(parameters["answers"][name], frame.assign(correct=False))
        history, rows = lora_prompt.cell(**parameters)
        assert history == [] and rows.empty and {*rows} == {*NO_ROWS}
        reasons.append(plateau.elsewhere(parameters["out"], rows).strip())
    assert reasons == [
        f"**Nothing could be trained** on the answers of {why}."
        for why in ("one, seed 0: no right answer among the training answers", "two, seed 0: no training answers")
    ]


def test_each_process_has_its_own_share_and_knows_the_sum_and_one_of_them_writes(tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[1]))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    distributed.launch("sharing", {"items": [*range(7)], "out": str(tmp_path)}, 2)
    shares = {"first": [0, 2, 4, 6], "other": [1, 3, 5]}
    quiet = {"first": {}, "other": {"disable": True}}
    assert {path.stem: json.loads(path.read_text()) for path in tmp_path.iterdir()} == {
        which: {"share": share, "sums": [[21], [2, 7]], "quiet": quiet[which]} for which, share in shares.items()
    }


@pytest.mark.parametrize("penalised", [False, True])
def test_what_each_process_adds_is_its_part_of_what_one_would_find(llama, monkeypatch, penalised):
    """A process that did nothing, or all of it, would add nothing, or all."""
    data, estimator = prepare(llama, answers(), 2, penalised, 600), shaken(llama, js_weight=0.5)
    together, parts = [*gradients(estimator, data), estimator.score(data)[""]], []
    for which in range(2):
        monkeypatch.setattr(distributed, "share", lambda items, which=which: items[which::2])
        parts.append([*gradients(estimator, data), estimator.score(data)[""]])
    for whole, one, other in zip(together, *parts, strict=True):
        torch.testing.assert_close(one + other, whole, rtol=1e-3, atol=1e-5)
    assert all(0.1 < float(part[0] / together[0]) < 0.9 for part in parts)
    assert [int((part[-1] != 0).sum()) for part in parts] == [3, 3]


def test_a_process_that_fails_is_an_error(training, capfd):
    with pytest.raises(WhoknowsError, match="whoknows.stages.lora_prompt: one of 2 processes failed"):
        distributed.launch("whoknows.stages.lora_prompt", training("broken", trained_on="nobody"), 2)
    assert "nobody" in capfd.readouterr().err


def test_alone_a_process_has_all_the_work():
    assert distributed.share([3, 1, 2]) == [3, 1, 2] and distributed.is_first() and distributed.add_up([1, 2]) == [1, 2]


@pytest.mark.parametrize("count", [0, 1, 2])
def test_work_is_done_here_unless_there_are_several_gpus(monkeypatch, count):
    done = []
    monkeypatch.setattr(torch.cuda, "device_count", lambda: count)
    monkeypatch.setattr(distributed, "launch", lambda *arguments: done.append(arguments))
    distributed.run("whoknows.stages.lora_prompt", lambda **arguments: done.append(arguments), {"reader": "a"})
    assert done == ([("whoknows.stages.lora_prompt", {"reader": "a"}, 2)] if count == 2 else [{"reader": "a"}])


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a process that its parent is gone")
@pytest.mark.parametrize("killed", ["the stage", "torch's launcher"])
def test_no_process_outlives_the_stage(tmp_path, monkeypatch, killed):
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT / "lib"), str(ROOT / "tests")]))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    code = f"from whoknows.models import distributed; distributed.launch('lasting', {{'out': {str(tmp_path)!r}}}, 2)"
    with subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.DEVNULL) as stage:
        until(lambda: [path.read_text() != "" for path in tmp_path.iterdir()] == [True, True])
        workers, launcher = {int(path.name) for path in tmp_path.iterdir()}, int(next(tmp_path.iterdir()).read_text())
        os.kill(stage.pid if killed == "the stage" else launcher, signal.SIGKILL)
    until(lambda: not any(Path(f"/proc/{process}").exists() for process in {launcher, *workers}))
