"""A small file system of its own that every node mounts: the volume of a claim that really gets full."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kit import debian
from kit.commands import run
from kit.nodes import Node


@dataclass(frozen=True)
class SmallVolume:
    """Mounted at the same path here and on every node."""

    folder: Path
    megabytes: int

    @property
    def ballast(self) -> Path:
        return self.folder / "ballast"

    def fill(self) -> None:
        """Take all the room that is left."""
        with self.ballast.open("ab", buffering=0) as file:
            try:
                while file.write(bytes(4096)):
                    pass
            except OSError:
                return

    def make_room(self) -> None:
        self.ballast.unlink(missing_ok=True)

    def objects(self, name: str, namespace: str) -> list[dict[str, Any]]:
        """A PersistentVolume that is this folder, and the claim that is bound to it."""
        common: dict[str, Any] = {"accessModes": ["ReadWriteMany"], "storageClassName": ""}
        size = {"storage": f"{self.megabytes}Mi"}
        volume = {
            "apiVersion": "v1",
            "kind": "PersistentVolume",
            "metadata": {"name": name},
            "spec": {
                **common,
                "capacity": size,
                "persistentVolumeReclaimPolicy": "Retain",
                "hostPath": {"path": str(self.folder), "type": "Directory"},
                "claimRef": {"name": name, "namespace": namespace},
            },
        }
        claim = {
            "apiVersion": "v1",
            "kind": "PersistentVolumeClaim",
            "metadata": {"name": name},
            "spec": {**common, "resources": {"requests": size}, "volumeName": name},
        }
        return [volume, claim]


@contextmanager
def small_volume(
    folder: Path, nodes: Sequence[Node], *, megabytes: int = 64
) -> Iterator[SmallVolume]:
    """One ext4 in a file: two mounts of one loop device are one file system."""
    debian.ensure(debian.VOLUMES)
    folder.mkdir(parents=True)
    image = folder.with_name(f"{folder.name}.ext4")
    with image.open("wb") as file:
        file.truncate(megabytes << 20)
    run("mkfs.ext4", "-q", "-m", "0", image)
    run("mount", "-o", "loop", image, folder)
    try:
        (folder / "lost+found").rmdir()
        folder.chmod(0o777)  # a hostPath knows no fsGroup, and pods here are not root
        device = run("losetup", "--noheadings", "--output", "NAME", "--associated", image)
        for node in nodes:
            run(*node.inside("mount", device.stdout.strip(), folder))
        yield SmallVolume(folder, megabytes)
    finally:
        for node in nodes:
            run(*node.inside("umount", "--lazy", folder), check=False)
        run("umount", "--lazy", folder)
        image.unlink()
        folder.rmdir()
