"""What a person may pass to a session, and what it says where that is wrong."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from mullama_lab.engine import tiny
from mullama_lab.engine.chat import RenderedChat
from mullama_lab.engine.model import Model
from mullama_lab.engine.stages import Chain, Custom, LogitBias, Mask, Temperature, TopK
from mullama_lab.errors import ClosedError, ModelLoadError, NoCandidates, StageFailed

NO_END = Mask(ban=[tiny.EOS])


@pytest.fixture(scope="module")
def session(tiny_model):
    with tiny_model.session(n_ctx=1024, n_threads=1) as session:
        yield session


# Options.


@pytest.mark.parametrize("kv_type", ["f32", "f16", "q8_0", "q4_0", ("q8_0", "f16")])
@pytest.mark.parametrize("flash_attention", ["auto", "on", "off"])
def test_cache_types_and_flash_attention_change_the_row_little(
    tiny_model, session, kv_type, flash_attention
):
    options = {"kv_type": kv_type, "flash_attention": flash_attention}
    if flash_attention == "off" and kv_type in ("q8_0", "q4_0"):
        with pytest.raises(ModelLoadError, match=r"quantized V cache.*Try"):
            tiny_model.session(n_ctx=256, **options)
        return
    with tiny_model.session(n_ctx=256, n_threads=1, **options) as other:
        row, plain = other.logits("hello world"), session.logits("hello world")
    assert np.corrcoef(row, plain)[0, 1] > (0.9 if "q4_0" in kv_type else 0.99)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"n_ctx": 0}, ValueError, "n_ctx=0: it must be from 1 to 16777216"),
        ({"n_ctx": -5}, ValueError, "n_ctx=-5"),
        ({"n_ctx": 10**30}, ValueError, "n_ctx=1000"),
        ({"n_ctx": 2.5}, TypeError, r"n_ctx=2\.5: it must be a whole number"),
        ({"n_ctx": True}, TypeError, "n_ctx=True"),
        ({"n_batch": 0}, ValueError, "n_batch=0"),
        ({"n_ubatch": "big"}, TypeError, "n_ubatch='big'"),
        ({"n_threads": 0}, ValueError, "n_threads=0"),
        ({"n_seq_max": 0}, ValueError, "n_seq_max=0"),
        ({"n_seq_max": 257}, ValueError, "n_seq_max=257: it must be from 1 to 256"),
        ({"flash_attention": True}, ValueError, "flash_attention=True: it must be one of auto"),
        ({"flash_attention": []}, ValueError, "must be one of auto, off, on"),
        ({"kv_type": "f15"}, ValueError, "kv_type='f15': it must be one of f32, f16, q8_0"),
        ({"kv_type": 5}, ValueError, "one name, or one for keys and one for values"),
        ({"kv_type": ("f16",) * 3}, ValueError, "one name, or one for keys and one for values"),
        ({"kv_type": [["f16"], "f16"]}, ValueError, "must be one of f32"),
    ],
    ids=str,
)
def test_an_option_out_of_range_is_refused_before_llama_cpp_sees_it(
    tiny_model, options, error, message
):
    with pytest.raises(error, match=message):
        tiny_model.session(**options)


def test_a_cache_that_would_not_fit_in_memory_is_refused(tmp_path):
    path = tiny.write(tmp_path / "deep.gguf", n_layer=60)
    with (
        Model.load(path) as model,
        pytest.raises(ValueError, match=r"would take about.*Use a smaller n_ctx"),
    ):
        model.session(n_ctx=1 << 24)


def test_scores_that_are_kept_without_flash_attention_must_fit_too(tiny_model, monkeypatch):
    memory = SimpleNamespace(total=10**9, available=100_000_000)
    monkeypatch.setattr("psutil.virtual_memory", lambda: memory)
    wide = {"n_ctx": 4096, "n_batch": 4096, "n_ubatch": 4096}  # 67 MB of what each token may see
    tiny_model.session(**wide).close()
    with pytest.raises(ValueError, match=r"about 0\.[23] GB and 0\.1 GB are free.*n_ubatch"):
        tiny_model.session(**wide, flash_attention="off")


@pytest.mark.parametrize(
    ("keys", "message"),
    [({"llama.attention.causal": False}, r"does not predict the next token.*decoder-only")],
)
def test_a_network_that_predicts_no_next_token_opens_no_session(tmp_path, keys, message):
    path = tiny.write(tmp_path / "t.gguf", metadata=keys)
    with Model.load(path) as model, pytest.raises(ModelLoadError, match=message):
        model.session()


# What a caller may get wrong; the session works afterwards.


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"prompt": None}, TypeError, "a prompt is a text or a list of token ids, not NoneType"),
        ({"prompt": b"abc"}, TypeError, "not bytes"),
        ({"prompt": 5}, TypeError, "not int"),
        ({"prompt": {"a": 1}}, TypeError, "not dict"),
        ({"prompt": ["a"]}, TypeError, "a token id must be a whole number, not 'a'"),
        ({"prompt": [{"role": "user"}]}, TypeError, "this is a chat. session.chat answers one"),
        ({"prompt": RenderedChat("", [], ())}, TypeError, "this is a chat. session.chat answers"),
        ({"prompt": [1.0]}, TypeError, "must be a whole number"),
        ({"prompt": [259]}, ValueError, "token 259 is outside the vocabulary.*from 0 to 258"),
        ({"prompt": [-1]}, ValueError, "token -1 is outside the vocabulary"),
        ({"prompt": "\ud800"}, ValueError, "lone surrogate"),
        ({"max_tokens": -1}, ValueError, "max_tokens=-1: it must be from 0 to"),
        ({"max_tokens": 1.5}, TypeError, "max_tokens=1.5"),
        ({"max_tokens": None}, TypeError, "max_tokens=None"),
        ({"seed": -1}, ValueError, "seed=-1: it must be from 0 to 4294967294"),
        ({"seed": 2**32 - 1}, ValueError, "seed=4294967295"),
        ({"seed": "7"}, TypeError, "seed='7'"),
        ({"stop": ""}, ValueError, "a stop string has at least one character"),
        ({"stop": ["a", 5.0]}, TypeError, "5.0 is no text and no token id"),
        ({"stop": 5.0}, TypeError, "stop=5.0: it must be a text, a token id, or a list of those"),
        ({"top": 0}, ValueError, "top=0"),
        ({"top": 1025}, ValueError, "top=1025: it must be from 1 to 1024"),
        ({"chain": 5}, TypeError, "a chain is stages such as"),
        ({"chain": TopK}, TypeError, "a chain is stages such as"),
        ({"chain": LogitBias({259: 1})}, ValueError, "LogitBias names token 259"),
        ({"chain": Mask(ban=range(259))}, NoCandidates, r"no token is left after stage 0, Mask"),
        ({"chain": Custom(lambda x, _: 1 / 0)}, StageFailed, "ZeroDivisionError: division by zero"),
        ({"chain": Custom(lambda x, _: x[:5])}, StageFailed, r"an array of shape \(5,\)"),
        ({"chain": Custom(lambda x, _: x * np.nan)}, StageFailed, "returned a NaN"),
        ({"chain": Custom(lambda x, _: None)}, StageFailed, r"shape \(\)"),
        ({"chain": Custom(lambda x, _: "no")}, StageFailed, "returned str"),
        ({"chain": Custom(lambda: None)}, StageFailed, "TypeError"),
        (
            {"chain": Custom(lambda x, _: x - np.inf)},
            NoCandidates,
            "no token is left after stage 0",
        ),
        ({"chain": Chain([Temperature(0.001)] * 3)}, NoCandidates, "the logits grew past"),
    ],
    ids=lambda x: str(x)[:40],
)
def test_what_cannot_be_generated_says_so_and_the_session_goes_on(
    session, arguments, error, message
):
    with pytest.raises(error, match=message):
        session.generate(**{"prompt": "abc", "max_tokens": 3, **arguments})
    assert len(session.generate("abc", NO_END, max_tokens=3)) == 3


def test_a_failed_generation_keeps_the_steps_before_it(session):
    calls = []

    def third_time_unlucky(logits, history):
        calls.append(history.tolist())
        return logits if len(calls) < 3 else logits[:1]

    with pytest.raises(StageFailed):
        session.generate("ab", NO_END | Custom(third_time_unlucky), max_tokens=9, seed=2)
    trace = session.last_trace
    assert (len(trace), trace.finish_reason) == (2, "failed")
    assert calls == [trace.history(i).tolist() for i in range(3)]


def test_every_call_on_a_closed_session_says_it_is_closed(tiny_model):
    session = tiny_model.session(n_ctx=256)
    assert "open" in repr(session)
    session.close()
    session.close()
    assert session.closed
    assert "closed" in repr(session)
    for call in (
        lambda: session.generate("a"),
        lambda: session.stream("a"),
        lambda: session.start("a"),
        lambda: session.logits("a"),
        lambda: session.score("a"),
        lambda: session.choose("a", ["b"]),
        lambda: session.chat([{"role": "user", "content": "a"}]),
        lambda: session.reset(),
    ):
        with pytest.raises(ClosedError, match=r"is closed\. Open another one with model.session"):
            call()
    session.stop()
    assert session.tokens.tolist() == []


def test_a_model_without_a_vocabulary_works_with_token_ids(tmp_path):
    names = "pre tokens scores token_type unknown_token_id bos_token_id eos_token_id"
    keys = dict.fromkeys(f"tokenizer.ggml.{name}" for name in names.split())
    path = tiny.write(tmp_path / "t.gguf", metadata=keys | {"tokenizer.ggml.model": "none"})
    with Model.load(path) as model, model.session(n_ctx=256) as session:
        trace = session.generate([5, 6], max_tokens=4, seed=1)
        assert (len(trace), trace.text) == (4, "")
        assert trace.pieces == [b"<%d>" % token for token in trace.tokens]
        with pytest.raises(ValueError, match=r"has no vocabulary. Give token ids instead of text"):
            session.generate("text")
        with pytest.raises(ValueError, match=r"the prompt is empty.*Give at least one character"):
            session.generate([])
