"""What `trace.canonical` says: where it is true, a fresh session has that row bit for bit."""

from __future__ import annotations

import numpy as np
import pytest

from mullama_lab.engine import tiny
from mullama_lab.engine.stages import Custom, Mask

NO_END = Mask(ban=(tiny.EOS,))


@pytest.fixture
def alone(tiny_model):
    """A function that generates in a session that does nothing else."""

    def generate(prompt, n, seed):
        with tiny_model.session(n_ctx=1024, n_threads=1) as session:
            return session.generate(prompt, NO_END, max_tokens=n, seed=seed)

    return generate


def must_hold(trace, alone):
    """What the record says of its rows, against the same text of a fresh session."""
    known = alone(trace.prompt_tokens.tolist(), len(trace), trace.seed)
    other = np.flatnonzero(trace.tokens != known.tokens)
    n = other[0] if len(other) else len(trace)  # after that they are different texts
    same = trace.logsumexp[:n] == known.logsumexp[:n]
    assert same[trace.canonical[:n]].all()
    return same


def test_what_was_generated_and_is_given_again_is_not_canonical(session, alone):
    first = session.generate("x" * 100, NO_END, max_tokens=60, seed=1)
    assert first.canonical.all()
    assert must_hold(first, alone).all()
    again = session.generate(first.history(59).tolist(), NO_END, max_tokens=20, seed=2)
    assert again.n_prompt_reused > 150
    assert not again.canonical.any()
    must_hold(again, alone)
    session.reset()
    anew = session.generate(again.prompt_tokens.tolist(), NO_END, max_tokens=20, seed=2)
    assert anew.canonical.all()
    assert must_hold(anew, alone).all()


def test_a_text_is_canonical_until_another_joins_it(session, alone):
    def begin_late(row, history):
        if len(history) == 101 + 10:
            late.append(session.start("y" * 200, NO_END, max_tokens=9, seed=4))
        return row

    late = []
    first = session.generate("x" * 100, NO_END | Custom(begin_late), max_tokens=40, seed=3)
    assert first.canonical.tolist() == [True] * 11 + [False] * 29
    for trace in (first, late[0].wait(20)):
        must_hold(trace, alone)


def test_texts_side_by_side_are_not_canonical(session, alone):
    prompts = [letter * n for letter, n in zip("abcd", (20, 90, 150, 200), strict=True)]
    traces = session.generate_many(prompts, NO_END, max_tokens=20, seeds=range(4))
    for trace in traces:
        assert not trace.canonical.any()
        must_hold(trace, alone)
