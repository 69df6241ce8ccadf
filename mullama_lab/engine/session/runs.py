"""How a request becomes lanes, and the Run that a person holds of each."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from mullama_lab.engine.chat import RenderedChat
from mullama_lab.engine.grammar import Grammar
from mullama_lab.engine.loop.branch import Branch
from mullama_lab.engine.loop.generation import Generation, Limits
from mullama_lab.engine.loop.lane import Place
from mullama_lab.engine.loop.run import Run, Runs
from mullama_lab.engine.loop.spread import Prompt, spread, spread_branches
from mullama_lab.engine.options import MAX_TOP, seed_or_random, whole
from mullama_lab.engine.session.cells import checked_sequence
from mullama_lab.engine.session.request import (
    BranchRequest,
    ManyBranches,
    ManyRequests,
    Request,
)
from mullama_lab.engine.setting import Steerings, planned
from mullama_lab.engine.stages import Chain, Constrain
from mullama_lab.engine.steering.steering import Weights
from mullama_lab.engine.trace import Trace
from mullama_lab.engine.vocabulary.ends import warn_of_two
from mullama_lab.engine.vocabulary.one_token import one_token
from mullama_lab.engine.vocabulary.pieces import piece_of
from mullama_lab.engine.vocabulary.too_long import must_be_short
from mullama_lab.errors import ContextFull
from mullama_lab.glyphs import brief

if TYPE_CHECKING:
    from mullama_lab.engine.model import Model
    from mullama_lab.engine.session.session import Session


def run_of(session: Session, request: Request) -> Run:
    """A Run that was not begun."""
    model = session.model
    limits = Limits.of(model, request.max_tokens, request.stop)
    chains, steerings = planned(request.chain)
    chains, weights = chains.map(constraining(request.grammar)), _weights(model, steerings)
    seed = seed_or_random(request.seed)
    tokens = prompt_tokens(session, request.prompt)
    trace = new_trace(session, tokens, chains.at(0), seed, request.top)
    place = place_of(session, request)
    return Run(Generation(model, trace, chains, limits, session, place=place, weights=weights))


def runs_of(session: Session, request: ManyRequests) -> Runs:
    """Runs that were not begun."""
    model = session.model
    limits = Limits.of(model, request.max_tokens, request.stop)
    runs = []
    texts = spread(request.prompts, request.chains, request.grammar, request.seeds)
    for prompt, chain, grammar, seed in texts:
        chains, steerings = planned(chain)
        chains, weights = chains.map(constraining(grammar)), _weights(model, steerings)
        trace = new_trace(session, prompt_tokens(session, prompt), chains.at(0), seed, request.top)
        lane = Generation(model, trace, chains, limits, session, place=Place.ANY, weights=weights)
        runs.append(Run(lane))
    return Runs(runs)


def branch_of(session: Session, request: BranchRequest) -> Run:
    """The Run of a branch, not begun."""
    session.must_be_open()
    model, parent = session.model, request.trace
    step, token = _fork_of(session, request)
    now = parent.setting_at(step)
    chains, steerings = planned(now if request.chain is None else request.chain, step + 1)
    weights = _weights(model, steerings or [(step + 1, now.steering)])
    limits = Limits.of(model, request.max_tokens, request.stop)
    limits = Limits(step + 1 + limits.max_tokens, limits.stops)
    seed = seed_or_random(parent.seed if request.seed is None else request.seed)
    top = parent.top if request.top is None else _top(session, request.top)
    trace = parent.begun(step, top=top, seed=seed, piece=piece_of(model))
    trace.session_options = dict(session.options)
    lane = Branch(
        model,
        trace,
        chains,
        limits,
        session,
        parent=parent,
        step=step,
        token=token,
        weights=weights,
    )
    return Run(lane)


def branches_of(session: Session, request: ManyBranches) -> Runs:
    """The Runs of several branches, not begun."""
    made = []
    for fork, chain, seed in spread_branches(request.branches, request.chains, request.seeds):
        if not isinstance(fork, (tuple, list)) or len(fork) != 3:
            raise TypeError(f"a branch is (trace, step, token), not {brief(fork)}.")
        one = BranchRequest(
            *fork,
            chain,
            max_tokens=request.max_tokens,
            seed=seed,
            stop=request.stop,
            top=request.top,
        )
        made.append(branch_of(session, one))
    return Runs(made)


def constraining(grammar: Grammar | Constrain | None) -> Callable[[Chain], Chain]:
    """A function that puts a grammar before a chain."""
    if grammar is None:
        return lambda chain: chain
    first = Constrain.of(grammar)
    return lambda chain: first | chain


def _weights(model: Model, steerings: Steerings) -> list[tuple[int, Weights]]:
    return [(step, Weights.of(steering, model)) for step, steering in steerings]


def place_of(session: Session, request: Request) -> int | Place:
    """Where a request wants to work."""
    if request.sequence is None:
        return Place.HOME
    return checked_sequence(session, request.sequence)


def prompt_tokens(session: Session, prompt: Prompt) -> list[int]:
    """What `Session.prompt_tokens` gives."""
    session.must_be_open()
    model = session.model
    if isinstance(prompt, str):
        must_be_short(model, prompt, session.n_ctx)
        tokens = model.tokenize(prompt, add_special=True, parse_special=True)
    else:
        _must_be_no_chat(prompt)
        tokens = model.vocabulary.check_all(prompt, "a prompt is a text or a list of token ids")
    if not tokens and model.bos is not None:
        tokens = [model.bos]
    if not tokens:
        raise ValueError(
            "the prompt is empty, and this model has no token that begins a text. "
            "Give at least one character."
        )
    if len(tokens) > session.n_ctx:
        raise ContextFull(
            f"the prompt has {len(tokens)} tokens, but the context has room for {session.n_ctx}. "
            "Open the session with a larger n_ctx, or shorten the prompt."
        )
    warn_of_two(model, tokens)
    return tokens


def new_trace(
    session: Session, tokens: list[int], chain: Chain, seed: int | None, top: int
) -> Trace:
    """A trace of a prompt, without a step."""
    trace = Trace(
        prompt_tokens=tokens,
        chain=chain,
        seed=seed,
        top=_top(session, top),
        piece=piece_of(session.model),
        model_name=session.model.source,
        model_id=session.model.id,
    )
    trace.model_options = dict(session.model.options)
    trace.session_options = dict(session.options)
    trace.change_weights(session.steering)
    return trace


def _top(session: Session, top: int) -> int:
    return min(whole("top", top, 1, MAX_TOP), session.model.n_vocab)


def _must_be_no_chat(prompt: object) -> None:
    """Refuse messages, and a chat rendered from them, where a prompt is meant."""
    first = prompt[0] if isinstance(prompt, list) and prompt else None
    if isinstance(prompt, RenderedChat) or isinstance(first, Mapping):
        raise TypeError(
            "a prompt is a text or a list of token ids, and this is a chat. "
            "session.chat answers one, and model.render_chat(messages).tokens is its prompt."
        )


def _fork_of(session: Session, request: BranchRequest) -> tuple[int, int]:
    """The step and the token of a branch, checked."""
    parent = request.trace
    if not isinstance(parent, Trace):
        raise TypeError(f"a branch goes off from a Trace, not {type(parent).__name__}.")
    if not len(parent):
        raise ValueError("the trace has no steps to go off from: generate some tokens first.")
    if parent.first_step and parent.seed is not None:
        raise ValueError(
            f"the trace is a part of another, from its step {parent.first_step} on, so its "
            "draws have moved. Branch off the whole trace, at the step as that counts it."
        )
    step = whole("step", request.step, 0, len(parent) - 1)
    parent.must_be_of(session.model)
    return step, one_token(session.model, request.token)
