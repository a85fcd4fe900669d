"""The controller process: puts the parts together, starts them in order, ends them cleanly.

Order: probes, lease, watches; then, on the leader, a fresh list of everything and the queue. A replica
without the lease keeps its cache warm and writes nothing.
"""

from __future__ import annotations

import asyncio
import logging
import signal
from contextlib import suppress

from oikyo.errors import ClusterError

from . import handlers
from .apply import Hands
from .cache import Cache, Key
from .cluster import Cluster, NotFoundError
from .config import Config
from .kinds import WATCHED, Kind, Object
from .lease import Lease
from .manifests import Settings
from .metrics import Metrics
from .probes import Probes, Watchdog
from .progress import ProgressReader
from .queue import Queue
from .reconcile import Reconciler
from .report_writer import Reporter
from .resync import keep_in_sync, resync

log = logging.getLogger("oikyo.process")

LEASE_NAME = "oikyo-controller"
START_SECONDS = 60.0
"""Longest wait for all watches to begin: kopf waits silently for kinds that do not exist."""
GRACE_SECONDS = 2.0


class Process:
    """One replica of the controller."""

    def __init__(self, config: Config, cluster: Cluster) -> None:
        self._config = config
        self._cluster = cluster
        self._metrics = Metrics()
        self._watchdog = Watchdog()
        self._probes = Probes(self._metrics, self._watchdog)
        self._progress = ProgressReader(cluster.clock.now)
        self._cache = Cache(self._wake)
        settings = Settings(config.trainer_image, config.vllm_image)
        reconciler = Reconciler(
            cluster,
            self._cache,
            Hands(cluster, self._cache, settings),
            Reporter(cluster, self._cache, config.identity),
            self._progress,
            self._metrics,
            config.trainer_image,
        )
        self._queue: Queue[Key] = Queue(reconciler.run)
        self._lease = Lease(cluster, config.lease_namespace, LEASE_NAME, config.identity)
        self._watching = asyncio.Event()
        self._takeover: asyncio.Task[None] | None = None
        self._led: asyncio.Future[None]
        cluster.may_write = self._lease.held
        self._metrics.watch(lambda: len(self._queue), self._lease.held)

    async def run(self) -> bool:
        """Work until told to end (True) or until a part is lost for good (False)."""
        stop = asyncio.Event()
        self._led = asyncio.get_running_loop().create_future()
        self._catch_signals(stop)
        port = await self._probes.start(self._config.metrics_port)
        log.info("serving probes and metrics on port %d as %s", port, self._config.identity)
        vital = [
            asyncio.create_task(self._watchdog.run(), name="watchdog"),
            asyncio.create_task(self._lease.keep(self._lead, self._follow), name="lease"),
            asyncio.create_task(self._watch(), name="watches"),
            asyncio.create_task(self._get_ready(stop), name="start"),
            asyncio.create_task(self._resync(), name="resync"),
            asyncio.create_task(self._leading(), name="take over"),
        ]
        ended = asyncio.create_task(stop.wait(), name="stop")
        await asyncio.wait((ended, *vital), return_when=asyncio.FIRST_COMPLETED)
        lost = [task for task in vital if task.done()]
        for task in lost:
            log.error("%s was lost: %s", task.get_name(), task.exception() or "it ended")
        await self._end((ended, *vital))
        return not lost

    def _wake(self, key: Key) -> None:
        self._queue.wake(key)

    def _feed(self, kind: Kind, gone: bool, item: Object) -> None:
        if gone:
            self._cache.drop(kind, item)
        else:
            self._cache.put(kind, item)

    async def _watch(self) -> None:
        await handlers.watch(
            self._feed, self._cluster.credentials, self._config.namespaces, self._watching
        )

    async def _resync(self) -> None:
        await keep_in_sync(self._cluster, self._cache, self._config.scopes)

    async def _get_ready(self, stop: asyncio.Event) -> None:
        """Ready once every watch has begun; gives up when that takes too long. Never returns."""
        wanted = len(WATCHED) * len(self._config.scopes)
        try:
            async with asyncio.timeout(START_SECONDS):
                await self._watching.wait()
                # kopf has put its own handlers in place by now; ours let writes end first.
                self._catch_signals(stop)
                while handlers.watchers() < wanted:
                    await asyncio.sleep(0.1)
        except TimeoutError:
            raise ClusterError(
                f"only {handlers.watchers()} of {wanted} watches began: are oikyo's "
                "CustomResourceDefinitions installed? kubectl get crd finetunejobs.oikyo.dev"
            ) from None
        self._watchdog.checks.append(lambda: _lost(wanted))
        self._probes.unready = ""
        log.info("ready: %d watches", wanted)
        await asyncio.Event().wait()

    def _lead(self) -> None:
        self._takeover = asyncio.create_task(self._take_over(), name="take over")
        self._takeover.add_done_callback(self._judge)

    def _judge(self, takeover: asyncio.Task[None]) -> None:
        if not takeover.cancelled() and (error := takeover.exception()) and not self._led.done():
            self._led.set_exception(error)

    async def _leading(self) -> None:
        """Fails when a take-over does: who leads and cannot begin would keep the lease for nothing."""
        await self._led

    async def _take_over(self) -> None:
        """Decisions rest on a complete and fresh cache, never on what a standby happened to see."""
        while True:
            try:
                await resync(self._cluster, self._cache, self._config.scopes)
                break
            except NotFoundError as error:
                log.error("%s: install the CustomResourceDefinitions of oikyo first", error)
            except ClusterError as error:
                log.warning("cannot list: %s", error)
            await asyncio.sleep(1)
        self._cache.wake_everything()
        self._queue.start()

    def _follow(self) -> None:
        if self._takeover is not None:
            self._takeover.cancel()
        self._queue.pause()
        self._metrics.forget_all()

    def _catch_signals(self, stop: asyncio.Event) -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stop.set)

    async def _end(self, tasks: tuple[asyncio.Task[object], ...]) -> None:
        """Finish the write at hand, give the lease away, then let go of everything."""
        log.info("ending")
        self._probes.unready = "ending"
        if self._takeover is not None:
            self._takeover.cancel()
        await self._queue.stop(GRACE_SECONDS)
        for task in tasks:
            if task.get_name() in ("lease", "resync"):
                task.cancel()
        with suppress(TimeoutError):
            await asyncio.wait_for(self._lease.release(), GRACE_SECONDS)
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks, timeout=GRACE_SECONDS)
        await self._probes.stop()
        await self._progress.close()
        await self._cluster.close()


def _lost(wanted: int) -> str:
    alive = handlers.watchers()
    return "" if alive >= wanted else f"only {alive} of {wanted} watches are alive"
