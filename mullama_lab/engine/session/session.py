"""Session: one llama.cpp context, and the thread that owns it.

Every call that touches the context is a job on the session's worker, so any thread may call
any method; calls queue. A wait that Ctrl-C interrupts stops its job first, and the session
stays usable.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from mullama_lab.engine.model.opening import must_be_short
from mullama_lab.engine.sampling.chain import Chain, Stage
from mullama_lab.engine.session import file
from mullama_lab.engine.session.branches import SessionBranches
from mullama_lab.engine.session.file import SavedSession
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
        messages: Sequence[dict[str, str]],
        chain: Chain | Stage | Iterable[Stage] | None = None,
        *,
        max_tokens: int = 512,
        seed: int | None = None,
        stop: str | Iterable[str] = (),
        top: int = 64,
        sequence: int = 0,
    ) -> Trace:
        """Answer a conversation, laid out by the model's own chat template.

        Args:
            messages: dicts such as {"role": "user", "content": "Hello"}.

        Raises:
            TypeError: messages are no list of dicts with a role.
            ValueError: the model has no chat template, or that refuses these messages.
            ModelError: the template failed, as on a message without its content.
            ContextFull: the conversation does not fit. What else `generate` raises, this does.
        """
        from mullama_lab.engine.model import chat

        text = chat.render(self.model, messages)
        must_be_short(self.model, text, self.n_ctx)
        tokens = self.model.tokenize(text, add_special=False, parse_special=True)
        return self.generate(
            tokens,
            chain,
            max_tokens=max_tokens,
            seed=seed,
            stop=stop,
            top=top,
            sequence=sequence,
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
