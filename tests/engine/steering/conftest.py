from __future__ import annotations

import numpy as np
import pytest

import mullama_lab as ml
from mullama_lab.engine import tiny


@pytest.fixture
def session(tiny_model):
    with tiny_model.session(n_ctx=256, n_threads=1) as session:
        yield session


@pytest.fixture(scope="module")
def adapters(tmp_path_factory):
    folder, found = tmp_path_factory.mktemp("adapters"), []
    for seed, name in enumerate(("blk.0.attn_q.weight", "blk.1.attn_q.weight")):
        rng = np.random.default_rng(seed)
        pair = rng.normal(size=(2, 32)), rng.normal(size=(64, 2))
        pairs = {name: tuple(half.astype(np.float32) for half in pair)}
        found.append(ml.LoraAdapter.load(tiny.write_adapter(folder / f"{seed}.gguf", pairs)))
    return found
