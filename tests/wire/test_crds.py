"""The CRDs on a real API server: accepted, Established, and of one opinion with oikyo.admission."""

from __future__ import annotations

import json
import re
from typing import Any

import httpx
import pytest
import yaml
from hypothesis import HealthCheck, given, settings

from accepted import ACCEPTED, SCALARS
from builders import a_manifest
from control_plane import Api
from kit.cluster import Cluster
from oikyo.admission import check, with_defaults
from random_manifests import random_manifests
from refusals import RULES, SCHEMA, Row

PLURALS = ("finetunejobs", "modelversions", "modelendpoints")
STRICT = {"fieldValidation": "Strict", "dryRun": "All"}

MINIMAL = """\
apiVersion: oikyo.dev/v1alpha1
kind: FineTuneJob
metadata: {name: minimal}
spec:
  model: {base: "pvc://models/minilm"}
  task: TextClassification
  data: {sources: [{uri: "pvc://datasets/tickets.jsonl"}]}
"""


@pytest.fixture(scope="module")
def http(api: Api) -> httpx.Client:
    return api.http


def _path(manifest: dict[str, Any]) -> str:
    return f"/apis/oikyo.dev/v1alpha1/namespaces/default/{manifest['kind'].lower()}s"


def _answer(
    http: httpx.Client, manifest: dict[str, Any], old: dict[str, Any] | None
) -> httpx.Response:
    """What the API server says to creating `manifest`, or to replacing `old` with it."""
    if old is None:
        return http.post(_path(manifest), json=manifest, params=STRICT)
    path = f"{_path(old)}/{old['metadata']['name']}"
    http.delete(path)
    http.post(_path(old), json=old).raise_for_status()
    version = http.get(path).json()["metadata"]["resourceVersion"]
    body = {**manifest, "metadata": {**manifest["metadata"], "resourceVersion": version}}
    answer = http.put(path, json=body, params=STRICT)
    http.delete(path)
    return answer


def _causes(answer: httpx.Response) -> list[tuple[str, str]]:
    """Field and message of everything the API server found."""
    causes = answer.json().get("details", {}).get("causes", [])
    return [(cause.get("field", ""), cause["message"]) for cause in causes]


def test_crds_serve_without_any_complaint(cluster: Cluster) -> None:
    found = json.loads(cluster.kubectl("get", "crd", "-o", "json").stdout)["items"]
    assert {crd["spec"]["names"]["plural"] for crd in found} == set(PLURALS)
    for crd in found:
        status = {c["type"]: c["status"] for c in crd["status"]["conditions"]}
        assert status["Established"] == "True"
        assert status["NamesAccepted"] == "True"
        assert "NonStructuralSchema" not in status


@pytest.mark.parametrize("row", RULES, ids=lambda row: f"{row.manifest['kind']}: {row.id}")
def test_rule_fires_at_its_field_with_its_message(http: httpx.Client, row: Row) -> None:
    answer = _answer(http, row.manifest, row.old)
    assert answer.status_code == 422, answer.text
    (ours,) = check(row.manifest, row.old)
    assert row.says in ours.expected
    fields = [field for field, message in _causes(answer) if ours.expected in message]
    where = row.path if row.path != "metadata.name" else "<nil>"  # rules of the root have no field
    assert fields == [where], answer.text
    assert len(_causes(answer)) == 1, answer.text


@pytest.mark.parametrize("row", SCHEMA, ids=lambda row: row.id)
def test_schema_refuses_what_admission_refuses(http: httpx.Client, row: Row) -> None:
    answer = _answer(http, row.manifest, row.old)
    assert answer.status_code in (400, 422), answer.text
    assert re.sub(r"\[\d+\]$", "", row.path) in answer.text
    assert check(row.manifest, row.old)


@pytest.mark.parametrize("manifest", ACCEPTED.values(), ids=ACCEPTED)
def test_accepted_manifest_is_stored_as_admission_says(
    http: httpx.Client, manifest: dict[str, Any]
) -> None:
    answer = _answer(http, manifest, None)
    assert answer.status_code == 201, answer.text
    ours = with_defaults(manifest)
    assert answer.json()["spec"] == ours["spec"]
    assert answer.json().get("status") == ours.get("status")


@pytest.mark.parametrize("kind", ["FineTuneJob", "ModelVersion", "ModelEndpoint"])
def test_random_manifest_gets_the_same_answer_from_both(http: httpx.Client, kind: str) -> None:
    answers = set()

    @settings(max_examples=200, deadline=None, suppress_health_check=list(HealthCheck))
    @given(random_manifests(kind))
    def same_answer(manifest: dict[str, Any]) -> None:
        answer = _answer(http, manifest, None)
        ours = [str(violation) for violation in check(manifest)]
        answers.add(answer.status_code)
        assert answer.is_success == (not ours), (manifest["spec"], answer.text, ours)
        if not ours:
            assert answer.json()["spec"] == with_defaults(manifest)["spec"]

    same_answer()
    assert answers >= {201, 422}  # both kinds were drawn


def test_minimal_manifest_is_accepted_and_waits_for_its_first_visit(cluster: Cluster) -> None:
    assert len(MINIMAL.splitlines()) <= 12
    cluster.kubectl("apply", "--validate=strict", "-f", "-", stdin=MINIMAL)
    stored = json.loads(cluster.kubectl("get", "ftj", "minimal", "-o", "json").stdout)
    assert stored["spec"] == with_defaults(yaml.safe_load(MINIMAL))["spec"]
    assert stored["status"] == {"observedGeneration": -1}
    again = cluster.kubectl("apply", "--validate=strict", "-f", "-", stdin=MINIMAL).stdout
    assert "unchanged" in again


def test_kubectl_reads_scalars_as_the_desktop_does(cluster: Cluster) -> None:
    head = "apiVersion: oikyo.dev/v1alpha1\nkind: FineTuneJob\nmetadata: {name: scalars}\n"
    text = f"{head}values: [{', '.join(SCALARS)}]\n"
    options = ("--dry-run=client", "--validate=false", "-o", "json", "-f", "-")
    read = json.loads(cluster.kubectl("create", *options, stdin=text).stdout)
    assert read["values"] == list(SCALARS.values())


def test_kubectl_explain_describes_every_field(cluster: Cluster) -> None:
    text = cluster.kubectl("explain", "finetunejob.spec.training").stdout
    assert "Peak learning rate as text, above 0 and at most 1" in text
    whole = cluster.kubectl("explain", "finetunejob.spec", "--recursive").stdout
    assert "enum: TextClassification, TextRegression, TextGeneration" in whole
    assert "<no description>" not in text + whole


def test_status_refuses_a_time_in_words(http: httpx.Client) -> None:
    job = a_manifest(name="timed")
    http.post(_path(job), json=job).raise_for_status()
    merge = {"Content-Type": "application/merge-patch+json"}
    patch = json.dumps({"status": {"startTime": "noon"}})
    answer = http.patch(f"{_path(job)}/timed/status", content=patch, headers=merge)
    assert _causes(answer) == [
        ("status.startTime", 'Invalid value: "noon": write a time as 2026-11-23T21:00:00Z')
    ]


def test_columns_tell_the_state_of_a_job(cluster: Cluster, http: httpx.Client) -> None:
    job = a_manifest(name="columns")
    http.post(_path(job), json=job).raise_for_status()
    condition = {"type": "Succeeded", "status": "Unknown", "reason": "Training"}
    status = {
        "phase": "Training",
        "loss": "0.42",
        "score": "0.91",
        "modelVersion": "columns-1",
        "conditions": [{**condition, "lastTransitionTime": "2026-11-23T21:00:00Z"}],
        "progress": {
            "stage": "train",
            "progressPercentage": 37,
            "estimatedRemainingSeconds": 90,
            "step": 12,
        },
    }
    merge = {"Content-Type": "application/merge-patch+json"}
    patch = json.dumps({"status": status})
    http.patch(f"{_path(job)}/columns/status", content=patch, headers=merge).raise_for_status()
    head, row = cluster.kubectl("get", "ftj", "columns").stdout.splitlines()
    assert head.split() == ["NAME", "PHASE", "PROGRESS", "LOSS", "SCORE", "ETA", "AGE"]
    assert row.split()[:6] == ["columns", "Training", "37", "0.42", "0.91", "90"]
    head, row = cluster.kubectl("get", "ftj", "columns", "-o", "wide").stdout.splitlines()
    assert head.split()[7:] == ["STAGE", "STEP", "MODEL", "VERSION", "REASON", "BASE"]
    assert row.split()[7:] == ["train", "12", "columns-1", "Training", "hf://Qwen/Qwen3-0.6B"]


def test_columns_show_the_score_of_a_version(cluster: Cluster, http: httpx.Client) -> None:
    version = a_manifest("ModelVersion", name="intents-1")
    http.post(_path(version), json=version).raise_for_status()
    head, row = cluster.kubectl("get", "mv", "intents-1").stdout.splitlines()
    assert head.split() == ["NAME", "MODEL", "VERSION", "TASK", "VERDICT", "F1", "LOSS", "AGE"]
    assert row.split()[1:7] == [
        "support-intents", "1", "TextClassification", "Accepted", "0.91", "0.3",
    ]  # fmt: skip


def test_jobs_can_be_selected_by_field(cluster: Cluster, http: httpx.Client) -> None:
    job = a_manifest(name="chosen", model={"base": "hf://a/chosen"})
    http.post(_path(job), json=job).raise_for_status()
    choice = "--field-selector=spec.model.base=hf://a/chosen,spec.task=TextClassification"
    found = cluster.kubectl("get", "ftj", choice, "-o", "name").stdout.split()
    assert found == ["finetunejob.oikyo.dev/chosen"]


def test_category_lists_every_kind(cluster: Cluster, http: httpx.Client) -> None:
    endpoint = a_manifest("ModelEndpoint", name="listed")
    http.post(_path(endpoint), json=endpoint).raise_for_status()
    found = cluster.kubectl("get", "oikyo", "-o", "name").stdout.split()
    assert "modelendpoint.oikyo.dev/listed" in found


def test_endpoint_scales_by_its_subresource(cluster: Cluster, http: httpx.Client) -> None:
    endpoint = a_manifest("ModelEndpoint", name="scaled", replicas={"min": 1, "max": 4})
    http.post(_path(endpoint), json=endpoint).raise_for_status()
    cluster.kubectl("scale", "mep/scaled", "--replicas=3")
    assert http.get(f"{_path(endpoint)}/scaled").json()["spec"]["replicas"] == {"min": 3, "max": 4}
    refused = cluster.kubectl("scale", "mep/scaled", "--replicas=5", check=False)
    assert "replicas.min must be at most replicas.max" in refused.stderr
