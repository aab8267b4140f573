"""Other ways to grade the same answers, and what the heatmaps would be under each.

Estimators stay as they are, trained on the grid's own grades; only the grades of the answers that they score change.
"""

from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd

from whoknows import WhoknowsError
from whoknows.data import files
from whoknows.data.grading import ENOUGH_SHARED, accepted, held, named, same, shows, token_f1
from whoknows.data.tasks import grid_task
from whoknows.evaluation.cells import COMPARED, READINGS, enough, first_heatmap, heatmap_table, measure, test_sets
from whoknows.evaluation.scores import POOLED, by_task
from whoknows.report.pages.heatmaps import heatmaps_html
from whoknows.report.pages.style import columns_html, percent, signed, span

GRADINGS = {
    "contains": "the run's own grades",
    "exact": "exact match",
    "f1": "token F1 of one half or more",
    "judge": "a judge model",
}
# How the run has graded a task, by what `named` says of its questions.
OPEN = "exact match or containment"
IN_THE_RUN = GRADINGS | {
    "contains": OPEN,
    "choice": "the letter of the choice",
    "name": "the name before the first comma or bracket",
    "number": "the first number",
}
GIVEN = "the grades that came with them"


def grades(answers: dict[str, str], judged: str | None = None) -> pd.DataFrame:
    """Every answer's grades; questions of another kind than open ones have one way to be graded.

    Args:
        judged: folder of the judge's verdicts, which are on test answers alone; the others keep the run's grade.

    Returns:
        scored, question_id, task, split and columns of bool: each grading, of which judge is missing where it has no
        verdict; in_the_run, how the run grades the answer; given, whether its grade came with it instead; held, whether
        the question itself holds an accepted answer; and echo, whether the answer holds such a one and is wrong, since
        that is no proof.

    Raises:
        WhoknowsError: none of the files is there.
    """
    parts = []
    for scored, path in zip(answers, map(Path, answers.values())):
        if path.exists():
            verdicts = Path(judged, f"{scored}.parquet") if judged else None
            parts.append(_grades(files.read_parquet(path), verdicts).assign(scored=scored))
    if not parts:
        raise WhoknowsError(f"grading: none of {', '.join(answers.values())} is there: run the answer stage first")
    return pd.concat(parts, ignore_index=True)


def _grades(frame: pd.DataFrame, verdicts: Path | None) -> pd.DataFrame:
    """What `grades` returns of one model's answers; judge is among it if the file of its verdicts is there."""
    how = [IN_THE_RUN[named(kind).split(" ")[0]] for kind in frame["kind"]]
    table = frame[["question_id", "task", "split"]].assign(contains=frame["correct"], in_the_run=how)
    table["given"] = frame.get("given", False)
    is_open = (frame["kind"] == "open").to_numpy()
    exact, f1, holding, echoed = [], [], [], []
    for answer, question, gold in zip(frame["answer"], frame["question"], frame["gold"]):
        names = accepted(gold, question)
        exact.append(any(same(answer, name) for name in names))
        f1.append(token_f1(answer, names) >= ENOUGH_SHARED)
        inside = [name for name in gold if held(name, question)]
        holding.append(bool(inside))
        echoed.append(any(shows(answer, name) for name in inside))
    table["exact"], table["f1"] = (np.where(is_open, values, frame["correct"]) for values in (exact, f1))
    table["held"] = is_open & np.array(holding)
    table["echo"] = is_open & ~frame["correct"] & np.array(echoed)
    if verdicts and verdicts.exists():
        right = files.read_parquet(verdicts).set_index("question_id")["right"]
        read = is_open & (frame["split"] == "test")
        table["judge"] = frame["correct"].where(~read, frame["question_id"].map(right)).astype("boolean")
    return table


def agreement(table: pd.DataFrame, tasks: list[dict]) -> pd.DataFrame:
    """For each scored model and test set: answers, right ones under each grading, and the share on which all agree.

    Answers without the judge's verdict are left out.
    """
    names = [name for name in GRADINGS if name in table]
    test, lines = table[table["split"] == "test"].dropna(subset=names), []
    for label, members in test_sets(tasks, sorted(table["task"].unique())).items():
        for scored, group in test[test["task"].isin(members)].groupby("scored", sort=False):
            right = {name: int(group[name].sum()) for name in names}
            alike = (group[names].nunique(axis=1) == 1).mean()
            lines.append({"test_set": label, "scored": scored, "answers": len(group)} | right | {"all agree": alike})
    return pd.DataFrame(lines)


def heatmaps_under(
    rows: pd.DataFrame, table: pd.DataFrame, models: list[str], tasks: list[dict], readers: list[str] | None = None,
    methods: Sequence[str] = COMPARED,
) -> pd.DataFrame:  # fmt: skip
    """The heatmaps' table, once for each grading of the test answers, with its description in the column grading.

    Answers that a grading does not have are left out of its cells.
    """
    parts, place = [], pd.MultiIndex.from_frame(rows[["scored", "question_id"]])
    by_answer = table.set_index(["scored", "question_id"])
    for name in (name for name in GRADINGS if name in table):
        graded = rows.assign(correct=by_answer[name].reindex(place).array).dropna(subset="correct")
        graded = graded.astype({"correct": bool})
        cells = measure(graded, by_task(graded, only_auroc=True), tasks)
        cells = cells.drop(columns=f"{POOLED}auroc")  # which would have no interval here
        places = heatmap_table(enough(cells), models, tasks, readers, methods)
        parts.append(places.assign(grading=GRADINGS[name]))
    return pd.concat(parts, ignore_index=True)


def gradings_html(table: pd.DataFrame, models: list[str]) -> str:
    """The numbers of `heatmaps_under`, as HTML tables that fold away, one for each grading."""
    parts = table.groupby("grading", sort=False)
    return "\n".join(heatmaps_html(group, models, summary=grading) for grading, group in parts)


def agreement_html(table: pd.DataFrame) -> str:
    """What `agreement` returns as an HTML table: right answers under each grading."""
    titles = {"test_set": "Test questions", "scored": "Model", "answers": "Answers"} | GRADINGS
    columns = {name: titles.get(name, "All agree") for name in table}
    return columns_html(table, columns, "metrics", **{"all agree": partial(percent, digits=1)})


def grading_sentences(table: pd.DataFrame) -> str:
    """How far the cells of `heatmaps_under` move when the same answers are graded otherwise, as Markdown."""
    first = first_heatmap(table)
    first = first[first["method"].isin(COMPARED)]  # what the picture shows as it opens
    wide = first.pivot(index=["method", "model", "trained_on"], columns="grading", values="auroc")
    usual, *others = first["grading"].unique()
    reading = ", in reading A" if {*READINGS} <= {*table["reading"]} else ""
    where = f"On {first['test_set'].iloc[0]} test questions{reading}"
    if wide[usual].isna().all():
        return f"{where}, no cell has a value with {usual}."
    reached = span(f"{wide[usual].min():.2f}", f"{wide[usual].max():.2f}")
    sentences = [f"{where}, with {usual}, cells reach {reached}."]
    for name in others:
        moved = (wide[name] - wide[usual]).dropna()
        if len(moved):
            ends = f"from {signed(moved.min())} to {signed(moved.max())}"
            sentences.append(f"With {name}, they move by {signed(moved.mean())} on average, {ends}.")
    return " ".join(sentences)


def run_sentences(table: pd.DataFrame, tasks: list[dict]) -> str:
    """How the run has graded the test answers (`grades`) of each task, and which are graded in other ways here."""
    test, names = table[table["split"] == "test"], [task["name"] for task in tasks]
    of = test["task"].map({task: grid_task(task, names) or task for task in test["task"].unique()})
    whose = test["scored"].where(test["given"], "")
    graded = [
        f"the answers {name and f'of {name} '}to {', '.join(f'`{task}`' for task in group.unique())} by {how}"
        for (how, name), group in of.groupby([test["in_the_run"].mask(test["given"], GIVEN), whose], sort=False)
    ]
    others = f" Only answers to questions that are graded by {OPEN} are graded in other ways here; "
    others += "all others keep the run's grades."
    return f" The run has graded {'; '.join(graded)}.{others if {*test['in_the_run']} != {OPEN} else ''}"


def judged_sentences(table: pd.DataFrame) -> str:
    """How many of the `grades` that a judge is compared on have no verdict, as a further sentence; or ""."""
    test = table[(table["split"] == "test") & (table["in_the_run"] == OPEN)]
    missing = test.loc[test.get("judge", test["contains"]).isna(), "scored"].value_counts(sort=False)
    by_model = " and ".join(f"{count:,} of {scored}" for scored, count in missing.items())
    if not by_model:
        return ""
    return (
        f" The judge gave no verdict on {missing.sum():,} of {len(test):,} test answers ({by_model}). They are left "
        "out of its heatmaps and of the table of agreement."
    )


def held_sentences(grades: pd.DataFrame) -> str:
    """How many open questions hold an accepted answer, and how many answers hold only such a one, and so are wrong."""
    test = grades[(grades["split"] == "test") & (grades["in_the_run"] == OPEN) & ~grades["given"]]
    if test.empty:
        return "The run has graded no answer to an open test question, so that this does not apply here."
    held = test.drop_duplicates("question_id")["held"]
    echoes = test.groupby("scored", sort=False)["echo"].sum()
    by_model = " and ".join(f"{count:,} of {scored}" for scored, count in echoes.items())
    return (
        f"Of {len(held):,} open test questions, {held.sum():,} hold an accepted answer themselves. "
        f"Answers that hold no other one, and count as wrong for it: {by_model}."
    )
