"""A checkpoint counts only when it is whole; retention never takes what may be needed."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from oikyo_trainer.errors import Stale
from oikyo_trainer.files import file_digest
from oikyo_trainer.training.checkpoint import (
    Checkpoints,
    Damaged,
    Saved,
    ranked,
    to_remove,
    verify,
)

LOSSES = st.dictionaries(
    st.integers(1, 200), st.none() | st.floats(0, 10, allow_nan=False), max_size=30
)


def save(checkpoints: Checkpoints, step: int, loss: float | None = None) -> Path:
    folder = checkpoints.staged(step)
    (folder / "global_step").mkdir(parents=True)
    (folder / "model.safetensors").write_bytes(bytes(range(100)) * step)
    (folder / "global_step" / "rank0.pt").write_bytes(b"moments")
    (folder / "training_args.bin").write_bytes(b"pickle")
    checkpoints.commit(Saved(step, epoch=step / 10, rows_seen=step, final=False, eval_loss=loss))
    return checkpoints.path(step)


@pytest.fixture
def checkpoints(tmp_path: Path) -> Checkpoints:
    return Checkpoints(tmp_path, keep=2, attempt=3, libraries={"torch": "2"})


@given(LOSSES, st.integers(0, 10))
def test_retention_keeps_the_newest_and_the_best(
    losses: dict[int, float | None], keep: int
) -> None:
    kept = set(losses) - to_remove(losses, keep=keep)
    newest = sorted(losses)[-max(2, keep) :]
    assert set(newest) <= kept
    measured = {step: loss for step, loss in losses.items() if loss is not None}
    if measured:
        assert min(measured, key=lambda step: (measured[step], step)) in kept
    assert len(kept) <= max(2, keep) + 1


@given(LOSSES)
def test_ranking_puts_the_least_loss_first_and_the_unmeasured_last(
    losses: dict[int, float | None],
) -> None:
    order = [losses[step] for step in ranked(losses)]
    measured = [loss for loss in order if loss is not None]
    assert order[: len(measured)] == sorted(measured)


def test_a_run_of_saves_keeps_the_last_two_and_the_best(checkpoints: Checkpoints) -> None:
    for step, loss in ((1, 0.9), (2, 0.3), (3, 0.5), (4, 0.6), (5, 0.7)):
        save(checkpoints, step, loss)
    assert sorted(path.name for path in checkpoints.folder.glob("checkpoint-*")) == [
        "checkpoint-2",
        "checkpoint-4",
        "checkpoint-5",
    ]
    best = checkpoints.best_good()
    assert best is not None
    assert (best.step, best.attempt, best.libraries) == (2, 3, {"torch": "2"})


def test_a_committed_checkpoint_verifies_and_holds_no_pickled_arguments(
    checkpoints: Checkpoints,
) -> None:
    manifest = verify(save(checkpoints, 4))
    assert [entry.name for entry in manifest.files] == ["global_step/rank0.pt", "model.safetensors"]


def cut(folder: Path) -> None:
    os.truncate(folder / "model.safetensors", 10)


def flip(folder: Path) -> None:
    body = bytearray((folder / "model.safetensors").read_bytes())
    body[7] ^= 1
    (folder / "model.safetensors").write_bytes(body)


def lose(folder: Path) -> None:
    (folder / "global_step" / "rank0.pt").unlink()


def add(folder: Path) -> None:
    (folder / "pytorch_model.bin").write_bytes(b"pickle")


def link(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder.parent / "elsewhere")
    (folder / "model.safetensors").symlink_to(folder.parent / "elsewhere")


def garble(folder: Path) -> None:
    (folder / "manifest.json").write_text("{")


@pytest.mark.parametrize(
    ("damage", "sentence"),
    [
        (cut, "model.safetensors has 10 bytes, 500 were written"),
        (flip, "model.safetensors has another content than was written"),
        (lose, "global_step/rank0.pt is missing"),
        (add, "pytorch_model.bin does not belong to it"),
        (link, "model.safetensors is a symbolic link"),
        (garble, "manifest.json cannot be read: Expecting property name enclosed in double quotes"),
    ],
)
def test_damage_is_found_said_and_passed_over(
    checkpoints: Checkpoints, damage: object, sentence: str
) -> None:
    save(checkpoints, 4)
    newest = save(checkpoints, 5)
    assert callable(damage)
    damage(newest)
    with pytest.raises(Damaged, match="^" + sentence.replace(".", r"\.")):
        verify(newest)
    found = checkpoints.newest_good()
    assert found is not None
    assert found.step == 4
    assert checkpoints.damaged[5].startswith(sentence)


@settings(deadline=None)  # files are written: a busy disk is no failure
@given(st.data())
def test_no_changed_byte_is_ever_accepted(tmp_path_factory: object, data: st.DataObject) -> None:
    assert isinstance(tmp_path_factory, pytest.TempPathFactory)
    checkpoints = Checkpoints(tmp_path_factory.mktemp("c"), keep=2)
    folder = save(checkpoints, 1)
    name = data.draw(st.sampled_from(["model.safetensors", "global_step/rank0.pt"]))
    body = bytearray((folder / name).read_bytes())
    body[data.draw(st.integers(0, len(body) - 1))] ^= data.draw(st.integers(1, 255))
    (folder / name).write_bytes(body)
    with pytest.raises(Damaged):
        verify(folder)


def test_a_half_written_folder_of_the_past_goes_and_a_newer_one_stays(
    checkpoints: Checkpoints,
) -> None:
    for step in (3, 9):
        checkpoints.path(step).mkdir(parents=True)
    save(checkpoints, 5)
    assert not checkpoints.path(3).exists()
    assert checkpoints.path(9).exists()


def test_what_an_earlier_attempt_left_half_written_goes_when_the_next_begins(
    checkpoints: Checkpoints,
) -> None:
    places = [checkpoints.folder / f".attempt-{number}" for number in (1, 2, 3, 4)]
    for place in places:
        (place / "checkpoint-7").mkdir(parents=True)
    checkpoints.sweep()
    assert [place.exists() for place in places] == [False, False, True, True]


def test_a_replaced_attempt_commits_nothing(checkpoints: Checkpoints) -> None:
    def replaced() -> None:
        raise Stale("StaleAttempt", "a newer attempt has begun")

    checkpoints.before_commit = replaced
    with pytest.raises(Stale):
        save(checkpoints, 5)
    assert checkpoints.newest_good() is None


def test_a_validation_measured_later_decides_which_is_best(checkpoints: Checkpoints) -> None:
    save(checkpoints, 4, 0.5)
    save(checkpoints, 5)
    checkpoints.set_eval_loss(5, 0.4)
    best = checkpoints.best_good()
    assert best is not None
    assert best.step == 5


def unreadable(monkeypatch: pytest.MonkeyPatch, *steps: int) -> None:
    """Bad sectors, which no file system of a test has."""

    def read(path: Path) -> str:
        if any(f"checkpoint-{step}/" in path.as_posix() for step in steps):
            raise OSError(errno.EIO, "Input/output error", str(path))
        return file_digest(path)

    monkeypatch.setattr("oikyo_trainer.training.manifest.file_digest", read)


def test_a_bad_sector_costs_its_checkpoint_and_not_the_run(
    checkpoints: Checkpoints, monkeypatch: pytest.MonkeyPatch
) -> None:
    for step, loss in ((1, 0.9), (2, 0.3)):
        save(checkpoints, step, loss)
    unreadable(monkeypatch, 2)
    newest, best = checkpoints.newest_good(), Checkpoints(checkpoints.folder, keep=2).best_good()
    assert newest is not None
    assert best is not None
    assert (newest.step, best.step) == (1, 1)
    assert "cannot be read: [Errno 5] Input/output error" in checkpoints.damaged[2]


def test_a_volume_that_cannot_be_read_at_all_begins_nothing_anew(
    checkpoints: Checkpoints, monkeypatch: pytest.MonkeyPatch
) -> None:
    save(checkpoints, 1)
    save(checkpoints, 2)
    unreadable(monkeypatch, 1, 2)
    with pytest.raises(OSError, match="Input/output error"):
        checkpoints.newest_good()
    assert checkpoints.path(1).exists()
    assert checkpoints.path(2).exists()
