"""A reader: a causal language model by its parts, and text encoded piece by piece, so that positions are known."""

import hashlib
import re
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import nn
from torch.nn import functional as F
from transformers import PreTrainedTokenizerBase
from transformers.pytorch_utils import Conv1D
from transformers.utils.chat_template_utils import mark_control_tokens

from whoknows import WhoknowsError
from whoknows.data.prompts import ANCHOR, PLAIN, Wording

MARK = re.compile(r"<\S+>|\[\S+\]")
SIGN = re.compile(r"[^\w\s]")  # neither a letter, nor a digit, nor a space


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
        named = (getattr(self.config, name, None) for name in ("max_position_embeddings", "max_seq_len"))
        return next((limit for limit in named if limit and limit > 0), float("inf"))  # XLNet has -1 of them

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
        """What the tokenizer puts before every text, such as BOS; nothing if that is left to a chat template."""
        if self.wording != PLAIN:
            return []
        text, whole = (self.tokenizer(ANCHOR, add_special_tokens=special).input_ids for special in (False, True))
        return whole[: next((at for at in range(len(whole)) if whole[at : at + len(text)] == text), 0)]

    @cached_property
    def ends(self) -> frozenset[int]:
        """Ids of the tokens that end an answer, by the tokenizer and the configurations of model and generation."""
        places = (self.tokenizer, self.model.config, getattr(self.model, "generation_config", None))
        named = [self.closing[-1:], *(getattr(place, "eos_token_id", None) for place in places)]
        return frozenset(e for end in named for e in (end if isinstance(end, list) else [end]) if e is not None)

    @cached_property
    def closing(self) -> list[int]:
        """Ids that end a chat's turn, up to its first control token, or, in a template without, a sign such as `###`.

        There are none where the turn ends with a line end or a word: answers have words too, and end with their line.
        """
        later = self.wording.later if self.wording != PLAIN else ""
        if control := self._control.search(later):
            return self.encode(later[: control.end()])
        first = self.encode(later)[:1]
        return first if SIGN.search(self.tokenizer.decode(first)) else []

    def encode(self, text: str) -> list[int]:
        """See `encode_all`."""
        return self.encode_all([text])[0]

    def encode_all(self, texts: list[str], before: str = ANCHOR, **options) -> list[list[int]]:
        """Ids of pieces of text as they stand after `before` in a longer one: no BOS, no added leading space.

        With an empty `before` they begin a text, and have the leading space that some tokenizers put there.

        Raises:
            WhoknowsError: the tokenizer merges a text with what stands before it.
        """
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
    def _control_ids(self) -> dict[str, int]:
        """Control tokens: special ones, and added ones in brackets that the chat template has."""
        added, template = self.tokenizer.added_tokens_decoder.items(), str(self.tokenizer.chat_template or "")
        marks = {token.content for _, token in added if MARK.fullmatch(token.content) and token.content in template}
        return {token.content: at for at, token in added if token.special or token.content in marks}

    @cached_property
    def _control(self) -> re.Pattern:
        """What a control token of the tokenizer looks like."""
        longest = sorted(map(re.escape, self._control_ids), reverse=True)  # before what it begins with
        return re.compile("|".join(longest) or "(?!)")

    def _encode_pieces(self, texts: list[list[str]], before: str = ANCHOR) -> list[list[int]]:
        """Ids of texts in pieces: every second one is somebody's text, in which control tokens are text, too.

        Raises:
            WhoknowsError: the tokenizer has no other ids for a control token that is text.
        """
        is_plain, control = self.wording == PLAIN, {*self._control_ids.values()}
        encoded = self.encode_all(["".join(pieces) for pieces in texts], before, split_special_tokens=is_plain)
        for at, pieces in enumerate(texts):
            # In plain words a tokenizer splits most of them by itself.
            if control & {*encoded[at]} if is_plain else any(map(self._control.search, pieces[1::2])):
                encoded[at] = self._encode_marked(pieces, before)
        return encoded

    def _encode_marked(self, pieces: list[str], before: str) -> list[int]:
        marked = [mark_control_tokens(piece, self._control) if k % 2 else piece for k, piece in enumerate(pieces)]
        try:
            return self.encode_all(["".join(marked)], before, sanitize_control_tokens=True)[0]
        except ValueError as error:
            raise WhoknowsError(
                f"the tokenizer of {self.tokenizer.name_or_path} cannot write a control token of the text "
                f"{pieces[1][:40]!r} as text ({error}); leave the text out, or use another model as reader"
            ) from None

    def examples(self, questions: list[str], answers: list[str]) -> list[int]:
        """Ids of answered questions, with BOS, after which another question may come."""
        words = self.wording
        opened = [words.first, *[words.end + words.later] * len(questions)]
        pieces = [piece for begin, q, a in zip(opened, questions, answers) for piece in (begin, q, words.given, a)]
        return self.start() + (self._encode_pieces([[*pieces, words.end]], "")[0] if pieces else [])

    def questions(self, texts: list[str], after_examples: bool = False) -> list[list[int]]:
        """Ids of `Question: …\\nAnswer:` without BOS, or what stands for it in a chat, for each text.

        After examples they go on from these; else they begin a text, as tokenizers may tell by the first token.
        """
        begin, before = (self.wording.later, ANCHOR) if after_examples else (self.wording.first, "")
        return self._encode_pieces([[begin, text, self.wording.asked] for text in texts], before)

    def answers(self, texts: list[str]) -> list[list[int]]:
        """Ids of answers with the space that follows `Answer:`.

        An empty answer is that space, or a line end where a space alone is no token.

        Raises:
            WhoknowsError: neither is one.
        """
        pieces = self._encode_pieces([[self.wording.lead, text] for text in texts], self.wording.before)
        encoded = [ids or self.encode("\n") for ids in pieces]
        if not all(encoded):
            raise WhoknowsError(
                f"the tokenizer of {self.tokenizer.name_or_path} has a token neither for a space nor for a line end, "
                "so an empty answer has no hidden state; use another model as reader"
            )
        return encoded

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
    """Names of the linear modules, or `all-linear`, of a model's blocks from `first` on that get an adapter.

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
    known = list(dict.fromkeys(name.rpartition(".")[2] for name, module in modules if is_linear(module)))
    chosen = known if wanted == "all-linear" else list(wanted)
    for name in chosen:
        if name not in known:
            raise WhoknowsError(
                f"lora_prompt.targets: the blocks of {model.config._name_or_path} have no linear module {name!r}; "
                f"theirs are {', '.join(known) or 'none'}; name some of those in the grid"
            )
    return chosen


def is_linear(module: nn.Module) -> bool:
    """Conv1D is what GPT-2 calls it; a router of experts may be one, and gives more than a product."""
    return isinstance(module, (nn.Linear, Conv1D)) and not type(module).__name__.endswith("Router")


def first_block(depth: int, share: float) -> int:
    """The lowest block with an adapter: `share` of the way up a decoder, 0 for all blocks; the last at most."""
    return min(round(depth * share), depth - 1)
