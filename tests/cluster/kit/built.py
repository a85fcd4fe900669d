"""The cluster built from pinned modules: order of starting, and of stopping.

`up` may be killed at any line and run again: it begins by taking down what the last one left.
"""

import shutil
import socket
import sys
import time
from pathlib import Path

from kit import binaries, cgroups, debian, host, kubeconfig, network, places, processes, settings
from kit.binaries import binary
from kit.commands import run, say, wait_until
from kit.layout import DOMAIN, FIRST_SERVICE, Layout
from kit.nodes import Node
from kit.pki import Authority, public_key
from kit.ports import free_port
from kit.processes import Servers
from kit.record import Record

KEPT = ("images", "log")
"""Folders of the state that outlast `down`: unpacked images, and the last logs."""


class Built:
    """A built cluster in a state folder."""

    def __init__(self, state: Path, record: Record) -> None:
        self.state, self.record = state, record
        self.servers = Servers(state / "log")
        self.layout = Layout(record.slot or 0, record.node_count)
        self.nodes = tuple(Node(state, self.layout, node) for node in self.layout.nodes)
        self.kubeconfig = state / "kubeconfig"

    @property
    def address(self) -> str:
        """Where the API server listens: the bridge, or loopback where there are no nodes."""
        return self.layout.gateway if self.nodes else "127.0.0.1"

    def up(self) -> None:
        """Start everything and return when all nodes are Ready."""
        shutil.rmtree(self.state / "log", ignore_errors=True)
        (self.state / "log").mkdir(parents=True)
        port = 6443 if self.nodes else free_port()
        server = f"https://{self.address}:{port}"
        authority = self.make_identities(server)
        if self.nodes:
            network.make_bridge(self.layout)
        self.start_api_server(port)
        if self.record.controllers:
            self.start_controllers()
        for node in self.nodes:
            node.prepare(authority, server)
            cgroups.make(node.node.cgroup)
            node.hold()
            node.start_containerd()
        if self.nodes:
            self.start_addons(server)

    def make_identities(self, server: str) -> Authority:
        """Make both authorities, and a kubeconfig for each client of the API server."""
        pki = self.state / "pki"
        authority = Authority(pki, "ca")
        names = ("kubernetes", "kubernetes.default", "kubernetes.default.svc")
        qualified = f"kubernetes.default.svc.{DOMAIN}"
        addresses = (FIRST_SERVICE, "127.0.0.1", self.address)
        hosts = ("localhost", *names, qualified, *dict.fromkeys(addresses))
        authority.issue("apiserver", "/CN=kube-apiserver", hosts)
        authority.issue("apiserver-kubelet", "/CN=kube-apiserver-kubelet")
        Authority(pki, "etcd-ca").issue("etcd", "/CN=etcd", ("localhost", "127.0.0.1"))
        Authority(pki, "front-proxy-ca").issue("front-proxy-client", "/CN=front-proxy-client")
        subjects = {
            "admin": "/O=system:masters/CN=kubernetes-admin",
            "keeper": "/O=system:masters/CN=oikyo:keeper",
            "coredns": "/CN=oikyo:coredns",
            "kube-controller-manager": "/CN=system:kube-controller-manager",
            "kube-scheduler": "/CN=system:kube-scheduler",
        }
        for name, subject in subjects.items():
            certificate, key = authority.issue(name, subject)
            text = kubeconfig.render(server, authority.certificate, certificate, key)
            kubeconfig.write(self.state / f"{name}.conf", text)
        kubeconfig.write(self.kubeconfig, (self.state / "admin.conf").read_text())
        Authority(pki, "sa")  # only its key is used: it signs service account tokens
        public_key(pki / "sa.key", pki / "sa.pub")
        return authority

    def start_api_server(self, port: int) -> None:
        """Start etcd and the API server, and wait until it is ready."""
        client, peer = free_port(), free_port()
        flags = settings.etcd_flags(self.state / "etcd", self.state / "pki", client, peer)
        self.servers.start("etcd", [binary("etcd"), *flags])
        wait_until(lambda: self.listens("etcd", client), what="etcd", seconds=120)
        (self.state / "audit-policy.yaml").write_text(settings.audit_policy())
        flags = settings.api_server_flags(self.state, self.address, port, client)
        if self.nodes:
            flags += settings.api_server_with_nodes(self.state, self.layout)
        else:
            flags += settings.api_server_alone(controllers=self.record.controllers)
        if self.record.gangs:
            flags += [settings.GANG_GATE, settings.GANG_API]
        self.servers.start("kube-apiserver", [binary("kube-apiserver"), *flags])
        wait_until(self.api_ready, what="the API server", seconds=300)

    def listens(self, name: str, port: int) -> bool:
        self.servers.check(name)
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", port)) == 0

    def api_ready(self) -> bool:
        self.servers.check("kube-apiserver")
        command = (binary("kubectl"), "--kubeconfig", self.kubeconfig, "get", "--raw", "/readyz")
        return run(*command, check=False).returncode == 0

    def start_controllers(self) -> None:
        """Start the controller manager, and the scheduler where there is something to schedule."""
        manager: list[str | Path] = [
            binary("kube-controller-manager"),
            *settings.controller_manager_flags(self.state),
        ]
        if self.record.gangs:
            manager += [settings.GANG_GATE, settings.LIFELESS_NODES]
        self.servers.start("kube-controller-manager", manager)
        if self.nodes or self.record.gangs:
            flags = settings.scheduler_flags(self.state)
            flags += [settings.GANG_GATE] if self.record.gangs else []
            self.servers.start("kube-scheduler", [binary("kube-scheduler"), *flags])

    def start_addons(self, server: str) -> None:
        """Start DNS and the keeper, which are servers of the host and not pods."""
        corefile = self.state / "Corefile"
        corefile.write_text(settings.corefile(self.layout, self.state / "coredns.conf"))
        self.servers.start("coredns", [binary("coredns"), "-conf", corefile])
        start_keeper(self.servers, self.state, server, self.record.gpus)

    def start_kubelets(self) -> None:
        """Let pods come: after images and addons are there, so that none waits for them."""
        for node in self.nodes:
            node.start_kubelet()

    def load(self, archive: Path) -> None:
        for node in self.nodes:
            began = time.monotonic()
            node.load([archive])
            if time.monotonic() - began > 2:
                say(f"imported {archive.name} on {node.name} ... {time.monotonic() - began:.0f} s")

    def healthy(self) -> bool:
        """Tell whether every server that was started still runs."""
        names = self.servers.names
        return bool(names) and all(server.alive for server in self.servers.all())

    def down(self) -> None:
        """Stop everything in the order in which nothing starts again what was stopped."""
        names = self.servers.names
        first = [name for name in names if name.startswith(("keeper", "kubelet-", "kube-proxy-"))]
        self.servers.stop(first)
        shims = []
        for node in self.nodes:
            cgroups.kill(node.node.cgroup)
            shims += node.shims()
            containerd = node.server("containerd")
            if containerd in names and self.servers.get(containerd).alive:
                node.forget_containers()
        # Shims outlive containerd, and an API server that has lost etcd lingers for a minute:
        # neither is waited for longer than the grace.
        others = [name for name in names if not name.startswith("holder-")]
        self.servers.stop(others, grace_seconds=1.5)
        processes.end(shims, grace_seconds=0)
        self.servers.stop([name for name in names if name.startswith("holder-")], grace_seconds=0)
        if self.nodes:
            network.remove(self.layout)
            for node in self.nodes:
                cgroups.remove(node.node.cgroup)
        self.clear()
        if self.record.slot is not None:
            host.release(self.record.slot)

    def clear(self) -> None:
        """Remove the state except what is kept; without records no pid is ever looked at again."""
        for server in (self.state / "log").glob("*.json"):
            server.unlink()
        for point in reversed(host.mounts_below(self.state)):  # of a test that was killed
            run("umount", "--lazy", point)
        for entry in self.state.iterdir():
            if entry.name not in KEPT:
                shutil.rmtree(entry) if entry.is_dir() else entry.unlink()


def start_keeper(servers: Servers, state: Path, server: str, gpus: int) -> None:
    """Start the keeper with the certificate keeper.crt in the state's pki folder."""
    home = ("env", f"PYTHONPATH={places.KIT.parent}", sys.executable, "-m", "kit.keeper")
    servers.start("keeper", [*home, server, state / "pki", state / "volumes", str(gpus)])


def programs(record: Record) -> tuple[str, ...]:
    """Return what must be built for a cluster like this."""
    if record.node_count:
        return binaries.CLUSTER
    extra = ("kube-controller-manager",) if record.controllers else ()
    scheduler = ("kube-scheduler",) if record.gangs else ()
    return (*binaries.API_SERVER, *extra, *scheduler)


def ready(record: Record) -> None:
    """Build and install what the cluster needs, before anything of it is made."""
    if record.node_count:
        debian.require_root()
    debian.ensure(debian.NODES if record.node_count else debian.API_SERVER)
    binaries.build_all(programs(record))
