"""Examples are texts of a grammar, coverage counts what they use, warnings say what is wrong."""

from __future__ import annotations

import pickle
import random
from collections import Counter
from itertools import islice, product

import pytest

from mullama_lab.engine.grammar import Grammar
from mullama_lab.engine.grammar.coverage import Reader
from mullama_lab.engine.grammar.examples import drawn
from mullama_lab.engine.grammar.gbnf.reader import read_gbnf
from mullama_lab.engine.grammar.matching.byte_matcher import byte_matcher
from mullama_lab.engine.grammar.matching.matcher import matcher
from mullama_lab.engine.grammar.nodes import Choice, Literal, Ref, Repeat
from mullama_lab.engine.grammar.walk import reading
from mullama_lab.engine.grammar.walk.standing import read_twice
from mullama_lab.engine.grammar.written import rules_of_dict
from mullama_lab.errors import GrammarError

SCHEMA = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "minLength": 2},
        "tags": {"type": "array", "items": {"enum": ["a", "b"]}, "minItems": 1},
        "day": {"type": "string", "format": "date"},
    },
    "required": ["name", "tags", "day"],
    "additionalProperties": False,
}
PARTS = [
    Grammar.json_schema(SCHEMA),
    Grammar.regex(r"(ab)*c\d{3}é"),
    Grammar.lark('start: "a" | "b" start'),
    "<" + Grammar.json_schema(SCHEMA).many(1, separator="\n") + ">",
]


def rules_of(grammar):
    """The rules of a grammar as nodes."""
    return rules_of_dict(grammar.to_dict())


def is_text_of(grammar, text):
    there, data = byte_matcher(rules_of(grammar)), text.encode()
    return there.take(data) == len(data) and there.is_complete


# Examples.


def test_examples_of_llama_cpps_grammars_are_their_texts(grammar_file, pieces_model):
    grammar = Grammar.file(grammar_file)
    texts = grammar.examples(25, seed=3)
    assert len(texts) == len(set(texts)) == 25
    assert all(is_text_of(grammar, text) for text in texts)
    assert texts == grammar.examples(25, seed=3) != grammar.examples(25, seed=4)
    work = matcher(pieces_model, grammar)
    assert all(work.accept(byte + 3) for byte in texts[0].encode()) and work.is_complete


@pytest.mark.parametrize("seed", range(80))
def test_examples_of_grammars_made_by_chance_are_their_texts(grammar_maker, seed):
    grammar = Grammar.gbnf(grammar_maker(seed).text())
    if any(warning.kind == "endless" and warning.rule == "root" for warning in grammar.warnings):
        with pytest.raises(GrammarError, match="no text that ends"):
            grammar.examples(1)
        return
    texts = grammar.examples(8, seed=seed)
    assert texts and all(is_text_of(grammar, text) for text in texts)


@pytest.mark.parametrize("grammar", PARTS, ids=["schema", "regex", "lark", "several"])
def test_examples_of_parts_are_found(grammar):
    texts = grammar.examples(5, seed=1)
    assert len(texts) == 5 and all(is_text_of(grammar, text) for text in texts)


def test_examples_are_short_and_no_more_than_there_are():
    assert sorted(Grammar.choice(["a", "bb"]).examples(9)) == ["a", "bb"]
    deep = Grammar.gbnf('root ::= "(" root root ")" | "x"')
    lengths = [len(text) for text in islice(drawn(read_gbnf(deep.to_gbnf()), 5), 300)]
    assert sum(lengths) / 300 < 60 and max(lengths) < 400 and 1 in lengths
    often = Grammar.choice(["", "a"]).many(2000, 2000).many(100, 100)
    assert set(often.examples(1)[0]) <= {"a"}


def test_a_rule_that_goes_on_for_ever_is_not_taken():
    grammar = Grammar.gbnf('root ::= x | "b" y*\nx ::= "a" x\ny ::= "c" y')
    assert grammar.examples(4) == ["b"]


def test_a_token_is_written_by_its_name_if_it_has_one():
    assert Grammar.gbnf('root ::= "a" <think> "b"').examples(1) == ["a<think>b"]
    for text in ("root ::= <[7]>", "root ::= !<think>"):
        with pytest.raises(GrammarError, match="no text without a model"):
            Grammar.gbnf(text).examples(1)
    long = Grammar.choice(["a" * 1000]).many(1000, 1000)
    with pytest.raises(GrammarError, match="over 100000 characters"):
        long.examples(1)


# Coverage.


def test_coverage_refuses_what_is_no_text():
    with pytest.raises(TypeError, match="text 1 is 5, which is no text"):
        Grammar.choice(["a"]).coverage(["a", 5])


def test_coverage_counts_rules_and_alternatives():
    grammar = Grammar.gbnf(
        'root ::= item ("," item)*\nitem ::= "a" | n | ("x" | "y")? "!"\nn ::= [0-9]'
    )
    found = grammar.coverage(["a,1,2", "a", "x!,!", "b"])
    assert found.refused == (3,) and found.n_texts == 4
    assert [(u.rule, u.alternative, u.n_texts, u.n_uses) for u in found.uses] == [
        ("root", "", 3, 3),
        ("item", "", 3, 6),
        ("item", '"a"', 2, 2),
        ("item", "n", 1, 2),
        ("item", '("x" | "y")? "!"', 1, 2),
        ("item", '"x"', 1, 1),
        ("item", '"y"', 0, 0),
        ("n", "", 1, 2),
    ]
    assert [use.alternative for use in found.unused] == ['"y"']
    assert repr(found) == ("<Coverage by 4 texts (1 of them refused): 6 of 7 alternatives used>")
    assert len(found.to_pandas()) == 8


def test_alternatives_that_lead_to_the_same_rule_are_told_apart():
    grammar = Grammar.gbnf('root ::= "1" x | x "2" | x\nx ::= "a"')
    found = grammar.coverage(["a2", "1a", "1a"])
    assert [use.n_uses for use in found.uses] == [3, 2, 1, 0, 3]


def test_coverage_of_nothing_and_of_what_no_text_can_meet():
    grammar = Grammar.gbnf('root ::= ws x?\nws ::= "" | " " ws\nx ::= "x" | ""\ny ::= "y"')
    found = {(u.rule, u.alternative): u.n_uses for u in grammar.coverage(["", "  x"]).uses}
    assert found["ws", '""'] == 2 and found["ws", '" " ws'] == 2 and found["y", ""] == 0
    assert found["x", '"x"'] == 1


def test_coverage_of_parts_and_named_tokens():
    grammar = "x" | Grammar.regex("[a-c]+")
    found = grammar.coverage(["x", "abc", "d"])
    assert found.refused == (2,)
    assert [(u.rule, u.alternative, u.n_uses) for u in found.uses if u.alternative] == [
        ("root", '"x"', 1),
        ("root", "part", 1),
    ]
    think = Grammar.gbnf('root ::= <think> [a-z]+ | "a"')
    assert think.coverage(["<think>ab", "<thin>", "a"]).refused == (1,)
    with pytest.raises(GrammarError, match="no text tells"):
        Grammar.gbnf("root ::= !<think>").coverage(["a"])


@pytest.mark.parametrize("seed", range(20))
def test_every_example_is_covered(grammar_maker, seed):
    grammar = Grammar.gbnf(grammar_maker(100 + seed).text())
    try:
        texts = grammar.examples(6)
    except GrammarError:
        return
    found = grammar.coverage(texts)
    assert found.refused == () and found.uses[0].n_uses == len(texts)


def test_a_text_that_is_too_much_is_named(monkeypatch):
    monkeypatch.setattr(reading, "MOST_WORK", 80)
    with pytest.raises(GrammarError, match="text 1 takes too much"):
        Grammar.gbnf('root ::= "a"*').coverage(["a", "a" * 100])
    with pytest.raises(ValueError, match="surrogate"):
        Grammar.gbnf('root ::= "a"*').coverage(["\ud800"])


# Warnings.


def told(text):
    return [(w.line, w.column, w.rule, w.kind) for w in Grammar.gbnf(text).warnings]


def test_warnings_have_the_place_of_the_rule_in_the_text_that_was_read():
    text = 'root ::= x | "b"\n\n# a comment\n  y ::= "c"\nx ::= "a" x |\n  x-2\nx-2 ::= "(" x ")"\n'
    assert told(text) == [
        (4, 3, "y", "unreachable"),
        (5, 1, "x", "endless"),
        (7, 1, "x-2", "endless"),
    ]
    grammar = Grammar.gbnf(text)
    assert grammar == Grammar.gbnf(str(grammar)) and hash(grammar) == hash(
        Grammar.gbnf(str(grammar))
    )
    assert [w.line for w in Grammar.gbnf(str(grammar)).warnings] == [2, 3, 4]
    assert pickle.loads(pickle.dumps(grammar)).warnings == grammar.warnings
    assert grammar.rename({"y": "z"}).warnings[0][:3] == (2, 1, "z")


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        ('root ::= "a"? "a"?', "root"),
        ('root ::= "if" s ("else" s)?\ns ::= root | "x"', "root"),
        ('root ::= e\ne ::= n | n "+" e | n "+" n\nn ::= [0-9]', "e"),
        ('root ::= "<" w ">"\nw ::= [a-z]+ | "null"?', "w"),
        ('root ::= ("a" | "aa"){1,2}', "root"),
    ],
)
def test_an_ambiguity_is_found_with_a_text_that_shows_it(text, rule):
    found = [w for w in Grammar.gbnf(text).warnings if w.kind == "ambiguous"]
    assert rule in [warning.rule for warning in found]
    reader = Reader(read_gbnf(text))
    for warning in found:
        assert read_twice(reader.read(warning.example)).rule == warning.rule
        assert "two ways" in warning.message


@pytest.mark.parametrize(
    "text",
    [
        'root ::= "a"* "b"*',
        'root ::= ("a"?)*',
        'root ::= "[" (root ("," root)*)? "]" | [0-9]+',
        'root ::= x{2,} "."\nx ::= [a-z] "-"?',
        'root ::= ("a" | "b" | "")* "c"',
    ],
)
def test_what_has_one_reading_is_not_called_ambiguous(text):
    assert told(text) == []


class FiniteMaker:
    """Makes grammars of few texts, whose readings can be counted one by one."""

    def __init__(self, seed):
        self.chance = random.Random(seed)

    def items(self, later):
        atoms = ['"a"', '"b"', '"ab"', '"ba"', '"aa"', *later]
        found = [self.chance.choice(atoms) for _ in range(self.chance.choice([1, 1, 2, 3]))]
        return " ".join(one + self.chance.choice(["", "", "", "?", "{1,2}"]) for one in found)

    def text(self):
        names = ["root", "x", "y"]
        sides = (
            dict.fromkeys(self.items(names[i + 1 :]) for _ in range(self.chance.randint(1, 3)))
            for i in range(3)
        )
        return "\n".join(f"{n} ::= {' | '.join(side)}" for n, side in zip(names, sides))


def readings(node, rules):
    """How many readings each text of a node has, where something is read."""
    if isinstance(node, Literal):
        return Counter([node.text])
    if isinstance(node, Ref):
        return readings(rules[node.name], rules)
    if isinstance(node, Choice):
        return sum((readings(item, rules) for item in node.items), Counter())
    if isinstance(node, Repeat):
        item, found = readings(node.item, rules), Counter()
        for n in range(node.low, node.high + 1):
            found += in_a_row([item] * n)
        return found
    return in_a_row([readings(item, rules) for item in node.items])


def in_a_row(parts):
    found = Counter([""])
    for part in parts:
        both, found = found, Counter()
        for (a, n), (b, m) in product(both.items(), part.items()):
            found[a + b] += n * m
    return found


@pytest.mark.parametrize("seed", range(60))
def test_a_text_was_read_twice_if_it_has_two_readings(seed):
    rules = read_gbnf(FiniteMaker(seed).text())
    counts = readings(rules["root"], rules)
    if any("" in readings(rules[name], rules) for name in rules):
        return  # nothing in two ways is not looked for
    reader = Reader(rules)
    for text, n in random.Random(seed).sample(sorted(counts.items()), min(40, len(counts))):
        assert (read_twice(reader.read(text)) is not None) == (n > 1), text


def test_of_parts_no_ambiguity_is_told():
    grammar = Grammar.gbnf('root ::= "a"? "a"?') | Grammar.regex("a*")
    assert grammar.warnings == []
