"""Explore: which continuations does the model find likeliest, and how much do they cover?

Best first: the likeliest known prefix that was not gone on from yet is gone on from next, some
of them in one batch. A prefix is never likelier than its own beginning, so all that are at least
as likely as the best one still to go on from are known: those are what was found, and their
order does not depend on how many go in a batch. Probabilities are the model's own, before any
chain.
"""

from __future__ import annotations

import heapq
import itertools
import math
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, NoReturn, overload

import numpy as np
from numpy.typing import NDArray

from mullama_lab.engine.loop.given_trace import given_trace
from mullama_lab.engine.loop.spread import Prompt
from mullama_lab.engine.noise_floor import known_floor
from mullama_lab.engine.options import whole
from mullama_lab.engine.rows.capture import RowFacts, RowReader, largest
from mullama_lab.engine.session import Session
from mullama_lab.engine.trace import Trace
from mullama_lab.engine.tree import Tree
from mullama_lab.engine.work import Work
from mullama_lab.errors import ContextFull, Stopped
from mullama_lab.glyphs import brief
from mullama_lab.studies._prefixes import Prefix, tied
from mullama_lab.studies._together import Bar

if TYPE_CHECKING:
    import pandas

__all__ = ["Exploration", "explore"]
__dir__ = __all__.copy  # what tab completion offers

MOST_BUDGET = 2000  # prefixes; what is kept of a row is about 60 kB
MOST_LENGTH = 32  # tokens of a prefix, unless told otherwise
TOP = 64  # alternatives in the traces
NOT_MEASURED = (
    "Noise not measured, so near ones may have changed places. To measure it: "
    "<code>ml.studies.noise.noise(model)</code>"
)


def explore(
    start: Prompt | Trace,
    *,
    on: Session,
    budget: int = 64,
    max_tokens: int | None = None,
    at_once: int | None = None,
    into: Tree | None = None,
    progress: bool = True,
) -> Exploration:
    """Find the likeliest continuations of a prompt, or of a trace, best first.

    Ctrl-C stops it and raises KeyboardInterrupt; what was found by then goes into `into`.

    Args:
        start: a text, token ids, or a Trace to go on from the end of, with the adapters and the
            control vector that were in force there.
        on: the session to work in; as many prefixes go in one batch as it has sequences.
        budget: how many prefixes to go on from, and to find at most. Each costs one decoded
            token while the cache holds what comes before it.
        max_tokens: how long a prefix may become; None is 32, or what fits. The budget is mostly
            spent before: best first goes on from a short prefix that is likelier than a long one.
        at_once: prefixes in one batch, fewer than there are sequences.
        into: a Tree of the same prompt to add the longest ones to, as one change.
        progress: show a bar when it takes longer than two seconds.

    Raises:
        ValueError: a number is out of range, the trace has come to its end, or `into` has
            another prompt.
        ContextFull: a prefix might become longer than the context.

    >>> import tempfile
    >>> from mullama_lab import Model
    >>> from mullama_lab.engine import tiny
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     with Model.load(tiny.write(folder + "/tiny.gguf")) as model:
    ...         found = explore("Hi", on=model.session(), budget=8)
    >>> found.n_expanded, 4 <= len(found) <= 8, 0 < found.mass < 1
    (8, True, True)
    """
    exploration = Exploration(
        start, on=on, budget=budget, max_tokens=max_tokens, at_once=at_once, into=into
    )
    exploration.run(progress=progress)
    return exploration


class Exploration(Sequence[Prefix]):
    """The likeliest prefixes, in order: `len(e)` were found, `e[0]` is the likeliest.

    `run` does the work, here or on a thread of yours; `stop` ends it from any thread. It can be
    read at any time.

    Args: those of `explore`.

    Attributes:
        n_expanded: prefixes that were gone on from, the start included.
        state: "ready", "running", "finished", "stopped" or "failed".
        error: what made it fail, None if nothing did.
        on_news: called without arguments after each batch, on the thread that runs it.
    """

    def __init__(
        self,
        start: Prompt | Trace,
        *,
        on: Session,
        budget: int = 64,
        max_tokens: int | None = None,
        at_once: int | None = None,
        into: Tree | None = None,
    ) -> None:
        if not isinstance(on, Session):
            raise TypeError(
                f"paths are explored in a Session, not {brief(on)}: on=model.session()."
            )
        self.session = on
        self.budget = whole("budget", budget, 1, MOST_BUDGET)
        most = on.n_seq_max
        self.at_once = most if at_once is None else whole("at_once", at_once, 1, most)
        self.start = _checked(on, start) if isinstance(start, Trace) else _prompt(on, start)
        self._text = self.start.history(len(self.start)).tolist()
        self._setting = self.start.setting_at(len(self.start))
        self.max_tokens = _length(max_tokens, len(self._text), on.n_ctx)
        self.into = _fitting(into, self.start)
        self.n_expanded = 0
        self.state = "ready"
        self.error: BaseException | None = None
        self.on_news: Callable[[], object] = lambda: None
        self._found: tuple[Prefix, ...] = ()
        self._facts: dict[Prefix, RowFacts] = {}  # of those that were gone on from
        self._closed: list[Prefix] = []  # known, and nothing is to follow: gone on from, or ended
        self._open: list[tuple[float, int, Prefix]] = []  # a heap, the likeliest first
        self._numbers = itertools.count()
        self._reader = RowReader(on.model.n_vocab, TOP)
        self._stop = threading.Event()
        self._work: Work[None] | None = None

    # Doing it.

    def run(self, *, progress: bool = True) -> Exploration:
        """Explore until the budget is spent or nothing is open; what is found goes into `into`.

        Raises:
            KeyboardInterrupt: Ctrl-C; what was found is there.
            MullamaError: the session was closed, or its cache is full.
        """
        if self.state != "ready":
            raise ValueError(f"the exploration is {self.state}: make another one.")
        self.state = "running"
        self._push(Prefix(-1, 0, 0.0, None, 0, False))
        try:
            with Bar("explore", self.budget, "prefix", shown=progress) as bar:
                while self._goes_on():
                    self._expand(self._next())
                    bar.show(self.n_expanded)
                    self.on_news()
            self.state = "stopped" if self._stop.is_set() else "finished"
        except Stopped:
            self.state = "stopped"
        except KeyboardInterrupt:
            self.state = "stopped"
            raise
        except BaseException as error:
            self.state, self.error = "failed", error
            raise
        finally:
            if self.into is not None:
                self.add_to(self.into)
            self.on_news()
        return self

    def stop(self) -> None:
        """End it; what was found stays."""
        self._stop.set()
        work = self._work
        if work is not None:
            work.stop()

    def _goes_on(self) -> bool:
        is_spent = self.n_expanded >= self.budget or len(self._found) >= self.budget
        return bool(self._open) and not is_spent and not self._stop.is_set()

    def _next(self) -> list[Prefix]:
        # Smaller batches towards the end: what a big one went on from too early is found then.
        left = self.budget - self.n_expanded
        n = min(self.at_once, max(1, left // 4), len(self._open))
        return [heapq.heappop(self._open)[2] for _ in range(n)]

    def _expand(self, batch: list[Prefix]) -> None:
        """Go on from some prefixes, and see what was found by that."""
        texts = [self._text + prefix.tokens for prefix in batch]
        facts: dict[int, RowFacts] = {}

        def visit(place: int, row: NDArray[np.float32]) -> None:
            facts[place] = self._reader.read(row)

        try:
            n_prompt = len(self.start.prompt_tokens)
            work = self._work = self.session.start_rows(
                texts, visit, n_prompt=n_prompt, setting=self._setting
            )
            if self._stop.is_set():
                work.stop()
            work.result_or_stop()
        finally:
            self._work = None
            for place, prefix in enumerate(batch):
                if place in facts:
                    self._grow(prefix, facts[place])
                else:
                    self._push(prefix)
            self._found = tuple(self._known())

    def _grow(self, prefix: Prefix, facts: RowFacts) -> None:
        self.n_expanded += 1
        self._facts[prefix] = facts
        if prefix.before is not None:
            self._closed.append(prefix)
        for rank, place in enumerate(largest(facts.logits, self.budget)):
            token = int(facts.ids[place])
            logprob = prefix.logprob + float(facts.logits[place]) - facts.logsumexp
            ended = self.session.model.is_eog(token)
            self._push(Prefix(token, rank, logprob, prefix, prefix.n_tokens + 1, ended))

    def _push(self, prefix: Prefix) -> None:
        if self.goes_on(prefix):
            heapq.heappush(self._open, (-prefix.logprob, next(self._numbers), prefix))
        else:
            self._closed.append(prefix)

    def _known(self) -> list[Prefix]:
        """The prefixes than which no unknown one can be likelier."""
        best = [self._open[0][2]] if self._open and self._open[0][2].before is not None else []
        least = -self._open[0][0] if self._open else -math.inf
        known = [prefix for prefix in self._closed if prefix.logprob >= least]
        known = sorted(known + best, key=lambda prefix: -prefix.logprob)
        return known[: self.budget]

    # What was found.

    @property
    def leaves(self) -> list[Prefix]:
        """Those with which no longer one begins."""
        found = self._found
        inner = {prefix.before for prefix in found}
        return [prefix for prefix in found if prefix not in inner]

    @property
    def mass(self) -> float:
        """The probability that a text goes on with one of the leaves: from 0 to 1."""
        return float(sum(math.exp(leaf.logprob) for leaf in self.leaves))

    @property
    def mass_by_length(self) -> pandas.Series:
        """How much of all texts begins with one of the prefixes of each length; needs pandas."""
        import pandas as pd

        masses: dict[int, float] = {}
        for prefix in self._found:
            n = prefix.n_tokens
            masses[n] = masses.get(n, 0.0) + math.exp(prefix.logprob)
        return pd.Series(masses, name="mass", dtype=float).rename_axis("n_tokens").sort_index()

    def goes_on(self, prefix: Prefix) -> bool:
        """Whether a prefix may get longer: the text has not ended, and `max_tokens` allows it.

        How long it gets within that is a matter of the budget, which goes to the likeliest.
        """
        return not prefix.ended and prefix.n_tokens < self.max_tokens

    def text(self, prefix: Prefix) -> str:
        """A prefix as text; bytes that are no character become U+FFFD."""
        pieces = [self.session.model.piece(token) for token in prefix.tokens]
        return b"".join(pieces).decode("utf-8", "replace")

    def trace(self, prefix: Prefix) -> Trace:
        """A prefix as a Trace from the prompt; its own steps are `forced`, with no chain."""
        line = prefix._line()
        steps = []
        for step in line:
            assert step.before is not None
            steps.append((step.token, step.rank, self._facts[step.before]))
        reason = "eog" if prefix.ended else "explored"
        return given_trace(self.session.model, self.start, steps, finish_reason=reason)

    @property
    def tree(self) -> Tree:
        """The leaves as a new Tree."""
        return Tree(self.trace(leaf) for leaf in self.leaves)

    def add_to(self, tree: Tree) -> int:
        """Add the leaves to a tree, as one change; how many are new in it."""
        traces = [self.trace(leaf) for leaf in self.leaves]
        return len(tree.add_many(traces, "an exploration"))

    def to_pandas(self) -> pandas.DataFrame:
        """One row a prefix, the likeliest first; needs pandas.

        `p` is its probability after the start, `leaf` whether no longer one begins with it,
        `tied` whether no more than noise puts it behind the one before it; that is not known
        before `noise` of studies/noise.py measured the model.
        """
        import pandas as pd

        found, leaves = self._found, set(self.leaves)
        table = pd.DataFrame(
            {
                "text": [self.text(prefix) for prefix in found],
                "n_tokens": [prefix.n_tokens for prefix in found],
                "logprob": [prefix.logprob for prefix in found],
                "p": [math.exp(prefix.logprob) for prefix in found],
                "leaf": [prefix in leaves for prefix in found],
                "ended": [prefix.ended for prefix in found],
                "tied": pd.array(tied(found, known_floor(self.session.model)), dtype="boolean"),
                "tokens": [prefix.tokens for prefix in found],
            }
        )
        return table.rename_axis("rank")

    @overload
    def __getitem__(self, index: int) -> Prefix: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Prefix]: ...
    def __getitem__(self, index: int | slice) -> Prefix | Sequence[Prefix]:
        return self._found[index]

    def __len__(self) -> int:
        return len(self._found)

    def __iter__(self) -> Iterator[Prefix]:
        return iter(self._found)

    def __reduce__(self) -> NoReturn:  # what copy and pickle ask
        raise TypeError(
            "an Exploration has its session, so it cannot be copied or pickled. What it found "
            "can: exploration.to_pandas()."
        )

    def __repr__(self) -> str:
        return (
            f"<Exploration {self.state}: {len(self)} prefixes, {self.n_expanded} gone on from, "
            f"their leaves have {self.mass:.3g} of the probability>"
        )

    def _repr_html_(self) -> str:
        table = self.to_pandas().drop(columns="tokens")
        table["text"] = table["text"].map(repr)  # nothing invisible in it
        note = ""
        if known_floor(self.session.model) is None:
            table, note = table.drop(columns="tied"), f"<p>{NOT_MEASURED}</p>"
        shown = table.to_html(max_rows=20, float_format="%.3g", border=0)
        return f"<p>{repr(self)[1:-1]}</p>{shown}{note}"


def _prompt(session: Session, prompt: Prompt) -> Trace:
    return session.empty_trace(prompt, top=TOP)


def _checked(session: Session, trace: Trace) -> Trace:
    """The trace as it is now, if something can follow it."""
    trace = trace[:]
    if len(trace):
        trace.must_be_of(session.model)
        if session.model.is_eog(int(trace.tokens[-1])):
            raise ValueError("the trace has come to its end: nothing follows. Cut it: trace[:n].")
    return trace


def _length(max_tokens: int | None, n_before: int, n_ctx: int) -> int:
    """How long a prefix may become. Its last token is not decoded."""
    most = n_ctx - n_before + 1
    wanted = min(MOST_LENGTH, most) if max_tokens is None else max_tokens
    if most < 1 or (max_tokens is not None and whole("max_tokens", max_tokens, 1, 1 << 20) > most):
        raise ContextFull(
            f"{n_before} tokens come before a prefix of up to {max(1, wanted)}, and the context "
            f"has room for {n_ctx}. "
            + (f"Give max_tokens={most} or less, or open" if most > 0 else "Open")
            + " the session with a larger n_ctx."
        )
    return wanted


def _fitting(tree: Tree | None, start: Trace) -> Tree | None:
    if tree is not None and not isinstance(tree, Tree):
        raise TypeError(f"into={brief(tree)}: give a Tree.")
    theirs = [] if tree is None else tree.prompt_tokens.tolist()
    if tree is not None and theirs and theirs != start.prompt_tokens.tolist():
        raise ValueError(
            f"into is a tree of another prompt, {tree.prompt[:40]!r}. Give a tree of this one."
        )
    return tree
