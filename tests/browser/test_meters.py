"""The meters in a real JupyterLab: they follow a monitor without being asked to."""

from __future__ import annotations

import pytest

SETUP = """
import mullama_lab as ml
model = ml.Model.load('smollm2-135m')
session = model.session(n_ctx=1024)
monitor = ml.studies.monitor.Monitor(session, interval=0.05)
view = ml.widgets.Meters(monitor)
"""
WORK = """
monitor.start()
chain = ml.Mask(ban=range(5)) | ml.Chain.default()
_ = session.generate("Once upon a time", chain, max_tokens=60, seed=7)
"""
SIDE_BAR = "window.jupyterapp.commands.execute('filebrowser:activate')"
ASKED = """() => {
    const kernel = window.jupyterapp.shell.currentWidget.sessionContext.session.kernel;
    window.asked = 0;
    kernel.anyMessage.connect((_, {msg, direction}) => {
        const method = direction === 'send' && msg.content?.data?.method;
        window.asked += ['custom', 'update', 'request_state'].includes(method);
    });
}"""


@pytest.fixture
def page(notebook):
    page = notebook([SETUP, "view", WORK, "monitor.stop()"], width=1400, height=757)
    page.run_cell(0)
    page.run_cell(1)
    page.view.get_by_text("the monitor was not started").wait_for()
    page.page.evaluate(SIDE_BAR)
    page.settled()
    return page


def test_they_follow_the_monitor_and_ask_the_kernel_nothing(page):
    page.page.evaluate(ASKED)
    page.run_cell(2)
    meters = page.view.locator(".mll-me-meter")
    meters.nth(2).wait_for()
    page.page.evaluate("window.drawn = document.querySelector('.mll-me-meter')")
    page.page.wait_for_function("!window.drawn.isConnected")  # drawn anew
    assert page.page.evaluate("window.asked") == 0
    page.run_cell(3)
    page.view.get_by_text("; stopped").wait_for()
    page.settled()
    page.picture("meters")
    page.dark()
    page.picture("meters-dark")
    page.dark(False)
    page.page.set_viewport_size({"width": 700, "height": 757})
    page.settled()
    page.picture("meters-700")
    assert page.view.first.evaluate("(view) => view.scrollWidth <= view.clientWidth + 1")
    assert "tokens/s: now" in meters.first.locator("[role=img]").get_attribute("aria-label")
    page.view.get_by_text("Show as table").click()
    assert page.view.locator(".mll-table tbody tr").count() == meters.count()
