"""A trace records what the model said, and keeps it."""

from __future__ import annotations

import copy
import json
import math
import pickle
import threading
import time

import numpy as np
import pytest

from mullama_lab.engine import tiny
from mullama_lab.engine.model import Model
from mullama_lab.engine.rows.capture import KEEP_LEAST
from mullama_lab.engine.setting import Setting
from mullama_lab.engine.stages import (
    Ban,
    Chain,
    Custom,
    Greedy,
    Mask,
    Mirostat,
    Temperature,
    TopK,
)
from mullama_lab.engine.steering.control_vector import ControlVector
from mullama_lab.engine.trace import Trace, step_table

N_VOCAB = 259
NO_END = Mask(ban=[tiny.EOS])
PER_TOKEN = [
    *("token", "logprob", "logprob_after", "rank", "entropy", "logsumexp"),
    *("decode_ns", "sample_ns", "constraint_ns", "capture_ns", "wall_ns", "forced"),
    *("canonical", "ahead"),
]
TABLES = ["top_ids", "top_logprobs", "after_ids", "after_logprobs"]


@pytest.fixture(scope="module")
def session(tiny_model):
    with tiny_model.session(n_ctx=2048, n_threads=1) as session:
        yield session


@pytest.fixture(scope="module")
def trace(session):
    chain = NO_END | TopK(50) | Temperature(1.3)
    return session.generate("hello", chain, max_tokens=20, seed=11, top=12)


@pytest.fixture(scope="module")
def wide(tmp_path_factory):
    """A session of a model with 20 000 tokens."""
    path = tiny.write(tmp_path_factory.mktemp("wide") / "wide.gguf", n_vocab=20_000)
    with Model.load(path) as model, model.session(n_ctx=512, n_threads=1) as session:
        yield session


# The numbers of each step.


def test_every_number_of_a_step_is_that_of_the_whole_row(trace, session):
    for i in range(len(trace)):
        ids, logits = trace.kept(i)
        assert ids.tolist() == list(range(N_VOCAB))  # a small vocabulary is kept whole
        row = logits.astype(np.float64)
        total = math.fsum(np.exp(row - row.max()))
        logprobs = row - row.max() - math.log(total)
        token = trace.tokens[i]
        assert trace.logsumexp[i] == pytest.approx(row.max() + math.log(total), abs=1e-4)
        assert trace.logprob[i] == pytest.approx(logprobs[token], abs=1e-4)
        assert trace.entropy[i] == pytest.approx(-float(np.exp(logprobs) @ logprobs), abs=1e-4)
        assert trace.rank[i] == np.count_nonzero(row > row[token])
        order = np.argsort(-row, kind="stable")[:12]
        assert trace.top_ids[i].tolist() == order.tolist()
        np.testing.assert_allclose(trace.top_logprobs[i], logprobs[order], atol=1e-4)


def test_the_kept_row_is_the_row_that_the_model_gives_for_the_history(trace, session):
    for i in (0, 7, 19):
        row = session.logits(trace.history(i))
        np.testing.assert_allclose(trace.kept(i)[1], row, atol=0.02)


def test_what_comes_after_the_chain_is_computed_from_what_it_left(trace):
    for i in range(len(trace)):
        row = trace.kept(i)[1].astype(np.float64)
        row[tiny.EOS] = -np.inf
        best = np.argsort(-row, kind="stable")[:50]
        weights = np.exp(row[best] / 1.3 - row[best[0]] / 1.3)
        expected = np.log(weights / weights.sum())
        assert trace.after_ids[i].tolist() == best[:12].tolist()
        np.testing.assert_allclose(trace.after_logprobs[i], expected[:12], atol=1e-4)
        place = best.tolist().index(trace.tokens[i])
        assert trace.logprob_after[i] == pytest.approx(expected[place], abs=1e-4)
        assert trace.n_kept[i].tolist() == [N_VOCAB - 1, 50, 50]


def test_a_custom_stage_may_bring_back_what_was_removed(session):
    flat = Custom(lambda logits, _: np.zeros_like(logits))
    chain = Mask(ban=range(9)) | flat | TopK(9) | flat
    trace = session.generate("x", chain, max_tokens=3, seed=1)
    assert trace.n_kept.tolist() == [[250, 259, 9, 259]] * len(trace)
    view = chain.preview(trace.kept(0)[1], model=session.model)
    assert [stage.n_kept for stage in view.stages] == [250, 259, 9, 259]


def test_columns_are_arrays_of_one_length_with_their_types(trace):
    columns = trace.columns()
    assert set(columns) == {"piece", *PER_TOKEN, *TABLES, "stale", "n_kept"}
    assert {len(column) for column in columns.values()} == {20}
    kinds = {name: column.dtype for name, column in columns.items()}
    assert kinds["token"] == kinds["rank"] == kinds["top_ids"] == kinds["n_kept"] == np.int32
    assert kinds["logprob"] == kinds["entropy"] == kinds["top_logprobs"] == np.float32
    assert kinds["logsumexp"] == np.float64
    assert kinds["decode_ns"] == np.int64
    assert kinds["forced"] == kinds["canonical"] == kinds["ahead"] == np.bool_
    assert columns["top_ids"].shape == columns["after_logprobs"].shape == (20, 12)
    assert (columns["decode_ns"] > 0).all()
    assert (columns["sample_ns"] > 0).all()


def test_what_constrains_the_text_is_timed_apart_from_the_other_stages(session):
    def constraint_ns(chain):
        trace = session.generate("x", chain, max_tokens=4, seed=1)
        assert (trace.sample_ns > 0).all() and trace[0].constraint_ns == trace.constraint_ns[0]
        return trace.constraint_ns

    assert (constraint_ns(NO_END | TopK(5)) > 0).all()
    assert (constraint_ns(TopK(5) | Ban(["a word"])) > 0).all()
    assert (constraint_ns(TopK(5) | Temperature(0.5)) == 0).all()


def test_the_arrays_cannot_be_written_to(trace):
    for name in (*PER_TOKEN, *TABLES):
        with pytest.raises(ValueError, match="read-only"):
            getattr(trace, name)[0] = 5
        assert name in dir(trace)
        with pytest.raises(AttributeError, match=f"{name} cannot be set"):
            setattr(trace, name, [5])
    with pytest.raises(AttributeError, match="'Trace' object has no attribute 'logprobs'"):
        _ = trace.logprobs


def test_a_step_says_the_same_as_the_arrays(trace):
    step = trace[3]
    assert step.index == 3
    assert step.token == trace.tokens[3]
    assert step.piece == trace.pieces[3]
    assert step.logprob == trace.logprob[3]
    assert step.top[0] == (trace.top_ids[3, 0], step.top[0][1], trace.top_logprobs[3, 0])
    assert step.remaining_mass == pytest.approx(1 - np.exp(trace.top_logprobs[3]).sum(), abs=1e-6)
    assert step.n_kept == (258, 50, 50)
    assert step.chain == trace.chain
    assert trace[-1].index == 19
    with pytest.raises(IndexError, match="no step 20 in the trace: it has steps 0 to 19"):
        trace[20]
    assert [s.token for s in trace] == trace.tokens.tolist()


def test_times_and_speed_add_up(trace):
    assert 0 < trace.prompt_seconds <= trace.seconds_to_first_token <= trace.seconds
    spent = (trace.decode_ns + trace.sample_ns).sum() / 1e9  # a step is captured beside the next
    assert spent <= trace.seconds + 0.001
    assert trace.tokens_per_second == pytest.approx(
        19 / (trace.seconds - trace.seconds_to_first_token)
    )


def test_the_steps_of_a_trace_take_all_of_its_time(trace, session):
    assert trace.wall_ns.sum() / 1e9 == pytest.approx(trace.seconds, abs=1e-7 * len(trace))
    assert trace.wall_ns[0] / 1e9 == pytest.approx(trace.seconds_to_first_token, abs=1e-6)
    parts = trace.decode_ns + trace.sample_ns + trace.constraint_ns
    assert (parts <= trace.wall_ns).all()
    scored = session.score("hello there")
    between = scored.decode_ns[1:] + scored.capture_ns[:-1]  # recorded before the next row
    assert not scored.captured_aside and (between <= scored.wall_ns[1:]).all()


def test_a_branch_takes_time_from_its_own_first_token_on(trace, session):
    branch = session.branch(trace, 5, 60, max_tokens=12)
    assert branch.wall_ns[:5].tolist() == trace.wall_ns[:5].tolist()
    assert branch.wall_ns[5] == 0  # given
    assert branch.wall_ns[6:].sum() / 1e9 == pytest.approx(branch.seconds, abs=1e-6)


def test_a_file_from_before_there_was_a_wall_time_still_opens(trace):
    old = trace.to_dict()
    del old["columns"]["wall_ns"], old["captured_aside"]
    opened = Trace.from_dict(old)
    assert opened.captured_aside and not opened.wall_ns.any()
    assert opened.decode_ns.tolist() == trace.decode_ns.tolist()


def test_a_table_has_a_row_a_token(trace):
    table = trace.to_pandas()
    assert len(table) == 20
    assert table.index.name == "step"
    assert table["token"].tolist() == trace.tokens.tolist()
    assert table["kept_1"].tolist() == [50] * 20
    assert table["piece"].map(type).eq(str).all()


def test_a_table_says_which_steps_are_stale(session, trace):
    assert trace.to_pandas()["stale"].tolist() == [False] * 20
    plain = Setting(NO_END | TopK(50))
    changed = Setting(plain.chain, control=ControlVector({1: np.ones(32)}))
    mixed = session.generate("hello", {0: plain, 5: changed}, max_tokens=8, seed=1)
    table = mixed.to_pandas()
    assert table["stale"].dtype == bool
    assert table["stale"].tolist() == [False] * 5 + [True] * 3
    others = {name for name in trace.to_pandas() if not name.startswith("kept_")}
    assert {name for name in table if not name.startswith("kept_")} == others
    assert "stale" in session.generate("hello", max_tokens=0).to_pandas()


def test_a_trace_of_no_steps_has_empty_arrays(session):
    empty = session.generate("hello", max_tokens=0)
    assert (len(empty), empty.text, empty.n_kept.shape) == (0, "", (0, 0))
    assert empty.top_ids.shape == (0, 64)
    assert len(empty.to_pandas()) == 0
    assert empty.tokens_per_second == 0
    assert Trace.from_dict(empty.to_dict()) == empty
    assert len(empty[:]) == 0
    unchained = session.generate("hello", Chain(), max_tokens=3)
    assert unchained.n_kept.shape == (3, 0)


# Text.


@pytest.mark.parametrize(
    ("data", "n", "text"),
    [
        ("a😀b".encode(), 1, "a"),
        ("a😀b".encode(), 2, "a"),
        ("a😀b".encode(), 4, "a"),
        ("a😀b".encode(), 5, "a😀"),
        ("a😀b".encode(), 6, "a😀b"),
        ("é".encode(), 1, ""),
        (b"\xffa", 1, "\ufffd"),
        (b"\xffa", 2, "\ufffda"),
        (b"\xf0\x9fa", 3, "\ufffda"),
        (b"a\0b", 3, "a\0b"),
    ],
)
def test_a_character_appears_when_its_last_byte_is_there(session, data, n, text, writes):
    trace = session.generate([ord("x") + 3], writes(data), max_tokens=n)
    assert trace.text == text
    assert b"".join(trace.pieces) == trace.text_bytes == data[:n]


def test_a_stop_string_is_no_text_but_stays_in_the_tokens(session, writes):
    trace = session.generate([ord("x") + 3], writes(b"one, two"), max_tokens=9, stop=", ")
    assert trace.text == "one"
    assert b"".join(trace.pieces) == b"one, "
    assert len(trace) == 5
    assert trace[:2].text == "on"
    assert trace[1:].text == "ne"
    assert trace[4:].text == ""


# Slices.


def test_a_slice_is_a_trace_of_those_steps(trace):
    part = trace[5:9]
    assert isinstance(part, Trace)
    assert part.tokens.tolist() == trace.tokens[5:9].tolist()
    assert part.text_bytes == b"".join(trace.pieces[5:9])
    assert part.prompt_tokens.tolist() == trace.history(5).tolist()
    assert part.history(2).tolist() == trace.history(7).tolist()
    assert (part.finish_reason, trace[5:].finish_reason) == ("cut", trace.finish_reason)
    assert part[0].logprob == trace[5].logprob
    assert part.kept(1)[1].tolist() == trace.kept(6)[1].tolist()
    assert part.state(0) == trace.state(5)
    assert len(trace[7:3]) == 0
    assert trace[:] == trace
    assert trace[-3:].tokens.tolist() == trace.tokens[-3:].tolist()
    with pytest.raises(ValueError, match="use step 1"):
        trace[::2]
    with pytest.raises(TypeError, match="step=.token.: it must be a whole number"):
        trace["token"]


def test_a_slice_knows_the_chains_of_its_steps(session):
    run = session.start("x", NO_END, max_tokens=6)
    run.wait()
    trace = run.trace
    one, two, three = Chain([NO_END]), NO_END | TopK(5), NO_END | TopK(6)
    trace.chains = [(0, one), (2, two), (4, three)]
    assert trace[:2].chains == [(0, one)]
    assert trace[1:5].chains == [(0, one), (1, two), (3, three)]
    assert trace[2:4].chains == [(0, two)]
    assert trace[3:].chains == [(0, two), (1, three)]
    assert [trace.chain_at(i) for i in range(6)] == [one, one, two, two, three, three]
    assert [trace[1:].chain_at(i) for i in range(5)] == [one, two, two, three, three]


# Out and in again.


def test_a_trace_goes_through_json_and_back(session):
    trace = session.generate("héllo", Mirostat(3, 0.2) | NO_END, max_tokens=20, seed=1, stop="zz")
    again = Trace.from_dict(json.loads(json.dumps(trace.to_dict())))
    assert again == trace
    assert again.text == trace.text
    assert again.chain == trace.chain
    assert again.n_kept.tolist() == trace.n_kept.tolist()
    assert again.state(7) == trace.state(7)
    assert again[3].top == trace[3].top
    assert again.kept(3) is None  # rows stay out
    for name, column in trace.columns().items():
        assert again.columns()[name].tolist() == column.tolist()
    assert repr(again) == repr(trace)


def test_a_trace_can_be_pickled_and_copied(trace):
    for again in (pickle.loads(pickle.dumps(trace)), copy.deepcopy(trace)):
        assert again == trace
        assert again[3].top == trace[3].top
        assert again.kept(3)[1].tolist() == trace.kept(3)[1].tolist()


def test_traces_differ_when_a_token_or_a_chain_does(session, trace):
    assert trace != session.generate("hello", trace.chain, max_tokens=20, seed=12, top=12)
    other = copy.deepcopy(trace)
    other.chains = [(0, Chain([Greedy()]))]
    assert trace != other
    assert trace != "trace"
    custom = session.generate("x", Custom(lambda logits, _: logits), max_tokens=2)
    assert custom == custom[:]  # though it cannot go into a dict
    with pytest.raises(ValueError, match="a Python function is code"):
        custom.to_dict()


@pytest.mark.parametrize(
    "damage",
    [
        lambda d: d.clear(),
        lambda d: d.update(top=10**9),
        lambda d: d.update(top=-1),
        lambda d: d.update(top=13),
        lambda d: d.update(chains=[]),
        lambda d: d.update(chains=[[0, {"stages": [{"stage": "Nope"}]}]]),
        lambda d: d.update(pieces=d["pieces"][:-1]),
        lambda d: d.update(texts=["zz"] * 20),
        lambda d: d.update(n_kept=d["n_kept"][1:]),
        lambda d: d["columns"].update(rank=[1]),
        lambda d: d["columns"].update(rank=[[1]] * 20),
        lambda d: d["columns"].update(entropy=[[1.0, 2.0]] * 20),
        lambda d: d["columns"].update(token=["a"] * 20),
        lambda d: d["columns"].update(token=[2**40] * 20),
        lambda d: d["columns"].pop("entropy"),
        lambda d: d.pop("seconds"),
        lambda d: d.update(vocabulary=[1]),
    ],
)
def test_a_dict_that_is_no_trace_is_refused(trace, damage):
    data = json.loads(json.dumps(trace.to_dict()))
    damage(data)
    with pytest.raises(ValueError, match=r"not a dict that Trace\.to_dict made"):
        Trace.from_dict(data)
    with pytest.raises(ValueError, match=r"not a dict that Trace\.to_dict made"):
        Trace.from_dict([data])


# What is kept of a wide row.


def test_of_a_wide_row_the_likeliest_4096_are_kept_and_nothing_else(wide):
    chain = NO_END | Temperature(2.0)
    trace = wide.generate("hello", chain, max_tokens=30, seed=5)
    for i in range(0, 30, 3):
        ids, logits = trace.kept(i)
        row = wide.logits(trace.history(i))
        assert KEEP_LEAST <= len(ids) <= 3 * KEEP_LEAST
        assert (np.diff(ids) > 0).all()
        np.testing.assert_allclose(logits, row[ids], atol=0.05)
        out = np.delete(row, ids)
        assert out.max() <= logits.min() + 0.05
        total = np.log(np.exp(row.astype(np.float64)).sum())
        assert trace.logsumexp[i] == pytest.approx(total, abs=0.02)
        assert trace.rank[i] == pytest.approx(np.count_nonzero(row > row[trace.tokens[i]]), abs=50)


def test_past_the_budget_no_rows_are_kept_and_all_else_is(session, monkeypatch):
    row_bytes = N_VOCAB * 8
    monkeypatch.setattr(step_table, "ROW_BUDGET", 3 * row_bytes)
    trace = session.generate("x", NO_END, max_tokens=5)
    assert [trace.kept(i) is None for i in range(5)] == [False] * 3 + [True] * 2
    assert trace.top_ids.shape == (5, 64)
    assert len(trace[2:]) == 3


# While it grows.


def test_others_may_read_a_trace_while_it_grows(session):
    run = session.start("x", Mask(ban=[0, 1, 2]), max_tokens=400)  # a byte a token
    failed, looks = [], []

    def look():
        try:
            while not run.done:
                trace = run.trace
                columns = trace.columns()
                assert len({len(column) for column in columns.values()}) == 1
                assert len(trace.to_pandas()) >= len(columns["token"])
                again = Trace.from_dict(trace.to_dict())
                assert again.finish_reason in ("", "length")
                n = len(trace)
                assert len(trace.text_bytes) >= n
                if n:
                    assert trace[n - 1].token == trace.tokens[n - 1]
                    assert trace[n - 1].chain == trace.chain_at(n - 1)
                looks.append(n)
                time.sleep(0.005)
        except BaseException as error:
            failed.append(error)

    threads = [threading.Thread(target=look) for _ in range(2)]
    for thread in threads:
        thread.start()
    while not run.done:
        time.sleep(0.001)
        run.chain = Chain([run.chain[0], TopK(200 + len(run.trace) % 9)])
    for thread in threads:
        thread.join()
    assert not failed
    assert len(set(looks)) > 3
    assert len(run.wait()) == 400
