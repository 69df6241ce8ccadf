"""Runs in flight: watched, changed, stopped, from any thread, until the very end."""

from __future__ import annotations

import threading
import time
from contextlib import contextmanager

import numpy as np
import pytest

from mullama_lab.engine import tiny
from mullama_lab.engine.model import Model
from mullama_lab.engine.stages import (
    Chain,
    Custom,
    LogitBias,
    Mask,
    Mirostat,
    MirostatV2,
    Temperature,
    TopK,
)
from mullama_lab.engine.worker import Worker
from mullama_lab.errors import SessionError, StageFailed

NO_END = Chain([Mask(ban=[tiny.EOS])])
NOISE = 0.02  # other batch sizes give other roundings; another prompt differs by more than 1
A, B = ord("a") + 3, ord("b") + 3


@contextmanager
def busy(session, gate):
    """Keep the session's worker in a run until the block ends."""
    run = session.start("x", NO_END | Custom(gate), max_tokens=1)
    assert gate.at_work.wait(20)
    try:
        yield run
    finally:
        gate.open.set()
        run.wait(20)


@pytest.fixture(scope="module")
def session(tiny_model):
    with tiny_model.session(n_ctx=4096, n_threads=1) as session:
        yield session


@pytest.fixture(scope="module")
def long_prompt(tiny_model):
    """A session, and a prompt it takes seconds to process."""
    with tiny_model.session(n_ctx=1 << 16, n_batch=256, n_threads=1) as session:
        yield session, [A, B, A, A, B] * 8000


# Watching.


def test_a_run_goes_from_queued_to_running_to_finished(session, gate):
    with busy(session, gate) as first:
        assert first.state == "prompt"
        assert first.progress == (2, 2)
        run = session.start("abc", NO_END, max_tokens=5, seed=1)
        assert (run.state, run.done, len(run.trace)) == ("queued", False, 0)
        assert run.progress == (0, 4)
        with pytest.raises(TimeoutError, match=r"still runs after 0\.01 seconds"):
            run.wait(timeout=0.01)
    trace = run.wait()
    assert trace is run.trace is session.last_trace
    assert session.run is run
    assert (run.state, run.done, run.error, run.progress) == ("finished", True, None, (4, 4))
    assert len(trace) == 5
    assert run.wait() is trace
    assert repr(run) == "<Run finished: 5 tokens>"


def test_iterating_over_a_run_yields_each_step_once(session):
    run = session.start("abc", NO_END, max_tokens=30, seed=2)
    steps = list(run)
    assert [step.index for step in steps] == list(range(30))
    assert [step.token for step in steps] == run.trace.tokens.tolist()
    assert [step.token for step in run] == [step.token for step in steps]  # also afterwards


def test_a_run_that_fails_says_so_when_waited_for(session):
    run = session.start("abc", Custom(lambda x, _: x[:1]), max_tokens=5)
    with pytest.raises(StageFailed):
        run.wait()
    with pytest.raises(StageFailed):
        list(run)
    assert run.state == "failed"
    assert isinstance(run.error, StageFailed)
    assert run.trace.finish_reason == "failed"


def test_who_watches_a_session_sees_each_run_start(session):
    seen = []
    undo = session.on_start(seen.append)
    run = session.start("abc", max_tokens=1)
    trace = session.generate("abc", max_tokens=1)
    undo()
    session.generate("abc", max_tokens=1)
    assert [run.trace for run in seen] == [run.trace, trace]


@pytest.fixture
def quick(monkeypatch, until):
    """Workers are so quick that a run has ended when it was queued."""
    submit = Worker.submit

    def until_done(worker, *works):
        submit(worker, *works)
        until(lambda: all(work.done for work in works))

    monkeypatch.setattr(Worker, "submit", until_done)


def test_who_watches_a_session_may_change_each_run_from_its_first_token_on(session, quick):
    def watch(run):
        states.append((run.state, run.progress))
        run.on_step(lambda step: setattr(run, "chain", TopK(step.index + 3)))
        run.chain = TopK(2)

    states = []
    undo = session.on_start(watch)
    traces = [session.start("abc", max_tokens=3).wait(), session.generate("abc", max_tokens=3)]
    undo()
    for trace in traces:
        assert trace.n_kept[:, 0].tolist() == [2, 3, 4]
    assert states == [("queued", (0, len(trace.prompt_tokens)))] * 2


def test_who_watches_a_session_may_stop_a_run_but_not_wait_for_it(session):
    def wait(run):
        for ask in (run.wait, lambda: list(run)):
            with pytest.raises(SessionError, match="which begins afterwards") as raised:
                ask()
            refused.append(raised.value)
        run.stop()
        refused.append(run.wait().finish_reason)

    refused = []
    undo = session.on_start(wait)
    run = session.start("abc", max_tokens=3)
    undo()
    assert refused[2:] == ["stopped"] and len(run.wait()) == 0 and run.state == "stopped"
    assert len(session.generate("abc", max_tokens=3)) == 3


def test_an_interrupt_of_who_watches_a_session_ends_the_run_before_it_begins(session):
    def interrupted(run):
        raise KeyboardInterrupt

    undo = session.on_start(interrupted)
    with pytest.raises(KeyboardInterrupt):
        session.start("abc", max_tokens=3)
    undo()
    assert (session.run.state, len(session.run.trace)) == ("stopped", 0)
    assert len(session.generate("abc", max_tokens=3)) == 3


def test_a_stage_finds_the_run_it_works_for_in_the_session(session, quick):
    seen = []
    note = Custom(lambda logits, _: (seen.append((session.run, session.last_trace)), logits)[1])
    run = session.start("abc", NO_END | note, max_tokens=2)
    assert seen == [(run, run.trace)] * 2


# Streaming.


def test_a_stream_yields_what_generate_gives(session):
    steps = list(session.stream("abc", NO_END, max_tokens=20, seed=5))
    trace = session.generate("abc", NO_END, max_tokens=20, seed=5)
    assert [step.token for step in steps] == trace.tokens.tolist()
    assert steps[7].logprob == pytest.approx(trace.logprob[7], abs=1e-3)


def test_leaving_the_loop_of_a_stream_stops_it(session):
    for step in session.stream("abc", NO_END, max_tokens=3000, seed=5):
        if step.index == 3:
            break
    assert session.run.state == "stopped"
    assert 4 <= len(session.last_trace) < 3000
    assert len(session.generate("abc", NO_END, max_tokens=2)) == 2


def test_a_stream_that_fails_raises_that_error_after_its_steps(session):
    fails_later = Custom(lambda x, history: x if len(history) < 7 else x[:1])
    seen = []
    with pytest.raises(StageFailed):
        for step in session.stream("abc", NO_END | fails_later, max_tokens=9):
            seen.append(step.index)
    assert seen == [0, 1, 2]


# Changing.


def test_a_new_chain_holds_from_the_next_token_on(session, until):
    allow_a, allow_b = Chain([Mask(allow=[A])]), Chain([Mask(allow=[B])])
    run = session.start("x", allow_a, max_tokens=3000)
    until(lambda: len(run.trace) > 3)
    run.chain = allow_b
    assert run.chain == allow_b
    until(lambda: run.trace.tokens[-1] == B)
    run.stop()
    tokens = run.wait().tokens
    change = run.trace.chains[1][0]
    assert run.trace.chains == [(0, allow_a), (change, allow_b)]
    assert (tokens[:change] == A).all()
    assert (tokens[change:] == B).all()
    assert run.trace.chain_at(change - 1) == allow_a
    assert run.trace.chain == allow_b


def test_a_stage_that_stays_keeps_what_it_has_learnt_when_the_chain_changes(session, until):
    stays, goes = Mirostat(2.0, 0.3), MirostatV2(2.0, 0.3)
    run = session.start("x", NO_END | stays | goes, max_tokens=3000, seed=1)
    until(lambda: len(run.trace) > 5)
    run.chain = NO_END | TopK(200) | stays | MirostatV2(2.0, 0.2)
    until(lambda: len(run.trace.chains) == 2)
    run.stop()
    trace = run.wait()
    change = trace.chains[1][0]
    before, (_, _, kept, new) = trace.state(change - 1), trace.state(change)
    assert before[1] != (4.0,)  # 2 tau is where it begins
    assert kept != (4.0,)
    assert abs(kept[0] - before[1][0]) < 3
    assert new == (4.0,)


def test_a_chain_that_does_not_fit_is_refused_and_the_run_goes_on(session, until):
    run = session.start("x", NO_END, max_tokens=3000)
    for chain, error, said in (
        (LogitBias({259: 1}), ValueError, "names token 259, but this model's vocabulary has 259"),
        (5, TypeError, "a chain is stages such as .*, not 5"),
        (TopK, TypeError, "a chain is stages such as .*, not <class"),
        ([40], TypeError, "a Chain holds stages such as .*, not 40"),
    ):
        with pytest.raises(error, match=said):
            run.chain = chain
    seen = len(run.trace)
    until(lambda: len(run.trace) > seen + 1 or run.done)
    run.chain = TopK(3) | NO_END
    run.stop()
    assert run.wait().finish_reason in ("stopped", "length")


# Stopping.


def test_stop_ends_a_run_at_once_and_keeps_what_there_is(session, until):
    run = session.start("abc", NO_END, max_tokens=4000)
    until(lambda: len(run.trace) > 5)
    run.stop()
    trace = run.wait(5)
    assert (run.state, trace.finish_reason) == ("stopped", "stopped")
    assert 5 < len(trace) < 4000
    cached = session.tokens.tolist()
    whole = [*trace.prompt_tokens.tolist(), *trace.tokens.tolist()]
    assert cached == whole[: len(cached)]
    run.stop()
    assert run.state == "stopped"


def test_a_run_that_waits_in_the_queue_is_stopped_without_waiting_for_its_turn(session, gate):
    with busy(session, gate):
        run = session.start("abc", NO_END, max_tokens=5)
        run.stop()
        trace = run.wait(5)
        assert (run.state, trace.finish_reason, len(trace)) == ("stopped", "stopped", 0)
        assert list(run) == []
    assert len(session.generate("abc", NO_END, max_tokens=2)) == 2


def test_stop_acts_in_the_middle_of_a_long_prompt(long_prompt, session, until):
    session, prompt = long_prompt
    session.reset()
    run = session.start(prompt, NO_END, max_tokens=5)
    until(lambda: run.progress[0] > 1000)
    assert run.state == "prompt"
    began = time.monotonic()
    session.stop()
    trace = run.wait(60)
    assert time.monotonic() - began < 5
    assert (trace.finish_reason, len(trace)) == ("stopped", 0)
    n_cached = len(session.tokens)
    assert 1000 <= n_cached < len(prompt)
    assert session.tokens.tolist() == prompt[:n_cached]
    after = session.logits(prompt[:1200])  # from a cache cut in the middle
    session.reset()
    np.testing.assert_allclose(after, session.logits(prompt[:1200]), atol=NOISE)


@pytest.mark.parametrize("architecture", ["gemma3", "mamba"])
def test_a_stopped_prompt_leaves_no_trace_in_models_that_cannot_rewind(
    tmp_path, architecture, until
):
    path = tiny.write(tmp_path / "t.gguf", architecture=architecture)
    prompt = [A, B, A, A, B] * 3000
    with Model.load(path) as model, model.session(n_ctx=1 << 14, n_threads=1) as session:
        run = session.start(prompt, NO_END, max_tokens=5)
        until(lambda: run.progress[0] > 500)
        run.stop()
        run.wait(20)
        after = session.logits(prompt[:300])
        session.reset()
        np.testing.assert_allclose(after, session.logits(prompt[:300]), atol=NOISE)


# Threads.


def test_threads_on_one_session_run_side_by_side_and_find_what_each_finds_alone(tiny_model):
    with tiny_model.session(n_ctx=1024, n_threads=1, n_seq_max=4, reproducible=True) as session:
        _run_from_threads(session)


def _run_from_threads(session):
    prompts = ["abc", "xyz", "hello", "abd"]
    alone = [session.generate(p, NO_END, max_tokens=30, seed=1).tokens.tolist() for p in prompts]
    found = [None] * 12

    def work(i):
        trace = session.generate(prompts[i % 4], NO_END, max_tokens=30, seed=1)
        found[i] = trace.tokens.tolist()

    threads = [threading.Thread(target=work, args=(i,)) for i in range(len(found))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == alone * 3


def test_two_sessions_of_one_model_do_not_disturb_each_other(tiny_model):
    chain = TopK(30) | Temperature(1.2)
    with tiny_model.session(n_ctx=512, n_threads=1) as one:
        alone = [one.generate(p, chain, max_tokens=200, seed=4).tokens.tolist() for p in ("a", "b")]
        with tiny_model.session(n_ctx=512, n_threads=1) as other:
            runs = [
                s.start(p, chain, max_tokens=200, seed=4) for s, p in ((one, "a"), (other, "b"))
            ]
            assert [run.wait().tokens.tolist() for run in runs] == alone


def test_a_custom_stage_that_waits_for_its_own_session_is_told_so(session, until):
    calls = {
        "generate": lambda: session.generate("a"),
        "logits": lambda: session.logits("a"),
        "wait": lambda: session.run.wait(),
        "iterate": lambda: list(session.run),
        "close": lambda: session.close(),
        "close the model": lambda: session.model.close(),
    }
    for call in calls.values():

        def stage(logits, history, call=call):
            until(lambda: session.run is not None and not session.run.done)
            call()

        with pytest.raises(StageFailed, match="a Custom stage cannot") as caught:
            session.generate("abc", Custom(stage), max_tokens=1)
        assert isinstance(caught.value.__cause__, SessionError)
    assert not session.closed
    assert len(session.generate("abc", NO_END, max_tokens=2)) == 2


def test_a_custom_stage_may_stop_its_own_run_and_use_another_session(tiny_model, session):
    with tiny_model.session(n_ctx=256) as other:
        rows = []

        def stage(logits, history):
            rows.append(other.logits(history.tolist()))
            session.stop()
            return logits

        trace = session.generate("abc", NO_END | Custom(stage), max_tokens=50)
    assert (len(trace), len(rows), trace.finish_reason) == (1, 1, "stopped")


def test_a_stream_that_nobody_reads_never_begins(session):
    before = session.run
    stream = session.stream("abc", NO_END, max_tokens=3000)
    assert session.run is before
    del stream
    assert len(session.generate("abc", NO_END, max_tokens=2)) == 2


def test_generate_gives_the_trace_when_another_thread_stops_it_in_the_queue(session, gate, until):
    found = []
    with busy(session, gate) as first:
        thread = threading.Thread(
            target=lambda: found.append(session.generate("abc", NO_END, max_tokens=9))
        )
        thread.start()
        until(lambda: session.run is not first)
        session.run.stop()
        thread.join(10)
        assert [trace.finish_reason for trace in found] == ["stopped"]
