"""Consent: in force or not, for this scope, now; and files that are no consent."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from avatar_pipeline.consent import ConsentRecord, read_consent
from avatar_pipeline.errors import ConsentMissing

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)


def consent(**changes) -> ConsentRecord:
    values = {
        "consent_id": "consent-1",
        "subject": "A person",
        "statement": "I agree that my likeness and voice are used.",
        "statement_version": "1",
        "scope": {"likeness", "voice"},
        "given_at": NOW,
    }
    return ConsentRecord.model_validate(values | changes)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"scope": {"likeness"}}, "does not cover voice"),
        ({"given_at": NOW + timedelta(days=1)}, "in the future"),
        ({"expires_at": NOW}, "expired"),
        ({"revoked_at": NOW}, "revoked"),
    ],
)
def test_a_consent_that_does_not_hold_says_why(changes: dict, reason: str) -> None:
    with pytest.raises(ConsentMissing, match=reason):
        consent(**changes).require("voice", NOW)


@given(st.integers(-10, 10), st.integers(-10, 10), st.integers(-10, 10))
def test_a_consent_holds_from_its_date_until_it_ends(given: int, expires: int, revoked: int) -> None:
    days = {name: NOW + timedelta(days=d) for name, d in (("expires_at", expires), ("revoked_at", revoked))}
    record = consent(given_at=NOW + timedelta(days=given), **days)
    holds = given <= 0 and expires > 0 and revoked > 0
    try:
        record.require("voice", NOW)
    except ConsentMissing:
        assert not holds
    else:
        assert holds


def test_the_hash_does_not_depend_on_the_order_of_the_scope() -> None:
    assert consent(scope=["voice", "likeness"]).sha256 == consent(scope=["likeness", "voice"]).sha256
    assert consent().sha256 != consent(subject="Another").sha256


def test_a_file_round_trips(tmp_path: Path) -> None:
    path = tmp_path / "consent.json"
    path.write_text(consent().model_dump_json())
    assert read_consent(path) == consent()


@pytest.mark.parametrize(
    ("content", "named"),
    [
        ("", "JSON"),
        ("{}", "consent_id"),
        ('{"expires": "tomorrow"}', "consent_id"),
        ("x" * 70_000, "64 KiB"),
    ],
)
def test_a_file_that_is_no_consent_names_what_is_wrong(tmp_path: Path, content: str, named: str) -> None:
    path = tmp_path / "consent.json"
    path.write_text(content)
    with pytest.raises(ConsentMissing, match=named):
        read_consent(path)


def test_a_misspelt_field_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "consent.json"
    path.write_text(consent().model_dump_json().replace("expires_at", "expiry"))
    with pytest.raises(ConsentMissing, match="expiry"):
        read_consent(path)


def test_a_missing_file_and_a_time_without_zone_are_told(tmp_path: Path) -> None:
    with pytest.raises(ConsentMissing, match="not there"):
        read_consent(tmp_path / "none.json")
    path = tmp_path / "consent.json"
    path.write_text(consent().model_dump_json().replace("2026-03-01T12:00:00Z", "2026-03-01T12:00:00"))
    with pytest.raises(ConsentMissing, match="given_at"):
        read_consent(path)
