"""Loading: frozen models, in the number format that the hardware has, and the checks before that."""

import importlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import chain
from string import printable
from typing import Any

import torch
from safetensors import SafetensorError
from torch import nn
from torch.nn import functional as F
from transformers import (
    MODEL_FOR_CAUSAL_LM_MAPPING,
    AutoConfig,
    AutoModelForCausalLM,
    AutoTokenizer,
    BitsAndBytesConfig,
    PreTrainedTokenizerBase,
)
from transformers.models.llama.modeling_llama import LlamaRMSNorm
from transformers.models.mistral.modeling_mistral import MistralRMSNorm
from transformers.utils import logging as transformers_logging

from whoknows import WhoknowsError
from whoknows.data import assets
from whoknows.data.prompts import CHAT, LINE_END, PLAIN, Wording, chat
from whoknows.models.reader import Reader

# Batches differ in length, and without this they fragment a GPU's memory.
os.environ.setdefault("PYTORCH_CUDA_ALLOC_CONF", "expandable_segments:True")
# Weights of the blocks' matrices, as in Dettmers et al. 2022 and 2023; head, embeddings and norms stay in bfloat16.
QUANTISED = {
    "8bit": {"load_in_8bit": True},
    "4bit": {
        "load_in_4bit": True,
        "bnb_4bit_quant_type": "nf4",
        "bnb_4bit_use_double_quant": True,
        "bnb_4bit_compute_dtype": torch.bfloat16,
    },
}

OWN_CODE = {"trust_remote_code": False}  # not None, with which transformers asks whether to run it


def device() -> torch.device:
    """This process's GPU if there is one, else the CPU."""
    return torch.device("cuda", torch.cuda.current_device()) if torch.cuda.is_available() else torch.device("cpu")


def has_bfloat16() -> bool:
    """Whether a GPU multiplies bfloat16, or AVX512_BF16 or AMX that oneDNN may use (see ONEDNN_MAX_CPU_ISA)."""
    cpu = torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    return torch.cuda.is_available() or (cpu and torch.ops.mkldnn._is_mkldnn_bf16_supported())


def dtype(precision: str) -> torch.dtype:
    """The number format of activations, and of weights that are not quantised; for `auto` see `has_bfloat16`."""
    if precision == "auto":
        return torch.bfloat16 if has_bfloat16() else torch.float32
    return torch.bfloat16 if precision in QUANTISED else getattr(torch, precision)


class FusedNorm(nn.Module):
    """Root mean square norm in one kernel, where transformers launches seven; replaces its class, keeps the weights."""

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        return F.rms_norm(hidden, self.weight.shape, self.weight, self.variance_epsilon)


def fuse_norms(model: nn.Module) -> None:
    """Makes the norms of LLaMA and Mistral run as `FusedNorm`; those of other architectures scale differently."""
    for module in model.modules():
        if type(module) in (LlamaRMSNorm, MistralRMSNorm):
            module.__class__ = FusedNorm


def keep_format(model: nn.Module) -> None:
    """Makes matrices of 4 bits keep one format, with which they can be trained and are the same on every CPU.

    Where there is AVX512_BF16, bitsandbytes packs them anew in the first forward pass in evaluation, for a product that
    has no gradient, and rounds their scales.
    """
    for module in model.modules():
        if hasattr(module, "support_avx512bf16_for_cpu"):
            module.support_avx512bf16_for_cpu = False


def _resolve(source: str) -> str:
    """What `assets.resolve` says of a source; a tiny model is made if it is not there yet."""
    if (name := source.removeprefix(CHAT)) in assets.TINY:
        # By name, since stages depend on what is imported, and those on real models do not depend on this.
        return importlib.import_module("whoknows.models.tiny").make(name)
    return assets.resolve(source)


def load(source: str, precision: str, template: dict | None = None, digest: str | None = None) -> Reader:
    """A frozen model in evaluation mode, with its fast tokenizer.

    Args:
        source: name of an asset, a local folder, or a name on the Hugging Face hub; with `chat:` before it, texts are
            put in the words of its chat template.
        precision: `auto`, `float32` or `bfloat16`; or `8bit` or `4bit`, to which the blocks' matrices are quantised.
        template: `day` and `thinking` of a chat template; see `prompts.chat`.
        digest: the source's `assets.digest` when it was used before; of a model on the hub, the commit that is loaded.
            None takes what is there.

    Raises:
        WhoknowsError: the source is unknown, cannot be read, lacks weights, or is not what it was.
    """
    transformers_logging.disable_progress_bar()
    path, there = _resolve(source), assets.digest(source)
    hub = assets.on_hub(source)
    if digest and digest != there and not hub:
        raise WhoknowsError(
            f"models: the source {source!r} is another model now (digest {there}) than the one that was used before "
            f"(digest {digest}); put that one back, or train again with this one"
        )
    revision = {"revision": digest or there} if hub else {}
    quantised = {"quantization_config": BitsAndBytesConfig(**QUANTISED[precision])} if precision in QUANTISED else {}
    options = {"dtype": dtype(precision), "device_map": {"": device()}, **quantised}
    tokenizer, model = pretrained(AutoModelForCausalLM, source, path, revision, **options)
    keep_format(model)
    if model.device.type == "cuda":
        fuse_norms(model)  # on a CPU it saves nothing
        # It makes a plan for each new shape of a batch, and nearly every batch has one.
        torch.backends.cuda.enable_cudnn_sdp(False)
    words = _words(source, tokenizer, template)
    return Reader(model.eval().requires_grad_(False), tokenizer, words, digest or there)


def _words(source: str, tokenizer: PreTrainedTokenizerBase, template: dict | None) -> Wording:
    return chat(tokenizer, **(template or {})) if source.startswith(CHAT) else PLAIN


def pretrained(kind: Any, source: str, path: str, revision: dict, **options) -> tuple[PreTrainedTokenizerBase, Any]:
    """The tokenizer and the model, of a class of transformers, of a source at a path or on the hub, with all weights.

    Raises:
        WhoknowsError: a file is missing or damaged, or the files lack weights of the model, or have them in another
            shape, in whose place transformers would put random numbers.
    """
    options |= {"output_loading_info": True, "ignore_mismatched_sizes": True} | revision | OWN_CODE
    try:
        tokenizer = AutoTokenizer.from_pretrained(path, **revision, **OWN_CODE)
        with _quiet():
            model, info = kind.from_pretrained(path, **options)
    except (OSError, ValueError, ImportError, SafetensorError) as error:
        raise _unloadable(source, error) from error
    names = {*info["missing_keys"], *(name for name, *_ in info["mismatched_keys"])}
    if lacking := sorted(name for name in names if not name.startswith("pooler.")):  # which nothing here reads
        raise WhoknowsError(
            f"models: the files of the source {source!r} lack {len(lacking)} of the model's weights, or have another "
            f"shape of them, such as {lacking[0]}; fetch or save them anew"
        )
    return tokenizer, model


def _unloadable(source: str, error: Exception) -> WhoknowsError:
    why = " ".join(str(error).split())
    if "trust_remote_code" in why:
        why = "it brings code of its own, which is never run here; use another model"
    return WhoknowsError(f"models: the source {source!r} could not be loaded: {why}")


def set_attention(model: nn.Module, way: str) -> None:
    """Has a model attend in another way, if its code can; that it cannot, the proofs find."""
    with _quiet():
        model.set_attn_implementation(way)


@contextmanager
def _quiet() -> Iterator[None]:
    """Inside, transformers logs no remarks on a model, whose reasons we state ourselves or have caused."""
    logger = transformers_logging.get_logger("transformers.modeling_utils")
    before, logger.disabled = logger.disabled, True
    try:
        yield
    finally:
        logger.disabled = before


def check(source: str, template: dict | None = None) -> Reader | None:
    """Refuses a model that no stage can use, by its configuration and its tokenizer, before any weights are loaded.

    Args:
        source, template: as in `load`; a model on the hub that cannot be fetched now is not refused.

    Returns:
        The reader without its weights, on the meta device; None if it cannot be fetched now.

    Raises:
        WhoknowsError: it is no causal language model, its chat template cannot be used, it has no tokens for an empty
            answer or no single ones for the two choices, or none for a line end, or lacks embeddings for its tokens.
    """
    transformers_logging.disable_progress_bar()
    try:
        path = _resolve(source)
        config, tokenizer = (kind.from_pretrained(path, **OWN_CODE) for kind in (AutoConfig, AutoTokenizer))
    except (OSError, ValueError, ImportError) as error:
        if assets.on_hub(source) and "trust_remote_code" not in str(error):
            return None
        raise _unloadable(source, error) from None
    if getattr(config, "is_encoder_decoder", False) or (
        type(config) not in MODEL_FOR_CAUSAL_LM_MAPPING and not hasattr(config, "auto_map")
    ):
        raise WhoknowsError(
            f"models: {source} is of the kind {config.model_type}, which is no causal language model; "
            "use one that goes on from a text"
        )
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config, **OWN_CODE)
    reader = Reader(model, tokenizer, _words(source, tokenizer, template))
    _check_tokens(reader, source)
    return reader


def _check_tokens(reader: Reader, source: str) -> None:
    """Raises unless texts have tokens that the model has embeddings for, and line ends are among them."""
    texts = [reader.start(), reader.question(printable), reader.answer(""), reader.query, list(reader.choices)]
    if not LINE_END.search(reader.tokenizer.decode(reader.encode("\n"))):
        raise WhoknowsError(
            f"models: the tokenizer of {source} keeps no line ends, at which an answer ends; use another model"
        )
    rows = reader.model.get_input_embeddings().weight.shape[0]
    if max(chain(*texts)) >= rows:
        raise WhoknowsError(
            f"models: the tokenizer of {source} has more tokens than the model has embeddings ({rows}); "
            "put the model's own tokenizer beside it, or use another model"
        )
