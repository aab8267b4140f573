"""What each stage of a grid has to do: jobs, floating-point operations and bytes on the disk, by arithmetic alone.

A forward pass does 2 operations for each weight and token, and training through frozen weights 4: forwards, and backwards to what
enters them (Kaplan et al. 2020, arXiv 2001.08361, section 2.1, without the gradients of weights). Attention itself is left out.
"""

from collections import Counter
from dataclasses import dataclass

from whoknows.run import parameters
from whoknows.run.grid import Grid
from whoknows.run.sizes import Size, size
from whoknows.run.stages import STAGES

CHARACTERS = {  # mean length of "Question: …\nAnswer:", choices and passages included
    "trivia_qa": 98, "sciq": 96, "nq_open": 66, "arc_easy": 116, "arc_challenge": 150, "openbookqa": 75, "commonsense_qa": 88,
    "piqa": 53, "social_i_qa": 125, "mmlu": 232, "sciq_passage": 345, "common_knowledge": 75, "string_operations": 64, "cities": 60,
    "capitals": 52, "sciq_mc": 173, "arc_easy_mc": 259, "arc_challenge_mc": 305, "openbookqa_mc": 178, "commonsense_qa_mc": 171, "piqa_mc": 256,
    "social_i_qa_mc": 210, "mmlu_mc": 430,
}  # fmt: skip
USUAL = 120  # of a set that is not among them
TOKEN = 4.2  # characters in a token
ANSWER, LETTER, QUERY = 5, 2, 23  # tokens of an open answer, of a chosen letter, and of the query after either
FIT = 800  # operations on each number of the training set in one logistic regression: some 200 passes
ROW, GROUP = 3e5, 2e9  # operations of a page of results on each row, and on each estimator's rows of a scored model and task: measures and resamples
SUBJECTS = 57  # of MMLU, each of which is a task
ROW_BYTES, ANSWER_BYTES, PAGE_BYTES = 12, 300, 60_000
GROWTH = {  # with n models
    **dict.fromkeys(("answer", "judge"), "n"),
    **dict.fromkeys(("extract", "ablate", "sweep"), "n readers × n sources"),
    **dict.fromkeys(("probe", "lora_prompt"), "n² cells × seeds"),
    **dict.fromkeys(("ablate_lora", "search"), "n × trainings"),
    "cell": "n² cells × methods",
    "surface": "n² in one job",
    **dict.fromkeys(parameters.PAGES, "n³ rows × seeds in one job"),
}  # fmt: skip


@dataclass(frozen=True)
class Work:
    """All jobs of one stage together."""

    jobs: int
    operations: float
    bytes: float


class Texts:
    """A grid's questions by split: how many, their tokens, and the tokens of one answer with the query to each of them."""

    def __init__(self, grid: Grid):
        self.count, self.question, self.answer = Counter(), Counter(), Counter()
        for task in grid.tasks:
            for split, share in ({"test": 1} if task.role == "shift" else vars(grid.splits)).items():
                self.count[split] += task.size * share
                self.question[split] += task.size * share * CHARACTERS.get(task.name, USUAL) / TOKEN
                self.answer[split] += task.size * share * (LETTER if task.name.endswith("_mc") else ANSWER)
        self.shots = sum(grid.answer.shots * CHARACTERS.get(task.name, USUAL) / TOKEN for task in grid.tasks)

    def trees(self, n: int, *splits: str) -> float:
        """Tokens of the questions of some splits, all if none is named, each with n different answers and the query after each."""
        return sum(self.question[split] + n * (self.answer[split] + QUERY * self.count[split]) for split in splits or self.count)


def work(grid: Grid) -> dict[str, Work]:
    """What the stages of a grid do, from nothing, in their order; those that it does not have, or that are not known here, are left out."""
    text, models, seeds = Texts(grid), [size(model.source) for model in grid.models], len(grid.seeds)
    n, variants, cells = len(models), len(parameters.lora_variants(grid)), len(models) ** 2 * len(grid.methods)
    rows = n * text.count["test"] + text.count["validation"]  # of one estimator
    every = rows * (cells * seeds + 2 * n)
    tasks = sum(SUBJECTS if task.name.startswith("mmlu") else 1 for task in grid.tasks)
    trained_groups = tasks * n**3 * seeds * sum(2 if method == "probe" else 1 for method in grid.methods)  # the MLP probe comes with the probe
    groups = trained_groups + tasks * (n + n * n)  # likelihood and zero-shot
    search = sum(FIT * text.count["train"] * model.width * (model.layers + 1) for model in models)
    trained = sum(_training(grid, model, text, n) for model in models)
    adapters = sum(_adapters(grid, model) for model in models)
    found = {
        "questions": Work(1, ROW * text.count.total(), ANSWER_BYTES * text.count.total()),
        "answer": Work(n, sum(_answering(model, text) for model in models), n * ANSWER_BYTES * text.count.total()),
        "extract": Work(n, sum(2 * model.blocks * text.trees(n) for model in models), sum(_features(grid, model, text, n) for model in models)),
        "probe": Work(n * n * seeds * ("probe" in grid.methods), search * len(grid.probe.strengths) * n * seeds, 2 * ROW_BYTES * rows * n * n * seeds),
        "lora_prompt": Work(n * n * seeds * ("lora_prompt" in grid.methods), trained * n * seeds, (adapters + n * ROW_BYTES * rows) * n * seeds),
        "judge": Work(n * (grid.judge is not None), 0, 0),
        "surface": Work(1, ROW * n * n * text.count["test"], ROW_BYTES * n * rows),
        "ablate": Work(n, search * n * seeds * len(grid.controls.strengths), ROW_BYTES * n * n * rows),
        "ablate_lora": Work(n * variants, trained * variants, (adapters + n * ROW_BYTES * rows) * variants),
        "search": _search(grid, models, text),
        "cell": Work(cells, ROW * rows * cells * seeds + GROUP * trained_groups, 0),
        "figure": Work(1, 0, 0),
        "sweep": Work(n, search * n * len(grid.probe.strengths), 0),
        "layers": Work(1, 0, 0),
        "settings": Work(int(parameters.searched(grid)), 0, 0),
        "beside": Work(len(parameters.beside_pages(grid)), 0, 0),
        **{page: Work(1, ROW * every + GROUP * groups, 0) for page in parameters.PAGES},
    }
    return {stage: Work(one.jobs, one.operations, one.bytes + PAGE_BYTES * one.jobs) for stage in STAGES if (one := found.get(stage)) and one.jobs}


def _answering(model: Size, text: Texts) -> float:
    """The examples once, every question, and its answer, with a choice among all tokens for each token of it."""
    written = text.answer.total()
    return 2 * model.blocks * (text.shots + text.question.total() + written) + 2 * model.head * written


def _features(grid: Grid, model: Size, text: Texts, n: int) -> float:
    """Bytes of the hidden states before the answers and of two for each answer, 2 a number, and of every token's id and stream where adapters begin."""
    states = 2 * (model.layers + 1) * model.width * (2 * n + 1) * text.count.total()
    number = 4 if grid.precision == "float32" else 2
    return states + (4 + number * model.width) * text.trees(n) * bool(parameters.first_layer(grid))


def _training(grid: Grid, model: Size, text: Texts, n: int, share: float = 1.0) -> float:
    """One training on a share of the answers, its looks at validation and the test answers of n models, in the blocks with adapters."""
    settings = grid.lora_prompt
    tokens = (4 * settings.epochs + 2 * bool(settings.js_weight)) * share * text.trees(1, "train")
    tokens += 2 * settings.evaluations * text.trees(1, "validation") + (2 * text.trees(n, "test") if n else 0)
    return (1 - settings.first_layer) * model.blocks * tokens


def _search(grid: Grid, models: list[Size], text: Texts) -> Work:
    """Every reader at each learning rate, its own among them, and on each share of the answers; and as many fits of the probe."""
    if not parameters.searched(grid):
        return Work(0, 0, 0)
    fewer, found = [size / text.count["train"] for size in grid.search.sizes if size < text.count["train"]], 0.0
    for model, size in zip(grid.models, models, strict=True):
        rates = {*grid.search.learning_rates, model.learning_rate or grid.lora_prompt.learning_rate}
        found += sum(_training(grid, size, text, 0, share) for share in [*(1.0 for _ in rates), *fewer])
        found += FIT * text.count["train"] * size.width * (size.layers + 1) * len(grid.probe.strengths) * (1 + sum(fewer))
    return Work(len(models), found, 0)


def _adapters(grid: Grid, model: Size) -> float:
    """Bytes of one reader's adapters, 4 a number."""
    settings = grid.lora_prompt
    return 4 * settings.r * sum(model.sides.get(name, 0) for name in settings.targets) * (1 - settings.first_layer) * model.layers
