"""LoRA adapters: what a file says, and which are refused before llama.cpp sees them."""

from __future__ import annotations

import os

import gguf
import numpy as np
import pytest

import mullama_lab as ml
from mullama_lab.engine import tiny
from mullama_lab.errors import ModelFileError

Q, EMBD = "blk.0.attn_q.weight", "token_embd.weight"


def half(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def pair(n_in=32, n_out=64, rank=2):
    return half(rank, n_in), half(n_out, rank, seed=1)


def written(path, pairs=None, **more):
    return tiny.write_adapter(path, {Q: pair()} if pairs is None else pairs, **more)


def test_it_says_what_its_file_says(tmp_path):
    pairs = {Q: pair(), "blk.1.attn_v.weight": pair(n_out=32, rank=3)}
    said = {"adapter.lora.task_name": "rhymes", "adapter.lora.prompt_prefix": "Poem: "}
    path = written(tmp_path / "a.gguf", pairs, alpha=6.0, metadata=said)
    a = ml.LoraAdapter.load(path)
    assert (a.architecture, a.rank, a.alpha) == ("llama", 3, 6.0)
    assert a.targets == (Q, "blk.1.attn_v.weight")
    assert a.n_params == 2 * (32 + 64) + 3 * (32 + 32)
    assert a.size_bytes == path.stat().st_size
    assert (a.name, a.task_name, a.prompt_prefix) == ("tiny adapter", "rhymes", "Poem: ")
    assert repr(a) == f"LoraAdapter.load({str(path)!r})"
    assert eval(repr(a), {"LoraAdapter": ml.LoraAdapter}) == a


def test_equal_files_are_equal_wherever_they_lie(tmp_path):
    a = ml.LoraAdapter.load(written(tmp_path / "a.gguf"))
    b = ml.LoraAdapter.load(written(tmp_path / "b.gguf"))
    c = ml.LoraAdapter.load(written(tmp_path / "c.gguf", alpha=2.0))
    assert a == b and hash(a) == hash(b) and a != c


def without(*names):
    return {"metadata": dict.fromkeys(names)}


@pytest.mark.parametrize(
    "more, words",
    [
        (without("general.type"), "no LoRA adapter"),
        (without("adapter.type"), "no LoRA adapter"),
        ({"metadata": {"adapter.type": "dora"}}, "adapter.type 'dora'"),
        ({"metadata": {"general.type": 3}}, "general.type is 3, of another type"),
        ({"metadata": {"adapter.type": 3}}, "adapter.type is 3, of another type"),
        ({"metadata": {"adapter.lora.alpha": 3}}, "adapter.lora.alpha is 3, of another type"),
        ({"metadata": {"adapter.lora.alpha": float("nan")}}, "alpha is no number"),
        ({"metadata": {"adapter.lora.task_name": 3}}, "task_name is 3, of another type"),
        ({"metadata": {"adapter.alora.invocation_tokens": [1, 2]}}, "aLoRA"),
        ({"pairs": {}}, "no tensors"),
        ({"pairs": {Q: (half(2, 32), half(64, 3))}}, "of ranks 2 and 3"),
        ({"pairs": {Q: (half(32), half(64, 2))}}, "not of two matrices"),
        ({"pairs": {Q: (half(2, 2, 32), half(64, 2))}}, "not of two matrices"),
        ({"pairs": {Q: (half(2, 2, 32), half(3, 64, 2))}}, "2 and 3 experts"),
        ({"pairs": {Q: (half(1, 1, 2, 32), half(1, 1, 64, 2))}}, "not of two matrices"),
        ({"pairs": {Q: (half(2, 32).astype(np.int32), half(64, 2))}}, "not F32, F16 or BF16"),
        ({"pairs": {Q: (half(2, 32).astype(np.float64), half(64, 2))}}, "not F32, F16 or BF16"),
        ({"pairs": {"a.lora_a": pair()}}, "no half of a LoRA pair"),
    ],
)
def test_files_that_are_none_are_refused(tmp_path, more, words):
    with pytest.raises(ModelFileError, match=words):
        ml.LoraAdapter.load(written(tmp_path / "a.gguf", **more))


def test_a_pair_needs_both_halves(tmp_path):
    keys = {"general.type": "adapter", "adapter.type": "lora"}
    for tensors, words in (
        ({f"{Q}.lora_a": half(2, 32)}, "only lora_a"),
        ({f"{Q}.lora_b": half(64, 2)}, "only lora_b"),
        ({Q: half(64, 32)}, "no half"),
        ({"lora_a": half(64, 32)}, "no half"),
    ):
        path = tiny.write_file(tmp_path / "a.gguf", "llama", keys, tensors, 1)
        with pytest.raises(ModelFileError, match=words):
            ml.LoraAdapter.load(path)


def test_a_model_is_no_adapter_and_a_cut_file_none(tmp_path, tiny_path):
    with pytest.raises(ModelFileError, match="no LoRA adapter"):
        ml.LoraAdapter.load(tiny_path)
    whole = written(tmp_path / "a.gguf").read_bytes()
    for n in range(0, len(whole), 11):
        (tmp_path / "cut.gguf").write_bytes(whole[:n])
        with pytest.raises(ModelFileError):
            ml.LoraAdapter.load(tmp_path / "cut.gguf")


@pytest.mark.parametrize(
    "pairs, more, words",
    [
        ({Q: pair()}, {"architecture": "gemma3"}, "it is for gemma3"),
        ({"blk.9.attn_q.weight": pair()}, {}, "has no weight blk.9.attn_q.weight"),
        ({"nothing": pair()}, {}, "has no weight nothing"),
        ({Q: pair(n_in=33)}, {}, "is 32 x 64 in the model and 33 x 64 here"),
        ({Q: pair(n_out=63)}, {}, "is 32 x 64 in the model and 32 x 63 here"),
        ({Q: (half(4, 2, 32), half(4, 64, 2))}, {}, "32 x 64 x 4 here"),
        ({EMBD: pair(n_in=32, n_out=259)}, {}, "ranks"),
    ],
)
def test_what_does_not_fit_the_model_is_refused(tmp_path, tiny_model, pairs, more, words):
    with tiny_model.session(n_ctx=64, n_threads=1) as session:
        with pytest.raises(ModelFileError, match=words):
            session.adapters = {ml.LoraAdapter.load(written(tmp_path / "a", pairs, **more)): 1.0}
        assert not session.adapters
        session.generate([5], max_tokens=2)


def test_a_file_that_was_altered_or_deleted_is_refused(tmp_path, tiny_model):
    adapter = ml.LoraAdapter.load(written(tmp_path / "a.gguf"))
    written(tmp_path / "a.gguf", alpha=9.0)
    with tiny_model.session(n_ctx=64, n_threads=1) as session:
        with pytest.raises(ModelFileError, match="was altered"):
            session.adapters = {adapter: 1.0}
        os.remove(tmp_path / "a.gguf")
        with pytest.raises(ModelFileError, match="does not exist"):
            session.adapters = {adapter: 1.0}


# With half precision nowhere, so that what differs is the order of a sum.
PRECISE = {"n_ctx": 64, "n_threads": 1, "kv_type": "f32", "flash_attention": "off"}


def test_it_changes_what_tokens_begin_as(tmp_path):
    """The table of embeddings: llama.cpp takes A and B the other way round there."""
    table = half(259, 2), half(32, 2, seed=1)
    with ml.Model.load(tiny.write(tmp_path / "base.gguf")) as model:
        have = {one.name: np.array(one.data) for one in gguf.GGUFReader(model.path).tensors}
        session = model.session(**PRECISE)
        base = session.logits([5, 6, 7])
        adapter = ml.LoraAdapter.load(written(tmp_path / "a.gguf", {EMBD: table}))
        assert adapter.rank == 2
        session.adapters = {adapter: 1.0}
        got = session.logits([5, 6, 7])
    tensors = {EMBD: have[EMBD] + 4.0 / 2 * table[0] @ table[1].T}
    with ml.Model.load(tiny.write(tmp_path / "merged.gguf", tensors=tensors)) as model:
        want = model.session(**PRECISE).logits([5, 6, 7])
    assert np.abs(got - want).max() < 1e-4 < 0.05 < np.abs(want - base).max()


def test_half_precision_acts_too(tmp_path, tiny_model):
    a, b = pair()
    f16 = a.astype(np.float16), b.astype(np.float16)
    one = ml.LoraAdapter.load(written(tmp_path / "a.gguf", {Q: f16}))
    with tiny_model.session(**PRECISE) as session:
        base = session.logits([5, 6, 7])
        session.adapters = {one: 1.0}
        assert np.abs(session.logits([5, 6, 7]) - base).max() > 0.01


def merged(path, pairs, scale, alpha=4.0, **more):
    """A model with the adapter's weights added to its own."""
    with ml.Model.load(tiny.write(path, **more)) as model:
        reader = gguf.GGUFReader(model.path)
    have = {tensor.name: np.array(tensor.data) for tensor in reader.tensors}
    tensors = {
        name: have[name] + (scale * alpha / len(a)) * (b.astype(np.float32) @ a)
        for name, (a, b) in pairs.items()
    }
    return tiny.write(path, tensors=tensors, **more)


@pytest.mark.parametrize("scale", [1.0, -0.5, 0.3])
def test_it_is_the_model_merged_with_it(tmp_path, scale):
    pairs = {
        Q: pair(),
        "blk.1.attn_v.weight": pair(n_out=32),
        "blk.0.ffn_up.weight": pair(n_out=48),
    }
    prompt = list(range(5, 40))
    with ml.Model.load(merged(tmp_path / "merged.gguf", pairs, scale)) as model:
        want = model.session(**PRECISE).logits(prompt)
    with ml.Model.load(tiny.write(tmp_path / "base.gguf")) as model:
        session = model.session(**PRECISE)
        base = session.logits(prompt)
        session.adapters = {ml.LoraAdapter.load(written(tmp_path / "a.gguf", pairs)): scale}
        got = session.logits(prompt)
    assert np.abs(got - want).max() < 1e-4 < 0.05 < np.abs(want - base).max()
