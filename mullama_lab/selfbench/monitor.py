"""What a Monitor costs: tokens a second of a session with one beside it, against one without."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from mullama_lab.engine.model import Model
from mullama_lab.engine.stages import Chain, Mask
from mullama_lab.selfbench.bare_loop import PROMPT
from mullama_lab.selfbench.table import Row
from mullama_lab.selfbench.turns import in_turns_afresh, speeds
from mullama_lab.studies.monitor import Monitor

N_TOKENS = 256  # some intervals of a monitor
N_WARM = 4  # of a fresh context that are not counted
PAIRS = 13
INTERVAL = 0.5  # seconds, as it is by itself
TARGET = 0.99


def rows(model: Model) -> Iterator[Row]:
    """One row: both medians, and the median of the ratios."""
    pairs = in_turns_afresh(PAIRS, lambda: _monitored(model), lambda: _alone(model))
    what = f"{model.source}: monitor at {INTERVAL:g} s: tokens/s with against without"
    yield speeds(what, pairs, TARGET)


@contextmanager
def _alone(model: Model) -> Iterator[Callable[[], float]]:
    ends = tuple(token for token in model.special_tokens.values() if model.is_eog(token))
    chain = Mask(ban=ends) | Chain.default() if ends else Chain.default()
    with model.session(n_ctx=1024) as session:

        def speed(n: int) -> float:
            trace = session.generate(PROMPT, chain, max_tokens=n, seed=7)
            if trace.finish_reason != "length":
                raise RuntimeError(f"the text ended after {len(trace)} tokens; the bench needs {n}")
            return trace.tokens_per_second

        speed(N_WARM)
        yield lambda: speed(N_TOKENS)


@contextmanager
def _monitored(model: Model) -> Iterator[Callable[[], float]]:
    with _alone(model) as speed:

        def beside() -> float:
            with Monitor(model, interval=INTERVAL):
                return speed()

        yield beside
