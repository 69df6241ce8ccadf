"""The reading of our own takes just the texts that llguidance takes, byte by byte and by tokens."""

from __future__ import annotations

import random

import numpy as np
import pytest

from mullama_lab.engine.grammar import Grammar
from mullama_lab.engine.grammar.matching.byte_matcher import byte_matcher
from mullama_lab.engine.grammar.matching.matcher import ends_of_generation, matcher, token_id
from mullama_lab.engine.grammar.spots import Spots
from mullama_lab.engine.grammar.walk import reading
from mullama_lab.engine.grammar.walk.reading import Reading, TooMuch
from mullama_lab.engine.grammar.walk.standing import expected, portions, stacks
from mullama_lab.engine.grammar.written import rules_of_dict
from mullama_lab.engine.words.token_texts import token_texts


def no_token(named, token):
    raise AssertionError("the grammar names no tokens")


def rules_of(grammar):
    """The rules of a grammar as nodes."""
    return rules_of_dict(grammar.to_dict())


def reading_of(text):
    return Reading(Spots(rules_of(Grammar.gbnf(text))), no_token)


def open_bytes(charts):
    """The bytes after which the reading goes on."""
    found, before = [], charts.place
    for byte in range(256):
        charts.take(bytes([byte]))
        if charts.is_alive:
            found.append(byte)
        charts.back_to(before)
    return found


def walk_both(grammar, chance, n_steps):
    rules = rules_of(grammar)
    guided, charts, text = byte_matcher(rules), Reading(Spots(rules), no_token), b""
    for _ in range(n_steps):
        allowed = guided.allowed().tolist()
        assert charts.is_complete == guided.is_complete, text
        assert open_bytes(charts) == allowed, text
        if not allowed:
            break
        byte = bytes([chance.choice(allowed)])
        assert guided.take(byte) == 1
        charts.take(byte)
        text += byte
    return text


@pytest.mark.parametrize("seed", range(120))
def test_both_take_the_same_bytes_of_grammars_made_by_chance(grammar_maker, seed):
    grammar = Grammar.gbnf(grammar_maker(seed).text())
    for round_ in range(2):
        walk_both(grammar, random.Random(2 * seed + round_), 10)


def test_both_take_the_same_bytes_of_llama_cpps_grammars(grammar_file):
    for seed in range(3):
        assert walk_both(Grammar.file(grammar_file), random.Random(seed), 30)


@pytest.mark.parametrize("seed", range(60))
def test_both_take_the_same_tokens_where_a_grammar_names_some(pieces_model, grammar_maker, seed):
    text = grammar_maker(seed).text().replace('"c"', "<[260]>").replace('"ab"', "!<[100]>")
    text = text.replace("[ab]", "(<[261]> | !<[262]>)").replace('"a"', "!<[100]>?")
    text = text.replace("root ::= ", "root ::= <[263]>? ", 1)
    rules = rules_of(Grammar.gbnf(text))
    pieces, ends = token_texts(pieces_model).pieces, ends_of_generation(pieces_model)

    def is_token(node, token):
        return (token_id(pieces_model, node) == token) != node.negated

    guided, charts = matcher(pieces_model, Grammar.gbnf(text)), Reading(Spots(rules), is_token)
    chance = random.Random(seed)
    for _ in range(8):
        allowed = [t for t in np.flatnonzero(guided.allowed()).tolist() if t not in ends]
        before, found = charts.place, []
        assert charts.is_complete == guided.is_complete
        for token, piece in enumerate(pieces):
            if token not in ends:
                charts.take(piece, token)
                found += [token] if charts.is_alive else []
                charts.back_to(before)
        assert found == allowed
        if not allowed:
            break
        token = chance.choice(allowed)
        assert guided.accept(token)
        charts.take(pieces[token], token)


@pytest.mark.parametrize(
    "text",
    [
        'root ::= "a" "b" "c" | "ab" "d"',
        "root ::= x*\nx ::= y y\ny ::= [ab]?",
        'root ::= x "!"\nx ::= y x | "a"\ny ::= z\nz ::= "" | "b"',
        'root ::= ("a"? "b"?){2,3} "a"',
        'root ::= (("a" | "") ("b" | ""))* "é"',
        'root ::= "(" root ")" | ""',
        'root ::= "a" root',
    ],
)
def test_both_take_the_same_where_much_may_be_nothing(text):
    for seed in range(6):
        walk_both(Grammar.gbnf(text), random.Random(seed), 9)


def test_going_back_and_on_is_as_if_it_had_not_been_gone():
    text = 'root ::= "[" (v ("," v)*)? "]"\nv ::= root | [0-9]+ | "é"'
    charts, fresh = reading_of(text), reading_of(text)
    charts.take(b"[12,[\xc3")
    charts.back_to(3)
    charts.take(b",3]")
    fresh.take(b"[12,3]")
    assert charts.is_complete and charts.data == fresh.data and charts.starts == fresh.starts
    assert [c.items for c in charts.charts] == [c.items for c in fresh.charts]
    assert charts.work == fresh.work


def test_a_part_goes_back_too():
    grammar = "<" + Grammar.regex("[a-z]{3}") + ">"
    charts = Reading(Spots(rules_of(grammar)), no_token)
    charts.take(b"<ab")
    for _ in range(2):
        charts.take(b"c>")
        assert charts.is_complete
        charts.back_to(3)
    charts.take(b">")
    assert not charts.is_alive


def test_the_stack_of_rules_and_what_they_expect():
    charts = reading_of('root ::= list "."\nlist ::= "[" (item ("," item)*)? "]"\nitem ::= [0-9]+')
    charts.take(b"[1,2")
    assert [[tuple(frame) for frame in stack] for stack in stacks(charts)] == [
        [("root", 0), ("list", 0)],
        [("root", 0), ("list", 0), ("item", 3)],
    ]
    assert [(one.text, one.kind, one.rule) for one in expected(charts)] == [
        ("`,`", "text", "list"),
        ("`]`", "text", "list"),
        ("[0-9]", "class", "item"),
    ]
    charts.take(b"].")
    assert [one.text for one in expected(charts)] == ["the end"] and stacks(charts) == []
    assert [tuple(one) for one in portions(charts, 0)] == [
        (0, 1, "list"), (1, 2, "item"), (2, 3, "list"), (3, 4, "item"), (4, 5, "list"),
        (5, 6, "root"),
    ]  # fmt: skip
    assert [tuple(one) for one in portions(charts, 4)] == [(4, 5, "list"), (5, 6, "root")]


def test_a_text_of_two_readings_stands_in_two_stacks():
    charts = reading_of('root ::= x | y\nx ::= "a" "b"\ny ::= "a" [b-c]')
    charts.take(b"a")
    assert [[frame.rule for frame in stack] for stack in stacks(charts)] == [
        ["root", "x"],
        ["root", "y"],
    ]


def test_too_much_is_refused_and_what_was_before_stays(monkeypatch):
    charts = reading_of('root ::= [a-z] root | "."')
    charts.take(b"ab")
    monkeypatch.setattr(reading, "MOST_WORK", charts.work + 60)
    with pytest.raises(TooMuch):
        charts.take(b"abcdefghijk")
    charts.back_to(2)
    charts.take(b".")
    assert charts.is_complete
