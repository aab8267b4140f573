"""The methods: all that gives answers a confidence, and how pages name and colour it. Adding one begins here."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Method:
    """A method."""

    title: str  # on pages
    family: str = ""  # the method whose colour and place in legends it shares; "" for controls and ablations: grey
    stage: str = ""  # the grid's method, and so the notebook, that trains it for the heatmaps; "" if none does


METHODS = {
    "probe": Method("Probe", "probe", "probe"),
    "probe_mlp": Method("Probe (MLP)", "probe_mlp", "probe"),
    "lora_prompt": Method("LoRA + Prompt", "lora_prompt", "lora_prompt"),
    "zero_shot": Method("Zero-shot P(True)", "zero_shot"),
    "likelihood": Method("Answer likelihood", "likelihood"),
    "likelihood_mean": Method("Answer likelihood, mean token", "likelihood"),
    "token_min": Method("Smallest token probability", "likelihood"),
    "entropy_mean": Method("Mean token entropy", "likelihood"),
    "entropy_max": Method("Largest token entropy", "likelihood"),
    "margin_first": Method("Margin of the first token", "likelihood"),
    "agreement": Method("Agreement of sampled answers", "likelihood"),
    "semantic_entropy": Method("Semantic entropy of sampled answers", "likelihood"),
    "lora": Method("LoRA, no prompt"),
    "lora_prompt_js": Method("LoRA + Prompt, with penalty"),
    "lora_prompt_no_js": Method("LoRA + Prompt, without penalty"),
    "probe_last": Method("Probe, last layer"),
    "probe_mean": Method("Probe, mean over the answer"),
    "probe_before": Method("Probe, before the answer"),
    "probe_shuffled": Method("Probe, shuffled grades"),
    "embedder": Method("Sentence embedder, question and answer"),
    "question_only": Method("Sentence embedder, question only"),
    "answer_only": Method("Sentence embedder, answer only"),
    "answer_length": Method("Answer length"),
    "task_prior": Method("Task prior"),
}
METHOD_TITLES = {name: method.title for name, method in METHODS.items()}
TRAINED = {name: method.stage for name, method in METHODS.items() if method.stage}
TRAINING_FREE = [name for name, method in METHODS.items() if method.family and not method.stage]
