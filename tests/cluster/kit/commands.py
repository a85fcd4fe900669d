"""Runs programs and waits for conditions; every failure becomes a KitError with the output."""

import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from kit.errors import KitError

Done = subprocess.CompletedProcess[str]


def say(message: str) -> None:
    """Print one line of progress; standard output stays free for answers."""
    print(message, file=sys.stderr, flush=True)


def run(
    *command: str | Path,
    check: bool = True,
    stdin: str | None = None,
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
) -> Done:
    """Run a program to its end and return what it said."""
    words = [str(word) for word in command]
    try:
        done = subprocess.run(
            words,
            input=stdin,
            cwd=cwd,
            env={**os.environ, **(env or {})},
            capture_output=True,
            text=True,
            check=False,
        )
    except FileNotFoundError as error:
        raise KitError(f"{words[0]} is not on this machine; install it and try again") from error
    if check and done.returncode != 0:
        raise KitError(failure(words, done))
    return done


def failure(words: Sequence[str], done: Done) -> str:
    """Say which command failed and show the end of what it wrote."""
    said = (done.stderr.strip() or done.stdout.strip() or "it said nothing")[-2000:]
    return f"`{' '.join(words)[:300]}` ended with {done.returncode}: {said}"


def wait_until(
    condition: Callable[[], bool], *, what: str, seconds: float, interval: float = 0.1
) -> None:
    """Return once the condition holds; raise a KitError naming `what` after that many seconds."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise KitError(f"waited {seconds:.0f} s for {what} in vain")
        time.sleep(interval)
