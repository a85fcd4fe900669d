"""What clusters with nodes share of the machine: slots, kernel settings, folders that nodes hide.

The first `up` writes down what it found and the last `down` puts it back.  The record lies under
/run, because a reboot undoes all of it anyway.
"""

import fcntl
import json
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from kit.errors import KitError
from kit.layout import SLOTS

RECORD = Path("/run/oikyo-kit")

# Every kubelet sets these for the whole machine when it starts.
KERNEL_SETTINGS = (
    "vm/overcommit_memory",
    "vm/panic_on_oom",
    "kernel/panic",
    "kernel/panic_on_oops",
    "kernel/keys/root_maxkeys",
    "kernel/keys/root_maxbytes",
)

# Each node mounts a folder of its own here; the mount points must exist on the machine.
HIDDEN = (
    "/var/lib/kubelet",
    "/var/lib/cni",
    "/var/log/containers",
    "/var/log/pods",
    "/run/containerd",
    "/run/netns",
)


@contextmanager
def locked() -> Iterator[None]:
    """Let one program at a time take or give back a slot."""
    RECORD.mkdir(exist_ok=True)
    with (RECORD.parent / "oikyo-kit.lock").open("w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def claims() -> dict[int, Path]:
    """Return which slot belongs to which state folder."""
    found = RECORD.glob("slot-*")
    return {int(path.name.removeprefix("slot-")): Path(path.read_text()) for path in sorted(found)}


def claim(state: Path) -> int:
    """Take a free slot for a state folder, and record the machine before the first change."""
    with locked():
        taken = claims()
        for slot, owner in taken.items():
            if owner == state:
                return slot
        if not (RECORD / "before.json").exists():
            (RECORD / "before.json").write_text(json.dumps(remember()))
        free = [slot for slot in range(SLOTS) if slot not in taken]
        if not free:
            raise KitError(f"all {SLOTS} slots are taken: {taken}; run `kit down` for one of them")
        (RECORD / f"slot-{free[0]}").write_text(str(state))
        return free[0]


def release(slot: int) -> None:
    """Give a slot back; with the last one, put the machine back as it was."""
    with locked():
        (RECORD / f"slot-{slot}").unlink(missing_ok=True)
        before = RECORD / "before.json"
        if not claims() and before.exists():
            restore(json.loads(before.read_text()))
            before.unlink()
            RECORD.rmdir()
            (RECORD.parent / "oikyo-kit.lock").unlink()


def remember() -> dict[str, dict[str, str]]:
    """Read the settings as they are, and make the mount points that are missing."""
    values = {name: (Path("/proc/sys") / name).read_text().strip() for name in KERNEL_SETTINGS}
    made: dict[str, str] = {}
    for folder in HIDDEN:
        for path in (*reversed(Path(folder).parents), Path(folder)):
            if not path.exists():
                path.mkdir()
                made[str(path)] = "made"
    return {"kernel": values, "folders": made}


def restore(before: dict[str, dict[str, str]]) -> None:
    """Write the settings back and remove the mount points that the kit made."""
    for name, value in before["kernel"].items():
        path = Path("/proc/sys") / name
        if path.read_text().strip() != value:
            path.write_text(value)
    for folder in sorted(before["folders"], reverse=True):
        with suppress(OSError):  # somebody else has put something into it: it is theirs now
            Path(folder).rmdir()


def mounts_below(folder: Path) -> list[str]:
    """Return what is mounted below a folder, in the order in which it was."""
    points = [line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines()]
    return [point for point in points if point.startswith(f"{folder}/")]
