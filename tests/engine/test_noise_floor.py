"""Differences of rows, by each measure, against sums that can be done by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest

from mullama_lab.engine import tiny
from mullama_lab.engine.model import Model
from mullama_lab.engine.model import model as models
from mullama_lab.engine.native.devices import Device
from mullama_lab.engine.noise_floor import (
    NoiseFloor,
    divergence,
    floor_of,
    known_floor,
    remember,
    row_differences,
)
from mullama_lab.engine.trace import Trace

FLOOR = NoiseFloor(logit=0.5, logprob=0.1, kl=0.01, js=0.05)


def row(*p):
    return np.log(np.array(p)).astype(np.float32)


def test_rows_that_differ_by_a_constant_are_the_same_distribution():
    a = row(0.5, 0.25, 0.25)
    apart = row_differences(a, a + np.float32(2))
    assert apart["logit"] == pytest.approx(2)
    assert [apart[m] for m in ("logprob", "kl", "js")] == pytest.approx([0, 0, 0], abs=1e-3)


def test_the_divergences_are_those_of_the_definitions():
    apart = row_differences(row(0.5, 0.5), row(0.9, 0.1))
    assert apart["logprob"] == pytest.approx(math.log(5), rel=1e-5)
    assert apart["kl"] == pytest.approx(0.5 * math.log(0.5 / 0.9) + 0.5 * math.log(5), rel=1e-5)
    middle = (0.7, 0.3)
    bits = sum(
        p * math.log2(p / m) / 2
        for side in ((0.5, 0.5), (0.9, 0.1))
        for p, m in zip(side, middle, strict=True)
    )
    assert apart["js"] == pytest.approx(math.sqrt(bits), rel=1e-5)


def test_distributions_without_a_common_token_are_one_apart():
    apart = row_differences(np.float32([0, -np.inf]), np.float32([-np.inf, 0]))
    assert apart["js"] == pytest.approx(1)
    assert apart["kl"] == apart["logit"] == math.inf


def test_an_unlikely_token_counts_as_a_logit_and_not_as_a_log_probability():
    a, b = np.float32([0, 0, -12]), np.float32([0, 0, -9])
    apart = row_differences(a, b)
    assert apart["logit"] == 3
    assert apart["logprob"] < 1e-3


def test_tokens_that_both_rows_mask_count_nothing():
    a = np.float32([1, -np.inf, 2])
    assert row_differences(a, a) == dict.fromkeys(("logit", "logprob", "kl", "js"), 0)
    nothing = np.full(3, -np.inf, np.float32)
    assert row_differences(nothing, nothing)["logit"] == 0


def test_a_difference_is_within_the_noise_up_to_the_floor_and_nan_never_is():
    assert FLOOR.within(-0.1) and not FLOOR.within(0.1001)
    assert FLOOR.within(0.1001, "logit")
    assert not FLOOR.within(math.nan)
    assert (FLOOR.said(0.05), FLOOR.said(0.2)) == ("within noise", "")


def test_rows_are_the_same_when_every_measure_is_within_the_noise():
    a = row(0.5, 0.25, 0.25)
    assert FLOOR.same(a, a)
    assert FLOOR.same(a, a + np.float32(0.01))
    assert not FLOOR.same(a, row(0.25, 0.5, 0.25))


def test_what_is_no_measure_or_no_row_is_named():
    with pytest.raises(ValueError, match="measure='bits': it must be one of logit, logprob, kl"):
        FLOOR.within(0.1, "bits")
    with pytest.raises(ValueError, match=r"rows of shapes \(2,\) and \(3,\): give two of one"):
        row_differences(np.zeros(2, np.float32), np.zeros(3, np.float32))


@pytest.fixture
def loaded():
    """A function that loads a model and forgets afterwards what was measured for it."""
    models = []

    def load(path, **options):
        models.append(Model.load(path, **options))
        return models[-1]

    yield load
    for model in models:
        remember(model, None)
        model.close()


def test_the_floor_of_several_models_is_the_largest_and_unknown_if_one_was_not_measured(
    tmp_path, loaded
):
    models = [loaded(tiny.write(tmp_path / f"{i}.gguf")) for i in range(3)]
    a, b, c = (model.id for model in models)
    remember(models[0], FLOOR)
    remember(models[1], NoiseFloor(logit=0.1, logprob=0.2, kl=0.001, js=0.09))
    assert floor_of([a, a]) == FLOOR
    assert floor_of([a, b]) == NoiseFloor(logit=0.5, logprob=0.2, kl=0.01, js=0.09)
    assert floor_of([a, c]) is floor_of([""]) is floor_of([]) is None


def test_what_was_measured_for_a_model_is_of_no_other_of_its_name(tmp_path, loaded, monkeypatch):
    gpu = Device("CUDA0", "", "GPU", 8, 8)
    monkeypatch.setattr(models, "devices", lambda: (gpu,))
    old = loaded(tiny.write(tmp_path / "tiny.gguf", seed=1))
    old_trace = old.session(n_ctx=64).generate("a", max_tokens=2)
    (tmp_path / "tiny.gguf").unlink()
    new = loaded(tiny.write(tmp_path / "tiny.gguf", seed=2))
    elsewhere = loaded(tmp_path / "tiny.gguf", n_gpu_layers=1)
    remember(old, FLOOR)
    assert old.source == new.source == elsewhere.source
    assert known_floor(new) is known_floor(elsewhere) is None
    new_trace = new.session(n_ctx=64).generate("a", max_tokens=2)
    assert [floor_of([trace.model_id]) for trace in (old_trace, new_trace)] == [FLOOR, None]


def test_a_model_that_is_loaded_again_has_the_floor_it_had(tmp_path, loaded):
    path = tiny.write(tmp_path / "tiny.gguf")
    remember(loaded(path), FLOOR)
    assert known_floor(loaded(path)) == FLOOR


def test_a_trace_keeps_its_models_id_in_parts_branches_and_files(tmp_path, loaded):
    model = loaded(tiny.write(tmp_path / "tiny.gguf"))
    session = model.session(n_ctx=64)
    trace = session.generate("ab", max_tokens=4, seed=1)
    branch = session.branch(trace, 1, "c", max_tokens=1)
    again = Trace.from_dict(trace.to_dict())
    assert {t.model_id for t in (trace, trace[1:], branch, again)} == {model.id}
    older = {key: value for key, value in trace.to_dict().items() if key != "model_id"}
    assert Trace.from_dict(older).model_id == ""


def test_a_divergence_from_what_has_no_numbers_is_none():
    p, nothing = np.log([0.5, 0.5]), np.array([np.nan, np.nan])
    assert np.isnan(divergence(p, nothing)) and np.isnan(divergence(nothing, p))
    assert divergence(np.array([0.0, -np.inf]), p) == pytest.approx(np.log(2))
