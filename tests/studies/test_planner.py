"""What is planned is what is then taken, as llama.cpp says both."""

from __future__ import annotations

import subprocess
import sys
from itertools import product
from typing import Any, cast

import psutil
import pytest

from mullama_lab import Model, hub, studies
from mullama_lab.engine import tiny
from mullama_lab.engine.gguf.file import TensorInfo
from mullama_lab.engine.memory import Buffer
from mullama_lab.engine.model import outline as outlines
from mullama_lab.engine.native.library import C
from mullama_lab.engine.session import opening
from mullama_lab.errors import ClosedError, ModelFileError, ModelLoadError, ModelNotFound
from mullama_lab.studies import planner

ROUNDED = 0.011 * (1 << 20)  # bytes that a size in the log may be off
PARTS = ("weights", "kv", "state", "compute", "output")
SETTINGS = {
    "n_ctx": (512, 4096),
    "kv_type": ("f16", "q8_0"),
    "n_ubatch": (64, 512),
    "n_seq_max": (1, 8),
}


def must_be_as_planned(source, settings, **load):
    table = planner.grid(source, **{name: [value] for name, value in settings.items()}, **load)
    planned = planner.plan(source, **settings, **load)
    with Model.load(source, **load) as model, model.session(**settings) as session:
        taken = session.memory
    for part in PARTS:
        expected = getattr(taken, f"{part}_bytes")
        assert getattr(planned, f"{part}_bytes") == pytest.approx(expected, rel=0.02, abs=ROUNDED)
        assert table[part][0] == getattr(planned, f"{part}_bytes")
    assert planned.total_bytes == pytest.approx(taken.total_bytes, rel=0.05)
    assert set(planned.by_device) == set(taken.by_device) == {"CPU"}


@pytest.mark.parametrize("source", ["smollm2-135m", "gemma3-270m"])
def test_a_real_model_takes_what_was_planned(source):
    n = 0
    table = planner.grid(hub.fetch(source), **SETTINGS)
    with Model.load(hub.fetch(source)) as model:
        for row in table.to_dict("records"):
            settings: dict[str, Any] = {name: row[name] for name in SETTINGS}
            with model.session(**settings) as session:
                taken = session.memory
            for part in (*PARTS, "total"):
                expected = getattr(taken, f"{part}_bytes")
                assert row[part] == pytest.approx(expected, rel=0.001, abs=ROUNDED), (part, row)
            n += 1
    assert n == 16
    by_ctx = table.groupby("n_ctx").kv.sum()
    assert by_ctx[4096] == pytest.approx(8 * by_ctx[512], rel=0.001)
    assert table.fits.all()


@pytest.mark.parametrize("architecture", ["llama", "gemma3", "qwen2moe", "mamba", "jamba"])
def test_a_model_of_any_architecture_takes_what_was_planned(tmp_path, architecture):
    path = tiny.write(tmp_path / "t.gguf", architecture=architecture, n_layer=4)
    for n_ctx, n_ubatch, n_seq_max in product((512, 4096), (64, 512), (1, 8)):
        settings = {"n_ctx": n_ctx, "n_ubatch": n_ubatch, "n_seq_max": n_seq_max}
        must_be_as_planned(path, settings)


@pytest.fixture(scope="module")
def q4_0(tmp_path_factory):
    """smollm2 in a type that CPUs have another layout for."""
    path = tmp_path_factory.mktemp("q4_0") / "q4_0.gguf"
    params = C.llama_model_quantize_default_params()
    params.ftype, params.allow_requantize, params.pure = 2, True, True  # MOSTLY_Q4_0
    source = str(hub.fetch("smollm2-135m")).encode()
    assert C.llama_model_quantize(source, str(path).encode(), params) == 0
    return path


@pytest.mark.parametrize("mmap", [True, False])
def test_weights_that_are_copied_into_another_layout_are_planned_twice(q4_0, mmap):
    must_be_as_planned(q4_0, {"n_ctx": 512}, mmap=mmap)


def test_layers_are_planned_on_the_devices_that_llama_cpp_gives_them(monkeypatch):
    monkeypatch.setattr(outlines, "extra_layouts_are_safe", lambda: False)
    names = ("token_embd", "blk.0.ffn_up", "blk.1.ffn_up", "output_norm")
    tensors = [TensorInfo(f"{name}.weight", (64, 2), 0, 0) for name in names]
    said = [
        "load_tensors: layer   0 assigned to device CPU, is_swa = 0",
        "load_tensors: layer   1 assigned to device CUDA0, is_swa = 0",
        "load_tensors: layer   2 assigned to device CUDA0, is_swa = 0",
    ]
    # The output's weights are those of the tokens, which have a copy on the device.
    assert set(outlines.weights(tensors, said, mapped=True)) == {
        Buffer("weights", "CPU_Mapped", 2 * 512),
        Buffer("weights", "CUDA0", 3 * 512),
    }


def test_weights_of_tokens_are_in_no_other_layout_where_a_device_multiplies_them(monkeypatch):
    monkeypatch.setattr(outlines, "extra_layouts_are_safe", lambda: True)
    monkeypatch.setattr(outlines, "layout_of", lambda kind, shape: "CPU_REPACK")
    tensors = [TensorInfo(f"{name}.weight", (64, 2), 0, 0) for name in ("token_embd", "blk.0.up")]

    def found(output, *moved, mapped):
        said = [
            "load_tensors: layer   0 assigned to device CPU, is_swa = 0",
            f"load_tensors: layer   1 assigned to device {output}, is_swa = 0",
            *(f"tensor {name} (0 MiB f32) buffer type overridden to CPU" for name in moved),
        ]
        buffers = outlines.weights(tensors, said, mapped=mapped)
        return {buffer.name: buffer.size_bytes // 512 for buffer in buffers}

    assert found("CUDA0", mapped=True) == {"CUDA0": 1, "CPU_Mapped": 2, "CPU_REPACK": 1}
    assert found("CUDA0", mapped=False) == {"CUDA0": 1, "CPU": 1, "CPU_REPACK": 1}
    on_the_cpu = {"CPU": 1, "CPU_REPACK": 2}
    assert found("CPU", mapped=False) == on_the_cpu
    assert found("CUDA0", "token_embd.weight", mapped=False) == on_the_cpu


@pytest.mark.parametrize("mmap", [True, False])
def test_a_plan_knows_the_tensors_that_a_pattern_moves(tmp_path, q4_0, mmap):
    """Those with another layout on the CPU keep it where a pattern says CPU."""
    mixture = tiny.write(tmp_path / "m.gguf", architecture="qwen2moe")
    load = {"mmap": mmap, "n_gpu_layers": -1}
    must_be_as_planned(mixture, {"n_ctx": 512}, override_tensor={"exps": "CPU"}, **load)
    must_be_as_planned(q4_0, {"n_ctx": 512}, override_tensor={"ffn|token_embd": "CPU"}, **load)


@pytest.mark.parametrize("call", [planner.plan, planner.grid])
def test_a_plan_refuses_a_placement_that_a_load_refuses(tiny_path, call):
    with pytest.raises(ValueError, match="'expz' finds none of the tensors"):
        call(tiny_path, override_tensor={"expz": "CPU"})
    with pytest.raises(ValueError, match="nan is no part"):
        call(tiny_path, tensor_split=[float("nan")])


def test_weights_that_a_pattern_moves_are_planned_where_it_says(monkeypatch):
    monkeypatch.setattr(outlines, "extra_layouts_are_safe", lambda: False)
    names = ("token_embd", "blk.0.ffn_up_exps", "blk.0.ffn_norm", "output_norm")
    tensors = [TensorInfo(f"{name}.weight", (64, 2), 0, 0) for name in names]
    said = [
        "load_tensors: layer   0 assigned to device CUDA0, is_swa = 0",
        "load_tensors: layer   1 assigned to device CUDA0, is_swa = 0",
        "tensor blk.0.ffn_up_exps.weight (0 MiB f32) buffer type overridden to CPU",
        "tensor token_embd.weight (0 MiB f32) buffer type overridden to CUDA1",
    ]
    # The tokens' weights, which are the output's too, are in one place.
    assert set(outlines.weights(tensors, said, mapped=False)) == {
        Buffer("weights", "CPU", 512),
        Buffer("weights", "CUDA0", 2 * 512),
        Buffer("weights", "CUDA1", 512),
    }


def test_nobody_is_offered_a_model_that_has_no_weights(tiny_path):
    """To compute with it would end the process."""
    before = Model.opened()
    with outlines.outline(Model, tiny_path) as (model, _):
        assert not model.closed and Model.opened() == before
    assert model.closed


def test_a_plan_says_what_it_is(tiny_path):
    planned = planner.plan(tiny_path, n_ctx=2048)
    assert repr(planned).startswith("<Plan of tiny, n_ctx=2048: 3.32 MB: weights 153 kB, KV cache ")
    assert planned.fits and planned.settings["n_seq_max"] == 8
    assert planned.to_pandas().bytes.sum() == planned.total_bytes
    assert planner.plan(tiny_path, n_ctx=4096).kv_bytes == 2 * planned.kv_bytes
    assert studies.planner is planner


def test_what_is_more_than_is_free_does_not_fit(tiny_path, monkeypatch):
    memory = psutil.virtual_memory()._replace(available=3_000_000)
    monkeypatch.setattr(psutil, "virtual_memory", lambda: memory)
    assert planner.grid(tiny_path, n_ctx=[512, 4096]).fits.tolist() == [True, False]


@pytest.mark.parametrize("mmap", [True, False])
def test_what_an_open_session_holds_is_free_to_one_in_its_place(tiny_path, monkeypatch, mmap):
    """Its cache is; its 5 MB to compute a batch in, of which there was none, are free anyway."""
    memory = psutil.virtual_memory()._replace(available=5_000_000)
    settings: dict[str, Any] = {"n_ctx": 4096, "n_ubatch": 512, "n_batch": 512}
    with Model.load(tiny_path, mmap=mmap) as model, model.session(**settings) as session:
        taken = pytest.approx(session.memory.total_bytes, abs=2 * ROUNDED)
        monkeypatch.setattr(psutil, "virtual_memory", lambda: memory)
        assert not planner.plan(tiny_path, **settings, mmap=mmap).fits
        with planner.Planner(session) as planning:
            same, larger = planning.plan(**settings), planning.plan(**{**settings, "n_ctx": 6144})
            assert same.total_bytes == taken and same.in_place and same.fits
            assert not larger.fits
            session.close()
            model.close()
            closed = planning.plan(**settings)
            assert closed.free == {"CPU": 5_000_000} and not closed.fits


def test_a_planner_reads_the_file_once_and_plans_as_plan_does(tiny_path, monkeypatch):
    expected = [planner.plan(tiny_path, n_ctx=n_ctx) for n_ctx in (512, 4096)]
    read = []
    check = outlines.check
    monkeypatch.setattr(outlines, "check", lambda path: read.append(path) or check(path))
    with planner.Planner(tiny_path) as planning:
        found = [planning.plan(n_ctx=n_ctx) for n_ctx in (512, 4096)]
        with pytest.raises(ValueError, match="n_ctx=0"):
            planning.plan(n_ctx=0)
    assert len(read) == 1
    assert [one.buffers for one in found] == [one.buffers for one in expected]
    planning.close()
    with pytest.raises(ClosedError):
        planning.plan(n_ctx=512)


def test_a_plan_of_a_reproducible_session_is_as_that_takes_it(tiny_path):
    settings: dict[str, Any] = {"n_ctx": 512, "n_seq_max": 4, "reproducible": True}
    planned = planner.plan(tiny_path, **settings)
    with Model.load(tiny_path) as model, model.session(**settings) as session:
        taken = session.memory
    assert planned.kv_bytes == taken.kv_bytes and planned.compute_bytes == taken.compute_bytes


def test_a_huge_context_is_planned_from_smaller_ones(tiny_path, monkeypatch):
    """llama.cpp keeps 52 bytes a cell even of a cache that is only laid out."""
    huge = planner.plan(tiny_path, n_ctx=1 << 22)
    assert huge.kv_bytes == (1 << 22) * 256
    monkeypatch.setattr(opening, "MOST_LAID_OUT", 1 << 23)
    assert huge.total_bytes == pytest.approx(planner.plan(tiny_path, n_ctx=1 << 22).total_bytes)
    code = f"""
import psutil
from mullama_lab.studies import planner
planner.plan({str(tiny_path)!r}, n_ctx=4096)
before = psutil.Process().memory_info().rss
planner.plan({str(tiny_path)!r}, n_ctx=1 << 24)
assert psutil.Process().memory_info().rss - before < 100_000_000
"""
    subprocess.run([sys.executable, "-c", code], check=True)


# What cannot be planned.


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"n_ctx": 10**10}, r"n_ctx=10000000000: it must be from 1 to 16777216"),
        ({"n_ctx": 0}, "n_ctx=0: it must be from 1"),
        ({"n_ubatch": 0}, "n_ubatch=0"),
        ({"kv_type": "q9_0"}, "kv_type='q9_0'"),
        ({"n_gpu_layers": -2}, "n_gpu_layers=-2"),
    ],
)
def test_settings_out_of_range_are_refused(tiny_path, settings, message):
    with pytest.raises(ValueError, match=message):
        planner.plan(tiny_path, **settings)


def test_an_empty_list_of_settings_is_refused(tiny_path):
    with pytest.raises(ValueError, match="n_ctx has no values"):
        planner.grid(tiny_path, n_ctx=[])
    with pytest.raises(TypeError, match="n_ctx=4096: it must be a list of settings"):
        planner.grid(tiny_path, n_ctx=cast(Any, 4096))


def test_a_file_without_what_a_plan_needs_is_refused(tmp_path):
    path = tiny.write(tmp_path / "t.gguf", metadata={"llama.block_count": None})
    with pytest.raises(ModelLoadError, match="block_count"):
        planner.plan(path)
    with pytest.raises(ModelLoadError, match="does not predict the next token"):
        planner.plan(tiny.write(path, metadata={"llama.attention.causal": False}))
    (tmp_path / "not.gguf").write_bytes(b"nothing of the kind")
    with pytest.raises(ModelFileError, match="is not a GGUF file"):
        planner.plan(tmp_path / "not.gguf")
    with pytest.raises(ModelNotFound):
        planner.plan("no such model")


def test_a_type_of_weights_that_nobody_knows_is_refused():
    tensor = TensorInfo("blk.0.ffn_up.weight", (64, 2), 9999, 0)
    said = ["load_tensors: layer   0 assigned to device CPU, is_swa = 0"]
    with pytest.raises(ModelFileError, match="stored as type 9999, whose size is not known"):
        outlines.weights([tensor], said, mapped=True)
