"""The stand-in as an HTTP server on loopback."""

from __future__ import annotations

import contextlib
import json
import select
import socket
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

from pydantic import ValidationError

from tests.elevenlabs import routes
from tests.elevenlabs.account import Account
from tests.elevenlabs.control import CONTROL_PATH, Control
from tests.elevenlabs.messages import Answer, Request, json_answer
from tests.elevenlabs.refusals import Refusal
from tests.elevenlabs.rules import Rules

LOOPBACK = "127.0.0.1"


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 256

    def __init__(self, account: Account, port: int) -> None:
        super().__init__((LOOPBACK, port), _Handler)
        self.account = account
        self.stopping = threading.Event()
        self.open: set[socket.socket] = set()

    def shutdown_request(self, request: Any) -> None:
        """Forget a connection that is over."""
        self.open.discard(request)
        super().shutdown_request(request)

    def process_request(self, request: Any, client_address: Any) -> None:
        """Remember a connection, for the end: a caller that keeps one open would go on being served."""
        self.open.add(request)
        super().process_request(request, client_address)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing of callers that went away; tests cause that."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = -1
    server: _Server

    def do_GET(self) -> None:
        account = self.server.account
        url = urlsplit(self.path)
        request = Request(
            method=self.command,
            path=unquote(url.path).rstrip("/"),
            query=dict(parse_qsl(url.query)),
            headers={name.lower(): value for name, value in self.headers.items()},
            body=self.rfile.read(int(self.headers.get("Content-Length") or 0)),
            request_id=account.next_request_id(),
            arrived=time.monotonic(),
        )
        try:
            answer = _controlled(account, request) if request.path == CONTROL_PATH else routes.answer(account, request)
        except Refusal as refusal:
            answer = _refused(account, refusal, request.request_id)
        with account.lock:
            account.answers[str(answer.status)] += request.path != CONTROL_PATH
        self._send(answer, request.request_id)

    do_POST = do_DELETE = do_GET

    def _send(self, answer: Answer, request_id: str) -> None:
        if answer.delivery == "never":
            self._wait_for_end()
            self.close_connection = True
            return
        self.send_response(answer.status)
        self.send_header("Content-Type", answer.content_type)
        for name, value in ({"request-id": request_id} | answer.headers).items():
            self.send_header(name, value)
        if answer.delivery == "in_pieces":
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            for piece in answer.pieces:
                self.wfile.write(b"%x\r\n%b\r\n" % (len(piece), piece))
                self.wfile.flush()
            self.wfile.write(b"0\r\n\r\n")
        else:
            body = answer.body or b"".join(answer.pieces)
            self.send_header("Content-Length", str(max(len(body), 2) if answer.delivery == "cut" else len(body)))
            self.end_headers()
            self.wfile.write(body[: len(body) // 2] if answer.delivery == "cut" else body)
            self.close_connection = answer.delivery == "cut"
        self.wfile.flush()

    def _wait_for_end(self) -> None:
        """Wait until the caller goes away, the time is over, or the server stops."""
        until = time.monotonic() + self.server.account.rules.hang_seconds
        while not self.server.stopping.is_set() and (left := until - time.monotonic()) > 0:
            readable, _, _ = select.select([self.connection], [], [], min(left, 0.05))
            if readable:
                return

    def log_message(self, format: str, *args: Any) -> None:
        """Keep quiet."""


def _refused(account: Account, refusal: Refusal, request_id: str) -> Answer:
    after = account.rules.retry_after
    headers = {"Retry-After": str(after)} if after is not None and refusal.status in (429, 503) else {}
    return json_answer(refusal.body(account.rules.error_shape, request_id), refusal.status, headers)


def _controlled(account: Account, request: Request) -> Answer:
    """Answer the control endpoint: GET reports, POST changes rules and does what `verify_voice` asks."""
    if request.method == "POST":
        try:
            changes = request.json()
            if voice_id := changes.pop("verify_voice", None):
                account.voices[voice_id].is_verified = True
            if (used := changes.pop("credits_used", None)) is not None:
                account.used = int(used)
            account.change(changes)
        except (ValidationError, KeyError) as error:
            return json_answer({"error": str(error)}, 400)
    return json_answer(account.report() | {"rules": json.loads(account.rules.model_dump_json())})


class StandIn(Control):
    """A running stand-in. As a context manager it runs for as long as the block lasts.

        with StandIn(limits={"standard": 5}, faults=["system_busy", None, "hang"]) as standin:
            client = ElevenLabs(api_key=standin.api_key, base_url=standin.url)

    Keywords are the fields of `Rules`. `report()` and `change()` are those of `Control`; `account` is the state itself.
    """

    def __init__(self, port: int = 0, **rules: Any) -> None:
        self.account = Account(Rules.model_validate(rules))
        self._server = _Server(self.account, port)
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        super().__init__(f"http://{LOOPBACK}:{self._server.server_port}", self.account.rules.api_key)

    def __enter__(self) -> StandIn:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        """Stop serving: hanging calls and open connections end."""
        self._server.stopping.set()
        self._server.shutdown()
        self._server.server_close()
        for connection in list(self._server.open):
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        self._thread.join()
