"""A grammar on its way through a text byte by byte: llguidance without a model's tokens.

Grammars that name tokens have no meaning here: what one token is, only a model says.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray

from mullama_lab.engine.grammar.deep_stack import on_deep_stack
from mullama_lab.engine.grammar.matching.errors import in_words
from mullama_lab.engine.grammar.matching.lark_writer import write_for_llguidance
from mullama_lab.engine.grammar.matching.place import PlaceInText
from mullama_lab.engine.grammar.nodes import Node, Token
from mullama_lab.errors import GrammarError

BYTES = 255  # those of UTF-8: 0xFF is none of them
_END = 256


class ByteMatcher(PlaceInText):
    """A grammar and how far a text of bytes has come in it; its tokens are bytes."""

    def __init__(self, work: Any) -> None:
        super().__init__(work, _END + 1)

    def copy(self) -> ByteMatcher:
        return ByteMatcher(self._work.deep_copy())

    def take(self, data: bytes) -> int:
        """Take bytes up to the first that the grammar forbids; how many."""
        return self._work.try_consume_tokens(list(data))

    def allowed(self) -> NDArray[np.intp]:
        """The bytes that may come next, ascending."""
        return np.flatnonzero(self._mask(BYTES))


def byte_matcher(rules: Mapping[str, Node]) -> ByteMatcher:
    """A matcher before the first byte of a text; the rules name no tokens.

    Raises:
        GrammarError: llguidance cannot carry the grammar out.
    """
    return _first(tuple(rules.items())).copy()


@lru_cache(maxsize=16)
def _first(rules: tuple[tuple[str, Node], ...]) -> ByteMatcher:
    from llguidance import LLMatcher

    tokenizer, text = _tokenizer(), write_for_llguidance(dict(rules), _no_tokens)
    work = on_deep_stack(lambda: LLMatcher(tokenizer, text, log_level=0))
    if error := in_words(work.get_error()):
        raise GrammarError(f"llguidance cannot carry this grammar out: {error}.")
    return ByteMatcher(work)


def _no_tokens(token: Token) -> NoReturn:
    raise GrammarError(f"the grammar names a token, {token.name}: what that is, a model says.")


@lru_cache(maxsize=1)
def _tokenizer() -> Any:
    from llguidance import LLTokenizer, TokenizerWrapper

    return LLTokenizer(TokenizerWrapper(_Bytes()), eos_token=[_END])


class _Bytes:
    """A vocabulary of single bytes, as llguidance asks for it."""

    def __init__(self) -> None:
        self.tokens = [*(bytes([byte]) for byte in range(BYTES)), b"\xff[255]", b"\xff[256]"]
        self.special_token_ids = [255, _END]
        self.eos_token_id = _END
        self.bos_token_id = None

    def __call__(self, text: bytes) -> list[int]:
        raise AssertionError("no text is tokenized: see OPTIONS in lark_writer.py")
