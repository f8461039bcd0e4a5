"""What work may cost at most: learnt from what was made before, at the on-demand price, before anything is spent."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from decimal import Decimal

from avatar_pipeline.budget.config import Plan
from avatar_pipeline.budget.estimate import estimate
from avatar_pipeline.budget.types import MICRO, Amounts, Sample
from avatar_pipeline.ledger.messages import ClipRequest
from avatar_pipeline.ledger.purse import CLIP
from avatar_pipeline.ledger.spend import SpendBook
from avatar_pipeline.settings import Settings
from avatar_pipeline.spot.catalog import PriceBook
from avatar_pipeline.spot.offerings import suitable
from avatar_pipeline.spot.profiles import DEFAULT_PROFILES
from avatar_pipeline.spot.types import CapacityType

GPU_WORK = frozenset({CLIP, "rendered_clips", "greeting_clip"})
"""What runs on a GPU machine where steps are Jobs. A clip's speech does not; it is the smaller part."""
_FRESH_SECONDS = 30.0
_DEARER = 2
"""On-demand machines that cost more than so many times the cheapest are only taken when all others are gone."""
_HALF_PRICE = ("flash", "turbo")
"""Models that cost half a credit a character. https://elevenlabs.io/docs/overview/models"""
_DIGIT = 12
"""Characters that a digit may become when it is spelled out: `7` in 70,000 is `seventy thousand`."""
ELEVENLABS = "elevenlabs"


class Estimator:
    """Upper estimates for one process; what was learnt is looked up again every half a minute."""

    def __init__(
        self,
        spend: SpendBook,
        plan: Plan,
        settings: Settings,
        prices: Callable[[], PriceBook],
        *,
        stopwatch: Callable[[], float] = time.monotonic,
    ) -> None:
        self._spend = spend
        self._plan = plan
        self._settings = settings
        self._prices = prices
        self._stopwatch = stopwatch
        self._learnt: dict[str, tuple[float, list[Sample]]] = {}

    def __call__(self, request: ClipRequest, voice: str) -> tuple[str, Amounts]:
        """Estimate a clip, spoken by an avatar whose voice is `voice`: who charges for speech, and the amounts."""
        provider, speech = self.speech(request.text, voice)
        return provider, self.work(CLIP, Decimal(max(1, len(request.text))), speech)

    def speech(self, text: str, voice: str) -> tuple[str, Amounts]:
        """Return who charges for speaking a text (empty: nobody), and at most how much.

        Whose voice it is follows from the settings; a voice that was made under others pays what it costs all the same.
        """
        if not (voice.startswith("enrol:") and self._settings.voice_provider == ELEVENLABS):
            return "", Amounts()
        length = len(text) + _DIGIT * sum(character.isdigit() for character in text)
        half = any(name in self._settings.elevenlabs_model for name in _HALF_PRICE)
        characters = Decimal(length) / 2 if half else Decimal(length)
        characters = characters.to_integral_value(rounding="ROUND_CEILING")
        usd = characters * self._settings.elevenlabs_price_per_1000_credits / 1000
        return ELEVENLABS, Amounts(provider=usd.quantize(MICRO, "ROUND_CEILING"), characters=characters)

    def work(self, purpose: str, units: Decimal, speech: Amounts | None = None) -> Amounts:
        """Estimate work of a purpose: machines for `units` of it, and the speech in it."""
        return estimate(
            self._samples(purpose),
            units,
            price_per_hour=self.price(purpose),
            plan=self._plan if self._on_spot(purpose) else replace(self._plan, cold_start_seconds=0),
            purpose=purpose,
            provider=speech or Amounts(),
        )

    def price(self, purpose: str) -> Decimal:
        """Return the on-demand price that work of a purpose is reserved at, US dollars an hour.

        Where GPU steps are Jobs: the dearest machine within twice the cheapest that suits; what is dearer still is
        taken only when all of these are gone, and then the work asks for more while it runs.
        """
        if not self._on_spot(purpose):
            return self._settings.worker_price_per_hour.quantize(MICRO)
        prices = self._prices()
        offers = suitable(DEFAULT_PROFILES["gpu-small"], CapacityType.ON_DEMAND, prices=prices)
        known = sorted(prices.per_hour(offer) for offer in offers)
        return max(price for price in known if price <= _DEARER * known[0])

    def _on_spot(self, purpose: str) -> bool:
        return self._settings.executor == "k8s_spot" and purpose in GPU_WORK

    def _samples(self, purpose: str) -> list[Sample]:
        now = self._stopwatch()
        at, known = self._learnt.get(purpose, (-_FRESH_SECONDS, []))
        if now - at >= _FRESH_SECONDS or not known:
            known = self._spend.samples(purpose)
            self._learnt[purpose] = now, known
        return known
