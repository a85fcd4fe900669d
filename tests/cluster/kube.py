"""A few verbs over kubectl, for tests that drive a real cluster as a person would."""

from __future__ import annotations

import io
import json
import subprocess
import tarfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar

T = TypeVar("T")


@dataclass(frozen=True)
class Kube:
    """kubectl against one cluster."""

    kubectl: Path
    kubeconfig: Path

    def __call__(self, *arguments: str, stdin: bytes | None = None, check: bool = True) -> str:
        """Run kubectl and return what it prints; raises with its own words when it fails."""
        command = [str(self.kubectl), f"--kubeconfig={self.kubeconfig}", *arguments]
        done = subprocess.run(command, input=stdin, capture_output=True, check=False)
        if check and done.returncode:
            raise AssertionError(f"kubectl {' '.join(arguments)}: {done.stderr.decode()}")
        return done.stdout.decode()

    def apply(self, manifest: dict[str, Any], namespace: str) -> str:
        # JSON, not YAML: PyYAML writes the text "2e-4" so that Kubernetes reads a number.
        body = json.dumps(manifest).encode()
        return self("apply", "-n", namespace, "-f", "-", stdin=body)

    def get(self, kind: str, name: str, namespace: str) -> dict[str, Any]:
        """The object, or an empty dict when there is none."""
        text = self("get", kind, name, "-n", namespace, "-o", "json", "--ignore-not-found")
        found: dict[str, Any] = json.loads(text) if text.strip() else {}
        return found

    def items(self, kind: str, namespace: str, selector: str = "") -> list[dict[str, Any]]:
        text = self("get", kind, "-n", namespace, "-o", "json", "-l", selector)
        found: list[dict[str, Any]] = json.loads(text)["items"]
        return found

    def python(self, pod: str, namespace: str, code: str, *arguments: str) -> str:
        """Run Python code inside a pod."""
        return self("exec", "-n", namespace, pod, "--", "python", "-c", code, *arguments)

    def copy(self, folder: Path, pod: str, namespace: str, target: str) -> None:
        """Copy a folder's content into a pod; works with any storage, unlike a path on a node."""
        buffer = io.BytesIO()
        with tarfile.open(fileobj=buffer, mode="w") as archive:
            archive.add(folder, arcname=".", filter=_anonymous)
        code = (
            "import sys, tarfile; tarfile.open(fileobj=sys.stdin.buffer, mode='r|')"
            ".extractall(sys.argv[1], filter='data')"
        )
        command = ("exec", "-i", "-n", namespace, pod, "--", "python", "-c", code, target)
        self(*command, stdin=buffer.getvalue())


def _anonymous(entry: tarfile.TarInfo) -> tarfile.TarInfo:
    entry.uid = entry.gid = 10001
    return entry


def wait_for(
    what: str, look: Callable[[], T | Literal[False, ""] | None], seconds: float, every: float = 1.0
) -> T:
    """Look until there is something; says what was waited for when time is up."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        found = look()
        if found:
            return found
        time.sleep(every)
    raise AssertionError(f"waited {seconds:.0f} s in vain for {what}")


def condition(job: dict[str, Any], kind: str) -> dict[str, Any]:
    """One condition of an object, or an empty dict."""
    conditions = job.get("status", {}).get("conditions", [])
    return next((c for c in conditions if c["type"] == kind), {})
