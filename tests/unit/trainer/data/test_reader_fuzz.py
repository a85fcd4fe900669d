"""Damaged files of every format: rows, findings or a refusal that names the file, and nothing else.

bench/fuzz_readers.py does the same 200,000 times, in a process of bounded memory.
"""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from oikyo.api.stages import Source
from oikyo_trainer.data.readers import read
from oikyo_trainer.data.sources import data_files
from oikyo_trainer.errors import Refused

ROWS = [{"text": f'say "{n}",\n\u00e4', "label": f"class {n % 3}"} for n in range(6)]
PIECES = [b'"', b",", b"\n", b"\t", b"{", b"}", b"[", b"]", b"\\", b"\xff", b"\0", b"[" * 3000]
FUZZ = settings(
    max_examples=100,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


def _arrow(make: Any) -> bytes:
    sink, table = io.BytesIO(), pa.Table.from_pylist(ROWS * 20)
    with make(sink, table.schema) as writer:
        writer.write_table(table)
    return sink.getvalue()


def _parquet() -> bytes:
    sink = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(ROWS * 20), sink, compression="none")
    return sink.getvalue()


CELLS = "".join(f'"say ""{n}"", then\n"MARKclass\n' for n in range(6))
BODIES = {
    "rows.jsonl": "\n".join(json.dumps(row) for row in ROWS).encode(),
    "rows.json": json.dumps(ROWS, indent=1).encode(),
    "rows.csv": f"textMARKlabel\n{CELLS}".replace("MARK", ",").encode(),
    "rows.tsv": f"textMARKlabel\n{CELLS}".replace("MARK", "\t").encode(),
    "rows.txt": "".join(row["text"] + "\n" for row in ROWS).encode(),
    "rows.parquet": _parquet(),
    "rows.arrow": _arrow(pa.ipc.new_file),
    "stream.arrow": _arrow(pa.ipc.new_stream),
    "none": json.dumps(ROWS).encode(),
}


@st.composite
def damaged(draw: Any, body: bytes) -> bytes:
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, len(body)))
        gone = draw(st.sampled_from((0, 0, 1, 8, 10**9)))
        piece = draw(st.one_of(st.sampled_from(PIECES), st.binary(max_size=4)))
        body = body[:at] + piece + body[at + gone :]
    return body


@pytest.mark.parametrize("name", list(BODIES))
@FUZZ
@given(data=st.data())
def test_a_damaged_file_gives_rows_findings_or_a_refusal(
    tmp_path: Path, name: str, data: Any
) -> None:
    body = data.draw(damaged(BODIES[name]))
    packing = data.draw(st.sampled_from(("", "", "gzip", "zstd")))
    if packing:
        body = pa.compress(body, codec=packing, asbytes=True)
        body = data.draw(st.one_of(st.just(body), damaged(body)))
    path = tmp_path / name
    path.write_bytes(body)
    lines: list[int] = []
    said = name
    try:
        for file in data_files(Source(uri=path.as_uri(), path=str(path))):
            lines += [item.line for item in read(file)]
    except Refused as refused:
        said = refused.message
    assert name in said
    assert lines == sorted(lines)
