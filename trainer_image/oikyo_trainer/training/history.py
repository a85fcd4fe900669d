"""history.jsonl: one line for each logged step, in order, each step and kind once. The report plots it."""

from __future__ import annotations

import json
import logging
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ..files import write_atomic
from .fullvolume import is_full

log = logging.getLogger("oikyo.train")

Line = dict[str, Any]  # step, time and the values logged at that step


class History:
    """The values of a run over its steps, across all its attempts."""

    def __init__(self, path: Path, before_write: Callable[[], None] = lambda: None) -> None:
        self._path = path
        self._before_write = before_write
        """Raises when this attempt has been replaced and must not write."""

    def lines(self) -> list[Line]:
        """Every whole line; a line that a crash cut short is left out."""
        if not self._path.exists():
            return []
        lines: list[Line] = []
        for text in self._path.read_text(encoding="utf-8").splitlines():
            try:
                lines.append(json.loads(text))
            except ValueError:
                continue
        return lines

    def rewind(self, step: int) -> None:
        """Forget what came after `step`: it is trained again and told again."""
        kept = [line for line in self.lines() if line["step"] <= step]
        write_atomic(self._path, "".join(json.dumps(line) + "\n" for line in kept))

    def add(self, step: int, **values: float) -> None:
        """Append a line. A full volume costs the line, not the training, and leaves no half of it."""
        self._before_write()
        line = {"step": step, "time": round(time.time(), 3), **values}
        body = (json.dumps(line) + "\n").encode()
        with self._path.open("ab", buffering=0) as file:
            end = file.seek(0, os.SEEK_END)
            try:
                written = file.write(body)
            except OSError as error:
                if not is_full(error):
                    raise
                written = 0
            if written < len(body):
                file.truncate(end)
                log.warning("no room for the history of step %d", step)
