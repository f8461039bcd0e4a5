"""What is measured: each step reads its inputs, then returns the work to time. Nothing heavy is imported before that.

A step is a function of a `Job` that returns a callable; the callable does the work and returns a `Done`. What a step
needs from earlier ones lies in the job's folder.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

TEXT = (
    "Thank you for calling. My name is Robin, and I can help you with your booking. "
    "Please tell me the five letters of your reference, and the family name of the passenger."
)
CRF, PRESET = 18, "veryfast"
_MOTION = 0.02
"""Mean change of a pixel, of 255, from which a frame differs from the one before: a mouth is a small part of it."""


@dataclass(frozen=True)
class Job:
    """One video, and the folder where steps leave what later steps need."""

    video: Path
    folder: Path

    @property
    def track(self) -> Path:
        """The landmark track, from `landmarks`."""
        return self.folder / "track.parquet"

    @property
    def mesh(self) -> Path:
        """The head, from `mesh`."""
        return self.folder / "mesh.npz"

    @property
    def plate(self) -> Path:
        """The folder of the re-drivable footage, from `plate`."""
        return self.folder / "plate"

    @property
    def speech(self) -> Path:
        """The spoken text, from `speech`."""
        return self.folder / "speech.wav"

    @property
    def weights(self) -> Path:
        """Morph weights of the spoken text, one row a frame, from `speech`."""
        return self.folder / "weights.npy"


@dataclass(frozen=True)
class Done:
    """What the work got through: `frames` (0 where there are none), `seconds` of media, and what else is to be told."""

    frames: int
    seconds: float
    notes: dict[str, Any] = field(default_factory=dict)
    check: Callable[[], None] | None = None
    """Called after the clock has stopped; raises where the work was not done."""


Work = Callable[[], Done]


def require_motion(video: Path) -> None:
    """Raise ValueError where a clip is one picture over and over: a still is quickly drawn, and proves nothing."""
    import numpy as np

    from avatar_pipeline.media.decode import decode_frames

    last, moved, count = None, 0, 0
    for frame in decode_frames(video):
        green = frame.image[..., 1].astype(np.int16)
        moved += last is not None and float(np.abs(green - last).mean()) > _MOTION
        last, count = green, count + 1
    if moved < count / 2:
        raise ValueError(f"{video.name}: only {moved} of {count} frames differ from the one before")


def probe(job: Job) -> Work:
    """Check an upload."""
    import av  # noqa: F401

    from avatar_pipeline.media.probe import probe as probe_media

    def work() -> Done:
        info = probe_media(job.video)
        return Done(round(info.seconds * info.fps), info.seconds, {"width": info.width, "height": info.height})

    return work


def landmarks(job: Job) -> Work:
    """Track the face, the engine's way: chunks in parallel, checkpoints, a Parquet file."""
    import tempfile

    # Whatever the work would import on the way is imported now, as it is for the loop; pyarrow pulls in pandas.
    import av  # noqa: F401
    import cv2  # noqa: F401
    import mediapipe  # noqa: F401
    import pandas  # noqa: F401
    import pyarrow.parquet  # noqa: F401

    from avatar_pipeline.face.mediapipe_mesh import FaceMeshDetector
    from avatar_pipeline.face.tracking import track_video
    from avatar_pipeline.media.probe import probe as probe_media
    from avatar_pipeline.store.checkpoints import FolderCheckpoints

    info = probe_media(job.video)
    detector = FaceMeshDetector()

    def work() -> Done:
        from avatar_pipeline.face.track_file import write_track

        with tempfile.TemporaryDirectory(dir=job.folder) as chunks:
            track = track_video(job.video, info, detector, FolderCheckpoints(Path(chunks)))
        write_track(job.track, track)
        return Done(len(track), info.seconds, {"found": int(track.found.sum())})

    return work


def landmarks_loop(job: Job) -> Work:
    """Track the face, the obvious way: cv2.VideoCapture and FaceMesh, frame by frame."""
    import cv2
    import mediapipe
    import numpy as np

    def work() -> Done:
        mesh = mediapipe.solutions.face_mesh.FaceMesh(refine_landmarks=True)
        video = cv2.VideoCapture(str(job.video))
        fps = video.get(cv2.CAP_PROP_FPS)
        rows: list[Any] = []
        found = 0
        while True:
            more, image = video.read()
            if not more:
                break
            result = mesh.process(cv2.cvtColor(image, cv2.COLOR_BGR2RGB))
            if result.multi_face_landmarks:
                found += 1
                points = result.multi_face_landmarks[0].landmark
                rows.append(np.array([(p.x, p.y, p.z) for p in points], np.float32))
            else:
                rows.append(np.full((478, 3), np.nan, np.float32))
        video.release()
        mesh.close()
        np.save(job.folder / "loop.npy", np.stack(rows))
        return Done(len(rows), len(rows) / fps, {"found": found})

    return work


def isolation(job: Job) -> Work:
    """Take the voice out of the noise."""
    import torch  # noqa: F401

    from avatar_pipeline.media.audio import read_audio
    from avatar_pipeline.voice.isolation.neural import NeuralIsolator

    audio = read_audio(job.video)
    isolator = NeuralIsolator()

    def work() -> Done:
        isolator.isolate(audio)
        return Done(0, audio.seconds)

    return work


def mesh(job: Job) -> Work:
    """Build the textured head with its morph targets."""
    from avatar_pipeline.face.track_file import read_track
    from avatar_pipeline.face.tracking import smooth
    from avatar_pipeline.mesh.build import build_mesh
    from avatar_pipeline.mesh.glb import glb_bytes
    from avatar_pipeline.mesh.io import write_mesh

    track = read_track(job.track)

    def work() -> Done:
        built, report = build_mesh(smooth(track), job.video)
        size = len(glb_bytes(built))
        write_mesh(job.mesh, built)
        return Done(len(track), float(track.seconds[-1]), {"glb_bytes": size, "triangles": report.triangles})

    return work


def plate(job: Job) -> Work:
    """Prepare the person's footage for re-driving."""
    import tempfile

    from avatar_pipeline.face.track_file import read_track
    from avatar_pipeline.mesh.io import read_mesh
    from avatar_pipeline.render.plate import build_plate
    from avatar_pipeline.store.checkpoints import FolderCheckpoints

    track, built = read_track(job.track), read_mesh(job.mesh)
    job.plate.mkdir(exist_ok=True)

    def work() -> Done:
        with tempfile.TemporaryDirectory(dir=job.folder) as chunks:
            made = build_plate(job.video, track, built, job.plate, checkpoints=FolderCheckpoints(Path(chunks)))
        return Done(len(made), len(made) / 25, {"width": made.width, "height": made.height})

    return work


def speech(job: Job) -> Work:
    """Speak a text with the embedded voice, with its mouth shapes."""
    import numpy as np

    from avatar_pipeline.media.audio import write_wav
    from avatar_pipeline.mesh.io import read_mesh
    from avatar_pipeline.render.curves import morph_weights
    from avatar_pipeline.voice.local import LocalVoiceProvider
    from avatar_pipeline.voice.provider import say_one
    from avatar_pipeline.voice.visemes import to_visemes, viseme_curves

    built = read_mesh(job.mesh)
    provider = LocalVoiceProvider()
    voice = provider.create_voice(None, None, language="en")

    def work() -> Done:
        spoken = say_one(provider, voice, TEXT)
        curves = viseme_curves(to_visemes(spoken.phonemes, spoken.audio.seconds), spoken.audio.seconds, Fraction(25))
        write_wav(job.speech, spoken.audio)
        np.save(job.weights, morph_weights(curves, built))
        return Done(0, spoken.audio.seconds)

    return work


def clip(job: Job) -> Work:
    """Render the talking clip, the engine's way: the person's own footage, re-driven."""
    import tempfile

    import numpy as np

    from avatar_pipeline.media.audio import read_wav
    from avatar_pipeline.mesh.io import read_mesh
    from avatar_pipeline.render.clip import render_clip
    from avatar_pipeline.render.plate import read_plate
    from avatar_pipeline.store.checkpoints import FolderCheckpoints

    built, made, audio, weights = read_mesh(job.mesh), read_plate(job.plate), read_wav(job.speech), np.load(job.weights)

    def work() -> Done:
        with tempfile.TemporaryDirectory(dir=job.folder) as segments:
            report = render_clip(
                mesh=built,
                plate=made,
                weights=weights,
                audio=audio,
                out=job.folder / "clip.mp4",
                checkpoints=FolderCheckpoints(Path(segments)),
            )
        size = {"width": report.width, "height": report.height}
        notes = {"renderer": report.renderer} | size
        return Done(report.frames, report.seconds, notes, lambda: require_motion(job.folder / "clip.mp4"))

    return work


def clip_loop(job: Job) -> Work:
    """Render a talking clip, the obvious way: PyVista (VTK) draws the mesh, frame by frame, and PyAV encodes.

    It does less: a face before a plain background at the plate's size, with neither head motion nor sound.
    """
    import av
    import numpy as np
    import pyvista

    from avatar_pipeline.mesh.io import read_mesh
    from avatar_pipeline.render.plate import read_plate

    built, made, weights = read_mesh(job.mesh), read_plate(job.plate), np.load(job.weights)
    faces = np.insert(built.faces, 0, 3, axis=1)

    def frames() -> Iterator[Any]:
        plotter = pyvista.Plotter(off_screen=True, window_size=[made.width, made.height])
        surface = pyvista.PolyData(built.vertices.copy(), faces)
        surface.active_texture_coordinates = np.stack([built.uv[:, 0], 1 - built.uv[:, 1]], axis=-1)
        actor = plotter.add_mesh(surface, texture=pyvista.numpy_to_texture(built.texture), lighting=False)
        plotter.camera_position = [(0, -20, 600), (0, -20, 0), (0, 1, 0)]
        flat = built.morphs.reshape(len(built.morph_names), -1)
        for row in weights:
            actor.mapper.dataset.points = built.vertices + (row @ flat).reshape(-1, 3)
            # a screenshot alone gives the picture that was drawn last
            plotter.render()
            yield plotter.screenshot(return_img=True)
        plotter.close()

    def work() -> Done:
        with av.open(str(job.folder / "clip_loop.mp4"), "w") as out:
            stream = out.add_stream("libx264", rate=25, options={"crf": str(CRF), "preset": PRESET})
            stream.width, stream.height, stream.pix_fmt = made.width, made.height, "yuv420p"
            for image in frames():
                out.mux(stream.encode(av.VideoFrame.from_ndarray(np.ascontiguousarray(image), format="rgb24")))
            out.mux(stream.encode(None))
        notes = {"width": made.width, "height": made.height}
        return Done(len(weights), len(weights) / 25, notes, lambda: require_motion(job.folder / "clip_loop.mp4"))

    return work


STEPS: dict[str, Callable[[Job], Work]] = {
    "probe": probe,
    "landmarks": landmarks,
    "isolation": isolation,
    "mesh": mesh,
    "plate": plate,
    "speech": speech,
    "clip": clip,
}
"""The engine's stages, in the order in which each finds its inputs."""
LOOPS: dict[str, Callable[[Job], Work]] = {"landmarks": landmarks_loop, "clip": clip_loop}
"""The obvious ways to do two of them."""
