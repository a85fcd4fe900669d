"""What the cluster offers beside Kubernetes itself, by discovery: asked for, never assumed."""

from __future__ import annotations

import time
from collections.abc import Callable

from .cluster import Cluster
from .kinds import Kind

FRESH_SECONDS = 60.0


class Features:
    """The API groups of the cluster and their resources, remembered for a minute."""

    def __init__(self, cluster: Cluster, clock: Callable[[], float] = time.monotonic) -> None:
        self._cluster = cluster
        self._clock = clock
        self._groups: frozenset[str] = frozenset()
        self._resources: dict[str, frozenset[str]] = {}
        self._asked: dict[str, float] = {}

    async def has(self, group: str) -> bool:
        """Whether the API server serves this group. Raises ClusterError."""
        if group not in self._groups and self._stale("/apis"):
            self._groups = await self._cluster.groups()
            self._asked["/apis"] = self._clock()
        return group in self._groups

    async def serves(self, kind: Kind) -> bool:
        """Whether the API server serves this very resource: its group may be there without it, and a
        gate that is on today may be off tomorrow. Raises ClusterError."""
        if self._stale(kind.api_version):
            self._resources[kind.api_version] = await self._cluster.resources(kind.api_version)
            self._asked[kind.api_version] = self._clock()
        return kind.plural in self._resources[kind.api_version]

    def _stale(self, question: str) -> bool:
        asked = self._asked.get(question)
        return asked is None or self._clock() - asked >= FRESH_SECONDS
