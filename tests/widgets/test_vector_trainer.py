"""VectorTrainer: what is typed as pairs, and what is said of a line that is none."""

from __future__ import annotations

import pytest
from page import reply_to, text_of

from mullama_lab.errors import Stopped
from mullama_lab.widgets import VectorTrainer

TYPED = "I am happy. | I am sad.\n\n  What joy!\tWhat | grief!  \n"


@pytest.fixture
def form():
    form = VectorTrainer(TYPED, name="happy")
    form.asked = []
    form.on_learn(lambda form: form.asked.append(form.pairs))
    form.on_stop(lambda form: form.asked.append("stop"))
    return form


def ask(form, op, **args):
    return reply_to(form, op, args)


def test_a_pair_a_line_is_read_with_a_bar_or_a_tab(form):
    pairs = [("I am happy.", "I am sad."), ("What joy!", "What | grief!")]
    assert form.pairs == pairs
    form.learn()
    form.stop()
    assert form.asked == [pairs, "stop"]


@pytest.mark.parametrize(
    "text, line, why",
    [
        ("a | b\n\nc\nd | e", 3, "has one text and no bar"),
        ("a | b\nc | d | e", 2, "has 3 texts: one bar"),
        ("a\tb\nc\td\te", 2, "has 3 texts: one tab"),
        ("a | b\n | c", 2, "has nothing before the bar"),
        ("a | \nb | c", 1, "has nothing after the bar"),
        ("a | b\n|", 2, "has nothing before the bar"),
        ("a | b\nc |  c ", 2, "has the same text twice"),
    ],
)
def test_a_line_that_is_no_pair_is_named(form, text, line, why):
    assert ask(form, "learn", name="x", text=text)["ok"]
    assert form.asked == [] and form.line == line
    assert form.message.startswith(f"line {line} {why}")
    ask(form, "write", name="x", text="a | b\nc | d")
    assert (form.message, form.line, form.asked) == ("", 0, [])
    ask(form, "learn", name="x", text="a | b\nc | d")
    assert form.asked == [[("a", "b"), ("c", "d")]]


@pytest.mark.parametrize("text, n", [("", "0 pairs"), (" \n \n", "0 pairs"), ("a | b", "1 pair")])
def test_two_pairs_are_the_least(form, text, n):
    ask(form, "learn", name="", text=text)
    assert form.message.startswith(f"{n}: there must be two at least") and form.line == 0


@pytest.mark.parametrize(
    "op, args",
    [
        ("write", {"name": 3, "text": ""}),
        ("write", {"name": "x", "text": None}),
        ("write", {"name": "x" * 101, "text": ""}),
        ("learn", {"name": "x", "text": "x" * 200_001}),
        ("learn", {}),
        ("explode", {}),
    ],
)
def test_bad_requests_are_answered_and_learn_nothing(form, op, args):
    assert ask(form, op, **args)["error"]
    assert form.asked == [] and form.text == TYPED


def test_nobody_who_learns_is_said():
    form = VectorTrainer("a | b\nc | d")
    ask(form, "learn", name="", text=form.text)
    assert "nothing listens to learn" in form.message


def test_what_it_says_follows_the_training(form):
    form.fail(Stopped("stopped."))
    form.show("running", share=0.5)
    assert (form.state, form.share, form.message) == ("running", 0.5, "")
    form.show("finished", share=1.0, said="Learnt it.")
    assert text_of(form) == "VectorTrainer(happy, 2 pairs, finished)\nLearnt it."
    html = form._repr_mimebundle_()[0]["text/html"]
    assert "I am happy. | I am sad." in html and "Learnt it." in html and "<script" not in html
