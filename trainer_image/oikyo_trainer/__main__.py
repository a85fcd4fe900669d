"""python -m oikyo_trainer STAGE --spec spec.json --workspace DIR: one stage, the same everywhere."""

from __future__ import annotations

import argparse
import gc
import logging
import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NoReturn

from pydantic import ValidationError

from oikyo.api.stages import (
    PORT,
    TERMINATION_LOG,
    EvaluateSpec,
    LastWords,
    PrepareSpec,
    RunSpec,
    ServeSpec,
    TrainSpec,
)

from .errors import Refused
from .offline import go_offline
from .words import exit_code, failure_of, open_log, say

SPECS: dict[str, type[RunSpec] | type[ServeSpec]] = {
    "prepare": PrepareSpec,
    "train": TrainSpec,
    "evaluate": EvaluateSpec,
    "serve": ServeSpec,
}


def parser() -> argparse.ArgumentParser:
    command = argparse.ArgumentParser(prog="oikyo_trainer", description=__doc__)
    command.add_argument("stage", choices=tuple(SPECS))
    command.add_argument(
        "--spec", type=Path, required=True, help="spec.json, by the stage contract"
    )
    command.add_argument("--workspace", type=Path, required=True, help="root of the workspace")
    command.add_argument("--port", type=int, default=PORT, help="of /progress and /metrics; 0: any")
    command.add_argument("--termination-log", type=Path, default=None)
    return command


def main(argv: list[str] | None = None) -> int:
    """Run one stage; returns its exit code."""
    arguments = parser().parse_args(argv)
    logging.basicConfig(level=logging.INFO, format=log_format(os.environ))
    default = Path(TERMINATION_LOG)
    log_path = arguments.termination_log or (default if default.exists() else None)
    try:
        spec = read_spec(arguments.stage, arguments.spec)
    except Refused as error:
        return _refuse(arguments.stage, error, log_path)
    # Imported late: a stage pays for its own libraries alone.
    if isinstance(spec, ServeSpec):
        go_offline()
        with importing():
            from .serving.server import serve

        return serve(spec, arguments.workspace, log_path)
    with importing():
        from .stage import run_stage

        work = _function(arguments.stage)
    return run_stage(
        spec,
        work,
        workspace=arguments.workspace,
        port=arguments.port,
        termination_log=log_path,
    )


def log_format(environment: Mapping[str, str]) -> str:
    """Time, level, logger and sentence; the rank too, where several processes write into one log."""
    several = int(environment.get("WORLD_SIZE", "1")) > 1
    rank = f" rank={environment['RANK']}" if several else ""
    return f"%(asctime)s %(levelname)s %(name)s{rank} %(message)s"


def read_spec(stage: str, path: Path) -> RunSpec | ServeSpec:
    """The spec of `stage` from `path`; Refused, with every wrong field, when it is not one."""
    step = "Write the spec by the stage contract (oikyo.api.stages); oikyo itself always does"
    try:
        return SPECS[stage].model_validate_json(path.read_bytes())
    except OSError as error:
        message = f"the spec {path} cannot be read: {error.strerror}"
    except ValidationError as error:
        faults = "; ".join(_sentence(dict(detail)) for detail in error.errors()[:5])
        message = f"the spec {path} is not one of the stage {stage}: {faults}"
    raise Refused("InvalidSpec", message, next_step=step)


def _sentence(detail: dict[str, object]) -> str:
    location = detail["loc"]
    names = ".".join(str(part) for part in location) if isinstance(location, tuple) else ""
    value = repr(detail.get("input"))
    shown = value if len(value) <= 60 else value[:59] + "…"
    return f"{names or 'the document'} is {shown}: {detail['msg']}"


@contextmanager
def importing() -> Iterator[None]:
    """Import without looking for garbage, which there is none of: a tenth of the time.

    What was imported stays for good and is never looked through again.
    """
    before = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        if before:
            gc.enable()


def _refuse(stage: str, error: Refused, log_path: Path | None) -> int:
    words = LastWords.model_validate({"stage": stage, "failure": failure_of(error)})
    open_log(log_path)
    say(words, log_path)
    return exit_code(words)


def _function(stage: str):  # type: ignore[no-untyped-def]  # each stage takes its own spec
    if stage == "prepare":
        from .data.prepare import prepare

        return prepare
    go_offline()
    if stage == "train":
        from .training.train import train

        return train
    from .evaluation.evaluate import evaluate

    return evaluate


def end(code: int) -> NoReturn:
    """End the process as it stands: to take what it imported apart takes another 60 ms."""
    with suppress(OSError):  # nobody listens any more
        logging.shutdown()
        sys.stdout.flush()
        sys.stderr.flush()
    os._exit(code)


if __name__ == "__main__":
    code = main()
    # Others may have libraries that tidy up at the exit: trackers, torch's groups of processes.
    if sys.argv[1:2] == ["prepare"]:
        end(code)
    gc.unfreeze()  # what is never collected is told as leaked, sixty lines for each process
    sys.exit(code)
