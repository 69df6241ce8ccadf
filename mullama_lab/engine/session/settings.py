"""The settings a session is opened with: spelled once, checked against a model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import KW_ONLY, dataclass, fields
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from mullama_lab.engine.native import context as native
from mullama_lab.engine.options import flag, kv_types, one_of, threads, whole
from mullama_lab.engine.session.checks import (
    MOST_TOKENS,
    must_fit_memory,
    must_generate,
    warn_past_training,
)
from mullama_lab.engine.session.fit import fitted

if TYPE_CHECKING:
    from mullama_lab.engine.model import Model

N_SEQUENCES = 8  # of a session, unless told otherwise


@dataclass(frozen=True)
class Settings:
    """How a session is opened.

    Args:
        n_ctx: tokens the context has room for, in all sequences together; None takes what the
            model was trained with, at most 4096; "fit" as much of what it was trained with as
            nine tenths of the memory that is free now can hold, beside the model's weights. With
            kv_unified=False each sequence has an equal part of it, which `session.n_ctx` names.
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
        reproducible: results depend on nothing but the model, the text, the chain and the seed:
            not on what is in the cache, what runs beside, or whether a text was generated or
            given before. Sequences share no cells then (as with kv_unified=False), each is
            decoded by itself, and nothing is reused that was computed in another way: one text
            takes as long as otherwise, several take turns, and a fork decodes its tokens again.
            Without it the same call gives the same text as long as nothing else is in the cache;
            `trace.canonical` says where that was so. Beside seven other texts the log-sum-exp of
            a row was apart by up to 0.33 nats (smollm2-135m) and 1.5 nats (gemma3-270m).
    """

    _: KW_ONLY
    n_ctx: int | str | None = None
    n_batch: int = 512
    n_ubatch: int = 512
    n_threads: int | None = None
    n_seq_max: int | None = None
    flash_attention: str = "auto"
    kv_type: str | tuple[str, str] = "f16"
    kv_unified: bool = True
    reproducible: bool = False

    def checked(self, model: Model) -> Settings:
        """The same with every default settled and every value checked.

        Raises:
            ValueError, TypeError: a value is out of range, or the cache would not fit in memory.
            ModelLoadError: the model does not generate.
        """
        fits = isinstance(self.n_ctx, str) and self.n_ctx == "fit"
        found = fitted(self, model) if fits else self.settled(model)
        must_fit_memory(model, found)
        warn_past_training(model, found.n_each)
        return found

    def settled(self, model: Model) -> Settings:
        """The same as `checked`, whether it fits in memory or not; n_ctx may not be "fit"."""
        must_generate(model)
        kv_unified, reproducible = (
            flag(name, getattr(self, name)) for name in ("kv_unified", "reproducible")
        )
        kv_unified = kv_unified and not reproducible
        n_ctx = min(4096, model.n_ctx_train or 4096) if self.n_ctx is None else self.n_ctx
        n_ctx = whole("n_ctx", n_ctx, 1, MOST_TOKENS, ' "fit" takes what fits in memory.')
        n_batch = min(whole("n_batch", self.n_batch, 1, 1 << 16), n_ctx)
        n_seq_max = self.n_seq_max
        if n_seq_max is None:  # more cost nothing where they share a buffer
            n_seq_max = min(N_SEQUENCES, n_batch) if kv_unified else 1
        n_seq_max = whole("n_seq_max", n_seq_max, 1, 256)
        if not kv_unified and n_ctx < n_seq_max:
            raise ValueError(
                f"n_ctx={n_ctx}: with kv_unified=False each of n_seq_max={n_seq_max} sequences has "
                "an equal part of it, which would be none. Use a larger n_ctx."
            )
        n_batch = max(n_batch, n_seq_max)  # llama.cpp aborts on one of fewer tokens
        n_ubatch = min(whole("n_ubatch", self.n_ubatch, 1, 1 << 16), n_batch)
        n_threads, types = threads(self.n_threads), kv_types(self.kv_type)
        one_of("flash_attention", self.flash_attention, native.FLASH_ATTENTION)
        return Settings(
            n_ctx=n_ctx,
            n_batch=n_batch,
            n_ubatch=n_ubatch,
            n_threads=n_threads,
            n_seq_max=n_seq_max,
            flash_attention=self.flash_attention,
            kv_type=types,
            kv_unified=kv_unified,
            reproducible=reproducible,
        )

    @property
    def n_each(self) -> int:
        """Positions that one sequence may have, of checked settings."""
        assert isinstance(self.n_ctx, int) and self.n_seq_max is not None
        return self.n_ctx if self.kv_unified else self.n_ctx // self.n_seq_max

    def options(self, asked: Settings) -> Mapping[str, Any]:
        """Of checked settings n_ctx, and those that were asked for in place of a default."""
        usual = Settings()
        given = {
            name: value
            for name, value in self.as_mapping().items()
            if name == "n_ctx" or getattr(asked, name) != getattr(usual, name)
        }
        return MappingProxyType(given)

    def as_mapping(self) -> Mapping[str, Any]:
        """The settings by name; read-only."""
        return MappingProxyType({field.name: getattr(self, field.name) for field in fields(self)})
