from __future__ import annotations

import gc
import logging
import os
import re
import subprocess
import sys
import textwrap
import threading
import weakref

import numpy as np
import pytest

from mullama_lab import hub
from mullama_lab.engine import tiny
from mullama_lab.engine.decode_loop import DecodeLoop
from mullama_lab.engine.encoder import MultiVectorEncoder
from mullama_lab.engine.model import Model
from mullama_lab.engine.model_memory import ModelMemory
from mullama_lab.engine.native import amx, layouts
from mullama_lab.engine.native import model as native
from mullama_lab.engine.stages import Chain, Infill
from mullama_lab.errors import (
    ClosedError,
    LoadCancelled,
    ModelFileError,
    ModelLoadError,
    ModelNotFound,
)


@pytest.fixture
def model(tiny_path):
    """A model that a test may close."""
    with Model.load(tiny_path) as model:
        yield model


def test_a_model_says_what_it_is(tiny_model, tiny_path):
    assert tiny_model.path == tiny_path
    assert (tiny_model.architecture, tiny_model.vocab_type) == ("llama", "SPM")
    assert (tiny_model.n_vocab, tiny_model.n_embd, tiny_model.n_layer) == (259, 32, 2)
    assert (tiny_model.n_head, tiny_model.n_head_kv, tiny_model.n_ctx_train) == (2, 1, 512)
    assert tiny_model.file_type == "all F32"
    assert tiny_model.size_bytes == 4 * tiny_model.n_params
    assert (tiny_model.has_encoder, tiny_model.has_decoder) == (False, True)
    assert tiny_model.chat_template == tiny.CHATML
    assert tiny_model.special_tokens == {"bos": 1, "eos": 2, "nl": 13}
    assert (tiny_model.bos, tiny_model.eos, tiny_model.eot) == (1, 2, None)
    assert "open" in repr(tiny_model)


def test_the_card_is_made_of_short_texts(tiny_model):
    card = tiny_model.card()
    assert card["parameters"] == "38.2 thousand"
    assert card["vocabulary"] == "259 tokens, SentencePiece"
    assert card["chat template"] == "yes"
    assert all(isinstance(text, str) and len(text) < 80 for text in card.values())


def test_metadata_has_every_key_with_arrays(tiny_model):
    metadata = tiny_model.metadata
    assert metadata["llama.block_count"] == 2
    assert metadata["tokenizer.ggml.add_bos_token"] is True
    assert metadata["llama.attention.layer_norm_rms_epsilon"] == pytest.approx(1e-5)
    tokens = metadata["tokenizer.ggml.tokens"]
    assert len(tokens) == 259
    assert tokens[:3] == ["<unk>", "<s>", "</s>"]
    assert tokens[-1] == "<0xFF>"
    assert repr(tokens) == "['<unk>', '<s>', '</s>', ... 259 in all]"
    assert metadata["tokenizer.ggml.token_type"][:4] == [2, 3, 3, 6]
    with pytest.raises(TypeError, match="does not support item assignment"):
        metadata["general.name"] = "another"


def test_a_model_without_ends_has_none(tmp_path):
    none = 2**32 - 1  # llama.cpp then keeps its default, which a text may undo
    path = tiny.write(
        tmp_path / "endless.gguf",
        vocabulary="rwkv",
        metadata={"tokenizer.ggml.eos_token_id": none, "tokenizer.ggml.bos_token_id": none},
    )
    with Model.load(path, vocab_only=True) as model:
        assert (model.bos, model.eos, model.eot) == (None, None, None)


# -- loading ------------------------------------------------------------------------------------


@pytest.mark.parametrize(("mmap", "mlock"), [(True, False), (False, False), (True, True)])
def test_each_way_of_loading_gives_the_same_logits(tiny_path, mmap, mlock):
    with Model.load(tiny_path, mmap=mmap, mlock=mlock, n_gpu_layers=-1) as model:
        row = model.session(n_ctx=64).logits("hello")
    with Model.load(tiny_path) as model:
        expected = model.session(n_ctx=64).logits("hello")
    np.testing.assert_array_equal(row, expected)


@pytest.mark.parametrize("part", [1, 2, 3])
def test_any_part_of_a_split_file_loads_them_all(tmp_path, tiny_path, part):
    first = tiny.write(tmp_path / "split.gguf", split=3, chat_template=tiny.CHATML)
    with Model.load(tmp_path / f"split-0000{part}-of-00003.gguf") as model:
        assert model.path == first
        row = model.session(n_ctx=64).logits("hello")
    with Model.load(tiny_path) as whole:
        np.testing.assert_array_equal(row, whole.session(n_ctx=64).logits("hello"))


def test_links_to_the_parts_of_a_split_file_are_parts(tmp_path):
    tiny.write(tmp_path / "split.gguf", split=2)
    (tmp_path / "links").mkdir()
    for part in (1, 2):  # as the Hugging Face cache stores them: links to nameless files
        stored = (tmp_path / f"split-0000{part}-of-00002.gguf").rename(tmp_path / f"blob{part}")
        (tmp_path / "links" / f"split-0000{part}-of-00002.gguf").symlink_to(stored)
    Model.load(tmp_path / "links" / "split-00002-of-00002.gguf").close()


def test_a_missing_part_is_named(tmp_path):
    first = tiny.write(tmp_path / "split.gguf", split=3)
    (tmp_path / "split-00002-of-00003.gguf").unlink()
    with pytest.raises(ModelFileError, match=r"split-00002-of-00003\.gguf is missing"):
        Model.load(first)


def test_progress_goes_from_nothing_to_all(tiny_path):
    seen = []
    Model.load(tiny_path, progress=seen.append).close()
    assert seen == sorted(seen)
    assert seen[-1] == 1.0


def test_a_progress_function_that_returns_false_stops_loading(tiny_path):
    with pytest.raises(LoadCancelled, match="stopped by its progress callback"):
        Model.load(tiny_path, progress=lambda done: False)


@pytest.mark.parametrize("error", [KeyboardInterrupt, ZeroDivisionError])
def test_what_a_progress_function_raises_comes_through(tiny_path, error):
    def fail(done):
        raise error

    with pytest.raises(error):
        Model.load(tiny_path, progress=fail)


def test_a_bar_shows_only_when_loading_takes_long(tiny_path, capsys):
    Model.load(tiny_path, progress=True).close()
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"progress": "yes"}, TypeError),
        ({"n_gpu_layers": "all"}, TypeError),
        ({"n_gpu_layers": True}, TypeError),
    ],
)
def test_options_of_the_wrong_type_are_refused(tiny_path, options, error):
    with pytest.raises(error, match="must be"):
        Model.load(tiny_path, **options)


def test_llama_cpps_log_goes_to_logging_and_not_to_the_screen(tiny_path, caplog, capfd):
    with caplog.at_level(logging.DEBUG, "mullama_lab"):
        Model.load(tiny_path).close()
    assert "n_ctx_train" in caplog.text
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("vocabulary", "metadata", "said"),
    [
        (
            "bpe",
            {"tokenizer.ggml.pre": None},
            "llama.cpp warns of the file of tiny: missing pre-tokenizer type, using: 'default'; "
            "GENERATION QUALITY WILL BE DEGRADED!; CONSIDER REGENERATING THE MODEL. Another",
        ),
        (
            "spm",
            {"tokenizer.ggml.eos_token_id": 9999},
            "bad special token: 'tokenizer.ggml.eos_token_id' = 9999, using default id 2",
        ),
        (
            "spm",
            {"tokenizer.ggml.eos_token_id": 50},
            "special_eos_id is not in special_eog_ids - the tokenizer config may be incorrect",
        ),
    ],
)
def test_what_llama_cpp_warns_of_is_said_where_the_model_was_loaded(
    tmp_path, vocabulary, metadata, said
):
    path = tiny.write(tmp_path / "odd.gguf", vocabulary=vocabulary, metadata=metadata)
    with pytest.warns(UserWarning, match=re.escape(said)) as caught:
        Model.load(path).close()
    assert [warning.filename for warning in caught] == [__file__]


def test_what_nobody_can_do_anything_about_is_not_warned_of(tmp_path, recwarn):
    named = tiny.write(tmp_path / "named.gguf", pieces=["<|im_end|>", "<|eot_id|>"])
    for path in (named, tiny.write(tmp_path / "wpm.gguf", vocabulary="wpm")):
        Model.load(path).close()
    assert not recwarn.list


def test_the_models_of_the_catalogue_give_no_warning(recwarn):
    Model.load(hub.DEFAULT_MODEL).close()
    assert not recwarn.list


def test_a_verbose_load_prints_the_log(tiny_path, capsys):
    Model.load(tiny_path, verbose=True).close()
    assert "n_ctx_train" in capsys.readouterr().err


def test_what_llama_cpp_refuses_comes_with_its_reason(tmp_path):
    path = tiny.write(tmp_path / "partial.gguf", tensors={"blk.1.ffn_up.weight": None})
    with pytest.raises(ModelLoadError, match=r"tensor 'blk\.1\.ffn_up\.weight' not found\. Check"):
        Model.load(path)


def test_a_source_that_is_no_model_is_not_found():
    with pytest.raises(ModelNotFound):
        Model.load("no-such-model")


def test_a_vocabulary_alone_tokenizes_and_opens_no_session(tmp_path):
    path = tiny.write(tmp_path / "vocabulary.gguf", vocab_only=True)
    with Model.load(path, vocab_only=True) as model:
        assert model.tokenize("a") == [tiny.BOS, ord("a") + 3]
        assert model.n_layer == 2
        assert "vocabulary only" in repr(model)
        with pytest.raises(ModelLoadError, match="Load it without vocab_only"):
            model.session()


# -- text ---------------------------------------------------------------------------------------


def test_every_text_comes_back(tiny_model):
    for text in ("", "\0", "a\0b\0", "😀", "e\u0301", "\ufeffx", "\U0010ffff", " \t\r\n "):
        assert tiny_model.detokenize(tiny_model.tokenize(text)) == text


def test_an_empty_text_is_only_its_beginning(tiny_model):
    assert tiny_model.tokenize("") == [tiny.BOS]
    assert tiny_model.tokenize("", add_special=False) == []
    assert tiny_model.detokenize([]) == ""


def test_a_lone_surrogate_is_refused_with_a_way_out(tiny_model):
    with pytest.raises(ValueError, match=r"lone surrogate, '\\ud83d', at 1.*utf-16"):
        tiny_model.tokenize("a\ud83d")
    repaired = "\ud83d\ude00\ud83d".encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    assert tiny_model.detokenize(tiny_model.tokenize(repaired)) == "😀\ufffd"


@pytest.mark.parametrize("text", [b"bytes", None, 3, ["a"]])
def test_only_text_is_tokenized(tiny_model, text):
    with pytest.raises(TypeError, match="text must be a str"):
        tiny_model.tokenize(text)


def test_incomplete_characters_are_marked_and_their_bytes_are_kept(tiny_model):
    tokens = tiny_model.tokenize("€", add_special=False)
    assert tiny_model.detokenize(tokens[:2]) == "\ufffd"
    assert tiny_model.detokenize_bytes(tokens[:2]) == "€".encode()[:2]


@pytest.mark.parametrize("token", [-1, 259, 2**31, -(2**63), 2**64])
def test_a_token_outside_the_vocabulary_is_refused(tiny_model, token):
    for call in (
        tiny_model.piece,
        tiny_model.is_eog,
        tiny_model.is_control,
        lambda token: tiny_model.detokenize([token]),
    ):
        with pytest.raises(ValueError, match=r"ids go from 0 to 258"):
            call(token)


@pytest.mark.parametrize("token", [1.0, "1", None, b"a"])
def test_a_token_is_a_whole_number(tiny_model, token):
    with pytest.raises(TypeError, match="must be a whole number"):
        tiny_model.piece(token)


def test_pieces_are_bytes_and_control_tokens_have_a_name(tiny_model):
    assert tiny_model.piece(np.int32(ord("a") + 3)) == b"a"
    assert tiny_model.piece(0xFF + 3) == b"\xff"
    assert tiny_model.piece(tiny.EOS) == b"</s>"
    assert tiny_model.piece(tiny.EOS, special=False) == b""
    assert tiny_model.is_eog(tiny.EOS)
    assert not tiny_model.is_eog(tiny.BOS)
    assert tiny_model.is_control(tiny.BOS)
    assert not tiny_model.is_control(100)


def test_a_piece_may_be_longer_than_any_buffer(tmp_path):
    path = tiny.write(tmp_path / "long.gguf", pieces=["x" * 5000])
    with Model.load(path, vocab_only=True) as model:
        assert model.piece(259) == b"x" * 5000


# -- closing ------------------------------------------------------------------------------------


def test_a_closed_model_says_so_and_keeps_what_it_knew(model):
    piece = model.piece(100)
    model.close()
    model.close()
    assert model.closed
    assert "closed" in repr(model)
    assert model.piece(100) == piece
    assert model.n_vocab == 259
    assert model.card()["name"] == "tiny"
    assert model.metadata["tokenizer.ggml.tokens"][0] == "<unk>"
    for call in (
        lambda: model.tokenize("a"),
        lambda: model.piece(101),
        lambda: model.is_eog(1),
        lambda: model.session(),
        lambda: Chain([Infill()]).preview(np.zeros(259), model=model),
        lambda: DecodeLoop(model),
        lambda: MultiVectorEncoder(model),
    ):
        with pytest.raises(ClosedError, match="is closed. Load it again"):
            call()


def test_what_llama_cpp_would_be_given_of_a_closed_model_is_refused(tiny_path):
    how = {"mmap": True, "mlock": False, "progress": None}
    memory = ModelMemory(native.load_model(tiny_path, vocab_only=True, **how)[0], "tiny")
    assert memory.handle and memory.vocabulary
    memory.close()
    for call in (lambda: memory.handle, lambda: memory.vocabulary, memory.in_use().__enter__):
        with pytest.raises(ClosedError, match="model tiny is closed. Load it again"):
            call()


def test_closing_a_model_closes_its_sessions_first(model):
    sessions = [model.session(n_ctx=64) for _ in range(2)]
    model.close()
    assert all("closed" in repr(session) for session in sessions)
    with pytest.raises(ClosedError):
        sessions[0].logits("a")


def test_a_forgotten_model_lives_as_long_as_its_session(tiny_path):
    model = Model.load(tiny_path)
    session = model.session(n_ctx=64)
    known = weakref.ref(model)
    del model
    gc.collect()
    assert session.logits("a").shape == (259,)
    session.close()
    del session
    gc.collect()
    assert known() is None


def test_a_program_that_closes_nothing_ends_well(tiny_path):
    program = (
        "from mullama_lab.engine.model import Model\n"
        f"model = Model.load({str(tiny_path)!r})\n"
        "sessions = [model.session(n_ctx=64) for _ in range(2)]\n"
        "run = sessions[0].start('a', max_tokens=50)\n"
        "sessions[1].logits('b')\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


def test_closing_waits_for_threads_that_use_the_vocabulary(tiny_path):
    model = Model.load(tiny_path, vocab_only=True)
    text, results = "word " * 20_000, []

    def tokenize_until_closed():
        try:
            while True:
                results.append(len(model.tokenize(text)))
        except ClosedError:
            results.append("closed")

    threads = [threading.Thread(target=tokenize_until_closed) for _ in range(4)]
    for thread in threads:
        thread.start()
    while len(results) < 4:
        threading.Event().wait(0.01)
    model.close()
    for thread in threads:
        thread.join(10)
    assert results.count("closed") == 4
    assert set(results) == {len(text) + 1, "closed"}


def test_what_cannot_generate_opens_no_session(tmp_path):
    path = tiny.write(tmp_path / "encoder.gguf", architecture="bert", vocabulary="wpm")
    with Model.load(path) as model, pytest.raises(ModelLoadError, match="does not predict"):
        model.session()


@pytest.mark.parametrize(
    ("said", "layouts", "safe"),
    [
        (b"CPU : AVX2 = 1 | ", ["CPU_REPACK"], True),
        (b"CPU : AVX2 = 1 | AMX_INT8 = 1 | ", ["CPU_REPACK"], True),
        (b"CPU : AVX2 = 1 | AMX_INT8 = 1 | ", ["AMX", "CPU_REPACK"], False),
        (b"CPU : AVX2 = 1 | AMX_INT8 = 1 | ", [], False),  # a ggml that does not say
    ],
)
def test_kernels_that_gcc_miscompiles_get_no_weights(said, layouts, safe, monkeypatch, capfd):
    monkeypatch.setattr(amx.C, "llama_print_system_info", lambda: said)
    monkeypatch.setattr(amx, "extra_layouts", lambda: [(name, None) for name in layouts])
    assert amx.extra_layouts_are_safe.__wrapped__() is safe
    os.write(2, b"heard")  # standard error is there again
    assert capfd.readouterr().err == "heard"


def test_a_ggml_without_its_functions_is_not_trusted(monkeypatch, anew):
    monkeypatch.setattr(amx.C, "llama_print_system_info", lambda: b"AMX_INT8 = 1")
    asking = anew(layouts)
    monkeypatch.setattr(asking, "ggml_function", lambda *_: None)
    monkeypatch.setattr(amx, "extra_layouts", asking.extra_layouts)
    assert not amx.extra_layouts_are_safe.__wrapped__()


def test_a_quantised_model_reads_a_long_prompt_and_lives(attempts):
    """Where the processor has AMX, llama.cpp's own settings end the process here."""
    code = """
    import mullama_lab as ml
    from mullama_lab.engine.native import model as native
    session = ml.Model.load("smollm2-135m").session(n_ctx=512)
    attempt("prompt", lambda: session.logits("Once upon a time " * 40))
    attempt("repacked", lambda: 1 / native.model_params().use_extra_bufts)
    """
    assert attempts(textwrap.dedent(code)) == {"prompt": "fine", "repacked": "fine"}


def test_open_models_and_their_sessions_are_known_while_they_are_open(tiny_path):
    before = set(Model.opened())
    model = Model.load(tiny_path)
    session = model.session(n_ctx=32)
    assert set(Model.opened()) - before == {model} and model.sessions == [session]
    session.close()
    assert model.sessions == []
    model.close()
    assert set(Model.opened()) <= before
