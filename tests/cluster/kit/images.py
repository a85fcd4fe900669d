"""Builds the project's two images and brings them to the nodes, without any image registry.

The base is a debootstrap of Debian; the Dockerfile's targets are built on it with buildah.  An
image is built again only when something it is made from has changed, and then only its last thin
layer; `Delivery` sends to the nodes only the layers that they do not have.
"""

import hashlib
import json
import os
import shutil
import tarfile
import tempfile
import time
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, cast

from kit import debian, places
from kit.commands import run, say
from kit.errors import KitError

SUITE = "trixie"
INCLUDED = ("ca-certificates", "python3", "python3-venv")
SYSTEM_BUNDLE = "/etc/ssl/certs/ca-certificates.crt"
BUNDLE_VARIABLES = ("SSL_CERT_FILE", "PIP_CERT", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")
DIGEST_LABEL = "dev.oikyo.kit.digest"
# A third less processor time than gzip to pack an image, a seventh less to unpack it (measured).
PUSH = ("buildah", "push", "--quiet", "--compression-format", "zstd", "--compression-level", "1")


@dataclass(frozen=True)
class Target:
    """One target of the Dockerfile and the paths of the repository that it copies."""

    name: str
    sources: tuple[str, ...]

    @property
    def image(self) -> str:
        return f"localhost/oikyo-{self.name}:dev"


TARGETS = (
    Target("operator", ("requirements/operator.txt", "operator/oikyo")),
    Target(
        "trainer",
        (
            "requirements/trainer.txt",
            "operator/oikyo/__init__.py",
            "operator/oikyo/api",
            "trainer_image/oikyo_trainer",
        ),
    ),
)
SHARED_SOURCES = ("Dockerfile", ".dockerignore", "LICENSE")


def source_digest(repository: Path, sources: Iterable[str]) -> str:
    """Hash names and contents of files and folders, byte-code left out."""
    whole = hashlib.sha256()
    for source in sorted(sources):
        path = repository / source
        files = sorted(path.rglob("*")) if path.is_dir() else [path]
        for file in files:
            if file.is_file() and "__pycache__" not in file.parts:
                name = str(file.relative_to(repository))
                whole.update(f"{name}\0{hashlib.sha256(file.read_bytes()).hexdigest()}\n".encode())
    return whole.hexdigest()[:16]


def client_volumes(environment: Mapping[str, str]) -> list[str]:
    """Return buildah's volume options that let package clients work as they do on this machine.

    Mounted for the time of the build, so nothing of the machine enters the image.
    """
    bundles = [environment[name] for name in BUNDLE_VARIABLES if environment.get(name)]
    configs = [environment.get("PIP_CONFIG_FILE", ""), "/etc/pip.conf"]
    options: dict[str, str] = {}
    for path in (*bundles, *configs, "/etc/resolv.conf"):
        if path and Path(path).is_file():
            options[path] = path
    if bundles and Path(bundles[0]).is_file():
        options[SYSTEM_BUNDLE] = bundles[0]
    return [f"--volume={source}:{inside}:ro" for inside, source in options.items()]


def exists(image: str) -> bool:
    return run("buildah", "images", "-q", image, check=False).returncode == 0


def base_image() -> str:
    """Return the base image, made with debootstrap on the first call."""
    made_from = hashlib.sha256(repr((SUITE, INCLUDED)).encode()).hexdigest()[:16]
    image = f"localhost/oikyo-base:{made_from}"
    if exists(image):
        return image
    debian.ensure(debian.IMAGES)
    began = time.monotonic()
    say(f"building the base image from Debian {SUITE} ...")
    with tempfile.TemporaryDirectory(dir=places.cache()) as folder:
        include = f"--include={','.join(INCLUDED)}"
        run("debootstrap", "--variant=minbase", include, SUITE, folder)
        shutil.rmtree(Path(folder) / "var/cache/apt/archives", ignore_errors=True)
        container = run("buildah", "from", "scratch").stdout.strip()
        try:
            run("buildah", "add", "--quiet", container, folder, "/")
            run("buildah", "config", "--cmd", "/bin/sh", container)
            run("buildah", "commit", "--quiet", container, image)
        finally:
            run("buildah", "rm", container)
    say(f"building the base image ... {time.monotonic() - began:.0f} s")
    return image


def digest_of(image: str) -> str | None:
    """Return the digest that a built image was labelled with."""
    template = f'{{{{index .OCIv1.Config.Labels "{DIGEST_LABEL}"}}}}'
    found = run("buildah", "inspect", "--type", "image", "--format", template, image, check=False)
    return found.stdout.strip() if found.returncode == 0 else None


def build(target: Target, repository: Path = places.REPOSITORY) -> str:
    """Build one image where its sources have changed; return the digest of what it is made from."""
    debian.require_root()
    with places.alone("images"):
        debian.ensure(debian.IMAGES)
        return build_alone(target, repository)


def build_alone(target: Target, repository: Path) -> str:
    """Do so while no other process makes images."""
    base = base_image()
    sources = source_digest(repository, (*SHARED_SOURCES, *target.sources))
    digest = hashlib.sha256(f"{base} {sources}".encode()).hexdigest()[:16]
    if digest_of(target.image) == digest:
        return digest
    began = time.monotonic()
    say(f"building {target.image} ...")
    before = run("buildah", "images", "-q", "--no-trunc", target.image, check=False).stdout.strip()
    run(
        *("buildah", "bud", "--layers", "--network", "host", "--isolation", "chroot"),
        *("--target", target.name, "--build-arg", f"BASE_IMAGE={base}"),
        *("--label", f"{DIGEST_LABEL}={digest}", "--tag", target.image),
        *client_volumes(os.environ),
        *("--file", repository / "Dockerfile", repository),
    )
    if before:
        run("buildah", "rmi", before, check=False)  # other tags or a child may still need it
    say(f"building {target.image} ... {time.monotonic() - began:.0f} s")
    return digest


def whole_archive(image: str, folder: Path) -> Path:
    """Export an image with all its layers; the caller deletes it once it is imported."""
    archive = folder / "image.oci.tar"
    archive.unlink(missing_ok=True)
    run(*PUSH, image, f"oci-archive:{archive}:{image}")
    return archive


class Loader(Protocol):
    """A node, as far as images are concerned."""

    def load(self, archives: Iterable[Path]) -> None: ...


class Delivery:
    """Sends images to a fixed set of nodes, each layer once.

    An OCI folder remembers the layers that all nodes hold, as empty files under two names: that
    of the compressed layer, left out of later archives, and that of its content, for which buildah
    looks first and then need not compress it again.  A node never fetches a layer that it has
    unpacked, so it does not matter by which name a later manifest calls it.
    """

    def __init__(self, folder: Path, node_names: Iterable[str]) -> None:
        self.folder, self.nodes = folder, sorted(node_names)

    @property
    def delivered(self) -> dict[str, str]:
        """Image name to digest, of what the nodes already hold."""
        record = self.folder / "delivered.json"
        known = json.loads(record.read_text()) if record.exists() else {}
        if known.get("nodes") != self.nodes:
            return {}
        return dict(known["images"])

    def note(self, image: str, digest: str) -> None:
        images = {**self.delivered, image: digest}
        record = {"nodes": self.nodes, "images": images}
        (self.folder / "delivered.json").write_text(json.dumps(record))

    def export(self, image: str) -> Path:
        """Write an archive with the layers that the nodes lack."""
        if not self.delivered:
            shutil.rmtree(self.folder, ignore_errors=True)
        layout = self.folder / "layout"
        blobs = layout / "blobs" / "sha256"
        blobs.mkdir(parents=True, exist_ok=True)
        known = {path.name for path in blobs.iterdir()}
        (layout / "index.json").unlink(missing_ok=True)
        run(*PUSH, image, f"oci:{layout}:{image}")
        contents = diff_ids(layout)
        archive = self.folder / "thin.oci.tar"
        with tarfile.open(archive, "w") as tar:
            tar.add(layout / "oci-layout", "oci-layout")
            tar.add(layout / "index.json", "index.json")
            for path in sorted(blobs.iterdir()):
                if path.name not in known:
                    tar.add(path, f"blobs/sha256/{path.name}")
                hollow(path)  # at once: these are gigabytes
        for content in contents:
            if not (blobs / content).exists():
                (blobs / content).write_text(" ")
        return archive

    def forget(self) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)


def diff_ids(layout: Path) -> list[str]:
    """Return the digests of the layers' contents, from the configuration of the only image."""

    def blob(digest: str) -> dict[str, Any]:
        text = (layout / "blobs" / "sha256" / digest.removeprefix("sha256:")).read_text()
        return cast(dict[str, Any], json.loads(text))

    index = json.loads((layout / "index.json").read_text())
    manifest = blob(index["manifests"][0]["digest"])
    layers = blob(manifest["config"]["digest"])["rootfs"]["diff_ids"]
    return [layer.removeprefix("sha256:") for layer in layers]


def hollow(path: Path) -> None:
    """Empty a layer and keep its length; what describes an image goes, it is written each time."""
    if describes(path):
        path.unlink()
    else:
        size = path.stat().st_size
        with path.open("wb") as file:
            file.truncate(size)


def describes(path: Path) -> bool:
    """Tell a manifest or a configuration, which are JSON, from a layer or its place."""
    with path.open("rb") as file:
        return file.read(1) == b"{"


def deliver(delivery: Delivery, image: str, digest: str, nodes: Iterable[Loader]) -> None:
    """Bring an image to all nodes unless they hold it; a node that lost layers gets all anew."""
    if delivery.delivered.get(image) == digest:
        return
    try:
        send(delivery, image, nodes)
    except KitError:
        if not delivery.delivered:
            raise
        delivery.forget()
        send(delivery, image, nodes)
    delivery.note(image, digest)


def send(delivery: Delivery, image: str, nodes: Iterable[Loader]) -> None:
    began = time.monotonic()
    archive = delivery.export(image)
    size = archive.stat().st_size / 1e6
    try:
        with ThreadPoolExecutor() as pool:  # an image is unpacked by one thread of a node
            list(pool.map(lambda node: node.load([archive]), nodes))
    finally:
        archive.unlink()
    say(f"brought {image} to the nodes, {size:.0f} MB each ... {time.monotonic() - began:.0f} s")
