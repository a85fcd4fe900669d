"""Tokens in flat files: two bytes each where the model knows few enough of them, and the same rows."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from oikyo_trainer.errors import Refused
from oikyo_trainer.training.tokenfiles import IGNORED, SplitWriter, open_rows

HIGHEST = 65_535


@pytest.mark.parametrize(
    ("vocabulary", "file", "width"),
    [
        (HIGHEST + 1, "train.tokens16", 2),
        (HIGHEST + 2, "train.tokens", 4),
        (None, "train.tokens", 4),
    ],
)
def test_tokens_take_two_bytes_where_the_vocabulary_allows(
    tmp_path: Path, vocabulary: int | None, file: str, width: int
) -> None:
    with SplitWriter(tmp_path, "train", "marks", vocabulary) as writer:
        writer.add(np.array([7, HIGHEST, 3], np.int32), [1, 3], np.array([1, 0, 1], bool))
        writer.add(np.array([5], np.int32), [1], np.array([1], bool))
    assert (tmp_path / file).stat().st_size == 4 * width
    assert writer.facts[file]["size"] == 4 * width
    rows = open_rows(tmp_path, "train")
    assert [rows[n]["input_ids"].tolist() for n in range(3)] == [[7], [HIGHEST, 3], [5]]
    assert rows[1]["labels"].tolist() == [IGNORED, 3]
    assert rows[1]["input_ids"].dtype == np.int32
    assert rows.marked(1)[1].tolist() == [False, True]


def test_a_token_beyond_the_vocabulary_is_refused_and_becomes_no_other(tmp_path: Path) -> None:
    writer = SplitWriter(tmp_path, "train", "marks", 100)
    with pytest.raises(Refused, match="token 65536"), writer:
        writer.add(np.array([1, HIGHEST + 1], np.int32), [2], np.array([1, 1], bool))


def test_rows_with_a_class_are_read_as_well(tmp_path: Path) -> None:
    with SplitWriter(tmp_path, "train", "classes", 100) as writer:
        writer.add(np.array([99, 1, 2], np.int32), [2, 3], np.array([1, 0]))
    rows = open_rows(tmp_path, "train")
    assert [(row["input_ids"].tolist(), row["labels"]) for row in (rows[0], rows[1])] == [
        ([99, 1], 1),
        ([2], 0),
    ]
