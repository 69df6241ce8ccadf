"""MemoryMap: its parts add up, what is shared counts once, and it follows the session."""

from __future__ import annotations

import threading

import pytest
from page import text_of

import mullama_lab as ml
from mullama_lab.engine.memory import Buffer, Memory, ProcessMemory
from mullama_lab.errors import ClosedError
from mullama_lab.widgets import MemoryMap, memory_map
from mullama_lab.widgets._memory_parts import wholes_of

ENDLESS = ml.Mask(ban=range(5)) | ml.Greedy()
MB = 1_000_000


@pytest.fixture
def session(tiny_model):
    with tiny_model.session(n_ctx=256, n_seq_max=4, n_threads=1) as session:
        yield session


@pytest.fixture
def view(session):
    view = MemoryMap(session)
    view.settle()
    yield view
    view.close()


PROCESS = ProcessMemory(30 * MB, 50 * MB, 20 * MB, 15 * MB)


def by_hand(process=PROCESS, **more):
    buffers = (
        Buffer("weights", "CPU_Mapped", 20 * MB),
        Buffer("kv", "CPU", 8 * MB),
        Buffer("compute", "CPU", 4 * MB),
    )
    return Memory(buffers, process, **more)


def part(view, label, of=1):
    (found,) = [one["bytes"] for one in view.wholes[of]["parts"] if one["label"] == label]
    return found


def sizes(whole):
    return {part["label"]: part["bytes"] / MB for part in whole["parts"]}


def test_each_whole_is_the_sum_of_its_parts():
    held = by_hand(sequences={0: 2 * MB, 3: MB}, shared_bytes=3 * MB)
    buffers, cache, process = wholes_of(held)
    assert sizes(buffers) == {"weights": 20, "KV cache": 8, "compute": 4}
    assert sizes(cache) == {"shared": 3, "sequence 0": 2, "sequence 3": 1, "free": 2}
    assert sizes(process) == {
        "model file": 15,
        "all else": 15,
        "more at peak": 20,
    }
    assert process["note"] == (
        "30 MB in memory now, of 50 MB at most; 5 MB of the file is read when it is used"
    )
    assert (cache["words"], cache["note"]) == (
        "8 MB",
        "what several sequences share is counted once",
    )
    for whole in (buffers, cache, process):
        assert whole["total"] == sum(part["bytes"] for part in whole["parts"])


def test_what_the_system_does_not_tell_is_not_invented():
    *_, process = wholes_of(by_hand(ProcessMemory(None, None, None, None)))
    assert (process["total"], process["words"], process["parts"]) == (None, "n/a", [])
    *_, process = wholes_of(by_hand(ProcessMemory(30 * MB, None, None, None)))
    assert sizes(process) == {"all else": 30} and "not known" in process["note"]


def test_many_sequences_are_the_largest_and_the_others_together():
    _, cache, _ = wholes_of(by_hand(sequences={k: (k + 1) * 10_000 for k in range(9)}))
    labels = [part["label"] for part in cache["parts"]]
    assert labels == [*(f"sequence {k}" for k in range(3, 9)), "3 more sequences", "free"]
    assert sizes(cache)["3 more sequences"] == pytest.approx(0.06)


def test_parts_of_the_cache_differ_in_colour():
    _, cache, _ = wholes_of(by_hand(sequences={0: MB, 7: MB, 8: MB}))
    assert [part["look"] for part in cache["parts"]] == [0, 7, 1, "free"]
    _, cache, _ = wholes_of(by_hand(sequences=dict.fromkeys(range(8, 16), MB), shared_bytes=MB))
    looks = [part["look"] for part in cache["parts"]]
    assert len(set(looks)) == len(looks) and looks[-2:] == ["others", "free"]


def test_devices_are_named_where_there_are_several():
    buffers, *_ = wholes_of(
        Memory(
            (Buffer("weights", "CUDA0", 5 * MB), Buffer("weights", "CPU", MB)),
            ProcessMemory(None, None, None, None),
        )
    )
    assert sizes(buffers) == {"weights on CUDA0": 5, "weights on CPU": 1}
    assert buffers["note"] == "" and wholes_of(by_hand())[0]["note"] == "all on CPU"


def test_a_prefix_that_two_sequences_share_counts_once(session, view, until):
    session.generate("Hello there", ENDLESS, max_tokens=4)
    until(lambda: view.memory.used_bytes > 0)
    alone = view.memory.used_bytes
    session.fork()
    until(lambda: len(view.memory.sequences) == 2)
    assert view.memory.used_bytes == alone
    assert part(view, "shared") == alone == session.memory.shared_bytes
    assert part(view, "free") == view.memory.kv_bytes - alone


def test_it_follows_whatever_changes_the_cache(session, view, until):
    assert part(view, "free") == view.wholes[1]["total"], "nothing is in it yet"
    for act in (lambda: session.logits("Hello"), lambda: session.generate_many(["a", "b"])):
        act()
        until(lambda: view.memory.used_bytes == session.memory.used_bytes > 0)
        session.reset()
        until(lambda: view.memory.used_bytes == 0)


def test_it_follows_a_run_that_goes_on(session, view, until, monkeypatch):
    monkeypatch.setattr(memory_map, "DURING_A_RUN", 0.0)
    goes_on = threading.Event()
    session.on_start(  # held up at this token
        lambda run: run.on_step(lambda step: step.index == 9 and goes_on.wait(60))
    )
    run = session.start("Hello", ENDLESS, max_tokens=200)
    until(lambda: view.memory.used_bytes > 0)
    assert not run.done
    goes_on.set()
    n = len(run.wait())
    until(lambda: view.memory.used_bytes == session.memory.used_bytes and n == 200)


def test_it_follows_a_run_that_was_under_way_already(session, until, monkeypatch):
    monkeypatch.setattr(memory_map, "DURING_A_RUN", 0.0)
    asked, begun, goes_on = threading.Event(), threading.Event(), threading.Event()

    def hold_up(step):
        asked.wait(60)
        if other.done and not begun.is_set():
            begun.set()
            goes_on.wait(60)

    undo = session.on_start(lambda run: run.on_step(hold_up))
    run = session.start("Hello", ENDLESS, max_tokens=200)
    undo()
    other = session.start("Hello", ENDLESS, max_tokens=1)  # ends before the first
    asked.set()
    assert begun.wait(60) and session.runs == [run]
    view = MemoryMap(session)
    view.settle()
    before, seen = view.memory.used_bytes, threading.Event()
    run.on_step(lambda step: step.index == 99 and seen.wait(60))
    goes_on.set()
    until(lambda: view.memory.used_bytes > before)
    assert not run.done
    seen.set()
    run.wait()
    assert session.runs == []
    view.close()


def test_put_to_soon_raises_nothing_and_says_what_there_is(session, until):
    view = MemoryMap()
    view.put_to_soon(session)
    assert view.name == session.model.name
    until(lambda: view.memory is not None)
    session.close()
    other = MemoryMap()
    other.put_to_soon(session)
    until(lambda: "the session is closed" in other.problem)
    assert other.wholes == [] and "the session is closed" in text_of(other)


def test_a_cell_that_shows_it_waits_for_what_is_on_its_way(session):
    view = MemoryMap()
    view.put_to_soon(session)
    view._wait_to_show(60)
    assert view.wholes


def test_a_session_that_was_closed_stays_in_sight_with_the_reason(session, view, until):
    before = view.memory
    session.close()
    until(lambda: "closed" in view.problem)
    assert view.memory is before and view.wholes
    assert text_of(view).splitlines()[0] == view.problem
    assert view.problem in view._repr_mimebundle_()[0]["text/html"]
    with pytest.raises(ClosedError):
        MemoryMap(session)
    with pytest.raises(ClosedError):
        view.put_to(session)
    view.put_to(None)
    assert (view.memory, view.wholes, view.problem, repr(view)) == (None, [], "", "MemoryMap()")


def test_it_is_told_nothing_more_of_a_session_it_was_put_away_from(session, view, tiny_model):
    with tiny_model.session(n_ctx=512, n_threads=1) as other:
        view.put_to(other)
        session.logits("Hello")
        view.settle()
        assert view.memory.kv_bytes == other.memory.kv_bytes > session.memory.kv_bytes
        assert view.memory.used_bytes == 0
        view.put_to(None)
    with pytest.raises(TypeError, match="must be a Session"):
        view.put_to(tiny_model)


def test_its_still_forms_say_what_is_shown(session, view, until):
    session.logits("Hello")
    until(lambda: view.memory.used_bytes)
    text = text_of(view)
    assert text.splitlines()[0] == repr(view) and "of the cache in use)" in repr(view)
    assert "KV cache  sequence 0" in text
    assert "Process" not in text, "which differs from run to run"
    html = view._repr_mimebundle_()[0]["text/html"]
    assert "Process" in html and "<script" not in html and len(html) < 6000
    MemoryMap()._repr_mimebundle_()
