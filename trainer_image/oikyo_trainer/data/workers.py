"""Processes that work on items in turn, as many as there are CPUs, or apart from all else; results keep
the order.

They are forked, which costs milliseconds and copies nothing of what the work needs, and end with the pipe
to this process, however it ends. Which of them does what changes no result. Threads (threads.py) are for
work that is a few long calls: each short call of numpy gives the interpreter's lock up, and waits for it.
"""

from __future__ import annotations

import gc
import multiprocessing
import os
import signal
import sys
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from itertools import islice
from multiprocessing.connection import Connection
from typing import Any, Generic, TypeVar

from ..errors import Refused, Retry
from ..training.distributed import available_cpus

MOST = 8
"""Workers: one process feeds no more."""
WORTH = 8 << 20
"""Bytes, unpacked or not, from which on workers pay."""
ROOM = 1 << 30
"""Bytes from which on what is known of the rows leaves memory no room for a process that is apart."""
GIVES_WAY = 15
"""Niceness of one who is apart: all that nobody else wants, and a thirtieth of what another process is given.
What waits for its results has a time of its own in which it keeps one CPU busy, and not the others."""
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


class Apart(Generic[R]):
    """A forked process that gives one result after another, whether somebody waits for them or not."""

    def __init__(self, work: Callable[[], Iterable[R]]) -> None:
        context = multiprocessing.get_context("fork")
        self._pipe, theirs = context.Pipe()
        held = (self._pipe,)
        self._process = context.Process(target=_give, args=(work, theirs, held), daemon=True)
        self._process.start()
        theirs.close()

    def results(self) -> Iterator[R]:
        while part := _received(self._pipe):
            yield from part

    def close(self) -> None:
        self._pipe.close()
        self._process.terminate()
        self._process.join()


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
    if isinstance(error, Refused | OSError):
        raise error
    if error:
        raise RuntimeError(f"a process that works on rows failed: {error}")
    return made


def _lost() -> Retry:
    return Retry("WorkerLost", "a process that works on rows was ended; most often memory ran out")


def _serve(work: Callable[[T], R], pipe: Connection, held: tuple[Connection, ...]) -> None:
    """The life of a worker."""
    _begin(held)
    while True:
        try:
            item = pipe.recv()
        except EOFError:
            return
        pipe.send(_made(work, item))


def _give(work: Callable[[], Iterable[R]], pipe: Connection, held: tuple[Connection, ...]) -> None:
    """The life of one who is apart: results in lists of one, then an empty list."""
    _begin(held)
    os.nice(GIVES_WAY)
    found = iter(work())
    more = True
    while more:
        part, error = _made(lambda _: list(islice(found, 1)), None)
        pipe.send((part, error))
        more = bool(part)


def _begin(held: tuple[Connection, ...]) -> None:
    for one in held:
        one.close()
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the terminal tells all; the parent decides
    gc.freeze()
    gc.disable()  # rows are no cycles, and looking for some takes a third of the time


def _made(work: Callable[[T], R], item: T) -> tuple[R | None, Refused | OSError | str]:
    try:
        return work(item), ""
    except (Refused, OSError) as error:  # no rows as their file says, or no room on the volume
        return None, error
    except Exception as error:
        return None, f"{type(error).__name__}: {error}"


@contextmanager
def opened(work: Callable[[T], R], size: int) -> Iterator[Callable[[Iterable[T]], Iterator[R]]]:
    """The way to work on items, of which `size` bytes belong together: by workers where they pay."""
    if not _pays(size):
        yield lambda items: map(work, items)
        return
    workers = Workers(min(MOST, available_cpus()), work)
    try:
        yield workers.in_order
    finally:
        workers.close()


def in_order(work: Callable[[T], R], items: Iterable[T], size: int) -> Iterator[R]:
    """`work` of each item, in their order; `size` as in `opened`."""
    with opened(work, size) as each:
        yield from each(items)


@contextmanager
def apart(work: Callable[[], Iterable[R]], size: int) -> Iterator[Iterator[R]]:
    """What `work` gives, one after another: made meanwhile in a process of its own, where it pays and memory
    has room for it."""
    if not _pays(size) or size >= ROOM:
        yield iter(work())
        return
    process = Apart(work)
    try:
        yield process.results()
    finally:
        process.close()


def _pays(size: int) -> bool:
    """Whether other processes are worth their start."""
    return available_cpus() > 1 and size >= WORTH and sys.platform == "linux"
