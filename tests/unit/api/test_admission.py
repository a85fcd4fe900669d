"""The door without an API server: what it refuses, in which words, and what it fills in."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from accepted import ACCEPTED
from builders import a_manifest
from oikyo.admission import check, load, schema_of, with_defaults
from oikyo.api.finetunejob import FineTuneJob
from oikyo.errors import SpecError
from refusals import RULES, SCHEMA, Row, every_rule

KINDS = ("FineTuneJob", "ModelVersion", "ModelEndpoint")


@pytest.mark.parametrize("row", [*RULES, *SCHEMA], ids=lambda row: row.id)
def test_bad_manifest_is_refused_with_the_field_and_what_to_write(row: Row) -> None:
    found = check(row.manifest, row.old)
    assert [v.path for v in found] == [row.path], [str(v) for v in found]
    assert row.says in found[0].expected
    assert (found[0].rule is not None) == row.rule


@pytest.mark.parametrize("kind", KINDS)
def test_every_rule_has_a_row_that_only_it_refuses(kind: str) -> None:
    fired = {
        violation.rule
        for row in RULES
        if row.manifest["kind"] == kind
        for violation in check(row.manifest, row.old)
    }
    assert {rule for rule, _ in every_rule(kind)} == fired


@pytest.mark.parametrize("manifest", ACCEPTED.values(), ids=ACCEPTED)
def test_good_manifest_is_accepted(manifest: dict[str, Any]) -> None:
    assert [str(violation) for violation in check(manifest)] == []


def test_several_mistakes_are_all_named_one_a_line() -> None:
    bad = a_manifest(task="TextClass", training={"lora": {"rank": -1}, "epoch": 2})
    with pytest.raises(SpecError) as refused:
        load(_text(bad))
    assert str(refused.value).splitlines() == [
        'spec.task is "TextClass": write one of TextClassification, TextRegression, TextGeneration; '
        "did you mean TextClassification?",
        "spec.training.lora.rank is -1: write at least 1",
        "spec.training.epoch is 2: there is no such field; did you mean epochs?",
    ]


def test_missing_field_is_described() -> None:
    (found,) = check(a_manifest(data=None))
    assert str(found) == (
        "spec.data is missing: Files to learn from, which columns count, and how rows are split."
    )


def test_rule_about_a_broken_part_stays_silent() -> None:
    (found,) = check(a_manifest(training={"microBatchSize": "many"}))
    assert found.path == "spec.training.microBatchSize"


def test_unchanged_job_is_no_update() -> None:
    assert check(with_defaults(a_manifest()), a_manifest()) == []


def test_suspend_may_change_at_any_time() -> None:
    assert check(a_manifest(suspend=True), a_manifest()) == []


def test_defaults_are_filled_level_by_level() -> None:
    spec = with_defaults(a_manifest(training={"lora": {"rank": 4}}))["spec"]
    assert spec["training"]["lora"] == {
        "rank": 4, "alpha": 32, "dropout": "0.05", "variant": "Standard"
    }  # fmt: skip
    assert spec["storage"]["size"] == "20Gi"
    assert "deployment" not in spec


def test_defaults_of_the_schema_are_those_of_the_model() -> None:
    manifest = a_manifest(deployment={}, training={"earlyStopping": {}})
    stored = with_defaults(manifest)
    assert FineTuneJob.model_validate(stored) == FineTuneJob.model_validate(manifest)
    wire = FineTuneJob.model_validate(manifest).wire()
    assert _objects(stored["spec"]) == _objects(wire["spec"])


def test_no_default_stands_inside_a_list() -> None:
    sources = with_defaults(a_manifest())["spec"]["data"]["sources"]
    assert sources == [{"uri": "pvc://datasets/tickets.jsonl"}]


def test_status_in_a_manifest_is_ignored() -> None:
    assert load(_text({**a_manifest(), "status": {"phase": "Succeeded"}})).status.phase is None


def test_manifest_of_another_kind_is_named() -> None:
    with pytest.raises(SpecError, match=r'kind is "FinetuneJob": .*did you mean FineTuneJob'):
        load(_text({**a_manifest(), "kind": "FinetuneJob"}))


def test_file_without_a_job_is_refused(tmp_path: Path) -> None:
    (tmp_path / "empty.yaml").write_text("# nothing\n")
    with pytest.raises(SpecError, match="holds 0 FineTuneJobs"):
        load(tmp_path / "empty.yaml")


def test_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match=r"job\.yaml cannot be read"):
        load(tmp_path / "job.yaml")


def test_the_api_is_imported_without_the_rule_engine() -> None:
    probe = "import oikyo.api.finetunejob, oikyo.admission, sys; print('cel' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, check=True,
                          env={"PYTHONPATH": "operator"}, cwd=Path(__file__).parents[3])  # fmt: skip
    assert done.stdout.strip() == "False"


def test_schema_of_an_unknown_kind_is_refused() -> None:
    with pytest.raises(KeyError):
        schema_of("Job")


def _text(manifest: dict[str, Any]) -> str:
    return json.dumps(manifest)


def _objects(value: object) -> object:
    """Without lists and empty objects, which a schema gives no default."""
    if not isinstance(value, dict):
        return value
    full = {key: _objects(item) for key, item in value.items() if not isinstance(item, list)}
    return {key: item for key, item in full.items() if item != {}}


def test_rules_are_judged_without_the_libraries_of_a_terminal() -> None:
    code = (
        "import sys; from oikyo import admission;"
        "assert not admission._holds('self > 1', 1, None);"
        "assert admission._holds('self > 1', 2, None);"
        "print([name for name in ('prompt_toolkit', 'rich', 'cel.cli') if name in sys.modules]);"
        "import cel.cli; print(callable(cel.cli.main))"
    )
    made = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert made.stdout.splitlines() == ["[]", "True"]
