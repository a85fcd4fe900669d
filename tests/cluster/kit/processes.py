"""Starts servers in the background and ends them again, and never ends anything else.

Each server has a record `<name>.json` (pid, start time, command) beside its log.  A pid counts as
ours only while the process that holds it began at the recorded tick of the recorded boot.
"""

import contextlib
import json
import os
import signal
import subprocess
import time
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from kit.errors import KitError

BOOT = Path("/proc/sys/kernel/random/boot_id")


@dataclass(frozen=True)
class Server:
    """One running program of the cluster, as recorded when it was started."""

    name: str
    pid: int
    started: str
    command: tuple[str, ...]

    @property
    def alive(self) -> bool:
        return start_of(self.pid) == self.started


def start_of(pid: int) -> str | None:
    """Return when a process began (boot id and clock tick), None when it has ended."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return None
    state, *fields = stat.rpartition(")")[2].split()
    if state in "ZX":
        return None
    return f"{BOOT.read_text().strip()} {fields[18]}"


class Servers:
    """The servers of one cluster: a folder of records and logs."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def log(self, name: str) -> Path:
        return self.folder / f"{name}.log"

    def start(self, name: str, command: Sequence[str | Path], path: Iterable[Path] = ()) -> Server:
        """Start a server in its own session, log appended; `path` goes before PATH."""
        self.folder.mkdir(parents=True, exist_ok=True)
        words = tuple(str(word) for word in command)
        search = os.pathsep.join([*map(str, path), os.environ.get("PATH", "")])
        with self.log(name).open("ab") as log:
            process = subprocess.Popen(
                words,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                env={**os.environ, "PATH": search},
            )
        server = Server(name, process.pid, start_of(process.pid) or "", words)
        record = {**asdict(server), "path": [str(entry) for entry in path]}
        (self.folder / f"{name}.json").write_text(json.dumps(record))
        process.returncode = 0  # it outlives this program: no warning that it was not waited for
        return server

    def get(self, name: str) -> Server:
        """Return a server by name."""
        record = self.folder / f"{name}.json"
        if not record.exists():
            raise KitError(f"no server named {name} was started; there are {', '.join(self.names)}")
        return server_of(json.loads(record.read_text()))

    @property
    def names(self) -> list[str]:
        return sorted(path.stem for path in self.folder.glob("*.json"))

    def all(self) -> list[Server]:
        return [self.get(name) for name in self.names]

    def restart(self, name: str) -> Server:
        """Start a server again with the command it had; it must have ended."""
        if self.get(name).alive:
            raise KitError(f"{name} still runs; stop it before starting it again")
        raw = json.loads((self.folder / f"{name}.json").read_text())
        return self.start(name, self.get(name).command, [Path(entry) for entry in raw["path"]])

    def check(self, name: str) -> None:
        """Raise with the end of its log when a server has ended."""
        if not self.get(name).alive:
            lines = self.log(name).read_text(errors="replace").strip().splitlines()[-5:]
            raise KitError(f"{name} ended; {self.log(name)} ends with: " + " | ".join(lines))

    def stop(self, names: Iterable[str], grace_seconds: float = 5.0) -> None:
        """End servers together: TERM, and KILL for what is still there after the grace."""
        servers = [self.get(name) for name in names]
        end([(server.pid, server.started) for server in servers], grace_seconds)


def server_of(record: Mapping[str, object]) -> Server:
    command = record["command"]
    pid = record["pid"]
    if not isinstance(command, list) or not isinstance(pid, int):
        raise KitError(f"a server's record has another form than expected: {record}")
    return Server(str(record["name"]), pid, str(record["started"]), tuple(map(str, command)))


def end(processes: Collection[tuple[int, str]], grace_seconds: float) -> None:
    """End (pid, start) pairs; a pid that has meanwhile gone to another process is left alone."""
    ours = [(pid, start) for pid, start in processes if start and start_of(pid) == start]
    for pid, start in ours:
        send(pid, start, signal.SIGTERM)
    deadline = time.monotonic() + grace_seconds
    alive = ours
    while alive and time.monotonic() < deadline:
        time.sleep(0.05)
        alive = [(pid, start) for pid, start in alive if start_of(pid) == start]
    for pid, start in alive:
        send(pid, start, signal.SIGKILL)
    for pid, start in ours:
        while start_of(pid) == start:
            time.sleep(0.02)
        reap(pid)


def reap(pid: int) -> None:
    """Take note of an ended process, which otherwise stays in the table while we run."""
    with contextlib.suppress(ChildProcessError):  # not our child: whoever owns it does this
        os.waitpid(pid, os.WNOHANG)


def send(pid: int, start: str, number: signal.Signals) -> None:
    """Signal a process through a descriptor of it, so that a reused pid is never hit."""
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    try:
        if start_of(pid) == start:
            signal.pidfd_send_signal(descriptor, number)
    except ProcessLookupError:
        return  # it ended by itself in between, which is what was wanted
    finally:
        os.close(descriptor)
