"""How long finished clips are. The ledger does not know; each clip's own manifest in the store does."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal

from avatar_pipeline.budget.types import NONE
from avatar_pipeline.ledger.costs import DoneClip
from avatar_pipeline.preview.cost_figures import Minutes
from avatar_pipeline.store.artifacts import ArtifactStore, Slot

MOST = 1000
"""Clips that are looked up at most: of more, a sample, which is no request's to choose."""
_AT_ONCE = 16
"""Manifests asked for at once in a bucket."""


def finished_minutes(store: ArtifactStore, clips: Sequence[DoneClip], *, most: int = MOST) -> Minutes:
    """Look up how long clips are, all of them or a sample of `most`, and what those cost.

    The sample follows from the requests' ids, so that it is the same as often as it is taken. Clips that are not there
    any more, or damaged, are left out, with their cost.
    """
    chosen = sorted(clips, key=lambda clip: hashlib.sha256(clip.request_id.encode()).digest())[:most]

    def seconds(clip: DoneClip) -> Decimal | None:
        artifact = store.find(Slot.avatar(clip.avatar_id, "clips"), clip.clip_key) if clip.clip_key else None
        found = artifact.facts.get("seconds") if artifact is not None else None
        return Decimal(repr(found)) if isinstance(found, int | float) else None

    if store.is_local:
        lengths = [seconds(clip) for clip in chosen]
    else:
        with ThreadPoolExecutor(_AT_ONCE) as pool:
            lengths = list(pool.map(seconds, chosen))
    known = [(clip.cost, length) for clip, length in zip(chosen, lengths, strict=True) if length is not None]
    return Minutes(
        clips=len(clips),
        known=len(known),
        seconds=sum((length for _, length in known), NONE),
        cost=sum((cost for cost, _ in known), NONE),
    )
