"""Calls each public function of one part with nasty values, in a process of its own.

In every call one parameter has a nasty value and the others a valid one. What comes out may be a
result, a `MullamaError`, or a ValueError or TypeError that a line of mullama_lab raises in words of
its own; not what Python or numpy say of an operation in the middle.

Usage: walk.py PART FOLDER N SEED; writes each call that did something else.
"""

from __future__ import annotations

import dis
import inspect
import random
import resource
import signal
import sys
import traceback
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import ipywidgets
import numpy as np
from nasty import Hostile, nasty_values

import mullama_lab as ml
from mullama_lab import labs, plots, studies, widgets
from mullama_lab.engine import multivector
from mullama_lab.engine.stages import Stage
from mullama_lab.errors import MullamaError
from mullama_lab.widgets._view import View, WrongValue

PACKAGE = str(Path(ml.__file__).parent)
SECONDS = 60  # that any call may take, on a busy machine too
MEMORY = 6 << 30  # bytes, beyond what is in use when the walk begins
NO_OPERAND = ("unsupported operand type", "does not support ufuncs")  # Python's and numpy's words
KNOWN = (ValueError, TypeError, IndexError, TimeoutError)  # the last two for places and waits


# --- what is called, and with what ---------------------------------------------------------

Call = tuple[str, Callable[[Any], Any]]  # its name; one function of the nasty value


class Bench:
    """What the calls need, made when it is asked for; remade where a call ended it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.model = ml.Model.load(folder / "tiny.gguf")
        self._made: dict[str, Any] = {}

    @property
    def session(self) -> ml.Session:
        session = self._made.get("session")
        if session is None or session.closed:
            session = self._made["session"] = self.model.session(n_ctx=256, n_threads=1)
        return session

    @property
    def trace(self) -> ml.Trace:
        return self.once("trace", lambda: self.session.generate("abc", max_tokens=6, seed=1))

    @property
    def encoder(self) -> ml.MultiVectorEncoder:
        return self.once(
            "encoder",
            lambda: ml.MultiVectorEncoder(ml.Model.load(self.folder / "bert.gguf"), preset="plain"),
        )

    @staticmethod
    def lever() -> ml.ControlVector:
        return ml.ControlVector({1: np.ones(32)})

    def tree(self) -> ml.Tree:
        tree = ml.Tree()
        tree.add(self.trace)
        return tree

    def index(self) -> ml.MultiVectorIndex:
        index = ml.MultiVectorIndex(self.encoder)
        index.add(["a text", "another"], progress=False)
        return index

    def preview(self) -> Any:
        return ml.Chain.default().preview(self.row, model=self.model, seed=1)

    @property
    def row(self) -> Any:
        return np.linspace(-1, 1, self.model.n_vocab).astype(np.float32)

    def vectors(self, kind: str = "document") -> Any:
        return getattr(self.encoder, f"encode_{kind}")("a text")

    def once(self, name: str, make: Callable[[], Any]) -> Any:
        if name not in self._made:
            self._made[name] = make()
        return self._made[name]

    def valid(self) -> dict[str, Callable[[], Any]]:
        """A valid value for each parameter that has no default, by its name."""
        return {
            **dict.fromkeys(("text", "given", "prompt", "prompts"), lambda: "abc"),
            **dict.fromkeys(("trace", "start"), lambda: self.trace),
            **dict.fromkeys(("step", "number", "sequence", "index", "first"), lambda: 0),
            **dict.fromkeys(("token", "value", "n_tokens"), lambda: 5),
            "tokens": lambda: [5, 6],
            "branches": lambda: [(self.trace, 1, 9)],
            "traces": lambda: [self.trace],
            "chain": lambda: ml.TopK(5),
            "grammar": lambda: ml.Grammar.choice(["a", "b"]),
            "messages": lambda: [{"role": "user", "content": "hi"}],
            "candidates": lambda: ["a", "b"],
            "on": lambda: self.session,
            "stage": lambda: ml.TopK,
            "other": ml.Setting,
            "row": lambda: self.row,
            **dict.fromkeys(("callback", "call"), lambda: lambda *_: None),
            "texts": lambda: [[5, 6], [5, 7]],
            "pairs": lambda: [("yes", "no"), ("good", "bad")],
            "visit": lambda: lambda *_: None,
            "model": lambda: self.model,
            "what": lambda: 1,
            "key": lambda: next(iter(self.tree().nodes)).key,
            "name": lambda: "name",
            "query": lambda: self.vectors("query"),
            **dict.fromkeys(("document", "a", "b"), self.vectors),
            "documents": lambda: {"one": self.vectors(), "two": self.vectors()},
            "ids": lambda: [0],
            "encoder": lambda: self.encoder,
            "path": lambda: self.folder / "saved",
            "source": lambda: self.folder / "tiny.gguf",
            "preview": self.preview,
            "fan": lambda: self.once(
                "fan",
                lambda: studies.seeds.seed_fan(
                    "abc", on=self.session, seeds=range(3), max_tokens=4, progress=False
                ),
            ),
            "trained": lambda: self.once(
                "trained",
                lambda: studies.control_vectors.train(
                    [("yes", "no"), ("good", "bad")], on=self.session, progress=False
                ),
            ),
            "lever": self.lever,
            "values": lambda: [0.5, 1.0],
            "levers": lambda: {self.lever(): [0.5], 2 * self.lever(): [1.0]},
            "found": lambda: self.once(
                "found",
                lambda: studies.effect.strengths(
                    self.session, "abc", self.lever(), [1.0], progress=False
                ),
            ),
            "curve": lambda: studies.timing.from_trace(self.trace),
            "monitor": lambda: self.once("monitor", lambda: studies.monitor.Monitor(self.session)),
            "modules": lambda: ["json"],
            "methods": lambda: {"one": [["a", "b"]]},
            "rankings": lambda: [["a", "b"]],
            "answers": lambda: [["a"]],
            "questions": lambda: ["a b"],
            **dict.fromkeys(("before", "after"), lambda: [["a", "b"]]),
            "queries": lambda: [self.vectors("query")],
            "function": lambda: lambda logits, history: logits,
            "words": lambda: ["word"],
            "biases": lambda: {"word": -1.0},
            "rival": lambda: "one",
            "setting": lambda: "k",
            "session": lambda: self.session,
            "timeout": lambda: 5,
            "planned": lambda: self.once(
                "planned", lambda: studies.planner.plan(self.folder / "tiny.gguf", n_ctx=64)
            ),
            "data": lambda: {},
        }


def parameters(function: Callable[..., Any]) -> list[inspect.Parameter]:
    kinds = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    found = inspect.signature(function).parameters.values()
    return [each for each in found if each.kind not in kinds and not each.name.startswith("_")]


def calls_of(name: str, function: Callable[..., Any], bench: Bench) -> Iterator[Call]:
    """The function with each of its parameters in turn left open, which comes first."""
    valid = bench.valid()
    asked = parameters(function)
    for open_one in asked:
        others = [each for each in asked if each is not open_one and each.default is each.empty]
        if missing := [each.name for each in others if each.name not in valid]:
            raise SystemExit(f"{name}: walk.py has no valid value for {missing[0]!r}")

        def call(value, function=function, open_one=open_one, others=others):
            keywords = {each.name: valid[each.name]() for each in others}
            if "progress" in {each.name for each in asked} and open_one.name != "progress":
                keywords["progress"] = False
            keywords |= {k: v for k, v in QUICK.get(name, {}).items() if k != open_one.name}
            if open_one.kind is open_one.POSITIONAL_ONLY:
                return function(value, *keywords.values())
            return function(**keywords, **{open_one.name: value})

        yield f"{name}({open_one.name}=", call


QUICK = {  # what keeps a call short
    "noise.noise": {"text": "abc", "batch_sizes": (1,), "threads": (1,), "neighbours": ()},
}
# Of the loop that fills a trace, or with nothing that a caller gives.
INHERITED = {"count", "index"}  # of collections.abc.Sequence
INTERNAL = {
    *("Trace.append", "Trace.append_forced", "Trace.change_chain", "Trace.change_weights"),
    *("Trace.end_text", "Trace.begun", "Run.on_prompt", "states.repeated"),
    *("PlanBoard.begin_with", "MemoryMap.put_to_soon"),  # for a panel, with what a session says
    *("margin.margin", "margin.learnt_margin", "standard_library.documentation"),
}


def methods(name: str, make: Callable[[], Any], bench: Bench) -> Iterator[Call]:
    """The public methods and settable properties of an object, made anew for each call."""
    kind = type(make())
    bases = [base for base in (ipywidgets.Box, View) if issubclass(kind, base)]
    inherited = dir(bases[0]) if bases else INHERITED
    for method in dir(kind):
        found = inspect.getattr_static(kind, method)
        if method.startswith("_") or f"{name}.{method}" in INTERNAL or method in inherited:
            continue
        if isinstance(found, property) and found.fset:
            yield (
                f"{name}.{method} = (",
                lambda value, method=method: setattr(make(), method, value),
            )
        elif inspect.isfunction(found):
            bound = inspect.signature(getattr(make(), method))

            def late(*args, method=method, **keywords):
                return getattr(make(), method)(*args, **keywords)

            late.__signature__ = bound  # type: ignore[attr-defined]
            yield from calls_of(f"{name}.{method}", late, bench)
        elif isinstance(found, (classmethod, staticmethod)):
            yield from calls_of(f"{name}.{method}", getattr(kind, method), bench)


def functions(module: Any, bench: Bench) -> Iterator[Call]:
    short = module.__name__.rpartition(".")[2]
    for name, function in list(vars(module).items()):
        ours = inspect.isfunction(function) and function.__module__ == module.__name__
        if ours and not name.startswith("_") and f"{short}.{name}" not in INTERNAL:
            yield from calls_of(f"{short}.{name}", function, bench)


def traits(name: str, make: Callable[[], Any], bench: Bench) -> Iterator[Call]:
    """The public traits of a widget that its own class has."""
    kind = type(make())
    inherited = set(dir(ipywidgets.DOMWidget))
    for trait, found in kind.class_traits().items():
        if trait.startswith("_") or trait in inherited or trait in ("comm", "keys", "log"):
            continue
        if not found.read_only:
            yield f"{name}.{trait} = (", lambda value, t=trait: setattr(make(), t, value)


def settings(name: str, lab: Any) -> Iterator[Call]:
    known: list[str] = []
    try:
        lab.set(**{"no such setting": 1})
    except ValueError as error:
        known = str(error).partition("it has ")[2].partition(".")[0].split(", ")
    for setting in known:
        yield f"{name}.set({setting}=", lambda value, s=setting: lab.set(**{s: value})


def part_model(b: Bench) -> Iterator[Call]:
    yield from methods("Model", lambda: b.model, b)
    for option in inspect.signature(ml.Model.session).parameters:
        if option != "self":
            yield (
                f"model.session({option}=",
                lambda value, o=option: b.model.session(**{"n_ctx": 64, o: value}).close(),
            )
            yield f"Session.load({option}=", lambda v, o=option: _loaded(b, o, v)
    yield from calls_of("Session", ml.Session, b)
    yield from functions(ml.hub, b)


def _loaded(b: Bench, option: str, value: Any) -> None:
    path = b.once("saved", lambda: b.session.save(b.folder / "saved-once").path)
    ml.Session.load(path, b.model, **{option: value}).close()


def part_session(b: Bench) -> Iterator[Call]:
    yield from methods("Session", lambda: b.session, b)


def part_trace(b: Bench) -> Iterator[Call]:
    yield from methods("Trace", lambda: b.trace, b)
    yield from methods("Run", lambda: b.session.start("abc", max_tokens=2), b)
    yield from methods("Tree", b.tree, b)
    yield from methods("Preview", b.preview, b)
    yield "Trace[", lambda value: b.trace[value]


def part_chain(b: Bench) -> Iterator[Call]:
    for name in ml.__all__:
        kind = getattr(ml, name)
        if isinstance(kind, type) and (issubclass(kind, Stage) or kind in (ml.Chain, ml.Setting)):
            yield from calls_of(name, kind, b)
            for method, found in inspect.getmembers(kind, inspect.ismethod):
                if not method.startswith("_"):
                    yield from calls_of(f"{name}.{method}", found, b)
    yield from methods("Chain", ml.Chain.default, b)
    yield from methods("Setting", ml.Setting, b)
    for name, value in (("Chain", ml.Chain.default()), ("Stage", ml.TopK(5))):
        yield f"{name} | (", lambda other, value=value: value | other
        yield f"({name} | ", lambda other, value=value: other | value
    yield "Chain[", lambda value: ml.Chain.default()[value]
    yield "(in Chain ", lambda value: value in ml.Chain.default()


def part_retrieval(b: Bench) -> Iterator[Call]:
    yield from calls_of("MultiVectorEncoder", ml.MultiVectorEncoder, b)
    yield from methods("MultiVectorEncoder", lambda: b.encoder, b)
    yield from calls_of("MultiVectorIndex", ml.MultiVectorIndex, b)
    yield from methods("MultiVectorIndex", b.index, b)
    yield from methods("MultiVector", b.vectors, b)
    for name in multivector.__all__:
        found = getattr(multivector, name)
        if inspect.isfunction(found):
            yield from calls_of(f"multivector.{name}", found, b)


def part_studies(b: Bench) -> Iterator[Call]:
    for name in studies.__all__:
        if name != "bench":  # which would measure; its own tests give it such values
            yield from functions(getattr(studies, name), b)
    for name in ("depth", "from_trace", "operators"):  # at home in modules of their own
        yield from calls_of(f"timing.{name}", getattr(studies.timing, name), b)
    yield from methods("Timing", lambda: studies.timing.timing(b.trace), b)
    yield from methods("DepthCurve", lambda: studies.timing.depth(b.session, repeats=2), b)
    yield from functions(plots, b)


def part_widgets(b: Bench) -> Iterator[Call]:
    for name in widgets.__all__:
        kind = getattr(widgets, name)
        if name not in ("WhatIf", "Hit"):
            yield from calls_of(name, kind, b)
            yield from traits(name, kind, b)
    for view in (
        widgets.Meters(b.valid()["monitor"]()),
        widgets.TimeStrip(studies.timing.timing(b.trace)),
        widgets.MemoryMap(b.session),
        widgets.PlanBoard(),
    ):
        name = type(view).__name__
        yield from traits(name, lambda view=view: view, b)
        yield from methods(name, lambda view=view: view, b)


def part_labs(b: Bench) -> Iterator[Call]:
    made = {
        "SamplerLab": labs.SamplerLab(b.model),
        "BranchLab": labs.BranchLab(b.model),
        "PerfLab": labs.PerfLab(b.model),
        "RetrievalLab": labs.RetrievalLab(b.encoder, ["a text", "another"]),
    }
    for name, lab in made.items():
        if hasattr(lab, "set"):
            yield from settings(name, lab)
        yield from methods(name, lambda lab=lab: lab, b)
        yield from calls_of(name, getattr(labs, name), b)


PARTS = {name[5:]: found for name, found in list(vars().items()) if name.startswith("part_")}


# --- the walk ------------------------------------------------------------------------------


class TooLong(BaseException):
    """A call took more than its time."""


def _too_long(*_: object) -> None:
    raise TooLong


def wrong(error: BaseException) -> str:
    """What is wrong with an error; "" if it is one of those that may come."""
    if isinstance(error, (MullamaError, Hostile)):
        return ""
    kind = ValueError if isinstance(error, WrongValue) else type(error)
    if kind is RecursionError and _is_in(error, "traitlets"):  # in a message of its own
        return ""
    if kind is TypeError and any(said in str(error) for said in NO_OPERAND):
        return ""
    if kind in KNOWN and (_is_ours(error) or _is_in(error, "traitlets")):
        return ""
    return kind.__name__


def _last(error: BaseException) -> Any:
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    return trace


def _is_in(error: BaseException, package: str) -> bool:
    """Whether it was raised in a file of another package, which checks what is set there."""
    return f"/{package}/" in _last(error).tb_frame.f_code.co_filename


def _is_ours(error: BaseException) -> bool:
    """Whether a `raise` of mullama_lab made it."""
    trace = _last(error)
    if not trace.tb_frame.f_code.co_filename.startswith(PACKAGE):
        return False
    code = trace.tb_frame.f_code
    at = {each.offset: each.opname for each in dis.get_instructions(code)}
    return at.get(trace.tb_lasti) == "RAISE_VARARGS"


def attempt(call: Callable[[Any], Any], value: Any) -> tuple[str, str]:
    """What is wrong with what a call did, and where."""
    signal.setitimer(signal.ITIMER_REAL, SECONDS)
    try:
        call(value)
    except BaseException as error:
        signal.setitimer(signal.ITIMER_REAL, 0)
        found = wrong(error)
        if not found:
            return "", ""
        frames = [f for f in traceback.extract_tb(error.__traceback__) if "fuzz" not in f.filename]
        places = [f"{Path(f.filename).name}:{f.lineno}" for f in frames[-4:]]
        try:
            said = ascii(str(error))[:150]
        except BaseException:
            said = "?"
        return f"{found}: {said}", " ".join(places)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
    return "", ""


def main(part: str, folder: Path, n: int, seed: int) -> None:
    warnings.simplefilter("ignore")
    signal.signal(signal.SIGALRM, _too_long)
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + MEMORY, -1))
    chance, bench = random.Random(seed), Bench(folder)
    values = nasty_values(folder)
    n_calls = 0
    for name, call in PARTS[part](bench):
        for value in chance.sample(sorted(values), min(n, len(values))):
            print(f"{name}{value})", file=sys.stderr, flush=True)
            if ("progress=" in name or "visit=" in name) and callable(values[value]()):
                continue  # what it raises is its own
            said, where = attempt(call, values[value]())
            n_calls += 1
            if said:
                print(f"{name}{value}): {said} at {where}", flush=True)
    print(f"{n_calls} calls", flush=True)


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4]))
