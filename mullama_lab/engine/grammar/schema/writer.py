"""Write a JSON Schema for llguidance, which reads the most of it by itself.

`oneOf` it takes only where it sees that no two options can be met at once, and it does not look
behind a `$ref`. Where that is plain here, the options are given to it as `anyOf`.
"""

from __future__ import annotations

import json
import math
from collections.abc import Set
from itertools import combinations
from typing import Any
from urllib.parse import quote

from mullama_lab.engine.grammar.schema.subschemas import LISTED, NAMED, ONE, Places
from mullama_lab.engine.grammar.schema.values import TYPES, is_number

NOTES = {
    *("title", "description", "default", "examples", "$comment", "discriminator"),
    *("deprecated", "readOnly", "writeOnly"),
}
# With more than one end of a line, small models fill the text with empty lines.
SPACE = r"[\x20\x09]?\x0D?\x0A[\x20\x09]{0,40}|[\x20\x09]{1,40}"
# Without `u`, since "\u0061" would be another property than "a" for it.
OPTIONS = {"json_allowed_escapes": 'nrbtf\\"', "whitespace_pattern": SPACE}
IN_FRAGMENT = "#/~!$&'()*+,;=:@"  # besides letters, digits and -._ (RFC 3986)
_EXCLUSIVE = {
    "exclusiveMinimum": ("minimum", ("maximum", "exclusiveMaximum"), 1),
    "exclusiveMaximum": ("maximum", ("minimum", "exclusiveMinimum"), -1),
}
MOST_OPTIONS = 200  # of a oneOf, which are compared two by two
DEEPEST = 3  # properties within properties that are looked at


def for_llguidance(text: str) -> Any:
    """What llguidance takes as a schema, of the text of one that was looked through."""
    schema = json.loads(text)
    if isinstance(schema, bool):
        return schema
    written = _written(schema, "#", Places(schema))
    return {"x-guidance": OPTIONS, **written}


def _written(schema: Any, path: str, places: Places) -> Any:
    if not isinstance(schema, dict):
        return schema
    made: dict[str, Any] = {}
    for key, value in schema.items():
        if key in NOTES:
            continue
        below = f"{path}/{key}"
        if key in LISTED and isinstance(value, list):
            value = [_written(one, below, places) for one in value]
        elif key in NAMED:
            value = {name: _written(one, below, places) for name, one in value.items()}
        elif key in ONE:
            value = _written(value, below, places)
        elif key == "$ref":
            value = quote(places.path_of(value, path), safe=IN_FRAGMENT)
        elif key in _EXCLUSIVE and schema.get("type") != "integer":
            key, value = _bound(key, value, schema)
        if key == "oneOf" and "anyOf" not in schema and _exclude(schema[key], places):
            key = "anyOf"
        made[key] = value
    return made


def _bound(key: str, value: Any, schema: dict[str, Any]) -> tuple[str, Any]:
    """A bound that is left out, as llguidance keeps to it.

    Above 100, left out, and below 100.5 it would let 100 in. So it gets one that is a little
    further on, and is not left out.
    """
    other, opposite, sign = _EXCLUSIVE[key]
    if isinstance(value, bool) or value != int(value) or value * sign < 0:
        return key, value
    step = max(4 * math.ulp(value), 1e-12)
    room = [abs(schema[name] - value) / 8 for name in opposite if is_number(schema.get(name))]
    step = min([step, *room])
    return (other, value + sign * step) if step else (key, value)


def _exclude(options: list[Any], places: Places) -> bool:
    """Whether no two options can be met at once, as far as that is plain."""
    if len(options) > MOST_OPTIONS:
        return False
    return all(_apart(a, b, places, DEEPEST) for a, b in combinations(options, 2))


def _apart(a: Any, b: Any, places: Places, depth: int) -> bool:
    a, b = _resolved(a, places), _resolved(b, places)
    if isinstance(a, bool) or isinstance(b, bool):
        return a is False or b is False
    if _kinds(a).isdisjoint(_kinds(b)):
        return True
    values = _values(a), _values(b)
    if None not in values:
        return set(values[0] or ()).isdisjoint(values[1] or ())
    if depth == 0 or (_kinds(a) | _kinds(b)) != {"object"}:
        return False
    names = dict.fromkeys([*a.get("required", ()), *b.get("required", ())])
    return any(_apart(_property(a, x), _property(b, x), places, depth - 1) for x in names)


def _resolved(schema: Any, places: Places) -> Any:
    """What a schema that is a `$ref` alone refers to; `must_end` has seen that it ends."""
    while isinstance(schema, dict) and "$ref" in schema and not schema.keys() - NOTES - {"$ref"}:
        schema = places.by_path[places.path_of(schema["$ref"], "#")]
    return schema


def _kinds(schema: dict[str, Any]) -> Set[str]:
    """The types of its texts, where an integer is a number."""
    values = _values(schema)
    if values is not None:
        return {kind for kind, _ in values}
    kind = schema.get("type", TYPES)
    kinds = {kind} if isinstance(kind, str) else set(kind)
    return {"number" if one == "integer" else one for one in kinds}


def _values(schema: dict[str, Any]) -> list[tuple[str, Any]] | None:
    """Its values with their types, where they are listed and plain."""
    listed = [schema["const"]] if "const" in schema else schema.get("enum")
    if listed is None or any(isinstance(value, (list, dict)) for value in listed):
        return None
    return [(_kind_of(value), value) for value in listed]


def _kind_of(value: Any) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "boolean"
    return "string" if isinstance(value, str) else "number"


def _property(schema: dict[str, Any], name: str) -> Any:
    if name in schema.get("properties", ()):
        return schema["properties"][name]
    return "patternProperties" in schema or schema.get("additionalProperties", True)
