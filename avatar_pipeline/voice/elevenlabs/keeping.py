"""Audio into the cache, unless it must not be kept any more."""

from __future__ import annotations

from avatar_pipeline.errors import AvatarError
from avatar_pipeline.voice.elevenlabs.cache import SpeechCache, Take
from avatar_pipeline.voice.elevenlabs.wanted import Order


def keep(cache: SpeechCache, order: Order, take: Take) -> None:
    """Keep a take; when this returns it is on disk.

    A consent may be revoked, and all that is kept deleted, while the provider speaks. So it is asked for after the take
    is there: either the revocation came before, and is seen here, or it comes after, and deletes this too.

    Raises:
        AvatarError: it must not be kept. Nothing of that voice is.
    """
    cache.put(order.voice_key, order.address, take)
    try:
        order.permit()
    except AvatarError:
        if order.voice_id is None:
            cache.remove_voice(order.voice_key)
        raise
