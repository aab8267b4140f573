"""How to cite this software and the paper, made from CITATION.cff."""

from pathlib import Path

import yaml

CITATION = Path(__file__).resolve().parents[2] / "CITATION.cff"
KINDS = {"software": "software", "conference-paper": "inproceedings"}  # of CFF, and what BibTeX calls them


def page(path: Path = CITATION) -> str:
    """Every work that the file names, as BibTeX and as a sentence in APA's manner, in Markdown.

    Args:
        path: a file in the Citation File Format.
    """
    software = yaml.safe_load(path.read_text(encoding="utf-8"))
    parts = []
    for heading, work in (("This software", software), *(("The paper", paper) for paper in software["references"])):
        parts += [f"## {heading}", "", "```bibtex", bibtex(work), "```", "", "```text", apa(work), "```", ""]
    return "\n".join(parts)


def bibtex(work: dict) -> str:
    """One work of a CFF file as a BibTeX entry; fields that it does not have are left out."""
    names = [author.get("name") or f"{author['family-names']}, {author['given-names']}" for author in work["authors"]]
    fields = {
        "author": " and ".join(f"{{{name}}}" if ", " not in name else name for name in names),
        "title": work["title"],
        "booktitle": work.get("conference", {}).get("name"),
        "year": _year(work),
        "version": work.get("version"),
        "note": ", ".join(_identifiers(work)),
    }
    key = "whoknows" if work["type"] == "software" else f"{names[0].split(',')[0].lower()}{_year(work)}"
    lines = [f"  {name} = {{{value}}}," for name, value in fields.items() if value]
    return "\n".join([f"@{KINDS[work['type']]}{{{key},", *lines, "}"])


def apa(work: dict) -> str:
    """One work of a CFF file as one line of a list of references."""
    *others, last = [_initials(author) for author in work["authors"]]
    names = f"{', '.join(others)}, & {last}" if others else last
    version = f" (Version {work['version']}) [Computer software]" if work["type"] == "software" else ""
    more = [work.get("conference", {}).get("name"), *_identifiers(work)]
    parts = [names.rstrip("."), f"({_year(work) or 'n.d.'})", f"{work['title']}{version}", *filter(None, more)]
    return " ".join(f"{part}." for part in parts)


def _initials(author: dict) -> str:
    if "name" in author:
        return author["name"]
    return f"{author['family-names']}, {' '.join(f'{name[0]}.' for name in author['given-names'].split())}"


def _year(work: dict) -> str:
    return str(work.get("year") or str(work.get("date-released", ""))[:4])


def _identifiers(work: dict) -> list[str]:
    return [identifier["value"] for identifier in work.get("identifiers", [])]
