"""The gate in front of billed calls: no more in flight over all workers than the provider allows."""

from __future__ import annotations

import logging
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import Any

from avatar_pipeline.clock import Clock
from avatar_pipeline.voice.elevenlabs.backoff import Refusals, lowered, raised
from avatar_pipeline.voice.elevenlabs.ports import NAME, LeaseBook, Pause

LEASE_SECONDS = 30.0
"""A worker that dies gives its place back after so long; one that lives extends it three times as often."""
LOOK_SECONDS = 0.02
"""How often a place is asked for while all are taken. One thread of a process asks; places that another thread of the
same process gives back are taken at once."""
PASSED_ON_SECONDS = 5.0
"""For so long a lease may go from one thread to the next without going through the ledger. Then other workers get their
chance, and limits that became lower and pauses are seen."""
_ANY = 1_000_000

_LOG = logging.getLogger(__name__)


class Shut(Exception):
    """The gate lets nobody through: the group is paused, or (None) this batch was closed."""

    def __init__(self, pause: Pause | None) -> None:
        super().__init__("shut")
        self.pause = pause


class Gate:
    """Leases of the ledger, taken and given back around calls, and kept alive by one thread while any is held.

    `start` is how many calls may be in flight until the provider has said how many it allows.
    """

    def __init__(self, leases: LeaseBook, *, start: int, holder: str, clock: Clock) -> None:
        self._leases = leases
        self._start = start
        self._holder = holder
        self._clock = clock
        self._turn: dict[str, threading.Lock] = defaultdict(threading.Lock)
        self._given_back = threading.Event()
        self._lock = threading.Lock()
        self._held: dict[int, Any] = {}
        self._keeper: threading.Thread | None = None
        self._never = threading.Event()
        self._known: set[str] = set()
        self._waiting: set[str] = set()
        self._passed: dict[str, Any] = {}
        self._taken: dict[int, float] = {}
        self._refusals: dict[str, Refusals] = defaultdict(Refusals)

    def limit(self, group: str) -> int:
        """Return how many calls to a group may be in flight now."""
        return self._leases.limit(NAME, group) or self._start

    @contextmanager
    def place(
        self, group: str, closed: Callable[[], bool], *, first: Callable[[], None] | None = None
    ) -> Iterator[None]:
        """Wait for a place, and hold it for as long as the block runs.

        `first` is done when it is this thread's turn to ask for a place: many threads that write into the ledger at
        once would keep those waiting that have something to give back.

        Raises:
            Shut: the group is paused, or `closed` became true.
        """
        with self._turn[group]:
            if closed():
                raise Shut(None)
            if first is not None:
                first()
            lease = self._wait(group, closed)
        try:
            if closed():
                raise Shut(None)
            with self._kept(lease):
                yield
        finally:
            self._give_back(group, lease)

    @contextmanager
    def using(self, voice_key: str) -> Iterator[None]:
        """Say for as long as the block runs that a voice is in use, so that nobody parks it."""
        lease = self._leases.acquire(NAME, use_group(voice_key), limit=_ANY, seconds=LEASE_SECONDS, holder=self._holder)
        try:
            with self._kept(lease):
                yield
        finally:
            if lease is not None:
                self._return(lease)

    @contextmanager
    def alone(self, name: str) -> Iterator[bool]:
        """Do something that only one worker may do at a time; gives false if another does it now."""
        lease = self._leases.acquire(NAME, name, limit=1, seconds=LEASE_SECONDS, holder=self._holder)
        if lease is None:
            yield False
            return
        try:
            with self._kept(lease):
                yield True
        finally:
            self._return(lease)

    def in_use(self, voice_key: str) -> bool:
        """Whether any worker uses the voice now."""
        return self._leases.in_flight(NAME, use_group(voice_key)) > 0

    def answered(self, group: str, maximum: int | None, *, refused: bool = False) -> None:
        """Learn from an answer how many calls are allowed: `maximum` is what its header says."""
        with self._lock:
            now = self._clock()
            before = self._refusals[group]
            if refused:
                self._refusals[group] = before.another(now)
                if self._refusals[group] is before:
                    return
            # Asked each time: other workers learn too.
            known = self._leases.limit(NAME, group)
            learnt = known or self._start
            limit = lowered(learnt, maximum) if refused else raised(learnt, maximum, before, now)
        if limit != known:
            self._leases.learn_limit(NAME, group, limit)

    def pause(self, group: str, until: datetime, reason: str) -> None:
        """Send nothing to a group until then."""
        self._leases.pause(NAME, group, until, reason)

    def _wait(self, group: str, closed: Callable[[], bool]) -> Any:
        with self._lock:
            self._waiting.add(group)
        lease = None
        try:
            while lease is None:
                self._given_back.clear()
                lease = self._passed_on(group) or self._acquire(group)
                if lease is None:
                    pause = self._leases.paused(NAME, group)
                    if pause is not None or closed():
                        raise Shut(pause)
                    self._given_back.wait(LOOK_SECONDS)
            return lease
        finally:
            with self._lock:
                self._waiting.discard(group)
            # One may have been passed on while another was acquired.
            spare = self._passed_on(group)
            if spare is not None:
                self._release(spare)

    def _acquire(self, group: str) -> Any:
        limit = _ANY if self._knows(group) else self._start
        lease = self._leases.acquire(NAME, group, limit=limit, seconds=LEASE_SECONDS, holder=self._holder)
        if lease is not None:
            with self._lock:
                self._taken[id(lease)] = time.monotonic()
        return lease

    def _passed_on(self, group: str) -> Any:
        with self._lock:
            return self._passed.pop(group, None)

    def _give_back(self, group: str, lease: Any) -> None:
        """Pass a lease on to the thread whose turn it is, or release it."""
        with self._lock:
            age = time.monotonic() - self._taken[id(lease)]
            wanted = group in self._waiting and group not in self._passed
            passes = wanted and age < PASSED_ON_SECONDS and not self._refusals[group].holds(self._clock())
            if passes:
                self._passed[group] = lease
        if not passes:
            self._release(lease)
        self._given_back.set()

    def _release(self, lease: Any) -> None:
        with self._lock:
            del self._taken[id(lease)]
        self._return(lease)

    def _return(self, lease: Any) -> None:
        try:
            self._leases.release(lease)
        except Exception:
            # Raised here it would take the place of what the call brought, which is paid for.
            _LOG.warning("a lease could not be given back; it runs out by itself", exc_info=True)

    def _knows(self, group: str) -> bool:
        """Whether a limit was learnt, by any worker: then that one holds, and not what we started with."""
        if group not in self._known and self._leases.limit(NAME, group) is not None:
            self._known.add(group)
        return group in self._known

    @contextmanager
    def _kept(self, lease: Any) -> Iterator[None]:
        """Extend a lease for as long as the block runs."""
        if lease is None:
            yield
            return
        with self._lock:
            self._held[id(lease)] = lease
            if self._keeper is None:
                self._keeper = threading.Thread(target=self._keep, daemon=True)
                self._keeper.start()
        try:
            yield
        finally:
            with self._lock:
                del self._held[id(lease)]

    def _keep(self) -> None:
        """Extend what is held, until nothing was for a while."""
        while True:
            self._never.wait(LEASE_SECONDS / 3)
            with self._lock:
                held = list(self._held.values())
                if not held:
                    self._keeper = None
                    return
            for lease in held:
                try:
                    self._leases.extend(lease, LEASE_SECONDS)
                except Exception:
                    # The database may be back at the next turn; the lease lasts that long.
                    _LOG.warning("a lease could not be extended", exc_info=True)


def use_group(voice_key: str) -> str:
    """Return the group of leases that say that a voice is in use."""
    return f"voice:{voice_key}"
