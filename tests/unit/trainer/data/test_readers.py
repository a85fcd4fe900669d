"""Readers on real files: every bad row with its line, no crash on anything."""

from __future__ import annotations

import contextlib
import csv
import io
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from oikyo.api.stages import Source
from oikyo_trainer.data.findings import BadRow, excerpt
from oikyo_trainer.data.readers import jsonl, read
from oikyo_trainer.data.readers.lines import of_block
from oikyo_trainer.data.readers.row import LONGEST_ROW, Item, Row
from oikyo_trainer.data.sources import data_files
from oikyo_trainer.errors import Refused


def items(path: Path, body: bytes) -> list[Item]:
    path.write_bytes(body)
    (file,) = data_files(Source(uri=path.as_uri(), path=str(path)))
    return list(read(file))


def told(found: list[Item]) -> list[tuple[int, str]]:
    return [(i.line, i.code if isinstance(i, BadRow) else "row") for i in found]


JSON_FAULTS = [
    (b'{"a": 1', "not-json"),
    (b"hello", "not-json"),
    (b"{'a': 1}", "not-json"),
    (b"[1, 2]", "not-an-object"),
    (b'"text"', "not-an-object"),
    (b"null", "not-an-object"),
    (b'{"a": NaN}', "not-a-number"),
    (b'{"a": -Infinity}', "not-a-number"),
    (b'{"a": 1, "a": 2}', "duplicate-key"),
    (b'{"x": {"a": 1, "a": 2}}', "duplicate-key"),
    (b'{"a": "\xff"}', "invalid-utf8"),
    (b'{"a": "gr\xfc\xdfe"}', "invalid-utf8"),
    (b"[" * 100_000 + b"]" * 100_000, "too-deep"),
    (b'{"a": ' + b"9" * 5000 + b"}", "not-json"),
    (b'{"a": "' + b"x" * LONGEST_ROW + b'"}', "too-long"),
    (b'{"a": "\x00"}', "not-json"),
]


@pytest.mark.parametrize(("line", "code"), JSON_FAULTS, ids=[str(i) for i in range(16)])
def test_a_bad_json_line_is_told_with_its_number(tmp_path: Path, line: bytes, code: str) -> None:
    good = b'{"a": 1}\n'
    found = items(tmp_path / "rows.jsonl", good + b"\n" + line + b"\r\n" + good)
    assert told(found) == [(1, "row"), (3, code), (4, "row")]


LINES = (
    '{"a": "b"}', '{"a": 1}', '{"a": "b"}{"c": "d"}', '{"a": "b"} {"c": "d"}', '{"a": [1', ', 2]}', "2]}",
    '{"a": "b", "a": "c"}', '{"a": {"b": "c", "b": "d"}}', r'{"a": "\\"}', r'{"a": "\"b\""}', "{}", "[1]", "",
    ' {"a": "b"}', '{"a": "b"}\r', '{"a": "}\\n{"}', '{"a": ["b", {"c": null}]}', '{"a": "b"},', "null",
    '{"a": ' + '{"a": ' * 60 + '"b"' + "}" * 61, '{"a": "' + "x" * LONGEST_ROW + '"}',
)  # fmt: skip


@given(st.lists(st.sampled_from(LINES), max_size=6), st.sampled_from(["", "\n"]))
@example(['{"a": "b"}{"c": "d"}', '{"a": [1', ", 2]}"], "\n")
@example(['{"a": "b", "a": "c"}', r'{"a": "\"b\""}'], "\n")
@settings(max_examples=300, deadline=None)
def test_lines_read_at_once_are_those_read_one_by_one(lines: list[str], end: str) -> None:
    block = ("\n".join(lines) + end).encode()
    one_by_one = [
        jsonl.row(number, line)
        for number, line in enumerate(of_block(block), 1)
        if line and not line.isspace()
    ]
    assert list(jsonl.rows(1, block)) == one_by_one


def test_lines_of_texts_are_read_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    block = b"".join(b'{"a": "b \\" %d", "c": "}{"}\n' % number for number in range(40))
    monkeypatch.setattr(jsonl, "row", None)
    found = list(jsonl.rows(7, block))
    assert [row.line for row in found] == list(range(7, 47))
    assert found[39].values == {"a": 'b " 39', "c": "}{"}


def test_a_byte_order_mark_is_no_part_of_the_first_row(tmp_path: Path) -> None:
    assert told(items(tmp_path / "a.jsonl", b'\xef\xbb\xbf{"a": 1}')) == [(1, "row")]
    (row,) = items(tmp_path / "a.csv", b"\xef\xbb\xbftext,label\r\nhello,x\r\n")
    assert row == Row(2, {"text": "hello", "label": "x"})


@pytest.mark.parametrize("name", ["a.jsonl", "a.csv"])
def test_utf_16_is_refused_with_the_command_that_converts_it(tmp_path: Path, name: str) -> None:
    with pytest.raises(Refused, match="is UTF-16") as refused:
        items(tmp_path / name, "text,label\nä,b\n".encode("utf-16"))
    assert "iconv" in refused.value.next_step


def test_csv_rows_keep_the_physical_line_on_which_they_begin(tmp_path: Path) -> None:
    body = b'text,label\r\n"two\r\nlines, ""quoted""",x\r\n\r\nplain,y\r\n'
    found = items(tmp_path / "a.csv", body)
    assert found == [
        Row(2, {"text": 'two\r\nlines, "quoted"', "label": "x"}),
        Row(5, {"text": "plain", "label": "y"}),
    ]


def test_a_broken_quote_costs_its_own_row_only(tmp_path: Path) -> None:
    body = b'text,label\ngood,a\n"never closed,b\n"fine, really",c\nlast,d\n'
    found = items(tmp_path / "a.csv", body)
    assert told(found) == [(2, "row"), (3, "quoting"), (4, "row"), (5, "row")]
    assert found[2] == Row(4, {"text": "fine, really", "label": "c"})


def test_an_endless_quote_does_not_swallow_the_file(tmp_path: Path) -> None:
    lines = [b"good,a\n"] * 300_000
    body = b'text,label\n"open,b\n' + b"".join(lines)
    found = items(tmp_path / "a.csv", body)
    assert told(found[:1]) == [(2, "too-long")]
    assert len(found) == 1 + len(lines)
    assert found[-1] == Row(2 + len(lines), {"text": "good", "label": "a"})


CSV_FAULTS = [
    (b"one", "wrong-width"),
    (b"one,two,three", "wrong-width"),
    (b'"a"b,c', "quoting"),
    (b'"' + b"x" * LONGEST_ROW + b'",y', "too-long"),
]


@pytest.mark.parametrize(("line", "code"), CSV_FAULTS, ids=["short", "long", "quote", "huge"])
def test_a_bad_csv_row_is_told_with_its_line(tmp_path: Path, line: bytes, code: str) -> None:
    found = items(tmp_path / "a.csv", b"text,label\nok,a\n" + line + b"\nok,b\n")
    assert told(found) == [(2, "row"), (3, code), (4, "row")]


@pytest.mark.parametrize("mark", [",", ";", "\t"])
def test_the_delimiter_is_told_from_the_header(tmp_path: Path, mark: str) -> None:
    (row,) = items(tmp_path / "a.csv", f"text{mark}label\nhi{mark}x\n".encode())
    assert row == Row(2, {"text": "hi", "label": "x"})


@pytest.mark.parametrize(
    ("header", "sentence"),
    [(b"a,a\n1,2\n", "names the column 'a' twice"), (b",\n1,2\n", "empty first line")],
)
def test_a_header_that_names_no_columns_is_refused(
    tmp_path: Path, header: bytes, sentence: str
) -> None:
    with pytest.raises(Refused, match=sentence):
        items(tmp_path / "a.csv", header)


def test_parquet_rows_carry_their_number(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    table = pa.table({"text": [f"t{i}" for i in range(3000)], "label": list(range(3000))})
    pq.write_table(table, path, row_group_size=700)
    found = items(path, path.read_bytes())
    assert found[-1] == Row(3000, {"text": "t2999", "label": 2999})
    assert [item.line for item in found] == list(range(1, 3001))


def test_class_names_of_a_hub_data_set_are_used(tmp_path: Path) -> None:
    feature = {"label": {"_type": "ClassLabel", "names": ["no", "yes"]}}
    metadata = {b"huggingface": json.dumps({"info": {"features": feature}}).encode()}
    table = pa.table({"text": ["a", "b"], "label": [1, 0]}).replace_schema_metadata(metadata)
    pq.write_table(table, tmp_path / "a.parquet")
    found = items(tmp_path / "a.parquet", (tmp_path / "a.parquet").read_bytes())
    assert [item.values["label"] for item in found if isinstance(item, Row)] == ["yes", "no"]


def test_a_parquet_file_that_was_cut_off_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"text": ["a"] * 1000}), path)
    body = path.read_bytes()
    for size in (1, 4, len(body) // 2, len(body) - 1):
        with pytest.raises(Refused, match="is not a whole Parquet file"):
            items(path, body[:size])


def test_an_excerpt_is_short_masked_and_safe() -> None:
    text = "write to ann.lee@example.org or +49 170 1234567\n\x1b[31mred " + "x" * 500
    shown = excerpt(text)
    assert shown.startswith(r"write to <EMAIL> or <PHONE>\n\x1b[31mred")
    assert len(shown) == 80


# What the fuzzers feed: near-misses of the format are more telling than noise alone.
PIECES = [
    b'"',
    b",",
    b"\n",
    b"\r",
    b"{",
    b"}",
    b"[",
    b":",
    b"a",
    b"\\",
    b"\xff",
    b"\0",
    b"\xc3\xa4",
]
SOUP = st.one_of(st.binary(max_size=200), st.lists(st.sampled_from(PIECES)).map(b"".join))
FUZZ = settings(
    max_examples=300,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


@FUZZ
@given(body=SOUP)
@example(body=b'{"a": "\\ud800"}')
def test_any_bytes_as_json_lines_give_rows_or_findings(tmp_path: Path, body: bytes) -> None:
    _survives(tmp_path / "fuzz.jsonl", body, body.count(b"\n") + 1)


@FUZZ
@given(body=SOUP)
@example(body=b'a\n"\n"\n"')
def test_any_bytes_as_csv_give_rows_or_findings(tmp_path: Path, body: bytes) -> None:
    _survives(tmp_path / "fuzz.csv", body, body.count(b"\n") + 1)


@settings(parent=FUZZ, max_examples=150)
@given(data=st.data())
def test_a_damaged_parquet_file_gives_rows_or_a_refusal(tmp_path: Path, data: Any) -> None:
    body = bytearray(_parquet())
    for _ in range(data.draw(st.integers(1, 8))):
        body[data.draw(st.integers(0, len(body) - 1))] = data.draw(st.integers(0, 255))
    _survives(tmp_path / "fuzz.parquet", bytes(body), 10_000)


@FUZZ
@given(rows=st.lists(st.tuples(st.text(max_size=20), st.text(max_size=20)), min_size=1))
def test_what_a_csv_writer_wrote_comes_back(tmp_path: Path, rows: list[tuple[str, str]]) -> None:
    out = io.StringIO(newline="")
    writer = csv.writer(out, quoting=csv.QUOTE_ALL)
    writer.writerows([("text", "label"), *rows])
    body = out.getvalue().encode("utf-8", "surrogatepass")
    found = items(tmp_path / "round.csv", body)
    values = [tuple(item.values.values()) for item in found if isinstance(item, Row)]
    clean = [row for row in rows if "".join(row).encode("utf-8", "ignore").decode() == "".join(row)]
    if clean == rows:
        assert values == rows


def _survives(path: Path, body: bytes, most: int) -> None:
    found: list[Item] = []
    with contextlib.suppress(Refused):
        found = items(path, body)
    assert len(found) <= most
    lines = [item.line for item in found]
    assert lines == sorted(set(lines))


def _parquet() -> bytes:
    sink = io.BytesIO()
    pq.write_table(pa.table({"text": ["a", "b", "c"] * 20, "label": list(range(60))}), sink)
    return sink.getvalue()
