"""Installs the system programs the built cluster leans on, from Debian, where they are missing."""

import os
import shutil
from pathlib import Path

from kit.commands import run, say
from kit.errors import KitError

# Debian's runc carries seccomp; one built from its Go module without libseccomp refuses every pod.
PACKAGE_OF = {
    "runc": "runc",
    "/usr/lib/cni/bridge": "containernetworking-plugins",
    "nft": "nftables",
    "iptables": "iptables",
    "conntrack": "conntrack",
    "ip": "iproute2",
    "/bin/busybox": "busybox-static",
    "openssl": "openssl",
    "buildah": "buildah",
    "debootstrap": "debootstrap",
    "cc": "gcc",
    "mkfs.ext4": "e2fsprogs",
    "losetup": "mount",
}
API_SERVER = ("openssl",)
NODES = (
    "openssl",
    "ip",
    "runc",
    "/usr/lib/cni/bridge",
    "nft",
    "iptables",
    "conntrack",
    "/bin/busybox",
)
IMAGES = ("buildah", "debootstrap")
CLOCKS = ("cc",)
VOLUMES = ("mkfs.ext4", "losetup")


def present(program: str) -> bool:
    """Tell whether a program exists; Debian's busybox must be the static one, pods run it."""
    if program.startswith("/"):
        return Path(program).exists()
    return shutil.which(program) is not None


def missing(programs: tuple[str, ...]) -> list[str]:
    """Return the packages of the programs that are absent."""
    return [PACKAGE_OF[program] for program in programs if not present(program)]


def ensure(programs: tuple[str, ...]) -> None:
    """Install what is absent; refuse with one sentence where that cannot be done."""
    packages = missing(programs)
    if not packages:
        return
    wanted = " ".join(packages)
    if os.geteuid() != 0:
        raise KitError(f"these packages are missing: {wanted}; as root, run apt-get install them")
    if shutil.which("apt-get") is None:
        raise KitError(
            f"these programs are missing and this is no Debian: {wanted}; install them, or name "
            "an existing cluster in OIKYO_TEST_KUBECONFIG"
        )
    say(f"installing {wanted}")
    quiet = {"DEBIAN_FRONTEND": "noninteractive"}
    install = ("apt-get", "install", "-y", "-qq", "--no-install-recommends", *packages)
    if run(*install, check=False, env=quiet).returncode != 0:
        run("apt-get", "update", "-qq", env=quiet)
        run(*install, env=quiet)


def require_root() -> None:
    """Namespaces, mounts and cgroups need root; say so before anything is half made."""
    if os.geteuid() != 0:
        raise KitError(
            "a cluster with nodes makes network namespaces and cgroups and so needs root; "
            "run it as root, use `--nodes 0`, or name a cluster in OIKYO_TEST_KUBECONFIG"
        )
