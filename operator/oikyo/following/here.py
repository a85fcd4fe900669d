"""A job of this desktop: its object, its history and its logs are files of one home."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from datetime import datetime
from itertools import islice, takewhile
from pathlib import Path
from typing import BinaryIO

from oikyo.api import workspace as layout
from oikyo.api.finetunejob import FineTuneJob
from oikyo.controller.decide import finished
from oikyo.controller.resolve import run_id
from oikyo.desktop.finding import the_job
from oikyo.desktop.home import Home

from .lines import LogLine, merged, stamped
from .place import Point, Wanted

LOOK_SECONDS = 0.5
PIECE = 1000
"""Log lines that are held at once."""


class Here:
    """One home; see `Place`."""

    def __init__(self, home: Home) -> None:
        self._home = home
        self._curves: dict[tuple[str, ...], _Curve] = {}

    async def job(self, name: str) -> FineTuneJob:
        return the_job(name, self._home)

    def curve(self, job: FineTuneJob, *names: str) -> list[Point]:
        path = self._home.workspace / layout.stage(run_id(job), "train") / layout.HISTORY
        return self._curves.setdefault((str(path), *names), _Curve(path, names)).read()

    async def lines(
        self, job: FineTuneJob, wanted: Wanted, *, follow: bool
    ) -> AsyncIterator[list[LogLine]]:
        tails: dict[Path, _Tail] = {}
        while True:
            over = not follow or await self._over(job)
            for path in sorted(self._home.logs(run_id(job)).glob("*.log")):
                if path not in tails and _wanted(path, wanted):
                    tails[path] = _Tail(path)
            fresh = merged([tail.read() for tail in tails.values()])
            while piece := list(islice(fresh, PIECE)):
                yield piece
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


def _whole(file: BinaryIO) -> Iterator[bytes]:
    """The lines up to one that is just being written."""
    return takewhile(lambda raw: raw.endswith(b"\n"), file)


class _Curve:
    """A history, read on: after days it is 100 MB, and who watches looks every second."""

    def __init__(self, path: Path, names: tuple[str, ...]) -> None:
        self._path = path
        self._names = names
        """Values that are wanted; none: all."""
        self._file = 0
        self._at = 0
        self._points: list[Point] = []

    def read(self) -> list[Point]:
        try:
            file = self._path.open("rb")
        except FileNotFoundError:
            return []
        with file:
            known = os.fstat(file.fileno())
            # A training that resumes puts a shorter history in its place.
            if known.st_ino != self._file or known.st_size < self._at:
                self._file, self._at, self._points = known.st_ino, 0, []
            file.seek(self._at)
            for raw in _whole(file):
                self._at += len(raw)
                self._add(raw)
        return self._points

    def _add(self, raw: bytes) -> None:
        with suppress(ValueError):
            point = json.loads(raw)
            wanted = {name: point[name] for name in self._names if name in point}
            if not self._names or wanted:
                self._points.append({"step": point["step"], **wanted} if self._names else point)


class _Tail:
    """A log file, read on from where the last reading ended; a line that is not whole waits."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._at = 0
        self._time: datetime | None = None

    def read(self) -> Iterator[LogLine]:
        """One by one: a log may be larger than memory."""
        for line in stamped(self._path.stem, self._texts()):
            # A line without a time that begins a piece goes on with the piece before it.
            found = line if line.time else LogLine(line.source, line.text, self._time)
            self._time = found.time
            yield found

    def _texts(self) -> Iterator[str]:
        with self._path.open("rb") as file:
            file.seek(self._at)
            for raw in _whole(file):
                self._at += len(raw)
                yield from raw.decode("utf-8", "replace").splitlines()
