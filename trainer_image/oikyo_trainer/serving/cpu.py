"""How many threads to compute with: what the container may use, not what the machine has.

Without this, torch starts a thread for every core of the node, and a pod of one CPU thrashes.
"""

from __future__ import annotations

import math
import os
from pathlib import Path

CGROUP = Path("/sys/fs/cgroup")


def quota(root: Path = CGROUP) -> float | None:
    """CPUs of the cgroup's quota (version 2, else version 1); None without a limit."""
    try:
        limit, period = (root / "cpu.max").read_text().split()
    except (OSError, ValueError):
        return _quota_of_version_1(root)
    return None if limit == "max" else int(limit) / int(period)


def _quota_of_version_1(root: Path) -> float | None:
    try:
        limit = int((root / "cpu" / "cpu.cfs_quota_us").read_text())
        period = int((root / "cpu" / "cpu.cfs_period_us").read_text())
    except (OSError, ValueError):
        return None
    return None if limit <= 0 or period <= 0 else limit / period


def threads(root: Path = CGROUP) -> int:
    """Least of the usable cores, the quota rounded up and OMP_NUM_THREADS; at least 1."""
    limits = [len(os.sched_getaffinity(0))]
    if (cpus := quota(root)) is not None:
        limits.append(math.ceil(cpus))
    if (asked := os.environ.get("OMP_NUM_THREADS", "")).isdecimal():
        limits.append(int(asked))
    return max(1, min(limits))
