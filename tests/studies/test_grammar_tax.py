"""What a grammar cost is what full rows of logits say, or lies within bounds; and is told so."""

from __future__ import annotations

import math

import numpy as np
import pytest

import mullama_lab as ml
from mullama_lab.engine import tiny
from mullama_lab.engine.grammar import Grammar
from mullama_lab.engine.grammar.matching.matcher import matcher
from mullama_lab.studies.grammar_tax import GrammarTax, grammar_tax

WARM = ml.Temperature(1.5)
PAIRS = Grammar.gbnf('root ::= pair+\npair ::= [a-m] [n-z0-9] ("-" | " ")?')
NOISE = 2e-3  # nats, between a row of a batch and one alone
FEW = 600  # words of the larger vocabulary that the grammar of WORDS allows


@pytest.fixture(scope="module")
def session(tiny_model):
    with tiny_model.session(n_ctx=256, n_threads=1) as session:
        yield session


@pytest.fixture(scope="module")
def large(tmp_path_factory):
    """A session of a model whose rows a trace does not keep whole."""
    path = tiny.write(tmp_path_factory.mktemp("tax") / "large.gguf", n_vocab=9000)
    with ml.Model.load(path) as model, model.session(n_ctx=256, n_threads=1) as session:
        yield session


def direct(session, trace, step, grammar):
    """The cost and the likeliest forbidden token, from the whole row; before the chain."""
    row = session.logits(trace.history(step)).astype(np.float64)
    work = matcher(session.model, grammar)
    assert all(work.accept(int(token)) for token in trace.tokens[:step])
    return of_row(row, work.allowed())


def of_row(row, allowed):
    weights = np.exp(row - row.max())
    cost = -math.log(weights[allowed].sum() / weights.sum())
    forbidden = np.where(allowed, -np.inf, row)
    return cost, int(forbidden.argmax())


@pytest.mark.parametrize("seed", range(4))
def test_the_cost_is_what_the_whole_rows_say(session, seed):
    trace = session.generate("Hello", WARM, grammar=PAIRS, max_tokens=16, seed=seed)
    found = grammar_tax(trace, on=session.model)
    assert found.sure.all() and set(found.sources) == {"kept"} and len(found) == len(trace)
    for step in range(len(trace)):
        cost, wanted = direct(session, trace, step, PAIRS)
        assert found.nats[step] == pytest.approx(cost, abs=NOISE)
        assert found.wanted[step] == wanted
        row = session.logits(trace.history(step)).astype(np.float64)
        logprob = row[wanted] - row.max() - math.log(np.exp(row - row.max()).sum())
        assert found.wanted_logprob[step] == pytest.approx(logprob, abs=NOISE)
    assert found.total == pytest.approx(found.nats.sum())
    assert found.removed == pytest.approx(1 - np.exp(-found.nats))
    assert found.nats[found.dearest] == found.nats.max() > 0


def test_of_rows_that_were_kept_in_part_there_are_bounds_and_a_session_knows(large):
    words = [large.model.piece(token).decode() for token in range(259, 9000, 9000 // FEW)]
    grammar = Grammar.choice(words).many()
    trace = large.generate("Hello", WARM, grammar=grammar, max_tokens=12, seed=2)
    assert len(trace.kept(0)[0]) < large.model.n_vocab
    bounds, known = grammar_tax(trace, on=large.model), grammar_tax(trace, on=large)
    assert not bounds.sure.any() and known.sure.all()
    assert set(known.sources) == {"decoded"}
    assert "only bounds are known; pass on=session" in repr(bounds)
    assert "on=session" not in bounds.summary() and "on=session" not in repr(known)
    for step in range(len(trace)):
        cost, wanted = direct(large, trace, step, grammar)
        assert bounds.nats[step] - NOISE <= cost <= bounds.nats_high[step] + NOISE
        assert known.nats[step] == pytest.approx(cost, abs=NOISE)
        assert known.wanted[step] == wanted
    assert bounds.total <= known.total + NOISE * 12 and known.total <= bounds.total_high + 1


def test_where_no_token_of_the_tail_may_come_a_part_of_the_row_is_enough(large):
    free = large.generate("Hello", WARM, max_tokens=1, seed=1)
    likely = [int(token) for token in free.top_ids[0] if not large.model.is_eog(int(token))]
    grammar = Grammar.gbnf(f"root ::= (<[{likely[1]}]> | <[{likely[40]}]>)+")
    trace = large.generate("Hello", WARM, grammar=grammar, max_tokens=1, seed=1)
    found = grammar_tax(trace, on=large.model)
    assert found.sure[0] and found.sources == ("kept",)
    cost, wanted = direct(large, trace, 0, grammar)
    assert found.nats[0] == pytest.approx(cost, abs=NOISE) and found.wanted[0] == wanted


def test_stages_before_the_grammar_count_in_what_it_is_asked_of(session):
    chain = ml.TopK(60) | ml.LogitBias({100: 5.0}) | ml.Constrain(PAIRS) | WARM
    trace = session.generate("Hello", chain, max_tokens=8, seed=3)
    found = grammar_tax(trace, on=session.model)
    for step in range(len(trace)):
        row = session.logits(trace.history(step)).astype(np.float64)
        row[np.argsort(-row, kind="stable")[60:]] = -np.inf
        row[100] += 5.0
        work = matcher(session.model, PAIRS)
        assert all(work.accept(int(token)) for token in trace.tokens[:step])
        cost, wanted = of_row(row, work.allowed())
        assert found.nats[step] == pytest.approx(cost, abs=NOISE)
        assert found.wanted[step] == wanted


def test_two_grammars_cost_one_after_the_other(session):
    other = Grammar.gbnf("root ::= [a-z0-9-]*")
    chain = ml.Constrain(other) | ml.Constrain(PAIRS) | WARM
    trace = session.generate("Hello", chain, max_tokens=6, seed=3)
    found = grammar_tax(trace, on=session.model)
    for step in range(len(trace)):
        row = session.logits(trace.history(step)).astype(np.float64)
        masks = []
        for grammar in (other, PAIRS):
            work = matcher(session.model, grammar)
            assert all(work.accept(int(token)) for token in trace.tokens[:step])
            masks.append(work.allowed())
        assert found.nats[step] == pytest.approx(of_row(row, masks[0] & masks[1])[0], abs=NOISE)


def test_where_no_grammar_is_in_force_nothing_costs(session):
    chains = {
        0: ml.Constrain(PAIRS) | WARM,
        3: ml.Chain([WARM]),
        5: ml.Constrain(Grammar.gbnf("root ::= .*")),
    }
    trace = session.generate("Hello", chains, max_tokens=7, seed=1)
    found = grammar_tax(trace, on=session.model)
    assert (found.nats[:3] > 0).all() and (found.nats[3:] == 0).all() and found.sure.all()
    assert found.sources[:4] == ("kept", "kept", "kept", "") and (found.wanted[3:] == -1).all()
    with pytest.raises(ValueError, match="no grammar was in force"):
        grammar_tax(session.generate("Hello", WARM, max_tokens=3, seed=1), on=session.model)
    with pytest.raises(ValueError, match="no grammar was in force"):
        banned = ml.Mask(ban=[5]) | ml.Ban(["x"]) | WARM
        grammar_tax(session.generate("Hello", banned, max_tokens=3, seed=1), on=session.model)


def test_before_its_marker_a_grammar_costs_next_to_nothing(session):
    stage = ml.Constrain(PAIRS, after="q")
    trace = session.generate("Hello", ml.Chain([stage, WARM]), max_tokens=5, seed=1)
    assert b"q" not in trace.text_bytes
    assert grammar_tax(trace, on=session.model).nats == pytest.approx(np.zeros(5), abs=1e-6)


def test_it_says_what_the_model_wanted(smollm2):
    with smollm2.session(n_ctx=256) as session:
        prompt = "Question: What is the capital of France?\nAnswer:"
        grammar = Grammar.gbnf('root ::= " The city is " [A-Z] [a-z]+ "."')
        trace = session.generate(prompt, ml.Greedy(), grammar=grammar, max_tokens=12)
        found = grammar_tax(trace, on=session)
        free = session.logits(prompt)
        assert found.wanted[0] == of_row(free, direct_mask(smollm2, grammar))[1]
        for step in range(len(trace)):
            cost, _ = direct(session, trace, step, grammar)
            assert found.nats[step] == pytest.approx(cost, abs=0.15)  # of quantised weights
        step = found.dearest
        wanted = found.to_pandas()["wanted_text"][step]
        share = found.nats[step] / found.total
        left = math.exp(-found.nats[step])
        shown = f"{left:.1%}" if left >= 0.001 else "less than 0.1%"
        assert found.summary() == (
            f"the grammar cost {found.total:.3g} nats (-ln of the probability it left) over "
            f"{len(trace)} tokens; {share:.0%} of that at token {step}, where it left {shown} "
            f"and the model wanted `{wanted}`"
        )
        table = found.to_pandas()
        assert len(table) == len(trace) and table["text"][0].startswith("·The")


def test_it_says_in_words_what_is_known():
    def told(nats, high):
        zero = np.zeros(2)
        found = GrammarTax(zero.astype(int), np.array(nats), np.array(high), zero.astype(int) - 1,
                           zero, ("kept",) * 2, {0: b"a"})  # fmt: skip
        return found.summary()

    cost = "the grammar cost {} (-ln of the probability it left) over 2 tokens; {}"
    bounds = "; of 1 token only bounds are known"
    assert told([0, 0], [0, 0]) == "the grammar cost nothing over 2 tokens"
    sure = cost.format("2 nats", "75% of that at token 1, where it left 22.3%")
    assert told([0.5, 1.5], [0.5, 1.5]) == sure
    some = cost.format("2 to 3 nats", "most of that at token 1, where it left at most 22.3%")
    assert told([0.5, 1.5], [0.5, 2.5]) == some + bounds
    near = cost.format("2 nats", "most of that at token 1, where it left at most 22.3%")
    assert told([0.5, 1.5], [0.5, 1.5002]) == near + bounds
    few = cost.format("at least 9 nats", "most of that at token 0, where it left less than 0.1%")
    assert told([9, 0], [9, math.inf]) == few + bounds
    assert told([0, 0], [0, math.inf]).startswith("the grammar cost at least 0 nats (")


def direct_mask(model, grammar):
    return matcher(model, grammar).allowed()
