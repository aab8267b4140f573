"""What training runs instead of PEFT's layers and PyTorch's attention computes the same, forwards and backwards."""

import pytest
import torch
from peft.tuners.lora import Linear

from made_up import fresh
from whoknows.estimators.lora import LoraPrompt
from whoknows.models import products
from whoknows.models.packing import PackedExample, collate

SETTINGS = {
    "first_layer": 0, "r": 4, "alpha": 16, "dropout": 0.0,
    "targets": ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"],
    "learning_rate": 1e-2, "batch_size": 8, "epochs": 1, "evaluations": 1, "patience": 1, "wrong_per_right": None,
    "js_weight": 0.0,
}  # fmt: skip


def shaken(reader, **changes):
    estimator = LoraPrompt(fresh(reader), SETTINGS | changes, 0, 600)
    for weight in estimator.weights:
        torch.nn.init.normal_(weight, std=0.2)
    return estimator


def batch(reader, lengths=((9, 4), (3, 7), (12, 2))):
    random = torch.Generator().manual_seed(0)
    some = lambda count: torch.randint(5, 60, (count,), generator=random).tolist()  # noqa: E731
    return collate(
        [PackedExample(some(question), tuple(some(n) for n in branches)) for question, *branches in lengths], reader
    )


def passes(estimator, inputs, dtype=torch.float32):
    """Final hidden states of the real tokens and the gradient of each adapter."""
    model = estimator.reader.base.to(dtype)
    for weight in estimator.weights:
        weight.data = weight.data.float()
    torch.manual_seed(1)  # of the dropout
    hidden = model(**inputs, use_cache=False).last_hidden_state
    real = inputs["attention_mask"].sum(-1)[:, 0] > 1
    real[:, 0] = True
    wanted = torch.randn(hidden.shape, generator=torch.Generator().manual_seed(2))[real]
    return hidden[real].detach().float(), torch.autograd.grad((hidden[real].float() * wanted).sum(), estimator.weights)


def assert_same(estimator, inputs, rel, dtype=torch.float32):
    fast = passes(estimator, inputs, dtype)
    with products.removed(estimator.reader.model):
        assert not any(type(module) is products.AdaptedLinear for module in estimator.reader.model.modules())
        plain = passes(estimator, inputs, dtype)
    assert (fast[0] - plain[0]).norm() <= rel * plain[0].norm()
    for ours, theirs in zip(fast[1], plain[1], strict=True):
        assert theirs.abs().max() > 0 and (ours - theirs).norm() <= rel * theirs.norm()
    return fast, plain


@pytest.mark.parametrize("changes", [{}, {"dropout": 0.3}, {"first_layer": 0.5}, {"targets": ["q_proj", "down_proj"]}])
def test_hidden_states_and_gradients_are_those_of_peft(reader, changes):
    estimator = shaken(reader, **changes)
    estimator.reader.model.train()
    assert_same(estimator, batch(reader), 1e-4)


def test_rows_of_several_branches_are_masked_as_they_say(reader):
    assert_same(shaken(reader), batch(reader, ((6, 3, 5), (2, 8), (4, 1, 1, 4))), 1e-4)


def test_in_bfloat16_they_are_as_near_to_float32_as_peft(reader):
    estimator, inputs = shaken(reader), batch(reader)
    for weight in estimator.weights:
        weight.data *= 0.5  # with larger ones errors grow from block to block until the gradient is nothing else
    exact = passes(estimator, inputs)
    fast = passes(estimator, inputs, torch.bfloat16)
    with products.removed(estimator.reader.model):
        plain = passes(estimator, inputs, torch.bfloat16)
    error = [(some - true).norm() / true.norm() for some, true in ((fast[0], exact[0]), (plain[0], exact[0]))]
    assert 0 < error[0] <= 1.25 * error[1]
    spread = [sum((some - true).square().sum() for some, true in zip(way[1], exact[1])).sqrt() for way in (fast, plain)]
    assert 0 < spread[0] <= 1.25 * spread[1]


def test_the_layers_are_in_use_and_the_attention_too(llama, monkeypatch):
    estimator, seen = shaken(llama), []
    layers = [module for module in estimator.reader.model.modules() if isinstance(module, Linear)]
    assert layers and {type(module) for module in layers} == {products.AdaptedLinear}
    apply = products._Attention.apply
    monkeypatch.setattr(products._Attention, "apply", lambda *inputs: seen.append(1) or apply(*inputs))
    passes(estimator, batch(llama))
    assert len(seen) == estimator.reader.depth


@pytest.mark.parametrize(
    "short, more", [(4, {}), (256, {"softcap": 30.0}), (256, {"s_aux": torch.zeros(2)}), (256, {"dropout": 0.5})]
)
def test_what_is_no_plain_softmax_is_left_to_pytorch(monkeypatch, short, more):
    monkeypatch.setattr(products, "SHORT", short)
    asked = []
    monkeypatch.setattr(
        products, "sdpa_attention_forward", lambda *inputs, **more: asked.append(more) or ("sdpa", None)
    )
    query, key = torch.randn(1, 4, 6, 8), torch.randn(1, 2, 6, 8)
    assert products.attend(None, query, key, key, torch.ones(1, 1, 6, 6, dtype=torch.bool), scaling=0.5, **more) == (
        "sdpa",
        None,
    )
    assert asked[0]["scaling"] == 0.5 and all(asked[0][name] is value for name, value in more.items())


def test_attention_to_what_each_query_has_chosen_is_refused():
    query, key = torch.randn(1, 4, 6, 8), torch.randn(1, 2, 6, 8)
    mask, chosen = torch.ones(1, 1, 6, 6, dtype=torch.bool), torch.zeros(1, 6, 2, dtype=torch.long)
    with pytest.raises(NotImplementedError, match="depends on indices"):
        products.attend(None, query, key, key, mask, indices=chosen, sliding_window=4, position_ids=chosen)


def test_attention_has_the_gradients_that_finite_differences_have():
    random = torch.Generator().manual_seed(0)
    query, key, value = (
        torch.randn(2, heads, 5, 3, generator=random, dtype=torch.double, requires_grad=True) for heads in (4, 2, 2)
    )
    mask = torch.ones(2, 1, 5, 5, dtype=torch.bool).tril()
    assert torch.autograd.gradcheck(lambda *inputs: products._Attention.apply(*inputs, mask, 0.7), (query, key, value))


def test_without_a_scaling_it_is_that_of_the_width():
    query, key, value = torch.randn(3, 2, 4, 6, 16)
    mask = torch.ones(2, 1, 6, 6, dtype=torch.bool).tril()
    theirs = torch.nn.functional.scaled_dot_product_attention(query, key, value, mask)
    torch.testing.assert_close(products.attend(None, query, key, value, mask)[0], theirs.transpose(1, 2))
