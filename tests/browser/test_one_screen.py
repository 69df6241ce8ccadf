"""Every lab around a session on one screen: lever, distribution and text in view together."""

from __future__ import annotations

from pathlib import Path

import pytest

MODEL = """import mullama_lab as ml
model = ml.Model.load('smollm2-135m')
chains = {
    'default': None,
    'twelve': ml.Penalties(repeat=1.1) | ml.DRY(0.8) | ml.TopNSigma(3) | ml.TopK(200)
    | ml.Typical(0.99) | ml.TopP(0.97) | ml.MinP(0.01) | ml.XTC(0.1, 0.3)
    | ml.LogitBias({7042: 1.0}) | ml.TailFree(0.98) | ml.DynamicTemperature(1.0, 0.2, 1.0)
    | ml.Temperature(0.9),
}"""
LAB = """lab = ml.{kind}(model, "The capital of France is", max_tokens=40, seed=7,
    chain=chains['{chain}'])
lab.run()
{more}
lab"""
# A text that does not end before its 40 tokens, whatever this machine draws.
TO_THE_END = "lab.chain = ml.Mask(ban=[0, 2, 4]) | lab.chain; lab.run(); "
# What may stand in each lab: a text that a grammar refuses, cards of either kind.
GRAMMAR = """lab.grammar_bench.grammar = r'''root   ::= object
object ::= "{" pair ("," " " pair)* "}" # no blanks
pair   ::= string ": " value
value  ::= string | [0-9]+ | object
string ::= "\\"" [a-z]* "\\""'''
lab.grammar_bench.sample = '{"city": "paris", "size": 2'
lab.constrain(); lab.run()"""
PIRATE = Path(__file__).resolve().parents[2] / "notebooks" / "data" / "pirate.gguf"
CARDS = f"""lab.adapter_cards.add(ml.LoraAdapter.load({str(PIRATE)!r}), 0.6)
lab.adapter_cards.add(ml.ControlVector.named('happy')); lab.run(); lab.wait()"""
MORE = {"labs.GrammarLab": GRAMMAR, "labs.AdapterLab": CARDS}
SIDE_BAR = "window.jupyterapp.commands.execute('filebrowser:activate')"
PARTS = {
    "Workbench": (".mll-rp-first", ".mll-flow", ".mll-ce-scroll", ".mll-nt-scroll"),
    "labs.SamplerLab": (".mll-rp-first", ".mll-flow", ".mll-ce-scroll", ".mll-nt-scroll"),
    "labs.BranchLab": (".mll-rp-first", ".mll-flow", ".mll-xb", ".mll-bt [role=tree]"),
    "labs.GrammarLab": (".mll-rp-first", ".mll-flow", ".mll-gb-code", ".mll-gb-walk"),
    "labs.AdapterLab": (".mll-rp-first", ".mll-flow", ".mll-ac-scroll", ".mll-dl"),
    "labs.PerfLab": (".mll-rp-first", ".mll-flow", ".mll-me", ".mll-ts-bars"),
}
SIZES = ((1400, 757), (1280, 720), (1000, 700))
WIDTHS = (480, 560, 700, 820, 1024, 1280, 1600, 2000, 2560)


def shown(notebook, kind, chain="default", *, more="", width=1400, height=757):
    cells = [MODEL, LAB.format(kind=kind, chain=chain, more=more)]
    page = notebook(cells, width=width, height=height)
    page.run_all()
    page.page.wait_for_selector(".mll-flow .mll-token", timeout=30_000)
    page.page.evaluate(SIDE_BAR)
    page.page.locator(".mll-lab").first.evaluate("(lab) => lab.scrollIntoView({block: 'start'})")
    page.settled()
    return page


@pytest.mark.parametrize("kind", PARTS)
@pytest.mark.parametrize("chain", ["default", "twelve"])
def test_levers_picture_and_text_are_in_view_at_once(notebook, kind, chain):
    page = shown(notebook, kind, chain, more=MORE.get(kind, ""))
    for width, height in SIZES:
        page.page.set_viewport_size({"width": width, "height": height})
        page.settled()
        page.page.locator(".mll-lab").first.evaluate("(lab) => lab.scrollIntoView()")
        inside = page.page.locator(".jp-NotebookPanel-notebook").first.bounding_box()
        boxes = [page.page.locator(part).first.bounding_box() for part in PARTS[kind]]
        for part, box in zip(PARTS[kind], boxes, strict=True):
            assert box["y"] >= inside["y"] - 2, part
            assert box["y"] + box["height"] <= inside["y"] + inside["height"], part
            assert box["height"] > 28 and box["width"] > 200, part
        for above, below in ((0, 1), (1, 2), (1, 3)):
            assert boxes[above]["y"] + boxes[above]["height"] <= boxes[below]["y"] + 1
        table = page.page.locator(".mll-nt-scroll")
        if chain == "default" and width >= 1280 and table.count():
            over = table.first.evaluate("(node) => node.scrollWidth - node.clientWidth")
            assert over <= 1, (width, "a stage's column lies under the last one")
        for part, least in LEVERS[kind].items() if width >= 1280 else ():
            assert page.page.evaluate(IN_SIGHT, part) >= least, (width, part)
        page.picture(f"one-screen-{kind}-{chain}-{width}")


# How many nodes are whole in the notebook and in every box around them that scrolls.
IN_SIGHT = """(part) => {
    const inside = (box, around) => box.bottom > box.top && box.top >= around.top - 1
        && box.bottom <= around.bottom + 1 && box.left >= around.left - 1
        && box.right <= around.right + 1;
    const bench = document.querySelector('.jp-NotebookPanel-notebook');
    const seen = (node) => {
        const box = node.getBoundingClientRect();
        for (let up = node.parentElement; up !== bench; up = up.parentElement)
            if (getComputedStyle(up).overflowY !== 'visible'
                && !inside(box, up.getBoundingClientRect())) return false;
        return inside(box, bench.getBoundingClientRect());
    };
    return [...document.querySelectorAll(part)].filter(seen).length;
}"""
# What a person turns or clicks, and what it changes, with how many of each are in sight at least.
LEVERS = {
    "Workbench": {".mll-ce-lever input": 8, ".mll-nt tbody tr": 6},  # a slider and a box a stage
    "labs.SamplerLab": {".mll-ce-lever input": 8, ".mll-nt tbody tr": 6},
    "labs.BranchLab": {".mll-xb input": 2, ".mll-bt [role=treeitem]": 2},
    "labs.GrammarLab": {".mll-gb-line": 5, ".mll-gb-sample": 1, ".mll-gb-chip": 8},
    "labs.AdapterLab": {".mll-ac-line input": 4, ".mll-dl tbody tr": 6},
    "labs.PerfLab": {".mll-me-meter": 5, ".mll-ts-bars": 1, ".mll-mm-parts": 3},
}


@pytest.mark.parametrize("chain", ["default", "twelve"])
def test_beside_a_tree_the_levers_and_eight_rows_of_the_distribution_are_in_view(notebook, chain):
    more = "lab.branch(0, ' my'); lab.branch(3, ' my'); lab.panels = ['samplers', 'tree']"
    page = shown(notebook, "Workbench", chain, more=more)
    for width, height in SIZES[:2]:
        resized(page, width, height)
        beside = {".mll-nt tbody tr": 8, ".mll-bt [role=tree]": 1}
        for part, least in (LEVERS["Workbench"] | beside).items():
            assert page.page.evaluate(IN_SIGHT, part) >= least, (width, part)
        page.picture(f"beside-{chain}-{width}")


def resized(page, width, height):
    page.page.set_viewport_size({"width": width, "height": height})
    page.settled()
    page.page.locator(".mll-lab").first.evaluate("(lab) => lab.scrollIntoView()")


COVERED = """(node) => {
    const { left, top, width, height } = node.getBoundingClientRect();
    const out = [];
    for (let i = 1; i < 20; i++) for (let k = 1; k < 20; k++) {
        const [x, y] = [left + (width * i) / 20, top + (height * k) / 20];
        if (y < innerHeight && !node.contains(document.elementFromPoint(x, y))) out.push([x, y]);
    }
    return out;
}"""
WORDS = (
    ".mll-rp-state", ".mll-rp-figure", ".mll-rp-past", ".mll-rp button[data-main]",
    ".mll-rp .mll-number-label", ".mll-strip-says", ".mll-strip-scale", ".mll-ce-sum",
    ".mll-ce-name", ".mll-ce .mll-button", ".mll-ce .mll-box", ".mll-pb-tab", ".mll-nt-tools",
)  # fmt: skip
# In sight, or folded away as a whole; a figure that has no room is in a line that is not seen.
CUT = """(node) => {
    const inside = (box, around) => box.left >= around.left - 1 && box.right <= around.right + 1;
    const box = node.getBoundingClientRect();
    const line = node.closest('.mll-rp-figures')?.getBoundingClientRect();
    if (!box.width || (line && box.top >= line.bottom)) return false;
    return node.scrollWidth > node.clientWidth + 1 || !inside(box, {left: 0, right: innerWidth})
        || !inside(box, node.closest('.mll').getBoundingClientRect())
        || Boolean(line && !inside(box, line));
}"""


def test_nothing_that_matters_is_cut_at_any_of_the_sizes(notebook):
    page = shown(notebook, "labs.SamplerLab", more=TO_THE_END)
    for width, height in (*SIZES, (700, 800)):
        resized(page, width, height)
        page.picture(f"uncut-{width}")
        nodes = [node for part in WORDS for node in page.page.locator(part).all()]
        cut = [node.inner_text() for node in nodes if node.evaluate(CUT)]
        assert cut == [], width
        there = "(node) => node.offsetTop < node.parentElement.offsetTop + 20"
        figures = page.page.locator(".mll-rp-figure").all()
        seen = [node.inner_text() for node in figures if node.evaluate(there)]
        assert seen[0] == "40 tokens" and "tokens/s" in seen[1], width
        if width >= 1000:
            assert page.page.locator(".mll-strip-head").bounding_box()["height"] < 64
            lines = page.page.locator(".mll-rp-bar").bounding_box()["height"]
            assert lines < 60, width
    curve = page.page.locator(".mll-rp-curve polyline").first
    assert len(curve.get_attribute("points").split()) == 32


def test_the_list_of_runs_never_scrolls_sideways(notebook):
    page = shown(
        notebook, "labs.SamplerLab", more="lab.set(seed=8); lab.run(); lab.branch(3, ' a')"
    )
    page.page.locator(".mll-rp-past:has-text('Runs (3)')").click()
    page.page.locator("tr[data-run='3'] [data-cell=text]").wait_for()
    for width in WIDTHS:
        resized(page, width, 700)
        for part in (".mll-rp-scroll", ".mll-rp-drawer"):
            over = page.page.locator(part).evaluate("(n) => n.scrollWidth - n.clientWidth")
            assert over <= 0, (width, part)
        for cell in ("run", "text"):
            shown_cell = page.page.locator(f"tr[data-run='3'] [data-cell={cell}]")
            assert shown_cell.bounding_box()["width"] > 20, (width, cell)
        page.picture(f"runs-{width}")


def test_a_run_chosen_among_those_so_far_leaves_its_text_in_sight(notebook):
    page = shown(
        notebook, "labs.SamplerLab", more="lab.set(seed=8); lab.run(); lab.branch(3, ' a')"
    )
    page.page.locator(".mll-rp-past:has-text('Runs (3)')").click()
    branch = page.page.locator("tr[data-run='3'] [data-cell='branch of']")
    assert branch.inner_text() == "run 2 at step 3: ·a"
    prompt = page.page.locator("tr[data-run='3'] [data-cell=prompt]")
    assert prompt.inner_text() == "The capital of France is"
    for width, height in (*SIZES, (700, 800)):
        resized(page, width, height)
        for run in (1, 3):
            page.page.locator(f"tr[data-run='{run}'] [data-cell=run]").click()
            page.page.locator(f"tr[data-run='{run}'][aria-selected=true]").wait_for()
            page.settled()
            text = page.page.locator(".mll-strip")
            assert text.evaluate(COVERED) == [], (width, run)
        drawer = page.page.locator(".mll-rp-drawer").bounding_box()
        if width >= 1000:
            back = page.page.locator("tr[data-run='3'] .mll-button").bounding_box()
            assert back["x"] + back["width"] <= drawer["x"] + drawer["width"], width
            assert drawer["y"] + drawer["height"] <= height
            rows = page.page.locator(".mll-rp-scroll")
            assert rows.evaluate("(box) => box.scrollWidth <= box.clientWidth"), width
            assert prompt.bounding_box()["width"] > 70, width
        page.picture(f"runs-{width}")


def test_a_preset_is_taken_in_the_run_bar_whatever_panel_is_shown(notebook):
    page = shown(notebook, "labs.BranchLab", width=1000, height=700)
    choice = page.page.get_by_label("Preset")
    assert choice.count() == 1 and page.page.locator(".mll-rp-preset select").is_visible()
    assert page.page.locator(".mll-rp-preset").get_by_text("preset", exact=True).is_visible()
    choice.select_option("greedy")
    page.page.locator(".mll-xb:has-text('drawn by: Greedy()')").wait_for()
    page.page.locator(".mll-pb-tab button[data-key=samplers]").first.click()
    page.page.locator(".mll-ce-card[data-stage=Greedy]").wait_for()
    page.page.get_by_role("button", name="Reset").click()
    page.page.wait_for_function(
        "document.querySelector('.mll-rp-preset select').value === 'default'"
    )


WIDER_THAN_ITS_BOX = """() => [
    ...document.querySelectorAll('.jp-OutputArea-output, .jp-WindowedPanel-outer, .mll-lab *'),
].filter((node) => node.checkVisibility() && node.scrollWidth > node.clientWidth
    && ['auto', 'scroll'].includes(getComputedStyle(node).overflowX))
    .map((node) => node.className)"""


@pytest.mark.parametrize(
    "kind, chain, panels",
    [
        ("labs.SamplerLab", "default", ["samplers"]),
        ("labs.SamplerLab", "twelve", ["samplers"]),
        ("labs.BranchLab", "default", ["tree"]),
        ("labs.GrammarLab", "default", ["grammar"]),
        ("labs.AdapterLab", "default", ["adapters"]),
        ("Workbench", "default", ["samplers", "tree"]),
        ("Workbench", "default", ["tree", "samplers", "what-if"]),
    ],
)
def test_no_width_has_a_horizontal_scroll_bar(notebook, kind, chain, panels):
    more = f"{MORE.get(kind, '')}\nlab.panels = {panels}"
    page = shown(notebook, kind, chain, more=more)
    page.page.evaluate("window.jupyterapp.commands.execute('application:toggle-left-area')")
    for width in WIDTHS:
        page.page.set_viewport_size({"width": width, "height": 900})
        page.settled()
        assert page.page.evaluate(WIDER_THAN_ITS_BOX) == [], width
        page.picture(f"wide-{kind}-{len(panels)}-{width}")


CUT_SHORT = """() => [
    ...document.querySelectorAll('.mll-gb-halves, .mll-gb-half, .mll-gb-walk, .mll-ac-scroll'),
].filter((node) => node.scrollHeight > node.clientHeight + 1).map((node) => node.className)"""
STACKED = {
    "labs.SamplerLab": (".mll-nt", ".mll-ce"),
    "labs.BranchLab": (".mll-xb", ".mll-bt"),
    "labs.GrammarLab": (".mll-gb-code", ".mll-gb-sample", ".mll-gb-walk"),
    "labs.AdapterLab": (".mll-dl", ".mll-ac"),
}


@pytest.mark.parametrize("kind", STACKED)
def test_narrow_parts_stack_in_the_order_of_text_effect_levers(notebook, kind):
    page = shown(notebook, kind, more=MORE.get(kind, ""), width=700, height=900)
    parts = [".mll-rp", ".mll-strip", ".mll-pb", *STACKED[kind]]
    boxes = [page.page.locator(part).first.bounding_box() for part in parts]
    ends = [box["y"] + box["height"] for box in boxes]
    assert all(end <= box["y"] + 1 for end, box in zip(ends, boxes[1:], strict=False))
    assert all(box["height"] > 28 and box["width"] > 200 for box in boxes)
    assert page.page.evaluate(CUT_SHORT) == [], "the page scrolls, not the parts of a part"
    page.picture(f"stacked-{kind}")
    page.page.locator(parts[-1]).first.scroll_into_view_if_needed()
    page.picture(f"stacked-{kind}-end")


def test_panels_are_shown_beside_each_other_and_moved_by_keys(notebook):
    page = shown(notebook, "Workbench")
    page.page.get_by_role("button", name="Show Tree beside").click()
    page.page.locator(".mll-bt:visible").wait_for()

    def box(part):
        return page.page.locator(part).first.bounding_box()

    assert box(".mll-ce")["x"] + box(".mll-ce")["width"] <= box(".mll-bt")["x"]
    tab = page.page.locator(".mll-pb-tab button[data-key=samplers]").first
    tab.focus()
    page.page.keyboard.press("Alt+ArrowRight")
    page.settled()
    assert box(".mll-bt")["x"] + box(".mll-bt")["width"] <= box(".mll-ce")["x"]
    page.page.locator(".mll-pb-tab button[data-key='what-if']").first.click()
    page.page.locator(".mll-wi:visible").wait_for()
    assert not page.page.locator(".mll-ce").is_visible()


def test_a_new_view_of_the_output_fills_its_tab_and_works(notebook):
    page = shown(notebook, "labs.SamplerLab")
    page.page.evaluate(
        "window.jupyterapp.shell.currentWidget.content.activeCellIndex = 1;"
        "window.jupyterapp.commands.execute('notebook:create-output-view')"
    )
    view = page.page.locator(".jp-LinkedOutputView .mll-rp")
    view.wait_for(timeout=20_000)
    page.settled(".jp-LinkedOutputView, .jp-LinkedOutputView .mll")
    lab = page.page.locator(".jp-LinkedOutputView .mll-fill").first.bounding_box()
    outer = page.page.locator(".jp-LinkedOutputView").first.bounding_box()
    assert lab["height"] > 0.75 * outer["height"]
    assert page.page.locator(".jp-LinkedOutputView .mll-ce:visible").count() == 1
    page.page.locator(".jp-LinkedOutputView .mll-rp button[data-main]").click()
    page.page.locator(".mll-rp-past:has-text('Runs (2)')").first.wait_for()


def test_a_chat_is_answered_edited_and_answered_anew_by_hand(notebook):
    page = shown(notebook, "Workbench")
    page.page.get_by_role("button", name="Chat", exact=True).click()
    say = page.page.locator(".mll-rp-say")
    say.first.wait_for()
    page.page.wait_for_timeout(1500)
    assert not page.page.locator(".mll-note[data-kind=bad]:visible, .mll-problem:visible").count()
    page.page.locator(".mll-strip-foot:has-text('No tokens yet')").wait_for()
    assert not page.page.locator(".mll-flow .mll-token").count()  # of the text that ran before
    say.first.fill("Name a planet.")
    page.page.keyboard.press("Enter")
    page.page.locator(".mll-rp-turn[data-role=assistant]").wait_for(timeout=30_000)
    answer = say.nth(1).input_value()
    assert answer and say.count() == 3  # the last one is for what is said next
    page.page.locator(".mll-flow-prompt .mll-g-special:has-text('<|im_start|>')").first.wait_for()
    page.page.get_by_role("button", name="Another answer").click()
    page.page.wait_for_function(
        "(old) => { const said = document.querySelectorAll('.mll-rp-say');"
        "return said.length === 3 && said[1].value && said[1].value !== old; }",
        arg=answer,
        timeout=30_000,
    )
    go = page.page.locator(".mll-rp-go [data-main]:enabled")
    go.wait_for()
    say.nth(2).fill("And a moon?")
    page.page.keyboard.press("Enter")
    page.page.wait_for_function("document.querySelectorAll('.mll-rp-say').length === 5")
    page.picture("chat")
    assert go.inner_text() == "Go on"
    dropped = page.page.locator(".mll-rp-turn[data-dropped]")
    assert not dropped.count()
    say.first.fill("Name a colour.")
    assert dropped.count() == 3 and "line-through" in say.nth(2).evaluate(
        "(node) => getComputedStyle(node).textDecorationLine"
    )
    page.picture("chat-edited")
    assert go.inner_text() == "Run" and "dropped (3 of" in go.get_attribute("title")
    page.page.keyboard.press("Control+Enter")
    page.page.wait_for_function("document.querySelectorAll('.mll-rp-say').length === 3")
    assert say.first.input_value() == "Name a colour." and not dropped.count()
    assert page.page.evaluate(
        "document.activeElement === document.querySelectorAll('.mll-rp-say')[2]"
    )
    go.wait_for()
    page.page.get_by_role("button", name="+ system").click()
    page.page.keyboard.type("Be brief.")
    assert go.inner_text() == "Run" and say.count() == 4
    page.page.keyboard.press("Control+Enter")
    page.page.wait_for_function(
        "() => { const said = document.querySelectorAll('.mll-rp-say');"
        "return said.length === 4 && said[2].value && !said[3].value; }",
        timeout=30_000,
    )
    page.picture("chat-system")
    page.dark()
    page.picture("chat-system-dark")


TURNS = """lab.panel.messages = [{"role": ("user", "assistant")[i % 2], "content": f"turn {i}"}
    for i in range(19)]; lab.panel.chat = True; lab.run()"""


def test_a_turn_of_the_system_can_be_added_to_a_chat_however_long_it_is(notebook):
    page = shown(notebook, "Workbench", more=TURNS)
    first = page.page.get_by_role("button", name="+ system")
    turns = page.page.locator(".mll-rp-turn")
    for width, height in ((700, 757), (1400, 757)):
        resized(page, width, height)
        chat = page.page.locator(".mll-rp-chat").bounding_box()
        for turn in (turns.nth(0), turns.nth(10), turns.nth(20)):
            turn.scroll_into_view_if_needed()
            assert first.evaluate(COVERED) == [], width
            assert first.evaluate("(node) => node.clientHeight >= node.scrollHeight"), width
            assert first.bounding_box()["y"] >= chat["y"], width
        page.picture(f"chat-long-{width}")
    first.click()
    assert turns.count() == 22 and turns.nth(0).get_attribute("data-role") == "system"
    assert turns.nth(0).locator("textarea").evaluate(COVERED) == []
    assert not first.is_visible()  # there is one


def test_from_the_prompt_it_is_eight_tabs_to_the_tokens(notebook):
    page = shown(notebook, "Workbench")
    page.page.locator(".mll-rp-prompt").focus()
    stops = []
    while len(stops) < 8 and "mll-flow" not in stops[-1:]:
        page.page.keyboard.press("Tab")
        stops.append(page.page.evaluate("document.activeElement.className"))
    assert stops[-1] == "mll-flow", stops
    page.press("Shift+Tab")
    assert page.page.evaluate("document.activeElement.dataset.layer") == "probability"


BARS = (".mll-rp-bar", ".mll-strip-head", ".mll-pb-line", ".mll-nt-tools")
ON_THE_BAR = """(bar) => [...bar.querySelectorAll('button:enabled')]
    .filter((button) => button.checkVisibility() && !button.closest('[popover]')).length"""
WALKED = """(bar) => {
    const seen = new Set();
    bar.querySelector('button[tabindex="0"]').focus();
    for (let i = 0; i < 40; i++) {
        seen.add(document.activeElement);
        const key = {key: 'ArrowRight', bubbles: true, cancelable: true};
        document.activeElement.dispatchEvent(new KeyboardEvent('keydown', key));
    }
    return [...seen].filter((node) => bar.contains(node)).length;
}"""


def test_arrow_keys_reach_every_button_of_a_bar_and_tab_but_one(notebook):
    page = shown(notebook, "Workbench")
    for name in BARS:
        bar = page.page.locator(name).first
        assert bar.get_attribute("role") == "toolbar" and bar.get_attribute("aria-label")
        n = bar.evaluate(ON_THE_BAR)
        assert n >= 5 and bar.evaluate(WALKED) == n, name
        assert bar.locator("button[tabindex='0']:enabled:visible").count() == 1, name
    page.page.locator(".mll-rp-bar [data-chat=false]").focus()
    page.press("End")
    assert "Runs" in page.page.evaluate("document.activeElement.textContent")
    page.press("ArrowRight")  # round to the first
    assert page.page.evaluate("document.activeElement.textContent") == "Text"
    seed = page.page.locator("[data-setting=seed] input")
    seed.focus()
    page.press("End", "ArrowLeft")
    assert seed.evaluate("(node) => node === document.activeElement")  # the keys of a field


def test_a_question_mark_shows_the_keys_of_a_view_over_what_follows(notebook):
    page = shown(notebook, "Workbench")
    page.page.get_by_role("button", name="Show Tree beside").click()
    page.page.locator(".mll-bt:visible").wait_for()
    for view in ("rp", "pb", "ce", "xb"):
        page.page.locator(f".mll-{view} button:enabled:visible").first.focus()
        page.press("?")
        keys = page.page.locator(f".mll-{view} > .mll-help")
        assert keys.locator("kbd").count() > 1
        assert keys.evaluate(COVERED) == [], view
        lab, place = page.page.locator(".mll-lab").bounding_box(), keys.bounding_box()
        assert place["x"] >= lab["x"] and place["y"] >= lab["y"], view
        page.picture(f"keys-{view}")
        page.press("Escape")
        assert not keys.is_visible()


def looked_at(page, step):
    """Click a token; the card and the distribution of its step are there then."""
    page.page.locator(".mll-flow .mll-token").nth(step).click()
    page.page.locator(f".mll-card:has-text('step {step}') li.mll-alt").nth(8).wait_for()
    page.page.locator(f".mll-nt-about:has-text('at step {step}')").wait_for()
    page.settled(".mll-card, .mll-nt")


BESIDE = pytest.mark.parametrize("panels", [["samplers"], ["samplers", "tree"]])


@BESIDE
def test_the_card_of_a_token_leaves_the_text_and_the_distribution_in_sight(notebook, panels):
    page = shown(notebook, "Workbench", more=f"{TO_THE_END}lab.panels = {panels}")
    for width, height in SIZES[:2]:
        resized(page, width, height)
        before = page.page.locator(".mll-lab").bounding_box()
        for step in (2, 6, 16, 30):
            looked_at(page, step)
            for part in (".mll-nt", ".mll-flow"):  # or a token behind the card could not be clicked
                assert page.page.locator(part).evaluate(COVERED) == [], (width, step, part)
            assert page.page.locator(".mll-lab").bounding_box() == before, "nothing scrolled"
            card = page.page.locator(".mll-card").bounding_box()
            assert card["x"] >= 280 and card["width"] >= 300, (width, step)  # not on the side bar
        page.picture(f"card-beside-{len(panels)}-{width}")
        page.dark()
        page.picture(f"card-beside-{len(panels)}-{width}-dark")
        page.dark(False)
        page.press("Escape")


@BESIDE
def test_the_line_under_the_next_token_is_whole(notebook, panels):
    page = shown(notebook, "Workbench", more=f"{TO_THE_END}lab.panels = {panels}")
    details = page.page.locator(".mll-nt-details")
    for width, height in SIZES[:2]:
        resized(page, width, height)
        for step in (6, 16):
            looked_at(page, step)
            page.press("Escape")
            assert details.locator("xpath=.").inner_text().count(" · ") >= 3
            whole = """(line) => line.scrollWidth <= line.clientWidth
                && line.scrollHeight <= line.clientHeight + 1"""
            assert details.evaluate(whole), (width, details.inner_text())


def test_a_branch_leaves_the_text_as_high_as_it_was(notebook):
    page = shown(notebook, "labs.SamplerLab")
    parts = (".mll-strip-body", ".mll-strip-foot", ".mll-pb")

    def places():
        boxes = [page.page.locator(part).first.bounding_box() for part in parts]
        return [(box["y"], box["height"]) for box in boxes]

    before = places()
    looked_at(page, 6)
    page.press("ArrowDown", "Enter")
    page.page.locator(".mll-strip-branched").get_by_role("button", name="Back").wait_for()
    page.wait_for_state("finished")
    assert places() == before


def test_a_key_bans_the_token_at_hand(notebook):
    page = shown(notebook, "labs.SamplerLab")
    row = page.page.locator(".mll-nt tr[data-choice]")
    banned = row.locator(".mll-nt-text").inner_text()
    page.page.locator(".mll-nt tbody tr[tabindex='0']").focus()
    page.page.keyboard.press("d")
    page.page.keyboard.press("b")
    page.page.locator(".mll-ce-card[data-stage=LogitBias]").wait_for()
    page.page.wait_for_function(
        "(text) => document.querySelector('.mll-nt [data-choice] .mll-nt-text').innerText !== text",
        arg=banned,
    )


def test_what_opens_lies_over_all_that_sticks_and_inside_the_window(notebook):
    page = shown(notebook, "Workbench")
    page.page.locator(".mll-rp button[data-main]").click()
    page.page.locator(".mll-rp-past:has-text('Runs (2)')").wait_for()
    page.page.locator(".mll-rp-past").click()
    drawer = page.page.locator(".mll-rp-drawer")
    for n in (1, 2):  # the tree has such a box, too
        drawer.get_by_label(f"Compare run {n}").check()
    drawer.locator(".mll-cmp-scroll").wait_for()
    page.picture("runs-over-next-token")
    assert drawer.evaluate(COVERED) == []
    page.page.locator(".mll-rp-past").click()
    for view in (".mll-nt", ".mll-strip"):
        opener = page.page.locator(view).get_by_role("button", name="Keys", exact=True)
        opener.click()
        keys = page.page.locator(f"{view} .mll-help")
        box = keys.bounding_box()
        page.picture(f"keys{view}")
        assert box["y"] >= 0 and box["y"] + box["height"] <= 757
        assert keys.evaluate("(node) => node.scrollHeight <= node.clientHeight + 1")
        assert keys.evaluate(COVERED) == []
        page.press("Escape")  # on the button that opened them
        assert not keys.is_visible()
