"""A token's fate is what llama.cpp's samplers did to it; its margin is where they begin not to."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from mullama_lab.engine import stages as s
from mullama_lab.engine import tiny
from mullama_lab.engine.stages import Chain
from mullama_lab.engine.trace import Trace
from mullama_lab.errors import NoCandidates
from mullama_lab.studies.fate import fate, fate_in_row
from mullama_lab.studies.replay import replay

CUTS = st.one_of(
    st.builds(s.TopK, st.integers(1, 200)),
    st.builds(s.TopP, st.floats(0.05, 0.99)),
    st.builds(s.MinP, st.floats(0.01, 0.95)),
    st.builds(s.Typical, st.floats(0.05, 0.99)),
    st.builds(s.TopNSigma, st.floats(0.1, 3.0)),
    st.builds(s.TailFree, st.floats(0.3, 0.99)),
    st.builds(s.XTC, st.just(1.0), st.floats(0.001, 0.05)),
)
OTHERS = st.one_of(
    st.builds(s.Temperature, st.floats(0.3, 2.0)),
    st.builds(s.Penalties, repeat=st.floats(1.0, 1.5)),
    st.builds(s.LogitBias, st.just({5: -math.inf, 9: 3.0})),
    st.builds(s.Ban, st.lists(st.sampled_from("ae!\n"), max_size=3)),
)
CHAINS = st.lists(st.one_of(CUTS, OTHERS), min_size=1, max_size=4).map(Chain)
HISTORY = [3, 7, 7, 12]


def row_of(seed, n=259):
    return np.random.default_rng(seed).normal(scale=2, size=n).astype(np.float32)


@settings(max_examples=120)
@given(chain=CHAINS, token=st.integers(0, 258), seed=st.integers(0, 500))
def test_each_stage_did_to_the_token_what_the_preview_shows(chain, token, seed, tiny_model):
    row = row_of(seed)
    try:
        view = chain.preview(row, model=tiny_model, history=HISTORY, seed=seed, top=259)
    except NoCandidates:
        assume(False)
    found = fate_in_row(row, token, chain, model=tiny_model, history=HISTORY, seed=seed)
    assert found.choice == view.choice
    for stage, shown in zip(found.stages, view.stages, strict=True):
        there = dict(zip(shown.ids.tolist(), shown.probs.tolist()))
        assert math.exp(stage.after) == pytest.approx(there.get(token, 0.0), rel=1e-4, abs=1e-7)
        assert stage.n_left == shown.n_kept
    removed = [x for x in found.stages if x.removed]
    assert len(removed) <= 1
    assert found.removed_by is (removed[0] if removed else None)


@settings(max_examples=150)
@given(
    before=st.lists(OTHERS, max_size=1),
    cut=CUTS,
    token=st.integers(0, 258),
    seed=st.integers(0, 500),
)
def test_at_the_margin_the_token_stays_and_just_before_it_does_not(
    before, cut, token, seed, tiny_model
):
    row = row_of(seed)
    chain = Chain([*before, cut])
    found = fate_in_row(row, token, chain, model=tiny_model, history=HISTORY)
    if found.removed_by is None or found.removed_by.stage is not cut:
        return
    border = found.margin

    def survives(value):
        version = type(border)(border.setting, border.now, value, border.at_least).of(cut)
        view = Chain([*before, version]).preview(row, model=tiny_model, history=HISTORY, top=259)
        return token in view.final.ids

    assert border is not None
    assert survives(border.value)
    if isinstance(cut, s.TopK):
        assert not survives(border.value - 1)
    else:
        inward = np.float32(-np.inf if border.at_least else np.inf)
        assert not survives(float(np.nextafter(np.float32(border.value), inward)))


def test_the_margins_are_those_of_a_row_done_by_hand(tiny_model):
    probs = np.full(259, 1e-9, np.float32)
    probs[[10, 20, 30, 40]] = 0.5, 0.25, 0.15, 0.1
    row = np.log(probs)

    def value(stage, token):
        return fate_in_row(row, token, stage, model=tiny_model).margin.value

    assert value(s.TopK(2), 40) == 4
    assert value(s.TopP(0.6), 30) == pytest.approx(0.75, abs=1e-5)
    assert value(s.MinP(0.4), 40) == pytest.approx(0.2, rel=1e-5)
    assert value(s.XTC(1.0, 0.05), 30) == pytest.approx(0.1, rel=1e-5)


def test_a_fate_in_a_generation_is_told_from_the_row_that_was_kept(smollm2):
    with smollm2.session(n_ctx=256) as session:
        trace = session.generate("The capital of France is", max_tokens=4, seed=3)
        drawn = fate(trace, 0, int(trace.tokens[0]), on=smollm2)
        assert drawn.chosen
        assert drawn.source == "kept"
        assert drawn.rank == trace.rank[0]
        assert drawn.logprob == pytest.approx(trace.logprob[0], abs=1e-4)
        assert drawn.logprob_after == pytest.approx(trace.logprob_after[0], abs=1e-4)
        far = fate(trace, 0, " zebra", on=session)
        assert far.source == "decoded"
        assert far.removed_by.stage == s.TopK(40)
        assert far.margin.value == far.rank + 1
        with pytest.raises(ValueError, match=r"on=model\.session"):
            fate(trace, 0, " zebra", on=smollm2)
        table = far.to_pandas()
        assert list(table["stage"]) == [repr(stage) for stage in trace.chain]
        assert "TopK(40) removed it; it stays with k ≥" in repr(far)


def test_a_chain_that_leaves_nothing_says_so(tiny_model):
    found = fate_in_row(row_of(1), 5, s.Mask(ban=range(259)), model=tiny_model)
    assert found.choice == -1
    assert found.removed_by.stage.label == s.Mask.label
    assert found.margin is None


def test_wrong_steps_and_tokens_are_refused(tiny_model):
    with tiny_model.session(n_ctx=64) as session:
        trace = session.generate("Hello", max_tokens=3, seed=1)
    with pytest.raises(ValueError, match="step"):
        fate(trace, len(trace), 5, on=tiny_model)
    with pytest.raises(ValueError, match="vocabulary"):
        fate(trace, 0, 259, on=tiny_model)
    with pytest.raises(TypeError, match="Model that made the trace"):
        fate(trace, 0, 5, on="a model")


def test_a_margin_is_shown_rounded_to_where_the_token_stays(tiny_model):
    found = fate_in_row(row_of(3), 11, s.TopP(0.05), model=tiny_model).margin
    assert found.rounded >= found.value
    assert f"p ≥ {found.rounded:.4g} (was 0.05)" == str(found)
    down = fate_in_row(row_of(3), 11, s.MinP(0.95), model=tiny_model).margin
    assert 0.999 * down.value < down.rounded <= down.value


@settings(max_examples=30)
@given(
    token=st.integers(0, 258),
    seed=st.integers(0, 99),
    mu=st.floats(0.5, 6.0),
    second=st.booleans(),
)
def test_mirostat_keeps_a_token_from_the_mu_of_its_margin_on(token, seed, mu, second, tiny_model):
    chain, row = Chain([(s.MirostatV2 if second else s.Mirostat)(5.0)]), row_of(seed)
    found = fate_in_row(row, token, chain, model=tiny_model, state=((mu,),))
    if found.removed_by is None:
        return

    def survives(mu):
        view = chain.preview(row, model=tiny_model, state=((mu,),), top=259)
        return token in view.final.ids

    assert found.margin.setting == "mu"
    assert found.margin.now == mu
    assert survives(found.margin.value)
    assert not survives(float(np.nextafter(np.float32(found.margin.value), np.float32(0))))


def test_under_another_chain_mirostat_has_learnt_what_a_replay_lets_it_learn(tiny_model):
    chain = s.MirostatV2(6, 0.5) | s.Temperature(1.2)
    with tiny_model.session(n_ctx=64, n_threads=1) as session:
        trace = session.generate("Hi", s.Temperature(1.1), max_tokens=8, seed=2)
        again = fate(Trace.from_dict(trace.to_dict()), 7, 5, on=session, chain=chain)
    seen = replay(trace, chain, on=tiny_model)
    found = [fate(trace, i, 5, on=tiny_model, chain=chain) for i in range(8)]
    assert [x.choice for x in found] == seen.choices.tolist()
    assert (again.source, again.choice) == ("decoded", found[7].choice)
    fresh = trace.kept(7)[1]  # with nothing learnt, more of the row is left
    told = {"model": tiny_model, "history": trace.history(7), "seed": 2, "step": 7}
    assert fate_in_row(fresh, 5, chain, **told).stages[0].n_left != found[7].stages[0].n_left


def test_at_temperature_zero_any_other_temperature_keeps_a_token(tiny_model):
    row = row_of(2)
    found = fate_in_row(row, int(np.argsort(row)[-2]), s.Temperature(0), model=tiny_model).margin
    assert str(found) == "t ≥ 0.001 (was 0)"
    assert fate_in_row(row, 3, found.of(s.Temperature(0)), model=tiny_model).removed_by is None


@settings(max_examples=30)
@given(token=st.integers(0, 258), seed=st.integers(0, 200))
def test_a_token_is_drawn_where_the_draw_is_one_of_its_own(token, seed, tiny_model):
    row = row_of(7) * 2
    found = fate_in_row(row, token, s.TopK(20), model=tiny_model, seed=seed)
    assert (found.drawn_by is None) == (found.removed_by is not None)
    if found.drawn_by is not None:
        low, high = found.drawn_by
        assert found.chosen == (low <= found.draw < high)


def test_a_forced_token_is_not_said_to_be_drawn(tiny_model):
    with tiny_model.session(n_ctx=128) as session:
        first = session.generate("x", s.Temperature(1.0), max_tokens=6, seed=3)
        by_rank = [int(t) for t in first.top_ids[2] if t != first.tokens[2]]
        trace = session.branch(first, 2, by_rank[0], s.TopK(1), max_tokens=2)
    told = fate(trace, 2, by_rank[0], on=tiny_model, chain=s.Temperature(1.0))
    assert told.forced == by_rank[0] and told.summary().endswith("it was forced, not drawn.")
    assert told.remark().startswith("It was forced, not drawn. The draw would have been ")
    own = fate(trace, 2, int(first.tokens[2]), on=tiny_model, chain=s.Temperature(1.0))
    assert own.chosen and own.summary().endswith("and it would have been drawn.")
    assert (
        "fallen on" in fate(trace, 2, by_rank[1], on=tiny_model, chain=s.Temperature(1.0)).summary()
    )
    assert fate(trace, 1, int(first.tokens[1]), on=tiny_model).forced == -1


def test_the_html_form_says_the_same_and_escapes_the_text(tiny_model):
    html = fate_in_row(row_of(1), "<", s.TopK(2), model=tiny_model)._repr_html_()
    assert "&lt;" in html and "<'" not in html
    assert "TopK(2) removed it" in html


def test_a_part_of_a_trace_has_no_fates(tiny_model):
    with tiny_model.session(n_ctx=64) as session:
        trace = session.generate("Hello", s.Temperature(1.5), max_tokens=9, seed=1)
        with pytest.raises(ValueError, match="its draws have moved"):
            fate(trace[4:], 0, 5, on=session)


def test_what_was_kept_tells_what_it_can_where_nothing_can_be_decoded(smollm2):
    chain = s.Penalties(repeat=1.1) | s.TopK(20) | s.Temperature(0.8)
    with smollm2.session(n_ctx=256) as session:
        trace = session.generate("Once upon a time " * 9, chain, max_tokens=6, seed=3)
        for step in range(len(trace)):
            token = int(trace.top_ids[step, 40])
            whole = fate(trace, step, token, on=session)
            part = fate(trace, step, token, on=smollm2)
            assert part.source == "kept"
            assert part.remark() == whole.remark()
            assert part.removed_by.stage == s.TopK(20)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"row": row_of(1)[:200]}, r"has shape \(259,\), not \(200,\)"),
        ({"row": np.full(259, np.nan)}, "has a NaN"),
        ({"history": [259]}, "259"),
        ({"seed": -1}, "seed=-1: it must be from 0"),
        ({"step": 1 << 21}, "step=2097152: it must be from 0"),
    ],
)
def test_what_is_no_row_of_the_model_is_refused(tiny_model, wrong, said):
    with pytest.raises(ValueError, match=said):
        fate_in_row(**{"row": row_of(1), **wrong}, token=5, chain=s.TopK(9), model=tiny_model)


def test_what_infill_puts_back_is_not_called_removed(tiny_model):
    row = np.linspace(2.0, 0.0, tiny_model.n_vocab, dtype=np.float32)
    row[tiny.EOS] = 1.0
    chain = s.TopK(8) | s.Infill()
    view = chain.preview(row, model=tiny_model)
    assert view.choice == tiny.EOS and tiny.EOS not in view.stages[0].ids
    found = fate_in_row(row, tiny.EOS, chain, model=tiny_model)
    assert found.chosen and found.removed_by is None and found.margin is None
    assert "and it was drawn" in found.summary()
    lines = repr(found).splitlines()
    assert "TopK(8): removed" in lines[1] and "Infill()" in lines[2]


def test_draws_too_few_for_the_digits_shown_are_counted_instead(tiny_model):
    row = np.full(259, -60, np.float32)
    row[:2] = 20, 8

    def remark(token):
        return fate_in_row(row, token, Chain([]), model=tiny_model, seed=1).remark()

    assert remark(0).endswith(" fell into this token's share, 0.0000 to 1.0000.")
    # 1 + e^12
    assert remark(1).endswith("; this token's share is about one in 162,756, near 1.0000.")
    assert remark(2).endswith("; this token's share is next to nothing, near 1.0000.")
