"""What is seen and what is decided: the two values between which the whole controller lives.

Both pairs of hands (the cluster, the desktop) fill `Observed` and carry out `Decision`. Frozen, no I/O.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Literal

from oikyo.api.jobstatus import FineTuneJobStatus
from oikyo.api.modelendpoint import ModelEndpoint, ModelEndpointSpec, ModelEndpointStatus
from oikyo.api.modelversion import ModelVersion, ModelVersionSpec
from oikyo.api.stages import LastWords, RunSpec, ServeSpec, StageProgress

WorkerState = Literal["Pending", "Running", "Succeeded", "Failed"]
StageState = Literal["Pending", "Running", "Succeeded", "Failed"]
GroupApi = Literal["Kubernetes", "Volcano"]
"""Whose PodGroup it is: scheduling.k8s.io or scheduling.volcano.sh."""


@dataclass(frozen=True)
class Worker:
    """One pod (or local process) of a stage."""

    name: str
    rank: int
    state: WorkerState
    exit_code: int | None = None
    reason: str = ""
    """The platform's word: OOMKilled, Evicted, ImagePullBackOff, Unschedulable, NodeLost, Error…"""
    message: str = ""
    """The platform's sentence, for example the scheduler's."""
    node: str = ""
    words: LastWords | None = None
    """How it ended, in its own words."""
    checkpoint_step: int | None = None
    """Newest checkpoint that it is known to have committed."""
    leaves: datetime | None = None
    """When the time is over that it has to end in, since it was deleted."""
    started: datetime | None = None
    """When its container began to run."""
    log: str = ""
    """The command with which a person reads its log."""


@dataclass(frozen=True)
class StageRun:
    """One attempt of one stage, as it exists."""

    stage: str
    attempt: int
    state: StageState
    workers: tuple[Worker, ...] = ()
    progress: StageProgress | None = None
    words: LastWords | None = None
    """Of rank 0, when it has said them."""
    started: datetime | None = None
    finished: datetime | None = None
    warning: str = ""
    """Newest Warning event of the Job, for waits that the pods do not explain."""
    spec_digest: str = ""
    """Input digest of the spec it was started with."""
    nodes: int = 1
    """Pods that it has when all are there."""
    suspended: bool = False
    """Whether a queue holds it back."""
    group: GroupApi | None = None
    """Whose PodGroup its pods name, if any."""
    unplaced: str = ""
    """The scheduler's words about that group while it cannot be placed."""
    told_step: int = 0
    """Newest checkpoint that it told of while it could be asked, as the job's status keeps it."""
    excused: bool = False
    """Whether the machine ended it, as far as the job's status keeps it."""


@dataclass(frozen=True)
class Claim:
    """A PersistentVolumeClaim (or a folder)."""

    name: str
    phase: str
    """Pending, Bound or Lost."""
    access_modes: tuple[str, ...] = ()
    message: str = ""


@dataclass(frozen=True)
class Mounts:
    """Where the hands put what a URI names, as a stage sees it."""

    workspace: str = "/workspace"
    claims: Mapping[str, str] = field(default_factory=dict)
    """Claim name -> folder; a claim that is not named lies under `claims_root`."""
    claims_root: str = "/mnt/claims"
    configmaps: Mapping[str, str] = field(default_factory=dict)
    """ConfigMap name -> folder; one that is not named lies under `configmaps_root`."""
    configmaps_root: str = "/mnt/configmaps"
    secrets_root: str = "/mnt/secrets"
    """Folder with one folder for each Secret of a bucket, a file for each key."""
    files: str | None = None
    """Folder against which a relative file:// path is read; None: file:// is refused (a cluster)."""


@dataclass(frozen=True)
class Observed:
    """Everything a decision about one FineTuneJob may rest on."""

    runs: tuple[StageRun, ...] = ()
    """Every attempt of every stage that exists, ordered by stage and attempt."""
    workspace: Claim | None = None
    """The claim that the job uses; None when it does not exist."""
    missing: tuple[str, ...] = ()
    """Sentences about objects that the spec names and that do not exist or cannot be used:
    "PersistentVolumeClaim datasets does not exist in namespace default"."""
    version: ModelVersion | None = None
    """The ModelVersion made by this job."""
    versions: tuple[ModelVersion, ...] = ()
    """All versions of the same model."""
    endpoint: ModelEndpoint | None = None
    """The endpoint of the same model, whoever made it."""
    image: str = ""
    """Trainer image, by digest where a pod's status told it."""
    mounts: Mounts = Mounts()
    desktop: bool = False
    queues: bool = True
    """Whether the cluster has Kueue; looked up only where the job names a queue of it."""
    groups: frozenset[GroupApi] = frozenset()
    """Whose PodGroups the cluster serves; looked up only where the job would have one."""


@dataclass(frozen=True)
class StagePlan:
    """One attempt of one stage that must exist."""

    spec: RunSpec
    nodes: int = 1
    processes: int = 1
    """Processes of one node; more than one process in all means torchrun."""
    group: GroupApi | None = None
    """Whose PodGroup it gets; None: none, and its pods are placed one by one."""

    @property
    def key(self) -> tuple[str, int]:
        return self.spec.stage, self.spec.attempt


@dataclass(frozen=True)
class ClaimPlan:
    """The workspace claim that must exist."""

    name: str
    size: str
    access_mode: str
    storage_class: str | None
    owned: bool
    """Whether it goes when the job goes."""


@dataclass(frozen=True)
class VersionPlan:
    name: str
    spec: ModelVersionSpec
    owned: bool


@dataclass(frozen=True)
class EndpointPlan:
    name: str
    spec: ModelEndpointSpec
    owned: bool


@dataclass(frozen=True)
class Children:
    """What must exist, whole. A stage attempt that is not named here must not run; one that is named
    and has ended stays as it is. Claims, versions and endpoints that are not named stay too."""

    stages: tuple[StagePlan, ...] = ()
    keep: frozenset[tuple[str, int]] = frozenset()
    """Ended attempts (stage, attempt) that stay as history; all other ended attempts are removed."""
    claim: ClaimPlan | None = None
    version: VersionPlan | None = None
    endpoint: EndpointPlan | None = None


@dataclass(frozen=True)
class Event:
    """One line of the story. A Warning's message ends with the next command to run."""

    type: Literal["Normal", "Warning"]
    reason: str
    message: str


@dataclass(frozen=True)
class Decision:
    """What ought to be true next."""

    children: Children
    status: FineTuneJobStatus
    """The whole next status, never a patch."""
    events: tuple[Event, ...] = ()
    """Told only after the status write has succeeded."""
    wake_after: timedelta | None = None
    """Look again after this long, even if nothing happens; None: only when something changes."""
    delete: bool = False
    """The job object itself is to be deleted (ttlSecondsAfterFinished)."""


@dataclass(frozen=True)
class EndpointObserved:
    """Everything a decision about one ModelEndpoint may rest on."""

    versions: tuple[ModelVersion, ...] = ()
    """All versions of the model and of the models of its adapters."""
    replicas: int = 0
    ready_replicas: int = 0
    updated_replicas: int = 0
    served: ServeSpec | None = None
    """What the Deployment's pod template tells its server; None when there is no Deployment."""
    rolled_out: bool = False
    """The Deployment's newest template is fully available."""
    trouble: str = ""
    """The root cause in a server pod (ImagePullBackOff, CrashLoopBackOff, Unschedulable…), as a sentence."""


@dataclass(frozen=True)
class ServerPlan:
    """The server that must exist: a Deployment, Service, autoscaler and disruption budget."""

    spec: ServeSpec
    claim: str
    endpoint: ModelEndpointSpec


@dataclass(frozen=True)
class EndpointDecision:
    server: ServerPlan | None
    """What must exist; None: nothing."""
    status: ModelEndpointStatus
    events: tuple[Event, ...] = ()
    wake_after: timedelta | None = None
    keep: bool = False
    """Whatever exists stays as it is, and nothing is made."""
