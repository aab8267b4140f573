"""The theme brings two thousand icons, which weigh more than the rest of a page; a book keeps those that its pages name."""

import re
from pathlib import Path

from whoknows.data import files

# name:[width, height, [other names], "codepoint", "outline" or ["outline", "outline"]]
ICON = re.compile(r'"?([a-z0-9-]+)"?:\[\d+,\d+,\[[^\]]*\],"[a-f0-9]*",(?:"[^"]*"|\["[^"]*","[^"]*"\])\],?')
LETTER = re.compile(r'(?:\.fa-[a-z0-9-]+:before,?)+\{content:"[^"]*"\}')
NAME = re.compile(r"\bfa-([a-z0-9-]+)")


def keep_used(html: Path) -> None:
    """Drops from the theme's script the icons that no page and no other script names, and from its style all of them.

    The style would show icons as letters, from a font that pages then load, until the script draws them.

    Args:
        html: folder of a built book.
    """
    static = html / "_static"
    script, style = static / "scripts" / "fontawesome.js", static / "styles" / "pydata-sphinx-theme.css"
    readers = [path for pattern in ("**/*.html", "_static/**/*.js") for path in html.glob(pattern) if path != script]
    used = {name for path in readers for name in NAME.findall(path.read_text(encoding="utf-8"))}
    text = script.read_text(encoding="utf-8")
    files.write_text(script, ICON.sub(lambda icon: icon[0] if icon[1] in used else "", text))
    files.write_text(style, LETTER.sub("", style.read_text(encoding="utf-8")))
