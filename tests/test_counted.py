"""A number and its noun agree, wherever one is printed."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from page import text_of

import mullama_lab as ml
from mullama_lab.studies.replay import replay
from mullama_lab.widgets import TokenStrip, WhatIf

ROOT = Path(__file__).resolve().parents[1]
OWN_WAY = re.compile(
    r"== 1 (else|\?) ?[\"'](\w*s|tokens|es)[\"']|\* \(\w+(\.\w+)? != 1\)|=== 1 \? \""
)


@pytest.fixture
def session(tiny_model):
    with tiny_model.session(n_ctx=64) as session:
        yield session


def test_one_token_is_no_tokens(session):
    trace = session.generate("Hello", ml.Mask(ban=[2]), max_tokens=1, seed=1)
    said = [repr(trace), repr(TokenStrip(trace)), repr(replay(trace, on=session))]
    for text in said:
        assert "1 token" in text and "1 tokens" not in text


def test_one_choice_differs():
    view = WhatIf()
    view.show_effects([("TopK(1)", 1, 24, ""), ("MinP(0)", 0, 1, "")])
    assert "without TopK(1): 1 of 24 choices differs" in text_of(view)
    assert "without MinP(0): none of 1 choice differs" in text_of(view)


@pytest.mark.parametrize("folder", ["mullama_lab", "widgets"])
def test_no_text_chooses_between_one_and_many_by_itself(folder):
    files = [p for p in (ROOT / folder).rglob("*.*") if p.suffix in (".py", ".js")]
    own = [p.name for p in files if "dev" not in p.parts and OWN_WAY.search(p.read_text())]
    assert own == []
