"""The sweep: what a probe reaches at every layer, strength and number of training answers, for an interactive chart.

Nothing is chosen here. The report's probes choose by validation answers alone; the test values of the sweep are for
looking.
"""

import pandas as pd
import torch

from whoknows.data.rows import divided, smaller
from whoknows.estimators.hidden import load_hidden
from whoknows.estimators.probe import Labelled, Logistic
from whoknows.stages.lessons import lessons
from whoknows.stages.probe import parts


def run(
    name: str, answers: dict[str, pd.DataFrame], seed: int, folder: str, strengths: list[float], sizes: list[int]
) -> pd.DataFrame:
    """The sweep stage: probes of one reader on every model's answers, at every layer, strength and size.

    Args:
        name: the reader's.
        folder: its features.
        strengths: of the L2 penalty.
        sizes: numbers of training answers; those that are not fewer than there are, or are of one class, are left out.

    Returns:
        reader, trained_on, scored, size (all training answers are the largest), layer, last_layer, strength, auroc (on
        the test answers of the tasks that were trained on), n_rarer (of these answers, those of the rarer class) and
        validation_auroc (of the model that was trained on); both within task.

    Raises:
        WhoknowsError: there is nothing to learn from any model's answers; what is trained on a single one is left out.
    """
    frames = divided(answers, seed)
    hidden = {scored: load_hidden(folder, scored, frame) for scored, frame in frames.items()}
    tests = {scored: _test(frames[scored], hidden[scored]) for scored in frames}
    n_rarer = {scored: min(test.correct.sum(), (~test.correct).sum()) for scored, test in tests.items()}
    layers, tables = list(range(next(iter(hidden.values())).shape[1])), []
    for trained_on, _, _ in lessons(answers, [seed]):
        frame = frames[trained_on]
        every = int((frame["split"] == "train").sum())
        for size, some in (smaller(frame, sizes, seed) | {every: frame}).items():
            search = pd.DataFrame(Logistic(layers, strengths).fit(*parts(some, hidden[trained_on], trained_on), tests))
            long = search.melt(["layer", "strength", "validation_auroc"], list(tests), "scored", "auroc")
            long = long.assign(reader=name, trained_on=trained_on, size=size, last_layer=layers[-1])
            tables.append(long.assign(n_rarer=long["scored"].map(n_rarer)))
    return pd.concat(tables, ignore_index=True)


def _test(frame: pd.DataFrame, hidden: torch.Tensor) -> Labelled:
    """The test answers of the tasks that were trained on."""
    every = Labelled(hidden, frame["correct"].to_numpy(), frame["task"].to_numpy())
    learned = frame.loc[frame["split"] == "train", "task"].unique()
    return every.part(((frame["split"] == "test") & frame["task"].isin(learned)).to_numpy())
