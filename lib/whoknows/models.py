"""Models: loading them, turning text into ids, and running many answers of one question in one row.

A *tree* is a question followed by branches (answers, with or without the query), all in one row:
`[question][branch 1][branch 2]…`. A branch sees the question and itself, never another branch, and
its positions go on from the question's end. So the question is computed once for all its answers.
"""

import copy
from dataclasses import dataclass

import torch
from torch import nn
from transformers import AutoModelForCausalLM, AutoTokenizer
from transformers.utils import logging as transformers_logging

from whoknows import WhoknowsError, assets

QUERY = "\n\nIs the proposed answer correct?\nChoices:\n(i): no\n(ii): yes\nAnswer:"
NO, YES = " i", " ii"  # as the two tokens stand after "Answer:"
ANCHOR = "a"  # no tokenizer merges a letter with the space or line end behind it


def device() -> torch.device:
    """The GPU if there is one, else the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def dtype(precision: str) -> torch.dtype:
    """The number format of weights and activations; `auto` is bfloat16 where the hardware multiplies it natively."""
    if precision != "auto":
        return getattr(torch, precision)
    native = torch.cuda.is_available() or torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    return torch.bfloat16 if native else torch.float32


@dataclass
class Reader:
    """A causal language model and its tokenizer."""

    model: nn.Module
    tokenizer: object

    @property
    def base(self) -> nn.Module:
        """The stack of blocks with embeddings and final norm, without the output head."""
        return self.model.get_base_model().model if hasattr(self.model, "peft_config") else self.model.model

    @property
    def head(self) -> torch.Tensor:
        """[vocabulary, width] weight of the output head."""
        return self.model.get_output_embeddings().weight

    @property
    def depth(self) -> int:
        return self.model.config.num_hidden_layers

    @property
    def device(self) -> torch.device:
        return self.head.device

    def start(self) -> list[int]:
        """What every text begins with: the BOS token where the tokenizer has one of its own, else nothing."""
        ids = self.tokenizer(ANCHOR).input_ids
        return ids[:1] if ids[0] == self.tokenizer.bos_token_id else []

    def encode(self, text: str) -> list[int]:
        """Ids of a piece of text as it stands in the middle of a longer one: no BOS, no made-up leading space.

        Raises:
            WhoknowsError: the tokenizer merges the text with what stands before it.
        """
        before = self.tokenizer(ANCHOR, add_special_tokens=False).input_ids
        ids = self.tokenizer(ANCHOR + text, add_special_tokens=False).input_ids
        if ids[: len(before)] != before:
            raise WhoknowsError(f"the tokenizer of {self.tokenizer.name_or_path} does not keep {text[:20]!r} apart from the text before it")
        return ids[len(before) :]

    def question(self, text: str) -> list[int]:
        """Ids of `Question: …\\nAnswer:` without BOS."""
        return self.encode(f"Question: {text}\nAnswer:")

    def answer(self, text: str) -> list[int]:
        """Ids of an answer with the space that follows `Answer:`; an empty answer is that space alone."""
        return self.encode(f" {text}")

    def choices(self) -> tuple[int, int]:
        """Ids of the tokens for no and yes as they stand after the query.

        Raises:
            WhoknowsError: one of them is not a single token, so the two cannot be compared.
        """
        no, yes = self.encode(NO), self.encode(YES)
        if len(no) != 1 or len(yes) != 1 or no == yes:
            raise WhoknowsError(
                f"the tokenizer of {self.tokenizer.name_or_path} splits {NO!r} or {YES!r} into {no} and {yes}: "
                "lora_prompt and zero_shot need two single tokens; use another model as reader"
            )
        return no[0], yes[0]


def load(source: str, precision: str) -> Reader:
    """A frozen model in evaluation mode, with its fast tokenizer.

    Args:
        source: name of an asset, a local folder, or a name on the Hugging Face hub.
        precision: `auto`, `float32` or `bfloat16`.

    Raises:
        WhoknowsError: the source is unknown or cannot be read.
    """
    path = assets.resolve(source)
    transformers_logging.disable_progress_bar()
    try:
        tokenizer = AutoTokenizer.from_pretrained(path)
        model = AutoModelForCausalLM.from_pretrained(path, dtype=dtype(precision), attn_implementation="sdpa")
    except OSError as error:
        raise WhoknowsError(f"models: the source {source!r} could not be loaded: {str(error).splitlines()[0]}") from error
    return Reader(model.to(device()).eval().requires_grad_(False), tokenizer)


@dataclass(frozen=True)
class Tree:
    """A question's ids (with BOS) and the ids of each branch that goes on from it."""

    question: list[int]
    branches: tuple[list[int], ...]

    def __len__(self) -> int:
        return len(self.question) + sum(map(len, self.branches))

    def offsets(self) -> list[int]:
        """Where each branch begins in the row."""
        ends = [len(self.question)]
        for branch in self.branches:
            ends.append(ends[-1] + len(branch))
        return ends[:-1]


def collate(trees: list[Tree], on: torch.device) -> dict[str, torch.Tensor]:
    """Right-padded input of a decoder: input_ids and position_ids [rows, columns], attention_mask [rows, 1, columns, columns].

    The mask is True where a token may look: backwards, at its question or its own branch. Padding
    looks at itself alone, so that no softmax is over nothing.
    """
    columns = max(map(len, trees))
    ids, positions = torch.zeros(2, len(trees), columns, dtype=torch.long)
    branch = torch.full((len(trees), columns), -1)  # -1 padding, 0 question, k the k-th branch
    for row, tree in enumerate(trees):
        for k, (at, part) in enumerate(zip([0, *tree.offsets()], [tree.question, *tree.branches])):
            here = slice(at, at + len(part))
            ids[row, here] = torch.tensor(part, dtype=torch.long)
            branch[row, here] = k
            begin = len(tree.question) if k else 0
            positions[row, here] = torch.arange(begin, begin + len(part))
    seen, seeing = branch[:, None, :], branch[:, :, None]
    mask = ((seen == seeing) | (seen == 0)) & (seeing >= 0)
    mask = mask.tril() | torch.eye(columns, dtype=torch.bool)
    return {"input_ids": ids.to(on), "position_ids": positions.to(on), "attention_mask": mask[:, None].to(on)}


def batches(lengths: list[int], batch_tokens: int) -> list[list[int]]:
    """Indices in order of length, cut so that rows times the longest row stays within the token budget."""
    found: list[list[int]] = []
    for index in sorted(range(len(lengths)), key=lambda i: (-lengths[i], i)):
        if not found or (len(found[-1]) + 1) * lengths[found[-1][0]] > batch_tokens:
            found.append([])
        found[-1].append(index)
    return found


def blocks(base: nn.Module, first: int, last: int) -> nn.Module:
    """A view of a decoder that runs blocks first … last-1 alone, sharing all weights; the final norm belongs to the last."""
    part = copy.copy(base)
    part._modules = dict(base._modules)
    part._modules["layers"] = nn.ModuleList(base.layers[first:last])
    part.config = copy.copy(base.config)
    part.config.num_hidden_layers = last - first
    if getattr(base.config, "layer_types", None):
        part.config.layer_types = base.config.layer_types[first:last]
    if last < len(base.layers):
        part._modules["norm"] = nn.Identity()
    return part
