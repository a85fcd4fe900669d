"""kopf, the reactor: watches that feed the cache and write nothing. The only file that imports kopf.

Only on.event: no finalizers, no annotations, no timers, no index, no peering, no events of kopf's own
(docs/decisions tells what each of these costs).
"""

from __future__ import annotations

import asyncio
import logging
import math
import random
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import kopf

from .cluster import Credentials
from .kinds import WATCHED, Kind, Object

Feed = Callable[[Kind, bool, Object], None]
"""Takes in an object; the flag says whether it is gone."""

CREDENTIALS_LIFE = timedelta(minutes=10)
REFUSED_SECONDS = 5.0
"""Between two looks at a token that the API server refuses; kopf alone would ask without a pause."""
_LONGEST_BACKOFF = 30.0


class Backoffs:
    """1, 2, 4 … 30 s with jitter, for ever: the watches must never give up and stay silent."""

    def __iter__(self) -> Iterator[float]:
        delay = 1.0
        while True:
            yield delay * random.uniform(0.75, 1.25)
            delay = min(delay * 2, _LONGEST_BACKOFF)


async def watch(
    feed: Feed,
    credentials: Callable[[], Credentials],
    namespaces: tuple[str, ...],
    ready: asyncio.Event,
) -> None:
    """Watch every kind until cancelled; returns or raises only when a watch is lost for good."""
    registry = kopf.OperatorRegistry()
    kopf.on.login(registry=registry)(_login(credentials))
    for kind in WATCHED:
        handler = _handler(kind, feed)
        kopf.on.event(
            kind.group, kind.version, kind.plural, registry=registry, id=f"feed-{kind.plural}"
        )(handler)
    # Its lines about each handled event would bury the story.
    logging.getLogger("kopf.objects").setLevel(logging.WARNING)
    await kopf.operator(
        registry=registry,
        settings=_settings(),
        clusterwide=not namespaces,
        namespaces=namespaces,
        standalone=True,
        ready_flag=ready,
    )


def watchers() -> int:
    """How many of kopf's watches are alive."""
    return sum(task.get_name().startswith("watcher for ") for task in asyncio.all_tasks())


def _handler(kind: Kind, feed: Feed) -> Callable[..., Any]:
    async def handle(event: Any, **_: Any) -> None:
        feed(kind, event["type"] == "DELETED", dict(event["object"]))

    return handle


def _login(credentials: Callable[[], Credentials]) -> Callable[..., Any]:
    looked = -math.inf  # by the monotonic clock

    async def login(**_: Any) -> kopf.ConnectionInfo:
        """Asked again every ten minutes, and as soon as the API server refuses what was given.

        A pod's token is replaced before it ends, but not while no API server is there to give one:
        after a long outage the old one is refused until the kubelet has asked again.
        """
        nonlocal looked
        await asyncio.sleep(max(0.0, looked + REFUSED_SECONDS - time.monotonic()))
        looked = time.monotonic()
        given = credentials()
        return kopf.ConnectionInfo(
            server=given.server,
            ca_path=given.ca_path,
            insecure=given.insecure,
            scheme="Bearer" if given.token else None,
            token=given.token,
            certificate_path=given.certificate_path,
            private_key_path=given.key_path,
            trust_env=False,
            expiration=datetime.now(UTC) + CREDENTIALS_LIFE,
        )

    return login


def _settings() -> kopf.OperatorSettings:
    settings = kopf.OperatorSettings()
    settings.posting.enabled = False
    settings.peering.standalone = True
    # The kinds are fixed and installed before the controller: no rights on CRDs and namespaces needed.
    settings.scanning.disabled = True
    settings.networking.request_timeout = 30
    settings.networking.connect_timeout = 5
    settings.networking.error_backoffs = Backoffs()
    settings.networking.trust_env = False
    settings.watching.server_timeout = random.randint(240, 360)
    settings.watching.connect_timeout = 5
    settings.watching.chunk_size = 500
    # A worker lingers this long after its object's last event; thousands of objects come at start.
    settings.queueing.idle_timeout = 0.2
    settings.queueing.exit_timeout = 0.5
    settings.process.ultimate_exiting_timeout = None
    for kind in WATCHED:
        selector = (kind.group, kind.version, kind.plural)
        if kind.labels:
            settings.watching.label_selectors[selector] = kind.labels
        if kind.fields:
            settings.watching.field_selectors[selector] = kind.fields
    return settings
