"""Where the weights of a model go. The devices are told, as no GPU is here; the CPU is real."""

from __future__ import annotations

import ctypes
import gc
import re

import numpy as np
import pytest

from mullama_lab import Model, devices
from mullama_lab.engine import placement as placements
from mullama_lab.engine import tiny
from mullama_lab.engine.gguf.file import TensorInfo
from mullama_lab.engine.model import model as models
from mullama_lab.engine.model.placed import Placed
from mullama_lab.engine.native import model as native_model
from mullama_lab.engine.native import placement as native
from mullama_lab.engine.native.devices import Device, buffer_type, takes_layers
from mullama_lab.engine.native.library import C
from mullama_lab.engine.placement import Placement
from mullama_lab.errors import ModelLoadError
from mullama_lab.widgets import TokenStrip

EXPERTS = {"exps": "CPU"}
CPU, INTEGRATED = Device("CPU", "", "CPU", 8, 8), Device("Vulkan0", "", "integrated GPU", 8, 8)
GPUS = [Device(f"CUDA{number}", "a GPU", "GPU", 9, 9) for number in range(2)]


@pytest.fixture(scope="module")
def mixture(tmp_path_factory):
    """A mixture of experts."""
    folder = tmp_path_factory.mktemp("mixture")
    return tiny.write(folder / "m.gguf", architecture="qwen2moe", n_layer=12)


@pytest.fixture
def two_gpus(monkeypatch):
    """Two GPUs are told of."""
    monkeypatch.setattr(placements, "devices", lambda: (*GPUS, INTEGRATED, CPU))


@pytest.fixture
def no_gpu(monkeypatch):
    """The CPU alone is told of, wherever the tests run."""
    for module in (placements, models):
        monkeypatch.setattr(module, "devices", lambda: (CPU,))


# Tensors by pattern.


@pytest.mark.parametrize(
    "patterns",
    [
        EXPERTS,
        {"^output": "CPU"},
        {r"blk\.(1|3|11)\.ffn_.*_exps": "CPU", r"blk\.1.*attn": "CPU"},
        {".": "CPU"},
        {"(?i)ATTN_Q[.](weight|bias)$": "CPU", "exps": "CPU"},
    ],
)
def test_llama_cpp_moves_just_the_tensors_that_the_patterns_find(mixture, patterns):
    with Model.load(mixture, override_tensor=patterns) as model:
        placed = {each.name: each.is_overridden for each in model.placed.tensors}
        assert model.memory.weights_bytes > 0
    found = {name for name in placed if any(re.search(one, name) for one in patterns)}
    assert found and {name for name, moved in placed.items() if moved} == found


def test_on_the_cpu_an_override_to_it_changes_nothing_but_what_is_said(mixture, no_gpu):
    answers, ids, buffers = [], [], []
    for patterns in (None, EXPERTS):
        with Model.load(mixture, override_tensor=patterns) as model, model.session() as session:
            trace = session.generate("Hello", max_tokens=8, seed=1)
            answers.append((trace.text, session.logits("Hello").tobytes()))
            ids.append(model.id)
            buffers.append(model.memory.buffers)
            said = str(model.placed)
            assert model.options == ({"override_tensor": patterns} if patterns else {})
    assert answers[0] == answers[1] and ids[0] == ids[1] and buffers[0] == buffers[1]
    assert said == "CPU: layers 0-11, output, 207 tensors of 1.33 MB, 36 of them by override_tensor"


def test_the_first_pattern_that_finds_a_tensor_decides():
    placement = Placement(override_tensor=(("up", "A"), ("ffn", "B")))
    found = placement.overrides(["blk.0.ffn_up.weight", "blk.0.ffn_down.weight", "output.weight"])
    assert found == {"blk.0.ffn_up.weight": "A", "blk.0.ffn_down.weight": "B"}


def test_a_pattern_that_finds_nothing_is_told_what_is_like_it(mixture):
    with pytest.raises(ValueError, match="'expz' finds none of the tensors.*'blk.0.ffn_up_exps"):
        Model.load(mixture, override_tensor={"exps": "CPU", "expz": "CPU"})


def test_a_vocabulary_has_no_tensors_to_place(mixture):
    with Model.load(mixture, vocab_only=True, override_tensor={"no such": "CPU"}) as model:
        assert model.options == {}
        with pytest.raises(ModelLoadError, match="not available"):
            _ = model.placed


def test_n_ctx_fit_and_the_code_keep_the_placement(mixture):
    with Model.load(mixture, override_tensor=EXPERTS, mmap=False) as model:
        session = model.session(n_ctx="fit")
        assert session.n_ctx == 512
        lines = TokenStrip(session.score("a")).to_code().splitlines()
    (code,) = (line for line in lines if line.startswith("model = "))
    assert "override_tensor={'exps': 'CPU'}, mmap=False" in code
    scope = {"ml": __import__("mullama_lab")}
    exec(code, scope)
    with scope["model"] as again:
        assert again.id == model.id and again.placement == model.placement


def test_few_patterns_find_the_tensors_of_many_layers():
    names = [f"blk.{n}.ffn_{part}_exps.weight" for n in range(90) for part in ("up", "down")]
    [(pattern, device)] = native.patterns(dict.fromkeys(names, "CPU"))
    assert device == "CPU" and all(re.search(pattern, name) for name in names)
    assert not re.search(pattern, "blk.90.ffn_up_exps.weight")
    assert not re.search(pattern, "blk.1.ffn_up_expsXweight")


def test_layers_of_an_encoder_and_of_its_decoder_have_patterns_of_their_own():
    names = [f"{half}.blk.{n}.up.weight" for half in ("enc", "dec") for n in (0, 1)]
    assert native.patterns(dict.fromkeys(names, "CPU")) == [
        ("^enc[.]blk[.](0|1)[.](up[.]weight)$", "CPU"),
        ("^dec[.]blk[.](0|1)[.](up[.]weight)$", "CPU"),
    ]


@pytest.mark.parametrize("name", ["blk.0.(a*)*b", "a|b", "a\0b", "", "[", "ä"])
def test_what_is_no_name_of_llama_cpp_s_is_not_handed_to_its_regular_expressions(name):
    assert native.patterns({name: "CPU"}) == []


# What llama.cpp is handed.


def test_a_split_and_overrides_are_handed_over_whole():
    params = C.llama_model_default_params()
    placement = Placement(-1, "row", 1, (1e-300, 3e-300))
    kept = native.place(params, placement, {"output.weight": "CPU"})
    assert (params.n_gpu_layers, params.split_mode, params.main_gpu) == (-1, 2, 1)
    assert params.tensor_split[: C.llama_max_devices()] == [0.25, 0.75] + [0.0] * (
        C.llama_max_devices() - 2
    )
    lines = ctypes.cast(params.tensor_buft_overrides, ctypes.POINTER(native.Override))
    assert lines[0].pattern == b"^(output[.]weight)$" and lines[0].buffer_type
    assert lines[1].pattern is None
    assert kept


def test_what_llama_cpp_points_to_is_kept_until_the_model_is_freed(mixture):
    before = set(native_model.pointed_to)
    model = Model.load(mixture, override_tensor=EXPERTS)
    (address,) = set(native_model.pointed_to) - before
    kept = native_model.pointed_to[address]
    gc.collect()
    assert kept[0][0].pattern.startswith(b"^blk") and kept[0][1].pattern is None
    model.close()
    assert native_model.pointed_to.get(address) is not kept


def test_a_load_survives_a_split_over_devices_that_are_not_there(mixture, two_gpus):
    """llama.cpp reads no number of a device that it does not see."""
    with Model.load(mixture, n_gpu_layers=-1, tensor_split=[3, 1]) as model:
        assert model.placed.layers == {"CPU": tuple(range(12))}
        assert model.options == {"n_gpu_layers": -1, "tensor_split": [3.0, 1.0]}


def test_a_device_that_is_gone_has_no_buffers():
    assert buffer_type("CPU")
    with pytest.raises(ModelLoadError, match="where to put tensors on CUDA7"):
        buffer_type("CUDA7")


# Which device has what.


def test_layers_and_tensors_are_told_from_the_log():
    names = ("token_embd", "blk.0.attn_q", "blk.0.ffn_up_exps", "blk.1.ffn_up_exps", "output")
    tensors = [TensorInfo(f"{name}.weight", (64, 2), 0, 0) for name in names]
    said = [
        *(
            f"load_tensors: layer {n:3} assigned to device CUDA{n > 0:d}, is_swa = 0"
            for n in (0, 1)
        ),
        "load_tensors: layer   2 assigned to device CUDA1, is_swa = 0",
        "tensor blk.0.ffn_up_exps.weight (0 MiB f32) buffer type overridden to CUDA_Host",
        "tensor blk.1.ffn_up_exps.weight (0 MiB f32) buffer type overridden to CUDA1",
    ]
    placed = Placed.of(tensors, said)
    assert placed.layers == {"CUDA0": (0,), "CUDA1": (1,)} and placed.output == "CUDA1"
    assert [each.device for each in placed.tensors] == ["CPU", "CUDA0", "CPU", "CUDA1", "CUDA1"]
    assert placed.moved == {"blk.0.ffn_up_exps.weight": "CPU"}
    assert str(placed).splitlines() == [
        "CUDA0: layers 0, 1 tensor of 512 bytes",
        "CUDA1: layers 1, output, 2 tensors of 1.02 kB, 1 of them by override_tensor",
        "CPU: 2 tensors of 1.02 kB, 1 of them by override_tensor",
    ]
    table = placed.to_pandas()
    assert table.device.tolist() == ["CPU", "CUDA0", "CPU", "CUDA1", "CUDA1"]
    assert table.bytes.sum() == 5 * 512 and table.overridden.sum() == 2


def test_layers_of_an_encoder_and_a_decoder_and_what_is_behind_them_are_told_too():
    names = [
        *("token_embd.weight", "enc.blk.0.attn_q.weight", "dec.blk.1.cross_attn_k.weight"),
        *("enc.output_norm.weight", "dec.output_norm.weight", "cls.bias", "cls.output.weight"),
    ]
    said = [f"load_tensors: layer {n:3} assigned to device CUDA{n}, is_swa = 0" for n in range(3)]
    placed = Placed.of([TensorInfo(name, (64,), 0, 0) for name in names], said)
    assert [each.layer for each in placed.tensors] == [None, 0, 1, *[None] * 4]
    assert [each.device for each in placed.tensors] == ["CPU", "CUDA0", "CUDA1", *["CUDA2"] * 4]


def test_the_table_is_that_of_the_loaded_model(tiny_model):
    placed = tiny_model.placed
    assert placed.layers == {"CPU": (0, 1)} and placed.output == "CPU" and not placed.moved
    assert sum(each.size_bytes for each in placed.tensors) == tiny_model.size_bytes


# What is refused.


@pytest.mark.parametrize(
    ("given", "error", "message"),
    [
        ({"main_gpu": 5}, ValueError, "main_gpu=5: .*sees no device but the CPU.*Leave main_gpu"),
        ({"main_gpu": -1}, ValueError, "main_gpu=-1: it must be from 0"),
        ({"main_gpu": "CUDA0"}, TypeError, "must be a whole number"),
        ({"split_mode": "rows"}, ValueError, "must be one of none, layer, row"),
        ({"split_mode": "none"}, ValueError, "sees no device but the CPU"),
        ({"tensor_split": [1.0]}, ValueError, "sees no device but the CPU"),
        ({"tensor_split": [float("nan")]}, ValueError, "nan is no part"),
        ({"tensor_split": [np.float32("inf")]}, ValueError, "inf.* is no part"),
        ({"tensor_split": [2, -1]}, ValueError, "-1 is no part"),
        ({"tensor_split": [0, 0.0]}, ValueError, "no device would have a part"),
        ({"tensor_split": []}, ValueError, "no device would have a part"),
        ({"tensor_split": [True]}, TypeError, "True is no number"),
        ({"tensor_split": ["1"]}, TypeError, "'1' is no number"),
        ({"tensor_split": "3,1"}, TypeError, "must be a list of numbers"),
        ({"override_tensor": "exps=CPU"}, TypeError, "must be a mapping"),
        ({"override_tensor": {"exps": "CUDA0"}}, ValueError, "no device but the CPU here"),
        ({"override_tensor": {"exps": "cpu"}}, ValueError, "Name one of CPU"),
        ({"override_tensor": {"exps": 0}}, TypeError, "are texts"),
        ({"override_tensor": {b"exps": "CPU"}}, TypeError, "are texts"),
        ({"override_tensor": {"(": "CPU"}}, ValueError, "no regular expression: missing \\)"),
        ({"override_tensor": {"a" * 1001: "CPU"}}, ValueError, "has 1001 characters"),
        (
            {"override_tensor": {f"{n}": "CPU" for n in range(10**6)}},
            ValueError,
            "has 1000000 patterns, and may have 1000",
        ),
    ],
    ids=lambda value: str(value)[:40],
)
def test_what_cannot_be_is_refused_before_anything_is_read(no_gpu, given, error, message):
    with pytest.raises(error, match=message):
        Model.load("/no/such/file.gguf", **given)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"main_gpu": 2, "split_mode": "none"}, r"There is 0 \(CUDA0\), 1 \(CUDA1\)"),
        ({"main_gpu": 1}, "Give split_mode='none'"),
        ({"tensor_split": [1]}, r"has 1 numbers, and needs one for each of 0 \(CUDA0\), 1 \(CUDA1"),
        ({"tensor_split": [1, 1, 1]}, "has 3 numbers"),
        ({"tensor_split": [1, 1], "split_mode": "none"}, "nothing is divided"),
        ({"tensor_split": [1, 1], "n_gpu_layers": 0}, "Give n_gpu_layers=-1 too"),
        ({"override_tensor": {"exps": "CUDA2"}}, "There are CPU, CUDA0, CUDA1"),
        (
            {"override_tensor": {"exps": "CUDA1"}, "split_mode": "none"},
            "uses CUDA0 alone. Name one of CPU, CUDA0",
        ),
    ],
)
def test_with_devices_the_message_names_them(two_gpus, given, message):
    with pytest.raises(ValueError, match=message):
        Placement.of(**{"n_gpu_layers": -1, **given})


@pytest.mark.parametrize(
    "given",
    [
        {"split_mode": "none", "main_gpu": 1, "override_tensor": {"exps": "CUDA1", "a": "CPU"}},
        {"split_mode": "row", "main_gpu": 1, "tensor_split": [0.0, 2.5]},
        {"tensor_split": [1.0, 3.0], "override_tensor": {"exps": "CPU"}},
    ],
)
def test_what_can_be_is_said_again_as_it_was_given(two_gpus, given):
    placement = Placement.of(n_gpu_layers=7, **given)
    assert placement.options == {"n_gpu_layers": 7, **given}
    assert Placement.of(**placement.options) == placement


def test_parts_may_be_an_array(two_gpus):
    placement = Placement.of(n_gpu_layers=-1, tensor_split=np.array([1, 3], np.float32))
    assert placement.tensor_split == (1.0, 3.0)


def test_integrated_gpus_have_layers_where_there_are_no_others():
    assert takes_layers([*GPUS, INTEGRATED, CPU]) == GPUS
    assert takes_layers([INTEGRATED, CPU]) == [INTEGRATED]
    assert takes_layers(devices()) == [d for d in devices() if d.kind.endswith("GPU")]
