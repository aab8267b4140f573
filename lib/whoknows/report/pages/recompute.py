"""The page whose numbers the browser computes anew: what it needs of the rows, as compact text.

`book/_static/recompute.js` has the same definitions as `evaluation`; a test holds its numbers against them.
"""

import base64
import json
import math
from functools import partial
from html import escape
from pathlib import Path

import numpy as np
import pandas as pd

from whoknows.data import files
from whoknows.data.methods import METHODS, TRAINED
from whoknows.data.rows import in_hash_order
from whoknows.data.tasks import grid_task
from whoknows.evaluation.auroc import MIN_PER_CLASS
from whoknows.evaluation.bootstrap import LEVEL
from whoknows.evaluation.cells import INTERVALS, native_rows
from whoknows.evaluation.metrics import BINS
from whoknows.evaluation.plateau import IMPROVING, MARK, no_verdict
from whoknows.evaluation.scores import CELL, Measure, fit_all
from whoknows.report.pages import style
from whoknows.report.pages.heatmaps import METRICS, measure_of

LARGEST = 1_500_000  # letters of confidences on the page
MOST_WORDS = 254  # of an answer; one more stands for what is not known
RESAMPLES = (500, 1000, 2000, 5000, 10000)
USUAL_RESAMPLES = 2000
UNREAD = "The numbers of this page are computed in the browser, by a script of the book, which has not run here."
NO_ANSWERS = pd.DataFrame({
    "question_id": pd.Series(dtype=str), "scored": pd.Series(dtype=str), "words": pd.Series(dtype="Int64"),
})  # fmt: skip


def answer_table(rows: pd.DataFrame, answers: dict[str, str]) -> pd.DataFrame:
    """Every test answer's scored, task, question_id, correct and words, which are missing where no file says them."""
    keys = ["scored", "task", "question_id"]
    graded = rows.loc[rows["split"] == "test", [*keys, "correct"]].drop_duplicates(keys)
    parts = [NO_ANSWERS]
    for scored, path in answers.items():
        if Path(path).exists():
            frame = files.read_parquet(path)
            words = frame["answer"].str.split().str.len().astype("Int64")
            parts.append(frame[["question_id"]].assign(scored=scored, words=words))
    return graded.merge(pd.concat(parts), "left", ["scored", "question_id"])


def fitting(rows: pd.DataFrame, largest: int = LARGEST) -> tuple[pd.DataFrame, str]:
    """Test rows that a page has room for, and a sentence on those that it leaves out, "" if on none.

    Of a run that is too large it has each cell's first seed alone, and of one that still is, a part of each task's
    questions, drawn by their hashes. A confidence takes five and a third of the `largest` letters.
    """
    room, trained, limits = largest * 3 / 16, rows["trained_on"] != "", []
    first = ~trained | (rows["seed"] == rows.groupby(CELL)["seed"].transform("min"))
    if len(rows) > room and not first.all():
        rows = rows[first]
        limits.append("with each estimator's first seed alone")
    if len(rows) > room:
        share, names = room / len(rows), rows.drop_duplicates(["task", "question_id"])
        drawn = []
        for _, part in names.groupby("task"):
            drawn += [*in_hash_order(part["question_id"], "page")[: math.ceil(share * len(part))]]
        chosen = names.loc[drawn, ["task", "question_id"]]
        rows = rows.merge(chosen, on=["task", "question_id"])
        limits.append(f"on {len(chosen):,} of {len(names):,} test questions")
    why = "the page has no room for all rows, so its numbers are not those of the other pages"
    return rows, f"Computed {' and '.join(limits)}: {why}." if limits else ""


def packed(rows: pd.DataFrame, table: pd.DataFrame, models: list[str], readers: list[str], tasks: list[dict]) -> dict:
    """All that the script needs, ready for JSON, of rows whose validation answers calibrate, and `answer_table`.

    Returns:
        Of each task its parts (measured tasks with their number of questions, which stand in this order everywhere); of
        each model's answers the grades (1, 0, or - where there is none) and words; of each cell that reading A or B
        shows, and of each training-free one that its scored model reads, the confidences by seed; and what everything
        is called.
    """
    fitted = fit_all(rows)
    test, note = fitting(_shown(rows[rows["split"] == "test"], readers))
    questions, grouped = _questions(test, tasks)
    methods = [name for name in METHODS if name in set(test["method"])]
    about = [{"title": METHODS[name].title, "hue": style.hue(name), "trained": name in TRAINED} for name in methods]
    return {
        "models": models,
        "readers": readers,
        "tasks": grouped,
        "answers": [_answers(table[table["scored"] == model], questions) for model in models],
        "cells": [_cell(key, part, questions, fitted) for key, part in test.groupby(CELL)],
        "methods": dict(zip(methods, about)),
        "metrics": {metric: _metric(metric, measure_of(metric)) for metric in METRICS},
        "readings": {reading: style.PANELS[reading] for reading in "AB"} if len(models) > 1 else {"A": style.ALONE},
        "resamples": {"options": RESAMPLES, "usual": USUAL_RESAMPLES},
        "ramp": style.RAMP,
        "black_from": style.black_from(),
        "least": MIN_PER_CLASS,
        "level": LEVEL,
        "bins": BINS,
        "mark": MARK,
        "note": note,
    }


def html(rows: pd.DataFrame, table: pd.DataFrame, models: list[str], readers: list[str], tasks: list[dict]) -> str:
    """What `packed` makes of the same as HTML, and what stands there where the book's script does not run."""
    # within a script "<" alone could end it, whatever a name holds
    data = json.dumps(packed(rows, table, models, readers, tasks), separators=(",", ":")).replace("<", "\\u003c")
    return f'<div class="recompute"><p>{escape(UNREAD)}</p><script type="application/json">{data}</script></div>'


def _shown(test: pd.DataFrame, readers: list[str]) -> pd.DataFrame:
    """Rows of the cells of both readings, and of the training-free methods of whoever reads its own answers."""
    trained = test["method"].isin([*TRAINED])
    in_reading = (test["reader"] == test["trained_on"]) | (test["reader"] == test["scored"])
    return pd.concat([test[trained & in_reading], native_rows(test[~trained], readers)])


def _questions(test: pd.DataFrame, tasks: list[dict]) -> tuple[pd.MultiIndex, list[dict]]:
    """The questions in the order of the grid's tasks, and each task with its parts; what is of no task is left out."""
    names, grouped, index = [task["name"] for task in tasks], [], []
    asked = test[["task", "question_id"]].drop_duplicates().sort_values(["task", "question_id"])
    for task in tasks:
        of_task = asked[asked["task"].map(partial(grid_task, names=names)) == task["name"]]
        sizes = of_task.groupby("task").size()
        grouped.append({"name": task["name"], "role": task["role"], "parts": [*zip(sizes.index, sizes.tolist())]})
        index += of_task.itertuples(index=False, name=None)
    return pd.MultiIndex.from_tuples(index, names=["task", "question_id"]), grouped


def _answers(table: pd.DataFrame, questions: pd.MultiIndex) -> dict[str, str]:
    placed = table.set_index(["task", "question_id"]).reindex(questions)
    words = placed["words"].clip(upper=MOST_WORDS).fillna(MOST_WORDS + 1)
    grades = placed["correct"].map({True: "1", False: "0"}).fillna("-")
    return {"grades": "".join(grades), "words": _text(words, "u1")}


def _cell(key: tuple, part: pd.DataFrame, questions: pd.MultiIndex, fitted: dict) -> dict:
    seeds = []
    for seed, rows in part.groupby("seed"):
        one = fitted[(*key[:3], seed, key[3])]
        logit = rows.set_index(["task", "question_id"])["logit"].reindex(questions)
        seeds.append({"logit": _text(logit, "<f4"), "fit": _text([one.threshold, one.slope, one.offset], "<f8")})
    return dict(zip(CELL, key)) | {"improving": IMPROVING in set(no_verdict(part)), "seeds": seeds}


def _metric(metric: str, measure: Measure) -> dict:
    return {
        "title": measure.title,
        "better": measure.is_high_better,
        "interval": metric == "auroc" or metric in INTERVALS,
        "chance": 0.5 if metric.endswith("auroc") else None,
    }


def _text(values, kind: str) -> str:
    """Numbers as base64 of their bytes; NaN where they are missing."""
    return base64.b64encode(np.asarray(values, dtype=kind).tobytes()).decode()
