"""Many texts side by side: each as it would be alone, in fewer batches."""

from __future__ import annotations

import threading

import numpy as np
import pytest

from mullama_lab.engine import tiny
from mullama_lab.engine.stages import (
    Chain,
    Custom,
    Mask,
    MinP,
    MirostatV2,
    Penalties,
    Temperature,
    TopK,
)
from mullama_lab.errors import ClosedError, ContextFull, SessionError, StageFailed

NO_END = Chain([Mask(ban=[tiny.EOS])])
PROMPT = [1, *range(10, 50)]
A = ord("a") + 3


@pytest.fixture
def session(tiny_model):
    with tiny_model.session(n_ctx=1024, n_threads=1, n_seq_max=4) as session:
        yield session


def texts(traces):
    return [trace.tokens.tolist() for trace in traces]


def test_each_text_is_what_it_would_be_alone(any_model):
    prompts = [[1, 20 + i % 3, *range(30, 30 + i)] for i in range(7)]
    chains = [NO_END, NO_END | TopK(3), NO_END | Penalties(1.5) | MirostatV2()] * 2 + [NO_END]
    options = {"n_ctx": 1024, "n_threads": 1, "reproducible": True}
    with any_model.session(n_seq_max=4, **options) as session:
        together = session.generate_many(prompts, chains, max_tokens=12, seeds=range(7))
        assert [t.prompt_tokens.tolist() for t in together] == prompts
        alone = [
            session.generate(prompt, chain, max_tokens=12, seed=seed)
            for seed, (prompt, chain) in enumerate(zip(prompts, chains, strict=True))
        ]
    assert texts(together) == texts(alone)
    for one, other in zip(together, alone, strict=True):
        np.testing.assert_array_equal(one.logprob, other.logprob)
        np.testing.assert_array_equal(one.logprob_after, other.logprob_after)
        assert one.canonical.all() and other.canonical.all()
        assert one.n_kept.tolist() == other.n_kept.tolist()
        assert (one.chains, one.seed, one.finish_reason) == (other.chains, other.seed, "length")


def test_seeds_of_one_prompt_decode_it_once_and_share_its_first_row(session):
    traces = session.generate_many(PROMPT, NO_END, max_tokens=5, seeds=range(4))
    ledger = session.ledger
    assert (ledger.decoded, ledger.batches) == (len(PROMPT) + 4 * 4, 2 + 4)
    assert [t.n_prompt_decoded for t in traces] == [len(PROMPT), 0, 0, 0]
    assert [t.n_prompt_reused for t in traces] == [0, *[len(PROMPT)] * 3]
    assert len({t.logsumexp[0] for t in traces}) == 1
    assert [t.seed for t in traces] == [0, 1, 2, 3]


def test_more_texts_than_sequences_follow_as_sequences_come_free(session):
    together = session.generate_many(PROMPT, NO_END, max_tokens=6, seeds=range(11))
    alone = [session.generate(PROMPT, NO_END, max_tokens=6, seed=seed) for seed in range(11)]
    assert texts(together) == texts(alone)
    assert {len(t) for t in session.sequences.values()} == {len(PROMPT) + 5}


def test_one_sequence_is_enough(tiny_model):
    with tiny_model.session(n_ctx=256, n_threads=1, n_seq_max=1) as session:
        traces = session.generate_many(["a", "b"], NO_END, max_tokens=5, seeds=3)
        assert texts(traces) == texts(
            session.generate(p, NO_END, max_tokens=5, seed=3) for p in "ab"
        )


def test_texts_that_would_not_fit_together_follow_each_other(tiny_model):
    with tiny_model.session(n_ctx=256, n_threads=1, n_seq_max=4) as session:
        traces = session.generate_many(PROMPT, NO_END, max_tokens=100, seeds=range(4))
        assert [(len(t), t.finish_reason) for t in traces] == [(100, "length")] * 4
        alone = [session.generate(PROMPT, NO_END, max_tokens=10, seed=s) for s in range(4)]
        assert [t[:10] for t in texts(traces)] == texts(alone)


def test_a_text_with_no_limit_goes_on_until_the_context_is_full(tiny_model):
    with tiny_model.session(n_ctx=256, n_threads=1, n_seq_max=2) as session:
        traces = session.generate_many(PROMPT, NO_END, max_tokens=9999, seeds=range(2))
        assert [(len(t), t.finish_reason) for t in traces] == [(256 - 41 + 1, "context")] * 2


def test_sequences_that_a_caller_keeps_are_left_alone(session):
    session.logits(PROMPT)
    kept = [session.fork(), session.fork(n_tokens=3)]
    before = {s: session.sequences[s].tolist() for s in kept}
    traces = session.generate_many([5, 6, 7], NO_END, max_tokens=5, seeds=range(6))
    assert [len(t) for t in traces] == [5] * 6
    assert {s: session.sequences[s].tolist() for s in kept} == before
    session.fork(kept[0])
    for sequence in (*kept, 3):
        assert len(session.sequences[sequence])
    assert len(session.generate_many("x", NO_END, max_tokens=3, seeds=range(2))) == 2


def test_stop_strings_ends_and_numbers_are_each_texts_own(session):
    chains = [
        Mask(allow=[A]),
        Mask(allow=[tiny.EOS]),
        NO_END,
    ]
    traces = session.generate_many("x", chains, max_tokens=8, seeds=1, stop="aaa", top=5)
    assert [t.finish_reason for t in traces] == ["stop", "eog", "length"]
    assert [len(t) for t in traces] == [3, 1, 8]
    assert traces[0].text == ""
    assert {t.top_ids.shape[1] for t in traces} == {5}


def test_a_chain_that_fails_ends_its_text_alone(session):
    def fails(logits, history):
        if len(history) > len(PROMPT) + 2:
            raise RuntimeError("enough")
        return logits

    runs = session.start_many(PROMPT, [NO_END, NO_END | Custom(fails)], max_tokens=6, seeds=1)
    with pytest.raises(StageFailed, match="enough"):
        runs.wait(20)
    assert [run.state for run in runs] == ["finished", "failed"]
    assert [len(t) for t in runs.traces] == [6, 3]
    assert isinstance(runs[1].error, StageFailed)
    with pytest.raises(StageFailed, match="enough"):
        session.generate_many(PROMPT, [NO_END, NO_END | Custom(fails)], max_tokens=6, seeds=1)
    assert [len(t) for t in session.last_traces] == [6, 3]


def test_a_prompt_that_does_not_fit_is_refused_before_anything_begins(session):
    with pytest.raises(ContextFull, match="the prompt has 1025 tokens"):
        session.generate_many([[1], [1] * 1025], NO_END)
    assert session.n_decoded == 0


# Watched, changed and stopped.


def test_one_of_several_can_be_stopped_and_have_its_chain_changed(session, gate):
    runs = session.start_many(
        PROMPT, [NO_END | Custom(gate), NO_END, NO_END], max_tokens=30, seeds=1
    )
    assert gate.at_work.wait(20)
    runs[1].stop()
    runs[2].chain = Mask(allow=[A])
    gate.open.set()
    traces = runs.wait(20)
    assert [run.state for run in runs] == ["finished", "stopped", "finished"]
    assert [len(t) for t in traces] == [30, 0, 30]
    assert traces[2].text == "a" * 30
    assert repr(runs) == "<Runs: 3 of 3 ended>"
    assert runs.progress == (3, 3)


def test_all_of_several_can_be_stopped_and_have_their_chain_changed(session, gate):
    runs = session.start_many("x", [NO_END | Custom(gate), NO_END], max_tokens=900, seeds=1)
    assert gate.at_work.wait(20)
    with pytest.raises(ValueError, match="token 999"):
        runs.chain = Mask(allow=[999])
    with pytest.raises(ValueError, match="3 chains for 2 runs: give one, or one each"):
        runs.chain = [NO_END] * 3
    runs.chain = Mask(allow=[A])
    assert runs.chain == (Chain([Mask(allow=[A])]),) * 2
    runs.stop()
    gate.open.set()
    traces = runs.wait(20)
    assert {run.state for run in runs} == {"stopped"}
    assert all(len(t) <= 1 for t in traces)
    assert texts(session.generate_many("x", NO_END, max_tokens=3, seeds=[1, 1]))


def test_each_run_yields_its_steps_and_ends_when_it_ends(session):
    runs = session.start_many("x", NO_END, max_tokens=7, seeds=range(6))
    assert sorted(runs.as_ended()) == list(range(6))
    assert runs.done
    for run in runs:
        assert [step.token for step in run] == run.trace.tokens.tolist()
        assert run.progress == (2, 2)
        assert run.wait() is run.trace


def test_a_run_among_several_that_waits_for_a_sequence_can_be_stopped(tiny_model, gate):
    with tiny_model.session(n_ctx=256, n_threads=1, n_seq_max=1) as session:
        runs = session.start_many("x", [NO_END | Custom(gate), NO_END], max_tokens=5, seeds=1)
        assert gate.at_work.wait(20)
        assert [run.state for run in runs] == ["prompt", "queued"]
        runs[1].stop()
        gate.open.set()
        assert [len(t) for t in runs.wait(20)] == [5, 0]
        assert [run.state for run in runs] == ["finished", "stopped"]


def test_runs_of_a_session_that_closes_say_so(tiny_model, gate):
    session = tiny_model.session(n_ctx=256, n_threads=1)
    busy = session.start("x", NO_END | Custom(gate), max_tokens=1)
    assert gate.at_work.wait(20)
    runs = session.start_many("x", NO_END, seeds=range(2))
    threading.Timer(0.05, gate.open.set).start()
    session.close()
    busy.wait(20)
    with pytest.raises(ClosedError, match="closed before this could start"):
        runs.wait(20)
    assert [run.state for run in runs] == ["failed", "failed"]
    with pytest.raises(ClosedError, match=r"the session is closed\. Open another one"):
        session.generate_many("x", seeds=range(2))


def test_a_stage_cannot_wait_for_the_runs_it_is_part_of(session, gate):
    found = []

    def waits(logits, history):
        try:
            runs[0].wait()
        except SessionError as error:
            found.append(str(error))
        return logits

    runs = session.start_many(
        "x", [NO_END | Custom(gate) | Custom(waits), NO_END], max_tokens=1, seeds=1
    )
    gate.open.set()
    runs.wait(20)
    assert found == [
        "a Custom stage cannot wait for the session that is running it. "
        "Use a second session of the same model."
    ]


# One of each, or many.


def test_what_is_given_once_goes_with_all(session):
    many = session.generate_many(["a", "b"], TopK(1), max_tokens=2, seeds=5)
    assert [t.seed for t in many] == [5, 5]
    assert {t.chain for t in many} == {Chain([TopK(1)])}
    one = session.generate_many([1, A], TopK(3) | Temperature(2), max_tokens=2)
    assert [t.prompt_tokens.tolist() for t in one] == [[1, A]]
    assert one[0].chain == TopK(3) | Temperature(2)
    two = session.generate_many(np.array([1, A]), [TopK(1), None], max_tokens=2, seeds=None)
    assert [t.chain for t in two] == [Chain([TopK(1)]), Chain.default()]
    assert two[0].seed != two[1].seed
    mixed = session.generate_many([[1, 5], "b"], [[TopK(1)], NO_END], max_tokens=1, seeds=(1, 2))
    assert [t.prompt_tokens.tolist() for t in mixed] == [[1, 5], [1, ord("b") + 3]]


def test_a_list_of_stages_is_a_chain_for_each(session):
    two = session.generate_many(["Yes", "No"], [TopK(40), MinP(0.1)], max_tokens=2, seeds=7)
    assert [t.chain for t in two] == [Chain([TopK(40)]), Chain([MinP(0.1)])]
    assert [t.seed for t in two] == [7, 7]
    runs = session.start_many("Yes", (stage for stage in (TopK(40), MinP(0.1))), max_tokens=1)
    assert [t.chain for t in runs.wait()] == [Chain([TopK(40)]), Chain([MinP(0.1)])]
    alone = session.generate("Yes", [TopK(40), MinP(0.1)], max_tokens=1)
    assert alone.chain == TopK(40) | MinP(0.1)


@pytest.mark.parametrize(
    ("arguments", "error", "said"),
    [
        (
            (["a", "b"], [TopK(1), TopK(2), TopK(3)]),
            ValueError,
            "2 prompts, 3 chains, 1 grammars, 1 seeds",
        ),
        ((["a", "b"], [TopK(1)]), ValueError, "give one of chains, or 2. One for all is given alo"),
        ((["a"], None, [1, 2, 3]), ValueError, "give one of prompts, or 3. One for all is given"),
        (("a", []), ValueError, "no chain is given"),
        (
            (["a", "b"], None, [1, 2, 3]),
            ValueError,
            "2 prompts, 1 chains, 1 grammars, 3 seeds: give one of",
        ),
        (("a", [TopK(1), None], [1, 2, 3]), ValueError, "give one of chains, or 3"),
        (([],), ValueError, "no prompt is given"),
        (("a", None, []), ValueError, "no seed is given"),
        (("a", None, [1, -2]), ValueError, "seed=-2"),
        (("a", None, "12"), TypeError, "seed='12': it must be a whole number"),
        ((["a", 3.5],), TypeError, "a prompt is a text or a list of token ids, not float"),
        (([[1, 999]],), ValueError, "999"),
        (("a", [TopK(1), "b"]), TypeError, "not 'b'"),
        (("a", [Mask(allow=[999]), None]), ValueError, "token 999"),
        ((b"abc",), TypeError, "not bytes"),
    ],
)
def test_lists_that_do_not_go_together_are_refused(session, arguments, error, said):
    prompts, chains, seeds = (*arguments, None, None)[:3]
    with pytest.raises(error, match=said):
        session.generate_many(prompts, chains, seeds=seeds)
    assert session.n_decoded == 0
