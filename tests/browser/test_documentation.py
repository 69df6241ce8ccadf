"""The documentation in a browser: nothing is fetched, nothing complains, nothing is cut off."""

from __future__ import annotations

import pytest

PAGES = ("index", "keys", "recipes/text", "notebooks/00_tour", "api/sessions")


@pytest.mark.parametrize("width", [700, 1400])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_pages_need_no_network_and_no_sideways_scroll(documentation, browser, scheme, width):
    context = browser.new_context(
        viewport={"width": width, "height": 900}, color_scheme=scheme, offline=True
    )
    try:
        page = context.new_page()
        asked, complaints = [], []
        page.on("request", lambda request: asked.append(request.url))
        page.on("console", lambda said: said.type == "error" and complaints.append(said.text))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        for name in PAGES:
            page.goto((documentation / f"{name}.html").as_uri())
            assert page.evaluate("document.documentElement.scrollWidth") <= width, name
            assert page.evaluate("document.documentElement.dataset.theme") == scheme
        assert not complaints
        assert all(url.startswith(("file:", "data:")) for url in asked), asked
    finally:
        context.close()
