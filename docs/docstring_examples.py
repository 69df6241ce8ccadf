"""A docstring on its page reads as `help()` shows it.

reStructuredText takes an indented paragraph for a quotation and `<|im_end|>` for a name to be
replaced. Here the one gets the directive that makes it a block of code, the other is quoted. What
is indented below "Args:" and the like is left to napoleon.
"""

from __future__ import annotations

import re
from typing import Any

from sphinx.application import Sphinx

CONTROL_TOKEN = re.compile(r"(?<!`)<\|\w+\|>(?!`)")


def as_it_reads(
    app: Sphinx, what: str, name: str, obj: object, options: object, lines: list[str]
) -> None:
    """Put `.. code-block::` before each indented block that follows an empty line."""
    marked: list[str] = []
    in_code = False
    for before, line in zip(["", *lines], lines):
        indented = line.startswith("    ")
        if indented and not before.strip() and not in_code and not _in_section(marked):
            language = "text" if "├" in "".join(lines) else "python"  # the tree of errors
            marked += [f".. code-block:: {language}", ""]
            in_code = True
        elif line.strip() and not indented:
            in_code = False
        marked.append(line if in_code else CONTROL_TOKEN.sub(r"``\g<0>``", line))
    lines[:] = marked


def _in_section(before: list[str]) -> bool:
    """Whether the text so far ends within a section such as "Args:"."""
    last = next((line for line in reversed(before) if line.strip() and line[0] != " "), "")
    return re.fullmatch("[A-Z][a-z]+:", last) is not None


def setup(app: Sphinx) -> dict[str, Any]:
    app.connect("autodoc-process-docstring", as_it_reads, priority=400)  # before napoleon
    return {"parallel_read_safe": True}
