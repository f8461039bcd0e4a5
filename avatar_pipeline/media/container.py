"""The one door to a media file: a regular local file in an accepted container, opened so that it reaches no other."""

from __future__ import annotations

import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from avatar_pipeline.errors import InvalidMedia
from avatar_pipeline.media.streams import AUDIO_CODECS, VIDEO_CODECS

if TYPE_CHECKING:
    from av.container import InputContainer

ACCEPTED = "MP4, MOV, WebM and Matroska"

_MOV_ATOMS = frozenset({b"ftyp", b"moov", b"mdat", b"free", b"skip", b"wide", b"pnot"})
_EBML = b"\x1a\x45\xdf\xa3"
_SNIFF_BYTES = 64
_DEMUXERS = {"mp4": "mov", "mov": "mov", "webm": "matroska", "matroska": "matroska"}
_OPTIONS = {
    # Playlists, concat scripts and image sequences are formats that open other files: none is on the list, and
    # a file of a listed format could open nothing but local files (MOV's own references to other files stay off,
    # ffmpeg's default `enable_drefs=0`).
    "protocol_whitelist": "file",
    "format_whitelist": "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm",
    # ffmpeg decodes a little while opening; it may use no decoder that we would not use.
    "codec_whitelist": ",".join(sorted(VIDEO_CODECS | AUDIO_CODECS | {"amrnb", "amrwb", "libdav1d", "libopus"})),
}


def regular_file_size(path: Path) -> int:
    """Return the size in bytes of a regular file (a link to one is followed).

    Raises:
        InvalidMedia: there is no such file, it cannot be read, it is a folder, a device or a pipe, or it is empty.
    """
    try:
        status = path.stat()
    except OSError as error:
        raise InvalidMedia(
            f"{path.name}: cannot be read ({error.strerror or 'unreadable'}).", remedy="Check the path and its rights."
        ) from error
    if not stat.S_ISREG(status.st_mode):
        raise InvalidMedia(f"{path.name}: is not a regular file.", remedy="Give the path of a video file.")
    if status.st_size == 0:
        raise InvalidMedia(f"{path.name}: is empty (0 bytes).", remedy="Upload the file again.")
    return status.st_size


def container_of(path: Path) -> str:
    """Return 'mp4', 'mov', 'webm' or 'matroska', from the first bytes of the file and never from its name.

    Raises:
        InvalidMedia: it is none of them, or cannot be read.
    """
    regular_file_size(path)
    try:
        with path.open("rb") as file:
            head = file.read(_SNIFF_BYTES)
    except OSError as error:
        raise InvalidMedia(
            f"{path.name}: cannot be read ({error.strerror or 'unreadable'}).", remedy="Check the path and its rights."
        ) from error
    if head[:4] == _EBML:
        return "webm" if b"webm" in head else "matroska"
    if head[4:8] in _MOV_ATOMS:
        return "mov" if head[4:8] != b"ftyp" or head[8:12] == b"qt  " else "mp4"
    raise InvalidMedia(
        f"{path.name}: is not a video in a container that is accepted ({ACCEPTED}).",
        remedy="Export the recording as MP4 (H.264 and AAC).",
    )


@contextmanager
def media_errors(path: Path, fault: str = "is damaged or incomplete") -> Iterator[None]:
    """Turn ffmpeg's errors inside the block into one InvalidMedia line about `path`."""
    import av

    try:
        yield
    except av.error.FFmpegError as error:
        raise InvalidMedia(
            f"{path.name}: {fault} ({error.strerror}).",
            remedy="Check that it plays to the end, then upload or export it again.",
        ) from error


@contextmanager
def open_media(path: Path) -> Iterator[InputContainer]:
    """Open a media file for reading, by the demuxer that its first bytes call for.

    Raises:
        InvalidMedia: not a regular file, not an accepted container, or its index cannot be read. Errors of ffmpeg
            inside the block are turned into InvalidMedia too.
    """
    import av

    demuxer = _DEMUXERS[container_of(path)]
    with media_errors(path, "is damaged or incomplete: its index cannot be read"):
        # The prefix keeps a name such as `concat:a|b` from being read as a protocol.
        container = av.open(
            f"file:{path.absolute()}",
            mode="r",
            format=demuxer,
            container_options=_OPTIONS,
            metadata_errors="replace",
        )
    with container, media_errors(path):
        yield container
