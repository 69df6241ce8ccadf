"""Where a text was drawn in other tokens than its tokenizer makes of it."""

from __future__ import annotations

import math

import numpy as np
import pytest

import mullama_lab as ml
from mullama_lab.engine import tiny
from mullama_lab.engine.grammar import Grammar
from mullama_lab.engine.words.token_texts import token_texts
from mullama_lab.studies.tokenization import WITHIN, tokenization

PIECES = ["ab", "abc", "bc", "cab", "é!"]


@pytest.fixture(scope="module")
def session(tmp_path_factory):
    path = tiny.write(tmp_path_factory.mktemp("cut") / "pieces.gguf", pieces=PIECES)
    with ml.Model.load(path) as model, model.session(n_ctx=128, n_threads=1) as session:
        yield session


def scored(session, texts, prompt=(5, 6)):
    """A trace of tokens with these texts."""
    spelled = token_texts(session.model).spelled
    return session.score([spelled(text.encode())[-1] for text in texts], given=list(prompt))


def canonical(session, text):
    pieces = token_texts(session.model).pieces
    ids = session.model.tokenize("\n" + text, add_special=False)
    found = [pieces[token].decode() for token in ids]
    return found[found.index("\n") + 1 :]


def test_splits_are_where_the_tokenizer_has_other_tokens(session):
    assert canonical(session, "xabcx") == ["x", "abc", "x"]
    trace = scored(session, ["\n", "x", "a", "bc", "x", "abc"])
    found = tokenization(trace, on=session.model)
    pieces = token_texts(session.model).pieces
    assert found.differs.tolist() == [False, False, True, True, False, False]
    (split,) = found.splits
    assert (split.first, split.last, split.begins_in_prompt) == (2, 3, False)
    assert [pieces[token] for token in split.tokens] == [b"a", b"bc"]
    assert [pieces[token] for token in split.canonical] == [b"abc"]
    assert found.canonical[3] == WITHIN and found.canonical[2] == split.canonical[0]
    rows = [session.logits(trace.history(step)).astype(np.float64) for step in (2, 3)]
    logs = [row - row.max() - math.log(np.exp(row - row.max()).sum()) for row in rows]
    assert split.canonical_logprob == pytest.approx(logs[0][split.canonical[0]], abs=2e-3)
    both = logs[0][split.tokens[0]] + logs[1][split.tokens[1]]
    assert split.logprob == pytest.approx(both, abs=4e-3)
    table = found.to_pandas()
    assert table["tokens"][0] == "a bc" and table["canonical"][0] == "abc"
    assert table["canonical_prob"][0] == pytest.approx(math.exp(split.canonical_logprob))
    assert "other than the tokenizer's own: 2 of 6 tokens; at token 2 the model had" in repr(found)


def test_a_constrained_text_begins_with_a_token_of_its_own_and_the_prompt_stays(session):
    forced = Grammar.gbnf('root ::= "bcx"')
    trace = session.generate("\nxa", grammar=forced, max_tokens=9)
    assert trace.prompt_tokens.tolist() == session.prompt_tokens("\nxa")
    assert trace.text == "bcx"
    (split,) = tokenization(trace, on=session).splits
    assert split.begins_in_prompt and split.first == 0, "the tokenizer has one token for `abc`"


def test_a_token_that_began_in_the_prompt_is_told(session):
    spelled = token_texts(session.model).spelled
    prompt = [spelled(text)[-1] for text in (b"\n", b"x", b"a")]
    found = tokenization(scored(session, ["bc", "x"], prompt), on=session)
    (split,) = found.splits
    assert split.begins_in_prompt and math.isnan(split.canonical_logprob)
    assert (split.first, split.last) == (0, 0) and found.canonical.tolist()[0] == WITHIN


def test_canonical_tokens_have_no_splits(session):
    trace = scored(session, ["\n", *canonical(session, "abcxabé!cab")])
    found = tokenization(trace, on=session.model)
    assert found.splits == () and not found.differs.any()
    assert (
        repr(found) == f"<Tokenization: other than the tokenizer's own: 0 of {len(trace)} tokens>"
    )


def test_a_character_that_is_not_complete_at_the_end_stays_as_it_is(session):
    trace = session.score([*(b + 3 for b in b"\nxa"), 0xC3 + 3], given=[5, 6])
    found = tokenization(trace, on=session.model)
    assert found.canonical[3] == trace.tokens[3]
    broken = session.score([0xC3 + 3, *(b + 3 for b in b"\nxa")], given=[5, 6])
    with pytest.raises(ValueError, match="no characters"):
        tokenization(broken, on=session.model)


def test_control_tokens_part_the_text(session):
    spelled = token_texts(session.model).spelled
    a, bc, line = (spelled(text)[-1] for text in (b"a", b"bc", b"\n"))
    eos = session.model.eos
    trace = session.score([line, a, eos, line, a, bc], given=[5, 6])
    found = tokenization(trace, on=session.model)
    assert [(split.first, split.last) for split in found.splits] == [(4, 5)]
    assert found.canonical[2] == eos


def test_a_row_that_says_nothing_of_it_is_decoded_again(tmp_path):
    path = tiny.write(tmp_path / "large.gguf", n_vocab=9000)
    with ml.Model.load(path) as model, model.session(n_ctx=128, n_threads=1) as session:
        grammar = Grammar.gbnf('root ::= "\\n" [a-z]{40}')
        trace = session.generate("Hi", ml.Temperature(1.0), grammar=grammar, max_tokens=40, seed=1)
        half, whole = (tokenization(trace, on=on) for on in (model, session))
        assert len(whole.splits) == len(half.splits) > 0
        for some, split in zip(half.splits, whole.splits, strict=True):
            row = session.logits(trace.history(split.first)).astype(np.float64)
            logprob = row[split.canonical[0]] - row.max() - math.log(np.exp(row - row.max()).sum())
            assert split.canonical_logprob == pytest.approx(logprob, abs=2e-3)
            was_kept = split.canonical[0] in trace.kept(split.first)[0]
            assert math.isnan(some.canonical_logprob) == (not was_kept)


def test_of_a_real_model_the_text_in_its_own_tokens_has_no_splits(smollm2):
    with smollm2.session(n_ctx=128) as session:
        text = " The quick brown fox jumps over the lazy dog."
        assert tokenization(session.score(text, given="Look!"), on=smollm2).splits == ()
        letters = [smollm2.tokenize(c, add_special=False)[0] for c in " The fox"]
        found = tokenization(session.score(letters, given="Look!"), on=session)
        assert [(split.first, split.last) for split in found.splits] == [(0, 3), (4, 7)]
        assert all(s.canonical_logprob > s.logprob for s in found.splits)
