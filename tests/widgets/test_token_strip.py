"""The Python half of the token strip, on traces that real llama.cpp made and on hostile ones."""

from __future__ import annotations

import re
import threading
import time
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from page import ask, ask_data, text_of

import mullama_lab as ml
from mullama_lab.engine import tiny
from mullama_lab.engine.work import WAIT_STEP
from mullama_lab.studies.explore import explore
from mullama_lab.widgets import _columns, _front_end, _strip_forms
from mullama_lab.widgets._endings import ENDINGS
from mullama_lab.widgets._trace_code import n_given_of
from mullama_lab.widgets._view import still_forms
from mullama_lab.widgets.token_strip import MOST_PROMPT, TokenStrip

SMILE = "😀".encode()
HOSTILE = [
    "שלום".encode(), " مرحبا".encode(), "\u202eevil".encode(), b" nul\x00", SMILE[:2], SMILE[2:],
    b"\xff", "a\u200bb".encode(), b"<script>alert(1)</script>", b'"&amp;\x1b[31m', b"\r\n", b"",
]  # fmt: skip


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    with ml.Model.load(tiny.write(tmp_path_factory.mktemp("model") / "tiny.gguf")) as model:
        yield model


@pytest.fixture(scope="module")
def session(model):
    with model.session(n_ctx=512, n_threads=1) as session:
        yield session


@pytest.fixture(scope="module")
def trace(session):
    chain = ml.TopK(40) | ml.MinP(0.01) | ml.Temperature(0.9)
    return session.generate("Once upon", chain, max_tokens=20, seed=5)


@pytest.fixture(scope="module")
def hostile(trace):
    data = trace[: len(HOSTILE)].to_dict()
    data["pieces"] = data["texts"] = [piece.hex() for piece in HOSTILE]
    return ml.Trace.from_dict(data)


def listened(strip: TokenStrip) -> list:
    heard: list = []
    strip.send = lambda content, buffers=None: heard.append((content, buffers))
    return heard


def test_the_columns_of_a_message_are_those_of_the_trace(trace):
    strip = TokenStrip(trace)
    header, buffers = ask_data(strip, "steps", {"from": 5})
    tokens, logprob, entropy, rank, ms, ahead, stale, sizes, text = buffers
    assert header == {"epoch": strip.epoch, "from": 5, "n": 20}
    assert np.frombuffer(tokens, "<i4").tolist() == trace.tokens[5:].tolist()
    assert np.array_equal(np.frombuffer(logprob, "<f4"), trace.logprob[5:])
    assert np.array_equal(np.frombuffer(entropy, "<f4"), trace.entropy[5:])
    assert np.array_equal(np.frombuffer(rank, "<i4"), trace.rank[5:])
    assert np.all(np.frombuffer(ms, "<f4") > 0)
    assert np.frombuffer(ahead, "u1").tolist() == trace.ahead[5:].tolist()
    assert np.frombuffer(stale, "u1").tolist() == trace.stale[5:].tolist()
    assert np.frombuffer(sizes, "<i4").tolist() == [len(piece) for piece in trace.pieces[5:]]
    assert text == b"".join(trace.pieces[5:])


def test_a_token_that_was_decoded_ahead_is_told_as_such(session):
    stage = ml.Constrain(ml.Grammar.choice(["the same text"]), fast_forward=True)
    trace = session.generate("Once upon", grammar=stage, max_tokens=9)
    strip = TokenStrip(trace)
    assert trace.ahead.any() and not trace.ahead.all()
    for step, ahead in enumerate(trace.ahead.tolist()):
        assert ask(strip, "details", {"step": step})["ahead"] is ahead
    (_, buffers) = ask_data(strip, "steps", {"from": 0})
    assert np.frombuffer(buffers[5], "u1").tolist() == trace.ahead.tolist()


def test_the_details_of_a_token_are_what_the_trace_holds(trace):
    details = ask(TokenStrip(trace), "details", {"step": 3})
    step = trace[3]
    assert details["p"] == pytest.approx(np.exp(step.logprob), rel=1e-4)
    assert details["after"] == pytest.approx(np.exp(step.logprob_after), rel=1e-4)
    assert [name for name, _ in details["stages"]] == ["TopK(40)", "MinP(0.01)", "Temperature(0.9)"]
    assert [kept for _, kept in details["stages"]] == list(step.n_kept)
    assert sum(row["p"] for row in details["top"]) + details["remaining"] == pytest.approx(
        1, abs=1e-4
    )


def test_alternatives_after_the_chain_add_up_and_removed_ones_are_out(trace):
    details = ask(TokenStrip(trace), "details", {"step": 3})
    after = [row["after"] for row in details["top"]]
    assert sum(after) == pytest.approx(1, abs=1e-4)
    assert sum(p > 0 for p in after) == trace[3].n_kept[-1]


def test_what_a_cut_list_cannot_say_is_not_known(session):
    trace = session.generate("ab", ml.Temperature(1.0), max_tokens=1, seed=1, top=4)
    rows = ask(TokenStrip(trace), "details", {"step": 0})["top"]
    assert {row["after"] for row in rows} <= {None, *[r["after"] for r in rows if r["after"]]}
    assert 0.0 not in [row["after"] for row in rows]


def test_only_the_end_of_a_long_prompt_is_sent(trace):
    long = ml.Trace(prompt_tokens=[65] * (MOST_PROMPT + 7))
    header, (sizes, _) = ask_data(TokenStrip(long), "prompt")
    assert header["skipped"] == 7
    assert len(np.frombuffer(sizes, "<i4")) == MOST_PROMPT


@pytest.mark.parametrize(
    ("op", "args"),
    [("details", {"step": 20}), ("details", {"step": -1}), ("details", {}), ("steps", {"from": 21}),
     ("steps", {"from": "0"}), ("choose", {"step": 1.5, "token": 1}),
     ("choose", {"step": 1, "token": -1}),
     ("open", {"path": "/etc/passwd"})],
)  # fmt: skip
def test_requests_out_of_range_are_refused_with_the_range(trace, op, args):
    with pytest.raises(ValueError, match=r"must be a whole number from 0 to|has no request"):
        ask(TokenStrip(trace), op, args)


def test_an_empty_strip_says_what_to_do():
    with pytest.raises(ValueError, match="run a prompt first"):
        ask(TokenStrip(), "steps", {"from": 0})
    assert text_of(TokenStrip()) == "TokenStrip: no tokens yet"


def test_choosing_tells_the_callbacks_until_they_leave(trace):
    strip = TokenStrip(trace)
    heard = []
    leave = strip.on_choose(lambda step, token: heard.append((step, token)))
    ask(strip, "choose", {"step": 2, "token": 70})
    leave()
    ask(strip, "choose", {"step": 3, "token": 71})
    assert heard == [(2, 70)]


def test_a_token_is_banned_or_favoured_by_whoever_listens(trace):
    strip = TokenStrip(trace)
    with pytest.raises(ValueError, match="nothing listens to bias"):
        ask(strip, "bias", {"token": 5, "ban": True})
    heard = []
    assert not strip.biases
    leave = strip.on_bias(lambda token, change: None)
    strip.on_bias(lambda token, change: heard.append((token, change)))
    leave()
    assert strip.biases  # somebody is left
    assert ask(strip, "bias", {"token": 5, "ban": True}) == {"said": ""}
    strip.on_bias(lambda token, change: f"{token} changed by {change}")
    assert ask(strip, "bias", {"token": 7, "ban": False}) == {"said": "7 changed by 1.0"}
    assert heard == [(5, -np.inf), (7, 1.0)]
    for wrong in ({"token": -1, "ban": True}, {"token": 5, "ban": 1}, {"token": "5", "ban": True}):
        with pytest.raises(ValueError):
            ask(strip, "bias", wrong)
    assert len(heard) == 2


def test_another_trace_starts_another_epoch(trace):
    strip = TokenStrip(trace)
    before = strip.epoch
    strip.trace = trace[:5]
    assert (strip.epoch, strip.n, strip.state) == (before + 1, 5, "finished")
    strip.trace = None
    assert (strip.n, strip.state) == (0, "empty")
    with pytest.raises(TypeError, match="give a Trace"):
        strip.trace = "text"


def test_following_a_run_sends_every_step_once_and_ends_in_the_traits(session):
    run = session.start("Hello", ml.Mask(ban=[tiny.EOS]), max_tokens=100, seed=1)
    strip = TokenStrip()
    heard = listened(strip)
    strip.follow(run)
    run.wait()
    strip.settle()
    deltas = [content for content, _ in heard if content["kind"] == "delta"]
    assert [delta["from"] for delta in deltas] == [0, *[delta["n"] for delta in deltas[:-1]]]
    assert deltas[-1]["n"] == 100
    assert (strip.state, strip.n, strip.finish) == ("finished", 100, "length")


def test_what_is_still_told_of_a_run_before_is_not_told_of_the_next(session, monkeypatch):
    held, go_on = threading.Event(), threading.Event()
    columns = _columns.steps

    def slow_columns(trace, *places):
        if trace is first.trace and not held.is_set():
            held.set()
            assert go_on.wait(5)
        return columns(trace, *places)

    monkeypatch.setattr(_columns, "steps", slow_columns)
    first = session.start("Hello", ml.Mask(ban=[tiny.EOS]), max_tokens=50, seed=1)
    first.wait()
    strip = TokenStrip()
    heard = listened(strip)
    strip.follow(first)
    assert held.wait(5)
    second = session.start("Hello", ml.Custom(_slowly), max_tokens=100_000, seed=1)
    follow = threading.Thread(target=strip.follow, args=[second])
    follow.start()
    follow.join(0.2)
    go_on.set()
    follow.join(5)
    assert strip.trace is second.trace and not second.done and strip.state != "finished"
    while len(second.trace) < 3:
        time.sleep(0.005)
    second.stop()
    strip.settle()
    deltas = [content for content, _ in heard if content["epoch"] == strip.epoch]
    assert [delta["from"] for delta in deltas] == [0, *[delta["n"] for delta in deltas[:-1]]]
    assert deltas[-1]["n"] == len(second.trace) == strip.n


def _slowly(logits, history):
    time.sleep(0.005)
    logits[tiny.EOS] = -np.inf
    return logits


def test_the_end_of_a_run_is_waited_for_in_steps(session):
    strip = TokenStrip(run=session.start("Hello", ml.Greedy(), max_tokens=3))
    strip.settle()
    run = session.start("Hello", ml.Custom(_slowly), max_tokens=100_000)
    strip.follow(run)
    waits = []
    followed = strip._followed
    followed._changed.wait = lambda timeout: (
        waits.append(timeout) or (followed.forget() if len(waits) == 3 else None)
    )
    strip.settle()
    assert waits == [WAIT_STEP] * 3
    run.stop()


def test_a_run_that_fails_leaves_its_message(session):
    run = session.start("Hello", ml.Custom(lambda logits, history: logits[:3]), max_tokens=3)
    strip = TokenStrip(run=run)
    strip.settle()
    assert strip.state == "failed"
    assert strip.note == str(run.error)


REASONS = (
    "length",
    "eog",
    "stop",
    "complete",
    "stopped",
    "context",
    "scored",
    "explored",
    "failed",
    "cut",
)


@pytest.mark.parametrize("reason", REASONS)
def test_each_way_in_which_a_text_ends_has_words_that_all_forms_say(trace, reason):
    strip = TokenStrip(ml.Trace.from_dict(trace.to_dict() | {"finish_reason": reason}))
    assert strip.ended == ENDINGS[reason]
    assert all(strip.ended in form for form in still_forms([strip]).values())


def test_the_beginning_of_a_text_has_not_ended_as_the_whole_has(trace):
    assert TokenStrip(trace[:5]).ended == "the beginning of a text"
    assert TokenStrip(trace[5:]).ended == TokenStrip(trace).ended == ENDINGS[trace.finish_reason]


def test_the_stages_of_a_step_name_tokens_by_their_pieces(session):
    chain = ml.LogitBias({ord("e") + 3: float("-inf")}) | ml.TopK(4)
    strip = TokenStrip(session.generate("Once", chain, max_tokens=2, seed=1))
    stages = [name for name, _ in ask(strip, "details", {"step": 1})["stages"]]
    assert stages == ["LogitBias(bans e)", "TopK(4)"]


def test_the_plain_form_is_the_same_each_time(session):
    def make():
        return session.generate("Once", ml.Greedy(), max_tokens=5, seed=1)

    first, second = text_of(TokenStrip(make())), text_of(TokenStrip(make()))
    assert first == second
    assert re.search(
        r"\[\d tokens?, mean logprob -\d+\.\d\d, (reached max tokens|the model ended the text)\]$",
        first,
    )


class Balanced(HTMLParser):
    """Reads HTML strictly enough to notice what escaping missed."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.text = ""

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)

    def handle_data(self, data):
        self.text += data


def test_hostile_text_is_text_in_every_form(hostile):
    strip = TokenStrip(hostile, title="<b>title</b>")
    page = Balanced()
    page.feed(strip._still_forms()["text/html"])
    assert set(page.tags) <= {
        "div",
        "b",
        "span",
        "details",
        "summary",
        "table",
        "thead",
        "tbody",
        "tr",
        "th",
        "td",
    }
    assert "<script>alert(1)</script>" in page.text
    assert "<b>title</b>" in page.text
    assert "😀" in page.text
    for form in strip._still_forms().values():
        assert not re.search("[\x00\x1b\r\u202e\u200b]", form)


def test_the_static_form_of_a_long_trace_stays_small(session):
    trace = session.generate("Once", ml.Mask(ban=[tiny.EOS]), max_tokens=400, seed=1)
    strip = TokenStrip(trace)
    assert len(strip._still_forms()["text/html"]) < 20_000


def test_the_state_that_a_notebook_may_save_is_small(trace):
    state = TokenStrip(trace).get_state()
    small = {key: value for key, value in state.items() if key not in ("_esm", "_css")}
    assert len(repr(small)) < 2000


GENERATED = ml.TopK(40) | ml.Temperature(0.9)


@pytest.mark.parametrize(
    "make",
    [
        lambda session: session.generate("Once upon", ml.Greedy(), max_tokens=6, seed=5),
        lambda session: session.generate("Once upon", GENERATED, max_tokens=6, seed=5),
        lambda session: session.generate("Once upon", (), max_tokens=6, seed=5),
        lambda session: session.branch(
            session.generate("Once upon", GENERATED, max_tokens=6, seed=5),
            3, 70, ml.TopK(5), max_tokens=4, seed=5,
        ),
        lambda session: session.generate("Once upon", GENERATED, max_tokens=9, seed=5)[3:7],
        lambda session: session.generate("Once upon", GENERATED, max_tokens=9, seed=5)[:4],
        lambda session: session.score("Once upon a time"),
        lambda session: session.score("Once upon a time")[4:],
        lambda session: session.generate(
            "Once upon", {0: GENERATED, 2: ml.Greedy(), 5: ml.XTC(0.5, 0.01) | ml.Mirostat(4)},
            max_tokens=9, seed=5,
        ),
        lambda session: session.branch(
            session.generate("Once upon", {0: GENERATED, 2: ml.Greedy()}, max_tokens=6, seed=5),
            3, 70, {4: ml.TopK(5), 6: GENERATED}, max_tokens=5, seed=5,
        ),
        lambda session: session.generate(
            "Once upon", {0: GENERATED, 2: ml.Greedy()}, max_tokens=9, seed=5
        )[1:5],
        lambda session: explore("Once", on=session, budget=4, max_tokens=2).tree.branch(1).trace,
    ],
    ids=["one stage", "two stages", "no stage", "branch", "part", "beginning", "scored", "cut",
         "changed", "changed branch", "changed part", "explored"],
)  # fmt: skip
def test_the_code_makes_the_same_trace_again(make, session, model, monkeypatch):
    trace = make(session)
    code = TokenStrip(trace, layer="rank").to_code()
    monkeypatch.setattr(ml.Model, "load", lambda source: model)
    names: dict = {}
    exec(code.replace("TokenStrip(trace", "strip = TokenStrip(trace"), names)
    assert names["trace"].tokens.tolist() == trace.tokens.tolist()
    assert names["trace"].prompt_tokens.tolist() == trace.prompt_tokens.tolist()
    assert names["strip"].layer == "rank"
    if not n_given_of(trace):
        assert names["trace"].chains == trace.chains
    names["session"].close()


def test_scale_and_levels_of_the_static_form_are_those_of_the_live_one():
    script = Path(_front_end.folder(), "token_strip_columns.js").read_text(encoding="utf-8")
    live = re.search(r"level: falling\(\[([\d., ]+)\]\),\s*marks: \[([^\]]+)\]", script)
    assert sorted(float(edge) for edge in live[1].split(",")) == list(_strip_forms.EDGES)
    assert re.findall('"([^"]+)"', live[2]) == list(_strip_forms.MARKS)
    assert [_strip_forms._level(p) for p in (0.95, 0.9, 0.5, 0.06, 0.01, 0.001)] == [
        0,
        0,
        1,
        3,
        4,
        5,
    ]


def test_a_remark_on_an_alternative_comes_from_whoever_knows(trace):
    strip = TokenStrip(trace)
    with pytest.raises(ValueError, match="no request 'explain'"):
        ask(strip, "explain", {"step": 0, "token": 5})
    strip.explain_with(lambda trace, step, token: f"{len(trace)} {step} {token}")
    assert ask(strip, "explain", {"step": 3, "token": 5}) == {"text": "20 3 5"}
    with pytest.raises(ValueError, match="from 0 to 19"):
        ask(strip, "explain", {"step": 20, "token": 5})


def costs_of(trace, nats=1.5, high=2.5):
    n = len(trace)
    return {
        "nats": np.full(n, nats),
        "nats_high": np.full(n, high),
        "wanted": np.full(n, 70, np.int32),
        "wanted_logprob": np.full(n, -0.25),
    }


def test_what_grammars_cost_is_sent_for_the_text_that_is_shown_alone(trace):
    strip = TokenStrip(trace)
    assert not strip.has("grammar")
    strip.show_costs(trace[:3], **costs_of(trace[:3]))
    assert not strip.has("grammar") and strip.more == {}
    given = costs_of(trace)
    given["wanted"][4], given["wanted_logprob"][4] = -1, np.nan
    strip.show_costs(trace, **given, said="what it cost")
    assert strip.has("grammar") and strip.more == {"grammar": "what it cost"}
    header, buffers = ask_data(strip, "costs", {"layer": "grammar"})
    assert header == {"epoch": strip.epoch}
    for name, sent in zip(("nats", "nats_high", "wanted_logprob"), buffers, strict=False):
        column = given[name].astype("<f4")
        assert np.array_equal(np.frombuffer(sent, "<f4"), column, equal_nan=True)
    sizes = np.frombuffer(buffers[3], "<i4")
    assert sizes[4] == 0 and set(np.delete(sizes, 4)) == {len(trace.piece(70))}
    assert buffers[4] == trace.piece(70) * (len(trace) - 1)
    strip.trace = trace[:3]
    assert strip.more == {} and ask_data(strip, "costs", {"layer": "grammar"})[1] == []


def test_the_effect_is_offered_before_its_numbers_come(trace):
    strip = TokenStrip(trace, layer="effect")
    strip.offer_effect(trace[:3], "of another text")
    assert strip.more == {}
    strip.offer_effect(trace, "wait")
    assert strip.more == {"effect": "wait"} and not strip.has("effect")
    assert ask_data(strip, "costs", {"layer": "effect"})[1] == []
    n = len(trace)
    given = {"kl": np.arange(n) / 8, "base_logprob": np.full(n, -1.5)}
    best = np.full(n, -1, np.int32)
    best[3] = 70
    strip.show_effect(trace, **given, base_best=best, said="so much")
    strip.show_costs(trace, **costs_of(trace))
    assert strip.more == {"effect": "so much", "grammar": ""} and strip.has("effect")
    *numbers, sizes, text = ask_data(strip, "costs", {"layer": "effect"})[1]
    for column, sent in zip(given.values(), numbers, strict=True):
        assert np.array_equal(np.frombuffer(sent, "<f4"), column.astype("<f4"))
    assert np.frombuffer(sizes, "<i4").nonzero()[0].tolist() == [3] and text == trace.piece(70)
    assert ask_data(strip, "costs", {"layer": "rank"})[1] == []
    assert ask_data(strip, "costs", {"layer": ["effect"]})[1] == []
    with pytest.raises(ValueError, match="there are 20 tokens"):
        strip.show_effect(trace, kl=np.zeros(3), base_logprob=np.zeros(n), base_best=best)


def test_costs_of_another_number_of_tokens_are_refused(trace):
    with pytest.raises(ValueError, match="there are 20 tokens"):
        TokenStrip(trace).show_costs(trace, **costs_of(trace[:3]))
