"""Where a desktop keeps things: one folder, `.oikyo`, beside the manifest's working directory.

.oikyo/workspace/                        what a cluster keeps on a volume (oikyo.api.workspace)
.oikyo/objects/<kind>/<name>.json        what a cluster keeps in its API server
.oikyo/attempts/<run>/<stage>-<n>/       spec.json, process.json, words.json of one process
.oikyo/logs/<run>/<stage>-<n>.log        what the process printed
.oikyo/reports/<job>.html
.oikyo/{claims,configmaps,secrets}/      stand-ins for the cluster's objects of the same name
"""

from __future__ import annotations

import fcntl
import json
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from oikyo.errors import OikyoError


@dataclass(frozen=True)
class Home:
    """The folder of one desktop."""

    root: Path
    """Absolute."""

    @property
    def workspace(self) -> Path:
        return self.root / "workspace"

    @property
    def claims(self) -> Path:
        return self.root / "claims"

    @property
    def configmaps(self) -> Path:
        return self.root / "configmaps"

    @property
    def secrets(self) -> Path:
        """A folder for each Secret, in it a file for each key."""
        return self.root / "secrets"

    def token(self, secret: str) -> Path:
        """File that stands for key `token` of a Secret."""
        return self.secrets / secret / "token"

    def objects(self, folder: str) -> Path:
        return self.root / "objects" / folder

    def attempts(self, run: str) -> Path:
        return self.root / "attempts" / run

    def logs(self, run: str) -> Path:
        return self.root / "logs" / run

    def log(self, run: str, stage: str, attempt: int) -> Path:
        return self.logs(run) / f"{stage}-{attempt}.log"

    def report(self, job: str) -> Path:
        return self.root / "reports" / f"{job}.html"

    @contextmanager
    def lock(self, job: str) -> Iterator[None]:
        """Hold the job: two loops over one job would start its stages twice."""
        path = self.root / "locks" / job
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("w") as file:
            try:
                # The kernel lets go when this process ends, however it ends.
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                raise OikyoError(
                    f"job {job} is already running here: another `oikyo` holds {path}; "
                    "wait for it, or stop it with Ctrl-C"
                ) from None
            yield


def write_atomic(path: Path, text: str) -> None:
    """Put `text` at `path` so that a reader sees the old file or the new one, also after a crash."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    with os.fdopen(handle, "w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    os.replace(name, path)


def read_json_lines(path: Path) -> list[dict[str, Any]]:
    """The whole lines of a file, none when it is not there; the last one may just be being written."""
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return []
    found = []
    for line in text.splitlines():
        with suppress(ValueError):
            found.append(json.loads(line))
    return found
