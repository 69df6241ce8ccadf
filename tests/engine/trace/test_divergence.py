"""How far apart two steps are: equal to the plain sum over the vocabulary where that is known."""

from __future__ import annotations

import math

import numpy as np
import pytest

from mullama_lab.engine import tiny
from mullama_lab.engine.model import Model
from mullama_lab.engine.stages import XTC, Chain, Mask, Temperature, TopK
from mullama_lab.engine.trace import Trace
from mullama_lab.engine.trace.divergence import Divergence, as_noisy, divergence, where_they_part

PLAIN = Mask(ban=[tiny.EOS]) | Temperature(1.0)


def kl(p, q):
    """The slow and plain way."""
    return float(sum(a * math.log(a / b) for a, b in zip(p, q) if a > 0))


def softmax(row):
    weights = np.exp(row.astype(np.float64) - row.max())
    return weights / weights.sum()


@pytest.fixture(scope="module")
def session(tiny_model):
    with tiny_model.session(n_ctx=256, n_threads=1) as session:
        yield session


def run(session, chain, prompt="x", seed=0, top=259, n=6):
    return session.generate(prompt, chain, max_tokens=n, seed=seed, top=top)


def test_it_is_the_sum_over_the_vocabulary(session):
    a, b = run(session, PLAIN, "hello"), run(session, PLAIN, "world!")
    for step in range(4):
        rows = [session.logits(t.history(step)) for t in (a, b)]
        found = divergence(a, b, step)
        assert found.exact
        assert found.nats == pytest.approx(kl(*map(softmax, rows)), rel=1e-3, abs=1e-6)


def test_after_the_chain_it_is_of_what_the_chain_left(session):
    a, b = run(session, TopK(20) | Temperature(0.7)), run(session, TopK(40) | Temperature(1.4))
    row = session.logits("x").astype(np.float64)
    best = np.argsort(-row)
    p, q = (softmax(row[best[:n]] / t) for n, t in ((20, 0.7), (40, 1.4)))
    assert divergence(a, b, 0, after=True).nats == pytest.approx(kl(p, q), rel=1e-3)
    assert divergence(a, b, 0).nats == pytest.approx(0, abs=1e-5)


def test_what_the_other_chain_removed_is_infinitely_far(session):
    wide, narrow = run(session, Chain([TopK(40)])), run(session, Chain([TopK(2)]))
    assert divergence(wide, narrow, 0, after=True) == Divergence(math.inf, True)
    assert math.isfinite(divergence(narrow, wide, 0, after=True).nats)
    assert str(Divergence(math.inf, True)) == "∞"


def test_a_step_is_no_distance_from_itself(session):
    a = run(session, PLAIN)
    for after in (False, True):
        assert divergence(a, a, 2, after=after) == Divergence(0.0, True)


def test_one_row_that_two_runs_were_drawn_from_is_no_distance_from_itself(session):
    """Sums over what each of them kept round otherwise."""
    hot = Mask(ban=[tiny.EOS]) | Temperature(1.2)
    for n in (8, 64, 259):
        traces = []
        for seed in (1, 2):
            session.reset()  # a prompt of which the cache holds a part may have another row
            traces.append(run(session, hot, "Once", seed, top=n))
        a, b = traces
        for after in (False, True):
            assert divergence(a, b, 0, after=after).nats == 0


def test_one_chain_makes_the_same_of_a_row_unless_it_draws_by_itself_with_another_seed(session):
    drawing = Chain([XTC(0.5, 0.01), Temperature(1.0)])
    runs = [run(session, chain, seed=s) for chain in (PLAIN, drawing) for s in (1, 2)]
    runs[1].chains = [*runs[1].chains, (3, drawing)]  # as if it had been changed on the way
    assert as_noisy(runs[0], runs[1], 0) and as_noisy(runs[2], runs[2], 0)
    assert not as_noisy(runs[0], runs[1], 3) and not as_noisy(runs[0], runs[2], 0)
    assert not as_noisy(runs[2], runs[3], 0)
    assert not as_noisy(runs[0], run(session, PLAIN, prompt="y", seed=1), 0)


def test_where_not_all_is_kept_it_is_a_lower_bound_and_says_so(session):
    a, b = run(session, PLAIN, "hello", top=8), run(session, PLAIN, "world!", top=8)
    whole = divergence(a, b, 0).nats
    part = divergence(*(Trace.from_dict(t.to_dict()) for t in (a, b)), 0)  # rows are not kept
    assert not part.exact and 0 <= part.nats <= whole
    assert str(part).startswith("≥ ")


def test_a_lower_bound_grows_with_what_is_kept(session):
    pairs = [[run(session, PLAIN, p, top=n) for p in ("hello", "world!")] for n in (2, 64, 259)]
    figures = [divergence(*(Trace.from_dict(t.to_dict()) for t in pair), 0).nats for pair in pairs]
    assert figures == sorted(figures)


def test_what_is_not_known_is_none(session):
    a = run(session, PLAIN, n=3)
    assert divergence(a, a, 3) is None and divergence(a, a, -1) is None
    assert divergence(a, a[:2], 2) is None
    data = a.to_dict()
    data["columns"]["top_ids"] = np.full(a.top_ids.shape, -1).tolist()
    bare = Trace.from_dict(data)
    assert divergence(bare, a, 0) is None


def test_two_traces_part_at_the_first_token_that_differs(session):
    a, b = run(session, PLAIN, seed=1), run(session, PLAIN, seed=2)
    step = where_they_part(a, b)
    assert a.tokens[:step].tolist() == b.tokens[:step].tolist() and a.tokens[step] != b.tokens[step]
    assert where_they_part(a, a) is None and where_they_part(a, a[:2]) is None


def test_kept_candidates_of_a_wide_row_make_a_close_lower_bound(tmp_path):
    path = tiny.write(tmp_path / "wide.gguf", n_vocab=20_000)
    with Model.load(path) as model, model.session(n_ctx=64, n_threads=1) as session:
        chain = Mask(ban=[tiny.EOS])
        a, b = (session.generate(p, chain, max_tokens=1, seed=0) for p in ("ab", "cd"))
        rows = [session.logits(p) for p in ("ab", "cd")]
        found, whole = divergence(a, b, 0), kl(*map(softmax, rows))
    assert len(a.kept(0)[0]) < 20_000 and not found.exact
    assert 0 < found.nats <= whole + 1e-6
