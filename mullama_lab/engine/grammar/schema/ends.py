"""Whether a JSON Schema leads anywhere, and a text of it can end.

A schema that refers to itself for the same value (`{"$ref": "#"}`) says nothing, and who reads it
goes round for ever. One that must hold itself (a property that is required and is the same again)
has no finite text, and llguidance would let one begin that cannot be ended.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from typing import Any

from mullama_lab.engine.grammar.schema.subschemas import Places, below
from mullama_lab.errors import GrammarError

Needs = list[tuple[str, ...]]  # one of each tuple must have an end, given by their paths
MOST_SHOWN = 6


def must_end(places: Places) -> None:
    """Refuse a schema in which one leads to itself for the same value, or has no end.

    Raises:
        GrammarError: with the paths that lead back to where they began; or a `$ref` leads nowhere.
    """
    _must_lead_on(places)
    needs = {path: list(_needs(path, one, places)) for path, one in places.by_path.items()}
    needed_by: dict[str, list[str]] = defaultdict(list)
    for path, groups in needs.items():
        for group in groups:
            for other in group:
                needed_by[other].append(path)
    ended: set[str] = set()
    todo = list(needs)
    while todo:
        path = todo.pop()
        if path not in ended and all(any(x in ended for x in group) for group in needs[path]):
            ended.add(path)
            todo.extend(needed_by[path])
    if endless := next((path for path in needs if path not in ended), None):
        ring = _ring(endless, needs, ended)
        raise GrammarError(
            f"the schema at {ring[0]} has no end: it always holds itself, by way of "
            f"{_way(ring)}. Leave it out of 'required', or let it be something else by 'anyOf'."
        )


def _must_lead_on(places: Places) -> None:
    same = {path: list(_for_same_value(path, one, places)) for path, one in places.by_path.items()}
    try:
        TopologicalSorter(same).prepare()
    except CycleError as error:
        ring = error.args[1][:0:-1]  # each is followed by one that refers to it
        raise GrammarError(
            f"the schema at {ring[0]} refers to itself for the same value, by way of "
            f"{_way(ring)}. Put it below a property or an item."
        ) from None


def _for_same_value(path: str, schema: Any, places: Places) -> Iterator[str]:
    if isinstance(schema, dict):
        if "$ref" in schema:
            yield places.path_of(schema["$ref"], path)
        for key in ("allOf", "anyOf", "oneOf"):
            yield from (f"{path}/{key}/{place}" for place in range(len(schema.get(key, ()))))


def _way(ring: list[str]) -> str:
    shown = [*ring[:MOST_SHOWN], "…"] if len(ring) > MOST_SHOWN else ring
    return " > ".join([*shown, ring[0]])


def _ring(path: str, needs: dict[str, Needs], ended: set[str]) -> list[str]:
    """Schemas without an end, each of which needs the next, and the last the first."""
    seen: dict[str, None] = {}
    while path not in seen:
        seen[path] = None
        path = next(group[0] for group in needs[path] if not any(x in ended for x in group))
    paths = list(seen)
    return paths[paths.index(path) :]


def _needs(path: str, schema: Any, places: Places) -> Iterator[tuple[str, ...]]:
    if not isinstance(schema, dict):
        return
    if "$ref" in schema:
        yield (places.path_of(schema["$ref"], path),)
    yield from ((f"{path}/allOf/{place}",) for place in range(len(schema.get("allOf", ()))))
    for key in ("anyOf", "oneOf"):
        if key in schema:
            yield tuple(f"{path}/{key}/{place}" for place in range(len(schema[key])))
    kind = schema.get("type")
    if kind in ("object", ["object"]):
        yield from _needs_of_object(path, schema)
    elif kind in ("array", ["array"]):
        yield from _needs_of_array(path, schema)


def _needs_of_object(path: str, schema: dict[str, Any]) -> Iterator[tuple[str, ...]]:
    for name in schema.get("required", ()):
        if name in schema.get("properties", ()):
            yield (below(path, "properties", name),)
        elif "additionalProperties" in schema and "patternProperties" not in schema:
            yield (f"{path}/additionalProperties",)


def _needs_of_array(path: str, schema: dict[str, Any]) -> Iterator[tuple[str, ...]]:
    key, rest = "prefixItems", "items"
    if isinstance(schema.get("items"), list):
        key, rest = "items", "additionalItems"
    first, least = schema.get(key, ()), schema.get("minItems", 0)
    yield from ((f"{path}/{key}/{place}",) for place in range(min(len(first), least)))
    if least > len(first) and rest in schema:
        yield (f"{path}/{rest}",)
