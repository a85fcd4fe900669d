"""Tables of a version read while they are written are those that its files have."""

from __future__ import annotations

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from oikyo_trainer.data.tables import Passing, Stored
from oikyo_trainer.errors import Retry

COUNTS = {"train": 50, "validation": 7, "test": 3}


def tables(split: str) -> Iterator[Any]:
    for start in range(0, COUNTS[split], 20):
        numbers = range(start, min(start + 20, COUNTS[split]))
        yield pa.table({"id": [str(n) for n in numbers], "text": [f"{split} {n}" for n in numbers]})


def write(folder: Path) -> None:
    folder.mkdir()
    for split in COUNTS:
        pq.write_table(pa.concat_tables(tables(split)), folder / f"{split}.parquet")
    (folder / "manifest.json").write_text(json.dumps({"shape": "text", "labels": []}))


def passing(folder: Path) -> Passing:
    return Passing(folder, "text", [], COUNTS, ["id", "text"])


def show(seen: Passing, *splits: str) -> None:
    for split in splits:
        for table in tables(split):
            seen.show(split, table)


def texts(read: Stored | Passing, split: str) -> list[str]:
    batches = list(read.batches(split, ["text"], 16))
    assert all(len(batch) <= 16 for batch in batches)
    return [row["text"] for batch in batches for row in batch.to_pylist()]


def every(read: Stored | Passing) -> list[list[str]]:
    return [texts(read, split) for split in ("train", "validation")]


def test_what_passes_is_what_is_stored(tmp_path: Path) -> None:
    seen = passing(tmp_path / "set")
    with ThreadPoolExecutor(1) as pool:
        reader = pool.submit(every, seen)
        show(seen, *COUNTS)
        write(tmp_path / "set")
        seen.close(whole=True)
        stored = Stored(tmp_path / "set")
        assert reader.result() == every(stored)
    assert [seen.count(split) for split in COUNTS] == [stored.count(split) for split in COUNTS]
    assert seen.names("train") == stored.names("train")
    assert (seen.name, seen.shape) == (stored.name, stored.shape)


def test_a_version_that_is_there_is_read_from_its_files(tmp_path: Path) -> None:
    write(tmp_path / "set")
    seen = passing(tmp_path / "set")
    seen.close(whole=True)
    assert every(seen) == every(Stored(tmp_path / "set"))


def test_a_second_reading_waits_for_the_files(tmp_path: Path) -> None:
    seen = passing(tmp_path / "set")
    with ThreadPoolExecutor(1) as pool:
        seen.show("train", next(tables("train")))
        assert next(seen.batches("train", ["text"], 16))[0][0].as_py() == "train 0"
        reader = pool.submit(lambda: every(seen.stored()))
        show(seen, *COUNTS)  # nobody takes them, and it does not wait
        write(tmp_path / "set")
        seen.close(whole=True)
        assert reader.result()[0][49] == "train 49"


@pytest.mark.parametrize("shown", [(), ("train",), ("train", "validation")])
def test_a_version_that_was_not_ended_is_never_read_as_whole(
    tmp_path: Path, shown: tuple[str, ...]
) -> None:
    seen = passing(tmp_path / "set")
    with ThreadPoolExecutor(1) as pool:
        reader = pool.submit(every, seen)
        show(seen, *shown)
        seen.close(whole=False)
        with pytest.raises(Retry, match="not written to its end"):
            reader.result()
