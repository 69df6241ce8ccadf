"""Which tokens llama.cpp's own grammar sampler allows, on one text of one model.

It knows every way to read a text apart, so on a grammar such as `root ::= "a" root "b" | "a" root
"c" | "d"` each token takes it four times as long as the one before, in one call that nothing stops:
2.6 s after 14, days after 22. And it ends the process over a token that it does not allow. So it
runs in a process of its own, which has the model's vocabulary, and is ended where it takes more
than its share, or when the run is stopped. Who asks while one is busy gets another. That costs
0.1 ms a token of a short text, beside what the sampler takes; each request carries the whole text.
"""

from __future__ import annotations

import base64
import json
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from mullama_lab.engine.bounded_process import BoundedProcess, Ended
from mullama_lab.engine.grammar.gbnf.writer import write_gbnf
from mullama_lab.engine.grammar.grammar import Grammar
from mullama_lab.engine.grammar.matching.matcher import ends_of_generation
from mullama_lab.engine.grammar.nodes import Token, walk
from mullama_lab.engine.per_model import once_per_model
from mullama_lab.engine.worker import end_if_stopped
from mullama_lab.errors import GrammarError
from mullama_lab.glyphs import brief

if TYPE_CHECKING:
    from mullama_lab.engine.model import Model

SECONDS = 10.0  # for the tokens that may come after a text
SECONDS_TO_START = 60.0  # to read the vocabulary, on a slow machine
BYTES = 1 << 30
MOST_IDLE = 4  # processes that wait for the next request
MOST_FIRST = 32  # grammars of which the first tokens are remembered

_START = (  # without a debugger where it aborts, and without a GPU
    "import json, os, sys; os.environ.update(GGML_NO_BACKTRACE='1', CUDA_VISIBLE_DEVICES=''); "
    "sys.path[:] = json.loads(sys.argv[1]); "
    "from mullama_lab.engine.grammar.llama_sampler.program import main; main(sys.argv[2])"
)


T = TypeVar("T")


class LlamaMatcher:
    """A grammar on its way through one text of one model, as llama.cpp's sampler sees it.

    Args:
        text: the grammar, as `gbnf_for_sampler` writes it.
        first: the tokens that may come first.

    Attributes:
        error: why it cannot go on; empty while it can.

    Raises:
        Stopped: what the thread works on was asked to end meanwhile; so do its methods.
    """

    def __init__(self, samplers: SamplerPool, text: str, first: NDArray[np.bool_]) -> None:
        self._samplers, self._text = samplers, text
        self._last: SamplerProcess | None = None  # which has the text, if it is free
        self._tokens: list[int] = []
        self._allowed: NDArray[np.bool_] | None = first
        self._is_over = False
        self.error = ""

    def allowed(self) -> NDArray[np.bool_]:
        """Whether each token may come next; shape (n_vocab,).

        Tokens that end a generation may where the text is complete.
        """
        if self._allowed is None:
            try:
                self._allowed = self._ask(lambda one: one.allowed(self._text, self._tokens))
            except Ended as end:
                self._stop(str(end))
        assert self._allowed is not None
        return self._allowed

    def _stop(self, error: str = "") -> None:
        """Let nothing come any more."""
        self._is_over, self.error = True, error
        self._allowed = np.zeros(self._samplers.n_vocab, np.bool_)

    @property
    def is_complete(self) -> bool:
        """Whether the text may end here."""
        return bool(self.allowed()[self._samplers.ends].any())

    def accept(self, token: int) -> bool:
        """Take the next token; False if the grammar forbids it, and nothing can come after that."""
        if self._is_over or not self._may_come(token):
            self._stop(self.error)
            return False
        self._tokens.append(token)
        self._allowed = None
        if token in self._samplers.ends:
            self._stop()
        return True

    def _may_come(self, token: int) -> bool:
        if self._allowed is not None or token in self._samplers.ends:
            return bool(self.allowed()[token])
        try:  # which is sooner known than all that may come
            return self._ask(lambda one: one.takes(self._text, [*self._tokens, token]))
        except Ended as end:
            self.error = str(end)
            return False

    def _ask(self, question: Callable[[SamplerProcess], T]) -> T:
        self._last = self._samplers.take(self._last)
        try:
            return question(self._last)
        finally:
            self._samplers.give_back(self._last)

    def forced(self) -> list[int]:
        """None: it does not tell which tokens must come."""
        return []


class SamplerPool:
    """The processes of one model: one for each request under way, so that none waits for another.

    Attributes:
        ends: the tokens that end a generation.
    """

    def __init__(self, path: Path, n_vocab: int, ends: list[int]) -> None:
        self._path, self.n_vocab, self.ends = path, n_vocab, ends
        self._idle: list[SamplerProcess] = []  # the last to be used comes last
        self._first: dict[str, NDArray[np.bool_]] = {}

    def take(self, liked: SamplerProcess | None = None) -> SamplerProcess:
        """A process that nobody uses: the one that is liked, if it is free."""
        with suppress(ValueError):
            if liked is not None:
                self._idle.remove(liked)
                return liked
        with suppress(IndexError):
            return self._idle.pop()
        return SamplerProcess(self._path, self.n_vocab)

    def give_back(self, process: SamplerProcess) -> None:
        """Let others have what was taken."""
        if len(self._idle) < MOST_IDLE:
            self._idle.append(process)
        else:
            process.close()

    def first(self, text: str) -> NDArray[np.bool_]:
        """The tokens that may come first in a text of a grammar; `Ended` if it was too much."""
        if (found := self._first.get(text)) is None:
            process = self.take()
            try:
                found = process.allowed(text, ())
            finally:
                self.give_back(process)
            found.flags.writeable = False  # it is everybody's
            if len(self._first) >= MOST_FIRST:
                self._first.clear()
            self._first[text] = found
        return found


class SamplerProcess:
    """llama.cpp's grammar samplers of one model's tokens, in a process of their own.

    For one thread at a time.
    """

    def __init__(self, path: Path, n_vocab: int) -> None:
        self.n_vocab = n_vocab
        where = json.dumps([entry for entry in sys.path if isinstance(entry, str)])
        self._process = BoundedProcess([sys.executable, "-c", _START, where, str(path)])

    def close(self) -> None:
        """End the process; the next request starts it again."""
        self._process.close()

    def takes(self, text: str, tokens: Sequence[int]) -> bool:
        """Whether a grammar takes all tokens of a text; `Ended` if it was too much."""
        return self._ask(text, tokens, mask=False)["taken"] == len(tokens)

    def allowed(self, text: str, tokens: Sequence[int]) -> NDArray[np.bool_]:
        """Whether each token may come after those of a text, which the grammar takes."""
        reply = self._ask(text, tokens, mask=True)
        if "mask" not in reply:
            raise Ended(f"it refuses token {reply['taken']} of the text, which it had allowed")
        bits = np.frombuffer(base64.b64decode(reply["mask"]), np.uint8)
        return np.unpackbits(bits, count=self.n_vocab, bitorder="little").view(np.bool_)

    def _ask(self, text: str, tokens: Sequence[int], *, mask: bool) -> dict[str, Any]:
        if not self._process.is_running:
            self._must_have_same_tokens()
        return self._reply({"grammar": text, "tokens": list(tokens), "mask": mask}, SECONDS)

    def _must_have_same_tokens(self) -> None:
        """Start the process, which reads the vocabulary before it answers."""
        try:
            if self._reply({}, SECONDS_TO_START)["n_vocab"] != self.n_vocab:
                raise Ended("the model's file is another one now")
        except Ended:
            self._process.close()
            raise

    def _reply(self, request: dict[str, Any], seconds: float) -> dict[str, Any]:
        line = json.dumps({**request, "seconds": seconds}).encode() + b"\n"
        reply = json.loads(self._process.ask(line, seconds, BYTES, end_if_stopped))
        if "failed" in reply:
            raise Ended(reply["failed"])
        return reply


def llama_matcher(model: Model, grammar: Grammar) -> LlamaMatcher:
    """A matcher of a model's tokens, before the first.

    Raises:
        GrammarError: llama.cpp's sampler cannot carry the grammar out, or it is no GBNF or names
            tokens; or no token can begin a text of it.
        ValueError: no token of the model ends a generation.
    """
    samplers, text = _samplers(model), gbnf_for_sampler(grammar)
    return LlamaMatcher(samplers, text, _first(model, text))


@once_per_model
def _samplers(model: Model) -> SamplerPool:
    ends = ends_of_generation(model)
    if not ends:
        raise ValueError(
            f"no token of {model.name} ends a generation, and by these alone llama.cpp's sampler "
            "says that a text is complete. Leave out engine='llama.cpp'."
        )
    return SamplerPool(model.path, model.n_vocab, list(ends))


def _first(model: Model, text: str) -> NDArray[np.bool_]:
    try:
        found = _samplers(model).first(text)
    except Ended as end:
        raise GrammarError(
            f"llama.cpp's sampler cannot carry this grammar out: {end}. Leave out "
            "engine='llama.cpp', or give it a simpler grammar."
        ) from None
    if not found.any():
        raise GrammarError(
            f"no token of {model.name} can begin a text of this grammar: {brief(text)}"
        )
    return found


@lru_cache(maxsize=32)
def gbnf_for_sampler(grammar: Grammar) -> str:
    """The grammar as llama.cpp's sampler is given it, in classes without `[^...]` and `.`.

    Raises:
        GrammarError: it is no GBNF, or names tokens.
    """
    try:
        grammar.to_gbnf()
    except GrammarError as error:
        raise GrammarError(
            f"llama.cpp's sampler reads GBNF alone: {error} Leave out engine='llama.cpp'."
        ) from None
    for name, body in grammar._rules.items():
        for node in walk(body):
            if isinstance(node, Token):
                raise GrammarError(
                    f"rule {name!r} names a token, {brief(str(node.name))}, which llama.cpp's "
                    "sampler also takes in the midst of another token, and then ends. Leave out "
                    "engine='llama.cpp'."
                )
    return write_gbnf(dict(grammar._rules), negations=False)
