"""Timing: the parts of a token's time add up, and a line is found again where it was."""

from __future__ import annotations

import _thread
import time
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from mullama_lab.engine import tiny
from mullama_lab.engine.cache import Cache
from mullama_lab.engine.grammar import Grammar
from mullama_lab.engine.model import Model
from mullama_lab.engine.native import nodes
from mullama_lab.engine.setting import Setting
from mullama_lab.engine.stages import Constrain, Mask, Temperature
from mullama_lab.engine.steering.control_vector import ControlVector
from mullama_lab.engine.trace import Trace
from mullama_lab.errors import ClosedError, DecodeError
from mullama_lab.studies import timing as study
from mullama_lab.studies._student import student
from mullama_lab.studies.timing.line import Line
from mullama_lab.studies.timing.operation_times import layers_of

CHAIN = Mask(ban=[tiny.EOS]) | Temperature(1.0)
PARTS = ["decode", "sampling", "constraint", "capture", "rest"]


@pytest.fixture(scope="module")
def session(tiny_model):
    with tiny_model.session(n_ctx=256, n_threads=1) as session:
        yield session


@pytest.fixture(scope="module")
def trace(session):
    return session.generate("hello", CHAIN, max_tokens=40, seed=1)


def with_columns(trace, **columns):
    """A copy of a trace in which some columns are others."""
    plain = trace.to_dict()
    plain["columns"] |= {name: list(map(int, values)) for name, values in columns.items()}
    return Trace.from_dict(plain)


# The time of each token.


@pytest.mark.parametrize("n_cores", [1, 2])
def test_the_parts_of_each_token_add_up_to_its_time(tiny_model, monkeypatch, n_cores):
    monkeypatch.setattr("mullama_lab.engine.cache.cache.os.cpu_count", lambda: n_cores)
    with tiny_model.session(n_ctx=256, n_threads=1) as session:
        trace = session.generate("hello", CHAIN, max_tokens=40, seed=1)
    found = study.timing(trace)
    table = found.to_pandas()
    assert np.allclose(table[PARTS].sum(axis=1), table["total"])
    assert (table[PARTS] >= 0).all(axis=None)
    assert table["total"].sum() / 1e3 == pytest.approx(trace.seconds, abs=1e-6)
    assert sum(found.shares.values()) == pytest.approx(1)
    apart, part = ("beside", "capture") if n_cores == 2 else ("capture", "beside")
    assert (table[apart][1:] > 0).all() and not table[part].any()
    assert table[apart].tolist()[1:] == (trace.capture_ns[:-1] / 1e6).tolist()


@pytest.fixture
def spare_core(monkeypatch):
    """A core is free for the records of a session that is opened with one thread."""
    monkeypatch.setattr("mullama_lab.engine.cache.cache.os.cpu_count", lambda: 2)


def test_the_record_of_a_token_is_beside_no_decode_where_the_next_is_from_the_same_batch(
    tiny_model, spare_core
):
    grammar = Grammar.gbnf('root ::= [a-c]{2} ", the city: " [x-z]{2} (", old" | ", often young")')
    chain = Constrain(grammar, fast_forward=True) | Temperature(1.5)
    with tiny_model.session(n_ctx=256, n_threads=1) as session:
        trace = session.generate("hello", chain, max_tokens=40, seed=1)
    found = study.timing(trace)
    waited = trace.decode_ns[1:] == 0
    assert 5 < waited.sum() < len(trace) - 5
    recorded = trace.capture_ns[:-1] / 1e6
    assert found.capture[1:].tolist() == np.where(waited, recorded, 0).tolist()
    assert found.beside[1:].tolist() == np.where(waited, 0, recorded).tolist()
    assert (found.rest >= 0).all()


def test_the_record_of_a_token_is_beside_no_decode_where_other_weights_come(tiny_model, spare_core):
    setting = Setting(CHAIN)
    changed = replace(setting, control=ControlVector({1: np.ones(32)}))
    with tiny_model.session(n_ctx=256, n_threads=1) as session:
        trace = session.generate("hello", {0: setting, 10: changed}, max_tokens=20, seed=1)
    found = study.timing(trace)
    assert np.flatnonzero(found.capture).tolist() == [10]
    assert np.flatnonzero(found.beside).tolist() == [*range(1, 10), *range(11, 20)]
    assert (found.rest >= 0).all()


def test_beside_other_texts_the_parts_are_no_more_than_the_whole(tiny_model):
    with tiny_model.session(n_ctx=256, n_threads=1) as session:
        traces = session.generate_many("hello", CHAIN, seeds=range(4), max_tokens=20)
    for trace in traces:
        found = study.timing(trace)
        assert (found.rest >= 0).all() and sum(found.shares.values()) == pytest.approx(1)
        assert found.total.sum() / 1e3 == pytest.approx(trace.seconds, abs=1e-6)


def test_the_first_token_stands_apart_and_speeds_are_named_as_llama_bench_names_them(trace):
    found = study.timing(trace)
    assert found.first == 0 and found.total[0] / 1e3 == pytest.approx(trace.seconds_to_first_token)
    n = len(trace.prompt_tokens)
    prompt, tokens = found.speeds().index
    assert (prompt, tokens) == (f"pp{n}", f"tg39 @ d{n}")
    speed = found.tokens
    assert speed.mean == pytest.approx(trace.tokens_per_second, rel=1e-3)
    assert speed.q1 <= speed.median <= speed.q3
    assert found.prompt.mean == pytest.approx(n / trace.prompt_seconds)


def test_speeds_can_be_checked_by_hand(trace):
    ms = np.array([50, 1, 2, 4, 8, 2])
    made = with_columns(trace[:6], wall_ns=ms * 1e6, decode_ns=ms * 5e5)
    found = study.timing(made)
    assert found.tokens.mean == pytest.approx(1000 * 5 / 17)
    assert (found.tokens.q1, found.tokens.median, found.tokens.q3) == (250, 500, 500)
    assert found.shares["decode"] == pytest.approx(0.5)
    part = found.between(2, 4)
    assert (part.steps.tolist(), part.first, part.prompt) == ([2, 3], None, None)
    assert part.tokens.mean == pytest.approx(1000 * 2 / 6)
    assert part.tokens.test == f"tg2 @ d{len(trace.prompt_tokens) + 1}"
    assert "tg2" in part.summary() and "first token" not in part.summary()


def test_a_part_knows_whether_it_has_the_first_token(trace):
    found = study.timing(trace)
    assert found.between(0, 5).first == 0 and found.between(0, 5).prompt == found.prompt
    assert study.timing(trace[3:]).first is None
    assert len(found.between(7, 7)) == 0 and "not available" in found.between(7, 7).summary()
    for a, b in ((-1, 3), (5, 2), (None, 3), (0, "x")):
        with pytest.raises((ValueError, TypeError)):
            found.between(a, b)


def test_a_branch_is_timed_from_its_own_first_token_on(session, trace):
    branch = session.branch(trace, 10, 60, max_tokens=20)
    found = study.timing(branch)
    assert found.steps.tolist() == list(range(11, len(branch))) and found.first == 0
    assert found.total.sum() / 1e3 == pytest.approx(branch.seconds, abs=1e-6)


def test_a_part_of_a_branch_has_the_prompts_time_where_it_has_the_first_token(session, trace):
    branch = session.branch(trace, 10, 60, max_tokens=20)
    whole, n = study.timing(branch), len(branch)
    for part in (branch[5:], branch[11:], branch[5:][6:]):
        found = study.timing(part)
        assert found.first == 0 and len(found.after_first) == n - 12
        assert found.tokens == whole.tokens and found.prompt == whole.prompt
    assert study.timing(branch[12:]).first is None and study.timing(branch[12:]).prompt is None
    assert study.timing(branch[12:]).total.tolist() == whole.total[1:].tolist()


def test_what_was_not_measured_is_not_invented(trace):
    plain = trace.to_dict()
    del plain["columns"]["wall_ns"]
    found = study.timing(Trace.from_dict(plain))
    assert np.isnan(found.total).all() and np.isnan(found.shares["rest"])
    assert np.isnan(found.tokens.mean) and "t/s not available" in repr(found)
    assert found.decode.tolist() == study.timing(trace).decode.tolist()


def test_only_a_generation_can_be_timed(session, trace):
    with pytest.raises(ValueError, match="scored text"):
        study.timing(session.score("hello there"))
    with pytest.raises(TypeError, match="Trace"):
        study.timing("hello")
    empty = study.timing(session.generate("hello", max_tokens=0))
    assert len(empty) == 0 and empty.tokens.n == 0 and len(empty.to_pandas()) == 0


def test_its_text_is_the_same_each_time_and_its_html_is_escaped(trace):
    found = study.timing(trace)
    assert repr(found) == repr(study.timing(trace))
    assert found._repr_html_().count("<div>") == len(found.summary().splitlines())


def test_its_words_can_be_checked_by_hand(trace):
    ms, capture = np.array([50, 4, 4, 4]), np.array([0.5, 0.25, 0.5, 8])
    decode = np.array([50, 2, 0, 2])  # the third token is from the batch of the second
    columns = {"wall_ns": ms * 1e6, "decode_ns": decode * 1e6, "capture_ns": capture * 1e6}
    columns |= {name: np.zeros(4) for name in ("sample_ns", "constraint_ns")}
    made = with_columns(trace[:4], **columns)
    made.captured_aside = True
    assert study.timing(made).summary().splitlines()[1:] == [
        "tg3 @ d6: 250.0 t/s (median 250.0, half of the tokens 250.0 to 250.0)",
        "first token: 50 ms, with the prompt's",
        "time of a later token: decode 33.3%, sampling 0.0%, constraint 0.0%, capture 2.1%, "
        "rest 64.6%",
        "recording a token takes 0.5 ms, while the next one is decoded",
    ]


# llama.cpp's own clock.


def test_llama_cpp_counts_the_tokens_that_the_ledger_counts(tiny_model):
    with tiny_model.session(n_ctx=128, n_threads=1) as session:
        nothing = study.counters(session)
        assert nothing.llama == (0, 0, 0, 0)
        session.generate("hello there", CHAIN, max_tokens=12)
        found = study.counters(session) - nothing
        table = found.to_pandas()["tokens"]
        assert table["all", "ours"] == table["all", "llama.cpp"] == found.ours.decoded
        assert table["eval", "llama.cpp"] >= 11
        times = found.to_pandas()["ms"]
        assert times["all", "llama.cpp"] > 0 and times["all", "ours"] > 0
    with pytest.raises(ClosedError):
        study.counters(session)
    with pytest.raises(TypeError, match="Session"):
        study.counters(None)


# By operator.


def test_each_node_of_a_decode_has_an_operation_and_a_layer(session):
    before = session.tokens.tolist(), session.n_decoded
    found = study.operators(session, "hello there", repeats=3)
    assert (session.tokens.tolist(), session.n_decoded) == before
    assert {"MUL_MAT", "ADD", "RMS_NORM"} <= set(found.operations)
    assert list(dict.fromkeys(found.layers)) == ["input", 0, 1, "output"]
    for table in (found.by_operation(), found.by_layer()):
        assert table["nodes"].sum() == len(found.names) == len(found.to_pandas())
        assert table["ms"].sum() == pytest.approx(found.ms.sum())
        assert table["share"].sum() == pytest.approx(1)
    assert found.by_operation()["ms"].is_monotonic_decreasing
    assert found.bare_ms > 0 and found.timed_ms > 0 and found.floor_ms > 0
    parts = found.ms.sum() + found.between_ms + found.pauses_ms
    assert parts == pytest.approx(found.timed_ms) and found.between_ms > 0
    assert found.n_before == len(session.prompt_tokens("hello there")) - 1
    assert "MUL_MAT" in repr(found) and "MUL_MAT" in found._repr_html_()


def test_what_timing_the_nodes_costs_can_be_checked_by_hand():
    found = study.Operators(
        names=("embd", "norm-0", "view-0", "result"),
        operations=("GET_ROWS", "RMS_NORM", "VIEW", "MUL_MAT"),
        layers=("input", 0, 0, "output"),
        ms=np.array([0.5, 0.25, 0.125, 1.0]),
        bare_ms=2.0,
        timed_ms=2.5,
        between_ms=0.5,
        n_before=7,
        repeats=3,
    )
    assert (found.overhead, found.pauses_ms, found.floor_ms) == (0.25, 0.125, 0.125)
    assert "a token after 7 takes 2 ms, and 2.5 ms (+25%)" in found.summary()
    assert found.by_layer()["measuring"].tolist() == [0.125, 0.25, 0.125]


@pytest.mark.parametrize("position", [0, 1])
def test_other_nodes_of_the_same_number_are_refused(session, monkeypatch, position):
    names = iter(range(1_000_000))
    name = ("tensor_name", "operation_name")[position]
    monkeypatch.setattr(nodes, name, lambda tensor: b"node_%d" % next(names))
    with pytest.raises(DecodeError, match="does not show the same nodes"):
        study.operators(session, "hello", repeats=2)


@pytest.mark.parametrize("architecture", ["gemma3", "mamba", "jamba"])
def test_other_networks_have_operators_and_a_depth_too(tmp_path, architecture):
    path = tiny.write(tmp_path / "other.gguf", architecture=architecture)
    with Model.load(path) as model:
        found = study.operators(model, "hello", repeats=2)
        assert found.by_layer()["nodes"].loc[[0, 1]].min() > 3
        with model.session(n_ctx=64, n_threads=1) as session:
            assert study.depth(session, [0, 10, 20, 30], repeats=2).is_complete


def test_what_acts_on_the_weights_is_among_the_operators(tiny_model):
    vector = ControlVector({1: np.ones(32)})
    with tiny_model.session(n_ctx=64, n_threads=1) as session:
        without = study.operators(session, "hello", repeats=1).by_layer()["nodes"]
        session.control = vector
        acting = study.operators(session, "hello", repeats=1).by_layer()["nodes"]
    assert (acting - without).to_dict() == {"input": 0, 0: 0, 1: 1, "output": 0}  # one more ADD


def test_operators_of_a_model_and_of_one_token(tiny_model):
    found = study.operators(tiny_model, [5], repeats=1)
    assert (found.n_before, found.repeats) == (0, 1)


def test_a_node_without_a_layer_is_of_the_one_before_it():
    names = ["embd", "norm-0", "cache_k_l0 (view)", "node_7", "l_out-12", "norm", "result_output"]
    assert layers_of(names) == ["input", 0, 0, 0, 12, "output", "output"]
    assert layers_of(["a", "b"]) == ["output", "output"]
    assert layers_of([]) == []


def test_what_operators_cannot_be_asked(session, tiny_model):
    for on, text, repeats in ((None, "a", 1), (session, None, 1), (session, "a", 0)):
        with pytest.raises((ValueError, TypeError)):
            study.operators(on, text, repeats=repeats)


@pytest.mark.parametrize(
    "measure", [study.depth, lambda session: study.operators(session, "hello")]
)
def test_a_context_that_would_not_fit_in_memory_is_refused(session, monkeypatch, measure):
    monkeypatch.setattr(
        "mullama_lab.engine.memory.machine.psutil.virtual_memory",
        lambda: SimpleNamespace(total=1, available=0),
    )
    with pytest.raises(ValueError, match="GB are free"):
        measure(session)
    monkeypatch.undo()
    assert len(session.generate("hello", CHAIN, max_tokens=3)) == 3


# Depth.


def test_a_session_stays_as_it_was_while_depths_are_measured(session, trace):
    before = session.tokens.tolist(), session.n_decoded
    curve = study.depth(session, repeats=4)
    assert (session.tokens.tolist(), session.n_decoded) == before
    assert curve.is_complete and len(curve.ms) == 8 * 4 and (curve.ms > 0).all()
    table = curve.to_pandas()
    assert table["n"].tolist() == [4] * 8
    assert table["depth"].iloc[0] == 2.5 and curve.depths[-1] == 255  # after one to warm up
    assert (table["q1"] <= table["ms"]).all() and (table["ms"] <= table["q3"]).all()
    seconds = curve.seconds_to_fill()
    assert seconds.low <= seconds.value <= seconds.high
    assert "filling 256" in curve.summary() and "@ d2" in repr(curve)


def test_a_session_whose_sequences_share_nothing_has_a_curve_of_one_of_them(tiny_model):
    with tiny_model.session(n_ctx=256, n_threads=1, n_seq_max=2, reproducible=True) as session:
        curve = study.depth(session, repeats=2)
        trace = session.generate("hello", CHAIN, max_tokens=30, seed=1)
    assert curve.n_ctx == study.from_trace(trace).n_ctx == 128
    assert curve.depths[-1] == 127 and curve.is_complete


def test_depths_that_are_named_are_measured(session):
    curve = study.depth(session, [100, 0], repeats=3)
    assert curve.depths.tolist() == [1, 2, 3, 101, 102, 103]
    assert "too few for a line" in curve.summary()
    with pytest.raises(ValueError, match="need 4 points"):
        curve.at(10)


@pytest.mark.parametrize(
    ("depths", "repeats"),
    [([], 2), ([0, 2], 2), ([254], 2), ([-1], 2), ("ab", 2), (None, 0), (None, 256), ([1.5], 2)],
)
def test_depths_that_cannot_be_measured_are_refused(session, depths, repeats):
    with pytest.raises((ValueError, TypeError)):
        study.depth(session, depths, repeats=repeats)
    with pytest.raises(TypeError, match="Session"):
        study.depth(None)


def stopped_after(monkeypatch, n, stop):
    """Have the n-th decode from now on call `stop` first, and those after it take their time."""
    decode, count = Cache.decode, iter(range(10_000))

    def counting(self, portions):
        here = next(count)
        if here == n:
            stop()
        time.sleep(0.01 if here > n else 0)
        return decode(self, portions)

    monkeypatch.setattr(Cache, "decode", counting)


def test_a_stop_keeps_what_was_measured(session, monkeypatch):
    stopped_after(monkeypatch, 12, session.stop)
    curve = study.depth(session, [0, 40, 80, 120], repeats=4)
    monkeypatch.undo()
    assert 0 < len(curve.ms) < 16 and not curve.is_complete
    assert "when it was stopped" in curve.summary()
    assert len(session.generate("hello", CHAIN, max_tokens=3)) == 3


def test_a_curve_that_was_stopped_in_its_last_place_is_not_complete(session, monkeypatch):
    # Two depths of one that is not timed and four that are; 35 tokens between them, in one batch.
    stopped_after(monkeypatch, 5 + 1 + 3, session.stop)
    curve = study.depth(session, [0, 40], repeats=4)
    monkeypatch.undo()
    assert set(curve.places) == {0, 1} and 4 < len(curve.ms) < 8
    assert not curve.is_complete and curve.n_planned == 8
    assert f"{len(curve.ms)} tokens at 2 depths, of 8 that were to be timed" in curve.summary()


def test_ctrl_c_keeps_what_was_measured(session, monkeypatch):
    stopped_after(monkeypatch, 12, _thread.interrupt_main)
    with pytest.raises(study.DepthStopped) as stop:
        study.depth(session, [0, 40, 80, 120, 160, 200], repeats=30)
    monkeypatch.undo()
    assert isinstance(stop.value, KeyboardInterrupt)
    curve = stop.value.curve
    assert 0 < len(curve.ms) < 6 * 30 == curve.n_planned and not curve.is_complete
    assert len(session.generate("hello", CHAIN, max_tokens=3)) == 3


def test_a_trace_gives_the_curve_of_its_decodes(trace):
    n = len(trace.prompt_tokens)
    ms = 5.0 + 0.01 * (n + np.arange(40) - 1)  # of the tokens in the cache before each
    made = with_columns(trace, decode_ns=ms * 1e6)
    curve = study.from_trace(made)
    assert curve.depths.tolist() == list(range(n, n + 39)) and curve.is_complete
    assert curve.n_ctx == 256
    assert curve.line.intercept == pytest.approx(5.0) and curve.line.slope == pytest.approx(0.01)
    total = curve.seconds_to_fill(10, 20)
    assert total.value == pytest.approx(sum(5.0 + 0.01 * d for d in range(10, 20)) / 1e3)
    assert "no more than" in curve.summary()


def test_tokens_that_were_decoded_together_are_no_points_of_a_curve(trace):
    took = np.full(40, 5_000_000)
    took[[10, 20]] = 0  # the rows of the batch before
    curve = study.from_trace(with_columns(trace, decode_ns=took))
    missing = {9, 10, 19, 20}
    n = len(trace.prompt_tokens)
    assert curve.depths.tolist() == [n + i - 1 for i in range(1, 40) if i not in missing]


def test_a_trace_that_has_no_curve(session, trace):
    short = study.from_trace(trace[:2])
    assert "too few for a line" in short.summary() and len(short.to_pandas()) == 1
    assert len(study.from_trace(session.generate("hello", max_tokens=0)).ms) == 0
    with pytest.raises(ValueError, match="scored"):
        study.from_trace(session.score("hello"))
    unknown = trace[:]
    unknown.session_options = {}
    with pytest.raises(ValueError, match="give stop="):
        study.from_trace(unknown).seconds_to_fill()
    with pytest.raises(ValueError, match="at least start"):
        study.from_trace(trace).seconds_to_fill(10, 5)


# The line.


def test_a_line_is_found_again():
    x = np.array([0, 10, 20, 30])
    line = Line.through(x, 3 + 0.5 * x)
    assert line.at(100) == pytest.approx((53, 53, 53))
    assert line.total(0, 3) == pytest.approx((10.5, 10.5, 10.5))  # 3 + 3.5 + 4
    with pytest.raises(ValueError, match="need 4 points"):
        Line.through([1, 2, 3], [1, 2, 3])
    with pytest.raises(ValueError, match="need 4 points"):
        Line.through([1, 1, 1, 1], [1, 2, 3, 4])


def test_an_interval_covers_what_is_true_nineteen_times_of_twenty():
    chance, x = np.random.default_rng(0), np.linspace(0, 4000, 8)
    truth = 5 + 0.001 * x
    in_sum = in_place = 0
    for _ in range(2000):
        line = Line.through(x, truth + chance.normal(0, 0.3, 8))
        total, place = line.total(0, 4096), line.at(1000)
        in_sum += total.low <= sum(5 + 0.001 * d for d in range(4096)) <= total.high
        in_place += place.low <= 6 <= place.high
    assert 0.94 < in_sum / 2000 < 0.965 and 0.94 < in_place / 2000 < 0.965


def test_a_lines_uncertainty_is_that_of_numpys_fit():
    x, y = np.arange(9.0), np.array([1, 3, 2, 5, 4, 6, 8, 7, 9.0])
    (slope, intercept), covariance = np.polyfit(x, y, 1, cov="unscaled")
    residual = ((y - intercept - slope * x) ** 2).sum() / 7
    line = Line.through(x, y)
    assert (line.intercept, line.slope) == pytest.approx((intercept, slope))
    np.testing.assert_allclose(line.covariance, residual * covariance[::-1, ::-1])


def test_students_t_is_that_of_the_tables():
    found = [student(df, 0.95) for df in (2, 5, 10, 30, 1000)]
    assert found == pytest.approx([4.303, 2.571, 2.228, 2.042, 1.962], abs=1e-3)
    assert student(1, 0.9) == pytest.approx(6.314, abs=1e-3)


def test_the_interval_of_a_line_through_four_points_is_the_tables():
    line = Line.through([-3, -1, 1, 3], [1, -1, -1, 1])  # y is flat, its residuals all 1 long
    value, low, high = line.at(0)
    half = 4.303 * (4 / 2 / 4) ** 0.5  # t at 2 degrees, times the standard error of the mean
    assert (value, low, high) == pytest.approx((0, -half, half), abs=1e-3)


def test_tables_are_of_pandas(session, trace):
    assert isinstance(study.timing(trace).to_pandas(), pd.DataFrame)
    assert study.timing(trace).to_pandas().index.name == "step"
