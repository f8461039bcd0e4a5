"""The ledger: one door to the database. Every method is one transaction."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import cast

from sqlalchemy import delete, select
from sqlalchemy.exc import DatabaseError
from sqlalchemy.orm import Session

from avatar_pipeline.clock import Clock, utc_now
from avatar_pipeline.consent import ConsentRecord
from avatar_pipeline.errors import AvatarError, Conflict, EnvironmentProblem, NotFound
from avatar_pipeline.ledger.database import chunks, insert_new, open_engine, reading, writing
from avatar_pipeline.ledger.migrate import migrate
from avatar_pipeline.ledger.provider_schema import VoiceRow
from avatar_pipeline.ledger.records import AvatarRecord, AvatarState, Timing
from avatar_pipeline.ledger.schema import ArtifactRow, AvatarRow, CallbackRow, RequestEventRow, RequestRow, TimingRow
from avatar_pipeline.ledger.spend import forget_avatar_in
from avatar_pipeline.store.artifacts import Artifact


class Ledger:
    """Avatars, artifacts and timings; requests have a book of their own on the same `engine`."""

    def __init__(self, url: str, *, clock: Clock = utc_now) -> None:
        self._clock = clock
        self.engine = open_engine(url)
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
        made_from = {
            "voice": voice,
            "greeting": greeting,
            "upload_key": upload_key,
            "source_name": source_name,
            "consent": consent.model_dump(mode="json"),
            "updated_at": now,
        }
        with writing(self.engine) as session:
            new = {"id": avatar_id, "state": "new", "created_at": now} | made_from
            session.execute(insert_new(session, AvatarRow).values(**new))
            # Whoever registers the same avatar at the same time waits here, and then sees the first.
            row = session.get_one(AvatarRow, avatar_id, with_for_update=True)
            if row.state != "failed" and (row.upload_key, row.voice, row.greeting) != (upload_key, voice, greeting):
                raise Conflict(
                    f"Avatar {avatar_id} exists already, made from {row.source_name} with voice {row.voice}.",
                    remedy=f"Choose another id, or remove it first: avatar rm {avatar_id}.",
                )
            for name, value in made_from.items():
                setattr(row, name, value)
            if row.state == "failed":
                # It is tried again, so the clips that are asked of it wait, and do not fail.
                row.state, row.error = "new", None
            session.flush()
            return _avatar(row)

    def avatar(self, avatar_id: str) -> AvatarRecord:
        """Return one avatar.

        Raises:
            NotFound: there is none of that id.
        """
        with reading(self.engine) as session:
            return _avatar(_require(session, AvatarRow, avatar_id, "avatar"))

    def voices_of(self, avatar_ids: Collection[str]) -> dict[str, str]:
        """Return the voices of those of these avatars that there are, as they were asked for."""
        found: dict[str, str] = {}
        with reading(self.engine) as session:
            for some in chunks(sorted(avatar_ids)):
                rows = session.execute(select(AvatarRow.id, AvatarRow.voice).where(AvatarRow.id.in_(some)))
                found |= {row.id: row.voice for row in rows}
        return found

    def has_avatar(self, avatar_id: str) -> bool:
        """Return whether there is an avatar of that id."""
        with reading(self.engine) as session:
            return session.get(AvatarRow, avatar_id) is not None

    def set_consent(self, avatar_id: str, consent: ConsentRecord) -> None:
        """Put a newer record of the same person's consent in place: renewed, narrowed, or revoked.

        Raises:
            NotFound: there is no such avatar.
            Conflict: the record is of another person.
        """
        with writing(self.engine) as session:
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
        with reading(self.engine) as session:
            rows = session.scalars(select(AvatarRow).order_by(AvatarRow.created_at, AvatarRow.id))
            return [_avatar(row) for row in rows]

    def set_avatar_state(self, avatar_id: str, state: AvatarState, error: AvatarError | None = None) -> None:
        """Record how far an avatar is, and why it failed where it did."""
        with writing(self.engine) as session:
            row = _require(session, AvatarRow, avatar_id, "avatar")
            row.state, row.error, row.updated_at = state, error.as_dict() if error else None, self._clock()

    def delete_avatar(self, avatar_id: str, *, batches: Sequence[str] = ()) -> None:
        """Delete an avatar and all that is known of it, its requests too, and the batches that were its alone.

        What outlives it: a consent taken back stays so, credits were spent, and a voice that a provider still has is
        known until it is deleted there.
        """
        with writing(self.engine) as session:
            _require(session, AvatarRow, avatar_id, "avatar")
            of_avatar = select(RequestRow.id).where(RequestRow.avatar_id == avatar_id)
            # Whoever takes a step with one of them is waited for, or the event of that step would be left over.
            session.scalars(of_avatar.order_by(RequestRow.id).with_for_update()).all()
            for table in (RequestEventRow, CallbackRow):
                session.execute(delete(table).where(table.request_id.in_(of_avatar)))
            session.execute(delete(RequestRow).where(RequestRow.avatar_id == avatar_id))
            for made in (ArtifactRow, TimingRow):
                session.execute(delete(made).where(made.collection == "avatars", made.owner == avatar_id))
                session.execute(delete(made).where(made.collection == "clip-batches", made.owner.in_(batches)))
            session.execute(delete(VoiceRow).where(VoiceRow.avatar_id == avatar_id, VoiceRow.state == "deleted"))
            forget_avatar_in(session, avatar_id, self._clock())
            session.execute(delete(AvatarRow).where(AvatarRow.id == avatar_id))

    # Artifacts and timings

    def record(self, artifact: Artifact, timing: Timing) -> None:
        """Write down a published (or reused) artifact and the attempt that led to it."""
        collection, owner, asset = artifact.slot.parts
        with writing(self.engine) as session:
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
        with reading(self.engine) as session:
            rows = session.scalars(query.order_by(TimingRow.id))
            return [Timing(**{name: getattr(row, name) for name in Timing.__dataclass_fields__}) for row in rows]


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
