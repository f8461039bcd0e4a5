"""Draws the head in front of its plate with OpenGL: painter's order, antialiased by drawing the head at double size."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from avatar_pipeline.mesh.topology import LIP_PAIRS, MOUTH
from avatar_pipeline.render.renderer import create_context
from avatar_pipeline.sample.head import Head, Patch
from avatar_pipeline.sample.portrait import Portrait, photographed_teeth

if TYPE_CHECKING:
    import moderngl

    from avatar_pipeline.face.pose import HeadPoses

_VERTEX = """#version 330
in vec2 at; in vec2 uv; in vec3 tint; out vec2 where; out vec3 shade; uniform float size;
void main() { gl_Position = vec4(at / size * 2.0 - 1.0, 0.0, 1.0); where = uv; shade = tint; }"""
_FRAGMENT = """#version 330
uniform sampler2D picture; in vec2 where; in vec3 shade; out vec4 colour;
void main() { vec4 c = texture(picture, where); colour = vec4(c.rgb * shade * c.a, c.a); }"""
_SCREEN = """#version 330
in vec2 at; out vec2 where; void main() { gl_Position = vec4(at, 0.0, 1.0); where = at * 0.5 + 0.5; }"""
_OVER = """#version 330
uniform sampler2D head; uniform sampler2D plate; in vec2 where; out vec4 colour;
void main() { vec4 h = texture(head, where); colour = vec4(h.rgb + texture(plate, where).rgb * (1.0 - h.a), 1.0); }"""

_OVERSAMPLING = 2
_CAVITY = np.array([[26, 9, 9], [44, 16, 15], [104, 50, 47]], np.float32) / 255
"""Colours of the mouth behind the teeth, from the upper lip over the throat to the tongue."""
_TOP = np.array([MOUTH[0], *(a for a, _ in LIP_PAIRS), MOUTH[10]])
_BOTTOM = np.array([MOUTH[0], *(b for _, b in LIP_PAIRS), MOUTH[10]])


class Stage:
    """An OpenGL context that holds the portrait's pictures and draws frames (S, S, 3) uint8. Use as a context manager.

    Raises:
        EnvironmentProblem: no OpenGL 3.3 context can be made through EGL.
    """

    def __init__(self, portrait: Portrait, head: Head) -> None:
        self._gl = create_context()
        gl = self._gl
        self._head = head
        self._size = portrait.size
        cut = np.dstack([portrait.image, np.round(portrait.head_alpha * 255).astype(np.uint8)])
        self._portrait = self._texture(cut)
        self._teeth = self._texture(photographed_teeth(portrait))
        self._opaque = self._texture(np.dstack([portrait.image, np.full_like(cut[..., 3], 255)]))
        self._white = self._texture(np.full((1, 1, 4), 255, np.uint8))
        self._plate = self._texture(np.dstack([portrait.plate, np.full_like(cut[..., 3], 255)]))
        large = (self._size * _OVERSAMPLING,) * 2
        self._drawn = gl.texture(large, 4)
        self._canvas = gl.framebuffer([self._drawn])
        self._frame = gl.framebuffer([gl.renderbuffer((self._size, self._size), 4)])
        self._program = gl.program(vertex_shader=_VERTEX, fragment_shader=_FRAGMENT)
        self._program["size"] = float(self._size)
        self._over = gl.program(vertex_shader=_SCREEN, fragment_shader=_OVER)
        self._over["head"], self._over["plate"] = 0, 1
        corners = np.array([-1, -1, 1, -1, -1, 1, 1, 1], np.float32)
        self._screen = gl.vertex_array(self._over, [(gl.buffer(corners.tobytes()), "2f", "at")])
        self._vertices = gl.buffer(reserve=1 << 20, dynamic=True)
        self._indices = gl.buffer(reserve=1 << 18, dynamic=True)
        layout = [(self._vertices, "2f 2f 3f", "at", "uv", "tint")]
        self._surface = gl.vertex_array(self._program, layout, self._indices)

    def __enter__(self) -> Stage:
        return self

    def __exit__(self, *_: object) -> None:
        self._gl.release()

    def _texture(self, image: NDArray[np.uint8]) -> moderngl.Texture:
        texture = self._gl.texture(
            (image.shape[1], image.shape[0]), image.shape[2], np.ascontiguousarray(image).tobytes()
        )
        texture.repeat_x = texture.repeat_y = False
        return texture

    def draw(self, shape: NDArray[np.float64], pose: HeadPoses) -> NDArray[np.uint8]:
        """Draw the head with the vertices `shape` (V, 3) in mm at a pose (one frame)."""
        gl, head = self._gl, self._head
        gl.enable_only(gl.BLEND)
        gl.blend_func = gl.ONE, gl.ONE_MINUS_SRC_ALPHA
        self._canvas.use()
        self._canvas.clear(0, 0, 0, 0)
        self._draw_patch(self._opaque, pose, head.eyes)
        self._draw_cavity(shape, pose)
        self._draw_patch(self._teeth, pose, head.teeth)
        self._draw_patch(self._portrait, pose, Patch(shape, head.uv, head.triangles))
        gl.enable_only(gl.NOTHING)
        self._frame.use()
        self._drawn.use(0)
        self._plate.use(1)
        self._screen.render(gl.TRIANGLE_STRIP)
        data = self._frame.read(components=3, alignment=1)
        return np.frombuffer(data, np.uint8).reshape(self._size, self._size, 3)

    def _draw_patch(
        self,
        picture: moderngl.Texture,
        pose: HeadPoses,
        patch: Patch,
        tint: NDArray[np.float32] | None = None,
    ) -> None:
        camera = pose.project(patch.vertices)[0]
        order = _back_to_front(camera, patch.triangles)
        at = camera[:, :2] * [1, -1]
        colour: NDArray[Any] = np.ones((len(at), 3)) if tint is None else tint
        self._vertices.write(np.concatenate([at, patch.uv, colour], axis=1).astype(np.float32).tobytes())
        self._indices.write(order.astype(np.int32).tobytes())
        picture.use(0)
        self._surface.render(vertices=order.size)

    def _draw_cavity(self, shape: NDArray[np.float64], pose: HeadPoses) -> None:
        top, bottom = shape[_TOP], shape[_BOTTOM]
        rows = np.stack([top, top + 0.5 * (bottom - top), bottom])
        rows[..., 2] -= 2.0
        rows[0, :, 1] += 0.6
        rows[2, :, 1] -= 0.6
        columns = rows.shape[1]
        tint = np.repeat(_CAVITY[:, None], columns, axis=1)
        grid = np.arange(3 * columns).reshape(3, columns)
        a, b, c, d = grid[:-1, :-1], grid[1:, :-1], grid[:-1, 1:], grid[1:, 1:]
        triangles = np.concatenate([np.stack(t, -1).reshape(-1, 3) for t in ((a, b, c), (c, b, d))])
        uv = np.full((3 * columns, 2), 0.5, np.float32)
        self._draw_patch(self._white, pose, Patch(rows.reshape(-1, 3), uv, triangles), tint.reshape(-1, 3))


def _back_to_front(camera: NDArray[np.float64], triangles: NDArray[np.int32]) -> NDArray[np.int32]:
    """Drop triangles that face away, and sort the others by their depth, farthest first."""
    a, b, c = (camera[triangles[:, k]] for k in range(3))
    area = (b[:, 0] - a[:, 0]) * (c[:, 1] - a[:, 1]) - (b[:, 1] - a[:, 1]) * (c[:, 0] - a[:, 0])
    seen = area > 0
    depth = (a[seen, 2] + b[seen, 2] + c[seen, 2]) / 3
    ordered: NDArray[np.int32] = triangles[seen][np.argsort(depth, kind="stable")]
    return ordered
