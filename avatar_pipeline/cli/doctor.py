"""`avatar doctor`: what this machine has and lacks, each finding with its remedy."""

from __future__ import annotations

import hashlib
import importlib.metadata
import platform
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

from avatar_pipeline.cli.prices import prices_finding
from avatar_pipeline.clock import utc_now
from avatar_pipeline.errors import AvatarError, EnvironmentProblem, package_missing
from avatar_pipeline.settings import Settings, read_settings

if TYPE_CHECKING:
    from avatar_pipeline.queues.open import Queues

_PACKAGES = ("dagster", "torch", "mediapipe", "av", "moderngl", "numpy", "pandas")
_ENGINE = 'Install the worker\'s packages: pip install "avatar-pipeline[engine,local-voice]".'


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing looked at. One that is well may still have a remedy: it is worth a look."""

    name: str
    ok: bool
    told: str
    remedy: str = ""

    @property
    def mark(self) -> tuple[str, str]:
        """The word that it is listed under, and that word's colour."""
        if not self.ok:
            return "problem", "red"
        return ("note", "yellow") if self.remedy else ("ok", "green")

    def as_dict(self) -> dict[str, str | bool]:
        """Return the finding for `--json`."""
        return {"name": self.name, "ok": self.ok, "told": self.told, "remedy": self.remedy}


@dataclass(frozen=True, slots=True)
class Noted:
    """What is no fault, and is to be looked at all the same."""

    told: str
    remedy: str


def examine() -> list[Finding]:
    """Look at everything the pipeline needs; nothing is changed but that missing folders are made."""
    try:
        settings = read_settings()
    except AvatarError as error:
        return [Finding("settings", False, error.message, error.remedy)]
    findings = [Finding("python", True, platform.python_version()), *_packages()]
    looks: tuple[tuple[str, Callable[[Settings], str | Noted]], ...] = (
        ("gpu", _gpu),
        ("opengl", _opengl),
        ("face model", _face_model),
        ("shipped data", _shipped_data),
        ("store", _store),
        ("ledger", _ledger),
        ("queues", look_at_queues),
        ("dead letters", look_at_dead_letters),
        ("callbacks", look_at_callbacks),
        ("voice provider", _voice),
        ("content credentials", look_at_credentials),
        ("budgets", look_at_budgets),
        ("prices", prices_finding),
    )
    return findings + [_look(name, look, settings) for name, look in looks]


def _look(name: str, look: Callable[[Settings], str | Noted], settings: Settings) -> Finding:
    try:
        found = look(settings)
        return Finding(name, True, *((found.told, found.remedy) if isinstance(found, Noted) else (found,)))
    except AvatarError as error:
        return Finding(name, False, error.message, error.remedy)
    except ImportError as error:
        problem = package_missing(error)
        return Finding(name, False, problem.message, problem.remedy)


def _packages() -> Iterator[Finding]:
    for package in _PACKAGES:
        try:
            yield Finding(package, True, importlib.metadata.version(package))
        except importlib.metadata.PackageNotFoundError:
            yield Finding(package, False, "not installed", _ENGINE)


def _gpu(_: Settings) -> str:
    import torch

    if not torch.cuda.is_available():
        return "none; everything runs on the CPU"
    return ", ".join(torch.cuda.get_device_name(number) for number in range(torch.cuda.device_count()))


def _opengl(_: Settings) -> str:
    from avatar_pipeline.render.renderer import create_context

    context = create_context()
    try:
        return str(context.info["GL_RENDERER"])
    finally:
        context.release()


def _face_model(settings: Settings) -> str:
    from avatar_pipeline.stages.landmarks import configured_detector

    detector = configured_detector(settings)
    return f"{detector.name} {detector.version}, {settings.face_landmarker_model or 'in the MediaPipe wheel'}"


def _shipped_data(_: Settings) -> str:
    from importlib.resources import files

    found = sorted(files("avatar_pipeline.mesh").joinpath("data").iterdir(), key=lambda entry: entry.name)
    hashes = [
        f"{entry.name} {hashlib.sha256(entry.read_bytes()).hexdigest()[:12]}" for entry in found if entry.is_file()
    ]
    if not hashes:
        raise EnvironmentProblem(
            "The blendshape prior and the topology are missing.", remedy="Install the package again."
        )
    return ", ".join(hashes)


def _store(settings: Settings) -> str:
    from avatar_pipeline.store.artifacts import ArtifactStore, Recipe, Slot

    try:
        store = ArtifactStore(settings.store_uri, settings.scratch)
        recipe = Recipe(Slot("doctor", "probe", "probe"), "1", {}, {})
        with store.create(recipe) as draft:
            (draft.folder / "probe").write_bytes(b"probe")
        found = store.find(recipe.slot, recipe.key)
        store.delete_owner("doctor", "probe")
    except (OSError, ImportError) as error:
        raise EnvironmentProblem(
            f"{settings.store_uri} cannot be written: {error}.", remedy="Check AVATAR_STORE and its credentials."
        ) from error
    if found is None:
        raise EnvironmentProblem(
            f"{settings.store_uri} does not give back what was written.", remedy="Check AVATAR_STORE."
        )
    return f"{settings.store_uri} can be written and read"


def _ledger(settings: Settings) -> str:
    from avatar_pipeline.ledger.ledger import Ledger

    ledger = Ledger(settings.ledger.get_secret_value())
    count = len(ledger.avatars())
    place = ledger.engine.url.render_as_string(hide_password=True)
    ledger.close()
    return f"{place}, {count} avatars"


@contextmanager
def _open_queues(settings: Settings) -> Iterator[Queues]:
    from avatar_pipeline.ledger.ledger import Ledger
    from avatar_pipeline.queues.open import open_queues

    ledger = Ledger(settings.ledger.get_secret_value())
    try:
        yield open_queues(settings, ledger.engine)
    finally:
        ledger.close()


def look_at_credentials(settings: Settings) -> str | Noted:
    """Say whose certificate signs clips, and until when it may."""
    import c2pa

    from avatar_pipeline.provenance.certificate import open_credentials

    now = utc_now()
    if settings.c2pa_certificate is None and settings.c2pa_private_key is None:
        return Noted(
            f"c2pa {c2pa.sdk_version()}, signed with a test certificate that nobody trusts",
            "For production set AVATAR_C2PA_CERTIFICATE and AVATAR_C2PA_PRIVATE_KEY, see docs/provenance.md.",
        )
    credentials = open_credentials(settings, now)
    told = f"c2pa {c2pa.sdk_version()}, {credentials.algorithm}, until {credentials.ends_at:%Y-%m-%d}"
    if credentials.ends_at - now < timedelta(days=30):
        return Noted(told, "Renew the certificate: nothing is published unsigned.")
    return told


def look_at_queues(settings: Settings) -> str:
    """Say how many messages the queues hold, and so whether they can be reached at all."""
    with _open_queues(settings) as queues:
        depths = [(queue.name, queue.depth().total) for queue in (queues.avatars, queues.clips)]
    return f"{settings.queue}: " + ", ".join(f"{count:,} messages in {name}" for name, count in depths)


def look_at_dead_letters(settings: Settings) -> str | Noted:
    """Say how many dead letters there are; any is worth a look, and none is this machine's fault."""
    with _open_queues(settings) as queues:
        dead = [(queue.name, queue.dead) for queue in (queues.avatars, queues.clips)]
        missing = [name for name, letters in dead if letters is None]
        counts = [(letters.name, letters.depth().total) for _, letters in dead if letters is not None]
    if missing:
        raise EnvironmentProblem(
            f"{', '.join(missing)} has no dead-letter queue.", remedy="Run avatar queue create, or attach one to it."
        )
    told = ", ".join(f"{count:,} in {name}" for name, count in counts if count)
    if told:
        return Noted(told, "See why with avatar queue dlq; put them back with avatar queue redrive.")
    return "none"


def look_at_callbacks(settings: Settings) -> str | Noted:
    """Say whether callbacks are sent, signed, and kept out of private networks."""
    if not settings.callbacks:
        return "off (AVATAR_CALLBACKS)"
    from avatar_pipeline.callbacks.signing import Signer

    Signer(settings)
    if settings.callback_private_addresses:
        return Noted(
            "on, to private addresses too",
            "Unset AVATAR_CALLBACK_PRIVATE_ADDRESSES unless you trust all who send requests.",
        )
    return "on, signed, to public addresses only"


def look_at_budgets(settings: Settings) -> str | Noted:
    """Say how many limits there are; a file that cannot be used stops everything."""
    from avatar_pipeline.budget.config import load_plan

    plan = load_plan(settings.budgets)
    if not plan.rules:
        return Noted("nothing is limited; what is spent is written down", "To limit it, see docs/budget.md.")
    return f"{len(plan.rules)} limits in {settings.budgets}, days in {plan.timezone}"


def _voice(_: Settings) -> str:
    from avatar_pipeline.voice.local import LocalVoiceProvider
    from avatar_pipeline.voice.provider import say_one

    provider = LocalVoiceProvider()
    voice = provider.create_voice(None, None, language="en")
    speech = say_one(provider, voice, "Hello.")
    return f"{provider.name} spoke {speech.audio.seconds:.2f} s"
