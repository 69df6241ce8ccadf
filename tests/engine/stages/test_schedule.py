"""A schedule says which chain is in force at which step."""

from __future__ import annotations

import pytest

from mullama_lab.engine import stages as s
from mullama_lab.engine.stages import Chain
from mullama_lab.engine.stages.schedule import Schedule, ScheduleSampler, StageName, names_of

A, B = s.TopK(40) | s.Temperature(0.8), s.TopK(40) | s.MinP(0.1) | s.Temperature(1.2)


def test_a_chain_is_in_force_from_its_step_to_the_next():
    schedule = Schedule.of({5: B, 0: A})
    assert [schedule.at(i) for i in (0, 4, 5, 900)] == [A, A, B, B]
    assert (schedule.last, schedule.changes, len(schedule)) == (B, True, 2)
    assert dict(schedule) == {0: A, 5: B}
    assert eval(repr(schedule), vars(s)) == {0: A, 5: B}


def test_what_may_be_given_as_a_chain_is_a_schedule_without_a_change():
    for given in (A, list(A), Schedule.of(A), {0: A}, {0: A, 7: list(A)}):
        schedule = Schedule.of(given)
        assert (schedule.at(0), schedule.at(9), schedule.changes) == (A, A, False)
    assert Schedule.of(None).last == Chain.default()
    assert repr(Schedule.of(A)) == repr(A)


def test_what_is_said_of_steps_before_the_first_is_left_out():
    assert dict(Schedule.of({0: A, 3: B, 9: A}, first=4)) == {4: B, 9: A}
    assert dict(Schedule.of(A, first=4)) == {4: A}


@pytest.mark.parametrize(
    ("given", "first", "error", "said"),
    [
        ({}, 0, ValueError, "step 0 is drawn first: say which chain draws it"),
        ({3: A}, 0, ValueError, r"the chains begin at \[3\], and step 0 is drawn first"),
        ({6: A}, 5, ValueError, "step 5 is drawn first"),
        ({-1: A}, 0, ValueError, "a step=-1"),
        ({"a": A}, 0, TypeError, "a step='a': it must be a whole number"),
        ({0: 5}, 0, TypeError, "a chain is stages"),
    ],
)
def test_a_schedule_that_says_too_little_is_refused(given, first, error, said):
    with pytest.raises(error, match=said):
        Schedule.of(given, first)


def test_a_stage_is_known_by_its_kind_where_chains_differ():
    twice = s.TopK(40) | s.MinP(0.1) | s.TopK(9)
    assert names_of(twice) == [(s.TopK, 0), (s.MinP, 0), (s.TopK, 1)]
    second = StageName(s.TopK, 1)
    assert (second.place_in(twice), second.place_in(A)) == (2, None)
    assert second.put(s.TopK(3), twice) == s.TopK(40) | s.MinP(0.1) | s.TopK(3)
    assert second.without(twice) == s.TopK(40) | s.MinP(0.1)
    assert second.put(s.TopK(3), A) == second.without(A) == A
    schedule = Schedule.of({0: A, 5: B})
    assert schedule.stages() == [(s.TopK, 0), (s.MinP, 0), (s.Temperature, 0)]
    heat = StageName(s.Temperature, 0)
    assert schedule.versions(heat) == [(1, s.Temperature(0.8)), (2, s.Temperature(1.2))]


def test_of_two_equal_stages_each_keeps_what_it_has_learnt(tiny_model):
    before = s.MirostatV2(3, 0.5) | s.TopK(20) | s.MirostatV2(3, 0.5)
    work = ScheduleSampler(
        Schedule.of({0: before, 4: s.MinP(0.001) | before}), tiny_model, history=[1], seed=3
    )
    with tiny_model.session(n_ctx=64) as session:
        row = session.logits("x").copy()
    for step in range(4):
        work.accept(work.now.apply(row, step, lambda *_: None))
    first, _, second = work.now.state[1:]
    assert first != second
    assert work.now.chain == s.MinP(0.001) | before
