"""Views of a mesh by itself, lit and turned: for previews and for looking at what morph targets do."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from avatar_pipeline.mesh.types import AvatarMesh

_VERTEX = """#version 330
in vec3 position; in vec3 normal; in vec2 uv; out vec2 at; out vec3 towards;
void main() { gl_Position = vec4(position, 1.0); at = uv; towards = normal; }"""
_FRAGMENT = """#version 330
uniform sampler2D skin; in vec2 at; in vec3 towards; out vec4 colour;
void main() {
    float light = 0.72 + 0.28 * max(dot(normalize(towards), normalize(vec3(0.2, 0.35, 1.0))), 0.0);
    colour = vec4(texture(skin, at).rgb * light, 1.0);
}"""

_MARGIN = 1.25
_BACKDROP = (0.93, 0.93, 0.95, 1.0)


@dataclass(frozen=True, slots=True)
class View:
    """How to look at a mesh: morph weights by name, and the turn of the head in degrees (to the subject's left, up)."""

    weights: Mapping[str, float]
    yaw: float = 0.0
    pitch: float = 0.0


SHEET: tuple[View, ...] = (
    View({}),
    View({}, yaw=-20),
    View({}, yaw=20),
    View({"eyeBlinkLeft": 1, "eyeBlinkRight": 1}),
    View({"viseme_PP": 1}),
    View({"viseme_aa": 1}),
    View({"viseme_O": 1}),
    View({"mouthSmileLeft": 1, "mouthSmileRight": 1}),
)
"""The views that tell most of a mesh at a glance: neutral from three sides, blink, closed, open, rounded, smile."""


def morph_sheet(
    mesh: AvatarMesh, views: Sequence[View] = SHEET, *, columns: int = 4, cell: int = 256
) -> NDArray[np.uint8]:
    """Draw `views` of a mesh as a grid of square cells, RGB (H, W, 3).

    Raises:
        EnvironmentProblem: there is no OpenGL.
    """
    rows = -(-len(views) // columns)
    sheet = np.full((rows * cell, columns * cell, 3), 255, np.uint8)
    for number, picture in enumerate(draw_views(mesh, views, size=cell)):
        top, left = number // columns * cell, number % columns * cell
        sheet[top : top + cell, left : left + cell] = picture
    return sheet


def draw_views(mesh: AvatarMesh, views: Sequence[View], *, size: int) -> list[NDArray[np.uint8]]:
    """Draw each view orthographically, `size` pixels square, RGB, antialiased by drawing at double size."""
    import cv2
    import moderngl

    from avatar_pipeline.render.renderer import create_context

    faces = mesh.faces
    large = 2 * size
    with ExitStack() as stack:
        gl = create_context()
        # As a context manager moderngl's context is only made current, and lives on.
        stack.callback(gl.release)
        gl.enable(moderngl.DEPTH_TEST)
        program = gl.program(vertex_shader=_VERTEX, fragment_shader=_FRAGMENT)
        texture = gl.texture(
            (mesh.texture.shape[1], mesh.texture.shape[0]), 3, np.ascontiguousarray(mesh.texture).tobytes(), alignment=1
        )
        texture.build_mipmaps()
        target = gl.framebuffer([gl.renderbuffer((large, large), 4)], gl.depth_renderbuffer((large, large)))
        buffer = gl.buffer(reserve=len(mesh.vertices) * 32)
        array = gl.vertex_array(
            program, [(buffer, "3f 3f 2f", "position", "normal", "uv")], gl.buffer(faces.astype("i4").tobytes())
        )
        pictures = []
        for view in views:
            buffer.write(_vertices(mesh, faces, view).tobytes())
            target.use()
            target.clear(*_BACKDROP)
            texture.use()
            array.render()
            raw = np.frombuffer(target.read(components=3, alignment=1), np.uint8).reshape(large, large, 3)[::-1]
            pictures.append(np.asarray(cv2.resize(raw, (size, size), interpolation=cv2.INTER_AREA), np.uint8))
        return pictures


def _vertices(mesh: AvatarMesh, faces: NDArray[np.int32], view: View) -> NDArray[np.float32]:
    """Return position in clip space, normal and texture coordinate of every vertex, (V, 8)."""
    shape = mesh.vertices.astype(np.float64)
    for name, weight in view.weights.items():
        shape = shape + weight * mesh.morph(name)
    centre = (mesh.vertices.max(0) + mesh.vertices.min(0)) / 2
    shape = (shape - centre) @ _turn(view.yaw, view.pitch).T
    corners = shape[faces]
    across = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    normals = np.zeros_like(shape)
    for corner in range(3):
        np.add.at(normals, faces[:, corner], across)
    extent = float(np.abs(mesh.vertices - centre)[:, :2].max()) * _MARGIN
    clip = shape / extent * [1, 1, -0.5]
    return np.hstack([clip, normals, mesh.uv]).astype(np.float32)


def _turn(yaw: float, pitch: float) -> NDArray[np.float64]:
    """Return the rotation that turns a head by `yaw` degrees to its left and `pitch` degrees up."""
    a, b = np.radians(yaw), np.radians(pitch)
    sideways = np.array([[np.cos(a), 0, np.sin(a)], [0, 1, 0], [-np.sin(a), 0, np.cos(a)]])
    upwards = np.array([[1, 0, 0], [0, np.cos(b), np.sin(b)], [0, -np.sin(b), np.cos(b)]])
    turned: NDArray[np.float64] = upwards @ sideways
    return turned
