"""Terms and their weights are scikit-learn's; the directions hold what an exact SVD does."""

from __future__ import annotations

import random

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse
from sklearn.feature_extraction.text import TfidfVectorizer

from oikyo_trainer.data.insight.features import common_letters, common_words, features, table
from oikyo_trainer.data.insight.terms import count, directions, only, rarity, words

TEXTS = st.lists(st.text("abcAB \u00e4\u00df_\t-1", max_size=40), max_size=12)


def of_words() -> TfidfVectorizer:
    pattern = r"(?u)\b\w+\b"
    return TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True, min_df=2, token_pattern=pattern)


def of_letters() -> TfidfVectorizer:
    return TfidfVectorizer(analyzer="char_wb", ngram_range=(3, 5), sublinear_tf=True, min_df=3)


@settings(deadline=None, max_examples=200)
@given(texts=TEXTS)
def test_the_tables_are_those_of_scikit_learn(texts: list[str]) -> None:
    for found, theirs in ((common_words(texts), of_words()), (common_letters(texts), of_letters())):
        own = table(found, rarity(found)).toarray()
        try:
            expected = theirs.fit_transform(texts).toarray()
        except ValueError:  # no term stands in enough texts
            assert own.shape == (len(texts), 0)
            continue
        assert found.terms == tuple(theirs.get_feature_names_out())
        np.testing.assert_allclose(own, expected, atol=1e-6)


def test_other_texts_are_weighed_by_the_first() -> None:
    known, asked = ["a lost card", "a lost pin", "my card"], ["another lost card", "none", ""]
    found = common_words(known)
    own = table(only(count(map(words, asked)), found.terms), rarity(found)).toarray()
    np.testing.assert_allclose(own, of_words().fit(known).transform(asked).toarray(), atol=1e-6)


def test_of_too_many_terms_the_most_frequent_stay() -> None:
    texts = ["b b b a c", "b a d", "a b", "c d", "c d"]
    assert common_words(texts, most=2).terms == ("a", "b")


def test_the_directions_hold_nearly_what_the_best_ones_do() -> None:
    dice = random.Random(5)
    names = [f"word{n}" for n in range(400)]
    texts = [" ".join(dice.sample(names[i % 7 * 40 :][:120], 9)) for i in range(500)]
    found = common_words(texts)
    dense = table(found, rarity(found)).toarray()
    best = np.sum(np.linalg.svd(dense, compute_uv=False)[:20] ** 2)
    for made in (dense, sparse.csr_matrix(dense)):
        held = [np.sum(directions(made, 20, rounds, 0) ** 2) / best for rounds in (0, 2, 30)]
        assert held == sorted(held)
        assert held[1] > 0.85
        assert 0.99 < held[2] < 1.0001


def test_texts_that_are_all_alike_have_one_direction() -> None:
    seen = features(["the same words in every text"] * 40)
    assert seen is not None
    assert seen.points.shape == (40, 1)
    np.testing.assert_allclose(np.abs(seen.points), 1.0, atol=1e-5)
