"""The one place that knows ElevenLabs's SDK: calls in, plain data out, every failure classified.

The SDK retries twice by itself, billed calls too, and on a retry of an upload it forgets the fields beside the file.
Here nothing is retried: who calls knows what a second time would cost.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime
from decimal import Decimal
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any, Literal, TypeVar, cast

from pydantic import SecretStr

from avatar_pipeline.errors import package_missing
from avatar_pipeline.voice.elevenlabs.answers import (
    OUTPUT_FORMAT,
    Alignment,
    HistoryItem,
    Model,
    RemoteVoice,
    Reply,
    Subscription,
)
from avatar_pipeline.voice.elevenlabs.failures import Failure, Kind, ProviderFailure
from avatar_pipeline.voice.elevenlabs.reading import (
    alignment_of,
    as_pcm,
    failure_of,
    item_of,
    lower,
    model_of,
    number,
    remote_of,
    time_of,
    wav,
)

if TYPE_CHECKING:
    from elevenlabs.client import ElevenLabs


Residency = Literal["global", "us", "eu", "in", "sg"]
CONNECT_SECONDS = 10.0
PAGE = 100
HISTORY_PAGE = 1000
_ONCE: Any = {"max_retries": 0}
T = TypeVar("T")


class Door:
    """Calls to one ElevenLabs account. Every method but `wav` may raise ProviderFailure. Safe to share by threads.

    `url` takes the place of the residency's host. `timeout` is how long a call may be silent, in seconds.
    """

    def __init__(self, key: SecretStr, *, residency: Residency = "global", url: str | None = None, timeout: float):
        self._key = key
        self._residency = residency
        self._url = url
        self.timeout = timeout

    def speak(
        self,
        voice_id: str,
        text: str,
        *,
        model: str,
        language: str | None,
        seed: int,
        speed: float,
        before: str,
        after: str,
    ) -> Reply:
        """Speak `text`, which costs credits."""
        from elevenlabs import VoiceSettings

        optional: dict[str, Any] = {}
        if language:
            optional["language_code"] = language
        if speed != 1.0:
            optional["voice_settings"] = VoiceSettings(speed=speed)
        if before:
            optional["previous_text"] = before
        if after:
            optional["next_text"] = after
        answer = self._ask(
            lambda sdk: sdk.text_to_speech.with_raw_response.convert_with_timestamps(
                voice_id,
                text=text,
                model_id=model,
                output_format=OUTPUT_FORMAT,
                seed=seed,
                apply_text_normalization="off",
                request_options=_ONCE,
                **optional,
            )
        )
        headers = lower(answer.headers)
        try:
            pcm = base64.b64decode(answer.data.audio_base_64, validate=True)
        except (AttributeError, TypeError, binascii.Error):
            raise ProviderFailure(failure_of(200, None, headers)) from None
        if not pcm:
            raise ProviderFailure(failure_of(200, None, headers))
        return Reply(
            pcm=pcm[: len(pcm) // 2 * 2],
            alignment=alignment_of(getattr(answer.data, "alignment", None)),
            credits=number(headers.get("character-cost")),
            request_id=headers.get("request-id"),
            maximum=number(headers.get("maximum-concurrent-requests")),
        )

    def align(self, pcm: bytes, text: str) -> Alignment | None:
        """Find out when each character of `text` is spoken in `pcm`; None if the answer does not say."""
        answer = self._ask(
            lambda sdk: sdk.forced_alignment.create(
                file=("speech.wav", wav(pcm), "audio/wav"), text=text, request_options=_ONCE
            )
        )
        found = getattr(answer, "characters", None) or []
        try:
            return Alignment(
                tuple(str(one.text) for one in found),
                tuple(float(one.start) for one in found),
                tuple(float(one.end) for one in found),
            )
        except (AttributeError, TypeError, ValueError):
            return None

    def models(self) -> list[Model]:
        """Return the models that speak."""
        found = self._ask(lambda sdk: sdk.models.list(request_options=_ONCE))
        with _read():
            return [model_of(one) for one in found if one.can_do_text_to_speech is not False]

    def subscription(self) -> Subscription:
        """Return what the account has left."""
        found = self._ask(lambda sdk: sdk.user.subscription.get(request_options=_ONCE))
        with _read():
            more, changes = found.max_credit_limit_extension, found.max_voice_add_edits
            limit, used = found.character_limit, found.character_count
            left = None if more == "unlimited" else Decimal(limit + int(more or 0) - used)
            return Subscription(
                credits_left=None if left is None else max(left, Decimal(0)),
                resets_at=time_of(found.next_character_count_reset_unix),
                voices=int(found.voice_limit),
                voices_used=int(found.voice_slots_used),
                may_clone=bool(found.can_use_instant_voice_cloning),
                voice_changes_left=None if changes is None else max(0, changes - found.voice_add_edit_counter),
            )

    def add_voice(self, name: str, audio: bytes, *, description: str, labels: Mapping[str, str]) -> RemoteVoice:
        """Clone a voice from a WAV file. The upload is built anew each time."""
        made = self._ask(
            lambda sdk: sdk.voices.ivc.create(
                name=name,
                files=[("enrolment.wav", audio, "audio/wav")],
                # It is isolated already; a second time makes clean speech worse.
                remove_background_noise=False,
                description=description,
                labels=dict(labels),
                request_options=_ONCE,
            )
        )
        with _read():
            if not made.voice_id:
                raise ProviderFailure(failure_of(200, None, {}))
            return RemoteVoice(made.voice_id, name, verified=not made.requires_verification)

    def voice(self, voice_id: str) -> RemoteVoice:
        """Look at one voice."""
        found = self._ask(lambda sdk: sdk.voices.get(voice_id, request_options=_ONCE))
        with _read():
            return remote_of(found)

    def find_voice(self, name: str) -> RemoteVoice | None:
        """Return the voice of exactly that name, None if there is none."""
        return next((voice for voice in self.voices_named(name) if voice.name == name), None)

    def voices_named(self, start: str) -> list[RemoteVoice]:
        """Return the voices whose names begin so."""
        found: list[RemoteVoice] = []
        token: str | None = None
        while True:
            search = partial(_search_voices, search=start, page_size=PAGE, next_page_token=token, request_options=_ONCE)
            page = self._ask(search)
            with _read():
                found += [remote_of(one) for one in page.voices or [] if (one.name or "").startswith(start)]
                token = page.next_page_token
                if not page.has_more or not token:
                    return found

    def delete_voice(self, voice_id: str) -> None:
        """Delete a voice."""
        self._ask(lambda sdk: sdk.voices.delete(voice_id, request_options=_ONCE))

    def history(self, *, since: datetime | None = None) -> Iterator[HistoryItem]:
        """Yield what was spoken, oldest first."""
        after: str | None = None
        seconds = None if since is None else int(since.timestamp())
        while True:
            listing = partial(
                _list_history,
                page_size=HISTORY_PAGE,
                date_after_unix=seconds,
                sort_direction="asc",
                start_after_history_item_id=after,
                request_options=_ONCE,
            )
            page = self._ask(listing)
            with _read():
                items = [item_of(one) for one in page.history or []]
                has_more = bool(page.has_more)
            yield from items
            if not has_more or not items or items[-1].item_id == after:
                return
            after = items[-1].item_id

    def history_audio(self, item: HistoryItem) -> bytes:
        """Return the audio of something that was spoken, 16-bit PCM at 24 kHz."""

        def fetch(sdk: ElevenLabs) -> tuple[bytes, Mapping[str, str]]:
            with sdk.history.with_raw_response.get_audio(item.item_id, request_options=_ONCE) as answer:
                return b"".join(answer.data), lower(answer.headers)

        content, headers = self._ask(fetch)
        return as_pcm(content, headers.get("content-type", ""))

    def forget(self, item: HistoryItem) -> None:
        """Delete something from the history."""
        self._ask(lambda sdk: sdk.history.delete(item.item_id, request_options=_ONCE))

    @cached_property
    def _sdk(self) -> ElevenLabs:
        try:
            import httpx
            from elevenlabs.client import ElevenLabs
            from elevenlabs.environment import ElevenLabsEnvironment
        except ImportError as error:
            raise package_missing(error) from error
        hosts = {
            "global": ElevenLabsEnvironment.PRODUCTION,
            "us": ElevenLabsEnvironment.PRODUCTION_US,
            "eu": ElevenLabsEnvironment.PRODUCTION_EU,
            "in": ElevenLabsEnvironment.PRODUCTION_INDIA,
            "sg": ElevenLabsEnvironment.PRODUCTION_SINGAPORE,
        }
        limits = httpx.Timeout(self.timeout, connect=min(CONNECT_SECONDS, self.timeout))
        return ElevenLabs(
            base_url=self._url,
            environment=hosts[self._residency],
            # Given here, for the SDK reads the environment once, when it is imported.
            api_key=self._key.get_secret_value(),
            # The SDK hands it to httpx as it is.
            timeout=cast(float, limits),
            # A redirect would carry the key to wherever it points.
            httpx_client=httpx.Client(timeout=limits, follow_redirects=False),
        )

    def _ask(self, call: Callable[[ElevenLabs], T]) -> T:
        sdk = self._sdk  # made first: a package that is missing is no failure of a call
        with self._failures():
            return call(sdk)

    @contextmanager
    def _failures(self) -> Iterator[None]:
        """Turn what the SDK and httpx raise into failures; what they carry (headers, bodies) goes no further."""
        import httpx
        from elevenlabs.core.api_error import ApiError
        from elevenlabs.core.parse_error import ParsingError

        try:
            yield
        except (ApiError, ParsingError) as error:
            failure = failure_of(error.status_code or 0, error.body, lower(error.headers or {}))
        except (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout, httpx.ProxyError):
            failure = Failure(Kind.BUSY, "no_connection", "ElevenLabs could not be reached.")
        except (httpx.UnsupportedProtocol, httpx.InvalidURL):
            failure = Failure(Kind.KEY, "invalid_url", "The address of ElevenLabs cannot be used.")
        except httpx.TimeoutException:
            failure = Failure(Kind.UNCLEAR, "timeout", f"No answer within {self.timeout:g} s.")
        except (httpx.TransportError, httpx.DecodingError, httpx.StreamError):
            failure = Failure(Kind.UNCLEAR, "connection_lost", "The connection was cut before the answer was whole.")
        except (AttributeError, LookupError, TypeError, ValueError) as error:
            # The SDK's own, from an answer that is not text, or JSON of another shape. It may have been billed.
            failure = Failure(Kind.UNCLEAR, "damaged_answer", f"The answer cannot be read ({type(error).__name__}).")
        else:
            return
        raise ProviderFailure(self._without_key(failure)) from None

    def _without_key(self, failure: Failure) -> Failure:
        key = self._key.get_secret_value()
        if key and (key in failure.message or key in failure.code):
            return replace(failure, message=failure.message.replace(key, "***"), code=failure.code.replace(key, "***"))
        return failure


@contextmanager
def _read() -> Iterator[None]:
    """Read what the SDK made of an answer. It checks nothing: what is not there is None, and anything may be a list."""
    try:
        yield
    except (AttributeError, LookupError, TypeError, ValueError, ArithmeticError, OSError):
        raise ProviderFailure(failure_of(200, None, {})) from None


def _search_voices(sdk: ElevenLabs, **options: Any) -> Any:
    return sdk.voices.search(**options)


def _list_history(sdk: ElevenLabs, **options: Any) -> Any:
    return sdk.history.list(**options)
