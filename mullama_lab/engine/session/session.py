"""Session: one llama.cpp context, and the thread that owns it.

Every call that touches the context is a job on the session's worker, so any thread may call
any method; calls queue. A wait that Ctrl-C interrupts stops its job first, and the session
stays usable.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from mullama_lab.engine.loop.run import Run
from mullama_lab.engine.loop.stream import Stream
from mullama_lab.engine.options import Stop
from mullama_lab.engine.session import file
from mullama_lab.engine.session.branches import SessionBranches
from mullama_lab.engine.session.conversation import Conversation, Messages, chat_tokens
from mullama_lab.engine.session.file import SavedSession
from mullama_lab.engine.stages.schedule import ChainOrSchedule
from mullama_lab.engine.trace import Trace
from mullama_lab.engine.tree import Tree

if TYPE_CHECKING:
    from mullama_lab.engine.model import Model

S = TypeVar("S", bound="Session")


class Session(SessionBranches):
    """One context of a model: its cache, and a worker thread that makes every call on it.

    Args:
        model: an open Model.
        n_ctx: tokens the context has room for, in all sequences together; None takes what the
            model was trained with, at most 4096. With kv_unified=False each sequence has an
            equal part of it, which `session.n_ctx` names.
        n_batch: tokens a prompt is processed in at once, at least n_seq_max; Stop acts between
            them on a GPU.
        n_ubatch: tokens llama.cpp computes at once, at most n_batch.
        n_threads: None takes the physical cores but one. llama.cpp's threads wait for each other
            in a busy loop, so when a browser wants one of their cores all of them stall; on a
            machine that does nothing else, taking every core is faster.
        n_seq_max: sequences the cache can hold, and so how many texts are generated at once;
            None is 8, or 1 with kv_unified=False.
        flash_attention: "auto", "on" or "off".
        kv_type: type of the cache, such as "f16" or "q8_0", or one for keys and one for values.
        kv_unified: one buffer for all sequences, so that they can share a prefix.

    Raises:
        ValueError: an option is out of range, or the cache would not fit in memory.
        ModelLoadError: llama.cpp refused the options.
    """

    tree: Tree | None = None  # that it was loaded with, or saved with last
    saved: SavedSession | None = None  # the file it was loaded from

    def chat(
        self,
        messages: Messages,
        chain: ChainOrSchedule = None,
        *,
        tools: Sequence[Mapping[str, Any]] | None = None,
        continue_final: bool = False,
        parse_special: bool = False,
        max_tokens: int = 512,
        seed: int | None = None,
        stop: Stop = (),
        top: int = 64,
        sequence: int = 0,
    ) -> Trace:
        """Answer a conversation, laid out by the model's own chat template.

        What people and tools say is plain text: "<|im_end|>" in a message ends nothing.
        `conversation` keeps the messages for you; `model.render_chat` shows what the model reads.

        Args:
            messages: dicts such as {"role": "user", "content": "Hello"}, or what
                `model.render_chat` gave, which takes variables for the template too.
            tools: JSON schemas of functions, as the template expects them.
            continue_final: go on with the last message instead of answering it.
            parse_special: read the names of special tokens in messages as these tokens.
            chain, max_tokens, seed, stop, top, sequence: as in `generate`.

        Raises:
            TypeError: messages are no list of dicts with a role.
            ValueError: the model has no chat template, or that refuses these messages.
            ModelError: the template failed, as on a message without its content.
            ContextFull: the conversation does not fit. What else `generate` raises, this does.
        """
        tokens = chat_tokens(self, messages, tools, continue_final, parse_special)
        return self.generate(
            tokens,
            chain,
            max_tokens=max_tokens,
            seed=seed,
            stop=stop,
            top=top,
            sequence=sequence,
        )

    def stream_chat(
        self,
        messages: Messages,
        chain: ChainOrSchedule = None,
        *,
        tools: Sequence[Mapping[str, Any]] | None = None,
        continue_final: bool = False,
        parse_special: bool = False,
        max_tokens: int = 512,
        seed: int | None = None,
        stop: Stop = (),
        top: int = 64,
        sequence: int = 0,
    ) -> Stream:
        """Answer a conversation and yield each Step as it comes; see `chat` and `stream`."""
        tokens = chat_tokens(self, messages, tools, continue_final, parse_special)
        return self.stream(
            tokens,
            chain,
            max_tokens=max_tokens,
            seed=seed,
            stop=stop,
            top=top,
            sequence=sequence,
        )

    def start_chat(
        self,
        messages: Messages,
        chain: ChainOrSchedule = None,
        *,
        tools: Sequence[Mapping[str, Any]] | None = None,
        continue_final: bool = False,
        parse_special: bool = False,
        max_tokens: int = 512,
        seed: int | None = None,
        stop: Stop = (),
        top: int = 64,
        sequence: int = 0,
    ) -> Run:
        """Begin to answer a conversation and return a Run at once; see `chat`."""
        tokens = chat_tokens(self, messages, tools, continue_final, parse_special)
        return self.start(
            tokens,
            chain,
            max_tokens=max_tokens,
            seed=seed,
            stop=stop,
            top=top,
            sequence=sequence,
        )

    def conversation(
        self,
        system: str | None = None,
        *,
        tools: Sequence[Mapping[str, Any]] | None = None,
        sequence: int = 0,
        **template_variables: Any,
    ) -> Conversation:
        """Begin a Conversation, which keeps its messages, and of which only the new is decoded.

            talk = session.conversation("You are brief.")
            talk.say("Name a planet.").text
            talk.say("And another?").text

        Args:
            system: what the model is told first; None leaves that to the template.
            tools: JSON schemas of functions, as the template expects them.
            sequence: where in the cache it lives (see `fork`); 0 is where `generate` works too,
                which then takes its place, and the next turn is decoded from the beginning.
            template_variables: what else the template may use, such as `enable_thinking=False`.

        Raises:
            ValueError: the model has no chat template, or there is no such sequence.
        """
        return Conversation(
            self, system, tools=tools, sequence=sequence, template_variables=template_variables
        )

    def save(self, path: str | Path, tree: Tree | None = None) -> SavedSession:
        """Write what the session holds into one file, which `Session.load` opens again.

        That is: the tokens of every sequence and their cells of the cache, the settings, the last
        trace with its seed and chain (its kept rows of logits stay out), and a Tree. A file of
        that name is replaced when the new one is complete on the disk, and not before. It waits
        for what the session is generating.

        Args:
            path: where to; ".safetensors" is the usual ending.
            tree: a Tree to keep with it; None is `session.tree`.

        Raises:
            SessionNotSaved: the disk is full, or the place cannot be written to. An older file
                of that name is as it was.
            ValueError: a chain in the tree has a Custom stage, whose function is no value.
            ClosedError: the session was closed.
        """
        return file.save(self, path, tree)

    @classmethod
    def load(cls: type[S], path: str | Path, model: Model, **settings: Any) -> S:
        """Open a session as it was saved: nothing is decoded, and `generate` goes on from there.

        `session.last_trace`, `session.tree` and `session.saved` (size and time) are set.

        With kv_unified=False, or all sequences but one in use, a cache with a sliding window can
        be rewound no further than the window afterwards; what is before it is decoded again.

        Args:
            path: a file that `save` wrote.
            model: the model it was saved with, wherever its file is now.
            settings: those of Session that shall differ: n_threads, n_batch and n_ubatch may, and
                n_ctx and n_seq_max may be larger. The threads are not those of the saved one,
                which may have been on another machine.

        Raises:
            SessionMismatch: the model is another one, or a setting cannot be that.
            SessionFileError: there is no such file, or it was cut off or altered; llama.cpp has
                not seen any of it then. Or there is not enough memory for its n_ctx.
            ValueError: one of `settings` is out of range.
        """
        return file.load(cls, path, model, settings)

    def __repr__(self) -> str:
        if self.closed:
            return f"<Session of {self.model.name}: closed>"
        used = self.n_cells
        return f"<Session of {self.model.name}: {used} of {self.n_ctx} tokens cached, open>"
