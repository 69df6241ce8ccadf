"""What a caller may pass by mistake: refused with a way out, and nothing is shared or altered."""

from __future__ import annotations

import copy
import pickle

import numpy as np
import pytest

import mullama_lab as ml
from mullama_lab.engine import tiny
from mullama_lab.engine.trace_rows import TraceRows
from mullama_lab.errors import MullamaError, StageFailed
from mullama_lab.studies.replay import replay

CHAIN = ml.TopK(40) | ml.Temperature(0.8)


@pytest.fixture
def session(tiny_model):
    with tiny_model.session(n_ctx=256) as session:
        yield session


@pytest.fixture
def trace(session):
    return session.generate("hello world", CHAIN, max_tokens=20, seed=5)


@pytest.mark.parametrize("act", [copy.copy, copy.deepcopy, pickle.dumps])
def test_what_owns_native_memory_is_not_copied(tiny_model, session, act):
    run = session.start("hello", CHAIN, max_tokens=1)
    run.wait()
    for owner in (tiny_model, session):
        with pytest.raises(TypeError, match="owns native memory, so it cannot be copied"):
            act(owner)
    with pytest.raises(TypeError, match=r"Its record can: run\.trace"):
        act(run)
    assert act(run.trace) is not None
    assert session.generate("hello", CHAIN, max_tokens=1).finish_reason


@pytest.mark.parametrize(
    "prompt",
    [
        b"hello", bytearray(b"hello"), memoryview(b"hello"), {5, 6}, {5: 6}, 5, None,
        np.array([[5, 6]]), np.array(5),
    ],
)  # fmt: skip
def test_a_prompt_is_a_text_or_ids_in_order(session, prompt):
    with pytest.raises(TypeError, match="a prompt is a text or a list of token ids, not"):
        session.generate(prompt, max_tokens=1)


@pytest.mark.parametrize("token", [True, 1.5, "a", np.array([5])])
def test_a_token_id_is_a_whole_number(session, token):
    with pytest.raises(TypeError, match="a token id must be a whole number"):
        session.generate([5, token], max_tokens=1)


def test_a_history_of_bytes_is_refused(tiny_model):
    row = np.zeros(tiny_model.n_vocab, np.float32)
    with pytest.raises(TypeError, match="history is token ids in order, .* not bytes"):
        CHAIN.preview(row, model=tiny_model, history=b"ab")


def test_a_preview_wants_the_model(session):
    row = np.zeros(session.model.n_vocab, np.float32)
    with pytest.raises(TypeError, match=r"give the Model, such as session\.model"):
        CHAIN.preview(row, model=session)


@pytest.mark.parametrize("model", [None, "smollm2-135m"])
def test_a_session_is_opened_on_a_model(model):
    with pytest.raises(TypeError, match=r"is not a Model; Model\.load gives one"):
        ml.Session(model)


@pytest.mark.parametrize(("value", "error"), [(-1, ValueError), (None, TypeError)])
def test_what_other_programs_call_no_limit_is_told_the_way_out(session, value, error):
    with pytest.raises(error, match="A large number goes on until the context"):
        session.generate("a", max_tokens=value)


def test_a_seed_that_means_random_elsewhere_is_told_the_way_out(session):
    with pytest.raises(ValueError, match="None picks one"):
        session.generate("a", seed=-1)


@pytest.mark.parametrize("layers", [-2, 1 << 40])
def test_layers_on_the_gpu_are_a_number_llama_cpp_can_hold(tiny_model, layers):
    with pytest.raises(ValueError, match="-1 means all"):
        ml.Model.load(tiny_model.path, n_gpu_layers=layers)


def test_numpys_numbers_are_as_good_as_pythons(tiny_model):
    with ml.Model.load(tiny_model.path, n_gpu_layers=np.int64(0)) as model:
        assert model.n_vocab == tiny_model.n_vocab
    with pytest.raises(ml.errors.LoadCancelled):
        ml.Model.load(tiny_model.path, progress=lambda done: np.bool_(False))


def test_a_stage_that_returns_complex_numbers_fails(session):
    chain = ml.Custom(lambda logits, history: logits + 1j) | CHAIN
    with pytest.raises(StageFailed, match="it must return float logits"):
        session.generate("a", chain, max_tokens=1)


def test_what_a_trace_keeps_cannot_be_altered(trace):
    _, logits = trace.kept(3)
    with pytest.raises(ValueError, match="read-only"):
        logits /= 0.7
    with pytest.raises(ValueError, match="read-only"):
        trace.prompt_tokens[0] = 7


def test_the_prompt_of_a_trace_is_its_own():
    given = np.array([5, 6], np.int32)
    trace = ml.Trace(prompt_tokens=given)
    given[0] = 7
    assert trace.prompt_tokens.tolist() == [5, 6]


@pytest.mark.parametrize("read", ["state", "kept", "n_kept_at", "__getitem__"])
def test_a_step_that_is_not_there_says_which_are(trace, read):
    with pytest.raises(IndexError, match="there is no step 999 in the trace: it has steps 0 to 19"):
        getattr(trace, read)(999)
    with pytest.raises(IndexError, match="it has no steps"):
        getattr(trace[:0], read)(0)


def test_chains_are_asked_by_steps_from_0(trace):
    with pytest.raises(IndexError, match="steps count from 0"):
        trace.chain_at(-1)


def test_a_part_counts_and_times_its_own_steps(session, trace):
    branch = session.branch(trace, 10, 60, max_tokens=8)
    assert branch.n_copied == 11
    for whole, a, b, copied in ((trace, 3, 8, 0), (branch, 5, 15, 6), (branch, 12, 15, 0)):
        part = whole[a:b]
        assert (part.first_step, part.n_copied) == (a, copied)
        drawn = slice(a + copied, b)
        spent = sum(whole.columns()[name][drawn] for name in ("decode_ns", "sample_ns"))
        rest = float((spent[1:] + whole.constraint_ns[drawn][1:]).sum()) / 1e9
        assert part.tokens_per_second == pytest.approx((len(spent) - 1) / rest)
    assert trace[4:][3:].first_step == 7
    for whole, a, has_prompt in ((trace, 3, 0), (branch, 5, 1), (branch, 11, 1), (branch, 12, 0)):
        assert whole[a:].n_prompt_decoded == whole.n_prompt_decoded * has_prompt
        assert whole[a:].prompt_seconds == whole.prompt_seconds * has_prompt
    assert trace[:4].seconds_to_first_token == trace.seconds_to_first_token
    assert trace[:] == trace


def test_a_part_keeps_where_it_begins_through_a_dict(trace):
    part = ml.Trace.from_dict(trace[3:].to_dict())
    assert part.first_step == 3
    assert part == trace[3:]


def test_draws_that_have_moved_are_not_taken_for_others(session, trace):
    token = int(trace.tokens[8])
    with pytest.raises(ValueError, match="a part of another, from its step 3 on"):
        session.branch(trace[3:], 5, token)
    branch = session.branch(trace, 10, 60, max_tokens=8)
    for part in (branch[5:15], branch[12:], trace[3:]):
        with pytest.raises(ValueError, match="its draws have moved: give the whole trace"):
            replay(part, ml.TopK(1), on=session)
    beginning = replay(branch[:15], ml.TopK(1), on=session)
    assert len(beginning.tokens) == 15


def test_rows_of_another_model_are_not_taken_for_those_of_the_trace(trace, tmp_path):
    without_rows = ml.Trace.from_dict(trace.to_dict())
    other = ml.Model.load(tiny.write(tmp_path / "other.gguf", seed=9))
    with other, other.session(n_ctx=128) as session:
        rows = TraceRows(without_rows, session)
        with pytest.raises(ValueError, match="another model of the same vocabulary"):
            rows.decode(range(len(trace)), lambda moment: None)


ALTERED = {
    "text_bytes": [-2, "x", 1.5],
    "seed": ["abc", -5, 1.5],
    "prompt_tokens": [[[1, 2]], [1.7], [-1]],
    "n_copied": [99, -1, "x"],
    "first_step": [-1],
    "n_kept": [["abc"] * 20, [[-2]] * 20],
    "states": [[[["x"]]] * 20],
    "finish_reason": [5],
    "seconds": ["x", -1.0, float("nan")],
    "seconds_to_first_token": ["x"],
}


@pytest.mark.parametrize(("name", "value"), [(n, v) for n, vs in ALTERED.items() for v in vs])
def test_a_dict_with_what_no_trace_has_is_refused(trace, name, value):
    data = trace.to_dict()
    assert ml.Trace.from_dict(data) == trace
    with pytest.raises(ValueError, match=r"not a dict that Trace\.to_dict made"):
        ml.Trace.from_dict({**data, name: value})


@pytest.mark.parametrize(
    ("name", "value"),
    [("rank", -5), ("logprob", 5.0), ("token", -1), ("token", 1.9), ("logprob", float("nan"))],
)
def test_columns_with_what_no_step_has_are_refused(trace, name, value):
    data = trace.to_dict()
    data["columns"][name][3] = value
    with pytest.raises(ValueError, match=r"not a dict that Trace\.to_dict made"):
        ml.Trace.from_dict(data)


@pytest.mark.parametrize("firsts", [[-3], [0, -3], [0, 5, 5], [1]])
def test_chains_that_are_not_in_order_are_refused(trace, firsts):
    data = {**trace.to_dict(), "chains": [[first, CHAIN.to_dict()] for first in firsts]}
    with pytest.raises(ValueError, match=r"not a dict that Trace\.to_dict made"):
        ml.Trace.from_dict(data)


BIG = "long " * 100_000
OF_A_BIG_VALUE = {
    "prompt": lambda session, trace: session.generate({BIG: 1}),
    "max_tokens": lambda session, trace: session.generate("a", max_tokens=BIG),
    "seed": lambda session, trace: session.generate("a", seed=BIG),
    "stop": lambda session, trace: session.generate("a", stop=[BIG, 5.0]),
    "chain": lambda session, trace: session.generate("a", BIG),
    "branch": lambda session, trace: session.branch(trace, 0, BIG),
    "sequence": lambda session, trace: session.logits("a", sequence=BIG),
    "message": lambda session, trace: session.chat([BIG]),
    "setting": lambda session, trace: session.model.session(kv_type=BIG),
    "number": lambda session, trace: session.model.session(n_ctx=BIG),
    "stage": lambda session, trace: ml.Chain([BIG]),
    "stages": lambda session, trace: ml.Chain.from_dict({"stages": BIG}),
    "stage's name": lambda session, trace: ml.Chain.from_dict({"stages": [{"stage": BIG}]}),
    "stage's settings": lambda session, trace: ml.Chain.from_dict(
        {"stages": [{"stage": "TopK", BIG: 1}]}
    ),
    "k": lambda session, trace: ml.TopK(BIG),
    "t": lambda session, trace: ml.Temperature(BIG),
    "biases": lambda session, trace: ml.LogitBias(BIG),
    "mask": lambda session, trace: ml.Mask(allow=BIG),
    "masked": lambda session, trace: ml.Mask(allow=[BIG]),
    "breakers": lambda session, trace: ml.DRY(breakers=[BIG]),
    "function": lambda session, trace: ml.Custom(BIG),
    "file": lambda session, trace: ml.Model.load(BIG),
    "address": lambda session, trace: ml.Model.load("hf:" + BIG),
    "trace": lambda session, trace: ml.Trace.from_dict({"tokens": BIG}),
    "replay": lambda session, trace: replay(trace, CHAIN, on=BIG),
}


@pytest.mark.parametrize("what", OF_A_BIG_VALUE)
def test_a_message_holds_no_more_of_a_big_value_than_tells_it(session, trace, what):
    with pytest.raises((ValueError, TypeError, AttributeError, MullamaError)) as raised:
        OF_A_BIG_VALUE[what](session, trace)
    assert 10 < len(str(raised.value)) < 1000


class Mute:
    def __repr__(self):
        raise OSError("no words")


DEEP = []
for _ in range(200_000):
    DEEP = [DEEP]
UNWRITABLE = {"<list>": DEEP, r"about 2\*\*70000": 2**70_000, "<Mute>": Mute()}


@pytest.mark.parametrize("said", UNWRITABLE)
def test_a_message_tells_a_value_that_python_itself_cannot_write(session, said):
    value = UNWRITABLE[said]
    for call in (
        lambda: ml.TopK(value),
        lambda: ml.Mask(ban=[value]),
        lambda: session.generate("a", seed=value),
        lambda: session.model.piece(value),
        lambda: session.model.session(n_ctx=value),
    ):
        with pytest.raises((ValueError, TypeError), match=said):
            call()


@pytest.mark.parametrize("n", [10**9, 10**30])
def test_a_list_that_nobody_means_is_refused_before_it_is_gone_through(session, n):
    for call in (
        lambda: ml.Mask(allow=range(n)),
        lambda: ml.DRY(breakers=range(n)),
        lambda: ml.Chain(range(n)),
        lambda: session.generate("a", stop=range(n)),
        lambda: CHAIN.preview(session.logits("a"), model=session.model, state=range(n)),
        lambda: ml.studies.seeds.seed_fan("a", on=session, seeds=range(n)),
        lambda: ml.studies.sweeps.sweep([range(n)], CHAIN, on=session),
    ):
        with pytest.raises((ValueError, TypeError), match="has more than|must be"):
            call()


@pytest.mark.parametrize("value", [np.zeros(3), np.array([None, "a"], object), np.float64(1), "a"])
def test_what_is_no_stage_neither_joins_a_chain_nor_is_in_it(value):
    for join in (
        lambda: CHAIN | value,
        lambda: value | CHAIN,
        lambda: CHAIN[0] | value,
        lambda: value | CHAIN[0],
    ):
        with pytest.raises(TypeError, match="unsupported operand|does not support ufuncs"):
            join()
    assert value not in CHAIN
    assert np.zeros(2, [("a", "i4"), ("b", "f4")]) not in CHAIN


def test_a_stage_is_found_by_its_place():
    assert CHAIN[-1] == ml.Temperature(0.8) and CHAIN[:1] == ml.Chain([ml.TopK(40)])
    for wrong in ("a", 0.5, np.zeros(2), slice("a", None)):
        with pytest.raises(TypeError, match="a stage is found by its place, from 0 to 1"):
            CHAIN[wrong]
