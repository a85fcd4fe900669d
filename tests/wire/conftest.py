"""One API server with the project's kinds and an operator's namespace on it, for all modules of this folder."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from control_plane import Api, Audit, Place, a_place, api_server, eventually
from kit.cluster import Cluster
from operator_process import OperatorProcess, operator


@pytest.fixture(scope="package")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with api_server(tmp_path_factory.mktemp("plane")) as made:
        yield made


@pytest.fixture(scope="package")
def api(cluster: Cluster) -> Api:
    return Api(cluster)


@pytest.fixture
def place(api: Api) -> Iterator[Place]:
    with a_place(api) as made:
        yield made


@pytest.fixture
def audit(cluster: Cluster) -> Audit:
    made = Audit(cluster.audit_log)
    made.mark()
    return made


@pytest.fixture
def running(cluster: Cluster, place: Place, tmp_path: Path) -> Iterator[OperatorProcess]:
    with operator(cluster.kubeconfig, tmp_path, "--namespace", place.namespace) as process:
        eventually(lambda: process.leading, "the lease")
        yield process
