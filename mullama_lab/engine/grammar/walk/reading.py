"""A reading of our own: in which rules of a grammar a text stands, all ways at once.

llguidance says which bytes and tokens may come, and not why. This is Earley's way (1970, "An
efficient context-free parsing algorithm") over the spots of a grammar, byte by byte, with what
each item came of kept. Texts that llguidance takes are those that are taken here, which tests see
to; but parts in JSON Schema, a regular expression or Lark are here each read by themselves, so
that more may be taken where one goes on as far as it can.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum
from typing import NamedTuple

from mullama_lab.engine.grammar.matching.byte_matcher import ByteMatcher
from mullama_lab.engine.grammar.nodes import (
    Chars,
    Choice,
    Literal,
    Part,
    Repeat,
    Sequence,
    Token,
)
from mullama_lab.engine.grammar.spots import FORBIDDEN, WHOLE, Spots

MOST_WORK = 300_000  # items that came about in all charts of a text, each as often as it did
DONE = -1
ROOT = 0

IsToken = Callable[[Token, "int | str"], bool]  # whether a token of the text is one that is named


class TooMuch(Exception):
    """A text has more ways to be read, or is longer, than is worth its while."""


class Item(NamedTuple):
    """A spot that was begun and how far it has come.

    Attributes:
        at: DONE; or of a sequence how many items, of a repetition how many times, of a text how
            many bytes, of a class the bytes of its character so far.
        origin: the chart in which it began.
    """

    spot: int
    at: int
    origin: int


class How(Enum):
    """By what an item came of another one."""

    BEGUN = "something waits for it"
    BYTE = "a byte was read"
    TOKEN = "a token was read"
    NOTHING = "what comes next may be nothing"
    ENDED = "its repetitions are enough"
    INSIDE = "what is inside was read"


class Cause(NamedTuple):
    """What an item came of: an item of some chart, and what was done inside it."""

    how: How
    chart: int = ROOT
    before: Item | None = None
    inside: Item | None = None


@dataclass
class Chart:
    """The items at one place of a text, and by what each came about: at most two ways."""

    items: dict[Item, list[Cause]] = field(default_factory=dict)
    waiting: dict[int, list[Item]] = field(default_factory=dict)  # by the spot that comes next
    on_bytes: list[Item] = field(default_factory=list)
    on_tokens: list[Item] = field(default_factory=list)
    work: int = 0


@dataclass
class _PartRun:
    """A part that was begun at one place, and how many bytes it has read."""

    matcher: ByteMatcher
    n: int = 0


class Reading:
    """The charts of a text that grows and shrinks.

    Attributes:
        charts: one for each place, the first before any byte. A token without bytes takes a place
            too.
        starts: how many bytes are before each place.
        data: the bytes read.
        work: how much that was, as MOST_WORK counts it.
    """

    def __init__(self, spots: Spots, is_token: IsToken) -> None:
        self.spots, self._is_token = spots, is_token
        self.charts: list[Chart] = []
        self.starts = [0]
        self.data = bytearray()
        self.work = 0
        self._runs: dict[tuple[int, int], _PartRun] = {}
        self._todo: list[Item] = []
        self.charts.append(Chart())
        self._add(Item(ROOT, 0, 0), Cause(How.BEGUN))
        self._work_off()

    @property
    def place(self) -> int:
        """How many places of the text are read."""
        return len(self.charts) - 1

    @property
    def is_alive(self) -> bool:
        """Whether the text is the beginning of one of the grammar."""
        last = self.charts[-1]
        return bool(last.on_bytes or last.on_tokens) or self.is_complete

    @property
    def is_complete(self) -> bool:
        """Whether the text is one of the grammar."""
        if self.place == 0:
            return ROOT in self.spots.empty
        return Item(ROOT, DONE, 0) in self.charts[-1].items

    def take(self, data: bytes, token: int | str | None = None) -> None:
        """Read on; `TooMuch` if it is.

        Args:
            data: the bytes that come next.
            token: the token that they are. Where the grammar names it, it is that and no text, as
                for llguidance.
        """
        before = self.place
        named = [item for item in self.charts[before].on_tokens if self._names(item, token)]
        for byte in data:
            self._next_chart(1)
            self.data.append(byte)
            if not named:
                self._read(byte)
            self._work_off()
        if token is not None and not data:
            self._next_chart(0)
        for item in named:
            self._add(item._replace(at=DONE), Cause(How.TOKEN, before, item))
        self._work_off()

    def _names(self, item: Item, token: int | str | None) -> bool:
        node = self.spots.nodes[item.spot]
        assert isinstance(node, Token)
        return token is not None and self._is_token(node, token)

    def back_to(self, place: int) -> None:
        """Undo all after a place; what was too much, too."""
        self._todo.clear()
        self.work -= sum(chart.work for chart in self.charts[place + 1 :])
        del self.charts[place + 1 :], self.starts[place + 1 :]
        del self.data[self.starts[place] :]
        for key, run in list(self._runs.items()):
            if key[1] > place:
                del self._runs[key]
            elif (n := self.starts[place] - self.starts[key[1]]) < run.n:
                run.matcher.back(run.n - n)
                run.n = n

    def part_of(self, item: Item) -> ByteMatcher:
        """The matcher of a part that an item of the last chart is in; not to be moved."""
        run = self._runs.get((item.spot, item.origin))
        return run.matcher if run is not None else self.spots.part(item.spot)

    def goes_on(self, item: Item, byte: int) -> bool:
        """Whether a byte may come in an item of the last chart, which is in no part."""
        return bool(self._after(item, byte))

    # Reading.

    def _next_chart(self, n_bytes: int) -> None:
        self.charts.append(Chart())
        self.starts.append(self.starts[-1] + n_bytes)

    def _read(self, byte: int) -> None:
        before = self.place - 1
        for item in self.charts[before].on_bytes:
            for at in self._after(item, byte):
                self._add(item._replace(at=at), Cause(How.BYTE, before, item))

    def _after(self, item: Item, byte: int) -> tuple[int, ...]:
        """How far an item has come after a byte; nowhere if it cannot come."""
        text = self.spots.literals.get(item.spot)
        if text is not None:
            at = item.at + 1
            return () if text[item.at] != byte else (DONE,) if at == len(text) else (at,)
        if isinstance(self.spots.nodes[item.spot], Part):
            return self._after_in_part(item, byte)
        step = self.spots.step(item.spot, item.at, byte)
        return () if step == FORBIDDEN else (DONE,) if step == WHOLE else (step,)

    def _after_in_part(self, item: Item, byte: int) -> tuple[int, ...]:
        key = item.spot, item.origin
        if key not in self._runs:
            self._runs[key] = _PartRun(self.spots.part(item.spot).copy())
        run = self._runs[key]
        if not run.matcher.take(bytes([byte])):
            return ()
        run.n += 1
        return (1, DONE) if run.matcher.is_complete else (1,)

    # Items.

    def _add(self, item: Item, cause: Cause) -> None:
        chart = self.charts[-1]
        items = chart.items
        chart.work += 1
        self.work += 1
        if self.work > MOST_WORK:
            raise TooMuch
        if item.at == DONE and item.origin == self.place:
            return  # nothing was read, which what waits for it knows already
        known = items.get(item)
        if known is None:
            items[item] = [cause]
            self._todo.append(item)
        elif len(known) == 1 and cause.how is not How.BEGUN and cause != known[0]:
            known.append(cause)

    def _work_off(self) -> None:
        while self._todo:
            item = self._todo.pop()
            if item.at == DONE:
                for waiting in self.charts[item.origin].waiting.get(item.spot, ()):
                    cause = Cause(How.INSIDE, item.origin, waiting, item)
                    self._add(self._past(waiting), cause)
            else:
                self._look_on(item)

    def _past(self, item: Item) -> Item:
        """An item after what came next in it."""
        node = self.spots.nodes[item.spot]
        at = item.at + 1
        if isinstance(node, Sequence):
            return item._replace(at=DONE if at == len(node.items) else at)
        if isinstance(node, Repeat):
            most = node.low if node.high is None else node.high
            return item._replace(at=min(at, most))
        return item._replace(at=DONE)

    def _look_on(self, item: Item) -> None:
        """Begin what may come next in an item."""
        chart, node, inside = self.charts[-1], self.spots.nodes[item.spot], ()
        if isinstance(node, (Literal, Chars, Part)):
            chart.on_bytes.append(item)
        elif isinstance(node, Token):
            chart.on_tokens.append(item)
        elif isinstance(node, Sequence):
            inside = self.spots.inside[item.spot][item.at : item.at + 1]
        elif isinstance(node, Repeat):
            if item.at >= node.low:
                self._add(item._replace(at=DONE), Cause(How.ENDED, self.place, item))
            if node.high is None or item.at < node.high:
                inside = self.spots.inside[item.spot]
        else:
            inside = self.spots.inside[item.spot]
        for spot in inside:
            chart.waiting.setdefault(spot, []).append(item)
            self._add(Item(spot, 0, self.place), Cause(How.BEGUN, self.place, item))
            if spot in self.spots.empty and not isinstance(node, Choice) and node is not None:
                after = self._past(item)
                if after != item:
                    self._add(after, Cause(How.NOTHING, self.place, item))
