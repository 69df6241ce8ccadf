"""The effect of what acts on the weights, against rows that llama.cpp gives one by one."""

from __future__ import annotations

import numpy as np
import pytest

import mullama_lab as ml
from mullama_lab.engine import tiny
from mullama_lab.engine.noise_floor import NoiseFloor, known_floor, log_softmax, remember
from mullama_lab.errors import ContextFull
from mullama_lab.studies._given_text import N_ALONE
from mullama_lab.studies.effect import (
    effect,
    effect_in,
    staleness,
    staleness_in,
    steered,
    strengths,
)
from mullama_lab.studies.effect.by_strength import BREAKS

TEXT = list(range(20, 32))


@pytest.fixture(scope="module")
def session(tmp_path_factory):
    path = tiny.write(tmp_path_factory.mktemp("effect") / "tiny.gguf")
    with ml.Model.load(path) as model, model.session(n_ctx=128, n_threads=1) as session:
        yield session


@pytest.fixture(scope="module")
def vector():
    return ml.ControlVector({1: np.random.default_rng(0).normal(size=32)}, name="some")


@pytest.fixture(scope="module")
def adapter(tmp_path_factory):
    rng = np.random.default_rng(1)
    pair = [rng.normal(size=size).astype(np.float32) for size in ((2, 32), (64, 2))]
    path = tiny.write_adapter(
        tmp_path_factory.mktemp("adapter") / "a.gguf", {"blk.0.attn_q.weight": pair}
    )
    return ml.LoraAdapter.load(path)


def one_by_one(session, control):
    """The log-probabilities before each token of the text but the first."""
    session.control = control
    try:
        return [log_softmax(session.logits(TEXT[:n])) for n in range(1, len(TEXT))]
    finally:
        session.control = None


def test_it_is_what_the_rows_of_both_say(session, vector):
    plain, changed = (one_by_one(session, one) for one in (None, vector))
    seen = effect(session, TEXT, ml.Setting(control=vector))
    assert seen.tokens.tolist() == TEXT[1:] and len(seen) == len(TEXT) - 1
    kl = [float((np.exp(p) * (p - q)).sum()) for p, q in zip(plain, changed)]
    np.testing.assert_allclose(seen.kl, kl, rtol=0.02, atol=1e-3)
    assert seen.kl.min() > 0.01
    for logprobs, rows in ((seen.base_logprob, plain), (seen.logprob, changed)):
        expected = [row[token] for row, token in zip(rows, TEXT[1:])]
        np.testing.assert_allclose(logprobs, expected, atol=0.05)
    assert seen.gain == pytest.approx(float(seen.logprob.sum() - seen.base_logprob.sum()))
    sure = [place for place, rows in enumerate(zip(plain, changed)) if all(map(clear, rows))]
    assert sure
    for place in sure:
        assert seen.base_best[place] == plain[place].argmax()
        assert seen.best[place] == changed[place].argmax()


def clear(row):
    """Whether noise does not decide the likeliest token."""
    second, first = np.sort(row)[-2:]
    return first - second > 0.1


def test_the_same_has_no_effect(session, vector, adapter):
    for same in (ml.Setting(), ml.Setting(control=0 * vector), ml.Setting(adapters={adapter: 0})):
        seen = effect(session, TEXT, same)
        assert seen.kl.max() < 1e-6 and not seen.flips.any() and abs(seen.gain) < 1e-6
    both = ml.Setting(None, {adapter: 0.5}, vector)
    assert effect(session, TEXT, both, both).kl.max() < 1e-6


def test_by_default_it_is_that_of_what_is_in_force(session, vector, adapter):
    try:
        session.adapters, session.control = {adapter: 0.7}, vector
        seen = effect(session, TEXT)
        assert seen.changed == ml.Setting(None, {adapter: 0.7}, vector)
        assert session.adapters == {adapter: 0.7} and session.control == vector
    finally:
        session.adapters, session.control = {}, None
    wanted = effect(session, TEXT, ml.Setting(None, {adapter: 0.7}, vector))
    np.testing.assert_allclose(seen.kl, wanted.kl, atol=1e-6)


def test_what_comes_before_is_not_looked_at(session, vector):
    whole = effect(session, TEXT, ml.Setting(control=vector))
    part = effect(session, TEXT[5:], ml.Setting(control=vector), given=TEXT[:5])
    assert part.tokens.tolist() == TEXT[5:]
    np.testing.assert_allclose(part.kl, whole.kl[4:], rtol=0.05, atol=1e-3)


def test_a_stale_prompt_is_measured(session, adapter):
    """A run in whose midst the weights change says the same of the tokens after it."""
    chain = ml.Mask(ban=[tiny.EOS]) | ml.Greedy()
    base, changed = ml.Setting(chain), ml.Setting(chain, {adapter: 3.0})
    trace = session.generate(TEXT, {0: base, 6: changed}, max_tokens=12)
    assert len(trace) == 12 and trace.stale.tolist() == [False] * 6 + [True] * 6
    prompt, tokens = [*TEXT, *trace.tokens[:6].tolist()], trace.tokens[6:].tolist()
    gap = staleness(session, tokens, changed, base, given=prompt)
    np.testing.assert_allclose(gap.logprob, trace.logprob[6:], atol=0.05)
    exact = effect(session, tokens, changed, base, given=prompt)
    np.testing.assert_allclose(gap.base_logprob, exact.logprob, atol=1e-6)
    assert gap.kl.max() > 1e-3
    assert staleness(session, tokens, changed, changed, given=prompt).kl.max() < 1e-3


def test_the_noise_is_that_of_the_model_or_of_the_text(session, vector):
    known = known_floor(session.model)
    remember(session.model, None)
    try:
        seen = effect(session, TEXT, ml.Setting(control=vector))
        batch = session.score(TEXT[1:], given=TEXT[:1])
        for place, row in enumerate(one_by_one(session, None)[-N_ALONE:], len(batch) - N_ALONE):
            apart = np.abs(row[batch.top_ids[place]] - batch.top_logprobs[place]).max()
            assert 0 < apart <= seen.floor.logprob < 0.1
        assert f"(noise up to {seen.floor.kl:.2g})" in repr(seen)
        assert known_floor(session.model) is None, "one text does not speak for the model"
        single = effect(session, TEXT[-1:], ml.Setting(control=vector), given=TEXT[:-1])
        assert single.floor is None and "noise" not in repr(single)
        floor = NoiseFloor(logit=0.1, logprob=0.1, kl=1e-3, js=0.1)
        remember(session.model, floor)
        assert effect(session, TEXT, ml.Setting(control=vector)).floor is floor
    finally:
        remember(session.model, known)


def test_an_effect_is_one_batch_for_each_of_what_is_compared(session, vector, monkeypatch):
    """Teacher-forced; a known noise is not measured again."""
    floor = NoiseFloor(logit=0.1, logprob=0.1, kl=1e-3, js=0.1)
    monkeypatch.setattr("mullama_lab.studies._given_text.known_floor", lambda model: floor)

    def spent(work):
        session.reset()
        before = session.ledger
        work()
        ledger = session.ledger - before
        return ledger.batches, ledger.decoded

    steered_ones = ml.Setting(control=vector), ml.Setting(control=-vector)
    n = len(TEXT) - 1
    assert spent(lambda: effect(session, TEXT, steered_ones[0])) == (2, 2 * n)
    assert spent(lambda: effect(session, TEXT, *steered_ones)) == (2, 2 * n)
    assert spent(lambda: strengths(session, TEXT, vector, (-1, 0.5, 2))) == (4, 4 * n)
    trace = generated(session, {0: {"control": vector}})
    n = len(TEXT) + len(trace) - 1
    assert spent(lambda: effect_in(trace, on=session)) == (4, 2 * n), "the prompt in its own"


def generated(session, by_step, n=12):
    chain = ml.Mask(ban=[tiny.EOS]) | ml.Greedy()
    settings = {step: ml.Setting(chain, **what) for step, what in by_step.items()}
    return session.generate(TEXT, settings, max_tokens=n)


def test_the_effect_in_a_text_is_that_of_what_was_in_force_at_each_step(session, vector, adapter):
    both = {"adapters": {adapter: 0.7}, "control": vector}
    trace = generated(session, {0: {}, 4: {"control": vector}, 8: both})
    seen = effect_in(trace, on=session)
    assert seen.tokens.tolist() == trace.tokens.tolist() and seen.changed == trace.setting_at(11)
    assert not seen.kl[:4].any(), "the model as it is"
    for start, stop in ((4, 8), (8, 12)):
        tokens, given = trace.tokens[start:stop].tolist(), trace.history(start).tolist()
        part = effect(session, tokens, trace.setting_at(start), given=given)
        np.testing.assert_allclose(seen.kl[start:stop], part.kl, rtol=0.02, atol=1e-4)
        np.testing.assert_allclose(seen.logprob[start:stop], part.logprob, atol=0.01)
        np.testing.assert_allclose(seen.base_logprob[start:stop], part.base_logprob, atol=0.01)
    assert seen.kl[4:].min() > 1e-3 and session.steering.epoch == ""


def test_the_staleness_in_a_text_is_measured(session, adapter):
    trace = generated(session, {0: {}, 6: {"adapters": {adapter: 3.0}}})
    seen = staleness_in(trace, on=session)
    tokens, given = trace.tokens[6:].tolist(), trace.history(6).tolist()
    shown = staleness(session, tokens, trace.setting_at(6), given=given)
    assert seen.tokens.tolist() == tokens and seen.most == seen.kl.max() > 1e-3
    np.testing.assert_allclose(seen.kl, shown.kl, rtol=0.05, atol=1e-4)
    np.testing.assert_allclose(seen.logprob, trace.logprob[6:])
    np.testing.assert_allclose(seen.base_logprob, shown.base_logprob, atol=0.01)
    assert 0 < seen.floor.kl < seen.most


def test_it_is_measured_however_often_the_weights_were_changed(session, adapter):
    levels = {0: {}, 3: {"adapters": {adapter: 3.0}}, 7: {"adapters": {adapter: -3.0}}}
    trace = generated(session, levels)
    seen = staleness_in(trace, on=session)
    assert len(seen) == 9 and seen.base == trace.setting_at(11)
    for start, stop in ((3, 7), (7, 12)):
        tokens, given = trace.tokens[start:stop].tolist(), trace.history(start).tolist()
        exact = effect(session, tokens, trace.setting_at(start), given=given)
        part = seen.base_logprob[start - 3 : stop - 3]
        np.testing.assert_allclose(part, exact.logprob, atol=0.01)
    assert seen.most > 1e-3


def test_a_text_that_is_not_stale_has_no_staleness(session, adapter):
    with pytest.raises(ValueError, match="no step of the trace is stale"):
        staleness_in(generated(session, {0: {"adapters": {adapter: 1.0}}}), on=session)


def test_a_table_has_a_row_a_token(session, vector):
    seen = effect(session, TEXT, ml.Setting(control=vector))
    table = seen.to_pandas()
    assert table.index.name == "step" and table["kl"].tolist() == seen.kl.tolist()
    assert table["flips"].tolist() == (table["best"] != table["base_best"]).tolist()
    most = int(seen.kl.argmax())
    assert f"most at step {most} " in repr(seen)


def test_stronger_is_further(session, vector, adapter):
    for lever in (vector, adapter):
        found = strengths(session, TEXT, lever, [0, 0.1, 0.5, 1], progress=False)
        means = found.kl.mean(axis=1)
        assert found.kl.shape == (4, len(TEXT) - 1) and means[0] < 1e-6
        assert means[1] < means[2] < means[3]
        assert len(found.to_pandas()) == found.kl.size
    one = effect(session, TEXT, ml.Setting(control=0.5 * vector))
    again = strengths(session, TEXT, vector, [0.5]).effects[0]
    np.testing.assert_allclose(again.kl, one.kl, atol=1e-6)


def test_a_lever_comes_to_what_is_in_force(session, vector, adapter):
    try:
        session.adapters = {adapter: 1.0}
        found = strengths(session, TEXT, vector, [1.0])
    finally:
        session.adapters = {}
    with_it = ml.Setting(None, {adapter: 1.0})
    wanted = effect(session, TEXT, ml.Setting(None, {adapter: 1.0}, vector), with_it)
    np.testing.assert_allclose(found.kl[0], wanted.kl, atol=1e-6)


def test_texts_break_where_the_lever_is_too_strong(session, vector):
    found = steered(session, TEXT, vector, [0, 0.01, 30], chain=ml.Greedy(), max_tokens=12)
    assert found.traces[0].tokens.tolist() == found.plain.tokens.tolist()
    assert found.perplexity[0] == pytest.approx(found.plain_perplexity, rel=1e-3)
    session.score(found.traces[2].tokens.tolist(), given=TEXT)
    expected = np.exp(-session.last_trace.logprob.mean())
    assert found.perplexity[2] == pytest.approx(expected, rel=0.05)
    assert found.breaks.tolist() == (found.perplexity > BREAKS * found.plain_perplexity).tolist()
    assert found.breaks[2] and not found.breaks[:2].any()
    assert found.to_pandas()["text"].tolist() == [trace.text for trace in found.traces]
    assert found.traces[2].setting.control == 30 * vector


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda s, v: effect(s, TEXT[:1]), ValueError, "no token to look at"),
        (lambda s, v: effect(s, TEXT * 20), ContextFull, "context"),
        (lambda s, v: effect(s, TEXT, v), TypeError, "Setting"),
        (lambda s, v: strengths(s, TEXT, v, []), ValueError, "at least one strength"),
        (lambda s, v: strengths(s, TEXT, v, [float("nan")]), ValueError, "finite"),
        (lambda s, v: strengths(s, TEXT, v, [1, None]), ValueError, "each must be a number"),
        (lambda s, v: strengths(s, TEXT, "happy", [1]), TypeError, "lever"),
        (lambda s, v: staleness(s, TEXT, v, given=TEXT), TypeError, "Setting"),
        (lambda s, v: steered(s, TEXT, v, [1], seed=-1), ValueError, "seed"),
        (lambda s, v: effect_in(s.empty_trace(TEXT), on=s), ValueError, "no steps"),
        (lambda s, v: staleness_in(s.empty_trace(TEXT), on=s), ValueError, "no steps"),
        (lambda s, v: effect_in(TEXT, on=s), TypeError, "Trace"),
        (lambda s, v: staleness_in(s.score(TEXT), on=s.model), TypeError, "Session"),
        (
            lambda s, v: effect(s, TEXT, ml.Setting(control=ml.ControlVector({1: [1.0]}))),
            ValueError,
            "does not fit",
        ),
    ],
)
def test_bad_input_is_refused(session, vector, call, error, words):
    with pytest.raises(error, match=words):
        call(session, vector)
    assert session.generate(TEXT, max_tokens=2, seed=0).finish_reason
