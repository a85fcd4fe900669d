"""What a running stage says of itself: /progress of rank 0, read over HTTP from the pod's address.

A pod tells moments by the clock of its node. Its answer carries that clock, so they are put right here.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import datetime

import aiohttp

from oikyo.api.stages import PORT, StageProgress

from .clock import ServerClock
from .conditions import parse, timestamp
from .kinds import Object

INTERVAL_SECONDS = 5.0
FORGOTTEN_SECONDS = 600.0
"""Without a question for this long, a pod's last answer goes."""
_TIMEOUT = aiohttp.ClientTimeout(total=2)
_LARGEST = 65536
"""Bytes of an answer that are read: a pod is not trusted to be brief."""


class ProgressReader:
    """Asks each pod at most every five seconds and remembers its last answer."""

    def __init__(self, now: Callable[[], datetime]) -> None:
        self._now = now
        """The API server's time."""
        self._session: aiohttp.ClientSession | None = None
        self._told: dict[str, tuple[float, StageProgress | None]] = {}

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()

    async def read(self, pod: Object, port: int = PORT) -> StageProgress | None:
        """The newest progress of a running pod; None while it has said nothing."""
        uid = pod["metadata"]["uid"]
        address = pod.get("status", {}).get("podIP")
        if pod.get("status", {}).get("phase") != "Running" or not address:
            return None
        asked, last = self._told.get(uid, (float("-inf"), None))
        if time.monotonic() - asked < INTERVAL_SECONDS:
            return last
        # Noted before the answer is there: two reconciles never ask the same pod at once.
        self._told[uid] = (time.monotonic(), last)
        self._forget_old()
        fresh = await self._ask(address, port)
        self._told[uid] = (time.monotonic(), fresh or last)
        return fresh or last

    def _forget_old(self) -> None:
        """Pods come and go for months: one that nobody asks any more is not remembered."""
        limit = time.monotonic() - FORGOTTEN_SECONDS
        for uid in [uid for uid, (asked, _) in self._told.items() if asked < limit]:
            del self._told[uid]

    async def _ask(self, address: str, port: int) -> StageProgress | None:
        if self._session is None:
            self._session = aiohttp.ClientSession(timeout=_TIMEOUT, trust_env=False)
        host = f"[{address}]" if ":" in address else address
        try:
            url = f"http://{host}:{port}/progress"
            async with self._session.get(url, allow_redirects=False) as response:
                body = await response.content.read(_LARGEST)
                if response.status != 200:
                    return None
                told = StageProgress.model_validate_json(body)
                return put_right(told, response.headers.get("Date"), self._now())
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError, OverflowError):
            # Absent, busy or garbled: the pod's own state tells the rest, and we ask again.
            return None


def put_right(told: StageProgress, date: str | None, now: datetime) -> StageProgress:
    """`told` with its moment by the API server's time, which is `now`; `date` is the pod's own."""
    clock = ServerClock(lambda: now)
    clock.hear(date)
    if not told.updated or not clock.skew:
        return told
    return told.model_copy(update={"updated": timestamp(parse(told.updated) - clock.skew)})
