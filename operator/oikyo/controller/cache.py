"""What the watches have told so far: one dictionary, newer beats older, and who must look again.

Own writes are put in at once, so that a decision never rests on a state before its own last step.
Deletions that a watch missed are found by comparing with a fresh list (see `resync`). Pods of a stage
are remembered when they are gone, as long as their Job is there: they tell how its attempt ended.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from oikyo.api.meta import LABEL_ENDPOINT, LABEL_JOB

from .kinds import (
    CLAIMS,
    FINE_TUNE_JOBS,
    JOBS,
    MODEL_ENDPOINTS,
    MODEL_VERSIONS,
    PODS,
    WARNINGS,
    Kind,
    Object,
)

GONE_SECONDS = 600.0
"""How long a deleted uid is remembered: late events of it must not bring it back."""
_WARNINGS_KEPT = 2000


@dataclass(frozen=True)
class Key:
    """One object to reconcile."""

    kind: str
    namespace: str
    name: str


class Cache:
    """Objects by kind, namespace and name. `wake` is called with every key that must look again."""

    def __init__(self, wake: Callable[[Key], None]) -> None:
        self._wake = wake
        self._objects: dict[Kind, dict[tuple[str, str], Object]] = defaultdict(dict)
        self._by_label: dict[tuple[Kind, str, str, str], dict[str, Object]] = defaultdict(dict)
        self._warnings: dict[str, tuple[int, Object]] = {}
        """Version and words of the newest Warning about the object with this uid."""
        self._gone: dict[str, float] = {}
        self._departed: dict[str, dict[str, Object]] = defaultdict(dict)
        """uid of a Job -> uid of a pod of it that is gone -> its last state."""

    def get(self, kind: Kind, namespace: str, name: str) -> Object | None:
        return self._objects[kind].get((namespace, name))

    def all(self, kind: Kind) -> list[Object]:
        return list(self._objects[kind].values())

    def labelled(self, kind: Kind, namespace: str, label: str, value: str) -> list[Object]:
        """Objects with this label, by name; only LABEL_JOB and LABEL_ENDPOINT are indexed."""
        found = self._by_label.get((kind, namespace, label, value), {})
        return [found[name] for name in sorted(found)]

    def warning(self, uid: str) -> Object | None:
        """Newest Warning event about the object with this uid."""
        return self._warnings[uid][1] if uid in self._warnings else None

    def departed(self, job_uid: str) -> list[Object]:
        """The last states of the pods of a Job that are gone."""
        return list(self._departed.get(job_uid, {}).values())

    def put(self, kind: Kind, item: Object) -> None:
        """Take in an object unless a newer state of it is known or it is gone for good."""
        if kind is WARNINGS:
            self._warn(item)
            return
        metadata = item["metadata"]
        known = self.get(kind, metadata["namespace"], metadata["name"])
        if metadata["uid"] in self._gone or _older(item, known):
            return
        metadata.pop("managedFields", None)
        if known is not None:
            self._unindex(kind, known)
        self._objects[kind][(metadata["namespace"], metadata["name"])] = item
        for slot in _slots(kind, item):
            self._by_label[slot][metadata["name"]] = item
        self._wake_all(kind, item)

    def drop(self, kind: Kind, item: Object) -> None:
        """The object is gone. A newer object of the same name stays."""
        metadata = item["metadata"]
        if kind is WARNINGS:
            return
        self._forget_old()
        self._gone[metadata["uid"]] = time.monotonic()
        place = (metadata["namespace"], metadata["name"])
        known = self._objects[kind].get(place)
        if known is None or known["metadata"]["uid"] != metadata["uid"]:
            return
        del self._objects[kind][place]
        self._unindex(kind, known)
        self._warnings.pop(metadata["uid"], None)
        self._departed.pop(metadata["uid"], None)
        if kind is PODS:
            self._remember(known if _older(item, known) else item)
        self._wake_all(kind, known)

    def snapshot(self, kind: Kind, namespace: str | None) -> list[Object]:
        return [o for o in self.all(kind) if namespace in (None, o["metadata"]["namespace"])]

    def replace(self, kind: Kind, before: Iterable[Object], fresh: Iterable[Object]) -> int:
        """Compare what was known before a list with the list; returns how many ghosts were dropped."""
        alive: set[str] = set()
        for item in fresh:
            alive.add(item["metadata"]["uid"])
            self.put(kind, item)
        ghosts = [item for item in before if item["metadata"]["uid"] not in alive]
        for ghost in ghosts:
            self.drop(kind, ghost)
        return len(ghosts)

    def wake_everything(self) -> None:
        for kind in (FINE_TUNE_JOBS, MODEL_ENDPOINTS):
            for item in self.all(kind):
                self._wake(key_of(kind, item))

    def _unindex(self, kind: Kind, item: Object) -> None:
        for slot in _slots(kind, item):
            self._by_label[slot].pop(item["metadata"]["name"], None)
            if not self._by_label[slot]:
                del self._by_label[slot]

    def _warn(self, item: Object) -> None:
        about = item.get("involvedObject", {})
        uid = about.get("uid", "")
        if about.get("kind") not in ("Job", "Pod", "ReplicaSet") or not uid:
            return
        version = int(item["metadata"]["resourceVersion"])
        if uid in self._warnings and version < self._warnings[uid][0]:
            return  # a list gives events by name, and two that come at once are handled in any order
        self._warnings.pop(uid, None)
        told = {"reason": item.get("reason", ""), "message": item.get("message", "")}
        self._warnings[uid] = (version, told)
        while len(self._warnings) > _WARNINGS_KEPT:
            del self._warnings[next(iter(self._warnings))]
        kind = {"Job": JOBS, "Pod": PODS}.get(about["kind"])
        target = self.get(kind, about.get("namespace", ""), about.get("name", "")) if kind else None
        if kind is not None and target is not None:
            self._wake_all(kind, target)

    def _remember(self, pod: Object) -> None:
        for owner in pod["metadata"].get("ownerReferences", ()):
            job = self.get(JOBS, pod["metadata"]["namespace"], owner.get("name", ""))
            if job is not None and job["metadata"]["uid"] == owner["uid"]:
                self._departed[owner["uid"]][pod["metadata"]["uid"]] = pod

    def _forget_old(self) -> None:
        limit = time.monotonic() - GONE_SECONDS
        while self._gone and next(iter(self._gone.values())) < limit:
            del self._gone[next(iter(self._gone))]

    def _wake_all(self, kind: Kind, item: Object) -> None:
        for key in self._concerned(kind, item):
            self._wake(key)

    def _concerned(self, kind: Kind, item: Object) -> Iterator[Key]:
        """Whose decision may rest on `item`."""
        metadata = item["metadata"]
        namespace = metadata["namespace"]
        if kind in (FINE_TUNE_JOBS, MODEL_ENDPOINTS):
            yield key_of(kind, item)
        own = metadata.get("labels", {})
        if LABEL_JOB in own:
            yield Key(FINE_TUNE_JOBS.kind, namespace, own[LABEL_JOB])
        if LABEL_ENDPOINT in own:
            yield Key(MODEL_ENDPOINTS.kind, namespace, own[LABEL_ENDPOINT])
        if kind is CLAIMS:
            yield from self._naming(namespace, f"://{metadata['name']}/", metadata["name"])
        if kind in (MODEL_VERSIONS, MODEL_ENDPOINTS):
            yield from self._of_model(namespace, item.get("spec", {}).get("model", ""))

    def _naming(self, namespace: str, inside: str, claim: str) -> Iterator[Key]:
        """Jobs that name a claim, in storage or in a source."""
        for job in self.snapshot(FINE_TUNE_JOBS, namespace):
            spec = job.get("spec", {})
            storage = spec.get("storage", {}).get("claimName")
            data = spec.get("data", {})
            lists = ("sources", "testSources", "contamination")
            uris = [s.get("uri", "") for name in lists for s in data.get(name, ())]
            general = spec.get("training", {}).get("general") or {}
            uris += [s.get("uri", "") for s in general.get("sources", ())]
            uris.append(spec.get("model", {}).get("base", ""))
            if storage == claim or any(inside in f"{uri}/" for uri in uris):
                yield key_of(FINE_TUNE_JOBS, job)

    def _of_model(self, namespace: str, model: str) -> Iterator[Key]:
        for endpoint in self.snapshot(MODEL_ENDPOINTS, namespace):
            spec = endpoint.get("spec", {})
            beside = [a.get("model") or a.get("name") for a in spec.get("adapters", ())]
            if model in (spec.get("model"), *beside):
                yield key_of(MODEL_ENDPOINTS, endpoint)
        for job in self.snapshot(FINE_TUNE_JOBS, namespace):
            name = job.get("spec", {}).get("model", {}).get("name") or job["metadata"]["name"]
            if name == model:
                yield key_of(FINE_TUNE_JOBS, job)


def key_of(kind: Kind, item: Object) -> Key:
    return Key(kind.kind, item["metadata"]["namespace"], item["metadata"]["name"])


def _older(item: Object, known: Object | None) -> bool:
    """Whether `item` is a state before or equal to the known one. Versions of one object are ordered."""
    if known is None or known["metadata"]["uid"] != item["metadata"]["uid"]:
        return False
    return int(item["metadata"]["resourceVersion"]) <= int(known["metadata"]["resourceVersion"])


def _slots(kind: Kind, item: Object) -> list[tuple[Kind, str, str, str]]:
    metadata = item["metadata"]
    own = metadata.get("labels", {})
    return [
        (kind, metadata["namespace"], label, own[label])
        for label in (LABEL_JOB, LABEL_ENDPOINT)
        if label in own
    ]
