"""No grammar that a person can type ends the process, on the main thread or on a session's."""

from __future__ import annotations

SCRIPT = """
import sys
import mullama_lab as ml
from mullama_lab.engine.grammar import Grammar

model = ml.Model.load(sys.argv[1])
session = model.session(n_ctx=256, n_threads=1)

def run(make):
    def call():
        session.generate("a", ml.Temperature(1.5), grammar=make(), max_tokens=6, seed=1)
    return call

def chain(first, body, last, n):
    lines = [first, *(body.format(i, i + 1) for i in range(n)), last.format(n)]
    return "\\n".join(lines)

deep_json = {}
for _ in range(5000):
    deep_json = {"items": deep_json}
refs = {f"d{i}": {"allOf": [{"$ref": f"#/$defs/d{i + 1}"}]} for i in range(4000)}
grammars = {
    "a line of rules": lambda: Grammar.gbnf(
        chain("root ::= r0", "r{} ::= r{}", 'r{} ::= "a"', 19_000)),
    "a line of rules and more": lambda: Grammar.gbnf(
        chain("root ::= r0", 'r{} ::= "(" r{} ")"', 'r{} ::= "a"', 12_000)),
    "a line of lark rules": lambda: Grammar.lark(
        chain("start: r0", 'r{}: r{} "b"', 'r{}: "a"', 12_000)),
    "a line of lark terminals": lambda: Grammar.lark(
        chain("start: R0", 'R{}: "x" R{}', 'R{}: "a"', 12_000)),
    "a line of references": lambda: Grammar.json_schema(
        {"$ref": "#/$defs/d0", "$defs": {**refs, "d4000": {"type": "string"}}}),
    "references in a circle": lambda: Grammar.json_schema(
        {"$ref": "#/$defs/a", "$defs": {"a": {"$ref": "#/$defs/a"}}}),
    "deep json": lambda: Grammar.json_schema(deep_json),
    "a megabyte of schema": lambda: Grammar.json_schema(
        {"enum": [f"value {n}" for n in range(70_000)]}),
    "a wide schema": lambda: Grammar.json_schema(
        {"properties": {f"p{n}": {"minimum": n} for n in range(6000)}}),
    "a schema that grows": lambda: Grammar.json_schema({"allOf": [
        {"anyOf": [{"required": [x + str(n)]} for x in "ab"]} for n in range(40)]}),
    "a pattern that grows": lambda: Grammar.json_schema(
        {"type": "string", "pattern": "^(.*a.{20}){3}$", "minLength": 10**6}),
    "items without number": lambda: Grammar.json_schema(
        {"type": "array", "minItems": 2**63, "items": {"maxLength": 2**63}}),
    "numbers past all": lambda: Grammar.json_schema(
        {"type": "number", "minimum": -1e308, "maximum": 1e308, "multipleOf": 1e-300}),
    "deep parentheses": lambda: Grammar.gbnf("root ::= " + "(" * 9000 + ")" * 9000),
    "as deep as may be": lambda: Grammar.gbnf(
        "root ::= " + '("a" | ' * 50 + '"c" root' + ' "b")' * 50),
    "deep groups of a regex": lambda: Grammar.regex("(" * 9000 + ")" * 9000),
    "a regex that grows": lambda: Grammar.regex("(.*a.{20}){3}"),
    "a regex of a million": lambda: Grammar.regex("(a{1000}){1000}"),
    "backwards": lambda: Grammar.gbnf('root ::= "a"{3,2}'),
    "a million times": lambda: Grammar.gbnf('root ::= "a"{0,1000000}'),
    "many alternatives": lambda: Grammar.gbnf(
        "root ::= " + " | ".join(f'[a-z]* "{n}"' for n in range(20_000))),
    "left recursion": lambda: Grammar.gbnf('root ::= x root "b" | "c"\\nx ::= y y\\ny ::= "a"*'),
    "a typo": lambda: Grammar.gbnf("root ::= a_b"),
    "ways without number": lambda: Grammar.gbnf('root ::= "a" root "b" | "a" root "c" | "a" | "b"'),
    "nothing": lambda: Grammar.gbnf('root ::= ""'),
    "no such token": lambda: Grammar.gbnf("root ::= <foo>"),
    "the end of text": lambda: Grammar.gbnf("root ::= <[2]>"),
    "a long text": lambda: Grammar.gbnf('root ::= "' + "a" * 990_000 + '"'),
    "many words": lambda: Grammar.choice(str(n) for n in range(20_000)),
    "lark without a rule": lambda: Grammar.lark("start: foo"),
    "lark with a rule twice": lambda: Grammar.lark('start: "a"\\nstart: "b"'),
    "lark that only goes round": lambda: Grammar.lark('start: start "a"'),
    "lark that goes round": lambda: Grammar.lark('start: start "a" | "b"'),
    "lark a million times": lambda: Grammar.lark('start: "a"{0,1000000} A\\nA: "b"{0,1000000} "c"'),
    "lark with nothing in it": lambda: Grammar.lark('start: "a" | | ("" | )'),
    "deep lark": lambda: Grammar.lark("start: " + "(" * 10_000 + '"a"' + ")" * 10_000),
    "deep expression in lark": lambda: Grammar.lark("start: /" + "(" * 9000 + ")" * 9000 + "/"),
    "lark in lark": lambda: Grammar.lark("start: " + "%lark { start: " * 40 + '"a"' + "}" * 40),
    "deep json in lark": lambda: Grammar.lark(
        "start: %json " + '{"items":' * 10_000 + "{}" + "}" * 10_000),
    "a url in lark": lambda: Grammar.lark('start: %json {"$ref": "http://127.0.0.1:9/"}'),
    "nothing meets this lark": lambda: Grammar.lark('start: A\\nA: "a" & "b"'),
    "half a character in lark": lambda: Grammar.lark('start: "\\\\ud800"'),
    "a deep pattern": lambda: Grammar.json_schema({"pattern": "(" * 10_000 + "a" + ")" * 10_000}),
    "nothing meets this regex": lambda: Grammar.regex("[^\\\\s\\\\S]"),
    "a regex of counts": lambda: Grammar.regex("((a{0,1000}){0,1000}){0,1000}b"),
    "a regex of all letters": lambda: Grammar.regex("\\\\w" * 30_000),
    "nothing between bars": lambda: Grammar.gbnf('root ::= | "a" | | () |'),
    "too many rules for it": lambda: Grammar.gbnf(
        chain("root ::= r0", 'r{} ::= "x" [a-z]* r{}', 'r{} ::= "a"', 15_000)),
}
for name, make in grammars.items():
    attempt(name, run(make))
attempt("afterwards", run(lambda: Grammar.choice(["yes"])))
"""


def test_nothing_typed_ends_the_process(attempts, tiny_path):
    found = attempts(SCRIPT, tiny_path, seconds=600)
    refused = {name for name, outcome in found.items() if outcome == "GrammarError"}
    assert set(found.values()) <= {"fine", "GrammarError"}
    assert found["afterwards"] == "fine"
    assert {
        "references in a circle",
        "deep json",
        "deep parentheses",
        "deep groups of a regex",
        "backwards",
        "a million times",
        "left recursion",
        "a typo",
        "no such token",
        "the end of text",
        "lark without a rule",
        "lark with a rule twice",
        "lark that only goes round",
        "deep lark",
        "deep expression in lark",
        "lark in lark",
        "deep json in lark",
        "a url in lark",
        "nothing meets this lark",
        "half a character in lark",
        "a deep pattern",
        "nothing meets this regex",
    } <= refused
    assert {
        "a line of rules",
        "a line of lark rules",
        "as deep as may be",
        "many alternatives",
        "nothing",
        "lark that goes round",
        "lark a million times",
        "lark with nothing in it",
        "a regex of counts",
        "a regex of all letters",
        "nothing between bars",
    } & refused == (set())
