"""The sweep: what a probe reaches at every layer, strength, number of training answers and position, for the charts.

Nothing is chosen here. The report's probes choose by validation answers alone; the test values of the sweep are for
looking.
"""

import numpy as np
import pandas as pd
import torch

from whoknows.data.positions import LAST
from whoknows.data.rows import divided, smaller
from whoknows.estimators.hidden import load_states
from whoknows.estimators.probe import Labelled, Logistic
from whoknows.stages.probe import parts
from whoknows.stages.trainable import trainable


def run(
    name: str, answers: dict[str, pd.DataFrame], seed: int, folder: str, strengths: list[float], sizes: list[int],
    positions: list[str],
) -> pd.DataFrame:  # fmt: skip
    """The sweep stage: probes of one reader at every layer and strength.

    At the answer's last token they are of every model's answers and every size; at other positions, of all training
    answers of the reader itself. A position is left out where its hidden states are missing from training answers.

    Args:
        name: the reader's.
        folder: its features.
        strengths: of the L2 penalty.
        sizes: numbers of training answers, see `rows.smaller`.
        positions: those of `data.positions` that were kept.

    Returns:
        reader, position, trained_on, scored, size (all training answers are the largest), layer, last_layer, strength,
        auroc (on the test answers of the tasks that were trained on), n_rarer (of these answers, those of the rarer
        class) and validation_auroc (of the model that was trained on); both within task.

    Raises:
        WhoknowsError: there is nothing to learn from any model's answers; what is trained on a single one is left out.
    """
    frames, tables = divided(answers, seed), []
    learned = [trained_on for trained_on, _, _ in trainable(answers, [seed])]
    for position in positions:
        hidden = load_states(folder, name, frames, position, None if position == LAST else [name])
        tests = {scored: _test(frames[scored], states) for scored, states in hidden.items()}
        for trained_on in filter(hidden.__contains__, learned):
            frame = frames[trained_on]
            is_train = (frame["split"] == "train").to_numpy(copy=True)  # torch wants a mask that it may write to
            if hidden[trained_on][is_train, 0].isnan().any():
                continue
            some = smaller(frame, sizes, seed) if position == LAST else {}
            for size, part in (some | {int(is_train.sum()): frame}).items():
                table = _searched(part, hidden[trained_on], trained_on, tests, strengths)
                tables.append(table.assign(reader=name, position=position, trained_on=trained_on, size=size))
    return pd.concat(tables, ignore_index=True)


def _searched(
    frame: pd.DataFrame, hidden: torch.Tensor, name: str, tests: dict[str, Labelled], strengths: list[float]
) -> pd.DataFrame:
    """The search of one probe at all layers, with a line for each scored model."""
    layers = list(range(hidden.shape[1]))
    search = pd.DataFrame(Logistic(layers, strengths).fit(*parts(frame, hidden, name), tests))
    table = search.melt(["layer", "strength", "validation_auroc"], list(tests), "scored", "auroc")
    n_rarer = {scored: _rarer(test) for scored, test in tests.items()}
    return table.assign(last_layer=layers[-1], n_rarer=table["scored"].map(n_rarer))


def _rarer(test: Labelled) -> int:
    """Answers of each task's rarer grade, on which an AUROC within task rests."""
    right = pd.Series(test.correct).groupby(test.task).agg(["sum", "size"])
    return int(np.minimum(right["sum"], right["size"] - right["sum"]).sum())


def _test(frame: pd.DataFrame, hidden: torch.Tensor) -> Labelled:
    """The test answers of the tasks that were trained on."""
    every = Labelled(hidden, frame["correct"].to_numpy(), frame["task"].to_numpy())
    learned = frame.loc[frame["split"] == "train", "task"].unique()
    return every.part(((frame["split"] == "test") & frame["task"].isin(learned)).to_numpy())
