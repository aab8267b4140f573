"""Generation after a shared few-shot prefix, which is run once for each task and not once for each question.

Rows that have reached the end of their line leave the batch.
"""

from itertools import repeat
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
from transformers import AttentionInterface, DynamicCache, GenerationConfig, LogitsProcessorList, StoppingCriteriaList

from whoknows.data.prompts import LINE_END, shown
from whoknows.models.batching import of_one_length
from whoknows.models.loading import set_attention
from whoknows.models.packing import only_at
from whoknows.models.reader import Reader

SCORES = {"cpu": 2**20, "cuda": 2**28}  # attention scores, or logits, computed at a time: on a CPU what its cache holds
# Arguments of attention that change nothing here. A sink (`s_aux`) or a cap on the scores would, and others might.
UNUSED = {"dropout", "position_ids", "cache_position", "is_causal", "use_cache", "return_dict"}
UNUSED |= {"output_attentions", "output_hidden_states", "output_router_logits", "num_items_in_batch"}
ALONE = 8192  # tokens of prompts and answers in one batch of the plain way
ROWS = 64  # rows whose next token is chosen at a time: the logits of all rows at once would be gigabytes


Tokens = tuple[list[int], list[list[float]]]  # the ids of an answer, and what `_measure` says of each


class Written(NamedTuple):
    """An answer, and statistics of the next-token distributions that its tokens were chosen from; in nats."""

    answer: str
    sum_logprob: float
    mean_logprob: float
    tokens: int
    min_logprob: float
    mean_entropy: float  # of the distributions (Malinin and Gales, 2021)
    max_entropy: float
    first_margin: float  # probability of the first token less that of the second likeliest one


class Prefix:
    """The few-shot examples of a task, run once; `generate` goes on from them for many questions at a time.

    Copying the examples' keys and values into every row would cost more than the model itself, so all rows read one
    copy: `attend` puts the queries of all rows to it in a single product. If it `is_alone`, each prompt takes the plain
    way instead: whole, in batches of prompts of equal length.
    """

    @torch.inference_mode()
    def __init__(self, reader: Reader, examples: pd.DataFrame, is_alone: bool = False):
        self.reader, self.ids, self.is_alone = reader, prefix_ids(reader, examples), is_alone
        cache = DynamicCache()
        if self.ids and not is_alone:
            reader.base(input_ids=torch.tensor([self.ids], device=reader.device), past_key_values=cache, use_cache=True)
        self.keys_values = [(layer.keys[0], layer.values[0]) for layer in cache.layers]
        self.ends = set(reader.ends)

    def attend(self, module, query, key, value, attention_mask, scaling=None, sliding_window=None, **more):
        """Attention of [rows, heads, new, width] queries over the shared prefix and the keys of each row.

        Heads that share a key are folded into the queries, so no key is copied.

        Args:
            key, value: [rows, key heads, keys, width], without the prefix.
            attention_mask: [rows, 1, new, keys], True where a query may look.
            sliding_window: how many positions back this block sees; None for all.

        Raises:
            NotImplementedError: the block's attention is of another kind, so that its examples cannot be shared.
        """
        refuse_others(more, UNUSED)
        _, heads, new, width = query.shape
        query = query * (width**-0.5 if scaling is None else scaling)
        size = max(1, SCORES[query.device.type] // (heads * new * (len(self.ids) + key.shape[2])))
        parts = zip(*(some.split(size) for some in (query, key, value, attention_mask, self.places)))
        out = [self._attend_rows(module.layer_idx, sliding_window, *part) for part in parts]
        return torch.cat(out).transpose(1, 2), None

    def _attend_rows(self, block, window, query, key, value, mask, positions) -> torch.Tensor:
        """Softmax over the prefix P and the keys R of a row, which are never put together.

        With m the largest score s of both parts, the softmax over their concatenation gives
        out = (sum_P exp(s - m) v + sum_R exp(s - m) v) / (sum_P exp(s - m) + sum_R exp(s - m)).
        All rows share the keys and values of P, so its part is two matrix products for all of them.
        """
        rows, heads, new, width = query.shape
        groups = key.shape[1]
        shared_key, shared_value = self.keys_values[block] if self.ids else (key.new_empty(groups, 0, width),) * 2
        folded = query.reshape(rows, groups, -1, width).transpose(0, 1).reshape(groups, -1, width)
        shared = (folded @ shared_key.transpose(1, 2)).float().reshape(groups, rows, heads // groups, new, -1)
        scores = (query.reshape(rows, groups, -1, width) @ key.transpose(2, 3)).float()
        scores = scores.reshape(rows, groups, heads // groups, new, -1)
        if window is not None:
            newest = positions[:, -new:, None]
            mask = mask & (newest - positions[:, None] < window)[:, None]
            is_far = newest - torch.arange(len(self.ids), device=positions.device) >= window
            shared.masked_fill_(is_far[:, None], -torch.inf)
        scores.masked_fill_(~mask[:, None], -torch.inf)
        largest = scores.amax(-1, keepdim=True)
        if self.ids:
            largest = torch.maximum(largest, shared.amax(-1, keepdim=True).transpose(0, 1))
        shared, scores = shared.sub_(largest.transpose(0, 1)).exp_(), scores.sub_(largest).exp_()
        total = scores.sum(-1, keepdim=True) + shared.sum(-1, keepdim=True).transpose(0, 1)
        out = (shared.to(value.dtype).flatten(1, 3) @ shared_value).reshape(groups, rows, -1, width).transpose(0, 1)
        out = out + scores.to(value.dtype).reshape(rows, groups, -1, key.shape[2]) @ value
        return (out.reshape(rows, groups, -1, new, width) / total.to(value.dtype)).reshape(rows, heads, new, width)

    @torch.inference_mode()
    def generate(self, ids: list[list[int]], max_new_tokens: int) -> list[Written]:
        """The greedy answer to each question, given as ids."""
        return [self._finish(*written) for written in self.write(ids, max_new_tokens)]

    @torch.inference_mode()
    def sample(self, ids: list[list[int]], draws: torch.Tensor) -> list[list[str]]:
        """Answers to each question whose tokens are drawn from the model's distribution, at temperature 1.

        The draws are between zero and one, [questions, answers to each, tokens at most].
        """
        _, count, longest = draws.shape
        rows = [question for question in ids for _ in range(count)]
        texts = [self._finish(*written).answer for written in self.write(rows, longest, draws.flatten(0, 1))]
        return [texts[at : at + count] for at in range(0, len(texts), count)]

    @torch.inference_mode()
    def write(self, ids: list[list[int]], max_new_tokens: int, draws: torch.Tensor | None = None) -> list[Tokens]:
        """The tokens that follow each question's ids, the end included, and the numbers of `_measure` for each.

        They are the likeliest ones or, with draws [questions, max_new_tokens], drawn as `_choice` says. Questions are
        padded on the left and the padding is masked; positions count real tokens alone, so the padding changes nothing.
        """
        if self.is_alone:
            return self._write_alone(ids, max_new_tokens, draws)
        AttentionInterface.register("shared_prefix", self.attend)
        usual = self.reader.model.config._attn_implementation
        set_attention(self.reader.model, "shared_prefix")
        try:
            return self._write(ids, max_new_tokens, draws)
        finally:
            set_attention(self.reader.model, usual)

    def _write(self, ids: list[list[int]], max_new_tokens: int, draws: torch.Tensor | None) -> list[Tokens]:
        wide, device = max(map(len, ids)), self.reader.device
        inputs = torch.tensor([[0] * (wide - len(i)) + i for i in ids], device=device)
        real = torch.tensor([[False] * (wide - len(i)) + [True] * len(i) for i in ids], device=device)
        positions = (len(self.ids) + real.cumsum(dim=1) - 1).clamp(min=0)
        self.places = positions  # of all tokens in the rows so far: `attend` needs them for sliding windows
        # Padding looks at itself, so that no softmax is over nothing.
        mask = (real[:, None] & real.new_ones(wide, wide).tril()) | torch.eye(wide, dtype=torch.bool, device=device)
        cache = DynamicCache()
        written: list[Tokens] = [([], []) for _ in ids]
        rows = list(range(len(ids)))  # which question each row of the batch belongs to
        for step in range(max_new_tokens):
            last = torch.full((len(rows),), inputs.shape[1] - 1, device=device)
            with only_at(self.reader.layers[-1], torch.arange(len(rows), device=device), last):
                hidden = self.reader.base(
                    input_ids=inputs,
                    attention_mask=mask[:, None],
                    position_ids=positions,
                    past_key_values=cache,
                    use_cache=True,
                ).last_hidden_state[:, -1]
            token, measured = self._chosen(hidden, None if draws is None else draws[rows, step])
            for row, t, m in zip(rows, token.tolist(), measured.tolist()):
                written[row][0].append(t)
                written[row][1].append(m)
            going = [i for i, t in enumerate(token.tolist()) if not self._is_end(t)]
            if not going:
                break
            keep = torch.tensor(going, device=device)
            if len(going) < len(rows):
                cache.batch_select_indices(keep)
                rows = [rows[i] for i in going]
            inputs = token[keep, None]
            real = torch.cat([real[keep], real.new_ones(len(going), 1)], dim=1)
            mask = real[:, None]
            positions = positions[keep, -1:] + 1
            self.places = torch.cat([self.places[keep], positions], dim=1)
        return written

    def _write_alone(self, ids: list[list[int]], max_new_tokens: int, draws: torch.Tensor | None) -> list[Tokens]:
        """The same by `generate` of transformers, some prompts of one length at a time, which need no padding."""
        results: list = [None] * len(ids)
        for same in of_one_length([*map(len, ids)]):
            size = max(1, ALONE // (len(self.ids) + len(ids[same[0]]) + max_new_tokens))
            for some in (same[at : at + size] for at in range(0, len(same), size)):
                prompts, drawn = [self.ids + ids[i] for i in some], None if draws is None else draws[some]
                for i, written in zip(some, self._continue(prompts, max_new_tokens, drawn)):
                    results[i] = written
        return results

    def _continue(self, prompts: list[list[int]], max_new_tokens: int, draws: torch.Tensor | None) -> list[Tokens]:
        """What follows prompts of one length."""
        model, measures = self.reader.causal, list[torch.Tensor]()

        def measured(_, logits: torch.Tensor) -> torch.Tensor:
            token, measure = _choice(logits.clone(), None if draws is None else draws[:, len(measures)])
            measures.append(measure)
            return torch.full_like(logits, -torch.inf).scatter_(1, token[:, None], 0.0)  # this token, and no other

        def ended(tokens: torch.Tensor, _, **__) -> torch.Tensor:
            return torch.tensor([self._is_end(token) for token in tokens[:, -1].tolist()], device=tokens.device)

        usual, ids = model.generation_config, torch.tensor(prompts, device=self.reader.device)
        model.generation_config = GenerationConfig()  # no penalties, and neither sampling nor ends but ours
        options = {"attention_mask": torch.ones_like(ids), "do_sample": False, "max_new_tokens": max_new_tokens}
        options |= {
            "logits_processor": LogitsProcessorList([measured]),
            "stopping_criteria": StoppingCriteriaList([ended]),
        }
        try:
            written = model.generate(ids, **options)
        finally:
            model.generation_config = usual
        tokens, measures = written[:, ids.shape[1] :].tolist(), torch.stack(measures, dim=1).tolist()
        ends = [next((at for at, token in enumerate(row) if self._is_end(token)), len(row)) + 1 for row in tokens]
        return [(row[:end], measure[:end]) for row, measure, end in zip(tokens, measures, ends)]

    def _chosen(self, hidden: torch.Tensor, draws: torch.Tensor | None) -> tuple[torch.Tensor, torch.Tensor]:
        """For each row of [rows, width] what `_choice` makes of its logits, some rows at a time."""
        size = max(1, SCORES[hidden.device.type] // len(self.reader.head))
        results: list[tuple[torch.Tensor, torch.Tensor]] = []
        for part, drawn in zip(hidden.split(ROWS), repeat(None) if draws is None else draws.split(ROWS)):
            logits = self.reader.logits(part).split(size)
            results += map(_choice, logits, repeat(None) if drawn is None else drawn.split(size))
        tokens, measured = zip(*results)
        return torch.cat(tokens), torch.cat(measured)

    def _is_end(self, token: int) -> bool:
        return token in self.ends or LINE_END.search(self.reader.tokenizer.decode([token])) is not None

    def _finish(self, tokens: list[int], measures: list[list[float]]) -> Written:
        """Cut at the line end. The ending is not part of the answer, unless it holds some of it, or is all there is.

        In some chat templates a space before the control token is part of the ending.
        """
        text = self._line(tokens[:-1] if tokens[-1] in self.ends else tokens)
        bare = tokens[-1] in self.ends or self._is_end(tokens[-1]) and not self._line(tokens[-1:])
        closing = self.reader.closing
        ending = len(closing) if tokens[-len(closing) :] == closing else int(bare)
        logprob, entropy, margin = np.transpose(measures[: max(1, len(tokens) - ending)])
        return Written(
            text, logprob.sum(), logprob.mean(), len(logprob), logprob.min(), entropy.mean(), entropy.max(), margin[0]
        )

    def _line(self, tokens: list[int]) -> str:
        text = self.reader.tokenizer.decode(tokens, skip_special_tokens=True).lstrip(" ")
        return LINE_END.split(text)[0].strip()


def refuse_others(arguments: dict, known: set[str]) -> None:
    """Raises NotImplementedError if attention is given what is not `known`, as it may change what a query sees."""
    others = [name for name, value in arguments.items() if value is not None and name not in known]
    if others:
        raise NotImplementedError(f"its attention depends on {', '.join(others)}")


def _choice(logits: torch.Tensor, draws: torch.Tensor | None) -> tuple[torch.Tensor, torch.Tensor]:
    """The likeliest token of each row of [rows, vocabulary] logits, as `_measure` has it, or a drawn one.

    With draws u [rows] between zero and one that is the first token up to which the probabilities add up to more than
    u, which has the model's distribution where u is uniform; nothing is measured of it.
    """
    if draws is None:
        return _measure(logits)
    reached = logits.double().softmax(dim=-1).cumsum(dim=-1)
    token = torch.searchsorted(reached, draws.to(reached)[:, None] * reached[:, -1:], right=True)[:, 0]
    token = token.clamp(max=reached.shape[1] - 1)  # a draw just below one may round to it
    return token, reached.new_full((len(token), 3), torch.nan)


def _measure(logits: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The likeliest token of each row of [rows, vocabulary] logits, which are overwritten.

    Beside it, [rows, 3]: its log-probability and the entropy in nats, and its margin, the probability less that of the
    second likeliest token. With s the logits less the largest and Z the sum of exp(s), these are -log Z,
    log Z - sum(s exp(s)) / Z, and (1 - exp(s2)) / Z, where s2 is the second largest s.
    """
    logits = logits.float()
    best = logits.max(dim=-1)
    odds = logits.sub_(best.values[:, None]).exp()  # in place, here and below: what this costs is memory traffic
    total = odds.sum(dim=-1)
    entropy = total.log() - odds.mul_(logits).sum(dim=-1) / total
    second = logits.scatter_(1, best.indices[:, None], -torch.inf).amax(dim=-1).exp()
    return best.indices, torch.stack([-total.log(), entropy, (1 - second) / total], dim=1)


def prefix_ids(reader: Reader, examples: pd.DataFrame) -> list[int]:
    """Ids of a task's few-shot examples, with BOS."""
    return reader.examples(examples["question"].tolist(), [*map(shown, examples["gold"])])
