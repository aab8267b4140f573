"""Proof: before a fast way is used with a model, some short texts take it and the plain way, and both must agree.

No list of architectures decides which models the fast ways suit: there is a new one every week. The weights themselves
are tried. Compared is what the results rest on: hidden states of every layer, next-token logits, a greedy continuation
with its log-probabilities, the log-odds of yes of adapters that are not zero, and their gradients. A way that differs,
or fails, is not taken: the texts go the plain way, which is right and slower, and a warning gives the reason. The
outcome is kept, in the cache, for these weights, this code and these versions; that memory ran out says nothing of
them, and is not kept.
"""

import hashlib
import json
import os
import re
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from importlib.metadata import version
from itertools import chain
from pathlib import Path

import pandas as pd
import torch
from torch import nn

from whoknows import WhoknowsError
from whoknows.data import cache, files, sources
from whoknows.models.decoding import alone, final, hidden_states, last_hidden_state, together
from whoknows.models.generation import Prefix, prefix_ids
from whoknows.models.packing import PackedExample, Places, places
from whoknows.models.reader import Reader

# Largest difference that rounding explains, as a share of what is compared: the two ways add in different orders in
# each block. Where it fits into memory a proof is made in float32, so that no difference hides in the rounding.
TOLERANCE = {torch.float32: 3e-4, torch.bfloat16: 0.15, torch.float16: 0.03}
# Keys of a configuration at whose value in tokens something changes.
SEAM = re.compile("window|chunk|original_max|block_size|topk|local_att")
SHOTS = pd.DataFrame(
    {"question": ["What is the opposite of hot?", "Which animal barks?"], "gold": [["cold"], ["the dog"]]}
)
ASKED = ("Which one of these is the name of a town: bread, Rome or winter?", "Who wrote it?")
ANSWERS = ("Rome", "I do not know who that was")
NEW = 5  # tokens of a continuation
# Lengths in tokens at which a model may change how it reads: those that a text crosses, and those that only a row does.
Seams = tuple[list[int], list[int]]
# What differs, by the file for it: in this process nothing is tried twice, since a proof changes weights that threads
# share, and not every outcome is written.
OUTCOMES: dict[Path, str | None] = {}


class Differs(Exception):
    """The fast way does not give what the plain way gives; the message names what differs."""


def packing(reader: Reader, longest: int, widest: int = 0) -> bool:
    """Whether answers to one question may be read in one row; see `decoding.together`.

    If a model changes how it reads at some length below that of the longest text, in tokens, as with a sliding window,
    texts beyond it are compared too; and rows beyond it, if it is below that of the widest row, as with attention that
    chooses blocks of a row.

    Raises:
        WhoknowsError: the model cannot be read the plain way either.
    """
    return _holds(reader, "several answers in one row", (longest, widest), partial(_read, reader))


def cached(reader: Reader, first: int, longest: int, widest: int = 0) -> bool:
    """Whether the blocks from `first` on may go on from the cached activations; see `decoding.final`."""
    what, sizes = "blocks below the adapters once for all", (longest, widest)
    return packing(reader, *sizes) and _holds(reader, what, sizes, partial(_go_on, reader, first), first)


def prefix(reader: Reader, longest: int) -> bool:
    """Whether all questions may share one copy of their examples; see `generation.Prefix`."""
    return _holds(reader, "few-shot examples once for all", (longest, 0), partial(_write, reader))


def adapters(estimator, longest: int, widest: int = 0) -> bool:
    """Whether a `LoraPrompt` may train on and score several texts at once; its adapters are as before afterwards."""
    shape = {key: estimator.settings[key] for key in ("first_layer", "targets", "r", "alpha")}
    shape["query"] = estimator.classifier is None
    what = "training on several texts at once"
    return _holds(estimator.reader, what, (longest, widest), partial(_train, estimator), shape)


def _holds(reader: Reader, what: str, sizes: tuple[int, int], compare: Callable[[Seams], None], *depends) -> bool:
    """Whether a comparison finds no difference; warns if it does.

    Args:
        sizes: tokens of the longest text and of the widest row.
        compare: takes the lengths, in tokens, at which the model may change how it reads, of texts and of rows alone.
        depends: what the outcome depends on, besides the model and these lengths.
    """
    longest, widest = sizes
    lengths = sorted(set(_lengths(reader.config.to_dict())))
    seams = (
        [value for value in lengths if 0 < value < longest],
        [value for value in lengths if longest <= value < widest],
    )
    model = [reader.identity, reader.model.config.to_json_string(), reader.config._attn_implementation]
    path = _remembered([what, *model, reader.device.type, seams, *depends])
    if path not in OUTCOMES:
        OUTCOMES[path] = _outcome(path, partial(_difference, reader, partial(compare, seams)))
    if reason := OUTCOMES[path]:
        warnings.warn(
            f"{reader.model.config._name_or_path}: not {what}, since {reason}; "
            "each text takes the plain way, which is right and slower",
            stacklevel=3,
        )
    return not reason


def _outcome(path: Path, find: Callable[[], tuple[str | None, bool]]) -> str | None:
    """What differs, from the file if it is there; what `find` says is written there if it is lasting."""
    if path.exists():
        return json.loads(path.read_text(encoding="utf-8"))["differs"]
    reason, is_lasting = find()
    if is_lasting:
        with suppress(OSError, WhoknowsError):  # if the cache cannot be written, the next process proves it again
            files.write_text(path, json.dumps({"differs": reason}))
    return reason


def _remembered(what: list) -> Path:
    """The file for an outcome, of this code and these versions."""
    key = json.dumps([*what, *map(version, ("torch", "transformers", "peft")), sources.digest(__file__)], default=str)
    return cache.root() / "proofs" / f"{hashlib.sha256(key.encode()).hexdigest()[:32]}.json"


def _difference(reader: Reader, compare: Callable[[], None]) -> tuple[str | None, bool]:
    """What differs, or fails, the fast way; and whether it would again."""
    try:
        with torch.inference_mode(False), _in_float32(reader):
            compare()
    except WhoknowsError:
        raise
    except Differs as error:
        return str(error), True
    except Exception as error:  # whatever a model's code makes of what it does not expect
        if _passes(error):
            return f"this could not be tried now ({_sentence(error)})", False
        return f"its code refuses that ({_sentence(error)})", True
    return None, True


def _passes(error: Exception) -> bool:
    """Whether the machine failed and not the model's code, as where another process holds the memory."""
    if isinstance(error, (OSError, MemoryError, torch.OutOfMemoryError)):
        return True
    return isinstance(error, RuntimeError) and bool(re.search("allocat|alloc_failed|out of memory", str(error), re.I))


def _sentence(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())[:120]}"


@contextmanager
def _in_float32(reader: Reader) -> Iterator[None]:
    """Inside, the weights are float32, with the same values, unless they are quantised or would not fit into memory."""
    tensors = chain(reader.model.parameters(), reader.model.buffers())
    halves = [tensor for tensor in tensors if tensor.dtype in (torch.bfloat16, torch.float16)]
    free = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    if reader.device.type == "cuda":
        free = torch.cuda.mem_get_info(reader.device)[0]
    if getattr(reader.model, "is_quantized", False) or 5 * sum(tensor.numel() for tensor in halves) > free:
        halves = []
    kinds = [tensor.dtype for tensor in halves]
    try:
        for tensor in halves:
            tensor.data = tensor.data.float()
        yield
    finally:
        # Not the data from before: a model's first pass may scale its weights, once for all, as RWKV's does.
        for tensor, kind in zip(halves, kinds):
            tensor.data = tensor.data.to(kind)


def _lengths(config: dict) -> list[int]:
    here = [value for key, value in config.items() if SEAM.search(str(key)) and type(value) is int]
    return here + list(chain(*(_lengths(value) for value in config.values() if isinstance(value, dict))))


def _sample(reader: Reader, seams: Seams) -> list[PackedExample]:
    """Questions of different lengths with two answers each, first without and then with the query.

    Seams of texts are crossed after a long question, and those of rows alone by two long answers.
    """
    (long, short), answers = reader.questions(list(ASKED)), reader.answers(list(ANSWERS))
    before = max(map(len, answers)) + len(reader.start()) + 1
    asked = [(question, answers) for question in (short, long)]
    asked += [(_repeated(long, max(1, seam - before)), answers) for seam in seams[0]]
    asked += [(short, [_repeated(answer, seam // 2 + 1) for answer in answers]) for seam in seams[1]]
    return [
        PackedExample(reader.start() + question, tuple(answer + query for answer in answers))
        for question, answers in asked
        for query in ([], reader.query)
    ]


def _repeated(ids: list[int], size: int) -> list[int]:
    """So many tokens: the same ones again and again."""
    return (ids * (size // len(ids) + 1))[:size]


def _ends(reader: Reader, sample: list[PackedExample]) -> Places:
    return places([example.ends() for example in sample], reader.device)


@torch.inference_mode()
def _read(reader: Reader, seams: Seams) -> None:
    sample = _sample(reader, seams)
    rows, columns = places([[*range(len(example))] for example in sample], reader.device)
    ends = _ends(reader, sample)
    texts = [torch.tensor([text], device=reader.device) for example in sample for text in example.texts()]
    plain, last, _ = _plainly(reader, partial(alone, reader, sample, (rows, columns), [1] * len(rows), ends))
    if not torch.isfinite(plain).all():
        return  # there is nothing to compare, and the stage's error names the place
    _refuse_looking_ahead(reader, sample)
    logits = torch.stack([reader.model(input_ids=text, use_cache=False).logits[0, -1] for text in texts])
    try:
        _same("next-token logits", reader.logits(last), logits)
        _same("the logits of the two choices", reader.logits(last, reader.choices), logits[:, list(reader.choices)])
    except Differs as error:
        raise WhoknowsError(
            f"models: {reader.model.config._name_or_path} cannot be read by its parts: {error}; "
            "use another model as reader"
        ) from None
    every, _, _ = together(reader, sample, (rows, columns), [1] * len(rows), ends)
    _same("hidden states", every, plain)
    # The first and the last token of each question and branch alone, as where few places are wanted.
    edges = [{at + side for at in (*e.offsets(), len(e)) for side in (-1, 0)} for e in sample]
    is_chosen = [column in edges[row] for row, column in zip(rows.tolist(), columns.tolist())]
    chosen = torch.tensor(is_chosen, device=reader.device).nonzero()[:, 0]
    few, final_few, _ = together(reader, sample, (rows[chosen], columns[chosen]), [1] * len(chosen), ends)
    _same("hidden states", few, plain[chosen])
    _same("final hidden states", final_few, last)


def _refuse_looking_ahead(reader: Reader, sample: list[PackedExample]) -> None:
    """Raises if what comes after a text changes its hidden states, as where positions are scaled by a text's length."""
    last = last_hidden_state(reader, sample)
    if not torch.isfinite(last).all():
        return  # there is nothing to compare
    for row, (short, long) in enumerate(zip(sample[::2], sample[1::2])):
        here = slice(len(short.question) + len(short.branches[0]))
        try:
            _same("hidden states", last[2 * row + 1, here], last[2 * row, here])
        except Differs:
            size = len(long.question) + len(long.branches[0])
            raise WhoknowsError(
                f"models: {reader.model.config._name_or_path} reads a text of {size} tokens otherwise than its "
                "beginning alone, so no answer has hidden states of its own; "
                "leave tasks with texts so long out of the grid, or use another model"
            ) from None


def _plainly(reader: Reader, work: Callable, what: str = "used"):
    """What the plain way gives; there is no other if the model's code refuses it."""
    try:
        return work()
    except WhoknowsError:
        raise
    except Exception as error:
        if _passes(error):
            raise
        raise WhoknowsError(
            f"models: {reader.model.config._name_or_path} cannot be {what}, not even text by text "
            f"({_sentence(error)}); use another model"
        ) from None


@torch.inference_mode()
def _go_on(reader: Reader, first: int, seams: Seams) -> None:
    sample = _sample(reader, seams)
    *states, last = hidden_states(reader, sample)
    stream = [states[first][row, : len(example)] for row, example in enumerate(sample)]
    ends = _ends(reader, sample)
    _same("final hidden states", final(reader, sample, first, stream, ends)[ends], last[ends])


@torch.inference_mode()
def _write(reader: Reader, seams: Seams) -> None:
    sample = _sample(reader, seams)
    _plainly(reader, partial(hidden_states, reader, sample[:1]))  # refused here, before there are answers to read
    _plainly(reader, partial(_refuse_looking_ahead, reader, sample))
    asked, each = reader.questions(list(ASKED), after_examples=True), len(prefix_ids(reader, SHOTS))
    # On both sides of each seam.
    for times in sorted({1, *(times for seam in seams[0] for times in (max(1, seam // each), seam // each + 1))}):
        shots = pd.concat([SHOTS] * times, ignore_index=True)
        plain = _plainly(reader, lambda: Prefix(reader, shots, is_alone=True).write(asked, NEW))
        for fast, slow in zip(Prefix(reader, shots).write(asked, NEW), plain):
            for token, measure, other, expected in zip(*fast, *slow):
                _same("log-probabilities of an answer", torch.tensor(measure), torch.tensor(expected), absolute=True)
                if token != other:  # as likely as each other, or their measures would differ
                    break


def _train(estimator, seams: Seams) -> None:
    from whoknows.models import products  # not above: PEFT takes a fifth of the start of what trains nothing

    reader, weights = estimator.reader, estimator.weights
    sample = _sample(reader, seams)
    ends = _ends(reader, sample)
    before, random = [weight.detach().clone() for weight in weights], torch.Generator().manual_seed(0)
    reader.model.eval()
    try:
        with torch.no_grad():
            for weight in weights:
                weight.add_((torch.randn(weight.shape, generator=random) * 0.02).to(weight))
        with products.removed(reader.model):
            slow = partial(_score, estimator, ends, lambda: last_hidden_state(reader, sample))
            plain = _plainly(reader, slow, "trained with these lora_prompt.targets")
            _refuse_two_functions(estimator, sample, ends, plain[0])
            starts = [None, _cached(estimator, sample)] if estimator.first else [None]
        for start in starts:
            fast = _score(estimator, ends, lambda: final(reader, sample, estimator.first, start, ends))
            for what, one, other in zip(("log-odds of yes", "gradients"), fast, plain):
                _same(what, one, other, absolute=what != "gradients")
    finally:
        with torch.no_grad():
            for weight, kept in zip(weights, before):
                weight.copy_(kept)


def _refuse_two_functions(estimator, sample: list[PackedExample], ends: Places, scored: torch.Tensor) -> None:
    """Raises if a model in training, but for dropout, gives other log-odds than those that are scored.

    RWKV scales its weights, and not the adapters' with them, in evaluation alone.
    """
    reader = estimator.reader
    reader.model.train()
    for module in reader.model.modules():
        if isinstance(module, nn.Dropout):
            module.eval()
    with torch.no_grad(), torch.random.fork_rng():
        trained, again = (estimator._logit(last_hidden_state(reader, sample)[ends]) for _ in range(2))
    reader.model.eval()
    if not torch.allclose(trained, again, atol=1e-3):
        return  # the model's own code drops some at random: nothing can be compared
    try:
        # Where the head is not float32, the matrices are quantised, and may be multiplied otherwise in training.
        _same("log-odds of yes", trained.to(reader.head.dtype), scored, absolute=True)
    except Differs as error:
        raise WhoknowsError(
            f"lora_prompt: {reader.model.config._name_or_path} cannot be trained: in training it is another function "
            f"than afterwards ({error}); use another model as reader"
        ) from None


def _score(estimator, ends: Places, decode: Callable[[], torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
    """Log-odds [branches], and the gradient [1, weights] of their sum with respect to all weights."""
    logit = estimator._logit(decode()[ends])
    gradients = torch.autograd.grad(logit.sum(), estimator.weights, materialize_grads=True)
    return logit.detach(), torch.cat([gradient.flatten().float() for gradient in gradients])[None]


def _cached(estimator, sample: list[PackedExample]) -> list[torch.Tensor]:
    """The residual stream [tokens, width] of each example below the adapters."""
    with torch.no_grad():
        states = hidden_states(estimator.reader, sample)[estimator.first]
    return [states[row, : len(example)] for row, example in enumerate(sample)]


def _same(what: str, fast: torch.Tensor, plain: torch.Tensor, absolute: bool = False) -> None:
    """Raises if tensors [..., width] differ by more than rounding.

    Of vectors the difference is |fast - plain| / |plain|; of numbers, if `absolute`, |fast - plain| / (1 + |plain|).
    """
    kind = fast.dtype if fast.dtype in TOLERANCE else torch.float32
    fast, plain = fast.double(), plain.double()
    if absolute:
        gap = (fast - plain).abs() / (1 + plain.abs())
    else:
        gap = (fast - plain).norm(dim=-1) / plain.norm(dim=-1).clamp(min=1e-6)
    if not float(gap.max()) < TOLERANCE[kind]:
        raise Differs(f"{what} differ by {float(gap.max()):.2g}")
