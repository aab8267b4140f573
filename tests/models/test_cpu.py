"""What depends on the CPU, both ways on whatever machine this is: with native bfloat16 and without."""

import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from test_lora_prompt import SETTINGS, learnable

from whoknows.evaluation import scores
from whoknows.models import loading
from whoknows.run import grid
from whoknows.stages import answer, extract, lora_prompt
from whoknows.use import predict

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
DTYPES = {True: torch.bfloat16, False: torch.float32}  # of `auto`, by whether bfloat16 is native
AVX2 = {"ONEDNN_MAX_CPU_ISA": "AVX2", "ATEN_CPU_CAPABILITY": "avx2"}  # has torch do as on a CPU that has no more
SMOKE = grid.load(ROOT / "grids/smoke.yml")


@pytest.mark.parametrize(
    "gpu, avx512, amx, allowed, native",
    [
        (False, False, False, True, False),
        (False, True, False, True, True),
        (False, False, True, True, True),
        (False, True, True, False, False),
        (True, False, False, False, True),
    ],
)
def test_auto_is_bfloat16_where_it_is_native_and_no_other_precision_asks(
    monkeypatch, gpu, avx512, amx, allowed, native
):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: gpu)
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: avx512)
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: amx)
    monkeypatch.setattr(
        torch.ops.mkldnn, "_is_mkldnn_bf16_supported", lambda: allowed, raising=False
    )  # not every build has it
    assert loading.has_bfloat16() == native and loading.dtype("auto") == DTYPES[native]
    assert loading.dtype("float32") == torch.float32 and {
        loading.dtype(name) for name in ("bfloat16", "8bit", "4bit")
    } == {torch.bfloat16}


def test_one_place_asks_what_the_cpu_can_do():
    asking = re.compile(r"torch\.cpu\._is|mkldnn|get_cpu_capability|has_avx")
    assert [path.name for path in ROOT.glob("lib/whoknows/**/*.py") if asking.search(path.read_text())] == [
        "loading.py"
    ]


def through_the_stages(native, folder):
    """Results of the stages that load a model, of tiny-mistral with `auto` as in the smoke grid, trained longer."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loading, "has_bfloat16", lambda: native)
        reader, frame = loading.load("tiny-mistral", "auto"), learnable()
        asked = frame.drop(columns=["answer", "correct"])
        written = answer.run(
            reader, asked, SMOKE.answer.max_new_tokens, SMOKE.batch_tokens, str(folder / "answers.parquet")
        )
        zero_shot, _ = extract.run(
            "r", reader, {"r": frame}, SMOKE.lora_prompt.first_layer, SMOKE.batch_tokens, str(folder / "features")
        )
        used = {"source": "tiny-mistral", "precision": "auto", "out": str(folder / "estimator")}
        _, rows = lora_prompt.run(
            "r",
            reader,
            "r",
            0,
            {"r": frame},
            SETTINGS | {"epochs": 6},
            SMOKE.batch_tokens,
            str(folder / "features"),
            **used,
        )
        again = predict.load(folder / "estimator")
        test = rows[rows["split"] == "test"]
        answered = frame.set_index("question_id").loc[test["question_id"]]
        used_again = again.logits(answered["question"].tolist(), answered["answer"].tolist()).numpy()
    return {
        "dtypes": {reader.head.dtype, again.reader.head.dtype},
        "answers": written,
        "zero_shot": zero_shot,
        "test": test,
        "again": used_again,
    }


@pytest.fixture(scope="module")
def both(readers, tmp_path_factory):
    return {native: through_the_stages(native, tmp_path_factory.mktemp(str(native))) for native in DTYPES}


@pytest.mark.parametrize("native, close", [(True, 0.1), (False, 1e-3)])
def test_answers_extraction_training_and_scoring_go_through_with_either(both, native, close):
    results = both[native]
    assert (
        results["dtypes"] == {DTYPES[native]}
        and len(results["answers"]) == 160
        and results["answers"]["tokens"].min() > 0
    )
    assert np.isfinite(results["zero_shot"]["logit"]).all() and np.isfinite(results["test"]["logit"]).all()
    assert scores.by_task(results["test"])["auroc"].min() > 0.85
    np.testing.assert_allclose(results["again"], results["test"]["logit"], atol=close)


def test_the_two_are_near_and_not_the_same(both):
    one, other = (both[native]["zero_shot"]["logit"].to_numpy() for native in DTYPES)
    assert 0 < np.abs(one - other).max() < 0.1


# bitsandbytes warns of kernels for 4 bits when PEFT imports it, and of 8 bits at each product, but not on every CPU.
PROCESS = """
import logging, torch, whoknows.estimators.lora
from whoknows.models import loading

for precision in ("8bit", "4bit"):
    loading.load("tiny-mistral", precision).base(torch.tensor([[1, 2]]))
logging.getLogger("bitsandbytes.backends.cpu.ops").warning("Failed to load CPU gemm_4bit_forward")
print(loading.dtype("auto"))
"""


def test_a_process_has_the_cpu_of_its_environment_and_no_library_warns_of_quantised_weights():
    environment = os.environ | {"PYTHONPATH": str(ROOT / "lib"), "CUDA_VISIBLE_DEVICES": ""} | AVX2
    done = subprocess.run([sys.executable, "-c", PROCESS], env=environment, capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("torch.float32\n", "")
