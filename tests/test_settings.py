"""Settings: read when asked, named when wrong, secret when secret."""

from decimal import Decimal

import pytest

from avatar_pipeline.settings import InvalidSettings, read_settings


def test_defaults_keep_everything_under_home(monkeypatch: pytest.MonkeyPatch, tmp_path) -> None:
    monkeypatch.setenv("AVATAR_HOME", str(tmp_path))
    settings = read_settings()
    assert settings.store_uri == str(tmp_path / "store")
    assert settings.ledger.get_secret_value() == f"sqlite:///{tmp_path}/ledger.db"
    assert settings.worker_price_per_hour == Decimal("0.526")


@pytest.mark.parametrize(
    ("name", "value"),
    [("AVATAR_WORKERS", "0"), ("AVATAR_WORKERS", "many"), ("AVATAR_WORKER_PRICE_PER_HOUR", "-1")],
)
def test_a_bad_value_is_named_and_not_repeated(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(InvalidSettings, match=name) as caught:
        read_settings()
    assert value not in caught.value.message.replace(name, "") or value in {"0", "-1"}


def test_the_ledger_password_is_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AVATAR_LEDGER_URL", "postgresql://user:hunter2@host/db")
    assert "hunter2" not in repr(read_settings())
