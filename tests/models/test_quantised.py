"""Readers whose blocks are quantised to 8 or 4 bits do all that others do, and nearly the same."""

import bitsandbytes
import numpy as np
import pytest
import torch
from test_lora_prompt import SETTINGS, learnable

from made_up import answers, extract
from whoknows.estimators.lora import LoraPrompt
from whoknows.estimators.lora_data import gather
from whoknows.evaluation.auroc import auroc
from whoknows.models import loading
from whoknows.models.packing import pack
from whoknows.stages import answer as answering

pytestmark = pytest.mark.slow

LINEAR = {"8bit": bitsandbytes.nn.Linear8bitLt, "4bit": bitsandbytes.nn.Linear4bit}
CPUS = {
    "with AVX512_BF16": True,
    "without": False,
}  # where there is, bitsandbytes would pack 4 bits anew, whatever this machine is


def load_on(cpu, precision):
    """A reader as on such a CPU."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(bitsandbytes.nn.modules, "has_avx512bf16", lambda: CPUS[cpu])
        return loading.load("tiny-mistral", precision)


@pytest.fixture(params=[("8bit", "without"), *(("4bit", cpu) for cpu in CPUS)], ids=" ".join)
def quantised(request, readers):
    """A reader in bfloat16, and the same one quantised."""
    precision, cpu = request.param
    return loading.load("tiny-mistral", "bfloat16"), load_on(cpu, precision), precision


def test_matrices_of_the_blocks_are_quantised_and_the_rest_is_not(quantised):
    usual, small, precision = quantised
    matrices = [module for module in small.base.layers.modules() if isinstance(module, torch.nn.Linear)]
    assert len(matrices) == 4 * 7 and all(type(module) is LINEAR[precision] for module in matrices)
    assert small.head.dtype == small.base.embed_tokens.weight.dtype == small.base.norm.weight.dtype == torch.bfloat16
    assert not any(weight.requires_grad for weight in small.model.parameters())
    assert small.identity != usual.identity, "parts of one are none of the other's"


def test_hidden_states_are_near_and_not_the_same(quantised):
    usual, small, precision = quantised
    frames, far = {"m": answers()}, {"8bit": 0.05, "4bit": 0.3}[precision]
    one, other = (extract(reader, pack(reader, frames, [True] * 6), 2, 300) for reader in (usual, small))
    for a, b in ((one.states["m"], other.states["m"]), (one.cached, other.cached)):
        distance = (a.float() - b.float()).norm() / a.float().norm()
        assert 0 < distance < far
    assert torch.equal(one.states["m"][:, 0], other.states["m"][:, 0]), "embeddings are not quantised"


def test_every_cpu_has_the_same_four_bits_before_and_after_a_look(readers):
    frames, results = {"m": answers()}, []
    for cpu in CPUS:
        reader = load_on(cpu, "4bit")
        before = reader.identity
        states = extract(reader, pack(reader, frames, [True] * 6), 2, 300).states["m"]
        assert reader.identity == before, "else a stage that was killed does not recognise what it kept"
        results.append((states, before))
    assert torch.equal(results[0][0], results[1][0]) and results[0][1] == results[1][1]


def test_answers_are_written(quantised):
    table = answers().assign(split=["shot"] + ["test"] * 5, gold=[["A"]] * 6).drop(columns=["answer", "correct"])
    for reader in quantised[:2]:
        assert answering.answer(reader, table, 6, 300)["tokens"].min() > 0


def test_adapters_learn_on_quantised_weights(quantised):
    _, small, _ = quantised
    frame = learnable(80)
    grades = frame["correct"].to_numpy()
    before = {name: weight.clone() for name, weight in small.model.named_parameters()}
    data = gather(pack(small, {"m": frame}, [True] * 80), None, list(range(80)))
    estimator = LoraPrompt(
        small, SETTINGS | {"first_layer": 0, "epochs": 4, "evaluations": 1, "learning_rate": 3e-2}, 0, 2048
    )
    start = auroc(estimator.score(data)["m"].numpy(), grades)
    estimator.fit(data, grades, 0.0, lambda: 0.5)
    assert auroc(estimator.score(data)["m"].numpy(), grades) > max(0.8, start)
    for name, weight in estimator.reader.model.get_base_model().named_parameters():
        if "lora_" not in name:
            assert torch.equal(weight, before[name.replace(".base_layer", "")])
    assert np.isfinite(estimator.history[0]["loss"])
