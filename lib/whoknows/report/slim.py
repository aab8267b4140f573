"""Makes a built book lighter: what no page loads goes, and what all charts repeat is written once.

Nothing is fetched by a page, so a book is read from a file as from a server.
"""

import json
import re
import shutil
from pathlib import Path

from whoknows.data import files

# name:[width, height, [other names], "codepoint", "outline" or ["outline", "outline"]]
ICON = re.compile(r'"?([a-z0-9-]+)"?:\[\d+,\d+,\[[^\]]*\],"[a-f0-9]*",(?:"[^"]*"|\["[^"]*","[^"]*"\])\],?')
LETTER = re.compile(r'(?:\.fa-[a-z0-9-]+:before,?)+\{content:"[^"]*"\}')
NAME = re.compile(r"\bfa-([a-z0-9-]+)")
FONT = re.compile(r'@font-face\{[^}]*/fa-regular[^}]*\}|,url\([^)]*\.ttf\) format\("truetype"\)')
MAP = re.compile(r"^(?://|/\*)# sourceMappingURL=.*\n?", re.MULTILINE)
# For the theme's own developers, for books in other languages, for browsers that are too old for the charts, and for
# icons that the script draws.
UNUSED = ("**/*.map", "locales", "vendor/**/*.ttf", "vendor/**/fa-regular*")
SHOWN = 20_000  # letters of an output that stays in the notebook that a page offers
CALL = "})({"  # where Altair's script of a chart hands over its specification


def slim(html: Path) -> None:
    """Makes the built book in a folder lighter."""
    _keep_used(html)
    for path in html.glob("_sources/**/*.ipynb"):
        files.write_text(path, without_outputs(path.read_text(encoding="utf-8")))
    for path in html.glob("**/*.html"):
        text = path.read_text(encoding="utf-8")
        if CALL in text:
            files.write_text(path, with_packed_charts(text))


def without_outputs(notebook: str) -> str:
    """An executed notebook whose large outputs are left to the page that offers it, as text."""
    whole = json.loads(notebook)
    for output in (one for cell in whole["cells"] for one in cell.get("outputs", [])):
        if len(json.dumps(output)) > SHOWN:
            output.clear()
            output.update(output_type="stream", name="stdout", text="This output stands on the page of the report.")
    return json.dumps(whole, indent=1, ensure_ascii=False) + "\n"


def with_packed_charts(page: str) -> str:
    """HTML with the data of its charts by column, which charts.js makes lines of again: half of what they took."""
    first, *calls = page.split(CALL)
    parts = [first]
    for call in calls:
        try:
            spec, end = json.JSONDecoder().raw_decode("{" + call)
        except ValueError:  # a script that draws no chart
            parts.append(CALL + call)
            continue
        data = spec.get("datasets", {})
        data.update({name: packed(lines) for name, lines in data.items()})
        # within a script "<" alone could end it, whatever a name holds
        text = json.dumps(spec, separators=(",", ":")).replace("<", "\\u003c")
        parts.append(CALL + text[1:] + call[end - 1 :])
    return "".join(parts)


def packed(lines: list[dict] | dict) -> list[dict] | dict:
    """A table by column; a column whose values repeat as its distinct values (`of`) and their places (`at`).

    Lines without a common set of names, and what is packed, are given back.
    """
    if not lines or isinstance(lines, dict) or any([*line] != [*lines[0]] for line in lines):
        return lines
    return {"names": [*lines[0]], "columns": [_coded([line[name] for line in lines]) for name in lines[0]]}


def _coded(values: list) -> list | dict:
    texts = [*map(json.dumps, values)]
    place = {text: at for at, text in enumerate(dict.fromkeys(texts))}
    coded = {"of": [json.loads(text) for text in place], "at": [place[text] for text in texts]}
    return min(values, coded, key=lambda column: len(json.dumps(column)))


def _keep_used(html: Path) -> None:
    """Drops what the theme brings along and no page loads.

    Of its script the icons that no page and no other script names, and of its style all of them: the style would show
    icons as letters, from a font that pages then load, until the script draws them.
    """
    static = html / "_static"
    script, style = static / "scripts" / "fontawesome.js", static / "styles" / "pydata-sphinx-theme.css"
    readers = [path for pattern in ("**/*.html", "_static/**/*.js") for path in html.glob(pattern) if path != script]
    used = {name for path in readers for name in NAME.findall(path.read_text(encoding="utf-8"))}
    text = script.read_text(encoding="utf-8")
    files.write_text(script, ICON.sub(lambda icon: icon[0] if icon[1] in used else "", text))
    files.write_text(style, FONT.sub("", LETTER.sub("", style.read_text(encoding="utf-8"))))
    for path in [*static.glob("scripts/*.js"), *static.glob("styles/*.css")]:
        files.write_text(path, MAP.sub("", path.read_text(encoding="utf-8")))
    for path in {path for pattern in UNUSED for path in static.glob(pattern)}:
        shutil.rmtree(path) if path.is_dir() else path.unlink()
