"""LoRA + Prompt, the stage: adapters are trained on graded answers, of one model or all, and score all test answers.

Adapters that others have trained and released only score.
"""

import json
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from whoknows import WhoknowsError
from whoknows.data import adapters, assets, files
from whoknows.data.rows import NO_ROWS, aligned, divided, every, example_rows, is_of, judges, learned
from whoknows.estimators import released as released_adapters
from whoknows.estimators.lora import LoraPrompt
from whoknows.estimators.lora_data import Dataset, gather, reference_hidden_states, training_rows, without_query
from whoknows.evaluation.auroc import counts, mean_auroc
from whoknows.models import distributed, loading
from whoknows.models.packing import pack
from whoknows.models.reader import Reader, first_block
from whoknows.stages import extract, resume
from whoknows.stages.trainable import leave_out, untrainable, why_not


def cell(
    *, reader: str, source: str, trained_on: str, seed: int, answers: dict[str, str], features: str | None,
    settings: dict, method: str = "lora_prompt", query: bool = True, without: str | None = None,
    released: dict | None = None, precision: str, template: dict | None = None, digest: str | None = None,
    batch_tokens: int | None, out: str, rows_out: str,
) -> tuple[list[dict], pd.DataFrame]:  # fmt: skip
    """The stage from files to files, as its notebook runs it; if there are several GPUs, in as many processes.

    With `released`, `run_released` takes the place of `run`.

    Returns:
        (the history of the training, empty if there is none; the rows, empty where the card says that nothing can be
        learned from that model's answers).
    """
    parameters = locals()
    distributed.run(__name__, _from_files, parameters)
    card = json.loads((Path(out) / f"{method}.json").read_text(encoding="utf-8"))
    return card.get("history", []), files.read_parquet(rows_out)


def _from_files(
    reader, trained_on, seed, answers, features, settings, method, query, without, released, batch_tokens, out,
    rows_out, **used,
) -> None:  # fmt: skip
    frames = {scored: files.read_parquet(path) for scored, path in answers.items()}
    names = {"method": method, "reader": reader, "trained_on": trained_on, "seed": seed}
    if released:
        loaded = loading.load(**used)
        rows = run_released(reader, loaded, trained_on, seed, frames, released, batch_tokens, out=out, **used)
    elif reason := untrainable(divided(frames, seed), trained_on, without):
        rows = leave_out(out, names, reason) if distributed.is_first() else NO_ROWS
    else:
        how = {"method": method, "query": query, "without": without, "out": out} | used
        _, rows = run(reader, loading.load(**used), trained_on, seed, frames, settings, batch_tokens, features, **how)
    if distributed.is_first():
        files.write_parquet(rows_out, rows)
        resume.clear(out)  # not before: what is killed while scoring shall not train again


@dataclass
class Ready:
    """Answers of one model, or of all, that a training can begin with; see `rows.learned` for their index."""

    rows: pd.DataFrame  # the training answers
    shift: float  # the log-odds that choosing them has added; see `training_rows`
    held: pd.DataFrame  # the validation answers, which stop the training
    test: pd.Index  # of the test questions
    learning: Dataset  # rows as examples
    validation: Dataset  # held as examples
    testing: Dataset  # the test answers of all models as examples

    def fit(self, estimator: LoraPrompt, file: Path) -> None:
        """Trains an estimator, which goes on from the file if a killed one left it."""
        grades, task = self.held["correct"].to_numpy(), self.held["task"].to_numpy()

        def validate() -> float:
            logits = estimator.score(self.validation, "validating")
            logit = [float(logits[model][at]) for at, (model, _) in enumerate(self.held.index)]
            return mean_auroc(np.array(logit), grades, task)

        estimator.fit(self.learning, self.rows["correct"].to_numpy(), self.shift, validate, file)


def prepare(
    reader: Reader, frames: dict[str, pd.DataFrame], trained_on: str, settings: dict, seed: int,
    batch_tokens: int | None, folder: str | None, query: bool = True, without: str | None = None,
) -> Ready:  # fmt: skip
    """What one training needs; arguments and errors are those of `run`, but `frames` are divided for the seed."""
    asked, answered = every(frames), learned(frames, trained_on, without)
    rows, shift = training_rows(answered, settings["wrong_per_right"], seed)
    held = answered[answered["split"] == "validation"]
    test = asked.index[(asked["split"] == "test") & (is_of(asked["task"], without) if without else True)]
    if reason := why_not(answered):
        raise WhoknowsError(
            f"lora_prompt: {reason}, so training cannot be stopped in time; raise tasks[].size in the grid"
        )
    first = first_block(reader.depth, settings["first_layer"])
    packed = pack(reader, frames, [True] * len(asked))
    cached = extract.load_cached(folder, packed, first) if first else None
    chosen = [[*zip(*frame.index)][::-1] for frame in (rows, held)]  # questions, and the models whose answers they are
    gathered = [gather(packed, cached, *some) for some in (*chosen, [test.tolist()])]
    learning, validation, testing = gathered if query else map(without_query, gathered)
    rows = rows.assign(task=asked.loc[[*chosen[0][0]], "task"].to_numpy())  # as the grid names it
    if settings["js_weight"]:
        learning.reference = reference_hidden_states(reader, learning, first, batch_tokens)
    return Ready(rows, shift, held, test, learning, validation, testing)


def run(
    name: str, reader: Reader, trained_on: str, seed: int, answers: dict[str, pd.DataFrame], settings: dict,
    batch_tokens: int | None, folder: str | None, method: str = "lora_prompt", query: bool = True,
    without: str | None = None, *, out: str, **used,
) -> tuple[LoraPrompt, pd.DataFrame]:  # fmt: skip
    """The lora_prompt stage: train on training answers, stop by the validation answers, score all models' test answers.

    What a killed run goes on from is left beside `out`, for `resume.clear`, until the rows are written.

    Args:
        name: the reader's.
        trained_on: the model whose answers teach, or `ALL_MODELS`.
        settings: the grid's `lora_prompt` section.
        folder: the reader's features, whose cached activations are gone on from if `first_layer` is above zero.
        query: see `LoraPrompt`.
        without: a task that is neither trained on nor stopped by, and the only one whose test answers are scored.
        out: folder for the adapters and their card, which says all that is needed to use them again.
        used: what the reader was loaded with: source, precision, template and digest.

    Returns:
        (the estimator, its rows: of test answers, and, to calibrate it, of the validation answers of one model).

    Raises:
        WhoknowsError: the training answers, or the validation answers of every task, are of one class.
    """
    frames = divided(answers, seed)
    ready = prepare(reader, frames, trained_on, settings, seed, batch_tokens, folder, query, without)
    rows, held, test = ready.rows, ready.held, ready.test
    names: dict[str, Any] = {"method": method, "reader": name, "trained_on": trained_on, "seed": seed}
    about = used | {"tasks": sorted(rows["task"].unique()), "training_answers": counts(rows["correct"])}
    about |= judges(rows) | {"settings": settings, "query": query}
    texts = [[example.question, example.branches] for example in ready.learning.packed.examples]
    stops = held[["task", "question", "answer", "correct"]].to_dict("list")
    depends = names | about | {"texts": texts, "correct": rows["correct"].tolist(), "held": stops}
    parts = resume.folder(out, __file__, model=reader.identity, **depends)
    estimator = LoraPrompt(reader, settings, seed, batch_tokens, query)
    ready.fit(estimator, parts / "progress.pt")
    if distributed.is_first():
        files.write_folder(out, partial(_save, estimator, names | about | {"history": estimator.history}))
    logits = estimator.score(ready.testing)
    tables = []
    if trained_on in frames:
        validation, frame = estimator.score(ready.validation, "validating")[trained_on], frames[trained_on]
        frame = frame.loc[held.index.get_level_values(1)]
        tables.append(example_rows(frame, scored=trained_on, logit=validation, **names))
    for scored, frame in frames.items():
        there = test.isin(frame.index)
        logit = logits[scored].numpy()[there]
        tables.append(example_rows(frame.loc[test[there]], scored=scored, logit=logit, **names))
    return estimator, pd.concat(tables, ignore_index=True)


def run_released(
    name: str, reader: Reader, trained_on: str, seed: int, answers: dict[str, pd.DataFrame], released: dict,
    batch_tokens: int | None, *, out: str, **used,
) -> pd.DataFrame:  # fmt: skip
    """The lora_prompt stage with adapters that others have trained, by name and digest: rows of all test answers.

    There are none of validation answers, which the adapters may have been trained on, so nothing is calibrated.

    Raises:
        WhoknowsError: see `adapters.check`, `released.load` and `released.score`.
    """
    theirs, folder = adapters.check(released["name"], used["source"], released["digest"])
    estimator, temperature = released_adapters.load(theirs, folder, reader, batch_tokens)
    names: dict[str, Any] = {"method": "lora_prompt", "reader": name, "trained_on": trained_on, "seed": seed}
    asked = answers[trained_on].query("split != 'test'")["task"]
    where = released["name"] if assets.on_hub(released["name"]) else folder.resolve().name
    about = {"tasks": sorted(asked.unique()), "settings": theirs["settings"], "query": True}
    about |= {"released": [adapters.CONFIG, adapters.ADAPTERS[0]], "temperature": temperature}
    about |= {"origin": {"name": where, "digest": released["digest"] or adapters.digest(released["name"])}}
    if distributed.is_first():
        files.write_folder(out, partial(_save, estimator, names | used | about))
    tested = {scored: frame[frame["split"] == "test"] for scored, frame in aligned(answers).items()}
    every_answer = pd.concat(tested.values())
    logits = released_adapters.score(estimator, every_answer["question"], every_answer["answer"]) / temperature
    parts = logits.split([len(frame) for frame in tested.values()])
    return pd.concat(
        [example_rows(frame, scored=s, logit=logit, **names) for (s, frame), logit in zip(tested.items(), parts)],
        ignore_index=True,
    )


def _save(estimator: LoraPrompt, card: dict, folder: Path) -> None:
    """The adapters and their card; in what PEFT wrote with them stands where the reader lies on this machine."""
    estimator.save(folder)
    (folder / "README.md").unlink()
    path = folder / "adapter_config.json"
    config = json.loads(path.read_text()) | {"base_model_name_or_path": assets.base(card["source"])}
    files.write_text(path, json.dumps(config, indent=2, sort_keys=True))
    files.write_text(folder / f"{card['method']}.json", json.dumps(card, indent=1))


if __name__ == "__main__":  # one of several processes, see `cell`
    distributed.join(_from_files)
