"""Atomic writes and committed folders."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest

from oikyo_trainer.files import commit_folder, file_digest, folder_digest, write_atomic


def test_a_file_is_replaced_whole(tmp_path: Path) -> None:
    write_atomic(tmp_path / "a" / "f", "one")
    write_atomic(tmp_path / "a" / "f", b"two")
    assert (tmp_path / "a" / "f").read_bytes() == b"two"
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["f"]


def test_a_failed_write_leaves_the_old_file_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_atomic(tmp_path / "f", "old")

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        write_atomic(tmp_path / "f", "new")
    assert (tmp_path / "f").read_text() == "old"
    assert len(list(tmp_path.iterdir())) == 1


def a_folder(path: Path, body: str) -> Path:
    write_atomic(path / "deep" / "f", body)
    return path


def test_a_folder_is_committed_under_its_name(tmp_path: Path) -> None:
    assert commit_folder(a_folder(tmp_path / "staging", "x"), tmp_path / "versions" / "1")
    assert (tmp_path / "versions" / "1" / "deep" / "f").read_text() == "x"
    assert not (tmp_path / "staging").exists()


def test_a_folder_that_is_there_already_wins(tmp_path: Path) -> None:
    commit_folder(a_folder(tmp_path / "one", "first"), tmp_path / "target")
    assert not commit_folder(a_folder(tmp_path / "two", "second"), tmp_path / "target")
    assert (tmp_path / "target" / "deep" / "f").read_text() == "first"
    assert not (tmp_path / "two").exists()


def test_the_digest_of_a_folder_is_over_names_and_contents(tmp_path: Path) -> None:
    one = folder_digest(a_folder(tmp_path / "one", "x"))
    assert folder_digest(a_folder(tmp_path / "two", "x")) == one
    assert folder_digest(a_folder(tmp_path / "three", "y")) != one
    (tmp_path / "two" / "manifest.json").write_text("{}")
    assert folder_digest(tmp_path / "two") != one
    assert folder_digest(tmp_path / "two", skip=frozenset({"manifest.json"})) == one


def test_the_digest_of_a_file_is_its_sha256(tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(b"abc" * 1_000_000)
    assert file_digest(tmp_path / "f") == hashlib.sha256(b"abc" * 1_000_000).hexdigest()
