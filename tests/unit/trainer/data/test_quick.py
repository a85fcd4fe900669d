"""gigatoken's tokens are those of tokenizers, or it is not used; and what is written is the same."""

from __future__ import annotations

import json
import logging
import random
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pytest
from gigatoken import Tokenizer as Gigatoken
from tokenizers import (
    AddedToken,
    Regex,
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    processors,
    trainers,
)
from transformers import PreTrainedTokenizerFast

from oikyo_trainer.data import proven, quick
from oikyo_trainer.data.proven import Proven
from oikyo_trainer.data.quick import PROBES, Differs, Quick, open_quick
from oikyo_trainer.data.tables import Stored
from oikyo_trainer.data.tokenrows import Writer
from oikyo_trainer.data.version import describe
from oikyo_trainer.evaluation.cut import Reading
from oikyo_trainer.evaluation.encoder import Encoder
from oikyo_trainer.evaluation.ragged import Ragged
from unit.trainer.training.conftest import write_dataset

LLAMA = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}|"
    r" ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
QWEN = LLAMA.replace("{1,3}", "")
CHAT = (
    "{% for m in messages %}<{{ m.role }}>{{ m.content }}</s>{% endfor %}"
    "{% if add_generation_prompt %}<assistant>{% endif %}"
)


def split(pattern: str) -> Any:
    return pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(pattern), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )


def made(pre: Any, *, seed: int = 1, normal: Any = None, **model: Any) -> Tokenizer:
    raw = Tokenizer(models.BPE(**model))
    raw.pre_tokenizer, raw.decoder = pre, decoders.ByteLevel()
    if normal is not None:
        raw.normalizer = normal
    trainer = trainers.BpeTrainer(
        vocab_size=600, special_tokens=["<pad>", "<s>", "</s>", "<user>", "<assistant>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False,
    )  # fmt: skip
    raw.train_from_iterator(texts(300, seed), trainer)
    return raw


def framed() -> Tokenizer:
    raw = made(pre_tokenizers.ByteLevel(add_prefix_space=False))
    raw.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", special_tokens=[("<s>", 1), ("</s>", 2)]
    )
    return raw


KNOWN = {
    "gpt2": lambda: made(pre_tokenizers.ByteLevel(add_prefix_space=False)),
    "roberta": lambda: made(pre_tokenizers.ByteLevel(add_prefix_space=True)),
    "bos and eos around": framed,
    "llama 3": lambda: made(split(LLAMA), ignore_merges=True),
    "qwen 2": lambda: made(split(QWEN), normal=normalizers.NFC()),
}
PIECES = [
    *PROBES,
    "</s>",
    "<s>",
    "<user>",
    " ",
    "\n",
    "  ",
    "'",
    "\u0301",
    "42",
    "word",
    "Words",
    "</s",
]


def texts(count: int, seed: int) -> list[str]:
    draw = random.Random(seed)
    return ["".join(draw.choices(PIECES, k=draw.randrange(12))) for _ in range(count)]


def fast(raw: Tokenizer) -> PreTrainedTokenizerFast:
    words = PreTrainedTokenizerFast(
        tokenizer_object=raw, bos_token="<s>", eos_token="</s>", pad_token="<pad>"
    )
    words.chat_template = CHAT
    return words


@pytest.mark.parametrize("kind", KNOWN)
def test_tokens_are_those_of_transformers(kind: str) -> None:
    words = fast(KNOWN[kind]())
    encoder = Proven(words)
    assert encoder._quick is not None, "it is made by gigatoken"
    given = texts(3000, 2)
    found = encoder._quick._encode(pa.array(given))
    bare = words(given, add_special_tokens=False)["input_ids"]
    assert [row.tolist() for row in found] == bare
    full = encoder.encode(given[:700])
    assert [row.tolist() for row in full] == words(given[:700])["input_ids"]


@pytest.mark.parametrize("cpus", [1, 64])
def test_calls_at_the_same_time_make_the_same_tokens(
    cpus: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(quick, "available_cpus", lambda: cpus)
    encoder = open_quick(KNOWN["llama 3"]())
    assert encoder is not None
    given = [pa.array(texts(400, seed)) for seed in range(12)]
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(encoder._encode, given))
    for texts_of_one, tokens in zip(given, found, strict=True):
        encoder.compare(texts_of_one.to_pylist(), tokens)


def odd_token() -> Tokenizer:
    raw = KNOWN["gpt2"]()
    raw.add_tokens([AddedToken("<mask>", lstrip=True)])
    return raw


UNKNOWN = {
    "is WordPiece": lambda: Tokenizer(models.WordPiece({"[UNK]": 0}, unk_token="[UNK]")),
    "is BPE, not byte-level": lambda: Tokenizer(models.BPE(byte_fallback=True)),
    "normalizer is Lowercase": lambda: made(split(LLAMA), normal=normalizers.Lowercase()),
    "pre-tokenizer is none": lambda: made(
        pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    ),
    "takes what is beside it": odd_token,
    "no fast pretokenizer": lambda: made(split(r"\p{L}+|[^\p{L}]+")),
}


@pytest.mark.parametrize("why", UNKNOWN)
def test_a_kind_that_is_not_known_is_left_to_tokenizers(
    why: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "oikyo.data")
    assert open_quick(UNKNOWN[why]()) is None
    assert why in caplog.text


def test_an_engine_that_differs_is_found_by_the_probes() -> None:
    ours, other = KNOWN["gpt2"](), made(pre_tokenizers.ByteLevel(add_prefix_space=False), seed=9)
    lying = Quick(ours, Gigatoken.from_json(other.to_str()))
    with pytest.raises(Differs):
        lying.compare(PROBES)


def test_it_is_opened_once_and_not_again_once_it_differs(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "oikyo.data")
    monkeypatch.setattr(quick, "_kept", {})
    ours = made(pre_tokenizers.ByteLevel(add_prefix_space=False), seed=8)
    first = open_quick(ours)
    assert first is not None
    assert open_quick(Tokenizer.from_str(ours.to_str())) is first
    other = open_quick(KNOWN["gpt2"]())
    assert other is not None
    assert other is not first
    assert open_quick(ours) is not first  # the newest alone is kept
    again = open_quick(ours)
    assert again is not None
    with pytest.raises(Differs):
        again.compare(["a word"], Ragged.of([[0]]))
    assert open_quick(ours) is None
    assert "made other tokens before" in caplog.text


def test_rows_are_compared_first_all_then_now_and_then(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = pa.array(texts(512, 3))
    first = int(pc.sum(pc.binary_length(rows[:256])).as_py())
    monkeypatch.setattr(quick, "FIRST", first)
    ours = KNOWN["gpt2"]()
    engine = Quick(ours, Gigatoken.from_json(ours.to_str()))
    seen: list[int] = []
    compare = engine.compare

    def watched(rows: Any, tokens: Any) -> None:
        seen.append(len(rows))
        compare(rows, tokens)

    monkeypatch.setattr(engine, "compare", watched)
    for _ in range(8):
        engine.encode(rows)
    assert seen == [256, *(1 for _ in range(3))]


def rows(count: int = 600) -> dict[str, list[dict[str, Any]]]:
    """Rows of every shape."""
    said = [text or "x" for text in texts(3 * count, 5)]
    one, two, three = said[:count], said[count : 2 * count], said[2 * count :]
    user = [[{"role": "user", "content": text}] for text in one]
    return {
        "classification": [{"text": t, "label": "ab"[n % 2]} for n, t in enumerate(one)],
        "text": [{"text": text} for text in one],
        "prompt-completion": [
            {"prompt": p, "completion": c} for p, c in zip(one, two, strict=True)
        ],
        "messages": [
            {"messages": [*u, {"role": "assistant", "content": c}]}
            for u, c in zip(user, two, strict=True)
        ],
        "preference": [
            {"prompt": u, "chosen": c, "rejected": r}
            for u, c, r in zip(user, two, three, strict=True)
        ],
        "unpaired": [
            {"prompt": u, "completion": c, "desirable": n % 3 > 0}
            for n, (u, c) in enumerate(zip(user, two, strict=True))
        ],
    }


def written(folder: Path, dataset: Path, encoder: Encoder, reading: Reading) -> dict[str, bytes]:
    folder.mkdir()
    writer = Writer(Stored(dataset), encoder, reading, 1 << 20, lambda share: None)
    counted = writer.write(folder, "train")
    files = {path.name: path.read_bytes() for path in folder.iterdir()}
    return {**files, "counted": repr(counted).encode()}


@pytest.mark.parametrize("shape", list(rows(1)))
@pytest.mark.parametrize("truncation", ["End", "Middle", "Drop"])
def test_the_files_are_the_same_whoever_makes_them(
    shape: Any, truncation: Any, tmp_path: Path
) -> None:
    write_dataset(tmp_path, "set", shape, rows()[shape], validation=0)
    (dataset,) = (tmp_path / "datasets").iterdir()
    manifest = json.loads((dataset / "manifest.json").read_text())
    (dataset / "manifest.json").write_text(json.dumps({**manifest, "labels": ["a", "b"]}))
    words, reading = fast(framed()), Reading(60, truncation)
    plain = written(tmp_path / "plain", dataset, Encoder(words), reading)
    assert len(plain["train.tokens"]) > 4000
    assert written(tmp_path / "quick", dataset, Proven(words), reading) == plain


def test_when_gigatoken_differs_the_rows_are_made_again_and_it_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    from oikyo_trainer.data import tokenise as module

    write_dataset(tmp_path, "set", "text", rows()["text"], validation=0)
    (dataset,) = (tmp_path / "datasets").iterdir()
    words = fast(framed())
    plain = written(tmp_path / "plain", dataset, Encoder(words), Reading(60))
    other = made(pre_tokenizers.ByteLevel(add_prefix_space=False), seed=9)
    lying = Quick(words.backend_tokenizer, Gigatoken.from_json(other.to_str()))
    monkeypatch.setattr(quick, "FIRST", 0)  # else it would be found at the first row
    monkeypatch.setattr(proven, "open_quick", lambda backend: lying)
    (tmp_path / "made").mkdir()
    tables, folder = Stored(dataset), tmp_path / "made"
    counted, facts = module.write(
        tables, Proven(words), Reading(60), 1 << 20, folder, lambda _: None
    )
    assert counted["train"].rows == 600
    assert facts == describe(folder)
    assert "all rows are made by tokenizers" in caplog.text
    made_files = {path.name: path.read_bytes() for path in (tmp_path / "made").glob("train.*")}
    assert made_files == {name: body for name, body in plain.items() if name != "counted"}
