"""Threads come from the container's quota."""

from __future__ import annotations

from pathlib import Path

import pytest

from oikyo_trainer.serving.cpu import quota, threads


@pytest.mark.parametrize(
    ("text", "cpus"),
    [("max 100000", None), ("25000 100000", 0.25), ("150000 100000", 1.5), ("nonsense", None)],
)
def test_the_quota_of_version_2_is_read(tmp_path: Path, text: str, cpus: float | None) -> None:
    (tmp_path / "cpu.max").write_text(text)
    assert quota(tmp_path) == cpus


@pytest.mark.parametrize(("limit", "cpus"), [("200000", 2.0), ("-1", None)])
def test_the_quota_of_version_1_is_read(tmp_path: Path, limit: str, cpus: float | None) -> None:
    (tmp_path / "cpu").mkdir()
    (tmp_path / "cpu" / "cpu.cfs_quota_us").write_text(limit)
    (tmp_path / "cpu" / "cpu.cfs_period_us").write_text("100000")
    assert quota(tmp_path) == cpus


def test_a_small_quota_still_gives_one_thread(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    (tmp_path / "cpu.max").write_text("10000 100000")
    assert threads(tmp_path) == 1
