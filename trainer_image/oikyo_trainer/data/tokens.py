"""How many tokens a text has: the base model's own tokenizer, in Rust, a batch at a time.

Loaded without transformers where tokenizer.json is there, which takes a tenth of a second. What the
chat template adds to a chat is measured once, on chats of one letter a turn.
"""

from __future__ import annotations

import json
import logging
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from ..errors import Refused
from .findings import excerpt
from .quick import Differs, Quick, open_quick

log = logging.getLogger("oikyo.data")

Counts = npt.NDArray[np.int64]
CHARACTERS = 2 << 20
"""Characters that are tokenised at once: a token costs a hundred bytes until it is counted."""
CONTEXT = ("max_position_embeddings", "n_positions", "max_sequence_length", "seq_length")
"""Names under which configurations tell the most tokens that the model attends to."""
WORTH = 1 << 20
"""Characters that `tokenizers` counts in the time in which gigatoken is opened and proven."""
SECONDS = 3
"""Longest that a chat template may take."""
USUAL_TURN, USUAL_START = 6, 8
"""Tokens that a template adds to a turn and to a chat, where it cannot be measured."""


@dataclass(frozen=True)
class Counter:
    """Counts tokens as training will have them."""

    encode: Callable[[list[str]], Counts]
    """Token counts of texts, without special tokens."""
    special: int
    """Tokens that stand around a plain text."""
    turn: int
    """Tokens that the chat template adds to each turn."""
    start: int
    """Tokens that it adds to the chat."""
    context: int | None
    """Most tokens that the model attends to, if its configuration says."""

    def count(self, texts: Sequence[str]) -> Counts:
        """Tokens of each text by itself, without special tokens."""
        counted = [self.encode(batch) for batch in _batches(texts)]
        return np.concatenate([np.zeros(0, dtype=np.int64), *counted])


def _batches(texts: Sequence[str]) -> Iterator[list[str]]:
    batch: list[str] = []
    size = 0
    for text in texts:
        batch.append(text)
        size += len(text)
        if size >= CHARACTERS:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


def open_counter(
    files: Mapping[str, Path], uri: str, scratch: Path, *, chat: bool, worth: int = WORTH
) -> Counter:
    """The counter for the base model with these `files`; Refused when its tokenizer cannot be read.

    `chat`: whether the rows are chats, and the model's template is to be measured. `scratch` may be
    written: a tokenizer without tokenizer.json is converted from a folder of links. `worth` is how many
    characters `tokenizers` counts before gigatoken does: none where that is opened in any case.
    """
    try:
        tokenizer = _open(files, scratch)
        special = len(tokenizer.encode("").ids)
    except Refused:
        raise
    except Exception as error:  # the library raises bare Exceptions for what it cannot read
        raise Refused(
            "InvalidModel",
            f"the tokenizer of {uri} cannot be read: {excerpt(str(error))}",
            next_step="Save it again beside the weights: tokenizer.save_pretrained(FOLDER)",
        ) from None

    encode = _Counting(tokenizer, worth)
    start, turn = _chat_tokens(files, uri, encode) if chat else (0, 0)
    return Counter(encode, special, turn, start, _context(files))


class _Counting:
    """Counts the tokens of many texts; by gigatoken once there are so many that it pays to open it."""

    def __init__(self, tokenizer: Any, worth: int) -> None:  # Any: the library ships no types
        self._tokenizer = tokenizer
        self._quick: Quick | None = None
        self._left = worth
        self._lock = Lock()

    def __call__(self, texts: list[str]) -> Counts:
        quick = self._opened(sum(map(len, texts)))
        if quick is not None:
            try:
                return quick.encode(pa.array(texts, pa.string())).lengths
            except Differs as error:
                log.warning("%s; tokens are counted by tokenizers, which is slower", error)
                self._quick = None
        made = self._tokenizer.encode_batch_fast(texts, add_special_tokens=False)
        return np.array([len(one) for one in made], dtype=np.int64)

    def _opened(self, characters: int) -> Quick | None:
        with self._lock:
            self._left -= characters
            if self._quick is None and self._left < 0:
                self._quick, self._left = open_quick(self._tokenizer), sys.maxsize
            return self._quick


def _open(files: Mapping[str, Path], scratch: Path) -> Any:  # Any: the library ships no types
    from tokenizers import Tokenizer

    if "tokenizer.json" in files:
        tokenizer = Tokenizer.from_file(str(files["tokenizer.json"]))
    else:
        tokenizer = _converted(files, scratch)
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer


def _converted(files: Mapping[str, Path], scratch: Path) -> Any:
    from transformers import AutoTokenizer

    scratch.mkdir()
    for name, path in files.items():
        if "/" not in name and not name.endswith(".safetensors"):
            (scratch / name).symlink_to(path)
    loaded = AutoTokenizer.from_pretrained(scratch, local_files_only=True, trust_remote_code=False)
    return loaded.backend_tokenizer


def _context(files: Mapping[str, Path]) -> int | None:
    config = json.loads(files["config.json"].read_bytes())
    parts = [config, config.get("text_config")]
    told = [part.get(name) for part in parts if isinstance(part, dict) for name in CONTEXT]
    return min((n for n in told if isinstance(n, int) and n > 0), default=None)


def _chat_tokens(
    files: Mapping[str, Path], uri: str, encode: Callable[[list[str]], Counts]
) -> tuple[int, int]:
    """What the template adds: (to the chat, to each turn)."""
    template = _template(files)
    if template is None:
        return 0, 1  # the contents, line by line
    try:
        with _limited():
            chats = [_render(template, files, 1), _render(template, files, 3)]
        short, long = encode(chats).tolist()
    except _TooSlow:
        raise Refused(
            "InvalidModel",
            f"the chat template of {uri} takes more than {SECONDS} seconds for a chat of two turns",
            next_step="Use the template that the model was published with",
        ) from None
    except Exception:  # a template may ask for anything; training says what is wrong with it
        return USUAL_START, USUAL_TURN
    turn = max(0, (long - short) // 4 - 1)
    return max(0, short - 2 * (turn + 1)), turn


class _TooSlow(BaseException):
    """No Exception: neither jinja2 nor a template may swallow it."""


@contextmanager
def _limited() -> Iterator[None]:
    """Raise _TooSlow after SECONDS. Templates are programs, and some never end."""
    if threading.current_thread() is not threading.main_thread():
        yield  # signals reach the main thread alone
        return

    def stop(*_: object) -> None:
        raise _TooSlow

    earlier = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, SECONDS)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, earlier)


def _template(files: Mapping[str, Path]) -> str | None:
    if "chat_template.jinja" in files:
        return files["chat_template.jinja"].read_text(encoding="utf-8")
    if "tokenizer_config.json" not in files:
        return None
    told = json.loads(files["tokenizer_config.json"].read_bytes()).get("chat_template")
    if isinstance(told, list):
        named = {item.get("name"): item.get("template") for item in told if isinstance(item, dict)}
        told = named.get("default")
    return told if isinstance(told, str) else None


def _render(template: str, files: Mapping[str, Path], pairs: int) -> str:
    from jinja2.ext import loopcontrols
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    def refuse(message: str) -> None:
        raise ValueError(message)

    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[loopcontrols]
    )
    environment.globals.update(raise_exception=refuse, strftime_now=lambda form: form)
    config = json.loads(files["tokenizer_config.json"].read_bytes())
    marks = {k: _mark(v) for k, v in config.items() if k.endswith("_token") and v is not None}
    chat = [{"role": role, "content": "a"} for role in ("user", "assistant")] * pairs
    return environment.from_string(template).render(
        messages=chat, add_generation_prompt=False, **{"bos_token": "", "eos_token": "", **marks}
    )


def _mark(value: Any) -> str:  # a token is text, or an object with its text
    return str(value.get("content", "")) if isinstance(value, dict) else str(value)
