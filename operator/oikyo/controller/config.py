"""What the installation tells the controller: flags, else environment, else defaults."""

from __future__ import annotations

import argparse
import os
import socket
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

TRAINER_IMAGE = "oikyo-trainer:latest"
VLLM_IMAGE = "vllm/vllm-openai:latest"
NAMESPACE_FILE = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")


@dataclass(frozen=True)
class Config:
    """Settings of one controller process."""

    namespaces: tuple[str, ...]
    """Namespaces to serve; empty: all of the cluster."""
    trainer_image: str
    vllm_image: str
    metrics_port: int
    """Of /healthz, /readyz and /metrics; 0: any free one, which is logged."""
    identity: str
    """Name of this replica in the Lease."""
    lease_namespace: str
    log_level: str
    kubeconfig: str | None

    @property
    def scopes(self) -> tuple[str | None, ...]:
        """What to list: each namespace, or None for the whole cluster."""
        return self.namespaces or (None,)


def parse(argv: Sequence[str] | None = None, env: Mapping[str, str] = os.environ) -> Config:
    """Exits with a usage message when the flags contradict each other."""
    parser = _parser(env)
    flags = parser.parse_args(argv)
    if bool(flags.namespace) == flags.cluster_wide:
        parser.error("give either --namespace NAME (repeatable) or --cluster-wide")
    return Config(
        namespaces=tuple(flags.namespace),
        trainer_image=flags.trainer_image,
        vllm_image=flags.vllm_image,
        metrics_port=flags.metrics_port,
        identity=flags.identity,
        lease_namespace=flags.lease_namespace or _own_namespace(flags.namespace),
        log_level=flags.log_level,
        kubeconfig=env.get("KUBECONFIG") or None,
    )


def _parser(env: Mapping[str, str]) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="oikyo.controller", description="Runs FineTuneJobs and ModelEndpoints."
    )
    add = parser.add_argument
    add("--namespace", action="append", default=[], help="namespace to serve; repeatable")
    add("--cluster-wide", action="store_true", help="serve every namespace")
    add("--trainer-image", default=env.get("OIKYO_TRAINER_IMAGE", TRAINER_IMAGE))
    add("--vllm-image", default=env.get("OIKYO_VLLM_IMAGE", VLLM_IMAGE))
    add("--metrics-port", type=int, default=8080, help="of /healthz, /readyz, /metrics; 0: any")
    identity = env.get("POD_NAME") or f"{socket.gethostname()}-{os.getpid()}"
    add("--identity", default=identity, help="name of this replica in the Lease")
    lease = env.get("POD_NAMESPACE", "")
    add("--lease-namespace", default=lease, help="namespace of the Lease; default: the pod's own")
    levels = ("debug", "info", "warning", "error")
    add("--log-level", choices=levels, default=env.get("OIKYO_LOG_LEVEL", "info"))
    return parser


def _own_namespace(served: Sequence[str]) -> str:
    if NAMESPACE_FILE.exists():
        return NAMESPACE_FILE.read_text(encoding="utf-8").strip()
    return served[0] if served else "default"
