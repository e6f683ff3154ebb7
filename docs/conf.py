"""The site of the documentation: `make docs` makes it from the Markdown pages of this folder."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

_HERE = Path(__file__).parent
# A page that is outside of the site, or a folder: a forge shows it, and a site cannot.
_OUTSIDE = re.compile(r"\[([^\]]+)\]\((\.\./[^)#]*)(?:#[^)]*)?\)")

project = "mirror"
html_title = "mirror"
extensions = ["myst_parser"]
myst_heading_anchors = 4  # as a forge makes them
smartquotes = False  # commands stay as they are typed
html_theme = "furo"
html_show_sphinx = False
html_copy_source = False


def setup(app: Any) -> None:  # noqa: ANN401 - the site is checked where Sphinx is not installed
    """Have links that lead out of the site made into text."""
    app.connect("source-read", _unlink)


def _unlink(_app: object, name: str, source: list[str]) -> None:
    folder = (_HERE / name).parent

    def text(link: re.Match[str]) -> str:
        target = (folder / link[2]).resolve()
        inside = target.is_relative_to(_HERE)
        is_file = target.is_file() and target.suffix != ".md"
        return link[0] if inside or is_file else link[1]

    source[0] = _OUTSIDE.sub(text, source[0])
