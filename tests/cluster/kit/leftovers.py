"""Finds what a cluster would leave on a machine: `kit leftovers` prints it, tests demand nothing.

A cluster that is up elsewhere (another state folder) is not a leftover: its slot is claimed and
its record exists.
"""

from pathlib import Path

from kit import cgroups, host, network, places, record


def find(state: Path) -> list[str]:
    """Return one line for each thing that no running cluster accounts for."""
    return [*claims(state), *links(state), *groups(state), *processes(state), *mounts(state)]


def living_slots(state: Path) -> set[int]:
    """Return the slots of clusters that are up, this state folder's own left out."""
    owners = host.claims()
    return {
        slot for slot, owner in owners.items() if owner != state and record.path(owner).exists()
    }


def claims(state: Path) -> list[str]:
    living = living_slots(state)
    lines = [f"slot {slot} of {path}" for slot, path in host.claims().items() if slot not in living]
    if host.RECORD.exists() and not living:
        lines.append(f"record {host.RECORD}")
    return lines


def foreign(name: str, living: set[int]) -> bool:
    """Tell whether a name such as oikyo3-node1 belongs to a living cluster or not to the kit."""
    digits = name.removeprefix("oikyo")[:1]
    return not digits.isdigit() or int(digits) in living


def links(state: Path) -> list[str]:
    living = living_slots(state)
    return [f"link {name}" for name in network.links("oikyo") if not foreign(name, living)]


def groups(state: Path) -> list[str]:
    living = living_slots(state)
    paths = [path for path in cgroups.names_left("oikyo") if not foreign(Path(path).name, living)]
    return [f"cgroup {path}" for path in paths]


def processes(state: Path) -> list[str]:
    """Return programs from the kit's cache that speak of this state folder.

    Shims name no state folder; without any living cluster they all are left over.
    """
    cache = str(places.cache() / "bin")
    shims_are_left = not living_slots(state)
    lines = []
    for entry in Path("/proc").iterdir():
        try:
            program = str((entry / "exe").readlink()) if entry.name.isdigit() else ""
            command = (entry / "cmdline").read_text() if program else ""
        except OSError:
            continue  # it ended, or is a kernel thread
        shim = "containerd-shim" in program and shims_are_left and program.startswith(cache)
        server = f"{state}/" in command and program.startswith((cache, "/usr/bin/sleep"))
        if shim or server or ("kit.keeper" in command and f"{state}/" in command):
            lines.append(f"process {entry.name} {program}")
    return lines


def mounts(state: Path) -> list[str]:
    """Return mounts below the state folder."""
    return [f"mount {point}" for point in host.mounts_below(state)]
