"""The rows of a version as tokens for one model: made once, before a GPU is asked for.

Called by the prepare stage. tokens/<key>/ in the workspace holds the files of `training.tokenfiles` and
a manifest with their hashes; the key is a digest over all that the tokens depend on, so that every rank,
trial and retry, and every job with the same inputs, maps the same bytes.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.metadata
import json
import logging
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from oikyo.api import workspace as layout
from oikyo.api.jobstatus import Resolved
from oikyo.api.tasks import Task
from oikyo.api.training import TrainingSpec

from ..errors import Refused
from ..evaluation.cut import Reading
from ..evaluation.opening import read_sizes
from ..files import file_digest, write_atomic
from ..training.tokenizer import open_tokenizer
from .proven import Proven
from .quick import Differs
from .tables import SPLITS, Stored, Tables
from .tokenrows import Counted, Tell, Writer, is_rendered
from .version import Facts, describe, is_whole, pretty, replace_folder

log = logging.getLogger("oikyo.data")

FORMAT = 4
"""Number of the encoding; part of the key, so that a change never meets old tokens."""
WEIGHTS = (".safetensors", ".index.json")
OTHERS = frozenset({"config.json", "generation_config.json", "README.md", layout.MANIFEST})
"""Files of a model that say nothing about its tokenizer; of config.json the kind of model does."""
FEWEST_TOKENS = 8
"""Of a row beside learned vectors, as training.maxLength is at least."""
TEXTS = {"End": "lose their end", "Start": "lose their start", "Middle": "lose their middle"}


@dataclass(frozen=True)
class Request:
    """What is to become tokens, of what model, and how."""

    task: Task
    dataset_digest: str
    model_digest: str
    training: TrainingSpec


@dataclass(frozen=True)
class Tokens:
    """The tokens of a version, in the workspace."""

    digest: str
    max_length: int
    truncation: str
    splits: dict[str, Counted] = field(default_factory=dict)

    def report(self) -> dict[str, Any]:
        """For report.json."""
        return {
            "digest": self.digest,
            "max_length": self.max_length,
            "truncation": self.truncation,
            "splits": {name: asdict(counted) for name, counted in self.splits.items()},
        }

    def resolved(self) -> Resolved:
        """How many rows the limit concerns, as the status tells it."""
        cut = sum(one.too_long for one in self.splits.values())
        rows = sum(one.rows for one in self.splits.values())
        if not cut:
            reason = f"no row has more than {self.max_length} tokens"
        elif self.truncation == "Drop":
            reason = f"{cut} rows of more than {self.max_length} tokens are left out, {rows} stay"
        else:
            reason = (
                f"{cut} of {rows} rows have more than {self.max_length} tokens and "
                f"{TEXTS[self.truncation]}"
            )
        return Resolved(name="training.truncation", value=self.truncation, reason=reason)


def tokenise(
    workspace: Path, asked: Request, staging: Path, tell: Tell, passing: Tables | None = None
) -> Tokens:
    """The tokens of the splits that are trained on, made unless the same ones are there.

    `passing` are the tables of a version that is being written.
    """
    tables = passing or Stored(workspace / layout.dataset(asked.dataset_digest))
    model = workspace / layout.model(asked.model_digest)
    sizes = read_sizes(model)
    rendered = is_rendered(tables.shape)
    tokenizer = open_tokenizer(
        model, sizes.vocabulary, asked.model_digest, asked.task, chat=rendered
    )
    room = room_for_rows(sizes.context(tokenizer), asked.training.virtual_tokens)
    reading = Reading.of(asked.training, room)
    digest = key(asked, reading, model)
    target = workspace / layout.tokens(digest)
    if is_whole(target):
        log.info("tokens %s are there already", digest)
        told = json.loads((target / layout.MANIFEST).read_bytes())["splits"]
        return _tokens(digest, reading, {name: Counted(**one) for name, one in told.items()})
    encoder = Proven(tokenizer)
    staging.mkdir(parents=True)
    splits, facts = write(tables, encoder, reading, sizes.vocabulary, staging, tell)
    manifest = {
        "format": FORMAT,
        "digest": digest,
        "dataset": asked.dataset_digest,
        **asdict(reading),
        "splits": {name: asdict(counted) for name, counted in splits.items()},
        "files": describe(staging, facts),
    }
    write_atomic(staging / layout.MANIFEST, pretty(manifest))
    replace_folder(staging, target)
    return _tokens(digest, reading, splits)


def room_for_rows(context: int, vectors: int) -> int:
    """Tokens of the base model's `context` that PromptTuning's `vectors` leave to a row."""
    if vectors and context - vectors < FEWEST_TOKENS:
        raise Refused(
            "NoRoomForRows",
            f"training.promptTuning.virtualTokens is {vectors}, and the base model takes {context} tokens: "
            f"a row needs at least {FEWEST_TOKENS} of them",
            next_step=f"Write virtualTokens: {max(1, min(20, context - FEWEST_TOKENS))}, or less.",
        )
    return context - vectors


def write(
    tables: Tables, encoder: Proven, reading: Reading, vocabulary: int, folder: Path, tell: Tell
) -> tuple[dict[str, Counted], Facts]:
    """Write the splits of a version to `folder`; with what is known of the files.

    `vocabulary`: how many tokens the model embeds.
    """
    for _ in range(2):  # from the second time on the encoder is one that cannot differ
        writer = Writer(tables, encoder, reading, vocabulary, tell)
        with contextlib.suppress(Differs):  # it has told so
            return {split: writer.write(folder, split) for split in SPLITS}, writer.facts
        tables = tables.stored()
    raise AssertionError("tokenizers differs from itself")


def _tokens(digest: str, reading: Reading, splits: dict[str, Counted]) -> Tokens:
    log.info(
        "tokens %s: %s",
        digest,
        ", ".join(f"{one.tokens} in {one.rows} rows of {name}" for name, one in splits.items()),
    )
    return Tokens(digest, reading.max_length, reading.truncation, splits)


def key(asked: Request, reading: Reading, model: Path) -> str:
    """Digest over all that the tokens depend on."""
    parts = {
        "format": FORMAT,
        "task": asked.task,
        "dataset": asked.dataset_digest,
        "tokenizer": _tokenizer_digest(model),
        "libraries": [importlib.metadata.version(n) for n in ("tokenizers", "transformers")],
        **asdict(reading),
    }
    return "sha256:" + hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def _tokenizer_digest(model: Path) -> str:
    """Over the files of the tokenizer and its chat template, and the kind of model."""
    config = json.loads((model / "config.json").read_bytes())
    digest = hashlib.sha256(str(config.get("model_type")).encode())
    for path in sorted(p for p in model.rglob("*") if p.is_file()):
        name = path.relative_to(model).as_posix()
        if name not in OTHERS and not name.endswith(WEIGHTS):
            digest.update(f"\n{name} {file_digest(path)}".encode())
    return digest.hexdigest()
