"""Texts after a prompt: their tokens, and how likely they are.

Which token lies on which side of the seam is decided here, as lm-evaluation-harness decides it: a
prompt and a text are tokenised together and cut where the prompt's own tokens end, and spaces at
the end of the prompt go to the text, since a model writes " Paris" and not " " and "Paris". Where
a token would lie across the seam, each is tokenised alone, so that the prompt's tokens stay those
that `generate` goes on from, the same for every text.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence, Sized

from mullama_lab.engine.loop.choices import Choices
from mullama_lab.engine.loop.scoring import logprobs_after, score
from mullama_lab.engine.loop.spread import Prompt
from mullama_lab.engine.options import listed
from mullama_lab.engine.session.runs import SessionRuns
from mullama_lab.engine.stages import Chain
from mullama_lab.engine.trace import Trace
from mullama_lab.engine.vocabulary.too_long import must_be_short
from mullama_lab.engine.worker import Job
from mullama_lab.errors import ContextFull
from mullama_lab.glyphs import brief


class SessionScoring(SessionRuns):
    """The scores of a session."""

    def score(self, text: Prompt, *, given: Prompt | None = None, top: int = 64) -> Trace:
        """How likely the model finds a given text: a Trace with a step for each of its tokens.

        Without a prompt, the text's first token has nothing before it and becomes the trace's
        prompt. Sequence 0 holds the text afterwards. Ctrl-C stops it; the steps there were are in
        `session.last_trace`.

            session.score(" Paris", given="The capital of France is").logprob.sum()

        Args:
            text: a text, or token ids as they are.
            given: the prompt before it, not decoded again where the cache has it. Both are
                tokenised together and cut where the prompt's tokens end; spaces at its end go to
                the text. Where a token would lie across the seam, each is tokenised alone.
            top: how many alternatives to record for each token.

        Raises:
            ContextFull: the text does not fit.
            Stopped: another thread stopped the session meanwhile.
            ClosedError: the session was closed.
        """
        if given is None:
            tokens = self.prompt_tokens(text)
            prompt, tokens = tokens[:1], tokens[1:]
        else:
            prompt, (tokens,) = tokens_after(self, given, [text])
        trace = self._new_trace(prompt, Chain(), None, top)
        context, model = self._context, self.model
        job = Job(lambda: score(context, model, trace, tokens), self)
        with job.stopped_on_error():
            self._worker.submit(job)
            self.last_trace = trace
            job.result()
        return trace

    def choose(self, prompt: Prompt, candidates: Iterable[Prompt]) -> Choices:
        """How likely each of some texts is after a prompt, side by side.

            session.choose("The capital of France is", [" Paris", " Lyon", " a city"]).best.text

        The prompt is decoded once. Each candidate has what `score(candidate, given=prompt)` gives
        it, up to the noise in the logits that another size of batch brings. Ctrl-C stops it.

        Args:
            prompt: a text, or token ids as they are.
            candidates: texts, or token ids as they are: at least one, none empty, none twice.

        Raises:
            ValueError: there is no candidate, an empty one, or one twice.
            TypeError: candidates are no list of texts or token ids.
            ContextFull: the prompt with a candidate does not fit.
            Stopped: another thread stopped the session meanwhile.
            ClosedError: the session was closed.
        """
        given = _checked(candidates)
        tokens, texts = tokens_after(self, prompt, given)
        _must_differ(given, texts)
        context = self._context
        job = Job(lambda: logprobs_after(context, tokens, texts), self)
        with job.stopped_on_error():
            self._worker.submit(job)
            logprobs = job.result()
        spelled = [_spelled(self, ids) for ids in texts]
        names = [
            one if isinstance(one, str) else data.decode("utf-8", "replace")
            for one, data in zip(given, spelled)
        ]
        return Choices.of(names, texts, logprobs, [len(data) for data in spelled])


def tokens_after(
    session: SessionScoring, prompt: Prompt, texts: Sequence[Prompt]
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


def _after(session: SessionScoring, prompt: Prompt, tokens: list[int], text: Prompt) -> list[int]:
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


def _spelled(session: SessionScoring, tokens: Iterable[int]) -> bytes:
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
