"""A reader follows one token from `session.generate` to `llama_decode` through seven functions."""

from __future__ import annotations

import sys
from pathlib import Path

import mullama_lab
from mullama_lab.engine import loop, tiny
from mullama_lab.engine.native import batch
from mullama_lab.engine.session import Session
from mullama_lab.engine.stages import Mask
from mullama_lab.engine.work import Work

PROJECT = Path(mullama_lab.__file__).parent


def functions_here():
    """The project's functions that are being called on this thread, the outermost first."""
    found, frame = [], sys._getframe(1)
    while frame is not None:
        code = frame.f_code
        if PROJECT in Path(code.co_filename).parents:
            found.append(code)
        frame = frame.f_back
    return found[::-1]


def test_a_token_comes_from_generate_to_llama_decode_through_seven_functions(session, monkeypatch):
    """What counts is what is being called when it happens, on each side of the queue.

    On the thread that asks: every function of the project from `Session.generate` down to the one
    that queues the lane, while it does. On the worker: every function from its loop down to the
    one that calls `llama_decode`, while it computes the token of a step. Only the decorator of
    `generate` is left out, which spells its parameters; a lambda would be too, and there is none.
    Neither are those counted that have returned by then, such as what makes the lane of the
    request, or come after the row, such as `take`, which draws.
    """

    def given_to(work, worker):
        asking.append(functions_here())
        to_worker(work, worker)

    def decode(context, tokens):
        at_work.append((tokens.n_tokens, functions_here()))
        return to_llama(context, tokens)

    asking, at_work = [], []
    to_worker, to_llama = Work.given_to, batch.C.llama_decode
    monkeypatch.setattr(Work, "given_to", given_to)
    monkeypatch.setattr(batch.C, "llama_decode", decode)
    session.generate("abc", Mask(ban=(tiny.EOS,)), max_tokens=3, seed=1)
    decorator = Session.generate.__code__
    (here,) = asking
    assert here[0] is decorator
    sizes, ways = zip(*at_work, strict=True)
    assert sizes == (3, 1, 1, 1)  # "abc" after the token that begins a text, its last one alone
    assert len(set(map(tuple, ways))) == 1  # a prompt goes the way of a step's token
    way = [code for code in [*here, *ways[-1]] if code is not decorator]
    assert "<lambda>" not in {code.co_name for code in way}
    assert len(way) <= 7, [f"{Path(code.co_filename).stem}.{code.co_name}" for code in way]
    for code in way:  # the account of it names each
        assert f"{code.co_name}`" in (loop.__doc__ or "")
