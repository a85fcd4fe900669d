"""A job of this desktop: its object, its history and its logs are files of one home."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

from oikyo.api import workspace as layout
from oikyo.api.finetunejob import FineTuneJob
from oikyo.controller.decide import finished
from oikyo.controller.resolve import run_id
from oikyo.desktop.finding import the_job
from oikyo.desktop.home import Home, read_json_lines

from .lines import LogLine, merged, stamped
from .place import Point, Wanted

LOOK_SECONDS = 0.5


class Here:
    """One home; see `Place`."""

    def __init__(self, home: Home) -> None:
        self._home = home

    async def job(self, name: str) -> FineTuneJob:
        return the_job(name, self._home)

    def curve(self, job: FineTuneJob) -> list[Point]:
        path = self._home.workspace / layout.stage(run_id(job), "train") / layout.HISTORY
        return read_json_lines(path)

    async def lines(
        self, job: FineTuneJob, wanted: Wanted, *, follow: bool
    ) -> AsyncIterator[list[LogLine]]:
        tails: dict[Path, _Tail] = {}
        while True:
            over = not follow or await self._over(job)
            for path in sorted(self._home.logs(run_id(job)).glob("*.log")):
                if path not in tails and _wanted(path, wanted):
                    tails[path] = _Tail(path)
            if fresh := list(merged([tail.read() for tail in tails.values()])):
                yield fresh
            if over:
                return
            await asyncio.sleep(LOOK_SECONDS)

    async def _over(self, job: FineTuneJob) -> bool:
        """Whether nothing more will be printed: the job has ended or is suspended."""
        status = (await self.job(job.metadata.name)).status
        return finished(status) or status.phase == "Suspended"

    async def close(self) -> None:
        """Nothing is open."""


def _wanted(path: Path, wanted: Wanted) -> bool:
    stage, _, attempt = path.stem.rpartition("-")
    return attempt.isdecimal() and wanted.includes(stage, int(attempt))


class _Tail:
    """A log file, read on from where the last reading ended; a line that is not whole waits."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._at = 0
        self._last: LogLine | None = None

    def read(self) -> list[LogLine]:
        with self._path.open("rb") as file:
            file.seek(self._at)
            whole, end, _ = file.read().rpartition(b"\n")
        self._at += len(whole) + len(end)
        texts = whole.decode("utf-8", "replace").splitlines()
        found = list(stamped(self._path.stem, texts))
        # A line without a time that begins a piece goes on with the piece before it.
        known = self._last.time if self._last else None
        found = [line if line.time else LogLine(line.source, line.text, known) for line in found]
        self._last = found[-1] if found else self._last
        return found
