"""Models made once, and a trained run for each test."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from unit.trainer.evaluation.tiny import Bench, save_causal, save_classifier, save_encoder


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """encoder, classifier, causal-a, causal-b: made once."""
    root = tmp_path_factory.mktemp("models")
    save_encoder(root / "encoder")
    save_classifier(root / "classifier")
    save_causal(root / "causal-a", seed=1, chat=True)
    save_causal(root / "causal-b", seed=2, chat=True)
    return root


@pytest.fixture
def bench(tmp_path: Path, models: Path, request: pytest.FixtureRequest) -> Bench:
    """The trained run of a shape: `classification` unless the test names another."""
    made = Bench(tmp_path, getattr(request, "param", "classification"))
    tuned, base = (
        ("classifier", "encoder") if made.shape == "classification" else ("causal-a", "causal-b")
    )
    shutil.copytree(models / tuned, made.tuned, dirs_exist_ok=True)
    shutil.copytree(models / base, made.base)
    return made
