"""Models of a user's own: taken when they are what their manifest says, refused with the reason when not."""

from __future__ import annotations

import hashlib
import io
import json
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import save_file

from avatar_pipeline.media.types import Audio
from avatar_pipeline.settings import Settings
from avatar_pipeline.voice.isolation.choose import open_isolator
from avatar_pipeline.voice.isolation.manifest import SHIPPED, InvalidModel, ProgramManifest, read_manifest
from avatar_pipeline.voice.isolation.network import IsolationNetwork
from avatar_pipeline.voice.isolation.neural import NeuralIsolator
from avatar_pipeline.voice.isolation.program import clean_archive
from avatar_pipeline.voice.isolation.user_model import Segments
from tests.voice.programs import HighAndLow, program_isolator, write_manifest, write_program
from tests.voice.sounds import noise

SHAPE = {"channels": 4, "hidden": 4, "blocks": 1}
SOUND = Audio(noise(5_000, 0.1), 16_000)


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The manifest of a sound model."""
    return write_program(tmp_path_factory.mktemp("program"))


def weights(folder: Path, **fields: Any) -> Path:
    """Write untrained weights and their manifest."""
    torch.manual_seed(0)
    save_file(IsolationNetwork(**SHAPE).state_dict(), folder / "small.safetensors")
    return write_manifest(
        folder,
        folder / "small.safetensors",
        **{"format": "safetensors", "architecture": "isolation-network", "shape": SHAPE, "channels": 1}
        | {"stems": ["voice"], "stem": "voice", "segment": None, "overlap": None}
        | fields,
    )


def test_the_settings_choose(program: Path, tmp_path: Path) -> None:
    assert open_isolator(Settings()).name == "neural"
    assert open_isolator(Settings(isolation="dsp")).name == "dsp"
    mine = open_isolator(Settings(isolation="model", isolation_model=program))
    small = open_isolator(Settings(isolation="model", isolation_model=weights(tmp_path)))
    assert (mine.name, small.name) == ("model", "model")
    prints = {open_isolator(Settings(isolation=kind)).fingerprint for kind in ("neural", "dsp")}
    assert len(prints | {mine.fingerprint, small.fingerprint}) == 4
    with pytest.raises(InvalidModel, match="AVATAR_ISOLATION_MODEL is not set"):
        open_isolator(Settings(isolation="model"))


def test_a_user_s_weights_run(tmp_path: Path) -> None:
    out = NeuralIsolator(weights(tmp_path), device="cpu").isolate(SOUND)
    assert len(out.samples) == len(SOUND.samples)


def test_what_the_package_ships_says_where_it_comes_from() -> None:
    manifest = read_manifest(SHIPPED)
    assert manifest.format == "safetensors"
    assert manifest.training is not None
    assert manifest.licence
    assert "LibriSpeech" in manifest.attribution
    assert (SHIPPED.parent / manifest.file).stat().st_size < 1_000_000
    assert NeuralIsolator(device="cpu").network is not None


@pytest.mark.parametrize("dynamic", [False, True])
def test_a_program_s_stem_is_kept(tmp_path: Path, dynamic: bool) -> None:
    sums = np.zeros(len(SOUND.samples), np.float32)
    for stem in ("high", "low"):
        sums += program_isolator(tmp_path, stem=stem, dynamic=dynamic).isolate(SOUND).samples
    assert np.allclose(sums, SOUND.samples, atol=1e-6)


def test_a_program_repeats_itself(program: Path) -> None:
    isolator = open_isolator(Settings(isolation="model", isolation_model=program, isolation_device="cpu"))
    assert isolator.isolate(SOUND).samples.tobytes() == isolator.isolate(SOUND).samples.tobytes()


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"sha256": "0" * 63}, "sha256"),
        ({"sample_rate": 100}, "sample_rate"),
        ({"stem": "voice"}, "stem: 'voice' is not among"),
        ({"stems": []}, "stems"),
        ({"segment": 0}, "segment"),
        ({"segment": None}, "segment: Field required"),
        ({"overlap": 1.0}, "overlap"),
        ({"file": "../elsewhere.pt2"}, "file"),
        ({"file": "/etc/passwd"}, "file"),
        ({"format": "pickle"}, "safetensors"),
        ({"format": None}, "format"),
        ({"speed": 1}, "speed"),
        ({"version": 2}, "version"),
    ],
)
def test_a_wrong_field_is_named(program: Path, tmp_path: Path, fields: dict[str, Any], named: str) -> None:
    file = tmp_path / "model.pt2"
    file.write_bytes((program.parent / "model.pt2").read_bytes())
    with pytest.raises(InvalidModel, match=named):
        read_manifest(write_manifest(tmp_path, file, **fields))


def test_brackets_without_end_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "model.json"
    path.write_bytes(b"[" * 100_000)
    with pytest.raises(InvalidModel, match="not JSON"):
        read_manifest(path)


@given(st.binary(max_size=200) | st.text().map(str.encode))
def test_what_is_no_manifest_is_refused(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    path = tmp_path_factory.mktemp("manifest") / "model.json"
    path.write_bytes(content)
    with pytest.raises(InvalidModel):
        read_manifest(path)


def test_a_missing_manifest_or_file_is_named(program: Path, tmp_path: Path) -> None:
    with pytest.raises(InvalidModel, match=r"nowhere\.json cannot be read"):
        read_manifest(tmp_path / "nowhere.json")
    alone = tmp_path / "model.json"
    alone.write_text(program.read_text())
    with pytest.raises(InvalidModel, match=r"model\.pt2 cannot be read"):
        open_isolator(Settings(isolation="model", isolation_model=alone)).isolate(SOUND)


@pytest.mark.parametrize("kind", ["safetensors", "pt2"])
def test_another_file_than_the_manifest_s_is_refused(program: Path, tmp_path: Path, kind: str) -> None:
    path = weights(tmp_path) if kind == "safetensors" else tmp_path / "model.json"
    if kind == "pt2":
        path.write_text(program.read_text())
        (tmp_path / "model.pt2").write_bytes((program.parent / "model.pt2").read_bytes())
    file = tmp_path / json.loads(path.read_text())["file"]
    file.write_bytes(file.read_bytes() + b"\0")
    isolator = open_isolator(Settings(isolation="model", isolation_model=path, isolation_device="cpu"))
    with pytest.raises(InvalidModel, match="sha256"):
        isolator.isolate(SOUND)


def test_weights_of_another_shape_are_refused(tmp_path: Path) -> None:
    path = weights(tmp_path, shape=SHAPE | {"hidden": 5})
    with pytest.raises(InvalidModel, match="another network"):
        NeuralIsolator(path, device="cpu").isolate(SOUND)


def test_a_pickle_is_not_read(tmp_path: Path) -> None:
    file = tmp_path / "model.safetensors"
    torch.save(IsolationNetwork(**SHAPE).state_dict(), file)
    weights(tmp_path)
    fields = json.loads((tmp_path / "model.json").read_text())
    fields |= {"file": file.name, "sha256": hashlib.sha256(file.read_bytes()).hexdigest()}
    (tmp_path / "model.json").write_text(json.dumps(fields))
    with pytest.raises(InvalidModel, match="not a safetensors file"):
        NeuralIsolator(tmp_path / "model.json", device="cpu").isolate(SOUND)


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"channels": 1}, "does not take"),
        ({"stems": ["high", "low", "rest"]}, "gives"),
        ({"segment": 0.1}, "does not take"),
    ],
)
def test_a_program_that_is_not_what_its_manifest_says(
    program: Path, tmp_path: Path, fields: dict[str, Any], said: str
) -> None:
    file = tmp_path / "model.pt2"
    file.write_bytes((program.parent / "model.pt2").read_bytes())
    path = write_manifest(tmp_path, file, **fields)
    isolator = open_isolator(Settings(isolation="model", isolation_model=path, isolation_device="cpu"))
    with pytest.raises(InvalidModel, match=said):
        isolator.isolate(SOUND)


def changed(program: Path, edit: dict[str, Any]) -> bytes:
    """Return the program's archive with files replaced, added (bytes), or edited (a function of the text)."""
    out = io.BytesIO()
    with zipfile.ZipFile(program.parent / "model.pt2") as source, zipfile.ZipFile(out, "w") as target:
        root = source.namelist()[0].partition("/")[0]
        files = {name.partition("/")[2]: source.read(name) for name in source.namelist()}
        for name, change in edit.items():
            files[name] = change(files[name].decode()).encode() if callable(change) else change
        for name, content in files.items():
            target.writestr(f"{root}/{name}", content)
    return out.getvalue()


def test_pickles_libraries_and_guards_of_an_archive_are_left_behind(program: Path) -> None:
    def guarded(text: str) -> str:
        return json.dumps(json.loads(text) | {"guards_code": ["__import__('os').abort()"]})

    data = changed(
        program,
        {
            "data/sample_inputs/model.pt": b"cos\nabort\n(tR.",
            "data/aotinductor/model/evil.so": b"\x7fELF",
            "models/model.json": guarded,
        },
    )
    clean = zipfile.ZipFile(io.BytesIO(clean_archive(data, "model.pt2")))
    names = [name.partition("/")[2] for name in clean.namelist()]
    assert not any("aotinductor" in name for name in names)
    assert clean.read("model/data/sample_inputs/model.pt") == b""
    assert json.loads(clean.read("model/models/model.json"))["guards_code"] == []
    assert torch.export.load(io.BytesIO(clean_archive(data, "model.pt2"))) is not None


def evil_operator(text: str) -> str:
    return text.replace("torch.ops.aten.conv1d.default", "torch.hub.load")


def evil_size(text: str) -> str:
    value = {"as_expr": {"expr_str": "__import__('os').abort()", "hint": None}}
    graph = json.loads(text)
    for meta in graph["graph_module"]["graph"]["tensor_values"].values():
        meta["sizes"] = [value]
    return json.dumps(graph)


def evil_file(text: str) -> str:
    """Read a file of this machine, or write one: torch's own operators can."""
    graph = json.loads(text)
    node = graph["graph_module"]["graph"]["nodes"][0]
    node["target"] = "torch.ops.aten.from_file.default"
    return json.dumps(graph)


def with_spec(spec: dict[str, Any]) -> Any:
    """Return an edit that describes the arguments as `spec`."""

    def edit(text: str) -> str:
        graph = json.loads(text)
        for entry in graph["graph_module"]["module_call_graph"]:
            entry["signature"]["in_spec"] = json.dumps([1, {"children_spec": []} | spec])
        return json.dumps(graph)

    return edit


IMPORTED_DICT = {
    "type": "collections.defaultdict",
    "context": {"default_factory_module": "antigravity", "default_factory_name": "x", "dict_context": []},
}
IMPORTED_ENUM = {"type": "builtins.tuple", "context": json.dumps({"__enum__": True, "fqn": "antigravity:X"})}
NESTED_ENUM = {"type": "builtins.dict", "context": json.dumps([{"__enum__": True, "fqn": "antigravity:X"}])}


def pickled_weights(text: str) -> str:
    return text.replace('"use_pickle": false', '"use_pickle": true')


@pytest.mark.parametrize(
    ("edit", "said"),
    [
        ({"models/model.json": evil_operator}, "operator 'torch.hub.load'"),
        ({"models/model.json": evil_size}, "size"),
        ({"models/model.json": evil_file}, "operator 'torch.ops.aten.from_file.default'"),
        ({"models/model.json": with_spec(IMPORTED_DICT)}, "arguments in a 'collections.defaultdict'"),
        ({"models/model.json": with_spec(IMPORTED_ENUM)}, "keys that are not names"),
        ({"models/model.json": with_spec(NESTED_ENUM)}, "keys that are not names"),
        ({"models/model.json": lambda _: "[]"}, "not an archive"),
        ({"models/model.json": lambda _: "{"}, "not an archive"),
        ({"data/weights/model_weights_config.json": pickled_weights}, "not a plain tensor"),
        (
            {
                "data/constants/model_constants_config.json": lambda _: json.dumps(
                    {"config": {"x": {"path_name": "opaque_obj_0", "use_pickle": False}}}
                ),
                "data/constants/opaque_obj_0": b"cos\nabort\n(tR.",
            },
            "not a plain tensor",
        ),
    ],
)
def test_an_archive_that_would_run_code_is_refused(program: Path, edit: dict[str, Any], said: str) -> None:
    with pytest.raises(InvalidModel, match=said):
        clean_archive(changed(program, edit), "model.pt2")


def test_a_compressed_archive_is_refused_before_it_fills_the_memory(program: Path) -> None:
    out = io.BytesIO()
    with zipfile.ZipFile(program.parent / "model.pt2") as source, zipfile.ZipFile(out, "w") as target:
        for entry in source.infolist():
            bomb = entry.filename.endswith("models/model.json")
            content = source.read(entry) + b" " * (1 << 24 if bomb else 0)
            target.writestr(entry.filename, content, zipfile.ZIP_DEFLATED if bomb else zipfile.ZIP_STORED)
    with pytest.raises(InvalidModel, match=r"models/model\.json is compressed"):
        clean_archive(out.getvalue(), "model.pt2")


@given(st.binary(max_size=300))
def test_what_is_no_archive_is_refused(content: bytes) -> None:
    with pytest.raises(InvalidModel):
        clean_archive(content, "model.pt2")


def test_a_model_too_large_for_the_card_goes_on_on_the_cpu(program: Path) -> None:
    manifest = read_manifest(program)
    assert isinstance(manifest, ProgramManifest)

    def load(device: str) -> Any:
        def full(_: torch.Tensor) -> torch.Tensor:
            raise torch.cuda.OutOfMemoryError("out of memory")

        return HighAndLow().eval() if device == "cpu" else full

    # 'meta' stands for a device of any kind here: tensors can be moved there on any machine.
    segments = Segments(load, manifest, "meta")
    stem = segments(SOUND.samples[:4000])
    assert segments.device == "cpu"
    assert len(stem) == 4000
