"""Answers: what a model writes, greedily, after a few examples, and whether it is right.

The few-shot prefix is run once for each task and its key-value cache is shared by all its questions;
rows that have reached the end of their line leave the batch.
"""

import numpy as np
import pandas as pd
import torch
from torch.nn import functional as F
from tqdm.auto import tqdm
from transformers import AttentionInterface, DynamicCache

from whoknows import WhoknowsError, metrics
from whoknows.models import Reader
from whoknows.questions import LETTERS, SHOT, normalise
from whoknows.trees import batches

LINE_END = "\n"
# A decoding step reads every weight for one token a row, so generation wants more rows than a prefill.
CACHE_TOKENS = 4  # the cache may hold this many times batch_tokens


def answer(reader: Reader, questions: pd.DataFrame, max_new_tokens: int, batch_tokens: int) -> pd.DataFrame:
    """Greedy answers to all questions but the few-shot examples, graded.

    Args:
        questions: as `questions.build` returns them, few-shot examples included.
        max_new_tokens: an answer that reaches no line end is cut here.
        batch_tokens: the token budget of a forward pass; the cache may hold `CACHE_TOKENS` times as many.

    Returns:
        The questions (without the examples, order kept) with answer, correct, sum_logprob and
        mean_logprob (of the answer's own tokens, natural log) and tokens (how many those are).

    Raises:
        WhoknowsError: there is no question to answer, or examples and question are longer than the model sees.
    """
    asked = questions[questions["split"] != SHOT].reset_index(drop=True)
    if asked.empty:
        raise WhoknowsError("answer: questions.parquet has no question beside its few-shot examples; raise tasks[].size in the grid")
    found: list[tuple | None] = [None] * len(asked)
    with tqdm(total=len(asked), desc="answering", unit="question") as bar:
        for task, group in asked.groupby("task", sort=False):
            examples = questions[(questions["split"] == SHOT) & (questions["task"] == task)]
            prefix = Prefix(reader, examples)
            ids = [reader.question(q) for q in group["question"]]
            longest = len(prefix.ids) + max(map(len, ids)) + max_new_tokens
            if longest > reader.model.config.max_position_embeddings:
                raise WhoknowsError(f"grid, answer.shots: the examples of {task} and its longest question make {longest} tokens, more than the model has positions; lower answer.shots")
            for batch in batches([len(i) + max_new_tokens for i in ids], CACHE_TOKENS * batch_tokens):
                texts = prefix.generate([ids[b] for b in batch], max_new_tokens)
                for b, text in zip(batch, texts):
                    found[group.index[b]] = text
                bar.update(len(batch))
    answers = pd.DataFrame(found, columns=["answer", "sum_logprob", "mean_logprob", "tokens"])
    answers = answers.astype({"sum_logprob": np.float32, "mean_logprob": np.float32})
    graded = [grade(a, g, k) for a, g, k in zip(answers["answer"], asked["gold"], asked["kind"])]
    return asked.assign(**answers, correct=graded)


class Prefix:
    """The few-shot examples of a task, run once; `generate` goes on from them for many questions at a time.

    Copying the examples' keys and values into every row would cost more than the model itself, so all rows
    read one copy: `attend` puts the queries of all rows to it in a single product.
    """

    @torch.inference_mode()
    def __init__(self, reader: Reader, examples: pd.DataFrame):
        self.reader = reader
        text = "".join(f"Question: {q}\nAnswer: {_written(g)}\n\n" for q, g in zip(examples["question"], examples["gold"]))
        self.ids = reader.start() + (reader.encode(text) if text else [])
        cache = DynamicCache()
        if self.ids:
            reader.base(input_ids=torch.tensor([self.ids], device=reader.device), past_key_values=cache, use_cache=True)
        self.keys_values = [(layer.keys[0], layer.values[0]) for layer in cache.layers]
        ends = [reader.tokenizer.eos_token_id, reader.model.config.eos_token_id]
        self.ends = {e for end in ends for e in (end if isinstance(end, list) else [end]) if e is not None}

    def attend(self, module, query, key, value, attention_mask, scaling=None, sliding_window=None, **_):
        """Attention of [rows, heads, new, width] queries over the shared prefix and each row's own keys.

        One softmax over both parts. Heads that share a key are folded into the queries, so no key is copied.

        Args:
            attention_mask: [rows, 1, new, own keys], True where a query may look.
            sliding_window: how many positions back this block sees; None for all.
        """
        rows, heads, new, width = query.shape
        groups = key.shape[1]
        query = query.reshape(rows, groups, -1, width) * (width**-0.5 if scaling is None else scaling)
        scores = query @ key.transpose(2, 3)
        if self.ids:
            shared_key, shared_value = self.keys_values[module.layer_idx]
            folded = query.transpose(0, 1).reshape(groups, -1, width)
            shared = (folded @ shared_key.transpose(1, 2)).reshape(groups, rows, -1, len(self.ids)).transpose(0, 1)
            scores = torch.cat([shared, scores], dim=-1)
        mask = F.pad(attention_mask, (len(self.ids), 0), value=True)
        if sliding_window is not None:
            places = F.pad(self.places, (len(self.ids), 0)) + F.pad(torch.arange(len(self.ids), device=mask.device), (0, key.shape[2]))
            mask = mask & (self.places[:, None, -new:, None] - places[:, None, None] < sliding_window)
        scores = scores.masked_fill(~mask.repeat(1, 1, heads // groups, 1), -torch.inf)
        weights = torch.softmax(scores, dim=-1, dtype=torch.float32).to(value.dtype)
        out = weights[..., len(self.ids) :] @ value
        if self.ids:
            folded = weights[..., : len(self.ids)].transpose(0, 1).reshape(groups, -1, len(self.ids))
            out = out + (folded @ shared_value).reshape(groups, rows, -1, width).transpose(0, 1)
        return out.reshape(rows, heads, new, width).transpose(1, 2), None

    @torch.inference_mode()
    def generate(self, ids: list[list[int]], max_new_tokens: int) -> list[tuple[str, float, float, int]]:
        """(answer, sum of log-probabilities, their mean, number of tokens) for each question's ids.

        Questions are padded on the left and the padding is masked; positions count real tokens alone,
        so the padding changes nothing.
        """
        AttentionInterface.register("shared_prefix", self.attend)
        usual = self.reader.model.config._attn_implementation
        self.reader.model.set_attn_implementation("shared_prefix")
        try:
            return self._generate(ids, max_new_tokens)
        finally:
            self.reader.model.set_attn_implementation(usual)

    def _generate(self, ids: list[list[int]], max_new_tokens: int) -> list[tuple[str, float, float, int]]:
        inputs, own, positions = self._padded(ids)
        self.places = positions  # of all tokens in the rows so far: `attend` needs them where a block sees only so far back
        mask = (own[:, None] & own.new_ones(own.shape[1], own.shape[1]).tril()) | torch.eye(own.shape[1], dtype=torch.bool, device=own.device)
        cache = DynamicCache()
        tokens: list[list[int]] = [[] for _ in ids]
        logprobs: list[list[float]] = [[] for _ in ids]
        rows = list(range(len(ids)))  # which question each row of the batch belongs to
        for _ in range(max_new_tokens):
            hidden = self.reader.base(
                input_ids=inputs, attention_mask=mask[:, None], position_ids=positions, past_key_values=cache, use_cache=True
            ).last_hidden_state[:, -1]
            logprob, token = torch.log_softmax((hidden @ self.reader.head.T).float(), dim=-1).max(dim=-1)
            for row, t, p in zip(rows, token.tolist(), logprob.tolist()):
                tokens[row].append(t)
                logprobs[row].append(p)
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
        return [self._finish(t, p) for t, p in zip(tokens, logprobs)]

    def _padded(self, ids: list[list[int]]) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """input_ids, which of them are real, and position_ids, each [rows, columns]."""
        columns, device = max(map(len, ids)), self.reader.device
        inputs = torch.tensor([[0] * (columns - len(i)) + i for i in ids], device=device)
        own = torch.tensor([[False] * (columns - len(i)) + [True] * len(i) for i in ids], device=device)
        positions = (len(self.ids) + own.cumsum(dim=1) - 1).clamp(min=0)
        return inputs, own, positions

    def _is_end(self, token: int) -> bool:
        return token in self.ends or LINE_END in self.reader.tokenizer.decode([token])

    def _finish(self, tokens: list[int], logprobs: list[float]) -> tuple[str, float, float, int]:
        """Cut at the line end. The ending is not part of the answer, unless it is all there is."""
        text = self.reader.tokenizer.decode(tokens, skip_special_tokens=True).lstrip(" ").split(LINE_END)[0].strip()
        own = logprobs[:-1] if len(tokens) > 1 and self._is_end(tokens[-1]) else logprobs
        return text, float(np.sum(own)), float(np.mean(own)), len(own)


def _written(gold: list[str]) -> str:
    """The accepted answer to show as an example: one in plain case, for capitals are copied."""
    return next((g for g in gold if not g.isupper()), gold[0])


def grade(answer: str, gold: list[str], kind: str) -> bool:
    """Whether an answer is right.

    Open answers: equal to an accepted answer after normalisation, or holding one as whole words.
    Choices: the first letter that stands alone, in brackets or not, is the accepted one.
    """
    if kind == "choice":
        first = answer.strip().lstrip("(")[:1].upper()
        alone = not answer.strip().lstrip("(")[1:2].isalnum()
        return bool(first) and first in LETTERS and alone and first == gold[0]
    said = f" {normalise(answer)} "
    return any(f" {normalise(g)} " in said for g in gold if normalise(g))


def likelihood_rows(model: str, answers: pd.DataFrame) -> pd.DataFrame:
    """Rows of the untrained baseline: the probability that the model gave to its answer, as log-odds.

    p = exp(sum of the log-probabilities of the answer's tokens), in (0, 1].
    """
    logprob = np.minimum(answers["sum_logprob"].to_numpy(np.float64), -1e-7)
    rows = answers[["task", "split", "question_id", "correct"]].assign(
        method="likelihood", reader="", trained_on="", scored=model, seed=0, logit=(logprob - np.log(-np.expm1(logprob))).astype(np.float32)
    )
    return rows[rows["split"] == "test"].reset_index(drop=True)


def summary(answers: pd.DataFrame) -> pd.DataFrame:
    """For each task: answers, right ones, accuracy, and in the test split the AUROC of the answer's likelihood."""
    lines = {}
    for task, group in answers.groupby("task", sort=False):
        test = group[group["split"] == "test"]
        lines[task] = {
            "answers": len(group),
            "right": int(group["correct"].sum()),
            "accuracy": group["correct"].mean(),
            "test answers": len(test),
            "right in test": int(test["correct"].sum()),
            "AUROC of likelihood": metrics.auroc(test["sum_logprob"], test["correct"]),
        }
    return pd.DataFrame.from_dict(lines, orient="index")
