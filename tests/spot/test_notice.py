"""The metadata service of EC2: asked as its documentation says, by HTTP, and never more than it can bear."""

from __future__ import annotations

import http.client
import json
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from hypothesis import given
from hypothesis import strategies as st

from avatar_pipeline.errors import InvalidInput
from avatar_pipeline.spot.notice import (
    ACTION_PATH,
    REBALANCE_PATH,
    SESSION_PATH,
    Ec2Metadata,
    Inquiry,
    Notice,
    NoticeKind,
    parse_action,
    parse_rebalance,
)
from tests.spot.telling import NOW

ACTION = b'{"action": "terminate", "time": "2026-11-24T12:02:00Z"}'
REBALANCE = b'{"noticeTime": "2026-11-24T11:59:58Z"}'


@dataclass
class Service:
    """The metadata service of an instance, version 2 only. `pages` is what it has to say."""

    pages: dict[str, bytes] = field(default_factory=dict)
    token: str = "token-1"
    asked: list[tuple[str, str]] = field(default_factory=list)
    redirect: str | None = None

    def answer(self, method: str, path: str, headers: dict[str, str]) -> tuple[int, bytes]:
        self.asked.append((method, path))
        if method == "PUT" and path == SESSION_PATH:
            asked_for = headers.get("x-aws-ec2-metadata-token-ttl-seconds")
            return (200, self.token.encode()) if asked_for == "21600" else (400, b"")
        if headers.get("x-aws-ec2-metadata-token") != self.token:
            return 401, b""
        return (200, self.pages[path]) if path in self.pages else (404, b"<html>not found</html>")

    def ask(self, method: str, path: str, headers: dict[str, str]) -> tuple[int, bytes]:
        return self.answer(method, path, {name.lower(): value for name, value in headers.items()})


def nobody(method: str, path: str, headers: dict[str, str]) -> tuple[int, bytes]:
    raise ConnectionRefusedError


@pytest.fixture
def served() -> Iterator[tuple[Service, str]]:
    """The service over HTTP on this machine, and its URL."""
    service = Service()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            headers = {name.lower(): value for name, value in self.headers.items()}
            status, body = service.answer(self.command, self.path, headers)
            self.send_response(status if service.redirect is None else 302)
            if service.redirect is not None:
                self.send_header("Location", service.redirect)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_PUT = do_GET

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    yield service, f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    server.server_close()


def until(happened: Callable[[], object]) -> None:
    end = time.monotonic() + 5
    while not happened():
        assert time.monotonic() < end, "it never happened"
        time.sleep(0.005)


def test_a_notice_that_comes_while_the_work_runs_is_told_once_over_http(
    served: tuple[Service, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    service, url = served
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")  # whoever goes there is lost
    told: list[Notice] = []
    with Ec2Metadata(url, interval_seconds=0.01, clock=lambda: NOW).watch(told.append):
        until(lambda: service.asked.count(("GET", ACTION_PATH)) >= 2)
        assert told == []
        service.pages[REBALANCE_PATH] = REBALANCE
        until(lambda: told)
        service.pages[ACTION_PATH] = ACTION
        until(lambda: len(told) > 1)
    assert [notice.kind for notice in told] == [NoticeKind.REBALANCE, NoticeKind.INTERRUPTION]
    assert told[1].taken_at == datetime(2026, 11, 24, 12, 2, tzinfo=UTC)
    assert told[1].received_at == NOW
    assert service.asked.count(("PUT", SESSION_PATH)) == 1


def test_a_redirect_is_not_followed(served: tuple[Service, str]) -> None:
    service, url = served
    service.redirect = f"{url}/elsewhere"
    told: list[Notice] = []
    with Ec2Metadata(url, interval_seconds=0.01).watch(told.append):
        until(lambda: len(service.asked) >= 3)
    assert told == [] and {path for _, path in service.asked} == {SESSION_PATH}


def test_one_that_accepts_and_says_nothing_holds_nobody_up() -> None:
    import socket

    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        began = time.monotonic()
        with Ec2Metadata(url, interval_seconds=0.01, timeout_seconds=0.05).watch(lambda _: None):
            pass
        assert time.monotonic() - began < 1


@pytest.mark.parametrize(
    "url",
    [
        "http://metadata.example.com",
        "http://10.0.0.1",
        "https://169.254.169.254",
        "http://8.8.8.8",
        "file:///etc/passwd",
        "http://127.0.0.1:port",
        "",
    ],
)
def test_only_an_address_on_this_link_is_asked(url: str) -> None:
    with pytest.raises(InvalidInput, match="metadata service"):
        Ec2Metadata(url)


@pytest.mark.parametrize("url", ["http://169.254.169.254", "http://[fd00:ec2::254]", "http://127.0.0.1:1338"])
def test_where_the_service_and_its_emulators_are_may_be_asked(url: str) -> None:
    Ec2Metadata(url)


def test_where_nobody_answers_it_is_given_up_for_good() -> None:
    inquiry = Inquiry(nobody, lambda: NOW)
    rounds = 0
    while not inquiry.over:
        assert inquiry.ask() == []
        rounds += 1
    assert rounds == 3


def test_where_it_has_answered_once_an_outage_is_waited_out() -> None:
    service, silent = Service(), False

    def ask(method: str, path: str, headers: dict[str, str]) -> tuple[int, bytes]:
        if silent:
            raise http.client.RemoteDisconnected("nobody")
        return service.ask(method, path, headers)

    inquiry = Inquiry(ask, lambda: NOW)
    assert inquiry.ask() == []
    silent = True
    assert [inquiry.ask() for _ in range(20)] == [[]] * 20
    silent = False
    service.pages[ACTION_PATH] = ACTION
    assert [notice.kind for notice in inquiry.ask()] == [NoticeKind.INTERRUPTION]
    assert inquiry.over, "there is nothing more to know"


def test_a_token_that_ran_out_is_renewed() -> None:
    service = Service()
    inquiry = Inquiry(service.ask, lambda: NOW)
    inquiry.ask()
    service.token = "token-2"
    service.pages[ACTION_PATH] = ACTION
    assert inquiry.ask() == [], "this question finds out"
    assert len(inquiry.ask()) == 1


def test_a_recommendation_is_told_once_and_asked_for_no_more() -> None:
    service = Service({REBALANCE_PATH: REBALANCE})
    inquiry = Inquiry(service.ask, lambda: NOW)
    assert [len(inquiry.ask()) for _ in range(3)] == [1, 0, 0]
    assert service.asked.count(("GET", REBALANCE_PATH)) == 1
    assert not inquiry.over


@pytest.mark.parametrize("body", [b"<html>Sign in to this network</html>", b"[]", b'{"action": "none"}', b"\xff"])
def test_an_answer_that_is_no_notice_is_none(body: bytes) -> None:
    service = Service({ACTION_PATH: body})
    inquiry = Inquiry(service.ask, lambda: NOW)
    assert inquiry.ask() == []


@pytest.mark.parametrize("action", ["terminate", "stop", "hibernate"])
def test_that_the_machine_goes_counts_also_where_its_time_cannot_be_read(action: str) -> None:
    notice = parse_action(json.dumps({"action": action, "time": "soon"}).encode(), NOW)
    assert notice.certain and notice.taken_at is None and action in notice.detail


VALUES = st.none() | st.integers() | st.text() | st.lists(st.text()) | st.sampled_from(["terminate", "stop"])
TOLD = st.dictionaries(st.sampled_from(["action", "time", "noticeTime", "more"]), VALUES)


@given(st.binary() | TOLD.map(lambda told: json.dumps(told).encode()))
def test_any_bytes_are_a_notice_or_refused(body: bytes) -> None:
    for parse in (parse_action, parse_rebalance):
        try:
            notice = parse(body, NOW)
        except ValueError:
            continue
        assert b"action" in body if notice.certain else b"noticeTime" in body
