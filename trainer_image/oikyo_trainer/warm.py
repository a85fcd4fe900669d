"""python -m oikyo_trainer.warm: import the trainer once, then fork a stage for each line on standard input.

Importing torch and transformers costs seconds, forking what has imported them 0.1 s. The desktop starts
this process while the prepare stage runs, so that train and evaluate begin at once. It computes nothing
itself: a thread pool that exists before the fork would be a dead one in the child. So would a GPU's context, which
bitsandbytes takes as it is imported: then this process ends, and stages start the plain way.

In:  {"argv": ["train", ...], "log": "/path"}     Out: {"ready": true}, {"pid": 7}, {"pid": 7, "exit": 0}
It ends when standard input ends; stages that still run go on without it.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import json
import logging
import os
import selectors
import signal
import sys
from typing import NoReturn, TextIO

from .__main__ import main as run_stage
from .offline import go_offline

PRELOAD = (
    "torch",
    "pyarrow.parquet",
    "sklearn.metrics",
    "peft",
    "datasets",
    "transformers.models.auto",
    "transformers.trainer",
    "oikyo_trainer.training.train",
    "oikyo_trainer.evaluation.evaluate",
)
"""Modules that the stages import sooner or later."""


def preload() -> None:
    go_offline()
    for name in PRELOAD:
        # What cannot be imported here fails in the stage that needs it, with its own message.
        with contextlib.suppress(ImportError):
            importlib.import_module(name)
    gc.collect()
    # Otherwise the first collection in a child would touch, and so copy, every page.
    gc.freeze()


def holds_gpu() -> bool:
    """Whether this process has a context on a GPU, which no fork of it could use."""
    torch = sys.modules.get("torch")
    return torch is not None and bool(torch.cuda.is_initialized())


def serve(answers: TextIO) -> list[str] | None:
    """Fork a stage for each request; returns None at the end, and in each child its arguments."""
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    signal.set_wakeup_fd(writer)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    with selectors.DefaultSelector() as selector:
        selector.register(sys.stdin, selectors.EVENT_READ)
        selector.register(reader, selectors.EVENT_READ)
        while True:
            ready = [key.fileobj for key, _ in selector.select()]
            if reader in ready:
                os.read(reader, 4096)
                _reap(answers)
            if sys.stdin in ready:
                line = sys.stdin.readline()
                if not line:
                    return None
                request = json.loads(line)
                if (pid := os.fork()) == 0:
                    _become_stage(request["log"], (reader, writer))
                    return list(request["argv"])
                _say(answers, {"pid": pid})


def _reap(answers: TextIO) -> None:
    with contextlib.suppress(ChildProcessError):
        while (ended := os.waitpid(-1, os.WNOHANG))[0]:
            _say(answers, {"pid": ended[0], "exit": os.waitstatus_to_exitcode(ended[1])})


def _say(answers: TextIO, message: dict[str, object]) -> None:
    answers.write(json.dumps(message) + "\n")
    answers.flush()


def _become_stage(log: str, pipes: tuple[int, int]) -> None:
    """Undo what makes this process a server: its session, signals and open files."""
    os.setsid()
    signal.set_wakeup_fd(-1)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    for descriptor in pipes:
        os.close(descriptor)
    null, output = os.open(os.devnull, os.O_RDONLY), os.open(log, os.O_WRONLY | os.O_APPEND)
    for source, target in ((null, 0), (output, 1), (output, 2)):
        os.dup2(source, target)
    os.close(null)
    os.close(output)


def main() -> NoReturn:
    # Libraries print; the answers get a descriptor of their own, and prints go to standard error.
    with os.fdopen(os.dup(1), "w", encoding="utf-8") as answers:
        os.dup2(2, 1)
        preload()
        if holds_gpu():
            raise SystemExit(
                "a library took the GPU as it was imported: stages start the plain way"
            )
        _say(answers, {"ready": True})
        argv = serve(answers)
    code = 0 if argv is None else run_stage(argv)
    logging.shutdown()
    sys.stdout.flush()
    # Taking the frozen heap apart would cost time, and prints of leaks, in every child.
    os._exit(code)


if __name__ == "__main__":
    main()
