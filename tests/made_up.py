"""Made-up questions and answers, and what plain transformers says about them."""

import ast
import copy
import functools
import inspect
import itertools
import json
import re
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from IPython.display import DisplayObject

from whoknows.data import files
from whoknows.data.positions import LAST, POSITIONS, stem
from whoknows.estimators import hidden as on_disk
from whoknows.models import forward
from whoknows.models.batching import TokenBudget
from whoknows.models.packing import PackedBatch
from whoknows.models.reader import Reader

QUESTIONS = (
    "What is the best food for an animal?",
    "Who made the city by the river, and in which year was it the country's biggest?",
    "Why?",
    "Which force moves a leaf in the wind?",
    "How many suns can be seen from Zürich?",
    "What gas is in the air\nChoices:\n(A): iron\n(B): oxygen",
)
TEXTS = ("the sun", "A", "", "42 metal rivers", "an ocean of heat and light", "B")
# Chat templates: of a kind that many have, and LLaMA-2's, without its system prompt.
CHATML = """{% for m in messages %}{% if loop.first and m['role'] != 'system' %}<|im_start|>system
You help.<|im_end|>
{% endif %}<|im_start|>{{ m['role'] }}
{{ m['content'] }}<|im_end|>
{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant
{% endif %}"""
LLAMA_2 = """{% for m in messages %}{% if m['role'] == 'user' %}\
{{ bos_token + '[INST] ' + m['content'].strip() + ' [/INST]' }}\
{% else %}{{ ' ' + m['content'].strip() + ' ' + eos_token }}{% endif %}{% endfor %}"""


def answers(texts=TEXTS, correct=None, split="test", task="made_up") -> pd.DataFrame:
    """An answers frame; questions repeat if there are more texts than questions."""
    count = len(texts)
    values = {
        "question_id": [f"q{i}" for i in range(count)],
        "task": task,
        "split": split,
        "question": [QUESTIONS[i % len(QUESTIONS)] for i in range(count)],
        "gold": [["the sun"]] * count,
        "kind": "open",
        "answer": list(texts),
        "correct": [i % 2 == 0 for i in range(count)] if correct is None else list(correct),
    }
    return pd.DataFrame(values)


def mixed(count=96) -> dict[str, pd.DataFrame]:
    """Graded answers of three models to the same questions, of two interleaved, unequal tasks; gold answers differ."""
    questions = [f"What is number {i}?" for i in range(count)]
    task = ["sciq" if i % 3 == 1 else "trivia_qa" for i in range(count)]
    split = [("train", "validation", "train", "test")[i // 2 % 4] for i in range(count)]
    frames = {}
    for at, model in enumerate(("one", "two", "three")):
        correct = np.random.default_rng(at).random(count) < 0.4
        made = answers([f"{'it is' if right else 'not'} {i}" for i, right in enumerate(correct)], correct, split, task)
        frames[model] = made.assign(question=questions, gold=[[f"it is {i}"] for i in range(count)])
    return frames


def sentences(text: str) -> list[int]:
    """How many words each sentence of a text has."""
    return [len(sentence.split()) for sentence in re.split(r"(?<=\.) ", text)]


def spied(monkeypatch, owner, name: str, instead=None) -> list[dict]:
    """What a function or a class is handed from now on, by the names of its parameters.

    Args:
        instead: does its work; None leaves it as it is.
    """
    usual, seen = getattr(owner, name), []

    def spy(*values, **more):
        bound = inspect.signature(usual).bind(*values, **more)
        bound.apply_defaults()
        seen.append(dict(bound.arguments))
        return (instead or usual)(*values, **more)

    monkeypatch.setattr(owner, name, spy)
    return seen


def make_rows(logit, correct, task="trivia_qa", **names) -> pd.DataFrame:
    """Rows of one estimator with these confidences and grades; other columns by name."""
    key = {"method": "probe", "reader": "a", "trained_on": "a", "scored": "b", "split": "test", "seed": 0}
    n = len(logit)
    ids = [f"{task}{i}" for i in range(n)]
    values = {"logit": np.float32(logit), "correct": np.array(correct, bool)}
    return pd.DataFrame(values | {"task": task, "question_id": ids} | {k: [v] * n for k, v in (key | names).items()})


def graded(strengths, count=400, **names):
    """Rows of each method for a reader that judges its own answers; confidence is noise and `strength` times grade."""
    parts = []
    for method, strength in strengths.items():
        for at, task in enumerate(("trivia_qa", "sciq", "nq_open")):
            rng = np.random.default_rng(at)
            correct = np.arange(count) % 4 == 0
            logit = rng.normal(size=count) + strength * correct
            parts.append(
                make_rows(
                    logit, correct, task, method=method, **{"reader": "a", "trained_on": "a", "scored": "a"} | names
                )
            )
    return pd.concat(parts, ignore_index=True)


THREE = ["birch", "cedar", "ash"]  # in the order of no alphabet, nor of who is right most often
FOUR = [
    {"name": "sciq", "role": "train"},
    {"name": "trivia_qa", "role": "train"},
    {"name": "nq_open", "role": "shift"},
    {"name": "capitals", "role": "shift"},
]
RIGHT = {
    "birch": (0.3, 0.4, 0.5, 0.0),
    "cedar": (0.6, 0.7, 0.4, 0.4),
    "ash": (0.5, 0.45, 0.6, 0.6),
}  # share by model and task
IMPROVING = [
    ("lora_prompt", "ash", "ash", 0),
    ("lora_prompt", "cedar", "birch", 1),
    ("probe_without_sciq", "ash", "ash", 1),
]
NEVER_RUN = [
    ("ash", "cedar", 0),
    ("ash", "cedar", 1),
    ("ash", "birch", 1),
]  # reader, trained on and seed of LoRA + Prompt


def a_run(folder: Path) -> None:
    """The folders answers, rows, controls and estimators of a run of `THREE` models on `FOUR` tasks with two seeds.

    Tasks stand interleaved and are of unequal size, models are right on unlike questions and in unlike shares, and no
    two estimators are equally good at anything: whoever mistakes one for another writes another number. One model has a
    task without a right answer, some estimators were `IMPROVING`, and some never ran.
    """
    rng = np.random.default_rng(3)
    asked = pd.DataFrame({"task": rng.permutation(np.repeat([task["name"] for task in FOUR], (120, 75, 60, 40)))})
    asked["question_id"] = [f"q{at}" for at in rng.permutation(len(asked))]
    trained = asked["task"].isin(["sciq", "trivia_qa"]) & (asked.index % 3 == 0)
    frames = {}
    for model in THREE:
        share = asked["task"].map({task["name"]: right for task, right in zip(FOUR, RIGHT[model])})
        texts = {
            "question": "Which is " + asked["question_id"] + "?",
            "answer": f"{model} on " + asked["question_id"],
            "gold": [[f"gold {name}", name] for name in asked["question_id"]],
        }
        split = np.where(~trained, "test", np.where(asked.index % 2 == 0, "validation", "train"))
        frames[model] = asked.assign(**texts, split=split, correct=rng.random(len(asked)) < share)
        _kept(folder / "answers" / f"{model}.parquet").write_bytes(frames[model].to_parquet())

    def rows(kind: str, method: str, reader: str, trained_on: str, scored: list[str], seed: int = 0) -> None:
        # a seed has validation questions of its own, as where they are dealt out anew
        split = np.where(~trained, "test", np.where(asked.index % (2 + seed) == 0, "validation", "train"))
        parts = []
        for model in scored:
            strength = (
                rng.uniform(-1.2, -0.8)
                if (method, reader, model) == ("zero_shot", "ash", "cedar")
                else rng.uniform(0, 2.4)
            )
            spread, offset = rng.uniform(0.5, 2), rng.uniform(-1, 1)
            logit = (spread * (rng.normal(size=len(asked)) + strength * frames[model]["correct"]) + offset).round(2)
            names = {
                "method": method,
                "reader": reader,
                "trained_on": trained_on,
                "scored": model,
                "seed": seed,
                "split": split,
            }
            parts.append(
                frames[model][["task", "question_id", "correct"]].assign(**names, logit=logit.astype("float32"))[
                    split != "train"
                ]
            )
        _kept(folder / kind / method / (reader or "none") / (trained_on or "none") / f"seed{seed}.parquet").write_bytes(
            pd.concat(parts).to_parquet()
        )

    def card(method: str, reader: str, trained_on: str, seed: int, **values) -> None:
        names = {
            "method": method,
            "reader": reader,
            "trained_on": trained_on,
            "seed": seed,
            "source": f"owner/{reader}-7b-chat",
            "precision": "float32",
        }
        path = _kept(
            folder / "estimators" / method.split("_without")[0] / reader / trained_on / f"seed{seed}" / f"{method}.json"
        )
        path.write_text(json.dumps(names | {"settings": {"patience": 3}} | values))

    for reader, trained_on, seed in itertools.product(THREE, THREE, (0, 1)):
        place = reader, trained_on, seed
        at = 2 + THREE.index(reader) + 4 * THREE.index(trained_on) + seed
        rows("rows", "probe", reader, trained_on, THREE, seed)
        search = [
            {"layer": layer, "strength": 1.0, "validation_auroc": 0.7 - abs(layer - at) / 100} for layer in range(20)
        ]
        card("probe", *place, chosen={"layer": at, "strength": 1.0}, search=search, last_layer=19)
        if place not in NEVER_RUN:
            rows("rows", "lora_prompt", reader, trained_on, THREE, seed)
            looks = (0.6, 0.7, 0.8, 0.9) if ("lora_prompt", *place) in IMPROVING else (0.6, 0.8, 0.8, 0.8)
            card(
                "lora_prompt",
                *place,
                history=[
                    {"step": 10 * (at + look), "loss": 0.6, "validation_auroc": value}
                    for look, value in enumerate(looks)
                ],
            )
        if reader == trained_on:
            for method in ("embedder", "probe_without_sciq", "probe_n20"):
                rows("controls", method, "" if method == "embedder" else reader, trained_on, [trained_on], seed)
            looks = (0.6, 0.7, 0.8, 0.9) if ("probe_without_sciq", *place) in IMPROVING else (0.6, 0.8, 0.8, 0.8)
            card(
                "probe_without_sciq",
                *place,
                history=[{"step": look, "validation_auroc": value} for look, value in enumerate(looks)],
            )
    rows("rows", "likelihood", "", "", THREE)
    for reader in THREE:
        rows("rows", "zero_shot", reader, "", THREE)


def pages_of(run: Path):
    """A function: what the code cells of a notebook show, texts, charts or None, and the table that it writes."""
    folders = {"rows": run / "rows", "more_rows": run / "controls", "estimators": run / "estimators"}
    usual = {name: str(folder) for name, folder in folders.items()} | {
        "models": THREE,
        "readers": THREE,
        "methods": ["probe", "lora_prompt"],
        "seeds": [0, 1],
        "tasks": FOUR,
        "answers": {model: str(run / "answers" / f"{model}.parquet") for model in THREE},
    }

    @functools.cache
    def shown(name: str, **place):
        shown_by_cells, space = [], {}
        for cell in re.split(r"(?m)^# %%.*$", (files.ROOT / f"notebooks/{name}.py").read_text()):
            lines = ast.parse(cell).body
            value = lines.pop().value if lines and isinstance(lines[-1], ast.Expr) else None
            exec(compile(ast.Module(lines, []), name, "exec"), space)
            if "out" in space and not shown_by_cells:
                wanted = usual | {"out": str(run / f"{name}.parquet")} | _of_place(run, place)
                space |= {key: wanted[key] for key in wanted if key in space}
            if value:
                seen = eval(compile(ast.Expression(value), name, "eval"), space)
                shown_by_cells.append(seen.data if isinstance(seen, DisplayObject) else seen)
        return shown_by_cells, pd.read_parquet(run / f"{name}.parquet")

    return shown


def _of_place(run: Path, place: dict) -> dict:
    """The parameters of a cell's page."""
    if not place:
        return {}
    inside = f"{place['method']}/{place['reader']}/{place['trained_on']}"
    answers = {model: str(run / "answers" / f"{model}.parquet") for model in THREE}
    folders = {name: str(run / name / inside) for name in ("rows", "estimators")}
    return place | folders | {"answers": answers}


def _kept(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


def fresh(reader: Reader) -> Reader:
    """A copy that a test may change."""
    return Reader(copy.deepcopy(reader.model), reader.tokenizer)


def extract(
    reader: Reader, packed: PackedBatch, first_block: int | None, tokens: int, positions=POSITIONS
) -> forward.Features:
    """`forward.extract` with so many tokens in a pass."""
    return forward.extract(reader, packed, positions, first_block, TokenBudget(tokens, reader.device))


def untaught(reader: Reader, **changes) -> Reader:
    """The same kind of model with random weights, so that its answers are long and all different."""
    config = copy.deepcopy(reader.model.config)
    for key, value in changes.items():
        setattr(config, key, value)
    torch.manual_seed(3)
    config.initializer_range = 0.15
    model = type(reader.model)._from_config(config, attn_implementation="sdpa")
    return Reader(model.eval().requires_grad_(False), reader.tokenizer)


@torch.no_grad()
def plain(reader: Reader, ids: list[int]):
    """The whole model's own forward pass on one row of ids, without any of this project's code."""
    return reader.model(input_ids=torch.tensor([ids]), output_hidden_states=True, use_cache=False)


def put(keys, value):
    """A change to a grid's values: another value at the end of some keys."""

    def change(values):
        *way, last = keys
        for key in way:
            values = values[key]
        values[last] = value

    return change


def save_hidden(folder, scored, hidden, position=LAST):
    """Writes hidden states [answers, layers + 1, width] where a probe looks for those of a scored model's answers."""
    files.write_safetensors(on_disk.file(folder, stem(scored, position)), {"hidden": hidden})
