"""The chart, rendered by the real Helm 3 and Helm 4, and Kubernetes' own schemas for kubeconform."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from kit.binaries import binary

CHART = Path(__file__).parents[3] / "charts" / "oikyo"
SCHEMAS = "kubernetes-json-schema/v1.37.0-local-strict"
REFERENCE = re.compile(r'#/\$defs/([^"]+)"')

Answer = subprocess.CompletedProcess[str]


def _helm(program: str, *arguments: str) -> Answer:
    command = [str(binary(program)), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def _template(program: str, *arguments: str) -> Answer:
    target = ("template", "oikyo", str(CHART), "--namespace", "ml", "--kube-version", "1.37.0")
    return _helm(program, *target, *arguments)


@pytest.fixture(params=["helm3", "helm"], ids=["helm 3", "helm 4"])
def program(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="session")
def helm() -> Callable[..., Answer]:
    """helm(program, *arguments): runs one of the two Helms."""
    return _helm


@pytest.fixture(scope="session")
def template() -> Callable[..., Answer]:
    """template(program, *flags): what `helm template` answers for the chart."""
    return _template


@pytest.fixture(scope="session")
def render() -> Callable[..., list[dict[str, Any]]]:
    """Objects of the chart with `--set` values and more flags, by Helm 4."""

    def rendered(*arguments: str) -> list[dict[str, Any]]:
        made = _template("helm", *arguments)
        assert made.returncode == 0, made.stderr
        return [item for item in yaml.load_all(made.stdout, yaml.CSafeLoader) if item]

    return rendered


@pytest.fixture(scope="session")
def schemas(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Kubernetes' schemas as kubeconform reads them: references to the neighbouring file."""
    package = pytest.importorskip("kubernetes_validate", reason="carries Kubernetes' schemas")
    source, folder = Path(package.__file__).parent / SCHEMAS, tmp_path_factory.mktemp("schemas")
    used: set[str] = set()
    for path in source.glob("*.json"):
        if path.stem.split("-")[0] in KINDS:
            text = path.read_text().replace('"/api/_definitions.json#', '"_definitions.json#')
            schema = json.loads(text)
            # With an $id the reference would be looked up on the network.
            schema.pop("$id", None)
            (folder / path.name).write_text(json.dumps(schema))
            used.update(REFERENCE.findall(text))
    every = json.loads((source / "_definitions.json").read_text())["$defs"]
    made = json.dumps({"$defs": _reachable(every, used)})
    (folder / "_definitions.json").write_text(made)
    return folder


def _reachable(definitions: dict[str, Any], names: set[str]) -> dict[str, Any]:
    """Those with these names and all that they refer to: kubeconform parses the file again for each kind."""
    found: dict[str, Any] = {}
    while names:
        name = names.pop()
        found[name] = definitions[name]
        names |= set(REFERENCE.findall(json.dumps(found[name]))) - set(found)
    return found


KINDS = frozenset(
    [
        "clusterrole",
        "clusterrolebinding",
        "configmap",
        "customresourcedefinition",
        "deployment",
        "networkpolicy",
        "poddisruptionbudget",
        "role",
        "rolebinding",
        "service",
        "serviceaccount",
    ]
)
