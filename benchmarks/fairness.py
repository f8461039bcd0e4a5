"""How long a tenant waits behind another's backlog, compared with having the pipeline to itself.

    python -m benchmarks.fairness [--moments 12]

Tenant A has 2,000 clips queued; tenant B comes later with 10. Simulated with the ledger's own request book on SQLite:
workers claim batches as they come free, and make the clips of a batch one after the other, a second each. Nothing else
takes time. B comes at a number of seeded random moments, and at the worst one: just after a claim. What is printed is
the 95th percentile (nearest rank) of B's waits, from arrival to its own clip, divided by what it is without A.
"""

from __future__ import annotations

import argparse
import heapq
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta

from rich.console import Console
from rich.table import Table

from avatar_pipeline.consent import ConsentRecord
from avatar_pipeline.ledger.ledger import Ledger
from avatar_pipeline.ledger.messages import ClipRequest
from avatar_pipeline.ledger.report import nearest_rank
from avatar_pipeline.ledger.requests import Arrival, RequestBook

START = datetime(2026, 3, 1, tzinfo=UTC)
TEXT = "Welcome back. Here is what is new today."


@dataclass(frozen=True)
class Burst:
    """Clips that a tenant sends at once, `at` seconds from the start, over so many avatars of its own."""

    tenant: str
    clips: int
    at: float = 0.0
    avatars: int = 1
    priority: int = 0


@dataclass
class Simulation:
    """A ledger in memory, a clock that is set by hand, and workers that take a second a clip."""

    workers: int
    batch_size: int
    weights: Mapping[str, float] = field(default_factory=dict)
    claims: list[float] = field(default_factory=list)
    """When batches were claimed, in seconds, in the last run."""

    def waits(self, bursts: Sequence[Burst], of: str) -> list[float]:
        """Return how long each clip of tenant `of` took, from arrival to done, in seconds; run until all are done."""
        self._now = 0.0
        self.claims = []
        ledger = Ledger("sqlite://", clock=self._clock)
        try:
            self._book = RequestBook(ledger.engine, clock=self._clock, weights=self.weights)
            _register(ledger, bursts)
            return self._run(sorted(bursts, key=lambda burst: burst.at), of)
        finally:
            ledger.close()

    def _clock(self) -> datetime:
        return START + timedelta(seconds=self._now)

    def _run(self, bursts: Sequence[Burst], of: str) -> list[float]:
        sent: dict[str, float] = {}
        waits: list[float] = []
        wanted = sum(burst.clips for burst in bursts if burst.tenant == of)
        # What happens next: (when, in which order at one time, worker or None for arrivals, what is left of its batch).
        arrivals = [(burst.at, 0, number) for number, burst in enumerate(bursts)]
        at_work: list[tuple[float, int, list[ClipRequest]]] = []
        free = set(range(self.workers))
        while len(waits) < wanted:
            next_arrival = arrivals[0][0] if arrivals else float("inf")
            next_clip = at_work[0][0] if at_work else float("inf")
            self._now = min(next_arrival, next_clip)
            while arrivals and arrivals[0][0] == self._now:
                requests = _requests(bursts[arrivals.pop(0)[2]])
                self._book.take_in([Arrival(request, self._clock()) for request in requests])
                sent |= {request.request_id: self._now for request in requests}
            while at_work and at_work[0][0] == self._now:
                _, worker, batch = heapq.heappop(at_work)
                made = batch.pop(0)
                self._book.finish(made.request_id, clip_key="key")
                if made.tenant == of:
                    waits.append(self._now - sent[made.request_id])
                self._go_on(worker, batch, at_work, free)
            for worker in sorted(free):
                batch = self._book.claim(f"batch-{len(self.claims)}", self.batch_size)
                if not batch:
                    break
                self.claims.append(self._now)
                free.remove(worker)
                self._go_on(worker, batch, at_work, free)
        return waits

    def _go_on(
        self, worker: int, batch: list[ClipRequest], at_work: list[tuple[float, int, list[ClipRequest]]], free: set[int]
    ) -> None:
        if not batch:
            free.add(worker)
            return
        self._book.begin(batch[0].request_id, max_attempts=1)
        heapq.heappush(at_work, (self._now + 1.0, worker, batch))


def ratio(simulation: Simulation, others: Sequence[Burst], burst: Burst) -> float:
    """Return B's 95th percentile beside the others, divided by the same alone."""
    # Alone, it is the same at any moment.
    alone = nearest_rank(sorted(simulation.waits([replace(burst, at=0.0)], burst.tenant)), 95)
    beside = nearest_rank(sorted(simulation.waits([*others, burst], burst.tenant)), 95)
    return beside / alone


def _requests(burst: Burst) -> list[ClipRequest]:
    return [
        ClipRequest(
            request_id=f"{burst.tenant}-{round(burst.at * 1000)}-{number}",
            avatar_id=f"{burst.tenant}-{number % burst.avatars}",
            tenant=burst.tenant,
            text=TEXT,
            priority=burst.priority,
        )
        for number in range(burst.clips)
    ]


def _register(ledger: Ledger, bursts: Sequence[Burst]) -> None:
    consent = ConsentRecord(
        consent_id="consent",
        subject="A person",
        statement="I agree that my likeness and voice are used.",
        statement_version="1",
        scope=frozenset({"likeness", "voice"}),
        given_at=START,
    )
    for avatar_id in sorted({f"{burst.tenant}-{number}" for burst in bursts for number in range(burst.avatars)}):
        ledger.register_avatar(
            avatar_id, voice="enrol:en", greeting="Hello.", upload_key="key", source_name="a.mp4", consent=consent
        )
        ledger.set_avatar_state(avatar_id, "ready")


def main() -> None:
    """Simulate and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--moments", type=int, default=12)
    arguments = parser.parse_args()
    table = Table("workers", "batch", title="B's p95 wait behind 2,000 of A's, divided by alone")
    for title in ("mean", "worst moment", "B over 10 avatars", "behind 4 tenants", "A weighs 4"):
        table.add_column(title, justify="right")
    for workers in (1, 2, 4):
        for batch_size in (5, 10, 20, 40):
            table.add_row(str(workers), str(batch_size), *_row(workers, batch_size, arguments.moments))
    Console().print(table)


def _row(workers: int, batch_size: int, moments: int) -> list[str]:
    plain = Simulation(workers, batch_size)
    heavy = Simulation(workers, batch_size, {"large": 4.0})
    backlog = [Burst("large", 2000)]
    four = [Burst(f"large-{number}", 500) for number in range(4)]
    chance = random.Random(0)
    when = [chance.uniform(0.0, 3.0 * batch_size) for _ in range(moments)]
    # The worst moments are those after which all who could take B in have just begun.
    plain.waits([*backlog, Burst("small", 1, at=3.0 * batch_size)], "small")
    after = sorted({claim + 0.001 for claim in plain.claims if claim <= 3.0 * batch_size})
    columns = [
        [ratio(plain, backlog, Burst("small", 10, at=moment)) for moment in when],
        [ratio(plain, backlog, Burst("small", 10, at=moment)) for moment in after],
        [ratio(plain, backlog, Burst("small", 10, at=moment, avatars=10)) for moment in when],
        # After each of them has had a turn; until then, all of them came before B and had nothing yet.
        [ratio(plain, four, Burst("small", 10, at=moment + 4.0 * batch_size)) for moment in when],
        [ratio(heavy, backlog, Burst("small", 10, at=moment)) for moment in when],
    ]
    means = [sum(column) / len(column) for column in columns]
    means[1] = max(columns[1])
    return [f"{value:.2f}" for value in means]


if __name__ == "__main__":
    main()
