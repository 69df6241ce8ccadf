"""What tests of a tree share: traces made by hand, and traces of a model."""

from __future__ import annotations

import math

import numpy as np
import pytest

from mullama_lab.engine.stages import Chain, Mask, Temperature, TopK
from mullama_lab.engine.trace import Trace
from mullama_lab.engine.trace.record import StepRecord
from mullama_lab.engine.tree import Tree

AB = Mask(allow=[b + 3 for b in b"ab"]) | Temperature(2.0)


@pytest.fixture(scope="session")
def by_hand():
    """A function that makes a trace: it wrote `text`, a letter a token, each with its chance."""

    def piece(token):
        return bytes([token])

    def trace_of(text, prompt=(1, 2), chances=None, finish="length", given=False):
        trace = Trace(prompt_tokens=prompt, chain=Chain([TopK(2)]), seed=0, top=2, piece=piece)
        for i, letter in enumerate(text.encode()):
            p = 0.5 if chances is None else chances[i]
            trace.append(
                StepRecord(
                    token=letter,
                    piece=bytes([letter]),
                    text=bytes([letter]),
                    logprob=math.log(p),
                    logprob_after=math.log(p) / 2,
                    rank=0,
                    entropy=0.0,
                    logsumexp=0.0,
                    top_ids=np.array([letter], np.int32),
                    top_logprobs=np.array([math.log(p)], np.float32),
                    after_ids=np.array([letter], np.int32),
                    after_logprobs=np.array([math.log(p) / 2], np.float32),
                    n_kept=(1,),
                    state=((),),
                    forced=given,
                )
            )
        trace.finish_reason = finish
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
