"""Control vectors as values: arithmetic, files, and what is refused."""

from __future__ import annotations

import pickle

import gguf
import numpy as np
import pytest

import mullama_lab as ml
from mullama_lab.engine import tiny
from mullama_lab.errors import ModelFileError


def vector(seed=0, layers=(1, 2, 3), n_embd=8, **more):
    rng = np.random.default_rng(seed)
    more = {"architecture": "llama", **more}
    return ml.ControlVector({layer: rng.normal(size=n_embd) for layer in layers}, **more)


def test_arithmetic_is_that_of_its_rows():
    a, b = vector(0), vector(1, layers=(2, 4))
    both = 2 * a - b / 3
    zeros = np.zeros(8, np.float32)
    for layer in (1, 2, 3, 4):
        mine, theirs = a.directions.get(layer, zeros), b.directions.get(layer, zeros)
        expected = 2 * mine - theirs / np.float32(3)
        assert np.array_equal(both.directions[layer], expected)
    assert both.directions[1].dtype == np.float32
    assert -a == a * -1 == 0 * a - a
    assert a + a == 2 * a and (2 * a) / 2 == a
    assert (a - a).is_zero and not a.is_zero
    assert +a is a


def test_equal_is_what_acts_alike():
    a = vector(0)
    padded = ml.ControlVector({**a.directions, 7: np.zeros(8)}, name="another")
    assert a == padded and hash(a) == hash(padded) and len({a, padded}) == 1
    assert a != vector(1) and a != "a"
    assert a - a == 0.0 * vector(1)
    minus = ml.ControlVector({1: np.full(8, -0.0)})
    assert minus == ml.ControlVector({1: np.zeros(8)})
    assert ml.ControlVector({1: [1, -0.0]}) == ml.ControlVector({1: [1, 0.0]})


def test_some_layers_and_directions_of_length_one():
    a = vector(0, layers=range(1, 11))
    assert list(a.layers(3, 5).directions) == [3, 4, 5]
    with pytest.raises(ValueError, match="no layer from 11 to 20; it has some from 1 to 10"):
        a.layers(11, 20)
    with pytest.raises(ValueError, match="first"):
        a.layers(0, 3)
    ones = a.normalize()
    assert np.allclose(list(ones.norms.values()), 1)
    assert ones.layers(3, 3) == a.layers(3, 3).normalize()
    assert (0 * a).normalize().is_zero


def test_it_prints_as_code_that_gives_its_equal(tmp_path):
    vector(0).save(tmp_path / "a.gguf")
    vector(1).save(tmp_path / "b.gguf")
    a = ml.ControlVector.load(tmp_path / "a.gguf")
    b = ml.ControlVector.load(tmp_path / "b.gguf")
    made = [
        a,
        -a,
        2 * a - b,
        a - (b - a),
        a - (b + a),
        (a - b) * 0.5,
        -(a + b) / 3,
        (a / 2) / 4,
        2 * (3 * a),
        -1 * -a,
        (a + b).layers(1, 2).normalize(),
        (-a).layers(2, 2) + b,
    ]
    for one in made:
        assert eval(repr(one), {"ControlVector": ml.ControlVector}) == one, repr(one)
    assert repr(vector(0, name="x")) == "<ControlVector 'x' of llama: 3 layers of 8 numbers>"
    assert repr(vector(0) + a).startswith("<ControlVector of llama")


def test_arithmetic_is_called_after_what_it_is_made_of(tmp_path):
    happy, sad = vector(0, name="happy"), vector(1, name="sad")
    for made, name in (
        (0.5 * happy, "0.5 * happy"),
        (2 * (0.5 * happy), "2 * (0.5 * happy)"),
        (-happy / 3, "(-happy) / 3"),
        (happy - (sad - happy), "happy - (sad - happy)"),
        (0.5 * (happy + sad), "0.5 * (happy + sad)"),
        (happy.layers(1, 2).normalize(), "happy.layers(1, 2).normalize()"),
        (+happy, "happy"),
        (0.5 * vector(1), ""),
        (happy + vector(1), ""),
    ):
        assert made.name == name
    assert 0.5 * happy == happy * 0.5 == happy / 2, "however they are called"
    (0.5 * happy).save(tmp_path / "v.gguf")
    assert ml.ControlVector.load(tmp_path / "v.gguf").name == "0.5 * happy"
    assert repr(0.5 * happy) == "<ControlVector '0.5 * happy' of llama: 3 layers of 8 numbers>"
    assert (0.5 * ml.ControlVector.named("happy")).name == "0.5 * happy"
    for _ in range(100):
        happy = happy + 0.25 * sad
    assert happy.name == "", "rather than the story of a loop"


def test_a_file_gives_the_same_again(tmp_path):
    a = vector(0, layers=(1, 5), name="happy")
    a.save(tmp_path / "a.gguf")
    again = ml.ControlVector.load(tmp_path / "a.gguf")
    assert again == a and (again.name, again.architecture) == ("happy", "llama")
    for layer, row in a.directions.items():
        assert np.array_equal(again.directions[layer], row)
    assert pickle.loads(pickle.dumps(again)) == a
    assert pickle.loads(pickle.dumps(vector(0, model="m"))).model == "m"
    assert repr(pickle.loads(pickle.dumps(again))) == repr(again)


def test_a_file_of_llama_cpps_generator_is_read(tmp_path):
    """As tools/cvector-generator and repeng's `export_gguf` write it."""
    writer = gguf.GGUFWriter(tmp_path / "v.gguf", "controlvector")
    writer.add_string("controlvector.model_hint", "gemma3")
    writer.add_uint32("controlvector.layer_count", 2)
    for layer in (1, 2):
        writer.add_tensor(f"direction.{layer}", np.full(4, layer, np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    read = ml.ControlVector.load(tmp_path / "v.gguf")
    assert read == ml.ControlVector({1: np.ones(4), 2: np.full(4, 2)})
    assert (read.name, read.architecture) == ("v", "gemma3")


def test_repeng_reads_what_is_saved(tmp_path):
    """As repeng 0.4's `import_gguf` reads it, and with its hint in the words of transformers."""
    a = vector(0, architecture="mistral", name="happy", model="0" * 32)
    a.save(tmp_path / "a.gguf")
    reader = gguf.GGUFReader(tmp_path / "a.gguf")
    texts = {
        key: str(bytes(reader.get_field(key).parts[-1]), "utf-8")
        for key in ("general.architecture", "controlvector.model_hint")
    }
    assert list(texts.values()) == ["controlvector", "mistral"]
    rows = {
        int(tensor.name.split(".")[1]): tensor.data
        for tensor in reader.tensors
        if tensor.name.startswith("direction.")
    }
    assert rows.keys() == a.directions.keys()
    assert all(np.array_equal(rows[layer], row) for layer, row in a.directions.items())
    assert a + vector(0) == 2 * vector(0), "mistral is llama to llama.cpp"


@pytest.mark.parametrize(
    "directions, words",
    [
        ({}, "at least one layer"),
        ({0: [1.0]}, "a layer"),
        ({-1: [1.0]}, "a layer"),
        ({1: []}, "as many numbers"),
        ({1: [[1.0]]}, "as many numbers"),
        ({1: 1.0}, "as many numbers"),
        ({1: [1.0], 2: [1.0, 2.0]}, "as many numbers"),
        ({1: [np.nan]}, "layer 1 has a number"),
        ({1: [1.0], 2: [np.inf]}, "layer 2 has a number"),
    ],
)
def test_what_is_no_vector_is_refused(directions, words):
    with pytest.raises(ValueError, match=words):
        ml.ControlVector(directions)


def test_what_cannot_be_reckoned_is_refused():
    a = vector(0)
    for number in (np.nan, np.inf, -np.inf):
        with pytest.raises(ValueError, match="finite"):
            a * number
        with pytest.raises(ValueError, match="finite"):
            a / number
    with pytest.raises(ZeroDivisionError):
        a / 0
    for other in (1, "a", None, True):
        with pytest.raises(TypeError):
            a + other
    for other in ("2", None, True, [1]):
        with pytest.raises(TypeError):
            a * other
    with pytest.raises(ValueError, match="infinite"):
        (a * 1e38) * 1e38
    with pytest.raises(ValueError, match="different models"):
        a + vector(0, n_embd=9)
    with pytest.raises(ValueError, match="different models"):
        a + vector(0, architecture="gemma3")
    assert (a + vector(0, architecture="")).architecture == "llama"


def test_a_row_cannot_be_written_to():
    numbers = np.ones(4)
    a = ml.ControlVector({1: numbers})
    numbers[0] = 7
    assert a.directions[1][0] == 1
    with pytest.raises(ValueError):
        a.directions[1][0] = 7
    a.directions[2] = numbers
    assert list(a.directions) == [1]


def test_files_that_hold_none_are_refused(tmp_path, tiny_path):
    with pytest.raises(ModelFileError, match="is no control vector"):
        ml.ControlVector.load(tiny_path)
    with pytest.raises(ModelFileError, match="does not exist"):
        ml.ControlVector.load(tmp_path / "none.gguf")
    path = tmp_path / "a.gguf"
    vector(0).save(path)
    whole = path.read_bytes()
    for n in range(0, len(whole), 7):
        path.write_bytes(whole[:n])
        with pytest.raises(ModelFileError):
            ml.ControlVector.load(path)


@pytest.mark.parametrize(
    "tensors, words",
    [
        ({}, "at least one layer"),
        ({"direction.0": np.ones(4, np.float32)}, "a layer"),
        ({"direction.x": np.ones(4, np.float32)}, "direction.x is no direction"),
        ({"other.1": np.ones(4, np.float32)}, "other.1 is no direction"),
        ({"direction.1": np.ones((2, 2), np.float32)}, "direction.1 is no direction"),
        ({"direction.1": np.ones(4, np.float16)}, "direction.1 is no direction"),
        ({"direction.1": np.array([1, np.nan], np.float32)}, "layer 1 has a number"),
        (
            {"direction.1": np.ones(4, np.float32), "direction.01": np.ones(4, np.float32)},
            "layer 1 is there twice",
        ),
        (
            {"direction.1": np.ones(4, np.float32), "direction.2": np.ones(5, np.float32)},
            "as many numbers",
        ),
    ],
)
def test_files_of_another_form_are_refused(tmp_path, tensors, words):
    path = tiny.write_file(tmp_path / "v.gguf", "controlvector", {}, tensors, 1)
    with pytest.raises(ModelFileError, match=words):
        ml.ControlVector.load(path)
