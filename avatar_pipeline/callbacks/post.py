"""One POST to a stranger's server: to the address that was checked, and no longer or larger than it may be.

`requests-hardened` pins the address too, but takes only the first one, knows no private network except loopback, lets
site-local and IPv4-compatible addresses through, and, as every client whose time limit is per read, is held for hours
by a server that answers one byte at a time. The connection made here is one socket with one deadline.
"""

from __future__ import annotations

import socket
import ssl
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from http.client import HTTPConnection, HTTPException, RemoteDisconnected
from threading import Event, Timer
from typing import Protocol

from avatar_pipeline.callbacks.guard import ReceiverUnreachable, Resolver, Target, check_target, system_resolver

CONNECT_SECONDS = 3.0
"""For one address, and for each step of the TLS handshake."""
MOST_ADDRESSES = 2
"""So many of a name's addresses are tried."""
TOTAL_SECONDS = 10.0
"""From the first connection attempt to the last header of the answer."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What a receiver said; `retry_after` is the header as it came. The body is never read: nothing in it matters."""

    status: int
    retry_after: str | None = None

    @property
    def accepted(self) -> bool:
        """Whether the webhook is delivered. A redirect is not followed, so it is a failure."""
        return 200 <= self.status < 300


class Post(Protocol):
    """Sends one webhook."""

    def __call__(self, url: str, body: bytes, headers: Mapping[str, str]) -> Answer:
        """Return what the receiver answered.

        Raises:
            CallbackRefused: it may not be sent there, ever.
            ReceiverUnreachable: there was no answer.
        """


@dataclass(frozen=True, slots=True)
class GuardedPost:
    """A POST that goes only where it may: no proxies, no redirects, TLS verified against the URL's host.

    `tls` is for receivers with an authority of one's own; by default the system's authorities are trusted.
    """

    private: bool = False
    resolver: Resolver = system_resolver
    tls: ssl.SSLContext = field(default_factory=ssl.create_default_context)
    connect_seconds: float = CONNECT_SECONDS
    total_seconds: float = TOTAL_SECONDS

    def __call__(self, url: str, body: bytes, headers: Mapping[str, str]) -> Answer:
        """See `Post`."""
        target = check_target(url, private=self.private, resolver=self.resolver)
        began = time.monotonic()
        # A duplicate, for the TLS layer takes the original over. Shutting it down wakes whoever reads the other.
        sock, watched = self._connect(target)
        left = max(self.total_seconds - (time.monotonic() - began), 0.0)
        late = Event()
        timer = Timer(left, _cut, (watched, late))
        timer.daemon = True
        timer.start()
        try:
            return self._talk(sock, target, body, headers)
        except (OSError, HTTPException, ValueError) as error:
            # A ValueError is an answer that http.client can make nothing of.
            why = f"gave no answer within {self.total_seconds:g} s" if late.is_set() else _reason(error)
            connected = late.is_set() or not isinstance(error, ssl.SSLError)
            raise ReceiverUnreachable(target.host, why, connected=connected) from error
        finally:
            timer.cancel()
            watched.close()
            sock.close()

    def _connect(self, target: Target) -> tuple[socket.socket, socket.socket]:
        error: OSError | None = None
        for address in target.addresses[:MOST_ADDRESSES]:
            try:
                sock = socket.create_connection((address, target.port), timeout=self.connect_seconds)
                return sock, sock.dup()
            except OSError as one:
                error = one
        raise ReceiverUnreachable(target.host, _reason(error), connected=False) from error

    def _talk(self, sock: socket.socket, target: Target, body: bytes, headers: Mapping[str, str]) -> Answer:
        connection = HTTPConnection(target.host, target.port)
        connection.auto_open = 0  # it gets its socket, and may open none: nothing is resolved a second time
        try:
            connection.sock = self.tls.wrap_socket(sock, server_hostname=target.host) if target.secure else sock
            connection.sock.settimeout(self.total_seconds)
            connection.request("POST", target.path, body, {"Host": target.authority, "Connection": "close", **headers})
            answer = connection.getresponse()
            return Answer(answer.status, answer.headers.get("Retry-After"))
        finally:
            connection.close()


def _cut(watched: socket.socket, late: Event) -> None:
    late.set()
    with suppress(OSError):  # it is over already
        watched.shutdown(socket.SHUT_RDWR)


def _reason(error: Exception | None) -> str:
    """Say why, without a word that the receiver chose."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"has no trusted certificate: {error.verify_message}"
    if isinstance(error, ssl.SSLError):
        return "does not speak TLS as it should"
    if isinstance(error, TimeoutError):
        return "did not answer in time"
    if isinstance(error, RemoteDisconnected | ConnectionResetError | BrokenPipeError):
        return "closed the connection without an answer"
    if isinstance(error, OSError) and not isinstance(error, HTTPException):
        return f"cannot be reached: {error.strerror or type(error).__name__}"
    return "gave an answer that is not HTTP"
