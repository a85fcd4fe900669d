"""Where the kit keeps things: caches shared by every cluster, and one state folder a cluster."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

KIT = Path(__file__).resolve().parent
MODULES = KIT / "modules"
REPOSITORY = KIT.parents[2]


def cache() -> Path:
    """Return the folder of everything that may be deleted and comes back by itself."""
    base = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(base) / "oikyo"


def default_state() -> Path:
    return cache() / "cluster"


@contextmanager
def alone(work: str) -> Iterator[None]:
    """Hold off every other process of this machine that would do the same work."""
    path = cache() / f"{work}.lock"
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
