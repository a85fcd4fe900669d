"""What the C library does with memory that was given back: it keeps it for the next piece of rows.

Pieces are worked on in arrays of a few megabytes. By default each of them comes from the kernel, page by
page, and goes back to it a moment later: a seventh of the processor's time. And each thread has a heap of
its own, whose gaps no other thread may use. Arrow's own heap gives back what it has not used for some
milliseconds, so that it takes from this one as well.
"""

from __future__ import annotations

import ctypes
import sys

import pyarrow as pa

TRIM_THRESHOLD, MMAP_THRESHOLD, ARENA_MAX = -1, -3, -8
"""Parameters of glibc's mallopt (malloc.h)."""
KEPT = 256 << 20
"""Bytes at the end of the heap that may stay unused."""
LARGE = 32 << 20
"""Bytes of an array that still comes from the kernel and goes back to it; the most that glibc takes."""


def keep() -> None:
    """Have this process, and those that it forks, keep what they free; not where glibc is not."""
    if sys.platform != "linux":
        return
    library = ctypes.CDLL(None)
    try:
        mallopt = library.mallopt
    except AttributeError:  # musl has a heap of another kind
        return
    for parameter, value in ((TRIM_THRESHOLD, KEPT), (MMAP_THRESHOLD, LARGE), (ARENA_MAX, 1)):
        mallopt(parameter, value)
    pa.set_memory_pool(pa.system_memory_pool())
