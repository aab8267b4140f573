"""Controls: estimators that a trivial shortcut would pass as well, trained and scored just as the probe is.

Some need no reader: how often the task's training answers are right, how long the answer is, how sure the model was of
its tokens, what question and answer say to a sentence embedder. Others are the probe itself with something taken away.
"""

import numpy as np
import pandas as pd
import torch

from whoknows import WhoknowsError
from whoknows.data.positions import LAST, MEAN, QUESTION
from whoknows.data.rows import ALL_MODELS, aligned, divided, in_hash_order, is_learned, learned, smaller
from whoknows.data.tasks import category_of
from whoknows.estimators.hidden import load_states
from whoknows.estimators.probe import Logistic
from whoknows.stages.answered import BASELINES, likelihood_rows
from whoknows.stages.probe import parts, probe_rows
from whoknows.stages.trainable import trainable, why_not


def without_reader(
    answers: dict[str, pd.DataFrame], seeds: list[int], strengths: list[float], embedder: str | None,
    batch_tokens: int | None, digest: str | None = None,
) -> pd.DataFrame:  # fmt: skip
    """Rows of the controls that need no reader, for every model that they can be trained on.

    They are all of `BASELINES` but likelihood, without those whose column older answers lack; task_prior, answer_length
    and, with an embedder, question_only, answer_only and embedder.

    Args:
        strengths: L2 strengths to choose from on validation.
        embedder: a sentence embedder's asset, folder or hub name; None leaves out what needs it.
        digest: of its files, see `embedder.embed`.

    Raises:
        WhoknowsError: the embedder is not what it was; or there is nothing to learn from any model's answers. What is
            trained on a single one is left out.
    """
    features = _features(answers, embedder, batch_tokens, digest)
    untrained = [method for method in BASELINES if method != "likelihood"]  # the answer stage itself writes that one
    tables = [
        likelihood_rows(scored, frame, method)
        for scored, frame in answers.items()
        for method in untrained
        if BASELINES[method][0] in frame
    ]
    for trained_on, seed, frames in trainable(answers, seeds):
        names = {"reader": "", "trained_on": trained_on, "seed": seed}
        tables.append(probe_rows({"task_prior": _TaskPrior(frames[trained_on])}, frames, frames.__getitem__, names))
        for method in features[trained_on]:
            vectors = {scored: controls[method] for scored, controls in features.items()}
            probe = _fit(Logistic([0], strengths), frames[trained_on], vectors[trained_on], trained_on)
            tables.append(probe_rows({method: probe}, frames, vectors.__getitem__, names))
    return pd.concat(tables, ignore_index=True)


def of_reader(
    name: str, answers: dict[str, pd.DataFrame], seeds: list[int], folder: str, strengths: list[float], sizes: list[int]
) -> pd.DataFrame:
    """Rows of one reader's probe with something taken away, or with other hidden states.

    They are probe_last (the last layer, as in the paper), probe_before (at the last token before the answer, which
    knows the question alone), probe_mean (the mean over the answer's tokens), probe_shuffled (grades of train and
    validation shuffled within task), probe_n<size> (fewer training answers, see `rows.smaller`), probe_without_<task>
    (one whole task left out) and probe_only_<task> (all others left out; of two tasks, that is the probe without the
    other one). And, trained on `ALL_MODELS` if there are several: probe, and probe_one_each (one model's answer to each
    question). What nothing can be learned from is left out.

    Raises:
        WhoknowsError: there is nothing to learn from any model's answers; what is trained on a single one is left out.
    """
    hidden, before, mean = (
        load_states(folder, name, aligned(answers), position) for position in (LAST, QUESTION, MEAN)
    )
    others = {"probe_before": before, "probe_mean": mean}
    layers = list(range(next(iter(hidden.values())).shape[1]))
    tables = []
    for trained_on, seed, frames in trainable(answers, seeds):
        names = {"reader": name, "trained_on": trained_on, "seed": seed}
        for method, frame in _variants(frames[trained_on], seed, sizes).items():
            states = others.get(method, hidden)
            probe = Logistic(layers[-1:] if method == "probe_last" else layers, strengths)
            _fit(probe, frame, states[trained_on], trained_on)
            tables.append(probe_rows({method: probe}, frames, states.__getitem__, names))
    for seed in dict.fromkeys(seeds) if len(answers) > 1 else ():  # in Jupyter one may stand there twice
        frames = divided(answers, seed)
        together = learned(frames, ALL_MODELS)
        states = torch.cat([hidden[m][torch.tensor(is_learned(frame).to_numpy())] for m, frame in frames.items()])
        for method, frame in {"probe": together, "probe_one_each": _one_each(together, seed)}.items():
            if not why_not(frame):
                probe = _fit(Logistic(layers, strengths), frame, states, ALL_MODELS)
                names = {"reader": name, "trained_on": ALL_MODELS, "seed": seed}
                tables.append(probe_rows({method: probe}, frames, hidden.__getitem__, names))
    return pd.concat(tables, ignore_index=True)


def _one_each(together: pd.DataFrame, seed: int) -> pd.DataFrame:
    """Those answers, with all but one to each question left out; the seed decides whose."""
    order = in_hash_order(together["task"] + "\n" + together["question_id"], f"one {seed}")
    chosen = together.loc[order, "question_id"].drop_duplicates().index
    return together.assign(split=together["split"].where(together.index.isin(chosen), ""))


def _variants(frame: pd.DataFrame, seed: int, sizes: list[int]) -> dict[str, pd.DataFrame]:
    """The answers that each variant of the probe learns from; an answer without split is left out."""
    variants = dict.fromkeys(("probe_last", "probe_before", "probe_mean"), frame)
    variants["probe_shuffled"] = frame.assign(correct=_shuffled(frame, seed))
    variants |= {f"probe_n{size}": some for size, some in smaller(frame, sizes, seed).items()}
    tasks = frame.loc[frame["split"] == "train", "task"].unique()
    for task in tasks if len(tasks) > 1 else ():
        there = frame["task"] == task
        some = {f"probe_without_{task}": frame.assign(split=frame["split"].mask(there, ""))}
        if len(tasks) > 2 and not category_of(task):  # a subject of MMLU is too small to be learned from alone
            some[f"probe_only_{task}"] = frame.assign(split=frame["split"].where(there, ""))
        variants |= {method: rest for method, rest in some.items() if not why_not(rest)}
    return variants


def _shuffled(frame: pd.DataFrame, seed: int) -> pd.Series:
    """Grades of train and validation answers dealt out anew within each task."""
    rng, grades = np.random.default_rng(seed), frame["correct"].copy()
    for _, group in frame[frame["split"] != "test"].groupby(["task", "split"]):
        grades[group.index] = rng.permutation(group["correct"].to_numpy())
    return grades


def _features(
    answers: dict[str, pd.DataFrame], embedder: str | None, batch_tokens: int | None, digest: str | None
) -> dict[str, dict[str, torch.Tensor]]:
    """For each model and control [answers, 1, width], as hidden states with one layer."""
    features = {}
    for scored, frame in answers.items():
        length = torch.tensor([[len(text), len(text.split())] for text in frame["answer"]], dtype=torch.float32)
        features[scored] = {"answer_length": torch.log1p(length)[:, None]}
    if embedder:
        from whoknows.models.embedder import embed  # not above: transformers takes longer than all controls without it

        seen = {"question_only": "question", "answer_only": "answer", "embedder": "both"}
        frames = [frame.assign(both=frame["question"] + " " + frame["answer"]) for frame in answers.values()]
        columns = [frame[name] for frame in frames for name in seen.values()]
        vectors = embed(embedder, [text for column in columns for text in column], batch_tokens, digest)
        vectors = iter(vectors.split([len(column) for column in columns]))
        for scored in answers:
            features[scored] |= {method: next(vectors)[:, None] for method in seen}
    return features


def _fit(probe: Logistic, frame: pd.DataFrame, hidden: torch.Tensor, trained_on: str) -> Logistic:
    train, validation = parts(frame, hidden, trained_on)
    try:
        probe.fit(train, validation)
    except WhoknowsError as error:
        raise WhoknowsError(f"controls, trained on {trained_on}: {error}") from None
    return probe


class _TaskPrior:
    """The share of right answers among a task's training answers, add-one; for an unknown task that of all."""

    def __init__(self, frame: pd.DataFrame):
        train = frame[frame["split"] == "train"]
        self.share = train.groupby("task")["correct"].agg(lambda grades: (grades.sum() + 1) / (len(grades) + 2))
        self.all = (train["correct"].sum() + 1) / (len(train) + 2)

    def score(self, frame: pd.DataFrame) -> torch.Tensor:
        return torch.logit(torch.tensor(frame["task"].map(self.share).fillna(self.all).to_numpy(np.float64)))
