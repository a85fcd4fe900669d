"""Every format and packing: told from what stands in the file, read row by row, refused by name."""

from __future__ import annotations

import gzip
import io
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from datasets import ClassLabel, Dataset, DatasetDict, Features, Value

from oikyo.api.stages import Source
from oikyo_trainer.data import plain
from oikyo_trainer.data.findings import BadRow
from oikyo_trainer.data.readers import read
from oikyo_trainer.data.readers.row import LONGEST_ROW, Item, Row
from oikyo_trainer.data.sources import DataFile, data_files
from oikyo_trainer.errors import Refused

ROWS = [{"text": f"question {i}\n\u00e4", "label": f"class {i % 3}"} for i in range(40)]
LINES = "".join(json.dumps(row) + "\n" for row in ROWS).encode()


def files(path: Path, body: bytes | None = None, *, test: bool = False, **more: str) -> Any:
    if body is not None:
        path.write_bytes(body)
    given = {"uri": path.as_uri(), "path": str(path), **more}
    return data_files(Source.model_validate(given), test=test)


def one(path: Path, body: bytes, **more: Any) -> DataFile:
    (file,) = files(path, body, **more)
    return file


def values(file: DataFile) -> list[dict[str, Any]]:
    return [dict(item.values) for item in read(file) if isinstance(item, Row)]


def told(found: list[Item]) -> list[tuple[int, str]]:
    return [(i.line, i.code if isinstance(i, BadRow) else "row") for i in found]


def bodies() -> dict[str, tuple[str, bytes]]:
    table = pa.Table.from_pylist(ROWS)
    parquet, arrow, stream = io.BytesIO(), io.BytesIO(), io.BytesIO()
    pq.write_table(table, parquet)
    with pa.ipc.new_file(arrow, table.schema) as writer:
        writer.write_table(table)
    with pa.ipc.new_stream(stream, table.schema) as writer:
        writer.write_table(table)
    cells = [f'"{row["text"]}"{{}}{row["label"]}\r\n' for row in ROWS]
    comma, tab = ("text{}label\r\n" + "".join(cells)).replace("{}", ","), None
    tab = ("text{}label\r\n" + "".join(cells)).replace("{}", "\t")
    return {
        "rows.jsonl": ("JSONL", LINES),
        "rows.json": ("JSON", json.dumps(ROWS).encode()),
        "pretty.json": ("JSON", json.dumps(ROWS, indent=2).encode()),
        "behind.json": ("JSON", "\n".join(json.dumps(r, indent=1) for r in ROWS).encode()),
        "lines.json": ("JSONL", LINES),
        "rows.csv": ("CSV", comma.encode()),
        "rows.tsv": ("TSV", tab.encode()),
        "rows.parquet": ("Parquet", parquet.getvalue()),
        "rows.arrow": ("Arrow", arrow.getvalue()),
        "stream.arrow": ("Arrow", stream.getvalue()),
    }


@pytest.mark.parametrize("name", list(bodies()))
def test_the_same_rows_come_out_of_every_format(tmp_path: Path, name: str) -> None:
    wanted, body = bodies()[name]
    file = one(tmp_path / name, body)
    assert file.format == wanted
    assert values(file) == ROWS


@pytest.mark.parametrize("name", ["rows.jsonl", "rows.json", "rows.parquet", "stream.arrow"])
def test_a_wrong_or_missing_ending_does_not_hide_the_format(tmp_path: Path, name: str) -> None:
    wanted, body = bodies()[name]
    for other in ("plain", "rows.txt", "rows.csv"):
        file = one(tmp_path / other, body)
        assert (file.format, values(file)) == (wanted, ROWS)
        assert file.evidence


def test_a_table_without_an_ending_is_told_by_its_cells(tmp_path: Path) -> None:
    file = one(tmp_path / "table", b"text;label\na;b\nc;d\n")
    assert (file.format, values(file)[1]) == ("CSV", {"text": "c", "label": "d"})
    assert "3 lines have 2 cells each" in file.evidence


@pytest.mark.parametrize("packing", ["gzip", "zstd"])
@pytest.mark.parametrize("name", ["rows.jsonl", "rows.json", "rows.csv", "rows.tsv"])
def test_packed_files_are_read_whatever_they_are_called(
    tmp_path: Path, packing: str, name: str
) -> None:
    wanted, body = bodies()[name]
    packed = pa.compress(body, codec=packing, asbytes=True)
    for path in (tmp_path / f"{name}.gz", tmp_path / f"{name}.zst", tmp_path / name):
        file = one(path, packed)
        assert (file.format, file.packing, values(file)) == (wanted, packing, ROWS)


def test_packed_files_one_behind_the_other_are_one_file(tmp_path: Path) -> None:
    file = one(tmp_path / "rows.jsonl.gz", gzip.compress(LINES) + gzip.compress(LINES))
    assert values(file) == ROWS + ROWS


@pytest.mark.parametrize("packing", ["gzip", "zstd"])
def test_a_packed_file_that_was_cut_off_is_refused_by_name(tmp_path: Path, packing: str) -> None:
    body = pa.compress(LINES * 100, codec=packing, asbytes=True)
    with pytest.raises(Refused, match=rf"rows\.jsonl\.gz is not whole as a {packing} file"):
        values(one(tmp_path / "rows.jsonl.gz", body[:-9]))


@pytest.mark.parametrize("packing", ["gzip", "zstd"])
def test_a_bomb_is_refused_by_name(
    tmp_path: Path, packing: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(plain, "FREE", 1 << 20)
    bomb = pa.compress(b'{"text": "x"}\n' * (1 << 19), codec=packing, asbytes=True)
    with pytest.raises(Refused, match=r"bomb\.jsonl\.gz unpacks to more than") as refused:
        values(one(tmp_path / "bomb.jsonl.gz", bomb))
    assert refused.value.reason == "InvalidData"


def test_a_packed_parquet_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Refused, match="is Parquet packed with gzip"):
        one(tmp_path / "rows.parquet.gz", gzip.compress(bodies()["rows.parquet"][1]))


def test_text_gives_one_row_a_line(tmp_path: Path) -> None:
    found = list(read(one(tmp_path / "a.txt", b"\xef\xbb\xbffirst\r\n\r\n  second\n\xff\nlast")))
    assert found[0] == Row(1, {"text": "first"})
    assert found[1] == Row(3, {"text": "  second"})
    assert told(found) == [(1, "row"), (3, "row"), (4, "invalid-utf8"), (5, "row")]


def test_the_format_of_the_source_has_the_last_word(tmp_path: Path) -> None:
    file = one(tmp_path / "a.jsonl", LINES, format="Text")
    assert values(file)[0] == {"text": LINES.split(b"\n")[0].decode()}
    assert file.evidence == "as data.sources[].format says"


ELEMENTS = [
    (b"3", "not-an-object"),
    (b'"a, ]"', "not-an-object"),
    (b"[1]", "not-an-object"),
    (b'{"a": NaN}', "not-a-number"),
    (b'{"a": 1, "a": 2}', "duplicate-key"),
    (b'{"a": "\xff"}', "invalid-utf8"),
    (b"[" * 100_000 + b"]" * 100_000, "too-deep"),
    (b'{"a" 1}', "not-json"),
    (b'{"a": "' + b"x" * LONGEST_ROW + b'"}', "too-long"),
]


@pytest.mark.parametrize(("element", "code"), ELEMENTS, ids=[str(i) for i in range(9)])
def test_a_bad_element_of_an_array_costs_its_own_row_only(
    tmp_path: Path, element: bytes, code: str
) -> None:
    body = b'[{"a":\n"]} \\" {"},\n' + element + b',\n\n{"a": 2}]\n'
    assert told(list(read(one(tmp_path / "a.json", body)))) == [(1, "row"), (3, code), (5, "row")]


@pytest.mark.parametrize("cut", [b'[{"a": 1},\n{"a": 2', b'[{"a": 1}', b'[{"a": 1}\n{"a": 2}]'])
def test_an_array_that_breaks_off_is_refused_with_its_line(tmp_path: Path, cut: bytes) -> None:
    with pytest.raises(Refused, match=r"a\.json:[12] is no JSON: expected"):
        list(read(one(tmp_path / "a.json", cut)))


def test_an_array_larger_than_the_window_keeps_its_lines(tmp_path: Path) -> None:
    rows = [{"text": 'x\\"{' * 40, "n": i} for i in range(20_000)]
    body = "[" + ",\n".join(json.dumps(row) for row in rows) + "]"
    found = list(read(one(tmp_path / "a.json", body.encode())))
    assert found[-1] == Row(20_000, rows[-1])
    assert len(found) == 20_000


def test_a_damaged_arrow_file_is_refused_by_name(tmp_path: Path) -> None:
    for name in ("rows.arrow", "stream.arrow"):
        body = bodies()[name][1]
        for size in (20, len(body) // 2, len(body) - 20):
            with pytest.raises(Refused, match=rf"{name} is not a whole Arrow file"):
                values(one(tmp_path / name, body[:size]))


def test_a_column_of_one_run_cannot_stand_for_endless_rows(tmp_path: Path) -> None:
    sink = io.BytesIO()
    table = pa.table({"text": pa.RunEndEncodedArray.from_arrays([1 << 30], ["x"])})
    with pa.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table)
    file = one(tmp_path / "a.arrow", sink.getvalue())
    with pytest.raises(Refused, match="unpacks to more than"):
        for _ in read(file):
            pass


def test_a_folder_may_mix_formats_and_packings(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_bytes(LINES)
    (tmp_path / "b.jsonl.gz").write_bytes(gzip.compress(LINES))
    (tmp_path / "c.csv").write_bytes(bodies()["rows.csv"][1])
    (tmp_path / "notes.txt").write_text("not a row")
    found = files(tmp_path)
    assert [file.path.name for file in found] == ["a.jsonl", "b.jsonl.gz", "c.csv"]
    assert [values(file) for file in found] == [ROWS] * 3


def test_a_folder_of_texts_is_read(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("one\n")
    assert [file.format for file in files(tmp_path)] == ["Text"]


@pytest.mark.parametrize("below", [".", "data"])
def test_a_folder_parted_into_splits_is_read_by_side(tmp_path: Path, below: str) -> None:
    for name in ("train-00000-of-00002", "train-00001-of-00002", "test-00000-of-00001"):
        path = tmp_path / below / f"{name}.parquet"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(bodies()["rows.parquet"][1])
    (tmp_path / "README.md").write_text("x")
    assert [f.path.name[:11] for f in files(tmp_path)] == ["train-00000", "train-00001"]
    assert [f.path.name[:10] for f in files(tmp_path, test=True)] == ["test-00000"]
    assert [item.name for item in files(tmp_path)[0].resolved()][1] == "data.sources.split"


def test_a_split_that_is_not_there_is_refused_with_those_that_are(tmp_path: Path) -> None:
    for name in ("train.csv", "validation.csv"):
        (tmp_path / name).write_text("text,label\na,b\n")
    with pytest.raises(Refused, match="no test split; its splits are train, validation"):
        files(tmp_path, test=True)


def _saved() -> Dataset:
    kinds = Features({"text": Value("string"), "label": ClassLabel(names=["no", "yes"])})
    return Dataset.from_dict({"text": ["a", "b"], "label": [1, 0]}, features=kinds)


def test_a_saved_data_set_is_read_without_the_caches_beside_it(tmp_path: Path) -> None:
    _saved().save_to_disk(tmp_path / "set")
    (tmp_path / "set" / "cache-123.arrow").write_bytes(b"x")
    (file,) = files(tmp_path / "set")
    assert values(file) == [{"text": "a", "label": "yes"}, {"text": "b", "label": "no"}]


def test_the_splits_of_a_saved_data_set_are_kept_apart(tmp_path: Path) -> None:
    DatasetDict({"train": _saved(), "test": _saved().select([0])}).save_to_disk(tmp_path / "set")
    (train,), (test,) = files(tmp_path / "set"), files(tmp_path / "set", test=True)
    assert (len(values(train)), len(values(test))) == (2, 1)


@pytest.mark.parametrize("name", ["../../secret.arrow", "/etc/passwd", ".."])
def test_a_saved_data_set_names_no_file_outside_it(tmp_path: Path, name: str) -> None:
    _saved().save_to_disk(tmp_path / "set")
    (tmp_path / "set" / "state.json").write_text(json.dumps({"_data_files": [{"filename": name}]}))
    with pytest.raises(Refused, match="names no data files"):
        files(tmp_path / "set")


def test_the_guess_and_its_evidence_stand_in_the_result(desk: Any) -> None:
    path = desk.file("rows.jsonl.gz", gzip.compress(LINES))
    result = desk.prepare(path)
    (told,) = [item for item in result.resolved if item.name == "data.sources.format"]
    assert told.value == "JSONL"
    assert told.reason.endswith("its first line is a JSON object, packed with gzip")
