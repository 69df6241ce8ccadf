"""Write a grammar for llguidance: its rules as Lark, its parts beside them.

The text is for llguidance alone. Rules are named r0, r1, ..., lexemes L0, L1, ...; every character
of a lexeme that is no letter or digit is given by its number.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from mullama_lab.engine.grammar import nodes
from mullama_lab.engine.grammar.charset import SURROGATES, Ranges
from mullama_lab.engine.grammar.matching.lexemes import cut_into_lexemes, lexemes_of
from mullama_lab.engine.grammar.matching.right_recursion import with_repetitions
from mullama_lab.engine.grammar.nodes import (
    Chars,
    Choice,
    Lexeme,
    Literal,
    Node,
    Part,
    Ref,
    Repeat,
    Token,
)
from mullama_lab.engine.grammar.schema.writer import for_llguidance

OPTIONS = '%llguidance {"no_forcing": true}\n'  # or it masks all but the tokenizer's own tokens

DEEPEST = 9  # nodes within one another in one rule; llguidance takes about 30 parentheses

TokenIds = Callable[[Token], Sequence[int]]


def write_for_llguidance(
    rules: Mapping[str, Node],
    token_ids: TokenIds,
    *,
    after: str | None = None,
    fast_forward: bool = False,
) -> str:
    """What `LLMatcher` takes as its grammar.

    Args:
        token_ids: the ids, ascending, of the tokens that may stand for a Token; one at least.
        after: a regular expression: any text comes first, up to its first match.
        fast_forward: of a text that must come, allow the tokenizer's own tokens alone.
    """
    rules = with_repetitions(rules)
    cut = cut_into_lexemes(rules)
    return _Writer(rules, cut, token_ids).text(after, "" if fast_forward else OPTIONS)


def write_marker(expression: str) -> str:
    """The same of any text up to the first match of a regular expression."""
    lark = f"{OPTIONS}start: before\n{_before(expression)}\n"
    return json.dumps({"grammars": [{"lark_grammar": lark}]})


def up_to(expression: str) -> str:
    """The regular expression of a text that ends with a match of another one."""
    return f"(?s:.*)(?:{expression})"


def of_text(text: str) -> str:
    """The regular expression of one text."""
    return "".join(_character(ord(character)) for character in text)


def _before(expression: str) -> str:
    from llguidance import regex_to_lark

    return f"before[lazy]: /{regex_to_lark(up_to(expression), '')}/"


class _Writer:
    def __init__(
        self, rules: Mapping[str, Node], cut: Mapping[str, Node], token_ids: TokenIds
    ) -> None:
        self.all_rules, self.cut, self.token_ids = rules, cut, token_ids
        self.names = {name: f"r{number}" for number, name in enumerate(cut)}
        self.lexemes = {node: f"L{number}" for number, node in enumerate(lexemes_of(cut))}
        tokens = (n for body in cut.values() for n in nodes.walk(body) if isinstance(n, Token))
        self.named = sorted({token_ids(Token(token.name))[0] for token in tokens})
        self.groups: list[str] = []  # rules that are only there to keep others flat
        self.parts: list[dict[str, Any]] = []

    def text(self, after: str | None, options: str) -> str:
        bodies = [f"{self.names[name]}: {self.rule(body)}" for name, body in self.cut.items()]
        bodies += self.groups
        lexemes = [f"{name}: /{self.regex(node)}/" for node, name in self.lexemes.items()]
        start, first = f"start: {self.names['root']}", []
        if after is not None:
            start, first = f"start: before {self.names['root']}", [_before(after)]
        lark = options + "\n".join([start, *first, *bodies, *lexemes]) + "\n"
        return json.dumps({"grammars": [{"lark_grammar": lark}, *self.parts]})

    # Rules.

    def rule(self, node: Node, depth: int = 0) -> str:
        """A node in a rule."""
        if depth > DEEPEST and isinstance(node, (Repeat, Choice, nodes.Sequence)):
            number = len(self.groups)
            self.groups.append("")
            self.groups[number] = f"g{number}: {self.rule(node)}"
            return f"g{number}"
        if isinstance(node, Lexeme):
            return self.lexemes[node.node]
        if isinstance(node, Ref):
            return self.names[node.name]
        if isinstance(node, Token):
            return self.token(node)
        if isinstance(node, Part):
            return self.part(node)
        if isinstance(node, Repeat):
            item = self.rule(node.item, depth + 1)
            if isinstance(node.item, Repeat):
                item = f"({item})"
            return item + _times(node.low, node.high) if node.item != nodes.NOTHING else '""'
        if isinstance(node, Choice):
            return f"({' | '.join(self.rule(item, depth + 1) for item in node.items)})"
        assert isinstance(node, nodes.Sequence)
        items = " ".join(self.rule(item, depth + 1) for item in node.items)
        return f"({items})" if items else '""'

    def token(self, node: Token) -> str:
        """A token, as one of sets that have none in common: llguidance takes one set for a token,
        and does not see what would go on from another."""
        ids = self.token_ids(node)
        others = [one for one in ids if one not in self.named]
        sets = [f"<[{one}]>" for one in self.named if one in ids]
        sets += [f"<[{_spans(others)}]>"] if others else []
        return f"({' | '.join(sets)})"

    def part(self, node: Part) -> str:
        if node.kind == "regex":
            from llguidance import regex_to_lark

            return f"/{regex_to_lark(node.text, '')}/"
        name = f"p{len(self.parts)}"
        if node.kind == "lark":
            self.parts.append({"name": name, "lark_grammar": node.text})
        else:
            self.parts.append({"name": name, "json_schema": for_llguidance(node.text)})
        return f"@{name}"

    # Lexemes.

    def regex(self, node: Node) -> str:
        """A node in a lexeme, as one item of a regular expression."""
        if isinstance(node, Literal):
            return _group("".join(map(_character, map(ord, node.text))))
        if isinstance(node, Chars):
            return _char_class(node.ranges)
        if isinstance(node, Ref):
            return self.regex(self.all_rules[node.name])
        if isinstance(node, Repeat):
            return _group(self.regex(node.item) + _times(node.low, node.high))
        if isinstance(node, Choice):
            return _group("|".join(map(self.regex, node.items)))
        assert isinstance(node, nodes.Sequence)
        return _group("".join(map(self.regex, node.items)))


def _group(text: str) -> str:
    return f"(?:{text})"


def _times(low: int, high: int | None) -> str:
    signs = {(0, None): "*", (1, None): "+", (0, 1): "?"}
    return signs.get((low, high)) or f"{{{low},{'' if high is None else high}}}"


def _char_class(ranges: Ranges) -> str:
    low, high = SURROGATES
    assert not any(first <= high and low <= last for first, last in ranges)
    members = "".join(
        _character(first) + (f"-{_character(last)}" if last > first else "")
        for first, last in ranges
    )
    return f"[{members}]"


def _character(code: int) -> str:
    plain = chr(code).isascii() and chr(code).isalnum()
    return chr(code) if plain else f"\\x{{{code:x}}}"


def _spans(ids: Sequence[int]) -> str:
    """Ascending ids as `1-3,7`."""
    spans: list[list[int]] = []
    for token in ids:
        if spans and token == spans[-1][1] + 1:
            spans[-1][1] = token
        else:
            spans.append([token, token])
    return ",".join(str(a) if a == b else f"{a}-{b}" for a, b in spans)
