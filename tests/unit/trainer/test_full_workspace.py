"""Prepare and evaluate on a real volume without room: words that say so, and nothing half-written that counts."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from oikyo.api.stages import EXIT_DONE, EXIT_RETRY, LastWords
from oikyo_trainer.stage import run_stage
from unit.trainer.evaluation.tiny import Bench, save_classifier, save_encoder

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(os.geteuid() != 0, reason="a small volume is mounted for real"),
]


@pytest.fixture
def volume(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "volume"
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=16m", "tmpfs", str(folder)], check=True)
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def fill(volume: Path, *, but: int) -> Path:
    """Take all the room but so many bytes."""
    ballast = volume / "ballast"
    with ballast.open("wb") as file:
        file.write(bytes(max(0, shutil.disk_usage(volume).free - but)))
    return ballast


def words_of(spec: Any, work: Any, workspace: Path, log: Path) -> tuple[int, LastWords]:
    code = run_stage(spec, work, workspace=workspace, port=0, termination_log=log)
    return code, LastWords.model_validate_json(log.read_bytes())


@pytest.mark.parametrize("room", [0, 20_000, 60_000, 200_000])
def test_evaluate_says_that_the_volume_is_full_and_leaves_no_version(
    volume: Path, tmp_path: Path, room: int
) -> None:
    from oikyo_trainer.evaluation.evaluate import evaluate

    bench = Bench(volume, "classification")
    save_classifier(bench.tuned)
    save_encoder(bench.base)
    ballast = fill(volume, but=room)
    log = tmp_path / "words"
    log.touch()
    code, words = words_of(bench.spec(), evaluate, bench.context.workspace, log)
    if words.result is None:
        check_words(code, words)
        shelf = bench.context.workspace / "versions"
        assert not [path for path in shelf.rglob("record.json") if ".staging" not in str(path)]
    ballast.unlink()
    assert words_of(bench.spec(), evaluate, bench.context.workspace, log)[0] == EXIT_DONE


@pytest.mark.parametrize("room", [0, 20_000, 60_000, 120_000])
def test_prepare_says_that_the_volume_is_full_and_leaves_no_version_that_looks_whole(
    volume: Path, tmp_path: Path, room: int
) -> None:
    from oikyo.api.stages import PrepareSpec, Source
    from oikyo_trainer.data.prepare import prepare
    from oikyo_trainer.data.version import is_whole

    model, rows = tmp_path / "model", tmp_path / "rows.jsonl"
    save_encoder(model)
    lines = ({"text": f"word {n} of many more", "label": "ab"[n % 2]} for n in range(2000))
    rows.write_text("".join(json.dumps(line) + "\n" for line in lines))
    spec = PrepareSpec(
        run="job-00000000",
        task="TextClassification",
        model=Source(uri="file:///model", path=str(model)),
        sources=(Source(uri="file:///rows.jsonl", path=str(rows)),),
    )
    ballast, log = fill(volume, but=room), tmp_path / "words"
    log.touch()
    code, words = words_of(spec, prepare, volume, log)
    assert words.result is None
    check_words(code, words)
    found = [path for path in (volume / "datasets").glob("*") if not path.name.startswith(".")]
    assert not [path for path in found if is_whole(path)]
    ballast.unlink()
    assert words_of(spec, prepare, volume, log)[0] == EXIT_DONE


def check_words(code: int, words: LastWords) -> None:
    assert code == EXIT_RETRY
    failure = words.failure
    assert failure is not None
    assert failure.reason == "WorkspaceFull", failure
    assert failure.message.startswith("the workspace is full")
    assert "of 16 MiB are free on" in failure.evidence
    assert failure.next_step.startswith("Free space in the workspace or enlarge it")
