"""Ends a process whose training stands still: a peer that hangs or a cut network blocks a collective for ever.

The longest time between two beats (forward passes, of training and validation) is learned from the
run itself, from the last thousand or two. The thread works while the main thread waits inside a collective,
because that wait does not hold the interpreter's lock. Time in which the thread itself did not run (a machine that was paused,
a process that was stopped) is neither silence nor rhythm: the main thread did not run either.
"""

from __future__ import annotations

import faulthandler
import math
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from ..errors import Retry

LEAST_SECONDS = 60.0
"""Never called a hang before: a node may be busy, a volume slow."""
TIMES_LONGEST = 30.0
"""So many times the longest time between two beats is no variation of it."""
UNKNOWN_SECONDS = 1800.0
"""While little is known: the first passes compile, allocate and meet the other ranks."""
LEARNED_AFTER = 5
WINDOW = 1000
"""Beats after which those before are forgotten bit by bit: a processor that was starved for a while is no rhythm
(the window of phi accrual detectors; Hayashibara et al. 2004)."""
LOOK_SECONDS = 1.0


class Pulse:
    """Watches one process; `silence` is called once, from the watching thread, when it stands still."""

    def __init__(
        self,
        silence: Callable[[Retry], None],
        *,
        least: float = LEAST_SECONDS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._silence = silence
        self._least = least
        self._clock = clock
        self._last = clock()
        self._longest_before, self._longest_now = 0.0, 0.0
        """Of the last whole window, and of the one that is open."""
        self._beats = 0
        self._at_rest = False
        self._longest_rest = 0.0
        self._rests = 0
        self._looked = math.inf
        """When the watching thread last ran; there is none yet."""

    def beat(self) -> None:
        """The training has moved."""
        now = self._clock()
        still = self._stood_still(now)
        if self._beats and not self._at_rest:
            self._longest_now = max(self._longest_now, now - self._last - still)
        self._last = now
        self._beats += 1
        if self._beats % WINDOW == 0:
            self._longest_before, self._longest_now = self._longest_now, 0.0

    @contextmanager
    def rest(self) -> Iterator[None]:
        """What happens inside (a checkpoint) is no step and has a rhythm of its own."""
        self._last, self._at_rest = self._clock(), True
        try:
            yield
        finally:
            now = self._clock()
            rested = now - self._last - self._stood_still(now)
            self._longest_rest = max(self._longest_rest, rested)
            self._last, self._at_rest = now, False
            self._rests += 1

    @property
    def _longest(self) -> float:
        return max(self._longest_before, self._longest_now)

    def bound(self) -> float:
        """Seconds of silence that are a hang."""
        known = self._rests > 0 if self._at_rest else self._beats >= LEARNED_AFTER
        longest = self._longest_rest if self._at_rest else self._longest
        return max(self._least, TIMES_LONGEST * longest) if known else UNKNOWN_SECONDS

    def fault(self) -> Retry | None:
        """What is wrong, when the silence has lasted too long."""
        silent = self._clock() - self._last
        if silent <= self.bound():
            return None
        what, longest = "forward pass", self._longest
        if self._at_rest:
            what, longest = "end of a checkpoint", self._longest_rest
        return Retry(
            "Hung",
            f"no {what} for {silent:.0f} s, {longest:.1f} s was the longest lately: "
            "another worker hangs or the network between the workers is cut",
            next_step="The next attempt goes on from the newest checkpoint.",
        )

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Look at the pulse from a thread of its own while the block runs."""
        ended, self._looked = threading.Event(), self._clock()
        thread = threading.Thread(target=self._watch, args=(ended,), daemon=True, name="pulse")
        self._last = self._clock()
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join()
            self._looked = math.inf

    def _watch(self, ended: threading.Event) -> None:
        while not ended.wait(LOOK_SECONDS):
            self.look()
            if (fault := self.fault()) is not None:
                faulthandler.dump_traceback(file=sys.stderr)
                self._silence(fault)
                return

    def look(self) -> None:
        """The watching thread runs."""
        now = self._clock()
        self._last += self._stood_still(now)
        self._looked = now

    def _stood_still(self, now: float) -> float:
        """Seconds since the watching thread ought to have looked, told once; 0 where it is hardly late."""
        late = now - self._looked - LOOK_SECONDS
        if late <= LOOK_SECONDS:
            return 0.0
        self._looked = now
        return late

    def listen(self, model: Any) -> None:
        """Beat before and after each forward pass of `model`, of training and of validation."""
        model.register_forward_pre_hook(lambda *_: self.beat())
        model.register_forward_hook(lambda *_: self.beat())
