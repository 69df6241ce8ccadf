"""Studies over Settings: other adapters and vectors are told apart from noise and from chains."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

import mullama_lab as ml
from mullama_lab.engine import tiny
from mullama_lab.engine.trace_rows import TraceRows
from mullama_lab.studies.explore import explore
from mullama_lab.studies.fate import fate, fate_in_row
from mullama_lab.studies.flips import flip_map
from mullama_lab.studies.order import orders, orders_in_row
from mullama_lab.studies.replay import replay
from mullama_lab.studies.seeds import seed_fan
from mullama_lab.studies.sweeps import grid, sweep

PROMPT = list(range(5, 45))
CHAIN = ml.Mask(ban=[tiny.EOS]) | ml.TopK(40) | ml.Temperature(0.9)


def vector(seed=0, size=3.0):
    return ml.ControlVector({1: size * np.random.default_rng(seed).normal(size=32)}, name="happy")


@pytest.fixture(scope="module")
def adapter(tmp_path_factory):
    rng = np.random.default_rng(0)
    pair = rng.normal(size=(2, 32)).astype("f4"), rng.normal(size=(64, 2)).astype("f4")
    path = tmp_path_factory.mktemp("adapter") / "style.gguf"
    return ml.LoraAdapter.load(tiny.write_adapter(path, {"blk.0.attn_q.weight": pair}))


@pytest.fixture(scope="module")
def setting(adapter):
    return ml.Setting(CHAIN, {adapter: 2.0}, vector())


@pytest.fixture(scope="module")
def session(tiny_model):
    with tiny_model.session(n_ctx=512, n_threads=1, reproducible=True) as session:
        yield session


@pytest.fixture(scope="module")
def trace(session, setting):
    return session.generate(PROMPT, setting, seed=4, max_tokens=16)


def rows_of(trace, on, steps, steerings=None):
    found = []
    TraceRows(trace, on, steerings).decode(steps, lambda moment: found.append(moment.logsumexp))
    return found


def test_rows_are_decoded_with_the_weights_of_the_trace(session, trace):
    session.control = vector(5)
    assert np.allclose(rows_of(trace, session, range(16)), trace.logsumexp, atol=0.01)
    assert session.control == vector(5)
    moment = TraceRows(trace, session).decoded(3)
    assert abs(moment.logsumexp - trace.logsumexp[3]) < 0.01
    session.control = None


def test_a_replay_with_the_weights_of_the_trace_needs_no_decode(session, trace, setting):
    n = session.n_decoded
    same = replay(trace, on=session.model)
    assert same.n_changed == 0 and set(same.sources) == {"kept"}
    hot = ml.Temperature(3.0)
    asked = replay(trace, replace(setting, chain=hot), on=session)
    assert asked.choices.tolist() == replay(trace, hot, on=session).choices.tolist()
    assert set(asked.sources) == {"kept"} and session.n_decoded == n


def test_a_replay_with_other_weights_says_that_it_decodes(session, trace, setting):
    base = ml.Setting(CHAIN)
    with pytest.raises(ValueError, match="other weights .*Pass a session"):
        replay(trace, base, on=session.model)
    unknown = replay(trace, base, on=session.model, allow_unknown=True)
    assert not unknown.known.any()
    there = replay(trace, base, on=session)
    assert set(there.sources) == {"other weights"}
    assert "16 rows decoded without adapter style, without control vector happy" in repr(there)
    assert there.n_changed > 0
    # Up to the first choice that differs it is what a rerun does.
    rerun = session.generate(PROMPT, base, seed=4, max_tokens=16)
    first = there.first
    assert rerun.tokens[:first].tolist() == trace.tokens[:first].tolist()
    assert rerun.tokens[first] == there.choices[first] != trace.tokens[first]


@pytest.mark.parametrize("n_weights", [1, 2])
def test_a_replay_with_other_weights_is_teacher_forced(session, trace, setting, n_weights):
    """For each of the weights a batch of the prompt, and one with the rows of all 16 steps."""
    plan = {0: ml.Setting(CHAIN), 9: replace(setting, control=vector(3))}
    session.reset()
    before = session.ledger
    there = replay(trace, dict(list(plan.items())[:n_weights]), on=session)
    spent = session.ledger - before
    assert set(there.sources) == {"other weights"}
    n = len(PROMPT) + len(trace) - 1
    n_decoded = n if n_weights == 1 else (len(PROMPT) + 8) + n
    assert (spent.batches, spent.decoded, spent.reused) == (2 * n_weights, n_decoded, 0)


def test_weights_that_change_on_the_way_are_decoded_each_with_its_own(session, trace, setting):
    plan = {0: setting, 6: ml.Setting(CHAIN), 11: replace(setting, control=vector(3))}
    there = replay(trace, plan, on=session)
    assert there.sources == ("kept",) * 6 + ("other weights",) * 10
    alone = [replay(trace, one, on=session) for one in plan.values()]
    for step in range(16):
        which = 0 if step < 6 else 1 if step < 11 else 2
        assert there.choices[step] == alone[which].choices[step]


def test_what_came_over_a_stale_cache_is_not_decoded_as_if_it_had_not(session, trace, setting):
    mixed = session.generate(PROMPT, {0: setting, 5: ml.Setting(CHAIN)}, seed=4, max_tokens=8)
    assert replay(mixed, on=session).n_changed == 0, "what was kept serves"
    assert len(rows_of(mixed, session, range(5))) == 5
    with pytest.raises(ValueError, match="before step 5 of the trace .*trace.stale"):
        rows_of(mixed, session, range(8))
    other = [(0, replace(setting, control=vector(8)).steering)]
    assert len(rows_of(mixed, session, range(8), other)) == 8


def test_fates_and_flips_under_another_setting(session, trace, setting):
    base = ml.Setting(CHAIN)
    token = int(trace.tokens[0])
    assert fate(trace, 0, token, on=session).source == "kept"
    there = fate(trace, 0, token, on=session, chain=base)
    assert there.source == "other weights"
    row = session.generate(PROMPT, base, seed=4, max_tokens=1, top=259)
    place = row.top_ids[0].tolist().index(token)
    assert there.logprob == pytest.approx(float(row.top_logprobs[0][place]), abs=0.01)
    flips = flip_map(trace, ml.Temperature, on=session, chain=base)
    chosen = replay(trace, base, on=session)
    kept = (flips.low <= 0.9) & (flips.high >= 0.9)
    assert kept.tolist() == (~chosen.differs).tolist()


def test_orders_under_another_setting_are_those_on_its_rows(session, trace):
    chain = ml.TopP(0.6) | ml.Temperature(2.0)
    there = orders(trace, ml.Setting(chain), on=session)
    assert there.n_rows == len(trace) and len(there) == 2
    assert "over 16 rows decoded without adapter style, without control vector happy" in repr(there)
    rows = []
    TraceRows(trace, session, [(0, ml.Setting().steering)]).decode(
        range(len(trace)), lambda moment: rows.append(moment.logits.copy())
    )
    each = [orders_in_row(row, chain, model=session.model).worst[0, 1] for row in rows]
    assert there.distances[0, 1] == pytest.approx(np.mean(each), abs=2e-3)
    assert there.worst[0, 1] != orders(trace, chain, on=session).worst[0, 1]
    with pytest.raises(ValueError, match="other weights .*Pass a session"):
        orders(trace, ml.Setting(chain), on=session.model)


def test_orders_by_the_weights_of_the_trace_need_no_decode(session, trace, setting):
    n = session.n_decoded
    own = replace(setting, chain=ml.TopP(0.6) | ml.Temperature(2.0))
    there = orders(trace, own, on=session)
    assert np.array_equal(there.distances, orders(trace, own.chain, on=session).distances)
    assert there.weights == () and session.n_decoded == n


def test_of_a_row_that_is_there_a_setting_is_refused_with_a_way_out(session, setting):
    row = session.logits(PROMPT)
    for ask in (
        lambda: orders_in_row(row, setting, model=session.model),
        lambda: fate_in_row(row, 5, setting, model=session.model),
    ):
        with pytest.raises(TypeError, match=r"setting\.chain"):
            ask()


def test_a_grid_of_settings_and_a_sweep_over_it(session, adapter, setting):
    v = vector()
    made = grid(setting, temperature=[0.5, 1.0], control=[None, v], adapters=[{}, {adapter: 0.5}])
    assert len(made) == 8 and all(isinstance(one, ml.Setting) for one in made)
    assert made[1] == replace(made[0], adapters={adapter: 0.5})
    with pytest.raises(ValueError, match="no setting 'control'"):
        grid(CHAIN, control=[v])
    table = sweep([PROMPT], [*made, CHAIN], on=session, seeds=2, max_tokens=3, progress=False)
    assert table["temperature"].tolist() == [0.5] * 4 + [1.0] * 4 + [0.9]
    assert table["adapter style"].tolist()[:8] == [0.0, 0.5] * 4
    assert table["control"].tolist()[:4] == [None, None, v, v]
    assert table["adapter style"].isna().tolist() == [False] * 8 + [True]
    assert not table["error"].any()
    for row, one in zip(table.itertuples(), made):
        assert row.text == session.generate(PROMPT, one, seed=2, max_tokens=3).text
        assert row.chain == repr(one)


def test_a_sweep_has_a_row_for_a_setting_that_does_not_fit(session, setting):
    wide = ml.Setting(CHAIN, control=ml.ControlVector({1: np.ones(31)}))
    chains = {"fits": setting, "does not": wide}
    table = sweep("abc", chains, on=session, max_tokens=2, progress=False)
    assert table["error"].astype(bool).tolist() == [False, True]
    assert "31 numbers" in table["error"][1]


def test_a_fan_of_seeds_under_a_setting(session, setting):
    fan = seed_fan(PROMPT, setting, on=session, seeds=range(3), max_tokens=4, progress=False)
    for seed, trace in enumerate(fan.traces):
        assert trace.settings == [(0, setting)]
        again = session.generate(PROMPT, setting, seed=seed, max_tokens=4)
        assert trace.tokens.tolist() == again.tokens.tolist()


def test_an_exploration_goes_on_with_the_weights_of_its_start(tiny_model, session, trace, setting):
    def found(start, on):
        there = explore(start, on=on, budget=6, at_once=1, max_tokens=3, progress=False)
        return [(one.tokens, one.logprob) for one in there._found], there.tree

    start = trace[:3]
    with tiny_model.session(n_ctx=512, n_threads=1, reproducible=True) as other:
        other.adapters, other.control = setting.adapters, setting.control
        wanted, tree = found(start, other)
        of_prompt, paths = found(PROMPT, other)
    assert found(start, session)[0] == wanted != found(PROMPT, session)[0]
    for one in tree:
        assert [each.steering for _, each in one.trace.settings][-1] == setting.steering
    assert all(one.trace.setting.steering == setting.steering for one in paths)
    assert of_prompt != found(PROMPT, session)[0]
