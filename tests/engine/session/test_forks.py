"""Sequences of one cache: forked, cut, removed, and never decoded where that is not needed."""

from __future__ import annotations

import numpy as np
import pytest

from mullama_lab.engine import tiny
from mullama_lab.engine.cache.ledger import Ledger
from mullama_lab.engine.model import Model
from mullama_lab.engine.stages import Mask
from mullama_lab.errors import ClosedError, ContextFull, SessionError

NO_END = Mask(ban=[tiny.EOS])
NOISE = 0.02  # other batch sizes give other roundings; another prompt differs by more than 1
PREFIX = [1, *range(10, 50)]


@pytest.fixture
def session(tiny_model):
    with tiny_model.session(n_ctx=256, n_threads=1, n_seq_max=4) as session:
        yield session


def test_eight_forks_of_a_long_prefix_decode_nothing(tiny_model, cost):
    with tiny_model.session(n_ctx=1024, n_threads=1, n_seq_max=9) as session:
        session.logits([1, *[5, 6] * 256])
        _, spent = cost(session, lambda: [session.fork() for _ in range(8)])
        assert (spent.decoded, spent.forked, spent.batches) == (0, 8 * 513, 0)
        assert session.n_cells == 513
        assert {s: len(t) for s, t in session.sequences.items()} == dict.fromkeys(range(9), 513)


def test_a_fork_goes_its_own_way_and_the_other_does_not_notice(any_model):
    with any_model.session(n_ctx=256, n_threads=1, n_seq_max=3) as session:
        expected = [session.logits([*PREFIX, end]) for end in (7, 8)]
        session.reset()
        session.logits(PREFIX)
        fork = session.fork()
        here = session.logits([*PREFIX, 7])
        there = session.logits([*PREFIX, 8], sequence=fork)
        again = session.logits([*PREFIX, 7, 9])
        np.testing.assert_allclose(here, expected[0], atol=NOISE)
        np.testing.assert_allclose(there, expected[1], atol=NOISE)
        np.testing.assert_allclose(again, any_fresh(any_model, [*PREFIX, 7, 9]), atol=NOISE)
        assert session.sequences[fork].tolist() == [*PREFIX, 8]


def any_fresh(model, tokens):
    with model.session(n_ctx=256, n_threads=1) as session:
        return session.logits(tokens)


def test_part_of_a_sequence_can_be_forked(session):
    session.logits(PREFIX)
    fork = session.fork(n_tokens=5)
    assert session.sequences[fork].tolist() == PREFIX[:5]
    assert session.fork(fork, n_tokens=0) == fork + 1
    assert session.sequences[fork + 1].tolist() == []
    assert session.ledger.decoded == len(PREFIX)


def test_rewinding_keeps_the_beginning_and_decodes_nothing(session, cost):
    session.logits(PREFIX)
    _, spent = cost(session, lambda: session.rewind(6))
    assert (spent.decoded, session.tokens.tolist()) == (0, PREFIX[:6])
    fork = session.fork()
    session.rewind(2, sequence=fork)
    assert [len(t) for t in session.sequences.values()] == [6, 2]
    session.rewind(0, sequence=fork)
    assert session.sequences[fork].tolist() == []


def test_a_prompt_is_taken_over_from_whichever_sequence_has_most_of_it(session, cost):
    session.logits(PREFIX)
    fork = session.fork()
    session.logits([*PREFIX, 7, 7, 7], sequence=fork)
    _, spent = cost(session, lambda: session.logits([*PREFIX, 7, 7, 8]))
    assert (spent.decoded, spent.reused, spent.forked) == (1, 0, len(PREFIX) + 2)
    assert session.sequences[fork].tolist() == [*PREFIX, 7, 7, 7]
    _, spent = cost(session, lambda: session.logits([*PREFIX, 7, 7, 9]))
    assert (spent.decoded, spent.reused, spent.forked) == (1, len(PREFIX) + 2, 0)


def test_generate_works_in_the_sequence_it_is_told(session):
    first = session.generate(PREFIX, NO_END, max_tokens=5, seed=1)
    fork = session.fork(n_tokens=len(PREFIX))
    other = session.generate(PREFIX, NO_END, max_tokens=5, seed=2, sequence=fork)
    assert session.tokens.tolist() == [*PREFIX, *first.tokens[:-1]]
    assert session.sequences[fork].tolist() == [*PREFIX, *other.tokens[:-1]]
    steps = list(session.stream(PREFIX, NO_END, max_tokens=5, seed=2, sequence=fork))
    assert [step.token for step in steps] == other.tokens.tolist()
    run = session.start(PREFIX, NO_END, max_tokens=5, seed=2, sequence=fork)
    assert run.wait(20).tokens.tolist() == other.tokens.tolist()
    assert session.tokens.tolist() == [*PREFIX, *first.tokens[:-1]]


def test_a_removed_sequence_gives_its_cells_and_its_id_back(session):
    session.logits(PREFIX)
    fork = session.fork(n_tokens=3)
    session.logits([*PREFIX[:3], 9, 9], sequence=fork)
    assert session.n_cells == len(PREFIX) + 2
    session.remove(fork)
    assert (session.n_cells, list(session.sequences)) == (len(PREFIX), [0])
    assert session.fork() == fork
    session.remove(0)
    assert session.tokens.tolist() == []
    assert session.sequences[fork].tolist() == PREFIX


def test_resetting_removes_every_sequence(session):
    session.logits(PREFIX)
    fork = session.fork()
    session.reset()
    assert (list(session.sequences), session.n_cells) == ([0], 0)
    with pytest.raises(ValueError, match=f"there is no sequence {fork}. There are 0;"):
        session.remove(fork)


def test_the_sequences_are_a_copy_that_nobody_can_write_to(session):
    session.logits(PREFIX)
    sequences = session.sequences
    with pytest.raises(TypeError, match="does not support item assignment"):
        sequences[1] = np.zeros(1, np.int32)
    session.reset()
    assert sequences[0].tolist() == PREFIX
    assert sequences[0].dtype == np.int32


# Where a cache cannot share or be cut.


@pytest.mark.parametrize("architecture", ["mamba", "jamba"])
def test_a_recurrent_model_decodes_again_what_its_state_forgot(architecture, tmp_path, cost):
    path = tiny.write(tmp_path / "tiny.gguf", architecture=architecture)
    with Model.load(path) as model, model.session(n_ctx=256, n_threads=1, n_seq_max=3) as session:
        expected = session.logits(PREFIX[:7])
        session.logits(PREFIX)
        _, spent = cost(session, session.fork)
        assert spent.decoded == 0  # whole, a state is copied
        _, spent = cost(session, lambda: session.rewind(6))
        assert (spent.decoded, spent.decoded_again, spent.reused) == (6, 6, 0)
        assert session.tokens.tolist() == PREFIX[:6]
        np.testing.assert_allclose(session.logits(PREFIX[:7]), expected, atol=NOISE)
        _, spent = cost(session, lambda: session.fork(1, n_tokens=4))
        assert (spent.decoded, spent.decoded_again) == (4, 4)
        assert session.sequences[2].tolist() == PREFIX[:4]


def test_a_sliding_window_that_lost_cells_is_not_taken_for_whole(tmp_path):
    """llama.cpp gives cells outside the window of one sequence to others."""
    path = tiny.write(tmp_path / "gemma3.gguf", architecture="gemma3")
    text = [1, *range(10, 110)]
    with Model.load(path) as model, model.session(n_ctx=256, n_threads=1, n_seq_max=4) as session:
        session.logits(text)
        session.generate_many([[1, 200 + i] for i in range(3)], NO_END, max_tokens=40, seeds=1)
        for n in (100, 60, 30, 9):
            np.testing.assert_allclose(
                session.logits(text[:n]), any_fresh(model, text[:n]), atol=NOISE
            )


def test_without_a_unified_cache_a_fork_decodes_again(tiny_model):
    options = {"n_ctx": 1024, "n_threads": 1, "n_seq_max": 3, "kv_unified": False}
    with tiny_model.session(**options) as session:
        assert session.n_ctx == 341  # of each
        expected = session.logits(PREFIX)
        fork = session.fork(n_tokens=9)
        assert session.ledger == Ledger(len(PREFIX) + 9, 0, 0, 9, 4, seconds=session.ledger.seconds)
        assert session.sequences[fork].tolist() == PREFIX[:9]
        np.testing.assert_allclose(session.logits(PREFIX, sequence=fork), expected, atol=NOISE)


# What cannot be done.


@pytest.mark.parametrize(
    ("work", "error", "said"),
    [
        (lambda s: s.fork(2), ValueError, r"no sequence 2\. There are 0; session\.fork"),
        (lambda s: s.fork(-1), ValueError, "sequence=-1: it must be from 0 to 3"),
        (lambda s: s.fork("0"), TypeError, "sequence='0': it must be a whole number"),
        (lambda s: s.fork(n_tokens=6), ValueError, "n_tokens=6: it must be from 0 to 5"),
        (lambda s: s.rewind(6), ValueError, "n_tokens=6: it must be from 0 to 5"),
        (lambda s: s.rewind(1, sequence=3), ValueError, "no sequence 3"),
        (lambda s: s.remove(4), ValueError, "sequence=4: it must be from 0 to 3"),
        (lambda s: s.remove([1]), TypeError, r"sequence=\[1\]: it must be a whole number"),
        (lambda s: s.generate("a", sequence=1), ValueError, "no sequence 1"),
        (lambda s: s.stream("a", sequence=1), ValueError, "no sequence 1"),
        (lambda s: s.start("a", sequence=1), ValueError, "no sequence 1"),
        (lambda s: s.logits("a", sequence=1), ValueError, "no sequence 1"),
    ],
)
def test_a_sequence_that_is_not_there_is_named(session, work, error, said):
    session.logits([1, 5, 6, 7, 8])
    with pytest.raises(error, match=said):
        work(session)
    assert session.tokens.tolist() == [1, 5, 6, 7, 8]


def test_more_forks_than_sequences_are_refused(session):
    session.logits(PREFIX)
    forks = [session.fork() for _ in range(3)]
    with pytest.raises(SessionError, match=r"n_seq_max=4.*session\.remove.*larger n_seq_max"):
        session.fork()
    session.remove(forks[1])
    assert session.fork() == forks[1]


def test_forks_that_fill_the_cache_are_named_as_the_reason(session):
    session.logits([1, *[5] * 200])
    session.fork()
    assert session.generate([1, *[5] * 220], NO_END, max_tokens=3).finish_reason == "length"
    with pytest.raises(ContextFull, match=r"200 more tokens do not fit: 55 of the 256 cells.*1 "):
        session.generate([1, *[6] * 200], NO_END, max_tokens=3)
    session.remove(1)
    assert session.generate([1, *[6] * 200], NO_END, max_tokens=3).finish_reason == "length"


def test_a_generation_ends_where_the_forks_leave_no_cell(session):
    session.logits([1, *[5] * 200])
    session.fork()
    trace = session.generate([1, *[5] * 200, 7], NO_END, max_tokens=100, seed=1)
    assert trace.finish_reason == "context"
    assert len(trace) == 256 - 202 + 1  # the last token is never decoded
    assert session.n_cells == 256


def test_a_session_has_eight_sequences_where_they_share_a_buffer(tiny_model):
    for options, n in (
        ({}, 8),
        ({"kv_unified": False}, 1),
        ({"n_batch": 5}, 5),
        ({"n_seq_max": 3}, 3),
    ):
        with tiny_model.session(n_ctx=256, **options) as session:
            assert (session.n_seq_max, session.n_ctx) == (n, 256)


def test_a_closed_session_forks_nothing(tiny_model):
    session = tiny_model.session(n_ctx=256)
    session.close()
    for work in (session.fork, lambda: session.rewind(0), lambda: session.remove(0)):
        with pytest.raises(ClosedError, match=r"the session is closed\. Open another one"):
            work()


def test_a_ledger_says_what_it_counted():
    ledger = Ledger(decoded=7, reused=3, forked=4, decoded_again=2, batches=5, seconds=1.5)
    assert repr(ledger) == (
        "Ledger(7 tokens decoded (2 of them again) in 5 batches, 3 reused, 4 forked)"
    )
    assert ledger.saved == 7
    assert ledger - Ledger(decoded=1, seconds=0.5) == Ledger(6, 3, 4, 2, 5, 1.0)
