"""pandas stays out of the processes that read rows: nothing here makes a data frame.

`datasets` brings pandas, so it is there; and pyarrow imports it where the first list becomes an array, to
ask whether the list is one of its series, and where the first array goes to numpy. That costs 0.2
CPU-seconds and 44 MB of each process.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from types import ModuleType

import pyarrow as pa

HIDDEN = "pandas"


def leave_out() -> None:
    """Have pyarrow ask now, once for all, and find none; whoever imports pandas later gets it."""
    if HIDDEN in sys.modules:
        return
    sys.meta_path.insert(0, _Hiding)
    try:
        pa.array([0]).to_numpy()  # both of the two places that ask
    finally:
        sys.meta_path.remove(_Hiding)


class _Hiding:
    """A finder that finds no pandas; None in sys.modules would not do, which Cython takes for the module."""

    @staticmethod
    def find_spec(
        name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> None:
        if name == HIDDEN:
            raise ModuleNotFoundError(f"no {name} in a process that reads rows", name=name)
