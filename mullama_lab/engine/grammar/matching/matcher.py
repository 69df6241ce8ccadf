"""Which tokens a grammar allows, on one model: llguidance at work on one text.

llguidance is given the bytes that each token adds to a text. What adds none (control tokens, the
end of a generation) it takes by id alone, so a grammar of characters never lets it in, as
llama.cpp's would by its name.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Any
from weakref import ref

import numpy as np
from numpy.typing import NDArray

from mullama_lab.engine.grammar.deep_stack import on_deep_stack
from mullama_lab.engine.grammar.grammar import Grammar
from mullama_lab.engine.grammar.matching.errors import NOTHING_GOES_ON
from mullama_lab.engine.grammar.matching.lark_writer import write_for_llguidance, write_marker
from mullama_lab.engine.grammar.matching.place import PlaceInText
from mullama_lab.engine.grammar.nodes import Token
from mullama_lab.engine.grammar.text_tokens import tokens_at_beginning
from mullama_lab.engine.per_model import once_per_model
from mullama_lab.engine.words.token_texts import token_texts
from mullama_lab.errors import GrammarError
from mullama_lab.glyphs import brief

if TYPE_CHECKING:
    from mullama_lab.engine.model import Model

# Between the two readers of GBNF the tests know of these differences alone. llama.cpp takes a
# control token whose name the grammar allows as a text; bytes that are no UTF-8, longer spellings
# of a character; and a token with a NUL inside for what stands before that. All of these this
# refuses. Tokens that the grammar names, as `<think>`, llama.cpp takes within another token, and
# ends the process over it; here such a token is no text where the grammar names it.
_MARK = b"\xff"  # before the name of a token that llguidance shall know by id alone
# llguidance's tokens after those of the model: one for each byte, and one that ends a text, for
# models that have none.
_BYTES = 256
_N_MORE = _BYTES + 1


class Matcher(PlaceInText):
    """A grammar on its way through one text of one model."""

    def __init__(self, work: Any, n_vocab: int) -> None:
        super().__init__(work, n_vocab + _N_MORE)
        self._n_vocab = n_vocab

    def copy(self) -> Matcher:
        return Matcher(self._work.deep_copy(), self._n_vocab)

    def allowed(self) -> NDArray[np.bool_]:
        """Whether each token may come next; shape (n_vocab,).

        Tokens that end a generation may where the text is complete.
        """
        return self._mask(self._n_vocab)

    def allowed_bytes(self) -> list[int]:
        """The bytes with which the text may go on, ascending; none where a token must come."""
        return np.flatnonzero(self._mask(self._n_vocab + _BYTES)[self._n_vocab :]).tolist()

    def forced(self) -> list[int]:
        """The tokens that must come next where there is no choice, with `fast_forward`; else none.

        They are those that the tokenizer makes of the text that must come, but for the last ones
        if a token may also come that goes on past the end of that text.
        """
        return self._work.compute_ff_tokens()

    def accept(self, token: int) -> bool:
        """Take the next token; False if the grammar forbids it, and nothing can come after that."""
        return self._work.try_consume_tokens([token]) == 1

    def accept_bytes(self, data: bytes) -> int:
        """Take the next bytes of the text, up to the first that the grammar forbids; how many."""
        return self._work.try_consume_tokens([self._n_vocab + byte for byte in data])


def matcher(
    model: Model, grammar: Grammar, after: str | None = None, *, fast_forward: bool = False
) -> Matcher:
    """A matcher of a model's tokens, before the first.

    Args:
        after: a regular expression: any text comes first, up to its first match.
        fast_forward: where a text must come, allow of the tokens that would write it only the one
            that the tokenizer has there. Any of them is taken all the same.

    Raises:
        GrammarError: llguidance cannot carry the grammar out, or it asks for a token that the
            model has not.
        ValueError: the model has no vocabulary.
    """
    return _first_matcher(model, grammar, after, fast_forward).copy()


def marker_matcher(model: Model, expression: str) -> Matcher:
    """A matcher of any text up to the first match of a regular expression, where it is complete."""
    return _first_marker_matcher(model, expression).copy()


@once_per_model
def _first_marker_matcher(model: Model, expression: str) -> Matcher:
    found = _made(model, write_marker(expression))
    allowed = np.delete(found.copy().allowed(), list(ends_of_generation(model)))
    if not found.is_complete and not allowed.any():
        raise GrammarError(f"no text has a match of the regular expression {brief(expression)}.")
    return found


@once_per_model
def _first_matcher(
    model: Model, grammar: Grammar, after: str | None, fast_forward: bool
) -> Matcher:
    text = write_for_llguidance(
        dict(grammar._rules), partial(_ids_of, model), after=after, fast_forward=fast_forward
    )
    found = _made(model, text)
    first = found.copy()
    is_empty = not first.allowed().any() and not first.is_complete
    if (error := first.error) and error != NOTHING_GOES_ON:
        raise GrammarError(f"llguidance cannot carry this grammar out: {error}.")
    if is_empty or error:
        raise GrammarError(
            f"no token of {model.name} can begin a text of this grammar: {brief(grammar)}"
        )
    return found


def _made(model: Model, text: str) -> Matcher:
    from llguidance import LLMatcher

    tokenizer = _tokenizer(model)
    found = Matcher(on_deep_stack(lambda: LLMatcher(tokenizer, text, log_level=0)), model.n_vocab)
    if error := found.error:
        raise GrammarError(f"llguidance cannot carry this grammar out: {error}.")
    return found


@once_per_model
def _tokenizer(model: Model) -> Any:
    """What llguidance knows of a model's tokens; 0.4 s for 49 000 of them."""
    from llguidance import LLTokenizer, TokenizerWrapper

    vocabulary = _Vocabulary(model)
    return LLTokenizer(TokenizerWrapper(vocabulary), eos_token=vocabulary.ends)


class _Vocabulary:
    """The tokens of a model, as llguidance asks for them."""

    def __init__(self, model: Model) -> None:
        self.ends = [*ends_of_generation(model), model.n_vocab + _BYTES]
        pieces = token_texts(model).pieces
        by_id = {token for token, piece in enumerate(pieces) if not piece} | set(self.ends)
        self.tokens = [
            _MARK + b"[%d]" % token if token in by_id else b"" if piece[:1] == _MARK else piece
            for token, piece in enumerate(pieces)
        ]
        self.tokens += [bytes([byte]) if byte != _MARK[0] else b"" for byte in range(_BYTES)]
        self.tokens += [_MARK + b"[%d]" % self.ends[-1]]
        self.special_token_ids = sorted(by_id)
        self.eos_token_id = self.ends[0]
        self.bos_token_id = None
        self._model = ref(model)  # or it would never be freed: see `once_per_model`

    def __call__(self, text: bytes) -> list[int]:
        """The tokens of a text that a grammar forces."""
        model = self._model()
        assert model is not None
        return tokens_at_beginning(model, text)


@once_per_model
def ends_of_generation(model: Model) -> tuple[int, ...]:
    """The tokens that end a generation; some models have none."""
    return tuple(token for token in range(model.n_vocab) if model.is_eog(token))


def _ids_of(model: Model, token: Token) -> Sequence[int]:
    """The ids that may stand for a token that a grammar names, ascending."""
    one = token_id(model, token)
    if not token.negated:
        return [one]
    ends = set(ends_of_generation(model))
    return [other for other in range(model.n_vocab) if other != one and other not in ends]


def token_id(model: Model, token: Token) -> int:
    """The id of the token that a grammar names.

    Raises:
        GrammarError: the model has none of that name, or it ends a generation.
    """
    one = token.name if isinstance(token.name, int) else _named(model, token.name)
    if one >= model.n_vocab:
        raise GrammarError(f"<[{one}]> is no token of {model.name}, which has {model.n_vocab}.")
    if one in ends_of_generation(model):
        raise GrammarError(
            f"token {one} ends a generation in {model.name}, so nothing can ask for it. The "
            "text ends where the grammar is complete."
        )
    return one


def _named(model: Model, name: str) -> int:
    ids = model.tokenize(name, add_special=False, parse_special=True)
    if len(ids) != 1:
        raise GrammarError(f"{name} is no token of {model.name}, but {len(ids)}.")
    return int(ids[0])
