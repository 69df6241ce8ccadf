"""Session: one llama.cpp context, and the thread that owns it.

Every call that touches the context is a job on the session's worker, so any thread may call
any method; calls queue. A wait that Ctrl-C interrupts stops its job first, and the session
stays usable.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from mullama_lab.engine.sampling.chain import Chain, Stage
from mullama_lab.engine.session.file import SessionFile
from mullama_lab.engine.trace import Trace


class Session(SessionFile):
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
            ValueError: a message is not of that form, or the model has no chat template.
        """
        from mullama_lab.engine.model import chat

        text = chat.render(self.model, messages)
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

    def __repr__(self) -> str:
        if self.closed:
            return f"<Session of {self.model.name}: closed>"
        used = self.n_cells
        return f"<Session of {self.model.name}: {used} of {self.n_ctx} tokens cached, open>"
