"""A BERT from an int8 ONNX file and its `vocab.txt`, as the GGUF that llama.cpp reads.

The ONNX file is read for its numbers; nothing in it is run. Its matrices are int8 with one scale
each, its embeddings uint8 with a zero point. They are written as float16, which is closer to them
than Q8_0 would be to what is computed with them, and is computed faster on a CPU.

It knows ONNX, GGUF and BERT's names. It does not know where files come from.
"""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mullama_lab.errors import ChecksumMismatch, HubError

if TYPE_CHECKING:
    import gguf
    import numpy as np

    Arrays = Mapping[str, np.ndarray]

SPACE = "\N{LOWER ONE EIGHTH BLOCK}"  # how llama.cpp's WordPiece writes the start of a word

N_HEAD = 12
MATRICES_OF_A_LAYER = ("attn_q", "attn_k", "attn_v", "attn_output", "ffn_up", "ffn_down")
VECTORS_OF_A_LAYER = {
    "attn_q.bias": "attention.self.query.bias",
    "attn_k.bias": "attention.self.key.bias",
    "attn_v.bias": "attention.self.value.bias",
    "attn_output.bias": "attention.output.dense.bias",
    "attn_output_norm.weight": "attention.output.LayerNorm.weight",
    "attn_output_norm.bias": "attention.output.LayerNorm.bias",
    "ffn_up.bias": "intermediate.dense.bias",
    "ffn_down.bias": "output.dense.bias",
    "layer_output_norm.weight": "output.LayerNorm.weight",
    "layer_output_norm.bias": "output.LayerNorm.bias",
}
EMBEDDINGS = {
    "token_embd.weight": ("embeddings.word_embeddings.weight", "float16"),
    "token_types.weight": ("embeddings.token_type_embeddings.weight", "float32"),
    "position_embd.weight": ("embeddings.position_embeddings.weight", "float32"),
}


def require_onnx(name: str) -> None:
    """Say what to install where the `onnx` package is missing."""
    if importlib.util.find_spec("onnx") is None:
        raise HubError(
            f"{name} is converted from an ONNX file, which needs the package onnx. "
            "Run: pip install onnx"
        )


def convert(
    onnx_file: Path, vocabulary: Path, out: Path, *, about: Mapping[str, str], progress: bool
) -> None:
    """Write the GGUF of a BERT to `out`.

    Args:
        onnx_file: the network, its matrices in int8.
        vocabulary: one token a line, as BERT's `vocab.txt` has them.
        out: where to write.
        about: `general.` keys, such as {"name": "a BERT"}.
        progress: show a bar.

    Raises:
        ChecksumMismatch: the file is no int8 BERT.
    """
    import gguf

    from mullama_lab.bars import TextBar

    arrays = _initializers(onnx_file)
    tokens = vocabulary.read_text(encoding="utf-8").split("\n")
    tokens = tokens[:-1] if tokens[-1] == "" else tokens
    try:
        shapes = {name: arrays[f"{old}_quantized"].shape for name, (old, _) in EMBEDDINGS.items()}
        matrices = _matrices(arrays)
        n_layer = len(matrices) // len(MATRICES_OF_A_LAYER)
        writer = gguf.GGUFWriter(out, "bert")
        for key, text in about.items():
            writer.add_string(f"general.{key}", text)
        _add_network(writer, shapes, n_layer, n_ff=matrices[4].shape[0])
        _add_vocabulary(writer, tokens)
        tensors = TextBar(
            _tensors(arrays, matrices),
            desc="converting",
            total=len(EMBEDDINGS) + 2 + len(matrices) + n_layer * len(VECTORS_OF_A_LAYER),
            disable=not progress,
        )
        for name, array in tensors:
            writer.add_tensor(name, array)
    except (KeyError, IndexError, ValueError) as error:
        raise ChecksumMismatch(
            f"{onnx_file.name} is not the int8 BERT that this conversion knows: {error!r}. "
            "Fetch it again."
        ) from error
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _initializers(path: Path) -> Arrays:
    import onnx
    from google.protobuf.message import DecodeError
    from onnx import numpy_helper

    try:
        model = onnx.load(str(path), load_external_data=False)
    except DecodeError as error:
        raise ChecksumMismatch(f"{path.name} is no ONNX file: {error}. Fetch it again.") from error
    return {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}


def _matrices(arrays: Arrays) -> list[np.ndarray]:
    """The int8 matrices, out x in, in the order of their numbers: layer by layer, as named."""
    numbered = {
        int(match[1]): name
        for name in arrays
        if (match := re.fullmatch(r"onnx::MatMul_(\d+)_quantized", name))
    }
    names = [numbered[number] for number in sorted(numbered)]
    if not names or len(names) % len(MATRICES_OF_A_LAYER):
        raise ValueError(f"{len(names)} matrices, which are no whole layers")
    return [_matrix(arrays, name.removesuffix("_quantized")) for name in names]


def _matrix(arrays: Arrays, name: str) -> np.ndarray:
    import numpy as np

    numbers = arrays[f"{name}_quantized"].T  # GGUF has a row for each output
    if numbers.dtype != np.int8 or arrays[f"{name}_zero_point"] != 0:
        raise ValueError(f"{name} is not int8 around zero")
    return (numbers.astype(np.float32) * arrays[f"{name}_scale"]).astype(np.float16)


def _tensors(arrays: Arrays, matrices: Sequence[np.ndarray]) -> Iterator[tuple[str, np.ndarray]]:
    import numpy as np

    for name, (old, kind) in EMBEDDINGS.items():
        zero = np.float32(arrays[f"{old}_zero_point"])
        numbers = arrays[f"{old}_quantized"].astype(np.float32) - zero
        yield name, (numbers * arrays[f"{old}_scale"]).astype(kind)
    for kind in ("weight", "bias"):
        yield f"token_embd_norm.{kind}", arrays[f"embeddings.LayerNorm.{kind}"]
    for number, matrix in enumerate(matrices):
        layer, place = divmod(number, len(MATRICES_OF_A_LAYER))
        yield f"blk.{layer}.{MATRICES_OF_A_LAYER[place]}.weight", matrix
        if place == 0:
            for name, old in VECTORS_OF_A_LAYER.items():
                yield f"blk.{layer}.{name}", arrays[f"encoder.layer.{layer}.{old}"]


def _add_network(
    writer: gguf.GGUFWriter, shapes: Mapping[str, Any], n_layer: int, n_ff: int
) -> None:
    import gguf

    n_positions, n_embd = shapes["position_embd.weight"]
    writer.add_context_length(n_positions)
    writer.add_embedding_length(n_embd)
    writer.add_block_count(n_layer)
    writer.add_feed_forward_length(n_ff)
    writer.add_head_count(N_HEAD)
    writer.add_layer_norm_eps(1e-12)
    writer.add_causal_attention(False)
    writer.add_pooling_type(gguf.PoolingType.NONE)
    writer.add_file_type(gguf.LlamaFileType.MOSTLY_F16)
    writer.add_token_type_count(shapes["token_types.weight"][0])


def _add_vocabulary(writer: gguf.GGUFWriter, tokens: Sequence[str]) -> None:
    import gguf

    control, unknown = gguf.TokenType.CONTROL, gguf.TokenType.UNKNOWN
    kinds = {"[PAD]": control, "[CLS]": control, "[SEP]": control, "[MASK]": control}
    kinds["[UNK]"] = unknown
    writer.add_tokenizer_model("bert")
    writer.add_tokenizer_pre("default")
    writer.add_token_list([_llama_cpp_piece(token) for token in tokens])
    writer.add_token_types([kinds.get(token, gguf.TokenType.NORMAL) for token in tokens])
    writer.add_bos_token_id(tokens.index("[CLS]"))
    writer.add_eos_token_id(tokens.index("[SEP]"))
    writer.add_unk_token_id(tokens.index("[UNK]"))
    writer.add_sep_token_id(tokens.index("[SEP]"))
    writer.add_pad_token_id(tokens.index("[PAD]"))
    writer.add_mask_token_id(tokens.index("[MASK]"))


def _llama_cpp_piece(token: str) -> str:
    """WordPiece marks what goes on with a word, llama.cpp what begins one."""
    if token.startswith("[") and token.endswith("]"):
        return token
    return token[2:] if token.startswith("##") else SPACE + token
