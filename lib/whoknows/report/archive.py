"""Bundles a finished run for a release or an archive: `python -m whoknows archive GRID`.

The bundle is a zip file with the built report, its PDF if there is one, the packed rows (which another grid can show as
`beside`), the executed notebooks if they are small, how to cite, and a manifest: the SHA-256 of every file, versions,
machine and commit. The same files make the same bundle, byte for byte. Beside it lie the PDF, the manifest, and the
metadata that Zenodo asks for.
"""

import argparse
import json
import shutil
import tempfile
import zipfile
from collections import Counter
from pathlib import Path

import nbformat

from whoknows import WhoknowsError
from whoknows.data import cache, files
from whoknows.data.files import ROOT
from whoknows.report import book, chapters, citation, outdated, pack, pdf
from whoknows.run import cost, grid
from whoknows.run.stages import STAGES

LARGEST = 30_000_000  # bytes of executed notebooks; larger ones are left out: the report has those of its pages
WHEN = (1980, 1, 1, 0, 0, 0)  # of every file in a bundle: the earliest that a zip file can name
MANIFEST, METADATA, ZENODO = "manifest.json", "zenodo.json", ".zenodo.json"  # the last: the second's name in a bundle


def archive(grid_file: Path, results: Path, folder: Path) -> Path:
    """Writes a folder with the bundle of a run, and what of it is wanted alone: manifest, metadata and PDF.

    An earlier archive in the folder is replaced. Returns the bundle. Raises a WhoknowsError if the run is not finished,
    its report is not built, or the folder has other files.
    """
    files.check_replaceable(folder, MANIFEST, METADATA)
    chosen, about = grid.load(grid_file), citation.read()
    run = chapters.collect(results / "notebooks", chosen)
    check(run, chosen, results, grid_file)
    answer = citation.answer(nbformat.read(results / "book" / "index.ipynb", as_version=4))
    name = f"whoknows-{chosen.name}-{about['version']}"

    def write(place: Path) -> None:
        with tempfile.TemporaryDirectory() as packed:
            pack.pack(grid_file, results, Path(packed) / "data")
            files.write_text(place / METADATA, json.dumps(citation.zenodo(about, answer), indent=1))
            parts = members(results, Path(packed)) | {ZENODO: place / METADATA}
            facts = {"grid": chosen.name, "version": about["version"]} | pack.about(run)
            facts["files"] = {
                part: {"sha256": cache.sha256(path), "bytes": path.stat().st_size}
                for part, path in sorted(parts.items())
            }
            files.write_text(place / MANIFEST, json.dumps(facts, indent=1))
            bundle(place / f"{name}.zip", parts | {MANIFEST: place / MANIFEST}, name)
            if pdf.NAME in parts:
                shutil.copy(parts[pdf.NAME], place)

    files.write_folder(folder, write)
    return folder / f"{name}.zip"


def check(run: list[chapters.Chapter], chosen: grid.Grid, results: Path, grid_file: Path) -> None:
    """Raises a WhoknowsError unless a run, as `chapters.collect` returns it, is finished and its report is its own."""
    there, failed = Counter(page.stage for page in run), [page.heading for page in run if page.failed]
    due = {stage: work.jobs - there[stage] for stage, work in cost.work(chosen).items()}
    missing = [f"{count} of {STAGES[stage]}" for stage, count in due.items() if count > 0]
    index = results / "book" / "_build" / "html" / "index.html"
    wrong = f"{results} has no finished run of {grid_file}"
    if failed:
        wrong += f": failed are {', '.join(failed)}"
    elif missing:
        wrong += f": notebooks are missing, {', '.join(missing)}"
    elif old := outdated.sentence(run):
        wrong += f": {old}"
    elif not book.whole(index).is_file():
        wrong = f"{index.parent} is missing or not whole: the report of {grid_file} is not built"
    elif index.stat().st_mtime_ns < max(path.stat().st_mtime_ns for path in (results / "notebooks").glob("*.ipynb")):
        wrong = f"{index} is older than the run of {grid_file}"
    else:
        return
    raise WhoknowsError(f"{wrong}; run make book GRID={grid_file} first.")


def members(results: Path, packed: Path) -> dict[str, Path]:
    """The files of a bundle, by their names in it: of results, and of a folder with the packed run, data/."""
    built, notebooks = results / "book" / "_build", sorted((results / "notebooks").glob("*.ipynb"))
    is_small = sum(path.stat().st_size for path in notebooks) <= LARGEST
    paths = {f"html/{path.relative_to(built / 'html')}": path for path in (built / "html").rglob("*")}
    paths |= {str(path.relative_to(packed)): path for path in packed.rglob("*")}
    paths |= {f"notebooks/{path.name}": path for path in notebooks if is_small}
    paths |= {name: ROOT / name for name in ("CITATION.cff", "LICENSE")} | {pdf.NAME: built / pdf.NAME}
    return {name: path for name, path in paths.items() if path.is_file()}


def bundle(path: Path, parts: dict[str, Path], top: str) -> None:
    """Writes a zip file, unpacked to `top`, that depends on names and contents of its parts alone."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as zipped:
        for name, part in sorted(parts.items()):
            entry = zipfile.ZipInfo(f"{top}/{name}", WHEN)
            entry.compress_type, entry.external_attr, entry.create_system = zipfile.ZIP_DEFLATED, 0o644 << 16, 3
            zipped.writestr(entry, part.read_bytes())


def main(arguments: list[str]) -> None:
    """The command line; prints where the bundle is, and how large."""
    parser = argparse.ArgumentParser(prog="whoknows archive", description=__doc__)
    parser.add_argument("grid", type=Path)
    parser.add_argument("--output", type=Path, help="folder to write; results/<name of the grid>/archive if not given")
    options = parser.parse_args(arguments)
    results = Path("results") / grid.load(options.grid).name
    path = archive(options.grid, results, options.output or results / "archive")
    print(f"The archive: {path.resolve()} ({path.stat().st_size / 1e6:.1f} MB)")
