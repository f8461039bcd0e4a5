"""Consents taken back, on SQLite and on PostgreSQL."""

import pytest

from avatar_pipeline.errors import ConsentRevoked
from avatar_pipeline.ledger.consents import ConsentBook
from tests.ledger.desk import CONSENT, NOW, SECOND, Desk


@pytest.fixture
def consents(desk: Desk) -> ConsentBook:
    return ConsentBook(desk.ledger.engine, clock=desk.clock)


def test_a_consent_is_taken_back_once_and_for_good(desk: Desk, consents: ConsentBook) -> None:
    assert consents.revoked_at("consent-1") is None
    consents.require_not_revoked("consent-1")
    assert consents.revoke("consent-1", reason="asked for by the person") == NOW
    desk.now += SECOND
    assert consents.revoke("consent-1", reason="once more") == NOW
    assert consents.revoked_at("consent-1") == NOW
    with pytest.raises(ConsentRevoked, match="refused: consent revoked \\(consent-1\\)"):
        consents.require_not_revoked("consent-1")
    consents.require_not_revoked("consent-2")


def test_a_consent_stays_revoked_when_the_avatar_is_gone(desk: Desk, consents: ConsentBook) -> None:
    consents.revoke(CONSENT.consent_id, reason="")
    desk.ledger.delete_avatar("ada")
    assert consents.revoked_at(CONSENT.consent_id) == NOW
