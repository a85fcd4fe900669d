"""Kubernetes objects from plans. Pure: a plan in, a manifest out; the same plan gives the same bytes.

`naming` holds names, labels and owners; `pod` what all pods share; `stage` a stage's Job and Service, and
`group` its PodGroup;
`records` claims, versions and endpoints; `server` what serves an endpoint.
"""

from .naming import Manifest, Owner, digest_of, stage_name
from .records import claim, endpoint, version
from .server import server
from .stage import Settings, stage

__all__ = [
    "Manifest",
    "Owner",
    "Settings",
    "claim",
    "digest_of",
    "endpoint",
    "server",
    "stage",
    "stage_name",
    "version",
]
