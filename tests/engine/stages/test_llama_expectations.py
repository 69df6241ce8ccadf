"""What llama.cpp expects of its samplers holds of our stages.

The numbers are those of llama.cpp's tests/test-sampling.cpp. Its rows have 4, 5 or 10 000
candidates, so the models here have vocabularies of just that size.
"""

from __future__ import annotations

import math

import numpy as np
import pytest

from mullama_lab.engine import tiny
from mullama_lab.engine.model import Model
from mullama_lab.engine.native.samplers import Candidates, sampler
from mullama_lab.engine.stages import (
    DRY,
    XTC,
    Chain,
    DynamicTemperature,
    MinP,
    Penalties,
    TailFree,
    Temperature,
    TopK,
    TopNSigma,
    TopP,
    Typical,
)
from mullama_lab.engine.stages.randomness import Draws

SPM_KEYS = [
    "pre",
    "tokens",
    "scores",
    "token_type",
    "unknown_token_id",
    "bos_token_id",
    "eos_token_id",
]
ONE_TO_FOUR = [0.1, 0.2, 0.3, 0.4]
FOUR_TO_ONE = [0.4, 0.3, 0.2, 0.1]
FIFTHS = [0.2] * 5
QUARTERS = [0.25] * 4


@pytest.fixture(scope="module")
def sized(tmp_path_factory):
    """A function from a number of candidates to a vocabulary of so many nameless tokens."""
    folder, opened = tmp_path_factory.mktemp("sized"), {}

    def model(n_vocab):
        if n_vocab not in opened:
            keys = dict.fromkeys(f"tokenizer.ggml.{key}" for key in SPM_KEYS)
            keys |= {"tokenizer.ggml.model": "none", "llama.vocab_size": n_vocab}
            path = tiny.write(folder / f"{n_vocab}.gguf", vocab_only=True, metadata=keys)
            opened[n_vocab] = Model.load(path, vocab_only=True)
        assert opened[n_vocab].n_vocab == n_vocab
        return opened[n_vocab]

    yield model
    for one in opened.values():
        one.close()


def outcome(model, stage, probs, *, history=(), seed=0):
    """The probabilities a stage leaves, likeliest first."""
    row = np.log(np.array(probs, np.float32))
    return Chain([stage]).preview(row, model=model, history=history, seed=seed).final


CASES = [
    # temp
    (Temperature(1.0), ONE_TO_FOUR, ONE_TO_FOUR),
    (Temperature(0.0), ONE_TO_FOUR, [1.0]),
    # temp_ext
    (DynamicTemperature(1.0, 0.0, 1.0), ONE_TO_FOUR, ONE_TO_FOUR),
    (DynamicTemperature(0.0, 0.0, 1.0), ONE_TO_FOUR, [1.0]),
    # top_k
    (TopK(1), ONE_TO_FOUR, [1.0]),
    (TopK(3), ONE_TO_FOUR, [0.44444, 0.33333, 0.22222]),
    (TopK(4), ONE_TO_FOUR, FOUR_TO_ONE),
    (TopK(0), ONE_TO_FOUR, ONE_TO_FOUR),
    # top_p
    (TopP(0), ONE_TO_FOUR, [1.0]),
    (TopP(0.7), ONE_TO_FOUR, [0.571429, 0.428571]),
    (TopP(0.8), ONE_TO_FOUR, [0.44444, 0.33333, 0.22222]),
    (TopP(1.0), ONE_TO_FOUR, ONE_TO_FOUR),
    # min_p
    (MinP(0.00), ONE_TO_FOUR, ONE_TO_FOUR),
    (MinP(0.24), ONE_TO_FOUR, ONE_TO_FOUR),
    (MinP(0.26), ONE_TO_FOUR, [0.2 / 0.9, 0.3 / 0.9, 0.4 / 0.9]),
    (MinP(0.49), ONE_TO_FOUR, [0.2 / 0.9, 0.3 / 0.9, 0.4 / 0.9]),
    (MinP(0.51), ONE_TO_FOUR, [0.3 / 0.7, 0.4 / 0.7]),
    (MinP(0.74), ONE_TO_FOUR, [0.3 / 0.7, 0.4 / 0.7]),
    (MinP(0.76), ONE_TO_FOUR, [1.0]),
    (MinP(1.00), ONE_TO_FOUR, [1.0]),
    # typical
    (Typical(0.5), [0.97, 0.01, 0.01, 0.01], [1.0]),
    (Typical(0.5), [0.4, 0.2, 0.2, 0.2], [1 / 3] * 3),
    # top_n_sigma
    (TopNSigma(1.0), ONE_TO_FOUR, [0.571429, 0.428571]),
    (TopNSigma(0.0), ONE_TO_FOUR, ONE_TO_FOUR),
    (TopNSigma(3.0), ONE_TO_FOUR, ONE_TO_FOUR),
    # the expectations of tail-free sampling before llama.cpp removed it
    (TailFree(0.25), [0.1, 0.15, 0.2, 0.25, 0.3], [1.0]),
    (TailFree(0.75), [0.1, 0.15, 0.2, 0.25, 0.3], [0.3 / 0.55, 0.25 / 0.55]),
    (TailFree(0.99), [0.1, 0.15, 0.2, 0.25, 0.3], [0.3 / 0.55, 0.25 / 0.55]),
]


@pytest.mark.parametrize(("stage", "probs", "expected"), CASES, ids=lambda x: repr(x))
def test_a_stage_leaves_what_llama_cpp_expects(stage, probs, expected, sized):
    final = outcome(sized(len(probs)), stage, probs)
    assert final.n_kept == len(expected)
    np.testing.assert_allclose(final.probs, sorted(expected, reverse=True), atol=1e-5)


# llama.cpp's numbers here are the row's own probabilities; ours add up to 1.
@pytest.mark.parametrize(
    ("stage", "kept"),
    [
        (XTC(0.99, 0.09), [0.1]),
        (XTC(0.99, 0.19), [0.2, 0.1]),
        (XTC(0.99, 0.29), [0.3, 0.2, 0.1]),
        (XTC(0.99, 0.39), FOUR_TO_ONE),
    ],
    ids=repr,
)
def test_xtc_drops_all_top_choices_but_the_least_likely(stage, kept, sized):
    final = outcome(sized(4), stage, FOUR_TO_ONE)
    np.testing.assert_allclose(final.probs, np.array(kept) / sum(kept), atol=1e-5)
    assert final.removed_mass == pytest.approx(1 - sum(kept), abs=1e-5)


@pytest.mark.parametrize(
    ("stage", "history", "expected"),
    [
        (Penalties(repeat=50), [0], [0, 0.25, 0.25, 0.25, 0.25]),
        (Penalties(repeat=50), [0, 1, 2], [0, 0, 0, 0.5, 0.5]),
        (Penalties(repeat=50), [0, 1, 2, 0, 0], [0, 0, 0, 0.5, 0.5]),
        (
            Penalties(frequency=5, presence=5),
            [0],
            [0.000011, 0.249997, 0.249997, 0.249997, 0.249997],
        ),
        (
            Penalties(frequency=5, presence=5),
            [0, 1, 2],
            [0.000023, 0.000023, 0.000023, 0.499966, 0.499966],
        ),
        (
            Penalties(frequency=5, presence=5),
            [0, 1, 2, 0, 0],
            [0.000000, 0.000023, 0.000023, 0.499977, 0.499977],
        ),
        (DRY(multiplier=1, base=1.1, last_n=4, breakers=()), [0, 1], QUARTERS),
        (
            DRY(multiplier=1, base=1.1, last_n=5, breakers=()),
            [0, 1, 2, 0, 1],
            [0.296923, 0.296923, 0.109232, 0.296923],
        ),
        (
            DRY(multiplier=2, base=1.1, last_n=5, breakers=()),
            [0, 1, 2, 0, 1],
            [0.241818, 0.241818, 0.032727, 0.241818, 0.241818],
        ),
        (
            DRY(multiplier=1, base=1.1, allowed_length=4, last_n=7, breakers=()),
            [0, 1, 2, 3, 4, 0, 1],
            FIFTHS,
        ),
    ],
    ids=repr,
)
def test_what_repeats_is_made_less_likely_by_as_much_as_llama_cpp_expects(
    stage, history, expected, sized
):
    n = len(expected)
    final = outcome(sized(n), stage, [1 / n] * n, history=history)
    by_id = dict(zip(final.ids.tolist(), final.probs.tolist()))
    np.testing.assert_allclose([by_id[i] for i in range(n)], expected, atol=1e-5)


def test_a_breaker_lets_a_phrase_repeat(tiny_model):
    # llama.cpp names the token 3 of {0, 1, 3, 4, 0, 1}; a text can only name one that has text.
    a, b, c, d, e = (ord(letter) + 3 for letter in "abcde")
    row = np.full(tiny_model.n_vocab, -np.inf, np.float32)
    row[[a, b, c, d, e]] = np.log(0.2)
    history = [a, b, d, e, a, b]
    for breakers, expected in (("d",), 0.2), ((), 0.2 * math.exp(-1)):
        stage = DRY(multiplier=1, base=1.1, last_n=6, breakers=breakers)
        final = Chain([stage]).preview(row, model=tiny_model, history=history).final
        by_id = dict(zip(final.ids.tolist(), final.probs.tolist()))
        assert by_id[d] == pytest.approx(expected / (0.8 + expected), abs=1e-5)


def expected_queue(n_vocab, letters, top_k, top_p, min_p):
    """The tokens that llama.cpp's test computes for rows where token i has logit log(i)."""
    size, smallest = n_vocab, 0
    for letter in letters:
        if letter == "k":
            size = min(size, top_k)
            smallest = max(smallest, n_vocab - top_k)
        elif letter == "p":
            total = n_vocab * (n_vocab - 1) // 2 - smallest * (smallest - 1) // 2
            target = math.ceil(np.float32(top_p) * np.float32(total))
            smallest, size, cumulated = n_vocab, 0, 0
            while True:
                smallest, size = smallest - 1, size + 1
                cumulated += smallest
                if cumulated >= target:
                    break
            if smallest == 1:  # token 0 has probability 0
                smallest, size = 0, size + 1
        else:
            size = min(max(math.ceil((1 - np.float32(min_p)) * n_vocab), 1), size, n_vocab - 1)
            smallest = max(math.floor(np.float32(min_p) * n_vocab), 1, n_vocab - size)
            smallest = min(smallest, n_vocab - 1)
        yield size, smallest


@pytest.mark.parametrize(
    ("letters", "top_k", "top_p", "min_p"),
    [
        ("k", 10000, 1.0, 1.0),
        ("k", 1, 1.0, 1.0),
        ("p", 10000, 1.0, 1.0),
        ("p", 10000, 0.0, 1.0),
        ("m", 10000, 1.0, 1.0),
        ("m", 10000, 1.0, 1e-12),
        ("k", 100, 1.0, 1.0),
        ("p", 10000, 0.0003, 1.0),
        ("p", 10000, 0.8, 1.0),
        ("m", 10000, 1.0, 9997.9 / 9999.0),
        ("m", 10000, 1.0, 0.1),
        *((letters, 100, 0.8, 0.1) for letters in ("kp", "km", "pk", "pm", "mk")),
        ("mp", 100, 0.8, 9997.9 / 9999.0),
        ("mp", 100, 0.8, 0.1),
        *((letters, 100, 0.8, 0.1) for letters in ("kpm", "kmp", "pkm", "pmk", "mkp", "mpk")),
    ],
)
def test_a_queue_of_stages_leaves_as_many_as_llama_cpp_computes(
    letters, top_k, top_p, min_p, sized
):
    n_vocab = 10000
    with np.errstate(divide="ignore"):
        row = np.log(np.arange(n_vocab, dtype=np.float32))
    stage = {"k": TopK(top_k), "p": TopP(top_p, min_keep=1), "m": MinP(min_p, min_keep=1)}
    view = Chain([stage[x] for x in letters]).preview(row, model=sized(n_vocab), top=n_vocab)
    wanted = expected_queue(n_vocab, letters, top_k, top_p, min_p)
    for place, (size, smallest) in enumerate(wanted):
        stage = view.stages[place]
        # Token 0 has no probability: llama.cpp's array still holds it, we do not count it.
        assert stage.n_kept == size - (smallest == 0)
        assert stage.ids[0] == n_vocab - 1
        assert stage.ids[-1] == max(smallest, 1)


def drawn(sampler, n):
    candidates = Candidates(n)
    candidates.load(np.zeros(n, np.float32))
    sampler.apply(candidates)
    return int(candidates.window["id"][candidates.fields.selected])


def test_a_draw_from_one_candidate_moves_the_generator_as_a_draw_from_two():
    # llama.cpp's test_dist_singleton_rng; that draws can be addressed by step rests on it.
    singleton, control = sampler("dist", 4242), sampler("dist", 4242)
    drawn(singleton, 1)
    drawn(control, 2)
    after = [drawn(singleton, 256) for _ in range(4)]
    assert after == [drawn(control, 256) for _ in range(4)]
    assert len(set(after)) > 1
    assert [drawn(Draws(4242).at(step), 256) for step in range(1, 5)] == after
