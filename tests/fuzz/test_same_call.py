"""The same call gives the same text: rows are bit-equal whatever the session did before.

In a reproducible session always; in another one wherever `trace.canonical` says so, and it says so
of every text that has the cache to itself. `--cases 200` goes through 200 prompts a model; a
second model is tried where it was fetched before.
"""

from __future__ import annotations

import random

import pytest

from mullama_lab import hub
from mullama_lab.engine.model import Model
from mullama_lab.engine.session import Session
from mullama_lab.engine.stages import Temperature, TopK

CHAIN = TopK(40) | Temperature(0.8)
LONGEST = 600  # tokens of a prompt
NEW = 3  # tokens that are drawn
SIZES = (9, 200, 1, 2, 63, 64, 65, 66, 127, 128, 129, 261, LONGEST)


MODELS = [hub.DEFAULT_MODEL, *(name for name in ["gemma3-270m"] if hub.is_cached(name))]


@pytest.fixture(params=MODELS)
def model(request):
    with Model.load(hub.fetch(request.param)) as model:
        yield model


def sessions(model, reproducible):
    n_ctx = LONGEST + 100
    if reproducible:
        return model.session(n_ctx=8 * n_ctx, n_seq_max=8, reproducible=True)
    return model.session(n_ctx=3 * n_ctx)


def prompt_of(chance, model, n):
    return [model.bos or 1, *(chance.randrange(300, 20000) for _ in range(n - 1))]


def drawn(session, prompt, sequence=None):
    return session.generate(prompt, CHAIN, max_tokens=NEW, seed=5, sequence=sequence)


def same(one, other):
    """Whether two traces have the same tokens after the same rows, bit for bit."""
    if one.tokens.tolist() != other.tokens.tolist():
        return False
    rows = [(one.kept(i), other.kept(i)) for i in range(len(one))]
    return one.logsumexp.tolist() == other.logsumexp.tolist() and all(
        a[0].tolist() == b[0].tolist() and a[1].tolist() == b[1].tolist() for a, b in rows
    )


def after_others(session, prompt, chance, model, tmp_path):
    """The prompt in every state that a session can be in, by name."""
    yield "again", drawn(session, prompt)
    other = [*prompt[: chance.randrange(len(prompt))], *prompt_of(chance, model, 40)[1:]]
    session.generate(other, CHAIN, max_tokens=NEW, seed=1)
    yield "after another prompt", drawn(session, prompt)
    session.rewind(chance.randrange(len(session.tokens)))
    yield "after a rewind", drawn(session, prompt)
    path = tmp_path / "session.safetensors"
    session.save(path)
    with Session.load(path, model) as loaded:
        yield "saved and loaded", drawn(loaded, prompt)
    fork = session.fork(n_tokens=chance.randrange(1, len(session.tokens)))
    yield "in a fork", drawn(session, prompt, fork)
    session.remove(fork)


@pytest.mark.parametrize("reproducible", [False, True])
def test_rows_are_bit_equal_whatever_came_before(model, reproducible, n_cases, fuzz_seed, tmp_path):
    chance = random.Random(fuzz_seed)
    for case in range(n_cases(3)):
        n = SIZES[case] if case < len(SIZES) else chance.randint(1, LONGEST)
        prompt = prompt_of(chance, model, n)
        with sessions(model, reproducible) as session:
            cold = drawn(session, prompt)
        assert cold.canonical.all()
        with sessions(model, reproducible) as session:
            drawn(session, prompt_of(chance, model, chance.randint(1, 80)))
            for name, trace in after_others(session, prompt, chance, model, tmp_path):
                if reproducible or name != "in a fork":
                    assert trace.canonical.all() or len(prompt) < 3, (name, len(prompt))
                assert not trace.canonical.all() or same(trace, cold), (name, len(prompt))


def test_rows_of_a_reproducible_session_are_bit_equal_beside_seven_others(
    model, n_cases, fuzz_seed
):
    chance = random.Random(fuzz_seed)
    for case in range(n_cases(1)):
        prompt = prompt_of(
            chance, model, SIZES[case] if case < len(SIZES) else chance.randint(1, LONGEST)
        )
        with sessions(model, True) as session:
            cold = drawn(session, prompt)
        with sessions(model, True) as session:
            others = [prompt_of(chance, model, chance.randint(1, 60)) for _ in range(7)]
            runs = [session.start(other, CHAIN, max_tokens=12, seed=1) for other in others]
            beside = session.start(prompt, CHAIN, max_tokens=NEW, seed=5)
            assert beside.wait().canonical.all()
            assert same(beside.trace, cold)
            for run in runs:
                run.wait()
