"""llama.cpp's callback for each tensor that it computes, and what can be asked of a tensor there.

Before it computes a tensor it asks whether that is wanted; one that is wanted it computes apart
from what follows, waits until it is done, shows it, and asks whether to go on. The callback is
fixed when a context is opened: a context without one pays nothing.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable

from mullama_lab.engine.native.library import C, ggml_function

Look = Callable[[int, bool], bool]


class TensorCallback:
    """A function of (tensor, whether llama.cpp asks) as llama.cpp calls it; keeps what it raised.

    An error cannot pass through C: it ends the computation, and `raise_error` raises it after it.

    Attributes:
        native: what `new_context` takes; keep this object as long as the context.
    """

    def __init__(self, look: Look) -> None:
        self._look = look
        self._error: BaseException | None = None
        self.native = C.ggml_backend_sched_eval_callback(self._call)

    def raise_error(self) -> None:
        """Raise what the function raised, if it did."""
        if self._error is not None:
            raise self._error

    def _call(self, tensor: int, ask: bool, _user: object) -> bool:
        try:
            return self._look(tensor, ask)
        except BaseException as error:
            self._error = error
            return False


tensor_name = ggml_function("ggml_get_name", ctypes.c_char_p, [ctypes.c_void_p])
operation_name = ggml_function("ggml_op_desc", ctypes.c_char_p, [ctypes.c_void_p])
n_bytes = ggml_function("ggml_nbytes", ctypes.c_size_t, [ctypes.c_void_p])
get_values = ggml_function(
    "ggml_backend_tensor_get",
    None,
    [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t, ctypes.c_size_t],
)
