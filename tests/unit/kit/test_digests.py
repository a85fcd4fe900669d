"""What is built again, and when."""

from __future__ import annotations

import hashlib
import json
import re
import tarfile
from dataclasses import replace
from pathlib import Path

import pytest

from kit import binaries, images, oci, places, settings
from kit.errors import KitError
from kit.layout import Layout

GO_MOD = "module m\n\ngo 1.26.0\n\nrequire k8s.io/kubernetes v1.37.2\n"
KUBERNETES = binaries.tool_of("kubelet")


def test_a_programs_digest_changes_with_everything_it_is_built_from() -> None:
    first = binaries.digest(KUBERNETES, GO_MOD, "sum")
    assert first == binaries.digest(KUBERNETES, GO_MOD, "sum")
    others = {
        binaries.digest(KUBERNETES, GO_MOD.replace("1.37.2", "1.37.3"), "sum"),
        binaries.digest(KUBERNETES, GO_MOD, "other sum"),
        binaries.digest(replace(KUBERNETES, tags="x"), GO_MOD, "sum"),
    }
    assert first not in others
    assert len(others) == 3


def test_the_version_is_read_from_the_module_file_and_linked_in() -> None:
    flags = binaries.build_flags(KUBERNETES, GO_MOD)[-1]
    assert "gitVersion=v1.37.2" in flags
    assert "gitMinor=37" in flags


def test_a_module_file_without_the_tool_is_refused() -> None:
    with pytest.raises(KitError, match=r"does not require k8s\.io/kubernetes"):
        binaries.version(KUBERNETES, "module m\n")


@pytest.mark.parametrize("tool", binaries.TOOLS, ids=lambda tool: tool.module)
def test_every_tool_is_pinned_by_version_and_checksum(tool: binaries.Tool) -> None:
    folder = places.MODULES / tool.folder
    pinned = binaries.version(tool, (folder / "go.mod").read_text())
    assert f"{tool.module} {pinned} h1:" in (folder / "go.sum").read_text()


def test_coredns_has_every_plugin_of_the_corefile() -> None:
    (code,) = binaries.own_code(binaries.tool_of("coredns"))
    corefile = settings.corefile(Layout(0, 2), Path("/credentials"))
    plugins = set(re.findall(r"^  (\w+)", corefile, re.MULTILINE))
    assert plugins == set(re.findall(r'"github.com/coredns/coredns/plugin/(\w+)"', code))


def test_kubernetes_has_no_unpinned_staging_module() -> None:
    text = (places.MODULES / "kubernetes" / "go.mod").read_text()
    replaced = {line.split()[0] for line in text.splitlines() if "=>" in line}
    required = {line.split()[0] for line in text.splitlines() if line.strip().endswith("v0.0.0")}
    assert required <= replaced


def test_an_unknown_program_is_answered_with_the_known_ones() -> None:
    with pytest.raises(KitError, match=r"frobnicate is not a program of the kit; it has .*helm3"):
        binaries.tool_of("frobnicate")


def test_an_images_digest_follows_its_sources_and_not_byte_code(tmp_path: Path) -> None:
    source = tmp_path / "src" / "a.py"
    source.parent.mkdir()
    source.write_text("a = 1")
    first = images.source_digest(tmp_path, ["src"])
    (tmp_path / "src" / "__pycache__").mkdir()
    (tmp_path / "src" / "__pycache__" / "a.pyc").write_text("code")
    assert images.source_digest(tmp_path, ["src"]) == first
    source.rename(source.with_name("b.py"))
    assert images.source_digest(tmp_path, ["src"]) != first


def test_what_the_images_copy_exists() -> None:
    for target in images.TARGETS:
        for source in (*images.SHARED_SOURCES, *target.sources):
            assert (places.REPOSITORY / source).exists(), source


def test_only_files_that_exist_are_mounted_for_package_clients(tmp_path: Path) -> None:
    bundle = tmp_path / "ca.pem"
    bundle.touch()
    found = images.client_volumes({"PIP_CERT": str(bundle), "SSL_CERT_FILE": ""})
    assert f"--volume={bundle}:{bundle}:ro" in found
    assert f"--volume={bundle}:{images.SYSTEM_BUNDLE}:ro" in found
    missing = images.client_volumes({"PIP_CERT": str(tmp_path / "none")})
    assert not [option for option in missing if "none" in option]


def test_deliveries_to_other_nodes_do_not_count(tmp_path: Path) -> None:
    images.Delivery(tmp_path, ["node1"]).note("image", "digest")
    assert images.Delivery(tmp_path, ["node1"]).delivered == {"image": "digest"}
    assert images.Delivery(tmp_path, ["node1", "node2"]).delivered == {}


def test_a_delivered_layer_keeps_its_length_and_no_content(tmp_path: Path) -> None:
    layer, config = tmp_path / "layer", tmp_path / "config"
    layer.write_bytes(b"x" * 1_000_000)
    config.write_bytes(b"{}")
    images.hollow(layer)
    images.hollow(config)
    assert layer.stat().st_size == 1_000_000
    assert layer.stat().st_blocks == 0
    assert not config.exists()


def test_a_small_image_is_an_oci_archive_whose_digests_hold(tmp_path: Path) -> None:
    program = tmp_path / "program"
    program.write_text("#!/bin/sh\n")
    image = oci.Image("localhost/x:1", {"/bin/program": program}, ("/bin/program",))
    archive = oci.write(image, tmp_path / "x.tar")
    again = oci.write(image, tmp_path / "y.tar")
    assert archive.read_bytes() == again.read_bytes()
    with tarfile.open(archive) as tar:
        blobs = {name: tar.extractfile(name) for name in tar.getnames()}
        content = {name: file.read() for name, file in blobs.items() if file is not None}
    index = json.loads(content["index.json"])
    assert index["manifests"][0]["annotations"]["io.containerd.image.name"] == "localhost/x:1"
    for name, data in content.items():
        if name.startswith("blobs/sha256/"):
            assert hashlib.sha256(data).hexdigest() == name.removeprefix("blobs/sha256/")
