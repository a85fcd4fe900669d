"""The operator as a process against a real API server and the real Job, Deployment and GC controllers."""

from __future__ import annotations

import asyncio
import signal
import time
from pathlib import Path

from control_plane import Audit, Place, eventually
from kit.cluster import Cluster
from oikyo.controller.cluster import Credentials
from oikyo.controller.handlers import REFUSED_SECONDS, watch
from oikyo.controller.kinds import WATCHED
from operator_process import OperatorProcess, operator

GRACE = 30
"""Seconds that Kubernetes leaves a pod to end by itself."""
NO_CERTIFICATE = {"certificate_path": None, "key_path": None}


def test_a_job_goes_from_data_to_a_version_in_at_most_25_writes(
    place: Place, running: OperatorProcess, audit: Audit
) -> None:
    place.apply_job("tickets")
    place.finish_all("tickets")
    eventually(lambda: place.phase("tickets") == "Succeeded", "the job to succeed")
    status = place.status("tickets")
    assert status["score"] == "0.9"
    assert status["modelVersion"] == "tickets-v1"
    version = place.api.get(place.ours("modelversions", "tickets-v1"))
    assert version is not None
    assert version["spec"]["lineage"]["image"].endswith("cd" * 32)
    writes = audit.writes(place.namespace)
    assert len(writes) <= 25, "\n".join(writes)

    def told() -> bool:
        events = place.api.items(place.path("events", group="events.k8s.io/v1"))
        ours = {e["reason"] for e in events if e["regarding"]["kind"] == "FineTuneJob"}
        return ours >= {"DataReady", "Trained", "Evaluated", "Released"}

    eventually(told, "its events, which follow the status")
    print(f"{len(writes)} writes:", *writes, sep="\n  ")
    print(f"resident memory {running.resident_megabytes():.0f} MB")


def test_an_unchanged_object_costs_no_write(
    place: Place, running: OperatorProcess, audit: Audit
) -> None:
    place.apply_job("waiting")
    place.await_pods("waiting", "prepare")
    place.apply_job("done")
    place.finish_all("done")
    eventually(lambda: place.phase("done") == "Succeeded", "the job to succeed")
    audit.settle(place.namespace)
    time.sleep(8)
    assert audit.writes(place.namespace) == []


def test_a_killed_operator_comes_back_and_changes_nothing(
    cluster: Cluster, place: Place, running: OperatorProcess, audit: Audit, tmp_path: Path
) -> None:
    place.apply_job("tickets")
    place.finish("tickets", "prepare")
    place.await_pods("tickets", "train")
    eventually(lambda: place.phase("tickets") == "Training", "the train stage")
    audit.settle(place.namespace)
    before = place.everything()
    running.end(signal.SIGKILL)
    with operator(
        cluster.kubeconfig, tmp_path, "--namespace", place.namespace, name="second"
    ) as second:
        eventually(lambda: second.leading, "the lease of the dead")
        time.sleep(3)
        assert audit.writes(place.namespace) == []
        assert place.everything() == before
        for stage in ("train", "evaluate"):
            place.finish("tickets", stage)
        eventually(lambda: place.phase("tickets") == "Succeeded", "the job to succeed")


def test_a_wiped_status_comes_back_from_the_children(
    place: Place, running: OperatorProcess
) -> None:
    place.apply_job("tickets")
    place.finish_all("tickets")
    eventually(lambda: place.phase("tickets") == "Succeeded", "the job to succeed")
    before = place.status("tickets")
    jobs = place.stage_jobs()
    path = place.ours("finetunejobs", "tickets") + "/status"
    place.api.http.patch(
        path,
        content='[{"op": "remove", "path": "/status"}]',
        headers={"Content-Type": "application/json-patch+json"},
    ).raise_for_status()
    eventually(lambda: place.phase("tickets") == "Succeeded", "the status to come back")
    after = place.status("tickets")
    for told in ("score", "metrics", "gates", "modelVersion", "startTime", "dataset", "stages"):
        assert after[told] == before[told], told
    assert place.stage_jobs() == jobs


def test_the_second_operator_waits_and_takes_over_at_once_when_the_first_ends(
    cluster: Cluster, place: Place, running: OperatorProcess, tmp_path: Path
) -> None:
    with operator(
        cluster.kubeconfig, tmp_path, "--namespace", place.namespace, name="second"
    ) as second:
        time.sleep(3)
        eventually(lambda: (running.leading, second.leading) == (True, False), "one leader")
        place.apply_job("tickets")
        place.await_pods("tickets", "prepare")
        lease = place.path("leases", "oikyo-controller", "coordination.k8s.io/v1")
        code, seconds = running.end()
        released = (place.api.get(lease) or {})["spec"]
        assert code == 0
        assert seconds < GRACE, f"the end took {seconds:.1f} s"
        eventually(lambda: second.leading, "the released lease")
        assert released.get("holderIdentity") != "operator", "it was not given away at the end"
        place.finish_all("tickets")
        eventually(lambda: place.phase("tickets") == "Succeeded", "the job to succeed")


def test_a_job_of_another_controller_is_left_alone(
    place: Place, running: OperatorProcess, audit: Audit
) -> None:
    place.apply_job("theirs", managedBy="example.com/other")
    place.apply_job("ours")
    place.await_pods("ours", "prepare")
    assert not any("theirs" in write for write in audit.writes(place.namespace))


def test_an_outage_of_the_api_server_is_ridden_through(
    cluster: Cluster, place: Place, running: OperatorProcess
) -> None:
    place.apply_job("tickets")
    place.await_pods("tickets", "prepare")
    cluster.kill("kube-apiserver")
    eventually(lambda: not running.leading, "the lease that cannot be renewed to be given up")
    assert running.get("/healthz")[0] == 200, "an outage is no reason to restart the operator"
    cluster.restart("kube-apiserver")
    eventually(
        lambda: cluster.kubectl("get", "--raw", "/readyz", check=False).returncode == 0, "it"
    )
    place.finish_all("tickets")
    eventually(lambda: place.phase("tickets") == "Succeeded", "the job to succeed")


def test_a_hundred_jobs_start_within_seconds(
    place: Place, running: OperatorProcess, audit: Audit
) -> None:
    for number in range(100):
        place.apply_job(f"many-{number}")
    begun = time.monotonic()
    eventually(lambda: len(place.stage_jobs()) == 100, "a hundred prepare Jobs", seconds=300)
    print(f"{time.monotonic() - begun:.1f} s after the last of 100 was applied")
    eventually(
        lambda: all(place.phase(f"many-{n}") == "Preparing" for n in (0, 50, 99)), "their reports"
    )
    print(f"resident memory {running.resident_megabytes():.0f} MB")


async def test_a_token_that_is_refused_is_shown_again_at_a_walk(
    cluster: Cluster, place: Place, audit: Audit
) -> None:
    """After a long outage the pod's token has ended, and the kubelet takes minutes to bring another."""
    begun, server = time.monotonic(), str(place.api.http.base_url)
    authority = str(cluster.state / "pki" / "ca.crt")
    ended = Credentials(server, authority, insecure=False, token="ended", **NO_CERTIFICATE)
    watching = asyncio.create_task(
        watch(lambda *_: None, lambda: ended, (place.namespace,), asyncio.Event())
    )
    await asyncio.sleep(2.5 * REFUSED_SECONDS)
    assert not watching.done(), "whoever gives up is started anew, with a longer wait each time"
    watching.cancel()
    await asyncio.wait([watching])
    rounds = 1 + (time.monotonic() - begun) / REFUSED_SECONDS
    assert 2 <= audit.refused() <= rounds * len(WATCHED)
