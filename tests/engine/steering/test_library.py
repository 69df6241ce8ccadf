"""Control vectors by name: the built-in ones, a person's own, and whom each is for."""

from __future__ import annotations

import csv
import runpy
from dataclasses import replace
from pathlib import Path

import gguf
import numpy as np
import pytest

import mullama_lab as ml
from mullama_lab.engine import tiny
from mullama_lab.engine.gguf.fingerprint import fingerprint_of
from mullama_lab.engine.steering import library
from mullama_lab.errors import ModelFileError, PresetError

CONTRASTS = Path(__file__).resolve().parents[3] / "notebooks" / "data"
PAIRS = [(f"yes {word} good", f"no {word} good") for word in ("one", "two", "three", "four")]


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("MULLAMA_LAB_CONFIG", str(tmp_path / "config"))
    return tmp_path / "config" / "control_vectors"


@pytest.fixture(scope="module")
def trained(tiny_model):
    return ml.studies.control_vectors.train(PAIRS, on=tiny_model)


def table(theme):
    with (CONTRASTS / f"contrast_{theme}.tsv").open(encoding="utf-8", newline="") as file:
        return list(csv.reader(file, delimiter="\t", quoting=csv.QUOTE_NONE))


def test_there_is_a_built_in_vector_for_each_table_of_pairs():
    cards = ml.ControlVector.library()
    themes = {path.stem.partition("_")[2] for path in CONTRASTS.glob("contrast_*.tsv")}
    assert set(cards) == themes and len(themes) >= 8
    for name, card in cards.items():
        head, *pairs = table(name)
        assert head[0] == name and {len(pair) for pair in pairs} == {2}
        assert card.learnt.n_pairs + card.learnt.n_held_out == len(pairs) >= 32
        assert len({text for pair in pairs for text in pair}) == 2 * len(pairs)
        assert (library.BUILT_IN / f"{name}.gguf").stat().st_size < 100_000


def test_the_list_says_how_each_does_and_which_are_weak():
    cards = ml.ControlVector.library()
    head, *lines = repr(cards).splitlines()
    assert head.split() == ["name", "model", "layers", "in", "order", "apart", "up,", "down"]
    for line, (name, card) in zip(lines, cards.items(), strict=True):
        assert line.split()[:3] == [name, "smollm2-135m", f"{card.first}-{card.last}"]
        assert ("weak" in line) == bool(card.learnt.weakness)
    rows = cards.to_pandas()
    assert rows.loc["happy", "accuracy"] == cards["happy"].learnt.accuracy
    assert rows.loc["french", "weakness"] == cards["french"].learnt.weakness != ""
    assert not rows.loc["happy", "weakness"]


SCORES = ("accuracy", "separation", "up", "down", "moved")


def test_each_built_in_one_has_its_held_out_scores_in_its_file():
    cards = ml.ControlVector.library()
    assert len(cards) == 9
    weak = {"certain", "french"}
    for name, card in cards.items():
        fields = gguf.GGUFReader(library.BUILT_IN / f"{name}.gguf").fields
        scores = {key: float(fields[f"mullama_lab.{key}"].parts[-1][0]) for key in SCORES}
        assert all(map(np.isfinite, scores.values())), name
        assert scores == {key: getattr(card.learnt, key) for key in SCORES}
        assert card.learnt.n_held_out == len(table(name)[1:][3::4]) == 8
        assert (scores["accuracy"] < 0.9 or scores["moved"] < 0.75) == (name in weak), name
        assert bool(card.learnt.weakness) == (name in weak), name
    lines = repr(cards).splitlines()
    assert {line.split()[0] for line in lines if "weak: it" in line} == weak


def test_the_recipe_learns_a_built_in_one_again(smollm2):
    learn = runpy.run_path(str(CONTRASTS.parent / "make_vectors.py"))["learn"]
    with smollm2.session(n_ctx=512) as session:
        again, learnt = learn(CONTRASTS / "contrast_polite.tsv", session)
    kept, card = ml.ControlVector.named("polite"), ml.ControlVector.library()["polite"]
    assert again.directions.keys() == kept.directions.keys() and again.model == kept.model
    for layer, row in kept.directions.items():
        other = again.directions[layer]
        assert row @ other / (kept.norms[layer] * again.norms[layer]) > 0.999
        assert again.norms[layer] == pytest.approx(kept.norms[layer], rel=0.01)
    assert replace(learnt, **{key: getattr(card.learnt, key) for key in SCORES}) == card.learnt
    for key in SCORES:
        assert getattr(learnt, key) == pytest.approx(getattr(card.learnt, key), rel=0.05), key


def test_a_weak_one_says_so_when_it_is_opened():
    with pytest.warns(UserWarning, match="'french' is weak: it moves only"):
        ml.ControlVector.named("french")


def test_a_built_in_one_does_what_its_card_says(smollm2):
    vector = ml.ControlVector.named("happy")
    learnt = ml.ControlVector.library()["happy"].learnt
    assert vector.model == fingerprint_of(smollm2)
    assert eval(repr(vector), {"ControlVector": ml.ControlVector}) == vector
    pairs = table("happy")[1:][3::4]
    with smollm2.session(n_ctx=128) as session:

        def leanings(control):
            session.control = control
            scores = [[session.score(text).logprob.sum() for text in pair] for pair in pairs]
            return np.array([wanted - other for wanted, other in scores])

        base = leanings(None)
        up, down = leanings(vector) - base, leanings(-vector) - base
    assert ((up > 0) & (down < 0)).mean() == pytest.approx(learnt.moved, abs=0.26)
    assert up.mean() == pytest.approx(learnt.up, rel=0.2)
    assert down.mean() == pytest.approx(learnt.down, rel=0.2)


def test_what_is_kept_is_opened_by_its_name(trained, tiny_model):
    kept = trained.keep("my own", 1, 1)
    assert kept == trained.pick(1, 1) == ml.ControlVector.named("my own")
    assert repr(kept) == "ControlVector.named('my own')"
    card = ml.ControlVector.library()["my own"]
    assert card.is_own and card.learnt.accuracy == trained.accuracy[0]
    assert repr(ml.ControlVector.library()).endswith("  yours")
    with tiny_model.session(n_ctx=64, n_threads=1) as session:
        session.control = kept
        assert session.control == kept
    ml.ControlVector.delete_named("my own")
    assert "my own" not in ml.ControlVector.library()


def test_layers_share_one_strength(tmp_path):
    with ml.Model.load(tiny.write(tmp_path / "deep.gguf", n_layer=5)) as model:
        trained = ml.studies.control_vectors.train(PAIRS, on=model)
    assert trained.pick(2, 4) == trained.vector.layers(2, 4) / 3
    learnt = trained.learnt(2, 4)
    assert learnt.separation == pytest.approx(trained.separation[1:].mean())
    assert learnt.accuracy == pytest.approx(trained.accuracy[1:].mean())


def test_a_vector_of_another_model_is_refused_with_a_way_out(trained, tmp_path):
    other = tiny.write(tmp_path / "other.gguf", seed=1)
    trained.keep("mine", 1, 1)
    with ml.Model.load(other) as model, model.session(n_ctx=64, n_threads=1) as session:
        vector = ml.ControlVector.named("mine")
        for changed in (vector, 2 * vector, vector.normalize(), -vector, vector + 0 * vector):
            with pytest.raises(ValueError, match="learnt on another file"):
                session.control = changed
        session.control = ml.ControlVector(vector.directions)
        theirs = ml.studies.control_vectors.train(PAIRS, on=model).vector
    with pytest.raises(ValueError, match="different models"):
        vector + theirs


def test_names_that_are_taken_or_are_none(trained):
    trained.keep("mine", 1, 1)
    with pytest.raises(ValueError, match="already.*replace=True"):
        trained.keep("mine", 1, 1)
    trained.keep("mine", 1, 1, replace=True)
    with pytest.raises(ValueError, match="name of a built-in vector"):
        trained.keep("happy", 1, 1, replace=True)
    with pytest.raises(ValueError, match="cannot be deleted"):
        ml.ControlVector.delete_named("happy")
    for call in (ml.ControlVector.named, ml.ControlVector.delete_named):
        with pytest.raises(ValueError, match="Did you mean 'happy'.*There are certain, .*mine"):
            call("hapy")
        for name in ("../happy", "", " a", "a/b", "x" * 41):
            with pytest.raises(ValueError, match="is no name for a control vector"):
                call(name)
        with pytest.raises(TypeError, match="is a text"):
            call(3)


def test_a_file_that_is_damaged_is_left_out(trained, folder, tmp_path):
    trained.keep("mine", 1, 1)
    trained.vector.save(folder / "bare.gguf")
    (folder / "cut.gguf").write_bytes((folder / "mine.gguf").read_bytes()[:-8])
    with pytest.warns(UserWarning, match=r"left out") as warned:
        cards = ml.ControlVector.library()
    assert len(warned) == 2 and "mine" in cards and not {"bare", "cut"} & set(cards)
    for name in ("bare", "cut"):
        with pytest.raises(ModelFileError):
            ml.ControlVector.named(name)


def test_a_folder_that_cannot_be_written_to(trained, folder):
    folder.parent.mkdir()
    folder.write_text("in the way")
    with pytest.raises(PresetError, match="could not be written"):
        trained.keep("mine", 1, 1)
