"""Read GBNF as llama.cpp's parser does, and say where what it would not read is wrong.

Names are letters, digits and `-`. A rule ends with its line, but for the inside of parentheses and
what follows `|` or `::=`. `.` is any character, newlines too. Escapes are `\\t`, `\\r`, `\\n`,
`\\\\`, `\\"`, `\\[`, `\\]`, `\\-`, and a character as `\\xHH`, `\\uHHHH` or `\\UHHHHHHHH`.
`<name>` and `<[7]>` are one token, `!<name>` any other. At most 2000 copies come of one item.

What llama.cpp reads as something that nobody means is refused here: a second rule of one name,
which takes the place of the first; `[]` and `[^]`, which are nothing at all; `[z-a]`, which no
character meets; NUL and surrogates, which no text holds; `{3,2}`, over which it ends the process;
and `{0,2001}`, which it takes for no limit.

Everything here is bounded: a text has at most a million characters, 50 parentheses within one
another, 2 repetitions of one item and 20 000 rules.
"""

from __future__ import annotations

import re
from collections.abc import Container
from typing import NoReturn

from mullama_lab.engine.grammar import charset
from mullama_lab.engine.grammar.nodes import (
    NOTHING,
    Chars,
    Literal,
    Node,
    Ref,
    Repeat,
    Token,
    choice,
    sequence,
)
from mullama_lab.engine.grammar.text_places import error_at
from mullama_lab.errors import GrammarError
from mullama_lab.glyphs import brief, visible

LONGEST_TEXT = 1_000_000  # characters
DEEPEST = 50  # parentheses within one another
MOST_SIGNS = 2  # of repetition in a row, as in `x{3}?`
MOST_RULES = 20_000
MOST_COPIES = 2000  # of one item; llama.cpp's MAX_REPETITION_THRESHOLD

_NAME = re.compile(r"[a-zA-Z0-9-]+")
_DIGITS = re.compile(r"[0-9]+")
_SPACE = re.compile(r"(?:[ \t]|#[^\r\n]*)*")
_SPACE_AND_LINES = re.compile(r"(?:[ \t\r\n]|#[^\r\n]*)*")
_ESCAPED = {"t": "\t", "r": "\r", "n": "\n", "\\": "\\", '"': '"', "[": "[", "]": "]", "-": "-"}
_HEX_DIGITS = {"x": 2, "u": 4, "U": 8}
_PLAIN = re.compile(r'[^"\\\0\ud800-\udfff]+')


def is_name(name: str) -> bool:
    """Whether a rule can be named so."""
    return _NAME.fullmatch(name) is not None


def rule_place(text: str, name: str) -> int:
    """Where a rule begins in a text that was read."""
    match = re.search(rf"^[ \t]*(?={re.escape(name)}[ \t]*::=)", text, re.M)
    return match.end() if match else 0


def read_gbnf(
    text: str,
    *,
    parts: Container[str] = (),
    known: Container[str] = (),
    longest: int | None = LONGEST_TEXT,
) -> dict[str, Node]:
    """The rules of a GBNF text, in its order.

    Args:
        parts: names of rules that are defined elsewhere, and not here.
        known: names of rules that are defined elsewhere, and may be here too.
        longest: characters; None is no limit, for what was written of a grammar that there was.

    Raises:
        GrammarError: it is no GBNF; with line, column and caret.
        TypeError: it is no text.
    """
    if not isinstance(text, str):
        raise TypeError(f"a grammar is a text, not {brief(text)}.")
    if longest is not None and len(text) > longest:
        raise GrammarError(
            f"the grammar has {len(text)} characters and may have {longest}. Leave out what "
            "no rule needs."
        )
    return _Reader(text, parts, known).read()


def read_right_side(text: str, known: Container[str]) -> Node:
    """What stands right of `::=`, of rules that are known; lines go on freely.

    Raises: as `read_gbnf`.
    """
    reader = _Reader(text, (), known)
    reader.skip(lines=True)
    node = reader.alternatives(nested=True)
    if reader.next:
        reader.fail(f"expected the end, found {reader.found()}")
    reader.must_know_its_rules()
    return node


class _Reader:
    """Goes through a text once, from `place` on."""

    def __init__(self, text: str, parts: Container[str], known: Container[str]) -> None:
        self.text, self.parts, self.known = text, parts, known
        self.place = 0
        self.depth = 0
        self.rules: dict[str, Node] = {}
        self.first_ref: dict[str, int] = {}  # where each name was first referred to
        self.n_symbols = 0  # rules that llama.cpp knows of so far: named, groups, repetitions

    def read(self) -> dict[str, Node]:
        self.skip(lines=True)
        while self.next:
            self.rule()
        if not self.rules:
            self.fail("a grammar has a rule at least: root ::= ...")
        self.must_know_its_rules()
        if not self.is_defined("root"):
            self.fail("no rule is named 'root', with which every text begins", 0)
        return self.rules

    def is_defined(self, name: str) -> bool:
        return name in self.rules or name in self.parts or name in self.known

    def must_know_its_rules(self) -> None:
        for name, place in self.first_ref.items():
            if not self.is_defined(name):
                self.fail(f"no rule is named {name!r}", place)

    # The text.

    @property
    def next(self) -> str:
        """The next character; empty at the end."""
        return self.text[self.place : self.place + 1]

    def skip(self, *, lines: bool) -> None:
        """Go past blanks and comments, and ends of lines if told so."""
        match = (_SPACE_AND_LINES if lines else _SPACE).match(self.text, self.place)
        assert match is not None  # it matches nothing, too
        self.place = match.end()

    def taken(self, pattern: re.Pattern[str], what: str) -> str:
        match = pattern.match(self.text, self.place)
        if match is None:
            self.fail(f"expected {what}, found {self.found()}")
        self.place = match.end()
        return match.group()

    def must_be(self, wanted: str, hint: str = "") -> None:
        if not self.text.startswith(wanted, self.place):
            self.fail(f"expected {wanted!r}, found {self.found()}{hint}")
        self.place += len(wanted)

    def found(self) -> str:
        if not self.next:
            return "the end"
        return "the end of the line" if self.next in "\r\n" else brief(self.next)

    def fail(self, message: str, place: int | None = None) -> NoReturn:
        raise error_at(self.text, self.place if place is None else place, message + ".")

    # Rules.

    def rule(self) -> None:
        start = self.place
        name = self.taken(_NAME, "the name of a rule")
        if name in self.rules or name in self.parts:
            self.fail(f"there is another rule {name!r} above", start)
        if len(self.rules) >= MOST_RULES:
            self.fail(f"a grammar has at most {MOST_RULES} rules", start)
        self.skip(lines=False)
        hint = "; names are letters, digits and '-'" if self.next and self.next in "_.:" else ""
        self.must_be("::=", hint if not self.text.startswith("::", self.place) else "")
        self.skip(lines=True)
        self.n_symbols += name not in self.first_ref
        self.rules[name] = NOTHING  # it counts as known within itself
        self.rules[name] = self.alternatives(nested=False)
        if self.next and self.next not in "\r\n":
            hint = "; names are letters, digits and '-'" if self.next == "_" else ""
            self.fail(f"expected the end of the line, found {self.found()}{hint}")
        self.skip(lines=True)
        if self.next == "|":
            self.fail("a rule ends with its line. Put '|' at the end of the line before")

    def alternatives(self, *, nested: bool) -> Node:
        items = [self.items(nested=nested)]
        while self.next == "|":
            self.place += 1
            self.skip(lines=True)
            items.append(self.items(nested=nested))
        return choice(items)

    def items(self, *, nested: bool) -> Node:
        found: list[Node] = []
        last: Node | None = None  # what a repetition would repeat
        weight = 1  # how many rules it stands for
        n_signs = 0  # of repetition behind it
        while self.next and self.next not in "|)\r\n":
            if self.next in "*+?{":
                if last is None:
                    self.fail("nothing stands before it to be repeated")
                start = self.place
                n_signs += 1
                if n_signs > MOST_SIGNS:
                    self.fail(f"more than {MOST_SIGNS} repetitions of one item. Write one")
                low, high = self.times(nested=nested)
                weight = self.repeated(low, high, weight, start)
                found.pop()
                # What was repeated no times is gone, and cannot be repeated again.
                last = None if high == 0 else Repeat(last, low, high)
            else:
                last, weight = self.item()
                n_signs = 0
                last = None if last == NOTHING else last
            if last is not None:
                found.append(last)
            self.skip(lines=nested)
        return sequence(found)

    def item(self) -> tuple[Node, int]:
        """One item, and how many rules it stands for where it is repeated."""
        if self.next == '"':
            return self.literal(), 1
        if self.next == "[":
            return self.char_class(), 1
        if self.next == ".":
            self.place += 1
            return Chars(charset.EVERY), 1
        if self.next in "<!":
            return self.token(), 1
        if self.next == "(":
            return self.group()
        place = self.place
        if _NAME.match(self.text, place) is None:
            hint = "; names are letters, digits and '-'" if self.next == "_" else ""
            self.fail(f"expected a rule, a text, a class or the end, found {self.found()}{hint}")
        name = self.taken(_NAME, "a name")
        if name not in self.first_ref:
            self.first_ref[name] = place
            self.n_symbols += name not in self.rules
        return Ref(name), 1

    def group(self) -> tuple[Node, int]:
        start = self.place
        self.depth += 1
        if self.depth > DEEPEST:
            self.fail(f"more than {DEEPEST} parentheses within one another. Name some of it a rule")
        self.place += 1
        self.skip(lines=True)
        before = self.n_symbols
        self.n_symbols += 1
        node = self.alternatives(nested=True)
        if self.next != ")":
            where = error_at(self.text, start, "").line
            self.fail(f"expected ')' of the '(' in line {where}, found {self.found()}")
        self.place += 1
        self.depth -= 1
        # An empty group can be repeated: it is a rule of its own.
        return (Repeat(NOTHING, 1, 1) if node == NOTHING else node), self.n_symbols - before

    # Repetitions.

    def times(self, *, nested: bool) -> tuple[int, int | None]:
        sign, start = self.next, self.place
        self.place += 1
        if sign != "{":
            return {"*": (0, None), "+": (1, None), "?": (0, 1)}[sign]
        self.skip(lines=nested)
        low = self.number()
        self.skip(lines=nested)
        high: int | None = low
        if self.next == ",":
            self.place += 1
            self.skip(lines=nested)
            high = self.number() if _DIGITS.match(self.text, self.place) else None
            self.skip(lines=nested)
        self.must_be("}")
        if high is not None and high < low:
            self.fail(f"{low} to {high} times: the second number is less than the first", start)
        return low, high

    def number(self) -> int:
        start = self.place
        digits = self.taken(_DIGITS, "a number")
        if len(digits) > 9 or int(digits) > MOST_COPIES:
            self.fail(
                f"{digits[:12]} times: llama.cpp repeats at most {MOST_COPIES} times. {{0,}} has "
                "no limit",
                start,
            )
        return int(digits)

    def repeated(self, low: int, high: int | None, weight: int, start: int) -> int:
        """Take note of the rules that a repetition makes; how many the item then stands for."""
        copies = high or low or 1
        if weight * copies > MOST_COPIES:
            self.fail(
                f"{copies} times what is {weight} rules already, and llama.cpp makes at most "
                f"{MOST_COPIES}. Repeat less, or name what is repeated a rule of its own",
                start,
            )
        self.n_symbols += 1 if high is None else high - low
        return weight * copies

    # Characters.

    def literal(self) -> Node:
        start = self.place
        self.place += 1
        pieces = []
        while self.next != '"':
            if not self.next:
                self.fail("the text that begins here has no '\"' at its end", start)
            match = _PLAIN.match(self.text, self.place)
            if match is not None:
                self.place = match.end()
                pieces.append(match.group())
            else:
                pieces.append(chr(self.character(nul=False)))
        self.place += 1
        return Literal("".join(pieces)) if pieces else NOTHING

    def char_class(self) -> Node:
        start = self.place
        self.place += 1
        negated = self.next == "^"
        self.place += negated
        ranges: list[tuple[int, int]] = []
        while self.next != "]":
            if not self.next:
                self.fail("the class that begins here has no ']' at its end", start)
            place = self.place
            first = last = self.character()
            if self.next == "-" and self.text[self.place + 1 : self.place + 2] not in ("]", ""):
                self.place += 1
                last = self.character()
            if last < first:
                self.fail("this range goes backwards", place)
            ranges.append((first, last))
        self.place += 1
        if not ranges:
            self.fail('a class has a character at least. Write "" for nothing, . for any', start)
        members = charset.of_ranges(ranges)
        if negated:
            members = charset.all_but(members)
        if not members:
            self.fail("no text has a character of this class", start)
        return Chars(members)

    def character(self, *, nul: bool = True) -> int:
        """The code point of a character or an escape; NUL may stand in a class alone."""
        start = self.place
        sign = self.next
        self.place += 1
        if sign != "\\":
            code = ord(sign)
        else:
            sign = self.next
            self.place += 1
            if sign in _ESCAPED:
                return ord(_ESCAPED[sign])
            if sign not in _HEX_DIGITS:
                self.fail(f"there is no escape \\{visible(sign)}", start)
            n = _HEX_DIGITS[sign]
            digits = re.compile(f"[0-9a-fA-F]{{{n}}}").match(self.text, self.place)
            if digits is None:
                self.fail(f"\\{sign} takes {n} hexadecimal digits", start)
            self.place = digits.end()
            code = int(digits.group(), 16)
        low, high = charset.SURROGATES
        if low <= code <= high:
            self.fail(f"U+{code:04X} is half of a character", start)
        if code > charset.LAST:
            self.fail(f"U+{code:X} is past the last character, U+{charset.LAST:X}", start)
        if code == 0 and not nul:
            self.fail("NUL ends a text for llama.cpp, so no text holds one", start)
        return code

    # Tokens.

    def token(self) -> Node:
        start = self.place
        negated = self.next == "!"
        self.place += negated
        begins = self.place
        self.must_be("<")
        if self.next == "[":
            self.place += 1
            digits = self.taken(_DIGITS, "the id of a token")
            if len(digits) > 10 or int(digits) >= 2**31:
                self.fail("there is no token of that id", start)
            self.must_be("]>")
            return Token(int(digits), negated)
        end = self.text.find(">", self.place)
        if end < 0:
            self.fail("the token that begins here has no '>' at its end", start)
        self.place = end + 1
        name = self.text[begins : self.place]
        if any("\ud800" <= c <= "\udfff" or c == "\0" for c in name):
            self.fail("the name of a token holds no NUL and no half of a character", start)
        return Token(name, negated)
