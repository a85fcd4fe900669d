"""One leader among the replicas, by a Lease: 15 s long, renewed every 2 s, given up after 10 s.

As in client-go: another's lease counts as expired when it has not changed for its whole length by our
own monotonic clock; no two machines' clocks are compared. Whoever cannot renew for 10 s stops writing
by itself, before anyone else may start.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from datetime import UTC, datetime

from oikyo.errors import ClusterError

from .cluster import Cluster, ConflictError, NotFoundError
from .kinds import LEASES, Object

log = logging.getLogger("oikyo.lease")

LEASE_SECONDS = 15.0
RENEW_SECONDS = 10.0
"""Without a renewal for this long, this replica no longer writes."""
RETRY_SECONDS = 2.0


class Lease:
    """`held()` is the only question that anyone may ask before writing."""

    def __init__(
        self,
        cluster: Cluster,
        namespace: str,
        name: str,
        identity: str,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._cluster = cluster
        self._namespace = namespace
        self._name = name
        self._identity = identity
        self._clock = clock
        self._renewed = float("-inf")
        self._seen: Object | None = None
        self._seen_at = float("-inf")

    def held(self) -> bool:
        return self._clock() - self._renewed < RENEW_SECONDS

    async def keep(self, started: Callable[[], None], stopped: Callable[[], None]) -> None:
        """Acquire, renew, lose and acquire again, for ever; tells when leading starts and stops."""
        leading = False
        while True:
            await self._try()
            if self.held() and not leading:
                log.info("leading as %s", self._identity)
                started()
            if leading and not self.held():
                log.warning("the lease was lost: writing nothing until it is back")
                stopped()
            leading = self.held()
            await asyncio.sleep(RETRY_SECONDS)

    async def release(self) -> None:
        """Give the lease away at once, so that the next leader need not wait for its end."""
        if not self.held() or self._seen is None:
            return
        self._renewed = float("-inf")
        spec = {**self._seen["spec"], "holderIdentity": "", "leaseDurationSeconds": 1}
        try:
            await self._cluster.keep_lease("put", self._path(), {**self._seen, "spec": spec})
        except ClusterError as error:
            log.warning("the lease was not released: %s", error)

    async def _try(self) -> None:
        asked = self._clock()
        try:
            if await self._acquire():
                # Counted from before the request: the server may have stored it just after.
                self._renewed = asked
        except ConflictError:
            self._seen = None
        except ClusterError as error:
            log.warning("cannot renew the lease: %s", error)

    async def _acquire(self) -> bool:
        if self.held() and self._seen is not None:
            return await self._write("put", self._seen)
        try:
            live = await self._cluster.keep_lease("get", self._path())
        except NotFoundError:
            return await self._write("post", None)
        self._notice(live)
        if self._foreign(live) and self._clock() - self._seen_at < self._length(live):
            return False
        return await self._write("put", live)

    def _notice(self, live: Object) -> None:
        """Note when another's record last changed, by our own clock."""
        version = live["metadata"]["resourceVersion"]
        if self._seen is None or self._seen["metadata"]["resourceVersion"] != version:
            self._seen, self._seen_at = live, self._clock()

    def _foreign(self, live: Object) -> bool:
        return live.get("spec", {}).get("holderIdentity", "") not in ("", self._identity)

    @staticmethod
    def _length(live: Object) -> float:
        return float(live["spec"].get("leaseDurationSeconds", LEASE_SECONDS))

    async def _write(self, verb: str, last: Object | None) -> bool:
        path = self._path() if last is not None else LEASES.path(self._namespace)
        self._seen = await self._cluster.keep_lease(verb, path, self._record(last))
        self._seen_at = self._clock()
        return True

    def _record(self, last: Object | None) -> Object:
        now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        before = {} if last is None else last.get("spec", {})
        changed = before.get("holderIdentity") != self._identity
        spec = {
            "holderIdentity": self._identity,
            "leaseDurationSeconds": int(LEASE_SECONDS),
            "acquireTime": now if changed else before.get("acquireTime", now),
            "renewTime": now,
            "leaseTransitions": before.get("leaseTransitions", 0)
            + (1 if changed and before else 0),
        }
        metadata = {"name": self._name, "namespace": self._namespace}
        if last is not None:
            metadata["resourceVersion"] = last["metadata"]["resourceVersion"]
        return {
            "apiVersion": LEASES.api_version,
            "kind": LEASES.kind,
            "metadata": metadata,
            "spec": spec,
        }

    def _path(self) -> str:
        return LEASES.path(self._namespace, self._name)
