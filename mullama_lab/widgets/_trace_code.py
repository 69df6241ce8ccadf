"""A trace as the Python that makes it again: generated, branched off another one, or given."""

from __future__ import annotations

from collections.abc import Sequence

from mullama_lab.engine.stages.schedule import Schedule
from mullama_lab.engine.trace import Trace
from mullama_lab.engine.trace.divergence import n_shared
from mullama_lab.engine.tree.nodes import Branch
from mullama_lab.widgets._cards import chain_code


def trace_code(trace: Trace, prompt: str, made: Sequence[Branch] = ()) -> str:
    """An expression that gives a trace, once `ml` and `session` are there.

    Args:
        prompt: the code of its prompt.
        made: branches that there are already, each as `path` and its number.
    """
    n_given = n_given_of(trace)  # the last of these steps is where it branched off
    n_drawn = len(trace) - n_given
    run = run_code(Schedule.of(trace.schedule, n_given), n_drawn, trace.seed)
    if not n_given:
        return f"session.generate({prompt}, {run})"
    before = max(0, len(trace.prompt_tokens) - 1)  # a score begins after the first token
    given = f"session.score({trace.history(n_given).tolist()})" + (f"[{before}:]" if before else "")
    if not n_drawn:
        return given
    step = n_given - 1
    alike = (b for b in made if len(b) > step and n_shared(b.trace.tokens, trace.tokens) >= step)
    other = next(alike, None)
    parent = given if other is None else f"path{other.number}"
    return f"session.branch({parent}, {step}, {int(trace.tokens[step])}, {run})"


def run_code(schedule: Schedule, max_tokens: int, seed: int | None) -> str:
    """The arguments of a generation, but for what it goes on from."""
    return f"{schedule_code(schedule)}, max_tokens={max_tokens}, seed={seed}"


def schedule_code(schedule: Schedule) -> str:
    """A chain as code; where it changes on the way a dict of chains by steps."""
    if not schedule.changes:
        return chain_code(schedule.last)
    return f"{{{', '.join(f'{first}: {chain_code(c)}' for first, c in schedule.items())}}}"


def has_learnt(trace: Trace) -> bool:
    """Whether a stage of a branch went on with what it had learnt of the tokens before it.

    The code gives those tokens, and then such a stage (mirostat, adaptive-p) begins anew.
    """
    n = trace.n_copied
    if not 0 < n < len(trace):
        return False
    before, after = trace.chain_at(n - 1), trace.chain_at(n)
    return any(stage in after.stages and known for stage, known in zip(before, trace.state(n - 1)))


def n_given_of(trace: Trace) -> int:
    """How many steps at the beginning cannot be drawn again, and are given.

    The steps that a branch copied, all of a scored text, and all of a slice of a trace: a draw
    depends on the number of its step, and a slice would begin again at the first.
    """
    is_part = trace.first_step > 0 and trace.seed is not None
    return len(trace) if is_part or trace.finish_reason == "scored" else trace.n_copied
