"""The PDF: the report as an article, its charts drawn with lines and letters, and the book links to it."""

import re

import altair as alt
import pandas as pd
import pytest
from nbformat.v4 import new_output
from test_book import ROOT, write_page

import browser
from whoknows import WhoknowsError, __main__
from whoknows.data import files
from whoknows.report import pdf
from whoknows.run import parameters

pytestmark = pytest.mark.slow


def made_up_chart(name):
    """A chart as a page of the book has it, with a title of its own."""
    chart = (
        alt.Chart(pd.DataFrame({"x": ["a", "b"], "y": [1, 2]}), title=f"Chart on {name}")
        .mark_bar()
        .encode(x="x:N", y="y:Q")
    )
    return new_output("display_data", chart._repr_mimebundle_())


@pytest.fixture(scope="module")
def printed(tmp_path_factory):
    """(names of the pages with a chart, the PDF) of results whose pages have all been run."""
    browser.find()
    folder = tmp_path_factory.mktemp("results")
    files.write_text(folder / "grid.yml", (ROOT / "grids/smoke.yml").read_text())
    names = [*parameters.PAGES, "extract-tiny-llama", "extract-tiny-mistral"]
    for name in names:
        write_page(
            folder / "notebooks",
            name,
            f"Page {name}",
            {"reader": name[8:]} if name[:7] == "extract" else {},
            [made_up_chart(name)],
        )
    return names, pdf.build(folder / "grid.yml", folder)


def test_it_has_the_charts_of_the_results_and_of_no_stage(printed):
    names, path = printed
    results = set(parameters.PAGES) - {"recompute"}
    # Chromium tags what it prints: each part of a chart has its description there, in plain bytes
    titles = re.findall(rb"/Alt \(Title text 'Chart on ([\w-]+)'\)", path.read_bytes())
    assert sorted(title.decode() for title in titles) == sorted(results)
    assert (path.parent / "singlehtml/index.html").read_text().count('id="altair-viz-') == len(names) > len(results)


def test_heatmaps_are_lines_and_letters(printed):
    assert b"/Subtype /Image" not in printed[1].read_bytes()


def test_its_outline_has_what_an_article_has(printed):
    outline = printed[1].read_bytes()

    def has(page):
        return re.search(rb"/Title \((\xfe\xff)?" + re.escape(page.encode()), outline)

    for page in ("Method", "Limits", "Glossary", "References", "Cite", "The run", "Page grading"):
        assert has(page), page
    for page in ("Contents", "Use an estimator", "Bring your own", "Page recompute", "Page extract"):
        assert not has(page), page


def test_nothing_in_it_points_into_this_machine(printed):
    assert b"file:" not in printed[1].read_bytes()


def test_the_book_links_to_it(printed):
    html = printed[1].parent / "html"
    assert 'href="_static/whoknows.pdf"' in (html / "index.html").read_text()
    assert (html / "_static/whoknows.pdf").read_bytes() == printed[1].read_bytes()


def test_without_a_browser_it_is_one_sentence(monkeypatch, capsys):
    monkeypatch.setenv("PATH", "")
    assert __main__.main(["pdf", "grids/smoke.yml"]) == 2
    message = capsys.readouterr().err
    assert message.startswith("There is no Chromium or Chrome on the PATH") and message.count("\n") == 1


def test_a_browser_that_fails_is_one_sentence(tmp_path):
    broken = tmp_path / "chromium"
    broken.write_text("#!/bin/sh\necho 'no display' >&2\nexit 1\n")
    broken.chmod(0o755)
    with pytest.raises(WhoknowsError, match="could not print the book: no display"):
        pdf.print_page(str(broken), tmp_path / "index.html", tmp_path / "out.pdf")
