"""Scores of text against values worked out by hand or by the reference implementation."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from oikyo_trainer.evaluation.text_scores import bleu, exact_match, rouge_l, rouge_l_of

TEXT = st.text(alphabet="ab c", max_size=12)


@pytest.mark.parametrize(
    ("answer", "reference", "wanted"),
    [
        # Lin 2004, section 3.1: LCS 3 of 4 and 2 of 4 words.
        ("police kill the gunman", "police killed the gunman", 0.75),
        ("the gunman kill police", "police killed the gunman", 0.5),
        # rouge_score's own example: precision 3/5, recall 3/6 -> 6/11.
        ("the cat was on mat", "the cat sat there on mats", 6 / 11),
        ("the quick fox", "the quick brown fox", 6 / 7),
        ("Same, WORDS!", "same words", 1.0),
        ("", "anything", 0.0),
        ("anything", "", 0.0),
        ("", "", 0.0),
    ],
)
def test_rouge_l_has_known_values(answer: str, reference: str, wanted: float) -> None:
    assert rouge_l_of(answer, reference) == pytest.approx(wanted)


@given(TEXT, TEXT)
def test_rouge_l_is_a_symmetric_share(one: str, other: str) -> None:
    score = rouge_l_of(one, other)
    assert 0 <= score <= 1
    assert score == pytest.approx(rouge_l_of(other, one))


def test_rouge_l_of_a_corpus_is_the_mean_over_rows() -> None:
    assert rouge_l(["a b", "x"], ["a b", "y"]) == pytest.approx(0.5)


def test_bleu_is_from_0_to_100() -> None:
    text = ["the quick brown fox jumps over the lazy dog"]
    assert bleu(text, text) == pytest.approx(100)
    assert bleu(["something else entirely here"], text) < 5


def test_exact_match_ignores_only_outer_space() -> None:
    assert exact_match([" a b\n", "a  b", "A b"], ["a b"] * 3) == pytest.approx(1 / 3)


def test_no_rows_have_no_score() -> None:
    assert math.isnan(exact_match([], []))
    assert math.isnan(rouge_l([], []))
