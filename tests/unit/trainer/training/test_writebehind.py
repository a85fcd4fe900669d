"""The copy is exact and its buffers are kept; a fault of the writing thread ends the training with its name."""

from __future__ import annotations

import errno
import threading
from pathlib import Path
from typing import Any

import pytest

from oikyo_trainer.errors import as_os_error, storage_fault

pytestmark = pytest.mark.slow


def pair() -> Any:
    """A model with tied weights and an optimizer that has made a step."""
    import torch

    model: Any = torch.nn.Sequential(torch.nn.Linear(4, 4), torch.nn.Linear(4, 4))
    model[1].weight = model[0].weight
    optimizer = torch.optim.AdamW(model.parameters())
    model(torch.ones(2, 4)).sum().backward()
    optimizer.step()
    return model, optimizer


def test_a_copy_is_equal_keeps_ties_and_does_not_follow_the_original() -> None:
    import torch

    from oikyo_trainer.training.writebehind import Buffers

    model, optimizer = pair()
    state, moments = Buffers().copy((model.state_dict(), optimizer.state_dict()))
    assert state["0.weight"].data_ptr() == state["1.weight"].data_ptr()
    assert state["0.weight"].data_ptr() != model[0].weight.data_ptr()
    assert torch.equal(state["0.weight"], model[0].weight)
    assert moments["param_groups"] == optimizer.state_dict()["param_groups"]
    before = state["0.weight"].clone()
    with torch.no_grad():
        model[0].weight.zero_()
    assert torch.equal(state["0.weight"], before)


def test_buffers_are_used_again_and_follow_a_change_of_shape() -> None:
    import torch

    from oikyo_trainer.training.writebehind import Buffers

    buffers = Buffers()
    first = buffers.copy({"a": torch.ones(3), "b": torch.ones(2)})
    again = buffers.copy({"a": torch.zeros(3), "b": torch.zeros(2)})
    assert first["a"].data_ptr() == again["a"].data_ptr()
    assert again["a"].sum() == 0
    other = buffers.copy({"a": torch.ones(5), "b": torch.ones(2)})
    assert other["a"].shape == (5,)
    assert other["b"].sum() == 2


def test_a_full_volume_is_told_as_such_at_the_next_wait(tmp_path: Path) -> None:
    from oikyo_trainer.training import writebehind

    model, optimizer = pair()
    model.save_pretrained = lambda *_, **__: None
    (tmp_path / writebehind.OPTIMIZER).symlink_to("/dev/full")
    behind = writebehind.WriteBehind()
    behind.hold(model, optimizer, tmp_path)
    committed: list[bool] = []
    behind.submit(lambda: committed.append(True))
    with pytest.raises(OSError, match="No space left") as full:
        behind.wait()
    assert full.value.errno == errno.ENOSPC
    told = storage_fault(full.value)
    assert told is not None
    assert told.reason == "WorkspaceFull"
    assert not committed
    behind.wait()  # told once


def test_the_training_goes_on_while_a_checkpoint_is_written(tmp_path: Path) -> None:
    from oikyo_trainer.training.writebehind import WriteBehind

    model, optimizer = pair()
    model.save_pretrained = lambda *_, **__: None
    behind, may_end, ended = WriteBehind(), threading.Event(), threading.Event()

    def commit() -> None:
        assert may_end.wait(60)
        ended.set()

    behind.hold(model, optimizer, tmp_path)
    behind.submit(commit)
    assert not ended.is_set()
    may_end.set()
    behind.wait()
    assert ended.is_set()


@pytest.mark.parametrize(
    ("text", "number"),
    [
        (
            "Error while serializing: I/O error: No space left on device (os error 28)",
            errno.ENOSPC,
        ),
        ("I/O error: Input/output error (os error 5)", errno.EIO),
    ],
)
def test_faults_of_rust_code_become_those_of_the_system(text: str, number: int) -> None:
    fault = as_os_error(RuntimeError(text))
    assert isinstance(fault, OSError)
    assert fault.errno == number


def test_a_state_that_would_fill_the_memory_is_not_copied() -> None:
    import torch

    from oikyo_trainer.training.writebehind import fits_in_memory, free_memory

    weights = [torch.zeros(1000)]
    assert fits_in_memory(weights, 48_000)
    assert not fits_in_memory(weights, 47_999)
    assert fits_in_memory(weights, 48_000, coming=36_000)
    assert not fits_in_memory(weights, 48_000, coming=36_001)
    assert free_memory() > 0


@pytest.mark.slow
@pytest.mark.parametrize(("gibibytes", "copies"), [(2, True), (40, False)])
def test_a_copy_takes_no_memory_that_the_training_has_yet_to_take(
    lab: Any, monkeypatch: pytest.MonkeyPatch, gibibytes: int, copies: bool
) -> None:
    from oikyo_trainer.training import running

    made: list[Any] = []
    before = running._behind

    def behind(*given: Any) -> Any:
        made.append(before(*given))
        return made[-1]

    monkeypatch.setattr(running, "free_memory", lambda: 20 << 30)
    monkeypatch.setattr(running, "foreseen", lambda setting: gibibytes << 30)
    monkeypatch.setattr(running, "_behind", behind)
    result = lab.train(lab.spec("TextClassification", method="Full", max_steps=2))
    assert (made[0] is not None) is copies
    told = {metric.name: float(metric.value) for metric in result.metrics}
    assert told["predicted_memory_bytes"] > 960 << 20
