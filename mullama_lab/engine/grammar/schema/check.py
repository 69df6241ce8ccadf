"""What llguidance has against a JSON Schema, with the place in it.

Its errors do not say where, and it passes over a schema that nothing meets where the text can do
without it, as in a property that is not required. So each schema is also given to it by itself,
what is below it left open: those all in one, which is cut in halves only if it refuses that.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from mullama_lab.engine.grammar.deep_stack import on_deep_stack
from mullama_lab.engine.grammar.matching.errors import in_words
from mullama_lab.engine.grammar.schema.subschemas import (
    LISTED,
    NAMED,
    ONE,
    children,
    moved,
    subschemas,
)
from mullama_lab.engine.grammar.schema.writer import OPTIONS, for_llguidance

AT_ONCE = 1000  # schemas
PLACE = "#/$defs/root"  # of the whole, beside a schema that refers to places in it
ANNOTATIONS = {"$ref", "$defs", "definitions", "$anchor", "$schema", "$id", "id"}
IN_PLACE = ("anyOf", "oneOf", "allOf")  # whose schemas are about the same value
_OTHER_WORDS = {
    "oneOf constraints are not supported": (
        "its options must exclude one another at sight: by other types, or other consts of a "
        "property that each requires. With anyOf a text may meet several"
    ),
    "min/maxProperties only supported": (
        "they are carried out only where all of 'properties' are required"
    ),
    "circular references with sibling": (
        "it leads back to this schema, and other keywords stand beside it"
    ),
}

Place = tuple[str, Any]


def said_of_schema(text: str) -> str:
    """What llguidance has against a schema that was looked through; empty if nothing."""
    whole = for_llguidance(text)
    if not isinstance(whole, dict):
        return "" if whole else "nothing meets the schema `false`."
    whole.pop("x-guidance")
    single = [(path, _open_below(one)) for path, one in subschemas(whole) if _says_much(one)]
    for first in range(0, len(single), AT_ONCE):
        if found := _first_refused(single[first : first + AT_ONCE], whole):
            return _in_words(*_deepest_refused(found, whole), whole)
    if _error({**whole, "x-guidance": OPTIONS}):
        return _in_words(*_deepest_refused(("#", whole), whole), whole)
    return ""


def _says_much(schema: Any) -> bool:
    return isinstance(schema, dict) and not schema.keys() <= ANNOTATIONS


def _open_below(schema: dict[str, Any]) -> dict[str, Any]:
    """A schema that leaves open what is in the value: lists and properties may hold anything."""
    made = {}
    for key, value in schema.items():
        if key in ("$defs", "definitions"):
            continue
        if key in NAMED:
            value = {name: _open(one) for name, one in value.items()}
        elif key in LISTED and key not in IN_PLACE and isinstance(value, list):
            value = [_open(one) for one in value]
        elif key in ONE:
            value = _open(value)
        made[key] = value
    return made


def _open(schema: Any) -> bool:
    return schema is not False


def _first_refused(places: Sequence[Place], whole: Any) -> Place | None:
    """The first of some schemas that is refused by itself, if all of them together are."""
    if not _together_refused(places, whole):
        return None
    if len(places) == 1:
        return places[0]
    half = len(places) // 2
    return _first_refused(places[:half], whole) or _first_refused(places[half:], whole)


def _together_refused(places: Sequence[Place], whole: Any) -> str:
    if len(places) == 1:
        return _error_alone(places[0][1], whole)
    items = [one for _, one in places]  # a list of schemas: `prefixItems` of any draft
    return _error_alone({"type": "array", "items": items, "minItems": len(items)}, whole)


def _deepest_refused(place: Place, whole: Any) -> Place:
    """Of a schema that is refused, the one at or below it that is although none below that is."""
    path, schema = place
    while True:
        for place in children(path, schema):
            if isinstance(place[1], dict) and _error_alone(place[1], whole):
                path, schema = place
                break
        else:
            return path, schema


def _error_alone(schema: dict[str, Any], whole: Any) -> str:
    """What llguidance has against a schema of another one, whose other places it may refer to."""
    root = {"$defs": {"root": moved(whole, PLACE)}} if '"$ref"' in json.dumps(schema) else {}
    draft = {key: whole[key] for key in ("$schema",) if key in whole}
    rest = {key: value for key, value in moved(schema, PLACE).items() if key != "$defs"}
    return _error({**draft, **root, **rest, "x-guidance": OPTIONS})


def _in_words(path: str, schema: dict[str, Any], whole: Any) -> str:
    """What is wrong with a schema, with the keywords without which nothing would be."""
    said = _error_alone(schema, whole) or _error({**whole, "x-guidance": OPTIONS})
    said = next((words for start, words in _OTHER_WORDS.items() if start in said), said)
    guilty = [
        repr(key)
        for key in schema
        if key not in ANNOTATIONS - {"$ref"}
        and not _error_alone({k: v for k, v in schema.items() if k != key}, whole)
    ]
    if len(guilty) > 1 and "'type'" in guilty and "'enum'" not in guilty:
        guilty.remove("'type'")  # without it, all else says nothing of other types
    keywords = f"{', '.join(guilty)} at {path}" if guilty else f"at {path}"
    return f"{keywords}: {in_words(said)}."


def _error(schema: Any) -> str:
    from llguidance import LLMatcher

    grammar = json.dumps({"grammars": [{"json_schema": schema}]})
    is_error, said = on_deep_stack(lambda: LLMatcher.validate_grammar_with_warnings(grammar))
    return said[0] if is_error else ""
