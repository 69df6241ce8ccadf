"""Where a text stands in a grammar: the rules it is in, what they expect, how it was read.

All of it is looked up in the charts of a Reading.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Container, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from mullama_lab.engine.grammar.gbnf.writer import right_side
from mullama_lab.engine.grammar.matching.byte_matcher import BYTES
from mullama_lab.engine.grammar.nodes import Chars, Literal, Part, Repeat, Token
from mullama_lab.engine.grammar.spots import Spots
from mullama_lab.engine.grammar.walk.reading import DONE, ROOT, How, Item, Reading
from mullama_lab.glyphs import one_line, visible

ITSELF = -1
MOST_STACKS = 4
MOST_SHOWN = 6  # characters that are listed
LONGEST_SHOWN = 60  # characters of one text
MOST_CLIMBED = 4000  # items looked at for the stacks of one


class Frame(NamedTuple):
    """A rule that a text stands in, and the byte of the text at which it began."""

    rule: str
    start: int


class Expected(NamedTuple):
    """What may come next.

    Attributes:
        text: in words: the rest of a text, a class as GBNF writes it, a token, the characters with
            which a part goes on, or the end.
        kind: "text", "class", "token", "part" or "end".
        rule: the rule that expects it; empty for the end.
        stack: the rules that it stands in, root first.
    """

    text: str
    kind: str
    rule: str = ""
    stack: tuple[Frame, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """The same as plain values."""
        return {**self._asdict(), "stack": [frame._asdict() for frame in self.stack]}


class Portion(NamedTuple):
    """Some bytes of a text, from `start` to `end`, that one rule took."""

    start: int
    end: int
    rule: str


@dataclass(frozen=True)
class Twice:
    """A part of a text that was read in two ways.

    Attributes:
        rule: in which rule.
        start, end: its bytes.
    """

    rule: str
    start: int
    end: int


def expected(
    reading: Reading, allowed: Container[int] | None = None, is_complete: bool | None = None
) -> list[Expected]:
    """What may come after the text, each thing once for each rule.

    Args:
        allowed, is_complete: the bytes that llguidance allows, and whether the text may end, where
            there are parts, of which it reads each as far as it goes; None if no part is there.
    """
    chart, found = reading.charts[-1], {}
    for item in sorted((*chart.on_bytes, *chart.on_tokens)):
        kind, text = _described(reading, item)
        rule = reading.spots.rule_of[item.spot]
        is_open = allowed is None or _is_open(reading, item, allowed)
        if is_open and (text, rule) not in found:
            found[text, rule] = Expected(text, kind, rule, _stack_of(reading, item))
    if reading.is_complete if is_complete is None else is_complete:
        found["", ""] = Expected("the end", "end")
    return list(found.values())


def _is_open(reading: Reading, item: Item, allowed: Container[int]) -> bool:
    """Whether a byte that is allowed goes on in an item."""
    node = reading.spots.nodes[item.spot]
    if isinstance(node, Part):
        return any(int(byte) in allowed for byte in reading.part_of(item).allowed())
    if isinstance(node, Token):
        return True
    return any(byte in allowed and reading.goes_on(item, byte) for byte in range(BYTES))


def in_words(data: Iterable[int]) -> str:
    """The characters that begin with some bytes.

    >>> in_words(b"ab"), in_words(range(48, 58))
    ('`a` or `b`', 'one of 10 characters')
    """
    found = [f"`{one_line(visible(chr(byte)))}`" if byte < 0x80 else "" for byte in data]
    shown = [one for one in found if one]
    others = ["a character that is not ASCII"] if len(shown) < len(found) else []
    if len(shown) > MOST_SHOWN:
        shown = [f"one of {len(shown)} characters"]
    return joined([*shown, *others])


def joined(words: Sequence[str]) -> str:
    """Words as a list that ends with "or"."""
    return ", ".join(words[:-1]) + (" or " if len(words) > 1 else "") + "".join(words[-1:])


def _described(reading: Reading, item: Item) -> tuple[str, str]:
    spots, node = reading.spots, reading.spots.nodes[item.spot]
    if isinstance(node, Literal):
        rest = spots.literals[item.spot][item.at :].decode("utf-8", "replace")
        rest = rest if len(rest) <= LONGEST_SHOWN else f"{rest[: LONGEST_SHOWN - 1]}…"
        return "text", f"`{one_line(visible(rest))}`"
    if isinstance(node, Part):
        return "part", in_words(reading.part_of(item).allowed().tolist())
    if isinstance(node, Token):
        return "token", f"the token {right_side(node)}"
    assert isinstance(node, Chars)
    (first, last), *more = node.ranges
    if item.at:
        return "class", f"the rest of a character of {visible(right_side(node))}"
    if first == last and not more:
        return "text", f"`{one_line(visible(chr(first)))}`"
    return "class", visible(right_side(node))


# Upwards: the rules that an item stands in.


def stacks(reading: Reading) -> list[tuple[Frame, ...]]:
    """Some of the stacks of rules, root first, that the text may stand in; the end has none."""
    chart, found = reading.charts[-1], dict[tuple[Frame, ...], None]()
    for item in sorted((*chart.on_bytes, *chart.on_tokens)):
        for stack in _stacks_of(reading, item) or [_stack_of(reading, item)]:
            found[stack] = None
            if len(found) == MOST_STACKS:
                return list(found)
    return list(found)


def _stack_of(reading: Reading, item: Item) -> tuple[Frame, ...]:
    """A stack of an item of the last chart, however deep it is."""
    above: dict[Item, Item | None] = {item: None}  # by each item that from which it was come to
    todo = [item]
    while todo:
        item = todo.pop()
        if item.spot == ROOT and item.origin == 0:
            break
        for parent in reversed(_waiting_for(reading, item)):
            if parent not in above:
                above[parent] = item
                todo.append(parent)
    frames, here = [], item
    while here is not None:
        frames += _frame(reading, here)
        here = above[here]
    return tuple(frames)


def _stacks_of(reading: Reading, item: Item) -> list[tuple[Frame, ...]]:
    """Some stacks of an item of the last chart, none with a rule twice at a place; few if deep."""
    todo: list[tuple[Item, tuple[Frame, ...]]] = [(item, ())]
    found: list[tuple[Frame, ...]] = []
    for _ in range(MOST_CLIMBED):
        if not todo or len(found) == MOST_STACKS:
            break
        item, above = todo.pop()
        frames = _frame(reading, item)
        if frames and frames[0] in above:
            continue
        above = (*frames, *above)
        if item.spot == ROOT and item.origin == 0:
            found.append(above)
        todo.extend((parent, above) for parent in reversed(_waiting_for(reading, item)))
    return found


def _frame(reading: Reading, item: Item) -> list[Frame]:
    """That of a rule; nothing for what is in one."""
    if reading.spots.nodes[item.spot] is not None:
        return []
    return [Frame(reading.spots.rule_of[item.spot], reading.starts[item.origin])]


def _waiting_for(reading: Reading, item: Item) -> list[Item]:
    return reading.charts[item.origin].waiting.get(item.spot, [])


# Backwards: which rule took each byte.


def portions(reading: Reading, place: int) -> list[Portion]:
    """The bytes from a place on, with the rules that took them, on the first way that is open."""
    chart = reading.charts[-1]
    ends = [Item(ROOT, DONE, 0)] if Item(ROOT, DONE, 0) in chart.items else []
    for item in (*chart.on_bytes, *chart.on_tokens, *ends):
        return _joined(reversed(list(_taken(reading, item, place))))
    return []


def _taken(reading: Reading, item: Item, place: int) -> Iterator[Portion]:
    """What was read on the way to an item of the last chart, backwards down to a place."""
    todo = [(reading.place, item)]
    while todo:
        chart, item = todo.pop()
        if chart <= place:
            continue
        cause = reading.charts[chart].items[item][0]
        if cause.how is How.BEGUN and todo:
            continue  # what it is in goes on where that began
        assert cause.before is not None
        todo.append((cause.chart, cause.before))
        if cause.how in (How.BYTE, How.TOKEN):
            start, end = (reading.starts[each] for each in (cause.chart, chart))
            yield Portion(start, end, reading.spots.rule_of[item.spot])
        elif cause.inside is not None:
            todo.append((chart, cause.inside))


def _joined(portions: Iterator[Portion]) -> list[Portion]:
    found: list[Portion] = []
    for one in portions:
        if found and found[-1].rule == one.rule:
            found[-1] = found[-1]._replace(end=one.end)
        else:
            found.append(one)
    return found


# Downwards: how a complete text was read.


def uses(reading: Reading) -> Counter[tuple[int, int]]:
    """How often a complete text uses each spot, and each spot within another, on its first way.

    The keys are a spot and one right within it, or -1 for the spot itself.
    """
    spots, found = reading.spots, Counter[tuple[int, int]]()
    if reading.place == 0:
        _count_nothing(spots, ROOT, found)
        return found
    todo = [(reading.place, Item(ROOT, DONE, 0))]
    while todo:
        chart, item = todo.pop()
        cause = reading.charts[chart].items[item][0]
        found[item.spot, ITSELF] += item.at == DONE
        if cause.how is How.BEGUN:
            continue
        assert cause.before is not None
        todo.append((cause.chart, cause.before))
        if cause.inside is not None:
            found[item.spot, cause.inside.spot] += 1
            todo.append((chart, cause.inside))
        elif cause.how is How.NOTHING:
            inside = spots.inside[item.spot]
            at = cause.before.at
            _count_nothing(spots, inside[at] if at < len(inside) else inside[0], found)
    return found


def _count_nothing(spots: Spots, spot: int, found: Counter[tuple[int, int]]) -> None:
    """Count what is used where a spot is nothing."""
    todo = [spot]
    while todo:
        spot = todo.pop()
        found[spot, ITSELF] += 1
        alternative = spots.empty[spot]
        if alternative is not None:
            found[spot, alternative] += 1
            todo.append(alternative)
        elif not isinstance(spots.nodes[spot], Repeat):
            todo.extend(spots.inside[spot])


def read_twice(reading: Reading) -> Twice | None:
    """The shortest part of a complete text that was read in two ways; None if none was."""
    seen: set[tuple[int, Item]] = set()
    todo = [(reading.place, Item(ROOT, DONE, 0))] if reading.place else []
    best: tuple[int, int, Item] | None = None
    while todo:
        chart, item = todo.pop()
        if (chart, item) in seen:
            continue
        seen.add((chart, item))
        causes = reading.charts[chart].items[item]
        if len(causes) > 1 and (best is None or chart - item.origin < best[0]):
            best = chart - item.origin, chart, item
        for cause in causes:
            if cause.how is not How.BEGUN and cause.before is not None:
                todo.append((cause.chart, cause.before))
                if cause.inside is not None:
                    todo.append((chart, cause.inside))
    if best is None:
        return None
    _, chart, item = best
    rule = reading.spots.rule_of[item.spot]
    return Twice(rule, reading.starts[item.origin], reading.starts[chart])
