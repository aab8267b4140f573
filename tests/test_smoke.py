"""The smoke grid from questions to book by the command that users give, in a fresh checkout without a network."""

import dataclasses
import html.parser
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote, urlsplit

import nbformat
import pandas as pd
import pytest
import vl_convert
import yaml
from test_book import bold, choose, expected, in_lines, shown

import browser
from whoknows.data import assets
from whoknows.evaluation import cells, plateau, scores
from whoknows.report.pages import heatmaps
from whoknows.run import cost, grid, parameters

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[1]
COPIED = (
    "Makefile",
    "Snakefile",
    "pyproject.toml",
    "constraints.txt",
    "_config.yml",
    "_toc.yml",
    "CITATION.cff",
    "book",
    "grids",
    "lib",
    "notebooks",
)
SMOKE = "grids/smoke.yml"


def make(folder: Path, target: str) -> subprocess.CompletedProcess:
    # Port 9 answers nobody: whatever asked for something on the network would fail.
    network = dict.fromkeys(("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"), "http://127.0.0.1:9")
    environment = {
        key: value for key, value in os.environ.items() if key not in ("MAKEFLAGS", "MAKELEVEL", "MFLAGS")
    } | network
    command = ["make", target, f"GRID={SMOKE}"]
    return subprocess.run(
        command, cwd=folder, env=environment | {"PYTHONPATH": str(folder / "lib")}, capture_output=True, text=True
    )


@pytest.fixture(scope="module")
def checkout(tmp_path_factory):
    """A copy of the checkout whose .venv is this very environment."""
    assets.fetch("questions")
    folder = tmp_path_factory.mktemp("checkout")
    for name in COPIED:  # notebooks/ has links to what need not be copied
        shutil.copytree(ROOT / name, folder / name, symlinks=True) if (ROOT / name).is_dir() else shutil.copy(
            ROOT / name, folder / name
        )
    # One of LoRA's controls is enough here; the published workflow runs the whole grid.
    text = (folder / SMOKE).read_text()
    every = "lora: [no_query, js_weight, left_out, all_models]"
    assert every in text
    (folder / SMOKE).write_text(text.replace(every, "lora: [all_models]"))
    (folder / ".venv").mkdir()
    for entry in Path(sys.prefix).iterdir():
        (folder / ".venv" / entry.name).symlink_to(entry)
    (folder / ".venv" / "ready").unlink(missing_ok=True)
    (folder / ".venv" / "ready").touch()
    return folder


@pytest.fixture(scope="module")
def made(checkout):
    """What the command printed."""
    done = make(checkout, "book")
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_it_ends_with_the_times_and_the_path_of_the_page(checkout, made):
    stages = {
        "Questions": 1,
        "Answers": 2,
        "Hidden states": 2,
        "Probe": 4,
        "LoRA + Prompt": 4,
        "Heatmaps": 1,
        "Cells": 8,
        "Sweep": 2,
        "Other questions": 1,
        "Results": 1,
        "The figure and its claims": 1,
        "Grading": 1,
        "Recompute": 1,
        "Surface controls": 1,
        "Probe controls": 2,
        "LoRA controls": 2,
        "Search": 2,
        "Settings": 1,
        "Baselines and ablations": 1,
    }
    for stage, count in stages.items():
        assert re.search(rf"^{re.escape(stage)} +{count} ", made, re.MULTILINE), made
    assert (
        Path(made.strip().splitlines()[-1].removeprefix("The book: "))
        == checkout / "results/smoke/book/_build/html/index.html"
    )


def test_stages_say_how_far_they_are_and_no_library_has_a_word(checkout, made):
    logs = sorted((checkout / "results/smoke/logs").glob("*.txt"))
    lines = [line for log in logs for line in log.read_text().splitlines()]
    assert len(lines) >= 2 * len(logs) > 0
    assert [line for line in lines if not re.search(r": (started|done in \d+ s|[\w ]+: +\d+%\|.*)$", line)] == []


def test_every_cell_has_rows_of_every_models_test_answers(checkout, made):
    chosen = grid.load(checkout / SMOKE)
    models = [model.name for model in chosen.models]
    rows = pd.concat(pd.read_parquet(path) for path in sorted((checkout / "results/smoke/rows").rglob("*.parquet")))
    test = rows[rows["split"] == "test"]
    asked = pd.read_parquet(checkout / "results/smoke/questions.parquet").query("split == 'test'")
    counts = test.groupby(["method", "reader", "trained_on", "scored"]).size()
    assert set(counts) == {len(asked)}
    cell = [
        (method, r, t, s)
        for method in ("probe", "probe_mlp", "lora_prompt")
        for r in models
        for t in models
        for s in models
    ]
    untrained = [("likelihood", "", "", s) for s in models] + [("zero_shot", r, "", s) for r in models for s in models]
    assert set(counts.index) == {*cell, *untrained}
    assert test["logit"].notna().all()


def test_chromium_shows_every_cells_value_in_both_heatmaps(checkout, made):
    chosen = grid.load(checkout / SMOKE)
    models, tasks = (
        [model.name for model in chosen.models],
        [{"name": task.name, "role": task.role} for task in chosen.tasks],
    )
    rows = plateau.mark(
        cells.read_rows(checkout / "results/smoke/rows", models, chosen.methods, chosen.seeds),
        checkout / "results/smoke/estimators",
    )
    measured = cells.measure(rows, scores.by_task(rows), tasks)
    table = heatmaps.with_labels(cells.heatmap_table(measured, models, tasks), len(models))
    with browser.open_book(checkout / "results/smoke/book/_build/html/index.html") as tab:
        tab.visit()
        for reading in "AB":
            choose(tab, "reading", reading)
            values = shown(tab)
            assert values == expected(table, reading)
            assert len(values) == 8 and all(re.match(r"[01]\.\d\d", value) for value in values)
            assert all(value.endswith(" ↗") for value in values[4:]), "one look at validation is no plateau"
        box = tab.read("document.querySelector('table.facts').innerText")
        assert "What it rests on" in box and "tiny-mistral, float32" in box and re.search(r"\d+ of \d+", box)
        assert tab.requests == [] and tab.errors == []


class _Page(html.parser.HTMLParser):
    """The links of a page, and the places in it that links may name."""

    def __init__(self, path: Path):
        super().__init__()
        self.links, self.ids = [], set()
        self.feed(path.read_text())

    def handle_starttag(self, tag, attrs):
        values = dict(attrs)
        self.ids |= {values[name] for name in ("id", "name") if values.get(name)}
        self.links += [values[name] for name in ("href", "src") if values.get(name)]


def links(book: Path) -> tuple[int, list[str]]:
    """How many links within a book there are, and those that lead nowhere."""
    pages = {path.resolve(): _Page(path) for path in book.glob("**/*.html") if "_static" not in path.parts}
    dead, within = [], 0
    for path, page in pages.items():
        for link in page.links:
            parts = urlsplit(link)
            if parts.scheme or link.startswith("//"):
                continue
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            within += 1
            if not target.exists() or (
                parts.fragment and target in pages and unquote(parts.fragment) not in pages[target].ids
            ):
                dead.append(f"{path.relative_to(book)}: {link}")
    return within, dead


def test_every_link_within_the_book_leads_somewhere(checkout, made):
    within, dead = links(checkout / "results/smoke/book/_build/html")
    assert within > 1000 and not dead, "\n".join(dead[:20])


def test_every_chart_is_drawn_and_has_words_a_table_and_a_strip(checkout, made):
    book = checkout / "results/smoke/book/_build/html"
    charted = [
        path
        for path in sorted(book.glob("**/*.html"))
        if "vegaEmbed(" in path.read_text() and "_static" not in path.parts
    ]
    assert len(charted) > 20
    with browser.open_book(book / "index.html") as tab:
        for path in charted:
            tab.visit(str(path.relative_to(book)))
            charts = tab.read("""[...document.querySelectorAll('[id^=altair-viz]')].map(chart => {
                const follows = (what) => [...document.querySelectorAll(what)].some(one =>
                chart.compareDocumentPosition(one) & Node.DOCUMENT_POSITION_FOLLOWING);
                return [chart.querySelector('[role=graphics-document]').ariaLabel, follows('article table'),
                follows('.strip'), chart.querySelectorAll('svg.marks path, svg.marks text').length];
            })""")
            for words, table, strip, marks in charts:
                assert words and len(words) > 20 and table and strip and marks > 5, (
                    path.name,
                    words,
                    table,
                    strip,
                    marks,
                )
        assert tab.requests == [] and tab.errors == []


def specs(notebooks: Path) -> list[dict]:
    """All charts of a run's pages, as Vega-Lite."""
    charts = []
    for path in notebooks.glob("*.ipynb"):
        shown = [
            output.get("data", {}).get("text/html", "")
            for cell in nbformat.read(path, as_version=4).cells
            for output in cell.get("outputs", [])
        ]
        charts += [json.JSONDecoder().raw_decode(html.split("})(", 1)[1])[0] for html in shown if "vegaEmbed" in html]
    assert len(charts) > 20
    return charts


def test_every_chart_is_one_that_jupyterlab_draws_by_itself(checkout, made):
    for spec in specs(checkout / "results/smoke/notebooks"):
        assert vl_convert.vegalite_to_vega(spec, vl_version="5.20")["marks"]


def named(part, key: str = "") -> Iterator[str]:
    """The titles of a compiled chart's axes, legends, switches and tooltip lines, also those for screen readers."""
    if isinstance(part, list):
        for one in part:
            yield from named(one, key)
    elif isinstance(part, dict):
        text = str(part.get("expr", part.get("signal", "")))
        if part.get("as") == "tip" or key == "tooltip":
            yield from re.findall(r'"([^"]+)": ', text)
        if part.get("as") == "heard" or key == "description":
            yield from re.findall(r'"(?:[;,] )?([^":;\]]+): "', text)
        if "bind" in part:
            yield part["bind"]["name"]
        for name, value in part.items():
            yield from named(value, name)
    elif key == "title" and isinstance(part, str):
        yield part


def test_no_chart_calls_anything_by_the_name_of_a_column(checkout, made):
    titles = {
        name
        for spec in specs(checkout / "results/smoke/notebooks")
        for name in named(vl_convert.vegalite_to_vega(spec))
    }
    assert {
        "AUROC on validation",
        "Interval from",
        "95 % interval",
        "Difference of AUROC",
        "L2 strength",
        "Reading: ",
        "Verdict",
    } <= titles
    assert [
        name for name in titles if "_" in name or name[0].islower() and name != "p" and not name.startswith("p (Holm)")
    ] == []


def test_a_press_on_a_cell_opens_its_page_with_its_model_chosen(checkout, made):
    with browser.open_book(checkout / "results/smoke/book/_build/html/index.html") as tab:
        tab.visit()
        tab.read("document.querySelector('.chart').scrollIntoView()")
        # the second cell of the first heatmap: reading A puts the models on both axes
        _, x, y = in_lines(bold(tab))[1]
        for kind in ("mouseMoved", "mousePressed", "mouseReleased"):
            tab.call("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", clickCount=1)
        tab.wait("location.href.includes('/run/cell-') && document.readyState === 'complete'")
        assert tab.read("location.href").endswith("/run/cell-probe_tiny-mistral_tiny-mistral.html?scored=tiny-llama")
        tab.visit("run/cell-probe_tiny-llama_tiny-llama.html?scored=tiny-mistral")
        assert (
            tab.read("document.querySelector('.chart [name=scored]:checked, .chart select[name=scored]').value")
            == "tiny-mistral"
        )
        title = next(text for text in tab.texts() if text.startswith("tiny-llama trained on tiny-llama,"))
        assert "ROC" in tab.texts() and "scored on tiny-mistral ·" in title


def test_the_switches_redraw_the_heatmap_from_what_was_measured(checkout, made):
    table = pd.concat(pd.read_parquet(path) for path in (checkout / "results/smoke/sweeps").iterdir())
    assert set(table["position"]) == {"question", "first", "mean", "last", "query"}, "its adapters are on upper blocks"
    table = table[table["position"] == "last"]
    strongest, most = table["strength"].max(), table["size"].max()
    with browser.open_book(checkout / "results/smoke/book/_build/html/index.html") as tab:
        tab.visit("run/controls.html")
        (at,) = tab.read(
            "[...document.querySelectorAll('.chart')].flatMap((c, at) => c.querySelector('[name=depth]') ? [at] : [])"
        )
        choose(tab, "strength", f"{strongest:g}")
        for depth in (0, 1):
            choose(tab, "depth", str(depth))
            cells = table[
                (table["layer"] == depth * table["last_layer"])
                & (table["strength"] == strongest)
                & (table["size"] == most)
            ]
            native = cells[cells["reader"] == cells["trained_on"]].sort_values(["scored", "trained_on"])
            assert [text for text, _, _ in in_lines(bold(tab, at))] == [f"{value:.2f}" for value in native["auroc"]]


def test_the_cost_has_the_counts_of_the_run_and_the_bytes_of_its_hidden_states(checkout, made):
    chosen = grid.load(checkout / SMOKE)
    measured = cost.measured(chosen, checkout / "results")
    assert {stage: one.notebooks for stage, one in measured.items()} == {
        stage: one.jobs for stage, one in cost.work(chosen).items()
    }
    assert all(one.seconds > 0 for one in measured.values())
    files = [
        path
        for path in (checkout / "results/smoke/features").rglob("*.safetensors")
        if path.name != "trunk.safetensors" and not path.stem.endswith("_query")  # neither is there without adapters
    ]
    untrained = cost.work(dataclasses.replace(chosen, methods=("probe",)))["extract"]
    assert sum(path.stat().st_size for path in files) == pytest.approx(
        untrained.bytes - untrained.jobs * cost.PAGE_BYTES, rel=0.01
    )
    # their tokenizers make twice as many tokens of a text as others, which the rest of these bytes are for
    assert (
        1 < measured["extract"].bytes < 2.5
        and 0.2 < measured["lora_prompt"].bytes < 5
        and 0.2 < measured["answer"].bytes < 5
    )


def test_a_second_run_has_nothing_to_do(checkout, made):
    done = make(checkout, "plan")
    assert done.returncode == 0 and done.stdout.strip().endswith("0 stages to run."), done.stdout + done.stderr


@pytest.mark.parametrize(
    "command",
    [
        block
        for block in re.findall(r"(?ms)^```sh\n(.+?)^```", (ROOT / "README.md").read_text())
        if "notebooks/probe.py" in block
    ],
)
def test_one_notebook_runs_alone_as_the_readme_says(checkout, made, command):
    # the grid that was run here is another one, with smaller models, so it gives what the notebook's defaults cannot
    # know
    values = json.loads(parameters.probe(grid.load(checkout / SMOKE), "tiny-llama", "tiny-mistral", "0"))
    known = {name: value for name, value in values.items() if name not in ("layers", "out", "rows_out")}
    (checkout / "own.yml").write_text(yaml.safe_dump(known))
    assert command.count("12, 18") == 1
    command = (
        command.replace("12, 18", "1, 2")
        .replace("'{\"", "'" + json.dumps(known)[:-1] + ', "')
        .replace("-y '", "-f own.yml -y '")
    )
    done = subprocess.run(["bash", "-c", command], cwd=checkout, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    (card,), (rows,) = (list((checkout / "results/by-hand").rglob(name)) for name in ("probe.json", "seed0.parquet"))
    assert json.loads(card.read_text())["chosen"]["layer"] in (1, 2)
    assert set(pd.read_parquet(rows)["trained_on"]) == {"tiny-mistral"}
    shutil.rmtree(checkout / "results/by-hand")


def test_a_packed_run_is_shown_beside_with_the_same_values(checkout, made, tmp_path):
    packed = subprocess.run(
        [sys.executable, "-m", "whoknows", "pack", SMOKE, "book/data/smoke"],
        cwd=checkout,
        capture_output=True,
        text=True,
    )
    assert packed.returncode == 0 and packed.stdout.startswith("book/data/smoke: "), packed.stdout + packed.stderr
    theirs = shutil.move(checkout / "book/data/smoke", tmp_path / "theirs")  # as if somebody else had sent it
    text = (checkout / SMOKE).read_text()
    (theirs / "grid.yml").write_text(text.replace("name: smoke", "name: theirs"))
    (checkout / SMOKE).write_text(text.replace("beside: null", f"beside: {theirs}"))
    try:
        done = make(checkout, "book")
    finally:
        (checkout / SMOKE).write_text(text)
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(r"^Reference run +9 ", done.stdout, re.MULTILINE), done.stdout
    started = [line for line in (done.stdout + done.stderr).splitlines() if line.endswith(": started")]
    assert len(started) == 9 and all(line.endswith(" run theirs: started") for line in started), started
    book = checkout / "results/smoke/book/_build/html"
    assert links(book)[1] == []
    assert 'href="beside-controls.html"' in (book / "run/beside-heatmaps.html").read_text()
    assert 'href="beside-shift.html"' in (book / "run/claims.html").read_text()
    assert 'href="settings.html"' in (book / "run/controls.html").read_text()
    with browser.open_book(book / "index.html") as tab:
        tab.visit()
        text = shown(tab)
        tab.visit("run/beside-heatmaps.html")
        assert shown(tab) == text and "a run of the grid theirs" in tab.read("document.body.innerText")
        assert tab.requests == [] and tab.errors == []
