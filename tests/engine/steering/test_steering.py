"""Adapters and control vectors in force: what they do to a session, its cache and its traces."""

from __future__ import annotations

import threading

import numpy as np
import pytest

import mullama_lab as ml
from mullama_lab.engine import tiny
from mullama_lab.engine.stages import Custom
from mullama_lab.errors import ClosedError
from mullama_lab.studies.fate import fate
from mullama_lab.studies.replay import replay

PROMPT = list(range(5, 45))


def vector(seed=0, size=1.0):
    return ml.ControlVector({1: size * np.random.default_rng(seed).normal(size=32)})


def steered(model, prompt=PROMPT, **what):
    """The row after a prompt in a session of its own."""
    with model.session(n_ctx=256, n_threads=1) as fresh:
        for name, value in what.items():
            setattr(fresh, name, value)
        return fresh.logits(prompt)


def test_nothing_in_force_is_the_model_bit_for_bit(session, adapters):
    a, b = adapters
    base = session.logits(PROMPT)
    nothing = [
        {"adapters": {}},
        {"adapters": {a: 0.0}},
        {"adapters": {a: 0, b: -0.0}},
        {"control": None},
        {"control": vector() - vector()},
        {"control": 0 * vector()},
    ]
    for what in nothing:
        session.adapters, session.control = {a: 1.0, b: 1.0}, vector()
        assert not np.array_equal(session.logits(PROMPT), base)
        session.adapters, session.control = {}, None
        for name, value in what.items():
            setattr(session, name, value)
        assert np.array_equal(session.logits(PROMPT), base), what


def test_what_is_set_is_what_a_fresh_session_gives(session, tiny_model, adapters):
    a, b = adapters
    settings = [
        {"adapters": {a: 1.0}},
        {"adapters": {a: -0.5, b: 2.0}},
        {"control": vector()},
        {"control": 0.3 * vector(1), "adapters": {b: 0.1}},
        {},
    ]
    session.logits(PROMPT)
    for what in settings * 2:
        session.adapters = what.get("adapters", {})
        session.control = what.get("control")
        row = session.logits(PROMPT)
        assert np.array_equal(row, steered(tiny_model, **what)), what
        assert np.array_equal(session.logits(PROMPT), row), "and again, from its own cache"


def test_equations(tiny_model, adapters):
    a, b = adapters
    rows = [steered(tiny_model, adapters=pair) for pair in ({a: 0.5, b: 2.0}, {b: 2.0, a: 0.5})]
    assert np.array_equal(*rows)
    v = vector()
    assert np.array_equal(steered(tiny_model, control=v - v), steered(tiny_model))
    assert not np.array_equal(steered(tiny_model, control=v), steered(tiny_model, control=-v))


def test_twice_a_vector_is_its_doubled_file(tiny_model, tmp_path):
    v = vector()
    v.save(tmp_path / "v.gguf")
    doubled = {layer: row + row for layer, row in v.directions.items()}
    ml.ControlVector(doubled).save(tmp_path / "doubled.gguf")
    v, doubled = (ml.ControlVector.load(tmp_path / f"{name}.gguf") for name in ("v", "doubled"))
    once, twice = (steered(tiny_model, control=strength * v) for strength in (1, 2))
    assert np.array_equal(steered(tiny_model, control=doubled), twice)
    assert np.abs(once - twice).max() > 0.05
    with tiny_model.session(n_ctx=256, n_threads=1) as fresh:
        plain = fresh.hidden(PROMPT, [1])
        fresh.control = 2 * v
        added = fresh.hidden(PROMPT, [1]) - plain
    assert np.allclose(added, v.directions[1] + v.directions[1], atol=1e-4)


def test_an_adapter_at_scale_two_is_its_doubled_file(tiny_model, tmp_path):
    chance, files = np.random.default_rng(0), {}
    down, up = (chance.normal(size=size).astype(np.float32) for size in ((2, 32), (64, 2)))
    for name, b in (("a", up), ("doubled", up + up)):
        path = tiny.write_adapter(tmp_path / f"{name}.gguf", {"blk.0.attn_q.weight": (down, b)})
        files[name] = ml.LoraAdapter.load(path)
    once, twice = (steered(tiny_model, adapters={files["a"]: scale}) for scale in (1, 2))
    assert np.array_equal(steered(tiny_model, adapters={files["doubled"]: 1}), twice)
    assert np.abs(once - twice).max() > 0.05


def test_two_sessions_of_a_model_have_each_its_own(session, tiny_model, adapters):
    session.adapters = {adapters[0]: 1.0}
    with tiny_model.session(n_ctx=256, n_threads=1) as other:
        base = other.logits(PROMPT)
        mine = session.logits(PROMPT)
        other.adapters = {adapters[0]: 3.0}
        assert np.array_equal(session.logits(PROMPT), mine)
        other.adapters = {}
        assert np.array_equal(other.logits(PROMPT), base)
        assert not np.array_equal(mine, base)
        assert np.array_equal(session.logits(PROMPT), mine)


def test_the_cache_of_other_weights_is_not_taken(session, adapters, cost):
    n = len(PROMPT)
    session.logits(PROMPT)
    _, ledger = cost(session, lambda: session.logits(PROMPT))
    assert ledger.decoded < n
    session.control = vector()
    _, ledger = cost(session, lambda: session.logits(PROMPT))
    assert ledger.decoded == n
    _, ledger = cost(session, lambda: session.logits(PROMPT))
    assert ledger.decoded < n
    session.adapters = {adapters[0]: 0.0}
    _, ledger = cost(session, lambda: session.logits(PROMPT))
    assert ledger.decoded < n, "a scale of 0 changes nothing"


def test_a_running_text_changes_from_the_next_token_on(session, tiny_model, until):
    """At token 6 the vector is set; the run goes on, and its trace says from where."""
    had, go_on = threading.Event(), threading.Event()

    def wait_at_six(row, history):
        row[tiny.EOS] = -np.inf
        if len(history) == len(PROMPT) + 6:
            had.set()
            go_on.wait(30)
        return row

    chain = ml.Chain([Custom(wait_at_six)])
    go_on.set()
    base = session.generate(PROMPT, chain, seed=3, max_tokens=40)
    session.reset()
    had.clear()
    go_on.clear()
    run = session.start(PROMPT, chain, seed=3, max_tokens=40)
    assert had.wait(30)
    setting = threading.Thread(target=lambda: setattr(session, "control", vector(0, 3.0)))
    setting.start()
    until(lambda: session.gauges.read().n_waiting == 1)
    go_on.set()
    trace = run.wait()
    setting.join()
    changed = trace.settings[1][0]
    assert [step for step, _ in trace.settings] == [0, changed] and changed in (7, 8)
    assert trace.setting == ml.Setting(chain)
    assert trace.setting_at(changed) == ml.Setting(chain, control=vector(0, 3.0))
    assert trace.stale.tolist() == [False] * changed + [True] * (len(trace) - changed)
    assert trace.tokens[:changed].tolist() == base.tokens[:changed].tolist()
    assert trace.tokens.tolist() != base.tokens.tolist()
    # What it left in the cache is a mixture that nobody else takes.
    row = session.logits([*PROMPT, *trace.tokens.tolist()])
    want = steered(tiny_model, [*PROMPT, *trace.tokens.tolist()], control=vector(0, 3.0))
    assert np.array_equal(row, want)


def test_what_is_no_setting_is_refused_and_changes_nothing(session, adapters):
    a = adapters[0]
    session.adapters, session.control = {a: 0.5}, vector()
    row = session.logits(PROMPT)
    wrong = [
        ("adapters", None, TypeError),
        ("adapters", [a], TypeError),
        ("adapters", a, TypeError),
        ("adapters", {"a.gguf": 1.0}, TypeError),
        ("adapters", {a: "1"}, ValueError),
        ("adapters", {a: None}, ValueError),
        ("adapters", {a: True}, ValueError),
        ("adapters", {a: np.nan}, ValueError),
        ("adapters", {a: -np.inf}, ValueError),
        ("adapters", {a: 1e300}, ValueError),
        ("control", 0.5, TypeError),
        ("control", a, TypeError),
        ("control", ml.ControlVector({1: np.ones(31)}), ValueError),
        ("control", ml.ControlVector({2: np.ones(32)}), ValueError),
        ("control", ml.ControlVector({1: np.ones(32)}, architecture="gemma3"), ValueError),
    ]
    for name, value, error in wrong:
        with pytest.raises(error):
            setattr(session, name, value)
    assert (session.adapters, session.control) == ({a: 0.5}, vector())
    assert np.array_equal(session.logits(PROMPT), row)
    with pytest.raises(TypeError):
        session.adapters[a] = 3.0


def test_a_closed_session_takes_none(tiny_model, adapters):
    session = tiny_model.session(n_ctx=64, n_threads=1)
    session.close()
    with pytest.raises(ClosedError):
        session.control = vector()
    with pytest.raises(ClosedError):
        session.adapters = {adapters[0]: 1.0}


def test_a_model_can_be_closed_with_adapters_in_force(tmp_path, adapters):
    with ml.Model.load(tiny.write(tmp_path / "a.gguf")) as model:
        sessions = [model.session(n_ctx=64, n_threads=1) for _ in range(3)]
        for session in sessions:
            session.adapters, session.control = dict.fromkeys(adapters, 1.0), vector()
            session.generate(PROMPT, max_tokens=2)


def test_rows_are_decoded_again_with_the_weights_that_made_them(session):
    session.control = vector()
    steered_one = session.generate(PROMPT, max_tokens=4, seed=1)
    assert session.empty_trace(PROMPT).in_force == steered_one.in_force
    session.control = None
    for trace in (steered_one, session.generate(PROMPT, max_tokens=4, seed=1)):
        stored = ml.Trace.from_dict(trace.to_dict())  # without its rows
        for control in (None, vector(), vector(1)):
            session.control = control
            kept, told = (fate(one, 1, 5, on=session) for one in (trace, stored))
            assert (kept.source, told.source) == ("kept", "decoded")
            assert told.logprob == pytest.approx(kept.logprob, abs=0.01)
            assert replay(stored, on=session).n_changed == 0
            assert session.control == control


@pytest.mark.parametrize("exact", [True, False])
def test_a_text_under_way_is_decoded_again_if_that_is_asked(tiny_model, adapters, until, exact):
    with tiny_model.session(n_ctx=256, n_threads=1) as session:
        changed, threads = ml.Setting(adapters={adapters[0]: 3.0}), []

        def turn(logits, history):
            if len(history) == len(PROMPT) + 8 and not threads:
                work = threading.Thread(
                    target=session.steer, args=(changed,), kwargs={"exact": exact}
                )
                threads.append(work)
                work.start()
                until(lambda: session.gauges.read().n_waiting == 1)
            return logits

        chain = ml.Custom(turn) | ml.Mask(ban=[tiny.EOS]) | ml.TopK(1)
        trace = session.generate(PROMPT, chain, max_tokens=24, seed=1)
        threads[0].join()
        (_, before), (first, after) = trace.settings
        assert not before.adapters and after.adapters == changed.adapters and first > 8
        assert trace.stale.tolist() == [not exact and step >= first for step in range(len(trace))]
        given = [*PROMPT, *trace.tokens[:first].tolist()]
        anew = session.score(trace.tokens[first:].tolist(), given=given).logprob
        apart = np.abs(anew - trace.logprob[first:]).max()
        assert apart < 0.05 if exact else apart > 0.05


def test_what_is_stale_can_be_made_exact_and_the_rest_is_left(tiny_model):
    with tiny_model.session(n_ctx=256, n_threads=1, n_seq_max=2) as session:
        session.steer(ml.Setting(control=vector()), exact=True)
        n = session.n_decoded
        assert np.array_equal(session.logits(PROMPT), steered(tiny_model, control=vector()))
        session.steer(ml.Setting(control=vector()), exact=True)
        session.logits(PROMPT)
        assert session.n_decoded - n < 2 * len(PROMPT)
        with pytest.raises(TypeError, match="Setting"):
            session.steer(vector())


def test_eight_beside_each_other_stay_whole_while_it_is_turned(session, adapters):
    runs = session.start_many([PROMPT] * 8, seeds=range(8), max_tokens=20)
    for i in range(12):
        session.adapters = {adapters[i % 2]: 0.1 * i}
        session.control = vector(i)
    traces = runs.wait()
    assert all(len(trace) or trace.finish_reason == "eog" for trace in traces)
    session.adapters, session.control = {}, None
    assert np.array_equal(session.logits(PROMPT), steered(session.model))
