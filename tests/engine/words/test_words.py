"""A bias of a word goes to the tokens that are one of its spellings, and to no other."""

from __future__ import annotations

import math
import warnings

import pytest

import mullama_lab as ml
from mullama_lab.engine import tiny

PIECES = ["yes", " yes", "Yes", " YES", "yesterday", " no", "Éa", " éa"]


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    path = tiny.write(tmp_path_factory.mktemp("words") / "words.gguf", pieces=PIECES)
    with ml.Model.load(path, vocab_only=True) as model:
        yield model


def named(model, stage):
    return {model.piece(token).decode(): bias for token, bias in stage.biases}


def test_a_word_is_its_tokens_with_a_space_and_without_in_any_case(model):
    stage = ml.LogitBias.of(model, {"yes": 1.5})
    assert named(model, stage) == dict.fromkeys(PIECES[:4], 1.5)
    assert ml.LogitBias.of(model, {"YES": 1.5}) == stage
    assert named(model, ml.LogitBias.of(model, {" yes": 2})) == {" yes": 2.0, " YES": 2.0}
    assert named(model, ml.LogitBias.of(model, {"éa": 1, "no": 2})) == {
        **{"Éa": 1.0, " éa": 1.0},
        " no": 2.0,
    }


def test_a_letter_is_also_the_byte_that_spells_it(model):
    stage = ml.LogitBias.of(model, {"q": -1.0})
    assert {token - 3 for token, _ in stage.biases} == {ord("q"), ord("Q")}


def test_what_is_no_token_is_refused_and_points_to_ban(model):
    with pytest.raises(ValueError, match=r"'nope' is not one token.* Ban\(\['nope'\]\) keeps"):
        ml.LogitBias.of(model, {"yes": 1.0, "nope": 1.0})
    for empty in ("", " "):
        with pytest.raises(ValueError, match="is not one token"):
            ml.LogitBias.of(model, {empty: 1.0})


def test_a_ban_by_bias_that_leaves_a_spelling_open_says_so(model):
    with pytest.warns(UserWarning, match=r"'no' is no token of its own.*Ban\(\['no'\]\) does"):
        ml.LogitBias.of(model, {"no": -math.inf})
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        ml.LogitBias.of(model, {"yes": -math.inf, " no": -math.inf})


def test_two_biases_for_one_token_are_refused(model):
    with pytest.raises(ValueError, match="'yes' and 'YES' give the token ' YES' two biases"):
        ml.LogitBias.of(model, {"yes": 1.0, "YES": 2.0})
    assert ml.LogitBias.of(model, {"yes": 1.0, "YES": 1.0}).biases


@pytest.mark.parametrize("biases", ["yes", {5: 1.0}, ["yes"], None])
def test_what_is_no_dict_of_words_is_refused(biases, model):
    with pytest.raises(TypeError, match="takes {word: bias} with texts"):
        ml.LogitBias.of(model, biases)


def test_a_bias_out_of_range_is_refused(model):
    with pytest.raises(ValueError, match="it must be from -1e6"):
        ml.LogitBias.of(model, {"yes": math.inf})
    with pytest.raises(TypeError, match="must be a number"):
        ml.LogitBias.of(model, {"yes": "much"})
