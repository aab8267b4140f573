"""Tables of stages' notebooks in the book: methods have titles and counts are written as everywhere else."""

import re

import nbformat
import pandas as pd
import pytest
from nbformat.v4 import new_code_cell, new_notebook, new_output

from made_up import make_rows
from whoknows.evaluation import auroc
from whoknows.report import chapters, readable
from whoknows.stages import answer


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
    assert shown(tmp_path, answer.examples(given))[1][2:4] == ["1912", "1912"]
    counted = pd.DataFrame({"nq_open": [1912]}, index=["trivia_qa"]).to_html()
    assert shown(tmp_path, counted) == [["", "nq_<wbr>open"], ["trivia_<wbr>qa", "1,912"]]
