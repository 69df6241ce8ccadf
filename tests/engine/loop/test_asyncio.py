"""Runs and streams in an event loop: awaited, read with `async for`, cancelled; and callbacks."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
import time

import pytest

from mullama_lab.engine import tiny
from mullama_lab.engine.stages import Chain, Custom, Mask
from mullama_lab.errors import SessionError, StageFailed

pytestmark = pytest.mark.usefixtures("no_event_loop")

NO_END = Chain([Mask(ban=[tiny.EOS])])
FAILS = Custom(lambda logits, history: logits if len(history) < 6 else 0)


@pytest.fixture(scope="module")
def session(tiny_model):
    with tiny_model.session(n_ctx=512, n_threads=1) as session:
        yield session


@pytest.fixture
def slow():
    """A stage that takes 5 ms a token."""

    def wait(logits, history):
        time.sleep(0.005)
        return logits

    return Custom(wait)


async def beats(seconds=0.2):
    """The longest pause of an event loop while it ticks, in seconds."""
    longest, last = 0.0, time.monotonic()
    end = last + seconds
    while last < end:
        await asyncio.sleep(0.005)
        now = time.monotonic()
        longest, last = max(longest, now - last), now
    return longest


def test_awaiting_a_run_gives_its_trace(session):
    async def main():
        run = session.start("abc", NO_END, max_tokens=20, seed=5)
        trace = await run
        assert trace is run.trace
        assert await run is trace  # also afterwards
        return trace

    tokens = asyncio.run(main()).tokens.tolist()
    assert tokens == session.generate("abc", NO_END, max_tokens=20, seed=5).tokens.tolist()


def test_several_runs_are_awaited_together(tiny_model):
    async def main(sessions):
        runs = [s.start("abc", NO_END, max_tokens=9, seed=i) for i, s in enumerate(sessions)]
        more = [sessions[0].start("abc", NO_END, max_tokens=7), *runs]
        return await asyncio.gather(*more)

    with tiny_model.session(n_ctx=64, n_threads=1) as a, tiny_model.session(n_ctx=64) as b:
        assert [len(trace) for trace in asyncio.run(main([a, b]))] == [7, 9, 9]


def test_awaiting_runs_gives_their_traces(session):
    async def main():
        runs = session.start_many(["a", "b"], NO_END, max_tokens=5, seeds=1)
        return await runs, await runs[1]

    traces, second = asyncio.run(main())
    assert [len(trace) for trace in traces] == [5, 5]
    assert second is traces[1]


def test_a_run_yields_its_steps_in_an_event_loop(session):
    async def main():
        run = session.start("abc", NO_END, max_tokens=20, seed=5)
        return [step async for step in run], [step async for step in run]

    steps, again = asyncio.run(main())
    assert [step.index for step in steps] == list(range(20))
    assert again == steps
    assert "".join(step.text for step in steps) == session.last_trace.text


def test_a_stream_can_be_read_with_for_and_with_async_for(session):
    async def main(stream):
        return [step async for step in stream]

    made = session.stream("abc", NO_END, max_tokens=20, seed=5)
    before = session.run
    steps = asyncio.run(main(made))
    assert session.run is not before  # it began with the first step asked for
    tokens = [step.token for step in session.stream("abc", NO_END, max_tokens=20, seed=5)]
    assert [step.token for step in steps] == tokens
    assert asyncio.run(main(made)) == list(made) == []  # it is read once


def test_the_event_loop_goes_on_while_a_run_is_awaited(session, slow):
    async def main():
        run = session.start("abc", NO_END | slow, max_tokens=60)
        longest = await beats()
        assert not run.done
        await run
        return longest

    assert asyncio.run(main()) < 0.2


def test_cancelling_whoever_awaits_stops_the_run_and_waits_for_its_end(session, slow):
    async def main():
        run = session.start("abc", NO_END | slow, max_tokens=400)
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(run, 0.1)
        assert run.done
        assert run.state == "stopped"
        return run

    run = asyncio.run(main())
    assert 0 < len(run.trace) < 400
    assert len(session.generate("abc", NO_END, max_tokens=2)) == 2


def test_while_a_cancelled_run_ends_the_event_loop_goes_on(session, gate):
    async def main():
        run = session.start("abc", NO_END | Custom(gate), max_tokens=9)
        task = asyncio.ensure_future(_wait(run))
        await asyncio.to_thread(gate.at_work.wait, 20)
        task.cancel()
        longest = await beats()
        assert not task.done()  # the stage is still at work
        gate.open.set()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert run.state == "stopped"
        return longest

    async def _wait(run):
        return await run

    assert asyncio.run(main()) < 0.2


def test_cancelling_again_gives_up_the_wait_for_the_end(session, gate):
    async def wait(run):
        return await run

    async def main():
        run = session.start("abc", NO_END | Custom(gate), max_tokens=9)
        task = asyncio.ensure_future(wait(run))
        await asyncio.to_thread(gate.at_work.wait, 20)
        for _ in range(2):
            task.cancel()
            await asyncio.sleep(0.02)
        assert task.cancelled()
        assert not run.done
        gate.open.set()
        return run

    assert asyncio.run(main()).wait(20) is not None


@pytest.mark.parametrize("how", ["stream", "run"])
def test_cancelling_whoever_reads_steps_stops_the_run(session, slow, how):
    async def read(seen):
        chain = NO_END | slow
        given = {"max_tokens": 400, "seed": 1}
        steps = getattr(session, "stream" if how == "stream" else "start")("abc", chain, **given)
        async for step in steps:
            seen.append(step)

    async def main():
        seen = []
        task = asyncio.ensure_future(read(seen))
        while len(seen) < 3:
            await asyncio.sleep(0.002)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert session.run.state == "stopped"
        return seen

    assert 3 <= len(asyncio.run(main())) < 400


def test_cancelling_in_the_body_of_the_loop_stops_a_stream(session, slow, until):
    async def read(began):
        async for _ in session.stream("abc", NO_END | slow, max_tokens=400):
            began.set()
            await asyncio.sleep(30)

    async def main():
        began = asyncio.Event()
        task = asyncio.ensure_future(read(began))
        await began.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(main())
    until(lambda: session.run.done)
    assert session.run.state == "stopped"


@pytest.mark.parametrize("named", [False, True])
def test_leaving_an_async_loop_stops_a_stream(session, slow, until, named):
    async def main():
        stream = session.stream("abc", NO_END | slow, max_tokens=400)
        if named:
            async with contextlib.aclosing(stream):
                async for _ in stream:
                    break
            assert session.run.done
            return
        del stream
        async for _ in session.stream("abc", NO_END | slow, max_tokens=400):
            break

    asyncio.run(main())
    until(lambda: session.run.done)
    assert session.run.state == "stopped"


def test_a_closed_stream_has_no_more_steps(session, slow):
    stream = session.stream("abc", NO_END | slow, max_tokens=400)
    next(stream)
    stream.close()
    assert session.run.state == "stopped"
    assert list(stream) == []
    untouched = session.stream("abc", NO_END, max_tokens=4)
    run = session.run
    untouched.close()
    assert list(untouched) == []
    assert session.run is run  # it never began


def test_what_fails_is_raised_to_whoever_awaits(session):
    async def main():
        run = session.start("abc", NO_END | FAILS, max_tokens=9)
        with pytest.raises(StageFailed):
            await run
        seen = []
        with pytest.raises(StageFailed):
            async for step in session.stream("abc", NO_END | FAILS, max_tokens=9):
                seen.append(step.index)
        assert seen == [0, 1]
        runs = session.start_many(["a", "abc"], NO_END | FAILS, max_tokens=3, seeds=1)
        with pytest.raises(StageFailed):
            await runs
        assert len(await runs[0]) == 3

    asyncio.run(main())


def test_a_run_that_was_stopped_gives_its_trace(session, slow):
    async def main():
        run = session.start("abc", NO_END | slow, max_tokens=400)
        asyncio.get_running_loop().call_later(0.05, run.stop)
        trace = await run
        assert trace.finish_reason == "stopped"
        queued = [session.start("abc", NO_END | slow, max_tokens=20) for _ in range(2)]
        queued[1].stop()
        assert (await queued[1]).finish_reason == "stopped"
        await queued[0]

    asyncio.run(main())


def test_a_loop_that_was_closed_disturbs_no_run(session, slow):
    async def main():
        run = session.start("abc", NO_END | slow, max_tokens=30)
        waiting = run.__await__()
        next(waiting)  # it waits, and nobody goes on with it
        return run

    assert len(asyncio.run(main()).wait(20)) == 30


# Callbacks.


def test_callbacks_are_told_each_step_once_and_then_the_end(session, writes):
    told = []
    run = session.start([5], writes(b"one STOP"), max_tokens=8, stop="STOP")
    run.on_step(told.append)
    ended = threading.Event()
    run.on_end(lambda run: (told.append(run.state), ended.set()))
    assert ended.wait(20)
    assert [step.index for step in told[:-1]] == list(range(8))
    assert "".join(step.text for step in told[:-1]) == run.trace.text == "one "
    assert told[-1] == "finished"
    late = []
    run.on_step(late.append)  # it has ended: at once
    run.on_end(late.append)
    assert late[:-1] == told[:-1]
    assert late[-1] is run


def test_what_listens_for_news_hears_of_the_prompt_of_each_step_and_of_the_end(session, gate):
    first = session.start("abc", NO_END | Custom(gate), max_tokens=1)
    run = session.start("xyz", NO_END, max_tokens=4)  # waits for the first
    news = []
    run.on_news(lambda: news.append((run.state, run.progress[0], len(run.trace))))
    gate.open.set()
    run.wait()
    session.generate("a", max_tokens=0)  # the end was told by now
    n_prompt = len(run.trace.prompt_tokens)
    assert first.done and ("prompt", n_prompt, 0) in news
    assert {n for _, _, n in news} == {0, 1, 2, 3, 4} and news == sorted(news, key=lambda x: x[2])
    assert news[-1] == ("finished", n_prompt, 4)


def test_every_step_was_told_when_a_run_is_done(session):
    for _ in range(20):
        told = []
        run = session.start("abc", NO_END, max_tokens=5)
        run.on_step(told.append)
        run.wait()
        assert len(told) == 5


def test_a_callback_that_is_undone_is_not_called(session, gate):
    told = []
    run = session.start("abc", NO_END | Custom(gate), max_tokens=3)
    news = run.on_news(lambda: told.append(run))
    for undo in (run.on_step(told.append), run.on_end(told.append), news):
        undo()
        undo()
    gate.open.set()
    run.wait()
    assert told == []


def test_what_a_callback_raises_is_logged_and_stops_nothing(session, gate, caplog):
    def fails(_):
        raise RuntimeError("not mine")

    run = session.start("abc", NO_END | Custom(gate), max_tokens=3)
    run.on_step(fails)
    run.on_end(fails)
    run.on_news(lambda: fails(run))
    with caplog.at_level(logging.ERROR):
        gate.open.set()
        assert len(run.wait()) == 3
        session.generate("a", max_tokens=0)  # the end was told by now
    assert caplog.text.count("not mine") >= 4
    with pytest.raises(TypeError, match="a function of a Step"):
        run.on_step(3)
    with pytest.raises(TypeError, match="a function of a Run"):
        run.on_end(None)
    with pytest.raises(TypeError, match="a function of no arguments"):
        run.on_news(None)


@pytest.mark.parametrize("n_threads", [1, 512])
def test_a_callback_may_stop_the_run_but_not_wait_for_its_session(tiny_model, n_threads):
    refused = []

    def stops(step):
        for wait in (run.wait, lambda: session.logits("a"), session.close):
            try:
                wait()
            except SessionError as error:
                refused.append(error)
        run.stop()

    with tiny_model.session(n_ctx=512, n_threads=n_threads) as session:
        ready = threading.Event()
        run = session.start(
            "abc", NO_END | Custom(lambda x, _: (ready.wait(20), x)[1]), max_tokens=400
        )
        run.on_step(stops)
        ready.set()
        trace = run.wait(20)
    assert trace.finish_reason == "stopped"
    assert len(refused) >= 3
