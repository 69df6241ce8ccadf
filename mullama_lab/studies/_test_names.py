"""llama-bench's names of what it measures.

`pp512` processes a prompt of 512 tokens, `tg128` generates 128 one by one, `pp512+tg128` does both,
and with ` @ d4096` it is done behind 4096 tokens that are in the cache already.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from mullama_lab.engine.options import whole
from mullama_lab.glyphs import brief

MOST_TOKENS = 1 << 24
_TEST = re.compile(r"pp(\d+)|tg(\d+)|pp(\d+)\+tg(\d+)|pg(\d+)[+,](\d+)")
_DEPTH = re.compile(r"(.*?)(?:\s*@\s*d(\d+))?")


@dataclass(frozen=True)
class BenchTest:
    """What one name of llama-bench's asks for; `n_depth` is None where the name has none."""

    n_prompt: int
    n_gen: int
    n_depth: int | None = None

    @classmethod
    def of(cls, name: object) -> BenchTest:
        """Read a name.

        >>> BenchTest.of("pp512 @ d4096")
        BenchTest(n_prompt=512, n_gen=0, n_depth=4096)
        >>> BenchTest.of("pg64,16") == BenchTest.of("pp64+tg16") == BenchTest(64, 16)
        True
        """
        rule = 'a test is "pp512", "tg128", "pp512+tg128", or one with " @ d4096" behind it.'
        whole_name = _DEPTH.fullmatch(name.strip()) if isinstance(name, str) else None
        match = _TEST.fullmatch(whole_name[1]) if whole_name else None
        if whole_name is None or match is None:
            raise ValueError(f"tests={brief(name)}: {rule}")
        pp, tg, both_pp, both_tg, pg_pp, pg_tg = (
            None if digits is None else _tokens(name, digits) for digits in match.groups()
        )
        depth = None if whole_name[2] is None else _tokens(name, whole_name[2])
        n_prompt, n_gen = pp or both_pp or pg_pp or 0, tg or both_tg or pg_tg or 0
        if n_prompt + n_gen == 0:
            raise ValueError(f"tests={brief(name)}: it has no tokens; {rule}")
        return cls(n_prompt, n_gen, depth)


def _tokens(name: object, digits: str) -> int:
    return whole(f"the tokens of {brief(name)}", int(digits[:20]), 0, MOST_TOKENS)


def name_of(n_prompt: int, n_gen: int, n_depth: int) -> str:
    """llama-bench's name.

    >>> name_of(512, 128, 4096)
    'pp512+tg128 @ d4096'
    """
    parts = [f"pp{n_prompt}"] * (n_prompt > 0) + [f"tg{n_gen}"] * (n_gen > 0)
    return "+".join(parts) + f" @ d{n_depth}" * (n_depth > 0)
