"""What changed since the run before: the numbers of the heatmaps, settings, versions and the machine.

A finished book leaves a summary of its run in `history.json` beside the results, with that of the run before it. A book
that is built again of the same run is compared with the same one.
"""

import json
from collections.abc import Iterator
from dataclasses import asdict
from html import escape
from pathlib import Path

import pandas as pd

from whoknows.data import files
from whoknows.data.methods import METHOD_TITLES
from whoknows.evaluation.scores import CELL
from whoknows.report.pages import style
from whoknows.run.grid import Grid
from whoknows.run.provenance import code

PLACE = ["test_set", *CELL]
VALUES = ["auroc", "low", "high"]
SHOWN = 3  # digits; what moves by less has not moved
TITLE = "## What changed since the last run"
NOTHING = "No earlier run of this grid has left its numbers here. `whoknows compare` compares runs of any grids."
UNFINISHED = (
    "Some stages failed, or show earlier settings. A run is compared with the one before it once all have finished."
)


def summary(scores: pd.DataFrame, about: dict, grid: Grid) -> dict:
    """What is kept of a run, ready for JSON, of what `cells.heatmap_table` and `pack.about` return."""
    measured = scores.dropna(subset="auroc").drop_duplicates(PLACE)[[*PLACE, *VALUES]].round(dict.fromkeys(VALUES, 6))
    values = json.loads(measured.to_json(orient="records"))
    settings = {key: json.dumps(value) for key, value in _flat(asdict(grid))}
    facts = {key: value for key, value in about.items() if key != "versions"} | about["versions"]
    return {"values": values, "settings": settings, "about": facts}


def _flat(value, name: str = "") -> Iterator[tuple[str, object]]:
    """Each setting by its place: lora_prompt.epochs, or tasks.sciq.size; what is null is left out."""
    if isinstance(value, list | tuple) and value and all(isinstance(one, dict) and "name" in one for one in value):
        value = {one["name"]: one for one in value}
    if isinstance(value, dict):
        for key, part in value.items():
            yield from _flat(part, f"{name}.{key}" if name else str(key))
    elif value is not None:
        yield name, value


def before(path: Path, now: dict) -> dict | None:
    """The summary of the run before a finished one, or None; both are kept in the file, this one for the next."""
    try:
        kept = json.loads(path.read_text(encoding="utf-8"))
        last, earlier = kept["now"], kept["before"]
    except (OSError, ValueError, KeyError, TypeError):  # it is not there, or somebody wrote into it
        last = earlier = None
    if last == now:
        return earlier
    files.write_text(path, json.dumps({"now": now, "before": last}))
    return last


def section(old: dict | None, now: dict | None) -> str:
    """The section of the page *The run*, as Markdown, of two summaries; there is none now if a stage failed."""
    if not now or not old:
        return "\n".join([TITLE, "", NOTHING if now else UNFINISHED, ""])
    table = moved(old["values"], now["values"])
    lines = [TITLE, "", _sentence(table, len(now["values"])), "", *_numbers(table.dropna(subset="difference"))]
    changed = [*_changed(old["about"], now["about"]), *_changed(old["settings"], now["settings"])]
    if changed:
        return "\n".join([*lines, "| | before | now |", "|---|---|---|", *changed, ""])
    return "\n".join([*lines, "Machine, commit, versions and settings are the same.", ""])


def moved(old: list[dict], now: list[dict]) -> pd.DataFrame:
    """The values of two summaries that are not the same, those that moved most first.

    Returns:
        PLACE, auroc_old, low_old, high_old, auroc, low, high, difference (new less old; NaN of a cell that is in one
        run alone), and is_within, whether the new value lies in the old interval (missing where there is none).
    """
    kinds = dict.fromkeys(VALUES, float)  # null is no number to JSON
    tables = (pd.DataFrame(values, columns=[*PLACE, *VALUES]).astype(kinds) for values in (old, now))
    both = next(tables).merge(next(tables), "outer", PLACE, suffixes=("_old", ""))
    both["difference"] = both["auroc"] - both["auroc_old"]
    within = both["auroc"].between(both["low_old"], both["high_old"]).astype("boolean")
    both["is_within"] = within.mask(both[["auroc", "low_old", "high_old"]].isna().any(axis=1))
    both = both[both["difference"].round(SHOWN).ne(0)]
    return both.sort_values("difference", key=lambda values: -values.abs(), kind="stable", ignore_index=True)


def _sentence(table: pd.DataFrame, count: int) -> str:
    shifted = table["difference"].notna()
    parts = [f"{shifted.sum()} of {count} values of AUROC differ from the last run"]
    if shifted.any():
        outside = (~table["is_within"].dropna()).sum()
        parts.append(f"{outside} of them lie outside the old 95 % interval")
    for name, what in (("auroc_old", "are new"), ("auroc", "are gone")):
        parts += [f"{missing} {what}"] if (missing := table[name].isna().sum()) else []
    return "; ".join(parts) + "."


def _numbers(table: pd.DataFrame) -> list[str]:
    """The lines of a table that folds away; none without values that moved."""
    if table.empty:
        return []
    head = ["Method", "Reader", "Trained on", "Scored", "Test questions", "Before", "Now", "Difference", "Within"]
    lines = ["<details><summary>The values that moved</summary>", ""]
    lines += [f"| {' | '.join(head)} |", "|---" * len(head) + "|"]
    olds = style.with_interval(table["auroc_old"], table["low_old"], table["high_old"])
    for line, with_interval in zip(table.itertuples(), olds):
        old = f"{line.auroc_old:.3f}" if pd.isna(line.is_within) else with_interval
        names = [escape(METHOD_TITLES[line.method]), *map(code, (line.reader, line.trained_on, line.scored))]
        is_within = "—" if pd.isna(line.is_within) else "yes" if line.is_within else "no"
        numbers = [old, f"{line.auroc:.3f}", style.signed(line.difference, SHOWN), is_within]
        lines.append(f"| {' | '.join([*names, line.test_set, *numbers])} |")
    return [*lines, "", "*Within*: whether the new value lies in the old 95 % interval.", "", "</details>", ""]


def _changed(old: dict[str, str], now: dict[str, str]) -> list[str]:
    """A line for each fact that is not the same in both."""
    lines = []
    for name in (name for name in old | now if old.get(name) != now.get(name)):
        values = (code(run[name]) if run.get(name) else "—" for run in (old, now))
        lines.append(f"| {code(name)} | {' | '.join(values)} |")
    return lines
