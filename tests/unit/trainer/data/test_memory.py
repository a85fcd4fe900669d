"""The memory of the training is planned with the data: refused early, told in what was chosen."""

from __future__ import annotations

import json
import shutil

import pytest
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import WhitespaceSplit
from transformers import PreTrainedTokenizerFast

from oikyo.api import workspace as layout
from oikyo.api.training import TrainingSpec
from oikyo_trainer.errors import Refused
from unit.trainer.data.conftest import Desk

ROWS = [
    {"text": f"where is my card {number}", "label": "card" if number % 2 else "cash"}
    for number in range(80)
]


SIZES = {
    "hidden_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 128,
    "vocab_size": 500,
}


@pytest.fixture
def desk(desk: Desk) -> Desk:
    """A desk whose base model says how large it is, with a tokenizer to train with."""
    path = desk.model / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | SIZES))
    words = Tokenizer(WordLevel({"<unk>": 0, "<pad>": 1, "card": 2}, unk_token="<unk>"))
    words.pre_tokenizer = WhitespaceSplit()
    PreTrainedTokenizerFast(
        tokenizer_object=words, unk_token="<unk>", pad_token="<pad>"
    ).save_pretrained(desk.model)
    return desk


def training(memory: str | None, **more: object) -> TrainingSpec:
    return TrainingSpec.model_validate({"resources": {"memory": memory}, **more})


def test_the_plan_is_part_of_the_result_with_its_reasons(desk: Desk) -> None:
    result = desk.prepare(desk.rows("rows.jsonl", ROWS), training=training("4Gi"))
    assert result.memory is not None
    assert (result.memory.micro_batch_size, result.memory.gradient_checkpointing) == (32, False)
    assert 4 <= result.memory.longest <= 32
    chosen = {choice.name: choice for choice in result.resolved}
    assert chosen["training.microBatchSize"].value == "32"
    assert "predicted of 4.00 GiB" in chosen["training.microBatchSize"].reason
    assert chosen["training.gradientCheckpointing"].value == "Off"


def test_a_training_that_cannot_fit_is_refused_before_anything_is_kept(desk: Desk) -> None:
    with pytest.raises(Refused, match="needs") as refused:
        desk.prepare(desk.rows("rows.jsonl", ROWS), training=training("64Mi", method="Full"))
    assert refused.value.reason == "MemoryTooSmall"
    assert "write training.resources.memory: " in refused.value.next_step
    assert not (desk.workspace / "models").exists()


def test_a_version_and_tokens_that_were_deleted_are_made_again(desk: Desk) -> None:
    path = desk.rows("rows.jsonl", ROWS)
    first = desk.prepare(path, training=training(None))
    assert first.tokens_digest is not None
    tokens = desk.workspace / layout.tokens(first.tokens_digest)
    dataset = desk.workspace / layout.dataset(first.dataset_digest)
    assert json.loads((tokens / layout.MANIFEST).read_text())["dataset"] == first.dataset_digest
    before = {file.name: file.read_bytes() for file in (*tokens.iterdir(), *dataset.iterdir())}
    for folder in ("tokens", "datasets", "models"):
        shutil.rmtree(desk.workspace / folder)
    again = desk.prepare(path, training=training(None))
    assert (again.tokens_digest, again.dataset_digest) == (
        first.tokens_digest,
        first.dataset_digest,
    )
    assert {f.name: f.read_bytes() for f in (*tokens.iterdir(), *dataset.iterdir())} == before


def test_the_rows_are_tokens_before_a_gpu_is_asked_for(desk: Desk) -> None:
    rows = [{**row, "text": f"card {row['text']}"} for row in ROWS]
    rows[3]["text"] += " and more words than the ten that are taken"
    path = desk.rows("rows.jsonl", rows)
    result = desk.prepare(path, training=training(None, max_length=10), max_length=10)
    assert result.tokens_digest is not None
    folder = desk.workspace / layout.tokens(result.tokens_digest)
    facts = json.loads((folder / layout.MANIFEST).read_text())
    assert facts["splits"]["train"]["rows"] == result.train
    chosen = {choice.name: choice.reason for choice in result.resolved}
    assert chosen["training.truncation"] in (
        f"1 of {result.train + result.validation} rows have more than 10 tokens and lose their end",
        "no row has more than 10 tokens",
    )
    stage = desk.workspace / layout.stage("job-00000000", "prepare")
    assert json.loads((stage / "report.json").read_text())["tokens"]["digest"] == facts["digest"]


def test_without_a_training_there_are_no_tokens(desk: Desk) -> None:
    assert desk.prepare(desk.rows("rows.jsonl", ROWS)).tokens_digest is None
    assert not (desk.workspace / "tokens").exists()


def test_a_tokenizer_that_training_could_not_use_is_refused_first(desk: Desk) -> None:
    (desk.model / "tokenizer_config.json").write_text(
        '{"tokenizer_class": "PreTrainedTokenizerFast", "unk_token": null}'
    )
    path = desk.rows("rows.jsonl", ROWS)
    with pytest.raises(Refused, match="no pad, end or unknown token"):
        desk.prepare(path, training=training(None))


def test_rows_whose_start_is_cut_keep_their_answer(desk: Desk) -> None:
    rows = [{"prompt": "card " * 40 + str(n), "completion": f"yes {n}"} for n in range(60)]
    path = desk.rows("rows.jsonl", rows)
    spec = {"task": "TextGeneration", "max_length": 32}
    with pytest.raises(Refused, match="answer-cut-off"):
        desk.prepare(path, **spec, training=training(None, max_length=32))
    with pytest.raises(Refused, match="no end token"):  # the words here have none
        desk.prepare(path, **spec, training=training(None, max_length=32, truncation="Start"))


def test_other_training_settings_are_another_plan(desk: Desk) -> None:
    path = desk.rows("rows.jsonl", ROWS)
    one, other = (desk.spec(path, training=training(memory)) for memory in ("4Gi", "8Gi"))
    assert one.input_digest() != other.input_digest()


def test_a_result_that_its_server_could_not_hold_is_refused_before_it_is_trained(
    desk: Desk,
) -> None:
    path = desk.rows("rows.jsonl", ROWS)
    with pytest.raises(Refused, match=r"deployment\.resources\.memory is 64Mi") as refused:
        desk.prepare(path, training=training(None), serving_memory="64Mi")
    enough = refused.value.next_step.split()[9]
    assert desk.prepare(path, training=training(None), serving_memory=enough).memory is not None
