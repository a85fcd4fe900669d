"""A tokenizer opened without torch is the one that AutoTokenizer opens: same class, same tokens."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from tokenizers import (
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    processors,
    trainers,
)

from oikyo_trainer.evaluation.opening import CLASSES, known_class, load, read_sizes, sizes_of

SENTENCES = [
    "The cat sat on the mat.",
    "Don't panic: caf\u00e9 na\u00efve 12345!\n\n\tx",
    "",
    "  two  spaces </s> and <s> an end",
    "\u4f60\u597d \U0001f600",
]
SPECIAL = ["<unk>", "<s>", "</s>", "<pad>"]


def words(trainer: Any, model: Any, pre: Any) -> Tokenizer:
    raw = Tokenizer(model)
    raw.pre_tokenizer = pre
    raw.train_from_iterator(SENTENCES * 3, trainer)
    return raw


def byte_level() -> Tokenizer:
    trainer = trainers.BpeTrainer(
        vocab_size=320, special_tokens=[*SPECIAL, "<|endoftext|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False,
    )  # fmt: skip
    raw = words(trainer, models.BPE(), pre_tokenizers.ByteLevel(add_prefix_space=False))
    raw.decoder = decoders.ByteLevel()
    return raw


def framed() -> Tokenizer:
    raw = byte_level()
    raw.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", special_tokens=[("<s>", 1), ("</s>", 2)]
    )
    return raw


def piece_bpe() -> Tokenizer:
    """As Llama's first, converted from SentencePiece: blanks are letters, unknown ones are bytes."""
    trainer = trainers.BpeTrainer(
        vocab_size=400, special_tokens=[*SPECIAL, *(f"<0x{byte:02X}>" for byte in range(256))],
        show_progress=False,
    )  # fmt: skip
    raw = Tokenizer(models.BPE(byte_fallback=True, unk_token="<unk>", fuse_unk=True))
    raw.normalizer = normalizers.Sequence(
        [normalizers.Prepend("\u2581"), normalizers.Replace(" ", "\u2581")]
    )
    raw.train_from_iterator(SENTENCES * 3, trainer)
    raw.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    return raw


def word_piece() -> Tokenizer:
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    raw = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    raw.normalizer, raw.pre_tokenizer = (
        normalizers.BertNormalizer(),
        pre_tokenizers.BertPreTokenizer(),
    )
    trainer = trainers.WordPieceTrainer(vocab_size=90, special_tokens=special, show_progress=False)
    raw.train_from_iterator(SENTENCES * 3, trainer)
    raw.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    return raw


MADE = {
    ("bert", "BertTokenizer"): word_piece,
    ("distilbert", "BertTokenizerFast"): word_piece,
    ("bert", "PreTrainedTokenizerFast"): word_piece,
    ("gpt2", "GPT2Tokenizer"): byte_level,
    ("gpt_neox", "GPTNeoXTokenizerFast"): byte_level,
    ("qwen3", "Qwen2Tokenizer"): byte_level,
    ("llama", "PreTrainedTokenizerFast"): framed,
    ("llama", "TokenizersBackend"): piece_bpe,
    ("smollm3", "PreTrainedTokenizerFast"): framed,
    ("olmo2", "TokenizersBackend"): byte_level,
    ("gemma2", "GemmaTokenizer"): piece_bpe,
}


def saved(folder: Path, kind: str, name: str, made: Tokenizer, **told: Any) -> Path:
    made.save(str(folder / "tokenizer.json"))
    marks = {"bos_token": "<s>", "eos_token": "</s>", "pad_token": "<pad>"}
    marks = {} if "bert" in kind else marks
    config = {"tokenizer_class": name, "model_max_length": 77, **marks, **told}
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    (folder / "config.json").write_text(json.dumps({"model_type": kind}))
    return folder


@pytest.mark.parametrize(("kind", "name"), MADE, ids=[f"{k}-{n}" for k, n in MADE])
@pytest.mark.parametrize("told", [{}, {"add_eos_token": True}], ids=["plain", "adds-eos"])
def test_the_class_and_its_tokens_are_those_of_autotokenizer(
    kind: str, name: str, told: dict[str, Any], tmp_path: Path
) -> None:
    from transformers import AutoTokenizer

    folder = saved(tmp_path, kind, name, MADE[kind, name](), chat_template="{{ 1 }}", **told)
    wanted, found = AutoTokenizer.from_pretrained(folder), load(folder)
    assert known_class(folder) is type(wanted) is type(found)
    assert found(SENTENCES)["input_ids"] == wanted(SENTENCES)["input_ids"]
    assert found.backend_tokenizer.to_str() == wanted.backend_tokenizer.to_str()
    facts = ("special_tokens_map", "chat_template", "model_max_length", "eos_token_id")
    for fact in facts:
        assert getattr(found, fact) == getattr(wanted, fact)


def test_the_table_is_that_of_transformers() -> None:
    from transformers.models.auto import tokenization_auto as auto

    for kind, path in CLASSES.items():
        registered = auto.TOKENIZER_MAPPING_NAMES.get(kind)
        own = path and path.rpartition(".")[2]
        assert registered in ((own,) if own else (None, "TokenizersBackend")), kind
        assert kind not in auto.MODELS_WITH_INCORRECT_HUB_TOKENIZER_CLASS, kind


@pytest.mark.parametrize(
    ("kind", "name"), [("mistral", "LlamaTokenizer"), ("qwen2", "PreTrainedTokenizerFast"),
                       ("llama", "LlamaTokenizer"), ("qwen3", "MyTokenizer")],
)  # fmt: skip
def test_where_the_choice_is_not_sure_autotokenizer_is_asked(
    kind: str, name: str, tmp_path: Path
) -> None:
    assert known_class(saved(tmp_path, kind, name, byte_level())) is None


def test_code_of_the_model_is_left_to_autotokenizer_which_refuses_it(tmp_path: Path) -> None:
    folder = saved(tmp_path, "llama", "PreTrainedTokenizerFast", framed(), auto_map={"x": "y"})
    assert known_class(folder) is None


@pytest.mark.parametrize(
    "config",
    [
        {"model_type": "llama", "vocab_size": 320, "max_position_embeddings": 99},
        {"model_type": "llama", "vocab_size": 320},  # the rest is the class's own
        {"model_type": "gpt2", "vocab_size": 7, "n_positions": 31},
        {
            "model_type": "bert",
            "vocab_size": 90,
            "max_position_embeddings": 64,
            "virtual_tokens": 8,
        },
    ],
)
def test_the_sizes_are_those_of_the_configuration(config: dict[str, Any], tmp_path: Path) -> None:
    from transformers import AutoConfig

    (tmp_path / "config.json").write_text(json.dumps(config))
    assert read_sizes(tmp_path) == sizes_of(AutoConfig.from_pretrained(tmp_path))


def test_no_torch_is_loaded_for_a_known_tokenizer(tmp_path: Path) -> None:
    folder = saved(tmp_path, "llama", "PreTrainedTokenizerFast", framed())
    code = (
        "import sys; from pathlib import Path; from oikyo_trainer.evaluation.opening import load;"
        "from oikyo_trainer.data.proven import Proven; import pyarrow as pa;"
        "made = Proven(load(Path(sys.argv[1]))).encode(pa.array(['the cat', '']));"
        "print(made.lengths[1], 'torch' in sys.modules, 'gigatoken' in sys.modules,"
        " 'awkward' in sys.modules)"
    )
    told = subprocess.run(
        [sys.executable, "-c", code, str(folder)], capture_output=True, text=True, check=True
    )
    assert told.stdout.split() == ["2", "False", "True", "False"]
