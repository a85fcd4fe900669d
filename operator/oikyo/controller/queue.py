"""A keyed queue: one worker per key, wakes fold into one, failures wait longer each time.

Nothing here knows Kubernetes. A wake during a run makes the key run once more afterwards. A run says
after how many seconds it wants to look again; a failure backs off from 1 s to 60 s with jitter.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable, Hashable
from typing import Generic, TypeVar

log = logging.getLogger("oikyo.queue")

Key = TypeVar("Key", bound=Hashable)

FIRST_DELAY = 1.0
LONGEST_DELAY = 60.0


class Queue(Generic[Key]):
    """`run(key)` is never called twice at once for one key, and for at most `limit` keys at once."""

    def __init__(
        self,
        run: Callable[[Key], Awaitable[float | None]],
        *,
        limit: int = 16,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self._run = run
        self._limit = asyncio.Semaphore(limit)
        self._jitter = jitter
        self._running: dict[Key, asyncio.Task[None]] = {}
        self._again: set[Key] = set()
        self._waiting: set[Key] = set()
        self._timers: dict[Key, asyncio.TimerHandle] = {}
        self._failures: dict[Key, int] = {}
        self._open = False

    def __len__(self) -> int:
        """Keys that ought to run now: waiting for the start or for a free place, running left out."""
        return len(self._waiting | self._again)

    def start(self) -> None:
        """Begin to run, with everything that was woken before."""
        self._open = True
        for key in tuple(self._waiting):
            self._spawn(key)

    def pause(self) -> None:
        """Start nothing more; what runs goes on, what is woken waits."""
        self._open = False

    async def stop(self, grace_seconds: float) -> None:
        """Start nothing more and let what runs end; after the grace it is cancelled."""
        self.pause()
        for timer in self._timers.values():
            timer.cancel()
        self._timers.clear()
        tasks = tuple(self._running.values())
        if not tasks:
            return
        _, late = await asyncio.wait(tasks, timeout=grace_seconds)
        for task in late:
            task.cancel()
        await asyncio.gather(*late, return_exceptions=True)

    def wake(self, key: Key) -> None:
        """`key` must run, soon and at least once after this call; a failing key waits a second still."""
        if key in self._running and key not in self._waiting:
            self._again.add(key)
        elif key in self._failures and key in self._timers:
            self._later(key, min(FIRST_DELAY, self._remaining(key)))
        else:
            self._due(key)

    def _due(self, key: Key) -> None:
        self._cancel_timer(key)
        if key in self._waiting:
            return
        self._waiting.add(key)
        if self._open:
            self._spawn(key)

    def _spawn(self, key: Key) -> None:
        if key not in self._running:
            self._running[key] = asyncio.create_task(self._work(key), name=f"reconcile {key}")

    async def _work(self, key: Key) -> None:
        try:
            async with self._limit:
                if not self._open:
                    return
                self._waiting.discard(key)
                delay = await self._attempt(key)
        finally:
            del self._running[key]
        again = key in self._again
        self._again.discard(key)
        if again and key not in self._failures:
            self._due(key)
        elif delay is not None:
            self._later(key, min(delay, FIRST_DELAY) if again else delay)

    def _later(self, key: Key, delay: float) -> None:
        self._cancel_timer(key)
        self._timers[key] = asyncio.get_running_loop().call_later(delay, self._due, key)

    def _remaining(self, key: Key) -> float:
        return max(0.0, self._timers[key].when() - asyncio.get_running_loop().time())

    async def _attempt(self, key: Key) -> float | None:
        """Run once; the seconds until the next run, or None for only when woken."""
        try:
            delay = await self._run(key)
        except Exception as error:
            count = self._failures[key] = self._failures.get(key, 0) + 1
            after = getattr(error, "retry_after", 0.0)
            delay = max(after, backoff(count, self._jitter()))
            log.warning("%s failed %d times, again in %.1f s: %s", key, count, delay, error)
            log.debug("details", exc_info=error)
            return delay
        self._failures.pop(key, None)
        return delay

    def _cancel_timer(self, key: Key) -> None:
        timer = self._timers.pop(key, None)
        if timer is not None:
            timer.cancel()


def backoff(failures: int, jitter: float) -> float:
    """Seconds to wait after this many failures in a row: 1, 2, 4 … 60, each shortened by up to a half."""
    return float(min(FIRST_DELAY * 2 ** min(failures - 1, 10), LONGEST_DELAY) * (1 - jitter / 2))
