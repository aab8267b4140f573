"""LoRA + Prompt: a reader fine-tuned to say whether an answer is correct (Kapoor et al. 2024, section 5).

The query follows question and answer; the confidence is the softmax over the tokens `i` (no) and `ii`
(yes). Adapters sit on the blocks from `first_block` upwards. What the blocks below compute never
changes in training, so it is computed once: the trunk, the residual stream at `first_block`.
"""

import math
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from peft import LoraConfig, get_peft_model, get_peft_model_state_dict, set_peft_model_state_dict
from torch.nn import functional as F
from tqdm.auto import tqdm

from whoknows import WhoknowsError, features, metrics
from whoknows.features import Forest
from whoknows.models import Reader, batches, blocks, collate


def first_block(depth: int, share: float) -> int:
    """The lowest block with an adapter: `share` of the way up, 0 for all blocks; always below the last."""
    return min(round(depth * share), depth - 1)


def training_rows(answers: pd.DataFrame, wrong_per_right: float | None, seed: int) -> tuple[pd.DataFrame, float]:
    """The training answers of one model, with fewer wrong ones, and the log-odds this adds.

    All right answers are kept. AUROC learns little from a tenth wrong answer to each right one, but
    each costs the same time. Training on the sample shifts the log-odds by log(1 / share of wrong
    answers kept) (case-control sampling: Prentice & Pyke 1979); the loss adds this shift, so that
    the confidence itself stays that of the full training set.

    Returns:
        (rows, shift in nats).

    Raises:
        WhoknowsError: the training answers are all right or all wrong.
    """
    train = answers[answers["split"] == "train"]
    right, wrong = train[train["correct"]], train[~train["correct"]]
    if right.empty or wrong.empty:
        kind = "right" if right.empty else "wrong"
        raise WhoknowsError(f"lora_prompt: none of the {len(train)} training answers is {kind}, so there is nothing to learn; raise tasks[].size in the grid or train on another model")
    keep = len(wrong) if wrong_per_right is None else min(len(wrong), round(wrong_per_right * len(right)))
    sample = pd.concat([right, wrong.sample(keep, random_state=seed)]).sort_index()
    return sample.reset_index(drop=True), math.log(len(wrong) / keep)


@dataclass
class Examples:
    """One model's answers as the trained blocks meet them.

    Attributes:
        grown: trees with one branch each.
        trunk: for each tree [tokens, width], the residual stream at the first adapted block.
        correct: [n] float32, 1 for a right answer.
        task: [n] names.
        reference: for each tree [answer tokens, width], the untrained model's final hidden states from which it
            predicts the answer; None when there is no Jensen-Shannon penalty.
    """

    grown: Forest
    trunk: list[torch.Tensor]
    correct: torch.Tensor
    task: np.ndarray
    reference: list[torch.Tensor] | None


@torch.no_grad()
def prepare(reader: Reader, answers: pd.DataFrame, first: int, penalised: bool, batch_tokens: int, desc: str) -> Examples:
    """Run the blocks below the adapters once over one model's answers."""
    grown = features.forest(reader, {"": answers}, [True] * len(answers))
    lengths = [len(t) for t in grown.trees]
    trunk: list[torch.Tensor | None] = [None] * len(lengths)
    reference: list[torch.Tensor | None] = [None] * len(lengths)
    below, above = blocks(reader.base, 0, first), blocks(reader.base, first, reader.depth)
    with tqdm(total=sum(lengths), desc=desc, unit="token", unit_scale=True) as bar:
        for batch in batches(lengths, batch_tokens):
            inputs = collate([grown.trees[t] for t in batch], reader.device)
            hidden = below(**inputs, use_cache=False).last_hidden_state if first else reader.base.embed_tokens(inputs["input_ids"])
            last = _above(above, hidden, inputs) if penalised else None
            for row, t in enumerate(batch):
                trunk[t] = hidden[row, : lengths[t]].clone()
                if penalised:
                    reference[t] = last[row, _predicting(grown, t)].clone()
            bar.update(sum(lengths[t] for t in batch))
    correct = torch.tensor(answers["correct"].to_numpy(np.float32))
    return Examples(grown, trunk, correct, answers["task"].to_numpy(), reference if penalised else None)


def _predicting(grown: Forest, t: int) -> slice:
    """Columns whose next token belongs to the answer: the question's last up to the answer's last but one."""
    return slice(len(grown.trees[t].question) - 1, grown.answer_ends[t][0])


def _above(above: torch.nn.Module, hidden: torch.Tensor, inputs: dict) -> torch.Tensor:
    kept = {key: value for key, value in inputs.items() if key != "input_ids"}
    return above(inputs_embeds=hidden, **kept, use_cache=False).last_hidden_state


class LoraPrompt:
    """A reader with adapters, trained on one model's graded answers.

    Args:
        settings: the grid's `lora_prompt` section.
        seed: decides the adapters' first weights, the order and the dropout.
    """

    def __init__(self, reader: Reader, settings: dict, seed: int, batch_tokens: int):
        torch.manual_seed(seed)
        self.settings, self.seed, self.batch_tokens = settings, seed, batch_tokens
        self.first = first_block(reader.depth, settings["first_layer"])
        config = LoraConfig(
            r=settings["r"],
            lora_alpha=settings["alpha"],
            lora_dropout=settings["dropout"],
            target_modules=settings["targets"],
            layers_to_transform=list(range(self.first, reader.depth)),
            task_type="CAUSAL_LM",
        )
        self.reader = Reader(get_peft_model(reader.model, config), reader.tokenizer)
        self.above = blocks(self.reader.base, self.first, reader.depth)
        self.history: list[dict] = []

    def fit(self, train: Examples, shift: float, validation: Examples) -> None:
        """Minimise the loss over the two choice tokens; keep the adapters with the best validation AUROC.

        Args:
            train, validation: of the same model's answers.
            shift: log-odds that sampling has added to the training answers; see `training_rows`.
        """
        parameters = [p for p in self.reader.model.parameters() if p.requires_grad]
        optimizer = torch.optim.AdamW(parameters, lr=self.settings["learning_rate"], weight_decay=0.0)
        order = self._order([len(t) for t in train.grown.trees])
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 0.5 * (1 + math.cos(math.pi * step / len(order))))
        every = max(1, math.ceil(len(order) / self.settings["evaluations"]))
        best, since = None, 0
        bar = tqdm(order, desc="training", unit="step")
        for step, batch in enumerate(bar, start=1):
            loss = self._step(train, batch, shift)
            torch.nn.utils.clip_grad_norm_(parameters, 1.0)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            schedule.step()
            if step % every and step < len(order):
                continue
            auroc = self.validate(validation)
            self.history.append({"step": step, "loss": loss, "validation_auroc": auroc})
            bar.set_postfix(loss=f"{loss:.3f}", validation=f"{auroc:.3f}")
            if best is None or auroc > best[0]:
                best, since = (auroc, {k: v.clone() for k, v in get_peft_model_state_dict(self.reader.model).items()}), 0
            else:
                since += 1
            if since > self.settings["patience"]:
                break
        set_peft_model_state_dict(self.reader.model, best[1])

    def _order(self, lengths: list[int]) -> list[list[int]]:
        """Batches of all epochs. Each epoch is shuffled, then sorted by length in windows of 8 batches to save padding."""
        rng, size = np.random.default_rng(self.seed), self.settings["batch_size"]
        order = []
        for _ in range(self.settings["epochs"]):
            shuffled = rng.permutation(len(lengths)).tolist()
            windows = [shuffled[i : i + 8 * size] for i in range(0, len(shuffled), 8 * size)]
            epoch = [w[i : i + size] for w in (sorted(w, key=lambda t: lengths[t]) for w in windows) for i in range(0, len(w), size)]
            order += [epoch[i] for i in rng.permutation(len(epoch))]
        return order

    def _step(self, train: Examples, batch: list[int], shift: float) -> float:
        """Add up the gradients of one optimiser step, within the token budget; returns the mean loss."""
        self.reader.model.train()
        total = 0.0
        for part in batches([len(train.grown.trees[t]) for t in batch], self.batch_tokens):
            chosen = [batch[p] for p in part]
            last = self._forward(train, chosen)
            logit = features.yes_or_no(self.reader, last[range(len(chosen)), [train.grown.query_ends(t)[0] for t in chosen]])
            loss = F.binary_cross_entropy_with_logits(logit + shift, train.correct[chosen].to(logit.device), reduction="sum")
            if train.reference is not None:
                loss = loss + self.settings["js_weight"] * self._penalty(train, chosen, last)
            (loss / len(batch)).backward()
            total += float(loss.detach())
        return total / len(batch)

    def _forward(self, examples: Examples, chosen: list[int]) -> torch.Tensor:
        inputs = collate([examples.grown.trees[t] for t in chosen], self.reader.device)
        hidden = torch.nn.utils.rnn.pad_sequence([examples.trunk[t] for t in chosen], batch_first=True).to(self.reader.device)
        return _above(self.above, hidden, inputs)

    def _penalty(self, train: Examples, chosen: list[int], last: torch.Tensor) -> torch.Tensor:
        """Sum over examples of the mean Jensen-Shannon divergence (nats) between trained and untrained next-answer-token distributions."""
        terms = []
        for row, t in enumerate(chosen):
            p = F.log_softmax((last[row, _predicting(train.grown, t)] @ self.reader.head.T).float(), dim=-1)
            q = F.log_softmax((train.reference[t].to(p.device) @ self.reader.head.T).float(), dim=-1)
            terms.append(jensen_shannon(p, q).mean())
        return torch.stack(terms).sum()

    @torch.inference_mode()
    def score(self, grown: Forest, trunk: list[torch.Tensor], desc: str = "scoring") -> dict[str, torch.Tensor]:
        """Log-odds [questions] that each model's answers are right, for each scored model of a queried forest."""
        self.reader.model.eval()
        lengths = [len(t) for t in grown.trees]
        found = {model: torch.empty(len(lengths)) for model in grown.branch_of}
        with tqdm(total=sum(lengths), desc=desc, unit="token", unit_scale=True, leave=False) as bar:
            for batch in batches(lengths, self.batch_tokens):
                inputs = collate([grown.trees[t] for t in batch], self.reader.device)
                hidden = torch.nn.utils.rnn.pad_sequence([trunk[t] for t in batch], batch_first=True).to(self.reader.device)
                last = _above(self.above, hidden, inputs)
                for row, t in enumerate(batch):
                    logits = features.yes_or_no(self.reader, last[row, grown.query_ends(t)]).cpu()
                    for model, branches in grown.branch_of.items():
                        found[model][t] = logits[branches[t]]
                bar.update(sum(lengths[t] for t in batch))
        return found

    def validate(self, validation: Examples) -> float:
        """AUROC on the validation answers, averaged over their tasks."""
        logit = self.score(validation.grown, validation.trunk, "validating")[""].numpy()
        return metrics.mean_auroc(logit, validation.correct.numpy() > 0, validation.task)


def jensen_shannon(p: torch.Tensor, q: torch.Tensor) -> torch.Tensor:
    """Jensen-Shannon divergence in nats of two [..., n] log-distributions, in log space (Lin 1991)."""
    middle = torch.logaddexp(p, q) - math.log(2)
    return 0.5 * ((p.exp() * (p - middle)).sum(-1) + (q.exp() * (q - middle)).sum(-1))
