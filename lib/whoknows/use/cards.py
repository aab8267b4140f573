"""Cards of estimators: what the stage that trained one wrote down beside its weights, and the files that make it whole."""

import json
from pathlib import Path

from whoknows import WhoknowsError

README = "README.md"
NEEDED = {"method", "reader", "source", "precision", "trained_on", "seed", "tasks", "settings"}  # of every card


def read(folder: Path) -> dict[str, dict]:
    """The cards of a folder's estimators, by method.

    Raises:
        WhoknowsError: there is no such folder, no estimator is in it, or a card is damaged.
    """
    if not folder.is_dir():
        raise WhoknowsError(f"{folder}: there is no such folder; name one of a trained estimator, results/…/estimators/<method>/<reader>/<trained on>/seed<n>")
    found = {path.stem: _json(path) for path in sorted(folder.glob("*.json"))}
    cards = {name: card for name, card in found.items() if card.keys() >= NEEDED and card["method"] == name}
    if not cards:
        raise WhoknowsError(f"{folder}: it holds no estimator with a card; run `make book` to train it, again if an older version did")
    return cards


def weights(card: dict) -> list[str]:
    """The files beside its card that an estimator is loaded from."""
    if "query" not in card:
        return [f"{card['method']}.safetensors"]
    return ["adapter_config.json", "adapter_model.safetensors", *([] if card["query"] else ["classifier.safetensors"])]


def whole(folder: Path) -> list[Path]:
    """All files of a folder of estimators, but hidden ones, such as Snakemake's.

    Raises:
        WhoknowsError: it is no such folder, or one of the files that it needs is missing or damaged.
    """
    from safetensors import SafetensorError, safe_open

    needed = [README, *(name for card in read(folder).values() for name in weights(card))]
    for path in (folder / name for name in needed):
        if not path.is_file():
            raise WhoknowsError(f"{folder}: it has no {path.name}, so its estimator is not whole; run `make book` to train it again")
        try:
            if path.suffix == ".safetensors":
                with safe_open(path, framework="numpy"):
                    pass  # it has looked at the header and the length
        except SafetensorError:
            raise WhoknowsError(f"{path}: this file is damaged; delete it and run `make book` again") from None
    return sorted(path for path in folder.iterdir() if path.is_file() and not path.name.startswith("."))


def _json(path: Path) -> dict:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except ValueError:
        raise WhoknowsError(f"{path}: this file is damaged; delete it and run `make book` again") from None
    return found if isinstance(found, dict) else {}
