"""What one clip, or one avatar, cost so far."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from sqlalchemy import Engine, func, select

from avatar_pipeline.budget.types import Amounts
from avatar_pipeline.errors import NotFound
from avatar_pipeline.ledger.cost_sums import COMPUTE, OF_CLIPS, Spent, added, by, spent_of, summed
from avatar_pipeline.ledger.database import reading
from avatar_pipeline.ledger.schema import AvatarRow, RequestRow
from avatar_pipeline.ledger.spend_posting import RESERVATIONS
from avatar_pipeline.ledger.spend_schema import EntryRow
from avatar_pipeline.ledger.spend_views import reservation_view
from avatar_pipeline.ledger.steps import not_found


@dataclass(frozen=True, slots=True)
class ClipCost:
    """What one clip request cost so far. `reserved` is still put aside for it; `attempts` is how many worked on it."""

    request_id: str
    tenant: str
    avatar_id: str
    spent: Spent
    by_asset: Mapping[str, Spent]
    reserved: Amounts
    attempts: int


@dataclass(frozen=True, slots=True)
class AvatarCost:
    """What one avatar cost so far: to build it, by asset, and for its clips."""

    avatar_id: str
    building: Spent
    by_asset: Mapping[str, Spent]
    clips: Spent

    @property
    def total(self) -> Spent:
        """All of it."""
        return self.building + self.clips


def figures_of_clip(engine: Engine, request_id: str) -> ClipCost:
    """Return what a clip request cost so far, over all its attempts.

    Raises:
        NotFound: there is no such request.
    """
    mine = EntryRow.request_id == request_id
    reserved = select(RESERVATIONS).where(RESERVATIONS.c.request_id == request_id)
    with reading(engine) as session:
        request = session.get(RequestRow, request_id)
        if request is None:
            raise not_found(request_id)
        rows = session.execute(summed(EntryRow.asset).where(mine).group_by(EntryRow.asset)).all()
        sources = select(func.count(EntryRow.source.distinct())).where(mine, EntryRow.kind == COMPUTE)
        attempts = session.scalar(sources) or 0
        left = [reservation_view(row).left for row in session.execute(reserved).mappings()]
        tenant, avatar_id = request.tenant, request.avatar_id
    by_asset = by(rows, lambda row: row.asset)
    return ClipCost(request_id, tenant, avatar_id, added(by_asset.values()), by_asset, sum(left, Amounts()), attempts)


def cost_of_avatar(engine: Engine, avatar_id: str) -> AvatarCost:
    """Return what an avatar cost so far: its own steps, and its clips.

    Raises:
        NotFound: there is no such avatar.
    """
    of_clips = OF_CLIPS.label("of_clips")
    query = summed(EntryRow.asset, of_clips).where(EntryRow.avatar_id == avatar_id).group_by(EntryRow.asset, of_clips)
    with reading(engine) as session:
        if session.get(AvatarRow, avatar_id) is None:
            raise NotFound(f"There is no avatar {avatar_id!r}.", remedy="See what there is: avatar list.")
        rows = session.execute(query).all()
    by_asset = by([row for row in rows if not row.of_clips], lambda row: row.asset)
    clips = added(spent_of(row) for row in rows if row.of_clips)
    return AvatarCost(avatar_id, added(by_asset.values()), by_asset, clips)
