"""Who made the report, when and where it is at home, from CITATION.cff: for its first page and previews of links."""

import json
import re
from html import escape
from pathlib import Path

import vl_convert
from nbformat import NotebookNode

from whoknows.data import files
from whoknows.data.files import ROOT
from whoknows.run import provenance

ANSWER = re.compile(r'<p class="answer">(.*?)</p>', re.DOTALL)
PREVIEW = "preview.png"
SCALE = 1.5  # of the preview's pixels to the chart's: some 1,200 in a row, as previews of links are shown


def read(path: Path = ROOT / "CITATION.cff") -> dict:
    """What is to be cited: the fields of the file, `authors` as their names, the same with family names first, doi."""
    about = files.read_yaml(path)
    forms = {"authors": "{given-names} {family-names}", "sorted_names": "{family-names}, {given-names}"}
    names = {
        key: [author.get("name") or form.format_map(author) for author in about["authors"]]
        for key, form in forms.items()
    }
    dois = [one["value"] for one in about.get("identifiers", []) if one["type"] == "doi"]
    return about | names | {"doi": about.get("doi") or next(iter(dois), "")}


def byline(about: dict, date: str, home: str) -> str:
    """Authors, version, date, licence, DOI and links to the repository and how to cite, as Markdown; what is missing
    is left out.

    Args:
        date: of the checkout, for a version that has no date of its own.
        home: the repository's address, where the file names none; "" if it has no public one.
    """
    home = about.get("repository-code") or home
    version = f"version {about['version']}" if about.get("version") else ""
    doi = f"[doi:{about['doi']}](https://doi.org/{about['doi']})" if about.get("doi") else ""
    facts = [", ".join(about["authors"]), version, str(about.get("date-released") or date), about.get("license", "")]
    links = [doi, f"[Repository]({home})" if home else "", "[How to cite](book/references.md)"]
    return f":::{{container}} byline\n{' · '.join(filter(None, [*facts, *links]))}\n:::"


def dated(page: str, about: dict, date: str) -> str:
    """The page on citing, whose file has no date, with the year of the release, or else of the checkout's `date`."""
    year = str(about.get("date-released") or date)[:4]
    if not year:
        return page
    page = page.replace("(n.d.)", f"({year})", 1)
    return page.replace("\n  version = ", f"\n  year = {{{year}}},\n  version = ", 1)


def zenodo(about: dict, answer: str) -> dict:
    """The metadata of a deposit on Zenodo that says `answer` (HTML), by developers.zenodo.org (*Deposit metadata*)."""
    cited = [one for reference in about.get("references", []) for one in reference.get("identifiers", [])]
    return {
        "title": about["title"],
        "upload_type": about["type"],
        "description": f"<p>{answer}</p><p>{escape(about['message'])}</p>",
        "creators": [{"name": name} for name in about["sorted_names"]],
        "version": about["version"],
        "license": about["license"].lower(),
        "related_identifiers": [{"identifier": one["value"], "relation": "references"} for one in cited],
    }


def date() -> str:
    """The day of the checkout's commit; "" without git."""
    return provenance.git("log", "-1", "--format=%cs")


def preview(landing: NotebookNode, about: dict, static: Path) -> dict[str, str]:
    """What a link to the report shows: title, description (the first page's answer), authors and image.

    The image is the place in the book of a picture of the first chart, which `static`, the book's folder of static
    files, gets; "" where there is no chart.
    """
    spec = next(filter(None, (_spec("".join(data.get("text/html", ""))) for data in _outputs(landing))), None)
    if spec:
        picture = vl_convert.vegalite_to_png(json.dumps(spec | {"background": "white", "padding": 20}), scale=SCALE)
        (static / PREVIEW).write_bytes(picture)
    title = about["title"].partition(": ")[2] or about["title"]  # without the software's name
    title = title[0].upper() + title[1:]
    image = f"_static/{PREVIEW}" if spec else ""
    # the answer is HTML already, which the template must not escape again
    return {"title": title, "description": answer(landing), "authors": ", ".join(about["authors"]), "image": image}


def answer(landing: NotebookNode) -> str:
    """The sentence of the first page that answers its question, as HTML; "" if it has none."""
    matches = (ANSWER.search("".join(data.get("text/markdown", ""))) for data in _outputs(landing))
    return next((match[1] for match in matches if match), "")


def _outputs(landing: NotebookNode) -> list[dict]:
    return [output.get("data", {}) for cell in landing.cells for output in cell.get("outputs", [])]


def _spec(html: str) -> dict | None:
    """The Vega-Lite specification within Altair's HTML of a chart."""
    script, call, rest = html.partition("})({")
    return json.JSONDecoder().raw_decode("{" + rest)[0] if call and "vegaEmbed" in script else None
