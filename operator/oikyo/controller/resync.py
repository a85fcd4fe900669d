"""Compares the cache with fresh lists: at start, on every new leadership, and every five minutes.

A watch that breaks and lists anew does not tell what was deleted in between; this does.
"""

from __future__ import annotations

import asyncio
import logging

from oikyo.errors import ClusterError

from .cache import Cache
from .cluster import Cluster
from .kinds import WARNINGS, WATCHED

log = logging.getLogger("oikyo.resync")

INTERVAL_SECONDS = 300.0


async def resync(cluster: Cluster, cache: Cache, scopes: tuple[str | None, ...]) -> None:
    """List every watched kind and take over what is new and what is gone. Raises ClusterError."""
    for kind in WATCHED:
        if kind is WARNINGS:
            continue  # Events are hints, and expire by themselves.
        for namespace in scopes:
            before = cache.snapshot(kind, namespace)
            fresh = [item async for item in cluster.list(kind, namespace)]
            ghosts = cache.replace(kind, before, fresh)
            if ghosts:
                log.info("%s: %d objects were gone without a word", kind.plural, ghosts)


async def keep_in_sync(cluster: Cluster, cache: Cache, scopes: tuple[str | None, ...]) -> None:
    while True:
        await asyncio.sleep(INTERVAL_SECONDS)
        try:
            await resync(cluster, cache, scopes)
        except ClusterError as error:
            log.warning("could not compare with the cluster: %s", error)
