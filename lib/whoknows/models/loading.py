"""Models: loading them frozen, and encoding text piece by piece, so that positions are known and never searched for."""

import hashlib
import importlib
import os
import re
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import cached_property
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
from transformers.pytorch_utils import Conv1D
from transformers.utils import logging as transformers_logging
from transformers.utils.chat_template_utils import mark_control_tokens

from whoknows import WhoknowsError
from whoknows.data import assets
from whoknows.data.prompts import ANCHOR, CHAT, PLAIN, Wording, chat

# Batches differ in length, and without this they fragment a GPU's memory.
os.environ.setdefault("PYTORCH_CUDA_ALLOC_CONF", "expandable_segments:True")

LINEAR = (nn.Linear, Conv1D)  # the second is what GPT-2 calls it
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


def device() -> torch.device:
    """This process's GPU if there is one, else the CPU."""
    return torch.device("cuda", torch.cuda.current_device()) if torch.cuda.is_available() else torch.device("cpu")


def has_bfloat16() -> bool:
    """Whether the hardware multiplies bfloat16 natively.

    A GPU does, and a CPU with AVX512_BF16 or AMX that oneDNN may use (see ONEDNN_MAX_CPU_ISA).
    """
    cpu = torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    return torch.cuda.is_available() or (cpu and torch.ops.mkldnn._is_mkldnn_bf16_supported())


def dtype(precision: str) -> torch.dtype:
    """The number format of activations, and of weights that are not quantised; for `auto` see `has_bfloat16`."""
    if precision == "auto":
        return torch.bfloat16 if has_bfloat16() else torch.float32
    return torch.bfloat16 if precision in QUANTISED else getattr(torch, precision)


def send(tensor: torch.Tensor, on: torch.device) -> torch.Tensor:
    """A tensor of the CPU on another device, without waiting for what that device is doing."""
    return tensor.pin_memory().to(on, non_blocking=True) if on.type == "cuda" else tensor


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


@dataclass
class Reader:
    """A causal language model and its tokenizer."""

    model: nn.Module
    tokenizer: PreTrainedTokenizerBase
    wording: Wording = PLAIN
    digest: str | None = None  # of its files, see `assets.digest`

    @property
    def causal(self) -> nn.Module:
        """The causal language model, without what PEFT puts around it."""
        return self.model.get_base_model() if hasattr(self.model, "get_base_model") else self.model

    @property
    def base(self) -> nn.Module:
        """The stack of blocks with embeddings and final norm, without the output head."""
        # Which of these is the stack differs from class to class.
        declared = (self.causal.get_decoder(), self.causal.base_model, *self.causal.children())
        parts = [module for module in declared if module is not self.causal]
        return next((part for part in parts if _blocks(part, self.depth) is not None), parts[0])

    @property
    def layers(self) -> nn.ModuleList:
        """The blocks.

        Raises:
            LookupError: they stand in no list, so they cannot be run one by one.
        """
        if (blocks := _blocks(self.base, self.depth)) is None:
            raise LookupError(f"{type(self.base).__name__} has no list of {self.depth} blocks")
        return blocks

    @property
    def config(self):
        """Of the language model alone, where it is a part of another."""
        return self.model.config.get_text_config()

    @property
    def head(self) -> torch.Tensor:
        """[vocabulary, width] weight of the output head."""
        return self.model.get_output_embeddings().weight

    @property
    def depth(self) -> int:
        return self.config.num_hidden_layers

    @property
    def limit(self) -> float:
        """Longest text in tokens: the positions there are; infinite where a model counts none."""
        return getattr(self.config, "max_position_embeddings", None) or float("inf")

    def logits(self, hidden: torch.Tensor, tokens: tuple[int, ...] | None = None) -> torch.Tensor:
        """[n, vocabulary] next-token logits, or those of some tokens alone, from outputs [n, width] of the final norm.

        The model's code computes them, with whatever it does besides the product with the head: bias, scale, soft cap.
        """
        head = self.causal.get_output_embeddings()
        ids = torch.zeros(1, len(hidden), dtype=torch.long, device=hidden.device)
        with ExitStack() as undo:
            undo.enter_context(_standing_in(self.base, lambda *_, **__: _Decoded(hidden[None])))
            if tokens is not None:
                rows = list(tokens)
                bias = None if head.bias is None else head.bias[rows]
                undo.enter_context(_standing_in(head, lambda x: F.linear(x, head.weight[rows], bias)))
            return self.causal(input_ids=ids, use_cache=False).logits[0]

    @property
    def device(self) -> torch.device:
        return self.head.device

    @property
    def identity(self) -> str:
        """What tells these weights from others: their source, digest and number format, and some of their values."""
        digest, block = hashlib.sha256(), next((_blocks(self.base, self.depth) or self.base).parameters())
        for some in (self.head[:8], block.flatten()[:4096]):
            digest.update(some.detach().float().cpu().numpy().tobytes())
        parts = (self.digest, self.wording, self.head.dtype, block.dtype, digest.hexdigest()[:16])
        return " ".join(map(str, (self.model.config._name_or_path, *parts)))

    def start(self) -> list[int]:
        """What the tokenizer puts before every text, such as BOS; nothing if the wording brings it along."""
        text, whole = (self.tokenizer(ANCHOR, add_special_tokens=special).input_ids for special in (False, True))
        before = whole[: next((at for at in range(len(whole)) if whole[at : at + len(text)] == text), 0)]
        first = self.tokenizer(self.wording.first, add_special_tokens=False).input_ids
        return [] if first[: len(before)] == before else before

    @cached_property
    def ends(self) -> frozenset[int]:
        """Ids of the tokens that end an answer, by the tokenizer and the configurations of model and generation."""
        places = (self.tokenizer, self.model.config, getattr(self.model, "generation_config", None))
        named = [getattr(place, "eos_token_id", None) for place in places]
        named.append(self.encode(self.wording.later)[0] if self.wording != PLAIN else None)  # a chat's turn ends so
        return frozenset(e for end in named for e in (end if isinstance(end, list) else [end]) if e is not None)

    def encode(self, text: str) -> list[int]:
        """Ids of a piece of text as it stands in the middle of a longer one: no BOS, no added leading space.

        Raises:
            WhoknowsError: the tokenizer merges the text with what stands before it.
        """
        return self.encode_all([text])[0]

    def encode_all(self, texts: list[str], before: str = ANCHOR, **options) -> list[list[int]]:
        """The same for many texts at once, each as it stands after `before`; options are those of the tokenizer."""
        if not texts:
            return []
        pieces = [before, *(before + text for text in texts)]
        start, *encoded = self.tokenizer(pieces, add_special_tokens=False, **options).input_ids
        for text, ids in zip(texts, encoded):
            if ids[: len(start)] != start:
                raise WhoknowsError(
                    f"the tokenizer of {self.tokenizer.name_or_path} does not keep {text[:20]!r} apart "
                    "from the text before it"
                )
        return [ids[len(start) :] for ids in encoded]

    @cached_property
    def _control(self) -> re.Pattern:
        """What a control token of the tokenizer looks like."""
        special = [re.escape(token.content) for token in self.tokenizer.added_tokens_decoder.values() if token.special]
        return re.compile("|".join(sorted(special, reverse=True)) or "(?!)")  # a longer one before what it begins with

    def _encode_pieces(self, texts: list[list[str]], before: str = ANCHOR) -> list[list[int]]:
        """Ids of texts in pieces: every second one is somebody's text, in which control tokens are text, too."""
        if self.wording == PLAIN:
            return self.encode_all(["".join(pieces) for pieces in texts], before, split_special_tokens=True)
        marked = [
            [mark_control_tokens(piece, self._control) if k % 2 else piece for k, piece in enumerate(pieces)]
            for pieces in texts
        ]
        return self.encode_all(["".join(pieces) for pieces in marked], before, sanitize_control_tokens=True)

    def examples(self, questions: list[str], answers: list[str]) -> list[int]:
        """Ids of answered questions, with BOS, after which another question may come."""
        words = self.wording
        opened = [words.first, *[words.end + words.later] * len(questions)]
        pieces = [piece for begin, q, a in zip(opened, questions, answers) for piece in (begin, q, words.given, a)]
        return self.start() + (self._encode_pieces([[*pieces, words.end]])[0] if pieces else [])

    def questions(self, texts: list[str], after_examples: bool = False) -> list[list[int]]:
        """Ids of `Question: …\\nAnswer:` without BOS, or what stands for it in a chat, for each text."""
        begin = self.wording.later if after_examples else self.wording.first
        return self._encode_pieces([[begin, text, self.wording.asked] for text in texts])

    def answers(self, texts: list[str]) -> list[list[int]]:
        """Ids of answers with the space that follows `Answer:`.

        An empty answer is that space, or a line end where a space alone is no token.
        """
        encoded = self._encode_pieces([[self.wording.lead, text] for text in texts], self.wording.before)
        return [ids or self.encode("\n") for ids in encoded]

    def question(self, text: str) -> list[int]:
        """See `questions`."""
        return self.questions([text])[0]

    def answer(self, text: str) -> list[int]:
        """See `answers`."""
        return self.answers([text])[0]

    @cached_property
    def query(self) -> list[int]:
        """Ids of the question, after an answer, whether it is correct."""
        return self.encode(self.wording.query)

    @cached_property
    def choices(self) -> tuple[int, int]:
        """Ids of the tokens for no and yes as they stand after the query.

        Raises:
            WhoknowsError: one of them is not a single token, so the two cannot be compared.
        """
        texts = [f"{self.wording.lead}{choice}" for choice in ("i", "ii")]
        no, yes = self.encode_all(texts, self.wording.before)
        if len(no) != 1 or len(yes) != 1 or no == yes:
            raise WhoknowsError(
                f"the tokenizer of {self.tokenizer.name_or_path} splits {texts[0]!r} or {texts[1]!r} "
                f"into {no} and {yes}: lora_prompt and zero_shot need two single tokens; use another model as reader"
            )
        return no[0], yes[0]


def _blocks(module: nn.Module, depth: int) -> nn.ModuleList | None:
    """The list of so many blocks within a module, if there is one."""
    return next((part for part in module.modules() if isinstance(part, nn.ModuleList) and len(part) == depth), None)


class _Decoded:
    """A decoder's output that has final hidden states and nothing else."""

    def __init__(self, last: torch.Tensor):
        self.last_hidden_state = last

    def __getitem__(self, index):
        return (self.last_hidden_state,)[index]

    def __getattr__(self, name: str) -> None:
        return None


@contextmanager
def _standing_in(module: nn.Module, forward: Callable) -> Iterator[None]:
    """Inside, a function replaces the module's forward pass."""
    usual = vars(module).get("forward")  # accelerate puts one there
    module.forward = forward
    try:
        yield
    finally:
        del module.forward
        if usual is not None:
            module.forward = usual


def targets(model: nn.Module, wanted: list[str] | str, first: int = 0) -> list[str]:
    """Names of the linear modules of a model's blocks that get an adapter.

    Args:
        model: without adapters; its weights are not looked at.
        wanted: their names, or `all-linear`.
        first: the lowest block with adapters.

    Raises:
        WhoknowsError: the blocks have no linear module of that name.
    """
    try:
        blocks = Reader(model, None).layers[first:]
    except LookupError as error:
        raise WhoknowsError(
            f"lora_prompt: {model.config._name_or_path} cannot be trained: {error}; use another model as reader"
        ) from None
    modules = [named for block in blocks for named in block.named_modules()]
    known = list(dict.fromkeys(name.rpartition(".")[2] for name, module in modules if isinstance(module, LINEAR)))
    chosen = known if wanted == "all-linear" else list(wanted)
    for name in chosen:
        if name not in known:
            raise WhoknowsError(
                f"lora_prompt.targets: the blocks of {model.config._name_or_path} have no linear module {name!r}; "
                f"theirs are {', '.join(known) or 'none'}: name some of those in the grid, or write all-linear"
            )
    return chosen


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
    words = chat(tokenizer, **(template or {})) if source.startswith(CHAT) else PLAIN
    return Reader(model.eval().requires_grad_(False), tokenizer, words, digest or there)


def pretrained(kind: Any, source: str, path: str, revision: dict, **options) -> tuple[PreTrainedTokenizerBase, Any]:
    """The tokenizer and the model of a source, with all of its weights.

    Args:
        kind: the class of transformers that loads the model.
        path: where the source is, or its name on the hub.

    Raises:
        WhoknowsError: a file is missing or damaged, or the files lack weights of the model, or have them in another
            shape, in whose place transformers would put random numbers.
    """
    options |= {"output_loading_info": True, "ignore_mismatched_sizes": True} | revision
    try:
        tokenizer = AutoTokenizer.from_pretrained(path, **revision)
        with _quiet():
            model, info = kind.from_pretrained(path, **options)
    except (OSError, ValueError, SafetensorError) as error:
        raise WhoknowsError(
            f"models: the source {source!r} could not be loaded: {str(error).splitlines()[0]}"
        ) from error
    names = {*info["missing_keys"], *(name for name, *_ in info["mismatched_keys"])}
    if lacking := sorted(name for name in names if not name.startswith("pooler.")):  # which nothing here reads
        raise WhoknowsError(
            f"models: the files of the source {source!r} lack {len(lacking)} of the model's weights, or have another "
            f"shape of them, such as {lacking[0]}; fetch or save them anew"
        )
    return tokenizer, model


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


def check(source: str, wanted: list[str] | str | None, first_layer: float) -> None:
    """Refuses a model that no stage can use, by its configuration and its tokenizer, before any weights are loaded.

    Args:
        source: as in `load`, without `chat:`; a model on the hub that cannot be fetched now is not refused.
        wanted: the modules that get an adapter, see `targets`; None if nothing is trained.
        first_layer: see `first_block`.

    Raises:
        WhoknowsError: it is no causal language model, has no single tokens for the two choices, or lacks a module.
    """
    transformers_logging.disable_progress_bar()
    try:
        path = _resolve(source)
        config, tokenizer = AutoConfig.from_pretrained(path), AutoTokenizer.from_pretrained(path)
    except (OSError, ValueError) as error:
        if assets.on_hub(source):
            return
        raise WhoknowsError(
            f"models: the source {source!r} could not be loaded: {str(error).splitlines()[0]}"
        ) from None
    if getattr(config, "is_encoder_decoder", False) or (
        type(config) not in MODEL_FOR_CAUSAL_LM_MAPPING and not hasattr(config, "auto_map")
    ):
        raise WhoknowsError(
            f"models: {source} is of the kind {config.model_type}, which is no causal language model; "
            "use one that goes on from a text"
        )
    Reader(None, tokenizer).choices  # noqa: B018  it raises
    if wanted is not None:
        with torch.device("meta"):
            model = AutoModelForCausalLM.from_config(config)
        targets(model, wanted, first_block(config.get_text_config().num_hidden_layers, first_layer))


def first_block(depth: int, share: float) -> int:
    """The lowest block with an adapter: `share` of the way up a decoder, 0 for all blocks; the last at most."""
    return min(round(depth * share), depth - 1)
