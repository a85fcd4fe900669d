"""Probable label errors and outliers, against labels that a seeded generator flipped."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from oikyo_trainer.data.insight.features import features
from oikyo_trainer.data.insight.noise import label_errors, left_out, outliers
from oikyo_trainer.data.insight.suspects import conflicts, noise, ranked
from oikyo_trainer.data.insight.table import Table

SUBJECTS = {
    "card lost": "card wallet lost stolen missing gone replace pocket street thief block",
    "transfer late": "transfer payment pending late arrive bank friend days waiting sent",
    "pin forgotten": "pin code forgot reset attempts remember digits locked change machine",
    "rate": "exchange rate currency euro dollar convert abroad fee markup percent",
    "top up": "top add money balance salary deposit account cheque cash automatic",
    "close": "close account leave delete terminate unhappy service goodbye cancel profile",
}
COMMON = [
    "please",
    "how",
    "do",
    "i",
    "my",
    "the",
    "a",
    "can",
    "you",
    "help",
    "me",
    "with",
    "it",
    "is",
    "why",
    "what",
    "when",
    "now",
]


def a_table(count: int, seed: int = 5, texts: list[str] | None = None) -> Table:
    """Questions of six subjects that share most of their words."""
    random = np.random.default_rng(seed)
    names = tuple(SUBJECTS)
    codes = random.integers(0, len(names), count)
    made = [
        " ".join(
            random.permutation(
                [*random.choice(COMMON, 6), *random.choice(SUBJECTS[names[code]].split(), 3)]
            )
        )
        for code in codes
    ]
    return labelled(texts or made, codes, names)


def labelled(texts: list[str], codes: Any, names: tuple[str, ...]) -> Table:
    count = len(texts)
    return Table(
        shape="classification",
        ids=[f"{place:032x}" for place in range(count)],
        sources=[f"rows.csv:{place + 2}" for place in range(count)],
        sides=np.zeros(count, dtype=np.int8),
        texts=texts,
        answers=[names[code] for code in codes],
        lengths=np.array([len(text) for text in texts]),
        labels=names,
        codes=np.asarray(codes),
        total=count,
    )


def flipped(table: Table, share: float, seed: int = 9) -> tuple[Table, Any]:
    """The table with `share` of the labels wrong, and which."""
    random = np.random.default_rng(seed)
    rows = random.choice(len(table), int(share * len(table)), replace=False)
    codes = table.codes.copy()
    codes[rows] = (codes[rows] + random.integers(1, len(table.labels), len(rows))) % len(
        table.labels
    )
    return labelled(table.texts, codes, table.labels), rows


def test_most_rows_at_the_top_of_the_list_are_the_flipped_ones() -> None:
    true = a_table(1500)
    table, wrong = flipped(true, 0.1)
    seen = features(table.texts)
    assert seen is not None
    found = label_errors(table, seen.points)
    top = found.rows[: len(wrong)]
    assert np.isin(top, wrong).mean() >= 0.9
    right = found.suggested[: len(wrong)] == true.codes[top]
    assert right[np.isin(top, wrong)].mean() >= 0.9
    assert ((found.confidence >= 0) & (found.confidence <= 1)).all()


def test_no_row_is_judged_by_a_model_that_learnt_its_label() -> None:
    random = np.random.default_rng(3)
    points, codes = random.normal(size=(40, 6)), random.integers(0, 3, 40)
    every = left_out(points, codes, 3)
    for row in (0, 17, 39):
        changed = codes.copy()
        changed[row] = (codes[row] + 1) % 3
        # Its own label has no influence on what the model says of the row.
        assert left_out(points, changed, 3)[row] == pytest.approx(every[row])


def test_the_same_rows_give_the_same_ranking() -> None:
    table, _ = flipped(a_table(400), 0.1)
    first, second = (ranked(table, noise(table)) for _ in range(2))
    assert first == second
    assert first[0].why == ("probable-label-error",)


def test_of_very_many_classes_no_more_confidences_are_computed_than_fit(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    table, _ = flipped(a_table(600), 0.1)
    seen = features(table.texts)
    assert seen is not None
    monkeypatch.setattr("oikyo_trainer.data.insight.noise.CELLS", 300 * len(table.labels))
    found = label_errors(table, seen.points)
    assert len(found.rows)
    assert found.rows.max() < 300


def test_clean_and_distinct_classes_have_hardly_a_suspect() -> None:
    table = a_table(600)
    found = noise(table)
    assert found.errors is not None
    assert len(found.errors.rows) <= 0.02 * len(table)


def test_rows_about_something_else_are_outliers() -> None:
    table = a_table(600)
    strange = ["SELECT * FROM users", "zzxq wvvk jjhq"]
    texts = [*table.texts[:-2], *strange]
    found = noise(labelled(texts, table.codes, table.labels)).outliers
    assert found is not None
    assert set(found.rows.tolist()) == {598, 599}


def test_outliers_are_found_among_rows_without_labels_too() -> None:
    table = a_table(300)
    texts = [*table.texts[:-1], "SELECT * FROM users"]
    plain = labelled(texts, [0] * 300, ("",))
    seen = features(plain.texts)
    assert seen is not None
    assert outliers(plain, seen.points).rows.tolist() == [299]


def test_one_input_with_two_labels_is_a_conflict_and_one_label_is_none() -> None:
    table = labelled(["a b", "a  b", "c", "c"], [0, 1, 0, 0], ("x", "y"))
    assert conflicts(table) == ((0, 1),)


@pytest.mark.parametrize("texts", [["one", "two"], [""] * 20])
def test_texts_that_cannot_be_compared_are_left_alone(texts: list[str]) -> None:
    table = labelled(texts, [row % 2 for row in range(len(texts))], ("x", "y"))
    found = noise(table)
    assert found.errors is None
    assert found.outliers is None
