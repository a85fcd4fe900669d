"""`oikyo compare` for real: two trainings of a tiny encoder, and the table at the end."""

from __future__ import annotations

import json
import random
import subprocess
from pathlib import Path
from typing import Any

import pytest

from desktop.test_example import ENVIRONMENT, command
from unit.trainer.evaluation.tiny import LABELS, WORDS, save_encoder

pytestmark = pytest.mark.slow


@pytest.fixture
def manifest(tmp_path: Path) -> Path:
    save_encoder(tmp_path / "base")
    dice = random.Random(7)
    every = [word for words in WORDS.values() for word in words]
    rows = [
        {"text": f"{' '.join(dice.choices(every, k=3))} and a {dice.choice(WORDS[label])}", "label": label}
        for label in LABELS
        for _ in range(120)
    ]  # fmt: skip
    body = "".join(json.dumps(row) + "\n" for row in rows)
    (tmp_path / "rows.jsonl").write_text(body, encoding="utf-8")
    job: dict[str, Any] = {
        "apiVersion": "oikyo.dev/v1alpha1",
        "kind": "FineTuneJob",
        "metadata": {"name": "words"},
        "spec": {
            "model": {"base": "file://base"},
            "task": "TextClassification",
            "data": {
                "sources": [{"uri": "file://rows.jsonl"}],
                "augment": {"edits": {"swap": "0.2"}},
            },
            "training": {"method": "Full", "epochs": 2, "maxLength": 32},
        },
    }
    path = tmp_path / "job.yaml"
    path.write_text(json.dumps(job), encoding="utf-8")
    return path


def test_a_job_is_compared_with_itself_without_augmentation(manifest: Path, tmp_path: Path) -> None:
    home = tmp_path / "home"
    answer = subprocess.run(
        command("compare", manifest, home, "--json"),
        env=ENVIRONMENT, capture_output=True, text=True, timeout=600, check=False,
    )  # fmt: skip
    assert answer.returncode == 0, answer.stdout + answer.stderr
    report = json.loads(answer.stdout)
    with_it, without = report["sides"].values()
    assert with_it["synthetic"] > 0
    assert without["synthetic"] == 0
    assert with_it["trainingRows"] - with_it["synthetic"] == without["trainingRows"]
    assert report["rows"] >= 20
    assert (home / "workspace/versions/words/1").is_dir()
    assert (home / "workspace/versions/words-without-augment/1").is_dir()
    status = json.loads((home / "objects/finetunejobs/words.json").read_text())["status"]
    assert status["dataset"]["synthetic"] == with_it["synthetic"]

    again = subprocess.run(
        command("compare", manifest, home),
        env=ENVIRONMENT, capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert again.returncode == 0, again.stdout + again.stderr
    assert "finished earlier" in again.stdout
    assert "McNemar, exact" in again.stdout
