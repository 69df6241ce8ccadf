"""How many there are, in words that agree with the number."""

from __future__ import annotations


def counted(n: int, one: str, many: str = "") -> str:
    """A number with its noun.

    >>> counted(1, "token"), counted(24, "token"), counted(2, "branch", "branches")
    ('1 token', '24 tokens', '2 branches')
    """
    return f"{n} {one if n == 1 else many or one + 's'}"


def differing(n: int, of: int) -> str:
    """How many choices differ.

    >>> differing(0, 24), differing(1, 24), differing(2, 24)
    ('none of 24 choices differs', '1 of 24 choices differs', '2 of 24 choices differ')
    """
    return f"{n or 'none'} of {counted(of, 'choice')} {'differ' if n > 1 else 'differs'}"
