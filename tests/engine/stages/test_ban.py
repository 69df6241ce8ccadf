"""A banned word never stands in the text, and no token is kept out that does not complete one."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import mullama_lab as ml
from mullama_lab.engine import tiny
from mullama_lab.engine.stages.ban import BanSampler
from mullama_lab.engine.words.spellings import in_word, spelled
from mullama_lab.engine.words.token_texts import token_texts
from mullama_lab.errors import NoCandidates

PIECES = ["a", "A", "ab", "Ab", " ab", " aB", "ba", "abc", "b a", " cab", "é", "aé", "É", "-ab-"]
PIECES += ["ab,", "猫", "黑猫", "ab猫", "—", "b—", "e\u0301", "caf", "cafe", " café", "fé", "AB\n"]
NO_END = ml.Mask(ban=[tiny.EOS])


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    path = tiny.write(tmp_path_factory.mktemp("ban") / "ban.gguf", pieces=PIECES)
    with ml.Model.load(path) as model:
        yield model


def forms_of(word: str) -> list[bytes]:
    return [b"".join(forms) for forms in itertools.product(*map(spelled, word))]


def is_edge(data: bytes, *, before: bool) -> bool:
    """Whether the text beside a place is no part of a word there; broken bytes are none."""
    text = data.decode("utf-8", "surrogateescape")
    return not text or not in_word(text[-1] if before else text[0])


def completes(words: list[str], text: bytes, piece: bytes) -> bool:
    """The slow and plain way: every spelling at every place, read off the whole text."""
    whole = text + piece
    for word in words:
        for form in forms_of(word):
            for start in range(len(whole)):
                end = start + len(form)
                if whole[start:end] != form or end <= len(text):
                    continue
                left = not in_word(word[0]) or is_edge(whole[:start], before=True)
                right = not in_word(word[-1]) or is_edge(whole[end:], before=False)
                if left and right:
                    return True
    return False


def banned(words, model, history):
    return set(BanSampler(ml.Ban(words), model, history).banned)


WORDS = st.lists(
    st.sampled_from(["ab", "a", "abab", "ab ab", "é", "café", "猫", "—", "a—", " ab", "b,", "\n"]),
    min_size=1,
    max_size=4,
)


@settings(max_examples=300)
@given(words=WORDS, data=st.data())
def test_those_tokens_are_banned_that_complete_a_word_however_it_is_cut(words, data, model):
    likely = [*range(259, 259 + len(PIECES)), *(b + 3 for b in "ab é—,".encode())]
    history = data.draw(st.lists(st.sampled_from(likely) | st.integers(3, 258), max_size=12))
    pieces = token_texts(model).pieces
    text = b"".join(pieces[t] for t in history)
    expected = {t for t, piece in enumerate(pieces) if completes(words, text, piece)}
    assert banned(words, model, history) == expected


@settings(max_examples=60)
@given(words=WORDS, seed=st.integers(0, 999), prompt=st.sampled_from(["a", "xa", "ab a", "caf"]))
def test_the_generated_text_never_holds_a_banned_word(words, seed, prompt, model, session):
    chain = NO_END | ml.Ban(words) | ml.Temperature(1.5)
    try:
        trace = session.generate(prompt, chain, max_tokens=40, seed=seed)
    except NoCandidates:
        return
    text = token_texts(model).pieces
    before = b"".join(text[t] for t in trace.prompt_tokens)
    for token in trace.tokens:
        assert not completes(words, before, text[token])
        before += text[token]


@pytest.fixture(scope="module")
def session(model):
    with model.session(n_ctx=256, n_threads=1) as session:
        yield session


def found(words, model, text):
    """The pieces that are banned after a text of bytes."""
    history = [byte + 3 for byte in text.encode()]
    pieces = {token_texts(model).pieces[t].decode() for t in banned(words, model, history)}
    return pieces & set(PIECES)


def test_a_word_within_a_longer_one_is_not_banned(model):
    assert found(["ab"], model, "x") == {" ab", " aB", "-ab-"}
    assert found(["ab"], model, "") == {"ab", "Ab", " ab", " aB", "-ab-", "ab,", "AB\n", "ab猫"}
    assert "abc" not in found(["ab"], model, " ")


def test_a_word_that_begins_in_the_prompt_is_not_completed(model):
    assert found(["xab"], model, "x") >= {"ab", "Ab", "ab,"}
    assert found(["xab"], model, "wx") == set()


def test_what_is_no_letter_and_what_is_written_without_spaces_is_banned_anywhere(model):
    assert found(["—"], model, "x") == {"—", "b—"}
    assert found(["猫"], model, "黑") == {"猫", "黑猫", "ab猫"}


def test_an_accent_may_be_a_mark_of_its_own(model):
    assert found(["café"], model, "caf") == {"é", "É", "e\u0301", " café"}
    assert found(["cafe"], model, " ") == {"cafe"}
    assert found(["cafe\u0301"], model, "ca") == {"fé", " café"}


def test_a_word_of_the_prompt_alone_bans_nothing(model):
    assert "ab," in found(["ab"], model, " ")
    assert found(["xx"], model, "xx xx") == set()


def test_a_control_token_has_no_text_and_is_never_banned(model):
    assert not {tiny.BOS, tiny.EOS} & banned(["a", " ", "</s>"], model, [tiny.BOS])


def test_a_preview_shows_what_a_run_draws_and_a_mask_of_the_same_tokens_does_the_same(model):
    row = np.random.default_rng(3).normal(size=model.n_vocab).astype(np.float32) * 4
    history = [byte + 3 for byte in b"see a"]
    stage = ml.Ban(["ab", "see abc"])
    mask = ml.Mask(ban=sorted(banned(stage.words, model, history)))
    rest = ml.TopK(40) | ml.Temperature(0.9)
    for seed in range(20):
        a, b = (
            (ml.Chain([first]) | rest).preview(row, model=model, history=history, seed=seed)
            for first in (stage, mask)
        )
        assert a.choice == b.choice
        assert a.stages[0].n_kept == b.stages[0].n_kept == model.n_vocab - len(mask.ban)


def test_a_run_draws_what_previews_of_its_steps_draw(model, session):
    chain = NO_END | ml.Ban(["ab", "a", "é"]) | ml.Temperature(1.2)
    session.reset()
    trace = session.generate("x a", chain, max_tokens=30, seed=5)
    other = model.session(n_ctx=256, n_threads=1)
    assert other.generate("x a", chain, max_tokens=30, seed=5).tokens.tolist() == (
        trace.tokens.tolist()
    )
    for i in range(len(trace)):
        history = trace.history(i).tolist()
        ids, logits = trace.kept(i)
        assert len(ids) == model.n_vocab
        view = chain.preview(logits, model=model, history=history, seed=5, step=i)
        assert view.choice == trace.tokens[i]
    other.close()


def test_a_run_whose_ban_is_exchanged_knows_the_text_before(session):
    only_a = ml.Mask(allow=[ord("a") + 3, ord(" ") + 3])
    run = session.start("x", only_a, max_tokens=200, seed=1)
    for step in run:
        if step.index == 20:
            run.chain = only_a | ml.Ban(["a", "aa", "aaa"])
    first = next(step for step, chain in run.trace.chains if len(chain) == 2)
    pieces = run.trace.pieces
    before = b"x" + b"".join(pieces[:first])
    for piece in pieces[first:]:
        assert not completes(["a", "aa", "aaa"], before, piece)
        before += piece
    assert first < len(pieces)


def test_a_ban_is_a_value_that_prints_as_code():
    stage = ml.Ban(["delve", "a testament to", "delve"])
    assert repr(stage) == "Ban(['delve', 'a testament to'])"
    assert eval(repr(stage), {"Ban": ml.Ban}) == stage
    chain = stage | ml.Greedy()
    assert ml.Chain.from_dict(chain.to_dict()) == chain
    assert ml.Chain.from_dict({"stages": [{"stage": "Ban", "words": ["x"]}]})[0] == ml.Ban(("x",))
    assert ml.Ban().why_inert() == "nothing is banned"


@pytest.mark.parametrize(
    ("words", "error", "message"),
    [
        ("delve", TypeError, r"must be a list of texts, as in Ban\(\[\"delve\"\]\)"),
        (7, TypeError, "must be a list of texts"),
        ([5], TypeError, r"5 is not a text. Mask\(ban=\[...\]\) takes token ids"),
        ([""], ValueError, "'' must be 1 to 200 bytes"),
        (["\ud800"], ValueError, "must be 1 to 200 bytes of UTF-8"),
        (["é" * 101], ValueError, "must be 1 to 200 bytes"),
        (map(str, range(5000)), ValueError, "at most 4096 words, not 5000"),
    ],
)
def test_what_is_no_list_of_words_is_refused(words, error, message):
    with pytest.raises(error, match=message):
        ml.Ban(words)


def test_a_ban_of_every_text_says_which_stage_left_nothing(session):
    with pytest.raises(NoCandidates, match=r"after stage 1, Ban\("):
        everything = ml.Ban([chr(c) for c in range(32, 127)])
        session.generate("x", ml.Mask(allow=[ord("!") + 3]) | everything, max_tokens=1)
