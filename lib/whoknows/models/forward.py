"""Features: a frozen reader's hidden states at, over and before an answer's tokens, and its zero-shot confidence.

One forward pass over a question and all models' answers to it gives the hidden states of every layer,
the zero-shot confidence P(True), and the residual stream from which LoRA + Prompt goes on.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from itertools import accumulate, chain

import torch

from whoknows import WhoknowsError
from whoknows.models import decoding, proof
from whoknows.models.batching import TokenBudget, fetch
from whoknows.models.decoding import Places
from whoknows.models.loading import Reader, send
from whoknows.models.packing import PackedBatch


@dataclass
class Features:
    """The result of `extract`.

    Attributes:
        hidden: for each scored model [questions, layers + 1, width], bfloat16, at the answer's last token; HF index,
            0 = embeddings, last = after the final norm; NaN where it has no answer.
        mean: the same, as means over the tokens of each answer.
        before: the same at the last token of each question, after which the answers begin.
        zero_shot: for each scored model [questions] float32 log-odds of yes; NaN where the query was not put, too.
        cached: [tokens of all queried examples, width], residual stream before block `first_block`; both None if not
            asked for.
    """

    hidden: dict[str, torch.Tensor]
    mean: dict[str, torch.Tensor]
    before: torch.Tensor
    zero_shot: dict[str, torch.Tensor]
    cached: torch.Tensor | None
    first_block: int | None


@torch.inference_mode()
def extract(
    reader: Reader,
    packed: PackedBatch,
    first_block: int | None,
    budget: TokenBudget,
    done: Callable[[int], object] = lambda tokens: None,
) -> Features:
    """Run the frozen reader once over a batch.

    All results stay on the reader's device until the last batch, so that no batch waits for a transfer.

    Args:
        first_block: block whose input is kept for every token of the queried examples; None, or the plain way, keeps
            nothing.
        budget: rows times columns of one forward pass.
        done: called with the number of tokens after each batch.

    Returns:
        The features, on the CPU.

    Raises:
        WhoknowsError: a hidden state is not a finite number, or a text does not fit into memory.
    """
    is_fast, lengths = proof.packing(reader, packed.longest), [len(example) for example in packed.examples]
    decode, first_block = (decoding.together, first_block) if is_fast else (decoding.alone, None)
    # Where each example begins in the cached activations.
    starts = [0, *accumulate(length if packed.is_queried(t) else 0 for t, length in enumerate(lengths))]
    features = _empty(reader, packed, first_block, starts[-1])
    for batch, (bad, branch_of) in budget.run(partial(_read, reader, decode, packed, features, starts), lengths):
        _refuse(reader, packed, batch, bad, branch_of)
        done(sum(lengths[t] for t in batch))
    return Features(
        hidden={model: fetch(states) for model, states in features.hidden.items()},
        mean={model: fetch(states) for model, states in features.mean.items()},
        before=fetch(features.before),
        zero_shot={model: logits.cpu() for model, logits in features.zero_shot.items()},
        cached=None if features.cached is None else fetch(features.cached),
        first_block=first_block,
    )


def _empty(reader: Reader, packed: PackedBatch, first_block: int | None, cached_tokens: int) -> Features:
    """Features to be filled in, on the reader's device."""
    count, width, on = len(packed.examples), reader.config.hidden_size, reader.device
    empty = partial(torch.full, (count, reader.depth + 1, width), torch.nan, dtype=torch.bfloat16, device=on)
    return Features(
        hidden={model: empty() for model in packed.branch_of},
        mean={model: empty() for model in packed.branch_of},
        before=empty(),
        zero_shot={model: torch.full((count,), torch.nan, device=on) for model in packed.branch_of},
        cached=None if first_block is None else torch.empty(cached_tokens, width, dtype=reader.head.dtype, device=on),
        first_block=first_block,
    )


def _wanted(packed: PackedBatch, batch: list[int], on: torch.device) -> tuple[Places, list[int], dict[str, list[int]]]:
    """Tokens whose hidden states are wanted: each answer's last one, all of each answer, and each question's last one.

    Returns:
        (rows and columns, how many of them make one mean, and for each scored model its branches).
    """
    spans = [packed.answer_spans(t) for t in batch]
    ends, branch_of = packed.places(batch, [packed.answer_ends[t] for t in batch], on)
    every, _ = packed.places(batch, [list(chain(*example)) for example in spans], on)
    before, _ = packed.places(batch, [[len(packed.examples[t].question) - 1] for t in batch], on)
    sizes = [*[1] * len(ends[0]), *map(len, chain(*spans)), *[1] * len(batch)]
    rows, columns = map(torch.cat, zip(ends, every, before))
    return (rows, columns), sizes, branch_of


def _read(
    reader: Reader, decode, packed: PackedBatch, features: Features, starts: list[int], batch: list[int]
) -> tuple[torch.Tensor, dict[str, list[int]]]:
    """Fills in the features of a batch.

    Args:
        decode: `decoding.together` or `decoding.alone`.

    Returns:
        (which means over answers and then states of questions, [branches + questions, layers + 1], are NaN or infinite,
        and for each scored model its branches).
    """
    at, sizes, branch_of = _wanted(packed, batch, reader.device)
    ends, _ = packed.places(batch, [packed.query_ends(t) for t in batch], reader.device)
    states, last, cached = decode(reader, [packed.examples[t] for t in batch], at, sizes, ends, features.first_block)
    states, logits, count = states.to(torch.bfloat16), p_true_logit(reader, last), len(ends[0])
    of_batch = torch.tensor([batch, [packed.is_queried(t) for t in batch]])
    features.before[send(of_batch[0], reader.device)] = states[2 * count :]
    for model, branches in branch_of.items():
        # What a model has no answer to is left out on the CPU, so that no batch waits for the device.
        known = torch.cat([of_batch, torch.tensor([branches])])[:, torch.tensor(branches) >= 0]
        rows, asked, at = send(known, reader.device)
        features.hidden[model][rows], features.mean[model][rows] = states[at], states[count + at]
        features.zero_shot[model][rows] = logits[at].where(asked.bool(), torch.nan)
    if features.cached is not None:
        for row, t in enumerate(batch):
            features.cached[starts[t] : starts[t + 1]] = cached[row, : starts[t + 1] - starts[t]]
    # Not states[:count]: NaN or infinity at an answer's last token makes its mean NaN or infinite.
    return ~torch.isfinite(states[count:]).all(dim=-1), branch_of


def p_true_logit(reader: Reader, hidden: torch.Tensor) -> torch.Tensor:
    """Log-odds of yes from [n, width] outputs of the final norm.

    With softmax over the two choice tokens alone, log(p(yes) / p(no)) = logit(yes) - logit(no).
    """
    logits = reader.logits(hidden, reader.choices).float()
    return logits[:, 1] - logits[:, 0]


def _refuse(
    reader: Reader, packed: PackedBatch, batch: list[int], bad: torch.Tensor, branch_of: dict[str, list[int]]
) -> None:
    """Raises if a hidden state of the batch is NaN or infinite; says which one."""
    if not bad.any():
        return
    row, layer = (int(i) for i in bad.nonzero()[0])
    whose = [
        (f"the answer of {model} to ", t)
        for model, branches in branch_of.items()
        for t, branch in zip(batch, branches)
        if branch == row
    ]
    where, t = (whose or [("", batch[row - len(bad)])])[0]
    text = reader.tokenizer.decode(packed.examples[t].question, skip_special_tokens=True)
    raise WhoknowsError(
        f"extract: a hidden state of layer {layer} at {where}{text[:60]!r} is NaN or infinite; "
        "set precision: float32 in the grid"
    )
