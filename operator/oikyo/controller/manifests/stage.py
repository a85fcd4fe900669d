"""One attempt of one stage: an Indexed Job, a headless Service when its workers must find each other, and
the PodGroup by which they are placed together."""

from __future__ import annotations

from dataclasses import dataclass

from oikyo.api.finetunejob import FineTuneJob
from oikyo.api.meta import ANNOTATION_SPEC
from oikyo.api.scheduling import Toleration
from oikyo.api.stages import PORT, RENDEZVOUS_PORT

from ..observed import Mounts, StagePlan
from ..policies.deadline import limit
from ..policies.queues import LABEL as QUEUE
from ..policies.queues import queue_of
from ..resolve import claim_name, claims_of, configmaps_of, in_bucket, secrets_of
from . import group, pod
from .naming import Manifest, Owner, metadata, sealed, stage_labels, stage_name

INDEX = "$(JOB_COMPLETION_INDEX)"
"""The kubelet puts the worker's number here."""
CPU = {"prepare": "500m", "train": "1", "evaluate": "500m"}
GRACE_SECONDS = 60


@dataclass(frozen=True)
class Settings:
    """What the installation decides about pods."""

    trainer_image: str
    vllm_image: str = ""


def stage(job: FineTuneJob, plan: StagePlan, settings: Settings) -> tuple[Manifest, ...]:
    """All objects of one attempt, in the order in which they are created."""
    service = () if plan.nodes == 1 else (_service(job, plan),)
    # Before the Job: pods that name a group wait for it, and Volcano refuses to admit them without.
    whole = () if plan.group is None else (group.group(job, plan, _metadata(job, plan)),)
    return *service, *whole, _job(job, plan, settings)


def _name(job: FineTuneJob, plan: StagePlan) -> str:
    return stage_name(job.metadata.name, *plan.key)


def _metadata(job: FineTuneJob, plan: StagePlan) -> Manifest:
    return metadata(
        _name(job, plan),
        job.metadata.namespace,
        stage_labels(job.metadata.name, *plan.key),
        Owner("FineTuneJob", job.metadata),
    )


def _service(job: FineTuneJob, plan: StagePlan) -> Manifest:
    """Headless, and with addresses of pods that are not ready: they become ready by meeting."""
    return sealed(
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": _metadata(job, plan),
            "spec": {
                "clusterIP": "None",
                "publishNotReadyAddresses": True,
                "selector": stage_labels(job.metadata.name, *plan.key),
                "ports": [{"name": "rendezvous", "port": RENDEZVOUS_PORT, "protocol": "TCP"}],
            },
        }
    )


def _job(job: FineTuneJob, plan: StagePlan, settings: Settings) -> Manifest:
    template = {
        "metadata": {
            "labels": stage_labels(job.metadata.name, *plan.key),
            "annotations": {
                ANNOTATION_SPEC: plan.spec.json_line(),
                **group.pod_annotations(plan, _name(job, plan)),
            },
        },
        "spec": _pod(job, plan, settings),
    }
    return sealed(
        {
            "apiVersion": "batch/v1",
            "kind": "Job",
            "metadata": _queued(job, _metadata(job, plan)),
            "spec": {
                **_held(job),
                "completionMode": "Indexed",
                "completions": plan.nodes,
                "parallelism": plan.nodes,
                # The gang lives and dies together; attempts are the controller's, not the Job's.
                "backoffLimit": 0,
                "podReplacementPolicy": "Failed",
                "template": template,
            },
        }
    )


def _pod(job: FineTuneJob, plan: StagePlan, settings: Settings) -> Manifest:
    volumes, mounts = _volumes(job, plan)
    wanted = job.spec.training.resources
    train = plan.spec.stage == "train"
    cpu = (wanted.cpu if train else None) or CPU[plan.spec.stage]
    # Inference of one process needs one GPU at most, and preparing data none.
    gpus = {"train": wanted.gpus, "evaluate": min(1, wanted.gpus)}.get(plan.spec.stage, 0)
    container: Manifest = {
        "name": "stage",
        "image": settings.trainer_image,
        "command": _command(job, plan),
        "env": _environment(job, plan, cpu),
        "ports": [{"name": "progress", "containerPort": PORT, "protocol": "TCP"}],
        "resources": pod.resources(cpu, wanted.memory, gpus),
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "volumeMounts": mounts,
    }
    spec = pod.pod_spec(container, volumes, restart="Never", grace_seconds=GRACE_SECONDS)
    # The first process of a PID namespace ignores SIGTERM while it has no handler: a stage that still
    # loads, and torchrun that waits for the others, would hold their node for all of the grace.
    placed = {**spec, "shareProcessNamespace": True, **_placement(job, plan)}
    placed |= group.pod_fields(plan, _name(job, plan))
    return placed if plan.nodes == 1 else {**placed, **_gang(job, plan)}


def _queued(job: FineTuneJob, meta: Manifest) -> Manifest:
    queue = queue_of(job)
    return meta if queue is None else {**meta, "labels": {**meta["labels"], QUEUE: queue}}


def _held(job: FineTuneJob) -> Manifest:
    """Suspended until the queue starts it; a field that is never written again is never fought over."""
    return {} if queue_of(job) is None else {"suspend": True}


def _placement(job: FineTuneJob, plan: StagePlan) -> Manifest:
    """Scheduler, priority, and the nodes that may take the pod; data needs no GPU and is prepared anywhere."""
    wanted = job.spec.scheduling
    placed: Manifest = {}
    if wanted.scheduler_name is not None:
        placed["schedulerName"] = wanted.scheduler_name
    if wanted.priority_class_name is not None:
        placed["priorityClassName"] = wanted.priority_class_name
    if plan.spec.stage == "prepare":
        return placed
    if wanted.node_selector:
        placed["nodeSelector"] = dict(wanted.node_selector)
    if wanted.tolerations:
        placed["tolerations"] = [_toleration(toleration) for toleration in wanted.tolerations]
    return placed


def _toleration(toleration: Toleration) -> Manifest:
    return {name: value for name, value in toleration.wire().items() if value != ""}


def _gang(job: FineTuneJob, plan: StagePlan) -> Manifest:
    """Workers have names in the headless Service and stand on different nodes where that is possible."""
    spread = {
        "maxSkew": 1,
        "topologyKey": job.spec.scheduling.topology_key,
        "whenUnsatisfiable": "ScheduleAnyway",
        "labelSelector": {"matchLabels": stage_labels(job.metadata.name, *plan.key)},
    }
    return {"subdomain": _name(job, plan), "topologySpreadConstraints": [spread]}


def _command(job: FineTuneJob, plan: StagePlan) -> list[str]:
    stage = [plan.spec.stage, "--spec", pod.SPEC_FILE, "--workspace", pod.WORKSPACE]
    module = ["-m", "oikyo_trainer", *stage]
    if plan.nodes * plan.processes == 1:
        return ["python", *module]
    name = _name(job, plan)
    # The static backend: worker 0 hosts the c10d store because it is told so. torchrun's own c10d
    # backend guesses the host by looking its name up, and fails when the DNS is slower than the pod.
    host = f"{name}-0.{name}" if plan.nodes > 1 else "localhost"
    return [
        *("python", "-m", "torch.distributed.run"),
        *("--nnodes", str(plan.nodes), "--nproc-per-node", str(plan.processes)),
        *("--node-rank", INDEX if plan.nodes > 1 else "0"),
        *("--rdzv-backend", "static", "--rdzv-endpoint", f"{host}:{RENDEZVOUS_PORT}"),
        *("--rdzv-id", f"{plan.spec.run}-{plan.spec.attempt}", "--max-restarts", "0"),
        # torchrun gives up after ten minutes by itself, a failure that counts; how long a gang may
        # wait for its last pod is the controller's to say.
        *("--rdzv-conf", f"timeout={int(limit(job).total_seconds())}"),
        *module,
    ]


def _environment(job: FineTuneJob, plan: StagePlan, cpu: str) -> list[Manifest]:
    count = pod.threads(cpu, plan.processes)
    if plan.spec.stage != "prepare":
        return pod.environment(OMP_NUM_THREADS=count, HF_HUB_OFFLINE="1")
    values = pod.environment(OMP_NUM_THREADS=count)
    secret = job.spec.model.secret_name
    if secret is None:
        return values
    key: Manifest = {"name": secret, "key": "token"}
    if in_bucket(job.spec.model.base):
        key["optional"] = (
            True  # the Secret is there for the bucket; a token for hf:// data is extra
        )
    return [*values, {"name": "HF_TOKEN", "valueFrom": {"secretKeyRef": key}}]


def _volumes(job: FineTuneJob, plan: StagePlan) -> tuple[list[Manifest], list[Manifest]]:
    """Volumes and their mounts. Only prepare sees the sources; it copies what later stages need."""
    volumes = [
        pod.spec_volume(),
        pod.claim_volume("workspace", claim_name(job)),
        {"name": "tmp", "emptyDir": {}},
    ]
    mounts = [
        pod.mount("spec", pod.SPEC_FOLDER, read_only=True),
        pod.mount("workspace", pod.WORKSPACE),
        pod.mount("tmp", "/tmp"),
    ]
    if plan.spec.stage == "train":
        # Data loaders and collectives share memory between processes; the default is 64 MiB.
        volumes.append({"name": "shm", "emptyDir": {"medium": "Memory"}})
        mounts.append(pod.mount("shm", "/dev/shm"))
    if plan.spec.stage == "prepare":
        sources, places = _sources(job)
        return volumes + sources, mounts + places
    return volumes, mounts


def _sources(job: FineTuneJob) -> tuple[list[Manifest], list[Manifest]]:
    where = Mounts()
    volumes: list[Manifest] = []
    mounts: list[Manifest] = []
    for number, claim in enumerate(claims_of(job.spec)):
        own = claim == claim_name(job)
        name = "workspace" if own else f"claim-{number}"
        volumes += [] if own else [pod.claim_volume(name, claim)]
        mounts.append(pod.mount(name, f"{where.claims_root}/{claim}", read_only=True))
    for number, config in enumerate(configmaps_of(job.spec)):
        volumes.append({"name": f"configmap-{number}", "configMap": {"name": config}})
        place = f"{where.configmaps_root}/{config}"
        mounts.append(pod.mount(f"configmap-{number}", place, read_only=True))
    for number, secret in enumerate(secrets_of(job.spec)):
        # Files, not variables: several sources may each have their own credentials.
        volumes.append({"name": f"secret-{number}", "secret": {"secretName": secret}})
        place = f"{where.secrets_root}/{secret}"
        mounts.append(pod.mount(f"secret-{number}", place, read_only=True))
    return volumes, mounts
