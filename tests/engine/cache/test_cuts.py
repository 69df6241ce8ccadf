"""A prompt is cut in the same places whatever of it is in the cache."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from mullama_lab.engine.cache.cuts import BLOCK, Provenance, n_reusable, pieces
from mullama_lab.engine.text import Text

LENGTH = st.integers(1, 700)


def cut(n, start=0, n_batch=512):
    return [
        (piece.start, piece.stop)
        for piece in pieces(Text(range(n)), start, n - 1, n_batch, n_batch)
    ]


def made_by(n):
    return Provenance(prompt_end=n - 1, n_canonical=n)


def test_a_prompt_is_whole_blocks_then_the_last_block_with_the_rest_then_one_token():
    assert cut(1) == [(0, 1)]
    assert cut(64) == [(0, 63), (63, 64)]
    assert cut(128) == [(0, 127), (127, 128)]
    assert cut(130) == [(0, 64), (64, 129), (129, 130)]
    assert cut(700) == [(0, 512), (512, 576), (576, 699), (699, 700)]


@given(LENGTH, LENGTH, st.data())
def test_what_is_reused_ends_where_a_piece_begins_and_no_token_changes_its_kind(n, m, data):
    """A kind: in blocks of 64 and more at once, in one small piece, or alone."""
    shared = data.draw(st.integers(0, min(n, m)))
    held = Text([*range(shared), *[-1] * (n - shared)])
    text = Text([*range(shared), *[-2] * (m - shared)])
    start = n_reusable(held, made_by(n), text, m - 1, canonical=True)
    assert start <= min(shared, m - 1)

    def kinds(length):
        return {
            i: ("alone" if stop - begin == 1 and begin == length - 1 else
                "blocks" if stop - begin >= BLOCK else (begin, stop))
            for begin, stop in cut(length)
            for i in range(begin, stop)
        }  # fmt: skip

    mine, theirs = kinds(m), kinds(n)
    assert all(mine[i] == theirs[i] for i in range(start))
    assert all(mine[i] == kind for i, kind in kinds_from(m, start).items())


def kinds_from(n, start):
    return {
        i: ("alone" if stop - begin == 1 and begin == n - 1 else
            "blocks" if stop - begin >= BLOCK else (begin, stop))
        for begin, stop in cut(n, start)
        for i in range(begin, stop)
    }  # fmt: skip


@given(LENGTH)
def test_the_same_prompt_again_decodes_its_last_token_alone(n):
    text = Text(range(n))
    assert n_reusable(text, made_by(n), text, n - 1) == n - 1


def test_what_was_generated_is_reused_as_it_is_but_not_where_all_has_to_be_canonical():
    held = Text(range(100))
    held.extend(range(100, 150), generated=True)
    provenance = Provenance(prompt_end=99, n_canonical=150)
    text = Text([*range(150), *range(900, 930)])
    assert n_reusable(held, provenance, text, len(text) - 1) == 150
    assert n_reusable(held, provenance, text, len(text) - 1, canonical=True) == 64
