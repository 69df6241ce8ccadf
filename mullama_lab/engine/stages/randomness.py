"""Every draw is addressable.

The token at step i is drawn by llama.cpp's `dist`, which takes exactly one uniform a token, so its
i-th draw depends on the seed and i alone. A stage that draws by itself gets a seed made of the
seed, the step and its number, so that no other stage changes what it does.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from mullama_lab.engine import native


class Draws:
    """llama.cpp's `dist` for one seed, set to any step: its i-th draw is the draw of step i."""

    def __init__(self, seed: int, step: int = 0) -> None:
        self._seed = seed
        self._next = 0
        self._sampler = native.sampler("dist", seed)
        self._again: tuple[int, native.NativeSampler] | None = None
        self.at(step)
        self._next = step

    def at(self, step: int) -> native.NativeSampler:
        """The sampler, ready to draw for `step`; drawing with it moves it to the next step."""
        if step == self._next - 1:  # the same draw once more
            if self._again is None or self._again[0] != step:
                self._again = step, Draws(self._seed, step)._sampler
            return self._again[1].clone()
        if step < self._next:
            self._sampler = native.sampler("dist", self._seed)
            self._next = 0
        if step > self._next:
            one = native.Candidates(1)
            one.load(np.zeros(1, np.float32))
            for _ in range(step - self._next):
                self._sampler.apply(one)
        self._next = step + 1
        return self._sampler


@lru_cache(maxsize=1024)
def uniform(seed: int, step: int) -> float:
    """The number in [0, 1) that llama.cpp's `dist` draws at a step: two words of mt19937."""
    words = np.random.MT19937()
    words._legacy_seeding(seed)
    low, high = words.random_raw(2 * step + 2)[-2:]
    return float((int(low) + int(high) * 2**32) / 2**64)


def addressed_seed(seed: int, number: int, step: int) -> int:
    """A 32-bit seed that depends on these three numbers alone (splitmix64's mixer)."""
    z = (seed << 32 | number << 24) + (step + 1) * 0x9E3779B97F4A7C15 & 0xFFFFFFFFFFFFFFFF
    z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9 & 0xFFFFFFFFFFFFFFFF
    z = (z ^ z >> 27) * 0x94D049BB133111EB & 0xFFFFFFFFFFFFFFFF
    return min((z ^ z >> 31) >> 32, native.RANDOM_SEED - 1)
