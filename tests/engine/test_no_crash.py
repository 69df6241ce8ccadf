"""Nothing a person can type ends the process.

Each script runs in a process of its own, which must end with code 0 and print the names of the
expected exceptions. Without the engine's checks most of these lines abort or crash llama.cpp.
"""

from __future__ import annotations

import textwrap

import pytest

from mullama_lab.engine import tiny

PRELUDE = """
import math, sys, threading, time
import numpy as np
from mullama_lab.engine.model import Model
from mullama_lab.engine.stages import *
from mullama_lab.engine.stages import Chain

model = Model.load(sys.argv[1], vocab_only=sys.argv[2] == "True")
n = model.n_vocab
row = np.random.default_rng(0).standard_normal(n).astype(np.float32)
"""


@pytest.fixture(scope="module")
def outcomes(attempts):
    """A function that gives what a script printed, as {name: outcome}."""

    def run(code, path, *, vocab_only=False, seconds=90):
        return attempts(PRELUDE + textwrap.dedent(code), path, vocab_only, seconds=seconds)

    return run


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("hostile")


def test_tokens_outside_the_vocabulary_batch_or_context_are_refused(tiny_path, outcomes):
    code = """
    session = model.session(n_ctx=256, n_batch=32, n_ubatch=16)
    for token in (n, -1, 2**31 - 1, 2**31, -2**31, 2**63, 10**30):
        attempt(f"prompt {token}", lambda: session.generate([5, token], max_tokens=2))
        attempt(f"score {token}", lambda: session.score([5, token]))
        attempt(f"history {token}", lambda: Penalties(repeat=2).__or__(DRY(multiplier=1)).preview(
            row, model=model, history=[token]))
        attempt(f"bias {token}", lambda: session.generate("a", LogitBias({token: 1})))
        attempt(f"allow {token}", lambda: session.generate("a", Mask(allow=[token])))
        attempt(f"ban {token}", lambda: Mask(ban=[token]).__or__(TopK(3)).preview(row, model=model))
        attempt(f"piece {token}", lambda: model.piece(token))
        attempt(f"eog {token}", lambda: model.is_eog(token))
    attempt("past n_batch", lambda: session.generate([5] * 200, max_tokens=2))
    attempt("past n_ctx", lambda: session.generate([5] * 257))
    attempt("far past n_ctx", lambda: session.score([5] * 100_000))
    attempt("up to n_ctx", lambda: session.generate([5] * 256, max_tokens=9))
    attempt("afterwards", lambda: session.generate("abc", max_tokens=3))
    for n_seq_max in (0, 2, 256, 257, 10**9):
        attempt(f"sequences {n_seq_max}", lambda: model.session(n_ctx=1, n_batch=1,
            n_seq_max=n_seq_max).generate([5], max_tokens=3))
    """
    found = outcomes(code, tiny_path)
    fine = {"past n_batch", "up to n_ctx", "afterwards", "sequences 2", "sequences 256"}
    assert {name for name, outcome in found.items() if outcome == "fine"} == fine
    full = {name for name, outcome in found.items() if outcome == "ContextFull"}
    assert full == {"past n_ctx", "far past n_ctx"}
    assert set(found.values()) == {"fine", "ContextFull", "ValueError"}


def test_rows_and_chains_that_llama_cpp_cannot_sort_are_refused(tiny_path, outcomes):
    code = """
    from mullama_lab.errors import NoCandidates
    everything = Chain.default() | DRY(multiplier=1) | Penalties(repeat=2) | TailFree(0.5)
    chains = [everything] + [Chain([stage]) for stage in (
        TopK(5), TopK(200), TopP(0.5), MinP(0.1), Typical(0.5), Temperature(0.5), TopNSigma(1),
        DynamicTemperature(), XTC(1, 0), Mirostat(), MirostatV2(), AdaptiveP(), TailFree(0.5),
        Greedy(), Infill(), LogitBias({5: 1}), Mask(ban=[5]), Custom(lambda x, h: x))]
    for number in ("nan", "inf", "-inf", "3e38", "1e30"):
        for where in ("one", "all", "half"):
            bad = row.copy()
            places = {"one": [7], "all": slice(None), "half": slice(None, None, 2)}[where]
            bad[places] = float(number)
            for i, chain in enumerate(chains):
                attempt(f"{number} {where} {i}", lambda: chain.preview(bad, model=model))
    for name, chain in {
        "ban all": Chain([Mask(ban=range(n))]),
        "bias all": LogitBias(dict.fromkeys(range(n), -math.inf)) | Typical(0.5) | Mirostat(),
        "allow and ban": Mask(allow=[5]) | TopK(1) | Mask(ban=[5]) | Temperature(0),
        "cold": Chain([Temperature(0.001)] * 20),
        "cold and dynamic": Chain([DynamicTemperature(0.001, 0)] * 20),
        "huge bias": LogitBias({5: 1e6}) | Temperature(0.001) | TopK(200) | TopP(0.5),
        "penalties": Chain([Penalties(repeat=0.01, frequency=-100, presence=-100)] * 40),
        "dry": Chain([DRY(multiplier=100, base=100, allowed_length=0, breakers=())] * 9),
        "custom none": Chain([Custom(lambda x, h: x - np.inf), TopK(3)]),
        "custom huge": Chain([Custom(lambda x, h: x + 1e30), TopK(200)]),
    }.items():
        history = [5, 6] * 500
        attempt(name, lambda: chain.preview(np.abs(row), model=model, history=history))
    """
    found = outcomes(code, tiny_path)
    rows = {name: o for name, o in found.items() if name.split()[0].strip("-")[0] in "ni13"}
    accepted = {name.rsplit(" ", 1)[0] for name, outcome in rows.items() if outcome == "fine"}
    assert accepted == {"-inf one", "-inf half"}
    assert set(rows.values()) == {"fine", "ValueError"}
    refused = {name: found[name] for name in found.keys() - rows.keys()}
    assert refused.pop("custom huge") == "StageFailed"
    assert refused.pop("dry") in ("fine", "NoCandidates")
    assert set(refused.values()) == {"NoCandidates"}


def test_a_model_that_computes_nan_raises_and_its_vocabulary_still_works(folder, outcomes):
    import numpy as np

    nan = np.full((tiny.N_VOCAB, 32), np.nan, np.float32)
    path = tiny.write(folder / "nan.gguf", tensors={"output.weight": nan})
    code = """
    session = model.session(n_ctx=256)
    for i in range(2):
        attempt(f"generate {i}", lambda: session.generate("abc", Typical(0.5), max_tokens=3))
        attempt(f"score {i}", lambda: session.score("abc"))
        attempt(f"preview {i}", lambda: (TopK(3) | TopP(0.5)).preview(
            session.logits("a"), model=model))
        attempt(f"tokenize {i}", lambda: model.tokenize("abc"))
    """
    found = outcomes(code, path)
    expected = {"generate": "DecodeError", "score": "DecodeError", "preview": "ValueError"}
    for name, outcome in found.items():
        assert outcome == expected.get(name.split()[0], "fine")


def test_infill_is_refused_where_llama_cpp_would_abort(folder, outcomes):
    long = tiny.write(folder / "long.gguf", n_vocab=3000, pieces=["x" * 600, "y" * 2000])
    code = """
    def look(*stages):
        return lambda: Chain(stages).preview(row, model=model)

    attempt("whole", look(Infill()))
    attempt("many", look(TopK(2049), Infill()))
    attempt("long pieces", look(Mask(allow=[259, 260]), TopK(2), Infill()))
    attempt("without them", look(Mask(ban=[259, 260]), TopK(20), Infill()))
    attempt("generate", lambda: model.session(n_ctx=256).generate("a", Infill()))
    """
    found = outcomes(code, long)
    assert found.pop("without them") == "fine"
    assert set(found.values()) == {"ValueError"}
    names = ["pre", "tokens", "scores", "token_type"]
    names += ["unknown_token_id", "bos_token_id", "eos_token_id"]
    keys = dict.fromkeys(f"tokenizer.ggml.{name}" for name in names)
    nameless = tiny.write(folder / "none.gguf", metadata=keys | {"tokenizer.ggml.model": "none"})
    code = """
    for name, chain in {
        "infill": TopK(9) | Infill(),
        "breakers": Chain([DRY(multiplier=1)]),
        "no breakers": Chain([DRY(multiplier=1, breakers=())]),
        "words": Chain([Ban(["a"])]),
    }.items():
        attempt(name, lambda: chain.preview(row, model=model))
    attempt("piece", lambda: (model.piece(5), model.is_eog(5), model.is_control(5)))
    attempt("default", lambda: model.session(n_ctx=256).generate([5], max_tokens=3))
    """
    assert outcomes(code, nameless) == {
        **{"infill": "ValueError", "breakers": "ValueError", "no breakers": "fine"},
        **{"words": "ValueError"},
        **{"piece": "fine", "default": "fine"},
    }


@pytest.mark.parametrize("vocabulary", ["spm", "bpe", "wpm", "ugm", "rwkv", "plamo2"])
def test_hostile_breakers_and_windows_do_no_harm_in_any_vocabulary(folder, vocabulary, outcomes):
    path = tiny.write(folder / f"{vocabulary}.gguf", vocabulary=vocabulary, vocab_only=True)
    code = """
    breakers = ["a", "aa", "é", "😀", "\\x01", "\\x7f", "\\u2028", "▁", " ", "\\n" * 40, "��",
                "<s>", "<|im_start|>", "a" * 40, "ab" * 20, "\\u0300" * 20, "퟿" * 13]
    for i, text in enumerate(breakers):
        attempt(f"breaker {i}", lambda: Chain([DRY(multiplier=1, breakers=[text])]).preview(
            row, model=model, history=[5, 6, 7] * 30))
    attempt("all", lambda: Chain([DRY(multiplier=1, breakers=breakers)]).preview(
        row, model=model, history=[5, 6, 7] * 30))
    """
    assert set(outcomes(code, path, vocab_only=True).values()) == {"fine"}


def test_huge_windows_are_refused_or_work(tiny_path, outcomes):
    code = """
    history = [5, 6, 7] * 1000
    for kind in (Penalties, DRY):
        settings = {"repeat": 2} if kind is Penalties else {"multiplier": 1}
        for last_n in (-2, -1, 1, 2999, 3000, 1 << 20, (1 << 20) + 1, 2**31 - 1, 2**31, 2**64):
            attempt(f"{kind.__name__} {last_n}", lambda: Chain([kind(last_n=last_n, **settings)]
                ).preview(row, model=model, history=history))
    for length in (0, 1, 2999, 1 << 20):
        attempt(f"length {length}", lambda: Chain([DRY(multiplier=1, last_n=-1,
            allowed_length=length)]).preview(row, model=model, history=history))
    attempt("many stages", lambda: Chain([TopK(250)] * 1000).preview(row, model=model))
    attempt("last step", lambda: Chain().preview(row, model=model, step=1 << 20))
    """
    found = outcomes(code, tiny_path)
    refused = {name.split()[1] for name, outcome in found.items() if outcome == "ValueError"}
    assert refused == {"-2", "1048577", "2147483647", "2147483648", str(2**64)}
    assert set(found.values()) == {"fine", "ValueError"}


def test_no_text_does_harm(tiny_path, outcomes):
    code = r"""
    session = model.session(n_ctx=512)
    for name, text in {
        "lone surrogate": "a\ud800b", "pair": "\ud83d\ude00", "NUL": "a\0b", "emoji": "😀" * 50,
        "controls": "".join(map(chr, range(32))), "bidi": "\u202eabc\u2066", "none": "\uffff",
        "special": "<s></s><unk><|im_start|>" * 5, "bytes": "<0x00><0xFF>",
        "10 MB": "word " * 2_000_000, "one long word": "x" * 3_000_000,
        "marks": "e" + "\u0301" * 200,
    }.items():
        attempt(f"generate {name}", lambda: session.generate(text, Mask(ban=[2]), max_tokens=2))
        attempt(f"score {name}", lambda: session.score(text))
        attempt(f"stop {name}", lambda: session.generate("a", stop=text, max_tokens=2))
        if len(text) < 1000:
            attempt(f"chat {name}", lambda: session.chat(
                [{"role": "user", "content": text}], max_tokens=2))
    """
    found = outcomes(code, tiny_path)
    for name, outcome in found.items():
        wrong = "lone surrogate" in name or name.split()[1] == "pair"
        too_long = "10 MB" in name or "one long word" in name
        if name.startswith("stop"):
            assert outcome in ("fine", "ValueError"), name
        elif name.startswith("chat") and not wrong:
            assert outcome in ("fine", "ContextFull"), name
        else:
            expected = "ValueError" if wrong else "ContextFull" if too_long else "fine"
            assert outcome == expected, name


def test_closing_under_the_hands_of_other_threads_is_only_an_error(tiny_path, outcomes):
    code = """
    from mullama_lab.errors import ClosedError, Stopped
    failed = set()
    for turn in range(12):
        model = Model.load(sys.argv[1])
        session = model.session(n_ctx=4096, n_threads=1)
        chain = Mask(ban=[2]) | Penalties(repeat=1.1) | DRY(multiplier=1) | Mirostat()

        def hammer(call):
            try:
                while True:
                    call()
            except (ClosedError, Stopped):
                pass
            except BaseException as error:
                failed.add(type(error).__name__ + str(error))

        threads = [threading.Thread(target=hammer, args=(call,)) for call in (
            lambda: session.generate("abc", chain, max_tokens=20),
            lambda: session.logits("abcd"),
            lambda: session.score("abcdef"),
            lambda: list(session.stream("xyz", max_tokens=9)),
            lambda: chain.preview(row, model=model, history=[5, 6]),
            lambda: (model.tokenize("abc"), model.piece(5), model.detokenize([80, 81])),
            lambda: model.session(n_ctx=256).close(),
        )]
        for thread in threads:
            thread.start()
        time.sleep(0.02 * (turn % 4))
        (session if turn % 3 == 1 else model).close()
        model.close()
        for thread in threads:
            thread.join(20)
            assert not thread.is_alive()
        attempt(f"session {turn}", lambda: session.generate("a"))
        attempt(f"model {turn}", lambda: model.session())
        attempt(f"preview {turn}", lambda: chain.preview(row, model=model))
    print("others", "fine" if not failed else failed)
    """
    found = outcomes(code, tiny_path)
    assert found.pop("others") == "fine"
    assert set(found.values()) == {"ClosedError"}


def test_no_chain_row_or_history_that_hypothesis_finds_does_harm(folder, outcomes):
    path = tiny.write(folder / "wide.gguf", n_vocab=500, vocab_only=True)
    code = """
    from hypothesis import HealthCheck, given, settings, strategies as st
    from mullama_lab.errors import NoCandidates

    def any_number(rule):
        ends = st.sampled_from([rule.low, rule.high])
        if rule.kind == "int":
            return st.integers(int(rule.low), min(int(rule.high), 5000)) | ends.map(int)
        return (st.floats(rule.low, rule.high) | ends).filter(lambda x: x == 0 or abs(x) >= 1e-3)

    kinds = [kind for kind in Stage.kinds.values() if kind.settings()]
    tokens = st.integers(0, n - 1)
    stages = st.one_of(
        *[st.builds(kind, **{k: any_number(rule) for k, rule in kind.settings().items()})
          for kind in kinds],
        st.just(Greedy()), st.just(Infill()), st.just(Custom(lambda x, h: x[::-1].copy())),
        st.builds(LogitBias, st.dictionaries(tokens, st.sampled_from([-math.inf, -1e6, 1e6, 0.5]))),
        st.builds(Mask, ban=st.lists(tokens)),
        st.builds(Ban, st.lists(st.text(min_size=1, max_size=5).filter(
            lambda text: text.isprintable()), max_size=3)),
        st.builds(Mask, allow=st.lists(tokens, min_size=1, max_size=5)),
    )
    counts = {"fine": 0, "refused": 0}

    @settings(max_examples=600, database=None, derandomize=True, deadline=None,
              suppress_health_check=list(HealthCheck))
    @given(
        chain=st.lists(stages, max_size=8).map(Chain),
        kind=st.sampled_from(
            ["flat", "normal", "wide", "holes", "huge", "low", "ties", "denormal"]),
        history=st.lists(st.sampled_from([5, 6, 7, n - 1]), max_size=60),
        seed=st.integers(0, 2**32 - 2), step=st.integers(0, 50), number=st.integers(0, 99),
    )
    def never_harmful(chain, kind, history, seed, step, number):
        normal = np.random.default_rng(number).standard_normal(n)
        logits = {
            "flat": normal * 0, "normal": normal, "wide": normal * 1e4, "huge": normal * 1e7,
            "holes": np.where(normal > 1, normal, -np.inf), "low": normal - 3e38,
            "ties": np.round(normal), "denormal": normal * 1e-42,
        }[kind]
        try:
            view = chain.preview(logits, model=model, history=history, seed=seed, step=step)
        except (NoCandidates, ValueError) as error:
            assert len(str(error)) > 20 and "zero-size" not in str(error), error
            counts["refused"] += 1
            return
        counts["fine"] += 1
        assert 0 <= view.choice < n
        for stage in view.stages:
            assert stage.n_kept > 0 and np.isfinite(stage.entropy)
            assert -1e-6 <= stage.removed_mass <= 1 + 1e-6
            assert np.isfinite(stage.logits).all() and np.isfinite(stage.probs).all()
            assert (np.diff(stage.probs) <= 1e-6).all()
            assert stage.probs.sum() < 1.001
        assert view.choice in view.final.ids or view.final.n_kept > len(view.final.ids)

    attempt("hypothesis", never_harmful)
    for name, count in counts.items():
        print(name, count)
    """
    found = outcomes(code, path, vocab_only=True, seconds=120)
    assert found["hypothesis"] == "fine"
    assert int(found["fine"]) > 150
    assert int(found["refused"]) > 20
