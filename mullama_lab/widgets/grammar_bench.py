"""GrammarBench: a grammar while it is written, and a text put to it; no weights are needed."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable
from itertools import count
from typing import Any
from xml.etree.ElementTree import Element

import numpy as np
import traitlets
from numpy.typing import ArrayLike, NDArray

from mullama_lab.engine.grammar import Grammar
from mullama_lab.engine.grammar.typed import read_grammar, write_grammar
from mullama_lab.engine.grammar.walk.facts import AllowedToken, expected_in_words
from mullama_lab.engine.grammar.walk.walk import GrammarWalk
from mullama_lab.engine.model import Model
from mullama_lab.engine.options import instance, utf8
from mullama_lab.errors import GrammarError, MullamaError
from mullama_lab.glyphs import brief, one_line, visible_piece
from mullama_lab.widgets import _front_end, _static
from mullama_lab.widgets._kept import CLOSED, weakly
from mullama_lab.widgets._tried_texts import TriedTexts
from mullama_lab.widgets._view import Undo, View, true_or_false, what_failed, whole_number

__all__ = ["GrammarBench"]
__dir__ = __all__.copy  # what tab completion offers

LONGEST = 20_000  # characters of a grammar and of a text
MOST_TOKENS = 500  # of a text that are shown one by one
MOST_CHIPS = 12  # tokens that may come next, that are shown
MOST_WARNINGS = 20
MOST_REST = 200  # characters of a text that were not taken
FIRST = 'root ::= "yes" | "no"'


class GrammarBench(View):
    """A grammar while it is written, and a text put to it: how far it comes, and what may follow.

        model = ml.Model.load("smollm2-135m", vocab_only=True)
        bench = GrammarBench(model, 'root ::= "yes" | "no" "!"')
        bench.sample = "nope"
        bench.walk        # the GrammarWalk: refusal, expected, stacks, allowed()

    The grammar is typed as GBNF, as a JSON Schema or as a /regular expression/. While what is typed
    is no grammar, `problem` says why, and the grammar before stays in force.

    Args:
        model: whose tokens; one loaded with `vocab_only=True` will do. Without one only what is
            wrong with the grammar is said.
        grammar: a Grammar, or its text.
        sample: the text put to it.

    Raises:
        GrammarError: the grammar cannot be read, or the model cannot carry it out.
        ValueError: the model has no vocabulary.
    """

    _esm = _front_end.module("grammar_bench")
    _css = _front_end.style("grammar_bench")

    text = traitlets.Unicode("", help="The grammar as it is typed.").tag(sync=True)
    is_typed = traitlets.Bool(True, help="Whether it can be typed, or was made in Python.").tag(
        sync=True
    )
    problem = traitlets.Dict(help="What is wrong with it: message, line, column.").tag(sync=True)
    warnings = traitlets.List(
        traitlets.Dict(), help="What may be wrong in the grammar in force: message, line, column."
    ).tag(sync=True)
    n_rules = traitlets.Int(0, help="How many rules the grammar has.").tag(sync=True)
    sample = traitlets.Unicode("", help="The text put to it.").tag(sync=True)
    constrains = traitlets.Enum(
        ["", "off", "on"], "", help='Whether a run keeps to it; "" where there is no run.'
    ).tag(sync=True)
    shown = traitlets.Dict(help="What the walk says of the text.").tag(sync=True)
    tried = traitlets.Dict(help="Which alternatives the texts tried so far use.").tag(sync=True)

    def __init__(
        self, model: Model | None = None, grammar: Grammar | str = FIRST, sample: str = ""
    ) -> None:
        self._lock = threading.RLock()
        self._model = None if model is None else instance("model", model, Model)
        self._grammar = Grammar.choice([""])
        self._walk: GrammarWalk | None = None
        self._row: NDArray[np.float64] | None = None
        self._is_writing = False
        self._drawn = count()
        self._tried = TriedTexts(weakly(self._show_tried))
        super().__init__()
        self.grammar = grammar
        self.sample = sample

    # What it is about.

    @property
    def grammar(self) -> Grammar:
        """The grammar in force; it can be set as a Grammar or as text."""
        return self._grammar

    @grammar.setter
    def grammar(self, grammar: Grammar | str) -> None:
        if not isinstance(grammar, (Grammar, str)):
            raise TypeError(f"{brief(grammar)} is no Grammar, and no text of one.")
        made = read_grammar(grammar) if isinstance(grammar, str) else grammar
        with self._lock, self.hold_sync():
            self._work_on(made, self._model)
            self._write(grammar if isinstance(grammar, str) else None)

    @property
    def model(self) -> Model | None:
        """The model whose tokens the text is made of."""
        return self._model

    def put_to(self, model: Model | None, grammar: Grammar | None = None) -> None:
        """Go on with another model, and another grammar where one is given.

        What the model cannot carry out is said in `problem`; there is no walk then.
        """
        grammar = self._grammar if grammar is None else grammar
        with self._lock, self.hold_sync():
            self._model = model
            try:
                self._work_on(grammar, model)
            except (MullamaError, ValueError) as error:
                self._work_on(grammar, None)
                self.problem = {"message": what_failed(error)}
            self._write()

    @property
    def walk(self) -> GrammarWalk | None:
        """The walk of the text through the grammar; None without a model."""
        return self._walk

    def show_row(self, row: ArrayLike | None) -> None:
        """Show the likeliest of the tokens that may come next, and what the grammar takes away.

        Args:
            row: the logits that a model gives for the next token, shape (n_vocab,); None forgets
                them.
        """
        with self._lock:
            self._row = None if row is None else np.asarray(row, np.float64)
            self._show()

    def show_example(self) -> None:
        """Put another text of the grammar to it, drawn by chance.

        Raises:
            GrammarError: none was found.
        """
        with self._lock:
            texts = self._grammar.examples(2, seed=next(self._drawn))
            self.sample = next((text for text in texts if text != self.sample), self.sample)
            self._tried.add(self.sample)

    def add_text(self, text: str) -> None:
        """Count a text among those tried, as what a run wrote: `tried` says what they use.

        Counted are also the examples and the texts that were put to it, each once it is complete.
        """
        if not isinstance(text, str):
            raise TypeError(f"{brief(text)} is no text.")
        utf8("the text", text)
        self._tried.add(text)

    def must_be_read(self) -> None:
        """Refuse what is to go by the grammar that is typed, while that is none.

        Raises:
            GrammarError: it has a mistake; the one in force is that before it.
        """
        problem: dict[str, Any] = self.problem
        if problem:
            what = re.split(r"\.?\n|\. ", problem["message"])[0].rstrip(".")
            or_off = ", or turn “Constrain the run” off" * (self.constrains == "on")
            raise GrammarError(
                f"nothing ran, as the grammar has a mistake ({what}). Mend it{or_off}.",
                line=problem.get("line"),
                column=problem.get("column"),
            )

    def settle(self) -> None:
        """Wait until what the texts tried use is shown; for code, not for callbacks."""
        self._tried.settle()

    def close(self, why: str = CLOSED) -> None:
        self._tried.close()
        super().close(why)

    def say_of_row(self, line: str) -> None:
        """Say in a line why no row is shown."""
        self.shown = {**self.shown, "tax": line}

    def on_change(self, callback: Callable[[], object]) -> Undo:
        """Call `callback()` when the grammar in force or the text put to it is another one."""
        return self._listen("change", callback)

    def on_use(self, callback: Callable[[bool], object]) -> Undo:
        """Call `callback(on)` when a run is to keep to the grammar, or no more."""
        return self._listen("use", callback)

    def on_run_both(self, callback: Callable[[], object]) -> Undo:
        """Call `callback()` when a run without the grammar and one with it are asked for."""
        return self._listen("run_both", callback)

    # Inside.

    @traitlets.observe("text")
    def _text_changed(self, change: Any) -> None:
        """Read what was typed; what is no grammar leaves the one before in force."""
        with self._lock, self.hold_sync():
            if self._is_writing:
                return
            try:
                _must_be_short(change["new"])
                self._work_on(read_grammar(change["new"]), self._model)
                self._read_tried()
            except (MullamaError, ValueError) as error:
                line, column = getattr(error, "line", None), getattr(error, "column", None)
                said = {"message": what_failed(error), "line": line, "column": column}
                self.problem = said

    @traitlets.validate("sample")
    def _sample_given(self, proposal: Any) -> str:
        _must_be_short(proposal["value"])
        utf8("the text", proposal["value"])
        return proposal["value"]

    @traitlets.observe("sample")
    def _sample_changed(self, change: Any) -> None:
        with self._lock:
            walk = self._walk
            if walk is not None and (change["new"] != walk.text or walk.refusal is not None):
                walk.go_to(change["new"])
            self._moved()

    def _work_on(self, grammar: Grammar, model: Model | None) -> None:
        """Walk through a grammar from now on; an error leaves all as it is."""
        walk = None if model is None else GrammarWalk(grammar, model)
        if walk is not None:
            walk.go_to(self.sample)
        self._grammar, self._walk = grammar, walk
        self.problem, self.n_rules = {}, len(grammar.rules)
        self.warnings = [
            {"message": one.message, "line": one.line, "column": one.column}
            for one in grammar.warnings[:MOST_WARNINGS]
        ]
        self._drawn = count()
        self._moved()

    def _write(self, typed: str | None = None) -> None:
        """Show the grammar in force as text: as it was typed, or as it is written.

        What is too long to be edited is shown in part.
        """
        text = write_grammar(self._grammar) if typed is None else typed
        self.is_typed = text is not None and len(text) <= LONGEST
        if text is None or not self.is_typed:
            text = _shortened(str(self._grammar))
        self._is_writing = True
        try:
            self.text = text
        finally:
            self._is_writing = False
        self._read_tried()

    def _read_tried(self) -> None:
        """Find out what the texts tried use of the grammar in force."""
        self.tried = {}
        self._tried.begin(self._grammar, self.text)

    def _show_tried(self, said: dict[str, Any]) -> None:
        self.tried = said

    def _moved(self) -> None:
        self._row = None
        self._show()
        walk = self._walk
        if walk is not None and walk.is_complete and walk.refusal is None:
            self._tried.grow(walk.text)
        self._tell("change")

    def _go(self, move: Callable[[GrammarWalk], object]) -> None:
        """Move the walk, and have the text be what it has taken."""
        with self._lock:
            walk = self._must_walk()
            move(walk)
            if self.sample != walk.text:
                self.sample = walk.text
            else:
                self._moved()

    def _must_walk(self) -> GrammarWalk:
        if self._walk is None:
            raise ValueError("there is no model whose tokens the text could be made of.")
        return self._walk

    def _on_request(self, op: str, args: dict[str, Any]) -> Any:
        if op in ("write", "try"):
            text = args.get("text")
            if not isinstance(text, str):
                raise TypeError(f"{op} takes a text, not {brief(text)}")
            _must_be_short(text)
            if op == "try":
                self.sample = text
            elif not self.is_typed:
                raise ValueError("this grammar was made in Python: set another one there.")
            else:
                self.text = text
            return {}
        if op == "step":
            token = whole_number(args, "token", low=0, high=2**31 - 1)
            self._go(lambda walk: walk.step(token))
            return {}
        if op == "example":
            self.show_example()
            return {}
        if op in ("back", "forward"):
            self._go(_back if op == "back" else _forward)
            return {}
        if op == "run_both":
            self._must_be_heard("run_both")
            self._tell("run_both")
            return {}
        if op == "use":
            self._must_be_heard("use")
            self._tell("use", true_or_false(args, "on"))
            return {}
        return super()._on_request(op, args)

    # What is shown.

    def _show(self) -> None:
        walk = self._walk
        self.shown = {} if walk is None else _shown(walk, self._row)

    def __repr__(self) -> str:
        return f"GrammarBench({self._walk!r})" if self._walk else "GrammarBench()"

    def _plain_text(self) -> str:
        lines = [f"Grammar ({len(self._grammar.rules)} rules)", *self.text.splitlines()]
        if message := self.problem.get("message"):
            lines += [f"nothing runs by it until it is mended: {message}"]
        if self._walk is not None:
            lines += ["", f"Text: {self._walk!r}"]
        return "\n".join(lines)

    def _static_html(self) -> Element:
        e = _static.element
        code = "margin:4px 0;padding:6px 8px;border:1px solid rgba(128,128,128,.35)"
        shown, parts = self.shown, []
        if shown:
            tokens = [
                e("span", one["text"], title=" › ".join(one["rules"])) for one in shown["tokens"]
            ]
            rest = e("s", shown["rest"]) if shown["rest"] else None
            n, n_tokens = len(tokens), shown["n_tokens"]
            cut = f"The last {n:,} of {n_tokens:,} tokens:" if n < n_tokens else None
            parts = [
                e("div", cut, style=_static.QUIET) if cut else None,
                e("div", *tokens, rest, style=f"{code};font-family:monospace;white-space:pre-wrap"),
                e("div", shown["refusal"] or _state(shown), style=_static.QUIET),
            ]
        problem = self.problem.get("message")
        return e(
            "div",
            e("b", "Grammar"),
            e("pre", self.text, style=code),
            e("div", problem, style="white-space:pre-wrap") if problem else None,
            *parts,
            style=_static.FONT,
        )


def _shortened(text: str) -> str:
    return text if len(text) <= LONGEST else text[:LONGEST] + "…"


def _must_be_short(text: str) -> None:
    if len(text) > LONGEST:
        raise ValueError(
            f"a text of {len(text):,} characters; at most {LONGEST:,} can be edited here."
        )


def _back(walk: GrammarWalk) -> None:
    """Take back the last token; of a text that was refused, what was not taken."""
    if walk.refusal is None and walk.tokens:
        walk.back()


def _forward(walk: GrammarWalk) -> None:
    """Take what must come, or else the first token that may."""
    tokens = walk.forced.tokens or [one.token for one in walk.likeliest(n=1)]
    if not tokens:
        raise ValueError("the text is complete: nothing may follow.")
    walk.feed(tokens)


def _shown(walk: GrammarWalk, row: NDArray[np.float64] | None) -> dict[str, Any]:
    """What the browser half draws of a walk."""
    refusal = walk.refusal
    likeliest = walk.likeliest(row, MOST_CHIPS)
    steps = walk.steps
    return {
        "tokens": [{"text": one.text, "rules": one.rules} for one in steps[-MOST_TOKENS:]],
        "n_tokens": len(steps),
        "refusal": "" if refusal is None else str(refusal),
        "rest": "" if refusal is None else refusal.rest[:MOST_REST],
        "expected": expected_in_words(walk.expected),
        "stack": [frame.rule for frame in walk.stacks[0]] if walk.stacks else [],
        "n_allowed": walk.n_allowed,
        "n_vocab": walk.model.n_vocab,
        "forced": walk.forced.text[:MOST_REST],
        "is_complete": walk.is_complete,
        "can_only_end": walk.can_only_end,
        "is_ended": walk.is_ended,
        "allowed": [_chip(one, walk.model) for one in likeliest],
        "tax": "" if row is None else _tax(walk, row),
    }


def _chip(one: AllowedToken, model: Model) -> dict[str, Any]:
    rules = [rule for _, rule in one.portions]
    return {
        "token": one.token,
        "bytes": model.piece(one.token).hex(),
        "p": None if np.isnan(one.logprob) else float(np.exp(one.logprob)),
        "spans": " › ".join(rules) if len(rules) > 1 else "",
    }


def _tax(walk: GrammarWalk, row: NDArray[np.float64]) -> str:
    """What the grammar takes from a model's next token, in a sentence."""
    if not np.isfinite(row.max()) or np.isnan(row).any():
        return "The model gave no probabilities here."
    p = np.exp(row - row.max())
    p /= p.sum()
    forbidden = np.where(walk.mask, 0.0, p)
    lost, most = float(forbidden.sum()), int(forbidden.argmax())
    if lost < 0.0005:
        return "The model would hardly have gone elsewhere."
    wanted = f"“{one_line(visible_piece(walk.model.piece(most)))}”"
    share = "> 99.9%" if 0.9995 < lost < 1 else f"{lost:.1%}"
    return (
        f"The grammar takes away {share} of the model's probability here; most of it is "
        f"{wanted} with {forbidden[most]:.1%}."
    )


def _state(shown: dict[str, Any]) -> str:
    if shown["can_only_end"]:
        return "complete"
    return f"{'complete, or ' * shown['is_complete']}expected {shown['expected']}"
