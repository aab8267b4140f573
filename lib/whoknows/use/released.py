"""Adapters that Kapoor et al. (2024) have released, and others of that kind: LoRA by PEFT, without a card of ours.

They were trained to say, with the same query and tokens as LoRA + Prompt, whether an answer is correct. The texts are
those of the authors' code (github.com/activatedgeek/calibration-tuning: `LMText`, `prepare_uncertainty_query` and
`get_token_vec`), each encoded as a whole, as there.
"""

import json
from pathlib import Path

import torch
from peft import get_peft_model_state_dict, set_peft_model_state_dict

from whoknows import WhoknowsError
from whoknows.data import files
from whoknows.data.prompts import QUERY
from whoknows.estimators.lora import LoraPrompt
from whoknows.models import loading
from whoknows.models.loading import Reader
from whoknows.models.packing import PackedExample

CONFIG, ADAPTERS = "adapter_config.json", ("adapter_model.safetensors", "adapter_model.bin")  # PEFT's
TEMPERATURES = ("temperature_model.safetensors", "temperature_model.pt")
ASKED = "\nAnswer:"  # between question and answer, whether the question ends so or not
KINDS = {  # what a key of the configuration may say; what is missing or null is the first
    "peft_type": ("LORA", "CALIBRATED_LORA"), "task_type": ("CAUSAL_LM", "CALIBRATED_CAUSAL_LM"),
    "query_format": ("roman_choice",), "bias": ("none",), "use_dora": (False,), "use_rslora": (False,),
    "rank_pattern": ({},), "alpha_pattern": ({},), "modules_to_save": ([],),
}  # fmt: skip


def cards(folder: Path) -> dict[str, dict]:
    """A card, by its method, like those of our own estimators; none if the folder has no such adapter.

    Raises:
        WhoknowsError: the adapter is of another kind.
    """
    path = folder / CONFIG
    if not path.is_file():
        return {}
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
        source, r, alpha = (config[key] for key in ("base_model_name_or_path", "r", "lora_alpha"))
        targets = config["target_modules"]
        sound = isinstance(source, str) and isinstance(targets, list) and r > 0 and alpha > 0
    except (ValueError, KeyError, TypeError):
        sound = False
    if sound and config.get("layers_to_transform"):
        return {}  # of our own, whose card is lost; the released ones are in every block
    if not sound:
        needed = "base_model_name_or_path, r, lora_alpha and a list of target_modules"
        raise WhoknowsError(f"{path}: this is no configuration of a LoRA adapter with {needed}; name another estimator")
    for key, known in KINDS.items():
        if (config.get(key) or known[0]) not in known:
            wanted = " or ".join(map(str, known))
            raise WhoknowsError(
                f"{path}: {key} is {config[key]!r:.60}, and only adapters with {wanted} there can be used; "
                "name another estimator"
            )
    settings = {"first_layer": 0, "r": r, "alpha": alpha, "dropout": 0.0, "targets": sorted(map(str, targets))}
    about = {"method": "lora_prompt", "reader": source, "source": source, "precision": "auto", "template": None}
    about |= {"trained_on": "an unnamed model", "tasks": ["unnamed questions"], "seed": 0, "settings": settings}
    found = [next((name for name in names if (folder / name).is_file()), None) for names in (ADAPTERS, TEMPERATURES)]
    return {"lora_prompt": about | {"query": True, "released": [CONFIG, *filter(None, found)]}}


def example(reader: Reader, question: str, answer: str) -> PackedExample:
    """The ids of a question, an answer and the query; `Question: ` is put before a question that has it nowhere."""
    context = question if "Question:" in question else f"Question: {question}"
    text = f"{context.strip().removesuffix(ASKED).strip()}{ASKED} {answer}".strip() + QUERY
    ids = reader.tokenizer(text, split_special_tokens=True).input_ids
    return PackedExample(ids[:1], (ids[1:],))


def load(card: dict, folder: Path, reader: Reader, batch_tokens: int) -> tuple[LoraPrompt, float]:
    """The reader with the adapters, and the temperature that divides their log-odds.

    Raises:
        WhoknowsError: a file is missing or damaged, or the adapters do not fit the reader.
    """
    path = folder / CONFIG
    known, wanted = loading.targets(reader.model, "all-linear"), card["settings"]["targets"]
    if strange := [name for name in wanted if name not in known]:
        raise WhoknowsError(
            f"{path}: it adapts {strange[0]!r:.60}, but the blocks of {card['source']} have {', '.join(known)} alone; "
            "name an adapter of this reader"
        )
    stored, temperature = (
        next((_read(folder / name) for name in card["released"] if name in names), None)
        for names in (ADAPTERS, TEMPERATURES)
    )
    if stored is None:
        raise WhoknowsError(f"{folder}: it has {CONFIG}, but neither {' nor '.join(ADAPTERS)}; fetch it again")
    estimator = LoraPrompt(reader, card["settings"], card["seed"], batch_tokens)
    model = estimator.reader.model
    shapes = [
        {name: weight.shape for name, weight in state.items()} for state in (stored, get_peft_model_state_dict(model))
    ]
    if shapes[0] != shapes[1]:
        raise WhoknowsError(f"{folder}: its weights do not fit {card['source']} or {CONFIG}; fetch it again")
    set_peft_model_state_dict(model, stored)
    estimator.reader.choices = tuple(reader.tokenizer(choice).input_ids[-1] for choice in ("i", "ii"))
    return estimator, float(temperature["log_temperature"].exp()) if temperature else 1.0


def _read(path: Path) -> dict[str, torch.Tensor]:
    return (files.read_safetensors if path.suffix == ".safetensors" else files.read_torch)(path)
