"""Over which network the processes of a gang talk: chosen by what the node has, with the reason.

gloo takes the interface of the host's own name and NCCL the first that it finds: with a bridge, a VPN or
a second network on the node both may pick one over which the others are not reached. What somebody
has put into the environment is left as it is.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator, Mapping, MutableMapping
from dataclasses import dataclass
from pathlib import Path

import psutil

from oikyo.api.jobstatus import Resolved

from .distributed import World

INFINIBAND = Path("/sys/class/infiniband")
ACTIVE = "4: ACTIVE"


@dataclass(frozen=True)
class Node:
    """What this node has, as far as collectives care."""

    interface: str
    """The one over which the first process is reached; empty where it could not be found."""
    reason: str
    infiniband: tuple[str, ...] = ()
    """Devices with a port that is up."""


def read_node(environment: Mapping[str, str], devices: Path = INFINIBAND) -> Node:
    """Ask the routes and the devices of this node."""
    interface, reason = route(environment.get("MASTER_ADDR", ""))
    return Node(interface, reason, tuple(sorted(_active(devices))))


def route(host: str) -> tuple[str, str]:
    """The interface of the route to `host`, and the reason, or why there is none."""
    if not host:
        return "", "MASTER_ADDR is not set"
    try:
        family, _, _, _, address = socket.getaddrinfo(host, 9, type=socket.SOCK_DGRAM)[0]
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.connect(address)  # sends nothing: the kernel only looks up the route
            own = str(probe.getsockname()[0])
    except (OSError, UnicodeError) as error:
        return "", f"no route to {host} ({error})"
    for name, addresses in psutil.net_if_addrs().items():
        if any(own == item.address.partition("%")[0] for item in addresses):
            return name, f"the route to {host} leaves by {own}"
    return "", f"no interface has the address {own}"


def _active(devices: Path) -> Iterator[str]:
    for state in devices.glob("*/ports/*/state"):
        try:
            if state.read_text(encoding="ascii").strip() == ACTIVE:
                yield state.parts[-4]
        except OSError:
            continue  # a device that goes while it is looked at


def settings(node: Node, *, cuda: bool) -> Iterator[Resolved]:
    """What to put into the environment, each with its reason."""
    for name in ("GLOO_SOCKET_IFNAME", "NCCL_SOCKET_IFNAME") if cuda else ("GLOO_SOCKET_IFNAME",):
        if node.interface:
            # NCCL takes a name as a prefix; with '=' it is the whole name.
            value = node.interface if name.startswith("GLOO") else f"={node.interface}"
            yield Resolved(name=name, value=value, reason=node.reason)
    if not cuda:
        return
    disabled, found = "1", "no InfiniBand or RoCE device is up"
    if node.infiniband:
        disabled, found = "0", f"up: {', '.join(node.infiniband)}"
    yield Resolved(name="NCCL_IB_DISABLE", value=disabled, reason=found)
    why = "a collective that fails ends the process, so that the next attempt can begin"
    yield Resolved(name="TORCH_NCCL_ASYNC_ERROR_HANDLING", value="1", reason=why)


def choose_network(
    world: World, *, cuda: bool, environment: MutableMapping[str, str] = os.environ
) -> tuple[Resolved, ...]:
    """Set what nobody has set, before the gang is joined; returns all of it for the log."""
    if world.size == 1:
        return ()
    chosen = []
    for setting in settings(read_node(environment), cuda=cuda):
        told = environment.get(setting.name)
        if told is None:
            environment[setting.name] = setting.value
            chosen.append(setting)
        else:
            update = {"value": told, "reason": "as the environment says"}
            chosen.append(setting.model_copy(update=update))
    return tuple(chosen)
