"""What the cluster offers beside Kubernetes itself, by discovery: asked for, never assumed."""

from __future__ import annotations

import time
from collections.abc import Callable

from .cluster import Cluster

KUEUE = "kueue.x-k8s.io"
FRESH_SECONDS = 60.0


class Features:
    """The API groups of the cluster, remembered for a minute."""

    def __init__(self, cluster: Cluster, clock: Callable[[], float] = time.monotonic) -> None:
        self._cluster = cluster
        self._clock = clock
        self._groups: frozenset[str] = frozenset()
        self._asked = -FRESH_SECONDS

    async def has(self, group: str) -> bool:
        """Whether the API server serves this group. Raises ClusterError."""
        if group not in self._groups and self._clock() - self._asked >= FRESH_SECONDS:
            self._groups, self._asked = await self._cluster.groups(), self._clock()
        return group in self._groups
