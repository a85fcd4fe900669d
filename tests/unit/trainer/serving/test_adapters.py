"""Several adapters on one copy of their base: what each answers alone, and no more memory than theirs."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from oikyo.api import workspace as layout
from oikyo_trainer.errors import Refused
from oikyo_trainer.evaluation.record import VersionRecord
from oikyo_trainer.serving.onebase import own_bytes
from unit.trainer.serving.harness import ServerProcess, released
from unit.trainer.serving.manyadapters import (
    adapter,
    base_of,
    engines,
    logits,
    model_of,
    named,
    told,
)
from unit.trainer.training.conftest import llama_base

METHODS: dict[str, dict[str, Any]] = {
    "lora": {"lora": {"rank": 4}},
    "dora": {"lora": {"rank": 4, "variant": "DoRA"}},
    "ia3": {"method": "IA3"},
    "oft": {"method": "OFT", "oft": {"block_size": 8}},
    "norms": {"method": "LayerNorm"},
    "prompt": {"method": "PromptTuning", "prompt_tuning": {"virtual_tokens": 3}},
}
TOKENS = [1, 5, 7, 9, 4]
LABELS = {"two": ("no", "yes"), "three": ("colour", "number", "sky"), "five": tuple("abcde")}


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("adapters")


@pytest.fixture(scope="module")
def writers(workspace: Path) -> dict[str, VersionRecord]:
    """Adapters by every method on one language model."""
    return {name: adapter(workspace, name, **asked) for name, asked in METHODS.items()}


@pytest.fixture(scope="module")
def together(workspace: Path, writers: dict[str, VersionRecord]) -> dict[str, Any]:
    """The engines of one server of all of them."""
    return dict(zip(writers, engines(workspace, told(*writers.values())), strict=True))


@pytest.mark.parametrize("name", METHODS)
def test_an_answer_is_bit_for_bit_that_of_a_server_of_the_adapter_alone(
    workspace: Path, writers: dict[str, VersionRecord], together: dict[str, Any], name: str
) -> None:
    (alone,) = engines(workspace, told(writers[name]))
    assert torch.equal(logits(together[name], TOKENS), logits(alone, TOKENS))
    assert together[name].context_length == alone.context_length


def test_every_adapter_answers_differently(together: dict[str, Any]) -> None:
    said = [logits(engine, TOKENS) for engine in together.values()]
    assert all(not torch.equal(a, b) for i, a in enumerate(said) for b in said[:i])


@pytest.mark.parametrize("name", METHODS)
def test_an_adapter_costs_its_own_bytes_and_the_base_stands_once(
    workspace: Path, writers: dict[str, VersionRecord], together: dict[str, Any], name: str
) -> None:
    folder = workspace / layout.version(name, writers[name].version)
    weights = load_file(folder / "adapter_model.safetensors")
    trained = sum(weight.numel() * 4 for weight in weights.values())
    others = [model_of(engine) for key, engine in together.items() if key != name]
    own = own_bytes(model_of(together[name]), others)
    # A table that a model computes for itself (rotary frequencies) comes on top; OFT keeps the places
    # of its blocks too. The vectors of a prompt stand outside the layers.
    assert own - trained <= (trained if name == "oft" else 64)
    assert own >= trained or name == "prompt"
    base = load_file(
        workspace / layout.model(base_of(workspace, "TextGeneration")) / "model.safetensors"
    )
    assert own < sum(weight.numel() * 4 for weight in base.values()) / 3


def test_equal_tokenizers_are_held_once(together: dict[str, Any]) -> None:
    assert len({id(engine.tokenizer) for engine in together.values()}) == 1


def test_classifiers_keep_their_own_heads_and_labels(workspace: Path) -> None:
    task = "TextClassification"
    methods = {"two": {}, "three": {"method": "IA3"}, "five": METHODS["prompt"]}
    records = [adapter(workspace, n, task, labels=LABELS[n], **m) for n, m in methods.items()]
    texts = ["red green", "one two three", "sun"]
    for name, record, engine in zip(
        methods, records, engines(workspace, told(*records)), strict=True
    ):
        (alone,) = engines(workspace, told(record))
        assert engine.labels == LABELS[name]
        assert engine.compute(texts) == alone.compute(texts)


@pytest.fixture(scope="module")
def server(workspace: Path, writers: dict[str, VersionRecord]) -> Iterator[ServerProcess]:
    beside = [named(writers["ia3"]), named(writers["prompt"], "asked")]
    process = ServerProcess(
        workspace, writers["lora"], adapters=beside, max_concurrency=64
    ).wait_ready()
    yield process
    process.stop()


def complete(server: ServerProcess, model: str, prompt: str = "red green ") -> str:
    asked = {"model": model, "prompt": prompt, "max_tokens": 8, "temperature": 0}
    answer = server.client.post("/v1/completions", json=asked)
    assert answer.status_code == 200, answer.text
    assert answer.json()["model"] == model.partition(":")[0]
    return str(answer.json()["choices"][0]["text"])


def test_requests_under_way_at_once_do_not_mix(server: ServerProcess) -> None:
    asked = [(m, p) for m in ("lora", "ia3", "asked:1") for p in ("red ", "one two ", "sun moon ")]
    alone = [complete(server, *one) for one in asked]
    assert len(set(alone)) > 3
    with ThreadPoolExecutor(12) as pool:
        among = list(pool.map(lambda one: complete(server, *one), asked * 3))
    assert among == alone * 3


def test_the_models_are_listed_with_their_base(server: ServerProcess) -> None:
    data = server.client.get("/v1/models").json()["data"]
    assert [(one["id"], one["version"], one["parent"]) for one in data] == [
        (name, 1, "hf://org/base") for name in ("lora", "ia3", "asked")
    ]
    assert len({one["digest"] for one in data}) == 3


@pytest.mark.parametrize("model", ["prompt", "lora:2", "nobody"])
def test_an_unknown_name_is_told_the_names_there_are(server: ServerProcess, model: str) -> None:
    answer = server.client.post("/v1/completions", json={"model": model, "prompt": "red"})
    assert answer.status_code == 404
    error = answer.json()["error"]
    assert error["message"] == "the models are called lora, ia3, asked; see /v1/models"
    assert error["code"] == "model_not_found"


def test_the_series_say_which_model(server: ServerProcess) -> None:
    series, route = "oikyo_server_requests_total", "/v1/completions"
    before = {m: server.metric(series, model=m, route=route, code="200") for m in ("ia3", "lora")}
    complete(server, "ia3")
    after = {m: server.metric(series, model=m, route=route, code="200") for m in ("ia3", "lora")}
    assert after == {"ia3": before["ia3"] + 1, "lora": before["lora"]}
    assert server.metric("oikyo_server_model_info", model="asked", version="1") == 1
    assert server.metric("oikyo_server_ready") == 3
    assert server.metric("oikyo_server_generated_tokens_total", model="ia3") > 0


@pytest.mark.parametrize(
    ("reason", "words"),
    [
        ("NotAnAdapter", "whole version 1 is a whole model"),
        ("AdapterDiffers", "stranger version 1 was trained from another base"),
        ("VersionRejected", "failed version 1 did not pass its gates"),
        ("VersionMismatch", "not classes version 1 (TextGeneration)"),
        ("VersionMissing", "no folder versions/gone/1"),
    ],
)
def test_a_version_that_cannot_stand_beside_is_refused(
    workspace: Path, writers: dict[str, VersionRecord], reason: str, words: str
) -> None:
    first = writers["lora"]
    if reason == "NotAnAdapter":
        folder = workspace / layout.model(llama_base(workspace))
        other = released(workspace, folder, "TextGeneration", name="whole")
    elif reason == "AdapterDiffers":
        other = adapter(workspace, "stranger", digest=llama_base(workspace, tied=False))
    elif reason == "VersionRejected":
        other = adapter(workspace, "failed", verdict="Rejected")
    elif reason == "VersionMismatch":
        other = adapter(workspace, "classes", "TextClassification", labels=LABELS["two"])
    else:
        other = first.model_copy(update={"model": "gone"})
    with pytest.raises(Refused) as no:
        engines(workspace, told(first, other))
    assert no.value.reason == reason
    assert words in no.value.message
    assert no.value.next_step
