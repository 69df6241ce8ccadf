"""What penalties, DRY and mirostat did is what their formulas say they do to this text."""

from __future__ import annotations

import math

import numpy as np
import pytest

from mullama_lab.engine import stages as s
from mullama_lab.engine.stages import Chain
from mullama_lab.engine.stages.penalties import repeated
from mullama_lab.studies.states import stage_states

TEXT = "abcabxabcabyab"


@pytest.fixture(scope="module")
def session(tiny_model):
    with tiny_model.session(n_ctx=256, n_threads=1) as session:
        yield session


def run(session, chain, prompt=TEXT, n=12):
    session.reset()
    return session.generate(prompt, s.Mask(ban=[2]) | chain, max_tokens=n, seed=4)


def test_each_penalty_is_what_the_formula_says(session):
    chain = s.Penalties(repeat=1.3, frequency=0.2, presence=0.5, last_n=10) | s.Temperature(1.5)
    trace = run(session, chain)
    states = stage_states(trace, on=session.model, top=259)
    assert len(states) == len(trace)
    for x in states:
        seen = trace.history(x.step)[-10:]
        row = dict(zip(*(a.tolist() for a in trace.kept(x.step))))
        assert {t.token for t in x.touched} == set(seen.tolist())
        assert x.n_touched == len(set(seen.tolist()))
        for t in x.touched:
            count, logit = int(np.count_nonzero(seen == t.token)), row[t.token]
            scaled = logit / 1.3 if logit > 0 else logit * 1.3
            assert t.count == count
            assert t.change == pytest.approx(scaled - logit - 0.2 * count - 0.5, abs=1e-4)
        assert 0 < x.moved < 1


def test_dry_names_the_earlier_ngram_that_a_token_would_repeat(session):
    chain = s.DRY(multiplier=0.8, base=2.0, allowed_length=1, last_n=-1, breakers=())
    trace = run(session, chain)
    first = stage_states(trace, on=session.model)[0]
    known = {t.text: t for t in first.touched}
    # ...abcabxabcabyab: after "ab" came c, x and y; "cab" and longer ends were not seen again.
    assert set(known) == {"c", "x", "y"}
    assert all(t.ngram == "ab" and t.n_repeated == 2 for t in first.touched)
    assert [known[c].ago for c in "yxc"] == [3, 9, 6]
    assert all(t.change == pytest.approx(-1.6, abs=1e-5) for t in first.touched)
    assert known["y"].why == "followed 'ab' 3 tokens ago (2 repeated)"


def test_the_repeat_that_dry_names_has_the_length_that_its_penalty_says(session):
    chain = s.DRY(multiplier=0.5, base=1.5, allowed_length=2, last_n=-1, breakers=("y",))
    trace = run(session, chain | s.TopK(4), prompt="xyzabcabcabcab")
    touched = [t for x in stage_states(trace, on=session.model) for t in x.touched]
    assert max(t.n_repeated for t in touched) > 3
    for t in touched:
        assert t.change == pytest.approx(-0.5 * 1.5 ** (t.n_repeated - 2), rel=1e-4)
        assert "y" not in t.ngram


@pytest.mark.parametrize("kind", [s.Mirostat, s.MirostatV2])
def test_mirostat_had_learnt_what_the_trace_recorded(kind, session):
    trace = run(session, Chain([kind(4.0, 0.3)]))
    states = stage_states(trace, on=session.model)
    for x in states:
        assert x.mu == pytest.approx(trace.state(x.step)[1][0], rel=1e-6)
        assert x.mu_after == pytest.approx(x.mu - 0.3 * (x.surprise - 4.0), abs=1e-4)
        assert x.n_kept == trace.n_kept_at(x.step)[1]
        bits = -trace.logprob_after[x.step] / math.log(2)
        assert x.surprise == pytest.approx(bits, abs=1e-4)
    assert "then mu" in repr(states)


def test_a_token_that_another_mirostat_removes_teaches_it_nothing(session):
    trace = run(session, Chain([s.Temperature(2.0)]))
    states = stage_states(trace, s.MirostatV2(0.1, 0.5), on=session.model)
    gone = [x for x in states if math.isnan(x.surprise)]
    assert gone
    assert all(x.mu_after == x.mu for x in gone)


def test_tables_have_a_row_a_step_and_a_row_a_touched_token(session):
    chain = s.Penalties(repeat=1.2) | s.Mirostat(5.0)
    trace = run(session, chain)
    states = stage_states(trace, on=session.model, top=3)
    table = states.to_pandas()
    assert len(table) == 2 * len(trace)
    assert table["mu"].notna().sum() == len(trace)
    assert len(states.touched()) <= 3 * len(trace)
    assert states._repr_html_().count("<tr>") == 2 * len(trace) + 1


def test_rows_that_do_not_decide_are_decoded_with_a_session(smollm2):
    with smollm2.session(n_ctx=128) as session:
        trace = session.generate("Once upon a time", s.Temperature(0.8), max_tokens=3, seed=2)
        with pytest.raises(ValueError, match=r"on=model\.session"):
            stage_states(trace, s.Mirostat(), on=smollm2)
        assert len(stage_states(trace, s.Mirostat(), on=session)) == len(trace)


def test_a_chain_without_such_stages_is_refused(session):
    trace = run(session, Chain([s.TopK(4)]))
    with pytest.raises(ValueError, match="has no Penalties, DRY"):
        stage_states(trace, on=session.model)
    with pytest.raises(ValueError, match="that does anything"):
        stage_states(trace, s.Penalties(), on=session.model)
    with pytest.raises(ValueError, match="no seed"):
        stage_states(session.score("Hello"), s.Mirostat(), on=session.model)


def test_the_longest_repeat_is_found_where_no_length_is_given():
    seen = np.array([1, 2, 3, 9, 2, 3, 7, 1, 2, 3], np.int32)
    assert repeated(seen, 9, None) == ((1, 2, 3), 7)
    assert repeated(seen, 9, 2) == ((2, 3), 7)
    assert repeated(seen, 7, None) == ((2, 3), 4)
    assert repeated(seen, 5, None) == ((), 0)
