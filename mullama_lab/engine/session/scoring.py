"""Texts after a prompt: their tokens, and how likely they are.

Which token lies on which side of the seam is decided here, as lm-evaluation-harness decides it: a
prompt and a text are tokenised together and cut where the prompt's own tokens end, and spaces at
the end of the prompt go to the text, since a model writes " Paris" and not " " and "Paris". Where
a token would lie across the seam, each is tokenised alone, so that the prompt's tokens stay those
that `generate` goes on from, the same for every text.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence, Sized
from typing import TYPE_CHECKING

from mullama_lab.engine.loop.choices import Choices
from mullama_lab.engine.loop.given import Rows, Scored, log_total_of
from mullama_lab.engine.loop.lane import Place
from mullama_lab.engine.loop.spread import Prompt
from mullama_lab.engine.native import Logits
from mullama_lab.engine.options import listed
from mullama_lab.engine.session import cells
from mullama_lab.engine.session.runs import new_trace
from mullama_lab.engine.stages import Chain
from mullama_lab.engine.text import Text
from mullama_lab.engine.trace import Trace
from mullama_lab.engine.vocabulary.too_long import must_be_short
from mullama_lab.engine.work import Together
from mullama_lab.errors import ContextFull
from mullama_lab.glyphs import brief

if TYPE_CHECKING:
    from mullama_lab.engine.session.session import Session


def scored(session: Session, text: Prompt, given: Prompt | None, top: int) -> Trace:
    """What `Session.score` does."""
    prompt, tokens = split(session, text, given)
    trace = new_trace(session, prompt, Chain(), None, top)
    session.last_trace = trace
    if tokens:
        lane = Scored(session.model, trace, tokens, session)
        with lane.stopped_on_error():
            session._worker.submit(lane)
            lane.result()
    else:
        trace.finish_reason = "scored"
    return trace


def split(session: Session, text: Prompt, given: Prompt | None) -> tuple[list[int], list[int]]:
    """The tokens of a prompt and of a text after it; without a prompt, the text's first is that."""
    if given is None:
        tokens = session.prompt_tokens(text)
        return tokens[:1], tokens[1:]
    prompt, (tokens,) = tokens_after(session, given, [text])
    return prompt, tokens


def chosen(session: Session, prompt: Prompt, candidates: Iterable[Prompt]) -> Choices:
    """What `Session.choose` does."""
    given = _checked(candidates)
    tokens, texts = tokens_after(session, prompt, given)
    _must_differ(given, texts)
    logprobs = _logprobs_after(session, tokens, texts)
    spelled = [_spelled(session, ids) for ids in texts]
    names = [
        one if isinstance(one, str) else data.decode("utf-8", "replace")
        for one, data in zip(given, spelled)
    ]
    return Choices.of(names, texts, logprobs, [len(data) for data in spelled])


def _logprobs_after(
    session: Session, prompt: Sequence[int], texts: Sequence[Sequence[int]]
) -> list[list[float]]:
    """The log-probability of each token of each text after one prompt, in nats.

    The prompt is decoded once, and of each text all but its last token.
    """
    found: list[list[float]] = [[] for _ in texts]

    def first(row: Logits) -> None:
        total = log_total_of(row)
        for place, text in enumerate(texts):
            found[place].append(float(row[text[0]]) - total)

    def reader(place: int) -> Callable[[Logits], None]:
        def read(row: Logits) -> None:
            token = texts[place][len(found[place])]
            found[place].append(float(row[token]) - log_total_of(row))

        return read

    lanes = []
    for place, tokens in enumerate(texts):
        if len(tokens) > 1:
            text = Text(prompt)
            text.extend(tokens[:-1], generated=True)
            lanes.append(Rows(text, reader(place), session, place=Place.ANY, first_row=len(prompt)))
    together = Together(lanes)
    row_lane = Rows(Text(prompt), first, session, place=Place.ANY)
    with row_lane.stopped_on_error():
        session._worker.submit(row_lane)
        row_lane.result()
    with cells.kept(session, row_lane.sequence), together.stopped_on_error():
        together.submit_to(session._worker)
        together.result()
    return found


def tokens_after(
    session: Session, prompt: Prompt, texts: Sequence[Prompt]
) -> tuple[list[int], list[list[int]]]:
    """The tokens of a prompt, and those of each text after it.

    Token ids are taken as they are, and no space is moved from a prompt to them.

    Raises:
        ContextFull: a text does not fit behind the prompt. Else as `Session.prompt_tokens`.
    """
    spaces = ""
    if isinstance(prompt, str) and all(isinstance(text, str) and text for text in texts):
        bare = prompt.rstrip(" ")
        prompt, spaces = bare, prompt[len(bare) :]
    tokens = session.prompt_tokens(prompt)
    found = []
    for text in texts:
        text = spaces + text if isinstance(text, str) else text
        found.append(_after(session, prompt, tokens, text))
        if len(tokens) + len(found[-1]) > session.n_ctx:
            raise ContextFull(
                f"the prompt has {len(tokens)} tokens and the text after it {len(found[-1])}, but "
                f"the context has room for {session.n_ctx}. "
                "Open the session with a larger n_ctx, or shorten one of them."
            )
    return tokens, found


def _after(session: Session, prompt: Prompt, tokens: list[int], text: Prompt) -> list[int]:
    model = session.model
    if not isinstance(text, str):
        return model.vocabulary.check_all(text, "a text is a str or a list of token ids")
    must_be_short(model, text, session.n_ctx)
    if isinstance(prompt, str) and prompt:
        whole = model.tokenize(prompt + text, add_special=True, parse_special=True)
        if whole[: len(tokens)] == tokens:
            return whole[len(tokens) :]
    found = model.tokenize(text, add_special=False, parse_special=True)
    if _spelled(session, found) != text.encode():  # the model put a space before it
        line = model.tokenize("\n", add_special=False)
        both = model.tokenize("\n" + text, add_special=False, parse_special=True)
        if both[: len(line)] == line:
            return both[len(line) :]
    return found


def _spelled(session: Session, tokens: Iterable[int]) -> bytes:
    return b"".join(map(session.model.piece, tokens))


def _checked(candidates: Iterable[Prompt]) -> list[Prompt]:
    given = listed("candidates", candidates, "texts, or of lists of token ids")
    if not given:
        raise ValueError("candidates=[]: there must be at least one text to choose from.")
    for place, one in enumerate(given):
        if isinstance(one, Sized) and not len(one):
            raise ValueError(
                f"candidate {place} is empty, and nothing is always what comes next. "
                "Give it at least one character, or leave it out."
            )
    return given


def _must_differ(given: Sequence[Prompt], texts: Sequence[Sequence[int]]) -> None:
    """Twice the same would have twice the probability that it has."""
    first: dict[tuple[int, ...], int] = {}
    for place, tokens in enumerate(texts):
        before = first.setdefault(tuple(tokens), place)
        if before != place:
            raise ValueError(
                f"candidates {before} and {place} are the same: {brief(given[place])}. "
                "Leave one of them out."
            )
