"""`oikyo run` with a tensor group, for real: two processes that torchrun starts compute each layer together."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest

from desktop.test_example import oikyo, status
from unit.trainer.evaluation.tiny import LABELS, WORDS, save_causal

pytestmark = pytest.mark.slow


def rows() -> list[dict[str, str]]:
    """Which kind of thing a word is, among others of any kind."""
    dice = random.Random(7)
    every = [word for words in WORDS.values() for word in words]
    return [
        {"prompt": f"{' '.join(dice.choices(every, k=3))} and a {dice.choice(WORDS[label])} is",
         "completion": f" {label}"}
        for label in LABELS
        for _ in range(120)
    ]  # fmt: skip


def text_job(folder: Path, name: str, rows: list[dict[str, str]], training: dict[str, Any]) -> Path:
    """A manifest in `folder` that trains the base there on the rows."""
    body = "".join(json.dumps(row) + "\n" for row in rows)
    (folder / "rows.jsonl").write_text(body, encoding="utf-8")
    job: dict[str, Any] = {
        "apiVersion": "oikyo.dev/v1alpha1",
        "kind": "FineTuneJob",
        "metadata": {"name": name},
        "spec": {
            "model": {"base": "file://base"},
            "task": "TextGeneration",
            "data": {"sources": [{"uri": "file://rows.jsonl"}]},
            "training": training,
            "evaluation": {"maxNewTokens": 4, "gates": [{"metric": "loss", "betterThan": "Base"}]},
        },
    }
    path = folder / "job.yaml"
    path.write_text(json.dumps(job), encoding="utf-8")
    return path


@pytest.fixture
def manifest(tmp_path: Path) -> Path:
    save_causal(tmp_path / "base")
    training = {
        "method": "Full", "strategy": "FSDP", "processesPerNode": 2, "tensorParallelSize": 2,
        "epochs": 2, "maxLength": 32, "learningRate": "3e-3", "checkpoints": {"everySteps": 9},
    }  # fmt: skip
    return text_job(tmp_path, "group", rows(), training)


def test_a_job_of_one_tensor_group_is_trained_and_accepted(manifest: Path, tmp_path: Path) -> None:
    home = tmp_path / "home"
    code, told = oikyo("run", manifest, home)
    assert code == 0, told
    assert "accepted" in told
    chosen = {choice["name"]: choice["value"] for choice in status(home, "group")["resolved"]}
    assert chosen["training.tensorParallelSize"] == "2"
    assert (home / "workspace/versions/group/1/model.safetensors").exists()
    said = next((home / "logs").rglob("train-1.log")).read_text(encoding="utf-8")
    assert "rank=1" in said
    assert "leaked" not in said, "libraries tell of what was never collected"
