"""Reads a `torch.export` program without what could run code of its own.

`torch.export.load` is not safe by itself: it unpickles sample inputs and some constants, gives strings of the archive
to `eval` and `exec` (symbolic sizes, guards), imports modules that the description of arguments names (enums, default
dicts), looks operators up by any name below `torch` (two of torch's own open files), and loads compiled libraries. So
the archive is read as what it is, a ZIP file of JSON and raw tensors, and written anew with graph and tensors alone;
whatever else is in it is left out or refused. Only that copy is given to torch.
"""

from __future__ import annotations

import io
import json
import re
import zipfile
from typing import Any

from avatar_pipeline.voice.isolation.manifest import InvalidModel

_LARGEST_ENTRY = 4 << 30
_OPERATOR = re.compile(
    r"torch\.ops\.aten\.(?!(?:from_file|save)\.)\w+\.\w+"
    r"|_operator\.(add|sub|mul|floordiv|truediv|mod|neg|pow|eq|ne|lt|le|gt|ge|and_|or_|getitem)"
    r"|math\.(ceil|floor|trunc)"
    r"|torch\.sym_(max|min|not|int|float|ite)"
)
_SIZE = re.compile(
    r"(?>'?[su]\d++'?|\d++|(?:positive|nonnegative|integer)=(?:True|False)"
    r"|Symbol|Integer|Add|Mul|Pow|Max|Min|Mod|PythonMod|FloorDiv|CeilDiv|CleanDiv|CeilToInt|FloorToInt|IntTrueDiv"
    r"|[-+*/(), ])*+"
)
"""What an expression for a size may be made of: symbols such as s0, numbers, signs, and a few functions."""
_FILE = re.compile(r"(weight|tensor)_\d+")
_CONTAINERS = {None, "builtins.tuple", "builtins.list", "builtins.dict"}
"""What arguments and results may lie in; other kinds have torch import what they name."""


def clean_archive(data: bytes, name: str) -> bytes:
    """Return the archive with its graph, weights and constants only.

    Raises:
        InvalidModel: it is no archive of `torch.export.save`, or holds something that is not taken; `name` says whose.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            entries = {entry.filename.partition("/")[2]: entry for entry in archive.infolist()}
            clean = _clean(archive, entries)
    except (zipfile.BadZipFile, KeyError, TypeError, AttributeError, ValueError, RecursionError) as error:
        raise InvalidModel(
            f"{name} is not an archive as torch.export.save writes it: {type(error).__name__}.",
            remedy="Export the model with torch.export.export and torch.export.save of a current torch.",
        ) from error
    except _Refused as error:
        raise InvalidModel(
            f"{name} is refused: {error}.", remedy="Only graphs of torch's own operators with plain tensors are taken."
        ) from error
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_STORED) as archive:
        for path, content in clean.items():
            archive.writestr(f"model/{path}", content)
    return out.getvalue()


class _Refused(Exception):
    pass


def _clean(archive: zipfile.ZipFile, entries: dict[str, zipfile.ZipInfo]) -> dict[str, bytes]:
    def read(path: str) -> bytes:
        entry = entries[path]
        if entry.file_size > _LARGEST_ENTRY:
            raise _Refused(f"{path} is larger than {_LARGEST_ENTRY >> 30} GiB")
        if entry.compress_type != zipfile.ZIP_STORED:
            # torch compresses nothing; a few kilobytes could become as many gigabytes.
            raise _Refused(f"{path} is compressed")
        return archive.read(entry)

    graph = json.loads(read("models/model.json"))
    graph["guards_code"] = []
    _clean_graph(graph)
    clean = {
        "archive_format": b"pt2",
        "archive_version": read("archive_version"),
        "byteorder": read("byteorder"),
        ".data/version": read(".data/version"),
        "models/model.json": json.dumps(graph).encode(),
        # Empty: sample inputs are pickled, and nobody needs them.
        "data/sample_inputs/model.pt": b"",
    }
    for kind in ("weights", "constants"):
        path = f"data/{kind}/model_{kind}_config.json"
        clean[path] = read(path)
        for key, payload in json.loads(clean[path])["config"].items():
            file = payload["path_name"]
            if payload["use_pickle"] is not False or not _FILE.fullmatch(file):
                raise _Refused(f"{key} is not a plain tensor")
            clean[f"data/{kind}/{file}"] = read(f"data/{kind}/{file}")
    return clean


def _clean_graph(part: Any) -> None:
    """Check the names of operators and the expressions for sizes, and drop notes on where nodes came from."""
    if isinstance(part, list):
        for item in part:
            _clean_graph(item)
        return
    if not isinstance(part, dict):
        return
    if "target" in part and "inputs" in part:
        if not isinstance(part["target"], str) or not _OPERATOR.fullmatch(part["target"]):
            raise _Refused(f"the operator {str(part['target'])[:80]!r} is not taken")
        part["metadata"] = {}
    if "as_operator" in part or "as_custom_obj" in part:
        raise _Refused("operators and objects as arguments are not taken")
    expression = part.get("expr_str", "")
    if not isinstance(expression, str) or not _SIZE.fullmatch(expression):
        raise _Refused(f"the size {str(expression)[:80]!r} is not taken")
    for name in ("in_spec", "out_spec"):
        if part.get(name):
            _check_spec(json.loads(part[name])[1])
    for item in part.values():
        _clean_graph(item)


def _check_spec(spec: Any) -> None:
    """Check that a description of arguments or results is of plain containers, with names as keys."""
    if spec["type"] not in _CONTAINERS:
        raise _Refused(f"arguments in a {str(spec['type'])[:80]!r} are not taken")
    keys = json.loads(spec["context"]) if spec["context"] is not None else None
    if keys is not None and not (isinstance(keys, list) and all(isinstance(key, str | int) for key in keys)):
        raise _Refused("arguments with keys that are not names are not taken")
    for child in spec["children_spec"]:
        _check_spec(child)
