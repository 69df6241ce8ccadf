"""Benchmarks: what is measured, its names and forms, what is kept, what counts as a difference."""

from __future__ import annotations

import csv
import io
import json
import os
import signal
import threading
import tracemalloc
from collections import Counter
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import psutil
import pytest

from mullama_lab.engine import tiny
from mullama_lab.engine.decode_loop import DecodeLoop
from mullama_lab.engine.model import Model
from mullama_lab.engine.native.devices import Device
from mullama_lab.engine.placement import Placement
from mullama_lab.errors import DecodeError, HistoryError, ModelLoadError, ModelNotFound
from mullama_lab.studies._test_names import BenchTest
from mullama_lab.studies.bench import (
    BenchFailed,
    BenchResult,
    BenchRow,
    BenchStopped,
    History,
    Machine,
    bench,
    compare,
    comparison,
    machine,
)

# `llama-bench -o json` of llama.cpp's tools/llama-bench/llama-bench.cpp, in its order.
FIELDS = [
    "build_commit", "build_number", "cpu_info", "gpu_info", "backends", "model_filename",
    "model_type", "model_size", "model_n_params", "n_batch", "n_ubatch", "n_threads",
    "cpu_mask", "cpu_strict", "poll", "type_k", "type_v", "n_gpu_layers", "n_cpu_moe",
    "split_mode", "main_gpu", "no_kv_offload", "flash_attn", "devices", "tensor_split",
    "tensor_buft_overrides", "load_mode", "embeddings", "no_op_offload", "no_host",
    "fit_target", "fit_min_ctx", "n_prompt", "n_gen", "n_depth", "test_time", "avg_ns",
    "stddev_ns", "avg_ts", "stddev_ts", "samples_ns", "samples_ts",
]  # fmt: skip
QUICK = {"threads": 1, "repeats": 2, "progress": False}
HERE = Machine.here()
ELSEWHERE = replace(HERE, cpu="Another One", n_cores=64)


def row(speeds, **settings):
    """A row of 100 tokens whose repeats had these speeds."""
    usual = {
        "model_filename": "/models/a.gguf", "model_type": "llama 1B Q4_0", "model_size": 700 << 20,
        "model_n_params": 10**9, "n_gpu_layers": 0, "load_mode": "mmap", "n_prompt": 0,
        "n_gen": 100, "n_depth": 0, "n_sequences": 1, "n_threads": 4, "n_batch": 2048,
        "n_ubatch": 512, "type_k": "f16", "type_v": "f16", "flash_attention": "auto",
        "test_time": "2026-01-31T12:00:00Z",
    }  # fmt: skip
    samples = tuple(round(1e11 / speed) for speed in speeds)
    return BenchRow(**{**usual, **settings}, samples_ns=samples)


def run(*rows, machine=HERE, name=""):
    return BenchResult(rows, machine, name or os.urandom(4).hex())


def noisy(seed, n=5, speed=100.0, spread=0.02):
    return speed * np.exp(spread * np.random.default_rng(seed).standard_normal(n))


# Names.


@pytest.mark.parametrize(
    ("name", "found"),
    [("pp512", (512, 0, None)), ("tg128", (0, 128, None)), ("pp512+tg128", (512, 128, None)),
     ("pg512,128", (512, 128, None)), ("tg128 @ d4096", (0, 128, 4096)), ("pp8@d0", (8, 0, 0))],
)  # fmt: skip
def test_a_test_is_named_as_llama_bench_names_it(name, found):
    assert BenchTest.of(name) == BenchTest(*found)


@pytest.mark.parametrize(
    "name",
    ["", "pp", "pp0", "tg0", "pp-1", "pp5.5", "512", "pp512 @", "@ d5", "pp1 tg1", "pp9999999999",
     "pp" + "9" * 5000, 512, None, b"pp512"],
)  # fmt: skip
def test_another_name_is_refused_with_the_rule(name):
    with pytest.raises(ValueError, match="a test is|from 0 to 16777216"):
        BenchTest.of(name)


# Measuring.


def test_every_combination_is_a_row_and_has_its_repeats(tiny_model):
    result = bench(tiny_model, ["pp8", "tg4"], depth=[0, 16], kv_type=["f16", ("q8_0", "f16")],
                   flash_attention=["on"], sequences=[1, 2], batch=64, ubatch=[16, 32],
                   **QUICK)  # fmt: skip
    assert len(result) == 2 * 2 * 2 * 2 * 2 and result.complete
    assert {len(one.samples_ns) for one in result.rows} == {2}
    assert len({json.dumps(one.settings) for one in result.rows}) == len(result)
    table = result.to_pandas()
    assert set(table["test"]) == {"pp8", "tg4", "pp8 @ d16", "tg4 @ d16"}
    assert (table["min_ts"] <= table["median_ts"]).all() and (table["min_ts"] > 0).all()
    two = result.where(n_sequences=2, test="tg4", type_k="q8_0", n_ubatch=16)
    (one,) = two.rows
    assert one.samples_ts == pytest.approx([2 * 4 * 1e9 / ns for ns in one.samples_ns])


def test_a_depth_in_a_name_takes_the_place_of_the_others_and_nothing_is_measured_twice(tiny_model):
    result = bench(tiny_model, ["tg4 @ d8", "tg4", "tg4"], depth=[0, 8], **QUICK)
    assert [one.test for one in result.rows] == ["tg4 @ d8", "tg4"]


def test_a_prompt_that_fills_the_whole_context_is_measured(tiny_model):
    (one,) = bench(tiny_model, "pp256", **QUICK).rows  # llama.cpp rounds up to 256
    assert one.test == "pp256" and len(one.samples_ns) == 2


def test_rounds_take_turns_and_open_a_fresh_context_each(tiny_model, monkeypatch):
    did = []
    real_open, real_time = DecodeLoop.open, DecodeLoop.time

    def look_and_open(loop, opening):
        did.append(opening.n_ubatch)
        real_open(loop, opening)

    def look_and_time(loop, timed):
        did.append(timed.n_gen or "warm")
        return real_time(loop, timed)

    monkeypatch.setattr(DecodeLoop, "open", look_and_open)
    monkeypatch.setattr(DecodeLoop, "time", look_and_time)
    bench(tiny_model, ["tg4", "tg5"], ubatch=[16, 32], **QUICK)
    first = [16, "warm", 4, 5, 32, "warm", 4, 5]
    assert did == [16, 32, *first, 32, "warm", 5, 4, 16, "warm", 5, 4]  # each is tried before


def test_a_context_is_warmed_up_once_with_the_most_threads_of_its_rows(tiny_model, monkeypatch):
    did = []
    real_open, real_warm_up = DecodeLoop.open, DecodeLoop.warm_up

    def look_and_open(loop, opening):
        did.append(opening.n_ubatch)
        real_open(loop, opening)

    def look_and_warm_up(loop, n_tokens, n_threads):
        did.append((n_tokens, n_threads))
        real_warm_up(loop, n_tokens, n_threads)

    monkeypatch.setattr(DecodeLoop, "open", look_and_open)
    monkeypatch.setattr(DecodeLoop, "warm_up", look_and_warm_up)
    settings = {"threads": [1, 3, 2], "repeats": 1, "progress": False}
    bench(tiny_model, ["pp24", "pp8", "tg4"], ubatch=[16, 32], **settings)
    assert did == [16, 32, 16, (16, 3), 32, (24, 3)]  # each is tried before
    did.clear()
    bench(tiny_model, "tg4", **settings)
    assert did == [512, 512, (0, 3)]


def test_rows_say_where_the_weights_were(tmp_path):
    path = tiny.write(tmp_path / "m.gguf", architecture="qwen2moe")
    patterns = {"exps": "CPU", "attn_(q|k)": "CPU"}
    with Model.load(path, override_tensor=patterns) as model:
        result = bench([model, path], "tg2", **QUICK)
    placed = result.rows[0]
    written = [one["tensor_buft_overrides"] for one in json.loads(result.to_json())]
    assert written == ["exps=CPU;attn_(q|k)=CPU", "none"]
    assert [placed.split_mode, placed.main_gpu, placed.tensor_split] == ["layer", 0, "0.00"]
    head, _, first, second = result.to_markdown().splitlines()[:4]
    at = head.split("|").index(next(cell for cell in head.split("|") if cell.strip() == "ot"))
    assert r"exps=CPU;attn_(q\|k)=CPU" in first and second.split("|")[at].strip() == "none"
    again = BenchResult.from_dict(json.loads(json.dumps(result.to_dict())))
    assert again.rows == result.rows


def test_a_row_has_a_split_as_llama_bench_writes_it(tiny_model, monkeypatch):
    placement = Placement(-1, "row", 1, (3.0, 1.0, 0.0))
    monkeypatch.setattr(tiny_model, "placement", placement)
    [one] = bench(tiny_model, "tg2", **QUICK).rows
    assert (one.n_gpu_layers, one.split_mode, one.main_gpu) == (-1, "row", 1)
    assert one.tensor_split == "3.00/1.00"


def test_a_row_of_a_history_that_does_not_say_where_weights_were_has_the_defaults():
    data = run(row([50])).to_dict()
    for name in ("split_mode", "main_gpu", "tensor_split", "tensor_buft_overrides"):
        del data["rows"][0][name]
    [old] = BenchResult.from_dict(data).rows
    assert old == row([50])
    data["rows"][0]["main_gpu"] = "first"
    with pytest.raises(ValueError, match="a row has main_gpu='first'"):
        BenchResult.from_dict(data)


def test_of_two_models_one_at_a_time_has_threads(tmp_path, monkeypatch):
    paths = [tiny.write(tmp_path / name) for name in ("a.gguf", "b.gguf")]
    seen = []
    time = DecodeLoop.time

    def look(loop, timed):
        handles = [handle for model in Model.opened() for handle in list(model._handles)]
        is_it = [handle is loop for handle in handles if not handle.closed]
        seen.append((loop.model.path.name, is_it))
        return time(loop, timed)

    monkeypatch.setattr(DecodeLoop, "time", look)
    result = bench(paths, "tg2", **QUICK)
    turns = [name for name, _ in seen]
    assert turns == [name + ".gguf" for name in ("a", "a", "b", "b", "b", "b", "a", "a")]
    assert all(alone == [True] for _, alone in seen)
    assert [os.path.basename(one.model_filename) for one in result.rows] == ["a.gguf", "b.gguf"]
    assert not [model for model in Model.opened() if model.path in paths]


def test_ctrl_c_keeps_what_was_measured(tiny_model, monkeypatch):
    begun = threading.Event()
    time = DecodeLoop.time

    def slow(loop, timed):
        if timed.n_gen == 15_000:
            begun.set()
        return time(loop, timed)

    def interrupt():
        assert begun.wait(20)
        os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(DecodeLoop, "time", slow)
    threading.Thread(target=interrupt).start()
    with pytest.raises(BenchStopped, match=r"sys\.last_value\.result") as stopped:
        bench(tiny_model, ["tg4", "tg15000"], **QUICK)
    assert isinstance(stopped.value, KeyboardInterrupt)
    result = stopped.value.result
    assert [one.test for one in result.rows] == ["tg4"] and not result.complete
    assert "ended early" in result.to_markdown()
    assert len(bench(tiny_model, "tg2", **QUICK)) == 1


def test_ctrl_c_before_anything_was_measured_says_that_it_was_stopped(tiny_model, monkeypatch):
    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(DecodeLoop, "open", interrupted)
    with pytest.raises(BenchStopped) as stopped:
        bench(tiny_model, "tg4", **QUICK)
    assert not len(stopped.value.result) and "ended early" in repr(stopped.value.result)


def test_a_function_is_told_what_there_is_and_how_far_it_is(tiny_model):
    told = []

    def progress(result, share):
        told.append((share, [(one.test, len(one.samples_ns)) for one in result.rows]))
        assert not result.complete

    assert bench(tiny_model, ["tg2", "tg3"], **{**QUICK, "progress": progress}).complete
    shares = list(dict.fromkeys(share for share, _ in told))
    assert [share for share in shares if share] == [0.25, 0.5, 0.75, 1]
    assert told[-1] == (1, [("tg2", 2), ("tg3", 2)])


@pytest.mark.parametrize(("tests", "kept"), [("tg200000", []), (["tg4", "tg200000"], ["tg4"])])
def test_a_function_that_says_no_stops_it_in_the_middle_of_a_test(tiny_model, tests, kept):
    def progress(result, share):
        return len(result) < len(kept)

    with pytest.raises(BenchStopped) as stopped:
        bench(tiny_model, tests, **{**QUICK, "progress": progress})
    assert [one.test for one in stopped.value.result.rows] == kept
    assert not [h for h in list(tiny_model._handles) if isinstance(h, DecodeLoop) and not h.closed]


@pytest.mark.parametrize("error", [DecodeError("llama_decode said -3."), MemoryError()])
def test_a_failure_in_the_middle_keeps_what_was_measured(tiny_model, monkeypatch, error):
    time, n_times = DecodeLoop.time, Counter()

    def failing(loop, timed):
        n_times[timed.n_gen] += 1
        if n_times[4] == 2:  # the last of all: the second round goes backwards
            raise error
        return time(loop, timed)

    monkeypatch.setattr(DecodeLoop, "time", failing)
    with pytest.raises(BenchFailed, match=r"(-3\.|MemoryError) What .* `sys\.last_value") as failed:
        bench(tiny_model, ["tg4", "tg5"], **QUICK)
    assert failed.value.__cause__ is error
    result = failed.value.result
    assert [(one.test, len(one.samples_ns)) for one in result.rows] == [("tg4", 1), ("tg5", 2)]
    assert not result.complete and "ended early" in result.to_markdown()


def test_a_failure_before_anything_was_measured_is_the_error_itself(tiny_model, monkeypatch):
    def failing(loop, timed):
        raise DecodeError("llama_decode said -3.")

    monkeypatch.setattr(DecodeLoop, "time", failing)
    with pytest.raises(DecodeError):
        bench(tiny_model, "tg4", **QUICK)


@pytest.mark.parametrize(
    ("settings", "said"),
    [({"threads": 0}, "threads=0: it must be from 1"), ({"threads": []}, "at least one"),
     ({"repeats": 0}, "repeats=0"), ({"batch": 0}, "batch=0"), ({"depth": -1}, "depth=-1"),
     ({"depth": 10**10}, "depth=10000000000"), ({"kv_type": "f17"}, "f16"),
     ({"flash_attention": "yes"}, "auto, off, on"), ({"sequences": 257}, "sequences=257"),
     ({"depth": 1 << 24}, "n_ctx="), ({"tests": []}, "at least one"),
     ({"models": []}, "one model")],
)  # fmt: skip
def test_absurd_settings_are_refused_before_anything_is_measured(tiny_model, settings, said):
    with pytest.raises(ValueError, match=said):
        bench(**{"models": tiny_model, "tests": "tg2", "progress": False, **settings})


def test_what_llama_cpp_refuses_it_refuses_before_anything_is_measured(tiny_model, monkeypatch):
    monkeypatch.setattr(DecodeLoop, "time", lambda *_: pytest.fail("it measures"))
    with pytest.raises(ModelLoadError, match="could not open"):
        bench(tiny_model, "tg2", kv_type=["f16", "q8_0"], flash_attention="off", **QUICK)
    little = SimpleNamespace(available=100_000, total=1 << 30)
    monkeypatch.setattr(psutil, "virtual_memory", lambda: little)
    with pytest.raises(ValueError, match="n_ctx=1002: .*GB are free"):
        bench(tiny_model, "tg2", depth=[0, 1000], **QUICK)


def test_no_such_model_is_an_error_and_leaves_none_open(tiny_path):
    before = len(Model.opened())
    with pytest.raises(ModelNotFound):
        bench([tiny_path, "nonesuch"], "tg2", **QUICK)
    assert len(Model.opened()) == before


def test_open_sessions_whose_threads_would_be_in_the_way_are_named(tiny_model):
    with (
        tiny_model.session(n_threads=512),
        pytest.warns(UserWarning, match="1 session of this process .* 511 threads of"),
    ):
        bench(tiny_model, "tg2", **QUICK)


# Forms.


RESULT = run(row([50, 60, 55]), row([400, 400], n_prompt=100, n_gen=0, n_depth=64), name="r")


def test_json_has_the_fields_of_llama_bench_in_its_order():
    data = json.loads(RESULT.to_json())
    assert [list(one) for one in data] == [FIELDS, FIELDS]
    one = data[0]
    assert (one["n_gen"], one["flash_attn"], one["avg_ts"]) == (
        100,
        -1,
        pytest.approx(55, abs=1e-4),
    )
    assert one["stddev_ts"] == pytest.approx(5, abs=1e-3) and one["samples_ts"] == [50, 60, 55]
    assert one["avg_ns"] == round(sum(one["samples_ns"]) / 3)
    assert one["build_commit"] == HERE.commit != ""
    several = json.loads(run(row([5], n_sequences=4)).to_json())[0]
    assert several["n_sequences"] == 4  # or it would be read as four times as fast


def test_markdown_has_the_columns_of_llama_bench_and_those_that_differ():
    lines = RESULT.to_markdown().splitlines()
    assert [cell.strip() for cell in lines[0].strip("|").split("|")] == [
        "model", "size", "params", "backend", "threads", "test", "t/s", "median (range)"
    ]  # fmt: skip
    assert "55.00 ± 5.00" in lines[2] and "55.00 (50.00 to 60.00)" in lines[2]
    assert "pp100 @ d64" in lines[3] and "700.00 MiB" in lines[3] and "1.00 B" in lines[3]
    assert len({len(line) for line in lines[:4]}) == 1
    assert f"build: {HERE.commit}" in lines[5] and HERE.cpu in lines[6]
    other = run(row([5], n_ubatch=64, flash_attention="on", n_sequences=2)).to_markdown()
    assert "| threads | n_ubatch |  fa | n_seq |" in other


@pytest.mark.parametrize(("load", "is_busy"), [(1.2, True), (1.0, False), (None, False)])
def test_a_machine_that_was_busy_says_so(load, is_busy):
    machine = replace(HERE, load=load, n_cpus=2)
    said = "busy: 1.2 tasks were ready to run when it began"
    assert machine.busy() == said * is_busy
    assert (said in run(row([5]), machine=machine).to_markdown()) == is_busy


def test_csv_and_json_lines_have_a_line_a_row_and_the_machine(tmp_path):
    rows = list(csv.DictReader(io.StringIO(RESULT.to_csv())))
    assert [one["test"] for one in rows] == ["tg100", "pp100 @ d64"]
    assert float(rows[0]["median_ts"]) == pytest.approx(55, abs=1e-4)
    lines = [json.loads(line) for line in RESULT.to_jsonl().splitlines()]
    assert list(lines[0])[: len(FIELDS)] == FIELDS
    assert lines[1]["machine_llama_cpp_python"] == HERE.llama_cpp_python == rows[0][
        "machine_llama_cpp_python"
    ]  # fmt: skip


def test_a_result_comes_back_from_json_as_it_was():
    again = BenchResult.from_dict(json.loads(json.dumps(RESULT.to_dict())))
    assert (again.rows, again.machine, again.run) == (RESULT.rows, RESULT.machine, "r")


def test_where_refuses_a_setting_that_no_row_has():
    with pytest.raises(ValueError, match="n_thread: a row has .*n_threads"):
        RESULT.where(n_thread=1)


# Scaling.


def test_scaling_is_against_the_least_number_and_beside_proportion():
    speeds = {1: [50, 40, 60], 4: [150], 2: [90]}
    lines = run(*[row(speed, n_threads=n) for n, speed in speeds.items()]).scaling().lines
    assert list(lines) == ["tg100"]
    assert [point.n for point in lines["tg100"]] == [1, 2, 4]
    ones = [[*point[1:4]] for point in lines["tg100"]]
    assert ones == [pytest.approx(one) for one in ([50, 40, 60], [90, 90, 90], [150, 150, 150])]
    assert [point.speedup for point in lines["tg100"]] == pytest.approx([1, 1.8, 3])
    assert [point.efficiency for point in lines["tg100"]] == pytest.approx([1, 0.9, 0.75])


def test_each_test_and_set_of_settings_scales_by_itself():
    rows = [
        row([10], n_sequences=n, type_k=kind, model_filename=name)
        for n in (2, 6) for kind in ("f16", "q8_0") for name in ("/a/x.gguf", "/b/x.gguf")
    ]  # fmt: skip
    found = run(*rows, row([5], n_gen=7)).scaling("n_sequences")
    assert len(found.lines) == 4 and "tg100, model_filename /a/x.gguf, type_k f16" in found.lines
    table = found.to_pandas()
    assert table["n_sequences"].tolist() == [2, 6] * 4
    assert table["efficiency"].to_numpy() == pytest.approx(1)
    assert len(str(found).splitlines()) == 1 + 8 and "   3.00x        100%" in repr(found)


def test_what_was_measured_with_one_number_alone_has_no_scaling():
    with pytest.raises(ValueError, match=r"two numbers.*bench\(model, threads=\[1, 2, 4\]\)"):
        RESULT.scaling()
    with pytest.raises(ValueError, match="by='depth': it must be one of n_threads, n_sequences"):
        RESULT.scaling("depth")


# Comparing.


def test_noise_is_not_called_a_difference_and_ten_per_cent_is(monkeypatch):
    monkeypatch.setattr(comparison, "RESAMPLES", 2000)
    for n in (5, 8):
        same = [compare(run(row(noisy(i, n))), run(row(noisy(1000 + i, n)))) for i in range(100)]
        assert sum(one.verdict != "no clear difference" for one in same) <= 5
        slower = [
            compare(run(row(noisy(i, n))), run(row(noisy(1000 + i, n, 90)))) for i in range(50)
        ]
        assert sum(one.verdict == "slower" for one in slower) >= 47


def test_over_many_tests_noise_is_not_called_a_difference_either(monkeypatch):
    monkeypatch.setattr(comparison, "RESAMPLES", 2000)

    def many(seed):
        return run(*[row(noisy((seed, n), 6), n_gen=n) for n in range(1, 21)])

    found = [compare(many(i), many(100 + i)).verdict for i in range(20)]
    assert sum(verdict != "no clear difference" for verdict in found) <= 2


def test_the_interval_holds_the_ratio_and_says_which_way():
    found = compare(run(row(noisy(1))), run(row(noisy(2, speed=125))))
    (one,) = found.differences
    assert one.verdict == found.verdict == "faster" and found.exit_code == 0
    assert 1 < one.low < 1.25 < one.high and one.low <= one.ratio <= one.high
    assert "times (" in str(found) and "measured apart" in str(found)
    back = compare(run(row(noisy(2, speed=125))), run(row(noisy(1))))
    assert (back.verdict, back.exit_code) == ("slower", 1)
    assert found.to_pandas().loc[0, "verdict"] == "faster"


def test_what_slowed_a_round_is_no_difference_between_rows_that_took_turns():
    weather = np.exp(np.random.default_rng(3).uniform(-0.5, 0, 10))
    a, b = row(noisy(1, 10) * weather), row(noisy(2, 10, 110) * weather, type_k="q8_0")
    together = run(a, b)
    found = compare(together.where(type_k="f16"), together.where(type_k="q8_0"))
    assert found.differences[0].paired and found.verdict == "faster"
    assert found.notes == ("type_k: f16, then q8_0",)
    apart = compare(run(a), run(b))
    assert not apart.differences[0].paired and apart.verdict == "no clear difference"


@pytest.mark.parametrize("n", [1, 2, 3])
def test_of_too_few_repeats_nothing_is_said(n):
    found = compare(run(row(noisy(1, n))), run(row(noisy(2, n, 50))))
    assert (found.verdict, found.exit_code) == ("too few repeats to tell", 2)
    assert "nan" not in str(found)


def test_of_one_repeat_nothing_is_said_however_many_the_other_run_has():
    for few, many in ((row([50]), row(noisy(1, 60))), (row(noisy(1, 60)), row([50]))):
        assert compare(run(few), run(many)).verdict == "too few repeats to tell"
    assert compare(run(row([50, 51])), run(row(noisy(1, 60)))).verdict == "faster"


def test_too_few_repeats_of_one_test_are_not_hidden_by_another_test():
    few, many = row([100, 101], n_gen=5), row(noisy(1, 8))
    for seed, speed in ((2, 100), (3, 150)):
        found = compare(run(few, many), run(few, row(noisy(seed, 8, speed))))
        assert (found.verdict, found.exit_code) == ("too few repeats to tell", 2)
    worse = compare(run(few, many), run(few, row(noisy(2, 8, 50))))
    assert (worse.verdict, worse.exit_code) == ("slower", 1)


def test_many_repeats_take_no_more_memory_and_in_parts_the_interval_is_the_same(monkeypatch):
    monkeypatch.setattr(comparison, "RESAMPLES", 2000)
    runs = run(row(noisy(1, 2000))), run(row(noisy(2, 2000)))
    tracemalloc.start()
    try:
        (one,) = compare(*runs).differences
        assert tracemalloc.get_traced_memory()[1] < 20e6  # in one piece it would be 80 MB
    finally:
        tracemalloc.stop()
    monkeypatch.setattr(comparison, "_MOST_AT_ONCE", 2000 * 2000)
    assert compare(*runs).differences == (one,)


def test_more_tests_need_more_repeats():
    def several(n_tests, n, speed=100):
        return run(*[row(noisy(i, n, speed), n_gen=i) for i in range(1, n_tests + 1)])

    assert compare(several(1, 4), several(1, 4, 50)).verdict == "slower"
    assert compare(several(2, 4), several(2, 4, 50)).exit_code == 2
    assert compare(several(6, 5), several(6, 5, 50)).verdict == "slower"


def test_one_slower_test_makes_the_run_slower():
    before = run(row(noisy(1)), row(noisy(2), n_prompt=64, n_gen=0))
    after = run(row(noisy(3, speed=150)), row(noisy(4, speed=60), n_prompt=64, n_gen=0))
    found = compare(before, after)
    assert [one.verdict for one in found.differences] == ["faster", "slower"]
    assert (found.verdict, found.exit_code) == ("slower", 1)


def test_runs_of_two_machines_or_without_a_test_in_common_are_not_compared():
    other = compare(run(row(noisy(1))), run(row(noisy(2)), machine=ELSEWHERE))
    assert other.exit_code == 2 and not other.differences
    assert "two machines" in str(other) and "Another One" in str(other)
    nothing = compare(run(row(noisy(1))), run(row(noisy(2), n_gen=7)))
    assert nothing.exit_code == 2 and "no test in common" in str(nothing)


def test_processors_and_gpus_are_named_as_llama_cpp_names_them(monkeypatch):
    def seen(*names):
        found = [Device(name, name, kind, 0, 0) for name, kind in names]
        monkeypatch.setattr(machine, "devices", lambda: tuple(found))
        return Machine.here()

    monkeypatch.setattr(machine.platform, "processor", lambda: "arm")
    blas = ("Accelerate", "accelerator")
    one, other = (seen((chip, "CPU"), blas) for chip in ("Apple M1", "Apple M4"))
    assert (one.cpu, other.cpu) == ("Apple M1", "Apple M4") and one.hardware != other.hardware
    assert seen(("CPU", "CPU")).cpu == seen().cpu == "arm"  # llama.cpp knows no name of it
    big = seen(("Apple M1", "CPU"), ("A", "GPU"), ("B", "integrated GPU"))
    assert big.hardware != one.hardware and "A, B" in big.text()
    data = json.loads(run(row([5]), machine=big).to_json())[0]
    assert (data["cpu_info"], data["gpu_info"]) == ("Apple M1", "A, B")


def test_another_build_of_llama_cpp_is_named():
    newer = replace(HERE, commit="abc1234")
    found = compare(run(row(noisy(1))), run(row(noisy(2)), machine=newer))
    assert f"commit: {HERE.commit}, then abc1234" in found.notes


# History.


def test_what_is_appended_is_there_in_order_and_as_it_was(tmp_path):
    history = History(tmp_path / "speed.jsonl")
    assert history.entries == [] and history.baseline(RESULT) is None
    for name in ("a", "b"):
        history.append(run(row([50, 51]), name=name))
    assert [entry.result.run for entry in history.entries] == ["a", "b"]
    assert [entry.mark for entry in history.entries] == ["", ""]
    assert history.entries[0].result.rows == (row([50, 51]),)
    assert history.to_pandas()["run"].tolist() == ["a", "b"]


BROKEN = [
    b'{"mullama_lab_bench": 1, "run": "x", "machine": {"cpu": "a"}, "rows": [{"n_pro',
    b'{"build_commit": "abc", "avg_ts": 55.1}\n',
    b"not json\n",
    b"\xff\xfe\x00\n",
    b"[" * 100_000 + b"\n",
    b'{"mullama_lab_bench": 1, "machine": {}, "rows": []}\n',
    b'{"mullama_lab_bench": 1, "machine": {}, "rows": [{"n_gen": 1}]}\n',
    b'{"mullama_lab_bench": 2}\n',
    b"null\n",
    b"1e999\n",
]


@pytest.mark.parametrize("line", BROKEN)
def test_a_truncated_or_foreign_line_is_kept_and_marked(tmp_path, line):
    path = tmp_path / "speed.jsonl"
    history = History(path)
    history.append(run(row([50, 51]), name="a"))
    with path.open("ab") as file:
        file.write(line)
    before = path.read_bytes()
    history.append(run(row([50, 51]), name="b"))
    assert path.read_bytes().startswith(before)
    first, broken, last = history.entries
    assert (first.result.run, last.result.run) == ("a", "b")
    assert broken.result is None and broken.mark and broken.line == 2
    assert history.to_pandas()["mark"].tolist() == ["", broken.mark, ""]
    assert "3 lines, 1 of them marked" in repr(history)


@pytest.mark.parametrize(
    "field", ["n_gen", "samples_ns", "model_type", "n_threads", "flash_attention"]
)
@pytest.mark.parametrize("value", [None, -1, 0, "x", [], [0], [1.5], True, {}, 1e400])
def test_a_row_that_was_tampered_with_is_marked_or_read_never_a_crash(tmp_path, field, value):
    data = RESULT.to_dict()
    data["rows"][0][field] = value
    path = tmp_path / "speed.jsonl"
    path.write_text(json.dumps(data) + "\n")
    (entry,) = History(path).entries
    assert entry.mark or (entry.result.to_markdown() and entry.result.to_json())


@pytest.mark.parametrize("value", ["NaN", "Infinity", "-Infinity", "-7", "1" + "0" * 400])
@pytest.mark.parametrize("field", ["memory_bytes", "n_cores", "load", "n_gen", "samples_ns"])
def test_a_number_that_nothing_can_have_marks_its_line_and_no_other(tmp_path, field, value):
    data = RESULT.to_dict()
    part = data["machine"] if field in data["machine"] else data["rows"][0]
    part[field] = ["?"] if field == "samples_ns" else "?"
    history = History(tmp_path / "speed.jsonl")
    history.path.write_text(json.dumps(data).replace('"?"', value) + "\n")
    history.append(RESULT)
    damaged, whole = history.entries
    assert damaged.result is None and f" has {field}=" in damaged.mark and whole.mark == ""
    assert history.baseline(run(*RESULT.rows)).rows == RESULT.rows
    assert history.to_pandas()["mark"].tolist() == [damaged.mark, "", ""]


def test_a_model_that_was_wholly_on_a_gpu_is_read(tmp_path):
    history = History(tmp_path / "speed.jsonl")
    history.append(run(row([50, 51], n_gpu_layers=-1)))
    assert history.entries[0].result.rows[0].n_gpu_layers == -1


def test_runs_of_another_machine_are_marked_and_never_the_baseline(tmp_path):
    history = History(tmp_path / "speed.jsonl")
    history.append(run(row([50] * 5), machine=ELSEWHERE, name="there"))
    assert "another machine: Another One, 64 cores" in history.entries[0].mark
    now = run(row([60] * 5))
    assert history.baseline(now) is None
    history.append(run(row([50] * 5), name="here"))
    assert history.baseline(now).run == "here"


def test_the_baseline_is_the_newest_run_like_it_and_only_the_rows_that_are(tmp_path):
    history = History(tmp_path / "speed.jsonl")
    tg, pp = row([50] * 5), row([400] * 5, n_prompt=100, n_gen=0)
    for name, rows in (("old", [tg]), ("newer", [tg, pp]), ("threads", [replace(tg, n_threads=2)])):
        history.append(run(*rows, name=name))
    now = run(replace(tg, model_filename="/elsewhere/a.gguf"))
    history.append(now)
    before = history.baseline(now)
    assert before.run == "newer" and before.rows == (tg,)
    assert history.baseline(run(replace(tg, model_size=1))) is None


def test_the_baseline_is_a_whole_run_with_most_of_the_tests_where_there_is_one(tmp_path):
    history = History(tmp_path / "speed.jsonl")
    tg, pp = row([50] * 5), row([400] * 5, n_prompt=100, n_gen=0)
    now = run(tg, pp)
    history.append(replace(run(tg, name="stump"), complete=False))
    assert ": 1 line, 0 of them" in repr(history)
    assert history.baseline(now).run == "stump"
    for name, rows in (("both", [tg, pp]), ("one", [pp])):
        history.append(run(*rows, name=name))
    history.append(replace(run(tg, pp, name="interrupted"), complete=False))
    assert history.baseline(now).run == "both"
    history.append(run(tg, pp, name="newer"))
    assert history.baseline(now).run == "newer"


def test_a_test_that_the_run_before_did_not_have_is_not_passed_as_good():
    tg, pp = row(noisy(1)), row(noisy(2), n_prompt=64, n_gen=0)
    found = compare(run(tg), run(row(noisy(3, speed=150)), pp))
    assert (found.verdict, found.exit_code, found.n_unmatched) == ("faster", 2, 1)
    assert "not compared: 1 row that only the second run has" in found.notes
    assert compare(run(tg), run(row(noisy(3, speed=50)), pp)).exit_code == 1
    fewer = compare(run(tg, pp), run(row(noisy(3, speed=150))))
    assert fewer.exit_code == 0
    assert "not compared: 1 row that only the first run has" in fewer.notes


def test_many_that_append_at_once_lose_nothing(tmp_path):
    path = tmp_path / "speed.jsonl"

    def append(name):
        for _ in range(10):
            History(path).append(run(row([50, 51]), name=name))

    threads = [threading.Thread(target=append, args=[str(i)]) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    entries = History(path).entries
    assert len(entries) == 40 and not any(entry.mark for entry in entries)


def test_a_history_that_cannot_be_is_said(tmp_path):
    for path in (tmp_path, tmp_path / "no" / "folder.jsonl", "nul\0"):
        with pytest.raises(HistoryError, match="can be no history"):
            History(path)
    history = History(tmp_path / "speed.jsonl")
    history.path.mkdir()  # meanwhile
    with pytest.raises(HistoryError, match="could not be read"):
        _ = history.entries
    with pytest.raises(HistoryError, match="could not be written"):
        history.append(RESULT)
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(HistoryError, match="a device or a pipe"):
        History(tmp_path / "pipe")
