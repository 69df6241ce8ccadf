"""GBNF is read as llama.cpp reads it, written so that it can, and refused with a place."""

from __future__ import annotations

import pickle
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mullama_lab.engine.grammar import Grammar
from mullama_lab.engine.grammar.gbnf.reader import LONGEST_TEXT, read_gbnf
from mullama_lab.engine.grammar.gbnf.writer import write_gbnf
from mullama_lab.engine.grammar.nodes import Chars, Literal, Ref, Repeat, Sequence, Token
from mullama_lab.errors import GrammarError


def root(text):
    return read_gbnf(f'root ::= {text}\nx ::= "x"')["root"]


def test_it_is_read_to_a_tree():
    assert root('"a" x{2,}') == Sequence((Literal("a"), Repeat(Ref("x"), 2, None)))
    assert root("[a-cé-]") == Chars(((45, 45), (97, 99), (233, 233)))
    assert root(r'"\x41\u00e9\U0001F600\n"') == Literal("Aé😀\n")
    assert root("!<think>") == Token("<think>", negated=True)
    assert root("<[7]>") == Token(7)
    assert root('"a"{3}{0,2}') == Repeat(Repeat(Literal("a"), 3, 3), 0, 2)
    assert root("(((x)))") == Ref("x")


def test_a_negated_class_and_a_dot_take_newlines_and_no_nul():
    assert root(".") == Chars(((1, 0xD7FF), (0xE000, 0x10FFFF)))
    assert root("[^a]").ranges[0] == (1, 96)


def test_lines_go_on_in_parentheses_and_after_a_bar():
    text = 'root ::= # a comment\n  "a" |\n  ("b"\n  "c") # more\n\n\n# end'
    assert read_gbnf(text) == read_gbnf('root ::= "a" | ("b" "c")')


def test_llama_cpp_reads_what_is_written_of_its_own_grammars(grammar_file, llama_reads):
    rules = read_gbnf(grammar_file.read_text())
    assert llama_reads(write_gbnf(rules))
    assert read_gbnf(write_gbnf(rules)) == rules
    assert Grammar.file(grammar_file).to_gbnf() == write_gbnf(rules)


@pytest.mark.parametrize("seed", range(60))
def test_llama_cpp_reads_what_is_written(seed, grammar_maker, llama_reads):
    rules = read_gbnf(grammar_maker(seed).text())
    for negations in (True, False):
        written = write_gbnf(rules, negations=negations)
        assert llama_reads(written)
        assert read_gbnf(written) == rules


REFUSED_BY_BOTH = {
    "# nothing": "a grammar has a rule at least",
    "a": "expected '::='",
    'root = "a"': "expected '::='",
    'root ::= "a': "no '\"' at its end",
    "root ::= [a": "no ']' at its end",
    'root ::= ("a"': r"expected '\)' of the '\(' in line 1",
    'root ::= "a")': "expected the end of the line",
    "root ::= a_b\na ::= b": "letters, digits and '-'",
    'ro_ot ::= "a"': "letters, digits and '-'",
    "root ::= x": "no rule is named 'x'",
    'x ::= "a"': "no rule is named 'root'",
    'root ::= "a"\n| "b"': "Put '|' at the end of the line before",
    "root ::= *": "nothing stands before it",
    'root ::= ""*': "nothing stands before it",
    'root ::= "a"{0}?': "nothing stands before it",
    'root ::= "a"{,3}': "expected a number",
    'root ::= "a"{2': "expected '}'",
    'root ::= "a"{2001}': "at most 2000 times",
    'root ::= ("a" | "b"*){0,40}{0,40}': "llama.cpp makes at most 2000",
    r'root ::= "\q"': "no escape",
    r'root ::= "\u12"': "takes 4 hexadecimal digits",
    "root ::= <a": "no '>' at its end",
    "root ::= <[a]>": "expected the id of a token",
    'root ::= root "a" | "b"': "left recursion",
    'root ::= x "a" | "b"\nx ::= "c"? root': "left recursion",
}


@pytest.mark.parametrize("text", REFUSED_BY_BOTH)
def test_what_llama_cpp_refuses_is_refused_with_a_place(text, llama_reads):
    assert not llama_reads(text)
    with pytest.raises(GrammarError, match=REFUSED_BY_BOTH[text]) as caught:
        Grammar.gbnf(text)
    assert caught.value.line >= 1 and caught.value.column >= 1
    assert str(caught.value).endswith("^")


REFUSED_HERE = {
    "": "a grammar has a rule at least",
    'root ::= "a"\nroot ::= "b"': "another rule 'root' above",
    "root ::= []": "a class has a character at least",
    "root ::= [^]": "a class has a character at least",
    "root ::= [z-a]": "goes backwards",
    r'root ::= "\x00"': "NUL ends a text",
    "root ::= [\\x00]": "no text has a character of this class",
    'root ::= "\0"': "NUL ends a text",
    'root ::= "a\0"': "NUL ends a text",
    "root ::= \0": "expected a rule",
    r'root ::= "\ud800"': "half of a character",
    'root ::= "\udfff"': "half of a character",
    r'root ::= "\U00110000"': "past the last character",
    'root ::= "a"{3,2}': "the second number is less",
    'root ::= "a"{0,1000000}': "at most 2000 times",
    'root ::= "a"{99999999999999999999}': "at most 2000 times",
    'root ::= a root "b" | "c"\na ::= d d\nd ::= e?\ne ::= "e"': "left recursion",
    f"root ::= {'(' * 10_000}": "more than 50 parentheses",
    f"root ::= {'(' * 10_000}{')' * 10_000}": "more than 50 parentheses",
    "\n".join(f'r{n} ::= "a"' for n in range(20_001)): "at most 20000 rules",
}


@pytest.mark.parametrize("text", REFUSED_HERE, ids=range(len(REFUSED_HERE)))
def test_what_nobody_means_is_refused_with_a_place(text):
    with pytest.raises(GrammarError, match=REFUSED_HERE[text]) as caught:
        Grammar.gbnf(text)
    assert caught.value.line >= 1 and caught.value.column >= 1


def test_the_place_is_that_of_the_fault():
    with pytest.raises(GrammarError) as caught:
        Grammar.gbnf('root ::= "a"\n  value ::= ob_ject')
    assert (caught.value.line, caught.value.column) == (2, 15)
    assert str(caught.value).splitlines()[1:] == ["    value ::= ob_ject", "                ^"]
    with pytest.raises(GrammarError) as caught:
        Grammar.gbnf('x ::= "a"\n root ::= root "a" | "b"')
    assert (caught.value.line, caught.value.column) == (2, 2)


def test_a_tail_that_may_be_nothing_is_no_left_recursion(llama_reads):
    text = 'root ::= line*\nline ::= blank word? blank\nblank ::= " "*\nword ::= "a"'
    assert llama_reads(text)
    Grammar.gbnf(text)


def test_endless_nothing_is_written_as_llama_cpp_takes_it(llama_reads):
    texts = ['root ::= "a"?*', 'root ::= "a"?{2,}', 'root ::= x+\nx ::= "a" |']
    for text in [*texts, 'root ::= ("" | "a")*', "root ::= ()*"]:
        assert not llama_reads(text)
        assert llama_reads(Grammar.gbnf(text).to_gbnf())


@pytest.mark.parametrize(
    "text",
    [
        "root ::= " + '"a" ' * 240_000,
        'root ::= "' + "a" * 999_000 + '"',
        "root ::= [" + "a-b" * 300_000 + "]",
        "\n".join(f"r{n} ::= r{n + 1}" for n in range(19_000)) + '\nr19000 ::= "a"\nroot ::= r0',
    ],
    ids=["items", "text", "class", "chain"],
)
def test_a_megabyte_is_read_in_seconds(text):
    began = time.perf_counter()
    Grammar.gbnf(text)
    assert time.perf_counter() - began < 20


def test_more_is_refused():
    with pytest.raises(GrammarError, match="1000001 characters"):
        Grammar.gbnf(" " * (LONGEST_TEXT + 1))
    with pytest.raises(TypeError, match="a grammar is a text"):
        Grammar.gbnf(5)


@given(st.text(st.sampled_from('root:=="ab[]()^-|*+?{},0123\\xuU<>!.# \n\t\0é_'), max_size=60))
@settings(max_examples=400)
def test_whatever_is_typed_is_a_grammar_or_an_error_with_a_place(text):
    for typed in (text, f"root ::= {text}"):
        try:
            grammar = Grammar.gbnf(typed)
        except GrammarError as error:
            assert error.line is not None
        else:
            assert Grammar.gbnf(grammar.to_gbnf()) == grammar


def test_repetitions_in_a_row_are_few_so_that_no_tree_is_too_deep():
    assert root('"a"*?')
    for signs in ("***", "?" * 10_000):
        with pytest.raises(GrammarError, match="line 1, column 15: more than 2 repetitions"):
            Grammar.gbnf(f'root ::= "a"{signs}')
    deep = Grammar.gbnf("root ::= " + '("b" | "a" ' * 50 + '"c"' + "*?" + ")*?" * 50)
    assert pickle.loads(pickle.dumps(deep)) == deep == Grammar.from_dict(deep.to_dict())
    assert len(deep.examples(2)) == 2


@pytest.mark.parametrize("n", range(1, 9))
def test_repetitions_in_groups_are_written_so_that_they_are_read_back(n, llama_reads):
    text = "root ::= " + "(" * n + '"a"' + "{1,2}?)" * n + "{0,2}"
    if n > 6:
        text = "root ::= " + "(" * 25 * (n - 6) + '"a"' + "?{0,1})" * 25 * (n - 6)
    grammar = Grammar.gbnf(text)
    assert Grammar.gbnf(grammar.to_gbnf()) == grammar == Grammar.from_dict(grammar.to_dict())
    assert llama_reads(grammar.to_gbnf())
