"""What the grammars of a text cost: of the one in the strip, and of runs that are compared.

Beside it stands where a text under a grammar is not in the tokens that the tokenizer makes of it.

Of that in the strip it is found aside, once its run has ended.

Only what the trace kept is asked, never the session: where that was too little there are bounds.
"""

from __future__ import annotations

import math
import weakref

import numpy as np
from numpy.typing import NDArray

from mullama_lab.engine.latest_only import LatestOnly
from mullama_lab.engine.trace import Trace
from mullama_lab.errors import MullamaError
from mullama_lab.labs._desk import Desk
from mullama_lab.studies.grammar_tax import GrammarTax, grammar_tax
from mullama_lab.studies.tokenization import Tokenization, tokenization
from mullama_lab.widgets._compare import Cost
from mullama_lab.widgets._kept import weakly

ENDED = ("finished", "stopped", "failed")  # states of a strip whose text grows no more


class Costs:
    """Gives a desk's strip and panel what the grammars cost in the texts that they show."""

    def __init__(self, desk: Desk) -> None:
        self._desk = weakref.ref(desk)
        self._latest = LatestOnly("grammar-costs", _unknown)
        weakref.finalize(desk, self._latest.close).atexit = False
        desk.panel.costs_with(weakly(self._of))

    def find(self) -> None:
        """The strip shows another text, or its text has ended."""
        self._latest.drop()
        desk = self._desk()
        trace = None if desk is None else ended_text(desk)
        if desk is None or trace is None or not trace.schedule.constrains:
            return
        model, strip = desk.session.model, desk.strip

        def work() -> None:
            n = len(trace)
            wanted, logprob = np.full(n, -1, np.int32), np.full(n, np.nan)
            try:
                tax = grammar_tax(trace, on=model)
                cost, wanted, logprob = _cost(tax), tax.wanted, tax.wanted_logprob
            except (MullamaError, ValueError) as error:
                cost = Cost.unknown(n, error)
            strip.show_costs(
                trace,
                nats=cost.nats,
                nats_high=cost.nats_high,
                wanted=wanted,
                wanted_logprob=logprob,
                said=cost.said,
            )
            cut = tokenization(trace, on=model)
            if cut.splits:
                prob, words = _of_splits(cut)
                strip.show_tokenizer(trace, prob=prob, words=words, said=cut.summary())

        self._latest.submit(work)

    def _of(self, trace: Trace) -> Cost | None:
        """What the grammars of a trace cost; None where it had none."""
        desk = self._desk()
        if desk is None or not len(trace) or not trace.schedule.constrains:
            return None
        try:
            return _cost(grammar_tax(trace, on=desk.session.model))
        except (MullamaError, ValueError) as error:
            return Cost.unknown(len(trace), error)

    def settle(self) -> None:
        """Wait until the costs of the text are shown."""
        self._latest.settle()

    def close(self) -> None:
        self._latest.close()


def _cost(tax: GrammarTax) -> Cost:
    return Cost(tax.nats, tax.nats_high, tax.summary())


def _of_splits(cut: Tokenization) -> tuple[NDArray[np.float64], list[str]]:
    """For each token in a split the probability of the tokenizer's own, and what is said of it."""
    prob, words = np.zeros(len(cut)), [""] * len(cut)
    for split, told in zip(cut.splits, cut.told(), strict=True):
        here = range(split.first, split.last + 1)
        prob[here] = math.exp(split.canonical_logprob)
        for step in here:
            words[step] = told
    return prob, words


def ended_text(desk: Desk) -> Trace | None:
    """The text that a desk's strip shows, if it has a token and grows no more."""
    trace = desk.strip.trace
    is_there = desk.at_work is not None and desk.strip.state in ENDED
    return trace if is_there and trace is not None and len(trace) else None


def _unknown(error: Exception) -> None:
    """The costs are not known, and the strip offers none."""
