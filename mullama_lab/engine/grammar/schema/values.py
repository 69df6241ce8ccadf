"""Which values the keywords of JSON Schema take.

llguidance looks at a value only where it needs it: `"minLength": "3"` beside `"type": "integer"`
would pass.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

FORMATS = (
    *("date-time", "time", "date", "duration", "email", "hostname"),
    *("ipv4", "ipv6", "uri", "uuid"),
)
TYPES = ("null", "boolean", "integer", "number", "string", "array", "object")


class Takes(NamedTuple):
    """What a keyword takes, in words and as a test."""

    what: str
    test: Callable[[Any], bool]


def is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def ends_in_escape(expression: str) -> bool:
    """Whether a regular expression ends with a backslash that nothing is after.

    llguidance passes over it.
    """
    return (len(expression) - len(expression.rstrip("\\"))) % 2 == 1


def _is_expression(value: Any) -> bool:
    return isinstance(value, str) and not ends_in_escape(value)


def _is_list(value: Any, least: int = 0) -> bool:
    return isinstance(value, list) and len(value) >= least


def _is_type(value: Any) -> bool:
    kinds = value if isinstance(value, list) else [value]
    return bool(kinds) and all(isinstance(kind, str) and kind in TYPES for kind in kinds)


_TEXT = Takes("a text", lambda value: isinstance(value, str))
_NUMBER = Takes("a number", is_number)
_COUNT = Takes("a whole number from 0 on", lambda value: type(value) is int and value >= 0)
_SCHEMA = Takes("a schema: a dict or a bool", lambda value: isinstance(value, (dict, bool)))
_SCHEMAS = Takes("a list of schemas, one at least", lambda value: _is_list(value, 1))
_NAMED = Takes("a dict of schemas", lambda value: isinstance(value, dict))
_LIMIT = Takes(
    "a number, or a bool in draft 04", lambda value: is_number(value) or isinstance(value, bool)
)

TAKES: dict[str, Takes] = {
    **dict.fromkeys(("$ref", "$anchor", "$schema", "$id", "id"), _TEXT),
    **dict.fromkeys(("minimum", "maximum"), _NUMBER),
    **dict.fromkeys(("exclusiveMinimum", "exclusiveMaximum"), _LIMIT),
    **dict.fromkeys(("minItems", "maxItems", "minLength", "maxLength"), _COUNT),
    **dict.fromkeys(("minProperties", "maxProperties"), _COUNT),
    **dict.fromkeys(("additionalItems", "additionalProperties"), _SCHEMA),
    **dict.fromkeys(("anyOf", "oneOf", "allOf", "prefixItems"), _SCHEMAS),
    **dict.fromkeys(("properties", "$defs", "definitions"), _NAMED),
    "pattern": Takes("a text, with something after each backslash", _is_expression),
    "patternProperties": Takes(
        "a dict of schemas by regular expressions, with something after each backslash",
        lambda value: isinstance(value, dict) and all(map(_is_expression, value)),
    ),
    "items": Takes(
        "a schema, or a list of schemas", lambda value: isinstance(value, (dict, bool, list))
    ),
    "multipleOf": Takes("a number above 0", lambda value: is_number(value) and value > 0),
    "enum": Takes("a list of values, one at least", lambda value: _is_list(value, 1)),
    "required": Takes(
        "a list of names",
        lambda value: _is_list(value) and all(isinstance(name, str) for name in value),
    ),
    "type": Takes(f"one of {', '.join(TYPES)}, or a list of those", _is_type),
    "format": Takes(
        f"one of {', '.join(FORMATS)}", lambda value: isinstance(value, str) and value in FORMATS
    ),
}
