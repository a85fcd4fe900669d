"""What the exit code of `oikyo run` means."""

from __future__ import annotations

from typing import Final

ACCEPTED: Final = 0
FAILED: Final = 1
"""A stage failed more often than spec.backoffLimit allows, or the deadline passed."""
REJECTED: Final = 2
"""A gate failed: the version is kept, and never served."""
REFUSED: Final = 64
"""The manifest, the data or the model must be changed (EX_USAGE)."""
SUSPENDED: Final = 130
"""Stopped by Ctrl-C with a checkpoint; the same command goes on."""
