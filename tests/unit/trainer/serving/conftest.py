"""One server of each kind for all tests that leave it as it was."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from oikyo_trainer.numbers import Scale
from unit.trainer.evaluation.tiny import save_causal, save_classifier, save_regressor
from unit.trainer.serving.harness import ServerProcess, released

MEAN, STD = 2_000_000.0, 30_000.0


@pytest.fixture(scope="session")
def generator_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("generator")
    save_causal(folder, seed=3, chat=True)
    return folder


@pytest.fixture(scope="session")
def classifier_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("classifier")
    save_classifier(folder)
    return folder


@pytest.fixture(scope="session")
def generator(
    tmp_path_factory: pytest.TempPathFactory, generator_model: Path
) -> Iterator[ServerProcess]:
    workspace = tmp_path_factory.mktemp("workspace")
    record = released(workspace, generator_model, "TextGeneration")
    server = ServerProcess(workspace, record, max_new_tokens=100, max_body_bytes=20_000)
    yield server.wait_ready()
    server.stop()


@pytest.fixture(scope="session")
def classifier(
    tmp_path_factory: pytest.TempPathFactory, classifier_model: Path
) -> Iterator[ServerProcess]:
    workspace = tmp_path_factory.mktemp("workspace")
    record = released(workspace, classifier_model, "TextClassification")
    server = ServerProcess(workspace, record, max_concurrency=64)
    yield server.wait_ready()
    server.stop()


@pytest.fixture(scope="session")
def regressor(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    folder = tmp_path_factory.mktemp("regressor")
    save_regressor(folder, Scale(MEAN, STD))
    workspace = tmp_path_factory.mktemp("workspace")
    server = ServerProcess(workspace, released(workspace, folder, "TextRegression"))
    yield server.wait_ready()
    server.stop()
