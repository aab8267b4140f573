"""Cards of estimators: what the stage that trained one wrote beside its weights, which files belong to it, its README.

The README is a model card, as the Hugging Face hub reads it: what the test answers have shown, and how to use the
estimator, with this library and in some lines of Python without it. Its text is `card.md.jinja`.
"""

import json
from pathlib import Path

import numpy as np
import pandas as pd

import whoknows
from whoknows import WhoknowsError
from whoknows.data import adapters, assets, files
from whoknows.data.methods import METHOD_TITLES
from whoknows.data.prompts import CHAT
from whoknows.data.rows import one_class
from whoknows.data.tasks import TASKS, grid_task
from whoknows.evaluation import scores
from whoknows.run import provenance
from whoknows.run.provenance import code

README = "README.md"
NEEDED = {"method", "reader", "source", "precision", "trained_on", "seed", "tasks", "settings"}  # of every card


def read(folder: Path, or_released: bool = False) -> dict[str, dict]:
    """The cards of a folder's estimators, by method; those of `adapters.cards`, if so asked, where it has none.

    Raises:
        WhoknowsError: there is no such folder, no estimator is in it, or a card is damaged.
    """
    if not folder.is_dir():
        raise WhoknowsError(
            f"{folder}: there is no such folder; name one of a trained estimator, "
            "results/…/estimators/<method>/<reader>/<trained on>/seed<n>"
        )
    read = ((path.stem, files.read_json(path)) for path in sorted(folder.glob("*.json")))
    objects = {name: value for name, value in read if isinstance(value, dict)}
    if why := next((card["untrained"] for card in objects.values() if "untrained" in card), None):
        raise WhoknowsError(f"{folder}: it holds no estimator, since nothing could be trained: {why}")
    cards = {name: card for name, card in objects.items() if card.keys() >= NEEDED and card["method"] == name}
    if not cards and or_released:
        cards = adapters.cards(folder)
    if not cards:
        raise WhoknowsError(
            f"{folder}: it holds no estimator with a card; run `make book` to train it, again if an older version did"
        )
    return cards


def weights(card: dict) -> list[str]:
    """The files beside its card that an estimator is loaded from; of a released one without a card, all."""
    if "released" in card:
        return card["released"]
    if "query" not in card:
        return [f"{card['method']}.safetensors"]
    return ["adapter_config.json", "adapter_model.safetensors", *([] if card["query"] else ["classifier.safetensors"])]


def whole(folder: Path) -> list[Path]:
    """All files of a folder of estimators, but hidden ones, such as Snakemake's; those that it needs are checked."""
    from safetensors import SafetensorError, safe_open

    needed = [README, *(name for card in read(folder).values() for name in weights(card))]
    for path in (folder / name for name in needed):
        if not path.is_file():
            raise WhoknowsError(
                f"{folder}: it has no {path.name}, so its estimator is not whole; run `make book` to train it again"
            )
        try:
            if path.suffix == ".safetensors":
                with safe_open(path, framework="numpy"):
                    pass  # it has looked at the header and the length
        except SafetensorError:
            raise WhoknowsError(f"{path}: this file is damaged; delete it and run `make book` again") from None
    return sorted(path for path in folder.iterdir() if path.is_file() and not path.name.startswith("."))


LICENCES = {"Apache-2.0": "apache-2.0", "Gemma terms of use": "gemma"}  # of an asset, as the hub calls it
DATASETS = {  # of a task whose data set is on the hub
    "trivia_qa": "mandarjoshi/trivia_qa", "sciq": "allenai/sciq", "nq_open": "google-research-datasets/nq_open",
    "arc_easy": "allenai/ai2_arc", "arc_challenge": "allenai/ai2_arc", "openbookqa": "allenai/openbookqa",
    "commonsense_qa": "tau/commonsense_qa", "piqa": "ybisk/piqa", "social_i_qa": "allenai/social_i_qa",
    "mmlu": "hails/mmlu_no_train", "sciq_passage": "allenai/sciq",
}  # fmt: skip
HUB_NAMES = {"auroc": "roc_auc", "brier": "brier_score", "ece": "ece"}  # as the hub calls them
TOGETHER = "all that it was trained on"


def write(folder: Path | str, rows: pd.DataFrame) -> None:
    """Writes the README of a folder of estimators from their cards and rows, of which those of the split "test" are
    measured; none where nothing could be trained, which left no rows.
    """
    from huggingface_hub import CardData, RepoCard  # not above: it takes a while

    if rows.empty:
        return
    folder = Path(folder)
    cards = read(folder)
    card = next(iter(cards.values()))
    # The prefix says how the model is asked, and is no part of its name.
    table, source = measured(rows, card["tasks"]), card["source"].removeprefix(CHAT)
    base, name = assets.base(source), Path(source).name
    more = f', revision="{card["digest"]}"' if card.get("digest") and assets.on_hub(source) else ""
    place = base if assets.on_hub(base) else name
    if name.endswith(assets.GGUF):
        place, more = ".", f", gguf_file={json.dumps(name)}"
    kept = {method: {key: card[key] for key in ("settings", "chosen") if key in card} for method, card in cards.items()}
    readme = RepoCard.from_template(
        CardData(**metadata(cards, table)),
        str(Path(__file__).with_name("card.md.jinja")),
        names=" and ".join(METHOD_TITLES.get(method) or code(method) for method in cards),
        card=card | {"source": source},
        others=list(cards)[1:],
        base=base,
        folder=name,
        source=json.dumps(place) + more,
        dtype="float32" if card["precision"] in ("auto", "float32") else "bfloat16",
        chat=card["source"].startswith(CHAT),  # the words of a chat's template are the library's to put together
        table=table.to_dict("records"),
        measures={name: scores.MEASURES[name].title for name in HUB_NAMES},
        together=TOGETHER,
        settings=json.dumps(kept, indent=1),
        made=provenance.surroundings() | {"version": whoknows.__version__},
        assets=assets,
        code=code,
    )
    files.write_text(folder / README, f"{readme}\n")


def measured(rows: pd.DataFrame, trained: list[str]) -> pd.DataFrame:
    """What test answers show: means over the tasks that have both right and wrong ones, as in the report's heatmaps.

    Args:
        trained: the tasks that the methods were trained on; if there are some, they are also taken together.

    Returns:
        A line for each set of tasks, method and scored model: questions (of the set), method, scored, HUB_NAMES,
        right and wrong (answers that these rest on), and reason (why they are missing, or "").
    """
    test, lines = rows[rows["split"] == "test"], []
    for questions, tasks in _sets(list(test["task"].unique()), trained).items():
        for (method, scored), group in test[test["task"].isin(tasks)].groupby(["method", "scored"], sort=False):
            parts = [part for _, part in group.groupby("task") if not one_class(part["correct"])]
            used = pd.concat(parts) if parts else group
            values = {name: [scores.MEASURES[name].of(p["logit"], p["correct"]) for p in parts] for name in HUB_NAMES}
            means = [np.mean(values[name]) if parts else np.nan for name in HUB_NAMES]
            right = int(used["correct"].sum())
            reason = "" if parts else one_class(group["correct"])
            lines.append((questions, method, scored, *means, right, len(used) - right, reason))
    return pd.DataFrame(lines, columns=["questions", "method", "scored", *HUB_NAMES, "right", "wrong", "reason"])


def _sets(tasks: list[str], trained: list[str]) -> dict[str, list[str]]:
    """The sets of tasks that are measured: those trained on, and each task of a grid with all its subjects."""
    learned = [task for task in tasks if task in trained]
    sets = {TOGETHER: learned} if len(learned) > 1 else {}
    for task in tasks:
        sets.setdefault(grid_task(task, TASKS) or task, []).append(task)
    return sets


def metadata(cards: dict[str, dict], table: pd.DataFrame) -> dict:
    """What the hub reads of a model card, from what `measured` returns: https://huggingface.co/docs/hub/model-cards."""
    card = next(iter(cards.values()))
    source, base = card["source"].removeprefix(CHAT), assets.base(card["source"])
    about = {"library_name": "peft" if "query" in card else "whoknows"}
    about["tags"] = ["whoknows", "confidence-estimation", "calibration", *cards]
    if source in assets.MODELS:
        about["license"] = LICENCES[assets.ASSETS[source].licence]
    if assets.on_hub(base):
        about |= {"base_model": base, "base_model_relation": "adapter"}
    named = [_dataset(grid_task(task, TASKS)) for task in card["tasks"]]
    about["datasets"] = sorted(set(named) & set(DATASETS.values()))
    about["model-index"] = [
        {"name": method, "results": [_result(line) for line in group.to_dict("records")]}
        for method, group in table.groupby("method", sort=False)
    ]
    return {key: value for key, value in about.items() if value}


def _dataset(task: str) -> str:
    return DATASETS.get(task.removesuffix("_mc"), task)


def _result(line: dict) -> dict:
    questions = line["questions"]
    dataset = {"type": "mixture" if questions == TOGETHER else _dataset(questions)}
    dataset |= {"name": f"{questions}, answers of {line['scored']}"}
    dataset |= {"args": {"right": line["right"], "wrong": line["wrong"]}}
    values = [
        {"type": kind, "name": scores.MEASURES[name].title, "value": round(float(line[name]), 4)}
        for name, kind in HUB_NAMES.items()
        if not line["reason"]
    ]
    task = {"type": "text-classification", "name": "Whether an answer is correct"}
    return {"task": task, "dataset": dataset, "metrics": values}
