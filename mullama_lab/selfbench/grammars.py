"""What a grammar costs: beside the same text without one, and beside llama.cpp's own sampler."""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

from llama_cpp.llama_grammar import JSON_GBNF, json_schema_to_gbnf

from mullama_lab.engine.grammar import Grammar
from mullama_lab.engine.grammar.matching.matcher import matcher
from mullama_lab.engine.model import Model
from mullama_lab.engine.session import Session
from mullama_lab.engine.stages import Chain, Constrain
from mullama_lab.selfbench.bare_loop import PROMPT, BareLoop
from mullama_lab.selfbench.table import Row
from mullama_lab.selfbench.turns import Opener, in_turns_afresh, speeds

PAIRS = 7
N_TOKENS = 96
N_WARM = 4  # tokens of a fresh context that are not counted
N_TEXTS = 8
SHORT = 32  # tokens of each of several texts
AT_LEAST = 500  # texts in a row, so that none of these runs ends by itself
TRIES = 5
N_RULES = 10_000


def rows(model: Model) -> Iterator[Row]:
    """All figures of one model."""
    least = 4.0 if model.n_vocab > 100_000 else 2.3
    grammars = _grammars()
    for name, (grammar, gbnf) in grammars.items():
        yield _against_none(model, name, grammar)
        yield _against_llama_cpp(model, name, grammar, gbnf, least)
    yield _fast_forward(model, grammars["a schema of 50 properties"][0])
    yield _many(model, [grammar for grammar, _ in grammars.values()])
    yield from _first_mask(model)


def _grammars() -> dict[str, tuple[Grammar, str]]:
    """Grammars by name, each with one in GBNF for llama.cpp."""
    words = Grammar.choice(_words(0)).many(AT_LEAST, separator=" ")
    schema = _schema("property_")
    of_schema = Grammar.gbnf(json_schema_to_gbnf(json.dumps(schema)))
    return {
        "JSON": _lasting(Grammar.gbnf(JSON_GBNF)),
        "a schema of 50 properties": (
            Grammar.json_schema(schema).many(AT_LEAST, separator="\n"),
            _lasting(of_schema)[1],
        ),
        "a choice of 1000 words": (words, words.to_gbnf()),
    }


def _schema(prefix: str) -> dict[str, Any]:
    """An object of 50 properties whose names begin so."""
    kinds = ("string", "integer", "boolean", "number", "null")
    names = [f"{prefix}{number}" for number in range(50)]
    return {
        "type": "object",
        "properties": {name: {"type": kinds[i % len(kinds)]} for i, name in enumerate(names)},
        "required": names,
        "additionalProperties": False,
    }


def _words(number: int) -> list[str]:
    """A thousand words; others for another number."""
    return [f"{first}{last}" for first in range(10, 60) for last in range(number, number + 20)]


def _lasting(grammar: Grammar) -> tuple[Grammar, str]:
    many = grammar.many(AT_LEAST, separator="\n")
    return many, many.to_gbnf()


def _against_none(model: Model, name: str, grammar: Grammar) -> Row:
    what = f"{model.source}: generate in {name} against free text, tokens/s"
    free, bound = _generating(model, Chain.default()), _generating(model, _within(grammar))
    return speeds(what, in_turns_afresh(PAIRS, bound, free), 0.97)


def _against_llama_cpp(model: Model, name: str, grammar: Grammar, gbnf: str, least: float) -> Row:
    @contextmanager
    def peer() -> Iterator[Callable[[], float]]:
        with BareLoop(model, _n_threads(model), gbnf) as bare:
            bare.speed(N_WARM)
            yield lambda: bare.speed(SHORT)

    what = f"{model.source}: generate in {name} against llama.cpp's sampler in a bare loop"
    ours = _generating(model, _within(grammar), SHORT)
    return speeds(f"{what}, tokens/s", in_turns_afresh(3, ours, peer), least)


def _fast_forward(model: Model, grammar: Grammar) -> Row:
    one_by_one, ahead = (
        _generating(model, Constrain(grammar, fast_forward=given) | Chain.default())
        for given in (False, True)
    )
    what = f"{model.source}: a schema of 50 properties with fast_forward against without, tokens/s"
    return speeds(what, in_turns_afresh(PAIRS, ahead, one_by_one), 0.9)


def _many(model: Model, grammars: list[Grammar]) -> Row:
    free = [Chain.default()] * N_TEXTS
    letters = [Grammar.gbnf(f"root ::= [{letter}-z ]{{{AT_LEAST},}}") for letter in "abcde"]
    bound = [_within(grammar) for grammar in (grammars + letters)[:N_TEXTS]]
    what = f"{model.source}: {N_TEXTS} texts at once, each with a grammar of its own, against none"
    pairs = in_turns_afresh(PAIRS, _generating_many(model, bound), _generating_many(model, free))
    return speeds(f"{what}, tokens/s", pairs, 0.95)


def _first_mask(model: Model) -> Iterator[Row]:
    """How long a new grammar takes from its text on, once the model's tokens are known."""
    with Model.load(model.path, vocab_only=True) as vocabulary:
        first = _milliseconds(vocabulary, Grammar.choice(["yes", "no"]))
    yield Row(f"{model.source}: what knows its tokens, and the first mask, ms", f"{first:.1f}")
    matcher(model, Grammar.choice(["yes", "no"]))
    for name, make in {
        "JSON": lambda n: Grammar.gbnf(f"{JSON_GBNF}\nunused-{n} ::= ws\n"),
        "a schema of 50 properties": lambda n: Grammar.json_schema(_schema(f"{n}_")),
        "a choice of 1000 words": lambda n: Grammar.choice(_words(n)),
        f"{N_RULES} rules": _of_many_rules,
    }.items():
        read, mask = zip(*(_read_and_masked(model, partial(make, n)) for n in range(TRIES)))
        what = f"{model.source}: {{}} of a new grammar, {name}, ms"
        yield Row(what.format("reading"), f"{statistics.median(read):.1f}")
        yield Row(what.format("the first mask"), f"{statistics.median(mask):.1f}")


def _milliseconds(model: Model, grammar: Grammar) -> float:
    begun = time.perf_counter()
    matcher(model, grammar).allowed()
    return 1e3 * (time.perf_counter() - begun)


def _read_and_masked(model: Model, make: Callable[[], Grammar]) -> tuple[float, float]:
    """Milliseconds from a text to its grammar, and from that to its first mask."""
    begun = time.perf_counter()
    grammar = make()
    return 1e3 * (time.perf_counter() - begun), _milliseconds(model, grammar)


def _of_many_rules(number: int) -> Grammar:
    names = [f"r{i}" for i in range(N_RULES)]
    rules = "".join(f'{name} ::= "word{i} {number}" [a-z]+\n' for i, name in enumerate(names))
    return Grammar.gbnf(f"root ::= {' | '.join(names)}\n{rules}")


def _within(grammar: Grammar) -> Chain:
    return Constrain(grammar) | Chain.default()


def _n_threads(model: Model) -> int:
    with model.session(n_ctx=64) as session:
        return session.n_threads


def _generating(model: Model, chain: Chain, n: int = N_TOKENS) -> Opener[float]:
    @contextmanager
    def opened() -> Iterator[Callable[[], float]]:
        with model.session(n_ctx=1024) as session:
            _speed(session, chain, N_WARM)
            yield lambda: _speed(session, chain, n)

    return opened


def _speed(session: Session, chain: Chain, n: int) -> float:
    trace = session.generate(PROMPT, chain, max_tokens=n, seed=7)
    if trace.finish_reason != "length":
        raise RuntimeError(f"the text ended after {len(trace)} tokens; the bench needs {n}")
    return trace.tokens_per_second


def _generating_many(model: Model, chains: list[Chain]) -> Opener[float]:
    @contextmanager
    def opened() -> Iterator[Callable[[], float]]:
        with model.session(n_ctx=2048, n_seq_max=N_TEXTS) as session:
            _speed_of_many(session, chains)
            yield lambda: _speed_of_many(session, chains)

    return opened


def _speed_of_many(session: Session, chains: list[Chain]) -> float:
    begun = time.perf_counter()
    traces = session.generate_many(PROMPT, chains, max_tokens=SHORT, seeds=range(N_TEXTS))
    return sum(len(trace) for trace in traces) / (time.perf_counter() - begun)
