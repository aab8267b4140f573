"""The stages of a run, in their order, and what each is called."""

from whoknows.data.methods import METHOD_TITLES, TRAINED

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
