"""Names that pods carry, so that a bill, a query or a person can tell whose they are."""

from __future__ import annotations

import hashlib
import re

from avatar_pipeline.spot.types import CapacityType

PREFIX = "avatar-pipeline/"
"""Of every label of ours."""
RUN = f"{PREFIX}run"
STEP = f"{PREFIX}step"
ASSET = f"{PREFIX}asset"
PARTITION = f"{PREFIX}partition"
TENANT = f"{PREFIX}tenant"
CAPACITY_TYPE = f"{PREFIX}capacity-type"
PROFILE = f"{PREFIX}profile"
ATTEMPT = f"{PREFIX}attempt"

LONGEST = 63
"""Characters of a label's value, and of the name in its key."""
_HASH = 8
_NAME = r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,61}[A-Za-z0-9])?"
_DOMAIN = r"[a-z0-9](?:[a-z0-9-]*[a-z0-9])?(?:\.[a-z0-9](?:[a-z0-9-]*[a-z0-9])?)*"
_VALUE = re.compile(rf"(?:{_NAME})?")
_KEY = re.compile(rf"(?:(?P<domain>{_DOMAIN})/)?{_NAME}")
_NOT_ALLOWED = re.compile(r"[^A-Za-z0-9._-]+")


def label_value(text: str) -> str:
    """Return `text` as a label's value: at most 63 of A-Z, a-z, 0-9, '.', '_' and '-', letter or digit at both ends.

    What is not allowed becomes '-'. A text that is cut, or that leaves nothing, ends in 8 digits of its SHA-256, so
    that two of them do not become one. A text that is a value already comes back as it is.
    """
    clean = _NOT_ALLOWED.sub("-", text).strip("._-")
    if len(clean) <= LONGEST and (clean or not text):
        return clean
    digest = hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:_HASH]
    kept = clean[: LONGEST - _HASH - 1].rstrip("._-")
    return f"{kept}-{digest}" if kept else digest


def is_label_value(text: str) -> bool:
    """Say whether Kubernetes takes `text` as the value of a label."""
    return _VALUE.fullmatch(text) is not None


def is_label_key(text: str) -> bool:
    """Say whether Kubernetes takes `text` as the key of a label: `name` or `domain/name`."""
    match = _KEY.fullmatch(text)
    return match is not None and len(match["domain"] or "") <= 253


def step_labels(
    *,
    run_id: str,
    step_key: str,
    capacity_type: CapacityType,
    profile: str,
    attempt: int,
    asset: str | None = None,
    partition: str | None = None,
    tenant: str | None = None,
) -> dict[str, str]:
    """Return the labels of one attempt's Job and pod; what is None has no label."""
    named = {
        RUN: run_id,
        STEP: step_key,
        ASSET: asset,
        PARTITION: partition,
        TENANT: tenant,
        CAPACITY_TYPE: capacity_type.value,
        PROFILE: profile,
        ATTEMPT: str(attempt),
    }
    return {key: label_value(value) for key, value in named.items() if value is not None}
