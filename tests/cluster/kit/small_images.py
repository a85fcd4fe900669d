"""The images that the kit makes itself: the pods' pause image, a tool box, metrics-server."""

import hashlib
from pathlib import Path

from kit import oci, places
from kit.binaries import binary
from kit.commands import run
from kit.settings import PAUSE_IMAGE

TOOLS_IMAGE = "localhost/oikyo-tools:1"
METRICS_SERVER_IMAGE = "localhost/oikyo-metrics-server:1"
BUSYBOX = Path("/bin/busybox")


def archives() -> list[Path]:
    """Return the archives of all of them, written on the first call."""
    pause = oci.Image(PAUSE_IMAGE, {"/bin/busybox": BUSYBOX}, ("/bin/busybox", "sleep", "inf"))
    return [cached(pause), cached(tools()), cached(metrics_server())]


def tools() -> oci.Image:
    """Return busybox under all its names: what tests run to look around inside the cluster."""
    names = run(BUSYBOX, "--list").stdout.split()
    links = {f"/bin/{name}": "busybox" for name in names if name != "busybox"}
    return oci.Image(TOOLS_IMAGE, {"/bin/busybox": BUSYBOX}, ("/bin/sleep", "inf"), links)


def metrics_server() -> oci.Image:
    program = binary("metrics-server")
    return oci.Image(
        METRICS_SERVER_IMAGE, {"/metrics-server": program}, ("/metrics-server",), user="1000"
    )


def cached(image: oci.Image) -> Path:
    """Return the image's archive, named by what is in it."""
    parts = [repr((image.name, image.entrypoint, sorted(image.links), image.user))]
    for inside, source in sorted(image.programs.items()):
        parts.append(inside + hashlib.sha256(source.read_bytes()).hexdigest())
    name = hashlib.sha256("\0".join(parts).encode()).hexdigest()[:16]
    archive = places.cache() / "images" / f"{name}.oci.tar"
    if not archive.exists():
        archive.parent.mkdir(parents=True, exist_ok=True)
        oci.write(image, archive)
    return archive
