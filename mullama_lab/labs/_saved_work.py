"""What a workbench made and asks for, as a file that another kernel takes up again.

What comes from a file is checked as if a stranger had written it: its checksum says only that
nothing happened to the file.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mullama_lab.engine import sealed_file
from mullama_lab.engine.model import Model
from mullama_lab.engine.options import flag, instance, whole
from mullama_lab.engine.session import Session
from mullama_lab.engine.session.file import about_model
from mullama_lab.engine.session.state import must_be_of
from mullama_lab.engine.stages import Chain
from mullama_lab.engine.stages.chain_sampler import check
from mullama_lab.engine.steering.file import known_of, merged, packed, unpacked
from mullama_lab.engine.steering.steering import Steering
from mullama_lab.engine.trace import Trace
from mullama_lab.engine.tree import Tree
from mullama_lab.errors import MullamaError, SessionFileError, SessionMismatch
from mullama_lab.files.path import in_full
from mullama_lab.files.stamp import FileStamp
from mullama_lab.widgets._run_settings import read_setting, whole_messages
from mullama_lab.widgets._runs import Asked, Ends, PastRun
from mullama_lab.widgets.panel_bar import panel_keys

KIND, FORMAT = "mullama_lab lab", 1
SETTINGS = ("prompt", "messages", "chat", "seed", "max_tokens")  # and stop_strings

Plain = dict[str, Any]


@dataclass(frozen=True, eq=False)
class Work:
    """The work on one model.

    Attributes:
        settings: what a run panel asks for, by name.
        panels: keys of the panels that are shown.
        shown: number of the run that is shown; 0 for none. Of those read it is the newest then.
        steering: what acts on the weights in its session.
    """

    settings: Plain
    chain: Chain
    panels: list[str]
    runs: Sequence[PastRun]
    trees: list[Tree]
    shown: int
    steering: Steering


def write(path: str | Path, work: Work, model: Model) -> FileStamp:
    """Write a file, and give the stamp that it has; errors as `Workbench.save`."""
    places = {
        id(branch.trace): [i, branch.number] for i, tree in enumerate(work.trees) for branch in tree
    }
    plain = {
        "settings": work.settings,
        "chain": work.chain.to_dict(),
        "panels": work.panels,
        "trees": [tree.to_dict() for tree in work.trees],
        "runs": [_packed(run, places) for run in work.runs],
        "shown": work.shown,
        "in_force": packed(work.steering),
    }
    known = known_of([work.steering])  # and in force in what follows, each once
    for one in _records(plain):
        known = merged(known, one.pop("steering"))
    plain["steering"] = known
    text = np.frombuffer(json.dumps(plain).encode(), np.uint8)
    about = {"kind": KIND, "format": FORMAT, "model": about_model(model)}
    return sealed_file.write(path, {"work": text}, about)


def read(path: str | Path, model: Model) -> tuple[Work, FileStamp]:
    """What `write` wrote, and the stamp of the file; errors as `Workbench.reopen`."""
    arrays, about = sealed_file.read(path)
    stamp = FileStamp.of(in_full(path))
    name = in_full(path).name
    if about.get("kind") != KIND:
        raise SessionFileError(f"{name} holds no lab. Give a file that `save` of a lab wrote.")
    if about.get("format") != FORMAT:
        raise SessionMismatch(
            f"{name} was saved with format {about.get('format')!r:.20}, and this installation has "
            f"{FORMAT}. Open it with the version of mullama_lab that saved it."
        )
    try:
        must_be_of(name, dict(about["model"]), about_model(model))
        work = _unpacked(json.loads(arrays["work"].tobytes()))
        check(work.chain, model)
        for trace in (*_branches(work.trees), *(run.trace for run in work.runs)):
            trace.must_be_of(model)
    except (KeyError, ValueError, TypeError, AttributeError, RecursionError) as error:
        raise of_a_stranger(path, error) from error
    return work, stamp


def put_in_force(path: str | Path, steering: Steering, session: Session) -> None:
    """Have act on the weights of a session what did in that of a lab; SessionFileError if not."""
    try:
        session.adapters, session.control = steering.adapters, steering.control
    except MullamaError as error:
        raise SessionFileError(
            f"{in_full(path).name} was saved with an adapter in force that is not to be had: "
            f"{error} Put its file back, or reopen the lab on a session of yours: "
            "reopen(path, model.session())."
        ) from error


def of_a_stranger(path: str | Path, error: Exception) -> SessionFileError:
    """What is raised of a file with a right checksum whose contents no lab wrote."""
    said = f"it has no {error}" if isinstance(error, KeyError) else str(error)
    return SessionFileError(
        f"{in_full(path).name} has a right checksum but is not what a lab saves: {said}. "
        "It was made by another program; save the lab again."
    )


def _branches(trees: Sequence[Tree]) -> list[Trace]:
    return [branch.trace for tree in trees for branch in tree]


def _packed(run: PastRun, places: Mapping[int, Sequence[int]]) -> Plain:
    """A run; the trace of one that is a branch of a tree is written with that tree."""
    place = places.get(id(run.trace))
    trace = {"trace": run.trace.to_dict()} if place is None else {"branch": place}
    return {"number": run.number, "asked": run.asked and asdict(run.asked), **trace}


def _records(plain: Plain) -> list[Plain]:
    """The trees, and the traces that are in none of them."""
    return [*plain["trees"], *(run["trace"] for run in plain["runs"] if "trace" in run)]


def _unpacked(plain: Plain) -> Work:
    for one in _records(plain):  # an older file has it in each
        one.setdefault("steering", plain.get("steering"))
    trees = [Tree.from_dict(tree) for tree in plain["trees"]]
    runs: list[PastRun] = []
    for run in plain["runs"]:
        least = runs[-1].number + 1 if runs else 1
        number = whole("a number of a run", run["number"], least, 2**31 - 1)
        runs.append(PastRun(number, _trace(run, trees), _asked(run["asked"])))
    numbers = [run.number for run in runs]
    shown = whole("shown", plain["shown"], 0, 2**31 - 1)
    return Work(
        settings=_settings(plain["settings"]),
        chain=Chain.from_dict(plain["chain"]),
        panels=panel_keys(plain["panels"]),
        runs=runs,
        trees=[tree for tree in trees if len(tree)],
        shown=shown if shown in numbers else max(numbers, default=0),
        steering=unpacked(plain.get("in_force", {}), plain.get("steering", {})),
    )


def _trace(run: Plain, trees: Sequence[Tree]) -> Trace:
    if "trace" not in run:
        i, number = run["branch"]
        return trees[whole("a tree", i, 0, len(trees) - 1)].branch(number).trace
    trace = Trace.from_dict(run["trace"])
    if not trace.finish_reason:
        raise ValueError("a run does not say how it ended")
    return trace


def _settings(plain: Plain) -> Plain:
    settings = dict(read_setting(name, plain[name]) for name in SETTINGS)
    settings["messages"] = whole_messages(settings["messages"])
    return {**settings, "stop_strings": _stop_strings(plain["stop_strings"])}


def _stop_strings(plain: Any) -> list[str]:
    return [instance("a stop string", text, str) for text in instance("stop strings", plain, list)]


def _asked(plain: Any) -> Asked | None:
    """What a panel had asked for; the history keeps as much of it as the trace agrees with."""
    if plain is None:
        return None
    ends = plain["ends"]
    if ends is not None:
        most = whole("max_tokens", ends["max_tokens"], 0, 2**31)
        ends = Ends(most, _stop_strings(ends["stop_strings"]))
    messages = whole_messages(instance("messages", plain["messages"], list))
    prompt, chat = instance("prompt", plain["prompt"], str), flag("chat", plain["chat"])
    return Asked(prompt, chat, messages, ends)
