"""Questions: which ones are asked, and which split each belongs to.

A split depends on nothing but the question's words, so it is the same for every model,
every grid and every machine, and a question that two data sets share cannot sit in two splits.
"""

import gzip
import hashlib
import json
import re
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa

from whoknows import WhoknowsError
from whoknows.data import assets, places, question_files, tables
from whoknows.data.grading import holds, normalise, wording
from whoknows.data.prompts import as_choice
from whoknows.data.tasks import BASIC_SKILLS, FOLDERS, LEARNED, PLACES, TASKS, grid_task

SHOTS_LENGTH = 4000  # characters of a task's few-shot questions, at most: every question is read behind them
SHOT = "shot"  # the split of few-shot examples: in the file, in no split
FEW = 5  # a user's file may hold little: one question in so many is an example, at most
MADE_OF_PLACES = {"cities": places.cities, "capitals": places.capitals}
NUMBERS = "zero one two three four five six seven eight nine ten eleven twelve".split()
PASSAGE = 500  # characters of a passage, at most

# The open-ended form of a question that points at its choices cannot be answered. MMLU is kept whole,
# as in the paper: four of its 57 subjects have no other questions.
NEEDS_CHOICES = re.compile(r"\bfollowing\b|\bof these\b|_{2,}|\ball of the above\b|\bexcept\b", re.IGNORECASE)


def position(question: str, salt: str) -> float:
    """A number in [0, 1) that depends on the normalised question and the salt alone."""
    digest = hashlib.sha256(f"{salt}\n{normalise(question)}".encode()).digest()
    return int.from_bytes(digest[:6], "big") / 2**48


def split_of(question: str, splits: dict[str, float]) -> str:
    """The split of a question, by the hash of its normalised text and the share of each split, which sum to 1."""
    place = position(question, "split")
    if place < splits["train"]:
        return "train"
    return "validation" if place < splits["train"] + splits["validation"] else "test"


def build(tasks: list[dict], splits: dict[str, float], shots: int) -> pd.DataFrame:
    """All questions of a grid, with their splits and their few-shot examples.

    Args:
        tasks: dicts with `name` and `role`; a `shift` task has test questions only. With `size` so many are asked, else
            all; with `file` they are a user's, see `question_files.load`; with `learned`, dicts with `file` and
            `question`, its column: what stands there is no test question.
        splits: share of each split among the questions of the `train` tasks.
        shots: few-shot examples for each task (each subject, for MMLU); fewer where they are long, see `SHOTS_LENGTH`.

    Returns:
        One row a question: question_id, task, split (train, validation, test or shot), question, gold (accepted
        answers), kind (see `grading.grade`).

    Raises:
        WhoknowsError: a task has fewer questions than the grid asks for, two tasks have a name or an id in common, or
            the splits do not sum to 1.
    """
    if abs(sum(splits.values()) - 1) > 1e-6:  # of a grid they do
        raise WhoknowsError(f"splits should sum to 1, but sum to {sum(splits.values()):g}; give all three.")
    taken: dict[str, set[str]] = {"train": set(), "open": set(), "choice": set()}
    frames = []
    for task in tasks:
        pool = question_files.load(task) if "file" in task else load(task["name"])
        kind = "choice" if pool["kind"].eq("choice").any() else "open"
        # What was trained on or shown is not asked again in whichever form; what only tests may be asked in both.
        barred = taken["train"] | taken[kind] if task["role"] == "shift" else set().union(*taken.values())
        is_free = ~pool["wording"].isin(barred)
        if "file" in task and not is_free.all():
            text = f"{(~is_free).sum():,} questions are left out: an earlier task has them"
            warnings.warn(f"{task['file']}: {text}", stacklevel=2)
        is_learned = pool["wording"].isin(_learned(task)) & ((pool["split"] == "test") | (task["role"] == "shift"))
        if is_learned.any():
            text = f"{is_learned.sum():,} questions are left out: a released adapter learned them"
            warnings.warn(f"task {task['name']!r}: {text}", stacklevel=2)
        chosen = _choose(pool[is_free & ~is_learned], task, shots)
        if task["role"] == "train":
            kept = splits["train"] / (splits["train"] + splits["validation"])
            for given, shares in (("", splits), (LEARNED, {"train": kept, "validation": 1})):
                by_hash = chosen["split"] == given
                chosen.loc[by_hash, "split"] = [split_of(q, shares) for q in chosen.loc[by_hash, "stem"]]
        else:
            chosen["split"] = chosen["split"].where(chosen["split"] == SHOT, "test")
        taken["train" if task["role"] == "train" else kind] |= set(chosen["wording"])
        frames.append(chosen)
    table = pd.concat(frames, ignore_index=True)
    names = [name or hashlib.sha256(key.encode()).hexdigest()[:12] for name, key in zip(table["id"], table["key"])]
    table["question_id"] = table["task"] + "-" + names
    _check_names(tasks, frames, table["question_id"])
    return table[["question_id", "task", "split", "question", "gold", "kind"]]


def _check_names(tasks: list[dict], frames: list[pd.DataFrame], ids: pd.Series) -> None:
    """Raises if two of the grid's tasks, with their topics, are or seem one in the table, or two of its questions."""
    of_name: dict[str, str] = {}
    for task, frame in zip(tasks, frames):
        for name in frame["task"].unique():
            if name in of_name:
                both = f"the tasks {of_name[name]!r} and {task['name']!r}"
                raise WhoknowsError(f"{both} both have questions called {name!r}; rename one of them, or its topic.")
            of_name[name] = task["name"]
            whose = grid_task(name, [*(other["name"] for other in tasks), *TASKS])
            if whose != task["name"]:
                raise WhoknowsError(
                    f"the questions {name!r} of the task {task['name']!r} would count as those of {whose!r}; "
                    "rename the task, or its topic."
                )
    if ids.duplicated().any():
        twice = ids[ids.duplicated()].iloc[0]
        raise WhoknowsError(f"two questions have the question_id {twice!r}; rename a task or a topic, or change an id.")


def _learned(task: dict) -> set[str]:
    """The wording of the questions that released adapters were trained on."""
    read = [tables.read(part["file"], {"question": part["question"]}) for part in task.get("learned", ())]
    return {wording(str(text)) for table in read for text in table["question"]}


def _choose(pool: pd.DataFrame, task: dict, shots: int) -> pd.DataFrame:
    """The task's few-shot examples and its first `size` questions, in hash order, even over subjects.

    Examples are what the pool calls so, else the first questions without a split or for training, see `FEW`.
    """
    pool = pool.assign(place=[position(q, "choice") for q in pool["stem"]]).sort_values("place", kind="stable")
    is_shown = pool["split"] == SHOT
    shown = pool[is_shown] if is_shown.any() else pool[pool["split"].isin(["", "train", LEARNED])]
    if "file" in task and not is_shown.any():
        shots = np.minimum(shots, pool.groupby("task")["place"].transform("size")[shown.index] // FEW)
    first = shown[shown.groupby("task").cumcount() < shots]
    length = first["question"].str.len().groupby(first["task"]).cumsum()
    examples = first[(length <= SHOTS_LENGTH) | ~first["task"].duplicated()].assign(split=SHOT)
    rest = pool.drop(first.index)[lambda others: others["split"] != SHOT]
    rest = rest.assign(rank=rest.groupby("task").cumcount()).sort_values(["rank", "place"], kind="stable")
    size = task.get("size")
    asked = rest.head(size or len(rest))
    if len(asked) < (size or 1):
        raise WhoknowsError(
            f"task {task['name']!r} has {len(asked)} questions beside its few-shot examples, "
            f"but the grid asks for {size or 'all'}: {'lower tasks[].size' if len(asked) else 'bring more questions'}"
        )
    return pd.concat([examples, asked], ignore_index=True).drop(columns=["place", "rank"])


def load(name: str) -> pd.DataFrame:
    """Every distinct question of a task: columns task, question, gold, kind, key, stem, wording, id and split.

    `key` is the normalised question, `stem` the same without its choices or its passage, whose hash decides its place,
    and `wording` what tells it from other tasks' questions; id and split are "".

    Raises:
        WhoknowsError: the name is not one of `TASKS`.
    """
    if name not in TASKS:
        raise WhoknowsError(f"unknown task {name!r}; known tasks: {', '.join(TASKS)}")
    base, choice = name.removesuffix("_mc"), name.endswith("_mc")
    rows = [
        (f"{name}_{subject}" if subject else name, *(as_choice(q, choices, gold[0]) if choice else (q, gold)))
        for subject, q, gold, choices in _items(base)
        if choice or base == "mmlu" or not (choices and NEEDS_CHOICES.search(q.split("\n")[0]))
    ]
    table = pd.DataFrame(rows, columns=["task", "question", "gold"])
    table["kind"] = "choice" if choice else "name" if name in PLACES else "open"
    table["key"] = [normalise(q) for q in table["question"]]
    asked = [q.split("\n")[0] for q in table["question"]]
    table["stem"], table["wording"] = [*map(normalise, asked)], [*map(wording, asked)]
    table["id"] = table["split"] = ""
    return table[table["key"] != ""].drop_duplicates("key", ignore_index=True)


def asset(task: str) -> str:
    """The asset that a task's questions are in."""
    return "geonames" if task in PLACES else "questions"


def _items(base: str):
    """(subject, question, gold answers, choices) of every row of a data set; choices is empty where it has none."""
    root = Path(assets.fetch(asset(base)))
    if base in PLACES:
        yield from (("", question, gold, []) for question, gold in MADE_OF_PLACES[base](root))
        return
    for subject, row in _rows(root / FOLDERS[base], "*/test/" if base == "mmlu" else ""):
        question, gold, choices = READ[base](row)
        asked = " ".join(question.split())
        if base == "sciq_passage":
            passage = " ".join(row["support"].split())
            if len(passage) < PASSAGE and holds(normalise(passage), normalise(gold[0])):
                yield subject, f"{asked}\nPassage: {passage}", gold, choices
        elif base not in BASIC_SKILLS or (asked == question and _is_gradable(gold[0], choices)):
            yield subject, asked, gold, choices


def _rows(folder: Path, below: str):
    """(subject, row) of every Arrow file, whose folder names the subject, and of the requests for right choices."""
    for file in sorted(folder.glob(f"{below}*.arrow")):
        subject = file.parts[-3] if below else ""
        with pa.memory_map(str(file)) as source:
            yield from ((subject, row) for row in pa.ipc.open_stream(source).read_all().to_pylist())
    for file in sorted(folder.glob("requests.jsonl.gz")):
        requests = map(json.loads, gzip.open(file))
        yield from (("", request["doc"]) for request in requests if request["idx"] == request["label"])


def _is_gradable(gold: str, choices: list[str]) -> bool:
    """Whether wrong choices would be graded wrong: some differ in case or punctuation alone, which grading ignores."""
    accepted = normalise(gold)
    return bool(accepted) and sum(holds(normalise(choice), accepted) for choice in choices) == 1


def _labelled(row: dict, question: str = "question") -> tuple[str, list[str], list[str]]:
    choices = row["choices"]["text"]
    return row[question], [choices[row["choices"]["label"].index(row["answerKey"])]], choices


def _indexed(question: str, choices: list[str], index: int) -> tuple[str, list[str], list[str]]:
    return question, [choices[index]], choices


def _sciq(row: dict) -> tuple[str, list[str], list[str]]:
    gold = row["correct_answer"]
    return row["question"], [gold], sorted([gold, row["distractor1"], row["distractor2"], row["distractor3"]])


def _basic_skill(row: dict) -> tuple[str, list[str], list[str]]:
    """Small numbers are accepted as digits and as words: a cat has four legs, or 4."""
    question, (gold,), choices = _indexed(row["question"], row["choices"], row["gold"])
    also = [NUMBERS[int(gold)]] if gold in map(str, range(len(NUMBERS))) else []
    also += [str(NUMBERS.index(gold))] if gold in NUMBERS else []
    return question, [gold, *also], choices


# How each data set names its question, its accepted answers and its choices.
READ = {
    "trivia_qa": lambda r: (r["question"], list(dict.fromkeys([r["answer"]["value"], *r["answer"]["aliases"]])), []),
    "nq_open": lambda r: (r["question"], list(r["answer"]), []),
    "sciq": _sciq,
    "sciq_passage": _sciq,
    "arc_easy": _labelled,
    "arc_challenge": _labelled,
    "openbookqa": lambda r: _labelled(r, "question_stem"),
    "commonsense_qa": _labelled,
    "piqa": lambda r: _indexed(r["goal"], [r["sol1"], r["sol2"]], int(r["label"])),
    "social_i_qa": lambda r: _indexed(
        f"{r['context']} {r['question']}", [r["answerA"], r["answerB"], r["answerC"]], int(r["label"]) - 1
    ),
    "mmlu": lambda r: _indexed(r["question"], list(r["choices"]), int(r["answer"])),
    **dict.fromkeys(BASIC_SKILLS, _basic_skill),
}
