"""A thousand ways to spoil a checkpoint, none of which passes for a good one; and what retention keeps then."""

from __future__ import annotations

import json
import os
import random
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from oikyo_trainer.training.checkpoint import Checkpoints, Damaged, Saved, in_use, reading, verify

NUMBER = 1000
RUN = "run-1"
MANIFEST = "manifest.json"


def save(checkpoints: Checkpoints, step: int, loss: float | None = None) -> Path:
    folder = checkpoints.staged(step)
    (folder / "global_step").mkdir(parents=True)
    (folder / "model.safetensors").write_bytes(random.Random(step).randbytes(600))
    (folder / "optimizer.pt").write_bytes(random.Random(-step).randbytes(900))
    (folder / "global_step" / "rank0.pt").write_bytes(b"moments of %d" % step)
    checkpoints.commit(Saved(step, epoch=step / 10, rows_seen=step, final=False, eval_loss=loss))
    return checkpoints.path(step)


def files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


def flip(folder: Path, dice: random.Random) -> None:
    path = dice.choice(files(folder))
    body = bytearray(path.read_bytes())
    body[dice.randrange(len(body))] ^= 1 << dice.randrange(8)
    path.write_bytes(body)


def cut(folder: Path, dice: random.Random) -> None:
    path = dice.choice(files(folder))
    os.truncate(path, dice.randrange(path.stat().st_size))


def grow(folder: Path, dice: random.Random) -> None:
    with dice.choice(files(folder)).open("ab") as file:
        file.write(dice.randbytes(dice.randint(1, 9)))


def blank(folder: Path, dice: random.Random) -> None:
    """A page of zeros: what a crash of the machine leaves of data that was not flushed."""
    path = dice.choice(files(folder))
    size = path.stat().st_size
    path.write_bytes(bytes(size))


def lose(folder: Path, dice: random.Random) -> None:
    dice.choice(files(folder)).unlink()


def add(folder: Path, dice: random.Random) -> None:
    place = dice.choice([folder, folder / "global_step", folder / "new"])
    place.mkdir(exist_ok=True)
    (place / dice.choice(["pytorch_model.bin", ".hidden", "rank1.pt"])).write_bytes(b"x")


def swap(folder: Path, dice: random.Random) -> None:
    """Two files of it, or one with that of another step."""
    mine = dice.choice(files(folder))
    theirs = dice.choice([folder, folder.parent / "checkpoint-8"]) / mine.relative_to(folder)
    if theirs == mine:
        theirs = next(path for path in files(folder) if path != mine)
    kept = mine.read_bytes()
    mine.write_bytes(theirs.read_bytes())
    theirs.write_bytes(kept)


def edit(folder: Path, dice: random.Random) -> None:
    """One value of the manifest, written as it would have been."""
    values = json.loads((folder / MANIFEST).read_bytes())
    name = dice.choice([key for key in values if key != "files"])
    old = values[name]
    values[name] = old + 1 if isinstance(old, int | float) else f"{old}!"
    entry = dice.choice(values["files"])
    if dice.random() < 0.5:
        entry["size"] += 1
    (folder / MANIFEST).write_text(json.dumps(values, indent=1))


def reform(folder: Path, dice: random.Random) -> None:
    """The same values in another form, or with a field more or less."""
    values = json.loads((folder / MANIFEST).read_bytes())
    name = dice.choice(list(values))
    changed = dice.choice(
        [values, {**values, "more": 1}, {k: v for k, v in values.items() if k != name}]
    )
    (folder / MANIFEST).write_text(json.dumps(changed, indent=dice.choice([2, 3, None])))


def rename(folder: Path, dice: random.Random) -> None:
    """The folder as that of another step, in its place."""
    other = folder.parent / "checkpoint-8"
    shutil.rmtree(folder)
    shutil.copytree(other, folder)


def foreign(folder: Path, dice: random.Random) -> None:
    """The same step of another run."""
    shutil.rmtree(folder)
    elsewhere = Checkpoints(folder.parent / "elsewhere", keep=9, run=f"run-{dice.randint(2, 9)}")
    save(elsewhere, 9).rename(folder)


def link(folder: Path, dice: random.Random) -> None:
    """A file, or the whole folder, as a link to the very same content elsewhere."""
    path = dice.choice([folder, *files(folder)])
    away = folder.parent / "away"
    path.rename(away)
    path.symlink_to(away)


DAMAGES: list[Callable[[Path, random.Random], None]] = [
    *(flip, cut, grow, blank, lose, add, swap, edit, reform, rename, foreign, link)
]


def test_none_of_a_thousand_spoilt_checkpoints_is_accepted(tmp_path: Path) -> None:
    good = tmp_path / "good"
    checkpoints = Checkpoints(good, keep=9, run=RUN)
    save(checkpoints, 8, 0.5)
    save(checkpoints, 9, 0.4)
    dice, accepted = random.Random(11), []
    for number in range(NUMBER):
        place = tmp_path / "spoilt"
        shutil.copytree(good, place)
        damage = DAMAGES[number % len(DAMAGES)]
        damage(place / "checkpoint-9", dice)
        try:
            verify(place / "checkpoint-9", run=RUN)
            accepted.append((number, damage.__name__))
        except Damaged:
            pass
        found = Checkpoints(place, keep=9, run=RUN).newest_good()
        untouched = damage is not swap  # which may spoil both
        assert found is None or found.step == 8, (number, damage.__name__)
        assert found is not None or not untouched, (number, damage.__name__)
        shutil.rmtree(place)
    assert not accepted


def test_a_pipe_in_place_of_a_file_is_refused_and_holds_nobody_up(tmp_path: Path) -> None:
    folder = save(Checkpoints(tmp_path, keep=2), 9)
    (folder / "optimizer.pt").unlink()
    os.mkfifo(folder / "optimizer.pt")
    with pytest.raises(Damaged, match=r"optimizer\.pt is no file"):
        verify(folder)


def test_a_kill_while_a_loss_is_added_leaves_the_checkpoint_good(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoints = Checkpoints(tmp_path, keep=2, run=RUN)
    folder = save(checkpoints, 9)

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "replace", killed)
    with pytest.raises(KeyboardInterrupt):
        checkpoints.set_eval_loss(9, 0.5)
    monkeypatch.undo()
    assert verify(folder, run=RUN).eval_loss is None
    checkpoints.set_eval_loss(9, 0.5)
    assert verify(folder, run=RUN).eval_loss == 0.5


Deed = st.tuples(
    st.sampled_from(["save", "save", "save", "spoil", "read", "full"]),
    st.integers(0, 9),
    st.none() | st.floats(0, 9, allow_nan=False),
)


@settings(max_examples=60, deadline=None)
@given(deeds=st.lists(Deed, min_size=3, max_size=14), keep=st.integers(2, 4))
def test_retention_keeps_the_last_two_good_ones_the_best_and_what_is_read(
    tmp_path_factory: pytest.TempPathFactory, deeds: list[tuple[str, int, float | None]], keep: int
) -> None:
    """Whatever is saved, spoilt, read and run out of, in any order."""
    checkpoints = Checkpoints(tmp_path_factory.mktemp("r"), keep=keep, run=RUN)
    losses: dict[int, float | None] = {}
    spoilt: set[int] = set()
    step = 0
    for deed, which, loss in deeds:
        good = sorted(good_ones(checkpoints))
        chosen = good[which % len(good)] if good else 0
        if deed == "spoil" and good:
            flip(checkpoints.path(chosen), random.Random(which))
            spoilt.add(chosen)
            continue
        step += 1
        if deed == "full":
            checkpoints.staged(step).mkdir(parents=True)
            checkpoints.give_up(step)
            assert not checkpoints.staged(step).exists()
        elif deed == "read" and good:
            with reading(checkpoints.path(chosen)):
                assert in_use(checkpoints.path(chosen))
                save(checkpoints, step, loss)
                assert checkpoints.path(chosen).exists()
            losses[step] = loss
        else:
            save(checkpoints, step, loss)
            losses[step] = loss
        written = [one for one in losses if one not in spoilt and one in {*good, step}]
        needed = set(sorted(written)[-2:])
        told = {one: value for one in written if (value := losses[one]) is not None}
        needed |= {min(told, key=lambda one: (told[one], one))} if told else set()
        assert needed <= good_ones(checkpoints)


def good_ones(checkpoints: Checkpoints) -> set[int]:
    found = set()
    for path in checkpoints.folder.glob("checkpoint-*"):
        try:
            found.add(verify(path, run=RUN).step)
        except Damaged:
            continue
    return found
