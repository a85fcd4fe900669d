"""Log lines of several processes as one story, and the first error in it. Pure.

A traceback is one error: from its first line to the sentence at its end. When several workers of a
gang fail, the one that failed first is the cause; the others fail because it is gone.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from heapq import merge

TRACEBACK = "Traceback (most recent call last):"
_STAMP = re.compile(r"(\d{4}-\d\d-\d\d)[T ](\d\d:\d\d:\d\d)(?:[.,](\d+))?(Z)?\s?")
_RANK = re.compile(r"^(?:\[(?:rank|default)?\d+\]:? ?)")
_ERROR = re.compile(
    r"^(?:[\w.]+(?:Error|Exception|Interrupt)\b.*|.* (?:ERROR|CRITICAL|FATAL) .*"
    r"|Segmentation fault.*|Killed)$"
)

_SAID = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d+ (?:DEBUG|INFO|WARNING) ")
"""Another rank of the same file, or another thread, speaks: no end of a traceback."""
_KILLED = re.compile(r"failed \(exitcode: -\d+\)")


@dataclass(frozen=True)
class LogLine:
    """One line that a process printed."""

    source: str
    """Whose it is: stage, attempt and worker, for example train-1/0."""
    text: str
    time: datetime | None = None
    """When it was printed; a line without a time of its own has that of the one before it."""


def stamped(source: str, texts: Iterable[str], *, strip: bool = False) -> Iterator[LogLine]:
    """Lines with the times that they begin with; `strip` takes the times away (the kubelet's)."""
    last: datetime | None = None
    for text in texts:
        found = _STAMP.match(text)
        if found is not None:
            last = _time(found)
        yield LogLine(source, text[found.end() :] if found and strip else text, last)


def _time(found: re.Match[str]) -> datetime:
    date, clock, fraction, zone = found.groups()
    micro = (fraction or "")[:6].ljust(6, "0")
    time = datetime.fromisoformat(f"{date}T{clock}.{micro}")
    # Without a zone it is this machine's own: a desktop's processes log in local time.
    return time.replace(tzinfo=UTC) if zone else time.astimezone(UTC)


def merged(streams: Iterable[Iterable[LogLine]]) -> Iterator[LogLine]:
    """The lines of all streams in the order of their times; those of one stream keep their order."""
    yield from merge(*streams, key=lambda line: line.time or datetime.min.replace(tzinfo=UTC))


class FirstError:
    """Tells the lines of errors as they come, and remembers the sentence of the first one."""

    def __init__(self) -> None:
        self.line: LogLine | None = None
        """The line that says what the first error is."""
        self.killed: LogLine | None = None
        """Where torchrun says that a process was ended by a signal: that one could say nothing itself."""
        self._first = ""
        """Source of the first error."""
        self._open: set[str] = set()
        """Sources inside a traceback."""
        self._headlines: dict[str, LogLine] = {}
        """By source: a line of an error that a traceback may follow, which says more."""

    def look(self, line: LogLine) -> str:
        """`first` for a line of the first error, `later` for one of another, else the empty text."""
        text = _RANK.sub("", line.text)
        if _SAID.match(text):
            return ""
        headline = self._headlines.pop(line.source, None)
        if TRACEBACK in text:
            self._open.add(line.source)
            if headline is not None and headline is self.line:
                self.line = None
        elif line.source in self._open:
            if text and not text[0].isspace():
                self._open.discard(line.source)
                self._keep(line)
        elif _ERROR.match(text):
            self._headlines[line.source] = line
            self._keep(line)
        else:
            if self.killed is None and _KILLED.search(text):
                self.killed = line
            return ""
        self._first = self._first or line.source
        done = self.line is not None and self.line is not line
        return "later" if done or line.source != self._first else "first"

    def _keep(self, line: LogLine) -> None:
        if self.line is None and self._first in ("", line.source):
            self.line = line
