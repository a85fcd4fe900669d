"""The order of rows is a function of seed and epoch; padding carries no label and no attention."""

from __future__ import annotations

from itertools import chain

import numpy as np
from accelerate.data_loader import BatchSamplerShard
from hypothesis import given
from hypothesis import strategies as st
from torch.utils.data import BatchSampler

from oikyo_trainer.training.batches import (
    Collator,
    GroupedSampler,
    HeadedRows,
    epoch_order,
    named,
)

LENGTHS = st.lists(st.integers(1, 512), min_size=1, max_size=400)


@given(LENGTHS, st.integers(1, 40), st.integers(0, 5))
def test_every_row_comes_once_in_every_epoch(lengths: list[int], batch: int, epoch: int) -> None:
    order = epoch_order(lengths, batch=batch, seed=42, epoch=epoch)
    assert sorted(order) == list(range(len(lengths)))
    assert order == epoch_order(lengths, batch=batch, seed=42, epoch=epoch)


def test_epochs_and_seeds_differ() -> None:
    lengths = [5] * 100
    orders = {
        tuple(epoch_order(lengths, batch=10, seed=seed, epoch=epoch))
        for seed in (1, 2)
        for epoch in (0, 1)
    }
    assert len(orders) == 4


def test_rows_of_like_length_meet_in_a_step() -> None:
    lengths = np.random.default_rng(0).integers(1, 500, 32 * 64)
    order = np.asarray(epoch_order(lengths, batch=32, seed=1, epoch=0))
    steps = lengths[order].reshape(-1, 32)
    filled = steps.sum() / (steps.max(axis=1) * 32).sum()
    shuffled = np.random.default_rng(1).permutation(lengths).reshape(-1, 32)
    assert filled > 0.9 > shuffled.sum() / (shuffled.max(axis=1) * 32).sum()


def test_the_sampler_goes_by_the_epoch_it_was_told() -> None:
    sampler = GroupedSampler([3] * 50, batch=8, seed=1)
    first = list(sampler)
    sampler.set_epoch(1)
    assert list(sampler) != first
    sampler.set_epoch(0)
    assert list(sampler) == first
    assert len(sampler) == 50


@given(LENGTHS, st.integers(1, 4), st.integers(2, 4), st.integers(1, 3))
def test_processes_take_every_row_once_in_the_steps_of_one(
    lengths: list[int], micro: int, processes: int, accumulation: int
) -> None:
    batch = micro * processes * accumulation
    sampler = GroupedSampler(lengths, batch=batch, seed=1, together=micro * processes)
    dealt = [
        list(BatchSamplerShard(BatchSampler(sampler, micro, drop_last=False), processes, rank))
        for rank in range(processes)
    ]
    rounds = [list(chain(*parts)) for parts in zip(*dealt, strict=True)]
    assert {len(taken) for taken in rounds} == {micro * processes}
    learned = [[row for row, counts in map(named, taken) if counts] for taken in rounds]
    assert all(learned)
    assert list(chain(*learned)) == epoch_order(lengths, batch=batch, seed=1, epoch=0)


def test_a_silent_row_is_computed_and_has_no_label() -> None:
    rows = HeadedRows([{"input_ids": [5, 6], "labels": 2}, {"input_ids": [8], "labels": 0}])
    batch = Collator(0)([rows[0], rows[~1]])
    assert batch["input_ids"].tolist() == [[5, 6], [8, 0]]
    assert batch["attention_mask"].tolist() == [[1, 1], [1, 0]]
    assert batch["labels"].tolist() == [2, -100]


def test_rows_are_padded_on_the_right_without_label_or_attention() -> None:
    rows = [
        {"input_ids": [5, 6, 7], "labels": [-100, 6, 7]},
        {"input_ids": [8], "labels": [8]},
    ]
    batch = Collator(pad_token_id=9)(rows)
    assert batch["input_ids"].tolist() == [[5, 6, 7], [8, 9, 9]]
    assert batch["attention_mask"].tolist() == [[1, 1, 1], [1, 0, 0]]
    assert batch["labels"].tolist() == [[-100, 6, 7], [8, -100, -100]]


def test_class_labels_stay_one_for_each_row() -> None:
    batch = Collator(0)([{"input_ids": [5, 6], "labels": 2}, {"input_ids": [8], "labels": 0}])
    assert batch["labels"].tolist() == [2, 0]
