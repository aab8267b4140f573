"""Products: adapted matrices and attention with as few operations as possible, for training on short texts.

An adapted matrix is one node of the graph, where PEFT builds ten and casts every activation to the adapters' number
format and back. Attention over short texts is plain products, whose backward pass takes a third of the time of
PyTorch's blocked one on a CPU. Both compute what they replace: `x Wᵀ + s (x Aᵀ) Bᵀ` (Hu et al. 2022), and
`softmax(s q kᵀ) v` (Vaswani et al. 2017).
"""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from peft.tuners.lora import Linear
from torch import nn
from torch.nn import functional as F
from transformers import AttentionInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward

from whoknows.models.generation import UNUSED, refuse_others
from whoknows.models.loading import set_attention

ATTENTION = "plain_products"
LEFT = {"softcap", "s_aux", "sliding_window"}  # what is left to `sdpa`, and the window, which is in the mask
SHORT = 256  # columns; the scores of longer texts leave the CPU's cache


def install(model: nn.Module) -> None:
    """Makes a model with adapters use these products, where its layers are of the kinds that they compute.

    Quantised matrices stay PEFT's. A GPU keeps PyTorch's attention, which is faster there.
    """
    for module in model.modules():
        if type(module) is Linear and type(module.base_layer) is nn.Linear:
            module.__class__ = AdaptedLinear
    if model.device.type == "cpu" and model.config._attn_implementation == "sdpa":
        AttentionInterface.register(ATTENTION, attend)
        set_attention(model, ATTENTION)


def remove(model: nn.Module) -> None:
    """Makes it run as PEFT and PyTorch alone would run it."""
    for module in model.modules():
        if type(module) is AdaptedLinear:
            module.__class__ = Linear
    if model.config._attn_implementation == ATTENTION:
        set_attention(model, "sdpa")


@contextmanager
def removed(model: nn.Module) -> Iterator[None]:
    """Inside, the model runs as after `remove`."""
    remove(model)
    try:
        yield
    finally:
        install(model)


class AdaptedLinear(Linear):
    """A frozen matrix with its low-rank update; takes the place of PEFT's class, and keeps the weights."""

    def forward(self, x: torch.Tensor, *args, **kwargs) -> torch.Tensor:
        if self.disable_adapters or self.merged:
            return super().forward(x, *args, **kwargs)
        (name,) = self.active_adapters
        frozen, low, high = self.base_layer, self.lora_A[name].weight, self.lora_B[name].weight
        return _Adapted.apply(x, self.lora_dropout[name](x), frozen.weight, frozen.bias, low, high, self.scaling[name])


class _Adapted(torch.autograd.Function):
    """`x Wᵀ + b + s (d Aᵀ) Bᵀ`, where d is x after dropout; W and b need no gradient.

    With g the gradient of the output: dx = g W, dd = (s g B) A, dA = (s g B)ᵀ d, dB = s gᵀ (d Aᵀ). Without dropout d
    is x, whose gradient is the sum of the first two.
    """

    @staticmethod
    def forward(ctx, x, dropped, weight, bias, low, high, scaling):
        rows, kept = x.reshape(-1, x.shape[-1]), dropped.reshape(-1, x.shape[-1])
        low, high = low.to(x.dtype), (high * scaling).to(x.dtype)  # A and s B, rounded as the activations are
        squeezed = kept @ low.T  # d Aᵀ, [rows, rank]
        ctx.save_for_backward(kept, weight, low, high, squeezed)
        ctx.scaling, ctx.is_same = scaling, dropped is x
        return F.linear(rows, weight, bias).addmm_(squeezed, high.T).view(*x.shape[:-1], -1)

    @staticmethod
    def backward(ctx, gradient):
        kept, weight, low, high, squeezed = ctx.saved_tensors
        rows = gradient.reshape(-1, gradient.shape[-1])
        through = rows @ high  # s g B, [rows, rank]
        of_x = of_dropped = None
        if ctx.needs_input_grad[0]:
            shape, of_x = (*gradient.shape[:-1], -1), rows @ weight
            if ctx.is_same:
                of_x.addmm_(through, low)
            else:
                of_dropped = (through @ low).view(shape)
            of_x = of_x.view(shape)
        return of_x, of_dropped, None, None, (through.T @ kept).float(), (rows.T @ squeezed).float() * ctx.scaling, None


def attend(module, query, key, value, attention_mask, scaling=None, dropout=0.0, **more):
    """Attention for `transformers`, of queries [rows, heads, columns, width] over as many key heads or fewer.

    The mask [rows, 1, columns, columns] is True where a query may look. Whatever is not a masked softmax of scaled
    products (soft caps, sinks, dropout), and long texts, are left to `sdpa`.

    Raises:
        NotImplementedError: the attention depends on something else, such as the keys that each query has chosen.
    """
    refuse_others(more, UNUSED | LEFT)
    is_plain = attention_mask is not None and not dropout and more.get("softcap") is None and more.get("s_aux") is None
    if not is_plain or query.shape[2] > SHORT or key.shape[2] != query.shape[2]:
        more |= {"scaling": scaling, "dropout": dropout}
        return sdpa_attention_forward(module, query, key, value, attention_mask, **more)
    scaling = query.shape[-1] ** -0.5 if scaling is None else scaling
    return _Attention.apply(query, key, value, attention_mask, scaling).transpose(1, 2), None


class _Attention(torch.autograd.Function):
    """P v with P = softmax(s q kᵀ); heads that share a key are folded into the queries, so no key is copied.

    With g the gradient of the output: dv = Pᵀ g, dP = g vᵀ, dS = P ∘ (dP - rowsum(P ∘ dP)), dq = s dS k,
    dk = dSᵀ (s q). Where the mask forbids a key, P and so dS are 0. Folded heads are more rows of the products, so
    dk and dv sum over them.
    """

    @staticmethod
    def forward(ctx, query, key, value, mask, scaling):
        rows, heads, columns, width = ctx.shape = query.shape
        query = (query * scaling).reshape(rows * key.shape[1], -1, width)
        key, value = (some.reshape(-1, columns, some.shape[-1]) for some in (key, value))
        scores = (query @ key.transpose(1, 2)).view(rows, heads, columns, columns).masked_fill_(~mask, -torch.inf)
        weights = scores.softmax(-1).view(len(key), -1, columns)
        ctx.save_for_backward(query, key, value, weights)
        ctx.scaling = scaling
        return (weights @ value).view(rows, heads, columns, -1)

    @staticmethod
    def backward(ctx, gradient):
        query, key, value, weights = ctx.saved_tensors
        rows, heads, columns, width = ctx.shape
        gradient = gradient.reshape(len(key), -1, value.shape[-1])
        of_weights = gradient @ value.transpose(1, 2)
        of_scores = torch._softmax_backward_data(of_weights, weights, -1, weights.dtype)
        of_query = (of_scores @ key).mul_(ctx.scaling).view(ctx.shape)
        of_key = (of_scores.transpose(1, 2) @ query).view(rows, -1, columns, width)
        of_value = (weights.transpose(1, 2) @ gradient).view(rows, -1, columns, value.shape[-1])
        return of_query, of_key, of_value, None, None
