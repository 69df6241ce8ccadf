"""What ends a text: strings, the texts of control tokens, and tokens by id."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mullama_lab.engine import tiny
from mullama_lab.engine.loop.stops import Stops, StopSearch
from mullama_lab.engine.stages import Chain
from mullama_lab.studies.sweeps import sweep

BOS = tiny.BOS
X = [ord("x") + 3]


def byte(text):
    return [b + 3 for b in text.encode()]


@pytest.mark.parametrize(
    ("tokens", "stop", "text", "n"),
    [
        ([*byte("ab"), BOS, *byte("cd")], "<s>", "ab", 3),
        ([*byte("ab"), BOS, *byte("cd")], BOS, "ab", 3),
        ([*byte("ab"), BOS, *byte("cd")], [np.int32(BOS)], "ab", 3),
        ([*byte("ab"), BOS, *byte("cd")], ["zz", BOS, 77], "ab", 3),
        (byte("ab<s>cd"), "<s>", "ab", 5),  # written out, it is the same text
        (byte("ab<s>cd"), BOS, "ab<s>cd", 7),  # but not that token
        ([*byte("ab"), BOS, *byte("cd")], "c", "ab", 4),
        ([*byte("ab"), BOS, *byte("cd")], "bc", "a", 4),  # a control token is no text
        ([*byte("ab"), BOS, *byte("cd")], "b<s>c", "a", 4),
        ([*byte("ab"), BOS, *byte("cd")], "b<s>d", "abcd", 5),
        ([*byte("ab"), BOS, *byte("cd")], ["b<s>d", "bc"], "a", 4),
        ([*byte("ab"), BOS, BOS, *byte("cd")], "<s><s>", "ab", 4),
        ([*byte("ab"), BOS, *byte("cd")], "s", "abcd", 5),  # nor is its name
        (byte("abcd"), ord("c") + 3, "ab", 3),
        ([*byte("ab"), tiny.EOS], tiny.EOS, "ab", 3),
        ([tiny.UNK, *byte("ab")], "<unk>", "", 1),
        (byte("xaby"), ["ab", ord("b") + 3], "x", 3),  # what begins first
    ],
)
def test_a_stop_ends_the_text_before_it(session, draws, tokens, stop, text, n):
    steps = list(session.stream(X, draws(tokens), max_tokens=len(tokens), stop=stop))
    trace = session.last_trace
    assert "".join(step.text for step in steps) == trace.text == text
    assert len(trace) == n
    assert trace.finish_reason == ("stop" if text != "abcd" and "<" not in text else "length")


def test_the_longest_stop_string_is_found(session, writes):
    trace = session.generate(X, writes(b"aab"), max_tokens=9, stop=["a" * 4096, "baab"])
    assert trace.text == "aa"


@pytest.mark.parametrize("stop", ["<s>", BOS, ["<s>", 5]])
def test_every_way_to_generate_takes_the_same_stops(session, draws, stop):
    tokens = [*byte("ab"), BOS, *byte("cd")]
    said = {"max_tokens": 5, "stop": stop}
    parent = session.generate(X, draws(tokens), max_tokens=5)
    traces = [
        session.generate(X, draws(tokens), **said),
        session.start(X, draws(tokens), **said).wait(),
        *session.generate_many([X], [Chain([draws(tokens)])], **said),
        *session.start_many([X], [Chain([draws(tokens)])], **said).wait(),
        session.branch(parent, 1, ord("b") + 3, draws(tokens[2:]), **said),
        session.start_branch(parent, 1, ord("b") + 3, draws(tokens[2:]), **said).wait(),
        session.branch(parent, 2, BOS, **said),  # the token that is given is the stop
        *session.branch_many([(parent, 2, BOS)], **said),
        *session.start_branches([(parent, 2, BOS)], **said).wait(),
    ]
    list(session.stream(X, draws(tokens), **said))
    for trace in (*traces, session.last_trace):
        assert trace.finish_reason == "stop"
        assert trace.text == "ab"
        assert trace.tokens.tolist() == tokens[:3]


def test_a_chat_stops_at_a_control_token_of_the_template(smollm2):
    (mark,) = smollm2.tokenize("<|im_start|>", add_special=False, parse_special=True)
    with smollm2.session(n_ctx=256) as session:
        asked = [{"role": "user", "content": "Hello"}]
        whole = session.chat(asked, max_tokens=4, seed=0)
        trace = session.branch(whole, 2, mark, max_tokens=8, stop="<|im_start|>")
        assert trace.finish_reason == "stop"
        assert trace.text == whole[:2].text
        assert session.branch(whole, 2, mark, max_tokens=8, stop=mark).text == trace.text


def test_a_sweep_takes_stop_tokens_here_and_in_other_processes(tiny_path):
    table = sweep("a", None, on=tiny_path, max_tokens=4, stop=list(range(259)), progress=False)
    assert table.finish_reason.tolist() == ["stop"]
    assert table.n_tokens.tolist() == [1]


@pytest.mark.parametrize(
    ("stop", "kind", "says"),
    [
        (-1, ValueError, "a stop token=-1"),
        (259, ValueError, "token 259 is outside the vocabulary"),
        ([5, 10**9], ValueError, "outside the vocabulary"),
        (2**70, ValueError, "a stop token=1180591620717411303424"),
        (True, TypeError, "no text and no token id"),
        (1.5, TypeError, "a text, a token id, or a list"),
        ([1.5], TypeError, "1.5 is no text and no token id"),
        (b"a", TypeError, "a text, a token id, or a list"),
        ({"a": 1}, TypeError, "a text, a token id, or a list"),
        ([["a"]], TypeError, "no text and no token id"),
        ("", ValueError, "at least one character"),
        ("a" * 4097, ValueError, "it has 4097 characters, and a stop string has at most 4096"),
    ],
)
def test_what_is_no_stop_is_refused_in_words(session, stop, kind, says):
    with pytest.raises(kind, match=says):
        session.generate("x", max_tokens=1, stop=stop)


def test_a_stop_string_that_no_vocabulary_could_write_is_one_all_the_same(session, writes):
    trace = session.generate(X, writes(b"a\xed\xa0\x80b"), max_tokens=5, stop="\ud800")
    assert trace.text == "a"


@settings(max_examples=300)
@given(
    st.lists(st.text("ab", min_size=1, max_size=5), min_size=1, max_size=3),
    st.lists(st.text("abc", max_size=3), max_size=12),
)
def test_the_search_finds_what_looking_at_the_whole_text_finds(stops, parts):
    search = StopSearch(Stops(tuple(tuple(stop.encode()) for stop in stops)))
    text = ""
    for part in parts:
        text += part
        end = search.find(3, part.encode())
        found = [at for stop in stops if (at := text.find(stop)) >= 0]
        assert end == min(found, default=None)
        if found:
            return
        begins = [
            len(text) - n
            for stop in stops
            for n in range(1, len(stop))
            if n <= len(text) and text.endswith(stop[:n])
        ]
        assert search.n_safe == min(begins, default=None)
