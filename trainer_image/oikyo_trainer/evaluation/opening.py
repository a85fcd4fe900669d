"""Opening a model's tokenizer: the class that transformers' AutoTokenizer would choose, without torch.

AutoTokenizer imports torch to look at the model's configuration: two seconds and 600 MB, of which the
prepare stage needs nothing. For the kinds of model in CLASSES the choice is known from the two JSON files,
so their class is imported itself; all else goes through AutoTokenizer. The tokens are the same either way,
since it is the same class that reads the files. Texts alone need no class of transformers at all (bare.py).
"""

from __future__ import annotations

import importlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from . import bare

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

SAFE: dict[str, Any] = {"local_files_only": True, "trust_remote_code": False}
# Any: keyword arguments of from_pretrained
PLAIN = frozenset({"TokenizersBackend", "PreTrainedTokenizerFast"})
"""Names of the class that takes tokenizer.json as it is."""
CLASSES: dict[str, str | None] = {
    "bert": "bert.tokenization_bert.BertTokenizer",
    "distilbert": "bert.tokenization_bert.BertTokenizer",
    "electra": "bert.tokenization_bert.BertTokenizer",
    "gemma2": "gemma.tokenization_gemma.GemmaTokenizer",
    "gemma3_text": "gemma.tokenization_gemma.GemmaTokenizer",
    "gpt2": "gpt2.tokenization_gpt2.GPT2Tokenizer",
    "gpt_neox": "gpt_neox.tokenization_gpt_neox.GPTNeoXTokenizer",
    "granite": None,
    "llama": None,
    "olmo2": None,
    "qwen3": "qwen2.tokenization_qwen2.Qwen2Tokenizer",
    "roberta": "roberta.tokenization_roberta.RobertaTokenizer",
    "smollm3": None,
    "xlm-roberta": "xlm_roberta.tokenization_xlm_roberta.XLMRobertaTokenizer",
}
"""Kind of model -> the class of its tokenizer, below transformers.models; None: the plain one alone."""
VIRTUAL_TOKENS = "virtual_tokens"
"""Of a released config: places of the context that learned vectors take (prompt tuning)."""


def load(folder: Path) -> PreTrainedTokenizerBase:
    """The tokenizer of the model in `folder`."""
    kind = known_class(folder)
    if kind is None:
        from transformers import AutoTokenizer

        kind = AutoTokenizer
    tokenizer: PreTrainedTokenizerBase = kind.from_pretrained(folder, **SAFE)
    return tokenizer


def load_for_texts(folder: Path) -> PreTrainedTokenizerBase:
    """As `load`, for rows that no chat template renders: without transformers where the tokens are the same."""
    _, name, told = _named(folder)
    found: Any = bare.read(folder, told) if name in PLAIN else None
    return load(folder) if found is None else found


def _named(folder: Path) -> tuple[str, str, dict[str, Any]]:
    """The kind of model, the name of its tokenizer's class, and all of tokenizer_config.json.

    The name is empty where AutoTokenizer must be asked.
    """
    config, told = _json(folder / "config.json"), _json(folder / "tokenizer_config.json")
    name, kind = told.get("tokenizer_class"), config.get("model_type")
    known = (folder / "tokenizer.json").is_file() and "auto_map" not in told and kind in CLASSES
    return str(kind), name if known and isinstance(name, str) else "", told


def known_class(folder: Path) -> Any:  # Any: a class of transformers, which ships no types
    """The class that AutoTokenizer would choose; None where it must be asked."""
    kind, name, _ = _named(folder)
    if name in PLAIN:
        from transformers import PreTrainedTokenizerFast

        return PreTrainedTokenizerFast
    module, _, own = (CLASSES.get(kind) or "").rpartition(".")
    if not name or name.removesuffix("Fast") != own:
        return None
    return getattr(importlib.import_module(f"transformers.models.{module}"), own)


@dataclass(frozen=True)
class Sizes:
    """What a model's configuration says of its tokens."""

    vocabulary: int
    positions: int | None
    """Most tokens of a row, if the configuration says."""
    virtual: int = 0
    """Places of them that learned vectors take (prompt tuning)."""

    def context(self, tokenizer: PreTrainedTokenizerBase | None = None) -> int:
        """Most tokens of a row that the model can attend to; a million when nothing says."""
        limits = (self.positions, None if tokenizer is None else tokenizer.model_max_length)
        return min((int(limit) for limit in limits if limit), default=1_000_000) - self.virtual


def sizes_of(config: Any) -> Sizes:  # configurations differ by architecture
    """From a configuration of transformers."""
    text = config.get_text_config() if hasattr(config, "get_text_config") else config
    positions = getattr(text, "max_position_embeddings", None)
    return Sizes(getattr(text, "vocab_size", 0), positions, getattr(text, VIRTUAL_TOKENS, 0))


def read_sizes(folder: Path) -> Sizes:
    """As `sizes_of` the configuration in `folder`, without torch where config.json says it all."""
    config = _json(folder / "config.json")
    kind = config.get("model_type")
    vocabulary = config.get("vocab_size")
    positions = config.get("n_positions" if kind == "gpt2" else "max_position_embeddings")
    if kind in CLASSES and type(vocabulary) is int and type(positions) is int:
        return Sizes(vocabulary, positions, config.get(VIRTUAL_TOKENS, 0))
    from .models import load_config

    return sizes_of(load_config(folder))


def _json(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    told = json.loads(path.read_bytes())
    return told if isinstance(told, dict) else {}
