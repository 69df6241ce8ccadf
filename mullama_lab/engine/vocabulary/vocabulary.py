"""The tokens of a model: which ids there are, their bytes, and which of them steer or end."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Set
from typing import Any

from mullama_lab.engine.model_memory import ModelMemory
from mullama_lab.engine.native import model as native
from mullama_lab.glyphs import brief

_NO_IDS = (str, bytes, bytearray, memoryview, Mapping, Set)  # no order, or no numbers meant


class Vocabulary:
    """The tokens of one model. Any number of threads may ask it.

    What it was asked once it knows for good, also after the model was closed.

    Args:
        memory: where llama.cpp has it.
        n_tokens: how many there are; ids are 0 to n_tokens - 1.
        kind: "SPM", "BPE", "WPM", "UGM", "RWKV", "PLAMO2" or "NONE".
        adds_space: whether a space is put before a text.
    """

    def __init__(self, memory: ModelMemory, *, n_tokens: int, kind: str, adds_space: bool) -> None:
        self.n_tokens, self.kind, self.adds_space = n_tokens, kind, adds_space
        self._memory = memory
        self._bytes: dict[int, tuple[bytes, bytes]] = {}  # its name or text, and its text alone
        self._ends: dict[int, bool] = {}

    def bytes_of(self, token: int) -> tuple[bytes, bytes]:
        """(the bytes of a token, those it adds to a text); a control token adds none.

        Without a vocabulary tokens have numbers for names: (b"<7>", b"").
        """
        if type(token) is not int:  # 1.0 would find those of 1
            token = self.check(token)
        found = self._bytes.get(token)
        if found is None:
            token = self.check(token)
            found = self._bytes[token] = self._read(token)
        return found

    def _read(self, token: int) -> tuple[bytes, bytes]:
        if self.kind == "NONE":  # llama.cpp aborts when asked
            return b"<%d>" % token, b""
        with self._memory.in_use() as vocabulary:
            named, plain = (native.piece(vocabulary, token, special=s) for s in (True, False))
        return named, plain

    def joined(self, tokens: Iterable[int], *, special: bool = False) -> bytes:
        """`Model.detokenize_bytes`."""
        checked = self.check_all(tokens, "tokens are a list of token ids")
        which = 0 if special else 1
        data = b"".join(self.bytes_of(token)[which] for token in checked)
        return data[1:] if self.adds_space and data.startswith(b" ") else data

    def is_eog(self, token: int) -> bool:
        """`Model.is_eog`."""
        if type(token) is not int:
            token = self.check(token)
        found = self._ends.get(token)
        if found is None:
            token = self.check(token)
            with self._memory.in_use() as vocabulary:
                found = self.kind != "NONE" and native.is_eog(vocabulary, token)
            self._ends[token] = found
        return found

    def is_control(self, token: int) -> bool:
        """`Model.is_control`."""
        token = self.check(token)
        if self.kind == "NONE":
            return False
        with self._memory.in_use() as vocabulary:
            return bool(native.attributes(vocabulary, token) & native.CONTROL)

    def check(self, token: int) -> int:
        """One token id, as a caller gives it.

        Raises:
            TypeError: it is no whole number.
            ValueError: it is outside the vocabulary.
        """
        try:
            if isinstance(token, bool):
                raise TypeError
            token = token.__index__()
        except (AttributeError, TypeError):  # an array has __index__ and refuses
            raise TypeError(f"a token id must be a whole number, not {brief(token)}.") from None
        if not 0 <= token < self.n_tokens:
            raise ValueError(
                f"token {brief(token)} is outside the vocabulary of {self._memory.name}: "
                f"ids go from 0 to {self.n_tokens - 1}."
            )
        return token

    def check_all(self, tokens: Any, rule: str) -> list[int]:
        """Token ids in order, as a caller gives them; `rule` begins the message if they are none.

        Raises: as `check`.
        """
        n_dims = getattr(tokens, "ndim", 1)
        if isinstance(tokens, _NO_IDS) or not isinstance(tokens, Iterable) or n_dims != 1:
            dims = f" of {n_dims} dimensions" if n_dims != 1 else ""
            raise TypeError(f"{rule}, not {type(tokens).__name__}{dims}.")
        return [self.check(token) for token in tokens]
