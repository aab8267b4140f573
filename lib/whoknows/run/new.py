"""Writes a folder to begin with, a grid and questions of your own: `python -m whoknows new FOLDER`."""

import argparse
import re
from pathlib import Path

from whoknows import WhoknowsError
from whoknows.data import files

TEMPLATES = Path(__file__).with_name("study")


def write(folder: Path) -> None:
    """Writes grid.yml, questions.csv and README.md; the grid is called as the folder is, which has to be new."""
    if not re.fullmatch(r"[\w./-]+", str(folder)):
        raise WhoknowsError(f"{folder}: make takes no such path; use letters, digits, dots, hyphens and underscores.")
    name = re.sub("[^A-Za-z0-9.]+", "-", folder.resolve().name).strip("-.") or "study"
    # A grid that is shipped has the folder of results of its name.
    there = [path for path in (folder, Path("results", name), Path("grids", f"{name}.yml")) if path.exists()]
    taken = next((path for path in there if not path.is_dir() or any(path.iterdir())), None)
    if taken:
        raise WhoknowsError(f"{taken}: there is something already, which is left as it is; name another folder.")
    names = {"FOLDER": str(folder), "NAME": name}
    try:
        for template in sorted(TEMPLATES.iterdir()):
            text = re.sub("FOLDER|NAME", lambda word: names[word[0]], template.read_text(encoding="utf-8"))
            files.write_text(folder / template.name, text)
    except OSError as error:
        raise WhoknowsError(
            f"{folder}: nothing can be written there ({error.strerror}); name another folder."
        ) from None


def main(arguments: list[str]) -> None:
    """The command line; prints what to do next."""
    parser = argparse.ArgumentParser(prog="whoknows new", description=__doc__)
    parser.add_argument("folder", type=Path, help="is made; it may be there if it is empty")
    folder = parser.parse_args(arguments).folder
    write(folder)
    print(f"{folder / 'README.md'} says what is there. To run it: make book GRID={folder / 'grid.yml'}")
