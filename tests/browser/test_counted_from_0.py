"""One token's step, rank and place: the same numbers in the table and in each view, from 0."""

from __future__ import annotations

import json

LAB = """import mullama_lab as ml
model = ml.Model.load({tiny!r})
chain = ml.Mask(ban=[0, 1, 2]) | ml.TopK(40)
lab = ml.Workbench(model, "Once upon", seed=1, max_tokens=12, chain=chain,
    panels=["samplers", "tree"])
lab.run()
lab.branch({step}, lab.trace[{step}].top[{rank}][0])
lab"""
TABLE = """import json
table = lab.trace.to_pandas()
print(json.dumps({{
    "rank": int(table.loc[{step}, "rank"]), "kept": int(table.loc[{step}, "kept_1"]),
    "drawn at": lab.preview.step, "parts at": sorted(node.start for node in lab.tree.nodes),
}}))"""


def test_step_rank_and_place_of_a_token_are_the_same_numbers_everywhere(notebook, tiny_path):
    step, rank = 7, 3
    cells = [LAB.format(tiny=str(tiny_path), step=step, rank=rank), TABLE.format(step=step)]
    page = notebook(cells, width=1400, height=757)
    page.run_cell(0)
    lab = page.page.locator(".mll-lab")
    token = lab.locator(".mll-flow .mll-token").nth(step)
    token.click()
    card = page.page.locator(f".mll-card:has-text('left by each stage'):has-text('step {step}')")
    card.wait_for()
    lab.locator(f".mll-nt-about:has-text('at step {step}')").wait_for()
    page.run_cell(1)
    table = json.loads(page.outputs().splitlines()[-1])
    assert table["rank"] == rank and table["drawn at"] == step

    facts = card.locator(".mll-card-facts").inner_text()
    assert f"rank {rank}" in " ".join(facts.split())
    assert card.locator(".mll-alt[data-chosen] .mll-alt-rank").inner_text() == str(rank)
    assert f"TopK(40) {table['kept']}" in card.inner_text()
    text = token.inner_text()
    page.picture("counted-from-0")
    page.press("Escape")

    row = lab.locator(".mll-nt tbody tr").nth(rank)
    assert row.locator(".mll-nt-text").inner_text() == text
    row.click()
    assert f"rank {rank}," in lab.locator(".mll-nt-details").inner_text()

    starts = lab.locator(".mll-bt .mll-bt-step").all_inner_texts()
    assert table["parts at"][-2:] == [step, step]
    assert sorted(int(start) for start in starts if start.isdigit()) == table["parts at"][1:]

    lab.locator(".mll-strip summary:has-text('Show as table')").click()
    cells = lab.locator(".mll-strip tbody tr").nth(step).locator("td, th").all_inner_texts()
    assert cells[0] == str(step) and cells[4] == str(rank)
