"""reconcile(key): the only entry point of each kind. Observe, decide, apply, and again until it is quiet."""

from __future__ import annotations

import logging
import time
from dataclasses import replace

from pydantic import ValidationError

from oikyo.api.finetunejob import FineTuneJob
from oikyo.api.jobstatus import FineTuneJobStatus
from oikyo.api.meta import LABEL_JOB, MANAGED_BY
from oikyo.api.modelendpoint import ModelEndpoint

from . import trouble
from .apply import Hands
from .cache import Cache, Key
from .cluster import Cluster, ConflictError, NotLeaderError, RefusedError
from .decide import decide
from .endpoint import decide_endpoint
from .features import Features
from .kinds import (
    FINE_TUNE_JOBS,
    MODEL_ENDPOINTS,
    POD_GROUPS,
    PODS,
    VOLCANO_GROUPS,
    Kind,
    Object,
)
from .metrics import Metrics
from .observe import observe, observe_endpoint, stage_jobs, unexplained
from .observed import Decision, EndpointDecision, GroupApi, Observed
from .podgroups import PodGroups
from .policies import groups, queues
from .progress import ProgressReader
from .report_writer import Reporter

log = logging.getLogger("oikyo.reconcile")

KIND_OF_GROUP: dict[GroupApi, Kind] = {"Kubernetes": POD_GROUPS, "Volcano": VOLCANO_GROUPS}
LAPSE_SECONDS = 2.0
"""How soon a visit that might not write is made again, if this replica leads by then."""
STEPS = 25
"""Steps of one visit; a decision that is not quiet by then lets others work first."""


class Reconciler:
    """One brain, this pair of hands."""

    def __init__(
        self,
        cluster: Cluster,
        cache: Cache,
        hands: Hands,
        reporter: Reporter,
        progress: ProgressReader,
        metrics: Metrics,
        image: str,
    ) -> None:
        self._cluster = cluster
        self._cache = cache
        self._hands = hands
        self._reporter = reporter
        self._progress = progress
        self._metrics = metrics
        self._image = image
        self._now = cluster.clock.now
        self._features = Features(cluster)
        self._groups = PodGroups(cluster, cache)
        self._asked: dict[Key, set[str]] = {}
        """Ended Jobs (uids) of whose pods the API server has been asked."""

    async def run(self, key: Key) -> float | None:
        """One visit; the seconds until the next, None for only when something changes."""
        visit = self._job if key.kind == FINE_TUNE_JOBS.kind else self._endpoint
        begun, result = time.monotonic(), "ok"
        try:
            return await visit(key)
        except NotLeaderError:
            # Not an error: the leader does this work, and a new leader visits everything. But a lease
            # that lapses while it is being renewed has no new leader, and nothing else wakes the key.
            return LAPSE_SECONDS
        except ConflictError:
            result = "conflict"
            raise
        except Exception:
            result = "error"
            raise
        finally:
            self._metrics.reconciles.labels(key.kind, result).inc()
            self._metrics.duration.labels(key.kind).observe(time.monotonic() - begun)

    async def _job(self, key: Key) -> float | None:
        for _ in range(STEPS):
            item = self._cache.get(FINE_TUNE_JOBS, key.namespace, key.name)
            if item is None or not _ours(item):
                self._metrics.forget(key)
                self._groups.forget(key)
                self._asked.pop(key, None)
                return None
            if "deletionTimestamp" in item["metadata"]:
                # Children carry owner references; the garbage collector does the rest.
                return None
            try:
                job = FineTuneJob.model_validate(item)
            except ValidationError as error:
                return await self._invalid(FINE_TUNE_JOBS, item, error)
            again, wait = await self._job_step(key, item, job)
            if not again:
                return wait
        return 1.0

    async def _job_step(
        self, key: Key, item: Object, job: FineTuneJob
    ) -> tuple[bool, float | None]:
        """Whether something was written (then look again), else when to come back."""
        await self._explain(key, job)
        await self._groups.look(job)
        seen = await observe(job, self._cache, self._progress.read, self._image)
        seen = await self._offered(job, seen)
        decision = decide(job, seen, self._now())
        self._metrics.jobs[key] = job.model_copy(update={"status": decision.status})
        try:
            if await self._hands.build(job, decision.children):
                return True, None
        except RefusedError as error:
            await self._refused(FINE_TUNE_JOBS, item, job, decision.status, error)
            raise
        wait = await self._report(item, job, decision)
        # Removed only after the report: what a failed attempt said must be written down first.
        if await self._hands.clear(job, decision.children):
            return True, None
        if decision.delete:
            await self._hands.remove(job, item)
            return False, None
        return False, _sooner(_seconds(decision), wait)

    async def _offered(self, job: FineTuneJob, seen: Observed) -> Observed:
        """What the cluster offers of what this job would use."""
        if queues.queue_of(job) is not None:
            seen = replace(seen, queues=await self._features.has(queues.GROUP))
        wanted = groups.wanted(job)
        if wanted is not None and await self._features.serves(KIND_OF_GROUP[wanted]):
            seen = replace(seen, groups=frozenset({wanted}))
        return seen

    async def _report(self, item: Object, job: FineTuneJob, decision: Decision) -> float | None:
        """Write the status if it differs; the seconds until a postponed one may be written."""
        if decision.status == job.status:
            return None
        wait = self._reporter.due(job.metadata.uid, job.status, decision.status)
        if wait > 0:
            return wait
        await self._reporter.status(FINE_TUNE_JOBS, item, decision.status.wire())
        _tell(job, decision.status)
        await self._reporter.events(FINE_TUNE_JOBS, item, decision.events)
        return None

    async def _explain(self, key: Key, job: FineTuneJob) -> None:
        """A Job that has ended before its pods' last states arrived: ask for them, once, instead of guessing."""
        asked = self._asked.setdefault(key, set())
        ended = {
            str(item["metadata"]["uid"])
            for item in stage_jobs(job, self._cache)
            if unexplained(item, self._cache)
        }
        if ended <= asked:
            return
        labels = f"{PODS.labels},{LABEL_JOB}={job.metadata.name}"
        async for pod in self._cluster.list(PODS, job.metadata.namespace, labels):
            self._cache.put(PODS, pod)
        asked |= ended

    async def _invalid(self, kind: Kind, item: Object, error: ValidationError) -> float | None:
        """A spec that was stored before a rule was tightened: say so, once, and leave it."""
        status = trouble.invalid(kind, item, error, self._now())
        if status != item.get("status"):
            await self._reporter.status(kind, item, status)
            await self._reporter.events(kind, item, (trouble.event(status),))
        return None

    async def _refused(
        self,
        kind: Kind,
        item: Object,
        of: FineTuneJob | ModelEndpoint,
        decided: trouble.Status,
        error: RefusedError,
    ) -> None:
        """What the cluster will not have becomes the object's own trouble; the visit is tried again."""
        status = trouble.refused(of, decided, error, self._now())
        if status != of.status:
            await self._reporter.status(kind, item, status.wire())
            await self._reporter.events(kind, item, (trouble.event(status.wire()),))

    async def _endpoint(self, key: Key) -> float | None:
        for _ in range(STEPS):
            item = self._cache.get(MODEL_ENDPOINTS, key.namespace, key.name)
            if item is None:
                self._metrics.forget(key)
                return None
            if "deletionTimestamp" in item["metadata"]:
                return None
            try:
                endpoint = ModelEndpoint.model_validate(item)
            except ValidationError as error:
                return await self._invalid(MODEL_ENDPOINTS, item, error)
            decision = decide_endpoint(
                endpoint, observe_endpoint(endpoint, self._cache), self._now()
            )
            self._metrics.endpoints[key] = endpoint.model_copy(update={"status": decision.status})
            try:
                if decision.server and await self._hands.serve(endpoint, decision.server):
                    continue
            except RefusedError as error:
                await self._refused(MODEL_ENDPOINTS, item, endpoint, decision.status, error)
                raise
            await self._report_endpoint(item, endpoint, decision)
            if decision.keep or not await self._hands.unserve(endpoint, decision.server):
                return _seconds(decision)
        return 1.0

    async def _report_endpoint(
        self, item: Object, endpoint: ModelEndpoint, decision: EndpointDecision
    ) -> None:
        if decision.status != endpoint.status:
            await self._reporter.status(MODEL_ENDPOINTS, item, decision.status.wire())
            await self._reporter.events(MODEL_ENDPOINTS, item, decision.events)


def _ours(item: Object) -> bool:
    return item.get("spec", {}).get("managedBy") in (None, MANAGED_BY)


def _seconds(decision: Decision | EndpointDecision) -> float | None:
    return None if decision.wake_after is None else decision.wake_after.total_seconds()


def _sooner(first: float | None, second: float | None) -> float | None:
    known = [wait for wait in (first, second) if wait is not None]
    return min(known, default=None)


def _tell(job: FineTuneJob, status: FineTuneJobStatus) -> None:
    """INFO tells the story of a job in about ten lines."""
    if status.phase != job.status.phase:
        name = f"{job.metadata.namespace}/{job.metadata.name}"
        log.info("job=%s phase=%s was=%s", name, status.phase, job.status.phase or "new")
