"""A class or a type is a grammar of its JSON texts, and reads them."""

from __future__ import annotations

import builtins
import copy
import enum
import pickle
import random
import re
import typing
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import Annotated, Any, Literal, Optional

import pandas as pd
import pydantic
import pytest
import typing_extensions

import mullama_lab as ml
from mullama_lab.engine import tiny
from mullama_lab.engine.grammar import Grammar
from mullama_lab.engine.grammar.matching.matcher import matcher
from mullama_lab.engine.words.token_texts import token_texts
from mullama_lab.errors import GrammarError


class Colour(enum.Enum):
    RED = "red"
    BLUE = "blue"


@dataclass
class Point:
    x: int
    y: int = 0


class Named(typing.TypedDict):
    name: str
    point: typing_extensions.NotRequired[Point]


class Cat(pydantic.BaseModel):
    kind: Literal["cat"] = "cat"
    lives: int = pydantic.Field(ge=1, le=9)


class Dog(pydantic.BaseModel):
    kind: Literal["dog"] = "dog"
    friends: list[Pet] = []


Pet = Annotated[Cat | Dog, pydantic.Field(discriminator="kind")]


class Shelter(pydantic.BaseModel):
    since: date
    where: Path
    pets: dict[str, Pet]
    spot: Point | None = None


Dog.model_rebuild()
Shelter.model_rebuild()


@dataclass
class Tree:
    value: int
    below: list[Tree] = field(default_factory=list)


KINDS = [
    (Colour, '"blue"', Colour.BLUE),
    (Point, '{"x": 3}', Point(3)),
    (Point, '{"x": 3, "y": -1}', Point(3, -1)),
    (Named, '{"name": "a"}', {"name": "a"}),
    (list[Named], '[{"name": "a", "point": {"x": 1}}]', [{"name": "a", "point": Point(1)}]),
    (Cat, '{"kind": "cat", "lives": 9}', Cat(lives=9)),
    (
        Dog,
        '{"kind": "dog", "friends": [{"kind": "dog"}, {"kind": "cat", "lives": 2}]}',
        Dog(friends=[Dog(), Cat(lives=2)]),
    ),
    (
        Shelter,
        '{"since": "2026-01-31", "where": "a b", "pets": {"x": {"kind": "dog"}}, "spot": null}',
        Shelter(since=date(2026, 1, 31), where=Path("a b"), pets={"x": Dog()}),
    ),
    (Tree, '{"value": 1, "below": [{"value": 2, "below": []}]}', Tree(1, [Tree(2)])),
    (list[int], "[1, 2]", [1, 2]),
    (set[int], "[1, 2, 1]", {1, 2}),
    (tuple[int, str], '[1, "a"]', (1, "a")),
    (Literal["a", 1], "1", 1),
    (Optional[int], "null", None),  # noqa: UP045
    (int | str, '"a"', "a"),
    (dict[str, list[Point]], '{"p": [{"x": 1}]}', {"p": [Point(1)]}),
    (Annotated[int, pydantic.Field(gt=3)], "4", 4),
    (bool, "true", True),
    (Any, '[{"a": null}]', [{"a": None}]),
]


def accepted(model, grammar, text):
    walk = matcher(model, grammar)
    for place, byte in enumerate(text.encode()):
        if not walk.accept(byte + 3):
            return place
    return walk.is_complete


@pytest.mark.parametrize(("kind", "text", "value"), KINDS, ids=range(len(KINDS)))
def test_a_text_of_a_type_is_allowed_and_is_a_value_of_it(tiny_model, kind, text, value):
    grammar = Grammar.of(kind)
    assert accepted(tiny_model, grammar, text) is True
    found = grammar.parse(text)
    assert found == value and type(found) is type(value)


@pytest.mark.parametrize(("kind", "text", "value"), KINDS, ids=range(len(KINDS)))
def test_a_grammar_of_a_type_is_a_value(kind, text, value):
    grammar = Grammar.of(kind)
    for other in (Grammar.of(kind), copy.deepcopy(grammar), pickle.loads(pickle.dumps(grammar))):
        assert other == grammar and hash(other) == hash(grammar) and repr(other) == repr(grammar)
        assert other.parse(text) == value
    stored = Grammar.from_dict(grammar.to_dict())
    assert stored == grammar and stored.rules == grammar.rules
    for one in (stored, Grammar.from_dict(stored.to_dict()), eval(repr(stored))):
        with pytest.raises(TypeError, match="a file has no classes"):
            one.parse(text)
        with pytest.raises(ValueError, match="cut off"):
            one.parse("[")


def test_a_trace_of_a_class_that_cannot_be_pickled_can(session):
    @dataclass
    class Local:
        n: Literal[5]

    trace = generated(session, Grammar.of(Local))
    assert trace.parsed == Local(5)
    assert copy.deepcopy(trace).parsed == Local(5)
    loaded = pickle.loads(pickle.dumps(trace))
    assert loaded.parsed_so_far == {"n": 5}
    with pytest.raises(TypeError, match=r"Grammar\.of\(.*Local\)"):
        _ = loaded.parsed


def test_a_grammar_of_a_type_prints_as_code():
    assert repr(Grammar.of(Point)) == "Grammar.of(Point)"
    assert repr(Grammar.of(list[int])) == "Grammar.of(list[int])"
    assert repr(Grammar.of(Literal["a"])) == "Grammar.of(typing.Literal['a'])"
    assert ml.Constrain(Grammar.of(Point)).to_code() == "ml.Constrain(ml.Grammar.of(Point))"


@pytest.mark.parametrize(
    ("kind", "text", "place"),
    [
        (Point, '{"x": 1, "z": 2}', 10),  # no other properties than those of the class
        (Point, '{"x": 1.5', 7),
        (Colour, '"green"', 1),
        (Cat, '{"lives": 9}', 2),  # what tells it from others is there, although it has a default
        (Cat, '{"kind": "cat", "lives": 10', 26),
        (tuple[int, str], '[1, "a", 2', 7),
    ],
)
def test_what_is_no_text_of_a_type_is_not_allowed(tiny_model, kind, text, place):
    grammar = Grammar.of(Pet if kind is Cat else kind)
    assert accepted(tiny_model, grammar, text) == place


def test_texts_drawn_by_chance_are_values(pieces_model):
    pieces, n = token_texts(pieces_model).pieces, 0
    for kind, _, _ in KINDS:
        for seed in range(5):
            chance, walk, text = random.Random(seed), matcher(pieces_model, Grammar.of(kind)), b""
            for _ in range(300):
                allowed = walk.allowed().nonzero()[0].tolist()
                tokens = [token for token in allowed if not pieces_model.is_eog(token)]
                if not tokens or (len(tokens) < len(allowed) and chance.random() < 0.5):
                    Grammar.of(kind).parse(text.decode())
                    n += 1
                    break
                closers = [token for token in tokens if pieces[token][-1:] in (b'"', b"}", b"]")]
                token = chance.choice(closers if closers and chance.random() < 0.4 else tokens)
                assert walk.accept(token)
                text += pieces[token]
    assert n > 60


def test_what_is_no_value_says_why():
    with pytest.raises(ValueError, match="is cut off: give the run more max_tokens"):
        Grammar.of(Point).parse('{"x": 1')
    with pytest.raises(ValueError, match="is no Point: x: Input should be a valid integer"):
        Grammar.of(Point).parse('{"x": "a"}')
    with pytest.raises(ValueError, match=r"is no list\[int\]: 1: "):
        Grammar.of(list[int]).parse("[1, null]")
    with pytest.raises(ValueError, match="is no JSON: .* Look at the text"):
        Grammar.json_schema({}).parse("yes")
    with pytest.raises(ValueError, match="is no JSON"):
        Grammar.json_schema({}).parse("[" * 100_000)
    for text in ("NaN", "Infinity", "\ud800", "", "1 2"):
        with pytest.raises(ValueError):
            Grammar.json_schema({}).parse(text)
    for grammar in (Grammar.choice(["1"]), Grammar.json_schema({}) + "!", Grammar.regex("1")):
        with pytest.raises(TypeError, match="no value but themselves"):
            grammar.parse("1")
    with pytest.raises(TypeError, match="is no text"):
        Grammar.of(int).parse(b"1")
    assert Grammar.json_schema({"type": "array"}).parse(' [1, {"a": 2.5}]') == [1, {"a": 2.5}]


class Odd:
    pass


class Holder(typing.TypedDict):
    inner: Holder | None


class Keyed(pydantic.BaseModel):
    by_colour: dict[Colour, int]


def test_a_type_without_a_schema_is_refused():
    looks_around = typing.Annotated[str, pydantic.Field(pattern="(?=a)b")]
    nothing = typing.Literal[()]
    for kind in (Odd, 5, "NoSuch", print, [int], None.__class__.__call__, looks_around, nothing):
        with pytest.raises(TypeError):
            Grammar.of(kind)
    with pytest.raises(GrammarError, match="Schema of Keyed: 'propertyNames' at #/properties/by_c"):
        Grammar.of(Keyed)


def test_without_pydantic_it_is_said_what_to_install(monkeypatch):
    real = builtins.__import__

    def without(name, *args, **kwargs):
        if name.startswith("pydantic"):
            raise ImportError(name)
        return real(name, *args, **kwargs)

    class New(typing.TypedDict):  # of which nothing is known from before
        x: int

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(ModuleNotFoundError, match="pip install pydantic"):
        Grammar.of(New)


class Mail:
    """A type for which pydantic needs a package that is not there, as it may be with EmailStr."""

    @classmethod
    def __get_pydantic_core_schema__(cls, source, handler):
        raise ImportError("mail-validator is not installed, run `pip install mail-validator`")


@dataclass
class Person:
    friends: list[Person]
    name: str
    mail: Mail


class Team(typing.TypedDict):
    people: dict[str, list[Person]]


def write_to(address: Mail) -> None: ...


@pytest.mark.parametrize(
    ("kind", "place"),
    [
        (Person, "Person.mail"),
        (Team, "Person.mail"),
        (write_to, "write_to.address"),
        (Mail, "Mail"),
        (list[Mail], r"list\[.*Mail\]"),
    ],
)
def test_a_package_that_pydantic_lacks_for_a_field_is_named_with_it(kind, place):
    with pytest.raises(ModuleNotFoundError, match=f"{place}: mail-validator is not installed, run"):
        Grammar.of(kind)


class Size(enum.Enum):
    SMALL = (1, 2)
    LARGE = "large"


class Ways(enum.Enum):
    PAIR = (1, 2)
    NAMES = ["a", "b"]
    NUMBER = 1.5
    NOTHING = None

    @classmethod
    def _missing_(cls, value):
        return cls.PAIR if value == [1, 2] else None


@dataclass
class Shirt:
    sizes: dict[str, list[Size | None]]


def test_an_enum_is_read_back_or_refused():
    for kind in (Size, Shirt):
        with pytest.raises(
            TypeError, match=r"Size.SMALL is \(1, 2\), which pydantic does not read"
        ):
            Grammar.of(kind)
    grammar = Grammar.of(Ways)
    assert {grammar.parse(text) for text in grammar.examples(9)} == set(Ways)
    odd = enum.Enum("Odd", {"A": object()})
    with pytest.raises(TypeError, match="has no JSON Schema: Unable to serialize"):
        Grammar.of(odd)


SCHEMA = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}
SHORT = {**SCHEMA, "additionalProperties": False}


@pytest.fixture(scope="module")
def session(tiny_model):
    with tiny_model.session(n_ctx=512) as session:
        yield session


def generated(session, grammar, **settings):
    chain = ml.Temperature(1.0)
    settings = {"max_tokens": 200, "seed": 1, **settings}
    return session.generate("a", chain, grammar=grammar, **settings)


def test_a_trace_has_the_value_of_its_text(session):
    traces = [generated(session, Grammar.of(Point), seed=seed) for seed in range(3)]
    assert all(isinstance(trace.parsed, Point) for trace in traces)
    table = pd.DataFrame([trace.parsed for trace in traces])
    assert list(table.columns) == ["x", "y"] and len(table) == 3
    table = pd.DataFrame([generated(session, Grammar.json_schema(SHORT), seed=5).parsed])
    assert table["n"].dtype == "int64"
    loaded = ml.Trace.from_dict(traces[0].to_dict())
    with pytest.raises(TypeError, match=r"Make the grammar again, Grammar\.of\(Point\)"):
        _ = loaded.parsed
    assert Grammar.of(Point).parse(loaded.text) == traces[0].parsed
    assert loaded == traces[0], "a trace is what a file has of it"
    cut = generated(session, Grammar.of(Point), max_tokens=3)
    assert ml.Trace.from_dict(cut.to_dict()).parsed is None is cut.parsed
    assert pickle.loads(pickle.dumps(traces[0])).parsed == traces[0].parsed


def test_a_trace_has_no_value_where_there_is_none(session):
    cut = generated(session, Grammar.json_schema(SHORT), max_tokens=3)
    assert cut.parsed is None
    with pytest.raises(ValueError, match="cut off"):
        Grammar.json_schema(SHORT).parse(cut.text)
    assert generated(session, Grammar.choice(["12", "13"])).parsed is None
    assert generated(session, None, max_tokens=3).parsed is None


def test_the_json_so_far_grows_while_it_runs(session):
    grammar = Grammar.json_schema({"enum": [{"name": "Ada", "list": [1, {"n": True}]}]})
    run = session.start("a", ml.Greedy(), grammar=grammar, max_tokens=200)
    seen = [run.trace.parsed_so_far for _ in run]
    trace = run.wait()
    assert trace.parsed_so_far == trace.parsed == {"name": "Ada", "list": [1, {"n": True}]}
    prefixes = [trace[:n].parsed_so_far for n in range(len(trace))]
    assert prefixes[0] is None and {} in prefixes
    for value in ({"name": ""}, {"name": "Ad"}, {"name": "Ada", "list": []}):
        assert value in prefixes
    assert all(value in [*prefixes, trace.parsed] for value in seen)


@pytest.mark.parametrize("name", ["text", "expression", "token"])
def test_what_comes_before_a_marker_is_no_part_of_the_value(tmp_path_factory, name):
    kinds = [2, 3, 3, *[6] * tiny.N_BYTES, 3, 1]
    path = tmp_path_factory.mktemp("after") / "after.gguf"
    tiny.write(path, pieces=("</think>", "x[1"), metadata={"tokenizer.ggml.token_type": kinds})
    think = tiny.N_VOCAB
    after = {"text": "</think>", "expression": re.compile("[w-y]+"), "token": think}[name]
    begin = [ord("{") + 3, think + 1 if name == "expression" else think]
    with ml.Model.load(path) as model, model.session(n_ctx=256) as session:

        def force(logits, history, start=[]):  # noqa: B006
            start or start.append(len(history))
            if len(history) - start[0] < len(begin):
                logits[begin[len(history) - start[0]]] = 99
            return logits

        stage = ml.Constrain(Grammar.json_schema({"enum": [[1, 23]]}), after=after)
        trace = session.generate("a", ml.Custom(force) | stage | ml.Greedy(), max_tokens=200)
    assert trace.text.startswith("{") and trace.finish_reason == "eog"
    assert trace.parsed == trace.parsed_so_far == [1, 23]
    assert trace[:1].parsed is trace[:1].parsed_so_far is None


def test_the_json_so_far_of_what_is_none_is_none(session):
    assert generated(session, Grammar.choice(["yes", "no"])).parsed_so_far is None
