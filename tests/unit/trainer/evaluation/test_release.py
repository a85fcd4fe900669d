"""Numbers, races and leftovers of versions."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from oikyo_trainer.errors import Refused
from oikyo_trainer.evaluation.record import RecordLineage, VersionRecord, verify
from oikyo_trainer.evaluation.release import find_version, release


def draft(run: str = "run-1") -> VersionRecord:
    return VersionRecord(
        model="words",
        task="TextClassification",
        verdict="Accepted",
        max_length=8,
        metrics=(),
        baseline=(),
        baseline_method="nothing",
        gates=(),
        rows=1,
        lineage=RecordLineage(
            job="job",
            job_uid="uid",
            run=run,
            attempt=1,
            input_digest="sha256:" + "1" * 64,
            base="file:///base",
            base_digest="sha256:" + "2" * 64,
            dataset_digest="sha256:" + "3" * 64,
        ),
        created="2026-11-23T21:00:00Z",
    )


@pytest.fixture
def source(tmp_path: Path) -> Path:
    folder = tmp_path / "runs" / "model"
    folder.mkdir(parents=True)
    (folder / "model.safetensors").write_bytes(b"weights")
    (folder / "config.json").write_text("{}")
    (folder / "training_args.bin").write_bytes(b"a pickle")
    return folder


def test_numbers_go_up_from_the_least_that_is_allowed(tmp_path: Path, source: Path) -> None:
    numbers = [
        release(tmp_path, source, draft(), min_version=least).version for least in (1, 1, 7, 2)
    ]
    assert numbers == [1, 2, 7, 8]


def test_releases_at_once_get_different_numbers(tmp_path: Path, source: Path) -> None:
    def one(index: int) -> int:
        return release(tmp_path, source, draft(f"run-{index}"), min_version=1).version

    with ThreadPoolExecutor(8) as pool:
        assert sorted(pool.map(one, range(16))) == list(range(1, 17))
    for number in range(1, 17):
        assert verify(tmp_path / f"versions/words/{number}").version == number


def test_no_pickle_and_no_staging_folder_stays(tmp_path: Path, source: Path) -> None:
    leftover = tmp_path / "versions/words/.staging-run-1~dead"
    leftover.mkdir(parents=True)
    release(tmp_path, source, draft(), min_version=1)
    names = {path.name for path in (tmp_path / "versions/words").rglob("*")}
    assert names == {"1", "README.md", "record.json", "config.json", "model.safetensors"}


def test_a_version_is_found_by_run_and_input(tmp_path: Path, source: Path) -> None:
    made = release(tmp_path, source, draft(), min_version=1)
    digest = made.lineage.input_digest
    assert find_version(tmp_path, "words", "run-1", digest) == made
    assert find_version(tmp_path, "words", "run-2", digest) is None
    assert find_version(tmp_path, "words", "run-1", "sha256:" + "9" * 64) is None


@pytest.mark.parametrize("change", ["changed", "missing", "added", "no record"])
def test_a_damaged_version_is_refused_by_file(tmp_path: Path, source: Path, change: str) -> None:
    release(tmp_path, source, draft(), min_version=1)
    folder = tmp_path / "versions/words/1"
    target = folder / ("record.json" if change == "no record" else "config.json")
    target.unlink()
    if change == "changed":
        target.write_text('{"evil": 1}')
    if change == "added":
        target.write_text("{}")
        (folder / "more.json").write_text("{}")
    with pytest.raises(Refused, match=r"words/1 is not what was released: .*(json)"):
        verify(folder)


def test_training_without_weights_is_refused(tmp_path: Path, source: Path) -> None:
    (source / "model.safetensors").unlink()
    with pytest.raises(Refused, match=r"holds no \.safetensors"):
        release(tmp_path, source, draft(), min_version=1)
