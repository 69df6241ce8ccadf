"""Inside its interval a token stays the choice of a replay, and just outside it does not."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mullama_lab.engine import stages as s
from mullama_lab.engine.stages import Chain
from mullama_lab.engine.trace import Trace
from mullama_lab.studies.flips import N_STOPS, PRECISION, flip_map
from mullama_lab.studies.replay import replay

CHAIN = s.Penalties(repeat=1.1) | s.TopK(60) | s.TopP(0.9) | s.MinP(0.02) | s.Temperature(0.9)
TURNED = st.sampled_from(
    [(s.Temperature, "t"), (s.TopP, "p"), (s.MinP, "p"), (s.TopK, "k"), (s.Penalties, "repeat")]
)


@pytest.fixture(scope="module")
def traces(tiny_model):
    with tiny_model.session(n_ctx=512, n_threads=1) as session:
        yield [session.generate("Hello", CHAIN, max_tokens=16, seed=seed) for seed in range(4)]


def turned(place, name, value):
    stages = list(CHAIN)
    stages[place] = replace(stages[place], **{name: value})
    return Chain(stages)


@settings(max_examples=25)
@given(which=st.integers(0, 3), turn=TURNED)
def test_the_ends_of_every_interval_are_where_a_replay_changes(which, turn, traces, tiny_model):
    trace, (kind, name) = traces[which], turn
    place = [type(x) for x in CHAIN].index(kind)
    found = flip_map(trace, kind, name, on=tiny_model)
    whole = kind is s.TopK
    nudge = 1 if whole else PRECISION * 1.01 * np.ptp(kind.settings()[name].slider)
    assert found.sure.all()
    assert (found.low <= found.now).all() and (found.now <= found.high).all()
    for step in range(len(trace)):
        for end, flips, way in (
            (found.low[step], found.flips_low[step], -nudge),
            (found.high[step], found.flips_high[step], nudge),
        ):
            at = int(end) if whole else float(end)
            assert not replay(trace, turned(place, name, at), on=tiny_model).differs[step]
            if flips:
                beyond = replay(trace, turned(place, name, at + way), on=tiny_model)
                assert beyond.differs[step]


@pytest.mark.parametrize(
    ("chain", "place", "name"),
    [
        (s.Mirostat(5, 0.3) | s.Temperature(1), 0, "tau"),
        (Chain([s.MirostatV2(4, 0.3)]), 0, "tau"),
        (Chain([s.MirostatV2(4, 0.3)]), 0, "eta"),
        (s.Temperature(1.2) | s.MirostatV2(4, 0.3), 0, "t"),
        (s.TopP(0.9) | s.AdaptiveP(0.3), 1, "target"),
    ],
)
def test_what_another_value_would_have_let_a_stage_learn_counts(chain, place, name, tiny_model):
    with tiny_model.session(n_ctx=128, n_threads=1) as session:
        trace = session.generate("Hello", chain, max_tokens=16, seed=3)
        lost = Trace.from_dict(trace.to_dict())
        again = flip_map(lost, place, name, on=session)
    found = flip_map(trace, place, name, on=tiny_model)
    assert found.sure.all() and (found.flips_low | found.flips_high).any()
    assert again.sure.mean() > 0.5  # the others may be noise
    assert not flip_map(lost, place, name, on=tiny_model).sure.any()

    def differs(step, value):
        stages = list(chain)
        stages[place] = replace(stages[place], **{name: float(value)})
        return replay(trace, Chain(stages), on=tiny_model).differs[step]

    for step in range(len(trace)):
        for end, flips, edge in (
            (found.low[step], found.flips_low[step], found.slider[0]),
            (found.high[step], found.flips_high[step], found.slider[1]),
        ):
            assert not differs(step, end)
            if flips:
                stops = np.linspace(found.now, edge, N_STOPS)
                assert differs(step, stops[np.argmin(abs(stops - end)) + 1])


def test_the_first_flip_is_where_a_rerun_first_differs(traces, tiny_model):
    found = flip_map(traces[0], s.Temperature, on=tiny_model)
    rule = s.Temperature.settings()["t"].slider
    seen = set()
    for value in np.linspace(*rule, 21):
        first = replay(traces[0], turned(4, "t", float(value)), on=tiny_model).first
        assert found.first_flip(value) == first
        seen.add(first)
    assert None in seen and len(seen) > 2


def test_a_table_has_a_row_a_token_and_given_tokens_have_no_interval(traces, tiny_model):
    trace = traces[1]
    with tiny_model.session(n_ctx=128) as session:
        branch = session.branch(trace, 3, 100, max_tokens=4)
    found = flip_map(branch, 4, on=tiny_model)
    table = found.to_pandas()
    assert len(table) == len(branch)
    assert table["low"].isna().tolist() == [True] * 4 + [False] * (len(branch) - 4)
    assert "FlipMap of t in Temperature(0.9)" in repr(found)


def test_what_is_not_there_is_named(traces, tiny_model):
    with pytest.raises(ValueError, match="has no DRY"):
        flip_map(traces[0], s.DRY, on=tiny_model)
    with pytest.raises(ValueError, match=r"no setting 'q'.*it has p, min_keep"):
        flip_map(traces[0], s.TopP, "q", on=tiny_model)
    with pytest.raises(ValueError, match="places 0 to 4"):
        flip_map(traces[0], 5, on=tiny_model)
    with tiny_model.session(n_ctx=64) as session:
        scored = session.score("Hello there")
    with pytest.raises(ValueError, match="no seed"):
        flip_map(scored, s.TopK, on=tiny_model)


def test_rows_that_the_trace_lost_are_decoded_again_or_said_to_be_unknown(traces, tiny_model):
    whole = flip_map(traces[0], s.Temperature, on=tiny_model)
    without_rows = Trace.from_dict(traces[0].to_dict())
    with tiny_model.session(n_ctx=128) as session:
        again = flip_map(without_rows, s.Temperature, on=session)
    assert again.sure.all()
    assert "not known" not in repr(again)
    np.testing.assert_allclose(again.low, whole.low, atol=0.01)
    np.testing.assert_allclose(again.high, whole.high, atol=0.01)
    assert again.flips_high.tolist() == whole.flips_high.tolist()
    unknown = flip_map(without_rows, s.Temperature, on=tiny_model)
    assert not unknown.sure.any()
    assert f"{len(whole)} not known (pass a Session: on=session)" in repr(unknown)


@pytest.mark.parametrize("chain", [s.Temperature(0.004), s.DynamicTemperature(0.004, 0.0)])
def test_values_that_a_stage_refuses_are_not_tried(chain, tiny_model):
    with tiny_model.session(n_ctx=128, n_threads=1) as session:
        trace = session.generate("Hello", chain, max_tokens=12, seed=3)
        greedy = session.generate("Hello", replace(chain, t=0.0), max_tokens=12, seed=3)
    for each in (trace, greedy):  # a temperature is 0 or at least 0.001
        found = flip_map(each, 0, "t", on=tiny_model)
        assert found.sure.all() and (found.low <= found.now).all() and found.flips_high.any()


def test_an_xtc_that_is_turned_off_is_none_for_the_one_after_it(tiny_model):
    chain = s.XTC(0.5, 0.0) | s.XTC(0.13, 0.0)
    without = Chain([s.XTC(0.0, 0.0), chain[1]])
    with tiny_model.session(n_ctx=128, n_threads=1) as session:
        traces = [session.generate("Hello", chain, max_tokens=12, seed=seed) for seed in range(4)]
    for trace in traces:
        found = flip_map(trace, 0, "probability", on=tiny_model)
        differs = replay(trace, without, on=tiny_model).differs
        assert not (differs & (found.low == 0.0)).any()
