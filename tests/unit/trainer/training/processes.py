"""The train stage as processes of their own: alone, or as the gang that torchrun makes.

They are forked from one that has imported everything and done nothing: a gang by torchrun spends three
quarters of its time on imports. One test starts torchrun itself, and so do those of tests/cluster.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from kit.ports import free_port
from oikyo.api import workspace as layout
from oikyo.api.stages import LastWords, TrainResult

# Importing bitsandbytes takes the GPU where there is one, and a fork of that process could not use it.
FORKS: Any = multiprocessing.get_context("spawn" if torch.cuda.is_available() else "forkserver")
FORKS.set_forkserver_preload(
    [
        "oikyo_trainer.training.train",
        "torch.distributed.checkpoint.state_dict",
        "torch.distributed.fsdp",
        "torch.distributed.tensor.parallel",
        "transformers.models.llama.modeling_llama",
        "transformers.trainer",
    ]
)
LONGEST = 300
"""Seconds for a gang to end."""


def nothing() -> None:
    """To be done in a process before its stage: nothing."""


def words_of(lab: Any, spec: Any) -> list[str]:
    """The command line of the stage, with the spec in a file."""
    path: Path = lab.workspace / f"{spec.run}.json"
    path.write_text(lab.tokenised(spec).json_line())
    return ["train", "--spec", str(path), "--workspace", str(lab.workspace), "--port", "0"]


def stage_process(
    lab: Any, spec: Any, environment: dict[str, str] | None = None, first: Any = nothing
) -> Any:
    """The train stage as a process, not from this one: its compute threads would be dead after a fork."""
    return FORKS.Process(
        target=end_as_the_stage, args=(words_of(lab, spec), environment or {}, first)
    )


def end_as_the_stage(
    words: list[str], environment: dict[str, str], first: Callable[[], None]
) -> None:
    from oikyo_trainer.__main__ import main

    os.environ.update(environment)
    first()
    raise SystemExit(main(words))


def in_child(lab: Any, spec: Any, first: Callable[[], None] = nothing) -> bool:
    """Train in a process, which `first` may let end early. Whether it came to its end."""
    child = stage_process(lab, spec, first=first)
    child.start()
    child.join()
    assert child.exitcode in (0, -signal.SIGKILL, -signal.SIGALRM), child.exitcode
    return (lab.workspace / layout.stage(spec.run, "train") / layout.RESULT).exists()


# What ends or stops a training at a moment of its own is done inside its process: on a busy machine
# another process may come too late, and the training has gone further or has ended.


def killed_at(folder: Path, pattern: str) -> None:
    """SIGKILL this process once a path of this pattern is there."""

    def look() -> None:
        while not any(folder.glob(pattern)):
            time.sleep(0.002)
        os.kill(os.getpid(), signal.SIGKILL)

    threading.Thread(target=look, daemon=True).start()


def killed_after(seconds: float, folder: Path | None = None, after: int = 0) -> None:
    """This process is killed so long from now, or after a checkpoint beyond `after` began to be written.

    By a timer: the kernel ends it, whoever holds the interpreter's lock and whatever else runs.
    """

    def begun(folder: Path) -> bool:
        written = (path for path in folder.glob(".attempt-*/checkpoint-*") if path.is_dir())
        return any(int(path.name[11:]) > after for path in written)

    def look() -> None:
        while folder is not None and not begun(folder):
            time.sleep(0.002)
        signal.setitimer(signal.ITIMER_REAL, seconds)

    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    threading.Thread(target=look, daemon=True).start()


def stopped_in(folder: Path) -> None:
    """SIGSTOP this process when it first opens a file of a checkpoint that it writes to `folder`."""
    stops = iter([signal.SIGSTOP])

    def hear(event: str, arguments: tuple[Any, ...]) -> None:
        if event == "open" and str(arguments[0]).startswith(f"{folder}/checkpoint-"):
            for number in stops:
                os.kill(os.getpid(), number)

    sys.addaudithook(hear)


def stopped_behind(count: int) -> None:
    """SIGSTOP this process when so many checkpoints are committed."""
    from oikyo_trainer.training.checkpoint import Checkpoints

    commit, left = Checkpoints.commit, iter(range(1, count + 1))

    def committing(self: Checkpoints, saved: Any) -> None:
        commit(self, saved)
        if next(left, 0) == count:
            os.kill(os.getpid(), signal.SIGSTOP)

    Checkpoints.commit = committing  # type: ignore[method-assign]


def is_stopped(process: int) -> bool:
    return Path(f"/proc/{process}/stat").read_text().rpartition(") ")[2].startswith("T")


def gang(
    lab: Any, spec: Any, processes: int = 2, first: Callable[[], None] = nothing
) -> TrainResult:
    """Train on loopback by so many processes, with the environment that torchrun gives them."""
    port = str(free_port())
    ranks = [
        stage_process(lab, spec, environment(rank, processes, port), first)
        for rank in range(processes)
    ]
    for rank in ranks:
        rank.start()
    try:
        end = time.monotonic() + LONGEST
        while any(rank.is_alive() for rank in ranks):
            assert time.monotonic() < end, f"the gang did not end within {LONGEST} s"
            assert not any(rank.exitcode for rank in ranks), [rank.exitcode for rank in ranks]
            time.sleep(0.02)
        assert [rank.exitcode for rank in ranks] == [0] * processes
    finally:
        for rank in ranks:
            rank.kill()
            rank.join()
    return result_of(lab, spec)


def environment(rank: int, processes: int, port: str) -> dict[str, str]:
    place = {"RANK": str(rank), "LOCAL_RANK": str(rank)}
    size = {"WORLD_SIZE": str(processes), "LOCAL_WORLD_SIZE": str(processes)}
    return {
        **place,
        **size,
        "MASTER_ADDR": "localhost",
        "MASTER_PORT": port,
        "OMP_NUM_THREADS": "1",
    }


def result_of(lab: Any, spec: Any) -> TrainResult:
    """What the stage left behind."""
    path = lab.workspace / layout.stage(spec.run, "train") / layout.RESULT
    result = LastWords.model_validate_json(path.read_bytes()).result
    assert isinstance(result, TrainResult)
    return result
