"""A trace as the Python that makes it again: generated, branched off another one, or given."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypeAlias

from mullama_lab.engine.setting import Setting
from mullama_lab.engine.steering.steering import Steering
from mullama_lab.engine.trace import Trace
from mullama_lab.engine.trace.divergence import n_shared
from mullama_lab.engine.tree.nodes import Branch
from mullama_lab.widgets._cards import chain_code
from mullama_lab.widgets._session_code import steering_code

NOTHING = Steering()
Settings: TypeAlias = Mapping[int, Setting]  # by the step from which each is in force


def trace_code(
    trace: Trace, prompt: str, made: Sequence[Branch] = (), *, in_force: Steering = NOTHING
) -> str:
    """An expression that gives a trace, once `ml` and `session` are there.

    Args:
        prompt: the code of its prompt.
        in_force: what acts on the weights in `session`.
        made: branches that there are already, each as `path` and its number.
    """
    n_given = n_given_of(trace)  # the last of these steps is where it branched off
    n_drawn = len(trace) - n_given
    run = run_code(settings_from(trace, n_given), n_drawn, trace.seed, in_force)
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


def run_code(
    settings: Settings, max_tokens: int, seed: int | None, in_force: Steering = NOTHING
) -> str:
    """The arguments of a generation, but for what it goes on from."""
    return f"{settings_code(settings, in_force)}, max_tokens={max_tokens}, seed={seed}"


def settings_from(trace: Trace, first: int) -> Settings:
    """What was in force in a trace from a step on."""
    return {max(first, step): setting for step, setting in trace.settings}


def settings_code(settings: Settings, in_force: Steering = NOTHING) -> str:
    """A chain as code, or a Setting; where it changes on the way a dict of those by steps.

    Args:
        in_force: what acts on the weights in the session, so that chains need not say it.
    """
    plain = all(setting.steering == in_force for setting in settings.values())
    codes = {
        step: chain_code(one.chain) if plain else setting_code(one)
        for step, one in settings.items()
    }
    if len(codes) == 1:
        return next(iter(codes.values()))
    return f"{{{', '.join(f'{step}: {code}' for step, code in codes.items())}}}"


def setting_code(setting: Setting) -> str:
    """A Setting as Python under the name `ml`."""
    acting = steering_code(setting.steering)
    named = [f"{name}={code}" for name, code in acting.items()]
    return f"ml.Setting({', '.join([chain_code(setting.chain), *named])})"


def has_learnt(trace: Trace) -> bool:
    """Whether a stage of a branch went on with what it had learnt of the tokens before it.

    The code gives those tokens, and then such a stage (mirostat, adaptive-p) begins anew.
    """
    n = trace.n_copied
    if not 0 < n < len(trace):
        return False
    before, after = trace.chain_at(n - 1), trace.chain_at(n)
    return any(stage in after.stages and known for stage, known in zip(before, trace.state(n - 1)))


def was_decoded_anew(trace: Trace) -> bool:
    """Whether other weights computed a text anew on the way, which the code does not have done."""
    n_given = n_given_of(trace)
    return any(n_given < step < len(trace) and not one.stale for step, one in trace.in_force)


def n_given_of(trace: Trace) -> int:
    """How many steps at the beginning cannot be drawn again, and are given.

    The steps that a branch copied, all of a scored text, and all of a slice of a trace: a draw
    depends on the number of its step, and a slice would begin again at the first.
    """
    is_part = trace.first_step > 0 and trace.seed is not None
    return len(trace) if is_part or trace.finish_reason == "scored" else trace.n_copied
