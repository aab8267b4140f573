"""Packed examples: many answers to one question in one row, so that the question is computed once for all of them.

A *packed example* is a question followed by branches (answers, with or without the query), all in one row:
`[question][branch 1][branch 2]…`. A branch sees the question and itself, never another branch, and
its positions go on from the question's end. A *packed batch* holds the examples of many questions.
"""

import copy
import itertools
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

import pandas as pd
import torch
from torch import nn

from whoknows import WhoknowsError
from whoknows.data.positions import FIRST, LAST, MEAN, QUERY, QUESTION
from whoknows.data.rows import aligned, every
from whoknows.models.batching import send
from whoknows.models.reader import Reader


@dataclass(frozen=True)
class PackedExample:
    """A question's ids (with BOS) and the ids of each branch that goes on from it."""

    question: list[int]
    branches: tuple[list[int], ...]

    def __len__(self) -> int:
        return len(self.question) + sum(map(len, self.branches))

    @property
    def longest(self) -> int:
        """Tokens of the question and the longest branch."""
        return len(self.question) + max(map(len, self.branches), default=0)

    def texts(self) -> list[list[int]]:
        """The question with each branch."""
        return [self.question + branch for branch in self.branches]

    def offsets(self) -> list[int]:
        """Where each branch begins in the row."""
        return [*itertools.accumulate(map(len, [self.question, *self.branches]))][:-1]

    def ends(self) -> list[int]:
        """Where the last token of each branch stands in the row: that of the query, if it follows the answers."""
        return [at + len(branch) - 1 for at, branch in zip(self.offsets(), self.branches)]


Places = tuple[torch.Tensor, torch.Tensor]  # rows and columns of some tokens of a batch


def places(columns: list[list[int]], on: torch.device) -> Places:
    """The tokens at some columns of each row."""
    at = [(row, column) for row, some in enumerate(columns) for column in some]
    row_of, column_of = send(torch.tensor(at), on).T
    return row_of, column_of


def columns(longest: int) -> int:
    """Columns of a batch whose longest row has so many tokens.

    With a mask of queries and keys, torch's memory-efficient attention on a GPU gives wrong values for the last of
    32 n + 1 tokens (pytorch/pytorch#191937; measured with torch 2.11 on an H100: of 64 n + 1 where heads are not wider
    than 128, in float32 and bfloat16), so a batch is never that wide.
    """
    return longest + (longest % 32 == 1)


def collate(examples: list[PackedExample], reader: Reader) -> dict:
    """Right-padded input of a decoder.

    input_ids and position_ids are [rows, columns], and attention_mask is [rows, 1, columns, columns].

    With b the branch of each column (0 for the question, -1 for padding), the mask is True, and query i may look at
    key j, where j = i, or j < i and b_i >= 0 and (b_j = b_i or b_j = 0), no further back than the blocks' window.
    Padding looks at itself alone, so that no softmax is over nothing. If some blocks have a window, others have none
    and a text is longer than it, there is a mask for each kind, by the name in the model's layer_types. The attention
    of transformers called `eager` adds its mask to the scores, so there True is 0 and False the most negative number.
    """
    wide, on = columns(max(map(len, examples))), reader.device
    ids, positions, branch = send(torch.tensor([_row(example, wide) for example in examples]), on).unbind(1)
    of_key, of_query = branch[:, None, :], branch[:, :, None]
    mask = ((of_key == of_query) | (of_key == 0)) & (of_query >= 0)
    mask = mask.tril() | torch.eye(wide, dtype=torch.bool, device=on)
    mask = _masks(mask[:, None], positions, max(example.longest for example in examples), reader)
    return {"input_ids": ids, "position_ids": positions, "attention_mask": mask}


def _row(example: PackedExample, wide: int) -> tuple[list[int], list[int], list[int]]:
    """Of each column the id, the position and the branch: -1 for padding, 0 for the question, k for the k-th branch."""
    parts, start = [example.question, *example.branches], len(example.question)
    ids = [i for part in parts for i in part]
    positions = [*range(start), *(start + i for part in parts[1:] for i in range(len(part)))]
    branch = [k for k, part in enumerate(parts) for _ in part]
    rest = wide - len(ids)
    return ids + [0] * rest, positions + [0] * rest, branch + [-1] * rest


def _masks(
    mask: torch.Tensor, positions: torch.Tensor, longest: int, reader: Reader
) -> torch.Tensor | dict[str, torch.Tensor]:
    window = getattr(reader.config, "sliding_window", None)
    kinds = getattr(reader.config, "layer_types", None) or ["sliding_attention"]
    if window is None or "sliding_attention" not in kinds or longest <= window:
        return _as_read(mask, reader)
    near = _as_read(mask & (positions[:, None, :, None] - positions[:, None, None, :] < window), reader)
    return {"full_attention": _as_read(mask, reader), "sliding_attention": near} if "full_attention" in kinds else near


def _as_read(mask: torch.Tensor, reader: Reader) -> torch.Tensor:
    if reader.config._attn_implementation != "eager":
        return mask
    kind = reader.model.dtype
    return torch.zeros(mask.shape, dtype=kind, device=mask.device).masked_fill_(~mask, torch.finfo(kind).min)


def upper(reader: Reader, first: int) -> nn.Module:
    """A view of a reader's decoder that runs the blocks from `first` on, sharing all weights.

    Raises:
        LookupError: the decoder does not hold its blocks itself.
    """
    base, layers = reader.base, reader.layers
    name = next((name for name, child in base.named_children() if child is layers), None)
    if name is None:
        raise LookupError(f"{type(base).__name__} does not hold its blocks itself")
    part = copy.copy(base)
    part._modules = base._modules | {name: layers[first:]}
    part.config = copy.copy(base.config)
    part.config.num_hidden_layers = reader.depth - first
    if getattr(base.config, "layer_types", None):
        part.config.layer_types = base.config.layer_types[first:]
    return part


@contextmanager
def only_at(block: nn.Module, rows: torch.Tensor, columns: torch.Tensor):
    """Inside, a block computes its output at these places of a batch alone; elsewhere its output means nothing.

    The projections of queries and of attention's output and the MLP act on each token alone, f(x)[at] = f(x[at]), so
    they are given the n tokens [1, n, width], and their results are scattered into zeros. Keys and values are computed
    everywhere, so the output at these places is exact. Meant for a decoder's last block, of which few places are read.
    A place named twice gets its gradient twice.
    """
    parts = [part for name, part in block.named_modules() if name in ("self_attn.q_proj", "self_attn.o_proj", "mlp")]
    shape: list[torch.Size] = []

    def pick(module: nn.Module, args: tuple) -> tuple:
        shape[:] = [args[0].shape[:2]]
        return (args[0][None, rows, columns],)

    def put(module: nn.Module, args: tuple, out: torch.Tensor | tuple) -> torch.Tensor | tuple:
        if isinstance(out, tuple):  # a mixture of experts also returns its router's logits
            return put(module, args, out[0]), *out[1:]
        return out.new_zeros(*shape[0], out.shape[-1]).index_put((rows, columns), out[0])

    with ExitStack() as hooks:
        for part in parts:
            hooks.enter_context(part.register_forward_pre_hook(pick))
            hooks.enter_context(part.register_forward_hook(put))
        yield


@dataclass(frozen=True)
class PackedBatch:
    """The examples of some questions: one a question, one branch for each different answer."""

    examples: list[PackedExample]
    answer_ends: list[list[int]]  # for each example, where in its row the last token of each branch's answer stands
    branch_of: dict[str, list[int]]  # for each scored model, the branch of each example that is its answer; -1 if none

    @property
    def longest(self) -> int:
        """Tokens of the longest text: a question and one branch."""
        return max(example.longest for example in self.examples)

    @property
    def widest(self) -> int:
        """Tokens of the longest row: a question and all its branches."""
        return max(map(len, self.examples))

    def ends(self, batch: list[int], on: torch.device) -> tuple[Places, dict[str, list[int]]]:
        """Where the branches of some examples end, and for each scored model and example its branch among them all."""
        ends = [self.examples[t].ends() for t in batch]
        first = [0, *itertools.accumulate(map(len, ends))]
        branch_of = {
            model: [at + of[t] if of[t] >= 0 else -1 for at, t in zip(first, batch)]
            for model, of in self.branch_of.items()
        }
        return places(ends, on), branch_of

    def spans(self, index: int, position: str) -> list[range]:
        """Where in an example's row the tokens of a position stand: of each branch, or once at the question's end.

        At the query's end that is where a branch ends, also if no query follows its answer.
        """
        example, last, end = self.examples[index], self.answer_ends[index], self.examples[index].ends()
        before, first = [len(example.question) - 1], example.offsets()
        bounds = {
            QUESTION: (before, before),
            FIRST: (first, first),
            MEAN: (first, last),
            LAST: (last, last),
            QUERY: (end, end),
        }
        return [range(start, stop + 1) for start, stop in zip(*bounds[position])]

    def is_queried(self, index: int) -> bool:
        return self.examples[index].ends() != self.answer_ends[index]

    def answered(self, model: str) -> torch.Tensor:
        """For each example, whether a scored model has an answer."""
        return torch.tensor(self.branch_of[model]) >= 0

    def part(self, chosen: slice) -> "PackedBatch":
        """Some consecutive examples."""
        branch_of = {model: branches[chosen] for model, branches in self.branch_of.items()}
        return PackedBatch(self.examples[chosen], self.answer_ends[chosen], branch_of)


def pack(reader: Reader, answers: dict[str, pd.DataFrame], queried: list[bool]) -> PackedBatch:
    """Token ids of all questions and answers; positions come from ids, never from strings.

    Args:
        answers: for each scored model, its answers, in the order of the questions.
        queried: for each question, whether the query follows its answers.

    Raises:
        WhoknowsError: the frames do not hold the same questions, or a text is longer than the reader sees.
    """
    asked = every(answers)
    texts = [frame["answer"].reindex(range(len(asked))) for frame in aligned(answers).values()]
    start, query = reader.start(), reader.query
    examples, ends = [], []
    branch_of: dict[str, list[int]] = {model: [] for model in answers}
    texts_of = list(zip(*texts))  # for each question, each model's answer, and NaN where it has none
    # Models that agree share a branch.
    different = [list(dict.fromkeys(text for text in texts if isinstance(text, str))) for texts in texts_of]
    written = iter(reader.answers([text for texts in different for text in texts]))
    questions = asked["question"].tolist()
    for t, (question, ids) in enumerate(zip(questions, reader.questions(questions))):
        branches = [next(written) for _ in different[t]]
        example = PackedExample(start + ids, tuple(branch + query if queried[t] else branch for branch in branches))
        if example.longest > reader.limit:
            raise WhoknowsError(
                f"the question {question[:40]!r} and an answer make {example.longest} tokens, more than the "
                f"{reader.limit} that the reader sees at once; leave its task out of the grid, or shorten the answer "
                "in its file"
            )
        examples.append(example)
        ends.append([at + len(branch) - 1 for at, branch in zip(example.offsets(), branches)])
        for model, text in zip(answers, texts_of[t]):
            branch_of[model].append(different[t].index(text) if isinstance(text, str) else -1)
    return PackedBatch(examples, ends, branch_of)
