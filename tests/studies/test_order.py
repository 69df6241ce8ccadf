"""Orders of a chain's stages are as far apart as the distributions they leave."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mullama_lab.engine import stages as s
from mullama_lab.engine.noise_floor import jensen_shannon
from mullama_lab.engine.stages import Chain
from mullama_lab.studies.order import orders, orders_in_row

CHAIN = s.TopP(0.7) | s.Temperature(1.8) | s.MinP(0.2)


def row_of(seed, n=259):
    return np.random.default_rng(seed).normal(scale=2, size=n).astype(np.float32)


def entropy(p):
    return -sum(x * math.log2(x) for x in p.tolist() if x > 0)


def by_entropies(p, q):
    """The distance by its other definition: the entropy of the mean less the mean entropy."""
    return math.sqrt(max(0.0, entropy((p + q) / 2) - (entropy(p) + entropy(q)) / 2))


def left(chain, row, model, **more):
    """What a preview says is left to draw from."""
    probs = np.zeros(len(row))
    view = chain.preview(row, model=model, top=len(row), **more).final
    probs[view.ids] = view.probs
    return probs


@given(st.lists(st.floats(0, 1), min_size=4, max_size=4), st.integers(0, 3))
def test_the_distance_is_what_the_entropies_say(weights, place):
    p, q = np.array(weights) + 1e-3, np.zeros(4)
    p /= p.sum()
    q[place] = 1.0
    assert jensen_shannon(p, q) == pytest.approx(by_entropies(p, q), abs=1e-6)
    assert jensen_shannon(p, p) == 0
    assert jensen_shannon(np.array([1.0, 0.0]), np.array([0.0, 1.0])) == 1


@settings(max_examples=20)
@given(seed=st.integers(0, 100))
def test_the_matrix_is_that_of_the_previews_of_each_order(seed, tiny_model):
    row = row_of(seed)
    found = orders_in_row(row, CHAIN, model=tiny_model)
    assert len(found) == 6
    assert found.chains[0] == CHAIN
    table = found.to_pandas()
    for i, a in enumerate(found.chains):
        for j, b in enumerate(found.chains):
            p, q = left(a, row, tiny_model), left(b, row, tiny_model)
            assert table.iloc[i, j] == pytest.approx(by_entropies(p, q), abs=2e-3)
    assert sorted(i for group in found.groups for i in group) == list(range(6))


def test_orders_that_commute_are_one_group(tiny_model):
    chain = s.TopK(30) | s.MinP(0.1) | s.LogitBias({5: 0.0}) | s.Penalties()
    found = orders_in_row(row_of(1), chain, model=tiny_model)
    assert found.groups == [[0, 1]]  # the inert stages stay where they are
    assert "all 2 orders do the same on one row" in repr(found)
    masks = s.Mask(ban=[1]) | s.Mask(ban=[2])
    assert len(orders_in_row(row_of(1), masks, model=tiny_model).groups) == 1


def test_on_a_trace_distances_are_the_mean_over_its_rows(tiny_model):
    with tiny_model.session(n_ctx=128) as session:
        trace = session.generate("Hello", CHAIN, max_tokens=8, seed=2)
    found = orders(trace, on=tiny_model, permutations=[(0, 1, 2), (1, 0, 2)])
    assert found.n_rows == len(trace)
    each = []
    for step in range(len(trace)):
        row = trace.kept(step)[1]
        p, q = (left(c, row, tiny_model, history=trace.history(step)) for c in found.chains)
        each.append(by_entropies(p, q))
    assert found.distances[0, 1] == pytest.approx(np.mean(each), abs=2e-4)
    assert found.worst[0, 1] == pytest.approx(np.max(each), abs=2e-4)
    assert f"groups over {len(trace)} rows" in repr(found)
    assert "<table" in found._repr_html_()
    assert found.grouped()["orders"].sum() == 2


def test_what_mirostat_learnt_goes_with_it_to_its_new_place(tiny_model):
    chain = s.Mirostat(4.0, 0.5) | s.Temperature(1.3)
    with tiny_model.session(n_ctx=128) as session:
        trace = session.generate("Hello", chain, max_tokens=8, seed=2)
    step = len(trace) - 1
    found = orders(trace, on=tiny_model)
    other = found.chains[1]
    row, state = trace.kept(step)[1], trace.state(step)
    p = left(chain, row, tiny_model, state=state)
    q = left(other, row, tiny_model, state=(state[1], state[0]))
    assert other == s.Temperature(1.3) | s.Mirostat(4.0, 0.5)
    assert found.worst[0, 1] >= by_entropies(p, q) - 2e-4


def test_an_order_that_leaves_nothing_is_apart_and_says_why(tiny_model):
    row = row_of(3)
    best = int(row.argmax())
    found = orders_in_row(row, s.Mask(ban=[best]) | s.Greedy(), model=tiny_model)
    assert math.isnan(found.distances[0, 1])
    assert found.groups == [[0], [1]]
    assert "no token is left" in found.problems[1]
    assert "no token is left" in repr(found)


def test_rows_that_were_not_kept_whole_are_decoded_with_a_session(smollm2):
    chain = s.Temperature(0.8) | s.Typical(0.9)
    with smollm2.session(n_ctx=128) as session:
        trace = session.generate("Once upon a time", chain, max_tokens=3, seed=2)
        with pytest.raises(ValueError, match=r"on=model\.session"):
            orders(trace, on=smollm2)
        assert orders(trace, on=session).n_rows == len(trace)
        kept = orders(trace, s.TopK(9) | s.Temperature(2), on=smollm2)
        assert kept.groups == [[0, 1]]


def test_wrong_orders_are_refused(tiny_model):
    row = row_of(1)
    with pytest.raises(ValueError, match="each place from 0 to 2 once"):
        orders_in_row(row, CHAIN, model=tiny_model, permutations=[(0, 1, 1)])
    with pytest.raises(ValueError, match="place=3"):
        orders_in_row(row, CHAIN, model=tiny_model, permutations=[(0, 1, 3)])
    with pytest.raises(ValueError, match="1 to 120 orders"):
        orders_in_row(row, CHAIN, model=tiny_model, permutations=[])
    with pytest.raises(ValueError, match="6 stages have 720 orders"):
        orders_in_row(row, Chain([*CHAIN, *CHAIN]), model=tiny_model)
    with pytest.raises(ValueError, match="shape"):
        orders_in_row(row[:5], CHAIN, model=tiny_model)


def test_many_orders_show_a_bar(smollm2, monkeypatch, capsys):
    monkeypatch.setattr("mullama_lab.engine.bar.SHOWN_AFTER", 0)
    with smollm2.session(n_ctx=128) as session:
        trace = session.generate("Once upon a time", max_tokens=4, seed=2)
        orders(trace, s.TopK(40) | s.TopP(0.9) | s.Temperature(1.2), on=session)
    assert "Comparing orders" in capsys.readouterr().err
