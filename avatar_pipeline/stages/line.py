"""The production line's workbench: how any artifact is made once, recorded, and pointed to."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from avatar_pipeline.budget.config import Plan
from avatar_pipeline.budget.prices import PriceList
from avatar_pipeline.clock import Clock, utc_now
from avatar_pipeline.errors import ConsentRevoked, NotFound, StoreCorrupt
from avatar_pipeline.ledger.beats import Beats
from avatar_pipeline.ledger.budgets import BudgetBook
from avatar_pipeline.ledger.callbacks import CallbackBook
from avatar_pipeline.ledger.charges import Charges
from avatar_pipeline.ledger.consents import ConsentBook
from avatar_pipeline.ledger.leases import Leases
from avatar_pipeline.ledger.ledger import Ledger
from avatar_pipeline.ledger.prices import PriceStore
from avatar_pipeline.ledger.purse import Purse
from avatar_pipeline.ledger.records import Timing
from avatar_pipeline.ledger.requests import RequestBook
from avatar_pipeline.ledger.spend import SpendBook
from avatar_pipeline.ledger.voices import VoiceBook
from avatar_pipeline.progress import Progress, silent
from avatar_pipeline.queues.open import Queues, open_queues
from avatar_pipeline.settings import Settings
from avatar_pipeline.spot.cadence import Cadence
from avatar_pipeline.spot.guard import NO_GUARD, Guard
from avatar_pipeline.stages.estimates import Estimator
from avatar_pipeline.stages.metering import NO_METER, Meter
from avatar_pipeline.stages.money import Money
from avatar_pipeline.store.artifacts import CHECKPOINTS, Artifact, ArtifactStore, Draft, Recipe, Slot
from avatar_pipeline.store.checkpoints import BufferedCheckpoints, Checkpoints


@dataclass(frozen=True, slots=True)
class Line:
    """All that a stage needs around it: where things are kept, what is configured, who listens.

    `guard` stops long work between two chunks when the machine is taken away, or can no longer be paid for; `cadence`
    says when chunks are saved in a store that is not on this machine. `meter` knows who pays for this step.
    """

    store: ArtifactStore
    ledger: Ledger
    requests: RequestBook
    callbacks: CallbackBook
    beats: Beats
    leases: Leases
    charges: Charges
    voices: VoiceBook
    consents: ConsentBook
    queues: Queues
    settings: Settings
    money: Money
    progress: Progress = silent
    run_id: str | None = None
    clock: Clock = utc_now
    stopwatch: Callable[[], float] = field(default=time.monotonic)
    guard: Guard = NO_GUARD
    cadence: Cadence = field(default_factory=Cadence)
    meter: Meter = NO_METER

    @property
    def plan(self) -> Plan:
        """The budgets."""
        return self.money.plan

    @property
    def spend(self) -> SpendBook:
        """What was put aside and spent."""
        return self.money.spend

    @property
    def purse(self) -> Purse:
        """What requests are admitted by."""
        return self.money.purse

    @property
    def estimates(self) -> Estimator:
        """What work may cost at most."""
        return self.money.estimates

    @property
    def budgets(self) -> BudgetBook:
        """Changes of limits, and alerts."""
        return self.money.budgets

    @property
    def price_store(self) -> PriceStore:
        """What machines cost, and did at any time."""
        return self.money.price_store

    @property
    def prices(self) -> PriceList:
        """What machines cost, as far as is known; looked up once a minute."""
        return self.money.price_store.prices()

    @property
    def price_per_hour(self) -> Decimal:
        """US dollars an hour of this machine, as far as is known."""
        known = self.meter.price_per_hour
        return self.settings.worker_price_per_hour if known is None else known


@contextmanager
def open_line(
    settings: Settings,
    *,
    store: str | None = None,
    progress: Progress = silent,
    run_id: str | None = None,
    guard: Guard = NO_GUARD,
    cadence: Cadence | None = None,
) -> Iterator[Line]:
    """Open the store and the ledger that the settings name, for as long as the block runs.

    `store` puts another artifact store in the place of the settings'. Without `cadence`, every chunk is saved at once.
    """
    ledger = Ledger(settings.ledger.get_secret_value())
    try:
        money = Money.open(ledger.engine, settings)
        yield Line(
            store=ArtifactStore(store or settings.store_uri, settings.scratch),
            ledger=ledger,
            requests=RequestBook(ledger.engine, weights=settings.tenant_weights, purse=money.purse),
            callbacks=CallbackBook(ledger.engine),
            beats=Beats(ledger.engine),
            leases=Leases(ledger.engine),
            charges=Charges(ledger.engine, purse=money.purse),
            voices=VoiceBook(ledger.engine),
            consents=ConsentBook(ledger.engine),
            queues=open_queues(settings, ledger.engine),
            settings=settings,
            money=money,
            progress=progress,
            run_id=run_id,
            guard=guard,
            cadence=cadence or Cadence(),
        )
    finally:
        ledger.close()


@dataclass(frozen=True, slots=True)
class StageResult:
    """What a stage did: the artifact, whether it was there already, what this attempt took and cost (US dollars)."""

    artifact: Artifact
    reused: bool
    seconds: float
    cost: Decimal

    @property
    def facts(self) -> dict[str, Any]:
        """What the artifact knows of itself; the same however often it is asked for."""
        return dict(self.artifact.facts)


def cost_of(seconds: float, price_per_hour: Decimal) -> Decimal:
    """Return what `seconds` of a worker cost, to a millionth of a dollar."""
    return (Decimal(repr(round(seconds, 3))) * price_per_hour / 3600).quantize(Decimal("0.000001"))


def produce(
    line: Line,
    recipe: Recipe,
    make: Callable[[Draft, Checkpoints], None],
    *,
    point: bool = True,
    earlier: float = 0.0,
    bill: Decimal = Decimal(0),
) -> StageResult:
    """Make the artifact of `recipe` unless it is there, record it in the ledger, and point to it.

    `make` fills a draft, and may keep chunks of long work in the checkpoints it is given; they are dropped when the
    artifact is published, and are in the store when the work ends in any other way but a kill. `point` makes it the
    current one of its slot. `earlier` is how many seconds were worked for it before, and `bill` what others charged for
    it, in US dollars.
    """
    started_at, start = line.clock(), line.stopwatch()
    artifact = line.store.find(recipe.slot, recipe.key)
    reused = artifact is not None
    if artifact is None:
        try:
            with _checkpoints(line, recipe) as checkpoints, line.store.create(recipe) as draft:
                make(draft, checkpoints)
        except Exception:
            # Whatever broke, it broke because the files were taken away, if that is what happened.
            require_owner(line, recipe.slot)
            raise
        line.store.drop_checkpoints(recipe.slot, recipe.key)
        artifact = line.store.find(recipe.slot, recipe.key)
    if artifact is None:
        raise StoreCorrupt(
            f"{recipe.slot.asset} of {recipe.slot.owner} vanished while it was published.",
            remedy="See whether something else deletes from the store, then run again.",
        )
    if reused:
        line.meter.found()
    if point:
        line.store.point(artifact)
    require_owner(line, recipe.slot)
    seconds = earlier + line.stopwatch() - start
    price = line.price_per_hour
    result = StageResult(artifact, reused, seconds, cost_of(seconds, price) + bill)
    collection, owner, asset = recipe.slot.parts
    line.ledger.record(
        artifact,
        Timing(
            collection=collection,
            owner=owner,
            asset=asset,
            key=artifact.key,
            run_id=line.run_id,
            reused=reused,
            seconds=round(seconds, 3),
            price_per_hour=price,
            cost=result.cost,
            started_at=started_at,
        ),
    )
    return result


@contextmanager
def _checkpoints(line: Line, recipe: Recipe) -> Iterator[Checkpoints]:
    """Give the place for chunks; a store far away gets them when the line's cadence says so, or a notice came."""
    store = line.store.checkpoints(recipe.slot, recipe.key)
    if line.store.is_local or line.cadence.every_chunk:
        yield store
        return
    buffered = BufferedCheckpoints(
        store,
        line.store.scratch.joinpath(CHECKPOINTS, *recipe.slot.parts, recipe.key, "waiting"),
        due=lambda: line.guard.notice is not None or line.cadence.due(),
        saved=line.cadence.saved,
    )
    try:
        yield buffered
    except BaseException:
        buffered.flush()
        raise


def require_owner(line: Line, slot: Slot) -> None:
    """Check that the avatar of a slot is there and its consent not taken back; else keep nothing of the person.

    Whoever has just published something calls this afterwards: what was deleted before is deleted again.

    Raises:
        NotFound: the avatar was removed meanwhile.
        ConsentRevoked: the consent was taken back meanwhile.
    """
    collection, owner, asset = slot.parts
    if collection != "avatars":
        return
    try:
        avatar = line.ledger.avatar(owner)
        line.consents.require_not_revoked(avatar.consent.consent_id)
    except ConsentRevoked:
        line.store.delete_owner(collection, owner)
        raise
    except NotFound as error:
        line.store.delete_owner(collection, owner)
        raise NotFound(
            f"Avatar {owner} was removed while its {asset} was made.", remedy="Nothing of it was kept."
        ) from error
