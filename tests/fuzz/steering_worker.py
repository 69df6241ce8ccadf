"""Puts each adapter or control vector it is told of in force, and generates with it.

Run as `gguf_worker.py` is; it may end on a file, which is what its parent waits to see.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
from pathlib import Path

import numpy as np

import mullama_lab as ml
from mullama_lab.engine import tiny
from mullama_lab.engine.session import Session
from mullama_lab.errors import ModelError, MullamaError

TOKENS = [1, 2, 3, 70]


def tried(path: Path, session: Session) -> str:
    """How far a file came; "raw ..." for an error nobody promised."""
    try:
        try:
            if path.name.startswith("vector"):
                vector = ml.ControlVector.load(path)
                repr(vector), vector.norms, hash(vector)
                session.control = 0.5 * vector
            else:
                adapter = ml.LoraAdapter.load(path)
                repr(adapter), hash(adapter)
                session.adapters = {adapter: 1.0}
        except (ModelError, ValueError) as error:
            return f"refused {type(error).__name__}: {error}"
        try:
            session.generate(TOKENS, max_tokens=2, seed=1)
            session.score(TOKENS * 9)
        except MullamaError as error:  # a row that is no row
            return f"loaded, then {type(error).__name__}"
        finally:
            session.adapters, session.control = {}, None
        return "loaded and worked"
    except Exception as error:
        return f"raw {type(error).__name__}: {error}"


def main() -> None:
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what llama.cpp prints is no answer
    with tempfile.TemporaryDirectory() as folder:
        session = ml.Model.load(tiny.write(Path(folder) / "tiny.gguf")).session(
            n_ctx=64, n_threads=1
        )
        base = session.logits(TOKENS)
        for line in sys.stdin:
            said = tried(Path(json.loads(line)), session)
            session.reset()
            if not np.array_equal(session.logits(TOKENS), base):
                said = "raw it left something behind"
            print(json.dumps(said), file=answers, flush=True)


if __name__ == "__main__":
    main()
