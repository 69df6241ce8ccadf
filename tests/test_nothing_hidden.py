"""No control, bidi or zero-width character of a file or a text reaches a terminal or a page.

A name, a licence or a text that a stranger wrote may colour a terminal, turn a line around, or
hide what it says. Whatever shows it, as plain text or as HTML, shows such characters by name.
"""

from __future__ import annotations

import pickle
import unicodedata

import numpy as np
import pytest
from click.testing import CliRunner

import mullama_lab as ml
from mullama_lab import cli, glyphs
from mullama_lab.engine import tiny
from mullama_lab.engine.encoder import MultiVectorEncoder
from mullama_lab.engine.index import MultiVectorIndex
from mullama_lab.engine.model import Model
from mullama_lab.engine.session import Session
from mullama_lab.engine.stages import Stage
from mullama_lab.errors import MullamaError
from mullama_lab.glyphs import visible
from mullama_lab.widgets import model_card

HOSTILE = "\x1b[31mred\u202eevil\u200b\u2066\x07\r\x85\x9b2J\ufeff\u00ad"
IN_A_NAME = HOSTILE.replace("\r", "")
PAIRS = {"blk.0.attn_q.weight": (np.ones((2, 32), np.float32), np.ones((64, 2), np.float32))}
BYTES = HOSTILE.encode() + b"\0\xff\x1b]0;x\x07"


def hidden(text: str) -> list[str]:
    """The characters of a text that a reader would not see, or that do something."""
    return [
        f"{character!a} in ...{text[max(0, i - 30) : i + 10]!a}"
        for i, character in enumerate(text)
        if character not in "\n\t"
        and unicodedata.category(character) in ("Cc", "Cf", "Zl", "Zp", "Cs", "Co", "Cn")
    ]


def forms(thing):
    """Every text that shows a thing, by the name of what makes it."""
    made = {"repr": repr(thing), "str": str(thing)}
    bundle = getattr(thing, "_repr_mimebundle_", None)
    if callable(bundle):
        shown = bundle()
        data = shown[0] if isinstance(shown, tuple) else shown
        made |= {kind: text for kind, text in data.items() if kind.startswith("text/")}
    html = getattr(thing, "_repr_html_", None)
    if callable(html):
        made["html"] = html()
    return made


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    path = tiny.write(
        tmp_path_factory.mktemp("names") / f"{IN_A_NAME}.gguf",
        chat_template="{{ raise_exception(messages[0]['content']) }}",
        pieces=(HOSTILE,),
        metadata={
            "general.name": HOSTILE,
            "general.license": HOSTILE,
            "general.description": HOSTILE,
            "general.size_label": HOSTILE,
        },
    )
    with Model.load(path) as model:
        yield model


@pytest.fixture(scope="module")
def session(model):
    with model.session(n_ctx=512, n_threads=1) as session:
        yield session


@pytest.fixture(scope="module")
def trace(session):
    """A generation whose text is hostile, as is its prompt."""
    tokens = [byte + 3 for byte in BYTES]

    def force(logits, history, start=[]):  # noqa: B006
        start or start.append(len(history))
        logits[tokens[len(history) - start[0]]] = 99
        return logits

    return session.generate(HOSTILE, ml.Custom(force), max_tokens=len(tokens), seed=1)


@pytest.fixture(scope="module")
def encoder(model):
    with MultiVectorEncoder(model, n_threads=1) as encoder:
        yield encoder


def engine_objects(model, session, trace, encoder, folder):
    texts = ml.Grammar.choice([HOSTILE.replace("\0", "")])
    yield texts
    walk = ml.GrammarWalk(texts, model)
    walk.feed(f"{HOSTILE[:3]}{HOSTILE}")
    yield from (walk, walk.refusal.found, str(walk.refusal), walk.expected, *walk.steps)
    yield ml.ToolCall(HOSTILE, {HOSTILE: HOSTILE})
    yield texts + ml.Grammar.regex("[a-z]\u202e") + ml.Grammar.json_schema({"const": HOSTILE})
    yield from (model, session, trace, encoder, model.metadata, model.special_tokens)
    yield from list(trace)
    chain = ml.DRY(multiplier=1, breakers=[HOSTILE]) | ml.TopK(3)
    yield chain
    preview = chain.preview(session.logits(HOSTILE), model=model)
    yield from (preview, preview.final)
    tree = ml.Tree([trace, session.generate(HOSTILE, ml.TopK(5), max_tokens=4, seed=1)])
    yield from (tree, *tree.branches, *tree.nodes)
    yield from (ml.LogitBias({5: 1.0}), ml.Ban([HOSTILE]), session.start(HOSTILE, max_tokens=1))
    yield ml.ToolCall(HOSTILE, {HOSTILE: HOSTILE})
    yield session.choose(HOSTILE, [HOSTILE, "a"])
    said = [{"role": "user", "content": HOSTILE}, {"role": HOSTILE, "content": HOSTILE}]
    with Model.load(tiny.write(folder / "chat.gguf", chat_template=tiny.CHATML)) as other:
        yield other.render_chat(said)
        talk = other.session(n_ctx=512, n_threads=1).conversation(HOSTILE)
        talk.say(HOSTILE, max_tokens=3)
        yield talk
    vector = ml.ControlVector({1: np.ones(32)}, name=HOSTILE, architecture=HOSTILE)
    vector.save(folder / f"vector {IN_A_NAME}")
    yield from (vector, ml.ControlVector.load(folder / f"vector {IN_A_NAME}"))
    adapter = tiny.write_adapter(folder / f"adapter {IN_A_NAME}", PAIRS)
    yield ml.LoraAdapter.load(adapter)
    setting = ml.Setting(chain, {ml.LoraAdapter.load(adapter): 0.5}, vector)
    yield from (setting, *ml.Setting(chain).difference(setting))
    vectors = encoder.encode_document(HOSTILE)
    yield vectors
    index = MultiVectorIndex(encoder)
    index.add([HOSTILE, vectors], [HOSTILE, f"2{HOSTILE}"], progress=False)
    yield from (index, index.search(HOSTILE), index.get(HOSTILE))
    saved = session.save(folder / f"saved {IN_A_NAME}")
    yield saved
    with Session.load(saved.path, model) as again:
        yield from (again, again.saved)


def test_no_object_of_the_engine_shows_a_hidden_character(model, session, trace, encoder, tmp_path):
    kinds = {value for name in ml.__all__ if isinstance(value := getattr(ml, name), type)}
    for thing in engine_objects(model, session, trace, encoder, tmp_path):
        kinds -= {kind for kind in kinds if isinstance(thing, kind)}
        for name, text in forms(thing).items():
            assert not hidden(text), (type(thing), name)
    # a stage has numbers to show, and labs are seen below
    assert not {kind for kind in kinds if not issubclass(kind, (Stage, ml.Workbench))}
    for subject in (model, encoder):
        for name, text in model_card.bundle(subject).items():
            assert not hidden(text), (subject, name)
            assert "licence" not in text or visible(HOSTILE) in text


def studied(session, trace):
    from mullama_lab import studies

    plain = session.generate(HOSTILE, ml.TopK(5), max_tokens=4, seed=1)
    yield studies.replay.replay(plain, ml.TopK(2), on=session)
    yield studies.flips.flip_map(plain, ml.TopK, on=session)
    yield studies.fate.fate(plain, 1, int(plain.tokens[1]), on=session)
    grammar = ml.Grammar.choice([HOSTILE.replace("\0", "")])
    bound = session.generate(HOSTILE, ml.TopK(259), grammar=grammar, max_tokens=4, seed=1)
    yield studies.grammar_tax.grammar_tax(bound, on=session)
    yield studies.forbidden.forbidden(plain, grammar, on=session)
    yield studies.tokenization.tokenization(bound, on=session)
    yield studies.replay.stage_effects(plain, ml.TopK(2) | ml.Temperature(0.5), on=session)
    yield studies.seeds.seed_fan(HOSTILE, ml.TopK(5), on=session, seeds=range(3), max_tokens=4)


def test_no_study_shows_a_hidden_character(session, trace):
    for thing in studied(session, trace):
        for name, text in forms(thing).items():
            assert not hidden(text), (type(thing), name)


def labs(model, encoder):
    endless = ml.Mask(ban=[tiny.EOS]) | ml.Temperature(1.0)
    sampler = ml.labs.SamplerLab(model, HOSTILE, chain=endless, seed=7, max_tokens=4)
    branches = ml.labs.BranchLab(model, HOSTILE, chain=endless, seed=7, max_tokens=4)
    retrieval = ml.labs.RetrievalLab(encoder, {HOSTILE: HOSTILE, "other": f"b {HOSTILE}"})
    what_if = ml.Workbench(model, HOSTILE, seed=7, max_tokens=4, panels=["what-if"])
    for bench in (sampler, branches, what_if):
        bench.run()
    retrieval.search(HOSTILE)
    return sampler, branches, what_if, ml.Workbench(prompt=HOSTILE), retrieval


def test_no_widget_and_no_lab_shows_a_hidden_character(model, encoder, trace):
    strip = ml.widgets.TokenStrip(trace)
    next_token = ml.widgets.NextToken()
    next_token.show(
        (ml.TopK(3) | ml.MinP(0.1)).preview(np.zeros(model.n_vocab, np.float32), model=model)
    )
    board = ml.widgets.RankBoard()
    benches = labs(model, encoder)
    parts = [
        part for lab in benches for part in vars(lab).values() if hasattr(part, "_still_forms")
    ]
    assert len(parts) > 6
    for thing in (strip, next_token, board, *benches, *parts):
        for name, text in forms(thing).items():
            assert not hidden(text), (type(thing), name)
    for lab in benches:
        lab.close()


def refused(model, session, encoder, folder):
    """Calls that quote a file, its name or a text in what they raise."""
    index = MultiVectorIndex(encoder)
    index.add(["a"], [HOSTILE], progress=False)
    damaged = folder / f"damaged {IN_A_NAME}.gguf"
    damaged.write_bytes(model.path.read_bytes()[:-100])
    folder_of_it = folder / IN_A_NAME
    folder_of_it.mkdir()
    unknown = tiny.write(
        folder / "unknown.gguf",
        metadata={"tokenizer.ggml.pre": HOSTILE, "tokenizer.ggml.model": HOSTILE},
    )
    broken = tiny.write(folder / "template.gguf", chat_template="{{ " + HOSTILE + " }}")
    yield from (
        lambda: Model.load(damaged),
        lambda: Model.load(folder_of_it),
        lambda: Model.load(HOSTILE),
        lambda: Model.load(folder / HOSTILE),
        lambda: Model.load(unknown),
        lambda: session.generate("a" * 5000),
        lambda: session.generate([model.n_vocab]),
        lambda: session.chat([{"role": "user", "content": HOSTILE}]),
        lambda: Model.load(broken).session(n_ctx=64).chat([{"role": "user", "content": "a"}]),
        lambda: session.save(folder_of_it),
        lambda: session.save(folder / HOSTILE / "file"),
        lambda: Session.load(damaged, model),
        lambda: Session.load(HOSTILE, model),
        lambda: index.save(folder_of_it),
        lambda: index.get(f"no {HOSTILE}"),
        lambda: index.add(["a"], [HOSTILE]),
        lambda: MultiVectorIndex.open(damaged, encoder),
        lambda: encoder.encode_query(HOSTILE * 300),
        lambda: Model.load(model.path, vocab_only=True).session(),
        lambda: model.tokenize(HOSTILE + "\ud800"),
        lambda: ml.hub.fetch(HOSTILE),
        lambda: ml.hub.resolve(f"hf:{HOSTILE}"),
    )


def test_no_error_shows_a_hidden_character(model, session, encoder, tmp_path):
    for number, call in enumerate(refused(model, session, encoder, tmp_path)):
        with pytest.raises((MullamaError, ValueError, TypeError)) as caught:
            call()
        error: BaseException | None = caught.value
        while error is not None:  # a traceback shows what it came from, too
            assert not hidden(str(error)), (number, type(error))
            error = None if error.__suppress_context__ and not error.__cause__ else error.__cause__


def test_llama_cpps_log_shows_no_hidden_character(model, capfd):
    Model.load(model.path, verbose=True).close()
    said = capfd.readouterr().err
    assert visible(HOSTILE)[:8] in said
    assert not hidden(said)


def test_the_command_line_shows_no_hidden_character(tmp_path, monkeypatch):
    monkeypatch.setenv("MULLAMA_LAB_CACHE", str(tmp_path / IN_A_NAME))
    for command in (["models"], ["models", "remove", "smollm2-135m"], ["models", "fetch", HOSTILE]):
        said = CliRunner().invoke(cli.main, command).output
        assert said and not hidden(said), command


def test_an_error_is_the_same_after_it_was_made_visible_and_copied():
    error = ml.errors.UnknownDocument(f"no {HOSTILE}")
    copy = pickle.loads(pickle.dumps(error))
    assert str(copy) == str(error) == visible(f"no {HOSTILE}")
    assert visible(str(error)) == str(error)
    assert not hidden(str(error))


def test_a_plain_text_is_not_looked_through(monkeypatch):
    """llama.cpp's log of one context has a thousand lines."""
    hidden_ones = [visible(chr(code)) for code in range(128) if not chr(code).isprintable()]
    assert {text[0] for text in hidden_ones} == {"[", "\n", "\t"}
    monkeypatch.setattr(glyphs, "_is_hidden", None)
    plain = "".join(map(chr, range(32, 127)))
    assert visible(plain) == plain
