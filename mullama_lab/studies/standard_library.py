"""What does Python's own documentation say, function by function? Text to search anywhere."""

from __future__ import annotations

import importlib
import inspect
import pydoc
from collections.abc import Iterable, Iterator
from typing import Any

__all__ = ["documentation"]
__dir__ = __all__.copy  # what tab completion offers

SHORTEST = 20  # characters; less than that says nothing to search for


def documentation(modules: Iterable[str], *, characters: int = 600) -> dict[str, str]:
    """The functions and classes of some modules and what pydoc says of each.

    Exceptions, and what has no docstring to speak of, are left out; so is what another module of
    the list already showed.

    Args:
        modules: names such as "textwrap" or "os.path".
        characters: where a long docstring is cut.

    Returns:
        "module.name" and a text: that name, then the docstring.

    >>> documentation(["textwrap"])["textwrap.dedent"][:48]
    'textwrap.dedent: Remove any common leading white'
    """
    if characters < SHORTEST:
        raise ValueError(f"characters={characters}; a docstring needs at least {SHORTEST}.")
    found: dict[str, str] = {}
    seen: set[str] = set()
    for module in modules:
        for name, thing in _public(module):
            text = pydoc.getdoc(thing)
            if len(text) >= SHORTEST and text not in seen:
                seen.add(text)
                found[f"{module}.{name}"] = f"{module}.{name}: {text[:characters]}"
    return found


def _public(module: str) -> Iterator[tuple[str, Any]]:
    home = importlib.import_module(module)
    names = getattr(home, "__all__", None) or [name for name in dir(home) if name[0] != "_"]
    for name in sorted(names):
        thing = getattr(home, name, None)
        is_error = inspect.isclass(thing) and issubclass(thing, BaseException)
        if (inspect.isroutine(thing) or inspect.isclass(thing)) and not is_error:
            yield name, thing
