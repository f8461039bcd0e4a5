"""Consent: in force or not, for this scope, now; and files that are no consent."""

import hashlib
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from avatar_pipeline.consent import ConsentRecord, read_consent, recording_beside
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


def test_a_record_without_a_recording_has_the_hash_that_it_always_had() -> None:
    """It is in the keys of the voices that were made before recordings could be named."""
    assert consent().sha256 == "3d1077d31b4079dbcdb54041499f24a00f16db280310cb94168628ccc3221852"


def with_recording(folder: Path, content: bytes = b"I agree.", name: str = "i-agree.wav") -> ConsentRecord:
    (folder / name).write_bytes(content)
    return consent(recording=name, evidence_sha256=hashlib.sha256(content).hexdigest())


def test_a_recording_is_found_beside_the_consent(tmp_path: Path) -> None:
    record = with_recording(tmp_path)
    assert recording_beside(tmp_path / "consent.json", record) == tmp_path / "i-agree.wav"
    assert recording_beside(tmp_path / "consent.json", consent()) is None
    assert record.sha256 != consent(evidence_sha256=record.evidence_sha256).sha256


@pytest.mark.parametrize("name", ["../i-agree.wav", "a/b.wav", "/etc/passwd", ".hidden", "a\\b", "", "a b", "ä.wav"])
def test_a_recording_cannot_lie_anywhere_else(name: str, tmp_path: Path) -> None:
    path = tmp_path / "consent.json"
    record = with_recording(tmp_path)
    path.write_text(record.model_dump_json().replace("i-agree.wav", name))
    with pytest.raises(ConsentMissing, match=r"recording|JSON"):
        read_consent(path)


def test_a_recording_that_is_not_the_one_is_told(tmp_path: Path) -> None:
    path = tmp_path / "consent.json"
    record = with_recording(tmp_path)
    (tmp_path / "i-agree.wav").write_bytes(b"I do not agree.")
    with pytest.raises(ConsentMissing, match="does not match evidence_sha256"):
        recording_beside(path, record)
    (tmp_path / "i-agree.wav").unlink()
    with pytest.raises(ConsentMissing, match="is not there"):
        recording_beside(path, record)
    (tmp_path / "elsewhere").write_bytes(b"I agree.")
    (tmp_path / "i-agree.wav").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ConsentMissing, match="is not there, or is no file"):
        recording_beside(path, record)


def test_a_recording_needs_a_hash(tmp_path: Path) -> None:
    path = tmp_path / "consent.json"
    path.write_text(consent().model_dump_json().replace('"recording":null', '"recording":"a.wav"'))
    with pytest.raises(ConsentMissing, match="evidence_sha256"):
        read_consent(path)
