"""The texts that were put to a grammar, and which of its alternatives they use, found aside."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from mullama_lab.engine.grammar import Grammar
from mullama_lab.engine.grammar.coverage import Coverage, Use
from mullama_lab.engine.grammar.gbnf.lint import line_and_column
from mullama_lab.engine.latest_only import LatestOnly
from mullama_lab.errors import GrammarError
from mullama_lab.glyphs import one_line

MOST_TEXTS = 100  # the newest ones
MOST_UNUSED = 12  # that are shown by name
LONGEST = 60  # characters of an alternative


class TriedTexts:
    """Texts in the order they were tried; they stay while the grammar is another one.

    Args:
        show: called on a thread with what is to be said of them, for the trait `tried`.
    """

    def __init__(self, show: Callable[[dict[str, Any]], object]) -> None:
        self._show = show
        self._latest = LatestOnly("grammar-coverage", _not_shown)
        self._lock = threading.Lock()
        self._texts: list[str] = []
        self._grammar: Grammar | None = None
        self._written = ""
        self._found: dict[str, Coverage | None] = {}  # None: the text takes too much to be read

    def begin(self, grammar: Grammar, written: str) -> None:
        """Read the texts by another grammar from now on.

        Args:
            written: it, as it is shown.
        """
        with self._lock:
            self._grammar, self._written, self._found = grammar, written, {}
        self._look()

    def add(self, text: str) -> None:
        """A text was tried."""
        with self._lock:
            if text in self._texts:
                return
            self._texts = [*self._texts, text][-MOST_TEXTS:]
        self._look()

    def grow(self, text: str) -> None:
        """A text was tried while it is typed: it takes the place of what it goes on from."""
        with self._lock:
            last = self._texts[-1] if self._texts else ""
            if not text or last.startswith(text):
                return
            if last and text.startswith(last):
                self._texts.pop()
        self.add(text)

    def settle(self) -> None:
        """Wait until what is known of them is shown."""
        self._latest.settle()

    def close(self) -> None:
        self._latest.close()

    def _look(self) -> None:
        with self._lock:
            grammar, written, found = self._grammar, self._written, self._found
            texts = tuple(self._texts)
        if grammar is None or not texts:
            return

        def work() -> None:
            try:
                nothing = grammar.coverage([])
            except GrammarError as error:
                self._show({"problem": str(error)})
                return
            for text in texts:
                if text not in found:
                    found[text] = _read(grammar, text)
                if not self._latest.is_current():
                    return
            read = [found[text] for text in texts]
            self._show(_said(nothing, read, written))

        self._latest.submit(work)


def _read(grammar: Grammar, text: str) -> Coverage | None:
    try:
        return grammar.coverage([text])
    except GrammarError:
        return None


def _said(nothing: Coverage, read: list[Coverage | None], written: str) -> dict[str, Any]:
    """What is shown of texts that were read one by one; nothing of a grammar without choices."""
    taken = [one for one in read if one is not None and not one.refused]
    all_ = _together(nothing, taken)
    n = len(all_.alternatives)
    if n < 2:
        return {}
    gone = {use.rule for use in all_.unused if not use.alternative}
    unused = [use for use in all_.unused if not use.alternative or use.rule not in gone]
    return {
        "n_tried": len(read),
        "n_texts": len(taken),
        "n_unread": read.count(None),
        "n_alternatives": n,
        "n_used": sum(1 for use in all_.alternatives if use.n_uses),
        "n_unused": len(unused),
        "unused": [
            {"text": _name(use), **line_and_column(written, use.rule)}
            for use in unused[:MOST_UNUSED]
        ],
    }


def _together(nothing: Coverage, taken: list[Coverage]) -> Coverage:
    """What texts use that were read one by one."""
    uses = [
        same[0]._replace(
            n_texts=sum(use.n_texts for use in same), n_uses=sum(use.n_uses for use in same)
        )
        for same in zip(nothing.uses, *(one.uses for one in taken), strict=True)
    ]
    return replace(nothing, uses=tuple(uses), n_texts=len(taken))


def _name(use: Use) -> str:
    text = one_line(f"{use.rule} ::= {use.alternative}" if use.alternative else use.rule)
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}…"


def _not_shown(error: Exception) -> None:
    """What texts use is not known, and nothing is said of it."""
