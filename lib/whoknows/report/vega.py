"""Vega, Vega-Lite and Vega-Embed as files of the book, so that charts need no other host."""

from pathlib import Path

import vl_convert
from altair.vegalite.v6 import display

from whoknows.data import files
from whoknows.data.files import ROOT

VERSIONS = {
    "vega_version": display.VEGA_VERSION,
    "vegalite_version": display.VEGALITE_VERSION,
    "vegaembed_version": display.VEGAEMBED_VERSION,
}


def write_charts(folder: Path) -> None:
    """Writes charts.js, which every page loads, and vega.js, which charts.js loads where there is a chart.

    Args:
        folder: static files of the book.
    """
    # Altair's pages load Vega from another host unless they find these very versions.
    told = f"window.VEGA_DEBUG = {VERSIONS};\n"
    files.write_text(folder / "charts.js", told + (ROOT / "book" / "_static" / "charts.js").read_text())
    # In a function of its own, so that its many short names do not become the page's.
    bundle = vl_convert.javascript_bundle("window.whoknowsVega = { vegaEmbed };", bundled_version())
    files.write_text(folder / "vega.js", f"(() => {{\n{bundle}\n}})();\n")


def bundled_version() -> str:
    """The Vega-Lite version that Altair's specifications are written for, as vl-convert names it."""
    return ".".join(display.VEGALITE_VERSION.split(".")[:2])
