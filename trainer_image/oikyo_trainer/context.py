"""What a stage function gets beside its spec. `run_stage` makes it; tests make their own."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from oikyo.api import workspace as layout
from oikyo.api.stages import RunSpec

from .errors import StageFailed
from .progress import Reporter


@dataclass(frozen=True)
class Context:
    """Where a stage works, whom it tells, and which of the processes it is."""

    workspace: Path
    """Root of the workspace, an absolute path."""
    reporter: Reporter
    rank: int = 0
    world_size: int = 1
    remember: Callable[[int], None] = lambda step: None
    """Told the step of each committed checkpoint, so that it is known when the stage is killed."""
    end: Callable[[StageFailed], None] = lambda error: None
    """Ends the process at once with these words, from any thread; for when the main one is stuck."""

    def folder(self, spec: RunSpec) -> Path:
        """The stage's own folder, made if absent; shared by all attempts of the run."""
        folder = self.workspace / layout.stage(spec.run, spec.stage)
        folder.mkdir(parents=True, exist_ok=True)
        return folder
