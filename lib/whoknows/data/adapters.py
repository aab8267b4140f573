"""Adapters that Kapoor et al. (2024) have released, and others of that kind: LoRA by PEFT, without a card of ours."""

import json
from pathlib import Path

from whoknows import WhoknowsError
from whoknows.data import assets, cache, hub

CONFIG, ADAPTERS = "adapter_config.json", ("adapter_model.safetensors", "adapter_model.bin")  # PEFT's
TEMPERATURES = ("temperature_model.safetensors", "temperature_model.pt")
KINDS = {  # what a key of the configuration may say; what is missing or null is the first
    "peft_type": ("LORA", "CALIBRATED_LORA"), "task_type": ("CAUSAL_LM", "CALIBRATED_CAUSAL_LM"),
    "query_format": ("roman_choice",), "bias": ("none",), "use_dora": (False,), "use_rslora": (False,),
    "rank_pattern": ({},), "alpha_pattern": ({},), "modules_to_save": ([],),
}  # fmt: skip


def digest(name: str) -> str | None:
    """What identifies an adapter's files: the commit that was fetched, None before; of a folder that of its files."""
    if assets.on_hub(name):
        return hub.commit(name, CONFIG)
    paths = [Path(name).expanduser() / file for file in (CONFIG, *ADAPTERS, *TEMPERATURES)]
    return cache.digest([path for path in paths if path.is_file()])


def check(name: str, source: str, digest: str | None = None) -> tuple[dict, Path]:
    """An adapter's card and folder, fetched if need be, for the reader of that source.

    Args:
        digest: as `digest` returns; None for the commit that was fetched first.

    Raises:
        WhoknowsError: it cannot be had or used, lacks a file, or is for another reader.
    """
    folder = Path(name).expanduser()
    if assets.on_hub(name):
        folder = hub.fetch_files(name, digest or hub.commit(name, CONFIG), [CONFIG, *ADAPTERS, *TEMPERATURES])
    try:
        card = cards(folder).get("lora_prompt")
        if not card:
            raise WhoknowsError(
                f"{folder}: there is no {CONFIG} of an adapter by PEFT; name a repository on the Hugging Face hub, "
                "owner/name, or a folder, that has one"
            )
        require_weights(card, folder)
    except WhoknowsError as error:
        raise WhoknowsError(f"models, released: {str(error).replace(str(folder), name)}") from None
    base, reader = card["source"], assets.base(source)
    if base != reader and assets.on_hub(base) and assets.on_hub(reader):
        raise WhoknowsError(
            f"models, released: {name} is an adapter of {base}, but the model has the source {reader}; "
            "name an adapter of that one"
        )
    return card, folder


def require_weights(card: dict, folder: Path) -> None:
    """Raises a WhoknowsError if an adapter has no weights."""
    if not {*ADAPTERS} & {*card["released"]}:
        raise WhoknowsError(f"{folder}: it has {CONFIG}, but neither {' nor '.join(ADAPTERS)}; fetch it again")


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
    kept = [next((name for name in names if (folder / name).is_file()), None) for names in (ADAPTERS, TEMPERATURES)]
    return {"lora_prompt": about | {"query": True, "released": [CONFIG, *filter(None, kept)]}}
