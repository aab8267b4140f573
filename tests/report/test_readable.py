"""Tables of stages' notebooks in the book: methods have titles and counts are written as everywhere else."""

import re

import nbformat
import pandas as pd
import pytest
from nbformat.v4 import new_code_cell, new_notebook, new_output

import browser
from made_up import make_rows
from whoknows.data.files import ROOT
from whoknows.evaluation import auroc
from whoknows.report import chapters, readable
from whoknows.stages import answered


def shown(tmp_path, html):
    """The cells of a table in a notebook of the book, row by row."""
    output = new_output("display_data", data={"text/html": html})
    nbformat.write(new_notebook(cells=[new_code_cell("1", outputs=[output])]), tmp_path / "probe-a.ipynb")
    page = chapters.read(tmp_path / "probe-a.ipynb")
    rows = page.notebook.cells[0].outputs[0].data["text/html"].split("</tr>")
    return [re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", row) for row in rows if "<t" in row]


def test_a_stages_table_has_titles_and_counts_but_no_comma_in_a_seed(tmp_path):
    names = {"method": "probe_without_trivia_qa", "seed": 2026, "task": "trivia_qa"}
    rows = [make_rows([1, 0] * 617, [True, False] * 617, **names), make_rows([1, 0] * 30, [True, False] * 30)]
    head, first, second, *_ = shown(tmp_path, auroc.html(pd.concat(rows)))
    assert dict(zip(head, first)) == {
        "Method": "Probe, without trivia_qa", "Seed": "2026", "Scored": "b", "Task": "trivia_<wbr>qa",
        "AUROC": "1.0", "Test answers": "1,234", "Right": "617",
    }  # fmt: skip
    assert second[0] == "Probe"


@pytest.mark.parametrize(
    ("method", "title"),
    [
        ("probe_mlp", "Probe (MLP)"),
        ("lora_prompt_all_models", "LoRA + Prompt, all models"),
        ("lora_prompt_without_cities", "LoRA + Prompt, without cities"),
        ("probe_only_cities", "Probe, cities alone"),
        ("probe_without_my-own.v2", "Probe, without my-own.v2"),
        ("probe_only_2024", "Probe, 2024 alone"),
        ("probe_n1000", "Probe, 1,000 training answers"),
        ("probe_one_each", "Probe, one answer to each question"),
        ("probe_mean", "Probe, mean over the answer"),
        ("mine_without_cities", "mine_without_cities"),
    ],
)
def test_variants_of_a_method_have_titles(method, title):
    assert readable.title(method) == title


def test_a_year_that_a_model_answered_stays_a_year(tmp_path):
    given = pd.DataFrame({
        "split": "test", "task": "a", "correct": [True], "question": ["When?"], "answer": ["1912"], "gold": [["1912"]],
    })  # fmt: skip
    assert shown(tmp_path, answered.examples(given))[1][2:4] == ["1912", "1912"]
    counted = pd.DataFrame({"nq_open": [1912]}, index=["trivia_qa"]).to_html()
    assert shown(tmp_path, counted) == [["", "nq_<wbr>open"], ["trivia_<wbr>qa", "1,912"]]


def test_a_name_of_digits_stays_as_it_is_and_what_is_missing_has_a_dash(tmp_path):
    lines = pd.DataFrame({"Task": ["2024", "007"], "Right": [1912, 7], "AUROC of likelihood": [float("nan"), 0.5]})
    assert shown(tmp_path, lines.to_html(index=False))[1:] == [["2024", "1,912", "—"], ["007", "7", "0.5"]]
    assert [line[0] for line in shown(tmp_path, lines.set_index("Task").rename_axis(None).to_html())] == [
        "", "2024", "007",
    ]  # fmt: skip


def test_a_table_that_a_page_takes_from_a_file_has_a_true_minus():
    csv = readable.numbers("Model,Difference\nSmolLM2-135M,-0.008\n-,0.001\n")
    assert csv == "Model,Difference\nSmolLM2-135M,\N{MINUS SIGN}0.008\n-,0.001\n"


def test_a_number_and_its_percent_sign_stay_in_one_line(tmp_path):
    texts = {
        "text/html": "<p>5 of 17 (30 %), 95 % and %d</p>",
        "text/markdown": "a 95 % interval % of 30 %.",
        "text/plain": "30 %",
    }
    chart = {"text/html": "<div></div><script>spec = {'title': '95 % interval'}</script>"}
    outputs = [new_output("display_data", data=data) for data in (texts, chart)]
    nbformat.write(new_notebook(cells=[new_code_cell("1", outputs=outputs)]), tmp_path / "probe-a.ipynb")
    read = [output["data"] for output in chapters.read(tmp_path / "probe-a.ipynb").notebook.cells[0].outputs]
    assert read[0]["text/html"] == "<p>5 of 17 (30\u00a0%), 95\u00a0% and %d</p>"
    assert read[0]["text/markdown"] == "a 95\u00a0% interval % of 30\u00a0%." and read[1] == chart


def test_an_output_without_text_is_not_shown(tmp_path):
    texts = (
        {"text/markdown": "", "text/plain": "<Markdown object>"},
        {"text/plain": "1"},
        {"text/html": ["<p>", "</p>"]},
        {"text/html": pd.DataFrame(columns=["Method"]).to_html(index=False)},
    )
    outputs = [new_output("display_data", data=data) for data in texts]
    nbformat.write(new_notebook(cells=[new_code_cell("1", outputs=outputs)]), tmp_path / "probe-a.ipynb")
    shown = chapters.read(tmp_path / "probe-a.ipynb").notebook.cells[0].outputs
    assert [[*output["data"]] for output in shown] == [["text/plain"], ["text/html"]]


@pytest.mark.slow
def test_on_a_phone_the_numbers_are_in_sight_and_the_first_column_stays_there(tmp_path):
    names = {"method": "probe_without_cities", "trained_on": "SmolLM2-135M", "scored": "Gemma3-270M"}
    rows = [make_rows([1, 0] * 30, [True, False] * 30, **names | {"seed": seed}) for seed in (0, 1)]
    shown(tmp_path, auroc.html(pd.concat(rows)))
    html = chapters.read(tmp_path / "probe-a.ipynb").notebook.cells[0].outputs[0].data["text/html"]
    style = (ROOT / "book/_static/page.css").read_text()
    box = f'<div class="bd-article"><div class="cell_output"><div class="output">{html}</div></div></div>'
    head = f'<meta name="viewport" content="width=device-width"><style>{style}</style>'
    (tmp_path / "index.html").write_text(f"<!DOCTYPE html><html><head>{head}</head><body>{box}</body></html>")
    with browser.open_book(tmp_path / "index.html") as opened:
        opened.visit(width=390)
        ends = "[...document.querySelectorAll('th')].map(head => [head.innerText, head.getBoundingClientRect().right])"
        assert dict(opened.read(ends))["AUROC"] < 390
        assert opened.read("getComputedStyle(document.querySelector('td')).position") == "sticky"
        opened.visit()
        assert opened.read("getComputedStyle(document.querySelector('td')).position") == "static"
        opened.call("Emulation.setEmulatedMedia", media="print")
        opened.call("Emulation.setDeviceMetricsOverride", width=390, height=900, deviceScaleFactor=1, mobile=False)
        assert opened.read("getComputedStyle(document.querySelector('td')).position") == "static", "nothing scrolls"


@pytest.mark.slow
def test_a_phone_shows_auroc_beside_all_names_and_a_wide_table_with_a_caption_wraps_its_ends(tmp_path):
    names = [(seed, model) for seed in (0, 1) for model in ("Gemma3-270M", "SmolLM2-135M")]
    rows = pd.concat(
        make_rows([0, 1], [0, 1], "common_knowledge", method="probe_before", seed=seed, scored=model, trained_on=model)
        for seed, model in names
    )
    page = new_notebook(
        cells=[new_code_cell("1", outputs=[new_output("display_data", {"text/html": auroc.html(rows)})])]
    )
    readable.tables(page)
    style = "*{box-sizing:border-box} body{font:16px DejaVu Sans;margin:16px} table{border-collapse:collapse}"
    wide = pd.DataFrame([["Answer likelihood", *["59.7% (56.6 – 62.4)"] * 5, "not significant"]]).to_html(index=False)
    wide = wide.replace("<thead>", "<caption>all</caption><thead>")
    html = page.cells[0].outputs[0].data["text/html"]
    (tmp_path / "index.html").write_text(
        f"<!doctype html><meta charset=utf-8><meta name=viewport content='width=device-width'><style>{style}</style>"
        f"<style>{(ROOT / 'book/_static/page.css').read_text()}</style>"
        f"<article class=bd-article><div class=cell_output>{html}<div style='max-width: 960px'>{wide}</div></div>"
    )
    with browser.open_book(tmp_path / "index.html") as tab:
        tab.visit(width=390)
        ends = (
            "[...document.querySelectorAll('th')].map(head => [head.textContent, head.getBoundingClientRect().right])"
        )
        assert dict(tab.read(ends)[:8])["AUROC"] <= 374
        tab.visit(width=1280)
        beyond = "(table => table.scrollWidth - table.clientWidth)(document.querySelector('table:has(caption)'))"
        assert tab.read(beyond) <= 0
