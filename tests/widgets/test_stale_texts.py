"""A text that went on over a cache of other weights says so wherever it is shown."""

from __future__ import annotations

import numpy as np
import pytest
from page import ask, ask_data, reply_to, text_of

import mullama_lab as ml
from mullama_lab.engine import tiny
from mullama_lab.engine.trace.stale import stale_spans, stale_words
from mullama_lab.engine.tree import Tree
from mullama_lab.widgets import BranchTree, TokenStrip
from mullama_lab.widgets._compare import Compared, compare
from mullama_lab.widgets._endings import row_at
from mullama_lab.widgets._runs import PastRun, summary

CHAIN = ml.Mask(ban=[tiny.EOS]) | ml.Temperature(1.0)
WORDS = "stale from step 4 on"


@pytest.fixture(scope="module")
def texts(tiny_model, adapter):
    """One whose weights are changed at step 4, and one of the model as it is."""
    base, changed = ml.Setting(CHAIN), ml.Setting(CHAIN, {adapter: 3.0})
    with tiny_model.session(n_ctx=128, n_threads=1) as session:
        stale = session.generate("Hello", {0: base, 4: changed}, max_tokens=9, seed=1)
        return stale, session.generate("Hello", base, max_tokens=9, seed=1)


def test_the_words_are_those_of_the_steps(texts, adapter):
    stale, plain = texts
    assert (stale_spans(stale), stale_words(stale)) == ([(4, 9)], WORDS)
    assert stale.stale.tolist() == [False] * 4 + [True] * 5
    assert (stale_spans(plain), stale_words(plain)) == ([], "")
    assert stale_words(stale[:4]) == "" and stale_words(stale[2:]) == "stale from step 2 on"
    mended = stale[:]
    mended.in_force = [*stale.in_force, (6, mended.in_force[-1][1]._replace(stale=False))]
    assert stale_words(mended) == "stale in 2 steps, from step 4"
    mended.in_force.append((7, stale.in_force[0][1]._replace(stale=True)))
    assert (stale_spans(mended), stale_words(mended)) == (
        [(4, 6), (7, 9)],
        "stale in 4 steps, from step 4",
    )
    twice = stale[:]
    twice.in_force = [*stale.in_force, (6, stale.in_force[0][1]._replace(stale=True))]
    assert stale_spans(twice) == [(4, 9)]
    twice.in_force.append((9, stale.in_force[0][1]))
    assert stale_words(twice) == WORDS, "what is in force after the last step made none"


def test_a_trace_and_its_strip_say_it(texts):
    stale, plain = texts
    assert f", {WORDS}: " in repr(stale) and "stale" not in repr(plain)
    for trace, is_said in ((stale, True), (plain, False)):
        strip = TokenStrip(trace)
        for form in (strip.ended, text_of(strip), strip._repr_mimebundle_()[0]["text/html"]):
            assert (WORDS in form) == is_said
        _, buffers = ask_data(strip, "steps", {"from": 2})
        assert np.frombuffer(buffers[6], "u1").tolist() == trace.stale[2:].tolist()
        said = [ask(strip, "details", {"step": step})["stale"] for step in (3, 4)]
        assert said == trace.stale[3:5].tolist()


def test_code_says_where_it_goes_on_stale_though_the_text_was_decoded_anew(texts):
    stale, plain = texts
    exact = stale[:]
    exact.in_force = [*stale.in_force, (6, exact.in_force[-1][1]._replace(stale=False))]
    at_the_end = stale[:]
    at_the_end.in_force = [*stale.in_force, (9, exact.in_force[-1][1])]
    for trace, is_said in ((exact, True), (stale, False), (plain, False), (at_the_end, False)):
        assert ("# what other weights decoded anew" in TokenStrip(trace).to_code()) == is_said


def test_a_row_of_a_stale_step_is_said_to_be_another_one(texts):
    stale, plain = texts
    assert row_at(plain, 4) == row_at(stale, 4).partition(",")[0] == "step 4"
    assert row_at(stale, 3) == "step 3"
    assert "stale (this row is decoded anew)" in row_at(stale, 4)


def test_a_tree_marks_segments_and_branches(texts):
    stale, plain = texts
    tree = Tree([plain, stale])
    view = BranchTree(tree)
    rows = reply_to(view, "rows")["rows"]
    marked = {row["key"] for row in rows if row["stale"]}
    expected = {
        node.key for node in tree.nodes if node.trace is stale and stale.stale[: node.stop].any()
    }
    assert marked == expected and marked
    assert [row["ended"].endswith(WORDS) for row in rows if row["branch"] == 2] == [True]
    html = view._repr_mimebundle_()[0]["text/html"]
    assert html.count("(stale)") == 1 and WORDS in html
    assert repr(tree).count(WORDS) == 1
    view.close()


def test_a_comparison_and_a_history_mark_it(texts):
    stale, plain = texts
    found = compare([Compared(1, "run 1", plain), Compared(2, "run 2", stale)])
    assert [side.label for side in found.sides] == ["run 1", "run 2 (stale)"]
    assert "run 2 (stale)" in repr(found)
    assert summary(PastRun(2, stale))["ended"].endswith(f", {WORDS}")
    assert summary(PastRun(1, plain))["ended"] == "reached max tokens"
