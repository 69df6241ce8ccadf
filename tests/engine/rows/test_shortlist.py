"""The likeliest tokens without sorting the row: none is missing, and llama.cpp sees no other."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mullama_lab.engine.rows.capture import RowReader
from mullama_lab.engine.rows.shortlist import GROUP, shortlist
from mullama_lab.engine.stages import Penalties, Temperature, TopK, TopP
from mullama_lab.engine.stages.chain_sampler import ChainSampler
from mullama_lab.errors import DecodeError


@given(
    n=st.integers(1, 12_000),
    k=st.integers(1, 64),
    seed=st.integers(0, 2**32 - 1),
    distinct=st.booleans(),
)
def test_what_a_reader_keeps_of_a_row_holds_the_k_likeliest_too(n, k, seed, distinct):
    rng = np.random.default_rng(seed)
    row = (rng.permutation(n) if distinct else rng.integers(0, 300, n)).astype(np.float32)
    reader = RowReader(n, 64)
    for _ in range(2):  # the second time by thresholds that carry over
        found = reader.likeliest(row).shortlist(k)
        if k > n:
            assert found is None
        elif distinct:
            assert found[0].tolist() == np.sort(np.argsort(row)[-k:]).tolist()
            assert (row[found[0]] == found[1]).all()
        elif found is not None:
            in_order = np.sort(row)[::-1]
            assert np.sort(found[1])[::-1].tolist() == in_order[:k].tolist()
            assert in_order[:k].tolist().count(in_order[k - 1]) == 1
            assert n == k or in_order[k] < in_order[k - 1]


@given(n=st.integers(GROUP, 5000), k=st.integers(1, 60), seed=st.integers(0, 2**32 - 1))
def test_it_holds_the_k_likeliest_in_vocabulary_order(n, k, seed):
    row = np.random.default_rng(seed).permutation(n).astype(np.float32)
    found = shortlist(row, k)
    if n // GROUP < 2 * k:
        assert found is None
        return
    ids, logits = found
    assert set(np.argsort(row)[-k:].tolist()) <= set(ids.tolist())
    assert (np.diff(ids) > 0).all()
    assert (row[ids] == logits).all()
    assert len(ids) < n / 2


def test_equal_logits_and_a_row_of_removed_tokens_are_left_to_llama_cpp():
    row = np.random.default_rng(0).permutation(4000).astype(np.float32)
    twins = row.copy()
    twins[[17, 3001]] = 5000
    assert shortlist(twins, 10) is None
    removed = np.full(4000, -np.inf, np.float32)
    removed[:5] = row[:5]
    assert shortlist(removed, 10) is None


@pytest.mark.parametrize("place", [0, 1777, 3999])
@pytest.mark.parametrize("logit", [np.nan, np.inf, 1e9])
def test_what_cannot_be_sampled_from_is_left_to_who_refuses_it(place, logit):
    row = np.random.default_rng(0).permutation(4000).astype(np.float32)
    row[place] = logit
    assert shortlist(row, 10) is None
    work = ChainSampler(TopK(10) | Temperature(0.8), _Vocabulary(len(row)))
    with pytest.raises(DecodeError, match="a NaN, an infinity or a huge number"):
        work.apply(row, 0, lambda *_: None)


class _Vocabulary:
    """What a sampler asks of a model when no stage looks at a token's text."""

    vocab_type = "BPE"

    def __init__(self, n_vocab=6000):
        self.n_vocab = n_vocab


CHAINS = (
    Penalties(repeat=1.0) | TopK(40) | TopP(0.9) | Temperature(0.8),
    TopK(1) | Temperature(2.0),
    TopK(3, min_keep=30) | TopP(0.5),
)


@pytest.mark.parametrize("chain", CHAINS, ids=repr)
@pytest.mark.parametrize("equal", [False, True])
def test_a_chain_leaves_the_same_and_draws_the_same(chain, equal, monkeypatch):
    rng = np.random.default_rng(3)

    def outcome(row, step, likeliest=None):
        work = ChainSampler(chain, _Vocabulary(20_000), history=[], seed=5, step=step)
        token = work.apply(row, step, lambda *_: None, likeliest)
        return token, work.candidates.window.copy()

    reader = RowReader(20_000, 64)
    for step in range(20):
        row = rng.normal(scale=3, size=20_000).astype(np.float32)
        if equal:
            row = np.round(row, 1)
        token, left = outcome(row, step)
        also, left_too = outcome(row, step, reader.likeliest(row))
        assert also == token and left_too.tobytes() == left.tobytes()
        with monkeypatch.context() as patch:
            patch.setattr("mullama_lab.engine.stages.chain_sampler.shortlist", lambda row, k: None)
            expected, whole = outcome(row, step)
        assert token == expected
        assert left.tobytes() == whole.tobytes()
