"""The states of a request, and which may follow which."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from types import MappingProxyType
from typing import Any

from avatar_pipeline.ledger.records import RequestState

TRANSITIONS: Mapping[RequestState, frozenset[RequestState]] = MappingProxyType(
    {
        "queued": frozenset({"claimed", "running", "held", "failed"}),
        "claimed": frozenset({"running", "held", "done", "failed"}),
        "running": frozenset({"running", "held", "done", "failed"}),
        "held": frozenset({"queued", "claimed", "failed"}),
        "done": frozenset(),
        "failed": frozenset(),
    }
)
"""What a request may become. Running again is another attempt. Held goes back to where it was: to its batch if it has
one, else to all that wait. A clip may be found done in the store before it is begun."""

FINAL: frozenset[RequestState] = frozenset(state for state, following in TRANSITIONS.items() if not following)

_STAMPS: Mapping[RequestState, str] = MappingProxyType(
    {"claimed": "claimed_at", "held": "held_at", "done": "finished_at", "failed": "finished_at"}
)


def before(state: RequestState) -> tuple[RequestState, ...]:
    """Return the states from which a request may come into `state`."""
    return tuple(sorted(origin for origin, following in TRANSITIONS.items() if state in following))


def stamp(state: RequestState, now: datetime) -> dict[str, Any]:
    """Return the columns that change with a state: the state itself, and when it came into it."""
    name = _STAMPS.get(state)
    return {"state": state} | ({name: now} if name else {})
