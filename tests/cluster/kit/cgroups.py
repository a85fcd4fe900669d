"""Makes and removes the cgroup of a node, under cgroup v1 and v2 alike.

Every process of every pod lives under its node's group, which is how `down` finds them all.
Only v1 has been tried on a real machine; v2 is written from the kernel's documentation.
"""

import os
import signal
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from kit.errors import KitError

ROOT = Path("/sys/fs/cgroup")
V2_CONTROLLERS = ("cpuset", "cpu", "io", "memory", "pids")


def is_v1() -> bool:
    """Tell which version the machine mounts: only v2 has this file at its root."""
    return not (ROOT / "cgroup.controllers").exists()


def hierarchies() -> list[Path]:
    """Return the folders below which groups are made."""
    if not is_v1():
        return [ROOT]
    # Names such as cpu,cpuacct may be links to one and the same hierarchy.
    mounted = [path for path in ROOT.iterdir() if (path / "cgroup.procs").exists()]
    return sorted({path.resolve() for path in mounted})


def make(name: str) -> None:
    """Create the group in every hierarchy."""
    for root in hierarchies():
        (root / name).mkdir(exist_ok=True)
        if (root / name / "cpuset.cpus").exists() and is_v1():
            # A fresh v1 cpuset has no processors at all until it is told which.
            for file in ("cpuset.cpus", "cpuset.mems"):
                (root / name / file).write_text((root / file).read_text())
    if not is_v1():
        available = (ROOT / "cgroup.controllers").read_text().split()
        wanted = [f"+{each}" for each in V2_CONTROLLERS if each in available]
        (ROOT / "cgroup.subtree_control").write_text(" ".join(wanted))


def groups(name: str) -> Iterator[Path]:
    """Yield the group and all below it, deepest first."""
    for root in hierarchies():
        for folder, _, _ in os.walk(root / name, topdown=False):
            yield Path(folder)


def processes(name: str) -> set[int]:
    """Return the pids of everything that runs in the group."""
    found: set[int] = set()
    for group in groups(name):
        with suppress(OSError):  # a group may vanish while it is read
            found.update(int(pid) for pid in (group / "cgroup.procs").read_text().split())
    return found


def kill(name: str, seconds: float = 10.0) -> None:
    """Kill every process in the group: they are the node's pods and nothing else."""
    deadline = time.monotonic() + seconds
    while pids := processes(name):
        for pid in pids:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        if time.monotonic() > deadline:
            raise KitError(f"processes {sorted(pids)} of {name} do not end; look at them with ps")
        time.sleep(0.05)


def remove(name: str) -> None:
    """Remove the group with everything below it; the kernel frees it a moment after the last exit."""
    for _ in range(40):
        for group in list(groups(name)):
            with suppress(OSError):
                group.rmdir()
        if not names_left(name):
            return
        time.sleep(0.05)


def names_left(prefix: str) -> list[str]:
    """Return groups whose name begins so, as paths."""
    return [str(path) for root in hierarchies() for path in root.glob(f"{prefix}*")]
