"""Models that chat: a template, and marks in the vocabulary."""

from __future__ import annotations

import gguf
import pytest

from mullama_lab.engine import tiny
from mullama_lab.engine.model import Model

CONTROL = int(gguf.TokenType.CONTROL)
USER_DEFINED = int(gguf.TokenType.USER_DEFINED)


@pytest.fixture
def chat_model(tmp_path):
    """A function that loads a tiny model with a chat template and marks in its vocabulary."""
    models = []

    def load(template, control=(), *, shared=(), vocabulary="spm", **options):
        path = tmp_path / f"chat{len(models)}.gguf"
        pieces = (*control, *shared)
        kinds = [2, 3, 3, *[1] * tiny.N_BYTES]
        if vocabulary == "spm":
            kinds[tiny.N_SPECIAL :] = [6] * tiny.N_BYTES
            kinds[tiny.N_SPECIAL + ord(" ")] = 1
        kinds += [CONTROL] * len(control) + [USER_DEFINED] * len(shared)
        metadata = {"tokenizer.ggml.token_type": kinds, **options.pop("metadata", {})}
        tiny.write(
            path,
            chat_template=template,
            vocabulary=vocabulary,
            pieces=pieces,
            metadata=metadata,
            **options,
        )
        models.append(Model.load(path, vocab_only=True))
        return models[-1]

    yield load
    for model in models:
        model.close()
