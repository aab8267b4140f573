"""The grid: models, tasks, methods, sizes and seeds of one run, read from a YAML file and checked before anything runs.

`grids/schema.json` says what each key may hold and nothing but `resources` has a default, so a grid's file says all that made its numbers.
`python -m whoknows check GRID` checks a grid and fetches the questions and models that it names.
"""

import argparse
import difflib
import json
import math
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path

import jsonschema
from jsonschema.exceptions import best_match

from whoknows import WhoknowsError
from whoknows.data import files
from whoknows.data.prompts import CHAT, DATE

# Without these, 4.0 passes for a layer, and .nan passes every minimum and maximum.
_TYPES = jsonschema.Draft202012Validator.TYPE_CHECKER.redefine_many(
    {
        "integer": lambda _, value: isinstance(value, int) and not isinstance(value, bool),
        "number": lambda _, value: (
            isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
        ),
    }
)
_Validator = jsonschema.validators.extend(jsonschema.Draft202012Validator, type_checker=_TYPES)


def complaint(values, schema: dict) -> str | None:
    """The most telling error of `values` as a sentence with the key, what was expected and what was found; None if none.

    Args:
        schema: JSON Schema, draft 2020-12, whose `title`s say what each value should be.
    """
    error = best_match(_Validator(schema).iter_errors(values))
    if error is None:
        return None
    if error.validator == "additionalProperties":
        return _unknown_key(error)
    if error.validator == "required":
        missing = next(key for key in error.validator_value if key not in error.instance)
        rule = error.schema["properties"][missing]
        return f"{_dotted([*error.absolute_path, missing])} is missing; it should be {rule['title']} ({rule['description']})"
    return _wrong_value(error)


def _unknown_key(error) -> str:
    known = list(error.schema["properties"])
    key = next(key for key in error.instance if key not in known)
    near = difflib.get_close_matches(str(key), known, 1)
    advice = f"did you mean `{near[0]}`?" if near else f"the keys here are {', '.join(known)}"
    return f"there is no key {_dotted([*error.absolute_path, key])}; {advice}"


def _wrong_value(error) -> str:
    # Part of an "any of" has no title of its own: its parent's says what all the ways are.
    while "title" not in error.schema:
        error = error.parent
    key, found = _dotted(error.absolute_path), error.instance
    if error.validator == "uniqueItems":
        return f"{key} holds the same value twice; remove one"
    return f"{key} should be {error.schema['title']}, but is {_short(found)}{_advice(found, error.schema)}"


def _advice(found, schema: dict) -> str:
    near = difflib.get_close_matches(str(found), schema.get("enum", []), 1)
    if near:
        return f"; did you mean `{near[0]}`?"
    try:
        # YAML 1.1 reads 1e-4 as text: a float needs its point.
        return f"; YAML takes that for text: write {float(found):f}".rstrip("0") if isinstance(found, str) else ""
    except ValueError:
        return ""


def _dotted(path) -> str:
    steps = "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in path)
    return f"`{steps.lstrip('.')}`" if steps else "the file"


def _short(value) -> str:
    text = "empty" if value in (None, "", [], {}) else f"`{value}`"
    return text if len(text) < 80 else f"{text[:76]}…`"


SHARDED = ("answer", "extract")  # stages that do their questions one by one
SCHEMA = files.ROOT / "grids" / "schema.json"


@dataclass(frozen=True)
class Model:
    name: str
    """What the model is called in the figures; a part of file names."""
    source: str
    """Where its weights come from: an asset's name, a local folder or a model on the Hugging Face hub."""
    learning_rate: float | None = None
    """Peak learning rate of LoRA + Prompt with this model as reader; None for that of `lora_prompt`."""
    thinking: bool | None = None
    """Whether a chat template that has a switch is asked to think before answering; None is no."""
    layers: str | tuple[int, ...] | None = None
    """Layers of the probe with this model as reader; None for those of `probe`."""


@dataclass(frozen=True)
class Task:
    name: str
    """Name of the set of questions, one of `questions.TASKS`."""
    size: int
    """Questions asked, few-shot examples not counted."""
    role: str
    """`train`: split into train, validation and test; `shift`: test questions only."""


@dataclass(frozen=True)
class Splits:
    train: float
    """Share of training questions in the train tasks."""
    validation: float
    """Share of validation questions, on which settings are chosen."""
    test: float
    """Share of test questions."""


@dataclass(frozen=True)
class Answer:
    shots: int
    """Solved examples before each question."""
    max_new_tokens: int
    """Longest answer, in tokens."""


@dataclass(frozen=True)
class Mlp:
    hidden: tuple[int, ...]
    """Units of each hidden layer."""
    learning_rate: float
    """Learning rate of Adam."""
    epochs: int
    """Passes over the training answers, at most."""
    batch_size: int
    """Answers in one step."""
    patience: int
    """Epochs without a better validation loss after which training stops."""


@dataclass(frozen=True)
class Probe:
    layers: str | tuple[int, ...]
    """`all`, or indices of Hugging Face hidden states, of which one is chosen on validation."""
    strengths: tuple[float, ...]
    """L2 strengths of the logistic regression, of which one is chosen on validation."""
    mlp: Mlp
    """The multi-layer perceptron of Kapoor et al. (2024)."""


@dataclass(frozen=True)
class LoraPrompt:
    first_layer: float
    """Adapters sit on the blocks from this fraction of the depth upwards; 0 is every block."""
    r: int
    """Rank of the adapters."""
    alpha: float
    """Scale of the adapters, divided by their rank."""
    dropout: float
    """Dropout at the adapters' input."""
    targets: tuple[str, ...] | str
    """Names of the linear modules of a block that get an adapter; or `all-linear`."""
    learning_rate: float
    """Peak learning rate of AdamW, which rises for a tenth of the steps and falls along a cosine."""
    batch_size: int
    """Answers in one step."""
    epochs: int
    """Passes over the training answers, at most."""
    evaluations: int
    """Looks at validation, spread evenly over all epochs; the adapters with the best AUROC are kept."""
    patience: int
    """Looks at validation without a better AUROC after which training stops."""
    wrong_per_right: float | None
    """Wrong training answers kept for each right one; None keeps all."""
    js_weight: float
    """Weight of the Jensen-Shannon penalty on the answer's tokens."""


@dataclass(frozen=True)
class Controls:
    embedder: str | None
    """Sentence embedder for the controls that need no reader; None leaves those out."""
    strengths: tuple[float, ...]
    """L2 strengths of the controls' logistic regression, of which one is chosen on validation."""
    sizes: tuple[int, ...]
    """Numbers of training answers for the probe's learning curve."""
    lora: tuple[str, ...]
    """Other trainings of each reader on its own answers: `no_query`, `js_weight`, `left_out`."""
    js_weight: float
    """Weight of the Jensen-Shannon penalty in the training that `js_weight` asks for."""


@dataclass(frozen=True)
class Judge:
    url: str
    """An endpoint that speaks OpenAI's chat API."""
    model: str
    """The judge's name there."""


@dataclass(frozen=True)
class Search:
    learning_rates: tuple[float, ...]
    """Peak learning rates of LoRA + Prompt that each reader is trained with on its own answers; its own rate is tried anyhow."""
    sizes: tuple[int, ...]
    """Numbers of training answers, fewer than there are, that it is trained on at its own rate."""


@dataclass(frozen=True)
class Stage:
    gpus: int | None = None
    """GPUs of a job."""
    cores: int | None = None
    """CPU cores of a job."""
    memory: float | None = None
    """Memory of a job, in GB (10^9 bytes)."""
    minutes: int | None = None
    """Run time after which a cluster stops a job."""
    partition: str | None = None
    """Slurm's partition for a job."""
    shards: int | None = None
    """Jobs that share the questions of `answer` or `extract` among them, before the stage puts together what they found."""


@dataclass(frozen=True)
class Resources:
    flops: float | None = None
    """Floating-point operations a second that a job which loads a language model is taken to do, for the cost that a plan shows."""
    stages: dict[str, Stage] = field(default_factory=dict, hash=False)
    """What a job of each stage gets."""


@dataclass(frozen=True)
class Grid:
    name: str
    """Results go to `results/<name>/`."""
    models: tuple[Model, ...]
    """Models that answer, read, are trained on and are scored, each with each."""
    tasks: tuple[Task, ...]
    """Sets of questions."""
    splits: Splits
    """How the questions of train tasks are split."""
    answer: Answer
    """How answers are written."""
    methods: tuple[str, ...]
    """Trained methods that run: `probe`, `lora_prompt`."""
    precision: str
    """Number format of the language models: `auto`, `float32`, `bfloat16`, `8bit` or `4bit`."""
    batch_tokens: int | None
    """Tokens in one forward pass of a language model; None for as many as fit."""
    seeds: tuple[int, ...]
    """Every estimator is trained once for each seed."""
    probe: Probe
    """Settings of the probe."""
    lora_prompt: LoraPrompt
    """Settings of LoRA + Prompt."""
    controls: Controls
    """Settings of the controls."""
    judge: Judge | None
    """A model that grades test answers once more; None does without."""
    beside: str | None
    """Folder with the packed results of another run, whose pages the book shows too."""
    date: str | None = None
    """The day, as year-month-day, that a chat template tells the model if it tells the date; None is always the same one."""
    search: Search | None = None
    """What is tried to find the settings of LoRA + Prompt; None does without."""
    resources: Resources | None = None
    """What jobs ask of a cluster; no result depends on it."""


def load(path: Path | str) -> Grid:
    """Reads a grid and checks all of it.

    Raises:
        WhoknowsError: the file is missing or wrong; the message names the file, the key and what was expected.
    """
    values = files.read_yaml(path)
    wrong = complaint(values, json.loads(SCHEMA.read_text())) or _nonsense(values)
    if wrong:
        raise WhoknowsError(f"{path}: {wrong.removesuffix('.')}{'' if wrong.endswith('?') else '.'}")
    return _build(values)


def _nonsense(values: dict) -> str | None:
    """What a schema cannot say: sums, and names that must differ."""
    for key in ("models", "tasks"):
        # Paths are made of model names, and some file systems do not tell Tiny from tiny.
        names = [item["name"].lower() for item in values[key]]
        for index, name in enumerate(names):
            if name in names[:index]:
                return f"`{key}[{index}].name` is `{values[key][index]['name']}`, which an earlier one has already; rename or remove it"
    for index, model in enumerate(values["models"]):
        if model.get("thinking") is not None and not model["source"].startswith(CHAT):
            return f"`models[{index}].thinking` is given, but its source is not asked in a chat template; write {CHAT} before it, or remove thinking"
    try:
        date.fromisoformat(values.get("date") or DATE)
    except ValueError:
        return f"`date` is `{values['date']}`, which is no day; write one as year-month-day, such as {DATE}"
    if not any(task["role"] == "train" for task in values["tasks"]):
        return "`tasks` has no task with role train, so there is nothing to train on; give one of them that role"
    for stage, asked in ((values.get("resources") or {}).get("stages") or {}).items():
        if "shards" in asked and stage not in SHARDED:
            return f"`resources.stages.{stage}.shards` is given, but only {' and '.join(SHARDED)} can be cut into shards; remove it"
    total = sum(values["splits"].values())
    if abs(total - 1) > 1e-6:
        return f"`splits` should sum to 1, but sums to {total:g}; change one of the shares"
    return None


def _build(values: dict) -> Grid:
    parts = {
        "models": tuple(Model(**_frozen(model)) for model in values["models"]),
        "tasks": tuple(Task(**task) for task in values["tasks"]),
        "splits": Splits(**values["splits"]),
        "answer": Answer(**values["answer"]),
        "probe": Probe(**_frozen(values["probe"]) | {"mlp": Mlp(**_frozen(values["probe"]["mlp"]))}),
        "lora_prompt": LoraPrompt(**_frozen(values["lora_prompt"])),
        "controls": Controls(**_frozen(values["controls"])),
        "judge": Judge(**values["judge"]) if values["judge"] else None,
        "search": Search(**_frozen(values["search"])) if values.get("search") else None,
        "resources": _resources(values["resources"]) if values.get("resources") else None,
    }
    return Grid(**_frozen(values) | parts)


def _resources(values: dict) -> Resources:
    stages = {stage: Stage(**said) for stage, said in values.get("stages", {}).items()}
    return Resources(**values | {"stages": stages})


def _frozen(values: dict) -> dict:
    return {key: tuple(value) if isinstance(value, list) else value for key, value in values.items()}


def main(arguments: list[str]) -> None:
    """The command line; says nothing if the grid is good and all that it names is there."""
    from whoknows.data import assets, hub, questions
    from whoknows.models import loading  # not above: reading a grid needs none of it

    parser = argparse.ArgumentParser(prog="whoknows check", description="Checks a grid and fetches what it names.")
    parser.add_argument("grid")
    chosen = load(parser.parse_args(arguments).grid)
    sources = [*(model.source.removeprefix(CHAT) for model in chosen.models), chosen.controls.embedder]
    for source in filter(assets.on_hub, filter(None, sources)):
        hub.check(source)
    asked = [questions.asset(task.name) for task in chosen.tasks]
    assets.fetch_all(list(dict.fromkeys([*asked, *(source for source in sources if source in assets.ASSETS)])))
    adapted = chosen.lora_prompt.targets if "lora_prompt" in chosen.methods else None
    for model in chosen.models:
        loading.check(model.source.removeprefix(CHAT), adapted, chosen.lora_prompt.first_layer)
