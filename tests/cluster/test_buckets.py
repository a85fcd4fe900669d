"""Data from a bucket on a real cluster: the Secret opens it for the prepare pod, and for no other."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from kit.cluster import Cluster
from kube import Kube, condition, wait_for
from object_store import KEY, KEY_ID, ObjectStore, object_store
from road import LOADER, NAMESPACE, Road

ROWS = "/examples/text-classification/docstrings.jsonl"
MODEL = "pvc://examples/text-classification/model"
GOOD, WRONG = "reader", "stranger"


@pytest.fixture(scope="module")
def store(
    road: Road, cluster: Cluster, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[ObjectStore]:
    """A store on this machine, at the address by which pods reach it, and two Secrets for it."""
    assert cluster.nodes, "the store runs beside the kit's own cluster"
    gateway = cluster.nodes[0].layout.gateway
    folder: Path = tmp_path_factory.mktemp("store")
    with object_store(folder, address=gateway) as made:
        text = road.kube("exec", "-n", NAMESPACE, LOADER, "--", "cat", ROWS)
        made.put("tickets/rows.jsonl", text.encode())
        for name, key in ((GOOD, KEY), (WRONG, "another key")):
            road.kube.apply(secret(name, key, made.url), NAMESPACE)
        yield made
        road.kube("delete", "ftj", GOOD, WRONG, "-n", NAMESPACE, "--timeout=300s")
        road.kube("delete", "secret", GOOD, WRONG, "-n", NAMESPACE)

        def gone() -> bool:
            return not road.kube.items("pods,jobs", NAMESPACE, "oikyo.dev/job")

        wait_for("the pods of these jobs to go", gone, 300)


def secret(name: str, key: str, url: str) -> dict[str, Any]:
    values = {"AWS_ACCESS_KEY_ID": KEY_ID, "AWS_SECRET_ACCESS_KEY": key, "AWS_ENDPOINT_URL": url}
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": name},
        "stringData": values,
    }


def manifest(name: str) -> dict[str, Any]:
    """A job whose rows are opened by the Secret of its own name."""
    return {
        "apiVersion": "oikyo.dev/v1alpha1",
        "kind": "FineTuneJob",
        "metadata": {"name": name},
        "spec": {
            "model": {"base": MODEL},
            "task": "TextClassification",
            "data": {"sources": [{"uri": "s3://tickets/rows.jsonl", "secretName": name}]},
            "training": {"method": "LoRA", "maxSteps": 100000},
            "storage": {"retentionPolicy": "Delete"},
        },
    }


@pytest.fixture(scope="module")
def applied(store: ObjectStore, road: Road) -> Kube:
    """Both jobs at once: one goes on to train while the other is refused."""
    for name in (WRONG, GOOD):
        road.kube.apply(manifest(name), NAMESPACE)
    return road.kube


def stage_pod(kube: Kube, name: str, stage: str) -> dict[str, Any] | None:
    found = kube.items("pods", NAMESPACE, f"oikyo.dev/job={name},oikyo.dev/stage={stage}")
    return found[0] if found else None


def test_the_secret_reaches_the_prepare_pod_alone_and_as_files(applied: Kube) -> None:
    train = wait_for("the training pod", lambda: stage_pod(applied, GOOD, "train"), 600)
    dataset = applied.get("ftj", GOOD, NAMESPACE)["status"]["dataset"]
    assert dataset["train"] > 1000
    prepare = stage_pod(applied, GOOD, "prepare")
    assert prepare is not None
    secrets = [
        volume["secret"]["secretName"]
        for volume in prepare["spec"]["volumes"]
        if "secret" in volume
    ]
    assert secrets == [GOOD]
    assert not [value for value in environment(prepare) if "AWS" in value["name"]]
    assert not [volume for volume in train["spec"]["volumes"] if "secret" in volume]
    assert "secretKeyRef" not in json.dumps(train["spec"])
    assert not [value for value in environment(train) if "AWS" in value["name"]]
    said = applied("logs", prepare["metadata"]["name"], "-n", NAMESPACE)
    for text in (json.dumps(prepare), json.dumps(train), said):
        assert KEY not in text


def environment(pod: dict[str, Any]) -> list[dict[str, Any]]:
    return [value for container in pod["spec"]["containers"] for value in container.get("env", ())]


def test_a_wrong_key_is_told_with_the_secret_to_correct(applied: Kube) -> None:
    def failed() -> dict[str, Any] | None:
        job = applied.get("ftj", WRONG, NAMESPACE)
        return job if job.get("status", {}).get("phase") == "Failed" else None

    job = wait_for("the refusal", failed, 600)
    diagnosis = job["status"]["diagnosis"]
    assert (
        diagnosis["cause"] == "the store does not know the credentials for s3://tickets/rows.jsonl"
    )
    assert f"Correct the keys in Secret {WRONG}" in diagnosis["nextStep"]
    assert condition(job, "Succeeded")["reason"] == "InputRefused"
    assert "another key" not in json.dumps(job["status"])
    assert stage_pod(applied, WRONG, "train") is None
