"""A branch goes on from another token: same prompt, same draws, nothing decoded in vain."""

from __future__ import annotations

import json
import threading
import time

import numpy as np
import pytest

from mullama_lab.engine import tiny
from mullama_lab.engine.model import Model
from mullama_lab.engine.stages import (
    AdaptiveP,
    Chain,
    Custom,
    Mask,
    Mirostat,
    MirostatV2,
    Penalties,
    Temperature,
    TopK,
    TopP,
)
from mullama_lab.engine.trace import Trace

EOS = tiny.EOS
NO_END = Chain([Mask(ban=[EOS])])
NOISE = 0.02  # other batch sizes give other roundings; another prompt differs by more than 1
PROMPT = [1, *range(10, 50)]
A, B, Z = (ord(c) + 3 for c in "abz")


def other_than(trace, step):
    """The likeliest token that was not chosen."""
    return next(t for t in trace.top_ids[step].tolist() if t not in (trace.tokens[step], EOS))


# What it costs.


def test_adding_a_branch_decodes_one_token(session, trace):
    before = session.tokens.tolist()
    for step in (19, 12, 7, 0):
        earlier = session.ledger
        branch = session.branch(trace, step, other_than(trace, step), max_tokens=1)
        spent = session.ledger - earlier
        assert (spent.decoded, spent.forked) == (1, len(PROMPT) + step)
        assert (branch.n_prompt_decoded, branch.n_prompt_reused) == (1, len(PROMPT) + step)
    assert session.tokens.tolist() == before
    assert session.n_cells == len(before) + 4


def test_a_branch_of_a_branch_decodes_one_token(session, trace, cost):
    first = session.branch(trace, 5, Z, max_tokens=10)
    second, spent = cost(session, lambda: session.branch(first, 9, Z, max_tokens=0))
    assert spent.decoded == 1
    assert second.tokens.tolist() == [*first.tokens[:9], Z]
    assert (len(second), second.finish_reason) == (10, "length")


def test_with_one_sequence_a_branch_takes_the_place_of_its_parent(tiny_model, cost):
    with tiny_model.session(n_ctx=256, n_threads=1, n_seq_max=1) as session:
        trace = session.generate(PROMPT, NO_END, max_tokens=20, seed=3)
        branch, spent = cost(session, lambda: session.branch(trace, 7, Z, max_tokens=1))
        assert (spent.decoded, spent.reused) == (1, len(PROMPT) + 7)
        assert session.tokens.tolist() == [*PROMPT, *trace.tokens[:7], Z]
        assert len(branch) == 9


def test_more_branches_than_sequences_take_the_place_of_the_oldest(session, trace, cost):
    branches = [session.branch(trace, 5, token, max_tokens=1) for token in range(100, 110)]
    assert session.tokens.tolist() == [*PROMPT, *trace.tokens[:-1]]
    assert len(session.sequences) == 8
    _, spent = cost(session, lambda: session.branch(branches[-1], 6, Z, max_tokens=0))
    assert spent.decoded == 1
    _, spent = cost(session, lambda: session.branch(trace, 18, Z, max_tokens=0))
    assert spent.decoded == 1


@pytest.mark.parametrize("architecture", ["mamba", "jamba"])
def test_a_recurrent_model_decodes_its_branches_again_and_says_so(architecture, tmp_path, cost):
    path = tiny.write(tmp_path / "tiny.gguf", architecture=architecture)
    with Model.load(path) as model, model.session(n_ctx=256, n_threads=1, n_seq_max=4) as session:
        trace = session.generate(PROMPT, NO_END, max_tokens=20, seed=3)
        branch, spent = cost(session, lambda: session.branch(trace, 7, Z, max_tokens=3))
        n = len(PROMPT) + 7
        assert (spent.decoded, spent.decoded_again, spent.reused) == (n + 1 + 2, n, 0)
        assert (branch.n_prompt_decoded, branch.n_prompt_reused) == (n + 1, 0)


# What it is.


def test_the_branch_to_the_token_that_was_chosen_is_the_trace_itself(session):
    chain = NO_END | Penalties(1.3) | TopK(20) | Temperature(1.3)
    trace = session.generate(PROMPT, chain, max_tokens=20, seed=3)
    branch = session.branch(trace, 7, int(trace.tokens[7]), max_tokens=12)
    assert branch.tokens.tolist() == trace.tokens.tolist()
    assert branch.forced.tolist() == [i == 7 for i in range(20)]
    for name in ("rank", "n_kept", "top_ids"):
        assert getattr(branch, name).tolist() == getattr(trace, name).tolist()
    for name in ("logprob", "logprob_after", "entropy", "logsumexp", "top_logprobs"):
        np.testing.assert_allclose(
            getattr(branch, name), getattr(trace, name), atol=0.01, err_msg=name
        )
    assert branch.chains == trace.chains
    assert (branch.seed, branch.top, branch.n_copied) == (3, 64, 8)
    assert branch.prompt_tokens.tolist() == PROMPT


def test_a_branchs_logits_are_those_of_a_fresh_decode(any_model):
    options = {"n_ctx": 256, "n_threads": 1}
    with any_model.session(n_seq_max=4, **options) as session, any_model.session(**options) as one:
        trace = session.generate(PROMPT, NO_END, max_tokens=20, seed=3)
        session.branch(trace, 15, Z, max_tokens=5)
        branch = session.branch(trace, 9, Z, max_tokens=6)
        for step in range(9, 16):
            row = one.logits(branch.history(step).tolist())
            ids, logits = branch.kept(step)
            np.testing.assert_allclose(logits, row[ids], atol=NOISE)
            token = branch.tokens[step]
            logprob = row[token] - np.logaddexp.reduce(row.astype(np.float64))
            assert branch.logprob[step] == pytest.approx(logprob, abs=NOISE)
            assert branch.rank[step] == pytest.approx(np.sum(row > row[token]), abs=1)


def test_the_draws_after_it_are_those_of_the_same_seed_and_step(session, trace):
    branch = session.branch(trace, 7, Z, max_tokens=8)
    history = [*PROMPT, *trace.tokens[:7], Z]
    again = session.generate(history, NO_END | TopK(40), max_tokens=8, seed=3)
    assert branch.tokens[8:].tolist() != again.tokens.tolist()  # its steps have other numbers
    for step in range(8, 16):
        row = np.full(259, -np.inf, np.float32)
        ids, logits = branch.kept(step)
        row[ids] = logits
        view = (NO_END | TopK(40)).preview(
            row, model=session.model, history=branch.history(step), seed=3, step=step
        )
        assert view.choice == branch.tokens[step]


def test_the_steps_before_it_are_shared_with_its_parent(session, trace):
    branch = session.branch(trace, 7, Z, max_tokens=4)
    assert branch[:7].columns()["token"].tolist() == trace[:7].tokens.tolist()
    for step in range(8):
        assert branch.kept(step)[0] is trace.kept(step)[0]
        assert branch.top_logprobs[step].tolist() == trace.top_logprobs[step].tolist()
    assert branch.decode_ns[:7].tolist() == trace.decode_ns[:7].tolist()
    assert len(trace) == 20
    assert not trace.forced.any()


def test_the_given_token_has_the_numbers_of_its_row(session, trace):
    token = other_than(trace, 7)
    step = session.branch(trace, 7, token, max_tokens=0)[7]
    ids, logits = trace.kept(7)
    assert step.forced
    assert step.token == token
    assert step.logprob == pytest.approx(logits[ids == token][0] - trace.logsumexp[7], abs=1e-6)
    assert step.rank == np.sum(logits > logits[ids == token][0])
    after = dict(zip(trace.after_ids[7].tolist(), trace.after_logprobs[7].tolist(), strict=True))
    assert step.logprob_after == pytest.approx(after[token])
    assert "forced" not in repr(trace[7])


def test_a_token_that_the_chain_had_removed_has_no_probability_after_it(session):
    trace = session.generate(PROMPT, NO_END | TopK(3), max_tokens=5, seed=1)
    removed = int(trace.top_ids[2, 10])
    step = session.branch(trace, 2, removed, max_tokens=0)[2]
    assert (step.logprob_after, step.rank) == (-np.inf, 10)
    assert np.isfinite(step.logprob)


def test_what_the_record_lacks_is_decoded_again(session, cost):
    trace = session.generate(PROMPT, TopP(0.999), max_tokens=9, seed=1, top=2)
    told = Trace.from_dict(json.loads(json.dumps(trace.to_dict())))  # without rows
    rare = int(trace.kept(4)[0][np.argsort(trace.kept(4)[1])[100]])
    branch, spent = cost(session, lambda: session.branch(told, 4, rare, max_tokens=0))
    assert spent.decoded == 2
    ids, logits = trace.kept(4)
    logit = logits[ids == rare][0]
    assert branch[4].logprob == pytest.approx(logit - trace.logsumexp[4], abs=NOISE)
    assert branch[4].rank == pytest.approx(np.sum(logits > logit), abs=1)
    row = np.full(259, -np.inf, np.float32)
    row[ids] = logits
    view = TopP(0.999).__or__(Chain()).preview(row, model=session.model, top=259)
    last = view.stages[-1]
    after = dict(zip(last.ids.tolist(), last.probs.tolist(), strict=True))
    assert np.exp(branch[4].logprob_after) == pytest.approx(after.get(rare, 0), rel=0.1)
    assert branch.kept(3) is None
    listed, spent = cost(
        session, lambda: session.branch(told, 4, int(told.top_ids[4, 1]), max_tokens=0)
    )
    assert listed[4].rank == 1


@pytest.mark.parametrize("stage", [Mirostat(), MirostatV2(), AdaptiveP(0.3)])
def test_a_stage_that_learns_learns_from_the_given_token(session, stage, cost):
    chain = NO_END | stage
    trace = session.generate(PROMPT, chain, max_tokens=12, seed=3)
    branch, spent = cost(
        session, lambda: session.branch(trace, 5, int(trace.tokens[5]), max_tokens=6)
    )
    assert spent.decoded == 1 + 5
    told = Trace.from_dict(trace.to_dict())  # without rows
    again, spent = cost(
        session, lambda: session.branch(told, 5, int(trace.tokens[5]), max_tokens=6)
    )
    assert spent.decoded == 2 + 5
    assert again.tokens.tolist() == trace.tokens.tolist()
    assert branch.tokens.tolist() == trace.tokens.tolist()
    for step in range(12):
        np.testing.assert_allclose(branch.state(step)[1], trace.state(step)[1], atol=0.01)
    other = session.branch(trace, 5, other_than(trace, 5), max_tokens=1)
    assert other.state(6) != trace.state(6)
    _, spent = cost(session, lambda: session.branch(trace, 5, Z, TopK(1), max_tokens=1))
    assert spent.decoded == 1  # nobody goes on learning


def test_the_chain_of_a_branch_is_that_of_the_step_unless_another_is_given(session):
    trace = session.generate(PROMPT, NO_END, max_tokens=9, seed=1)
    trace.chains = [(0, NO_END), (4, NO_END | TopK(1)), (7, NO_END | TopK(2))]
    assert session.branch(trace, 5, Z, max_tokens=2).chains == [(0, NO_END), (4, NO_END | TopK(1))]
    assert session.branch(trace, 3, Z, max_tokens=2).chains == [(0, NO_END)]
    other = session.branch(trace, 7, Z, TopK(7), max_tokens=2)
    assert other.chains == [*trace.chains, (8, Chain([TopK(7)]))]
    assert other[8].n_kept == (7,)


def test_another_seed_and_another_number_of_alternatives_can_be_asked_for(session, trace):
    branch = session.branch(trace, 3, Z, seed=9, top=3, max_tokens=2)
    assert (branch.seed, branch.top_ids.shape) == (9, (6, 3))
    assert branch.top_ids[:4].tolist() == trace.top_ids[:4, :3].tolist()
    wide = session.branch(trace, 3, Z, top=100, max_tokens=2)
    assert wide.top_ids.shape == (6, 100)
    assert wide.top_ids[2, 64:].tolist() == [-1] * 36
    assert (wide.top_ids[5] >= 0).all()
    scored = session.branch(session.score(PROMPT), 3, Z, max_tokens=2)
    assert scored.seed is not None


def test_a_scored_text_can_be_branched(session):
    scored = session.score(PROMPT)
    branch = session.branch(scored, 4, Z, NO_END, max_tokens=3)
    assert branch.tokens[:5].tolist() == [*PROMPT[1:5], Z]
    assert branch[4].logprob_after == pytest.approx(branch[4].logprob)
    assert branch.chain == NO_END


def test_a_branch_ends_with_a_given_token_that_ends_a_text(session, trace, cost):
    branch, spent = cost(session, lambda: session.branch(trace, 4, EOS, max_tokens=9))
    assert (branch.finish_reason, len(branch), spent.decoded) == ("eog", 5, 0)


def test_a_stop_string_may_begin_before_the_given_token(session, trace, cost):
    text = Mask(allow=[A]).__or__(Chain())
    first = session.generate(PROMPT, text, max_tokens=6, seed=1)
    branch, spent = cost(session, lambda: session.branch(first, 3, "b", stop="aab", max_tokens=9))
    assert (branch.finish_reason, branch.text, spent.decoded) == ("stop", "a", 0)
    branch = session.branch(first, 3, "b", stop=["abaa", "x"], max_tokens=9)
    assert (branch.finish_reason, branch.text, len(branch)) == ("stop", "aa", 6)


def test_a_branch_survives_json(session, trace):
    branch = session.branch(trace, 4, Z, max_tokens=3)
    again = Trace.from_dict(json.loads(json.dumps(branch.to_dict())))
    assert again == branch
    assert again.forced.tolist() == branch.forced.tolist()
    assert again.n_copied == 5
    assert branch.to_pandas()["forced"].tolist() == [False] * 4 + [True] + [False] * 3


def test_a_dict_from_before_there_were_branches_is_read(trace):
    data = trace.to_dict()
    del data["columns"]["forced"], data["n_copied"]
    assert Trace.from_dict(data) == trace


def test_speed_counts_only_the_steps_that_were_drawn(session, trace):
    branch = session.branch(trace, 18, Z, max_tokens=5)
    spent = branch.seconds - branch.seconds_to_first_token
    assert branch.tokens_per_second == pytest.approx(4 / spent)


# Started, several at once, two at once.


def test_a_started_branch_is_a_run(session, trace):
    seen = []
    forget = session.on_start(seen.append)
    run = session.start_branch(trace, 7, Z, max_tokens=6)
    tokens = [step.token for step in run]
    forget()
    assert seen == [run]
    assert tokens == [*trace.tokens[:7], Z, *run.trace.tokens[8:]]
    assert (run.state, len(tokens), session.last_trace) == ("finished", 14, run.trace)


def test_several_branches_run_in_one_batch(session, trace, cost):
    forks = [(trace, step, token) for step in (3, 9) for token in (Z, A, B)]
    alone = [session.branch(*fork, max_tokens=5).tokens.tolist() for fork in forks]
    together, spent = cost(session, lambda: session.branch_many(forks, max_tokens=5))
    assert [t.tokens.tolist() for t in together] == alone
    assert spent.batches <= 6 + 4
    runs = session.start_branches(forks[:2], TopK(1), max_tokens=2)
    assert [len(t) for t in runs.wait(20)] == [6, 6]
    with pytest.raises(ValueError, match="no branch is given"):
        session.branch_many([])


def test_each_of_several_branches_has_a_chain_and_a_seed_of_its_own(session, trace):
    forks = [(trace, 3, Z), (trace, 9, A)]
    both = session.branch_many(forks, [TopK(9), TopP(0.9)], max_tokens=3, seeds=[5, 6])
    alone = [
        session.branch(*fork, chain, max_tokens=3, seed=seed)
        for fork, chain, seed in zip(forks, (TopK(9), TopP(0.9)), (5, 6), strict=True)
    ]
    assert [t.chain for t in both] == [Chain([TopK(9)]), Chain([TopP(0.9)])]
    assert [t.seed for t in both] == [5, 6]
    assert [t.tokens.tolist() for t in both] == [t.tokens.tolist() for t in alone]
    one = session.branch_many(forks, TopK(9) | TopP(0.9), max_tokens=1, seeds=5)
    assert [(t.chain, t.seed) for t in one] == [(TopK(9) | TopP(0.9), 5)] * 2
    as_they_were = session.branch_many(forks, [None, TopK(1)], max_tokens=1, seeds=[None, 5])
    assert [t.seed for t in as_they_were] == [trace.seed, 5]
    assert as_they_were[0].chain == trace.chain
    with pytest.raises(ValueError, match="2 branches, 3 chains, 1 seeds: give one of"):
        session.branch_many(forks, [TopK(9)] * 3)
    with pytest.raises(ValueError, match="2 branches, 1 chains, 1 seeds: give one of seeds, or 2"):
        session.branch_many(forks, seeds=[1])


def test_two_branches_at_once_do_not_disturb_each_other(session, trace):
    expected = [session.branch(trace, 6, token, max_tokens=9) for token in (A, B)]
    found = [None, None]

    def work(place, token):
        found[place] = session.branch(trace, 6, token, max_tokens=9)

    threads = [threading.Thread(target=work, args=x) for x in enumerate((A, B))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert [t.tokens.tolist() for t in found] == [t.tokens.tolist() for t in expected]


def test_a_branch_that_waits_says_so_and_not_that_it_runs(session):
    parent = session.generate("Hi", NO_END, max_tokens=6, seed=1)
    other = session.start("Hi", Custom(_slowly) | NO_END, max_tokens=10_000, seed=1)
    while not len(other.trace):
        time.sleep(0.002)
    branch = session.start_branch(parent, 4, int(parent.top_ids[4][3]), max_tokens=3)
    assert (branch.state, other.state, len(branch.trace)) == ("queued", "running", 4)
    other.stop()
    assert len(branch.wait()) == 8 and branch.state == "finished"


def _slowly(logits, history):
    time.sleep(0.002)
    return logits
