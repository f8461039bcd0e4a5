"""The compositor: warps a crop of a video frame, in the frame's own colours, with OpenGL.

It works on the YCbCr planes that the video decoder gives and the encoder takes, and only inside a crop: nothing is
converted to RGB, and what does not move keeps its exact bits.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from avatar_pipeline.errors import EnvironmentProblem

if TYPE_CHECKING:
    import moderngl

SUPERSAMPLE = 2
"""Scene pixels per output pixel and axis; the resolve shaders count on 2."""

_SCENE_VERTEX = """
#version 330
uniform vec2 size;
in vec3 position;
in vec3 source;
in vec3 second;
out vec3 v_source;
out vec3 v_second;
void main() {
    gl_Position = vec4(position.xy / size * 2.0 - 1.0, position.z * 2.0 - 1.0, 1.0);
    v_source = source;
    v_second = second;
}
"""

# Skin samples the plate at its source point. H.264 sites chroma samples on even luma columns, between two luma rows
# (ITU-T H.264 Annex E, chroma_sample_loc_type 0): hence the half pixel. Alpha says how far the result may replace the
# plate: nothing where nothing moves.
_SCENE_FRAGMENT = """
#version 330
uniform vec2 size;
uniform sampler2D luma;
uniform sampler2D cb;
uniform sampler2D cr;
uniform sampler2D atlas;
uniform float gain;
in vec3 v_source;
in vec3 v_second;
out vec4 colour;
const vec3 black = vec3(16.0, 128.0, 128.0) / 255.0;
void main() {
    if (v_source.z < 0.0) {
        vec2 at = v_source.xy;
        vec2 chroma = (at + vec2(0.5, 0.0)) / size;
        float moved = length(at - gl_FragCoord.xy * 0.5);
        float lit = black.x + (texture(luma, at / size).r - black.x) * (1.0 - v_second.z);
        colour = vec4(lit, texture(cb, chroma).r, texture(cr, chroma).r, smoothstep(0.05, 0.5, moved));
    } else {
        vec3 lit = mix(texture(atlas, v_source.xy).rgb, texture(atlas, v_second.xy).rgb, v_second.z) - black;
        lit.x *= gain * v_source.z;
        // what little light there is in a mouth comes from its red walls
        lit.yz = lit.yz * v_source.z + vec2(-0.06, 0.12) * (1.0 - v_source.z) * lit.x;
        colour = vec4(black + lit, 1.0);
    }
}
"""

_RESOLVE_VERTEX = """
#version 330
in vec2 corner;
void main() { gl_Position = vec4(corner, 0.0, 1.0); }
"""

_RESOLVE_LUMA = """
#version 330
uniform sampler2D scene;
uniform sampler2D plane;
out float value;
void main() {
    vec4 mean = texture(scene, gl_FragCoord.xy / vec2(textureSize(plane, 0)));
    value = mix(texelFetch(plane, ivec2(gl_FragCoord.xy), 0).r, mean.r, mean.a);
}
"""

# Four bilinear fetches at texel corners average the 4 x 4 scene texels around the chroma sample.
_RESOLVE_CHROMA = """
#version 330
uniform sampler2D scene;
uniform sampler2D plane;
uniform vec2 origin;
uniform vec4 channel;
out float value;
void main() {
    ivec2 at = ivec2(gl_FragCoord.xy - origin);
    vec2 texel = 1.0 / vec2(textureSize(scene, 0));
    vec2 corner = vec2(at) * 4.0;
    vec4 mean = vec4(0.0);
    for (int i = 0; i < 4; i++)
        mean += 0.25 * texture(scene, (corner + vec2(2 * (i % 2), 1 + 2 * (i / 2))) * texel);
    value = mix(texelFetch(plane, at, 0).r, dot(mean, channel), mean.a);
}
"""


@dataclass(frozen=True, slots=True)
class Scene:
    """What is drawn into one frame.

    `positions` (V, 3): x, y in crop pixels (y down), z depth in 0 (near) to 1. `sources` (V, 3): for skin, the point of
    the crop that it shows, and z = -1; for the mouth's interior, the atlas coordinate in 0..1, and z = its brightness.
    `seconds` (V, 3): for skin, z = how much darker than its source; for the interior, another atlas coordinate, and
    z = its share. `gain`: brightness of the interior.
    """

    positions: NDArray[np.float32]
    sources: NDArray[np.float32]
    seconds: NDArray[np.float32]
    gain: float


class _Released(Protocol):
    def release(self) -> None: ...


def create_context() -> moderngl.Context:
    """Open an OpenGL 3.3 context without a window: the GPU where there is one, Mesa's llvmpipe where not.

    `GLCONTEXT_DEVICE_INDEX` picks one of several EGL devices.

    Raises:
        EnvironmentProblem: EGL gives no context.
    """
    import moderngl

    settings: dict[str, Any] = {"backend": "egl"}
    try:
        return moderngl.create_context(require=330, standalone=True, **settings)
    except Exception as error:
        raise EnvironmentProblem(
            f"No OpenGL 3.3 context could be opened through EGL ({error}).",
            remedy="Install libegl1 and libgl1 with a driver: Mesa's libgl1-mesa-dri for the CPU, or run the container "
            "with NVIDIA_DRIVER_CAPABILITIES=graphics,video,compute,utility for a GPU.",
        ) from error


class Compositor:
    """Draws scenes into crops of I420 frames. Use it as a context manager, in one thread."""

    def __init__(self, *, crop: tuple[int, int], triangles: NDArray[np.int32], vertices: int, atlas: NDArray[np.uint8]):
        """Prepare for crops of `crop` (width, height; even) pixels.

        `triangles` (F, 3) index the scenes' `vertices`; `atlas` (H, W, 3) holds Y, Cb, Cr (BT.709, limited range).
        """
        self._width, self._height = crop
        self._resources: list[_Released] = []
        self._context = self._keep(create_context())
        self.name = str(self._context.info["GL_RENDERER"])
        self._planes = self._make_planes()
        self._atlas = self._make_atlas(atlas)
        self._make_targets()
        self._make_scene(np.ascontiguousarray(triangles, np.int32), vertices)
        self._make_resolve()

    def __enter__(self) -> Compositor:
        return self

    def __exit__(self, *_: object) -> None:
        for resource in reversed(self._resources):
            resource.release()
        self._resources.clear()

    def _keep(self, resource: Any) -> Any:
        self._resources.append(resource)
        return resource

    def _make_planes(self) -> list[moderngl.Texture]:
        half = (self._width // 2, self._height // 2)
        planes = [self._keep(self._context.texture(size, 1)) for size in ((self._width, self._height), half, half)]
        for plane in planes:
            plane.repeat_x = plane.repeat_y = False
        return planes

    def _make_atlas(self, atlas: NDArray[np.uint8]) -> moderngl.Texture:
        import moderngl

        texture = self._keep(self._context.texture((atlas.shape[1], atlas.shape[0]), 3, atlas.tobytes(), alignment=1))
        texture.build_mipmaps()
        texture.filter = (moderngl.LINEAR_MIPMAP_LINEAR, moderngl.LINEAR)
        return texture  # type: ignore[no-any-return]

    def _make_targets(self) -> None:
        size = (self._width * SUPERSAMPLE, self._height * SUPERSAMPLE)
        self._scene = self._keep(self._context.texture(size, 4))
        depth = self._keep(self._context.depth_renderbuffer(size))
        self._scene_target = self._keep(self._context.framebuffer([self._scene], depth))
        packed = self._keep(self._context.texture((self._width, self._height * 3 // 2), 1))
        self._packed_target = self._keep(self._context.framebuffer([packed]))

    def _make_scene(self, triangles: NDArray[np.int32], vertices: int) -> None:
        context = self._context
        program = self._keep(context.program(vertex_shader=_SCENE_VERTEX, fragment_shader=_SCENE_FRAGMENT))
        program["size"].value = (self._width, self._height)
        for unit, name in enumerate(("luma", "cb", "cr", "atlas")):
            program[name].value = unit
        self._vertices = vertices
        names = ("position", "source", "second")
        self._attributes = [self._keep(context.buffer(reserve=vertices * 12, dynamic=True)) for _ in names]
        index = self._keep(context.buffer(triangles.tobytes()))
        layout = [(buffer, "3f", name) for buffer, name in zip(self._attributes, names, strict=True)]
        self._scene_program = program
        self._scene_array = self._keep(context.vertex_array(program, layout, index))

    def _make_resolve(self) -> None:
        context = self._context
        corners = self._keep(context.buffer(np.array([-1, -1, 3, -1, -1, 3], np.float32).tobytes()))
        self._resolve: list[tuple[Any, Any, tuple[int, int, int, int]]] = []
        width, height = self._width, self._height
        areas = (
            (0, 0, width, height),
            (0, height, width // 2, height // 2),
            (width // 2, height, width // 2, height // 2),
        )
        for plane, area in enumerate(areas):
            source = _RESOLVE_CHROMA if plane else _RESOLVE_LUMA
            program = self._keep(context.program(vertex_shader=_RESOLVE_VERTEX, fragment_shader=source))
            program["scene"].value = 4
            program["plane"].value = plane
            if plane:
                program["origin"].value = area[:2]
                program["channel"].value = (0.0, 1.0, 0.0, 0.0) if plane == 1 else (0.0, 0.0, 1.0, 0.0)
            self._resolve.append(
                (program, self._keep(context.vertex_array(program, [(corners, "2f", "corner")])), area)
            )

    def draw(self, frame: NDArray[np.uint8], corner: tuple[int, int], scene: Scene) -> NDArray[np.uint8]:
        """Return a copy of `frame` (I420, (H*3/2, W)) with `scene` drawn into its crop at `corner` (x, y; even)."""
        import moderngl

        attributes = (scene.positions, scene.sources, scene.seconds)
        if any(values.shape != (self._vertices, 3) for values in attributes):
            raise ValueError(f"a scene for this compositor has {self._vertices} vertices")
        out = frame.copy()
        windows = _crop_planes(out, corner, (self._width, self._height))
        for texture, window in zip(self._planes, windows, strict=True):
            texture.write(np.ascontiguousarray(window).tobytes(), alignment=1)
        for buffer, values in zip(self._attributes, attributes, strict=True):
            buffer.write(np.ascontiguousarray(values, np.float32).tobytes())
        for unit, texture in enumerate((*self._planes, self._atlas, self._scene)):
            texture.use(unit)
        self._scene_program["gain"].value = scene.gain
        self._context.enable_only(moderngl.DEPTH_TEST)
        self._scene_target.use()
        self._scene_target.clear(16 / 255, 128 / 255, 128 / 255, 0.0)
        self._scene_array.render()
        self._context.enable_only(moderngl.NOTHING)
        self._packed_target.use()
        for _, array, area in self._resolve:
            self._context.viewport = area
            array.render()
        read = self._packed_target.read(viewport=(self._width, self._height * 3 // 2), components=1, alignment=1)
        packed = np.frombuffer(read, np.uint8).reshape(self._height * 3 // 2, self._width)
        half = self._width // 2
        windows[0][:] = packed[: self._height]
        windows[1][:] = packed[self._height :, :half]
        windows[2][:] = packed[self._height :, half:]
        return out


def _crop_planes(
    frame: NDArray[np.uint8], corner: tuple[int, int], size: tuple[int, int]
) -> tuple[NDArray[np.uint8], NDArray[np.uint8], NDArray[np.uint8]]:
    """Return writable views of the crop in an I420 frame: luma, Cb, Cr."""
    luma, cb, cr = split_planes(frame)
    (x, y), (width, height) = corner, size
    half = np.s_[y // 2 : (y + height) // 2, x // 2 : (x + width) // 2]
    return luma[y : y + height, x : x + width], cb[half], cr[half]


def split_planes(frame: NDArray[np.uint8]) -> tuple[NDArray[np.uint8], NDArray[np.uint8], NDArray[np.uint8]]:
    """Return views of the planes of an I420 frame (H*3/2, W): luma (H, W), Cb and Cr (H/2, W/2)."""
    height, width = frame.shape[0] * 2 // 3, frame.shape[1]
    chroma = frame[height:].reshape(2, height // 2, width // 2)
    return frame[:height], chroma[0], chroma[1]
