"""Adapters: a reader with low-rank adapters on its upper blocks, trained to say whether an answer is correct.

With the query after an answer, the confidence is the softmax over the tokens `i` (no) and `ii` (yes): LoRA + Prompt
(Kapoor et al. 2024, section 5). Without it, it is the paper's LoRA: a linear classifier on the last hidden state at the
answer's last token, trained together with the adapters.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from time import monotonic

import numpy as np
import torch
from peft import get_peft_model_state_dict, set_peft_model_state_dict
from torch import nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint
from tqdm.auto import tqdm

from whoknows import WhoknowsError
from whoknows.data import files
from whoknows.estimators.lora_data import Dataset, predicting
from whoknows.models import distributed, forward, products, proof
from whoknows.models.adapting import adapt
from whoknows.models.batching import DoesNotFit, TokenBudget, send
from whoknows.models.decoding import final, last_hidden_state
from whoknows.models.packing import places
from whoknows.models.reader import Reader, first_block


def order(lengths: list[int], batch_size: int, epochs: int, seed: int) -> list[list[int]]:
    """Batches of all epochs: shuffled, then sorted by length within windows of 8 batches, which saves padding."""
    rng, batches = np.random.default_rng(seed), []
    for _ in range(epochs):
        shuffled = rng.permutation(len(lengths)).tolist()
        starts = range(0, len(shuffled), 8 * batch_size)
        windows = [sorted(shuffled[i : i + 8 * batch_size], key=lengths.__getitem__) for i in starts]
        epoch = [window[i : i + batch_size] for window in windows for i in range(0, len(window), batch_size)]
        batches += [epoch[i] for i in rng.permutation(len(epoch))]
    return batches


def learning_rate(step: int, steps: int) -> float:
    """Share of the peak rate at a step, counted from 0: linear warm-up in the first tenth, then cosine decay to 0.

    Without warm-up, the first steps of Adam, whose second moments rest on few gradients, undo what the model knows.
    """
    warmup = max(1, steps // 10)
    if step < warmup:
        return (step + 1) / warmup
    return 0.5 * (1 + math.cos(math.pi * (step - warmup) / (steps - warmup)))


def jensen_shannon(p: torch.Tensor, q: torch.Tensor) -> torch.Tensor:
    """Jensen-Shannon divergence in nats of two [..., n] log-distributions (Lin 1991).

    (KL(P, M) + KL(Q, M)) / 2 with M = (P + Q) / 2, in log space: log M = logaddexp(p, q) - log 2.
    """
    middle = torch.logaddexp(p, q) - math.log(2)
    return 0.5 * ((p.exp() * (p - middle)).sum(-1) + (q.exp() * (q - middle)).sum(-1))


@dataclass
class Progress:
    """How far training has come: all that is needed to resume it, bit for bit on a CPU.

    Attributes:
        history: for each look at validation, step, loss, validation_auroc and seconds, the time spent in training steps
            so far, with those of killed processes and without the looks.
    """

    weights: list[torch.Tensor]  # what is trained; they and the optimiser are changed in place
    optimizer: torch.optim.Optimizer
    file: Path | None  # where it is saved at each look at validation
    step: int = 0  # optimiser steps done
    history: list[dict] = field(default_factory=list)
    best: int = -1  # index of the look with the highest validation AUROC, the first of equals
    kept: list[torch.Tensor] = field(default_factory=list)  # the weights at that time

    def look(self, loss: float, auroc: float, seconds: float) -> None:
        """Records the AUROC on validation and the seconds of steps since the last look; keeps the best weights."""
        if self.best < 0 or auroc > self.history[self.best]["validation_auroc"]:
            self.best, self.kept = len(self.history), [weight.detach().clone() for weight in self.weights]
        seconds += self.history[-1]["seconds"] if self.history else 0.0
        self.history.append({"step": self.step, "loss": loss, "validation_auroc": auroc, "seconds": seconds})
        if self.file and distributed.is_first():
            files.write_torch(self.file, self._state())

    def is_over(self, patience: int) -> bool:
        """Whether so many looks at validation in a row were no better than the best."""
        return len(self.history) - 1 - self.best >= patience

    @torch.no_grad()
    def put(self, values: list[torch.Tensor]) -> None:
        """Puts other weights, such as the best, in place of the last."""
        for weight, value in zip(self.weights, values, strict=True):
            weight.copy_(value)

    def resume(self) -> None:
        """Goes on from what a killed process saved, if it saved anything."""
        if not self.file or not self.file.exists():
            return
        state = files.read_torch(self.file)
        self.step, self.history, self.best, self.kept = (state[key] for key in ("step", "history", "best", "kept"))
        self.optimizer.load_state_dict(state["optimizer"])
        self.put(state["weights"])
        self.kept = [kept.to(weight.device) for weight, kept in zip(self.weights, self.kept)]
        torch.set_rng_state(state["random"])
        torch.cuda.set_rng_state_all(state["random_cuda"])  # of no GPU, an empty list

    def _state(self) -> dict:
        weights = [weight.detach() for weight in self.weights]
        state = {"step": self.step, "history": self.history, "best": self.best}
        state |= {"weights": weights, "kept": self.kept, "optimizer": self.optimizer.state_dict()}
        return state | {"random": torch.get_rng_state(), "random_cuda": torch.cuda.get_rng_state_all()}


ADAPTERS, CLASSIFIER = "adapter_model.safetensors", "classifier.safetensors"  # the first name is PEFT's
FEW_TOKENS = 512  # where fewer fit into memory, a GPU idles more than recomputing costs


class LoraPrompt:
    """A reader with adapters on its upper blocks.

    Args:
        settings: the grid's `lora_prompt` section.
        seed: decides the adapters' first weights, the order of examples and the dropout.
        query: whether the query follows each answer; if not, a classifier replaces the output head.
    """

    def __init__(self, reader: Reader, settings: dict, seed: int, batch_tokens: int | None, query: bool = True):
        torch.manual_seed(seed)
        self.settings, self.seed, self.batch_tokens = settings, seed, batch_tokens
        self.first = first_block(reader.depth, settings["first_layer"])
        self.reader = replace(reader, model=adapt(reader, settings))
        self.classifier = None if query else _zero(nn.Linear(reader.config.hidden_size, 1)).to(reader.device)
        trained = [self.reader.model, *([] if query else [self.classifier])]
        self.weights = [p for module in trained for p in module.parameters() if p.requires_grad]
        self.history: list[dict] = []
        self.is_recomputing = False
        self.budget = self._fresh_budget()
        self.is_alone = False  # whether each text takes the plain way
        products.install(self.reader.model)

    def fit(self, train: Dataset, correct: np.ndarray, shift: float, validate, file: Path | None = None) -> None:
        """Minimise the cross-entropy of the grades; keep the adapters that were best on validation.

        Args:
            correct: [n] grades of the training answers.
            shift: log-odds that sampling has added to them; see `training_rows`.
            validate: called without arguments a few times; gives the validation AUROC.
            file: where training is saved at each look at validation, and from which it is resumed.

        Raises:
            WhoknowsError: the loss is no finite number, or a text does not fit into memory.
        """
        self._choose_way(train)
        peak, correct = self.settings["learning_rate"], torch.tensor(correct, dtype=torch.float32)
        lengths = [len(example) for example in train.packed.examples]
        steps = order(lengths, self.settings["batch_size"], self.settings["epochs"], self.seed)
        every = math.ceil(len(steps) / self.settings["evaluations"])
        progress = Progress(self.weights, torch.optim.AdamW(self.weights, lr=peak, fused=True), file)
        progress.resume()
        losses: list[torch.Tensor] = []
        began = monotonic()
        with tqdm(total=len(steps), initial=progress.step, desc="training", unit="step", **distributed.quiet()) as bar:
            while progress.step < len(steps) and not progress.is_over(self.settings["patience"]):
                progress.optimizer.param_groups[0]["lr"] = peak * learning_rate(progress.step, len(steps))
                losses.append(self._step(train, correct, steps[progress.step], shift))
                torch.nn.utils.clip_grad_norm_(self.weights, 1.0)
                progress.optimizer.step()
                progress.optimizer.zero_grad()
                progress.step += 1
                bar.update()
                if progress.step % every and progress.step < len(steps):
                    continue
                loss = _mean(losses)  # waits for a GPU, whose steps the clock should count
                took = monotonic() - began
                progress.look(loss, validate(), took)
                bar.set_postfix({key: f"{progress.history[-1][key]:.3f}" for key in ("loss", "validation_auroc")})
                losses, began = [], monotonic()
        progress.put(progress.kept)
        self.history = progress.history

    def save(self, folder: Path) -> None:
        """Writes the adapters in PEFT's format, and beside them the classifier if there is one."""
        self.reader.model.save_pretrained(folder)
        if self.classifier:
            files.write_safetensors(Path(folder) / CLASSIFIER, self.classifier.state_dict())

    def restore(self, folder: Path) -> None:
        """Loads the weights that `save` wrote.

        Raises:
            WhoknowsError: a file is missing or damaged, or the weights are of other adapters or another reader.
        """
        if not put(files.read_safetensors(Path(folder) / ADAPTERS), self.reader.model):
            raise WhoknowsError(
                f"{Path(folder) / ADAPTERS}: these adapters do not fit the reader or the settings that stand beside "
                "them; train them again with `make book`"
            )
        if self.classifier:
            self.classifier.load_state_dict(files.read_safetensors(Path(folder) / CLASSIFIER))

    def _choose_way(self, data: Dataset) -> None:
        """The fast way, as long as it gives what the plain way gives."""
        if not self.is_alone and not proof.adapters(self, data.packed.longest, data.packed.widest):
            self.is_alone = True
            products.remove(self.reader.model)

    def _logit(self, last: torch.Tensor) -> torch.Tensor:
        """[n] log-odds from final hidden states [n, width]: of the choice tokens, or by layer norm and classifier."""
        if self.classifier is None:
            return forward.p_true_logit(self.reader, last)
        return self.classifier(F.layer_norm(last.float(), last.shape[-1:]))[:, 0]

    def _step(self, train: Dataset, correct: torch.Tensor, batch: list[int], shift: float) -> torch.Tensor:
        """Sum the gradients of one optimiser step over all processes; returns the mean loss, on the reader's device."""
        self.reader.model.train()
        share = distributed.share(batch)
        work = partial(self._add_gradients, train, correct, share, shift, len(batch))
        lengths = [len(train.packed.examples[t]) for t in share]
        try:
            loss = self._within_budget(work, lengths)
        except DoesNotFit:
            if self.is_recomputing:
                raise
            loss = None
        if loss is None:
            self._recompute()
            loss = self._within_budget(work, lengths)
        loss, *gradients = distributed.add_up([loss, *(weight.grad for weight in self.weights)])
        for weight, gradient in zip(self.weights, gradients):
            weight.grad = gradient
        return loss

    def _within_budget(self, work: Callable[[list[int]], torch.Tensor], lengths: list[int]) -> torch.Tensor:
        """Adds up the gradients of this process's share of a step; returns its part of the loss."""
        for weight in self.weights:
            weight.grad = torch.zeros_like(weight)
        losses = [loss for _, loss in self.budget.run(work, lengths)]
        return torch.stack([torch.zeros((), device=self.reader.device), *losses]).sum()

    def _add_gradients(
        self, train: Dataset, correct: torch.Tensor, share: list[int], shift: float, count: int, part: list[int]
    ) -> torch.Tensor:
        """Adds the gradients of a part of this process's share of a step of `count` examples; returns its loss."""
        chosen = [share[p] for p in part]
        logit, last, _ = self._read(train, chosen)
        loss = F.binary_cross_entropy_with_logits(logit + shift, send(correct[chosen], logit.device), reduction="sum")
        if train.reference is not None:
            loss = loss + self.settings["js_weight"] * self._penalty(train, chosen, last)
        loss = loss / count
        # Not `backward`: if memory runs out in the middle, no weight has got its gradient yet.
        gradients = torch.autograd.grad(loss, self.weights, materialize_grads=True)  # 0 for experts without tokens
        for weight, gradient in zip(self.weights, gradients, strict=True):
            weight.grad.add_(gradient)
        return loss.detach()

    def _recompute(self) -> None:
        """From now on, activations within blocks are recomputed in the backward pass, which costs a third more time.

        The first block with adapters, whose input the cached activations replace, and the last one, whose output is
        computed at few places, keep theirs; see `decoding.final`.
        """
        self.is_recomputing = True
        self.budget = self._fresh_budget()
        for block in self.reader.layers[self.first + 1 : -1]:
            block.gradient_checkpointing = True
            block._gradient_checkpointing_func = partial(checkpoint, use_reentrant=False)

    def _fresh_budget(self) -> TokenBudget:
        return TokenBudget(self.batch_tokens, self.reader.device, least=0 if self.is_recomputing else FEW_TOKENS)

    def _read(self, data: Dataset, chosen: list[int]) -> tuple[torch.Tensor, torch.Tensor, dict[str, list[int]]]:
        """Log-odds [branches], what `_forward` gives, and for each scored model its branches."""
        last = self._forward(data, chosen)
        at, branch_of = data.packed.ends(chosen, last.device)
        return self._logit(last[at]), last, branch_of

    def _forward(self, data: Dataset, chosen: list[int]) -> torch.Tensor:
        """Final hidden states [rows, columns, width] at branches' ends and, for the penalty, before answer tokens."""
        examples, packed = [data.packed.examples[t] for t in chosen], data.packed
        if self.is_alone:
            return last_hidden_state(self.reader, examples)
        read = [example.ends() for example in examples]
        if data.reference is not None:
            columns = [range(len(example))[predicting(packed, t)] for t, example in zip(chosen, examples)]
            read = [[*before, *ends] for before, ends in zip(columns, read)]
        cached = data.cached and [data.cached[t] for t in chosen]
        return final(self.reader, examples, self.first, cached, places(read, self.reader.device))

    def _penalty(self, train: Dataset, chosen: list[int], last: torch.Tensor) -> torch.Tensor:
        """Sum over examples of the mean divergence (nats) of trained from untrained predictions of answer tokens."""
        total, reference = last.new_zeros(()), train.reference or []
        for row, t in enumerate(chosen):
            now = F.log_softmax(self.reader.logits(last[row, predicting(train.packed, t)]).float(), dim=-1)
            before = F.log_softmax(self.reader.logits(send(reference[t], last.device)).float(), dim=-1)
            total = total + jensen_shannon(now, before).mean()
        return total

    @torch.inference_mode()
    def score(self, data: Dataset, desc: str = "scoring") -> dict[str, torch.Tensor]:
        """Log-odds [questions] that each scored model's answers are right; of no meaning where it has no answer."""
        self._choose_way(data)
        self.reader.model.eval()
        lengths = [len(example) for example in data.packed.examples]
        share = distributed.share(sorted(range(len(lengths)), key=lengths.__getitem__))
        sizes, budget = [lengths[t] for t in share], TokenBudget(self.batch_tokens, self.reader.device)
        scores = {model: torch.zeros(len(lengths)) for model in data.packed.branch_of}

        def work(part: list[int]) -> tuple[torch.Tensor, dict[str, list[int]]]:
            logit, _, branch_of = self._read(data, [share[p] for p in part])
            return logit, branch_of

        with tqdm(total=sum(sizes), desc=desc, unit="token", unit_scale=True, **distributed.quiet()) as bar:
            for part, (logits, branch_of) in budget.run(work, sizes):
                for model, branches in branch_of.items():
                    scores[model][[share[p] for p in part]] = logits[branches]
                bar.update(sum(sizes[p] for p in part))
        # Each process has zeros where the others have scores.
        total = distributed.add_up([logits.to(self.reader.device) for logits in scores.values()])
        return {model: logits.cpu() for model, logits in zip(scores, total)}


def put(stored: dict[str, torch.Tensor], model: nn.Module) -> bool:
    """Loads weights into a model's adapters, if they are of such adapters; whether they are.

    PEFT itself skips a weight that is missing, and the adapter would do nothing.
    """
    shapes = [
        {name: weight.shape for name, weight in state.items()} for state in (stored, get_peft_model_state_dict(model))
    ]
    if fits := shapes[0] == shapes[1]:
        set_peft_model_state_dict(model, stored)
    return fits


def _zero(layer: nn.Linear) -> nn.Linear:
    """A classifier that begins at one half for every answer."""
    nn.init.zeros_(layer.weight)
    nn.init.zeros_(layer.bias)
    return layer


def _mean(losses: list[torch.Tensor]) -> float:
    mean = float(torch.stack(losses).mean())
    if not math.isfinite(mean):
        raise WhoknowsError(
            f"lora_prompt: the loss is {mean}; lower lora_prompt.learning_rate in the grid, or the model's own, "
            "or set precision: float32"
        )
    return mean
