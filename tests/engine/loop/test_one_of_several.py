"""What happens to one of several, or to the session's thread, is told to whom it concerns alone."""

from __future__ import annotations

import asyncio

import numpy as np
import pytest

from mullama_lab.engine import tiny
from mullama_lab.engine.loop.generation import Generation
from mullama_lab.engine.loop.scheduler import Scheduler
from mullama_lab.engine.model import Model
from mullama_lab.engine.native.batch import Batch
from mullama_lab.engine.stages import Custom, Mask
from mullama_lab.errors import ClosedError, DecodeError

pytestmark = pytest.mark.usefixtures("no_event_loop")

NO_END = Mask(ban=(tiny.EOS,))


def test_a_failed_thread_ends_what_is_at_work_with_that_and_not_as_stopped(
    tiny_model, until, monkeypatch
):
    def fail(*_):
        raise RuntimeError("a defect")

    with tiny_model.session(n_ctx=2048, n_threads=1) as session:
        run = session.start("abc", NO_END, max_tokens=1900)
        waiting = session.start("xyz", NO_END, max_tokens=5, sequence=0)
        until(lambda: len(run.trace) > 3)
        monkeypatch.setattr(Scheduler, "tick", fail)
        with pytest.raises(ClosedError, match="a defect"):
            run.wait(20)
        assert (run.state, run.trace.finish_reason) == ("failed", "failed") and len(run.trace) > 3

        async def awaited():
            await asyncio.wait_for(waiting, 20)

        with pytest.raises(ClosedError, match="a defect"):
            asyncio.run(awaited())


def test_a_stop_of_what_waits_for_room_lets_what_is_behind_it_begin(tiny_model, until):
    with tiny_model.session(n_ctx=2048, n_threads=1) as session:
        first = session.start("abc", NO_END, max_tokens=1900)
        until(lambda: len(first.trace) > 2)
        large = session.start("x" * 1000, NO_END, max_tokens=5)
        small = session.start("xyz", NO_END, max_tokens=5)
        until(lambda: session.gauges.read().n_waiting == 2)
        n = len(first.trace)
        until(lambda: len(first.trace) > n + 2)  # so those that wait were looked at
        large.stop()
        assert small.wait(20).finish_reason == "length"
        assert first.state == "running" and large.state == "stopped"
        first.stop_and_wait()


def test_texts_that_take_any_sequence_leave_the_first_one_to_whom_it_is_home(session, gate):
    blocker = session.start_many(["zz"], Custom(gate), max_tokens=1)
    assert gate.at_work.wait(20)
    many = session.start_many(["x" * 200] * 3, NO_END, max_tokens=3)  # the prompt is decoded once
    home = session.start("home", NO_END, max_tokens=3)
    gate.open.set()
    home.wait(20)
    assert home.sequence == 0
    many.wait()
    blocker.wait()


def test_one_text_of_a_reproducible_session_that_cannot_be_decoded_fails_alone(
    tiny_model, monkeypatch
):
    decode = Batch.decode

    def broken(self, context, n):
        if self.seq[0] == 1 and self.pos[0] > 8:
            raise DecodeError("on purpose.")
        return decode(self, context, n)

    monkeypatch.setattr(Batch, "decode", broken)
    with tiny_model.session(n_ctx=3 * 64, n_threads=1, n_seq_max=3, reproducible=True) as session:
        runs = session.start_many("abc", NO_END, max_tokens=20, seeds=range(3))
        with pytest.raises(DecodeError, match="on purpose"):
            runs.wait(20)
        failed = [run for run in runs if run.state == "failed"]
        assert [run.sequence for run in failed] == [1]
        assert sorted(len(run.trace) for run in runs)[1:] == [20, 20]


def test_a_stop_while_a_text_begins_is_not_missed(session, monkeypatch):
    admit = Generation.admit

    def stopping(self, cache):
        admit(self, cache)
        session.stop()

    monkeypatch.setattr(Generation, "admit", stopping)
    assert session.generate("abc", NO_END, max_tokens=900).finish_reason == "stopped"


def test_a_stop_of_one_text_of_a_hybrid_costs_no_other_what_it_has(tmp_path, until):
    path = tiny.write(tmp_path / "tiny.gguf", architecture="jamba")
    with Model.load(path) as model, model.session(n_ctx=2048, n_threads=1) as session:
        session.generate("ab", NO_END, max_tokens=2)
        fork = session.fork()
        expected = session.generate("abcd", NO_END, max_tokens=300, seed=3)
        for _ in range(5):
            other = session.start("xyz", NO_END, max_tokens=900)
            run = session.start("abcd", NO_END, max_tokens=300, seed=3, sequence=fork)
            until(lambda run=run: len(run.trace) > 5)
            before = session.n_decoded
            other.stop_and_wait()
            assert run.wait(20).finish_reason == "length"
            assert session.n_decoded - before < 300  # nothing of it was decoded again
            assert len(session.sequences[fork]) == 304
            np.testing.assert_allclose(run.trace.logprob[:10], expected.logprob[:10], atol=0.05)


def test_a_row_is_given_to_a_twin_only_if_its_tokens_came_about_alike(session, gate):
    blocker = session.start_many(["zz"], Custom(gate), max_tokens=1)
    assert gate.at_work.wait(20)
    prompt = [1, *range(10, 40)]
    seen = {}
    rows = session.start_rows([prompt, prompt], lambda i, row: seen.setdefault(i, row.copy()))
    drawn = session.start_rows(
        [prompt], lambda _, row: seen.setdefault("drawn", row.copy()), n_prompt=5
    )
    gate.open.set()
    rows.result(20)
    drawn.result(20)
    assert seen[0].tolist() == seen[1].tolist()
    np.testing.assert_allclose(seen["drawn"], seen[0], atol=0.1)
    blocker.wait()


def test_a_rewind_that_waits_is_of_what_the_sequence_holds_then(session, gate):
    session.generate("abcdef", NO_END, max_tokens=4)
    fork = session.fork()
    run = session.start("xyz", Custom(gate), max_tokens=1, sequence=fork)
    assert gate.at_work.wait(20)

    async def both():
        rewound = asyncio.create_task(asyncio.to_thread(session.rewind, 2, sequence=fork))
        await asyncio.sleep(0.05)
        gate.open.set()
        await rewound

    asyncio.run(both())
    assert run.wait(20).prompt_tokens[:2].tolist() == session.sequences[fork].tolist()


def test_a_prompt_of_a_reproducible_session_is_cut_alike_beside_other_prompts(
    tiny_model, until, monkeypatch
):
    decode, cuts = Batch.decode, {}

    def noted(self, context, n):
        cuts.setdefault(int(self.seq[0]), []).append(n)
        return decode(self, context, n)

    def made(session):
        """How each text was cut, where texts are drawn and one is scored."""
        cuts.clear()
        for prompt in prompts:
            session.generate_many(prompt, NO_END, max_tokens=2, seeds=1)
        session.score([*range(10, 210)], given=[1, 9])
        return cuts

    prompts = [[1, n, *range(10, 10 + n)] for n in (45, 61, 100, 150, 189)]  # none begins another
    monkeypatch.setattr(Batch, "decode", noted)
    options = {"n_ctx": 3 * 256, "n_seq_max": 3, "n_threads": 1, "reproducible": True}
    with tiny_model.session(**options) as session:
        alone = sorted(sizes for by in made(session).values() for sizes in by)
    with tiny_model.session(**options) as session:
        writing = session.start("ab", NO_END, max_tokens=250)
        until(lambda: len(writing.trace) > 2)
        found = made(session)
        assert writing.state == "running"
        found.pop(writing.sequence)
        assert sorted(sizes for by in found.values() for sizes in by) == alone
        writing.stop_and_wait()
