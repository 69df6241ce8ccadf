"""A branch that cannot be is refused, by what is wrong with it, and nothing is decoded."""

from __future__ import annotations

import numpy as np
import pytest

from mullama_lab.engine import tiny
from mullama_lab.engine.stages import Mask
from mullama_lab.engine.trace import Trace
from mullama_lab.engine.trace.record import StepRecord
from mullama_lab.errors import ClosedError, ContextFull

NO_END = Mask(ban=[tiny.EOS])
A, Z = (ord(c) + 3 for c in "az")


@pytest.mark.parametrize(
    ("arguments", "error", "said"),
    [
        ((20, Z), ValueError, "step=20: it must be from 0 to 19"),
        ((-1, Z), ValueError, "step=-1: it must be from 0 to 19"),
        ((1.5, Z), TypeError, r"step=1\.5: it must be a whole number"),
        ((3, 259), ValueError, "259"),
        ((3, -1), ValueError, "-1"),
        ((3, 2.0), TypeError, r"2\.0"),
        ((3, "ab"), ValueError, r"'ab' is not one token but 2 \('a', 'b'\)\. Give the text of one"),
        ((3, ""), ValueError, r"'' is not one token but 0\. Give"),
        ((3, "é"), ValueError, "is not one token but 2"),
        ((3, "\ud800"), ValueError, "surrogate"),
    ],
)
def test_a_step_or_token_that_cannot_be_is_named(session, trace, arguments, error, said):
    decoded = session.n_decoded
    with pytest.raises(error, match=said):
        session.branch(trace, *arguments)
    assert session.n_decoded == decoded


def with_row(model, trace, step, row):
    """A trace whose record keeps another row of one step."""
    other = trace.begun(step, top=trace.top, seed=trace.seed, piece=model.piece)
    for i in range(step, len(trace)):
        standing = float(trace.logprob[i]), int(trace.rank[i])
        after = float(trace.logprob_after[i])
        token = int(trace.tokens[i])
        record = StepRecord.of_parent(
            model, trace, i, token, standing=standing, logprob_after=after
        )
        record.kept = row if i == step else record.kept
        other.append(record)
    other.finish_reason = trace.finish_reason
    return other


def test_a_token_that_the_row_cannot_have_is_refused(session, trace):
    ids, logits = trace.kept(4)
    without_z = ids, np.where(ids == Z, np.float32(-np.inf), logits)
    trace = with_row(session.model, trace, 4, without_z)
    with pytest.raises(ValueError, match=f"token {Z} cannot come at step 4: the model gives it no"):
        session.branch(trace, 4, Z)
    run = session.start_branch(trace, 4, Z)
    with pytest.raises(ValueError, match="Choose one that"):
        run.wait(20)
    assert (run.state, len(run.trace)) == ("failed", 4)
    assert session.branch(trace, 4, A, max_tokens=1).finish_reason == "length"


def test_what_is_no_trace_of_this_model_is_refused(session, trace, tmp_path):
    with pytest.raises(TypeError, match="a branch goes off from a Trace, not str"):
        session.branch("trace", 0, Z)
    with pytest.raises(ValueError, match="the trace has no steps"):
        session.branch(Trace(prompt_tokens=[1]), 0, Z)
    data = trace.to_dict()
    data["pieces"][2] = b"other".hex()
    with pytest.raises(ValueError, match="made with another vocabulary than that of tiny"):
        session.branch(Trace.from_dict(data), 4, Z)
    data = trace.to_dict()
    data["prompt_tokens"][1] = 10**6
    with pytest.raises(ValueError, match="another vocabulary"):
        session.branch(Trace.from_dict(data), 4, Z)


def test_a_branch_of_a_closed_session_is_refused(tiny_model, trace):
    other = tiny_model.session(n_ctx=256)
    other.close()
    with pytest.raises(ClosedError, match=r"the session is closed\. Open another one"):
        other.branch(trace, 0, Z)


def test_branches_beside_sequences_that_fill_the_cache_are_refused(tiny_model):
    with tiny_model.session(n_ctx=256, n_threads=1, n_seq_max=3) as session:
        trace = session.generate([1, *range(10, 50)], NO_END, max_tokens=3, seed=3)
        session.logits([1, *[5] * 215])
        session.fork()
        with pytest.raises(ContextFull, match=r"session\.remove"):
            session.branch(trace, 2, Z)
        session.remove(1)
        assert session.branch(trace, 2, Z, max_tokens=2).finish_reason == "length"
