"""Rows as tokens: many at once are what each is alone; labels and cuts are as the spec says."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from oikyo_trainer.evaluation.cut import Reading, kept
from oikyo_trainer.evaluation.prompts import encode, encode_answers, encode_texts
from oikyo_trainer.evaluation.rendering import PLAIN_TEMPLATE, TemplateRefuses
from unit.trainer.evaluation.tiny import tokenizer

CHATS = [
    [("user", "the cat"), ("assistant", "animal")],
    [("system", "be short"), ("user", "a pear?"), ("assistant", "fruit"), ("user", "and a saw?"),
     ("assistant", "a tool, of course")],
    [("user", "the saw" * 20), ("assistant", "tool"), ("user", "is it?"), ("assistant", "yes")],
]  # fmt: skip
PAIRS = [("the cat is", " an animal"), ("a", "b"), ("pear " * 40, "fruit</s>"), ("", "x")]


def chats() -> list[dict[str, Any]]:
    return [{"messages": [{"role": r, "content": c} for r, c in chat]} for chat in CHATS]


def alone(words: Any, messages: Any, limit: int) -> tuple[list[int], list[bool]]:
    """One chat by transformers' own rendering, turn by turn."""

    def render(part: Any, opened: bool) -> list[int]:
        found: list[int] = words.apply_chat_template(
            part, add_generation_prompt=opened, tokenize=True, return_dict=False
        )
        return found

    def common(one: list[int], other: list[int]) -> int:
        pairs = enumerate(zip(one, other, strict=False))
        return next((n for n, (a, b) in pairs if a != b), min(len(one), len(other)))

    tokens = render(messages, False)
    marks = [False] * len(tokens)
    for turn, message in enumerate(messages):
        if message["role"] == "assistant":
            begin = common(render(messages[:turn], True), tokens)
            end = common(render(messages[: turn + 1], False), tokens)
            marks[begin:end] = [True] * (end - begin)
    if words.chat_template == PLAIN_TEMPLATE and marks[-1]:
        tokens, marks = [*tokens, words.eos_token_id], [*marks, True]
    return tokens[:limit], marks[:limit]


@pytest.mark.parametrize("plain", [False, True])
@pytest.mark.parametrize("limit", [8, 20, 400])
def test_chats_at_once_are_what_transformers_makes_of_each_alone(plain: bool, limit: int) -> None:
    words = tokenizer(chat=True)
    if plain:
        words.chat_template = PLAIN_TEMPLATE
    for row, encoded in zip(
        chats(), encode(words, chats(), "messages", Reading(limit)), strict=True
    ):
        tokens, marks = alone(words, row["messages"], limit)
        assert (encoded.tokens.tolist(), encoded.answer.tolist()) == (tokens, marks)


def test_pairs_and_texts_are_what_transformers_makes_of_each_alone() -> None:
    words = tokenizer()
    rows = [{"prompt": prompt, "completion": completion} for prompt, completion in PAIRS]
    for row, encoded in zip(
        rows, encode(words, rows, "prompt-completion", Reading(30)), strict=True
    ):
        closed = row["prompt"] + row["completion"].removesuffix("</s>") + "</s>"
        assert encoded.tokens.tolist() == words(closed)["input_ids"][:30]
        assert encoded.length == len(words(closed)["input_ids"])
    texts = [prompt for prompt, _ in PAIRS]
    cut = words(texts, truncation=True, max_length=30)["input_ids"]
    assert [ids.tolist() for ids, _ in encode_texts(words, texts, Reading(30))] == cut


@pytest.mark.parametrize("truncation", ["End", "Start", "Middle"])
def test_special_tokens_around_a_text_survive_every_cut(truncation: Any) -> None:
    from tokenizers import processors

    words = tokenizer()
    words.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", special_tokens=[("<s>", 1), ("</s>", 2)]
    )
    text = "the cat is an animal"
    whole = words(text)["input_ids"]
    ((ids, length),) = encode_texts(words, [text], Reading(5, truncation))
    wanted = {"End": whole[1:4], "Start": whole[-4:-1], "Middle": [*whole[1:3], whole[-2]]}
    assert length == len(whole) > 5
    assert ids.tolist() == [1, *wanted[truncation], 2]


@given(
    st.integers(0, 60), st.integers(8, 40), st.integers(0, 3), st.integers(0, 3),
    st.sampled_from(["End", "Start", "Middle", "Drop"]),
)  # fmt: skip
@settings(max_examples=200, deadline=None)
def test_a_cut_fills_the_limit_in_order(
    length: int, limit: int, head: int, tail: int, truncation: Any
) -> None:
    before = 5  # a row before it, which nothing is cut from
    lengths, heads = np.array([before, length]), np.array([0, head])
    stay = kept(lengths, Reading(limit, truncation), heads=heads, tail=tail)
    assert stay[:before].all()
    places = np.flatnonzero(stay[before:])
    if length <= limit:
        assert places.tolist() == list(range(length))
        return
    assert len(places) == (0 if truncation == "Drop" else limit)
    if truncation != "Drop":
        assert set(range(head)) | set(range(length - tail, length)) <= set(places.tolist())


def learned(loss_on: Any, row: dict[str, Any], shape: Any) -> str:
    words = tokenizer(chat=True)
    (encoded,) = encode(words, [row], shape, Reading(400, loss_on=loss_on))
    return str(words.decode(encoded.tokens[encoded.answer]))


def test_what_is_learned_is_by_choice() -> None:
    row = chats()[1]
    assert learned("Answers", row, "messages") == "fruit</s>a tool, of course</s>"
    assert learned("LastAnswer", row, "messages") == "a tool, of course</s>"
    assert learned("All", row, "messages").startswith("<system>be short</s><user>a pear?")
    pair = {"prompt": "the cat is", "completion": " an animal"}
    assert learned("LastAnswer", pair, "prompt-completion") == " an animal</s>"
    assert learned("All", pair, "prompt-completion") == "the cat is an animal</s>"


def test_of_a_plain_text_all_is_learned() -> None:
    words = tokenizer()
    (encoded,) = encode(words, [{"text": "the cat is"}], "text", Reading(64))
    assert words.decode(encoded.tokens[encoded.answer]) == "the cat is</s>"


def test_an_answer_that_is_compared_keeps_its_end_when_the_start_is_cut() -> None:
    words = tokenizer(chat=True)
    prompt = [{"role": "user", "content": "the cat " * 30}]
    (encoded,) = encode_answers(words, [(prompt, "animal")], Reading(12, "Start"))
    assert len(encoded.tokens) == 12 < encoded.length
    assert words.decode(encoded.tokens[encoded.answer]) == "animal</s>"


def test_a_chat_that_the_template_refuses_is_named() -> None:
    words = tokenizer(chat=True)
    words.chat_template = "{{ raise_exception('system turns are not supported') }}"
    with pytest.raises(TemplateRefuses, match=r"turns user: system turns are not"):
        encode(words, chats(), "messages", Reading(64))


def test_no_torch_is_loaded_for_the_writing_of_tokens(tmp_path: Path) -> None:
    import subprocess
    import sys

    code = "import sys, oikyo_trainer.data.tokenise; print('torch' in sys.modules)"
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert told.stdout.strip() == "False"
