"""apply: make what must exist exist, one mutating request at a time, and nothing for an unchanged child.

`build` brings what is named into being, `clear` removes what is not named. Each sends at most one
mutating request and says whether it did; the caller looks again before the next. Names are
deterministic, so a step whose answer was lost is found done (409) instead of done twice.
"""

from __future__ import annotations

from collections.abc import Iterable, Set

from oikyo.api.finetunejob import FineTuneJob
from oikyo.api.meta import ANNOTATION_HASH, LABEL_ATTEMPT, LABEL_JOB, LABEL_STAGE
from oikyo.api.modelendpoint import ModelEndpoint

from . import manifests
from .cache import Cache
from .cluster import FIELD_MANAGER, Cluster, ConflictError, NotFoundError, RefusedError
from .kinds import (
    AUTOSCALERS,
    BUDGETS,
    DEPLOYMENTS,
    FINE_TUNE_JOBS,
    GROUPS,
    SERVICES,
    Kind,
    Object,
    kind_of,
)
from .kinds import JOBS as BATCH_JOBS
from .manifests import Manifest, Settings
from .observe import ended, owned_by, stage_jobs
from .observed import Children, ServerPlan

REPLICAS_MANAGER = "oikyo-replicas"
SERVER_KINDS = (DEPLOYMENTS, AUTOSCALERS, BUDGETS, SERVICES)


class Hands:
    """Carries out decisions on one cluster, and tells the cache what it did."""

    def __init__(self, cluster: Cluster, cache: Cache, settings: Settings) -> None:
        self._cluster = cluster
        self._cache = cache
        self._settings = settings

    async def build(self, job: FineTuneJob, children: Children) -> bool:
        """Create the first named child that does not exist."""
        for manifest in self._named(job, children):
            kind, name = (
                kind_of(manifest["apiVersion"], manifest["kind"]),
                manifest["metadata"]["name"],
            )
            if self._cache.get(kind, job.metadata.namespace, name) is None:
                await self._create(kind, manifest)
                return True
        return False

    def _named(self, job: FineTuneJob, children: Children) -> Iterable[Manifest]:
        if children.claim is not None:
            yield manifests.claim(job, children.claim)
        if children.version is not None:
            yield manifests.version(job, children.version)
        if children.endpoint is not None:
            yield manifests.endpoint(job, children.endpoint)
        for plan in children.stages:
            yield from manifests.stage(job, plan, self._settings)

    async def clear(self, job: FineTuneJob, children: Children) -> bool:
        """Delete the first stage attempt that must not be there, its group before its Job: the Job is
        watched and tells of the group, and not the other way round."""
        wanted = {plan.key for plan in children.stages}
        if await self._clear_groups(job, wanted | children.keep):
            return True
        for item in stage_jobs(job, self._cache):
            key = _attempt(item)
            kept = key in children.keep and ended(item) is not None
            if key in wanted or kept or "deletionTimestamp" in item["metadata"]:
                continue
            await self._delete(BATCH_JOBS, item)
            return True
        return await self._clear_services(job, children)

    async def _clear_groups(self, job: FineTuneJob, wanted: Set[tuple[str, int]]) -> bool:
        for kind in GROUPS:
            for item in _of_job(self._cache, kind, job):
                if _attempt(item) not in wanted:
                    if await self._delete(kind, item):
                        # It stays for as long as pods name it; nobody tells when it is gone.
                        self._cache.drop(kind, item)
                    return True
        return False

    async def _clear_services(self, job: FineTuneJob, children: Children) -> bool:
        """A stage's headless Service goes once nobody needs to find its workers."""
        wanted = {plan.key for plan in children.stages} | set(children.keep)
        for item in _of_job(self._cache, SERVICES, job):
            if _attempt(item) not in wanted and owned_by(item, job.metadata.uid):
                await self._delete(SERVICES, item)
                return True
        return False

    async def remove(self, job: FineTuneJob, item: Object) -> None:
        """Delete the FineTuneJob itself; its children follow by their owner references."""
        await self._delete(FINE_TUNE_JOBS, item)

    async def serve(self, endpoint: ModelEndpoint, plan: ServerPlan) -> bool:
        """Apply the first object of the server that is absent or of an older intent."""
        for manifest in manifests.server(endpoint, plan, self._settings):
            kind = kind_of(manifest["apiVersion"], manifest["kind"])
            known = self._cache.get(kind, endpoint.metadata.namespace, endpoint.metadata.name)
            if known is None or _hash(known) != _hash(manifest):
                await self._apply(kind, manifest, endpoint)
                return True
        return False

    async def unserve(self, endpoint: ModelEndpoint, plan: ServerPlan | None) -> bool:
        """Delete the first object of the server that the plan no longer contains."""
        made = () if plan is None else manifests.server(endpoint, plan, self._settings)
        wanted = {kind_of(m["apiVersion"], m["kind"]) for m in made}
        for kind in SERVER_KINDS:
            item = self._cache.get(kind, endpoint.metadata.namespace, endpoint.metadata.name)
            stays = item is None or kind in wanted or "deletionTimestamp" in item["metadata"]
            if item is not None and not stays and owned_by(item, endpoint.metadata.uid):
                await self._delete(kind, item)
                return True
        return False

    async def _create(self, kind: Kind, manifest: Manifest) -> None:
        try:
            self._cache.put(kind, await self._cluster.create(kind, manifest))
        except ConflictError:
            await self._take_existing(kind, manifest)

    async def _take_existing(self, kind: Kind, manifest: Manifest) -> None:
        """The name is taken: by our own earlier step, or by somebody whose object we must not touch."""
        metadata = manifest["metadata"]
        found = await self._cluster.get(kind, metadata["namespace"], metadata["name"])
        wanted = {owner["uid"] for owner in metadata.get("ownerReferences", ())}
        if wanted and not any(owned_by(found, uid) for uid in wanted):
            # Not put into the cache: no watch of ours tells of it, and there it would pass for our own.
            if "deletionTimestamp" in found["metadata"]:
                raise ConflictError(
                    f"an earlier {kind.kind} {metadata['name']} is still being deleted"
                )
            raise _taken(kind, found)
        self._cache.put(kind, found)

    async def _apply(self, kind: Kind, manifest: Manifest, endpoint: ModelEndpoint) -> None:
        """Server-side apply, after a live look that the name is free or ours (an apply would adopt)."""
        metadata = manifest["metadata"]
        try:
            found = await self._cluster.get(kind, metadata["namespace"], metadata["name"])
        except NotFoundError:
            found = None
        if found is not None and not owned_by(found, endpoint.metadata.uid):
            raise _taken(kind, found)
        if found is not None and gives_up_replicas(found, manifest):
            # Whoever gives up the field alone resets it to 1; the autoscaler would start from there.
            held = only_replicas(found)
            found = await self._cluster.apply(kind, held, manager=REPLICAS_MANAGER)
        self._cache.put(kind, await self._cluster.apply(kind, _only_after(found, manifest)))

    async def _delete(self, kind: Kind, item: Object) -> bool:
        """A live look first: the cache may be behind, and deleting cannot be taken back.

        What has changed since is only taken in, and the answer is False: it may be a result that
        another decision would keep.
        """
        metadata = item["metadata"]
        try:
            live = await self._cluster.get(kind, metadata["namespace"], metadata["name"])
        except NotFoundError:
            self._cache.drop(kind, item)
            return True
        if live["metadata"]["uid"] != metadata["uid"]:
            self._cache.drop(kind, item)
            return True
        if live["metadata"]["resourceVersion"] != metadata["resourceVersion"]:
            self._cache.put(kind, live)
            return False
        answer = await self._cluster.delete(kind, live)
        if answer is not None and answer.get("kind") == kind.kind:
            self._cache.put(kind, answer)
        else:
            self._cache.drop(kind, item)
        return True


def _only_after(found: Object | None, manifest: Manifest) -> Manifest:
    """The intent for the very object that was looked at: whoever wrote in between knew better."""
    if found is None:
        return manifest
    version = {"resourceVersion": found["metadata"]["resourceVersion"]}
    return {**manifest, "metadata": {**manifest["metadata"], **version}}


def gives_up_replicas(found: Object, manifest: Manifest) -> bool:
    """Whether applying `manifest` would be the first to leave the number of replicas to others."""
    if "replicas" in manifest["spec"]:
        return False
    entries = [
        entry
        for entry in found["metadata"].get("managedFields", ())
        if "f:replicas" in entry.get("fieldsV1", {}).get("f:spec", {})
    ]
    return [entry["manager"] for entry in entries] == [FIELD_MANAGER]


def only_replicas(found: Object) -> Manifest:
    """The number of replicas as it is, for another manager to hold until the autoscaler writes it."""
    meta = {name: found["metadata"][name] for name in ("name", "namespace")}
    spec = {"replicas": found["spec"]["replicas"]}
    return {
        "apiVersion": found["apiVersion"],
        "kind": found["kind"],
        "metadata": meta,
        "spec": spec,
    }


def _attempt(item: Object) -> tuple[str, int]:
    labels = item["metadata"].get("labels", {})
    return labels.get(LABEL_STAGE, ""), int(labels.get(LABEL_ATTEMPT, "0"))


def _of_job(cache: Cache, kind: Kind, job: FineTuneJob) -> list[Object]:
    return cache.labelled(kind, job.metadata.namespace, LABEL_JOB, job.metadata.name)


def _hash(item: Object) -> str:
    return str(item["metadata"].get("annotations", {}).get(ANNOTATION_HASH, ""))


def _taken(kind: Kind, found: Object) -> RefusedError:
    metadata = found["metadata"]
    return RefusedError(
        f"{kind.kind} {metadata['name']} exists in namespace {metadata['namespace']} and belongs to "
        "somebody else: rename or delete it, or choose another name"
    )
