"""What a person keeps in a cache stays, whatever else is asked of the session in whatever order."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import strategies as st

from mullama_lab.engine import tiny
from mullama_lab.engine.model import Model
from mullama_lab.engine.stages import Mask
from mullama_lab.errors import ContextFull, SessionError

NO_END = Mask(ban=[tiny.EOS])
NOISE = 0.05  # small batches of other sizes round otherwise; another text differs by more than 1
SIZES = st.integers(1, 70)
WORKS = ("logits", "generate", "many", "branch", "score", "choose", "fork", "rewind", "remove")
works = st.lists(st.tuples(st.sampled_from(WORKS), SIZES, st.integers(0, 9)), max_size=12)


def text(n, k):
    """n tokens that begin alike for all k, and go their own way after a few."""
    return [1, *(10 + i for i in range(min(n, 9))), *(20 + (i * (k + 1)) % 200 for i in range(n))]


@pytest.fixture(scope="module", params=["llama", "gemma3", "mamba", "jamba"])
def sessions(request, tmp_path_factory):
    """A session of 100 tokens and four sequences, one with room for all, and a fresh one."""
    path = tiny.write(tmp_path_factory.mktemp("fuzz") / "t.gguf", architecture=request.param)
    with Model.load(path) as model:
        opened = [
            model.session(n_ctx=100, n_threads=1, n_seq_max=4),
            model.session(n_ctx=400, n_threads=1, n_seq_max=4, kv_unified=False),
        ]
        yield opened, model.session(n_ctx=256, n_threads=1)


def test_no_order_of_work_changes_what_is_kept(sessions, attack):
    opened, fresh = sessions

    def attempt(case):
        which, asked = case
        session = opened[which]
        session.reset()
        kept = {}
        for work, n, k in asked:
            target = sorted(kept)[k % len(kept)] if kept else 0
            try:
                _do(session, work, n, k, target, kept)
            except SessionError:  # refused: nothing is lost
                if work in ("rewind", "fork"):
                    assert session.sequences[target].tolist() == kept.get(
                        target, session.tokens.tolist()
                    )
            for sequence, tokens in kept.items():
                assert session.sequences[sequence].tolist() == tokens, (work, n, k)
        for sequence, tokens in kept.items():  # the cells are what the tokens say
            before = session.ledger
            try:
                row = session.logits([*tokens, 5], sequence=sequence)
            except ContextFull:
                continue
            assert (session.ledger - before).decoded == 1
            np.testing.assert_allclose(row, fresh.logits([*tokens, 5]), atol=NOISE)

    attack(st.tuples(st.integers(0, 1), works), attempt, few=25)


def _do(session, work, n, k, target, kept):
    if work == "logits":
        session.logits(text(n, k))
    elif work == "generate":
        session.generate(text(n, k), NO_END, max_tokens=k, seed=k)
    elif work == "many":
        session.generate_many([text(n, i) for i in range(k + 1)], NO_END, max_tokens=9, seeds=1)
    elif work == "branch":
        trace = session.generate(text(n, k), NO_END, max_tokens=3, seed=k)
        session.branch(trace, len(trace) - 1, 30, NO_END, max_tokens=n)
    elif work == "score":
        session.score(text(n, k))
    elif work == "choose":
        session.choose(text(n, k), [[40 + i] * (i + 1) for i in range(k + 1)])
    elif work == "fork":
        source = target if k % 2 else 0
        held = session.sequences[source].tolist()
        whole = k < 6
        made = session.fork(source, n_tokens=None if whole else min(n, len(held)))
        kept[made] = held if whole else held[:n]
    elif work == "rewind" and target:
        left = min(n, len(kept[target]))
        session.rewind(left, sequence=target)
        kept[target] = kept[target][:left]
    elif work == "remove" and target:
        session.remove(target)
        del kept[target]
