"""From tokens to text as they come: no half characters, and no text that a stop string takes back."""

from __future__ import annotations

from collections.abc import Sequence

from transformers import PreTrainedTokenizerBase

CONTEXT_TOKENS = 6
"""Tokens of the prompt decoded along: a leading space depends on what stands before it."""
HALF = "\ufffd"
"""What a decoder writes for the first bytes of a character whose rest is still to come."""


class TextStream:
    """The text that each new token adds."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase, prompt: Sequence[int]) -> None:
        self._tokenizer = tokenizer
        self._tokens = list(prompt[-CONTEXT_TOKENS:])
        self._from = 0
        self._told = len(self._tokens)

    def push(self, token: int) -> str:
        """Text that is certain now; empty while a character is incomplete."""
        self._tokens.append(token)
        fresh = self._fresh()
        if not fresh or fresh.endswith(HALF):
            return ""
        self._from, self._told = self._told, len(self._tokens)
        return fresh

    def flush(self) -> str:
        """What is left at the end, incomplete characters included."""
        return self._fresh()

    def _fresh(self) -> str:
        before = self._decode(self._tokens[self._from : self._told])
        return self._decode(self._tokens[self._from :])[len(before) :]

    def _decode(self, tokens: list[int]) -> str:
        text: str = self._tokenizer.decode(
            tokens, skip_special_tokens=True, clean_up_tokenization_spaces=False
        )
        return text


class StopScanner:
    """Cuts a text at the first stop string and holds back what may become one."""

    def __init__(self, stops: Sequence[str]) -> None:
        self._stops = tuple(stops)
        self._held = ""
        self.stopped = False

    def push(self, text: str) -> str:
        """Text that may be told."""
        self._held += text
        found = [at for stop in self._stops if (at := self._held.find(stop)) >= 0]
        if found:
            told, self._held, self.stopped = self._held[: min(found)], "", True
            return told
        keep = max((self._overlap(stop) for stop in self._stops), default=0)
        cut = len(self._held) - keep
        told, self._held = self._held[:cut], self._held[cut:]
        return told

    def flush(self) -> str:
        told, self._held = self._held, ""
        return told

    def _overlap(self, stop: str) -> int:
        """Length of the longest end of the held text that begins `stop`."""
        longest = min(len(stop) - 1, len(self._held))
        return next((n for n in range(longest, 0, -1) if self._held.endswith(stop[:n])), 0)
