"""Planted faults of every kind: how many must be found, and how few may be told besides.

The bounds stand in bench/bench_planted_faults.py, which measures the same on more rows:
docs/explanation/data-statistics.md has its figures.
"""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[4] / "bench"))
import bench_planted_faults as bench
import plant

LEAST = {
    "exact duplicate": 1.0,
    "near-duplicate": 0.97,
    "leak": 1.0,
    "near-leak": 0.97,
    "malformed row, with its line and code": 1.0,
    "personal data": 0.98,
    "flipped label, among the first so many": 0.7,
}


@pytest.fixture(scope="module")
def scores(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bench.Score]:
    folder = tmp_path_factory.mktemp("planted")
    made = plant.plant(folder, bench.plan(rows=3000, seed=4))
    return {score.kind: score for score in bench.scores(folder, made)}


@pytest.mark.parametrize(("kind", "least"), LEAST.items())
def test_planted_faults_are_found_and_hardly_anything_else(
    scores: dict[str, bench.Score], kind: str, least: float
) -> None:
    score = scores[kind]
    assert score.planted >= 15
    assert score.share >= least, score.line()
    assert score.wrong <= 0.01 * max(1, score.told), score.line()
    assert score.passed


def test_a_figure_below_its_bound_does_not_pass() -> None:
    assert not bench.Score("leak", 10, 9, 1.0).passed
    assert not bench.Score("near-duplicate", 10, 10, 0.97, 2, 12, 0.01).passed
    assert bench.Score("near-duplicate", 100, 98, 0.97, 1, 100, 0.01).passed
