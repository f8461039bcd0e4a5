"""The ledger: one door to the database. Every method is one transaction."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

from sqlalchemy import Engine, create_engine, delete, event, func, select, update
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError, DatabaseError
from sqlalchemy.orm import Session

from avatar_pipeline.clock import Clock, utc_now
from avatar_pipeline.consent import ConsentRecord
from avatar_pipeline.errors import AvatarError, Conflict, EnvironmentProblem, InvalidInput, NotFound
from avatar_pipeline.ledger.migrate import migrate
from avatar_pipeline.ledger.records import (
    AvatarRecord,
    AvatarState,
    ClipRequest,
    RequestRecord,
    RequestState,
    Timing,
)
from avatar_pipeline.ledger.schema import ArtifactRow, AvatarRow, RequestRow, TimingRow
from avatar_pipeline.store.artifacts import Artifact


class Ledger:
    """Avatars, requests, artifacts and timings in SQLite (out of the box) or PostgreSQL."""

    def __init__(self, url: str, *, clock: Clock = utc_now) -> None:
        self._clock = clock
        self.engine = _engine(url)
        try:
            migrate(self.engine)
        except DatabaseError as error:
            self.engine.dispose()
            raise EnvironmentProblem(
                f"The ledger {self.engine.url.render_as_string(hide_password=True)} cannot be opened: {error.orig}.",
                remedy="Check AVATAR_LEDGER_URL, and that the database is there and may be written to.",
            ) from error

    def close(self) -> None:
        """Give back the database connections."""
        self.engine.dispose()

    # Avatars

    def register_avatar(
        self, avatar_id: str, *, voice: str, greeting: str, upload_key: str, source_name: str, consent: ConsentRecord
    ) -> AvatarRecord:
        """Write a new avatar, or return the one that is there already and made from the same things.

        One that failed may be tried again with other things.

        Raises:
            Conflict: the id is taken by an avatar of another upload, voice or greeting.
        """
        now = self._clock()
        with self._transaction() as session:
            row = session.get(AvatarRow, avatar_id)
            if row is None:
                row = AvatarRow(id=avatar_id, state="new", created_at=now, error=None)
                session.add(row)
            elif row.state != "failed" and (row.upload_key, row.voice, row.greeting) != (upload_key, voice, greeting):
                raise Conflict(
                    f"Avatar {avatar_id} exists already, made from {row.source_name} with voice {row.voice}.",
                    remedy=f"Choose another id, or remove it first: avatar rm {avatar_id}.",
                )
            row.voice, row.greeting, row.upload_key, row.source_name = voice, greeting, upload_key, source_name
            row.consent = consent.model_dump(mode="json")
            row.updated_at = now
            session.flush()
            return _avatar(row)

    def avatar(self, avatar_id: str) -> AvatarRecord:
        """Return one avatar.

        Raises:
            NotFound: there is none of that id.
        """
        with self._transaction() as session:
            return _avatar(_require(session, AvatarRow, avatar_id, "avatar"))

    def has_avatar(self, avatar_id: str) -> bool:
        """Return whether there is an avatar of that id."""
        with self._transaction() as session:
            return session.get(AvatarRow, avatar_id) is not None

    def set_consent(self, avatar_id: str, consent: ConsentRecord) -> None:
        """Put a newer record of the same person's consent in place: renewed, narrowed, or revoked.

        Raises:
            NotFound: there is no such avatar.
            Conflict: the record is of another person.
        """
        with self._transaction() as session:
            row = _require(session, AvatarRow, avatar_id, "avatar")
            known = ConsentRecord.model_validate(row.consent)
            if known.subject != consent.subject:
                raise Conflict(
                    f"Avatar {avatar_id} is of {known.subject}; the consent {consent.consent_id} is another person's.",
                    remedy="Give a consent of the same subject, or choose another id.",
                )
            row.consent, row.updated_at = consent.model_dump(mode="json"), self._clock()

    def avatars(self) -> list[AvatarRecord]:
        """Return all avatars, oldest first."""
        with self._transaction() as session:
            rows = session.scalars(select(AvatarRow).order_by(AvatarRow.created_at, AvatarRow.id))
            return [_avatar(row) for row in rows]

    def set_avatar_state(self, avatar_id: str, state: AvatarState, error: AvatarError | None = None) -> None:
        """Record how far an avatar is, and why it failed where it did."""
        with self._transaction() as session:
            row = _require(session, AvatarRow, avatar_id, "avatar")
            row.state, row.error, row.updated_at = state, error.as_dict() if error else None, self._clock()

    def delete_avatar(self, avatar_id: str, *, batches: Sequence[str] = ()) -> None:
        """Delete an avatar and everything known of it, and of the batches that were its alone."""
        with self._transaction() as session:
            _require(session, AvatarRow, avatar_id, "avatar")
            session.execute(delete(RequestRow).where(RequestRow.avatar_id == avatar_id))
            for table in (ArtifactRow, TimingRow):
                session.execute(delete(table).where(table.collection == "avatars", table.owner == avatar_id))
                session.execute(delete(table).where(table.collection == "clip-batches", table.owner.in_(batches)))
            session.execute(delete(AvatarRow).where(AvatarRow.id == avatar_id))

    # Requests

    def submit(self, requests: Sequence[ClipRequest], *, batch_id: str | None = None) -> None:
        """Queue clip requests, all or none; one that is known already (same id, same content) changes nothing.

        `batch_id` reserves them for that batch; without it the next batch that claims takes them.

        Raises:
            NotFound: an avatar does not exist.
            Conflict: a request id is known with other content.
        """
        now = self._clock()
        with self._transaction() as session:
            position = session.scalar(select(func.coalesce(func.max(RequestRow.position), 0))) or 0
            for request in requests:
                _require(session, AvatarRow, request.avatar_id, "avatar")
                known = session.get(RequestRow, request.request_id)
                if known is not None:
                    if (known.avatar_id, known.text) != (request.avatar_id, request.text):
                        raise Conflict(
                            f"Request {request.request_id} exists already with other content.",
                            remedy="A request id names one clip for ever; choose another.",
                        )
                    continue
                position += 1
                session.add(
                    RequestRow(
                        id=request.request_id,
                        avatar_id=request.avatar_id,
                        text=request.text,
                        state="queued",
                        batch_id=batch_id,
                        position=position,
                        created_at=now,
                    )
                )
                session.flush()

    def claim(self, batch_id: str, limit: int) -> list[ClipRequest]:
        """Give batch `batch_id` its requests: those it holds already, then queued ones up to `limit`.

        Claiming again returns the same: a batch that crashed before its manifest was written gets its requests back.
        """
        now = self._clock()
        with self._transaction() as session:
            mine = select(RequestRow).where(RequestRow.batch_id == batch_id).order_by(RequestRow.position)
            rows = list(session.scalars(mine.with_for_update()))
            if not rows:
                free = (
                    select(RequestRow)
                    .where(RequestRow.state == "queued", RequestRow.batch_id.is_(None))
                    .order_by(RequestRow.position)
                    .limit(limit)
                )
                rows = list(session.scalars(free.with_for_update(skip_locked=True)))
            for row in rows:
                row.batch_id = batch_id
                if row.state == "queued":
                    row.state, row.claimed_at = "claimed", now
            session.flush()
            return [_request(row) for row in rows]

    def mark_request(
        self,
        request_id: str,
        state: RequestState,
        *,
        clip_key: str | None = None,
        error: AvatarError | None = None,
    ) -> None:
        """Move a request on. A finished one is never reopened by a late or repeated attempt."""
        now = self._clock()
        values: dict[str, Any] = {"state": state}
        if state == "running":
            values["started_at"] = now
        elif state in ("done", "failed"):
            values |= {"finished_at": now, "clip_key": clip_key, "error": error.as_dict() if error else None}
        with self._transaction() as session:
            session.execute(
                update(RequestRow).where(RequestRow.id == request_id, RequestRow.state != "done").values(**values)
            )

    def requests(self, *, avatar_id: str | None = None, batch_id: str | None = None) -> list[RequestRecord]:
        """Return requests in order, of one avatar or batch where given."""
        query = select(RequestRow).order_by(RequestRow.position)
        if avatar_id is not None:
            query = query.where(RequestRow.avatar_id == avatar_id)
        if batch_id is not None:
            query = query.where(RequestRow.batch_id == batch_id)
        with self._transaction() as session:
            return [_request_record(row) for row in session.scalars(query)]

    # Artifacts and timings

    def record(self, artifact: Artifact, timing: Timing) -> None:
        """Write down a published (or reused) artifact and the attempt that led to it."""
        collection, owner, asset = artifact.slot.parts
        with self._transaction() as session:
            place = (
                ArtifactRow.collection == collection,
                ArtifactRow.owner == owner,
                ArtifactRow.asset == asset,
                ArtifactRow.key == artifact.key,
            )
            if session.scalar(select(ArtifactRow.id).where(*place)) is None:
                session.add(
                    ArtifactRow(
                        collection=collection,
                        owner=owner,
                        asset=asset,
                        key=artifact.key,
                        uri=artifact.uri,
                        size_bytes=artifact.size_bytes,
                        code_version=artifact.code_version,
                        created_at=self._clock(),
                    )
                )
            session.add(TimingRow(**{name: getattr(timing, name) for name in Timing.__dataclass_fields__}))

    def timings(self, collection: str, owner: str) -> list[Timing]:
        """Return the attempts of one avatar or batch, oldest first."""
        query = select(TimingRow).where(TimingRow.collection == collection, TimingRow.owner == owner)
        with self._transaction() as session:
            rows = session.scalars(query.order_by(TimingRow.id))
            return [Timing(**{name: getattr(row, name) for name in Timing.__dataclass_fields__}) for row in rows]

    @contextmanager
    def _transaction(self) -> Iterator[Session]:
        with Session(self.engine, expire_on_commit=False) as session, session.begin():
            yield session


def _engine(url: str) -> Engine:
    try:
        parsed = make_url(url)
        parsed.get_dialect()
    except (ArgumentError, ValueError):
        # Not chained: the cause may quote a part of the password.
        raise InvalidInput(
            "AVATAR_LEDGER_URL is not a database URL.",
            remedy="Give an SQLAlchemy URL such as sqlite:////data/ledger.db; escape what is special in a password.",
        ) from None
    if parsed.get_backend_name() != "sqlite":
        try:
            return create_engine(parsed, pool_pre_ping=True)
        except ImportError as error:
            raise EnvironmentProblem(
                f"The database driver {error.name!r}, which AVATAR_LEDGER_URL needs, is not installed.",
                remedy=f"Install it: pip install {error.name}.",
            ) from error
    if parsed.database:
        Path(parsed.database).parent.mkdir(parents=True, exist_ok=True)
    engine = create_engine(parsed, connect_args={"timeout": 30})

    @event.listens_for(engine, "connect")
    def _configure(connection: Any, _record: Any) -> None:
        # The driver's own BEGIN is deferred and fails, instead of waiting, when two readers both want to write.
        connection.isolation_level = None
        cursor = connection.cursor()
        cursor.execute("PRAGMA journal_mode=WAL")
        cursor.execute("PRAGMA synchronous=NORMAL")
        cursor.execute("PRAGMA foreign_keys=ON")
        cursor.close()

    @event.listens_for(engine, "begin")
    def _begin(connection: Any) -> None:
        connection.exec_driver_sql("BEGIN IMMEDIATE")

    return engine


def _require(session: Session, table: type[AvatarRow], key: str, what: str) -> AvatarRow:
    row = session.get(table, key)
    if row is None:
        raise NotFound(f"There is no {what} {key!r}.", remedy="See what there is: avatar list.")
    return row


def _avatar(row: AvatarRow) -> AvatarRecord:
    return AvatarRecord(
        id=row.id,
        state=cast(AvatarState, row.state),
        voice=row.voice,
        greeting=row.greeting,
        upload_key=row.upload_key,
        source_name=row.source_name,
        consent=ConsentRecord.model_validate(row.consent),
        error=row.error,
        created_at=row.created_at,
        updated_at=row.updated_at,
    )


def _request(row: RequestRow) -> ClipRequest:
    return ClipRequest(request_id=row.id, avatar_id=row.avatar_id, text=row.text)


def _request_record(row: RequestRow) -> RequestRecord:
    return RequestRecord(
        request=_request(row),
        state=cast(RequestState, row.state),
        batch_id=row.batch_id,
        clip_key=row.clip_key,
        error=row.error,
        created_at=row.created_at,
        finished_at=row.finished_at,
    )
