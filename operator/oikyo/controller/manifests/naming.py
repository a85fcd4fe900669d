"""Names, labels, owners and digests of what oikyo creates."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import Any

from oikyo.api.base import API_VERSION
from oikyo.api.meta import ANNOTATION_HASH, LABEL_ATTEMPT, LABEL_JOB, LABEL_STAGE, ObjectMeta

Manifest = dict[str, Any]
"""A Kubernetes object as JSON; it leaves this package for the wire at once."""

LONGEST = 52
"""Of a stage's name: it must leave room for `-<index>` in the host name of a worker, a DNS label."""


@dataclass(frozen=True)
class Owner:
    """The object that a child belongs to."""

    kind: str
    metadata: ObjectMeta

    def reference(self) -> Manifest:
        return {
            "apiVersion": API_VERSION,
            "kind": self.kind,
            "name": self.metadata.name,
            "uid": self.metadata.uid,
            "controller": True,
            "blockOwnerDeletion": True,
        }


def stage_name(job: str, stage: str, attempt: int) -> str:
    """Name of a stage attempt's Job and Service: deterministic, a DNS label that starts with a letter."""
    stem = job if job[0].isalpha() else f"j{job}"
    suffix = f"-{stage}-{attempt}"
    if len(stem) + len(suffix) <= LONGEST:
        return stem + suffix
    mark = hashlib.sha256(job.encode()).hexdigest()[:8]
    room = LONGEST - len(suffix) - len(mark) - 1
    return f"{stem[:room].rstrip('-')}-{mark}{suffix}"


def labels(component: str, instance: str, **more: str) -> dict[str, str]:
    return {
        "app.kubernetes.io/name": "oikyo",
        "app.kubernetes.io/instance": instance,
        "app.kubernetes.io/component": component,
        "app.kubernetes.io/part-of": "oikyo",
        "app.kubernetes.io/managed-by": "oikyo",
        **more,
    }


def stage_labels(job: str, stage: str, attempt: int) -> dict[str, str]:
    own = {LABEL_JOB: job, LABEL_STAGE: stage, LABEL_ATTEMPT: str(attempt)}
    return {**labels("stage", job), **own}


def digest_of(manifest: Manifest) -> str:
    text = json.dumps(manifest, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def sealed(manifest: Manifest) -> Manifest:
    """The manifest with the digest of itself as annotation: an unchanged child costs no request."""
    metadata = manifest["metadata"]
    annotations = {**metadata.get("annotations", {}), ANNOTATION_HASH: digest_of(manifest)}
    return {**manifest, "metadata": {**metadata, "annotations": annotations}}


def metadata(
    name: str, namespace: str, labels: dict[str, str], owner: Owner | None = None
) -> Manifest:
    meta: Manifest = {"name": name, "namespace": namespace, "labels": labels}
    return meta if owner is None else {**meta, "ownerReferences": [owner.reference()]}
