"""observe and apply for the desktop: the same two values as on a cluster, with processes and files."""

from __future__ import annotations

from dataclasses import dataclass

from oikyo.api.finetunejob import FineTuneJob
from oikyo.api.meta import LABEL_JOB, LABEL_MODEL, ObjectMeta, OwnerReference
from oikyo.api.modelendpoint import ModelEndpoint
from oikyo.api.modelversion import ModelVersion
from oikyo.controller.observed import Claim, Decision, Mounts, Observed
from oikyo.controller.resolve import run_id

from .home import Home
from .mounts import missing
from .objects import Store, new_meta
from .processes import Processes


@dataclass(frozen=True)
class Hands:
    """What the brain sees with and acts with on a desktop."""

    home: Home
    mounts: Mounts
    processes: Processes

    @property
    def store(self) -> Store:
        return Store(self.home)

    def observe(self, job: FineTuneJob) -> Observed:
        """Everything that a decision about `job` may rest on, as it is now."""
        versions = self.store.versions(job.model_name)
        own = [v for v in versions if v.spec.lineage.job_uid == job.metadata.uid]
        endpoints = (e for e in self.store.all(ModelEndpoint) if e.spec.model == job.model_name)
        return Observed(
            runs=self.processes.observe(run_id(job)),
            workspace=Claim(str(self.home.workspace), "Bound", ("ReadWriteMany",)),
            missing=missing(job, self.mounts, self.home),
            version=own[-1] if own else None,
            versions=versions,
            endpoint=next(endpoints, None),
            mounts=self.mounts,
            desktop=True,
        )

    def apply(self, job: FineTuneJob, seen: Observed, decision: Decision) -> FineTuneJob:
        """Make it so; returns the job with its new status."""
        children = decision.children
        run, planned = run_id(job), {plan.key for plan in children.stages}
        exist = {(item.stage, item.attempt): item for item in seen.runs}
        alive = {key for key, item in exist.items() if item.state in ("Pending", "Running")}
        self.processes.stop(run, frozenset(alive - planned))
        self.processes.remove(run, frozenset(exist.keys() - alive - planned - children.keep))
        for plan in children.stages:
            if plan.key not in exist:
                self.processes.start(plan)
        if (version := children.version) is not None:
            meta = _owned(job, version.name, owned=version.owned)
            self.store.put(ModelVersion(metadata=meta, spec=version.spec))
        if (endpoint := children.endpoint) is not None:
            meta = _owned(job, endpoint.name, owned=endpoint.owned)
            self.store.put(ModelEndpoint(metadata=meta, spec=endpoint.spec))
        return self._write_status(job, decision)

    def _write_status(self, job: FineTuneJob, decision: Decision) -> FineTuneJob:
        if decision.delete:
            self.store.remove(FineTuneJob, job.metadata.name)
        elif decision.status != job.status:
            # `spec.suspend` of a Ctrl-C lives in memory only: the file keeps what the user wrote.
            stored = self.store.get(FineTuneJob, job.metadata.name) or job
            self.store.put(stored.model_copy(update={"status": decision.status}))
        return job.model_copy(update={"status": decision.status})


def _owned(job: FineTuneJob, name: str, *, owned: bool) -> ObjectMeta:
    """Metadata of something that the job made; `owned` when it goes with the job."""
    labels = {LABEL_JOB: job.metadata.name, LABEL_MODEL: job.model_name}
    owner = OwnerReference(
        api_version=job.api_version,
        kind=job.kind,
        name=job.metadata.name,
        uid=job.metadata.uid,
        controller=True,
    )
    owners = (owner,) if owned else ()
    return new_meta(name).model_copy(update={"labels": labels, "owner_references": owners})
