"""Streamed text against a plain oracle: any tokens, any stops, left or cancelled anywhere."""

from __future__ import annotations

import asyncio
from itertools import accumulate

import pytest
from hypothesis import strategies as st

from mullama_lab.engine import tiny
from mullama_lab.engine.model import Model
from mullama_lab.engine.stages import Custom

PIECES = ["a😀", "é, ", "STOP", "ab"]
X = [ord("x") + 3]
CONTROLS = [tiny.UNK, tiny.BOS]  # "</s>" would end every case
BYTES = [byte + 3 for byte in "abSTOP, é😀\xff".encode("latin-1", "replace") + "é😀".encode()]
TOKENS = [*CONTROLS, *BYTES, *range(tiny.N_VOCAB, tiny.N_VOCAB + len(PIECES))]
STRINGS = ["a", "ab", "aba", "STOP", "OP,", ", ", "é", "😀", "\ufffd", "<s>", "b<s>a", "<unk>S"]


def written(text):
    """The tokens of a text, byte by byte, and so the pieces of its characters."""
    return [byte + 3 for byte in text.encode()]


# Any tokens; texts in which stops begin often, and few of them end; and characters in pieces.
few = st.sampled_from([*written("aabbS"), tiny.BOS, tiny.N_VOCAB + 2])
tokens = st.one_of(
    st.lists(st.sampled_from(TOKENS), min_size=1, max_size=24),
    st.lists(few, min_size=1, max_size=24),
    st.text("aé😀, STOP", min_size=1, max_size=9).map(written),
)
stops = st.lists(
    st.sampled_from([*STRINGS, *TOKENS[1:]]) | st.text("abSTOP, é😀", min_size=1, max_size=4),
    max_size=3,
)

pytestmark = pytest.mark.usefixtures("no_event_loop")


@pytest.fixture(scope="module")
def session(tmp_path_factory):
    path = tiny.write(tmp_path_factory.mktemp("fuzz") / "t.gguf", pieces=PIECES)
    with Model.load(path) as model, model.session(n_ctx=128, n_threads=1) as session:
        yield session


def forcing(wanted):
    """A stage under which the model draws these tokens after the one of the prompt."""

    def force(logits, history):
        logits[:] = -float("inf")
        logits[wanted[len(history) - len(X)]] = 0
        return logits

    return Custom(force)


def expected(model, drawn, stop, first=0):
    """(tokens drawn, bytes of the text): what a look at the whole text after each token says."""
    shown = [model.piece(token, special=False) for token in drawn]
    marked = [model.piece(token) for token in drawn]
    ends = list(accumulate(map(len, shown)))
    for n in range(first + 1, len(drawn) + 1):
        text, before = b"".join(shown[:n]), ends[n - 1] - len(shown[n - 1])
        found = [before] if drawn[n - 1] in stop else []
        for string in (s.encode() for s in stop if isinstance(s, str)):
            # One that ends with the newest token; in the text, or with control tokens in it.
            at = text.find(string, max(0, before - len(string) + 1))
            found += [at] if at >= 0 else []
            found += _with_controls(drawn[:n], marked[:n], shown[:n], string)
        if found:
            return n, text[: min(found)]
    return len(drawn), b"".join(shown)


def _with_controls(drawn, marked, shown, string):
    """Where a string begins that names control tokens and ends with the newest token."""
    names = {token: name for token, name in zip(drawn, marked, strict=True) if token in CONTROLS}
    wanted = {token for token, name in names.items() if name in string}
    if not wanted:
        return []
    places = []  # of each symbol of the string: its token and the bytes of text before it
    symbols = []
    n_bytes = 0
    for token, part in zip(drawn, shown, strict=True):
        units = [token + 256] if token in wanted else list(part)
        symbols += units
        places += [n_bytes] * len(units) if token in wanted else range(n_bytes, n_bytes + len(part))
        n_bytes += len(part)
    newest = len([drawn[-1]] if drawn[-1] in wanted else shown[-1])
    pattern = _pattern(string)
    first = max(0, len(symbols) - newest - len(pattern) + 1)
    for at in range(first, len(symbols) - len(pattern) + 1):
        if symbols[at : at + len(pattern)] == pattern:
            return [places[at]]
    return []


def _pattern(string):
    found = []
    while string:
        for token, name in ((tiny.UNK, b"<unk>"), (tiny.BOS, b"<s>")):
            if string.startswith(name):
                found.append(token + 256)
                string = string[len(name) :]
                break
        else:
            found.append(string[0])
            string = string[1:]
    return found


def decoded(data):
    """The text of bytes; what is incomplete at the end is left out."""
    for n in range(min(3, len(data)) + 1):
        try:
            data[len(data) - n :].decode() if n else b""
        except UnicodeDecodeError as error:
            if error.reason == "unexpected end of data" and error.start == 0:
                return data[: len(data) - n].decode("utf-8", "replace")
    return data.decode("utf-8", "replace")


def agrees(steps, trace, text):
    assert trace.text_bytes == text
    assert "".join(step.text for step in steps) == trace.text == decoded(text)
    assert "".join(step.text for step in trace) == trace.text
    assert [step.token for step in steps] == trace.tokens.tolist()


def test_streamed_text_is_what_a_look_at_the_whole_text_gives(session, attack):
    def attempt(case):
        drawn, stop = case
        said = {"max_tokens": len(drawn), "stop": stop}
        steps = list(session.stream(X, forcing(drawn), **said))
        n, text = expected(session.model, drawn, stop)
        assert len(steps) == n
        agrees(steps, session.last_trace, text)

    attack(st.tuples(tokens, stops), attempt, few=150)


def test_a_branch_anywhere_says_what_its_tokens_say(session, attack):
    def attempt(case):
        drawn, stop, at = case
        at %= len(drawn)
        parent = session.generate(X, forcing(drawn), max_tokens=len(drawn))
        run = session.start_branch(
            parent, at, drawn[at], forcing(drawn), max_tokens=len(drawn) - at - 1, stop=stop
        )
        steps = list(run)
        n, text = expected(session.model, drawn, stop, first=at)
        assert len(steps) == n
        agrees(steps, run.trace, text)

    attack(st.tuples(tokens, stops, st.integers(0, 30)), attempt, few=100)


def test_text_that_was_seen_is_never_taken_back(session, attack):
    """Whoever looks at the trace between two tokens sees the beginning of its text."""

    def attempt(case):
        drawn, stop = case
        seen = []
        force = forcing(drawn).function

        def watched(logits, history):
            trace = session.run.trace
            seen.append(trace.text)
            assert seen[-1] == "".join(step.text for step in trace)
            return force(logits, history)

        trace = session.generate(X, Custom(watched), max_tokens=len(drawn), stop=stop)
        for earlier, later in zip(seen, [*seen[1:], trace.text], strict=True):
            assert later.startswith(earlier)

    attack(st.tuples(tokens, stops), attempt, few=60)


def test_a_stream_that_is_left_anywhere_leaves_a_whole_session(session, attack):
    async def read(drawn, stop, n, seen):
        async for step in session.stream(X, forcing(drawn), max_tokens=len(drawn), stop=stop):
            seen.append(step)
            if len(seen) == n:
                return
            await asyncio.sleep(0)

    async def cancelled(drawn, stop, n):
        seen = []
        task = asyncio.ensure_future(read(drawn, stop, 99, seen))
        while len(seen) < n and not task.done():
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait([task])
        return seen

    async def left(drawn, stop, n):
        seen = []
        await read(drawn, stop, n, seen)
        return seen

    def attempt(case):
        drawn, stop, n, how = case
        if how == "for":
            seen = []
            for step in session.stream(X, forcing(drawn), max_tokens=len(drawn), stop=stop):
                seen.append(step)
                if len(seen) == n:
                    break
        else:
            seen = asyncio.run({"left": left, "cancelled": cancelled}[how](drawn, stop, n))
        trace = session.run.wait(20)
        assert trace.finish_reason in ("stopped", "stop", "length")
        shown = "".join(step.text for step in seen)
        assert trace.text.startswith(shown)
        assert [step.token for step in seen] == trace.tokens[: len(seen)].tolist()
        assert "".join(step.text for step in trace) == trace.text
        assert len(session.generate(X, forcing([5, 6]), max_tokens=2)) == 2

    how = st.sampled_from(["for", "left", "cancelled"])
    attack(st.tuples(tokens, stops, st.integers(1, 9), how), attempt, few=60)
