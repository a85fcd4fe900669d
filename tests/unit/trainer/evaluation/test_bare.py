"""A tokenizer opened without transformers makes the tokens of the one that is; where it may not, it is None."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tokenizers import Tokenizer

from oikyo_trainer.evaluation.bare import Bare
from oikyo_trainer.evaluation.encoder import around, token_ids
from oikyo_trainer.evaluation.opening import load, load_for_texts
from unit.trainer.evaluation.test_opening import (
    MADE,
    SENTENCES,
    byte_level,
    framed,
    saved,
)

NAMES = [
    (kind, name) for kind, name in MADE if name in ("PreTrainedTokenizerFast", "TokenizersBackend")
]
PAD = {"content": "<pad>", "single_word": False, "lstrip": False, "rstrip": False,
       "normalized": False, "special": True}  # fmt: skip
TOLD: dict[str, dict[str, Any]] = {
    "the marks alone": {},
    "an end token that transformers does not add": {"add_eos_token": True, "add_bos_token": True},
    "more marks": {"extra_special_tokens": ["<unk>"], "mask_token": "<s>", "unk_token": "<unk>"},
    "older names": {"additional_special_tokens": ["<unk>"], "chat_template": "{{ 1 }}"},
    "the added tokens again": {"added_tokens_decoder": {"3": PAD}, "padding_side": "left"},
    "what is saved besides": {
        "backend": "tokenizers",
        "is_local": True,
        "model_input_names": ["x"],
    },
}
OTHER: dict[str, dict[str, Any]] = {
    "a mark that is no token": {"eos_token": "<end>"},
    "a mark that is no added token": {"eos_token": "t"},
    "a mark with its blanks": {"eos_token": {**PAD, "content": "</s>", "__type": "AddedToken"}},
    "one more token": {"extra_special_tokens": ["<more>"]},
    "named tokens": {"extra_special_tokens": {"image_token": "<unk>"}},
    "an added token that takes blanks": {"added_tokens_decoder": {"3": {**PAD, "lstrip": True}}},
    "special tokens as text": {"split_special_tokens": True},
    "a token of its own name": {"image_token": "<image>"},
    "a limit under its older name": {"max_len": 12},
    "a limit that is no whole number": {"model_max_length": 1e30},
}


def same(folder: Path) -> None:
    """What both make of texts, and all that the prepare stage asks of a tokenizer."""
    wanted, found = load(folder), load_for_texts(folder)
    assert isinstance(found, Bare)
    assert not isinstance(wanted, Bare)
    assert around(found) == around(wanted)
    for special in (True, False):
        assert token_ids(found, SENTENCES, special=special) == token_ids(
            wanted, SENTENCES, special=special
        )
    for fact in ("bos_token", "eos_token", "pad_token", "unk_token", "bos_token_id",
                 "eos_token_id", "pad_token_id", "model_max_length", "is_fast"):  # fmt: skip
        assert getattr(found, fact) == getattr(wanted, fact), fact
    assert len(found) == len(wanted)


@pytest.mark.parametrize(("kind", "name"), NAMES, ids=[f"{k}-{n}" for k, n in NAMES])
def test_every_kind_makes_the_same_tokens(kind: str, name: str, tmp_path: Path) -> None:
    same(saved(tmp_path, kind, name, MADE[kind, name]()))


@pytest.mark.parametrize("told", TOLD.values(), ids=TOLD)
@pytest.mark.parametrize("made", [framed, byte_level])
def test_what_is_told_besides_changes_nothing(
    told: dict[str, Any], made: Callable[[], Tokenizer], tmp_path: Path
) -> None:
    same(saved(tmp_path, "llama", "TokenizersBackend", made(), **told))


@pytest.mark.parametrize("told", OTHER.values(), ids=OTHER)
def test_where_another_tokenizer_may_come_of_it_transformers_opens_it(
    told: dict[str, Any], tmp_path: Path
) -> None:
    folder = saved(tmp_path, "llama", "TokenizersBackend", framed(), **told)
    assert not isinstance(load_for_texts(folder), Bare)


def test_a_tokenizer_that_pads_or_cuts_is_left_to_transformers(tmp_path: Path) -> None:
    for set_up in ("enable_padding", "enable_truncation"):
        made = framed()
        getattr(made, set_up)(**({"max_length": 4} if set_up == "enable_truncation" else {}))
        folder = saved(tmp_path, "llama", "TokenizersBackend", made)
        assert not isinstance(load_for_texts(folder), Bare)


@pytest.mark.parametrize("name", ["special_tokens_map.json", "added_tokens.json"])
def test_files_of_older_releases_are_left_to_transformers(name: str, tmp_path: Path) -> None:
    folder = saved(tmp_path, "llama", "PreTrainedTokenizerFast", framed())
    (folder / name).write_text(json.dumps({}))
    assert not isinstance(load_for_texts(folder), Bare)


@pytest.mark.parametrize(
    ("kind", "name"), [("gpt2", "GPT2Tokenizer"), ("mistral", "PreTrainedTokenizerFast")]
)
def test_other_classes_are_those_of_transformers(kind: str, name: str, tmp_path: Path) -> None:
    assert not isinstance(load_for_texts(saved(tmp_path, kind, name, byte_level())), Bare)


def test_no_transformers_is_loaded_for_texts(tmp_path: Path) -> None:
    folder = saved(tmp_path, "llama", "PreTrainedTokenizerFast", framed())
    code = (
        "import sys; from pathlib import Path; import oikyo_trainer.data.prepare;"
        "from oikyo_trainer.training.tokenizer import open_tokenizer;"
        "from oikyo_trainer.data.proven import Proven;"
        "made = open_tokenizer(Path(sys.argv[1]), 999, 'x', 'TextGeneration', chat=False);"
        "print(Proven(made).encode(['the cat']).lengths[0], 'transformers' in sys.modules)"
    )
    told = subprocess.run(
        [sys.executable, "-c", code, str(folder)], capture_output=True, text=True, check=True
    )
    assert told.stdout.split() == [str(len(token_ids(load(folder), ["the cat"])[0])), "False"]
