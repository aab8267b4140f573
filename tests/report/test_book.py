"""The book: built from made-up results, and read in a browser that has no network."""

import os
import re
from pathlib import Path

import nbformat
import numpy as np
import pandas as pd
import pytest
import yaml
from altair.vegalite.v6 import display
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

import browser
import made_up
from whoknows import __main__
from whoknows.data import files
from whoknows.evaluation import cells, scores
from whoknows.report import book, chapters, citation, history, strip
from whoknows.report.pages import heatmaps
from whoknows.report.slim import ICON
from whoknows.run import grid, stages

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
MODELS = ["Alpha-1.5B", "Beta-7B"]
TASKS = [
    {"name": "trivia_qa", "size": 60, "role": "train"},
    {"name": "sciq", "size": 50, "role": "train"},
    {"name": "nq_open", "size": 140, "role": "shift"},
]
FAILED = "lora_prompt-Alpha-1.5B_Beta-7B_seed0"
CHANGED = "probe-Beta-7B_Alpha-1.5B_seed0"
WHY = "none of the training answers is right"
PYTHON = {"language_info": {"name": "python", "pygments_lexer": "ipython3"}}
EVIL = (
    "<script>window.hit = 1</script><img src=x onerror='window.hit = 2'> "
    "**bold** $x^2$ [l](javascript:alert(1)) \x1b[31mred"
)


def write_rows(folder: Path, models: list[str], without: str = "") -> None:
    """Rows of all methods over all models; the value of a cell depends on its place, so that swapped axes show."""
    rng = np.random.default_rng(0)
    sizes = {task["name"]: task["size"] for task in TASKS}
    correct = {(model, task): rng.random(n) < 0.3 for model in models for task, n in sizes.items()}

    def rows(method, reader, trained_on, quality):
        for at, (scored, (task, n)) in enumerate((scored, item) for scored in models for item in sizes.items()):
            right = correct[scored, task]
            logit = np.float32(quality * (1 + 0.1 * at) * right + rng.normal(size=n))
            names = {"method": method, "reader": reader, "trained_on": trained_on, "scored": scored, "task": task}
            ids = [f"{task}-{i}" for i in range(n)]
            yield pd.DataFrame(
                {"question_id": ids, "logit": logit, "correct": right, "split": "test", "seed": 0, **names}
            )

    for k, reader in enumerate(models):
        plain = pd.concat([*rows("likelihood", "", "", 1.0), *rows("zero_shot", reader, "", 0.1)])
        plain = pd.concat([plain, plain.assign(split="validation", question_id="held-" + plain["question_id"])])
        for method, some in plain.groupby("method"):
            own = some[(some["scored"] == reader) | (method == "zero_shot")]
            files.write_parquet(folder / f"{method}/{reader}.parquet", own)
        for j, trained_on in enumerate(models):
            for method in ("probe", "lora_prompt"):
                if f"{method}-{reader}_{trained_on}_seed0" != without:
                    parts = [*rows(method, reader, trained_on, 0.4 + 0.3 * k + 0.5 * j)]
                    parts += rows("probe_mlp", reader, trained_on, 0.3) if method == "probe" else []
                    files.write_parquet(folder / f"{method}/{reader}/{trained_on}/seed0.parquet", pd.concat(parts))


def write_page(folder: Path, name: str, title: str, values: dict, outputs: list) -> None:
    """An executed notebook as `whoknows.run` leaves it."""
    code = new_code_cell("1", outputs=outputs)
    about = {
        "stage": name.split("-")[0],
        "parameters": values,
        "seconds": 61.0,
        "machine": "a machine",
        "commit": "abc",
        "versions": {"torch": "9.9"},
    }
    notebook = new_notebook(cells=[new_markdown_cell(f"# {title}"), code], metadata={"whoknows": about, **PYTHON})
    files.write_text(folder / f"{name}.ipynb", nbformat.writes(notebook))


def write_failed_page(folder: Path, name: str, values: dict) -> None:
    """A notebook as papermill leaves it when a cell fails."""
    error = new_output("error", ename="WhoknowsError", evalue=WHY, traceback=[f"\x1b[31mWhoknowsError\x1b[0m: {WHY}"])
    code = new_code_cell("1", outputs=[error])
    about = {"papermill": {"parameters": values}, **PYTHON}
    notebook = new_notebook(cells=[new_markdown_cell("# LoRA + Prompt"), code], metadata=about)
    files.write_text(folder / f"{name}.failed.ipynb", nbformat.writes(notebook))


def write_results(folder: Path) -> Path:
    """A grid of two models, one of whose stages failed, and all that its stages would have left; the grid's file."""
    chosen = yaml.safe_load((ROOT / "grids" / "smoke.yml").read_text())
    chosen["models"] = [{"name": name, "source": "tiny-llama"} for name in MODELS]
    chosen["tasks"] = TASKS
    files.write_text(folder / "two.yml", yaml.safe_dump(chosen))
    write_rows(folder / "rows", MODELS, without=FAILED)
    pages = folder / "notebooks"
    table = pd.DataFrame({"answer": [EVIL], "gold": ["a b"]}).to_html()
    outputs = [
        new_output("stream", name="stdout", text=EVIL),
        new_output("display_data", {"text/html": table, "text/plain": EVIL}),
    ]
    files.write_parquet(folder / "questions.parquet", pd.DataFrame({"question": [EVIL]}))
    write_page(
        pages, "questions", "Questions", {"out": str(folder / "questions.parquet"), "notes": [EVIL], EVIL: 1}, outputs
    )
    ids = [f"{task['name']}-{at}" for task in TASKS for at in range(task["size"])]
    asked = pd.DataFrame({"question_id": ids, "question": EVIL, "answer": EVIL})
    asked["split"] = [("train", "validation", "test")[at % 3] for at in range(len(ids))]
    for model in MODELS:
        files.write_parquet(folder / "answers" / f"{model}.parquet", asked.assign(gold=[[EVIL]] * len(ids)))
    write_page(pages, "answer-Gone-1B", "Answers · Gone-1B", {"model": "Gone-1B"}, [])
    for reader in MODELS:
        write_page(pages, f"answer-{reader}", f"Answers · {reader}", {"model": reader}, outputs)
        write_page(pages, f"extract-{reader}", f"Hidden states · {reader}", {"reader": reader}, [])
        for trained_on in MODELS:
            values = {"reader": reader, "trained_on": trained_on, "seed": 0}
            for method in ("probe", "lora_prompt"):
                name = f"{method}-{reader}_{trained_on}_seed0"
                write_page(pages, name, f"{stages.STAGES[method]} · {reader} trained on {trained_on}", values, [])
                if name != FAILED:
                    write_page(
                        pages,
                        f"cell-{method}_{reader}_{trained_on}",
                        f"Cell · {reader} trained on {trained_on}",
                        values | {"method": method},
                        [],
                    )
    rows = "rows/probe/Beta-7B/Alpha-1.5B/seed0.parquet"
    record = nbformat.read(pages / f"{CHANGED}.ipynb", as_version=4)
    record.metadata["whoknows"]["outputs"] = {
        f"results/smoke/{rows}": "0123456789abcdef"
    }  # of what the stage wrote, and somebody wrote over
    files.write_text(pages / f"{CHANGED}.ipynb", nbformat.writes(record))
    os.utime(folder / rows)
    write_failed_page(pages, FAILED, {"reader": MODELS[0], "trained_on": MODELS[1], "seed": 0})
    line = {
        "ours_per_second": 12.34,
        "plain_per_second": 2.0,
        "ratio": 6.17,
        "share_of_matmul_rate": 0.456,
        "unit": "questions",
    }
    files.write_parquet(
        folder / "bench.parquet",
        pd.DataFrame([line | {"model": MODELS[0], "stage": "answer", "device": "a machine", "precision": "float32"}]),
    )
    return folder / "two.yml"


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    folder = tmp_path_factory.mktemp("results")
    return folder, book.build(write_results(folder), folder)


@pytest.fixture(scope="module")
def opened(built):
    with browser.open_book(built[1]) as tab:
        yield tab


@pytest.fixture
def table(built):
    rows = cells.read_rows(built[0] / "rows", MODELS, ["probe", "lora_prompt"], [0])
    measured = cells.measure(rows, scores.by_task(rows), TASKS)
    return heatmaps.with_labels(cells.heatmap_table(measured, MODELS, TASKS), len(MODELS))


def expected(
    table, reading: str, test_set: str = "in-distribution", probe: str = "probe", metric: str = "auroc"
) -> list[str]:
    """The values of the first heatmap, then of the second; each from left to right and from top to bottom."""
    those = table[(table["reading"] == reading) & (table["test_set"] == test_set)].sort_values(["model", "trained_on"])
    values = [
        line
        for method in (probe, "lora_prompt")
        for line in those.loc[those["method"] == method, [metric, "mark"]].itertuples(index=False)
    ]
    return ["—" if np.isnan(value) else f"{value:.2f}{mark}" for value, mark in values]


def shown(opened, chart: int = 0) -> list[str]:
    """The values that stand in the cells of a chart, in the order of `expected`."""
    return [text for panel in (0, 1) for text, _, _ in in_lines(bold(opened, chart, f".concat_{panel}_group"))]


def bold(opened, chart: int = 0, panel: str = "") -> list[tuple[str, float, float]]:
    """A heatmap's values and where the middle of each stands; its bold marks, which what the colour bars say is not."""
    return opened.read(f"""
        [...document.querySelectorAll('svg.marks')[{chart}].querySelectorAll('{panel} .mark-text.role-mark text')]
        .filter(text => text.getAttribute('font-weight') === 'bold')
        .map(text => [text.textContent, text.getBoundingClientRect()])
        .map(([text, box]) => [text, box.x + box.width / 2, box.y + box.height / 2])""")


def in_lines(values: list[tuple[str, float, float]]) -> list[tuple[str, float, float]]:
    """Values from left to right and from top to bottom."""
    return sorted(values, key=lambda value: (round(value[2] / 20), value[1]))


def choose(opened, name: str, value: str) -> None:
    opened.read(f"""(() => {{
        const input = document.querySelector('.chart [name={name}][value="{value}"], .chart select[name={name}]');
        if (input.type === 'radio') {{ input.click(); return; }}
        input.value = '{value}';
        input.dispatchEvent(new Event('input'));
        input.dispatchEvent(new Event('change'));
    }})()""")


def test_both_heatmaps_show_the_measured_values_in_both_readings(opened, table):
    opened.visit()
    assert shown(opened) == expected(table, "A")
    choose(opened, "reading", "B")
    assert shown(opened) == expected(table, "B")
    assert expected(table, "A") != expected(table, "B")
    assert "—" in expected(table, "B"), "the failed stage has no value"


def test_the_other_switches_show_their_values(opened, table):
    opened.visit()
    choose(opened, "test_set", "shift")
    assert shown(opened) == expected(table, "A", "shift")
    choose(opened, "pair", "probe_mlp lora_prompt")
    assert shown(opened) == expected(table, "A", "shift", "probe_mlp")
    choose(opened, "pair", "probe lora_prompt")
    choose(opened, "metric", "brier")
    assert shown(opened) == expected(table, "A", "shift", metric="brier")


def test_colour_bars_stay_where_the_address_changes(opened):
    opened.visit()
    fills = "[...document.querySelectorAll('svg.marks [fill^=\"url\"]')].map(e => e.getAttribute('fill'))"
    for name, value in (("reading", "B"), ("pair", "probe_mlp lora_prompt"), ("test_set", "shift")):
        choose(opened, name, value)
        places = ("url(#", f"url({opened.read('location.href')}#")
        assert opened.read(fills) and all(fill.startswith(places) for fill in opened.read(fills)), (name, value)


def test_a_change_of_theme_keeps_the_switches(opened, table):
    opened.visit()
    choose(opened, "reading", "B")
    text = "document.querySelector('svg.marks .role-title-text text, svg.marks .role-axis-label text')"
    ink = f"getComputedStyle({text}).fill"
    light = opened.read(ink)
    opened.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": "dark"}])
    opened.wait(f"{ink} !== '{light}'")
    assert shown(opened) == expected(table, "B")


def test_all_cells_of_every_reading_are_within_the_picture(opened):
    within = """[...document.querySelectorAll('svg.marks')].every(drawn => {
        const chart = drawn.getBoundingClientRect();
        const inside = box => box.left >= chart.left - 1 && box.right <= chart.right + 1
            && box.top >= chart.top - 1 && box.bottom <= chart.bottom + 1;
        return [...drawn.querySelectorAll('text')].map(text => text.getBoundingClientRect()).every(inside);
    })"""
    opened.visit()
    for reading, count in (("all", 20), ("A", 10)):
        choose(opened, "reading", reading)
        opened.wait(within)
        assert len(bold(opened)) == count


def test_the_address_has_what_is_chosen_and_brings_it_back(opened, table):
    opened.visit()
    choose(opened, "reading", "B")
    choose(opened, "test_set", "shift")
    opened.wait("location.search === '?reading=B&test_set=shift'")
    opened.visit("index.html?reading=B&test_set=shift&metric=brier&pair=nonsense")
    assert shown(opened) == expected(table, "B", "shift", metric="brier")
    choose(opened, "metric", "auroc")
    choose(opened, "reading", "A")
    opened.wait("location.search === '?test_set=shift&pair=nonsense'")


def test_a_cell_is_reached_and_pressed_by_keyboard(opened):
    opened.call("Emulation.setFocusEmulationEnabled", enabled=True)
    opened.visit()

    def press(key):
        return [
            opened.call(
                "Input.dispatchKeyEvent",
                type=kind,
                key=key,
                code=key,
                windowsVirtualKeyCode={"Tab": 9, "Enter": 13}.get(key, 0),
            )
            for kind in ("rawKeyDown", "keyUp")
        ]

    opened.read("[...document.querySelectorAll('.chart .vega-bindings :is(input:checked, select)')].at(-1).focus()")
    press("Tab")
    label = "document.activeElement.getAttribute('aria-label')"
    first = opened.read(label)
    assert (
        first.startswith("Probe, AUROC")
        and opened.read("document.querySelector('#vg-tooltip-element h2').textContent") in first
    )
    for key, start in (("ArrowRight", "Probe"), ("ArrowRight", "LoRA"), ("ArrowLeft", "Probe"), ("ArrowLeft", "Probe")):
        press(key)
        assert opened.read(label).startswith(start)
    assert opened.read(label) == first
    press("Enter")
    opened.wait("location.href.includes('/run/cell-probe_')")


def test_a_screen_reader_hears_what_every_control_is_called(opened):
    found, of = set(), {"radiogroup", "radio", "combobox", "slider", "checkbox", "button", "DisclosureTriangle"}
    for page in ("index.html", "run/differences.html", "run/cell-probe_Alpha-1.5B_Alpha-1.5B.html"):
        opened.visit(page)
        nodes = opened.call("Accessibility.getFullAXTree")["nodes"]
        roles = [(node["role"]["value"], node["name"]["value"]) for node in nodes if not node["ignored"]]
        assert not [role for role, name in roles if role in of and not name.strip()], page
        found |= {*roles}
    assert {("radiogroup", "Reading"), ("DisclosureTriangle", "Save this chart")} <= found


def test_a_number_in_the_text_marks_its_cell_by_mouse_and_by_keyboard(opened):
    marked = "[...document.querySelectorAll('svg.marks path.marked')].map((cell) => cell.ariaLabel)"
    opened.call("Emulation.setFocusEmulationEnabled", enabled=True)
    opened.visit()
    links = opened.read(
        "[...document.querySelectorAll('.cell_output li a[href*=\"run/cell-\"]')].map((link) => link.textContent)"
    )
    assert len(links) > 1 and opened.read(marked) == []
    link = "document.querySelectorAll('.cell_output li a[href*=\"run/cell-\"]')[{}]"
    point = link + ".dispatchEvent(new PointerEvent('pointer{}', {{bubbles: true}}))"
    for start, end in ((link + ".focus()", link + ".blur()"), (point, point)):
        for at, text in enumerate(links):
            opened.read(start.format(at, "over"))
            (label,) = opened.read(marked)
            value = float(re.search(r"AUROC (0\.\d+)", label)[1])
            assert abs(value - float(text)) < 0.006 and label.startswith("Probe" if at < 2 else "LoRA"), (text, label)
            opened.read(end.format(at, "out"))
            assert opened.read(marked) == []


def test_a_tooltip_is_short_and_leaves_its_cell_in_sight(opened):
    opened.visit()
    opened.read("document.querySelector('.chart').scrollIntoView({block: 'center'})")
    _, x, y = bold(opened)[0]
    opened.call("Input.dispatchMouseEvent", type="mouseMoved", x=x, y=y)
    opened.wait("document.querySelector('#vg-tooltip-element.visible') !== null")
    box = opened.read(
        "(box => [box.left, box.top, box.right, box.bottom])"
        "(document.querySelector('#vg-tooltip-element').getBoundingClientRect())"
    )
    assert not (box[0] <= x <= box[2] and box[1] <= y <= box[3])
    rows = opened.read(
        "[...document.querySelectorAll('#vg-tooltip-element tr')]"
        ".map(row => [...row.cells].map(cell => cell.textContent.trim()))"
    )
    assert 3 < len(rows) < 9 and all(value for row in rows for value in row)


def test_the_menu_that_saves_a_chart_is_within_reach_of_the_mouse(opened):
    for page in ("", "run/claims.html"):
        opened.visit(page)
        opened.read("document.querySelector('.vega-embed summary').scrollIntoView({block: 'center'})")
        x, y = opened.read(
            "(box => [box.x + box.width / 2, box.y + box.height / 2])"
            "(document.querySelector('.vega-embed summary').getBoundingClientRect())"
        )
        for kind in ("mouseMoved", "mousePressed", "mouseReleased"):
            opened.call("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", clickCount=1)
        links = opened.read("""
            [...document.querySelector('.vega-actions').children].map(link => [link.textContent,
            (box => document.elementFromPoint(box.x + box.width / 2, box.y + box.height / 2) === link)
            (link.getBoundingClientRect())])""")
        assert links == [["Save as SVG", True], ["Save as PNG", True], ["Save as Vega-Lite", True]]


INKS = (
    "[...new Set([...document.querySelectorAll('svg.marks .role-axis-label text, svg.marks .role-title-text text')]"
    ".map(text => getComputedStyle(text).fill))]"
)


def test_in_the_dark_the_ink_of_a_chart_is_light_and_its_hues_are_the_same(opened):
    seen = {}
    for dark in (False, True):
        opened.visit("run/controls.html", dark=dark)
        seen[dark] = (
            opened.read(INKS),
            opened.read(
                "[...document.querySelectorAll('svg.marks .mark-symbol path')].map(mark => getComputedStyle(mark).fill)"
            ),
        )
    assert (seen[False][0], seen[True][0]) == (["rgb(34, 40, 50)"], ["rgb(206, 214, 221)"])
    assert seen[False][1] == seen[True][1] and len(seen[True][1]) > 4


def test_what_is_printed_in_the_dark_is_dark_on_light_and_whole(opened):
    for page in ("", "run/controls.html"):
        opened.visit(page, dark=True)
        opened.read(
            "document.querySelector('.cell_output').insertAdjacentHTML("
            "'beforeend', '<details open><p id=kept>as where it was most wrong</p></details>')"
        )
        opened.read("window.dispatchEvent(new Event('beforeprint'))")
        opened.call(
            "Emulation.setEmulatedMedia", media="print", features=[{"name": "prefers-color-scheme", "value": "dark"}]
        )
        opened.call("Emulation.setDeviceMetricsOverride", width=680, height=1000, deviceScaleFactor=1, mobile=False)
        assert opened.read("getComputedStyle(document.querySelector('.bd-article p')).color") == "rgb(34, 40, 50)"
        assert opened.read(INKS) == ["rgb(34, 40, 50)"]
        assert opened.read("document.querySelector('#kept').getBoundingClientRect().height") > 0
        assert (
            opened.read(
                "[...document.querySelectorAll('article table')]"
                ".filter(table => table.getBoundingClientRect().right > innerWidth).length"
            )
            == 0
        )
        opened.read("window.dispatchEvent(new Event('afterprint'))")
        assert opened.read("document.documentElement.dataset.theme") == "dark"
        opened.call("Emulation.setEmulatedMedia", media="")


def test_a_missing_cell_says_why(opened):
    opened.visit()
    choose(opened, "reading", "B")
    labels = opened.read(
        "[...document.querySelectorAll('svg.marks')[0].querySelectorAll('[aria-label]')].map(m => m.ariaLabel)"
    )
    assert any("no rows: nothing can be learned" in label for label in labels)
    assert FAILED in opened.read("document.querySelector('.admonition.warning a').href")


def test_a_page_whose_files_somebody_changed_says_so_and_no_other_page_does(opened, built):
    opened.visit(f"run/{CHANGED}.html")
    boxes = opened.read("[...document.querySelectorAll('.admonition')].map(box => box.innerText)")
    assert (
        len(boxes) == 1
        and boxes[0].startswith("Changed files")
        and "probe/Beta-7B/Alpha-1.5B/seed0.parquet was changed after its stage wrote it" in boxes[0]
    )
    assert [
        path.stem for path in built[1].parent.glob("**/*.html") if "was changed after its stage" in path.read_text()
    ] == [CHANGED]


def test_every_chart_has_a_description_and_a_table(opened, table):
    opened.visit()
    labels = opened.read("[...document.querySelectorAll('.chart [role=graphics-document]')].map(c => c.ariaLabel)")
    heatmaps, gains = labels
    assert heatmaps.startswith("Heatmaps of AUROC") and re.match(r"AUROC of cells, \d+ in all, less that of", gains)
    folded = "[...document.querySelectorAll('details > summary')].map(summary => summary.textContent)"
    assert any(title.startswith("Differences from the training-free baseline") for title in opened.read(folded))
    beneath = opened.read("document.querySelector('details:has(table.dataframe)').textContent")
    assert all(value in beneath for value in set(expected(table, "A") + expected(table, "B")))


@pytest.mark.parametrize("width", [390, 1280])
@pytest.mark.parametrize("dark", [False, True])
def test_every_page_at_every_width_and_in_every_theme(opened, width, dark):
    pages = sorted(str(path.relative_to(opened.folder)) for path in opened.folder.glob("**/*.html"))
    assert len(pages) > 15
    for page in pages:
        if not page.startswith(("genindex", "search", "_static")):
            opened.visit(page, width, dark)
            assert opened.overflow() <= 0, f"{page} scrolls sideways at {width} px"
            assert opened.read("document.documentElement.dataset.theme") == ("dark" if dark else "light")
    assert opened.requests == [] and opened.errors == []


def test_the_heatmaps_stand_side_by_side_or_one_above_the_other(opened):
    titles = "[...document.querySelectorAll('svg.marks')[0].querySelectorAll('.role-scope .role-title-text')]"
    places = f"{titles}.map(title => title.getBoundingClientRect()).map(box => [box.x, box.y])"
    opened.visit(width=1280)
    lefts, tops = zip(*opened.read(places)[-3:])
    assert lefts[0] < lefts[1] < lefts[2] and max(tops) - min(tops) < 5
    opened.visit(width=390)
    _, tops = zip(*opened.read(places)[-3:])
    assert tops[0] < tops[1] < tops[2]


def test_a_phone_shows_charts_whole(opened):
    for page in ("claims", "differences", "controls", "shift"):
        opened.visit(f"run/{page}.html", width=390)
        assert not [
            text
            for chart in range(opened.read("document.querySelectorAll('svg.marks').length"))
            for text in opened.texts(chart)
            if "…" in text
        ]
        beyond = "[...document.querySelectorAll('.chart')].map(chart => chart.scrollWidth - chart.clientWidth)"
        assert max(opened.read(beyond)) <= 0, f"a chart of {page} is cut on the right"
        at = 1 if page == "claims" else 0  # whose first chart are heatmaps, with bars of colours
        labels = f"[...document.querySelectorAll('.chart')[{at}].querySelectorAll('.role-legend-label text')]"
        lefts = f"{labels}.map(text => text.getBoundingClientRect().left)"
        edges = opened.read(lefts)
        assert not edges or max(edges) - min(edges) < 5, (
            f"the legend of {page} has more columns than a phone has room for"
        )
    opened.visit(width=390)
    assert opened.read("(table => table.scrollWidth - table.clientWidth)(document.querySelector('table.facts'))") <= 0


def test_graded_answers_are_chosen_by_model_and_grade(opened):
    shown = (
        "[...document.querySelectorAll('table.examples tbody tr')].filter(row => row.getClientRects().length)"
        ".map(row => [row.dataset.scored, row.dataset.grade])"
    )

    def pick(at, value):
        opened.read(f"""(() => {{
            const list = document.querySelectorAll('.switches select')[{at}];
            list.value = '{value}';
            list.dispatchEvent(new Event('change'));
        }})()""")

    opened.visit()
    first = [[MODELS[0], grade] for grade in ("right", "wrong")] * 5
    assert sorted(opened.read(shown)) == sorted(first), "at first ten answers of the first model"
    pick(1, "wrong")
    assert opened.read(shown) == [[MODELS[0], "wrong"]] * 5
    pick(0, "all")
    assert sorted(opened.read(shown)) == [[model, "wrong"] for model in MODELS for _ in range(5)]
    assert opened.read("document.querySelector('.switches output').textContent") == "10 of 20 answers"
    assert opened.read("document.querySelectorAll('table.examples :is(script, img, strong)').length") == 0
    assert opened.read("window.hit") is None and EVIL[:30] in opened.read(
        "document.querySelector('table.examples').textContent"
    )
    opened.visit(width=390)
    assert opened.read("(one => one.scrollWidth - one.clientWidth)(document.querySelector('table.examples'))") <= 0
    opened.call("Emulation.setEmulatedMedia", media="print")
    assert len(opened.read(shown)) == 20, "on paper nothing can be chosen"
    opened.call("Emulation.setEmulatedMedia", media="")


def test_the_first_page_says_who_made_it_and_what_a_link_shows(opened, built):
    opened.visit()
    line = opened.read("document.querySelector('.byline').innerText")
    assert line.startswith("The whoknows authors · version 0.1.0 · ") and "How to cite" in line
    answer = opened.read("document.querySelector('p.answer').textContent")
    names = ("meta[name=description]", "meta[property='og:description']", "meta[property='og:title']")
    seen = [opened.read(f'document.querySelector("{name}").content') for name in names]
    assert seen == [answer, answer, "Can a language model tell when an answer is wrong, its own or another model's?"]
    image = opened.read("document.querySelector('meta[property=\"og:image\"]').content")
    assert (built[1].parent / image).is_file()
    order = (
        "[...document.querySelectorAll('svg.marks, p.figure-caption, .strip')].map(one => one.getAttribute('class'))"
    )
    assert opened.read(order)[:3] == ["marks", "figure-caption", "strip"], (
        "what it was made from stands beneath the caption"
    )


def test_an_answer_is_shown_and_never_run(opened):
    opened.visit(f"run/answer-{MODELS[0]}.html")
    assert (
        opened.read("document.querySelector('.bd-article').textContent").count("<script>window.hit = 1</script>") == 2
    )
    assert opened.read("window.hit") is None
    assert opened.read("document.querySelectorAll('.cell_output img, .cell_output a, .cell_output strong').length") == 0


def test_a_parameter_is_shown_and_never_run(opened):
    opened.visit("run/questions.html")
    assert (
        opened.read("document.querySelector('details.made').textContent").count("<script>window.hit = 1</script>") == 2
    )
    assert opened.read("window.hit") is None
    assert opened.read("document.querySelectorAll('details.made table :is(img, a, strong)').length") == 0


def test_what_the_strips_offer_is_there(built):
    offered = 0
    for page in built[1].parent.glob("**/*.html"):
        for line in re.findall(r'<div class="strip">.*?</div>', page.read_text(), re.DOTALL):
            for link in re.findall(r'href="([^"#]+)"', line):
                assert (page.parent / link).is_file(), f"{page.name}: {link}"
                offered += link.endswith((".csv", ".parquet"))
    assert offered > 4


def test_how_a_page_was_made_is_folded_until_one_asks(opened):
    opened.visit("run/claims.html")
    unfolded = "document.querySelector('details.made').open"
    assert not opened.read(unfolded)
    opened.read("document.querySelector('.strip a[href=\"#how-this-page-was-made\"]').click()")
    opened.wait(unfolded)


def test_a_page_leads_on_to_the_pages_that_belong_to_it_and_there_may_be_none():
    page, part = (chapters.Chapter(name, new_notebook(), {}, False) for name in ("claims", "beside-shift"))
    chapters.lead_on(page, "The same pages", [])
    assert page.notebook.cells == []
    chapters.lead_on(page, "The same pages", [part])
    assert [cell.source for cell in page.notebook.cells] == ["The same pages: [Other questions](beside-shift.ipynb)."]


def test_what_is_to_be_cited_has_a_button_that_copies_it(opened):
    opened.visit("book/references.html")
    copied = opened.read(
        "[...document.querySelectorAll('button.copybtn')]"
        ".map(button => document.querySelector(button.dataset.clipboardTarget).textContent.trim())"
    )
    page = citation.dated((ROOT / "book/cite.md").read_text(), citation.read(), citation.date())
    software, _, paper, _ = re.findall(r"```\w+\n(.*?)\n```", page, re.DOTALL)
    assert len(copied) == 4 and copied[0] == software and copied[2] == paper


@pytest.mark.parametrize("word", ["baseline", "ablation", "calibration", "significance"])
def test_the_search_finds_the_words_of_the_field_without_a_network(opened, word):
    opened.visit(f"search.html?q={word}")
    opened.wait("/found [1-9]\\d* page/.test(document.querySelector('#search-results').innerText)")
    pages = "[...document.querySelectorAll('#search-results li > a')].map(link => link.textContent)"
    found = "Baselines and ablations" if word in ("baseline", "ablation") else "Method and glossary"
    assert found in opened.read(pages)


def test_the_sidebar_has_one_entry_for_each_page_of_results_on_every_page(opened):
    entries = "[...document.querySelectorAll('nav.bd-links a')].map(link => link.textContent.trim())"
    for page in ("", f"run/answer-{MODELS[0]}.html", "run/record.html"):
        opened.visit(page)
        assert opened.read(entries) == [
            "Results",
            "One estimator",
            "Baselines and ablations",
            "Other questions",
            "Grading · failed",
            "The figure and its claims",
            "Method and glossary",
            "Limits",
            "Use an estimator",
            "Bring your own",
            "The run",
            "References, citation, licences",
        ]
        current = "document.querySelector('nav.bd-links li.current > a').textContent.trim()"
        assert not page or opened.read(current) == "The run", "a stage's page belongs to the run"


def test_the_run_leads_to_the_notebook_of_every_stage(built):
    text = (built[0] / "book" / "run" / "record.md").read_text()
    pages = {path.stem for path in (built[0] / "book" / "run").glob("*.ipynb")}
    executed = {path.name.split(".ipynb")[0].removesuffix(".failed") for path in (built[0] / "notebooks").iterdir()}
    assert set(re.findall(r"\]\(([^)]+)\.ipynb\)", text)) == executed & pages == executed - {"answer-Gone-1B"}
    assert text.count("| failed | failed |") == 1 and text.count("| ok | 61&nbsp;s |") == len(executed) - 2
    assert "<summary>LoRA + Prompt · 4 (1 failed) · 3.0 min</summary>" in text


def test_one_estimator_leads_to_the_page_of_another(opened, table):
    opened.visit("run/cell.html?scored=Beta-7B")
    lines = opened.read(
        "[...document.querySelectorAll('article tbody tr')].map(row => [...row.cells].map(cell => cell.textContent))"
    )
    places = table[(table["reading"] == "all") & (table["test_set"] == "in-distribution")]
    values = places.set_index(["method", "reader", "trained_on", "scored"])["auroc"]
    expected = [
        [f"{title}, {reader} trained on {trained_on}"]
        + [f"{values[method, reader, trained_on, scored]:.2f}" for scored in MODELS]
        for method, title in {"probe": "Probe", "lora_prompt": "LoRA + Prompt"}.items()
        for reader in MODELS
        for trained_on in MODELS
        if f"{method}-{reader}_{trained_on}_seed0" != FAILED
    ]
    assert [[name, *(text.split()[0] for text in texts)] for name, *texts in lines] == expected

    def show(**chosen):
        for name, value in chosen.items():
            opened.read(f"document.querySelector('form.choose select[name={name}]').value = '{value}'")
        opened.read("document.querySelector('form.choose button').click()")

    show(method="probe", reader=MODELS[0], trained_on=MODELS[1])
    opened.wait("location.href.endsWith('/run/cell-probe_Alpha-1.5B_Beta-7B.html?scored=Beta-7B')")
    opened.wait("document.readyState === 'complete' && document.querySelector('form.choose')")
    chosen = "[...document.querySelectorAll('form.choose select')].map(list => list.value)"
    assert opened.read(chosen) == ["probe", MODELS[0], MODELS[1]]
    show(method="lora_prompt")
    assert opened.read("document.querySelector('form.choose output').textContent") == "This run has no such estimator."


def test_a_page_has_its_icons_and_the_book_brings_no_others(opened, built):
    opened.visit()
    opened.wait("document.querySelector('svg[data-icon=bars]') !== null")
    icons = opened.read(
        "[...document.querySelectorAll('svg[data-icon]')]"
        ".map(icon => [icon.dataset.icon, icon.querySelectorAll('path').length])"
    )
    assert {"magnifying-glass", "bars", "sun", "moon", "circle-half-stroke"} <= {name for name, _ in icons} and all(
        paths for _, paths in icons
    )
    script = (built[1].parent / "_static/scripts/fontawesome.js").read_text()
    assert {name for name, _ in icons} <= {icon[1] for icon in ICON.finditer(script)} and len(ICON.findall(script)) < 60


def test_the_book_brings_nothing_that_no_page_loads(opened, built):
    """The icon of an admonition is a letter of a font, so that one stays."""
    static = built[1].parent / "_static"
    there = {str(path.relative_to(static)) for path in static.rglob("*") if path.is_file()}
    assert not [name for name in there if name.endswith((".map", ".mo", ".ttf")) or "fa-regular" in name]
    for path in (path for path in static.rglob("*") if path.suffix in (".css", ".js")):
        text = path.read_text(encoding="utf-8")
        assert "sourceMappingURL" not in text, path
        for place in re.findall(r"url\((?!\W?data:)[\"']?([^)\"'?#]+)", text) if path.suffix == ".css" else ():
            assert (path.parent / place).is_file(), f"{path}: {place}"
    size = sum((static / name).stat().st_size for name in there if not name.startswith("tables/"))
    assert size < 2_200_000, f"{size} bytes beside the pages and their tables"
    opened.visit(f"run/{CHANGED}.html")
    assert opened.read("document.fonts.ready.then((fonts) => fonts.check('900 16px \"Font Awesome 6 Free\"'))")
    assert opened.errors == []


def test_a_table_is_csv_if_it_is_small_and_else_parquet_alone(built):
    tables = [*(built[1].parent / "_static/tables").iterdir()]
    sizes = {path.suffix: [] for path in tables}
    for path in tables:
        sizes[path.suffix].append(path.stat().st_size)
    assert {*sizes} == {".csv", ".parquet"} and max(sizes[".csv"]) <= strip.LARGEST


def test_the_first_page_with_all_that_it_loads_is_below_two_megabytes(opened, built):
    opened.visit()
    assert (built[1].parent / "_static/vega.js").stat().st_size < opened.loaded < 2_000_000


def test_the_failed_stage_has_its_page_and_the_stale_one_has_none(built):
    html = built[1].parent
    assert WHY in (html / "run" / f"{FAILED}.html").read_text()
    assert not list(html.glob("**/*Gone*"))


def test_what_the_run_took(built):
    text = (built[0] / "book" / "run" / "record.md").read_text()
    for fact in (
        "| torch | `9.9` |",
        "| machine | `a machine` |",
        MODELS[0],
        grid.text(grid.load(built[0] / "two.yml"), built[0]),
        f"{history.TITLE}\n\n{history.UNFINISHED}\n",
    ):
        assert fact in text
    assert not (built[0] / "history.json").exists(), "one of its stages failed"
    run = chapters.collect(built[0] / "notebooks", grid.load(built[0] / "two.yml"))
    assert re.search(r"^LoRA \+ Prompt +4 \(1 failed\) +3\.0 min$", chapters.summary(run), re.MULTILINE)


def test_the_speed_that_was_measured_has_a_page(built):
    html = (built[1].parent / "run" / "record.html").read_text().split('id="speed"')[1]
    cells = re.findall(r"<td[^>]*><p>(.*?)</p></td>", html)
    assert cells == [MODELS[0], "Answers", "questions", "12.3", "2.0", "6.2", "46\u00a0%"]


def test_the_bundle_is_what_altair_asks_for():
    import vl_convert

    assert vl_convert.get_vega_version().split(".")[0] == display.VEGA_VERSION
    assert vl_convert.get_vega_embed_version().split(".")[0] == display.VEGAEMBED_VERSION
    assert book.bundled_version() in vl_convert.get_vegalite_versions()


def test_pages_that_are_not_there_are_not_in_the_contents(tmp_path):
    files.write_text(tmp_path / "run" / "probe-a.ipynb", "")
    files.write_text(tmp_path / "run" / "probe.md", "")
    probe = {"file": "run/probe", "sections": [{"glob": "run/probe-*"}]}
    gone = {"file": "run/lora_prompt", "sections": [{"glob": "run/lora_prompt-*"}]}
    toc = {
        "root": "index",
        "parts": [{"caption": "a", "chapters": [probe, gone]}, {"caption": "b", "chapters": [gone]}],
    }
    assert book.existing(toc, tmp_path) == {"root": "index", "parts": [{"caption": "a", "chapters": [probe]}]}


def test_a_wrong_grid_is_one_sentence(tmp_path, capsys):
    files.write_text(tmp_path / "bad.yml", "name: [")
    assert __main__.main(["book", str(tmp_path / "bad.yml")]) == 2
    assert "bad.yml" in capsys.readouterr().err


def test_damaged_rows_leave_a_book_that_says_so(tmp_path, capsys):
    grid_file = write_results(tmp_path)
    files.write_text(tmp_path / "rows" / "likelihood" / f"{MODELS[0]}.parquet", "broken")
    assert __main__.main(["book", str(grid_file), "--grid-results", str(tmp_path)]) == 1
    assert "no heatmaps" in capsys.readouterr().err
    assert "this file is damaged" in (tmp_path / "book" / "_build" / "html" / "index.html").read_text()


@pytest.mark.parametrize("count", [1, 4, 5])
def test_the_page_of_all_estimators_says_which_cells_of_many_models_it_lacks(tmp_path, count):
    models, tasks = [*"abcde"[:count]], [{"name": "trivia_qa", "role": "train"}]
    rows = made_up.make_rows(np.arange(60), np.arange(60) % 2 == 0, scored="a")
    table = cells.heatmap_table(cells.measure(rows, scores.by_task(rows, only_auroc=True), tasks), models, tasks)
    files.write_parquet(tmp_path / "scores.parquet", table)
    probe = {"method": "probe", "reader": "a", "trained_on": "a"}
    text = chapters.estimators([chapters.Chapter("cell-probe_a_a", None, probe, False)], tmp_path / "scores.parquet")
    assert (chapters.OF_MANY in text) == (count == 5)
