"""The text of a step can be printed as it comes: joined it is the text of the trace."""

from __future__ import annotations

import copy
import itertools
import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mullama_lab.engine import tiny
from mullama_lab.engine.model import Model
from mullama_lab.engine.stages import Chain, Custom, Mask
from mullama_lab.engine.trace import Trace
from mullama_lab.engine.trace.step_texts import StepTexts, decoded
from mullama_lab.errors import StageFailed

X = [ord("x") + 3]
EMOJI = "😀👍🏽"


def joined(steps):
    return "".join(step.text for step in steps)


@pytest.mark.parametrize(
    ("data", "stop", "text"),
    [
        (b" G H I J K L M", "I J K L M", " G H "),
        (b"aSTOb", "STOP", "aSTOb"),
        (b"aSTO", "STOP", "aSTO"),  # it ends before the rest could come
        (b"abababac", "ababac", "ab"),
        (b"one, two", [", ", "two"], "one"),
        (f"a{EMOJI}b".encode(), (), f"a{EMOJI}b"),
        (f"a{EMOJI}b".encode(), "b", f"a{EMOJI}"),
        (f"a{EMOJI}".encode(), "👍", "a😀"),
        (EMOJI.encode()[:6], (), "😀"),
        (b"\xf0\x9f", (), ""),
        (b"a\xf0\x9fb\xff", (), "a\ufffdb\ufffd"),
        (b"a\xe2\xc3\xa9", "é", "a"),
        (b"a\xe2\xc3b", "é", "a\ufffd\ufffdb"),
    ],
)
def test_streamed_text_joined_is_the_text(session, writes, data, stop, text):
    steps = list(session.stream(X, writes(data), max_tokens=len(data), stop=stop))
    trace = session.last_trace
    assert joined(steps) == joined(trace) == trace.text == text
    assert b"".join(step.piece for step in steps) == b"".join(trace.pieces)
    assert [step.index for step in steps] == list(range(len(trace)))


def test_a_stream_gives_no_text_that_a_stop_string_takes_back(session, writes):
    shown = ""
    for step in session.stream(X, writes(b"ab, STO, STOP, c"), max_tokens=16, stop=", STOP"):
        shown += step.text
        assert "ab, STO".startswith(shown)
    assert shown == "ab, STO"


def test_a_step_comes_as_soon_as_nothing_can_take_its_text_back(session, writes):
    at_work = []
    force = writes(b"abSTOcd").function

    def noted(logits, history):
        at_work.append(len(history) - 1)  # tokens drawn before
        return force(logits, history)

    seen = []
    undo = session.on_start(
        lambda run: run.on_step(lambda step: seen.append((step.index, step.text, at_work[-1])))
    )
    session.generate(X, Custom(noted), max_tokens=7, stop="STOP")
    undo()
    assert [text for _, text, _ in seen] == list("abSTOcd")
    # "S", "T" and "O" wait for "c"; each other step comes before the next but one is drawn.
    assert all(drawn - index in (0, 1) for index, _, drawn in seen if index not in (2, 3, 4))
    assert all(drawn in (5, 6) for index, _, drawn in seen if index in (2, 3, 4))


def test_end_tokens_add_no_text_and_stay_in_the_piece(session, draws):
    steps = list(session.stream(X, draws([*b"\x64\x65", tiny.BOS, tiny.EOS]), max_tokens=9))
    assert [step.text for step in steps] == ["a", "b", "", ""]
    assert [step.piece for step in steps] == [b"a", b"b", b"<s>", b"</s>"]
    assert session.last_trace.finish_reason == "eog"


def test_the_text_of_a_running_trace_only_grows(session, writes):
    texts = []
    force = writes(b"a, STO, STOP").function

    def watched(logits, history):
        trace = session.run.trace
        texts.append((trace.text, joined(trace)))
        return force(logits, history)

    trace = session.generate(X, Custom(watched), max_tokens=12, stop=", STOP")
    assert trace.text == "a, STO"
    assert all(text == steps for text, steps in texts)
    shown = [text for text, _ in texts]
    assert all(later.startswith(earlier) for earlier, later in itertools.pairwise(shown))
    assert shown[-1] == trace.text


def test_a_run_that_fails_gives_the_text_that_was_held_back(session, writes):
    force = writes(b"aSTO").function
    fails = Custom(lambda logits, history: force(logits, history) if len(history) < 5 else 0)
    seen = []
    with pytest.raises(StageFailed):
        for step in session.stream(X, fails, max_tokens=9, stop="STOP"):
            seen.append(step)
    assert joined(seen) == joined(session.last_trace) == session.last_trace.text == "aSTO"


def test_a_run_that_is_stopped_gives_the_text_that_was_held_back(session, writes, until):
    run = session.start(X, writes(b"STO" * 3), max_tokens=900, stop="STO" * 4 + "P")
    until(lambda: len(run.trace) > 5)
    assert run.trace.text == ""
    run.stop()
    steps = list(run)
    assert run.state == "stopped"
    assert len(steps) == len(run.trace) > 5
    assert joined(steps) == run.trace.text == ("STO" * 300)[: len(steps)]


def test_a_full_context_gives_the_text_that_was_held_back(tiny_model, writes):
    with tiny_model.session(n_ctx=8, n_threads=1) as session:
        steps = list(session.stream(X, writes(b"S"), max_tokens=99, stop="S" * 20 + "P"))
        assert session.last_trace.finish_reason == "context"
        assert joined(steps) == session.last_trace.text == "S" * len(steps) != ""


def test_side_by_side_the_steps_of_each_run_are_its_text(session, writes):
    data = [b"one STOP", EMOJI.encode(), b"STO", b"x"]
    chains = [Chain([writes(text)]) for text in data]
    runs = session.start_many(X, chains, max_tokens=len(EMOJI.encode()), seeds=0, stop="STOP")
    texts = [joined(run) for run in runs]
    assert texts == [trace.text for trace in runs.wait()]
    assert texts == ["one ", EMOJI, "STO" * 4, "x" * 12]


def test_a_branch_goes_on_in_the_middle_of_a_stop_string_and_of_a_character(session, writes):
    data = b"abS" + EMOJI.encode()
    parent = session.generate(X, writes(data), max_tokens=len(data))
    run = session.start_branch(parent, 3, ord("T") + 3, writes(b"OP."), max_tokens=2, stop="STOP")
    assert joined(run) == joined(run.trace) == run.trace.text == "ab"
    assert run.trace.finish_reason == "stop"
    run = session.start_branch(parent, 4, 0x9F + 3, writes(EMOJI.encode()[2:4]), max_tokens=2)
    assert joined(run) == joined(run.trace) == run.trace.text == "abS😀"


def test_a_branch_that_was_never_begun_still_says_its_parents_text(session, writes, gate):
    parent = session.generate(X, writes(b"aSTO"), max_tokens=4)
    first = session.start(X, Custom(gate), max_tokens=1)
    assert gate.at_work.wait(20)
    branch = session.start_branch(parent, 3, ord("T") + 3, stop="STOP")
    assert branch.trace.text == "a"
    branch.stop()
    gate.open.set()
    first.wait()
    assert branch.wait().text == joined(branch) == "aST"


def test_slices_copies_and_saved_traces_join_to_their_text_too(session, writes):
    data = f"a{EMOJI} b, c".encode()
    trace = session.generate(X, writes(data), max_tokens=len(data), stop=", ")
    assert trace.text == f"a{EMOJI} b"
    copied = copy.copy(trace)
    copied.chains = [(0, Chain())]  # a function cannot be saved
    for other in (copied, Trace.from_dict(json.loads(json.dumps(copied.to_dict())))):
        assert joined(other) == other.text == trace.text
        assert [step.text for step in other] == [step.text for step in trace]
    for a in range(len(trace) + 1):
        for b in range(a, len(trace) + 1):
            part = trace[a:b]
            assert joined(part) == part.text
            assert part.text_bytes == data[a : min(b, 15)]


def test_the_real_model_streams_what_it_says(smollm2):
    with smollm2.session(n_ctx=256) as session:
        prompt = "<|im_start|>user\nSmile: 😀🎉👍<|im_end|>\n<|im_start|>assistant\n😀🎉"
        steps = list(session.stream(prompt, max_tokens=40, seed=1))
        assert joined(steps) == session.last_trace.text
        assert "<|im_end|>" not in joined(steps)


@settings(max_examples=300)
@given(
    st.lists(st.binary(max_size=5), max_size=8)
    | st.text(max_size=6).map(lambda text: [bytes([b]) for b in text.encode("utf-8", "replace")]),
    st.integers(0, 40),
)
def test_the_texts_of_steps_are_those_of_the_whole_text_wherever_it_ends(parts, n_bytes):
    texts = StepTexts()
    texts.end_at(n_bytes if n_bytes < sum(map(len, parts)) else None)
    for part in parts:
        texts.append(part)
    n = len(parts)
    assert "".join(map(texts.of, range(n))) == decoded(texts.joined(n))
    texts.end_at(n_bytes)
    assert texts.joined(n) == b"".join(parts)[:n_bytes]
    assert texts.end_in_bytes == n_bytes
    assert "".join(map(texts.of, range(n))) == decoded(texts.joined(n))
    for k in range(texts.n_settled(n)):  # each is what the text grows by
        assert decoded(texts.joined(k)) + texts.of(k) == decoded(texts.joined(k + 1))


def test_a_trace_whose_tokens_are_pieces_of_characters_joins_too(tmp_path):
    path = tiny.write(tmp_path / "t.gguf", pieces=["a😀", "é, "])
    with Model.load(path) as model, model.session(n_ctx=64, n_threads=1) as session:
        allow = Mask(allow=[tiny.N_VOCAB, tiny.N_VOCAB + 1, 0xF0 + 3])
        steps = list(session.stream("x", allow, max_tokens=30, seed=4, stop=", é, a"))
        assert joined(steps) == session.last_trace.text
        assert np.unique(session.last_trace.tokens).size == 3
