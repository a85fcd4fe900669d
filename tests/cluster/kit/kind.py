"""The cluster made by kind where a Docker engine answers."""

import base64
import json
import shutil
from pathlib import Path

import yaml

from kit import built, kubeconfig, small_images
from kit.binaries import binary
from kit.commands import run
from kit.processes import Servers
from kit.record import Record

NAME = "oikyo"


def docker_answers() -> bool:
    """Tell whether a Docker engine answers, which the client alone does not mean."""
    if shutil.which("docker") is None:
        return False
    return run("docker", "info", "--format", "{{.ID}}", check=False).returncode == 0


def program() -> Path:
    """Return kind: the machine's own, else the one built from its module."""
    found = shutil.which("kind")
    return Path(found) if found else binary("kind")


def configuration(state: Path, node_count: int) -> str:
    """Return kind's configuration: workers, and the volumes' folder at the same path in each."""
    mount = {"hostPath": f"{state}/volumes", "containerPath": f"{state}/volumes"}
    node = {"extraMounts": [mount]}
    workers = [{"role": "worker", **node} for _ in range(node_count)]
    return yaml.safe_dump(
        {
            "kind": "Cluster",
            "apiVersion": "kind.x-k8s.io/v1alpha4",
            "nodes": [{"role": "control-plane", **node}, *workers],
        },
        sort_keys=False,
    )


class Kind:
    """A cluster that kind runs."""

    def __init__(self, state: Path, record: Record) -> None:
        self.state, self.record = state, record
        self.kubeconfig = state / "kubeconfig"
        self.servers = Servers(state / "log")

    def up(self) -> None:
        """Create the cluster, load the small images and start the keeper."""
        (self.state / "volumes").mkdir(parents=True, exist_ok=True)
        config = self.state / "kind.yaml"
        config.write_text(configuration(self.state, self.record.node_count))
        create = ("create", "cluster", "--name", NAME, "--config", config, "--wait", "180s")
        run(program(), *create, "--kubeconfig", self.kubeconfig)
        for archive in small_images.archives():
            self.load(archive)
        usual = ("annotate", "storageclass", "standard", "--overwrite")
        plain = "storageclass.kubernetes.io/is-default-class=false"
        run(binary("kubectl"), "--kubeconfig", self.kubeconfig, *usual, plain)
        built.start_keeper(self.servers, self.state, self.credentials(), self.record.gpus)

    def credentials(self) -> str:
        """Write the administrator's certificate where the keeper reads it; return the server."""
        view = ("config", "view", "--raw", "-o", "json")
        raw = json.loads(run(binary("kubectl"), "--kubeconfig", self.kubeconfig, *view).stdout)
        cluster, user = raw["clusters"][0]["cluster"], raw["users"][0]["user"]
        pki = self.state / "pki"
        pki.mkdir(exist_ok=True, mode=0o700)
        for name, encoded in (
            ("ca.crt", cluster["certificate-authority-data"]),
            ("keeper.crt", user["client-certificate-data"]),
            ("keeper.key", user["client-key-data"]),
        ):
            kubeconfig.write(pki / name, base64.b64decode(encoded).decode())
        return str(cluster["server"])

    def load(self, archive: Path) -> None:
        run(program(), "load", "image-archive", archive, "--name", NAME)

    def healthy(self) -> bool:
        return NAME in run(program(), "get", "clusters", check=False).stdout.split()

    def down(self) -> None:
        """Delete the cluster and stop the keeper."""
        self.servers.stop(self.servers.names)
        run(program(), "delete", "cluster", "--name", NAME, "--kubeconfig", self.kubeconfig)
        shutil.rmtree(self.state, ignore_errors=True)
