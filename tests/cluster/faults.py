"""The training that all faults of test_faults.py meet, and what is done to its pods and nodes."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kit.cluster import Cluster
from kit.small_images import TOOLS_IMAGE
from kit.volumes import SmallVolume
from kube import Kube, condition, wait_for
from oikyo_trainer.training.manifest import verify
from road import NAMESPACE, SYSTEM

NAME = "faults"
INDEX = "batch.kubernetes.io/job-completion-index"
TRAINER, TORCHRUN = b"-m\0oikyo_trainer\0train", b"torch.distributed.run"
"""In the command line of a worker, and of torchrun, which starts it where there are several."""


class Ended(Exception):
    """The training is over, which no fault may bring about; says what it and its pods tell."""


@dataclass
class Training:
    """The job that all faults meet."""

    kube: Kube
    cluster: Cluster
    volume: SmallVolume
    manifest: dict[str, Any]

    def begin(self) -> None:
        self.kube.apply(self.manifest, NAMESPACE)
        self.await_steps(1, 300)

    def remove(self) -> None:
        """The job, its pods and its checkpoints are gone afterwards."""
        self.kube("delete", "ftj", NAME, "-n", NAMESPACE, "--timeout=120s")
        ours = f"oikyo.dev/job={NAME}"
        wait_for("the pods to go", lambda: not self.kube.items("pods", NAMESPACE, ours), 180)
        shutil.rmtree(self.volume.folder / "runs", ignore_errors=True)

    def ended(self) -> bool:
        return self._reported().get("phase") != "Training"

    def status(self) -> dict[str, Any]:
        """Of a training that goes on: what no fault may do is end it."""
        status = self._reported()
        if status.get("phase") in ("Failed", "Succeeded"):
            raise Ended(self._portrait(status))
        return status

    def _reported(self) -> dict[str, Any]:
        status: dict[str, Any] = self.kube.get("ftj", NAME, NAMESPACE).get("status", {})
        return status

    def _portrait(self, status: dict[str, Any]) -> str:
        """What an ended training and its pods say, for whoever reads why a test failed."""
        pods = self.kube.items("pods", NAMESPACE, f"oikyo.dev/job={NAME},oikyo.dev/stage=train")
        told = {pod["metadata"]["name"]: pod.get("status", {}) for pod in pods}
        words = {key: status.get(key) for key in ("diagnosis", "stages", "conditions")}
        return json.dumps({**words, "pods": told}, indent=1)[:20_000]

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

    def workers(self) -> list[int]:
        """Training processes of the newest attempt."""
        return [process for pod in self.pods() for process in workers_of(pod)]

    def told(self, reason: str) -> str:
        """The sentence of the condition Trained while it has this reason."""
        trained = condition({"status": self.status()}, "Trained")
        return str(trained["message"]) if trained.get("reason") == reason else ""

    def checkpoints(self) -> list[Path]:
        """Those on the volume that claim to be whole, oldest first."""
        found = [
            path.parent
            for path in self.volume.folder.glob(
                "runs/*/train/checkpoints/checkpoint-*/manifest.json"
            )
        ]
        return sorted(found, key=lambda path: int(path.name.rpartition("-")[2]))

    def kept(self) -> int:
        """Step of the newest checkpoint on the volume, which needs no API server to be read."""
        return verify(self.checkpoints()[-1]).step

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


def tell(what: str, begun: float, training: Training, *, attempts: int = 1) -> None:
    """One row: the fault, seconds until steps went on, reported steps lost, attempts that it cost."""
    seconds, message = time.monotonic() - begun, training.stage()["message"]
    lost = re.search(r"(\d+) reported steps", message) if attempts else None
    print(f"| {what} | {seconds:.0f} | {lost[1] if lost else 0} | {attempts} |")
    print(message)


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
        if (uid in cgroup or uid.replace("-", "_") in cgroup) and is_worker(command):
            found.append(int(entry.name))
    return found


def is_worker(command: bytes) -> bool:
    return TRAINER in command and TORCHRUN not in command


def switch_link(name: str, state: str) -> None:
    subprocess.run(["ip", "link", "set", name, state], check=True)


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


@contextmanager
def slowed(workers: Iterable[int], *, percent: int | None) -> Iterator[None]:
    """The processes' groups are held to so many hundredths of a processor, None: to none."""
    groups = {cpu_group(process) for process in workers}
    for group in groups:
        limit(group, percent=percent)
    try:
        yield
    finally:
        for group in groups:
            limit(group, percent=None)


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
    wait_for(f"{replicas} operators that are ready", lambda: ready(kube) == [True] * replicas, 120)


def ready(kube: Kube) -> list[bool]:
    """Of each pod of the operator whether it is."""
    pods = kube.items("pods", SYSTEM, "app.kubernetes.io/name=oikyo")
    told = [condition(pod, "Ready").get("status") for pod in pods]
    return [status == "True" for status in told]


def restarts(kube: Kube) -> dict[str, int]:
    """How often the containers of each operator were started anew."""
    pods = kube.items("pods", SYSTEM, "app.kubernetes.io/name=oikyo")
    return {
        pod["metadata"]["name"]: sum(c["restartCount"] for c in pod["status"]["containerStatuses"])
        for pod in pods
    }


def leader(kube: Kube) -> str:
    """The operator's pod that holds the lease."""
    lease = kube.get("lease", "oikyo-controller", SYSTEM)
    return str(lease.get("spec", {}).get("holderIdentity", ""))


@contextmanager
def taken(kube: Kube, node: str, *, but: int) -> Iterator[None]:
    """Processor shares of a node are promised to another pod, but so many thousandths beside all others."""
    offered = kube.get("node", node, NAMESPACE)["status"]["allocatable"]["cpu"]
    pods = json.loads(kube("get", "pods", "-A", "-o", "json"))["items"]
    others = [
        container.get("resources", {}).get("requests", {}).get("cpu", "0")
        for pod in pods
        if pod["spec"].get("nodeName") == node
        and pod["status"].get("phase") in ("Pending", "Running")
        and pod["metadata"].get("labels", {}).get("oikyo.dev/job") != NAME
        for container in pod["spec"]["containers"]
    ]
    share = thousandths(offered) - sum(map(thousandths, others)) - but
    kube.apply(filler(node, f"{share}m"), NAMESPACE)
    try:
        kube("wait", "pod/filler", "-n", NAMESPACE, "--for=condition=Ready", "--timeout=60s")
        yield
    finally:
        kube("delete", "pod", "filler", "-n", NAMESPACE, "--timeout=60s")


def thousandths(cpu: str) -> int:
    return int(cpu[:-1]) if cpu.endswith("m") else int(float(cpu) * 1000)


def filler(node: str, cpu: str) -> dict[str, Any]:
    security = {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}
    container = {
        "name": "filler",
        "image": TOOLS_IMAGE,
        "imagePullPolicy": "Never",
        "command": ["sleep", "100000"],
        "resources": {"requests": {"cpu": cpu}},
        "securityContext": security,
    }
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "filler"},
        "spec": {
            "nodeSelector": {"kubernetes.io/hostname": node},
            "terminationGracePeriodSeconds": 0,
            "securityContext": {
                "runAsNonRoot": True,
                "runAsUser": 10001,
                "seccompProfile": {"type": "RuntimeDefault"},
            },
            "containers": [container],
        },
    }


def spoil(checkpoint: Path) -> None:
    """Turn one bit of its optimizer over."""
    with (checkpoint / "optimizer.pt").open("r+b") as file:
        file.seek(-100, 2)
        byte = file.read(1)[0]
        file.seek(-100, 2)
        file.write(bytes([byte ^ 1]))
