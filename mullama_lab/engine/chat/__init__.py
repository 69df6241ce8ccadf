"""Messages of a chat become a prompt, by the model's own template.

The template in a GGUF file is a Jinja program. llama.cpp's C interface does not run it: it
recognises some well-known templates by their text and has its own code for those. Here the
program itself runs, in a sandbox and in a process of its own, with the helpers it was written for
(those of Hugging Face transformers), so every template works and none can touch this process.
"""

from __future__ import annotations

from mullama_lab.engine.chat.layout import Chat, Layout
from mullama_lab.engine.chat.rendered import MessageSpan, RenderedChat, rendered

__all__ = ["Chat", "Layout", "MessageSpan", "RenderedChat", "rendered"]
__dir__ = __all__.copy  # what tab completion offers
