"""What the ledger knows about what may be deleted: who is known, who has long been ready, what requests named."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal, get_args

from sqlalchemy import Engine, and_, func, or_, select
from sqlalchemy.orm import aliased

from avatar_pipeline.ledger.database import chunks, reading
from avatar_pipeline.ledger.schema import ArtifactRow, AvatarRow, RequestRow

UploadField = Literal["video_uri", "consent_uri"]
FIELDS: tuple[UploadField, ...] = get_args(UploadField)


@dataclass(frozen=True, slots=True)
class NamedUpload:
    """A file that an avatar request named, and in which of its fields."""

    uri: str
    field: UploadField


@dataclass(frozen=True, slots=True)
class LongReady:
    """An avatar that has long been ready; `marked`: what is to be done with such was done once before."""

    avatar_id: str
    marked: bool


def known_owners(engine: Engine, collection: str, owners: Sequence[str]) -> set[str]:
    """Return those of the avatars ('avatars') or batches ('clip-batches') that the ledger knows anything of."""
    known: set[str] = set()
    with reading(engine) as session:
        for names in chunks(owners):
            if collection == "avatars":
                known |= set(session.scalars(select(AvatarRow.id).where(AvatarRow.id.in_(names))))
                continue
            of_collection = ArtifactRow.collection == collection
            known |= set(session.scalars(select(ArtifactRow.owner).where(of_collection, ArtifactRow.owner.in_(names))))
            claimed = select(RequestRow.batch_id).where(RequestRow.batch_id.in_(names)).distinct()
            known |= {name for name in session.scalars(claimed) if name is not None}
    return known


def long_ready(engine: Engine, before: datetime, *, mark: str) -> list[LongReady]:
    """Return the avatars that are ready and whose first greeting was made before `before`, oldest first.

    An artifact of the asset `mark` in the ledger says that what is to be done with such an avatar is done. Left out are
    those that have one from after the last change of the avatar's row.
    """
    greeting, done = aliased(ArtifactRow), aliased(ArtifactRow)
    ready_at = func.min(greeting.created_at)
    marked_at = (
        select(func.max(done.created_at))
        .where(done.collection == "avatars", done.owner == AvatarRow.id, done.asset == mark)
        .correlate(AvatarRow)
        .scalar_subquery()
    )
    query = (
        select(AvatarRow.id, marked_at.is_not(None))
        .join(greeting, and_(greeting.collection == "avatars", greeting.owner == AvatarRow.id))
        .where(
            AvatarRow.state == "ready",
            greeting.asset == "greeting_clip",
            or_(marked_at.is_(None), marked_at < AvatarRow.updated_at),
        )
        .group_by(AvatarRow.id)
        .having(ready_at < before)
        .order_by(ready_at, AvatarRow.id)
    )
    with reading(engine) as session:
        return [LongReady(avatar_id, bool(marked)) for avatar_id, marked in session.execute(query)]


def uploads_named_by(engine: Engine, avatar_ids: Collection[str]) -> dict[str, list[NamedUpload]]:
    """Return, for each of these avatars, the files that its finished requests named and no unfinished request names.

    A file that was taken in is in the artifact store too, so a finished request has no more use for it.
    """
    query = select(RequestRow.avatar_id, RequestRow.state, RequestRow.payload).where(RequestRow.kind == "avatar")
    named: list[tuple[str, NamedUpload]] = []
    needed: set[str] = set()
    with reading(engine) as session:
        for avatar_id, state, payload in session.execute(query.execution_options(yield_per=1000)):
            for field in FIELDS:
                uri = payload.get(field)
                if uri and state not in ("done", "failed"):
                    needed.add(uri)
                elif uri and avatar_id in avatar_ids:
                    named.append((avatar_id, NamedUpload(uri, field)))
    found: dict[str, list[NamedUpload]] = {}
    for avatar_id, upload in named:
        if upload.uri not in needed:
            found.setdefault(avatar_id, []).append(upload)
    return found


def named_by_others(engine: Engine, uris: Collection[str], request_id: str) -> set[str]:
    """Return those of these files that another avatar request names which has not failed."""
    query = select(RequestRow.payload).where(
        RequestRow.kind == "avatar", RequestRow.state != "failed", RequestRow.id != request_id
    )
    with reading(engine) as session:
        payloads = session.scalars(query.execution_options(yield_per=1000))
        return {payload[field] for payload in payloads for field in FIELDS if payload.get(field) in uris}
