"""The strip under a figure: where it stands, what it offers, and that nothing in it is run."""

import subprocess
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pandas as pd
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

from whoknows.data import files
from whoknows.report import strip

ROOT = Path(__file__).parents[2]
HOME = "https://github.com/someone/some-name"
EVIL = "<script>window.hit = 1</script></details><img src=x onerror='window.hit = 2'>\n\n# heading & **bold**"
CHART = new_output("display_data", {"text/html": "<div></div><script>vegaEmbed()</script>"})
TEXT = new_output("display_data", {"text/html": "<table></table>"})


@pytest.fixture(autouse=True)
def no_home(monkeypatch, tmp_path):
    """A checkout with neither a public home nor git."""
    monkeypatch.setattr(strip, "ROOT", tmp_path)
    monkeypatch.delenv(strip.REPOSITORY, raising=False)
    monkeypatch.delenv(strip.HUB, raising=False)


@pytest.fixture
def home(monkeypatch):
    monkeypatch.setenv(strip.REPOSITORY, HOME)
    monkeypatch.setenv(strip.HUB, "https://hub.example/")


def make_page(stage="probe", outputs=((CHART,),), **about):
    """A page with one code cell for each tuple of outputs, and the record of its run."""
    record = {
        "stage": stage,
        "parameters": {},
        "seconds": 61.0,
        "machine": "a machine",
        "commit": "abc1234-dirty",
        "versions": {"torch": "9.9"},
    }
    code = [new_code_cell("1", outputs=list(those)) for those in outputs]
    return new_notebook(cells=[new_markdown_cell("# Title"), *code], metadata={"whoknows": record | about})


class Seen(HTMLParser):
    """Tags, addresses and text of a piece of HTML, as a browser would take it apart."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.links, self.text, self.link = set(), {}, "", None
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.tags.add(tag)
        self.link = dict(attributes).get("href")

    def handle_data(self, data):
        self.text += data
        if self.link:
            self.links[data] = self.link
        self.link = None


def stages():
    """Every notebook that has a page."""
    return sorted(path.stem for path in (ROOT / "notebooks").glob("*.py") if path.stem != "explore")


@pytest.mark.parametrize("stage", stages())
def test_every_pages_notebook_opens_as_a_file_of_this_repository(home, tmp_path, stage):
    tracked = subprocess.run(
        ["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.splitlines()
    page = make_page(stage)
    strip.add(page, "probe-a", tmp_path, "../")
    links = Seen(page.cells[-1].source).links
    opened = {title: link for title, link in links.items() if title.startswith("open ")}
    assert list(opened) == [f"open notebooks/{stage}.py in {place}" for place in ("Binder", "JupyterHub")]
    trees = [parse_qs(urlsplit(link).query)["urlpath"][0].removeprefix("lab/tree/") for link in opened.values()]
    assert {tree.removeprefix("some-name/") for tree in trees} <= set(tracked)
    assert urlsplit(links["run a grid in Colab"]).path.split("/abc1234/")[1] in tracked
    assert trees[1].startswith("some-name/"), "a JupyterHub clones into a folder of the repository's name"


def test_addresses_name_the_repository_and_the_commit_of_the_run(home):
    links = strip.launch("notebooks/a b.py", "abc1234-dirty")
    binder, hub, colab = links.values()
    assert binder == "https://mybinder.org/v2/gh/someone/some-name/abc1234?urlpath=lab%2Ftree%2Fnotebooks%2Fa%20b.py"
    assert colab == "https://colab.research.google.com/github/someone/some-name/blob/abc1234/notebooks/colab.ipynb"
    hub = urlsplit(hub)
    assert f"{hub.scheme}://{hub.netloc}{hub.path}" == "https://hub.example/hub/user-redirect/git-pull"
    assert parse_qs(hub.query) == {"repo": [HOME], "urlpath": ["lab/tree/some-name/notebooks/a b.py"]}
    assert next(iter(strip.launch("notebooks/probe.py", "").values())).startswith(
        "https://mybinder.org/v2/gh/someone/some-name/HEAD?"
    )


def test_without_a_public_home_there_is_no_address(tmp_path, monkeypatch):
    monkeypatch.setenv(strip.HUB, "https://hub.example")
    page = make_page()
    strip.add(page, "probe-a", tmp_path, "../")
    assert strip.launch("notebooks/probe.py", "abc1234") == {}
    assert "://" not in "".join(cell.source for cell in page.cells)


@pytest.mark.parametrize(
    "remote, home",
    [
        ("https://github.com/someone/some-name", HOME),
        ("https://github.com/someone/some-name.git\n", HOME),
        ("https://github.com/someone/some-name/", HOME),
        ("https://token:secret@github.com/someone/some-name.git", HOME),
        ("git@github.com:someone/some-name.git", HOME),
        ("ssh://git@github.com/someone/some-name", HOME),
        ("https://notgithub.com/someone/some-name", ""),
        ("https://mirror.example/github.com/someone/some-name", ""),
        ("https://github.com/someone/some-name/tree/main", ""),
        ("/srv/git/some-name.git", ""),
        ("", ""),
    ],
)
def test_the_repository_is_found_in_the_environment_and_in_git(tmp_path, monkeypatch, remote, home):
    monkeypatch.setenv(strip.REPOSITORY, remote)
    assert strip.repository() == home
    monkeypatch.delenv(strip.REPOSITORY)
    for command in (["git", "init", "-q"], ["git", "remote", "add", "origin", remote.strip()]):
        subprocess.run(command, cwd=tmp_path, check=bool(remote), stderr=subprocess.DEVNULL)
    assert strip.repository() == home


def test_without_git_there_is_no_repository(monkeypatch):
    monkeypatch.setenv("PATH", "")
    assert strip.repository() == ""


def test_the_line_stands_under_every_chart(tmp_path):
    page = make_page(outputs=((CHART,), (TEXT,), (), (TEXT, CHART)))
    strip.add(page, "probe-a", tmp_path, "../")
    under = [at for at, cell in enumerate(page.cells[:-1]) if cell.source.startswith('<div class="strip">')]
    charts = [at for at, cell in enumerate(page.cells) if CHART in cell.get("outputs", [])]
    assert under == [at + 1 for at in charts] and len(charts) == 2
    assert len({cell.id for cell in page.cells}) == len(page.cells)
    line = Seen(page.cells[under[0]].source)
    assert "notebooks/probe.py · abc1234-dirty · 61 s · a machine" in line.text
    assert line.links == {"notebook": "../_sources/run/probe-a.ipynb", "how it was made": "#how-this-page-was-made"}
    section = page.cells[-1].source
    assert section.startswith('<details class="made"><summary>How this page was made</summary>')
    assert ' id="how-this-page-was-made"' in section, "the link opens it, since its place lies within"


def test_the_line_stands_under_the_caption_of_a_chart_that_has_one(tmp_path):
    caption = new_output("display_data", {"text/html": f"{strip.CAPTION}Figure 1.</p>"})
    page = make_page(outputs=((CHART,), (caption,), (CHART,)))
    strip.add(page, "probe-a", tmp_path, "../")
    shown = ["strip" if cell.source.startswith('<div class="strip">') else cell.cell_type for cell in page.cells]
    assert shown == ["markdown", "code", "code", "strip", "code", "strip", "markdown"]
    assert "<br" not in page.cells[3].source, "it is one line"


def test_a_page_without_a_record_stays_as_it_is(tmp_path):
    page = make_page()
    page.metadata = {}
    before = page.copy()
    strip.add(page, "probe-a", tmp_path, "../")
    assert page == before


def test_tables_can_be_had_with_the_same_values(tmp_path):
    answers = pd.DataFrame({"answer": ["a, b", 'say "c"\nd', ""], "correct": [True, False, False]})
    rows = pd.DataFrame({"logit": [0.1, -1 / 3, float("nan")]}, dtype="float32")
    paths = {
        "out": str(tmp_path / "answers/Alpha.parquet"),
        "rows_out": str(tmp_path / "rows/likelihood/Alpha.parquet"),
    }
    files.write_parquet(paths["out"], answers)
    files.write_parquet(paths["rows_out"], rows)
    page = make_page("answer", parameters=paths | {"model": "Alpha"})
    strip.add(page, "answer-Alpha", tmp_path / "_static", "../")
    links = Seen(page.cells[-1].source).links
    got = {
        title: tmp_path / link.removeprefix("../")
        for title, link in links.items()
        if "table" in title or "rows" in title
    }
    pd.testing.assert_frame_equal(pd.read_csv(got["table as CSV"], keep_default_na=False), answers)
    pd.testing.assert_frame_equal(pd.read_parquet(got["table as Parquet"]), answers)
    pd.testing.assert_frame_equal(pd.read_csv(got["rows as CSV"], dtype="float32"), rows)
    pd.testing.assert_frame_equal(pd.read_parquet(got["rows as Parquet"]), rows)


def test_no_text_is_a_formula_to_a_spreadsheet(tmp_path):
    texts = ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "plain = 1", None]
    table = pd.DataFrame({"answer": texts, "gold": [["=1"]] * 7, "logit": [-0.5] * 7})
    files.write_parquet(tmp_path / "rows.parquet", table)
    page = make_page(parameters={"rows_out": str(tmp_path / "rows.parquet")})
    strip.add(page, "probe-a", tmp_path, "../")
    read = pd.read_csv(tmp_path / "tables/probe-a-rows.csv")
    assert read["answer"].fillna("").tolist() == ["'=1+1", "+1", "-1", "'@SUM(A1)", "'\t=1", "plain = 1", ""]
    assert read["logit"].tolist() == [-0.5] * 7 and read["gold"].iloc[0] == "['=1']"


def test_a_large_table_is_offered_as_parquet_alone(tmp_path, monkeypatch):
    files.write_parquet(tmp_path / "rows.parquet", pd.DataFrame({"logit": range(100)}))
    for largest, kinds in ((1000, ["CSV", "Parquet"]), (200, ["Parquet"])):
        monkeypatch.setattr(strip, "LARGEST", largest)
        page = make_page(parameters={"rows_out": str(tmp_path / "rows.parquet")})
        strip.add(page, "probe-a", tmp_path / str(largest), "../")
        assert [
            title.removeprefix("rows as ") for title in Seen(page.cells[-1].source).links if title.startswith("rows")
        ] == kinds
        assert len(list((tmp_path / str(largest) / "tables").iterdir())) == len(kinds)


def test_the_number_format_is_that_of_the_page_or_else_of_the_run(tmp_path):
    for about, precision in (({}, "bfloat16"), ({"precision": "float32"}, "float32")):
        page = make_page(**about)
        strip.add(page, "probe-a", tmp_path, "../", "bfloat16")
        assert (
            f"a machine · computed in {precision}" in Seen(page.cells[2].source).text
            and f"precision{precision}" in Seen(page.cells[-1].source).text
        )


def test_a_table_that_is_gone_is_not_offered(tmp_path):
    page = make_page(parameters={"out": str(tmp_path / "gone.parquet"), "rows_out": str(tmp_path)})
    strip.add(page, "index", tmp_path / "_static", "")
    assert Seen(page.cells[-1].source).links == {"notebook": "_sources/index.ipynb"}
    assert not (tmp_path / "_static").exists()


def test_html_in_a_parameter_is_inert(tmp_path):
    about = {
        "parameters": {"x": EVIL, EVIL: 1, "answers": {"a": EVIL}},
        "inputs": {EVIL: EVIL},
        "machine": EVIL,
        "versions": {"torch": EVIL},
    }
    page = make_page(**about)
    strip.add(page, "probe-a", tmp_path, "../")
    for cell in page.cells[2:]:
        assert Seen(cell.source).tags <= {
            "a",
            "br",
            "caption",
            "details",
            "div",
            "span",
            "summary",
            "table",
            "tbody",
            "td",
            "th",
            "tr",
        }
    section = page.cells[-1].source
    assert Seen(section).text.count("<script>window.hit = 1</script>") == 7
    assert section.count("\n") == 0


def test_a_long_parameter_is_cut(tmp_path):
    page = make_page(parameters={"tasks": ["x" * 50] * 100})
    strip.add(page, "probe-a", tmp_path, "../")
    assert "…" in page.cells[-1].source and len(page.cells[-1].source) < 3000
