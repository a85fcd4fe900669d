"""python -m oikyo_trainer.training.export: a model that anyone can load, out of any checkpoint, at any moment.

Reads the spec of a train stage (spec.json, in a worker's pod /etc/oikyo/spec.json) and the workspace;
writes safetensors, tokenizer and a card into a folder of its own. A running training is not disturbed:
the checkpoint is held while it is read, and the training goes on with the next.
"""

from __future__ import annotations

import argparse
import logging
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from oikyo.api import workspace as layout
from oikyo.api.stages import EXIT_DONE, EXIT_REFUSED, TrainSpec

from ..errors import Refused, StageFailed, as_os_error
from ..files import write_atomic
from ..offline import go_offline

if TYPE_CHECKING:
    from .manifest import Manifest

log = logging.getLogger("oikyo.export")


def parser() -> argparse.ArgumentParser:
    command = argparse.ArgumentParser(prog="oikyo export", description=__doc__)
    command.add_argument("out", type=Path, help="folder to write; it must not exist")
    command.add_argument("--spec", type=Path, required=True, help="spec.json of the train stage")
    command.add_argument("--workspace", type=Path, required=True, help="root of the workspace")
    command.add_argument("--checkpoint", type=int, help="step; default: the newest good one")
    command.add_argument("--adapter", action="store_true", help="the adapter alone, not merged")
    return command


def main(argv: list[str] | None = None) -> int:
    """Export one checkpoint; returns the exit code."""
    given = parser().parse_args(argv)
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(message)s")
    go_offline()
    try:
        spec = TrainSpec.model_validate_json(given.spec.read_bytes())
        step = export(
            spec, given.workspace.resolve(), given.out, step=given.checkpoint, alone=given.adapter
        )
    except Exception as fault:  # safetensors tells of a full disk in a type of its own
        error = as_os_error(fault, given.out.parent)
        if not isinstance(error, StageFailed | OSError | ValueError):
            raise
        advice = f"\nnext: {error.next_step}" if isinstance(error, StageFailed) else ""
        print(f"error: {error}{advice}", file=sys.stderr)
        return EXIT_REFUSED
    print(f"{given.out}: checkpoint-{step} of {spec.run}")
    return EXIT_DONE


def export(spec: TrainSpec, workspace: Path, out: Path, *, step: int | None, alone: bool) -> int:
    """Write checkpoint `step` (None: the newest good one) to `out`; returns its step."""
    if out.exists():
        raise Refused("OutputExists", f"{out} is there already", next_step="Name another folder.")
    with _held(spec, workspace / layout.checkpoints(spec.run), step) as (path, manifest):
        _write(spec, workspace, path, out, alone=alone)
        write_atomic(out / "README.md", _card(spec, manifest.step, manifest.eval_loss, alone=alone))
    return manifest.step


@contextmanager
def _held(spec: TrainSpec, folder: Path, step: int | None) -> Iterator[tuple[Path, Manifest]]:
    """Checkpoint `step`, or the newest good one, verified while retention may not remove it."""
    from .checkpoint import Damaged, reading, verify

    why = ""
    there = sorted(int(path.name.rpartition("-")[2]) for path in folder.glob("checkpoint-*"))
    for found in reversed(there) if step is None else [step]:
        path = folder / f"checkpoint-{found}"
        with ExitStack() as held:
            try:
                held.enter_context(reading(path))
                manifest = verify(path, run=spec.run)
            except (Damaged, OSError) as reason:
                gone = isinstance(reason, FileNotFoundError)
                why = "it is not there" if gone else str(reason)
                log.warning("skipped checkpoint-%d: %s", found, why)
                continue
            yield path, manifest
            return
    raise _nothing(folder, step, why, [found for found in there if found != step])


def _nothing(folder: Path, step: int | None, why: str, others: list[int]) -> Refused:
    """Which checkpoint could not be exported, why, and which might."""
    if not others:
        told = f"holds no checkpoint-{step}: {why}" if step else "holds no checkpoint yet"
        return Refused(
            "NoCheckpoint",
            f"{folder} {told}",
            next_step="Try again once the training has told of a checkpoint (oikyo watch).",
        )
    if step is None:
        return Refused(
            "NoCheckpoint",
            f"none of the checkpoints in {folder} is good",
            next_step="Let the training go on: it writes new ones.",
        )
    return Refused(
        "NoCheckpoint",
        f"checkpoint-{step} cannot be exported: {why}",
        next_step=f"Name one of these steps: {', '.join(map(str, others))}.",
    )


def _write(spec: TrainSpec, workspace: Path, checkpoint: Path, out: Path, *, alone: bool) -> None:
    """By the road of a release, into a folder beside `out` that is renamed once it is whole."""
    from .model import METHODS, open_base
    from .release import MODEL, release
    from .rows import open_source, open_tokens, some_rows

    if alone and not METHODS[spec.training.method].adapter:
        raise Refused(
            "NoAdapter",
            f"training.method is {spec.training.method}: there is no adapter",
            next_step="Leave --adapter away.",
        )
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out.parent, prefix=f".{out.name}.") as staging:
        release(
            checkpoint,
            base=open_base(workspace, spec.model_digest, spec.task),
            head=open_source(workspace, spec.dataset_digest, spec.task).head,
            training=spec.training.model_copy(update={"merge": not alone}),
            rows=some_rows(open_tokens(workspace, spec)),
            folder=Path(staging),
            before_commit=lambda: None,
        )
        shutil.move(Path(staging) / MODEL, out)


def _card(spec: TrainSpec, step: int, loss: float | None, *, alone: bool) -> str:
    kind = "adapter" if alone else "model"
    measured = "not measured" if loss is None else f"{loss:.4g}"
    return (
        f"# {spec.run}, step {step}\n\n"
        f"The {kind} as it was after {step} optimizer steps: {spec.task}, {spec.training.method}. "
        "No gate has judged it.\n\n"
        f"| | |\n|---|---|\n| validation loss | {measured} |\n"
        f"| base model | `{spec.model_digest}` |\n| dataset | `{spec.dataset_digest}` |\n"
    )


if __name__ == "__main__":
    sys.exit(main())
