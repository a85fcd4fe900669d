"""python -m oikyo_trainer STAGE --spec spec.json --workspace DIR: one stage, the same everywhere."""

from __future__ import annotations

import argparse
import logging
import sys
from pathlib import Path

from oikyo.api.stages import (
    PORT,
    TERMINATION_LOG,
    EvaluateSpec,
    PrepareSpec,
    RunSpec,
    ServeSpec,
    TrainSpec,
)

SPECS: dict[str, type[RunSpec] | type[ServeSpec]] = {
    "prepare": PrepareSpec,
    "train": TrainSpec,
    "evaluate": EvaluateSpec,
    "serve": ServeSpec,
}


def parser() -> argparse.ArgumentParser:
    command = argparse.ArgumentParser(prog="oikyo_trainer", description=__doc__)
    command.add_argument("stage", choices=tuple(SPECS))
    command.add_argument("--spec", type=Path, required=True, help="spec.json, by the stage contract")
    command.add_argument("--workspace", type=Path, required=True, help="root of the workspace")
    command.add_argument("--port", type=int, default=PORT, help="of /progress and /metrics; 0: any")
    command.add_argument("--termination-log", type=Path, default=None)
    return command


def main(argv: list[str] | None = None) -> int:
    """Run one stage; returns its exit code."""
    arguments = parser().parse_args(argv)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    spec = SPECS[arguments.stage].model_validate_json(arguments.spec.read_bytes())
    # Imported late: a stage pays for its own libraries alone.
    if isinstance(spec, ServeSpec):
        from .serving.server import serve

        return serve(spec, arguments.workspace)
    from .stage import run_stage

    default = Path(TERMINATION_LOG)
    log_path = arguments.termination_log or (default if default.exists() else None)
    return run_stage(
        spec,
        _function(arguments.stage),
        workspace=arguments.workspace,
        port=arguments.port,
        termination_log=log_path,
    )


def _function(stage: str):  # type: ignore[no-untyped-def]  # each stage takes its own spec
    if stage == "prepare":
        from .data.prepare import prepare

        return prepare
    if stage == "train":
        from .training.train import train

        return train
    from .evaluation.evaluate import evaluate

    return evaluate


if __name__ == "__main__":
    sys.exit(main())
