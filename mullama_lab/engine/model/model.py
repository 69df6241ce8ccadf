"""A Model: the weights and the vocabulary of one GGUF file.

A Model opens Sessions, and outlives them: closing it closes them first. Its vocabulary may be
used by any thread at any time. What it says about itself stays available after it is closed;
only what needs the weights or the vocabulary raises `ClosedError` then.
"""

from __future__ import annotations

import hashlib
import weakref
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

from mullama_lab import hub
from mullama_lab.counted import in_words
from mullama_lab.engine.chat import Chat, RenderedChat, rendered
from mullama_lab.engine.chat.tools import ToolLike
from mullama_lab.engine.gguf.check import CheckedFile, check, parts
from mullama_lab.engine.handle import Handle
from mullama_lab.engine.memory import Buffer, Memory, ProcessMemory
from mullama_lab.engine.memory.buffers import must_be_heard, read
from mullama_lab.engine.model.card import model_card
from mullama_lab.engine.model.fit import fitted
from mullama_lab.engine.model.loading import Progress, reporter, say_warnings
from mullama_lab.engine.model.placed import Placed
from mullama_lab.engine.model_memory import ModelMemory
from mullama_lab.engine.native import VERSION
from mullama_lab.engine.native import model as native
from mullama_lab.engine.native.devices import devices, takes_layers
from mullama_lab.engine.native.log import said_of_sizes
from mullama_lab.engine.options import flag
from mullama_lab.engine.placement import ABOUT_DEVICES, ON_THE_CPU, Placement
from mullama_lab.engine.probe import must_survive
from mullama_lab.engine.session import Session
from mullama_lab.engine.session.request import takes
from mullama_lab.engine.session.settings import Settings
from mullama_lab.engine.vocabulary.tokenizing import tokenize
from mullama_lab.engine.vocabulary.vocabulary import Vocabulary
from mullama_lab.engine.weight_files import WeightFiles
from mullama_lab.engine.work import WAIT_STEP
from mullama_lab.errors import ModelFileError
from mullama_lab.glyphs import one_line, visible

_RELOADED_WITH = (*(field.name for field in fields(Placement)), "mmap", "mlock")
_made: weakref.WeakKeyDictionary[Model, None] = weakref.WeakKeyDictionary()  # as they came


class Model(Handle):
    """A GGUF model in memory. Open one with `Model.load`.

    Attributes:
        path: the file (the first part of a split one).
        source: what `Model.load` was given.
        options: mmap, mlock and those of `placement` that `Model.load` was given where they were
            no default, by name.
        placement: where its weights were to go.
        id: names the file as it was when it was loaded, and what of the options and of llama.cpp
            decides the numbers it computes; the same again where the same is loaded again.
        n_vocab, n_embd, n_layer, n_head, n_head_kv, n_ctx_train: sizes the model was made with.
        n_params: number of weights.
        size_bytes: size of the weights.
        n_swa: length of the sliding window, 0 without one.
        architecture, description, file_type: as llama.cpp names them.
        vocab_type: "SPM", "BPE", "WPM", "UGM", "RWKV", "PLAMO2" or "NONE".
        vocab_only: loaded without weights; can tokenize, cannot open a session.
        has_encoder, has_decoder, is_recurrent: what kind of network it is.
        add_bos, add_eos: whether `tokenize` adds these tokens.
        chat_template: the Jinja source of its chat template, or None.
        metadata: everything the file says about the model; large arrays are read when used.
        vocabulary: its tokens, one by one.
        special_tokens: name to id, such as {"bos": 1, "eos": 2}.
        projection: (numbers in, numbers out) of each layer in the file that makes a token's vector
            of what the network gives, such as ((1024, 128),) of LFM2-ColBERT; () for most.
    """

    source: str
    options: Mapping[str, Any] = MappingProxyType({})
    _buffers: tuple[Buffer, ...] = ()  # that the weights are in
    _overrides: Mapping[str, str] = MappingProxyType({})  # the device of each tensor that has one
    _said_of_sizes: Sequence[str] = ()
    n_vocab: int
    n_embd: int
    n_layer: int
    n_head: int
    n_head_kv: int
    n_ctx_train: int
    n_params: int
    size_bytes: int
    n_swa: int
    has_encoder: bool
    has_decoder: bool
    is_recurrent: bool
    description: str
    file_type: str
    vocab_type: str
    add_bos: bool
    add_eos: bool

    def __init__(
        self,
        handle: Any,
        file: CheckedFile,
        weight_files: WeightFiles,
        *,
        vocab_only: bool,
        placement: Placement = ON_THE_CPU,
    ) -> None:
        self._weight_files = weight_files
        self.placement = placement
        self.id = _id_of(weight_files, placement)
        self._tensors = file.tensors
        self.path = file.path
        self.metadata: Mapping[str, Any] = MappingProxyType(dict(file.metadata))
        self._missing_bytes = file.missing_bytes
        self.projection = file.projection
        self.vocab_only = vocab_only
        vars(self).update(native.facts(handle, vocab_only=vocab_only))
        self._memory = ModelMemory(handle, self.name)
        weakref.finalize(self, self._memory.close).atexit = False  # nor is it forgotten there
        # Sessions and encoders, as they came.
        self._handles: weakref.WeakKeyDictionary[Handle, None] = weakref.WeakKeyDictionary()
        self.vocabulary = Vocabulary(
            self._memory,
            n_tokens=self.n_vocab,
            kind=self.vocab_type,
            adds_space=bool(
                self.metadata.get("tokenizer.ggml.add_space_prefix", self.vocab_type == "SPM")
            ),
        )
        self.architecture = str(self.metadata.get("general.architecture", ""))
        if vocab_only:  # llama.cpp leaves these at 0
            self.n_layer, self.n_embd, self.n_ctx_train = (
                self.metadata.get(f"{self.architecture}.{key}", 0)
                for key in ("block_count", "embedding_length", "context_length")
            )
        self.chat_template = native.chat_template(handle)
        self.special_tokens: Mapping[str, int] = MappingProxyType(
            native.special_tokens(self._memory.vocabulary)
        )

    @classmethod
    def load(
        cls,
        source: str | Path,
        *,
        n_gpu_layers: int = 0,
        fit: bool = False,
        split_mode: str = "layer",
        main_gpu: int = 0,
        tensor_split: Sequence[float] | None = None,
        override_tensor: Mapping[str, str] | None = None,
        mmap: bool = True,
        mlock: bool = False,
        vocab_only: bool = False,
        progress: bool | Progress | None = None,
        verbose: bool = False,
        probe: bool = True,
    ) -> Model:
        """Load a model.

        Args:
            source: a name of the catalogue, the path of a GGUF file (any part of a split one),
                or "hf:owner/repo/file.gguf".
            n_gpu_layers: layers to put on the GPU; -1 for all; 0 keeps everything on the CPU. These
                and the next five were not tried on a GPU.
            fit: choose n_gpu_layers: the most with which the weights and a session of the usual
                settings fit in nine tenths of what is free now, on each device and for the CPU.
                What was chosen is in `options`, and logged. Without a device but the CPU nothing
                is chosen, which a warning says.
            split_mode: with several GPUs, "layer" gives each some layers, "row" a part of the
                rows of each matrix where the backend can, and "none" has one of them do it all.
            main_gpu: the number of that one, or with "row" of that which has all small tensors;
                `ml.devices()` lists them, and the first GPU is number 0.
            tensor_split: how much of the layers each GPU has, one number each: [3, 1] is three
                quarters and one. None divides by the memory that is free.
            override_tensor: devices by pattern, for tensors that shall be elsewhere than their
                layer: {"exps": "CPU"} keeps the experts on the CPU. A pattern is a regular
                expression that is searched for in a tensor's name, and the first that finds it
                decides. `model.placed` says what is where.
            mmap: take the weights from the file as they are used. It must stay as it is: a
                decode refuses one that was altered (ModelFileError), but a file cut short in the
                middle of a decode ends the process. False reads it into memory at once.
            mlock: keep the weights from being swapped out.
            vocab_only: load the vocabulary alone: enough to tokenize, no weights.
            progress: a function that gets the part that is done (0 to 1) and may return False to
                stop; True shows a bar when loading takes longer than two seconds.
            verbose: also print llama.cpp's log to the standard error stream.
            probe: a file that is not of the catalogue is opened in a child process the first time
                it is met, so that what ends llama.cpp does not end this process. False skips it, as
                MULLAMA_LAB_PROBE=0 in the environment does everywhere.

        Raises:
            HubError: the source names no file that can be had.
            ModelFileError: the file is damaged or no GGUF file.
            ModelLoadError: llama.cpp refused it, or ended on it in a child process.
            LoadCancelled: `progress` returned False.
            ValueError: a number is out of range, a device is not there or would have nothing to
                do, or a pattern finds no tensor. With `fit`, the model does not fit, which is
                found before memory is taken.
        """
        if flag("fit", fit) and (n_gpu_layers or vocab_only):
            raise ValueError(
                "fit=True chooses n_gpu_layers, and of weights: leave out "
                f"{'n_gpu_layers' if n_gpu_layers else 'vocab_only'}, or fit."
            )
        placement = Placement.of(
            n_gpu_layers=-1 if fit else n_gpu_layers,
            split_mode=split_mode,
            main_gpu=main_gpu,
            tensor_split=tensor_split,
            override_tensor=override_tensor,
        )
        mmap, mlock, verbose = flag("mmap", mmap), flag("mlock", mlock), flag("verbose", verbose)
        vocab_only, probe = flag("vocab_only", vocab_only), flag("probe", probe)
        path = hub.resolve(source)
        weight_files = WeightFiles(parts(path), mapped=bool(mmap) and not vocab_only)
        file = check(path, vocab_only=vocab_only)
        if probe and source not in hub.catalogue():
            must_survive(file, vocab_only=bool(vocab_only))
        if vocab_only:  # nothing is placed
            placement = replace(placement, override_tensor=())
        if fit:
            placement = fitted(cls, file, placement, mmap=bool(mmap))
        overrides = placement.overrides(tensor.name for tensor in file.tensors)
        with reporter(progress, file.path.name) as report, said_of_sizes() as said:
            handle, warned = native.load_model(
                file.path,
                placement=placement,
                overrides=overrides,
                mmap=bool(mmap),
                mlock=bool(mlock),
                vocab_only=bool(vocab_only),
                progress=report,
                print_log=bool(verbose),
            )
        model = cls(handle, file, weight_files, vocab_only=bool(vocab_only), placement=placement)
        _made[model] = None
        model.source, model._buffers = str(source), read(said)
        model._overrides, model._said_of_sizes = overrides, said
        model.options = _options(placement, mmap=mmap, mlock=mlock)
        weight_files.must_be_on_disk()  # what was checked is what was loaded
        say_warnings(model.name, warned, model.vocab_type)
        return model

    def reloaded(self, *, progress: bool | Progress | None = None, **options: Any) -> Model:
        """The same file loaded again with other options, as another model; this one stays open.

            again = model.reloaded(n_gpu_layers=20)

        `session.reloaded` does so and brings a session along.

        Args:
            progress: as for `load`.
            options: those of `load` that shall differ: n_gpu_layers, split_mode, main_gpu,
                tensor_split, override_tensor, mmap, mlock. With n_gpu_layers=0 the old ones about
                devices, which it leaves nothing to divide between, are dropped.

        Raises:
            TypeError: it is none of these.
            ModelFileError: the file is another by now.
            ClosedError: the model was closed. What else `load` raises.
        """
        self.must_be_open()
        for name in options:
            if name not in _RELOADED_WITH:
                raise TypeError(
                    f"{name} is no option to load a model again with. There are "
                    f"{', '.join(_RELOADED_WITH)}."
                )
        stays = dict(self.options)
        if options.get("n_gpu_layers") == 0:
            stays = {name: stays[name] for name in stays if name not in ABOUT_DEVICES}
        again = type(self).load(
            self.path,
            vocab_only=self.vocab_only,
            progress=progress,
            probe=False,
            **{**stays, **options},
        )
        try:
            self._weight_files.must_be_on_disk()
        except ModelFileError:
            again.close()
            raise
        again.source = self.source
        return again

    # -- open and closed --------------------------------------------------------------------

    @classmethod
    def opened(cls) -> list[Model]:
        """The models that are open in this process, the oldest first; being here holds nothing."""
        made = [ref() for ref in _made.keyrefs()]
        return [model for model in made if model is not None and not model.closed]

    @property
    def sessions(self) -> list[Session]:
        """The sessions that are open on it, the oldest first."""
        handles = [ref() for ref in self._handles.keyrefs()]
        return [one for one in handles if isinstance(one, Session) and not one.closed]

    @property
    def closed(self) -> bool:
        """Whether the model was closed."""
        return self._memory.closed

    @property
    def _handle(self) -> Any:
        return self._memory.handle

    def must_be_open(self) -> None:
        """Refuse a model that was closed; ClosedError."""
        self._memory.must_be_open()

    def close(self) -> None:
        """Close what was opened on this model, then free it. Closing twice is fine."""
        ended = False
        while not ended:  # another thread may open one meanwhile
            for handle in list(self._handles):
                handle.close()
            self._memory.hurry()
            ended = self._memory.ended_within(WAIT_STEP)
        self._weight_files.close()

    @takes(Settings)
    def session(self, settings: Settings) -> Session:
        """Open a Session on this model.

        Raises:
            ValueError: a setting is out of range, or the cache would not fit in memory.
            ModelLoadError: llama.cpp refused the settings.
        """
        self.must_be_open()
        return Session(self, settings)

    # -- text and tokens --------------------------------------------------------------------

    def tokenize(
        self, text: str, add_special: bool = True, parse_special: bool = False
    ) -> list[int]:
        """Token ids of a text.

        Args:
            text: any text; NUL and emoji are text like any other.
            add_special: add the tokens that begin and end a text, where the model wants them.
            parse_special: read "<|im_start|>" and the like as the tokens they name. A text that
                begins with the name of the token that begins a text ("<s>Hello") has it once.

        Raises:
            ValueError: the text has lone surrogates, is longer than 2 GiB, or the model has no
                vocabulary.
        """
        return tokenize(
            self, text, flag("add_special", add_special), flag("parse_special", parse_special)
        )

    def render_chat(
        self,
        messages: Sequence[Mapping[str, Any]],
        tools: Sequence[ToolLike] | None = None,
        add_generation_prompt: bool | None = None,
        continue_final: bool = False,
        *,
        parse_special: bool = False,
        **template_variables: Any,
    ) -> RenderedChat:
        """A chat as this model reads it: text, tokens, and where each message lies in them.

        The model's own template lays it out, as transformers' `apply_chat_template` does; whether
        the prompt begins with the beginning-of-text token is the template's choice too. What
        people and tools say is plain text: "<|im_end|>" in a message is those characters (but for
        a name that two texts, or one and the template, make together with nothing in between).

            model.render_chat([{"role": "user", "content": "Hello"}])

        Args:
            messages: mappings with "role" and what the template reads, mostly "content": a text,
                None, or a list of parts {"type": "text", "text": "..."}, which are put on a line
                each.
            tools: Python functions with type hints, or JSON schemas of functions, as the template
                expects them. One that takes none has them said in the system message.
            add_generation_prompt: end with what makes the model answer; None does, unless the
                last message is gone on with.
            continue_final: end where the last message ends, so that the model goes on with it.
            parse_special: read the names of special tokens in messages as these tokens.
            template_variables: what else the template may use, such as `enable_thinking=False`;
                data that JSON can carry. What it does not use changes nothing.

        Raises:
            ValueError: the model has no chat template, it refuses these messages, or a part of a
                content is no text.
            TypeError: messages or tools are of another form.
            ModelError: the template failed, as on a message without its content; the error says
                at which message. Or it took more than its share of time (10 s) or memory (256 MB),
                which grow with the messages.
        """
        return rendered(
            Chat.of(
                self,
                messages,
                tools,
                add_generation_prompt,
                continue_final,
                parse_special=parse_special,
                variables=template_variables,
            )
        )

    def detokenize(self, tokens: Iterable[int], *, special: bool = False) -> str:
        """The text of some tokens; bytes that are no UTF-8 become U+FFFD."""
        return self.detokenize_bytes(tokens, special=special).decode("utf-8", "replace")

    def detokenize_bytes(self, tokens: Iterable[int], *, special: bool = False) -> bytes:
        """The bytes of some tokens, without the space SentencePiece puts before a text.

        Control tokens such as `</s>` are left out unless `special`.
        """
        return self.vocabulary.joined(tokens, special=flag("special", special))

    def piece(self, token: int, *, special: bool = True) -> bytes:
        """The bytes one token stands for; for a control token its name, or b"" if not `special`.

        A model without a vocabulary has numbers for names: b"<7>".
        """
        named, plain = self.vocabulary.bytes_of(token)
        if type(special) is not bool:
            special = flag("special", special)
        return named if special else plain

    def is_eog(self, token: int) -> bool:
        """Whether this token ends a generation (end of text, of turn, of message)."""
        return self.vocabulary.is_eog(token)

    def is_control(self, token: int) -> bool:
        """Whether this token steers the model and is no text."""
        return self.vocabulary.is_control(token)

    @property
    def bos(self) -> int | None:
        """The token that begins a text."""
        return self.special_tokens.get("bos")

    @property
    def eos(self) -> int | None:
        """The token that ends a text."""
        return self.special_tokens.get("eos")

    @property
    def eot(self) -> int | None:
        """The token that ends a turn of a chat."""
        return self.special_tokens.get("eot")

    # -- memory -----------------------------------------------------------------------------

    @property
    def memory(self) -> Memory:
        """What its weights take of the memory, by device, and what the process takes now.

        `session.memory` adds what a session takes.

        Raises:
            ClosedError: the model was closed.
            ModelLoadError: llama.cpp's log, which has the sizes, was not heard.
        """
        self.must_be_open()
        if not self.vocab_only:
            must_be_heard(self._buffers, "weights")
        return Memory(self._buffers, ProcessMemory.now(self._weight_files.paths))

    @property
    def placed(self) -> Placed:
        """Which device has which of its layers and tensors.

            print(model.placed)

        Raises:
            ModelLoadError: llama.cpp's log, which says it, was not heard; or the model has no
                weights (vocab_only).
        """
        return Placed.of(self._tensors, self._said_of_sizes)

    # -- display ----------------------------------------------------------------------------

    @property
    def name(self) -> str:
        """What the model calls itself, or the name of its file; in one line, nothing hidden."""
        return one_line(visible(str(self.metadata.get("general.name") or self.path.stem)))

    def card(self) -> dict[str, str]:
        """What a model card shows, as text by label."""
        return model_card(self)

    def __repr__(self) -> str:
        state = "closed" if self.closed else "vocabulary only" if self.vocab_only else "open"
        return (
            f"<Model {self.name}: {self.architecture}, {in_words(self.n_params)} parameters, "
            f"{self.n_vocab} tokens, {state}>"
        )


def _options(placement: Placement, *, mmap: bool, mlock: bool) -> Mapping[str, Any]:
    usual, given = {"mmap": True, "mlock": False}, {"mmap": mmap, "mlock": mlock}
    changed = {name: value for name, value in given.items() if value != usual[name]}
    return MappingProxyType({**placement.options, **changed})


def _id_of(files: WeightFiles, placement: Placement) -> str:
    if not takes_layers(devices()):
        placement = ON_THE_CPU  # where all is, wherever it was to go
    others = replace(placement, n_gpu_layers=0).options
    computes = repr((VERSION, placement.n_gpu_layers, files.stamps, *others.items()))
    return hashlib.sha256(computes.encode()).hexdigest()[:32]
