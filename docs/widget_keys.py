"""`.. view-keys:: RunPanel NextToken` lists the keys of views, as each view itself lists them.

A view's browser half has its keys in an array HELP.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

from mullama_lab import widgets
from mullama_lab.widgets._view import View

WIDGETS = Path(__file__).resolve().parents[1] / "widgets"
HELP = re.compile(r"\bHELP = \[(.*?),?\s*\];", re.DOTALL)


def help_of(view: type[View]) -> Path:
    """The browser module that lists the keys of a view."""
    stem = view.__module__.rpartition(".")[2]
    files = sorted(WIDGETS.glob(f"{stem}*.js"))
    return next(path for path in files if HELP.search(path.read_text("utf-8")))


def keys_in(path: Path) -> list[tuple[str, str]]:
    """(keys, what they do) as a browser module lists them."""
    (listed,) = HELP.findall(path.read_text("utf-8"))
    return [(keys, what) for keys, what in json.loads(f"[{listed}]")]


class ViewKeys(SphinxDirective):
    """A list of keys for each view that is named."""

    required_arguments = 1
    final_argument_whitespace = True

    def run(self) -> list[nodes.Node]:
        listed: list[nodes.Node] = []
        for view in self.arguments[0].split():
            path = help_of(getattr(widgets, view))
            self.env.note_dependency(str(path))
            name = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", view).capitalize()
            listed += [nodes.rubric("", name), _table(keys_in(path))]
        return listed


def _table(rows: list[tuple[str, str]]) -> nodes.Node:
    group = nodes.tgroup("", nodes.colspec(colwidth=1), nodes.colspec(colwidth=2), cols=2)
    body = nodes.tbody()
    for keys, what in rows:
        caps = nodes.paragraph()
        for key in keys.split(" "):
            caps += [nodes.inline("", key, classes=["key"]), nodes.Text(" ")]
        cells = (nodes.entry("", caps), nodes.entry("", nodes.paragraph("", what)))
        body += nodes.row("", *cells)
    group += body
    return nodes.table("", group, classes=["keys"])


def setup(app: Sphinx) -> dict[str, Any]:
    app.add_directive("view-keys", ViewKeys)
    return {"parallel_read_safe": True}
