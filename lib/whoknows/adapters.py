"""Adapters: a reader with low-rank adapters on its upper blocks, trained to say whether an answer is correct.

With the query after an answer, the confidence is the softmax over the tokens `i` (no) and `ii` (yes): LoRA + Prompt
(Kapoor et al. 2024, section 5). Without it, it is the paper's LoRA: a linear classifier on the last hidden state at the
answer's last token, trained together with the adapters.
"""

import math
from pathlib import Path

import numpy as np
import torch
from peft import LoraConfig, get_peft_model, get_peft_model_state_dict, set_peft_model_state_dict
from torch import nn
from torch.nn import functional as F
from tqdm.auto import tqdm

from whoknows import WhoknowsError, features, files
from whoknows.examples import Examples, predicting, run_above, start
from whoknows.models import Reader, first_block
from whoknows.trees import batches, blocks, collate, only_at

ADAPTERS, CLASSIFIER = "adapter_model.safetensors", "classifier.safetensors"  # the first name is PEFT's


class LoraPrompt:
    """A reader with adapters on its upper blocks.

    Args:
        settings: the grid's `lora_prompt` section.
        seed: decides the adapters' first weights, the order of examples and the dropout.
        query: whether the reader is asked; if not, a classifier stands in for its output head.
    """

    def __init__(self, reader: Reader, settings: dict, seed: int, batch_tokens: int, query: bool = True):
        torch.manual_seed(seed)
        self.settings, self.seed, self.batch_tokens = settings, seed, batch_tokens
        first = first_block(reader.depth, settings["first_layer"])
        config = LoraConfig(
            r=settings["r"],
            lora_alpha=settings["alpha"],
            lora_dropout=settings["dropout"],
            target_modules=settings["targets"],
            layers_to_transform=list(range(first, reader.depth)),
            task_type="CAUSAL_LM",
        )
        self.reader = Reader(get_peft_model(reader.model, config), reader.tokenizer)
        self.above = blocks(self.reader.base, first, reader.depth)
        self.classifier = None if query else _zero(nn.Linear(reader.model.config.hidden_size, 1)).to(reader.device)
        trained = [self.reader.model, *([] if query else [self.classifier])]
        self.weights = [p for module in trained for p in module.parameters() if p.requires_grad]
        self.history: list[dict] = []

    def fit(self, train: Examples, correct: np.ndarray, shift: float, validate) -> None:
        """Minimise the cross-entropy of the grades; keep the adapters that were best on validation.

        Args:
            correct: [n] grades of the training answers.
            shift: log-odds that sampling has added to the training answers; see `training_rows`.
            validate: called without arguments a few times; gives the validation AUROC.
        """
        correct = torch.tensor(correct, dtype=torch.float32)
        optimizer = torch.optim.AdamW(self.weights, lr=self.settings["learning_rate"])
        order = self._order([len(t) for t in train.grown.trees])
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: learning_rate(step, len(order)))
        every = math.ceil(len(order) / self.settings["evaluations"])
        best, losses = None, []
        bar = tqdm(order, desc="training", unit="step")
        for step, batch in enumerate(bar, start=1):
            losses.append(self._step(train, correct, batch, shift))
            torch.nn.utils.clip_grad_norm_(self.weights, 1.0)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            schedule.step()
            if step % every and step < len(order):
                continue
            auroc = validate()
            self.history.append({"step": step, "loss": float(np.mean(losses)), "validation_auroc": auroc})
            bar.set_postfix(loss=f"{np.mean(losses):.3f}", validation=f"{auroc:.3f}")
            losses = []
            if best is None or auroc > best[0]:
                best = (auroc, len(self.history), [weight.detach().clone() for weight in self.weights])
            if len(self.history) - best[1] >= self.settings["patience"]:
                break
        with torch.no_grad():
            for weight, kept in zip(self.weights, best[2], strict=True):
                weight.copy_(kept)

    def save(self, folder: Path) -> None:
        """Writes the adapters in PEFT's format, and beside them the classifier if there is one."""
        self.reader.model.save_pretrained(folder)
        if self.classifier:
            files.write_safetensors(Path(folder) / CLASSIFIER, self.classifier.state_dict())

    def restore(self, folder: Path) -> None:
        """Takes the weights that `save` wrote in place of its own.

        Raises:
            WhoknowsError: a file is missing or damaged, or the weights are of other adapters or another reader.
        """
        stored, own = files.read_safetensors(Path(folder) / ADAPTERS), get_peft_model_state_dict(self.reader.model)
        # PEFT itself passes over a weight that is not there, and the adapter would do nothing.
        if {name: weight.shape for name, weight in stored.items()} != {name: weight.shape for name, weight in own.items()}:
            raise WhoknowsError(f"{Path(folder) / ADAPTERS}: these adapters do not fit the reader or the settings that stand beside them; train them again with `make book`")
        set_peft_model_state_dict(self.reader.model, stored)
        if self.classifier:
            self.classifier.load_state_dict(files.read_safetensors(Path(folder) / CLASSIFIER))

    def _logit(self, last: torch.Tensor) -> torch.Tensor:
        """[n] log-odds from final hidden states [n, width]: by the two choice tokens, or by the classifier on them, normalised."""
        if self.classifier is None:
            return features.yes_or_no(self.reader, last)
        return self.classifier(F.layer_norm(last.float(), last.shape[-1:]))[:, 0]

    def _order(self, lengths: list[int]) -> list[list[int]]:
        """Batches of all epochs: shuffled, then sorted by length within windows of 8 batches, which saves padding."""
        rng, size = np.random.default_rng(self.seed), self.settings["batch_size"]
        order = []
        for _ in range(self.settings["epochs"]):
            shuffled = rng.permutation(len(lengths)).tolist()
            windows = [sorted(shuffled[i : i + 8 * size], key=lengths.__getitem__) for i in range(0, len(shuffled), 8 * size)]
            epoch = [window[i : i + size] for window in windows for i in range(0, len(window), size)]
            order += [epoch[i] for i in rng.permutation(len(epoch))]
        return order

    def _step(self, train: Examples, correct: torch.Tensor, batch: list[int], shift: float) -> float:
        """Add up the gradients of one optimiser step within the token budget; returns the mean loss."""
        self.reader.model.train()
        total = 0.0
        for part in batches([len(train.grown.trees[t]) for t in batch], self.batch_tokens):
            chosen = [batch[p] for p in part]
            ends, _ = train.grown.places(chosen, [train.grown.query_ends(t) for t in chosen], self.reader.device)
            last = self._forward(train, chosen)
            logit = self._logit(last[ends])
            loss = F.binary_cross_entropy_with_logits(logit + shift, correct[chosen].to(logit.device), reduction="sum")
            if train.reference is not None:
                loss = loss + self.settings["js_weight"] * self._penalty(train, chosen, last)
            (loss / len(batch)).backward()
            total += float(loss.detach())
        return total / len(batch)

    def _forward(self, examples: Examples, chosen: list[int]) -> torch.Tensor:
        """Final hidden states [rows, columns, width], where a branch ends and, for the penalty, where an answer is predicted."""
        trees, grown = [examples.grown.trees[t] for t in chosen], examples.grown
        inputs = collate(trees, self.reader)
        hidden = start(self.reader, examples, chosen, inputs)
        read = [grown.query_ends(t) for t in chosen]
        if examples.reference is not None:
            read = [[*range(*predicting(grown, t).indices(len(tree))), *ends] for t, tree, ends in zip(chosen, trees, read)]
        at, _ = grown.places(chosen, read, self.reader.device)
        # Without a trunk the blocks below the adapters have not run yet.
        above = self.reader.base if examples.trunk is None else self.above
        with only_at(above.layers[-1], *at):
            return run_above(above, hidden, inputs)

    def _penalty(self, train: Examples, chosen: list[int], last: torch.Tensor) -> torch.Tensor:
        """Sum over examples of the mean divergence (nats) of trained from untrained predictions of the answer's tokens."""
        total = last.new_zeros(())
        for row, t in enumerate(chosen):
            now = F.log_softmax((last[row, predicting(train.grown, t)] @ self.reader.head.T).float(), dim=-1)
            before = F.log_softmax((train.reference[t].to(last.device) @ self.reader.head.T).float(), dim=-1)
            total = total + jensen_shannon(now, before).mean()
        return total

    @torch.inference_mode()
    def score(self, examples: Examples, desc: str = "scoring") -> dict[str, torch.Tensor]:
        """Log-odds [questions] that each model's answers are right, for each scored model of the examples."""
        self.reader.model.eval()
        lengths = [len(t) for t in examples.grown.trees]
        found = {model: torch.empty(len(lengths)) for model in examples.grown.branch_of}
        with tqdm(total=sum(lengths), desc=desc, unit="token", unit_scale=True) as bar:
            for batch in batches(lengths, self.batch_tokens):
                last = self._forward(examples, batch)
                at, own = examples.grown.places(batch, [examples.grown.query_ends(t) for t in batch], last.device)
                logits = self._logit(last[at]).cpu()
                for model, branches in own.items():
                    found[model][batch] = logits[branches]
                bar.update(sum(lengths[t] for t in batch))
        return found


def _zero(layer: nn.Linear) -> nn.Linear:
    """A classifier that begins at one half for every answer."""
    nn.init.zeros_(layer.weight)
    nn.init.zeros_(layer.bias)
    return layer


def learning_rate(step: int, steps: int) -> float:
    """Share of the peak rate at a step, counted from 0: up a line in the first tenth of the steps, then down a cosine to 0.

    Without the way up, the first steps of Adam, whose second moments rest on few gradients, undo what the model knows.
    """
    warmup = max(1, steps // 10)
    if step < warmup:
        return (step + 1) / warmup
    return 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, steps - warmup)))


def jensen_shannon(p: torch.Tensor, q: torch.Tensor) -> torch.Tensor:
    """Jensen-Shannon divergence in nats of two [..., n] log-distributions, in log space (Lin 1991)."""
    middle = torch.logaddexp(p, q) - math.log(2)
    return 0.5 * ((p.exp() * (p - middle)).sum(-1) + (q.exp() * (q - middle)).sum(-1))
