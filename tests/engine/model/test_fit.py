"""Model.load(fit=True): the most layers that fit on the devices, or why nothing was chosen."""

from __future__ import annotations

import logging

import psutil
import pytest

from mullama_lab import Model
from mullama_lab.engine import placement as placements
from mullama_lab.engine import tiny
from mullama_lab.engine.model import fit
from mullama_lab.engine.native import model as native
from mullama_lab.engine.native.devices import Device
from mullama_lab.engine.placement import Placement

N = 10  # layers, and the output is one more
GPU, CPU = Device("CUDA0", "", "GPU", 900, 100), Device("CPU", "", "CPU", 9000, 200)


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    return tiny.write(tmp_path_factory.mktemp("fit") / "t.gguf", n_layer=N)


@pytest.fixture
def devices(monkeypatch):
    """A GPU where each layer takes 10 bytes, which would else be the CPU's, of 100 and 200."""
    there = [GPU, CPU]

    def placed(kind, file, placement, *, mmap):
        n = placement.n_gpu_layers
        assert 0 <= n <= N + 1
        return N, {"CUDA0": 10 * n, "CPU": 70 + 10 * (N + 1 - n)}

    monkeypatch.setattr(fit, "devices", lambda: tuple(there))
    monkeypatch.setattr(fit, "by_device", placed)
    return there


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(("free", "n"), [(100, 9), (89, 8), (10, 0), (0, 0), (1000, N + 1)])
def test_it_takes_the_most_layers_that_fit_in_nine_tenths(path, devices, caplog, free, n):
    devices[:] = [Device("CUDA0", "", "GPU", 900, free), Device("CPU", "", "CPU", 9000, 1000)]
    with caplog.at_level(logging.INFO), Model.load(path, fit=True) as model:
        assert model.options.get("n_gpu_layers", 0) == n
    assert f"fit=True: n_gpu_layers={n} of 11: " in caplog.text


@pytest.mark.parametrize("given", [{"tensor_split": [1.0]}, {"split_mode": "none"}])
def test_where_no_layer_fits_the_model_can_be_loaded_again_as_it_is(
    path, devices, monkeypatch, given
):
    monkeypatch.setattr(placements, "devices", lambda: tuple(devices))
    devices[:] = [Device("CUDA0", "", "GPU", 900, 10), Device("CPU", "", "CPU", 9000, 1000)]
    patterns = {"attn": "CPU"}
    with Model.load(path, fit=True, override_tensor=patterns, **given) as model:
        assert model.options == {"override_tensor": patterns}
        assert Placement.of(**model.placement.options) == model.placement
        model.reloaded().close()


def test_devices_whose_memory_is_that_of_the_cpu_take_no_layer(path, devices):
    devices[0] = Device("BLAS", "", "accelerator", 0, 0)
    with pytest.warns(UserWarning, match="no device but the CPU"), Model.load(path, fit=True) as m:
        assert m.options == {}


def test_what_does_not_fit_beside_is_refused(path, devices):
    devices[1] = Device("CPU", "", "CPU", 9000, 90)
    with pytest.raises(ValueError, match=r"does not fit. With n_gpu_layers=9.* on CUDA0, .*90 byt"):
        Model.load(path, fit=True)


def test_without_a_device_nothing_is_chosen_which_is_said(path):
    with pytest.warns(UserWarning, match="fit=True had nothing to choose for t.gguf.* It fits: "):
        model = Model.load(path, fit=True)
    with model, model.session() as session:
        assert model.options == {} and session.n_ctx


def test_what_cannot_fit_is_refused_before_memory_is_taken(path, monkeypatch):
    memory = psutil.virtual_memory()._replace(available=1_000_000)
    monkeypatch.setattr(psutil, "virtual_memory", lambda: memory)
    loads, load = [], native.load_model

    def noted(path, **options):
        loads.append(options.get("no_weights", False))
        return load(path, **options)

    monkeypatch.setattr(native, "load_model", noted)
    with pytest.raises(ValueError, match=r"fit=True: t.gguf does not fit.* of the 1 MB .* on CPU"):
        Model.load(path, fit=True)
    assert loads and all(loads), "only outlines, without weights"


@pytest.mark.filterwarnings("ignore:fit=True")
@pytest.mark.parametrize("architecture", ["gemma3", "mamba"])
def test_any_architecture_can_be_fitted(tmp_path, architecture):
    path = tiny.write(tmp_path / "t.gguf", architecture=architecture)
    Model.load(path, fit=True).close()


@pytest.mark.filterwarnings("ignore:fit=True")
def test_a_model_that_opens_no_session_takes_its_weights_alone(tmp_path, monkeypatch):
    path = tiny.write(tmp_path / "t.gguf", metadata={"llama.attention.causal": False})
    memory = psutil.virtual_memory()._replace(available=1_000_000)
    monkeypatch.setattr(psutil, "virtual_memory", lambda: memory)
    Model.load(path, fit=True).close()


@pytest.mark.parametrize(
    ("options", "name"), [({"n_gpu_layers": 3}, "n_gpu_layers"), ({"vocab_only": True}, "vocab_")]
)
def test_what_would_contradict_it_is_refused(path, options, name):
    with pytest.raises(ValueError, match=f"leave out {name}"):
        Model.load(path, fit=True, **options)
