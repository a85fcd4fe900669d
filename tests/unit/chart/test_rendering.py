"""Both Helms accept the chart, and what it renders is what Kubernetes accepts."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from kit.binaries import binary

pytestmark = pytest.mark.tools

CHART = Path(__file__).parents[3] / "charts" / "oikyo"
MONITORING = ("--api-versions", "monitoring.coreos.com/v1")
Run = Callable[..., subprocess.CompletedProcess[str]]

MATRIX = {
    "defaults": (),
    "two replicas": ("--set", "replicas=2"),
    "cluster scope": ("--set", "scope=Cluster"),
    "three namespaces": ("--set", "watchNamespaces={a,b,c}"),
    "monitored": (*MONITORING, "--set", "monitoring.labels.release=stack"),
    "bare": (
        "--set",
        "crds.enabled=false,rbac.create=false,serviceAccount.create=false,serviceAccount.name=mine,"
        "networkPolicy.enabled=false,monitoring.dashboard.enabled=false",
    ),
    "pinned and placed": (
        "--set",
        f"image.digest=sha256:{'0' * 64},trainer.image.tag=v1,nodeSelector.pool=cpu,"
        "priorityClassName=high,imagePullSecrets[0].name=registry,podLabels.team=ml,"
        "networkPolicy.metricsFrom[0].podSelector.matchLabels.app=prometheus,"
        "networkPolicy.serverFrom[0].namespaceSelector.matchLabels.team=web",
    ),
}


@pytest.mark.parametrize("values", MATRIX.values(), ids=MATRIX.keys())
def test_kubernetes_schemas_accept_what_is_rendered(
    program: str, values: tuple[str, ...], schemas: Path, template: Run
) -> None:
    made = template(program, *values)
    assert made.returncode == 0, made.stderr
    location = f"{schemas}/{{{{.ResourceKind}}}}{{{{.KindSuffix}}}}.json"
    checked = subprocess.run(
        [
            str(binary("kubeconform")),
            *("-strict", "-summary", "-schema-location", location),
            *("-skip", "ServiceMonitor,PodMonitor,PrometheusRule"),
        ],
        input=made.stdout,
        capture_output=True,
        text=True,
        check=False,
    )
    assert checked.returncode == 0, checked.stdout
    assert "Invalid: 0, Errors: 0" in checked.stdout


def test_lint_has_nothing_to_say(program: str, helm: Run) -> None:
    linted = helm(program, "lint", "--strict", str(CHART))
    assert linted.returncode == 0, linted.stdout + linted.stderr


def test_both_helms_render_the_same_objects(template: Run) -> None:
    def objects(program: str) -> list[object]:
        made = template(program, *MONITORING, "--set", "replicas=2")
        return sorted(filter(None, yaml.load_all(made.stdout, yaml.CSafeLoader)), key=str)

    assert objects("helm3") == objects("helm")


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ("replica=2", "replica"),
        ("scope=cluster", "scope"),
        ("replicas=-1", "replicas"),
        ("image.digest=latest", "digest"),
        ("networkPolicy.enable=false", "enable"),
        ("monitoring.interval=often", "interval"),
        ("watchNamespaces={Team_A}", "watchNamespaces"),
    ],
)
def test_a_wrong_value_is_refused_by_its_name(
    program: str, setting: str, words: str, template: Run
) -> None:
    made = template(program, "--set", setting)
    assert made.returncode != 0
    assert words in made.stderr


def test_cluster_scope_with_a_list_of_namespaces_says_which_of_the_two_to_drop(
    program: str, template: Run
) -> None:
    made = template(program, "--set", "scope=Cluster,watchNamespaces={a}")
    assert made.returncode != 0
    assert "leave watchNamespaces empty" in made.stderr


def test_a_foreign_service_account_must_be_named(program: str, template: Run) -> None:
    made = template(program, "--set", "serviceAccount.create=false")
    assert made.returncode != 0
    assert "serviceAccount.name must name the account" in made.stderr
