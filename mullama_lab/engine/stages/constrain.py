"""Constrain: no token may make the text what a grammar does not allow.

By llguidance: llama.cpp's grammar sampler looks at every candidate anew for each token, and ends
the process over what it does not like. It is there on request, in a process of its own.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from mullama_lab.counted import counted
from mullama_lab.engine import native
from mullama_lab.engine.grammar import Grammar
from mullama_lab.engine.grammar.llama_sampler.matcher import (
    LlamaMatcher,
    gbnf_for_sampler,
    llama_matcher,
)
from mullama_lab.engine.grammar.matching.marker import Marker, MarkerSearch, marker_given
from mullama_lab.engine.grammar.matching.matcher import Matcher, ends_of_generation, matcher
from mullama_lab.engine.grammar.typed import SYNTAX, read_grammar, write_grammar
from mullama_lab.engine.options import flag, one_of
from mullama_lab.engine.rows.tail import CLOSED, Tail
from mullama_lab.engine.stages.setting import TextRule, text_setting
from mullama_lab.engine.stages.stage import Known, Stage, must_have_vocabulary
from mullama_lab.engine.stages.stage_sampler import Start
from mullama_lab.errors import GrammarBroken, NoCandidates
from mullama_lab.glyphs import brief, visible, visible_piece

if TYPE_CHECKING:
    from mullama_lab.engine.model import Model

STOPS = ("complete", "only")
LLAMA_CPP = "llama.cpp"
ENGINES = ("llguidance", LLAMA_CPP)
MOST_EXPECTED = 6  # characters that a message lists
MOST_READ = 2000  # tokens that it reads for that
MOST_EDITED = 20_000  # characters of a grammar in an editor
ANYTHING = Grammar.gbnf("root ::= .*")


def _read(text: str) -> Grammar:
    return read_grammar(text) if text.strip() else ANYTHING


def _write(grammar: Grammar) -> str | None:
    return "" if grammar == ANYTHING else write_grammar(grammar)


@dataclass(frozen=True, repr=False)
class Constrain(Stage):
    """Let no token in that a grammar does not allow there; the text ends where it is complete.

        chain = Constrain(Grammar.choice(["yes", "no"])) | TopK(40) | Temperature(0.8)
        chain = Constrain(Grammar.regex("[0-9]{4}"), stop="only")
        chain = Constrain(Grammar.json_schema({...}), after="</think>")
        chain = Constrain(Grammar.json_schema({...}), fast_forward=True)

    What the grammar is about is the text that is generated, not the prompt: all of it, or what
    comes after a marker. Before that all tokens are free, but one that holds the end of the marker
    and goes on with what the grammar does not begin with.

    The prompt's tokens stay as they are: the grammar's text begins with a token of its own, also
    where the tokenizer would have joined the two (no token healing). After a prompt that ends in
    the midst of a word, or in a space, that may be a token that the model hardly expects there:
    end the prompt before it and let the grammar begin with it. `ml.studies.tokenization` tells.

    It may stand anywhere in a chain: the tokens that it takes out are gone for the stages after it.
    Stages before it that cut may leave no token that the grammar allows, so it mostly comes first.

    Args:
        grammar: a Grammar; one that allows every text has no effect.
        stop: when the text ends. None is when the model ends it, by a token that it may draw
            where the text is complete; of a model that has no such token, it is "only".
            "complete" ends it as soon as it is complete, so with the shortest text: after one
            digit of a number. "only" ends it as soon as it can only end, without that token.
        after: a marker, after which the grammar begins: a text, a token id, or a regular
            expression, as `re.compile` makes one or as Grammar.regex(text), without look-around.
            It is looked for in the generated text, in which control tokens have their names, and
            counts from the first place up to which there is a match, in a token's midst too. None
            is from the beginning.
        fast_forward: where the grammar leaves the text no choice, as for the names of properties,
            let only the token in that the model's tokenizer has there, and decode these tokens
            three at a time. Each is drawn as ever, from its own row; `trace.ahead` marks those that
            needed no decode, and `trace.n_decodes_saved` counts. The tokenizer is asked for the
            text that must come, from where the last token ended: that token stays, also where the
            tokenizer would have joined the two. Of a text behind which a choice follows, tokens at
            the end that another one begins with are left to the model. So False may write the same
            text in other tokens. A session with reproducible=True, and a model with a recurrent
            state, decode them one by one. From quantised weights on a CPU come the same rows, and
            so the same tokens; those of others, as F16, depend a little on how many are decoded at
            once (`ml.studies.noise`).
        engine: what says which tokens may come. "llama.cpp" is its own grammar sampler, to compare
            with: it allows the same tokens, but also control tokens by their names and longer
            spellings of a character, and is slower: by 5 ms a token with a vocabulary of 49 000
            and by 30 with one of 262 000, for a grammar of JSON. It reads GBNF alone, where no
            tokens are named, and knows no `after` and no `fast_forward`. Where a text can be read
            in many ways it grows without bounds; it is ended after 10 seconds, with
            GrammarBroken, or by a stop.
    """

    label: ClassVar[str] = "Grammar"
    source: ClassVar[str] = "llguidance; llama.cpp `llama_sampler_init_grammar`"
    masks = False
    moves = False
    constrains = True
    masks_rows = True
    masked_tokens = "left"
    foresees = True
    _positional = ("grammar",)
    grammar: Grammar = text_setting(
        ANYTHING,
        TextRule(f"{SYNTAX}; empty allows all", _read, _write, longest=MOST_EDITED, lines=True),
    )
    stop: Literal["complete", "only"] | None = None
    after: Marker | re.Pattern[str] | None = None
    fast_forward: bool = False
    engine: Literal["llguidance", "llama.cpp"] = "llguidance"

    def __post_init__(self) -> None:
        if not isinstance(self.grammar, Grammar):
            raise TypeError(
                f"Constrain takes a Grammar, not {brief(self.grammar)}. Grammar.gbnf(text), "
                ".json_schema(dict), .regex(text) and .choice(texts) make one."
            )
        if self.stop is not None:
            object.__setattr__(self, "stop", one_of("Constrain.stop", self.stop, STOPS))
        if self.after is not None:
            object.__setattr__(self, "after", marker_given(self.after))
        object.__setattr__(self, "fast_forward", flag("fast_forward", self.fast_forward))
        object.__setattr__(self, "engine", one_of("Constrain.engine", self.engine, ENGINES))
        if self.engine == LLAMA_CPP:
            self._must_suit_llama_cpp()

    def _must_suit_llama_cpp(self) -> None:
        for name, is_used in ("after", self.after is not None), ("fast_forward", self.fast_forward):
            if is_used:
                raise ValueError(
                    f"Constrain({name}=..., engine='llama.cpp'): llama.cpp's sampler knows no "
                    f"{name}. Leave out one of the two."
                )
        gbnf_for_sampler(self.grammar)

    @classmethod
    def of(cls, grammar: Grammar | Constrain) -> Constrain:
        """The stage of a grammar; a stage is itself."""
        return grammar if isinstance(grammar, Constrain) else cls(grammar)

    def why_inert(self) -> str:
        anything = self.grammar == ANYTHING and self.stop is None
        return "the grammar allows every text" if anything else ""

    def check(self, model: Model) -> None:
        must_have_vocabulary(self, model)
        self.matcher(model)
        self.search(model)

    def matcher(self, model: Model) -> Matcher | LlamaMatcher:
        """The grammar before the first token of its text."""
        if self.engine == LLAMA_CPP:
            return llama_matcher(model, self.grammar)
        return matcher(model, self.grammar, fast_forward=self.fast_forward)

    def search(self, model: Model) -> MarkerSearch | None:
        """What looks for the marker in a text; None if there is none."""
        if self.after is None:
            return None
        assert not isinstance(self.after, re.Pattern)
        return MarkerSearch(model, self.grammar, self.after)

    def sampler(self, start: Start) -> ConstrainSampler:
        return ConstrainSampler(self, start)

    def tail_after(self, tail: Tail, known: Known) -> Tail:
        allowed = known.sampler.allowed
        n = int(np.count_nonzero(allowed)) - int(np.count_nonzero(allowed[known.kept]))
        return tail.at_most(n) if n else CLOSED

    def to_code(self) -> str:
        grammar, *others = self._arguments()
        others = [re.sub("^after=Grammar", "after=ml.Grammar", other) for other in others]
        return f"ml.Constrain({', '.join([f'ml.{grammar}', *others])})"

    def why_removed(self, sampler: ConstrainSampler) -> str:
        if not sampler.has_begun:
            return "forbidden by the grammar, which would begin within it, and not so"
        if forced := sampler.forced:
            piece = brief(visible_piece(sampler.model.piece(forced[0])))
            return f"forbidden by the grammar: the tokenizer's own token is {piece}"
        return f"forbidden by the grammar: expected {sampler.expected()}"

    def to_dict(self) -> dict[str, Any]:
        values = {name: getattr(self, name) for name in ("grammar", "after")}
        grammars = {n: v.to_dict() for n, v in values.items() if isinstance(v, Grammar)}
        return {**super().to_dict(), **grammars}

    @classmethod
    def _from_settings(cls, values: dict[str, Any]) -> Stage:
        grammars = {n: values.get(n) for n in ("grammar", "after")}
        read = {n: Grammar.from_dict(v) for n, v in grammars.items() if isinstance(v, Mapping)}
        return super()._from_settings({**values, **read})


class ConstrainSampler:
    """A grammar at work: where it is in the text that was generated."""

    def __init__(self, stage: Constrain, start: Start) -> None:
        self._stage, self.model = stage, start.model
        self._stop = stage.stop or (None if ends_of_generation(start.model) else "only")
        self._matcher = stage.matcher(start.model)
        self._search = stage.search(start.model)  # None once the marker came
        self._allowed: NDArray[np.bool_] | None = None  # at this step, once it was asked
        self._n_accepted = 0
        self._broken = ""
        history = start.history
        for token in history[max(0, len(history) - start.step) :]:
            self.accept(int(token))

    @property
    def allowed(self) -> NDArray[np.bool_]:
        """Whether each token may come at this step; shape (n_vocab,).

        Raises:
            GrammarBroken: the text so far is no beginning of what the grammar allows; or it is too
                much for the engine.
        """
        if self._broken:
            raise GrammarBroken(f"{self._stage.in_brief()}: {self._broken}")
        if self._allowed is None:
            source = self._search or self._matcher
            self._allowed = source.allowed()
            if error := source.error:
                raise GrammarBroken(f"{self._stage.in_brief()}: {self._cannot_go_on(error)}")
        return self._allowed

    def _cannot_go_on(self, why: str, at: str = "") -> str:
        return f"{self._stage.engine} cannot go on{at}: {why}."

    @property
    def forced(self) -> list[int]:
        """The tokens that must come next, one after the other, where `fast_forward` says so."""
        knows = self._stage.fast_forward and self.has_begun and not self._broken
        return self._matcher.forced() if knows else []

    @property
    def has_begun(self) -> bool:
        """Whether the grammar is about what comes next: the marker is there, if there is one."""
        return self._search is None

    @property
    def has_ended(self) -> bool:
        """Whether the text ends where it is now, by the stage's `stop`, or for want of a token."""
        if self._stop is None or not self.has_begun or self._broken:
            return False
        if not self._matcher.is_complete:
            return False
        return self._stop == "complete" or self._can_only_end()

    def _can_only_end(self) -> bool:
        allowed = self.allowed
        n_ends = np.count_nonzero(allowed[list(ends_of_generation(self.model))])
        return bool(n_ends == np.count_nonzero(allowed))

    def expected(self) -> str:
        """What may come at this step: the first characters if they are few, or how many tokens."""
        tokens = np.flatnonzero(self.allowed).tolist()
        texts = [self.model.piece(token) for token in tokens if not self.model.is_eog(token)]
        first = {text.decode("utf-8", "replace")[:1] for text in texts[:MOST_READ]}
        if len(texts) > MOST_READ or len(first) > MOST_EXPECTED:
            return f"one of {counted(len(tokens), 'token')}"
        shown = [f"`{visible(text)}`" for text in sorted(first)]
        shown += ["the end"] * self._matcher.is_complete
        return ", ".join(shown[:-1]) + (" or " if len(shown) > 1 else "") + shown[-1]

    def apply(self, candidates: native.Candidates, step: int) -> None:
        window, is_sorted = candidates.window, bool(candidates.fields.sorted)
        ids = window["id"].copy()
        places = np.flatnonzero(self.allowed[ids])
        if not len(places) and self._is_over():
            raise NoCandidates(
                f"{self._stage.in_brief()}: the text is complete, and no token of "
                f"{self.model.name} goes on with it or ends it. A generation ends there."
            )
        candidates.load_some(ids[places], window["logit"][places])  # quicker than record by record
        candidates.fields.sorted = is_sorted
        if len(places) and candidates.window["logit"].max() == -np.inf:
            candidates.fields.size = 0  # another stage has masked all that the grammar allows

    def _is_over(self) -> bool:
        """Whether nothing may come any more, and the text is complete."""
        return self.has_begun and not self.allowed.any() and self._matcher.is_complete

    def accept(self, token: int) -> None:
        self._allowed = None
        if not self._broken and not self._go_on(token):
            piece = brief(visible_piece(self.model.piece(token)))
            which = f"generated token {self._n_accepted}, {piece}"
            if error := self._matcher.error:
                self._broken = self._cannot_go_on(error, f" with {which}")
            else:
                self._broken = (
                    "the text so far is no beginning of what it allows. "
                    f"{which.capitalize()}, cannot come there."
                )
        self._n_accepted += 1

    def _go_on(self, token: int) -> bool:
        """Take a token; False if the grammar forbids it."""
        if self._search is None:
            return self._matcher.accept(token)
        rest = self._search.accept(token)
        if rest is None:
            return True
        self._search = None
        assert isinstance(self._matcher, Matcher)  # llama.cpp's knows no marker
        return self._matcher.accept_bytes(rest) == len(rest)
