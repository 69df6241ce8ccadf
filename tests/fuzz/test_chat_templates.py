"""Chat templates made to take all there is, and messages made to steer."""

from __future__ import annotations

import time

import psutil
import pytest
from hypothesis import strategies as st

from mullama_lab.engine import tiny
from mullama_lab.engine.chat import process
from mullama_lab.engine.model import Model
from mullama_lab.engine.vocabulary.marks import marks_of

SIZES = st.sampled_from(["0", "-1", "3", "100000", "1000000000", "10 ** 30", "'a'", "none"])
VALUES = st.sampled_from(["'a'", "'{:>999999999}'", "'%999999999d'", "[0]", "{'k': ns.x}", "ns.x"])
SHAPES = st.sampled_from(
    [
        *("({v} * {n})", "({v} ~ {v})", "({v} + {v})", "({v} ** {n})", "({v} % {n})"),
        *("[{v}, {v}]", "range({n})", "({v} | center({n}))", "({v} | indent({n}, true))"),
        *("({v} | replace('', {v}))", "({v} | batch({n}, 0) | list)", "({v} | join({v}))"),
        *("({v} | tojson(indent={n}))", "({v} | string)", "{v}.format({n})", "{v}.zfill({n})"),
        *("({v} | wordwrap({n}))", "({v} | list)", "({v} | pprint)", "({v} == {v})"),
    ]
)


@st.composite
def templates(draw):
    value = draw(VALUES)
    for _ in range(draw(st.integers(1, 4))):
        value = draw(SHAPES).replace("{v}", value).replace("{n}", draw(SIZES))
    turns = draw(st.sampled_from([1, 64, 99999]))
    end = draw(st.sampled_from(["{{ ns.x | length }}", "{{ ns.x }}", ""]))
    return (
        "{% set ns = namespace(x='a') %}{% for i in range("
        f"{turns}) %}}{{% set ns.x = {value} %}}{{% endfor %}}{end}"
    )


def test_no_template_takes_more_than_its_share(attack, monkeypatch):
    monkeypatch.setattr(process, "SECONDS", 0.3)
    renderer = process.TemplateProcess()
    own = psutil.Process()
    before = own.memory_info().rss

    def attempt(template):
        start = time.monotonic()
        outcome = renderer.render(template, {})
        assert outcome.kind in ("text", "failed", "ended")
        assert time.monotonic() - start < 60
        assert own.memory_info().rss - before < 200 << 20

    try:
        attack(templates(), attempt, few=20)
    finally:
        renderer.process.close()


MARKS = ("<|im_start|>", "<|im_end|>", "<|im_", "|>")
PARTS = [
    *MARKS,
    "</think>",
    "<",
    "|",
    "im_",
    "end",
    ">",
    "a",
    " ",
    "\n",
    "\U000f0000",
    "\U000f0001",
]


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    kinds = [2, 3, 3, *[6] * tiny.N_BYTES, 3, 3, 3, 3, 4]
    kinds[tiny.N_SPECIAL + ord(" ")] = 1
    path = tiny.write(
        tmp_path_factory.mktemp("marks") / "marks.gguf",
        chat_template="{{ bos_token }}{% for m in messages %}<|im_start|>{{ m.role }}\n"
        "{{ m.content | trim }} {{ m.extra }}\n<|im_end|>\n{% endfor %}</think>",
        pieces=(*MARKS, "</think>"),
        metadata={"tokenizer.ggml.token_type": kinds},
    )
    with Model.load(path, vocab_only=True) as model:
        yield model


def test_no_message_becomes_a_control_token(attack, model):
    marks = {mark.token for mark in marks_of(model)}
    text = st.lists(st.sampled_from(PARTS), max_size=12).map("".join)

    def attempt(case):
        content, extra = case
        message = {"role": "user", "content": content, "extra": extra}
        got = model.render_chat([message])
        assert [token for token in got.tokens if token in marks] == [1, 259, 260, 263]
        assert content.strip() in got.text and extra in got.text
        assert model.detokenize(got.tokens, special=True) == got.text

    attack(st.tuples(text, text), attempt, few=100)
