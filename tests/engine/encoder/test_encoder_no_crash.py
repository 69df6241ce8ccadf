"""Nothing that an encoder is given ends the process.

Each script runs in a process of its own, which must end with code 0 and print the names of the
expected exceptions. Without the encoder's checks most of these lines abort or crash llama.cpp.
"""

from __future__ import annotations

import textwrap

import numpy as np
import pytest

from mullama_lab.engine import tiny

PRELUDE = """
import sys, threading
from mullama_lab.engine.native import context as native
from mullama_lab.engine.native.model import load_model
from mullama_lab.engine.native.vectors import TokenVectors
from mullama_lab.engine.encoder import MultiVectorEncoder
from mullama_lab.engine.model import Model

model = Model.load(sys.argv[1])
n = model.n_vocab
"""


@pytest.fixture(scope="module")
def outcomes(attempts):
    """A function that gives what a script printed, as {name: outcome}."""
    return lambda code, path: attempts(PRELUDE + textwrap.dedent(code), path)


@pytest.fixture(scope="module")
def bert_path(tmp_path_factory):
    path = tmp_path_factory.mktemp("encoder") / "bert.gguf"
    return tiny.write(path, architecture="bert", vocabulary="wpm")


@pytest.mark.parametrize("network", ["bert", "llama"])
def test_batches_that_llama_cpp_asserts_on_are_refused(bert_path, tiny_path, network, outcomes):
    code = """
    handle, _ = load_model(model.path, mmap=True, mlock=False, vocab_only=False, progress=None)
    vectors = TokenVectors(handle, n_ctx=64, n_batch=64, n_texts=10**6, n_threads=1,
                           stop=native.StopFlag())
    attempt("none", lambda: vectors.vectors([]))
    attempt("empty", lambda: vectors.vectors([[]]))
    attempt("full", lambda: (vectors.forget(), vectors.vectors([[5] * 64])))
    attempt("over n_ubatch", lambda: vectors.vectors([[5] * 65]))
    attempt("far over", lambda: vectors.vectors([[5] * 1000] * 1000))
    attempt("most texts", lambda: (vectors.forget(), vectors.vectors([[5]] * 64)))
    attempt("too many texts", lambda: vectors.vectors([[5]] * 65))
    for token in (n, -1, 2**31, 10**15):
        attempt(f"token {token}", lambda: vectors.vectors([[5, token]]))
    attempt("afterwards", lambda: (vectors.forget(), vectors.vectors([[5, 6]])))
    vectors.close()
    attempt("closed", lambda: vectors.vectors([[5]]))
    """
    found = outcomes(code, bert_path if network == "bert" else tiny_path)
    fine = {"full", "most texts", "afterwards"}
    assert {name for name, outcome in found.items() if outcome == "fine"} == fine
    assert found.pop("closed") == "ClosedError"
    assert set(found.values()) == {"fine", "ValueError"}


def test_hostile_texts_leave_the_process_and_the_encoder_alive(bert_path, outcomes):
    code = """
    encoder = MultiVectorEncoder(model, batch_tokens=512)
    for name, text in {
        "long": "a" * 100_000, "long words": "word " * 20_000, "nul": chr(0) * 1000,
        "surrogate": chr(0xd800), "marks": chr(0x301) * 5000, "emoji": chr(0x1f600) * 600,
        "empty": "", "space": " " * 10**5, "replacement": chr(0xfffd) * 99,
    }.items():
        attempt(f"{name} query", lambda: encoder.encode_query(text))
        attempt(f"{name} document", lambda: encoder.encode_document(text))
        attempt(f"{name} afterwards", lambda: encoder.encode_query("abc"))
    attempt("many short", lambda: encoder.encode_documents(["a"] * 1000))
    attempt("many empty", lambda: encoder.encode_documents([""] * 1000))
    attempt("no texts", lambda: encoder.encode_documents([]))
    """
    found = outcomes(code, bert_path)
    later = [outcome for name, outcome in found.items() if name.endswith("afterwards")]
    assert set(later) == {"fine"}
    assert {found[f"{name} query"] for name in ("empty", "space", "nul", "surrogate")} == {
        "ValueError"
    }
    assert found["long query"] == found["long words document"] == "ContextFull"
    assert found["empty document"] == found["nul document"] == found["marks document"] == "fine"
    assert found["many short"] == found["many empty"] == found["no texts"] == "fine"
    assert set(found.values()) == {"fine", "ValueError", "ContextFull"}


@pytest.mark.parametrize("pooling", [1, 2, 3, 4])
def test_a_file_that_asks_for_one_vector_a_text_still_gives_one_a_token(
    tmp_path, pooling, outcomes
):
    path = tiny.write(
        tmp_path / "pooled.gguf",
        architecture="bert",
        vocabulary="wpm",
        metadata={"bert.pooling_type": pooling},
    )
    code = """
    encoder = MultiVectorEncoder(model)
    shape = encoder.encode_documents(["abc", "defg"])[1].vectors.shape
    attempt("shape", lambda: shape == (4, 32) or 1 / 0)
    """
    assert outcomes(code, path) == {"shape": "fine"}


def test_positions_past_those_the_network_knows_are_not_reached(tmp_path, outcomes):
    path = tiny.write(tmp_path / "m.gguf", architecture="bert", vocabulary="wpm", n_ctx_train=16)
    code = """
    encoder = MultiVectorEncoder(model, batch_tokens=4096, query_length=4096)
    attempt("window", lambda: encoder.window == 16 or 1 / 0)
    attempt("fits", lambda: encoder.encode_document("a" * 14))
    attempt("past", lambda: encoder.encode_document("a" * 15))
    """
    assert outcomes(code, path) == {"window": "fine", "fits": "fine", "past": "ContextFull"}


def test_a_batch_that_would_fill_the_memory_is_refused(tmp_path, outcomes):
    path = tiny.write(
        tmp_path / "m.gguf",
        architecture="llama",
        metadata={"llama.context_length": 1 << 20, "llama.attention.causal": False},
    )
    code = """
    import psutil
    real = psutil.virtual_memory()
    psutil.virtual_memory = lambda: real._replace(available=10**9)
    attempt("large", lambda: MultiVectorEncoder(model, batch_tokens=65536))
    attempt("small", lambda: MultiVectorEncoder(model).encode_query("a"))
    """
    assert outcomes(code, path) == {"large": "ValueError", "small": "fine"}


def test_a_network_that_computes_nan_raises(tmp_path, outcomes):
    nan = np.full(32, np.nan, np.float32)
    path = tiny.write(
        tmp_path / "m.gguf",
        architecture="bert",
        vocabulary="wpm",
        tensors={"blk.1.layer_output_norm.weight": nan},
    )
    code = """
    encoder = MultiVectorEncoder(model)
    attempt("query", lambda: encoder.encode_query("abc"))
    """
    assert outcomes(code, path) == {"query": "DecodeError"}


def test_threads_that_encode_stop_and_close_at_once_do_no_harm(bert_path, outcomes):
    code = """
    encoder = MultiVectorEncoder(model)
    known = []
    def work():
        for i in range(20):
            try:
                encoder.encode_documents(["some words"] * 50, progress=False)
                encoder.encode_query("abc")
            except Exception as error:
                known.append(type(error).__name__)
    threads = [threading.Thread(target=work) for _ in range(4)]
    [thread.start() for thread in threads]
    for _ in range(50):
        encoder.stop()
    model.close()
    [thread.join() for thread in threads]
    attempt("known", lambda: set(known) <= {"Stopped", "ClosedError"} or 1 / 0)
    attempt("closed", lambda: encoder.encode_query("abc"))
    """
    assert outcomes(code, bert_path) == {"known": "fine", "closed": "ClosedError"}


def test_a_process_may_end_while_an_encoder_works(bert_path, outcomes):
    code = """
    encoder = MultiVectorEncoder(model)
    job = encoder.start_documents(["some words " * 20] * 10_000)
    attempt("running", lambda: job.done and 1 / 0)
    """
    assert outcomes(code, bert_path) == {"running": "fine"}


def test_what_is_called_on_the_worker_cannot_wait_for_it(bert_path, outcomes):
    code = """
    encoder = MultiVectorEncoder(model)
    def on_progress(done, n):
        attempt("encode", lambda: encoder.encode_query("a"))
        attempt("close", lambda: encoder.close())
        attempt("raise", lambda: 1 / 0)
        raise KeyError("mine")
    attempt("job", lambda: encoder.start_documents(["a"], on_progress=on_progress).result())
    attempt("afterwards", lambda: encoder.encode_query("a"))
    """
    assert outcomes(code, bert_path) == {
        "encode": "SessionError",
        "close": "SessionError",
        "raise": "ZeroDivisionError",
        "job": "KeyError",
        "afterwards": "fine",
    }


WIDTHS = {  # what llama.cpp aborts on, or answers with numbers of two vectors
    "more than the network gives": ("bert", {"bert.embedding_length_out": 64}, {}),
    "fewer than the network gives": ("bert", {"bert.embedding_length_out": 16}, {}),
    "a vector of no numbers it has": ("lfm2", {}, {"dense_2.weight": None}),
    "only the wider layer": ("gemma-embedding", {}, {"dense_3.weight": None}),
    "only the layer back": ("gemma-embedding", {}, {"dense_2.weight": None}),
    "layers that do not follow": (
        "gemma-embedding",
        {"gemma-embedding.dense_3_feat_in": 16},
        {"dense_3.weight": np.ones((32, 16), np.float32)},
    ),
}


@pytest.mark.parametrize("what", WIDTHS)
def test_a_projection_that_does_not_fit_is_refused(tmp_path, what, outcomes):
    architecture, metadata, tensors = WIDTHS[what]
    path = tiny.write(
        tmp_path / "m.gguf",
        architecture=architecture,
        vocabulary="wpm" if architecture == "bert" else "spm",
        metadata=metadata,
        tensors=tensors,
    )
    code = """
    attempt("encode", lambda: MultiVectorEncoder(model).encode_query("abc"))
    """
    assert outcomes(code, path) == {"encode": "ModelLoadError"}
