"""How known models want their queries and documents, and what a model is known to be.

A preset is what a late-interaction model was trained with: the tokens in front of queries and
documents, how long a query is made, whether punctuation counts. Sources: the `artifact.metadata`
of ColBERT's and the `config_sentence_transformers.json` of PyLate's published models.

ColBERT also fills queries with [MASK], which the other tokens do not see. llama.cpp lets them see
it, and a search is worse for it: of 24 questions on Python's standard library colbert-small
answers 10 first without and 7 with. So no preset does it; it can be asked for.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mullama_lab.engine.model import Model


@dataclass(frozen=True)
class Preset:
    """The settings of an encoder.

    Attributes:
        query_prefix, document_prefix: put in front; one special token if the vocabulary has it.
        query_length: tokens that `expand_with_mask` fills a query up to.
        expand_with_mask: put [MASK] after a query.
        skip_punctuation: leave the vectors of ASCII punctuation out of documents.
        skip_special: leave out the vectors of tokens that stand for no text, but for [MASK].
    """

    query_prefix: str = ""
    document_prefix: str = ""
    query_length: int = 32
    expand_with_mask: bool = False
    skip_punctuation: bool = False
    skip_special: bool = True


_COLBERT = Preset("[unused0]", "[unused1]", skip_punctuation=True, skip_special=False)
_PYLATE = replace(_COLBERT, query_prefix="[Q] ", document_prefix="[D] ")

PRESETS = {
    "answerai-colbert-small": _COLBERT,
    "colbert": _COLBERT,
    "modern-colbert": _PYLATE,
    "edge-colbert": replace(_PYLATE, query_length=48),
    "plain": Preset(),
}
"""Settings by name; "plain" is for models that nothing is known of."""


MARKERS = {
    "query": {preset.query_prefix.strip() for preset in PRESETS.values()} - {""},
    "document": {preset.document_prefix.strip() for preset in PRESETS.values()} - {""},
}
"""The tokens that tell a model which of the two a text is, by the kind of a MultiVector."""


def preset_of(model: Model) -> str:
    """The preset that fits a model, by its name: the first that is part of it, or "plain"."""
    name = model.name.lower().replace("_", "-")
    if "colbert" not in name:
        return "plain"
    if "answerai-colbert-small" in name:
        return "answerai-colbert-small"
    if "edge-colbert" in name:
        return "edge-colbert"
    if "modern" in name or "lfm2" in name:
        return "modern-colbert"
    return "colbert"


def is_causal(model: Model) -> bool:
    """Whether each token of the network sees only what is before it."""
    return bool(model.metadata.get(f"{model.architecture}.attention.causal", True))


def notes(model: Model, *, trained: bool, expanded: bool) -> tuple[str, ...]:
    """What a display of this model's vectors must say.

    Args:
        trained: whether the model is known to have learnt a vector for each token.
        expanded: whether queries are filled with [MASK].
    """
    said = []
    if not model.projection:
        said.append(
            f"no projection: the file has none, so each vector is all {model.n_embd} numbers of "
            "the network's last layer."
        )
    if model.projection and not trained:
        said.append(
            "projection: made for the one vector of a whole text; here each token goes through it."
        )
    if not trained:
        said.append(
            "untrained for this: a generative model, whose vectors know only the text before them."
            if is_causal(model)
            else "untrained for this: not known to have learnt a vector for each token."
        )
    if expanded:
        said.append(
            "[MASK]: the other tokens of a query see it here, and did not when ColBERT was trained."
        )
    return tuple(said)
