"""What the story of a cluster needs: the installed chart, data on a claim, and a pod to speak from."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from pydoc_data.topics import topics
from typing import Any

from kube import Kube, wait_for
from scrape import Prometheus

ROOT = Path(__file__).parents[2]
SYSTEM = "oikyo-system"
NAMESPACE = "demo"
CLASSIFY = "stdlib-topics"
GENERATE = "docstrings"
LOADER = "loader"
TRAINER = "localhost/oikyo-trainer:dev"
OPERATOR = "localhost/oikyo-operator:dev"
RESTRICTED = "pod-security.kubernetes.io/enforce=restricted"
MUTATING = {"create", "update", "patch", "delete", "deletecollection"}

ASK = """
import json, sys, urllib.request
url, body = sys.argv[1:]
request = urllib.request.Request(url, body.encode(), {"Content-Type": "application/json"})
print(urllib.request.urlopen(request, timeout=60).read().decode())
"""
LOAD = """
import sys, threading, time, urllib.request
url, body, seconds = sys.argv[1:]
end = time.monotonic() + float(seconds)
def work():
    while time.monotonic() < end:
        request = urllib.request.Request(url, body.encode(), {"Content-Type": "application/json"})
        try:
            urllib.request.urlopen(request, timeout=60).read()
        except OSError:
            time.sleep(0.2)
threads = [threading.Thread(target=work) for _ in range(4)]
[thread.start() for thread in threads]
[thread.join() for thread in threads]
"""


@dataclass
class Road:
    """The cluster as the tests of one story see it."""

    kube: Kube
    audit_log: Path | None
    """The API server's audit log, where the cluster is the kit's own."""
    prometheus: Prometheus
    saved_before_kill: int = 0

    def oikyo(self, *arguments: str) -> tuple[int, str]:
        """Exit code and output of the command line, which finds the cluster by its kubeconfig."""
        done = subprocess.run(
            [sys.executable, "-c", "from oikyo.cli import main; main()", *arguments],
            env={**os.environ, "KUBECONFIG": str(self.kube.kubeconfig), "COLUMNS": "200"},
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        return done.returncode, done.stdout + done.stderr

    def ask(self, service: str, path: str, body: dict[str, Any]) -> dict[str, Any]:
        """POST through the Service, from inside the cluster."""
        url = f"http://{service}.{NAMESPACE}.svc{path}"
        answer: dict[str, Any] = json.loads(
            self.kube.python(LOADER, NAMESPACE, ASK, url, json.dumps(body))
        )
        return answer

    @contextlib.contextmanager
    def load(self, service: str, path: str, body: dict[str, Any]) -> Iterator[None]:
        """Four clients that ask without pause, for at most five minutes."""
        url = f"http://{service}.{NAMESPACE}.svc{path}"
        command = [str(self.kube.kubectl), f"--kubeconfig={self.kube.kubeconfig}", "exec", "-n"]
        command += [NAMESPACE, LOADER, "--", "python", "-c", LOAD, url, json.dumps(body), "300"]
        clients = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            yield
        finally:
            clients.terminate()
            clients.wait(timeout=120)
            self.kube.python(LOADER, NAMESPACE, STOP_CLIENTS)

    def operator_writes(self, about: str = "") -> int:
        """Mutating requests of the operator so far, its lease left out; `about` begins the name."""
        assert self.audit_log is not None
        user = f"system:serviceaccount:{SYSTEM}:"
        count = 0
        for line in self.audit_log.read_text().splitlines():
            entry = json.loads(line)
            ours = entry["user"].get("username", "").startswith(user)
            target = entry.get("objectRef", {})
            counted = target.get("resource") != "leases" and entry["verb"] in MUTATING
            count += ours and counted and target.get("name", "").startswith(about)
        return count


STOP_CLIENTS = """
import os, signal
for pid in filter(str.isdigit, os.listdir("/proc")):
    command = open(f"/proc/{pid}/cmdline").read() if int(pid) != os.getpid() else ""
    if "threading.Thread(target=work)" in command:
        os.kill(int(pid), signal.SIGTERM)
"""


def general_texts() -> list[str]:
    """Paragraphs of Python's reference, as what a model is to go on knowing."""
    paragraphs = (text for topic in topics.values() for text in topic.split("\n\n"))
    return [text for text in paragraphs if len(text) > 120][:400]


@contextlib.contextmanager
def examples_in_the_making(folder: Path) -> Iterator[Callable[[], Path]]:
    """Real text and real small models, by the scripts of the examples, which run meanwhile.

    Gives what waits for their end and returns the folder.
    """
    lines = (json.dumps({"text": text}) + "\n" for text in general_texts())
    (folder / "general.jsonl").write_text("".join(lines))
    running = []
    for example, script in (
        ("text-classification", "make_data.py"),
        ("text-generation", "make_base.py"),
    ):
        target, path = folder / example, ROOT / "examples" / example / script
        target.mkdir(parents=True)
        with (folder / f"{example}.log").open("wb") as log:
            command = [sys.executable, str(path), str(target)]
            running.append(subprocess.Popen(command, cwd=folder, stdout=log, stderr=log))

    def made() -> Path:
        for process in running:
            code = process.wait(timeout=900)
            logs = {path.name: path.read_text() for path in folder.glob("*.log")}
            assert code == 0, logs
        return folder

    try:
        yield made
    finally:
        for process in running:
            process.kill()
            process.wait()


def loader_pod() -> dict[str, Any]:
    """A pod with the examples' claim, from which the tests copy, ask and load."""
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": LOADER},
        "spec": {
            "automountServiceAccountToken": False,
            "terminationGracePeriodSeconds": 0,
            "securityContext": {
                "runAsNonRoot": True,
                "runAsUser": 10001,
                "fsGroup": 10001,
                "seccompProfile": {"type": "RuntimeDefault"},
            },
            "containers": [
                {
                    "name": "loader",
                    "image": TRAINER,
                    "imagePullPolicy": "IfNotPresent",
                    "command": ["python", "-c", "import time; time.sleep(1e6)"],
                    "securityContext": {
                        "allowPrivilegeEscalation": False,
                        "capabilities": {"drop": ["ALL"]},
                    },
                    "volumeMounts": [{"name": "examples", "mountPath": "/examples"}],
                }
            ],
            "volumes": [{"name": "examples", "persistentVolumeClaim": {"claimName": "examples"}}],
        },
    }


def claim(name: str) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {"name": name},
        "spec": {
            "accessModes": ["ReadWriteMany"],
            "resources": {"requests": {"storage": "1Gi"}},
        },
    }


def make_namespaces(kube: Kube) -> None:
    """The system's and the users' namespace, both enforcing `restricted`."""
    for namespace in (SYSTEM, NAMESPACE):
        kube("create", "namespace", namespace)
        kube("label", "namespace", namespace, RESTRICTED)


def install(kube: Kube, helm: Path) -> None:
    """Install or upgrade the chart, as the install page says."""
    values = [
        f"image.repository={OPERATOR.rpartition(':')[0]}",
        "image.tag=dev",
        f"trainer.image.repository={TRAINER.rpartition(':')[0]}",
        "trainer.image.tag=dev",
        "scope=Cluster",
    ]
    flags = [flag for value in values for flag in ("--set", value)]
    command = [str(helm), f"--kubeconfig={kube.kubeconfig}", "upgrade", "--install", "oikyo"]
    command += [str(ROOT / "charts" / "oikyo"), "-n", SYSTEM, "--wait", "--timeout", "600s", *flags]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def remove(kube: Kube, helm: Path) -> None:
    """Take the chart and both namespaces away again; what is not there is no error."""
    for namespace in (NAMESPACE, SYSTEM):
        kube("delete", "ftj,mep,mv", "--all", "-n", namespace, "--ignore-not-found", check=False)
    command = [str(helm), f"--kubeconfig={kube.kubeconfig}", "uninstall", "oikyo", "-n", SYSTEM]
    subprocess.run([*command, "--ignore-not-found", "--wait"], capture_output=True, check=False)
    kube("delete", "namespace", NAMESPACE, SYSTEM, "--ignore-not-found", "--timeout=600s")
    crds = [f"{plural}.oikyo.dev" for plural in ("finetunejobs", "modelversions", "modelendpoints")]
    kube("delete", "crd", *crds, "--ignore-not-found", "--timeout=300s")


def prepare(kube: Kube, folder: Path) -> None:
    """Put the examples on a claim that every node can read."""
    kube.apply(claim("examples"), NAMESPACE)
    kube.apply(loader_pod(), NAMESPACE)
    wait_for(
        "the loader pod",
        lambda: kube.get("pod", LOADER, NAMESPACE).get("status", {}).get("phase") == "Running",
        600,
    )
    kube.copy(folder, LOADER, NAMESPACE, "/examples")
