"""Endpoints on a real API server: a version is served, adapters join it, replicas change hands."""

from __future__ import annotations

import time
from typing import Any

from builders import a_manifest
from control_plane import Audit, Place, eventually
from operator_process import OperatorProcess


def test_an_accepted_version_is_served_and_the_endpoint_becomes_ready(
    place: Place, running: OperatorProcess, audit: Audit
) -> None:
    place.apply_job("tickets", deployment={"replicas": {"min": 1, "max": 3}})
    place.finish_all("tickets")
    labels = "oikyo.dev/endpoint=tickets"
    for pod in eventually(lambda: place.pods(labels), "server pods"):
        place.run_pod(pod)
    endpoint = place.ours("modelendpoints", "tickets")

    def ready() -> bool:
        found = (place.api.get(endpoint) or {}).get("status", {}).get("conditions", ())
        return any(c["type"] == "Ready" and c["status"] == "True" for c in found)

    eventually(ready, "the endpoint to be ready")
    writes = audit.writes(place.namespace)
    assert len(writes) <= 36, "\n".join(writes)
    for path in (
        place.path("services", "tickets"),
        place.path("poddisruptionbudgets", "tickets", "policy/v1"),
        place.path("horizontalpodautoscalers", "tickets", "autoscaling/v2"),
    ):
        assert place.api.get(path) is not None, path
    place.api.delete(place.path("services", "tickets"))
    eventually(lambda: place.api.get(place.path("services", "tickets")), "the Service to come back")
    place.api.delete(endpoint)
    eventually(lambda: not place.pods(labels), "the server to go with its endpoint")


def test_an_adapter_joins_a_running_server_and_a_wrong_one_leaves_it_as_it_is(
    place: Place, running: OperatorProcess
) -> None:
    lora = {"method": "LoRA", "rank": 8, "variant": "Standard"}
    for model in ("tickets", "refunds"):
        record = a_manifest("ModelVersion", name=f"{model}-v1", model=model, adapter=lora)
        place.api.create(place.ours("modelversions"), record)
    served = a_manifest("ModelEndpoint", name="tickets", model="tickets")
    place.api.create(place.ours("modelendpoints"), served)
    endpoint, labels = place.ours("modelendpoints", "tickets"), "oikyo.dev/endpoint=tickets"
    (first,) = eventually(lambda: place.pods(labels), "the server pod")
    place.run_pod(first)
    eventually(lambda: _says(place, endpoint, "Ready", "True"), "the endpoint to be ready")

    place.api.patch(endpoint, {"spec": {"adapters": [{"name": "refunds"}]}})
    pods = eventually(lambda: len(got := place.pods(labels)) == 2 and got, "a second pod")
    names = {pod["metadata"]["name"] for pod in pods}
    assert first["metadata"]["name"] in names, "the old server answers until the new one does"
    place.run_pod(next(p for p in pods if p["metadata"]["name"] != first["metadata"]["name"]))
    told = "version 1 of tickets with 1 adapter answers"
    eventually(lambda: _says(place, endpoint, "Ready", "True", told), "the adapter to be served")
    status = place.api.get(endpoint)["status"]
    assert status["adapters"] == [{"name": "refunds", "version": 1}]
    deployments = place.api.items(place.path("deployments", group="apps/v1"))
    assert [one["metadata"]["name"] for one in deployments] == ["tickets"]

    wrong = {"adapters": [{"name": "refunds"}, {"name": "nobody"}]}
    place.api.patch(endpoint, {"spec": wrong})
    eventually(lambda: _says(place, endpoint, "Stalled", "True"), "the endpoint to stall")
    status = place.api.get(endpoint)["status"]
    assert status["diagnosis"]["evidence"] == "spec.adapters[nobody]"
    assert status["adapters"] == [{"name": "refunds", "version": 1}]
    (deployment,) = place.api.items(place.path("deployments", group="apps/v1"))
    assert deployment["metadata"]["generation"] == deployments[0]["metadata"]["generation"]
    nobody = a_manifest("ModelVersion", name="nobody-v1", model="nobody", adapter=lora)
    place.api.create(place.ours("modelversions"), nobody)
    eventually(lambda: _says(place, endpoint, "Stalled", "False"), "the endpoint to go on")


def _says(place: Place, path: str, kind: str, status: str, message: str = "") -> bool:
    """Whether an object's condition has the status, and the message where one is given."""
    found = (place.api.get(path) or {}).get("status", {}).get("conditions", ())
    return any(
        c["type"] == kind and c["status"] == status and message in c.get("message", "")
        for c in found
    )


def test_replicas_stay_when_an_autoscaler_takes_them_over(
    place: Place, running: OperatorProcess
) -> None:
    place.apply_job("tickets", deployment={"replicas": {"min": 3, "max": 3}})
    place.finish_all("tickets")
    endpoint = place.ours("modelendpoints", "tickets")
    deployment = place.path("deployments", "tickets", "apps/v1")
    eventually(lambda: place.api.get(deployment), "the Deployment")
    seen: list[int] = []
    place.api.patch(endpoint, {"spec": {"replicas": {"min": 1, "max": 5}}})

    def autoscaled() -> Any:
        seen.append(place.api.get(deployment)["spec"]["replicas"])
        return place.api.get(place.path("horizontalpodautoscalers", "tickets", "autoscaling/v2"))

    eventually(autoscaled, "the autoscaler")
    time.sleep(1)
    seen.append(place.api.get(deployment)["spec"]["replicas"])
    assert set(seen) == {3}
