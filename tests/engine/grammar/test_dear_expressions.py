"""What is refused of an expression is what is dear: measured in processes with a limit of CPU."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from mullama_lab.engine.grammar import Grammar
from mullama_lab.engine.grammar.matching.byte_matcher import byte_matcher
from mullama_lab.engine.grammar.matching.expressions import shape_of_expression
from mullama_lab.engine.grammar.matching.lark_lexemes import LarkLexemes
from mullama_lab.engine.grammar.matching.node_rows import must_be_quick
from mullama_lab.engine.grammar.matching.nullable_rows import MOST_WORK
from mullama_lab.engine.grammar.nodes import Literal, Repeat, Sequence
from mullama_lab.engine.grammar.sources import gbnf_rules
from mullama_lab.errors import GrammarError

# How many of each may stand in a row.
MOST = {
    "(a|b*)": 5000,
    "(?:a|b*|)": 5000,
    "a?": 7071,
    "a*?": 7071,
    "a{0,2}": 7071,
    "(|a)": 7071,
    "(a*b?)": 3535,
    "((a?)(?:b*))": 3535,
    "[^*]?": 2357,
    r"\w{0,2}": 980,
    r"\x{e9}?": 7071,
    r"(?:\w)?": 980,
    r"[\pL-]*": 980,
}
NEVER_EMPTY = ["[?]", "[^*]", "(a:|b)", r"(\(|a)", "(?:ab)", r"a\?", r"\*", "a+", "a{2,3}", "(a|b)"]
CHEAP = [
    "(a*b)",
    "()",
    "(?:a*b?c)",
    "[*?|]",
    "[]?]",
    r"\x{2a}",
    r"[[:alpha:]?]",
    "(?i:a*b)",
    "a|b*|",
]

# Reads an expression without the bound, and follows it by a byte: megabytes more than before.
MEASURE = """
import json, resource, sys
from mullama_lab.engine.grammar.matching import nullable_rows, parts
from mullama_lab.engine.grammar.matching.byte_matcher import byte_matcher
from mullama_lab.engine.grammar.matching.parts import part_of
from mullama_lab.engine.memory.process import ProcessMemory

resource.setrlimit(resource.RLIMIT_CPU, (60, 60))
nullable_rows.MOST_WORK = 10**12
peak = lambda: ProcessMemory.now().peak_bytes / 1e6
kind, given = json.loads(sys.stdin.read())
byte_matcher({"root": part_of("regex", "a?")}).take(b"a")
before = peak()
matcher = byte_matcher({"root": part_of(kind, given)})
matcher.allowed()
print(peak() - before)
"""


@pytest.fixture(scope="module")
def megabytes():
    """A function that reads an expression in a process of its own, whatever it takes."""

    def measured(kind, given):
        done = subprocess.run(
            [sys.executable, "-c", MEASURE],
            input=json.dumps([kind, given]),
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr[-2000:]
        return float(done.stdout)

    return measured


@pytest.mark.parametrize("part", MOST)
def test_as_many_parts_that_may_be_empty_may_stand_in_a_row_as_are_not_too_much(part):
    Grammar.regex(part * MOST[part])
    with pytest.raises(GrammarError, match="such as these it may have [0-9]+[.]"):
        Grammar.regex(part * (MOST[part] + 1))


@pytest.mark.parametrize("part", NEVER_EMPTY + CHEAP)
def test_what_ends_a_row_or_is_nothing_at_all_is_not_counted(part):
    Grammar.regex(part * 10_000)


@pytest.mark.parametrize("part", ["(a|b*)", "[^*]?", r"(?:\w)?"])
def test_what_is_refused_is_dear_and_what_is_not_is_bounded(part, megabytes):
    n = MOST[part]
    at_the_limit, past_it = (megabytes("regex", part * int(by * n)) for by in (1, 2))
    assert at_the_limit < 300
    assert past_it > 2.5 * at_the_limit > 100


@pytest.mark.parametrize("part", ["[?]", "(a:|b)", "(a*b)", "(?:a*b?c)"])
def test_what_is_not_counted_takes_no_memory_to_speak_of(part, megabytes):
    assert megabytes("regex", part * 20_000) < 100


DEAR = "(a|b*)" * 5001
DEAR_ITEMS = '("a" | "b"*) ' * 5001


@pytest.mark.parametrize(
    "text",
    [
        f"start: /{DEAR}/",
        f"start: /{DEAR.replace('|', ' | ')}/x",
        f"start: A\nA: {DEAR_ITEMS}",
        f'start: A\nA: {"B " * 5001}\nB: C | /b*/\nC: "a"',
        f'start: A\n!_A: "b"\nA: {"[C] " * 7072}\nC: "a".."z"',
        f"start: A\nA: {'/a/~0..2 ' * 7072}",
        f'start: text\ntext[stop="."]: {DEAR_ITEMS}',
        f"start: %lark {{\n  start: A\n  A: {DEAR_ITEMS}\n}}",
        f'start: %json {{"pattern": "{DEAR}"}} "."',
        f"start: /a/ // B: /c/\n  | /{DEAR}/",
        f'start: A\nA: {"B?" * 7072}\nB: "b"',
        "start: A\nA: " + '""i [/a/] ' * 7072,
        f'start: "a"\n%ignore {DEAR_ITEMS}',
        f'start: %json {{"$ref": "#/d%65fault", "default": {{"pattern": "{DEAR}"}}}}',
    ],
    ids=[
        *("regex", "blanks", "terminal", "named", "maybe", "times", "stop", "lark", "json", "line"),
        *("unspaced", "empty", "ignored", "referred"),
    ],
)
def test_lark_has_the_same_bound(text):
    with pytest.raises(GrammarError, match="the Lark grammar has .* in a row that may each be"):
        Grammar.lark(text)


@pytest.mark.parametrize(
    "text",
    [
        f"start: {DEAR_ITEMS}",  # a rule's parts are lexemes each
        f"start: {'/(a|b*)/ ' * 5001}",
        f"start: A\nA: {'/a*b/ ' * 5001}",
        f'start: "{DEAR}" // {DEAR}',
        f'start: %json {{"const": "{DEAR}"}}',
        "start: A A\nA: " + '"a"? ' * 4000,
        "start: A B\nA: " + '"a"? ' * 4000 + "\nB: " + '"b"? ' * 4000,
        f'start: A\nA: {"B " * 8000}\nB: "a" | "b"',
        f'start: A\nA: {"B " * 3000}\nB: "a"?',
        f"start: A\nA: [{'/a/? ' * 5000}]",
        f"start: A\nA: /b/{' /a/?' * 4900}\n%ignore /{'c?' * 4900}c/",
    ],
    ids=[
        *("rule", "lexemes", "ends", "text", "const", "twice", "two"),
        *("never empty", "named", "once", "ignored"),
    ],
)
def test_lark_that_is_not_dear_is_read(text):
    Grammar.lark(text)


@pytest.mark.parametrize(
    "schema",
    [
        {"pattern": DEAR},
        {"patternProperties": {DEAR: {}}},
        {
            "properties": {
                "a": {"anyOf": [{"pattern": "^" + "a?" * 5001}, {"pattern": "b?" * 5001}]}
            }
        },
    ],
    ids=["pattern", "names", "two"],
)
def test_json_schema_has_the_same_bound(schema):
    with pytest.raises(GrammarError, match="the JSON Schema has .* in a row that may each be"):
        Grammar.json_schema(schema)


def test_a_property_may_be_called_pattern():
    Grammar.json_schema({"properties": {"pattern": {"type": "string"}}, "default": {"pattern": 1}})


@pytest.mark.parametrize("key", ["const", "default", "enum", "examples"])
def test_a_value_in_a_json_schema_has_no_expressions(key):
    value = {"pattern": DEAR, "patternProperties": {DEAR: {}}}
    schema = {key: [value] if key in ("enum", "examples") else value}
    Grammar.json_schema(schema)
    with pytest.raises(GrammarError, match="the JSON Schema has"):
        Grammar.json_schema({"properties": {key: {"pattern": DEAR}}})


@pytest.mark.parametrize(
    "text",
    [
        f'root ::= "x" {DEAR_ITEMS}',
        f"root ::= x [a-z]\nx ::= {'y ' * 8000} [0-9]\ny ::= z?\nz ::= [A-Z]",
        f"root ::= [^*]{{2}} ({'[^*]? ' * 2358})",
    ],
    ids=["items", "rules", "classes"],
)
def test_gbnf_has_the_same_bound_where_llguidance_follows_it(text):
    with pytest.raises(GrammarError, match="the grammar has .* parts in a row that may each be"):
        byte_matcher(gbnf_rules(text))


def test_gbnf_that_is_not_dear_is_followed():
    text = f"root ::= {'x ' * 3000}\nx ::= [*?]* [a-z]"
    assert byte_matcher(gbnf_rules(text)).take(b"a*b?c.") == 5


def test_the_rows_of_an_expression():
    assert shape_of_expression("a?b*x").head == (3, 3)
    assert shape_of_expression("x(a?b*)c?").tail == (3, 3)
    assert shape_of_expression("(xa?|yb?c?)d?").tail == (3, 3)
    assert shape_of_expression("(a?b?){3}").head == (1, 2)
    assert shape_of_expression("(?x) a ? # b?\n b? ").head == (2, 2)
    assert shape_of_expression("a? b?").head == (2, 2)
    assert shape_of_expression("[^]?]?[]?]?").head == (2, 10)
    assert shape_of_expression(r"[[a-c]&&[?]]?\[?").head == (2, 2)
    assert shape_of_expression("^a?$").head == (1, 1)
    assert shape_of_expression("(?P<n>a|)(?<m>b)?").head == (2, 2)
    assert shape_of_expression("a{,2}b{0}c{2}").head == (3, 3)
    assert shape_of_expression("(a|b?)" * 10).all_work == 200 <= MOST_WORK


@pytest.mark.parametrize("once", ["({})?", "({})??", "({}){{0,1}}", "({}){{1}}"])
def test_what_does_not_repeat_does_not_go_round(once):
    assert shape_of_expression(once.format("a?" * 10)).all_work == 100
    assert shape_of_expression("(" + "a?" * 10 + "){0,2}").all_work == 500


def test_gbnf_that_does_not_repeat_does_not_go_round():
    row = Sequence((Repeat(Literal("a"), 0, 1),) * 5000)
    must_be_quick([Repeat(row, 0, 1)], {})
    with pytest.raises(GrammarError, match="the grammar has 10000 parts in a row"):
        must_be_quick([Repeat(row, 0, None)], {})


@pytest.mark.parametrize(
    "text",
    [
        "(?x)(?-x)a? #?b?",
        "(?x)(?-x:a? #?b?)",
        "(?x-x:a? #?b?)",
        "(?x)(?i-sx)a? #?b?",
        "(?<x>)a? #?b?",
    ],
)
def test_a_blank_is_a_character_where_x_is_cleared(text):
    assert not shape_of_expression(text).may_be_empty
    assert shape_of_expression(text).tail.n == 2


def test_the_refusal_names_the_row_that_is_dear():
    long, wide = "a?" * 3000, r"(?:\w)?" * 1500
    for text in (long + "x" + wide, wide + "x" + long):
        with pytest.raises(GrammarError, match="has 1501 parts in a row"):
            Grammar.regex(f"x{text}x")
    with pytest.raises(GrammarError, match="has 4901 .* of all together it may have 2[.]"):
        Grammar.regex(("a?" * 4900 + "x") * 3)


# Reads a text that takes minutes or hours where its rest is read again at each place.
READ = """
import json, resource, sys
from mullama_lab.engine.grammar.matching.expressions import shape_of_expression
from mullama_lab.engine.grammar.matching.lark_lexemes import LarkLexemes
from mullama_lab.engine.grammar.matching.parts import _VERBOSE

resource.setrlimit(resource.RLIMIT_CPU, (30, 30))
read = {"regex": shape_of_expression, "lark": LarkLexemes, "flags": _VERBOSE.search}[sys.argv[1]]
read(sys.stdin.read())
"""
RUNS = {
    "regex": {
        "times": "a{" + " " * 10_000 + "," + " " * 10_000,
        "comment": "#" * 800_000,
        "name": "(?<" * 400_000,
        "letters": r"\p{" * 400_000,
        "code": r"\x{" * 400_000,
        "flags": "(?" + "a" * 400_000,
    },
    "lark": {
        "times": 'A: "a"{' + " " * 10_000 + "," + " " * 10_000,
        "prefix": "!" * 200_000,
        "low lines": "_" * 200_000,
        "quote": '"' + '\\"' * 150_000,
        "expression": "/" + "\\/" * 150_000,
        "backslash": "\\/" * 150_000 + "\\",
        "json": "%json\n" * 300_000,
    },
    "flags": {"verbose": "(?" + "x" * 400_000},
}


@pytest.mark.parametrize(
    ("kind", "name"), [(kind, name) for kind, texts in RUNS.items() for name in texts]
)
def test_nothing_is_read_again_and_again(kind, name):
    done = subprocess.run([sys.executable, "-c", READ, kind], input=RUNS[kind][name], text=True)
    assert done.returncode == 0


def test_what_is_no_lark_is_left_to_what_reads_it():
    for text in ("", "\n", "A", 'A: "', "a: (((", "%json", "%json {", "a: ~ .. B", ")]|*", "A: A"):
        assert LarkLexemes(text).shapes is not None
