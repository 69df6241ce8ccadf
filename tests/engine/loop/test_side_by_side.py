"""Texts join a batch, leave it and stand still in it, each on its own account."""

from __future__ import annotations

import threading

import numpy as np
import pytest

from mullama_lab.engine import tiny
from mullama_lab.engine.stages import Custom, Mask, Temperature
from mullama_lab.errors import ClosedError, ContextFull, NoCandidates, StageFailed

NO_END = Mask(ban=(tiny.EOS,))


@pytest.fixture
def session(tiny_model):
    with tiny_model.session(n_ctx=2048, n_threads=1) as session:
        yield session


def test_two_runs_on_one_session_generate_at_the_same_time(session, until):
    first = session.start("abc", NO_END, max_tokens=1900)
    until(lambda: len(first.trace) > 3)
    second = session.start("xyz", NO_END, max_tokens=20)
    assert second.wait(20).finish_reason == "length"
    assert first.state == "running"
    assert (first.sequence, second.sequence) == (0, 1)
    first.stop_and_wait()


def test_a_run_that_names_a_sequence_at_work_waits_for_it(session, until):
    first = session.start("abc", NO_END, max_tokens=300)
    second = session.start("xyz", NO_END, max_tokens=5, sequence=0)
    until(lambda: len(first.trace) > 3)
    assert second.state == "queued"
    first.stop()
    assert second.wait(20).finish_reason == "length"
    assert session.tokens[:4].tolist() == second.trace.prompt_tokens.tolist()


def test_a_text_that_joins_seven_has_its_first_token_within_two_batches_and_its_prompt(
    session, until
):
    runs = session.start_many("ab", NO_END, max_tokens=250, seeds=range(7))
    until(lambda: all(len(run.trace) > 2 for run in runs))
    seen = []
    undo = session.on_start(
        lambda late: late.on_step(lambda step: seen.append([len(run.trace) for run in runs]))
    )
    late = session.start("a late one", NO_END, max_tokens=4)
    undo()
    at_start = [len(run.trace) for run in runs]
    late.wait(20)
    # Until then each of the seven had: the token under way, its prompt's two pieces, and one more.
    assert max(after - before for before, after in zip(at_start, seen[0], strict=True)) <= 5
    runs.stop()
    runs.wait()


def test_a_stop_ends_one_of_eight_and_the_others_draw_what_they_would_have_drawn(tiny_model, until):
    def texts(stop):
        with tiny_model.session(n_ctx=8 * 64, n_threads=1, n_seq_max=8, reproducible=True) as s:
            runs = s.start_many("ab", NO_END, max_tokens=40, seeds=range(8))
            if stop:
                until(lambda: len(runs[3].trace) > 1)
                runs[3].stop()
            runs.wait()
            assert runs[3].state == ("stopped" if stop else "finished")
            return [run.trace.tokens.tolist() for run in runs]

    whole, stopped = texts(False), texts(True)
    assert [t for i, t in enumerate(stopped) if i != 3] == [
        t for i, t in enumerate(whole) if i != 3
    ]
    assert stopped[3] == whole[3][: len(stopped[3])]


def test_texts_that_fail_stop_end_and_fill_the_cache_in_one_batch_touch_no_other(tiny_model):
    def at(step, act):
        return Custom(lambda row, history: act(row) if len(history) >= 3 + step else row)

    def fails(row):
        raise RuntimeError("on purpose")

    def empties(row):
        return np.full_like(row, -np.inf)

    def ends(row):
        only = np.full_like(row, -np.inf)
        only[tiny.EOS] = 0
        return only

    with tiny_model.session(n_ctx=64, n_threads=1, n_seq_max=8) as session:
        runs = session.start_many(
            "ab",
            [at(5, fails), at(5, empties), at(5, ends), NO_END, NO_END, NO_END | Temperature(0)],
            max_tokens=7,
            seeds=1,
        )
        with pytest.raises((StageFailed, NoCandidates)):
            runs.wait(20)
        assert [type(run.error) for run in runs[:2]] == [StageFailed, NoCandidates]
        reasons = [run.trace.finish_reason for run in runs]
        assert reasons == ["failed", "failed", "eog", "length", "length", "length"]
        full = session.generate("ab" * 5, NO_END, max_tokens=400, seed=1)
        assert full.finish_reason == "context"
        assert session.generate("ab", NO_END, max_tokens=3, seed=1).finish_reason == "length"


def test_all_that_fill_the_cache_at_once_end_and_the_session_goes_on(tiny_model):
    with tiny_model.session(n_ctx=4 * 48, n_threads=1, n_seq_max=4, kv_unified=False) as session:
        traces = session.start_many(["ab", "cd", "ef"], NO_END, max_tokens=400, seeds=1).wait(20)
        # Of 48 cells a prompt has 3; one more token is drawn than there are others.
        assert [(trace.finish_reason, len(trace)) for trace in traces] == [("context", 46)] * 3
        with pytest.raises(ContextFull):
            session.generate([1] * 60, NO_END)
        assert session.generate("ab", NO_END, max_tokens=3).finish_reason == "length"


@pytest.mark.parametrize("reproducible", [False, True])
def test_texts_that_fail_stop_end_and_have_no_room_in_the_same_tick_touch_no_other(
    tiny_model, reproducible
):
    def wait(row, history):
        assert begin.wait(20)
        return row

    def fails(row):
        raise RuntimeError("on purpose")

    def empties(row):
        return np.full_like(row, -np.inf)

    def ends(row):
        row[:] = -np.inf
        row[tiny.EOS] = 0
        return row

    def stops(row):
        runs[3].stop()
        return row

    def at(n, act):
        return NO_END | Custom(lambda row, history: act(row) if len(history) == n else row)

    def count(row, history):
        n_drawn.append(len(history) - 4)
        return row

    # All in the tick after five tokens of each: a prompt of 60 in 64 cells has no cell then for its
    # fifth. No two prompts begin alike, or one would wait for what the other decodes.
    prompts = [[n] * (60 if n == 54 else 4) for n in range(50, 56)]
    chains = [
        at(9, fails),
        at(9, empties),
        at(9, ends),
        at(9, stops),
        NO_END,
        NO_END | Custom(count),
    ]
    n_drawn, at_end, begin = [], [None] * 5, threading.Event()
    with tiny_model.session(
        n_ctx=7 * 64, n_threads=1, n_seq_max=7, kv_unified=False, reproducible=reproducible
    ) as session:
        alone = session.generate(prompts[5], NO_END, max_tokens=20, seed=1)
        session.reset()
        session.start("a", Custom(wait), max_tokens=1)
        runs = session.start_many(prompts, chains, max_tokens=20, seeds=1)
        for i, run in enumerate(runs[:5]):
            run.on_end(lambda _, i=i: at_end.__setitem__(i, n_drawn[-1]))
        begin.set()
        last = runs[5].wait(20)
        assert at_end == [4] * 5  # the last of a tick is the one that goes on
        reasons = [run.trace.finish_reason for run in runs]
        assert reasons == ["failed", "failed", "eog", "stopped", "context", "length"]
        assert [type(run.error) for run in runs[:2]] == [StageFailed, NoCandidates]
        assert [len(run.trace) for run in runs] == [5, 5, 6, 6, 5, 20]
        np.testing.assert_allclose(last.logprob, alone.logprob, atol=0 if reproducible else 0.05)


def test_a_prompt_is_decoded_in_pieces_between_which_another_text_goes_on(session):
    def begin_late(row, history):
        drawn.append(len(history))
        if len(drawn) == 5:
            late.append(session.start(prompt, NO_END | Custom(note), max_tokens=1))
        return row

    def note(row, history):
        seen.append(len(drawn))
        return row

    drawn, late, seen, prompt = [], [], [], [1, *[100, 101, 102] * 512]
    first = session.start("abc", NO_END | Custom(begin_late), max_tokens=200)
    first.wait(20)
    late[0].wait(20)
    # The first text has a token beside each 128 of 1472, beside the 64 that are left, and the last.
    assert seen == [5 + 12 + 1 + 1]


def test_a_custom_stage_may_stop_and_start_but_not_wait_for_its_session(session):
    def stage(row, history):
        begun.append(session.start("from within", NO_END, max_tokens=2))
        begun[-1].wait()
        return row

    begun = []
    with pytest.raises(StageFailed, match="cannot wait for the session"):
        session.generate("abc", Custom(stage), max_tokens=3)
    assert begun[0].wait(20).finish_reason == "length"

    def stopping(row, history):
        session.stop()
        return row

    assert (
        session.generate("abc", NO_END | Custom(stopping), max_tokens=9).finish_reason == "stopped"
    )
    assert len(session.generate("abc", NO_END, max_tokens=3)) == 3


def test_closing_while_texts_begin_ends_or_refuses_each_of_them(tiny_model):
    for _ in range(20):
        session = tiny_model.session(n_ctx=512, n_threads=1)
        runs = []

        def ask(session=session, runs=runs):
            try:
                while True:
                    runs.append(session.start("abc", NO_END, max_tokens=50))
            except ClosedError:
                return

        asking = threading.Thread(target=ask)
        asking.start()
        while len(runs) < 4:
            pass
        session.close()
        asking.join(20)
        assert not asking.is_alive()
        assert all(run.done for run in runs)


def test_a_recurrent_model_that_loses_its_states_to_a_stop_decodes_the_others_again(
    tmp_path, until
):
    from mullama_lab.engine.model import Model

    path = tiny.write(tmp_path / "tiny.gguf", architecture="mamba")
    with Model.load(path) as model, model.session(n_ctx=1024, n_threads=1, n_seq_max=2) as session:
        alone = session.generate("ab", NO_END, max_tokens=60, seed=3)
        other = session.start("xyz", NO_END, max_tokens=900)
        until(lambda: len(other.trace) > 2)
        run = session.start("ab", NO_END, max_tokens=60, seed=3)
        until(lambda: len(run.trace) > 2)
        other.stop_and_wait()
        assert run.wait(20).finish_reason == "length"
        np.testing.assert_allclose(run.trace.logprob[:10], alone.logprob[:10], atol=0.05)


def test_work_on_a_sequence_is_done_between_two_tokens_of_another(session, until):
    run = session.start("abc", NO_END, max_tokens=1500)
    until(lambda: len(run.trace) > 3)
    other = session.start("xyz", NO_END, max_tokens=3)
    other.wait(20)
    session.rewind(2, sequence=other.sequence)
    fork = session.fork(other.sequence)
    session.remove(fork)
    assert run.state == "running"
    run.stop_and_wait()


def test_a_text_that_waits_for_room_is_not_overtaken_by_smaller_ones(tiny_model, until):
    with tiny_model.session(n_ctx=256, n_threads=1) as session:
        first = session.start("abc", NO_END, max_tokens=150)
        until(lambda: len(first.trace) > 2)
        large = session.start("x" * 150, NO_END, max_tokens=5)
        small = [session.start("xyz", NO_END, max_tokens=20) for _ in range(3)]
        found = []  # how far the first one was when each of the others ended
        for run in (large, *small):
            run.on_end(lambda _: found.append(len(first.trace)))
        for run in (first, large, *small):
            run.wait(20)
        assert found == [150] * 4
