"""Cards of estimators: what the stage that trained one wrote down beside its weights, the files that make it whole, and its README.

The README is a model card, as the Hugging Face hub reads it: what the test answers have shown, and how to use the estimator, with this
library and in some lines of Python without it.
"""

import json
from pathlib import Path
from string import Template

import numpy as np
import pandas as pd
import yaml

import whoknows
from whoknows import WhoknowsError
from whoknows.data import assets, files
from whoknows.data.methods import METHOD_TITLES
from whoknows.data.prompts import CHAT
from whoknows.data.questions import TASKS
from whoknows.data.rows import one_class
from whoknows.evaluation import scores
from whoknows.evaluation.cells import grid_task
from whoknows.models.loading import QUANTISED
from whoknows.run import provenance
from whoknows.run.provenance import code

README = "README.md"
NEEDED = {"method", "reader", "source", "precision", "trained_on", "seed", "tasks", "settings"}  # of every card


def read(folder: Path) -> dict[str, dict]:
    """The cards of a folder's estimators, by method.

    Raises:
        WhoknowsError: there is no such folder, no estimator is in it, or a card is damaged.
    """
    if not folder.is_dir():
        raise WhoknowsError(
            f"{folder}: there is no such folder; name one of a trained estimator, results/…/estimators/<method>/<reader>/<trained on>/seed<n>"
        )
    found = {path.stem: _json(path) for path in sorted(folder.glob("*.json"))}
    cards = {name: card for name, card in found.items() if card.keys() >= NEEDED and card["method"] == name}
    if not cards:
        raise WhoknowsError(
            f"{folder}: it holds no estimator with a card; run `make book` to train it, again if an older version did"
        )
    return cards


def weights(card: dict) -> list[str]:
    """The files beside its card that an estimator is loaded from."""
    if "query" not in card:
        return [f"{card['method']}.safetensors"]
    return ["adapter_config.json", "adapter_model.safetensors", *([] if card["query"] else ["classifier.safetensors"])]


def whole(folder: Path) -> list[Path]:
    """All files of a folder of estimators, but hidden ones, such as Snakemake's.

    Raises:
        WhoknowsError: it is no such folder, or one of the files that it needs is missing or damaged.
    """
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


def _json(path: Path) -> dict:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except ValueError:
        raise WhoknowsError(f"{path}: this file is damaged; delete it and run `make book` again") from None
    return found if isinstance(found, dict) else {}


LICENCES = {"Apache-2.0": "apache-2.0", "Gemma terms of use": "gemma"}  # of an asset, as the hub calls it
DATASETS = {  # of a task whose data set is on the hub
    "trivia_qa": "mandarjoshi/trivia_qa", "sciq": "allenai/sciq", "nq_open": "google-research-datasets/nq_open", "arc_easy": "allenai/ai2_arc",
    "arc_challenge": "allenai/ai2_arc", "openbookqa": "allenai/openbookqa", "commonsense_qa": "tau/commonsense_qa", "piqa": "ybisk/piqa",
    "social_i_qa": "allenai/social_i_qa", "mmlu": "hails/mmlu_no_train", "sciq_passage": "allenai/sciq",
}  # fmt: skip
HUB_NAMES = {"auroc": "roc_auc", "brier": "brier_score", "ece": "ece"}  # as the hub calls them
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
    found = read(folder)
    table = measured(rows, next(iter(found.values()))["tasks"])
    front = yaml.safe_dump(metadata(found, table), sort_keys=False, allow_unicode=True)
    files.write_text(folder / README, f"---\n{front}---\n\n{text(found, table)}")


def measured(rows: pd.DataFrame, trained: list[str]) -> pd.DataFrame:
    """What test answers show: means over the tasks that have both right and wrong ones, as in the report's heatmaps.

    Args:
        rows: of any methods.
        trained: the tasks that they were trained on; if there are some, they are also taken together.

    Returns:
        A line for each set of tasks, method and scored model: questions (of the set), method, scored, HUB_NAMES,
        right and wrong (answers that these rest on), and reason (why they are missing, or "").
    """
    test, lines = rows[rows["split"] == "test"], []
    for questions, tasks in _sets(list(test["task"].unique()), trained).items():
        for (method, scored), own in test[test["task"].isin(tasks)].groupby(["method", "scored"], sort=False):
            parts = [part for _, part in own.groupby("task") if not one_class(part["correct"])]
            used = pd.concat(parts) if parts else own
            means = {
                name: np.mean([scores.MEASURES[name].of(part["logit"], part["correct"]) for part in parts])
                if parts
                else np.nan
                for name in HUB_NAMES
            }
            right = int(used["correct"].sum())
            counts = {"right": right, "wrong": len(used) - right, "reason": "" if parts else one_class(own["correct"])}
            lines.append({"questions": questions, "method": method, "scored": scored} | means | counts)
    return pd.DataFrame(lines, columns=["questions", "method", "scored", *HUB_NAMES, "right", "wrong", "reason"])


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
    about = {
        "library_name": "peft" if adapters else "whoknows",
        "tags": ["whoknows", "confidence-estimation", "calibration", *found],
    }
    if source in assets.MODELS:
        about["license"] = LICENCES[assets.ASSETS[source].licence]
    if assets.on_hub(base):
        about |= {"base_model": base, "base_model_relation": "adapter"}
    named = [_dataset(grid_task(task, TASKS)) for task in card["tasks"]]
    about["datasets"] = sorted(set(named) & set(DATASETS.values()))
    about["model-index"] = [
        {"name": method, "results": [_result(line) for line in own.to_dict("records")]}
        for method, own in table.groupby("method", sort=False)
    ]
    return {key: value for key, value in about.items() if value}


def _dataset(task: str) -> str:
    return DATASETS.get(task.removesuffix("_mc"), task)


def _result(line: dict) -> dict:
    questions = line["questions"]
    dataset = {
        "type": "mixture" if questions == TOGETHER else _dataset(questions),
        "name": f"{questions}, answers of {line['scored']}",
    }
    counts = {"right": line["right"], "wrong": line["wrong"]}
    values = [
        {"type": kind, "name": scores.MEASURES[name].title, "value": round(float(line[name]), 4)}
        for name, kind in HUB_NAMES.items()
        if not line["reason"]
    ]
    return {
        "task": {"type": "text-classification", "name": "Whether an answer is correct"},
        "dataset": dataset | {"args": counts},
        "metrics": values,
    }


def text(found: dict[str, dict], table: pd.DataFrame) -> str:
    """The README beneath its metadata, as Markdown; arguments are those of `metadata`."""
    card = next(iter(found.values()))
    names = " and ".join(METHOD_TITLES.get(method) or code(method) for method in found)
    title = f"# {names}: reader {code(card['reader'])}, trained on answers of {code(card['trained_on'])}"
    settings = {
        method: {key: card[key] for key in ("settings", "chosen") if key in card} for method, card in found.items()
    }
    told = f"## Settings\n\n```json\n{json.dumps(settings, indent=1)}\n```"
    parts = [title, _what(card), _facts(card), f"## How well it does\n\n{_table(table)}", section(found), LIMITS, told]
    return "\n\n".join(parts) + "\n"


def _what(card: dict) -> str:
    kept = "classifiers on its hidden state at the answer's last token"
    adapters = "low-rank adapters on it, with which it " + (
        "says whether an answer is correct"
        if card.get("query")
        else "is read by a classifier at the answer's last token"
    )
    given = "For a question and an answer it gives P(correct), the probability that the answer is right"
    return f"{given}, by a language model, the reader, and {adapters if 'query' in card else kept}."


def _facts(card: dict) -> str:
    counts, tasks = card["training_answers"], ", ".join(map(code, card["tasks"]))
    made = provenance.surroundings()
    facts = {
        "reader": f"{code(card['reader'])}: {_reader(card['source'])}",
        **({"digest of its files": code(card["digest"])} if card.get("digest") else {}),
        "precision of the reader": code(card["precision"])
        + (
            ", which is bfloat16 where the hardware multiplies it natively and float32 elsewhere"
            if card["precision"] == "auto"
            else ""
        ),
        "trained on": f"{sum(counts.values())} answers of {code(card['trained_on'])}, {counts['right']} right and {counts['wrong']} wrong, to questions of {tasks}",
        "seed": code(card["seed"]),
        "trained by": f"whoknows {whoknows.__version__}, commit {code(made['commit'] or 'unknown')}, on {code(made['machine'])}",
        "with": ", ".join(f"{name} {code(version)}" for name, version in made["versions"].items()),
    }
    return "\n".join(["| | |", "|---|---|", *(f"| {name} | {fact} |" for name, fact in facts.items())])


def _reader(source: str) -> str:
    if source in assets.MODELS:
        return f"the weights of {code(assets.ASSETS[source].source)}, which whoknows calls {code(source)}; those of {code(assets.base(source))} in full precision give slightly other numbers"
    return (
        code(source)
        if assets.on_hub(source) or source in assets.TINY
        else f"the local folder {code(Path(source).name)}"
    )


def _table(table: pd.DataFrame) -> str:
    heads = [
        "questions",
        "method",
        "answers of",
        *(scores.MEASURES[name].title for name in HUB_NAMES),
        "right",
        "wrong",
    ]
    lines = ["| " + " | ".join(heads) + " |", "|---|---|---|" + "--:|" * 5]
    for line in table.to_dict("records"):
        questions = TOGETHER if line["questions"] == TOGETHER else code(line["questions"])
        values = ["—" if line["reason"] else f"{line[name]:.3f}" for name in HUB_NAMES]
        lines.append(
            "| "
            + " | ".join(
                [questions, code(line["method"]), code(line["scored"]), *values, str(line["right"]), str(line["wrong"])]
            )
            + " |"
        )
    said = "Measured on test answers: means over tasks that have right and wrong ones, which are counted at the right."
    missing = " A dash stands where there are none of one kind." if table["reason"].any() else ""
    return f"{said}{missing}\n\n" + "\n".join(lines)


SECTION = Template("""## How to use it

```sh
whoknows score --estimator OWNER/NAME --input answers.jsonl
```

OWNER/NAME is this repository, or a folder with its files. A line of the input is an object with `question` and `answer`.$other""")
ALONE = Template("""

In Python without whoknows, among the files of this folder:

```python
$code
```""")
READER = """from transformers import AutoModelForCausalLM, AutoTokenizer

tokenizer = AutoTokenizer.from_pretrained($source)
model = AutoModelForCausalLM.from_pretrained($source, dtype="$precision")
"""
TEXT = r"""text = "Question: Which gas do plants take in?\nAnswer: carbon dioxide"
"""
ADAPTERS = """model = PeftModel.from_pretrained(model, ".")
"""
PROBE = f"""import numpy as np
from safetensors.numpy import load_file
{READER}{TEXT}tokens = tokenizer(text, return_tensors="pt")
hidden = model(**tokens, output_hidden_states=True).hidden_states[$layer][0, -1].detach().float().numpy()

probe = load_file("probe.safetensors")
logit = (hidden - probe["mean"]) / probe["scale"] @ probe["weights"][:-1] + probe["weights"][-1]
p_correct = 1 / (1 + np.exp(-logit))"""
LORA_PROMPT = rf"""from peft import PeftModel
{READER}{ADAPTERS}{TEXT}text += "\n\nIs the proposed answer correct?\nChoices:\n(i): no\n(ii): yes\nAnswer:"
logits = model(**tokenizer(text, return_tensors="pt")).logits[0, -1].float()
no, yes = (tokenizer(choice, add_special_tokens=False).input_ids[-1] for choice in ("a i", "a ii"))
p_correct = (logits[yes] - logits[no]).sigmoid().item()"""
LORA = f"""from peft import PeftModel
from safetensors.torch import load_file
from torch.nn.functional import layer_norm
{READER}{ADAPTERS}{TEXT}tokens = tokenizer(text, return_tensors="pt")
hidden = model(**tokens, output_hidden_states=True).hidden_states[-1][0, -1].float()
classifier = load_file("classifier.safetensors")
logit = layer_norm(hidden, hidden.shape) @ classifier["weight"][0] + classifier["bias"][0]
p_correct = logit.sigmoid().item()"""


def section(found: dict[str, dict]) -> str:
    """The part of a README on the use of its folder's estimators, as Markdown.

    Args:
        found: their cards, by method.
    """
    first, *others = found
    other = "".join(f" `--method {method}` takes the other one of this folder." for method in others)
    # The words of a chat's template are the library's to put together.
    alone = "" if found[first]["source"].startswith(CHAT) else ALONE.substitute(code=python(found[first]))
    return SECTION.substitute(other=other) + alone


def python(card: dict) -> str:
    """Python that asks an estimator about one answer, with the files of its folder and nothing of this library."""
    source = assets.base(card["source"])
    commit = f', revision="{card["digest"]}"' if card.get("digest") and assets.on_hub(card["source"]) else ""
    values = {
        "source": json.dumps(source if assets.on_hub(source) else Path(source).name) + commit,
        "precision": "bfloat16" if card["precision"] in ("bfloat16", *QUANTISED) else "float32",
        "layer": card.get("chosen", {}).get("layer"),
    }
    code = PROBE if "query" not in card else LORA_PROMPT if card["query"] else LORA
    return Template(code).substitute(values)
