"""Files of columns read in blocks, by any process, give the rows that one process reads."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from oikyo.api.split import Split
from oikyo.api.stages import Source
from oikyo_trainer.data.columns import Columns
from oikyo_trainer.data.intake import Job, read_block
from oikyo_trainer.data.piece import Form
from oikyo_trainer.data.pieces import pieces
from oikyo_trainer.data.readers import columnar, in_blocks, read
from oikyo_trainer.data.sources import DataFile, data_files
from oikyo_trainer.data.workers import Workers
from oikyo_trainer.errors import Refused, Retry

FEATURES = b'{"info": {"features": {"label": {"_type": "ClassLabel", "names": ["no", "yes"]}}}}'
ROWS = [
    {
        "messages": [
            {"role": "user", "content": f"what is {n}?"},
            {"role": "assistant", "content": "a number" if n % 7 else ""},
        ],
        "label": n % 2,
        "word": "ab"[n % 2],
        "gone": None if n % 3 else n,
    }
    for n in range(2500)
]


def table() -> Any:
    made = pa.Table.from_pylist(ROWS)
    made = made.set_column(2, "word", made["word"].dictionary_encode())
    return made.replace_schema_metadata({b"huggingface": FEATURES})


def written(folder: Path, kind: str) -> DataFile:
    path = folder / ("rows.parquet" if kind == "Parquet" else "rows.arrow")
    if kind == "Parquet":
        pq.write_table(table(), path, row_group_size=700)
    else:
        with pa.ipc.new_file(path, table().schema) as file:
            file.write_table(table(), max_chunksize=300)
    (found,) = data_files(Source(uri=path.as_uri(), path=str(path)))
    return found


@pytest.mark.parametrize("kind", ["Parquet", "Arrow"])
@pytest.mark.parametrize("size", [1, 40_000, 1 << 30])
def test_blocks_of_any_size_hold_the_rows_of_the_file(
    kind: str, size: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(columnar, "BLOCK", size)
    file = written(tmp_path, kind)
    found = in_blocks(file)
    assert found is not None
    parse, blocks = found
    held = list(blocks)
    assert (len(held) == 1) == (size == 1 << 30)
    assert [row for block in held for row in parse(*block)] == list(read(file))


@pytest.mark.parametrize("kind", ["Parquet", "Arrow"])
def test_workers_make_of_them_what_one_process_makes(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(columnar, "BLOCK", 30_000)
    form = Form(Columns("messages", {"messages": "messages"}, {}), Split(), False, ("label",))
    file = written(tmp_path, kind)
    found = in_blocks(file)
    assert found is not None
    workers = Workers(3, read_block)
    try:
        made = [
            piece
            for part in workers.in_order(Job(form, found[0], *block) for block in found[1])
            for piece in part
        ]
    finally:
        workers.close()
    (whole,) = pieces(form, read(file))
    assert len(made) > 3
    assert [row for piece in made for row in piece.batch.to_pylist()] == whole.batch.to_pylist()
    assert b"".join(piece.keys.exact for piece in made) == whole.keys.exact
    assert [line for piece in made for line in piece.lines] == list(whole.lines)
    assert [bad for piece in made for bad in piece.bad] == list(whole.bad)
    assert [one["label"] for piece in made for one in piece.sliced] == [
        "yes" if row["label"] else "no" for row in ROWS if row["messages"][1]["content"]
    ]


def test_a_text_that_is_none_is_refused_alike_by_both(tmp_path: Path) -> None:
    path = tmp_path / "rows.parquet"
    bounds, data = pa.array([0, 2, 4], pa.int32()).buffers()[1], pa.py_buffer(b"ab\xff\xfe")
    pq.write_table(pa.table({"text": pa.StringArray.from_buffers(2, bounds, data)}), path)
    (file,) = data_files(Source(uri=path.as_uri(), path=str(path)))
    with pytest.raises(Refused) as one:
        list(read(file))
    found = in_blocks(file)
    assert found is not None
    workers = Workers(2, read_block)
    form = Form(Columns("text", {"text": "text"}, {}), Split(), False)
    try:
        with pytest.raises(Refused) as other:
            list(workers.in_order(Job(form, found[0], *block) for block in found[1]))
    finally:
        workers.close()
    assert vars(other.value) == vars(one.value)
    assert other.value.reason == "UnreadableFile"


@pytest.mark.parametrize("kind", [Refused, Retry])
def test_a_refusal_is_whole_when_it_comes_from_another_process(kind: type[Refused]) -> None:
    error = kind("InvalidData", "a sentence", evidence="file:3", next_step="Mend it")
    back = pickle.loads(pickle.dumps(error))
    assert type(back) is kind
    assert (str(back), vars(back)) == ("a sentence", vars(error))
