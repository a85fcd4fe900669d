"""A real Prometheus beside the cluster: it finds the pods by the API server and scrapes them."""

from __future__ import annotations

import json
import socket
import subprocess
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from kube import wait_for

PORTS = "metrics|progress|http"
"""Names of the container ports that operator, stages and servers scrape under."""


def configuration(kubeconfig: Path) -> dict[str, Any]:
    source = {"role": "pod", "kubeconfig_file": str(kubeconfig)}
    keep = [
        ("__meta_kubernetes_pod_container_port_name", PORTS),
        ("__meta_kubernetes_pod_phase", "Running"),
    ]
    relabel: list[dict[str, Any]] = [
        {"source_labels": [label], "regex": value, "action": "keep"} for label, value in keep
    ]
    job = {
        "job_name": "oikyo",
        "honor_labels": True,
        "scrape_interval": "2s",
        "kubernetes_sd_configs": [source],
        "relabel_configs": relabel,
    }
    return {"scrape_configs": [job]}


@dataclass(frozen=True)
class Prometheus:
    """A running server."""

    port: int

    def series(self, expression: str) -> list[dict[str, Any]]:
        """What an instant query answers."""
        query = urllib.parse.urlencode({"query": expression})
        url = f"http://127.0.0.1:{self.port}/api/v1/query?{query}"
        with urllib.request.urlopen(url, timeout=60) as answer:
            found: list[dict[str, Any]] = json.load(answer)["data"]["result"]
        return found

    def names(self) -> set[str]:
        """Every series name that was ever scraped."""
        url = f"http://127.0.0.1:{self.port}/api/v1/label/__name__/values"
        with urllib.request.urlopen(url, timeout=60) as answer:
            return set(json.load(answer)["data"])


@contextmanager
def prometheus(binary: Path, kubeconfig: Path, folder: Path) -> Iterator[Prometheus]:
    """Start one on a free loopback port; ended when the block ends."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    config = folder / "prometheus.yml"
    config.write_text(yaml.safe_dump(configuration(kubeconfig)))
    command = [str(binary), f"--config.file={config}", f"--storage.tsdb.path={folder / 'data'}"]
    with (folder / "prometheus.log").open("wb") as log:
        server = subprocess.Popen(
            [*command, f"--web.listen-address=127.0.0.1:{port}"], stdout=log, stderr=log
        )
        try:
            found = Prometheus(port)
            wait_for("Prometheus to answer", lambda: _answers(found), 300)
            yield found
        finally:
            server.terminate()
            server.wait(timeout=120)


def _answers(found: Prometheus) -> bool:
    try:
        found.names()
    except OSError:
        return False
    return True
