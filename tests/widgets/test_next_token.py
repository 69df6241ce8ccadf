"""The next-token view on a tiny model, whose row of logits is written by hand."""

from __future__ import annotations

import json
import pickle
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from page import ask, reply_to, text_of

from mullama_lab.engine import tiny
from mullama_lab.engine.model import Model
from mullama_lab.engine.stages import (
    XTC,
    Chain,
    Greedy,
    LogitBias,
    Mask,
    MinP,
    Temperature,
    TopK,
    TopP,
)
from mullama_lab.glyphs import piece_label
from mullama_lab.widgets import NextToken
from mullama_lab.widgets._picture import GONE, N_ROWS, REMOVED, UNLISTED, picture


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Model]:
    path: Path = tiny.write(tmp_path_factory.mktemp("model") / "tiny.gguf")
    with Model.load(path) as model:
        yield model


@pytest.fixture
def row(model: Model) -> np.ndarray:
    """Token 100 is the likeliest, each next one half as likely as the one before."""
    row = np.full(model.n_vocab, -30.0, np.float32)
    row[100:180] = -np.log(2.0) * np.arange(80)
    return row


def cells_of(shown: dict, token: int) -> list:
    i = [row["id"] for row in shown["rows"]].index(token)
    return [column[i] for column in shown["cells"]]


def test_a_stage_that_was_given_tokens_is_headed_by_their_pieces(
    model: Model, row: np.ndarray
) -> None:
    preview = Chain([LogitBias({100: -np.inf, 5: 1.0}), TopK(8)]).preview(row, model=model)
    said = f"favours {piece_label(model.piece(5))} (+1); bans {piece_label(model.piece(100))}"
    heads = [head["name"] for head in picture(preview)["columns"]]
    assert heads == ["row", f"LogitBias({said})", "TopK(8)"]
    assert picture(pickle.loads(pickle.dumps(preview)))["columns"][2]["name"] == "TopK(8)"


def test_a_token_that_was_banned_is_removed_though_others_stay_unlisted(
    model: Model, row: np.ndarray
) -> None:
    row = np.arange(model.n_vocab, 0, -1, dtype=np.float32)
    shown = picture(Chain([LogitBias({2: -np.inf}), TopK(8)]).preview(row, model=model))
    assert shown["columns"][1]["kept"] == model.n_vocab - 1 > shown["n_listed"]
    assert cells_of(shown, 2)[1:] == [REMOVED, GONE]


def test_a_picture_is_small(model: Model, row: np.ndarray) -> None:
    view = NextToken()
    view.show(Chain.default().preview(row, model=model), after="x" * 500)
    assert len(json.dumps(view.view)) < 8_000


def test_probabilities_are_those_of_the_preview(model: Model, row: np.ndarray) -> None:
    shown = picture((TopK(2) | Temperature(0.5)).preview(row, model=model))
    assert cells_of(shown, 100) == pytest.approx([0.5, 2 / 3, 0.8], abs=1e-3)
    assert cells_of(shown, 101) == pytest.approx([0.25, 1 / 3, 0.2], abs=1e-3)
    assert cells_of(shown, 102) == [pytest.approx(0.125, abs=1e-3), REMOVED, GONE]
    assert [head["kept"] for head in shown["columns"]][1:] == [2, 2]
    assert shown["columns"][1]["removed"] == pytest.approx(0.25, abs=1e-3)


def test_rows_keep_the_raw_order_whatever_the_chain_does(model: Model, row: np.ndarray) -> None:
    first = [r["id"] for r in picture(Chain().preview(row, model=model))["rows"]]
    assert first == list(range(100, 100 + N_ROWS))
    for chain in (Chain([TopK(1)]), Chain([Temperature(2.0)]), MinP(0.3) | TopP(0.5)):
        assert [r["id"] for r in picture(chain.preview(row, model=model))["rows"]] == first


def test_the_drawn_token_and_the_new_best_have_rows(model: Model, row: np.ndarray) -> None:
    chain = LogitBias({7: 60.0}) | Greedy()
    shown = picture(chain.preview(row, model=model))
    ids = [r["id"] for r in shown["rows"]]
    assert shown["choice"] == 7 == ids[0] and len(ids) == N_ROWS
    assert ids[1:15] == list(range(100, 114))
    assert shown["rows"][ids.index(7)]["rank"] is None
    assert cells_of(shown, 7)[0] == UNLISTED


def test_a_cut_is_laid_to_the_stage_that_made_it(model: Model, row: np.ndarray) -> None:
    chain = Mask(ban=[100]) | TopK(3)
    shown = picture(chain.preview(row, model=model))
    assert cells_of(shown, 100) == [pytest.approx(0.5, abs=1e-3), REMOVED, GONE]
    chain = XTC(1.0, 0.1) | TopK(3)
    shown = picture(chain.preview(row, model=model))
    assert cells_of(shown, 100)[1:] == [REMOVED, GONE]


def test_a_token_made_unlikely_is_not_said_to_be_removed(model: Model, row: np.ndarray) -> None:
    chain = Chain([LogitBias({100: -40.0})])
    shown = picture(chain.preview(row, model=model, top=16))
    assert cells_of(shown, 100)[1] == UNLISTED
    chain = LogitBias({100: -40.0}) | TopK(3)
    shown = picture(chain.preview(row, model=model, top=16))
    assert cells_of(shown, 100)[1:] == [UNLISTED, GONE]


def test_a_failure_keeps_the_last_picture_and_says_why(model: Model, row: np.ndarray) -> None:
    view = NextToken()
    view.show(Chain([TopK(2)]).preview(row, model=model), "at the end", after="Once")
    before = view.view
    view.fail(ValueError("p must be from 0 to 1"))
    assert view.view["error"] == "p must be from 0 to 1"
    assert view.view["cells"] == before["cells"] and view.view["note"] == "at the end"
    assert view.view["seq"] == before["seq"] + 1
    view.show(Chain([TopK(2)]).preview(row, model=model))
    assert view.view["error"] == ""
    view.clear()
    assert view.view == {}


def test_the_scale_is_asked_for_and_checked() -> None:
    view = NextToken()
    assert reply_to(view, "scale", {"scale": "log"})["ok"] and view.scale == "log"
    for bad in ({"scale": "exp"}, {"scale": None}, {}, {"scale": ["log"]}):
        assert reply_to(view, "scale", bad)["ok"] is False
    assert reply_to(view, "other")["ok"] is False


def test_the_text_form_shows_what_the_picture_shows(model: Model, row: np.ndarray) -> None:
    view = NextToken()
    assert text_of(view) == "NextToken()"
    view.show(Chain([TopK(1)]).preview(row, model=model, seed=3, step=2), after="Once\n")
    lines = text_of(view).splitlines()
    text = chr(100 - 3)
    assert lines[0] == f"NextToken(after 'Once\\n', seed 3, step 2: draws {text!r})"
    assert lines[1].split() == ["token", "id", "before", "TopK(1)"]
    assert lines[2].split() == ["*", repr(text), "100", "50.0%", "100.0%"]
    assert lines[3].split() == [repr(chr(98)), "101", "25.0%", "removed"]
    bundle, _ = view._repr_mimebundle_()
    assert "<script" not in bundle["text/html"] and "TopK(1)" in bundle["text/html"]


def test_the_code_computes_what_is_shown(model: Model, row: np.ndarray) -> None:
    view = NextToken()
    view.show(Chain([TopK(2)]).preview(row, model=model, seed=5, step=1))
    assert "seed=5, step=1" in view.to_code()
    compile(view.to_code(), "code", "exec")


def test_who_knows_a_fate_is_asked_for_a_remark_and_others_are_not(model, row) -> None:
    view = NextToken()
    view.show(Chain([TopK(3)]).preview(row, model=model))
    assert not view.explains
    with pytest.raises(ValueError, match="no request 'explain'"):
        ask(view, "explain", {"token": 100})
    view.explain_with(lambda token: f"token {token}")
    assert view.explains
    assert ask(view, "explain", {"token": 100}) == {"seq": 1, "text": "token 100"}
    with pytest.raises(ValueError, match="whole number"):
        ask(view, "explain", {"token": "100"})
