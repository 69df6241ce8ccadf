"""A grid of strengths of two levers, against rows that llama.cpp gives one by one."""

from __future__ import annotations

import numpy as np
import pytest

import mullama_lab as ml
from mullama_lab.engine.noise_floor import divergence, log_softmax
from mullama_lab.errors import ContextFull
from mullama_lab.studies.blend import blend

PROMPT, TARGET = list(range(20, 32)), [40, 41, 42]


@pytest.fixture
def session(tiny_model):
    with tiny_model.session(n_ctx=128, n_threads=1) as session:
        yield session


def vector(seed, name):
    return ml.ControlVector({1: np.random.default_rng(seed).normal(size=32)}, name=name)


HAPPY, SAD = vector(1, "happy"), vector(2, "sad")


def directly(model, tokens, adapters, control):
    """The log-probabilities after some tokens, in a session of its own."""
    with model.session(n_ctx=128, n_threads=1) as fresh:
        fresh.adapters, fresh.control = adapters, control
        return log_softmax(fresh.logits(tokens))


def test_a_cell_is_what_rows_say_that_are_computed_under_its_setting(session, tiny_model, adapter):
    found = blend(session, PROMPT, {adapter: [0, 1.5, -1], HAPPY: [0.5, 0]}, target=TARGET)
    assert found.kl.shape == found.logprob.shape == (2, 3) and len(found) == 6
    base = directly(tiny_model, PROMPT, {}, None)
    for row, y in enumerate(found.y):
        for column, x in enumerate(found.x):
            weights = {adapter: x}, y * HAPPY
            there = directly(tiny_model, PROMPT, *weights)
            kl = pytest.approx(divergence(base, there), rel=0.02, abs=1e-4)
            assert found.kl[row, column] == kl
            logprob = sum(
                directly(tiny_model, PROMPT + TARGET[:n], *weights)[token]
                for n, token in enumerate(TARGET)
            )
            assert found.logprob[row, column] == pytest.approx(logprob, abs=0.05)
    assert found.kl[1, 0] < 1e-6 < 1e-3 < found.kl[0, 1]
    assert found.logprob[1, 0] == pytest.approx(found.base_logprob)


def test_two_vectors_add_up_and_so_does_that_of_the_base(session, adapter):
    base = ml.Setting(None, {adapter: 1.0}, SAD)
    found = blend(session, PROMPT, {HAPPY: [2], SAD: [0.5]}, base=base)
    other = blend(session, PROMPT, {2 * HAPPY + 0.5 * SAD: [1], adapter: [1]}, base=base)
    np.testing.assert_allclose(found.kl, other.kl, rtol=1e-3)
    assert found.logprob is None and found.likeliest is None and found.base == base


def test_what_is_in_force_plays_no_part_and_stays(session, adapter):
    grid = {HAPPY: [0, 1], SAD: [0, 1]}
    plain = blend(session, PROMPT, grid)
    session.adapters, session.control = {adapter: 2.0}, SAD
    np.testing.assert_allclose(blend(session, PROMPT, grid).kl, plain.kl, atol=1e-6)
    assert session.adapters == {adapter: 2.0} and session.control == SAD


def test_its_table_has_a_row_a_cell(session):
    found = blend(session, PROMPT, {HAPPY: [0, 1, 2], SAD: [-1, 1]}, target=TARGET)
    table = found.to_pandas()
    grid = table.pivot(index="y", columns="x")
    assert np.array_equal(grid["kl"].to_numpy(), found.kl)
    best = table.loc[table["logprob"].idxmax()]
    assert found.likeliest == (best["x"], best["y"])
    assert repr(found).startswith("<Blend of happy and sad, 6 cells: KL up to ")


@pytest.mark.parametrize(
    ("levers", "more", "error", "words"),
    [
        ({HAPPY: [1]}, {}, ValueError, "give two"),
        ([HAPPY, SAD], {}, TypeError, "levers="),
        ({HAPPY: [1], SAD: []}, {}, ValueError, "at least one strength"),
        ({HAPPY: [1], SAD: [float("nan")]}, {}, ValueError, "finite"),
        ({HAPPY: [1], "sad": [1]}, {}, TypeError, "neither a LoraAdapter"),
        ({HAPPY: [1], ml.ControlVector({1: [1.0]}): [1]}, {}, ValueError, "numbers"),
        ({HAPPY: [1], SAD: [1]}, {"target": []}, ValueError, "no token"),
        ({HAPPY: [1], SAD: [1]}, {"target": PROMPT * 20}, ContextFull, "context"),
        ({HAPPY: [1], SAD: [1]}, {"base": SAD}, TypeError, "Setting"),
    ],
)
def test_bad_input_is_refused(session, levers, more, error, words):
    with pytest.raises(error, match=words):
        blend(session, PROMPT, levers, **more)
