"""The assets of one avatar, from upload to greeting. Partition key: the avatar's id."""

from collections.abc import Callable
from functools import partial
from typing import Any

import dagster as dg

from assets.automation import NIGHTLY
from assets.binding import Outcome, blocking, materialize, warning
from assets.compute import CPU_TAGS, GPU_POOL, GPU_TAGS
from assets.partitions import avatars
from avatar_pipeline.errors import ConsentMissing, FaceNotUsable, InvalidMedia, SpeechNotUsable
from avatar_pipeline.stages import avatar_requests, checks, clips, greeting, head, landmarks, source, voice
from avatar_pipeline.stages.line import Line, StageResult
from resources.line import LineResource

OWNERS = ["team:avatars"]

avatar_asset = partial(
    dg.asset, partitions_def=avatars, group_name="avatar", owners=OWNERS, automation_condition=NIGHTLY
)


@avatar_asset(
    kinds={"python", "ffmpeg"},
    code_version=source.CODE_VERSION,
    op_tags=CPU_TAGS,
    check_specs=[blocking("source_valid", "source_video", "The upload is one sound video within the limits.")],
)
def source_video(context: dg.AssetExecutionContext, line: LineResource) -> Outcome:
    """The upload as it was taken in: probed, and looked at."""
    with line.open(context) as bench:
        yield from _made(
            context,
            bench,
            source.make_source_video,
            judge=lambda facts: [checks.source_valid(facts)],
            on_error={InvalidMedia: "source_valid"},
        )


@avatar_asset(
    deps=[source_video],
    kinds={"mediapipe", "parquet"},
    code_version=landmarks.CODE_VERSION,
    op_tags=CPU_TAGS,
    check_specs=[blocking("face_coverage", "landmarks", "One face is there in at least 80 % of the frames.")],
    name="landmarks",
)
def face_landmarks(context: dg.AssetExecutionContext, line: LineResource) -> Outcome:
    """478 face landmarks in every frame, with head pose, quality and (with a `.task` model) blendshapes."""
    with line.open(context) as bench:
        yield from _made(
            context,
            bench,
            landmarks.make_landmarks,
            judge=lambda facts: [checks.face_coverage(facts)],
            on_error={FaceNotUsable: "face_coverage"},
        )


@avatar_asset(
    deps=[source_video],
    kinds={"torch"},
    code_version=voice.ISOLATION_VERSION,
    op_tags=CPU_TAGS,
    check_specs=[
        blocking("speech_present", "isolated_voice", "There is speech to make the voice from, or none is needed."),
        blocking("consent_present", "isolated_voice", "A consent in force covers the voice; else no voice is made."),
    ],
)
def isolated_voice(context: dg.AssetExecutionContext, line: LineResource) -> Outcome:
    """The speaker's voice without the room: noise tracked and taken out, in step with the video to the sample."""
    with line.open(context) as bench:
        consent = voice.voice_consent(bench, context.partition_key)
        yield from _made(
            context,
            bench,
            voice.make_isolated_voice,
            judge=lambda facts: [checks.speech_present(facts), consent],
            on_error={SpeechNotUsable: "speech_present"},
        )


@avatar_asset(
    deps=[face_landmarks],
    kinds={"gltf"},
    code_version=head.MESH_VERSION,
    op_tags=CPU_TAGS,
    check_specs=[blocking("mesh_sane", "mesh", "No triangle is degenerate or flipped.")],
)
def mesh(context: dg.AssetExecutionContext, line: LineResource) -> Outcome:
    """The person's textured head with ARKit and viseme morph targets, as GLB."""
    with line.open(context) as bench:
        yield from _made(
            context,
            bench,
            head.make_mesh,
            judge=lambda facts: [checks.mesh_sane(facts)],
        )


@avatar_asset(
    deps=[face_landmarks, mesh],
    kinds={"ffmpeg"},
    code_version=head.PLATE_VERSION,
    op_tags=CPU_TAGS,
)
def plate(context: dg.AssetExecutionContext, line: LineResource) -> Outcome:
    """The steadiest stretch of the person's footage, ready to be re-driven by any speech."""
    with line.open(context) as bench:
        yield from _made(context, bench, head.make_plate)


@avatar_asset(
    deps=[isolated_voice],
    kinds={"python"},
    code_version=voice.MODEL_VERSION,
    op_tags=CPU_TAGS,
    check_specs=[
        warning("one_speaker", "voice_model", "One person speaks in the recording."),
        warning("no_music", "voice_model", "There is no music under the voice."),
    ],
)
def voice_model(context: dg.AssetExecutionContext, line: LineResource) -> Outcome:
    """The voice that the avatar speaks with, made under the consent that covers it, and the speech it is made from."""
    with line.open(context) as bench:
        yield from _made(
            context,
            bench,
            voice.make_voice_model,
            judge=lambda facts: [checks.one_speaker(facts), checks.no_music(facts)],
        )


@avatar_asset(
    deps=[mesh, plate, voice_model],
    kinds={"opengl", "ffmpeg"},
    code_version=clips.CLIP_VERSION,
    op_tags=GPU_TAGS,
    pool=GPU_POOL,
    check_specs=[
        blocking("consent_in_force", "greeting_clip", "The person's consent is in force at the time of rendering."),
        blocking("clip_duration", "greeting_clip", "The picture is as long as the sound, to a frame."),
        blocking("mouth_follows", "greeting_clip", "The mouth seen in the clip does what it was told, in time."),
    ],
)
def greeting_clip(context: dg.AssetExecutionContext, line: LineResource) -> Outcome:
    """The avatar's first words: when this is good, the avatar is ready."""
    with line.open(context) as bench:
        yield from _made(
            context,
            bench,
            greeting.make_greeting,
            judge=lambda facts: [greeting.CONSENTED, *checks.clip_verdicts(facts)],
            on_error={ConsentMissing: "consent_in_force"},
        )


def _made(
    context: dg.AssetExecutionContext, line: Line, stage: Callable[[Line, str], StageResult], **told: Any
) -> Outcome:
    """Run a stage for the avatar; when it cannot be made, those who asked for it get to know."""
    avatar_id = context.partition_key
    work = partial(stage, line, avatar_id)
    yield from materialize(line, work, give_up=partial(avatar_requests.give_up, line, avatar_id), **told)


avatar_assets = [source_video, face_landmarks, isolated_voice, mesh, plate, voice_model, greeting_clip]
