"""What a grammar forces is decoded in few batches, and is what would be drawn token by token."""

from __future__ import annotations

import json
import string
import threading
from dataclasses import replace

import numpy as np
import pytest

import mullama_lab as ml
from mullama_lab.engine import tiny
from mullama_lab.engine.cache import Cache
from mullama_lab.engine.grammar.matching.matcher import matcher
from mullama_lab.errors import NoCandidates
from mullama_lab.studies.fate import fate
from mullama_lab.studies.replay import replay

PROMPT = "A person: "
FORM = ml.Grammar.gbnf(
    'root ::= "{name: " [a-c]{2,5} ", the city: " [x-z]{2} (", old" | ", often young") "}"'
)
FORCED = ml.Constrain(FORM, fast_forward=True)
CHAIN = FORCED | ml.TopK(40) | ml.Temperature(1.5)
SEEDS = range(12)
PERSON = {
    "type": "object",
    "properties": {
        "full_name": {"type": "string", "maxLength": 8},
        "is_a_student": {"type": "boolean"},
        "children's ages": {"type": "array", "items": {"enum": [3, 17]}, "maxItems": 2},
    },
    "required": ["full_name", "is_a_student", "children's ages"],
    "additionalProperties": False,
}


@pytest.fixture(scope="module")
def session(tiny_model):
    with tiny_model.session(n_ctx=512, n_threads=1, n_seq_max=6) as session:
        yield session


@pytest.fixture(scope="module")
def one_by_one(tiny_model):
    """A session that decodes nothing ahead."""
    with tiny_model.session(n_ctx=512, n_threads=1, n_seq_max=6, reproducible=True) as session:
        yield session


@pytest.fixture(scope="module")
def plain(one_by_one):
    """A trace decoded token by token."""
    return one_by_one.generate(PROMPT, CHAIN, max_tokens=80, seed=3)


def tokens_of(traces):
    return [trace.tokens.tolist() for trace in traces]


def held(session):
    return session.tokens.tolist()


# The same, however it is decoded.


def test_tokens_ahead_are_those_that_are_drawn_one_by_one(session, one_by_one):
    for seed in SEEDS:
        plain = one_by_one.generate(PROMPT, CHAIN, max_tokens=80, seed=seed)
        trace = session.generate(PROMPT, CHAIN, max_tokens=80, seed=seed)
        assert trace.tokens.tolist() == plain.tokens.tolist()
        assert (trace.finish_reason, trace.text) == (plain.finish_reason, plain.text)
        assert np.allclose(trace.logprob, plain.logprob, atol=0.02)
        assert np.array_equal(trace.n_kept, plain.n_kept)
        assert held(session) == held(one_by_one)
        assert trace.n_decodes_saved > 12
        assert plain.n_decodes_saved == 0


def test_a_real_models_tokens_are_the_same_too(smollm2):
    chain = ml.Constrain(ml.Grammar.json_schema(PERSON), fast_forward=True) | ml.Chain.default()
    with (
        smollm2.session(n_ctx=256, n_threads=1) as session,
        smollm2.session(n_ctx=256, n_threads=1, reproducible=True) as one_by_one,
    ):
        for seed in range(3):
            traces = [
                s.generate(PROMPT, chain, max_tokens=70, seed=seed) for s in (session, one_by_one)
            ]
            assert traces[0].tokens.tolist() == traces[1].tokens.tolist()
            assert traces[0].n_decodes_saved >= 6


def test_the_ledger_has_as_many_batches_fewer_as_the_trace_says(session, cost):
    session.logits("something else")
    trace, spent = cost(session, lambda: session.generate(PROMPT, CHAIN, max_tokens=80, seed=3))
    n_prompt = 2  # batches: all but the last token, and that
    assert spent.batches == n_prompt + len(trace) - 1 - trace.n_decodes_saved
    assert np.count_nonzero(trace.decode_ns) == len(trace) - trace.n_decodes_saved


def test_a_setting_planned_for_later_stops_no_look_ahead_before_it(session):
    setting = ml.Setting(CHAIN)
    alone = session.generate(PROMPT, setting, max_tokens=80, seed=3)
    vector = ml.ControlVector({1: np.full(32, 2.0)})
    for then in (len(alone) + 400, *range(4, 13)):
        changed = replace(setting, control=vector)
        trace = session.generate(PROMPT, {0: setting, then: changed}, max_tokens=80, seed=3)
        n = min(then - 1, len(alone))
        # What is ahead before the change is as alone, but for the token whose row is the new one's.
        assert trace.ahead[:n].tolist() == alone.ahead[:n].tolist()
        assert len(trace) <= then or not trace.ahead[then]
        assert replay(trace, on=session.model).n_changed == 0


def test_what_is_ahead_is_marked_and_left_one_token(session):
    trace = session.generate(PROMPT, CHAIN, max_tokens=80, seed=3)
    assert "".join(p.decode() for p, a in zip(trace.pieces, trace.ahead) if a)[:4] == "nae:"
    assert set(trace.n_kept[trace.ahead, 0]) == {1}
    assert not trace.ahead[0]  # it came from the row of the prompt
    assert trace.ahead[1:8].tolist() == [True, True, False, True, True, False, False]
    assert trace[1].ahead
    again = ml.Trace.from_dict(json.loads(json.dumps(trace.to_dict())))
    assert again.n_decodes_saved == trace.n_decodes_saved
    old = trace.to_dict()
    del old["columns"]["ahead"]
    assert not ml.Trace.from_dict(old).ahead.any()


def test_a_stream_and_a_run_have_the_same_steps(session, plain):
    assert [s.token for s in session.stream(PROMPT, CHAIN, seed=3)] == plain.tokens.tolist()
    run = session.start(PROMPT, CHAIN, seed=3)
    assert [s.token for s in run] == plain.tokens.tolist()
    assert run.wait().n_decodes_saved > 12


def test_free_texts_beside_it_are_as_they_were(session, one_by_one):
    free = ml.TopK(40) | ml.Temperature(1.5)
    chains = [CHAIN, free, CHAIN, free, CHAIN]
    seeds = [1, 2, 3, 4, 5]
    expected = one_by_one.generate_many(PROMPT, chains, max_tokens=60, seeds=seeds)
    traces = session.generate_many(PROMPT, chains, max_tokens=60, seeds=seeds)
    assert tokens_of(traces) == tokens_of(expected)
    assert [t.n_decodes_saved > 12 for t in traces] == [True, False, True, False, True]


def test_a_branch_goes_on_with_it(session, one_by_one, plain):
    step = plain.text.index(": ") + 2  # the first that is free
    token = next(t for t in plain.after_ids[step].tolist() if t not in (-1, plain.tokens[step]))
    expected = one_by_one.branch(plain, step, token, max_tokens=60)
    branch = session.branch(plain, step, token, max_tokens=60)
    assert branch.tokens.tolist() == expected.tokens.tolist()
    assert branch.n_decodes_saved > 6


# What ends it in the midst.


def test_it_may_end_anywhere(session, one_by_one, plain):
    for n in range(1, len(plain)):
        trace = session.generate(PROMPT, CHAIN, max_tokens=n, seed=3)
        assert trace.tokens.tolist() == plain.tokens[:n].tolist()
        assert trace.finish_reason == "length"
        assert held(session) == trace.history(n - 1).tolist()


def test_a_stop_string_may_end_within_it(session, one_by_one):
    for stop in ("me:", "a", "n", "the c", " city: ", "ten y", "}"):
        expected = one_by_one.generate(PROMPT, CHAIN, max_tokens=80, seed=3, stop=stop)
        trace = session.generate(PROMPT, CHAIN, max_tokens=80, seed=3, stop=stop)
        assert (trace.text, trace.finish_reason) == (expected.text, expected.finish_reason)
        assert trace.tokens.tolist() == expected.tokens.tolist()
        assert held(session) == held(one_by_one)


def test_the_context_may_be_full_within_it(tiny_model, plain):
    n_prompt, reasons = len(plain.prompt_tokens), set()
    for n_ctx in range(n_prompt + 1, n_prompt + len(plain), 3):
        found = []
        for reproducible in (False, True):
            with tiny_model.session(n_ctx=n_ctx, n_threads=1, reproducible=reproducible) as small:
                trace = small.generate(PROMPT, CHAIN, max_tokens=80, seed=3)
                found.append((trace.tokens.tolist(), trace.finish_reason, held(small)))
        assert found[0] == found[1]
        reasons.add(found[0][1])
    assert "context" in reasons


def test_it_may_be_stopped_within_it(session, plain):
    for at in (2, 4, 9, 15):
        undo = session.on_start(
            lambda run, at=at: run.on_step(lambda step: run.stop() if step.index == at else None)
        )
        trace = session.generate(PROMPT, CHAIN, seed=3, max_tokens=80)
        undo()
        assert trace.finish_reason == "stopped"
        assert at < len(trace) <= at + 2
        assert trace.tokens.tolist() == plain.tokens[: len(trace)].tolist()
        assert (
            held(session) == trace.history(len(held(session)) - len(trace.prompt_tokens)).tolist()
        )


def test_its_batch_may_be_small(tiny_model, plain):
    with tiny_model.session(n_ctx=512, n_threads=1, n_batch=4, n_seq_max=3) as session:
        traces = session.generate_many(PROMPT, [CHAIN] * 3, max_tokens=80, seeds=[3, 3, 3])
    assert tokens_of(traces) == [plain.tokens.tolist()] * 3
    assert traces[0].n_decodes_saved


# What changes it in the midst.


@pytest.mark.parametrize("new", [ml.TopK(30) | ml.Temperature(2.0), replace(FORCED, stop="only")])
@pytest.mark.parametrize("at", [0, 1, 3, 8, 12])
def test_the_chain_may_change_within_it(session, one_by_one, new, at):
    def change(step):
        if step.index == at:
            session.run.chain = new

    undo = session.on_start(lambda run: run.on_step(change))
    trace = session.generate(PROMPT, CHAIN, seed=3, max_tokens=40)
    undo()
    (_, first), (changed, second) = trace.chains
    assert (first, at < changed <= at + 2) == (CHAIN, True)
    again = one_by_one.generate(PROMPT, trace.schedule, seed=3, max_tokens=40)
    assert trace.tokens.tolist() == again.tokens.tolist()
    assert second == ml.Chain.of(new)
    assert held(session) == held(one_by_one)
    again = session.generate(PROMPT, trace.schedule, seed=3, max_tokens=40)
    assert trace.tokens.tolist() == again.tokens.tolist()


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """What makes other weights: an adapter, and a control vector."""
    rng = np.random.default_rng(1)
    pair = [rng.normal(size=size).astype(np.float32) for size in ((2, 32), (64, 2))]
    path = tiny.write_adapter(tmp_path_factory.mktemp("a") / "a", {"blk.0.attn_q.weight": pair})
    return {
        "adapters": {ml.LoraAdapter.load(path): 1.0},
        "control": ml.ControlVector({1: rng.normal(size=32)}),
    }


def under_other_weights(session, until, turns):
    """The trace of a run in which, once a step is drawn, `turns[step]` is set on its session."""

    def turn(logits, history):
        for name, value in turns.pop(len(history) - n_prompt, {}).items():
            thread = threading.Thread(target=setattr, args=(session, name, value))
            threads.append(thread)
            thread.start()
            until(lambda: session.gauges.read().n_waiting == len(threads))
        return logits

    threads, n_prompt = [], len(session.prompt_tokens(PROMPT))
    session.adapters, session.control = {}, None
    trace = session.generate(PROMPT, CHAIN | ml.Custom(turn), max_tokens=80, seed=3)
    for thread in threads:
        thread.join()
    session.adapters, session.control = {}, None
    return trace


@pytest.mark.parametrize("at", [0, 1, 2, 3, 8, 14])
@pytest.mark.parametrize("names", [["control"], ["adapters"], ["control", "adapters"]])
def test_the_weights_may_change_within_it(session, one_by_one, weights, until, names, at):
    new = {name: weights[name] for name in names}
    trace = under_other_weights(session, until, {at: new})
    changed = [step for step, _ in trace.in_force[1:]]
    assert len(changed) == 1 and at < changed[0] <= at + 3
    plain = under_other_weights(one_by_one, until, {changed[0] - 1: new})
    assert trace.tokens.tolist() == plain.tokens.tolist() and trace.in_force == plain.in_force
    assert np.allclose(trace.logprob, plain.logprob, atol=0.02)
    assert trace.n_decodes_saved > 6 and plain.n_decodes_saved == 0
    assert np.array_equal(trace.n_kept, plain.n_kept)
    hot = FORCED | ml.TopK(40) | ml.Temperature(4)
    for chain in (None, hot):
        seen, wanted = (replay(one, chain, on=session) for one in (trace, plain))
        assert seen.choices.tolist() == wanted.choices.tolist()
        assert chain or seen.n_changed == 0
    for step in range(0, len(trace), 4):
        told, said = (fate(one, step, "y", on=session) for one in (trace, plain))
        assert told.reason == said.reason and told.choice == said.choice == trace.tokens[step]
        assert [s.n_left for s in told.stages] == [s.n_left for s in said.stages]


def test_a_stage_that_bans_what_is_forced_fails_as_it_does_one_by_one(session, one_by_one):
    chain = FORCED | ml.Mask(ban=[ord(":") + tiny.N_SPECIAL]) | ml.TopK(40)
    said = []
    for each in (session, one_by_one):
        run = each.start(PROMPT, chain, seed=3)
        with pytest.raises(NoCandidates) as raised:
            run.wait()
        said.append((str(raised.value), run.trace.text))
    assert said[0] == said[1]
    assert said[0][1] == "{name"
    assert session.generate(PROMPT, CHAIN, max_tokens=80, seed=3).finish_reason == "eog"


def test_a_model_with_a_state_decodes_one_by_one(tmp_path):
    path = tiny.write(tmp_path / "state.gguf", architecture="mamba")
    with ml.Model.load(path) as model, model.session(n_ctx=256) as session:
        trace = session.generate(PROMPT, CHAIN, max_tokens=30, seed=1)
        assert trace.text.startswith("{name: ")
        assert trace.n_decodes_saved == 0


def test_where_the_cache_cannot_forget_the_text_is_decoded_again(tiny_model, monkeypatch):
    monkeypatch.setattr(Cache, "can_cut", lambda self, s, n: n == len(self.sequences[s].text))
    schedule = {0: CHAIN, 2: ml.TopK(30) | ml.Temperature(2.0)}
    found = []
    for reproducible in (False, True):
        with tiny_model.session(n_ctx=256, n_threads=1, reproducible=reproducible) as session:
            trace = session.generate(PROMPT, schedule, max_tokens=20, seed=1)
            found.append((trace.tokens.tolist(), held(session)))
            if not reproducible:
                n_plain = len(trace.prompt_tokens) + len(trace) - 1
                assert session.ledger.decoded > n_plain + len(trace.prompt_tokens)
                stopped = session.generate(PROMPT, CHAIN, max_tokens=80, seed=3, stop="n")
                assert stopped.text == "{"
                assert len(held(session)) > len(stopped.history(len(stopped)))  # left to the next
            after = session.generate(PROMPT, CHAIN, max_tokens=80, seed=3)
            found[-1] = (*found[-1], after.tokens.tolist(), held(session))
    assert found[0] == found[1]


def test_a_fork_goes_on_with_it(session, one_by_one, plain):
    found = []
    for each in (session, one_by_one):
        each.generate(PROMPT, CHAIN, max_tokens=6, seed=3)
        fork = each.fork(n_tokens=len(plain.prompt_tokens))
        trace = each.generate(PROMPT, CHAIN, max_tokens=80, seed=4, sequence=fork)
        found.append((trace.tokens.tolist(), each.sequences[fork].tolist()))
        each.remove(fork)
    assert found[0] == found[1]


def test_a_saved_session_goes_on_from_within_it(session, tiny_model, plain, tmp_path):
    for n in (4, 11, 18):
        session.generate(PROMPT, CHAIN, max_tokens=n, seed=3)
        session.save(tmp_path / "s")
        with ml.Session.load(tmp_path / "s", tiny_model) as again:
            assert held(again) == held(session)
            trace = again.generate(PROMPT, CHAIN, max_tokens=80, seed=3)
            assert trace.tokens.tolist() == plain.tokens.tolist()
        (tmp_path / "s").unlink()


# What is shown of it.


def test_previews_and_replays_are_narrowed_as_the_run_was(session, tiny_model):
    trace = session.generate(PROMPT, CHAIN, max_tokens=80, seed=3)
    for step in range(len(trace)):
        ids, logits = trace.kept(step)
        assert len(ids) == tiny_model.n_vocab
        view = CHAIN.preview(
            logits, model=tiny_model, history=trace.history(step), seed=3, step=step
        )
        assert view.choice == trace.tokens[step]
        assert view.stages[0].n_kept == trace.n_kept[step, 0]


def test_a_walk_has_the_same_text_to_come(smollm2):
    grammar = ml.Grammar.json_schema(PERSON)
    begun = matcher(smollm2, grammar, fast_forward=True)
    walk = ml.GrammarWalk(grammar, smollm2)
    for text in ("{", '"', "full_name", '"', ": ", '"Bo', '"', ", ", '"', "is_a_student", '"'):
        data = b"".join(smollm2.piece(token) for token in begun.forced())
        assert walk.forced.text.encode().startswith(data)
        assert walk.feed(text)
        for token in smollm2.tokenize(text, add_special=False):
            assert begun.accept(token)


def test_fate_names_the_tokenizers_own_token(session, smollm2):
    form = ml.Constrain(ml.Grammar.gbnf('root ::= "the student " [0-9]+'), fast_forward=True)
    with smollm2.session(n_ctx=128, n_threads=1) as session:
        trace = session.generate("x", form | ml.TopK(5), max_tokens=3, seed=1)
        (letter,) = smollm2.tokenize("t", add_special=False)
        told = str(fate(trace, 0, letter, on=session))
    assert "forbidden by the grammar: the tokenizer's own token is 'the'" in told


# Which tokens are forced.


def test_they_are_the_tokenizers(smollm2):
    text = '{"name": "Bob", "the age of the student\'s é ": 17, ...}\n\n'
    grammar = ml.Grammar.choice([text])
    with smollm2.session(n_ctx=256, n_threads=1) as session:
        trace = session.generate("x", ml.Constrain(grammar, fast_forward=True), seed=1)
    assert trace.tokens[:-1].tolist() == smollm2.tokenize(text, add_special=False)
    assert trace.text == text


def test_a_token_before_them_stays_though_the_tokenizer_would_have_joined_it(smollm2):
    grammar = ml.Grammar.gbnf('root ::= ("h" | "j") "ello world."')
    begun = matcher(smollm2, grammar, fast_forward=True)
    (letter,) = smollm2.tokenize("h", add_special=False)
    assert begun.allowed()[letter]
    assert begun.accept(letter)
    pieces = [smollm2.piece(token) for token in begun.forced()]
    assert b"".join(pieces) == b"ello world."
    assert begun.forced() == smollm2.tokenize("ello world.", add_special=False)
    assert len(smollm2.tokenize("hello", add_special=False)) < 1 + len(pieces[:1]) + 1


def test_where_a_choice_follows_the_last_tokens_are_left_open(smollm2):
    grammar = ml.Grammar.gbnf('root ::= "yes, of " ("course" | "cause")')
    begun = matcher(smollm2, grammar, fast_forward=True)
    assert [smollm2.piece(token) for token in begun.forced()] == [b"yes", b",", b" of"]
    for token in begun.forced():
        assert begun.accept(token)
    allowed = {smollm2.piece(int(token)) for token in np.flatnonzero(begun.allowed())}
    assert {b" ", b" c", b" cause", b" course"} <= allowed
    assert begun.forced() == []


def test_tokens_that_the_tokenizer_would_not_choose_are_taken_all_the_same(smollm2):
    grammar = ml.Grammar.choice(["the student"])
    begun = matcher(smollm2, grammar, fast_forward=True)
    (letter,) = smollm2.tokenize("t", add_special=False)
    assert not begun.allowed()[letter]
    assert begun.accept(letter)
    assert b"".join(smollm2.piece(token) for token in begun.forced()) == b"he student"


@pytest.mark.parametrize("kind", ["spm", "bpe", "wpm", "ugm", "rwkv"])
def test_every_kind_of_vocabulary_has_them(tmp_path, kind):
    path = tiny.write(tmp_path / "kind.gguf", vocabulary=kind)
    text = "ab cd" if kind in ("wpm", "ugm") else "ab é cd, EF"
    grammar = ml.Grammar.choice([text])
    with ml.Model.load(path) as model, model.session(n_ctx=128) as session:
        trace = session.generate("a", ml.Constrain(grammar, fast_forward=True), max_tokens=30)
        assert trace.text == text


def test_a_text_that_the_model_cannot_write_is_forced_as_far_as_it_can(tmp_path):
    path = tiny.write(tmp_path / "kind.gguf", vocabulary="wpm")
    with ml.Model.load(path) as model:
        begun = matcher(model, ml.Grammar.choice(["ab ☃ cd"]), fast_forward=True)
        assert [model.piece(token) for token in begun.forced()] == [b"a", b"b"]


def test_after_a_marker_it_begins_with_the_grammar(session, one_by_one):
    chain = (
        ml.Constrain(FORM, after=re_marker(), fast_forward=True) | ml.TopK(40) | ml.Temperature(1.5)
    )
    traces = [s.generate(PROMPT, chain, max_tokens=90, seed=2) for s in (session, one_by_one)]
    assert tokens_of(traces[:1]) == tokens_of(traces[1:])
    assert "{name: " in traces[0].text
    assert traces[0].n_decodes_saved > 6


def re_marker():
    return ml.Grammar.regex(f"[{string.ascii_lowercase}]")


# The value.


def test_it_prints_and_reads_as_code_and_as_values():
    assert repr(FORCED) == f"Constrain({FORM!r}, fast_forward=True)"
    assert ml.Chain.from_dict(json.loads(json.dumps(CHAIN.to_dict()))) == CHAIN
    old = ml.Constrain(FORM).to_dict()
    del old["fast_forward"]
    assert ml.Chain.from_dict({"stages": [old]}) == ml.Chain.of(ml.Constrain(FORM))
    with pytest.raises(TypeError, match="fast_forward"):
        ml.Constrain(FORM, fast_forward=np.zeros(2))
