from __future__ import annotations

import gguf
import numpy as np
import pytest

from mullama_lab.engine import tiny


def test_the_same_seed_writes_the_same_bytes(tmp_path):
    one = tiny.write(tmp_path / "one.gguf", seed=3).read_bytes()
    two = tiny.write(tmp_path / "two.gguf", seed=3).read_bytes()
    other = tiny.write(tmp_path / "other.gguf", seed=4).read_bytes()
    assert one == two
    assert one != other


def test_the_default_file_is_small_and_has_a_token_for_each_byte(tmp_path):
    path = tiny.write(tmp_path / "tiny.gguf")
    assert 150_000 < path.stat().st_size < 165_000
    reader = gguf.GGUFReader(path)
    assert reader.fields["general.architecture"].contents() == "llama"
    assert len(reader.fields["tokenizer.ggml.tokens"].contents()) == 259


def test_a_larger_vocabulary_goes_on_with_words(tmp_path):
    path = tiny.write(tmp_path / "words.gguf", n_vocab=262, pieces=["▁ab c"])
    texts = gguf.GGUFReader(path).fields["tokenizer.ggml.tokens"].contents()
    assert texts[259:] == ["▁ab▁c", "aa", "ab"]


def test_a_split_file_spreads_its_tensors_over_the_parts(tmp_path):
    first = tiny.write(tmp_path / "parts.gguf", split=3)
    names = sorted(path.name for path in tmp_path.iterdir())
    assert first.name == "parts-00001-of-00003.gguf"
    assert names == [f"parts-0000{part}-of-00003.gguf" for part in (1, 2, 3)]
    counts = [len(gguf.GGUFReader(tmp_path / name).tensors) for name in names]
    assert sum(counts) == 21
    assert min(counts) > 0


def test_keys_and_tensors_can_be_replaced_and_left_out(tmp_path):
    nan = np.full((259, 32), np.nan, dtype=np.float32)
    path = tiny.write(
        tmp_path / "odd.gguf",
        metadata={"general.name": "odd", "tokenizer.ggml.eos_token_id": None},
        tensors={"output.weight": nan, "blk.1.ffn_up.weight": None},
    )
    reader = gguf.GGUFReader(path)
    tensors = {tensor.name: tensor.data for tensor in reader.tensors}
    assert reader.fields["general.name"].contents() == "odd"
    assert "tokenizer.ggml.eos_token_id" not in reader.fields
    assert np.isnan(tensors["output.weight"]).all()
    assert "blk.1.ffn_up.weight" not in tensors


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"n_vocab": 258}, "n_vocab=258 is below 259"),
        ({"architecture": "abacus"}, "architecture 'abacus' is not one of"),
        ({"vocabulary": "runes"}, "vocabulary 'runes' is not one of"),
    ],
)
def test_what_cannot_be_written_is_refused(tmp_path, options, message):
    with pytest.raises(ValueError, match=message):
        tiny.write(tmp_path / "no.gguf", **options)
