"""The stages of a run, in their order: what each is called, and what a job of it asks of a machine."""

from typing import TYPE_CHECKING

from whoknows.data.methods import METHOD_TITLES, TRAINED

if TYPE_CHECKING:  # a grid's keys are made of the stages' names
    from whoknows.run.grid import Grid

STAGES = {
    "questions": "Questions",
    "answer": "Answers",
    "answer_file": "Answers from files",
    "answer_api": "Answers from endpoints",
    "extract": "Hidden states",
    **{stage: METHOD_TITLES[stage] for stage in TRAINED.values()},
    "judge": "Judge",
    "surface": "Surface controls",
    "ablate": "Probe controls",
    "ablate_lora": "LoRA controls",
    "search": "Search",
    "heatmaps": "Heatmaps",
    "cell": "Cells",
    "differences": "Results",
    "claims": "The figure and its claims",
    "controls": "Baselines and ablations",
    "sweep": "Sweep",
    "settings": "Settings",
    "shift": "Other questions",
    "worth": "What confidence is good for",
    "grading": "Grading",
    "recompute": "Recompute",
    "beside": "Reference run",
}
READING = ("answer", "extract", "lora_prompt", "ablate_lora", "search")  # load a language model, to a GPU if possible
HEAVY = (*READING, "surface", "ablate", "sweep")  # are faster on more than one core


def cores(grid: "Grid", stage: str, share: int) -> int:
    """Cores of a job: what the grid says, or `share` for the stages that are faster on more than one."""
    return grid.job(stage).cores or (share if stage in HEAVY else 1)


def needs(grid: "Grid", stage: str, cards: int) -> dict[str, int | str]:
    """Resources of a job by the names that Snakemake's executors know; what a grid leaves out is the profile's to say.

    Args:
        cards: GPUs of this machine among which jobs take turns; 0 where there are none, or another machine runs them.
    """
    request = grid.job(stage)
    gpus = request.gpus if request.gpus is not None else min(cards, stage in READING)
    memory = request.memory and round(1000 * request.memory)
    resources = {"gpu": gpus, "mem_mb": memory, "runtime": request.minutes, "slurm_partition": request.partition}
    return {name: value for name, value in resources.items() if value is not None}
