"""Deliver the webhooks that are due: at least once, and no bad receiver in the way of a good one."""

from __future__ import annotations

from collections import Counter, deque
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from datetime import datetime, timedelta

from avatar_pipeline.callbacks.backoff import chance_of, next_wait, retry_after
from avatar_pipeline.callbacks.guard import CallbackRefused, ReceiverUnreachable
from avatar_pipeline.callbacks.post import TOTAL_SECONDS, Answer, GuardedPost, Post
from avatar_pipeline.callbacks.signing import Signer, message_id
from avatar_pipeline.clock import Clock, utc_now
from avatar_pipeline.ledger.callbacks import Callback, CallbackBook
from avatar_pipeline.settings import Settings

THREADS = 8
PER_HOST = 4
"""Posts to one host at once, when it has shown that it answers; before that, one."""
LEASE_BEYOND = timedelta(seconds=60)
"""Name resolution has no time limit of its own that we could set: the lease outlives the slowest."""
HOST_PAUSE = timedelta(seconds=30)
"""How long the other callbacks of a host wait that could not be reached."""
_GONE = 410
_TOO_MUCH = {429, 503}


@dataclass(frozen=True, slots=True)
class Delivered:
    """What one tick did. `put_back` were taken and not posted: no time was left, or their host was not there."""

    delivered: int = 0
    retried: int = 0
    abandoned: int = 0
    put_back: int = 0
    off: bool = False

    def __str__(self) -> str:
        if self.off:
            return "Callbacks are off (AVATAR_CALLBACKS)."
        text = f"{self.delivered} delivered, {self.retried} to be tried again, {self.abandoned} abandoned"
        return f"{text}, {self.put_back} put back." if self.put_back else f"{text}."


def deliver_due(
    book: CallbackBook,
    settings: Settings,
    *,
    clock: Clock = utc_now,
    limit: int = 50,
    budget: timedelta = timedelta(seconds=20),
    post: Post | None = None,
) -> Delivered:
    """Post up to `limit` due callbacks and write down what became of each.

    No post is begun that could last beyond `budget`. A receiver that fails in any way costs the others nothing but a
    thread for a while. Killed at any point, it leaves callbacks that are due again when their lease is over; a
    receiver may then see one twice, with the same webhook-id.

    Raises:
        EnvironmentProblem: callbacks are on and there is no secret to sign them with.
        InvalidSettings: the secret cannot be used.
    """
    if not settings.callbacks:
        return Delivered(off=True)
    signer = Signer(settings)
    began = clock()
    taken = book.take_due(limit, budget + LEASE_BEYOND)
    if not taken:
        return Delivered()
    post = post or GuardedPost(private=settings.callback_private_addresses)
    last_start = began + max(budget - timedelta(seconds=TOTAL_SECONDS), timedelta(0))
    return _Tick(book, signer, clock, post, taken).run(last_start)


class _Tick:
    """The callbacks of one call, in a line for each host."""

    def __init__(self, book: CallbackBook, signer: Signer, clock: Clock, post: Post, taken: list[Callback]) -> None:
        self._book, self._signer, self._clock, self._post = book, signer, clock, post
        self._lines: dict[str, deque[Callback]] = {}
        for callback in taken:
            self._lines.setdefault(callback.host, deque()).append(callback)
        self._answering: set[str] = set()
        self._at_work: dict[Future[Answer], Callback] = {}
        self._counts: Counter[str] = Counter()

    def run(self, last_start: datetime) -> Delivered:
        """Post until all is done or `last_start` has passed."""
        with ThreadPoolExecutor(THREADS, thread_name_prefix="callback") as pool:
            while True:
                if self._clock() <= last_start:
                    self._begin(pool)
                if not self._at_work:
                    break
                for ended in wait(self._at_work, return_when=FIRST_COMPLETED).done:
                    self._settle(self._at_work.pop(ended), ended)
        for line in self._lines.values():
            self._put_back(line, self._clock(), None)
        counts = self._counts
        return Delivered(counts["delivered"], counts["retried"], counts["abandoned"], counts["put_back"])

    def _begin(self, pool: ThreadPoolExecutor) -> None:
        """Give free threads work, in turn to each host that may have more."""
        begun = True
        while begun:
            begun = False
            busy = Counter(callback.host for callback in self._at_work.values())
            for host, line in self._lines.items():
                allowed = PER_HOST if host in self._answering else 1
                if line and busy[host] < allowed and len(self._at_work) < THREADS:
                    callback = line.popleft()
                    self._at_work[pool.submit(self._send, callback)] = callback
                    begun = True

    def _send(self, callback: Callback) -> Answer:
        headers = {
            "Content-Type": "application/json",
            "User-Agent": "avatar-pipeline",
            **self._signer.headers(message_id(callback), callback.body, self._clock()),
        }
        return self._post(callback.url, callback.body.encode(), headers)

    def _settle(self, callback: Callback, ended: Future[Answer]) -> None:
        """Write down what became of a post."""
        try:
            answer = ended.result()
        except CallbackRefused as error:
            self._abandon(callback, error.message)
            return
        except ReceiverUnreachable as error:
            self._retry(callback, error.message, None)
            if not error.connected:
                # Not for an answer that did not come in time: that may be this URL's fault, on a host that many share.
                self._put_back(self._lines[callback.host], self._clock() + HOST_PAUSE, error.message)
            return
        (self._answering.discard if answer.status in _TOO_MUCH else self._answering.add)(callback.host)
        if answer.accepted:
            self._counts["delivered"] += self._book.delivered(callback.id)
        elif answer.status == _GONE:
            self._abandon(callback, "The receiver answered 410 Gone.")
        else:
            asked = retry_after(answer.retry_after, self._clock())
            self._retry(callback, f"The receiver answered {answer.status}.", asked)

    def _retry(self, callback: Callback, error: str, asked: timedelta | None) -> None:
        failures = callback.attempts + 1
        pause = next_wait(failures, chance_of(callback.id, failures), asked)
        if pause is None:
            self._abandon(callback, f"{error} Given up after {failures} attempts.")
        else:
            self._counts["retried"] += self._book.retry(callback, error, self._clock() + pause)

    def _abandon(self, callback: Callback, error: str) -> None:
        self._counts["abandoned"] += self._book.abandon(callback.id, error)

    def _put_back(self, line: deque[Callback], at: datetime, note: str | None) -> None:
        while line:
            self._counts["put_back"] += self._book.put_back(line.popleft(), at, note)
