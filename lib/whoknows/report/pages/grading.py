"""Other ways to grade the same answers, and what the heatmaps would be under each.

Estimators stay as they are, taught by the grid's own grades; only the grades of the answers that they judge change.
"""

from collections import Counter
from pathlib import Path

import numpy as np
import pandas as pd

from whoknows import WhoknowsError
from whoknows.data import files
from whoknows.data.matching import accepted, asked_in, holds, same, words
from whoknows.evaluation.cells import enough, heatmap_table, measure, test_sets
from whoknows.evaluation.scores import POOLED, by_task
from whoknows.report.pages.heatmaps import heatmaps_html
from whoknows.report.pages.style import signed, span

ENOUGH_SHARED = 0.5  # token F1 from which an answer counts as right
GRADINGS = {
    "contains": "exact match or containment, as in the run",
    "exact": "exact match",
    "f1": "token F1 of one half or more",
    "judge": "a judge model",
}


def token_f1(answer: str, gold: list[str]) -> float:
    """The highest F1 of the normalised words of an answer and of an accepted answer (Rajpurkar et al. 2016)."""
    return max((_f1(words(answer).split(), words(g).split()) or float(same(answer, g)) for g in gold), default=0.0)


def _f1(said: list[str], wanted: list[str]) -> float:
    shared = sum((Counter(said) & Counter(wanted)).values())
    return 2 * shared / (len(said) + len(wanted)) if shared else 0.0


def grades(answers: dict[str, str], judged: str | None = None) -> pd.DataFrame:
    """Every answer's grades.

    Args:
        answers: for each scored model, the file of its answers; what is not there yet is left out.
        judged: folder of the judge's verdicts, if the grid has a judge.

    Returns:
        scored, question_id, task, split and columns of bool: each grading; held, whether the question itself holds an accepted answer;
        and echo, whether the answer holds such a one and is wrong, since that is no proof. Multiple choice and names have one way to be
        graded. The judge reads test answers alone; the others keep the run's grade.

    Raises:
        WhoknowsError: none of the files is there.
    """
    parts = []
    for scored, path in answers.items():
        if not Path(path).exists():
            continue
        frame = files.read_parquet(path)
        table = frame[["question_id", "task", "split"]].assign(scored=scored, contains=frame["correct"])
        text = frame["kind"] == "open"
        names = [accepted(gold, question) for gold, question in zip(frame["gold"], frame["question"])]
        exact = pd.Series(
            [any(same(a, name) for name in own) for a, own in zip(frame["answer"], names)], index=frame.index
        )
        f1 = pd.Series([token_f1(a, own) >= ENOUGH_SHARED for a, own in zip(frame["answer"], names)], index=frame.index)
        table["exact"], table["f1"] = exact.where(text, frame["correct"]), f1.where(text, frame["correct"])
        inside = [
            [name for name in map(words, gold) if name and holds(asked_in(q), name)]
            for gold, q in zip(frame["gold"], frame["question"])
        ]
        table["held"] = text & np.array([*map(bool, inside)])
        table["echo"] = (
            text
            & ~frame["correct"]
            & np.array([any(holds(words(a), name) for name in own) for a, own in zip(frame["answer"], inside)])
        )
        verdicts = Path(judged or "") / f"{scored}.parquet"
        if judged and verdicts.exists():
            found = files.read_parquet(verdicts).set_index("question_id")["right"]
            table["judge"] = [found.get(q, default) for q, default in zip(frame["question_id"], frame["correct"])]
        parts.append(table)
    if not parts:
        raise WhoknowsError(f"grading: none of {', '.join(answers.values())} is there: run the answer stage first")
    return pd.concat(parts, ignore_index=True)


def agreement(table: pd.DataFrame, tasks: list[dict]) -> pd.DataFrame:
    """For each scored model and test set: test answers, right ones under each grading, and the share on which all agree.

    Args:
        table: as `grades` returns.
        tasks: the grid's tasks, dicts with name and role.
    """
    test, lines = table[table["split"] == "test"], []
    names = [name for name in GRADINGS if name in table]
    for label, members in test_sets(tasks, sorted(table["task"].unique())).items():
        for scored, own in test[test["task"].isin(members)].groupby("scored", sort=False):
            right = {name: int(own[name].sum()) for name in names}
            alike = (own[names].nunique(axis=1) == 1).mean()
            lines.append({"test_set": label, "scored": scored, "answers": len(own)} | right | {"all agree": alike})
    return pd.DataFrame(lines)


def heatmaps_under(rows: pd.DataFrame, table: pd.DataFrame, models: list[str], tasks: list[dict]) -> pd.DataFrame:
    """The heatmaps' table, once for each grading of the test answers, with its description in the column grading.

    Args:
        rows: rows of any methods.
        table: as `grades` returns.
    """
    found, place = [], pd.MultiIndex.from_frame(rows[["scored", "question_id"]])
    by_answer = table.set_index(["scored", "question_id"])
    for name in (name for name in GRADINGS if name in table):
        graded = rows.assign(correct=by_answer[name].reindex(place).to_numpy(bool))
        cells = measure(graded, by_task(graded, only_auroc=True), tasks).drop(
            columns=f"{POOLED}auroc"
        )  # which would have no interval here
        cells = heatmap_table(enough(cells), models, tasks)
        found.append(cells.assign(grading=GRADINGS[name]))
    return pd.concat(found, ignore_index=True)


def gradings_html(table: pd.DataFrame, models: list[str]) -> str:
    """The numbers of the heatmaps under each grading, as HTML tables that fold away.

    Args:
        table: as `grading.heatmaps_under` returns.
    """
    parts = [
        heatmaps_html(own, models).replace("The same numbers as tables", grading, 1)
        for grading, own in table.groupby("grading", sort=False)
    ]
    return "\n".join(parts)


def agreement_html(table: pd.DataFrame) -> str:
    """Right answers under each grading, as an HTML table.

    Args:
        table: as `grading.agreement` returns.
    """
    shown = table.assign(**{"all agree": table["all agree"].map("{:.1%}".format)})
    return shown.rename(
        columns={"test_set": "Test questions", "scored": "Model", "answers": "Answers", "all agree": "All agree"}
        | GRADINGS
    ).to_html(index=False, classes="metrics")


def grading_sentences(table: pd.DataFrame) -> str:
    """How far the cells move when the same answers are graded otherwise, as Markdown.

    Args:
        table: as `grading.heatmaps_under` returns.
    """
    first = table[(table["test_set"] == table["test_set"].iloc[0]) & (table["reading"] == "A")]
    wide = first.pivot(index=["method", "model", "trained_on"], columns="grading", values="auroc")[
        first["grading"].unique()
    ]
    usual, *others = wide.columns
    said = [
        f"On {first['test_set'].iloc[0]} test questions, in reading A, with {usual}, cells reach {span(f'{wide[usual].min():.2f}', f'{wide[usual].max():.2f}')}."
    ]
    for name in others:
        moved = (wide[name] - wide[usual]).dropna()
        if len(moved):
            said.append(
                f"With {name}, they move by {signed(moved.mean())} on average, from {signed(moved.min())} to {signed(moved.max())}."
            )
    return " ".join(said)


def held_sentences(grades: pd.DataFrame) -> str:
    """How many questions hold an accepted answer themselves, and how many answers hold that alone and so count as wrong, as Markdown.

    Args:
        grades: as `grading.grades` returns.
    """
    test = grades[grades["split"] == "test"]
    questions = test.drop_duplicates("question_id")
    echoes = " and ".join(f"{own['echo'].sum()} of {scored}" for scored, own in test.groupby("scored", sort=False))
    return f"Of {len(questions)} test questions, {questions['held'].sum()} hold an accepted answer themselves. Answers that hold no other one, and count as wrong for it: {echoes}."
