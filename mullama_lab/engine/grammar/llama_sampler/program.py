"""llama.cpp's grammar samplers, one request a line: the program of the process they run in.

A request is a grammar and the tokens of a text; nothing but speed depends on the requests before.
One without them is answered when the vocabulary is read.
"""

from __future__ import annotations

import base64
import faulthandler
import json
import os
import sys
from pathlib import Path
from typing import Any

import numpy as np

from mullama_lab.engine.native import model as native_model
from mullama_lab.engine.native import samplers as native
from mullama_lab.errors import MullamaError

MOST_KNOWN = 32  # samplers that are kept where they are, one for each text that goes on


class Samplers:
    """The samplers of one vocabulary, each where its text is.

    Args:
        path: of the model's file.

    Attributes:
        n_vocab: how many tokens it has.
    """

    def __init__(self, path: Path) -> None:
        options: dict[str, Any] = {"mmap": False, "mlock": False}
        model, _ = native_model.load_model(path, vocab_only=True, progress=None, **options)
        self._vocabulary = native_model.get_vocabulary(model)
        self.n_vocab = native_model.facts(model, vocab_only=True)["n_vocab"]
        self._candidates = native.Candidates(self.n_vocab)
        self._known: dict[tuple[str, tuple[int, ...]], native.NativeSampler] = {}

    def answer(self, grammar: str, tokens: tuple[int, ...], *, mask: bool) -> dict[str, Any]:
        """How many of the tokens the grammar takes; and if all, and asked, what may come next.

        That is a bit for each token, in order, the first the lowest of a byte; as base64.
        """
        sampler, done = self._known.pop((grammar, tokens), None), len(tokens)
        if sampler is None:
            done = len(tokens) - 1
            sampler = self._known.pop((grammar, tokens[:-1]), None) if tokens else None
        if sampler is None:
            done = 0
            sampler = native.sampler("grammar", self._vocabulary, grammar.encode(), b"root")
        for n, token in enumerate(tokens[done:], done):
            if not self._allows(sampler, token):  # to accept it would end the process
                return {"taken": n}
            sampler.accept(token)
        found: dict[str, Any] = {"taken": len(tokens)}
        if mask:
            self._candidates.load(np.zeros(self.n_vocab, np.float32))
            sampler.apply(self._candidates)
            allowed = self._candidates.window["logit"] > -np.inf
            bits = np.packbits(allowed, bitorder="little").tobytes()
            found["mask"] = base64.b64encode(bits).decode()
        self._known[grammar, tokens] = sampler
        if len(self._known) > MOST_KNOWN:
            self._known.pop(next(iter(self._known)))
        return found

    def _allows(self, sampler: native.NativeSampler, token: int) -> bool:
        self._candidates.load_some(np.array([token]), np.zeros(1, np.float32))
        sampler.apply(self._candidates)
        return bool(self._candidates.window["logit"][0] > -np.inf)


def main(path: str) -> None:
    """Run as a process: answer requests until there are no more."""
    replies = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # whatever llama.cpp prints is no reply
    samplers: Samplers | None = None
    with open(os.devnull, "w") as nowhere:
        for line in sys.stdin.buffer:
            request = json.loads(line)
            # Ends the process although nobody waits for it any more, and without Python's help.
            faulthandler.dump_traceback_later(2 * request["seconds"], exit=True, file=nowhere)
            try:
                samplers = samplers or Samplers(Path(path))
                reply: dict[str, Any] = {"n_vocab": samplers.n_vocab}
                if "grammar" in request:
                    tokens = tuple(request["tokens"])
                    reply = samplers.answer(request["grammar"], tokens, mask=request["mask"])
            except (MullamaError, ValueError) as error:
                reply = {"failed": str(error).rstrip(".")}
            faulthandler.cancel_dump_traceback_later()
            replies.write(json.dumps(reply).encode() + b"\n")
            replies.flush()
