"""What tests of a tree share: traces made by hand, and traces of a model."""

from __future__ import annotations

import math

import numpy as np
import pytest

from mullama_lab.engine.rows.capture import RowFacts
from mullama_lab.engine.stages import Chain, Mask, Temperature, TopK
from mullama_lab.engine.trace import Trace
from mullama_lab.engine.trace.step import Facts
from mullama_lab.engine.tree import Tree

AB = Mask(allow=[b + 3 for b in b"ab"]) | Temperature(2.0)


@pytest.fixture(scope="session")
def by_hand():
    """A function that makes a trace: it wrote `text`, a letter a token, each with its chance."""

    def trace_of(text, prompt=(1, 2), chances=None, finish="length"):
        trace = Trace(prompt_tokens=prompt, chain=Chain([TopK(2)]), seed=0, top=2)
        for i, letter in enumerate(text.encode()):
            p = 0.5 if chances is None else chances[i]
            only = np.array([letter], np.int32), np.array([math.log(p)], np.float32)
            row = RowFacts(0.0, 0.0, np.array([], np.int32), np.array([], np.float32), *only)
            columns = {"token": letter, "logprob": math.log(p), "logprob_after": math.log(p) / 2}
            after = np.array([letter], np.int32), np.array([math.log(p) / 2], np.float32)
            trace.append(Facts(columns, bytes([letter]), bytes([letter]), row, *after, (1,), ((),)))
        trace.finish_reason = finish
        trace._piece_of = lambda token: bytes([token])
        trace.remember_pieces()
        return trace

    return trace_of


@pytest.fixture(scope="module")
def traces(tiny_model):
    with tiny_model.session(n_ctx=256, n_threads=1) as session:
        return [session.generate("x", AB, max_tokens=6, seed=seed, top=8) for seed in range(12)]


@pytest.fixture
def tree(traces):
    return Tree(traces)
