"""Find the browser half of a view and make one module and one style sheet of it.

A view consists of `<stem>.js`, the files it imports, and the style sheet beside each of them.
What only this view uses stands beside it as `<stem>_*.js`; what several views use is in
`shared/`, named for what it is. `shared/theme.css` is the start of every style sheet.

anywidget loads a module from a blob: address, where `import "./shared/dom.js"` has nothing to be
relative to. So every imported file is put in front as a function of its own that returns its
exports; names of one file never meet those of another. Every saved view carries a copy of the
text, so what means nothing in it is left out. No template may stand in another, where `jsmin`
would take the inner one for code.
"""

from __future__ import annotations

import posixpath
import re
from functools import cache
from pathlib import Path

from rjsmin import jsmin

LIMIT_BYTES = 64_000

_IMPORT = re.compile(r'^import \{([^}]*)\} from "(\.\.?/[\w/]+)\.js";\n', re.MULTILINE)
_EXPORT = re.compile(r"^export (async function|function|const|let|class) (\w+)", re.MULTILINE)
# The space before a colon stays, where rcssmin 1.3 takes it from `@container {.a :is(b) {}}`.
_COMMENT_IN_CSS = re.compile(r"/\*.*?\*/", re.DOTALL)
_SPACE_IN_CSS = re.compile(r"\s*([{};,>])\s*|(:)\s+")


def folder() -> Path:
    """Where the browser halves are: in the wheel, or beside the package in a checkout."""
    here = Path(__file__).parent
    for place in (here / "static", here.parents[1] / "widgets"):
        if (place / "shared").is_dir():
            return place
    raise FileNotFoundError(
        f"the browser halves of the widgets are neither in {here / 'static'} nor in "
        f"{here.parents[1] / 'widgets'}. Install mullama-lab again."
    )


@cache
def module(stem: str) -> str:
    """The module of `<stem>.js` with the files that it imports inside it."""
    parts = [_as_function(name) for name in _imported(stem)]
    text = str(jsmin("".join(parts) + _with_imports_bound(stem)))
    size = len(text.encode())
    if size > LIMIT_BYTES:
        raise ValueError(f"{stem}.js with its imports has {size} bytes; {LIMIT_BYTES} is the most")
    return text


@cache
def style(stem: str) -> str:
    """The theme, the sheets of the files that the module imports, and `<stem>.css`."""
    sheets = [folder() / f"{name}.css" for name in ("shared/theme", *_imported(stem), stem)]
    text = "\n".join(sheet.read_text(encoding="utf-8") for sheet in sheets if sheet.is_file())
    return _SPACE_IN_CSS.sub(r"\1\2", _COMMENT_IN_CSS.sub("", text)).replace(";}", "}")


@cache
def _read(name: str) -> str:
    return (folder() / f"{name}.js").read_text(encoding="utf-8")


def _imported(name: str, importers: tuple[str, ...] = ()) -> list[str]:
    """Names of the files that a file needs, each after the ones it needs itself."""
    if name in importers:
        raise ValueError(f"{name}.js imports itself by way of {' -> '.join(importers)}")
    order: list[str] = []
    for match in _IMPORT.finditer(_read(name)):
        file = _path(name, match[2])
        order += [*_imported(file, (*importers, name)), file]
    return list(dict.fromkeys(order))


def _path(importer: str, relative: str) -> str:
    """The file that `importer` names by a path relative to itself."""
    return posixpath.normpath(posixpath.join(posixpath.dirname(importer), relative))


def _as_function(name: str) -> str:
    """One file as a function, called at once, that returns its exports."""
    body = _EXPORT.sub(r"\1 \2", _with_imports_bound(name))
    exports = ",".join(_exports(name))
    return f"const {_variable(name)}=(()=>{{\n{body}return {{{exports}}};\n}})();\n"


def _exports(name: str) -> list[str]:
    return [match[2] for match in _EXPORT.finditer(_read(name))]


def _with_imports_bound(name: str) -> str:
    """A file's text, each import turned into constants taken from that file's function."""

    def constants(match: re.Match[str]) -> str:
        file = _path(name, match[2])
        names = [part.strip() for part in match[1].split(",") if part.strip()]
        for exported in (part.split(" as ")[0] for part in names):
            if exported not in _exports(file):
                raise ValueError(f"{name}.js imports {exported!r}; {file}.js exports no such name")
        taken = ",".join(part.replace(" as ", ":") for part in names)
        return f"const {{{taken}}}={_variable(file)};\n"

    return _IMPORT.sub(constants, _read(name))


def _variable(name: str) -> str:
    """What holds a file's exports: short, as it stands in every saved view once an import."""
    return f"${name.removeprefix('shared/')}" if "/" in name else f"$${name}"
