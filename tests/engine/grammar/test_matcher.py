"""llguidance and llama.cpp allow the same tokens, whatever the grammar, all along the text.

Known differences, each left out by `may_differ`:

- A control token: llama.cpp takes it where its name would be allowed as a text. It adds nothing to
  the text, so llguidance takes it only where the grammar names it.
- Bytes that are no UTF-8: llama.cpp takes longer spellings of a character (E0 82 80 for U+0080),
  and does not look whether the bytes after a first one belong to it.
- A NUL within a token: for llama.cpp the token ends there.

`[^é]` in llama.cpp also refuses "è" in two tokens, and `.` takes halves of characters; so the text
it is given here has neither (`negations=False`).

Nothing is compared on grammars that name tokens: llama.cpp takes those within another token, and
ends the process over it.
"""

from __future__ import annotations

import codecs
import random
import time

import numpy as np
import pytest

import mullama_lab as ml
from mullama_lab.engine.grammar import Grammar
from mullama_lab.engine.grammar.gbnf.reader import read_gbnf
from mullama_lab.engine.grammar.llama_sampler.matcher import llama_matcher
from mullama_lab.engine.grammar.matching import lexemes
from mullama_lab.engine.grammar.matching.errors import in_words
from mullama_lab.engine.grammar.matching.lark_writer import write_for_llguidance
from mullama_lab.engine.grammar.matching.lexemes import cut_into_lexemes
from mullama_lab.engine.grammar.matching.matcher import matcher
from mullama_lab.engine.grammar.nodes import Chars, Lexeme, walk
from mullama_lab.engine.words.token_texts import token_texts
from mullama_lab.errors import GrammarError


@pytest.fixture(scope="module")
def smollm2():
    with ml.Model.load("smollm2-135m", vocab_only=True) as model:
        yield model


def begins_utf8(data):
    try:
        codecs.getincrementaldecoder("utf-8")().decode(data)
    except UnicodeDecodeError:
        return False
    return True


def may_differ(text, piece):
    return not piece or b"\0" in piece or not begins_utf8(text + piece)


class BothEngines:
    """A grammar in both engines, at the same place of the same text."""

    def __init__(self, model, grammar):
        self.model, self.pieces = model, token_texts(model).pieces
        self.guided, self.llama = matcher(model, grammar), llama_matcher(model, grammar)
        self.text = b""

    def allowed(self):
        """The tokens that both allow, after a look whether they do."""
        guided, llama = self.guided.allowed(), self.llama.allowed()
        assert self.guided.error == self.llama.error == ""
        differ = [
            (self.pieces[token], "llguidance" if guided[token] else "llama.cpp")
            for token in np.flatnonzero(guided != llama)
            if not may_differ(self.text, self.pieces[token]) or self.model.is_eog(int(token))
        ]
        assert differ == [], self.text
        return np.flatnonzero(guided & llama)

    def walk(self, chance, n_steps):
        for _ in range(n_steps):
            ids = [t for t in self.allowed().tolist() if not self.model.is_eog(t)]
            if not ids:
                return
            some = chance.sample(ids, min(5, len(ids)))
            token = chance.choice([some[0], max(some, key=lambda t: len(self.pieces[t]))])
            assert self.guided.accept(token) and self.llama.accept(token)
            self.text += self.pieces[token]


def test_both_allow_the_same_on_llama_cpps_grammars(pieces_model, grammar_file):
    for seed in range(3):
        both = BothEngines(pieces_model, Grammar.file(grammar_file))
        both.walk(random.Random(seed), 60)
        assert len(both.text) > 4


def test_both_allow_the_same_on_smollm2(smollm2, grammar_file):
    both = BothEngines(smollm2, Grammar.file(grammar_file))
    both.walk(random.Random(1), 15)
    assert len(both.text) > 4


@pytest.mark.parametrize("seed", range(150))
def test_both_allow_the_same_on_grammars_made_by_chance(pieces_model, grammar_maker, seed):
    both = BothEngines(pieces_model, Grammar.gbnf(grammar_maker(seed).text()))
    both.walk(random.Random(seed), 12)


@pytest.mark.parametrize(
    "text",
    [
        'root ::= "a" "b" "c" | "ab" "d"',
        'root ::= "aa"* "a" "b"',
        'root ::= x+ "é"\nx ::= [^é]',
        'root ::= ([a-c]+ | "ab") "a" "-"',
        'root ::= (" " word)* " \\n"\nword ::= [a-c]+ "-"? " "?',
        'root ::= "(" root ")" | [a-c]* "b"',
        'root ::= ("a" | "b" root "c"){0,2000}',
        'root ::= [ab] root | "." | root-2\nroot-2 ::= "(" root-2 | "c" root-2? ")" | "c"',
        'root ::= e ("," root | "." e? root)?\ne ::= "(" e ")" | [ab]',
        'root ::= ("a" | "b" root) root | ("c" | "d" (root | ))',
        "root ::= " + '("a" | ' * 50 + '"c" root' + ' "b")' * 50,
    ],
)
def test_both_allow_the_same_where_a_greedy_reader_would_not(pieces_model, text):
    for seed in range(8):
        BothEngines(pieces_model, Grammar.gbnf(text)).walk(random.Random(seed), 12)


@pytest.mark.parametrize(
    ("text", "again", "end"),
    [
        ('root ::= [a] root | "."', "a", "."),
        ('root ::= e (" " root)?\ne ::= "(" e ")" | "a"', "(a) ", "a"),
        ('root ::= e ("," root | "." root | "!")\ne ::= "(" e ")" | "a"', "a,((a)).", "a!"),
    ],
)
def test_a_rule_that_ends_with_itself_goes_on_for_as_long_as_a_text_does(
    pieces_model, text, again, end
):
    work = matcher(pieces_model, Grammar.gbnf(text))
    for byte in (again * 5000 + end).encode():
        assert work.accept(byte + 3), work.error
    assert work.is_complete and work.allowed().any()


def test_without_the_cutting_llguidance_would_miss_texts(pieces_model, monkeypatch):
    text = 'root ::= "a" x | "ab" "d"\nx ::= "b" "c" | "(" x ")"'
    after_ab = []
    for misread in (lexemes.LexemeReading.misread, lambda *_: set()):
        monkeypatch.setattr(lexemes.LexemeReading, "misread", misread)
        # The same rules under another name, for a model keeps what it compiled.
        work = matcher(pieces_model, Grammar.gbnf(text.replace("x", f"x{len(after_ab)}")))
        for byte in b"ab":
            assert work.accept(byte + 3)
        after_ab.append(allowed_pieces(pieces_model, work))
    assert after_ab == [{b"c", b"d"}, {b"d"}]


def lexemes_in(text):
    cut = cut_into_lexemes(read_gbnf(text))
    return [n.node for body in cut.values() for n in walk(body) if isinstance(n, Lexeme)]


def test_what_is_regular_stays_whole(grammar_file):
    found = lexemes_in(grammar_file.read_text())
    if grammar_file.stem in ("english", "japanese", "list", "chess"):
        assert len(found) == 1
    assert any(not isinstance(node, Chars) for node in found)


def test_a_string_of_json_is_one_lexeme():
    assert len(lexemes_in(r'root ::= "\"" ([^"\\] | "\\" ["\\nt])* "\"" | "[" root "]"')) == 3


# What a model brings in.


def allowed_pieces(model, work):
    return {model.piece(int(t)) for t in np.flatnonzero(work.allowed())}


def test_the_end_is_allowed_where_the_text_is_complete(pieces_model):
    work = matcher(pieces_model, Grammar.choice(["a", "aab"]))
    assert allowed_pieces(pieces_model, work) == {b"a", b"aa", b"aab"}
    assert not work.is_complete
    assert work.accept(pieces_model.tokenize("a", add_special=False)[-1])
    assert work.is_complete
    assert allowed_pieces(pieces_model, work) == {b"a", b"ab", pieces_model.piece(pieces_model.eos)}
    copy = work.copy()
    assert copy.accept(pieces_model.eos)
    assert not copy.accept(pieces_model.eos)
    assert not work.accept(pieces_model.tokenize("c", add_special=False)[-1])


def test_a_byte_token_ff_and_nul_are_never_allowed(pieces_model):
    pieces = allowed_pieces(pieces_model, matcher(pieces_model, Grammar.gbnf("root ::= .*")))
    assert not pieces & {b"\xff", b"\0", b"\xc0", b"\x80"}
    assert {b"\x7f", b"\n", b"\xe6", "日".encode()} <= pieces


def test_a_named_token_is_allowed_there_alone(smollm2):
    start = smollm2.tokenize("<|im_start|>", add_special=False, parse_special=True)[0]
    grammar = Grammar.gbnf('root ::= "a" <|im_start|> !<|im_start|> "b"')
    work = matcher(smollm2, grammar)
    assert not work.allowed()[start]
    assert work.accept(smollm2.tokenize("a", add_special=False)[0])
    assert np.flatnonzero(work.allowed()).tolist() == [start]
    assert work.accept(start)
    allowed = work.allowed()
    assert not allowed[start] and not any(allowed[[smollm2.eos]])
    assert work.accept(smollm2.tokenize("x", add_special=False)[0])
    assert allowed_pieces(smollm2, work) == {b"b"}
    assert matcher(smollm2, Grammar.gbnf(f"root ::= <[{start}]>")).allowed()[start]
    # A text that is written like its name is none.
    assert not matcher(smollm2, Grammar.choice(["<|im_start|>"])).allowed()[start]


def test_a_token_that_several_rules_name_goes_on_from_all_of_them(pieces_model):
    work = matcher(pieces_model, Grammar.gbnf('root ::= <[260]> "b" | !<[261]> "c" | "abc" "d"'))
    assert work.accept(260)  # "abc", which is no text where it is named
    assert allowed_pieces(pieces_model, work) == {b"b", b"c"}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("root ::= <foo>", "<foo> is no token"),
        ("root ::= <[49152]>", "which has 49152"),
        ("root ::= <|im_end|>", "ends a generation"),
    ],
)
def test_a_token_that_the_model_has_not_is_refused(smollm2, text, said):
    with pytest.raises(GrammarError, match=said):
        matcher(smollm2, Grammar.gbnf(text))


def test_a_grammar_that_no_token_can_begin_is_refused(pieces_model):
    with pytest.raises(GrammarError, match="no token of .* can begin"):
        matcher(pieces_model, Grammar.lark('start: start "a"'))


def test_what_is_too_much_for_llguidance_is_an_error(pieces_model):
    rules = [f'r{n} ::= "word{n}" [a-z]* ("x" r{n * 7 % 9000})?' for n in range(9000)]
    names = " | ".join(f"r{n}" for n in range(9000))
    with pytest.raises(GrammarError, match="llguidance cannot carry this grammar out") as caught:
        matcher(pieces_model, Grammar.gbnf("\n".join([f"root ::= {names}", *rules])))
    assert len(str(caught.value)) < 700


def test_a_long_line_of_rules_does_not_end_the_process(pieces_model):
    chain = [f"r{n} ::= r{n + 1}" for n in range(19_000)]
    work = matcher(pieces_model, Grammar.gbnf("\n".join(["root ::= r0", *chain, 'r19000 ::= "a"'])))
    assert allowed_pieces(pieces_model, work) == {b"a"}


def test_parts_and_rules_go_together(pieces_model):
    schema = {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]}
    grammar = "x" + Grammar.json_schema({**schema, "additionalProperties": False}) + "!"
    work = matcher(pieces_model, grammar + Grammar.regex("[0-9]{2}") + Grammar.lark('start: "z"'))
    for byte in b'x{"a":12}!34z':
        assert work.allowed()[byte + 3]
        assert work.accept(byte + 3)
    assert work.is_complete


def test_a_grammar_is_written_once_for_a_model(pieces_model):
    grammar = Grammar.gbnf('root ::= "a" | "b"')
    rules = read_gbnf(grammar.to_gbnf())
    text = write_for_llguidance(dict(rules), lambda token: [])
    assert text == write_for_llguidance(dict(rules), lambda token: [])
    assert matcher(pieces_model, grammar) is not matcher(pieces_model, grammar)


def test_the_limits_of_llguidance_are_told_in_words_that_say_what_to_change():
    """Its own are a panic of Rust with a backtrace, or a page of its inner state."""
    panic = (
        "panic: assertion failed: grammar.symbols.len() < u16::MAX as usize - 10\n<backtrace>\n 0"
    )
    assert in_words(panic).startswith("it has more rules and alternatives than the 65 525")
    row = "Parser Error: Current row has 3999 items; max is 2000; consider making your grammar "
    assert "optional properties" in in_words(row + "left-recursive if it's right-recursive")
    assert in_words("what else.\n<state>\nTokens: 1") == "what else" and in_words("") == ""


@pytest.mark.parametrize("depth", [14, 39])
def test_rules_that_double_and_may_be_nothing_are_written_in_bounded_time(depth):
    doubling = "".join(f"r{i} ::= r{i + 1} r{i + 1}\n" for i in range(depth))
    rules = read_gbnf(f'root ::= r0\n{doubling}r{depth} ::= "a"?\n')
    began = time.monotonic()
    assert len(write_for_llguidance(rules, lambda token: [1])) < 1_000_000
    assert time.monotonic() - began < 60, "it took for ever"
