"""Cut a grammar into lexemes, so that llguidance's lexer reads just what the grammar means.

llguidance reads a text in lexemes, each as far as it goes: of `"a" "b" "c" | "ab" "d"` it would
never read "abc", for "ab" is longer than "a". llama.cpp follows every way at once. Character by
character both agree, but slowly. So what is regular becomes one lexeme where that is sure to lose
nothing: where no text of a lexeme is the beginning of another one's, or of a longer one of its
own, that goes on with a character which may also come after it. What fails this is cut in pieces
until it holds. Lexemes of one character always do.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import groupby

from mullama_lab.engine.grammar import charset
from mullama_lab.engine.grammar.charset import Ranges
from mullama_lab.engine.grammar.matching.automaton import (
    Automaton,
    TooLarge,
    automaton,
    beginning,
    read_on,
)
from mullama_lab.engine.grammar.matching.follow import characters_after
from mullama_lab.engine.grammar.matching.node_rows import must_be_quick
from mullama_lab.engine.grammar.nodes import (
    NOTHING,
    Chars,
    Choice,
    Lexeme,
    Literal,
    Node,
    Part,
    Ref,
    Repeat,
    Sequence,
    Token,
    choice,
    inner,
    reached,
    refs,
    sequence,
    walk,
)

LARGEST = 20_000  # characters of one lexeme, counted where they are written
DEEPEST = 80  # nodes of one lexeme within one another
MOST_AGAIN = 200  # uses of rules written out once more, where what may be nothing is left out
MOST_LEXEMES = 400  # that are compared with one another
MOST_ROUNDS = 40  # of cutting
MOST_RULES_CUT = 20_000  # in all rounds


def cut_into_lexemes(rules: Mapping[str, Node]) -> dict[str, Node]:
    """The rules that can be reached from root, with a Lexeme for all that takes characters.

    Raises:
        GrammarError: a lexer would work on some of them for seconds.
    """
    rules = reached(rules, "root")
    sizes = _sizes(rules)
    reading = LexemeReading(rules)
    too_long: set[Node] = set()
    for _ in range(max(2, min(MOST_ROUNDS, MOST_RULES_CUT // len(rules)))):
        cut = _Cutter(rules, sizes, too_long).cut()
        lexemes = lexemes_of(cut)
        must_be_quick(lexemes, rules)
        if len(lexemes) > MOST_LEXEMES:
            break
        misread = reading.misread(cut, lexemes)
        if not misread:
            return cut
        too_long |= misread
    return _Cutter(rules, sizes, None).cut()


def lexemes_of(cut: Mapping[str, Node]) -> list[Node]:
    """The nodes that are lexemes, each once."""
    found = {n.node: None for body in cut.values() for n in walk(body) if isinstance(n, Lexeme)}
    return list(found)


@dataclass
class LexemeReading:
    """What is known of lexemes, from one round of cutting to the next."""

    rules: Mapping[str, Node]
    beginnings: dict[Node, Ranges] = field(default_factory=dict)
    automata: dict[Node, Automaton] = field(default_factory=dict)

    def misread(self, cut: Mapping[str, Node], lexemes: list[Node]) -> set[Node]:
        """The lexemes that a lexer may read too far, or that are too large to tell."""
        for node in lexemes:
            if node not in self.beginnings:
                self.beginnings[node] = beginning(node, self.rules)
        first = {node: self.beginnings[node] for node in lexemes}
        after = characters_after(cut, first)
        found: set[Node] = set()
        for a in lexemes:
            for b in lexemes if after[a] else ():
                alike = not isinstance(b, Chars) and charset.meet(first[a], first[b])
                if alike and not found & {a, b}:
                    found |= self.cut_instead(a, b, after[a])
        return found

    def cut_instead(self, a: Node, b: Node, after_a: Ranges) -> set[Node]:
        """Which of two lexemes has to be cut, since `b` may be read past an end of `a`."""
        for node in (a, b):
            if node not in self.automata:
                try:
                    self.automata[node] = automaton(node, self.rules)
                except TooLarge:
                    return {node}
        return {b} if read_on(self.automata[a], self.automata[b], after_a) else set()


def _sizes(rules: Mapping[str, Node]) -> dict[str, int]:
    """How many characters each rule would be as a lexeme; more than LARGEST if it can be none."""
    sizes: dict[str, int] = {}
    depths: dict[str, int] = {}
    for name in _users_last(rules):
        size = depth = 0
        for node in walk(rules[name]):
            if isinstance(node, (Token, Part)):
                size = LARGEST + 1
            elif isinstance(node, Ref):
                size += sizes.get(node.name, LARGEST + 1)  # one that is not known yet is recursive
                depth = max(depth, depths.get(node.name, 0))
            elif isinstance(node, Literal):
                size += len(node.text)
            else:
                size += 1
        depths[name] = depth + _depth(rules[name])
        sizes[name] = min(size, LARGEST + 1) if depths[name] <= DEEPEST else LARGEST + 1
    return sizes


def _depth(node: Node) -> int:
    return 1 + max(map(_depth, inner(node)), default=0)


def _users_last(rules: Mapping[str, Node]) -> Iterator[str]:
    """The names of rules, each after those it refers to, as far as that can be."""
    seen: set[str] = set()
    for start in rules:
        if start in seen:
            continue
        seen.add(start)
        todo = [(start, refs(rules[start]))]
        while todo:
            name, rest = todo[-1]
            for to in rest:
                if to not in seen:
                    seen.add(to)
                    todo.append((to, refs(rules[to])))
                    break
            else:
                todo.pop()
                yield name


@dataclass
class _Cutter:
    """Cuts rules once.

    Attributes:
        sizes: of the rules as lexemes.
        too_long: what must not be a lexeme; None cuts into single characters.
    """

    rules: Mapping[str, Node]
    sizes: Mapping[str, int]
    too_long: set[Node] | None
    empty: dict[str, bool] = field(default_factory=dict)  # rules that may be nothing

    def cut(self) -> dict[str, Node]:
        cut: dict[str, Node] = {}
        todo = ["root"]
        while todo:
            name = todo.pop()
            if name not in cut:
                cut[name] = self.pieces(self.rules[name])
                todo.extend(refs(cut[name]))
        return cut

    def pieces(self, node: Node) -> Node:
        """A node with lexemes for what takes characters."""
        if isinstance(node, (Token, Part)) or node == NOTHING:
            return node
        if isinstance(node, Chars):
            return Lexeme(node)
        if self.may_be_one(node):
            if not self.is_nullable(node):
                return Lexeme(node)
            if not isinstance(node, Sequence) and self.is_soon_written(node):
                something = self.without_nothing(node)
                return NOTHING if something is None else Repeat(self.pieces(something), 0, 1)
        if isinstance(node, Literal):
            return sequence([Lexeme(Chars(((ord(c), ord(c)),))) for c in node.text])
        if isinstance(node, Repeat):
            return Repeat(self.pieces(node.item), node.low, node.high)
        if isinstance(node, Choice):
            return choice([self.pieces(item) for item in node.items])
        if isinstance(node, Sequence):
            return sequence([self.pieces(run) for run in self.runs(node)])
        assert isinstance(node, Ref)
        return node

    def may_be_one(self, node: Node) -> bool:
        """Whether a node may become a lexeme."""
        return self.too_long is not None and node not in self.too_long and self.is_regular(node)

    def is_regular(self, node: Node) -> bool:
        if isinstance(node, Ref):
            return self.sizes[node.name] <= LARGEST
        if isinstance(node, (Token, Part)):
            return False
        return all(map(self.is_regular, inner(node)))

    def runs(self, node: Sequence) -> Iterator[Node]:
        """The items of a sequence, put together where they may be one lexeme."""
        items = node.items
        if self.too_long is None or (self.is_regular(node) and self.is_nullable(node)):
            yield from items
        elif self.is_regular(node):  # it was one, and too long; the trouble is often at its end
            half = len(items) // 2 if len(items) > 4 else len(items) - 1
            yield from map(sequence, (list(items[:half]), list(items[half:])))
        else:
            for regular, group in groupby(items, self.is_regular):
                run = list(group)
                yield from [sequence(run)] if regular else run

    # Nothing.

    def is_nullable(self, node: Node) -> bool:
        """Whether a regular node may be the empty text."""
        if isinstance(node, Ref):
            if node.name not in self.empty:
                self.empty[node.name] = self.is_nullable(self.rules[node.name])
            return self.empty[node.name]
        if isinstance(node, Sequence):
            return all(map(self.is_nullable, node.items))
        if isinstance(node, Choice):
            return any(map(self.is_nullable, node.items))
        return isinstance(node, Repeat) and (node.low == 0 or self.is_nullable(node.item))

    def is_soon_written(self, node: Node) -> bool:
        """Whether `without_nothing` is not too much: it writes each rule where it is used."""
        todo, written, n_again = [node], set[str](), 0
        while todo and n_again <= MOST_AGAIN:
            one = todo.pop()
            if isinstance(one, Ref):
                n_again += one.name in written
                written.add(one.name)
                todo.append(self.rules[one.name])
            else:
                todo += inner(one)
        return not todo

    def without_nothing(self, node: Node) -> Node | None:
        """The node less the empty text, where it is one that has it; None if nothing is left."""
        if not self.is_nullable(node):
            return node
        if isinstance(node, Ref):
            return self.without_nothing(self.rules[node.name])
        if isinstance(node, Choice):
            found = [x for item in node.items if (x := self.without_nothing(item)) is not None]
            return choice(found) if found else None
        if isinstance(node, Repeat):
            item = self.without_nothing(node.item)
            return None if item is None or node.high == 0 else Repeat(item, 1, node.high)
        assert isinstance(node, Sequence)
        firsts = []
        for place in range(len(node.items)):
            first = self.without_nothing(node.items[place])
            if first is not None:
                firsts.append(sequence([first, *node.items[place + 1 :]]))
        return choice(firsts) if firsts else None
