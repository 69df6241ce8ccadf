"""The schemas within a JSON Schema, by their paths, and the places that a `$ref` means."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from copy import deepcopy
from typing import Any
from urllib.parse import unquote

from mullama_lab.errors import GrammarError
from mullama_lab.glyphs import brief

OF_THE_WHOLE = ("$schema", "$id", "id")  # keywords of a schema that is in no other
ONE = ("items", "additionalItems", "additionalProperties")
LISTED = ("anyOf", "oneOf", "allOf", "prefixItems", "items")
NAMED = ("properties", "patternProperties", "$defs", "definitions")


def subschemas(schema: Any) -> Iterator[tuple[str, Any]]:
    """Each schema within a schema, itself first, with the path to it."""
    todo: list[tuple[str, Any]] = [("#", schema)]
    while todo:
        path, found = todo.pop()
        yield path, found
        todo.extend(reversed(list(children(path, found))))


def children(path: str, schema: Any) -> Iterator[tuple[str, Any]]:
    """The schemas right below a schema, with the paths to them."""
    for key, value in schema.items() if isinstance(schema, dict) else ():
        if key in ONE and not isinstance(value, list):
            yield f"{path}/{key}", value
        elif key in LISTED and isinstance(value, list):
            yield from ((f"{path}/{key}/{place}", one) for place, one in enumerate(value))
        elif key in NAMED and isinstance(value, dict):
            yield from ((below(path, key, name), one) for name, one in value.items())


def below(path: str, key: str, name: str) -> str:
    """The path to a schema that has a name under a keyword."""
    return f"{path}/{key}/{name.replace('~', '~0').replace('/', '~1')}"


def moved(schema: Any, path: str) -> Any:
    """A schema as it stands at a path in another one: its references are to places in it there."""
    made = deepcopy(schema)
    for _, one in subschemas(made):
        if isinstance(one, dict):
            for key in OF_THE_WHOLE:
                one.pop(key, None)
            ref = one.get("$ref")
            if isinstance(ref, str) and (ref == "#" or ref.startswith("#/")):
                one["$ref"] = path + ref[1:]
    return made


class Places:
    """The schemas within one, found by path or by what a `$ref` says.

    Attributes:
        by_path: each of them, in the order of the text.
    """

    def __init__(self, schema: Any) -> None:
        self.by_path: Mapping[str, Any] = dict(subschemas(schema))
        self._anchors: dict[str, str] = {}
        for path, one in self.by_path.items():
            if isinstance(one, dict) and "$anchor" in one:
                before = self._anchors.setdefault(one["$anchor"], path)
                if before != path:
                    raise GrammarError(f"'$anchor' at {path} is the same as at {before}.")

    def path_of(self, ref: str, path: str) -> str:
        """The path of the schema that a `$ref` at a path means.

        Raises:
            GrammarError: it is in another document, or there is no schema there.
        """
        if not ref.startswith("#"):
            raise GrammarError(
                f"'$ref' at {path} is {brief(ref)}: it must be a place in the same schema, as in "
                "'#/$defs/name'. Nothing is fetched; put that schema under '$defs'."
            )
        place = unquote(ref[1:])
        is_anchor = bool(place) and not place.startswith("/")
        found = self._anchors.get(place, "") if is_anchor else f"#{place}"
        if found not in self.by_path:
            raise GrammarError(
                f"'$ref' at {path} is {brief(ref)}: there is no schema in that place. Put one "
                "under '$defs'."
            )
        return found
