"""A line for a test, over an empty ledger and store, and rows to put into its ledger."""

from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

from sqlalchemy.orm import Session

from avatar_pipeline.clock import Clock
from avatar_pipeline.consent import ConsentRecord
from avatar_pipeline.errors import AvatarError
from avatar_pipeline.ledger.beats import Beats
from avatar_pipeline.ledger.callbacks import CallbackBook
from avatar_pipeline.ledger.charges import Charges
from avatar_pipeline.ledger.consents import ConsentBook
from avatar_pipeline.ledger.leases import Leases
from avatar_pipeline.ledger.ledger import Ledger
from avatar_pipeline.ledger.requests import RequestBook
from avatar_pipeline.ledger.schema import ArtifactRow, AvatarRow, Base, RequestRow, TimingRow
from avatar_pipeline.ledger.voices import VoiceBook
from avatar_pipeline.queues.open import open_queues
from avatar_pipeline.settings import Settings
from avatar_pipeline.stages.line import Line
from avatar_pipeline.stages.money import Money
from avatar_pipeline.store.artifacts import ArtifactStore


def make_line(folder: Path, clock: Clock, *, store: ArtifactStore | None = None, **settings: Any) -> Line:
    chosen = Settings(home=folder / "home", **settings)
    ledger = Ledger(chosen.ledger.get_secret_value(), clock=clock)
    money = Money.open(ledger.engine, chosen, clock=clock)
    return Line(
        store=store or ArtifactStore(chosen.store_uri, chosen.scratch),
        ledger=ledger,
        requests=RequestBook(ledger.engine, clock=clock, purse=money.purse),
        callbacks=CallbackBook(ledger.engine, clock=clock),
        beats=Beats(ledger.engine, clock=clock),
        leases=Leases(ledger.engine, clock=clock),
        charges=Charges(ledger.engine, clock=clock, purse=money.purse),
        voices=VoiceBook(ledger.engine, clock=clock),
        consents=ConsentBook(ledger.engine, clock=clock),
        queues=open_queues(chosen, ledger.engine, clock),
        settings=chosen,
        money=money,
        clock=clock,
    )


def add(ledger: Ledger, *rows: Base) -> None:
    with Session(ledger.engine) as session, session.begin():
        session.add_all(rows)


def request_row(
    request_id: str,
    *,
    sent_at: datetime,
    claimed_at: datetime | None = None,
    started_at: datetime | None = None,
    finished_at: datetime | None = None,
    error: AvatarError | None = None,
    **columns: Any,
) -> RequestRow:
    """A request that is done, or failed where `error` is given, or queued where it is not finished."""
    state = "queued" if finished_at is None else "failed" if error else "done"
    values = {
        "kind": "clip",
        "avatar_id": "ada",
        "tenant": "default",
        "payload": {},
        "state": state,
        "batch_id": None,
        "position": 1,
        "priority": 0,
        "virtual_start": 0.0,
        "attempts": 1,
        "clip_key": None,
        "created_at": sent_at,
    }
    return RequestRow(
        id=request_id,
        sent_at=sent_at,
        claimed_at=claimed_at,
        started_at=started_at,
        finished_at=finished_at,
        error=error.as_dict() if error else None,
        **(values | columns),
    )


def artifact_row(owner: str, asset: str, key: str, created_at: datetime, *, collection: str = "avatars") -> ArtifactRow:
    return ArtifactRow(
        collection=collection,
        owner=owner,
        asset=asset,
        key=key,
        uri="somewhere",
        size_bytes=1,
        code_version="1",
        created_at=created_at,
    )


def timing_row(asset: str, cost: str, started_at: datetime, *, collection: str = "avatars") -> TimingRow:
    return TimingRow(
        collection=collection,
        owner="ada",
        asset=asset,
        key="key",
        run_id=None,
        reused=False,
        seconds=1.0,
        price_per_hour=Decimal("0.5"),
        cost=Decimal(cost),
        started_at=started_at,
    )


def avatar_row(avatar_id: str, at: datetime, *, state: str = "ready", consent_id: str = "consent-1") -> AvatarRow:
    consent = ConsentRecord(
        consent_id=consent_id,
        subject="A person",
        statement="I agree that my likeness and voice are used.",
        statement_version="1",
        scope=frozenset({"likeness", "voice"}),
        given_at=at,
    )
    return AvatarRow(
        id=avatar_id,
        state=state,
        voice="local:en",
        greeting="Hello.",
        upload_key="upload-1",
        source_name="ada.mp4",
        consent=consent.model_dump(mode="json"),
        error=None,
        created_at=at,
        updated_at=at,
    )
