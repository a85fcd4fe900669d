"""The keyed queue: one worker per key, folded wakes, growing waits, a clean stop."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from oikyo.controller.queue import LONGEST_DELAY, Queue, backoff


class Work:
    """A run that waits to be let go, and counts."""

    def __init__(self) -> None:
        self.ran: list[str] = []
        self.when: list[float] = []
        self.active: dict[str, int] = {}
        self.most = 0
        self.gate = asyncio.Event()
        self.gate.set()
        self.answer: float | None = None
        self.error: Exception | None = None
        self.fails = math.inf
        """So many of the first runs meet the error."""

    async def __call__(self, key: str) -> float | None:
        self.ran.append(key)
        self.when.append(asyncio.get_running_loop().time())
        self.active[key] = self.active.get(key, 0) + 1
        assert self.active[key] == 1, "one key ran twice at once"
        self.most = max(self.most, sum(self.active.values()))
        try:
            await self.gate.wait()
        finally:
            self.active[key] -= 1
        if self.error is not None and len(self.ran) <= self.fails:
            raise self.error
        return self.answer


async def settle() -> None:
    for _ in range(20):
        await asyncio.sleep(0)


async def until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(60):
        while not holds():
            await asyncio.sleep(0.005)


async def test_nothing_runs_before_the_start_and_everything_woken_runs_after_it() -> None:
    work = Work()
    queue = Queue(work)
    queue.wake("a")
    queue.wake("b")
    await settle()
    assert work.ran == []
    assert len(queue) == 2
    queue.start()
    await settle()
    assert sorted(work.ran) == ["a", "b"]
    assert len(queue) == 0


async def test_wakes_during_a_run_fold_into_one_more_run() -> None:
    work = Work()
    queue = Queue(work)
    queue.start()
    work.gate.clear()
    queue.wake("a")
    await settle()
    for _ in range(5):
        queue.wake("a")
    work.gate.set()
    await settle()
    assert work.ran == ["a", "a"]


async def test_no_more_keys_run_at_once_than_the_limit_allows() -> None:
    work = Work()
    queue = Queue(work, limit=3)
    queue.start()
    work.gate.clear()
    for number in range(10):
        queue.wake(str(number))
    await settle()
    assert work.most == 3
    assert len(queue) == 7
    work.gate.set()
    await settle()
    assert len(work.ran) == 10
    assert work.most == 3


async def test_a_run_that_asks_for_it_comes_again_by_itself() -> None:
    work = Work()
    work.answer = 0.01
    queue = Queue(work)
    queue.start()
    queue.wake("a")
    await until(lambda: len(work.ran) >= 3)
    await queue.stop(1)
    count = len(work.ran)
    await asyncio.sleep(0.05)
    assert len(work.ran) == count


async def test_a_failing_key_waits_and_a_success_forgets_the_failures(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("oikyo.controller.queue.FIRST_DELAY", 0.02)
    work = Work()
    work.error, work.fails = RuntimeError("no"), 2
    queue = Queue(work, jitter=lambda: 0.0)
    queue.start()
    queue.wake("a")
    await until(lambda: len(work.ran) == 3)
    first, second, third = work.when
    assert second - first >= 0.02
    assert third - second >= 0.04
    await asyncio.sleep(0.1)
    assert work.ran == ["a", "a", "a"]


async def test_a_wake_brings_a_waiting_failure_forward_but_not_at_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("oikyo.controller.queue.FIRST_DELAY", LONGEST_DELAY)
    work = Work()
    work.error = RuntimeError("no")
    queue = Queue(work, jitter=lambda: 0.0)
    queue.start()
    queue.wake("a")
    await settle()
    for _ in range(50):
        queue.wake("a")
    await settle()
    assert work.ran == ["a"], "a failing key must not spin"
    await queue.stop(0)


async def test_the_server_may_ask_for_a_longer_wait() -> None:
    class Busy(RuntimeError):
        retry_after = 3000.0

    work = Work()
    work.error = Busy("later")
    queue = Queue(work)
    queue.start()
    queue.wake("a")
    await settle()
    assert queue._remaining("a") > 2000
    await queue.stop(0)


async def test_a_pause_lets_runs_end_and_keeps_the_wakes() -> None:
    work = Work()
    queue = Queue(work)
    queue.start()
    queue.pause()
    queue.wake("a")
    await settle()
    assert work.ran == []
    queue.start()
    await settle()
    assert work.ran == ["a"]


async def test_stop_waits_for_what_runs_and_cancels_what_stays() -> None:
    work = Work()
    queue = Queue(work)
    queue.start()
    work.gate.clear()
    queue.wake("a")
    await settle()
    await queue.stop(0.01)
    assert work.active["a"] == 0


@given(failures=st.integers(1, 10_000), jitter=st.floats(0, 1, exclude_max=True))
def test_waits_stay_between_half_a_second_and_a_minute(failures: int, jitter: float) -> None:
    assert 0.5 <= backoff(failures, jitter) <= LONGEST_DELAY
