"""Control vectors learnt from contrast: in which direction a model tells two kinds of text apart.

Each pair says the same twice, once in the wanted way and once in the other. What differs in the
hidden states after the last tokens of the two, layer by layer, is what a vector is made of. It is
read from the loaded model as it is, quantised or not, mixture of experts or not: the residual
stream is in all of them.

Each text is read by itself, so that its states depend on nothing that is read beside it. Several
in one batch were measured and are not worth what they cost: with eight of smollm2-135m at once
(64 tokens and more, which llama.cpp adds up otherwise) a state depended on its neighbours, by up
to 3.1 where it is 580, and that took 1/1.08 of the time; four at once were alike bit for bit, and
took 1/1.07 (CPU, one thread, median of seven turns).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from mullama_lab.counted import counted
from mullama_lab.engine.gguf.fingerprint import fingerprint_of
from mullama_lab.engine.hidden import HiddenStates
from mullama_lab.engine.model import Model
from mullama_lab.engine.options import listed, one_of, threads
from mullama_lab.engine.session import Session
from mullama_lab.engine.session.checks import must_generate
from mullama_lab.engine.steering import library
from mullama_lab.engine.steering.control_vector import ControlVector
from mullama_lab.engine.steering.library import Learnt
from mullama_lab.errors import ContextFull, Stopped
from mullama_lab.glyphs import brief

if TYPE_CHECKING:
    import pandas

__all__ = ["METHODS", "Training", "train"]
__dir__ = __all__.copy  # what tab completion offers

METHODS = ("mean", "pca", "centred_pca")
HELD_OUT = 4  # one pair of so many is not learnt from, but tried
NEAR_BEST = 0.75  # of the best separation, in a layer of the band about it

Progress = Callable[[float], object]


@dataclass(frozen=True, eq=False)
class Training:
    """What was learnt, and how well it does on pairs that it was not learnt from.

    Attributes:
        vector: of layers 1 to the last. At strength 1 it goes as far as the pairs differ on
            average, in each layer; `pick` spreads that over some of them.
        model_name: of the model that it was learnt on.
        method: one of `METHODS`.
        n_pairs, n_held_out: how many it was learnt from, and tried on.
        layers: int, (n_layers,).
        accuracy: float64, (n_layers,): in how many of the held-out pairs the wanted text lies
            further along the direction than the other; 0.5 is chance.
        separation: float64, (n_layers,): how far they lie apart, in standard deviations of that
            distance over the held-out pairs; nan where one pair alone was held out.
    """

    vector: ControlVector
    model_name: str
    method: str
    n_pairs: int
    n_held_out: int
    layers: NDArray[np.int64] = field(repr=False)
    accuracy: NDArray[np.float64] = field(repr=False)
    separation: NDArray[np.float64] = field(repr=False)

    @property
    def best(self) -> int:
        """The layer whose direction separates the held-out pairs furthest."""
        return int(self.layers[self._best])

    @property
    def _best(self) -> int:
        return int(np.nan_to_num(self.separation, nan=-np.inf).argmax())

    @property
    def band(self) -> tuple[int, int]:
        """The first and last of the layers about the best one that do about as well.

        Each of them separates the held-out pairs at least three quarters as far. Where nothing is
        known of that, or no layer separates them, it is the middle half of the layers.
        """
        n, at = len(self.layers), self._best
        known = np.nan_to_num(self.separation, nan=0.0)
        if known[at] <= 0:
            return int(self.layers[n // 4]), int(self.layers[max(n // 4, (3 * n - 1) // 4)])
        is_near = known >= NEAR_BEST * known[at]
        first = last = at
        while first > 0 and is_near[first - 1]:
            first -= 1
        while last < n - 1 and is_near[last + 1]:
            last += 1
        return int(self.layers[first]), int(self.layers[last])

    def pick(self, first: int, last: int) -> ControlVector:
        """The vector of the layers from `first` to `last`, divided by how many they are.

        What one layer adds, the later ones pass on: so at strength 1 it goes about as far in all
        as the pairs differ.

        Raises:
            ValueError: there is no layer there.
        """
        some = self.vector.layers(first, last)
        spread = some / len(some.directions)
        return ControlVector(
            spread.directions,
            architecture=some.architecture,
            name=self.vector.name,
            model=some.model,
        )

    def keep(self, name: str, first: int, last: int, *, replace: bool = False) -> ControlVector:
        """Have `pick(first, last)` by a name, for `ControlVector.named(name)` in any notebook.

        Args:
            name: 1 to 40 letters, digits, spaces, - and _.
            replace: whether it may take the place of one that was kept by that name.

        Raises:
            ValueError: the name is taken, or no name; or there is no layer there.
            PresetError: it could not be written.
        """
        library.keep(self.pick(first, last), name, self.learnt(first, last), replace=replace)
        return ControlVector.named(name)

    def learnt(self, first: int, last: int) -> Learnt:
        """What is written beside the layers from `first` to `last` where they are kept.

        Raises:
            ValueError: there is no layer there.
        """
        self.vector.layers(first, last)  # or it is refused here
        own = (self.layers >= first) & (self.layers <= last)
        return Learnt(
            model_name=self.model_name,
            n_pairs=self.n_pairs,
            n_held_out=self.n_held_out,
            accuracy=float(self.accuracy[own].mean()),
            separation=float(self.separation[own].mean()),
        )

    def to_pandas(self) -> pandas.DataFrame:
        """One row a layer: norm, accuracy, separation; needs pandas."""
        import pandas as pd

        norms = self.vector.norms
        return pd.DataFrame(
            {
                "norm": [norms[layer] for layer in self.layers.tolist()],
                "accuracy": self.accuracy,
                "separation": self.separation,
            },
            index=pd.Index(self.layers, name="layer"),
        )

    def summary(self) -> str:
        """What it comes to, in a line."""
        learnt = f"from {counted(self.n_pairs, 'pair')} by {self.method}"
        if self.n_held_out == 1:
            return f"{learnt}; one pair was held out, which tells little of how well it does"
        at = self._best
        return (
            f"{learnt}; layer {self.best} puts {self.accuracy[at]:.0%} of "
            f"{counted(self.n_held_out, 'held-out pair')} in order, {self.separation[at]:.1f} "
            "standard deviations apart"
        )

    def __repr__(self) -> str:
        return f"<Training: {self.summary()}>"


def train(
    pairs: Iterable[tuple[str, str]],
    *,
    on: Model | Session,
    method: str = "mean",
    name: str = "",
    progress: bool | Progress = True,
) -> Training:
    """Learn a control vector from pairs of texts.

    Every fourth pair is held out, or of a few the last, and tells how well each layer does.
    The same pairs on the same machine give the same vector, bit for bit. Ctrl-C stops it.

    Args:
        pairs: (wanted text, other text), at least two; best alike but for what is to be learnt,
            and ending alike, since the states after the last token are compared.
        on: the Model, or a Session of it, whose threads are used; nothing that is in force there
            acts, and its cache stays as it is.
        method: how the differences of the pairs become one direction. "mean" is their mean.
            "pca" is their first principal axis about zero, as in llama.cpp's cvector-generator
            and repeng's pca_center. "centred_pca" is that about their mean, as in repeng's
            pca_diff.
        name: what to call the vector.
        progress: show a bar if it takes longer than two seconds; or a function that gets the part
            that is done (0 to 1), on another thread, and may return False to stop.

    Raises:
        Stopped: `progress` returned False, or another thread called `session.stop()`.
        ValueError: there are fewer than two pairs, an empty text, no such method, or the two
            texts of every pair end alike for the model.
        TypeError: pairs are no pairs of texts, or `on` is neither a Model nor a Session.
        ModelLoadError: the model has no weights, or predicts no next token.
        ClosedError: the model was closed.
        ContextFull: a text is longer than the context.

    Example:
        happy = [(f"I am so happy. {s}", f"I am so sad. {s}") for s in sentences]
        trained = studies.control_vectors.train(happy, on=model)
        session.control = 0.8 * trained.vector.layers(10, 20)
    """
    method = one_of("method", method, METHODS)
    if not isinstance(on, (Model, Session)):
        raise TypeError(f"on={brief(on)}: give a Model, or a Session of it.")
    model = on.model if isinstance(on, Session) else on
    model.must_be_open()
    must_generate(model)
    if model.n_layer < 2:
        raise ValueError(f"{model.name} has one layer: llama.cpp takes a vector from layer 1 on.")
    texts = _texts(pairs, on)
    states = _last_states(texts, model, on, progress)
    differences = states[0::2] - states[1::2]  # (n_pairs, n_layers, n_embd)
    is_held = _held_out(len(differences))
    learnt, tried = differences[~is_held], differences[is_held]
    if not learnt.any():
        raise ValueError(
            "the two texts of each pair leave the model in the same state: they must differ."
        )
    directions = np.stack([_direction(learnt[:, i], method) for i in range(learnt.shape[1])])
    accuracy, separation = _scores(tried, directions)
    layers = np.arange(1, model.n_layer)
    rows = dict(zip(layers.tolist(), directions.astype(np.float32), strict=True))
    return Training(
        vector=ControlVector(
            rows, architecture=model.architecture, name=name, model=fingerprint_of(model)
        ),
        model_name=model.name,
        method=method,
        n_pairs=len(learnt),
        n_held_out=len(tried),
        layers=layers,
        accuracy=accuracy,
        separation=separation,
    )


def _texts(pairs: Iterable[tuple[str, str]], on: Model | Session) -> list[list[int]]:
    """The tokens of all texts: the wanted one of the first pair, the other, and so on."""
    model = on.model if isinstance(on, Session) else on
    longest = on.n_ctx if isinstance(on, Session) else model.n_ctx_train
    texts: list[list[int]] = []
    known: list[Any] = listed("pairs", pairs, "(text, text)")
    for number, pair in enumerate(known):
        is_pair = isinstance(pair, (tuple, list)) and len(pair) == 2
        if not is_pair or not all(isinstance(text, str) for text in pair):
            raise TypeError(f"pair {number} is {brief(pair)}: it must be two texts.")
        for text in pair:
            tokens = model.tokenize(text, parse_special=True)
            if not text:
                raise ValueError(f"pair {number} has an empty text.")
            if len(tokens) > longest:
                raise ContextFull(
                    f"a text of pair {number} has {len(tokens)} tokens, and {longest} fit. "
                    "Shorten it, or open a session with a larger n_ctx."
                )
            texts.append(tokens)
    if len(known) < 2:
        raise ValueError(f"{counted(len(known), 'pair')}: there must be two at least.")
    return texts


def _last_states(
    texts: Sequence[Sequence[int]], model: Model, on: Model | Session, progress: bool | Progress
) -> NDArray[np.float64]:
    """After the last token of each text, (n_texts, n_layers - 1, n_embd): layers 1 and on."""
    found = np.empty((len(texts), model.n_layer - 1, model.n_embd))
    tell = progress if callable(progress) else None

    def visit(place: int, states: NDArray[np.float32]) -> None:
        found[place] = states[:, -1]
        if tell is not None and tell((place + 1) / len(texts)) is False:
            raise Stopped(f"stopped after {place + 1} of {len(texts)} texts.")

    with HiddenStates(
        model,
        layers=range(1, model.n_layer),
        n_ctx=max(map(len, texts)),
        n_threads=on.n_threads if isinstance(on, Session) else threads(None),
        session=on if isinstance(on, Session) else None,
    ) as reader:
        reader.read(texts, visit, progress=False if callable(progress) else progress)
    return found


def _held_out(n: int) -> NDArray[np.bool_]:
    """Which of n pairs are held out."""
    places = np.arange(n)
    if n >= 2 * HELD_OUT:
        return places % HELD_OUT == HELD_OUT - 1
    return places >= n - (2 if n >= HELD_OUT else 1)


def _direction(differences: NDArray[np.float64], method: str) -> NDArray[np.float64]:
    """The direction in one layer, as long as the differences reach along it on average."""
    mean = differences.mean(axis=0)
    if method == "mean":
        return mean
    about = differences - mean if method == "centred_pca" else differences
    # The first axis lies in the span of the differences, whose inner products are few.
    _, vectors = np.linalg.eigh(about @ about.T)
    axis = about.T @ vectors[:, -1]
    length = np.linalg.norm(axis)
    if length == 0:
        return np.zeros_like(mean)
    axis /= length
    return axis * (mean @ axis)


def _scores(
    tried: NDArray[np.float64], directions: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Accuracy and separation of each layer on differences that were held out."""
    lengths = np.linalg.norm(directions, axis=1)
    units = directions / np.where(lengths > 0, lengths, 1)[:, None]
    along = np.einsum("ple,le->pl", tried, units)
    accuracy = ((along > 0) + 0.5 * (along == 0)).mean(axis=0)
    if len(along) == 1:
        return accuracy, np.full(len(directions), np.nan)
    spread = along.std(axis=0, ddof=1)
    separation = np.divide(along.mean(axis=0), spread, where=spread > 0, out=np.zeros(len(spread)))
    return accuracy, separation
