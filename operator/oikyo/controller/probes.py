"""/healthz, /readyz and /metrics, and the watchdog behind /healthz.

A process is unhealthy when it can no longer do its work and does not know it: a watch that ended for
good, or an event loop that stands still for longer than the lease allows.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

from aiohttp import web

from .metrics import Metrics

LAG_SECONDS = 10.0
_TICK = 1.0


class Watchdog:
    """Measures how late the event loop is, and remembers what else is wrong."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._beat = clock()
        self.checks: list[Callable[[], str]] = []
        """Each answers what is wrong in words, or an empty string."""

    async def run(self) -> None:
        while True:
            self._beat = self._clock()
            await asyncio.sleep(_TICK)

    def trouble(self) -> str:
        """What is wrong, or an empty string."""
        late = self._clock() - self._beat - _TICK
        if late > LAG_SECONDS:
            return f"the event loop stood still for {late:.0f} seconds"
        return next((words for check in self.checks if (words := check())), "")


class Probes:
    """The HTTP server that the kubelet and Prometheus ask."""

    def __init__(self, metrics: Metrics, watchdog: Watchdog) -> None:
        self._metrics = metrics
        self._watchdog = watchdog
        self.unready = "starting"
        """Why this replica is not ready; empty when it is."""
        self._runner: web.AppRunner | None = None

    async def start(self, port: int) -> int:
        """Listen on `port` (0: any free one); returns the port."""
        app = web.Application()
        app.router.add_get("/healthz", self._healthz)
        app.router.add_get("/readyz", self._readyz)
        app.router.add_get("/metrics", self._serve_metrics)
        self._runner = web.AppRunner(app, access_log=None)
        await self._runner.setup()
        site = web.TCPSite(self._runner, None, port)
        await site.start()
        # With port 0 each address family gets its own; IPv4's is the one that is told.
        told = sorted(self._runner.addresses, key=len)
        return int(told[0][1])

    async def stop(self) -> None:
        if self._runner is not None:
            await self._runner.cleanup()

    async def _healthz(self, _: web.Request) -> web.Response:
        return _answer(self._watchdog.trouble())

    async def _readyz(self, _: web.Request) -> web.Response:
        return _answer(self.unready or self._watchdog.trouble())

    async def _serve_metrics(self, _: web.Request) -> web.Response:
        body = self._metrics.exposition()
        return web.Response(body=body, headers={"Content-Type": "text/plain; version=0.0.4"})


def _answer(trouble: str) -> web.Response:
    return web.Response(text=trouble or "ok", status=503 if trouble else 200)
