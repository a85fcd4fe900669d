"""What serves an endpoint: a Deployment, a Service, a disruption budget and, if asked, an autoscaler."""

from __future__ import annotations

from oikyo.api.meta import ANNOTATION_SPEC, LABEL_ENDPOINT, LABEL_MODEL
from oikyo.api.modelendpoint import ModelEndpoint
from oikyo.api.stages import SERVE_PORT, ServeSpec

from ..observed import ServerPlan
from . import pod
from .naming import Manifest, Owner, labels, metadata, sealed
from .stage import Settings

PRE_STOP_SECONDS = 5
"""Proxies go on sending for a moment after a pod is told to end."""
GRACE_SECONDS = 60
SCALE_DOWN_SECONDS = 120
VLLM_RANKS = (1, 8, 16, 32, 64, 128, 256, 320, 512)
"""Ranks that VLLM can set memory aside for (MaxLoRARanks of its LoRAConfig)."""


def server(endpoint: ModelEndpoint, plan: ServerPlan, settings: Settings) -> tuple[Manifest, ...]:
    """All objects of one endpoint, in the order in which they are applied."""
    made = [_service(endpoint), _deployment(endpoint, plan, settings), _budget(endpoint)]
    if autoscaled(endpoint):
        made.append(_autoscaler(endpoint))
    return tuple(made)


def autoscaled(endpoint: ModelEndpoint) -> bool:
    return endpoint.spec.replicas.max > endpoint.spec.replicas.min


def _selector(endpoint: ModelEndpoint) -> dict[str, str]:
    return {LABEL_ENDPOINT: endpoint.metadata.name}


def _labels(endpoint: ModelEndpoint) -> dict[str, str]:
    own = {LABEL_MODEL: endpoint.spec.model, **_selector(endpoint)}
    return {**labels("server", endpoint.metadata.name), **own}


def _object(endpoint: ModelEndpoint, api_version: str, kind: str, spec: Manifest) -> Manifest:
    meta = metadata(
        endpoint.metadata.name,
        endpoint.metadata.namespace,
        _labels(endpoint),
        Owner("ModelEndpoint", endpoint.metadata),
    )
    return sealed({"apiVersion": api_version, "kind": kind, "metadata": meta, "spec": spec})


def _service(endpoint: ModelEndpoint) -> Manifest:
    port = {"name": "http", "port": 80, "targetPort": "http", "protocol": "TCP"}
    return _object(endpoint, "v1", "Service", {"selector": _selector(endpoint), "ports": [port]})


def _deployment(endpoint: ModelEndpoint, plan: ServerPlan, settings: Settings) -> Manifest:
    template = {
        "metadata": {
            "labels": _labels(endpoint),
            "annotations": {ANNOTATION_SPEC: plan.spec.json_line()},
        },
        "spec": _pod(plan, settings),
    }
    # With an autoscaler the number of replicas is its own: a field that is never written is never fought over.
    scale = {} if autoscaled(endpoint) else {"replicas": endpoint.spec.replicas.min}
    spec = {
        **scale,
        "selector": {"matchLabels": _selector(endpoint)},
        "strategy": {
            "type": "RollingUpdate",
            "rollingUpdate": {"maxUnavailable": 0, "maxSurge": 1},
        },
        "template": template,
    }
    return _object(endpoint, "apps/v1", "Deployment", spec)


def _pod(plan: ServerPlan, settings: Settings) -> Manifest:
    vllm = plan.endpoint.runtime == "VLLM"
    wanted = plan.endpoint.resources
    offline = {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": pod.threads(wanted.cpu)}
    container: Manifest = {
        "name": "server",
        "image": settings.vllm_image if vllm else settings.trainer_image,
        "command": _vllm_command(plan) if vllm else _command(),
        "env": pod.environment(**offline),
        "ports": [{"name": "http", "containerPort": SERVE_PORT, "protocol": "TCP"}],
        "resources": pod.resources(wanted.cpu, wanted.memory, wanted.gpus),
        "lifecycle": {"preStop": {"sleep": {"seconds": PRE_STOP_SECONDS}}},
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "volumeMounts": [
            pod.mount("spec", pod.SPEC_FOLDER, read_only=True),
            pod.mount("workspace", pod.WORKSPACE, read_only=True),
            pod.mount("tmp", "/tmp"),
            pod.mount("shm", "/dev/shm"),
        ],
        **_probes(vllm),
    }
    volumes = [
        pod.spec_volume(),
        pod.claim_volume("workspace", plan.claim),
        {"name": "tmp", "emptyDir": {}},
        {"name": "shm", "emptyDir": {"medium": "Memory"}},
    ]
    return pod.pod_spec(container, volumes, restart="Always", grace_seconds=GRACE_SECONDS)


def _command() -> list[str]:
    module = ["python", "-m", "oikyo_trainer", "serve"]
    return [*module, "--spec", pod.SPEC_FILE, "--workspace", pod.WORKSPACE]


def _vllm_command(plan: ServerPlan) -> list[str]:
    spec = plan.spec
    rest = ["--port", str(SERVE_PORT)]
    rest += ["--tensor-parallel-size", str(max(1, plan.endpoint.resources.gpus))]
    if spec.base is None:
        whole = f"{pod.WORKSPACE}/{spec.path}"
        return ["vllm", "serve", whole, "--served-model-name", spec.model_name, *rest]
    # VLLM lists the bare base too: under a name that no adapter can have.
    base = ["vllm", "serve", f"{pod.WORKSPACE}/{spec.base}", "--served-model-name", spec.base]
    return [*base, *rest, *_vllm_adapters(spec)]


def _vllm_adapters(spec: ServeSpec) -> list[str]:
    """The version and the adapters beside it, each under the name that requests write."""
    folders = {spec.model_name: spec.path, **{one.name: one.path for one in spec.adapters}}
    rank = next(size for size in VLLM_RANKS if size >= (spec.lora_rank or 1))
    sizes = ["--max-loras", str(len(folders)), "--max-lora-rank", str(rank)]
    named = [f"{name}={pod.WORKSPACE}/{path}" for name, path in folders.items()]
    return ["--enable-lora", *sizes, "--lora-modules", *named]


def _probes(vllm: bool) -> Manifest:
    """Startup forgives the loading of weights (vLLM also compiles), then liveness is strict."""
    live, ready = ("/health", "/health") if vllm else ("/health/live", "/health/ready")
    return {
        "startupProbe": {
            **_get(live),
            "periodSeconds": 2,
            "failureThreshold": 900 if vllm else 150,
        },
        "livenessProbe": {
            **_get(live),
            "periodSeconds": 10,
            "timeoutSeconds": 5,
            "failureThreshold": 3,
        },
        "readinessProbe": {
            **_get(ready),
            "periodSeconds": 2,
            "timeoutSeconds": 2,
            "failureThreshold": 2,
        },
    }


def _get(path: str) -> Manifest:
    return {"httpGet": {"path": path, "port": "http"}}


def _budget(endpoint: ModelEndpoint) -> Manifest:
    spec = {"maxUnavailable": 1, "selector": {"matchLabels": _selector(endpoint)}}
    return _object(endpoint, "policy/v1", "PodDisruptionBudget", spec)


def _autoscaler(endpoint: ModelEndpoint) -> Manifest:
    target = {"apiVersion": "apps/v1", "kind": "Deployment", "name": endpoint.metadata.name}
    cpu = {"type": "Utilization", "averageUtilization": endpoint.spec.target_cpu_percent}
    spec = {
        "scaleTargetRef": target,
        "minReplicas": endpoint.spec.replicas.min,
        "maxReplicas": endpoint.spec.replicas.max,
        "metrics": [{"type": "Resource", "resource": {"name": "cpu", "target": cpu}}],
        "behavior": {"scaleDown": {"stabilizationWindowSeconds": SCALE_DOWN_SECONDS}},
    }
    return _object(endpoint, "autoscaling/v2", "HorizontalPodAutoscaler", spec)
