"""The landmark track on disk: a Parquet file of one row a frame, for people and for any data tool."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from avatar_pipeline.errors import EnvironmentProblem, StoreCorrupt
from avatar_pipeline.face.types import LANDMARKS, LandmarkTrack
from avatar_pipeline.store.atomic import atomic_file

if TYPE_CHECKING:
    from numpy.typing import NDArray

FORMAT = "avatar-pipeline landmark track"
VERSION = "1"
_ROWS = 1024
"""Rows in a group: 6 MB, so that writing and reading take little more memory than the track itself."""
_ANGLES = ("yaw", "pitch", "roll")


def write_track(path: Path, track: LandmarkTrack) -> None:
    """Write a track as Parquet, whole or not at all; the same track gives the same bytes.

    Columns: `index`, `pts` (in units of the metadata's `time_base`), `seconds`, `found`, `landmarks` (1,434 float32:
    478 × x, y, z), `yaw`, `pitch`, `roll`, `blur`, `face_size`, and `blendshapes` where the detector gives them. Rows
    without a face hold NaN. The rest of the track is in the file's key-value metadata.

    Raises:
        EnvironmentProblem: pyarrow cannot be loaded.
    """
    pa, pq = _arrow()
    schema = _schema(track)
    floats = [name for name in schema.names if name not in {"index", "pts", "seconds", "found"}]
    with (
        atomic_file(path) as temporary,
        pq.ParquetWriter(
            temporary,
            schema,
            compression="zstd",
            use_dictionary=False,
            use_byte_stream_split=[f"{name}.list.element" if name in _lists(track) else name for name in floats],
        ) as writer,
    ):
        for rows in _row_groups(len(track)):
            writer.write_table(pa.Table.from_arrays(_columns(track, rows), schema=schema))


def read_track(path: Path) -> LandmarkTrack:
    """Read what `write_track` wrote, exactly.

    Raises:
        StoreCorrupt: the file is missing, damaged, or something else than a landmark track.
        EnvironmentProblem: pyarrow cannot be loaded.
    """
    pa, pq = _arrow()
    try:
        with pq.ParquetFile(path) as file:
            return _read(file)
    except (pa.ArrowException, OSError, KeyError, ValueError, ZeroDivisionError) as error:
        raise StoreCorrupt(
            f"{path.name} is not a landmark track of version {VERSION}: {error}.",
            remedy="Delete the artifact and materialize 'landmarks' again.",
        ) from error


def _arrow() -> tuple[Any, Any]:
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise EnvironmentProblem(
            f"pyarrow cannot be loaded: {error}.",
            remedy="Install pyarrow>=16,<26: from 26 on it needs NumPy 2, which mediapipe 0.10.21 rules out.",
        ) from error
    return pyarrow, pyarrow.parquet


def _lists(track: LandmarkTrack) -> dict[str, NDArray[np.float32]]:
    lists = {"landmarks": track.landmarks}
    if track.blendshapes is not None:
        lists["blendshapes"] = track.blendshapes
    return lists


def _schema(track: LandmarkTrack) -> Any:
    pa, _ = _arrow()

    fields = [("index", pa.int64()), ("pts", pa.int64()), ("seconds", pa.float64()), ("found", pa.bool_())]
    fields.append(("landmarks", pa.list_(pa.float32(), LANDMARKS * 3)))
    fields += [(name, pa.float32()) for name in (*_ANGLES, "blur", "face_size")]
    if track.blendshapes is not None:
        fields.append(("blendshapes", pa.list_(pa.float32(), len(track.blendshape_names))))
    metadata = {
        "format": FORMAT,
        "version": VERSION,
        "rows": str(len(track)),
        "width": str(track.width),
        "height": str(track.height),
        "time_base": str(track.time_base),
        "detector": track.detector,
        "blendshape_names": " ".join(track.blendshape_names),
    }
    return pa.schema([pa.field(name, kind, nullable=False) for name, kind in fields], metadata)


def _row_groups(rows: int) -> Iterator[slice]:
    for start in range(0, rows, _ROWS):
        yield slice(start, min(start + _ROWS, rows))


def _columns(track: LandmarkTrack, rows: slice) -> list[Any]:
    pa, _ = _arrow()

    lists = {
        name: pa.FixedSizeListArray.from_arrays(pa.array(values[rows].ravel()), values[0].size)
        for name, values in _lists(track).items()
    }
    columns = [
        pa.array(np.arange(rows.start, rows.stop)),
        pa.array(track.pts[rows]),
        pa.array(track.seconds[rows]),
        pa.array(track.found[rows]),
        lists["landmarks"],
        *(pa.array(np.ascontiguousarray(track.angles[rows, axis])) for axis in range(3)),
        pa.array(track.blur[rows]),
        pa.array(track.face_size[rows]),
    ]
    return [*columns, lists["blendshapes"]] if "blendshapes" in lists else columns


def _read(file: Any) -> LandmarkTrack:
    metadata = {key.decode(): value.decode() for key, value in (file.schema_arrow.metadata or {}).items()}
    if (metadata.get("format"), metadata.get("version")) != (FORMAT, VERSION):
        raise ValueError("its metadata do not say so")
    rows = file.metadata.num_rows
    if str(rows) != metadata["rows"]:
        raise ValueError(f"it has {rows} rows in place of {metadata['rows']}")
    names = tuple(metadata["blendshape_names"].split())
    scored = "blendshapes" in file.schema_arrow.names
    track = LandmarkTrack(
        width=int(metadata["width"]),
        height=int(metadata["height"]),
        time_base=Fraction(metadata["time_base"]),
        pts=np.empty(rows, np.int64),
        found=np.empty(rows, np.bool_),
        landmarks=np.empty((rows, LANDMARKS, 3), np.float32),
        angles=np.empty((rows, 3), np.float32),
        blur=np.empty(rows, np.float32),
        face_size=np.empty(rows, np.float32),
        blendshapes=np.empty((rows, len(names)), np.float32) if scored else None,
        blendshape_names=names,
        detector=metadata["detector"],
    )
    start = 0
    for batch in file.iter_batches(_ROWS):
        span = slice(start, start + batch.num_rows)
        for name in ("pts", "found", "blur", "face_size"):
            getattr(track, name)[span] = batch.column(name).to_numpy(zero_copy_only=False)
        for axis, name in enumerate(_ANGLES):
            track.angles[span, axis] = batch.column(name).to_numpy()
        for name, values in _lists(track).items():
            flat = batch.column(name).flatten().to_numpy()
            values[span] = flat.reshape(values[span].shape)
        start = span.stop
    return track
