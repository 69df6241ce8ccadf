"""Sweeps: a row for every prompt, chain and seed, wherever the work is done."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import signal
import threading
from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from functools import partial

import numpy as np
import pandas as pd
import pytest
from distributed import Client, LocalCluster

from mullama_lab.bars import TextBar
from mullama_lab.engine import stages as s
from mullama_lab.engine import tiny
from mullama_lab.engine.grammar import Grammar
from mullama_lab.engine.model import Model
from mullama_lab.engine.stages import Chain
from mullama_lab.errors import ClosedError, ModelNotFound
from mullama_lab.studies import _tasks, sweeps
from mullama_lab.studies.sweeps import SweepStopped, grid, sweep

NO_END = Chain([s.Mask(ban=[tiny.EOS])])
# Three candidates in the order of their ids: noise in the logits hardly ever changes a draw.
ABC = s.Mask(allow=[ord(c) + 3 for c in "abc"])
CHAINS = grid(ABC | s.MinP(0) | s.Temperature(1.0), min_p=[0, 0.01], temperature=[0.5, 1.5])
PROMPTS = ["Hello", [1, 50, 60]]
OPTIONS = {"n_ctx": 512, "n_threads": 1}
RUNS = {"seeds": range(3), "max_tokens": 4}
TIMES = ["tokens_per_second"]


@pytest.fixture(scope="module")
def session(tiny_model):
    with tiny_model.session(**OPTIONS) as session:
        yield session


@pytest.fixture(scope="module")
def here(session):
    return sweep(PROMPTS, CHAINS, on=session, **RUNS)


def same(one, other):
    pd.testing.assert_frame_equal(one.drop(columns=TIMES), other.drop(columns=TIMES), atol=0.01)
    assert (one["tokens_per_second"] > 0).all() and (other["tokens_per_second"] > 0).all()


def open_sessions(model):
    return {session for session in model._handles if not session.closed}


# Grids.


def test_a_grid_is_every_combination_of_the_values_the_last_varying_first():
    chains = grid(s.TopK(1) | s.Temperature(1), top_k=[5, 6], temperature=np.array([0.5, 2.0]))
    assert chains == [s.TopK(k) | s.Temperature(t) for k in (5, 6) for t in (0.5, 2)]
    assert grid(s.TopK(1)) == [Chain([s.TopK(1)])]


def test_settings_are_named_after_their_stage_and_themselves():
    everything = Chain(
        [
            s.TopNSigma(1), s.Penalties(), s.DRY(multiplier=1), s.XTC(0.5, 0.1), s.MirostatV2(),
            s.LogitBias({5: 1.0}), s.Temperature(1), s.Temperature(2), s.AdaptiveP(0.1, 0.5),
        ]
    )  # fmt: skip
    named = {setting.name: setting.value for setting in sweeps._settings(everything)}
    assert {"top_n_sigma", "penalties_repeat", "dry_multiplier", "xtc_probability"} <= set(named)
    assert {"mirostat_v2_tau", "temperature", "temperature_2", "adaptive_p_decay"} <= set(named)
    assert (named["temperature"], named["temperature_2"]) == (1, 2)
    changed = grid(everything, temperature_2=[3])[0]
    assert [stage.t for stage in changed if isinstance(stage, s.Temperature)] == [1, 3]


def test_every_setting_of_every_stage_has_one_name():
    stages = [kind() for kind in s.Stage.kinds.values() if kind is not s.Custom]
    names = [setting.name for setting in sweeps._settings(Chain(stages))]
    assert len(set(names)) == len(names)


@pytest.mark.parametrize(
    ("settings", "error", "said"),
    [
        ({"heat": [1]}, ValueError, "no setting 'heat'; its settings are top_k, top_k_min_keep"),
        ({"top_k": 5}, TypeError, r"top_k=5: give a list of values, such as \[5\]"),
        ({"top_k": "12"}, TypeError, "top_k='12'"),
        ({"top_k": []}, ValueError, r"top_k=\[\]: give at least one value"),
        ({"top_k": [-1]}, ValueError, r"TopK\(k=-1\): k must be from 0"),
        ({"top_k": [float("nan")]}, TypeError, "k must be a whole number"),
    ],
)
def test_a_grid_refuses_what_is_no_setting_of_the_chain(settings, error, said):
    with pytest.raises(error, match=said):
        grid(s.TopK(40) | s.Temperature(0.8), **settings)


# The table.


def test_a_row_says_what_a_run_of_its_own_says(here, session):
    assert len(here) == 2 * 4 * 3
    assert list(here) == [
        "prompt", "chain", "min_p", "temperature", "seed", "text", "n_tokens", "mean_logprob",
        "mean_entropy", "finish_reason", "tokens_per_second", "error",
    ]  # fmt: skip
    for row in here.sample(8, random_state=1).itertuples():
        chain = ABC | s.MinP(row.min_p) | s.Temperature(row.temperature)
        assert row.chain == repr(chain)
        trace = session.generate(row.prompt, chain, max_tokens=4, seed=row.seed)
        assert (row.text, row.n_tokens, row.finish_reason) == (trace.text, 4, "length")
        assert row.mean_logprob == pytest.approx(trace.logprob.mean(), abs=0.01)
        assert row.mean_entropy == pytest.approx(trace.entropy.mean(), abs=0.01)


def test_rows_are_in_the_order_prompt_chain_seed(here):
    assert here["seed"].tolist() == [0, 1, 2] * 8
    assert here["temperature"].tolist()[:12] == [0.5] * 3 + [1.5] * 3 + [0.5] * 3 + [1.5] * 3
    assert here["prompt"].tolist() == ["Hello"] * 12 + [(1, 50, 60)] * 12


def test_chains_may_have_names_and_other_stages(session):
    table = sweep(
        "x", {"calm": s.Greedy(), "wild": s.TopK(9) | s.Temperature(3)}, on=session, max_tokens=2
    )
    assert table["chain"].tolist() == ["calm", "wild"]
    assert table["top_k"].tolist()[1] == 9 and np.isnan(table["top_k"][0])
    one = sweep([1, 5], s.TopK(9) | s.Temperature(3), on=session, seeds=[8], max_tokens=2)
    assert one["chain"].tolist() == ["TopK(9) | Temperature(3)"]
    assert one["prompt"].tolist() == [(1, 5)]
    assert one["seed"].tolist() == [8]
    assert "top_k" not in one


def test_a_list_of_stages_is_a_chain_for_each(session):
    stages = [s.Temperature(0.5), s.Temperature(1.5)]
    table = sweep(["Yes", "No"], stages, on=session, seeds=[4, 5], max_tokens=1)
    assert table["temperature"].tolist() == [0.5, 0.5, 1.5, 1.5] * 2
    assert table["prompt"].tolist() == ["Yes"] * 4 + ["No"] * 4
    assert table["seed"].tolist() == [4, 5] * 4


def test_a_prompt_is_decoded_once_for_the_runs_that_have_it(session):
    session.reset()
    before = session.ledger
    sweep([[1, *range(10, 50)]], NO_END, on=session, seeds=range(4), max_tokens=3)
    assert (session.ledger - before).decoded == 41 + 4 * 2


def test_more_runs_than_fit_at_once_follow_in_parts(session, here, monkeypatch):
    monkeypatch.setattr(sweeps, "TOKENS_AT_ONCE", 1)
    same(sweep(PROMPTS, CHAINS, on=session, **RUNS), here)


def test_a_model_or_its_file_will_do(tiny_model, tiny_path, here):
    before = open_sessions(tiny_model)
    options = {"session_options": OPTIONS}
    same(sweep(PROMPTS, CHAINS, on=tiny_model, **RUNS, **options), here)
    same(sweep(PROMPTS, CHAINS, on=tiny_path, **RUNS, **options), here)
    assert open_sessions(tiny_model) == before  # what a sweep opens for itself it closes


# What fails is a row.


def test_a_run_that_fails_is_a_row_and_the_others_go_on(session):
    def boom(logits, history):
        if len(history) > 8:
            raise RuntimeError("boom")
        return logits

    chains = {"good": NO_END, "mask": s.Mask(allow=[999]), "boom": NO_END | s.Custom(boom)}
    table = sweep(["Hello", [1] * 600, [1, 999]], chains, on=session, max_tokens=6)
    good = table[table["error"] == ""]
    assert (good["prompt"].tolist(), good["chain"].tolist()) == (["Hello"], ["good"])
    said = table.set_index(["prompt", "chain"])["error"]
    assert said["Hello", "mask"].startswith("ValueError: ") and "999" in said["Hello", "mask"]
    assert said["Hello", "boom"].startswith("StageFailed: ") and "boom" in said["Hello", "boom"]
    assert said[(1,) * 600, "good"].startswith("ContextFull: the prompt has 600 tokens")
    assert said[(1, 999), "good"].startswith("ValueError: token 999 is outside")
    failed = table[table["chain"] == "boom"].iloc[0]
    assert (failed["n_tokens"], failed["finish_reason"]) == (3, "failed")
    assert table["n_tokens"].tolist()[3:] == [0] * 6
    assert table["mean_logprob"].isna().sum() == 7


def test_a_session_that_is_closed_on_the_way_leaves_the_rows_before(tiny_model, monkeypatch):
    monkeypatch.setattr(sweeps, "TOKENS_AT_ONCE", 1)
    session = tiny_model.session(**OPTIONS)
    second = threading.Event()

    def watched(logits, history):
        if history[0] == 7:
            second.set()
        return logits

    threading.Thread(target=lambda: second.wait(20) and session.close()).start()
    chain = NO_END | s.Custom(watched)
    table = sweep([[5], [7], [8]], chain, on=session, seeds=range(8), max_tokens=50)
    assert (table["error"] == "").tolist()[:8] == [True] * 8
    assert table["n_tokens"].tolist()[:8] == [50] * 8
    on_the_way = table[8:16]
    began = on_the_way["n_tokens"] > 0
    assert began.iloc[0] and set(on_the_way["finish_reason"][began]) == {"stopped"}
    # one that had no token yet either had begun, or was refused as those of the next prompt
    assert set(on_the_way["finish_reason"][~began]) <= {"stopped", "failed"}
    assert table["error"][16:].str.startswith("ClosedError: the session is closed").all()
    assert len(table) == 24
    with pytest.raises(ClosedError):
        sweep("a", NO_END, on=session)


@pytest.mark.parametrize(
    ("arguments", "options", "error", "said"),
    [
        (([],), {}, ValueError, "no prompt is given"),
        (("a",), {"executor": 4}, TypeError, "executor=4: give a concurrent.futures.Executor"),
        ((["a", None],), {}, TypeError, "a prompt is a text or a list of token ids, not NoneType"),
        ((["a", [1, "b"]],), {}, TypeError, "a token id='b'"),
        (("a", []), {}, ValueError, "no chain is given"),
        (("a", {}), {}, ValueError, "no chain is given"),
        (("a", "TopK"), {}, TypeError, "TopK"),
        (("a",), {"seeds": -1}, ValueError, "seeds=-1"),
        (("a",), {"seeds": [-1]}, ValueError, "seed=-1"),
        (("a",), {"max_tokens": 0}, ValueError, "max_tokens=0"),
        (("a",), {"stop": [""]}, ValueError, "at least one character"),
        (("a",), {"session_options": OPTIONS}, ValueError, "sessions that are opened here"),
        (("a",), {"model_options": {"mmap": False}}, ValueError, "a model that is loaded here"),
    ],
)
def test_what_cannot_be_swept_is_refused_before_anything_begins(
    session, arguments, options, error, said
):
    before = session.n_decoded
    with pytest.raises(error, match=said):
        sweep(*arguments, on=session, **options)
    assert session.n_decoded == before


# In other processes.


@pytest.fixture(scope="module")
def pool():
    with ProcessPoolExecutor(2, multiprocessing.get_context("spawn")) as pool:
        yield pool


def test_a_pool_of_processes_gives_the_same_table(pool, tiny_model, here):
    there = sweep(PROMPTS, CHAINS, on=tiny_model, **RUNS, executor=pool, session_options=OPTIONS)
    same(there, here)


def test_a_dask_cluster_gives_the_same_table(tiny_path, here):
    cluster = LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None)
    with cluster, Client(cluster) as client:
        there = sweep(
            PROMPTS, CHAINS, on=tiny_path, **RUNS, executor=client.get_executor(),
            session_options=OPTIONS,
        )  # fmt: skip
    same(there, here)


def test_what_fails_in_a_pool_is_a_row(pool, tiny_path):
    chains = {"good": NO_END, "mask": s.Mask(allow=[999])}
    options = {"executor": pool, "session_options": OPTIONS, "max_tokens": 2}
    table = sweep(["a", [1] * 600], chains, on=tiny_path, **options)
    assert (table["error"] == "").tolist() == [True, False, False, False]
    assert table["error"][2].startswith("ContextFull: ")
    unsent = sweep("a", s.Custom(lambda logits, history: logits), on=tiny_path, **options)
    assert "pickled" in unsent["error"][0] and "in a module" in unsent["error"][0]
    lost = sweep(["a", "b"], NO_END, on="nonesuch.gguf", **options)
    assert lost["error"].str.startswith("ModelNotFound: ").all()
    with pytest.raises(ModelNotFound):
        sweep(["a", "b"], NO_END, on="nonesuch.gguf")


def test_a_pool_that_dies_leaves_rows_that_say_so(tiny_path):
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        dead = pool.submit(os._exit, 1)
        assert dead.exception() is not None
        with pytest.raises(RuntimeError, match="process pool"):
            sweep("a", NO_END, on=tiny_path, executor=pool)


def test_a_worker_loads_the_model_once_and_a_session_a_thread(tiny_path, here, monkeypatch):
    loaded, opened = [], []
    load, open_ = Model.load, Model.session

    def session(self, **options):
        opened.append(threading.get_ident())
        return open_(self, **options)

    monkeypatch.setattr(Model, "load", lambda *a, **o: loaded.append(a) or load(*a, **o))
    monkeypatch.setattr(Model, "session", session)
    monkeypatch.setattr(_tasks, "_shelf", _tasks._Shelf())
    with ThreadPoolExecutor(2) as pool:
        there = sweep(PROMPTS, CHAINS, on=tiny_path, **RUNS, executor=pool, session_options=OPTIONS)
        same(there, here)
        assert len(loaded) == 1
        assert len(set(opened)) == len(opened) <= 2
        other = {**OPTIONS, "n_ctx": 256}
        sweep("a", NO_END, on=tiny_path, executor=pool, session_options=other, max_tokens=1)
        assert len(loaded) == 1 and len(opened) <= 3
        sweep("a", NO_END, on=tiny_path, executor=pool, model_options={"mmap": False}, max_tokens=1)
        assert len(loaded) == 2


def test_a_task_is_a_value_that_travels(tiny_path):
    item = _tasks.Item(0, (1, 2), CHAINS[0], 3)
    task = _tasks.Task(str(tiny_path), (item,), _tasks.Limits(4, ("x",)), {}, OPTIONS)
    assert pickle.loads(pickle.dumps(task)) == task


def test_a_session_cannot_be_sent(session, pool):
    with pytest.raises(ValueError, match=r"With an executor, give the model.*on=session\.model"):
        sweep("a", NO_END, on=session, executor=pool)


def test_what_is_sent_is_a_name_or_a_full_path(tiny_path, tiny_model, monkeypatch):
    monkeypatch.chdir(tiny_path.parent)
    assert sweeps._source(tiny_path.name) == sweeps._source(tiny_model) == str(tiny_path)
    assert sweeps._source("smollm2-135m") == "smollm2-135m"
    assert sweeps._source("hf:a/b/c.gguf") == "hf:a/b/c.gguf"


# Progress, and Ctrl-C.


@pytest.mark.parametrize("where", ["here", "there"])
def test_a_bar_is_shown_after_a_while_unless_it_is_not_wanted(
    tiny_model, monkeypatch, capsys, where
):
    monkeypatch.setattr("mullama_lab.engine.bar.SHOWN_AFTER", 1e-9)
    monkeypatch.setattr("mullama_lab.bars.TextBar", partial(TextBar, mininterval=0))
    monkeypatch.setattr("mullama_lab.studies._together.SHOW_PERIOD", 0.001)
    with ThreadPoolExecutor(1) as pool:
        options = {"on": tiny_model, "session_options": OPTIONS, "max_tokens": 200}
        options |= {"executor": pool} if where == "there" else {}
        sweep("x", NO_END, seeds=range(2), **options)
        assert "sweep:" in (said := capsys.readouterr().err) and "/400" in said
        sweep("x", NO_END, seeds=range(2), progress=False, **options)
        assert capsys.readouterr().err == ""


def test_ctrl_c_keeps_the_rows_there_are_and_the_session_works(session, monkeypatch):
    monkeypatch.setattr(sweeps, "TOKENS_AT_ONCE", 1)
    at_work = threading.Event()

    def slow(logits, history):
        if history[0] == 7 and len(history) > 4:
            at_work.set()
        return logits

    def interrupt():
        assert at_work.wait(20)
        os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=interrupt).start()
    prompts = [[5]] * 8 + [[7]] + [[8]] * 30
    with pytest.raises(SweepStopped, match=r"of 39 runs, .*`sys\.last_value\.table`") as stopped:
        sweep(prompts, NO_END | s.Custom(slow), on=session, max_tokens=200)
    assert isinstance(stopped.value, KeyboardInterrupt)
    table = stopped.value.table
    assert 9 <= len(table) < 39
    assert table["finish_reason"].tolist()[:8] == ["length"] * 8
    assert "stopped" in table["finish_reason"].tolist()[8:]
    assert len(sweep("x", NO_END, on=session, max_tokens=3)) == 1


class Gated(Executor):
    """Does the first task, and never the others; says when it was given all of them."""

    def __init__(self):
        self.sent: list[Future] = []

    def submit(self, function, /, *args, **kwargs):
        future = Future()
        if not self.sent:
            future.set_result(function(*args, **kwargs))
        elif len(self.sent) == 2:
            threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGINT)).start()
        self.sent.append(future)
        return future


def test_ctrl_c_cancels_what_an_executor_has_not_begun(tiny_path):
    executor = Gated()
    with pytest.raises(SweepStopped) as stopped:
        sweep(
            "x", NO_END, on=tiny_path, seeds=range(24), max_tokens=3, executor=executor,
            session_options=OPTIONS,
        )  # fmt: skip
    assert stopped.value.table["seed"].tolist() == list(range(8))
    assert [future.cancelled() for future in executor.sent] == [False, True, True]


def test_one_seed_is_that_seed_as_everywhere(session):
    table = sweep("x", NO_END, on=session, seeds=7, max_tokens=3)
    (alone,) = session.generate_many("x", NO_END, seeds=7, max_tokens=3)
    assert table["seed"].tolist() == [7] and table["text"].tolist() == [alone.text]


def test_beside_a_run_a_row_is_what_it_is_alone(tiny_model, until):
    options = {"n_ctx": 4 * 2048, "n_threads": 1, "n_seq_max": 4, "reproducible": True}
    with tiny_model.session(**options) as session:
        alone = sweep(PROMPTS, NO_END, on=session, **RUNS)
        session.reset()
        run = session.start("abc", NO_END, max_tokens=2000)
        until(lambda: len(run.trace) > 2)
        beside = sweep(PROMPTS, NO_END, on=session, **RUNS)
        assert run.state == "running"
        run.stop_and_wait()
    pd.testing.assert_frame_equal(
        beside.drop(columns=TIMES), alone.drop(columns=TIMES), check_exact=True
    )


def test_a_grid_of_a_grammars_settings_has_rows_of_that_grammar(session):
    digits, letters = Grammar.gbnf("root ::= [0-9]+"), Grammar.gbnf("root ::= [a-c]+ [d-f]*")
    chains = grid(s.Constrain(digits) | s.Temperature(1.0), constrain=[digits, letters])
    table = sweep("x", chains, on=session, seeds=range(3), max_tokens=6)
    assert table["text"].str.fullmatch("[0-9]+").tolist() == [True] * 3 + [False] * 3
    assert table["text"].str.fullmatch("[a-c]+[d-f]*").tolist() == [False] * 3 + [True] * 3
    again = sweep("x", chains, on=session, seeds=range(3), max_tokens=6)
    same(again, table)
