"""Learn the built-in control vectors for smollm2-135m: `python notebooks/make_vectors.py`.

Each theme is a table of pairs, data/contrast_*.tsv, named by its first column. Every fourth pair is
held out; on those the accuracy and the separation are measured, and what the vector does to the
log-probability of the wanted text against that of the other, at strength 1 and -1.
"""

from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path

import numpy as np

import mullama_lab as ml
from mullama_lab.engine.steering import library

DATA = Path(__file__).parent / "data"
FIRST, LAST = 14, 20  # where every theme but "certain" has all held-out pairs in order


def pairs_of(path: Path) -> list[tuple[str, str]]:
    """(wanted text, other text); the first row of the table names the two."""
    with path.open(encoding="utf-8", newline="") as file:
        rows = [
            (row[0], row[1]) for row in csv.reader(file, delimiter="\t", quoting=csv.QUOTE_NONE)
        ]
    return rows[1:]


def leanings(session: ml.Session, pairs: list[tuple[str, str]]) -> np.ndarray:
    """By how many nats the wanted text of each pair is likelier than the other."""
    found = [[session.score(text).logprob.sum() for text in pair] for pair in pairs]
    return np.array([wanted - other for wanted, other in found], np.float64)


def learn(path: Path, session: ml.Session) -> tuple[ml.ControlVector, library.Learnt]:
    """The vector of a table of pairs, and how it did on those that were held out."""
    pairs = pairs_of(path)
    trained = ml.studies.control_vectors.train(pairs, on=session.model, progress=False)
    vector = trained.pick(FIRST, LAST)
    lean = []
    for control in (None, vector, -vector):
        session.control = control
        lean.append(leanings(session, pairs[3::4]))
    up, down = lean[1] - lean[0], lean[2] - lean[0]
    learnt = replace(
        trained.learnt(FIRST, LAST),
        model_name="smollm2-135m",
        up=float(up.mean()),
        down=float(down.mean()),
        moved=float(((up > 0) & (down < 0)).mean()),
    )
    return vector, learnt


def main() -> None:
    with ml.Model.load("smollm2-135m") as model, model.session(n_ctx=512) as session:
        for path in sorted(DATA.glob("contrast_*.tsv")):
            vector, learnt = learn(path, session)
            library.write(library.BUILT_IN / f"{path.stem.partition('_')[2]}.gguf", vector, learnt)
    print(ml.ControlVector.library())


if __name__ == "__main__":
    main()
