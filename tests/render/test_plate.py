import hashlib

import numpy as np
import pytest

from avatar_pipeline.errors import NotFound, StoreCorrupt
from avatar_pipeline.media.decode import decode_frames
from avatar_pipeline.render.plate import TRACK_NAME, VIDEO_NAME, build_plate, read_plate
from avatar_pipeline.store.checkpoints import FolderCheckpoints


def digests(folder):
    return {p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in folder.iterdir() if p.is_file()}


def test_the_plate_plays_at_25_fps_with_the_face_tracked_in_every_frame(footage, plate):
    times = [float(frame.time) for frame in decode_frames(plate.video)]
    np.testing.assert_allclose(times, np.arange(len(plate)) / 25, atol=1e-6)
    assert (plate.width, plate.height) == (footage.track.width, footage.track.height)
    assert len(plate) >= 0.75 * footage.track.seconds[-1] * 25
    assert np.isfinite(plate.landmarks).all()


def test_poses_put_the_mesh_on_the_face(plate, footage):
    projected = plate.poses.project(footage.mesh.vertices[:468])
    eyes = np.linalg.norm(plate.landmarks[0, 33] - plate.landmarks[0, 263])
    assert np.linalg.norm(projected - plate.landmarks[:, :468], axis=2).mean() < 0.05 * eyes


def test_a_keyframe_comes_every_second(plate):
    import av

    with av.open(str(plate.video)) as container:
        keys = [packet.is_keyframe for packet in container.demux(video=0) if packet.pts is not None]
    assert all(any(keys[start : start + 25]) for start in range(0, len(keys) - 24))


def test_the_same_footage_gives_the_same_bytes_also_when_resumed(footage, plate, tmp_path):
    checkpoints = FolderCheckpoints(tmp_path / "chunks")
    build_plate(footage.video, footage.track, footage.mesh, tmp_path, checkpoints=checkpoints)
    first = digests(tmp_path)
    assert first == {p: d for p, d in digests(plate.video.parent).items() if p in (VIDEO_NAME, TRACK_NAME)}
    (tmp_path / VIDEO_NAME).unlink()
    build_plate(footage.video, footage.track, footage.mesh, tmp_path, checkpoints=checkpoints)
    assert digests(tmp_path) == first


def test_a_plate_that_is_stopped_at_a_boundary_goes_on_there_to_the_same_bytes(footage, tmp_path, monkeypatch):
    monkeypatch.setattr("avatar_pipeline.render.plate._CHUNK", 20)

    class Leaving(Exception):
        pass

    def leave(done, total):
        assert (done, total) == (1, 2)
        raise Leaving

    whole, cut = tmp_path / "whole", tmp_path / "cut"
    for folder in (whole, cut):
        folder.mkdir()
    build_plate(
        footage.video, footage.track, footage.mesh, whole, checkpoints=FolderCheckpoints(tmp_path / "whole-chunks")
    )
    checkpoints = FolderCheckpoints(tmp_path / "chunks")
    with pytest.raises(Leaving):
        build_plate(footage.video, footage.track, footage.mesh, cut, checkpoints=checkpoints, boundary=leave)
    assert [path.name for path in (tmp_path / "chunks").glob("*.mp4")] == ["plate-00000.mp4"]
    assert list(cut.iterdir()) == []
    build_plate(footage.video, footage.track, footage.mesh, cut, checkpoints=checkpoints)
    assert digests(cut) == digests(whole)


def test_a_plate_is_read_as_it_was_built(plate):
    again = read_plate(plate.video.parent)
    assert (again.landmarks == plate.landmarks).all() and (again.gain == plate.gain).all()
    assert (again.width, again.height, again.mesh_digest) == (plate.width, plate.height, plate.mesh_digest)


def test_footage_above_1080p_is_not_enlarged_and_small_footage_kept(plate):
    half = plate.scaled(plate.width // 2, plate.height // 2)
    np.testing.assert_allclose(half.landmarks, plate.landmarks / 2)
    face = plate.tracked(0)
    np.testing.assert_allclose(half.tracked(0).shape, face.shape, atol=1e-3)


def test_a_side_that_is_rounded_leaves_the_face_within_a_pixel(plate):
    """Even sides are not quite in proportion: 288 px to 101 by 100, say."""
    squeezed = plate.scaled(101, 100)
    factor = np.array([101 / plate.width, 100 / plate.height])
    drift = squeezed.landmarks[..., :2] - plate.landmarks[..., :2] * factor
    assert 0 < np.abs(drift).max() < 0.5


def test_a_missing_plate_is_named(tmp_path):
    with pytest.raises(NotFound, match=VIDEO_NAME):
        read_plate(tmp_path)


def test_a_damaged_track_is_named(tmp_path, plate):
    (tmp_path / VIDEO_NAME).write_bytes(plate.video.read_bytes())
    (tmp_path / TRACK_NAME).write_bytes(b"PK\x03\x04 not really")
    with pytest.raises(StoreCorrupt, match=TRACK_NAME):
        read_plate(tmp_path)
