"""How time and bytes of a Trace, a tree, an index and a saved notebook grow with their length.

    python -m mullama_lab.selfbench.growth growth.png

prints the figures up to 100 000 tokens and draws them. It is about what the workbench does with
tokens, so the models are tiny ones, which it writes; their own cost does not grow with the text.
"""

from __future__ import annotations

import gc
import json
import sys
import time
import tracemalloc
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from mullama_lab.counted import counted, size_in_words
from mullama_lab.engine import tiny
from mullama_lab.engine.encoder import MultiVectorEncoder
from mullama_lab.engine.index import MultiVectorIndex
from mullama_lab.engine.model import Model
from mullama_lab.engine.multivector import MultiVector
from mullama_lab.engine.stages import Mask, Temperature, TopK
from mullama_lab.engine.trace import Trace
from mullama_lab.engine.tree import Tree
from mullama_lab.plots.axes import legend_above
from mullama_lab.selfbench.table import Row
from mullama_lab.widgets import TokenStrip

if TYPE_CHECKING:
    from matplotlib.figure import Figure

LENGTHS = (12_500, 25_000, 50_000, 100_000)  # tokens
A_BRANCH = 100  # tokens of it
TARGET = 1.2  # power of the length; 1 is in proportion, and 2 is four times as much for twice
TEXTS, LETTERS = 50, 48  # of documents, and of each of them
ROUNDS = 3


class Point(NamedTuple):
    """What something takes at one length.

    Attributes:
        what: the thing, and what is done with it.
        n_tokens: the length.
        seconds: of processor time, the best of three.
        n_bytes: of memory, or of what was written.
    """

    what: str
    n_tokens: int
    seconds: float
    n_bytes: int


def measured(lengths: Sequence[int] = LENGTHS) -> Iterator[Point]:
    """Each thing at each length, the shortest first."""
    with TemporaryDirectory(prefix="mullama-growth-") as folder:
        place = Path(folder)
        yield from _texts(place, sorted(lengths))
        yield from _documents(place, sorted(lengths))


def rows(lengths: Sequence[int] = LENGTHS) -> Iterator[Row]:
    """The figures at the greatest length, and the power of the length that they grow with."""
    yield from rows_of(list(measured(lengths)))


def rows_of(points: Sequence[Point]) -> Iterator[Row]:
    """The same of what was measured."""
    for what in dict.fromkeys(point.what for point in points):
        line = [point for point in points if point.what == what]
        last = line[-1]
        at = f"{what}, {counted(last.n_tokens, 'token')}"
        yield Row(f"{at}: time", f"{last.seconds:.3g} s", "", power(line, "seconds"), TARGET)
        size = size_in_words(last.n_bytes)
        yield Row(f"{at}: bytes", size, "", power(line, "n_bytes"), TARGET)


def power(line: Sequence[Point], name: str) -> float:
    """The power of the length that fits best.

    >>> line = [Point("", n, n * n, n) for n in (10, 20, 40)]
    >>> round(power(line, "seconds"), 6), round(power(line, "n_bytes"), 6)
    (2.0, 1.0)
    """
    lengths = np.log([point.n_tokens for point in line])
    values = np.log([max(1e-9, getattr(point, name)) for point in line])
    return float(np.polyfit(lengths, values, 1)[0])


def plot(points: Sequence[Point]) -> Figure:
    """Time and memory against the length, on logarithmic axes; dotted is in proportion."""
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, 2, figsize=(14, 5.5), layout="constrained")
    names = dict.fromkeys(point.what for point in points)
    for ax, name, label in zip(axes, ("seconds", "n_bytes"), ("seconds", "bytes")):
        for what in names:
            line = [point for point in points if point.what == what]
            x, y = ([getattr(point, of) for point in line] for of in ("n_tokens", name))
            (drawn,) = ax.plot(x, y, "o-", ms=4, label=f"{what}: n^{power(line, name):.2f}")
            ax.plot(x, [y[-1] * n / x[-1] for n in x], ":", color=drawn.get_color(), lw=0.8)
        ax.set(xscale="log", yscale="log", xlabel="tokens", ylabel=label)
        lengths = sorted({point.n_tokens for point in points})
        ax.set_xticks(lengths, [f"{n:,}" for n in lengths])
        ax.minorticks_off()
        legend_above(ax)
    return figure


def main(arguments: Sequence[str]) -> None:
    """Measure, print, and draw into the file that is named."""
    from mullama_lab.selfbench.table import print_table

    points = []
    for point in measured():
        print(*point, sep="\t", flush=True)
        points.append(point)
    print_table(rows_of(points))
    if arguments:
        plot(points).savefig(arguments[0], dpi=150)


def _texts(place: Path, lengths: Sequence[int]) -> Iterator[Point]:
    """Traces, trees of branches, and what a notebook keeps of a text."""
    path = tiny.write(place / "text.gguf", architecture="mamba", n_ctx_train=2 * lengths[-1])
    chain = Mask(ban=(tiny.EOS,)) | TopK(40) | Temperature(0.9)
    with Model.load(path) as model, model.session(n_ctx=lengths[-1] + 64, n_seq_max=1) as session:
        trace = session.generate([1, 5], chain, max_tokens=lengths[-1], seed=1)
        branches = [
            session.generate([1, 5], chain, max_tokens=A_BRANCH, seed=seed)
            for seed in range(lengths[-1] // A_BRANCH)
        ]
    for n in lengths:
        yield from _of_trace(trace[:n])
    for n in lengths:
        yield from _of_tree(n, branches[: n // A_BRANCH])


def _of_trace(trace: Trace) -> Iterator[Point]:
    n = len(trace)
    yield Point(
        "trace, each step read",
        n,
        _seconds(lambda: sum(step.token for step in trace)),
        _held(lambda: trace[:n]),
    )
    yield _written("trace as JSON", n, lambda: json.dumps(trace.to_dict()))
    yield _written("saved notebook with a text", n, lambda: _saved(trace))


def _of_tree(n: int, traces: Sequence[Trace]) -> Iterator[Point]:
    held = _held(lambda: Tree([trace[: len(trace)] for trace in traces]))  # with traces of its own
    yield Point("tree of branches", n, _seconds(lambda: Tree(traces)), held)
    yield _written("tree as JSON", n, lambda: json.dumps(Tree(traces).to_dict()))


def _documents(place: Path, lengths: Sequence[int]) -> Iterator[Point]:
    """An index of documents that are short, and many."""
    path = tiny.write(place / "documents.gguf", architecture="bert", vocabulary="wpm")
    chance = np.random.default_rng(0)
    texts = ["".join(chance.choice(list("abcdefgh "), LETTERS)) for _ in range(TEXTS)]
    file = place / "index.safetensors"
    with Model.load(path) as model, MultiVectorEncoder(model, n_threads=1) as encoder:
        some, query = encoder.encode_documents(texts, progress=False), encoder.encode_query("abc")
        each = sum(map(len, some)) / len(some)
        for n in lengths:
            many = [some[i % TEXTS] for i in range(max(1, round(n / each)))]
            yield from _of_index(n, encoder, many, query, file)


def _of_index(
    n: int,
    encoder: MultiVectorEncoder,
    documents: Sequence[MultiVector],
    query: MultiVector,
    file: Path,
) -> Iterator[Point]:
    def make() -> MultiVectorIndex:
        made = MultiVectorIndex(encoder)
        made.add(documents, progress=False)
        return made

    yield Point("index of documents, made", n, _seconds(make), _held(make))
    index = make()
    saving = _seconds(lambda: index.save(file, progress=False))
    yield Point("index, saved", n, saving, file.stat().st_size)
    searching = _seconds(lambda: index.search(query, k=5))
    yield Point("index, searched", n, searching, _most(lambda: index.search(query, k=5)))


def _saved(trace: Trace) -> str:
    """What the file of a notebook has of a view."""
    shown: Any = TokenStrip(trace)
    return json.dumps(shown._repr_mimebundle_()[0])


def _written(what: str, n: int, write: Callable[[], str]) -> Point:
    return Point(what, n, _seconds(write), len(write()))


def _seconds(do: Callable[[], object]) -> float:
    """Processor time, the best of some rounds."""
    best = np.inf
    for _ in range(ROUNDS):
        gc.collect()
        start = time.process_time()
        do()
        best = min(best, time.process_time() - start)
    return float(best)


def _held(make: Callable[[], object]) -> int:
    """Bytes that what is made holds."""
    gc.collect()
    tracemalloc.start()
    try:
        made = make()
        gc.collect()
        held = tracemalloc.get_traced_memory()[0]
        del made
    finally:
        tracemalloc.stop()
    return held


def _most(do: Callable[[], object]) -> int:
    """The most bytes that it holds meanwhile."""
    tracemalloc.start()
    try:
        do()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


if __name__ == "__main__":
    main(sys.argv[1:])
