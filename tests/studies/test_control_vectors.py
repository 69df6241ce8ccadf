"""Vectors learnt from contrast: what numpy gives for the same states, and what they do."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

import mullama_lab as ml
from mullama_lab.engine import tiny
from mullama_lab.errors import ClosedError, ContextFull, ModelLoadError, Stopped
from mullama_lab.studies.control_vectors import METHODS, train

WORDS = ["one", "two", "three", "four", "five", "six"]
PAIRS = [(f"yes {word} good", f"no {word} good") for word in WORDS]


def states(session, pairs, layer):
    """What `session.hidden` gives after the last token of each text, in float64."""
    rows = [
        [session.hidden(session.model.tokenize(text), [layer])[0, -1] for text in pair]
        for pair in pairs
    ]
    return np.array(rows, np.float64)


@pytest.fixture
def session(tiny_model):
    with tiny_model.session(n_ctx=128, n_threads=1) as session:
        yield session


@pytest.mark.parametrize("method", METHODS)
def test_a_direction_is_that_of_an_independent_computation(session, method):
    trained = train(PAIRS, on=session, method=method)
    learnt = [pair for i, pair in enumerate(PAIRS) if i not in (4, 5)]
    assert (trained.n_pairs, trained.n_held_out) == (4, 2)
    both = states(session, learnt, 1)
    differences = both[:, 0] - both[:, 1]
    if method == "mean":
        want = differences.mean(axis=0)
    else:
        about = differences - differences.mean(axis=0) * (method == "centred_pca")
        want = np.linalg.svd(about)[2][0]
        want *= differences.mean(axis=0) @ want
    got = trained.vector.directions[1].astype(np.float64)
    assert got @ want / np.linalg.norm(got) / np.linalg.norm(want) > 0.9999
    assert np.linalg.norm(got) == pytest.approx(np.linalg.norm(want), rel=1e-3)


def test_a_mixture_of_experts_is_steered_by_what_it_learnt(tmp_path):
    path = tiny.write(tmp_path / "moe.gguf", architecture="qwen2moe", n_layer=3)
    with ml.Model.load(path) as model, model.session(n_ctx=128, n_threads=1) as session:
        trained = train(PAIRS, on=session)
        assert trained.layers.tolist() == [1, 2]
        for layer in (1, 2):
            both = states(session, PAIRS[:4], layer)
            want = (both[:, 0] - both[:, 1]).mean(axis=0)
            assert np.allclose(trained.vector.directions[layer], want, atol=1e-3)
        base = session.logits("yes one good")
        session.control = trained.vector
        assert np.abs(session.logits("yes one good") - base).max() > 0.1
        session.control = None
        assert np.array_equal(session.logits("yes one good"), base)


def test_the_scores_are_those_of_pairs_that_were_held_out(session):
    trained = train(PAIRS, on=session)
    both = states(session, [PAIRS[i] for i in (4, 5)], 1)
    direction = trained.vector.directions[1].astype(np.float64)
    along = (both[:, 0] - both[:, 1]) @ direction / np.linalg.norm(direction)
    assert trained.accuracy[0] == (along > 0).mean()
    assert trained.separation[0] == pytest.approx(along.mean() / along.std(ddof=1), rel=1e-3)
    table = trained.to_pandas()
    assert table.index.tolist() == [1] and list(table) == ["norm", "accuracy", "separation"]
    assert trained.best == 1 and "2 held-out pairs" in trained.summary()


@pytest.mark.parametrize("n, held", [(2, 1), (3, 1), (4, 2), (7, 2), (8, 2), (9, 2), (12, 3)])
def test_some_pairs_are_held_out(session, n, held):
    trained = train((PAIRS * 2)[:n], on=session)
    assert (trained.n_pairs, trained.n_held_out) == (n - held, held)
    assert np.isnan(trained.separation).all() == (held == 1)
    assert repr(trained).startswith("<Training: from ")


def test_the_same_pairs_give_the_same_vector_bit_for_bit(tiny_model):
    for method in METHODS:
        one, two = (train(iter(PAIRS), on=tiny_model, method=method) for _ in range(2))
        assert one.vector == two.vector
        assert np.array_equal(one.separation, two.separation)


def test_what_is_read_beside_a_text_changes_no_bit(tiny_model):
    """Of three pairs two are learnt from, in either order; whatever the third is, held out."""
    long = " and so on" * 20
    one, other, third = [
        (f"good {x}{long}", f"bad{x}{long[:n]}") for x, n in (("a", 9), ("b", 70), ("c", 5))
    ]
    vectors = [
        train(pairs, on=tiny_model, progress=False).vector
        for pairs in ((one, other, third), (other, one, third), (one, other, ("x", "y")))
    ]
    assert vectors[0] == vectors[1] == vectors[2]


def test_it_tells_how_far_it_is_and_stops_when_it_is_told_to(session):
    told = []
    trained = train(PAIRS, on=session, progress=told.append)
    assert told == pytest.approx(np.arange(1, 13) / 12)
    assert trained.vector == train(PAIRS, on=session).vector
    with pytest.raises(Stopped, match="after 3 of 12 texts"):
        train(PAIRS, on=session, progress=lambda share: share < 0.25)


@pytest.mark.parametrize(
    "separation, band",
    [
        ([0, 1, 3, 4, 3.1, 2.9, 4, 1], (3, 5)),
        ([8, 7, 1, 9, 1, 1, 1, 1], (4, 4)),
        ([1, 1, 1, 1, 1, 1, 1, 1], (1, 8)),
        ([np.nan] * 8, (3, 6)),
        ([-1, -2, -1, -1, -1, -1, -1, -1], (3, 6)),
        ([2], (1, 1)),
        ([np.nan], (1, 1)),
        ([np.nan] * 2, (1, 2)),
        ([np.nan] * 3, (1, 3)),
    ],
)
def test_the_band_is_the_layers_about_the_best_that_do_about_as_well(session, separation, band):
    separation = np.array(separation, float)
    layers = np.arange(1, len(separation) + 1)
    trained = replace(train(PAIRS, on=session), layers=layers, separation=separation)
    assert trained.band == band


def test_layers_that_are_not_there_are_refused(session):
    trained = train(PAIRS, on=session, progress=False)
    for first, last in ((2, 9), (2, 1)):
        for ask in (trained.pick, trained.learnt, lambda a, b: trained.keep("mine", a, b)):
            with pytest.raises(ValueError, match=f"no layer from {first} to {last}"):
                ask(first, last)


def test_what_is_in_force_does_not_act(session):
    plain = train(PAIRS, on=session)
    session.control = 5 * plain.vector
    assert train(PAIRS, on=session).vector == plain.vector
    assert session.control == 5 * plain.vector


@pytest.mark.parametrize(
    "pairs, error, words",
    [
        ([], ValueError, "two at least"),
        (PAIRS[:1], ValueError, "1 pair: there must be two"),
        ([("a", "b"), ("a",)], TypeError, "pair 1 is"),
        ([("a", "b"), ("a", "b", "c")], TypeError, "pair 1 is"),
        ([("a", "b"), ("a", 3)], TypeError, "pair 1 is"),
        ([("a", "b"), "ab"], TypeError, "pair 1 is"),
        ([("a", "b"), ("", "b")], ValueError, "pair 1 has an empty text"),
        ([("a", "a"), ("b", "b"), ("c", "c")], ValueError, "must differ"),
        ([("a", "b"), ("a" * 200, "b")], ContextFull, "a text of pair 1 has 20"),
        ("abc", TypeError, "pair"),
        (None, TypeError, "pairs"),
        (3, TypeError, "pairs"),
    ],
)
def test_what_are_no_pairs_is_refused(session, pairs, error, words):
    with pytest.raises(error, match=words):
        train(pairs, on=session)
    with pytest.raises(ValueError, match="method"):
        train(PAIRS, on=session, method="umap")


def test_models_that_cannot_be_steered_are_refused(tiny_path, tmp_path):
    with ml.Model.load(tiny_path, vocab_only=True) as model, pytest.raises(ModelLoadError):
        train(PAIRS, on=model)
    path = tiny.write(tmp_path / "one.gguf", n_layer=1)
    with ml.Model.load(path) as model, pytest.raises(ValueError, match="has one layer"):
        train(PAIRS, on=model)
    with pytest.raises(ClosedError):
        train(PAIRS, on=model)
    for on in (None, "smollm2-135m", path):
        with pytest.raises(TypeError, match="give a Model"):
            train(PAIRS, on=on)


FEELINGS = [
    "The weather today", "My work at the office", "This old house", "The letter from my sister",
    "Our dinner last night", "The long walk home", "That song on the radio", "The game on Sunday",
    "My first day at school", "The news this morning", "Her new haircut", "The train to the city",
    "A cup of coffee", "The end of the film", "My neighbour's garden", "The cold water",
]  # fmt: skip


def test_a_real_model_is_steered_by_what_it_learnt(smollm2):
    pairs = [
        (f"{about} makes me so happy and joyful.", f"{about} makes me so sad and miserable.")
        for about in FEELINGS
    ]
    trained = train(pairs, on=smollm2, progress=False)
    assert trained.accuracy.max() == 1.0 and trained.separation.max() > 2
    with smollm2.session(n_ctx=256) as session:
        prompt = "When I think of my life, I feel very"

        def leaning():
            row = session.logits(prompt).astype(np.float64)
            happy, sad = (smollm2.tokenize(word)[0] for word in (" happy", " sad"))
            return row[happy] - row[sad]

        base = leaning()
        middle = trained.vector.layers(10, 20)
        session.control = 0.5 * middle
        up = leaning()
        session.control = -0.5 * middle
        down = leaning()
        session.control = None
        assert down + 1 < base < up - 1
        assert leaning() == base
