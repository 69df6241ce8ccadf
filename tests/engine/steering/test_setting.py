"""A Setting as a value, and texts that have one of their own beside others in a session."""

from __future__ import annotations

import pickle
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import mullama_lab as ml
from mullama_lab.engine import tiny
from mullama_lab.engine.steering.steering import Weights
from mullama_lab.errors import ModelFileError

PROMPT = list(range(5, 45))
CHAIN = ml.Mask(ban=[tiny.EOS]) | ml.Temperature(0.9)
LIKE = ("token", "logprob", "logprob_after", "top_logprobs", "logsumexp", "n_kept")


def vector(seed=0, size=3.0):
    return ml.ControlVector({1: size * np.random.default_rng(seed).normal(size=32)})


@pytest.fixture
def exact(tiny_model):
    """A session whose results depend on nothing that happened in it before."""
    with tiny_model.session(n_ctx=512, n_seq_max=4, n_threads=1, reproducible=True) as session:
        yield session


@pytest.fixture
def settings(adapters):
    a, b = adapters
    return [
        ml.Setting(CHAIN),
        ml.Setting(CHAIN, adapters={a: 2.0}),
        ml.Setting(CHAIN, adapters={a: -1.0, b: 2.0}, control=vector()),
        ml.Setting(CHAIN, control=vector(1)),
    ]


def must_be_equal(one, other):
    for name in LIKE:
        assert np.array_equal(getattr(one, name), getattr(other, name)), name


# The value.


def test_it_prints_as_code_that_gives_its_equal(adapters, tmp_path):
    vector().save(tmp_path / "happy.gguf")
    happy = ml.ControlVector.load(tmp_path / "happy.gguf")
    a, b = adapters
    for one in (
        ml.Setting(),
        ml.Setting(ml.TopK(40)),
        ml.Setting(CHAIN, adapters={a: 0.1, b: -2.0}),
        ml.Setting(CHAIN, {a: 1}, 0.5 * happy - happy.normalize()),
    ):
        again = eval(repr(one), vars(ml) | {name: getattr(ml, name) for name in ml.__all__})
        assert again == one and hash(again) == hash(one) and repr(again) == repr(one)
    assert repr(ml.Setting(ml.TopK(4))) == "Setting(Chain([TopK(4)]))"


def test_equal_is_what_acts_alike(adapters):
    a, b = adapters
    one = ml.Setting(CHAIN, {a: 0.5, b: 1.0}, vector())
    assert one == ml.Setting(CHAIN | ml.TopP(1), {b: 1.0, a: 0.5}, vector() + 0 * vector(1))
    assert ml.Setting(CHAIN) == ml.Setting(CHAIN, {a: 0.0}, 0 * vector())
    for other in (replace(one, adapters={}), replace(one, control=None), ml.Setting(), CHAIN, None):
        assert one != other
    assert len({one, replace(one), replace(one, chain=ml.TopK(2))}) == 2


def test_it_survives_pickle_and_stays_as_it_is(adapters):
    given = {adapters[0]: 0.5}
    one = ml.Setting(CHAIN, given, vector())
    given.clear()
    again = pickle.loads(pickle.dumps(one))
    assert again == one and again.adapters == {adapters[0]: 0.5} and again.chain == CHAIN
    with pytest.raises(AttributeError):
        one.chain = CHAIN
    with pytest.raises(TypeError):
        one.adapters[adapters[0]] = 1.0


def test_what_two_do_not_share_is_said_in_words(adapters, tmp_path):
    a, b = adapters
    vector().save(tmp_path / "happy.gguf")
    happy = ml.ControlVector.load(tmp_path / "happy.gguf")
    base = ml.Setting(ml.Temperature(0.8))
    for one, other, said in (
        (base, base, []),
        (base, ml.Setting(ml.Temperature(1.2)), ["Temperature 0.8 → 1.2"]),
        (base, replace(base, adapters={a: 0.5}), ["with adapter 0 0.5"]),
        (replace(base, adapters={a: 0.5}), base, ["without adapter 0"]),
        (
            replace(base, adapters={a: 0.5, b: 0}),
            replace(base, adapters={a: 1, b: -2}),
            ["adapter 0 0.5 → 1", "with adapter 1 -2"],
        ),
        (base, replace(base, control=0.5 * happy), ["with control vector 0.5 * happy"]),
        (replace(base, control=happy), base, ["without control vector happy"]),
        (
            replace(base, control=happy),
            replace(base, control=-happy),
            ["control vector happy → -happy"],
        ),
        (
            replace(base, control=vector()),
            replace(base, control=vector(1)),
            ["another control vector"],
        ),
        (
            base,
            ml.Setting(ml.Temperature(0.8) | ml.LogitBias({5: 1})),
            ["with Logit bias (favours <5> (+1))"],
        ),
    ):
        assert one.difference(other) == said
    with pytest.raises(TypeError, match="another Setting"):
        base.difference(CHAIN)


def test_what_is_none_is_refused(session, adapters, settings):
    wide = ml.ControlVector({1: np.ones(31)})
    for arguments in ((5,), (CHAIN, [1]), (CHAIN, {"a": 1}), (CHAIN, {}, "v")):
        with pytest.raises(TypeError):
            ml.Setting(*arguments)
    with pytest.raises(ValueError):
        ml.Setting(CHAIN, {adapters[0]: float("nan")})
    for setting, error in ((ml.Setting(CHAIN, control=wide), ValueError),):
        for ask in (
            lambda setting=setting: session.generate(PROMPT, setting),
            lambda setting=setting: session.start(PROMPT, setting),
            lambda setting=setting: session.generate_many([PROMPT], [settings[0], setting]),
            lambda setting=setting: session.generate(PROMPT, {0: settings[0], 4: setting}),
        ):
            with pytest.raises(error):
                ask()
    with pytest.raises(TypeError, match="step 4 .*what acts on the weights"):
        session.generate(PROMPT, {0: settings[1], 4: CHAIN})
    with pytest.raises(ValueError, match="which chain draws it"):
        session.generate(PROMPT, {4: settings[1]})
    assert session.n_decoded == 0


def test_an_adapter_that_is_gone_is_refused_before_anything_is_decoded(session, tmp_path):
    a, b = (np.full(shape, 0.731, "f4") for shape in ((2, 32), (64, 2)))  # like no other's
    path = tiny.write_adapter(tmp_path / "a.gguf", {"blk.0.attn_q.weight": (a, b)})
    setting = ml.Setting(CHAIN, {ml.LoraAdapter.load(path): 1.0})
    Path(path).unlink()
    with pytest.raises(ModelFileError, match="does not exist"):
        session.generate(PROMPT, setting)
    assert session.n_decoded == 0


# In a session.


def test_a_setting_is_what_the_session_gives_with_it_in_force(exact, settings):
    for setting in settings:
        exact.adapters, exact.control = setting.adapters, setting.control
        want = exact.generate(PROMPT, CHAIN, seed=3, max_tokens=12)
        exact.adapters, exact.control = {}, vector(7)
        got = exact.generate(PROMPT, setting, seed=3, max_tokens=12)
        must_be_equal(got, want)
        assert got == want or got.settings == want.settings == [(0, setting)]
        assert (exact.adapters, exact.control) == ({}, vector(7))


def test_side_by_side_each_gives_what_it_gives_alone(exact, settings):
    alone = [exact.generate(PROMPT, one, seed=5, max_tokens=12) for one in settings]
    assert len({tuple(trace.tokens.tolist()) for trace in alone}) == len(settings)
    exact.control = vector(7)
    together = exact.generate_many(PROMPT, settings, seeds=5, max_tokens=12)
    for one, other in zip(alone, together, strict=True):
        must_be_equal(other, one)
    runs = [exact.start(PROMPT, one, seed=5, max_tokens=12) for one in settings]
    for one, run in zip(alone, runs, strict=True):
        must_be_equal(run.wait(), one)


def test_in_one_buffer_side_by_side_is_alone_up_to_noise(session, settings):
    alone = [session.generate(PROMPT, one, seed=5, max_tokens=6) for one in settings]
    texts = [[*PROMPT, *trace.tokens.tolist()] for trace in alone]
    together = session.generate_many(texts, settings, seeds=5, max_tokens=1)
    apart = session.generate_many(texts, settings[0], seeds=5, max_tokens=1)
    for text, setting, trace, base in zip(texts, settings, together, apart, strict=True):
        with session.model.session(n_ctx=256, n_threads=1) as fresh:
            want = fresh.generate(text, setting, seed=5, max_tokens=1)
        assert abs(trace.logsumexp[0] - want.logsumexp[0]) < 0.01
        if setting.steering.epoch:
            assert abs(trace.logsumexp[0] - base.logsumexp[0]) > 0.01


def test_what_follows_a_text_with_a_setting_is_the_sessions_own(session, settings):
    base = session.logits(PROMPT)
    session.generate(PROMPT, settings[2], max_tokens=4)
    assert np.array_equal(session.logits(PROMPT), base)
    session.control = vector()
    steered = session.logits(PROMPT)
    session.generate(PROMPT, settings[0], max_tokens=4)
    assert np.array_equal(session.logits(PROMPT), steered)
    assert not np.array_equal(steered, base)


def test_the_cache_of_a_setting_serves_that_setting_alone(session, settings, cost):
    n = len(PROMPT)
    session.generate(PROMPT, settings[1], max_tokens=1)
    again, _ = cost(session, lambda: session.generate(PROMPT, settings[1], max_tokens=1))
    assert again.n_prompt_reused == n - 1
    other = session.generate(PROMPT, settings[2], max_tokens=1)
    assert other.n_prompt_reused == 0


def test_the_session_is_turned_for_those_without_a_setting(exact, settings):
    own, plain = settings[1], ml.Setting(CHAIN)
    want = exact.generate(PROMPT, own, seed=5, max_tokens=40)
    runs = exact.start_many(PROMPT, [own, CHAIN], seeds=5, max_tokens=40)
    while not len(runs[1].trace):
        runs[1].step_or_end(0)
    exact.control = vector()
    kept, turned = runs.wait()
    must_be_equal(kept, want)
    assert kept.settings == [(0, own)] and not kept.stale.any()
    if len(turned.settings) > 1:  # else it had ended before
        assert turned.setting == plain and turned.setting_at(39).control == vector()
        assert turned.stale.any() and not turned.stale[0]


@pytest.mark.parametrize("ask", ["generate", "start", "stream", "many", "start_many"])
def test_a_setting_goes_wherever_a_chain_does(exact, settings, ask):
    want = exact.generate(PROMPT, settings[1], seed=5, max_tokens=4)
    how = {"seed": 5, "max_tokens": 4}
    many = {"seeds": 5, "max_tokens": 4}
    got = {
        "generate": lambda: exact.generate(PROMPT, chain=settings[1], **how),
        "start": lambda: exact.start(PROMPT, settings[1], **how).wait(),
        "stream": lambda: list(exact.stream(PROMPT, settings[1], **how)) and exact.last_trace,
        "many": lambda: exact.generate_many(PROMPT, settings[1], **many)[0],
        "start_many": lambda: exact.start_many([PROMPT], [settings[1]], **many).wait()[0],
    }[ask]()
    must_be_equal(got, want)


def test_a_grammar_comes_before_its_chain(exact, settings):
    setting = replace(settings[1], chain=ml.Temperature(0.9))
    words = ml.Grammar.choice(["yes", "no"])
    said = exact.generate("a", setting, grammar=words, seed=1)
    assert said.text in ("yes", "no")
    assert said.setting == replace(setting, chain=ml.Constrain(words) | setting.chain)


def test_weights_change_at_the_step_that_a_dict_names(exact, settings):
    _, one, other, _ = settings
    trace = exact.generate(PROMPT, {0: one, 4: other, 9: one}, seed=5, max_tokens=12)
    assert trace.settings == [(0, one), (4, other), (9, one)]
    assert trace.stale.tolist() == [False] * 4 + [True] * 8
    alone = exact.generate(PROMPT, one, seed=5, max_tokens=12)
    assert np.array_equal(trace.logprob[:4], alone.logprob[:4])
    assert trace.logsumexp[4] != alone.logsumexp[4]
    again = exact.generate(PROMPT, dict(trace.settings), seed=5, max_tokens=12)
    must_be_equal(again, trace)


# What it costs.


def test_llama_cpp_is_told_only_where_the_next_batch_has_other_weights(
    session, settings, monkeypatch
):
    told = []
    act_in = Weights.act_in
    monkeypatch.setattr(
        Weights, "act_in", lambda self, context: (told.append(self.epoch), act_in(self, context))
    )
    session.generate(PROMPT, CHAIN, max_tokens=4)
    session.generate(PROMPT, settings[0], max_tokens=4)
    session.generate_many(PROMPT, [CHAIN, settings[0]], max_tokens=4)
    assert told == []
    session.generate_many([PROMPT] * 3, settings[1], max_tokens=4)
    assert told == [settings[1].steering.epoch]
    session.generate_many([PROMPT] * 3, [settings[1], settings[2], settings[1]], max_tokens=8)
    assert 2 <= len(told) <= 12, "one turn changes them once"


# Branches.


def test_a_branch_goes_on_with_the_setting_of_its_trace(exact, settings):
    setting = settings[1]
    trace = exact.generate(PROMPT, setting, seed=5, max_tokens=8)
    exact.control = vector(7)
    token = int(trace.top_ids[3][1])
    branch = exact.branch(trace, 3, token, max_tokens=4)
    assert branch.settings == [(0, setting)] and not branch.stale.any()
    assert branch.logprob[3] == pytest.approx(trace.top_logprobs[3][1])
    exact.control, exact.adapters = setting.control, setting.adapters
    must_be_equal(exact.branch(trace, 3, token, max_tokens=4), branch)


def test_a_branch_with_another_setting_has_its_numbers_from_there_on(exact, settings):
    setting, other = settings[1:3]
    trace = exact.generate(PROMPT, setting, seed=5, max_tokens=8)
    token = int(trace.top_ids[3][1])
    branch = exact.branch(trace, 3, token, other, max_tokens=4)
    assert branch.settings == [(0, setting), (3, other)]
    text = [*PROMPT, *trace.tokens[:3].tolist()]
    must_be_equal_up_to_draws = exact.generate(text, other, seed=5, max_tokens=1)
    assert branch.logsumexp[3] == must_be_equal_up_to_draws.logsumexp[0]
    assert branch.forced[3] and branch.token[3] == token and len(branch) == 8
    [again] = exact.branch_many([(trace, 3, token)], [other], max_tokens=4)
    must_be_equal(again, branch)


def test_a_branch_off_a_mixture_is_decoded_by_what_was_in_force_there(exact, settings):
    one, other = settings[1:3]
    trace = exact.generate(PROMPT, {0: one, 4: other}, seed=5, max_tokens=8)
    token = int(trace.top_ids[6][1])
    branch = exact.branch(trace, 6, token, max_tokens=2)
    assert branch.settings == [(0, one), (4, other)]
    assert branch.stale.tolist() == [False] * 4 + [True] * 2 + [False] * 3
    fresh = exact.generate([*PROMPT, *trace.tokens[:6].tolist()], other, seed=5, max_tokens=1)
    assert branch.logsumexp[6] == fresh.logsumexp[0] != trace.logsumexp[6]
