"""Packs what the pages of results are made of, so that another book can show a run without repeating it.

`python -m whoknows.pack GRID FOLDER` writes rows, controls, answers, the probes' searches and the grid itself, some
megabytes; a grid that names the folder as `beside` shows them. No estimator, hidden state or adapter is in it.
"""

import argparse
import json
import sys
from pathlib import Path

import nbformat

from whoknows import WhoknowsError, cells, files, grid
from whoknows.command import command
from whoknows.scores import CELL

ORDER = [*CELL, "seed", "split", "task", "question_id"]  # equal questions stand in equal order, which compresses
SMALL = {"compression": "zstd", "compression_level": 19}


def pack(grid_file: Path, results: Path, folder: Path) -> None:
    """Writes a folder with all that the pages of results need of a run.

    Args:
        grid_file: of the run.
        results: its results.
        folder: is made anew.

    Raises:
        WhoknowsError: a part of the run is missing.
    """
    chosen = grid.load(grid_file)
    names = [model.name for model in chosen.models]
    tables = {part: cells.read_rows(results / part, names, list(chosen.methods), list(chosen.seeds)) for part in ("rows", "controls")}
    page = results / "notebooks" / "heatmaps.ipynb"
    if tables["rows"].empty or not page.exists():
        raise WhoknowsError(f"{results} has no finished run of {grid_file}: run make book GRID={grid_file} first.")

    def write(place: Path) -> None:
        for part, table in tables.items():
            files.write_parquet(place / part / f"{part}.parquet", table.sort_values(ORDER), **SMALL)
        for name in names:
            files.write_parquet(place / "answers" / f"{name}.parquet", files.read_parquet(results / "answers" / f"{name}.parquet"), **SMALL)
        for card in sorted((results / "estimators" / "probe").rglob("probe.json")):
            files.write_text(place / card.relative_to(results), json.dumps(json.loads(card.read_text()), separators=(",", ":")))
        files.write_text(place / "grid.yml", Path(grid_file).read_text(encoding="utf-8"))
        about = nbformat.read(page, as_version=4).metadata.get("whoknows", {})
        files.write_text(place / "about.json", json.dumps({key: value for key, value in about.items() if key != "parameters"}, indent=1))

    files.write_folder(folder, write)


@command
def main(arguments: list[str] | None = None) -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m whoknows.pack", description=__doc__)
    parser.add_argument("grid", type=Path)
    parser.add_argument("folder", type=Path)
    options = parser.parse_args(arguments)
    pack(options.grid, Path("results") / grid.load(options.grid).name, options.folder)
    size = sum(path.stat().st_size for path in options.folder.rglob("*") if path.is_file())
    print(f"{options.folder}: {size / 1e6:.1f} MB")


if __name__ == "__main__":
    sys.exit(main())
