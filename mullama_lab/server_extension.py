"""The Jupyter server's side: kernel websockets without Nagle's delay.

A kernel answers a widget with several small frames. jupyter_server leaves Nagle's
algorithm on, so each later frame waits for the browser's delayed acknowledgement,
about 40 ms. This extension asks tornado to send at once. It changes nothing else,
and finds nothing to do on a server that has no such handler.

Set MULLAMA_LAB_NAGLE=1 to leave the server as it is, to measure the difference.
"""

from __future__ import annotations

import functools
import logging
import os
from typing import Any

_log = logging.getLogger(__name__)


def _jupyter_server_extension_points() -> list[dict[str, str]]:
    return [{"module": "mullama_lab.server_extension"}]


def _load_jupyter_server_extension(serverapp: Any) -> None:
    log = getattr(serverapp, "log", _log)
    if os.environ.get("MULLAMA_LAB_NAGLE") == "1":
        log.info("mullama_lab: kernel websockets left as they are (MULLAMA_LAB_NAGLE=1)")
        return
    try:
        from jupyter_server.services.kernels.websocket import KernelWebsocketHandler
    except ImportError:
        log.info("mullama_lab: this server has no kernel websocket handler to speed up")
        return
    if send_at_once(KernelWebsocketHandler):
        log.info("mullama_lab: kernel websockets send at once (TCP no-delay)")


def send_at_once(handler: type) -> bool:
    """Make a websocket handler class set TCP no-delay whenever a socket opens.

    Returns:
        True if the class was changed, False if it already was, or cannot be.
    """
    opened = getattr(handler, "open", None)
    if opened is None or not hasattr(handler, "set_nodelay"):
        return False
    if getattr(opened, "sends_at_once", False):
        return False

    @functools.wraps(opened)
    def open_without_delay(self: Any, *args: Any, **kwargs: Any) -> Any:
        try:
            self.set_nodelay(True)
        except Exception as error:  # never at the price of the connection
            _log.debug("TCP no-delay was not set: %s", error)
        return opened(self, *args, **kwargs)

    open_without_delay.sends_at_once = True  # type: ignore[attr-defined]
    handler.open = open_without_delay  # type: ignore[attr-defined]
    return True
