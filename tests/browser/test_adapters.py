"""The panel of adapters under a real hand, in a real JupyterLab."""

from __future__ import annotations

import re

from mullama_lab.engine import tiny

SETUP = """
import mullama_lab as ml
model = ml.Model.load({tiny!r})
lab = ml.labs.AdapterLab(model, "Hello", seed=3, max_tokens=6)
lab.adapter_cards.add({adapter!r}, 0.5)
lab
"""
IN_FORCE = "print(lab.session.adapters.values(), lab.session.control == 2 * vector)"


def test_cards_are_added_turned_switched_and_removed(notebook, tiny_path, adapter, tmp_path):
    import mullama_lab as ml

    happy = tmp_path / "happy.gguf"
    ml.ControlVector({1: [0.5, -1.0] * 16}, name="happy").save(happy)
    setup = SETUP.format(tiny=str(tiny_path), adapter=str(adapter.path))
    load = f"vector = ml.ControlVector.load({str(happy)!r})\n{IN_FORCE}"
    page = notebook([setup, load], width=1400, height=757)
    page.run_cell(0)
    cards, dial = page.page.locator(".mll-ac"), page.page.locator(".mll-dl")
    card = cards.locator(".mll-ac-card")
    dial.locator("h3:has-text('without and with adapter')").wait_for()
    cards.locator(".mll-ac-force:has-text('In force: adapter × 0.5.')").wait_for()

    path = cards.get_by_label("Path of a file, or name of a vector, to add")
    path.fill(str(tmp_path / "nothing.gguf"))
    page.press("Enter")
    cards.locator(".mll-problem:has-text('does not exist')").wait_for()
    path.fill(str(happy))
    page.press("Enter")
    card.nth(1).wait_for()
    assert cards.locator(".mll-problem:not(:empty)").count() == 0
    dial.locator("h3:has-text('without and with happy')").wait_for()
    card.nth(1).locator(".mll-ac-about:has-text('control vector · 1 layer (1)')").wait_for()

    box = card.nth(1).get_by_label("happy, scale, exact")
    box.fill("2")
    page.press("Enter")
    dial.locator("th:text-is('at 2')").wait_for()
    dial.locator(".mll-dl-effect:has-text('nats')").wait_for()
    page.run_until(1, "dict_values([0.5]) True")
    card.first.get_by_role("switch").uncheck()
    cards.locator(".mll-ac-force:has-text('In force: happy × 2.')").wait_for()
    page.run_until(1, "dict_values([]) True")

    page.page.get_by_role("button", name="Run", exact=True).click()
    page.wait_for_state("finished")
    slider = card.nth(1).locator(".mll-range")
    slider.focus()
    page.press("ArrowLeft")
    cards.locator(".mll-ac-note:has-text('Run writes it anew')").wait_for()
    dial.locator("th:text-is('at 1.99')").wait_for()
    page.settled()
    page.picture("adapters")
    for name in (".mll-ac-force", ".mll-ac-note", ".mll-dl-effect", ".mll-dl tbody tr"):
        box = page.page.locator(name).first.bounding_box()
        assert box["y"] >= 0 and box["y"] + box["height"] <= 757, name

    card.first.get_by_role("button", name="Remove adapter").click()
    card.nth(1).wait_for(state="detached")
    cards.get_by_role("button", name="Run both").click()
    page.page.locator(".mll-rp-past:text-is('Runs (3)')").wait_for()
    page.page.locator(".mll-rp-drawer .mll-cmp:has-text('with control vector')").wait_for()
    page.picture("adapters-both")

    heads = page.page.locator(".mll-rp-drawer .mll-cmp thead th").all_inner_texts()
    base, changed = (re.match(r"run (\d)", head)[1] for head in heads[1:])  # as they have ended
    page.page.locator(f".mll-rp-drawer tr[data-run='{base}']").focus()
    page.press("r")
    said = f"run {base} are in force again, and the model as it is."
    page.page.get_by_text(said).first.wait_for()
    cards.locator(".mll-ac-force:has-text('In force: the model as it is.')").wait_for()
    page.page.locator(f".mll-rp-drawer tr[data-run='{changed}']").focus()
    page.press("r")
    page.page.get_by_text("The chain, control vector, seed, prompt").first.wait_for()
    cards.locator(".mll-ac-force:has-text('In force: happy × 1.99.')").wait_for()
    page.picture("adapters-back")


CHANGED = """
base, changed = ml.Setting(lab.chain), ml.Setting(lab.chain, lab.adapters)
trace = lab.session.generate("Hello", {0: base, 2: changed}, max_tokens=6, seed=3)
"""


def test_a_stale_text_is_marked_and_its_effect_and_its_gap_are_measured(
    notebook, tiny_path, adapter
):
    setup = SETUP.format(tiny=str(tiny_path), adapter=str(adapter.path))
    page = notebook([setup, CHANGED], width=1400, height=757)
    page.run_cell(0)
    strip, dial = page.page.locator(".mll-strip"), page.page.locator(".mll-dl")
    layer, foot = strip.locator("[data-layer=effect]"), strip.locator(".mll-strip-foot")
    page.page.locator(".mll-ac-force:has-text('In force: adapter × 0.5.')").wait_for()
    page.run_cell(1)
    page.wait_for_state("finished")
    strip.locator(".mll-strip-foot:has-text('stale from step 2 on')").wait_for()
    assert strip.locator(".mll-flow .mll-token[data-stale]").count() == 4
    page.page.locator(".mll-ac-note:has-text('The gap to an exact cache is ')").wait_for()

    assert "KL" not in foot.inner_text(), "it is measured when it is asked for"
    layer.click()
    strip.locator(".mll-strip-foot:has-text('effect over an exact cache: KL')").wait_for()
    strip.locator(".mll-flow .mll-token[data-level^=teal]").nth(5).wait_for()
    token = strip.locator(".mll-flow .mll-token").nth(3)
    token.click()
    card = page.page.locator(".mll-card")
    card.locator(".mll-card-aside:has-text('nats from the model as it is')").wait_for()
    card.locator(".mll-card-head:has-text('step 3 · stale')").wait_for()
    assert "stale" in token.get_attribute("aria-label")
    dial.locator(".mll-dl-place:has-text('at step 3, where the text is stale')").wait_for()
    page.settled()
    page.picture("adapters-effect")
    page.press("Escape", "p")
    strip.locator("[data-layer=probability][aria-pressed=true]").wait_for()
    page.press("k")
    strip.locator("[data-layer=effect][aria-pressed=true]").wait_for()
    dial.get_by_role("button", name="prompt").click()
    dial.locator(".mll-dl-place:has-text('at the end of the prompt')").wait_for()


LEARN = """
import os
import mullama_lab as ml
os.environ["MULLAMA_LAB_CONFIG"] = {config!r}
model = ml.Model.load({path!r})
lab = ml.labs.AdapterLab(model, "Hello", max_tokens=6)
lab
"""
CHOSEN = """control = lab.session.control
print(list(control.directions) if control else [], lab.adapter_cards.names)"""
WORDS = ("one", "two", "three", "four", "five")
TYPED = "\n".join(f"yes {word} good | no {word} good" for word in WORDS)


def test_a_vector_is_learnt_from_typed_pairs_and_its_layers_are_brushed(notebook, tmp_path):
    path = tiny.write(tmp_path / "deep.gguf", n_layer=9)
    setup = LEARN.format(path=str(path), config=str(tmp_path / "config"))
    page = notebook([setup, CHOSEN], width=1400, height=757)
    page.run_cell(0)
    form, cards = page.page.locator(".mll-vt"), page.page.locator(".mll-ac")
    form.locator("summary").click()
    pairs = form.get_by_label("Pairs, one a line")
    form.get_by_label("Name of the vector").fill("mine")
    pairs.fill("yes | no\nyes |\n")
    page.press("Control+Enter")
    form.locator(".mll-problem:has-text('line 2 has nothing after the bar')").wait_for()
    assert pairs.evaluate("(x) => x.value.slice(x.selectionStart, x.selectionEnd)") == "yes |"
    pairs.fill(TYPED)
    form.locator("text=5 pairs").wait_for()
    page.picture("trainer")
    form.get_by_role("button", name="Learn", exact=True).click()
    cards.locator(".mll-ac-name:has-text('mine')").wait_for()
    cards.locator(".mll-lb-lane").nth(1).wait_for()
    form.locator(".mll-vt-said:has-text('Learnt from 3 pairs by mean')").wait_for()
    page.page.locator(".mll-dl h3:has-text('without and with mine')").wait_for()
    assert not pairs.is_visible()

    bars, said = cards.locator(".mll-lb-bars").first, cards.locator(".mll-br-said")
    page.settled()
    box = bars.bounding_box()
    for place, act in ((1.5, "down"), (3.5, ""), (4.5, "up")):  # in the 2nd, the 4th, the 5th
        page.page.mouse.move(box["x"] + place / 8 * box["width"], box["y"] + 10)
        if act:
            getattr(page.page.mouse, act)()
    page.page.mouse.move(1, 1)
    said.locator("text=layers 2–5 of 1–8").wait_for()
    page.run_until(1, "[2, 3, 4, 5] []")
    cards.get_by_role("slider", name="mine, last layer").focus()
    page.press("ArrowLeft", "ArrowLeft")
    said.locator("text=layers 2–3 of 1–8").wait_for()
    page.run_until(1, "[2, 3] []")
    page.settled()
    page.picture("layers")
    cards.get_by_role("button", name="Keep", exact=True).click()
    cards.locator(".mll-ac-keep:has-text('Kept.')").wait_for()
    page.run_until(1, "[2, 3] ['mine']")


def test_two_are_blended_by_the_pointer_and_by_keys(notebook, tiny_path, adapter):
    setup = SETUP.format(tiny=str(tiny_path), adapter=str(adapter.path)).replace(
        "\nlab\n",
        "\nvector = ml.ControlVector({1: [0.5, -1.0] * 16}, name='happy')"
        "\nlab.adapter_cards.add(vector)\nlab\n",
    )
    in_force = "print(*lab.session.adapters.values(), lab.session.control == {y} * vector)"
    cells = [setup, in_force.format(y=-1), in_force.format(y=-0.95)]
    page = notebook(cells, width=1400, height=757)
    page.run_cell(0)
    cards, pad = page.page.locator(".mll-ac"), page.page.locator(".mll-bp")
    assert not pad.is_visible()
    cards.get_by_role("button", name="Pad", exact=True).click()
    pad.locator("h3:has-text('Blend of adapter and happy')").wait_for()
    pad.locator(".mll-bp-far:text-is('289 cells')").wait_for()
    assert not page.page.locator(".mll-dl").is_visible()
    area, point = pad.locator(".mll-bp-map"), pad.locator(".mll-bp-point")
    assert point.get_attribute("aria-valuetext") == "adapter 0.5, happy 1"

    box = area.bounding_box()
    spot = point.bounding_box()
    page.page.mouse.move(spot["x"] + spot["width"] / 2, spot["y"] + spot["height"] / 2)
    page.page.mouse.down()
    page.page.mouse.move(box["x"] + box["width"] * 0.9, box["y"] + box["height"] * 0.75, steps=6)
    page.page.mouse.up()
    page.run_until(1, "1.6 True")
    assert point.get_attribute("aria-valuetext") == "adapter 1.6, happy −1"
    cards.locator(".mll-ac-force:has-text('In force: adapter × 1.6, happy × −1.')").wait_for()
    point.focus()
    page.press("ArrowLeft", "ArrowUp")
    page.run_until(2, "1.55 True")
    pad.locator(".mll-bp-effect:has-text('nats')").wait_for()

    text = pad.get_by_label("Blend pad, text")
    text.fill(" you")
    page.press("Enter")
    pad.locator(".mll-bp-effect:has-text('The text: −')").wait_for()
    pad.locator(".mll-bp-legend:has-text('logprob, nats')").wait_for()
    page.settled()
    page.picture("blend-pad")
    for name in (".mll-bp-map", ".mll-bp-effect", ".mll-bp-legend", ".mll-bp tbody tr"):
        box = page.page.locator(name).first.bounding_box()
        assert box["y"] >= 0 and box["y"] + box["height"] <= 757, name
    card = cards.locator(".mll-ac-card")
    card.first.get_by_role("button", name="adapter", exact=True).click()
    card.nth(1).get_by_role("switch").uncheck()  # what it is unfolds, and folds above, after that
    pad.get_by_text("switch on two").wait_for()
    assert not area.is_visible()
