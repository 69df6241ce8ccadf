"""Find the browser half of a widget and make one module and one style sheet of it.

anywidget loads a module from a blob: address, where `import "./kit.js"` has nothing to be
relative to. So every imported file of ours is put in front as a function of its own that
returns its exports; names of one file never meet those of another.
"""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

LIMIT_BYTES = 50_000

_IMPORT = re.compile(r'^import \{([^}]*)\} from "\./(\w+)\.js";\n', re.MULTILINE)
_REEXPORT = re.compile(r'^export \* from "\./(\w+)\.js";\n', re.MULTILINE)
_EXPORT = re.compile(r"^export (async function|function|const|let|class) (\w+)", re.MULTILINE)
# A comment on lines of its own, an empty line, indentation, spaces around an arrow or before a
# brace that ends a line: every saved view carries a copy of the text.
_COMMENT = re.compile(
    r"^[ \t]*/\*(?:.|\n)*?\*/\n|^[ \t]*//.*\n|^[ \t]*\n|^[ \t]+| +(?=\{$|=>)|(?<==>) +",
    re.MULTILINE,
)
_SPACE_IN_CSS = re.compile(r"\s*([{};,>])\s*|(:)\s+")


def folder() -> Path:
    """Where the browser halves are: in the wheel, or beside the package in a checkout."""
    here = Path(__file__).parent
    for place in (here / "static", here.parents[1] / "widgets"):
        if (place / "kit.js").is_file():
            return place
    raise FileNotFoundError(
        f"the browser halves of the widgets are neither in {here / 'static'} nor in "
        f"{here.parents[1] / 'widgets'}. Install mullama-lab again."
    )


@cache
def module(stem: str) -> str:
    """The module of `<stem>.js` with the parts of the kit that it uses inside it."""
    source = _direct(_read(stem))
    parts = [_as_function(name) for name in _imported(source)]
    text = _COMMENT.sub("", "".join(parts) + _IMPORT.sub(_taken_from, source))
    size = len(text.encode())
    if size > LIMIT_BYTES:
        raise ValueError(f"{stem}.js with its imports has {size} bytes; {LIMIT_BYTES} is the most")
    return text


@cache
def style(stem: str) -> str:
    """kit.css, the sheets of those parts of the kit that the module uses, and `<stem>.css`."""
    names = dict.fromkeys(["kit", *_imported(_direct(_read(stem))), stem])
    sheets = [folder() / f"{name}.css" for name in names]
    text = "\n".join(sheet.read_text(encoding="utf-8") for sheet in sheets if sheet.is_file())
    return _SPACE_IN_CSS.sub(r"\1\2", _COMMENT.sub("", text)).replace(";}", "}")


def _read(name: str) -> str:
    return (folder() / f"{name}.js").read_text(encoding="utf-8")


@cache
def _home() -> dict[str, str]:
    """Which file of the kit each of its exports is in."""
    names = [*_REEXPORT.findall(_read("kit")), "kit"]
    return {match[2]: name for name in names for match in _EXPORT.finditer(_read(name))}


def _direct(source: str) -> str:
    """Import each name from the file it is in, so that what nobody uses stays out."""

    def lines(match: re.Match[str]) -> str:
        by_file: dict[str, list[str]] = {}
        for name in filter(None, (part.strip() for part in match[1].split(","))):
            home = _home().get(name.split(" as ")[0])
            if home is None or match[2] not in ("kit", home):
                raise ValueError(f"{match[2]}.js exports no {name!r}")
            by_file.setdefault(home, []).append(name)
        return "".join(
            f'import {{ {", ".join(names)} }} from "./{file}.js";\n'
            for file, names in by_file.items()
        )

    return _IMPORT.sub(lines, source)


def _imported(source: str, seen: tuple[str, ...] = ()) -> list[str]:
    """Names of the files a module needs, each after the ones it needs itself."""
    order: list[str] = []
    for match in _IMPORT.finditer(source):
        name = match[2]
        if name in seen:
            raise ValueError(f"{name}.js imports itself by way of {' -> '.join(seen)}")
        order += [*_imported(_direct(_read(name)), (*seen, name)), name]
    return list(dict.fromkeys(order))


def _as_function(name: str) -> str:
    """One file as a function that returns its exports; of kit.js, only what it holds itself."""
    source = _REEXPORT.sub("", _direct(_read(name)))
    given = ", ".join(match[2] for match in _EXPORT.finditer(source))
    body = _EXPORT.sub(r"\1 \2", _IMPORT.sub(_taken_from, source))
    return f"const {_variable(name)} = (() => {{\n{body}return {{ {given} }};\n}})();\n"


def _taken_from(match: re.Match[str]) -> str:
    """`import { a, b as c } from "./kit.js"` as a destructuring."""
    names = re.sub(r"(\w+)\s+as\s+(\w+)", r"\1: \2", " ".join(match[1].split()))
    return f"const {{ {names} }} = {_variable(match[2])};\n"


def _variable(name: str) -> str:
    return f"mll_{name}"
