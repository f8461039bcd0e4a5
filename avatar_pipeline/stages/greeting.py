"""greeting_clip: the first clip of an avatar; when it passes its checks, the avatar is ready."""

from __future__ import annotations

from avatar_pipeline.stages.avatar_requests import finish_requests
from avatar_pipeline.stages.checks import Verdict, clip_verdicts
from avatar_pipeline.stages.clips import make_clip
from avatar_pipeline.stages.line import Line, StageResult, require_owner

CONSENTED = Verdict("consent_in_force", True, "The consent covers likeness and voice at this moment.")


def make_greeting(line: Line, avatar_id: str) -> StageResult:
    """Render the avatar's greeting, and mark the avatar ready if the clip passes its checks.

    Raises:
        ConsentMissing: the consent is no longer in force.
    """
    avatar = line.ledger.avatar(avatar_id)
    result = make_clip(line, avatar_id, avatar.greeting, asset="greeting_clip")
    if all(verdict.passed for verdict in clip_verdicts(result.facts)):
        # A consent that was taken back while the clip was made has failed the avatar, and that is to stay.
        require_owner(line, result.artifact.slot)
        line.ledger.set_avatar_state(avatar_id, "ready")
        artifact = result.artifact
        finish_requests(line, avatar_id, key=artifact.key, uri=f"{artifact.uri}/clip.mp4")
    return result
