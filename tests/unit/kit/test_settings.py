"""The configuration files that the kit renders."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from kit import keeper, pki, settings
from kit.layout import SLOTS, Layout

LAYOUT = Layout(slot=1, node_count=2)
NODE = LAYOUT.nodes[0]
FILES = settings.NodeFiles(Path("/state/node1"), Path("/state/pki/ca.crt"))


def test_no_two_slots_share_a_name_or_an_address() -> None:
    layouts = [Layout(slot, 3) for slot in range(SLOTS)]
    nodes = [node for layout in layouts for node in layout.nodes]
    for values in (
        [layout.bridge for layout in layouts],
        [node.link for node in nodes],
        [node.cgroup for node in nodes],
        [node.address for node in nodes],
        [node.pods for node in nodes],
    ):
        assert len(set(values)) == len(values)


def test_link_names_fit_the_kernels_fifteen_letters() -> None:
    assert max(len(node.link) for node in Layout(SLOTS - 1, 99).nodes) <= 15


@pytest.mark.parametrize("v1", [True, False])
def test_only_cgroup_v1_is_named_to_the_kubelet(v1: bool) -> None:
    config = yaml.safe_load(settings.kubelet(FILES, NODE, LAYOUT.gateway, cgroup_v1=v1))
    assert config.get("failCgroupV1") == (False if v1 else None)
    assert config["cgroupRoot"] == "/oikyo1-node1"
    assert config["authentication"]["anonymous"] == {"enabled": False}
    assert config["clusterDNS"] == ["10.211.0.1"]


def test_pods_get_addresses_of_their_node() -> None:
    config = json.loads(settings.pod_network(FILES, NODE))
    assert config["plugins"][0]["ipam"]["ranges"] == [[{"subnet": "10.221.1.0/24"}]]


def test_nobody_is_anonymous_and_roles_are_on() -> None:
    flags = settings.api_server_flags(Path("/state"), "127.0.0.1", 6443, 2379)
    assert "--anonymous-auth=false" in flags
    assert "--authorization-mode=Node,RBAC" in flags
    assert not [flag for flag in flags if "token-auth-file" in flag]


def test_without_controllers_pods_need_no_account() -> None:
    bare = settings.api_server_alone(controllers=False)
    assert "--disable-admission-plugins=ServiceAccount" in bare
    full = settings.api_server_alone(controllers=True)
    assert not [flag for flag in full if "ServiceAccount" in flag]


def test_the_audit_leaves_out_only_what_the_keeper_reads() -> None:
    policy = yaml.safe_load(settings.audit_policy())
    silent = [rule for rule in policy["rules"] if rule["level"] == "None"]
    assert [(rule["users"], rule["verbs"]) for rule in silent] == [
        (["oikyo:keeper"], ["get", "list", "watch"])
    ]
    assert policy["rules"][-1] == {"level": "Metadata"}


def test_certificates_tell_addresses_from_names() -> None:
    text = pki.extensions(("localhost", "10.96.0.1"))
    assert "subjectAltName=DNS:localhost,IP:10.96.0.1" in text


def a_claim(**spec: object) -> keeper.Json:
    about = {"name": "data", "namespace": "team", "uid": "u-1"}
    base: dict[str, object] = {
        "storageClassName": keeper.STORAGE_CLASS,
        "accessModes": ["ReadWriteMany"],
        "resources": {"requests": {"storage": "1Gi"}},
    }
    return {"metadata": about, "spec": {**base, **spec}}


def test_a_claim_gets_a_volume_of_its_own_modes_and_size() -> None:
    volume = keeper.volume_for(a_claim(), Path("/volumes/pvc-u-1"))
    assert volume["spec"]["accessModes"] == ["ReadWriteMany"]
    assert volume["spec"]["capacity"] == {"storage": "1Gi"}
    assert volume["spec"]["claimRef"]["uid"] == "u-1"


def test_only_open_claims_of_our_class_are_served() -> None:
    assert keeper.waits_for_volume(a_claim())
    assert not keeper.waits_for_volume(a_claim(volumeName="pvc-u-1"))
    assert not keeper.waits_for_volume(a_claim(storageClassName="other"))


def a_volume(phase: str, policy: str = "Delete", by: str = keeper.PROVISIONER) -> keeper.Json:
    notes = {"pv.kubernetes.io/provisioned-by": by}
    return {
        "metadata": {"name": "pvc-u-1", "annotations": notes},
        "spec": {"persistentVolumeReclaimPolicy": policy},
        "status": {"phase": phase},
    }


def test_a_volume_goes_with_its_claim_unless_it_is_to_be_retained() -> None:
    assert keeper.to_delete(a_volume("Released"))
    assert not keeper.to_delete(a_volume("Bound"))
    assert not keeper.to_delete(a_volume("Released", policy="Retain"))
    assert not keeper.to_delete(a_volume("Released", by="somebody.else"))


def test_gpus_are_patched_in_only_where_they_are_missing() -> None:
    node = {"status": {"capacity": {"cpu": "2"}, "allocatable": {"nvidia.com/gpu": "2"}}}
    assert keeper.capacity_patch(node, 2) == [
        {"op": "add", "path": "/status/capacity/nvidia.com~1gpu", "value": "2"}
    ]
    assert keeper.capacity_patch({"status": {}}, 2) == []
