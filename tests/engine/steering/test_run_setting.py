"""The Setting of a run, set to another while it writes: its chain and its weights alone change."""

from __future__ import annotations

import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import mullama_lab as ml
from mullama_lab.engine import tiny
from mullama_lab.engine.loop.generation import Generation
from mullama_lab.errors import GrammarBroken, ModelFileError
from mullama_lab.studies.fate import fate
from mullama_lab.studies.replay import replay

PROMPT = list(range(5, 45))
CHAIN = ml.Mask(ban=[tiny.EOS]) | ml.Temperature(0.9)
COLD = ml.Mask(ban=[tiny.EOS]) | ml.Temperature(0.3)
HOW = {"seed": 5, "max_tokens": 24}
LIKE = ("token", "logprob", "logprob_after", "top_logprobs", "logsumexp", "n_kept", "stale")


def vector(seed=0, size=3.0):
    return ml.ControlVector({1: size * np.random.default_rng(seed).normal(size=32)})


@pytest.fixture
def session(tiny_model):
    """One whose results depend on nothing else that happens in it."""
    with tiny_model.session(n_ctx=1024, n_seq_max=4, n_threads=1, reproducible=True) as session:
        yield session


@pytest.fixture
def settings(adapters):
    a, b = adapters
    return ml.Setting(CHAIN, {a: 2.0}), ml.Setting(COLD, {b: -1.0}, vector())


def changed_at(session, step, change):
    """Have the next run changed when it has so many steps."""

    def follow(run):
        run.on_step(lambda _: change(run) if len(run.trace) == step else None)

    undo = session.on_start(lambda run: (undo(), follow(run)))


def must_be_equal(one, other):
    assert one.settings == other.settings
    for name in LIKE:
        assert np.array_equal(getattr(one, name), getattr(other, name)), name


def must_come_again(session, trace):
    """The same generation, asked for as a whole, is the same bit for bit."""
    how = {"seed": trace.seed, "max_tokens": len(trace)}
    must_be_equal(session.generate(PROMPT, dict(trace.settings), **how), trace)


def test_chain_and_weights_are_others_from_one_token_on(session, settings):
    one, other = settings
    base = session.generate(PROMPT, one, **HOW)
    changed_at(session, 6, lambda run: setattr(run, "setting", other))
    trace = session.generate(PROMPT, one, **HOW)
    (first, before), (then, after) = trace.settings
    assert (first, before, after) == (0, one, other) and then in (6, 7)
    assert trace.stale.tolist() == [step >= then for step in range(len(trace))]
    assert trace.tokens[:then].tolist() == base.tokens[:then].tolist()
    assert trace.logsumexp[then] != base.logsumexp[then]
    must_come_again(session, trace)


def test_replays_and_fates_agree_with_what_was_drawn(session, settings):
    one, other = settings
    changed_at(session, 6, lambda run: setattr(run, "setting", other))
    trace = session.generate(PROMPT, one, **HOW)
    for on in (session, session.model):
        assert replay(trace, on=on).n_changed == 0
        for step, token in enumerate(trace.tokens.tolist()):
            assert fate(trace, step, token, on=on).choice == token
    there = replay(trace, dict(trace.settings), on=session.model)
    assert there.n_changed == 0 and set(there.sources) == {"kept"}


def test_what_runs_beside_it_and_the_session_stay_as_they_are(session, settings, gate):
    one, other = settings
    alone = session.generate(PROMPT, one, seed=5, max_tokens=60)
    session.control = vector(7)
    held = replace(one, chain=gate.stage | CHAIN)
    runs = session.start_many(PROMPT, [held, one], seeds=5, max_tokens=60)
    with gate.closed():
        runs[0].setting = other
        assert runs.setting == (other, one)
    session.control, session.adapters = None, {next(iter(one.adapters)): 9.0}
    turned, kept = runs.wait()
    must_be_equal(kept, alone)
    assert [each for _, each in turned.settings] == [held, other]
    assert session.steering == ml.Setting(None, session.adapters).steering


def test_a_run_by_what_is_in_force_in_the_session_says_so_and_has_its_own_then(session, gate):
    session.control, chain = vector(7), gate.stage | CHAIN
    run = session.start(PROMPT, chain, seed=5, max_tokens=40)
    with gate.closed():
        assert run.setting == ml.Setting(chain, control=vector(7))
        run.setting = replace(run.setting, control=vector(8))
    session.control = None
    trace = run.wait()
    assert trace.settings[1][1] == run.setting == ml.Setting(chain, control=vector(8))
    assert len(trace.settings) == 2
    must_come_again(session, trace)


def test_the_same_weights_leave_nothing_stale(session, settings):
    one, _ = settings
    cold = replace(one, chain=COLD)
    changed_at(session, 6, lambda run: setattr(run, "setting", cold))
    trace = session.generate(PROMPT, one, **HOW)
    assert [each for _, each in trace.settings] == [one, cold] and not trace.stale.any()


def test_one_that_waits_for_its_turn_begins_with_it(session, settings):
    one, other = settings
    want = session.generate(PROMPT, other, **HOW)
    undo = session.on_start(lambda run: setattr(run, "setting", other))
    trace = session.generate(PROMPT, one, **HOW)
    undo()
    must_be_equal(trace, want)
    assert trace.settings == [(0, other)] and not trace.stale.any()


def test_what_is_set_last_holds(session, settings):
    one, other = settings
    seen = []

    def change(run):
        run.setting = other
        run.chain = hot = replace(one).chain | ml.TopK(3)
        run.setting = replace(run.setting, control=None)
        seen.append((run.setting, run.chain, hot))

    changed_at(session, 6, change)
    trace = session.generate(PROMPT, one, **HOW)
    [(setting, chain, hot)] = seen
    assert setting == ml.Setting(hot, other.adapters) and chain == hot
    assert [each for _, each in trace.settings] == [one, setting]
    must_come_again(session, trace)


def test_a_chain_set_twice_waits_for_the_weights_it_came_with(session, settings):
    one, other = settings
    hot = replace(other, chain=CHAIN | ml.TopK(3))

    def change(run):
        run.setting = other
        run.setting = hot

    changed_at(session, 6, change)
    trace = session.generate(PROMPT, one, **HOW)
    assert [each for _, each in trace.settings] == [one, hot]
    must_come_again(session, trace)


def test_a_chain_alone_comes_with_the_weights_that_are_due(session, settings):
    one, other = settings
    hot = CHAIN | ml.TopK(3)

    def change(run):
        run.setting = other
        run.chain = hot
        assert run.setting == replace(other, chain=hot)

    changed_at(session, 6, change)
    trace = session.generate(PROMPT, one, **HOW)
    assert [each for _, each in trace.settings] == [one, replace(other, chain=hot)]
    must_come_again(session, trace)


def test_a_chain_alone_leaves_the_weights(session, settings):
    one, other = settings

    def change(run):
        run.setting = other
        run.chain = CHAIN

    changed_at(session, 6, change)
    trace = session.generate(PROMPT, one, **HOW)
    assert [each for _, each in trace.settings] == [one, replace(other, chain=CHAIN)]
    assert trace.chains == [(0, CHAIN)]


def test_what_does_not_fit_is_refused_and_the_run_goes_on(session, settings, adapters, tmp_path):
    one, other = settings
    path = tmp_path / "gone.gguf"
    pair = (np.full((2, 32), 0.5, "f4"), np.full((64, 2), 0.5, "f4"))
    gone = ml.LoraAdapter.load(tiny.write_adapter(path, {"blk.0.attn_q.weight": pair}))
    Path(path).unlink()
    wide = tiny.write_adapter(
        tmp_path / "wide.gguf", {"blk.0.attn_q.weight": (np.ones((2, 31), "f4"), pair[1])}
    )
    only_x = ml.Grammar.gbnf('root ::= "x"*')
    wrong = [
        (replace(one, adapters={gone: 1.0}), ModelFileError),
        (replace(one, adapters={ml.LoraAdapter.load(wide): 1.0}), ModelFileError),
        (replace(one, control=ml.ControlVector({1: np.ones(31)})), ValueError),
        (replace(other, chain=ml.Constrain(only_x) | COLD), GrammarBroken),
        (replace(other, chain=ml.Mask(allow=[10**6])), ValueError),
        (COLD, TypeError),
        (None, TypeError),
    ]
    refused = []

    def change(run):
        for setting, error in wrong:
            with pytest.raises(error):
                run.setting = setting
            refused.append(run.setting)

    changed_at(session, 6, change)
    trace = session.generate(PROMPT, one, **HOW)
    assert refused == [one] * len(wrong)
    must_be_equal(trace, session.generate(PROMPT, one, **HOW))


def test_of_several_all_are_changed_or_none(session, settings, gate):
    one, other = settings
    one = replace(one, chain=gate.stage | CHAIN)
    runs = session.start_many(PROMPT, one, seeds=range(3), max_tokens=20)
    wide = replace(other, control=ml.ControlVector({1: np.ones(31)}))
    with gate.closed():
        with pytest.raises(ValueError, match="31 numbers"):
            runs.setting = [other, one, wide]
        with pytest.raises(ValueError, match="2 settings for 3 runs"):
            runs.setting = [one, other]
        with pytest.raises(ValueError, match="2 settings for 3 runs"):
            runs.steer([one, other], exact=True)
        assert runs.setting == (one,) * 3
        runs.setting = other
    for trace in runs.wait():
        assert [each for _, each in trace.settings] == [one, other]


def test_a_grammar_holds_at_once(session, settings):
    one, other = settings
    letters = ml.Grammar.gbnf("root ::= [a-z]*")
    begun = replace(one, chain=ml.Constrain(letters) | CHAIN)
    ends = replace(other, chain=ml.Constrain(ml.Grammar.gbnf("root ::= [a-z]* [0-9]*")) | CHAIN)
    changed_at(session, 6, lambda run: setattr(run, "setting", ends))
    trace = session.generate(PROMPT, begun, **HOW)
    assert trace.finish_reason == "length" and trace.settings[-1][1] == ends
    must_come_again(session, trace)


def test_weights_that_cannot_be_put_in_force_end_their_text_alone(
    session, settings, gate, monkeypatch
):
    one, other = settings
    held = replace(one, chain=gate.stage | CHAIN)
    runs = session.start_many(PROMPT, held, seeds=range(2), max_tokens=20)

    take_due = Generation.take_due

    def gone(lane):
        if lane.sequence == runs[0].sequence:
            raise ValueError("these weights are gone")
        return take_due(lane)

    with gate.closed():
        monkeypatch.setattr(Generation, "take_due", gone)
    with pytest.raises(ValueError, match="are gone"):
        runs[0].wait()
    assert len(runs[1].wait()) == 20 and runs[0].trace.finish_reason == "failed"
    assert len(session.generate(PROMPT, other, max_tokens=3)) == 3


def test_a_run_says_whether_it_has_weights_of_its_own(session, settings, until):
    one, other = settings
    runs = session.start_many(PROMPT, [CHAIN, one], seeds=5, max_tokens=100)
    assert [run.has_own_weights for run in runs] == [False, True]
    runs[0].setting = other
    assert runs[0].has_own_weights
    runs.stop()


def test_exact_decodes_anew_what_the_text_has_and_goes_on_as_by_those_alone(session, settings):
    one, other = settings
    changed_at(session, 6, lambda run: run.steer(other, exact=True))
    before = session.n_decoded
    trace = session.generate(PROMPT, one, **HOW)
    (_, first), (then, after) = trace.settings
    assert first == one and after == replace(other, chain=CHAIN) and then in (6, 7)
    assert not trace.stale.any()
    assert session.n_decoded - before >= 2 * len(PROMPT) + len(trace) - 1
    text = [*PROMPT, *trace.tokens[:then].tolist()]
    session.steer(other)
    anew = session.score(trace.tokens[then:].tolist(), given=text)
    assert anew.logprob == pytest.approx(trace.logprob[then:], abs=0.01)
    fresh = session.generate(text, replace(other, chain=CHAIN), max_tokens=1)
    assert fresh.logsumexp[0] == trace.logsumexp[then], "bit for bit"
    for on in (session, session.model):
        assert replay(trace, on=on).n_changed == 0


def test_exact_makes_a_stale_text_exact_without_a_change(session, settings):
    one, other = settings
    changed_at(session, 12, lambda run: run.steer(run.setting, exact=True))
    trace = session.generate(PROMPT, {0: one, 4: other}, **HOW)
    assert [each for _, each in trace.settings] == [one, other]
    then = int(np.flatnonzero(~trace.stale)[4])
    assert then in (12, 13)
    assert trace.stale.tolist() == [4 <= step < then for step in range(len(trace))]
    fresh = session.generate([*PROMPT, *trace.tokens[:then].tolist()], other, max_tokens=1)
    assert fresh.logsumexp[0] == trace.logsumexp[then]


@pytest.mark.parametrize("step", [4, 12])
def test_exact_without_a_change_leaves_the_weights_that_are_to_come(session, settings, step):
    """Also at the step at which others are due."""
    one, other = settings
    begun = {0: one, 4: other, 16: replace(one, chain=COLD)}
    changed_at(session, step, lambda run: run.steer(run.setting, exact=True))
    trace = session.generate(PROMPT, begun, **HOW)
    assert trace.settings == list(begun.items())
    stale = np.flatnonzero(trace.stale)
    assert set(range(16, len(trace))) <= set(stale), "of the third over what the second computed"
    then = int(np.flatnonzero(~trace.stale)[4])
    assert then in (step, step + 1) and not trace.stale[then:16].any()


def test_exact_of_a_text_that_is_exact_decodes_nothing_anew(session, settings):
    one, _ = settings
    want = session.generate(PROMPT, one, **HOW)
    session.reset()
    changed_at(session, 6, lambda run: run.steer(run.setting, exact=True))
    before = session.n_decoded
    must_be_equal(session.generate(PROMPT, one, **HOW), want)
    assert session.n_decoded - before == len(PROMPT) + len(want) - 1


def test_what_waits_to_be_decoded_anew_still_is_where_others_are_set_meanwhile(session, settings):
    one, other = settings

    def change(run):
        run.steer(other, exact=True)
        run.chain = COLD
        run.setting = one

    changed_at(session, 6, change)
    trace = session.generate(PROMPT, {0: one, 4: other}, **HOW)
    assert [each for _, each in trace.settings] == [one, other, one]
    then = trace.settings[-1][0]
    assert trace.stale.tolist() == [4 <= step < then for step in range(len(trace))]


def test_a_call_begins_exact_and_one_with_other_weights_on_the_way_goes_on_stale(session, settings):
    """So `generate` takes no `exact`: a branch gives the steps that come of an exact change."""
    one, other = settings
    for setting in (one, other, one):
        begun = session.generate(PROMPT, setting, **HOW)
        assert not begun.stale.any() and begun.n_prompt_reused == 0
    stale = session.generate(PROMPT, {0: one, 6: replace(other, chain=CHAIN)}, **HOW)
    assert stale.stale.tolist() == [step >= 6 for step in range(len(stale))]
    changed_at(session, 6, lambda run: run.steer(other, exact=True))
    exact = session.generate(PROMPT, one, **HOW)
    then = exact.settings[1][0]
    setting = replace(other, chain=CHAIN)
    token, left = int(exact.tokens[then - 1]), len(exact) - then
    branch = session.branch(begun, then - 1, token, setting, max_tokens=left)
    for name in LIKE:
        assert np.array_equal(getattr(branch, name)[then:], getattr(exact, name)[then:]), name


@pytest.mark.parametrize("exact", [True, False])
def test_of_several_those_that_are_steered_are_decoded_anew(tiny_model, settings, gate, exact):
    """Also where forced tokens are decoded ahead, and where they share a buffer."""
    one, other = settings
    dates = ml.Grammar.gbnf('root ::= ([a-z] "-------")*')
    forced = replace(one, chain=ml.Constrain(dates) | CHAIN)
    held = replace(one, chain=gate.stage | CHAIN)
    with tiny_model.session(n_ctx=1024, n_threads=1, n_seq_max=4) as session:
        session.control = vector(7)
        runs = session.start_many(PROMPT, [held, forced], seeds=5, max_tokens=60)
        beside = session.start(PROMPT, CHAIN, seed=5, max_tokens=60)
        with gate.closed():
            runs.steer(other, exact=exact)
        kept = beside.wait()
        assert len(kept) == 60 and kept.settings == [(0, ml.Setting(CHAIN, control=vector(7)))]
        for trace in runs.wait():
            (_, _), (then, after) = trace.settings
            assert after.steering == other.steering
            assert trace.stale.tolist() == [not exact and step >= then for step in range(60)]
            assert replay(trace, on=session.model).n_changed == 0


@pytest.mark.parametrize("n_ctx", [110, 200])
@pytest.mark.parametrize("whose", ["a run", "the session"])
def test_without_room_to_decode_it_anew_a_text_goes_on_stale_and_says_so(
    tiny_model, gate, until, caplog, n_ctx, whose
):
    """Both share the cells of their prompt, and anew they would not."""
    acting = ml.Setting(control=vector())
    with tiny_model.session(n_ctx=n_ctx, n_threads=1, n_seq_max=4) as session:
        runs = session.start_many(PROMPT, [gate.stage | CHAIN, CHAIN], seeds=5, max_tokens=30)
        steering = threading.Thread(target=lambda: session.steer(acting, exact=True))
        with gate.closed():
            n_waiting = session.gauges.read().n_waiting
            if whose == "a run":
                runs[0].steer(acting, exact=True)
            else:
                steering.start()
                until(lambda: session.gauges.read().n_waiting > n_waiting)
        turned, beside = runs.wait()
        if whose == "the session":
            steering.join()
        assert [one.finish_reason for one in (turned, beside)] == ["length", "length"]
        (_, _), (then, after) = turned.settings
        assert after.steering == acting.steering
        is_stale = n_ctx == 110
        assert turned.stale.tolist() == [is_stale and step >= then for step in range(30)]
        assert ("session.remove(sequence)" in caplog.text) == is_stale
        assert replay(turned, on=session.model).n_changed == 0


def test_what_a_caller_keeps_stays_where_a_text_would_be_decoded_anew(tiny_model, settings):
    """Alone it may take all cells that are left, though they end it before its last token."""
    _, other = settings
    for n_ctx, is_stale in ((84, True), (100, False)):
        with tiny_model.session(n_ctx=n_ctx, n_threads=1, n_seq_max=4) as session:
            session.logits(PROMPT)
            kept = session.fork()
            changed_at(session, 6, lambda run: run.steer(other, exact=True))
            trace = session.generate(PROMPT, CHAIN, seed=5, max_tokens=24)
            assert len(session.sequences[kept]) == len(PROMPT)
            then = trace.settings[1][0]
            assert trace.stale.tolist() == [is_stale and n >= then for n in range(len(trace))]
            assert trace.finish_reason == ("length" if is_stale else "context")


def test_what_does_not_fit_is_refused_where_it_is_steered(session, settings):
    one, other = settings
    wide = replace(other, control=ml.ControlVector({1: np.ones(31)}))
    wrong = [(wide, True, ValueError), (vector(), True, TypeError), (other, np.ones(2), TypeError)]
    refused = []

    def change(run):
        for setting, exact, error in wrong:
            with pytest.raises(error):
                run.steer(setting, exact=exact)
            refused.append(run.setting)

    changed_at(session, 6, change)
    trace = session.generate(PROMPT, one, **HOW)
    assert refused == [one] * 3
    must_be_equal(trace, session.generate(PROMPT, one, **HOW))


def test_a_branch_is_changed_too(session, settings):
    one, other = settings
    parent = session.generate(PROMPT, one, **HOW)
    token = int(parent.top_ids[3][1])
    changed_at(session, 8, lambda run: setattr(run, "setting", other))
    trace = session.branch(parent, 3, token, max_tokens=12)
    assert [each for _, each in trace.settings] == [one, other]
    assert trace.settings[1][0] in (8, 9) and replay(trace, on=session).n_changed == 0


def test_it_is_turned_on_and_on_however_that_meets_a_token(tiny_model, settings):
    """Also where forced tokens are decoded ahead, and where several share a batch."""
    one, other = settings
    dates = ml.Grammar.gbnf('root ::= ([a-z] "-------")*')
    forced = [replace(each, chain=ml.Constrain(dates) | each.chain) for each in (one, other)]
    with tiny_model.session(n_ctx=1024, n_threads=1, n_seq_max=4) as session:
        for seed in range(4):
            may_begin, may_end = threading.Event(), threading.Event()
            waits = ml.Custom(lambda logits, _, begin=may_begin: begin.wait(60) and logits)
            session.start(PROMPT, waits | CHAIN, max_tokens=1)
            runs = session.start_many(PROMPT, [one, forced[0]], seeds=seed, max_tokens=400)
            runs[0].on_step(lambda step, end=may_end: step.index < 300 or end.wait(60))
            may_begin.set()
            for turns in range(40):
                runs[0].step_or_end(3 * turns)
                runs.setting = [(one, other)[turns % 2], forced[turns % 2]]
                runs[0].chain = (CHAIN, COLD)[turns % 2]
                if turns % 8 == 0:
                    runs[0].steer(other, exact=True)
            runs.stop()
            may_end.set()
            turned, beside = runs.wait()
            assert len(turned.settings) > 20 and len(beside)
            for trace in (turned, beside):
                assert replay(trace, on=session.model).n_changed == 0
        session.reset()
        fresh = session.logits(PROMPT)
    with tiny_model.session(n_ctx=1024, n_threads=1, n_seq_max=4) as session:
        assert np.array_equal(session.logits(PROMPT), fresh)
