from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from avatar_pipeline.mesh.build import assemble
from avatar_pipeline.mesh.check import check_mesh
from avatar_pipeline.mesh.morphs import MORPH_NAMES
from avatar_pipeline.mesh.types import AvatarMesh
from tests.mesh.heads import rest, template_head


@pytest.fixture(scope="module")
def sound() -> AvatarMesh:
    face = rest(template_head())
    return assemble(face, np.zeros((len(MORPH_NAMES), 468, 3)), np.zeros((64, 64, 3), np.uint8))


def test_a_sound_mesh_has_no_fault(sound: AvatarMesh) -> None:
    faults = check_mesh(sound)
    assert (faults.degenerate_triangles, faults.flipped_uv_triangles, faults.flipped_normals) == (0, 0, 0)


def test_a_collapsed_triangle_is_degenerate(sound: AvatarMesh) -> None:
    vertices = sound.vertices.copy()
    vertices[152] = vertices[148]
    assert check_mesh(replace(sound, vertices=vertices)).degenerate_triangles > 0


def test_two_swapped_vertices_flip_triangles(sound: AvatarMesh) -> None:
    vertices = sound.vertices.copy()
    vertices[[205, 50]] = vertices[[50, 205]]
    assert check_mesh(replace(sound, vertices=vertices)).flipped_normals > 0


def test_a_face_turned_inside_out_is_flipped_all_over(sound: AvatarMesh) -> None:
    assert check_mesh(replace(sound, vertices=sound.vertices * np.float32([-1, 1, 1]))).flipped_normals > 500


def test_a_mirrored_atlas_is_flipped_all_over(sound: AvatarMesh) -> None:
    faults = check_mesh(replace(sound, uv=sound.uv * np.float32([-1, 1]) + np.float32([1, 0])))
    assert faults.flipped_uv_triangles > 800


def test_what_is_not_a_number_is_a_fault(sound: AvatarMesh) -> None:
    faults = check_mesh(replace(sound, vertices=np.full_like(sound.vertices, np.nan)))
    assert faults.degenerate_triangles == len(sound.faces)
    assert faults.flipped_normals == 852
