"""Packs what the pages of results are made of, so that another book can show a run without repeating it.

`python -m whoknows pack GRID FOLDER` writes rows, controls, answers, a judge's verdicts on them, the estimators' cards,
the search for settings and the grid with all that its file leaves out, some megabytes; a grid that names the folder as
`beside` shows them, wherever the folder was copied to. No estimator, hidden state or adapter is in it.
"""

import argparse
import json
from pathlib import Path

from whoknows import WhoknowsError
from whoknows.data import files
from whoknows.evaluation import cells, plateau
from whoknows.evaluation.scores import CELL
from whoknows.report import chapters, outdated
from whoknows.run import grid, parameters

ORDER = [*CELL, "seed", "split", "task", "question_id"]  # equal questions stand in equal order, which compresses
# Stages that made what is packed; pages may be of another machine.
MADE_BY = "answer answer_file answer_api extract probe lora_prompt judge surface ablate ablate_lora search".split()
SMALL = {"compression": "zstd", "compression_level": 19}


def pack(grid_file: Path, results: Path, folder: Path) -> None:
    """Writes a folder with all that the pages of results need of a run, in place of an earlier pack.

    Raises a WhoknowsError if the run is not finished, or the folder has other files.
    """
    files.check_replaceable(folder, "about.json", "grid.yml")
    chosen = grid.load(grid_file)
    names = [model.name for model in chosen.models]
    tables = {
        part: cells.read_rows(results / part, names, chosen.methods, chosen.seeds, parameters.lora_variants(chosen))
        for part in ("rows", "controls")
    }
    run = chapters.collect(results / "notebooks", chosen)
    old = outdated.sentence(run)
    if tables["rows"].empty or not (results / "notebooks" / "heatmaps.ipynb").exists() or old:
        why = f": {old}" if old else ""
        raise WhoknowsError(f"{results} has no finished run of {grid_file}{why}: run make book GRID={grid_file} first.")

    def write(place: Path) -> None:
        for part, table in tables.items():
            files.write_parquet(place / part / f"{part}.parquet", table.sort_values(ORDER), **SMALL)
        for path, card in plateau.cards(results / "estimators").items():
            files.write_text(place / path.relative_to(results), json.dumps(card, separators=(",", ":")))
        asked = {"answers": True, "search": parameters.searched(chosen), "judged": parameters.compared(chosen)}
        more = [Path(part, f"{name}.parquet") for part, is_asked in asked.items() if is_asked for name in names]
        for path in (path for path in more if path.parts[0] == "answers" or (results / path).exists()):
            files.write_parquet(place / path, files.read_parquet(results / path), **SMALL)
        files.write_text(place / "grid.yml", grid.text(chosen, folder))
        files.write_text(place / "about.json", json.dumps(about(run), indent=1))

    files.write_folder(folder, write)


def about(run: list[chapters.Chapter]) -> dict:
    """Commit, machine, number format and versions of the stages that made what is packed; all where they differ."""
    made, keys = [chapter for chapter in run if chapter.stage in MADE_BY], ("commit", "machine", "precision")
    facts = {name: "; ".join(values) for name, values in chapters.facts(made, *keys).items()}
    return {key: facts.pop(key) for key in keys} | {"versions": facts}


def main(arguments: list[str]) -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="whoknows pack", description=__doc__)
    parser.add_argument("grid", type=Path)
    parser.add_argument("folder", type=Path)
    options = parser.parse_args(arguments)
    pack(options.grid, Path("results") / grid.load(options.grid).name, options.folder)
    size = sum(path.stat().st_size for path in options.folder.rglob("*") if path.is_file())
    print(f"{options.folder}: {size / 1e6:.1f} MB")
