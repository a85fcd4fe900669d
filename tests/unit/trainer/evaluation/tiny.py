"""Tiny real models, datasets and a workspace in which a run has been trained. Also the server's tests use it."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import (
    BertConfig,
    BertForSequenceClassification,
    BertModel,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
)

from oikyo.api import workspace as layout
from oikyo.api.jobstatus import Resolved
from oikyo.api.stages import EvaluateSpec, LastWords, TrainResult
from oikyo.api.training import TrainingSpec
from oikyo_trainer.context import Context
from oikyo_trainer.numbers import Scale, put_in, scale_of
from oikyo_trainer.progress import Reporter

LABELS = ("animal", "fruit", "tool")
WORDS = {
    "animal": ("cat", "dog", "horse", "mouse", "tiger"),
    "fruit": ("apple", "pear", "plum", "grape", "lemon"),
    "tool": ("hammer", "saw", "drill", "wrench", "chisel"),
}
CHAT = (
    "{% for m in messages %}<{{ m['role'] }}>{{ m['content'] }}</s>{% endfor %}"
    "{% if add_generation_prompt %}<assistant>{% endif %}"
)


def tokenizer(*, chat: bool = False) -> PreTrainedTokenizerFast:
    """A byte-level BPE tokenizer, trained here, that knows every text."""
    raw = Tokenizer(models.BPE())
    raw.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    raw.decoder = decoders.ByteLevel()
    special = ["<pad>", "<s>", "</s>", "<user>", "<assistant>", "<system>"]
    raw.train_from_iterator(
        [f"the {word} is an {label}" for label in LABELS for word in WORDS[label]],
        trainers.BpeTrainer(
            vocab_size=400,
            special_tokens=special,
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        ),
    )
    made = PreTrainedTokenizerFast(
        tokenizer_object=raw, pad_token="<pad>", bos_token="<s>", eos_token="</s>"
    )
    made.model_max_length = 128
    if chat:
        made.chat_template = CHAT
    return made


def save_causal(folder: Path, *, seed: int = 0, chat: bool = False, bias: float = 0.0) -> None:
    """A tiny Llama; `bias` makes the end token likelier."""
    torch.manual_seed(seed)
    words = tokenizer(chat=chat)
    model = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=len(words),
            hidden_size=32,
            intermediate_size=64,
            num_hidden_layers=2,
            num_attention_heads=4,
            num_key_value_heads=2,
            max_position_embeddings=128,
            bos_token_id=1,
            eos_token_id=2,
            pad_token_id=0,
            tie_word_embeddings=False,
        )
    )
    with torch.no_grad():
        model.lm_head.weight[2] += bias
    model.save_pretrained(folder)
    words.save_pretrained(folder)


def bert_config(**changes: Any) -> BertConfig:
    return BertConfig(
        vocab_size=len(tokenizer()),
        hidden_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=64,
        max_position_embeddings=128,
        pad_token_id=0,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
        initializer_range=0.2,
        **changes,
    )


def save_encoder(folder: Path) -> None:
    torch.manual_seed(1)
    BertModel(bert_config()).save_pretrained(folder)
    tokenizer().save_pretrained(folder)


def save_classifier(folder: Path, labels: tuple[str, ...] = LABELS, *, steps: int = 60) -> None:
    """A tiny classifier, really trained on the words (`steps` of 0: not at all)."""
    torch.manual_seed(2)
    names = {
        "id2label": dict(enumerate(labels)),
        "label2id": {label: index for index, label in enumerate(labels)},
    }
    model, words = BertForSequenceClassification(bert_config(**names)), tokenizer()
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    rows = classification_rows("train")
    inputs = words.pad(
        {"input_ids": words([row["text"] for row in rows])["input_ids"]}, return_tensors="pt"
    )
    truth = torch.tensor([labels.index(row["label"]) for row in rows]) if steps else None
    for _ in range(steps):
        model(**inputs, labels=truth).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    model.save_pretrained(folder)
    words.save_pretrained(folder)


def save_regressor(folder: Path, scale: Scale, *, bias: float = 0.0) -> None:
    """A tiny model that says numbers, untrained; `bias` standard deviations are added to each."""
    torch.manual_seed(2)
    model = BertForSequenceClassification(
        bert_config(id2label={0: "number"}, label2id={"number": 0}, problem_type="regression")
    )
    with torch.no_grad():
        model.classifier.bias += bias
    put_in(model.config, scale)
    model.save_pretrained(folder)
    tokenizer().save_pretrained(folder)


def number_rows(split: str) -> list[dict[str, Any]]:
    """The place of the word that a text is about."""
    places = {word: float(place) for place, word in enumerate(sum(WORDS.values(), ()))}
    texts = [row["text"] for row in classification_rows(split)]
    return [
        {"text": t, "label": next(n for w, n in places.items() if w in t.split())} for t in texts
    ]


def classification_rows(split: str) -> list[dict[str, Any]]:
    frames = {
        "train": ("the {}", "a {} here", "one {} and more of the same"),
        "validation": ("my {}",),
        "test": ("some {}", "it is a {} indeed"),
    }[split]
    return [
        {"text": frame.format(word), "label": label}
        for frame in frames
        for label in LABELS
        for word in WORDS[label]
    ]


def pair_rows(split: str) -> list[dict[str, Any]]:
    return [
        {"prompt": f"{row['text']} is a", "completion": f" {row['label']}"}
        for row in classification_rows(split)
    ]


def chat_rows(split: str) -> list[dict[str, Any]]:
    return [
        {
            "messages": [
                {"role": "user", "content": row["text"]},
                {"role": "assistant", "content": row["label"]},
            ]
        }
        for row in classification_rows(split)
    ]


def text_rows(split: str) -> list[dict[str, Any]]:
    return [{"text": f"{row['text']} is a {row['label']}"} for row in classification_rows(split)]


ROWS = {
    "text": text_rows,
    "classification": classification_rows,
    "regression": number_rows,
    "prompt-completion": pair_rows,
    "messages": chat_rows,
}


def write_dataset(workspace: Path, shape: str) -> str:
    digest = "sha256:" + hashlib.sha256(shape.encode()).hexdigest()
    folder = workspace / layout.dataset(digest)
    folder.mkdir(parents=True)
    for split in ("train", "validation", "test"):
        pq.write_table(pa.Table.from_pylist(ROWS[shape](split)), folder / f"{split}.parquet")
    labels = list(LABELS) if shape == "classification" else []
    manifest: dict[str, Any] = {"shape": shape, "labels": labels}
    if shape == "regression":
        numbers = np.array([row["label"] for row in number_rows("train")])
        manifest["scale"] = asdict(scale_of(numbers))
    (folder / layout.MANIFEST).write_text(json.dumps(manifest))
    return digest


class Bench:
    """A workspace with one dataset, one base model and one trained run."""

    def __init__(self, workspace: Path, shape: str) -> None:
        self.workspace = workspace
        self.shape = shape
        self.dataset = write_dataset(workspace, shape)
        self.base = workspace / layout.model("sha256:" + "b" * 64)
        self.tuned = workspace / layout.stage("job-12345678", "train") / "model"
        words = LastWords(
            stage="train",
            result=TrainResult(
                steps=9,
                total_steps=9,
                best_step=6,
                model_path=self.tuned.relative_to(workspace).as_posix(),
                resolved=(Resolved(name="training.learningRate", value="0.0002"),),
            ),
        )
        self.tuned.mkdir(parents=True)
        (self.tuned.parent / layout.RESULT).write_text(words.json_line())

    def spec(self, **changes: Any) -> EvaluateSpec:
        fields: dict[str, Any] = {
            "run": "job-12345678",
            "task": "TextClassification" if self.shape == "classification" else "TextGeneration",
            "job": "job",
            "job_uid": "12345678-uid",
            "dataset_digest": self.dataset,
            "model_digest": "sha256:" + "b" * 64,
            "base_uri": "hf://org/base@main",
            "model_name": "words",
            "training": TrainingSpec(max_length=64),
            "evaluation": {"max_new_tokens": 6},
            "image": "registry.example/trainer@sha256:0",
        }
        return EvaluateSpec.model_validate(fields | changes)

    @property
    def context(self) -> Context:
        return Context(workspace=self.workspace, reporter=Reporter("evaluate", 1, "job-12345678"))
