"""Whether a face track is good enough to make an avatar from, and what would make a better one."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from avatar_pipeline.errors import FaceNotUsable
from avatar_pipeline.face.pose import to_camera

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from avatar_pipeline.face.people import FaceCount
    from avatar_pipeline.face.types import LandmarkTrack

LEAST_FOUND_SHARE = 0.8
"""Share of the frames that must show the face."""
LEAST_FRAMES = 20
"""Frames with a face: of fewer, the 15 % that make the neutral are not even three."""
LEAST_EYE_DISTANCE = 40.0
"""Pixels between the pupils. A face is then some 90 px wide, half of what the landmark model looks at (192 px): less
and every landmark, and every texel of the avatar, is guessed."""
GOOD_EYE_DISTANCE = 90.0
"""Pixels between the pupils that ISO/IEC 19794-5 asks of a full frontal portrait."""
GOOD_TURN = 20.0
"""Degrees to each side that show the cheeks well enough to texture them."""
GOOD_BLUR = 40.0
"""Variance of the Laplacian (see `LandmarkTrack.blur`): sharp faces have 90 to 900, and 12 to 80 once blurred by a
hundredth of their width."""
GOOD_BRIGHTNESS = 50.0
"""Mean luma of the face, 0 to 255."""
GOOD_FOUND_SHARE = 0.98
CLOSED_MOUTH = 0.08
"""Gap between the lips over the distance of the pupils: closed lips have 0.03 or less, speech 0.1 to 0.4."""
MOVING_MOUTH = 0.05
OPEN_EYES = 0.15
"""Eye aspect ratio, height over width (T. Soukupová, J. Čech, "Real-Time Eye Blink Detection using Facial Landmarks",
CVWW 2016): open eyes have 0.2 to 0.4, closed ones 0.1 or less."""

_EYES = ((159, 145, 33, 133), (386, 374, 263, 362))
"""Upper lid, lower lid, outer corner, inner corner."""


MOST_MOUTH_OUTSIDE = 0.2
"""Share of the frames. Landmarks outside the picture are made up, and a mouth that was never seen cannot be drawn."""

_LIPS = (61, 291, 0, 17, 37, 267, 84, 314)
"""Corners and middle of the outer lips."""

LEAST_SMOOTH_FPS = 20.0
"""Below this rate the head visibly steps from picture to picture."""


def require_one_person(people: FaceCount, path_name: str) -> None:
    """Refuse a video of several people; this can be known before anything is tracked.

    Raises:
        FaceNotUsable: there are several.
    """
    if people.several:
        raise FaceNotUsable(
            f"{path_name}: several people are in the picture ({people.with_several} of {people.samples} frames looked "
            "at); an avatar is of one.",
            remedy="Record one person alone, or crop the video.",
        )


def require_usable(track: LandmarkTrack, path_name: str, people: FaceCount | None = None) -> list[str]:
    """Refuse a video that no avatar can be made from, and advise on one that could be better.

    Args:
        track: the landmarks of the whole video.
        path_name: what to call the video in messages.
        people: what `people.count_faces` saw; without it, nobody looks for a second person or at the light.

    Returns:
        Advice for the next recording, one sentence each; empty if nothing is to be said.

    Raises:
        FaceNotUsable: there is no face, several people, a face too small, too rarely seen, or not for long enough.
    """
    share = float(track.found.mean()) if len(track) else 0.0
    if not share:
        raise FaceNotUsable(f"{path_name}: no face was found.", remedy="Record one person who faces the camera.")
    if people is not None:
        require_one_person(people, path_name)
    if share < LEAST_FOUND_SHARE:
        raise FaceNotUsable(
            f"{path_name}: the face was found in {int(share * 100)}% of the frames; {LEAST_FOUND_SHARE:.0%} are "
            "needed.",
            remedy="Stay in the picture and face the camera, with nothing before the face; cut away other scenes.",
        )
    camera = to_camera(track.landmarks[track.found], track.width, track.height)
    eye_distance = _distance(camera, 468, 473)
    if (median := float(np.median(eye_distance))) < LEAST_EYE_DISTANCE:
        raise FaceNotUsable(
            f"{path_name}: the face is too small: {median:.0f} px between the eyes; {LEAST_EYE_DISTANCE:.0f} px are "
            "needed.",
            remedy="Come closer to the camera, or record at a higher resolution.",
        )
    lips = track.landmarks[track.found][:, _LIPS, :2]
    outside = float(((lips < 0.0) | (lips > 1.0)).any(axis=(1, 2)).mean())
    if outside > MOST_MOUTH_OUTSIDE:
        raise FaceNotUsable(
            f"{path_name}: the mouth is outside the picture in {outside:.0%} of the frames; at most "
            f"{MOST_MOUTH_OUTSIDE:.0%} are accepted.",
            remedy="Keep the whole face in the picture.",
        )
    if len(camera) < LEAST_FRAMES:
        raise FaceNotUsable(
            f"{path_name}: only {len(camera)} frames show the face; {LEAST_FRAMES} are needed.",
            remedy="Record at least 10 seconds.",
        )
    return [
        *_advice_on_picture(track, share, median, people),
        *_advice_on_turns(track.angles[track.found, 0]),
        *_advice_on_expressions(camera, eye_distance),
    ]


def _distance(camera: NDArray[np.float64], one: int, other: int) -> NDArray[np.float64]:
    distance: NDArray[np.float64] = np.linalg.norm(camera[:, one] - camera[:, other], axis=1)
    return distance


def _advice_on_picture(track: LandmarkTrack, share: float, eye_distance: float, people: FaceCount | None) -> list[str]:
    advice = []
    if share < GOOD_FOUND_SHARE:
        advice.append(f"The face is lost in {1 - share:.0%} of the frames: keep it in the picture, and hands off it.")
    if eye_distance < GOOD_EYE_DISTANCE:
        advice.append(
            f"The face is small ({eye_distance:.0f} px between the eyes): come closer, or record at a higher "
            f"resolution, to reach {GOOD_EYE_DISTANCE:.0f} px."
        )
    fps = (len(track) - 1) / float(np.ptp(track.seconds)) if len(track) > 1 else 0.0
    if 0 < fps < LEAST_SMOOTH_FPS:
        advice.append(f"The video has {fps:.0f} pictures a second: record 25 or more, or the head moves in steps.")
    if np.nanmedian(track.blur) < GOOD_BLUR:
        advice.append("The face is blurred: clean the lens, hold the camera still, and let it focus on the face.")
    if people is not None and people.brightness < GOOD_BRIGHTNESS:
        advice.append("The face is dark: put a light, or a window, before you and none behind you.")
    face = track.landmarks[track.found][:, :468, :2]
    outside = ((face < 0.0) | (face > 1.0)).any(axis=(1, 2)).mean()
    if outside > 1 - GOOD_FOUND_SHARE:
        advice.append(f"The face is cut off by the picture's edge in {outside:.0%} of the frames: keep it inside.")
    return advice


def _advice_on_turns(yaw: NDArray[np.float32]) -> list[str]:
    right, left = np.percentile(yaw, [2, 98])
    sides = [f"your {name}" for name, turn in (("left", left), ("right", -right)) if round(turn) < GOOD_TURN]
    if not sides:
        return []
    return [
        f"The head is never turned far to {' or '.join(sides)} (it reaches {max(left, 0):.0f}° left and "
        f"{max(-right, 0):.0f}° right): turn it slowly by {GOOD_TURN:.0f}° to each side, so that the cheeks are seen."
    ]


def _advice_on_expressions(camera: NDArray[np.float64], eye_distance: NDArray[np.float64]) -> list[str]:
    advice = []
    low, high = np.percentile(_distance(camera, 13, 14) / eye_distance, [5, 98])
    if low > CLOSED_MOUTH:
        advice.append("The mouth is never closed: hold it closed for a second or two, for the face at rest.")
    if high - low < MOVING_MOUTH:
        advice.append("The mouth hardly moves: talk, so that the avatar learns how you do.")
    openings = [_distance(camera, up, down) / _distance(camera, outer, inner) for up, down, outer, inner in _EYES]
    if np.median(np.mean(openings, axis=0)) < OPEN_EYES:
        advice.append("The eyes are mostly closed: keep them open, and look into the camera.")
    return advice
