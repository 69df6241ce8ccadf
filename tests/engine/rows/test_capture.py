"""What is read off a row of logits, against plain sorting and sums."""

from __future__ import annotations

import math

import numpy as np
import pytest

from mullama_lab.engine.rows.capture import KEEP_LEAST, RowReader, largest
from mullama_lab.errors import DecodeError

N_VOCAB = 259


@pytest.mark.parametrize("kind", ["normal", "flat", "steps", "one high", "tails"])
def test_a_reader_finds_exactly_the_largest_of_any_row(kind):
    rng, n, top = np.random.default_rng(0), 20_000, 64
    reader = RowReader(n, top)
    for turn in range(6):
        row = {
            "normal": rng.standard_normal(n) * (turn + 1),
            "flat": np.zeros(n),
            "steps": np.repeat(rng.permutation(20), n // 20),
            "one high": np.where(np.arange(n) == turn, 50, rng.standard_normal(n)),
            "tails": rng.standard_cauchy(n),
        }[kind].astype(np.float32)
        facts = reader.read(row)
        in_order = np.sort(row)[::-1]
        assert KEEP_LEAST <= len(facts.ids) <= 3 * KEEP_LEAST
        assert np.sort(facts.logits)[::-1].tolist() == in_order[: len(facts.ids)].tolist()
        assert facts.logits.tolist() == row[facts.ids].tolist()
        assert facts.top_logits.tolist() == in_order[:top].tolist()
        assert row[facts.top_ids].tolist() == facts.top_logits.tolist()
        exact = row.astype(np.float64)
        total = exact.max() + np.log(np.exp(exact - exact.max()).sum())
        assert facts.logsumexp == pytest.approx(total, abs=1e-4)
        probs = np.exp(exact - total)
        assert facts.entropy == pytest.approx(-float(probs @ (exact - total)), abs=2e-3)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf, 1e30])
@pytest.mark.parametrize("place", [0, 7, 258])
def test_a_damaged_row_is_refused(bad, place):
    row = np.zeros(N_VOCAB, np.float32)
    row[place] = bad
    with pytest.raises(DecodeError, match=r"file or its quantisation is damaged"):
        RowReader(N_VOCAB, 5).read(row)


def test_a_model_that_rules_tokens_out_with_the_lowest_float_can_be_read(recwarn):
    row = np.random.default_rng(0).standard_normal(20_000).astype(np.float32)
    row[::3] = np.finfo(np.float32).min  # as llama.cpp's Chameleon does to image tokens
    facts = RowReader(20_000, 5).read(row)
    assert facts.top_logits.tolist() == np.sort(row)[::-1][:5].tolist()
    assert math.isfinite(facts.entropy)
    assert not recwarn.list


@pytest.mark.parametrize("n", [1, 5, 64, 300, 5000, 9000])
@pytest.mark.parametrize("ties", [False, True])
def test_the_largest_come_largest_first(n, ties):
    values = np.random.default_rng(n).standard_normal(5000).astype(np.float32)
    values = np.round(values) if ties else values
    found = largest(values, n)
    assert len(set(found.tolist())) == min(n, 5000)
    assert values[found].tolist() == np.sort(values)[::-1][:n].tolist()
