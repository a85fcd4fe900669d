"""One cluster for the whole session: found or built, with the project's images and the chart on it."""

from __future__ import annotations

import os
from collections.abc import Callable, Generator, Iterator
from pathlib import Path

import pytest

import road as installed
from kit import places
from kit.binaries import binary
from kit.cluster import Cluster
from kube import Kube
from road import Road
from scrape import prometheus
from story import Stories

STORIES = Stories()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """A test that fails behind another of its file says which was the first to fail, and why."""
    report, file = (yield), item.path.name
    if report.failed and call.excinfo is not None:
        first = STORIES.failed(file, item.name, call.excinfo.exconly())
        if first is not None:
            told = f"{first.test}: {first.reason}"
            report.sections.append(("the first to fail in this file", told))
    elif report.when == "call" and report.passed:
        STORIES.passed(file, item.name)
    return report


@pytest.fixture(scope="session")
def examples(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[], Path]]:
    """The examples' data and models, made while the cluster and its images are."""
    with installed.examples_in_the_making(tmp_path_factory.mktemp("examples")) as made:
        yield made


@pytest.fixture(scope="session")
def cluster(examples: Callable[[], Path]) -> Iterator[Cluster]:
    """A cluster with two nodes; one that ran before the tests goes on running after them."""
    before = Cluster.running(places.default_state().resolve())
    found = Cluster.up()
    found.load_images()
    yield found
    if before is None and not os.environ.get("OIKYO_KEEP_CLUSTER"):
        found.down()


@pytest.fixture(scope="session")
def kube(cluster: Cluster) -> Kube:
    return Kube(binary("kubectl"), cluster.kubeconfig)


@pytest.fixture(scope="session")
def road(
    cluster: Cluster,
    kube: Kube,
    examples: Callable[[], Path],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Road]:
    """The chart installed and the examples' data on a claim."""
    folder = examples()  # before the chart: a training beside it would starve the operator's start
    installed.remove(kube, binary("helm"))
    try:
        installed.make_namespaces(kube)
        for helm in ("helm3", "helm"):  # a release of the one is upgraded by the other
            installed.install(kube, binary(helm))
        installed.prepare(kube, folder)
        audit = cluster.audit_log if cluster.audit_log.exists() else None
        place = tmp_path_factory.mktemp("prometheus")
        with prometheus(binary("prometheus"), cluster.kubeconfig, place) as watching:
            yield Road(kube, audit, watching)
    finally:
        if not os.environ.get("OIKYO_KEEP_CLUSTER"):
            installed.remove(kube, binary("helm"))
