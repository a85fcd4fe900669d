"""s3:// sources, with Arrow's client against a real S3 server on this machine."""

from __future__ import annotations

import gzip
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fsspec
import pytest
from pyarrow.fs import FSSpecHandler, PyFileSystem

from object_store import KEY, KEY_ID, ObjectStore, cutting_proxy, object_store
from oikyo.api.stages import Source
from oikyo_trainer.data import buckets, remote
from oikyo_trainer.errors import Refused, Retry

AWS = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_ENDPOINT_URL", "AWS_REGION")


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ObjectStore]:
    with object_store(tmp_path_factory.mktemp("s3")) as running:
        yield running


@pytest.fixture(autouse=True)
def no_credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in AWS:
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def secret(store: ObjectStore, tmp_path: Path) -> str:
    return str(store.secret(tmp_path / "secrets/reader"))


def rows(start: int = 0, count: int = 60) -> bytes:
    made = (
        {"text": f"question {i}", "label": f"topic {i % 3}"} for i in range(start, start + count)
    )
    return "".join(json.dumps(row) + "\n" for row in made).encode()


def fetched(uri: str, secret: str | None, folder: Path) -> tuple[tuple[Source, ...], Any]:
    (sources, _), pinned = remote.local(((Source(uri=uri, secret=secret),), ()), folder)
    return sources, pinned


def test_a_key_is_read_like_a_file_and_pinned(desk: Any, store: ObjectStore, secret: str) -> None:
    store.put("tickets/2026/rows.jsonl", rows())
    uri = "s3://tickets/2026/rows.jsonl"
    by_key = desk.prepare(desk.root, sources=(Source(uri=uri, secret=secret),))
    by_path = desk.prepare(desk.file("rows.jsonl", rows()))
    assert by_key.dataset_digest == by_path.dataset_digest
    (pin,) = (item for item in by_key.resolved if item.name == "data.sources.revision")
    with store.files.open_input_stream("tickets/2026/rows.jsonl") as stream:
        assert pin.value == stream.metadata()["ETag"].decode().strip('"')


def test_rows_of_a_bucket_keep_their_place_in_it(
    desk: Any, store: ObjectStore, secret: str
) -> None:
    store.put("places/a/rows.jsonl", rows())
    result = desk.prepare(desk.root, sources=(Source(uri="s3://places/a", secret=secret),))
    folder = desk.workspace / "datasets" / result.dataset_digest.removeprefix("sha256:")
    report = json.loads((folder / "report.json").read_text())
    assert report["sources"][0]["name"] == "s3://places/a/rows.jsonl"


def test_a_prefix_is_a_folder_with_its_splits(desk: Any, store: ObjectStore, secret: str) -> None:
    store.put("sets/intents/train-0.jsonl", rows(0))
    store.put("sets/intents/train-1.jsonl.gz", gzip.compress(rows(100)))
    store.put("sets/intents/test-0.jsonl", rows(200, 30))
    store.put("sets/intents/notes.pdf", b"%PDF")
    store.put("sets/intents/old/train-9.jsonl", rows(900))
    source = Source(uri="s3://sets/intents", secret=secret)
    result = desk.prepare(desk.root, sources=(source,), test_sources=(source,))
    assert (result.train + result.validation, result.test) == (120, 30)


def test_a_pattern_reads_every_match_whatever_its_folder(
    store: ObjectStore, secret: str, tmp_path: Path
) -> None:
    for key in (
        "logs/2026/01/a.jsonl",
        "logs/2026/02/b.jsonl",
        "logs/2026/02/c.csv",
        "logs/d.jsonl",
    ):
        store.put(f"globs/{key}", rows(count=1))
    found, (pin,) = fetched("s3://globs/logs/**/*.jsonl", secret, tmp_path / "deep")
    assert [source.uri for source in found] == [
        "s3://globs/logs/2026/01/a.jsonl",
        "s3://globs/logs/2026/02/b.jsonl",
        "s3://globs/logs/d.jsonl",
    ]
    assert pin.value.startswith("sha256:")
    assert all(Path(source.path).read_bytes() == rows(count=1) for source in found)
    found, _ = fetched("s3://globs/logs/2026/0?/*.jsonl", secret, tmp_path / "flat")
    assert len(found) == 2


def test_a_changed_object_has_another_pin(store: ObjectStore, secret: str, tmp_path: Path) -> None:
    pins = []
    for number in range(2):
        store.put("pins/rows.jsonl", rows(number))
        pins.append(fetched("s3://pins/rows.jsonl", secret, tmp_path / str(number))[1][0].value)
    assert pins[0] != pins[1]


def test_each_source_has_its_own_secret(desk: Any, store: ObjectStore, tmp_path: Path) -> None:
    with object_store(tmp_path / "other", key="another-key-entirely") as other:
        store.put("mine/a.jsonl", rows(0))
        other.put("theirs/b.jsonl", rows(100))
        first = str(store.secret(tmp_path / "secrets/one"))
        second = str(other.secret(tmp_path / "secrets/two"))
        sources = (
            Source(uri="s3://mine/a.jsonl", secret=first),
            Source(uri="s3://theirs/b.jsonl", secret=second),
        )
        result = desk.prepare(desk.root, sources=sources)
    assert result.train + result.validation + result.test == 120


@pytest.mark.parametrize(
    ("uri", "changed", "reason", "sentence"),
    [
        ("s3://tickets-away/rows.jsonl", {}, "SourceMissing", "does not exist"),
        ("s3://seen/none.jsonl", {}, "SourceMissing", "does not exist"),
        ("s3://seen/*.csv", {}, "NoFiles", "below the bucket stand rows.jsonl"),
        ("s3://seen/rows.jsonl", {"AWS_SECRET_ACCESS_KEY": "wrong-secret-key"}, "AccessDenied", "credentials"),
        ("s3://seen/rows.jsonl", {"AWS_ACCESS_KEY_ID": "AKIAWRONG"}, "AccessDenied", "credentials"),
        ("s3://seen/rows.jsonl", {"AWS_SECRET_ACCESS_KEY": ""}, "InvalidSecret", "no key AWS_SECRET"),
        ("s3://seen/rows.jsonl", {"AWS_ENDPOINT_URL": "minio:9000"}, "InvalidSecret", "no address"),
        ("s3://seen/a//rows.jsonl", {}, "PathEscapes", "no path below"),
        ("s3://seen/a/../rows.jsonl", {}, "PathEscapes", "no path below"),
    ],
)  # fmt: skip
def test_what_a_person_must_change_is_refused(
    store: ObjectStore, tmp_path: Path, uri: str, changed: Any, reason: str, sentence: str
) -> None:
    store.put("seen/rows.jsonl", rows())
    secret = str(store.secret(tmp_path / "secrets/reader", **changed))
    with pytest.raises(Refused, match=sentence) as refused:
        fetched(uri, secret, tmp_path / "got")
    assert refused.value.reason == reason
    assert uri.partition("*")[0] in refused.value.message or "AWS" in refused.value.message
    told = f"{refused.value.message} {refused.value.evidence} {refused.value.next_step}"
    values = (KEY, KEY_ID, *(v for k, v in changed.items() if k != "AWS_ENDPOINT_URL" and v))
    assert not [value for value in values if value in told]


def test_without_a_secret_the_bucket_is_read_as_anybody(
    store: ObjectStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("AWS_ENDPOINT_URL", store.url)
    store.put("closed/rows.jsonl", rows())
    with pytest.raises(Refused, match="may not be read") as refused:
        fetched("s3://closed/rows.jsonl", None, tmp_path / "got")
    assert "secretName" in refused.value.next_step


def test_a_store_that_is_away_is_tried_again(tmp_path: Path) -> None:
    with object_store(tmp_path / "s3") as store:
        store.put("gone/rows.jsonl", rows())
        secret = str(store.secret(tmp_path / "secrets/reader"))
        store.stop()
        with pytest.raises(Retry, match="cannot be read now") as failed:
            fetched("s3://gone/rows.jsonl", secret, tmp_path / "got")
    assert "Could not connect" in failed.value.evidence


def test_connections_that_break_in_the_middle_cost_no_byte(
    store: ObjectStore, tmp_path: Path
) -> None:
    body = b"".join(b"%d\n" % number for number in range(1 << 20))
    store.put("cut/rows.jsonl", body)
    with cutting_proxy(store, cuts=2, after=1 << 20) as url:
        secret = str(store.secret(tmp_path / "secrets/reader", AWS_ENDPOINT_URL=url))
        (source,), _ = fetched("s3://cut/rows.jsonl", secret, tmp_path / "got")
    assert Path(source.path).read_bytes() == body


def test_an_object_that_changes_while_it_is_fetched_is_tried_again(
    store: ObjectStore, secret: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.put("moving/rows.jsonl", rows())
    stream = remote._stream

    def then_changed(*arguments: Any) -> None:
        stream(*arguments)
        store.put("moving/rows.jsonl", rows(500))

    monkeypatch.setattr(remote, "_stream", then_changed)
    with pytest.raises(Retry, match="changed while it was fetched"):
        fetched("s3://moving/rows.jsonl", secret, tmp_path / "got")
    assert not list((tmp_path / "got").rglob("*.jsonl"))


def test_a_large_object_passes_in_pieces(store: ObjectStore, secret: str, tmp_path: Path) -> None:
    store.put("large/rows.jsonl", b"x" * (12 * remote.CHUNK))
    code = (
        "import sys, pyarrow as pa; from pathlib import Path\n"
        "from oikyo.api.stages import Source; from oikyo_trainer.data import remote\n"
        "source = Source(uri='s3://large/rows.jsonl', secret=sys.argv[1])\n"
        "(found, _), _ = remote.local(((source,), ()), Path(sys.argv[2]))\n"
        "print(Path(found[0].path).stat().st_size, pa.default_memory_pool().max_memory())\n"
    )
    command = [sys.executable, "-c", code, secret, str(tmp_path / "got")]
    size, peak = map(int, subprocess.check_output(command, text=True).split())
    assert size == 12 * remote.CHUNK
    assert peak <= 3 * remote.CHUNK


def test_a_key_never_leaves_the_folder() -> None:
    for key in ("../x", "a/../../x", "/etc/passwd", "a//b", "./a", "a/\0b", "a" * 300):
        with pytest.raises(Refused, match="no path below a folder"):
            buckets.safe_parts("s3://bucket/prefix", key)
    assert buckets.safe_parts("s3://bucket/prefix", "a/b c.jsonl") == ("a", "b c.jsonl")


def test_objects_with_climbing_keys_are_refused_before_anything_is_written(tmp_path: Path) -> None:
    memory = PyFileSystem(FSSpecHandler(fsspec.filesystem("memory")))
    bucket = buckets.Bucket("s3://bucket/a", "bucket", "a", memory)
    items = [remote.Item("a/ok.jsonl", 1, 0), remote.Item("a/../../evil.jsonl", 1, 0)]
    with pytest.raises(Refused, match="no path below a folder"):
        remote.fetch(bucket, items, "a", tmp_path / "got")
    assert not list(tmp_path.rglob("*.jsonl"))


def test_a_base_model_of_a_bucket_is_stored_as_any_other(
    desk: Any, store: ObjectStore, secret: str
) -> None:
    for path in desk.model.iterdir():
        store.put(f"models/tiny/{path.name}", path.read_bytes())
    store.put("models/tiny/pytorch_model.bin", b"pickle")
    data = desk.file("rows.jsonl", rows())
    by_bucket = desk.prepare(data, model=Source(uri="s3://models/tiny", secret=secret))
    assert by_bucket.model_digest == desk.prepare(data).model_digest
    assert any(item.name == "model.revision" for item in by_bucket.resolved)
    assert [p for p in (desk.workspace / "models").iterdir() if p.name.startswith(".")] == []


def test_another_scheme_names_the_package_that_it_needs(tmp_path: Path) -> None:
    with pytest.raises(Refused, match="needs the package gcsfs") as refused:
        fetched("gs://bucket/rows.jsonl", None, tmp_path)
    assert "AWS_ENDPOINT_URL" in refused.value.next_step


def test_an_fsspec_file_system_is_read_the_same_way(tmp_path: Path) -> None:
    files = fsspec.filesystem("memory")
    files.pipe("/bucket/a/rows.jsonl", rows())
    bucket = buckets.Bucket("gs://bucket/a", "bucket", "a", PyFileSystem(FSSpecHandler(files)))
    items = remote.every(bucket)
    (tag,) = remote.fetch(bucket, items, "a", tmp_path / "got")
    assert (tmp_path / "got/rows.jsonl").read_bytes() == rows()
    assert tag.startswith(f"{len(rows())}-")


def with_keys(store: ObjectStore, folder: Path, *given: str) -> subprocess.CompletedProcess[str]:
    """`oikyo data` in `folder`, with the keys of the store in the environment."""
    environment = {
        **os.environ,
        "AWS_ACCESS_KEY_ID": KEY_ID,
        "AWS_SECRET_ACCESS_KEY": KEY,
        "AWS_ENDPOINT_URL": store.url,
    }
    command = [sys.executable, "-m", "oikyo_trainer.data", *given]
    return subprocess.run(command, env=environment, capture_output=True, text=True, cwd=folder)


def test_data_clean_reads_a_bucket_and_leaves_only_its_two_files(
    store: ObjectStore, tmp_path: Path
) -> None:
    for part in range(2):
        lines = [{"text": f"<b>question</b> {part}{n}", "label": "ab"[n % 2]} for n in range(30)]
        store.put(f"dirty/{part}.jsonl", "".join(json.dumps(x) + "\n" for x in lines).encode())
    given = ["clean", "s3://dirty/*.jsonl", "clean.jsonl", "--steps", "html"]
    done = with_keys(store, tmp_path, *given)
    assert done.returncode == 0, done.stderr
    read = [json.loads(line) for line in (tmp_path / "clean.jsonl").open()]
    assert [row["text"] for row in read] == [
        f"question {part}{n}" for part in range(2) for n in range(30)
    ]
    changes = [json.loads(line) for line in (tmp_path / "clean.jsonl.cleaned.jsonl").open()]
    assert {change["file"] for change in changes} == {"s3://dirty/0.jsonl", "s3://dirty/1.jsonl"}
    assert len(list(tmp_path.iterdir())) == 2


def test_data_check_reads_a_bucket_with_the_keys_of_the_environment(
    store: ObjectStore, tmp_path: Path
) -> None:
    store.put("checked/rows.jsonl", rows(count=400))
    done = with_keys(store, tmp_path, "check", "s3://checked/*.jsonl")
    assert done.returncode == 0, done.stderr
    assert "nothing refuses a training" in done.stdout
    assert KEY not in done.stdout + done.stderr
