"""Greedy generation after a shared few-shot prefix, which is run once for each task and not once for each question.

Rows that have reached the end of their line leave the batch.
"""

from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
from transformers import AttentionInterface, DynamicCache, GenerationConfig, LogitsProcessorList, StoppingCriteriaList

from whoknows.models.loading import Reader
from whoknows.models.packing import of_one_length, only_at

LINE_END = "\n"
SCORES = {
    "cpu": 2**20,
    "cuda": 2**28,
}  # attention scores, or logits, that are worked on at a time: on a CPU as many as stay in its cache
# What blocks hand to their attention that changes nothing here. A sink (`s_aux`) or a cap on the scores would, and so might what is not known.
UNUSED = {"dropout", "position_ids", "cache_position", "is_causal", "use_cache", "output_attentions", "return_dict"}
ALONE = 8192  # tokens of the prompts and answers that the plain way writes at a time
ROWS = 64  # next tokens chosen at a time: the logits of all rows at once would be gigabytes


class Written(NamedTuple):
    """An answer, and what the model's next-token distributions say of the answer's own tokens; logarithms are natural.

    Attributes:
        sum_logprob, mean_logprob, min_logprob: of the log-probabilities of the tokens.
        tokens: how many those are.
        mean_entropy, max_entropy: of the entropies of the distributions that the tokens were chosen from (Malinin and Gales, 2021).
        first_margin: probability of the first token less that of the second likeliest one.
    """

    answer: str
    sum_logprob: float
    mean_logprob: float
    tokens: int
    min_logprob: float
    mean_entropy: float
    max_entropy: float
    first_margin: float


class Prefix:
    """The few-shot examples of a task, run once; `generate` goes on from them for many questions at a time.

    Copying the examples' keys and values into every row would cost more than the model itself, so all rows
    read one copy: `attend` puts the queries of all rows to it in a single product.

    Args:
        is_alone: whether each prompt takes the plain way instead, whole and beside others of its length alone.
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
        """Attention of [rows, heads, new, width] queries over the shared prefix and each row's own keys.

        One softmax over both parts. Heads that share a key are folded into the queries, so no key is copied.

        Args:
            query: [rows, heads, new, width]; key, value: [rows, key heads, own keys, width].
            attention_mask: [rows, 1, new, own keys], True where a query may look.
            sliding_window: how many positions back this block sees; None for all.

        Raises:
            NotImplementedError: the block's attention is of another kind, so that its examples cannot be shared.
        """
        others = [name for name, value in more.items() if value is not None and name not in UNUSED]
        if others:
            raise NotImplementedError(f"its attention depends on {', '.join(others)}")
        rows, heads, new, width = query.shape
        query = query * (width**-0.5 if scaling is None else scaling)
        size = max(1, SCORES[query.device.type] // (heads * new * (len(self.ids) + key.shape[2])))
        out = [
            self._attend_rows(
                module.layer_idx,
                query[part],
                key[part],
                value[part],
                attention_mask[part],
                self.places[part],
                sliding_window,
            )
            for part in (slice(row, row + size) for row in range(0, rows, size))
        ]
        return torch.cat(out).transpose(1, 2), None

    def _attend_rows(self, block, query, key, value, own_mask, places, window) -> torch.Tensor:
        rows, heads, new, width = query.shape
        groups = key.shape[1]
        shared_key, shared_value = self.keys_values[block] if self.ids else (key.new_empty(groups, 0, width),) * 2
        folded = query.reshape(rows, groups, -1, width).transpose(0, 1).reshape(groups, -1, width)
        shared = (folded @ shared_key.transpose(1, 2)).float().reshape(groups, rows, heads // groups, new, -1)
        own = (
            (query.reshape(rows, groups, -1, width) @ key.transpose(2, 3))
            .float()
            .reshape(rows, groups, heads // groups, new, -1)
        )
        if window is not None:
            newest = places[:, -new:, None]
            own_mask = own_mask & (newest - places[:, None] < window)[:, None]
            shared.masked_fill_(
                (newest - torch.arange(len(self.ids), device=places.device) >= window)[:, None], -torch.inf
            )
        own.masked_fill_(~own_mask[:, None], -torch.inf)
        # One softmax over two parts that are never put together: the same largest score is taken from both.
        largest = own.amax(-1, keepdim=True)
        if self.ids:
            largest = torch.maximum(largest, shared.amax(-1, keepdim=True).transpose(0, 1))
        shared, own = shared.sub_(largest.transpose(0, 1)).exp_(), own.sub_(largest).exp_()
        total = own.sum(-1, keepdim=True) + shared.sum(-1, keepdim=True).transpose(0, 1)
        said = (shared.to(value.dtype).flatten(1, 3) @ shared_value).reshape(groups, rows, -1, width).transpose(0, 1)
        said = said + own.to(value.dtype).reshape(rows, groups, -1, key.shape[2]) @ value
        return (said.reshape(rows, groups, -1, new, width) / total.to(value.dtype)).reshape(rows, heads, new, width)

    @torch.inference_mode()
    def generate(self, ids: list[list[int]], max_new_tokens: int) -> list[Written]:
        """What is written to each question's ids."""
        return [self._finish(*written) for written in self.write(ids, max_new_tokens)]

    @torch.inference_mode()
    def write(self, ids: list[list[int]], max_new_tokens: int) -> list[tuple[list[int], list[list[float]]]]:
        """The tokens that follow each question's ids, its end among them, and what `_measure` says of each.

        Questions are padded on the left and the padding is masked; positions count real tokens alone,
        so the padding changes nothing.
        """
        if self.is_alone:
            return self._write_alone(ids, max_new_tokens)
        AttentionInterface.register("shared_prefix", self.attend)
        usual = self.reader.model.config._attn_implementation
        self.reader.model.set_attn_implementation("shared_prefix")
        try:
            return self._write(ids, max_new_tokens)
        finally:
            self.reader.model.set_attn_implementation(usual)

    def _write(self, ids: list[list[int]], max_new_tokens: int) -> list[tuple[list[int], list[list[float]]]]:
        inputs, own, positions = self._padded(ids)
        self.places = (
            positions  # of all tokens in the rows so far: `attend` needs them where a block sees only so far back
        )
        mask = (own[:, None] & own.new_ones(own.shape[1], own.shape[1]).tril()) | torch.eye(
            own.shape[1], dtype=torch.bool, device=own.device
        )
        cache = DynamicCache()
        tokens: list[list[int]] = [[] for _ in ids]
        measures: list[list[list[float]]] = [[] for _ in ids]
        rows = list(range(len(ids)))  # which question each row of the batch belongs to
        for _ in range(max_new_tokens):
            last = torch.full((len(rows),), inputs.shape[1] - 1, device=own.device)
            with only_at(self.reader.layers[-1], torch.arange(len(rows), device=own.device), last):
                hidden = self.reader.base(
                    input_ids=inputs,
                    attention_mask=mask[:, None],
                    position_ids=positions,
                    past_key_values=cache,
                    use_cache=True,
                ).last_hidden_state[:, -1]
            token, measured = self._likeliest(hidden)
            for row, t, m in zip(rows, token.tolist(), measured.tolist()):
                tokens[row].append(t)
                measures[row].append(m)
            going = [i for i, t in enumerate(token.tolist()) if not self._is_end(t)]
            if not going:
                break
            keep = torch.tensor(going, device=own.device)
            if len(going) < len(rows):
                cache.batch_select_indices(keep)
                rows = [rows[i] for i in going]
            inputs = token[keep, None]
            own = torch.cat([own[keep], own.new_ones(len(going), 1)], dim=1)
            mask = own[:, None]
            positions = positions[keep, -1:] + 1
            self.places = torch.cat([self.places[keep], positions], dim=1)
        return list(zip(tokens, measures))

    def _write_alone(self, ids: list[list[int]], max_new_tokens: int) -> list[tuple[list[int], list[list[float]]]]:
        """The same by `generate` of transformers, some prompts of one length at a time, which need no padding."""
        found: list = [None] * len(ids)
        for same in of_one_length([len(own) for own in ids]):
            size = max(1, ALONE // (len(self.ids) + len(ids[same[0]]) + max_new_tokens))
            for some in (same[at : at + size] for at in range(0, len(same), size)):
                for i, written in zip(some, self._continue([self.ids + ids[i] for i in some], max_new_tokens)):
                    found[i] = written
        return found

    def _continue(self, prompts: list[list[int]], max_new_tokens: int) -> list[tuple[list[int], list[list[float]]]]:
        """What follows prompts of one length."""
        model, measures = self.reader.causal, []

        def measured(_, logits: torch.Tensor) -> torch.Tensor:
            measures.append(_measure(logits.clone())[1])
            return logits

        def ended(tokens: torch.Tensor, _, **__) -> torch.Tensor:
            return torch.tensor([self._is_end(token) for token in tokens[:, -1].tolist()], device=tokens.device)

        usual, ids = model.generation_config, torch.tensor(prompts, device=self.reader.device)
        model.generation_config = GenerationConfig(
            eos_token_id=[*self.ends], pad_token_id=min(self.ends)
        )  # no sampling, no penalties
        options = {
            "logits_processor": LogitsProcessorList([measured]),
            "stopping_criteria": StoppingCriteriaList([ended]),
        }
        try:
            written = model.generate(
                ids, attention_mask=torch.ones_like(ids), do_sample=False, max_new_tokens=max_new_tokens, **options
            )
        finally:
            model.generation_config = usual
        tokens, measures = written[:, ids.shape[1] :].tolist(), torch.stack(measures, dim=1).tolist()
        ends = [next((at for at, token in enumerate(own) if self._is_end(token)), len(own)) + 1 for own in tokens]
        return [(own[:end], measure[:end]) for own, measure, end in zip(tokens, measures, ends)]

    def _likeliest(self, hidden: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """For each row of [rows, width] the likeliest next token, and [rows, 3] of `_measure`."""
        size = max(1, SCORES[hidden.device.type] // len(self.reader.head))
        found = [_measure(some) for part in hidden.split(ROWS) for some in self.reader.logits(part).split(size)]
        return torch.cat([token for token, _ in found]), torch.cat([measured for _, measured in found])

    def _padded(self, ids: list[list[int]]) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """input_ids, which of them are real, and position_ids, each [rows, columns]."""
        columns, device = max(map(len, ids)), self.reader.device
        inputs = torch.tensor([[0] * (columns - len(i)) + i for i in ids], device=device)
        own = torch.tensor([[False] * (columns - len(i)) + [True] * len(i) for i in ids], device=device)
        positions = (len(self.ids) + own.cumsum(dim=1) - 1).clamp(min=0)
        return inputs, own, positions

    def _is_end(self, token: int) -> bool:
        return token in self.ends or LINE_END in self.reader.tokenizer.decode([token])

    def _finish(self, tokens: list[int], measures: list[list[float]]) -> Written:
        """Cut at the line end. The ending is not part of the answer, unless it holds some of it, or is all there is."""
        text = self._line(tokens[:-1] if tokens[-1] in self.ends else tokens)
        bare = tokens[-1] in self.ends or self._is_end(tokens[-1]) and not self._line(tokens[-1:])
        logprob, entropy, margin = np.transpose(measures[:-1] if bare and len(tokens) > 1 else measures)
        return Written(
            text, logprob.sum(), logprob.mean(), len(logprob), logprob.min(), entropy.mean(), entropy.max(), margin[0]
        )

    def _line(self, tokens: list[int]) -> str:
        return self.reader.tokenizer.decode(tokens, skip_special_tokens=True).lstrip(" ").split(LINE_END)[0].strip()


def _measure(logits: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The likeliest token of each row of [rows, vocabulary] logits, which are overwritten.

    With s the logits less the largest and Z the sum of exp(s), its log-probability is -log Z and the entropy log Z - sum(s exp(s)) / Z.

    Returns:
        (tokens [rows], and [rows, 3]: the log-probability, the entropy in nats, and the probability less that of the second likeliest token).
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
    return reader.examples(examples["question"].tolist(), [_written(gold) for gold in examples["gold"]])


def _written(gold: list[str]) -> str:
    """The accepted answer to show as an example: one in plain case, for capitals are copied."""
    return next((g for g in gold if not g.isupper()), gold[0])
