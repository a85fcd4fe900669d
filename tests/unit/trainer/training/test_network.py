"""Interfaces and devices are chosen by what the node has; a person's choice stands."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from oikyo_trainer.training.distributed import World
from oikyo_trainer.training.network import Node, choose_network, read_node, route, settings

GANG = World(rank=0, size=2)


def values(node: Node, *, cuda: bool) -> dict[str, str]:
    return {setting.name: setting.value for setting in settings(node, cuda=cuda)}


def test_a_node_without_infiniband_talks_over_the_interface_of_the_route() -> None:
    assert values(Node("eth0", "", ()), cuda=True) == {
        "GLOO_SOCKET_IFNAME": "eth0",
        "NCCL_SOCKET_IFNAME": "=eth0",
        "NCCL_IB_DISABLE": "1",
        "TORCH_NCCL_ASYNC_ERROR_HANDLING": "1",
    }
    assert values(Node("eth0", "", ()), cuda=False) == {"GLOO_SOCKET_IFNAME": "eth0"}


def test_infiniband_is_used_where_a_port_is_up(tmp_path: Path) -> None:
    for device, state in (("mlx5_0", "4: ACTIVE"), ("mlx5_1", "1: DOWN")):
        port = tmp_path / device / "ports" / "1"
        port.mkdir(parents=True)
        (port / "state").write_text(f"{state}\n")
    node = read_node({"MASTER_ADDR": "127.0.0.1"}, tmp_path)
    assert node.infiniband == ("mlx5_0",)
    assert values(node, cuda=True)["NCCL_IB_DISABLE"] == "0"


def test_the_first_process_on_this_node_is_reached_over_the_loopback() -> None:
    names = {name for _, name in socket.if_nameindex()}
    interface, reason = route("127.0.0.1")
    assert interface in names
    assert interface.startswith("lo")
    assert reason == "the route to 127.0.0.1 leaves by 127.0.0.1"


@pytest.mark.parametrize(
    ("host", "words"), [("", "MASTER_ADDR is not set"), ("a..b", "no route to a..b")]
)
def test_an_unknown_host_sets_nothing_and_says_why(host: str, words: str) -> None:
    interface, reason = route(host)
    assert interface == ""
    assert words in reason
    assert values(Node(interface, reason), cuda=False) == {}


def test_what_a_person_has_set_stays_and_a_single_process_needs_nothing() -> None:
    environment = {"MASTER_ADDR": "127.0.0.1", "GLOO_SOCKET_IFNAME": "ens7"}
    (kept,) = choose_network(GANG, cuda=False, environment=environment)
    assert environment["GLOO_SOCKET_IFNAME"] == "ens7"
    assert (kept.value, kept.reason) == ("ens7", "as the environment says")
    alone = {"MASTER_ADDR": "127.0.0.1"}
    assert choose_network(World(), cuda=True, environment=alone) == ()
    assert alone == {"MASTER_ADDR": "127.0.0.1"}


def test_what_is_chosen_is_set() -> None:
    environment = {"MASTER_ADDR": "127.0.0.1"}
    (chosen,) = choose_network(GANG, cuda=False, environment=environment)
    assert environment["GLOO_SOCKET_IFNAME"] == chosen.value
