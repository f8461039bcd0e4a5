"""Ids are slugs: they name folders, partitions, pods and URLs, so nothing else may pass."""

from __future__ import annotations

import re

from avatar_pipeline.errors import InvalidId

_SLUG = re.compile(r"[a-z0-9][a-z0-9-]{1,62}")


def require_slug(value: str, what: str = "id") -> str:
    """Return `value` if it is a slug (2 to 63 of a-z, 0-9 and '-', not starting with '-').

    Raises:
        InvalidId: it is not; `what` names the field in the message.
    """
    if not _SLUG.fullmatch(value):
        raise InvalidId(
            f"{what} {value[:80]!r} is not a valid id.",
            remedy="Use 2 to 63 characters of a-z, 0-9 and '-', starting with a letter or a digit.",
        )
    return value
