"""The README of a folder of estimators: a model card, as the Hugging Face hub reads it, with what the test answers have shown."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import yaml

import whoknows
from whoknows.data import assets, files
from whoknows.data.questions import TASKS
from whoknows.data.rows import one_class
from whoknows.evaluation.auroc import auroc
from whoknows.evaluation.cells import METHODS, grid_task
from whoknows.evaluation.metrics import brier, ece
from whoknows.run import provenance
from whoknows.run.provenance import code
from whoknows.use import cards, usage

LICENCES = {"Apache-2.0": "apache-2.0", "Gemma terms of use": "gemma"}  # of an asset, as the hub calls it
DATASETS = {  # of a task whose data set is on the hub
    "trivia_qa": "mandarjoshi/trivia_qa", "sciq": "allenai/sciq", "nq_open": "google-research-datasets/nq_open", "arc_easy": "allenai/ai2_arc",
    "arc_challenge": "allenai/ai2_arc", "openbookqa": "allenai/openbookqa", "commonsense_qa": "tau/commonsense_qa", "piqa": "ybisk/piqa",
    "social_i_qa": "allenai/social_i_qa", "mmlu": "hails/mmlu_no_train", "sciq_passage": "allenai/sciq",
}  # fmt: skip
MEASURES = {"auroc": ("roc_auc", "AUROC", auroc), "brier": ("brier_score", "Brier score", brier), "ece": ("ece", "ECE", ece)}
TOGETHER = "all that it was trained on"
LIMITS = """## What the numbers mean

P(correct) was trained on some tasks and on one model's way of answering them; how far it is from the share of right answers is known for the
questions and models of the table alone. On others it may be far off, even where it still puts right answers above wrong ones. It orders
answers; where right begins is yours to choose, on answers that you have graded. Answers were graded by comparing words with accepted
answers, and a question was asked as `Question: …`, line end, `Answer: …`."""


def write(folder: Path | str, rows: pd.DataFrame) -> None:
    """Writes the README of a folder of estimators.

    Args:
        folder: with their cards.
        rows: of its estimators; those of the split "test" are measured.

    Raises:
        WhoknowsError: the folder holds no estimator.
    """
    folder = Path(folder)
    found = cards.read(folder)
    table = measured(rows, next(iter(found.values()))["tasks"])
    front = yaml.safe_dump(metadata(found, table), sort_keys=False, allow_unicode=True)
    files.write_text(folder / cards.README, f"---\n{front}---\n\n{text(found, table)}")


def measured(rows: pd.DataFrame, trained: list[str]) -> pd.DataFrame:
    """What test answers show: means over the tasks that have both right and wrong ones, as in the report's heatmaps.

    Args:
        rows: of any methods.
        trained: the tasks that they were trained on; if there are some, they are also taken together.

    Returns:
        A line for each set of tasks, method and scored model: questions (of the set), method, scored, MEASURES,
        right and wrong (answers that these rest on), and reason (why they are missing, or "").
    """
    test, lines = rows[rows["split"] == "test"], []
    for questions, tasks in _sets(list(test["task"].unique()), trained).items():
        for (method, scored), own in test[test["task"].isin(tasks)].groupby(["method", "scored"], sort=False):
            parts = [part for _, part in own.groupby("task") if not one_class(part["correct"])]
            used = pd.concat(parts) if parts else own
            means = {name: np.mean([measure(part["logit"], part["correct"]) for part in parts]) if parts else np.nan for name, (*_, measure) in MEASURES.items()}
            right = int(used["correct"].sum())
            counts = {"right": right, "wrong": len(used) - right, "reason": "" if parts else one_class(own["correct"])}
            lines.append({"questions": questions, "method": method, "scored": scored} | means | counts)
    return pd.DataFrame(lines, columns=["questions", "method", "scored", *MEASURES, "right", "wrong", "reason"])


def _sets(tasks: list[str], trained: list[str]) -> dict[str, list[str]]:
    """The sets of tasks that are measured: those that were trained on, and each task of a grid with all its subjects."""
    own = [task for task in tasks if task in trained]
    sets = {TOGETHER: own} if len(own) > 1 else {}
    for task in tasks:
        sets.setdefault(grid_task(task, TASKS) or task, []).append(task)
    return sets


def metadata(found: dict[str, dict], table: pd.DataFrame) -> dict:
    """What the hub reads of a model card: https://huggingface.co/docs/hub/model-cards.

    Args:
        found: cards by method.
        table: as `measured` returns.
    """
    card = next(iter(found.values()))
    source, adapters = card["source"], "query" in card
    base = assets.base(source)
    about = {"library_name": "peft" if adapters else "whoknows", "tags": ["whoknows", "confidence-estimation", "calibration", *found]}
    if source in assets.MODELS:
        about["license"] = LICENCES[assets.ASSETS[source].licence]
    if assets.on_hub(base):
        about |= {"base_model": base, "base_model_relation": "adapter"}
    named = [_dataset(grid_task(task, TASKS)) for task in card["tasks"]]
    about["datasets"] = sorted(set(named) & set(DATASETS.values()))
    about["model-index"] = [{"name": method, "results": [_result(line) for line in own.to_dict("records")]} for method, own in table.groupby("method", sort=False)]
    return {key: value for key, value in about.items() if value}


def _dataset(task: str) -> str:
    return DATASETS.get(task.removesuffix("_mc"), task)


def _result(line: dict) -> dict:
    questions = line["questions"]
    dataset = {"type": "mixture" if questions == TOGETHER else _dataset(questions), "name": f"{questions}, answers of {line['scored']}"}
    counts = {"right": line["right"], "wrong": line["wrong"]}
    values = [{"type": kind, "name": name, "value": round(float(line[key]), 4)} for key, (kind, name, _) in MEASURES.items() if not line["reason"]]
    return {"task": {"type": "text-classification", "name": "Whether an answer is correct"}, "dataset": dataset | {"args": counts}, "metrics": values}


def text(found: dict[str, dict], table: pd.DataFrame) -> str:
    """The README beneath its metadata, as Markdown; arguments are those of `metadata`."""
    card = next(iter(found.values()))
    names = " and ".join(METHODS.get(method) or code(method) for method in found)
    title = f"# {names}: reader {code(card['reader'])}, trained on answers of {code(card['trained_on'])}"
    settings = {method: {key: card[key] for key in ("settings", "chosen") if key in card} for method, card in found.items()}
    told = f"## Settings\n\n```json\n{json.dumps(settings, indent=1)}\n```"
    parts = [title, _what(card), _facts(card), f"## How well it does\n\n{_table(table)}", usage.section(found), LIMITS, told]
    return "\n\n".join(parts) + "\n"


def _what(card: dict) -> str:
    kept = "classifiers on its hidden state at the answer's last token"
    adapters = "low-rank adapters on it, with which it " + ("says whether an answer is correct" if card.get("query") else "is read by a classifier at the answer's last token")
    given = "For a question and an answer it gives P(correct), the probability that the answer is right"
    return f"{given}, by a language model, the reader, and {adapters if 'query' in card else kept}."


def _facts(card: dict) -> str:
    counts, tasks = card["training_answers"], ", ".join(map(code, card["tasks"]))
    made = provenance.surroundings()
    facts = {
        "reader": f"{code(card['reader'])}: {_reader(card['source'])}",
        **({"digest of its files": code(card["digest"])} if card.get("digest") else {}),
        "precision of the reader": code(card["precision"]) + (", which is bfloat16 where the hardware multiplies it natively and float32 elsewhere" if card["precision"] == "auto" else ""),
        "trained on": f"{sum(counts.values())} answers of {code(card['trained_on'])}, {counts['right']} right and {counts['wrong']} wrong, to questions of {tasks}",
        "seed": code(card["seed"]),
        "trained by": f"whoknows {whoknows.__version__}, commit {code(made['commit'] or 'unknown')}, on {code(made['machine'])}",
        "with": ", ".join(f"{name} {code(version)}" for name, version in made["versions"].items()),
    }
    return "\n".join(["| | |", "|---|---|", *(f"| {name} | {fact} |" for name, fact in facts.items())])


def _reader(source: str) -> str:
    if source in assets.MODELS:
        return f"the weights of {code(assets.ASSETS[source].source)}, which whoknows calls {code(source)}; those of {code(assets.base(source))} in full precision give slightly other numbers"
    return code(source) if assets.on_hub(source) or source in assets.TINY else f"the local folder {code(Path(source).name)}"


def _table(table: pd.DataFrame) -> str:
    heads = ["questions", "method", "answers of", *(name for _, name, _ in MEASURES.values()), "right", "wrong"]
    lines = ["| " + " | ".join(heads) + " |", "|---|---|---|" + "--:|" * 5]
    for line in table.to_dict("records"):
        questions = TOGETHER if line["questions"] == TOGETHER else code(line["questions"])
        values = ["—" if line["reason"] else f"{line[name]:.3f}" for name in MEASURES]
        lines.append("| " + " | ".join([questions, code(line["method"]), code(line["scored"]), *values, str(line["right"]), str(line["wrong"])]) + " |")
    said = "Measured on test answers: means over tasks that have right and wrong ones, which are counted at the right."
    missing = " A dash stands where there are none of one kind." if table["reason"].any() else ""
    return f"{said}{missing}\n\n" + "\n".join(lines)
