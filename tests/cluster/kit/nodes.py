"""One node of the built cluster: its namespaces, cgroup, containerd, kubelet and kube-proxy.

A holder process keeps a network and a mount namespace.  In the latter, folders that containerd and
the kubelet hard-code (/var/lib/kubelet, /run/containerd ...) are the node's own, so two nodes do
not meet there and nothing of it stays on the machine when the last process has ended.
"""

import os
import shutil
from collections.abc import Iterable
from pathlib import Path

from kit import cgroups, host, kubeconfig, network, processes, settings
from kit.binaries import binary, folder, tool_of
from kit.commands import run, wait_until
from kit.layout import Layout, NodeLayout
from kit.pki import Authority
from kit.processes import Servers


class Node:
    """A node as the kit runs it; `number` counts from 1."""

    def __init__(self, state: Path, layout: Layout, node: NodeLayout) -> None:
        self.layout, self.node, self.name = layout, node, node.name
        self.folder = state / node.name
        self.state = state
        self.files = settings.NodeFiles(self.folder, state / "pki" / "ca.crt")
        self.servers = Servers(state / "log")

    def server(self, program: str) -> str:
        """Return the name under which one of the node's programs is recorded."""
        return f"{program}-{self.name}"

    @property
    def holder(self) -> int:
        return self.servers.get(self.server("holder")).pid

    @property
    def netns(self) -> str:
        """The node's network namespace, as a path for `nsenter --net=`."""
        return f"/proc/{self.holder}/ns/net"

    def inside(self, *command: str | Path) -> list[str | Path]:
        """Return a command that runs in the node's network and mount namespaces.

        Not `ip netns exec`: that mounts /sys anew and hides the cgroups.
        """
        mounts = f"--mount=/proc/{self.holder}/ns/mnt"
        return ["nsenter", f"--net={self.netns}", mounts, *command]

    def prepare(self, authority: Authority, api_server: str) -> None:
        """Write the node's files: identities and configurations."""
        for name in ("cni", "pki", "podlogs", "volumeplugins"):
            (self.folder / name).mkdir(parents=True, exist_ok=True)
        certificate, key = authority.issue(
            f"kubelet-{self.name}",
            f"/O=system:nodes/CN=system:node:{self.name}",
            (self.name, self.node.address),
        )
        shutil.copyfile(certificate, self.files.certificate)
        kubeconfig.write(self.files.key, key.read_text())
        text = kubeconfig.render(api_server, authority.certificate, certificate, key)
        kubeconfig.write(self.folder / "kubelet.conf", text)
        certificate, key = authority.issue("kube-proxy", "/CN=system:kube-proxy")
        text = kubeconfig.render(api_server, authority.certificate, certificate, key)
        kubeconfig.write(self.folder / "kube-proxy.conf", text)
        kubelet = settings.kubelet(
            self.files, self.node, self.layout.gateway, cgroup_v1=cgroups.is_v1()
        )
        (self.folder / "cni" / "10-pods.conflist").write_text(
            settings.pod_network(self.files, self.node)
        )
        (self.folder / "containerd.toml").write_text(settings.containerd(self.files))
        (self.folder / "kubelet.yaml").write_text(kubelet)
        (self.folder / "kube-proxy.yaml").write_text(
            settings.kube_proxy(self.files, self.node, self.layout)
        )

    def hold(self) -> None:
        """Start the process that keeps the namespaces, and plug its cable in."""
        ready = self.folder / "ready"
        ready.unlink(missing_ok=True)
        lines = ["set -e", "mount --make-rshared /"]
        for hidden in host.HIDDEN:
            own = self.folder / "own" / hidden.lstrip("/")
            own.mkdir(parents=True, exist_ok=True)
            lines.append(f"mount --bind '{own}' '{hidden}'")
        lines += [f"touch '{ready}'", "exec sleep infinity"]
        holder = self.server("holder")
        unshare = ("unshare", "--net", "--mount", "--propagation", "private")
        self.servers.start(holder, [*unshare, "sh", "-c", "\n".join(lines)])
        wait_until(
            lambda: self.ready_or_dead(ready), what=f"the namespaces of {self.name}", seconds=60
        )
        namespace = os.readlink(f"/proc/{self.holder}/ns/mnt")
        (self.folder / "mount-namespace").write_text(namespace)
        network.plug(self.layout, self.node, self.holder)

    def ready_or_dead(self, ready: Path) -> bool:
        self.servers.check(self.server("holder"))
        return ready.exists()

    def start_containerd(self) -> None:
        """Start containerd; containers that a crash left among its images are forgotten first."""
        self.run_containerd()
        if self.forget_containers():
            self.servers.stop([self.server("containerd")])
            self.run_containerd()

    def run_containerd(self) -> None:
        containerd, path = binary("containerd"), [folder(tool_of("containerd"))]
        command = self.inside(containerd, "-c", self.folder / "containerd.toml")
        self.servers.start(self.server("containerd"), command, path)
        wait_until(self.containerd_answers, what=f"containerd of {self.name}", seconds=120)

    def containerd_answers(self) -> bool:
        self.servers.check(self.server("containerd"))
        return self.ctr("version", check=False)

    def ctr(self, *arguments: str | Path, check: bool = True) -> bool:
        """Run containerd's client on this node; tell whether it succeeded."""
        base = (binary("ctr"), "-a", settings.CONTAINERD_SOCKET, "-n", "k8s.io")
        return run(*self.inside(*base, *arguments), check=check).returncode == 0

    def start_kubelet(self) -> None:
        """Start the kubelet and kube-proxy."""
        kubelet = self.inside(
            *(binary("kubelet"), "--config", self.folder / "kubelet.yaml"),
            *("--kubeconfig", self.folder / "kubelet.conf", "--hostname-override", self.name),
            *("--node-ip", self.node.address),
        )
        self.servers.start(self.server("kubelet"), kubelet)
        proxy = self.inside(binary("kube-proxy"), "--config", self.folder / "kube-proxy.yaml")
        self.servers.start(self.server("kube-proxy"), proxy)

    def load(self, archives: Iterable[Path]) -> None:
        """Import OCI archives; nodes cannot share unpacked images, so each has its own copy."""
        for archive in archives:
            self.ctr("images", "import", "--local", "--discard-unpacked-layers", archive)

    def forget_containers(self) -> bool:
        """Remove the records of containers, so that only images outlast; tell if there were any."""
        base = (binary("ctr"), "-a", settings.CONTAINERD_SOCKET, "-n", "k8s.io")
        names = run(*self.inside(*base, "containers", "list", "-q"), check=False).stdout.split()
        for task in run(*self.inside(*base, "tasks", "list", "-q"), check=False).stdout.split():
            self.ctr("tasks", "delete", "-f", task, check=False)
        if names:
            self.ctr("containers", "delete", *names, check=False)
        return bool(names)

    def shims(self) -> list[tuple[int, str]]:
        """Return (pid, start) of the containerd shims in this node's mount namespace.

        The namespace is known from when it was made: its holder may have been killed since.
        """
        known = self.folder / "mount-namespace"
        namespace = known.read_text() if known.exists() else None
        program = str(folder(tool_of("containerd")) / "containerd-shim-runc-v2")
        found = []
        for entry in Path("/proc").iterdir():
            try:
                same = entry.name.isdigit() and os.readlink(entry / "exe") == program
                if same and os.readlink(entry / "ns/mnt") == namespace:
                    found.append((int(entry.name), processes.start_of(int(entry.name)) or ""))
            except OSError:
                continue  # it ended while we looked
        return found
