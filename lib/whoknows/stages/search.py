"""The search: LoRA + Prompt of a reader on its own answers, at several learning rates and sizes, beside the probe.

Settings are to be chosen on validation answers alone. Test answers have no split here, so that nothing can take them.
"""

import gc
import json
import math
from collections.abc import Callable
from functools import partial
from pathlib import Path
from time import monotonic

import pandas as pd
import torch

from whoknows.data import files
from whoknows.data.rows import divided, smaller
from whoknows.estimators.hidden import load_hidden
from whoknows.estimators.lora import LoraPrompt
from whoknows.estimators.probe import Logistic
from whoknows.models import distributed, loading
from whoknows.models.reader import Reader
from whoknows.stages import probe as probe_stage
from whoknows.stages import resume
from whoknows.stages.lora_prompt import prepare
from whoknows.stages.trainable import untrainable

COLUMNS = {
    "reader": str, "method": str, "learning_rate": float, "training_answers": int, "step": float, "epoch": float,
    "seconds": float, "validation_auroc": float, "in_grid": bool,
}  # fmt: skip


def cell(
    *, reader: str, source: str, answers: dict[str, str], seed: int, features: str, settings: dict,
    learning_rates: list[float], sizes: list[int], layers, strengths: list[float], precision: str,
    template: dict | None = None, digest: str | None = None, batch_tokens: int | None, out: str,
) -> pd.DataFrame:  # fmt: skip
    """The stage from files to files, as its notebook runs it; if there are several GPUs, in as many processes."""
    parameters = locals()
    distributed.run(__name__, _from_files, parameters)
    return files.read_parquet(out)


def _from_files(
    reader: str, source: str, precision: str, template: dict | None, digest: str | None, answers: dict[str, str], **more
) -> None:
    frames = {scored: files.read_parquet(path) for scored, path in answers.items()}
    run(reader, partial(loading.load, source, precision, template, digest), frames, **more)


def run(
    name: str, load: Callable[[], Reader], answers: dict[str, pd.DataFrame], *, seed: int, features: str,
    settings: dict, learning_rates: list[float], sizes: list[int], layers, strengths: list[float],
    batch_tokens: int | None, out: str,
) -> pd.DataFrame:  # fmt: skip
    """The search stage: a training for each learning rate with all answers, and for each size at the grid's rate.

    Args:
        name: the reader's, on whose own answers it is trained.
        load: gives the reader, each time anew, since a training changes it.
        features: folder of its features.
        settings: of LoRA + Prompt, with the rate that the grid has for this reader, which is tried too.
        sizes: numbers of training answers, see `rows.smaller`.
        layers, strengths: what the probe chooses from.

    Returns:
        `COLUMNS`: training_answers (before `wrong_per_right`), validation_auroc (within task), in_grid (whether the
        grid has this setting). Of LoRA + Prompt a line for each look at validation, with the seconds spent in training
        steps until then; of the probe one for each size, with the seconds of its fit. Empty where nothing can be
        learned from the reader's own answers.

    Raises:
        WhoknowsError: there is nothing to learn from any model's answers.
    """
    frames = divided(answers, seed)
    frames = {m: frame.assign(split=frame["split"].mask(frame["split"] == "test", "")) for m, frame in frames.items()}
    if untrainable(frames, name):
        nothing = pd.DataFrame({column: pd.Series(dtype=kind) for column, kind in COLUMNS.items()})
        files.write_parquet(out, nothing)
        return nothing
    every, rate = int((frames[name]["split"] == "train").sum()), settings["learning_rate"]
    some = {every: frames[name]} | smaller(frames[name], sizes, seed)
    asked = [(tried, every) for tried in sorted({*learning_rates, rate})]
    asked += [(rate, size) for size in some if size < every]
    texts = ["task", "question", "answer", "correct", "split"]
    content = {scored: frame[texts].to_dict("list") for scored, frame in frames.items()}
    kept = resume.folder(out, __file__, name=name, seed=seed, settings=settings, answers=content, model=load().identity)
    hidden = load_hidden(features, name, name, frames[name])
    lines = [
        _probe(frame, hidden, layers, strengths, name) | {"method": "probe", "training_answers": size}
        for size, frame in some.items()
    ]
    for tried, size in asked:
        rate_tried, path = {"learning_rate": tried}, kept / f"{tried:g}-{size}"
        data = {"frames": frames | {name: some[size]}, "trained_on": name, "folder": features}
        looks = _looks(path, load, settings | rate_tried, seed, batch_tokens, **data)
        lines += [look | {"method": "lora_prompt", "training_answers": size} | rate_tried for look in looks]
    table = pd.DataFrame(lines).assign(reader=name)
    table["in_grid"] = (table["training_answers"] == every) & table["learning_rate"].isin([rate, float("nan")])
    table = table[[*COLUMNS]]
    if distributed.is_first():
        files.write_parquet(out, table)
        resume.clear(out)
    return table


def _probe(frame: pd.DataFrame, hidden: torch.Tensor, layers, strengths: list[float], name: str) -> dict:
    train, validation = probe_stage.parts(frame, hidden, name)
    probe = Logistic(probe_stage.known_layers(layers, hidden.shape[1], name), strengths)
    began = monotonic()
    search = probe.fit(train, validation)
    return {"seconds": monotonic() - began, "validation_auroc": max(line["validation_auroc"] for line in search)}


def _looks(
    kept: Path, load: Callable[[], Reader], settings: dict, seed: int, batch_tokens: int | None, **more
) -> list[dict]:
    """The history of one training, from where it is kept if it was done; `more` is for `prepare`."""
    done, progress = kept.with_name(f"{kept.name}.json"), kept.with_name(f"{kept.name}.pt")
    if not done.exists():
        reader = load()
        ready = prepare(reader, settings=settings, seed=seed, batch_tokens=batch_tokens, **more)
        estimator = LoraPrompt(reader, settings, seed, batch_tokens)
        ready.fit(estimator, progress)
        steps = math.ceil(len(ready.rows) / settings["batch_size"])  # in an epoch
        looks = [
            {key: look[key] for key in ("step", "seconds", "validation_auroc")} | {"epoch": look["step"] / steps}
            for look in estimator.history
        ]
        del reader, ready, estimator
        gc.collect()  # a model and its adapters refer to each other, and the next training needs the memory
        if not distributed.is_first():
            return looks
        files.write_text(done, json.dumps(looks))
        progress.unlink()
    return json.loads(done.read_text(encoding="utf-8"))


if __name__ == "__main__":  # one of several processes, see `cell`
    distributed.join(_from_files)
