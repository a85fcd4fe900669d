"""General rows: measured from step 0 on, mixed into the one order of rows, and the choice that keeps to a bound."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import pytest

from oikyo.api import workspace as layout
from oikyo.api.stages import TrainResult
from oikyo_trainer.training.forgetting import EVAL_GENERAL_LOSS, choice
from oikyo_trainer.training.interpolation import Point, Settled, taken
from oikyo_trainer.training.replay import Mixed, replayed
from oikyo_trainer.training.tokenfiles import SplitWriter, TokenRows, open_rows
from unit.trainer.training.conftest import Lab
from unit.trainer.training.general import a_base_that_knows, with_general
from unit.trainer.training.processes import in_child, killed_at

pytestmark = pytest.mark.timeout(300)
RATES = {"Full": "5e-3", "LoRA": "4e-3"}
BOUNDS = {"Full": "1.2", "LoRA": "0.7"}
"""Of the general loss, so that neither the tuned weights nor only the nearest to the base keep to it."""


def curve(lab: Lab, run: str) -> dict[int, float]:
    """The general loss by step; each step once."""
    path = lab.workspace / layout.stage(run, "train") / layout.HISTORY
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    found = [(e["step"], e[EVAL_GENERAL_LOSS]) for e in lines if EVAL_GENERAL_LOSS in e]
    assert len(found) == len(dict(found))
    return dict(found)


def same(one: dict[str, Any], other: dict[str, Any]) -> bool:
    import torch

    return one.keys() == other.keys() and all(torch.equal(one[n], other[n]) for n in one)


@dataclass(frozen=True)
class Free:
    """A training that nothing held back, from a base that knows the general texts."""

    lab: Lab
    base: str
    best_step: int
    levers: tuple[str, ...]
    rises: dict[int, float]
    """Of the general loss, by step."""


@pytest.fixture(scope="module")
def free(tmp_path_factory: pytest.TempPathFactory) -> Free:
    lab = Lab(tmp_path_factory.mktemp("free"))
    base = a_base_that_knows(lab)
    spec = with_general(lab, "free", base=base, general={"replay": "0", "maxIncrease": "100"})
    result = lab.train(spec)
    return Free(lab, base, result.best_step, result.levers, rises(lab, "free"))


def rises(lab: Lab, run: str) -> dict[int, float]:
    seen = curve(lab, run)
    assert min(seen) == 0, "the base was not measured"
    return {step: loss - seen[0] for step, loss in seen.items() if step}


@pytest.mark.slow
def test_replay_keeps_what_a_training_without_it_forgets(free: Free) -> None:
    spec = with_general(free.lab, "replayed", base=free.base, general={"replay": "0.2"})
    result = free.lab.train(spec)
    last = max(free.rises)
    assert free.rises[last] > 0.5
    assert rises(free.lab, "replayed")[last] < 0.5 * free.rises[last]
    assert result.levers[0].startswith("replay 0.2: 24 general rows (24 different")
    assert not any(said.startswith("replay") for said in free.levers)


@pytest.mark.slow
def test_the_best_checkpoint_is_one_that_keeps_to_the_bound(free: Free) -> None:
    least = min(free.rises.values())
    assert free.rises[free.best_step] > least

    def held(run: str, bound: str) -> TrainResult:
        general = {"replay": "0", "maxIncrease": bound}
        return free.lab.train(with_general(free.lab, run, base=free.base, general=general))

    bound = f"{(least + free.rises[free.best_step]) / 2:.4f}"
    kept = held("kept", bound)
    assert free.rises[kept.best_step] <= float(bound) < free.rises[free.best_step]
    assert f"it would have been step {free.best_step}" in kept.levers[0]
    # No checkpoint can keep to it: the least rise is taken, and said to be too much.
    none = held("none", "0.0001")
    assert free.rises[none.best_step] == least
    assert none.levers[0].startswith("best checkpoint: none keeps to the bound")


@pytest.mark.slow
@pytest.mark.parametrize("method", ["Full", "LoRA"])
def test_interpolation_takes_the_weights_back_within_the_bound(free: Free, method: str) -> None:
    import torch
    from safetensors.torch import load_file

    bound = BOUNDS[method]
    general = {"replay": "0", "maxIncrease": bound, "interpolation": "Auto"}
    more = {"method": method, "epochs": 2, "learning_rate": RATES[method]}
    spec = with_general(free.lab, f"back-{method}", base=free.base, general=general, **more)
    result = free.lab.train(spec)
    assert max(rises(free.lab, spec.run).values()) > float(bound)
    (said,) = result.levers
    assert said.startswith("interpolation 0."), said
    factor = float(said.split()[1].rstrip(":"))
    assert factor in (0.2, 0.4, 0.6, 0.8)
    back = free.lab.weights(result)
    base = load_file(free.lab.workspace / layout.model(free.base) / "model.safetensors")
    if method == "Full":
        place = free.lab.workspace / layout.checkpoints(spec.run)
        tuned = load_file(place / f"checkpoint-{result.best_step}" / "model.safetensors")
        for name, value in back.items():
            assert torch.allclose(value, base[name].lerp(tuned[name], factor), atol=1e-6), name
    else:
        assert not (free.lab.workspace / result.model_path).with_name("adapter").exists()


def test_of_the_factors_that_keep_to_the_bound_the_best_for_the_task_is_taken() -> None:
    points = [
        Point(1.0, 1.0, 0.9),
        Point(0.8, 1.1, 0.2),
        Point(0.6, 1.05, 0.1),
        Point(0.2, 2.0, 0.0),
    ]
    assert taken(points, 1.0).factor == 1.0
    assert taken(points, 0.2).factor == 0.6
    assert taken(points, 0.05).factor == 0.2
    assert taken(points, -0.1).factor == 1.0  # nothing keeps to it: the verdict says so
    assert "no factor keeps to the bound" in Settled(tuple(points), points[0]).sentence(0.0)


@pytest.mark.slow
def test_a_killed_training_with_replay_ends_in_the_same_bits(lab: Lab) -> None:
    more: dict[str, Any] = {"epochs": 2, "general": {"replay": "0.2"}}
    whole = lab.train(with_general(lab, "whole", **more))
    spec = with_general(lab, "cut", **more)
    place = lab.workspace / layout.checkpoints("cut")
    for attempt in (1, 2):
        after = 6 * attempt
        again = spec.model_copy(update={"attempt": attempt})
        assert not in_child(lab, again, partial(killed_at, place, f"checkpoint-{after}"))
    resumed = lab.train(spec.model_copy(update={"attempt": 3}))
    assert resumed.best_step == whole.best_step
    assert same(lab.weights(whole), lab.weights(resumed))
    assert curve(lab, "whole") == curve(lab, "cut")


def test_mixed_rows_are_the_rows_of_their_parts(tmp_path: Any) -> None:
    def rows(name: str, *given: tuple[list[int], list[int]]) -> TokenRows:
        with SplitWriter(tmp_path, name, "marks") as writer:
            for tokens, marks in given:
                writer.add(tokens, [len(tokens)], marks)
        return open_rows(tmp_path, name)

    one = rows("one", ([1, 2, 3], [0, 1, 1]), ([4, 5], [0, 1]))
    other = rows("other", ([6], [1]), ([7, 8, 9, 10], [1, 1, 0, 1]))
    mixed = Mixed((one, other.take(np.array([1, 1, 0]))))
    assert len(mixed) == 5
    assert mixed.lengths.tolist() == [3, 2, 4, 4, 1]
    assert mixed.labelled.tolist() == [2, 1, 2, 2, 0]
    assert [mixed[row]["input_ids"].tolist()[0] for row in range(5)] == [1, 4, 7, 7, 6]
    assert mixed[3]["labels"].tolist() == [7, 8, -100, 10]
    taken = mixed.take(np.array([4, 0]))
    assert (taken.lengths.tolist(), taken[0]["input_ids"].tolist()) == ([1, 3], [6])
    assert taken.marked(1)[1].tolist() == [False, True, True]


def test_a_share_counts_among_all_rows() -> None:
    assert [replayed(share, 900) for share in ("0", "0.1", "0.25", "0.5")] == [0, 100, 300, 900]


def test_the_choice_says_what_it_cost() -> None:
    lines = [
        {"step": 0, EVAL_GENERAL_LOSS: 2.0},
        {"step": 10, "eval_loss": 1.5, EVAL_GENERAL_LOSS: 2.05},
        {"step": 20, "eval_loss": 1.2, EVAL_GENERAL_LOSS: 2.4},
    ]
    (said,) = choice(lines, 10, 0.1, "loss")
    assert said == (
        "best checkpoint: step 10, general loss +0.05 against step 0 (bound +0.1), of 20; by its loss alone "
        "it would have been step 20 with +0.4"
    )
    assert next(choice(lines, 20, 0.5, "loss")).endswith("(bound +0.5)")
    assert list(choice([], 10, 0.1, "loss")) == []
