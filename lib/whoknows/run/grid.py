"""The grid: models, tasks, methods, sizes and seeds of one run, read from a YAML file and checked before anything runs.

A file has to say `name`, `models` and `tasks`. What else it leaves out, key by key, is as in `grids/embedded.yml`, and
`text` writes a grid with all that made its numbers. The words of the classes here are those of `grids/schema.json`,
which is made of them for editors, and of the sentence about a mistake. `python -m whoknows check GRID` checks a grid
and fetches the questions and models that it names.
"""

import argparse
import difflib
import json
import os
import sys
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, field, replace
from datetime import date
from functools import cache, reduce
from operator import getitem
from pathlib import Path
from typing import Annotated, Literal

import yaml
from pydantic import AfterValidator, BeforeValidator, ConfigDict, Field, TypeAdapter, ValidationError, WrapValidator
from pydantic.dataclasses import dataclass
from pydantic.json_schema import GenerateJsonSchema
from typing_extensions import TypedDict  # before Python 3.12 pydantic does not take that of typing

from whoknows import WhoknowsError
from whoknows.data import files
from whoknows.data.adapters import CONFIG
from whoknows.data.assets import ASSETS, GGUF, TINY
from whoknows.data.grading import GRADINGS
from whoknows.data.methods import TRAINED
from whoknows.data.prompts import CHAT, DATE
from whoknows.data.tasks import LEARNED, TASKS, is_one_split
from whoknows.run.stages import HEAVY, READING, STAGES

SHARDED = ("answer", "extract")  # stages that do their questions one by one


def _is(kind, title: str | None, *validators, **rules):
    """What a value has to be: the title says so, in the schema and in the sentence about one that is not."""
    strict = kind in (bool, float, int, str) or None  # true is no number, and no text is one
    return Annotated[kind, Field(title=title, strict=strict, **rules), *validators]


def _as_written(value, check):
    check(value)
    return value  # 1 stays 1 and is not 1.0: what stages are told, and so what re-runs, is made of it


def _or_null(kind, title: str, **rules):
    return _is(kind | None, f"{title}, or null", **rules)


def _number(title: str, **limits):
    return _is(float, title, WrapValidator(_as_written), allow_inf_nan=False, **limits)


def _one_of(*names: str):
    return _is(Literal[names], f"one of {', '.join(names)}")


def _once(values: tuple) -> tuple:
    if len(set(values)) < len(values):
        raise ValueError("holds the same value twice; remove one")
    return values


def _set(item, title: str | None, at_least: int = 1):
    unique = {"uniqueItems": True}
    return _is(tuple[item, ...], title, AfterValidator(_once), min_length=at_least, json_schema_extra=unique)


FILE_NAME = "letters, digits, dots and hyphens, beginning with a letter or a digit"
FileName = _is(str, FILE_NAME, pattern="^[A-Za-z0-9][A-Za-z0-9.-]*$")
Text = _is(str, "a name", min_length=1)
Whole = _is(int, "a whole number, 0 or more", ge=0)
Count = _is(int, "a whole number, 1 or more", ge=1)
Weight = _number("a number, 0 or more", ge=0)
Positive = _number("a number above 0", gt=0)
Strengths = _set(Positive, "a list of numbers above 0")
Sizes = _set(Count, "a list of whole numbers, 1 or more", at_least=0)
LINEAR = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")  # as most models call them
Layers = _set(_is(int, None, ge=0), None) | Literal["all"]  # untitled: the key's title is for all ways and items


def _tidy(rule: dict) -> None:
    for key in rule["properties"].values():
        if key.get("default", ...) is None and {"type": "null"} not in key.get("anyOf", []):
            del key["default"]  # None stands for what is left out, and is nothing to write there
        key["description"] = key["description"].replace("\n", " ")


def _part(title: str):
    rules = ConfigDict(title=title, extra="forbid", use_attribute_docstrings=True, json_schema_extra=_tidy)
    return dataclass(frozen=True, config=rules)


@_part("url and model of an endpoint")
class Endpoint:
    url: _is(str, "an address that begins with http:// or https://", pattern="^https?://.")
    """Such as http://localhost:8000/v1."""
    model: Text
    """The model's name at that address."""


@_part("the file's columns by name")
class AnswerColumns:
    question: Text = None
    """The question; it is matched without case, extra space and marks at its end."""
    question_id: Text = None
    """The question by its id in questions.parquet."""
    answer: Text = None
    """The answer; an empty text is a wrong answer, and so is an empty cell with a grade; what is missing is missing."""
    correct: Text = None
    """Whether the answer is right: true or false, yes or no, 1 or 0; where it is missing, the answer is graded here."""
    logprob: Text = None
    """The log-probability that the model gave to its whole answer, 0 or less."""


@_part("the data set's splits by ours")
class OwnSplits:
    train: Text
    """Its split whose questions are trained on; where it has none for validation, some of them are for that."""
    test: Text
    """Its split whose questions are the test."""
    validation: Text = None
    """Its split whose questions are for validation."""

    @property
    def ours(self) -> dict[str, str]:
        """The data set's name of a split -> ours."""
        named = {"train" if self.validation else LEARNED: self.train, "validation": self.validation, "test": self.test}
        return {theirs: ours for ours, theirs in named.items() if theirs}


Split = _or_null(Text | OwnSplits, "the name of a split, or the data set's splits by ours")
# Of a data set on the hub, whether it holds answers or questions.
Config = _or_null(
    Text, "the name of a configuration", description="Of the data set; where it has several and none is called default."
)
Revision = _or_null(
    Text,
    "a commit, tag or branch",
    description="Of the data set; left out: the hub's own Parquet files, as they are when first fetched.",
)


@_part("a model with name and a source, answers, hub or api")
class Model:
    name: FileName
    """What the model is called in the figures; a part of file names."""
    source: _or_null(Text, "the source of a model") = None
    """Where its weights come from: the name of an asset, a folder, a .gguf file or a model on the Hugging Face hub;
    with chat: before it, the model is asked in its chat template. Folders and files are looked for beside the grid, and
    then in the working directory. At least one model of a grid has a source."""
    answers: _or_null(Text, "a file") = None
    """File of the model's answers: .jsonl, .csv, .tsv or .parquet, beside the grid unless its path says otherwise. All
    are trained on them and score them; the model itself reads only if it has a source, too."""
    hub: _or_null(Text, "the name of a data set on the Hugging Face hub, owner/name") = None
    """The model's answers in a data set on the hub, in place of a file; its rows have the same columns."""
    config: Config = None
    split: Split = None
    """Of the data set, such as test; or several, such as train+validation; or, in a grid with released adapters, those
    that its authors trained and tested on, such as {train: train, test: validation}."""
    revision: Revision = None
    columns: _or_null(AnswerColumns, "the file's columns by name") = None
    """What that file, or data set, calls its columns, where it calls them otherwise."""
    api: _or_null(Endpoint, "url and model of an endpoint") = None
    """In place of a source: an endpoint that speaks OpenAI's API and is asked for the model's answers."""
    learning_rate: _or_null(Positive, "a number above 0") = None
    """Peak learning rate of LoRA + Prompt with this model as reader, in place of lora_prompt.learning_rate."""
    thinking: _or_null(_is(bool, None), "true or false") = None
    """Whether a chat template that has a switch is asked to think before answering; off unless this is true. An answer
    is cut at its first line end, thoughts or not."""
    layers: _or_null(Layers, "all, a list of layers (whole numbers, 0 or more)") = None
    """Hidden states that the probe chooses from with this model as reader, in place of probe.layers."""
    released: _or_null(dict[FileName, Text], "adapters by the model trained on") = field(default=None, hash=False)
    """LoRA + Prompt with this model as reader that is not trained here: by the model on whose answers others have
    trained it, a name on the Hugging Face hub, such as calibration-tuning/Mistral-7B-v0.1-ct-oe, or a folder, which is
    looked for as that of a source."""

    @property
    def answered_by(self) -> str:
        """The stage that gives its answers."""
        return "answer_file" if self.answers or self.hub else "answer_api" if self.api else "answer"


@_part("the file's columns by name")
class QuestionColumns:
    question: Text = None
    """The question."""
    answer: Text = None
    """Its accepted answer."""
    answers: Text = None
    """Its accepted answers, a list."""
    choices: Text = None
    """What to choose from, a list."""
    id: Text = None
    """The question's name."""
    task: Text = None
    """Its topic."""
    split: Text = None
    """Its split: train, validation, test or shot."""


@_part("a task with name and role")
class Task:
    name: _is(Literal[TASKS] | FileName, "the name of a set, or with a file another one (" + FILE_NAME + ")")
    """Name of the set; _mc is its multiple-choice form. With a file, a name of your own."""
    role: _one_of("train", "shift")
    """train: questions are split into train, validation and test; shift: all are test questions, never trained on."""
    size: _or_null(Count, "a whole number, 1 or more") = None
    """Questions asked, few-shot examples not counted; all of them if it is left out."""
    file: _or_null(Text, "a file") = None
    """Questions of your own, as JSON lines, CSV, TSV or Parquet, beside the grid: question, answer or answers, and
    where there are some choices, id, task (a topic) and split."""
    hub: _or_null(Text, "the name of a data set on the Hugging Face hub, owner/name") = None
    """Questions of your own in a data set on the hub, in place of a file; its rows have the same columns."""
    config: Config = None
    split: Split = None
    """Of the data set, such as test; or several, such as train+validation; or, where its own splits are to decide what
    is trained on and what is the test, such as {train: train, test: validation}."""
    revision: Revision = None
    columns: _or_null(QuestionColumns, "the file's columns by name") = None
    """What the file calls its columns, where it calls them otherwise."""
    grading: _or_null(Literal[(*GRADINGS,)], f"one of {', '.join(GRADINGS)}") = None
    """How answers to the file's questions are graded: contains (an accepted answer as whole words), exact, f1 (a token
    F1 of one half or more), number (the first number), choice (the letter) or judge (by the grid's judge); choice where
    there are choices, else contains, if it is left out."""
    tolerance: _or_null(Weight, "a number, 0 or more") = None
    """How far a number may be from the accepted one, with grading: number."""

    @property
    def has_test(self) -> bool:
        """Whether the data's own split says which questions are the test; that of a file is read line by line."""
        if self.file or isinstance(self.split, OwnSplits):
            return True
        return self.role == "shift" and ("train" not in self.split if self.hub else is_one_split(self.name))


@_part("the shares of train, validation and test")
class Splits:
    train: Positive = 0.36
    """Share of training questions."""
    validation: Positive = 0.16
    """Share of validation questions, on which settings are chosen."""
    test: Positive = 0.48
    """Share of test questions."""


@_part("shots, max_new_tokens and samples")
class Answer:
    shots: Whole = 16
    """Solved examples before each question; fewer for tasks whose questions are long."""
    max_new_tokens: Count = 30
    """Longest answer, in tokens."""
    samples: Whole = 0
    """Answers that are drawn as well to each validation and test question, for agreement and semantic entropy."""


@_part("the settings of the probe's MLP")
class Mlp:
    hidden: _is(tuple[Count, ...], "a list of whole numbers", min_length=1) = (256, 128, 64)
    """Units of each hidden layer."""
    learning_rate: Positive = 1.0e-4
    """Learning rate of Adam."""
    epochs: Count = 100
    """Passes over the training answers, at most."""
    batch_size: Count = 32
    """Answers in one step."""
    patience: Count = 10
    """Epochs without a better AUROC on validation after which training stops."""


@_part("the settings of the probe")
class Probe:
    layers: _is(Layers, "all, or a list of layers (whole numbers, 0 or more)") = "all"
    """Hidden states to choose from on validation, by the index of Hugging Face: 0 is the embeddings."""
    strengths: Strengths = (0.001, 0.01, 0.1, 1.0, 10.0)
    """L2 strengths of the logistic regression to choose from on validation."""
    mlp: Mlp = Mlp()
    """The multi-layer perceptron of Kapoor et al. (2024), on the reader's last layer."""


@_part("the settings of LoRA + Prompt")
class LoraPrompt:
    first_layer: _number("a number from 0 to 1", ge=0, le=1) = 0
    """Adapters sit on the blocks from this fraction of the depth upwards; 0 is every block."""
    r: Count = 8
    """Rank of the adapters."""
    alpha: Positive = 32
    """Scale of the adapters, divided by their rank."""
    dropout: _number("a number from 0 to below 1", ge=0, lt=1) = 0.0
    """Dropout at the adapters' input."""
    targets: _is(_set(Text, None) | Literal["all-linear"], "all-linear, or a list of names") = LINEAR
    """Linear modules of a block that get an adapter; all-linear is all that it has."""
    learning_rate: Positive = 5.0e-4
    """Peak learning rate of AdamW, which rises for a tenth of the steps and falls along a cosine. Each model wants its
    own: Gemma 3 270M did best at 0.00015, and `search` finds another's."""
    batch_size: Count = 8
    """Answers in one step."""
    epochs: Count = 8
    """Passes over the training answers, at most."""
    evaluations: Count = 16
    """Looks at validation, spread evenly over all epochs; the adapters with the best AUROC are kept. With fewer than
    three, no plateau can be seen, and every cell is marked as still improving."""
    patience: Count = 10
    """Looks at validation without a better AUROC after which training stops."""
    wrong_per_right: _or_null(Positive, "a number above 0") = None
    """Wrong training answers kept for each right one; null keeps all."""
    js_weight: Weight = 0.0
    """Weight of the Jensen-Shannon penalty that keeps the answer's distribution near the untouched model's."""


@_part("the settings of the controls")
class Controls:
    embedder: _or_null(Text, "the name of a sentence embedder") = "all-minilm-l6-v2"
    """An asset, a folder, which is looked for as that of a source, or a name on the Hugging Face hub; null leaves out
    the controls that need one."""
    strengths: Strengths = (0.01, 0.1, 1.0)
    """L2 strengths of the controls' logistic regression to choose from on validation."""
    sizes: Sizes = (100, 200, 400)
    """Numbers of training answers for the probe's learning curve."""
    lora: _set(
        _one_of("no_query", "js_weight", "left_out", "all_models"),
        "a list of no_query, js_weight, left_out and all_models",
        at_least=0,
    ) = ()
    """More trainings of every reader, with the first seed. On its own answers: LoRA with a classifier instead of the
    query; LoRA + Prompt with the js_weight that is given here; LoRA + Prompt with one whole task left out, for each
    task. On the answers of all models together, if there are several: LoRA + Prompt."""
    js_weight: Weight = 1.0
    """Weight of the Jensen-Shannon penalty in the control of that name."""


@_part("learning_rates and sizes")
class Search:
    learning_rates: _set(Positive, "a list of numbers above 0", at_least=0) = ()
    """Peak learning rates to try with all training answers; the reader's own is tried anyhow."""
    sizes: Sizes = ()
    """Numbers of training answers, fewer than there are, to try at the reader's own rate."""


@_part("some of gpus, cores, memory, minutes, partition and shards")
class Stage:  # None stands for what a grid leaves out; its file cannot say null
    gpus: Whole = None
    """GPUs; without it, stages that load a language model take turns on those of this machine, and have none on a
    cluster."""
    cores: Count = None
    """CPU cores."""
    memory: Positive = None
    """Memory in GB (10^9 bytes)."""
    minutes: Count = None
    """Run time after which a cluster stops the job."""
    partition: Text = None
    """Slurm's partition."""
    shards: _is(int, "a whole number, 2 or more", ge=2) = None
    """Jobs that share this stage's questions among them, 1,024 at a time; of answer and extract alone. Another number
    runs the stage again."""


Stages = TypedDict("Stages", dict.fromkeys(STAGES, Stage), total=False)


@_part("flops and stages")
class Resources:
    flops: Positive = None
    """Floating-point operations a second that a job which loads a language model is taken to do, for the cost that
    `make plan` shows until there are times that were measured."""
    stages: _is(Stages, "what a job gets, by stage") = field(default_factory=dict, hash=False)
    """What a job of each stage gets; what is left out is for the profile to say."""


@_part("a grid")
class Grid:
    """The models, tasks, methods, sizes and seeds of one run."""

    name: FileName
    """Results go to results/<name>/."""
    models: _is(tuple[Model, ...], "a list of models, each with name and a source, answers, hub or api", min_length=1)
    """Every model answers, is trained on and is scored; those with a source also read."""
    tasks: _is(tuple[Task, ...], "a list of tasks, each with name, size and role", min_length=1)
    """The sets of questions."""
    splits: Splits = Splits()
    """How the questions of train tasks are split, by a hash of their words; the shares sum to 1."""
    answer: Answer = Answer()
    """How answers are written."""
    methods: _set(_one_of(*dict.fromkeys(TRAINED.values())), "a list of probe, lora_prompt or both") = (
        "probe",
        "lora_prompt",
    )
    """Trained methods to run; zero_shot and likelihood need no training and always run."""
    precision: _one_of("auto", "float32", "bfloat16", "8bit", "4bit") = "auto"
    """Number format of the language models; auto is bfloat16 on a GPU and on a CPU that has it, else float32. With 8bit
    and 4bit the blocks' matrices are quantised by bitsandbytes, and the rest is bfloat16."""
    batch_tokens: _or_null(_is(int, None, ge=64), "a whole number, 64 or more") = 2048
    """Tokens in one forward pass of a language model; null is as many as fit into a GPU's free memory."""
    seeds: _set(Whole, "a list of whole numbers, 0 or more") = (0,)
    """Every estimator is trained once for each."""
    probe: Probe = Probe()
    """Classifiers on the hidden state at the answer's last token."""
    lora_prompt: LoraPrompt = LoraPrompt()
    """Low-rank adapters trained to say whether an answer is correct."""
    controls: Controls = Controls()
    """Estimators that a trivial shortcut would pass as well."""
    judge: _or_null(Endpoint, "url and model of a judge") = None
    """Another model, behind an endpoint that speaks OpenAI's chat API, that grades the answers of tasks with grading:
    judge, and the test answers to open questions of the others once more; its key, if it wants one, is taken from the
    environment variable WHOKNOWS_JUDGE_KEY."""
    beside: _or_null(Text, "a folder") = None
    """Packed results of another run, as `python -m whoknows pack` writes them, whose pages the book shows after its
    own."""
    date: _is(Text | None, "a day as year-month-day, or null", BeforeValidator(lambda day: day or DATE)) = DATE
    """What a chat template that tells the date is told, on whatever day it runs; 2025-01-01 if it is left out."""
    search: _or_null(Search, "learning_rates and sizes") = None
    """Trainings of every reader on its own answers, with the first seed, that show on validation answers which settings
    of LoRA + Prompt to take; it may be left out."""
    resources: _or_null(Resources, "flops and stages") = None
    """What jobs ask of a cluster; no result depends on it, and it may be left out."""

    @property
    def reading(self) -> list[Model]:
        """The models that read: those with a source."""
        return [model for model in self.models if model.source]

    @property
    def readers(self) -> list[str]:
        """Names of the models that read."""
        return [model.name for model in self.reading]

    def job(self, stage: str) -> Stage:
        """What a job of a stage should get; all None if the grid says nothing."""
        return (self.resources.stages if self.resources else {}).get(stage, Stage())

    def cores(self, stage: str, share: int) -> int:
        """Cores of a job: what the grid says, or `share` for the stages that are faster on more than one."""
        return self.job(stage).cores or (share if stage in HEAVY else 1)

    def needs(self, stage: str, cards: int) -> dict[str, int | str]:
        """Resources of a job as Snakemake's executors name them; what the grid leaves out is the profile's to say.

        Args:
            cards: GPUs of this machine among which jobs take turns; 0 where there are none, or jobs run elsewhere.
        """
        job = self.job(stage)
        gpus = job.gpus if job.gpus is not None else min(cards, stage in READING)
        resources = {"gpu": gpus, "mem_mb": job.memory and round(1000 * job.memory)}
        resources |= {"runtime": job.minutes, "slurm_partition": job.partition}
        return {name: value for name, value in resources.items() if value is not None}


_GRID = TypeAdapter(Grid)


def load(path: Path | str) -> Grid:
    """Reads a grid and checks all of it; the paths that it gives from its own folder are joined.

    Raises:
        WhoknowsError: the file is missing or wrong; the message names the file, the key and what was expected.
    """
    grid, here = build(files.read_yaml(path), f"{path}: "), _here(Path(path).parent)
    tasks = tuple(replace(task, file=task.file and str(here / task.file)) for task in grid.tasks)
    try:
        models = tuple(_joined(model, here) for model in grid.models)
        embedder = _beside(here, grid.controls.embedder)
    except WhoknowsError as error:
        raise WhoknowsError(f"{path}: {error}") from None
    return replace(grid, tasks=tasks, models=models, controls=replace(grid.controls, embedder=embedder))


def _here(folder: Path) -> Path:
    """A folder as the working directory calls it, if it is within: stages are told its paths, however one names it."""
    if not folder.is_absolute() and ".." not in folder.parts:
        return folder
    whole = folder.resolve()
    return whole.relative_to(Path.cwd()) if whole.is_relative_to(Path.cwd()) else whole


def _joined(model: Model, here: Path) -> Model:
    """A model with its paths joined to the folder of its grid."""
    released = model.released and {on: _beside(here, name, CONFIG) for on, name in model.released.items()}
    answers = model.answers and str(here / model.answers)
    return replace(model, source=_beside(here, model.source), answers=answers, released=released)


def _beside(here: Path, name: str | None, holds: str = "config.json") -> str | None:
    """The path of a folder with such a file, or of a GGUF file, from the grid's folder; else the name as it is."""
    kind, plain = CHAT * (name or "").startswith(CHAT), (name or "").removeprefix(CHAT)
    holds = "" if plain.endswith(GGUF) else holds
    if not name or plain in {*ASSETS, *TINY} or not (here / plain / holds).is_file():
        return name
    if not Path(plain, holds).is_file():
        return f"{kind}{here / plain}"
    if not Path(plain).samefile(here / plain):
        raise WhoknowsError(
            f"{plain} is there beside the grid, and another one in the working directory; write the whole path of the "
            "one that is meant"
        )
    return name


def build(values, origin: str = "") -> Grid:
    """The grid that a file's values make.

    Raises:
        WhoknowsError: they are wrong; a sentence that begins with the origin, with the key and what was expected.
    """
    try:
        grid = _GRID.validate_python(values)
        mistake = next(_nonsense(grid), None)  # the first: what follows may rest on what it finds wrong
    except ValidationError as wrong:
        mistake = _mistake(values, wrong.errors())
    if mistake:
        raise WhoknowsError(f"{origin}{mistake.removesuffix('.')}{'' if mistake.endswith('?') else '.'}")
    return grid


def text(grid: Grid, folder: Path) -> str:
    """All values of a grid as YAML, those included that its file leaves out; a file in that folder is the same grid.

    Of models, tasks and resources, keys that are not given are left out here, too: they have no value.
    """
    whole = json.loads(json.dumps(asdict(grid)))
    whole |= {key: _given(whole[key]) for key in ("models", "tasks", "resources")}
    for item in (*whole["models"], *whole["tasks"]):
        for key in {"answers", "file"} & {*item}:
            item[key] = os.path.relpath(item[key], folder)  # as `load` reads it
    return yaml.safe_dump(whole, sort_keys=False, default_flow_style=None, allow_unicode=True, width=120)


def _given(values):
    """Without None, wherever it is."""
    if isinstance(values, dict):
        return {key: _given(value) for key, value in values.items() if value is not None}
    return [*map(_given, values)] if isinstance(values, list) else values


def _mistake(values, errors: list[dict]) -> str:
    """The most telling of pydantic's errors, as a sentence with the key, what it should be and what it is."""
    # An unknown key may be a missing one misspelt, and a list with a wrong item counts as too short, too.
    unknown = ("unexpected_keyword_argument", "extra_forbidden", "invalid_key")
    error = max(errors, key=lambda error: (error["type"] in unknown, len(error["loc"])))
    rule, path = schema(), []
    for step in error["loc"]:
        inner = _flat(rule.get("items", {}) if isinstance(step, int) else rule.get("properties", {}).get(step, {}))
        if "title" in inner:  # else an unknown key, or one of the ways of a value, or an item that is named as a whole
            rule, path = inner, [*path, step]
    if error["type"] in unknown:
        key = error["input"] if error["type"] == "invalid_key" else error["loc"][-1]
        return f"there is no key {_dotted([*path, key])}; {_meant(key, [*rule['properties']], 'the keys here are')}"
    if error["type"] == "missing":
        return f"{_dotted(path)} is missing; it should be {rule['title']} ({rule['description']})"
    if error["type"] == "value_error":
        return f"{_dotted(path)} {error['ctx']['error']}"
    value = reduce(getitem, path, values)
    return f"{_dotted(path)} should be {rule['title']}, but is {_short(value)}{_advice(value, rule)}"


def _flat(rule: dict) -> dict:
    """A rule of the schema with those that it names or chooses among; its own title and description stand."""
    parts = [schema()["$defs"][rule["$ref"].rpartition("/")[2]]] if "$ref" in rule else rule.get("anyOf", [])
    return reduce(lambda whole, part: whole | _flat(part), parts, {}) | rule


def _meant(name, known: Sequence[str], these: str) -> str:
    near = difflib.get_close_matches(str(name), known, 1)
    return f"did you mean `{near[0]}`?" if near else f"{these} {', '.join(known)}"


def _advice(value, rule: dict) -> str:
    near = difflib.get_close_matches(str(value), rule.get("enum", []), 1)
    if near:
        return f"; did you mean `{near[0]}`?"
    if isinstance(value, (int, float)) and {"minLength", "pattern"} & {*rule}:
        return "; write it in quotes"
    try:
        # YAML 1.1 reads 1e-4 as text: a float needs its point.
        return f"; YAML takes that for text: write {float(value):f}".rstrip("0") if isinstance(value, str) else ""
    except ValueError:
        return ""


def _dotted(path: list) -> str:
    steps = "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in path)
    return f"`{steps.lstrip('.')}`" if steps else "the file"


def _short(value) -> str:
    text = "empty" if value in (None, "", [], {}) else f"`{value}`"
    return text if len(text) < 80 else f"{text[:76]}…`"


def _nonsense(grid: Grid) -> Iterator[str]:
    """What a schema cannot say: sums, and names that must differ."""
    for key, items in (("models", grid.models), ("tasks", grid.tasks)):
        # Paths are made of model names, and some file systems do not tell Tiny from tiny.
        names = [item.name.lower() for item in items]
        for index, item in enumerate(items):
            if names[index] in names[:index]:
                yield f"`{key}[{index}].name` is `{item.name}`, which an earlier one has already; rename or remove it"
    for index, task in enumerate(grid.tasks):
        for mistake in _of_task(task):
            yield f"`tasks[{index}].{mistake}"
        if task.grading == "judge" and not grid.judge:
            key, fix = f"tasks[{index}].grading", "write judge: {url: …, model: …}, or name another grading"
            yield f"`{key}` is judge, but `judge` is missing, so nobody can grade {task.name}; {fix}"
    for index, model in enumerate(grid.models):
        for mistake in _of_model(model):
            yield f"`models[{index}]` {mistake}"
        if model.thinking is not None and not model.source.startswith(CHAT):
            given = f"`models[{index}].thinking` is given, but its source is not asked in a chat template"
            yield f"{given}; write {CHAT} before it, or remove thinking"
    yield from _of_endpoints(grid)
    if not grid.readers:
        yield "`models` has no model with a source, so nothing can read the answers; give one of them a source"
    try:
        date.fromisoformat(grid.date)
    except ValueError:
        yield f"`date` is `{grid.date}`, which is no day; write one as year-month-day, such as {DATE}"
    if not any(task.role == "train" for task in grid.tasks):
        yield "`tasks` has no task with role train, so there is nothing to train on; give one of them that role"
    for stage, asked in (grid.resources.stages if grid.resources else {}).items():
        if asked.shards and stage not in SHARDED:
            key, cut = f"resources.stages.{stage}.shards", " and ".join(SHARDED)
            yield f"`{key}` is given, but only {cut} can be cut into shards; remove it"
    yield from _of_released(grid)
    shares = asdict(grid.splits)
    if abs(sum(shares.values()) - 1) > 1e-6:
        parts = ", ".join(f"{name} {share:g}" for name, share in shares.items())
        yield f"`splits` should sum to 1, but sums to {sum(shares.values()):g} ({parts}); give all three"


def _of_endpoints(grid: Grid) -> Iterator[str]:
    """What is no address, or holds a secret, which results would hold, too; no sentence repeats it."""
    named = [(f"models[{at}].api", model.api, "WHOKNOWS_API_KEY") for at, model in enumerate(grid.models)]
    for key, endpoint, variable in [*named, ("judge", grid.judge, "WHOKNOWS_JUDGE_KEY")]:
        if endpoint:
            from whoknows.stages.endpoint import WANTED, is_address  # not above: few grids have one

            if not is_address(endpoint.url):
                yield f"`{key}.url`: {WANTED} {variable}"


def _of_task(task: Task) -> Iterator[str]:
    is_brought = bool(task.file or task.hub)
    if task.name in ("in-distribution", "shift"):
        yield f"name` is `{task.name}`, as pages call all tasks of a role together; choose another name"
    if not is_brought and task.name not in TASKS:
        meant = _meant(task.name, TASKS, "these are here:")
        yield f"name` is `{task.name}`, which is no set of questions and has no file; {meant}"
    if is_brought and task.name in TASKS:
        yield f"name` is `{task.name}`, a set that is here already; choose another name for your own questions"
    if task.file and task.hub:
        yield "hub` is given, but a file too; remove one of them"
    if task.hub and not task.split:
        yield "split` is missing; name a split of the data set, such as test"
    if isinstance(task.split, OwnSplits) and task.columns and task.columns.split:
        yield "columns.split` is given, but split names the data set's own splits too; remove one of them"
    if mistake := _of_split(task.split):
        yield f"split` {mistake}"
    brought, fetched = ("columns", "grading", "tolerance"), ("config", "split", "revision")
    for keys, is_so, place in ((brought, is_brought, "file"), (fetched, task.hub, "data set on the hub")):
        for key in keys:
            if getattr(task, key) is not None and not is_so:
                yield f"{key}` is given, but {task.name} is from no {place}; remove it"
    if task.tolerance is not None and task.grading != "number":
        yield "tolerance` is given, but grading is not number; remove one of them, or write grading: number"


def _of_model(model: Model) -> Iterator[str]:
    """What is wrong with the keys that a model has together."""
    given = [key for key in ("source", "answers", "hub", "api") if getattr(model, key)]
    if not given:
        yield "has none of source, answers, hub and api; give it one of them"
    if len(given) > 1 and (len(given) > 2 or given[0] != "source" or "api" in given):
        yield f"has {' and '.join(given)}; give it one of them, or a source and one of answers and hub"
    if model.hub and not model.split:
        yield "has hub without split; name a split of the data set, such as test"
    if mistake := _of_split(model.split):
        yield f"has a split that {mistake}"
    needs = {"columns": ("answers", "hub")} | dict.fromkeys(("config", "split", "revision"), ("hub",))
    needs |= dict.fromkeys(("learning_rate", "thinking", "layers", "released"), ("source",))
    for key, others in needs.items():
        if getattr(model, key) is not None and not {*others} & {*given}:
            yield f"has {key} without {' or '.join(others)}; remove it"


def _of_split(split: str | OwnSplits | None) -> str | None:
    if not isinstance(split, OwnSplits):
        return None
    named = list(filter(None, asdict(split).values()))
    return "names one of the data set's splits twice; name others" if len({*named}) < len(named) else None


def _of_released(grid: Grid) -> Iterator[str]:
    """What is wrong with adapters that others have trained, or lets a test question be one that they have learned."""
    named = {model.name: model for model in grid.models}
    for index, model in enumerate(grid.models):
        for on in model.released or ():
            where = f"`models[{index}].released` has an adapter trained on {on}"
            if on not in named:
                yield f"{where}, which is no model here; {_meant(on, [*named], 'these are:')}"
            if isinstance(named[on].split, str):
                yield (
                    f"{where}, but not which split of {named[on].hub} that was: write the split of {on} as "
                    "{train: train, test: validation}, with its own names"
                )
    with_some = [model for model in grid.models if model.released]
    if not with_some:
        return
    first = f"{with_some[0].name} has a released adapter"
    for index, task in enumerate(grid.tasks):
        if not task.has_test:
            yield (
                f"`tasks[{index}]` is {task.name}, of whose questions no split of the data says which are the test, "
                f"but {first}, which may have learned any of them; take a data set on the hub with split: "
                "{train: …, test: …}, or a file with a column split"
            )
    if len(grid.seeds) > 1:
        yield f"`seeds` has {len(grid.seeds)} values, but {first}, which was trained once; name one seed"
    own = next((model.name for model in with_some if model.name in model.released), None)
    if own and grid.controls.lora:
        yield (
            f"`controls.lora` asks for other trainings of {own}, but on its own answers its LoRA + Prompt is a "
            "released adapter, with which they cannot be compared; leave the list empty"
        )


def unused(grid: Grid) -> Iterator[str]:
    """Sentences about what a grid gives for methods that it does not have, or for a judge that has nothing to do."""
    asked = [("lora_prompt", "search", grid.search), ("lora_prompt", "controls.lora", grid.controls.lora)]
    for method, key in (("lora_prompt", "learning_rate"), ("lora_prompt", "released"), ("probe", "layers")):
        asked += [(method, f"models[{at}].{key}", getattr(model, key)) for at, model in enumerate(grid.models)]
    for method, key, value in asked:
        if value and method not in grid.methods:
            yield f"`{key}` is not used: `methods` has no {method}."
    if grid.judge and all(task.grading not in (None, "contains", "judge") for task in grid.tasks):
        yield "`judge` is not used: no task has grading judge, and none has open questions to compare it on."


def renamed(columns: AnswerColumns | QuestionColumns | None) -> dict[str, str]:
    """Our name -> the file's, for the columns that a user's file calls otherwise."""
    return {ours: theirs for ours, theirs in asdict(columns).items() if theirs} if columns else {}


@cache
def schema() -> dict:
    """The JSON Schema of a grid, draft 2020-12; `grids/schema.json` holds it."""
    return {"$schema": GenerateJsonSchema.schema_dialect} | _GRID.json_schema()


@contextmanager
def _plain_warnings() -> Iterator[None]:
    """Warnings are said as their sentence alone."""
    with warnings.catch_warnings():
        warnings.showwarning = lambda message, *_: print(message, file=sys.stderr)
        yield


def main(arguments: list[str]) -> None:
    """The command line; if the grid is good and all that it names is there, it only says what its files hold."""
    from whoknows.data import adapters, assets, hub, question_files, questions
    from whoknows.models import loading
    from whoknows.run import brought, parameters
    from whoknows.stages import answer_file  # not above: reading a grid needs none of it

    parser = argparse.ArgumentParser(prog="whoknows check", description="Checks a grid and fetches what it names.")
    either = parser.add_mutually_exclusive_group(required=True)
    either.add_argument("grid", nargs="?")
    either.add_argument("--schema", action="store_true", help="print what grids/schema.json should hold, instead")
    options = parser.parse_args(arguments)
    if options.schema:
        return print(json.dumps(schema(), indent=2))
    chosen = load(options.grid)
    for sentence in unused(chosen):
        print(sentence, file=sys.stderr)
    readers = [model.source.removeprefix(CHAT) for model in chosen.reading]
    sources = [*readers, chosen.controls.embedder]
    for source in filter(assets.on_hub, filter(None, sources)):
        hub.check(source)
    for model in chosen.reading:
        for name in dict.fromkeys((model.released or {}).values()):
            adapters.check(name, model.source)
    asked = [questions.asset(task.name) for task in chosen.tasks if task.name in TASKS]
    with _plain_warnings():
        for item in (*chosen.tasks, *chosen.models):
            brought.fetch(item)
    assets.fetch_all(list(dict.fromkeys([*asked, *(source for source in sources if source in assets.ASSETS)])))
    with_answers = [model for model in chosen.models if model.answered_by == "answer_file"]
    if with_answers or any(task.name not in TASKS for task in chosen.tasks):
        with _plain_warnings():
            asked = questions.build(parameters.tasks(chosen), asdict(chosen.splits), chosen.answer.shots)
        of_file = asked["task"].str.partition("_")[0]  # before its topic; no name of a user's task has a _
        for task in (task for task in chosen.tasks if task.name not in TASKS):
            mine = asked[of_file == task.name]
            for sentence in [question_files.counted(mine), *question_files.advice(mine)]:
                print(f"{task.name}: {sentence}")
        for model in with_answers:
            print(f"{model.name}: {answer_file.read(asked, brought.file(model), renamed(model.columns))[1]}")
    adapted = chosen.lora_prompt.targets if "lora_prompt" in chosen.methods else None
    for source in readers:
        loading.check(source, adapted, chosen.lora_prompt.first_layer)
