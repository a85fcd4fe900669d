"""Where the kit keeps things: caches shared by every cluster, and one state folder a cluster."""

import os
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
