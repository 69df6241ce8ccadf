"""Opens each model file it is told of, and does with it all that a person would.

Run as a process, with the options of `Model.load` and the seconds that a probe may take: a path a
line on the standard input, an answer a line on the standard output. It may end on a file, which is
what its parent waits to see.
"""

from __future__ import annotations

import json
import os
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

from mullama_lab.engine.encoder import MultiVectorEncoder
from mullama_lab.engine.model import Model
from mullama_lab.engine.probe import probe
from mullama_lab.errors import ModelError, MullamaError

TEXT = "Hello wörld €\0\n <s></s> 😀 '123 aaa  "
PROMISED = (MullamaError, ValueError)  # what the documentation says may be raised


def tried(path: Path, **options: Any) -> str:
    """How far a file came: refused, loaded, or worked; "raw ..." for an error nobody promised."""
    try:
        try:
            model = Model.load(path, **options)
        except ModelError as error:
            return f"refused {type(error).__name__}: {error}"
        with model:
            return _used(model)
    except Exception as error:
        return f"raw {type(error).__name__}: {error}"


def _used(model: Model) -> str:
    did = ["loaded"]
    with suppress(*PROMISED):
        model.tokenize(TEXT, parse_special=True)
        for token in range(min(model.n_vocab, 300)):
            model.piece(token)
            model.is_eog(token)
        did.append("tokenised")
    tokens = [token for token in (1, 2, 3, 70) if token < model.n_vocab]
    for settings in ({}, {"flash_attention": "off", "n_seq_max": 2}):
        with suppress(*PROMISED):
            with model.session(
                n_ctx=64, n_batch=32, n_ubatch=32, n_threads=1, **settings
            ) as session:
                session.generate(tokens, max_tokens=2)
                session.generate(tokens * 9, max_tokens=1)
            did.append("decoded")
    with suppress(*PROMISED):
        with MultiVectorEncoder(model, n_threads=1) as encoder:
            encoder.encode_documents(["Hello", "wor ld, and more"], progress=False)
        did.append("encoded")
    return " ".join(did)


def main() -> None:
    options, probe.SECONDS = json.loads(sys.argv[1]), float(sys.argv[2])
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what llama.cpp prints is no answer
    for line in sys.stdin:
        print(json.dumps(tried(Path(json.loads(line)), **options)), file=answers, flush=True)


if __name__ == "__main__":
    main()
