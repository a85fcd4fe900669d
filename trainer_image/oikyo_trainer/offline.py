"""Stages that find all they need in the workspace: no library may wait for a network or report to one."""

from __future__ import annotations

import os

SETTINGS = {
    "HF_HUB_OFFLINE": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "DO_NOT_TRACK": "1",
    "TOKENIZERS_PARALLELISM": "true",
}


def go_offline() -> None:
    """Say so in the environment, before the libraries are imported: they read it only then."""
    for name, value in SETTINGS.items():
        os.environ.setdefault(name, value)
