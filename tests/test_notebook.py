"""What IPython shows, and the magics `%%llama` and `%%monitor`."""

from __future__ import annotations

import subprocess
import sys
import time

import pytest
from IPython.core.error import UsageError
from IPython.core.interactiveshell import InteractiveShell
from IPython.utils.capture import capture_output
from jupyter_client.manager import KernelManager

import mullama_lab as ml
from mullama_lab.engine import tiny


@pytest.fixture(scope="module")
def shell():
    shell = InteractiveShell.instance()
    shell.run_line_magic("load_ext", "mullama_lab")
    yield shell
    InteractiveShell.clear_instance()


@pytest.fixture
def session(tiny_model, shell):
    with tiny_model.session(n_ctx=256) as session:
        shell.user_ns["session"] = session
        yield session


def forms(shell, value):
    return shell.display_formatter.format(value)[0]


def test_a_model_shows_its_card(shell, tiny_model):
    data = forms(shell, tiny_model)
    assert "vocabulary" in data["text/plain"] and "<table" in data["text/html"]


def test_an_encoder_shows_its_card_with_what_is_to_be_said(shell, tiny_model):
    with ml.MultiVectorEncoder(tiny_model) as encoder:
        data = forms(shell, encoder)
    for form in data.values():
        assert "none in the file" in form and "untrained for this" in form


def test_importing_is_enough_for_the_displays():
    code = (
        "from IPython.core.interactiveshell import InteractiveShell\n"
        "shell = InteractiveShell.instance()\n"
        "import mullama_lab\n"
        "formatter = shell.display_formatter.mimebundle_formatter\n"
        "assert ('mullama_lab.engine.trace.trace', 'Trace') in formatter.deferred_printers\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_trace_shows_itself_as_tokens(shell, session):
    data = forms(shell, session.generate("Hello", max_tokens=4, seed=1))
    assert "4 tokens" in data["text/plain"] or "tokens" in data["text/plain"]
    assert "application/vnd.jupyter.widget-view+json" in data


def test_a_run_shows_its_tokens_as_they_come(shell, session):
    run = session.start("Hello", max_tokens=4, seed=1)
    data = forms(shell, run)
    run.wait()
    assert "application/vnd.jupyter.widget-view+json" in data


def test_a_preview_shows_its_stages(shell, session, tiny_model):
    view = ml.Chain([ml.TopK(5)]).preview(session.logits("Hello"), model=tiny_model)
    assert "TopK(5)" in forms(shell, view)["text/plain"]


def test_a_cell_is_a_prompt(shell, session):
    line = "--temp 0 --max-tokens 6 --seed 3 --session session -o made"
    shell.run_cell_magic("llama", line, "Hello\n")
    made = shell.user_ns["made"]
    same = session.generate("Hello", made.chain, max_tokens=6, seed=3)
    assert made.tokens.tolist() == same.tokens.tolist()
    assert ml.Temperature(0) in made.chain.stages


def test_cells_on_a_model_share_one_session_and_its_prefix(shell, tmp_path):
    path = tiny.write(tmp_path / "a.gguf")
    with ml.Model.load(path) as model, ml.Model.load(path) as other:
        shell.user_ns.update(model=model, other=other)
        for prompt in ("Hello there " * 20, "Hello there " * 20 + "you"):
            line = "--max-tokens 2 --seed 1 --session model -o made"
            shell.run_cell_magic("llama", line, prompt)
        assert len(model._handles) == 1
        assert shell.user_ns["made"].n_prompt_decoded < len(model.tokenize("Hello there " * 20))
        (session,) = model._handles
        shell.run_cell_magic("llama", "--max-tokens 2 --session other", "Hello there")
        assert session.closed and len(other._handles) == 1
        shell.run_cell_magic("llama", "--max-tokens 2 --session model", "Hello there")
        (again,) = (handle for handle in model._handles if not handle.closed)
        again.close()
        shell.run_cell_magic("llama", "--max-tokens 2 --session model", "Hello there")


@pytest.mark.parametrize(
    "line",
    ["--temp -1 --session session", "--seed -5 --session session", "--session nobody", "-o 1x",
     "-o for", "--max-tokens -1 --session session", "--chain nobody --session session",
     "--model nobody", "--model session --session session", "--stop '\\x' --session session",
     "--system", "--nobody"],
)  # fmt: skip
def test_wrong_options_are_said_without_a_traceback(shell, session, line):
    with pytest.raises(UsageError):
        shell.run_cell_magic("llama", line, "Hello")


def test_wrong_options_end_nothing(shell, session):
    with pytest.raises(UsageError, match="nobody"):
        shell.run_cell_magic("llama", "--chain nobody --session session", "Hello")
    shell.run_cell_magic("llama", "--max-tokens 2 --session session -o after", "Hello")
    assert len(shell.user_ns["after"]) > 0


def test_a_cell_may_be_a_message_to_the_model(shell, tmp_path):
    with ml.Model.load(tiny.write(tmp_path / "chat.gguf", chat_template=tiny.CHATML)) as model:
        shell.user_ns["chatty"] = model
        line = "--max-tokens 3 --seed 1 --model chatty -o said"
        for options, told in (("--chat", []), ("--system 'Be \"brief\".'", ['Be "brief".'])):
            shell.run_cell_magic("llama", f"{options} {line}", "Hello")
            messages = [{"role": "system", "content": text} for text in told]
            messages.append({"role": "user", "content": "Hello"})
            rendered = model.render_chat(messages)
            assert shell.user_ns["said"].prompt_tokens.tolist() == list(rendered.tokens)


def test_a_chain_is_a_variable_or_a_preset(shell, session):
    line = "--max-tokens 3 --seed 1 --session session -o made --chain"
    shell.user_ns["mine"] = ml.TopK(7)
    for name, chain in (("mine", ml.Chain.of(ml.TopK(7))), ("greedy", ml.Chain.preset("greedy"))):
        shell.run_cell_magic("llama", f"{line} {name}", "Hello")
        assert shell.user_ns["made"].chain == chain
    shell.run_cell_magic("llama", f"{line} mine --temp 0.5", "Hello")
    assert shell.user_ns["made"].chain == ml.TopK(7) | ml.Temperature(0.5)


def test_a_text_stops_the_answer(shell, session):
    line = "--max-tokens 30 --seed 1 --session session -o made"
    shell.run_cell_magic("llama", line, "Hello")
    text = shell.user_ns["made"].text
    stop = next(c for c in text[3:] if c.isalnum())
    shell.run_cell_magic("llama", f'{line} --stop "\\n" --stop {stop}', "Hello")
    made = shell.user_ns["made"]
    assert made.finish_reason == "stop" and stop not in made.text


def test_a_model_named_by_its_path_is_loaded_once(shell, tiny_path):
    for _ in range(2):
        shell.run_cell_magic("llama", f"--max-tokens 2 --model {tiny_path}", "Hello")
        magics = shell.find_cell_magic("llama").__self__
    first = magics._fetched[1]
    shell.run_cell_magic("llama", f"--max-tokens 2 --model {tiny_path}", "Hello")
    assert magics._fetched[1] is first


def test_help_lists_the_options_and_runs_nothing(shell, session, capsys):
    shell.run_cell_magic("llama", "--help --session session", "Hello")
    shell.run_line_magic("llama", "--help")
    said = capsys.readouterr().out
    for option in ("--chat", "--system", "--model", "--chain", "--stop", "--seed"):
        assert said.count(f"{option} ") >= 2
    assert session.last_trace is None
    with pytest.raises(UsageError, match="lines below"):
        shell.run_line_magic("llama", "--seed 1")


@pytest.mark.parametrize(
    ("line", "offered"),
    [("%%llama --sy", "--system"), ("%%llama --chain gre", "greedy"),
     ("%%llama --session ses", "session"), ("%%llama --model smol", "smollm2-135m")],
)  # fmt: skip
def test_tab_completes_options_and_names(shell, session, line, offered):
    found = shell.Completer.complete(line_buffer=line, cursor_pos=len(line))[1]
    assert offered in found


# %%monitor


def monitored(shell, line, cell, error=None):
    """What a cell shows as HTML and as text, however it ends."""
    with capture_output() as captured:
        if error is None:
            shell.run_cell_magic("monitor", line, cell)
        else:
            with pytest.raises(error):
                shell.run_cell_magic("monitor", line, cell)
    (shown,) = captured.outputs
    return shown.data["text/html"], shown.data["text/plain"]


ENDLESS = "ml.Mask(ban=[2])"


@pytest.fixture
def names(shell, session):
    shell.user_ns.update(ml=ml, session=session)
    return shell.user_ns


def test_a_monitored_cell_runs_as_it_would_and_shows_its_table(shell, session, names):
    cell = f"n = 5\ntrace = session.generate([1, 5], {ENDLESS}, max_tokens=n)\n"
    html, text = monitored(shell, "-o seen", cell)
    assert names["n"] == 5 and names["seen"].n_generated == 5 and not names["seen"].running
    assert "<table" in html and "<script" not in html and "tokens/s" in html
    assert text == names["seen"].to_text() and text.startswith("Monitor of every session: stopped")


def test_what_stands_last_in_a_monitored_cell_is_its_value(shell, names):
    with capture_output():
        assert shell.run_cell_magic("monitor", "", "x = 20\nx + 1\n") == 21
        assert shell.run_cell_magic("monitor", "", "x + 2") == 22
        assert shell.run_cell_magic("monitor", "", "y = x\n") is None
        assert shell.run_cell_magic("monitor", "", "%env HOME\n") is not None  # a magic in it
        assert shell.run_cell_magic("monitor", "", "\n") is None
        assert shell.run_cell_magic("monitor", "", "x + 3;\n") is None


def test_a_monitored_cell_may_be_about_one_session_and_open_others(shell, session, names):
    cell = f"""
session.generate([1, 5], {ENDLESS}, max_tokens=3)
with session.model.session(n_ctx=64) as other:
    other.generate([1, 5], {ENDLESS}, max_tokens=4)
"""
    for line, n in (("-o seen --session session", 3), ("-o seen --interval 0.01", 7)):
        monitored(shell, line, cell)
        assert names["seen"].n_generated == n


def test_a_monitored_cell_that_fails_shows_its_table_and_fails(shell, session, names):
    cell = f"session.generate([1, 5], {ENDLESS}, max_tokens=3)\n1 / 0\n"
    html, text = monitored(shell, "-o seen", cell, ZeroDivisionError)
    assert names["seen"].n_generated == 3 and not names["seen"].running
    assert "<table" in html and "2 readings" in text
    with capture_output() as captured:
        result = shell.run_cell("%%monitor\n1 / 0", store_history=True)
    assert isinstance(result.error_in_exec, ZeroDivisionError)
    assert "1 / 0" in captured.stdout  # the line, in the traceback
    assert captured.stdout.count(f"In[{result.execution_count}]") == 2


def test_await_in_a_monitored_cell_is_refused_with_a_way_out(shell, names):
    with pytest.raises(UsageError, match="Write `with Monitor"):
        shell.run_cell_magic("monitor", "", "await session.start('abc', max_tokens=3)")


def test_a_monitored_cell_that_is_interrupted_shows_its_table_too(shell, session, names):
    cell = f"""
import _thread
run = session.start([1, 5], {ENDLESS}, max_tokens=200)
run.on_step(lambda step: _thread.interrupt_main() if len(run.trace) == 2 else None)
run.wait()
while True:
    pass
"""
    _, text = monitored(shell, "-o seen", cell, KeyboardInterrupt)
    names["run"].stop_and_wait()
    assert "time to first token" in text and names["seen"].n_generated >= 2


@pytest.mark.parametrize(
    "line",
    ["--interval 0", "--interval nan", "--interval x", "--session nobody", "--session ml", "-o 1x",
     "--nobody"],
)  # fmt: skip
def test_wrong_options_of_a_monitored_cell_are_said_and_it_does_not_run(shell, names, line):
    names["ran"] = False
    with pytest.raises(UsageError):
        shell.run_cell_magic("monitor", line, "ran = True")
    assert names["ran"] is False


def test_the_help_of_monitor_lists_the_options_and_runs_nothing(shell, names, capsys):
    names["ran"] = False
    shell.run_cell_magic("monitor", "--help", "ran = True")
    shell.run_line_magic("monitor", "--help")
    said = capsys.readouterr().out
    for option in ("--interval", "--gpu", "--session", "--output"):
        assert said.count(option) >= 2
    assert names["ran"] is False
    with pytest.raises(UsageError, match="runs the lines below it"):
        shell.run_line_magic("monitor", "")


@pytest.mark.parametrize(
    ("line", "offered"),
    [("%%monitor --int", "--interval"), ("%%monitor --session ses", "session")],
)
def test_tab_completes_what_monitor_takes(shell, names, line, offered):
    assert offered in shell.Completer.complete(line_buffer=line, cursor_pos=len(line))[1]


def test_an_interrupt_before_the_tokens_show_stops_the_generation_too(shell, session, monkeypatch):
    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr("mullama_lab.notebook.display", interrupted)
    with pytest.raises(KeyboardInterrupt):
        shell.run_cell_magic("llama", "--session session -o made", "Hello")
    assert shell.user_ns["made"] is session.last_trace
    assert session.run.done and session.run.stop_requested


@pytest.mark.usefixtures("no_event_loop")
def test_a_cell_awaits_a_run_and_reads_a_stream(shell, session):
    cell = """
    trace = await session.start("abc", max_tokens=3, seed=1)
    steps = [step async for step in session.stream("abc", max_tokens=3, seed=1)]
    """
    shell.run_cell(cell).raise_error()
    names = shell.user_ns
    assert len(names["trace"]) > 0
    assert "".join(step.text for step in names["steps"]) == names["trace"].text


def test_a_kernel_ends_and_restarts_at_once_while_threads_are_in_native_calls(tiny_path):
    code = f"""
import threading
import mullama_lab as ml
model = ml.Model.load({str(tiny_path)!r})
session = model.session(n_ctx=4096)
run = session.start("abc", ml.Mask(ban=[2]), max_tokens=4000)
def tokenize():
    while True:
        model.tokenize("abc " * 500)
for _ in range(2):
    threading.Thread(target=tokenize, daemon=True).start()
"""
    manager = KernelManager(kernel_name="python3")
    manager.start_kernel()
    client = manager.client()
    client.start_channels()
    try:
        for end in (manager.restart_kernel, manager.shutdown_kernel):
            client.wait_for_ready(timeout=60)
            reply = client.execute(code, reply=True, timeout=60)
            assert reply["content"]["status"] == "ok", reply["content"]
            began = time.monotonic()
            end()
            assert time.monotonic() - began < 4  # one that takes 5 seconds is killed
    finally:
        client.stop_channels()
        if manager.is_alive():
            manager.shutdown_kernel(now=True)
