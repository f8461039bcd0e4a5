"""What the stand-in's account can use: models with their limits and rates, and the voices that everybody has."""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from tests.elevenlabs.rules import STANDARD, TURBO

LANGUAGES = {
    "en": "English",
    "de": "German",
    "fr": "French",
    "es": "Spanish",
    "it": "Italian",
    "pt": "Portuguese",
    "pl": "Polish",
    "nl": "Dutch",
    "hi": "Hindi",
    "ja": "Japanese",
    "zh": "Chinese",
    "ar": "Arabic",
}


@dataclass(frozen=True, slots=True)
class Offer:
    """A model: the longest text, credits for a character, and whose places its calls take."""

    model_id: str
    name: str
    longest_text: int
    credits_per_character: Fraction
    group: str
    speaks: bool = True

    def credits(self, text: str) -> int:
        """Return what a text costs."""
        return math.ceil(len(text) * self.credits_per_character)

    def as_json(self) -> dict[str, Any]:
        """Return it as the API describes it."""
        return {
            "model_id": self.model_id,
            "name": self.name,
            "can_be_finetuned": False,
            "can_do_text_to_speech": self.speaks,
            "can_do_voice_conversion": not self.speaks,
            "can_use_style": True,
            "can_use_speaker_boost": self.group == STANDARD,
            "serves_pro_voices": False,
            "token_cost_factor": 1.0,
            "description": f"{self.name}, as the stand-in plays it.",
            "requires_alpha_access": False,
            "max_characters_request_free_user": 2_500,
            "max_characters_request_subscribed_user": self.longest_text,
            "maximum_text_length_per_request": self.longest_text,
            "languages": [{"language_id": tag, "name": name} for tag, name in LANGUAGES.items()],
            "model_rates": {
                "character_cost_multiplier": float(self.credits_per_character),
                "cost_discount_multiplier": 1.0,
            },
            "concurrency_group": self.group,
        }


_ONE, _HALF = Fraction(1), Fraction(1, 2)
OFFERS = {
    offer.model_id: offer
    for offer in (
        Offer("eleven_multilingual_v2", "Eleven Multilingual v2", 10_000, _ONE, STANDARD),
        Offer("eleven_v3", "Eleven v3", 5_000, _ONE, STANDARD),
        Offer("eleven_flash_v2_5", "Eleven Flash v2.5", 40_000, _HALF, TURBO),
        Offer("eleven_turbo_v2_5", "Eleven Turbo v2.5", 40_000, _HALF, TURBO),
        Offer("eleven_flash_v2", "Eleven Flash v2", 30_000, _HALF, TURBO),
        Offer("eleven_english_sts_v2", "Eleven English v2", 10_000, _ONE, STANDARD, speaks=False),
    )
}
DEFAULT_MODEL = "eleven_multilingual_v2"

PREMADE = {"21m00Tcm4TlvDq8ikWAM": "Rachel", "pNInz6obpgDQGcFmaJgB": "Adam"}
"""Voices of everybody: they take no slot and cannot be deleted."""
