"""Many texts by many voices: what is there already is passed over, the rest spoken as fast as providers allow."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass, field

from avatar_pipeline.errors import AvatarError, ProviderBusy
from avatar_pipeline.ledger.messages import ClipRequest
from avatar_pipeline.stages.line import Line, StageResult
from avatar_pipeline.stages.speech import (
    OpenProvider,
    Providers,
    SpeechPlan,
    find_speech,
    keep_speech,
    plan_speech,
    require_may_speak,
)
from avatar_pipeline.stages.voice import provider_named
from avatar_pipeline.voice.provider import Spoken, Utterance

Outcome = StageResult | AvatarError


@dataclass(slots=True)
class _Piece:
    """What one or more requests want to hear: it is spoken once."""

    plan: SpeechPlan
    requests: list[ClipRequest] = field(default_factory=list)


def speak_batch(
    line: Line, requests: Sequence[ClipRequest], *, opener: OpenProvider = provider_named
) -> Generator[tuple[ClipRequest, Outcome], None, None]:
    """Speak requests; each comes out once with its speech, in the store by then, or with the error that kept it.

    What is in the store already comes first. The rest goes to its provider in one batch, voice by voice, and is
    published one by one as it comes back, so that whoever is killed loses nothing that was finished. Whether a voice
    may be used is asked before each text is sent, and again before its speech is kept.
    """
    pieces: dict[str, _Piece] = {}

    def permit(utterance: Utterance) -> None:
        require_may_speak(line, pieces[utterance.key].plan.avatar_id)
        if utterance.reservation is not None and (short := line.meter.exhausted().get(utterance.reservation)):
            raise short

    providers = Providers(line, permit=permit, opener=opener)
    for request in requests:
        try:
            plan = plan_speech(line, providers, request.avatar_id, request.text, request.voice)
            found = None if plan.recipe.key in pieces else find_speech(line, plan)
        except AvatarError as error:
            yield request, error
            continue
        if found is not None:
            yield request, found
        else:
            pieces.setdefault(plan.recipe.key, _Piece(plan)).requests.append(request)
    order = sorted(pieces.values(), key=lambda piece: (piece.plan.voice.provider, piece.plan.voice_key))
    for provider in dict.fromkeys(piece.plan.voice.provider for piece in order):
        mine = [piece for piece in order if piece.plan.voice.provider == provider]
        yield from _speak(line, providers, mine)


def _speak(
    line: Line, providers: Providers, pieces: Sequence[_Piece]
) -> Generator[tuple[ClipRequest, Outcome], None, None]:
    by_key = {piece.plan.recipe.key: piece for piece in pieces}
    # What several want to hear is paid for by the first who asked.
    paying = line.requests.reservations([piece.requests[0].request_id for piece in pieces])
    batch = [
        Utterance(
            key,
            piece.plan.voice,
            piece.plan.text,
            piece.plan.settings,
            tenant=piece.requests[0].tenant,
            reservation=paying.get(piece.requests[0].request_id),
        )
        for key, piece in by_key.items()
    ]
    since = line.stopwatch()
    for spoken in providers.of(pieces[0].plan.voice).synthesize(batch):
        piece = by_key[spoken.utterance.key]
        # Many are spoken at once: the time that passed between two results is this one's share of the work.
        outcome = _keep(line, piece, spoken, line.stopwatch() - since)
        since = line.stopwatch()
        for number, request in enumerate(piece.requests):
            if number and isinstance(outcome, StageResult):
                outcome = find_speech(line, piece.plan) or outcome
            yield request, outcome


def _keep(line: Line, piece: _Piece, spoken: Spoken, seconds: float) -> Outcome:
    if spoken.speech is None:
        return spoken.error or ProviderBusy("The provider gave nothing back.", remedy="It is tried again later.")
    try:
        return keep_speech(line, piece.plan, spoken.speech, seconds)
    except AvatarError as error:
        return error
