"""Questions that users bring: a task's own file, checked line by line before anything runs."""

import re
import warnings

import numpy as np
import pandas as pd

from whoknows import WhoknowsError
from whoknows.data import tables
from whoknows.data.grading import GRADINGS, canonical, held, is_one_number, normalise, wording
from whoknows.data.prompts import LETTERS, as_choice
from whoknows.data.tasks import LEARNED

LONGEST = 8000  # characters of a question that is asked: some 2,000 tokens
SPLITS = ("train", "validation", "test", "shot")
COLUMNS = ("question", "answer", "answers", "choices", "id", "task", "split")


def load(task: dict) -> pd.DataFrame:
    """The questions of a task that has a file; a warning counts those that are left out.

    Args:
        task: name, role and file; where the grid says them columns, grading, tolerance and judge (url and model);
            has_splits if every question needs a split.

    Returns:
        The columns of `questions.load`; task has the file's topic behind its name, id and split are as the file says.
        Questions of one key that are not the same have their canonical form as key, so that no two have one id.

    Raises:
        WhoknowsError: the file or one of its lines is wrong.
    """
    path = task["file"]
    rows = _rows(task)
    grading = task.get("grading") or ("choice" if rows["choices"].notna().any() else "contains")
    parts = [_question(task, grading, path, line, row) for line, row in zip(rows.index, rows.to_dict("records"))]
    table = pd.DataFrame(parts, index=rows.index)
    _check(path, table, grading)
    _check_topics(path, table, task["name"])
    is_for_training = table["split"].isin((LEARNED, "train", "validation"))
    left_out = {
        "stand there twice": table["form"].duplicated() | table["same"].duplicated(),
        f"are longer than {LONGEST:,} characters": table["question"].str.len() > LONGEST,
        "are for training, but the task's role is shift": is_for_training & (task["role"] == "shift"),
    }
    kept = ~pd.DataFrame(left_out).any(axis=1)
    why = "; ".join(f"{some.sum():,} {reason}" for reason, some in left_out.items() if some.any())
    if why:
        warnings.warn(f"{path}: {(~kept).sum():,} of {len(table):,} questions are left out: {why}", stacklevel=2)
    table = table[kept].reset_index(drop=True)
    table["key"] = table["key"].mask(table["key"].duplicated(keep=False), table["form"])
    return table.drop(columns=["form", "same", "stem_form", "topic"])


def counted(questions: pd.DataFrame) -> str:
    """How many questions of one task there are in each split, in words; `questions.build` returns them."""
    counts = questions["split"].value_counts()
    parts = ", ".join(f"{counts[split]:,} {split}" for split in SPLITS if split in counts)
    return f"{len(questions):,} questions: {parts}."


def advice(questions: pd.DataFrame) -> list[str]:
    """Sentences on accepted answers that may be taken for something else than they are.

    Args:
        questions: of one task, as `load` or `questions.build` returns them.
    """
    golds, is_open = questions["gold"], questions["kind"] == GRADINGS["contains"]
    barred, parted, broken = (golds.map(lambda gold: any(sign in text for text in gold)).sum() for sign in "|;\n")
    asked = questions[is_open]
    inside = sum(any(held(name, text) for name in gold) for gold, text in zip(asked["gold"], asked["question"]))
    part = "which is part of it: only the column answers is split at bars"
    counts = {
        f"have an accepted answer with a |, {part}": barred,
        f"have an accepted answer with a ;, {part}": parted,
        "have an accepted answer of several lines, which is one; in the column answers a | parts several": broken,
        "hold an accepted answer in their first line, so an answer with other words of it is wrong; "
        "grading: exact or choice is without this rule": inside,
    }
    sentences = [f"{count:,} questions {what}." for what, count in counts.items() if count]
    by_words = golds[is_open | (questions["kind"] == GRADINGS["exact"])]
    numbers = by_words.map(lambda gold: all(map(_is_numeral, gold)))
    if numbers.mean() > 0.5:
        what = "so 1.50 is not 1.5; with grading: number they are compared as numbers"
        sentences.append(f"The accepted answers of {numbers.sum():,} questions are numbers, compared as texts, {what}.")
    return sentences


def _is_numeral(text: str) -> bool:
    return is_one_number(text) and not re.search(r"[^\W\d_]", text)


def _rows(task: dict) -> pd.DataFrame:
    path, columns = task["file"], task.get("columns") or {}
    either = {"answer", "answers"}
    # A column answer beside a named column of accepted answers may well be a model's.
    taken = [name for name in COLUMNS if name in columns or name not in either or not either & {*columns}]
    rows = tables.read(path, columns, ["question"], taken)
    if not either & {*rows}:
        raise WhoknowsError(
            f"{path}: there is no column 'answer' or 'answers'; it has {', '.join(map(str, rows))}. "
            "Rename one, or write columns: {answer: …} in the grid."
        )
    return rows.reindex(columns=taken).reindex(columns=COLUMNS).astype(object).where(lambda cells: cells.notna(), None)


def _question(task: dict, grading: str, path: str, line: int, row: dict) -> dict:
    try:
        text = _text(row["question"])
        if not normalise(text):
            raise ValueError("the question is empty; write one, or remove the line")
        given = [*([] if row["answer"] is None else [row["answer"]]), *tables.texts(row["answers"])]
        gold = list(dict.fromkeys(answer for answer in map(_text, given) if answer))
        if not gold:
            raise ValueError("the question has no accepted answer; write one, or remove the line")
        question, gold = _choices(text, gold, row["choices"]) if grading == "choice" else (text, gold)
        odd = next((answer for answer in gold if grading == "number" and not is_one_number(answer)), None)
        if odd is not None:
            what = "is not one number, such as 1000.5 or 2 million, and at most its unit; correct it, or the grading"
            raise ValueError(f"the accepted answer {odd!r} {what}")
        split = _text(row["split"]).lower()
        if task.get("has_splits") and not split:
            raise ValueError("the question has no split; write train or test: a released adapter may have learned it")
        if split not in ("", LEARNED, *SPLITS):
            raise ValueError(f"the split is {split!r}; write {', '.join(SPLITS[:-1])} or {SPLITS[-1]}, or nothing")
        topic, identifier = _text(row["task"]), _text(row["id"])
    except ValueError as wrong:
        raise tables.mistake(path, line, str(wrong)) from None
    name = re.sub(r"\W+", "-", topic).strip("-_")
    kind = GRADINGS[grading] + (f" {task['tolerance']:g}" if grading == "number" and task.get("tolerance") else "")
    kind += " {url} {model}".format(**task["judge"]) if grading == "judge" else ""
    names = {"task": f"{task['name']}_{name}" if name else task["name"], "topic": topic}
    names |= {"id": identifier, "split": split}
    # Questions of one wording, ¿Quién? and Quién, are in one split, and with the same answers they are one question.
    keys = {"key": normalise(question), "stem": normalise(wording(text)), "wording": wording(text)}
    keys |= {"form": canonical(question), "stem_form": canonical(text), "same": f"{wording(question)}\n{sorted(gold)}"}
    return {"question": question, "gold": gold, "kind": kind} | keys | names


def _text(value) -> str:
    """A cell's text in lines without blank ones; numbers as they are written, nothing as nothing."""
    if isinstance(value, np.generic):
        value = value.item()  # of a list in Parquet
    if isinstance(value, float) and value.is_integer():
        value = int(value)  # a column of whole numbers with a gap is one of floats
    if isinstance(value, dict):
        part = next(iter(value), "text")
        raise ValueError(f"{value!r:.60} has parts; name one in the task's columns, as in {{answers: answers.{part}}}")
    if isinstance(value, bool) or not isinstance(value, (str, int, float, type(None))):
        raise ValueError(f"{value!r:.60} is no text; write it as text")
    if isinstance(value, str) and re.search("[\ud800-\udfff\0]", value):
        raise ValueError("a text holds half a character; write the file anew as UTF-8")
    return tables.tidy(str("" if value is None else value))


def _choices(question: str, gold: list[str], value) -> tuple[str, list[str]]:
    """The question with its lettered choices, and the letter of the accepted one, given by text or letter."""
    choices = [choice for choice in map(_text, tables.texts(value)) if choice]
    if not 2 <= len(choices) <= len(LETTERS):
        raise ValueError(f"the question has {len(choices)} choices; give two to {len(LETTERS)}")
    if len(set(choices)) < len(choices):
        raise ValueError("two choices are the same; change one of them")
    letters = dict(zip(LETTERS, choices))
    right = {answer if answer in choices else letters.get(answer.upper(), "") for answer in gold} & {*choices}
    if len(right) != 1:
        raise ValueError(
            f"the accepted answer {' | '.join(gold)!r:.60} should be one of the choices, or its letter, "
            f"but the choices are {' | '.join(choices)!r:.200}"
        )
    return as_choice(question, choices, *right)


def _check_topics(path: str, table: pd.DataFrame, name: str) -> None:
    """Raises if some questions have a topic and others none, or if two topics become one task."""
    bare = table.index[table["task"] == name]
    if 0 < len(bare) < len(table):
        what = "the question has no topic, but others have one in the column task; write one in every line, or in none"
        raise tables.mistake(path, bare[0], what)
    first = table.groupby("task")["topic"].transform("first")
    wrong = table.index[table["topic"] != first]
    if len(wrong):
        both = f"{table['topic'][wrong[0]]!r} and {first[wrong[0]]!r}"
        what = f"the topics {both} are both the task {table['task'][wrong[0]]!r}; write them alike, or in other letters"
        raise tables.mistake(path, wrong[0], what)


def _check(path: str, table: pd.DataFrame, grading: str) -> None:
    """Raises if a question stands there twice with other answers or in another split, or all have one letter."""
    for column, same, other in (("gold", "form", "other accepted answers"), ("split", "stem_form", "another split")):
        values = table[column].map(str)
        wrong = table.index[values != values.groupby(table[same]).transform("first")]
        if len(wrong):
            first = table.index[table[same] == table[same][wrong[0]]][0]
            what = f"this question stands in line {first} already, with {other}; remove one of the two"
            raise tables.mistake(path, wrong[0], what)
    named = table["id"][table["id"] != ""]
    if named.duplicated().any():
        line = named.index[named.duplicated()][0]
        raise tables.mistake(path, line, f"another question has the id {named[line]!r}; ids differ, or are left out")
    if grading == "choice" and len(table) > 1 and table["gold"].map(str).nunique() == 1:
        raise WhoknowsError(
            f"{path}: the right choice is {table['gold'].iloc[0][0]} in every line, so a model that always says it "
            "knows nothing and is right; put the choices into another order."
        )
