"""Tiny real models, tokenizers and datasets in a workspace, made on the spot."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from oikyo.api import workspace as layout
from oikyo.api.stages import TrainResult, TrainSpec
from oikyo.api.training import TrainingSpec
from oikyo_trainer.context import Context
from oikyo_trainer.numbers import scale_of
from oikyo_trainer.progress import Reporter

WORDS = ("red", "green", "blue", "one", "two", "three", "sun", "moon", "star")
LABELS = ("colour", "number", "sky")


def digest(name: str) -> str:
    return "sha256:" + hashlib.sha256(name.encode()).hexdigest()


def tokenizer(folder: Path, *, bert: bool) -> Any:
    """A word-level tokenizer over WORDS."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    vocabulary = {name: i for i, name in enumerate(("<pad>", "<s>", "</s>", "<unk>", *WORDS))}
    made = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    made.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    if bert:
        made.post_processor = processors.TemplateProcessing(
            single="<s> $A </s>", special_tokens=[("<s>", 1), ("</s>", 2)]
        )
    wrapped = PreTrainedTokenizerFast(
        tokenizer_object=made,
        pad_token="<pad>",
        bos_token="<s>",
        eos_token="</s>",
        unk_token="<unk>",
        cls_token="<s>",
        sep_token="</s>",
        model_max_length=32,
    )
    wrapped.save_pretrained(folder)
    return wrapped


def bert_base(workspace: Path) -> str:
    """A random BERT encoder with dropout; returns its digest."""
    import torch
    from transformers import BertConfig, BertModel

    folder = workspace / layout.model(digest("bert"))
    if folder.exists():
        return digest("bert")
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=4 + len(WORDS),
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        max_position_embeddings=32,
        initializer_range=0.2,
        pad_token_id=0,
    )
    BertModel(config).save_pretrained(folder)
    tokenizer(folder, bert=True)
    return digest("bert")


def llama_base(workspace: Path, *, tied: bool = True) -> str:
    """A random causal model with attention dropout; returns its digest."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    name = f"llama-{tied}"
    folder = workspace / layout.model(digest(name))
    if folder.exists():
        return digest(name)
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=4 + len(WORDS),
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        intermediate_size=64,
        max_position_embeddings=32,
        initializer_range=0.2,
        tie_word_embeddings=tied,
        attention_dropout=0.1,
        bos_token_id=1,
        eos_token_id=2,
        pad_token_id=0,
    )
    LlamaForCausalLM(config).save_pretrained(folder)
    tokenizer(folder, bert=False)
    return digest(name)


def write_dataset(
    workspace: Path, name: str, shape: str, rows: list[dict[str, Any]], *, validation: int = 16
) -> str:
    """Put `rows` into the workspace as prepare does, the first `validation` ones held out."""
    folder = workspace / layout.dataset(digest(name))
    folder.mkdir(parents=True)
    for split, part in (("validation", rows[:validation]), ("train", rows[validation:])):
        schema = None if part else pa.Table.from_pylist(rows).schema
        pq.write_table(pa.Table.from_pylist(part, schema=schema), folder / f"{split}.parquet")
    manifest: dict[str, Any] = {"shape": shape, "labels": []}
    if shape == "classification":
        manifest["labels"] = list(LABELS)
    if shape == "regression":
        manifest["scale"] = asdict(scale_of(np.array([row["label"] for row in rows[validation:]])))
    (folder / layout.MANIFEST).write_text(json.dumps(manifest))
    return digest(name)


def classification_rows(number: int) -> list[dict[str, Any]]:
    """Three words of one kind; the kind is the label."""
    rows = []
    for row in range(number):
        kind = row % 3
        words = [
            WORDS[3 * kind + (row // 3 * 7 + i * (1 + row % 2)) % 3] for i in range(1 + row % 4)
        ]
        rows.append({"text": " ".join(words), "label": LABELS[kind]})
    return rows


def pair_rows(number: int) -> list[dict[str, Any]]:
    """The completion is the word after the prompt's word in WORDS."""
    rows = []
    for row in range(number):
        first = row % len(WORDS)
        answer = " ".join(WORDS[(first + i + 1) % len(WORDS)] for i in range(1 + row % 3))
        rows.append({"prompt": WORDS[first] + " ", "completion": answer + " "})
    return rows


def number_rows(number: int) -> list[dict[str, Any]]:
    """One to four words; the number is the sum of their places in WORDS."""
    rows = []
    for row in range(number):
        places = [(row * 5 + i * (2 + row % 3)) % len(WORDS) for i in range(1 + row % 4)]
        text = " ".join(WORDS[place] for place in places)
        rows.append({"text": text, "label": float(sum(places))})
    return rows


DATA: dict[str, tuple[str, str, Any, Any]] = {
    "TextClassification": ("classes", "classification", classification_rows, bert_base),
    "TextRegression": ("numbers", "regression", number_rows, bert_base),
    "TextGeneration": ("pairs", "prompt-completion", pair_rows, llama_base),
}
"""For each task the name, shape and maker of its tiny rows, and the maker of its base."""


class Lab:
    """One workspace, and trainings in it."""

    def __init__(self, workspace: Path) -> None:
        self.workspace = workspace

    def spec(
        self,
        task: str,
        *,
        run: str = "run-1",
        attempt: int = 1,
        base: Callable[[Path], str] | None = None,
        **training: Any,
    ) -> TrainSpec:
        """A training of the task on tiny data; the data and base are made when they are missing."""
        name, shape, rows, usual = DATA[task]
        if not (self.workspace / layout.dataset(digest(name))).exists():
            write_dataset(self.workspace, name, shape, rows(112))
        settings = {"precision": "Float32", "max_length": 16, "batch_size": 8, **training}
        return TrainSpec(
            run=run,
            attempt=attempt,
            task=task,
            dataset_digest=digest(name),
            model_digest=(base or usual)(self.workspace),
            training=TrainingSpec(**settings),
        )

    def tokenised(self, spec: TrainSpec) -> TrainSpec:
        """The spec with the digest of its rows' tokens, made by what the prepare stage calls."""
        from oikyo_trainer.data.tokenise import Request, tokenise

        asked = Request(spec.task, spec.dataset_digest, spec.model_digest, spec.training)
        staging = self.workspace / f".staging-{spec.run}"
        tokens = tokenise(self.workspace, asked, staging, lambda _: None)
        return spec.model_copy(update={"tokens_digest": tokens.digest})

    def context(self, spec: TrainSpec) -> Context:
        return Context(self.workspace, Reporter("train", spec.attempt, spec.run))

    def train(self, spec: TrainSpec) -> TrainResult:
        from oikyo_trainer.training.train import train

        return train(self.tokenised(spec), self.context(spec))

    def weights(self, result: TrainResult) -> dict[str, Any]:
        from safetensors.torch import load_file

        (file,) = (self.workspace / result.model_path).glob("*.safetensors")
        return load_file(file)


@pytest.fixture
def lab(tmp_path: Path) -> Lab:
    return Lab(tmp_path)


def metrics(result: TrainResult) -> dict[str, float]:
    return {metric.name: float(metric.value) for metric in result.metrics}
