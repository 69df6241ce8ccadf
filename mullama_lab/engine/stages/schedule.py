"""Schedule: the chains of a generation, each from a step on; and a schedule at work on a text.

A run whose chain is changed on the way is drawn by more than one chain. A Schedule says which one
is in force at which step, and can be given wherever one text's chain is: `{0: a, 12: b}`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

from mullama_lab.engine import native
from mullama_lab.engine.options import MAX_STEP, whole
from mullama_lab.engine.stages.chain import Chain
from mullama_lab.engine.stages.chain_sampler import ChainSampler, carried, check
from mullama_lab.engine.stages.stage import Stage

if TYPE_CHECKING:
    from mullama_lab.engine.model import Model

# What may be given as the chain of one text.
ChainOrSchedule: TypeAlias = "Chain | Stage | Iterable[Stage] | Mapping[int, Any] | None"


class Schedule(Mapping[int, Chain]):
    """Chains by the step from which each is in force: `{0: TopK(40), 12: TopK(40) | MinP(0.1)}`.

    >>> from mullama_lab.engine.stages import MinP, TopK
    >>> Schedule.of({0: TopK(40), 12: MinP(0.1)}).at(11)
    Chain([TopK(40)])
    """

    def __init__(self, entries: Iterable[tuple[int, Chain]]) -> None:
        kept: list[tuple[int, Chain]] = []
        for first, chain in entries:
            if not kept or kept[-1][1] != chain:
                kept.append((first, chain))
        self._entries = tuple(kept)

    @classmethod
    def of(cls, value: ChainOrSchedule, first: int = 0) -> Schedule:
        """A schedule from whatever a caller may pass as one; a chain alone is in force throughout.

        Args:
            first: the first step that is drawn; what is said of steps before it is left out.

        Raises:
            ValueError: a step is out of range, or it is not said what draws the first one.
            TypeError: neither a chain nor a dict of chains by steps.
        """
        if not isinstance(value, Mapping):
            return cls([(first, Chain.of(value))])
        entries = sorted((whole("a step", i, 0, MAX_STEP), Chain.of(c)) for i, c in value.items())
        before = [chain for i, chain in entries if i <= first]
        if not before:
            raise ValueError(
                f"the chains begin at {[i for i, _ in entries]}, and step {first} is drawn first: "
                f"say which chain draws it, such as {{{first}: chain, …}}."
            )
        return cls([(first, before[-1]), *((i, chain) for i, chain in entries if i > first)])

    def at(self, step: int) -> Chain:
        """The chain in force at a step."""
        return next((c for i, c in reversed(self._entries) if i <= step), self._entries[0][1])

    @property
    def last(self) -> Chain:
        """The chain in force at the end."""
        return self._entries[-1][1]

    @property
    def changes(self) -> bool:
        """Whether there is more than one chain."""
        return len(self._entries) > 1

    @property
    def constrains(self) -> bool:
        """Whether any of the chains keeps to a grammar."""
        return any(stage.masks_rows for _, chain in self._entries for stage in chain)

    def map(self, change: Callable[[Chain], Chain]) -> Schedule:
        """The schedule with each of its chains changed."""
        return Schedule((first, change(chain)) for first, chain in self._entries)

    def check(self, model: Model) -> None:
        """Refuse a schedule with a chain that does not fit a model; ValueError says why."""
        for _, chain in self._entries:
            check(chain, model)

    def stages(self) -> list[StageName]:
        """The name of every stage: those of the last chain in its order, then those before it."""
        chains = [chain for _, chain in reversed(self._entries)]
        return list(dict.fromkeys(name for chain in chains for name in names_of(chain)))

    def versions(self, name: StageName) -> list[tuple[int, Stage]]:
        """The place and the settings that a stage has in one chain after the other."""
        places = [(chain, name.place_in(chain)) for _, chain in self._entries]
        return [(place, chain[place]) for chain, place in places if place is not None]

    def __getitem__(self, first: int) -> Chain:
        return dict(self._entries)[first]

    def __iter__(self) -> Iterator[int]:
        return (first for first, _ in self._entries)

    def __len__(self) -> int:
        return len(self._entries)

    def __repr__(self) -> str:
        return repr(dict(self._entries)) if self.changes else repr(self.last)


class StageName(NamedTuple):
    """What names a stage in chains that differ: its kind, and how many of that are before it."""

    kind: type[Stage]
    nth: int

    def place_in(self, chain: Chain) -> int | None:
        """Its place in a chain; None where there is no such stage."""
        places = [i for i, stage in enumerate(chain) if type(stage) is self.kind]
        return places[self.nth] if self.nth < len(places) else None

    def put(self, stage: Stage, chain: Chain) -> Chain:
        """The chain with another stage in its place, as it is where there is none."""
        place = self.place_in(chain)
        return chain if place is None else chain._replaced(place, stage)

    def without(self, chain: Chain) -> Chain:
        """The chain without it."""
        place = self.place_in(chain)
        return chain if place is None else Chain([*chain[:place], *chain[place + 1 :]])


def names_of(chain: Chain) -> list[StageName]:
    """The names of a chain's stages, in its order."""
    kinds = [type(stage) for stage in chain]
    return [StageName(kind, kinds[:i].count(kind)) for i, kind in enumerate(kinds)]


class ScheduleSampler:
    """A schedule at work on one text, whose steps are taken one after the other.

    Where the chain changes, a stage that stays as it is keeps what it has learnt.

    Args:
        history: the tokens before the first step.
    """

    def __init__(
        self,
        schedule: Schedule,
        model: Model,
        *,
        history: Sequence[int],
        seed: int,
        candidates: native.Candidates | None = None,
    ) -> None:
        self.schedule = schedule
        self._model, self._seed, self._history = model, seed, list(history)
        self._step = 0
        self._work = self._sampler((), candidates)

    @property
    def candidates(self) -> native.Candidates:
        return self._work.candidates

    @property
    def now(self) -> ChainSampler:
        """The sampler of the step that follows those that were accepted."""
        before = self._work
        if (chain := self.schedule.at(self._step)) is not before.chain:
            state = carried(before.chain, before.state, chain)
            self._work = self._sampler(state, before.candidates)
        return self._work

    def accept(self, token: int) -> None:
        """Tell the stages which token the step has, and go on to the next."""
        self.now.accept(token)
        self._history.append(token)
        self._step += 1

    def _sampler(self, state: Sequence[Any], candidates: native.Candidates | None) -> ChainSampler:
        return ChainSampler(
            self.schedule.at(self._step),
            self._model,
            history=self._history,
            seed=self._seed,
            step=self._step,
            state=state,
            candidates=candidates,
        )
