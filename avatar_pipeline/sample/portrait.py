"""The portrait: scikit-image's astronaut (NASA, public domain), cut into a head and a plate to move it in front of."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import NDArray

from avatar_pipeline.errors import EnvironmentProblem

CROP = (97, 0, 256)
"""Left, top and side of the head-and-shoulders crop of the 512 px portrait: face 42 % of the height."""

_HAIR_AND_EARS = np.array(
    [
        *((340, 500), (335, 525), (314, 523), (300, 492), (280, 467), (255, 432), (235, 395), (226, 340), (224, 290)),
        *((235, 245), (260, 205), (300, 178), (340, 160), (365, 150), (385, 125), (420, 92), (470, 72), (530, 62)),
        *((590, 68), (650, 92), (700, 115), (745, 150), (780, 200), (800, 250), (815, 310), (818, 350), (810, 410)),
        *((790, 460), (760, 495), (733, 517), (718, 538), (690, 547), (680, 530), (690, 480)),
    ],
    np.float64,
)
"""Outline of hair and ears in 1024ths of the crop, drawn by hand once: the photograph does not change."""

_EARS_BELOW = 440
"""Below this line (1024ths of the crop) the outline is that of the ears, which the backdrop's colour does not tell."""
_UNDER_EARS = 548
"""The height (1024ths of the crop) where ears end and cheeks stand against the backdrop."""
_NECK = np.array(
    [
        *((338, 440), (672, 440), (654, 560), (641, 640), (633, 700), (620, 750), (500, 760), (357, 722), (354, 640)),
        (346, 560),
    ],
    np.float64,
)
"""The neck, drawn up behind the jaw (1024ths of the crop)."""
_NECK_SKIN = np.arange(95, 154)
"""Columns (256ths of the crop) where bare neck shows under the jaw."""


@dataclass(frozen=True, slots=True)
class Portrait:
    """A still, taken apart. All images are (S, S, ...) in the pixels of the video to be made.

    `image` uint8 the photograph; `landmarks` (478, 3) float32 as in `face.types.Detection`; `head_alpha` float32 in
    [0, 1], 1 on hair, ears and face and 0 on the neck and all else; `plate` uint8 the photograph without the head.
    """

    image: NDArray[np.uint8]
    landmarks: NDArray[np.float32]
    head_alpha: NDArray[np.float32]
    plate: NDArray[np.uint8]

    @property
    def size(self) -> int:
        """Side in pixels."""
        return self.image.shape[0]


def load_portrait(size: int) -> Portrait:
    """Crop and upscale the portrait to `size` × `size` pixels, find the face and cut out the head.

    Raises:
        EnvironmentProblem: scikit-image is not installed, or its portrait shows no face to the detector.
    """
    import cv2

    try:
        from skimage import data
    except ImportError as error:
        raise EnvironmentProblem(
            "scikit-image, which carries the sample's portrait, is not installed.",
            remedy="Install the engine: pip install 'avatar-pipeline[engine]'.",
        ) from error
    left, top, side = CROP
    whole: NDArray[np.uint8] = data.astronaut()  # type: ignore[no-untyped-call]
    large = cv2.resize(whole[top : top + side, left : left + side], (size, size), interpolation=cv2.INTER_LANCZOS4)
    soft = cv2.GaussianBlur(large, (0, 0), size / 400)
    image = cv2.addWeighted(large, 1.35, soft, -0.35, 0).astype(np.uint8)
    landmarks = _find_face(image)
    alpha = _head_alpha(image, landmarks)
    return Portrait(image=image, landmarks=landmarks, head_alpha=alpha, plate=_plate(image, alpha))


def _find_face(image: NDArray[np.uint8]) -> NDArray[np.float32]:
    from avatar_pipeline.face.mediapipe_mesh import FaceMeshDetector
    from avatar_pipeline.media.types import Frame

    detector = FaceMeshDetector()
    still = [Frame(pts=i, time_base=Fraction(1, 25), image=image) for i in range(max(1, detector.run_in))]
    detection = list(detector.detect(still))[-1]
    if detection is None:
        raise EnvironmentProblem(
            "The face detector finds no face in the sample's portrait.",
            remedy="Install the engine at its pinned versions: pip install 'avatar-pipeline[engine]'.",
        )
    return detection.landmarks


def outline(size: int) -> NDArray[np.float64]:
    """Return the outline of hair and ears (N, 2) in pixels."""
    return _HAIR_AND_EARS * (size / 1024)


def _polygon(points: NDArray[np.floating[Any]], size: int) -> NDArray[np.float32]:
    """Fill a polygon (N, 2) in pixels, antialiased."""
    import cv2

    mask = np.zeros((size, size), np.uint8)
    cv2.fillPoly(mask, [np.round(points * 16).astype(np.int32)], (255,), cv2.LINE_AA, 4)
    return np.asarray(mask, np.float32) / 255


def _head_alpha(image: NDArray[np.uint8], landmarks: NDArray[np.float32]) -> NDArray[np.float32]:
    """Matte of hair, ears and face: by difference to the smooth backdrop at the hair, by the face oval at the jaw."""
    import cv2

    from avatar_pipeline.mesh.topology import OVAL

    size = image.shape[0]
    k = size / 256
    hair = _polygon(outline(size), size)
    face = _polygon(landmarks[list(OVAL), :2] * size, size)
    covered = cv2.dilate(np.maximum(hair, face), _disc(4 * k)).astype(np.float32)
    backdrop = _surroundings(image, covered, 10 * k)
    difference = np.linalg.norm(image.astype(np.float32) - backdrop, axis=2)
    difference = cv2.GaussianBlur(difference, (0, 0), 0.5 * k)
    matte = np.clip((difference - 16) / 34, 0, 1)
    core = cv2.GaussianBlur(cv2.erode(hair, _disc(3.0 * k)), (0, 0), 0.8 * k)
    reach = cv2.GaussianBlur(cv2.dilate(hair, _disc(1.8 * k)), (0, 0), 0.8 * k)
    top = np.maximum(core, matte * reach)
    ears = cv2.GaussianBlur(cv2.erode(hair, _disc(1.2 * k)), (0, 0), 0.5 * k)
    below = np.clip((np.arange(size) / size * 1024 - _EARS_BELOW) / 40, 0, 1)[:, None]
    top = top * (1 - below) + ears * below
    jaw = cv2.GaussianBlur(cv2.erode(face, _disc(1.2 * k)), (0, 0), 0.5 * k)
    # just under the ears the tracked oval is a little wider than the cheeks, and the backdrop behind it is bright
    cheek = cv2.GaussianBlur(cv2.erode(face, _disc(2.6 * k)), (0, 0), 0.6 * k)
    beside = np.exp(-(((np.arange(size) / size * 1024 - _UNDER_EARS) / 40) ** 4))[:, None]
    jaw = jaw * (1 - beside) + cheek * beside
    alpha: NDArray[np.float32] = np.maximum(top, jaw).astype(np.float32)
    return alpha


def _plate(image: NDArray[np.uint8], alpha: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Paint the head over with what surrounds it: backdrop, collar, and the neck drawn up behind the jaw."""
    import cv2

    size = image.shape[0]
    k = size / 256
    hidden = (cv2.dilate(alpha, _disc(2.5 * k)) > 0.02).astype(np.uint8)
    small = 256
    hole = cv2.resize(hidden, (small, small), interpolation=cv2.INTER_AREA).astype(np.uint8)
    reduced = cv2.resize(image, (small, small), interpolation=cv2.INTER_AREA).astype(np.uint8)
    neck = _polygon(_NECK * (small / 1024), small)
    reduced = _draw_neck_up(reduced, hole, neck)
    hole[neck > 0.5] = 0
    filled = cv2.inpaint(reduced, hole, 5, cv2.INPAINT_TELEA)
    filled = cv2.GaussianBlur(filled, (0, 0), 0.8)
    filled = cv2.resize(filled, (size, size), interpolation=cv2.INTER_CUBIC)
    blend = cv2.GaussianBlur(hidden.astype(np.float32), (0, 0), 0.8 * k)[..., None]
    return np.asarray(np.round(image * (1 - blend) + filled * blend), np.uint8)


def _draw_neck_up(image: NDArray[np.uint8], hole: NDArray[np.uint8], neck: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Fill the hidden part of the neck with the skin beneath it, darker towards the shade of the jaw."""
    import cv2

    inside = (neck > 0.5) & (hole > 0)
    edge = np.array([np.flatnonzero(hole[:, x]).max(initial=0) for x in _NECK_SKIN])
    strip = np.array([image[y + 1 : y + 4, x].mean(axis=0) for x, y in zip(_NECK_SKIN, edge, strict=True)])
    strip = cv2.GaussianBlur(strip[None].astype(np.float32), (0, 0), 4, borderType=cv2.BORDER_REPLICATE)[0]
    rows, columns = np.nonzero(inside)
    at = np.clip(columns, _NECK_SKIN[0], _NECK_SKIN[-1])
    height = np.maximum(edge[at - _NECK_SKIN[0]] - rows, 0)
    across = (columns - _NECK_SKIN.mean()) / (len(_NECK_SKIN) / 2 + 8)
    # a cylinder in the shade of the jaw, redder where darker, as skin is
    cylinder = 0.70 + 0.30 * np.sqrt(np.clip(1 - across**2, 0, 1))
    shade = 1 - (1 - 0.82 * cylinder) * (1 - np.exp(-height / 8.0))
    shade = shade[:, None] ** np.array([0.75, 1.0, 1.15])
    result = image.copy()
    result[rows, columns] = np.clip(strip[at - _NECK_SKIN[0]] * shade, 0, 255)
    return result


def _surroundings(image: NDArray[np.uint8], mask: NDArray[np.float32], sigma: float) -> NDArray[np.float32]:
    """Continue what lies outside `mask` smoothly into it (normalised convolution)."""
    import cv2

    weight = (1 - mask)[..., None].astype(np.float32)
    total = cv2.GaussianBlur(image * weight, (0, 0), sigma)
    count = cv2.GaussianBlur(weight, (0, 0), sigma)[..., None]
    smooth: NDArray[np.float32] = total / np.maximum(count, 1e-4)
    return smooth


def _disc(radius: float) -> NDArray[np.uint8]:
    import cv2

    side = 2 * max(1, round(radius)) + 1
    return np.asarray(cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (side, side)), np.uint8)


def photographed_teeth(portrait: Portrait) -> NDArray[np.uint8]:
    """Return the teeth (S, S, 4), RGBA: what shows between the portrait's inner lips, with a soft lower edge.

    Above them, where only a raised upper lip would show it, the gum is continued.
    """
    import cv2

    from avatar_pipeline.mesh.topology import MOUTH

    size = portrait.size
    k = size / 256
    loop = portrait.landmarks[list(MOUTH), :2] * size
    inside = _polygon(loop, size)
    solid = (cv2.erode(inside, _disc(0.7 * k)) > 0.5).astype(np.uint8)
    x, y, w, h = cv2.boundingRect(np.round(loop).astype(np.int32))
    pad = round(8 * k)
    window = np.s_[y - pad : y + h + pad, x - pad : x + w + pad]
    patch = cv2.inpaint(np.ascontiguousarray(portrait.image[window]), 1 - solid[window], 3, cv2.INPAINT_TELEA)
    above = inside.copy()
    reach = round(5 * k)
    for _ in range(reach):
        above[:-1] = np.maximum(above[:-1], above[1:])
    alpha = cv2.GaussianBlur(cv2.erode(above, _disc(0.6 * k)), (0, 0), 0.5 * k)
    teeth = np.zeros((size, size, 4), np.uint8)
    teeth[window][..., :3] = patch
    teeth[..., 3] = np.round(alpha * 255)
    return teeth
