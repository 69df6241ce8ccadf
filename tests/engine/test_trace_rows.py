"""The rows of a trace: what is kept of them, and what is said where they would be needed."""

from __future__ import annotations

import pytest

from mullama_lab.engine import tiny
from mullama_lab.engine.stages import Mask
from mullama_lab.engine.trace import Trace
from mullama_lab.engine.trace_rows import TraceRows


@pytest.fixture(scope="module")
def bare(tiny_model):
    """A trace that was read back, so without the rows it kept."""
    with tiny_model.session(n_ctx=64, n_threads=1) as session:
        trace = session.generate("x", Mask(ban=[tiny.EOS]), max_tokens=9, seed=1)
    return Trace.from_dict(trace.to_dict())


@pytest.mark.parametrize(
    ("steps", "said"),
    [
        ([6], "step 6 needs its whole row, and the trace does not keep it. "
              "Pass a session to decode it again: on=model.session()."),
        ([8, 2], "2 steps (2, 8) need their whole rows, and the trace does not keep them. "
                 "Pass a session to decode them again: on=model.session()."),
        (range(9), "9 steps (0, 1, 2, 3, 4, 5, …) need their whole rows, and the trace does not "
                   "keep them. Pass a session to decode them again: on=model.session()."),
    ],
)  # fmt: skip
def test_rows_that_only_a_session_has_are_asked_for_in_whole_sentences(
    bare, tiny_model, steps, said
):
    with pytest.raises(ValueError) as caught:
        TraceRows(bare, tiny_model).decode(steps, lambda moment: None)
    assert str(caught.value) == said


def test_a_session_decodes_the_step_that_the_trace_does_not_keep(bare, tiny_model):
    assert TraceRows(bare, tiny_model).kept(6) is None
    with tiny_model.session(n_ctx=64, n_threads=1) as session:
        moment = TraceRows(bare, session).decoded(6)
        assert (moment.step, moment.source, moment.is_whole) == (6, "decoded", True)
        assert moment.choose(moment.sampler()) == bare.tokens[6]
