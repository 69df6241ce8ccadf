"""The workbench: one session, one chain and one history, whatever panels are shown."""

from __future__ import annotations

import threading
from xml.etree import ElementTree

import pytest
from page import ask, ask_data, reply_to

import mullama_lab as ml
from mullama_lab.engine import tiny
from mullama_lab.engine.trace.divergence import where_they_part
from mullama_lab.glyphs import piece_label

CHAIN = ml.Mask(ban=[2]) | ml.TopK(20) | ml.Temperature(0.9)


@pytest.fixture
def bench(tiny_model):
    panels = ["samplers", "what-if"]
    bench = ml.Workbench(tiny_model, "Hello", chain=CHAIN, seed=7, max_tokens=12, panels=panels)
    bench.wait()
    yield bench
    bench.close()


def test_what_is_turned_in_one_panel_shows_in_all(bench):
    trace = bench.run()
    bench.wait()
    bench.set("TopK", k=1)
    bench.wait()
    assert bench.preview.stages[1].n_kept == 1
    assert "TopK(1)" in bench.bar.note
    assert bench.what_if.bars["label"] == "TopK k"
    branch = bench.branch(3, next(int(t) for t in trace.top_ids[3] if t != trace.tokens[3]))
    assert branch.chain == bench.chain
    assert len(bench.tree) == len(bench.panel.runs) == 2
    assert bench.trace is branch


def test_the_labs_are_arrangements_of_it(tiny_model):
    for lab, panels in ((ml.labs.SamplerLab, ["samplers"]), (ml.labs.BranchLab, ["tree"])):
        made = lab(tiny_model, "Hello", chain=CHAIN, max_tokens=4)
        assert isinstance(made, ml.Workbench) and made.panels == panels
        made.run()
        assert len(made.tree) == len(made.panel.runs) == 1
        made.close()


def test_panels_are_arranged_from_python_and_wrong_ones_are_refused(bench):
    bench.set(panels=["tree", "samplers"])
    assert bench.panels == ["tree", "samplers"]
    bench.panels = "what-if"
    for wrong in ([], ["inside"], ["tree", "tree"]):
        with pytest.raises(ValueError, match="panel"):
            bench.set(seed=3, panels=wrong)
        with pytest.raises(ValueError, match="panel"):
            bench.panels = wrong
        with pytest.raises(ValueError, match="panel"):
            ml.Workbench(panels=wrong)
    assert bench.panels == ["what-if"] and bench.panel.seed == 7


def test_its_still_forms_show_the_panels_that_are_open(bench):
    bench.run()
    bench.panels = ["tree"]
    shown = bench._repr_mimebundle_()[0]["text/plain"]
    assert "[1 branch" in shown and "ChainEditor" not in shown
    bench.panels = ["samplers"]
    shown = bench._repr_mimebundle_()[0]["text/plain"]
    assert "ChainEditor" in shown and "[1 branch" not in shown


def test_its_picture_says_that_it_is_one_and_how_to_go_on(bench):
    form = bench._repr_mimebundle_()[0]["text/html"]
    first = ElementTree.fromstring(form)[0]
    said = "".join(first.itertext())
    assert said.startswith("A picture of the lab") and "lab.save(path)" in said


def test_a_stop_string_ends_runs_and_branches_before_it(bench):
    text = bench.run().text
    stop = text[4:6]
    bench.set(stop_strings=[stop])
    assert bench.run().text == text[: text.index(stop)]
    assert bench.trace.finish_reason == "stop"
    assert f"stop=[{stop!r}]" in bench.panel.to_code()
    for wrong in ([""], 7, ["x" * 2000]):
        with pytest.raises(ValueError):
            bench.set(stop_strings=wrong)


def test_its_code_makes_the_same_bench(bench, tiny_path):
    bench.set(seed=3, panels=["tree", "samplers"], stop_strings=["~"])
    bench.session.model.source, kept = str(tiny_path), bench.session.model.source
    try:
        scope: dict[str, object] = {}
        exec(bench.to_code(), scope)
    finally:
        bench.session.model.source = kept
    again = scope["bench"]
    assert again.run().tokens.tolist() == bench.run().tokens.tolist()
    assert (again.panels, again.chain) == (bench.panels, bench.chain)
    assert again.panel.stop_strings == ["~"]
    again.close(), scope["session"].close(), scope["model"].close()


def test_runs_are_compared_by_their_numbers(bench):
    traces = [bench.run()]
    bench.set(seed=8)
    traces.append(bench.run())
    assert bench.compare(1, 2).sides[1].first == where_they_part(*traces)


def test_one_key_bans_a_token_of_the_distribution_and_allows_it_again(bench):
    token = bench.preview.choice
    ask(bench.next_token, "bias", {"token": token, "ban": True})
    assert bench.preview.choice != token
    assert bench.chain[0] == ml.LogitBias({token: float("-inf")})
    ask(bench.next_token, "bias", {"token": token, "ban": True})
    assert bench.preview.choice == token and bench.chain == ml.Chain.of(CHAIN)
    for _ in range(2):
        ask(bench.next_token, "bias", {"token": 65, "ban": False})
    assert bench.chain[0] == ml.LogitBias({65: 2.0})
    bench.editor.reset()
    assert bench.chain == ml.Chain.of(CHAIN)


def test_the_list_of_runs_says_of_each_what_it_has_otherwise_than_the_one_before(bench):
    bench.run()
    bench.set("Temperature", t=1.64)
    token = int(bench.run().tokens[0])
    ask(bench.strip, "bias", {"token": token, "ban": True})
    bench.run()
    bench.run()
    said = f"with Logit bias (bans {piece_label(bench.session.model.piece(token))})"
    was = next(stage.t for stage in ml.Chain.of(CHAIN) if isinstance(stage, ml.Temperature))
    differs = [line["differs"] for line in bench.panel.history]
    assert differs == ["", f"Temperature {was:g} → 1.64", said, ""]


def test_one_key_bans_a_token_of_the_text_and_the_next_run_has_another(bench):
    token = int(bench.run().tokens[0])
    ask(bench.strip, "bias", {"token": token, "ban": True})
    assert bench.chain[0] == ml.LogitBias({token: float("-inf")})
    said = f"bans {piece_label(bench.session.model.piece(token))}"
    assert bench.editor.cards[0]["tokens"] == said
    assert bench.editor.cards[0]["each_token"] == f"{token}: {said}"
    assert token not in bench.run().tokens
    assert bench.panel.history[-1]["chain"].startswith(f"LogitBias({said}) | ")
    assert f"LogitBias({said})" in bench.bar.note
    ask(bench.strip, "bias", {"token": token, "ban": True})
    assert bench.chain == ml.Chain.of(CHAIN)


def test_a_chain_that_does_not_fit_the_model_is_refused_whether_a_run_goes_on_or_not(bench, until):
    bench.editor.add("LogitBias")
    kept, cards = bench.chain, bench.editor.cards
    run = None
    for begin in (lambda: None, bench.start):
        bench.set(max_tokens=3000)
        run = begin()
        until(lambda now=run: now is None or len(now.trace) > 2)
        for change in (
            lambda: bench.set("LogitBias", biases={99999: 1.0}),
            lambda: bench.editor.add(ml.Mask(ban=[99999])),
            lambda: bench.set(chain=ml.Mask(ban=[99999])),
            lambda: setattr(bench.editor, "chain", ml.Chain.of(ml.Mask(ban=[99999]))),
        ):
            with pytest.raises(ValueError, match="99999"):
                change()
        reply = reply_to(bench.next_token, "bias", {"token": 2**31 - 1, "ban": True})
        assert not reply["ok"] and "2147483647" in reply["error"]
        assert (bench.chain, bench.editor.cards) == (kept, cards)
    assert run.chain == kept
    bench.stop()


def test_a_past_runs_settings_come_back_and_its_code_makes_its_text(tiny_model):
    lab = ml.labs.SamplerLab(tiny_model, "Hello", chain=CHAIN, seed=7, max_tokens=12)
    first, code = lab.run(), lab.to_code()
    lab.set(seed=9, chain=ml.Greedy(), max_tokens=300, stop_strings=[first.text[:1]])
    lab.run()
    assert reply_to(lab.panel, "restore", {"number": 1})["ok"]
    assert lab.panel.seed == 7 and lab.chain == ml.Chain.of(CHAIN)
    assert lab.to_code() == code
    assert lab.run().tokens.tolist() == first.tokens.tolist()
    lab.close()


def test_the_line_above_the_text_is_of_the_text(bench):
    def line():
        meters = bench.panel.meters
        return bench.panel.state, bench.panel.shown, meters.get("tokens"), meters.get("finish")

    first = bench.run()
    other = next(int(token) for token in first.top_ids[3] if token != first.tokens[3])
    bench.set(max_tokens=2)
    bench.branch(3, other)
    assert line() == ("finished", 2, 6, "length")
    bench.select(next(node.key for node in bench.tree.nodes if 1 in node.ends))
    assert line() == ("finished", 1, len(first), first.finish_reason)
    fork = next(node for node in bench.tree.nodes if len(node.branches) == 2 and node.stop)
    bench.select(fork.key)
    assert line() == ("finished", 0, 3, "cut")
    assert bench.strip.ended == bench.panel.meters["ended"] == "the beginning of a text"
    bench.set(prompt="Another")
    bench.explore(budget=2, length=2)
    bench.wait()
    assert not len(bench.trace) and line() == ("idle", 0, None, None)


CHAT = [{"role": "user", "content": "Hi"}]


def test_a_text_and_a_chat_each_have_their_own_run_in_sight(bench):
    def turn(chat):
        assert reply_to(bench.panel, "set", {"name": "chat", "value": chat})["ok"]

    text = bench.run()
    turn(True)
    assert bench.trace is None and bench.strip.n == 0 and bench.panel.state == "idle"
    turn(False)
    assert bench.trace is text and bench.panel.shown == 1 and bench.panel.state == "finished"
    bench.set(messages=CHAT, chat=True)
    answer = bench.run()
    turn(False)
    assert bench.trace is text and bench.panel.shown == 1
    turn(True)
    assert bench.trace is answer and bench.panel.shown == 2


@pytest.fixture
def talk(tiny_model):
    talk = ml.Workbench(tiny_model, CHAT, chain=CHAIN, seed=7, max_tokens=6)
    yield talk
    talk.close()


def test_a_chat_is_answered_as_the_session_answers_it(talk):
    expected = talk.session.chat(CHAT, CHAIN, max_tokens=6, seed=7)
    answer = talk.run()
    assert answer.tokens.tolist() == expected.tokens.tolist()
    assert talk.panel.messages == [*CHAT, {"role": "assistant", "content": answer.text}]
    talk.wait()
    assert talk.next_token.view["note"] == "at the end of the last answer"


def test_who_waits_has_the_answer_that_is_being_put_into_the_chat(talk, monkeypatch):
    began, gate = threading.Event(), threading.Event()
    take, lock = talk.panel.take_answer, talk._desk._answering

    def slow(text, asked):
        began.set()
        gate.wait(60)
        take(text, asked)

    class Watched:
        """The lock; it opens the gate when a test comes to it meanwhile."""

        def __enter__(self):
            if began.is_set():
                gate.set()
            lock.acquire()

        def __exit__(self, *_):
            lock.release()

    monkeypatch.setattr(talk.panel, "take_answer", slow)
    monkeypatch.setattr(talk._desk, "_answering", Watched())
    talk.start()
    assert began.wait(60)
    talk.wait()
    last = talk.panel.messages[-1]["role"]
    gate.set()
    assert last == "assistant"


def test_an_answer_is_gone_on_with_and_made_anew(talk):
    first = talk.run().text
    talk.run()
    longer = talk.panel.messages[-1]["content"]
    assert len(talk.panel.messages) == 2 and longer.startswith(first) and longer != first
    assert reply_to(talk.panel, "regenerate")["ok"]
    talk.wait()
    assert talk.panel.seed == 8 and len(talk.panel.messages) == 2
    assert talk.panel.messages[-1]["content"] == talk.trace.text


def test_turns_that_are_changed_meanwhile_stay_as_they_were_typed(talk):
    run = talk.start()
    talk.set(messages=[{"role": "user", "content": "Another question"}])
    run.wait()
    talk.wait()
    assert talk.panel.messages == [{"role": "user", "content": "Another question"}]


def test_the_distribution_is_that_of_the_first_token_of_the_answer(talk):
    talk.wait()
    assert talk.preview.choice == talk.run().tokens[0]


def test_messages_of_the_wrong_shape_are_refused(talk):
    for wrong in ("Hi", [7], [{"role": "user"}], [{"role": "king", "content": ""}], [{}] * 300):
        reply = reply_to(talk.panel, "set", {"name": "messages", "value": wrong})
        assert not reply["ok"] and reply["error"]
    assert talk.panel.messages == CHAT


def test_a_chat_of_a_model_without_a_template_says_so_in_the_view(tmp_path):
    model = ml.Model.load(tiny.write(tmp_path / "plain.gguf"))
    bench = ml.Workbench(model, "Hello")
    bench.set(messages=CHAT, chat=True)
    assert "template" in bench.next_token.view["error"]
    assert reply_to(bench.panel, "run", {"name": "messages", "value": CHAT})["ok"]
    assert bench.panel.state == "failed" and "template" in bench.panel.message
    bench.set(chat=False)
    bench.wait()
    assert not bench.next_token.view["error"]
    bench.close(), model.close()


def test_the_marks_of_the_template_are_told_from_the_text(talk):
    talk.run()
    about, _ = ask_data(talk.strip, "prompt")
    tokens = talk.trace.prompt_tokens.tolist()
    pieces = [talk.session.model.piece(token) for token in tokens]
    marks = [pieces[i] for i in about["marks"]]
    assert set(marks) <= {b"<s>", b"<|im_start|>", b"<|im_end|>"} or marks == []
    spoken = [piece for i, piece in enumerate(pieces) if i not in about["marks"]]
    assert b"".join(spoken).decode().count("Hi") == 1


def test_the_list_of_runs_shows_no_mark_that_the_model_puts_before_a_prompt(bench):
    assert bench.session.model.add_bos
    bench.session.generate("from a cell", CHAIN, max_tokens=2)
    bench.session.generate([4, 5], CHAIN, max_tokens=2)
    bench.wait()
    piece = bench.session.model.piece
    prompts = [line["prompt"] for line in bench.panel.history]
    assert prompts[0].strip() == "from a cell"
    assert prompts[1] == "".join(piece_label(piece(token)) for token in (4, 5))
