"""A run whose chain changed on the way is studied with the chain that was in force at each step."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from mullama_lab.engine import stages as s
from mullama_lab.engine import tiny
from mullama_lab.engine.stages import Chain
from mullama_lab.engine.stages.schedule import Schedule, StageName
from mullama_lab.engine.trace import Trace
from mullama_lab.studies.fate import fate
from mullama_lab.studies.flips import flip_map
from mullama_lab.studies.order import orders
from mullama_lab.studies.replay import replay, stage_effects
from mullama_lab.studies.states import stage_states

NO_END = s.Mask(ban=[tiny.EOS])
CALM = NO_END | s.TopK(60) | s.Temperature(0.4)
WILD = NO_END | s.MinP(0.005) | s.TopK(60) | s.Temperature(1.4)
BARE = NO_END | s.TopK(30)
CHAINS = {0: CALM, 6: WILD, 12: BARE}
N = 18


@pytest.fixture(scope="module")
def session(tiny_model):
    with tiny_model.session(n_ctx=512, n_threads=1) as session:
        yield session


@pytest.fixture(scope="module")
def trace(session):
    return session.generate("Hello", CHAINS, max_tokens=N, seed=5)


def with_heat(schedule, value):
    heat = StageName(s.Temperature, 0)
    return schedule.map(lambda chain: heat.put(s.Temperature(value), chain))


def test_the_chains_in_force_choose_what_the_trace_has(trace, session):
    seen = replay(trace, on=session.model)
    assert seen.n_compared == N and seen.first is None
    assert seen.chain == CHAINS
    assert replay(trace, CALM, on=session.model).first in range(6, N)
    assert "{0: Mask(" in repr(seen)


def test_a_replay_of_other_chains_by_steps_is_what_a_rerun_with_them_does(trace, session):
    chains = {0: CALM, 9: s.XTC(0.7, 0.001) | WILD}
    seen = replay(trace, chains, on=session.model)
    session.reset()
    again = session.generate("Hello", chains, max_tokens=N, seed=5)
    first = int(np.flatnonzero(again.tokens != trace.tokens)[0])
    assert seen.first == first
    assert seen.choices[first] == again.tokens[first]


def test_a_setting_is_turned_in_the_chain_in_force_at_each_step(trace, session):
    found = flip_map(trace, s.Temperature, on=session.model)
    assert found.was[:12].tolist() == [0.4] * 6 + [1.4] * 6 and np.isnan(found.was[12:]).all()
    assert (found.now, found.stage) == (1.4, s.Temperature(1.4))
    assert found.sure.all()
    for value in np.linspace(0.0, 2.0, 9):
        seen = replay(trace, with_heat(trace.schedule, float(value)), on=session.model)
        assert seen.differs.tolist() == ((value < found.low) | (value > found.high)).tolist()
        assert found.first_flip(value) == seen.first
    assert (found.low[:6] <= 0.4).all() and (found.high[:6] >= 0.4).all()
    assert (found.low[6:12] <= 1.4).all() and (found.high[6:12] >= 1.4).all()


def test_a_step_whose_chain_has_no_such_stage_stays_over_all_values(trace, session):
    found = flip_map(trace, s.Temperature, on=session.model)
    assert found.low[12:].tolist() == [0.0] * 6 and found.high[12:].tolist() == [2.0] * 6
    assert not (found.flips_low | found.flips_high)[12:].any()
    assert found.to_pandas()["was"].isna().tolist() == [False] * 12 + [True] * 6


def test_a_place_is_that_of_the_last_chain_and_its_kind_in_those_before(trace, session):
    by_place = flip_map(trace, 1, on=session.model)  # TopK, in place 1, 2 and 1
    by_kind = flip_map(trace, s.TopK, on=session.model)
    assert by_place.was.tolist() == [60.0] * 12 + [30.0] * 6
    np.testing.assert_array_equal(by_place.low, by_kind.low)
    with pytest.raises(ValueError, match="has places 0 to 1"):
        flip_map(trace, 2, on=session.model)
    with pytest.raises(ValueError, match="has no DRY"):
        flip_map(trace, s.DRY, on=session.model)


def test_of_another_chain_an_interval_is_where_that_chain_chooses_the_token(trace, session):
    other = NO_END | s.TopK(60) | s.Temperature(1.9)
    found = flip_map(trace, s.Temperature, on=session.model, chain=other)
    seen = replay(trace, other, on=session.model)
    assert 3 < seen.n_changed < N
    out = (found.now < found.low) | (found.now > found.high)
    assert out.tolist() == seen.differs.tolist()
    for value in np.linspace(0.0, 2.0, 9):
        turned = other[:2] | s.Temperature(float(value))
        inside = (found.low <= value) & (value <= found.high)
        assert not (replay(trace, turned, on=session.model).differs & inside).any()
    nowhere = found.low > found.high
    assert nowhere.any() and (found.flips_low & found.flips_high)[nowhere].all()


@pytest.mark.parametrize(
    ("chains", "kind", "name"),
    [
        ({0: s.Mirostat(5, 0.3) | NO_END, 7: s.Mirostat(3, 0.3) | NO_END}, s.Mirostat, "tau"),
        ({0: CALM, 5: s.Temperature(1.2) | s.MirostatV2(4, 0.3)}, s.Temperature, "t"),
        ({0: s.TopP(0.9) | s.AdaptiveP(0.3), 6: s.AdaptiveP(0.3)}, s.AdaptiveP, "target"),
    ],
)
def test_what_stages_learn_goes_on_over_a_change(chains, kind, name, session):
    session.reset()
    trace = session.generate("Hello", chains, max_tokens=14, seed=3)
    assert replay(trace, on=session.model).first is None
    found = flip_map(trace, kind, name, on=session.model)
    owner = StageName(kind, 0)
    for value in (*np.unique(found.low[found.flips_low]), *np.unique(found.high[found.flips_high])):

        def turn(chain, value=value):
            place = owner.place_in(chain)
            if place is None:
                return chain
            return owner.put(replace(chain[place], **{name: float(value)}), chain)

        seen = replay(trace, trace.schedule.map(turn), on=session.model)
        inside = (found.low <= value) & (value <= found.high)
        ends = (found.low == value) | (found.high == value)
        assert not (seen.differs & inside & ends).any()
    lost = Trace.from_dict(trace.to_dict())
    assert replay(lost, on=session, allow_unknown=False).n_changed == 0


def test_an_effect_is_that_of_a_stage_taken_out_of_every_chain(trace, session):
    effects = stage_effects(trace, on=session.model)
    assert [(x.place, x.stage) for x in effects] == [
        (0, NO_END), (1, s.TopK(30)), (1, s.MinP(0.005)), (3, s.Temperature(1.4)),
    ]  # fmt: skip
    without = trace.schedule.map(StageName(s.Temperature, 0).without)
    seen = replay(trace, without, on=session.model)
    assert (effects[3].n_changed, effects[3].n_compared) == (seen.n_changed, N)
    assert seen.n_changed > 0 and not seen.differs[12:].any()


def test_a_fate_is_that_under_the_chain_in_force(trace, session):
    for step in range(N):
        found = fate(trace, step, int(trace.tokens[step]), on=session.model)
        assert found.choice == trace.tokens[step]
        assert [x.stage for x in found.stages] == list(trace.chain_at(step))
    other = fate(trace, 14, int(trace.tokens[14]), on=session.model, chain=CALM)
    assert other.choice == replay(trace, CALM, on=session.model).choices[14]


def test_a_chain_that_came_late_learns_from_the_beginning_where_it_is_asked_about(session):
    late = NO_END | s.MirostatV2(3, 0.5)
    trace = session.generate("Hello", {0: CALM, 6: late}, max_tokens=14, seed=8)
    seen = replay(trace, late, on=session.model)
    token = int(trace.tokens[13])
    assert fate(trace, 13, token, on=session.model, chain=late).choice == seen.choices[13]
    assert fate(trace, 13, token, on=session.model).choice == token


def test_states_are_those_of_the_stages_in_force(session):
    chains = {0: NO_END | s.Penalties(repeat=1.3), 4: BARE, 8: NO_END | s.Mirostat(3, 0.5)}
    trace = session.generate("Hello", chains, max_tokens=12, seed=8)
    found = stage_states(trace, on=session.model)
    assert [x.step for x in found] == [*range(4), *range(8, 12)]
    assert [x.mu for x in found[4:]] == [trace.state(i)[1][0] for i in range(8, 12)]
    with pytest.raises(ValueError, match="has no Penalties, DRY, Mirostat"):
        stage_states(trace, {0: CALM, 3: BARE}, on=session.model)


def test_orders_need_the_same_places_at_every_step(trace, session):
    with pytest.raises(ValueError, match=r"other stages from step 6 on.*trace\[:9\]"):
        orders(trace, on=session.model)
    part = orders(trace[6:12], on=session.model)
    assert part.chains[0] == WILD and part.n_rows == 6
    chains = {0: CALM, 6: NO_END | s.TopK(60) | s.Temperature(1.4)}
    turned = session.generate("Hello", chains, max_tokens=12, seed=5)
    both = orders(turned, on=session.model)
    parts = [orders(turned[a:b], on=session.model) for a, b in ((0, 6), (6, 12))]
    np.testing.assert_allclose(both.distances, sum(x.distances for x in parts) / 2, atol=1e-9)
    np.testing.assert_allclose(both.worst, np.maximum(*(x.worst for x in parts)), atol=1e-9)


def test_a_schedule_without_a_change_is_the_chain(trace, session):
    whole = replay(trace, {0: CALM}, on=session.model)
    assert whole.chain == CALM and isinstance(whole.chain, Chain)
    assert Schedule.of(CALM) == {0: CALM}
