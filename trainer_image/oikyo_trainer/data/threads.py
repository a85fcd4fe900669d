"""numpy and Arrow on every CPU: they let go of the interpreter's lock while they work on a piece."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar, cast

from ..training.distributed import available_cpus

MOST = 4
"""Threads: each holds a slice with arrays forty times its size."""
T = TypeVar("T")
R = TypeVar("R")


def in_order(work: Callable[[T], R], items: Iterable[T]) -> Iterator[R]:
    """`work` of each item, in their order; as many are ahead as there are threads."""
    count = min(MOST, available_cpus())
    waiting: deque[Future[R]] = deque()
    with ThreadPoolExecutor(count, thread_name_prefix="rows") as pool:
        for item in items:
            if len(waiting) == count:
                yield waiting.popleft().result()
            waiting.append(pool.submit(work, item))
        while waiting:
            yield waiting.popleft().result()


def ahead(items: Iterable[T]) -> Iterator[T]:
    """The items; another thread makes the next one while one is worked on."""
    left, end = iter(items), object()
    with ThreadPoolExecutor(1, thread_name_prefix="ahead") as pool:
        coming: Future[T | object] = pool.submit(next, left, end)
        while (item := coming.result()) is not end:
            coming = pool.submit(next, left, end)
            yield cast("T", item)
