"""A loop over llama.cpp's own functions: the most that any capture could reach."""

from __future__ import annotations

import ctypes
import time
from typing import Any

from llama_cpp import llama_cpp as _llama_cpp

from mullama_lab.engine.model import Model

C: Any = _llama_cpp  # its annotations do not allow what ctypes does

PROMPT = "Once upon a time, in a small town by the sea, there lived"


class BareLoop:
    """`llama_decode` and `llama_sampler_sample` with llama.cpp's default chain, and no more.

    Args:
        grammar: one in GBNF, for llama.cpp's own sampler at the head of that chain.
    """

    def __init__(self, model: Model, n_threads: int, grammar: str = "") -> None:
        self.model, self.grammar = model, grammar
        params = C.llama_context_default_params()
        params.n_ctx, params.n_batch, params.n_ubatch = 1024, 512, 512
        params.n_threads = params.n_threads_batch = n_threads
        params.swa_full = True
        self.context = C.llama_init_from_model(model._handle, params)
        self.tokens = model.tokenize(PROMPT)

    def __enter__(self) -> BareLoop:
        return self

    def __exit__(self, *_: object) -> None:
        C.llama_free(self.context)

    def speed(self, n: int) -> float:
        """Tokens a second after the first, as Trace.tokens_per_second counts them."""
        context, sampler = self.context, self._default_chain()
        C.llama_memory_clear(C.llama_get_memory(context), False)
        prompt = (C.llama_token * len(self.tokens))(*self.tokens)
        one = (C.llama_token * 1)()
        C.llama_decode(context, C.llama_batch_get_one(prompt, len(self.tokens)))
        batch = C.llama_batch_get_one(one, 1)
        one[0] = C.llama_sampler_sample(sampler, context, -1)
        start = time.perf_counter()
        for _ in range(n - 1):
            C.llama_decode(context, batch)
            one[0] = C.llama_sampler_sample(sampler, context, -1)
        seconds = time.perf_counter() - start
        C.llama_sampler_free(sampler)
        return (n - 1) / seconds

    def _default_chain(self) -> Any:
        chain = C.llama_sampler_chain_init(C.llama_sampler_chain_default_params())
        breakers = (ctypes.c_char_p * 4)(b"\n", b":", b'"', b"*")
        vocab = self.model._memory.vocabulary
        if self.grammar:
            text = self.grammar.encode()
            C.llama_sampler_chain_add(chain, C.llama_sampler_init_grammar(vocab, text, b"root"))
        for stage in (
            C.llama_sampler_init_penalties(self.model.n_vocab, 64, 1.0, 0.0, 0.0),
            C.llama_sampler_init_dry(vocab, 0.0, 1.75, 2, 64, breakers, 4),
            C.llama_sampler_init_top_n_sigma(0.0),
            C.llama_sampler_init_top_k(40),
            C.llama_sampler_init_typical(1.0, 0),
            C.llama_sampler_init_top_p(0.95, 0),
            C.llama_sampler_init_min_p(0.05, 0),
            C.llama_sampler_init_xtc(0.0, 0.1, 0, 7),
            C.llama_sampler_init_temp(0.8),
            C.llama_sampler_init_dist(7),
        ):
            C.llama_sampler_chain_add(chain, stage)
        return chain
