"""Writes small OCI image archives from static programs, byte for byte the same every time."""

import gzip
import hashlib
import io
import json
import tarfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True)
class Image:
    """What goes into one image of a single layer."""

    name: str
    programs: Mapping[str, Path]
    """Path inside the image to the file on this machine."""
    entrypoint: tuple[str, ...]
    links: Mapping[str, str] = field(default_factory=dict)
    user: str = "0"


def write(image: Image, archive: Path) -> Path:
    """Write an image as an OCI archive that `ctr images import` and kind both read."""
    layer = layer_of(image)
    packed = gzip.compress(layer, compresslevel=1, mtime=0)
    config = json.dumps(
        {
            "architecture": "amd64",
            "os": "linux",
            "config": {
                "Entrypoint": list(image.entrypoint),
                "User": image.user,
                "Env": ["PATH=/usr/bin:/bin"],
            },
            "rootfs": {"type": "layers", "diff_ids": [digest(layer)]},
        }
    ).encode()
    kind = "application/vnd.oci.image"
    manifest = json.dumps(
        {
            "schemaVersion": 2,
            "mediaType": f"{kind}.manifest.v1+json",
            "config": described(f"{kind}.config.v1+json", config),
            "layers": [described(f"{kind}.layer.v1.tar+gzip", packed)],
        }
    ).encode()
    names = {"io.containerd.image.name": image.name, "org.opencontainers.image.ref.name": "1"}
    entry = {**described(f"{kind}.manifest.v1+json", manifest), "annotations": names}
    index = json.dumps({"schemaVersion": 2, "manifests": [entry]}).encode()
    unfinished = archive.with_name(f".{archive.name}")
    with tarfile.open(unfinished, "w") as tar:
        add(tar, "oci-layout", b'{"imageLayoutVersion":"1.0.0"}')
        add(tar, "index.json", index)
        for blob in (packed, config, manifest):
            add(tar, "blobs/sha256/" + digest(blob).removeprefix("sha256:"), blob)
    return unfinished.replace(archive)


def layer_of(image: Image) -> bytes:
    """Return the layer's tar: the programs, links to them, and a /tmp for everyone."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        folder = tarfile.TarInfo("tmp")
        folder.type, folder.mode = tarfile.DIRTYPE, 0o1777
        tar.addfile(folder)
        for inside, source in sorted(image.programs.items()):
            add(tar, inside.lstrip("/"), source.read_bytes(), mode=0o755)
        for inside, target in sorted(image.links.items()):
            link = tarfile.TarInfo(inside.lstrip("/"))
            link.type, link.linkname = tarfile.SYMTYPE, target
            tar.addfile(link)
    return buffer.getvalue()


def add(tar: tarfile.TarFile, name: str, content: bytes, mode: int = 0o644) -> None:
    member = tarfile.TarInfo(name)
    member.size, member.mode = len(content), mode
    tar.addfile(member, io.BytesIO(content))


def digest(content: bytes) -> str:
    return "sha256:" + hashlib.sha256(content).hexdigest()


def described(media_type: str, content: bytes) -> dict[str, object]:
    """Return an OCI descriptor of a blob."""
    return {"mediaType": media_type, "digest": digest(content), "size": len(content)}
