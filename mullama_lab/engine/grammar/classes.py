"""Python's own types as JSON Schema, and texts as values of them, by pydantic.

pydantic reads BaseModel, dataclass, TypedDict, Enum and the forms of typing, and says what is wrong
with a value. It is no dependency: only what is asked for here needs it.
"""

from __future__ import annotations

import json
import sys
import types
import typing
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from functools import lru_cache, reduce
from operator import or_
from typing import Any

from mullama_lab.engine.grammar.json_text import read_json
from mullama_lab.engine.grammar.schema.subschemas import subschemas
from mullama_lab.glyphs import brief

ANY_TEXT = ("path", "password", "binary")  # formats that pydantic gives to plain strings
LONGEST_REASON = 1000  # characters of what pydantic says


def name_of(kind: Any) -> str:
    """A type as it is written in code."""
    is_named = hasattr(kind, "__qualname__") and not _arguments(kind)
    return kind.__qualname__ if is_named else repr(kind)


def schema_of(kind: Any) -> dict[str, Any]:
    """The JSON Schema of a type; objects have no other properties than those of their class.

    Raises:
        TypeError: pydantic makes no schema of it, or does not read its values back.
        ModuleNotFoundError: pydantic is not installed, or what it needs for a part of the type.
    """
    schema = _schema_of_adapter(kind, _adapter(kind))
    _must_read_enums(_adapter(kind).core_schema)
    for _, one in subschemas(schema):
        if isinstance(one, dict):
            _fit(one, schema)
    return schema


def arguments_schema(function: Callable[..., Any]) -> dict[str, Any]:
    """The JSON Schema of what a function is called with: an object of its arguments.

    Raises:
        TypeError: an argument has no JSON Schema, or is given by its place alone.
    """
    schema = schema_of(function)
    if schema.get("type") != "object":
        raise TypeError(
            f"{name_of(function)} takes arguments by their place alone, and a model gives them by "
            "name."
        )
    return schema


def called_with(function: Callable[..., Any], arguments: Mapping[str, Any]) -> Any:
    """What a function returns for arguments by name, each as the type of its hint.

    Raises:
        ValueError: one is none, as pydantic says. What the function raises comes through.
    """
    from pydantic import ValidationError

    data = json.dumps(dict(arguments))
    try:
        return _adapter(function).validate_json(data)
    except ValidationError as error:
        said = "; ".join(_lines(error))[:LONGEST_REASON]
        raise ValueError(f"{name_of(function)} cannot be called with this: {said}.") from None


def value_of(kind: Any, text: str) -> Any:
    """A JSON text as a value of a type.

    Raises:
        ValueError: it is none, as pydantic says; or it is no JSON, or not to its end.
    """
    from pydantic import ValidationError

    read_json(text)  # whose errors tell what is cut off from what is wrong
    try:
        return _adapter(kind).validate_json(text)
    except ValidationError as error:
        said = "; ".join(_lines(error))[:LONGEST_REASON]
        raise ValueError(f"{brief(text)} is no {name_of(kind)}: {said}.") from None


def _lines(error: Any) -> Iterator[str]:
    for one in error.errors(include_url=False, include_input=False, include_context=False):
        place = ".".join(map(str, one["loc"]))
        yield f"{place}: {one['msg']}" if place else one["msg"]


@lru_cache(maxsize=256)
def _adapter(kind: Any) -> Any:
    try:
        from pydantic import TypeAdapter
        from pydantic.errors import PydanticUserError
        from pydantic_core import SchemaError
    except ImportError:
        raise ModuleNotFoundError(
            'Grammar.of needs pydantic. Run: pip install pydantic (it is in "mullama-lab[lab]").',
            name="pydantic",
        ) from None
    try:
        return TypeAdapter(_for_pydantic(kind))
    except RecursionError:
        raise TypeError(
            f"{brief(kind)} holds itself: write it with TypedDict of typing_extensions, which "
            "pydantic asks for before Python 3.12."
        ) from None
    except ImportError as error:  # as of EmailStr
        place = _place_that_fails(kind, set()) or name_of(kind)
        raise ModuleNotFoundError(f"{place}: {_first_line(error)}", name=error.name) from None
    except (PydanticUserError, SchemaError, NameError, AssertionError) as error:
        raise TypeError(f"pydantic makes nothing of {brief(kind)}: {_first_line(error)}") from None


def _place_that_fails(kind: Any, seen: set[int]) -> str:
    """Which field of a type pydantic lacks a package for, as `Person.email`; empty if none."""
    from pydantic import TypeAdapter

    seen.add(id(kind))
    fields: dict[str, Any] = {}
    with suppress(TypeError, NameError):  # no class and no function
        fields = typing.get_type_hints(kind, include_extras=True)
    parts = [(f"{name_of(kind)}.{name}", hint) for name, hint in fields.items()]
    parts += [("", argument) for argument in _arguments(kind) if _is_type(argument)]
    found = ""
    for place, part in parts:
        try:
            TypeAdapter(part)
        except ImportError:
            inner = "" if id(part) in seen else _place_that_fails(part, seen)
            if inner or not _arguments(part):  # else it may be a list of what holds it
                return inner or place
            found = found or place
        except Exception:  # the whole type has another one to tell
            continue
    return found


def _schema_of_adapter(kind: Any, adapter: Any) -> dict[str, Any]:
    from pydantic.errors import PydanticUserError
    from pydantic_core import PydanticSerializationError

    try:
        return json.loads(json.dumps(adapter.json_schema()))
    except (PydanticUserError, PydanticSerializationError, NameError) as error:
        raise TypeError(f"{brief(kind)} has no JSON Schema: {_first_line(error)}") from None


def _must_read_enums(schema: Any) -> None:
    """Refuse an Enum whose values pydantic writes as JSON but does not read back, as tuples."""
    if isinstance(schema, Mapping):
        if schema.get("type") == "enum":
            _must_read_enum(schema["cls"])
        for part in schema.values():
            _must_read_enums(part)
    elif isinstance(schema, (list, tuple)):
        for part in schema:
            _must_read_enums(part)


def _must_read_enum(kind: Any) -> None:
    from pydantic import ValidationError

    adapter = _adapter(kind)
    for member in kind:
        with suppress(ValidationError):
            if adapter.validate_json(adapter.dump_json(member)) is member:
                continue
        raise TypeError(
            f"{name_of(kind)}.{member.name} is {brief(member.value)}, which pydantic does not read "
            "back from JSON. Give it a text, a number or a list for a value."
        )


def _first_line(error: Exception) -> str:
    return " ".join(str(error).split("\n\n")[0].split()).rstrip(".") + "."


def _fit(schema: dict[str, Any], whole: dict[str, Any]) -> None:
    """Say what pydantic asks for and its schema does not; leave out what it does not ask for."""
    if schema.get("type") == "object" and "properties" in schema:
        schema.setdefault("additionalProperties", False)
    if schema.get("format") in ANY_TEXT:
        del schema["format"]
    schema.pop("uniqueItems", None)  # of a set, which takes a value twice
    tag = schema.get("discriminator")
    if isinstance(tag, dict):  # a value is told by it, so it must be there, default or not
        for option in schema["oneOf"]:
            name = option.get("$ref", "").rpartition("/")[2]
            member = whole.get("$defs", {}).get(name, option)
            if "properties" in member and tag["propertyName"] not in member.get("required", ()):
                member["required"] = [tag["propertyName"], *member.get("required", ())]


# typing.TypedDict, which pydantic takes from Python 3.12 on.


def _for_pydantic(kind: Any) -> Any:
    """A type with each TypedDict of typing in it, but in a class, as one of typing_extensions."""
    if sys.version_info >= (3, 12):
        return kind
    if typing.is_typeddict(kind) and type(kind).__module__ == "typing":
        return _typed_dict(kind)
    arguments = _arguments(kind)
    if not arguments or typing.get_origin(kind) is typing.Literal:
        return kind
    changed = tuple(_for_pydantic(one) if _is_type(one) else one for one in arguments)
    if changed == arguments:
        return kind
    if isinstance(kind, types.UnionType):
        return reduce(or_, changed)
    return kind.copy_with(changed) if hasattr(kind, "copy_with") else kind.__origin__[changed]


def _typed_dict(kind: Any) -> Any:
    from typing_extensions import NotRequired, Required, TypedDict

    hints: Mapping[str, Any] = typing.get_type_hints(kind, include_extras=True)
    fields = {}
    for name, hint in hints.items():
        wrap = Required if name in kind.__required_keys__ else NotRequired
        if typing.get_origin(hint) in (Required, NotRequired):
            wrap, hint = typing.get_origin(hint), typing.get_args(hint)[0]
        fields[name] = wrap[_for_pydantic(hint)]
    return TypedDict(kind.__name__, fields)  # type: ignore[operator]


def _arguments(kind: Any) -> tuple[Any, ...]:
    return typing.get_args(kind)


def _is_type(value: Any) -> bool:
    return isinstance(value, type) or bool(_arguments(value))
