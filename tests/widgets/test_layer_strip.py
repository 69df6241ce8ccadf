"""LayerStrip: the layers there are, what a training knows of them, the vector of those chosen."""

from __future__ import annotations

import numpy as np
import pytest
from page import reply_to, text_of

import mullama_lab as ml
from mullama_lab.studies.control_vectors import Training
from mullama_lab.widgets import LayerStrip

ROWS = {3: [1.0, 0.0], 4: [0.0, 2.0], 5: [4.0, 0.0], 7: [0.0, 3.0]}
HAPPY = ml.ControlVector(ROWS, name="happy")


def trained(*separation, accuracy=(1.0, 1.0, 1.0, 0.5), n_held_out=4):
    """What was learnt of four layers, with these scores."""
    return Training(
        vector=HAPPY,
        model_name="tiny",
        method="mean",
        n_pairs=12,
        n_held_out=n_held_out,
        layers=np.array(list(ROWS)),
        accuracy=np.array(accuracy),
        separation=np.array(separation, np.float64),
    )


def set_by_hand(strip, layers):
    return reply_to(strip, "set", {"layers": layers, "seq": 1})


def test_a_vector_alone_shows_its_lengths_and_all_layers_are_chosen():
    strip = LayerStrip(HAPPY)
    assert strip.rows == {"layers": [3, 4, 5, 7], "norms": [1.0, 2.0, 4.0, 3.0], "n_held_out": 0}
    assert strip.layers == [3, 7] and strip.vector is HAPPY and strip.name == "happy"


def test_what_is_brushed_is_the_vector():
    strip = LayerStrip(HAPPY)
    assert set_by_hand(strip, [4, 5]) == {"seq": 1, "ok": True}
    assert strip.layers == [4, 5] and strip.vector == HAPPY.layers(4, 5)
    strip.layers = [5, 6]
    assert strip.layers == [5, 5], "the layers there are"
    strip.put_to(-HAPPY, layers=(1, 4))
    assert strip.layers == [3, 4] and strip.vector == (-HAPPY).layers(3, 4)


def test_a_training_shows_its_scores_and_begins_with_its_band():
    training = trained(1.0, 2.0, 1.6, 0.5)
    strip = LayerStrip(training)
    assert strip.rows["separation"] == [1.0, 2.0, 1.6, 0.5]
    assert strip.rows["accuracy"] == [1.0, 1.0, 1.0, 0.5] and strip.rows["n_held_out"] == 4
    assert strip.layers == [4, 5] == list(training.band)
    assert strip.vector == training.pick(4, 5) and strip.vector.name == "happy"
    assert repr(strip) == (
        "LayerStrip(happy, layers 4 to 5 of 3 to 7: 100% of 4 held-out pairs in order, "
        "1.8 standard deviations apart)"
    )


def test_one_pair_alone_tells_no_separation():
    strip = LayerStrip(trained(*[np.nan] * 4, n_held_out=1))
    assert strip.rows["separation"] == [None] * 4 and strip.layers == [4, 5]
    assert repr(strip).endswith("of 1 held-out pair in order)")


@pytest.mark.parametrize(
    "layers, why",
    [
        ([8, 9], "no layer from 8 to 9"),
        ([6, 6], "no layer from 6 to 6"),
        ([5, 3], "comes before"),
        ([0, 3], "1 to"),
        ([3, 10**9], "to 65536"),
        ([3], "first and the last"),
        ([3, 4, 5], "first and the last"),
        (["3", 4], "expected an int"),
        ([3.5, 4], "expected an int"),
        ([True, 4], "whole number"),
        ([float("nan"), 4], "expected an int"),
        (3, "list"),
        (None, "list"),
        ("34", "expected an int"),
    ],
)
def test_layers_that_are_not_there_are_refused(layers, why):
    strip = LayerStrip(HAPPY, layers=(4, 7))
    assert why in set_by_hand(strip, layers)["error"]
    with pytest.raises(ValueError, match=why):
        strip.layers = layers
    assert strip.layers == [4, 7] and strip.vector == HAPPY.layers(4, 7)


def test_what_has_no_layers_is_refused(adapter):
    for what in (adapter, "happy", 3, {1: [1.0]}):
        with pytest.raises(TypeError, match="neither a ControlVector nor a Training"):
            LayerStrip(what)
    with pytest.raises(ValueError, match="no layer from 8 to 9"):
        LayerStrip(HAPPY, layers=(8, 9))
    empty = LayerStrip()
    assert empty.vector is None and repr(empty) == text_of(empty) == "LayerStrip()"
    assert "no layers to choose" in set_by_hand(empty, [1, 2])["error"]


def test_its_still_forms_say_what_is_shown():
    strip = LayerStrip(trained(1.0, 2.0, 1.6, -0.5))
    lines = text_of(strip).splitlines()
    assert lines[1].split() == ["layer", "length", "apart", "in", "order", "chosen"]
    assert lines[3].split() == ["4", "2", "2.00", "100%", "yes"]
    assert lines[5].split() == ["7", "3", "-0.50", "50%"]
    html = strip._repr_mimebundle_()[0]["text/html"]
    assert "standard deviations apart, to 2.00" in html and html.count("▸") == 3
    assert html.count("<td>-0.50</td>") == 2, "as a number of its bar, and in the table"
    assert "<script" not in html
    assert "length, to 4.00" in LayerStrip(HAPPY)._repr_mimebundle_()[0]["text/html"]
    LayerStrip()._repr_mimebundle_()
