"""The default landmark detector: MediaPipe Face Mesh, whose models come in the package's wheel."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from avatar_pipeline.errors import EnvironmentProblem
from avatar_pipeline.face.quiet import without_chatter
from avatar_pipeline.face.types import LANDMARKS, Detection

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from avatar_pipeline.media.types import Frame

_POINT = np.dtype(
    [("head", "V2"), ("x_tag", "u1"), ("x", "<f4"), ("y_tag", "u1"), ("y", "<f4"), ("z_tag", "u1"), ("z", "<f4")]
)
"""One landmark in a NormalizedLandmarkList on the wire: tag and length, then three tagged floats."""

_DETECTION_SCORE = (
    "facedetectionshortrangecpu__facedetectionshortrange__facedetection__TensorsToDetectionsCalculator.min_score_thresh"
)
_TRACKING_SCORE = "facelandmarkcpu__ThresholdingCalculator.threshold"
"""The names under which `FaceMesh` passes its `min_detection_confidence` and `min_tracking_confidence`."""


def mediapipe_version() -> str:
    """Return the installed MediaPipe's version, without loading it.

    Raises:
        EnvironmentProblem: it is not installed.
    """
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("mediapipe")
    except PackageNotFoundError as error:
        raise EnvironmentProblem(
            "The package 'mediapipe' is not installed.",
            remedy="Install the engine: pip install 'avatar-pipeline[engine]'.",
        ) from error


def solution(name: str) -> Any:
    """Return one of MediaPipe's bundled solutions, such as 'face_mesh'.

    Raises:
        EnvironmentProblem: MediaPipe is not installed, or is a release without it.
    """
    installed = mediapipe_version()
    import mediapipe

    try:
        return getattr(mediapipe.solutions, name)
    except AttributeError as error:
        raise EnvironmentProblem(
            f"MediaPipe {installed} has no '{name}': releases after 0.10.21 dropped it and its models.",
            remedy="Install mediapipe==0.10.21, or configure a face_landmarker.task bundle.",
        ) from error


class FaceMeshDetector:
    """Tracks one face with MediaPipe Face Mesh (refined: 478 landmarks with irises; no blendshapes).

    Works with no file and no network beyond the installed wheel. Bit-identical from run to run on one machine.

    Raises:
        EnvironmentProblem: MediaPipe is not installed, or is a release without Face Mesh.
    """

    run_in = 15

    def __init__(self) -> None:
        self.name = "mediapipe-face-mesh"
        self.version = mediapipe_version()
        self.blendshape_names: tuple[str, ...] = ()

    def detect(self, frames: Iterable[Frame]) -> Iterator[Detection | None]:
        """Yield the face of each rgb24 frame, in order, or None; every call starts from a fresh state."""
        upcoming = iter(frames)
        first = next(upcoming, None)
        if first is None:
            return
        with ExitStack() as stack:
            with without_chatter():
                graph = stack.enter_context(_start_graph())
                detection = _detect(graph, first)
            yield detection
            for frame in upcoming:
                yield _detect(graph, frame)


def _start_graph() -> Any:
    """Start MediaPipe's FaceMesh (refined, one face, tracking), run by the thread that calls it.

    It is the graph that `solutions.face_mesh.FaceMesh` starts, and gives the same bits, but for the executor: with
    threads of its own every frame is handed to and fro between threads, an eighth of the time on two busy cores.
    """
    face_mesh = solution("face_mesh")
    import mediapipe
    from mediapipe.framework import calculator_pb2
    from mediapipe.python.solution_base import SolutionBase

    graph = calculator_pb2.CalculatorGraphConfig()
    graph.ParseFromString((Path(mediapipe.__file__).parents[1] / face_mesh._BINARYPB_FILE_PATH).read_bytes())
    graph.executor.add().type = "ApplicationThreadExecutor"
    return SolutionBase(
        graph_config=graph,
        side_inputs={"num_faces": 1, "with_attention": True, "use_prev_landmarks": True},
        calculator_params={_DETECTION_SCORE: 0.5, _TRACKING_SCORE: 0.5},
        outputs=["multi_face_landmarks"],
    )


def _detect(graph: Any, frame: Frame) -> Detection | None:
    image = np.ascontiguousarray(frame.image).view()
    # MediaPipe copies what could still be written to, and only refers to the rest.
    image.flags.writeable = False
    faces = graph.process({"image": image}).multi_face_landmarks
    return Detection(landmarks=_to_array(faces[0])) if faces else None


def _to_array(face: Any) -> NDArray[np.float32]:
    """Return the landmarks of a NormalizedLandmarkList message as (478, 3).

    The message is read from its wire form where every landmark holds just x, y and z, which is 20 times faster than
    asking 1,434 fields one by one, and that under Python's global lock.
    """
    wire = face.SerializeToString()
    if len(wire) == LANDMARKS * _POINT.itemsize:
        points = np.frombuffer(wire, _POINT)
        if (points["x_tag"] == 0x0D).all() and (points["y_tag"] == 0x15).all() and (points["z_tag"] == 0x1D).all():
            return np.stack([points["x"], points["y"], points["z"]], axis=-1)
    return np.array([(point.x, point.y, point.z) for point in face.landmark], np.float32)
