"""Whether an estimator was *still improving* when its training ended, by the AUROC on validation that its card records.

Adapters and the MLP look at validation again and again: the best look is one of the last, and well above all that came
before. The logistic probe has a search: the best strength or layer is an end of those that were tried, and well above
the next. No verdict rests on such an estimator, since a larger budget could have changed it. Nor does one rest on an
adapter that others have released: what its budget was, and whether it had reached its plateau, is not known here.
"""

import re
from collections.abc import Iterable
from pathlib import Path

import pandas as pd

from whoknows.data import files

TOLERANCE = 0.005  # AUROC on validation; a curve whose end rises by no more has reached its plateau
MARK = "↗"
IMPROVING, RELEASED, UNKNOWN = "still improving", "with a released adapter", "not known"
# What `unsettled` may say, "" being that a verdict may rest on it; of several estimators the last one counts.
ORDER = ("", UNKNOWN, RELEASED, IMPROVING)
ESTIMATOR = ["method", "reader", "trained_on", "seed"]


def cards(folder: Path | str) -> dict[Path, dict]:
    """The cards of all estimators under a folder, by their paths; what is not there yet is left out.

    Raises:
        WhoknowsError: a file is damaged.
    """
    # A killed stage leaves a folder whose name begins with a dot.
    whole = (path for path in sorted(Path(folder).rglob("*.json")) if not path.parent.name.startswith("."))
    return {
        path: {"method": path.stem} | card
        for path, card in ((path, files.read_json(path)) for path in whole)
        if isinstance(card, dict) and card.keys() >= {"reader", "trained_on", "seed"}
    }


def table(folder: Path | str) -> pd.DataFrame:
    """The cards of all estimators under a folder: method, reader, trained_on, seed, why (see there) and unsettled."""
    lines = []
    for card in cards(folder).values():
        reason = why(card)
        unsettled = IMPROVING if reason else RELEASED if "origin" in card else UNKNOWN if reason is None else ""
        lines.append([*(card[name] for name in ESTIMATOR), reason, unsettled])
    return pd.DataFrame(lines, columns=[*ESTIMATOR, "why", "unsettled"]).astype({"seed": "int64"})


def elsewhere(folder: Path | str, rows: pd.DataFrame) -> str:
    """Which estimators were not trained here, as further paragraphs of Markdown; "" if all were.

    `origin` of a card has the name under which others released it, `untrained` why there is none. The rows are those
    that there are; beside them, controls that could not be trained are not named.
    """
    there, scored = {*rows[ESTIMATOR].itertuples(index=False, name=None)}, {*rows["scored"]}
    every = cards(folder)
    listed = [card for card in every.values() if tuple(card[name] for name in ESTIMATOR) in there]
    # An estimator of the heatmaps has a folder for each seed, a control has none.
    trained = [card for path, card in every.items() if path.parent.name == f"seed{card['seed']}"]
    asked = [*every.values()] if rows.empty else [card for card in trained if card["trained_on"] in scored]
    return _untrained(asked) + _released(listed)


def _untrained(cards: list[dict]) -> str:
    empty = [card for card in cards if "untrained" in card]
    why = {(card["trained_on"], card["seed"], re.sub("[^a-z ]", "-", card["untrained"])) for card in empty}
    parts = [f"of {name}, seed {seed}: {reason}" for name, seed, reason in sorted(why)]
    return f"\n\n**Nothing could be trained** on the answers {'; '.join(parts)}." if parts else ""


def _released(cards: list[dict]) -> str:
    known = [(card, re.sub(r"[^\w./-]", "-", card["origin"]["name"])) for card in cards if "origin" in card]
    names = [f"of {card['reader']} trained on {card['trained_on']} `{name}`" for card, name in known]
    theirs = f"\n\n**Not trained here**, but released by others: LoRA + Prompt {', '.join(names)}."
    why_not = "The budget and plateau of that training are not known, so no verdict rests on it."
    return f"{theirs} {why_not}" if names else ""


def mark(rows: pd.DataFrame, folder: Path | str) -> pd.DataFrame:
    """Rows with unsettled: of `ORDER`, what keeps a verdict from resting on their estimator, by its card.

    A run that was packed by an older version has fewer cards.
    """
    rows = rows.merge(table(folder).drop(columns="why"), "left", ESTIMATOR)
    return rows.assign(unsettled=rows["unsettled"].fillna(UNKNOWN).mask(rows["trained_on"] == "", ""))


def no_verdict(table: pd.DataFrame) -> pd.Series:
    """Why no verdict rests on each line of a table: `IMPROVING`, `RELEASED`, "" where one may or nothing is known."""
    why = table.get("unsettled", pd.Series("", table.index))
    return why.where(why.isin([IMPROVING, RELEASED]), "")


def together(reasons: Iterable[str]) -> str:
    """What is unsettled of several estimators taken together: `IMPROVING` if one was, else `RELEASED` if one is."""
    return max(reasons, key=ORDER.index, default="")


def why(card: dict) -> str | None:
    """Why an estimator counts as still improving: "" if it does not, None if its card does not say how it was trained.

    A card has `history`, the looks of adapters, or `search`, the MLP's epochs or the probe's layers and strengths.
    """
    tried = pd.DataFrame(card.get("history") or card.get("search"))
    if tried.empty:
        return None
    return _of_search(tried, card) if "strength" in tried else _of_looks(tried["validation_auroc"], card)


def _of_looks(auroc: pd.Series, card: dict) -> str:
    count, patience = len(auroc), card.get("settings", {}).get("patience", float("inf"))
    last = max(2, count // 5)  # two of many epochs would see no slow rise
    if count - 1 - auroc.argmax() >= patience:
        return ""
    if count <= last:
        return f"it has {count} {'look' if count == 1 else 'looks'} at validation, which cannot show a plateau"
    gain = auroc.max() - auroc[:-last].max()
    return f"the last {last} of its {count} looks at validation gained {gain:.3f}" if gain > TOLERANCE else ""


def _of_search(tried: pd.DataFrame, card: dict) -> str:
    """Whether the best strength or layer is an end of those that were tried.

    A strength is compared at the chosen layer, a layer at its best strength. Beyond the reader's first and last layer
    there is nothing to try.
    """
    layer, strength = (card["chosen"][name] for name in ("layer", "strength"))
    by_strength = tried[tried["layer"] == layer].set_index("strength")["validation_auroc"]
    by_layer = tried.groupby("layer")["validation_auroc"].max()
    at_an_end = _at_an_end("strength", by_strength, strength)
    whole = layer in (0, card.get("last_layer", by_layer.index.max()))
    return at_an_end or ("" if whole else _at_an_end("layer", by_layer, layer))


def _at_an_end(name: str, auroc: pd.Series, chosen: float) -> str:
    """Why a choice says that more should have been tried, from the AUROC of all that was; "" if it does not."""
    for end, ordered in {"lowest": auroc.sort_index(), "highest": auroc.sort_index(ascending=False)}.items():
        gain = ordered.iloc[0] - ordered.iloc[1] if len(ordered) > 1 else 0.0
        if ordered.index[0] == chosen and gain > TOLERANCE:
            return f"its {name}, {chosen:g}, is the {end} that was tried, and gained {gain:.3f} over the next"
    return ""
