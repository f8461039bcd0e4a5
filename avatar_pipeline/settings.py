"""The one reader of the environment. Everything that may differ between two machines is a field here."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path
from typing import Literal

from pydantic import AliasChoices, Field, SecretStr, ValidationError
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

    isolation: Literal["neural", "dsp", "model"] = "neural"
    """What takes the voice out of its noise: our network, the classical estimator, or a model of the user's."""
    isolation_model: Path | None = None
    """The manifest (.json) of the user's model, beside its file; see docs/isolation.md."""
    isolation_device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where the network or the model runs; 'auto' takes a GPU where torch finds one."""

    executor: Literal["in_process", "k8s_spot"] = "in_process"
    """What runs the steps of a run: its own process, or on Kubernetes pods on spot capacity for the GPU steps."""
    spot_strategy: Literal["on_demand", "spot_then_on_demand", "deadline"] = "spot_then_on_demand"
    """How a GPU step's capacity is chosen; only with the `k8s_spot` executor."""
    compute_profiles: Path | None = None
    """YAML or JSON file with compute profiles for GPU steps, beside the built-in ones."""

    workers: int = Field(default=2, ge=1, le=64)
    """Chunks of landmarks tracked at once, in threads."""
    batch_size: int = Field(default=10, ge=1, le=1000)
    """Most clip requests in one batch. A tenant's first clip may have to wait for one batch of another's."""
    max_batch_age_seconds: float = Field(default=10.0, ge=0)
    """How long a clip may wait for company before it makes a batch of its own."""
    max_open_batches: int = Field(default=2, ge=1, le=1000)
    """Most batches at work or waiting for a worker at once."""
    max_open_avatars: int = Field(default=4, ge=1, le=1000)
    """Most avatars being built, or waiting for a worker, at once."""
    backlog_per_worker: int = Field(default=10, ge=1)
    """Requests that one worker is to have before it; what lies above calls for another one."""
    max_attempts: int = Field(default=8, ge=1)
    """How often a request is begun, and a batch or an avatar run, before it is given up."""
    retry_seconds: float = Field(default=15.0, ge=0)
    """Pause before a batch's or an avatar's third run; it doubles with each, up to a quarter of an hour."""
    lost_after_seconds: float = Field(default=60.0, gt=0)
    """A run whose worker gave no sign of life for so long is lost, where Dagster's launcher cannot tell."""
    unknown_avatar_seconds: float = Field(default=600.0, ge=0)
    """How long a clip request may come before its avatar."""
    tenant_weights: dict[str, float] = {}
    """Share of a tenant beside the others', 1 where it is not named; as JSON."""

    queue: Literal["sql", "sqs"] = "sql"
    """Where requests arrive: a table of the ledger's database, or Amazon SQS (region and keys as boto3 finds them)."""
    avatar_queue: str = Field(default="avatar-requests", pattern=r"^[A-Za-z0-9_-]{1,75}$")
    clip_queue: str = Field(default="clip-requests", pattern=r"^[A-Za-z0-9_-]{1,75}$")
    """Names of the queues; the dead-letter queue of each is called the same with `-dead` behind it."""
    sqs_endpoint: str | None = None
    """Another endpoint than Amazon's."""
    max_receives: int = Field(default=5, ge=1, le=1000)
    """A message that was received so often, and never finished, goes to the dead-letter queue."""
    visibility_seconds: float = Field(default=60.0, ge=1, le=43200)
    """How long a received message is hidden from other receivers."""

    uploads: str | None = None
    """Where videos and consents that requests name may lie: a folder or an `s3://bucket/prefix` URI."""

    callbacks: bool = False
    """Whether webhooks are sent at all."""
    callback_secret: SecretStr | None = None
    """Signs webhooks; `whsec_` and base64, as Standard Webhooks has it."""
    callback_private_addresses: bool = False
    """Whether webhooks may go to private, loopback and link-local addresses."""

    keep_batches_days: int = Field(default=14, ge=1)
    """After so many days the partition of a finished batch is taken away; its clips stay."""
    keep_uploads_days: int | None = Field(default=None, ge=0)
    """Days after an avatar is ready until its upload is deleted; unset, never. It cannot be rebuilt after that."""

    c2pa_certificate: Path | None = None
    """PEM chain that signs the content credentials of clips and speech, the signing certificate first; unset, a test
    certificate of this home's own, which nobody trusts."""
    c2pa_private_key: Path | None = None
    """PEM of the private key of that certificate, without a password."""
    c2pa_timestamp_url: str | None = None
    """An RFC 3161 time stamp authority: what was signed stays valid after the certificate's end."""

    max_upload_bytes: int = Field(default=2 * 1024**3, gt=0)
    max_upload_seconds: float = Field(default=600.0, gt=0)

    voice_provider: Literal["local", "elevenlabs"] = "local"
    """Who speaks with the voice of a video: the embedded synthesizer, or ElevenLabs."""
    elevenlabs_api_key: SecretStr | None = Field(
        default=None, validation_alias=AliasChoices("AVATAR_ELEVENLABS_API_KEY", "ELEVENLABS_API_KEY")
    )
    """The key of an ElevenLabs account; the second name is the one that ElevenLabs's own tools read."""
    elevenlabs_residency: Literal["global", "us", "eu", "in", "sg"] = "global"
    """Where ElevenLabs keeps and processes data; all but `global` and `us` need a contract with them."""
    elevenlabs_url: str | None = Field(default=None, pattern=r"^https?://")
    """Another address than ElevenLabs's: a private host, or a stand-in for tests."""
    elevenlabs_model: str = Field(default="eleven_flash_v2_5", pattern=r"^[a-z0-9_]{1,80}$")
    elevenlabs_concurrency: int = Field(default=2, ge=1, le=1000)
    """Calls in flight until ElevenLabs has said how many it allows; 2 is the smallest plan's."""
    elevenlabs_seed: int = Field(default=1, ge=0, le=4294967295)
    elevenlabs_timeout_seconds: float = Field(default=120.0, gt=0)
    """How long one call to ElevenLabs may be silent."""
    elevenlabs_price_per_1000_credits: Decimal = Field(default=Decimal("0.20"), ge=0, le=1000, decimal_places=6)
    """US dollars, for the costs that are shown. The default is the Starter plan's, 2026-09."""

    jaw: float = Field(default=1.0, ge=0.5, le=1.5)
    lips: float = Field(default=1.0, ge=0.5, le=1.5)
    """How far the jaw opens, and the lips move, in speech; lips that are to meet do so in any case."""

    worker_price_per_hour: Decimal = Field(default=Decimal("0.526"), ge=0, le=1000, decimal_places=6)
    """US dollars. The default is a g4dn.xlarge, on demand, us-east-1, 2026-07-20."""

    budgets: Path | None = None
    """YAML or JSON file with what may be spent; see docs/budget.md. Unset, everything is admitted, and written down."""
    price_cap: Decimal = Field(default=Decimal(40), gt=0, le=1000, decimal_places=6)
    """US dollars an hour for a machine whose price nobody knows."""
    price_stale_days: int = Field(default=30, ge=1, le=36500)
    """Prices that are older are reported as stale."""
    price_refresh: bool = False
    """Whether prices are looked up at AWS every day; region and keys as boto3 finds them."""
    region: str = Field(default="us-east-1", pattern=r"^[a-z]{2}(-[a-z]+)+-[0-9]+$")
    """The AWS region whose prices hold."""
    cur: str | None = None
    """AWS cost and usage reports (CSV or Parquet) that spending is compared with: a file, a folder or an s3:// URI."""
    cur_tag: str | None = None
    """Only line items with this tag, `name=value`, are ours; unset, all of the report."""

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
    def uploads_uri(self) -> str:
        """Where the uploads that requests name may lie."""
        return self.uploads or str(self.home.absolute() / "uploads")

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
