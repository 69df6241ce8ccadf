r"""What is written under a JSON Schema validates with `jsonschema`, for schemas of many kinds.

Texts are drawn token by token from what the grammar allows, without a model; a few by models. All
are read with exact decimals, in which `jsonschema` computes `multipleOf` exactly.

Known differences, which the schemas here keep out of the way of:

- `date` and `date-time` take February 29 of every year, and the year 0000; `date-time` takes
  second 60.
- A number without bounds may have any exponent, and Python's decimals end at some.
- A name that `additionalProperties` or `patternProperties` allows may come twice. Readers take
  the last, so fewer than `minProperties` may be left.
- `\d` and `\w` in a pattern are ASCII, as in ECMA-262; for Python's `re` they are not, so it takes
  less for `\D` and `\W`. `$` there also matches before a newline at the end.

The other way round, fewer texts are written than are valid: properties come in the order of the
schema, strings without the escapes `\uXXXX` and `\/` (so of control characters with the usual five
alone), bounded numbers without an exponent, integers without `.0`, and no white space but between
the parts, at most one end of a line and 40 blanks in one place.
"""

from __future__ import annotations

import json
import random
import re
from decimal import Decimal, localcontext

import jsonschema
import pytest

import mullama_lab as ml
from mullama_lab.engine.grammar import Grammar
from mullama_lab.engine.grammar.matching.matcher import matcher
from mullama_lab.engine.words.token_texts import token_texts
from mullama_lab.errors import GrammarError

N_MADE = 300  # schemas
FORMATS = ["date", "ipv4", "ipv6", "email", "uuid", "date-time"]
PATTERNS = ["^[a-z]{2,4}$", "a+b", "^x|y$", "^(ab|cd)*$", r"^\d{3}-\d{4}$", r"^\w+$", "^[^a]*$", ""]
PATTERNS += ["^é", r"^\[.\]$", "^(?:[A-Z][a-z]+ )?[A-Z]", r"\.(png|jpe?g)$", "^.{3}$", "[0-9]$"]
NAMES = ["a", "b", "name", "x y", "é", 'q"', "\\", "", "$ref", "type", "n/~", "日本", "\n"]
VALUES = [None, True, False, 0, -1, 17, 1.5, -0.25, 1e-7, 123456.75, 2**40, 10**18]
VALUES += ["", "a", "é", 'a"b', "x\ny", "\\", "日本", "null", [], [1, "a"], [[None]], {}, {"a": 1}]
VALUES += [{"b": [True], "a": {"x y": "z"}}]


class SchemaMaker:
    """Makes schemas by chance. Some can be met by nothing, and are refused."""

    def __init__(self, seed):
        self.chance = random.Random(seed)
        self.names = []

    def flip(self, p=0.5):
        return self.chance.random() < p

    def one(self, depth=3):
        kinds = [self.value, self.text, self.number, self.plain, self.several_types]
        if depth > 0:
            kinds += [self.array, self.array, self.object, self.object, self.map, self.tuple]
            kinds += [self.any_of, self.one_of, self.all_of, self.anything]
        if self.names:
            kinds += [self.ref] * 2
        return self.chance.choice(kinds)(depth - 1)

    def whole(self):
        self.names = self.chance.sample(["node", "b c", "d/e"], self.chance.choice([0, 0, 0, 1, 2]))
        made = self.one()
        made = made if isinstance(made, dict) else {}
        if self.names:
            made = {"$defs": {name: self.one(2) for name in self.names}, **made}
        if self.flip(0.2):
            made = {"title": "a schema", "description": "made by chance", **made}
        return made

    def ref(self, depth):
        name = self.chance.choice(self.names).replace("/", "~1").replace(" ", "%20")
        ref = {"$ref": f"#/$defs/{name}"}
        kinds = [{"anyOf": [ref, {"type": "null"}]}, {"type": "array", "items": ref}, ref]
        return self.chance.choice(kinds)

    def value(self, depth):
        some = self.chance.sample(VALUES, self.chance.randint(1, 5))
        return {"const": some[0]} if self.flip(0.4) else {"enum": some}

    def plain(self, depth):
        return {"type": self.chance.choice(["null", "boolean", "integer", "number", "string"])}

    def anything(self, depth):
        return self.chance.choice([{}, True, {"type": "object"}, {"type": "array"}])

    def several_types(self, depth):
        types = ["null", "boolean", "integer", "string"]
        return {"type": self.chance.sample(types, 2), "minLength": 1, "minimum": 3}

    def text(self, depth):
        made = {"type": "string"}
        if self.flip():
            made["minLength"] = self.chance.randint(0, 5)
        if self.flip():
            made["maxLength"] = made.get("minLength", 0) + self.chance.randint(0, 6)
        if self.flip(0.4):
            made["pattern"] = self.chance.choice(PATTERNS)
        elif self.flip(0.3):
            made = {"type": "string", "format": self.chance.choice(FORMATS)}
        return made

    def number(self, depth):
        made = {"type": self.chance.choice(["integer", "number"])}
        low = self.chance.choice([0, -5, 100, -1000, 0.5, -2.75, 1e-5, 12345.678, 10**12])
        if self.flip():
            made[self.chance.choice(["minimum", "exclusiveMinimum"])] = low
        if self.flip():
            high = low + self.chance.choice([1, 7, 100, 0.25, 1e6])
            made[self.chance.choice(["maximum", "exclusiveMaximum"])] = high
        if self.flip(0.3):
            made["multipleOf"] = self.chance.choice([1, 2, 5, 7, 0.5, 0.1, 0.01, 25, 1.5])
        return made

    def array(self, depth):
        made = {"type": "array", "items": self.one(depth)}
        if self.flip():
            made["minItems"] = self.chance.randint(0, 3)
        if self.flip():
            made["maxItems"] = made.get("minItems", 0) + self.chance.randint(0, 3)
        return made

    def tuple(self, depth):
        made = {"type": "array", "prefixItems": [self.one(depth) for _ in range(2)]}
        if self.flip():
            made["items"] = self.flip() and self.one(depth)
        if self.flip():
            made["minItems"] = self.chance.randint(0, 2)
        return made

    def object(self, depth):
        names = self.chance.sample(NAMES, self.chance.randint(0, 4))
        made = {"type": "object", "properties": {name: self.one(depth) for name in names}}
        made["required"] = [name for name in names if self.flip()]
        if self.flip():
            made["additionalProperties"] = self.flip() and self.one(depth)
        if self.flip(0.1):
            made["required"].append("more")
        return dict(self.chance.sample(list(made.items()), len(made)))

    def map(self, depth):
        made = {"type": "object", "additionalProperties": self.one(depth)}
        if self.flip():
            made["patternProperties"] = {"^[a-c]": self.one(depth), "^[d-f]": self.one(depth)}
        if self.flip():
            made["maxProperties"] = self.chance.randint(0, 3)
        return made

    def any_of(self, depth):
        return {"anyOf": [self.one(depth) for _ in range(self.chance.randint(1, 3))]}

    def one_of(self, depth):
        kinds = [self.text, self.number, self.array, self.object, lambda _: {"type": "null"}]
        return {"oneOf": [make(depth) for make in self.chance.sample(kinds, 3)]}

    def all_of(self, depth):
        kind = self.chance.choice([self.object, self.number, self.text, self.array, self.any_of])
        made = {"allOf": [kind(depth), kind(depth)]}
        return {**made, "description": "both"} if self.flip() else made


BY_HAND = [
    {"$schema": "http://json-schema.org/draft-04/schema#", "minimum": 3, "exclusiveMinimum": True},
    {
        "$schema": "http://json-schema.org/draft-07/schema#",
        "type": "array",
        "items": [{"type": "integer"}, {"type": "string"}],
        "additionalItems": {"type": "null"},
    },
    {
        "$schema": "http://json-schema.org/draft-07/schema#",
        "definitions": {"a": {"type": "array", "items": {"$ref": "#/definitions/a"}}},
        "$ref": "#/definitions/a",
    },
    {
        "$schema": "https://json-schema.org/draft/2019-09/schema",
        "type": "array",
        "items": [{}, False],
    },
    {
        "$id": "https://example.com/a",
        "items": {"$ref": "#/$defs/b"},
        "$defs": {"b": {"type": "null"}},
    },
    {"$defs": {"b": {"$anchor": "here", "type": "boolean"}}, "items": {"$ref": "#here"}},
    {
        "type": "object",
        "properties": {"a": {}, "b": {}},
        "minProperties": 1,
        "additionalProperties": False,
    },
    {
        "type": "object",
        "properties": {"a": {}, "b": {}},
        "maxProperties": 1,
        "additionalProperties": False,
    },
    {"properties": {"a": {"type": "integer"}}, "patternProperties": {"^a": {"minimum": 3}}},
    {
        "type": "object",
        "anyOf": [{"required": ["a"]}, {"required": ["b"]}],
        "properties": {"a": {}},
    },
    {"allOf": [{"required": ["b"]}, {"properties": {"a": {"const": 1}}, "required": ["a"]}]},
    {"type": "string", "allOf": [{"pattern": "a"}, {"pattern": "b"}, {"maxLength": 5}]},
    {"enum": [1, "a", None], "type": ["integer", "null"]},
    {"type": "number", "minimum": -1e-5, "maximum": 1e-5},
    {"type": "number", "exclusiveMinimum": 0.1, "exclusiveMaximum": 0.2, "multipleOf": 0.01},
    {"type": "number", "exclusiveMinimum": 100, "maximum": 100.25},
    {"type": "number", "minimum": -0.5, "exclusiveMaximum": 0},
    {"allOf": [{"exclusiveMinimum": 99}, {"type": "number", "exclusiveMaximum": 99.5}]},
    {"type": "integer", "exclusiveMinimum": 2**52, "exclusiveMaximum": 2**52 + 2},
    {"type": "integer", "multipleOf": 12, "minimum": 100, "maximum": 1000},
    {"const": 0.1},
    {"const": 1e-7},
    {"const": 123456789.125},
    {"const": -0.0},
    {"const": 1.0},
    {"const": 1e22},
    {"const": 5e-324},
    {"enum": [0.30000000000000004, 1e300]},
]


class Walk:
    """A text drawn from what a grammar allows; towards its end as far as its characters tell."""

    CLOSERS = b'"}]'

    def __init__(self, model, schema):
        self.model, self.pieces = model, token_texts(model).pieces
        self.matcher = matcher(model, Grammar.json_schema(schema))
        self.text = b""

    def step(self, chance, in_haste):
        """Take one token; False at the end."""
        allowed = self.matcher.allowed().nonzero()[0].tolist()
        assert self.matcher.error == ""
        tokens = [token for token in allowed if not self.model.is_eog(token)]
        if not tokens or (len(tokens) < len(allowed) and (in_haste or chance.random() < 0.5)):
            assert self.matcher.is_complete and len(tokens) < len(allowed)
            return False
        closers = [t for t in tokens if self.pieces[t] and self.pieces[t][-1] in self.CLOSERS]
        blank = [t for t in tokens if not self.pieces[t].isspace()]
        if closers and (in_haste or chance.random() < 0.3):
            tokens = closers
        elif blank and chance.random() < 0.8:
            tokens = blank
        token = chance.choice(tokens)
        assert self.matcher.accept(token)
        self.text += self.pieces[token]
        return True

    def to_the_end(self, chance, most=300):
        """The text, or None where it did not come to an end."""
        for n in range(3 * most):
            if not self.step(chance, n > most):
                return self.text.decode()
        return None


def must_validate(schema, text):
    exact = json.loads(json.dumps(schema), parse_float=Decimal)
    value = json.loads(text, parse_float=Decimal)
    kind = jsonschema.validators.validator_for(schema)
    kind.check_schema(schema)
    with localcontext() as context:
        context.prec = 1000
        kind(exact, format_checker=kind.FORMAT_CHECKER).validate(value)


def is_a_known_difference(text):
    return bool(re.search(r"-02-29|:60|\b0000-|[eE][-+]?\d{3}", text))


def validated(model, schema, chance, n):
    """How many of n texts came to their end; each of them is valid."""
    texts = [Walk(model, schema).to_the_end(chance) for _ in range(n)]
    texts = [text for text in texts if text is not None and not is_a_known_difference(text)]
    for text in texts:
        must_validate(schema, text)
    return len(texts)


def test_what_is_written_under_schemas_made_by_chance_validates(pieces_model):
    written, refused = 0, []
    for seed in range(N_MADE):
        schema = SchemaMaker(seed).whole()
        try:
            Grammar.json_schema(schema)
        except GrammarError as error:
            refused.append(str(error))
            continue
        written += validated(pieces_model, schema, random.Random(seed), 4) > 0
    assert written >= 200
    assert all(" at #" in said for said in refused), refused
    assert len(refused) < N_MADE / 3


@pytest.mark.parametrize("schema", BY_HAND, ids=range(len(BY_HAND)))
def test_what_is_written_under_schemas_made_by_hand_validates(pieces_model, schema):
    assert validated(pieces_model, schema, random.Random(1), 12) > 0


def test_what_models_write_under_schemas_validates(pieces_model):
    done = 0
    with pieces_model.session(n_ctx=512) as session:
        for seed in range(60):
            schema = SchemaMaker(1000 + seed).whole()
            try:
                grammar = Grammar.json_schema(schema)
            except GrammarError:
                continue
            trace = session.generate(
                "a", ml.Temperature(1.0), grammar=grammar, max_tokens=200, seed=seed
            )
            if trace.finish_reason == "eog" and not is_a_known_difference(trace.text):
                must_validate(schema, trace.text)
                done += 1
    assert done >= 24


SPOKEN = [
    {"enum": ["red", "green", "blue"]},
    {"type": "integer", "minimum": 1, "maximum": 6},
    {"type": "number", "exclusiveMinimum": 0, "maximum": 1},
    {"type": "string", "maxLength": 30},
    {"type": "string", "format": "date"},
    {"type": "string", "pattern": "^[A-Z][a-z]+ [A-Z][a-z]+$", "maxLength": 24},
    {"type": "array", "items": {"type": "integer"}, "minItems": 3, "maxItems": 3},
    {"type": "array", "items": {"enum": ["a", "b", "c"]}, "maxItems": 5},
    {"type": "array", "prefixItems": [{"type": "boolean"}, {"type": "null"}], "items": False},
    {
        "type": "object",
        "properties": {"name": {"type": "string", "maxLength": 20}, "age": {"type": "integer"}},
        "required": ["name", "age"],
        "additionalProperties": False,
    },
    {
        "type": "object",
        "properties": {"at": {"type": "string", "format": "time"}, "ok": {"type": "boolean"}},
        "required": ["at"],
        "additionalProperties": False,
    },
    {"anyOf": [{"type": "boolean"}, {"type": "null"}, {"type": "string", "format": "ipv4"}]},
]


def test_what_smollm2_writes_under_schemas_validates(smollm2):
    done = 0
    prompts = [f"Some JSON for the schema {json.dumps(schema)}:\n" for schema in SPOKEN]
    with smollm2.session(n_ctx=1024) as session:
        for prompt, schema in zip(prompts, SPOKEN):
            grammar = Grammar.json_schema(schema)
            trace = session.generate(prompt, ml.TopK(20), grammar=grammar, max_tokens=60, seed=3)
            if trace.finish_reason == "eog":
                must_validate(schema, trace.text)
                done += 1
    assert done >= 8
