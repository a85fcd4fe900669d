"""observe -> decide -> apply until the job ends: the desktop's main loop."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from types import FrameType

from oikyo.api.finetunejob import FineTuneJob
from oikyo.controller.decide import decide, finished
from oikyo.controller.observed import Observed
from oikyo.controller.resolve import run_id

from .hands import Hands

TICK_SECONDS = 0.25
"""Looking costs a millisecond and a request over loopback, so no decision's `wake_after` is needed."""

Watch = Callable[[FineTuneJob, Observed], None]
"""Called after each round with the job's new status and what it rests on."""


class Stop:
    """What Ctrl-C asks for: first to suspend, then to end at once."""

    def __init__(self) -> None:
        self.asked = 0
        self._wake = threading.Event()

    def ask(self, *_: int | FrameType | None) -> None:
        self.asked += 1
        self._wake.set()

    def wait(self, seconds: float) -> None:
        self._wake.wait(seconds)
        self._wake.clear()

    @contextmanager
    def on_signals(self) -> Iterator[Stop]:
        """SIGINT and SIGTERM ask, until the block ends."""
        numbers = (signal.SIGINT, signal.SIGTERM)
        earlier = [signal.signal(number, self.ask) for number in numbers]
        try:
            yield self
        finally:
            for number, handler in zip(numbers, earlier, strict=True):
                signal.signal(number, handler)


def drive(hands: Hands, job: FineTuneJob, stop: Stop, watch: Watch) -> FineTuneJob:
    """Run the job to its end, or until it is suspended and nothing of it runs any more."""
    while True:
        if stop.asked and not job.spec.suspend:
            job = job.model_copy(update={"spec": job.spec.model_copy(update={"suspend": True})})
        seen = hands.observe(job)
        decision = decide(job, seen, datetime.now(UTC))
        settled = decision.status == job.status and not decision.children.stages
        job = hands.apply(job, seen, decision)
        watch(job, seen)
        alive = frozenset((r.stage, r.attempt) for r in seen.runs if r.state == "Running")
        if not alive and (finished(job.status) or (job.spec.suspend and settled)):
            return job
        if stop.asked > 1:
            hands.processes.stop(run_id(job), alive, kill=True)
        stop.wait(TICK_SECONDS)
