"""GrammarLab: the grammar bench and the chain's Constrain are one, and runs keep to it."""

from __future__ import annotations

import threading

import numpy as np
import pytest
from page import ask_data, reply_data, reply_to, text_of

import mullama_lab as ml
from mullama_lab.engine import tiny
from mullama_lab.errors import GrammarError
from mullama_lab.labs import GrammarLab, _costs, _hindsight
from mullama_lab.studies.forbidden import forbidden
from mullama_lab.studies.grammar_tax import grammar_tax
from mullama_lab.studies.tokenization import tokenization
from mullama_lab.widgets import TokenStrip

LETTERS = "root ::= [a-c]+"


@pytest.fixture
def lab(tiny_model):
    with tiny_model.session() as session:
        lab = GrammarLab(session, "Hello", seed=3, max_tokens=6)
        yield lab
        lab.close()


def grammars(lab):
    return [stage.grammar for stage in lab.chain if isinstance(stage, ml.Constrain)]


def test_the_bench_turns_the_chain(lab):
    lab.grammar_bench.grammar = LETTERS
    assert grammars(lab) == [] and lab.grammar_bench.constrains == "off"
    lab.constrain()
    assert isinstance(lab.chain[0], ml.Constrain) and lab.grammar_bench.constrains == "on"
    trace = lab.run()
    assert set(trace.text) <= set("abc")
    lab.grammar_bench.text = "[d-f]+"
    assert grammars(lab) == [ml.Grammar.gbnf("root ::= [d-f]+")]
    lab.constrain(False)
    assert grammars(lab) == [] and lab.grammar_bench.constrains == "off"
    lab.constrain()
    assert grammars(lab) == [ml.Grammar.gbnf("root ::= [d-f]+")]
    assert [card["stage"] for card in lab.editor.cards].count("Constrain") == 1


def test_the_chain_turns_the_bench(lab):
    lab.chain = ml.Constrain(ml.Grammar.gbnf(LETTERS)) | ml.Temperature(0.5)
    assert lab.grammar_bench.grammar == ml.Grammar.gbnf(LETTERS)
    lab.editor.set("Constrain", grammar="[x-z]+")
    assert lab.grammar_bench.text == "[x-z]+"
    lab.editor.toggle("Constrain")
    assert lab.grammar_bench.constrains == "off"
    assert lab.grammar_bench.grammar == ml.Grammar.gbnf("root ::= [x-z]+")


def test_a_grammar_that_the_model_cannot_carry_out_changes_no_chain(lab):
    lab.grammar_bench.grammar = LETTERS
    lab.constrain()
    lab.grammar_bench.text = "root ::= <no-such-token>"
    assert "no token" in lab.grammar_bench.problem["message"]
    assert grammars(lab) == [ml.Grammar.gbnf(LETTERS)]


def test_nothing_runs_by_a_grammar_that_is_not_the_one_typed(lab):
    lab.grammar_bench.grammar = LETTERS
    lab.constrain()
    trace = lab.run()
    lab.grammar_bench.text = "apple, pear"
    with pytest.raises(GrammarError, match=r"mistake \(line 1, .*turn “Constrain the run” off"):
        lab.run()
    with pytest.raises(GrammarError, match="mistake"):
        lab.branch(0, "x", trace=trace)
    with pytest.raises(GrammarError, match=r"Mend it"):
        lab._grammar.run_both()
    assert reply_to(lab.panel, "run", {"name": "prompt", "value": "Hello"})["ok"]
    assert lab.panel.state == "failed" and "Mend it" in lab.panel.message
    assert len(lab.panel.runs) == 1
    lab.constrain(False)
    lab.run()
    with pytest.raises(GrammarError, match=r"Mend it\.$"):
        lab._grammar.run_both()
    lab.constrain()
    lab.grammar_bench.text = "[d-f]+"
    assert set(lab.run().text) <= set("def")


@pytest.mark.parametrize(
    "typed, max_tokens, says",
    [
        ('{"type": "string", "minLength": 9}', 4, True),
        ('{"const": null}', 4, False),
        ('{"const": null}', 3, True),
        ("/[0-9]{9}/", 2, False),
    ],
)
def test_json_that_was_cut_off_is_told_as_that(lab, typed, max_tokens, says):
    lab.grammar_bench.text = typed
    lab.constrain()
    lab.set(max_tokens=max_tokens)
    lab.run()
    lab.wait()
    ended = "reached max tokens" + ", the JSON is not complete" * says
    assert lab.panel.meters["ended"] == lab.strip.ended == ended
    assert lab.trace.finish_reason == "length"


def test_an_answer_stays_when_another_one_is_refused(tiny_model):
    turns = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}]
    with tiny_model.session() as session:
        lab = GrammarLab(session, turns, seed=3)
        lab.constrain()
        lab.grammar_bench.text = "apple, pear"
        assert reply_to(lab.panel, "regenerate")["ok"]
        assert (lab.panel.messages, lab.panel.seed) == (turns, 3)
        lab.close()


def test_a_run_without_and_one_with_it_are_compared(lab):
    lab.grammar_bench.grammar = LETTERS
    lab._grammar.run_both()
    lab.wait()
    free, bound = (past.trace for past in lab.panel.runs)
    assert set(bound.text) <= set("abc") and not set(free.text) <= set("abc")
    assert free.seed == bound.seed == 3
    assert lab.panel.compared == [past.number for past in lab.panel.runs]
    assert grammars(lab) == [], "the chain stays as it is"


def test_what_the_grammar_took_is_shown_beside_the_run_without_it(lab):
    lab.grammar_bench.grammar = LETTERS
    lab._grammar.run_both()
    lab.wait()
    sent, _ = reply_data(lab.panel, "compare", {"numbers": lab.panel.compared})
    free, bound = lab.compare(*lab.panel.compared).traces
    tax = grammar_tax(bound, on=lab.session.model)
    assert [side["cost"] for side in sent["sides"]] == ["", tax.summary()] and tax.total > 0
    assert not free.schedule.constrains and sent["rows"]
    for step, (free_cell, bound_cell) in sent["rows"]:
        assert free_cell is None or free_cell[5] is None
        taken = None if step >= len(tax) else [tax.nats[step], tax.nats_high[step]]
        assert (bound_cell and bound_cell[5]) == taken
    assert f": {tax.summary()}\n" in f"{lab.compare(*lab.panel.compared)!r}\n"


def test_the_comparison_of_the_tree_says_what_the_grammar_took_too(lab):
    lab.grammar_bench.grammar = LETTERS
    lab._grammar.run_both()
    lab.wait()
    runs = {past.trace.text: past.trace for past in lab.panel.runs}
    numbers = [branch.number for branch in lab.tree.branches]
    sent, _ = reply_data(lab.branches, "compare", {"numbers": numbers})
    for side, branch in zip(sent["sides"], lab.tree.branches, strict=True):
        run = runs[branch.trace.text]
        tax = grammar_tax(run, on=lab.session.model) if run.schedule.constrains else None
        assert side["cost"] == (tax.summary() if tax else "")
    assert sorted(bool(side["cost"]) for side in sent["sides"]) == [False, True]


def test_a_cost_that_cannot_be_found_out_is_said_to_be_unknown_and_why(lab, monkeypatch):
    def fail(trace, on):
        raise ValueError("it was made with another vocabulary.")

    monkeypatch.setattr(_costs, "grammar_tax", fail)
    lab.grammar_bench.grammar = LETTERS
    lab._grammar.run_both()
    lab.wait()  # the runs under way would keep to it too
    lab.constrain()
    bound = lab.run()
    lab.wait()
    said = "cost n/a: it was made with another vocabulary"
    assert lab.strip.more == {"grammar": said}
    (nats, high, _), _ = costs_shown(lab.strip)
    assert not nats.any() and np.isinf(high).all()
    sides = lab.compare(*(past.number for past in lab.panel.runs)).sides
    assert sorted(side.cost for side in sides) == ["", said, said]
    cost = lab.panel.cost_of(bound)
    assert len(cost.nats) == len(bound) and not cost.nats.any() and np.isinf(cost.nats_high).all()


def test_the_row_is_that_after_the_prompt_and_the_text(lab, tiny_model):
    lab.grammar_bench.grammar = LETTERS
    lab.grammar_bench.sample = "ab"
    lab.wait()
    walk = lab.grammar_bench.walk
    row = lab.session.logits([*lab.prompt_tokens(), *walk.tokens])
    best = walk.likeliest(row, 12)
    assert [one["token"] for one in lab.grammar_bench.shown["allowed"]] == [t.token for t in best]


def test_a_hidden_panel_computes_nothing_and_catches_up(tiny_model):
    with tiny_model.session() as session:
        lab = ml.Workbench(session, "Hello")
        assert lab.grammar_bench.walk is None
        lab.panels = ["samplers", "grammar"]
        assert lab.grammar_bench.walk is not None
        lab.close()


def test_its_code_makes_it_again(lab, tiny_model):
    lab.grammar_bench.grammar = LETTERS
    lab.constrain()
    assert "ml.Constrain(ml.Grammar.gbnf(" in lab.to_code()
    assert "panels=['grammar']" in lab.to_code()


def costs_shown(strip):
    """nats at least and at most, and the logprob of what was wanted, as the browser gets them."""
    _, buffers = ask_data(strip, "costs", {"layer": "grammar"})
    return [np.frombuffer(column, "<f4") for column in buffers[:3]], buffers[4]


def test_the_strip_is_given_what_the_study_finds_once_a_run_has_ended(lab):
    lab.run()
    lab.wait()
    assert not lab.strip.has("grammar"), "no grammar was in force"
    free = lab.trace
    lab.grammar_bench.grammar = LETTERS
    lab.constrain()
    trace = lab.run()
    lab.wait()
    found = grammar_tax(trace, on=lab.session.model)
    (nats, high, wanted_logprob), wanted = costs_shown(lab.strip)
    assert lab.strip.has("grammar") and found.total > 0 and not TokenStrip(trace).has("grammar")
    assert lab.strip.more == {"grammar": found.summary()}
    for sent, column in ((nats, found.nats), (high, found.nats_high)):
        assert np.array_equal(sent, column.astype("<f4"))
    assert np.array_equal(wanted_logprob, found.wanted_logprob.astype("<f4"), equal_nan=True)
    assert wanted == b"".join(trace.piece(t) for t in found.wanted.tolist() if t >= 0)
    lab._show(free)
    lab.wait()
    assert not lab.strip.has("grammar")
    lab._show(trace)
    lab.wait()
    assert lab.strip.has("grammar")


def test_where_too_little_of_the_rows_was_kept_there_are_bounds(tmp_path):
    path = tiny.write(tmp_path / "large.gguf", n_vocab=9000)
    with ml.Model.load(path) as model, model.session() as session:
        words = [model.piece(token).decode() for token in range(259, 9000, 15)]
        lab = GrammarLab(session, "Hello", seed=2, max_tokens=6)
        lab.grammar_bench.grammar = ml.Grammar.choice(words).many()
        lab.constrain()
        lab.run()
        lab.wait()
        (nats, high, _), _ = costs_shown(lab.strip)
        assert lab.strip.has("grammar") and (nats < high).any()
        lab.close()


def test_what_runs_under_a_grammar_write_counts_among_the_texts_tried(lab):
    lab.grammar_bench.grammar = 'root ::= [a-c] | "x"'
    lab.run()
    lab.wait()
    assert lab.grammar_bench.tried == {}, "a run without the grammar is none of its texts"
    lab.constrain()
    trace = lab.run()
    lab.wait()
    used = lab.grammar_bench.grammar.coverage([trace.text]).unused
    tried = lab.grammar_bench.tried
    assert (tried["n_texts"], tried["n_used"]) == (1, 1)
    assert [one["text"] for one in tried["unused"]] == [
        f"root ::= {use.alternative}" for use in used
    ]


def words_shown(strip, layer):
    """The words of a layer for each token, and its numbers, as they are sent."""
    numbers, sizes, text = ask_data(strip, "costs", {"layer": layer})[1]
    ends = np.cumsum(np.frombuffer(sizes, "<i4"))
    cuts = zip([0, *ends[:-1]], ends, strict=True)
    return [text[start:end].decode() for start, end in cuts], np.frombuffer(numbers, "<f4")


def test_the_strip_says_what_the_grammar_written_here_would_have_forbidden_of_a_free_text(
    lab, monkeypatch
):
    lab.chain = ml.Mask(allow=range(ord("a") + 3, ord("z") + 4)) | lab.chain
    lab.grammar_bench.grammar = "root ::= [a-m]+"
    trace = lab.run()
    lab.wait()
    found = forbidden(trace, lab.grammar_bench.grammar, on=lab.session.model)
    assert found.forbidden.any()
    words, nats = words_shown(lab.strip, "forbidden")
    assert [bool(word) for word in words] == found.forbidden.tolist()
    assert words[found.first] == f"forbidden: expected {found.expected[found.first]}"
    assert np.array_equal(nats, found.nats.astype("<f4"))
    assert lab.strip.more == {"forbidden": found.summary()}
    assert f"forbidden: {found.summary()}" in text_of(lab.strip)
    may_find = threading.Event()

    def held(*given, **named):
        may_find.wait(60)
        return forbidden(*given, **named)

    with monkeypatch.context() as patched:
        patched.setattr(_hindsight, "forbidden", held)
        lab.grammar_bench.grammar = "root ::= [a-z]+"
        assert "forbidden" not in lab.strip.more
        may_find.set()
        lab.wait()
    assert lab.strip.more["forbidden"].startswith("none of 6 tokens is forbidden")
    lab.panels = ["tree"]
    assert lab.strip.more == {}
    lab.grammar_bench.grammar = LETTERS
    lab.panels = ["grammar"]
    lab.wait()
    assert "forbidden" in lab.strip.more
    lab.constrain()
    lab.run()
    lab.wait()
    assert "forbidden" not in lab.strip.more and "grammar" in lab.strip.more


def test_the_strip_says_where_a_grammar_has_other_tokens_than_the_tokenizer(tmp_path):
    path = tiny.write(tmp_path / "pieces.gguf", pieces=["ab", "abc", "bc"])
    with ml.Model.load(path) as model, model.session() as session:
        lab = GrammarLab(session, "\n", seed=3, max_tokens=6)
        lab.grammar_bench.grammar = 'root ::= "\\n" ("a" "bc" | "ab" "c")+'
        lab.constrain()
        lab.chain = lab.chain | ml.Mask(ban=[model.tokenize("abc", add_special=False)[-1]])
        trace = lab.run()
        lab.wait()
        found = tokenization(trace, on=model)
        words, prob = words_shown(lab.strip, "tokenizer")
        assert found.splits and lab.strip.more["tokenizer"] == found.summary()
        for split, told in zip(found.splits, found.told(), strict=True):
            here = slice(split.first, split.last + 1)
            assert set(words[here]) == {told} and "the tokenizer has `" in told
            assert prob[here] == pytest.approx(np.exp(split.canonical_logprob), nan_ok=True)
        assert [bool(word) for word in words] == [
            any(split.first <= step <= split.last for split in found.splits)
            for step in range(len(trace))
        ]
        lab.close()
