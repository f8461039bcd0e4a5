"""How a machine learns that it will be taken away: the notices of Amazon EC2, asked of the instance's metadata service.

On Kubernetes a node's end comes as SIGTERM, which `guard.watching` hears by itself; the metadata service says it up to
two minutes earlier, and where nothing drains the node it is the only one that says it. It answers a container only if
the instance's hop limit for it is 2 or more (`httpPutResponseHopLimit`; Karpenter's default is 1). Where it does not
answer, nothing is lost but that head start.
"""

from __future__ import annotations

import http.client
import json
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from ipaddress import ip_address
from typing import Protocol
from urllib.parse import urlsplit

from avatar_pipeline.clock import Clock, utc_now
from avatar_pipeline.errors import InvalidInput

EC2_METADATA = "http://169.254.169.254"
SESSION_PATH = "/latest/api/token"
ACTION_PATH = "/latest/meta-data/spot/instance-action"
REBALANCE_PATH = "/latest/meta-data/events/recommendations/rebalance"

_SESSION_SECONDS = "21600"
_ACTIONS = ("terminate", "stop", "hibernate")
_MOST_FAILURES = 3
"""Failures in a row, before anything was ever answered, after which this is no EC2 instance."""
_LARGEST_ANSWER = 4096
_EC2_OVER_IPV6 = ip_address("fd00:ec2::254")


class NoticeKind(StrEnum):
    """What a notice says."""

    SIGNAL = "signal"
    """SIGTERM: the pod is to end, within its grace period."""
    INTERRUPTION = "interruption"
    """The spot instance is taken, in two minutes as a rule."""
    REBALANCE = "rebalance"
    """The spot instance is more likely than usual to be taken; it may be in a minute, in hours, or never."""


@dataclass(frozen=True, slots=True)
class Notice:
    """That the machine will be taken away, or may be. `taken_at` is when, where that was said."""

    kind: NoticeKind
    received_at: datetime
    detail: str
    taken_at: datetime | None = None

    @property
    def certain(self) -> bool:
        """Whether the machine will be taken, and not only may be."""
        return self.kind is not NoticeKind.REBALANCE


Tell = Callable[[Notice], None]


class NoticeSource(Protocol):
    """Somebody who knows before the machine does."""

    def watch(self, tell: Tell) -> AbstractContextManager[None]:
        """Call `tell`, from any thread, with each notice that comes while the block runs."""


Ask = Callable[[str, str, dict[str, str]], tuple[int, bytes]]
"""Sends (method, path, headers) and returns (status, body). Raises OSError or HTTPException where nobody answers."""


class Ec2Metadata:
    """The metadata service of Amazon EC2, version 2, asked every few seconds by a thread of its own.

    It gives up for good where nobody has answered three times: then this is no EC2 instance, or a container that is
    too many hops away. Once it has answered, it is asked until the machine's end is known.

    Args:
        base_url: where the service is. Link-local and loopback addresses only: whoever can name another host could
            stop work with it.
        interval_seconds: how often it is asked; AWS recommends 5 s.
        timeout_seconds: how long one call may wait for each part of its answer.
        clock: the time that notices are received at.
        ask: sends a request in place of HTTP.

    Raises:
        InvalidInput: `base_url` is not an HTTP address on this machine or its link.
    """

    def __init__(
        self,
        base_url: str = EC2_METADATA,
        *,
        interval_seconds: float = 5.0,
        timeout_seconds: float = 1.0,
        clock: Clock = utc_now,
        ask: Ask | None = None,
    ) -> None:
        self._ask = ask or _Http(base_url, timeout_seconds)
        self._interval = interval_seconds
        self._clock = clock

    @contextmanager
    def watch(self, tell: Tell) -> Iterator[None]:
        """Ask in the background while the block runs, and `tell` each notice once."""
        stop = threading.Event()
        inquiry = Inquiry(self._ask, self._clock)

        def poll() -> None:
            while not stop.is_set():
                for notice in inquiry.ask():
                    if not stop.is_set():
                        tell(notice)
                if inquiry.over:
                    return
                stop.wait(self._interval)

        threading.Thread(target=poll, name="ec2-notices", daemon=True).start()
        try:
            yield
        finally:
            # Not waited for: a call that nobody answers would hold up the end of the work.
            stop.set()


class Inquiry:
    """One course of questions to the metadata service: what was answered so far decides what is asked next."""

    def __init__(self, ask: Ask, clock: Clock) -> None:
        self._send = ask
        self._clock = clock
        self._token: str | None = None
        self._failures = 0
        self._ever_answered = False
        self._recommended = False
        self.over = False
        """Whether there is nothing more to ask: the end is known, or nobody answers here."""

    def ask(self) -> list[Notice]:
        """Ask once, and return the notices that are new."""
        try:
            notices = self._look()
        except (OSError, http.client.HTTPException, ValueError):
            self._failures += 1
            self._token = None
            self.over = not self._ever_answered and self._failures >= _MOST_FAILURES
            return []
        self._failures, self._ever_answered = 0, True
        return notices

    def _look(self) -> list[Notice]:
        now = self._clock()
        if (body := self._get(ACTION_PATH)) is not None:
            notice = parse_action(body, now)
            self.over = True
            return [notice]
        if not self._recommended and (body := self._get(REBALANCE_PATH)) is not None:
            notice = parse_rebalance(body, now)
            self._recommended = True
            return [notice]
        return []

    def _get(self, path: str) -> bytes | None:
        """Return what is at `path`, None where there is nothing."""
        if self._token is None:
            status, body = self._send("PUT", SESSION_PATH, {"X-aws-ec2-metadata-token-ttl-seconds": _SESSION_SECONDS})
            if status != 200:
                raise ValueError(f"the metadata service gives no token: status {status}")
            self._token = body.decode("ascii")
        status, body = self._send("GET", path, {"X-aws-ec2-metadata-token": self._token})
        if status == 404:
            return None
        if status != 200:
            # 401 among others, where the token has expired: the next question begins with a new one.
            raise ValueError(f"the metadata service answers {path} with status {status}")
        return body


def parse_action(body: bytes, now: datetime) -> Notice:
    """Read `spot/instance-action`: `{"action": "terminate", "time": "2017-09-18T08:22:00Z"}`.

    A time that cannot be read is left out: that the machine goes is what matters.

    Raises:
        ValueError: it is no such thing.
    """
    told = _object(body)
    action = told.get("action")
    if action not in _ACTIONS:
        raise ValueError(f"not an action of EC2: {action!r}")
    return Notice(NoticeKind.INTERRUPTION, now, f"EC2 will {action} this spot instance", _time(told.get("time")))


def parse_rebalance(body: bytes, now: datetime) -> Notice:
    """Read `events/recommendations/rebalance`: `{"noticeTime": "2020-10-27T08:22:00Z"}`.

    Raises:
        ValueError: it is no such thing.
    """
    if "noticeTime" not in _object(body):
        raise ValueError("not a rebalance recommendation of EC2")
    return Notice(NoticeKind.REBALANCE, now, "EC2 recommends to leave this spot instance")


def _object(body: bytes) -> dict[str, object]:
    try:
        told = json.loads(body)
    except RecursionError as error:
        raise ValueError("nested too deeply") from error
    if not isinstance(told, dict):
        raise ValueError("not a JSON object")
    return told


def _time(text: object) -> datetime | None:
    try:
        time = datetime.fromisoformat(str(text))
    except ValueError:
        return None
    return time if time.tzinfo else time.replace(tzinfo=UTC)


class _Http:
    """HTTP without what a client usually does beyond it: no proxy of the environment's, no redirect is followed."""

    def __init__(self, base_url: str, timeout_seconds: float) -> None:
        self._host, self._port, self._path = _near(base_url)
        self._timeout = timeout_seconds

    def __call__(self, method: str, path: str, headers: dict[str, str]) -> tuple[int, bytes]:
        connection = http.client.HTTPConnection(self._host, self._port, timeout=self._timeout)
        try:
            connection.request(method, self._path + path, headers=headers)
            response = connection.getresponse()
            return response.status, response.read(_LARGEST_ANSWER)
        finally:
            connection.close()


def _near(base_url: str) -> tuple[str, int, str]:
    """Return the host, port and path of an HTTP URL whose host is an address on this machine or its link."""
    try:
        url = urlsplit(base_url)
        address, port = ip_address(url.hostname or ""), url.port or 80
        if url.scheme != "http" or not (address.is_link_local or address.is_loopback or address == _EC2_OVER_IPV6):
            raise ValueError(base_url)
    except ValueError as error:
        raise InvalidInput(
            f"The metadata service cannot be at {base_url!r}.",
            remedy=f"Give an http:// URL with a link-local or loopback address, such as {EC2_METADATA}.",
        ) from error
    return str(address), port, url.path.rstrip("/")
