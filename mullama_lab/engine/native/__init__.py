"""The one door to llama.cpp.

`library` alone imports it; `log`, `arithmetic`, `samplers`, `model`, `context`, `batch`, `state`,
`tensors`, `hidden`, `nodes`, `steering` and `vectors` call it through that. What every sampling
needs is here by its name; the others are imported as modules.

Everything is a thin, checked call. What would abort or crash the process (a token
outside the vocabulary, a batch over its size, a NaN in a row of logits, a freed handle)
is refused with an exception before llama.cpp sees it.

It knows pointers, ids and rows. It knows no Model, Session or Chain.
"""

from __future__ import annotations

from mullama_lab.engine.native.arithmetic import Logits, dot, exp_shifted
from mullama_lab.engine.native.library import LARGEST_LOGIT, RANDOM_SEED, VERSION, C
from mullama_lab.engine.native.log import complaints
from mullama_lab.engine.native.samplers import (
    CANDIDATE,
    Candidates,
    NativeSampler,
    dry_sampler,
    logit_bias_sampler,
    sampler,
)

__all__ = [
    "CANDIDATE",
    "LARGEST_LOGIT",
    "RANDOM_SEED",
    "VERSION",
    "C",
    "Candidates",
    "Logits",
    "NativeSampler",
    "complaints",
    "dot",
    "dry_sampler",
    "exp_shifted",
    "logit_bias_sampler",
    "sampler",
]

C.llama_backend_init()
