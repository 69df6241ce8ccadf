"""JSON Schema: what is carried out, and the error for all else, with keyword and path."""

from __future__ import annotations

import http.server
import threading
from functools import reduce

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mullama_lab.engine.grammar import Grammar
from mullama_lab.engine.grammar.matching.matcher import matcher
from mullama_lab.engine.grammar.schema.schema import CARRIED_OUT, SAYING_NOTHING
from mullama_lab.engine.grammar.schema.values import FORMATS, TYPES
from mullama_lab.errors import GrammarError

URL = "http://example.com/x"
INTEGER, TEXT = {"type": "integer"}, {"type": "string"}


def an_object(**properties):
    return {"type": "object", "properties": properties, "required": list(properties)}


REFUSED = [
    # A word that is no keyword, wherever it stands.
    ({"properties": {"a": {**TEXT, "uniqueItems": True}}}, "'uniqueItems' at #/properties/a is no"),
    ({"items": [{}, {"not": {}}]}, "'not' at #/items/1"),
    ({"$defs": {"a/b": {"if": {}}}}, "'if' at #/[$]defs/a~1b"),
    ({"definitions": {"~": {"then": {}}}}, "'then' at #/definitions/~0"),
    ({"anyOf": [{}, {"maxLenght": 3}]}, "'maxLenght' at #/anyOf/1"),
    ({"oneOf": [{"contains": {}}]}, "'contains' at #/oneOf/0"),
    ({"allOf": [{"propertyNames": {}}]}, "'propertyNames' at #/allOf/0"),
    ({"patternProperties": {"^a": {"dependentRequired": {}}}}, "at #/patternProperties/\\^a is no"),
    ({"prefixItems": [{"unevaluatedItems": False}]}, "'unevaluatedItems' at #/prefixItems/0"),
    ({"additionalProperties": {"nullable": True}}, "'nullable' at #/additionalProperties"),
    ({**TEXT, "contentEncoding": "base64"}, "'contentEncoding' at #"),
    ({**TEXT, "contentMediaType": "text/html"}, "'contentMediaType' at #"),
    ({"$dynamicRef": "#a"}, "'[$]dynamicRef' at #"),
    ({"x-guidance": {"lenient": True}}, "'x-guidance' at #"),
    # References.
    ({"items": {"$ref": URL}}, "'[$]ref' at #/items .*Nothing is fetched"),
    ({"$ref": "other.json"}, "Nothing is fetched"),
    ({"$ref": 5}, "'[$]ref' at # is 5: it must be a text"),
    ({"$ref": "#/$defs/a"}, "'[$]ref' at # .*there is no schema in that place"),
    ({"items": {"$ref": "#/default"}, "default": {}}, "at #/items .*no schema in that place"),
    ({"$ref": "#nowhere"}, "no schema in that place"),
    ({"$defs": {"a": {"$id": "b"}}}, "'[$]id' at #/[$]defs/a"),
    ({"anyOf": [{"$anchor": "a"}, {"$anchor": "a"}]}, "'[$]anchor' at #/anyOf/1 is the same"),
    ({"$schema": URL}, "'[$]schema' at # .*Nothing is fetched"),
    # Values that a keyword does not take.
    ({"type": "strin"}, "'type' at # is 'strin'"),
    ({"properties": 5}, "'properties' at # is 5"),
    ({"$schema": 5}, "'[$]schema' at # is 5"),
    ({"pattern": "a\\"}, "'pattern' at # is .*something after each backslash"),
    ({"patternProperties": {"a\\": {}}}, "'patternProperties' at # .*after each backslash"),
    ({"properties": {"a": 5}}, "the schema at #/properties/a is 5"),
    ({**INTEGER, "minLength": "3"}, "'minLength' at # is '3'"),
    ({"items": {"maxItems": -1}}, "'maxItems' at #/items is -1"),
    ({"minimum": True}, "'minimum' at # is True"),
    ({"multipleOf": 0}, "'multipleOf' at # is 0"),
    ({"required": "a"}, "'required' at # is 'a'"),
    ({"enum": []}, "'enum' at # is \\[\\]"),
    ({"anyOf": []}, "'anyOf' at # is \\[\\]"),
    ({"type": []}, "'type' at # is \\[\\]"),
    ({**TEXT, "format": "colour"}, "'format' at # is 'colour'"),
    ({**TEXT, "format": "unknown"}, "'format' at # is 'unknown'"),
    ({**INTEGER, "format": "int32"}, "'format' at # is 'int32'"),
    ({"const": 2**53 + 1}, "'const' at # has 9007199254740993"),
    ({"enum": [{"a": [10**400]}]}, "'enum' at # has about 2"),
    ({"items": {"const": 0.40181682221254356}}, "'const' at #/items has 0.401816"),
    ({"const": "\ud800"}, "surrogate"),
    ({"description": "a" * 300_001}, "may have 300000"),
    # What would be passed over.
    ({"additionalItems": False}, "'additionalItems' at # says nothing"),
    ({"items": [{}], "prefixItems": [{}]}, "'prefixItems' at #"),
    ({"$schema": "http://json-schema.org/draft-07/schema#", "prefixItems": [{}]}, "'prefixItems'"),
    # What llguidance refuses, deep inside.
    ({"items": {**TEXT, "pattern": "((a*)*)*$", "minLength": 1000}}, "at #/items: Unable to det"),
    (an_object(a={"items": {**TEXT, "pattern": "(?=a)"}}), "'pattern' at #/properties/a/items: "),
    (an_object(a={**TEXT, "pattern": r"\bfoo"}), "'pattern' at #/properties/a: lookarounds"),
    (
        an_object(a={"patternProperties": {"a": {}, "b": {}}}),
        "'patternProperties' at #/properties/a",
    ),
    (
        {"items": {"oneOf": [{"minimum": 1}, {"maximum": 5}]}},
        "'oneOf' at #/items: its options must exclude",
    ),
    ({"anyOf": [{"properties": {"a": {}}, "minProperties": 2}]}, "'minProperties' at #/anyOf/0: "),
    ({"items": {**INTEGER, "minimum": 1e300}}, "'minimum' at #/items: "),
    (
        an_object(a={"items": {"$ref": "#", "minProperties": 1}}),
        "at #/properties/a/items: it leads",
    ),
    (
        {"allOf": [{"anyOf": [an_object(**{x + str(n): {}}) for x in "ab"]} for n in range(20)]},
        "'allOf' at #: schema too large",
    ),
    # What nothing can meet, also where the text could do without it.
    (False, "nothing meets"),
    ({**INTEGER, "minimum": 5, "maximum": 3}, "'minimum', 'maximum' at #: Unsatisfiable"),
    ({"properties": {"a": {**INTEGER, "minimum": 5, "maximum": 3}}}, "at #/properties/a: Unsat"),
    (
        {
            "$schema": "http://json-schema.org/draft-07/schema#",
            "properties": {"a": INTEGER, "b": {**INTEGER, "minimum": 5, "maximum": 3}},
        },
        "at #/properties/b: Unsat",
    ),
    ({"items": {**INTEGER, "exclusiveMinimum": 1, "exclusiveMaximum": 2}}, "at #/items: Unsat"),
    (
        {"items": {**INTEGER, "multipleOf": 5, "minimum": 1, "maximum": 4}},
        "'maximum' at #/items: Unsat",
    ),
    ({"$defs": {"a": {**TEXT, "enum": [1, 2]}}}, "'type', 'enum' at #/[$]defs/a: Unsat"),
    ({"anyOf": [{"const": "b", "pattern": "^a"}, TEXT]}, "'const', 'pattern' at #/anyOf/0: Unsat"),
    ({**TEXT, "minLength": 3, "maxLength": 2}, "'minLength', 'maxLength' at #: Unsat"),
    ({**TEXT, "pattern": "^a$", "minLength": 2}, "'minLength', 'pattern' at #|'pattern', 'minL"),
    ({"type": "array", "minItems": 3, "maxItems": 2}, "'minItems', 'maxItems' at #: Unsat"),
    ({"type": "array", "items": False, "minItems": 1}, "'items', 'minItems' at #: Unsat"),
    ({"type": "object", "minProperties": 2, "maxProperties": 1}, "'minProperties', 'maxProp"),
    ({**an_object(a=False)}, "'properties', 'required' at #: Unsat"),
    ({**an_object(a={}, b={}), "maxProperties": 1}, "at #: Unsat"),
    ({"allOf": [TEXT, INTEGER]}, "'allOf' at #: Unsat"),
    (
        {"items": {"allOf": [{**INTEGER, "minimum": 5}, {"maximum": 3}]}},
        "'allOf' at #/items: Unsat",
    ),
    ({"items": {"allOf": [an_object(a=TEXT), an_object(a=INTEGER)]}}, "'allOf' at #/items: Unsat"),
    (
        {
            **an_object(a=an_object(b={"$ref": "#/$defs/i", "type": "string"})),
            "$defs": {"i": INTEGER},
        },
        "'[$]ref' at #/properties/a/properties/b: Unsat",
    ),
    # What leads to itself.
    ({"$ref": "#"}, "the schema at # refers to itself for the same value, by way of # > #[.]"),
    ({"$ref": "#/$defs/a", "$defs": {"a": {"$ref": "#/$defs/a"}}}, "#/[$]defs/a > #/[$]defs/a[.]"),
    (
        {"$defs": {"a": {"$ref": "#/$defs/b"}, "b": {"$ref": "#/$defs/a"}}},
        "#/[$]defs/a > #/[$]defs/b > #/[$]defs/a[.]|#/[$]defs/b > #/[$]defs/a > #/[$]defs/b[.]",
    ),
    ({"allOf": [{"$ref": "#"}]}, "# > #/allOf/0 > #[.]|#/allOf/0 > # > #/allOf/0[.]"),
    ({"items": {"anyOf": [TEXT, {"$ref": "#/items"}]}}, "#/items/anyOf/1 > #/items"),
    # What has no end.
    (an_object(a={"anyOf": [{"$ref": "#"}]}), "# > #/properties/a > #/properties/a/anyOf/0 > #[.]"),
    ({"type": "array", "minItems": 1, "items": {"$ref": "#"}}, "# > #/items > #[.]"),
    ({"type": "array", "minItems": 1, "prefixItems": [{"$ref": "#"}]}, "# > #/prefixItems/0 > #"),
    (
        {"properties": {"a": an_object(b={"$ref": "#/properties/a"})}},
        "at #/properties/a has no end",
    ),
]


@pytest.mark.parametrize(("schema", "said"), REFUSED, ids=range(len(REFUSED)))
def test_a_schema_that_is_not_carried_out_is_refused_by_keyword_and_path(schema, said):
    with pytest.raises(GrammarError, match=said):
        Grammar.json_schema(schema)


def test_a_schema_that_holds_itself_as_a_value_is_refused():
    endless = {}
    endless["properties"] = {"a": endless}
    wide = {}
    wide["anyOf"] = [wide] * 20
    deep = {}
    for _ in range(10_000):
        deep = {"items": deep}
    for schema in (endless, wide, deep):
        with pytest.raises(GrammarError, match="or holds itself"):
            Grammar.json_schema(schema)


def test_a_schema_is_json():
    for schema in ({"enum": [float("nan")]}, {"enum": [{1, 2}]}, {"const": {1: 2}}, 5, "a", None):
        with pytest.raises(TypeError):
            Grammar.json_schema(schema)


def test_nothing_is_fetched():
    asked = []

    class Server(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append(self.path)
            self.send_error(404)

        def log_message(self, *args):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Server) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}/x"
        for refused in ({"$ref": url}, {"$schema": url}, {"items": {"$ref": f"{url}#/a"}}):
            with pytest.raises(GrammarError, match="Nothing is fetched"):
                Grammar.json_schema(refused)
        Grammar.json_schema({"$id": url, "$ref": "#/$defs/a", "$defs": {"a": INTEGER}})
        Grammar.json_schema({"default": {"$ref": url}, "const": {"$ref": url}})
        server.shutdown()
    assert asked == []


@pytest.fixture(scope="module")
def allows(tiny_model):
    """A function: how many bytes of a text a schema allows; True where it may end there."""

    def allowed(schema, text):
        walk = matcher(tiny_model, Grammar.json_schema(schema))
        for place, byte in enumerate(text.encode()):
            if not walk.accept(byte + 3):
                return place
        return walk.is_complete

    return allowed


TREE = {
    "type": "object",
    "properties": {"v": INTEGER, "next": {"anyOf": [{"$ref": "#"}, {"type": "null"}]}},
    "required": ["v", "next"],
}
TAGGED = {
    "$defs": {
        "leaf": an_object(kind={"const": 1}, value=INTEGER),
        "sum": an_object(kind={"const": 2}, of={"type": "array", "items": {"$ref": "#/$defs/any"}}),
        "any": {"oneOf": [{"$ref": "#/$defs/leaf"}, {"$ref": "#/$defs/sum"}]},
    },
    "$ref": "#/$defs/any",
}


def test_a_schema_may_hold_itself_where_it_can_end(allows):
    assert allows(TREE, '{"v": 1, "next": {"v": 2, "next": null}}') is True
    assert allows(TREE, '{"v": 1, "next": 2') == 17
    nested = {
        "$defs": {"a b/%": {"items": {"$ref": "#/$defs/a%20b~1%25"}}},
        "$ref": "#/$defs/a b~1%",
    }
    assert allows(nested, "[[], [[]]]") is True


def test_options_that_exclude_one_another_may_stand_under_one_of(allows):
    text = '{"kind": 2, "of": [{"kind": 1, "value": 3}, {"kind": 2, "of": []}]}'
    assert allows(TAGGED, text) is True
    assert allows(TAGGED, '{"kind": 1, "of"') == 13
    closed = {**an_object(a=INTEGER), "additionalProperties": False}
    assert allows({"oneOf": [closed, an_object(b=INTEGER)]}, '{"b": 1}') is True
    assert allows({"oneOf": [{"enum": ["a", 1]}, {"enum": ["b", True]}, {"const": None}]}, "true")


def test_an_anchor_is_a_place(allows):
    assert allows({"items": {"$ref": "#n"}, "$defs": {"a": {"$anchor": "n", **INTEGER}}}, "[12]")


def test_a_name_cannot_be_spelled_in_another_way(allows):
    """The reader of the text would take it for the property that it spells."""
    assert allows(an_object(a=INTEGER), r'{"\u0061": "x"') == 2
    assert allows({"properties": {"a": INTEGER}}, r'{"\u0061": "x"') == 3
    assert allows({"properties": {'"\n\x01': INTEGER}}, '{"\\"\\n\\u0001": "x"') == 15


def test_white_space_has_an_end(allows):
    assert allows({}, "[" + " " * 40 + "]") is True
    assert allows({}, "[" + " " * 41) == 41
    assert allows({}, '["a", \r\n' + "\t" * 40 + "1\n]") is True
    assert allows({}, "[\n\n1]") == 2
    assert allows(an_object(a={}), '{\n    "a"\t:\r\n {\n        "b": [1, 2]\n    }\n}') is True


def test_one_place_is_found_among_many():
    properties = {f"p{n}": {**INTEGER, "minimum": n} for n in range(1200)}
    for at in ("p0", "p1100"):
        with pytest.raises(GrammarError, match=f"'maximum' at #/properties/{at}: Unsat"):
            bad = {**properties, at: {**INTEGER, "minimum": 2, "maximum": 1}}
            Grammar.json_schema({"type": "object", "properties": bad})


def test_a_schema_as_deep_as_may_be_is_carried_out(allows):
    deep = reduce(lambda below, _: {"type": "array", "items": below}, range(97), INTEGER)
    assert allows(deep, "[" * 97 + "5" + "]" * 97) is True


@pytest.mark.parametrize(
    "schema",
    [
        {**TEXT, "maxLength": 10**9},
        {**TEXT, "minLength": 10**6},
        {"type": "array", "minItems": 2**62, "items": INTEGER},
        {"type": "array", "maxItems": 10**9, "items": INTEGER},
        {**TEXT, "pattern": "(a{1,1000}){1,1000}"},
        {**TEXT, "pattern": "^(.*a.*b.*){30}$"},
        {**TEXT, "pattern": "(a|b)*a(a|b){20}"},
        {**TEXT, "pattern": "((a*)*)*$", "minLength": 100},
        {"enum": [f"value {n}" for n in range(10_000)]},
        {"const": 10**17},
        {"type": "number", "minimum": 1e-10, "maximum": 2e-10},
    ],
    ids=range(11),
)
def test_a_schema_that_asks_for_much_begins_at_once(tiny_model, schema):
    walk = matcher(tiny_model, Grammar.json_schema(schema))
    for _ in range(20):
        tokens = [t for t in walk.allowed().nonzero()[0].tolist() if not tiny_model.is_eog(t)]
        if not tokens:
            break
        assert walk.accept(tokens[len(tokens) // 2])
    assert walk.error == ""


WORDS = st.sampled_from(
    ["a", "#", "#/$defs/a", "#/items", *FORMATS, *TYPES, "^a", "(", "a{9}", "[^b]*$", "\0", "é"]
)
NUMBERS = st.integers(-3, 9) | st.sampled_from(
    [2**63, -(2**63), 2**64, 10**400, 0.1, 1e300, -5e-324]
)
PLAIN = st.none() | st.booleans() | NUMBERS | WORDS | st.floats(allow_nan=False)
KEYWORDS = st.sampled_from(sorted(CARRIED_OUT | SAYING_NOTHING - {"$schema", "id", "$id"}))
HOSTILE = st.recursive(
    PLAIN,
    lambda inner: (
        st.dictionaries(KEYWORDS, inner, max_size=4)
        | st.lists(inner, max_size=3)
        | st.dictionaries(WORDS, inner, max_size=2)
    ),
    max_leaves=12,
)


@given(st.dictionaries(KEYWORDS, HOSTILE, max_size=5))
def test_whatever_is_given_as_a_schema_is_a_grammar_or_an_error(schema):
    try:
        Grammar.json_schema(schema)
    except (GrammarError, TypeError) as error:
        assert str(error)
