"""What can be asked of a session, as values: each parameter is spelled here, once.

The methods of a session take what these classes take, by the same names and with the same
defaults (`takes`), and their documentation.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass
from functools import wraps
from typing import Any, Concatenate, ParamSpec, TypeAlias, TypeVar

from mullama_lab.engine.chat import RenderedChat
from mullama_lab.engine.chat.calling import ToolChoice
from mullama_lab.engine.chat.tools import ToolLike
from mullama_lab.engine.grammar import Grammar
from mullama_lab.engine.loop.spread import Chains, Grammars, Prompt, Seeds
from mullama_lab.engine.options import Stop
from mullama_lab.engine.setting import SettingOrChain
from mullama_lab.engine.stages import Constrain
from mullama_lab.engine.trace import Trace

P = ParamSpec("P")
Q = TypeVar("Q")
R = TypeVar("R")
S = TypeVar("S")

Fork: TypeAlias = tuple[Trace, int, "int | str"]  # (trace, step, token)
Messages: TypeAlias = "Sequence[Mapping[str, Any]] | RenderedChat"


@dataclass(frozen=True)
class Request:
    """One text to generate.

    Args:
        prompt: a text, or token ids as they are.
        chain: a Chain or a stage; None is llama.cpp's default chain. A Setting says what acts on
            the weights too, for this text alone; without one that is what is in force in the
            session. A dict has one for each step from which another is in force:
            `{0: first, 12: then}`, such as `trace.schedule` of a run whose chain was changed on
            the way, or `dict(trace.settings)` of one whose adapters were. It begins over nothing
            that other weights computed; where those change on the way it goes on over what there
            is, which is stale (`run.steer` decodes that anew, and so does a branch).
        grammar: what the generated text may be: `Constrain(grammar)` before the chain. It may be
            a Constrain, which says more: when the text ends, and after what the grammar begins.
        max_tokens: how many at most; 0 only processes the prompt.
        seed: from 0 to 2**32 - 2; None picks one, which `trace.seed` then names.
        stop: what ends the text and is left out of it: a string, a token id, or a list of
            those. "<|im_end|>", the text of a control token, is that token too.
        top: how many alternatives to record for each token.
        sequence: where in the cache to work (see `fork`); it holds the whole text afterwards.
            None is sequence 0, or a free one while another text is generated there.
    """

    prompt: Prompt
    chain: SettingOrChain = None
    _: KW_ONLY
    grammar: Grammar | Constrain | None = None
    max_tokens: int = 128
    seed: int | None = None
    stop: Stop = ()
    top: int = 64
    sequence: int | None = None


@dataclass(frozen=True)
class ManyRequests:
    """Several texts to generate side by side.

    Args:
        prompts: a text, token ids, or a list of those.
        chains: a chain, a stage or a Setting, or a list with one for each: a list of stages is a
            list of chains of one stage. `TopK(40) | MinP(0.1)` is one chain. Texts with other
            adapters or vectors take turns in the batch.
        grammar: a grammar as in `generate`, or a list with one for each; None is none.
        max_tokens, stop, top: as in `generate`, for each of them.
        seeds: a seed, or a list with one for each; None picks one for each.
    """

    prompts: Prompt | Iterable[Prompt]
    chains: Chains = None
    _: KW_ONLY
    grammar: Grammars = None
    max_tokens: int = 128
    seeds: Seeds = None
    stop: Stop = ()
    top: int = 64


@dataclass(frozen=True)
class ChatRequest:
    """A conversation to answer.

    Args:
        messages: dicts such as {"role": "user", "content": "Hello"}, or what
            `model.render_chat` gave, which takes variables for the template too.
        tools: what the model may call: Python functions with type hints, which needs pydantic, or
            JSON schemas of functions in OpenAI's form. `trace.tool_calls` has the calls. What the
            model writes is constrained to calls that their schemas allow.
        tool_choice: "auto" lets the model answer with a text, calls, or both; "required" lets it
            write calls alone.
        continue_final: go on with the last message instead of answering it.
        parse_special: read the names of special tokens in messages as these tokens.
        chain, grammar, max_tokens, seed, stop, top, sequence: as in `generate`.
    """

    messages: Messages
    chain: SettingOrChain = None
    _: KW_ONLY
    tools: Sequence[ToolLike] | None = None
    tool_choice: ToolChoice = "auto"
    continue_final: bool = False
    parse_special: bool = False
    grammar: Grammar | Constrain | None = None
    max_tokens: int = 512
    seed: int | None = None
    stop: Stop = ()
    top: int = 64
    sequence: int | None = None

    def for_tokens(self, tokens: list[int]) -> Request:
        """The request for what the conversation becomes."""
        return _with_tokens(self, tokens, self.sequence)


@dataclass(frozen=True)
class Turn:
    """What is said in a conversation.

    Args:
        text: what the user says; or a list of messages, as what tools answered.
        tool_choice: as in `session.chat`.
        grammar: as in `session.generate`; also in place of what the tools allow.
        chain, max_tokens, seed, stop, top: as in `session.generate`.
    """

    text: str | Sequence[Mapping[str, Any]]
    chain: SettingOrChain = None
    _: KW_ONLY
    tool_choice: ToolChoice = "auto"
    grammar: Grammar | Constrain | None = None
    max_tokens: int = 512
    seed: int | None = None
    stop: Stop = ()
    top: int = 64

    def for_tokens(self, tokens: list[int], sequence: int) -> Request:
        """The request for what the conversation becomes with it."""
        return _with_tokens(self, tokens, sequence)


def _with_tokens(asked: ChatRequest | Turn, tokens: list[int], sequence: int | None) -> Request:
    return Request(
        tokens,
        asked.chain,
        grammar=asked.grammar,
        max_tokens=asked.max_tokens,
        seed=asked.seed,
        stop=asked.stop,
        top=asked.top,
        sequence=sequence,
    )


@dataclass(frozen=True)
class BranchRequest:
    """Another token than the one that a generation chose.

    Args:
        trace: any trace of this model, also one of `score` or of another session.
        step: where to go off, from 0 to len(trace) - 1.
        token: a token id, or a text that is exactly one token.
        chain: for the steps after it; None is the Setting that was in force at `step`. A dict
            by steps, as in `generate`, counts the steps of the whole trace. A chain alone, or
            none, goes with the adapters and the vector that were in force at `step`; what the
            cache holds by them is taken, or it is decoded again.
        max_tokens: how many tokens at most after the given one.
        seed: None is that of `trace`.
        stop: as in `generate`.
        top: how many alternatives to record for each token; None is as many as `trace` has.
    """

    trace: Trace
    step: int
    token: int | str
    chain: SettingOrChain = None
    _: KW_ONLY
    max_tokens: int = 128
    seed: int | None = None
    stop: Stop = ()
    top: int | None = None


@dataclass(frozen=True)
class ManyBranches:
    """Several branches side by side.

    Args:
        branches: (trace, step, token) of each.
        chains: a chain or a Setting, or a list with one for each; None as in `branch`.
        max_tokens, stop, top: as in `branch`, for each of them.
        seeds: a seed, or a list with one for each; None is that of its trace.
    """

    branches: Iterable[Fork]
    chains: Chains = None
    _: KW_ONLY
    max_tokens: int = 128
    seeds: Seeds = None
    stop: Stop = ()
    top: int | None = None


def takes(
    request: Callable[P, Q],
) -> Callable[[Callable[[S, Q], R]], Callable[Concatenate[S, P], R]]:
    """Let a method of one request be called with what the request is made of."""
    signature = inspect.signature(request)

    def decorate(method: Callable[[S, Q], R]) -> Callable[Concatenate[S, P], R]:
        @wraps(method)
        def called(self: S, /, *args: P.args, **named: P.kwargs) -> R:
            try:
                signature.bind(*args, **named)
            except TypeError as error:
                raise TypeError(f"{method.__name__}() {error}.") from None
            return method(self, request(*args, **named))

        me = inspect.Parameter("self", inspect.Parameter.POSITIONAL_ONLY)
        returns = inspect.signature(method).return_annotation
        parameters = [me, *signature.parameters.values()]
        vars(called)["__signature__"] = inspect.Signature(parameters, return_annotation=returns)
        called.__doc__ = _with_arguments(method.__doc__ or "", request.__doc__ or "")
        return called

    return decorate


def _with_arguments(doc: str, of_request: str) -> str:
    """A docstring with the arguments that a request explains, before what it raises."""
    said, raises, errors = inspect.cleandoc(doc).partition("\n\nRaises:")
    _, args, arguments = inspect.cleandoc(of_request).partition("\n\nArgs:")
    return said + args + arguments + raises + errors
