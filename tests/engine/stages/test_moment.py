"""A moment decides from a part of its row what the whole row would decide, or says it cannot."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mullama_lab.engine import stages as s
from mullama_lab.engine.grammar import Grammar
from mullama_lab.engine.rows.tail import Tail, Uncovered, log_total
from mullama_lab.engine.stages import Chain
from mullama_lab.engine.stages.moment import moment_of_row
from mullama_lab.engine.stages.stage import Known
from mullama_lab.errors import NoCandidates

N_VOCAB = 259
TOKENS = st.integers(0, N_VOCAB - 1)


def number(*values):
    return st.sampled_from(values)


GRAMMARS = [Grammar.gbnf("root ::= [a-z]+ | [^a]*"), Grammar.regex("[a-m]*[A-Z]?[0-9]*")]
GRAMMARS += [Grammar.gbnf("root ::= [a-m]{0,3}"), Grammar.gbnf("root ::= [\\x01-\\x7F]{0,99}")]
STAGES = st.one_of(
    st.builds(s.TopK, st.integers(0, 80), min_keep=number(0, 0, 5)),
    st.builds(s.TopP, number(0.05, 0.3, 0.7, 0.9, 0.97, 1.0), min_keep=number(0, 0, 3)),
    st.builds(s.MinP, number(0.0, 0.01, 0.1, 0.5), min_keep=number(0, 0, 3)),
    st.builds(s.Typical, number(0.3, 0.9)),
    st.builds(s.Temperature, number(0.0, 0.4, 0.9, 1.0, 1.7)),
    st.builds(s.DynamicTemperature, number(0.8), number(0.0, 0.5)),
    st.builds(s.TopNSigma, number(0.0, 1.0)),
    st.builds(s.XTC, number(0.5, 1.0), number(0.05, 0.2)),
    st.builds(s.Penalties, repeat=number(0.8, 1.0, 1.3), frequency=number(-0.5, 0.0, 0.7)),
    st.builds(s.DRY, multiplier=number(0.8, 3.0), breakers=st.just(()), last_n=number(-1, 20)),
    st.builds(s.LogitBias, st.dictionaries(TOKENS, number(-3.0, 2.0, -math.inf), max_size=4)),
    st.builds(s.Mask, ban=st.lists(TOKENS, max_size=6)),
    st.builds(s.Mask, allow=st.lists(TOKENS, min_size=1, max_size=60)),
    st.builds(s.Ban, st.lists(number("a", "e", "th", "\n", "é"), max_size=4)),
    st.builds(s.Constrain, number(*GRAMMARS), after=number(None, "e", 70, Grammar.regex("[a-m]"))),
    st.builds(s.Greedy),
    st.builds(s.TailFree, number(0.5, 0.95)),
    st.builds(s.Mirostat, number(2.0, 5.0)),
    st.builds(s.MirostatV2, number(2.0, 5.0)),
    st.builds(s.AdaptiveP, number(0.3)),
)


@st.composite
def rows(draw):
    """Rows of three kinds: spread out, peaked, and full of ties."""
    random = np.random.default_rng(draw(st.integers(0, 10**6)))
    row = random.normal(size=N_VOCAB) * draw(number(0.5, 2.0, 6.0))
    if draw(st.booleans()):
        row = np.round(row)
    return row.astype(np.float32)


def cut(moment, n):
    """The same moment of which only the n likeliest candidates were kept."""
    best = np.sort(np.argsort(-moment.logits, kind="stable")[:n])
    return replace(moment, ids=moment.ids[best], logits=moment.logits[best])


def outcome(moment, chain):
    """The token chosen and what the chain left of it, or that it left nothing."""
    work = moment.sampler(chain)
    try:
        return moment.choose(work)
    except NoCandidates:
        return None


def moments(tiny_model, row, chain, history=(), seed=0, step=0):
    return moment_of_row(row, tiny_model, chain=chain, history=history, seed=seed, step=step)


@settings(max_examples=700)
@given(
    row=rows(),
    chain=st.lists(STAGES, max_size=4).map(Chain),
    n=st.integers(5, N_VOCAB - 1),
    history=st.lists(st.integers(100, 112), max_size=30),
    seed=st.integers(0, 50),
    step=st.integers(0, 3),
)
def test_what_a_part_of_a_row_decides_is_what_the_whole_row_decides(
    row, chain, n, history, seed, step, tiny_model
):
    whole = moments(tiny_model, row, chain, history, seed, step)
    part = cut(whole, n)
    try:
        decided = outcome(part, chain)
    except Uncovered:
        return
    assert decided == outcome(whole, chain)


def test_the_whole_row_chooses_what_a_preview_chooses(tiny_model):
    random = np.random.default_rng(1)
    chain = s.Penalties(repeat=1.2) | s.TopK(30) | s.XTC(0.5, 0.05) | s.Temperature(1.3)
    for seed in range(50):
        row = random.normal(size=N_VOCAB).astype(np.float32)
        whole = moments(tiny_model, row, chain, [5, 6, 7], seed, seed % 4)
        view = chain.preview(row, model=tiny_model, history=[5, 6, 7], seed=seed, step=seed % 4)
        assert outcome(whole, chain) == view.choice


COVERED = [
    s.TopK(40) | s.TopP(0.95) | s.MinP(0.05) | s.Temperature(0.8),
    s.Penalties(repeat=1.1) | s.TopK(40) | s.Temperature(1.4),
    s.Temperature(1.3) | s.MinP(0.05),
    s.TopP(0.7) | s.Temperature(0.9),
    s.LogitBias({3: 1.0, 4: -math.inf}) | s.TopK(20),
    Chain([s.Greedy()]),
    Chain([s.Temperature(0)]),
    Chain.default(),
]


@pytest.mark.parametrize("chain", COVERED, ids=repr)
def test_the_chains_people_use_are_decided_by_a_part_of_the_row(chain, tiny_model):
    random = np.random.default_rng(3)
    for seed in range(40):
        row = (3 * random.normal(size=N_VOCAB)).astype(np.float32)
        whole = moments(tiny_model, row, chain, [200, 201], seed)
        assert outcome(cut(whole, 200), chain) == outcome(whole, chain)


UNCOVERED = [
    (s.TopK(50), "keeps 50 tokens and the record is sure of 19"),
    (s.TopNSigma(1.0), "reads all of the row"),
    (s.Typical(0.9), "reads all of the row"),
    (s.MinP(0.001), "may keep tokens that were not kept"),
    (s.TopP(0.99999), "may keep tokens that were not kept"),
    (s.Penalties(repeat=0.5), "may raise tokens that were not kept"),
    (s.Mask(allow=[250]), "leaves none of the tokens that were kept"),
    (s.Custom(lambda row, history: row), "reads all of the row"),
]


@pytest.mark.parametrize(("stage", "why"), UNCOVERED, ids=lambda x: repr(x)[:40])
def test_what_needs_more_than_was_kept_says_so(stage, why, tiny_model):
    row = np.linspace(3, 0, N_VOCAB, dtype=np.float32)
    part = cut(moments(tiny_model, row, Chain([stage]), [240]), 20)
    with pytest.raises(Uncovered, match=why):
        outcome(part, Chain([stage]))


@pytest.mark.parametrize("last", [s.Mask(allow=[1]), s.LogitBias({1: 1.0}), s.Mask(ban=[1])])
def test_a_stage_that_asks_for_tokens_is_unsure_which_of_some_twins_are_left(last, tiny_model):
    row = np.full(N_VOCAB, -9, np.float32)
    row[:9] = 1.0  # all alike: which eight a top-k leaves is a matter of order
    chain = s.TopK(8) | last
    with pytest.raises(Uncovered, match="has a twin"):
        outcome(cut(moments(tiny_model, row, chain), 20), chain)
    row[:9] += np.arange(9) / 8
    whole = moments(tiny_model, row, chain)
    assert outcome(cut(whole, 20), chain) == outcome(whole, chain)


def test_what_two_masks_ban_is_counted_once(tiny_model):
    chain = s.Mask(allow=[0, 2]) | s.Mask(ban=[0, 1])
    whole = moments(tiny_model, np.linspace(3, 0, N_VOCAB, dtype=np.float32)[::-1], chain)
    assert outcome(whole, chain) == 2
    with pytest.raises(Uncovered):
        outcome(cut(whole, 8), chain)


def test_the_bounds_of_a_tail_hold_its_mass_also_when_it_is_heated():
    random = np.random.default_rng(0)
    for number_ in range(200):
        row = (random.normal(size=500) * random.uniform(0.1, 5)).astype(np.float32)
        order = np.argsort(-row)
        kept, left = row[order[:300]], row[order[300:]].astype(np.float64)
        tail = Tail.of(kept, 500, log_total(row))
        assert tail.n == 200
        t = (0.3, 0.9, 1.0, 2.5)[number_ % 4]
        no_ids = np.zeros(0, np.int32)
        hot = s.Temperature(t).tail_after(tail, Known(kept, no_ids, no_ids, sampler=None))
        for bounds, logits in ((tail, left), (hot, left / t)):
            mass = math.log(np.exp(logits).sum())
            assert bounds.log_low - 1e-9 <= mass <= bounds.log_high + 1e-9
            assert logits.max() <= bounds.ceiling + 1e-5


def test_most_draws_of_the_plain_distribution_are_sure(tiny_model):
    random = np.random.default_rng(5)
    sure = Counter()
    for seed in range(300):
        row = (3 * random.normal(size=N_VOCAB)).astype(np.float32)
        whole = moments(tiny_model, row, Chain(), (), seed)
        part = cut(whole, 200)
        try:
            sure[outcome(part, Chain()) == outcome(whole, Chain())] += 1
        except Uncovered as why:
            assert "the draw may fall on" in str(why)
    assert sure[False] == 0
    assert sure[True] > 250
