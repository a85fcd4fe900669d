"""Which cluster `up` takes."""

from __future__ import annotations

from pathlib import Path

import pytest

from kit import record
from kit.cluster import Cluster, choose
from kit.errors import KitError
from kit.record import Record

TOLD = {"OIKYO_TEST_KUBECONFIG": "/somewhere/config"}


def test_the_cluster_named_in_the_environment_comes_first() -> None:
    assert choose(TOLD, 2, docker=True) == "existing"
    assert choose(TOLD, 0, docker=False) == "existing"


def test_kind_is_taken_where_a_docker_engine_answers() -> None:
    assert choose({}, 2, docker=True) == "kind"


def test_without_docker_the_cluster_is_built() -> None:
    assert choose({"OIKYO_TEST_KUBECONFIG": ""}, 2, docker=False) == "built"


def test_a_bare_api_server_is_built_even_beside_docker() -> None:
    assert choose({}, 0, docker=True) == "built"


def test_a_kubeconfig_that_does_not_exist_is_named(tmp_path: Path) -> None:
    with pytest.raises(KitError, match=r"OIKYO_TEST_KUBECONFIG is .*missing, which does not exist"):
        Cluster.existing(tmp_path, tmp_path / "missing")


def test_a_record_survives_writing_and_reading(tmp_path: Path) -> None:
    made = Record("built", 2, True, 2, "/x/kubeconfig", slot=3, complete=True)
    record.write(tmp_path, made)
    assert record.read(tmp_path) == made


def test_a_damaged_record_says_which_file_to_delete(tmp_path: Path) -> None:
    record.path(tmp_path).write_text('{"engine": ')
    with pytest.raises(KitError, match=r"cluster\.json is not a cluster's record"):
        record.read(tmp_path)


def test_a_running_cluster_of_another_shape_is_not_passed_off(tmp_path: Path) -> None:
    here = Record("built", 2, True, 2, "k", slot=0, complete=True)
    Cluster(tmp_path, here).require_same(Record("built", 2, True, 2, "k"))
    with pytest.raises(KitError, match="runs with 2 nodes and 2 GPUs a node, asked for are 3"):
        Cluster(tmp_path, here).require_same(Record("built", 3, True, 2, "k"))


def test_opening_what_was_never_started_says_how_to_start_it(tmp_path: Path) -> None:
    with pytest.raises(KitError, match="run `kit up`"):
        Cluster.open(tmp_path)


def test_images_are_not_pushed_into_a_cluster_of_somebody_else(tmp_path: Path) -> None:
    archive = tmp_path / "image.tar"
    archive.touch()
    with pytest.raises(KitError, match="its own registry"):
        Cluster(tmp_path, Record("existing", 1, True, 0, "k")).load(archive)
