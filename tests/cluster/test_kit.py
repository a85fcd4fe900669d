"""The cluster kit itself: what it starts works, and what it stops leaves the machine as it was."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from kit import host, leftovers, network, places, record
from kit.cluster import EXISTING, Cluster
from kit.commands import run

pytestmark = [
    pytest.mark.cluster,
    pytest.mark.slow,
    pytest.mark.skipif(os.geteuid() != 0, reason="a cluster with nodes needs root"),
]

PODS = """
apiVersion: v1
kind: PersistentVolumeClaim
metadata: {name: shared}
spec: {accessModes: [ReadWriteMany], resources: {requests: {storage: 1Gi}}}
---
apiVersion: v1
kind: Service
metadata: {name: web}
spec: {selector: {app: web}, ports: [{port: 80, targetPort: 8080}]}
---
apiVersion: apps/v1
kind: StatefulSet
metadata: {name: web}
spec:
  serviceName: web
  podManagementPolicy: Parallel
  replicas: 2
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      topologySpreadConstraints:
        - maxSkew: 1
          topologyKey: kubernetes.io/hostname
          whenUnsatisfiable: DoNotSchedule
          labelSelector: {matchLabels: {app: web}}
      securityContext:
        {runAsNonRoot: true, runAsUser: 10001, seccompProfile: {type: RuntimeDefault}}
      containers:
        - name: web
          image: localhost/oikyo-tools:1
          imagePullPolicy: Never
          command: [sh, -c, 'hostname > /data/$(hostname); echo up; exec httpd -f -p 8080 -h /data']
          securityContext: {allowPrivilegeEscalation: false, capabilities: {drop: [ALL]}}
          resources: {limits: {nvidia.com/gpu: 1}}
          readinessProbe: {httpGet: {path: /web-0, port: 8080}, periodSeconds: 1}
          volumeMounts: [{name: data, mountPath: /data}]
      volumes: [{name: data, persistentVolumeClaim: {claimName: shared}}]
"""


def machine() -> dict[str, list[str]]:
    """What a cluster changes while it is up, and must put back."""
    # An image may be building beside these tests, and mounts its layers meanwhile.
    mounts = sorted(Path("/proc/self/mounts").read_text().splitlines())
    return {
        "links": network.links(""),
        "routes": run("ip", "route").stdout.splitlines(),
        "mounts": [line for line in mounts if "/var/lib/containers" not in line],
        "kernel": [(Path("/proc/sys") / name).read_text() for name in host.KERNEL_SETTINGS],
        "folders": [folder for folder in host.HIDDEN if Path(folder).exists()],
        "forwarding": [Path("/proc/sys/net/ipv4/ip_forward").read_text()],
        "firewall": run("nft", "list", "ruleset", check=False).stdout.splitlines(),
    }


@pytest.fixture
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A state folder whose cluster is down afterwards, whatever the test did."""
    monkeypatch.delenv(EXISTING, raising=False)
    yield tmp_path
    if record.read(tmp_path) is not None:
        Cluster.open(tmp_path).down()


def apply_pods(cluster: Cluster) -> None:
    cluster.kubectl("create", "namespace", "trial")
    enforce = "pod-security.kubernetes.io/enforce=restricted"
    cluster.kubectl("label", "namespace", "trial", enforce)
    cluster.kubectl("apply", "--namespace=trial", "-f", "-", stdin=PODS)
    cluster.kubectl("rollout", "status", "--namespace=trial", "sts/web", "--timeout=300s")


def test_two_nodes_work_and_leave_the_machine_as_it_was(state: Path) -> None:
    before = machine()
    cluster = Cluster.up(state, node_count=2)
    apply_pods(cluster)

    pods = ("get", "pods", "--namespace=trial", "-o", "jsonpath={.items[*].spec.nodeName}")
    assert sorted(cluster.kubectl(*pods).stdout.split()) == ["node1", "node2"]
    both = "for n in 0 1; do wget -qO- http://web.trial.svc.cluster.local/web-$n; done"
    for pod in ("web-0", "web-1"):
        said = cluster.kubectl("exec", "--namespace=trial", pod, "--", "sh", "-c", both).stdout
        assert said.split() == ["web-0", "web-1"]
        assert cluster.kubectl("logs", "--namespace=trial", pod).stdout == "up\n"
    assert '"verb":"create"' in cluster.audit_log.read_text()
    names = random.sample([server.name for server in cluster.servers], len(cluster.servers))
    for name in names:
        cluster.kill(name, signal.SIGKILL)

    cluster.down()
    assert leftovers.find(state) == [], f"killed in the order {names}"
    assert machine() == before


def test_a_killed_kubelet_comes_back_and_its_node_keeps_its_gpus(state: Path) -> None:
    cluster = Cluster.up(state, node_count=1)
    cluster.kill("kubelet-node1")
    assert not cluster.healthy()
    cluster.restart("kubelet-node1")
    deadline = time.monotonic() + 300
    while not (cluster.healthy() and cluster.nodes_ready()):
        assert time.monotonic() < deadline
        time.sleep(0.5)


@pytest.mark.parametrize("seconds", [1.0, 5.0])
def test_up_follows_an_up_that_was_killed(state: Path, seconds: float) -> None:
    before = machine()
    command = [sys.executable, "-m", "kit", "up", "--nodes", "1", "--state", str(state)]
    environment = {**os.environ, "PYTHONPATH": str(places.KIT.parent)}
    first = subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL)
    time.sleep(seconds)
    first.kill()
    first.wait()
    cluster = Cluster.up(state, node_count=1)
    assert cluster.nodes_ready()
    cluster.down()
    assert leftovers.find(state) == []
    assert machine() == before


def test_leftovers_names_what_a_lost_cluster_still_holds(state: Path) -> None:
    cluster = Cluster.up(state, node_count=0)
    assert leftovers.find(state), "a running cluster's servers are what down would have to stop"
    cluster.down()
    assert leftovers.find(state) == []
