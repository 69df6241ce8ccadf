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


def in_words(number: int) -> str:
    """A count as a person says it, to three digits.

    >>> in_words(134_515_008), in_words(17)
    ('135 million', '17')
    """
    return _scaled(number, ((10**9, " billion"), (10**6, " million"), (10**3, " thousand")), "")


def size_in_words(number: int) -> str:
    """A number of bytes as a person says it, to three digits.

    >>> size_in_words(94_371_840), size_in_words(12)
    ('94.4 MB', '12 bytes')
    """
    return _scaled(number, ((10**9, " GB"), (10**6, " MB"), (10**3, " kB")), " bytes")


def _scaled(number: int, units: tuple[tuple[int, str], ...], plain: str) -> str:
    for size, unit in units:
        if number >= size:
            return f"{number / size:.3g}{unit}"
    return f"{number}{plain}"
