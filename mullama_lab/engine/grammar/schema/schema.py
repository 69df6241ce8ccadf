"""JSON Schema: what of it is carried out, and the error for all else, with keyword and path.

llguidance refuses keywords of JSON Schema that it does not know, and passes over any other word;
here both are refused, since a misspelt keyword would constrain nothing, in silence. So is what it
takes and makes nothing of. A `$ref` goes to a place in the same schema; none is ever fetched.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from decimal import Decimal
from typing import Any

from mullama_lab.engine.grammar.schema.ends import must_end
from mullama_lab.engine.grammar.schema.subschemas import OF_THE_WHOLE, Places, subschemas
from mullama_lab.engine.grammar.schema.values import TAKES
from mullama_lab.errors import GrammarError
from mullama_lab.glyphs import brief

CARRIED_OUT = {
    *("anyOf", "oneOf", "allOf", "$ref", "const", "enum", "type"),
    *("items", "additionalItems", "prefixItems", "minItems", "maxItems"),
    *("properties", "additionalProperties", "patternProperties", "required"),
    *("minProperties", "maxProperties", "minLength", "maxLength", "pattern", "format"),
    *("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"),
}
SAYING_NOTHING = {
    *("$anchor", "$defs", "definitions", "$schema", "$id", "id", "$comment"),
    *("title", "description", "default", "examples", "deprecated", "readOnly", "writeOnly"),
    "discriminator",  # OpenAPI: a hint which option of `oneOf` is meant, as pydantic writes it
}
DRAFTS = {
    **{f"http://json-schema.org/draft-{n}/schema": n for n in ("04", "06", "07")},
    **{f"https://json-schema.org/draft/{n}/schema": n for n in ("2019-09", "2020-12")},
}
DEEPEST = 100  # schemas and lists within one another
MOST_PARTS = 1_000_000  # on one level

WITH_VALUES = ("const", "enum", "minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum")
WITH_VALUES += ("multipleOf",)


def schema_text(schema: Any) -> str:
    """A schema as JSON, its keys in order, after it was looked through.

    Raises:
        GrammarError: a keyword that is not carried out, a value that its keyword does not take, or
            a `$ref` to elsewhere, with the path; or it is too deep.
        TypeError: it is no dict, or holds what JSON has not.
    """
    if not isinstance(schema, (Mapping, bool)):
        raise TypeError(
            f"a JSON Schema is a dict such as {{'type': 'object'}}, not {brief(schema)}."
        )
    _must_not_be_deep(schema)
    try:
        text = json.dumps(schema, ensure_ascii=False, allow_nan=False, default=_plain)
        text.encode()
    except UnicodeEncodeError:
        raise GrammarError("the schema holds a lone surrogate, half of a character.") from None
    except (TypeError, ValueError) as error:
        raise TypeError(f"the schema holds what JSON has not: {error}.") from None
    whole = json.loads(text)
    draft = draft_of(whole)
    for path, found in subschemas(whole):
        _look_through(path, found, draft)
    must_end(Places(whole))
    return text


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return dict(value)
    raise TypeError(f"{brief(value)} is a {type(value).__name__}")


def _must_not_be_deep(schema: Any) -> None:
    """json.dumps would go down as far as Python's stack allows, or for ever."""
    level = [schema]
    for _ in range(DEEPEST):
        level = [
            inside
            for value in level
            if isinstance(value, (Mapping, list, tuple))
            for inside in (_values(value) if isinstance(value, Mapping) else value)
        ]
        if not level:
            return
        if len(level) > MOST_PARTS:
            raise GrammarError("the schema has too many parts, or holds itself.")
    raise GrammarError(f"the schema is more than {DEEPEST} levels deep, or holds itself.")


def _values(data: Mapping[Any, Any]) -> Iterator[Any]:
    for key, value in data.items():
        if not isinstance(key, str):
            raise TypeError(f"the schema has the key {brief(key)}; in JSON a key is a text.")
        yield value


def _look_through(path: str, schema: Any, draft: str) -> None:
    if isinstance(schema, bool):
        return
    if not isinstance(schema, dict):
        raise GrammarError(f"the schema at {path} is {brief(schema)}: it must be a dict or a bool.")
    for key, value in schema.items():
        if key not in CARRIED_OUT and key not in SAYING_NOTHING:
            raise GrammarError(
                f"{brief(key)} at {path} is no keyword that is carried out. Take it out if the "
                f"text need not keep to it. Carried out are {', '.join(sorted(CARRIED_OUT))}."
            )
        if key in OF_THE_WHOLE and path != "#":
            raise GrammarError(
                f"{key!r} at {path}: a schema within another cannot have one, which would change "
                "what '$ref' means in it. Take it out."
            )
        if key in TAKES and not TAKES[key].test(value):
            raise GrammarError(
                f"{key!r} at {path} is {brief(value)}: it must be {TAKES[key].what}."
            )
        if key in WITH_VALUES:
            _must_be_exact(f"{key!r} at {path}", value)
    _must_be_read_as_written(path, schema, draft)


def _must_be_read_as_written(path: str, schema: dict[str, Any], draft: str) -> None:
    """Refuse what llguidance passes over: keywords for lists that depend on others beside them."""
    if "additionalItems" in schema and not isinstance(schema.get("items"), list):
        raise GrammarError(
            f"'additionalItems' at {path} says nothing where 'items' is no list of schemas. Write "
            "'prefixItems' and 'items'."
        )
    if "prefixItems" in schema and (draft != "2020-12" or isinstance(schema.get("items"), list)):
        raise GrammarError(
            f"'prefixItems' at {path} is of draft 2020-12, where '$schema' is that or left out and "
            "'items' is no list."
        )


def draft_of(whole: Any) -> str:
    """Which draft a schema is in: "04", "06", "07", "2019-09" or "2020-12", the default.

    Raises:
        GrammarError: `$schema` names no draft that is known.
    """
    name = whole.get("$schema") if isinstance(whole, dict) else None
    if name is None:
        return "2020-12"
    if isinstance(name, str) and (found := DRAFTS.get(name.rstrip("#"))):
        return found
    raise GrammarError(
        f"'$schema' at # is {brief(name)}, and must be one of {', '.join(DRAFTS)}. Nothing is "
        "fetched; leave it out for the last."
    )


def _must_be_exact(whose: str, value: Any) -> None:
    """Refuse a number that llguidance would read as another one."""
    todo = [value]
    while todo:
        one = todo.pop()
        if isinstance(one, (list, dict)):
            todo.extend(one.values() if isinstance(one, dict) else one)
        elif isinstance(one, (int, float)) and not _is_exact(one):
            raise GrammarError(
                f"{whose} has {brief(one)}, which would be rounded here, as some numbers of more "
                "than 15 digits are. Give it fewer, or write it as a string with a pattern."
            )


def _is_exact(number: int | float) -> bool:
    """Whether serde_json, which divides or multiplies by a power of ten, reads it as it is."""
    if isinstance(number, int):
        return abs(number) < 2**63 and int(Decimal(repr(float(number)))) == number
    _, digits, exponent = Decimal(repr(number)).as_tuple()
    read = float(int("".join(map(str, digits))))
    assert isinstance(exponent, int)  # JSON has no infinity
    while exponent:
        by = max(-308, min(exponent, 308))
        read = read * 10.0**by if by > 0 else read / 10.0**-by
        exponent -= by
    return read == abs(number)
