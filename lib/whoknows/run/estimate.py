"""The table of costs that a plan shows: the arithmetic of `cost`, scaled to what notebooks took that have run."""

import json
from collections import Counter
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from whoknows import WhoknowsError
from whoknows.run import cost, gpus, stages
from whoknows.run.cost import Work
from whoknows.run.grid import Grid, load
from whoknows.run.sizes import size

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
        results: folder of all results.
        grids: folder of the grids that they may be of.
    """
    scales, known = _others(grid, results, grids) | measured(grid, results), cost.work(grid)
    lines, totals = [("stage", "jobs", "grows as", "GPU hours", "CPU hours", "GB on disk", "by")], Counter()
    for stage in filter(due.get, stages.STAGES):
        one, scale = known.get(stage, Work(due[stage], 0, cost.PAGE_BYTES * due[stage])), scales.get(stage, Measured(0, 1, 1))
        spent = Counter({"jobs": due[stage], **_hours(grid, stage, due[stage] / one.jobs * scale.seconds * seconds(grid, stage, one) / 3600)})
        spent["GB"] = due[stage] / one.jobs * scale.bytes * one.bytes / 1e9
        lines.append((stages.STAGES[stage], *_cells(spent, cost.GROWTH.get(stage, "1")), f"{scale.notebooks} notebook{'s' * (scale.notebooks > 1)}" if scale.notebooks else "arithmetic"))
        totals += spent
    return "\n".join([*_aligned([*lines, ("all", *_cells(totals, ""), "")]), *assumptions(grid)])


def _hours(grid: Grid, stage: str, hours: float) -> dict[str, float]:
    """Of the GPUs that its jobs hold, or else of the cores that the grid gives them."""
    held = cards(grid, stage)
    return {"GPU": hours * held} if held else {"CPU": hours * (stages.asked(grid, stage).cores or 1)}


def _cells(spent: Counter, growth: str) -> list[str]:
    numbers = [f"{spent[key]:.3f}" if spent[key] < 1 else f"{spent[key]:,.1f}" for key in ("GPU", "CPU", "GB")]
    return [str(spent["jobs"]), growth, *(number if spent[key] else "" for key, number in zip(("GPU", "CPU", "GB"), numbers, strict=True))]


def _aligned(lines: list[tuple]) -> list[str]:
    """Lines of a table; numbers stand to the right."""
    wide = [max(map(len, column)) for column in zip(*lines, strict=True)]
    sides = ("<", ">", "<", ">", ">", ">", "<")
    return ["  ".join(f"{cell:{side}{width}}" for cell, side, width in zip(line, sides, wide, strict=True)).rstrip() for line in lines]


def seconds(grid: Grid, stage: str, one: Work) -> float:
    """What all jobs of a stage take together, by arithmetic."""
    return START * one.jobs + one.operations / rate(grid, stage)


def rate(grid: Grid, stage: str) -> float:
    """Operations a second of one job: as the grid says, else as `RATES` has it."""
    if stage in stages.READING and grid.resources and grid.resources.flops:
        return grid.resources.flops
    return RATES["GPU"] * cards(grid, stage) or RATES["CPU"] * (stages.asked(grid, stage).cores or 1)


def cards(grid: Grid, stage: str) -> int:
    """GPUs of one job: as the grid says, else one of this machine's for a stage that loads a language model."""
    return stages.needs(grid, stage, _here())["gpu"]


@cache
def _here() -> int:
    return len(gpus.here())


def measured(grid: Grid, results: Path) -> dict[str, Measured]:
    """By stage, what the notebooks that a grid's run has left say."""
    expected, jobs, took, left = cost.work(grid), Counter(), Counter(), Counter()
    for path in (results / grid.name / "notebooks").glob("*.ipynb"):
        stage, about = path.stem.split("-")[0], json.loads(path.read_text())["metadata"].get("whoknows", {})
        if stage in expected and "seconds" in about:
            jobs[stage], took[stage], left[stage] = jobs[stage] + 1, took[stage] + about["seconds"], left[stage] + path.stat().st_size
    for stage in jobs:
        places = [path for place in PLACES.get(stage, ()) for path in (results / grid.name).glob(place)]
        left[stage] += sum(path.stat().st_size for path in places if path.is_file())
    share = {stage: jobs[stage] / expected[stage].jobs for stage in jobs}
    return {stage: Measured(jobs[stage], took[stage] / share[stage] / seconds(grid, stage, expected[stage]), left[stage] / share[stage] / expected[stage].bytes) for stage in jobs}


def _others(grid: Grid, results: Path, grids: Path) -> dict[str, Measured]:
    """By stage, what the run of another grid says: of the one that has most notebooks of it."""
    found: dict[str, Measured] = {}
    for path in sorted(grids.glob("*.yml")):
        try:
            other = load(path)
        except WhoknowsError:  # a grid that is not finished is no reason not to plan another
            continue
        for stage, one in measured(other, results).items() if other.name != grid.name else ():
            if stage not in found or one.notebooks > found[stage].notebooks:
                found[stage] = one
    return found


def assumptions(grid: Grid) -> list[str]:
    """What the numbers rest on, as sentences."""
    origins = {model.source: size(model.source) for model in grid.models}
    why = {"name": "its name says", "guess": "a guess", "part": "its config.json says in part"}
    guessed = [f"{source} has {found.blocks:.1g} weights, as {why[found.origin]}" for source, found in origins.items() if found.origin in why]
    rates = {stage: rate(grid, stage) for stage in cost.work(grid) if stage in stages.READING}
    speed = f"{START} s to start a job and {max(rates.values()):.0e} operations a second in one that loads a language model"
    lengths = f"{cost.TOKEN} characters a token, {cost.ANSWER} tokens an answer, no two answers alike, {cost.QUERY} tokens for the query"
    scaled = "n models. Where a number of notebooks is named, hours and disk are scaled to what those took, where they ran."
    return [scaled, f"Arithmetic: {'; '.join([speed, lengths, *guessed])}."]

