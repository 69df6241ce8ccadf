"""Operators: which of ggml's operations, and which layers, take the time of one decode."""

from __future__ import annotations

import re
from collections.abc import Hashable, Iterable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from mullama_lab.engine.loop.spread import Prompt
from mullama_lab.engine.model import Model
from mullama_lab.engine.options import whole
from mullama_lab.engine.session import Session
from mullama_lab.engine.session.measuring import time_nodes
from mullama_lab.glyphs import brief
from mullama_lab.studies.timing.units import NS_PER_MS

if TYPE_CHECKING:
    import pandas

NOTHING = ("NONE", "VIEW", "RESHAPE", "PERMUTE", "TRANSPOSE")  # operations that compute nothing
_LAYER = re.compile(r"(?:-|_l)(\d+)(?!\d)")
Layer = int | str


@dataclass(frozen=True, eq=False)
class Operators:
    """The nodes of one decode, each with its time. The arrays have one entry a node, in order.

    While nodes are timed llama.cpp waits after each and fuses none: their times say how a decode's
    time divides, and `bare_ms` how long one takes that is not timed node by node.

    Attributes:
        names: the tensors, as "ffn_out-3"; those that llama.cpp leaves unnamed are "node_21".
        operations: ggml's, as "MUL_MAT".
        layers: the layer, from 0 on; "input" before the first, "output" after the last.
        ms: the median of all decodes.
        bare_ms, timed_ms: medians of what a decode took alone, and with its nodes timed.
        between_ms: of that, what passed between the nodes, as the measuring itself; the median.
        n_before: tokens in the cache before the one that was decoded.
        repeats: decodes of each kind, in turns.
    """

    names: tuple[str, ...]
    operations: tuple[str, ...]
    layers: tuple[Layer, ...]
    ms: NDArray[np.float64]
    bare_ms: float
    timed_ms: float
    between_ms: float
    n_before: int
    repeats: int

    @property
    def overhead(self) -> float:
        """How much longer a decode takes while its nodes are timed: 0.2 is a fifth longer."""
        return self.timed_ms / self.bare_ms - 1

    @property
    def pauses_ms(self) -> float:
        """What the medians of the nodes leave out: the delay of a node now and then.

        With `between_ms` and the sum of `ms` it adds up to `timed_ms`. Where it is
        large, other programs are using the cores.
        """
        return self.timed_ms - self.between_ms - float(self.ms.sum())

    @property
    def floor_ms(self) -> float:
        """What timing a node costs that computes nothing: the median of those; NaN without any.

        That much of every node's time is the cost of measuring.
        """
        nothing = [o in NOTHING for o in self.operations]
        return float(np.median(self.ms[nothing])) if any(nothing) else np.nan

    def by_operation(self) -> pandas.DataFrame:
        """A row an operation, the longest first: nodes, ms, share, and ms of that for measuring."""
        return self._grouped(self.operations, "operation").sort_values("ms", ascending=False)

    def by_layer(self) -> pandas.DataFrame:
        """A row a layer, in order: nodes, ms, share, and ms of that for measuring."""
        return self._grouped(self.layers, "layer")

    def to_pandas(self) -> pandas.DataFrame:
        """A row a node: name, operation, layer, ms; needs pandas."""
        import pandas as pd

        columns = {"name": self.names, "operation": self.operations, "layer": self.layers}
        return pd.DataFrame({**columns, "ms": self.ms})

    def _grouped(self, keys: Iterable[Hashable], name: str) -> pandas.DataFrame:
        import pandas as pd

        places: dict[Hashable, list[int]] = {}
        for place, key in enumerate(keys):
            places.setdefault(key, []).append(place)
        n = np.array([len(some) for some in places.values()])
        ms = np.array([self.ms[some].sum() for some in places.values()])
        columns = {
            "nodes": n,
            "ms": ms,
            "share": ms / self.ms.sum(),
            "measuring": n * self.floor_ms,
        }
        return pd.DataFrame(columns, index=pd.Index(list(places), name=name))

    def summary(self) -> str:
        """The result, in words."""
        return (
            f"a token after {self.n_before} takes {self.bare_ms:.3g} ms, and {self.timed_ms:.3g} "
            f"ms ({self.overhead:+.0%}) while its {len(self.ms)} nodes are timed: "
            f"{self.ms.sum():.3g} ms in them, {self.between_ms:.3g} ms between them, and "
            f"{self.pauses_ms:.3g} ms of pauses"
        )

    def __repr__(self) -> str:
        lines = [f"<Operators: {self.summary()}>"]
        for operation, row in self.by_operation().head(8).iterrows():
            lines.append(f"  {operation:16} {row['ms']:8.3f} ms {row['share']:6.1%}")
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        table = self.by_operation().to_html(float_format="%.3f", border=0, max_rows=20)
        return f"<p>{escape(self.summary())}</p>{table}"


def operators(
    on: Session | Model, text: Prompt, *, repeats: int = 10, progress: bool = True
) -> Operators:
    """Which operations and layers take the time of decoding the last token of a text.

        operators(session, "The capital of France is").by_operation()

    The text is decoded in two new contexts with the session's settings; the session is not
    changed. In one the nodes are timed one by one (`ggml_backend_sched_eval_callback`), in the
    other they are not; the two take turns, so the cost of measuring is measured too. Ctrl-C stops
    it. Tested on CPUs only.

    Args:
        on: a Session, with what acts on its weights; or a Model, for which one is opened.
        text: a text, or token ids as they are.
        repeats: decodes of each kind, of which medians are taken.
        progress: show a bar if it takes longer than two seconds.

    Raises:
        ContextFull: the text is longer than the context.
        ValueError: the two contexts would not fit in memory.
        DecodeError: llama.cpp shows no nodes, or different ones each time.
        Stopped: another thread stopped the session.
        ClosedError: the session was closed.
    """
    if not isinstance(on, (Session, Model)):
        raise TypeError(f"on={brief(on)}: it must be a Session or a Model.")
    repeats = whole("repeats", repeats, 1, 1000)
    with on.session() if isinstance(on, Model) else nullcontext(on) as session:
        tokens = session.prompt_tokens(text)
        timed = time_nodes(session, tokens, repeats, progress=progress)
    nodes = timed.nodes[0]
    each = np.array([[node.nanoseconds for node in some] for some in timed.nodes])
    names = tuple(node.name for node in nodes)
    return Operators(
        names=names,
        operations=tuple(node.operation for node in nodes),
        layers=tuple(layers_of(names)),
        ms=np.median(each, axis=0) / NS_PER_MS,
        bare_ms=float(np.median(timed.bare_ns)) / NS_PER_MS,
        timed_ms=float(np.median(timed.timed_ns)) / NS_PER_MS,
        between_ms=float(np.median(timed.timed_ns - each.sum(axis=1))) / NS_PER_MS,
        n_before=len(tokens) - 1,
        repeats=repeats,
    )


def layers_of(names: Sequence[str]) -> list[Layer]:
    """The layer of each node; one without a number is of the layer of the node before it.

    >>> layers_of(["embd", "norm-0", "cache_k_l0 (view)", "node_7", "l_out-1", "result_norm"])
    ['input', 0, 0, 0, 1, 'output']
    """
    numbers = [_LAYER.search(name) for name in names]
    last = max((place for place, found in enumerate(numbers) if found), default=-1)
    layers: list[Layer] = []
    for place, found in enumerate(numbers):
        if found:
            layers.append(int(found[1]))
        else:
            layers.append("output" if place > last else layers[-1] if layers else "input")
    return layers
