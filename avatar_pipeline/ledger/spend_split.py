"""How time becomes money: seconds by payer and quarter of an hour, and an exact price for each. Whole numbers only.

Seconds are counted in microseconds, money in millionths of a dollar. Both splits have the same two properties: the
parts sum to the whole, and they are the same however the whole was cut up before. So an attempt that was metered every
few seconds comes to exactly what it would come to in one settlement.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from functools import reduce
from math import gcd

from avatar_pipeline.budget.periods import SLOT, slot_of

NOBODY = ""
"""The reservation of what nobody pays for."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_HOUR = 3600 * 1_000_000
_MOST_TURN = 100_000
"""Microseconds in which every payer gets its turn once; weights that sum to more are scaled down."""


def microseconds(span: timedelta) -> int:
    """Return a span as whole microseconds."""
    return span // _MICROSECOND


def split(start: datetime, end: datetime, weights: Mapping[str, int]) -> dict[tuple[datetime, str], int]:
    """Return the microseconds of [start, end) by quarter of an hour and payer.

    The payers take turns: of every `sum(weights)` microseconds since 1970, each has as many as it weighs, in the order
    of their names. What a payer has of a span is then the difference of two whole numbers, one for either end: nothing
    is rounded, and nothing is lost or drifts between two spans. No weights: all of it is nobody's.
    """
    turns = _turns(weights)
    total = sum(turns.values())
    found: dict[tuple[datetime, str], int] = {}
    for slot, begins, ends in _pieces(start, end):
        first = 0
        for name, weight in turns.items():
            part = _turn(ends, total, first, weight) - _turn(begins, total, first, weight)
            first += weight
            if part:
                found[slot, name] = part
    return found


def amounts(parts: Sequence[int], price: int, *, before: int = 0) -> list[int]:
    """Return the price of each of some consecutive parts of an attempt, at `price` millionths of a dollar an hour.

    Each is the cost of all up to and with it, less the cost of all before it, so that they sum to the cost of the
    whole: no part is more than a millionth away from its own share. `before`: microseconds before the first of them.
    """
    found = []
    so_far = priced(before, price)
    for part in parts:
        before += part
        up_to = priced(before, price)
        found.append(up_to - so_far)
        so_far = up_to
    return found


def priced(microseconds: int, price: int) -> int:
    """Return what a time costs, to a millionth, half to even: `types.cost` in whole numbers."""
    whole, rest = divmod(microseconds * price, _HOUR)
    if 2 * rest > _HOUR or (2 * rest == _HOUR and whole % 2):
        whole += 1
    return whole


def _pieces(start: datetime, end: datetime) -> Iterator[tuple[datetime, int, int]]:
    slot = slot_of(start)
    while slot < end:
        begins, ends = max(start, slot) - _EPOCH, min(end, slot + SLOT) - _EPOCH
        yield slot, microseconds(begins), microseconds(ends)
        slot += SLOT


def _turns(weights: Mapping[str, int]) -> dict[str, int]:
    """Return the weights in the order of names, without a common divisor, and small enough to take turns quickly."""
    known = {name: weight for name, weight in sorted(weights.items()) if weight > 0}
    if not known:
        return {NOBODY: 1}
    divisor = reduce(gcd, known.values())
    known = {name: weight // divisor for name, weight in known.items()}
    total = sum(known.values())
    if total > _MOST_TURN:
        known = {name: max(1, weight * _MOST_TURN // total) for name, weight in known.items()}
    return known


def _turn(moment: int, total: int, first: int, weight: int) -> int:
    """Return how many of the microseconds before `moment` belong to the payer of `weight` from `first` on."""
    turns, rest = divmod(moment, total)
    return turns * weight + min(max(rest - first, 0), weight)
