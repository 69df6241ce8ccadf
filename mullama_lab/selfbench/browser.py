"""How soon the picture follows the hand, in a real JupyterLab in a headless Chromium."""

from __future__ import annotations

import re
import statistics
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from mullama_lab.selfbench.jupyter import NotebookPage, headless_chromium, jupyterlab, open_notebook
from mullama_lab.selfbench.table import Row

MOVES = 100
SETUP = """import mullama_lab as ml
model = ml.Model.load({source!r})
lab = ml.labs.SamplerLab(model, prompt="The capital of France is", max_tokens=4000)
lab"""
BARE = """import anywidget, traitlets
class Bare(anywidget.AnyWidget):
    _esm = '''export default {render({model, el}) {
      const input = document.createElement('input');
      const text = document.createElement('p');
      Object.assign(input, {type: 'range', min: 0, max: 2, step: 0.01, value: model.get('value')});
      input.addEventListener('input', () => {
        model.set('value', Number(input.value));
        model.save_changes();
      });
      const show = () => { text.textContent = model.get('shown'); };
      model.on('change:shown', show);
      show();
      input.className = 'bare-slider';
      text.className = 'bare-picture';
      el.append(input, text);
    }}'''
    value = traitlets.Float(0.8).tag(sync=True)
    shown = traitlets.Unicode("(0.8)").tag(sync=True)
    @traitlets.observe("value")
    def _answer(self, change):
        self.shown = f"({change.new})"
Bare()"""
DIAL = """import numpy as np
random = np.random.default_rng(1)
vector = ml.ControlVector(
    {layer: random.normal(size=model.n_embd) for layer in range(1, model.n_layer)}
)
dial = ml.widgets.Dial(vector, on=model.session(), prompt="The capital of France is")
dial.slider = [0, 2]
dial"""
DECODES = """from time import perf_counter
session, times = model.session(), []
for i in range(50):
    session.control = (1 + i / 100) * vector
    begun = perf_counter()
    session.logits("The capital of France is")
    times.append(perf_counter() - begun)
print(f"a decode takes {1e3 * np.median(times):.2f} ms")"""
BLOCKING = """reason = ""
while reason != "stopped":
    reason = lab.session.generate("Once upon a time", max_tokens=4000).finish_reason
reason"""

LAB = {
    "slider": ".mll-ce input[type=range][aria-label^=Temperature]",
    "picture": ".mll-nt",
    "value": r"Temperature\(([0-9.]+)",
}
BARE_WIDGET = {"slider": ".bare-slider", "picture": ".bare-picture", "value": r"\(([0-9.]+)"}
DIALLED = {
    "slider": ".mll-dl:not(.mll-lab *) input[type=range]",  # which has a dial too
    "picture": ".mll-dl:not(.mll-lab *) table",
    "value": r"at 0at ([0-9.]+)",  # the heads of its columns
}

LAB_CELL, BLOCKING_CELL, BARE_CELL, DIAL_CELL, DECODES_CELL = range(5)

# Move a slider up every 20 ms; an event is answered when the picture shows its value or a later
# one.
DRAG = """async ({names, moves}) => {
  const card = document.querySelector(names.slider);
  const picture = document.querySelector(names.picture);
  const shown = () => Number(new RegExp(names.value).exec(picture.textContent)?.[1]);
  const move = (value) => {
    card.value = Number(card.min) + (Number(card.max) - Number(card.min)) * value / 2;
    card.dispatchEvent(new Event('input', {bubbles: true}));
  };
  move(0.8);
  card.dispatchEvent(new Event('change', {bubbles: true}));
  for (let i = 0; i < 250 && shown() !== 0.8; i++) await new Promise((go) => setTimeout(go, 20));
  const sent = [];
  const latency = [];
  const look = () => {
    const now = performance.now();
    const value = shown();
    while (sent.length && sent[0].value <= value + 1e-9) latency.push(now - sent.shift().at);
  };
  const observer = new MutationObserver(look);
  observer.observe(picture, {subtree: true, childList: true, characterData: true});
  for (let i = 1; i <= moves; i++) {
    const value = Math.round((0.8 + i / 100) * 100) / 100;
    sent.push({value, at: performance.now()});
    move(value);
    await new Promise((go) => setTimeout(go, 20));
  }
  card.dispatchEvent(new Event('change', {bubbles: true}));
  for (let i = 0; i < 200 && sent.length; i++) await new Promise((go) => setTimeout(go, 20));
  observer.disconnect();
  return {latency, lost: sent.length};
}"""


def rows(source: str, chromium: str | None) -> Iterator[Row]:
    """Slider latency with and without the server extension, and while a cell generates.

    The peer is a widget that only repeats its number, in the same notebook before the lab is in
    it: no lab can be faster than that.
    """
    name = "slider to changed picture, ms (95 %)"
    with headless_chromium(chromium) as browser:
        with _open(browser, source, nagle=False) as page:
            page.run_cell(BARE_CELL)
            page.page.wait_for_selector(BARE_WIDGET["picture"], timeout=30_000)
            least = statistics.median(_drag(page, BARE_WIDGET))
            _show_lab(page)
            dragged = _drag(page)
            yield from _with_bounds(name, dragged, f"{least:.1f}", 30, 60)
            yield _dial(page, statistics.median(dragged))
            yield from _while_busy(page)
        with _open(browser, source, nagle=True) as page:
            _show_lab(page)
            yield _row(f"{name}, without the server extension", _drag(page))


def _show_lab(page: NotebookPage) -> None:
    page.run_cell(LAB_CELL)
    page.page.wait_for_selector(".mll-lab .mll-nt", timeout=60_000)
    page.page.wait_for_timeout(3000)


def _dial(page: NotebookPage, lab: float) -> Row:
    """A dial computes its row anew: what a slider of the lab takes, and a decode."""
    page.run_cell(DIAL_CELL)
    page.page.wait_for_selector(DIALLED["picture"], timeout=30_000)
    page.run_cell(DECODES_CELL)
    decode = float(re.findall(r"a decode takes ([0-9.]+) ms", page.outputs())[-1])
    times = _drag(page, DIALLED)
    median, p95 = statistics.median(times), statistics.quantiles(times, n=20)[-1]
    peer = decode + lab
    return Row(
        "slider to changed picture of a dial, ms (95 %), against the lab's and a decode",
        f"{median:.1f} ({p95:.1f})",
        f"{peer:.1f}",
        median / peer,
        1.0,
    )


def _while_busy(page: NotebookPage) -> Iterator[Row]:
    page.run_cell(BLOCKING_CELL, wait=False)
    page.page.wait_for_selector(".mll-rp[data-state=running]", timeout=30_000)
    busy = _drag(page)
    page.page.get_by_role("button", name="Stop").click()
    page.wait_until_idle(timeout=20)
    yield _row("slider to changed picture while a cell generates, ms (95 %)", busy, 60)
    stopped = "'stopped'" in page.outputs()
    yield Row("Stop in the lab ends that cell (1 is yes)", str(int(stopped)), value=stopped,
              target=1, at_least=True)  # fmt: skip


def _with_bounds(
    name: str, times: list[float], peer: str, median: float, worst: float
) -> Iterator[Row]:
    yield _row(name, times, median, peer)
    p95 = statistics.quantiles(times, n=20)[-1]
    yield Row(f"{name.split(',')[0]}, 95th percentile, ms", f"{p95:.1f}", value=p95, target=worst)


def _row(name: str, times: list[float], target: float | None = None, peer: str = "") -> Row:
    median, p95 = statistics.median(times), statistics.quantiles(times, n=20)[-1]
    return Row(name, f"{median:.1f} ({p95:.1f})", peer, median, target)


def _drag(page: NotebookPage, names: dict[str, str] = LAB) -> list[float]:
    result = page.page.evaluate(DRAG, {"names": names, "moves": MOVES})
    if result["lost"]:
        raise RuntimeError(f"{result['lost']} of {MOVES} moves of the slider were never shown")
    return result["latency"]


@contextmanager
def _open(browser: Any, source: str, *, nagle: bool) -> Iterator[NotebookPage]:
    """A JupyterLab with a notebook of these cells, not yet run, for one configuration."""
    environment = {"MULLAMA_LAB_NAGLE": "1"} if nagle else {}
    cells = [SETUP.format(source=source), BLOCKING, BARE, DIAL, DECODES]
    with (
        tempfile.TemporaryDirectory(prefix="mullama-bench-") as folder,
        jupyterlab(Path(folder), environment) as server,
        closing(open_notebook(browser, server, cells, width=1400, height=1200)) as page,
    ):
        yield page
