"""Names and addresses of a built cluster, all derived from its slot; pure.

Clusters with nodes share one machine by having one slot each: slot 0 owns bridge oikyo0, the
cgroups oikyo0-node1..., 10.210.0.0/24 for nodes and 10.220.0.0/16 for pods.
"""

from dataclasses import dataclass

SLOTS = 10
SERVICES = "10.96.0.0/16"
FIRST_SERVICE = "10.96.0.1"
DOMAIN = "cluster.local"


@dataclass(frozen=True)
class NodeLayout:
    """One node's names and addresses."""

    slot: int
    number: int

    @property
    def name(self) -> str:
        return f"node{self.number}"

    @property
    def cgroup(self) -> str:
        return f"oikyo{self.slot}-{self.name}"

    @property
    def link(self) -> str:
        """The bridge's end of the node's cable; at most 15 letters."""
        return f"oikyo{self.slot}-n{self.number}"

    @property
    def address(self) -> str:
        return f"10.{210 + self.slot}.0.{10 + self.number}"

    @property
    def pods(self) -> str:
        return f"10.{220 + self.slot}.{self.number}.0/24"


@dataclass(frozen=True)
class Layout:
    """The network of one cluster."""

    slot: int
    node_count: int

    @property
    def bridge(self) -> str:
        return f"oikyo{self.slot}"

    @property
    def gateway(self) -> str:
        """The host's address on the bridge: the API server and DNS answer here."""
        return f"10.{210 + self.slot}.0.1"

    @property
    def pods(self) -> str:
        return f"10.{220 + self.slot}.0.0/16"

    @property
    def nodes(self) -> tuple[NodeLayout, ...]:
        return tuple(NodeLayout(self.slot, number + 1) for number in range(self.node_count))
