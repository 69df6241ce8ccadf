"""The run panel on a tiny model: requests, runs that are followed, the history."""

from __future__ import annotations

import html
import json
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
from page import reply_to, text_of

from mullama_lab.engine import tiny
from mullama_lab.engine.model import Model
from mullama_lab.engine.options import MAX_SEED
from mullama_lab.engine.session import Session
from mullama_lab.engine.stages import Chain, Greedy, Temperature
from mullama_lab.engine.trace.divergence import divergence, where_they_part
from mullama_lab.glyphs import visible_piece
from mullama_lab.widgets import RunPanel
from mullama_lab.widgets._history import MAX_RUNS
from mullama_lab.widgets._view import still_forms
from mullama_lab.widgets.run_panel import MAX_PROMPT


@pytest.fixture(scope="module")
def session(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Session]:
    path = tiny.write(tmp_path_factory.mktemp("model") / "tiny.gguf")
    with Model.load(path) as model, model.session(n_ctx=512) as session:
        yield session


def ask(panel: RunPanel, op: str, **args: Any) -> dict[str, Any]:
    return reply_to(panel, op, args)


def finished(session: Session, seed: int = 0, n: int = 8, prompt: str = "ab") -> Any:
    return session.generate(prompt, Chain([Temperature(1.0)]), max_tokens=n, seed=seed)


def test_run_asks_whoever_listens_with_what_is_on_screen() -> None:
    panel = RunPanel("old", seed=3)
    asked: list[tuple[str, int]] = []
    undo = panel.on_run(lambda panel: asked.append((panel.prompt, panel.seed)))
    assert ask(panel, "run", name="prompt", value="new")["ok"]
    panel.run()
    undo()
    assert asked == [("new", 3), ("new", 3)]
    with pytest.raises(ValueError, match="on_run"):
        panel.run()


def test_a_run_that_cannot_begin_says_why_in_the_panel() -> None:
    panel = RunPanel("x")

    def refuse(panel: RunPanel) -> None:
        raise ValueError("the prompt has 9 tokens but 4 are free")

    panel.on_run(refuse)
    assert ask(panel, "run", name="prompt", value="x")["ok"]
    assert panel.state == "failed" and "9 tokens" in panel.message


def test_the_first_chat_has_an_empty_turn_to_write_in() -> None:
    panel = RunPanel("a text")
    assert ask(panel, "set", name="chat", value=True)["ok"]
    assert panel.chat and panel.messages == [{"role": "user", "content": ""}]
    panel.messages = said = [{"role": "user", "content": "Hi"}]
    assert ask(panel, "set", name="chat", value=True)["ok"] and panel.messages == said


def test_a_chat_in_which_the_user_says_nothing_asks_for_a_turn() -> None:
    panel = RunPanel()
    ran: list[bool] = []
    panel.on_run(lambda panel: ran.append(panel.goes_on))
    panel.chat = True
    user, system = {"role": "user", "content": " "}, {"role": "system", "content": "Be brief."}
    for silent in ([], [system], [system, user]):
        panel.state = "idle"
        assert ask(panel, "run", name="messages", value=silent)["ok"]
        assert panel.state == "failed" and "write a turn of the user" in panel.message
    assert ask(panel, "run", name="messages", value=[system, {**user, "content": "Hi"}])["ok"]
    assert ran == [False]


@pytest.mark.parametrize(
    ("op", "args"),
    [
        ("set", {"name": "prompt", "value": 7}),
        ("set", {"name": "prompt", "value": "x" * (MAX_PROMPT + 1)}),
        ("set", {"name": "seed", "value": -1}),
        ("set", {"name": "seed", "value": MAX_SEED + 1}),
        ("set", {"name": "seed", "value": True}),
        ("set", {"name": "seed", "value": "7"}),
        ("set", {"name": "max_tokens", "value": 1.5}),
        ("set", {"name": "max_tokens", "value": float("inf")}),
        ("set", {"name": "state", "value": "running"}),
        ("set", {}),
        ("run", {}),
        ("select", {"number": 1}),
        ("select", {"number": "1"}),
        ("compare", {"numbers": [1, 2]}),
        ("compare", {"numbers": "12"}),
        ("compare", {"numbers": [1] * 5}),
        ("explode", {}),
    ],
)
def test_hostile_requests_are_refused_in_words(op: str, args: dict[str, Any]) -> None:
    panel = RunPanel("keep", seed=5)
    panel.on_run(lambda panel: pytest.fail("must not run"))
    reply = ask(panel, op, **args)
    assert reply["ok"] is False and len(reply["error"]) > 10
    assert (panel.prompt, panel.seed, panel.max_tokens) == ("keep", 5, 128)


def test_the_dice_give_a_seed_in_range() -> None:
    panel = RunPanel()
    assert ask(panel, "dice")["seed"] == panel.seed
    assert 0 <= panel.seed <= MAX_SEED


def test_a_run_that_is_followed_ends_in_the_history(session: Session) -> None:
    panel = RunPanel("ab", seed=1, max_tokens=6)
    panel.on_run(
        lambda p: p.follow(session.start(p.prompt, Greedy(), max_tokens=p.max_tokens, seed=p.seed))
    )
    panel.run()
    panel.settle()
    assert panel.state == "finished" and panel.shown == 1
    assert panel.history[0]["tokens"] == len(panel.runs[0].trace) == panel.meters["tokens"]
    assert panel.history[0]["chain"] == "Greedy()" and panel.history[0]["seed"] == 1
    assert panel.progress[0] == panel.progress[1] > 0


def test_runs_in_quick_succession_all_reach_the_history(session: Session) -> None:
    panel = RunPanel("ab")
    for seed in range(4):
        panel.follow(session.start("ab", Greedy(), max_tokens=2, seed=seed))
    panel.settle()
    assert sorted(run.seed for run in panel.runs) == [0, 1, 2, 3]


def test_a_run_is_listed_once_also_if_its_end_could_not_be_said(session: Session) -> None:
    panel = RunPanel("ab")
    panel.observe(lambda change: 1 / 0, "history")
    panel.follow(session.start("ab", Greedy(), max_tokens=2))
    panel.settle()
    assert [past.number for past in panel.runs] == [1]
    assert panel.state == "finished" and not panel.stop()


def test_a_run_that_was_forgotten_while_its_end_was_told_is_not_listed(session: Session) -> None:
    panel = RunPanel()
    held, go_on, told = threading.Event(), threading.Event(), threading.Event()
    show = panel._followed._show_one

    def show_slowly(run: Any) -> None:
        held.set()
        assert go_on.wait(5)
        show(run)
        told.set()

    panel._followed._show_one = show_slowly  # type: ignore[method-assign]
    run = session.start("ab", Greedy(), max_tokens=3)
    run.wait()
    panel.follow(run)
    assert held.wait(5)
    panel.clear()
    go_on.set()
    assert told.wait(5)
    assert (panel.runs, panel.history, panel.state) == ([], [], "idle")


def test_runs_that_end_at_once_are_all_listed(session: Session) -> None:
    class Slow(list):
        def __iter__(self):
            time.sleep(0.1)
            return super().__iter__()

    panel = RunPanel("ab")
    trace = finished(session, n=2)
    panel._past.runs = Slow()
    threads = [threading.Thread(target=panel.add, args=[trace]) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(past.number for past in panel.runs) == [1, 2] and len(panel.history) == 2


def test_stop_ends_the_run_that_is_followed(session: Session) -> None:
    panel = RunPanel("ab")
    told: list[RunPanel] = []
    panel.on_stop(told.append)
    run = session.start("ab", Temperature(1.0), max_tokens=400, seed=0)
    panel.follow(run)
    assert ask(panel, "stop")["ok"]
    panel.settle()
    assert run.done and told == [panel]
    assert panel.state in ("stopped", "finished")


def test_the_line_is_of_the_run_that_is_chosen(session: Session) -> None:
    panel = RunPanel()
    first = panel.add(finished(session))
    run = session.start("ab", Temperature(1.0), max_tokens=400, seed=0)
    panel.follow(run)
    panel.stop()
    panel.settle()
    assert (panel.state, panel.meters["finish"]) == ("stopped", "stopped")
    panel.select(first)
    assert (panel.state, panel.meters["finish"]) == ("finished", "length")
    panel.fail("no prompt")
    panel.select(2)
    assert (panel.state, panel.message) == ("stopped", "")


def test_the_line_stays_with_the_text_that_is_looked_at_when_another_run_ends(
    session: Session,
) -> None:
    panel = RunPanel()
    other = finished(session, seed=5, n=3)  # of no run here
    run = session.start("ab", Temperature(1.0), max_tokens=400, seed=0)
    panel.follow(run)
    panel.show(other)
    assert panel.meters["tokens"] == 3
    panel.stop()
    panel.settle()
    assert (panel.state, panel.shown, panel.meters["tokens"]) == ("finished", 0, 3)
    assert len(panel.runs) == 1


def test_another_kind_of_prompt_clears_the_line(session: Session) -> None:
    panel = RunPanel("ab")
    panel.add(finished(session))
    assert panel.state == "finished"
    panel.chat = True
    assert (panel.state, panel.meters) == ("idle", {})


def test_choosing_a_run_tells_who_listens(session: Session) -> None:
    panel = RunPanel()
    first = panel.add(finished(session, 1))
    panel.add(finished(session, 2))
    chosen: list[int] = []
    panel.on_select(lambda past: chosen.append(past.seed))
    assert ask(panel, "select", number=first)["ok"]
    assert chosen == [1] and panel.shown == first


def test_a_runs_prompt_comes_back_with_its_seed_and_is_confirmed(session: Session) -> None:
    panel = RunPanel("Once", seed=4)
    panel.follow(session.start(panel.prompt, Greedy(), max_tokens=2, seed=4))
    panel.settle()
    panel.prompt, panel.seed, panel.chat = "Twice", 5, True
    said = ask(panel, "restore", number=1)["said"]
    assert said.startswith("The chain, seed and prompt of run 1 are in force again.")
    assert (panel.prompt, panel.seed, panel.chat) == ("Once", 4, False)


def test_where_a_run_was_to_end_comes_back_with_its_prompt(session: Session) -> None:
    panel = RunPanel("ab", seed=4, max_tokens=6)

    def run() -> None:
        stop = panel.stop_strings
        n = panel.max_tokens
        panel.follow(session.start("ab", Temperature(1.0), max_tokens=n, seed=4, stop=stop))
        panel.settle()

    run()
    whole = panel.runs[0].trace
    stop = next(chr(byte) for byte in whole.text_bytes if 32 < byte < 127)
    panel.max_tokens, panel.stop_strings = 300, [stop]
    run()
    assert panel.runs[1].trace.finish_reason == "stop"
    panel.max_tokens, panel.stop_strings = 9, []
    for number, ends in ((1, (6, [])), (2, (300, [stop]))):
        said = ask(panel, "restore", number=number)["said"]
        brought = "The chain, seed, prompt, max tokens and stop strings"
        assert said == f"{brought} of run {number} are in force again."
        assert (panel.max_tokens, panel.stop_strings) == ends
        run()  # makes the same text again
        assert panel.runs[-1].trace.tokens.tolist() == panel.runs[number - 1].trace.tokens.tolist()


def test_a_run_that_others_began_with_other_ends_says_that_these_stay_away(
    session: Session,
) -> None:
    panel = RunPanel("Once", max_tokens=6)
    panel.follow(session.start("Once", Greedy(), max_tokens=9, seed=4))
    panel.settle()
    panel.max_tokens = 7
    said = ask(panel, "restore", number=1)["said"]
    assert "prompt of run 1 are in force again. Its max tokens and stop strings are not" in said
    assert panel.max_tokens == 7


def test_a_run_of_another_prompt_says_that_its_prompt_stays_away(session: Session) -> None:
    panel = RunPanel("Once", seed=4)
    panel.follow(session.start("Another", Greedy(), max_tokens=2, seed=9))
    panel.settle()
    panel.add(finished(session, seed=3))
    for number, seed in ((1, 9), (2, 3)):
        said = ask(panel, "restore", number=number)["said"]
        assert f"chain and seed of run {number} are in force again. Its prompt, max tokens" in said
        assert (panel.prompt, panel.seed) == ("Once", seed)


def test_the_turns_that_a_run_answered_come_back(session: Session) -> None:
    panel = RunPanel()
    panel.messages = asked = [{"role": "user", "content": " Hi "}]
    panel.chat = True
    panel.follow(session.start("user: Hi assistant:", Greedy(), max_tokens=2, seed=4))
    panel.settle()
    panel.messages, panel.chat = [*asked, {"role": "assistant", "content": "x"}], False
    assert "prompt" in ask(panel, "restore", number=1)["said"]
    assert panel.chat and panel.messages == asked


def test_the_history_keeps_the_newest(session: Session) -> None:
    panel = RunPanel()
    trace = finished(session)
    for _ in range(MAX_RUNS + 3):
        panel.add(trace)
    assert [line["number"] for line in panel.history] == list(range(4, MAX_RUNS + 4))
    assert ask(panel, "select", number=1)["ok"] is False
    state = {k: v for k, v in panel.get_state().items() if k not in ("_esm", "_css")}
    assert len(json.dumps(state, default=str)) < 20_000


def test_a_comparison_marks_the_first_token_that_differs(session: Session) -> None:
    panel = RunPanel()
    long, short = finished(session, 1), finished(session, 2)
    a, b = panel.add(long), panel.add(short)
    i = next(i for i in range(8) if long.tokens[i] != short.tokens[i])
    result = panel.compare(a, b)
    assert result.first == result.shared == i
    assert result.a.token == visible_piece(long.pieces[i])
    assert result.same_prompt
    assert ask(panel, "compare", numbers=[a, b])["first"] == i


def test_up_to_four_runs_are_aligned_with_the_kl_where_each_parts_from_the_first(session) -> None:
    panel = RunPanel()
    traces = [finished(session, seed) for seed in range(4)]
    result = panel.compare(*[panel.add(trace) for trace in traces])
    assert [side.label for side in result.sides] == ["run 1", "run 2", "run 3", "run 4"]
    for side, trace in zip(result.sides[1:], traces[1:], strict=True):
        assert side.first == where_they_part(traces[0], trace)
        assert side.kl == divergence(traces[0], trace, side.first)
    reply = ask(panel, "compare", numbers=[1, 2, 3, 4])
    assert len(reply["sides"]) == 4 and all(len(cells) == 4 for _, cells in reply["rows"])
    for numbers in ([], [1], [1, 2, 3, 4, 1]):
        assert "two to four" in ask(panel, "compare", numbers=numbers)["error"] or (
            "from 2 to 4" in ask(panel, "compare", numbers=numbers)["error"]
        )


def test_a_run_compared_with_its_beginning_does_not_differ(session: Session) -> None:
    panel = RunPanel()
    trace = finished(session, 1)
    result = panel.compare(panel.add(trace), panel.add(trace[:3]))
    assert (result.first, result.shared, result.b.token) == (None, 3, "")
    same = panel.compare(1, 1)
    assert (same.first, same.a.token, same.a.rest) == (None, "", "")


def test_runs_are_told_apart_by_the_beginning_of_their_prompt_or_the_last_turn_of_the_user(
    session: Session,
) -> None:
    panel = RunPanel("a b\n" + "c" * 200)
    panel.follow(session.start(panel.prompt, Greedy(), max_tokens=1))
    panel.settle()
    turns = [("system", "Be brief."), ("user", "One?"), ("assistant", "1"), ("user", "Two?")]
    panel.messages = [{"role": role, "content": said} for role, said in turns]
    panel.chat = True
    panel.follow(session.start("Be brief. One? 1 Two?", Greedy(), max_tokens=1))
    panel.settle()
    panel.add(finished(session, prompt="given in a cell"))
    prompts = [line["prompt"] for line in panel.history]
    assert prompts[0].startswith("a b\nccc") and len(prompts[0]) == 100
    assert prompts[1:] == ["Two?", "<s>given in a cell"]
    for form in still_forms([panel]).values():
        said = html.unescape(form)
        assert "'Two?'" in said and "'<s>given in a cell'" in said


def test_the_saved_form_says_where_a_run_ends_and_how_it_ended_in_the_words_of_the_live_one(
    session: Session,
) -> None:
    panel = RunPanel("ab", seed=1, max_tokens=1, stop_strings=["END", "\n"])
    panel.add(finished(session, 1, n=2))
    words = panel.history[0]["ended"]
    assert words == panel.meters["ended"] == "reached max tokens"
    for form in still_forms([panel]).values():
        said = html.unescape(form)
        assert "seed 1, at most 1 token, stop at 'END', stop at '\\n'" in said and words in said
        assert "length" not in said


def test_the_text_form_has_no_times(session: Session) -> None:
    panel = RunPanel("ab", seed=1)
    panel.add(finished(session, 1, n=2))
    text = text_of(panel)
    assert text.splitlines()[0] == "RunPanel(finished, 1 run)"
    assert text.splitlines()[1] == "prompt 'ab', seed 1, at most 128 tokens"
    assert "Temperature" not in text.splitlines()[2]  # at 1 it has no effect
    assert text == text_of(panel)
    bundle, _ = panel._repr_mimebundle_()
    assert "<script" not in bundle["text/html"]


def test_the_code_runs_the_prompt_again(session: Session) -> None:
    panel = RunPanel('say "é"\n', seed=2, max_tokens=3)
    made: dict[str, Any] = {}
    exec(panel.to_code(), {"session": session, "chain": Chain([Greedy()])}, made)
    assert len(made["trace"]) <= 3
