"""hf:// sources, with the real client against a hub on this machine."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from oikyo.api.stages import Source
from oikyo_trainer.data import hub as client
from oikyo_trainer.errors import Refused, Retry


def test_a_model_of_the_hub_is_pinned_downloaded_and_kept(desk: Any, hub: Any) -> None:
    hub.add("models/org/tiny", desk.model)
    hub.repositories["models/org/tiny"]["pytorch_model.bin"] = b"pickle"
    hub.repositories["models/org/tiny"]["modeling.py"] = b"print('never')"
    rows = desk.rows("rows.jsonl", _rows())
    result = desk.prepare(rows, model=Source(uri="hf://org/tiny"))
    stored = desk.workspace / "models" / result.model_digest.removeprefix("sha256:")
    names = sorted(path.name for path in stored.iterdir())
    assert names == ["config.json", "manifest.json", "model.safetensors", "tokenizer.json"]
    revision = next(item for item in result.resolved if item.name == "model.revision")
    assert revision.value == hub.commit
    assert not [line for line in hub.asked if line.endswith((".bin", ".py"))]
    assert [p.name for p in (desk.workspace / "models").iterdir()] == [stored.name]


def test_the_same_model_by_path_and_by_hub_has_one_digest(desk: Any, hub: Any) -> None:
    hub.add("models/org/tiny", desk.model)
    rows = desk.rows("rows.jsonl", _rows())
    by_path = desk.prepare(rows)
    by_hub = desk.prepare(rows, model=Source(uri=f"hf://org/tiny@{hub.commit}"))
    assert by_path.model_digest == by_hub.model_digest


def test_a_data_set_of_the_hub_is_read_like_a_file(desk: Any, hub: Any) -> None:
    body = desk.rows("rows.jsonl", _rows()).read_bytes()
    hub.repositories["datasets/org/tickets"] = {"data/train.jsonl": body, "data/test.jsonl": body}
    uri = "hf://datasets/org/tickets@main/data/train.jsonl"
    by_hub = desk.prepare(desk.root, sources=(Source(uri=uri),))
    by_path = desk.prepare(desk.root / "rows.jsonl")
    assert by_hub.dataset_digest == by_path.dataset_digest
    assert any(item.value == hub.commit for item in by_hub.resolved)
    assert not [line for line in hub.asked if line.endswith("test.jsonl")]


def test_a_data_set_with_several_files_is_not_guessed_at(desk: Any, hub: Any) -> None:
    hub.repositories["datasets/org/tickets"] = {"a.jsonl": b"{}", "b.jsonl": b"{}"}
    with pytest.raises(Refused, match=r"several data files; its files: a\.jsonl, b\.jsonl"):
        desk.prepare(desk.root, sources=(Source(uri="hf://datasets/org/tickets"),))


def test_pickled_weights_are_refused_before_they_are_fetched(desk: Any, hub: Any) -> None:
    hub.repositories["models/org/old"] = {"config.json": b"{}", "pytorch_model.bin": b"x" * 10}
    rows = desk.rows("rows.jsonl", _rows())
    with pytest.raises(Refused, match="only pickled weights") as refused:
        desk.prepare(rows, model=Source(uri="hf://org/old"))
    assert "save_pretrained" in refused.value.next_step
    assert not [line for line in hub.asked if "/resolve/" in line]


@pytest.mark.parametrize(
    ("uri", "sentence"),
    [
        ("hf://org/none", "does not exist on the hub"),
        ("hf://org/tiny@v9", "has no revision v9"),
        ("hf://tiny", "is no model on the hub"),
        ("hf://org/../tiny", "is no model on the hub"),
    ],
)
def test_a_wrong_name_is_refused(desk: Any, hub: Any, uri: str, sentence: str) -> None:
    hub.add("models/org/tiny", desk.model)
    rows = desk.rows("rows.jsonl", _rows())
    with pytest.raises(Refused, match=sentence):
        desk.prepare(rows, model=Source(uri=uri))


def test_a_faulty_hub_is_tried_again(hub: Any) -> None:
    hub.fault = 400
    with pytest.raises(Retry, match="HTTP 400"):
        client.revision(client.parse("hf://org/tiny", "model"))


def test_a_token_that_may_not_read_is_refused(hub: Any) -> None:
    hub.fault = 403
    with pytest.raises(Refused, match="HTTP 403"):
        client.revision(client.parse("hf://org/tiny", "model"))


def test_no_way_to_the_hub_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(Retry, match="cannot be reached") as failed:
        client.revision(client.parse("hf://org/tiny", "model"))
    assert "pvc://" in failed.value.next_step


def test_a_download_that_was_cut_off_is_gone_on_with(desk: Any, hub: Any, tmp_path: Path) -> None:
    hub.add("models/org/tiny", desk.model)
    place = client.parse("hf://org/tiny", "model")
    client.download(place, hub.commit, tmp_path / "got", ["config.json"])
    client.download(place, hub.commit, tmp_path / "got", ["config.json", "tokenizer.json"])
    assert json.loads((tmp_path / "got" / "config.json").read_bytes())["model_type"] == "bert"
    assert (tmp_path / "got" / "tokenizer.json").is_file()


def _rows() -> list[dict[str, str]]:
    return [{"text": f"question {i}", "label": f"topic {i % 3}"} for i in range(60)]


def test_nothing_that_prepare_imports_takes_it_off_the_network() -> None:
    code = "import os, oikyo_trainer.data.prepare; assert 'HF_HUB_OFFLINE' not in os.environ"
    environment = {k: v for k, v in os.environ.items() if k != "HF_HUB_OFFLINE"}
    subprocess.run([sys.executable, "-c", code], check=True, env=environment)
