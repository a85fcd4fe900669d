"""What all tests share: a part that is missing may be skipped at home, never in CI."""

from __future__ import annotations

import os

import pytest
from hypothesis import HealthCheck, settings

CLUSTER_SECONDS = 2700
"""A hang, and no slow machine: whoever comes first builds the images and starts the cluster."""

WAITING = ("unit/alerts/", "unit/chart/", "unit/trainer/data/test_remote")
"""Where unit tests wait for promtool, the Helms, kubeconform and an object store."""

# An example that a busy machine held up is no finding: no deadline, and no complaint of slowness.
settings.register_profile(
    "oikyo", settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
)
settings.load_profile("oikyo")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The folder says what a test needs: tests/wire, tests/desktop and tests/cluster.

    Unit tests that wait for programs come last: `make test` builds those beside the others.
    """
    units = [item for item in items if "tests/unit/" in item.path.as_posix()]
    others = [item for item in items if "tests/unit/" not in item.path.as_posix()]
    items[:] = (
        sorted(units, key=lambda one: any(x in one.path.as_posix() for x in WAITING)) + others
    )
    for item in items:
        for tier in ("wire", "desktop", "cluster"):
            if f"tests/{tier}/" in item.path.as_posix():
                item.add_marker(getattr(pytest.mark, tier))
        if item.get_closest_marker("cluster") and not item.get_closest_marker("timeout"):
            item.add_marker(pytest.mark.timeout(CLUSTER_SECONDS))


def pytest_sessionfinish(session: pytest.Session) -> None:
    """A skipped test in CI is a failure: a part that was promised was not there."""
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    skipped = len(reporter.stats.get("skipped", ())) if reporter else 0
    if os.environ.get("CI") == "true" and skipped and session.exitstatus == 0:
        reporter.write_line(f"{skipped} tests were skipped, which CI counts as failures", red=True)
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
