"""What is a value can be copied and pickled; what owns or shows something says what can be."""

from __future__ import annotations

import copy
import pickle
import subprocess
import sys

import numpy as np
import pytest

import mullama_lab as ml
from mullama_lab import studies
from mullama_lab.engine.encoder import MultiVectorEncoder
from mullama_lab.engine.index import MultiVectorIndex
from mullama_lab.engine.stages.moment import moment_of_row
from mullama_lab.engine.tiny import write
from mullama_lab.engine.trace.divergence import divergence

CHAIN = ml.TopK(5) | ml.Temperature(2.0)


@pytest.fixture(scope="module")
def session(tiny_model):
    with tiny_model.session(n_ctx=256, n_threads=1) as session:
        yield session


@pytest.fixture(scope="module")
def encoder(tiny_model):
    with MultiVectorEncoder(tiny_model, n_threads=1) as encoder:
        yield encoder


def values(session, encoder, folder):
    a, b = (session.generate("Hello", CHAIN, max_tokens=6, seed=seed) for seed in (1, 2))
    index = MultiVectorIndex(encoder)
    index.add(["abc", "d"], progress=False)
    preview = CHAIN.preview(session.logits("Hello"), model=session.model)
    tree = ml.Tree([a, b])
    token = int(a.tokens[1])
    yield from (a, a[0], CHAIN, CHAIN[0], preview, preview.final, tree, *tree.branches, *tree.nodes)
    yield from (index.search("abc"), index.get(0), index.loss, session.ledger)
    yield session.save(folder / "session")
    yield session.model.render_chat([{"role": "user", "content": "Hello"}])
    yield divergence(a, b, 0)
    yield studies.replay.replay(a, ml.TopK(2), on=session)
    yield studies.replay.stage_effects(a, CHAIN, on=session)
    yield studies.flips.flip_map(a, ml.TopK, on=session)
    yield studies.fate.fate(a, 1, token, on=session)
    yield studies.seeds.seed_fan(
        "a", CHAIN, on=session, seeds=range(3), max_tokens=4, progress=False
    )


def test_a_value_is_the_same_after_it_was_copied_or_pickled(session, encoder, tmp_path):
    for value in values(session, encoder, tmp_path):
        for made in (pickle.loads(pickle.dumps(value)), copy.deepcopy(value), copy.copy(value)):
            assert type(made) is type(value)
            assert repr(made) == repr(value)


def test_a_preview_can_be_sent_to_a_process_that_has_no_model(session, tmp_path):
    preview = CHAIN.preview(session.logits("Hello"), model=session.model, seed=3)
    (tmp_path / "preview").write_bytes(pickle.dumps(preview))
    code = """
import pickle, sys
preview = pickle.load(open(sys.argv[1], "rb"))
print(preview.choice, preview.piece(preview.choice).hex(), preview.final.probs.tolist())
"""
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "preview")],
        capture_output=True,
        text=True,
        timeout=60,
    )
    piece = session.model.piece(preview.choice).hex()
    assert done.stdout == f"{preview.choice} {piece} {preview.final.probs.tolist()}\n", done.stderr


def test_a_copied_preview_knows_the_tokens_that_it_lists(tiny_model):
    row = np.zeros(tiny_model.n_vocab, np.float32)
    preview = CHAIN.preview(row, model=tiny_model, top=3)
    copied = pickle.loads(pickle.dumps(pickle.loads(pickle.dumps(preview))))
    listed = preview.before.ids.tolist()
    assert [copied.piece(t) for t in listed] == [tiny_model.piece(t) for t in listed]
    unlisted = next(t for t in range(300) if t not in {*listed, *preview.final.ids.tolist()})
    assert copied.piece(unlisted) == b"<%d>" % unlisted


def test_a_preview_of_a_model_that_was_closed_can_still_be_pickled(tmp_path):
    with ml.Model.load(write(tmp_path / "model.gguf")) as model:
        preview = CHAIN.preview(np.zeros(model.n_vocab, np.float32), model=model)
    assert repr(pickle.loads(pickle.dumps(preview))) == repr(preview)


def test_what_owns_or_shows_something_says_what_to_keep_instead(session, encoder):
    moment = moment_of_row(session.logits("a"), session.model, chain=CHAIN)
    lab = ml.labs.SamplerLab(session.model, "a")
    for thing, hint in (
        (session.model, "open another Model"),
        (session, "open another Session"),
        (encoder, "open another MultiVectorEncoder"),
        (MultiVectorIndex(encoder), "index.save"),
        (session.start("a", max_tokens=1), "run.trace"),
        (studies.explore.explore("a", on=session, budget=3), "exploration.to_pandas"),
        (moment, "moment.logits"),
        (session.conversation("Be brief."), "conversation.messages"),
        (lab, "lab.to_code"),
        (lab.panel, "such as a Trace"),
    ):
        for attempt in (pickle.dumps, copy.copy, copy.deepcopy):
            with pytest.raises(TypeError, match=hint):
                attempt(thing)
    lab.close()
