"""Rooflines: the arithmetic by hand, and what is measured is what is divided."""

from __future__ import annotations

import statistics
from dataclasses import replace
from types import SimpleNamespace

import pytest

from mullama_lab.engine import tiny
from mullama_lab.engine.decode_loop import DecodeLoop
from mullama_lab.engine.model import Model
from mullama_lab.errors import MullamaError
from mullama_lab.studies.roofline import Phase, Roofline, roofline, roofs, weight_work
from mullama_lab.studies.roofline.weight_work import Work, prompt_operations, work_of


@pytest.fixture
def small_roofs(monkeypatch):
    """Roofs that are measured at once, whatever they then are."""
    monkeypatch.setattr(roofs, "SMALLEST_BUFFER", 8 << 20)
    monkeypatch.setattr(roofs, "TIMES_CACHE", 0)
    monkeypatch.setattr(roofs, "N_MATRIX", 64)


def test_weights_are_read_once_a_token_and_multiplied_but_for_what_is_looked_up(tiny_model):
    work = work_of(tiny_model)
    names = {tensor.name for tensor in weight_work.read_header(tiny_model.path).tensors}
    embedding = tiny_model.n_vocab * tiny_model.n_embd
    looked_up = embedding * ("output.weight" in names)
    norms = (2 * tiny_model.n_layer + 1) * tiny_model.n_embd
    assert work.output == embedding and work.n_attention == tiny_model.n_layer
    assert work.products == tiny_model.n_params - norms - embedding - looked_up
    assert work.bytes_read == 4 * (work.products + work.output + norms)  # of float32


def test_of_experts_the_part_that_is_used_is_read(tiny_path, monkeypatch):
    with Model.load(tiny_path) as model:
        before, tensors = work_of(model), weight_work.read_header(tiny_path).tensors
        experts = weight_work.TensorInfo("blk.0.ffn_up_exps.weight", (8, 4, 16), 0, 0)
        header = SimpleNamespace(tensors=(*tensors, experts))
        monkeypatch.setattr(weight_work, "read_header", lambda _: header)
        counts = {"llama.expert_count": 16, "llama.expert_used_count": 2}
        monkeypatch.setattr(model, "metadata", {**model.metadata, **counts})
        after = work_of(model)
    assert after.products - before.products == 8 * 4 * 2
    assert after.bytes_read - before.bytes_read == 4 * 8 * 4 * 2


def test_a_prompts_operations_by_hand(tiny_model):
    work = Work(bytes_read=0, products=1000, output=50, n_attention=3)
    width = tiny_model.n_head * tiny_model.metadata["llama.attention.key_length"]
    pairs = 4 * 10 + (1 + 2 + 3 + 4)  # behind ten tokens, each sees those before it and itself
    by_hand = 2 * 1000 * 4 + 2 * 50 + 4 * 3 * width * pairs
    assert prompt_operations(tiny_model, work, 4, 10) == by_hand


def test_a_layer_with_a_sliding_window_sees_no_more_than_that_by_hand(tmp_path):
    path = tiny.write(tmp_path / "a.gguf", architecture="gemma3")
    with Model.load(path) as model:
        work = work_of(model)
        assert (work.window, work.n_windowed) == (16, model.n_layer // 2)  # every other one
        width = model.n_head * model.metadata["gemma3.attention.key_length"]
        seen = sum(min(16, 10 + i) for i in range(1, 41))
        everything = sum(10 + i for i in range(1, 41))
        by_hand = 4 * width * model.n_layer / 2 * (seen + everything)
        only_attention = replace(work, products=0, output=0)
        assert prompt_operations(model, only_attention, 40, 10) == by_hand


@pytest.mark.parametrize(
    ("architecture", "pattern", "n"),
    [("gemma3", None, 10), ("gpt-oss", None, 6), ("x", [True, False, True, True], 3), ("x", 1, 0),
     ("x", 0, 12), ("x", None, None)],
)  # fmt: skip
def test_which_layers_have_a_window_is_in_the_file_or_known_or_not(architecture, pattern, n):
    key = f"{architecture}.attention.sliding_window_pattern"
    metadata = {} if pattern is None else {key: pattern}
    model = SimpleNamespace(architecture=architecture, metadata=metadata)
    assert weight_work._n_windowed(model, range(12)) == n


def test_a_window_of_unknown_layers_is_said(tmp_path, small_roofs, monkeypatch):
    path = tiny.write(tmp_path / "a.gguf", architecture="gemma3")
    settings = {"n_prompt": 8, "n_gen": 4, "threads": 1, "repeats": 1, "progress": False}
    assert "sliding window" not in str(roofline(path, **settings))
    monkeypatch.setattr(weight_work, "_n_windowed", lambda *_: None)
    assert "does not tell which have its sliding window of 16 tokens" in str(
        roofline(path, **settings)
    )


def test_a_share_is_the_rate_by_the_roof_and_the_text_shows_how():
    decode = Phase("tg128", 175.0, 93.6e6, 175.0 * 93.6e6, 21e9, "B")
    prefill = Phase("pp512", 450.0, 0.25e9, 450 * 0.25e9, 180e9, "FLOP")
    found = Roofline(decode, prefill, int(92.1e6), int(1.5e6), 2, 256 << 20)
    assert decode.share == pytest.approx(0.78)
    text = str(found)
    assert "(92.10 MB of weights + 1.50 MB of cache) a token x 175.00 t/s = 16.38 GB/s" in text
    assert "decode is at 78% of memory bandwidth" in text
    assert "0.2500 GFLOP a token x 450.00 t/s = 112.5 GFLOP/s" in text and "at 62% of" in text
    assert (
        "256 MiB" in text
        and "by 2 threads" in text
        and "by 1 thread (" in str(replace(found, n_threads=1))
    )
    assert found.to_pandas().loc["decode", "share"] == decode.share


def test_what_is_multiplied_is_what_was_measured_and_what_is_read_by_hand(
    tiny_model, small_roofs, monkeypatch
):
    took = {}
    time = DecodeLoop.time

    def look(loop, timed):
        ns = time(loop, timed)
        took.setdefault((timed.n_prompt, timed.n_gen, timed.n_depth), []).append(ns)
        return ns

    monkeypatch.setattr(DecodeLoop, "time", look)
    found = roofline(tiny_model, n_prompt=8, n_gen=4, depth=40, threads=1, repeats=2,
                     progress=False)  # fmt: skip
    for phase, key, n in ((found.decode, (0, 4, 40), 4), (found.prefill, (8, 0, 40), 8)):
        assert len(took[key]) == 2
        assert phase.median_ts == statistics.median(n * 1e9 / ns for ns in took[key])
    head = tiny_model.metadata["llama.attention.key_length"]
    a_token = 2 * 2 * tiny_model.n_layer * tiny_model.n_head_kv * head  # keys and values in f16
    middle = 40 + 4 // 2
    by_hand = middle * (a_token + 12)  # and a position and a sequence
    assert by_hand <= found.cache_bytes <= by_hand + 100  # and a head
    a_second = (work_of(tiny_model).bytes_read + found.cache_bytes) * found.decode.median_ts
    assert found.decode.rate == pytest.approx(a_second)


@pytest.mark.parametrize("architecture", ["llama", "gemma3", "mamba", "jamba"])
def test_every_kind_of_network_has_both_phases(tmp_path, small_roofs, architecture):
    path = tiny.write(tmp_path / "a.gguf", architecture=architecture)
    found = roofline(path, n_prompt=8, n_gen=4, depth=4, threads=1, repeats=2, progress=False)
    assert (found.decode.test, found.prefill.test) == ("tg4 @ d4", "pp8 @ d4")
    for phase in (found.decode, found.prefill):
        assert phase.roof > 0 and phase.share > 0
    assert found.decode.per_token == found.weight_bytes + found.cache_bytes
    assert found.cache_bytes > 0 and not [m for m in Model.opened() if m.path == path]


def test_a_prompt_that_fills_the_whole_context_has_its_roofline(tiny_model, small_roofs):
    found = roofline(tiny_model, n_prompt=256, n_gen=4, threads=1, repeats=1, progress=False)
    assert found.prefill.test == "pp256"


def test_the_roofs_are_speeds_that_a_computer_can_have(small_roofs):
    for n_threads in (1, 2):
        assert 1e8 < roofs.read_bandwidth(n_threads, 8 << 20) < 1e14
        assert 1e8 < roofs.matrix_throughput(n_threads) < 1e16


def test_the_buffer_is_larger_than_the_caches_and_leaves_memory_free(monkeypatch):
    monkeypatch.setattr(roofs, "_largest_caches", lambda: 100 << 20)
    monkeypatch.setattr(roofs, "total_and_free", lambda: (16 << 30, 8 << 30))
    assert roofs.buffer_bytes() == 400 << 20
    monkeypatch.setattr(roofs, "_largest_caches", lambda: 1 << 30)
    assert roofs.buffer_bytes() == 2 << 30


@pytest.mark.parametrize(
    ("caches", "free", "takes"), [(0, 0, "268 MB"), (100 << 20, 399 << 20, "419 MB")]
)
def test_what_would_be_the_bandwidth_of_a_cache_is_not_measured(
    tiny_model, monkeypatch, caches, free, takes
):
    monkeypatch.setattr(roofs, "_largest_caches", lambda: caches)
    monkeypatch.setattr(roofs, "total_and_free", lambda: (16 << 30, free))
    monkeypatch.setattr(roofs, "read_bandwidth", lambda *_: pytest.fail("it measures"))
    with pytest.raises(MullamaError, match=f"are free: .*, takes {takes}. Close something"):
        roofline(tiny_model, threads=1, progress=False)


def test_the_size_that_is_told_is_the_one_that_was_measured_over(
    tiny_model, small_roofs, monkeypatch
):
    left, sizes = [8 << 30], []

    def measured(n_threads, n_bytes):
        sizes.append(n_bytes)
        left[0] = 16 << 20  # something else took the rest meanwhile
        return 1e9

    monkeypatch.setattr(roofs, "total_and_free", lambda: (16 << 30, left[0]))
    monkeypatch.setattr(roofs, "read_bandwidth", measured)
    settings = {"n_prompt": 8, "n_gen": 4, "threads": 1, "repeats": 1, "progress": False}
    found = roofline(tiny_model, **settings)
    assert sizes == [8 << 20] * 2 and found.buffer_bytes == 8 << 20


@pytest.mark.parametrize(
    "settings",
    [{"n_prompt": 0}, {"n_gen": -1}, {"depth": -1}, {"threads": 0}, {"threads": -1},
     {"threads": "2"}, {"kv_type": "f17"}, {"kv_type": ["f16"]}, {"repeats": 0}],
)  # fmt: skip
def test_absurd_settings_are_refused_before_anything_is_measured(tiny_model, monkeypatch, settings):
    monkeypatch.setattr(roofs, "read_bandwidth", lambda *_: pytest.fail("it measures"))
    with pytest.raises((ValueError, TypeError), match="must be"):
        roofline(tiny_model, **settings)


def test_a_pair_of_types_is_one_cache_as_a_list_too(tiny_model, small_roofs):
    found = roofline(tiny_model, n_prompt=8, n_gen=4, threads=1, repeats=1, progress=False,
                     kv_type=["q8_0", "f16"])  # fmt: skip
    assert found.cache_bytes > 0


def test_a_model_on_a_gpu_is_refused_for_the_roofs_are_the_cpus(tiny_model, monkeypatch):
    monkeypatch.setattr(tiny_model, "options", {"n_gpu_layers": -1})
    with pytest.raises(ValueError, match="n_gpu_layers=-1: the roofs"):
        roofline(tiny_model)
