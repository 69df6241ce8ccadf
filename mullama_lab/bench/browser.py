"""How soon the picture follows the hand, in a real JupyterLab in a headless Chromium."""

from __future__ import annotations

import statistics
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mullama_lab.bench.jupyter import NotebookPage, headless_chromium, jupyterlab, open_notebook
from mullama_lab.bench.table import Row

MOVES = 100
SETUP = """import mullama_lab as ml
model = ml.Model.load({source!r})
lab = ml.labs.SamplerLab(model, prompt="The capital of France is", max_tokens=4000)
lab"""
BLOCKING = """reason = ""
while reason != "stopped":
    reason = lab.session.generate("Once upon a time", max_tokens=4000).finish_reason
reason"""

# Move the temperature slider up every 20 ms; an event is answered when the picture shows its
# value or a later one.
DRAG = """async (moves) => {
  const card = [...document.querySelectorAll('.mll-ce input[type=range]')]
    .find((input) => input.getAttribute('aria-label')?.startsWith('Temperature'));
  const picture = document.querySelector('.mll-nt');
  const shown = () => Number(/Temperature\\(([0-9.]+)/.exec(picture.textContent)?.[1]);
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
    """Slider latency with and without the server extension, and while a cell generates."""
    with headless_chromium(chromium) as browser:
        for nagle in (False, True):
            with _open(browser, source, nagle) as page:
                name = "slider to changed picture, ms (95 %)"
                if nagle:
                    yield _row(f"{name}, without the server extension", _drag(page))
                    continue
                yield from _with_bounds(name, _drag(page), 30, 60)
                yield from _while_busy(page)


def _while_busy(page: NotebookPage) -> Iterator[Row]:
    page.run_cell(1, wait=False)
    page.page.wait_for_selector(".mll-rp[data-state=running]", timeout=30_000)
    busy = _drag(page)
    page.page.get_by_role("button", name="Stop").click()
    page.wait_until_idle(timeout=20)
    yield _row("slider to changed picture while a cell generates, ms (95 %)", busy, 60)
    stopped = "'stopped'" in page.outputs()
    yield Row("Stop in the lab ends that cell (1 is yes)", str(int(stopped)), value=stopped,
              target=1, at_least=True)  # fmt: skip


def _with_bounds(name: str, times: list[float], median: float, worst: float) -> Iterator[Row]:
    yield _row(name, times, median)
    p95 = statistics.quantiles(times, n=20)[-1]
    yield Row(f"{name.split(',')[0]}, 95th percentile, ms", f"{p95:.1f}", value=p95, target=worst)


def _row(name: str, times: list[float], target: float | None = None) -> Row:
    median, p95 = statistics.median(times), statistics.quantiles(times, n=20)[-1]
    return Row(name, f"{median:.1f} ({p95:.1f})", value=median, target=target)


def _drag(page: NotebookPage) -> list[float]:
    result = page.page.evaluate(DRAG, MOVES)
    if result["lost"]:
        raise RuntimeError(f"{result['lost']} of {MOVES} moves of the slider were never shown")
    return result["latency"]


class _open:
    """A JupyterLab with a SamplerLab in it, for one configuration."""

    def __init__(self, browser: Any, source: str, nagle: bool) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="mullama-bench-")
        environment = {"MULLAMA_LAB_NAGLE": "1"} if nagle else {}
        self._server = jupyterlab(Path(self._folder.name), environment)
        self._browser, self._source = browser, source

    def __enter__(self) -> NotebookPage:
        server = self._server.__enter__()
        cells = [SETUP.format(source=self._source), BLOCKING]
        self.page = open_notebook(self._browser, server, cells, width=1400, height=1200)
        self.page.run_cell(0)
        self.page.page.wait_for_selector(".mll-lab .mll-nt", timeout=60_000)
        self.page.page.wait_for_timeout(3000)
        return self.page

    def __exit__(self, *_: object) -> None:
        self.page.close()
        self._server.__exit__(None, None, None)
        self._folder.cleanup()
