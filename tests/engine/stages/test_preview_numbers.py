"""The numbers of a preview: its draws, and what plain arithmetic says of each stage."""

from __future__ import annotations

import math
import threading

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mullama_lab.engine.stages import (
    DRY,
    XTC,
    AdaptiveP,
    Chain,
    Custom,
    DynamicTemperature,
    LogitBias,
    Mask,
    MinP,
    Mirostat,
    Penalties,
    Temperature,
    TopK,
    TopNSigma,
    TopP,
    Typical,
)
from mullama_lab.engine.stages.randomness import uniform
from mullama_lab.errors import NoCandidates

N_VOCAB = 259


def test_the_uniform_of_seed_and_step_is_the_draw_that_decides(tiny_model):
    flat = np.zeros(N_VOCAB, np.float32)
    for seed in (0, 1, 2**32 - 2):
        for step in (0, 1, 2, 50):
            view = Chain().preview(flat, model=tiny_model, seed=seed, step=step)
            assert view.draw == uniform(seed, step)
            # The first token at which the running sum of 1/259 reaches the draw.
            assert view.choice == math.ceil(view.draw * N_VOCAB) - 1


def test_two_chains_share_their_draws_step_by_step(tiny_model):
    flat = np.zeros(N_VOCAB, np.float32)
    for step in range(20):
        one = Chain().preview(flat, model=tiny_model, seed=9, step=step)
        other = (Mask(ban=[0]) | TopP(0.5)).preview(flat, model=tiny_model, seed=9, step=step)
        assert one.draw == other.draw


def test_whether_xtc_acts_depends_on_seed_and_step_alone(tiny_model):
    row = np.linspace(0, 8, N_VOCAB, dtype=np.float32)

    def acts(seed, step, probability=0.5):
        view = Chain([XTC(probability, 0.01)]).preview(row, model=tiny_model, seed=seed, step=step)
        return view.stages[0].changed

    pattern = [acts(3, step) for step in range(100)]
    assert [acts(3, step) for step in reversed(range(100))] == pattern[::-1]
    assert 30 < sum(pattern) < 70
    assert [acts(4, step) for step in range(100)] != pattern
    always = [acts(3, step, 0.8) for step in range(100)]
    assert all(more or not less for more, less in zip(always, pattern))  # common random numbers


# A slow and plain oracle.


def plainly(stage, logits):
    """The same stage in float64, one candidate after the other; None removes one."""
    alive = [i for i, x in enumerate(logits) if x is not None]
    weights = {i: math.exp(logits[i] - max(logits[j] for j in alive)) for i in alive}
    total = math.fsum(weights.values())
    ranked = sorted(alive, key=lambda i: -logits[i])
    match stage:
        case Temperature():
            return [x if x is None else x / stage.t for x in logits]
        case TopK():
            kept = ranked[: stage.k]
        case MinP():
            kept = [i for i in ranked if weights[i] >= stage.p * weights[ranked[0]]]
        case TopP():
            kept, mass = [], 0.0
            while mass < stage.p:
                kept.append(ranked[len(kept)])
                mass += weights[kept[-1]] / total
    return [x if i in kept else None for i, x in enumerate(logits)]


def shares(logits):
    total = math.fsum(math.exp(x) for x in logits if x is not None)
    return {i: math.exp(x) / total for i, x in enumerate(logits) if x is not None}


PLAIN_STAGES = st.one_of(
    st.builds(TopK, st.integers(1, 300)),
    st.builds(MinP, st.sampled_from([0.013, 0.11, 0.37, 0.83])),
    st.builds(TopP, st.sampled_from([0.1234, 0.3456, 0.7891, 0.9567])),
    st.builds(Temperature, st.sampled_from([0.31, 0.77, 1.0, 1.9])),
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(chain=st.lists(PLAIN_STAGES, min_size=1, max_size=4), number=st.integers(0, 1000))
def test_probabilities_entropy_and_removed_mass_are_those_of_plain_arithmetic(
    chain, number, tiny_model
):
    row = np.random.default_rng(number).permutation(np.linspace(-4, 4, N_VOCAB)).astype(np.float32)
    view = Chain(chain).preview(row, model=tiny_model, top=N_VOCAB)
    logits = [float(x) for x in row]
    before = shares(logits)
    assert_view(view.before, logits)
    for stage, seen in zip(chain, view.stages):
        after = plainly(stage, logits)
        assert_view(seen, after)
        removed = math.fsum(p for i, p in before.items() if after[i] is None)
        assert seen.removed_mass == pytest.approx(removed, abs=1e-4)
        assert seen.changed is (after != logits)
        logits, before = after, shares(after)


def assert_view(seen, logits):
    expected = shares(logits)
    assert seen.n_kept == len(expected)
    assert seen.ids.tolist() == sorted(expected, key=lambda i: -logits[i])
    np.testing.assert_allclose(seen.probs, [expected[i] for i in seen.ids.tolist()], atol=1e-5)
    entropy = -math.fsum(p * math.log(p) for p in expected.values() if p > 0)
    assert seen.entropy == pytest.approx(entropy, abs=1e-4)


def test_two_of_three_likely_tokens_by_hand(tiny_model):
    row = np.full(N_VOCAB, -math.inf)
    row[[5, 6, 7]] = np.log([0.5, 0.3, 0.2])
    view = (TopK(2) | Temperature(0.5)).preview(row, model=tiny_model)
    assert view.before.n_kept == 3
    assert view.stages[0].ids.tolist() == view.final.ids.tolist() == [5, 6]
    assert view.stages[0].removed_mass == pytest.approx(0.2)
    assert view.stages[0].probs == pytest.approx([5 / 8, 3 / 8])
    assert view.final.probs == pytest.approx([25 / 34, 9 / 34])
    assert view.final.removed_mass == 0
    assert [stage.name for stage in view.stages] == ["TopK(2)", "Temperature(0.5)"]
    assert Chain().preview(row, model=tiny_model).final.entropy == pytest.approx(
        -(0.5 * math.log(0.5) + 0.3 * math.log(0.3) + 0.2 * math.log(0.2))
    )


@pytest.mark.parametrize("best", [2.0, -2.0, 20.0])
@pytest.mark.parametrize("exponent", [1, 4, 100])
def test_a_dynamic_temperature_near_zero_is_greedy(exponent, best, tiny_model):
    row = np.full(N_VOCAB, best - 30, np.float32)
    row[[5, 6]] = best, best - 15  # all but sure, so the temperature comes to 1e-7 and less
    chain = DynamicTemperature(0.8, 0.8, exponent) | TopK(40) | MinP(0.05)
    view = chain.preview(row, model=tiny_model)
    assert view.choice == 5
    assert view.stages[0].probs[0] == pytest.approx(1)
    assert view.final.ids.tolist() == [5]


@pytest.mark.parametrize("n_banned", [1, 100, N_VOCAB - 1])
def test_a_mask_is_llama_cpps_logit_bias_of_minus_infinity(n_banned, tiny_model):
    rng = np.random.default_rng(n_banned)
    row = rng.standard_normal(N_VOCAB).astype(np.float32)
    banned = rng.permutation(N_VOCAB)[:n_banned].tolist()
    allowed = sorted(set(range(N_VOCAB)) - set(banned))
    ways = Mask(ban=banned), Mask(allow=allowed), LogitBias(dict.fromkeys(banned, -math.inf))
    views = [(way | MinP(0.1)).preview(row, model=tiny_model, seed=5) for way in ways]
    for view in views[:2]:
        assert view.choice == views[2].choice
        for ours, theirs in zip(view.stages, views[2].stages):
            assert ours.ids.tolist() == theirs.ids.tolist()
            assert ours.probs.tolist() == theirs.probs.tolist()
            assert ours.n_kept == theirs.n_kept
        assert view.stages[0].n_kept == N_VOCAB - n_banned


def test_stages_after_one_that_reorders_see_the_best_first(tiny_model):
    # llama.cpp leaves the candidates marked as sorted after these two, though they are not.
    row = np.arange(N_VOCAB, dtype=np.float32) / 10
    ban_best = TopK(3) | LogitBias({258: -math.inf}) | TopK(1)
    assert ban_best.preview(row, model=tiny_model).final.ids.tolist() == [257]
    far = (TopK(20) | AdaptiveP(0.0, 0.0) | TopK(1)).preview(row, model=tiny_model)
    assert far.final.ids.tolist() == [239]  # the least likely is nearest to probability 0


@pytest.mark.parametrize("cut", [Mask(ban=range(3, 250)), TopNSigma(2.0), LogitBias({0: -1000})])
@pytest.mark.parametrize("stage", [Typical(0.5), Mirostat(3.0, 0.1)], ids=repr)
def test_candidates_without_probability_do_not_disturb_typical_and_mirostat(cut, stage, tiny_model):
    row = np.random.default_rng(0).standard_normal(N_VOCAB).astype(np.float32) * 2
    masked = Chain([cut]).preview(row, model=tiny_model, top=N_VOCAB).final
    alone = np.full(N_VOCAB, -math.inf, np.float32)
    likely = masked.probs > 1e-30
    alone[masked.ids[likely]] = masked.logits[likely]
    with_cut = (cut | stage).preview(row, model=tiny_model, top=N_VOCAB).final
    expected = Chain([Custom(lambda logits, _: alone), stage]).preview(
        row, model=tiny_model, top=N_VOCAB
    )
    assert 1 < with_cut.n_kept < masked.n_kept
    assert with_cut.ids.tolist() == expected.final.ids.tolist()


def test_a_row_that_changed_in_place_and_another_top_are_looked_at_anew(tiny_model):
    row = np.linspace(0, 8, N_VOCAB, dtype=np.float32)
    chain = TopK(3) | Temperature(0.5)
    first = chain.preview(row, model=tiny_model, top=4)
    assert first.before.ids.tolist() == [258, 257, 256, 255]
    assert len(chain.preview(row, model=tiny_model, top=9).before.ids) == 9
    row[7] = 9
    changed = chain.preview(row, model=tiny_model, top=4)
    assert changed.before.ids.tolist() == [7, 258, 257, 256]
    assert changed.final.ids.tolist() == [7, 258, 257]
    again = chain.preview(np.linspace(0, 8, N_VOCAB), model=tiny_model, top=4)
    assert again.final.probs.tolist() == first.final.probs.tolist()
    assert (again.before.entropy, again.choice) == (first.before.entropy, first.choice)


def test_a_view_cannot_be_written_to_by_who_reads_it(tiny_model):
    view = Chain([TopK(3)]).preview(np.zeros(N_VOCAB, np.float32), model=tiny_model).before
    for array in (view.ids, view.probs, view.logits):
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 1


def test_previews_on_other_threads_do_not_disturb_a_generation(tiny_model):
    chain = Penalties(repeat=1.2) | DRY(multiplier=0.5) | Mirostat(4.0, 0.1)
    row = np.random.default_rng(1).standard_normal(N_VOCAB).astype(np.float32)

    def preview():
        return chain.preview(row, model=tiny_model, history=[5, 6, 5, 6], seed=3, step=7)

    with tiny_model.session(n_ctx=512, n_threads=1) as session:
        alone = session.generate("abcabc", chain, max_tokens=150, seed=3)
        quiet = preview()
        stop, seen, failed = threading.Event(), [], []

        def look():
            try:
                while not stop.is_set():
                    seen.append(preview())
            except BaseException as error:
                failed.append(error)

        threads = [threading.Thread(target=look) for _ in range(3)]
        for thread in threads:
            thread.start()
        watched = session.generate("abcabc", chain, max_tokens=150, seed=3)
        stop.set()
        for thread in threads:
            thread.join()
    assert not failed
    assert len(seen) > 3
    assert watched.tokens.tolist() == alone.tokens.tolist()
    assert {view.choice for view in seen} == {quiet.choice}
    assert {tuple(view.final.probs) for view in seen} == {tuple(quiet.final.probs)}


def test_what_a_large_mask_leaves_is_said_without_all_of_its_tokens(tiny_model):
    chain = Mask(ban=range(N_VOCAB)) | LogitBias(dict.fromkeys(range(N_VOCAB), 1.0))
    with pytest.raises(NoCandidates) as raised:
        chain.preview(FLAT, model=tiny_model)
    assert "no token is left after stage 0, Mask(ban=(0, 1, 2, " in str(raised.value)
    assert len(str(raised.value)) < 400


# What is no row, no history, no step.

FLAT = np.zeros(N_VOCAB, np.float32)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"row": FLAT[:-1]}, ValueError, r"shape \(259,\), not \(258,\)"),
        ({"row": FLAT[None]}, ValueError, r"not \(1, 259\)"),
        ({"row": None}, ValueError, "session.logits"),
        ({"row": "abc"}, TypeError, "an array of 259 numbers, not str"),
        ({"row": [[1], [2, 3]]}, TypeError, "an array of 259 numbers, not list"),
        ({"row": FLAT * math.nan}, ValueError, "has a NaN"),
        ({"row": np.r_[FLAT[:-1], math.nan]}, ValueError, "has a NaN"),
        ({"row": FLAT - math.inf}, ValueError, "nothing but -inf"),
        ({"row": np.r_[FLAT[:-1], math.inf]}, ValueError, "a best logit beyond 1e[+]08"),
        ({"row": [0.0] * 258 + [1e300]}, ValueError, "a best logit beyond 1e[+]08"),
        ({"history": [259]}, ValueError, "token 259 is outside the vocabulary"),
        ({"history": [-1]}, ValueError, "token -1 is outside"),
        ({"history": ["a"]}, TypeError, "must be a whole number, not 'a'"),
        ({"history": "abc"}, TypeError, "history is token ids in order, .* not str"),
        ({"history": None}, TypeError, "history is token ids in order, .* not NoneType"),
        ({"seed": -1}, ValueError, "seed=-1: it must be from 0 to 4294967294"),
        ({"seed": 2**32 - 1}, ValueError, "seed=4294967295"),
        ({"seed": None}, TypeError, "seed=None: it must be a whole number"),
        ({"step": -1}, ValueError, "step=-1"),
        ({"step": 10**12}, ValueError, "step=1000000000000: it must be from 0 to"),
        ({"step": 1.5}, TypeError, "step=1.5"),
        ({"top": 0}, ValueError, "top=0"),
        ({"top": "all"}, TypeError, "top='all'"),
        ({"state": [(math.nan,)]}, ValueError, "was given the state"),
        ({"state": [(1.0, 2.0)]}, ValueError, "was given the state"),
        ({"chain": [LogitBias({259: 1})]}, ValueError, "LogitBias names token 259, but this"),
        ({"chain": [Mask(ban=[5000])]}, ValueError, r"Mask names token 5000.*0 to 258"),
    ],
    ids=lambda x: str(x)[:40],
)
def test_what_cannot_be_previewed_says_so(change, error, message, tiny_model):
    arguments = {"row": FLAT, "model": tiny_model} | change
    chain = Chain(arguments.pop("chain", [Mirostat()]))
    with pytest.raises(error, match=message):
        chain.preview(arguments.pop("row"), **arguments)
