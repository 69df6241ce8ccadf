"""Traces side by side: where they part, what is alike, how far apart their rows are."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest

from mullama_lab.engine.noise_floor import NoiseFloor, known_floor, remember
from mullama_lab.engine.stages import Chain, Mask, Temperature, TopK
from mullama_lab.engine.trace import Trace
from mullama_lab.engine.trace.divergence import divergence
from mullama_lab.widgets._compare import BEFORE, HARDLY, MOST_ROWS, Compared, Cost, compare

AB = Mask(allow=[b + 3 for b in b"ab"]) | Temperature(2.0)


@pytest.fixture(scope="module")
def session(tiny_model):
    with tiny_model.session(n_ctx=512, n_threads=1) as session:
        yield session


@pytest.fixture(scope="module")
def four(session):
    return [session.generate("x", AB, max_tokens=12, seed=seed) for seed in range(4)]


def beside(*traces):
    return compare([Compared(i, f"run {i}", trace) for i, trace in enumerate(traces, 1)])


def test_what_is_alike_is_what_all_begin_with(four):
    found = beside(*four)
    columns = list(zip(*(trace.tokens.tolist() for trace in four)))
    alike = next(i for i, column in enumerate(columns) if len(set(column)) > 1)
    assert found.shared == alike == min(side.first for side in found.sides[1:])
    assert found.sides[0].first is None


def test_each_parts_from_the_first_where_its_own_token_differs(four):
    for trace, side in zip(four[1:], beside(*four).sides[1:]):
        i = side.first
        assert four[0].tokens[:i].tolist() == trace.tokens[:i].tolist()
        assert four[0].tokens[i] != trace.tokens[i]
        assert side.kl == divergence(four[0], trace, i)
        assert side.kl_after == divergence(four[0], trace, i, after=True)


def test_rows_are_aligned_by_token_from_shortly_before(four):
    found = beside(*four)
    rows = found.rows()
    assert rows[0][0] == max(0, found.shared - BEFORE)
    for step, cells in rows:
        assert [cell.piece for cell in cells] == [trace.pieces[step] for trace in four]
        assert cells[0].kl is None and all(cell.kl is not None for cell in cells[1:])


def test_a_shorter_one_ends_with_empty_cells(four):
    found = beside(four[0], four[0][:5])
    assert (found.first, found.shared, found.b.first, found.b.token) == (None, 5, None, "")
    assert [cells[1] is None for _, cells in found.rows()] == [False] * BEFORE + [True] * 7


def test_the_same_twice_has_nothing_of_its_own(four):
    found = beside(four[0], four[0])
    assert found.first is None and found.a.token == found.b.rest == ""
    assert repr(found).splitlines()[1] == "  run 2: no token differs from run 1"


def test_other_chains_on_one_row_are_apart_after_the_chain_only(session):
    seeds = range(30)
    cold, hot = Chain([TopK(200), Temperature(0.3)]), Chain([TopK(200), Temperature(3.0)])
    pairs = (
        [session.generate("x", chain, max_tokens=3, seed=seed, top=259) for chain in (cold, hot)]
        for seed in seeds
    )
    found = next(f for f in (beside(*pair) for pair in pairs) if f.first is not None)
    assert found.b.kl.nats == pytest.approx(0, abs=1e-5) and found.b.kl_after.nats > 0.001
    assert "before the chain" in repr(found)


def test_other_prompts_are_said_to_be_other(session, four):
    other = session.generate("yz", AB, max_tokens=12, seed=0)
    assert not beside(four[0], other).same_prompt and beside(*four[:2]).same_prompt
    assert [s.same_prompt for s in beside(*four[:2], other).sides] == [True, True, False]


def test_a_token_that_was_chosen_by_hand_is_told_from_one_that_was_drawn(session, four):
    drawn, other = four[0], next(t for t in four if t.tokens[0] != four[0].tokens[0])
    branch = session.branch(drawn, 1, int(sum({3 + b for b in b"ab"}) - drawn.tokens[1]), AB)
    assert beside(drawn, branch).b.first == 1 and beside(drawn, branch).b.given
    assert beside(branch, drawn).b.given
    assert not beside(drawn, other).b.given and not beside(drawn, drawn).b.given


def test_what_the_browser_gets_is_json_and_bounded(session):
    chains = Chain([TopK(2), Temperature(5.0)]), Chain([TopK(60), Temperature(5.0)])
    long = [session.generate("x", c, max_tokens=300, seed=s) for s, c in enumerate(chains)]
    sent = beside(*long).to_dict()
    text = json.dumps(sent, allow_nan=False)
    assert len(sent["rows"]) <= MOST_ROWS and len(text) < 60_000
    assert beside(long[1], long[0]).b.kl_after.nats == math.inf
    assert beside(long[1], long[0]).to_dict()["sides"][1]["kl_after"]["infinite"] is True


def test_what_grammars_cost_is_of_the_side_that_had_them(four):
    nats = np.arange(12) / 4
    cost = Cost(nats, np.where(nats > 1, np.inf, nats), "it cost much")
    sides = [Compared(1, "run 1", four[0]), Compared(2, "run 2", four[1], cost=cost)]
    sent = compare(sides).to_dict()
    json.dumps(sent, allow_nan=False)
    assert [side["cost"] for side in sent["sides"]] == ["", "it cost much"]
    for step, (free, bound) in sent["rows"]:
        assert free[5] is None
        assert bound[5] == [step / 4, None if step > 4 else step / 4]
    assert repr(compare(sides)).splitlines()[-1] == "  run 2: it cost much"


@pytest.fixture
def floor(tiny_model):
    """As if it had been measured; what was known before is known again afterwards."""
    before = known_floor(tiny_model)
    floor = NoiseFloor(logit=0.1, logprob=0.1, kl=1e-4, js=0.01)
    remember(tiny_model, floor)
    yield floor
    remember(tiny_model, before)


@pytest.fixture
def unmeasured(tiny_model):
    """No measured noise, whatever other tests measured with the model that all share."""
    before = known_floor(tiny_model)
    remember(tiny_model, None)
    yield
    remember(tiny_model, before)


def moved(trace):
    """A trace as another batch might have left it, with a chain that makes more of the noise."""
    data = trace.to_dict()
    signs = np.where(np.arange(trace.top) % 2, 1, -1).astype(np.float32)
    for name, by in (("top_logprobs", 3e-3), ("after_logprobs", 0.2)):
        rows = getattr(trace, name) + np.float32(by) * signs
        rows -= np.logaddexp.reduce(rows, axis=1, keepdims=True)
        data["columns"][name] = rows.tolist()
    return Trace.from_dict(data)


def parted(trace):
    """A trace whose first token is another one."""
    data = trace.to_dict()
    token = next(t for t in trace.top_ids[0].tolist() if t != trace.tokens[0])
    data["columns"]["token"][0] = token
    return Trace.from_dict(data)


@pytest.mark.usefixtures("unmeasured")
def test_rounding_is_not_spoken_of_where_the_difference_is_clear_or_exact(session, four):
    clear = beside(four[0], session.generate("yz", AB, max_tokens=12, seed=1))
    assert clear.b.kl.nats >= HARDLY
    one = session.generate("x", AB, max_tokens=12, seed=0, top=259)
    data = parted(one).to_dict()
    cold = session.generate("x", AB | TopK(1), max_tokens=1, top=259)
    data["columns"]["after_logprobs"][0] = cold.after_logprobs[0].tolist()
    chain_only = beside(one, Trace.from_dict(data))
    assert chain_only.b.kl.nats == 0 and chain_only.b.kl_after.nats > 0
    for found in (clear, chain_only):
        assert found.to_dict()["may_be_noise"] is False and "not measured" not in repr(found)


def test_a_difference_below_the_floor_is_within_noise_and_one_above_is_not(session, floor):
    one = session.generate("x", AB, max_tokens=12, seed=0, top=259)
    noisy, other = moved(one), session.generate("yz", AB, max_tokens=12, seed=1, top=259)
    found = beside(Trace.from_dict(one.to_dict()), noisy, other)
    assert found.floor == floor
    for _, (_, same, apart) in found.rows():
        assert 0 < same.kl.nats < floor.kl and same.noise is True
        assert apart.kl.nats > floor.kl and apart.noise is False
    assert found.sides[2].noise is False
    assert "not measured" not in repr(found)
    assert found.to_dict()["floor"] == floor.kl


def test_what_one_chain_makes_of_noise_is_noise_and_what_another_makes_is_not(session, floor):
    def pair(a, b):
        runs = ((session.generate("x", c, max_tokens=3, seed=s, top=259) for c, s in
                 ((a, seed), (b, seed + 100))) for seed in range(30))  # fmt: skip
        return next(f for f in (beside(x, moved(y)) for x, y in runs) if f.first == 0)

    cold, hot = Chain([TopK(200), Temperature(0.01)]), Chain([TopK(200), Temperature(3.0)])
    assert (same := pair(hot, hot).b).noise is True and same.noise_after is True
    assert same.kl_after.nats > floor.kl
    assert (apart := pair(cold, hot).b).noise is True and apart.noise_after is False


@pytest.mark.usefixtures("unmeasured")
def test_without_a_measured_floor_nothing_is_called_noise_and_the_way_out_is_said(session, four):
    one = session.generate("x", AB, max_tokens=12, seed=0, top=259)
    found = beside(parted(one), moved(one))
    assert found.floor is None and found.b.noise is None and 0 < found.b.kl.nats < HARDLY
    assert all(cells[1].noise is None for _, cells in found.rows())
    assert found.to_dict()["may_be_noise"] is True
    assert "mullama_lab.studies.noise.noise(model)" in repr(found)
    assert "not measured" not in repr(beside(four[0], four[0]))


def test_a_part_that_was_not_kept_is_not_known(four):
    data = four[1].to_dict()  # the kept rows stay out
    data["columns"]["top_ids"] = np.full(four[1].top_ids.shape, -1).tolist()
    bare = Trace.from_dict(data)
    sent = beside(four[0], bare).to_dict()
    assert sent["sides"][1]["kl"] is None
    assert "KL n/a before the chain" in repr(beside(four[0], bare))


@pytest.mark.parametrize("n", [0, 1, 5])
def test_one_or_five_are_refused(four, n):
    with pytest.raises(ValueError, match=f"{n} given to compare; it must be from 2 to 4"):
        beside(*(four[:1] * n))
