"""A grammar in the chain: in generations of every kind, in previews, studies and saved traces."""

from __future__ import annotations

import itertools
import json
import pickle
from dataclasses import replace

import jsonschema
import numpy as np
import pytest

import mullama_lab as ml
from mullama_lab.engine import tiny
from mullama_lab.engine.rows.tail import Uncovered
from mullama_lab.engine.stages.chain_sampler import ChainSampler, SurvivorCount
from mullama_lab.engine.stages.moment import moment_of_row
from mullama_lab.errors import GrammarBroken, GrammarError, NoCandidates
from mullama_lab.studies.fate import fate
from mullama_lab.studies.flips import flip_map
from mullama_lab.studies.order import orders
from mullama_lab.studies.replay import replay, stage_effects
from mullama_lab.widgets import ChainEditor, NextToken

PROMPT = "Is it?"
ANSWER = ml.Grammar.choice(["yes", "no", "maybe"])
WORDS = ml.Grammar.gbnf('root ::= "(" [a-c]{3} ("," [a-c]{3})* ")"')
AFTER = ml.TopK(20) | ml.Temperature(1.5)


@pytest.fixture(scope="module")
def session(tiny_model):
    with tiny_model.session(n_ctx=512, n_threads=1) as session:
        yield session


@pytest.fixture(scope="module")
def trace(session):
    return session.generate(PROMPT, AFTER, grammar=WORDS, max_tokens=16, seed=3)


def is_beginning(text):
    """Whether a text is the beginning of one of WORDS."""
    if text.endswith(")"):
        return all(len(word) == 3 and set(word) <= set("abc") for word in text[1:-1].split(","))
    *words, last = text[1:].split(",")
    whole = all(len(word) == 3 for word in words)
    return (
        text[:1] == "(" and whole and len(last) <= 3 and set("".join([*words, last])) <= set("abc")
    )


def test_the_text_is_one_of_the_grammar_and_ends_where_it_is_complete(session):
    found = set()
    for seed in range(12):
        trace = session.generate(PROMPT, AFTER, grammar=ANSWER, max_tokens=20, seed=seed)
        assert trace.finish_reason == "eog"
        found.add(trace.text)
    assert found == {"yes", "no", "maybe"}


def test_it_is_what_was_generated_that_counts(trace):
    assert trace.chain_at(0) == ml.Constrain(WORDS) | AFTER
    assert is_beginning(trace.text) and len(trace) >= 5
    assert trace.n_kept[:3, 0].tolist() == [1, 3, 3]
    assert (trace.columns()["constraint_ns"] > 0).all()


def test_it_draws_what_a_mask_of_the_allowed_tokens_draws(session):
    """Masked first: drawn first and masked then it would be another token under one uniform."""
    constrained = session.generate(PROMPT, AFTER, grammar=WORDS, max_tokens=1, seed=5)
    masked = session.generate(PROMPT, ml.Mask(allow=[ord("(") + 3]) | AFTER, max_tokens=1, seed=5)
    assert constrained.tokens.tolist() == masked.tokens.tolist()
    letters = ml.Grammar.gbnf("root ::= [a-z]")
    ids = [ord(c) + 3 for c in "abcdefghijklmnopqrstuvwxyz"]
    for seed in range(10):
        one = session.generate(PROMPT, AFTER, grammar=letters, max_tokens=1, seed=seed)
        other = session.generate(PROMPT, ml.Mask(allow=ids) | AFTER, max_tokens=1, seed=seed)
        assert one.tokens.tolist() == other.tokens.tolist()
        assert one.n_kept[0].tolist() == other.n_kept[0].tolist()
        assert np.allclose(one[0].logprob_after, other[0].logprob_after)


def test_streams_runs_and_many_texts(session, trace):
    chain = ml.Constrain(WORDS) | AFTER
    steps = list(session.stream(PROMPT, AFTER, grammar=WORDS, max_tokens=16, seed=3))
    assert [step.token for step in steps] == trace.tokens.tolist()
    run = session.start(PROMPT, chain, max_tokens=16, seed=3)
    assert run.wait().tokens.tolist() == trace.tokens.tolist()
    several = session.generate_many([PROMPT, "A"], AFTER, grammar=WORDS, max_tokens=8, seeds=[3, 4])
    assert all(is_beginning(each.text) for each in several)
    grammars = [ml.Grammar.choice([f"{n} of it"]) for n in range(8)]
    chains = [ml.Constrain(grammar) | AFTER for grammar in grammars]
    each = session.generate_many(PROMPT, chains, max_tokens=12, seeds=1)
    assert [one.text for one in each] == [f"{n} of it" for n in range(8)]
    chat = session.chat(
        [{"role": "user", "content": "Is it?"}], AFTER, grammar=ANSWER, max_tokens=9, seed=1
    )
    assert chat.text in ("yes", "no", "maybe")
    schedule = {0: ml.TopK(5), 2: ml.TopK(9)}
    changing = session.generate(PROMPT, schedule, grammar=WORDS, max_tokens=6, seed=1)
    assert [len(c) for _, c in changing.chains] == [2, 2] and is_beginning(changing.text)


def test_a_preview_chooses_what_the_generation_chose(trace, session):
    chain = trace.chain_at(0)
    for step in range(len(trace)):
        view = chain.preview(
            trace.kept(step)[1],
            model=session.model,
            history=trace.history(step),
            seed=trace.seed,
            step=step,
        )
        assert view.choice == trace.tokens[step]
        assert view.stages[0].n_kept == trace.n_kept[step, 0]
        assert view.stages[0].removed_mass > 0.9
        shown = NextToken()
        shown.show(view)
        assert len(shown.view["columns"]) == 4


def test_it_is_put_in_and_taken_out_on_the_way(session):
    free = ml.Mask(ban=[tiny.EOS]) | AFTER
    digits = ml.Constrain(ml.Grammar.gbnf("root ::= . . . [0-9]{9}")) | AFTER
    ascii_alone = ml.Mask(allow=range(0x23, 0x82)) | AFTER
    schedule = {0: ascii_alone, 3: digits, 6: ascii_alone}
    trace = session.generate(PROMPT, schedule, max_tokens=8, seed=1)
    assert trace.text[3:6].isdigit() and len(trace.chains) == 3
    run = session.start(PROMPT, free, max_tokens=300, seed=1)
    next(iter(run))
    with pytest.raises(GrammarBroken):
        run.chain = ml.Constrain(ml.Grammar.gbnf('root ::= "?"')) | AFTER
    assert run.chain == free and run.wait().finish_reason == "length"


def test_a_swap_to_what_the_text_cannot_meet_is_an_error_and_the_session_lives(session):
    run = session.start(PROMPT, ml.Constrain(ANSWER) | AFTER, max_tokens=9, seed=1)
    broken = ml.Constrain(WORDS) | AFTER
    with pytest.raises(GrammarBroken, match="is no beginning of what it allows. Generated token 0"):
        session.generate(PROMPT, {0: ml.Constrain(ANSWER), 1: broken}, max_tokens=5, seed=1)
    run.wait()
    assert session.generate(PROMPT, AFTER, grammar=ANSWER, max_tokens=9, seed=1).text


def test_a_branch_goes_on_by_the_token_that_was_given(trace, session):
    token = next(ord(c) + 3 for c in "abc" if ord(c) + 3 != trace.tokens[2])
    branch = session.branch(trace, 2, token, max_tokens=8)
    assert branch.tokens[2] == token and is_beginning(branch.text)
    with pytest.raises(GrammarBroken, match="Generated token 2, 'x'"):
        session.branch(trace, 2, ord("x") + 3, max_tokens=8)


def test_a_later_stage_that_brings_back_what_is_forbidden_breaks_it(session):
    def one_token(logits, history):
        logits[:] = -np.inf
        logits[ord("x") + 3] = 0
        return logits

    with pytest.raises(GrammarBroken, match="Generated token 0, 'x'"):
        session.generate(PROMPT, ml.Constrain(WORDS) | ml.Custom(one_token), max_tokens=3)


def test_a_stage_before_it_may_leave_nothing(session):
    yes = ml.Constrain(ml.Grammar.choice(["yes"]))
    with pytest.raises(NoCandidates, match=r"after stage 1, Constrain\(Grammar.choice"):
        session.generate(PROMPT, ml.Mask(ban=[ord("y") + 3]) | yes)
    with pytest.raises(NoCandidates, match=r"after stage 1, Constrain\(Grammar.choice"):
        session.generate(PROMPT, ml.Mask(allow=[ord("x") + 3]) | yes | AFTER)


def test_replays_effects_flips_and_orders(trace, session):
    assert replay(trace, on=session).n_changed == 0
    assert replay(trace, AFTER, on=session).first == 0
    assert stage_effects(trace, on=session) is not None
    assert flip_map(trace, ml.Temperature, "t", on=session) is not None
    assert len(orders(trace, ml.Constrain(WORDS) | ml.TopK(9), on=session)) == 2


def test_the_fate_of_a_forbidden_token_says_what_was_expected(trace, session):
    told = fate(trace, 0, "x", on=session)
    assert told.removed_by.stage == ml.Constrain(WORDS) and told.margin is None
    assert told.remark() == "Forbidden by the grammar: expected `(`."
    assert "removed it, forbidden by the grammar: expected `(`." in told.summary()
    told = fate(trace, 1, "x", on=session)
    assert told.remark() == "Forbidden by the grammar: expected `a`, `b` or `c`."
    assert fate(trace, 3, int(trace.tokens[3]), on=session).chosen
    answered = session.generate(PROMPT, grammar=ml.Grammar.choice(["no", "no!"]), max_tokens=2)
    ended = session.generate(PROMPT, grammar=ml.Grammar.choice(["no", "no!"]), max_tokens=3)
    assert answered.text == "no"
    told = fate(ended, 2, "x", on=session)
    assert told.remark() == "Forbidden by the grammar: expected `!` or the end."
    anything = session.generate(
        PROMPT, grammar=ml.Grammar.gbnf("root ::= [^x]+"), max_tokens=1, seed=1
    )
    assert "expected one of " in fate(anything, 0, "x", on=session).remark()


def test_a_trace_with_it_is_saved_and_loaded(trace, session, tmp_path):
    again = ml.Trace.from_dict(json.loads(json.dumps(trace.to_dict())))
    assert again.chain_at(0) == trace.chain_at(0)
    assert replay(again, on=session).n_changed == 0
    with session.model.session(n_ctx=512, n_threads=1) as other:
        other.generate(PROMPT, AFTER, grammar=WORDS, max_tokens=6, seed=3)
        other.save(tmp_path / "saved")
        with ml.Session.load(tmp_path / "saved", session.model) as back:
            assert back.last_trace.chain_at(0) == trace.chain_at(0)


def test_it_is_a_value_that_prints_as_code_and_goes_into_a_dict():
    schema = ml.Grammar.json_schema({"type": "integer"})
    for grammar in (ANSWER, WORDS, schema, schema + "\n" + ANSWER):
        chain = ml.Constrain(grammar) | ml.TopK(5)
        assert ml.Chain.from_dict(json.loads(json.dumps(chain.to_dict()))) == chain
        assert pickle.loads(pickle.dumps(chain)) == chain
        assert eval(chain[0].to_code(), {"ml": ml}) == chain[0]
        assert hash(chain[0]) == hash(ml.Constrain(grammar))
        assert eval(ChainEditor(chain).code, {"ml": ml}) == chain
    assert repr(ml.Constrain(ANSWER)) == "Constrain(Grammar.choice(['yes', 'no', 'maybe']))"
    with pytest.raises(TypeError, match="takes a Grammar, not 'yes'"):
        ml.Constrain("yes")
    with pytest.raises(ValueError, match="a grammar is a dict"):
        ml.Chain.from_dict({"stages": [{"stage": "Constrain", "grammar": {}}]})


def test_a_grammar_that_allows_everything_has_no_effect(session):
    assert ml.Constrain().why_inert() == "the grammar allows every text"
    assert ml.Constrain(ANSWER).why_inert() == ""
    free = session.generate(PROMPT, ml.Constrain() | AFTER, max_tokens=5, seed=2)
    assert (
        free.tokens.tolist()
        == session.generate(PROMPT, AFTER, max_tokens=5, seed=2).tokens.tolist()
    )


def test_a_chain_editor_sets_its_grammar_as_text():
    editor = ChainEditor(ml.TopK(5) | ml.Temperature(0.5))
    editor.add("Constrain")
    assert editor.chain[0] == ml.Constrain(), "a mask comes first"
    assert editor.cards[0]["texts"] == {"grammar": ""} and editor.cards[0]["inert"]
    editor.set("Constrain", grammar='"yes" | "no"')
    assert editor.chain[0].grammar == ml.Grammar.gbnf('root ::= "yes" | "no"')
    assert editor.cards[0]["texts"] == {"grammar": '"yes" | "no"'}
    with pytest.raises(GrammarError, match="line 2, column 3"):
        editor.set("Constrain", grammar='root ::= x\nx = "a"')
    with pytest.raises(ValueError, match="20001 characters; at most 20000"):
        editor.set("Constrain", grammar=" " * 20_001)
    assert editor.cards[0]["texts"] == {"grammar": '"yes" | "no"'}
    editor.set("Constrain", grammar=" ")
    assert editor.chain[0] == ml.Constrain()
    editor.set("Constrain", grammar=ml.Grammar.lark("start: /a+/"))
    assert editor.cards[0]["texts"] == {"grammar": None}, "no text that is read back"
    editor.toggle("Constrain")
    assert editor.chain == ml.TopK(5) | ml.Temperature(0.5)


def test_what_cannot_be_carried_out_is_refused_before_anything_is_decoded(session, tmp_path):
    before = session.ledger
    with pytest.raises(GrammarError, match="<foo> is no token"):
        session.generate(PROMPT, grammar=ml.Grammar.gbnf("root ::= <foo>"))
    with pytest.raises(TypeError, match="takes a Grammar"):
        session.generate(PROMPT, grammar="yes")
    assert session.ledger == before


def partly(moment, n):
    """The moment of which the n likeliest candidates were kept."""
    best = np.sort(np.argsort(-moment.logits, kind="stable")[:n])
    return replace(moment, ids=moment.ids[best], logits=moment.logits[best])


def test_a_row_kept_in_part_decides_it_or_is_not_enough(tiny_model):
    letters = ml.Grammar.gbnf("root ::= [\\x01-\\x7f]+")
    sure = 0
    for seed, n in itertools.product(range(30), (60, 120, 200)):
        row = np.random.default_rng(seed).normal(size=259).astype(np.float32) * 3
        where = {"history": [7, 70, 71], "seed": seed, "step": 2}
        for chain in (ml.Constrain(letters) | ml.TopK(5), ml.TopK(50) | ml.Constrain(letters)):
            whole = moment_of_row(row, tiny_model, chain=chain, **where)
            part = partly(whole, n)
            try:
                choice = part.choose(part.sampler())
            except Uncovered:
                continue
            assert choice == whole.choose(whole.sampler())
            sure += 1
    assert sure > 100


@pytest.mark.parametrize(
    "grammar", ["root ::= [a-c]", "root ::= .", "root ::= [^a-c]{9}"], ids=["few", "all", "most"]
)
@pytest.mark.parametrize("then", [ml.TopK(5), ml.TopK(40), ml.MinP(0.01), ml.TopK(0) | ml.TopK(2)])
def test_the_short_way_chooses_and_counts_as_the_long_one(pieces_row_model, grammar, then):
    chain = ml.Constrain(ml.Grammar.gbnf(grammar)) | then | ml.Temperature(1.5)
    for seed in range(30):
        row = np.random.default_rng(seed).normal(size=20_000).astype(np.float32) * 3
        found = []
        for only_counts in (False, True):
            work, survivors = ChainSampler(chain, pieces_row_model, seed=seed), SurvivorCount(chain)
            survivors.start(len(row))
            token = work.apply(row, 0, survivors.count, only_counts=only_counts)
            found.append((token, survivors.counts))
        assert found[0] == found[1]


@pytest.fixture(scope="module")
def pieces_row_model(tmp_path_factory):
    """A model of 20 000 tokens, enough for short ways."""
    words = [f"{a}{b}{c}" for a, b, c in itertools.product("abcdefghijklmnopqrstuvwxyz", repeat=3)]
    path = tiny.write(tmp_path_factory.mktemp("m") / "m.gguf", n_vocab=20_000, pieces=words)
    with ml.Model.load(path, vocab_only=True) as model:
        yield model


SCHEMAS = [
    {"type": "object", "properties": {"a": {"type": "integer", "minimum": -3, "maximum": 40}},
     "required": ["a"], "additionalProperties": False},
    {"type": "array", "items": {"enum": ["x", "yy", 3, None]}, "minItems": 1, "maxItems": 3},
    {"anyOf": [{"type": "boolean"}, {"type": "string", "maxLength": 3}]},
    {"type": "string", "pattern": "^[a-c]{2,4}$"},
    {"$ref": "#/$defs/t", "$defs": {"t": {"type": "array", "items": {"$ref": "#/$defs/t"},
                                          "maxItems": 2}}},
]  # fmt: skip


@pytest.mark.parametrize("schema", SCHEMAS, ids=range(len(SCHEMAS)))
def test_what_a_finished_run_wrote_validates(session, schema):
    # The tiny model writes blanks for ever where it may.
    chain = ml.Mask(ban=[ord(c) + 3 for c in " \t\n\r"]) | ml.Temperature(1.5)
    finished = 0
    for seed in range(6):
        trace = session.generate(
            PROMPT, chain, grammar=ml.Grammar.json_schema(schema), max_tokens=60, seed=seed
        )
        if trace.finish_reason == "eog":
            finished += 1
            jsonschema.validate(json.loads(trace.text), schema)
    assert finished


@pytest.fixture(scope="module", params=["rwkv", "wpm"])
def endless(tmp_path_factory, request):
    """A session of a model without a token that ends a generation."""
    named = tiny.VOCABULARIES["rwkv"](tiny.N_VOCAB, ())["tokenizer.ggml.tokens"]
    keys = {"tokenizer.ggml.tokens": [*named[:2], "<more>", *named[3:]]}  # llama.cpp knows </s>
    path = tiny.write(
        tmp_path_factory.mktemp("m") / "m.gguf",
        vocabulary=request.param,
        metadata={"tokenizer.ggml.eos_token_id": None, **(keys if request.param == "rwkv" else {})},
    )
    with ml.Model.load(path) as model, model.session(n_ctx=256, n_threads=1) as session:
        assert not any(map(model.is_eog, range(model.n_vocab)))
        yield session


SHORT = ml.Grammar.gbnf('root ::= " "? ("no" | "nobody" | "yes")')


@pytest.mark.parametrize("fast_forward", [False, True])
def test_a_text_of_a_model_without_an_end_ends_where_it_can_only_end(endless, fast_forward):
    stage = ml.Constrain(SHORT, fast_forward=fast_forward)
    found = set()
    for seed in range(12):
        trace = endless.generate("abc", stage | ml.Temperature(9), max_tokens=9, seed=seed)
        found.add(trace.text.strip())
        assert trace.finish_reason == "complete"
        assert replay(trace, on=endless).n_changed == 0
    assert found == {"nobody", "yes"}
    empty = endless.generate("abc", grammar=ml.Grammar.choice([""]))
    assert (len(empty), empty.finish_reason) == (0, "complete")


def test_a_preview_after_the_end_of_a_model_without_one_says_so(endless):
    trace = endless.generate("abc", ml.Temperature(9), grammar=SHORT, max_tokens=9, seed=1)
    history = [*trace.history(len(trace) - 1), int(trace.tokens[-1])]
    row, where = endless.logits(history), {"history": history, "step": len(trace)}
    for chain in (ml.Constrain(SHORT) | ml.TopK(5), ml.TopK(5) | ml.Constrain(SHORT)):
        with pytest.raises(NoCandidates, match=r"the text is complete, and no token of .* ends it"):
            chain.preview(row, model=endless.model, **where)


def test_a_text_of_a_model_without_an_end_goes_on_where_it_may(endless):
    letters = ml.Grammar.gbnf("root ::= [a-z ]+")
    trace = endless.generate("abc", grammar=letters, max_tokens=9, seed=1)
    assert (len(trace), trace.finish_reason) == (9, "length")
    stage = ml.Constrain(letters, stop="complete")
    assert len(endless.generate("abc", grammar=stage, max_tokens=9, seed=1)) == 1


def test_a_grammar_is_seen_from_inside_with_a_model_without_an_end(endless):
    walk = ml.GrammarWalk(SHORT, endless.model)
    assert walk.feed("no") and walk.is_complete and not walk.can_only_end
    assert walk.feed("body") and walk.can_only_end and not walk.is_ended
    assert [one.text for one in walk.expected] == ["the end"] and walk.n_allowed == 0
    assert not walk.feed("b") and "expected the end" in str(walk.refusal)
    trace = endless.generate("abc", ml.Temperature(9), grammar=SHORT, max_tokens=9, seed=1)
    told = fate(trace, 0, endless.model.tokenize("b", add_special=False)[-1], on=endless)
    assert "forbidden by the grammar: expected" in str(told)


def test_a_grammar_of_a_model_without_an_end_may_follow_a_marker(endless):
    stage = ml.Constrain(SHORT, after=ml.Grammar.regex("[a-z]"))
    trace = endless.generate("abc", stage | ml.Temperature(9), max_tokens=200, seed=1)
    assert trace.finish_reason == "complete"
    assert trace.text.endswith(("nobody", "yes"))


NUMBER = ml.Grammar.gbnf("root ::= [1-9]{1,3}")


@pytest.mark.parametrize("stop", ["complete", "only"])
def test_a_text_ends_without_a_token_for_it_where_the_grammar_says_so(session, stop):
    several = ml.Grammar.choice(["no", "nobody", "yes"])
    ends = {"complete": {"no", "yes"}, "only": {"no", "nobody", "yes"}}[stop]
    found, hot = set(), ml.Temperature(9)
    for seed in range(12):
        free = session.generate(PROMPT, hot, grammar=several, max_tokens=20, seed=seed)
        chain = ml.Constrain(several, stop=stop) | hot
        trace = session.generate(PROMPT, chain, max_tokens=20, seed=seed)
        found.add(trace.text)
        # The same draws, up to where it ends.
        assert trace.tokens.tolist() == free.tokens[: len(trace)].tolist()
        by_itself = trace.text == "no" and stop == "only"  # where it may also go on
        assert trace.finish_reason == ("eog" if by_itself else "complete")
        assert replay(trace, on=session).n_changed == 0
    assert found == ends


def test_a_number_is_complete_at_once_and_can_only_end_when_it_is_full(session):
    short = session.generate(PROMPT, ml.Constrain(NUMBER, stop="complete"), max_tokens=9, seed=1)
    assert (len(short), short.finish_reason) == (1, "complete")
    no_end = ml.Constrain(NUMBER, stop="only") | ml.Mask(ban=[tiny.EOS])
    full = session.generate(PROMPT, no_end, max_tokens=9, seed=1)
    assert (len(full), full.finish_reason) == (3, "complete")


def test_what_is_complete_before_it_begins_has_no_token(session):
    for stop in ("complete", "only"):
        grammar = ml.Grammar.gbnf('root ::= "a"*' if stop == "complete" else 'root ::= ""')
        trace = session.generate(PROMPT, ml.Constrain(grammar, stop=stop), max_tokens=9)
        assert (len(trace), trace.finish_reason, trace.text) == (0, "complete", "")
    letters = ml.Constrain(ml.Grammar.gbnf('root ::= "("? [a-c]* ")"*'), stop="complete")
    swapped = {0: ml.Constrain(WORDS) | AFTER, 4: letters}
    trace = session.generate(PROMPT, swapped, max_tokens=9, seed=1)
    assert (len(trace), trace.finish_reason) == (4, "complete")
    branch = session.branch(trace, 2, ord("a") + 3, letters)
    assert (len(branch), branch.finish_reason) == (3, "complete")


def test_stop_strings_limits_and_several_texts_beside_an_end_of_the_grammar(session):
    chain = ml.Constrain(NUMBER, stop="only") | ml.Mask(ban=[tiny.EOS])
    assert session.generate(PROMPT, chain, max_tokens=3).finish_reason == "complete"
    assert session.generate(PROMPT, chain, max_tokens=2).finish_reason == "length"
    stopped = session.generate(PROMPT, chain, stop=list("123456789"), max_tokens=9)
    assert (stopped.finish_reason, stopped.text) == ("stop", "")
    many = session.generate_many(PROMPT, chain, max_tokens=9, seeds=range(6))
    assert [(len(one), one.finish_reason) for one in many] == [(3, "complete")] * 6
    assert [run.state for run in session.start_many(PROMPT, chain, seeds=[1]) if run.wait()] == [
        "finished"
    ]


def test_a_stop_is_a_setting_like_another():
    chain = ml.Constrain(ANSWER, stop="only") | ml.TopK(5)
    assert ml.Chain.from_dict(json.loads(json.dumps(chain.to_dict()))) == chain
    assert eval(ChainEditor(chain).code, {"ml": ml}) == chain
    assert repr(chain[0]).endswith(", stop='only')")
    assert repr(ml.Constrain(ANSWER, stop=np.str_("only"))) == repr(chain[0])
    assert ml.Constrain(stop="complete").why_inert() == ""
    with pytest.raises(ValueError, match="must be one of complete, only"):
        ml.Constrain(ANSWER, stop="soon")


def test_a_limit_of_llguidance_is_told_as_that_and_not_as_a_wrong_token(session, tiny_model):
    names = [f"p{n}" for n in range(1100)]
    schema = {"type": "object", "properties": {name: {"type": "string"} for name in names}}
    wide = ml.Grammar.json_schema({**schema, "additionalProperties": False})
    with pytest.raises(GrammarBroken, match="generated token 0, '{': .* more ways"):
        session.generate("a", grammar=wide, max_tokens=4, seed=1)
    walk = ml.GrammarWalk(wide, tiny_model)
    assert not walk.feed("{")
    assert "found `{`, which is too much for llguidance" in str(walk.refusal)
    with pytest.raises(GrammarError, match="more ways"):
        wide.examples(1)
