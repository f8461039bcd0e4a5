"""A port on loopback, served by uvicorn in the cluster's loop, that can go away and come back."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from typing import Any

LOOPBACK = "127.0.0.1"
_RESET = struct.pack("ii", 1, 0)


class Port:
    """Serves an ASGI application. The port stays ours while it is closed, and refuses connections then."""

    def __init__(self, app: Any, port: int = 0) -> None:
        self._app = app
        # Bound and never listening: nobody else can take the port while the listener is away.
        self._holder = _bound(port)
        self.number: int = self._holder.getsockname()[1]
        self._server: Any = None

    @property
    def url(self) -> str:
        """Where it is."""
        return f"http://{LOOPBACK}:{self.number}"

    async def open(self) -> None:
        """Listen."""
        import uvicorn

        if self._server is not None:
            return
        config = uvicorn.Config(
            self._app, lifespan="off", log_config=None, log_level="critical", access_log=False, ws="none",
            timeout_keep_alive=120, server_header=False,
        )  # fmt: skip
        config.load()
        server = uvicorn.Server(config)
        server.lifespan = config.lifespan_class(config)
        await server.startup(sockets=[_bound(self.number)])
        self._server = server

    def close(self) -> None:
        """Reset all connections and listen no more."""
        if self._server is None:
            return
        for listener in self._server.servers:
            listener.close()
        for connection in list(self._server.server_state.connections):
            _reset(connection.transport)
        for task in list(self._server.server_state.tasks):
            task.cancel()
        self._server = None

    def cut(self, client: tuple[str, int]) -> None:
        """Reset the connection of one client."""
        for connection in list(self._server.server_state.connections) if self._server else ():
            if tuple(connection.client or ()) == tuple(client):
                _reset(connection.transport)

    def release(self) -> None:
        """Close for good."""
        self.close()
        self._holder.close()


def _bound(port: int) -> socket.socket:
    # The protocol is named: asyncio turns Nagle's algorithm off only where it is, and an answer would take 40 ms.
    door = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    door.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    door.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    door.bind((LOOPBACK, port))
    return door


def _reset(transport: asyncio.Transport) -> None:
    door = transport.get_extra_info("socket")
    if door is not None:
        with contextlib.suppress(OSError):
            door.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
    transport.abort()
