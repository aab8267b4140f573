"""Which pages of a run are outdated: a grid may be changed after its run, and a stage may fail when it runs again."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

from whoknows import WhoknowsError
from whoknows.run import parameters
from whoknows.run.grid import Grid
from whoknows.run.page import scrub

if TYPE_CHECKING:
    from whoknows.report.chapters import Chapter

MAY_BE_ELSEWHERE = ("digest", "learned")  # of files that need not be here to read the results


def names(pages: list[Chapter], grid: Grid) -> set[str]:
    """Of the pages, in the order of their stages, that were made with other settings than the grid has now.

    With them those that read what such a page wrote, what one that failed was to write, or what was made anew since.
    """
    old: set[str] = set()
    written: dict[str, str] = {}
    gone: set[str] = set()  # with the folders around it, which others read as a whole
    for page in sorted(pages, key=lambda page: page.stage in parameters.PAGES):  # which read the others' files
        reads, places = page.about.get("inputs", {}), [page.parameters.get(key) for key in ("out", "rows_out")]
        is_old = gone & {*reads} or any(written.get(path, digest) != digest for path, digest in reads.items())
        if not page.failed and (is_old or _differs(page, grid)):
            old.add(page.name)
        written |= page.about.get("outputs", {})
        if page.failed or page.name in old:
            gone |= {str(place) for path in map(Path, filter(None, places)) for place in (path, *path.parents)}
    return old


def sentence(run: list[Chapter]) -> str:
    """How much of a run is outdated; "" if nothing is."""
    old = [page.name for page in run if page.outdated]
    changed = "were made before the grid, or what they read, was changed"
    return f"{len(old)} of its {len(run)} notebooks, such as {old[0]}, {changed}" if old else ""


def _differs(page: Chapter, grid: Grid) -> bool:
    """Whether the grid now tells a page's stage something else; what cannot be told here is no difference."""
    try:
        now = parameters.of_page(grid, page.name, page.parameters)
    except WhoknowsError:  # a file is not here
        return False
    now = {key: value for key, value in now.items() if key in page.parameters}
    if page.stage == "beside":  # the grid names the folder, and nothing else of it
        now = json.loads(scrub(json.dumps(now)))
        return any(value != page.parameters[key] for key, value in now.items())
    return not all(_same(value, page.parameters[key], key) for key, value in now.items())


def _same(now, then, key: str = "") -> bool:
    """Whether a parameter says what it said; paths may have become others, since digests say what is in the files."""
    if key in MAY_BE_ELSEWHERE and not now:
        return True
    if isinstance(now, dict) and isinstance(then, dict):
        return now.keys() == then.keys() and all(_same(value, then[name], name) for name, value in now.items())
    if isinstance(now, list) and isinstance(then, list):
        return len(now) == len(then) and all(map(_same, now, then))
    if isinstance(now, str) and isinstance(then, str) and "://" not in now:
        return Path(now).name == Path(then).name
    return now == then
