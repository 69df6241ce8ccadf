"""A generation with chains by steps is the run whose chain was changed at those steps."""

from __future__ import annotations

import threading

import numpy as np
import pytest

from mullama_lab.engine import stages as s
from mullama_lab.engine import tiny
from mullama_lab.engine.stages import Chain
from mullama_lab.errors import NoCandidates

NO_END = s.Mask(ban=[tiny.EOS])
FIRST = NO_END | s.Penalties(repeat=1.1) | s.Mirostat(4.0, 0.3)
THEN = NO_END | s.TopK(50) | s.Mirostat(4.0, 0.3)
LAST = NO_END | s.XTC(0.5, 0.01) | s.Temperature(1.3)


@pytest.fixture
def session(tiny_model):
    with tiny_model.session(n_ctx=512, n_threads=1) as session:
        yield session


def changed_by_hand(session, chains, n, seed):
    """A run whose `chain` is set at its steps: from a stage, which is asked at every draw."""
    runs, rest, there = [], dict(chains), threading.Event()

    def turn(logits, history):
        assert there.wait(20)
        step = len(history) - len(runs[0].trace.prompt_tokens)
        if step + 1 in rest:
            runs[0].chain = Chain([watch, *rest[step + 1]])
        return logits

    watch = s.Custom(turn)
    runs.append(session.start("Hello", Chain([watch, *rest[0]]), max_tokens=n, seed=seed))
    there.set()
    return runs[0].wait(20)


def test_chains_given_by_steps_are_those_of_a_run_that_was_changed_there(session):
    chains = {0: FIRST, 5: THEN, 9: LAST}
    byhand = changed_by_hand(session, chains, 16, 7)
    session.reset()
    trace = session.generate("Hello", chains, max_tokens=16, seed=7)
    assert trace.chains == [(0, FIRST), (5, THEN), (9, LAST)]
    assert trace.tokens.tolist() == byhand.tokens.tolist()
    for step in range(16):
        assert trace.state(step) == byhand.state(step)[1:]
    assert trace.schedule == chains
    session.reset()
    again = session.generate("Hello", trace.schedule, max_tokens=16, seed=7)
    assert again.tokens.tolist() == trace.tokens.tolist()


def test_a_stream_a_run_and_a_branch_take_them_too(session):
    chains = {0: FIRST, 5: THEN}
    trace = session.generate("Hello", chains, max_tokens=9, seed=7)
    steps = list(session.stream("Hello", chains, max_tokens=9, seed=7))
    assert [step.token for step in steps] == trace.tokens.tolist()
    run = session.start("Hello", chains, max_tokens=9, seed=7)
    assert run.wait(20).chains == [(0, FIRST), (5, THEN)]
    branch = session.branch(trace, 2, 70, {0: FIRST, 5: LAST, 99: THEN}, max_tokens=6)
    assert branch.chains == [(0, FIRST), (5, LAST)]
    alone = session.branch(trace, 2, 70, FIRST, max_tokens=6)
    np.testing.assert_array_equal(branch.tokens[:5], alone.tokens[:5])


def test_a_chain_set_on_the_way_holds_to_the_end(session):
    only = {byte: s.Mask(allow=[byte + 3]) for byte in b"ab"}
    run = session.start("x", {0: only[97], 40_000: NO_END}, max_tokens=20_000)
    while len(run.trace) < 3:
        pass
    assert run.chain == Chain([only[97]])
    run.chain = only[98]
    while run.trace.tokens[-1] != 98 + 3:
        pass
    run.stop()
    assert [chain for _, chain in run.wait().chains] == [Chain([x]) for x in only.values()]


def test_every_chain_is_checked_before_anything_begins(session):
    with pytest.raises(ValueError, match="vocabulary has 259"):
        session.generate("x", {0: NO_END, 7: s.Mask(ban=[999])})
    with pytest.raises(ValueError, match="step 0 is drawn first"):
        session.generate("x", {3: NO_END})
    trace = session.generate("x", NO_END, max_tokens=4, seed=1)
    with pytest.raises(ValueError, match="step 3 is drawn first"):
        session.branch(trace, 2, 70, {4: NO_END})


def test_a_chain_that_failed_at_its_first_token_is_none_of_the_traces(session):
    with pytest.raises(NoCandidates, match="no token is left"):
        session.generate("x", {0: NO_END, 4: s.Mask(ban=range(259))}, max_tokens=9)
    trace = session.last_trace
    assert len(trace) == 4
    assert trace.schedule == {0: Chain([NO_END])}
