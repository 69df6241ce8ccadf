"""A replay says where a rerun with another chain would first differ."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mullama_lab.engine import stages as s
from mullama_lab.engine.stages import Chain
from mullama_lab.engine.trace import Trace
from mullama_lab.errors import NoCandidates, StageFailed
from mullama_lab.studies.replay import NOISE, NOTHING, UNKNOWN, replay, stage_effects

PROMPT = "Hello"
N = 24


def number(*values):
    return st.sampled_from(values)


STAGES = st.one_of(
    st.builds(s.TopK, st.integers(1, 259)),
    st.builds(s.TopP, number(0.1, 0.5, 0.9, 0.99)),
    st.builds(s.MinP, number(0.02, 0.3, 0.9)),
    st.builds(s.Typical, number(0.3, 0.9)),
    st.builds(s.Temperature, number(0.0, 0.5, 0.95, 1.5)),
    st.builds(s.DynamicTemperature, number(0.8, 1.2), number(0.0, 0.5)),
    st.builds(s.TopNSigma, number(1.0, 2.0)),
    st.builds(s.XTC, number(0.5, 1.0), number(0.001, 0.01)),
    st.builds(s.Penalties, repeat=number(0.9, 1.3), frequency=number(0.0, 0.4)),
    st.builds(s.Penalties, presence=number(-0.3, 0.5), last_n=number(8, -1)),
    st.builds(s.DRY, multiplier=number(0.8), allowed_length=number(1, 2), breakers=st.just(())),
    st.builds(s.Mask, ban=st.lists(st.integers(0, 258), max_size=100)),
    st.builds(s.Ban, st.lists(number("a", "e", "th", "\n", "é"), max_size=4)),
    st.builds(s.TailFree, number(0.5, 0.95)),
    st.builds(s.Mirostat, number(3.0, 7.0), number(0.1, 0.6)),
    st.builds(s.MirostatV2, number(3.0, 7.0), number(0.1, 0.6)),
    st.builds(s.AdaptiveP, number(0.01, 0.2), number(0.5, 0.9)),
)
CHAINS = st.lists(STAGES, max_size=4).map(Chain)


@pytest.fixture(scope="module")
def session(tiny_model):
    with tiny_model.session(n_ctx=512, n_threads=1) as session:
        yield session


def run(session, chain, seed, n=N):
    """A generation that owes nothing to what the cache held; None in place of a failed one."""
    session.reset()
    try:
        return session.generate(PROMPT, chain, max_tokens=n, seed=seed)
    except NoCandidates:
        return session.last_trace


@settings(max_examples=80)
@given(first=CHAINS, other=CHAINS, seed=st.integers(0, 1000))
def test_replay_finds_the_step_where_a_real_rerun_first_differs(
    first, other, seed, session, parting
):
    trace = run(session, first, seed)
    if len(trace) == 0:
        return
    seen = replay(trace, other, on=session.model)
    again = run(session, other, seed)
    assert seen.first == parting(trace, again)
    if seen.first is not None and len(again) > seen.first:
        assert seen.choices[seen.first] == again.tokens[seen.first]


@pytest.mark.parametrize(
    "other",
    [
        s.TopK(40) | s.TopP(0.95) | s.MinP(0.05) | s.Temperature(0.85),
        s.TopK(40) | s.TopP(0.95) | s.MinP(0.05) | s.Temperature(1.4),
        s.Penalties(repeat=1.05) | s.TopK(40) | s.Temperature(0.8),
        s.TopP(0.8) | s.Temperature(0.8),
        s.MinP(0.1) | s.Temperature(0.8),
        Chain([s.Temperature(0.8)]),
        s.DRY(multiplier=0.8) | s.TopK(40) | s.Temperature(0.8),
    ],
    ids=repr,
)
def test_so_does_a_replay_of_what_a_large_vocabulary_kept(other, smollm2, parting):
    with smollm2.session(n_ctx=512) as session:
        trace = session.generate("Once upon a time", Chain.default(), max_tokens=40, seed=5)
        seen = replay(trace, other, on=smollm2, allow_unknown=True)
        assert set(seen.sources) <= {"kept", ""}
        assert len(trace.kept(0)[0]) < smollm2.n_vocab
        session.reset()
        again = session.generate("Once upon a time", other, max_tokens=40, seed=5)
        first, unknown = parting(trace, again), np.flatnonzero(~seen.known)
        if other == Chain([s.Temperature(0.8)]):  # may draw what was not kept, and says so then
            end = len(trace) if seen.first is None else seen.first
            assert seen.first_is_sure == (not len(unknown) or unknown[0] > end)
            assert first == seen.first or first in unknown
        else:
            assert seen.first_is_sure
            assert first == seen.first


def test_a_replay_of_the_same_chain_changes_nothing(session):
    chain = s.Penalties(repeat=1.2) | s.XTC(0.5, 0.003) | s.Mirostat(5.0)
    seen = replay(run(session, chain, 3), chain, on=session.model)
    assert seen.first is None
    assert seen.n_changed == 0
    assert not seen.off_policy.any()
    assert "none of 24 choices differs" in repr(seen)


def test_what_follows_the_first_difference_is_off_policy(session):
    seen = replay(run(session, Chain(), 3), s.TopK(3), on=session.model)
    table = seen.to_pandas()
    assert table["off_policy"].tolist() == [i > seen.first for i in range(N)]
    assert table["differs"].idxmax() == seen.first
    assert table["text"][0] == seen.text_of(seen.tokens[0])
    assert seen.n_compared == N


def test_a_chain_that_leaves_nothing_says_at_which_step(session):
    trace = run(session, s.Mask(ban=[2]) | s.Temperature(1.5), 4)
    token = int(trace.tokens[5])
    late = int(np.flatnonzero(trace.tokens == token)[0])
    chain = s.Custom(_only_after(token)) | s.Greedy()
    with pytest.raises(StageFailed, match="at step 0: .*boom"):
        replay(trace, Chain([s.Custom(_boom)]), on=session.model)
    seen = replay(trace, chain, on=session.model)
    assert set(np.flatnonzero(seen.choices == NOTHING)) == {late + 1}
    assert "no token is left after stage 0" in seen.problems[late + 1]
    assert "(nothing left)" in seen.to_pandas()["choice_text"].tolist()


def _only_after(token):
    def ban_all(logits, history):
        return np.full_like(logits, -np.inf) if history[-1] == token else logits

    return ban_all


def _boom(logits, history):
    raise RuntimeError("boom")


def test_rows_that_were_not_kept_are_decoded_again_with_a_session(session):
    chain = s.TopK(100) | s.Temperature(1.1)
    trace = run(session, chain, 8)
    bare = Trace.from_dict(trace.to_dict())
    other = s.Penalties(repeat=1.3) | s.Mirostat(4.0, 0.3)
    with pytest.raises(ValueError, match=r"24 steps \(0, 1, .*Pass a session .*on=model.session"):
        replay(bare, other, on=session.model)
    seen = replay(bare, other, on=session)
    assert seen.sources == ("decoded",) * N
    assert "24 rows decoded again" in repr(seen)
    kept = replay(trace, other, on=session)
    assert kept.sources == ("kept",) * N
    np.testing.assert_array_equal(seen.choices, kept.choices)


def test_a_choice_that_noise_alone_would_change_is_left_open_and_no_effect(tiny_model, session):
    chain, other = s.Mask(ban=[2]) | s.Temperature(3.0), s.Mask(ban=[2]) | s.Temperature(3.05)
    trace = run(session, chain, 1, n=120)
    bare = Trace.from_dict(trace.to_dict())
    with tiny_model.session(n_ctx=512, n_threads=1, kv_type="q8_0") as coarse:
        same, seen = (replay(bare, one, on=coarse) for one in (chain, other))
        effects = stage_effects(bare, on=coarse)
    noisy = np.flatnonzero(~same.known)
    assert 0 < len(noisy) < 60 and same.n_changed == 0 and not same.first_is_sure
    assert all(same.problems[step] == NOISE for step in noisy)
    assert f"none of {120 - len(noisy)} choices differs, {len(noisy)} not known" in repr(same)
    assert same.sources == ("decoded",) * 120
    assert seen.n_changed > 0 and not (seen.differs & ~same.known).any()
    assert [effect.n_compared for effect in effects] == [120 - len(noisy)] * 2
    exact = replay(trace, other, on=session)
    assert exact.known.all() and (seen.differs & exact.differs).any()


def test_only_what_is_not_decided_is_decoded_again(smollm2):
    with smollm2.session(n_ctx=512) as session:
        trace = session.generate("Once upon a time", s.Temperature(1.3), max_tokens=60, seed=5)
        part = replay(trace, s.TopP(0.9), on=smollm2, allow_unknown=True)
        unknown = part.choices == UNKNOWN
        assert 0 < unknown.sum() < 60
        whole = replay(trace, s.TopP(0.9), on=session)
        assert all(whole.problems[step] == NOISE for step in np.flatnonzero(~whole.known))
        assert [r == "decoded" for r in whole.sources] == unknown.tolist()
        np.testing.assert_array_equal(part.choices[~unknown], whole.choices[~unknown])


def test_the_given_steps_of_a_branch_are_not_compared(session):
    trace = run(session, s.Mask(ban=[2]) | s.TopK(200), 6)
    branch = session.branch(trace, 5, 70, max_tokens=8)
    seen = replay(branch, s.TopK(1), on=session.model)
    assert seen.given.tolist() == [True] * 6 + [False] * 8
    assert seen.n_compared == 8
    assert seen.first >= 6
    assert replay(branch, branch.chain, on=session.model).first is None


def test_what_was_not_drawn_or_is_a_part_is_refused(session, smollm2):
    with pytest.raises(ValueError, match="no seed"):
        replay(session.score("Hello you"), s.TopK(4), on=session)
    trace = run(session, s.Mask(ban=[2]) | s.Temperature(1.5), 9)
    with pytest.raises(ValueError, match="its draws have moved: give the whole trace"):
        replay(trace[5:], s.TopK(4), on=session)
    with pytest.raises(ValueError, match="another vocabulary"):
        replay(trace, s.TopK(4), on=smollm2)
    with pytest.raises(TypeError, match="give the Model that made the trace"):
        replay(trace, s.TopK(4), on="smollm2")
    with pytest.raises(TypeError, match="is not a Trace"):
        replay([1, 2], s.TopK(4), on=session)
    with pytest.raises(ValueError, match="no steps"):
        replay(Trace(seed=1), s.TopK(4), on=session)
    with pytest.raises(ValueError, match="vocabulary has 259 tokens"):
        replay(trace, s.Mask(ban=[9999]), on=session)
    with pytest.raises(TypeError, match="a Chain holds stages"):
        replay(trace, "TopK(4)", on=session)


def test_effects_count_the_choices_that_change_without_a_stage(session):
    chain = s.TopK(250) | s.MinP(0.0) | s.LogitBias({70: 0.5}) | s.Temperature(0.4)
    trace = run(session, s.Mask(ban=[2]) | chain, 12)
    effects = stage_effects(trace, chain, on=session.model)
    assert [x.stage for x in effects] == list(chain)
    assert str(effects[1]) == "changed 0 of 24 (p is 0: every token is kept)"
    without = replay(trace, Chain(chain.stages[:3]), on=session.model)
    whole = replay(trace, chain, on=session.model)
    assert effects[3].n_changed == np.count_nonzero(without.choices != whole.choices) > 0
    assert effects.to_pandas()["changed"].tolist() == [x.n_changed for x in effects]
    assert repr(effects).splitlines()[0].startswith("TopK(250): changed ")


def test_no_other_stage_decides_whether_xtc_acts(session):
    chain = s.TopK(259) | s.MinP(1e-6) | s.XTC(0.5, 0.003)
    trace = run(session, chain, 2)
    assert stage_effects(trace, on=session.model)[1].n_changed == 0
    assert stage_effects(trace, on=session.model)[2].n_changed > 0


def test_a_running_trace_is_replayed_as_far_as_it_is(session):
    run_ = session.start(PROMPT, s.Mask(ban=[2]), max_tokens=400, seed=1)
    while len(run_.trace) < 5:
        pass
    seen = replay(run_.trace, s.Mask(ban=[2]) | s.TopK(2), on=session.model)
    run_.stop()
    run_.wait()
    assert 5 <= len(seen) <= 400


def test_a_text_form_is_the_same_each_time(session):
    trace = run(session, Chain(), 3)
    assert repr(replay(trace, s.TopK(3), on=session.model)) == repr(
        replay(trace, s.TopK(3), on=session)
    )
    assert math.isfinite(replay(trace, s.TopK(3), on=session.model).n_changed)


def test_an_xtc_that_never_acts_draws_nothing(session):
    acts = s.TopK(259) | s.XTC(0.5, 0.003)
    with_idle = s.XTC(0.0, 0.0) | acts
    trace = run(session, acts, 2)
    assert replay(trace, with_idle, on=session.model).n_changed == 0
    assert run(session, with_idle, 2).tokens.tolist() == trace.tokens.tolist()
