"""The one thread that computes for every generator of the server: answers take turns, one token each.

A thread for each model would let the processor's cores fight over several computations at once.
"""

from __future__ import annotations

import threading
from collections import deque
from typing import Protocol


class Work(Protocol):
    """An answer under way."""

    def begin(self) -> None:
        """Its first turn is about to come."""

    def turn(self) -> bool:
        """One step; whether there is more to do."""


class Turns:
    """Gives each piece of work its turn until it is done."""

    def __init__(self) -> None:
        self._waiting: deque[Work] = deque()
        self._change = threading.Condition()
        self._closed = False
        self._thread = threading.Thread(target=self._run, daemon=True, name="generate")

    def start(self) -> None:
        self._thread.start()

    def close(self) -> None:
        with self._change:
            self._closed = True
            self._change.notify()

    def add(self, work: Work) -> None:
        with self._change:
            self._waiting.append(work)
            self._change.notify()

    def _run(self) -> None:
        active: deque[Work] = deque()
        while True:
            with self._change:
                while not self._waiting and not active and not self._closed:
                    self._change.wait()
                if self._closed:
                    return
                while self._waiting:
                    work = self._waiting.popleft()
                    work.begin()
                    active.append(work)
            work = active.popleft()
            if work.turn():
                active.append(work)
