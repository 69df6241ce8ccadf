"""SamplerLab driven from Python, as the browser drives it."""

from __future__ import annotations

import threading
import time

import anywidget
import ipywidgets
import numpy as np
import pytest
from page import ask, text_of

import mullama_lab as ml
from mullama_lab.engine.trace.divergence import where_they_part
from mullama_lab.errors import ClosedError
from mullama_lab.labs import _lab, _what_if_panel
from mullama_lab.labs._what_if_panel import _summary
from mullama_lab.studies.flips import flip_map
from mullama_lab.studies.replay import UNKNOWN, Replay, replay
from mullama_lab.widgets import _kept

PLAIN = ml.TopK(20) | ml.Temperature(0.9)


@pytest.fixture
def lab(tiny_model):
    shown = ["samplers", "what-if"]
    options = {"seed": 7, "max_tokens": 24, "panels": shown}
    lab = ml.labs.SamplerLab(tiny_model, "Hello", chain=PLAIN, **options)
    lab.wait()
    yield lab
    lab.close()


def test_what_is_shown_is_the_chain_on_the_prompts_own_row(lab, tiny_model):
    row = lab.session.logits("Hello")
    view = PLAIN.preview(row, model=tiny_model, history=tiny_model.tokenize("Hello"), seed=7)
    assert lab.preview.choice == view.choice
    np.testing.assert_allclose(lab.preview.final.probs, view.final.probs, rtol=1e-4)


def test_turning_a_setting_decodes_nothing(lab):
    before = lab.session.n_decoded
    for k in range(1, 20):
        lab.set("TopK", k=k)
        assert lab.preview.stages[0].n_kept == k
    assert lab.session.n_decoded == before


def test_the_token_shown_as_drawn_is_the_one_a_run_begins_with(lab):
    for seed in range(6):
        lab.set(seed=seed)
        lab.wait()
        assert lab.run().tokens[0] == lab.preview.choice


def test_the_first_run_of_a_lab_is_the_second_bit_for_bit(tiny_model):
    lab = ml.labs.SamplerLab(tiny_model, seed=7)
    first, second = lab.run(), lab.run()
    lab.close()
    assert first.tokens.tolist() == second.tokens.tolist()
    np.testing.assert_array_equal(first.logsumexp, second.logsumexp)
    np.testing.assert_array_equal(first.logprob_after, second.logprob_after)


def test_a_run_is_seen_in_every_view(lab):
    trace = lab.run()
    assert lab.trace is trace
    assert lab.strip.n == len(trace)
    assert lab.panel.state == "finished"
    assert [past.trace for past in lab.panel.runs] == [trace]


def test_a_generation_that_a_cell_starts_shows_in_the_lab_too(lab):
    trace = lab.session.generate("Hello", PLAIN, max_tokens=5, seed=1)
    lab.strip.settle()
    assert lab.trace is trace


def test_changing_the_chain_changes_a_run_in_flight(lab):
    lab.set(max_tokens=100_000, chain=ml.Custom(_slowly) | PLAIN)
    run = lab.start()
    while len(run.trace) < 3:
        time.sleep(0.005)
    lab.set("TopK", k=1)
    n = len(run.trace)
    while len(run.trace) < n + 5 and not run.done:
        time.sleep(0.005)
    lab.stop()
    trace = run.wait()
    assert [repr(chain[1]) for _, chain in trace.chains] == ["TopK(20)", "TopK(1)"]


def test_a_run_begun_during_another_goes_on_beside_it_and_is_the_one_shown(lab):
    lab.set(max_tokens=300, chain=ml.Custom(_slowly) | PLAIN)
    first = lab.start()
    while len(first.trace) < 3:
        time.sleep(0.005)
    lab.set(max_tokens=5)
    second = lab.start()
    second.wait(20)
    lab.strip.settle()
    assert first.state == "running" and lab.trace is second.trace
    lab.stop()
    assert first.wait(20).finish_reason == "stopped"
    lab.panel.settle()
    assert {past.trace.finish_reason for past in lab.panel.runs} == {"stopped", "length"}


def _slowly(logits, history):
    time.sleep(0.005)
    logits[2] = -np.inf  # no end of text
    return logits


def test_stop_ends_a_generation_that_a_cell_started(lab):
    run = lab.session.start("Hello", ml.Custom(_slowly), max_tokens=100_000, seed=1)
    while not len(run.trace):
        time.sleep(0.005)
    lab.stop()
    assert run.wait(timeout=5).finish_reason == "stopped"


def test_a_step_of_the_trace_is_looked_at_as_it_was_drawn(lab):
    trace = lab.run()
    for step in (0, len(trace) // 2, len(trace) - 1):
        lab.look_at(step)
        lab.wait()
        assert (lab.preview.step, lab.preview.choice) == (step, trace.tokens[step])


def test_choosing_a_token_in_the_strip_looks_at_its_step(lab):
    trace = lab.run()
    ask(lab.strip, "choose", {"step": 2, "token": int(trace.tokens[2])})
    lab.wait()
    assert lab.preview.step == 2 and lab.trace is trace
    assert lab.next_token.view["note"] == "at step 2"  # as trace[2] counts


def test_a_token_that_is_picked_in_the_strip_is_looked_at_until_one_goes_back(lab):
    trace = lab.run()
    ask(lab.strip, "pick", {"step": 3})
    lab.wait()
    assert (lab.preview.step, lab.preview.choice) == (3, trace.tokens[3])
    assert lab.strip.looked_at == 3
    assert lab.next_token.view["back"] == "prompt"
    lab.set("TopK", k=3)  # the levers turn what is looked at
    assert lab.preview.step == 3 and lab.preview.stages[0].n_kept == 3
    ask(lab.next_token, "back")
    lab.wait()
    assert (lab.preview.step, lab.strip.looked_at, lab.next_token.view["back"]) == (0, -1, "")
    with pytest.raises(ValueError, match="step is"):
        ask(lab.strip, "pick", {"step": len(trace)})


def test_the_step_that_is_looked_at_stays_while_the_text_before_it_does(lab):
    first = lab.run()
    ask(lab.strip, "pick", {"step": 3})
    lab.wait()
    other = next(int(token) for token in first.top_ids[5] if token != first.tokens[5])
    branch = lab.branch(5, other)
    lab.wait()
    assert lab.strip.trace is branch and (lab.preview.step, lab.strip.looked_at) == (3, 3)
    other = next(int(token) for token in first.top_ids[1] if token != first.tokens[1])
    lab.branch(1, other)
    lab.wait()
    assert (lab.next_token.view["note"], lab.strip.looked_at) == ("at the end of the prompt", -1)


def test_choosing_another_token_in_the_strip_branches_off_there(lab):
    trace = lab.run()
    other = next(int(token) for token in trace.top_ids[2] if token != trace.tokens[2])
    ask(lab.strip, "choose", {"step": 2, "token": other})
    lab.wait()
    assert lab.trace.tokens[:3].tolist() == [*trace.tokens[:2].tolist(), other]
    assert len(lab.tree) == len(lab.panel.runs) == 2


def test_a_long_prompt_is_shown_from_a_whole_character_on(lab):
    lab.set(prompt="👍" * 30 + "ab")  # one token a byte
    lab.wait()
    assert lab.next_token.view["after"] == "👍" * 5 + "ab"


def test_two_labs_on_one_model_do_not_disturb_each_other(tiny_model):
    alone = ml.labs.SamplerLab(tiny_model, "Hello", chain=PLAIN, seed=3, max_tokens=20)
    expected = alone.run().tokens.tolist()
    alone.close()
    one = ml.labs.SamplerLab(tiny_model, "Hello", chain=PLAIN, seed=3, max_tokens=20)
    two = ml.labs.SamplerLab(tiny_model, "World", chain=PLAIN, seed=3, max_tokens=20)
    runs = [one.start(), two.start()]
    assert runs[0].wait().tokens.tolist() == expected
    assert runs[1].wait().tokens.tolist() != expected
    assert one.trace is runs[0].trace and two.trace is runs[1].trace
    one.close(), two.close()


def test_its_code_makes_the_same_text(lab, tiny_path):
    trace = lab.run()
    lab.session.model.source, kept = str(tiny_path), lab.session.model.source
    try:
        scope: dict[str, object] = {}
        exec(lab.to_code(), scope)
    finally:
        lab.session.model.source = kept
    assert scope["trace"].tokens.tolist() == trace.tokens.tolist()
    scope["model"].close()


def test_its_code_makes_a_run_again_whose_chain_was_turned_on_the_way(lab, tiny_path):
    no_end = ml.Mask(ban=[2])
    lab.set(max_tokens=300, chain=no_end | PLAIN)
    run = lab.start()
    while len(run.trace) < 3:
        time.sleep(0.001)
    lab.set("Temperature", t=1.6)
    while len(run.trace.chains) < 2:
        time.sleep(0.001)
    lab.set(chain=no_end | ml.TopK(90) | ml.Mirostat(5))
    trace = run.wait(30)
    lab.strip.settle()
    assert len(trace.chains) == 3
    lab.session.model.source, kept = str(tiny_path), lab.session.model.source
    try:
        scope: dict[str, object] = {}
        exec(lab.to_code(), scope)
        again = scope["trace"]
        assert again.tokens.tolist() == trace.tokens.tolist()
        assert again.chains == trace.chains
        lab.set("Mirostat", tau=4)  # the chain is another one by now: the code is what Run would do
        assert "| ml.Mirostat(4, 0.1)\n" in lab.to_code()
    finally:
        lab.session.model.source = kept
    scope["model"].close()


def test_a_chain_that_leaves_nothing_is_said_in_the_view_and_mended_by_turning_back(lab):
    lab.set(chain=ml.Mask(ban=range(lab.session.model.n_vocab)))
    assert "no token is left" in lab.next_token.view["error"]
    lab.set(chain=PLAIN)
    assert not lab.next_token.view["error"]


def test_a_prompt_that_does_not_fit_is_said_and_the_next_one_works(lab):
    lab.set(prompt="x" * 9000)
    assert "context" in lab.next_token.view["error"]
    lab.set(prompt="short")
    lab.wait()
    assert not lab.next_token.view["error"]


def test_wrong_settings_are_refused_and_nothing_changes(lab):
    for wrong in ({"p": 2}, {"k": -1}, {"k": float("nan")}, {"nothing": 1}):
        with pytest.raises((ValueError, TypeError)):
            lab.set("TopK", **wrong)
    with pytest.raises(ValueError, match="no setting 'temperature'"):
        lab.set(temperature=1)
    with pytest.raises(TypeError, match="Model or a Session, not .*Load one first"):
        ml.labs.SamplerLab("smollm2-135m")
    assert lab.chain == PLAIN


def test_settings_change_together_or_not_at_all(lab):
    lab.editor.toggle("Temperature", on=False)
    cards, seed, prompt = lab.editor.cards, lab.panel.seed, lab.panel.prompt
    for wrong in ({"max_tokens": -1}, {"max_tokens": "5"}, {"prompt": 7}, {"chain": 7}):
        with pytest.raises((ValueError, TypeError)):
            lab.set(**{"seed": 3, "prompt": "World", "chain": ml.Greedy(), **wrong})
        assert (lab.panel.seed, lab.panel.prompt, lab.panel.max_tokens) == (seed, prompt, 24)
        assert lab.editor.cards == cards
    with pytest.raises(ValueError, match="seed is -1"):
        lab.set(seed=-1)


def test_a_row_that_is_slow_to_be_shown_holds_up_no_generation(lab):
    at_work, go_on, show = threading.Event(), threading.Event(), lab.next_token.show

    def slow(*shown, **also):
        at_work.set()
        assert go_on.wait(20)
        show(*shown, **also)

    lab.next_token.show = slow
    lab.look_at(None)
    assert at_work.wait(20)
    try:
        assert len(lab.session.start("World", PLAIN, max_tokens=3, seed=1).wait(10)) > 0
    finally:
        go_on.set()
    lab.wait()


def test_of_rows_that_are_looked_at_in_quick_succession_the_newest_is_shown(lab):
    trace = lab.run()
    for step in (*range(len(trace)), 3):
        lab.look_at(step)
    lab.wait()
    assert (lab.preview.step, lab.preview.choice) == (3, trace.tokens[3])


def test_a_closed_lab_waits_for_no_row_on_a_session_that_lives_on(tiny_model, until):
    with tiny_model.session(n_ctx=512) as session:
        held = threading.Event()
        lab = ml.labs.SamplerLab(session, "Hello")
        lab.wait()
        run = session.start("x", ml.Custom(lambda row, _: held.wait(20) and row), max_tokens=1)
        lab.look_at(None)  # waits for the run
        lab.close()
        lab.wait()
        assert not run.done
        held.set()
        run.wait()


def test_who_looks_at_an_older_run_is_left_there_when_another_one_ends(lab):
    first = lab.run()
    lab.set(chain=ml.Custom(_slowly) | PLAIN, max_tokens=100_000)
    run = lab.start()
    while len(run.trace) < 3:
        time.sleep(0.005)
    lab.panel.select(1)
    asked_about = []
    show = lab._what_if.show
    lab._what_if.show = lambda trace: asked_about.append(trace) or show(trace)
    run.stop()
    run.wait()
    lab.panel.settle()
    lab.wait()
    assert lab.trace is lab._what_if._trace is first and asked_about == []


def test_the_answers_settle_with_a_run_whose_last_callback_is_still_to_come(lab):
    run = lab.session.start("Hello", PLAIN, max_tokens=5, seed=1)
    run.wait()
    lab.wait()
    lab._what_if._following, lab._what_if._trace = run, None
    lab.wait()
    assert lab._what_if._trace is run.trace and "of 5 choices" in lab.what_if.line


def test_an_error_is_said_unless_something_newer_is_shown_by_then(lab, monkeypatch):
    at_work, go_on = threading.Event(), threading.Event()

    def failing(*_, **__):
        at_work.set()
        assert go_on.wait(20)
        raise ValueError("cannot tell")

    lab.run()
    lab.wait()
    monkeypatch.setattr(_what_if_panel, "replay", failing)
    lab.set("TopK", k=3)
    assert at_work.wait(20)
    lab._what_if.show(None)
    go_on.set()
    lab.wait()
    assert (lab.what_if.line, lab.what_if.busy) == ("", "")
    lab._what_if.show(lab.trace)
    lab.wait()
    assert (lab.what_if.line, lab.what_if.busy) == ("n/a: cannot tell", "")


def test_it_shows_in_three_forms(lab):
    lab.run()
    lab.wait()
    data, _ = lab._repr_mimebundle_()
    assert set(data) >= {"text/plain", "text/html", "application/vnd.jupyter.widget-view+json"}
    assert "TopK(20)" in data["text/plain"] and "<script" not in data["text/html"]
    assert lab._repr_mimebundle_()[0]["text/plain"] == data["text/plain"]


def test_a_lab_shown_at_once_has_its_first_row_in_its_forms(tiny_model, monkeypatch):
    show = ml.widgets.NextToken.show
    late = lambda *shown, **also: (time.sleep(0.2), show(*shown, **also))  # noqa: E731
    monkeypatch.setattr(ml.widgets.NextToken, "show", late)
    lab = ml.labs.SamplerLab(tiny_model, "Hello", chain=PLAIN, seed=7)
    shown = lab._repr_mimebundle_()[0]["text/plain"]
    assert "NextToken()" not in shown and "step 0: draws" in shown
    lab.close()


def test_a_lab_is_shown_while_its_run_keeps_the_first_row_waiting(tiny_model, monkeypatch, until):
    monkeypatch.setattr(_lab, "MOMENT", 1000.0)
    held = threading.Event()
    with tiny_model.session(n_ctx=512) as session:
        before = session.start("x", ml.Custom(lambda row, _: held.wait(20) and row), max_tokens=1)
        lab = ml.labs.SamplerLab(session, "Hello", max_tokens=4)
        run = lab.start()
        until(lambda: lab.panel.state == "queued")
        try:
            assert "NextToken()" in lab._repr_mimebundle_()[0]["text/plain"]
            assert not before.done and not run.done
        finally:
            held.set()
        run.wait()
        lab.close()


def test_a_lab_is_shown_a_moment_later_where_its_first_row_does_not_come(tiny_model, monkeypatch):
    monkeypatch.setattr(_lab, "MOMENT", 0.05)
    held = threading.Event()
    with tiny_model.session(n_ctx=512) as session:
        run = session.start("x", ml.Custom(lambda row, _: held.wait(20) and row), max_tokens=1)
        lab = ml.labs.SamplerLab(session, "Hello")
        try:
            assert "NextToken()" in lab._repr_mimebundle_()[0]["text/plain"]
            assert not run.done
        finally:
            held.set()
        run.wait()
        lab.close()


def test_a_closed_lab_closes_its_own_session_but_not_a_given_one(tiny_model):
    own = ml.labs.SamplerLab(tiny_model)
    own.close()
    with pytest.raises(ClosedError):
        own.session.generate("a")
    with tiny_model.session() as session:
        ml.labs.SamplerLab(session).close()
        assert not session.closed


def test_the_views_say_what_would_have_kept_a_token(lab):
    row = lab.session.logits("Hello")
    best = [int(token) for token in np.argsort(-row)[:30]]
    answer = ask(lab.next_token, "explain", {"token": best[24]})
    assert answer["text"] == "TopK(20) would keep it at k ≥ 25 (was 20)."
    other = ask(lab.next_token, "explain", {"token": best[3]})["text"]
    assert other.startswith("Drawn at random: ") and "; this token's share is " in other
    trace = lab.run()
    chosen = {"step": 2, "token": int(trace.tokens[2])}
    assert " fell into this token's share, " in ask(lab.strip, "explain", chosen)["text"]
    out = {"step": 2, "token": int(trace.top_ids[2, 30])}
    assert "TopK(20) would keep it at k ≥ 31" in ask(lab.strip, "explain", out)["text"]


def test_runs_of_the_history_are_compared(lab):
    traces = [lab.run()]
    for seed in (8, 9):
        lab.set(seed=seed)
        traces.append(lab.run())
    found = lab.compare(1, 2, 3)
    assert [side.first for side in found.sides[1:]] == [
        where_they_part(traces[0], trace) for trace in traces[1:]
    ]
    assert found.b.kl.nats == pytest.approx(0, abs=1e-6) and found.b.kl_after is not None
    with pytest.raises(ValueError, match="no run 4"):
        lab.compare(1, 4)


def test_after_a_run_a_turned_setting_says_what_it_would_have_chosen(lab):
    trace = lab.run()
    lab.wait()
    assert "none of 24 choices differs" in lab.what_if.line
    assert lab.what_if.bars["label"] == "Temperature t"
    assert lab.what_if.n_flipped() == 0
    assert [row[:1] for row in lab.what_if.effects] == [["TopK(20)"], ["Temperature(0.9)"]]
    lab.set("TopK", k=2)
    lab.wait()
    assert lab.what_if.bars["label"] == "TopK k"
    seen = replay(trace, lab.chain, on=lab.session.model)
    assert seen.n_changed == lab.what_if.n_flipped() > 0
    assert f"{seen.n_changed} of 24 choices differ, the first at step {seen.first}:" in (
        lab.what_if.line
    )


def test_the_lines_of_what_if_agree_whatever_was_turned_and_when(lab):
    chains = {0: PLAIN, 8: ml.TopK(20) | ml.Temperature(1.7)}
    trace = lab.session.generate("Hello", chains, max_tokens=24, seed=7)
    lab.strip.settle()
    for stage, settings in (("TopK", {"k": 6}), ("Temperature", {"t": 0.7}), ("TopK", {"k": 9})):
        lab.set(stage, **settings)
        lab.wait()
        seen = replay(trace, lab.chain, on=lab.session.model)
        n = f"{seen.n_changed} of {seen.n_compared}"
        assert 0 < seen.n_changed < seen.n_compared
        said = text_of(lab.what_if).splitlines()
        assert f"on the run above: {n} choices differ" in said[0]
        assert said[1].startswith(f"{stage} ") and f" changes {n}" in said[1]
        found = flip_map(trace, stage_of(stage), on=lab.session.model, chain=lab.chain)
        assert lab.what_if.bars["low"] == [float(f"{x:.6g}") for x in found.low]


@pytest.mark.parametrize(
    "moved",
    [
        ml.Temperature(1.3) | ml.TopK(20),
        ml.MinP(0.05) | ml.TopK(20) | ml.Temperature(1.3),
        ml.Temperature(1.3),
    ],
)
def test_a_setting_is_the_same_one_when_its_stage_has_moved(lab, moved):
    trace = lab.run()
    lab.set("Temperature", t=1.3)
    lab.wait()
    lab.set(chain=moved)
    lab.wait()
    assert (lab.what_if.bars["label"], lab.what_if.at) == ("Temperature t", 1.3)
    found = flip_map(trace, ml.Temperature, on=lab.session.model, chain=moved)
    assert lab.what_if.bars["low"] == [float(f"{x:.6g}") for x in found.low]
    assert lab.what_if.bars["was"] == 0.9
    n_changed = replay(trace, moved, on=lab.session.model).n_changed
    assert f" changes {n_changed} of 24" in text_of(lab.what_if)


def test_another_setting_takes_the_place_of_one_whose_stage_is_gone(lab):
    lab.run()
    lab.set("Temperature", t=1.3)
    lab.set(chain=ml.TopK(20))
    lab.wait()
    assert (lab.what_if.bars["label"], lab.what_if.at) == ("TopK k", 20)
    lab.set(chain=ml.Greedy())
    lab.wait()
    assert not lab.what_if.bars and "choices" in lab.what_if.line
    lab.set(chain=PLAIN | ml.MinP(0.05))
    lab.set("MinP", p=0.1)
    lab.wait()
    assert (lab.what_if.bars["label"], lab.what_if.bars["was"]) == ("MinP p", None)


def stage_of(name):
    return getattr(ml, name)


def test_a_long_run_is_asked_about_as_far_as_there_are_bars(lab):
    lab.set(max_tokens=400, chain=ml.Mask(ban=[2]) | PLAIN)
    lab.run()
    lab.wait()
    assert lab.what_if.line.startswith(
        "The chain as it is now, on the first 256 tokens of the run above: none of 256 choices"
    )
    lab.set("Temperature", t=1.5)
    lab.wait()
    assert f" {lab.what_if.n_flipped()} of 256 choices differ" in lab.what_if.line


def test_a_stage_that_the_run_had_not_has_bars_and_a_new_run_begins_anew(lab):
    lab.run()
    lab.chain = ml.MinP(0.1) | ml.TopK(5)
    lab.wait()
    assert (lab.what_if.bars["label"], lab.what_if.bars["was"]) == ("MinP p", None)
    assert "on the run above" in lab.what_if.line
    lab.run()
    lab.wait()
    assert "none of" in lab.what_if.line


def test_choices_that_are_not_known_are_not_said_to_be_the_same():
    tokens = np.array([5, 6, 7], np.int32)

    def told(*choices: int) -> str:
        pieces = {5: " a", 6: "b", 7: "\n", 9: "\u200b"}
        given = np.array([True, False, False])
        chosen = np.array([5, *choices], np.int32)
        return _summary(Replay(PLAIN, 7, tokens, chosen, given, ("",) * 3, {}, pieces))

    why = "the run kept too little of its rows to tell"
    assert told(6, 7) == "none of 2 choices differs"
    assert told(UNKNOWN, UNKNOWN) == f"n/a, {why}"
    assert told(6, UNKNOWN) == f"none of 1 choice differs; of 1 more {why}"
    assert told(6, 9) == ("1 of 2 choices differs, the first at step 2: “[ZWSP]” instead of “↵”")


WIDGETS = [getattr(ml.labs, name) for name in ml.labs.__all__] + [
    getattr(ml.widgets, name) for name in ml.widgets.__all__ if name != "Hit"
]


@pytest.mark.parametrize("kind", WIDGETS)
def test_no_name_of_a_lab_or_a_view_hides_one_that_every_widget_has(kind):
    ours = kind.__mro__[: kind.__mro__.index(_kept.Kept)]
    made = vars(type("Bare", (ipywidgets.Widget,), {}))  # by traitlets, for each class
    names = {name for one in ours for name in vars(one)} - {*made, "close", "_repr_mimebundle_"}
    names -= {"_handle_custom_msg", "_holding_sync", "_states_to_send"}
    theirs = {*dir(ipywidgets.Box), *dir(anywidget.AnyWidget)}
    assert not [name for name in names & theirs if not name.startswith("__")]
