"""Explore: the likeliest prefixes, against all prefixes one by one."""

from __future__ import annotations

import gc
import math
import os
import signal
import threading

import numpy as np
import pytest

from mullama_lab.engine import stages as s
from mullama_lab.engine import tiny
from mullama_lab.engine.model import Model
from mullama_lab.engine.noise_floor import NoiseFloor, known_floor, remember
from mullama_lab.engine.tree import Tree
from mullama_lab.errors import ClosedError, ContextFull
from mullama_lab.studies import explore as study
from mullama_lab.studies._prefixes import Prefix, tied
from mullama_lab.studies.explore import Exploration, explore

NOISE = 1e-2  # nats, between rows of batches of other sizes


@pytest.fixture(scope="module")
def session(tiny_model):
    with tiny_model.session(n_ctx=512, n_threads=1, n_seq_max=4) as session:
        yield session


def logprobs(session, tokens):
    row = session.logits(tokens).astype(np.float64)
    return row - row.max() - math.log(np.exp(row - row.max()).sum())


@pytest.fixture(scope="module")
def every(session, tiny_model):
    """ln p of every prefix of one and two tokens after "Hi", decoded one by one."""
    prompt = tiny_model.tokenize("Hi")
    first = logprobs(session, prompt)
    table = {(a,): first[a] for a in range(len(first))}
    for a in range(len(first)):
        if not tiny_model.is_eog(a):
            second = first[a] + logprobs(session, [*prompt, a])
            table.update(((a, b), second[b]) for b in range(len(second)))
    return table


@pytest.mark.parametrize("at_once", [1, 3, 4])
def test_the_k_most_probable_prefixes_are_those_of_all_prefixes(session, every, at_once):
    found = explore("Hi", on=session, budget=60, max_tokens=2, at_once=at_once)
    k = len(found)
    best = sorted(every.values(), reverse=True)
    assert k == 60
    np.testing.assert_allclose([prefix.logprob for prefix in found], best[:k], atol=NOISE)
    mine = {tuple(prefix.tokens) for prefix in found}
    assert mine >= {t for t, p in every.items() if p > best[k - 1] + NOISE}
    assert mine <= {t for t, p in every.items() if p > best[k - 1] - NOISE}
    for prefix in found:
        assert prefix.logprob == pytest.approx(every[tuple(prefix.tokens)], abs=NOISE)


def test_one_at_a_time_goes_on_from_as_many_as_it_finds(session):
    found = explore("Hi", on=session, budget=20, at_once=1)
    assert (len(found), found.n_expanded) == (20, 20)


def test_more_in_a_batch_find_the_same(session):
    alone = explore("ab", on=session, budget=40, at_once=1)
    batch = explore("ab", on=session, budget=40, at_once=4)
    n = len(batch)
    assert 30 <= n <= 40 and batch.n_expanded <= 40
    np.testing.assert_allclose(
        [p.logprob for p in batch], [p.logprob for p in alone][:n], atol=NOISE
    )


def test_a_prefix_costs_one_token(session):
    session.reset()
    before = session.ledger
    found = explore([1, *range(10, 200)], on=session, budget=12, max_tokens=2)
    assert (session.ledger - before).decoded == 191 + found.n_expanded - 1


def test_texts_that_begin_alike_are_one_batch_and_have_the_rows_of_each_alone(session):
    session.reset()
    before, rows = session.ledger, {}
    texts = [[1, *range(10, 60), token] for token in (70, 80, 90, 100)]
    session.start_rows(texts, lambda place, row: rows.update({place: row.copy()})).result()
    spent = session.ledger - before
    assert (spent.decoded, spent.batches) == (51 + 4, 2)
    for place, tokens in enumerate(texts):
        np.testing.assert_allclose(rows[place], session.logits(tokens), atol=NOISE)


def test_the_tree_has_the_leaves_with_their_probabilities(session):
    found = explore("Hi", on=session, budget=30, max_tokens=4)
    tree = found.tree
    assert len(tree) == len(found.leaves)
    assert tree.mass == pytest.approx(found.mass, rel=1e-4)
    for branch, leaf in zip(tree, found.leaves, strict=True):
        assert branch.logprob == pytest.approx(leaf.logprob, abs=1e-4)
        assert branch.trace.forced.all() and branch.trace.finish_reason == "explored"
        fresh = session.score(branch.trace.history(len(branch)).tolist())[-len(branch) :]
        np.testing.assert_allclose(branch.trace.logprob, fresh.logprob, atol=NOISE)
        np.testing.assert_allclose(branch.trace.entropy, fresh.entropy, atol=NOISE)
        assert branch.trace.top_ids[:, 0].tolist() == fresh.top_ids[:, 0].tolist()
        assert abs(branch.trace.rank - fresh.rank).max() <= 1
    assert Tree.from_dict(tree.to_dict()) == tree


def test_the_probability_of_each_length_is_summed(session):
    found = explore("Hi", on=session, budget=30, max_tokens=2)
    ones = [math.exp(p.logprob) for p in found if p.n_tokens == 1]
    assert found.mass_by_length[1] == pytest.approx(sum(ones))
    table = found.to_pandas()
    assert table["p"].is_monotonic_decreasing and len(table) == len(found)
    assert table.loc[table["leaf"], "p"].sum() == pytest.approx(found.mass)


def chain_of(*steps):
    """A prefix of (token, log-probability of the prefix so far)."""
    prefix = Prefix(-1, 0, 0.0, None, 0, False)
    for n, (token, logprob) in enumerate(steps, 1):
        prefix = Prefix(token, 0, logprob, prefix, n, False)
    return prefix


def test_an_order_is_noise_where_no_token_that_is_not_shared_is_off_by_more_than_the_floor():
    floor = NoiseFloor(logit=1, logprob=0.1, kl=1, js=1)
    a = chain_of((1, -0.10))
    a1 = chain_of((1, -0.10), (7, -0.11))  # behind its own beginning whatever the noise
    a2 = chain_of((1, -0.10), (8, -0.20))  # one own token, 0.09 behind
    b = chain_of((2, -0.39))  # two tokens are not shared, 0.19 behind
    c = chain_of((3, -0.50))  # one, 0.11 behind
    assert tied([a, a1, a2, b, c], floor) == [False, False, True, True, False]
    assert tied([a, b], None) == [None, None] and tied([], floor) == []


def test_the_table_says_which_order_is_noise_once_that_was_measured(session, tiny_model):
    found = explore("Hi", on=session, budget=60, max_tokens=2)
    before = known_floor(tiny_model)
    remember(tiny_model, None)
    assert found.to_pandas()["tied"].isna().all()
    assert "ml.studies.noise.noise(model)" in found._repr_html_()
    try:
        remember(tiny_model, NoiseFloor(logit=0.1, logprob=0.02, kl=1e-4, js=0.01))
        table = found.to_pandas()
        ones = table[table["n_tokens"] == 1]
        near = ones.index[1:][np.diff(ones.index) == 1]  # both of one token, side by side
        assert table["tied"].any() and not table["tied"].all()
        for i in near:
            assert table["tied"][i] == (table["logprob"][i - 1] - table["logprob"][i] <= 0.02)
        assert "not measured" not in found._repr_html_() and "tied" in found._repr_html_()
    finally:
        remember(tiny_model, before)


def test_an_explored_path_is_gone_on_from_like_any_other(session):
    found = explore("Hi", on=session, budget=10)
    trace = found.trace(found.leaves[0])
    last = len(trace) - 1
    longer = session.branch(trace, last, int(trace.tokens[last]), s.Greedy(), max_tokens=3)
    assert longer.tokens[: last + 1].tolist() == trace.tokens.tolist()
    fresh = session.generate(trace.history(last + 1).tolist(), s.Greedy(), max_tokens=3)
    assert longer.tokens[last + 1 :].tolist() == fresh.tokens.tolist()


def test_it_goes_on_from_a_trace_and_into_its_tree_as_one_change(session):
    trace = session.generate("Hi", s.Mask(ban=[tiny.EOS]), max_tokens=5, seed=1)
    tree = Tree([trace])
    found = explore(trace[:3], on=session, budget=12, into=tree)
    assert all(b.trace.tokens[:3].tolist() == trace.tokens[:3].tolist() for b in tree)
    rows = logprobs(session, trace.history(3).tolist())
    assert found[0].logprob == pytest.approx(rows.max(), abs=NOISE)
    assert len(tree) == 1 + len(found.leaves)
    assert tree.undo() == "an exploration added" and len(tree) == 1


def test_an_end_of_text_is_not_gone_on_from(session, tiny_model):
    found = explore("Hi", on=session, budget=300, max_tokens=1)
    ended = [p for p in found if p.ended]
    assert [p.token for p in ended] == [tiny.EOS]
    assert found.n_expanded == 1 and len(found) == tiny_model.n_vocab
    assert found.mass == pytest.approx(1, abs=1e-4)
    assert found.trace(ended[0]).finish_reason == "eog"
    with pytest.raises(ValueError, match="come to its end"):
        explore(found.trace(ended[0]), on=session)


def test_stop_ends_it_at_any_time_and_what_was_found_stays(session):
    exploration = Exploration("Hi", on=session, budget=2000, into=Tree())
    exploration.on_news = lambda: exploration.n_expanded >= 20 and exploration.stop()
    exploration.run(progress=False)
    assert exploration.state == "stopped"
    assert 20 <= exploration.n_expanded <= 24
    sure = explore("Hi", on=session, budget=len(exploration), at_once=1)
    np.testing.assert_allclose(
        [p.logprob for p in exploration], [p.logprob for p in sure], atol=NOISE
    )
    assert len(exploration.into) == len(exploration.leaves)
    early = Exploration("Hi", on=session)
    early.stop()
    assert len(early.run()) == 0 and early.state == "stopped"


@pytest.fixture
def without_collector():
    """Python drops an interrupt that comes while it calls back for an object that it collects."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


@pytest.mark.usefixtures("without_collector")
def test_an_interrupt_is_raised_and_the_tree_has_what_was_found(session):
    tree = Tree()
    timer = threading.Timer(0.15, os.kill, (os.getpid(), signal.SIGINT))
    timer.start()
    with pytest.raises(KeyboardInterrupt):
        explore("Hi", on=session, budget=2000, into=tree, progress=False)
    timer.join()
    assert len(tree) and session.generate("x", max_tokens=1, seed=1)


def test_a_bar_appears_when_it_takes_long(session, monkeypatch, capfd):
    monkeypatch.setattr("mullama_lab.engine.bar.SHOWN_AFTER", 0)
    explore("Hi", on=session, budget=20)
    assert "explore" in capfd.readouterr().err
    explore("Hi", on=session, budget=20, progress=False)
    assert not capfd.readouterr().err


def test_kept_sequences_are_left_alone(session):
    session.generate("keep me", max_tokens=2, seed=1)
    kept = session.fork()
    before = session.sequences[kept].tolist()
    explore("Hi", on=session, budget=30)
    assert session.sequences[kept].tolist() == before
    session.remove(kept)


def test_a_prompt_that_fills_the_context_finds_what_follows_it(tiny_model):
    with tiny_model.session(n_ctx=1) as small:
        prompt = [1] * small.n_ctx
        found = explore(prompt, on=small, budget=5)
        assert (found.max_tokens, found.n_expanded, len(found)) == (1, 1, 5)
        with pytest.raises(ContextFull, match="larger n_ctx"):
            explore(prompt, on=small, max_tokens=2)


def test_what_cannot_be_is_refused(session, tiny_model):
    for wrong in ({"budget": 0}, {"budget": study.MOST_BUDGET + 1}, {"max_tokens": 0}):
        with pytest.raises(ValueError, match="must be from"):
            explore("Hi", on=session, **wrong)
    with pytest.raises(ValueError, match="at_once=9"):
        explore("Hi", on=session, at_once=9)
    with pytest.raises(TypeError, match="Session"):
        explore("Hi", on=tiny_model)
    with pytest.raises(ContextFull, match="max_tokens=3 or less"):
        explore([1] * 510, on=session, max_tokens=4)
    with pytest.raises(ValueError, match="another prompt"):
        explore("Hi", on=session, into=explore("Ho", on=session, budget=2).tree)
    closed = tiny_model.session(n_ctx=64)
    exploration = Exploration("Hi", on=closed)
    closed.close()
    with pytest.raises(ClosedError):
        exploration.run()
    assert exploration.state == "failed"
    with pytest.raises(ValueError, match="make another one"):
        exploration.run()


def test_a_full_cache_is_said_with_a_way_out(tiny_model):
    with tiny_model.session(n_ctx=256, n_seq_max=3, n_threads=1) as small:
        small.logits([1] * (small.n_ctx - 8))
        small.fork()
        with pytest.raises(ContextFull, match=r"session\.remove"):
            explore([3] * 9, on=small, budget=4)
        assert len(explore([3] * 3, on=small, budget=8, max_tokens=5)) > 3  # what fits, goes


@pytest.mark.parametrize("architecture", ["gemma3", "mamba", "jamba"])
def test_caches_that_cannot_drop_a_tail_find_the_same(architecture, tmp_path):
    path = tiny.write(tmp_path / "tiny.gguf", architecture=architecture)
    with Model.load(path) as model, model.session(n_ctx=256, n_threads=1, n_seq_max=4) as session:
        found = explore([1, *range(10, 40)], on=session, budget=16, max_tokens=4)
        assert len(found) >= 8
        for branch in found.tree:
            history = branch.trace.history(len(branch) - 1).tolist()
            row = logprobs(session, history)
            last = int(branch.trace.tokens[-1])
            assert branch.trace.logprob[-1] == pytest.approx(row[last], abs=3 * NOISE)
            assert branch.trace.rank[-1] == pytest.approx((row > row[last]).sum(), abs=2)
    with Model.load(path) as model, model.session(kv_unified=False, n_ctx=256) as session:
        alone = explore([1, *range(10, 40)], on=session, budget=16, max_tokens=4)
        np.testing.assert_allclose(
            [p.logprob for p in alone][: len(found)],
            [p.logprob for p in found][: len(alone)],
            atol=3 * NOISE,
        )


def test_beside_a_run_it_finds_what_it_finds_alone(tiny_model, until):
    options = {"n_ctx": 3 * 2048, "n_threads": 1, "n_seq_max": 3, "reproducible": True}
    with tiny_model.session(**options) as session:

        def found():
            exploration = explore("Hi", on=session, budget=24, at_once=2, progress=False)
            return [(prefix.tokens, prefix.logprob) for prefix in exploration]

        alone = found()
        session.reset()
        run = session.start("abc", s.Mask(ban=[tiny.EOS]), max_tokens=2000)
        until(lambda: len(run.trace) > 2)
        assert found() == alone
        assert run.state == "running"
        run.stop_and_wait()
