"""Checked calls of llama.cpp on models and vocabularies.

The rules are those of the package. Nothing here needs a context, and everything only reads, so any
number of threads may call it on one model.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np

from mullama_lab.engine.leaving import Users, end_daemon_thread, has_begun
from mullama_lab.engine.native.amx import extra_layouts_are_safe
from mullama_lab.engine.native.library import C
from mullama_lab.engine.native.log import complaints
from mullama_lab.engine.native.placement import place
from mullama_lab.errors import LoadCancelled, ModelLoadError

if TYPE_CHECKING:
    from mullama_lab.engine.placement import Placement

VOCABULARY_TYPES = {
    C.LLAMA_VOCAB_TYPE_NONE: "NONE",
    C.LLAMA_VOCAB_TYPE_SPM: "SPM",
    C.LLAMA_VOCAB_TYPE_BPE: "BPE",
    C.LLAMA_VOCAB_TYPE_WPM: "WPM",
    C.LLAMA_VOCAB_TYPE_UGM: "UGM",
    C.LLAMA_VOCAB_TYPE_RWKV: "RWKV",
    C.LLAMA_VOCAB_TYPE_PLAMO2: "PLAMO2",
    C.LLAMA_VOCAB_TYPE_TEST: "TEST",
}
LOAD_MODES = {  # (mmap, mlock)
    (False, False): C.LLAMA_LOAD_MODE_NONE,
    (True, False): C.LLAMA_LOAD_MODE_MMAP,
    (False, True): C.LLAMA_LOAD_MODE_MLOCK,
    (True, True): C.LLAMA_LOAD_MODE_MMAP_MLOCK,
}
CONTROL, USER_DEFINED = C.LLAMA_TOKEN_ATTR_CONTROL, C.LLAMA_TOKEN_ATTR_USER_DEFINED
STRIPS_LEFT, STRIPS_RIGHT = C.LLAMA_TOKEN_ATTR_LSTRIP, C.LLAMA_TOKEN_ATTR_RSTRIP
STEERING = CONTROL | C.LLAMA_TOKEN_ATTR_UNKNOWN  # found where special tokens are parsed
_PARSED_BY_NAME = STEERING | USER_DEFINED
LONGEST_TEXT = 2**31 - 1  # bytes; llama.cpp counts them in 32 bits

_SPECIAL_NAMES = (
    *("bos", "eos", "eot", "sep", "nl", "pad", "mask"),
    *("fim_pre", "fim_suf", "fim_mid", "fim_pad", "fim_rep", "fim_sep"),
)

_file_type_name = C._lib.llama_ftype_name  # in llama.h, but llama-cpp-python has no binding
_file_type_name.argtypes, _file_type_name.restype = [ctypes.c_int], ctypes.c_char_p

get_vocabulary: Callable[[Any], Any] = C.llama_model_get_vocab

_loads = Users()
pointed_to: dict[int, tuple[Any, ...]] = {}  # by model: what its parameters point to


def model_params() -> Any:
    """llama.cpp's defaults for loading a model, but for kernels that end the process."""
    params = C.llama_model_default_params()
    params.use_extra_bufts = extra_layouts_are_safe()
    return params


def load_model(
    path: Path,
    *,
    placement: Placement | None = None,
    overrides: Mapping[str, str] = MappingProxyType({}),
    mmap: bool,
    mlock: bool,
    vocab_only: bool,
    progress: Callable[[float], bool | None] | None,
    no_weights: bool = False,
    print_log: bool = False,
) -> tuple[Any, list[str]]:
    """Load a GGUF file that was checked before; the model, and what llama.cpp warned of.

    Args:
        placement: where its weights go; None is all on the CPU.
        overrides: the device of each tensor whose device is not that of its layer.
        progress: gets the part that is done, 0 to 1; when it returns False or raises (Ctrl-C
            too), loading stops, as it does when the interpreter ends.
        no_weights: read the header alone. The network and contexts can be laid out, in no memory;
            to compute with them ends the process. Not with mmap or mlock.
        print_log: print llama.cpp's log to the standard error stream.
    """
    told = _Progress(progress)
    params = model_params()
    params.n_gpu_layers = 0
    kept = () if placement is None else place(params, placement, overrides)
    params.load_mode = LOAD_MODES[mmap, mlock]
    params.vocab_only, params.no_alloc = vocab_only, no_weights
    params.progress_callback = C.llama_progress_callback(told.go_on)
    if not _loads.enter():
        end_daemon_thread()
        raise LoadCancelled(f"{path} was not loaded: the interpreter is ending.")
    try:
        with complaints(printed=print_log) as heard:
            model = C.llama_model_load_from_file(os.fsencode(path), params)
    finally:
        _loads.leave()
    if told.cancelled:
        if model:
            free_model(model)
        told.raise_why(path)
    if not model:
        raise ModelLoadError(
            f"llama.cpp could not load {path}: {heard.reason()}. "
            "Check that the file is a language model, and that this llama-cpp-python knows "
            "its architecture."
        )
    pointed_to[model] = kept
    return model, heard.warnings


def free_model(model: Any) -> None:
    """Free what `load_model` gave."""
    kept = pointed_to.pop(model, None)  # first: another thread may be given the same address
    C.llama_model_free(model)
    del kept


def load_outline(path: Path, placement: Placement, overrides: Mapping[str, str]) -> Any:
    """The model of a file that was checked before, without its weights; see `no_weights`."""
    model, _ = load_model(
        path,
        placement=placement,
        overrides=overrides,
        mmap=False,
        mlock=False,
        vocab_only=False,
        progress=None,
        no_weights=True,
    )
    return model


class _Progress:
    """Tells a caller how far loading is, and llama.cpp whether to go on.

    Attributes:
        cancelled: whether loading was stopped: by the caller, or because the interpreter ends.
    """

    def __init__(self, tell: Callable[[float], bool | None] | None) -> None:
        self._tell = tell
        self._error: BaseException | None = None
        self.cancelled = False

    def go_on(self, done: float, _user: object) -> bool:
        """llama.cpp's progress callback."""
        try:
            answer = self._tell(done) if self._tell is not None else None
            self.cancelled = has_begun() or (isinstance(answer, (bool, np.bool_)) and not answer)
        except BaseException as error:  # ctypes would only print it
            self._error, self.cancelled = error, True
        return not self.cancelled

    def raise_why(self, path: Path) -> NoReturn:
        """Raise what the caller's function raised, or say that loading was stopped."""
        if self._error is not None:
            raise self._error
        end_daemon_thread()
        raise LoadCancelled(f"loading {path} was stopped by its progress callback.")


def facts(model: Any, *, vocab_only: bool) -> dict[str, Any]:
    """What llama.cpp says of a model, by the names that `Model` gives it."""
    # Without layers llama.cpp aborts when it is asked for their heads.
    n_head = 0 if vocab_only else C.llama_model_n_head(model)
    n_head_kv = 0 if vocab_only else C.llama_model_n_head_kv(model)
    description = ctypes.create_string_buffer(256)
    C.llama_model_desc(model, description, len(description))
    vocabulary = get_vocabulary(model)
    return {
        "n_vocab": C.llama_vocab_n_tokens(vocabulary),
        "n_embd": C.llama_model_n_embd(model),
        "n_layer": C.llama_model_n_layer(model),
        "n_head": n_head,
        "n_head_kv": n_head_kv,
        "n_ctx_train": C.llama_model_n_ctx_train(model),
        "n_params": C.llama_model_n_params(model),
        "size_bytes": C.llama_model_size(model),
        "n_swa": C.llama_model_n_swa(model),
        "has_encoder": bool(C.llama_model_has_encoder(model)),
        "has_decoder": bool(C.llama_model_has_decoder(model)),
        "is_recurrent": bool(C.llama_model_is_recurrent(model)),
        "file_type": _file_type_name(C.llama_model_ftype(model)).decode(),
        "description": description.value.decode("utf-8", "replace"),
        "vocab_type": VOCABULARY_TYPES.get(C.llama_vocab_type(vocabulary), "UNKNOWN"),
        "add_bos": bool(C.llama_vocab_get_add_bos(vocabulary)),
        "add_eos": bool(C.llama_vocab_get_add_eos(vocabulary)),
    }


def special_tokens(vocabulary: Any) -> dict[str, int]:
    """The special tokens a vocabulary has, by llama.cpp's short names."""
    found = {name: getattr(C, f"llama_vocab_{name}")(vocabulary) for name in _SPECIAL_NAMES}
    return {name: token for name, token in found.items() if token >= 0}


def tokenize(vocabulary: Any, text: bytes, add_special: bool, parse_special: bool) -> list[int]:
    """Token ids of UTF-8 text; NUL bytes are text like any other."""
    room = len(text) + 8
    while True:
        tokens = (C.llama_token * room)()
        count = C.llama_tokenize(
            vocabulary, text, len(text), tokens, room, add_special, parse_special
        )
        if count >= 0:
            return tokens[:count]
        if count == -(2**31):
            raise ValueError("the text has more than 2**31 tokens. Tokenize it in parts.")
        room = -count


def piece(vocabulary: Any, token: int, *, special: bool) -> bytes:
    """The bytes one token stands for; b"" for a control token unless `special`."""
    buffer = ctypes.create_string_buffer(64)
    length = C.llama_token_to_piece(vocabulary, token, buffer, len(buffer), 0, special)
    if length < 0:
        buffer = ctypes.create_string_buffer(-length)
        length = C.llama_token_to_piece(vocabulary, token, buffer, len(buffer), 0, special)
    return buffer.raw[:length]


def attributes(vocabulary: Any, token: int) -> int:
    """llama.cpp's attribute bits of one token."""
    return C.llama_vocab_get_attr(vocabulary, token)


def special_texts(vocabulary: Any) -> list[tuple[bytes, int, int]]:
    """(name, token, attribute bits) of each token that llama.cpp finds in a text by its name."""
    found = []
    for token in range(C.llama_vocab_n_tokens(vocabulary)):
        bits = C.llama_vocab_get_attr(vocabulary, token)
        if bits & _PARSED_BY_NAME:
            found.append((C.llama_vocab_get_text(vocabulary, token), token, bits))
    return found


def is_eog(vocabulary: Any, token: int) -> bool:
    """Whether a token ends a generation."""
    return bool(C.llama_vocab_is_eog(vocabulary, token))


def chat_template(model: Any) -> str | None:
    """The Jinja source of the model's chat template."""
    source = C.llama_model_chat_template(model, None)
    return source.decode("utf-8", "replace") if source else None


def apply_builtin_template(
    template: str, messages: Sequence[tuple[str, str]], add_generation_prompt: bool
) -> str | None:
    """Render with llama.cpp's own list of templates; None when it does not know this one."""
    chat = (C.llama_chat_message * max(1, len(messages)))()
    for slot, (role, content) in zip(chat, messages, strict=False):
        slot.role, slot.content = role.encode(), content.encode()
    room = 1024
    while True:
        buffer = ctypes.create_string_buffer(room)
        length = C.llama_chat_apply_template(
            template.encode(),
            chat,
            len(messages),
            add_generation_prompt,
            buffer,  # type: ignore[arg-type]
            room,
        )
        if length < 0:
            return None
        if length <= room:
            return buffer.raw[:length].decode("utf-8", "replace")
        room = length
