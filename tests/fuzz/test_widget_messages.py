"""Hostile messages to every widget of every lab in a real kernel, as a page could send them.

The kernel lives, each request with a usable id is answered, nothing is printed and no traceback
reaches a cell or the kernel's console, and the labs work afterwards.
"""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from hypothesis import strategies as st

from mullama_lab import widgets
from mullama_lab.widgets import _front_end
from mullama_lab.widgets._kept import whole_characters

SETUP = """
import mullama_lab as ml
import ipywidgets
from mullama_lab.engine.encoder import MultiVectorEncoder
model = ml.Model.load({path!r})
encoder = MultiVectorEncoder(model, n_threads=1)
texts = {{"dedent": "Remove any common leading whitespace.", "fill": "Fill a paragraph."}}
sampler = ml.labs.SamplerLab(model, "Hello", max_tokens=8, seed=7)
branch = ml.labs.BranchLab(model, "Hello", max_tokens=8, seed=7)
retrieval = ml.labs.RetrievalLab(encoder, texts)
perf = ml.labs.PerfLab(model, "Hello", max_tokens=8, seed=7)
fresh = ml.labs.SamplerLab(sampler.session)
closed = ml.labs.SamplerLab(sampler.session)
labs = {{"sampler": sampler, "branch": branch, "retrieval": retrieval, "perf": perf,
        "fresh": fresh, "closed": closed}}
sampler.run(); branch.run(); perf.run(); branch.explore(4, 2); retrieval.search("whitespace")
for lab in labs.values():
    display(lab)
parts = [(name, part) for name, lab in labs.items() for part in lab._all_parts()]
ids = {{f"{{name}} {{'box' if hasattr(part, 'children') else 'view'}} {{k}}": part.model_id
       for k, (name, part) in enumerate(parts)}}
closed.close()
import json; print("ids", json.dumps(ids))
"""
STILL = """
for lab in (sampler, branch, perf):
    lab.stop()
    lab.set(prompt="Hello", max_tokens=4, seed=3)
    if lab is branch:
        lab.stop_exploring()
    lab.wait()
    assert len(lab.run()) > 0
sampler.set(chain=ml.TopK(3) | ml.Temperature(0.5))
assert retrieval.search("whitespace").ids
print("still", sampler.panel.state)
"""
# The words of the protocol: requests as the browser halves write them, arguments as ours read them.
_SENT = "\n".join(path.read_text("utf-8") for path in sorted(_front_end.folder().glob("*.js")))
_READ = "\n".join(
    path.read_text("utf-8") for path in sorted(Path(widgets.__file__).parent.glob("*.py"))
)
OPS = sorted(
    {"ping", "nothing", ""}
    | set(re.findall(r'\b(?:ask|attempt|request|act|history)\("(\w+)"', _SENT))
)
NAMES = sorted(
    {"seq", "layout", "children", "comm", "keys", "_esm", "closed"}
    | set(re.findall(r'args(?:\.get\(|, )"(\w+)"', _READ))
    | {name for view in widgets.__all__ if view != "Hit"
       for name in getattr(widgets, view).class_trait_names(sync=True)}
)  # fmt: skip

numbers = (
    st.sampled_from(
        [0, 1, -1, 2, 3, 7, 40, 2**31 - 1, 2**31, 2**53, 2**63, -(2**63), 10**400, 0.5, 1e308, -0.0]
    )
    | st.floats()
)
words = st.sampled_from(
    ["", " ", "x", "Hello", "TopK", "Temperature", "k", "t", "prompt", "seed", "max_tokens", "int8",
     "dedent", "root", "1", "1,5", "-inf", "nan", "\ud800", "\u202e", "\x00\x1b[2J", "é" * 5000,
     "IPY_MODEL_x", "<img src=x onerror=alert(1)>", "../../etc/passwd", "__class__", "{}"]
) | st.text(max_size=12)  # fmt: skip
leaves = st.none() | st.booleans() | numbers | words


def nested(value):
    for _ in range(200):
        value = [value]
    return value


values = st.recursive(
    leaves, lambda v: st.lists(v, max_size=4) | st.dictionaries(words, v, max_size=3), max_leaves=8
) | leaves.map(nested)
ids = st.sampled_from(["a", "é", "\ud800", "x" * 64]) | values
requests = st.builds(
    lambda args, kind, id, op: {**args, "kind": kind, "id": id, "op": op},
    st.dictionaries(st.sampled_from(NAMES), values, max_size=4),
    st.sampled_from(["request"] * 9 + ["reply", 7, None]),
    st.sampled_from(["usable"] * 3 + [None]).flatmap(lambda u: st.just("q1") if u else ids),
    st.sampled_from(OPS) | values,
)
data = st.one_of(
    requests.map(lambda content: {"method": "custom", "content": content}),
    requests.map(lambda content: {"method": "custom", "content": content}),
    st.builds(
        lambda state, paths: {"method": "update", "state": state, "buffer_paths": paths},
        st.dictionaries(st.sampled_from(NAMES), values, max_size=4) | values,
        st.just([]) | st.lists(st.lists(st.sampled_from(NAMES) | numbers, max_size=2), max_size=2)
        | values,
    ),
    st.builds(lambda method, rest: {"method": method, "content": rest}, values, values),
    st.just({"method": "request_state"}),
    values,
)  # fmt: skip
blobs = st.lists(st.binary(max_size=20), max_size=2)


@pytest.fixture(scope="module")
def labs_kernel(kernel, tiny_path):
    said = kernel.run(SETUP.format(path=str(tiny_path)))
    kernel.ids = json.loads(said.partition("ids ")[2])
    return kernel


def is_usable(data):
    content = data.get("content") if isinstance(data, dict) else None
    return (
        isinstance(content, dict)
        and data.get("method") == "custom"
        and content.get("kind") == "request"
        and isinstance(content.get("id"), str)
        and len(content["id"]) <= 64
    )


def test_no_message_of_a_page_ends_or_disturbs_the_kernel(labs_kernel, attack):
    kernel = labs_kernel
    console = kernel.console.read_text()
    names = [*kernel.ids, "nobody"]

    def attempt(case):
        name, data, buffers = case
        content = {"comm_id": kernel.ids.get(name, "nobody"), "data": data}
        published = kernel.ask("comm_msg", content, buffers=buffers, seconds=30)
        others = [m["content"] for m in published if m["msg_type"] not in ("status", "comm_msg")]
        if name.startswith(("closed", "nobody")):  # ipykernel's own words
            others = [c for c in others if not c.get("text", "").startswith("No such comm")]
        assert others == []
        answers = [
            message["content"]["data"]["content"]["id"]
            for message in published
            if message["msg_type"] == "comm_msg"
            and message["content"]["comm_id"] == content["comm_id"]
            and message["content"]["data"].get("method") == "custom"
            and message["content"]["data"]["content"].get("kind") == "reply"
        ]
        asked = [data["content"]["id"]] if is_usable(data) else []
        is_open = not name.startswith(("closed", "nobody")) and " box " not in name
        assert answers == (list(map(whole_characters, asked)) if is_open else [])

    attack(st.tuples(st.sampled_from(names), data, blobs), attempt, few=150)
    assert kernel.run(STILL).strip().startswith("still finished")
    assert "Traceback" not in kernel.console.read_text().removeprefix(console)
