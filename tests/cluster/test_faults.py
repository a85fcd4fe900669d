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
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from kit.cluster import Cluster
from kube import Kube, condition, wait_for
from road import LOADER, NAMESPACE, ROOT, SYSTEM, Road

NAME = "faults"
CUT = 75
"""Seconds without a network: longer than the silence that is called a hang."""
OUTAGE = float(os.environ.get("OIKYO_OUTAGE", "30"))
HANG = 240
"""Seconds for a hang to be noticed (60 s of silence), the gang to end and the next attempt to step."""


@dataclass
class Training:
    """The job that all faults meet."""

    kube: Kube
    cluster: Cluster

    def status(self) -> dict[str, Any]:
        status: dict[str, Any] = self.kube.get("ftj", NAME, NAMESPACE).get("status", {})
        return status

    def stage(self) -> dict[str, Any]:
        found = (one for one in self.status().get("stages", []) if one["name"] == "train")
        return next(found, {"attempt": 0, "message": ""})

    def attempt(self) -> int:
        return int(self.stage()["attempt"])

    def pods(self) -> list[dict[str, Any]]:
        """Of the newest attempt, by rank."""
        selector = f"oikyo.dev/job={NAME},oikyo.dev/stage=train,oikyo.dev/attempt={self.attempt()}"
        return sorted(
            self.kube.items("pods", NAMESPACE, selector),
            key=lambda pod: pod["metadata"]["annotations"][INDEX],
        )

    def progress(self) -> dict[str, float]:
        told = self.status().get("progress", {})
        values = {metric["name"]: float(metric["value"]) for metric in told.get("metrics", [])}
        return {"step": float(told.get("step") or 0), **values}

    def await_steps(self, attempt: int, seconds: float) -> float:
        """Until that attempt, or a later one, reports a step beyond a checkpoint; returns the step."""

        def look() -> float | None:
            status, stage = self.status(), self.stage()
            if int(stage["attempt"]) < attempt or "started" not in stage:
                return None
            # What the attempt before it said last stands there until this one speaks.
            own = status.get("progress", {}).get("lastUpdatedTime", "") > stage["started"]
            told = self.progress()
            return told["step"] if own and told.get("checkpoint_step", 0) > 0 else None

        return wait_for(f"steps of attempt {attempt}", look, seconds, every=0.5)


INDEX = "batch.kubernetes.io/job-completion-index"


@pytest.fixture(scope="module")
def training(road: Road, cluster: Cluster) -> Iterator[Training]:
    assert cluster.nodes, "faults are injected into the kit's own cluster"
    job = yaml.safe_load((ROOT / "examples" / "text-generation" / "job.yaml").read_text())
    job["metadata"]["name"] = NAME
    spec = job["spec"]
    spec.pop("deployment")
    spec["backoffLimit"] = 0
    spec["storage"] = {"claimName": "examples"}
    spec["training"] |= {"strategy": "DDP", "epochs": 1000, "batchSize": 8}
    spec["training"]["resources"] = {"cpu": "250m"}  # both workers fit on the node that is left
    spec["training"]["checkpoints"] = {"everySteps": 10}
    road.kube.apply(job, NAMESPACE)
    made = Training(road.kube, cluster)
    made.await_steps(1, 300)
    yield made
    road.kube("delete", "ftj", NAME, "-n", NAMESPACE, "--timeout=120s")
    wait_for(
        "the pods to go",
        lambda: not road.kube.items("pods", NAMESPACE, f"oikyo.dev/job={NAME}"),
        180,
    )
    code = "import shutil, glob, sys; [shutil.rmtree(path) for path in glob.glob(sys.argv[1])]"
    road.kube.python(LOADER, NAMESPACE, code, f"/examples/runs/{NAME}-*")


def tell(what: str, begun: float, training: Training, *, attempts: int = 1) -> None:
    """One row: the fault, seconds until steps went on, reported steps lost, attempts that it cost."""
    seconds, message = time.monotonic() - begun, training.stage()["message"]
    lost = re.search(r"(\d+) reported steps", message) if attempts else None
    print(f"| {what} | {seconds:.0f} | {lost[1] if lost else 0} | {attempts} |")
    print(message)


WORKER = b"-u\0-m\0oikyo_trainer"
"""Of the command line of a worker, as torchrun starts it; torchrun's own holds no -u."""


def workers_of(pod: dict[str, Any]) -> list[int]:
    """Training processes of a pod, which run on this machine."""
    uid = pod["metadata"]["uid"]
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            cgroup = (entry / "cgroup").read_text()
            command = (entry / "cmdline").read_bytes()
        except OSError:
            continue
        if (uid in cgroup or uid.replace("-", "_") in cgroup) and WORKER in command:
            found.append(int(entry.name))
    return found


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
    finally:
        switch_link(link, "up")
    training.await_steps(before + 1, HANG)
    tell(f"the network cut for {CUT} s", begun, training)
    # Both sides noticed by themselves; one attempt is all that it cost.
    assert "no forward pass for" in training.stage()["message"]
    assert training.attempt() == before + 1


def switch_link(name: str, state: str) -> None:
    subprocess.run(["ip", "link", "set", name, state], check=True)


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


def test_an_outage_of_the_api_server_disturbs_no_training(training: Training) -> None:
    before, step = training.attempt(), training.progress()["step"]
    training.cluster.kill("kube-apiserver")
    time.sleep(OUTAGE)
    training.cluster.restart("kube-apiserver")
    begun = time.monotonic()

    def answered() -> bool:
        try:
            return training.progress()["step"] > step
        except (AssertionError, json.JSONDecodeError):
            return False

    wait_for("further steps", answered, 120)
    tell(f"the API server away for {OUTAGE:.0f} s", begun, training, attempts=0)
    assert training.attempt() == before


def test_a_slow_worker_is_named_and_nothing_is_restarted(training: Training) -> None:
    before, begun = training.attempt(), time.monotonic()
    pod = training.pods()[1]
    groups = {cpu_group(process) for process in workers_of(pod)}
    for group in groups:
        limit(group, percent=10)
    try:
        told = wait_for("the slow worker", lambda: slow_worker(training), 180)
    finally:
        for group in groups:
            limit(group, percent=None)
    print(f"a worker held to a tenth of a processor: named after {time.monotonic() - begun:.0f} s")
    print(told)
    assert f"worker 1 ({NAME}-train-{before}-1) is slow" in told
    wait_for("the end of it", lambda: not slow_worker(training), 180)
    assert training.attempt() == before


def slow_worker(training: Training) -> str:
    trained = condition({"status": training.status()}, "Trained")
    return str(trained["message"]) if trained.get("reason") == "SlowWorker" else ""


def cpu_group(process: int) -> Path:
    """The cgroup (v1 or v2) that rations the processors of a process."""
    lines = (entry.split(":", 2) for entry in Path(f"/proc/{process}/cgroup").read_text().split())
    paths = {controllers: path.lstrip("/") for _, controllers, path in lines}
    root = Path("/sys/fs/cgroup")
    v1 = next((name for name in paths if "cpu" in name.split(",")), None)
    return root / (v1 if v1 else "") / paths[v1 or ""]


def limit(group: Path, *, percent: int | None) -> None:
    if (group / "cpu.max").exists():
        (group / "cpu.max").write_text(f"{percent}000 100000" if percent else "max 100000")
    else:
        quota = 1000 * percent if percent else -1
        (group / "cpu.cfs_quota_us").write_text(str(quota))


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


ATTEMPT = "oikyo.dev/attempt"


def scale(kube: Kube, replicas: int) -> None:
    kube(
        "scale",
        "deployment",
        "-l",
        "app.kubernetes.io/name=oikyo",
        "-n",
        SYSTEM,
        f"--replicas={replicas}",
    )
    wait_for(
        f"{replicas} operators",
        lambda: len(kube.items("pods", SYSTEM, "app.kubernetes.io/name=oikyo")) == replicas,
        90,
    )


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


def test_a_corrupt_checkpoint_is_passed_over(training: Training) -> None:
    """One byte of the newest checkpoint turns over; then the gang is killed."""
    before, begun = training.attempt(), time.monotonic()
    gang = [one for pod in training.pods() for one in workers_of(pod)]
    for process in gang:
        os.kill(process, signal.SIGSTOP)
    spoilt = int(training.kube.python(LOADER, NAMESPACE, SPOIL, f"/examples/runs/{NAME}-*"))
    for process in gang:
        os.kill(process, signal.SIGKILL)
    training.await_steps(before + 1, 180)
    tell("a corrupt checkpoint", begun, training)
    log = training.kube("logs", training.pods()[0]["metadata"]["name"], "-n", NAMESPACE)
    assert f"skipped checkpoint-{spoilt}: optimizer.pt has another content" in log, log


SPOIL = """
import glob, os, sys, time
folder = glob.glob(sys.argv[1] + "/train/checkpoints")[0]
done = [p for p in glob.glob(folder + "/checkpoint-*") if os.path.exists(p + "/manifest.json")]
newest = max(done, key=lambda path: int(path.rpartition("-")[2]))
with open(newest + "/optimizer.pt", "r+b") as file:
    file.seek(-100, os.SEEK_END)
    byte = file.read(1)[0]
    file.seek(-100, os.SEEK_END)
    file.write(bytes([byte ^ 1]))
print(newest.rpartition("-")[2])
"""
