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

    >>> in_words(134_515_008), in_words(999_999), in_words(17)
    ('135 million', '1 million', '17')
    """
    return _scaled(number, (" trillion", " billion", " million", " thousand"), "")


def size_in_words(number: int) -> str:
    """A number of bytes as a person says it, to three digits.

    >>> size_in_words(94_371_840), size_in_words(999_999), size_in_words(12)
    ('94.4 MB', '1 MB', '12 bytes')
    >>> size_in_words(1_250_000_000_000), size_in_words(4_000_000_000_000_000)
    ('1.25 TB', '4000 TB')
    """
    return _scaled(number, (" TB", " GB", " MB", " kB"), " bytes")


def _scaled(number: int, units: tuple[str, ...], plain: str) -> str:
    """In the largest unit of which it is one at least, once it is rounded."""
    for power, unit in zip(range(len(units), 0, -1), units, strict=True):
        scaled = number / 1000**power
        rounded = f"{scaled:.3g}" if scaled < 999.5 else f"{scaled:.0f}"
        if float(rounded) >= 1:
            return rounded + unit
    return f"{number}{plain}"
