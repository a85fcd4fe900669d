"""Which files a source names, and which it may not."""

from __future__ import annotations

import gzip
import os
from pathlib import Path

import pytest

from oikyo.api.stages import Source
from oikyo_trainer.data.sources import data_files
from oikyo_trainer.errors import Refused


def names(uri: str, path: Path, **more: str) -> list[str]:
    found = data_files(Source.model_validate({"uri": uri, "path": str(path), **more}))
    return [file.name for file in found]


@pytest.fixture
def claim(tmp_path: Path) -> Path:
    (tmp_path / "claims" / "data").mkdir(parents=True)
    (tmp_path / "secret.jsonl").write_text('{"text": "root:x"}\n')
    return tmp_path / "claims" / "data"


def test_a_folder_gives_its_known_files_sorted(claim: Path) -> None:
    for name in ("b.csv", "a.jsonl", ".hidden.jsonl", "README.md", "c.PARQUET"):
        (claim / name).write_text("x")
    uri = "pvc://data"
    assert names(uri, claim) == [f"{uri}/a.jsonl", f"{uri}/b.csv", f"{uri}/c.PARQUET"]


def test_a_folder_without_data_is_refused(claim: Path) -> None:
    with pytest.raises(Refused, match="holds no file of a known format"):
        names("pvc://data", claim)


@pytest.mark.parametrize(
    ("name", "body", "reason", "sentence"),
    [
        ("none.csv", None, "SourceMissing", "pvc://data/none.csv does not exist"),
        ("empty.csv", "", "EmptyFile", "pvc://data/empty.csv is empty"),
        ("rows.md", "x", "UnknownFormat", "the format of pvc://data/rows.md"),
        ("rows.csv", "PK\x03\x04", "UnknownFormat", "pvc://data/rows.csv is a ZIP archive"),
    ],
)
def test_a_file_that_cannot_be_read_is_named(
    claim: Path, name: str, body: str | None, reason: str, sentence: str
) -> None:
    if body is not None:
        (claim / name).write_text(body)
    with pytest.raises(Refused, match=sentence) as refused:
        names(f"pvc://data/{name}", claim / name)
    assert refused.value.reason == reason
    assert refused.value.next_step


def test_a_file_that_was_packed_twice_is_said_to_be(claim: Path) -> None:
    (claim / "rows.jsonl.gz").write_bytes(gzip.compress(gzip.compress(b'{"text": "a"}\n')))
    with pytest.raises(Refused, match=r"rows.jsonl.gz is a file that was packed twice"):
        names("pvc://data/rows.jsonl.gz", claim / "rows.jsonl.gz")


def test_the_format_of_the_spec_beats_the_ending(claim: Path) -> None:
    (claim / "rows.txt").write_text("text,label\n")
    (file,) = data_files(
        Source(uri="pvc://data/rows.txt", path=str(claim / "rows.txt"), format="CSV")
    )
    assert file.format == "CSV"


@pytest.mark.parametrize(
    ("uri", "below"),
    [
        ("pvc://data/../secret.jsonl", "../secret.jsonl"),
        ("pvc://data/x/../../secret.jsonl", "x/../../secret.jsonl"),
    ],
)
def test_dots_do_not_lead_out_of_the_volume(claim: Path, uri: str, below: str) -> None:
    with pytest.raises(Refused, match=r"has '\.\.' in its path"):
        names(uri, claim / below)


@pytest.mark.parametrize("target", ["../../secret.jsonl", "/etc/passwd", "../../"])
def test_a_link_does_not_lead_out_of_the_volume(claim: Path, target: str) -> None:
    (claim / "rows.jsonl").symlink_to(target)
    with pytest.raises(Refused, match="is a link that leads out of its volume"):
        names("pvc://data/rows.jsonl", claim / "rows.jsonl")


def test_a_link_inside_a_folder_does_not_lead_out_of_it(claim: Path, tmp_path: Path) -> None:
    (claim / "rows.jsonl").symlink_to(tmp_path / "secret.jsonl")
    with pytest.raises(Refused, match=r"pvc://data/rows\.jsonl is a link that leads out"):
        names("pvc://data", claim)


def test_a_linked_folder_in_the_path_does_not_lead_out(claim: Path, tmp_path: Path) -> None:
    (claim / "sub").symlink_to(tmp_path)
    with pytest.raises(Refused, match="leads out of its volume"):
        names("pvc://data/sub/secret.jsonl", claim / "sub" / "secret.jsonl")


def test_the_links_of_a_configmap_volume_are_followed(tmp_path: Path) -> None:
    root = tmp_path / "configmaps" / "tiny"
    (root / "..2026_11").mkdir(parents=True)
    (root / "..2026_11" / "rows.csv").write_text("text,label\n")
    (root / "..data").symlink_to("..2026_11")
    (root / "rows.csv").symlink_to("..data/rows.csv")
    assert names("configmap://tiny/rows.csv", root / "rows.csv") == ["configmap://tiny/rows.csv"]


def test_links_in_a_circle_are_refused(claim: Path) -> None:
    (claim / "a.csv").symlink_to("b.csv")
    (claim / "b.csv").symlink_to("a.csv")
    with pytest.raises(Refused, match="cannot be opened"):
        names("pvc://data/a.csv", claim / "a.csv")


def test_a_pipe_neither_hangs_nor_feeds_the_stage(claim: Path) -> None:
    os.mkfifo(claim / "rows.csv")
    with pytest.raises(Refused, match="is no plain file"):
        names("pvc://data/rows.csv", claim / "rows.csv")


def test_a_device_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Refused, match="is no plain file"):
        names("file:///dev/zero", Path("/dev/zero"))


@pytest.mark.parametrize("path", ["/" + "x" * 5000, "/data/a\0b.csv"])
def test_what_is_no_path_is_refused(path: str) -> None:
    with pytest.raises(Refused, match="is no path"):
        data_files(Source(uri="file:///x.csv", path=path))
