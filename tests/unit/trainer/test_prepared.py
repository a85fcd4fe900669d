"""A dataset that prepare did not finish is refused in one sentence, by training and by evaluation alike."""

from __future__ import annotations

from pathlib import Path

import pytest

from oikyo.api import workspace as layout
from oikyo_trainer.errors import Refused
from oikyo_trainer.evaluation.rows import open_dataset
from oikyo_trainer.prepared import manifest_of
from oikyo_trainer.training.rows import open_source

DIGEST = "sha256:" + "ab" * 32


def test_a_dataset_without_a_manifest_is_refused_by_whoever_opens_it(tmp_path: Path) -> None:
    (tmp_path / layout.dataset(DIGEST)).mkdir(parents=True)
    for opened in (
        lambda: open_dataset(tmp_path, DIGEST),
        lambda: open_source(tmp_path, DIGEST, "TextClassification"),
    ):
        with pytest.raises(Refused, match=f"no prepared dataset {DIGEST}") as refused:
            opened()
        assert refused.value.reason == "DatasetMissing"
        assert refused.value.evidence.endswith(layout.MANIFEST)


def test_a_manifest_is_read_as_it_was_written(tmp_path: Path) -> None:
    place = tmp_path / layout.dataset(DIGEST) / layout.MANIFEST
    place.parent.mkdir(parents=True)
    place.write_text('{"shape": "messages"}')
    assert manifest_of(tmp_path, DIGEST) == {"shape": "messages"}
