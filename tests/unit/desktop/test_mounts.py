"""What URIs mean on a desktop, and the sentence for each thing that is not there."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from oikyo.desktop.home import Home
from oikyo.desktop.mounts import missing, mounts_of, parse_folders
from oikyo.errors import SpecError
from scenes import job


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path / ".oikyo")


def told(home: Home, tmp_path: Path, base: str, **claims: Path) -> tuple[str, ...]:
    spec: dict[str, Any] = {"model": {"base": base}, "data": {"sources": [{"uri": "file://a.csv"}]}}
    (tmp_path / "a.csv").touch()
    return missing(job(**spec), mounts_of(home, tmp_path, claims, {}), home)


def test_a_relative_file_is_looked_for_beside_the_manifest(home: Home, tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    assert told(home, tmp_path, "file://model") == ()


def test_a_claim_lies_where_the_option_says_or_in_the_home(home: Home, tmp_path: Path) -> None:
    (tmp_path / "elsewhere/model").mkdir(parents=True)
    (home.claims / "models/model").mkdir(parents=True)
    assert told(home, tmp_path, "pvc://models/model") == ()
    assert told(home, tmp_path, "pvc://mine/model", mine=tmp_path / "elsewhere") == ()


@pytest.mark.parametrize(
    ("base", "sentence"),
    [
        ("file://model", "check the path"),
        ("pvc://models/minilm", "say which folder it is with --claim models=FOLDER"),
        ("version://tickets/3", "there is no version 3 of model tickets"),
        ("version://tickets", "write version://<model>/<number>"),
    ],
)
def test_what_is_missing_is_named_with_the_next_step(
    home: Home, tmp_path: Path, base: str, sentence: str
) -> None:
    (only,) = told(home, tmp_path, base)
    assert base in only
    assert sentence in only


def test_a_configmap_is_a_folder_with_a_file_for_each_key(home: Home, tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    spec: dict[str, Any] = {
        "model": {"base": "file://model"},
        "data": {"sources": [{"uri": "configmap://tiny/rows.csv"}]},
    }
    (sentence,) = missing(job(**spec), mounts_of(home, tmp_path, {}, {}), home)
    assert "spec.data.sources[0].uri is configmap://tiny/rows.csv" in sentence
    assert "--configmap tiny=FOLDER" in sentence
    (tmp_path / "model/rows.csv").touch()
    named = mounts_of(home, tmp_path, {}, {"tiny": tmp_path / "model"})
    assert missing(job(**spec), named, home) == ()


def test_a_hub_model_is_not_looked_for_here(home: Home, tmp_path: Path) -> None:
    assert told(home, tmp_path, "hf://org/name@main") == ()


def test_a_secret_is_a_file_or_the_environment(
    home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("HF_TOKEN", raising=False)
    (tmp_path / "a.csv").touch()
    spec: dict[str, Any] = {
        "model": {"base": "hf://org/name", "secretName": "hub"},
        "data": {"sources": [{"uri": "file://a.csv"}]},
    }
    mounts = mounts_of(home, tmp_path, {}, {})
    (sentence,) = missing(job(**spec), mounts, home)
    assert "spec.model.secretName is hub" in sentence
    home.token("hub").parent.mkdir(parents=True)
    home.token("hub").write_text("x", encoding="utf-8")
    assert missing(job(**spec), mounts, home) == ()


def test_the_secret_of_a_bucket_is_a_folder_or_the_environment(
    home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID", raising=False)
    (tmp_path / "model").mkdir()
    spec: dict[str, Any] = {
        "model": {"base": "file://model"},
        "data": {"sources": [{"uri": "s3://tickets/rows.jsonl", "secretName": "reader"}]},
    }
    mounts = mounts_of(home, tmp_path, {}, {})
    (sentence,) = missing(job(**spec), mounts, home)
    assert "secretName is reader" in sentence
    assert str(home.secrets / "reader") in sentence
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "x")
    assert missing(job(**spec), mounts, home) == ()
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    (home.secrets / "reader").mkdir(parents=True)
    assert missing(job(**spec), mounts, home) == ()


@pytest.mark.parametrize("pair", ["models", "=folder", "models=", "models=/no/such/folder"])
def test_an_option_that_names_no_folder_is_refused(pair: str) -> None:
    with pytest.raises(SpecError, match="--claim"):
        parse_folders([pair], "--claim")
