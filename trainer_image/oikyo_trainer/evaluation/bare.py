"""A tokenizer read from its two JSON files, without transformers: half a second that texts need not wait for.

Only where the class that transformers would choose takes tokenizer.json as it is, and where nothing that
tokenizer_config.json tells changes its tokens: every mark is an added token already. All else, and rows
that the chat template renders, go through transformers.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

MARKS = tuple(f"{mark}_token" for mark in ("bos", "eos", "unk", "sep", "pad", "cls", "mask"))
EXTRA = ("extra_special_tokens", "additional_special_tokens")
WITHOUT_EFFECT = frozenset(
    {
        "add_bos_token", "add_eos_token", "add_prefix_space", "backend", "chat_template",
        "clean_up_tokenization_spaces", "is_local", "local_files_only", "model_input_names",
        "name_or_path", "padding_side", "tokenizer_class", "truncation_side",
    }
)  # fmt: skip
"""What tokenizer_config.json may hold besides: transformers drops it beside a tokenizer.json, or it
concerns what is done with the tokens."""
TOLD = {*MARKS, *EXTRA, *WITHOUT_EFFECT, "added_tokens_decoder", "model_max_length"}
OLDER = ("special_tokens_map.json", "added_tokens.json")
"""Files of older releases, which add to the tokens."""
NO_LIMIT = int(1e30)
"""As transformers says it."""


@dataclass
class Bare:
    """As much of a fast tokenizer of transformers as it takes to make tokens of texts."""

    backend_tokenizer: Any  # of tokenizers, which ships no types
    model_max_length: int = NO_LIMIT
    bos_token: str | None = None
    eos_token: str | None = None
    unk_token: str | None = None
    pad_token: str | None = None
    padding_side: str = "right"
    chat_template: Any = None
    """Rows that need one are not for this class."""
    is_fast = True
    split_special_tokens = False

    @property
    def bos_token_id(self) -> int | None:
        return self._id(self.bos_token)

    @property
    def eos_token_id(self) -> int | None:
        return self._id(self.eos_token)

    @property
    def pad_token_id(self) -> int | None:
        return self._id(self.pad_token)

    def _id(self, mark: str | None) -> int | None:
        return None if mark is None else self.backend_tokenizer.token_to_id(mark)

    def __len__(self) -> int:
        return self.backend_tokenizer.get_vocab_size(with_added_tokens=True)


def read(folder: Path, told: Mapping[str, Any]) -> Bare | None:
    """The tokenizer of the model in `folder`, of which tokenizer_config.json says `told`.

    None where transformers would make another one of the files, or may.
    """
    if not TOLD.issuperset(told) or any((folder / name).exists() for name in OLDER):
        return None
    limit = told.get("model_max_length", NO_LIMIT)
    if type(limit) is not int:
        return None
    from tokenizers import Tokenizer

    backend = Tokenizer.from_file(str(folder / "tokenizer.json"))
    if backend.padding is not None or backend.truncation is not None or _adds(backend, told):
        return None
    marks: dict[str, Any] = {
        name: told.get(name) for name in ("bos_token", "eos_token", "unk_token", "pad_token")
    }
    return Bare(backend, limit, **marks)


def _adds(backend: Any, told: Mapping[str, Any]) -> bool:
    """Whether transformers would add a token to those of tokenizer.json."""
    added = {
        number: one.__getstate__() for number, one in backend.get_added_tokens_decoder().items()
    }
    known = {one["content"] for one in added.values() if one["special"]}
    marks = [told[name] for name in MARKS if told.get(name) is not None]
    for name in EXTRA:
        extra = told.get(name)
        marks += extra if isinstance(extra, list) else [extra] if extra else []
    listed = told.get("added_tokens_decoder") or {}
    return not all(type(mark) is str and mark in known for mark in marks) or any(
        added.get(int(number)) != one for number, one in listed.items()
    )
