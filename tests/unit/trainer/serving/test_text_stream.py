"""Text in pieces is the same text, whatever the pieces, and stop strings never leak."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from oikyo_trainer.serving.generator import Settings, choose
from oikyo_trainer.serving.text_stream import StopScanner, TextStream
from unit.trainer.evaluation.tiny import tokenizer

WORDS = tokenizer()


@given(st.text(max_size=40))
def test_pieces_join_to_the_whole_text(text: str) -> None:
    tokens = WORDS(text)["input_ids"]
    stream = TextStream(WORDS, [])
    pieces = [stream.push(token) for token in tokens]
    assert "".join(pieces) + stream.flush() == WORDS.decode(tokens, skip_special_tokens=True)


@pytest.mark.parametrize("text", ["\u00e9t\u00e9", "\u4f60\u597d", "\U0001f600!"])
def test_no_piece_holds_half_a_character(text: str) -> None:
    stream = TextStream(WORDS, WORDS("hi")["input_ids"])
    pieces = [stream.push(token) for token in WORDS(text)["input_ids"]]
    assert "\ufffd" not in "".join(pieces)
    assert "".join(pieces) == text


@given(st.lists(st.text(alphabet="abc", max_size=4), max_size=12), st.text("abc", min_size=1))
def test_a_stop_string_cuts_where_it_first_stands(pieces: list[str], stop: str) -> None:
    scanner, told = StopScanner([stop]), ""
    for piece in pieces:
        told += scanner.push(piece)
        if scanner.stopped:
            break
    whole = "".join(pieces)
    assert told + scanner.flush() == whole.split(stop)[0]
    assert scanner.stopped is (stop in whole)


def test_the_earliest_of_several_stop_strings_counts() -> None:
    scanner = StopScanner(["xyz", "b"])
    assert scanner.push("a b xyz") == "a "
    assert scanner.stopped


def test_a_nucleus_keeps_the_likeliest_and_drops_the_tail() -> None:
    logits = torch.log(torch.tensor([0.5, 0.3, 0.15, 0.05]))
    random = torch.Generator().manual_seed(1)
    drawn = {choose(logits, Settings(1, top_p=0.6), random) for _ in range(200)}
    assert drawn == {0, 1}
    tiny = {choose(logits, Settings(1, top_p=0.01), random) for _ in range(50)}
    assert tiny == {0}
    assert choose(logits, Settings(1, temperature=0), random) == 0


def test_draws_follow_the_odds() -> None:
    logits = torch.log(torch.tensor([0.7, 0.3]))
    random = torch.Generator().manual_seed(3)
    share = sum(choose(logits, Settings(1), random) == 0 for _ in range(2000)) / 2000
    assert share == pytest.approx(0.7, abs=0.04)
