"""A real volume without room: no torn checkpoint, no lost bit, and a sentence that says how much is missing."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from oikyo.api import workspace as layout
from oikyo.api.stages import Failure
from oikyo_trainer.errors import Retry
from oikyo_trainer.training import fullvolume
from oikyo_trainer.training.checkpoint import verify

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(180),
    pytest.mark.skipif(os.geteuid() != 0, reason="a small volume is mounted for real"),
]
SETTINGS: dict[str, Any] = {
    "method": "Full",
    "max_steps": 40,
    "learning_rate": "3e-3",
    "checkpoints": {"every_steps": 5, "keep": 2},
}


@pytest.fixture
def volume(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "volume"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=16m", "tmpfs", str(folder)]
    subprocess.run(mount, check=True)
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


class Ballast:
    """A file that takes all the room that there is."""

    def __init__(self, volume: Path) -> None:
        self._path = volume / "ballast"

    def fill(self) -> None:
        with self._path.open("ab", buffering=0) as file:
            try:
                while file.write(bytes(4096)):
                    pass
            except OSError:
                return

    def remove(self) -> None:
        self._path.unlink(missing_ok=True)


class Story:
    """A training on the small volume, with something that happens at some of its steps."""

    def __init__(self, lab: Any, volume: Path) -> None:
        self.lab = type(lab)(volume)
        self.ballast = Ballast(volume)
        self.told: list[Failure | None] = []
        self.on_trouble: Callable[[int], None] = lambda times: None

    def train(self, deeds: dict[int, Callable[[], None]], attempt: int = 1) -> Any:
        from oikyo_trainer.training.train import train

        spec = self.lab.spec("TextClassification", attempt=attempt, **SETTINGS)
        context = self.lab.context(spec)
        update, tell, left = context.reporter.update, context.reporter.tell, dict(deeds)

        def watch(**values: Any) -> None:
            update(**values)
            for step in [step for step in left if (values.get("step") or 0) >= step]:
                left.pop(step)()

        def hear(reason: str, trouble: Failure | None) -> None:
            tell(reason, trouble)
            self.told.append(trouble)
            self.on_trouble(sum(one is not None for one in self.told))

        context.reporter.update, context.reporter.tell = watch, hear
        return train(self.lab.tokenised(spec), context)

    def steps(self) -> list[int]:
        """Of the checkpoints that count, each of which must be whole."""
        folder = self.lab.workspace / layout.checkpoints("run-1")
        found = [path for path in folder.glob("checkpoint-*") if (path / layout.MANIFEST).exists()]
        return sorted(verify(path).step for path in found)


@pytest.fixture
def story(lab: Any, volume: Path, monkeypatch: pytest.MonkeyPatch) -> Story:
    from oikyo_trainer.training import callbacks

    monkeypatch.setattr(callbacks, "SECONDS_BETWEEN_AGREEMENTS", 0)
    monkeypatch.setattr(callbacks, "LOG_SECONDS", 0.0)
    monkeypatch.setattr(fullvolume, "LOOK_SECONDS", 0.1)
    return Story(lab, volume)


@pytest.fixture
def whole(lab: Any) -> dict[str, Any]:
    """The weights of the same training with room enough."""
    weights: dict[str, Any] = lab.weights(
        lab.train(lab.spec("TextClassification", run="whole", **SETTINGS))
    )
    return weights


def assert_same_bits(left: dict[str, Any], right: dict[str, Any]) -> None:
    import torch

    assert left.keys() == right.keys()
    assert all(torch.equal(left[name], right[name]) for name in left)


def test_a_training_goes_on_over_a_full_volume_and_loses_no_bit(
    story: Story, whole: dict[str, Any]
) -> None:
    kept: list[list[int]] = []

    def look() -> None:
        kept.append(story.steps())
        story.ballast.remove()

    result = story.train({12: story.ballast.fill, 28: look})
    assert_same_bits(whole, story.lab.weights(result))
    assert kept[0][-2:] == [5, 10]
    assert 40 in story.steps()
    trouble = next(one for one in story.told if one)
    assert trouble.reason == "WorkspaceFull"
    assert trouble.message == (
        "the workspace is full: checkpoint-15 needs 1 MiB and 0 MiB are free; the checkpoint of "
        "step 10 is kept, the training goes on and tries again"
    )
    assert trouble.next_step.startswith("Free at least 1 MiB in the workspace or enlarge it")
    assert story.told[-1] is None


def test_the_last_checkpoint_waits_for_room(story: Story, whole: dict[str, Any]) -> None:
    story.on_trouble = lambda times: story.ballast.remove() if times == 3 else None
    result = story.train({36: story.ballast.fill})
    assert_same_bits(whole, story.lab.weights(result))
    assert len(story.told) == 4
    assert story.told[-1] is None


def test_without_room_at_the_end_the_attempt_fails_in_words_and_the_next_goes_on(
    story: Story, whole: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fullvolume, "WAIT_SECONDS", 0.5)
    with pytest.raises(Retry, match="the workspace is full: checkpoint-40 needs") as full:
        story.train({33: story.ballast.fill})
    assert full.value.reason == "WorkspaceFull"
    assert story.steps()[-1] == 30
    story.ballast.remove()
    assert_same_bits(whole, story.lab.weights(story.train({}, attempt=2)))


def test_a_stop_on_a_full_volume_is_a_stop_and_says_what_is_kept(story: Story) -> None:
    import signal

    def stop() -> None:
        story.ballast.fill()
        os.kill(os.getpid(), signal.SIGTERM)

    with pytest.raises(Retry) as stopped:
        story.train({17: stop})
    assert stopped.value.reason == "Stopped"
    assert "the checkpoint is of step 15" in stopped.value.message
    assert story.steps()[-1] == 15
