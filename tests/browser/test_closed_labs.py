"""What a page shows of a lab that was closed, and of one whose cell ran again."""

from __future__ import annotations

MODEL = "import mullama_lab as ml\nmodel = ml.Model.load('smollm2-135m')"
LAB = """lab = ml.labs.SamplerLab(model, prompt="The capital of France is", max_tokens=8, seed=7)
lab"""
GONE = ".mll-lab .mll > .mll-note[data-kind=bad]:visible"


def ready(page, n=1):
    page.page.locator(".mll-nt >> text=Paris").nth(n - 1).wait_for(timeout=30_000)


def test_a_new_run_of_the_cell_takes_the_labs_place_wherever_the_old_one_is_seen(notebook):
    page = notebook([MODEL, LAB, "lab"], width=1400, height=757)
    page.run_all()
    ready(page, 2)
    page.run_cell(1)
    gone = page.page.locator(GONE)
    gone.first.wait_for(timeout=20_000)
    page.wait_until_gone(".mll-rp", ".mll-strip", ".mll-ce", ".mll-nt")
    assert gone.count() == 1  # in the third cell; the second one shows the new lab
    assert {text.split(".")[0] for text in gone.all_inner_texts()} == {
        "A newer run of its cell took this lab's place"
    }
    old = page.page.locator(".mll-lab").nth(-1)
    assert old.locator(".mll-rp button[data-main]").is_disabled()
    old.locator(".mll-rp").scroll_into_view_if_needed()
    page.picture("lab-replaced-light")
    page.dark(True)
    page.picture("lab-replaced-dark")
    new = page.page.locator(".mll-rp").first
    new.locator("button[data-main]").click()
    page.wait_for_state("finished", timeout=30)
    page.run_cell(2)
    gone.first.wait_for(state="hidden")
    ready(page, 2)
    assert page.page.locator(GONE).count() == 0


def test_a_closed_lab_says_so_and_its_cell_makes_another(notebook):
    page = notebook([MODEL, LAB, "lab.close()"], width=1400, height=757)
    page.run_cell(0)
    page.run_cell(1)
    ready(page)
    page.run_cell(2)
    gone = page.page.locator(GONE)
    gone.first.wait_for(timeout=20_000)
    assert "The lab was closed" in gone.first.inner_text()
    sliders = page.page.locator(".mll-ce input[type=range]")
    assert all(sliders.nth(i).is_disabled() for i in range(sliders.count()))
    page.page.locator(".mll-lab").first.scroll_into_view_if_needed()
    page.picture("lab-closed-light")
    page.dark(True)
    page.picture("lab-closed-dark")
    page.run_cell(1)
    ready(page)
    assert gone.count() == 0
    assert "No such comm" not in page.outputs()


BOXED = """import gc
import ipywidgets
lab = ml.labs.SamplerLab(model, prompt="The capital of France is", max_tokens=8, seed=7)
box = ipywidgets.VBox([lab, ipywidgets.HTML("below")])
del lab
gc.collect()
box"""


def test_a_lab_lives_and_is_closed_in_a_box_of_other_widgets(notebook):
    page = notebook([MODEL, BOXED, "box.children[0].close()"], width=1400, height=757)
    page.run_cell(0)
    page.run_cell(1)
    ready(page)
    page.page.get_by_role("button", name="Run", exact=True).click()
    page.page.locator(".mll-strip[data-state=finished]").wait_for(timeout=30_000)
    in_box = page.page.locator(".widget-vbox > .mll-lab")
    assert in_box.count() == 1
    below = page.page.locator(".widget-vbox > .widget-html", has_text="below")
    assert below.bounding_box()["y"] >= in_box.bounding_box()["y"] + in_box.bounding_box()["height"]
    page.picture("lab-in-a-box")
    page.run_cell(2)
    gone = page.page.locator(GONE)
    gone.first.wait_for(timeout=20_000)
    assert "The lab was closed" in gone.first.inner_text()
    assert below.is_visible()
