"""A node whose clock is wrong: what starts on it reads another time than the rest of the machine.

The kernel has one wall clock for all nodes. So the node's runc is wrapped: every container that it makes
loads clock.c, which moves the wall clock of each dynamically linked process and leaves the monotonic
clock and the times of files alone.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from kit import debian, places
from kit.commands import run
from kit.errors import KitError
from kit.nodes import Node

INSIDE = "/opt/clock.so"
WRAPPER = """#!/usr/bin/env -S python3 -IS
import json, os, sys
if "create" in sys.argv:
    path = sys.argv[sys.argv.index("--bundle") + 1] + "/config.json"
    with open(path) as file:
        spec = json.load(file)
    spec["process"].setdefault("env", []).append("LD_PRELOAD={inside}")
    spec["mounts"].append({mount})
    with open(path, "w") as file:
        json.dump(spec, file)
os.execv({runc}, [{runc}, *sys.argv[1:]])
"""


def wrapper(runc: Path, clock: Path) -> str:
    """Return the program that stands in for a node's runc."""
    options = ["bind", "ro"]
    mount = {"destination": INSIDE, "type": "bind", "source": str(clock), "options": options}
    return WRAPPER.format(inside=INSIDE, mount=json.dumps(mount), runc=json.dumps(str(runc)))


def build(clock: Path, seconds: int) -> None:
    """Compile the clock that is so many seconds ahead."""
    debian.ensure(debian.CLOCKS)
    flags = ("-shared", "-fPIC", "-nostdlib", "-fno-stack-protector", f"-DAHEAD={seconds}")
    run("cc", *flags, "-o", clock, places.KIT / "clock.c")


@contextmanager
def shifted(node: Node, seconds: int) -> Iterator[None]:
    """Containers that start on `node` meanwhile live so many seconds ahead, until they end."""
    found = shutil.which("runc")
    if found is None:
        raise KitError("runc is not there; a cluster with nodes would have installed it")
    program, folder = Path(found).resolve(), node.folder / "clock"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    build(folder / "clock.so", seconds)
    shutil.copy2(program, folder / "real")
    stand_in = folder / "runc"
    stand_in.write_text(wrapper(folder / "real", folder / "clock.so"))
    stand_in.chmod(0o755)
    run(*node.inside("mount", "--bind", stand_in, program))
    try:
        yield
    finally:
        run(*node.inside("umount", "--lazy", program))
