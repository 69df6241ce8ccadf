"""Rules of grammars put together: a root that is made of theirs, and names kept apart."""

from __future__ import annotations

from collections import ChainMap
from collections.abc import Callable, Container

from mullama_lab.engine.grammar.nodes import (
    NOTHING,
    Chars,
    Choice,
    Literal,
    Node,
    Ref,
    Repeat,
    Sequence,
    Token,
    choice,
    refs,
    renamed,
    sequence,
)

Rules = dict[str, Node]


def built(
    parts: list[Rules],
    build: Callable[..., Node],
    opened: type[Node] | tuple[()] = (),
    *,
    recursive: Container[int] = (),
) -> Rules:
    """The rules of several grammars, with a root that is made of theirs.

    What is one small item, or of the kind `opened`, goes into the new root; any other root becomes
    a rule `part`.

    Args:
        recursive: places of those whose root is referred to by a rule.
    """
    rules: Rules = {"root": NOTHING}
    items = [
        taken_in(part, rules, opened, is_alone=place not in recursive)
        for place, part in enumerate(parts)
    ]
    rules["root"] = build(*items)
    return rules


def uses_root(rules: Rules) -> bool:
    """Whether a rule refers to root."""
    return any("root" in refs(node) for node in rules.values())


def taken_in(
    part: Rules, rules: Rules, opened: type[Node] | tuple[()] = (), *, is_alone: bool
) -> Node:
    """Add a grammar's rules under names that are free; what stands for its root.

    Args:
        is_alone: whether no rule refers to its root.
    """
    root = part["root"]
    is_small = root == NOTHING or isinstance(root, (Literal, Chars, Token, Ref))
    is_small |= isinstance(root, opened)
    if is_alone and next(iter(part)) == "root" and len(rules.keys() & part.keys()) == 1:
        return _as_they_are(part, rules, keep_root=not is_small)
    names: dict[str, str] = {}
    taken = {*rules, *part}
    for name in part:
        if name == "root" and is_alone and is_small:
            continue
        wanted = "part" if name == "root" else name
        is_free = wanted not in (taken if name == "root" else rules)
        names[name] = wanted if is_free else _free(wanted, taken)
        taken.add(names[name])
    for name, new in names.items():
        rules[new] = renamed(part[name], names)
    return Ref(names["root"]) if "root" in names else renamed(root, names)


def _as_they_are(part: Rules, rules: Rules, *, keep_root: bool) -> Node:
    """Add rules whose names are free, beside that of the root, which none of them refers to."""
    root, before = part["root"], rules["root"]
    name = "part"
    if keep_root:
        taken = ChainMap(rules, part)
        name = _free(name, taken) if name in taken else name
        rules[name] = root
    rules.update(part)
    rules["root"] = before
    return Ref(name) if keep_root else root


def _free(name: str, taken: Container[str]) -> str:
    """The name with a number, such as the first that is free where they were given in order."""
    low, high = 1, 2
    while f"{name}-{high}" in taken:
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if f"{name}-{middle}" in taken else (low, middle)
    return f"{name}-{high}"


def opened(node: Node, kind: type[Sequence] | type[Choice]) -> tuple[Node, ...]:
    """The items of a node of one kind, or the node."""
    return node.items if isinstance(node, kind) else (node,)


def in_a_row(*items: Node) -> Node:
    """Items one after the other, as they are read: no sequence within another."""
    return sequence([one for item in items for one in opened(item, Sequence)])


def one_of(*items: Node) -> Node:
    """One of some items, as they are read: no choice within another."""
    return choice([one for item in items for one in opened(item, Choice)])


def repeat(item: Node, low: int, high: int | None) -> Node:
    """An item some times, as it is read: nothing comes again, and once is no repetition."""
    if high == 0 or item == NOTHING:
        return NOTHING
    return item if low == high == 1 else Repeat(item, low, high)


def repeated(item: Node, separator: Node, low: int, high: int | None) -> Node:
    """An item many times, with a separator between each two."""
    if high == 0 or separator == NOTHING:
        return repeat(item, low, high)
    more = in_a_row(separator, item)
    more = repeat(more, max(low - 1, 0), None if high is None else high - 1)
    several = in_a_row(item, more)
    return repeat(several, 0, 1) if low == 0 else several
