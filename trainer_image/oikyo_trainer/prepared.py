"""What the prepare stage left of a dataset, for the stages that open it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from oikyo.api import workspace as layout

from .errors import Refused


def manifest_of(workspace: Path, digest: str) -> dict[str, Any]:  # JSON, as data.version writes it
    """The manifest of the dataset `digest`; refuses one that prepare did not finish."""
    place = layout.dataset(digest) / layout.MANIFEST
    try:
        manifest: dict[str, Any] = json.loads((workspace / place).read_bytes())
    except FileNotFoundError:
        raise Refused(
            "DatasetMissing",
            f"the workspace holds no prepared dataset {digest}",
            evidence=str(place),
            next_step="Apply the job under a new name: its prepare stage writes the dataset again.",
        ) from None
    return manifest
