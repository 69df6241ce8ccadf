"""Effect: what adapters and control vectors make of a text, by token and by strength.

A given text is shown to both Settings, each in one batch (teacher forcing), and at each token what
the model says before the chain is compared, as `llama-perplexity --kl-divergence` compares a
quantised model with its original. So the text is the same on both sides, and what differs is caused
by what acts on the weights.
"""

from __future__ import annotations

from mullama_lab.studies.effect.by_strength import Steered, Strengths, steered, strengths
from mullama_lab.studies.effect.by_token import Effect, effect, staleness
from mullama_lab.studies.effect.in_generation import effect_in, staleness_in

__all__ = [
    "Effect",
    "Steered",
    "Strengths",
    "effect",
    "effect_in",
    "staleness",
    "staleness_in",
    "steered",
    "strengths",
]
__dir__ = __all__.copy  # what tab completion offers
