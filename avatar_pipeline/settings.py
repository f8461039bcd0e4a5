"""The one reader of the environment. Everything that may differ between two machines is a field here."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path

from pydantic import Field, SecretStr, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from avatar_pipeline.errors import InvalidInput
from avatar_pipeline.media.types import MediaLimits


class InvalidSettings(InvalidInput):
    """An environment variable holds a value that cannot be used."""

    code = "invalid_settings"


class Settings(BaseSettings):
    """Settings of the engine, read from `AVATAR_*` environment variables.

    `home` holds all local state: the artifact store, the ledger, caches, and (where DAGSTER_HOME is unset) Dagster's
    own storage. `store` is a folder or an `s3://bucket/prefix` URI; `ledger_url` an SQLAlchemy URL, secret since it may
    carry a password. Both default to places under `home`.
    """

    model_config = SettingsConfigDict(env_prefix="AVATAR_", frozen=True, extra="ignore")

    home: Path = Path(".dagster")
    store: str | None = None
    ledger_url: SecretStr | None = None

    face_landmarker_model: Path | None = None
    """A MediaPipe `face_landmarker.task` bundle; unset, the face mesh inside the MediaPipe wheel is used."""
    face_landmarker_sha256: str = Field(
        # float16 bundle v1, as published by Google; half of the copies in circulation are something else.
        default="64184e229b263107bc2b804c6625db1341ff2bb731874b0bcc2fe6544e0bc9ff",
        pattern=r"^[0-9a-f]{64}$",
    )

    workers: int = Field(default=2, ge=1, le=64)
    """Chunks of landmarks tracked at once, in threads."""
    batch_size: int = Field(default=50, ge=1, le=1000)
    """Most clip requests in one batch."""

    max_upload_bytes: int = Field(default=2 * 1024**3, gt=0)
    max_upload_seconds: float = Field(default=600.0, gt=0)

    worker_price_per_hour: Decimal = Field(default=Decimal("0.526"), ge=0)
    """US dollars. The default is a g4dn.xlarge, on demand, us-east-1, 2026-07-20."""

    dagster_home: Path | None = Field(default=None, validation_alias="DAGSTER_HOME")
    """Dagster's own variable; unset, Dagster's state is under `home` too."""

    @property
    def store_uri(self) -> str:
        """Where artifacts live."""
        return self.store or str(self.home.absolute() / "store")

    @property
    def ledger(self) -> SecretStr:
        """SQLAlchemy URL of the ledger."""
        return self.ledger_url or SecretStr(f"sqlite:///{self.home.absolute() / 'ledger.db'}")

    @property
    def scratch(self) -> Path:
        """Local folder for temporary files and copies of remote artifacts."""
        return self.home.absolute() / "scratch"

    @property
    def limits(self) -> MediaLimits:
        """Limits for uploads."""
        return MediaLimits(max_bytes=self.max_upload_bytes, max_seconds=self.max_upload_seconds)


def read_settings() -> Settings:
    """Read the settings from the environment, now.

    Raises:
        InvalidSettings: a variable has a value out of range; the message names it, never its value.
    """
    try:
        return Settings()
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False, include_context=False)[0]
        name = "AVATAR_" + "_".join(str(part) for part in first["loc"]).upper()
        raise InvalidSettings(f"{name} cannot be used: {first['msg']}.", remedy="See docs/settings.md.") from error
