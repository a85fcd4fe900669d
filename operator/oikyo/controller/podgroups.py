"""The PodGroups of attempts, asked for by name: no watch can stand on an API that few clusters serve.

They are known to the cache like everything else, and `look` keeps that honest while pods wait for a place.
"""

from __future__ import annotations

from oikyo.api.finetunejob import FineTuneJob
from oikyo.api.meta import LABEL_JOB

from .cache import Cache, Key
from .cluster import Cluster, NotFoundError
from .kinds import GROUPS, Kind, Object
from .observe import ended, group_kind, owned_by, pods_of, stage_jobs


class PodGroups:
    """What the cache knows of PodGroups, brought up to date."""

    def __init__(self, cluster: Cluster, cache: Cache) -> None:
        self._cluster = cluster
        self._cache = cache

    async def look(self, job: FineTuneJob) -> None:
        """Ask for the group of every attempt that waits for it, or whose group is not known."""
        self._forget(job.metadata.namespace, job.metadata.name, keep=job.metadata.uid)
        for item in stage_jobs(job, self._cache):
            kind = group_kind(item)
            if kind is not None and self._unsure(kind, item):
                await self._ask(kind, item)

    def forget(self, key: Key) -> None:
        """The job is gone, and its groups with it: nobody else will tell."""
        self._forget(key.namespace, key.name)

    def _forget(self, namespace: str, job: str, keep: str = "") -> None:
        for kind in GROUPS:
            for item in self._cache.labelled(kind, namespace, LABEL_JOB, job):
                if not owned_by(item, keep):
                    self._cache.drop(kind, item)

    def _unsure(self, kind: Kind, item: Object) -> bool:
        known = self._cache.get(kind, item["metadata"]["namespace"], item["metadata"]["name"])
        if known is None or ended(item) is not None:
            return known is None
        placed = [pod for pod in pods_of(item, self._cache) if pod.get("spec", {}).get("nodeName")]
        wanted: int = item["spec"].get("completions", 1)
        return len(placed) < wanted

    async def _ask(self, kind: Kind, item: Object) -> None:
        namespace, name = item["metadata"]["namespace"], item["metadata"]["name"]
        try:
            self._cache.put(kind, await self._cluster.get(kind, namespace, name))
        except NotFoundError:
            if (known := self._cache.get(kind, namespace, name)) is not None:
                self._cache.drop(kind, known)
