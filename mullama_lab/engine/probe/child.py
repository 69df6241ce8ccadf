"""What the child process of a probe does with a model file: all that may end it.

It says what comes next, a line each, so that its parent knows during what it ended.
"""

from __future__ import annotations

import logging
import os
import signal
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import mullama_lab.engine.native.model as native
from mullama_lab.engine.encoder import MultiVectorEncoder
from mullama_lab.engine.gguf.check import check, parts
from mullama_lab.engine.model import Model
from mullama_lab.engine.probe.probe import LAID_OUT, REFUSED, SECONDS, VOCABULARY, WHOLE
from mullama_lab.engine.weight_files import WeightFiles
from mullama_lab.errors import MullamaError

TEXT = "Hello, wörld! 😀 1234\n\n <s></s> if (x == 0):\t'quoted'  "
PROMPT = (1, 2, 3, 4, 5)  # some together, then one that is drawn
SETTINGS: dict[str, Any] = {"n_ctx": 64, "n_batch": 32, "n_ubatch": 32, "n_threads": 1}


def use(path: Path, how: str, tell: Callable[[str], object]) -> None:
    """Load a file, split text with it, open contexts and compute, as far as `how` goes.

    Args:
        how: "whole"; "laid out", where llama.cpp lays out the network and its buffers but has no
            weights to compute with; or "vocabulary", where it reads nothing else.

    Raises:
        MullamaError, ValueError: it cannot be used, which the one who loads it will be told.
    """
    tell("while loading it")
    file = check(path, vocab_only=True)  # the network's numbers are for llama.cpp to judge here
    handle, _ = native.load_model(
        file.path,
        mmap=how == WHOLE,
        mlock=False,
        vocab_only=how == VOCABULARY,
        progress=None,
        no_weights=how == LAID_OUT,
    )
    weights = WeightFiles(parts(path), mapped=False)
    with Model(handle, file, weights, vocab_only=how == VOCABULARY) as model:
        model.source = str(path)
        tell("while splitting a text into tokens")
        _tokenize(model)
        if how == VOCABULARY:
            return
        for settings in ({}, {"flash_attention": "off", "kv_unified": False}):
            tell("while opening a session")
            _generate(model, how == WHOLE, settings, tell)
        tell("while opening an encoder")
        _encode(model, how == WHOLE, tell)


def _tokenize(model: Model) -> None:
    if model.vocab_type == "NONE":
        return
    for add_special in (False, True):
        try:
            model.tokenize(TEXT, add_special=add_special, parse_special=True)
        except ValueError:  # no token for a part of it
            continue
    for token in range(min(model.n_vocab, 1000)):
        model.piece(token)


def _generate(
    model: Model, whole: bool, settings: dict[str, Any], tell: Callable[[str], object]
) -> None:
    try:
        with model.session(**SETTINGS, **settings) as session:
            if whole:
                tell("while computing tokens")
                session.generate([t % model.n_vocab for t in PROMPT], max_tokens=1)
    except (MullamaError, ValueError):  # no language model
        return


def _encode(model: Model, whole: bool, tell: Callable[[str], object]) -> None:
    try:
        with MultiVectorEncoder(model, n_threads=1, batch_tokens=32) as encoder:
            if whole:
                tell("while computing vectors")
                encoder.encode_documents(["ab", "a longer text"], progress=False)
    except (MullamaError, ValueError):
        return


def main(task: dict[str, Any]) -> None:
    """Run as a process; the standard output is for its parent, the standard error for llama.cpp."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for its parent, which ends it
    with suppress(ImportError):  # where its parent was killed, nobody else would
        import resource

        resource.setrlimit(resource.RLIMIT_CPU, (round(SECONDS), round(SECONDS)))
    said = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    logging.basicConfig(level=logging.ERROR, format="%(message)s")
    try:
        use(Path(task["path"]), task["how"], lambda what: print(what, file=said, flush=True))
    except Exception as error:  # of this process alone: the next will be told
        logging.error("%s: %s", type(error).__name__, error)
        sys.exit(REFUSED)
    finally:
        said.flush()
