"""Features: a frozen reader's hidden states at some positions of a question and its answers, and its P(True).

One forward pass over a question and all models' answers to it gives the hidden states of every layer,
the zero-shot confidence P(True), and the residual stream from which LoRA + Prompt goes on.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from itertools import accumulate

import torch

from whoknows import WhoknowsError
from whoknows.data.positions import QUERY, QUESTION, stem, stems
from whoknows.models import decoding, proof
from whoknows.models.batching import TokenBudget, fetch, send
from whoknows.models.packing import PackedBatch
from whoknows.models.reader import Reader


@dataclass
class Features:
    """The result of `extract`; NaN where a model has no answer, or where the query was not put."""

    # By `positions.stem` of a scored model and a position [questions, layers + 1, width], bfloat16; HF index,
    # 0 = embeddings, last = after the final norm.
    states: dict[str, torch.Tensor]
    zero_shot: dict[str, torch.Tensor]  # for each scored model [questions] float32 log-odds of yes
    cached: torch.Tensor | None  # [tokens of all queried examples, width], residual stream before block `first_block`


@torch.inference_mode()
def extract(
    reader: Reader,
    packed: PackedBatch,
    positions: Iterable[str],
    first_block: int | None,
    budget: TokenBudget,
    done: Callable[[int], object] = lambda tokens: None,
) -> Features:
    """Run the frozen reader once over a batch.

    Results stay on its device until the last batch, so that no batch waits for a transfer, and then come to the CPU.

    Args:
        positions: those of `data.positions` that are wanted, one of them of answers.
        first_block: block whose input is kept for every token of the queried examples; None, or the plain way, keeps
            nothing.
        budget: rows times columns of one forward pass.
        done: called with the number of tokens after each batch.

    Raises:
        WhoknowsError: a hidden state is not a finite number, or a text does not fit into memory.
    """
    positions = sorted(positions, key=QUESTION.__eq__)  # that one last, since not every branch has it
    lengths = [len(example) for example in packed.examples]
    decode: Callable = partial(decoding.together, first_block=first_block)
    if not proof.packing(reader, packed.longest, packed.widest):
        decode, first_block = decoding.alone, None
    # Where each example begins in the cached activations.
    starts = [0, *accumulate(length if packed.is_queried(t) else 0 for t, length in enumerate(lengths))]
    count, width, on = len(packed.examples), reader.config.hidden_size, reader.device
    empty = partial(torch.full, (count, reader.depth + 1, width), torch.nan, dtype=torch.bfloat16, device=on)
    features = Features(
        states={name: empty() for name in stems(packed.branch_of, positions)},
        zero_shot={model: torch.full((count,), torch.nan, device=on) for model in packed.branch_of},
        cached=None if first_block is None else torch.empty(starts[-1], width, dtype=reader.head.dtype, device=on),
    )
    work = partial(_read, reader, decode, packed, positions, features, starts)
    for batch, (bad, branch_of) in budget.run(work, lengths):
        _refuse(reader, packed, batch, bad, branch_of)
        done(sum(lengths[t] for t in batch))
    return Features(
        states={name: fetch(states) for name, states in features.states.items()},
        zero_shot={model: logits.cpu() for model, logits in features.zero_shot.items()},
        cached=None if features.cached is None else fetch(features.cached),
    )


def _read(
    reader: Reader,
    decode,
    packed: PackedBatch,
    positions: list[str],
    features: Features,
    starts: list[int],
    batch: list[int],
) -> tuple[torch.Tensor, dict[str, list[int]]]:
    """Fills in the features of a batch; of the positions the question's end, if it is one of them, comes last.

    Returns:
        (which branches and then questions, [branches + questions, layers + 1], have a state that is NaN or infinite,
        and for each scored model its branches).
    """
    spans = [(row, span) for position in positions for row, t in enumerate(batch) for span in packed.spans(t, position)]
    rows, columns = send(torch.tensor([(row, column) for row, span in spans for column in span]), reader.device).T
    sizes = [len(span) for _, span in spans]
    ends, branch_of = packed.ends(batch, reader.device)
    examples = [packed.examples[t] for t in batch]
    states, last, cached = decode(reader, examples, (rows, columns), sizes, ends)
    states, logits, count = states.to(torch.bfloat16), p_true_logit(reader, last), len(ends[0])
    of_answers = [position for position in positions if position != QUESTION]
    answers, questions = states.split([count * len(of_answers), len(states) - count * len(of_answers)])
    answers = answers.unflatten(0, (len(of_answers), count))
    if QUESTION in positions:
        features.states[stem("", QUESTION)][send(torch.tensor(batch), reader.device)] = questions
    _put_answers(features, packed, batch, dict(zip(of_answers, answers)), logits, branch_of)
    if features.cached is not None:
        for row, t in enumerate(batch):
            features.cached[starts[t] : starts[t + 1]] = cached[row, : starts[t + 1] - starts[t]]
    bad = [~torch.isfinite(some).all(dim=-1) for some in (answers, questions)]
    return torch.cat([bad[0].any(dim=0), bad[1]]), branch_of


def _put_answers(
    features: Features, packed: PackedBatch, batch: list[int], states: dict[str, torch.Tensor], logits: torch.Tensor,
    branch_of: dict[str, list[int]],
) -> None:  # fmt: skip
    """Fills in what a batch has of answers: hidden states of the branches, by position, and their log-odds of yes."""
    of_batch = torch.tensor([batch, [packed.is_queried(t) for t in batch]])
    for model, branches in branch_of.items():
        # What a model has no answer to is left out on the CPU, so that no batch waits for the device.
        known = torch.cat([of_batch, torch.tensor([branches])])[:, torch.tensor(branches) >= 0]
        rows, asked, at = send(known, logits.device)
        for position, some in states.items():
            there = some[at]
            if position == QUERY:
                there = there.where(asked.bool()[:, None, None], torch.nan)
            features.states[stem(model, position)][rows] = there
        features.zero_shot[model][rows] = logits[at].where(asked.bool(), torch.nan)


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
