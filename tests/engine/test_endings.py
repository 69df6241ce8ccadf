"""However it ends: closed, collected, interrupted, forked, or with the interpreter itself."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
import textwrap
import time
import weakref

import pytest

from mullama_lab.engine import tiny
from mullama_lab.engine.model import Model
from mullama_lab.engine.native import context as native_context
from mullama_lab.engine.native import model as native_model
from mullama_lab.engine.stages import Chain, Mask
from mullama_lab.errors import ClosedError

NO_END = Chain([Mask(ban=[tiny.EOS])])


def test_closing_ends_the_run_and_refuses_what_waits(tiny_model, until):
    session = tiny_model.session(n_ctx=4096, n_threads=1)
    run = session.start("abc", NO_END, max_tokens=4000)
    waiting = session.start("abc", NO_END, max_tokens=5, sequence=0)
    job = session.start_logits("abc", sequence=0)
    until(lambda: len(run.trace) > 2)
    session.close()
    assert (run.state, run.wait().finish_reason) == ("stopped", "stopped")
    with pytest.raises(ClosedError, match="closed before this could start"):
        waiting.wait(5)
    assert (waiting.state, waiting.trace.finish_reason) == ("failed", "failed")
    with pytest.raises(ClosedError):
        job.result(5)
    assert run.trace[2].piece  # a trace outlives its session


def test_a_run_keeps_its_session_alive_until_it_ends(tiny_model, until):
    session = tiny_model.session(n_ctx=512, n_threads=1)
    gone = weakref.ref(session)
    run = session.start("abc", NO_END, max_tokens=300, seed=3)
    del session
    assert run.wait().finish_reason == "length"
    until(lambda: gc.collect() >= 0 and gone() is None)
    assert len(run.trace) == 300


def test_a_context_is_freed_before_its_model_even_when_both_are_garbage(
    tiny_path, monkeypatch, until
):
    made, freed = [], []  # those of other tests may be freed meanwhile

    def watch(module, make, free):
        new, end = getattr(module, make), getattr(module, free)

        def watched(*arguments, **options):
            found = new(*arguments, **options)
            made.append(found[0] if isinstance(found, tuple) else found)
            return found

        monkeypatch.setattr(module, make, watched)
        monkeypatch.setattr(module, free, lambda pointer: (freed.append(pointer), end(pointer)))

    watch(native_model, "load_model", "free_model")
    watch(native_context, "new_context", "free_context")
    for _ in range(5):
        made.clear()
        freed.clear()
        model = Model.load(tiny_path)
        ring = [model, model.session(n_ctx=256)]
        ring.append(ring)
        del model, ring
        until(lambda: gc.collect() >= 0 and set(made) <= set(freed))
        weights, context = made
        assert freed.index(context) < freed.index(weights)


def test_a_trace_needs_neither_its_session_nor_its_model(tiny_path, until):
    model = Model.load(tiny_path)
    reference = weakref.ref(model)
    trace = model.session(n_ctx=256).generate("abc", NO_END, max_tokens=5, seed=1, top=9)
    before = [trace[i].top for i in range(5)]
    model.close()
    assert [trace[i].top for i in range(5)] == before
    del model
    until(lambda: gc.collect() >= 0 and reference() is None)
    assert trace[4].top == before[4]
    assert all(piece != b"<%d>" % token for token, piece, _ in before[4])


# Interrupts, in a process of their own.

PRELUDE = """
import _thread, faulthandler, os, signal, sys, threading, time
faulthandler.dump_traceback_later(float(sys.argv[2]), exit=True)  # says where it hangs
from mullama_lab.engine.model import Model
from mullama_lab.engine.stages import Chain, Custom, Mask
model = Model.load(sys.argv[1])
session = model.session(n_ctx=1 << 16, n_batch=256, n_threads=1)
chain, long = Mask(ban=[2]), [100, 101, 100, 100, 101] * 8000

def interrupt_when(condition, how):
    def watch():
        while not condition():
            time.sleep(0.001)
        how()
    threading.Thread(target=watch, daemon=True).start()

def ctrl_c():
    os.kill(os.getpid(), signal.SIGINT)
"""


QUIET = "ignore::DeprecationWarning"  # Python 3.12 warns of every fork beside threads


# Run before the rest: `locks` has those that the project makes.
LOCKS = """
import sys, threading
locks, kinds = [], (threading.Lock, threading.RLock, threading.Condition)
def noted(kind):
    def make(*args):
        lock = kind(*args)
        if sys._getframe(1).f_globals["__name__"].startswith("mullama_lab."):
            locks.append(lock)
        return lock
    return make
threading.Lock, threading.RLock, threading.Condition = map(noted, kinds)
"""


def in_a_process(code, tiny_path, seconds=60, before=""):
    done = subprocess.run(
        [
            sys.executable,
            "-W",
            QUIET,
            "-c",
            before + PRELUDE + textwrap.dedent(code),
            str(tiny_path),
            str(seconds),
        ],
        capture_output=True,
        text=True,
        timeout=seconds + 30,
    )
    assert (done.returncode, done.stderr) == (0, ""), done.stderr
    return done.stdout.split()


@pytest.mark.parametrize("how", ["ctrl_c", "_thread.interrupt_main"])
def test_ctrl_c_keeps_the_session_usable_and_what_was_generated(tiny_path, how):
    code = f"""
    def decoding():
        n = session.n_decoded
        return lambda: session.n_decoded > n + 600

    calls = (
        lambda: session.generate("abc", chain, max_tokens=60000),
        lambda: session.generate(long, chain, max_tokens=5),
        lambda: session.logits(long),
        lambda: session.score(long),
        lambda: list(session.stream("abd", chain, max_tokens=60000)),
    )
    for call in calls:
        session.reset()
        session.last_trace = None
        interrupt_when(decoding(), {how})
        try:
            call()
        except KeyboardInterrupt:
            trace = session.last_trace
            print("none" if trace is None else trace.finish_reason, len(trace or ()) > 100)
        assert len(session.generate("xyz", chain, max_tokens=3)) == 3
        assert session.tokens.tolist() == (session.last_trace.history(2)).tolist()
    """
    assert in_a_process(code, tiny_path) == [
        *("stopped", "True"),
        *("stopped", "False"),
        *("none", "False"),
        *("stopped", "True"),
        *("stopped", "True"),
    ]


def test_ctrl_c_while_waiting_in_the_queue_leaves_the_other_run_alone(tiny_path):
    code = """
    go = threading.Event()
    def slow(logits, history):
        go.wait()
        return logits
    first = session.start("abc", Chain([chain, Custom(slow)]), max_tokens=1)
    interrupt_when(lambda: session.run is not first, ctrl_c)
    try:
        for step in session.stream("abc", chain):
            pass
    except KeyboardInterrupt:
        print(session.run.state, first.state)
    go.set()
    print(len(first.wait()))
    """
    assert in_a_process(code, tiny_path) == ["stopped", "prompt", "1"]


def test_sessions_and_models_may_go_in_any_order(tiny_path):
    code = """
    import gc
    del model, session
    for order in [0, 1, 2, "ring"] * 5:
        model = Model.load(sys.argv[1])
        session = model.session(n_ctx=256)
        held = [model, session, session.start("abc", chain, max_tokens=200)]
        del model, session
        if order == "ring":  # which only the cycle collector finds
            held.append(held)
        else:
            del held[order]
        gc.collect()
        del held
        gc.collect()
    print("all gone")
    """
    assert in_a_process(code, tiny_path) == ["all", "gone"]


def test_the_interpreter_waits_for_a_context_that_its_own_thread_frees(tiny_path):
    code = """
    import weakref
    from mullama_lab.engine.native import context as native
    real = native.free_context
    def slowly(handle):
        time.sleep(0.5)
        real(handle)
        print("freed", flush=True)
    native.free_context = slowly
    gone = weakref.ref(session)
    session.start("abc", chain, max_tokens=200)
    del session, model
    while gone() is not None: time.sleep(0.001)
    """
    assert in_a_process(code, tiny_path) == ["freed"]


@pytest.mark.parametrize(
    ("work", "ending"),
    [
        (
            "start('abc', chain, max_tokens=60000)",
            "while not len(run.trace) and not run.done: time.sleep(0.001)",
        ),
        (
            "start('abc', chain, max_tokens=60000)",
            "ring = [run, session, model]; ring.append(ring)",
        ),
        ("start(long, chain)", "del session, model; sys.exit(0)"),
        (
            "start_many(['abc'] * 8, chain, max_tokens=8000)",
            "while not all(len(each.trace) for each in run): time.sleep(0.001)\n"
            "assert all(each.state == 'running' for each in run)",
        ),
    ],
)
def test_the_interpreter_ends_quickly_and_quietly_while_runs_go_on(tiny_path, work, ending):
    says_when = "import atexit; atexit.register(lambda: print(time.time()))"  # runs first of all
    code = f"run = session.{work}\n{says_when}\n{ending}"
    (script_ended,) = in_a_process(code, tiny_path)
    assert time.time() - float(script_ended) < 15


def test_the_interpreter_ends_quickly_and_quietly_while_streams_are_half_read(tiny_path):
    code = """
    import asyncio, atexit
    async def begin(stream):
        async for step in stream: break
    stream, other = (session.stream("abc", chain, max_tokens=60000) for _ in range(2))
    next(stream)
    stream.close()
    asyncio.run(begin(other))
    third = session.stream("abc", chain, max_tokens=60000)
    other.close()
    next(third)
    ring = [other, third, session]; ring.append(ring)
    atexit.register(lambda: print(time.time()))
    """
    (script_ended,) = in_a_process(code, tiny_path)
    assert time.time() - float(script_ended) < 15


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork on this system")
def test_a_forked_child_is_told_to_open_its_own_session(tiny_path):
    code = """
    session.generate("abc", chain, max_tokens=2)
    child = os.fork()
    if child == 0:
        try:
            session.generate("abc", chain, max_tokens=2)
        except Exception as error:
            print(type(error).__name__, "fork" in str(error), flush=True)
        os._exit(0)
    os.waitpid(child, 0)
    print(len(session.generate("abc", chain, max_tokens=2)))
    """
    assert in_a_process(code, tiny_path) == ["ClosedError", "True", "2"]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork on this system")
def test_what_the_parent_has_in_flight_is_an_error_in_a_fork_and_no_wait(tiny_path):
    code = """
    import asyncio
    from concurrent.futures import ProcessPoolExecutor
    from multiprocessing import get_context

    run = session.start("abc", chain, max_tokens=60000)
    runs = session.start_many(["abc", "abd"], chain, max_tokens=5)
    job = session.start_logits(long[:8000])  # which waits for the room that the run may need
    async def awaited():
        await run
    WAYS = dict(
        wait=lambda: run.wait(), read=lambda: list(run), many=lambda: runs.wait(),
        part=lambda: runs[1].wait(), as_ended=lambda: list(runs.as_ended()),
        result=lambda: job.result(), awaited=lambda: asyncio.run(awaited()),
        step=lambda: run.step_or_end(59999), generate=lambda: session.generate("abc"),
    )
    def told(name):
        try:
            WAYS[name]()
        except Exception as error:
            return f"{type(error).__name__} {'fork' in str(error)} {run.state}".replace(" ", "-")

    def stopped(_):
        run.stop_and_wait(), runs.stop(), job.stop(), session.close(), model.close()
        return f"{run.state}-{run.done}"

    with ProcessPoolExecutor(1, mp_context=get_context("fork")) as pool:
        print(*pool.map(told, WAYS), *pool.map(stopped, [1]))
    print(run.state, run.done, runs[0].state)
    run.stop_and_wait()
    print(len(runs.wait()), len(job.result()))
    """
    *told, stopped, state, done, waits, n, _ = in_a_process(code, tiny_path)
    assert told == ["ClosedError-True-failed"] * 9
    assert (stopped, state, done, waits, n) == ("failed-True", "running", "False", "finished", "2")


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork on this system")
def test_no_lock_that_a_thread_holds_is_held_in_a_fork(tiny_path, tmp_path):
    tiny.write(tmp_path / "bpe.gguf", vocabulary="bpe")
    code = f"""
    from contextlib import ExitStack
    long, run = Model.load({str(tmp_path / "bpe.gguf")!r}), session.start("abc", max_tokens=0)
    run.wait()
    held, fork = threading.Event(), threading.Event()
    def hold():
        with ExitStack() as stack:
            for lock in locks:
                stack.enter_context(lock)
            held.set()
            fork.wait()
    threading.Thread(target=hold).start()
    held.wait()
    child = os.fork()
    if child == 0:
        print(len(long.tokenize("a" * 9000)) > 0, len(model.tokenize("abc")) > 0, flush=True)
        run.on_news(print)
        session.stop()
        os._exit(0)
    status = os.waitpid(child, 0)[1]
    fork.set()
    print(status, len(locks) > 8)
    """
    assert in_a_process(code, tiny_path, before=LOCKS) == ["True", "True", "0", "True"]


def test_a_thread_that_outlives_the_main_one_still_searches(tiny_path):
    code = """
    import numpy as np
    from mullama_lab.engine.multivector import maxsim
    rng = np.random.default_rng(0)
    documents = [rng.standard_normal((100, 64)).astype(np.float32) for _ in range(40)]
    query = documents[0][:32]
    alone = maxsim.scores(query, documents, n_threads=1)
    def search():
        threading.main_thread().join()
        print((maxsim.scores(query, documents, n_threads=2) == alone).all())
    threading.Thread(target=search).start()
    """
    assert in_a_process(code, tiny_path) == ["True"]


LARK = """'start: ' + '(A | "b"*) ' * 18_000 + '\\nA: /a+/'"""  # takes 0.15 seconds or more
REGEX = "'(a|b*)' * 3000"  # so does what may come first in it


@pytest.mark.parametrize(
    "work",
    [
        f"Grammar.lark({LARK})",
        f"Grammar.regex({REGEX}).examples(3)",
        f"session.generate('a', grammar=Grammar.regex({REGEX}))",
    ],
)
def test_ctrl_c_while_a_heavy_grammar_is_read_ends_the_process_soon(tiny_path, work):
    code = f"""
    import atexit
    from mullama_lab.engine.grammar import Grammar
    from mullama_lab.engine.memory.process import ProcessMemory
    def being_read():
        return any(thread.name == "mullama_lab grammar" for thread in threading.enumerate())
    interrupt_when(being_read, ctrl_c)
    began = time.time()
    atexit.register(lambda: print(began))
    try:
        {work}
    except KeyboardInterrupt:
        assert time.time() - began < 5
        print(ProcessMemory.now().peak_bytes // 1_000_000)
    """
    megabytes, began = in_a_process(code, tiny_path)
    assert time.time() - float(began) < 15
    assert int(megabytes) < 1000
