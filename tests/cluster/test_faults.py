"""Faults injected for real into one training over two nodes: it goes on or resumes by itself each time.

One job with no budget for failures (backoffLimit 0) lives through all of them: an attempt that got
further than those before costs nothing. The tests are one story and run in order. What each fault
cost is printed as a row of the table in docs/explanation/survival.md (pytest -rP shows it).
OIKYO_OUTAGE says for how many seconds the API server is away.
"""

from __future__ import annotations

import json
import os
import re
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml

from faults import (
    NAME,
    Training,
    leader,
    restarts,
    scale,
    slowed,
    spoil,
    switch_link,
    taken,
    tell,
    workers_of,
)
from kit.clocks import shifted
from kit.cluster import Cluster
from kit.volumes import small_volume
from kube import wait_for
from oikyo_trainer.training.manifest import verify
from road import NAMESPACE, ROOT, SYSTEM, Road

CUT = 75
"""Seconds without a network: longer than the silence that is called a hang."""
OUTAGE = float(os.environ.get("OIKYO_OUTAGE", "30"))
QUICK, LEISURELY = 300, 7
"""A longer outage is spent at so many hundredths of a processor a worker."""
RECOVERY = 120 if OUTAGE <= QUICK else 420
"""Seconds to go on after it: a kubelet waits up to 2 minutes before it asks for another token again."""
HANG = 240
"""Seconds for a hang to be noticed (60 s of silence), the gang to end and the next attempt to step."""
HOUR = 3600
SHARE = 250
"""Thousandths of a processor that a worker asks for."""
ATTEMPT = "oikyo.dev/attempt"


@pytest.fixture(scope="module")
def begun(road: Road, cluster: Cluster) -> Iterator[Training]:
    assert cluster.nodes, "faults are injected into the kit's own cluster"
    with small_volume(cluster.state / "small", cluster.nodes) as volume:
        for item in volume.objects(NAME, NAMESPACE):
            road.kube.apply(item, NAMESPACE)
        made = Training(road.kube, cluster, volume, manifest())
        try:
            made.begin()
            yield made
        finally:
            made.remove()
            road.kube("delete", "pvc", NAME, "-n", NAMESPACE, "--timeout=60s")
            road.kube("delete", "pv", NAME, "--timeout=60s")


@pytest.fixture
def training(begun: Training) -> Training:
    """The training that goes on; where the fault before ended it, that test has told why, and another begins."""
    if begun.ended():
        begun.remove()
        begun.begin()
    return begun


def manifest() -> dict[str, Any]:
    job: dict[str, Any] = yaml.safe_load(
        (ROOT / "examples" / "text-generation" / "job.yaml").read_text()
    )
    job["metadata"]["name"] = NAME
    spec = job["spec"]
    spec.pop("deployment")
    spec |= {"backoffLimit": 0, "storage": {"claimName": NAME}}
    # Less than a clock is off after the outage: who believed that clock would fail the job.
    spec["activeDeadlineSeconds"] = HOUR + int(OUTAGE)
    spec["training"] |= {"strategy": "DDP", "epochs": 1000, "batchSize": 8}
    spec["training"] |= {"minNodes": 1, "startDeadlineSeconds": 60}
    spec["training"]["resources"] = {"cpu": f"{SHARE}m"}  # both fit on the node that is left
    spec["training"]["checkpoints"] = {"everySteps": 10}
    return job


def test_a_worker_killed_inside_its_pod_is_resumed_from_the_checkpoint(training: Training) -> None:
    before, begun = training.attempt(), time.monotonic()
    for process in workers_of(training.pods()[1]):
        os.kill(process, signal.SIGKILL)
    training.await_steps(before + 1, 180)
    tell("a worker killed", begun, training)
    assert "checkpoint of step" in training.stage()["message"]


def test_a_worker_that_hangs_is_noticed_and_the_training_resumes(training: Training) -> None:
    before, begun = training.attempt(), time.monotonic()
    workers = workers_of(training.pods()[1])
    for process in workers:
        os.kill(process, signal.SIGSTOP)
    training.await_steps(before + 1, HANG)
    tell("a worker stopped", begun, training)
    assert "no forward pass for" in training.stage()["message"]


def test_a_network_cut_between_the_nodes_is_ridden_out(training: Training) -> None:
    before, begun = training.attempt(), time.monotonic()
    link = training.cluster.nodes[1].node.link
    switch_link(link, "down")
    try:
        time.sleep(CUT)
        # A machine that was slow at times takes a longer silence for a hang. The operator may be cut off as well.
        wait_for(
            "a worker to end", lambda: training.attempt() > before or has_failed(training), HANG
        )
    finally:
        switch_link(link, "up")
    training.await_steps(before + 1, HANG)
    tell(f"the network cut for {CUT} s", begun, training)
    # Both sides noticed by themselves; one attempt is all that it cost.
    assert "no forward pass for" in training.stage()["message"]
    assert training.attempt() == before + 1


def has_failed(training: Training) -> bool:
    """Whether a pod of the newest attempt has."""
    return any(pod["status"].get("phase") == "Failed" for pod in training.pods())


def test_a_stopped_kubelet_disturbs_no_training(training: Training) -> None:
    before, step = training.attempt(), training.progress()["step"]
    server = training.cluster.nodes[1].server("kubelet")
    training.cluster.kill(server, signal.SIGSTOP)
    try:
        time.sleep(25)
    finally:
        training.cluster.kill(server, signal.SIGCONT)
    begun = time.monotonic()
    wait_for("further steps", lambda: training.progress()["step"] > step, 60)
    tell("a kubelet stopped for 25 s", begun, training, attempts=0)
    assert training.attempt() == before


@pytest.mark.timeout(900 + OUTAGE + RECOVERY)
def test_an_outage_of_the_api_server_disturbs_no_training(training: Training) -> None:
    """The operator and the kubelets are alone for as long, and what they hold to show who they are ends."""
    before, step, workers = training.attempt(), training.progress()["step"], training.workers()
    kept, operators = training.kept(), restarts(training.kube)
    with slowed(workers, percent=LEISURELY if OUTAGE > QUICK else None):
        training.cluster.kill("kube-apiserver")
        time.sleep(OUTAGE)
        assert all(Path(f"/proc/{process}").exists() for process in workers)
        trained = training.kept() - kept
        training.cluster.restart("kube-apiserver")
    begun = time.monotonic()

    def answered() -> bool:
        try:
            return training.progress()["step"] > step
        except (AssertionError, json.JSONDecodeError):  # no API server, or half an answer
            return False

    wait_for("further steps", answered, RECOVERY)
    print(f"{trained} steps were trained and kept meanwhile")
    tell(f"the API server away for {OUTAGE:.0f} s", begun, training, attempts=0)
    assert training.attempt() == before
    assert OUTAGE <= QUICK or trained > 0
    assert restarts(training.kube) == operators, "the operator had to be started anew"


def test_a_slow_worker_is_named_and_nothing_is_restarted(training: Training) -> None:
    before, begun = training.attempt(), time.monotonic()
    pod = training.pods()[1]
    with slowed(workers_of(pod), percent=10):
        told = wait_for("the slow worker", lambda: training.told("SlowWorker"), 180)
    print(f"a worker held to a tenth of a processor: named after {time.monotonic() - begun:.0f} s")
    print(told)
    assert f"worker 1 ({NAME}-train-{before}-1) is slow" in told
    wait_for("the end of it", lambda: not training.told("SlowWorker"), 180)
    assert training.attempt() == before


def test_what_happens_while_the_operator_is_away_is_made_up_for_once(training: Training) -> None:
    before, kube = training.attempt(), training.kube
    pod = training.pods()[1]
    scale(kube, 0)
    try:
        for process in workers_of(pod):
            os.kill(process, signal.SIGKILL)
        time.sleep(20)
        assert not kube.items("jobs", NAMESPACE, f"{ATTEMPT}={before + 1},oikyo.dev/job={NAME}")
    finally:
        begun = time.monotonic()
        scale(kube, 1)
    training.await_steps(before + 1, 240)
    tell("a worker killed while the operator was away", begun, training)
    assert training.attempt() == before + 1


def test_a_lost_node_is_left_and_the_training_goes_on_without_it(training: Training) -> None:
    """The node takes nothing new, its kubelet says nothing more, and its worker is gone."""
    before, begun = training.attempt(), time.monotonic()
    node = training.cluster.nodes[1]
    victims = [pod for pod in training.pods() if pod["spec"]["nodeName"] == node.name]
    assert victims, "no worker stands on the node that is lost"
    training.kube("cordon", node.name)
    training.cluster.kill(node.server("kubelet"), signal.SIGSTOP)
    try:
        for process in [one for pod in victims for one in workers_of(pod)]:
            os.kill(process, signal.SIGKILL)
        training.await_steps(before + 1, HANG)
        tell("a node lost", begun, training)
        assert node.name not in {pod["spec"]["nodeName"] for pod in training.pods()}
    finally:
        training.cluster.kill(node.server("kubelet"), signal.SIGCONT)
        training.kube("uncordon", node.name)


def test_a_gang_that_finds_room_for_one_goes_on_with_one(training: Training) -> None:
    """The other node takes nothing, and on this one all but a worker's share is taken."""
    before, begun, kube = training.attempt(), time.monotonic(), training.kube
    workers = [pod["spec"]["nodeName"] for pod in training.pods()]
    # After the faults before this one both workers may stand on one node: what is taken has room on the other.
    left, lost = sorted((node.name for node in training.cluster.nodes), key=workers.count)
    kube("cordon", lost)
    try:
        with taken(kube, left, but=SHARE * 3 // 2):
            for process in training.workers():
                os.kill(process, signal.SIGKILL)
            training.await_steps(before + 2, HANG)
            tell("a node lost and no room beside, 60 s waited for it", begun, training, attempts=2)
    finally:
        kube("uncordon", lost)
    assert len(training.pods()) == 1
    told = training.stage()["reduced"]
    assert f"attempt {before + 2} trains on 1 of 2 nodes" in told
    assert f"{NAME}-train-{before + 1}-" in told, told
    assert "Unschedulable" in told


def test_a_corrupt_checkpoint_is_passed_over_and_the_gang_is_whole_again(
    training: Training,
) -> None:
    """One bit of the newest checkpoint turns over; then the gang, of one by now, is killed."""
    before, begun = training.attempt(), time.monotonic()
    gang = training.workers()
    for process in gang:
        os.kill(process, signal.SIGSTOP)
    newest = training.checkpoints()[-1]
    spoil(newest)
    for process in gang:
        os.kill(process, signal.SIGKILL)
    training.await_steps(before + 1, 180)
    tell("a corrupt checkpoint", begun, training)
    pods = training.pods()
    log = training.kube("logs", pods[0]["metadata"]["name"], "-n", NAMESPACE)
    assert f"skipped {newest.name}: optimizer.pt has another content" in log, log
    assert len(pods) == 2, "an attempt is tried with all nodes first"
    assert "reduced" not in training.stage() or not training.stage()["reduced"]


def test_a_full_volume_is_told_and_the_training_goes_on(training: Training) -> None:
    before, begun = training.attempt(), time.monotonic()
    training.volume.fill()
    try:
        told = wait_for("the full volume", lambda: training.told("WorkspaceFull"), 120)
        print(f"a full volume: told after {time.monotonic() - begun:.0f} s: {told}")
        diagnosis, step = training.status()["diagnosis"], training.progress()["step"]
        kept = verify(training.checkpoints()[-1]).step
        assert kept > 0
        assert f"the checkpoint of step {kept} is kept" in told
        assert "MiB are free" in told
        assert diagnosis["evidence"].startswith(f"claim {NAME}, pod {NAME}-train-{before}-0-")
        assert "Free at least" in diagnosis["nextStep"]
        wait_for("steps without room", lambda: training.progress()["step"] > step, 60)
    finally:
        training.volume.make_room()
    begun = time.monotonic()
    wait_for("the end of it", lambda: not training.told("WorkspaceFull"), 120)
    tell("a full volume, once there is room", begun, training, attempts=0)
    assert verify(training.checkpoints()[-1]).step > kept
    assert training.attempt() == before
    wait_for("its events", lambda: {"WorkspaceFull", "TroubleOver"} <= events_of(training), 30)


def test_a_clock_that_is_an_hour_ahead_disturbs_nothing(training: Training) -> None:
    """First a worker and a standby operator on the second node live in the future, then the leader."""
    before, kube = training.attempt(), training.kube
    second = training.cluster.nodes[1].name
    leads = leader(kube)
    with standby_an_hour_ahead(training):
        begun = time.monotonic()
        kill_a_worker(training)
        training.await_steps(before + 1, HANG)
        tell("a worker killed, one starts an hour ahead", begun, training)
        ahead = [pod for pod in training.pods() if pod["spec"]["nodeName"] == second]
        assert hour_of(training, ahead[0]["metadata"]["name"], NAMESPACE) == 1
        # The standby has looked at the lease for longer than it lasts, and left it alone.
        assert leader(kube) == leads
        begun = time.monotonic()
        kube("delete", "pod", leads, "-n", SYSTEM)
        heir = wait_for("another leader", lambda: (name := leader(kube)) != leads and name, 60)
        assert hour_of(training, heir, SYSTEM) == 1
        kill_a_worker(training)
        training.await_steps(before + 2, HANG)
        tell("operator and worker killed, both start an hour ahead", begun, training)
        assert leader(kube) == heir
        assert training.attempt() == before + 2
        assert_nothing_is_of_the_future(training)


@contextmanager
def standby_an_hour_ahead(training: Training) -> Iterator[None]:
    """What starts on the second node lives in the future, a second operator among it."""
    kube, first = training.kube, training.cluster.nodes[0].name
    try:
        with shifted(training.cluster.nodes[1], HOUR):
            kube("cordon", first)
            try:
                scale(kube, 2)
            finally:
                kube("uncordon", first)
            yield
    finally:
        scale(kube, 0)  # all of them: what started an hour ahead stays there
        scale(kube, 1)


def events_of(training: Training) -> set[str]:
    """Reasons of the events about the job."""
    events = training.kube.items("events", NAMESPACE)
    return {event["reason"] for event in events if event["involvedObject"]["name"] == NAME}


def kill_a_worker(training: Training) -> None:
    os.kill(workers_of(training.pods()[1])[0], signal.SIGKILL)


def hour_of(training: Training, pod: str, namespace: str) -> int:
    """How many hours the log of a pod is ahead of this machine's clock."""
    log = training.kube("logs", pod, "-n", namespace, "--tail=20")
    last = re.findall(r"^(\d{4}-\d\d-\d\d \d\d:\d\d:\d\d)", log, re.MULTILINE)[-1]
    ahead = datetime.fromisoformat(last).replace(tzinfo=UTC) - datetime.now(UTC)
    return round(ahead / timedelta(hours=1))


def assert_nothing_is_of_the_future(training: Training) -> None:
    """All moments of the status and of its events are by the API server's clock."""
    soon = datetime.now(UTC) + timedelta(minutes=1)
    status = training.status()
    assert status["phase"] == "Training"
    told = [c["lastTransitionTime"] for c in status["conditions"]]
    told += [status["startTime"], status["progress"]["lastUpdatedTime"]]
    told += [stage["started"] for stage in status["stages"]]
    events = json.loads(training.kube("get", "events.events.k8s.io", "-n", NAMESPACE, "-o", "json"))
    about = [e for e in events["items"] if e["regarding"]["name"] == NAME]
    told += [event["eventTime"] for event in about if event.get("eventTime")]
    assert [text for text in told if datetime.fromisoformat(text) > soon] == []
