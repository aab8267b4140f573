"""A built book is lighter than what made it, and its charts hold the same data."""

import json

import nbformat
from nbformat.v4 import new_code_cell, new_notebook, new_output

from whoknows.data.files import ROOT
from whoknows.report import slim

LINES = [
    {
        "model": "a long name",
        "value": 0.25 + at,
        "none": None,
        "at": [1, at],
        "text": "</script><b>" if at else "\ud800",
    }
    for at in range(30)
]
PAGE = """<script>(function(spec, embedOpt){ vegaEmbed(spec); })(SPEC, {"mode": "vega-lite"});</script>
<script>(function(x){ go(x); })({not: "JSON"});</script><p>})({ and text</p>"""


def lines_of(data):
    """What charts.js makes of a packed table."""
    whole = [one if isinstance(one, list) else [one["of"][place] for place in one["at"]] for one in data["columns"]]
    return [dict(zip(data["names"], values)) for values in zip(*whole)]


def test_a_chart_has_the_same_data_in_fewer_letters_and_the_rest_of_the_page_stays():
    spec = {"mark": "rect", "datasets": {"one": LINES, "none": [], "uneven": [{"x": 1}, {"y": 2}]}}
    page = PAGE.replace("SPEC", json.dumps(spec))
    text = slim.with_packed_charts(page)
    assert len(text) < 0.5 * len(page)
    first, rest = text.split("})(", 1)
    packed, end = json.JSONDecoder().raw_decode(rest)
    assert lines_of(packed["datasets"].pop("one")) == LINES
    assert packed == {"mark": "rect", "datasets": {"none": [], "uneven": [{"x": 1}, {"y": 2}]}}
    assert "</script><b>" not in text, "whatever a name holds, it ends no script"
    assert first + "})(" + rest[end:] == PAGE.replace("SPEC", "")
    text.encode("utf-8")
    assert slim.with_packed_charts(text) == text, "what is packed stays as it is"


def test_a_column_is_coded_where_that_is_shorter():
    packed = slim.packed(LINES)
    kinds = {name: type(column) for name, column in zip(packed["names"], packed["columns"])}
    assert kinds == {"model": dict, "value": list, "none": dict, "at": list, "text": dict}
    assert packed["columns"][0] == {"of": ["a long name"], "at": [0] * 30}


def test_a_notebook_keeps_its_code_and_small_outputs():
    small, large = (new_output("display_data", {"text/html": "x" * size}) for size in (10, slim.SHOWN))
    notebook = new_notebook(cells=[new_code_cell("1 + 1", outputs=[small, large])])
    kept = nbformat.reads(slim.without_outputs(nbformat.writes(notebook)), as_version=4)
    nbformat.validate(kept)
    (cell,) = kept.cells
    assert cell.source == "1 + 1" and cell.outputs[0] == small
    assert cell.outputs[1].text == "This output stands on the page of the report." and len(cell.outputs) == 2


def test_no_line_of_the_scripts_and_styles_is_too_long():
    paths = [*(ROOT / "book/_static").iterdir()]
    long = [f"{path.name}: {line}" for path in paths for line in path.read_text().splitlines() if len(line) > 120]
    assert len(paths) > 5 and long == []
