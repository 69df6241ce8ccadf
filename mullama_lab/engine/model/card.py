"""What a model card says, as text by label."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mullama_lab.counted import in_words, size_in_words
from mullama_lab.engine.encoder.presets import is_causal
from mullama_lab.engine.gguf import projection

if TYPE_CHECKING:
    from mullama_lab.engine.model import Model

_VOCABULARIES = {
    "SPM": "SentencePiece",
    "BPE": "byte-pair",
    "WPM": "WordPiece",
    "UGM": "Unigram",
    "RWKV": "RWKV",
    "PLAMO2": "PLaMo-2",
    "NONE": "none",
}


def model_card(model: Model) -> dict[str, str]:
    """The lines of a model card, in the order to show them."""
    about = model.metadata
    licence = about.get("general.license") or about.get("general.license.name")
    window = f", sliding window of {model.n_swa}" if model.n_swa else ""
    vocabulary = _VOCABULARIES.get(model.vocab_type, model.vocab_type)
    return {
        "name": model.name,
        "architecture": model.architecture,
        "parameters": in_words(model.n_params),
        "layers": f"{model.n_layer} of width {model.n_embd}",
        "weights": f"{size_in_words(model.size_bytes)}, {model.file_type}",
        "context": f"{model.n_ctx_train} tokens{window}",
        "vocabulary": f"{model.n_vocab} tokens, {vocabulary}",
        "chat template": "yes" if model.chat_template else "no",
        **_projection(model),
        "licence": str(licence or "not stated in the file"),
        "file": model.path.name,
    }


def _projection(model: Model) -> dict[str, str]:
    """What becomes of a token's vector, of models that are there for vectors."""
    makes_vectors = model.projection or not is_causal(model)
    return {"projection": projection.in_words(model.projection)} if makes_vectors else {}
