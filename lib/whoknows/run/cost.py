"""What each stage of a grid has to do: jobs, floating-point operations and bytes on the disk, by arithmetic alone.

A forward pass does 2 operations for each weight and token, and training through frozen weights 4: forwards, and
backwards to what enters them (Kaplan et al. 2020, arXiv 2001.08361, section 2.1, without the gradients of weights).
Attention itself is left out. A model's size is that of its config.json if that is here, else what its name says.
"""

import functools
import json
import re
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path

from whoknows import WhoknowsError
from whoknows.data import assets, cache, files, hub, positions
from whoknows.data.methods import TRAINED
from whoknows.data.prompts import CHAT
from whoknows.run import brought, gpus, parameters
from whoknows.run.grid import Grid, Task, load
from whoknows.run.stages import READING, STAGES

UNITS = {"m": 1e6, "b": 1e9}
KEYS = ("hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size", "vocab_size")
UNKNOWN = 7e9  # weights of a model whose files are not here and whose name has no number
ASPECT = 128  # width over layers of most models; with 12 weights a layer for each square of the width


@dataclass(frozen=True)
class Size:
    """A decoder's dimensions."""

    layers: int
    width: int
    sides: dict[str, int]  # for each linear module of a block, its inputs and outputs together
    blocks: float  # weights of all blocks
    head: float  # and of the output head
    origin: str  # what says so, if not its whole config.json


def size(source: str) -> Size:
    """Of a model that a grid names."""
    source = source.removeprefix(CHAT)
    config = _config(source)
    if config and (shape := _read(config)):
        return shape
    match = re.search(r"(\d+(?:\.\d+)?)([mb])(?![a-z])", source.lower())
    weights = float(match[1]) * UNITS[match[2]] if match else UNKNOWN
    width = (weights * ASPECT / 12) ** (1 / 3)
    shape = (round(width), round(width / ASPECT), 1, round(width * 8 / 3), 32000)
    return _of(dict(zip(KEYS, shape, strict=True)), "its name says" if match else "a guess")


def _read(path: Path) -> Size | None:
    """What a config.json says; where it leaves out a key, what transformers takes for it; None if neither is enough."""
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
        config = config.get("text_config", config)
        if not all(config.get(key) for key in KEYS):
            from transformers import AutoConfig  # not above: it takes seconds

            whole = AutoConfig.from_pretrained(path.parent).get_text_config()
            config = {key: getattr(whole, key, None) for key in (*KEYS, "head_dim", "num_key_value_heads")}
        return _of(config, "" if all(config.get(key) for key in KEYS) else "its config.json says in part")
    except Exception:  # whatever is written there
        return None


def _of(config: dict, origin: str) -> Size:
    width, layers, heads = config["hidden_size"], config["num_hidden_layers"], config["num_attention_heads"] or 1
    inner = config["intermediate_size"] or 4 * width  # as GPT-2 has it
    head = config.get("head_dim") or width // heads
    queries, keys = head * heads, head * (config.get("num_key_value_heads") or heads)
    shapes = {"q_proj": (width, queries), "k_proj": (width, keys), "v_proj": (width, keys), "o_proj": (queries, width)}
    shapes |= {"gate_proj": (width, inner), "up_proj": (width, inner), "down_proj": (inner, width)}
    blocks = layers * sum(a * b for a, b in shapes.values())
    sides = {name: sum(shape) for name, shape in shapes.items()}
    return Size(layers, width, sides, blocks, width * config["vocab_size"], origin)


def _config(source: str) -> Path | None:
    """Of a local folder, of an asset, a tiny model or a GGUF file in the cache, or of the hub's own cache."""
    here = Path(source).expanduser() / "config.json"
    if here.is_file():
        return here
    if source.endswith(assets.GGUF):
        return next(cache.root().glob(f"{Path(source).stem}-{'?' * 16}/config.json"), None)
    return hub.config(source) if "/" in source else next(cache.root().glob(f"{source}-????????/config.json"), None)


CHARACTERS = {  # mean length of "Question: …\nAnswer:", choices and passages included
    "trivia_qa": 98, "sciq": 96, "nq_open": 66, "arc_easy": 116, "arc_challenge": 150, "openbookqa": 75,
    "commonsense_qa": 88, "piqa": 53, "social_i_qa": 125, "mmlu": 232, "sciq_passage": 345, "common_knowledge": 75,
    "string_operations": 64, "cities": 60, "capitals": 52, "sciq_mc": 173, "arc_easy_mc": 259, "arc_challenge_mc": 305,
    "openbookqa_mc": 178, "commonsense_qa_mc": 171, "piqa_mc": 256, "social_i_qa_mc": 210, "mmlu_mc": 430,
}  # fmt: skip
WHOLE = 4000  # questions of a set, where the grid asks for all of it
USUAL = 120  # of a set that is not among them
TOKEN = 4.2  # characters in a token
ANSWER, LETTER, QUERY = 5, 2, 23  # tokens of an open answer, of a chosen letter, and of the query after either
FIT = 800  # operations on each number of the training set in one logistic regression: some 200 passes
GROUP = 2e9  # operations of a page of results on each estimator's rows of a scored model and task
SUBJECTS = 57  # of MMLU, each of which is a task
ANSWER_BYTES, PAGE_BYTES = 300, 60_000


@dataclass(frozen=True)
class Work:
    """All jobs of one stage together."""

    growth: str  # how they grow with n models
    jobs: int
    operations: float = 0
    bytes: float = 0


class Texts:
    """A grid's questions by split: how many, their tokens, and the tokens of one answer to each of them."""

    def __init__(self, grid: Grid):
        self.count, self.question, self.answer = Counter(), Counter(), Counter()
        for task in grid.tasks:
            for split, share in ({"test": 1} if task.role == "shift" else vars(grid.splits)).items():
                count = _asked(task) * share
                self.count[split] += count
                self.question[split] += count * CHARACTERS.get(task.name, USUAL) / TOKEN
                self.answer[split] += count * (LETTER if task.name.endswith("_mc") else ANSWER)
        self.shots = sum(grid.answer.shots * CHARACTERS.get(task.name, USUAL) / TOKEN for task in grid.tasks)

    def packed_tokens(self, n: int, *splits: str) -> float:
        """Tokens of the questions of some splits, or of all, each with n different answers and the query after each."""
        asked = {split: self.answer[split] + QUERY * self.count[split] for split in splits or self.count}
        return sum(self.question[split] + n * tokens for split, tokens in asked.items())


def _asked(task: Task) -> int:
    """Questions of a task, as far as that is known without reading them."""
    path = brought.file(task)
    if task.size or not path or not Path(path).exists():
        return task.size or WHOLE
    if path.endswith(".parquet"):
        from pyarrow.parquet import read_metadata

        return read_metadata(path).num_rows
    return files.read_bytes(path).count(b"\n")


def work(grid: Grid) -> dict[str, Work]:
    """What the stages of a grid do, from nothing, in their order, without those that it does not have."""
    text, models, seeds = Texts(grid), [size(model.source) for model in grid.reading], len(grid.seeds)
    n, r, variants = len(grid.models), len(models), parameters.lora_variants(grid)
    answered = Counter(model.answered_by for model in grid.models)
    asked = [size(model.source) for model in grid.models if model.answered_by == "answer"]
    answers = ANSWER_BYTES * text.count.total()  # of one model
    probes, loras = (r * n * seeds * (method in grid.methods) for method in ("probe", "lora_prompt"))
    tasks = sum(SUBJECTS if task.name.startswith("mmlu") else 1 for task in grid.tasks)
    trained_groups = tasks * r * n * n * seeds * sum(stage in grid.methods for stage in TRAINED.values())
    groups = trained_groups + tasks * (n + r * n)  # with those of likelihood and zero-shot
    reading = sum(2 * model.blocks * text.packed_tokens(n) for model in models)
    states = sum(_features(grid, model, text, n) for model in models)
    fits, strengths = sum(_fit(text, model) for model in models), len(grid.probe.strengths)
    positions_more = len(positions.kept(parameters.first_layer(grid))) - 1
    trained = n * sum(_training(grid, model, text, n) for model in models)
    # Others have done these trainings, and only the test answers are left to score.
    spared = sum(len(one.released or ()) * _training(grid, size(one.source), text, 0) for one in grid.reading)
    taught = [n if "trained_on" in change else 1 for change in variants.values()]
    others = sum(_training(grid, model, text, n, taught=by) for model in models for by in taught)
    adapters = sum(_adapters(grid, model) for model in models)  # of as many trainings as there are readers
    cells, pairs = "n² cells × seeds", "n readers × n sources"
    by_stage = {
        "questions": Work("1", 1, 0, answers),
        "answer": Work("n", len(asked), sum(_answering(grid, model, text) for model in asked), len(asked) * answers),
        **{stage: Work("n", answered[stage], 0, answered[stage] * answers) for stage in ("answer_file", "answer_api")},
        "extract": Work(pairs, r, reading, states),
        "probe": Work(cells, probes, fits * strengths * n * seeds),
        "lora_prompt": Work(cells, loras, (trained - spared) * seeds, adapters * n * seeds),
        "judge": Work("n", n * parameters.compared(grid)),
        "surface": Work("n² in one job", 1, GROUP * tasks * n * n),
        "ablate": Work(pairs, r, fits * len(grid.controls.strengths) * n * seeds),
        "ablate_lora": Work("n × trainings, n² on all models", r * len(variants), others, adapters * len(variants)),
        "search": Work("n × trainings", r * parameters.searched(grid), _searching(grid, models, text)),
        "cell": Work("n² cells × methods", r * n * len(grid.methods), GROUP * trained_groups),
        "sweep": Work(pairs, r, fits * strengths * (n + positions_more)),  # a probe at each of these
        "settings": Work("1", int(parameters.searched(grid))),
        "beside": Work("1", len(parameters.beside_pages(grid))),
        **{page: Work("n³ rows × seeds in one job", 1, GROUP * groups) for page in parameters.PAGES},
    }
    return {
        stage: replace(one, bytes=one.bytes + PAGE_BYTES * one.jobs)
        for stage in STAGES
        if (one := by_stage.get(stage)) and one.jobs
    }


def _fit(text: Texts, model: Size) -> float:
    """One strength of the logistic probe, at every layer."""
    return FIT * text.count["train"] * model.width * (model.layers + 1)


def _answering(grid: Grid, model: Size, text: Texts) -> float:
    """The examples once, every question, and its answers, with a choice among all tokens for each token of them."""
    asked, written = text.question.total(), text.answer.total()
    for split in ("validation", "test"):
        asked += grid.answer.samples * text.question[split]
        written += grid.answer.samples * text.answer[split]
    return 2 * model.blocks * (text.shots + asked + written) + 2 * model.head * written


def _features(grid: Grid, model: Size, text: Texts, n: int) -> float:
    """Bytes of hidden states at each position, 2 a number, and of the cached activations.

    Those are the id of every token and its residual stream where the adapters begin.
    """
    first, number = parameters.first_layer(grid), 4 if grid.precision == "float32" else 2
    states = len(positions.stems(map(str, range(n)), positions.kept(first)))
    states *= 2 * (model.layers + 1) * model.width * text.count.total()
    return states + (4 + number * model.width) * text.packed_tokens(n) * bool(first)


def _training(grid: Grid, model: Size, text: Texts, n: int, share: float = 1.0, taught: int = 1) -> float:
    """One training on a share of the answers of `taught` models, its looks at validation and n models' test answers."""
    settings = grid.lora_prompt
    tokens = (4 * settings.epochs + 2 * bool(settings.js_weight)) * share * text.packed_tokens(1, "train")
    tokens += 2 * settings.evaluations * text.packed_tokens(1, "validation")
    tokens *= taught
    tokens += 2 * text.packed_tokens(n, "test") if n else 0
    return (1 - settings.first_layer) * model.blocks * tokens


def _searching(grid: Grid, models: list[Size], text: Texts) -> float:
    """Every reader at each learning rate, the grid's among them, and on each share of the answers; probes too."""
    if not grid.search:
        return 0
    fewer, operations = [size / text.count["train"] for size in grid.search.sizes if size < text.count["train"]], 0.0
    for model, weights in zip(grid.reading, models, strict=True):
        rates = {*grid.search.learning_rates, model.learning_rate or grid.lora_prompt.learning_rate}
        operations += sum(_training(grid, weights, text, 0, share) for share in [1.0] * len(rates) + fewer)
        operations += _fit(text, weights) * len(grid.probe.strengths) * (1 + sum(fewer))
    return operations


def _adapters(grid: Grid, model: Size) -> float:
    """Bytes of one reader's adapters, 4 a number."""
    settings = grid.lora_prompt
    targets = [*model.sides] if settings.targets == "all-linear" else settings.targets
    sides = sum(model.sides.get(name, 0) for name in targets)
    return 4 * settings.r * sides * (1 - settings.first_layer) * model.layers


START = 5  # seconds in which a notebook's process begins and ends
RATES = {"GPU": 1e14, "CPU": 1e11}  # operations a second of one GPU and of one core
PLACES = {  # what a stage leaves beside its notebook, where that is much
    "answer": ("answers/*", "rows/likelihood/*"),
    "extract": ("features/*/*", "rows/zero_shot/*"),
    "probe": ("estimators/probe/**/*", "rows/probe/**/*"),
    "lora_prompt": ("estimators/lora_prompt/**/*", "rows/lora_prompt/**/*"),
}


@dataclass(frozen=True)
class Measured:
    """What notebooks of one stage took over what the arithmetic says of as many."""

    notebooks: int
    seconds: float
    bytes: float


def table(grid: Grid, due: Counter, results: Path = Path("results"), grids: Path = Path("grids")) -> str:
    """Jobs that are to run, how they grow with n models, hours and disk, and below it what these numbers rest on.

    Args:
        due: how many jobs of each stage are to run.
        results: folder of all results, of any grids in the folder `grids`.
    """
    scales, known = _others(grid, results, grids) | measured(grid, results), work(grid)
    lines, totals = [("stage", "jobs", "grows as", "GPU hours", "CPU hours", "GB on disk", "by")], Counter()
    for stage in filter(due.get, STAGES):
        one = known.get(stage, Work("1", due[stage], 0, PAGE_BYTES * due[stage]))
        scale = scales.get(stage, Measured(0, 1, 1))
        hours = due[stage] / one.jobs * scale.seconds * seconds(grid, stage, one) / 3600
        spent = Counter(jobs=due[stage], GB=due[stage] / one.jobs * scale.bytes * one.bytes / 1e9)
        held = cards(grid, stage)  # hours of these, or else of the cores that the grid gives
        spent["GPU" if held else "CPU"] = hours * (held or grid.job(stage).cores or 1)
        by = f"{scale.notebooks} notebook{'s' * (scale.notebooks > 1)}" if scale.notebooks else "arithmetic"
        lines.append((STAGES[stage], *_cells(spent, one.growth), by))
        totals += spent
    return "\n".join([*_aligned([*lines, ("all", *_cells(totals, ""), "")]), *assumptions(grid)])


def _cells(spent: Counter, growth: str) -> list[str]:
    amounts = [spent[key] for key in ("GPU", "CPU", "GB")]
    numbers = [f"{amount:.3f}" if amount < 1 else f"{amount:,.1f}" for amount in amounts]
    return [str(spent["jobs"]), growth, *(number if amount else "" for number, amount in zip(numbers, amounts))]


def _aligned(lines: list[tuple]) -> list[str]:
    """Lines of a table; numbers stand to the right."""
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    row = "  ".join(f"{{:{side}{width}}}" for side, width in zip("<><>>><", widths, strict=True))
    return [row.format(*line).rstrip() for line in lines]


def seconds(grid: Grid, stage: str, one: Work) -> float:
    """What all jobs of a stage take together, by arithmetic."""
    return START * one.jobs + one.operations / rate(grid, stage)


def rate(grid: Grid, stage: str) -> float:
    """Operations a second of one job: as the grid says, else as `RATES` has it."""
    if stage in READING and grid.resources and grid.resources.flops:
        return grid.resources.flops
    return RATES["GPU"] * cards(grid, stage) or RATES["CPU"] * (grid.job(stage).cores or 1)


def cards(grid: Grid, stage: str) -> int:
    """GPUs of one job: as the grid says, else one of this machine's for a stage that loads a language model."""
    return grid.needs(stage, _here())["gpu"]


@functools.cache
def _here() -> int:
    return len(gpus.here())


def measured(grid: Grid, results: Path) -> dict[str, Measured]:
    """By stage, what the notebooks that a grid's run has left say."""
    expected, jobs, took, left = work(grid), Counter(), Counter(), Counter()
    for path in (results / grid.name / "notebooks").glob("*.ipynb"):
        metadata = json.loads(path.read_text(encoding="utf-8"))["metadata"]
        stage, about = path.stem.split("-")[0], metadata.get("whoknows", {})
        if stage in expected and "seconds" in about:
            jobs[stage] += 1
            took[stage] += about["seconds"]
            left[stage] += path.stat().st_size
    scales = {}
    for stage, count in jobs.items():
        places = [path for place in PLACES.get(stage, ()) for path in (results / grid.name).glob(place)]
        left[stage] += sum(path.stat().st_size for path in places if path.is_file())
        one, share = expected[stage], count / expected[stage].jobs
        time = took[stage] / share / seconds(grid, stage, one)
        scales[stage] = Measured(count, time, left[stage] / share / one.bytes)
    return scales


def _others(grid: Grid, results: Path, grids: Path) -> dict[str, Measured]:
    """By stage, what the run of another grid says: of the one that has most notebooks of it."""
    best: dict[str, Measured] = {}
    for path in sorted(grids.glob("*.yml")):
        try:
            other = load(path)
        except WhoknowsError:  # a grid that is not finished is no reason not to plan another
            continue
        for stage, one in measured(other, results).items() if other.name != grid.name else ():
            if stage not in best or one.notebooks > best[stage].notebooks:
                best[stage] = one
    return best


def assumptions(grid: Grid) -> list[str]:
    """What the numbers rest on, as sentences."""
    shapes = {model.source: size(model.source) for model in grid.reading}
    guessed = [
        f"{source} has {shape.blocks:.1g} weights, as {shape.origin}"
        for source, shape in shapes.items()
        if shape.origin
    ]
    fastest = max(rate(grid, stage) for stage in work(grid) if stage in READING)
    arithmetic = "; ".join([
        f"{START} s to start a job and {fastest:.0e} operations a second in one that loads a language model",
        f"{TOKEN} characters a token, {ANSWER} tokens an answer, no two answers alike, {QUERY} tokens for the query",
        *guessed,
    ])  # fmt: skip
    scaled = "Where a number of notebooks is named, hours and disk are scaled to what those took, where they ran."
    return [f"n models. {scaled}", f"Arithmetic: {arithmetic}."]
