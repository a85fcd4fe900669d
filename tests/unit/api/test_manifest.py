"""YAML as kubectl reads it; the wire test asks kubectl about the same scalars."""

from __future__ import annotations

from pathlib import Path

import pytest

from accepted import SCALARS
from oikyo.errors import SpecError
from oikyo.manifest import documents, read


def test_scalars_are_read_as_kubectl_reads_them() -> None:
    (body,) = documents(f"values: [{', '.join(SCALARS)}]")
    assert body["values"] == list(SCALARS.values())
    for ours, theirs in zip(body["values"], SCALARS.values(), strict=True):
        assert isinstance(ours, str) == isinstance(theirs, str)
        assert isinstance(ours, bool) == isinstance(theirs, bool)


def test_json_is_a_manifest_too() -> None:
    assert documents(read('{"kind": "FineTuneJob"}')) == [{"kind": "FineTuneJob"}]


def test_empty_documents_are_left_out() -> None:
    assert documents("---\n# nothing\n---\na: 1\n---\n") == [{"a": 1}]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("a: 1\nb: 2\na: 3\n", "line 3: a stands twice"),
        ("a: 1\n b: 2\n", "line 2 is not YAML"),
        ("a: [1\nb: 2\n", "is not YAML"),
        ("just words\n", "is no object: begin with apiVersion"),
        ("- a\n- b\n", "is no object"),
    ],
    ids=["a key twice", "wrong indentation", "an open bracket", "a sentence", "a list"],
)
def test_mistake_is_named_with_its_line(text: str, says: str) -> None:
    with pytest.raises(SpecError) as refused:
        documents(text)
    assert says in str(refused.value)


def test_binary_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "job.yaml").write_bytes(b"a: \xff\xfe")
    with pytest.raises(SpecError, match="is not UTF-8 text"):
        read(tmp_path / "job.yaml")
