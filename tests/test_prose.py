"""The pages that nobody computes: their references, their words, and that they hold no measured number."""

import re
from pathlib import Path

import pandas as pd
import pytest
import yaml
from pybtex.database import parse_file, parse_string

ROOT = Path(__file__).parents[1]
BOOK = ROOT / "book"
PAGES = {path.name: path.read_text() for path in BOOK.glob("*.md")}
CITATION = yaml.safe_load((ROOT / "CITATION.cff").read_text())
PAPER = CITATION["references"][0]


def test_every_work_in_the_list_is_cited_and_every_cited_one_is_there():
    cited = {
        key for text in PAGES.values() for keys in re.findall(r"\{cite:\w+\}`([^`]+)`", text) for key in keys.split(",")
    }
    assert cited == set(parse_file(BOOK / "references.bib").entries)


def test_the_list_and_the_citation_name_the_same_paper():
    listed = parse_file(BOOK / "references.bib").entries["kapoor2024"]
    assert listed.fields["title"] == PAPER["title"] and listed.fields["year"] == str(PAPER["year"])
    assert [f"arXiv:{listed.fields['eprint']}"] == [identifier["value"] for identifier in PAPER["identifiers"]]
    assert [str(person) for person in listed.persons["author"]] == authors(PAPER)


def authors(work):
    return [author.get("name") or f"{author['family-names']}, {author['given-names']}" for author in work["authors"]]


@pytest.mark.parametrize("work", [CITATION, PAPER], ids=["whoknows", "kapoor2024"])
def test_the_page_says_what_the_citation_file_says(work):
    entries = parse_string("\n".join(re.findall(r"```bibtex\n(.*?)```", PAGES["cite.md"], re.DOTALL)), "bibtex").entries
    entry = entries["whoknows" if work is CITATION else "kapoor2024"]
    assert entry.fields["title"] == work["title"]
    assert entry.fields.get("version") == work.get("version") and entry.fields.get("year") == (
        str(work["year"]) if "year" in work else None
    )
    assert [str(person).strip("{}") for person in entry.persons["author"]] == authors(work)
    lines = re.findall(r"```text\n(.*?)\n```", PAGES["cite.md"], re.DOTALL)
    assert [work["title"] in line for line in lines] == [work is CITATION, work is PAPER]
    assert all(name.split(",")[0] in lines[work is PAPER] for name in authors(work))


def test_every_name_of_an_axis_is_in_the_glossary():
    words = set(re.findall(r"^([^\s`{#].*)\n  \S", PAGES["glossary.md"], re.MULTILINE))
    assert {"method", "reader", "trained on", "scored", "task", "seed", "cell", "grid", "AUROC", "PRR"} <= words
    assert len(words) > 30


@pytest.mark.parametrize("name", ["limits.md", "glossary.md", "method.md", "reading.md"])
def test_no_measured_number_is_typed(name):
    assert re.findall(r"\b0\.\d+|\d+ ?%|\b\d{3,}\b(?!`)", PAGES[name]) == []


def test_the_table_of_number_formats_has_each_cell_once_and_its_difference():
    table = pd.read_csv(BOOK / "number_formats.csv")
    cells = table[["Method", "Reader", "Trained on", "Scored"]]
    assert len(table) == 16 and not cells.duplicated().any() and cells.nunique().tolist() == [2, 2, 2, 2]
    apart = table["float32"] - table["bfloat16"]
    assert (apart - table["Difference"]).abs().max() < 0.0011 and table["Difference"].abs().max() > 0
