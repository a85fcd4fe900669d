"""Random manifests: admission and pydantic are of one opinion, and nothing is lost on the wire."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from oikyo.admission import check, with_defaults
from oikyo.api.finetunejob import FineTuneJob
from oikyo.api.modelendpoint import ModelEndpoint
from random_manifests import random_manifests

KINDS = {"FineTuneJob": FineTuneJob, "ModelEndpoint": ModelEndpoint}

# Seconds each; the wire test draws more, and asks a real API server.
_MANY = settings(max_examples=80, deadline=None, suppress_health_check=list(HealthCheck))
_SOME = settings(_MANY, max_examples=25)


@pytest.mark.parametrize("kind", KINDS)
@_MANY
@given(st.data())
def test_admission_and_pydantic_agree(kind: str, data: st.DataObject) -> None:
    manifest = data.draw(random_manifests(kind))
    found = check(manifest)
    refusal = _refusal(kind, manifest)
    if refusal is not None:
        assert found, refusal
    else:
        assert [str(violation) for violation in found if violation.rule is None] == []


def _refusal(kind: str, manifest: dict[str, Any]) -> ValidationError | None:
    """What pydantic says to the stored form of a manifest."""
    stored = json.dumps(with_defaults(manifest))
    try:
        KINDS[kind].model_validate_json(stored, strict=True)
    except ValidationError as refusal:
        return refusal
    return None


@pytest.mark.parametrize("kind", KINDS)
@_SOME
@given(st.data())
def test_nothing_is_lost_on_the_wire(kind: str, data: st.DataObject) -> None:
    manifest = data.draw(random_manifests(kind))
    assume(not check(manifest))
    model = KINDS[kind]
    read = model.model_validate(with_defaults(manifest))
    assert read == model.model_validate(manifest | {"spec": _without_null(manifest["spec"])})
    assert model.model_validate(read.wire()) == read
    again = read.wire()
    again.pop("status")
    again["metadata"] = manifest["metadata"]
    assert [str(violation) for violation in check(again)] == []


def _without_null(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_null(item) for key, item in value.items() if item is not None}
    return [_without_null(item) for item in value] if isinstance(value, list) else value
