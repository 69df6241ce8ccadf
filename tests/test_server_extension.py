"""A real Jupyter server, and what its kernel websockets' sockets are set to."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
import types
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from mullama_lab import server_extension

# A second extension, which tells what the server's side of each kernel websocket is set to.
PROBE = """
import json, socket
from jupyter_server.base.handlers import JupyterHandler
from jupyter_server.services.kernels.connection.channels import ZMQChannelsWebsocketConnection

class Probe(JupyterHandler):
    def get(self):
        sockets = [
            handler.ws_connection.stream.socket
            for handler in ZMQChannelsWebsocketConnection._open_sessions.values()
        ]
        self.finish(json.dumps(
            [bool(s.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)) for s in sockets]
        ))

def _jupyter_server_extension_points():
    return [{"module": "socket_probe"}]

def _load_jupyter_server_extension(app):
    app.web_app.add_handlers(".*$", [("/probe", Probe)])
"""


def free_port() -> int:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        return listening.getsockname()[1]


def ask(url: str, method: str = "GET") -> Any:
    request = urllib.request.Request(url, method=method, headers={"Authorization": "token t"})
    with urllib.request.urlopen(request, timeout=30) as reply:
        return json.loads(reply.read() or "null")


def wait_for(url: str, server: subprocess.Popen[bytes], log: Path) -> None:
    for _ in range(300):
        assert server.poll() is None, log.read_text()
        try:
            ask(url)
            return
        except OSError:
            time.sleep(0.1)
    raise AssertionError(log.read_text())


def open_sockets_without_delay(folder: Path, nagle: str) -> tuple[object, str]:
    """What a server says of one open kernel websocket, and what it logged."""
    websocket = pytest.importorskip("websocket")
    (folder / "socket_probe.py").write_text(PROBE)
    enabled = folder / "jupyter_server_config.d"
    enabled.mkdir()
    probe = {"ServerApp": {"jpserver_extensions": {"socket_probe": True}}}
    (enabled / "socket_probe.json").write_text(json.dumps(probe))
    environment = os.environ | {
        "JUPYTER_CONFIG_DIR": str(folder),
        "JUPYTER_RUNTIME_DIR": str(folder / "runtime"),
        "PYTHONPATH": str(folder),
        "MULLAMA_LAB_NAGLE": nagle,
    }
    port, log = free_port(), folder / "server.log"
    command = [sys.executable, "-m", "jupyter_server", "--no-browser", "--allow-root"]
    command += [f"--ServerApp.port={port}", "--ServerApp.ip=127.0.0.1"]
    command += ["--IdentityProvider.token=t", f"--ServerApp.root_dir={folder}"]
    url = f"http://127.0.0.1:{port}"
    with log.open("wb") as out:
        server = subprocess.Popen(command, env=environment, stdout=out, stderr=out)
    try:
        wait_for(f"{url}/api/status", server, log)
        kernel = ask(f"{url}/api/kernels", "POST")["id"]
        channels = f"ws://127.0.0.1:{port}/api/kernels/{kernel}/channels?session_id=s&token=t"
        connection = websocket.create_connection(channels, timeout=60)
        try:
            connection.recv()  # the kernel's first status: the handler is open
            return ask(f"{url}/probe"), log.read_text()
        finally:
            connection.close()
            ask(f"{url}/api/kernels/{kernel}", "DELETE")
    finally:
        server.terminate()
        server.wait(timeout=30)


def test_a_kernel_websocket_sends_at_once_where_the_package_is_installed(tmp_path):
    without_delay, log = open_sockets_without_delay(tmp_path, nagle="")
    assert without_delay == [True]
    assert log.count("kernel websockets send at once") == 1


def test_an_environment_variable_leaves_the_server_as_it_is(tmp_path):
    without_delay, log = open_sockets_without_delay(tmp_path, nagle="1")
    assert without_delay == [False]
    assert "left as they are" in log


def handler_class() -> type:
    class Handler:
        def __init__(self) -> None:
            self.calls: list[object] = []

        def set_nodelay(self, value: bool) -> None:
            self.calls.append(value)

        def open(self, kernel_id: str) -> str:
            self.calls.append(kernel_id)
            return "opened"

    return Handler


def test_a_handler_class_is_changed_once():
    handler = handler_class()
    assert server_extension.send_at_once(handler) is True
    assert server_extension.send_at_once(handler) is False
    instance = handler()
    assert instance.open("k") == "opened"
    assert instance.calls == [True, "k"]


def test_a_socket_that_refuses_is_opened_all_the_same():
    handler = handler_class()

    def refuse(self, value):
        raise AssertionError("no connection")

    handler.set_nodelay = refuse
    server_extension.send_at_once(handler)
    assert handler().open("k") == "opened"


def test_a_class_that_is_no_websocket_handler_is_left_alone():
    assert server_extension.send_at_once(object) is False


def test_a_server_without_the_handler_starts_all_the_same(monkeypatch):
    monkeypatch.setitem(sys.modules, "jupyter_server.services.kernels.websocket", None)
    said: list[str] = []
    server = types.SimpleNamespace(log=types.SimpleNamespace(info=said.append))
    monkeypatch.delenv("MULLAMA_LAB_NAGLE", raising=False)
    server_extension._load_jupyter_server_extension(server)
    assert said == ["mullama_lab: this server has no kernel websocket handler to speed up"]
