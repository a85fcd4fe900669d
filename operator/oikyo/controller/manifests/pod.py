"""What every pod of oikyo shares: Pod Security `restricted`, no credentials, spec.json by annotation."""

from __future__ import annotations

from fractions import Fraction

from oikyo.api.meta import ANNOTATION_SPEC

from .naming import Manifest

WORKSPACE = "/workspace"
SPEC_FOLDER = "/etc/oikyo"
SPEC_FILE = f"{SPEC_FOLDER}/spec.json"
USER = 10001
GPU = "nvidia.com/gpu"
_SUFFIX = {"m": Fraction(1, 1000), "k": Fraction(1000), "": Fraction(1)}


def cpus(quantity: str) -> Fraction:
    """A CPU quantity as a number: "500m" is one half."""
    unit = quantity[-1] if quantity[-1] in "mk" else ""
    return Fraction(quantity.removesuffix(unit)) * _SUFFIX[unit]


def threads(cpu: str, processes: int = 1) -> str:
    """OMP_NUM_THREADS for one process: more threads than processors cost more than they bring."""
    return str(max(1, int(cpus(cpu)) // processes))


def environment(**values: str) -> list[Manifest]:
    """The root file system is read-only: what wants a home finds it in /tmp."""
    common = {"HOME": "/tmp", "HF_HOME": "/tmp/huggingface", "PYTHONUNBUFFERED": "1"}
    return [{"name": name, "value": value} for name, value in {**common, **values}.items()]


def resources(cpu: str, memory: str | None, gpus: int) -> Manifest:
    """CPU is requested and never limited: a limit throttles; memory and GPUs are both."""
    hard = {**({"memory": memory} if memory else {}), **({GPU: str(gpus)} if gpus else {})}
    wanted = {"requests": {"cpu": cpu, **hard}}
    return {**wanted, "limits": hard} if hard else wanted


def container_security() -> Manifest:
    return {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "runAsNonRoot": True,
        "runAsUser": USER,
        "runAsGroup": USER,
        "capabilities": {"drop": ["ALL"]},
        "seccompProfile": {"type": "RuntimeDefault"},
    }


def pod_spec(
    container: Manifest, volumes: list[Manifest], *, restart: str, grace_seconds: int
) -> Manifest:
    """One container under Pod Security `restricted`, without Kubernetes credentials."""
    return {
        "restartPolicy": restart,
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "terminationGracePeriodSeconds": grace_seconds,
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": USER,
            "runAsGroup": USER,
            "fsGroup": USER,
            # A volume full of checkpoints is not walked again at every start of a pod.
            "fsGroupChangePolicy": "OnRootMismatch",
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "containers": [{**container, "securityContext": container_security()}],
        "volumes": volumes,
    }


def spec_volume() -> Manifest:
    """spec.json out of the pod's own annotation: no ConfigMap, one write less."""
    field = {"fieldPath": f"metadata.annotations['{ANNOTATION_SPEC}']"}
    return {"name": "spec", "downwardAPI": {"items": [{"path": "spec.json", "fieldRef": field}]}}


def claim_volume(name: str, claim: str) -> Manifest:
    return {"name": name, "persistentVolumeClaim": {"claimName": claim}}


def mount(name: str, path: str, *, read_only: bool = False) -> Manifest:
    place = {"name": name, "mountPath": path}
    return {**place, "readOnly": True} if read_only else place
