"""The bridge, and the cables and routes of the nodes; nothing of it touches the host's firewall.

Nodes reach each other over the bridge, pods of other nodes by routes, and the host by its address
there.  The host forwards nothing, so pods have no way out to other networks.
"""

import json

from kit.commands import run
from kit.layout import Layout, NodeLayout


def make_bridge(layout: Layout) -> None:
    """Create the cluster's bridge with the host's address on it."""
    run("ip", "link", "add", layout.bridge, "type", "bridge")
    run("ip", "address", "add", f"{layout.gateway}/24", "dev", layout.bridge)
    run("ip", "link", "set", layout.bridge, "up")


def plug(layout: Layout, node: NodeLayout, holder: int) -> None:
    """Lay a cable from the bridge into the network namespace that process `holder` keeps."""
    inside = ("nsenter", f"--net=/proc/{holder}/ns/net")
    run(
        *("ip", "link", "add", node.link, "type", "veth"),
        *("peer", "name", "eth0", "netns", str(holder)),
    )
    run("ip", "link", "set", node.link, "master", layout.bridge, "up")
    run(*inside, "ip", "address", "add", f"{node.address}/24", "dev", "eth0")
    run(*inside, "ip", "link", "set", "eth0", "up")
    run(*inside, "ip", "link", "set", "lo", "up")
    run(*inside, "ip", "route", "add", "default", "via", layout.gateway)
    run(*inside, "sysctl", "-qw", "net.ipv4.ip_forward=1")
    run("ip", "route", "replace", node.pods, "via", node.address, "dev", layout.bridge)
    for other in layout.nodes:
        if other != node:
            run(*inside, "ip", "route", "replace", other.pods, "via", other.address)


def remove(layout: Layout) -> None:
    """Unplug the nodes and remove the bridge; its routes go with it."""
    present = links(layout.bridge)
    for link in [*(node.link for node in layout.nodes), layout.bridge]:
        if link in present:
            run("ip", "link", "delete", link, check=False)


def links(prefix: str) -> list[str]:
    """Return the host's network devices whose name begins so."""
    found = json.loads(run("ip", "-json", "link", "show").stdout)
    return [link["ifname"] for link in found if link["ifname"].startswith(prefix)]
