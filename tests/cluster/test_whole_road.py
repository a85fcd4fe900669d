"""The whole road on a real cluster: chart, manifests, training over two nodes, gates, served answers.

The tests of this file are one story and run in its order; each leaves what the next one reads.
"""

from __future__ import annotations

import json
import random
import re
import threading
import time
from typing import Any

import pytest
import yaml

from kube import Kube, condition, wait_for
from road import CLASSIFY, GENERATE, NAMESPACE, ROOT, SYSTEM, Road

TERMINAL = ("Succeeded", "Failed")
CHANGING = ("pods", "jobs", "deployments", "pvc")
PHASE = re.compile("Preparing|Training")


def manifest(example: str) -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load((ROOT / "examples" / example / "job.yaml").read_text())
    return loaded


def ended(kube: Kube, name: str, seconds: float) -> dict[str, Any]:
    """The job once it has ended; a job that stalls shows its diagnosis."""

    def look() -> dict[str, Any] | None:
        job = kube.get("finetunejob", name, NAMESPACE)
        return job if job.get("status", {}).get("phase") in TERMINAL else None

    try:
        return wait_for(f"the end of {name}", look, seconds, every=3)
    except AssertionError as error:
        job = kube.get("finetunejob", name, NAMESPACE)
        raise AssertionError(f"{error}: {json.dumps(job.get('status'), indent=1)}") from None


def train_pods(kube: Kube, name: str, attempt: int) -> list[dict[str, Any]]:
    selector = f"oikyo.dev/job={name},oikyo.dev/stage=train,oikyo.dev/attempt={attempt}"
    return kube.items("pods", NAMESPACE, selector)


def test_the_operator_runs_under_pod_security_restricted(road: Road) -> None:
    namespace = road.kube.get("namespace", SYSTEM, SYSTEM)
    label = "pod-security.kubernetes.io/enforce"
    assert namespace["metadata"]["labels"][label] == "restricted"
    deployments = road.kube.items("deployments", SYSTEM)
    assert deployments
    assert deployments[0]["status"]["readyReplicas"] >= 1


def test_both_examples_are_accepted_by_kubectl_apply(road: Road) -> None:
    job = manifest("text-generation")
    general = {"sources": [{"uri": "pvc://examples/general.jsonl"}], "maxIncrease": "5"}
    job["spec"]["training"]["general"] = general
    assert "created" in road.kube.apply(job, NAMESPACE)
    shown = wait_for(
        "a phase in kubectl get",
        # On a busy machine it may train already when it is looked at.
        lambda: (text := road.kube("get", "ftj", "-n", NAMESPACE)) and PHASE.search(text) and text,
        300,
    )
    assert all(word in shown for word in ("PHASE", "PROGRESS", "LOSS", "SCORE", "ETA"))


def test_training_runs_over_both_nodes_and_survives_a_killed_worker(road: Road) -> None:
    kube = road.kube

    def checkpointed() -> int:
        progress = kube.get("finetunejob", GENERATE, NAMESPACE)["status"].get("progress", {})
        values = {m["name"]: float(m["value"]) for m in progress.get("metrics", [])}
        return int(values.get("checkpoint_step", 0))

    saved = wait_for("a checkpoint", checkpointed, 850, every=0.5)
    pods = train_pods(kube, GENERATE, 1)
    assert len({pod["spec"]["nodeName"] for pod in pods}) == 2
    assert all(pod["spec"]["automountServiceAccountToken"] is False for pod in pods)
    victim = pods[-1]["metadata"]["name"]
    kube("delete", "pod", victim, "-n", NAMESPACE, "--grace-period=0", "--force")
    wait_for("attempt 2", lambda: len(train_pods(kube, GENERATE, 2)) == 2, 600)
    assert "created" in kube.apply(manifest("text-classification"), NAMESPACE)
    road.saved_before_kill = saved


@pytest.mark.timeout(2700)
def test_the_operator_may_die_at_any_moment(road: Road) -> None:
    stop = threading.Event()
    chaos = threading.Thread(target=_kill_operator, args=(road, stop, random.Random(7)))
    chaos.start()
    try:
        generate = ended(road.kube, GENERATE, 1200)
        classify = ended(road.kube, CLASSIFY, 1200)
    finally:
        stop.set()
        chaos.join()
    for job in (generate, classify):
        assert job["status"]["phase"] == "Succeeded", job["status"].get("diagnosis")
        assert all(gate["passed"] for gate in job["status"]["gates"])
    names = [job["metadata"]["name"] for job in road.kube.items("jobs", NAMESPACE)]
    assert sorted(names) == sorted(
        [
            *(f"{CLASSIFY}-{stage}-1" for stage in ("evaluate", "prepare", "train")),
            *(f"{GENERATE}-{stage}-1" for stage in ("evaluate", "prepare", "train")),
            f"{GENERATE}-train-2",
        ]
    )


def _kill_operator(road: Road, stop: threading.Event, dice: random.Random) -> None:
    at_once = ("--grace-period=0", "--force", "--ignore-not-found")  # it may have gone by itself
    for _ in range(3):
        if stop.wait(dice.uniform(10, 40)):
            return
        for pod in road.kube.items("pods", SYSTEM):
            name = pod["metadata"]["name"]
            road.kube("delete", "pod", name, "-n", SYSTEM, *at_once)


def test_the_commands_look_at_the_job_from_outside(road: Road) -> None:
    code, told = road.oikyo("watch", GENERATE, "-n", NAMESPACE, "--once")
    assert code == 0, told
    assert "Succeeded" in told
    code, told = road.oikyo("logs", GENERATE, "-n", NAMESPACE, "--stage", "train", "--attempt", "2")
    assert code == 0, told
    workers = {line.split()[0] for line in told.splitlines() if line.startswith("train-2/")}
    assert workers == {"train-2/0", "train-2/1"}
    assert re.search(r"train-2/0 +\S+ \S+ INFO oikyo.train rank=0 resume from checkpoint", told)
    code, told = road.oikyo("logs", GENERATE, "-n", NAMESPACE, "--follow")
    assert code == 0, told
    assert "prepare-1/0" in told
    code, told = road.oikyo("watch", "nobody", "-n", NAMESPACE)
    assert code == 64
    assert GENERATE in told


def test_at_most_one_checkpoint_interval_was_lost(road: Road) -> None:
    first = next(
        pod
        for pod in train_pods(road.kube, GENERATE, 2)
        if pod["metadata"]["annotations"]["batch.kubernetes.io/job-completion-index"] == "0"
    )
    said = first["status"]["containerStatuses"][0]["state"]["terminated"]["message"]
    metrics = {m["name"]: float(m["value"]) for m in json.loads(said)["result"]["metrics"]}
    assert metrics["resumed_from_step"] >= road.saved_before_kill > 0


@pytest.mark.parametrize("name", [CLASSIFY, GENERATE])
def test_the_accepted_version_is_served(road: Road, name: str) -> None:
    endpoint = wait_for("a ready endpoint", lambda: _ready(road.kube, name), 600, every=2)
    version = road.kube.get("modelversion", f"{name}-v1", NAMESPACE)
    assert version["spec"]["verdict"] == "Accepted"
    assert endpoint["status"]["version"] == 1
    assert condition(endpoint, "Ready")["reason"] == "Serving"


def _ready(kube: Kube, name: str) -> dict[str, Any] | None:
    found = kube.get("modelendpoint", name, NAMESPACE)
    return found if condition(found, "Ready").get("status") == "True" else None


def test_the_service_answers_with_the_tuned_models_output(road: Road) -> None:
    text = "Return the arc cosine (measured in radians) of x."
    answer = road.ask(CLASSIFY, "/v1/classify", {"input": text})
    best = answer["data"][0]
    assert best["score"] > 0.3
    record = road.kube.get("modelversion", f"{CLASSIFY}-v1", NAMESPACE)
    assert record["spec"]["lineage"]["datasetDigest"].startswith("sha256:")
    completion = road.ask(
        GENERATE,
        "/v1/completions",
        {"model": GENERATE, "prompt": "def read(self):", "max_tokens": 8},
    )
    assert completion["choices"][0]["text"].strip()


def test_the_autoscaler_reads_real_cpu_metrics_and_scales_under_load(road: Road) -> None:
    kube = road.kube

    def utilisation() -> int | None:
        found = kube.get("hpa", GENERATE, NAMESPACE).get("status", {}).get("currentMetrics") or []
        resource = found[0].get("resource", {}) if found else {}
        used = resource.get("current", {}).get("averageUtilization")
        return None if used is None else used + 1

    wait_for("CPU metrics in the autoscaler", utilisation, 500, every=3)
    with road.load(
        GENERATE, "/v1/completions", {"model": GENERATE, "prompt": "def f(", "max_tokens": 64}
    ):
        wait_for(
            "a second replica",
            lambda: kube.get("hpa", GENERATE, NAMESPACE)["status"].get("desiredReplicas", 1) > 1,
            240,
            every=3,
        )


def test_a_job_whose_gate_cannot_pass_is_rejected_and_serves_nothing(road: Road) -> None:
    job = manifest("text-classification")
    job["metadata"]["name"] = "hopeless"
    spec = job["spec"]
    spec["model"]["name"] = "hopeless"
    spec["evaluation"] = {"gates": [{"metric": "f1_macro", "min": "0.9999"}]}
    spec["training"] = {"method": "LoRA", "maxSteps": 4}
    spec["storage"] = {"retentionPolicy": "Delete"}
    spec["deployment"] = {}
    before, begun = road.operator_writes(about="hopeless"), time.monotonic()
    road.kube.apply(job, NAMESPACE)
    over = ended(road.kube, "hopeless", 600)
    assert condition(over, "Succeeded")["reason"] == "GateFailed"
    assert "f1_macro" in over["status"]["diagnosis"]["cause"]
    assert road.kube.get("modelversion", "hopeless-v1", NAMESPACE)["spec"]["verdict"] == "Rejected"
    assert not road.kube.get("modelendpoint", "hopeless", NAMESPACE)
    assert not road.kube.get("deployment", "hopeless", NAMESPACE)
    # What happens costs at most 25 requests; mere progress costs one more each quarter of a minute.
    progress = (time.monotonic() - begun) / 15
    assert road.operator_writes(about="hopeless") - before <= 25 + progress


def test_prometheus_has_every_series_of_the_dashboard_and_the_alerts(road: Road) -> None:
    files = ROOT / "charts" / "oikyo" / "files"
    texts = [(files / "alerts.yaml").read_text()]
    texts += [path.read_text() for path in (files / "dashboards").glob("*.json")]
    used = set(
        re.findall(r"oikyo_(?:operator|job|endpoint|train|checkpoint|server)_\w+", str(texts))
    )
    assert used - road.prometheus.names() == set()
    serving = road.prometheus.series(f'oikyo_server_requests_total{{model="{GENERATE}"}}')
    assert sum(float(one["value"][1]) for one in serving) > 0


@pytest.mark.timeout(1200)
def test_an_unchanged_cluster_costs_no_write(road: Road) -> None:
    # An autoscaler takes back a replica five minutes after the load: then the cluster has changed.
    for _ in range(10):
        was, before = children(road.kube), road.operator_writes()
        time.sleep(60)
        written = road.operator_writes() - before
        if children(road.kube) == was:
            break
    else:
        pytest.fail("for ten minutes the cluster never stayed as it was")
    assert written == 0


def children(kube: Kube) -> dict[str, str]:
    """Resource versions of what the operator looks at and others change."""
    found = [item["metadata"] for kind in CHANGING for item in kube.items(kind, NAMESPACE)]
    return {metadata["uid"]: metadata["resourceVersion"] for metadata in found}


def test_deleting_a_job_leaves_only_what_storage_retains(road: Road) -> None:
    kube = road.kube
    kube("delete", "ftj", "hopeless", "-n", NAMESPACE, "--timeout=300s")

    def gone() -> bool:
        kinds = "jobs,pods,services,pvc,modelversions"
        return not kube.items(kinds, NAMESPACE, "oikyo.dev/job=hopeless")

    wait_for("the remains of hopeless to go", gone, 300)
    kube("delete", "ftj", GENERATE, "-n", NAMESPACE, "--timeout=300s")
    wait_for("the pods to go", lambda: not train_pods(kube, GENERATE, 2), 300)
    assert kube.get("modelversion", f"{GENERATE}-v1", NAMESPACE)
    assert kube.get("pvc", f"{GENERATE}-workspace", NAMESPACE)
    assert _ready(kube, GENERATE)
