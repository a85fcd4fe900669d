"""Chooses which cluster to use, and offers one face for all three kinds of it."""

import os
import shutil
import signal
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from kit import built, host, images, kind, places, processes, record, small_images
from kit.binaries import binary
from kit.built import Built
from kit.commands import Done, run, say, wait_until
from kit.errors import KitError
from kit.kind import Kind
from kit.nodes import Node
from kit.processes import Server
from kit.record import Engine, Record

EXISTING = "OIKYO_TEST_KUBECONFIG"


def choose(environment: Mapping[str, str], node_count: int, *, docker: bool) -> Engine:
    """Return which kind of cluster `up` takes: the one it is told, kind's, or the built one.

    Without nodes there is nothing that kind would do better than a bare API server.
    """
    if environment.get(EXISTING):
        return "existing"
    return "kind" if docker and node_count else "built"


class Cluster:
    """A cluster that is up; `Cluster.up()` starts one, `Cluster.open()` finds the running one."""

    def __init__(self, state: Path, found: Record) -> None:
        self.state, self.record = state, found
        self.kubeconfig = Path(found.kubeconfig)
        self.engine: Built | Kind | None = None
        if found.engine == "built":
            self.engine = Built(state, found)
        elif found.engine == "kind":
            self.engine = Kind(state, found)

    @classmethod
    def up(
        cls,
        state: Path | None = None,
        *,
        node_count: int = 2,
        controllers: bool | None = None,
        gpus: int = 2,
        gangs: bool = False,
    ) -> "Cluster":
        """Start a cluster, or return the one that already runs in this state folder.

        `controllers` says whether an API server without nodes gets a controller manager, `gangs`
        whether that has PodGroups and a scheduler, for nodes that are only objects.
        """
        state = (state or places.default_state()).resolve()
        engine = choose(os.environ, node_count, docker=node_count > 0 and kind.docker_answers())
        if engine == "existing":
            return cls.existing(state, Path(os.environ[EXISTING]))
        wanted = Record(
            engine,
            node_count,
            bool(node_count) if controllers is None else controllers,
            gpus,
            str(state / "kubeconfig"),
            gangs,
        )
        running = cls.running(state)
        if running is not None:
            running.require_same(wanted)
            return running
        cls.clean(state)
        return cls.start(state, wanted)

    @classmethod
    def existing(cls, state: Path, config: Path) -> "Cluster":
        """Use a cluster that somebody else looks after; nothing of it is changed."""
        if not config.exists():
            raise KitError(f"{EXISTING} is {config}, which does not exist; name a kubeconfig file")
        names = "jsonpath={.items[*].metadata.name}"
        nodes = run(binary("kubectl"), "--kubeconfig", config, "get", "nodes", "-o", names)
        cluster = cls(state, Record("existing", len(nodes.stdout.split()), True, 0, str(config)))
        record.write(state, cluster.record)
        return cluster

    @classmethod
    def start(cls, state: Path, wanted: Record) -> "Cluster":
        """Make a cluster; what fails half way is taken down by the next `up` or `down`."""
        if wanted.engine == "built":
            built.ready(wanted)
            slot = host.claim(state) if wanted.node_count else None
            wanted = replace(wanted, slot=slot)
        record.write(state, wanted)
        cluster = cls(state, wanted)
        assert cluster.engine is not None
        cluster.engine.up()
        if wanted.node_count:
            cluster.add_nodes_and_addons()
        complete = replace(wanted, complete=True)
        record.write(state, complete)
        return cls(state, complete)

    def add_nodes_and_addons(self) -> None:
        """Fill the nodes with images, apply the addons, and wait until both are ready."""
        for archive in small_images.archives():
            self.load(archive)
        self.kubectl("apply", "-f", str(places.KIT / "manifests"))
        if isinstance(self.engine, Built):
            self.engine.start_kubelets()
        wait_until(self.nodes_ready, what="the nodes to be Ready", seconds=300, interval=0.3)
        # An aggregated API that does not answer yet breaks discovery, and with it namespaces' ends.
        metrics = ("apiservice/v1beta1.metrics.k8s.io", "--for=condition=Available")
        self.kubectl("wait", *metrics, "--timeout=300s")

    def nodes_ready(self) -> bool:
        """Tell whether every node is Ready and offers its GPUs."""
        fields = (
            '{.status.conditions[?(@.type=="Ready")].status}{.status.allocatable.nvidia\\.com/gpu}'
        )
        wanted = f"True{self.record.gpus}"
        path = f"jsonpath={{range .items[*]}}{fields} {{end}}"
        found = self.kubectl("get", "nodes", "-o", path).stdout.split()
        return found.count(wanted) >= self.record.node_count

    @classmethod
    def open(cls, state: Path | None = None) -> "Cluster":
        """Return the cluster of a state folder; refuse where none was started."""
        state = (state or places.default_state()).resolve()
        found = record.read(state)
        if found is None:
            raise KitError(f"no cluster was started in {state}; run `kit up`")
        return cls(state, found)

    @classmethod
    def running(cls, state: Path) -> "Cluster | None":
        """Return the cluster of a state folder if it is whole."""
        found = record.read(state)
        if found is None or not found.complete or found.engine == "existing":
            return None
        cluster = cls(state, found)
        return cluster if cluster.healthy() else None

    @classmethod
    def clean(cls, state: Path) -> None:
        """Take down what an earlier `up` left in a state folder."""
        found = record.read(state)
        if found is not None:
            say(f"taking down what is left of the cluster in {state}")
            cls(state, found).down()

    def require_same(self, wanted: Record) -> None:
        """Refuse to pass a cluster of another shape off as the one asked for."""
        here = replace(self.record, slot=None, complete=False)
        if here != wanted:
            raise KitError(
                f"the cluster in {self.state} runs with {here.node_count} nodes and {here.gpus} "
                f"GPUs a node, asked for are {wanted.node_count} and {wanted.gpus}; run `kit down` "
                "first or choose another --state"
            )

    def healthy(self) -> bool:
        """Tell whether every server runs and the API answers."""
        alive = self.engine is None or self.engine.healthy()
        return alive and self.kubectl("get", "--raw", "/readyz", check=False).returncode == 0

    def down(self, *, purge: bool = False) -> None:
        """Stop the cluster and put the machine back; an existing cluster is left as it is.

        Unpacked images and the last logs stay in the state folder unless `purge` is set.
        """
        if self.engine is None:
            record.path(self.state).unlink(missing_ok=True)
            return
        self.engine.down()
        if purge:
            shutil.rmtree(self.state, ignore_errors=True)

    def kubectl(self, *arguments: str, stdin: str | None = None, check: bool = True) -> Done:
        """Run kubectl of the cluster's own version, as its administrator."""
        base = (binary("kubectl"), "--kubeconfig", self.kubeconfig)
        return run(*base, *arguments, stdin=stdin, check=check)

    def load(self, archive: Path) -> None:
        """Import an OCI archive on every node."""
        if not archive.exists():
            raise KitError(f"{archive} does not exist; give an OCI archive")
        if self.engine is None:
            raise KitError(f"the cluster of {EXISTING} takes its images from its own registry")
        self.engine.load(archive.resolve())

    def load_images(self) -> None:
        """Build the operator's and the trainer's image where needed and bring them to the nodes."""
        for target in images.TARGETS:
            digest = images.build(target)
            if isinstance(self.engine, Built) and self.nodes:
                delivery = images.Delivery(
                    self.state / "images" / "delivery", [node.name for node in self.nodes]
                )
                images.deliver(delivery, target.image, digest, self.nodes)
            else:
                archive = images.whole_archive(target.image, self.state)
                try:
                    self.load(archive)
                finally:
                    archive.unlink()

    @property
    def audit_log(self) -> Path:
        """The API server's audit log, one JSON object a line (built clusters only)."""
        return self.state / "log" / "audit.log"

    @property
    def nodes(self) -> tuple[Node, ...]:
        """The nodes of a built cluster, with their namespaces; others hide theirs."""
        return self.engine.nodes if isinstance(self.engine, Built) else ()

    @property
    def servers(self) -> list[Server]:
        """Every program that the kit keeps running for this cluster."""
        return [] if self.engine is None else self.engine.servers.all()

    def kill(self, name: str, number: signal.Signals = signal.SIGKILL) -> None:
        """Signal a server by name, such as kubelet-node1 or kube-apiserver."""
        server = self.need_servers().get(name)
        processes.send(server.pid, server.started, number)
        if number in (signal.SIGKILL, signal.SIGTERM):
            wait_until(lambda: not server.alive, what=f"{name} to end", seconds=30)
            processes.reap(server.pid)

    def restart(self, name: str) -> Server:
        """Start a killed server again with the command it had."""
        return self.need_servers().restart(name)

    def need_servers(self) -> processes.Servers:
        if self.engine is None:
            raise KitError(f"the servers of the cluster of {EXISTING} are not the kit's to touch")
        return self.engine.servers
