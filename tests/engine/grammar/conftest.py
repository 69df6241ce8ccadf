"""What the tests of grammars share: llama.cpp's own grammars, and grammars made by chance.

`data/` holds the files of llama.cpp's `grammars/` folder, and the licence that they are under.
"""

from __future__ import annotations

import random
from pathlib import Path

import pytest

import mullama_lab as ml
from mullama_lab.engine import native, tiny
from mullama_lab.engine.grammar.gbnf.left_recursion import left_recursive
from mullama_lab.engine.grammar.gbnf.reader import read_gbnf

DATA = Path(__file__).parent / "data"
FILES = sorted(DATA.glob("*.gbnf"))

# Tokens that span characters, lexemes and rules; some begin or end within a character.
PIECES = ["ab", "abc", "bc", "ba", "aa", "aab", "cab", "c-", "-a", "éa", "aé", "abé", "  ", "\n\n"]
PIECES += ["b\n", "è", "日", "日本", "a日"]

NAMES = ["root", "x", "y", "z", "w-1"]
CLASSES = ["[a-c]", "[^a]", "[ab]", "[^b\\n]", ".", "[a-zé]", "[ \\n]", "[^é]", "[à-ü]", "[日-本]"]
CLASSES += ["[^日a]", "[b-]"]
TIMES = [*[""] * 8, "*", "+", "?", "{2}", "{0,3}", "{1,2}", "{2,}", "{3}{0,2}"]
LETTERS = ["a", "b", "c", "ab", "-", "é", "\\n", "日", " "]


class GrammarMaker:
    """Makes texts in GBNF by chance. A rule refers to later ones, or to any in parentheses."""

    def __init__(self, seed):
        self.chance = random.Random(seed)

    def atom(self, later, depth):
        kind = self.chance.random()
        if kind < 0.3:
            return f'"{"".join(self.chance.choices(LETTERS, k=self.chance.randint(1, 3)))}"'
        if kind < 0.5:
            return self.chance.choice(CLASSES)
        if kind < 0.75 or depth <= 0:
            if not later:
                return self.chance.choice(['"c"', "[ab]"])
            if self.chance.random() < 0.9:
                return self.chance.choice(later)
            return f'"(" {self.chance.choice(NAMES[1:])} ")"'
        return f"({self.alternatives(later, depth - 1)})"

    def items(self, later, depth):
        n = self.chance.choice([0, 1, 1, 2, 2, 3, 3, 4])
        found = [self.atom(later, depth) + self.chance.choice(TIMES) for _ in range(n)]
        return " ".join(found) or '""'

    def alternatives(self, later, depth):
        n = self.chance.choice([1, 1, 1, 2, 2, 3])
        return " | ".join(self.items(later, depth) for _ in range(n))

    def text(self):
        """A grammar without left recursion."""
        while True:
            lines = [
                f"{name} ::= {self.alternatives(NAMES[place + 1 :], 1)}"
                for place, name in enumerate(NAMES)
            ]
            text = "\n".join(lines)
            if left_recursive(read_gbnf(text)) is None:
                return text


@pytest.fixture(scope="session")
def grammar_maker():
    """A function that gives a GrammarMaker for a seed."""
    return GrammarMaker


@pytest.fixture(params=FILES, ids=lambda path: path.stem)
def grammar_file(request):
    """One of llama.cpp's own grammars after the other."""
    return request.param


@pytest.fixture(scope="session")
def pieces_model(tmp_path_factory):
    """A tiny model whose tokens are bytes and PIECES."""
    path = tiny.write(tmp_path_factory.mktemp("grammar") / "pieces.gguf", pieces=PIECES)
    with ml.Model.load(path) as model:
        yield model


@pytest.fixture(scope="session")
def llama_reads(pieces_model, native_vocabulary):
    """A function that says whether llama.cpp's own parser takes a text."""

    with native_vocabulary(pieces_model) as vocabulary:

        def reads(text):
            try:
                native.sampler("grammar", vocabulary, text.encode(), b"root")
            except ValueError:
                return False
            return True

        yield reads
