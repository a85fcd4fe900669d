"""What is written down about one stage process, so that a crashed `oikyo` finds it again."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

from pydantic import ValidationError

from oikyo.api.base import Report, Timestamp
from oikyo.api.stages import RUN_STAGES, LastWords

from .home import Home, write_atomic

SPEC = "spec.json"
PROCESS = "process.json"
WORDS = "words.json"


class ProcessRecord(Report):
    """One attempt of one stage as a process."""

    run: str
    stage: str
    attempt: int
    spec_digest: str
    pid: int
    birth: str
    """When the kernel says the process began: a pid alone may be someone else's by now."""
    port: int
    started: Timestamp
    gang: bool = False
    """Several ranks under torchrun, whose exit code says less than rank 0's last words."""
    stopped: Timestamp | None = None
    """When it was asked to end."""
    finished: Timestamp | None = None
    exit_code: int | None = None
    kills: int = 0
    """The kernel's count of processes killed for memory, when this one began."""
    starved: bool = False
    """Whether the kernel killed it for memory."""

    @property
    def key(self) -> tuple[str, int]:
        return self.stage, self.attempt

    def folder(self, home: Home) -> Path:
        return home.attempts(self.run) / f"{self.stage}-{self.attempt}"

    def save(self, home: Home) -> None:
        write_atomic(self.folder(home) / PROCESS, self.json_line() + "\n")

    def remove(self, home: Home) -> None:
        """Forget the attempt; its log stays."""
        shutil.rmtree(self.folder(home), ignore_errors=True)

    def words(self, home: Home) -> LastWords | None:
        try:
            return LastWords.model_validate_json((self.folder(home) / WORDS).read_bytes())
        except (FileNotFoundError, ValidationError):
            return None


def load_records(home: Home, run: str) -> list[ProcessRecord]:
    """Every attempt of a run that was started, in the order of stage and attempt."""
    records = []
    for path in home.attempts(run).glob(f"*/{PROCESS}"):
        try:
            records.append(ProcessRecord.model_validate_json(path.read_bytes()))
        except ValidationError:
            # Of another version of oikyo: as if it had never been started.
            shutil.rmtree(path.parent, ignore_errors=True)
    order: tuple[str, ...] = RUN_STAGES
    return sorted(records, key=lambda record: (order.index(record.stage), record.attempt))


def memory_kills(path: Path = Path("/proc/vmstat")) -> int:
    """Processes that the kernel has killed for want of memory since it started; 0 where it tells none."""
    try:
        lines = path.read_text(encoding="ascii").splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) for line in lines if line.startswith("oom_kill ")), 0)


def birth_of(pid: int) -> str | None:
    """When process `pid` began, as the kernel writes it; None when there is no such living process."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return None if Path("/proc/self").exists() else _birth_by_ps(pid)
    # The command stands in parentheses and may hold anything; the rest are plain fields.
    fields = stat.rpartition(")")[2].split()
    return None if fields[0] in "ZX" else fields[19]


def _birth_by_ps(pid: int) -> str | None:
    """For systems without /proc."""
    answer = subprocess.run(
        ["ps", "-o", "state=,lstart=", "-p", str(pid)], capture_output=True, text=True, check=False
    ).stdout.split(maxsplit=1)
    return answer[1].strip() if len(answer) == 2 and not answer[0].startswith("Z") else None
