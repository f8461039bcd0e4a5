"""The till: credits are put aside before a call, paid once after it, and what may have been paid is looked up."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from functools import partial
from itertools import islice, takewhile
from types import EllipsisType

from avatar_pipeline.clock import Clock
from avatar_pipeline.errors import Conflict, QuotaExhausted
from avatar_pipeline.voice.elevenlabs.answers import HistoryItem, Subscription
from avatar_pipeline.voice.elevenlabs.door import Door
from avatar_pipeline.voice.elevenlabs.patience import Patience
from avatar_pipeline.voice.elevenlabs.ports import NAME, Charge, ChargeBook

_FRESH = timedelta(seconds=10)
_SKEW = timedelta(seconds=60)
"""How far the provider's clock may be behind ours."""
_LATEST = timedelta(minutes=10)
"""How long after the time for a call is over its outcome may still come into the history."""
_MOST_LOOKED_AT = 20_000


@dataclass(frozen=True, slots=True)
class Call:
    """A call that was made and may have been billed: what by, and when."""

    voice_id: str | None
    voice_name: str
    model: str
    text: str
    at: datetime

    def made(self, item: HistoryItem) -> bool:
        """Whether that is what the call made. A voice that was parked since has another id, and the same name."""
        voice = (self.voice_id is not None and item.voice_id == self.voice_id) or item.voice_name == self.voice_name
        return voice and item.text == self.text and item.model_id in (self.model, None)


class Till:
    """Charges of the ledger for one account, and what the account has left.

    The subscription is asked for once, and again after ten seconds where a charge would not fit: what other workers
    settle in between is known from the ledger.
    """

    def __init__(self, door: Door, charges: ChargeBook, patience: Patience, *, clock: Clock) -> None:
        self._door = door
        self._charges = charges
        self._patience = patience
        self._clock = clock
        self._lock = threading.Lock()
        self._seen: tuple[datetime, Subscription] | None = None
        self._claims = threading.Lock()

    def subscription(self, *, older_than: timedelta | None = None) -> tuple[datetime, Subscription]:
        """Return what the account has left, and when that was true; asked anew if it is older than that.

        Raises:
            ProviderFailure: it cannot be asked.
        """
        with self._lock:
            now = self._clock()
            if self._seen is None or (older_than is not None and now - self._seen[0] >= older_than):
                self._seen = (now, self._patience.read(self._door.subscription))
            return self._seen

    def forget(self) -> None:
        """Ask anew next time: what we know proved wrong."""
        with self._lock:
            self._seen = None

    def resets_at(self) -> datetime | None:
        """Return when the credits are renewed, None if it does not say.

        Raises:
            ProviderFailure: it cannot be asked.
        """
        return self.subscription(older_than=_FRESH)[1].resets_at

    def reserve(self, item_key: str, credits: Decimal, *, tenant: str, reservation: str | None = None) -> Charge:
        """Put credits aside; see `Charges.reserve`.

        Raises:
            QuotaExhausted: the account has not so many left; says until when. Nothing is sent then.
            BudgetHold: the budget's `reservation` has not so many left, and gets no more. Nothing is sent then.
            ProviderFailure: the account cannot be asked what it has left.
        """
        try:
            return self._reserve(item_key, credits, tenant, reservation, self.subscription())
        except QuotaExhausted:
            seen = self.subscription(older_than=_FRESH)
        try:
            return self._reserve(item_key, credits, tenant, reservation, seen)
        except QuotaExhausted as error:
            raise QuotaExhausted(error.message, remedy=error.remedy, resets_at=seen[1].resets_at) from None

    def _reserve(
        self,
        item_key: str,
        credits: Decimal,
        tenant: str,
        reservation: str | None,
        seen: tuple[datetime, Subscription],
    ) -> Charge:
        at, account = seen
        return self._charges.reserve(
            NAME,
            item_key,
            credits,
            tenant=tenant,
            available=account.credits_left,
            available_at=at,
            reservation=reservation,
        )

    def known(self, item_key: str) -> Charge | None:
        """Return a charge, None if there is none."""
        return self._charges.get(NAME, item_key)

    def sent(self, item_key: str) -> bool:
        """Note that the call is about to be made: from here on it may be billed. False if it is not ours to make."""
        try:
            return self._charges.sent(NAME, item_key)
        except Conflict:
            # Another worker with the same reservation has settled it meanwhile, or gave it up.
            return False

    def settle(self, item_key: str, credits: Decimal, request_id: str | None) -> bool:
        """Note what a call cost; true for the one time that did."""
        return self._charges.settle(NAME, item_key, credits, request_id=request_id)

    def release(self, item_key: str, *, sent_at: datetime | EllipsisType | None = ...) -> None:
        """Note that nothing was billed; with `sent_at` only if it was sent then (None: not sent yet)."""
        self._charges.release(NAME, item_key, sent_at=sent_at)

    def claim(self, item_key: str, call: Call) -> HistoryItem | None:
        """Find what a call whose outcome is unknown came to, and settle it with that; None if the history has nothing.

        An item that is another call's (settled under its request) is not taken for this one's.

        Raises:
            ProviderFailure: the history cannot be read.
        """
        with self._claims:
            for item in self._around(call):
                name = item.request_id or item.item_id
                if call.made(item) and self._charges.of_request(NAME, name) is None:
                    self.settle(item_key, Decimal(item.credits), name)
                    return item
        return None

    def paid_for(self, charge: Charge, call: Call) -> HistoryItem | None:
        """Find in the history what a settled charge paid for; None if it is not there.

        Raises:
            ProviderFailure: the history cannot be read.
        """
        if charge.request_id is None:
            return None
        names = {charge.request_id}
        return next((item for item in self._around(call) if names & {item.request_id, item.item_id}), None)

    def forget_spoken(self, request_id: str) -> None:
        """Delete what a call of just now spoke from the history.

        Raises:
            ProviderFailure: the history cannot be read, or not be changed.
        """
        since = self._clock() - timedelta(seconds=self._door.timeout) - _SKEW
        for item in self._patience.read(lambda: list(self._door.history(since=since))):
            if item.request_id == request_id:
                self._patience.read(partial(self._door.forget, item))

    def _around(self, call: Call) -> list[HistoryItem]:
        """Return what was spoken from the time of the call on, oldest first, as far as it may be the call's."""
        until = call.at + timedelta(seconds=self._door.timeout) + _LATEST
        return self._patience.read(
            lambda: list(
                islice(
                    takewhile(lambda item: item.at <= until, self._door.history(since=call.at - _SKEW)),
                    _MOST_LOOKED_AT,
                )
            )
        )
