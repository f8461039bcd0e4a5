"""Faults of the API server: calls that are cut, slow, or answered with errors. A layer around the application."""

from __future__ import annotations

import asyncio
import json
import re
from collections import Counter
from collections.abc import Awaitable, Callable, MutableMapping
from dataclasses import dataclass, field
from typing import Any

from avatar_pipeline.lab.cluster.refusals import Refusal

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

_REASONS = {429: "TooManyRequests", 500: "InternalError", 503: "ServiceUnavailable", 504: "Timeout",
            401: "Unauthorized", 403: "Forbidden"}  # fmt: skip


@dataclass(slots=True)
class ApiFault:
    """What befalls the next `left` calls whose method and path fit."""

    what: str
    left: int
    method: str | None = None
    path: str = ""
    seconds: float = 0.0
    status: int = 500
    retry_after: int | None = None

    def fits(self, method: str, path: str) -> bool:
        """Tell whether a call is meant."""
        return self.left > 0 and self.method in (None, method) and re.search(self.path, path) is not None


@dataclass(slots=True)
class FaultyApi:
    """The API with its faults. `requests` counts calls by method and path."""

    app: App
    cut: Callable[[tuple[str, int]], None] = lambda client: None
    """Resets the connection of a client; the port's."""
    faults: list[ApiFault] = field(default_factory=list)
    requests: Counter[tuple[str, str]] = field(default_factory=Counter)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a call, or not."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        method, path = scope["method"], scope["path"]
        self.requests[method, path] += 1
        fault = next((each for each in self.faults if each.fits(method, path)), None)
        if fault is None:
            await self.app(scope, receive, send)
            return
        fault.left -= 1
        self.faults[:] = [each for each in self.faults if each.left > 0]
        await self._disturb(fault, scope, receive, send)

    async def _disturb(self, fault: ApiFault, scope: Scope, receive: Receive, send: Send) -> None:
        if fault.what == "delay":
            await asyncio.sleep(fault.seconds)
            await self.app(scope, receive, send)
        elif fault.what == "fail":
            await self._answer(fault, send)
        else:
            if fault.what == "drop_after":
                await self.app(scope, receive, _swallow)
            self.cut(scope["client"])

    async def _answer(self, fault: ApiFault, send: Send) -> None:
        reason = _REASONS.get(fault.status, "InternalError")
        refusal = Refusal(fault.status, reason, f"injected fault: {reason}", retry_after=fault.retry_after)
        body = json.dumps(refusal.as_status()).encode()
        headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
        if fault.retry_after is not None:
            headers.append((b"retry-after", str(fault.retry_after).encode()))
        await send({"type": "http.response.start", "status": fault.status, "headers": headers})
        await send({"type": "http.response.body", "body": body})


async def _swallow(message: MutableMapping[str, Any]) -> None:
    """Take an answer that nobody gets."""
