"""Train the style adapters in data/ on smollm2-135m: `python notebooks/make_loras.py`.

Needs `pip install mullama-lab[lora]`; takes minutes on a processor. Each style learns from the
answers in data/styles.tsv, all but every fourth; those held out are scored through llama.cpp before
and after, and data/styles.json says what came of it.
"""

from __future__ import annotations

import csv
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM

import mullama_lab as ml
from mullama_lab.engine import tiny

DATA = Path(__file__).parent / "data"
STYLES = {"pirate": 100, "telegram": 50}  # and for how many steps each is trained
RANK, ALPHA, BATCH, RATE, SEED = 4, 8.0, 2, 2e-3, 7
WEIGHTS = {"self_attn.q_proj": "attn_q", "self_attn.v_proj": "attn_v"}


def examples(model: ml.Model, style: str) -> tuple[list[Any], list[Any]]:
    """(tokens of the question, tokens of the answer): those to learn from, those held out."""
    learnt, held_out = [], []
    with (DATA / "styles.tsv").open(encoding="utf-8", newline="") as file:
        for number, row in enumerate(csv.DictReader(file, delimiter="\t")):
            asked = model.render_chat([{"role": "user", "content": row["question"]}]).tokens
            ends = model.tokenize("<|im_end|>", add_special=False, parse_special=True)
            answer = model.tokenize(row[style], add_special=False) + ends
            (held_out if number % 4 == 3 else learnt).append((asked, answer))
    return learnt, held_out


def score(session: ml.Session, pairs: list[Any]) -> float:
    """The mean log-probability of a token of the answers, in nats."""
    logprobs = [session.score(answer, given=asked).logprob for asked, answer in pairs]
    return round(float(np.concatenate(logprobs).mean()), 3)


def trained(path: Path, pairs: list[Any], n_steps: int) -> Any:
    """A model with an adapter that was trained on the answers."""
    torch.manual_seed(SEED)
    network = AutoModelForCausalLM.from_pretrained(
        path.parent, gguf_file=path.name, dtype=torch.float32
    )
    config = LoraConfig(r=RANK, lora_alpha=ALPHA, target_modules=["q_proj", "v_proj"])
    network = get_peft_model(network, config)
    optimiser = torch.optim.AdamW((p for p in network.parameters() if p.requires_grad), lr=RATE)
    rng = np.random.default_rng(SEED)
    for step in range(n_steps):
        for group in optimiser.param_groups:
            group["lr"] = RATE * (1 - step / n_steps)
        batch = [pairs[i] for i in rng.choice(len(pairs), BATCH, replace=False)]
        longest = max(len(asked) + len(answer) for asked, answer in batch)
        ids = torch.zeros((BATCH, longest), dtype=torch.long)
        labels = torch.full((BATCH, longest), -100)  # what counts for nothing
        for row, (asked, answer) in enumerate(batch):
            end = len(asked) + len(answer)
            ids[row, :end] = torch.tensor([*asked, *answer])
            labels[row, len(asked) : end] = torch.tensor(answer)
        loss = network(input_ids=ids, labels=labels).loss
        loss.backward()
        optimiser.step()
        optimiser.zero_grad()
        if step % 10 == 9:
            print(f"step {step + 1}: {loss.item():.3f}", flush=True)
    return network


def write(path: Path, network: Any, style: str, model: ml.Model) -> None:
    """Save the adapter as llama.cpp takes it."""
    halves = {
        name: weight.detach().numpy()
        for name, weight in network.named_parameters()
        if ".lora_" in name
    }
    pairs = {}
    for layer in range(model.n_layer):
        for theirs, ours in WEIGHTS.items():
            stem = f"base_model.model.model.layers.{layer}.{theirs}"
            a, b = (halves[f"{stem}.lora_{half}.default.weight"] for half in "AB")
            if ours == "attn_q":
                b = permuted(b, model.n_head)
            pairs[f"blk.{layer}.{ours}.weight"] = (a.astype(np.float16), b.astype(np.float16))
    named = {"general.name": style, "adapter.lora.task_name": f"answer in the style: {style}"}
    tiny.write_adapter(path, pairs, alpha=ALPHA, metadata=named)


def permuted(rows: np.ndarray, n_head: int) -> np.ndarray:
    """The rows of q in the order that llama.cpp's RoPE takes (`LlamaModel.permute` there)."""
    halves = rows.reshape(n_head, 2, len(rows) // n_head // 2, -1)
    return halves.swapaxes(1, 2).reshape(rows.shape)


def main() -> None:
    model = ml.Model.load("smollm2-135m")
    held_out = {style: examples(model, style)[1] for style in STYLES}
    for style in sys.argv[1:] or STYLES:
        learnt, _ = examples(model, style)
        n_steps = STYLES[style]
        write(DATA / f"{style}.gguf", trained(model.path, learnt, n_steps), style, model)
    report = {
        "model": "smollm2-135m",
        "unit": "mean log-probability of a token of the held-out answers, in nats",
        "n_learnt": len(learnt),
        "n_held_out": len(held_out[style]),
        "adapters": {},
    }
    with model.session(n_ctx=512) as session:
        before = {style: score(session, held_out[style]) for style in STYLES}
        for style in STYLES:
            session.adapters = {ml.LoraAdapter.load(DATA / f"{style}.gguf"): 1.0}
            after = {f"on {other}": score(session, held_out[other]) for other in STYLES}
            report["adapters"][style] = {"before": before[style], "after": after}
    (DATA / "styles.json").write_text(json.dumps(report, indent=1) + "\n")
    print(json.dumps(report, indent=1))


if __name__ == "__main__":
    main()
