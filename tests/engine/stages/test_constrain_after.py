"""A grammar that begins after a marker: which tokens it allows, and generations of every kind."""

from __future__ import annotations

import itertools
import json
import pickle
import re

import numpy as np
import pytest

import mullama_lab as ml
from mullama_lab.engine import tiny
from mullama_lab.engine.stages.stage_sampler import Start
from mullama_lab.errors import GrammarBroken, GrammarError
from mullama_lab.studies.fate import fate
from mullama_lab.studies.replay import replay
from mullama_lab.widgets import ChainEditor

PROMPT = "Is it?"
LETTERS = ml.Grammar.gbnf("root ::= [a-z]+")
WORDS = ml.Grammar.gbnf('root ::= "(" [a-c]{3} ("," [a-c]{3})* ")"')
HOT = ml.Temperature(5)
FEW = ml.Mask(allow=[3 + byte for byte in b"abcxyz(),"]) | HOT
PIECES = ("a(", "a)", "xa", "xa(", "(a", "(ab", "yxa(abc", "a(b", "\u20ac", "a\u20ac", "(abc,")


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """A model with tokens in whose midst "a" and "xa" end."""
    path = tiny.write(tmp_path_factory.mktemp("m") / "m.gguf", pieces=PIECES)
    with ml.Model.load(path) as model:
        yield model


@pytest.fixture(scope="module")
def session(model):
    with model.session(n_ctx=2048, n_threads=1) as session:
        yield session


def end_of(marker, text):
    """After how many bytes the marker has come, the slow way; None if it has not."""
    if isinstance(marker, str):
        found = text.find(marker.encode())
        return None if found < 0 else found + len(marker.encode())
    for end in range(len(text) + 1):
        for start in range(end):
            try:
                said = text[start:end].decode()
            except UnicodeDecodeError:
                continue
            if marker.fullmatch(said):
                return end
    return None


def sampler_at(model, stage, tokens):
    return stage.sampler(Start(model, tokens, len(tokens), 0, 0, ()))


MARKERS = ["a", "xa", "a(a", re.compile("[xy]a"), re.compile(r"(?i)A\("), re.compile("\u20ac|b")]
TEXTS = [b"", b"x", b"yx", b"\xe2", b"\xe2\x82", b"\xff", b"x\xe2\x82", b"\xf0\x9f", b"(x", b"a"]


@pytest.mark.parametrize("marker", MARKERS, ids=str)
def test_a_token_is_free_unless_the_grammar_would_begin_within_it_and_not_so(model, marker):
    stage = ml.Constrain(LETTERS, after=marker)
    n_forbidden = 0
    for text in TEXTS:
        if end_of(marker, text) is not None:
            continue
        allowed = sampler_at(model, stage, [3 + byte for byte in text]).allowed
        for token in range(model.n_vocab):
            piece = model.piece(token, special=False)
            end = end_of(marker, text + piece)
            rest = b"" if end is None else (text + piece)[end:]
            expected = re.fullmatch(b"[a-z]*", rest) is not None
            assert allowed[token] == expected, (text, piece)
            n_forbidden += not expected
    assert n_forbidden or marker == "a(a"


def test_on_a_vocabulary_of_49000_tokens_too(smollm2):
    grammar = ml.Grammar.gbnf('root ::= "{" [^}]* "}"')
    n_forbidden = n_straddling = 0
    for text, marker in [
        ("Well, </think", "</think>"),
        ("Well, <", "</think>"),
        ("", ">"),
        ("He said", re.compile("[.:]")),
        ("caf\u00e9 ", re.compile("\\s\\S")),
    ]:
        tokens = smollm2.tokenize(text, add_special=False)
        allowed = sampler_at(smollm2, ml.Constrain(grammar, after=marker), tokens).allowed
        for token in range(smollm2.n_vocab):
            piece = smollm2.piece(token, special=False)
            if isinstance(marker, str):
                end = end_of(marker, text.encode() + piece)
            else:
                try:
                    said = piece.decode()
                except UnicodeDecodeError:
                    continue
                match = marker.search(text[-1:] + said)
                end = match and len(text[:-1].encode()) + len(
                    (text[-1:] + said)[: match.end()].encode()
                )
            rest = b"" if end is None else (text.encode() + piece)[end:]
            expected = not rest or (rest[:1] == b"{" and (b"}" not in rest[:-1]))
            assert allowed[token] == expected, (text, piece)
            n_forbidden += not expected
            n_straddling += bool(rest) and expected
    assert n_forbidden > 100 and n_straddling > 3


def is_beginning(text):
    return re.fullmatch(r"\(?|\(([a-c]{3},)*[a-c]{0,3}|\(([a-c]{3},)*[a-c]{3}\)", text) is not None


@pytest.mark.parametrize("marker", ["xa", ord("x") + 3, re.compile("[xy][ab]")], ids=str)
def test_it_is_free_before_and_constrained_after(session, marker):
    straddled = constrained = 0
    liked = ml.Mask(allow=[*(3 + ord(c) for c in "xyab,()"), *range(259, 259 + len(PIECES))]) | HOT
    for seed in range(12):
        free = session.generate(PROMPT, liked, max_tokens=40, seed=seed)
        chain = ml.Constrain(WORDS, after=marker) | liked
        try:
            trace = session.generate(PROMPT, chain, max_tokens=40, seed=seed)
        except ml.errors.NoCandidates:  # the mask leaves no end
            trace = session.last_trace
        for step, token in enumerate(trace.tokens):
            before = b"".join(trace.step_bytes[:step])
            if isinstance(marker, int):
                found = np.flatnonzero(trace.tokens[:step] == marker)
                end = len(b"".join(trace.step_bytes[: found[0] + 1])) if len(found) else None
            else:
                end = end_of(marker, before)
            if end is not None:
                assert is_beginning(before[end:].decode())
                straddled += end < len(before) and end > len(before) - len(trace.step_bytes[-1])
                constrained += 1
            elif all(free.tokens[:step] == trace.tokens[:step]):
                allowed = trace.n_kept_at(step)[0] == session.model.n_vocab
                assert not allowed or token == free.tokens[step]
    assert constrained > 30


def test_a_marker_that_never_comes_leaves_the_text_as_it_is(session):
    for after in ("never", re.compile("ne+ver"), tiny.UNK):
        free = session.generate(PROMPT, HOT, max_tokens=200, seed=5)
        chain = ml.Constrain(WORDS, after=after, stop="complete") | HOT
        trace = session.generate(PROMPT, chain, max_tokens=200, seed=5)
        assert trace.tokens.tolist() == free.tokens.tolist()
        assert trace.finish_reason == free.finish_reason
    ended = session.generate(PROMPT, chain | ml.Mask(allow=[tiny.EOS]), max_tokens=9)
    assert (ended.finish_reason, ended.text) == ("eog", "")


@pytest.fixture(scope="module")
def trace(session):
    """Free up to "a", then a word."""
    chain = ml.Constrain(WORDS, after="a", stop="only") | FEW
    return session.generate(PROMPT, chain, max_tokens=60, seed=4)


def test_where_it_stops_and_how_it_is_previewed_replayed_and_saved(trace, session, tmp_path):
    before, marker, after = trace.text.partition("a")
    assert before and marker and re.fullmatch(r"\(([a-c]{3},)*[a-c]{3}\)", after)
    assert trace.finish_reason == "complete"
    assert replay(trace, on=session).n_changed == 0
    again = ml.Trace.from_dict(json.loads(json.dumps(trace.to_dict())))
    assert again.chain == trace.chain and replay(again, on=session).n_changed == 0
    for step in range(len(trace)):
        view = trace.chain.preview(
            trace.kept(step)[1],
            model=session.model,
            history=trace.history(step),
            seed=trace.seed,
            step=step,
        )
        assert view.choice == trace.tokens[step]
        assert view.stages[0].n_kept == trace.n_kept[step, 0]
    with session.model.session(n_ctx=512, n_threads=1) as other:
        other.generate(PROMPT, trace.chain, max_tokens=60, seed=4)
        other.save(tmp_path / "saved")
        with ml.Session.load(tmp_path / "saved", session.model) as back:
            assert back.last_trace.tokens.tolist() == trace.tokens.tolist()
            assert back.last_trace.chain == trace.chain


def test_a_branch_brings_the_marker_or_takes_it_away(trace, session):
    at = trace.text.index("a")
    taken = session.branch(trace, at, ord("z") + 3, max_tokens=5)
    assert taken.n_kept[at + 1, 0] > 200
    brought = session.branch(trace, 0, ord("a") + 3, max_tokens=5)
    assert brought.text[1:2] == "(" and brought.n_kept[1, 0] == 4  # "(", "(a", "(ab", "(abc,"
    straddling = 259 + PIECES.index("a(b")
    assert session.branch(trace, 0, straddling, max_tokens=1).n_kept[1, 0] == 3
    with pytest.raises(GrammarBroken, match=r"Generated token 0, 'a\)', cannot come there"):
        session.branch(trace, 0, 259 + PIECES.index("a)"), max_tokens=3)


def test_the_fate_of_a_token_in_whose_midst_it_would_begin(trace, session):
    told = fate(trace, 0, 259 + PIECES.index("a)"), on=session)
    assert "the grammar, which would begin within it" in told.remark()
    assert fate(trace, len(trace) - 1, "z", on=session).remark().startswith("Forbidden by the gra")


def test_control_tokens_have_their_names_in_the_text(smollm2):
    end = smollm2.tokenize("<|im_start|>", add_special=False, parse_special=True)
    assert len(end) == 1
    for marker in ("<|im_start|>", end[0], re.compile(r"<\|.*\|>"), "<|im_"):
        stage = ml.Constrain(LETTERS, after=marker)
        assert sampler_at(smollm2, stage, [500]).allowed.sum() > 40_000
        work = sampler_at(smollm2, stage, [500, end[0]])
        assert work.has_begun and work.allowed.sum() < 40_000
    text = smollm2.tokenize("<|im_start|>", add_special=False, parse_special=False)
    assert len(text) > 1 and sampler_at(smollm2, ml.Constrain(LETTERS, after="t|>"), text).has_begun


def test_a_real_model_thinks_and_then_answers(smollm2):
    answer = ml.Grammar.choice([" yes", " no"])
    prompt = "Question: Is the sky blue?\nThought:"
    chain = ml.Constrain(answer, after=re.compile("[.!?]"), stop="only") | ml.Greedy()
    with smollm2.session(n_ctx=512) as session:
        trace = session.generate(prompt, chain, max_tokens=100, seed=1)
        free = session.generate(prompt, ml.Greedy(), max_tokens=100, seed=1)
        thought, marker, said = re.split("([.!?])", trace.text, maxsplit=1)
        assert free.text.startswith(thought + marker) and thought
        assert said in (" yes", " no") and trace.finish_reason == "complete"


@pytest.mark.parametrize("after", ["</think>", 7, re.compile("(?i)a[bc]", re.S), None], ids=str)
def test_it_is_a_value_that_prints_as_code(after):
    chain = ml.Constrain(LETTERS, after=after) | ml.TopK(5)
    assert ml.Chain.from_dict(json.loads(json.dumps(chain.to_dict()))) == chain
    assert pickle.loads(pickle.dumps(chain)) == chain and hash(chain)
    assert eval(ChainEditor(chain).code, {"ml": ml}) == chain
    assert chain[0] == ml.Constrain(LETTERS, after=chain[0].after)


@pytest.mark.parametrize(
    ("flags", "text", "matches"),
    [
        (0, "A.\n", False),
        (re.I, "A.", True),
        (re.I | re.S, "A\n", True),
    ],
)
def test_the_flags_of_a_compiled_expression_count(model, flags, text, matches):
    stage = ml.Constrain(LETTERS, after=re.compile("a.", flags))
    assert sampler_at(model, stage, [3 + byte for byte in text.encode()]).has_begun == matches


def test_what_is_no_marker_is_refused(model, session):
    for after, error, said in [
        ("", ValueError, "has 1 to"),
        ("x" * 5000, ValueError, "has 1 to"),
        ("\ud800", ValueError, "surrogate"),
        (-1, ValueError, "must be from 0"),
        (True, TypeError, "must be a whole number"),
        (b"x", TypeError, "must be a whole number"),
        (re.compile(b"x"), ValueError, "of a str"),
        (re.compile("x", re.A), ValueError, "without re.ASCII"),
        (re.compile("x", re.X), ValueError, "and re.VERBOSE"),
        (re.compile("^x"), GrammarError, "lookarounds"),
        (re.compile(r"\bx"), GrammarError, "lookarounds"),
        (re.compile(r"(x)\1"), GrammarError, "backreferences"),
        (LETTERS, ValueError, "only a Grammar.regex"),
    ]:
        with pytest.raises(error, match=said):
            ml.Constrain(WORDS, after=after)
    for after, error, said in [
        (model.n_vocab, ValueError, "outside the vocabulary"),
        (re.compile("x*"), ValueError, "matches an empty text"),
        (re.compile(r"[^\s\S]"), GrammarError, "no text has a match"),
    ]:
        with pytest.raises(error, match=said):
            session.generate(PROMPT, ml.Constrain(WORDS, after=after))
    assert session.generate(PROMPT, max_tokens=1)


def test_an_expression_that_python_would_never_end_with_ends(model):
    stage = ml.Constrain(WORDS, after=re.compile("(a+)+b"))
    work = sampler_at(model, stage, [3 + ord("a")] * 3000)
    assert not work.has_begun and work.allowed[3 + ord("b")]
    work.accept(3 + ord("b"))
    assert work.has_begun


def test_bytes_of_a_character_that_is_cut_are_free_and_a_marker_is_found_behind_them(model):
    stage = ml.Constrain(WORDS, after="\u20ac")
    for before in itertools.product([b"\xe2", b"\x82", b"\xff", b"\xe2\x82", b"a"], repeat=2):
        text = b"".join(before)
        work = sampler_at(model, stage, [3 + byte for byte in text])
        assert np.count_nonzero(~work.allowed) == 0 or not work.has_begun
        for byte in "\u20ac".encode():
            assert not work.has_begun and work.allowed[3 + byte]
            work.accept(3 + byte)
        assert work.has_begun, text


def test_chats_turns_and_several_texts_take_it_as_their_grammar(tiny_model):
    stage = ml.Constrain(ml.Grammar.choice(["(ab)", "(c)"]), after="a", stop="only")
    with tiny_model.session(n_ctx=512, n_threads=1, n_seq_max=4) as session:
        trace = session.chat(
            [{"role": "user", "content": "?"}], FEW, grammar=stage, max_tokens=90, seed=1
        )
        turn = session.conversation().say("?", FEW, grammar=stage, max_tokens=90, seed=2)
        several = session.generate_many(
            PROMPT, FEW, grammar=[stage, None], max_tokens=90, seeds=[1, 2]
        )
    for one in (trace, turn, several[0]):
        assert re.fullmatch(r"[^a]*a(\(ab\)|\(c\))", one.text) and one.finish_reason == "complete"
    assert several[1].chain == FEW


def test_an_editor_turns_the_grammar_and_leaves_the_rest():
    editor = ml.widgets.ChainEditor(
        ml.Chain([ml.Constrain(LETTERS, after="a", stop="only"), ml.TopK(5)])
    )
    editor.set("Constrain", grammar='root ::= "x"')
    other = ml.Constrain(ml.Grammar.gbnf('root ::= "x"'), after="a", stop="only")
    assert editor.chain[0] == other
    editor.toggle("Constrain")
    editor.toggle("Constrain")
    assert editor.chain[0] == other
