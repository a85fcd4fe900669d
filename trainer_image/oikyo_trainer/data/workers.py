"""Processes that turn blocks of rows into pieces, as many as there are CPUs; results keep the order.

They are forked, which costs milliseconds, run nothing but pieces.py and the reader of one format, and
end with the pipe to this process, however it ends. Which of them does what changes no result.
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
from typing import NamedTuple

from ..errors import Refused, Retry
from ..training.distributed import available_cpus
from .piece import Form, Piece
from .pieces import pieces
from .readers import Parse

MOST = 8
"""Workers: one reading process feeds no more."""
WORTH = 16 << 20
"""Bytes of a file, unpacked or not, from which on workers pay."""


class Block(NamedTuple):
    """Whole rows of a file."""

    number: int
    """Line of the first."""
    data: bytes


Work = Callable[[Form, Parse, Iterable[Block]], Iterator[list[Piece]]]


def alone(form: Form, parse: Parse, blocks: Iterable[Block]) -> Iterator[list[Piece]]:
    """The pieces of each block, made in this process."""
    for block in blocks:
        yield list(pieces(form, parse(*block)))


class Workers:
    """Some forked processes and the pipes to them."""

    def __init__(self, count: int) -> None:
        context = multiprocessing.get_context("fork")
        self._pipes: list[Connection] = []
        self._processes = []
        for _ in range(count):
            ours, theirs = context.Pipe()
            self._pipes.append(ours)
            # A pipe ends when the last process that holds its other end does.
            held = tuple(self._pipes)
            process = context.Process(target=_serve, args=(theirs, held), daemon=True)
            process.start()
            theirs.close()
            self._processes.append(process)

    def work(self, form: Form, parse: Parse, blocks: Iterable[Block]) -> Iterator[list[Piece]]:
        """As `alone`."""
        free, busy = deque(self._pipes), deque[Connection]()
        for block in blocks:
            made = None
            if not free:
                free.append(busy.popleft())
                made = _received(free[0])
            busy.append(free.popleft())
            _send(busy[-1], (form, parse, block))
            if made is not None:
                yield made
        while busy:
            yield _received(busy.popleft())

    def close(self) -> None:
        for pipe in self._pipes:
            pipe.close()
        for process in self._processes:
            process.terminate()  # it may be in the middle of a block that nobody wants
            process.join()


def _send(pipe: Connection, job: tuple[Form, Parse, Block]) -> None:
    try:
        pipe.send(job)
    except OSError:
        raise _lost() from None


def _received(pipe: Connection) -> list[Piece]:
    try:
        made: list[Piece] | Refused | str = pipe.recv()
    except (EOFError, OSError):
        raise _lost() from None
    if isinstance(made, Refused):
        raise made
    if isinstance(made, str):
        raise RuntimeError(f"a process that reads rows failed: {made}")
    return made


def _lost() -> Retry:
    return Retry("WorkerLost", "a process that reads rows was ended; most often memory ran out")


def _serve(pipe: Connection, held: tuple[Connection, ...]) -> None:
    """The life of a worker."""
    for one in held:
        one.close()
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the terminal tells all; the parent decides
    gc.freeze()
    gc.disable()  # rows are no cycles, and looking for some takes a third of the time
    while True:
        try:
            form, parse, block = pipe.recv()
        except EOFError:
            return
        try:
            made: object = list(pieces(form, parse(*block)))
        except Refused as error:  # the rows of the block are not what the file says
            made = error
        except Exception as error:
            made = f"{type(error).__name__}: {error}"
        pipe.send(made)


@contextmanager
def opened(largest: int) -> Iterator[Work]:
    """The way to work on files of which the largest has so many bytes."""
    count = min(MOST, available_cpus())
    if count < 2 or largest < WORTH or sys.platform != "linux":
        yield alone
        return
    workers = Workers(count)
    try:
        yield workers.work
    finally:
        workers.close()
