"""Writing reports: the status of an object, only if it differs, and the events that go with it."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterable
from typing import TypeVar

from oikyo.api.jobstatus import FineTuneJobStatus
from oikyo.api.modelendpoint import ModelEndpointStatus

from .cache import Cache
from .cluster import Cluster
from .kinds import EVENTS, Kind, Object
from .observed import Event

PROGRESS_SECONDS = 15.0
"""Least time between two writes of one object that tell nothing but progress."""
REPEAT_SECONDS = 60.0
"""Least time between two equal events about one object."""
_REMEMBERED = 4096
_NOTE = 1024
"""Bytes that the API allows for the words of an event."""

Status = TypeVar("Status", FineTuneJobStatus, ModelEndpointStatus)


class Reporter:
    """Writes statuses and events of the objects that this replica leads."""

    def __init__(
        self,
        cluster: Cluster,
        cache: Cache,
        instance: str,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._cluster = cluster
        self._cache = cache
        self._instance = instance[:128]
        self._clock = clock
        self._written: dict[str, float] = {}
        self._told: dict[tuple[str, str, str], float] = {}

    def due(self, uid: str, old: Status, new: Status) -> float:
        """Seconds until `new` may be written over `old`; above 0 only for mere progress."""
        if _without_progress(old) != _without_progress(new):
            return 0.0
        return max(0.0, self._written.get(uid, float("-inf")) + PROGRESS_SECONDS - self._clock())

    async def status(self, kind: Kind, item: Object, status: Object) -> None:
        """One request. ConflictError when `item` is not the newest state of the object."""
        self._cache.put(kind, await self._cluster.replace_status(kind, item, status))
        self._written[item["metadata"]["uid"]] = self._clock()
        _trim(self._written)

    async def events(self, kind: Kind, item: Object, events: Iterable[Event]) -> None:
        """Tell each event, unless the same was told less than a minute ago."""
        uid = item["metadata"]["uid"]
        for event in events:
            told = (uid, event.reason, event.message)
            if self._clock() - self._told.get(told, float("-inf")) < REPEAT_SECONDS:
                continue
            self._told[told] = self._clock()
            _trim(self._told)
            await self._cluster.create(EVENTS, self._event(kind, item, event))

    def _event(self, kind: Kind, item: Object, event: Event) -> Object:
        metadata = item["metadata"]
        moment = self._cluster.clock.now()  # of a node's own clock `kubectl get events` makes ages
        text = f"{metadata['uid']}/{event.reason}/{event.message}/{moment.timestamp()}"
        mark = hashlib.sha256(text.encode()).hexdigest()[:16]
        return {
            "apiVersion": EVENTS.api_version,
            "kind": EVENTS.kind,
            "metadata": {
                "name": f"{metadata['name']}.{mark}",
                "namespace": metadata["namespace"],
            },
            "eventTime": moment.strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
            "type": event.type,
            "reason": event.reason,
            "note": event.message.encode()[:_NOTE].decode(errors="ignore"),
            "action": "Reconcile",
            "reportingController": "oikyo.dev/controller",
            "reportingInstance": self._instance,
            "regarding": {
                "apiVersion": kind.api_version,
                "kind": kind.kind,
                "namespace": metadata["namespace"],
                "name": metadata["name"],
                "uid": metadata["uid"],
            },
        }


def _without_progress(status: Status) -> Object:
    """A first checkpoint of an attempt is news, because it will cost no budget then; a newer one is progress."""
    wire = {k: v for k, v in status.wire().items() if k not in ("progress", "loss")}
    if "stages" in wire:
        told = ({**one, "checkpointStep": "checkpointStep" in one} for one in wire["stages"])
        wire["stages"] = list(told)
    return wire


def _trim(
    memory: dict[object, float] | dict[str, float] | dict[tuple[str, str, str], float],
) -> None:
    """Forget the oldest entries: memory must not grow with the number of jobs ever seen."""
    while len(memory) > _REMEMBERED:
        del memory[next(iter(memory))]  # type: ignore[arg-type]  # the key came from this dictionary
