"""The uploads place: where the videos and consents of avatar requests lie, and the only place they are read from.

A request names files by URI, and whoever may send requests may write any URI. So a URI is good only if it lies under
the uploads place (a folder, or `s3://bucket/prefix`), letter by letter: there is no other scheme, no `..`, no link.
"""

from __future__ import annotations

import errno
import hashlib
import os
import re
import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any, Literal

from avatar_pipeline.consent import MAX_BYTES
from avatar_pipeline.errors import EnvironmentProblem, InvalidInput, NotFound
from avatar_pipeline.settings import InvalidSettings, Settings
from avatar_pipeline.store.atomic import atomic_file
from avatar_pipeline.store.keys import file_sha256

UploadField = Literal["video_uri", "consent_uri", "recording"]
"""What a file is: named by a request, or (the recording) by a consent, beside which it lies."""

_S3 = re.compile(r"s3://[a-z0-9][a-z0-9.-]{1,61}[a-z0-9](/[^/?#]+)*")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_BLOCK = 1024 * 1024
_LONGEST_NAME = 100


def uploads_root(settings: Settings) -> str:
    """Return the uploads place as every URI under it begins: an absolute path, or `s3://bucket/prefix`.

    Raises:
        InvalidSettings: AVATAR_UPLOADS is neither a folder nor an S3 URI.
    """
    place = settings.uploads_uri
    if "://" not in place:
        return os.path.abspath(place)  # noqa: PTH100 (unlike Path.absolute, it takes out '..')
    if not _S3.fullmatch(place.rstrip("/")):
        raise InvalidSettings(
            "AVATAR_UPLOADS is neither a folder nor an s3://bucket/prefix URI.", remedy="See docs/settings.md."
        )
    return place.rstrip("/")


def is_upload(settings: Settings, uri: str) -> bool:
    """Return whether a URI lies under the uploads place. Whether anything is there is another question."""
    try:
        _parts(settings, uri, "video_uri")
    except InvalidSettings:
        raise
    except InvalidInput:
        return False
    return True


def require_under_uploads(settings: Settings, uri: str, field: UploadField) -> None:
    """Check that a URI lies under the uploads place, without looking whether anything is there.

    Raises:
        InvalidInput: it does not; the message names `field` and the place.
    """
    _parts(settings, uri, field)


def require_upload(settings: Settings, uri: str, field: UploadField) -> None:
    """Check that a URI under the uploads place names a file, and that its size is within the limit.

    Raises:
        InvalidInput: it does not; the message names `field` and the limit.
        EnvironmentProblem: the uploads place cannot be read.
    """
    with _opened(settings, uri, field):
        return


def keep_upload(settings: Settings, path: Path, field: UploadField) -> str:
    """Copy a local file into the uploads place, under its content hash and its own name, and return its URI.

    The copy is whole or not there. The same file again gives the same URI, and is not copied again.

    Raises:
        InvalidInput: it is no file, is empty or too large, or changed while it was read.
        EnvironmentProblem: the uploads place cannot be written.
    """
    root = uploads_root(settings)
    _require_size(path.name, _size_of(path, field), settings, field)
    before = path.stat()
    sha256 = file_sha256(path)
    parts = (sha256, _safe_name(path.name))
    uri = "/".join((root, *parts))
    if root.startswith("s3://"):
        _put(path, uri, before.st_size)
    else:
        _copy(path, Path(root).joinpath(*parts), sha256)
    after = path.stat()
    if (after.st_size, after.st_mtime_ns) != (before.st_size, before.st_mtime_ns):
        raise _changed(path)
    return uri


def beside(uri: str, name: str) -> str:
    """Return the URI of a file that lies where another does."""
    return f"{uri.rpartition('/')[0]}/{name}"


def keep_recording(settings: Settings, path: Path, consent_uri: str, name: str) -> str:
    """Copy the recording that a consent names to beside that consent in the uploads place, and return its URI.

    Raises:
        InvalidInput: it is no file, is empty or too large, or changed while it was read.
        EnvironmentProblem: the uploads place cannot be written.
    """
    uri = beside(consent_uri, name)
    parts = _parts(settings, uri, "recording")
    size = _size_of(path, "recording")
    _require_size(name, size, settings, "recording")
    root = uploads_root(settings)
    if root.startswith("s3://"):
        _put(path, uri, size)
    else:
        _copy(path, Path(root).joinpath(*parts), file_sha256(path))
    return uri


def fetch_upload(settings: Settings, uri: str, folder: Path, *, field: UploadField = "video_uri") -> Path:
    """Bring a file of the uploads place into `folder`; return where it is. Nothing else is ever read.

    A file that lies under its content hash, as `keep_upload` puts it, is checked against it; a recording lies under the
    hash of its consent, which has its own.

    Raises:
        InvalidInput: the URI lies elsewhere, or names no file, one that is too large, or one that is damaged. The
            message names `field` and the limit.
        EnvironmentProblem: the uploads place cannot be read.
    """
    parts = _parts(settings, uri, field)
    target = folder / field / _safe_name(parts[-1])
    target.parent.mkdir(parents=True, exist_ok=True)
    digest = hashlib.sha256()
    try:
        with _opened(settings, uri, field) as source, target.open("wb") as copy:
            copied = 0
            while block := source.read(_BLOCK):
                copied += len(block)
                _require_size(field, copied, settings, field)
                digest.update(block)
                copy.write(block)
        if field != "recording" and len(parts) > 1 and _SHA256.fullmatch(parts[-2]) and digest.hexdigest() != parts[-2]:
            raise InvalidInput(
                f"{field}: {uri!r} does not match the SHA-256 that it lies under.",
                remedy="Upload it again, whole, and send the request again.",
            )
    except BaseException:
        target.unlink(missing_ok=True)
        raise
    return target


def delete_upload(settings: Settings, uri: str, *, field: UploadField = "video_uri") -> None:
    """Delete a file of the uploads place; one that is gone already is not an error.

    Raises:
        InvalidInput: the URI lies elsewhere.
        EnvironmentProblem: the uploads place cannot be written.
    """
    parts = _parts(settings, uri, field)
    root = uploads_root(settings)
    if root.startswith("s3://"):
        with _s3_troubles(), suppress(FileNotFoundError):
            fs, path = _s3(uri)
            fs.rm_file(path)
        return
    with suppress(NotFound), _folder_troubles(uri, field), _folder_of(root, parts) as inner:
        os.unlink(parts[-1], dir_fd=inner)


def _parts(settings: Settings, uri: str, field: UploadField) -> tuple[str, ...]:
    """Return the names below the uploads place."""
    root = uploads_root(settings)
    roots = [root] if root.startswith("s3://") else [root, os.path.realpath(root)]
    for base in roots:
        if not uri.startswith(f"{base.rstrip('/')}/"):
            continue
        parts = tuple(uri[len(base.rstrip("/")) + 1 :].split("/"))
        odd = {"", ".", ".."} & set(parts) or not uri.isprintable() or "\\" in uri
        # What these mean is the storage library's affair, and may be more than a part of a name.
        odd = odd or (root.startswith("s3://") and set("?#*[]") & set(uri))
        if not odd:
            return parts
    # The URI is not shown: it may be a signed one.
    raise InvalidInput(
        f"{field} does not lie under the uploads place {root}.",
        remedy="Put the file there and name it by its plain URI, or let `avatar queue send avatar` do both.",
    )


@contextmanager
def _opened(settings: Settings, uri: str, field: UploadField) -> Iterator[IO[bytes]]:
    """Give a file of the uploads place to read, its size checked."""
    parts = _parts(settings, uri, field)
    root = uploads_root(settings)
    if root.startswith("s3://"):
        with _s3_troubles():
            fs, path = _s3(uri)
            try:
                info = fs.info(path)
                if info["type"] != "file":
                    raise FileNotFoundError
                _require_size(f"{field}: {uri!r}", info["size"], settings, field)
                with fs.open(path, "rb", block_size=8 * _BLOCK, cache_type="readahead") as stream:
                    yield stream
            except FileNotFoundError as error:
                raise _not_there(uri, field) from error
        return
    with _folder_troubles(uri, field), _folder_of(root, parts) as inner:
        # Non-blocking: a pipe put there would hold up the worker for ever.
        handle = os.open(parts[-1], os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=inner)
    try:
        found = os.fstat(handle)
        if not stat.S_ISREG(found.st_mode):
            raise _not_there(uri, field)
        _require_size(f"{field}: {uri!r}", found.st_size, settings, field)
        with os.fdopen(handle, "rb", closefd=False) as stream:
            yield stream
    finally:
        os.close(handle)


@contextmanager
def _folder_of(root: str, parts: tuple[str, ...]) -> Iterator[int]:
    """Give a handle of the folder that holds a file, reached from the root by names that are not links.

    Each step is taken from the handle of the step before: what is swapped for a link meanwhile is not followed.
    """
    try:
        handle = os.open(root, os.O_RDONLY | os.O_DIRECTORY)
    except OSError as error:
        raise EnvironmentProblem(
            f"The uploads place {root} cannot be read: {error.strerror}.", remedy="Check AVATAR_UPLOADS, or mount it."
        ) from error
    try:
        for name in parts[:-1]:
            inner = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=handle)
            os.close(handle)
            handle = inner
        yield handle
    finally:
        os.close(handle)


@contextmanager
def _folder_troubles(uri: str, field: UploadField) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno in {errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENXIO, errno.ENAMETOOLONG}:
            raise _not_there(uri, field) from error
        raise EnvironmentProblem(
            f"{field}: {uri!r} cannot be read: {error.strerror}.", remedy="Check the rights in the uploads place."
        ) from error


@contextmanager
def _s3_troubles() -> Iterator[None]:
    from botocore.exceptions import BotoCoreError, ClientError

    try:
        yield
    except FileNotFoundError:
        raise
    except (OSError, BotoCoreError, ClientError) as error:
        raise EnvironmentProblem(
            f"The uploads place cannot be reached: {error}.",
            remedy="Check AVATAR_UPLOADS, the bucket, its region, and the credentials.",
        ) from error


def _s3(uri: str) -> tuple[Any, str]:
    """Return the file system and the path in it of an S3 URI that was found good."""
    from upath import UPath

    # A listing cache would hide what was uploaded a moment ago.
    place = UPath(uri, use_listings_cache=False)
    return place.fs, uri.removeprefix("s3://")


def _put(path: Path, uri: str, size: int) -> None:
    with _s3_troubles():
        fs, target = _s3(uri)
        with suppress(FileNotFoundError):
            if fs.info(target)["size"] == size:
                return
        try:
            fs.put_file(str(path), target)
        except FileNotFoundError as error:
            bucket = target.partition("/")[0]
            raise EnvironmentProblem(
                f"The bucket {bucket} is not there.", remedy="Create it, or set AVATAR_UPLOADS to another place."
            ) from error


def _copy(path: Path, target: Path, sha256: str) -> None:
    if target.is_file() and file_sha256(target) == sha256:
        return
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with atomic_file(target) as temporary:
            shutil.copyfile(path, temporary)
            if file_sha256(temporary) != sha256:
                raise _changed(path)
    except OSError as error:
        raise EnvironmentProblem(
            f"{target.parent} cannot be written: {error.strerror}.", remedy="Check AVATAR_UPLOADS, or make room."
        ) from error


def _size_of(path: Path, field: UploadField) -> int:
    try:
        found = path.stat()
    except (OSError, ValueError) as error:
        raise _not_there(str(path), field) from error
    if not stat.S_ISREG(found.st_mode):
        raise _not_there(str(path), field)
    return found.st_size


def _require_size(what: str, size: int, settings: Settings, field: UploadField) -> None:
    limit = MAX_BYTES if field == "consent_uri" else settings.max_upload_bytes
    if size == 0:
        raise InvalidInput(f"{what} is empty.", remedy="Upload the whole file, then send the request.")
    if size > limit:
        raise InvalidInput(
            f"{what} has {size:,} bytes; the limit is {limit:,}.",
            remedy="See docs/consent.md for what a consent file holds."
            if field == "consent_uri"
            else "Export it shorter or at a lower bit rate.",
        )


def _not_there(uri: str, field: UploadField) -> NotFound:
    return NotFound(f"{field}: {uri!r} is not there, or is no file.", remedy="Name a file that is; links do not count.")


def _changed(path: Path) -> InvalidInput:
    return InvalidInput(f"{path.name} changed while it was read.", remedy="Wait until it is whole, then send it.")


def _safe_name(name: str) -> str:
    """Return a name that means nothing special anywhere: not hidden, not too long, of plain characters."""
    return re.sub(r"[^A-Za-z0-9._-]", "_", name).lstrip(".-")[-_LONGEST_NAME:] or "upload"
