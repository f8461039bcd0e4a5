"""Who is next: start-time fair queueing over tenants, and how large a batch may be. No database in here.

Start-time fair queueing (P. Goyal, H. M. Vin, H. Cheng: Start-time Fair Queuing, ACM SIGCOMM 1996,
https://doi.org/10.1145/248156.248171): a flow's next request has the start tag S = max(V, F), where F is the finish tag
S + cost / weight of the flow's request before it, and V, the virtual time, is the start tag of the request served
last. The least start tag is served first. Between any two flows that have work waiting, the service that each had per
weight differs by no more than the largest service in one turn of each, per weight, whatever the server's speed.

Two things are our own:

- **Tags are worked out when a batch is formed, not when a request arrives.** Between two batches V does not move, and a
  flow that has work waiting is never behind V, so max(V, F) is the same then. But a flow whose requests could not be
  served for a while (their avatar was not ready, or they were held) has no stock of old, small tags with which it would
  then go before everybody else; and which of its requests a flow spends its turn on is its own affair.
- **A turn is more than one request.** With a flow's oldest request come others of the same flow and the same avatar,
  for they share a loaded mesh and texture, and F is charged for all of them. V goes by the oldest, the head, alone:
  with the tags of its company V would run ahead of flows that wait with smaller ones, and a tenant that comes new, and
  starts at V, would be served after them. So the largest service in one turn, in the bound above, is a batch.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Waiting:
    """A request that may be served. `cost` is in characters; one character is as good a unit of work as any."""

    request_id: str
    tenant: str
    avatar_id: str
    cost: int


@dataclass(frozen=True, slots=True)
class Flow:
    """A tenant with work waiting: where its service so far ends in virtual time, and the position of its oldest."""

    tenant: str
    finish: float
    oldest: int


@dataclass(frozen=True, slots=True)
class Choice:
    """What is served, in order, each with its start tag; virtual time after it, and where the served flows now end."""

    served: list[tuple[Waiting, float]]
    clock: float
    finishes: dict[str, float]


def cost_of(text: str) -> int:
    """Return what a request takes of its tenant's share: its characters, for speech and frames go by them."""
    return max(1, len(text))


def turn(flow: Flow, clock: float) -> tuple[float, float, int]:
    """Return what the flows go by: the start tag; where it is the same, who had less before; then who waits longer."""
    return max(clock, flow.finish), flow.finish, flow.oldest


def everything(waiting: Waiting) -> bool:
    """Accept whatever is next."""
    return True


def choose(
    flows: Iterable[Flow],
    clock: float,
    room: int,
    weights: Mapping[str, float],
    *,
    of_flow: Callable[[str], Iterable[Waiting]],
    company: Callable[[Waiting], Sequence[Waiting]],
    accept: Callable[[Waiting], bool] = everything,
) -> Choice:
    """Choose up to `room` requests of one priority.

    Args:
        flows: tenants with work waiting.
        clock: virtual time V.
        room: most requests.
        weights: a tenant's share beside the others'; 1 where it is not named.
        of_flow: a tenant's requests, oldest first, at least the first `room` of them.
        company: the requests of a request's tenant and avatar, oldest first, itself among them, at least the first
            `room`.
        accept: asked once of each that would be next. One that is refused is not served, and costs its flow nothing.
    """
    turns = [(turn(flow, clock), flow.tenant) for flow in flows]
    starts = {tenant: start for (start, _, _), tenant in turns}
    heapq.heapify(turns)
    served: dict[str, tuple[Waiting, float]] = {}
    seen: set[str] = set()
    finishes: dict[str, float] = {}
    while turns and len(served) < room:
        (start, finish, oldest), tenant = heapq.heappop(turns)
        head = next((waiting for waiting in of_flow(tenant) if waiting.request_id not in seen), None)
        if head is None:
            continue
        before = len(served)
        for waiting in (head, *company(head)):
            if waiting.request_id not in seen and len(served) < room:
                seen.add(waiting.request_id)
                if accept(waiting):
                    served[waiting.request_id] = waiting, starts[tenant]
                    starts[tenant] += waiting.cost / weights.get(tenant, 1.0)
        if len(served) == before:
            heapq.heappush(turns, ((start, finish, oldest), tenant))
            continue
        clock = start
        finishes[tenant] = starts[tenant]
        heapq.heappush(turns, ((starts[tenant], starts[tenant], oldest), tenant))
    return Choice(list(served.values()), clock, finishes)


def room_for(limit: int, remaining: Iterable[int]) -> int:
    """Return how many requests a new batch may have: `limit`, or half of it so that batches do not end together.

    A batch is served whole, so whoever comes next waits until one of the batches at work ends. Were all of them begun
    together, that is a whole batch. If none of the others ends within half a batch from now, this one takes half, and
    does. After that the batches are out of step, and all are full again; so after any claim, with two batches or more
    at work, one of them ends within half of `limit`, at the cost of a smaller batch now and then. A batch that has no
    other beside it takes all: who comes next goes to the worker that is free.

    Args:
        limit: most requests of a batch.
        remaining: of each other batch at work, how many of its requests are not finished.
    """
    others = [left for left in remaining if left > 0]
    half = -(-limit // 2)
    return limit if not others or min(others) <= half else half
