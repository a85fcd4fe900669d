"""Processes that work on items in turn, as many as there are CPUs; results keep the order.

They are forked, which costs milliseconds and copies nothing of what the work needs, and end with the pipe
to this process, however it ends. Which of them does what changes no result. Threads (threads.py) are for
work that is a few long calls: each short call of numpy gives the interpreter's lock up, and waits for it.
"""

from __future__ import annotations

import gc
import multiprocessing
import signal
import sys
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from typing import Any, Generic, TypeVar

from ..errors import Refused, Retry
from ..training.distributed import available_cpus

MOST = 8
"""Workers: one process feeds no more."""
WORTH = 8 << 20
"""Bytes, unpacked or not, from which on workers pay."""
T = TypeVar("T")
R = TypeVar("R")


class Workers(Generic[T, R]):
    """Some forked processes and the pipes to them."""

    def __init__(self, count: int, work: Callable[[T], R]) -> None:
        context = multiprocessing.get_context("fork")
        self._pipes: list[Connection] = []
        self._processes = []
        for _ in range(count):
            ours, theirs = context.Pipe()
            self._pipes.append(ours)
            # A pipe ends when the last process that holds its other end does.
            held = tuple(self._pipes)
            process = context.Process(target=_serve, args=(work, theirs, held), daemon=True)
            process.start()
            theirs.close()
            self._processes.append(process)

    def in_order(self, items: Iterable[T]) -> Iterator[R]:
        """The work of each item; items and results go through pipes."""
        free, busy = deque(self._pipes), deque[Connection]()
        for item in items:
            made = []
            if not free:
                free.append(busy.popleft())
                made.append(_received(free[0]))
            busy.append(free.popleft())
            _send(busy[-1], item)
            yield from made
        while busy:
            yield _received(busy.popleft())

    def close(self) -> None:
        for pipe in self._pipes:
            pipe.close()
        for process in self._processes:
            process.terminate()  # it may be in the middle of an item that nobody wants
            process.join()


def _send(pipe: Connection, item: object) -> None:
    try:
        pipe.send(item)
    except OSError:
        raise _lost() from None


def _received(pipe: Connection) -> Any:  # what the work gives
    try:
        made, error = pipe.recv()
    except (EOFError, OSError):
        raise _lost() from None
    if isinstance(error, Refused):
        raise error
    if error:
        raise RuntimeError(f"a process that works on rows failed: {error}")
    return made


def _lost() -> Retry:
    return Retry("WorkerLost", "a process that works on rows was ended; most often memory ran out")


def _serve(work: Callable[[T], R], pipe: Connection, held: tuple[Connection, ...]) -> None:
    """The life of a worker."""
    for one in held:
        one.close()
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the terminal tells all; the parent decides
    gc.freeze()
    gc.disable()  # rows are no cycles, and looking for some takes a third of the time
    while True:
        try:
            item = pipe.recv()
        except EOFError:
            return
        made: tuple[R | None, Refused | str]
        try:
            made = work(item), ""
        except Refused as error:  # the rows are not what their file says
            made = None, error
        except Exception as error:
            made = None, f"{type(error).__name__}: {error}"
        pipe.send(made)


@contextmanager
def opened(work: Callable[[T], R], size: int) -> Iterator[Callable[[Iterable[T]], Iterator[R]]]:
    """The way to work on items, of which `size` bytes belong together: by workers where they pay."""
    count = min(MOST, available_cpus())
    if count < 2 or size < WORTH or sys.platform != "linux":
        yield lambda items: map(work, items)
        return
    workers = Workers(count, work)
    try:
        yield workers.in_order
    finally:
        workers.close()


def in_order(work: Callable[[T], R], items: Iterable[T], size: int) -> Iterator[R]:
    """`work` of each item, in their order; `size` as in `opened`."""
    with opened(work, size) as each:
        yield from each(items)
